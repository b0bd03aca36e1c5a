//! A deadline for one blocking system call: an interval timer whose signal interrupts it.
//!
//! The timer repeats, because a single signal that arrives between the last look at the clock and the call would be
//! lost, and the call would block for good. It changes process-wide state (the disposition of SIGALRM, the real
//! interval timer) and this thread's signal mask; dropping puts all three back.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// How often the signal repeats after the deadline, until the call has noticed.
const REPEAT: Duration = Duration::from_millis(2);

/// While it lives, blocking calls of this thread fail with EINTR from the deadline on.
#[must_use]
pub(crate) struct Alarm {
    old_action: libc::sigaction,
    old_mask: libc::sigset_t,
    old_timer: libc::itimerval,
}

extern "C" fn interrupt(_signal: libc::c_int) {}

impl Alarm {
    /// Sets the timer to `left` from now, and from then on to every two milliseconds.
    pub(crate) fn after(left: Duration) -> io::Result<Alarm> {
        // A timer of zero would be no timer at all.
        let first = timeval(left.max(Duration::from_micros(1)));
        let timer = libc::itimerval { it_interval: timeval(REPEAT), it_value: first };
        // SAFETY: `sigaction` and `sigset_t` are plain data; every pointer is to a live local of the right type, and
        // the handler does nothing, which is async-signal-safe. sa_flags lacks SA_RESTART on purpose.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int) = interrupt;
            action.sa_sigaction = handler as libc::sighandler_t;
            libc::sigemptyset(&raw mut action.sa_mask);
            let mut old_action = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(libc::SIGALRM, &raw const action, old_action.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The signal may have been blocked by whoever started this process, and stays so across exec.
            let mut alarm_only = MaybeUninit::<libc::sigset_t>::zeroed();
            libc::sigemptyset(alarm_only.as_mut_ptr());
            libc::sigaddset(alarm_only.as_mut_ptr(), libc::SIGALRM);
            let mut old_mask = MaybeUninit::<libc::sigset_t>::zeroed();
            // Cannot fail: SIG_UNBLOCK is valid and both sets are.
            libc::pthread_sigmask(libc::SIG_UNBLOCK, alarm_only.as_ptr(), old_mask.as_mut_ptr());
            let mut old_timer = MaybeUninit::<libc::itimerval>::zeroed();
            let armed = libc::setitimer(libc::ITIMER_REAL, &raw const timer, old_timer.as_mut_ptr());
            let error = io::Error::last_os_error();
            let alarm = Alarm {
                old_action: old_action.assume_init(),
                old_mask: old_mask.assume_init(),
                old_timer: old_timer.assume_init(),
            };
            if armed == 0 { Ok(alarm) } else { Err(error) }
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // The timer first: a signal after the old disposition is back would end the process.
        // SAFETY: all pointers are to live, initialised values of the right types; the calls cannot fail with them.
        unsafe {
            libc::setitimer(libc::ITIMER_REAL, &raw const self.old_timer, ptr::null_mut());
            libc::sigaction(libc::SIGALRM, &raw const self.old_action, ptr::null_mut());
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.old_mask, ptr::null_mut());
        }
    }
}

// tv_usec is 32 bits wide on macOS; the seconds are cut off at what every time_t holds.
#[allow(clippy::unnecessary_cast, clippy::cast_possible_truncation)]
fn timeval(d: Duration) -> libc::timeval {
    libc::timeval { tv_sec: d.as_secs().min(i32::MAX as u64) as _, tv_usec: d.subsec_micros() as _ }
}
