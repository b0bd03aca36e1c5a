//! `--validate`, and the exit status that a command must have.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, OnceLock};

use awrite::{Check, Error, ErrorKind};

use super::super::common::{about, cannot_run};
use crate::process::{self, Inherited, Running};
use crate::report;

/// In its environment.
const NEW: &str = "AWRITE_NEW";
const TARGET: &str = "AWRITE_TARGET";
pub(super) const DIR: &str = "AWRITE_DIR";

/// What `--validate` is asked about.
#[derive(Clone, Copy, Default)]
pub(super) struct Subject<'a> {
    /// The new content, and the file that it is for. `None`: there are several.
    pub(super) one: Option<(&'a Path, &'a Path)>,
    /// The directory with all new files under their names.
    pub(super) dir: Option<&'a Path>,
}

/// The check of `--validate` for one file. `dir` is the directory of `-e`.
pub(super) fn validation(script: OsString, inherited: Inherited, dir: Arc<OnceLock<PathBuf>>) -> Check {
    Check::new(move |new, target| {
        validate(&script, Subject { one: Some((new, target)), dir: dir.get().map(PathBuf::as_path) }, &inherited)
    })
}

/// Runs the command of `--validate`, and refuses what it refuses.
pub(super) fn validate(script: &OsStr, subject: Subject<'_>, inherited: &Inherited) -> Result<(), Error> {
    let target = subject.one.map(|(_, target)| target);
    let new = subject.one.map(|(new, _)| absolute(new).map_err(|e| Error::io(new, e))).transpose()?;
    let content = match &new {
        Some(new) => File::open(new).map(OwnedFd::from),
        None => process::empty_input(),
    };
    let failed = |e| Error::io(target.unwrap_or(Path::new("--validate")), e).during("cannot read the new content");
    let content = content.map_err(failed)?;
    let run = |mut command: Command| {
        for (name, value) in [(NEW, new.as_deref()), (TARGET, target), (DIR, subject.dir)] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(content.try_clone()?);
        process::start(command, inherited).and_then(Running::wait)
    };
    // What it prints must not be glued to the progress line.
    report::end_progress();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script);
    let status = match run(shell) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => match words(script, new.as_deref(), subject) {
            Some(words) => {
                let mut command = Command::new(words[0]);
                command.args(&words[1..]);
                run(command).map_err(|e| cannot_run(words[0], target, e))?
            }
            None => {
                let hint = "without a shell, --validate takes plain words, \"$AWRITE_NEW\" and \"$AWRITE_DIR\"";
                return Err(cannot_run(OsStr::new("sh"), target, e).with_hint(hint));
            }
        },
        outcome => outcome.map_err(|e| cannot_run(OsStr::new("sh"), target, e))?,
    };
    ensure_success(status, "validation failed", target)
}

/// The words of a command line that needs no shell, for a system that has none (an image with nothing but static
/// programs). `None`: it needs a shell.
fn words<'a>(script: &'a OsStr, new: Option<&'a Path>, subject: Subject<'a>) -> Option<Vec<&'a OsStr>> {
    let word = |word: &'a [u8]| match word {
        b"$AWRITE_NEW" | b"\"$AWRITE_NEW\"" => new.map(Path::as_os_str),
        b"$AWRITE_TARGET" | b"\"$AWRITE_TARGET\"" => subject.one.map(|(_, target)| target.as_os_str()),
        b"$AWRITE_DIR" | b"\"$AWRITE_DIR\"" => subject.dir.map(Path::as_os_str),
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

/// `output`: the one file that it is about.
pub(super) fn ensure_success(status: ExitStatus, failed: &str, output: Option<&Path>) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    Err(about(output, Error::new(ErrorKind::Refused, format!("{failed}: {}", process::ending(status)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_need_no_shell() {
        let split = |script: &'static str| {
            let (new, dir) = (Path::new("/d/new"), Some(Path::new("/d")));
            let words = words(OsStr::new(script), Some(new), Subject { one: Some((new, Path::new("f"))), dir });
            words.map(|words| words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>())
        };
        let some = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(split("jq empty"), some(&["jq", "empty"]));
        assert_eq!(split("  nginx -t\t-c \"$AWRITE_NEW\" "), some(&["nginx", "-t", "-c", "/d/new"]));
        assert_eq!(split("check $AWRITE_NEW --as=$AWRITE_TARGET"), None);
        assert_eq!(split("check $AWRITE_NEW $AWRITE_TARGET a=b"), some(&["check", "/d/new", "f", "a=b"]));
        assert_eq!(split("check \"$AWRITE_DIR\""), some(&["check", "/d"]));
        for shell in ["", " ", "a; b", "a | b", "a 'b c'", "a <b", "A=1 b", "a\nb", "a *", "! a"] {
            assert_eq!(split(shell), None, "{shell:?}");
        }
    }
}
