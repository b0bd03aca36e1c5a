//! Locking a descriptor that the caller has opened, for scripts that do `exec 9>>f.lock`.
//!
//! ```text
//!   open ──lock_descriptor──> locked ──unlock_descriptor, or its last copy is closed──> open, closed
//! ```
//!
//! The caller owns the descriptor and the lock. Nothing here is listed for clean-up, and the file is never removed.

use std::fs::File;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::around::{self, Around};
use super::held::STILL_AT_WORK;
use super::inherited::{self, Ancestor, Confirmed, Intent};
use super::request::Patience;
use super::waiting::{self, Lockable, Nesting, Waited};
use super::{filesystem, look, open_files, proc_locks};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::{Notice, Observer};
use crate::options::{LockOptions, Wait};
use crate::remedy::Remedy;
use crate::sys::{self, FileId, FileKind, FileStatus, ofd};

struct Descriptor<'a> {
    fd: BorrowedFd<'a>,
    id: FileId,
    /// It takes part in nesting.
    nests: bool,
    shared: bool,
    /// Who holds the lock above.
    above: Option<Ancestor>,
    /// Until the environment has turned out to lie about that.
    trusts_environment: bool,
}

impl Descriptor<'_> {
    /// To share a byte needs a descriptor for reading, which `9>>` does not give: then it is taken alone.
    fn shares_byte(&self) -> bool {
        let is_readable = || rustix::fs::fcntl_getfl(self.fd).is_ok_and(|flags| !flags.contains(OFlags::WRONLY));
        self.shared && is_readable()
    }

    /// What is said of EBADF by file systems that lock as NFS does (flock(2)): the descriptor is open, but not for this.
    fn mode_needed(&self, error: &io::Error) -> Option<&'static str> {
        let is_it = self.nests && error.raw_os_error() == Some(libc::EBADF);
        let flags = rustix::fs::fcntl_getfl(self.fd).ok().filter(|_| is_it)?;
        match flags & OFlags::RWMODE {
            OFlags::WRONLY if self.shared => Some("a shared lock needs a descriptor for reading here (9<>FILE.lock)"),
            OFlags::RDONLY if !self.shared => {
                Some("an exclusive lock needs a descriptor for writing here (9>>FILE.lock)")
            }
            _ => None,
        }
    }
}

impl Lockable for Descriptor<'_> {
    fn try_lock(&self) -> io::Result<bool> {
        match &self.above {
            None => sys::try_flock(self.fd, self.shared),
            Some(above) => ofd::try_lock(self.fd, self.shares_byte(), above.byte_below()),
        }
    }

    fn wait_once(&self) -> io::Result<()> {
        match &self.above {
            None => sys::wait_flock(self.fd, self.shared),
            Some(above) => ofd::wait_lock(self.fd, self.shares_byte(), above.byte_below()),
        }
    }
}

impl Nesting for Descriptor<'_> {
    fn can_be_its_own(&self) -> bool {
        self.nests
    }

    fn was_taken_in(&self, times: RangeInclusive<i128>) -> bool {
        // A descriptor's own lock leaves no sign, but the lock of the name does.
        let status = || FileStatus::of(self.fd);
        self.above.is_none() && status().is_ok_and(|status| times.contains(&status.modified))
    }

    fn look_around(&self, alone: bool) -> Around {
        around::look(self.fd, self.id, self.above.as_ref(), alone)
    }
}

/// Locks an open file, waiting as `options` say; only their `wait`, `shared`, `keep_file` and `use_alarm` matter. The lock
/// belongs to the open file description: it ends with the last descriptor of that, or by [`unlock_descriptor`]. Returns
/// how long it took. Messages call the file `name`.
///
/// # Errors
///
/// [`ErrorKind::LockBusy`] and [`ErrorKind::LockTimeout`]: the lock was not free in time. [`ErrorKind::LockLost`]: the
/// file has been deleted, so nobody else would see the lock; not checked with `keep_file`, which says that nobody deletes it.
pub fn lock_descriptor(fd: impl AsFd, name: &Path, options: &LockOptions, observer: &Observer) -> Result<Duration> {
    let mut patience = Patience::new(name, options, observer);
    lock_open_file(fd.as_fd(), options, &mut patience, false)?;
    Ok(patience.started.elapsed())
}

/// The same on behalf of the process that has started this one, whose descriptor it is, and whatever leases there are. The
/// lock takes part in nesting.
pub(crate) fn lock_and_mark(fd: BorrowedFd<'_>, options: &LockOptions, patience: &mut Patience<'_>) -> Result<()> {
    // Those who go on below it rely on the lock as it is.
    take_back(fd, patience, |patience| patience.tell_waiting(patience.target))?;
    lock_open_file(fd, options, patience, true)?;
    if FileStatus::of(fd).is_ok_and(|status| status.kind == FileKind::Regular) {
        // Where that does not work, it is an error there to ask for the lock.
        inherited::mark(fd, if options.shared { Intent::Shared } else { Intent::Exclusive });
    }
    Ok(())
}

/// Whether the open file description holds the `flock` of its file. Without /proc this cannot be known: false.
pub(crate) fn holds_flock(fd: BorrowedFd<'_>) -> bool {
    open_files::one("self", fd.as_raw_fd()).is_some_and(|file| file.flock.is_some())
}

fn lock_open_file(fd: BorrowedFd<'_>, options: &LockOptions, patience: &mut Patience<'_>, nests: bool) -> Result<()> {
    let name = patience.target;
    let cannot = |e: io::Error| Error::io(name, e).during("cannot lock");
    let status = FileStatus::of(fd).map_err(cannot)?;
    let mut lock =
        Descriptor { fd, id: status.id, nests, shared: options.shared, above: None, trusts_environment: true };
    while !lock_once(&mut lock, patience)? {}
    if status.kind == FileKind::Regular && status.size > 0 && !options.keep_file && is_record(fd) {
        sys::unflock(fd).map_err(cannot)?;
        return Err(Error::new(ErrorKind::LockBusy, "Held by a link lock, for which a descriptor cannot wait")
            .on(name)
            .with_remedy(Remedy::LockByName));
    }
    if FileStatus::of(fd).map_err(cannot)?.links == 0 && !options.keep_file {
        unlock(fd).map_err(cannot)?;
        return Err(Error::new(ErrorKind::LockLost, "The lock file behind the descriptor has been deleted")
            .on(name)
            .with_hint("open it again, for appending (9>>FILE.lock), and then lock it"));
    }
    Ok(())
}

/// False: the one above has given the lock up, or another one is above.
fn lock_once(lock: &mut Descriptor<'_>, patience: &mut Patience<'_>) -> Result<bool> {
    let name = patience.target;
    let cannot = |e: io::Error| Error::io(name, e).during("cannot lock");
    let locked = lock.try_lock().map_err(|e| match lock.mode_needed(&e) {
        Some(hint) => cannot(e).with_hint(hint),
        None => cannot(e),
    })?;
    if !locked {
        let asks = lock.nests && lock.above.is_none() && lock.trusts_environment;
        let waited = match asks.then(|| inherited::find(lock.fd, lock.id)).flatten() {
            Some(ancestor) => Waited::Not(Around::Ancestor(ancestor)),
            None => wait(lock, patience).map_err(cannot)?,
        };
        if let Waited::Not(around) = waited {
            let Some(nearer) = around.ensure_not_itself(name, patience.wait)? else {
                return Err(patience.given_up().held_by(proc_locks::find(lock.id)));
            };
            let intent = if lock.shared { Intent::Shared } else { Intent::Exclusive };
            nearer.ensure_grantable(intent, name)?;
            lock.above = Some(nearer);
            return Ok(false);
        }
    }
    let Some(above) = &lock.above else { return Ok(true) };
    let confirmed = above.confirm(lock.fd);
    if confirmed == Confirmed::Holds {
        if lock.shared && !lock.shares_byte() {
            let text = "opened for writing only: below another lock, it keeps out other shared locks too (to share, open it \
                for both: 9<>FILE.lock)";
            patience.observer.tell(&Notice::Warning { path: name, text });
        }
        return Ok(true);
    }
    lock.trusts_environment &= confirmed != Confirmed::Forged;
    inherited::release(lock.fd).map_err(cannot)?;
    lock.above = None;
    Ok(false)
}

fn wait(lock: &Descriptor<'_>, patience: &mut Patience<'_>) -> io::Result<Waited> {
    let waits = patience.wait != Wait::No;
    // Where this does not work, the holder removes the file, and the caller has to open it again.
    let registration = (waits && lock.above.is_none()).then(|| register(lock.fd));
    let waited = waiting::wait(lock, patience, patience.target)?;
    drop(registration);
    match waited {
        Waited::Not(_) if waits && lock.try_lock()? => Ok(Waited::Locked),
        waited => Ok(waited),
    }
}

/// Gives up a lock taken by [`lock_descriptor`] or [`lock_callers_descriptor`](crate::lock_callers_descriptor), once nobody
/// works under it any more. The observer is told when it has to wait for that. Messages call the descriptor `name`.
///
/// # Errors
///
/// [`ErrorKind::Usage`]: another descriptor that this process has inherited is locked below this lock, so it would wait for
/// itself. Otherwise, the descriptor's file cannot be locked.
pub fn unlock_descriptor(fd: impl AsFd, name: &Path, observer: &Observer) -> Result<()> {
    let options = LockOptions::default();
    take_back(fd.as_fd(), &mut Patience::new(name, &options, observer), |patience| {
        patience.observer.tell(&Notice::Warning { path: patience.target, text: STILL_AT_WORK });
    })?;
    unlock(fd.as_fd()).map_err(|e| Error::io(name, e).during("cannot unlock"))
}

/// Those who work under the lock of a descriptor.
struct Below<'a> {
    fd: BorrowedFd<'a>,
    byte: Range<u64>,
}

impl Lockable for Below<'_> {
    fn try_lock(&self) -> io::Result<bool> {
        ofd::try_lock(self.fd, false, self.byte.clone())
    }

    fn wait_once(&self) -> io::Result<()> {
        ofd::wait_lock(self.fd, false, self.byte.clone())
    }
}

/// Waits until nobody works under the lock of the descriptor, and lets nobody begin to any more. Without /proc it is not
/// known whether the lock is shared: then those below lose it.
fn take_back<'p>(fd: BorrowedFd<'_>, patience: &mut Patience<'p>, tell: impl FnOnce(&mut Patience<'p>)) -> Result<()> {
    let name = patience.target;
    let marked = open_files::one("self", fd.as_raw_fd()).and_then(|file| around::mark_of(&file));
    let Some(identity) = marked else { return Ok(()) };
    let below = Below { fd, byte: identity.byte_below() };
    if !below.try_lock().unwrap_or(false) {
        let id = FileStatus::of(fd).map_err(|e| Error::io(name, e).during("cannot unlock"))?.id;
        let own = around::inherited_descriptors(fd, id);
        if let Some(file) = own.iter().find(|file| around::shares_of(file).any(|byte| byte == below.byte)) {
            let hint = format!("give up the lock of descriptor {} first, which was taken below this one", file.fd);
            let reason = "The lock is shared with another descriptor of this process";
            return Err(Error::new(ErrorKind::Usage, reason).on(name).with_hint(hint));
        }
        tell(patience);
        if patience.wait == Wait::No || !waiting::wait_for(&below, patience.left(), patience, name).unwrap_or(true) {
            return Err(patience.given_up());
        }
    }
    inherited::take_back(fd, identity, || ());
    Ok(())
}

fn unlock(fd: BorrowedFd<'_>) -> io::Result<()> {
    // Not every byte: other programs may have locked some, by this description.
    for byte in open_files::one("self", fd.as_raw_fd()).iter().flat_map(around::shares_of) {
        let _ = ofd::unlock(fd, byte);
    }
    sys::unflock(fd)
}

/// For reading, which the caller's descriptor need not be.
fn open_again(fd: BorrowedFd<'_>) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Without /proc this cannot be known: false.
fn is_record(fd: BorrowedFd<'_>) -> bool {
    open_again(fd).is_ok_and(|file| look::is_record(&file))
}

/// Registers as a waiter, through a descriptor of our own. The registration ends when that is closed. Until then those who
/// release the lock leave the file in place.
pub(crate) fn register(fd: BorrowedFd<'_>) -> Option<File> {
    // Asked before opening: opening a FIFO or a device has effects.
    if FileStatus::of(fd).ok()?.kind != FileKind::Regular || !filesystem::is_local(fd) {
        return None;
    }
    let file = open_again(fd).ok()?;
    ofd::register(&file).ok()?;
    Some(file)
}
