//! Exchanging the contents of two files in one step (ioctl_xfs_exchange_range(2), since Linux 6.10).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

/// Whether the contents of `one` and `other` can be exchanged. Both must be open for reading and writing.
pub(crate) fn is_possible(one: &File, other: &File) -> bool {
    sys::exchange(one, other, sys::DRY_RUN).is_ok()
}

/// Exchanges the contents of both files, their lengths included. Whatever happens meanwhile, each has one content as a
/// whole.
pub(crate) fn exchange(one: &File, other: &File) -> io::Result<()> {
    sys::exchange(one, other, 0)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod sys {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    /// As in linux's xfs_fs.h.
    const TO_END: u64 = 1;
    pub(super) const DRY_RUN: u64 = 4;

    #[repr(C)]
    struct Range {
        file: i32,
        padding: u32,
        offset: u64,
        other_offset: u64,
        length: u64,
        flags: u64,
    }

    pub(super) fn exchange(one: &File, other: &File, flags: u64) -> io::Result<()> {
        const EXCHANGE_RANGE: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<Range>(b'X', 129);
        let flags = TO_END | flags;
        let range = Range { file: one.as_raw_fd(), padding: 0, offset: 0, other_offset: 0, length: 0, flags };
        // SAFETY: the call reads the struct, which outlives it, and both files are open meanwhile.
        match unsafe { libc::ioctl(other.as_raw_fd(), EXCHANGE_RANGE as libc::Ioctl, &raw const range) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod sys {
    use std::{fs::File, io};

    pub(super) const DRY_RUN: u64 = 0;

    /// No such thing here.
    pub(super) fn exchange(_one: &File, _other: &File, _flags: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
