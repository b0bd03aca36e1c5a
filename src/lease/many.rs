//! The locks of several targets at once, in an order that is the same for every caller, so that no two callers wait for
//! each other.
//!
//! ```text
//!   none ──plan: resolve all, sort──> planned ──lock each, in the order──> all held
//!                planned ──another's lease──> none; wait for its end; again
//!                planned ──a target means another place by now──> none; again
//! ```
//!
//! Nothing is held while this waits for the end of a lease: its owner may need any of the locks.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::door::{Outcome, Purpose, lock_target, lock_unless_leased, tell_locked, wait_for_lease};
use super::visitor::{Leased, Visitor};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{FileLock, Patience, Place};
use crate::notice::Observer;
use crate::options::LockOptions;
use crate::target::{Resolve, Target};

/// What decides the order: the lock file's name, then its directory. The same for every process that sees these files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    name: OsString,
    ino: u64,
    dev: u64,
}

impl Rank {
    fn of(place: &Place) -> Rank {
        let dir = place.dir.id();
        Rank { name: place.name.clone(), ino: dir.ino, dev: dir.dev }
    }
}

/// What a round leads to.
enum Round {
    Held(Vec<(usize, Target, Place, FileLock)>),
    /// Nothing is held. The target of this number is leased.
    Leased(usize, Leased, Box<Place>),
    /// Nothing is held. A target means another file by now.
    Moved,
}

impl FileLock {
    /// Takes the locks of all `targets`, or none. [`LockOptions::wait`] is about all of them together. Several callers
    /// never wait for each other, whatever the order of their targets. A target that is named twice is locked once.
    ///
    /// # Errors
    ///
    /// As [`FileLock::acquire`]. [`ErrorKind::Usage`]: [`LockOptions::file`] names one lock file for several targets.
    pub fn acquire_all(
        targets: &[impl AsRef<Path>],
        options: &LockOptions,
        observer: &Observer,
    ) -> Result<Vec<FileLock>> {
        let given: Vec<PathBuf> = targets.iter().map(|target| target.as_ref().to_owned()).collect();
        let how = Resolve { follow: options.follow, mkdir: false };
        let all = lock_targets(&given, how, options, &Visitor::of(options), observer, Purpose::Hold)?;
        Ok(all.into_iter().map(|(_, _, lock)| lock).collect())
    }
}

/// Locks all of `given`, or none, as [`lock_target`](super::lock_target) does with one. Those that are the same file come
/// once. The result is in the order of `given`.
pub(crate) fn lock_targets(
    given: &[PathBuf],
    how: Resolve,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    observer: &Observer,
    purpose: Purpose,
) -> Result<Vec<(Target, Place, FileLock)>> {
    if let (Some(file), true) = (&options.file, given.len() > 1) {
        let reason = "one lock file cannot be the lock of several targets";
        return Err(Error::new(ErrorKind::Usage, reason).on(file));
    }
    if let [path] = given {
        return lock_target(path, how, options, visitor, observer, purpose, |_, _| Ok(())).map(|one| vec![one]);
    }
    let mut patience: Vec<Patience<'_>> = given.iter().map(|path| Patience::new(path, options, observer)).collect();
    loop {
        let mut plan: Vec<(Rank, usize)> = Vec::new();
        for (number, path) in given.iter().enumerate() {
            let rank = Rank::of(&Place::of(&Target::resolve(path, how)?, options)?);
            if let Err(at) = plan.binary_search_by(|(other, _)| other.cmp(&rank)) {
                plan.insert(at, (rank, number));
            }
        }
        match lock_in_order(&plan, how, options, visitor, purpose, &mut patience)? {
            Round::Held(all) => {
                for (number, _, _, lock) in &all {
                    tell_locked(&patience[*number], lock);
                }
                return Ok(all.into_iter().map(|(_, target, place, lock)| (target, place, lock)).collect());
            }
            Round::Leased(number, leased, place) => wait_for_lease(leased, &mut patience[number], visitor, &place)?,
            Round::Moved => {}
        }
    }
}

fn lock_in_order(
    plan: &[(Rank, usize)],
    how: Resolve,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    purpose: Purpose,
    patience: &mut [Patience<'_>],
) -> Result<Round> {
    // In the order of the numbers.
    let mut all: Vec<(usize, Target, Place, FileLock)> = Vec::with_capacity(plan.len());
    for (rank, number) in plan {
        let moved = Cell::new(false);
        let stays = |_: &Target, place: &Place| {
            if Rank::of(place) == *rank {
                return Ok(());
            }
            moved.set(true);
            Err(Error::new(ErrorKind::LockLost, "it has come to mean another file"))
        };
        match lock_unless_leased(how, options, visitor, purpose, &mut patience[*number], stays) {
            Ok(Outcome::Locked(target, place, lock)) => {
                let at = all.partition_point(|(other, ..)| other < number);
                all.insert(at, (*number, target, place, lock));
            }
            Ok(Outcome::Leased(leased, place)) => return Ok(Round::Leased(*number, leased, Box::new(place))),
            Err(_) if moved.get() => return Ok(Round::Moved),
            Err(error) => return Err(error),
        }
    }
    Ok(Round::Held(all))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::lease::Lease;
    use crate::options::Wait;

    #[test]
    fn all_or_none_and_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink("b", path("link")).unwrap();
        let options = LockOptions { wait: Wait::No, ..LockOptions::default() };
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let all = FileLock::acquire_all(&[path("b"), path("a"), path("link")], &options, &Observer::default()).unwrap();
        let locked: Vec<_> = all.iter().map(|lock| lock.path().file_name().unwrap().to_owned()).collect();
        assert_eq!(locked, ["b.lock", "a.lock"]);
        let refused = FileLock::acquire_all(&[path("0"), path("b")], &options, &Observer::default()).unwrap_err();
        assert_eq!((refused.kind(), refused.path()), (ErrorKind::LockBusy, Some(&*path("b"))));
        drop(all);
        assert_eq!(names(), 1, "nothing is left");
        assert!(FileLock::acquire_all(&[] as &[&Path], &options, &Observer::default()).unwrap().is_empty());
        let one = LockOptions { file: Some(path("l")), ..LockOptions::default() };
        let refused = FileLock::acquire_all(&[path("a"), path("b")], &one, &Observer::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage);
    }

    /// The limit is about all of them, and nothing is held while it waits for a lease.
    #[test]
    fn the_lease_of_one_keeps_all_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let free = LockOptions { wait: Wait::No, ..LockOptions::default() };
        let lease = Lease::acquire(path("b"), "other", Duration::from_millis(400), &free).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                FileLock::acquire_all(&[path("a"), path("b")], &LockOptions::default(), &Observer::default())
            });
            std::thread::sleep(Duration::from_millis(100));
            FileLock::acquire(path("a"), &free).unwrap().release().unwrap();
            assert_eq!(waiter.join().unwrap().unwrap().len(), 2);
        });
        let lease_again = Lease::acquire(path("b"), "third", Duration::from_secs(60), &free).unwrap();
        let short = LockOptions { wait: Wait::For(Duration::from_millis(100)), ..LockOptions::default() };
        let started = Instant::now();
        let refused = FileLock::acquire_all(&[path("a"), path("b")], &short, &Observer::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Leased);
        assert!(started.elapsed() >= Duration::from_millis(100));
        drop((lease, lease_again));
    }
}
