//! COMMAND, run with the lock held.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::Command;

use awrite::{Error, ErrorKind, FileLock};

use super::job::Job;
use crate::process::{self, Inherited};
use crate::report::{self, exit};

pub(super) fn run_command(
    target: &Path,
    words: &[OsString],
    close: bool,
    no_fork: bool,
    job: &Job,
    inherited: &Inherited,
) -> Result<u8, Error> {
    let lock = FileLock::acquire_with(named(target)?, &job.options, &job.observer)?;
    if no_fork && !lock.survives_exec() {
        let reason = "--no-fork: a link lock needs this process, to keep it fresh";
        return Err(Error::new(ErrorKind::Usage, reason).on(target));
    }
    let (program, args) = words.split_first().ok_or_else(|| Error::new(ErrorKind::Usage, "no COMMAND"))?;
    let mut command = Command::new(program);
    command.args(args);
    let handed = if close { lock.keep_back() } else { lock.hand_over()? };
    process::hand_lock(&mut command, &handed);
    let outcome =
        if no_fork { Err(process::become_command(command, inherited)) } else { process::supervise(command, inherited) };
    drop(handed);
    let kept = lock.ensure_held();
    if let Err(error) = lock.release() {
        // COMMAND's status says more.
        report::warning(&error);
    }
    match outcome {
        // It has run without the lock, in part: that says more than its status.
        Ok(status) => kept.map(|()| exit::of_command(status)),
        Err(error) => could_not_run(target, program, error),
    }
}

pub(super) fn could_not_run(target: &Path, program: &OsStr, error: io::Error) -> Result<u8, Error> {
    let status = if error.kind() == io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::CANNOT_RUN };
    let reason = Error::io(program, error).to_string();
    fail(&Error::new(ErrorKind::Io, format!("cannot run {reason}")).on(target), status)
}

/// A directory by a name that a lock file can stand beside, however it was typed: `repo/`, `.`.
pub(super) fn named(target: &Path) -> Result<Cow<'_, Path>, Error> {
    if !target.is_dir() {
        return Ok(target.into());
    }
    match target.file_name() {
        Some(_) => Ok(target.components().as_path().into()),
        None => target.canonicalize().map(Cow::Owned).map_err(|e| Error::io(target, e)),
    }
}

/// Says what failed, and ends with a status that is not the error's own.
pub(super) fn fail(error: &Error, status: u8) -> Result<u8, Error> {
    process::give_way();
    report::failure(error, status);
    Ok(status)
}
