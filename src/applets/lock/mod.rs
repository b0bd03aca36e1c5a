//! `awrite-lock`: runs a command with the lock held that awrite takes.
//!
//! ```text
//!   awrite-lock [OPTIONS] TARGET -- COMMAND [ARG...]
//!   awrite-lock [OPTIONS] TARGET -c SCRIPT
//!   awrite-lock [OPTIONS] N                          an open descriptor of the caller
//!   awrite-lock --acquire|--refresh|--release|--status [OPTIONS] TARGET     see lock/leasing.rs
//! ```

mod command;
mod job;
mod leasing;
mod options;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use awrite::{Error, lock_descriptor, unlock_descriptor};

use super::flags::Stop;
use crate::process::{self, Given, Inherited};
use crate::report::{self, exit};
use command::{fail, named, run_command};
use job::{What, check};
pub(super) use options::GRAMMAR;
use options::Settings;

pub(super) fn run(args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Stop> {
    let mut settings = Settings::default();
    let parsed = GRAMMAR.parse(args, &mut settings)?;
    report::use_style(settings.style);
    let job = check(settings, parsed)?;
    process::hold(inherited);
    let outcome = match &job.what {
        What::Run { target, command, close, no_fork } => {
            run_command(target, command, *close, *no_fork, &job, inherited)
        }
        What::Lock(number) => {
            descriptor(*number, |fd, name| lock_descriptor(fd, name, &job.options, &job.observer).map(drop))
        }
        What::Unlock(number) => descriptor(*number, |fd, name| unlock_descriptor(fd, name)),
        What::Lease(target, order) => named(target).and_then(|target| leasing::obey(order, &target, &job, inherited)),
    };
    match outcome {
        Err(error) if error.exit_code() == exit::NOT_HELD => Ok(fail(&error, job.not_had())?),
        outcome => Ok(outcome?),
    }
}

fn descriptor(number: i32, work: impl FnOnce(&Given, &Path) -> Result<(), Error>) -> Result<u8, Error> {
    let name = PathBuf::from(format!("descriptor {number}"));
    let fd = Given::number(number)
        .map_err(|e| Error::io(&name, e).with_hint(format!("open it in the shell first: exec {number}>>FILE.lock")))?;
    work(&fd, &name).map(|()| exit::SUCCESS)
}
