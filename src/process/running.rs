//! The child that runs now. The signal thread ends it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

pub(super) struct Children {
    /// There is one at a time at most.
    pub(super) running: Option<Pid>,
    /// No more children may be started.
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
        // No other process can have this number yet: the child is reaped only after `running` is cleared.
        let _ = kill_process(pid, Signal::TERM);
    }
}
