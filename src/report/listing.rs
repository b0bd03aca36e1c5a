//! What is listed on standard output while the work goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::output::write_fully;

/// Lines for standard output. A write for each would cost as much as the deletion. Not part of the [`Teller`]: the signal
/// thread writes what is left.
static LISTED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// A pipe that is ready takes so much without blocking (PIPE_BUF).
pub(super) const MOST_LISTED: usize = 4096;

pub(super) fn listed() -> MutexGuard<'static, Vec<u8>> {
    LISTED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn flush(listed: &mut Vec<u8>) -> Result<(), Errno> {
    let outcome = write_fully(rustix::stdio::stdout(), listed);
    listed.clear();
    outcome
}

/// Writes what has been deleted but not been listed yet, if that can be done at once: for the signal thread.
pub(super) fn list_the_rest() {
    let Ok(mut listed) = LISTED.try_lock() else { return };
    let stdout = rustix::stdio::stdout();
    let mut stdout = [PollFd::new(&stdout, PollFlags::OUT)];
    if !listed.is_empty() && poll(&mut stdout, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
        let _ = flush(&mut listed);
    }
}
