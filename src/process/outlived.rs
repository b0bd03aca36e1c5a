//! Signals that would kill this process before the command that it supervises, and that nobody here handles. They are
//! blocked, so that the lock is released after the command's end and not before, and passed on to it.
//!
//! Blocked and read from a descriptor (signalfd(2)), and not handled: that takes two system calls for all of them instead of
//! one for each. A fault of this process itself still ends it, since the kernel does not heed the mask then. SIGPIPE and
//! SIGXFSZ are ignored. Nothing can be done about SIGKILL, nor about the real-time signals that the C library keeps for
//! itself.
#![allow(unsafe_code)]

use std::ffi::c_int;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

const DEADLY: &[c_int] = &[
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGALRM,
    libc::SIGXCPU,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGSYS,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    libc::SIGPOLL,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    libc::SIGPWR,
    #[cfg(all(
        any(target_os = "linux", target_os = "android"),
        not(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc", target_arch = "sparc64"))
    ))]
    libc::SIGSTKFLT,
];

/// An alarm clock that was set before this process became awrite-lock (`alarm 1; exec awrite-lock …`) was meant for the
/// command.
#[cfg(any(target_os = "linux", target_os = "android"))]
const TIMERS: [c_int; 3] = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];

/// Adds them to `mask`.
pub(super) fn add_to(mask: &mut libc::sigset_t) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let real_time = 1..1;
    for signal in DEADLY.iter().copied().chain(real_time) {
        // SAFETY: the pointer is to a live set.
        unsafe { libc::sigaddset(mask, signal) };
    }
}

/// Where they are read from.
pub(super) struct Outlived {
    /// `None` where there is no such thing, or no descriptor left. Then they are outlived, and not passed on.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fd: Option<OwnedFd>,
}

impl Outlived {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn new() -> Outlived {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the pointers are to a live local, which sigemptyset fills in. A descriptor that signalfd returns is new.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            add_to(&mut set);
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            Outlived { fd: (fd >= 0).then(|| OwnedFd::from_raw_fd(fd)) }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn new() -> Outlived {
        Outlived {}
    }

    /// Passes on to `child`, which has not been reaped, those that have come: those that processes have sent, and those of
    /// timers.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn pass_on_to(&self, child: Pid) {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let Some(fd) = &self.fd else { return };
        let mut bytes = [0; SIZE];
        while rustix::io::read(fd.as_fd(), &mut bytes) == Ok(SIZE) {
            // SAFETY: the kernel has filled in this plain structure, for which any bits are valid.
            let info: libc::signalfd_siginfo = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
            let Ok(signal) = c_int::try_from(info.ssi_signo) else { continue };
            if info.ssi_code <= 0 || TIMERS.contains(&signal) {
                // SAFETY: kill has no preconditions. The number is still the child's.
                unsafe { libc::kill(child.as_raw_nonzero().get(), signal) };
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn pass_on_to(&self, _child: Pid) {}
}
