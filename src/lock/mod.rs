//! The lock that every cooperating writer of a target takes: an advisory `flock` on `TARGET.lock`, a zero-length file
//! that exists only while somebody holds or wants it; or, where advisory locks cannot be trusted, that file as a record
//! of who holds it.
//!
//! ```text
//!   Place     where the lock file of a target is          (place.rs)
//!   LockFile  that file, open; maybe locked, maybe dead    (flock.rs: the protocol)
//!   Unique    a file of our own, to be linked to that name (link.rs: the protocol; record.rs: what is in it)
//!   LinkLock  the lock by link(2), held                    (heartbeat.rs)
//!   FileLock  the lock, held                               (here)
//!   Ancestor  a process above that holds it already        (inherited.rs; baton.rs: by link(2))
//! ```

mod baton;
mod descriptor;
pub(crate) mod filesystem;
mod flock;
mod heartbeat;
mod holder;
mod inherited;
mod link;
#[cfg(test)]
mod model;
mod place;
mod record;
mod waiting;

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cleanup::{self, Thing, Ticket};
use crate::duration::shown_duration;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Leased, Visitor};
use crate::notice::{Notice, Observer};
use crate::options::{LockMethod, LockOptions, Wait};
use crate::sys::Dir;
use crate::target::{Resolve, Target};

pub use descriptor::{lock_descriptor, unlock_descriptor};
#[cfg(fuzzing)]
pub(crate) use {holder::any_line, holder::any_words, inherited::any_entries, place::any_name, record::any_record};

pub(crate) use flock::{LockFile, default_mode, open_to_others};
pub(crate) use heartbeat::LinkLock;
pub use holder::Holder;
pub use inherited::HandOver;
use inherited::{Confirmed, Mode};
pub(crate) use link::{clear_mark, is_held_by_link, is_mark_name};
pub(crate) use place::{Place, Spot, leased_name, lock_name};

/// The pauses between looks at another's lease: from the first, growing, to the last. It ends in seconds or minutes, and
/// its record is read each time.
const FIRST_LEASE_PAUSE: Duration = Duration::from_millis(1);
const LAST_LEASE_PAUSE: Duration = Duration::from_millis(50);

/// A lock that this process holds or, by flock, is about to, of either kind.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Flock(Arc<LockFile>),
    Link(Arc<LinkLock>),
}

impl Held {
    fn path(&self) -> &Path {
        match self {
            Held::Flock(file) => file.path(),
            Held::Link(lock) => lock.path(),
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Held::Flock(file) if file.ancestor().is_some() => "inherited",
            Held::Flock(_) => "flock",
            Held::Link(_) => "link",
        }
    }

    /// Gives it back and removes its file. Runs with the clean-up mutex held.
    pub(crate) fn relinquish(&self) -> io::Result<()> {
        match self {
            Held::Flock(file) => file.relinquish(),
            Held::Link(lock) => lock.relinquish(),
        }
    }
}

/// A held lock.
///
/// Dropping it releases it, also while a panic unwinds; [`FileLock::release`] does the same and says whether it went
/// well. In a forked child, dropping its copy only closes a descriptor: the parent's lock stays.
///
/// Locks are advisory (flock(2)): they exclude those who ask for them. Two threads of one process exclude each other as
/// two processes do.
///
/// ```
/// # fn main() -> awrite::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("counter");
/// let lock = awrite::FileLock::acquire(&path, &awrite::LockOptions::default())?;
/// // … nobody else writes `path` through awrite now …
/// lock.release()
/// # }
/// ```
#[derive(Debug)]
pub struct FileLock {
    /// `None` once released.
    ticket: Option<Ticket>,
    held: Held,
    mode: Mode,
    observer: Observer,
}

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
        let how = Resolve { no_follow: options.no_follow, mkdir: false };
        let visitor = Visitor::of(options);
        let (_, _, lock) =
            lock_target(target.as_ref(), how, options, &visitor, observer, Purpose::Hold, |_, _| Ok(()))?;
        Ok(lock)
    }

    /// Locks an open lock file, waiting as `options` say.
    fn take(
        file: &Arc<LockFile>,
        ticket: Ticket,
        target: &Target,
        options: &LockOptions,
        mode: Mode,
        patience: &mut Patience<'_>,
    ) -> Result<FileLock> {
        let held = Held::Flock(file.clone());
        let lock = FileLock { ticket: Some(ticket), held, mode, observer: patience.observer.clone() };
        if patience.briefly {
            file.tell_looked_at();
        }
        match file.take(options, patience) {
            Ok(true) => Ok(lock),
            Ok(false) => Err(patience.given_up().held_by(file.holder())),
            Err(e) => Err(Error::io(&target.given, e).during("cannot lock")),
        }
    }

    /// What to give a child process so that whatever awrite does in it or below it with the same target goes on under
    /// this lock, instead of waiting for it for ever. Those below still exclude each other.
    ///
    /// While one of them does, releasing this lock leaves it to them: it ends when the last process has ended that was
    /// given the descriptor. Otherwise a release is one, whoever still has the descriptor.
    ///
    /// # Errors
    ///
    /// The descriptor cannot be copied.
    pub fn hand_over(&self) -> Result<HandOver> {
        let outcome = match &self.held {
            Held::Flock(file) => file.hand_over(self.mode),
            Held::Link(lock) => lock.hand_over(self.mode),
        };
        outcome.map_err(|e| Error::io(self.path(), e).during("cannot hand the lock over"))
    }

    /// What to give a child process so that it knows nothing of this lock, not even of that of an ancestor under which
    /// it was taken.
    #[must_use]
    pub fn keep_back(&self) -> HandOver {
        match &self.held {
            Held::Flock(file) => file.keep_back(),
            Held::Link(lock) => lock.keep_back(),
        }
    }

    /// The path of the lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.held.path()
    }

    /// The descriptor of the lock file through which the lock is held; `None` for a lock by link(2). A copy of it that
    /// outlives this process keeps the lock held.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.held {
            Held::Flock(file) => Some(file.descriptor()),
            Held::Link(_) => None,
        }
    }

    /// Makes sure that the lock is still this process's. A `flock` ends with the process and not before; a link lock is
    /// lost when this process has been silent (stopped, suspended, cut off from the server) for as long as
    /// [`LockOptions::stale_after`] says, whether or not somebody has taken it since. [`AtomicFile::commit`] asks this
    /// by itself, right before it replaces the target.
    ///
    /// [`AtomicFile::commit`]: crate::AtomicFile::commit
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`], or what kept it from finding out.
    pub fn ensure_held(&self) -> Result<()> {
        let hint = match &self.held {
            Held::Flock(file) if file.is_still_held()? => return Ok(()),
            Held::Link(lock) if lock.is_still_ours()? => return Ok(()),
            Held::Flock(_) => "the process above that held it has ended, or was stopped or cut off".to_owned(),
            Held::Link(lock) => {
                let silence = shown_duration(lock.stale_after());
                format!("this process was stopped or cut off for up to {silence}, and another may have the lock")
            }
        };
        Err(Error::new(ErrorKind::LockLost, "Lock lost").on(self.path()).with_hint(hint))
    }

    /// Whether the lock lasts if this process becomes another program by execve(2), which must then have its descriptor:
    /// a `flock` does, a lock by link(2) needs signs of life.
    #[must_use]
    pub fn survives_exec(&self) -> bool {
        matches!(self.held, Held::Flock(_))
    }

    /// Gives the lock back. Whoever waits has it next; the lock file is removed unless it is wanted or kept.
    ///
    /// # Errors
    ///
    /// The lock is given back in any case; the error says that its file could not be removed.
    pub fn release(mut self) -> Result<()> {
        let outcome = self.ticket.take().map_or(Ok(()), Ticket::remove);
        self.observer.tell(&Notice::Unlocked { lock_file: self.held.path() });
        outcome.map_err(|e| Error::io(self.held.path(), e).during("cannot remove the lock file"))
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
    let mode = match purpose {
        Purpose::Replace => Mode::Replacing,
        Purpose::Hold if options.shared => Mode::Shared,
        Purpose::Hold => Mode::Exclusive,
    };
    let mut patience = Patience::new(given, options, observer);
    let mut rounds = 0;
    loop {
        let mut target = Target::resolve(given, how)?;
        let before = target.status;
        let place = Place::of(&target, options)?;
        check(&target, &place)?;
        place.check(&target)?;
        let lock = match acquire_at(&place, &target, options, mode, &mut patience) {
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
                patience.outlast(leased, visitor, &place)?;
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

/// Takes the lock at `place`, for messages the one of `target`.
fn acquire_at(
    place: &Place,
    target: &Target,
    options: &LockOptions,
    mode: Mode,
    patience: &mut Patience<'_>,
) -> Result<FileLock> {
    if patience.method(place, options) == LockMethod::Link && !LockFile::is_below(place) {
        return link::acquire(place, target, options, mode, patience);
    }
    // Set once the environment has turned out to lie about who holds the lock.
    let mut deceived = false;
    loop {
        // Listed at once: whoever made or waits for a lock file may be the one who has to remove it.
        let opened = cleanup::make(|| {
            let mut file = LockFile::open(place, target.status.as_ref(), options)?;
            if !deceived {
                file.look_above();
            }
            let file = Arc::new(file);
            Ok((file.clone(), Thing::Lock(Held::Flock(file))))
        });
        let (file, ticket) = opened.map_err(|e| place.explain(&target.given, e))?;
        if file.has_content() {
            drop((file, ticket));
            // A record means that somebody holds the lock by link(2).
            if let Some(lock) = baton::go_on(place, target, options, mode, patience)? {
                return Ok(lock);
            }
            link::wait_for_passage(place, target, options, mode, patience)?;
            continue;
        }
        file.check(&place.path)?;
        if let Some(ancestor) = file.ancestor() {
            ancestor.permit(mode, &target.given)?;
        } else if let Some(pid) = inherited::lost_on_the_way(file.id()).filter(|pid| file.is_held_by(*pid)) {
            let reason = "The lock is held above this process, but its descriptor was closed on the way";
            return Err(Error::new(ErrorKind::Usage, reason).on(&target.given).with_hint(format!(
                "process {pid} holds it; start this one so that it inherits descriptors, or that one with --close"
            )));
        }
        let lock = FileLock::take(&file, ticket, target, options, mode, patience)?;
        if file.is_current().map_err(|e| Error::io(&place.path, e))? {
            match file.confirm() {
                Confirmed::Holds => return Ok(lock),
                Confirmed::Forged => deceived = true,
                Confirmed::Gone => {}
            }
        }
        // The previous holder removed the file that we waited for: our lock is on a dead inode. Or the ancestor under
        // whose lock we would have gone on has given it up.
        drop(lock);
    }
}

/// Takes the lock of `target` at its usual place, as it is and whoever has a lease of it, without waiting.
pub(crate) fn lock_as_found(target: &Target) -> Result<(Place, FileLock)> {
    let (mut options, observer) = (LockOptions { wait: Wait::No, ..LockOptions::default() }, Observer::default());
    let place = Place::of(target, &options)?;
    // What was there before stays there.
    options.keep = place.dir.status(&place.name).map_err(|e| Error::io(&place.path, e))?.is_some();
    let mut patience = Patience { briefly: true, ..Patience::new(&target.given, &options, &observer) };
    let lock = acquire_at(&place, target, &options, Mode::Exclusive, &mut patience)?;
    Ok((place, lock))
}

/// What a housekeeper's attempt to remove a record has come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cleared {
    Removed,
    /// It stays, for this reason.
    Kept(&'static str),
    Gone,
}

/// Removes the lock by link(2) called `name` in `dir`, if it is one and stale, as whoever wants it next would.
pub(crate) fn clear_link(dir: &Arc<Dir>, name: &OsStr, dry_run: bool) -> Result<Cleared> {
    let Some(target) = place::locked_name(name) else {
        return Ok(Cleared::Kept("its target cannot be told from its name"));
    };
    let target = Target::in_dir(dir, target).map_err(|e| Error::io(dir.join(name), e))?;
    link::clear(&Place::of(&target, &LockOptions::default())?, &target, dry_run)
}

/// Whether the lock at `place` is held, and by whom. Makes and removes nothing; the lock is taken for an instant.
pub(crate) fn look(place: &Place, target: &Target) -> Result<(bool, Option<Holder>)> {
    let Some(file) = LockFile::existing(place).map_err(|e| place.explain(&target.given, e))? else {
        return Ok((false, None));
    };
    if file.has_content() {
        return link::holder(place);
    }
    file.check(&place.path)?;
    let (options, observer) = (LockOptions { wait: Wait::No, ..LockOptions::default() }, Observer::default());
    let taken = file.take(&options, &mut Patience::new(&target.given, &options, &observer));
    match taken.map_err(|e| Error::io(&target.given, e).during("cannot look at the lock"))? {
        true => Ok((false, None)),
        false => Ok((true, file.holder())),
    }
}

/// How long a caller is willing to wait, and whether its observer knows that it does. One for all the rounds of an
/// acquisition.
pub(crate) struct Patience<'a> {
    target: &'a Path,
    wait: Wait,
    started: Instant,
    /// The observer has been told that we wait.
    told: bool,
    /// The lock is wanted for a moment only, and those who do not wait at all shall not fail because of it.
    briefly: bool,
    /// The observer has been told by which method.
    told_method: bool,
    observer: &'a Observer,
}

impl<'a> Patience<'a> {
    fn new(target: &'a Path, options: &LockOptions, observer: &'a Observer) -> Patience<'a> {
        let wait = match options.wait {
            Wait::For(limit) if limit.is_zero() => Wait::No,
            wait => wait,
        };
        Patience { target, wait, started: Instant::now(), told: false, briefly: false, told_method: false, observer }
    }

    /// The method to lock by at `place`.
    fn method(&mut self, place: &Place, options: &LockOptions) -> LockMethod {
        let (method, why) = match options.method {
            LockMethod::Auto => {
                let there = filesystem::of(place.dir.as_ref());
                (if there.trusted { LockMethod::Flock } else { LockMethod::Link }, there.name)
            }
            asked => (asked, "asked for"),
        };
        if !std::mem::replace(&mut self.told_method, true) {
            let by_link = method == LockMethod::Link;
            if by_link && options.method == LockMethod::Auto {
                let text = format!("{why}: advisory locks are unreliable here, using link locks");
                self.observer.tell(&Notice::Warning { path: self.target, text: &text });
            }
            if by_link && options.keep {
                let text = "a link lock is given back by removing its file: it cannot be kept in place";
                self.observer.tell(&Notice::Warning { path: self.target, text });
            }
            let text = format!("locking by {} ({why})", if by_link { "link" } else { "flock" });
            self.observer.tell(&Notice::Debug { path: &place.path, text: &text });
        }
        method
    }

    fn limit(&self) -> Option<Duration> {
        match self.wait {
            Wait::For(limit) => Some(limit),
            Wait::Forever | Wait::No => None,
        }
    }

    /// What is left of the limit; `None`: there is none.
    fn left(&self) -> Option<Duration> {
        self.limit().map(|limit| limit.saturating_sub(self.started.elapsed()))
    }

    fn tell_waiting(&mut self, lock_file: &Path) {
        if !self.told {
            self.told = true;
            self.observer.tell(&Notice::Waiting { target: self.target, lock_file, timeout: self.limit() });
        }
    }

    /// Waits, without the lock, until another's lease may have ended. What it finds is to be looked at again under the
    /// lock.
    fn outlast(&mut self, mut leased: Leased, visitor: &Visitor<'_>, place: &Place) -> Result<()> {
        if self.wait == Wait::No {
            return Err(leased.refusal(self.target));
        }
        self.tell_waiting(&place.path);
        let mut pause = FIRST_LEASE_PAUSE;
        // See waiting::poll.
        let stretch = 100 + std::process::id() % 50;
        loop {
            let left = self.left().unwrap_or(LAST_LEASE_PAUSE);
            if left.is_zero() {
                let waited = shown_duration(self.limit().unwrap_or_default());
                return Err(leased.refusal(self.target).with_hint(format!("waited {waited} for its end")));
            }
            std::thread::sleep(pause.min(left).min(leased.left));
            place.lease.dir.refresh();
            match visitor.kept_out(&place.lease, self.target) {
                Ok(Some(still)) => leased = still,
                // An error too is for the one who has the lock to find.
                Ok(None) | Err(_) => return Ok(()),
            }
            pause = (pause * 3 / 2).min(LAST_LEASE_PAUSE) * stretch / 100;
        }
    }

    fn given_up(&self) -> Error {
        match self.limit() {
            None => Error::new(ErrorKind::LockBusy, "File locked by another process"),
            Some(limit) => {
                let limit = shown_duration(limit);
                Error::new(ErrorKind::LockTimeout, format!("Lock acquisition timeout after {limit}"))
            }
        }
        .on(self.target)
    }
}
