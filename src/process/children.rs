//! Children. A child starts with the signal dispositions and the mask that this process was started with; it is always
//! waited for.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use awrite::HandOver;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::masks::{Inherited, all_signals, set_mask};
use super::running::children;
use super::signals::{self, about_to_wait, give_way, interrupted, is_pending};

/// A child process. Dropping it before it was waited for sends it SIGTERM and waits for it.
pub(crate) struct Running {
    child: Child,
    pid: Option<Pid>,
    reaped: bool,
}

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
    Ok(Running { child, pid, reaped: false })
}

impl Running {
    /// The reading end of its standard output, if that is a pipe.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
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
        }
        let _ = self.reap();
    }
}

/// Waits until a child has ended, and does not reap it.
fn await_end(pid: Pid) {
    // On an error, `Child::wait` will return the same one.
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
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
    let mask = block_signals(inherited)?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            set_mask(Some(&mask));
            return Err(error);
        }
    };
    let pid = i32::try_from(child.id()).unwrap_or(0);
    signals::pass_on_to(pid, inherited);
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
        // Before it is reaped, which frees its number, the handler must forget it.
        await_end(pid);
    }
    signals::pass_nothing_on();
    child.wait()
}

/// The end of a child, which can be waited for with a time limit.
struct End {
    pid: Pid,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fd: Option<OwnedFd>,
}

/// The longest single wait. Its clock stops while the machine is suspended; the lease's clock does not, so its refresh
/// must not depend on this one.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The pause between two looks at a child where there is no pidfd (pidfd_open(2): since Linux 5.3).
const POLL_INTERVAL: Duration = Duration::from_millis(20);

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

    /// Waits for it, at most for `limit`, and not so long if a signal comes. Does not reap the child.
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
        std::thread::sleep(limit.min(POLL_INTERVAL));
    }
}

/// Replaces this process by `command` (exec). Returns only if that fails.
pub(crate) fn become_command(mut command: Command, inherited: &Inherited) -> io::Error {
    if let Err(e) = block_signals(inherited) {
        give_way();
        return e;
    }
    inherited.hand_to(&mut command);
    command.exec()
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

/// Gives `command` a lock, or keeps the lock from it, as `lock` says. `lock` must live until the command has been
/// started.
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

/// Lets `command` inherit this descriptor, which must stay open until the command has been started.
pub(crate) fn hand_descriptor(command: &mut Command, fd: BorrowedFd<'_>) {
    set_close_on_exec(command, fd.as_raw_fd(), false);
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
    use super::super::masks::HANDED_ON;
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
}
