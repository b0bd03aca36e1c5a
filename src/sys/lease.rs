//! Leases on open files (fcntl(2), `F_SETLEASE`), for three purposes: to ask whether anybody else has a file open, to see
//! whether anybody comes to open it, and to wait for somebody who has a lease on a file that is to be opened. They have nothing to do with the leases of this crate.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The kernel takes a lease away from a holder that does not give it up within this time, unless it is set otherwise.
const BREAK_TIME: Duration = Duration::from_secs(45);
/// The pauses between two attempts to open a file that somebody has a lease on.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Whether `file` is open elsewhere too, in this process or another. A write lease is granted only where it is not, and is
/// given back at once. Only a file's owner may ask, and root.
pub(crate) fn is_open_elsewhere(file: impl AsFd) -> io::Result<bool> {
    if !take(&file)? {
        return Ok(true);
    }
    sys::control(file, sys::SET_LEASE, sys::NONE).map(|_| false)
}

/// Takes a write lease on `file`; false: it is open elsewhere too. While this has the lease, an open(2) of the file waits,
/// or, with O_NONBLOCK, is EWOULDBLOCK. Closing the file gives it back. Only a file's owner may ask, and who has
/// CAP_LEASE; some file systems have no leases (EINVAL).
pub(crate) fn take(file: impl AsFd) -> io::Result<bool> {
    // When somebody opens the file, the kernel sends the holder of the lease a signal. SIGIO would end the process; this
    // one is ignored unless the program wants it. Before the lease is taken, so that there is no instant without it.
    sys::control(&file, sys::SET_SIGNAL, libc::SIGURG)?;
    match sys::control(file, sys::SET_LEASE, sys::WRITE) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether nobody has tried to open `file` since the lease was taken.
pub(crate) fn is_undisturbed(file: impl AsFd) -> bool {
    sys::control(file, sys::GET_LEASE, 0).is_ok_and(|kind| kind == sys::WRITE)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod sys {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};

    /// `F_SETSIG`, which libc has for some targets only (asm-generic/fcntl.h).
    pub(super) const SET_SIGNAL: libc::c_int = 10;
    pub(super) const SET_LEASE: libc::c_int = libc::F_SETLEASE;
    pub(super) const GET_LEASE: libc::c_int = libc::F_GETLEASE;
    pub(super) const NONE: libc::c_int = libc::F_UNLCK;
    pub(super) const WRITE: libc::c_int = libc::F_WRLCK;

    /// fcntl(2) with a command that takes an int, or nothing.
    pub(super) fn control(file: impl AsFd, command: libc::c_int, value: libc::c_int) -> io::Result<libc::c_int> {
        // SAFETY: `file` is open for the whole call, and no command that is used here takes a pointer.
        match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, value) } {
            -1 => Err(io::Error::last_os_error()),
            answer => Ok(answer),
        }
    }
}

/// This system has no leases.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod sys {
    use std::io;
    use std::os::fd::AsFd;

    pub(super) const SET_SIGNAL: libc::c_int = 0;
    pub(super) const SET_LEASE: libc::c_int = 0;
    pub(super) const GET_LEASE: libc::c_int = 0;
    pub(super) const NONE: libc::c_int = 0;
    pub(super) const WRITE: libc::c_int = 0;

    pub(super) fn control(_file: impl AsFd, _command: libc::c_int, _value: libc::c_int) -> io::Result<libc::c_int> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Calls `open`, which does not wait, until nobody has a lease on the file any more: Samba for its clients, or a program
/// like this one for an instant. The kernel has told the holder to give it up.
pub(crate) fn open_past_leases<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut until = None;
    let mut pause = FIRST_PAUSE;
    loop {
        match open() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let until = *until.get_or_insert_with(|| Instant::now() + break_time());
                if Instant::now() > until {
                    return Err(e);
                }
            }
            outcome => return outcome,
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How long it may take until no holder has a lease any more, with a second to spare.
fn break_time() -> Duration {
    let seconds = std::fs::read_to_string("/proc/sys/fs/lease-break-time").ok();
    let seconds = seconds.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    seconds.unwrap_or(BREAK_TIME) + Duration::from_secs(1)
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn sees_who_else_has_it_open() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let kept = path.into_temp_path();
        let mine = std::fs::File::open(&kept).unwrap();
        assert!(!is_open_elsewhere(&mine).unwrap());
        let other = std::fs::File::open(&kept).unwrap();
        assert!(is_open_elsewhere(&mine).unwrap());
        drop(other);
        assert!(!is_open_elsewhere(&mine).unwrap());
    }

    #[test]
    fn sees_who_comes_to_open_it_and_lives_on() {
        use std::os::unix::fs::OpenOptionsExt;
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mine = std::fs::File::open(&path).unwrap();
        assert!(!is_undisturbed(&mine));
        assert!(take(&mine).unwrap() && is_undisturbed(&mine));
        // By default the kernel would send SIGIO, which would end this process.
        let refused = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!is_undisturbed(&mine));
        let waiter = std::thread::spawn({
            let path = path.to_path_buf();
            move || std::fs::File::open(path).unwrap()
        });
        drop(mine);
        waiter.join().unwrap();
    }
}
