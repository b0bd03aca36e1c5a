//! The child that runs now, for the signal thread to end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// The child that runs now, if any, for the signal thread.
pub(super) struct Children {
    pub(super) running: Option<Pid>,
    /// No more are to be started.
    pub(super) stopping: bool,
}

static CHILDREN: Mutex<Children> = Mutex::new(Children { running: None, stopping: false });

pub(super) fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn stop_children() {
    let mut children = children();
    children.stopping = true;
    if let Some(pid) = children.running {
        // It is not reaped before `running` is cleared, so this is no other process that got its number.
        let _ = kill_process(pid, Signal::TERM);
    }
}
