//! The locks that this process holds itself, and which of its threads took them.
//!
//! Threads exclude each other as processes do: one waits until another gives the lock back. But a thread that waits without
//! a limit for a lock that it took itself would, as a rule, wait for ever. That is an error. The value may since have been
//! given to another thread, which will release it; this cannot be seen. A caller that means so sets a limit.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::place::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Wait;
use crate::remedy::Remedy;
use crate::sys::FileId;

#[derive(Debug)]
struct Entry {
    number: u64,
    /// A forked child has a copy of the list.
    pid: u32,
    thread: u64,
    dir: FileId,
    name: OsString,
}

static HELD: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    // `std::thread::current` would allocate, and valgrind calls what it allocates for main "possibly lost".
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

fn held() -> MutexGuard<'static, Vec<Entry>> {
    // A panic leaves no half-done state behind.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn this_thread() -> u64 {
    // Also while the thread ends: the cell needs no destructor.
    THREAD.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// A lock that this thread has taken. Dropping it says that it is given back.
#[derive(Debug)]
pub(super) struct Own(u64);

impl Own {
    pub(super) fn new(place: &Place) -> Own {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (pid, thread) = (std::process::id(), this_thread());
        held().push(Entry { number, pid, thread, dir: place.dir.id(), name: place.name.clone() });
        Own(number)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        held().retain(|entry| entry.number != self.0);
    }
}

/// Which thread of this process holds the lock at `place`.
fn holder(place: &Place) -> Option<u64> {
    let (pid, dir) = (std::process::id(), place.dir.id());
    let held = held();
    held.iter().find(|entry| entry.pid == pid && entry.dir == dir && entry.name == place.name).map(|entry| entry.thread)
}

/// The error of a thread that would wait for itself for ever.
pub(super) fn ensure_not_this_thread(place: &Place, target: &Path, wait: Wait) -> Result<()> {
    if wait != Wait::Forever || holder(place) != Some(this_thread()) {
        return Ok(());
    }
    let reason = "File locked by this process: this thread would wait for itself";
    Err(Error::new(ErrorKind::LockBusy, reason).on(target).with_remedy(Remedy::UnderOwnLock))
}

/// The error of a caller whose time is over, if it is this process that it has waited for.
pub(super) fn named(error: Error, place: &Place) -> Error {
    match (holder(place), error.kind()) {
        (None, _) => error,
        (Some(_), ErrorKind::LockBusy) => {
            error.because("File locked by this process").with_remedy(Remedy::UnderOwnLock)
        }
        (Some(_), _) => error.with_remedy(Remedy::UnderOwnLock),
    }
}
