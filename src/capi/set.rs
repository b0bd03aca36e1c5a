//! Several files together
//!
//! A set of files is replaced together, or not at all: whoever takes their locks sees all the old contents, or all the new
//! ones, also after a crash. awrite_set_open() takes all the locks, in an order that is the same for every caller. What is
//! written to each awrite_set_writer() is staged, and awrite_set_commit() replaces them all. A file to which nothing was
//! written, or the same as it contains, is left alone. After a crash behind the commit point, whoever takes the lock of one
//! of the files next finishes the work; so does awrite_housekeep() with AWRITE_CLEAN_TEMPS. All the files must be on one
//! file system. Programs that take no lock may see some files replaced and others not yet, for an instant.

use std::ffi::c_char;
use std::path::{Path, PathBuf};

use super::argument::{self, Handle, Out, bad_argument, free_handle, handle, handle_mut, new_handle};
use super::status::{awrite_status, guard, guard_or};
use super::write::{awrite_result, awrite_write_options, write_options};
use super::writer::awrite_writer;
use crate::error::Result;
use crate::write::Committed;
use crate::write::set::Set;

/// Several files that are being replaced together. Their locks are held from awrite_set_open() on.
///
/// Thread-safety: may be passed from thread to thread. Only one thread at a time may use it and its files, in all their
/// functions.
pub struct awrite_set {
    /// C has pointers to them: the array never grows or moves.
    files: Handle<Box<[awrite_writer]>>,
    /// Once it is committed.
    done: Vec<Committed>,
}

/// Begins to replace several files, and takes their locks, or none of them.
///
/// @param set receives the handle, which must be freed with awrite_set_free(); NULL on failure.
/// @param targets,count the files, which need not exist, at least one. Two names of one file are an error.
/// @param options for each of them; NULL for the defaults. The time to wait is about all of them together. Without
/// AWRITE_WRITE_LATE_LOCK, AWRITE_WRITE_IN_PLACE, AWRITE_WRITE_KEEP_INODE and check, which a set cannot have.
///
/// @return AWRITE_OK; AWRITE_LOCKED; AWRITE_STOPPED if the notice function gave up the wait; AWRITE_CONFLICT;
/// AWRITE_BAD_ARGUMENT, also if the files are not all on one file system; AWRITE_ERROR. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_set_open(
    set: *mut *mut awrite_set,
    targets: *const *const c_char,
    count: usize,
    options: *const awrite_write_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe {
        new_handle(set, || {
            let targets = argument::array(targets, count)?;
            if targets.is_empty() {
                return Err(bad_argument("there is no target: count is 0"));
            }
            let paths: Result<Vec<PathBuf>> =
                targets.iter().map(|target| argument::path(*target, "target").map(Path::to_owned)).collect();
            let files = Set::open(&paths?, &write_options(options)?)?.into_files().into_iter();
            let files = files.map(|file| awrite_writer { write: Handle::new(file), of_set: true });
            Ok(awrite_set { files: Handle::new(files.collect()), done: Vec::new() })
        })
    }
}

/// One file of a set, to be written with awrite_writer_write() and awrite_writer_write_from(). It belongs to the set: it is
/// not committed or freed by itself.
///
/// @param number which one, from 0, in the order of the targets.
///
/// Returns the file, which stays until the set is freed; NULL if there is none of this number, or if the set is NULL, used
/// up or the parent process's (awrite_last_error() says so then). With the same set from one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_set_writer(set: *mut awrite_set, number: usize) -> *mut awrite_writer {
    // SAFETY: what the header asks of the caller.
    guard_or(std::ptr::null_mut(), || unsafe {
        let file = handle_mut(set)?.files.get_mut()?.get_mut(number);
        file.map(std::ptr::from_mut).ok_or_else(|| bad_argument(format!("the set has no file number {number}")))
    })
}

/// Replaces all files of the set by what was written to them, and gives the locks back. Whatever it returns, the set is used
/// up, and must still be freed.
///
/// @return AWRITE_OK; AWRITE_LOCKED if a lock or a lease has been lost; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT; AWRITE_ERROR.
/// All files are as before then. AWRITE_NOT_DURABLE: the set is committed, and the files have their new contents or get
/// them as soon as anybody takes their locks. With the same set from one thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_set_commit(set: *mut awrite_set) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let set = handle_mut(set)?;
        // The array stays, because C may still have pointers into it.
        let files: Result<Vec<_>> = set.files.get_mut()?.iter_mut().map(|file| file.write.take()).collect();
        set.done = Set::of_files(files?).commit()?;
        Ok(())
    })
}

/// What the commit has done with one file.
///
/// @param number which one, from 0, in the order of the targets.
/// @param result receives it; its size must be set. Left alone on failure. For a file to which nothing was written, changed is 0.
///
/// @return AWRITE_OK; AWRITE_BAD_ARGUMENT, also if the set has not been committed. With the same set from one thread at a
/// time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_set_result(
    set: *const awrite_set,
    number: usize,
    result: *mut awrite_result,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let (set, out) = (handle(set)?, Out::new(result)?);
        let done = set.done.get(number).ok_or_else(|| bad_argument(format!("there is no result number {number}")))?;
        out.put_committed(done);
        Ok(())
    })
}

/// Frees a set and its files; NULL is fine. If it was not committed, every file stays as it was, and the locks are given
/// back. In a forked child it frees the copy, and what the parent is doing goes on. No other call with the same set at the
/// same time, or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_set_free(set: *mut awrite_set) {
    // SAFETY: what the header asks of the caller.
    unsafe { free_handle(set) }
}
