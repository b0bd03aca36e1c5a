//! Writing piece by piece
//!
//! A handle for a write of several steps: open, write as often as you like, commit, free.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::Path;

use super::argument::{self, Handle, Out, bad_argument, block, descriptor, free_handle, handle_mut, new_handle};
use super::status::{awrite_status, guard, guard_or};
use super::write::{awrite_result, awrite_write_options, write_options};
use crate::write::AtomicFile;

/// A target that is being replaced piece by piece. Its lock is held from awrite_writer_open() on, unless
/// AWRITE_WRITE_LATE_LOCK puts that off. awrite_writer_commit() makes what was written the content of the target.
///
/// Thread-safety: may be passed from thread to thread. Only one thread at a time may use it, in all its functions.
pub struct awrite_writer {
    pub(super) write: Handle<AtomicFile>,
    /// It belongs to a set, which alone commits and frees it.
    pub(super) of_set: bool,
}

/// Begins to replace a target.
///
/// @param writer receives the handle, which must be freed with awrite_writer_free(); NULL on failure.
/// @param target the file, which need not exist.
/// @param options NULL for the defaults.
///
/// @return AWRITE_OK; AWRITE_LOCKED; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT; AWRITE_ERROR. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_writer_open(
    writer: *mut *mut awrite_writer,
    target: *const c_char,
    options: *const awrite_write_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe {
        new_handle(writer, || {
            let target = argument::path(target, "target")?;
            let write = Handle::new(AtomicFile::open(target, &write_options(options)?)?);
            Ok(awrite_writer { write, of_set: false })
        })
    }
}

/// Adds a block to the new content. Not buffered: each call is a system call.
///
/// @param data,size the block; data may be NULL if size is 0.
///
/// @return AWRITE_OK; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, after which the handle can only be freed: a commit fails. With
/// the same handle from one thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_writer_write(
    writer: *mut awrite_writer,
    data: *const c_void,
    size: usize,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe { handle_mut(writer)?.write.get_mut()?.add(block(data, size)?) })
}

/// Adds all that is left to read from a descriptor, up to its end. Needs constant memory. Where both are files and the
/// file system can, the kernel shares or copies the data.
///
/// @param fd an open descriptor, which stays the caller's.
/// @param bytes receives the number of bytes that were added; or NULL. Left alone on failure.
///
/// @return AWRITE_OK; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, after which the handle can only be freed: a commit fails. With
/// the same handle from one thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_writer_write_from(
    writer: *mut awrite_writer,
    fd: c_int,
    bytes: *mut u64,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let (writer, source) = (handle_mut(writer)?.write.get_mut()?, descriptor(fd)?);
        let copied = writer.add_fd(source, Path::new(&format!("descriptor {fd}")))?;
        if let Some(bytes) = bytes.as_mut() {
            *bytes = copied;
        }
        Ok(())
    })
}

/// The descriptor of the new content, for fdopen(3), sendfile(2), mmap(2) and the like: a regular file, open for
/// reading and writing, that contains what was written so far, at whose end it stands. The commit takes the file as it
/// is then. What is in it counts as input, except for the old content with AWRITE_WRITE_APPEND. With expect or
/// AWRITE_WRITE_VERIFY, the commit reads it once more.
///
/// It belongs to the handle, and exists until the commit: do not close it. For stdio, use fdopen() with a copy by
/// dup(), and call fclose() before the commit. The file has no name, or a temporary one, and is not yet as the target
/// will be.
///
/// @return the descriptor; -1 on failure, and awrite_last_error() says why. With the same handle from one thread at a
/// time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_writer_fd(writer: *mut awrite_writer) -> c_int {
    // SAFETY: what the header asks of the caller.
    guard_or(-1, || unsafe { Ok(handle_mut(writer)?.write.get_mut()?.descriptor()?.as_raw_fd()) })
}

/// Opens the current content of the target for reading. It is what the lock protects, so no other update is lost.
///
/// @param fd receives a descriptor at the beginning of the file, which the caller closes; -1 if there is no file, or on
/// failure.
///
/// @return AWRITE_OK; AWRITE_BAD_ARGUMENT, also with AWRITE_WRITE_LATE_LOCK, since the lock is not held yet;
/// AWRITE_ERROR. With the same handle from one thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_writer_open_old(writer: *mut awrite_writer, fd: *mut c_int) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let fd = fd.as_mut().ok_or_else(|| bad_argument("fd is NULL"))?;
        *fd = -1;
        if let Some(old) = handle_mut(writer)?.write.get_mut()?.original()? {
            *fd = old.into_raw_fd();
        }
        Ok(())
    })
}

/// Makes what was written the target's content, and gives the lock back. Whatever it returns, the handle is used up, and
/// must still be freed; it is not used up only if AWRITE_BAD_ARGUMENT is about result.
///
/// @param result receives what was done; or NULL. Left alone on failure.
///
/// @return AWRITE_OK; AWRITE_LOCKED if the lock or the lease has been lost, or, with AWRITE_WRITE_LATE_LOCK, could not
/// be taken; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT; AWRITE_ERROR; AWRITE_STOPPED by the check of the options;
/// AWRITE_NOT_DURABLE. With the same handle from one thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_writer_commit(writer: *mut awrite_writer, result: *mut awrite_result) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let (writer, result) = (handle_mut(writer)?, Out::new(result)?);
        if writer.of_set {
            return Err(bad_argument("the writer is of a set, which is committed as a whole: awrite_set_commit()"));
        }
        result.put_committed(&writer.write.take()?.commit()?);
        Ok(())
    })
}

/// Frees a handle; NULL is fine. If it was not committed, what was written is discarded, the target stays as it was,
/// and the lock is given back. In a forked child it frees the copy, and what the parent is doing goes on. No other call
/// with the same handle at the same time, or later. The writer of a set is freed with the set: this does nothing to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_writer_free(writer: *mut awrite_writer) {
    // SAFETY: what the header asks of the caller.
    unsafe {
        if writer.as_ref().is_none_or(|writer| !writer.of_set) {
            free_handle(writer);
        }
    }
}
