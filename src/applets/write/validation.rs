//! `--validate`, and the exit status that a command must have.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, absolute};
use std::process::{Command, ExitStatus};

use awrite::{Check, Error, ErrorKind};

use super::super::common::cannot_run;
use crate::process::{self, Inherited, Running};
use crate::report;

/// The check of `--validate`.
pub(super) fn validation(script: OsString, inherited: Inherited) -> Check {
    Check::new(move |new, target| {
        let new = absolute(new).map_err(|e| Error::io(new, e))?;
        let content = File::open(&new).map_err(|e| Error::io(target, e).during("cannot read the new content"))?;
        let run = |mut command: Command| {
            command.env("AWRITE_NEW", &new).env("AWRITE_TARGET", target).stdin(content.try_clone()?);
            process::start(command, &inherited).and_then(Running::wait)
        };
        // What it prints must not be glued to the progress line.
        report::end_progress();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(&script);
        let status = match run(shell) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => match words(&script, &new, target) {
                Some(words) => {
                    let mut command = Command::new(words[0]);
                    command.args(&words[1..]);
                    run(command).map_err(|e| cannot_run(words[0], target, e))?
                }
                None => {
                    let hint = "without a shell, --validate takes plain words and \"$AWRITE_NEW\"";
                    return Err(cannot_run(OsStr::new("sh"), target, e).with_hint(hint));
                }
            },
            outcome => outcome.map_err(|e| cannot_run(OsStr::new("sh"), target, e))?,
        };
        ensure_success(status, "validation failed", target)
    })
}

/// The words of a command line that needs no shell, for a system that has none (an image with nothing but static
/// programs). `None`: it needs a shell.
fn words<'a>(script: &'a OsStr, new: &'a Path, target: &'a Path) -> Option<Vec<&'a OsStr>> {
    let word = |word: &'a [u8]| match word {
        b"$AWRITE_NEW" | b"\"$AWRITE_NEW\"" => Some(new.as_os_str()),
        b"$AWRITE_TARGET" | b"\"$AWRITE_TARGET\"" => Some(target.as_os_str()),
        word if word.iter().any(|b| b"|&;<>()$`\\\"'*?[]#~{}!\n".contains(b)) => None,
        word => Some(OsStr::from_bytes(word)),
    };
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let words = script.as_bytes().split(blank).filter(|word| !word.is_empty()).map(word);
    let words = words.collect::<Option<Vec<_>>>()?;
    // NAME=VALUE sets a variable.
    let program = words.first()?;
    (!program.as_bytes().contains(&b'=')).then_some(words)
}

pub(super) fn ensure_success(status: ExitStatus, failed: &str, output: &Path) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, format!("{failed}: {}", process::ending(status))).on(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_need_no_shell() {
        let split = |script: &'static str| {
            let words = words(OsStr::new(script), Path::new("/d/new"), Path::new("f"));
            words.map(|words| words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>())
        };
        let some = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(split("jq empty"), some(&["jq", "empty"]));
        assert_eq!(split("  nginx -t\t-c \"$AWRITE_NEW\" "), some(&["nginx", "-t", "-c", "/d/new"]));
        assert_eq!(split("check $AWRITE_NEW --as=$AWRITE_TARGET"), None);
        assert_eq!(split("check $AWRITE_NEW $AWRITE_TARGET a=b"), some(&["check", "/d/new", "f", "a=b"]));
        for shell in ["", " ", "a; b", "a | b", "a 'b c'", "a <b", "A=1 b", "a\nb", "a *", "! a"] {
            assert_eq!(split(shell), None, "{shell:?}");
        }
    }
}
