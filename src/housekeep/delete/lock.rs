//! Lock files of both methods, and the records of leases.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::OFlags;

use super::aside::Aside;
use super::attempt::{Attempt, Deleted, open, status};
use super::refusal::{IN_USE, MAY_BE_OPEN, NotDeleted, Result, ensure_lock_file, ensure_regular, ensure_same};
use crate::error::{self, ErrorKind};
use crate::lock::{Cleared, clear_link, clear_mark, flock_holder, mark_brief};
use crate::names::is_mark_name;
use crate::sys::{self, Dir, FileId, FileKind, FileStatus, lease, ofd};

/// How long a writer may take from creating a lock file to locking it, which is two system calls, on a busy machine. A
/// writer that waits would not lose the lock. One that does not wait would find it busy if this process were held up
/// while it has it.
const OPENED: Duration = Duration::from_millis(20);

/// How often a lock file is tried again that another housekeeper has tried to open at the same instant.
const TRIES: u32 = 3;
/// How long the other one is given to finish.
const OTHER_HOUSEKEEPER: Duration = Duration::from_millis(1);

/// How a lock file is deleted.
#[derive(Debug)]
pub(crate) struct LockDeletion<'a> {
    /// Only one that may be awrite's, and only if it is certain that no process has it open.
    pub(crate) only_own: bool,
    pub(crate) older_than: Duration,
    pub(crate) aside: &'a mut Aside,
}

impl LockDeletion<'_> {
    /// Awrite's own can be opened by its owner. A mail program's is often made without any permission, to be a lock by its
    /// existence: Postfix, mutt_dotlock(1).
    fn ensure_ours(&self, status: &FileStatus) -> Result<()> {
        if self.only_own && status.mode & 0o600 != 0o600 { Err(NotDeleted::Others) } else { Ok(()) }
    }
}

/// Deletes a lock file of either method, or what the breaking of a link lock has left.
pub(crate) fn lock(dir: &Arc<Dir>, name: &OsStr, mut how: LockDeletion<'_>, attempt: Attempt) -> Result<Deleted> {
    for number in 0..TRIES {
        match try_lock_file(dir, name, &mut how, attempt, number > 0) {
            Ok(None) => {}
            Ok(Some(deleted)) => return Ok(deleted),
            Err(NotDeleted::Leased) if !attempt.again => {
                sleep(OTHER_HOUSEKEEPER);
                return Err(NotDeleted::TooFresh(OPENED));
            }
            Err(other) => return Err(other),
        }
    }
    Err(IN_USE)
}

/// `None`: somebody has come to open it just then. `fresh`: it may have been changed a moment ago.
fn try_lock_file(
    dir: &Arc<Dir>,
    name: &OsStr,
    how: &mut LockDeletion<'_>,
    attempt: Attempt,
    fresh: bool,
) -> Result<Option<Deleted>> {
    // For reading: a watcher of a file that is no lock file must not be told that somebody had it open for writing.
    let file = match open(dir, name, OFlags::RDONLY) {
        // What is no lock file may well be unreadable.
        Err(NotDeleted::Failed(e)) if e.kind() == io::ErrorKind::PermissionDenied => {
            let status = status(dir, name)?;
            ensure_lock_file(&status)?;
            attempt.ensure_older(how.older_than, &status)?;
            how.ensure_ours(&status)?;
            return Err(e.into());
        }
        opened => opened?,
    };
    let seen = FileStatus::of(&file)?;
    if seen.kind == FileKind::Regular && (seen.size > 0 || is_mark_name(name)) {
        // On NFS, a file that is open when it is deleted stays under another name.
        drop(file);
        attempt.ensure_older(how.older_than, &seen)?;
        return link_lock(dir, name, attempt).map(Some);
    }
    ensure_lock_file(&seen)?;
    attempt.ensure_older(how.older_than, &seen)?;
    how.ensure_ours(&seen)?;
    if !fresh && attempt.since(seen.changed) < OPENED {
        // Fresh the second time, too: it is another file, so there is a writer.
        return Err(if attempt.again { IN_USE } else { NotDeleted::TooFresh(OPENED) });
    }
    match lease::take(&file) {
        // On ext4, also while the kernel writes back an inode that was made a moment ago.
        Ok(false) => return Err(if attempt.again { IN_USE } else { NotDeleted::TooFresh(OPENED) }),
        Err(_) if how.only_own => return Err(MAY_BE_OPEN),
        Err(_) => return locked(dir, name, file, how.older_than, attempt).map(Some),
        Ok(true) => {}
    }
    // Nobody has it open, and nobody can: does the name still lead to this file, and is it nothing but a lock file?
    let now = status(dir, name)?;
    ensure_same(&now, seen.id)?;
    ensure_lock_file(&now)?;
    attempt.ensure_older(how.older_than, &now)?;
    if attempt.dry_run {
        return attempt.foresee(dir, &now).map(Some);
    }
    // Closing the file, which lets in who waits, comes after that.
    let removed = how.aside.remove(dir, name, &file)?;
    Ok(removed.then(|| attempt.deleted(&now)))
}

/// Deletes a lock file under its own lock. Whether somebody has it open without holding it cannot be told.
fn locked(dir: &Dir, name: &OsStr, file: File, older_than: Duration, attempt: Attempt) -> Result<Deleted> {
    let id = FileStatus::of(&file)?.id;
    // This comes before the flock is tried. A waiter that is registered for the lock tries it once more before it gives
    // up, and must not fail because of housekeeping: the file would be left behind.
    if ofd::has_locks(&file)? {
        return Err(IN_USE);
    }
    let file = if attempt.dry_run {
        if flock_holder(id).is_some() {
            return Err(IN_USE);
        }
        file
    } else {
        mark_brief(&file);
        take_flock(dir, name, file, id)?
    };
    // Under the lock: is the name still this file's, and is the file still nothing but a lock file?
    let now = status(dir, name)?;
    ensure_same(&now, id)?;
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

fn link_lock(dir: &Arc<Dir>, name: &OsStr, attempt: Attempt) -> Result<Deleted> {
    // By its name: the file itself does not tell whether it may be removed.
    let now = status(dir, name)?;
    ensure_regular(&now)?;
    let cleared = if is_mark_name(name) {
        clear_mark(dir, name, attempt.dry_run)
    } else {
        clear_link(dir, name, attempt.dry_run)
    };
    outcome_of(cleared, dir, &now, attempt)
}

/// Deletes the record of a lease.
pub(crate) fn lease(dir: &Arc<Dir>, name: &OsStr, older_than: Duration, attempt: Attempt) -> Result<Deleted> {
    let status = status(dir, name)?;
    ensure_regular(&status)?;
    attempt.ensure_older(older_than, &status)?;
    outcome_of(crate::lease::clear(dir, name, attempt.dry_run), dir, &status, attempt)
}

pub(super) fn outcome_of(
    cleared: error::Result<Cleared>,
    dir: &Dir,
    status: &FileStatus,
    attempt: Attempt,
) -> Result<Deleted> {
    match cleared {
        Ok(Cleared::Removed) if attempt.dry_run => attempt.foresee(dir, status),
        Ok(Cleared::Removed) => Ok(attempt.deleted(status)),
        Ok(Cleared::Kept(reason)) => Err(NotDeleted::Kept(reason)),
        Ok(Cleared::Gone) => Err(NotDeleted::Gone),
        Err(e) if e.kind() == ErrorKind::LockBusy => Err(IN_USE),
        Err(e) => Err(e.errno().map_or_else(|| io::Error::other(e.to_string()), io::Error::from_raw_os_error).into()),
    }
}
