//! The child that runs now. The signal thread passes the signal on to it and waits for its end.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::ended::End;

pub(super) struct Children {
    /// There is one at a time at most.
    pub(super) running: Option<Pid>,
    /// It may have been started too late for a signal that a terminal has sent to the whole process group.
    pub(super) came_late: bool,
    /// No more children may be started.
    pub(super) stopping: bool,
}

static CHILDREN: Mutex<Children> = Mutex::new(Children { running: None, came_late: false, stopping: false });
/// The child whose end the signal thread waits for; 0: it waits for none. A second signal kills it.
static AWAITED: AtomicI32 = AtomicI32::new(0);
static KILL_AFTER: OnceLock<Duration> = OnceLock::new();

/// A child that still runs this long after a signal gets SIGKILL (`--kill-after`).
pub(crate) fn kill_after(limit: Duration) {
    // Never set before: it is an option of one command line.
    let _ = KILL_AFTER.set(limit);
}

/// Whether a child that does not heed a signal is killed.
pub(super) fn kills() -> bool {
    KILL_AFTER.get().is_some()
}

/// When a child that gets a signal now is to be killed.
pub(super) fn deadline() -> Option<Instant> {
    KILL_AFTER.get().and_then(|limit| Instant::now().checked_add(*limit))
}

pub(super) fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes `signal` on to the child, unless it has it already: a terminal sends its signals to the child too. Then waits
/// for the child's end. From here on no child can be started.
pub(super) fn end_children(signal: Option<Signal>, has_it: bool) {
    let mut children = children();
    children.stopping = true;
    let Some(pid) = children.running else { return };
    // No other process can have this number yet: the child is reaped only after `running` is cleared, which needs the
    // mutex.
    AWAITED.store(pid.as_raw_nonzero().get(), Ordering::SeqCst);
    if let (Some(signal), true) = (signal, !has_it || children.came_late) {
        let _ = kill_process(pid, signal);
    }
    End::of(pid).wait_or_kill(deadline());
    AWAITED.store(0, Ordering::SeqCst);
}

/// Kills the child whose end the signal thread waits for. False if it waits for none. Async-signal-safe.
pub(super) fn kill_awaited() -> bool {
    let pid = AWAITED.load(Ordering::SeqCst);
    // SAFETY: kill has no preconditions. The number is still the child's: this runs on the main thread, which alone
    // reaps children.
    pid != 0 && unsafe { libc::kill(pid, libc::SIGKILL) } == 0
}
