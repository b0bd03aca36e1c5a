//! Memory
//!
//! What a call allocates for its caller is freed by awrite_free(): what awrite_read() has read, the path of a backup in
//! an awrite_result.

use std::ffi::c_void;
use std::io;

use crate::error::{Error, ErrorKind, Result};

/// Frees what a call has allocated for the caller, as that call's description says. Not for handles, which have
/// functions of their own, and not for any other memory.
///
/// @param memory what the call has returned. NULL: nothing is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_free(memory: *mut c_void) {
    // SAFETY: `allocate` has made it, and the caller promises to free it only once.
    unsafe { libc::free(memory) }
}

/// A copy of `bytes` with a zero byte behind it, for the caller to free.
pub(super) fn allocate(bytes: &[u8]) -> Result<*mut c_void> {
    // SAFETY: it is only a number. A slice is shorter than the largest number by far.
    let memory = unsafe { libc::malloc(bytes.len() + 1) };
    if memory.is_null() {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOMEM);
        return Err(Error::from_raw(ErrorKind::Io, errno));
    }
    // SAFETY: it is that long, and nobody else has it.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast(), bytes.len());
        memory.cast::<u8>().add(bytes.len()).write(0);
    }
    Ok(memory)
}
