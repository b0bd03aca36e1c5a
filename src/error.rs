//! The one error type: what failed, on which path, why, and what to do about it.
//!
//! An [`Error`] prints as `PATH: REASON`, the path as the caller gave it. The remedy is kept apart in
//! [`Error::hint`], so that a program can show one line and a person both.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::holder::Holder;
use crate::remedy::Remedy;
use crate::shown::shown;

/// What every function of this crate that can fail returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure an [`Error`] is: the part of it that a program decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A system call failed; [`Error::errno`] says how.
    Io,
    /// The arguments or options contradict each other or name something impossible.
    Usage,
    /// The target (or what stands where the lock file belongs) is no regular file.
    NotAFile,
    /// The target exists and this user may not write it.
    NotWritable,
    /// There was no input, and empty input was refused ([`WriteOptions::refuse_empty`](crate::WriteOptions::refuse_empty)).
    NoInput,
    /// The target cannot be replaced by rename, because something is mounted on it.
    MountPoint,
    /// The lock is held by somebody else and [`Wait::No`](crate::Wait::No) was asked for.
    LockBusy,
    /// The lock did not become free in time.
    LockTimeout,
    /// Another owner has a lease of the target.
    Leased,
    /// The lock or the lease was held and has been lost; or the lease that the caller claims is not that owner's.
    LockLost,
    /// A lease record is damaged, or of a newer version: nothing can be said of the lease.
    DamagedRecord,
    /// The caller's own check or callback refused the new content.
    Refused,
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
    /// Overrides the text of `source`.
    reason: Option<String>,
    /// What was being done, where the path and the reason do not tell ("cannot sync").
    operation: Option<&'static str>,
    source: Option<io::Error>,
    remedy: Option<Remedy>,
    holder: Option<Holder>,
}

impl Error {
    /// An error of `kind` whose whole reason is `reason`.
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            path: None,
            reason: Some(reason.into()),
            operation: None,
            source: None,
            remedy: None,
            holder: None,
        }))
    }

    /// A system call on `path` that failed with `source`.
    pub fn io(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Error {
        let source = source.into();
        let hint = match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Some("the target is unchanged; free some space and run it again"),
            Some(libc::EFBIG) => Some("the target is unchanged; the file size limit (ulimit -f) was reached"),
            _ => None,
        };
        Error(Box::new(Inner {
            kind: ErrorKind::Io,
            path: Some(path.into()),
            reason: None,
            operation: None,
            source: Some(source),
            remedy: hint.map(|text| Remedy::Other(text.to_owned())),
            holder: None,
        }))
    }

    /// An error of `kind` behind which stands the system error `errno`.
    pub(crate) fn from_raw(kind: ErrorKind, errno: i32) -> Error {
        Error::io(PathBuf::new(), io::Error::from_raw_os_error(errno)).of_kind(kind)
    }

    /// The same error, said of `path`.
    #[must_use]
    pub fn on(mut self, path: impl Into<PathBuf>) -> Error {
        self.0.path = Some(path.into());
        self
    }

    /// The same error, told in other words than the system's.
    #[must_use]
    pub(crate) fn because(mut self, reason: impl Into<String>) -> Error {
        self.0.reason = Some(reason.into());
        self
    }

    /// The same error as one of `kind`.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    /// The same error, with what was being done said before the reason: `cannot sync`.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Error {
        self.0.operation = Some(operation);
        self
    }

    /// The same error with a remedy: one line, no final stop.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Error {
        self.with_remedy(Remedy::Other(hint.into()))
    }

    /// The same error with a remedy that whoever shows it will word.
    #[must_use]
    pub fn with_remedy(mut self, remedy: Remedy) -> Error {
        self.0.remedy = Some(remedy);
        self
    }

    /// The same error with the process that holds the lock.
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

    /// The path it is about, as the caller gave it; `None` where no path is to blame (no input).
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

    /// The number of the system error behind it, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(io::Error::raw_os_error)
    }

    /// The remedy, where there is one.
    #[must_use]
    pub fn remedy(&self) -> Option<&Remedy> {
        self.0.remedy.as_ref()
    }

    /// The remedy in this crate's words, or who holds the lock: one line.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.hint_in(Remedy::to_string)
    }

    /// The same, the remedy in the words that `word` gives it.
    #[must_use]
    pub fn hint_in(&self, word: impl FnOnce(&Remedy) -> String) -> Option<String> {
        match (&self.0.remedy, &self.0.holder) {
            (Some(remedy), _) => Some(word(remedy)),
            (None, Some(holder)) => Some(format!("held by {holder}")),
            (None, None) => None,
        }
    }

    /// The process that holds the lock, where one could be found.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.0.holder.as_ref()
    }

    /// The status a command ends with for this error: 2 where the lock was not acquired or was lost, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            ErrorKind::LockBusy | ErrorKind::LockTimeout | ErrorKind::Leased | ErrorKind::LockLost => 2,
            _ => 1,
        }
    }
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

/// `strerror`'s words, without the ` (os error 2)` that `std` puts behind them.
pub(crate) fn reason_of(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => match text.strip_suffix(&format!(" (os error {code})")) {
            Some(words) => words.to_owned(),
            None => text,
        },
        None => text,
    }
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
    fn only_lock_failures_exit_with_2() {
        assert_eq!(Error::new(ErrorKind::LockBusy, "x").exit_code(), 2);
        assert_eq!(Error::new(ErrorKind::NotDurable, "x").exit_code(), 1);
    }
}
