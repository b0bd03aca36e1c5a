//! Temporary files.

use std::ffi::OsStr;
use std::time::Duration;

use rustix::fs::OFlags;

use super::attempt::{Attempt, Deletion, open, status};
use super::refusal::{IN_USE, ensure_regular, ensure_same};
use crate::sys::{self, Dir, FileStatus};

/// How long a writer may take from creating a temporary file to locking it, which is two system calls.
const FRESH: Duration = Duration::from_secs(1);

/// Deletes a temporary file.
pub(crate) fn temp(dir: &Dir, name: &OsStr, attempt: Attempt) -> Deletion {
    let seen = status(dir, name)?;
    ensure_regular(&seen)?;
    attempt.ensure_old_enough(&seen)?;
    attempt.ensure_not_fresh(&seen, FRESH)?;
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
