//! Locking a descriptor that the caller has opened, for scripts that do `exec 9>>f.lock`.
//!
//! ```text
//!   open ──lock_descriptor──> locked ──unlock_descriptor, or its last copy is closed──> open, closed
//! ```
//!
//! The caller owns the descriptor and the lock. Nothing here is listed for clean-up, and the file is never removed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use super::request::Patience;
use super::waiting::{self, Lockable};
use super::{filesystem, look, proc_locks};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::Observer;
use crate::options::{LockOptions, Wait};
use crate::remedy::Remedy;
use crate::sys::{self, FileKind, FileStatus, ofd};

struct Descriptor<'a> {
    fd: BorrowedFd<'a>,
    shared: bool,
}

impl Lockable for Descriptor<'_> {
    fn try_lock(&self) -> io::Result<bool> {
        sys::try_flock(self.fd, self.shared)
    }

    fn wait_once(&self) -> io::Result<()> {
        sys::wait_flock(self.fd, self.shared)
    }
}

/// Locks an open file, waiting as `options` say; only their `wait`, `shared`, `keep` and `use_alarm` matter. The lock
/// belongs to the open file description: it ends with the last descriptor of that, or by [`unlock_descriptor`]. Returns
/// how long it took. Messages call the file `name`.
///
/// # Errors
///
/// [`ErrorKind::LockBusy`] and [`ErrorKind::LockTimeout`]: the lock was not free in time. [`ErrorKind::LockLost`]: the
/// file has been deleted, so nobody else would see the lock; not checked with `keep`, which says that nobody deletes it.
pub fn lock_descriptor(fd: impl AsFd, name: &Path, options: &LockOptions, observer: &Observer) -> Result<Duration> {
    let lock = Descriptor { fd: fd.as_fd(), shared: options.shared };
    let mut patience = Patience::new(name, options, observer);
    let cannot = |e: io::Error| Error::io(name, e).during("cannot lock");
    let mut locked = lock.try_lock().map_err(cannot)?;
    if !locked && patience.wait == Wait::No {
        locked = waiting::try_again(&lock).map_err(cannot)?;
    } else if !locked {
        // Where this does not work, the holder removes the file, and the caller has to open it again.
        let registration = register(lock.fd);
        patience.tell_waiting(name);
        locked = waiting::wait(&lock, &patience).map_err(cannot)?;
        drop(registration);
        locked = locked || lock.try_lock().map_err(cannot)?;
    }
    let status = FileStatus::of(lock.fd).map_err(cannot)?;
    if !locked {
        return Err(patience.given_up().held_by(proc_locks::find(status.id)));
    }
    if status.kind == FileKind::Regular && status.size > 0 && !options.keep && is_record(lock.fd) {
        sys::unflock(lock.fd).map_err(cannot)?;
        return Err(Error::new(ErrorKind::LockBusy, "Held by a link lock, for which a descriptor cannot wait")
            .on(name)
            .with_remedy(Remedy::LockByName));
    }
    if status.links == 0 && !options.keep {
        sys::unflock(lock.fd).map_err(cannot)?;
        return Err(Error::new(ErrorKind::LockLost, "The lock file behind the descriptor has been deleted")
            .on(name)
            .with_hint("open it again, for appending (9>>FILE.lock), and then lock it"));
    }
    Ok(patience.started.elapsed())
}

/// Gives up a lock taken by [`lock_descriptor`].
///
/// # Errors
///
/// The descriptor's file cannot be locked.
pub fn unlock_descriptor(fd: impl AsFd, name: &Path) -> Result<()> {
    sys::unflock(fd).map_err(|e| Error::io(name, e).during("cannot unlock"))
}

/// For reading, which the caller's descriptor need not be.
fn open_again(fd: BorrowedFd<'_>) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Without /proc this cannot be known: false.
fn is_record(fd: BorrowedFd<'_>) -> bool {
    open_again(fd).is_ok_and(|file| look::is_record(&file))
}

/// Registers as a waiter, through a descriptor of our own. The registration ends when that is closed.
fn register(fd: BorrowedFd<'_>) -> Option<File> {
    // Asked before opening: opening a FIFO or a device has effects.
    if FileStatus::of(fd).ok()?.kind != FileKind::Regular || !filesystem::is_local(fd) {
        return None;
    }
    let file = open_again(fd).ok()?;
    ofd::register(&file).ok()?;
    Some(file)
}
