//! A lock that is held, by whichever method.
//!
//! ```text
//!   taken ──release, drop──> given back, its file removed unless somebody wants it
//! ```

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use super::flock::LockFile;
use super::heartbeat::LinkLock;
use super::inherited::{HandOver, Intent};
use super::patience::Patience;
use crate::cleanup::{Ticket, Undo};
use crate::duration::shown_duration;
use crate::error::{Error, ErrorKind, Result};
use crate::notice::{Notice, Observer};
use crate::options::LockOptions;
use crate::target::Target;

/// A lock that this process holds or, by flock, is about to, of either kind.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Flock(Arc<LockFile>),
    Link(Arc<LinkLock>),
}

impl Held {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Held::Flock(file) => file.path(),
            Held::Link(lock) => lock.path(),
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

/// Gives the lock back and removes its file.
impl Undo for Held {
    fn undo(&self) -> io::Result<()> {
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
    pub(super) ticket: Option<Ticket>,
    pub(crate) held: Held,
    pub(super) intent: Intent,
    pub(super) observer: Observer,
}

impl FileLock {
    /// Locks an open lock file, waiting as `options` say.
    pub(super) fn take(
        file: &Arc<LockFile>,
        ticket: Ticket,
        target: &Target,
        options: &LockOptions,
        intent: Intent,
        patience: &mut Patience<'_>,
    ) -> Result<FileLock> {
        let held = Held::Flock(file.clone());
        let lock = FileLock { ticket: Some(ticket), held, intent, observer: patience.observer.clone() };
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
            Held::Flock(file) => file.hand_over(self.intent),
            Held::Link(lock) => lock.hand_over(self.intent),
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
