//! `--validate`, and the exit status that a command must have.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitStatus};

use awrite::{Check, Error, ErrorKind};

use super::super::common::cannot_run;
use crate::process::{self, Inherited};

/// The check of `--validate`.
pub(super) fn validation(script: OsString, inherited: Inherited) -> Check {
    Check::new(move |new, target| {
        let cannot_run = |e| cannot_run(OsStr::new("sh"), target, e);
        let mut command = Command::new("sh");
        command.arg("-c").arg(&script).env("AWRITE_NEW", new).env("AWRITE_TARGET", target);
        command.stdin(process::empty_input().map_err(cannot_run)?);
        let status = process::start(command, &inherited).and_then(process::Running::wait).map_err(cannot_run)?;
        ensure_success(status, "validation failed", target)
    })
}

pub(super) fn ensure_success(status: ExitStatus, failed: &str, output: &Path) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, format!("{failed}: {}", process::ending(status))).on(output))
}
