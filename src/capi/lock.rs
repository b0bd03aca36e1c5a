//! Locks
//!
//! The lock of a target is the one that the command awrite takes before it replaces the target, and that awrite-lock
//! holds around a command. Locks are advisory: they only exclude programs that ask for them. Two threads of one process
//! exclude each other like two processes. awrite_write(), awrite_update() and awrite_writer_open() take the lock
//! themselves. If this program already holds the lock of their target, awrite_write_options.held_lock lets them go on under
//! it. Without that, they wait for the thread that holds it; a thread that would wait for itself without a limit gets
//! AWRITE_LOCKED at once. (A program that passes a lock to another thread, and means to wait for that one, sets a limit.) A
//! command awrite that the program runs waits for the lock. Below awrite-lock TARGET -- COMMAND, all of them go on under
//! the lock of awrite-lock.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use super::argument::{
    self, Extensible, Handle, bad_argument, free_handle, handle, handle_mut, known_flags, new_handle, optional_path,
    read_options,
};
use super::notice::{self, awrite_notice_fn};
use super::status::{awrite_status, c_path, guard, guard_or};
use crate::error::Result;
use crate::lock::FileLock;
use crate::notice::Observer;
use crate::options::Claim;
use crate::options::{LockMethod, LockOptions, Under, Wait, check_reason};

/// awrite_lock_options.wait: how long to wait for a lock that somebody else holds.
pub type awrite_wait = u32;
/// Wait until the lock is free.
pub const AWRITE_WAIT_FOREVER: u32 = 0;
/// Wait for timeout_ms at the most.
pub const AWRITE_WAIT_LIMITED: u32 = 1;
/// Do not wait. (The library tries again for a few milliseconds, so that a program that only
/// looks at the lock does not make the call fail.)
pub const AWRITE_WAIT_NO: u32 = 2;

/// awrite_lock_options.flags, or-ed.
pub type awrite_lock_flags = u32;
/// None of them.
#[allow(dead_code, reason = "for C")]
pub const AWRITE_LOCK_DEFAULT: u32 = 0;
/// Share the lock with other shared holders. A write ignores it.
pub const AWRITE_LOCK_SHARED: u32 = 1;
/// Leave the lock file in place on release, for a lock shared with programs that do not
/// check its inode, such as flock(1). Every program that locks the same target must then do so.
pub const AWRITE_LOCK_KEEP: u32 = 2;
/// If the target is a symbolic link, use the link itself and not the file behind it.
pub const AWRITE_LOCK_NO_FOLLOW: u32 = 4;
/// Do not take what is not set here from the environment. Without this flag the variables
/// AWRITE_LOCK_DIR, AWRITE_KEEP_LOCK, AWRITE_LOCK_METHOD, AWRITE_STALE_AFTER and AWRITE_STORE count as they do for the
/// commands, so that both find the same lock and the same lease.
pub const AWRITE_LOCK_NO_ENVIRONMENT: u32 = 8;

/// lock_mode, mode, backup_mode: no permission bits at all (chmod 000), since 0 stands for the default there.
pub const AWRITE_MODE_NONE: u32 = 65536;

/// awrite_lock_options.method: what a lock is.
pub type awrite_method = u32;
/// flock(2), but link locks where advisory locks cannot be trusted (NFS, SMB, AFS).
pub const AWRITE_METHOD_AUTO: u32 = 0;
/// flock(2) on a lock file without content.
pub const AWRITE_METHOD_FLOCK: u32 = 1;
/// A lock file that is created by link(2) and says who holds it. A thread of the library
/// keeps it fresh.
pub const AWRITE_METHOD_LINK: u32 = 2;

/// How a lock is found and taken. All programs that lock the same target must use the same lock_file, lock_dir and
/// AWRITE_LOCK_KEEP. The struct and its strings are only read during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_lock_options {
    /// sizeof(awrite_lock_options).
    pub size: usize,
    /// How long to wait. 0: for ever.
    pub wait: awrite_wait,
    /// AWRITE_LOCK_*, or-ed.
    pub flags: awrite_lock_flags,
    /// With AWRITE_WAIT_LIMITED: how long. Otherwise 0.
    pub timeout_ms: u64,
    /// Use this lock file instead of TARGET.lock.
    pub lock_file: *const c_char,
    /// Put lock files in this directory, named after the target's whole path with / written %.
    pub lock_dir: *const c_char,
    /// Permission bits of a lock file that is created. 0: 0600, and read and write for group or others where the target
    /// gives them write.
    pub lock_mode: u32,
    /// What a lock is. 0: AWRITE_METHOD_AUTO.
    pub method: awrite_method,
    /// For a link lock: others break it after this time without a sign of life from this process. 0: a minute.
    pub stale_after_ms: u64,
    /// Act as the holder of this owner's lease: the lock is only taken while the lease is this owner's, and a write
    /// checks that again right before it replaces the target. NULL: act without a lease, and wait for the end of any
    /// lease as for the lock.
    pub owner: *const c_char,
    /// With owner: the token of that lease. 0: whichever lease the owner has.
    pub token: u64,
    /// Gets the notices of this call, and of later calls with the handle that it makes. NULL: there are none.
    pub notice: awrite_notice_fn,
    /// Passed to notice. What it points to must stay valid until the handle is freed.
    pub notice_context: *mut c_void,
    /// For awrite_lease_acquire() and awrite_lease_resume(): why the lease is taken, for those whom it keeps out. One
    /// line of UTF-8, of 1 to 255 bytes. NULL: none; a lease that is there keeps its own.
    pub reason: *const c_char,
}

// SAFETY: repr(C), begins with its size, and numbers and pointers follow without a gap (tests/it/capi checks).
unsafe impl Extensible for awrite_lock_options {
    const NAME: &'static str = "awrite_lock_options";
}

/// Reads and checks the options of a lock.
///
/// # Safety
///
/// The same as for [`read_options`]. Each string in it is NULL or a C string.
pub(super) unsafe fn lock_options(at: *const awrite_lock_options) -> Result<LockOptions> {
    // SAFETY: the caller promises the same.
    let given = unsafe { read_options(at) }?;
    let known = AWRITE_LOCK_SHARED | AWRITE_LOCK_KEEP | AWRITE_LOCK_NO_FOLLOW | AWRITE_LOCK_NO_ENVIRONMENT;
    let has = known_flags(given.flags, known, "awrite_lock_options.flags")?;

    let mut options = if has(AWRITE_LOCK_NO_ENVIRONMENT) { LockOptions::default() } else { LockOptions::from_env() };
    options.wait = match (given.wait, given.timeout_ms) {
        (AWRITE_WAIT_FOREVER, 0) => Wait::Forever,
        (AWRITE_WAIT_LIMITED, ms) => Wait::For(Duration::from_millis(ms)),
        (AWRITE_WAIT_NO, 0) => Wait::No,
        (AWRITE_WAIT_FOREVER | AWRITE_WAIT_NO, _) => {
            return Err(bad_argument("a timeout_ms without AWRITE_WAIT_LIMITED"));
        }
        (wait, _) => return Err(bad_argument(format!("awrite_lock_options.wait is {wait}"))),
    };
    options.method = match given.method {
        AWRITE_METHOD_AUTO => options.method,
        AWRITE_METHOD_FLOCK => LockMethod::Flock,
        AWRITE_METHOD_LINK => LockMethod::Link,
        method => return Err(bad_argument(format!("awrite_lock_options.method is {method}"))),
    };
    options.shared = has(AWRITE_LOCK_SHARED);
    options.keep_file |= has(AWRITE_LOCK_KEEP);
    options.follow = !has(AWRITE_LOCK_NO_FOLLOW);
    options.mode = permission_bits(given.lock_mode, "awrite_lock_options.lock_mode")?;
    // SAFETY: the caller promises that each is NULL or a C string.
    let (file, dir) =
        unsafe { (optional_path(given.lock_file, "lock_file")?, optional_path(given.lock_dir, "lock_dir")?) };
    if file.is_some() && dir.is_some() {
        return Err(bad_argument("lock_file and lock_dir exclude each other"));
    }
    if file.is_some() || dir.is_some() {
        (options.file, options.dir) = (file.map(Path::to_owned), dir.map(Path::to_owned));
    }
    if given.stale_after_ms > 0 {
        options.stale_after = Some(Duration::from_millis(given.stale_after_ms));
    }
    if !given.owner.is_null() {
        // SAFETY: the caller promises that it is a C string.
        options.claim = Some(unsafe { claim(given.owner, given.token) }?);
    } else if given.token != 0 {
        return Err(bad_argument("a token without an owner"));
    }
    if !given.reason.is_null() {
        // SAFETY: the caller promises that it is a C string.
        let reason = unsafe { argument::text(given.reason, "reason") }?;
        check_reason(reason)?;
        options.reason = Some(reason.to_owned());
    }
    Ok(options)
}

/// Reads permission bits, for a write too. `None` (0 in C) means the default.
pub(super) fn permission_bits(mode: u32, name: &str) -> Result<Option<u32>> {
    match mode {
        0 => Ok(None),
        1..=0o7777 => Ok(Some(mode)),
        AWRITE_MODE_NONE => Ok(Some(0)),
        _ => Err(bad_argument(format!("{name} has more than permission bits"))),
    }
}

/// The claim to the lease of `owner` with `token`. A token of 0 means whichever lease the owner has.
///
/// # Safety
///
/// `owner` is NULL or a C string.
pub(super) unsafe fn claim(owner: *const c_char, token: u64) -> Result<Claim> {
    // SAFETY: the caller promises the same.
    let claim = Claim::new(unsafe { argument::text(owner, "owner") }?)?;
    Ok(if token == 0 { claim } else { claim.with_token(token) })
}

/// An observer that calls the function `notice` of these options; `None` if that is NULL.
///
/// # Safety
///
/// The same as for [`lock_options`]. `notice` may be called with `notice_context` as long as the observer or a copy of
/// it lives.
pub(super) unsafe fn lock_observer(at: *const awrite_lock_options) -> Result<Option<Observer>> {
    // SAFETY: the caller promises the same.
    unsafe {
        let given = read_options(at)?;
        Ok(notice::observer(given.notice, given.notice_context))
    }
}

/// The options and the observer, for a call that has no other options. If `notice` is NULL, the observer does nothing.
///
/// # Safety
///
/// The same as for [`lock_observer`].
pub(super) unsafe fn lock_options_and_observer(at: *const awrite_lock_options) -> Result<(LockOptions, Observer)> {
    // SAFETY: the caller promises the same.
    unsafe { Ok((lock_options(at)?, lock_observer(at)?.unwrap_or_default())) }
}

/// A lock that is held, or those of several targets.
///
/// Thread-safety: may be passed from thread to thread. awrite_lock_fd(), awrite_lock_path() and awrite_lock_check() may
/// be called by several threads at once; awrite_lock_release() and awrite_lock_free() only while nobody else uses it.
pub struct awrite_lock {
    /// Not empty.
    held: Handle<Vec<FileLock>>,
    path: CString,
}

/// Acquires the locks of all `targets`, or none.
///
/// # Safety
///
/// The same as for the exports below.
unsafe fn acquire(
    lock: *mut *mut awrite_lock,
    targets: &[*const c_char],
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe {
        new_handle(lock, || {
            let targets: Result<Vec<&Path>> = targets.iter().map(|target| argument::path(*target, "target")).collect();
            let targets = targets?;
            let (options, observer) = lock_options_and_observer(options)?;
            let held = FileLock::acquire_all(&targets, &options, &observer)?;
            let path = held.first().map(|first| c_path(first.path()));
            let path = path.ok_or_else(|| bad_argument("there is no target: count is 0"))?;
            Ok(awrite_lock { held: Handle::new(held), path })
        })
    }
}

/// What to go on under this lock with; `None` for NULL.
///
/// # Safety
///
/// `lock` is NULL, or was not freed yet and nobody changes it meanwhile.
pub(super) unsafe fn under(lock: *const awrite_lock) -> Result<Option<Under>> {
    // SAFETY: the caller promises the same.
    Ok(match unsafe { lock.as_ref() } {
        Some(lock) => Some(lock.held.get()?.as_slice().into()),
        None => None,
    })
}

/// Takes the lock of a target. It waits as the options say (for ever, if they say nothing), and shares the lock with
/// other readers if AWRITE_LOCK_SHARED is among their flags.
///
/// @param lock receives the handle, which must be freed with awrite_lock_free(); NULL on failure.
/// @param target the file, which need not exist; its directory must.
/// @param options NULL for the defaults.
///
/// @return AWRITE_OK; AWRITE_LOCKED if it could not be taken in time; AWRITE_STOPPED if the notice function gave up the
/// wait; AWRITE_BAD_ARGUMENT; AWRITE_ERROR if the lock
/// file could not be made or opened. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_acquire(
    lock: *mut *mut awrite_lock,
    target: *const c_char,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe { acquire(lock, &[target], options) }
}

/// Takes the locks of several targets, or none of them. The order in which it takes them is the same for every caller,
/// so two callers never wait for each other, whatever the order of their targets. Take all that is needed in one call:
/// a lock that is taken in addition later has no part in this.
///
/// @param lock receives one handle for all of them, to be freed with awrite_lock_free(); NULL on failure.
/// @param targets,count the files, at least one. One that is named twice is locked once.
/// @param options NULL for the defaults. The time to wait is about all of them together. Without lock_file, unless
/// there is one target only.
///
/// @return as awrite_lock_acquire(). Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_acquire_all(
    lock: *mut *mut awrite_lock,
    targets: *const *const c_char,
    count: usize,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe {
        match argument::array(targets, count) {
            Ok(targets) => acquire(lock, targets, options),
            Err(error) => new_handle(lock, || Err(error)),
        }
    }
}

/// The descriptor of the lock file (of several targets: the first one's), through which the lock is held. It belongs to
/// the handle: do not close it, and do not lock or unlock it. It is closed on exec; a child process that is to keep the
/// lock alive needs a copy of it.
///
/// @return the descriptor; -1 if there is none, because it is a link lock, or if the handle is NULL, released or the
/// parent process's (awrite_last_error() says so then). Thread-safe, with the same handle too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_fd(lock: *const awrite_lock) -> c_int {
    // SAFETY: what the header asks of the caller.
    guard_or(-1, || unsafe { Ok(handle(lock)?.held.get()?[0].descriptor().map_or(-1, |fd| fd.as_raw_fd())) })
}

/// The path of the lock file; of several targets: the first one's.
///
/// @return a string that belongs to the handle and stays until the handle is freed, also after the release; NULL if the
/// handle is NULL. Thread-safe, with the same handle too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_path(lock: *const awrite_lock) -> *const c_char {
    // SAFETY: what the header asks of the caller.
    guard_or(std::ptr::null(), || unsafe { Ok(handle(lock)?.path.as_ptr()) })
}

/// Makes sure that the lock is still held; of several targets: all of them. A lock by flock(2) always is. A link lock
/// is lost if the process was stopped, or cut off from the file server, for too long.
///
/// @return AWRITE_OK; AWRITE_LOCKED if it is lost; AWRITE_ERROR if that could not be found out; AWRITE_BAD_ARGUMENT.
/// Thread-safe, with the same handle too.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_check(lock: *const awrite_lock) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe { handle(lock)?.held.get()?.iter().try_for_each(FileLock::ensure_held) })
}

/// Gives the lock back. The handle is still to be freed.
///
/// @return AWRITE_OK; AWRITE_ERROR if the lock file could not be removed (the lock is given back even so);
/// AWRITE_BAD_ARGUMENT if the handle is NULL, was released before, or is the parent process's. No other call with the
/// same handle at the same time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_release(lock: *mut awrite_lock) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let all = handle_mut(lock)?.held.take()?;
        // All of them, whatever becomes of one.
        let outcomes: Vec<Result<()>> = all.into_iter().rev().map(FileLock::release).collect();
        outcomes.into_iter().collect()
    })
}

/// Frees a handle, giving the lock back if it is still held; NULL is fine. In a forked child it frees the copy, and the
/// parent's lock stays. No other call with the same handle at the same time, or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lock_free(lock: *mut awrite_lock) {
    // SAFETY: what the header asks of the caller.
    unsafe { free_handle(lock) }
}
