//! Keeping this thread from being cancelled (pthread_cancel(3)): by a C program, inside a call of the library.
#![allow(unsafe_code)]

use std::ffi::c_int;

/// While this lives, this thread cannot be cancelled. To cancel a thread unwinds it without a panic, for which `std` aborts
/// the process. A request that comes meanwhile waits.
#[must_use]
pub(crate) struct Uncancelled(c_int);

impl Uncancelled {
    pub(crate) fn new() -> Uncancelled {
        Uncancelled(set_state(DISABLE))
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        set_state(self.0);
    }
}

const DISABLE: c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };

/// Returns the state before.
#[cfg(not(target_os = "android"))]
fn set_state(state: c_int) -> c_int {
    // The crate libc does not declare it for Linux.
    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    }
    let mut before = 0;
    // SAFETY: the pointer is to a live local. It only fails for a state that does not exist.
    unsafe { pthread_setcancelstate(state, &raw mut before) };
    before
}

/// No thread can be cancelled there.
#[cfg(target_os = "android")]
fn set_state(state: c_int) -> c_int {
    state
}
