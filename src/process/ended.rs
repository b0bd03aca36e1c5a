//! The end of a child, which can be waited for with a time limit, or beside its output.

use std::io;
use std::os::fd::AsFd;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, waitid};

use super::outlived::Outlived;

/// The end of a child. Nothing here reaps it.
pub(super) struct End {
    pid: Pid,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fd: Option<OwnedFd>,
}

/// The longest single wait. Its clock stops while the machine is suspended; the lease's clock does not, so its refresh
/// must not depend on this one.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The pause between two looks at a child where there is no pidfd (pidfd_open(2): since Linux 5.3).
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl End {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn of(pid: Pid) -> End {
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
        End { pid, fd }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn of(pid: Pid) -> End {
        End { pid }
    }

    /// Waits for it, at most for `limit`, and not so long if a signal comes.
    pub(super) fn comes_within(&self, limit: Duration) -> bool {
        self.wait(limit);
        // An error means that nobody can wait for it any more.
        !matches!(self.look(), Ok(None))
    }

    /// The same, and not so long if one of `signals` comes.
    pub(super) fn comes_within_or(&self, limit: Duration, signals: &Outlived) -> bool {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let (Some(fd), Some(signals)) = (&self.fd, &signals.fd) {
            // Without a limit there is nothing to look at meanwhile.
            let limit = if limit == Duration::MAX { None } else { Timespec::try_from(limit.min(LONGEST_WAIT)).ok() };
            let _ = poll(&mut [PollFd::new(fd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)], limit.as_ref());
            return !matches!(self.look(), Ok(None));
        }
        let _ = signals;
        self.comes_within(limit)
    }

    /// Waits for it. At the deadline, kills the child.
    pub(super) fn wait_or_kill(&self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                if self.comes_within(left) {
                    return;
                }
                if left.is_zero() {
                    break;
                }
            }
            let _ = kill_process(self.pid, Signal::KILL);
        }
        await_end(self.pid);
    }

    /// Waits until `output` can be read or the child has ended. Returns whether it has ended, and whether it failed.
    pub(super) fn or_readable(&self, output: impl AsFd) -> io::Result<Option<Failed>> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(fd) = &self.fd {
            let both = &mut [PollFd::new(&output, PollFlags::IN), PollFd::new(fd, PollFlags::IN)];
            retry(poll(both, None))?;
            return if both[1].revents().is_empty() { Ok(None) } else { self.failed() };
        }
        let limit = Timespec::try_from(POLL_INTERVAL).ok();
        retry(poll(&mut [PollFd::new(&output, PollFlags::IN)], limit.as_ref()))?;
        self.failed()
    }

    fn failed(&self) -> io::Result<Option<Failed>> {
        let status = self.look()?;
        Ok(status.map(|status| Failed(status.exit_status() != Some(0))))
    }

    fn look(&self) -> rustix::io::Result<Option<WaitIdStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.pid), options))
    }

    fn wait(&self, limit: Duration) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(fd) = &self.fd {
            let limit = Timespec::try_from(limit.min(LONGEST_WAIT)).ok();
            let _ = poll(&mut [PollFd::new(fd, PollFlags::IN)], limit.as_ref());
            return;
        }
        std::thread::sleep(limit.min(POLL_INTERVAL).min(LONGEST_WAIT));
    }
}

/// Whether a child that has ended failed.
pub(super) struct Failed(pub(super) bool);

/// A signal that interrupts a wait is no error: the caller looks again.
fn retry(outcome: rustix::io::Result<usize>) -> io::Result<()> {
    match outcome {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Waits until a child has ended, and does not reap it.
pub(super) fn await_end(pid: Pid) {
    // On an error, `Child::wait` will return the same one.
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
}

/// Waits until `output` can be read.
pub(super) fn await_readable(output: impl AsFd) -> io::Result<()> {
    retry(poll(&mut [PollFd::new(&output, PollFlags::IN)], None))
}
