//! Locks
//!
//! The lock of a target is the one that the command awrite takes before it replaces it, and awrite-lock around a
//! command. Locks are advisory: they exclude those who ask for them. Two threads of one process exclude each other like
//! two processes. awrite_write(), awrite_update() and awrite_file_open() take the lock themselves: called for a target
//! whose lock this program holds, they wait for it for ever, and so does a command awrite that it runs. Below an
//! awrite-lock TARGET -- COMMAND they all go on under its lock.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::argument::{
    self, Growing, Handle, bad, flags, free, give, handle, handle_mut, mode, optional_path, options,
};
use super::notice::{self, awrite_notice_fn};
use super::status::{awrite_status, c_string, guard, guard_or};
use crate::error::Result;
use crate::lock::FileLock;
use crate::notice::Observer;
use crate::options::Claim;
use crate::options::{LockMethod, LockOptions, Wait};

/// awrite_lock_options.wait: wait until the lock is free.
pub const AWRITE_WAIT_FOREVER: u32 = 0;
/// awrite_lock_options.wait: wait for timeout_ms at the most.
pub const AWRITE_WAIT_LIMITED: u32 = 1;
/// awrite_lock_options.wait: do not wait. (It looks again for a few milliseconds, so that somebody who only looks at
/// the lock does not make it fail.)
pub const AWRITE_WAIT_NO: u32 = 2;

/// awrite_lock_options.flags: share the lock with other shared holders. A write ignores it.
pub const AWRITE_LOCK_SHARED: u32 = 1;
/// awrite_lock_options.flags: leave the lock file in place on release, for a lock shared with programs that do not
/// check its inode, such as flock(1). Every program that locks the same target must then do so.
pub const AWRITE_LOCK_KEEP: u32 = 2;
/// awrite_lock_options.flags: if the target is a symbolic link, mean the link itself and not the file behind it.
pub const AWRITE_LOCK_NO_FOLLOW: u32 = 4;
/// awrite_lock_options.flags: take what is not set here from the environment, as the commands do: AWRITE_LOCK_DIR,
/// AWRITE_KEEP_LOCK, AWRITE_LOCK_METHOD, AWRITE_STALE_AFTER.
pub const AWRITE_LOCK_ENVIRONMENT: u32 = 8;

/// lock_mode, mode, backup_mode: no permission bits at all (chmod 000), since 0 stands for the default there.
pub const AWRITE_MODE_NONE: u32 = 65536;

/// awrite_lock_options.method: flock(2), but link locks where advisory locks cannot be trusted (NFS, SMB, AFS).
pub const AWRITE_METHOD_AUTO: u32 = 0;
/// awrite_lock_options.method: flock(2) on a lock file without content.
pub const AWRITE_METHOD_FLOCK: u32 = 1;
/// awrite_lock_options.method: a lock file that comes into being by link(2) and says who holds it. A thread of the
/// library keeps it fresh.
pub const AWRITE_METHOD_LINK: u32 = 2;

/// How a lock is found and taken. All programs that lock the same target must use the same lock_file, lock_dir and
/// AWRITE_LOCK_KEEP. It and its strings are only read during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_lock_options {
    /// sizeof(awrite_lock_options).
    pub size: usize,
    /// AWRITE_WAIT_*.
    pub wait: u32,
    /// AWRITE_LOCK_*, or-ed.
    pub flags: u32,
    /// With AWRITE_WAIT_LIMITED: how long. Otherwise 0.
    pub timeout_ms: u64,
    /// Use this lock file instead of TARGET.lock.
    pub lock_file: *const c_char,
    /// Put lock files in this directory, named after the target's whole path with / written %.
    pub lock_dir: *const c_char,
    /// Permission bits of a lock file that is created. 0: 0600, and read and write for group or others where the target
    /// gives them write.
    pub lock_mode: u32,
    /// AWRITE_METHOD_*.
    pub method: u32,
    /// For a link lock: after how long without a sign of life from this process others break it. 0: a minute.
    pub stale_after_ms: u64,
    /// Act as the holder of this owner's lease: the lock is only taken while the lease is this owner's, and a write
    /// looks again right before it replaces the target. NULL: as anybody, who waits for the end of a lease as for the
    /// lock.
    pub owner: *const c_char,
    /// With owner: the token of that lease. 0: whichever lease the owner has.
    pub token: u64,
    /// Is told what happens, in this call and in later ones with the handle that it gives. NULL: nobody is.
    pub notice: awrite_notice_fn,
    /// Handed to notice. What it points to must stay until the handle is freed.
    pub notice_context: *mut c_void,
}

// SAFETY: repr(C), begins with its size, and numbers and pointers follow without a gap (tests/it/capi checks).
unsafe impl Growing for awrite_lock_options {
    const NAME: &'static str = "awrite_lock_options";
    const FIRST: usize = size_of::<Self>();
}

/// What `at` says.
///
/// # Safety
///
/// As [`options`], and its strings are strings.
pub(super) unsafe fn lock_options(at: *const awrite_lock_options) -> Result<LockOptions> {
    // SAFETY: the same promise.
    let given = unsafe { options(at) }?;
    let known = AWRITE_LOCK_SHARED | AWRITE_LOCK_KEEP | AWRITE_LOCK_NO_FOLLOW | AWRITE_LOCK_ENVIRONMENT;
    flags(given.flags, known, "awrite_lock_options.flags")?;
    let has = |flag| given.flags & flag != 0;

    let mut to = if has(AWRITE_LOCK_ENVIRONMENT) { LockOptions::from_env() } else { LockOptions::default() };
    to.wait = match (given.wait, given.timeout_ms) {
        (AWRITE_WAIT_FOREVER, 0) => Wait::Forever,
        (AWRITE_WAIT_LIMITED, ms) => Wait::For(Duration::from_millis(ms)),
        (AWRITE_WAIT_NO, 0) => Wait::No,
        (AWRITE_WAIT_FOREVER | AWRITE_WAIT_NO, _) => return Err(bad("a timeout_ms without AWRITE_WAIT_LIMITED")),
        (wait, _) => return Err(bad(format!("awrite_lock_options.wait is {wait}"))),
    };
    to.method = match given.method {
        AWRITE_METHOD_AUTO => to.method,
        AWRITE_METHOD_FLOCK => LockMethod::Flock,
        AWRITE_METHOD_LINK => LockMethod::Link,
        method => return Err(bad(format!("awrite_lock_options.method is {method}"))),
    };
    to.shared = has(AWRITE_LOCK_SHARED);
    to.keep |= has(AWRITE_LOCK_KEEP);
    to.follow = !has(AWRITE_LOCK_NO_FOLLOW);
    to.mode = mode(given.lock_mode, "awrite_lock_options.lock_mode")?;
    // SAFETY: strings or NULL, as the caller promises.
    let (file, dir) =
        unsafe { (optional_path(given.lock_file, "lock_file")?, optional_path(given.lock_dir, "lock_dir")?) };
    if file.is_some() && dir.is_some() {
        return Err(bad("lock_file and lock_dir exclude each other"));
    }
    if file.is_some() || dir.is_some() {
        (to.file, to.dir) = (file.map(Path::to_owned), dir.map(Path::to_owned));
    }
    if given.stale_after_ms > 0 {
        to.stale_after = Some(Duration::from_millis(given.stale_after_ms));
    }
    if !given.owner.is_null() {
        // SAFETY: a string, as the caller promises.
        to.claim = Some(unsafe { claim(given.owner, given.token) }?);
    } else if given.token != 0 {
        return Err(bad("a token without an owner"));
    }
    Ok(to)
}

/// The lease of `owner` with `token`, or with any when that is 0.
///
/// # Safety
///
/// `owner` is NULL or a string.
pub(super) unsafe fn claim(owner: *const c_char, token: u64) -> Result<Claim> {
    // SAFETY: the same promise.
    let claim = Claim::new(unsafe { argument::text(owner, "owner") }?)?;
    Ok(if token == 0 { claim } else { claim.with_token(token) })
}

/// Who is told, by these options: `None` where they name nobody.
///
/// # Safety
///
/// As [`lock_options`], and what their `notice` may be called with stays as long as the observer or a copy of it.
pub(super) unsafe fn lock_observer(at: *const awrite_lock_options) -> Result<Option<Observer>> {
    // SAFETY: the same promise.
    unsafe {
        let given = options(at)?;
        Ok(notice::observer(given.notice, given.notice_context))
    }
}

/// Both, for a call that has no other options; nobody is told where these name nobody.
///
/// # Safety
///
/// As [`lock_observer`].
pub(super) unsafe fn lock_terms(at: *const awrite_lock_options) -> Result<(LockOptions, Observer)> {
    // SAFETY: the same promise.
    unsafe { Ok((lock_options(at)?, lock_observer(at)?.unwrap_or_default())) }
}

/// A lock that is held.
///
/// Thread-safety: may be passed from thread to thread. awrite_lock_fd(), awrite_lock_path() and awrite_lock_check() may
/// be called by several threads at once; awrite_lock_release() and awrite_lock_free() only while nobody else uses it.
pub struct awrite_lock {
    held: Handle<FileLock>,
    path: CString,
}

/// # Safety
///
/// As the exports below.
unsafe fn acquire(
    lock: *mut *mut awrite_lock,
    target: *const c_char,
    options: *const awrite_lock_options,
    change: impl FnOnce(&mut LockOptions),
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        give(lock, || {
            let target = argument::path(target, "target")?;
            let (mut options, observer) = lock_terms(options)?;
            change(&mut options);
            let held = FileLock::acquire_with(target, &options, &observer)?;
            let path = c_string(held.path().as_os_str().as_bytes());
            Ok(awrite_lock { held: Handle::new(held), path })
        })
    })
}

/// Takes the lock of a target, waiting for it as the options say: for ever, if they say nothing.
///
/// lock: where to put the handle, which is to be freed with awrite_lock_free(); NULL is put there on failure.
/// target: the file, which need not exist; its directory must.
/// options: NULL for the defaults.
///
/// Returns AWRITE_OK; AWRITE_LOCKED if it could not be taken in time; AWRITE_BAD_ARGUMENT; AWRITE_ERROR if the lock
/// file could not be made or opened. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_acquire(
    lock: *mut *mut awrite_lock,
    target: *const c_char,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe { acquire(lock, target, options, |_| {}) }
}

/// The same, without waiting, whatever the options say of that.
///
/// lock, target, options: as in awrite_lock_acquire().
///
/// Returns as awrite_lock_acquire(); AWRITE_LOCKED means that another has it. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_try(
    lock: *mut *mut awrite_lock,
    target: *const c_char,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe { acquire(lock, target, options, |options| options.wait = Wait::No) }
}

/// The same, waiting for a limited time, whatever the options say of that.
///
/// lock, target, options: as in awrite_lock_acquire().
/// timeout_ms: for how long at the most, in milliseconds; 0: without waiting.
///
/// Returns as awrite_lock_acquire(); AWRITE_LOCKED means that the time has passed. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_timed(
    lock: *mut *mut awrite_lock,
    target: *const c_char,
    timeout_ms: u64,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe { acquire(lock, target, options, |options| options.wait = Wait::For(Duration::from_millis(timeout_ms))) }
}

/// The same as awrite_lock_acquire(), together with other shared holders: AWRITE_LOCK_SHARED is added to the options.
///
/// lock, target, options: as in awrite_lock_acquire().
///
/// Returns as awrite_lock_acquire(). Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_shared(
    lock: *mut *mut awrite_lock,
    target: *const c_char,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe { acquire(lock, target, options, |options| options.shared = true) }
}

/// The descriptor of the lock file, through which the lock is held. It belongs to the handle: do not close it, and do
/// not lock or unlock it. It is closed on exec; a child process that is to keep the lock alive needs a copy of it.
///
/// Returns the descriptor; -1 if there is none, because it is a link lock, or if the handle is NULL, released or the
/// parent process's (awrite_last_error() says so then). Thread-safe, with the same handle too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_fd(lock: *const awrite_lock) -> c_int {
    // SAFETY: what the header asks of the caller.
    guard_or(-1, || unsafe { Ok(handle(lock)?.held.get()?.descriptor().map_or(-1, |fd| fd.as_raw_fd())) })
}

/// The path of the lock file.
///
/// Returns a string that belongs to the handle and stays until that is freed, also after the release; NULL if the
/// handle is NULL. Thread-safe, with the same handle too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_path(lock: *const awrite_lock) -> *const c_char {
    // SAFETY: what the header asks of the caller.
    guard_or(std::ptr::null(), || unsafe { Ok(handle(lock)?.path.as_ptr()) })
}

/// Makes sure that the lock is still held. One by flock(2) always is; a link lock is lost by a process that was stopped
/// or cut off from the file server for too long.
///
/// Returns AWRITE_OK; AWRITE_LOCKED if it is lost; AWRITE_ERROR if that could not be found out; AWRITE_BAD_ARGUMENT.
/// Thread-safe, with the same handle too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_check(lock: *const awrite_lock) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe { handle(lock)?.held.get()?.ensure_held() })
}

/// Gives the lock back. The handle is still to be freed.
///
/// Returns AWRITE_OK; AWRITE_ERROR if the lock file could not be removed (the lock is given back even so);
/// AWRITE_BAD_ARGUMENT if it had been released before, is NULL, or the parent process's. No other call with the same
/// handle at the same time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_release(lock: *mut awrite_lock) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe { handle_mut(lock)?.held.take()?.release() })
}

/// Frees a handle, giving the lock back if it is still held; NULL is fine. In a forked child it frees the copy, and the
/// parent's lock stays. No other call with the same handle at the same time, or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_free(lock: *mut awrite_lock) {
    // SAFETY: what the header asks of the caller.
    guard_or((), || unsafe {
        free(lock);
        Ok(())
    });
}
