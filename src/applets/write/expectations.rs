//! `--if-match` and `--if-match-file`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use awrite::{Digest, Expect};

use super::super::flags::Stop;
use super::super::values::quoted;

/// What the OUTPUTs must contain.
#[derive(Default)]
pub(super) struct Expectations {
    /// Without a name: it is meant for the only OUTPUT.
    plain: Option<Expect>,
    named: Vec<(OsString, Digest)>,
}

impl Expectations {
    /// Takes a value of `--if-match`: DIGEST or NAME=DIGEST.
    pub(super) fn add(&mut self, value: &OsStr) -> Result<(), Stop> {
        if let Some(digest) = parse(value.as_bytes()) {
            return self.set(Expect::Digest(digest));
        }
        let bytes = value.as_bytes();
        let cut = bytes.iter().rposition(|&b| b == b'=');
        let named = cut.and_then(|at| Some((OsStr::from_bytes(&bytes[..at]).to_owned(), parse(&bytes[at + 1..])?)));
        let wrong = || format!("{} is not sha256: and 64 hexadecimal digits, or absent", quoted(value));
        self.named.push(named.ok_or_else(wrong)?);
        Ok(())
    }

    /// Takes an expectation without a name.
    pub(super) fn set(&mut self, expect: Expect) -> Result<(), Stop> {
        let is_digest = |expect: &Expect| matches!(expect, Expect::Digest(_));
        match self.plain.replace(expect) {
            Some(before) if Some(is_digest(&before)) != self.plain.as_ref().map(is_digest) => {
                let other = if is_digest(&before) { "--if-match" } else { "--if-match-file" };
                Err(Stop::Usage(format!("contradicts {other}")))
            }
            _ => Ok(()),
        }
    }

    /// What `output` must contain, of the OUTPUTs.
    pub(super) fn of(&self, output: &Path) -> Option<Expect> {
        let named = self.named.iter().rev().find(|(name, _)| name == output.as_os_str());
        named.map(|(_, digest)| (*digest).into()).or_else(|| self.plain.clone())
    }

    /// Refuses those that are about none of `outputs`, and one without a name if there are several.
    pub(super) fn ensure_about(&self, outputs: &[&Path]) -> Result<(), Stop> {
        if let Some((name, _)) = self.named.iter().find(|(name, _)| !outputs.iter().any(|o| o.as_os_str() == name)) {
            let alike = outputs.iter().find(|output| output.file_name() == Path::new(name).file_name());
            let meant = alike.map_or(String::new(), |output| format!("; is {} meant?", quoted(output.as_os_str())));
            return Err(Stop::Usage(format!("--if-match: {} is no OUTPUT{meant}", quoted(name))));
        }
        let reason = match (&self.plain, outputs) {
            (None, _) | (_, [_]) => return Ok(()),
            (Some(Expect::Digest(_)), _) => "--if-match: with several OUTPUTs, say which: NAME=DIGEST",
            (Some(_), _) => "--if-match-file: is about one OUTPUT; with several: --if-match NAME=DIGEST",
        };
        Err(Stop::Usage(reason.to_owned()))
    }
}

fn parse(bytes: &[u8]) -> Option<Digest> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(outcome: Result<(), Stop>) -> String {
        match outcome {
            Ok(()) => String::new(),
            Err(Stop::Usage(reason)) => reason,
            Err(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn a_name_goes_before_the_last_equals_sign() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let expected = Some(Expect::Digest(digest.parse().unwrap()));
        let mut given = Expectations::default();
        for value in [format!("a={digest}"), format!("b=c={}", "0A".repeat(32)), "d/e=absent".to_owned()] {
            assert_eq!(reason(given.add(OsStr::new(&value))), "", "{value}");
        }
        assert_eq!(given.of(Path::new("a")), expected);
        assert_eq!(given.of(Path::new("b=c")), expected);
        assert_eq!(given.of(Path::new("d/e")), Some(Expect::Digest(Digest::Absent)));
        assert_eq!(given.of(Path::new("e")), None);
        assert_eq!(reason(given.ensure_about(&["a", "b=c", "d/e", "e"].map(Path::new))), "");
        assert_eq!(reason(given.ensure_about(&["a", "b=c"].map(Path::new))), "--if-match: 'd/e' is no OUTPUT");
        let into = ["x/a", "x/b=c", "x/e"].map(Path::new);
        assert_eq!(reason(given.ensure_about(&into)), "--if-match: 'a' is no OUTPUT; is 'x/a' meant?");
        given.add(OsStr::new("a=absent")).unwrap();
        assert_eq!(given.of(Path::new("a")), Some(Expect::Digest(Digest::Absent)), "the last one wins");
    }

    #[test]
    fn one_without_a_name_is_about_the_only_output() {
        let mut given = Expectations::default();
        given.add(OsStr::new("absent")).unwrap();
        assert_eq!(given.of(Path::new("f")), Some(Expect::Digest(Digest::Absent)));
        assert_eq!(reason(given.ensure_about(&[Path::new("f")])), "");
        assert!(reason(given.ensure_about(&["f", "g"].map(Path::new))).contains("NAME=DIGEST"));
        assert_eq!(reason(given.set(Expect::SameAs("copy".into()))), "contradicts --if-match");
        let mut given = Expectations::default();
        given.set(Expect::SameAs("copy".into())).unwrap();
        assert!(reason(given.ensure_about(&["f", "g"].map(Path::new))).starts_with("--if-match-file: is about one"));
        assert_eq!(reason(given.add(OsStr::new("absent"))), "contradicts --if-match-file");
    }

    #[test]
    fn what_is_no_digest() {
        for value in ["", "f", "=", "f=", "f=0a", "sha256:", "ABSENT"] {
            assert!(reason(Expectations::default().add(OsStr::new(value))).contains("is not sha256:"), "{value}");
        }
    }
}
