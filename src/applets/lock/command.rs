//! Running COMMAND with the lock held.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use awrite::{Error, ErrorKind, FileLock, HandOver};

use super::super::common::cannot_run;
use super::request::{Request, Run};
use super::words;
use crate::process::{self, Inherited, Next};
use crate::report::{self, exit};

/// The stale time of link locks, unless the environment says another.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// How long the release of a lost lock may take.
const RELEASE_WAIT: Duration = Duration::from_secs(1);
/// How often in that time this looks whether a link lock is still held.
const LOOKS: u32 = 6;

pub(super) fn run_command(run: &Run, request: &Request, inherited: &Inherited) -> Result<u8, Error> {
    let Run { targets, command: line, close, no_fork } = run;
    let paths = targets.iter().map(|target| lockable(target)).collect::<Result<Vec<_>, Error>>()?;
    paths.iter().for_each(|path| words::about_target(path));
    if paths.len() > 1 {
        // It may wait for one lock with others held.
        process::about_to_wait()?;
    }
    let locks = FileLock::acquire_all(&paths, &request.options, &request.observer)?;
    if *no_fork && !locks.iter().all(FileLock::survives_exec) {
        let reason = "--no-fork: a link lock needs this process, to keep it fresh";
        return Err(Error::new(ErrorKind::Usage, reason).on(&targets[0]));
    }
    ensure_kill_in_time(&locks, request)?;
    let mut command = line.to_command();
    let handed: Result<Vec<HandOver>, Error> =
        locks.iter().map(|lock| if *close { Ok(lock.keep_back()) } else { lock.hand_over() }).collect();
    let handed = handed?;
    process::hand_locks(&mut command, &handed);
    let mut lost = None;
    let outcome = if *no_fork {
        Err(process::become_command(command, inherited))
    } else {
        supervise(command, &locks, request, inherited, &mut lost)
    };
    drop(handed);
    let kept = match lost {
        Some(error) => {
            release_soon(locks);
            Err(error)
        }
        None => {
            let kept = locks.iter().try_for_each(FileLock::ensure_held);
            release(locks);
            kept
        }
    };
    match outcome {
        // A lost lock is more important than COMMAND's status: COMMAND has run without the lock for a time.
        Ok(status) => kept.map(|()| exit::of_command(status)),
        Err(error) => could_not_run(&targets[0], &line.program, error),
    }
}

fn release(locks: Vec<FileLock>) {
    for lock in locks.into_iter().rev() {
        if let Err(error) = lock.release() {
            // Only a warning: the exit status is COMMAND's.
            report::warning(&error);
        }
    }
}

/// The same of locks that are lost. A server that does not answer is not waited for: others break what stays there.
fn release_soon(locks: Vec<FileLock>) {
    // Of the type that refreshes of leases have: the code for another one is 4 KiB.
    let (done, answer) = mpsc::channel::<Result<(), Error>>();
    let started = process::start_thread(move || {
        release(locks);
        let _ = done.send(Ok(()));
    });
    if started.is_ok() {
        let _ = answer.recv_timeout(RELEASE_WAIT);
    }
}

fn stale_after(request: &Request) -> Duration {
    request.options.stale_after.unwrap_or(STALE_AFTER)
}

/// Makes sure that COMMAND can be gone before another breaks a link lock that gets no sign of life any more.
fn ensure_kill_in_time(locks: &[FileLock], request: &Request) -> Result<(), Error> {
    let limit = request.kill_after.unwrap_or_default();
    match locks.iter().find(|lock| lock.left().is_some()) {
        Some(lock) if limit.saturating_mul(2) > stale_after(request) => {
            let reason = "--kill-after: is more than half of the time after which others break a link lock";
            Err(Error::new(ErrorKind::Usage, reason)
                .on(lock.path())
                .with_hint("that is AWRITE_STALE_AFTER, default 60s"))
        }
        _ => Ok(()),
    }
}

/// Runs `command`. If a link lock is lost meanwhile, or will be before `--kill-after` has ended COMMAND, COMMAND is told
/// to stop. A lock by `flock` cannot be lost.
fn supervise(
    command: Command,
    locks: &[FileLock],
    request: &Request,
    inherited: &Inherited,
    lost: &mut Option<Error>,
) -> io::Result<ExitStatus> {
    if locks.iter().all(|lock| lock.left().is_none()) {
        return process::supervise(command, inherited);
    }
    let kill_after = request.kill_after.unwrap_or_default();
    let pause = stale_after(request).min(STALE_AFTER) / LOOKS;
    let mut next = Instant::now() + pause;
    let outcome = process::supervise_beside(command, inherited, || {
        let now = Instant::now();
        if now < next {
            return Next::In(next - now);
        }
        if let Some(error) = locks.iter().find_map(|lock| is_lost(lock, kill_after)) {
            let text = "the lock is lost, COMMAND is told to stop";
            report::warning(&Error::new(ErrorKind::LockLost, text).on(error.path().unwrap_or(Path::new(""))));
            *lost = Some(error);
            return Next::Stop;
        }
        let left = locks.iter().filter_map(FileLock::left).min().unwrap_or(pause);
        next = now + pause.min(left.saturating_sub(kill_after));
        Next::In(next - now)
    });
    if outcome.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::Interrupted) {
        process::give_way();
    }
    outcome
}

/// An error if a link lock is lost, or will be within `kill_after`. Asks no server, which may not answer: a thread of the
/// library gives the signs of life.
fn is_lost(lock: &FileLock, kill_after: Duration) -> Option<Error> {
    let left = lock.left().filter(|left| *left <= kill_after)?;
    let hint = if left.is_zero() {
        "this process was stopped or cut off, and another may have the lock"
    } else {
        "no sign of life could be written to it, and others will break it"
    };
    Some(Error::new(ErrorKind::LockLost, "Lock lost").on(lock.path()).with_hint(hint))
}

pub(super) fn could_not_run(target: &Path, program: &OsStr, error: io::Error) -> Result<u8, Error> {
    let status = if error.kind() == io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::CANNOT_RUN };
    fail(&cannot_run(program, target, error), status)
}

/// Reports `error`, and returns `status`, the exit status, which is not the error's own.
pub(super) fn fail(error: &Error, status: u8) -> Result<u8, Error> {
    process::give_way();
    report::failure(error, status);
    Ok(status)
}

/// The path of `target` with a file name at its end. The lock file's name is made from that, but a directory may have
/// been typed as `repo/` or `.`.
pub(super) fn lockable(target: &Path) -> Result<Cow<'_, Path>, Error> {
    if !target.is_dir() {
        return Ok(target.into());
    }
    match target.file_name() {
        Some(_) => Ok(target.components().as_path().into()),
        None => target.canonicalize().map(Cow::Owned).map_err(|e| Error::io(target, e)),
    }
}
