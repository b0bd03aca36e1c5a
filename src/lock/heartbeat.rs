//! A lock by link(2) while it is held: signs of life, the last look before a commit, the release. The protocol stands
//! in link.rs.
//!
//! ```text
//!   held --silent for too long, or another's nonce in the file--> lost: nothing brings it back
//!   held or lost --relinquish--> over
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access::open_for_touch;
use super::baton::Baton;
use super::inherited::{self, HandOver, Intent};
use super::look::{insist, is_contention, look};
use super::place::Place;
use super::record::Record;
use crate::error::{ErrorKind, Result};
use crate::names::mark_name;
use crate::sys::dir::touch;
use crate::sys::host::boot_clock;
use crate::sys::{self, Dir, FileId, FileStatus, retry};

/// A lock by link(2), held until it is relinquished or lost.
#[derive(Debug)]
pub(crate) struct LinkLock {
    dir: Arc<Dir>,
    name: OsString,
    path: PathBuf,
    id: FileId,
    record: Record,
    /// A forked child has a copy of all this, but no thread behind it, and nothing to say about the lock.
    pid: u32,
    pulse: Mutex<Pulse>,
    stopped: Condvar,
}

#[derive(Debug)]
struct Pulse {
    /// The record, for the heartbeat: a successor's can never be reached through it.
    file: Option<File>,
    /// What children have been given.
    baton: Option<Baton>,
    /// The boot clock before the last sign of life was given.
    last: Duration,
    lost: bool,
    stop: bool,
}

impl Pulse {
    /// A server that does not answer as it should has got no sign of life: that is silence, and counted as such.
    fn touch(&mut self) {
        let before = boot_clock();
        if self.file.as_ref().is_some_and(|file| touch(file).is_ok()) {
            self.last = before;
        }
    }
}

impl LinkLock {
    /// What has just been linked to the lock's name.
    pub(super) fn new(place: &Place, id: FileId, record: Record, last: Duration) -> LinkLock {
        LinkLock {
            dir: place.dir.clone(),
            name: place.name.clone(),
            path: place.path.clone(),
            id,
            record,
            pid: std::process::id(),
            pulse: Mutex::new(Pulse { file: None, baton: None, last, lost: false, stop: false }),
            stopped: Condvar::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What to give a child process that may go on under this lock.
    pub(super) fn hand_over(&self, intent: Intent) -> io::Result<HandOver> {
        let mut pulse = self.pulse();
        let baton = match pulse.baton.take() {
            Some(baton) => baton,
            None => match Baton::new(&self.record.nonce) {
                // Another system, or a sandbox: those below wait as for any other.
                Err(e) if sys::unsupported(&e) => return Ok(self.keep_back()),
                baton => baton?,
            },
        };
        pulse.baton.insert(baton).hand_over(intent)
    }

    /// What to give a child process that may not: nothing has been made for others yet.
    pub(super) fn keep_back(&self) -> HandOver {
        inherited::keep_back(self.id)
    }

    pub(super) fn stale_after(&self) -> Duration {
        self.record.stale_after()
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        // A panic in between has left no half-done state.
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the descriptor for the heartbeat.
    pub(super) fn open(&self) -> io::Result<()> {
        let file = open_for_touch(&self.dir, &self.name)?;
        if FileStatus::of(&file)?.id != self.id {
            return Err(io::Error::from_raw_os_error(libc::ESTALE));
        }
        self.pulse().file = Some(file);
        Ok(())
    }

    /// Gives signs of life until the lock is relinquished or lost. Whoever holds it may be blocked in a read meanwhile.
    pub(super) fn keep_alive(self: &Arc<LinkLock>) {
        let lock = self.clone();
        // Without the thread the lock is lost after a while, which ensure_held finds out.
        let _ = sys::thread::start("awrite-heartbeat", move || {
            let mut pulse = lock.pulse();
            while !pulse.stop && !pulse.lost {
                let waited = lock.stopped.wait_timeout_while(pulse, lock.record.heartbeat(), |pulse| !pulse.stop);
                pulse = waited.unwrap_or_else(PoisonError::into_inner).0;
                if !pulse.stop {
                    // An error now says nothing for good: the next beat, or the holder's last look, decides.
                    let _ = lock.check(&mut pulse);
                }
            }
        });
    }

    /// Looks whether the lock is still ours, and gives a sign of life.
    pub(crate) fn is_still_ours(&self) -> Result<bool> {
        if self.pid != std::process::id() {
            return Ok(false);
        }
        self.check(&mut self.pulse())
    }

    fn check(&self, pulse: &mut Pulse) -> Result<bool> {
        pulse.lost = pulse.lost || !look(&self.dir, &self.name)?.has_nonce(&self.record.nonce);
        // Last, so that nothing is between the sign of life and what the caller is about to do.
        let last = pulse.last;
        pulse.touch();
        // Whoever found us silent for the stale time may be taking the lock, even if our name is still on it.
        pulse.lost |= self.record.is_late(last);
        Ok(!pulse.lost)
    }

    /// Gives it back: breaks it as anybody would break a stale one, since to look and then unlink could remove a
    /// successor's. Whatever happens, the heartbeat ends.
    ///
    /// Runs with the clean-up mutex held.
    pub(crate) fn relinquish(&self) -> io::Result<()> {
        let mut pulse = self.pulse();
        pulse.stop = true;
        self.stopped.notify_all();
        if let Some(baton) = &pulse.baton {
            baton.take_back();
        }
        // However silent we were: whoever has the mark by now keeps it, and whoever comes later finds the lock fresh.
        pulse.touch();
        let mark = mark_name(&self.name, &self.record.nonce);
        // Links what is the lock now: if that is ours, it stays so for as long as the mark is ours.
        let linked = retry(|| self.dir.link(&self.name, &self.dir, &mark));
        let marked = self.owns(&mark);
        // No room for another name, say. Fresh as it is, nobody breaks it before the next step.
        let refused = linked.as_ref().is_err_and(|e| !e.raw_os_error().is_some_and(is_contention));
        pulse.touch();
        // Closed before its name goes: an NFS client keeps a removed file that is open under a name `.nfs…`.
        pulse.file = None;
        // Stalled for so long that others may have taken over the mark, we leave all as it is: stale.
        let in_time = !self.record.is_late(pulse.last);
        // On another's lock, the mark for our nonce, which is gone, means nothing to anyone.
        let unmark = match marked {
            Ok(true) => in_time,
            Ok(false) => linked.is_ok(),
            Err(_) => linked.is_ok() && in_time,
        };
        let ours = if matches!(marked, Ok(false)) && refused { self.owns(&self.name) } else { marked };
        let outcome = ours.and_then(|ours| if ours && in_time { self.dir.unlink(&self.name) } else { Ok(()) });
        if unmark {
            // What stays is garbage that the next breaker or a housekeeper recognises.
            let _ = self.dir.unlink(&mark);
        }
        match outcome {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether our record stands at `name`. By number and nonce: the number alone may be given to another file once the
    /// server has dropped ours.
    fn owns(&self, name: &OsStr) -> io::Result<bool> {
        insist(|| {
            if self.dir.status(name)?.is_none_or(|status| status.id != self.id) {
                return Ok(false);
            }
            match look(&self.dir, name) {
                Ok(seen) => Ok(seen.has_nonce(&self.record.nonce)),
                Err(e) if e.kind() == ErrorKind::NotAFile => Ok(false),
                Err(e) => Err(io::Error::from_raw_os_error(e.errno().unwrap_or(libc::EIO))),
            }
        })
    }
}
