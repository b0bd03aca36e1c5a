//! Lock files of both methods, and the records of leases.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

use super::attempt::{Attempt, Deleted, open, status};
use super::refusal::{IN_USE, NotDeleted, Result, ensure_lock_file, ensure_regular, ensure_same};
use crate::error::{self, ErrorKind};
use crate::lease;
use crate::lock::{Cleared, clear_link, clear_mark, mark_brief};
use crate::names::is_mark_name;
use crate::sys::{self, Dir, FileId, FileKind, FileStatus, ofd};

/// How long a writer may take from creating a lock file to locking it, which is two system calls, on a busy machine. A
/// writer that waits would not lose the lock. One that does not wait would find it busy if this process were held up
/// while it has it.
const OPENED: Duration = Duration::from_millis(20);

/// Deletes a lock file of either method, or what the breaking of a link lock has left.
pub(crate) fn lock(dir: &Arc<Dir>, name: &OsStr, older_than: Duration, attempt: Attempt) -> Result<Deleted> {
    // For reading: a watcher of a file that is no lock file must not be told that somebody had it open for writing.
    let file = match open(dir, name, OFlags::RDONLY) {
        // What is no lock file may well be unreadable.
        Err(NotDeleted::Failed(e)) if e.kind() == io::ErrorKind::PermissionDenied => {
            let status = status(dir, name)?;
            ensure_lock_file(&status)?;
            attempt.ensure_older(older_than, &status)?;
            return Err(e.into());
        }
        opened => opened?,
    };
    let seen = FileStatus::of(&file)?;
    if seen.kind == FileKind::Regular && (seen.size > 0 || is_mark_name(name)) {
        // On NFS, a file that is open when it is deleted stays under another name.
        drop(file);
        attempt.ensure_older(older_than, &seen)?;
        return link_lock(dir, name, &seen, attempt);
    }
    ensure_lock_file(&seen)?;
    attempt.ensure_older(older_than, &seen)?;
    if attempt.since(seen.changed) < OPENED {
        // Fresh the second time, too: it is another file, so there is a writer.
        return Err(if attempt.again { IN_USE } else { NotDeleted::TooFresh(OPENED) });
    }
    // This comes before the flock is tried. A waiter that is registered for the lock tries it once more before it gives
    // up, and must not fail because of housekeeping: the file would be left behind.
    if ofd::has_locks(&file)? {
        return Err(IN_USE);
    }
    mark_brief(&file);
    let file = take_flock(dir, name, file, seen.id)?;
    // Under the lock: is the name still this file's, and is the file still nothing but a lock file?
    let now = status(dir, name)?;
    ensure_same(&now, seen.id)?;
    ensure_lock_file(&now)?;
    attempt.ensure_older(older_than, &now)?;
    let outcome = attempt.unlink(dir, name, &now);
    // Closing it releases the lock. Only now, when the name is gone.
    drop(file);
    outcome
}

fn take_flock(dir: &Dir, name: &OsStr, mut file: File, id: FileId) -> Result<File> {
    let taken = match sys::try_flock(&file, false) {
        // NFS wants a descriptor open for writing.
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => {
            let writable = open(dir, name, OFlags::RDWR)?;
            ensure_same(&FileStatus::of(&writable)?, id)?;
            file = writable;
            sys::try_flock(&file, false)?
        }
        taken => taken?,
    };
    if taken { Ok(file) } else { Err(IN_USE) }
}

fn link_lock(dir: &Arc<Dir>, name: &OsStr, status: &FileStatus, attempt: Attempt) -> Result<Deleted> {
    let cleared = if is_mark_name(name) {
        clear_mark(dir, name, attempt.dry_run)
    } else {
        clear_link(dir, name, attempt.dry_run)
    };
    outcome_of(cleared, status, attempt)
}

/// Deletes the record of a lease.
pub(crate) fn lease(dir: &Arc<Dir>, name: &OsStr, older_than: Duration, attempt: Attempt) -> Result<Deleted> {
    let status = status(dir, name)?;
    ensure_regular(&status)?;
    attempt.ensure_older(older_than, &status)?;
    outcome_of(lease::clear(dir, name, attempt.dry_run), &status, attempt)
}

fn outcome_of(cleared: error::Result<Cleared>, status: &FileStatus, attempt: Attempt) -> Result<Deleted> {
    match cleared {
        Ok(Cleared::Removed) => Ok(attempt.deleted(status)),
        Ok(Cleared::Kept(reason)) => Err(NotDeleted::Kept(reason)),
        Ok(Cleared::Gone) => Err(NotDeleted::Gone),
        Err(e) if e.kind() == ErrorKind::LockBusy => Err(IN_USE),
        Err(e) => Err(e.errno().map_or_else(|| io::Error::other(e.to_string()), io::Error::from_raw_os_error).into()),
    }
}
