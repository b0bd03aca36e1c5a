//! A lock that is held, by either method.
//!
//! ```text
//!   listed ──take──> held ──release, or dropped──> given back
//!     └──take fails, or a signal──> given back
//! ```
//!
//! `list` opens a lock file and puts it on the clean-up list in one step: whoever makes a lock file, or waits for its
//! lock, may be the one who has to remove it. The thread that acquires makes every move, but on a signal the signal thread
//! gives back what is on the list. Who removes the file then, and when, is up to the method: flock.rs, heartbeat.rs.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flock::LockFile;
use super::heartbeat::LinkLock;
use super::inherited::{self, Ancestor, HandOver, Intent};
use super::own::{self, Own};
use super::place::Place;
use super::request::Request;
use super::waiting::Waited;
use crate::cleanup::{self, Mark, Ticket, Undo};
use crate::duration::shown_duration;
use crate::error::{Error, ErrorKind, Result};
use crate::notice::{Notice, Observer};
use crate::shown::shown;

/// Why a release takes its time.
pub(super) const STILL_AT_WORK: &str =
    "processes that were started under the lock still work under it: waiting for their end";

/// A lock of either kind that this process holds or, by flock, is about to hold.
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

    /// Whether it is the lock at `place`.
    pub(super) fn is_at(&self, place: &Place) -> bool {
        let (dir, name) = match self {
            Held::Flock(file) => file.place(),
            Held::Link(lock) => lock.place(),
        };
        dir.id() == place.dir.id() && name == place.name
    }

    /// That of the link lock under which this is, if it is one or is below one.
    pub(crate) fn nonce(&self) -> Option<&str> {
        match self {
            Held::Flock(file) => file.nonce(),
            Held::Link(lock) => Some(lock.nonce()),
        }
    }

    pub(crate) fn method(&self) -> &'static str {
        match self {
            Held::Flock(file) if file.ancestor().is_some() => "inherited",
            Held::Flock(_) => "flock",
            Held::Link(_) => "link",
        }
    }
}

impl Undo for Held {
    fn undo(&self) -> io::Result<()> {
        match self {
            Held::Flock(file) => file.relinquish(),
            Held::Link(lock) => lock.relinquish(),
        }
    }
}

/// Opens a file to be locked for `request`, and lists it.
pub(super) fn list(
    request: &Request<'_, '_>,
    open: impl FnOnce() -> io::Result<LockFile>,
) -> Result<(Arc<LockFile>, Ticket)> {
    let listed = cleanup::make(|| {
        let file = Arc::new(open()?);
        Ok((file.clone(), Held::Flock(file)))
    });
    listed.map_err(|e| request.place.explain(&request.target.given, e))
}

/// A held lock.
///
/// Dropping it releases the lock, also while a panic unwinds. [`FileLock::release`] does the same and returns the error,
/// if any. In a forked child, dropping the copy only closes a descriptor: the parent's lock stays.
///
/// Locks are advisory (flock(2)): they exclude only those who take them. Two threads of one process exclude each other as
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
#[must_use = "dropping it releases the lock"]
pub struct FileLock {
    /// `None` once released.
    pub(super) ticket: Option<Ticket>,
    pub(crate) held: Held,
    pub(super) intent: Intent,
    pub(super) observer: Observer,
    /// When it was taken.
    pub(crate) since: Instant,
    /// `None` of a lock that belongs to another value or process.
    pub(super) own: Option<Own>,
    /// The lock of this process that it is a part of.
    pub(super) under: Option<Mark>,
}

/// What an attempt to lock a file has led to.
#[derive(Debug)]
pub(super) enum Taken {
    Lock(FileLock),
    /// It would have waited for this ancestor, under whose lock it is to go on.
    Below(Ancestor),
}

impl FileLock {
    /// Locks an open file that has been listed, waiting as `request` says.
    pub(super) fn take(file: &Arc<LockFile>, ticket: Ticket, request: &mut Request<'_, '_>) -> Result<Taken> {
        let patience = &mut *request.patience;
        let (held, observer) = (Held::Flock(file.clone()), patience.observer.clone());
        let (intent, since) = (request.intent, Instant::now());
        let lock = FileLock { ticket: Some(ticket), held, intent, observer, since, own: None, under: None };
        if patience.briefly {
            inherited::mark_brief(file.descriptor());
        }
        let cannot = |e: io::Error| {
            let error = Error::io(&request.target.given, e).during("cannot lock");
            match (file.ancestor(), error.errno()) {
                (Some(_), Some(libc::EBADF)) => {
                    error.because("The lock is held above this process, which may not write the lock file to share it")
                }
                _ => error,
            }
        };
        let brief = patience.briefly;
        let taken = |lock| {
            if !brief {
                file.show_since();
            }
            Ok(Taken::Lock(lock))
        };
        if file.lock_now().map_err(cannot)? {
            return taken(lock);
        }
        own::ensure_not_this_thread(request)?;
        let patience = &mut *request.patience;
        match file.wait(patience).map_err(cannot)? {
            // Dropped, and so given back: the lock became free while the observer ended the wait for it.
            Waited::Locked if patience.stopped => Err(patience.given_up()),
            Waited::Locked => taken(lock),
            Waited::Not(around) => match around.ensure_not_itself(&request.target.given, patience.wait)? {
                Some(nearer) => Ok(Taken::Below(nearer)),
                None => Err(own::named(patience.given_up(), request.place).held_by(file.holder())),
            },
        }
    }

    /// What to give a child process so that awrite, in it or below it, goes on under this lock when it locks the same
    /// target, instead of waiting for ever. Those below still exclude each other.
    ///
    /// Releasing the lock waits for those who still work under it, and so does [`AtomicFile::commit`]. Then it is freed,
    /// whoever else has the descriptor. If this process is killed, the lock is held until the last process with the
    /// descriptor exits.
    ///
    /// Where nobody can go on under the lock, it is an error there to ask for it. That is so where the lock file may only be
    /// read, on file systems that are not local, and if a forked copy of this value hands the lock over first, which could
    /// not be waited for.
    ///
    /// [`AtomicFile::commit`]: crate::AtomicFile::commit
    ///
    /// # Errors
    ///
    /// The descriptor cannot be copied.
    pub fn hand_over(&self) -> Result<HandOver> {
        let outcome = match &self.held {
            Held::Flock(file) => file.hand_over(self.intent, self.is_own()),
            Held::Link(lock) => lock.hand_over(self.intent, self.is_own()),
        };
        outcome.map_err(|e| Error::io(self.path(), e).during("cannot hand the lock over"))
    }

    /// What to give a child process so that it waits for this lock as any other process does. It also loses the lock of an
    /// ancestor under which this one was taken.
    #[must_use]
    pub fn keep_back(&self) -> HandOver {
        match &self.held {
            Held::Flock(file) => file.keep_back(self.intent),
            Held::Link(lock) => lock.keep_back(self.intent),
        }
    }

    /// The path of the lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.held.path()
    }

    /// The descriptor that holds the lock; `None` for a lock by link(2). A copy of it that outlives this process keeps the
    /// lock held.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.held {
            Held::Flock(file) => Some(file.descriptor()),
            Held::Link(_) => None,
        }
    }

    /// Makes sure that this process still holds the lock. A `flock` ends with the process and not before. A link lock is
    /// lost when this process has been silent (stopped, suspended, cut off from the server) for as long as
    /// [`LockOptions::stale_after`] says, even if nobody has taken it since. [`AtomicFile::commit`] makes sure by itself,
    /// right before it replaces the target.
    ///
    /// [`AtomicFile::commit`]: crate::AtomicFile::commit
    /// [`LockOptions::stale_after`]: crate::LockOptions::stale_after
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`], or the error that kept it from finding out.
    pub fn ensure_held(&self) -> Result<()> {
        if self.under.as_ref().is_some_and(|lock| !lock.is_listed()) {
            let hint = "the lock that this went on under has been released";
            return Err(Error::new(ErrorKind::LockLost, "Lock lost").on(self.path()).with_hint(hint));
        }
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

    /// The same, and makes sure that the lock file still has its name. A program that makes and renames that file itself
    /// (git, for one) or a person may have taken it away; then another may have the lock by now.
    pub(crate) fn ensure_undisputed(&self) -> Result<()> {
        self.ensure_held()?;
        match &self.held {
            Held::Flock(file) if !file.has_its_name().map_err(|e| Error::io(self.path(), e))? => {
                let hint = format!("{} has been removed or replaced while this process held it", shown(self.path()));
                Err(Error::new(ErrorKind::LockLost, "Lock lost").on(self.path()).with_hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// How long a link lock lasts if no further sign of life of this process reaches the file server, as while that cannot
    /// be written. `None`: a `flock`, which lasts until it is released.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        match &self.held {
            Held::Flock(_) => None,
            Held::Link(lock) => Some(lock.left()),
        }
    }

    /// Whether the lock survives execve(2), if the new program has the descriptor. A `flock` does. A lock by link(2) does
    /// not: it needs signs of life from a thread.
    #[must_use]
    pub fn survives_exec(&self) -> bool {
        matches!(self.held, Held::Flock(_))
    }

    /// Ends the handing over of the lock: waits for those who work under it, and lets nobody begin to any more.
    pub(crate) fn take_back(&self) {
        let handed_on = match &self.held {
            Held::Flock(file) => file.is_handed_on(),
            Held::Link(_) => true,
        };
        if !handed_on || !self.is_own() {
            return;
        }
        let tell = || self.observer.tell(&Notice::Warning { path: self.path(), text: STILL_AT_WORK });
        match &self.held {
            Held::Flock(file) => file.take_back(tell),
            Held::Link(lock) => lock.take_back(tell),
        }
    }

    /// Not a forked copy, and not released.
    fn is_own(&self) -> bool {
        self.ticket.as_ref().is_some_and(Ticket::is_own)
    }

    /// Gives the lock back. A waiter gets it next. The lock file is removed unless somebody waits or it is to be kept.
    /// Waits for those who work under it: see [`FileLock::hand_over`].
    ///
    /// # Errors
    ///
    /// The lock file could not be removed. The lock is given back all the same.
    pub fn release(mut self) -> Result<()> {
        // Not within the step below, which a signal thread may have to wait for.
        self.take_back();
        let Some(ticket) = self.ticket.take() else { return Ok(()) };
        let outcome = ticket.remove();
        let held = self.since.elapsed();
        self.observer.tell(&Notice::Unlocked { lock_file: self.held.path(), held });
        outcome.map_err(|e| Error::io(self.held.path(), e).during("cannot remove the lock file"))
    }

    /// The same for a job that is done: the observer is warned of a lock file that could not be removed.
    pub(crate) fn release_or_warn(self) {
        let (path, observer) = (self.path().to_owned(), self.observer.clone());
        if let Err(e) = self.release() {
            observer.tell(&Notice::Warning { path: &path, text: &e.reason() });
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        self.take_back();
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::sync::Mutex;

    use super::super::flock::Above;
    use super::super::request::Patience;
    use super::*;
    use crate::options::LockOptions;
    use crate::sys::Dir;
    use crate::target::Target;

    /// A lock file that cannot be removed, as another user's in a sticky directory.
    struct Stuck;

    impl Undo for Stuck {
        fn undo(&self) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(libc::EPERM))
        }
    }

    #[test]
    fn a_file_that_stays_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Arc::new(Dir::open(dir.path()).unwrap());
        let target = Target::in_dir(&opened, OsStr::new("f")).unwrap();
        let options = LockOptions::default();
        let place = Place::of(&target, &options).unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let observer = Observer::new(move |notice| {
            if let Notice::Warning { path, text } = notice {
                heard.lock().unwrap().push(format!("{}: {text}", path.file_name().unwrap().to_str().unwrap()));
            }
        });
        let stuck = || {
            let patience = &mut Patience::new(&target.given, &options, &observer);
            let (target, options, intent) = (&target, &options, Intent::Exclusive);
            let request = &mut Request { place: &place, target, options, intent, patience };
            let (file, _removes) = list(request, || LockFile::open(request, &Above::Nobody)).unwrap();
            let ((), ticket) = cleanup::make(|| io::Result::Ok(((), Stuck))).unwrap();
            match FileLock::take(&file, ticket, request).unwrap() {
                Taken::Lock(lock) => lock,
                Taken::Below(_) => panic!("nobody is above"),
            }
        };
        let error = stuck().release().unwrap_err().to_string();
        assert!(error.ends_with("/f.lock: cannot remove the lock file: Operation not permitted"), "{error}");
        assert!(said.lock().unwrap().is_empty());
        stuck().release_or_warn();
        assert_eq!(*said.lock().unwrap(), ["f.lock: cannot remove the lock file: Operation not permitted"]);
    }
}
