//! Open-file-description record locks (fcntl(2), `F_OFD_*`), which waiters use to be seen by the holder of a `flock`.
//! On a local file system the two kinds of lock do not see each other.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

/// Shares byte 0 of `file`, so that [`is_registered`] on another descriptor of the file sees it. Does not wait.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn register(file: &File) -> io::Result<()> {
    control(file, libc::F_OFD_SETLK, libc::F_RDLCK, 1).map(drop)
}

/// Takes [`register`] back.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn withdraw(file: &File) -> io::Result<()> {
    control(file, libc::F_OFD_SETLK, libc::F_UNLCK, 1).map(drop)
}

/// Whether another open file description has registered on the same file.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_registered(file: &File) -> io::Result<bool> {
    Ok(control(file, libc::F_OFD_GETLK, libc::F_WRLCK, 1)? != libc::F_UNLCK)
}

/// Whether anybody has a record lock of any kind, classic ones of this process included, anywhere in the file.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    // Length 0: to the end, however far the file grows.
    Ok(control(file, libc::F_OFD_GETLK, libc::F_WRLCK, 0)? != libc::F_UNLCK)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn control(file: &File, command: libc::c_int, kind: libc::c_int, length: libc::off_t) -> io::Result<libc::c_int> {
    use std::os::fd::AsRawFd;
    // SAFETY: `flock` is plain data for which all zeroes is valid (fcntl(2): l_pid must be 0 for F_OFD_*).
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = 0;
    lock.l_len = length;
    loop {
        // SAFETY: `file` is open for the whole call, and `lock` is a valid `struct flock` that outlives it.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } == 0 {
            return Ok(libc::c_int::from(lock.l_type));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn register(_file: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn withdraw(_file: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_registered(_file: &File) -> io::Result<bool> {
    Ok(false)
}

/// Classic locks of other processes: those of this one cannot be seen.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    use rustix::process::{Flock, FlockType, fcntl_getlk};
    Ok(fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?.is_some())
}
