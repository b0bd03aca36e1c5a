//! Descriptors that this process has inherited, and input for children.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::OFlags;

/// Of the descriptors 0, 1 and 2, those that the caller had closed, as bits. Another file is open in their place.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Records that the caller had closed this descriptor.
pub(crate) fn was_closed(number: RawFd) {
    CLOSED.fetch_or(1 << number, Ordering::Relaxed);
}

fn is_closed(number: RawFd) -> bool {
    (0..=2).contains(&number) && CLOSED.load(Ordering::Relaxed) & (1 << number) != 0
}

/// Lets `command`, which inherits the standard descriptors, have them closed where the caller had.
pub(super) fn leave_closed(command: &mut Command) {
    if CLOSED.load(Ordering::Relaxed) == 0 {
        return;
    }
    // SAFETY: the closure runs between fork and exec and calls only close, which is async-signal-safe, on what nothing
    // owns.
    unsafe {
        command.pre_exec(|| {
            for number in (0..=2).filter(|number| is_closed(*number)) {
                libc::close(number);
            }
            Ok(())
        });
    }
}

/// A descriptor that this process has inherited.
pub(crate) struct InheritedFd(RawFd);

impl InheritedFd {
    /// The descriptor `number`, if it is open.
    pub(crate) fn number(number: RawFd) -> io::Result<InheritedFd> {
        if number < 0 || is_closed(number) {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let inherited = InheritedFd(number);
        rustix::io::fcntl_getfd(inherited.as_fd())?;
        Ok(inherited)
    }
}

/// A descriptor that this process has inherited to write to, which no child gets from here on.
pub(crate) fn writable(number: RawFd) -> io::Result<OwnedFd> {
    let inherited = InheritedFd::number(number)?;
    let flags = rustix::fs::fcntl_getfl(&inherited)?;
    // open(2) ignores the access mode beside O_PATH, which not every system has: such a descriptor counts as read-only.
    if (flags & OFlags::RWMODE) == OFlags::RDONLY {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    if number > 2 {
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&inherited, 3)?)
}

impl AsFd for InheritedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is not -1, and nothing in this process owns or closes it.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Input that is at its end, like /dev/null, which an empty root directory does not have.
pub(crate) fn empty_input() -> io::Result<OwnedFd> {
    // Not pipe2, which macOS lacks. Close-on-exec cannot come too late: only this thread starts children.
    let (reading, writing) = rustix::pipe::pipe()?;
    drop(writing);
    rustix::io::fcntl_setfd(&reading, rustix::io::FdFlags::CLOEXEC)?;
    Ok(reading)
}

/// Whether `fd` is a pipe whose writers have all gone: reading the rest of it waits for nobody.
pub(crate) fn is_complete(fd: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_input_is_at_its_end() {
        let mut bytes = [0; 1];
        assert_eq!(rustix::io::read(empty_input().unwrap(), &mut bytes), Ok(0));
    }
}
