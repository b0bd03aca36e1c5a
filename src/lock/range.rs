//! Locking a part of an open file by record locks of its description (`F_OFD_SETLK`), for flock(1) with `--fcntl`.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::request::Patience;
use super::waiting::{self, Lockable};
use crate::error::{Error, Result};
use crate::notice::Observer;
use crate::options::{LockOptions, Wait};
use crate::sys::ofd;

struct Part<'a> {
    fd: BorrowedFd<'a>,
    shared: bool,
    bytes: Range<u64>,
}

impl Lockable for Part<'_> {
    fn try_lock(&self) -> io::Result<bool> {
        ofd::try_lock(self.fd, self.shared, self.bytes.clone())
    }

    fn wait_once(&self) -> io::Result<()> {
        ofd::wait_lock(self.fd, self.shared, self.bytes.clone())
    }
}

/// Locks `bytes` of an open file, waiting as `options` say. An empty range goes from its start to the end of the file,
/// however far that grows. Messages call the file `name`.
///
/// # Errors
///
/// As [`lock_descriptor`](super::lock_descriptor).
#[doc(hidden)]
pub fn lock_range(fd: impl AsFd, name: &Path, options: &LockOptions, bytes: Range<u64>) -> Result<()> {
    let observer = Observer::default();
    let part = Part { fd: fd.as_fd(), shared: options.shared, bytes };
    let patience = Patience::new(name, options, &observer);
    let cannot = |e: io::Error| Error::io(name, e).during("cannot lock");
    let locked = part.try_lock().map_err(cannot)?
        || (patience.wait != Wait::No
            && waiting::wait_within(&part, patience.left(), patience.use_alarm).map_err(cannot)?);
    if locked { Ok(()) } else { Err(patience.given_up()) }
}

/// Unlocks `bytes`.
///
/// # Errors
///
/// The file cannot be unlocked.
#[doc(hidden)]
pub fn unlock_range(fd: impl AsFd, name: &Path, bytes: Range<u64>) -> Result<()> {
    ofd::unlock(fd, bytes).map_err(|e| Error::io(name, e).during("cannot unlock"))
}
