//! The last look at a file, and its removal. Everything is relative to the directory's descriptor and goes by the file
//! itself, never by what was seen before.
//!
//! What protects each kind from being removed under somebody's hands:
//!
//! - **A lock file**: its own lock. It is held while the name is compared and unlinked, and whoever gets the lock after
//!   that sees that the name is gone and starts over. A file that was created and is about to be locked may be removed
//!   for that reason, too.
//! - **A lease**: its target's lock, as for every change of it.
//! - **A temporary file**: its writer holds a `flock` on it as long as it has a name. Where it was created with a name,
//!   it has it for an instant before the lock; so a fresh one is not even tried, which could cost its writer the lock, but
//!   looked at again later.
//! - **A backup with a time in its name**: nothing ever replaces one, so it is what it was.
//! - **A plain backup**: writers replace it, at any moment, by rename. It is renamed away first, to a name of our own,
//!   looked at there, and put back if it is not the one that was meant.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

use super::plan::age;
use crate::error::ErrorKind;
use crate::lease::{self, Cleared};
use crate::stage;
use crate::sys::{self, Dir, FileKind, FileStatus, ofd};

/// How long after a change a file is too fresh for its state to be told. Generous: a writer has that much time from
/// creating a temporary file to locking it, and from replacing its target to setting the time of the backup.
pub(super) const FRESH: Duration = Duration::from_secs(1);

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
    /// To be looked at again once it is not [`FRESH`] any more.
    TooFresh,
}

/// How to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Nanoseconds since 1970.
    pub(super) now: i128,
    pub(super) dry_run: bool,
    /// It was too fresh, and [`FRESH`] has passed since.
    pub(super) again: bool,
}

impl Look {
    fn too_fresh(self, status: &FileStatus) -> bool {
        !self.again && age(self.now, status.changed) < FRESH
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
    // Before it is opened: what has content is somebody's data, and its watchers would see it opened.
    let Some(status) = dir.status(name)? else { return Ok(Outcome::Gone) };
    if let Some(reason) = unfit_lock(&status) {
        return Ok(Outcome::Kept(reason));
    }
    if age(look.now, status.modified) < older_than {
        return Ok(Outcome::Kept(TOO_YOUNG));
    }
    let mut file = match open(dir, name, OFlags::RDONLY)? {
        Ok(file) => file,
        Err(outcome) => return Ok(outcome),
    };
    // First, and without the flock: while somebody is registered to have the lock next, his last try before he gives up
    // must not fail because of us, or the file would be left behind.
    if ofd::is_locked(&file)? {
        return Ok(Outcome::Kept(IN_USE));
    }
    let taken = match sys::try_flock(&file, false) {
        // NFS wants a descriptor open for writing.
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => {
            file = match open(dir, name, OFlags::RDWR)? {
                Ok(file) => file,
                Err(outcome) => return Ok(outcome),
            };
            sys::try_flock(&file, false)?
        }
        taken => taken?,
    };
    if !taken {
        return Ok(Outcome::Kept(IN_USE));
    }
    // Under the lock: is it still the file of this name, and still nothing but a lock file?
    let status = match dir.status(name)? {
        None => return Ok(Outcome::Gone),
        Some(now) if now.id != FileStatus::of(&file)?.id => return Ok(Outcome::Kept(REPLACED)),
        Some(now) => now,
    };
    if let Some(reason) = unfit_lock(&status) {
        return Ok(Outcome::Kept(reason));
    }
    // The lock goes with `file`, after the name.
    unlink(dir, name, &status, look)
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
    match lease::clear(dir, name, look.dry_run) {
        Ok(Cleared::Removed) => Ok(look.removed(&status)),
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
    if look.too_fresh(&status) {
        return Ok(Outcome::TooFresh);
    }
    // Never for writing: where a check runs the new content, that would be "Text file busy" for it.
    let file = match open(dir, name, OFlags::RDONLY)? {
        Ok(file) => file,
        Err(outcome) => return Ok(outcome),
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

/// A backup with a time in its name.
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

/// A backup without a time in its name, which looked like `planned`. `whatever_its_age`: its time has not counted.
pub(super) fn plain_backup(
    dir: &Arc<Dir>,
    name: &OsStr,
    planned: &FileStatus,
    whatever_its_age: bool,
    look: Look,
) -> io::Result<Outcome> {
    // A backup made as a second link has the old content's time until its writer has set it, after the commit.
    if !whatever_its_age && look.too_fresh(planned) {
        return Ok(Outcome::TooFresh);
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

/// Opens `name` without waiting for anything; the inner error: it is not the file that was seen.
fn open(dir: &Dir, name: &OsStr, access: OFlags) -> io::Result<Result<File, Outcome>> {
    match dir.open_file(name, access | OFlags::NONBLOCK, 0) {
        Ok(file) => Ok(Ok(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Err(Outcome::Gone)),
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Ok(Err(Outcome::Kept(NOT_REGULAR))),
        // Somebody has a lease on it (fcntl(2), F_SETLEASE).
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Err(Outcome::Kept(IN_USE))),
        Err(e) => Err(e),
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
