//! Why a file is not deleted.

use std::io;
use std::time::Duration;

use crate::sys::{FileId, FileKind, FileStatus};

pub(super) const NOT_REGULAR: NotDeleted = NotDeleted::Kept("not a regular file");
pub(super) const IN_USE: NotDeleted = NotDeleted::Kept("in use");
/// Nobody may be asked whether the file is open: neither is this its owner, nor has it CAP_LEASE; or the file system has no
/// leases.
pub(super) const MAY_BE_OPEN: NotDeleted = NotDeleted::Kept("may be open, which cannot be told here");
pub(super) const TOO_YOUNG: NotDeleted = NotDeleted::Kept("not old enough");
pub(super) const REPLACED: NotDeleted = NotDeleted::Kept("replaced meanwhile");

/// How an attempt ended that has deleted nothing.
#[derive(Debug)]
pub(crate) enum NotDeleted {
    /// The file stays, for this reason.
    Kept(&'static str),
    /// It may be another program's.
    Others,
    /// Another process has a lease on it (fcntl(2), F_SETLEASE): another housekeeper for an instant, or Samba.
    Leased,
    /// Somebody else has deleted it.
    Gone,
    /// It was changed so recently that its state cannot be told. Look again after this time.
    TooFresh(Duration),
    Failed(io::Error),
}

pub(super) type Result<T> = std::result::Result<T, NotDeleted>;

impl From<io::Error> for NotDeleted {
    fn from(error: io::Error) -> NotDeleted {
        NotDeleted::Failed(error)
    }
}

pub(super) fn ensure_regular(status: &FileStatus) -> Result<()> {
    if status.kind != FileKind::Regular {
        Err(NOT_REGULAR)
    } else if status.mount_root {
        Err(NotDeleted::Kept("something is mounted on it"))
    } else {
        Ok(())
    }
}

/// Refuses what cannot be a lock file of `flock`.
pub(super) fn ensure_lock_file(status: &FileStatus) -> Result<()> {
    ensure_regular(status)?;
    if status.size > 0 {
        Err(NotDeleted::Kept("not empty"))
    } else if status.links > 1 {
        Err(NotDeleted::Kept("has other names"))
    } else {
        Ok(())
    }
}

pub(super) fn ensure_same(status: &FileStatus, id: FileId) -> Result<()> {
    if status.id == id { Ok(()) } else { Err(REPLACED) }
}
