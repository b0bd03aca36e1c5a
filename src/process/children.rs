//! Children. A child starts with the signal dispositions and the mask that this process was started with; it is always
//! waited for.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use awrite::{Error, HandOver};
use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use super::ended::{End, Failed, await_end, await_readable};
use super::environment::set_variable;
use super::masks::{Inherited, all_signals, set_mask};
use super::outlived::Outlived;
use super::running::{self, children};
use super::signals::{self, about_to_wait, give_way, interrupted, is_pending};
use super::stdio;

/// A child process. Dropping it before it was waited for ends it: it gets SIGTERM, and SIGKILL if it does not heed that.
pub(crate) struct Running {
    child: Child,
    pid: Option<Pid>,
    reaped: bool,
}

/// How long a child may take to end after SIGTERM, when an error has made it useless.
const GRACE: Duration = Duration::from_secs(1);

/// The pause between two looks at what a command has left behind.
const GROUP_PAUSE: Duration = Duration::from_millis(10);

/// As the library reads.
const BUFFER: usize = 128 * 1024;

/// Starts `command`, unless a signal has ended the work.
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
    children.came_late = interrupted();
    Ok(Running { child, pid, reaped: false })
}

impl Running {
    /// Gives `take` what the child writes on its standard output, a pipe, until everybody has closed that. A child that
    /// fails ends it too: what it has left behind may keep the pipe open for ever.
    pub(crate) fn read_output(
        &mut self,
        name: &Path,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(stdout) = self.child.stdout.take() else { return Ok(()) };
        let failed = |e: io::Error| Error::io(name, e);
        // Only our end: the child's is another open file.
        rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(BUFFER).map_err(|_| failed(io::Error::from_raw_os_error(libc::ENOMEM)))?;
        // Not before it is needed: most output is there before we look.
        let mut end = None;
        loop {
            buffer.clear();
            match rustix::io::read(&stdout, spare_capacity(&mut buffer)) {
                Ok(0) => return Ok(()),
                Ok(_) => take(&buffer)?,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match end.get_or_insert_with(|| self.pid.map(End::of)) {
                    Some(watched) => match watched.or_readable(&stdout).map_err(failed)? {
                        Some(Failed(true)) => return Ok(()),
                        Some(Failed(false)) => end = Some(None),
                        None => {}
                    },
                    None => await_readable(&stdout).map_err(failed)?,
                },
                Err(e) => return Err(failed(e.into())),
            }
        }
    }

    /// Waits for its end. Does not return if a signal that ends the work has come meanwhile: the child may have ended
    /// because of it and still report success, as a shell does if its script says so.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.reap();
        give_way();
        status
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        self.reaped = true;
        if let Some(pid) = self.pid {
            // Before it is reaped, which frees its number, the signal thread must forget it.
            await_end(pid);
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
            // The error that is to be reported must not wait for a child that ignores the signal.
            End::of(pid).wait_or_kill(Instant::now().checked_add(GRACE));
        }
        let _ = self.reap();
    }
}

/// Runs `command` and waits for its end. Meanwhile signals that processes send here are passed on to it; those of a
/// terminal reach it without that. If a signal has come before, the command is not started and the work ends. A signal
/// that comes after the command's end is dropped.
pub(crate) fn supervise(command: Command, inherited: &Inherited) -> io::Result<ExitStatus> {
    supervise_beside(command, inherited, || Next::Nothing).inspect_err(|e| {
        if e.kind() == io::ErrorKind::Interrupted {
            give_way();
        }
    })
}

/// The same for a command that is a step of this process's work: a signal that comes after the command's end ends the
/// work. Does not return if the work was to end meanwhile; see [`signals::end_was_asked`].
pub(crate) fn supervise_step(command: Command, inherited: &Inherited) -> io::Result<ExitStatus> {
    let status = supervise(command, inherited)?;
    signals::take_back(inherited);
    if signals::end_was_asked(!status.success()) {
        signals::end_interrupted();
    }
    Ok(status)
}

/// What a task beside a supervised child asks for next.
pub(crate) enum Next {
    /// To be called again after this time, or earlier.
    In(Duration),
    /// To have SIGTERM sent to the child, and not to be called again.
    Stop,
    /// Not to be called again.
    Nothing,
}

/// The same with a task to do meanwhile; each call of `beside` must be short. If a signal has come before, this returns
/// [`io::ErrorKind::Interrupted`], so that the caller can clean up and then [`give_way`].
pub(crate) fn supervise_beside(
    mut command: Command,
    inherited: &Inherited,
    mut beside: impl FnMut() -> Next,
) -> io::Result<ExitStatus> {
    inherited.hand_to(&mut command);
    stdio::leave_closed(&mut command);
    // What is killed is all of COMMAND, where that can be told from this process and those beside it. A group of its own
    // could not use the terminal that this process has.
    let own_group = running::kills() && !has_terminal();
    if own_group {
        command.process_group(0);
    }
    let mask = block_signals(inherited)?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            set_mask(Some(&mask));
            return Err(error);
        }
    };
    let pid = i32::try_from(child.id()).unwrap_or(0);
    let outlived = Outlived::new();
    signals::pass_on_to(pid, inherited);
    let Some(pid) = Pid::from_raw(pid) else {
        signals::pass_nothing_on();
        return child.wait();
    };
    // Before it is reaped, which frees its number, the handler must forget it.
    let lost = watch(pid, own_group, &outlived, &mut beside);
    signals::pass_nothing_on();
    let status = child.wait();
    if let Some(deadline) = lost.filter(|_| own_group) {
        end_group(pid, deadline);
    }
    status
}

/// Passes signals on and calls `beside`, until the child has ended or, at its deadline, has been killed. Returns that
/// deadline if `beside` has set it.
fn watch(pid: Pid, own_group: bool, outlived: &Outlived, beside: &mut dyn FnMut() -> Next) -> Option<Instant> {
    // It may have ended already, which is what is wanted.
    let kill = |signal| {
        let _ = if own_group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
    };
    let end = End::of(pid);
    let (mut goes_on, mut deadline, mut lost) = (true, None, false);
    loop {
        let mut limit = Duration::MAX;
        if goes_on {
            match beside() {
                Next::In(soon) => limit = soon,
                Next::Stop => {
                    kill(Signal::TERM);
                    (goes_on, deadline, lost) = (false, running::deadline(), true);
                }
                Next::Nothing => goes_on = false,
            }
        }
        if deadline.is_none() && signals::child_was_told() {
            deadline = running::deadline();
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                kill(Signal::KILL);
                await_end(pid);
                break;
            }
            limit = limit.min(left);
        }
        if end.comes_within_or(limit, outlived) {
            break;
        }
        outlived.pass_on_to(pid);
    }
    deadline.filter(|_| lost)
}

/// Waits until nobody is left in the group of a command that has ended, and kills those who are left at the deadline: they
/// must not go on either, once the lock or the lease is lost.
fn end_group(group: Pid, deadline: Instant) {
    while test_kill_process_group(group).is_ok() {
        if Instant::now() >= deadline {
            let _ = kill_process_group(group, Signal::KILL);
            return;
        }
        std::thread::sleep(GROUP_PAUSE);
    }
}

/// Whether this process is in the foreground of a terminal.
fn has_terminal() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|tty| rustix::termios::tcgetpgrp(&tty).is_ok_and(|group| group == rustix::process::getpgrp()))
}

/// Replaces this process by `command` (exec). Returns only if that fails.
pub(crate) fn become_command(mut command: Command, inherited: &Inherited) -> io::Error {
    if let Err(e) = block_signals(inherited) {
        give_way();
        return e;
    }
    inherited.hand_to(&mut command);
    stdio::leave_closed(&mut command);
    command.exec()
}

/// Runs `work` on a thread of its own. Signals are for the thread that supervises COMMAND.
pub(crate) fn start_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mask = set_mask(Some(&all_signals()));
    let started = std::thread::Builder::new().spawn(work);
    set_mask(Some(&mask));
    started.map(drop)
}

/// Blocks all signals and returns the former mask. Fails if a signal that ends the work has come already.
fn block_signals(inherited: &Inherited) -> io::Result<libc::sigset_t> {
    let mask = set_mask(Some(&all_signals()));
    if interrupted() || is_pending(inherited) {
        set_mask(Some(&mask));
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(mask)
}

/// The same with several locks.
pub(crate) fn hand_locks(command: &mut Command, locks: &[HandOver]) {
    if let Some(first) = locks.first() {
        set_variable(command, first.variable, HandOver::value_of_all(locks).as_deref());
    }
    for lock in locks {
        hand_descriptors(command, lock);
    }
}

/// Gives `command` a lock, or keeps the lock from it, as `lock` says. `lock` must live until the command has been
/// started. The command's environment must not be changed any more.
pub(crate) fn hand_lock(command: &mut Command, lock: &HandOver) {
    set_variable(command, lock.variable, lock.value.as_deref());
    hand_descriptors(command, lock);
}

fn hand_descriptors(command: &mut Command, lock: &HandOver) {
    for fd in lock.fd.iter().chain(&lock.more) {
        set_close_on_exec(command, fd.as_raw_fd(), false);
    }
    for fd in &lock.close {
        set_close_on_exec(command, *fd, true);
    }
}

/// Lets `command` inherit this descriptor, which must stay open until the command has been started.
pub(crate) fn hand_descriptor(command: &mut Command, fd: BorrowedFd<'_>) {
    set_close_on_exec(command, fd.as_raw_fd(), false);
}

/// Keeps an inherited descriptor from `command`.
pub(crate) fn keep_descriptor(command: &mut Command, fd: RawFd) {
    set_close_on_exec(command, fd, true);
}

fn set_close_on_exec(command: &mut Command, fd: RawFd, close: bool) {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: the closure runs between fork and exec and calls only fcntl, which is async-signal-safe, with plain
    // numbers.
    unsafe {
        command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, flags) {
            -1 if !close => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
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
    use super::super::masks::{HANDED_ON, disposition};
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
            // Another test may run a child at the same time, though the program runs one at a time.
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
            let mut text = Vec::new();
            let take = |output: &[u8]| {
                text.extend_from_slice(output);
                Ok(())
            };
            child.read_output(Path::new("cat"), take).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(child.wait().unwrap().success());
            let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
            let set = u64::from_str_radix(line.trim(), 16).unwrap();
            HANDED_ON.map(|signal| set & (1 << (signal - 1)) != 0)
        };
        // Those of this process itself are not changed before a child is started.
        let own = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].map(|signal| disposition(signal) == libc::SIG_IGN);
        for others in [[false; 3], [true; 3], [true, false, true], [false, true, false]] {
            let ignored = [own, others].concat().try_into().unwrap();
            assert_eq!(ignored_by_child(ignored), ignored);
        }
    }
}
