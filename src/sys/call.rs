//! What many system calls have in common.

use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::PermissionsExt;

/// Whether `error` says that a call or flag does not exist here: EINVAL, ENOSYS, EOPNOTSUPP and their relatives.
pub(crate) fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY))
}

/// A network or FUSE file system may answer any call with EINTR.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Closes a copy of `file`'s descriptor, for the errors that a file system keeps until then: FUSE and NFS report a lack of
/// space there, and where nothing is synced, nowhere else. `std` closes without asking.
#[allow(unsafe_code)]
pub(crate) fn flush(file: &File) -> io::Result<()> {
    // close(2) may be interrupted, and the copy is gone then; only another one can be asked.
    retry(|| {
        let copy = file.try_clone()?.into_raw_fd();
        // SAFETY: the descriptor was made here and nobody else has it.
        if unsafe { libc::close(copy) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Makes the next read of `file` ask the device for what has been synced: the kernel forgets its copy, where it can
/// (posix_fadvise(2)). A file system in memory has nothing else.
pub(crate) fn forget_cached(file: &File) {
    // Only advice: what cannot be forgotten is not.
    #[cfg(not(target_vendor = "apple"))]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(target_vendor = "apple")]
    let _ = file; // no such call
}

/// Sets the permission bits, whatever the umask.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}
