//! Writing
//!
//! A target is replaced as a whole or not at all, under its lock: by a block of memory (awrite_write), by what a
//! callback makes of the current content (awrite_update), or piece by piece (awrite_writer_open). At every instant it
//! is the complete old or the complete new content, for readers and after a crash. A symbolic link is followed and
//! stays, unless AWRITE_LOCK_NO_FOLLOW is among the flags of the lock options.

use std::ffi::{c_char, c_int, c_void};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::argument::{
    self, Callback, Extensible, Out, bad_argument, block, ensure_reserved, ensure_same_process, handle_mut,
    known_flags, optional_path, read_options,
};
use super::lock::{awrite_lock, awrite_lock_options, lock_observer, lock_options, permission_bits, under};
use super::memory::allocate;
use super::notice::{self, awrite_notice_fn};
use super::status::{awrite_status, c_array, c_path, guard};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::expect::Expect;
use crate::options::{BackupOptions, Check, Durability, LockOptions, Ownership, WriteOptions};
use crate::write::{AtomicFile, Committed};

/// awrite_write_options.flags, or-ed.
pub type awrite_write_flags = u32;
/// None of them.
#[allow(dead_code, reason = "for C")]
pub const AWRITE_WRITE_DEFAULT: u32 = 0;
/// Take the lock at the commit instead of at the start, so that a slow producer blocks
/// nobody. Not with awrite_update(), which would lose updates.
pub const AWRITE_WRITE_LATE_LOCK: u32 = 1;
/// The new content begins with the current content.
pub const AWRITE_WRITE_APPEND: u32 = 2;
/// Give the new file 0666 less umask, whatever the original had.
pub const AWRITE_WRITE_NO_PRESERVE_MODE: u32 = 4;
/// Do not carry extended attributes and ACLs over.
pub const AWRITE_WRITE_NO_PRESERVE_XATTRS: u32 = 8;
/// Replace a file that this user may not write.
pub const AWRITE_WRITE_FORCE: u32 = 16;
/// Replace the target even if there is nothing to write, and make it empty. Without this flag that is an error, because a
/// producer or a callback that failed may look so.
pub const AWRITE_WRITE_ALLOW_EMPTY: u32 = 32;
/// Leave the target untouched when its content is identical. A mode or an owner that is asked
/// for is still set, on the file itself.
pub const AWRITE_WRITE_IF_CHANGED: u32 = 64;
/// Where rename is impossible, overwrite the file under the lock: something is mounted on it,
/// only its directory may not be written, or it is another user's in a sticky directory. Not atomic.
pub const AWRITE_WRITE_IN_PLACE: u32 = 128;
/// Create missing parent directories.
pub const AWRITE_WRITE_MKDIR: u32 = 256;
/// Keep the current content as TARGET.backup. Setting any of the backup members does the
/// same.
pub const AWRITE_WRITE_BACKUP: u32 = 512;
/// Keep it as TARGET.YYYYMMDD-HHMMSS.backup, in local time.
pub const AWRITE_WRITE_BACKUP_TIMESTAMP: u32 = 1024;
/// Write into the existing file, so that its other hard links, and a container that it is
/// mounted into, have the new content too. Atomic where the file system can exchange contents (XFS, since Linux 6.10);
/// elsewhere the file is overwritten, as with AWRITE_WRITE_IN_PLACE.
pub const AWRITE_WRITE_KEEP_INODE: u32 = 2048;
/// Do everything but the commit, and take it back: the target stays as it is, and nothing is
/// left. The call fails where a real one would, as far as that can be known. The result says what would have been done.
pub const AWRITE_WRITE_DRY_RUN: u32 = 4096;
/// Before the target is replaced, read the new content back and compare it with what was
/// received: from the disk, where the system allows to drop what it has cached. A difference is AWRITE_ERROR, and the
/// target is unchanged. Not with AWRITE_SYNC_NONE.
pub const AWRITE_WRITE_VERIFY: u32 = 8192;

/// awrite_write_options.sync: what is forced to the disk before a call returns.
pub type awrite_sync = u32;
/// File and directory. The new content survives power loss.
pub const AWRITE_SYNC_FULL: u32 = 0;
/// The file only. Power loss may bring the old content back, never a partial one.
pub const AWRITE_SYNC_DATA: u32 = 1;
/// Neither. Only a crash of the process is survived.
pub const AWRITE_SYNC_NONE: u32 = 2;

/// awrite_write_options.ownership: whose the new file is.
pub type awrite_ownership = u32;
/// Owner and group are kept as far as this user may do so. Where the group cannot be
/// kept, its permissions are cut down to those of others.
pub const AWRITE_OWNERSHIP_TRY: u32 = 0;
/// Owner and group are kept; it is an error if that fails. Only then set-user-id and
/// set-group-id bits and capabilities are kept, too.
pub const AWRITE_OWNERSHIP_KEEP: u32 = 1;
/// The new file belongs to the user who writes it.
pub const AWRITE_OWNERSHIP_WRITER: u32 = 2;

/// The size of a string that says what a target contains, with the zero byte at its end.
pub const AWRITE_DIGEST_SIZE: usize = 72;

/// Decides whether a target is replaced. It is called right before that, with the lock held, on the thread that makes
/// the call. It gets the path of the new file, which is complete, and the target as it was given. It may read and
/// change the new file, but not replace or remove it. Returns 0 to go on; anything else leaves the target as it was. It
/// must return: no longjmp, no C++ exception.
pub type awrite_check_fn =
    Option<unsafe extern "C-unwind" fn(new_file: *const c_char, target: *const c_char, context: *mut c_void) -> c_int>;

/// How a target is replaced. The struct, its strings and the lock options are only read during the call. What the
/// contexts point to must stay valid during the call; with awrite_writer_open(), until the handle is freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_write_options {
    /// sizeof(awrite_write_options).
    pub size: usize,
    /// How the target's lock is taken. NULL: the defaults.
    pub lock: *const awrite_lock_options,
    /// AWRITE_WRITE_*, or-ed.
    pub flags: awrite_write_flags,
    /// What is forced to the disk. 0: file and directory.
    pub sync: awrite_sync,
    /// Permission bits of the new file. 0: the original's; for a new file 0666 less umask.
    pub mode: u32,
    /// Whose the new file is. 0: AWRITE_OWNERSHIP_TRY.
    pub ownership: awrite_ownership,
    /// What is appended to the target's name for a backup. NULL: ".backup".
    pub backup_suffix: *const c_char,
    /// Put backups into this directory. NULL: beside the target.
    pub backup_dir: *const c_char,
    /// Permission bits of a backup. 0: the original's.
    pub backup_mode: u32,
    /// 0.
    pub reserved: u32,
    /// Called when the new file is complete, before the target is replaced. NULL: there is no check.
    pub check: awrite_check_fn,
    /// Passed to check.
    pub check_context: *mut c_void,
    /// Gets the notices. NULL: the notice function in the lock options gets them, if there is one.
    pub notice: awrite_notice_fn,
    /// Passed to notice.
    pub notice_context: *mut c_void,
    /// After the commit, delete the target's backups with a time in their names but this number of the newest ones. The
    /// one that was just made is among these, and has a time in its name. 0: delete none.
    pub backup_keep: u64,
    /// Replace the target only if it contains this: what awrite_digest() says, the 64 digits alone, or "absent". It is
    /// compared as soon as the lock is held, and again right before the target is replaced; otherwise the write fails
    /// with AWRITE_CONFLICT. NULL: it may contain anything.
    pub expect: *const c_char,
    /// Replace the target only if it contains the same as this file, which is read once, before the lock is taken.
    /// NULL: it may contain anything. Not together with expect.
    pub expect_same: *const c_char,
    /// Go on under this lock of the target, which the program holds, instead of taking it. It stays held, and must not be
    /// freed before the call returns; a write of several calls fails at its commit if it is released before. It must have
    /// been acquired with the same lock options, and alone: not with AWRITE_LOCK_SHARED. Two writes under one lock at the
    /// same time do not exclude each other. NULL: take the lock.
    pub held_lock: *const awrite_lock,
}

// SAFETY: repr(C), begins with its size, and numbers and pointers follow without a gap (tests/it/capi checks).
unsafe impl Extensible for awrite_write_options {
    const NAME: &'static str = "awrite_write_options";
}

/// What a write has done.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_result {
    /// sizeof(awrite_result), to be set by the caller.
    pub size: usize,
    /// Length of the content in bytes.
    pub bytes: u64,
    /// The path of the backup of the previous content, to be freed with awrite_free(); NULL: there is none (or no
    /// memory for it). The call does not look at what was here before.
    pub backup: *mut c_char,
    /// 1; or 0 when the content was identical and the file was left alone (AWRITE_WRITE_IF_CHANGED).
    pub changed: u32,
    /// 0.
    pub reserved: u32,
    /// What the target contains now, as awrite_digest() says it, if expect, expect_same or AWRITE_WRITE_VERIFY was
    /// used; else "". The next awrite_write_options.expect.
    pub digest: [c_char; AWRITE_DIGEST_SIZE],
}

// SAFETY: repr(C), begins with its size, and numbers, a pointer and characters follow without a gap (tests/it/capi
// checks).
unsafe impl Extensible for awrite_result {
    const NAME: &'static str = "awrite_result";
}

impl Out<awrite_result> {
    pub(super) fn put_committed(self, done: &Committed) {
        // Who wants no result frees nothing. The target is replaced already, so that a lack of memory is no error.
        let backup = done.backup.as_deref().filter(|_| self.is_wanted());
        let backup = backup.and_then(|path| allocate(path.as_os_str().as_bytes()).ok());
        let backup = backup.map_or(std::ptr::null_mut(), <*mut c_void>::cast);
        let changed = u32::from(done.changed);
        let digest = c_array(&done.digest.map(|digest| digest.to_string()).unwrap_or_default());
        self.put(&awrite_result { bytes: done.bytes, backup, changed, digest, ..awrite_result::zeroed() });
    }
}

/// Reads and checks the options of a write.
///
/// # Safety
///
/// The same as for [`read_options`]. Each pointer in it is NULL or valid, as the header says.
pub(super) unsafe fn write_options(at: *const awrite_write_options) -> Result<WriteOptions> {
    const ALL: u32 = 2 * AWRITE_WRITE_VERIFY - 1;
    // SAFETY: the caller promises the same.
    let given = unsafe { read_options(at) }?;
    let has = known_flags(given.flags, ALL, "awrite_write_options.flags")?;
    ensure_reserved(given.reserved, "awrite_write_options.reserved")?;
    // SAFETY: the caller promises that each is NULL, or options, a string or a function.
    let (lock, suffix, dir, check, observer, expect) = unsafe {
        let observer = notice::observer(given.notice, given.notice_context);
        (
            lock_options(given.lock)?,
            optional_path(given.backup_suffix, "backup_suffix")?,
            optional_path(given.backup_dir, "backup_dir")?,
            check_calling(given.check, given.check_context),
            observer.map_or_else(|| lock_observer(given.lock), |observer| Ok(Some(observer)))?,
            expectation(given.expect, given.expect_same)?,
        )
    };
    // SAFETY: the caller promises that it is NULL or a lock.
    let lock = LockOptions { under: unsafe { under(given.held_lock) }?, ..lock };
    let mode = permission_bits(given.mode, "mode")?;
    let backup_mode = permission_bits(given.backup_mode, "backup_mode")?;
    let wants_backup = has(AWRITE_WRITE_BACKUP | AWRITE_WRITE_BACKUP_TIMESTAMP);
    let keep = (given.backup_keep > 0).then_some(given.backup_keep);
    let wants_backup = wants_backup || suffix.is_some() || dir.is_some() || backup_mode.is_some() || keep.is_some();
    let backup = wants_backup.then(|| {
        let plain = BackupOptions::default();
        BackupOptions {
            suffix: suffix.map_or(plain.suffix, |suffix| suffix.as_os_str().to_owned()),
            dir: dir.map(Path::to_owned),
            timestamp: has(AWRITE_WRITE_BACKUP_TIMESTAMP),
            mode: backup_mode,
            keep_newest: keep,
        }
    });
    Ok(WriteOptions {
        lock,
        lock_on_commit: has(AWRITE_WRITE_LATE_LOCK),
        append: has(AWRITE_WRITE_APPEND),
        mode,
        new_mode: WriteOptions::default().new_mode,
        preserve_mode: !has(AWRITE_WRITE_NO_PRESERVE_MODE),
        ownership: match given.ownership {
            AWRITE_OWNERSHIP_TRY => Ownership::TryKeep,
            AWRITE_OWNERSHIP_KEEP => Ownership::Keep,
            AWRITE_OWNERSHIP_WRITER => Ownership::Writer,
            other => return Err(bad_argument(format!("awrite_write_options.ownership is {other}"))),
        },
        preserve_xattrs: !has(AWRITE_WRITE_NO_PRESERVE_XATTRS),
        force: has(AWRITE_WRITE_FORCE),
        expect,
        allow_empty: has(AWRITE_WRITE_ALLOW_EMPTY),
        if_changed: has(AWRITE_WRITE_IF_CHANGED),
        in_place: has(AWRITE_WRITE_IN_PLACE),
        keep_inode: has(AWRITE_WRITE_KEEP_INODE),
        durability: match given.sync {
            AWRITE_SYNC_FULL => Durability::Full,
            AWRITE_SYNC_DATA => Durability::Data,
            AWRITE_SYNC_NONE => Durability::None,
            other => return Err(bad_argument(format!("awrite_write_options.sync is {other}"))),
        },
        verify: has(AWRITE_WRITE_VERIFY),
        mkdir: has(AWRITE_WRITE_MKDIR),
        backup,
        check,
        preview: None,
        dry_run: has(AWRITE_WRITE_DRY_RUN),
        observer: observer.unwrap_or_default(),
    })
}

/// What the target must contain.
///
/// # Safety
///
/// Each is NULL or a string.
unsafe fn expectation(text: *const c_char, same: *const c_char) -> Result<Option<Expect>> {
    // SAFETY: the caller promises it.
    match unsafe { (text.is_null(), optional_path(same, "expect_same")?) } {
        (true, None) => Ok(None),
        (true, Some(copy)) => Ok(Some(Expect::SameAs(copy.to_owned()))),
        // SAFETY: the same.
        (false, None) => Ok(Some(unsafe { argument::text(text, "expect") }?.parse::<Digest>()?.into())),
        (false, Some(_)) => Err(bad_argument("expect and expect_same contradict each other")),
    }
}

/// A check that calls the caller's function; `None` if that is NULL.
///
/// # Safety
///
/// `function` is NULL, or may be called with two paths and `context` as long as the check or a copy of it lives.
unsafe fn check_calling(function: awrite_check_fn, context: *mut c_void) -> Option<Check> {
    let callback = Callback::new(function, context)?;
    Some(Check::new(move |new, target| {
        let paths = [new, target].map(c_path);
        let (function, context) = callback.parts();
        // SAFETY: the caller promises it. The strings live until the function returns.
        match unsafe { function(paths[0].as_ptr(), paths[1].as_ptr(), context) } {
            0 => Ok(()),
            answer => Err(Error::new(ErrorKind::Refused, format!("the callback returned {answer}")).on(target)),
        }
    }))
}

/// Replaces a target by a block of memory.
///
/// @param target the file, which need not exist.
/// @param data,size the new content. They are only read during the call. A size of 0, with which data may be NULL, needs
/// AWRITE_WRITE_ALLOW_EMPTY.
/// @param options NULL for the defaults.
/// @param result receives what was done; or NULL. Left alone on failure.
///
/// @return AWRITE_OK; AWRITE_LOCKED; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT; AWRITE_ERROR; AWRITE_STOPPED by the check of
/// the options; AWRITE_NOT_DURABLE. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_write(
    target: *const c_char,
    data: *const c_void,
    size: usize,
    options: *const awrite_write_options,
    result: *mut awrite_result,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let target = argument::path(target, "target")?;
        let data = block(data, size)?;
        let (options, result) = (write_options(options)?, Out::new(result)?);
        let file = AtomicFile::open(target, &options)?;
        result.put_committed(&file.commit_with(data)?);
        Ok(())
    })
}

/// An update that is going on: the callback of awrite_update() reads from it and writes to it. It exists only during
/// the callback, and only the thread that runs the callback may use it.
pub struct awrite_update_io<'a> {
    pid: u32,
    target: &'a Path,
    old: &'a mut dyn Read,
    new: &'a mut dyn Write,
    /// The first error. The update fails by it even if the callback ignores it and returns 0.
    failed: Option<io::Error>,
}

impl awrite_update_io<'_> {
    fn record_failure<T>(&mut self, outcome: io::Result<T>) -> Result<T> {
        outcome.map_err(|e| {
            let copy = e.raw_os_error().map_or_else(|| io::Error::from(e.kind()), io::Error::from_raw_os_error);
            self.failed.get_or_insert(e);
            Error::io(self.target, copy)
        })
    }
}

/// Makes the new content of a target. Returns 0 to replace the target by what was written; anything else leaves it as
/// it was. So does a callback that has written nothing, unless AWRITE_ALLOW_EMPTY is set: where a language turns an
/// exception of the callback into 0, as Python does, the file is not emptied. It must return: see Callbacks.
pub type awrite_update_fn =
    Option<unsafe extern "C-unwind" fn(io: *mut awrite_update_io<'_>, context: *mut c_void) -> c_int>;

/// Reads and replaces a target under its lock, so that no other update is lost.
///
/// @param target the file, which need not exist; its content is empty then.
/// @param change called once, on this thread, with the lock held. It must not write or lock the same target in any
/// other way.
/// @param context passed to change.
/// @param options NULL for the defaults.
/// @param result receives what was done; or NULL. Left alone on failure.
///
/// @return AWRITE_OK; AWRITE_STOPPED if a callback returned anything but 0; AWRITE_ERROR, also if reading or writing
/// failed in the callback and it returned 0 even so, or if it wrote nothing without AWRITE_WRITE_ALLOW_EMPTY; AWRITE_LOCKED; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT;
/// AWRITE_NOT_DURABLE. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_update(
    target: *const c_char,
    change: awrite_update_fn,
    context: *mut c_void,
    options: *const awrite_write_options,
    result: *mut awrite_result,
) -> awrite_status {
    guard(|| {
        // SAFETY: what the header asks of the caller.
        let (target, options, result) =
            unsafe { (argument::path(target, "target")?, write_options(options)?, Out::new(result)?) };
        let change = change.ok_or_else(|| bad_argument("the callback is NULL"))?;
        let outcome = AtomicFile::open(target, &options)?.update(|old, new| {
            let mut io = awrite_update_io { pid: std::process::id(), target, old, new, failed: None };
            // SAFETY: it is the caller's function, and is called as the header says.
            let answer = unsafe { change(&raw mut io, context) };
            // A forked child must not return from it, nor replace the target with its parent if it does.
            ensure_same_process(io.pid).map_err(io::Error::other)?;
            if let Some(e) = io.failed.take() {
                return Err(e);
            }
            if answer == 0 { Ok(()) } else { Err(io::Error::other(format!("the callback returned {answer}"))) }
        });
        result.put_committed(&outcome?.1);
        Ok(())
    })
}

/// In a callback of awrite_update(): reads the next part of the current content.
///
/// @param io what the callback was called with.
/// @param buffer,capacity where to put it, and how many bytes fit there. The buffer stays the caller's.
/// @param got receives the number of bytes that were read; 0 at the end of the content, or on failure.
///
/// @return AWRITE_OK; AWRITE_ERROR; AWRITE_BAD_ARGUMENT. Only on the thread that runs the callback.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_update_read(
    io: *mut awrite_update_io<'_>,
    buffer: *mut c_void,
    capacity: usize,
    got: *mut usize,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let got = got.as_mut().ok_or_else(|| bad_argument("got is NULL"))?;
        *got = 0;
        let (io, into) = (handle_mut(io)?, argument::buffer(buffer, capacity)?);
        ensure_same_process(io.pid)?;
        let outcome = loop {
            match io.old.read(into) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        *got = io.record_failure(outcome)?;
        Ok(())
    })
}

/// In a callback of awrite_update(): adds a block to the new content. It is buffered, so small ones are fine.
///
/// @param io what the callback was called with.
/// @param data,size the block; data may be NULL if size is 0.
///
/// @return AWRITE_OK; AWRITE_ERROR; AWRITE_BAD_ARGUMENT. Only on the thread that runs the callback.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_update_write(
    io: *mut awrite_update_io<'_>,
    data: *const c_void,
    size: usize,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let (io, data) = (handle_mut(io)?, block(data, size)?);
        ensure_same_process(io.pid)?;
        let outcome = io.new.write_all(data);
        io.record_failure(outcome)
    })
}
