//! Signals and children of the command line.
//!
//! ```text
//!   started with            SIGPIPE, SIGXFSZ: anything       SIGCHLD: anything    INT, TERM, HUP: default | ignored
//!   take_over               ignored: EPIPE, EFBIG instead    default: wait works  unchanged
//!   hold                                                                          blocked | ignored
//!   watch                                                                         caught, by a thread | ignored
//!   hold_again                                                                    blocked | ignored
//!   supervise               passed on to the child, if a process has sent them | ignored; QUIT, USR1, USR2 too
//!   COMMAND (hand_to)       exactly what this process was started with, the signal mask included
//! ```
//!
//! The first signal wakes the thread, which decides (see [`watch`]). Meanwhile the main thread goes on until it needs
//! the clean-up's mutex, ends a child, or wants to report a failure: there it gives way ([`give_way`]), so that the
//! signal is what gets reported, not what it has broken.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use awrite::{Error, ErrorKind, HandOver, Shutdown};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::{entry, report};

/// What a child gets back.
const HANDED_ON: [c_int; 6] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ, libc::SIGCHLD];
/// What ends the work cleanly.
const ENDING: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
/// What is passed on to a supervised child. Besides those that end the work, the others that would end this process
/// before the child: nobody would then be left to release the lock.
const PASSED_ON: [c_int; 6] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// The signal dispositions and the mask that this process was started with.
#[derive(Clone, Copy)]
pub(crate) struct Inherited {
    /// Parallel to `HANDED_ON`. A new program starts with a signal either ignored or at its default.
    ignored: [bool; HANDED_ON.len()],
    mask: libc::sigset_t,
}

/// Notes what was inherited, and makes this process one whose writes fail with an error instead of a signal.
pub(crate) fn take_over() -> Inherited {
    let mut ignored = [false; HANDED_ON.len()];
    for (signal, ignored) in HANDED_ON.into_iter().zip(&mut ignored) {
        let inherited = match signal {
            libc::SIGPIPE | libc::SIGXFSZ => set_disposition(signal, libc::SIG_IGN),
            _ => disposition(signal),
        };
        *ignored = inherited == libc::SIG_IGN;
        if signal == libc::SIGCHLD && *ignored {
            // Children would reap themselves, and their status would be lost (waitid: ECHILD).
            set_disposition(signal, libc::SIG_DFL);
        }
    }
    Inherited { ignored, mask: set_mask(None) }
}

impl Inherited {
    fn ignores(&self, signal: c_int) -> bool {
        HANDED_ON.into_iter().zip(self.ignored).any(|(known, ignored)| known == signal && ignored)
    }

    /// Makes `command` start as this process was started.
    pub(crate) fn hand_to(&self, command: &mut Command) {
        let Inherited { ignored, mask } = *self;
        // After std's own preparations: it sets SIGPIPE to its default and empties the mask.
        // SAFETY: the closure runs between fork and exec and makes nothing but async-signal-safe calls on its own data.
        unsafe {
            command.pre_exec(move || {
                for (signal, ignored) in HANDED_ON.into_iter().zip(ignored) {
                    set_disposition(signal, if ignored { libc::SIG_IGN } else { libc::SIG_DFL });
                }
                set_mask(Some(&mask));
                Ok(())
            });
        }
    }
}

/// The present disposition of `signal`.
fn disposition(signal: c_int) -> libc::sighandler_t {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the pointer is to a local of the right type, and all-zero is a valid value of it.
    unsafe {
        libc::sigaction(signal, ptr::null(), old.as_mut_ptr());
        old.assume_init().sa_sigaction
    }
}

/// Sets the disposition of `signal`, which is none that cannot be set, and returns the former one. A handler runs with
/// the ending signals blocked. Async-signal-safe.
fn set_disposition(signal: c_int, to: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: `sigaction` is plain data for which all-zero is valid, the pointers are to live locals, and the handlers
    // passed in are SIG_IGN, SIG_DFL or `on_signal`, which is async-signal-safe.
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
fn set_mask(to: Option<&libc::sigset_t>) -> libc::sigset_t {
    let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both pointers are null or to live values; all-zero is a valid set, should the call fail.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, to.map_or(ptr::null(), ptr::from_ref), old.as_mut_ptr());
        old.assume_init()
    }
}

fn all_signals() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the pointer is to a local of the right type, which the call fills in.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    }
}

/// The process that `watch` was called in: a child that has not yet become COMMAND has the handler, too.
static WATCHED: AtomicI32 = AtomicI32::new(0);
/// ctrlc's own handler, which wakes its thread.
static WAKE: AtomicUsize = AtomicUsize::new(0);
/// When the first signal came, on the monotonic clock; 0: none has.
static FIRST_SIGNAL_MS: AtomicI64 = AtomicI64::new(0);
/// What an impatient second signal ends with.
static IMPATIENT_STATUS: AtomicI32 = AtomicI32::new(3);
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
fn is_pending(inherited: &Inherited) -> bool {
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

/// Whether what is left to read from `fd` is there already, so that reading to its end waits for nobody: a pipe that
/// nobody writes to any more.
pub(crate) fn is_complete(fd: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
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

/// Runs in ctrlc's thread.
fn first_signal() {
    let outcome = entry::contain(|| {
        // First of all: from here on the main thread cannot commit what a COMMAND that is told to stop has left half
        // done.
        let shutdown = Shutdown::begin();
        if shutdown.committed() {
            // Done, and said so by status 0. Whoever does not wait for the rest (a sync that hangs) hears that it is not
            // known to be durable.
            IMPATIENT_STATUS.store(1, Ordering::SeqCst);
            return None;
        }
        stop_children();
        let files = shutdown.temporary_files();
        shutdown.clean();
        // Last: standard error may be a pipe that nobody reads.
        report::interrupted(3, files);
        Some(3)
    });
    let status = outcome.unwrap_or_else(|error| {
        report::error(&error);
        Some(1)
    });
    if let Some(status) = status {
        // SAFETY: `_exit` has no preconditions. Not `exit`, whose handlers would run beside the main thread.
        unsafe { libc::_exit(status) }
    }
}

/// Whether a signal has come that ends the work.
fn interrupted() -> bool {
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

/// The child that runs now, if any, for the signal thread.
struct Children {
    running: Option<Pid>,
    /// No more are to be started.
    stopping: bool,
}

static CHILDREN: Mutex<Children> = Mutex::new(Children { running: None, stopping: false });

fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stop_children() {
    let mut children = children();
    children.stopping = true;
    if let Some(pid) = children.running {
        // It is not reaped before `running` is cleared, so this is no other process that got its number.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// A child process. Dropped before it was waited for, it is told to stop and waited for then.
pub(crate) struct Running {
    child: Child,
    pid: Option<Pid>,
    reaped: bool,
}

/// Starts `command` as this process was started, signals considered.
pub(crate) fn start(mut command: Command, inherited: &Inherited) -> io::Result<Running> {
    about_to_wait().map_err(io::Error::other)?;
    inherited.hand_to(&mut command);
    let mut children = children();
    if children.stopping {
        drop(children);
        give_way();
        return Err(io::ErrorKind::Interrupted.into());
    }
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    children.running = pid;
    Ok(Running { child, pid, reaped: false })
}

impl Running {
    /// The reading end of its standard output, if that is a pipe.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end. If a signal has come meanwhile, it does not return: the child may have ended because of it,
    /// and a shell, for one, ends with status 0 then if its script says so.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.reap();
        give_way();
        status
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        self.reaped = true;
        if let Some(pid) = self.pid {
            // Wait without reaping; take the number out of the signal thread's reach; then reap. Errors: what is wrong
            // shows again in the wait below.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options));
            children().running = None;
        }
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        // Nobody will read what it writes from here on.
        drop(self.child.stdout.take());
        if let Some(pid) = self.pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.reap();
    }
}

/// Runs `command` as this process was started, and waits for its end. Meanwhile the signals that a process sends here go
/// to it; what a terminal sends reaches it by itself. A signal that came before ends the work, and the command is not
/// started then. One that comes after the command's end is too late for anything.
pub(crate) fn supervise(command: Command, inherited: &Inherited) -> io::Result<ExitStatus> {
    supervise_beside(command, inherited, || Next::Nothing).inspect_err(|e| {
        if e.kind() == io::ErrorKind::Interrupted {
            give_way();
        }
    })
}

/// What is to be done beside a supervised child.
pub(crate) enum Next {
    /// Ask again after this time, or before.
    In(Duration),
    /// Tell the child to stop, and do not ask again.
    Stop,
    /// Nothing any more.
    Nothing,
}

/// The same with something to do meanwhile, which must not take long each time. A signal that came before is an error
/// here, [`io::ErrorKind::Interrupted`], for the caller to clean up and [`give_way`].
pub(crate) fn supervise_beside(
    mut command: Command,
    inherited: &Inherited,
    mut beside: impl FnMut() -> Next,
) -> io::Result<ExitStatus> {
    inherited.hand_to(&mut command);
    let mask = block_signals(inherited)?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            set_mask(Some(&mask));
            return Err(error);
        }
    };
    // SAFETY: getpid has no preconditions.
    WATCHED.store(unsafe { libc::getpid() }, Ordering::SeqCst);
    // Not rustix's getsid, whose result cannot be 0: as it is where the leader is outside of this PID namespace.
    // SAFETY: getsid and getpid have no preconditions.
    let leads = unsafe { libc::getsid(0) == libc::getpid() };
    LEADS_SESSION.store(leads, Ordering::SeqCst);
    let pid = i32::try_from(child.id()).unwrap_or(0);
    SUPERVISED.store(pid, Ordering::SeqCst);
    for signal in PASSED_ON {
        if disposition(signal) != libc::SIG_IGN {
            catch(signal);
        }
    }
    // A terminal's ^C that has come by now may have come before the child was there to get it.
    PASS_ALL_ON.store(true, Ordering::SeqCst);
    set_mask(Some(&inherited.mask));
    PASS_ALL_ON.store(false, Ordering::SeqCst);
    if let Some(pid) = Pid::from_raw(pid) {
        let end = End::of(pid);
        loop {
            match beside() {
                Next::In(limit) if end.comes_within(limit) => break,
                Next::In(_) => {}
                Next::Stop => {
                    let _ = kill_process(pid, Signal::TERM);
                    break;
                }
                Next::Nothing => break,
            }
        }
        // Waited for, out of reach of the handler, and only then reaped: its number is somebody else's from then on.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options));
    }
    SUPERVISED.store(HAS_ENDED, Ordering::SeqCst);
    child.wait()
}

/// The end of a child, to be waited for with a limit.
struct End {
    pid: Pid,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fd: Option<OwnedFd>,
}

/// The longest single wait for it. The clock of such a wait stands still while the machine sleeps; whoever goes by
/// another one must be able to notice.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The same where there is nothing to wait on (pidfd_open(2): Linux 5.3), and it can only be looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl End {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn of(pid: Pid) -> End {
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
        End { pid, fd }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn of(pid: Pid) -> End {
        End { pid }
    }

    /// Waits for it at most `limit`, and less long if a signal comes. Does not reap the child.
    fn comes_within(&self, limit: Duration) -> bool {
        self.wait(limit);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.pid), options)), Ok(None))
    }

    fn wait(&self, limit: Duration) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(fd) = &self.fd {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let limit = Timespec::try_from(limit.min(LONGEST_WAIT)).ok();
            let _ = poll(&mut [PollFd::new(fd, PollFlags::IN)], limit.as_ref());
            return;
        }
        std::thread::sleep(limit.min(LOOK_AGAIN));
    }
}

/// Makes this process `command`. Returns only if that fails.
pub(crate) fn become_command(mut command: Command, inherited: &Inherited) -> io::Error {
    if let Err(e) = block_signals(inherited) {
        give_way();
        return e;
    }
    inherited.hand_to(&mut command);
    command.exec()
}

/// Blocks all signals, and returns the former mask; an error if one has come already that ends the work.
fn block_signals(inherited: &Inherited) -> io::Result<libc::sigset_t> {
    let mask = set_mask(Some(&all_signals()));
    if interrupted() || is_pending(inherited) {
        set_mask(Some(&mask));
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(mask)
}

/// Gives `command` a lock, or keeps it from it. `lock` must live until the command has been started.
pub(crate) fn hand_lock(command: &mut Command, lock: &HandOver) {
    match &lock.value {
        Some(value) => command.env(lock.variable, value),
        None => command.env_remove(lock.variable),
    };
    if let Some(fd) = &lock.fd {
        set_close_on_exec(command, fd.as_raw_fd(), false);
    }
    for fd in &lock.close {
        set_close_on_exec(command, *fd, true);
    }
}

/// Lets `command` have this descriptor, which must be open until the command has been started.
pub(crate) fn hand_descriptor(command: &mut Command, fd: BorrowedFd<'_>) {
    set_close_on_exec(command, fd.as_raw_fd(), false);
}

fn set_close_on_exec(command: &mut Command, fd: RawFd, close: bool) {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: the closure runs between fork and exec and calls nothing but fcntl, with numbers that it owns.
    unsafe {
        command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, flags) {
            -1 if !close => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// A descriptor that this process was started with.
pub(crate) struct Given(RawFd);

impl Given {
    /// The descriptor `number`, if it is open.
    pub(crate) fn number(number: RawFd) -> io::Result<Given> {
        if number < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let given = Given(number);
        rustix::io::fcntl_getfd(given.as_fd())?;
        Ok(given)
    }
}

impl AsFd for Given {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: not -1. Nothing in this process owns it or closes it.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Something to read that is at its end: /dev/null, for where there is none.
pub(crate) fn nothing() -> io::Result<OwnedFd> {
    // Not pipe2, which macOS lacks. No child can be started between the calls: only the main thread does that.
    let (reading, writing) = rustix::pipe::pipe()?;
    drop(writing);
    rustix::io::fcntl_setfd(&reading, rustix::io::FdFlags::CLOEXEC)?;
    Ok(reading)
}

/// How a process that failed ended: `exit status 4`, `killed by signal 9 (SIGKILL)`.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match NAMES.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("killed by signal {signal} ({name})"),
            None => format!("killed by signal {signal}"),
        },
        (None, None) => "unknown status".to_owned(),
    }
}

const NAMES: [(c_int, &str); 19] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGSYS, "SIGSYS"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn endings() {
        let inherited = Inherited { ignored: [false; HANDED_ON.len()], mask: set_mask(None) };
        for (script, said) in [
            ("exit 4", "exit status 4"),
            ("kill -9 $$", "killed by signal 9 (SIGKILL)"),
            ("kill -PIPE $$", "killed by signal 13 (SIGPIPE)"),
        ] {
            // Another test may have a child running: there is one at a time in the program, but not among tests.
            let status = start(sh(script), &inherited).unwrap().wait().unwrap();
            assert_eq!(ending(status), said);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_child_gets_the_dispositions_that_were_inherited() {
        let ignored_by_child = |ignored: [bool; HANDED_ON.len()]| {
            let inherited = Inherited { ignored, mask: set_mask(None) };
            let mut command = Command::new("cat");
            command.arg("/proc/self/status").stdout(std::process::Stdio::piped());
            let mut child = start(command, &inherited).unwrap();
            let text = io::read_to_string(child.take_stdout().unwrap()).unwrap();
            assert!(child.wait().unwrap().success());
            let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
            let set = u64::from_str_radix(line.trim(), 16).unwrap();
            HANDED_ON.map(|signal| set & (1 << (signal - 1)) != 0)
        };
        for ignored in [[false; 6], [true; 6], [true, false, true, false, true, false]] {
            assert_eq!(ignored_by_child(ignored), ignored);
        }
    }

    #[test]
    fn nothing_is_at_its_end() {
        let mut bytes = [0; 1];
        assert_eq!(rustix::io::read(nothing().unwrap(), &mut bytes), Ok(0));
    }
}
