//! Signals and children of the command line.
//!
//! ```text
//!   started with            SIGPIPE, SIGXFSZ: anything       SIGCHLD: anything    INT, TERM, HUP: default | ignored
//!   take_over               ignored: EPIPE, EFBIG instead    default: wait works  unchanged
//!   hold                                                                          blocked | ignored
//!   watch                                                                         caught, by a thread | ignored
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
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use awrite::{Error, ErrorKind, Shutdown};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::applets::report;
use crate::entry;

/// What a child gets back.
const HANDED_ON: [c_int; 6] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ, libc::SIGCHLD];
/// What ends the work cleanly.
const ENDING: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

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

/// A second signal within this time of the first is the same wish: `timeout` sends SIGTERM to the process and again to
/// its group, a closing terminal SIGHUP from the kernel and from the shell. It must not cut the clean-up short. A later
/// one comes from somebody who is tired of waiting for a clean-up that hangs.
const SAME_WISH_MS: i64 = 250;

extern "C" fn on_signal(signal: c_int) {
    // SAFETY: everything called is async-signal-safe: getpid, signal, raise, clock_gettime, _exit, and ctrlc's handler,
    // which posts a semaphore. WAKE has held that handler's address since before a signal could come here. None of them
    // changes the errno of the code that was interrupted, but `signal` and `raise`, after which this process ends.
    unsafe {
        if libc::getpid() != WATCHED.load(Ordering::Relaxed) {
            // Forked to become COMMAND, and not there yet: the signal must not get lost on the way.
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
            return;
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

/// Whether an ending signal waits to be delivered.
fn is_pending() -> bool {
    let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the pointer is to a local of the right type; all-zero is a valid, empty set, should the call fail.
    let pending = unsafe {
        libc::sigpending(pending.as_mut_ptr());
        pending.assume_init()
    };
    // SAFETY: the pointer is to a live set.
    ENDING.iter().any(|&signal| unsafe { libc::sigismember(&raw const pending, signal) } == 1)
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
/// signals are held. Called again it does nothing.
pub(crate) fn watch(inherited: &Inherited) -> Result<(), Error> {
    if WATCHED.load(Ordering::SeqCst) != 0 {
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
                let handler: extern "C" fn(c_int) = on_signal;
                WAKE.store(set_disposition(signal, handler as libc::sighandler_t), Ordering::SeqCst);
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
    if WATCHED.load(Ordering::SeqCst) == 0 && is_pending() {
        // Delivered as soon as it is no longer held. Where no thread can be had, it ends the process as it would any
        // other.
        let _ = about_to_wait();
    }
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
