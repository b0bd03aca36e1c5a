//! The signals that end the work, and those that are passed on.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering};

use awrite::{Error, ErrorKind, Shutdown};

use super::masks::{ENDING, Inherited, all_signals, disposition, set_disposition, set_mask};
use super::panic;
use super::running::stop_children;
use crate::report::{self, exit};

/// What is passed on to a supervised child. Besides those that end the work, the others that would end this process
/// before the child: nobody would then be left to release the lock.
const PASSED_ON: [c_int; 6] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// The process that `watch` was called in: a child that has not yet become COMMAND has the handler, too.
static WATCHED: AtomicI32 = AtomicI32::new(0);
/// ctrlc's own handler, which wakes its thread.
static WAKE: AtomicUsize = AtomicUsize::new(0);
/// When the first signal came, on the monotonic clock; 0: none has.
static FIRST_SIGNAL_MS: AtomicI64 = AtomicI64::new(0);
/// What an impatient second signal ends with.
static IMPATIENT_STATUS: AtomicI32 = AtomicI32::new(exit::INTERRUPTED as i32);
/// The child that signals are passed on to; 0: there is none, and a signal ends the work; -1: it has ended, and with it
/// all that a signal could still be meant for.
static SUPERVISED: AtomicI32 = AtomicI32::new(0);
const HAS_ENDED: i32 = -1;
/// A terminal that is closed tells the leader of its session, and the others only once that one has ended
/// (setpgid(2), termios(3)): a leader that waits for its child has to pass it on.
static LEADS_SESSION: AtomicBool = AtomicBool::new(false);
/// Even those that a terminal sends.
static PASS_ALL_ON: AtomicBool = AtomicBool::new(false);

/// A second signal within this time of the first is the same wish: `timeout` sends SIGTERM to the process and again to
/// its group, a closing terminal SIGHUP from the kernel and from the shell. It must not cut the clean-up short. A later
/// one comes from somebody who is tired of waiting for a clean-up that hangs.
const SAME_WISH_MS: i64 = 250;

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: everything called is async-signal-safe: getpid, signal, raise, kill, clock_gettime, _exit, and ctrlc's
    // handler, which posts a semaphore. WAKE holds that handler's address since before this one was installed. errno is
    // kept for the code that was interrupted by every one of them but `signal` and `raise`, after which this process
    // ends, and `kill`, which cannot fail: the child is there until it is reaped, and SUPERVISED is reset before that.
    // `info` is valid during the call, since the handler was installed with SA_SIGINFO.
    unsafe {
        if libc::getpid() != WATCHED.load(Ordering::Relaxed) {
            // Forked to become COMMAND, and not there yet: the signal must not get lost on the way.
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
            return;
        }
        match SUPERVISED.load(Ordering::SeqCst) {
            0 => {}
            HAS_ENDED => return,
            child => {
                let only_to_us = signal == libc::SIGHUP && LEADS_SESSION.load(Ordering::SeqCst);
                if sent_by_a_process((*info).si_code) || only_to_us || PASS_ALL_ON.load(Ordering::SeqCst) {
                    libc::kill(child, signal);
                }
                return;
            }
        }
        let mut now = MaybeUninit::<libc::timespec>::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        let now = now.assume_init();
        // The casts: time_t and c_long are 32 bits wide on some platforms, and already 64 on others.
        #[allow(clippy::unnecessary_cast)]
        let now_ms = (now.tv_sec as i64 * 1000 + now.tv_nsec as i64 / 1_000_000).max(1);
        match FIRST_SIGNAL_MS.compare_exchange(0, now_ms, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => {
                let wake = WAKE.load(Ordering::SeqCst);
                if wake != 0 {
                    let wake: extern "C" fn(c_int) = std::mem::transmute::<usize, extern "C" fn(c_int)>(wake);
                    wake(signal);
                }
            }
            Err(first_ms) if now_ms - first_ms > SAME_WISH_MS => {
                libc::_exit(IMPATIENT_STATUS.load(Ordering::SeqCst));
            }
            Err(_) => {}
        }
    }
}

/// Whether kill(2) and the like have sent a signal, not the kernel for a terminal: that one goes to the whole foreground
/// group, the child included. By the code, since the sender's process id is 0 when it is outside of this container.
fn sent_by_a_process(code: c_int) -> bool {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        code <= 0
    } else {
        // SI_USER, SI_QUEUE and FreeBSD's SI_LWP, which libc does not have there.
        matches!(code, 0x10001 | 0x10002 | 0x10007)
    }
}

/// Blocks the ending signals until [`watch`] is called.
///
/// Starting a thread costs more than a small write does otherwise. So signals are only held back at first, and the
/// thread is started where the process is about to wait for somebody else: for input, for a lock, for a child. A write
/// that never waits ends before a signal could be missed; one that came meanwhile is found by [`give_way`].
pub(crate) fn hold(inherited: &Inherited) {
    let mut held = inherited.mask;
    for signal in ENDING {
        // SAFETY: the pointer is to a local set that was filled in by the kernel.
        unsafe { libc::sigaddset(&raw mut held, signal) };
    }
    set_mask(Some(&held));
    // Set once in a process, at its start.
    let _ = HELD.set(*inherited);
}

/// What signals are held back from, if they are.
static HELD: OnceLock<Inherited> = OnceLock::new();

/// To be called where the process may have to wait for somebody else: signals are held back no longer.
pub(crate) fn about_to_wait() -> Result<(), Error> {
    HELD.get().map_or(Ok(()), watch)
}

/// Holds signals back again, until the process is [`about_to_wait`], [`give_way`]s or supervises a child: what begins here
/// must not be left half done. If one has come already it does not return.
pub(crate) fn hold_again() {
    let mut held = set_mask(None);
    for signal in ENDING {
        // SAFETY: the pointer is to a local set that was filled in by the kernel.
        unsafe { libc::sigaddset(&raw mut held, signal) };
    }
    set_mask(Some(&held));
    give_way_now();
}

/// Whether a signal that ends the work waits to be delivered: none that was ignored or blocked from the start, which can
/// be pending too, but ends nothing.
pub(super) fn is_pending(inherited: &Inherited) -> bool {
    let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the pointer is to a local of the right type; all-zero is a valid, empty set, should the call fail.
    let pending = unsafe {
        libc::sigpending(pending.as_mut_ptr());
        pending.assume_init()
    };
    // SAFETY: the pointer is to a live set.
    let is_in = |set: &libc::sigset_t, signal: c_int| unsafe { libc::sigismember(set, signal) } == 1;
    let ends = |signal: c_int| !inherited.ignores(signal) && !is_in(&inherited.mask, signal);
    ENDING.iter().any(|&signal| is_in(&pending, signal) && ends(signal))
}

/// Starts the thread that waits for SIGINT, SIGTERM and SIGHUP, unless they are ignored: then they stay so (nohup).
///
/// On the first of them it removes what must not stay and ends the process with status 3; but if the target has been
/// replaced already, it lets the main thread end with success. Another signal, a while later, ends the process at once.
///
/// To be called from the main thread, where it is about to wait, or before anything is made that must be removed, unless
/// signals are held. Called again it only holds them back no longer.
pub(crate) fn watch(inherited: &Inherited) -> Result<(), Error> {
    if WATCHED.load(Ordering::SeqCst) != 0 {
        set_mask(Some(&inherited.mask));
        return Ok(());
    }
    if ENDING.iter().all(|signal| inherited.ignores(*signal)) {
        set_mask(Some(&inherited.mask));
        return Ok(());
    }
    // SAFETY: getpid has no preconditions.
    WATCHED.store(unsafe { libc::getpid() }, Ordering::SeqCst);
    // The thread inherits this mask and keeps it: every signal, SIGALRM too, then reaches the main thread and interrupts
    // what blocks there. It also closes the moment in which ctrlc catches what has to stay ignored.
    set_mask(Some(&all_signals()));
    let started = ctrlc::set_handler(first_signal);
    if started.is_ok() {
        for signal in ENDING {
            if inherited.ignores(signal) {
                set_disposition(signal, libc::SIG_IGN);
            } else {
                WAKE.store(disposition(signal), Ordering::SeqCst);
                catch(signal);
            }
        }
    } else {
        for signal in ENDING {
            set_disposition(signal, if inherited.ignores(signal) { libc::SIG_IGN } else { libc::SIG_DFL });
        }
    }
    set_mask(Some(&inherited.mask));
    started.map_err(|e| {
        let reason = match e {
            ctrlc::Error::System(source) => Error::io("cannot start the signal thread", source).to_string(),
            other => format!("cannot start the signal thread: {other}"),
        };
        Error::new(ErrorKind::Io, reason).with_hint("check the limit on processes (ulimit -u)")
    })
}

fn catch(signal: c_int) {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    set_disposition(signal, handler as libc::sighandler_t);
}

/// From here on the signals that a process sends here go to `child`, once the mask is the inherited one again: signals are
/// blocked when this is called, and no longer when it returns.
pub(super) fn pass_on_to(child: i32, inherited: &Inherited) {
    // SAFETY: getpid has no preconditions.
    WATCHED.store(unsafe { libc::getpid() }, Ordering::SeqCst);
    // Not rustix's getsid, whose result cannot be 0: as it is where the leader is outside of this PID namespace.
    // SAFETY: getsid and getpid have no preconditions.
    let leads = unsafe { libc::getsid(0) == libc::getpid() };
    LEADS_SESSION.store(leads, Ordering::SeqCst);
    SUPERVISED.store(child, Ordering::SeqCst);
    for signal in PASSED_ON {
        if disposition(signal) != libc::SIG_IGN {
            catch(signal);
        }
    }
    // A terminal's ^C that has come by now may have come before the child was there to get it.
    PASS_ALL_ON.store(true, Ordering::SeqCst);
    set_mask(Some(&inherited.mask));
    PASS_ALL_ON.store(false, Ordering::SeqCst);
}

/// The child has ended, and is about to be reaped: from here on signals come too late for anything.
pub(super) fn pass_nothing_on() {
    SUPERVISED.store(HAS_ENDED, Ordering::SeqCst);
}

/// Runs in ctrlc's thread.
fn first_signal() {
    let outcome = panic::contain(|| {
        // First of all: from here on the main thread cannot commit what a COMMAND that is told to stop has left half
        // done.
        let shutdown = Shutdown::begin();
        if shutdown.committed() {
            // Done, and said so by status 0. Whoever does not wait for the rest (a sync that hangs) hears that it is not
            // known to be durable.
            IMPATIENT_STATUS.store(exit::FAILURE.into(), Ordering::SeqCst);
            return None;
        }
        stop_children();
        let files = shutdown.temporary_files();
        shutdown.clean();
        // Last: standard error may be a pipe that nobody reads.
        report::interrupted(exit::INTERRUPTED, files);
        Some(exit::INTERRUPTED)
    });
    let status = outcome.unwrap_or_else(|error| {
        report::error(&error);
        Some(exit::FAILURE)
    });
    if let Some(status) = status {
        // SAFETY: `_exit` has no preconditions. Not `exit`, whose handlers would run beside the main thread.
        unsafe { libc::_exit(status.into()) }
    }
}

/// Whether a signal has come that ends the work.
pub(super) fn interrupted() -> bool {
    FIRST_SIGNAL_MS.load(Ordering::SeqCst) != 0
}

/// To be called where the main thread is about to commit or to report a failure that a signal may have caused: returns
/// only if none has come, or if the target has been replaced already.
pub(crate) fn give_way() {
    if HELD.get().is_some_and(is_pending) {
        // Delivered as soon as it is no longer held. Where no thread can be had, it ends the process as it would any
        // other.
        let _ = about_to_wait();
    }
    give_way_now();
}

/// The same for a signal that is held back no longer.
fn give_way_now() {
    if !interrupted() {
        return;
    }
    // Does not return once the signal thread cleans up; that thread ends the process.
    let shutdown = Shutdown::begin();
    if shutdown.committed() {
        return;
    }
    drop(shutdown);
    loop {
        std::thread::park();
    }
}
