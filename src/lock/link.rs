//! The link protocol, for file systems whose own locks cannot be trusted.
//!
//! The lock L is a file with a [`LockRecord`] in it. The protocol uses only operations that NFS does atomically: link,
//! rename, unlink. It does not believe their results, because a reply can be lost after the deed. What counts is which
//! inode has the name afterwards. U is our own file beside L, with a record of our own. It is complete on the server
//! before anything is linked to it.
//!
//! ```text
//!   free   ──link(U, L)──────────────────────────────────────────────────────────────────────> held
//!   held   ──by the holder: mark(L, n); unlink(L); unlink(mark)──────────────────────────────> free
//!   stale  ──by anybody: mark(L, n); is L still n, and stale? rename(U, L); unlink(mark)─────> held by the breaker
//!
//!   mark(X, n):  link(U, X.break-n). If that exists: is its maker stale, with nonce p? Then break that mark first.
//! ```
//!
//! Why it is safe: a nonce n never comes back. A lock with nonce n is only removed or replaced by the process that has the
//! mark `L.break-n`; this includes the holder. So a mark whose nonce is not the lock's is garbage for good, and a process
//! that makes a mark too late sees that L has changed and lets go. `tests/models/link.pml` is this protocol for a model
//! checker.
//!
//! The holder gives signs of life by setting the time of L. It does so through a descriptor that it keeps, so it never
//! refreshes a successor's lock. Ages are differences between two times of the file server, and the holder measures its
//! own silence on the boot clock. So no clock needs to be right. The one assumption is that no process stalls for the stale
//! time between two adjacent steps.
//!
//! Every step that makes or removes a name runs with the clean-up mutex held. A process that is told to stop finishes such
//! a step first, and a waiter leaves nothing behind.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::below;
use super::heartbeat::LinkLock;
use super::held::{FileLock, Held};
use super::look::{Seen, ask_again, is_contention, is_record_of, look};
use super::own;
use super::place::Place;
use super::record::{Here, LockRecord, fresh_nonce};
use super::request::Request;
use super::waiting::{Pauses, TRIES, TRY_PAUSE};
use super::writers::Writers;
use crate::cleanup;
use crate::error::{Error, Result};
use crate::names::{TempNames, is_mark_name, is_temp_name, mark_name, mark_stem, temp_stem};
use crate::notice::Notice;
use crate::options::Wait;
use crate::remedy::Remedy;
use crate::shown::shown;
use crate::stage::remove_of_lost_lock;
use crate::sys::dir::modified_and_links;
use crate::sys::host::boot_clock;
use crate::sys::{self, Dir, FileId, FileStatus, lease};

/// How long a holder may be silent, unless the options say otherwise.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// The pauses of a waiter. It asks the server after each.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A directory of this size is read in a moment, for leftovers.
const QUICKLY_READ: u64 = 16 * 1024;
/// How deep marks on marks may go. Each level needs one more process that died while it was breaking a lock.
const DEEPEST: u32 = 8;

/// A file of our own with a record of our own, called U above. Dropping it removes its own name only, so not the lock
/// that it may have become.
#[derive(Debug)]
struct Unique<'a> {
    place: &'a Place,
    here: &'a Here,
    name: OsString,
    id: FileId,
    record: LockRecord,
    /// When it was made, by the server's clock.
    modified: i128,
    /// Just before that, by the boot clock.
    born: Duration,
}

impl<'a> Unique<'a> {
    fn create(request: &Request<'a, '_>, here: &'a Here) -> io::Result<Unique<'a>> {
        let (place, options) = (request.place, request.options);
        let mode = Writers::first_mode(options.mode);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let record = LockRecord::of_this_process(here, options.stale_after.unwrap_or(STALE_AFTER));
        let born = boot_clock();
        let names = TempNames::new(&place.name, Some(&record.nonce));
        let (mut file, name) = names.first_free(&place.dir, |name| place.dir.open_file(name, flags, mode))?;
        let id = FileId { dev: 0, ino: 0 };
        // From here on, dropping it removes the file.
        let mut unique = Unique { place, here, name, id, record, modified: 0, born };
        let status = FileStatus::of(&file)?;
        unique.id = status.id;
        // Before anything is written: a client to which the server has delegated the file sets times by its own clock.
        (unique.modified, _) = modified_and_links(&file)?;
        place.lease.writers.give(&file, &status, options.mode)?;
        file.write_all(unique.record.to_json().as_bytes())?;
        // It must be on the server before others can find it: without content it would look like the file of a flock
        // holder.
        file.sync_data()?;
        sys::flush(&file)?;
        // Closed before it is unlinked: an NFS client renames an open file to `.nfs…` instead of removing it.
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
        self.is_ours(
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

    /// Whether `name` is ours after a step that should have made it so. The step's `outcome` alone does not tell: NFS may
    /// report on a repetition of what it has done already.
    fn is_ours(&self, name: &OsStr, outcome: Result<()>) -> Result<bool> {
        let there = ask_again(|| {
            let status = self.dir().status(name)?;
            let is_ours = |status: FileStatus| {
                Ok(status.id == self.id || is_record_of(self.dir(), name, &self.record.nonce, self.id)?)
            };
            status.map_or(Ok(false), is_ours)
        });
        if let Ok(true) = there {
            return Ok(true);
        }
        match outcome.and(there.map_err(|e| self.fail(e))) {
            Err(e) if !e.errno().is_some_and(is_contention) => Err(e),
            _ => Ok(false),
        }
    }

    /// How long the holder has been silent, by the server's clock.
    fn silence(&self, modified: i128) -> Duration {
        let nanos = u64::try_from(self.modified - modified).unwrap_or(0);
        Duration::from_nanos(nanos)
    }

    /// Whether the record of this age keeps nobody out: its holder has died or fallen silent, or is a user who may not
    /// write the target.
    fn is_stale(&self, record: &LockRecord, modified: i128, uid: u32) -> bool {
        !self.place.lease.writers.may_record(uid)
            || record.is_dead(self.here)
            || self.silence(modified) >= record.stale_after()
    }

    /// Makes `name` ours, whose record has `nonce` and is stale. True: it is ours. `before` is done right before that.
    fn replace(&self, name: &OsStr, nonce: &str, depth: u32, before: &dyn Fn()) -> Result<bool> {
        let mark = mark_name(name, nonce, self.dir());
        if !self.link_as(&mark)? {
            // Somebody is breaking it, or died while doing so.
            let Seen::Record { record, modified, uid } = look(self.dir(), &mark)? else { return Ok(false) };
            if depth == DEEPEST
                || !self.is_stale(&record, modified, uid)
                || !self.replace(&mark, &record.nonce, depth + 1, &|| ())?
            {
                return Ok(false);
            }
        }
        // The mark is ours: nobody else replaces or removes `name` now, as long as it has `nonce`.
        let outcome = self.replace_marked(name, nonce, before);
        // After a stall so long that others may have taken the mark over, it stays for them, or for the next sweep.
        if self.is_fresh() {
            self.remove(&mark);
        }
        outcome
    }

    /// The same, once the mark is ours: `rename(U2, name)`, where U2 is a second link to U.
    fn replace_marked(&self, name: &OsStr, nonce: &str, before: &dyn Fn()) -> Result<bool> {
        let second = TempNames::new(&self.place.name, Some(&fresh_nonce())).numbered(0, self.name.len());
        if !self.link_as(&second)? {
            return Ok(false);
        }
        let outcome = look(self.dir(), name).and_then(|seen| match seen {
            Seen::Record { record, modified, uid }
                if record.nonce == nonce && self.is_stale(&record, modified, uid) && self.is_fresh() =>
            {
                before();
                let outcome = self.dir().rename(&second, self.dir(), name);
                outcome
                    .map_err(|e| self.fail(e).during("cannot break the stale lock").with_remedy(Remedy::LockElsewhere))
            }
            _ => Ok(()),
        });
        self.remove(&second);
        self.is_ours(name, outcome)
    }

    /// Refreshes U, and so the marks, which are links to it, right before the step that counts. False: this process has
    /// stalled for so long that others may already take its marks for those of a dead process.
    fn is_fresh(&self) -> bool {
        self.dir().touch(&self.name).is_ok() && !self.record.is_late(self.born)
    }

    /// A name that stays is garbage, which the next breaker or a housekeeper recognises.
    fn remove(&self, name: &OsStr) {
        let _ = self.dir().unlink(name);
    }
}

impl Drop for Unique<'_> {
    fn drop(&mut self) {
        self.remove(&self.name);
    }
}

/// Removes what crashed processes have left beside this lock: marks for nonces that are gone, and files like U whose maker
/// is dead, or, by the clock of `by`, silent for too long. True: only the clock of a U could tell more.
fn sweep(place: &Place, here: &Here, by: Option<&Unique<'_>>) -> bool {
    let mark_stem = mark_stem(&place.name);
    let temp_stem = temp_stem(&place.name);
    let is_mark = |name: &OsStr| name.as_bytes().starts_with(mark_stem.as_bytes()) && is_mark_name(name);
    let is_temp = |name: &OsStr| {
        name.as_bytes().starts_with(temp_stem.as_bytes()) && is_temp_name(name) && by.is_none_or(|by| name != by.name)
    };
    let Ok(mut names) = place.dir.names() else { return false };
    names.retain(|name| is_mark(name) || is_temp(name));
    if names.is_empty() {
        return false;
    }
    let mut undecided = false;
    // Read after the list. So a mark on the list whose nonce is not the lock's now never means anything again.
    let live = live_marks(place);
    for name in names.into_iter().filter(|name| !live.contains(name)) {
        // A file with content, but no record, may belong to a writer whose target has the name of this lock.
        let is_leftover = match look(&place.dir, &name) {
            Ok(Seen::Record { record, modified, uid }) => {
                let is_leftover =
                    is_mark(&name) || by.map_or_else(|| record.is_dead(here), |by| by.is_stale(&record, modified, uid));
                undecided |= !is_leftover && !record.is_alive(here);
                is_leftover
            }
            Ok(Seen::Empty) => {
                let is_leftover = is_temp(&name) && is_abandoned(&place.dir, &name, by).unwrap_or(false);
                undecided |= !is_leftover;
                is_leftover
            }
            Ok(Seen::Absent) | Err(_) => false,
        };
        if is_leftover {
            // What stays is found again.
            let _ = place.dir.unlink(&name);
        }
    }
    undecided
}

/// The marks that mean something now: the mark for the lock, the mark for that mark, and so on.
fn live_marks(place: &Place) -> Vec<OsString> {
    let mut live = Vec::new();
    let mut name = place.name.clone();
    while let Ok(Seen::Record { record, .. }) = look(&place.dir, &name) {
        name = mark_name(&name, &record.nonce, &place.dir);
        live.push(name.clone());
        if live.len() > DEEPEST as usize {
            break;
        }
    }
    live
}

/// Whether an empty file, which its maker has open until the record is in it, has been left by one that was killed. An
/// error where that cannot be told.
fn is_abandoned(dir: &Dir, name: &OsStr, by: Option<&Unique<'_>>) -> io::Result<bool> {
    let file = dir.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
    let status = FileStatus::of(&file)?;
    // Over NFS nobody can tell who has it open. Its time of modification is not set yet, and was never meant as one.
    let is_silent = by.is_some_and(|by| by.silence(status.changed) >= by.record.stale_after());
    Ok(status.size == 0 && (is_silent || !lease::is_open_elsewhere(&file)?))
}

/// Why an attempt has not given us the lock.
enum Obstacle {
    /// Another process was faster, or is breaking the lock.
    Busy,
    /// The holder with this nonce has given a sign of life: not stale before this moment on the boot clock.
    Alive(String, Duration),
    Failed(Error),
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Obstacle {
        Obstacle::Failed(error)
    }
}

/// One attempt to take the lock, which was `seen` so. Runs with the clean-up mutex held.
fn attempt(
    request: &Request<'_, '_>,
    here: &Here,
    seen: &Seen,
    goal: Goal,
) -> std::result::Result<Arc<LinkLock>, Obstacle> {
    let place = request.place;
    // One that is killed before it has the lock leaves its file, and nothing to break.
    let undecided = goal != Goal::Clear && place.dir.opened().size <= QUICKLY_READ && sweep(place, here, None);
    let unique = Unique::create(request, here).map_err(|e| place.explain(&request.target.given, e))?;
    if undecided {
        sweep(place, here, Some(&unique));
    }
    let ours = match seen {
        Seen::Absent => unique.link_as(&place.name)?,
        Seen::Empty => false,
        Seen::Record { record, modified, uid } if !unique.is_stale(record, *modified, *uid) => {
            let left = record.stale_after().saturating_sub(unique.silence(*modified));
            return Err(Obstacle::Alive(record.nonce.clone(), unique.born + left));
        }
        Seen::Record { record, .. } => {
            // Its writer, if it is only suspended, must find nothing to rename.
            let remove_stages = || {
                remove_of_lost_lock(&request.target.dir, &request.target.name, &record.nonce);
                remove_of_lost_lock(&place.lease.dir, &place.lease.name, &record.nonce);
            };
            let ours = unique.replace(&place.name, &record.nonce, 0, &remove_stages)?;
            if ours && goal != Goal::Clear {
                sweep(place, here, Some(&unique));
            }
            ours
        }
    };
    if !ours {
        return Err(Obstacle::Busy);
    }
    let lock = Arc::new(LinkLock::new(place, unique.id, unique.record.clone(), unique.born));
    // U is removed first: a client to which the server has delegated the file then returns the delegation, so that signs
    // of life reach the server.
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

/// Takes the lock that `request` asks for.
pub(super) fn acquire(request: &mut Request<'_, '_>) -> Result<FileLock> {
    if let Some(lock) = below::go_on(request)? {
        return Ok(lock);
    }
    loop {
        if let Some(lock) = contend(request, Goal::Hold)? {
            return Ok(lock);
        }
    }
}

/// Waits until there is no link lock, breaking a stale one: for a caller that locks by flock.
pub(super) fn wait_until_none(request: &mut Request<'_, '_>) -> Result<()> {
    match contend(request, Goal::Pass)? {
        Some(broken) => broken.release(),
        None => Ok(()),
    }
}

/// What a caller contends for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// The lock.
    Hold,
    /// That no link lock of another is there.
    Pass,
    /// The same, for a housekeeper, who sweeps by itself.
    Clear,
}

/// Tries to take the lock until that works or the caller's patience ends. `None`: there is no link lock, and the goal is
/// not to hold one.
pub(super) fn contend(request: &mut Request<'_, '_>, goal: Goal) -> Result<Option<FileLock>> {
    let here = Here::now();
    let (mut pauses, mut tries) = (Pauses::new(FIRST_PAUSE, LONGEST_PAUSE), 0);
    // The nonce of a holder that lives, and until when it cannot be stale. No use in asking the server before that.
    let mut alive: Option<(String, Duration)> = None;
    let mut told_ignored = false;
    loop {
        let seen = look(&request.place.dir, &request.place.name)?;
        told_ignored = told_ignored || tell_if_ignored(request, &seen);
        let worth_it = match &seen {
            Seen::Absent | Seen::Empty if goal != Goal::Hold => return Ok(None),
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
                let lock = attempt(request, &here, &seen, goal)?;
                Ok((lock.clone(), Held::Link(lock)))
            });
            match taken {
                Ok((lock, ticket)) => {
                    lock.keep_alive();
                    let (held, observer) = (Held::Link(lock), request.patience.observer.clone());
                    let (intent, since) = (request.intent, Instant::now());
                    return Ok(Some(FileLock {
                        ticket: Some(ticket),
                        held,
                        intent,
                        observer,
                        since,
                        own: None,
                        under: None,
                    }));
                }
                Err(Obstacle::Failed(e)) => return Err(e),
                Err(Obstacle::Alive(nonce, until)) => {
                    if let Seen::Record { record, .. } = &seen {
                        below::ensure_not_itself(record, &here, &request.target.given)?;
                    }
                    alive = Some((nonce, until));
                }
                Err(Obstacle::Busy) => {}
            }
        }
        own::ensure_not_this_thread(request)?;
        if request.patience.wait == Wait::No && tries < TRIES {
            tries += 1;
            sleep(TRY_PAUSE);
        } else if !pause(request, &seen, &mut pauses) {
            return Err(given_up(request, &here, &seen));
        }
    }
}

/// Tells the observer if the lock is of somebody who may not write the target, so that it does not count.
fn tell_if_ignored(request: &Request<'_, '_>, seen: &Seen) -> bool {
    let (place, observer) = (request.place, request.patience.observer);
    match *seen {
        Seen::Record { uid, .. } if !place.lease.writers.may_record(uid) => {
            place.lease.writers.tell_ignored(&place.path, uid, observer);
            true
        }
        _ => false,
    }
}

/// Waits before the next look. False: the caller does not wait, or not any longer.
fn pause(request: &mut Request<'_, '_>, seen: &Seen, pauses: &mut Pauses) -> bool {
    let (path, patience) = (&request.place.path, &mut *request.patience);
    if patience.wait == Wait::No {
        return false;
    }
    let Some(pause) = pauses.next(patience) else { return false };
    let is_first = !patience.told;
    patience.tell_waiting(path);
    if !patience.goes_on(path) {
        return false;
    }
    if matches!(seen, Seen::Empty) && is_first {
        patience.observer.tell(&Notice::Warning { path, text: EMPTY });
    }
    sleep(pause);
    true
}

const EMPTY: &str = "an empty lock file is of a holder that uses flock; if that one has crashed, remove the file";

fn given_up(request: &Request<'_, '_>, here: &Here, seen: &Seen) -> Error {
    let error = own::named(request.patience.given_up(), request.place);
    match seen {
        Seen::Absent => error,
        Seen::Empty => error.with_hint(format!("{}: {EMPTY}", shown(&request.place.path))),
        Seen::Record { record, .. } => error.held_by(Some(record.holder(here))),
    }
}
