//! Children: started as this process was started, waited for, and never left behind.
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
        // Waited for, out of reach of the handler, and only then reaped: its number is somebody else's from then on.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options));
    }
    signals::pass_nothing_on();
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
}
