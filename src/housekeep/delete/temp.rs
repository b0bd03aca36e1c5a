//! Temporary files, and what sets of files have left.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Attempt, Deleted, cannot_open, status};
use super::lock::outcome_of;
use super::refusal::{IN_USE, NotDeleted, Result, ensure_regular};
use crate::lease::{UNFINISHED, clear_journal, finish_set, is_in_set};
use crate::names::journal_nonce;
use crate::stage::open_dead;
use crate::sys::Dir;

/// How long a writer may take from creating a temporary file to locking it, which is two system calls.
const FRESH: Duration = Duration::from_secs(1);

/// Deletes a temporary file, or the journal of a set that is over.
pub(crate) fn temp(dir: &Arc<Dir>, name: &OsStr, older_than: Duration, attempt: Attempt) -> Result<Deleted> {
    let seen = status(dir, name)?;
    ensure_regular(&seen)?;
    attempt.ensure_older(older_than, &seen)?;
    attempt.ensure_not_fresh(FRESH, &seen)?;
    if journal_nonce(name).is_some() {
        return outcome_of(clear_journal(dir, name, attempt.dry_run), dir, &seen, attempt);
    }
    if is_in_set(dir, name) {
        // Its record leads to it.
        return Err(NotDeleted::Kept(UNFINISHED));
    }
    let dead = open_dead(dir, name).map_err(cannot_open)?.ok_or(IN_USE)?;
    // By its name: the file itself does not tell whether it may be removed.
    let outcome = status(dir, name).and_then(|now| attempt.unlink(dir, name, &now));
    // Others may take it for dead, once its name is gone.
    drop(dead);
    outcome
}

/// Finishes or takes back what the record `name` says of its target, which is part of a set. `None`: it is a lease's.
pub(crate) fn set_record(
    dir: &Arc<Dir>,
    name: &OsStr,
    older_than: Duration,
    attempt: Attempt,
) -> Option<Result<Deleted>> {
    let seen = match status(dir, name).and_then(|seen| ensure_regular(&seen).map(|()| seen)) {
        Ok(seen) => seen,
        Err(why) => return Some(Err(why)),
    };
    let young = attempt.ensure_older(older_than, &seen).is_err();
    match finish_set(dir, name, attempt.dry_run, young) {
        Ok(None) => None,
        Ok(Some(cleared)) => Some(outcome_of(Ok(cleared), dir, &seen, attempt)),
        Err(e) => Some(outcome_of(Err(e), dir, &seen, attempt)),
    }
}
