//! What is listed on standard output while the work goes on. A write for each line would cost as much as the deletion
//! that it tells of, so lines are gathered. The signal thread, too, writes what is left.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::output::write_fully;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// A pipe that is ready takes so much without blocking (PIPE_BUF).
const MAX_GATHERED: usize = 4096;

fn lines() -> MutexGuard<'static, Vec<u8>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_out(lines: &mut Vec<u8>) -> Result<(), Errno> {
    let outcome = write_fully(rustix::stdio::stdout(), lines);
    lines.clear();
    outcome
}

/// Adds `line`, and writes the lines before it if it does not fit beside them.
pub(super) fn add(line: &str) -> Result<(), Errno> {
    let mut lines = lines();
    let outcome = if lines.len() + line.len() > MAX_GATHERED { write_out(&mut lines) } else { Ok(()) };
    lines.extend_from_slice(line.as_bytes());
    outcome
}

pub(super) fn flush() -> Result<(), Errno> {
    write_out(&mut lines())
}

/// Writes what is left if that can be done at once: for the signal thread.
pub(super) fn flush_if_ready() {
    let Ok(mut lines) = LINES.try_lock() else { return };
    let stdout = rustix::stdio::stdout();
    let mut stdout = [PollFd::new(&stdout, PollFlags::OUT)];
    if !lines.is_empty() && poll(&mut stdout, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
        let _ = write_out(&mut lines);
    }
}
