//! Leases on open files (fcntl(2), `F_SETLEASE`), for two purposes: to ask whether anybody else has a file open, and to wait
//! for somebody who has a lease on a file that is to be opened. They have nothing to do with the leases of this crate.
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
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_open_elsewhere(file: impl AsFd) -> io::Result<bool> {
    use std::os::fd::AsRawFd;

    let fd = file.as_fd().as_raw_fd();
    // libc has it for some targets only (asm-generic/fcntl.h).
    const F_SETSIG: libc::c_int = 10;
    let control = |command: libc::c_int, value: libc::c_int| {
        // SAFETY: `file` is open for the whole call, and both commands take an int.
        if unsafe { libc::fcntl(fd, command, value) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // Should somebody open the file before the lease is given back, the kernel sends a signal. SIGIO would end the process;
    // this one is ignored by default.
    control(F_SETSIG, libc::SIGURG)?;
    match control(libc::F_SETLEASE, libc::F_WRLCK) {
        Ok(()) => control(libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(e) => Err(e),
    }
}

/// It cannot be asked here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_open_elsewhere(_file: impl AsFd) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
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
}
