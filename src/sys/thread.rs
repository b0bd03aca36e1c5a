//! Threads: one that no signal is delivered to, and what this one may do.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// Room for a few system calls, and for what `std` needs.
const STACK: usize = 128 * 1024;

/// Runs `work` on a thread of its own, with all signals blocked: what is sent to the process is for the threads that
/// the program made itself, some of which wait for it.
///
/// Not through `std`, whose threads register a destructor when they begin. Where there is no memory for that, glibc
/// aborts, and what the process holds stays behind. This one takes nothing but its stack, and lack of that is an error
/// here.
pub(crate) fn start<W: FnOnce() + Send + 'static>(name: &'static CStr, work: W) -> io::Result<()> {
    extern "C" fn run<W: FnOnce()>(task: *mut c_void) -> *mut c_void {
        // SAFETY: it is the box that was given to pthread_create for this thread.
        let (name, work) = *unsafe { Box::from_raw(task.cast::<(&CStr, W)>()) };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = rustix::thread::set_name(name);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = name;
        // A panic must not leave a function that C calls. The hook has reported it.
        let _ = catch_unwind(AssertUnwindSafe(work));
        ptr::null_mut()
    }
    let task = Box::into_raw(Box::new((name, work)));
    // SAFETY: a thread that runs this type's `run` and gets the box it expects.
    match unsafe { create(run::<W>, task.cast()) } {
        0 => Ok(()),
        e => {
            // SAFETY: there is no thread that could have it.
            drop(unsafe { Box::from_raw(task) });
            Err(io::Error::from_raw_os_error(e))
        }
    }
}

/// Starts a detached thread that runs `run` with `task`; the result is pthread_create's.
///
/// # Safety
///
/// `run` may be called once with `task`, on another thread, at any time.
unsafe fn create(run: extern "C" fn(*mut c_void) -> *mut c_void, task: *mut c_void) -> c_int {
    let mut how = MaybeUninit::<libc::pthread_attr_t>::zeroed();
    let mut thread = MaybeUninit::<libc::pthread_t>::zeroed();
    // A new thread inherits the mask of the one that makes it, so there is no instant in which it could take a signal.
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: all pointers are to live locals of the right types; sigfillset initialises `all`, pthread_attr_init `how`,
    // and SIG_SETMASK, which fills in `before`, cannot fail. The caller answers for `run` and `task`.
    unsafe {
        match libc::pthread_attr_init(how.as_mut_ptr()) {
            0 => {}
            e => return e,
        }
        // The default stack is larger, which is no harm if this fails.
        libc::pthread_attr_setstacksize(how.as_mut_ptr(), STACK);
        libc::pthread_attr_setdetachstate(how.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let started = libc::pthread_create(thread.as_mut_ptr(), how.as_ptr(), run, task);
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        libc::pthread_attr_destroy(how.as_mut_ptr());
        started
    }
}

/// Whether it may do with anybody's file what else only the owner may (capabilities(7), CAP_FOWNER).
pub(crate) fn may_act_as_owner() -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Ok(sets) = rustix::thread::capabilities(None) {
        return sets.effective.contains(rustix::thread::CapabilitySet::FOWNER);
    }
    rustix::process::geteuid().is_root()
}
