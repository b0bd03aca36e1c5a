//! Locking the descriptor of the lock file that a shell has open: the lease of the target counts there, too, and a set that
//! was interrupted is finished.
//!
//! ```text
//!   open ──lock──> locked ──look at the record: another's lease──> open; wait for its end; again
//!                         ├─an interrupted set────────────────────> open; lock the target by its name; again
//!                         └───────────────────────────────────────> locked
//! ```

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock::Machine;
use super::door::{Purpose, lock_target, wait_for_lease};
use super::found::{Found, Record};
use super::visitor::{Leased, Role, Visitor, ensure_not_fenced};
use crate::error::{Error, Result};
use crate::lock::{Patience, Place, holds_flock, lock_and_mark, register, unlock_descriptor};
use crate::names::{flat_path, is_lock_name, locked_name};
use crate::notice::Observer;
use crate::options::LockOptions;
use crate::sys::{Dir, FileStatus};
use crate::target::{Resolve, Target};

/// Locks an open lock file on behalf of the process that has started this one, whose descriptor it is. The lock takes part
/// in nesting: if an ancestor holds the lock of the same file, the description gets a share of that; and the processes that
/// inherit the descriptor from now on go on under its lock. (So would the threads of this process.) Messages call the
/// descriptor `name`. Returns how long it took.
///
/// If the file behind the descriptor is the lock file of a target, by its name, this also waits for the end of another's
/// lease of that, and holds no lock meanwhile; and it finishes a set of files that was interrupted. A descriptor that has
/// the lock already keeps it.
///
/// # Errors
///
/// As [`lock_descriptor`](crate::lock_descriptor). [`ErrorKind::Usage`]: it would wait for itself. [`ErrorKind::Leased`]:
/// another's lease did not end in time.
///
/// [`ErrorKind::Usage`]: crate::ErrorKind::Usage
/// [`ErrorKind::Leased`]: crate::ErrorKind::Leased
pub fn lock_callers_descriptor(
    fd: impl AsFd,
    name: &Path,
    options: &LockOptions,
    observer: &Observer,
) -> Result<Duration> {
    ensure_not_fenced(options)?;
    let fd = fd.as_fd();
    let (mut patience, visitor) = (Patience::new(name, options, observer), Visitor::of(options));
    let had_it = holds_flock(fd);
    // Until the next lock is there: else the file would be gone after the wait, and the caller had to open it again.
    let mut _registration = None;
    loop {
        lock_and_mark(fd, options, &mut patience)?;
        let obstacle = if had_it { Ok(Obstacle::Nothing) } else { look(fd, name, options, &visitor, observer) };
        if matches!(obstacle, Ok(Obstacle::Nothing)) {
            return Ok(patience.started.elapsed());
        }
        _registration = register(fd);
        unlock_descriptor(fd, name, &Observer::default())?;
        match obstacle? {
            Obstacle::Nothing => {}
            Obstacle::Lease(leased, place) => wait_for_lease(leased, &mut patience, &visitor, &place)?,
            Obstacle::Set(target, options) => {
                let keeper = Visitor { role: Role::Keeper, clock: &Machine };
                let how = Resolve { follow: false, mkdir: false };
                lock_target(&target, how, &options, &keeper, observer, Purpose::Hold, |_, _| Ok(()))?.2.release()?;
            }
        }
    }
}

/// What keeps the caller from the file that is locked.
enum Obstacle {
    Nothing,
    /// Another's lease.
    Lease(Leased, Box<Place>),
    /// A set of files that its writer has not finished: whoever locks the file by its name, as these options say, does.
    Set(PathBuf, Box<LockOptions>),
}

fn look(
    fd: BorrowedFd<'_>,
    name: &Path,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    observer: &Observer,
) -> Result<Obstacle> {
    let Some((target, place, options)) = place_of(fd, options)? else { return Ok(Obstacle::Nothing) };
    let found = match Record::read(&place.lease, observer)? {
        Some(Found { record: Record::Set(_), .. }) => return Ok(Obstacle::Set(target, Box::new(options))),
        found => found,
    };
    let leased = visitor.judge(found.and_then(Found::of_target), &place.lease, name)?;
    Ok(leased.map_or(Obstacle::Nothing, |leased| Obstacle::Lease(leased, Box::new(place))))
}

/// The target and the place whose lock file `fd` is, as far as its name says that, and the options that lead there.
/// Without /proc this cannot be known.
fn place_of(fd: BorrowedFd<'_>, options: &LockOptions) -> Result<Option<(PathBuf, Place, LockOptions)>> {
    let Ok(path) = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) else { return Ok(None) };
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().filter(|name| is_lock_name(name))) else {
        return Ok(None);
    };
    let Some(locked) = locked_name(name) else { return Ok(None) };
    let id = |path: &Path| Dir::open(path).map(|dir| dir.id()).map_err(|e| Error::io(path, e));
    let lock_dir = match &options.dir {
        Some(lock_dir) if id(lock_dir)? == id(dir)? => flat_path(locked),
        _ => None,
    };
    let (target, dir) = match lock_dir {
        Some(target) => (target, options.dir.clone()),
        None => (dir.join(locked), None),
    };
    let options = LockOptions { file: None, dir, follow: false, ..options.clone() };
    let place = Place::of(&Target::resolve(&target, Resolve { follow: false, mkdir: false })?, &options)?;
    let there = place.dir.status(&place.name).map_err(|e| Error::io(&place.path, e))?;
    let ours = FileStatus::of(fd).map_err(|e| Error::io(&path, e))?;
    Ok(there.is_some_and(|there| there.id == ours.id).then_some((target, place, options)))
}
