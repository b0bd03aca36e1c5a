//! Running COMMAND with the lock held.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use awrite::{Error, ErrorKind, FileLock};

use super::super::common::cannot_run;
use super::request::{Request, Run};
use crate::process::{self, Inherited};
use crate::report::{self, exit};

pub(super) fn run_command(run: &Run, request: &Request, inherited: &Inherited) -> Result<u8, Error> {
    let Run { target, command: words, close, no_fork } = run;
    let lock = FileLock::acquire_with(lockable(target)?, &request.options, &request.observer)?;
    if *no_fork && !lock.survives_exec() {
        let reason = "--no-fork: a link lock needs this process, to keep it fresh";
        return Err(Error::new(ErrorKind::Usage, reason).on(target));
    }
    let mut command = words.to_command();
    let handed = if *close { lock.keep_back() } else { lock.hand_over()? };
    process::hand_lock(&mut command, &handed);
    let outcome = if *no_fork {
        Err(process::become_command(command, inherited))
    } else {
        process::supervise(command, inherited)
    };
    drop(handed);
    let kept = lock.ensure_held();
    if let Err(error) = lock.release() {
        // Only a warning: the exit status is COMMAND's.
        report::warning(&error);
    }
    match outcome {
        // A lost lock is more important than COMMAND's status: COMMAND has run without the lock for a time.
        Ok(status) => kept.map(|()| exit::of_command(status)),
        Err(error) => could_not_run(target, &words.program, error),
    }
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
