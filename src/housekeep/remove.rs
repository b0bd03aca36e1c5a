//! The last look at a file, and its removal. Everything is relative to the directory's descriptor and goes by the file
//! itself, never by what was seen before.
//!
//! What protects each kind from being removed under somebody's hands:
//!
//! - **A lock file**: its own lock. It is held while the name is compared and unlinked, and whoever gets the lock after
//!   that sees that the name is gone and starts over. A file that was created and is about to be locked may be removed
//!   for that reason, too.
//! - **A temporary file**: its writer holds a `flock` on it as long as it has a name. Where it was created with a name,
//!   it has it for an instant before the lock; so a fresh one is not even tried, which could cost its writer the lock, but
//!   looked at again later.
//! - **A backup with a time in its name**: nothing ever replaces one, so it is what it was.
//! - **A plain backup**: writers replace it, at any moment, by rename. It is renamed away first, to a name of our own,
//!   looked at there, and put back if it is not the one that was meant. The target's lock would not do: it is not known
//!   where backups or locks have a directory of their own; and it would be one more lock file to make and to hold for
//!   each file, which a writer that does not wait could run into.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

use super::plan::age;
use crate::lock::lock_name;
use crate::stage;
use crate::sys::{self, Dir, FileKind, FileStatus, ofd};

/// How long a writer may take from creating a temporary file to locking it, which is two system calls; or from the commit
/// to setting the time of the backup, between which it may have to wait for the disk.
const FRESH: Duration = Duration::from_secs(1);
/// How long a backup may be on its way: from the link to it to the commit, which has to wait for the disk.
const UNDER_WAY: Duration = Duration::from_secs(60);
/// The latter where no lock file says that there is a writer: so either there is none, or its lock is elsewhere.
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

/// A lock file.
pub(super) fn lock(dir: &Dir, name: &OsStr, older_than: Duration, look: Look) -> io::Result<Outcome> {
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
    if let Some(reason) = unfit(&status) {
        return Ok(Outcome::Kept(reason));
    }
    // First, and without the flock: while somebody is registered to have the lock next, his last try before he gives up
    // must not fail because of us, or the file would be left behind.
    if ofd::is_locked(&file)? {
        return Ok(Outcome::Kept(IN_USE));
    }
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

/// A backup that is what it was, or one of which nothing is to stay. `time`: when it was made.
pub(super) fn backup(dir: &Dir, name: &OsStr, time: i128, look: Look) -> io::Result<Outcome> {
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
pub(super) fn plain_backup(
    dir: &Arc<Dir>,
    name: &OsStr,
    of: &OsStr,
    planned: &FileStatus,
    look: Look,
) -> io::Result<Outcome> {
    if let Some(reason) = unfit(planned) {
        return Ok(Outcome::Kept(reason));
    }
    // A backup that is made as a second link has the old content's time until its writer sets it, after the commit. Up
    // to the commit it still is the target, too; after that there are the target's lock file, for a while, and its ctime.
    if planned.links > 1 && look.changed_within(UNDER_WAY, planned) {
        return Ok(Outcome::Kept("may be being made"));
    }
    if look.changed_within(FRESH, planned) {
        let wait = if dir.status(&lock_name(of))?.is_some() { FRESH } else { DATING };
        if look.changed_within(wait, planned) {
            return Ok(Outcome::TooFresh(wait));
        }
    }
    if look.dry_run || look.again {
        match dir.status(name)? {
            None => return Ok(Outcome::Gone),
            Some(now) if !same(&now, planned) => return Ok(Outcome::Kept(REPLACED)),
            Some(now) if look.dry_run => return Ok(look.removed(&now)),
            Some(_) => {}
        }
    }
    let (aside, ticket) = match stage::set_aside(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Gone),
        outcome => outcome?,
    };
    match dir.status(&aside) {
        Ok(Some(now)) if same(&now, planned) => match ticket.remove() {
            Ok(()) => Ok(look.removed(&now)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Outcome::Gone),
            Err(e) => Err(e),
        },
        Ok(None) => Ok(Outcome::Gone),
        // Not what was meant, or not to be known: a writer has just made a new backup.
        looked => {
            let mut back = Ok(());
            // Off the list in any case: what could not be put back must not be removed either.
            let _ = ticket.settle(|| {
                back = put_back(dir, &aside, name);
                Ok(())
            });
            back?;
            looked.map(|_| Outcome::Kept(REPLACED))
        }
    }
}

/// Renaming changes ctime, but no writer makes a new backup of the same inode with the same time and length.
fn same(a: &FileStatus, b: &FileStatus) -> bool {
    (a.id, a.kind, a.size, a.modified) == (b.id, b.kind, b.size, b.modified)
}

/// Gives what was set aside its name again, unless a still newer backup has it: that one has replaced it.
fn put_back(dir: &Dir, aside: &OsStr, name: &OsStr) -> io::Result<()> {
    let outcome = match dir.rename_new(aside, dir, name) {
        Err(e) if sys::unsupported(&e) => match dir.link(aside, dir, name) {
            Ok(()) => dir.unlink(aside),
            // No links either (exFAT).
            Err(e) if e.raw_os_error() == Some(libc::EPERM) || sys::unsupported(&e) => match dir.status(name)? {
                None => dir.rename(aside, dir, name),
                Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            },
            Err(e) => Err(e),
        },
        outcome => outcome,
    };
    match outcome {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => dir.unlink(aside),
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
