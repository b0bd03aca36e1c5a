//! One attempt to delete a file, and the steps that all kinds of files share.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::fs::OFlags;

use super::super::age::age;
use super::refusal::{NOT_REGULAR, NotDeleted, Result, TOO_YOUNG};
use crate::sys::{Dir, FileStatus};

/// How to look at a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Nanoseconds since 1970.
    pub(crate) now: i128,
    pub(crate) dry_run: bool,
    /// The file was too fresh, and the time to wait has passed since.
    pub(crate) again: bool,
}

/// What a deletion has freed; in a dry run: would have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deleted {
    pub(crate) bytes: u64,
    pub(crate) age: Duration,
}

impl Attempt {
    /// How long ago `time` was.
    pub(super) fn since(self, time: i128) -> Duration {
        age(self.now, time)
    }

    pub(super) fn ensure_older(self, than: Duration, status: &FileStatus) -> Result<()> {
        if self.since(status.modified) < than { Err(TOO_YOUNG) } else { Ok(()) }
    }

    /// Puts the file off if it was changed within `time`, unless that has been done before.
    pub(super) fn ensure_not_fresh(self, time: Duration, status: &FileStatus) -> Result<()> {
        if self.is_fresh(time, status) { Err(NotDeleted::TooFresh(time)) } else { Ok(()) }
    }

    pub(super) fn is_fresh(self, time: Duration, status: &FileStatus) -> bool {
        !self.again && self.since(status.changed) < time
    }

    pub(super) fn deleted(self, status: &FileStatus) -> Deleted {
        let bytes = if status.links <= 1 { status.size } else { 0 };
        Deleted { bytes, age: self.since(status.modified) }
    }

    /// What a dry run says of a file that would be deleted, or that could not be.
    pub(super) fn foresee(self, dir: &Dir, status: &FileStatus) -> Result<Deleted> {
        dir.ensure_may_unlink(status)?;
        Ok(self.deleted(status))
    }

    pub(super) fn unlink(self, dir: &Dir, name: &OsStr, status: &FileStatus) -> Result<Deleted> {
        if self.dry_run {
            return self.foresee(dir, status);
        }
        dir.unlink(name).map_err(gone_or_failed)?;
        Ok(self.deleted(status))
    }
}

pub(super) fn gone_or_failed(error: io::Error) -> NotDeleted {
    if error.kind() == io::ErrorKind::NotFound { NotDeleted::Gone } else { error.into() }
}

pub(super) fn status(dir: &Dir, name: &OsStr) -> Result<FileStatus> {
    dir.status(name)?.ok_or(NotDeleted::Gone)
}

/// Opens `name` without waiting for anything.
pub(super) fn open(dir: &Dir, name: &OsStr, access: OFlags) -> Result<File> {
    dir.open_file(name, access | OFlags::NONBLOCK, 0).map_err(cannot_open)
}

pub(super) fn cannot_open(e: io::Error) -> NotDeleted {
    match e.raw_os_error() {
        Some(libc::ENOENT) => NotDeleted::Gone,
        Some(libc::ELOOP | libc::ENXIO | libc::EISDIR) => NOT_REGULAR,
        Some(libc::EWOULDBLOCK) => NotDeleted::Leased,
        _ => e.into(),
    }
}
