//! What is held
//!
//! Who holds, leases or waits for the files in a directory.

use std::ffi::{c_char, c_int, c_void};

use super::argument::{self, bad_argument, known_flags};
use super::lease::{awrite_lease_info, info_of, since_1970};
use super::lock::{awrite_lock_options, lock_options_and_observer};
use super::status::{awrite_status, c_path, c_string, guard};
use crate::error::{Error, ErrorKind};
use crate::holds::{Hold, HoldState, list_holds};

/// awrite_hold.state. Later versions may add some: ignore those that you do not know.
pub type awrite_hold_state = u32;
/// The process holds the lock.
pub const AWRITE_HOLD_HELD: u32 = 1;
/// The process waits for the lock. Known on Linux only.
pub const AWRITE_HOLD_WAITING: u32 = 2;
/// The target is leased.
pub const AWRITE_HOLD_LEASED: u32 = 3;

/// What awrite_hold_list() looks at, or-ed.
pub type awrite_holds_flags = u32;
/// What is in the directory itself.
#[allow(dead_code, reason = "for C")]
pub const AWRITE_HOLDS_DEFAULT: u32 = 0;
/// Also what is below the directory; never through symbolic links.
pub const AWRITE_HOLDS_RECURSIVE: u32 = 1;

/// Somebody who holds, leases or waits for a target. The library makes it and its strings. They exist only during the
/// callback.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_hold {
    /// The size of this struct in the library that runs.
    pub size: usize,
    /// What the process, or the owner of the lease, does.
    pub state: awrite_hold_state,
    /// The process that holds the lock or waits for it; 0 where it could not be found, and for a lease.
    pub pid: u32,
    /// The target: the directory as it was given, and the path from there. The path of the lock file where its name
    /// does not say which target it is of. Never NULL.
    pub target: *const c_char,
    /// The lock file. Never NULL.
    pub lock_file: *const c_char,
    /// The command line of the process. Never NULL; "" where it is not known.
    pub command: *const c_char,
    /// Since when, in milliseconds since 1970; 0 where it is not known.
    pub since_ms: i64,
    /// AWRITE_HOLD_LEASED: the lease. Otherwise NULL.
    pub lease: *const awrite_lease_info,
}

/// Gets what is held, one by one. Returns 0 to go on; anything else stops it. It must return: see Callbacks.
pub type awrite_hold_fn = Option<unsafe extern "C-unwind" fn(hold: *const awrite_hold, context: *mut c_void) -> c_int>;

/// Tells who holds, leases or waits for the files in a directory, in the order of their names. Changes nothing and
/// waits for nothing. Those who wait for the end of a lease are not known.
///
/// @param dir the directory.
/// @param flags AWRITE_HOLDS_*, or-ed.
/// @param options where the locks are: lock_dir; NULL for the defaults.
/// @param tell called on this thread for each of them; not NULL.
/// @param context passed to tell.
///
/// @return AWRITE_OK; AWRITE_STOPPED if the callback returned anything but 0; AWRITE_ERROR if the directory could not
/// be read, or if something in it could not be looked at (the rest was told); AWRITE_BAD_ARGUMENT. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_hold_list(
    dir: *const c_char,
    flags: awrite_holds_flags,
    options: *const awrite_lock_options,
    tell: awrite_hold_fn,
    context: *mut c_void,
) -> awrite_status {
    guard(|| {
        // SAFETY: what the header asks of the caller.
        let (dir, (options, observer)) = unsafe { (argument::path(dir, "dir")?, lock_options_and_observer(options)?) };
        let has = known_flags(flags, AWRITE_HOLDS_RECURSIVE, "flags")?;
        let tell = tell.ok_or_else(|| bad_argument("tell is NULL"))?;
        let (mut stopped, mut failed) = (false, None);
        list_holds(dir, has(AWRITE_HOLDS_RECURSIVE), &options, &observer, &mut |outcome| match outcome {
            _ if stopped => {}
            // SAFETY: it is the caller's function, and is called as the header says.
            Ok(hold) => stopped = unsafe { call_tell(tell, context, &hold) } != 0,
            Err(error) => drop(failed.get_or_insert(error)),
        })?;
        if stopped {
            return Err(Error::new(ErrorKind::Refused, "stopped by the callback").on(dir));
        }
        failed.map_or(Ok(()), Err)
    })
}

/// # Safety
///
/// `tell` may be called with a hold and `context`.
unsafe fn call_tell(
    tell: unsafe extern "C-unwind" fn(*const awrite_hold, *mut c_void) -> c_int,
    context: *mut c_void,
    hold: &Hold,
) -> c_int {
    let (state, by, since, lease) = match &hold.state {
        HoldState::Held { by, since } => (AWRITE_HOLD_HELD, by.as_ref(), *since, None),
        HoldState::Waiting { by } => (AWRITE_HOLD_WAITING, Some(by), None, None),
        HoldState::Leased(lease) => (AWRITE_HOLD_LEASED, None, Some(lease.locked_at), Some(info_of(lease))),
    };
    let (target, lock_file) = (c_path(&hold.target), c_path(&hold.lock_file));
    let command = c_string(by.map_or("", |by| &by.command));
    let hold = awrite_hold {
        size: size_of::<awrite_hold>(),
        state,
        pid: by.map_or(0, |by| by.pid),
        target: target.as_ptr(),
        lock_file: lock_file.as_ptr(),
        command: command.as_ptr(),
        since_ms: since.map_or(0, since_1970),
        lease: lease.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
    };
    // SAFETY: the caller promises it. The strings and the lease live until the function returns.
    unsafe { tell(&raw const hold, context) }
}
