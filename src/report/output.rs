//! Writing on standard output and standard error.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use awrite::Error;
use rustix::io::Errno;

/// A progress line stands on the terminal and must be cleared before anything else is written there.
static PROGRESS_SHOWN: AtomicBool = AtomicBool::new(false);
static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

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

/// Draws `line` in place of the progress line that stands there.
pub(super) fn draw_progress(line: &str) {
    let _ = write_fully(rustix::stdio::stderr(), format!("{CLEAR_LINE}{line}").as_bytes());
    PROGRESS_SHOWN.store(true, Ordering::Relaxed);
}

/// Takes the progress line off the terminal.
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

/// Writes what was asked for (`--help`, `--list`) on standard output. A reader that has seen enough is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match write_fully(rustix::stdio::stdout(), text.as_bytes()) {
        Err(Errno::PIPE) => Ok(()),
        written => written.map_err(no_output),
    }
}

/// The same for what must not get lost: that nobody reads it is an error.
pub(super) fn print_all(text: &str) -> Result<(), Error> {
    let closed = if STDOUT_WAS_CLOSED.load(Ordering::Relaxed) { Err(Errno::BADF) } else { Ok(()) };
    closed.and_then(|()| write_fully(rustix::stdio::stdout(), text.as_bytes())).map_err(no_output)
}

fn no_output(error: Errno) -> Error {
    // Not Error::io alone: its hint for a full disk speaks of a target.
    Error::io("standard output", io::Error::from(error)).with_hint("nothing was changed")
}

/// Says this on standard error, as it is.
pub(crate) fn raw(text: &str) {
    write_at_once(text);
}

/// From here on, what is written on standard output goes nowhere: the caller has closed it.
pub(crate) fn stdout_was_closed() {
    STDOUT_WAS_CLOSED.store(true, Ordering::Relaxed);
}
