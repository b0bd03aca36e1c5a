//! The one way to a target: resolve it, take its lock, resolve it again under the lock, and check its lease.
//!
//! ```text
//!   unlocked ──acquire──> locked ──settle, recover, judge──> held, for the caller
//!                            ├──settle: the path means another file by now──> unlocked, again
//!                            └──another's lease──> unlocked; wait for its end; again
//! ```

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::clock::Machine;
use super::found::{Found, Record};
use super::set::recover;
use super::visitor::{Leased, Role, Visitor, ensure_not_fenced};
use crate::duration::shown_duration;
use crate::error::Result;
use crate::lock::{FileLock, Intent, Patience, Pauses, Place, Request, acquire_at};
use crate::notice::{Notice, Observer};
use crate::options::{LockOptions, Wait};
use crate::target::{Resolve, Target};

/// The pauses of a process that waits for the end of another's lease, in seconds or minutes. It reads the record after each.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How often a target's directories are made anew, when another writer keeps removing them.
const MAX_ROUNDS: u32 = 100;

/// What a caller takes the lock of a target for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To hold it.
    Hold,
    /// To replace the target.
    Replace,
}

impl Purpose {
    fn intent(self, target: &Target, options: &LockOptions) -> Intent {
        match self {
            Purpose::Replace => Intent::Replacing(target.number()),
            Purpose::Hold if options.shared => Intent::Shared,
            Purpose::Hold => Intent::Exclusive,
        }
    }
}

impl FileLock {
    /// Takes the lock of `target`, which need not exist.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockBusy`] and [`ErrorKind::LockTimeout`]: the lock was not free in time. The error names the holder,
    /// where that is known. `LockBusy` too, and at once, if this very thread holds the lock and would wait for it without a
    /// limit. (Who passes locks from thread to thread, and so means to wait for another thread, sets a limit.) [`ErrorKind::Leased`]: another owner's lease did not end in time. [`ErrorKind::LockLost`]: the
    /// lease that [`LockOptions::claim`] names is not that owner's. Otherwise, the lock file could not be created or
    /// opened.
    ///
    /// [`ErrorKind::LockBusy`]: crate::ErrorKind::LockBusy
    /// [`ErrorKind::LockTimeout`]: crate::ErrorKind::LockTimeout
    /// [`ErrorKind::Leased`]: crate::ErrorKind::Leased
    /// [`ErrorKind::LockLost`]: crate::ErrorKind::LockLost
    pub fn acquire(target: impl AsRef<Path>, options: &LockOptions) -> Result<FileLock> {
        FileLock::acquire_with(target, options, &Observer::default())
    }

    /// The same, with an observer that is told when it has to wait.
    ///
    /// # Errors
    ///
    /// As [`FileLock::acquire`].
    pub fn acquire_with(target: impl AsRef<Path>, options: &LockOptions, observer: &Observer) -> Result<FileLock> {
        ensure_not_fenced(options)?;
        let how = Resolve { follow: options.follow, mkdir: false };
        let visitor = Visitor::of(options);
        let (_, _, lock) =
            lock_target(target.as_ref(), how, options, &visitor, observer, Purpose::Hold, |_, _| Ok(()))?;
        Ok(lock)
    }
}

/// Resolves `given`, takes its lock, and resolves it again under the lock, until both mean the same file.
///
/// `accept` may refuse the target before anything is created or waited for. It is asked again under the lock if the target
/// may have changed since. `visitor` says whose leases to wait for.
pub(crate) fn lock_target(
    given: &Path,
    how: Resolve,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    observer: &Observer,
    purpose: Purpose,
    accept: impl Fn(&Target, &Place) -> Result<()>,
) -> Result<(Target, Place, FileLock)> {
    let mut patience = Patience::new(given, options, observer);
    loop {
        match lock_unless_leased(how, None, options, visitor, purpose, &mut patience, &accept)? {
            Outcome::Locked(target, place, lock) => {
                tell_locked(&patience, &lock);
                return Ok((target, place, lock));
            }
            Outcome::Leased(leased, place) => wait_for_lease(leased, &mut patience, visitor, &place)?,
        }
    }
}

/// What an attempt to lock a target leads to.
// One at a time, and soon taken apart: its size costs nothing.
#[allow(clippy::large_enum_variant)]
pub(super) enum Outcome {
    Locked(Target, Place, FileLock),
    /// Nothing is locked. The lease's owner needs the lock to refresh or release the lease.
    Leased(Leased, Place),
}

/// Locks the target of `patience`, unless somebody else has a lease of it. It may have been `resolved` a moment ago.
pub(super) fn lock_unless_leased(
    how: Resolve,
    mut resolved: Option<Target>,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    purpose: Purpose,
    patience: &mut Patience<'_>,
    accept: impl Fn(&Target, &Place) -> Result<()>,
) -> Result<Outcome> {
    let given = patience.target;
    let mut rounds = 0;
    loop {
        let mut target = resolved.take().map_or_else(|| Target::resolve(given, how), Ok)?;
        let before = target.status;
        let intent = purpose.intent(&target, options);
        let place = Place::of(&target, options)?;
        accept(&target, &place)?;
        place.ensure_not_target(&target)?;
        let patience = &mut *patience;
        let mut lock = match acquire_at(&mut Request { place: &place, target: &target, options, intent, patience }) {
            Ok(lock) => lock,
            // Another writer made the directory, failed, and removed it under us. With --mkdir, make it anew.
            Err(e) if e.errno() == Some(libc::ENOENT) && how.mkdir && rounds < MAX_ROUNDS => {
                rounds += 1;
                continue;
            }
            Err(e) => return Err(e),
        };
        if !target.settle()? {
            // While we waited, `given` has come to mean another file: another directory, or a link that leads elsewhere.
            drop(lock);
            continue;
        }
        let mut found = Record::read(&place.lease, patience.observer)?;
        if let Some(Found { record: Record::Set(set), uid }) = &found {
            // A set of files that its writer has not finished. The target is not what it is to be.
            if intent == Intent::Shared {
                drop(lock);
                finish_alone(how, options, patience)?;
                continue;
            }
            recover(&target, &place.lease, &lock, (set, *uid), options, patience.observer)?;
            found = Record::read(&place.lease, patience.observer)?;
            target.settle()?;
        }
        if patience.has_waited || target.status != before {
            accept(&target, &place)?;
        }
        // Whoever holds the lock above may let its target be written: nobody outside got the lease since it has the lock.
        let may_write = lock.held.method() == "inherited" && purpose == Purpose::Replace;
        let leased = visitor.judge(found.and_then(Found::of_target), &place.lease, given)?;
        if let Some(leased) = leased.filter(|_| !may_write) {
            return Ok(Outcome::Leased(leased, place));
        }
        lock.since = Instant::now();
        return Ok(Outcome::Locked(target, place, lock));
    }
}

/// Finishes the set that the target of `patience` is part of. Of those who share a lock, several would do so at once.
fn finish_alone(how: Resolve, options: &LockOptions, patience: &mut Patience<'_>) -> Result<()> {
    let alone = LockOptions { shared: false, ..options.clone() };
    let keeper = Visitor { role: Role::Keeper, clock: &Machine };
    match lock_unless_leased(how, None, &alone, &keeper, Purpose::Hold, patience, |_, _| Ok(()))? {
        Outcome::Locked(_, _, lock) => lock.release(),
        Outcome::Leased(..) => Ok(()),
    }
}

pub(super) fn tell_locked(patience: &Patience<'_>, lock: &FileLock) {
    patience.observer.tell(&Notice::Locked {
        target: patience.target,
        lock_file: lock.path(),
        method: lock.held.method(),
        waited: patience.started.elapsed(),
        contended: patience.told,
    });
}

/// Waits, without the lock, until another's lease may have ended. The caller has to look again under the lock.
pub(super) fn wait_for_lease(
    mut leased: Leased,
    patience: &mut Patience<'_>,
    visitor: &Visitor<'_>,
    place: &Place,
) -> Result<()> {
    if patience.wait == Wait::No {
        return Err(leased.refusal(patience.target));
    }
    patience.tell_waiting_for(&place.path, Some(&format!("leased by {leased}")));
    let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
    while let Some(pause) = pauses.next(patience) {
        if !patience.goes_on(&place.path) {
            return Err(patience.given_up());
        }
        sleep(pause.min(leased.left));
        place.lease.dir.refresh();
        match visitor.kept_out(&place.lease, patience.target, &Observer::default()) {
            Ok(Some(still)) => leased = still,
            // An error is found again under the lock, by whoever gets that.
            Ok(None) | Err(_) => return Ok(()),
        }
    }
    let waited = shown_duration(patience.limit().unwrap_or_default());
    Err(leased.refusal(patience.target).with_hint(format!("waited {waited} for its end")))
}
