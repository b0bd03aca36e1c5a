//! Writing on standard output and standard error.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use awrite::Error;
use rustix::io::Errno;

/// Whether a progress line is on the terminal. It must be cleared before anything else is written there.
static PROGRESS_SHOWN: AtomicBool = AtomicBool::new(false);
/// Whether the caller had closed standard output. Another file is open in its place now, and takes what is written.
static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Where `--json-fd` wants events.
static EVENTS: OnceLock<OwnedFd> = OnceLock::new();

const CLEAR_LINE: &str = "\r\x1b[K";

pub(super) fn write_at_once(text: &str) {
    let cleared;
    let bytes = if PROGRESS_SHOWN.swap(false, Ordering::Relaxed) {
        cleared = format!("{CLEAR_LINE}{text}");
        cleared.as_bytes()
    } else {
        text.as_bytes()
    };
    let _ = write_fully(rustix::stdio::stderr(), bytes);
}

/// Sends events to this descriptor, too. The first one counts.
pub(crate) fn use_events(fd: OwnedFd) {
    let _ = EVENTS.set(fd);
}

/// Writes an event, if there is a descriptor for them. A reader that has gone must not make the write fail.
pub(super) fn write_event(line: impl FnOnce() -> String) {
    if let Some(events) = EVENTS.get() {
        let _ = write_fully(events.as_fd(), line().as_bytes());
    }
}

/// Shows `line` as the progress line.
pub(super) fn draw_progress(line: &str) {
    let _ = write_fully(rustix::stdio::stderr(), format!("{CLEAR_LINE}{line}").as_bytes());
    PROGRESS_SHOWN.store(true, Ordering::Relaxed);
}

/// Clears the progress line.
pub(crate) fn end_progress() {
    if PROGRESS_SHOWN.load(Ordering::Relaxed) {
        write_at_once("");
    }
}

pub(super) fn write_fully(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes a result (`--help`, `--list`) to standard output. It is no error if the reader has gone: it has read enough.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match write_fully(rustix::stdio::stdout(), text.as_bytes()) {
        Err(Errno::PIPE) => Ok(()),
        written => written.map_err(no_output),
    }
}

/// The same for a result that must not be lost. It is an error if nobody reads it.
pub(super) fn print_all(text: &[u8]) -> Result<(), Error> {
    let closed = if STDOUT_WAS_CLOSED.load(Ordering::Relaxed) { Err(Errno::BADF) } else { Ok(()) };
    closed.and_then(|()| write_fully(rustix::stdio::stdout(), text)).map_err(no_output)
}

fn no_output(error: Errno) -> Error {
    // The hint that Error::io gives for a full disk is about a target.
    Error::io("standard output", io::Error::from(error)).with_hint("nothing was changed")
}

/// Writes `text` to standard error as it is.
pub(crate) fn raw(text: &str) {
    write_at_once(text);
}

/// Records that the caller had closed standard output.
pub(crate) fn stdout_was_closed() {
    STDOUT_WAS_CLOSED.store(true, Ordering::Relaxed);
}
