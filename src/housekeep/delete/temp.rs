//! Temporary files.

use std::ffi::OsStr;
use std::time::Duration;

use rustix::fs::OFlags;

use super::attempt::{Attempt, Deleted, open, status};
use super::refusal::{IN_USE, Result, ensure_regular, ensure_same};
use crate::sys::{self, Dir, FileStatus};

/// How long a writer may take from creating a temporary file to locking it, which is two system calls.
const FRESH: Duration = Duration::from_secs(1);

/// Deletes a temporary file.
pub(crate) fn temp(dir: &Dir, name: &OsStr, older_than: Duration, attempt: Attempt) -> Result<Deleted> {
    let seen = status(dir, name)?;
    ensure_regular(&seen)?;
    attempt.ensure_older(older_than, &seen)?;
    attempt.ensure_not_fresh(FRESH, &seen)?;
    // Never for writing: where a check runs the new content, execve(2) would fail with "Text file busy".
    let file = open(dir, name, OFlags::RDONLY)?;
    // A shared lock excludes the writer too, and NFS grants it without write access.
    if !sys::try_flock(&file, true)? {
        return Err(IN_USE);
    }
    let now = status(dir, name)?;
    ensure_same(&now, FileStatus::of(&file)?.id)?;
    attempt.unlink(dir, name, &now)
}
