//! Open-file-description record locks (fcntl(2), `F_OFD_*`).
//!
//! They belong to an open file description, as a `flock` does. On a local file system the two kinds ignore each other. So
//! record locks can say more about a `flock`: who waits for it (byte 0), and who holds it above or below whom (the other
//! bytes, see lock/inherited.rs).
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

/// Behind every byte that is used. off_t has 32 bits on some platforms.
pub(crate) const END: u64 = if size_of::<libc::off_t>() < 8 { 1 << 30 } else { 1 << 62 };

/// Shares byte 0 of `file` as a waiter. [`is_registered`] sees it through other descriptions of the file. Does not wait.
pub(crate) fn register(file: impl AsFd) -> io::Result<()> {
    if try_lock(file, true, 0_u32..1)? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Undoes [`register`].
pub(crate) fn withdraw(file: impl AsFd) -> io::Result<()> {
    unlock(file, 0_u32..1)
}

/// Whether another open file description has registered on the same file.
pub(crate) fn is_registered(file: impl AsFd) -> io::Result<bool> {
    is_locked(file, 0_u32..1)
}

/// Locks these bytes of `file` without waiting; true: they are locked. A shared lock needs a descriptor for reading, any
/// other one for writing.
pub(crate) fn try_lock(file: impl AsFd, shared: bool, bytes: Range<impl Into<u64>>) -> io::Result<bool> {
    match sys::control(file, sys::Command::Set, sys::kind(shared), bytes) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The same, but waits; `Err(Interrupted)` when a signal handler ran.
pub(crate) fn wait_lock(file: impl AsFd, shared: bool, bytes: Range<impl Into<u64>>) -> io::Result<()> {
    sys::control(file, sys::Command::Wait, sys::kind(shared), bytes).map(drop)
}

/// Unlocks these bytes.
pub(crate) fn unlock(file: impl AsFd, bytes: Range<impl Into<u64>>) -> io::Result<()> {
    sys::control(file, sys::Command::Set, sys::UNLOCK, bytes).map(drop)
}

/// Whether another open file description has locked any of these bytes, shared or not.
pub(crate) fn is_locked(file: impl AsFd, bytes: Range<impl Into<u64>>) -> io::Result<bool> {
    Ok(sys::control(file, sys::Command::Get, sys::kind(false), bytes)? != sys::UNLOCK)
}

/// Whether anybody has a record lock of any kind anywhere in the file. Sees this process's classic locks, too.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn has_locks(file: impl AsFd) -> io::Result<bool> {
    // Length 0 means: to the end, however far the file grows.
    is_locked(file, 0_u32..0)
}

/// The same of classic locks only. Does not see those of this process.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn has_locks(file: impl AsFd) -> io::Result<bool> {
    use rustix::process::{Flock, FlockType, fcntl_getlk};
    Ok(fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?.is_some())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod sys {
    use std::os::fd::{AsFd, AsRawFd};
    use std::{io, ops::Range};

    pub(super) const UNLOCK: libc::c_int = libc::F_UNLCK;

    pub(super) fn kind(shared: bool) -> libc::c_int {
        if shared { libc::F_RDLCK } else { libc::F_WRLCK }
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) enum Command {
        Get = libc::F_OFD_GETLK as isize,
        Set = libc::F_OFD_SETLK as isize,
        Wait = libc::F_OFD_SETLKW as isize,
    }

    pub(super) fn control(
        file: impl AsFd,
        command: Command,
        kind: libc::c_int,
        bytes: Range<impl Into<u64>>,
    ) -> io::Result<libc::c_int> {
        // SAFETY: `flock` is plain data for which all zeroes is valid (fcntl(2): l_pid must be 0 for F_OFD_*).
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        let (start, end) = (bytes.start.into(), bytes.end.into());
        // off_t has 32 bits on some platforms. Not every number that is used here fits there.
        let offset = |n: u64| libc::off_t::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::Unsupported));
        lock.l_start = offset(start)?;
        lock.l_len = offset(end - start)?;
        loop {
            // SAFETY: `file` is open for the whole call, and `lock` is a valid `struct flock` that outlives it.
            if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command as libc::c_int, &raw mut lock) } == 0 {
                return Ok(libc::c_int::from(lock.l_type));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted || command == Command::Wait {
                return Err(error);
            }
        }
    }
}

/// This system has none. Waiters cannot register, and nobody goes on under an ancestor's lock.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod sys {
    use std::{io, ops::Range};

    pub(super) const UNLOCK: libc::c_int = 0;

    pub(super) fn kind(_shared: bool) -> libc::c_int {
        1
    }

    pub(super) enum Command {
        Get,
        Set,
        Wait,
    }

    pub(super) fn control(
        _file: impl std::os::fd::AsFd,
        _command: Command,
        _kind: libc::c_int,
        _bytes: Range<impl Into<u64>>,
    ) -> io::Result<libc::c_int> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn other_descriptions_see_the_bytes_and_their_own_does_not() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let (mine, other) = (path.reopen().unwrap(), path.reopen().unwrap());
        let copy = mine.try_clone().unwrap();
        assert!(try_lock(&mine, false, 5_u32..8).unwrap());
        assert!(is_locked(&other, 7_u32..9).unwrap());
        assert!(!is_locked(&other, 8_u32..9).unwrap() && !is_registered(&other).unwrap());
        assert!(!is_locked(&copy, 5_u32..8).unwrap());
        assert!(!try_lock(&other, true, 5_u32..6).unwrap());
        unlock(&copy, 5_u32..6).unwrap();
        assert!(try_lock(&other, true, 5_u32..6).unwrap());
        assert!(is_locked(&mine, 0_u32..8).unwrap());
        wait_lock(&mine, true, 5_u32..6).unwrap();
    }
}
