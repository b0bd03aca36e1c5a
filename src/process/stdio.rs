//! Descriptors that children are given, or that this process was given.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// A descriptor that this process was started with.
pub(crate) struct InheritedFd(RawFd);

impl InheritedFd {
    /// The descriptor `number`, if it is open.
    pub(crate) fn number(number: RawFd) -> io::Result<InheritedFd> {
        if number < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let given = InheritedFd(number);
        rustix::io::fcntl_getfd(given.as_fd())?;
        Ok(given)
    }
}

impl AsFd for InheritedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: not -1. Nothing in this process owns it or closes it.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Something to read that is at its end: /dev/null, for where there is none.
pub(crate) fn empty_input() -> io::Result<OwnedFd> {
    // Not pipe2, which macOS lacks. No child can be started between the calls: only the main thread does that.
    let (reading, writing) = rustix::pipe::pipe()?;
    drop(writing);
    rustix::io::fcntl_setfd(&reading, rustix::io::FdFlags::CLOEXEC)?;
    Ok(reading)
}

/// Whether what is left to read from `fd` is there already, so that reading to its end waits for nobody: a pipe that
/// nobody writes to any more.
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
    fn nothing_is_at_its_end() {
        let mut bytes = [0; 1];
        assert_eq!(rustix::io::read(empty_input().unwrap(), &mut bytes), Ok(0));
    }
}
