//! Temporary files.

use std::ffi::OsStr;
use std::time::Duration;

use super::attempt::{Attempt, Deleted, cannot_open, status};
use super::refusal::{IN_USE, Result, ensure_regular};
use crate::stage::open_dead;
use crate::sys::{Dir, FileStatus};

/// How long a writer may take from creating a temporary file to locking it, which is two system calls.
const FRESH: Duration = Duration::from_secs(1);

/// Deletes a temporary file.
pub(crate) fn temp(dir: &Dir, name: &OsStr, older_than: Duration, attempt: Attempt) -> Result<Deleted> {
    let seen = status(dir, name)?;
    ensure_regular(&seen)?;
    attempt.ensure_older(older_than, &seen)?;
    attempt.ensure_not_fresh(FRESH, &seen)?;
    let dead = open_dead(dir, name).map_err(cannot_open)?.ok_or(IN_USE)?;
    let outcome = attempt.unlink(dir, name, &FileStatus::of(&dead)?);
    // Others may take it for dead, once its name is gone.
    drop(dead);
    outcome
}
