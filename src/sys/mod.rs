//! Thin safe wrappers over system calls: the bottom of the house. Nothing here knows what a target or a lock is.
//!
//! All of the library's unsafe code but that of the C interface is in here: in [`ofd`], [`alarm`], [`thread`] and
//! [`Borrowed`].

pub(crate) mod alarm;
pub(crate) mod dir;
pub(crate) mod host;
pub(crate) mod ofd;
pub(crate) mod thread;
pub(crate) mod xattr;

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

pub(crate) use dir::{Dir, FileId, FileKind, FileStatus};

/// `flock` without waiting: true if this open file description has the lock now.
///
/// Changing shared to exclusive is not atomic: the shared lock is given up first, and stays so on failure (flock(2)).
pub(crate) fn try_flock(fd: impl AsFd, shared: bool) -> io::Result<bool> {
    use rustix::fs::FlockOperation::{NonBlockingLockExclusive, NonBlockingLockShared};
    let operation = if shared { NonBlockingLockShared } else { NonBlockingLockExclusive };
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&fd, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// `flock` that waits once: `Err(Interrupted)` when a signal handler ran, for the caller to look at its deadline.
pub(crate) fn wait_flock(fd: impl AsFd, shared: bool) -> io::Result<()> {
    use rustix::fs::FlockOperation::{LockExclusive, LockShared};
    Ok(rustix::fs::flock(fd, if shared { LockShared } else { LockExclusive })?)
}

/// Gives a `flock` up.
pub(crate) fn unflock(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(&fd, rustix::fs::FlockOperation::Unlock))?)
}

/// Whether `error` says that a call or flag does not exist here: EINVAL, ENOSYS, EOPNOTSUPP and their relatives.
pub(crate) fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY))
}

/// A descriptor that this process may have inherited: a number of which nothing is known.
#[derive(Clone, Copy)]
pub(crate) struct Borrowed(std::os::fd::RawFd);

impl Borrowed {
    /// The descriptor `number`, if it is open.
    pub(crate) fn number(number: std::os::fd::RawFd) -> Option<Borrowed> {
        let borrowed = Borrowed(number);
        (number >= 0 && rustix::io::fcntl_getfd(borrowed.as_fd()).is_ok()).then_some(borrowed)
    }
}

impl AsFd for Borrowed {
    // Not owned by anything here: should another thread close it, or open something else under that number, system calls
    // on it fail or tell what it is now. No memory depends on it.
    #[allow(unsafe_code)]
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: not -1, which `number` has made sure of.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.0) }
    }
}
