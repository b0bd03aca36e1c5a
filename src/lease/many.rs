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
use std::cmp::Ordering;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::door::{Outcome, Purpose, lock_target, lock_unless_leased, tell_locked, wait_for_lease};
use super::visitor::{Leased, Visitor, ensure_not_fenced};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{FileLock, Patience, Place};
use crate::notice::Observer;
use crate::options::LockOptions;
use crate::shown::shown;
use crate::target::{Resolve, Target};

/// Refuses a target, of this number.
type Accept<'a> = &'a dyn Fn(usize, &Target, &Place) -> Result<()>;

/// What decides the order: the lock file's name, then its directory. The same for every process that sees these files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    name: OsString,
    ino: u64,
    dev: u64,
}

// Inlined, it would be in the sort eleven times.
#[inline(never)]
fn in_order(a: &(Rank, usize), b: &(Rank, usize)) -> Ordering {
    a.cmp(b)
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
        ensure_not_fenced(options)?;
        let given: Vec<PathBuf> = targets.iter().map(|target| target.as_ref().to_owned()).collect();
        let how = Resolve { follow: options.follow, mkdir: false };
        let accept = |_, _: &Target, _: &Place| Ok(());
        let all = lock_targets(&given, how, options, &Visitor::of(options), observer, Purpose::Hold, &accept)?;
        Ok(all.into_iter().map(|(_, _, lock)| lock).collect())
    }
}

/// Locks all of `given`, or none, as [`lock_target`](super::lock_target) does with one; `accept` is told the number of the
/// target. The result is in the order of `given`. Those that are the same file come once; to replace one file by several
/// is an error. The directories that were made belong to the targets below them.
pub(crate) fn lock_targets(
    given: &[PathBuf],
    how: Resolve,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    observer: &Observer,
    purpose: Purpose,
    accept: Accept<'_>,
) -> Result<Vec<(Target, Place, FileLock)>> {
    if let (Some(file), true) = (&options.file, given.len() > 1) {
        let reason = "one lock file cannot be the lock of several targets";
        return Err(Error::new(ErrorKind::Usage, reason).on(file));
    }
    if let [path] = given {
        let accept = |target: &Target, place: &Place| accept(0, target, place);
        return lock_target(path, how, options, visitor, observer, purpose, accept).map(|one| vec![one]);
    }
    let mut patience: Vec<Patience<'_>> = given.iter().map(|path| Patience::new(path, options, observer)).collect();
    loop {
        let mut plan = plan(given, how, options)?;
        if purpose == Purpose::Replace {
            ensure_together(&plan, given)?;
        }
        plan.ranks.dedup_by(|a, b| a.0 == b.0);
        match lock_in_order(&mut plan, how, options, visitor, purpose, &mut patience, accept)? {
            Round::Held(mut all) => {
                all.sort_unstable_by_key(|(number, ..)| *number);
                for (number, _, _, lock) in &all {
                    tell_locked(&patience[*number], lock);
                }
                if let Some(owner) = &plan.owner {
                    all.iter_mut().for_each(|(_, target, ..)| owner.share_dirs_with(target));
                }
                return Ok(all.into_iter().map(|(_, target, place, lock)| (target, place, lock)).collect());
            }
            Round::Leased(number, leased, place) => wait_for_lease(leased, &mut patience[number], visitor, &place)?,
            Round::Moved => {}
        }
    }
}

/// In which order the targets are locked.
struct Plan {
    ranks: Vec<(Rank, usize)>,
    /// As they were resolved, in the order of the paths; `None`: that one is to be resolved anew.
    targets: Vec<Option<Target>>,
    /// Of each target's directory, the device.
    devs: Vec<u64>,
    /// Has the directories that were made for the targets: their inode numbers are part of the order.
    owner: Option<Target>,
}

fn plan(given: &[PathBuf], how: Resolve, options: &LockOptions) -> Result<Plan> {
    let ranks = Vec::with_capacity(given.len());
    let mut plan = Plan { ranks, targets: Vec::with_capacity(given.len()), devs: Vec::new(), owner: None };
    let mut near = None;
    for (number, path) in given.iter().enumerate() {
        let mut target = Target::resolve_near(path, how, near.as_ref())?;
        near = Some(target.dir.clone());
        plan.ranks.push((Rank::of(&Place::of(&target, options)?), number));
        plan.devs.push(target.dir.id().dev);
        let kept = match &mut plan.owner {
            // What was made last is removed first.
            Some(owner) => {
                target.pass_dirs_to(owner);
                Some(target)
            }
            owner => {
                *owner = Some(target);
                None
            }
        };
        plan.targets.push(kept);
    }
    plan.ranks.sort_unstable_by(in_order);
    Ok(plan)
}

/// Refuses two names of one file, and files on several file systems: no sync and no crash is of both.
fn ensure_together(plan: &Plan, given: &[PathBuf]) -> Result<()> {
    if let Some(apart) = plan.devs.iter().position(|dev| *dev != plan.devs[0]) {
        let reason = format!("is on another file system than {}", shown(&given[0]));
        return Err(Error::new(ErrorKind::Usage, reason)
            .on(&given[apart])
            .with_hint("files can only be replaced together on one file system"));
    }
    let Some(same) = plan.ranks.windows(2).find(|two| two[0].0 == two[1].0) else { return Ok(()) };
    let (one, other) = (&given[same[0].1], &given[same[1].1]);
    let reason = format!("is the same file as {}: it would be replaced twice", shown(one));
    Err(Error::new(ErrorKind::Usage, reason).on(other))
}

fn lock_in_order(
    plan: &mut Plan,
    how: Resolve,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    purpose: Purpose,
    patience: &mut [Patience<'_>],
    accept: Accept<'_>,
) -> Result<Round> {
    let mut all: Vec<(usize, Target, Place, FileLock)> = Vec::with_capacity(plan.ranks.len());
    for (rank, number) in &plan.ranks {
        let moved = Cell::new(false);
        let stays = |target: &Target, place: &Place| {
            if Rank::of(place) == *rank {
                return accept(*number, target, place);
            }
            moved.set(true);
            Err(Error::new(ErrorKind::LockLost, "it has come to mean another file"))
        };
        let resolved = match plan.targets[*number].take() {
            Some(target) => target,
            None => {
                // Files of one directory share its descriptor.
                let near = all.last().map(|(_, target, ..)| target.dir.clone());
                Target::resolve_near(patience[*number].target, how, near.as_ref())?
            }
        };
        match lock_unless_leased(how, Some(resolved), options, visitor, purpose, &mut patience[*number], stays) {
            Ok(Outcome::Locked(target, place, lock)) => all.push((*number, target, place, lock)),
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
        let lease = Lease::acquire(path("b"), "other", Duration::from_secs(60), &free).unwrap();
        std::thread::scope(|scope| {
            let (told, waits) = std::sync::mpsc::channel();
            let observer = Observer::new(move |_| {
                let _ = told.send(());
            });
            let all = [path("a"), path("b")];
            let waiter = scope.spawn(move || FileLock::acquire_all(&all, &LockOptions::default(), &observer));
            waits.recv().unwrap();
            // It looks again from time to time, and holds both for that moment.
            let patient = LockOptions { wait: Wait::For(Duration::from_secs(30)), ..LockOptions::default() };
            FileLock::acquire(path("a"), &patient).unwrap().release().unwrap();
            lease.release().unwrap();
            assert_eq!(waiter.join().unwrap().unwrap().len(), 2);
        });
        let lease_again = Lease::acquire(path("b"), "third", Duration::from_secs(60), &free).unwrap();
        let short = LockOptions { wait: Wait::For(Duration::from_millis(100)), ..LockOptions::default() };
        let started = Instant::now();
        let refused = FileLock::acquire_all(&[path("a"), path("b")], &short, &Observer::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Leased);
        assert!(started.elapsed() >= Duration::from_millis(100));
        drop(lease_again);
    }
}
