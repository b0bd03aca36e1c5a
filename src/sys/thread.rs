//! Threads: one that no signal is delivered to, and what this one may do.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread::Builder;

/// Room for a few system calls, and for what `std` needs.
const STACK: usize = 128 * 1024;

/// Runs `work` on a thread of its own, with all signals blocked: what is sent to the process is for the threads that
/// the program made itself, some of which wait for it.
pub(crate) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // A new thread inherits the mask of the one that makes it, so there is no instant in which it could take a signal.
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both are live and of the right type; sigfillset initialises `all`, and SIG_SETMASK cannot fail.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let started = Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work);
    // SAFETY: `before` was filled in by the call above.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
    started.map(drop)
}

/// Whether it may do with anybody's file what else only the owner may (capabilities(7), CAP_FOWNER).
pub(crate) fn may_act_as_owner() -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Ok(sets) = rustix::thread::capabilities(None) {
        return sets.effective.contains(rustix::thread::CapabilitySet::FOWNER);
    }
    rustix::process::geteuid().is_root()
}
