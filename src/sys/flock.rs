//! flock(2).

use std::io;
use std::os::fd::AsFd;

use rustix::fs::FlockOperation;
use rustix::io::{Errno, retry_on_intr};

/// `flock` without waiting: true if this open file description has the lock now.
///
/// Changing shared to exclusive is not atomic: the shared lock is given up first, and stays so on failure (flock(2)).
pub(crate) fn try_flock(fd: impl AsFd, shared: bool) -> io::Result<bool> {
    use FlockOperation::{NonBlockingLockExclusive, NonBlockingLockShared};
    let operation = if shared { NonBlockingLockShared } else { NonBlockingLockExclusive };
    match retry_on_intr(|| rustix::fs::flock(&fd, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// `flock` that waits once: `Err(Interrupted)` when a signal handler ran, for the caller to look at its deadline.
pub(crate) fn wait_flock(fd: impl AsFd, shared: bool) -> io::Result<()> {
    use FlockOperation::{LockExclusive, LockShared};
    Ok(rustix::fs::flock(fd, if shared { LockShared } else { LockExclusive })?)
}

/// Gives a `flock` up.
pub(crate) fn unflock(fd: impl AsFd) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::Unlock))?)
}
