//! The link protocol, for file systems whose own locks cannot be trusted.
//!
//! The lock L is a file with a [`Record`] in it. Only operations that NFS does atomically take part: link, rename,
//! unlink. Their answers are not believed, since a reply can be lost after the deed: what counts is which inode has the
//! name afterwards. U is a file of our own beside L, with a record of our own, whole on the server before anything is
//! linked to it.
//!
//! ```text
//!   free      --link(U, L)-->                                                        held
//!   held      --mark(L, n), by the holder itself; unlink(L); unlink(mark)-->         free
//!   stale     --mark(L, n), by anybody; L still n and stale? rename(U, L); unlink(mark)-->  held by the breaker
//!   mark(X, n): link(U, X.break-n). Taken: is its own maker stale, with nonce p? Then break that mark first.
//! ```
//!
//! What makes it safe: a nonce n never comes back, and a lock with nonce n is only ever removed or replaced by who has
//! the mark `L.break-n`, the holder included. So a mark whose nonce is no longer the lock's is garbage for good, and
//! whoever makes one too late sees that L has changed and lets go. `tests/models/link.pml` is this protocol for a model
//! checker.
//!
//! The holder shows that it lives by setting the time of L, through a descriptor that it keeps, so that it can never
//! freshen up a successor's. Ages are differences between times that the file server gave, and the holder measures its
//! own silence on the boot clock: no clock needs to be right, and nothing is assumed but that no process stalls for the
//! stale time between two adjacent steps.
//!
//! All steps that make or remove names run with the clean-up mutex held: a process that is told to stop finishes them
//! first, and a waiter has nothing to leave behind.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::OFlags;

use super::access::{default_mode, open_to_others};
use super::below;
use super::heartbeat::LinkLock;
use super::held::{FileLock, Held};
use super::inherited::Intent;
use super::look::{Seen, insist, is_contention, look};
use super::patience::Patience;
use super::place::Place;
use super::record::{Here, Record, fresh_nonce};
use super::waiting::{GLANCE, GLANCES};
use crate::cleanup;
use crate::error::{Error, Result};
use crate::names::{is_mark_name, is_temp_name, mark_name, mark_stem, temp_name, temp_prefix};
use crate::notice::Notice;
use crate::options::{LockOptions, Wait};
use crate::remedy::Remedy;
use crate::shown::shown;
use crate::sys::dir::modified_and_links;
use crate::sys::host::boot_clock;
use crate::sys::{Dir, FileId, FileStatus};
use crate::target::Target;

/// How long a holder may be silent if nothing else is asked for.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// The pauses of a waiter: from the first, growing, to the last. Every look asks the server.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// Marks on marks on marks: each level needs another process to have died in the middle of breaking.
const DEEPEST: u32 = 8;
/// A file of our own with a record of our own, not the lock yet. Dropping it removes its own name only.
#[derive(Debug)]
struct Unique<'a> {
    place: &'a Place,
    here: &'a Here,
    name: OsString,
    id: FileId,
    record: Record,
    /// The server's clock when it was made.
    modified: i128,
    /// Ours, no later.
    born: Duration,
}

impl<'a> Unique<'a> {
    fn create(place: &'a Place, target: &Target, options: &LockOptions, here: &'a Here) -> io::Result<Unique<'a>> {
        let mode = options.mode.unwrap_or_else(|| default_mode(target.status.as_ref()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let (record, born, name, mut file) = loop {
            let record = Record::of_this_process(here, options.stale_after.unwrap_or(STALE_AFTER));
            let (born, name) = (boot_clock(), temp_name(&place.name, &record.nonce));
            match place.dir.open_file(&name, flags, mode) {
                Ok(file) => break (record, born, name, file),
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                Err(e) => return Err(e),
            }
        };
        let id = FileId { dev: 0, ino: 0 };
        // From here on dropping it removes the file.
        let mut unique = Unique { place, here, name, id, record, modified: 0, born };
        let status = FileStatus::of(&file)?;
        unique.id = status.id;
        // Before anything is written: a client to which the server delegates the file sets its times by its own clock.
        (unique.modified, _) = modified_and_links(&file)?;
        open_to_others(&file, status.mode, mode, target.status.as_ref())?;
        file.write_all(unique.record.to_json().as_bytes())?;
        // On the server, before anyone can find it: a record that is not there yet would look like a flock holder's
        // file.
        file.sync_data()?;
        // Closed before its name goes: an NFS client keeps a removed file that is open under a name `.nfs…`.
        Ok(unique)
    }

    fn dir(&self) -> &Dir {
        &self.place.dir
    }

    fn fail(&self, e: io::Error) -> Error {
        Error::io(&self.place.path, e)
    }

    /// `link(U, name)`: true if `name` is ours afterwards.
    fn link_as(&self, name: &OsStr) -> Result<bool> {
        let outcome = self.dir().link(&self.name, self.dir(), name);
        self.settle(
            name,
            outcome.map_err(|e| match e.raw_os_error() {
                Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS) => self
                    .fail(e)
                    .because("this file system cannot link files, so there are no link locks here")
                    .with_remedy(Remedy::UseFlock),
                _ => self.fail(e),
            }),
        )
    }

    /// What came of a step that should have made `name` ours. An answer may be about a repetition of what had been
    /// done.
    fn settle(&self, name: &OsStr, outcome: Result<()>) -> Result<bool> {
        let there = insist(|| self.dir().status(name)).map_err(|e| self.fail(e));
        if matches!(&there, Ok(Some(status)) if status.id == self.id) {
            return Ok(true);
        }
        match outcome.and(there) {
            Err(e) if !e.errno().is_some_and(is_contention) => Err(e),
            _ => Ok(false),
        }
    }

    /// How long a record's holder has been silent, by the server's clock.
    fn silence(&self, modified: i128) -> Duration {
        let nanos = u64::try_from(self.modified - modified).unwrap_or(0);
        Duration::from_nanos(nanos)
    }

    fn is_stale(&self, record: &Record, modified: i128) -> bool {
        record.is_dead(self.here) || self.silence(modified) >= record.stale_after()
    }

    /// Makes `name`, whose record has `nonce` and is stale, ours: true if it is.
    fn replace(&self, name: &OsStr, nonce: &str, depth: u32) -> Result<bool> {
        let mark = mark_name(name, nonce);
        if !self.link_as(&mark)? {
            // Somebody is breaking it, or died while doing so.
            let Seen::Record { record, modified } = look(self.dir(), &mark)? else { return Ok(false) };
            if depth == DEEPEST
                || !self.is_stale(&record, modified)
                || !self.replace(&mark, &record.nonce, depth + 1)?
            {
                return Ok(false);
            }
        }
        // The mark is ours: nobody else replaces or removes the incarnation `nonce` of `name` now.
        let outcome = self.replace_marked(name, nonce);
        // Not after so long a stall that others may have taken it over; then it stays, for them or the next sweep.
        if self.is_fresh() {
            self.remove(&mark);
        }
        outcome
    }

    /// The same, the mark being ours: `rename(U2, name)`, U2 being a second link to U.
    fn replace_marked(&self, name: &OsStr, nonce: &str) -> Result<bool> {
        let second = temp_name(&self.place.name, &fresh_nonce());
        if !self.link_as(&second)? {
            return Ok(false);
        }
        let outcome = look(self.dir(), name).and_then(|seen| match seen {
            Seen::Record { record, modified }
                if record.nonce == nonce && self.is_stale(&record, modified) && self.is_fresh() =>
            {
                let outcome = self.dir().rename(&second, self.dir(), name);
                outcome.map_err(|e| self.fail(e).during("cannot break the stale lock"))
            }
            _ => Ok(()),
        });
        self.remove(&second);
        self.settle(name, outcome)
    }

    /// Freshens U up, and with it the marks that are links to it, right before the step that counts. False: this
    /// process stalled for so long before that others may already be taking its marks for a dead one's.
    fn is_fresh(&self) -> bool {
        self.dir().touch(&self.name).is_ok() && !self.record.is_late(self.born)
    }

    /// What stays is garbage that the next breaker or a housekeeper recognises.
    fn remove(&self, name: &OsStr) {
        let _ = self.dir().unlink(name);
    }

    /// Removes what crashed processes left beside this lock: marks for nonces that are gone, and files like this one of
    /// processes that are.
    fn sweep(&self) {
        let Ok(names) = self.dir().names() else { return };
        // Read after the list: a mark on the list whose nonce is not the lock's now can never mean anything again.
        let live = self.live_marks();
        let mark_stem = mark_stem(&self.place.name);
        let temp_stem = temp_prefix(&self.place.name, 255);
        for name in names {
            let is_mark =
                name.as_bytes().starts_with(mark_stem.as_bytes()) && is_mark_name(&name) && !live.contains(&name);
            let is_temp = name.as_bytes().starts_with(temp_stem.as_bytes()) && is_temp_name(&name) && name != self.name;
            // Only what has a record in it is of this protocol: a temporary file may be a writer's whose target is
            // called like this lock.
            if !is_mark && !is_temp {
                continue;
            }
            let Ok(Seen::Record { record, modified }) = look(self.dir(), &name) else { continue };
            if is_mark || self.is_stale(&record, modified) {
                self.remove(&name);
            }
        }
    }

    /// The marks that mean something now: that for the lock, that for this mark, and so on.
    fn live_marks(&self) -> Vec<OsString> {
        let mut live = Vec::new();
        let mut name = self.place.name.clone();
        while let Ok(Seen::Record { record, .. }) = look(self.dir(), &name) {
            name = mark_name(&name, &record.nonce);
            live.push(name.clone());
            if live.len() > DEEPEST as usize {
                break;
            }
        }
        live
    }
}

impl Drop for Unique<'_> {
    fn drop(&mut self) {
        self.remove(&self.name);
    }
}

/// Why an attempt was none.
enum Obstacle {
    /// Somebody else was faster, or is at it.
    Busy,
    /// Its holder has given a sign of life; not stale before this moment of the boot clock.
    Alive(Duration),
    Failed(Error),
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Obstacle {
        Obstacle::Failed(error)
    }
}

/// One try to take the lock, of which `seen` was seen. With the clean-up mutex held.
fn attempt(
    place: &Place,
    target: &Target,
    options: &LockOptions,
    here: &Here,
    seen: &Seen,
    goal: Goal,
) -> std::result::Result<Arc<LinkLock>, Obstacle> {
    let unique = Unique::create(place, target, options, here).map_err(|e| place.explain(&target.given, e))?;
    let ours = match seen {
        Seen::Absent => unique.link_as(&place.name)?,
        Seen::Empty => false,
        Seen::Record { record, modified } if !unique.is_stale(record, *modified) => {
            let left = record.stale_after().saturating_sub(unique.silence(*modified));
            return Err(Obstacle::Alive(unique.born + left));
        }
        Seen::Record { record, .. } => {
            let ours = unique.replace(&place.name, &record.nonce, 0)?;
            if ours && goal != Goal::Clearance {
                unique.sweep();
            }
            ours
        }
    };
    if !ours {
        return Err(Obstacle::Busy);
    }
    let lock = Arc::new(LinkLock::new(place, unique.id, unique.record.clone(), unique.born));
    // U goes first: a client to which the server delegates the file gives it back then, so that signs of life get
    // there.
    drop(unique);
    if let Err(e) = lock.open() {
        let _ = lock.relinquish();
        return Err(if e.raw_os_error().is_some_and(is_contention) {
            Obstacle::Busy
        } else {
            Error::io(&place.path, e).into()
        });
    }
    Ok(lock)
}

/// Takes the lock at `place`, for messages the one of `target`.
pub(super) fn acquire(
    place: &Place,
    target: &Target,
    options: &LockOptions,
    intent: Intent,
    patience: &mut Patience<'_>,
) -> Result<FileLock> {
    if let Some(lock) = below::go_on(place, target, options, intent, patience)? {
        return Ok(lock);
    }
    loop {
        if let Some(lock) = pursue(place, target, options, intent, patience, Goal::Lock)? {
            return Ok(lock);
        }
    }
}

/// Waits until no link lock stands at `place`, breaking a stale one: for those who lock by flock.
pub(super) fn wait_for_passage(
    place: &Place,
    target: &Target,
    options: &LockOptions,
    intent: Intent,
    patience: &mut Patience<'_>,
) -> Result<()> {
    match pursue(place, target, options, intent, patience, Goal::Passage)? {
        Some(broken) => broken.release(),
        None => Ok(()),
    }
}

/// What an attempt is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Lock,
    /// Only that nobody else's record is there.
    Passage,
    /// The same for a housekeeper, who looks at what is beside it for itself.
    Clearance,
}

/// Waits and tries, as `patience` says.
pub(super) fn pursue(
    place: &Place,
    target: &Target,
    options: &LockOptions,
    intent: Intent,
    patience: &mut Patience<'_>,
    goal: Goal,
) -> Result<Option<FileLock>> {
    let here = Here::now();
    let mut pause = FIRST_PAUSE;
    // Waiters that started together must not go on looking together: each has its own rhythm.
    let stretch = 100 + std::process::id() % 50;
    let mut glances = 0;
    // A holder known to live: until then there is no use in asking the server for the time.
    let mut alive: Option<(String, Duration)> = None;
    loop {
        let seen = look(&place.dir, &place.name)?;
        let worth_it = match &seen {
            Seen::Absent | Seen::Empty if goal != Goal::Lock => return Ok(None),
            Seen::Absent => true,
            Seen::Empty => false,
            Seen::Record { record, .. } => {
                let alive =
                    alive.as_ref().is_some_and(|(nonce, until)| *nonce == record.nonce && boot_clock() < *until);
                !alive || record.is_dead(&here)
            }
        };
        if worth_it {
            let taken = cleanup::make(|| {
                let lock = attempt(place, target, options, &here, &seen, goal)?;
                Ok((lock.clone(), Held::Link(lock)))
            });
            match (taken, &seen) {
                (Ok((lock, ticket)), _) => {
                    lock.keep_alive();
                    let (held, observer) = (Held::Link(lock), patience.observer.clone());
                    return Ok(Some(FileLock { ticket: Some(ticket), held, intent, observer }));
                }
                (Err(Obstacle::Failed(e)), _) => return Err(e),
                (Err(Obstacle::Alive(until)), Seen::Record { record, .. }) => {
                    alive = Some((record.nonce.clone(), until));
                }
                (Err(Obstacle::Alive(_) | Obstacle::Busy), _) => {}
            }
        }
        if patience.wait == Wait::No {
            glances += 1;
            if glances > GLANCES {
                return Err(given_up(patience, place, &here, &seen));
            }
            sleep(GLANCE);
            continue;
        }
        let left = patience.left().unwrap_or(LAST_PAUSE);
        if left.is_zero() {
            return Err(given_up(patience, place, &here, &seen));
        }
        if matches!(seen, Seen::Empty) && !patience.told {
            patience.tell_waiting(&place.path);
            patience.observer.tell(&Notice::Warning { path: &place.path, text: EMPTY });
        }
        patience.tell_waiting(&place.path);
        sleep(pause.min(left));
        pause = (pause * 3 / 2).min(LAST_PAUSE) * stretch / 100;
    }
}

const EMPTY: &str = "an empty lock file is of a holder that uses flock; if that one has crashed, remove the file";

fn given_up(patience: &Patience<'_>, place: &Place, here: &Here, seen: &Seen) -> Error {
    let error = patience.given_up();
    match seen {
        Seen::Absent => error,
        Seen::Empty => error.with_hint(format!("{}: {EMPTY}", shown(&place.path))),
        Seen::Record { record, .. } => error.held_by(Some(record.holder(here))),
    }
}
