//! The signals that end the work, and those that are passed on.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::{io, ptr};

use awrite::{Error, ErrorKind, Shutdown};
use rustix::process::Signal;

use super::masks::{ENDING, Inherited, all_signals, disposition, set_disposition, set_mask};
use super::running::{end_children, kill_awaited};
use super::{outlived, panic};
use crate::report::{self, exit};

/// They are passed on to a supervised child by the handler: those that end the work, and others that a terminal or a person
/// sends. For the rest see outlived.rs.
const PASSED_ON: [c_int; 6] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// The process that installed the handler; 0: none has. A forked child that has not yet become COMMAND has the handler
/// too.
static WATCHED: AtomicI32 = AtomicI32::new(0);
/// ctrlc's own handler, which wakes its thread.
static WAKE: AtomicUsize = AtomicUsize::new(0);
/// Where that thread and the one that starts it meet.
static STARTED: Barrier = Barrier::new(2);
/// The arrival of the first signal on the monotonic clock; 0: none has come.
static FIRST_SIGNAL_MS: AtomicI64 = AtomicI64::new(0);
/// The same for the signals after COMMAND's end.
static LATE_SIGNAL_MS: AtomicI64 = AtomicI64::new(0);
/// The first signal, and whether a process has sent it: the child, if there is one, does not have it then.
static FIRST_SIGNAL: AtomicI32 = AtomicI32::new(0);
static SENT_BY_A_PROCESS: AtomicBool = AtomicBool::new(false);
/// The exit status if a second signal ends the process at once.
static IMPATIENT_STATUS: AtomicI32 = AtomicI32::new(exit::INTERRUPTED as i32);
/// The child that signals are passed on to. 0: there is none, and a signal ends the work. [`HAS_ENDED`]: it has ended,
/// and signals are dropped, unless one comes after another.
static SUPERVISED: AtomicI32 = AtomicI32::new(0);
const HAS_ENDED: i32 = -1;
/// Whether this process leads its session. When a terminal closes, the kernel sends SIGHUP to the session leader, and
/// to the foreground group only once the leader has ended (setpgid(2), termios(3)): a leader that waits for its child
/// has to pass SIGHUP on.
static LEADS_SESSION: AtomicBool = AtomicBool::new(false);
/// Whether the supervised child has been told to end.
static CHILD_WAS_TOLD: AtomicBool = AtomicBool::new(false);
/// Whether a process, or the end of the session, has asked for the end of the work while a child was supervised. A
/// terminal's ^C is the child's business: it may be a program that a person works with.
static END_WAS_ASKED: AtomicBool = AtomicBool::new(false);
/// Whether signals from a terminal are passed on too.
static PASS_ALL_ON: AtomicBool = AtomicBool::new(false);

/// A second signal within this time of the first is the same request: `timeout` sends SIGTERM to the process and again
/// to its group; when a terminal closes, the kernel and the shell both send SIGHUP. It must not cut the clean-up short.
/// A later one comes from somebody who does not want to wait for a clean-up that hangs.
const SAME_REQUEST_MS: i64 = 250;

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: all calls are async-signal-safe: getpid, signal, raise, kill, clock_gettime, _exit, wake_thread. `info` is
    // valid during the call, since the handler was installed with SA_SIGINFO. The interrupted code keeps its errno:
    // `signal` and `raise` could change it, but this process ends after them; `kill` cannot fail, since the child
    // exists until it is reaped and SUPERVISED is reset before that; the others do not set it.
    unsafe {
        if libc::getpid() != WATCHED.load(Ordering::Relaxed) {
            // A forked child that has not yet become COMMAND: the signal must still end it.
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
            return;
        }
        match SUPERVISED.load(Ordering::SeqCst) {
            0 => {}
            HAS_ENDED => {
                // Those that COMMAND has left running under the lock are still waited for, unless somebody insists.
                let insists = comes_later(&LATE_SIGNAL_MS);
                if insists && ENDING.contains(&signal) {
                    libc::_exit(exit::INTERRUPTED.into());
                }
                return;
            }
            child => {
                let only_to_us = signal == libc::SIGHUP && LEADS_SESSION.load(Ordering::SeqCst);
                let sent = sent_by_a_process((*info).si_code);
                if sent || only_to_us || PASS_ALL_ON.load(Ordering::SeqCst) {
                    libc::kill(child, signal);
                }
                if ENDING.contains(&signal) {
                    CHILD_WAS_TOLD.store(true, Ordering::SeqCst);
                    if sent || signal == libc::SIGHUP {
                        END_WAS_ASKED.store(true, Ordering::SeqCst);
                    }
                }
                return;
            }
        }
        let now_ms = monotonic_ms();
        match FIRST_SIGNAL_MS.compare_exchange(0, now_ms, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => {
                FIRST_SIGNAL.store(signal, Ordering::SeqCst);
                SENT_BY_A_PROCESS.store(sent_by_a_process((*info).si_code), Ordering::SeqCst);
                wake_thread(signal);
            }
            Err(first_ms) if now_ms - first_ms > SAME_REQUEST_MS && !kill_awaited() => {
                libc::_exit(IMPATIENT_STATUS.load(Ordering::SeqCst));
            }
            Err(_) => {}
        }
    }
}

/// Wakes ctrlc's thread, if there is one. Async-signal-safe.
fn wake_thread(signal: c_int) {
    let wake = WAKE.load(Ordering::SeqCst);
    if wake != 0 {
        // SAFETY: it is the address of ctrlc's handler, which has this type and posts a semaphore.
        let wake = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(wake) };
        wake(signal);
    }
}

/// Async-signal-safe.
fn monotonic_ms() -> i64 {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to a local of the right type; all-zero is a valid time, should the call fail.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    // The casts: time_t and c_long are 32 bits wide on some platforms, and already 64 on others.
    #[allow(clippy::unnecessary_cast)]
    let now_ms = (now.tv_sec as i64 * 1000 + now.tv_nsec as i64 / 1_000_000).max(1);
    now_ms
}

/// Whether this is another request than the first one, whose time is noted. Async-signal-safe.
fn comes_later(first_ms: &AtomicI64) -> bool {
    let now_ms = monotonic_ms();
    let first = first_ms.compare_exchange(0, now_ms, Ordering::SeqCst, Ordering::SeqCst);
    first.is_err_and(|first| now_ms - first > SAME_REQUEST_MS)
}

/// Whether a process has sent the signal, by kill(2) and the like. The kernel sends the signals of a terminal, and
/// sends them to the whole foreground group, which the child belongs to. Asks `si_code`, because `si_pid` is 0 for a
/// sender outside this container.
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
/// Starting a thread costs more than all the rest of a small write. So signals are only blocked at first, and the
/// thread is started where the process is about to wait for somebody else: for input, for a lock, for a child. A write
/// that never waits ends before anybody would miss the reaction to a signal; [`give_way`] finds a signal that came
/// meanwhile.
pub(crate) fn hold(inherited: &Inherited) {
    hold_with(inherited.mask);
    // Never set before: this is called once, when the process starts.
    let _ = HELD.set(*inherited);
}

/// What was inherited, if [`hold`] was called.
static HELD: OnceLock<Inherited> = OnceLock::new();

/// Must be called where the process may have to wait for somebody else. Signals are delivered from here on. The first
/// call starts a thread: it comes before anything is made that an abort would leave behind, a lock above all.
pub(crate) fn about_to_wait() -> Result<(), Error> {
    HELD.get().map_or(Ok(()), watch)
}

/// Blocks the ending signals again, until the process is [`about_to_wait`], calls [`give_way`] or supervises a child:
/// what begins here must not be left half done. Does not return if a signal has come already.
pub(crate) fn hold_again() {
    hold_with(set_mask(None));
    give_way_now();
}

fn hold_with(mut mask: libc::sigset_t) {
    for signal in ENDING {
        // SAFETY: the pointer is to a local set that was filled in by the kernel.
        unsafe { libc::sigaddset(&raw mut mask, signal) };
    }
    set_mask(Some(&mask));
}

/// Whether a signal that ends the work is pending. One that was ignored or blocked from the start can be pending too,
/// but ends nothing.
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

/// Starts the thread that handles SIGINT, SIGTERM and SIGHUP. Those that are ignored stay ignored (nohup).
///
/// On the first signal the thread passes it on to the child, waits for the child's end, removes what must not stay and
/// ends the process with status 3. If the target has been replaced already, it lets the main thread end with success
/// instead. Another signal, a while later, kills the child; where there is none, it ends the process at once.
///
/// The main thread calls this where it is about to wait or, if signals are not blocked, before it makes anything that
/// must be removed. A second call only unblocks the signals.
pub(super) fn watch(inherited: &Inherited) -> Result<(), Error> {
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
    // The thread inherits this mask and keeps it. Every signal, SIGALRM too, is then delivered to the main thread, and
    // interrupts a blocking call there. The mask also hides that ctrlc for a moment catches what has to stay ignored.
    set_mask(Some(&all_signals()));
    let started = start_thread();
    if started.is_ok() {
        for signal in ENDING {
            if inherited.ignores(signal) {
                set_disposition(signal, libc::SIG_IGN);
            } else {
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
        let limit = if e.raw_os_error() == Some(libc::ENOMEM) { "memory (ulimit -v)" } else { "processes (ulimit -u)" };
        let reason = Error::io("cannot start the signal thread", e).to_string();
        Error::new(ErrorKind::Io, reason).with_hint(format!("check the limit on {limit}"))
    })
}

/// Room for the thread's stack, which std makes 2 MiB, and for all that is allocated until it waits for a signal.
const ROOM: usize = 4 << 20;

/// Starts ctrlc's thread, and waits until it has allocated all that it needs before a signal comes. The C library aborts
/// a thread that finds no memory for that (glibc: "failed to register TLS destructor").
fn start_thread() -> io::Result<()> {
    ensure_memory(ROOM)?;
    let mut first = true;
    let started = ctrlc::set_handler(move || {
        if std::mem::take(&mut first) {
            STARTED.wait();
        } else {
            first_signal();
        }
    });
    started.map_err(|e| match e {
        ctrlc::Error::System(e) => e,
        other => io::Error::other(other),
    })?;
    WAKE.store(disposition(libc::SIGINT), Ordering::SeqCst);
    wake_thread(libc::SIGINT);
    STARTED.wait();
    Ok(())
}

/// Fails if so much memory cannot be had now. Not through the allocator: malloc would raise its threshold for mappings
/// once such a block is freed (mallopt(3), M_MMAP_THRESHOLD), and large buffers would be copied where they grow.
fn ensure_memory(bytes: usize) -> io::Result<()> {
    let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: a new mapping at an address that the kernel chooses, which nothing refers to when it is unmapped.
    unsafe {
        let room = libc::mmap(ptr::null_mut(), bytes, protection, kind, -1, 0);
        if room == libc::MAP_FAILED || libc::munmap(room, bytes) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Only remembers that SIGINT, SIGTERM or SIGHUP has come, for work in small steps: between two of them the caller asks
/// [`interrupted`]. No thread is started. Those that are ignored stay ignored. A second signal, a while later, ends the
/// process at once.
pub(crate) fn remember(inherited: &Inherited) {
    // SAFETY: getpid has no preconditions.
    WATCHED.store(unsafe { libc::getpid() }, Ordering::SeqCst);
    for signal in ENDING.into_iter().filter(|signal| !inherited.ignores(*signal)) {
        catch(signal);
    }
    set_mask(Some(&inherited.mask));
}

/// Returns the former disposition.
fn catch(signal: c_int) -> libc::sighandler_t {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    set_disposition(signal, handler as libc::sighandler_t)
}

/// From here on signals that processes send here are passed on to `child`. The caller has blocked all signals; this
/// sets the inherited mask again, with those that are read from a descriptor added.
pub(super) fn pass_on_to(child: i32, inherited: &Inherited) {
    // SAFETY: getpid has no preconditions.
    WATCHED.store(unsafe { libc::getpid() }, Ordering::SeqCst);
    LEADS_SESSION.store(leads_session(), Ordering::SeqCst);
    SUPERVISED.store(child, Ordering::SeqCst);
    for signal in PASSED_ON {
        // All signals are blocked meanwhile.
        if catch(signal) == libc::SIG_IGN {
            set_disposition(signal, libc::SIG_IGN);
        }
    }
    // A pending ^C of a terminal may have been sent before the child existed.
    PASS_ALL_ON.store(true, Ordering::SeqCst);
    let mut mask = inherited.mask;
    outlived::add_to(&mut mask);
    set_mask(Some(&mask));
    PASS_ALL_ON.store(false, Ordering::SeqCst);
}

fn leads_session() -> bool {
    // Not rustix's getsid, whose result cannot be 0. It is 0 where the leader is outside this PID namespace.
    // SAFETY: getsid and getpid have no preconditions.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Whether the supervised child has got a signal that should end it.
pub(super) fn child_was_told() -> bool {
    CHILD_WAS_TOLD.load(Ordering::SeqCst)
}

/// To be called when the child has ended, before it is reaped. From here on a single signal is dropped.
pub(super) fn pass_nothing_on() {
    SUPERVISED.store(HAS_ENDED, Ordering::SeqCst);
}

/// After the end of a supervised child: signals end the work again, as after [`hold`].
pub(super) fn take_back(inherited: &Inherited) {
    hold_with(inherited.mask);
    for signal in PASSED_ON.into_iter().filter(|signal| !ENDING.contains(signal)) {
        if disposition(signal) != libc::SIG_IGN {
            set_disposition(signal, libc::SIG_DFL);
        }
    }
    SUPERVISED.store(0, Ordering::SeqCst);
    if WAKE.load(Ordering::SeqCst) == 0 {
        // Nobody watches until the thread is started.
        WATCHED.store(0, Ordering::SeqCst);
    }
}

/// Whether somebody has asked for the end of the work while a child was supervised, or since. If the child `failed`, a ^C
/// that it got counts too.
pub(super) fn end_was_asked(failed: bool) -> bool {
    let late = LATE_SIGNAL_MS.load(Ordering::SeqCst) != 0;
    late || END_WAS_ASKED.load(Ordering::SeqCst) || (failed && child_was_told())
}

/// Ends the process as the first signal does. Nothing has been replaced.
pub(super) fn end_interrupted() -> ! {
    let status = clean_up(Shutdown::begin());
    // Not `exit`: the clean-up has stopped all other threads for good.
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status.into()) }
}

/// Removes what must not stay, and says so. Returns the exit status.
fn clean_up(shutdown: Shutdown) -> u8 {
    let files = shutdown.temporary_files();
    shutdown.clean();
    // Last, because it may block: standard error may be a pipe that nobody reads.
    report::interrupted(exit::INTERRUPTED, files);
    exit::INTERRUPTED
}

/// The reaction to the first signal. Runs in ctrlc's thread, or in the main thread if that has not had to wait yet.
/// Returns only if the target is replaced.
fn first_signal() {
    let outcome = panic::contain(|| {
        // Before anything else: from here on the main thread cannot commit the unfinished output of a COMMAND that is
        // told to stop below.
        let shutdown = Shutdown::begin();
        if shutdown.committed() {
            // The target is replaced, and the main thread ends with status 0. If the user does not wait for the rest (a
            // sync that hangs), the status is that of "not known to be durable".
            IMPATIENT_STATUS.store(exit::FAILURE.into(), Ordering::SeqCst);
            return None;
        }
        let signal = FIRST_SIGNAL.load(Ordering::SeqCst);
        let only_to_us = SENT_BY_A_PROCESS.load(Ordering::SeqCst) || (signal == libc::SIGHUP && leads_session());
        // The lock is given back when COMMAND has ended, not before: it may still write what the lock protects.
        end_children(Signal::from_named_raw(signal), !only_to_us);
        Some(clean_up(shutdown))
    });
    let status = outcome.unwrap_or_else(|error| {
        report::error(&error);
        Some(exit::FAILURE)
    });
    if let Some(status) = status {
        // Not `exit`, whose handlers would run beside the main thread.
        // SAFETY: `_exit` has no preconditions.
        unsafe { libc::_exit(status.into()) }
    }
}

/// Whether a signal that ends the work was delivered.
pub(crate) fn interrupted() -> bool {
    FIRST_SIGNAL_MS.load(Ordering::SeqCst) != 0
}

/// The main thread calls this before it commits, and before it reports a failure that a signal may have caused. Returns
/// only if no signal has come or the target has been replaced already.
pub(crate) fn give_way() {
    match HELD.get().filter(|inherited| is_pending(inherited)) {
        // No thread is started under a lock. This one is about to do nothing else.
        Some(inherited) if WATCHED.load(Ordering::SeqCst) == 0 => {
            remember(inherited);
            first_signal();
        }
        pending => {
            // This delivers the signal.
            pending.map(|inherited| set_mask(Some(&inherited.mask)));
            give_way_now();
        }
    }
}

/// The same for a signal that was delivered.
fn give_way_now() {
    // Where signals are only remembered, there is no thread.
    if !interrupted() || WAKE.load(Ordering::SeqCst) == 0 {
        return;
    }
    // Blocks for ever once the signal thread cleans up. That thread ends the process.
    let shutdown = Shutdown::begin();
    if shutdown.committed() {
        return;
    }
    drop(shutdown);
    loop {
        std::thread::park();
    }
}
