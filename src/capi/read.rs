//! Reading
//!
//! A target needs no lock to be read: what this library replaces is whole at every instant, so fopen(3) and open(2) do.
//! These functions are for who wants to read and then replace (with awrite_write_options.expect, without a lock between
//! the two), and for targets that are written in place, or several of them that belong together.

use std::ffi::{c_char, c_void};

use super::argument::{self, bad_argument, buffer};
use super::lock::{awrite_lock_options, lock_options_and_observer};
use super::memory::allocate;
use super::status::{awrite_status, guard};
use super::write::AWRITE_DIGEST_SIZE;
use crate::digest::Digest;
use crate::error::Result;
use crate::expect::{contents, digest};
use crate::lock::FileLock;

/// Reads all that a target contains, under its lock, which it shares with other readers. A symbolic link is followed.
///
/// @param target the file, which must exist.
/// @param data receives the content, to be freed with awrite_free(). A zero byte is behind it, so that text is a
/// string. NULL on failure.
/// @param size receives its length, without that zero byte; 0 on failure.
/// @param digest receives what awrite_digest() would say of this content: AWRITE_DIGEST_SIZE bytes, left alone on
/// failure; or NULL.
/// @param options NULL for the defaults. The lock is shared in any case.
///
/// @return AWRITE_OK; AWRITE_LOCKED; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, with awrite_last_errno() ENOENT if there is no
/// such file. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_read(
    target: *const c_char,
    data: *mut *mut c_void,
    size: *mut usize,
    digest: *mut c_char,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let (Some(data), Some(size)) = (data.as_mut(), size.as_mut()) else {
            return Err(bad_argument("data or size is NULL"));
        };
        (*data, *size) = (std::ptr::null_mut(), 0);
        let target = argument::path(target, "target")?;
        let (mut options, observer) = lock_options_and_observer(options)?;
        options.shared = true;
        let lock = FileLock::acquire_all(&[target], &options, &observer)?;
        let (content, found) = contents(target)?;
        drop(lock);
        (*data, *size) = (allocate(&content)?, content.len());
        if digest.is_null() { Ok(()) } else { put_digest(digest, found) }
    })
}

/// Says what a target contains now: what awrite_write_options.expect takes, and a caller remembers while it thinks. No
/// lock is taken: what this library replaces is whole at every instant. A symbolic link is followed.
///
/// @param target the file, which need not exist.
/// @param digest receives "sha256:" and 64 hexadecimal digits, or "absent". Left alone on failure.
/// @param capacity the size of that buffer, at least AWRITE_DIGEST_SIZE.
///
/// @return AWRITE_OK; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, also for a directory, a FIFO or a device. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_digest(target: *const c_char, digest: *mut c_char, capacity: usize) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let target = argument::path(target, "target")?;
        if digest.is_null() || capacity < AWRITE_DIGEST_SIZE {
            return Err(bad_argument("digest has no room for AWRITE_DIGEST_SIZE bytes"));
        }
        put_digest(digest, self::digest(target)?)
    })
}

/// # Safety
///
/// `AWRITE_DIGEST_SIZE` bytes at `to` can be written.
unsafe fn put_digest(to: *mut c_char, digest: Digest) -> Result<()> {
    let text = digest.to_string();
    // SAFETY: the caller promises it.
    let to = unsafe { buffer(to.cast(), AWRITE_DIGEST_SIZE) }?;
    to[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}
