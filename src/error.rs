//! The one error type: what failed, on which path, why, and what to do about it.
//!
//! An [`Error`] displays as `PATH: REASON`, with the path as the caller gave it. The remedy is separate
//! ([`Error::remedy`], [`Error::hint`]): a log needs the first line only, a person needs both.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::holder::Holder;
use crate::remedy::Remedy;
use crate::shown::shown;

/// What a function of this crate returns that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The kind of failure, by which a program decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A system call failed; [`Error::errno`] says how.
    Io,
    /// The arguments or options contradict each other or name something impossible.
    Usage,
    /// The target, or what stands in place of the lock file, is not a regular file.
    NotAFile,
    /// The target exists and this user may not write it.
    NotWritable,
    /// There was no input, and [`WriteOptions::allow_empty`](crate::WriteOptions::allow_empty) is not set.
    NoInput,
    /// The target cannot be replaced by rename, because something is mounted on it.
    MountPoint,
    /// Another process holds the lock, and [`Wait::No`](crate::Wait::No) was asked for.
    LockBusy,
    /// The lock did not become free in time.
    LockTimeout,
    /// Another owner has a lease of the target.
    Leased,
    /// The lock or the lease was held and has been lost. Or the lease that the caller claims is not that owner's.
    LockLost,
    /// The target is not what [`WriteOptions::expect`](crate::WriteOptions::expect) says; see [`Error::found`].
    Conflict,
    /// The record of a lease is damaged, or of a newer version. Whether there is a lease cannot be told.
    DamagedRecord,
    /// The store of a lease ([`LockOptions::store`](crate::LockOptions::store)) could not be asked, or could not answer.
    /// Nothing is known to have changed there.
    Store,
    /// The caller's check or callback refused the new content.
    Refused,
    /// The caller's observer ended the wait for the lock ([`Observer::deciding`](crate::Observer::deciding)).
    Stopped,
    /// The target was replaced, but the directory could not be synced: after a power cut the old content may be back.
    NotDurable,
}

/// A failed operation: kind, path, reason, cause and remedy.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    /// Replaces the text of `source`.
    reason: Option<String>,
    /// What failed, where the path and the reason do not tell: `cannot sync`.
    operation: Option<&'static str>,
    source: Option<io::Error>,
    remedy: Option<Remedy>,
    holder: Option<Holder>,
    conflict: Option<Conflict>,
}

/// Two digests that should be the same.
#[derive(Debug)]
struct Conflict {
    expected: Digest,
    found: Digest,
}

impl Error {
    /// An error of `kind` with this reason, and without a path.
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Error {
        Error::made(kind, None, Some(reason.into()), None)
    }

    /// A system call on `path` has failed with `source`.
    pub fn io(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Error {
        let source = source.into();
        let hint = match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Some("free some space and run it again"),
            Some(libc::EMFILE) => Some("raise the limit of open files (ulimit -n)"),
            Some(libc::EFBIG) if size_is_limited() => Some("the file size limit (ulimit -f) was reached"),
            Some(libc::EFBIG) => Some("this file system takes no file of this size"),
            _ => None,
        };
        let mut error = Error::made(ErrorKind::Io, Some(path.into()), None, Some(source));
        error.0.remedy = hint.map(|text| Remedy::Other(text.to_owned()));
        error
    }

    /// The target `path` is not what was expected.
    pub(crate) fn conflict(path: &Path, expected: Digest, found: Digest) -> Error {
        let hint = match found {
            Digest::Absent => "there is no such file now".to_owned(),
            found => format!("read it again before you write; it is now {found}"),
        };
        let mut error = Error::new(ErrorKind::Conflict, "Not what was expected").on(path).with_hint(hint);
        error.0.conflict = Some(Conflict { expected, found });
        error
    }

    fn made(kind: ErrorKind, path: Option<PathBuf>, reason: Option<String>, source: Option<io::Error>) -> Error {
        let (operation, remedy, holder, conflict) = (None, None, None, None);
        Error(Box::new(Inner { kind, path, reason, operation, source, remedy, holder, conflict }))
    }

    /// An error of `kind` that is caused by the system error `errno`.
    pub(crate) fn from_raw(kind: ErrorKind, errno: i32) -> Error {
        Error::io(PathBuf::new(), io::Error::from_raw_os_error(errno)).of_kind(kind)
    }

    /// The same error, about `path`.
    #[must_use]
    pub fn on(mut self, path: impl Into<PathBuf>) -> Error {
        self.0.path = Some(path.into());
        self
    }

    /// The same error, with this reason instead of the system's text.
    #[must_use]
    pub(crate) fn because(mut self, reason: impl Into<String>) -> Error {
        self.0.reason = Some(reason.into());
        self
    }

    /// The same error, about a target that is as it was. A hint that goes with the system error says so too.
    #[must_use]
    pub(crate) fn unchanged(mut self) -> Error {
        if let (Some(Remedy::Other(text)), Some(_)) = (&mut self.0.remedy, &self.0.source) {
            text.insert_str(0, "the target is unchanged; ");
        }
        self
    }

    /// The same error, of this kind.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    /// The same error, with what failed before the reason: `cannot sync`.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Error {
        self.0.operation = Some(operation);
        self
    }

    /// The same error, with a remedy in fixed words: one line without a final stop.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Error {
        self.with_remedy(Remedy::Other(hint.into()))
    }

    /// The same error, with this remedy.
    #[must_use]
    pub fn with_remedy(mut self, remedy: Remedy) -> Error {
        self.0.remedy = Some(remedy);
        self
    }

    /// The same error, where nothing helps.
    #[must_use]
    pub(crate) fn without_remedy(mut self) -> Error {
        self.0.remedy = None;
        self
    }

    /// The same error, with the process that holds the lock.
    #[must_use]
    pub(crate) fn held_by(mut self, holder: Option<Holder>) -> Error {
        self.0.holder = holder;
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path, as the caller gave it; `None` where the error is not about a path.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// What is wrong, without the path.
    #[must_use]
    pub fn reason(&self) -> String {
        let reason = match (&self.0.reason, &self.0.source) {
            (Some(reason), _) => reason.clone(),
            (None, Some(source)) => reason_of(source),
            (None, None) => "unknown error".to_owned(),
        };
        self.0.operation.map_or(reason.clone(), |operation| format!("{operation}: {reason}"))
    }

    /// The number of the system error that caused it, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(io::Error::raw_os_error)
    }

    /// The remedy, where there is one.
    #[must_use]
    pub fn remedy(&self) -> Option<&Remedy> {
        self.0.remedy.as_ref()
    }

    /// One line for a person: the remedy in this crate's words, or else who holds the lock.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.hint_in(Remedy::to_string)
    }

    /// The same, with the remedy in the words of `word`.
    #[must_use]
    pub fn hint_in(&self, word: impl FnOnce(&Remedy) -> String) -> Option<String> {
        match (&self.0.remedy, &self.0.holder) {
            (Some(remedy), _) => Some(word(remedy)),
            (None, Some(holder)) => Some(format!("held by {holder}")),
            (None, None) => None,
        }
    }

    /// The process that holds the lock, if one was found.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.0.holder.as_ref()
    }

    /// What the target should have contained, of [`ErrorKind::Conflict`].
    #[must_use]
    pub fn expected(&self) -> Option<Digest> {
        self.0.conflict.as_ref().map(|conflict| conflict.expected)
    }

    /// What it did contain.
    #[must_use]
    pub fn found(&self) -> Option<Digest> {
        self.0.conflict.as_ref().map(|conflict| conflict.found)
    }

    /// The exit status of a command for this error: 2 where the lock was not acquired or was lost, 4 where the target was
    /// not what was expected, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            ErrorKind::LockBusy | ErrorKind::LockTimeout | ErrorKind::Leased | ErrorKind::LockLost => 2,
            ErrorKind::Conflict => 4,
            _ => 1,
        }
    }
}

/// Whether this process may only write files up to some size (RLIMIT_FSIZE).
fn size_is_limited() -> bool {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current.is_some()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", shown(path))?;
        }
        f.write_str(&self.reason())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

/// Keeps the kind of the system error that caused it, else finds one that is alike. The error itself, with its path, errno
/// and hint, is what [`io::Error::downcast`] returns; [`io::Error::raw_os_error`] is `None`, since an [`io::Error`] has
/// either a number or an error in it.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind() {
            ErrorKind::LockBusy | ErrorKind::Leased => io::ErrorKind::WouldBlock,
            ErrorKind::LockTimeout => io::ErrorKind::TimedOut,
            other => error.0.source.as_ref().map_or_else(|| alike(other), io::Error::kind),
        };
        io::Error::new(kind, error)
    }
}

fn alike(kind: ErrorKind) -> io::ErrorKind {
    match kind {
        ErrorKind::Usage | ErrorKind::NotAFile | ErrorKind::NoInput => io::ErrorKind::InvalidInput,
        ErrorKind::NotWritable => io::ErrorKind::PermissionDenied,
        ErrorKind::MountPoint => io::ErrorKind::ResourceBusy,
        ErrorKind::DamagedRecord => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    }
}

/// The text of strerror(3), without the ` (os error 2)` that `std` appends.
pub(crate) fn reason_of(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(code) = error.raw_os_error() {
        let words = text.trim_end_matches(&format!(" (os error {code})")).len();
        text.truncate(words);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_path_and_reason_without_the_number() {
        let error = Error::io("missing.txt", io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(error.to_string(), "missing.txt: No such file or directory");
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn a_hint_says_of_the_target_only_what_is_known() {
        let hint = |error: Error| error.hint().unwrap_or_default();
        let full = || Error::io("f.backup", io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(hint(full()), "free some space and run it again");
        assert_eq!(hint(full().unchanged()), "the target is unchanged; free some space and run it again");
        let large = hint(Error::io("f", io::Error::from_raw_os_error(libc::EFBIG)));
        assert_eq!(large.contains("ulimit"), size_is_limited(), "{large}");
        assert_eq!(hint(Error::io("f", io::Error::from_raw_os_error(libc::EIO)).unchanged()), "");
    }

    #[test]
    fn only_lock_failures_exit_with_2_and_conflicts_with_4() {
        assert_eq!(Error::new(ErrorKind::LockBusy, "x").exit_code(), 2);
        assert_eq!(Error::new(ErrorKind::NotDurable, "x").exit_code(), 1);
        assert_eq!(Error::conflict(Path::new("f"), Digest::Absent, Digest::Sha256([0; 32])).exit_code(), 4);
    }
}
