//! A lock by link(2) while it is held: signs of life, the check before a commit, the release. The protocol is in link.rs.
//!
//! ```text
//!   held ──silent for too long, or another's nonce under the name──> lost, for good
//!   held, lost ──relinquish──> over
//! ```
//!
//! The heartbeat thread and the holder (`is_still_ours`) find out that the lock is lost. `relinquish` runs on the holder's
//! thread or on the signal thread, with the clean-up mutex held, and ends the heartbeat. The mutex in `LinkLock` keeps
//! these apart. A server that does not answer keeps whoever has the mutex waiting, so `left`, which tells how long the lock
//! lasts, goes without it. A forked child has none of it: there, the lock counts as lost.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access::open_for_touch;
use super::baton::Baton;
use super::inherited::{self, HandOver, Intent};
use super::look::{ask_again, is_contention, is_record_of};
use super::place::Place;
use super::record::LockRecord;
use crate::error::{Error, Result};
use crate::names::mark_name;
use crate::sys::dir::touch;
use crate::sys::host::boot_clock;
use crate::sys::{self, Dir, FileId, FileStatus, retry};

/// How many signs of life there are in the time that the record promises one in. What `--kill-after` may take, half of the
/// stale time, must still be left when the next one is due.
const BEATS_IN_TIME: u32 = 2;
/// How often a failed sign of life is tried again in that time.
const TRIES_IN_TIME: u32 = 10;

/// A lock by link(2), held until it is relinquished or lost.
#[derive(Debug)]
pub(crate) struct LinkLock {
    dir: Arc<Dir>,
    name: OsString,
    path: PathBuf,
    id: FileId,
    record: LockRecord,
    /// The process that took it. A forked child has a copy of all this, but no heartbeat, and the lock is not its own.
    pid: u32,
    pulse: Mutex<Pulse>,
    stopped: Condvar,
    /// The boot clock just before the last sign of life, in nanoseconds. Written with the mutex held.
    last: AtomicU64,
    /// Never false again. Written with the mutex held.
    lost: AtomicBool,
}

#[derive(Debug)]
struct Pulse {
    /// The record, opened for the heartbeat, so that this never touches a successor's record. `None` before that, and once
    /// the lock is released.
    file: Option<File>,
    /// What children have been given.
    baton: Option<Arc<Baton>>,
    stop: bool,
}

impl LinkLock {
    /// The file `id` with this `record`, which has just been linked to the lock's name.
    pub(super) fn new(place: &Place, id: FileId, record: LockRecord, last: Duration) -> LinkLock {
        LinkLock {
            dir: place.dir.clone(),
            name: place.name.clone(),
            path: place.path.clone(),
            id,
            record,
            pid: std::process::id(),
            pulse: Mutex::new(Pulse { file: None, baton: None, stop: false }),
            stopped: Condvar::new(),
            last: AtomicU64::new(nanos(last)),
            lost: AtomicBool::new(false),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory and the name of the lock file.
    pub(super) fn place(&self) -> (&Dir, &OsStr) {
        (&self.dir, &self.name)
    }

    /// What to give a child process that may go on under this lock.
    pub(super) fn hand_over(&self, intent: Intent, can_wait: bool) -> io::Result<HandOver> {
        let mut pulse = self.pulse();
        let baton = match pulse.baton.take() {
            Some(baton) => baton,
            None => match Baton::new(&self.record.nonce, &self.dir, &self.name) {
                // Another system, or a sandbox. Processes below then wait for the lock as any other does.
                Err(e) if sys::unsupported(&e) => return Ok(self.keep_back(intent)),
                baton => Arc::new(baton?),
            },
        };
        pulse.baton.insert(baton).hand_over(intent, can_wait)
    }

    /// What to give a child process that may not.
    pub(super) fn keep_back(&self, intent: Intent) -> HandOver {
        inherited::keep_back(self.id, intent)
    }

    /// Ends the handing on, once nobody goes on below the lock any more. The heart beats meanwhile.
    pub(super) fn take_back(&self, tell: impl FnOnce()) {
        let baton = self.pulse().baton.clone();
        if let Some(baton) = baton {
            baton.take_back(tell);
        }
    }

    pub(super) fn nonce(&self) -> &str {
        &self.record.nonce
    }

    pub(super) fn stale_after(&self) -> Duration {
        self.record.stale_after()
    }

    /// How long the lock lasts without another sign of life. Never waits for the server.
    pub(super) fn left(&self) -> Duration {
        let silence = boot_clock().saturating_sub(self.last());
        if self.is_lost() { Duration::ZERO } else { self.record.longest_silence().saturating_sub(silence) }
    }

    fn last(&self) -> Duration {
        Duration::from_nanos(self.last.load(Ordering::SeqCst))
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Gives a sign of life. An error counts as silence, since the server may have got nothing.
    fn touch(&self, pulse: &Pulse) {
        let before = boot_clock();
        if pulse.file.as_ref().is_some_and(|file| touch(file).is_ok()) {
            self.last.store(nanos(before), Ordering::SeqCst);
        }
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        // A panic leaves no half-done state behind.
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the descriptor for the heartbeat.
    pub(super) fn open(&self) -> io::Result<()> {
        let file = open_for_touch(&self.dir, &self.name)?;
        // The number alone would not do. A nonce that is gone never comes back, so the file was ours when it was opened.
        if FileStatus::of(&file)?.id != self.id && !self.is_named()? {
            return Err(io::Error::from_raw_os_error(libc::ESTALE));
        }
        self.pulse().file = Some(file);
        Ok(())
    }

    /// Starts the thread that gives signs of life until the lock is relinquished or lost. The holder's own thread may be
    /// blocked in a read meanwhile.
    pub(super) fn keep_alive(self: &Arc<LinkLock>) {
        let lock = self.clone();
        // If no thread can be started the lock is lost after a while, and ensure_held reports that.
        let _ = sys::thread::start(c"awrite-heartbeat", move || {
            let mut pulse = lock.pulse();
            let mut pause = lock.record.heartbeat() / BEATS_IN_TIME;
            while !pulse.stop && !lock.is_lost() {
                let waited = lock.stopped.wait_timeout_while(pulse, pause, |pulse| !pulse.stop);
                pulse = waited.unwrap_or_else(PoisonError::into_inner).0;
                if !pulse.stop {
                    let last = lock.last();
                    // An error may pass. A beat soon after, or the holder's check before the commit, decides.
                    let _ = lock.beat(&pulse);
                    pause = lock.record.heartbeat() / if lock.last() == last { TRIES_IN_TIME } else { BEATS_IN_TIME };
                }
            }
        });
    }

    /// Whether the lock is still ours. Also gives a sign of life.
    pub(super) fn is_still_ours(&self) -> Result<bool> {
        if self.pid != std::process::id() {
            return Ok(false);
        }
        self.beat(&self.pulse())
    }

    /// Checks the nonce and gives a sign of life. False: the lock is lost.
    fn beat(&self, pulse: &Pulse) -> Result<bool> {
        let mut lost = self.is_lost() || !self.is_named().map_err(|e| Error::io(&self.path, e))?;
        // Last, so that nothing comes between the sign of life and the caller's next step.
        let last = self.last();
        self.touch(pulse);
        // If we were silent for the stale time, somebody may be taking the lock right now, even if our nonce is there.
        lost |= self.record.is_late(last);
        self.lost.fetch_or(lost, Ordering::SeqCst);
        Ok(!lost)
    }

    /// Whether the lock's name is still that of our record.
    fn is_named(&self) -> io::Result<bool> {
        is_record_of(&self.dir, &self.name, &self.record.nonce, self.id)
    }

    /// Gives the lock back. The holder breaks its own lock in the way that others break a stale one: a check followed by an
    /// unlink could remove a successor's lock. The heartbeat ends in any case.
    pub(super) fn relinquish(&self) -> io::Result<()> {
        let mut pulse = self.pulse();
        pulse.stop = true;
        self.stopped.notify_all();
        if let Some(baton) = &pulse.baton {
            baton.kill();
        }
        // Even after a long silence: whoever has the mark by now keeps it, and whoever comes later finds a fresh lock.
        self.touch(&pulse);
        let mark = mark_name(&self.name, &self.record.nonce, &self.dir);
        // Marks the file that is the lock now. If that is ours, it stays ours as long as the mark is ours.
        let linked = retry(|| self.dir.link(&self.name, &self.dir, &mark));
        let marked = self.owns(&mark);
        // For example, no room for another name. The lock is fresh, so nobody breaks it before the next step.
        let refused = linked.as_ref().is_err_and(|e| !e.raw_os_error().is_some_and(is_contention));
        self.touch(&pulse);
        // Closed before it is unlinked: an NFS client renames an open file to `.nfs…` instead of removing it.
        pulse.file = None;
        // After a stall so long that others may have taken over the mark, everything stays as it is, for them to break.
        let in_time = !self.record.is_late(self.last());
        // On another's lock the mark for our nonce, which is gone, says nothing to anybody.
        let unmark = match marked {
            Ok(true) => in_time,
            Ok(false) => linked.is_ok(),
            Err(_) => linked.is_ok() && in_time,
        };
        let ours = if matches!(marked, Ok(false)) && refused { self.owns(&self.name) } else { marked };
        let outcome = ours.and_then(|ours| if ours && in_time { self.dir.unlink(&self.name) } else { Ok(()) });
        if unmark {
            // A mark that stays is garbage, which the next breaker or a housekeeper recognises.
            let _ = self.dir.unlink(&mark);
        }
        match outcome {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether our record stands under `name`.
    fn owns(&self, name: &OsStr) -> io::Result<bool> {
        ask_again(|| is_record_of(&self.dir, name, &self.record.nonce, self.id))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
