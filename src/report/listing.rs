//! Lines that are listed on standard output during the work. They are buffered, because a write for each would cost as
//! much as the deletion that it reports. The buffer is the process's, so that the signal thread can write what is left
//! in it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::output::write_fully;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// A pipe that is ready takes this much without blocking (PIPE_BUF).
const CAPACITY: usize = 4096;

fn lines() -> MutexGuard<'static, Vec<u8>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_out(lines: &mut Vec<u8>) -> Result<(), Errno> {
    let outcome = write_fully(rustix::stdio::stdout(), lines);
    lines.clear();
    outcome
}

/// Adds `line`. If it does not fit into the buffer, the lines before it are written first.
pub(super) fn add(line: &[u8]) -> Result<(), Errno> {
    let mut lines = lines();
    let outcome =
        if lines.len() + line.len() > CAPACITY { ready().and_then(|()| write_out(&mut lines)) } else { Ok(()) };
    lines.extend_from_slice(line);
    outcome
}

pub(super) fn flush() -> Result<(), Errno> {
    ready()?;
    write_out(&mut lines())
}

/// Waits until standard output takes something; `INTR`: until a signal came. Unlike write(2), poll(2) is not begun again
/// after a signal handler has run.
fn ready() -> Result<(), Errno> {
    let stdout = rustix::stdio::stdout();
    match poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None) {
        Err(Errno::INTR) => Err(Errno::INTR),
        // Whatever is wrong with it, writing says it better.
        _ => Ok(()),
    }
}

/// Writes what is left, unless that would block. For the signal thread.
pub(super) fn flush_if_ready() {
    let Ok(mut lines) = LINES.try_lock() else { return };
    let stdout = rustix::stdio::stdout();
    let mut stdout = [PollFd::new(&stdout, PollFlags::OUT)];
    if !lines.is_empty() && poll(&mut stdout, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
        let _ = write_out(&mut lines);
    }
}
