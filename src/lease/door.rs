//! The one way to a target: resolve it, take its lock, resolve it again under the lock, and ask its lease.

use std::path::Path;
use std::time::Duration;

use super::visitor::{Leased, Visitor};
use crate::duration::shown_duration;
use crate::error::Result;
use crate::lock::{FileLock, Intent, Patience, Place, acquire_at};
use crate::notice::{Notice, Observer};
use crate::options::{LockOptions, Wait};
use crate::target::{Resolve, Target};

/// The pauses between looks at another's lease: from the first, growing, to the last. It ends in seconds or minutes, and
/// its record is read each time.
const FIRST_LEASE_PAUSE: Duration = Duration::from_millis(1);
const LAST_LEASE_PAUSE: Duration = Duration::from_millis(50);

/// What a caller wants the lock of a target for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To hold it.
    Hold,
    /// To replace the target.
    Replace,
}

impl FileLock {
    /// Takes the lock of `target`, which need not exist.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockBusy`] and [`ErrorKind::LockTimeout`] when it was not free in time, with the holder where it
    /// could be found; [`ErrorKind::Leased`] when another owner's lease did not end in time; [`ErrorKind::LockLost`] when
    /// the lease that [`LockOptions::claim`] names is not that owner's; otherwise what kept the lock file from being made
    /// or opened.
    pub fn acquire(target: impl AsRef<Path>, options: &LockOptions) -> Result<FileLock> {
        FileLock::acquire_with(target, options, &Observer::default())
    }

    /// The same, with an observer that is told when it has to wait.
    ///
    /// # Errors
    ///
    /// As [`FileLock::acquire`].
    pub fn acquire_with(target: impl AsRef<Path>, options: &LockOptions, observer: &Observer) -> Result<FileLock> {
        let how = Resolve { follow: options.follow, mkdir: false };
        let visitor = Visitor::of(options);
        let (_, _, lock) =
            lock_target(target.as_ref(), how, options, &visitor, observer, Purpose::Hold, |_, _| Ok(()))?;
        Ok(lock)
    }
}

/// Resolves `given`, takes its lock, and resolves it again under the lock, until both mean the same file.
///
/// `check` may refuse the target before anything is created or waited for, and is asked again under the lock if the target
/// may have changed since. `visitor` says for whose leases to wait.
pub(crate) fn lock_target(
    given: &Path,
    how: Resolve,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    observer: &Observer,
    purpose: Purpose,
    check: impl Fn(&Target, &Place) -> Result<()>,
) -> Result<(Target, Place, FileLock)> {
    let intent = match purpose {
        Purpose::Replace => Intent::Replacing,
        Purpose::Hold if options.shared => Intent::Shared,
        Purpose::Hold => Intent::Exclusive,
    };
    let mut patience = Patience::new(given, options, observer);
    let mut rounds = 0;
    loop {
        let mut target = Target::resolve(given, how)?;
        let before = target.status;
        let place = Place::of(&target, options)?;
        check(&target, &place)?;
        place.check(&target)?;
        let lock = match acquire_at(&place, &target, options, intent, &mut patience) {
            Ok(lock) => lock,
            // Another writer made the directory, failed, and removed it again under us: with --mkdir we make it anew.
            Err(e) if e.errno() == Some(libc::ENOENT) && how.mkdir && rounds < 100 => {
                rounds += 1;
                continue;
            }
            Err(e) => return Err(e),
        };
        if target.settle()? {
            let (waited, contended) = (patience.started.elapsed(), patience.told);
            if contended || target.status != before {
                check(&target, &place)?;
            }
            // Whoever holds the lock above this process has made sure of the lease already, and its owner cannot give it
            // back before that one ends.
            let below = lock.held.method() == "inherited";
            if let Some(leased) = visitor.kept_out(&place.lease, given)?.filter(|_| !below) {
                // The lease's owner needs the lock to refresh or release it.
                drop(lock);
                outlast(&mut patience, leased, visitor, &place)?;
                continue;
            }
            observer.tell(&Notice::Locked {
                target: given,
                lock_file: lock.path(),
                method: lock.held.method(),
                waited,
                contended,
            });
            return Ok((target, place, lock));
        }
        // What `given` means changed while we waited: another directory, or a link that leads elsewhere.
        drop(lock);
    }
}

/// Waits, without the lock, until another's lease may have ended. What it finds is to be looked at again under the
/// lock.
fn outlast(patience: &mut Patience<'_>, mut leased: Leased, visitor: &Visitor<'_>, place: &Place) -> Result<()> {
    if patience.wait == Wait::No {
        return Err(leased.refusal(patience.target));
    }
    patience.tell_waiting(&place.path);
    let mut pause = FIRST_LEASE_PAUSE;
    // See waiting::poll.
    let stretch = 100 + std::process::id() % 50;
    loop {
        let left = patience.left().unwrap_or(LAST_LEASE_PAUSE);
        if left.is_zero() {
            let waited = shown_duration(patience.limit().unwrap_or_default());
            return Err(leased.refusal(patience.target).with_hint(format!("waited {waited} for its end")));
        }
        std::thread::sleep(pause.min(left).min(leased.left));
        place.lease.dir.refresh();
        match visitor.kept_out(&place.lease, patience.target) {
            Ok(Some(still)) => leased = still,
            // An error too is for the one who has the lock to find.
            Ok(None) | Err(_) => return Ok(()),
        }
        pause = (pause * 3 / 2).min(LAST_LEASE_PAUSE) * stretch / 100;
    }
}
