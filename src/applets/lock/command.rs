//! Running COMMAND with the lock held.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use awrite::{Error, ErrorKind, FileLock, HandOver};

use super::super::common::cannot_run;
use super::request::{Request, Run};
use super::words;
use crate::process::{self, Inherited, Next};
use crate::report::{self, exit};

/// How often in the stale time of a link lock, or in the usual one, this looks whether it is still held.
const LOOKS: u32 = 6;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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
    let mut command = line.to_command();
    let handed: Result<Vec<HandOver>, Error> =
        locks.iter().map(|lock| if *close { Ok(lock.keep_back()) } else { lock.hand_over() }).collect();
    let handed = handed?;
    process::hand_locks(&mut command, &handed);
    let outcome = if *no_fork {
        Err(process::become_command(command, inherited))
    } else {
        supervise(command, &locks, request, inherited)
    };
    drop(handed);
    let kept = locks.iter().try_for_each(FileLock::ensure_held);
    for lock in locks.into_iter().rev() {
        if let Err(error) = lock.release() {
            // Only a warning: the exit status is COMMAND's.
            report::warning(&error);
        }
    }
    match outcome {
        // A lost lock is more important than COMMAND's status: COMMAND has run without the lock for a time.
        Ok(status) => kept.map(|()| exit::of_command(status)),
        Err(error) => could_not_run(&targets[0], &line.program, error),
    }
}

/// Runs `command`. If a link lock is lost meanwhile, COMMAND is told to stop. A lock by `flock` cannot be.
fn supervise(command: Command, locks: &[FileLock], request: &Request, inherited: &Inherited) -> io::Result<ExitStatus> {
    let by_link: Vec<&FileLock> = locks.iter().filter(|lock| !lock.survives_exec()).collect();
    if by_link.is_empty() {
        return process::supervise(command, inherited);
    }
    let pause = request.options.stale_after.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE) / LOOKS;
    let mut next = Instant::now() + pause;
    let outcome = process::supervise_beside(command, inherited, || {
        let now = Instant::now();
        if now < next {
            return Next::In(next - now);
        }
        next = now + pause;
        let lost = by_link.iter().find_map(|lock| lock.ensure_held().err());
        match lost.filter(|error| error.kind() == ErrorKind::LockLost) {
            Some(error) => {
                report::warning(&error.during("COMMAND is told to stop"));
                Next::Stop
            }
            None => Next::In(pause),
        }
    });
    if outcome.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::Interrupted) {
        process::give_way();
    }
    outcome
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
