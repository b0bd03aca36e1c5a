//! Thin safe wrappers over system calls: the bottom of the house. Nothing here knows what a target or a lock is.
//!
//! All of the library's unsafe code is in here, in [`ofd`], [`alarm`] and [`thread`].

pub(crate) mod alarm;
pub(crate) mod dir;
pub(crate) mod host;
pub(crate) mod ofd;
pub(crate) mod thread;

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
