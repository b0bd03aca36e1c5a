//! The last look at a file, and its removal. Everything is relative to the directory's descriptor and goes by the file
//! itself, never by what was seen before.
//!
//! What protects each kind from being removed under somebody's hands:
//!
//! - **A lock file**: its own lock. It is held while the name is compared and unlinked, and whoever gets the lock after
//!   that sees that the name is gone and starts over. One that has just been created is about to be locked, and left
//!   alone for a moment.
//! - **A lock by link(2)**: the protocol by which whoever wants it next breaks it if it is stale.
//! - **A lease**: its target's lock, as for every change of it.
//! - **A temporary file**: its writer holds a `flock` on it as long as it has a name. Where it was created with a name,
//!   it has it for an instant before the lock; so a fresh one is not even tried, which could cost its writer the lock, but
//!   looked at again later.
//! - **A backup with a time in its name**: nothing ever replaces one, so it is what it was.
//! - **A plain backup**: writers replace it, at any moment, by rename. It is renamed first, to what it would be called if
//!   its name had its time in it, looked at there, and put back if it is not the one that was meant. A crash in between,
//!   or a still newer backup in its place, leaves it as a backup of that time, by which the next run judges it. The
//!   target's lock is only looked at, to know of a writer that has made a backup and not set its time yet. Taking it
//!   would not do: it is not known where locks or backups have a directory of their own, and a writer that does not wait
//!   could run into it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

use super::plan::age;
use crate::error::{ErrorKind, Result};
use crate::lease;
use crate::lock::{Cleared, LockFile, clear_link, clear_mark, is_held_by_link};
use crate::names::{BackupNames, is_mark_name, lock_name};
use crate::sys::{self, Dir, FileKind, FileStatus, ofd};

/// How long a writer may take from creating a lock file to locking it, on a busy machine: two system calls. It would not
/// lose the lock; but one that does not wait would find it busy, should this process be held up while it has it.
const OPENED: Duration = Duration::from_millis(20);
/// How long a writer may take from creating a temporary file to locking it, which is two system calls.
const FRESH: Duration = Duration::from_secs(1);
/// How long a backup may be on its way, from the link to it to the commit, which has to wait for the disk; for writers
/// whose lock is elsewhere.
const UNDER_WAY: Duration = Duration::from_secs(60);
/// And from the commit to setting its time.
const DATING: Duration = Duration::from_millis(100);

/// What has become of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Removed {
        bytes: u64,
        age: Duration,
    },
    /// It stays, for this reason.
    Kept(&'static str),
    /// Somebody else has removed it.
    Gone,
    /// It was changed so recently that its state cannot be told: to be looked at again after this time.
    TooFresh(Duration),
}

/// How to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Nanoseconds since 1970.
    pub(super) now: i128,
    pub(super) dry_run: bool,
    /// It was too fresh, and that time has passed since.
    pub(super) again: bool,
}

impl Look {
    fn changed_within(self, time: Duration, status: &FileStatus) -> bool {
        !self.again && age(self.now, status.changed) < time
    }

    fn removed(self, status: &FileStatus) -> Outcome {
        let bytes = if status.links <= 1 { status.size } else { 0 };
        Outcome::Removed { bytes, age: age(self.now, status.modified) }
    }
}

const NOT_REGULAR: &str = "not a regular file";
const IN_USE: &str = "in use";
const TOO_YOUNG: &str = "not old enough";
const REPLACED: &str = "replaced meanwhile";
const MOUNTED: &str = "something is mounted on it";

/// Why `status` is not that of a file that may go at all.
fn unfit(status: &FileStatus) -> Option<&'static str> {
    if status.kind != FileKind::Regular {
        Some(NOT_REGULAR)
    } else if status.mount_root {
        Some(MOUNTED)
    } else {
        None
    }
}

fn unfit_lock(status: &FileStatus) -> Option<&'static str> {
    unfit(status).or(if status.size > 0 {
        Some("not empty")
    } else if status.links > 1 {
        Some("has other names")
    } else {
        None
    })
}

/// A lock file, of either kind, or what the breaking of one by link(2) has left.
pub(super) fn lock(dir: &Arc<Dir>, name: &OsStr, older_than: Duration, look: Look) -> io::Result<Outcome> {
    let unfit = |status: &FileStatus| match unfit_lock(status) {
        None if age(look.now, status.modified) < older_than => Some(TOO_YOUNG),
        reason => reason,
    };
    // For reading: a watcher of a file that is no lock file must not be told that somebody had it open for writing.
    let mut file = match open(dir, name, OFlags::RDONLY)? {
        Opened::File(file) => file,
        Opened::Not(outcome) => return Ok(outcome),
        // What is no lock file may well be unreadable.
        Opened::Refused(e) => {
            return match dir.status(name)? {
                None => Ok(Outcome::Gone),
                Some(status) => unfit(&status).map(Outcome::Kept).ok_or(e),
            };
        }
    };
    let status = FileStatus::of(&file)?;
    if status.kind == FileKind::Regular && (status.size > 0 || is_mark_name(name)) {
        // On NFS, what is open when it is removed stays under another name.
        drop(file);
        return if age(look.now, status.modified) < older_than {
            Ok(Outcome::Kept(TOO_YOUNG))
        } else if is_mark_name(name) {
            settled(clear_mark(dir, name, look.dry_run), &status, look)
        } else {
            settled(clear_link(dir, name, look.dry_run), &status, look)
        };
    }
    if let Some(reason) = unfit(&status) {
        return Ok(Outcome::Kept(reason));
    }
    if age(look.now, status.changed) < OPENED {
        // Fresh again: it is another one, so there is a writer.
        return Ok(if look.again { Outcome::Kept(IN_USE) } else { Outcome::TooFresh(OPENED) });
    }
    // First, and without the flock: while somebody is registered to have the lock next, his last try before he gives up
    // must not fail because of us, or the file would be left behind.
    if ofd::has_locks(&file)? {
        return Ok(Outcome::Kept(IN_USE));
    }
    LockFile::look_at(&file);
    let taken = match sys::try_flock(&file, false) {
        // NFS wants a descriptor open for writing.
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => {
            file = match open(dir, name, OFlags::RDWR)? {
                Opened::File(file) if FileStatus::of(&file)?.id == status.id => file,
                Opened::File(_) => return Ok(Outcome::Kept(REPLACED)),
                Opened::Not(outcome) => return Ok(outcome),
                Opened::Refused(e) => return Err(e),
            };
            sys::try_flock(&file, false)?
        }
        taken => taken?,
    };
    if !taken {
        return Ok(Outcome::Kept(IN_USE));
    }
    // Under the lock, and by its name: is it still this file, and still nothing but a lock file?
    let now = match dir.status(name)? {
        None => return Ok(Outcome::Gone),
        Some(now) if now.id != status.id => return Ok(Outcome::Kept(REPLACED)),
        Some(now) => now,
    };
    if let Some(reason) = unfit(&now) {
        return Ok(Outcome::Kept(reason));
    }
    let outcome = unlink(dir, name, &now, look);
    // The lock is given back only now, when the name is gone.
    drop(file);
    outcome
}

/// The record of a lease.
pub(super) fn lease(dir: &Arc<Dir>, name: &OsStr, older_than: Duration, look: Look) -> io::Result<Outcome> {
    let Some(status) = dir.status(name)? else { return Ok(Outcome::Gone) };
    if let Some(reason) = unfit(&status) {
        return Ok(Outcome::Kept(reason));
    }
    if age(look.now, status.modified) < older_than {
        return Ok(Outcome::Kept(TOO_YOUNG));
    }
    settled(lease::clear(dir, name, look.dry_run), &status, look)
}

fn settled(outcome: Result<Cleared>, status: &FileStatus, look: Look) -> io::Result<Outcome> {
    match outcome {
        Ok(Cleared::Removed) => Ok(look.removed(status)),
        Ok(Cleared::Kept(reason)) => Ok(Outcome::Kept(reason)),
        Ok(Cleared::Gone) => Ok(Outcome::Gone),
        Err(e) if e.kind() == ErrorKind::LockBusy => Ok(Outcome::Kept(IN_USE)),
        Err(e) => Err(e.errno().map_or_else(|| io::Error::other(e.to_string()), io::Error::from_raw_os_error)),
    }
}

/// A temporary file.
pub(super) fn temp(dir: &Dir, name: &OsStr, older_than: Duration, look: Look) -> io::Result<Outcome> {
    let Some(status) = dir.status(name)? else { return Ok(Outcome::Gone) };
    if let Some(reason) = unfit(&status) {
        return Ok(Outcome::Kept(reason));
    }
    if age(look.now, status.modified) < older_than {
        return Ok(Outcome::Kept(TOO_YOUNG));
    }
    if look.changed_within(FRESH, &status) {
        return Ok(Outcome::TooFresh(FRESH));
    }
    // Never for writing: where a check runs the new content, that would be "Text file busy" for it.
    let file = match open(dir, name, OFlags::RDONLY)? {
        Opened::File(file) => file,
        Opened::Not(outcome) => return Ok(outcome),
        Opened::Refused(e) => return Err(e),
    };
    // Shared excludes the writer as well, and NFS grants it without write access.
    if !sys::try_flock(&file, true)? {
        return Ok(Outcome::Kept(IN_USE));
    }
    match dir.status(name)? {
        None => Ok(Outcome::Gone),
        Some(now) if now.id != FileStatus::of(&file)?.id => Ok(Outcome::Kept(REPLACED)),
        Some(now) => unlink(dir, name, &now, look),
    }
}

/// A backup with a time in its name, which nobody replaces.
pub(super) fn dated_backup(dir: &Dir, name: &OsStr, time: i128, look: Look) -> io::Result<Outcome> {
    let Some(status) = dir.status(name)? else { return Ok(Outcome::Gone) };
    if let Some(reason) = unfit(&status) {
        return Ok(Outcome::Kept(reason));
    }
    Ok(match unlink(dir, name, &status, look)? {
        Outcome::Removed { bytes, .. } => Outcome::Removed { bytes, age: age(look.now, time) },
        other => other,
    })
}

/// A backup of the file `of` that may be replaced at any moment, and that goes because of its age, which `planned` shows.
/// `names` are what it could be called with its time in its name.
pub(super) fn plain_backup(
    dir: &Dir,
    name: &OsStr,
    of: &OsStr,
    names: &BackupNames<'_>,
    planned: &FileStatus,
    look: Look,
) -> io::Result<Outcome> {
    if let Some(reason) = unfit(planned) {
        return Ok(Outcome::Kept(reason));
    }
    // A backup that is made as a second link has the old content's time until its writer sets it, after the commit. Up
    // to the commit it still is the target, too.
    if is_held(dir, &lock_name(of))? {
        return Ok(Outcome::Kept(IN_USE));
    }
    if planned.links > 1 && look.changed_within(UNDER_WAY, planned) {
        return Ok(Outcome::Kept("may be being made"));
    }
    if look.changed_within(DATING, planned) {
        return Ok(Outcome::TooFresh(DATING));
    }
    match dir.status(name)? {
        None => return Ok(Outcome::Gone),
        Some(now) if !same(&now, planned) => return Ok(Outcome::Kept(REPLACED)),
        Some(now) if look.dry_run => return Ok(look.removed(&now)),
        Some(_) => {}
    }
    let aside = match names.first_free(|aside| rename_to_free(dir, name, aside)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Gone),
        outcome => outcome?,
    };
    match dir.status(&aside)? {
        None => Ok(Outcome::Gone),
        Some(now) if same(&now, planned) => unlink(dir, &aside, &now, look),
        Some(_) => {
            // A writer has made a new one since. Should that fail it stays a backup, with its time in its name.
            let _ = dir.rename_new(&aside, dir, name);
            Ok(Outcome::Kept(REPLACED))
        }
    }
}

/// Renaming changes ctime, but no writer makes a new backup of the same inode with the same time and length.
fn same(a: &FileStatus, b: &FileStatus) -> bool {
    (a.id, a.kind, a.size, a.modified) == (b.id, b.kind, b.size, b.modified)
}

/// Whether somebody holds, or waits for, the lock file `name`. One that may not be opened counts as held.
fn is_held(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    match open(dir, name, OFlags::RDONLY)? {
        Opened::File(file) if FileStatus::of(&file)?.size > 0 => Ok(is_held_by_link(dir, name)),
        // In this order, as for removing one.
        Opened::File(file) => Ok(ofd::has_locks(&file)? || !sys::try_flock(&file, true)?),
        Opened::Not(_) => Ok(false),
        Opened::Refused(_) => Ok(true),
    }
}

fn rename_to_free(dir: &Dir, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match dir.rename_new(from, dir, to) {
        // FUSE, NFS. Only another housekeeper could make this name meanwhile, of a backup that is to go, too. A link in
        // its place would not do: what is removed after that could be another file.
        Err(e) if sys::unsupported(&e) => match dir.status(to)? {
            None => dir.rename(from, dir, to),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        },
        outcome => outcome,
    }
}

enum Opened {
    File(File),
    /// It is not the regular file that was seen.
    Not(Outcome),
    /// This user may not open it.
    Refused(io::Error),
}

/// Opens `name` without waiting for anything.
fn open(dir: &Dir, name: &OsStr, access: OFlags) -> io::Result<Opened> {
    match dir.open_file(name, access | OFlags::NONBLOCK, 0) {
        Ok(file) => Ok(Opened::File(file)),
        Err(e) => match e.raw_os_error() {
            Some(libc::ENOENT) => Ok(Opened::Not(Outcome::Gone)),
            Some(libc::ELOOP | libc::ENXIO | libc::EISDIR) => Ok(Opened::Not(Outcome::Kept(NOT_REGULAR))),
            // Somebody has a lease on it (fcntl(2), F_SETLEASE).
            Some(libc::EWOULDBLOCK) => Ok(Opened::Not(Outcome::Kept(IN_USE))),
            Some(libc::EACCES | libc::EPERM) => Ok(Opened::Refused(e)),
            _ => Err(e),
        },
    }
}

fn unlink(dir: &Dir, name: &OsStr, status: &FileStatus, look: Look) -> io::Result<Outcome> {
    if look.dry_run {
        return Ok(look.removed(status));
    }
    match dir.unlink(name) {
        Ok(()) => Ok(look.removed(status)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Outcome::Gone),
        Err(e) => Err(e),
    }
}
