//! Leases
//!
//! A lease keeps all other owners, and all writers without a lease, away from a target, across many processes, until it
//! is released or its time has passed. While you need it, call awrite_lease_refresh() in good time: nothing refreshes a
//! lease by itself. To write as its holder, set owner and token in the awrite_lock_options of the write.

use std::ffi::c_char;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::argument::{self, Extensible, Handle, Out, bad_argument, free_handle, handle, handle_mut, new_handle};
use super::lock::{awrite_lock_options, claim, lock_options_and_observer};
use super::status::{awrite_status, c_array, guard, guard_or};
use crate::lease::{Lease, LeaseInfo};

/// A lease of a target.
///
/// Thread-safety: may be passed from thread to thread. Only one thread at a time may use it, in all its functions.
pub struct awrite_lease(Handle<Lease>);

/// Takes a lease of a target, for some time from now. If the owner has it already, this refreshes it, and the token
/// stays. Waits for the lock, and for the end of another owner's lease, as the options say.
///
/// @param lease receives the handle, which must be freed with awrite_lease_free(); NULL on failure.
/// @param target the file, which need not exist.
/// @param owner any text in UTF-8 of 1 to 255 bytes without control characters.
/// @param ttl_ms for how long, in milliseconds; at most ten years.
/// @param options NULL for the defaults. The members owner and token mean nothing here.
///
/// @return AWRITE_OK; AWRITE_LOCKED if another owner's lease did not end in time; AWRITE_BAD_ARGUMENT; AWRITE_ERROR,
/// also if the record of a lease is there but cannot be understood. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_acquire(
    lease: *mut *mut awrite_lease,
    target: *const c_char,
    owner: *const c_char,
    ttl_ms: u64,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe {
        new_handle(lease, || {
            let (target, owner) = (argument::path(target, "target")?, argument::text(owner, "owner")?);
            let (options, observer) = lock_options_and_observer(options)?;
            let lease = Lease::acquire_with(target, owner, Duration::from_millis(ttl_ms), &options, &observer)?;
            Ok(awrite_lease(Handle::new(lease)))
        })
    }
}

/// Goes on with a lease that was detached (awrite_lease_detach(), awrite-lock --acquire): refreshes it.
///
/// @param lease,target,owner,options as in awrite_lease_acquire().
/// @param token its token; 0: whichever lease the owner has.
/// @param ttl_ms for how long from now, in milliseconds; 0: for as long as the last time.
///
/// @return AWRITE_OK; AWRITE_LOCKED if the lease is not this owner's (any more); AWRITE_BAD_ARGUMENT; AWRITE_ERROR.
/// Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_resume(
    lease: *mut *mut awrite_lease,
    target: *const c_char,
    owner: *const c_char,
    token: u64,
    ttl_ms: u64,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    unsafe {
        new_handle(lease, || {
            let (target, claim) = (argument::path(target, "target")?, claim(owner, token)?);
            let (options, observer) = lock_options_and_observer(options)?;
            let ttl = (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms));
            let lease = Lease::resume(target, &claim, ttl, &options, &observer)?;
            Ok(awrite_lease(Handle::new(lease)))
        })
    }
}

/// Refreshes a lease: it lasts its whole time again, from now. This works even after the time has passed, so long as
/// nobody else has taken the lease.
///
/// @return AWRITE_OK; AWRITE_LOCKED if somebody else has the lease by now; AWRITE_LOCKED also if the target's lock
/// could not be taken in time, in which case the lease is unchanged and the caller should try again;
/// AWRITE_BAD_ARGUMENT; AWRITE_ERROR. With the same handle from one thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_refresh(lease: *mut awrite_lease) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe { handle_mut(lease)?.0.get_mut()?.refresh() })
}

/// The fencing token of a lease: greater than that of every lease of this target before. If the token is sent along
/// with what is done under the lease, a holder that is too late can be told from its successor.
///
/// @return the token; 0 if the handle is NULL, used up, or the parent process's. With the same handle from one thread
/// at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_token(lease: *const awrite_lease) -> u64 {
    // SAFETY: what the header asks of the caller.
    guard_or(0, || unsafe { Ok(handle(lease)?.0.get()?.token()) })
}

/// How long until the lease should be refreshed, in milliseconds; 0: now. It should be refreshed when a third of its
/// time has passed. After a sleep, ask again: the machine may have been suspended.
///
/// @return 0 also if the handle is NULL, used up, or the parent process's. With the same handle from one thread at a
/// time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_time_to_refresh(lease: *const awrite_lease) -> u64 {
    // SAFETY: what the header asks of the caller.
    guard_or(0, || unsafe { Ok(milliseconds(handle(lease)?.0.get()?.time_to_refresh())) })
}

/// Gives a lease back. The handle is still to be freed.
///
/// @return AWRITE_OK, also if somebody else has it by now; AWRITE_LOCKED or AWRITE_ERROR if the record could not be
/// removed (the lease then ends by itself); AWRITE_BAD_ARGUMENT. With the same handle from one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_release(lease: *mut awrite_lease) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe { handle_mut(lease)?.0.take()?.release() })
}

/// Leaves a lease standing until its end, so that another process can go on with it. The handle is used up and must
/// still be freed.
///
/// @return AWRITE_OK; AWRITE_BAD_ARGUMENT. With the same handle from one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_detach(lease: *mut awrite_lease) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        handle_mut(lease)?.0.take()?.detach();
        Ok(())
    })
}

/// Frees a handle; NULL is fine. A lease that was neither released nor detached is given back; for that, this waits up
/// to a second for the target's lock. In a forked child it frees the copy, and the parent's lease stays. No other call
/// with the same handle at the same time, or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_free(lease: *mut awrite_lease) {
    // SAFETY: what the header asks of the caller.
    unsafe { free_handle(lease) }
}

/// awrite_lease_info.state
pub type awrite_lease_state = u32;
/// There is none.
pub const AWRITE_LEASE_NONE: u32 = 0;
/// The target is leased.
pub const AWRITE_LEASE_LIVE: u32 = 1;
/// The time of the lease has passed, and nobody has taken it since.
pub const AWRITE_LEASE_EXPIRED: u32 = 2;

/// The lock and the lease of a target. Members about the lease are 0 or "" where there is none. Times are in
/// milliseconds since 1970, by the wall clock of the host that wrote the record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_lease_info {
    /// sizeof(awrite_lease_info), to be set by the caller.
    pub size: usize,
    /// Whether there is a lease.
    pub state: awrite_lease_state,
    /// 1 if the target's lock is held at this moment, else 0.
    pub locked: u32,
    /// The process that holds the lock; 0 where nobody does or it could not be found.
    pub lock_pid: u32,
    /// The process that wrote the record of the lease.
    pub pid: u32,
    /// The lease's token.
    pub token: u64,
    /// How long a refresh lets it last, in milliseconds.
    pub ttl_ms: u64,
    /// How long it still lasts, in milliseconds.
    pub left_ms: u64,
    /// When it was acquired.
    pub locked_at_ms: i64,
    /// When it was last refreshed.
    pub refreshed_at_ms: i64,
    /// When it ends.
    pub expires_at_ms: i64,
    /// The owner of the lease.
    pub owner: [c_char; 256],
    /// The host that wrote the record.
    pub host: [c_char; 256],
    /// Why the lease was taken; "" if its owner did not say.
    pub reason: [c_char; 256],
    /// Since when the lock is held; 0 where it is not or that is not known.
    pub lock_since_ms: i64,
}

// SAFETY: repr(C), begins with its size, and numbers follow without a gap (tests/it/capi checks).
unsafe impl Extensible for awrite_lease_info {
    const NAME: &'static str = "awrite_lease_info";
}

/// Looks at the lock and the lease of a target. Changes nothing and waits for nothing.
///
/// @param target the file, which need not exist.
/// @param options where its lock is; NULL for the defaults.
/// @param info receives the answer; its size must be set. Left alone on failure.
///
/// @return AWRITE_OK, whether it is free or not; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, also if the record of a lease is
/// there but cannot be understood. Thread-safe.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_read(
    target: *const c_char,
    options: *const awrite_lock_options,
    info: *mut awrite_lease_info,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        if info.is_null() {
            return Err(bad_argument("info is NULL"));
        }
        let target = argument::path(target, "target")?;
        let (options, observer) = lock_options_and_observer(options)?;
        let out = Out::new(info)?;
        let status = Lease::status_with(target, &options, &observer)?;
        let mut found = info_or_none(status.lease.as_ref());
        found.locked = u32::from(status.held);
        found.lock_since_ms = status.since.map_or(0, since_1970);
        found.lock_pid = status.holder.map_or(0, |holder| holder.pid);
        out.put(&found);
        Ok(())
    })
}

fn info_or_none(lease: Option<&LeaseInfo>) -> awrite_lease_info {
    lease.map_or(awrite_lease_info { state: AWRITE_LEASE_NONE, ..awrite_lease_info::zeroed() }, info_of)
}

/// The members about the lease.
pub(super) fn info_of(lease: &LeaseInfo) -> awrite_lease_info {
    awrite_lease_info {
        size: size_of::<awrite_lease_info>(),
        state: if lease.left.is_some() { AWRITE_LEASE_LIVE } else { AWRITE_LEASE_EXPIRED },
        locked: 0,
        lock_pid: 0,
        pid: lease.pid,
        token: lease.token,
        ttl_ms: milliseconds(lease.ttl),
        left_ms: lease.left.map_or(0, milliseconds),
        locked_at_ms: since_1970(lease.locked_at),
        refreshed_at_ms: since_1970(lease.refreshed_at),
        expires_at_ms: since_1970(lease.expires_at),
        owner: c_array(&lease.owner),
        host: c_array(&lease.host),
        reason: c_array(lease.reason.as_deref().unwrap_or_default()),
        lock_since_ms: 0,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn since_1970(time: SystemTime) -> i64 {
    let clamp = |distance: Duration| i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|before| -clamp(before.duration()), clamp)
}

/// Gives back a lease that was detached, without a handle.
///
/// @param target,owner,options as in awrite_lease_acquire().
/// @param token its token; 0: whichever lease the owner has.
///
/// @return AWRITE_OK, also if there was none; AWRITE_LOCKED if somebody else has it, or if the lock could not be taken
/// in time; AWRITE_BAD_ARGUMENT; AWRITE_ERROR. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_release_claimed(
    target: *const c_char,
    owner: *const c_char,
    token: u64,
    options: *const awrite_lock_options,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let (target, claim) = (argument::path(target, "target")?, claim(owner, token)?);
        let (options, observer) = lock_options_and_observer(options)?;
        Lease::release_claimed(target, &claim, &options, &observer).map(drop)
    })
}

/// Ends the lease of a target, whoever has it. Whoever works under it finds out at the next refresh or write. The next
/// token is greater, as ever. For those who may write the target only.
///
/// @param target,options as in awrite_lease_acquire().
/// @param info receives whose lease it was, its state is AWRITE_LEASE_NONE if there was none; its size must be set. Or
/// NULL.
///
/// @return AWRITE_OK, also if there was none; AWRITE_LOCKED if the lock could not be taken in time;
/// AWRITE_BAD_ARGUMENT; AWRITE_ERROR, also if this user may not write the target. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_lease_break(
    target: *const c_char,
    options: *const awrite_lock_options,
    info: *mut awrite_lease_info,
) -> awrite_status {
    // SAFETY: what the header asks of the caller.
    guard(|| unsafe {
        let (target, out) = (argument::path(target, "target")?, Out::new(info)?);
        let (options, observer) = lock_options_and_observer(options)?;
        let was = Lease::break_any(target, &options, &observer)?;
        out.put(&info_or_none(was.as_ref()));
        Ok(())
    })
}
