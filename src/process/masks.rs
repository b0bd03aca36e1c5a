//! Signal dispositions and masks: those that this process was started with, and its own.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use super::limits;

/// Their dispositions are restored in a child.
pub(super) const HANDED_ON: [c_int; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ, libc::SIGCHLD];
/// They end the work cleanly.
pub(super) const ENDING: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// The signal dispositions and the mask that this process was started with.
#[derive(Clone, Copy)]
pub(crate) struct Inherited {
    /// Parallel to `HANDED_ON`. A new program starts with a signal either ignored or at its default.
    pub(super) ignored: [bool; HANDED_ON.len()],
    pub(super) mask: libc::sigset_t,
}

/// Records what was inherited, and ignores SIGPIPE and SIGXFSZ: a write then fails with an error instead.
pub(crate) fn take_over() -> Inherited {
    let mut ignored = [false; HANDED_ON.len()];
    for (signal, ignored) in HANDED_ON.into_iter().zip(&mut ignored) {
        let inherited = match signal {
            libc::SIGPIPE | libc::SIGXFSZ => set_disposition(signal, libc::SIG_IGN),
            _ => disposition(signal),
        };
        *ignored = inherited == libc::SIG_IGN;
        if signal == libc::SIGCHLD && *ignored {
            // If SIGCHLD is ignored, the kernel reaps children and their status is lost (waitid: ECHILD).
            set_disposition(signal, libc::SIG_DFL);
        }
    }
    Inherited { ignored, mask: set_mask(None) }
}

impl Inherited {
    pub(super) fn ignores(&self, signal: c_int) -> bool {
        HANDED_ON.into_iter().zip(self.ignored).any(|(known, ignored)| known == signal && ignored)
    }

    /// Makes `command` start as this process was started.
    pub(crate) fn hand_to(&self, command: &mut Command) {
        let Inherited { ignored, mask } = *self;
        limits::lower_again(command);
        // `pre_exec` runs after std's own preparations, which set SIGPIPE to its default and empty the mask.
        // SAFETY: the closure runs between fork and exec. It makes only async-signal-safe calls, on its own data.
        unsafe {
            command.pre_exec(move || {
                for (signal, ignored) in HANDED_ON.into_iter().zip(ignored) {
                    // What is handled has its default in a new program. Of what was ignored, only these two are not.
                    match signal {
                        libc::SIGPIPE | libc::SIGXFSZ if !ignored => set_disposition(signal, libc::SIG_DFL),
                        libc::SIGPIPE | libc::SIGCHLD if ignored => set_disposition(signal, libc::SIG_IGN),
                        _ => continue,
                    };
                }
                set_mask(Some(&mask));
                Ok(())
            });
        }
    }
}

/// The current disposition of `signal`.
pub(super) fn disposition(signal: c_int) -> libc::sighandler_t {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the pointer is to a local of the right type, and all-zero is a valid value of it.
    unsafe {
        libc::sigaction(signal, ptr::null(), old.as_mut_ptr());
        old.assume_init().sa_sigaction
    }
}

/// Sets the disposition of `signal` (not SIGKILL or SIGSTOP) and returns the former one. A handler runs with the ending
/// signals blocked. Async-signal-safe.
pub(super) fn set_disposition(signal: c_int, to: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: `sigaction` is plain data for which all-zero is valid; the pointers are to live locals; the callers pass
    // SIG_IGN, SIG_DFL or `on_signal`, which is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = to;
        action.sa_flags = libc::SA_RESTART;
        if to != libc::SIG_IGN && to != libc::SIG_DFL {
            action.sa_flags |= libc::SA_SIGINFO;
        }
        libc::sigemptyset(&raw mut action.sa_mask);
        for ending in ENDING {
            libc::sigaddset(&raw mut action.sa_mask, ending);
        }
        let mut old = MaybeUninit::<libc::sigaction>::zeroed();
        libc::sigaction(signal, &raw const action, old.as_mut_ptr());
        old.assume_init().sa_sigaction
    }
}

/// Sets this thread's signal mask, if one is given, and returns the former one. Async-signal-safe.
pub(super) fn set_mask(to: Option<&libc::sigset_t>) -> libc::sigset_t {
    let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both pointers are null or to live values; all-zero is a valid set, should the call fail.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, to.map_or(ptr::null(), ptr::from_ref), old.as_mut_ptr());
        old.assume_init()
    }
}

pub(super) fn all_signals() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the pointer is to a local of the right type, which the call fills in.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    }
}
