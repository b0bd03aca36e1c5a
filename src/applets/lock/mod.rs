//! `awrite-lock`: runs a command while it holds the lock that awrite takes.
//!
//! ```text
//!   awrite-lock [OPTIONS] TARGET... -- COMMAND [ARG...]
//!   awrite-lock [OPTIONS] TARGET... -c SCRIPT
//!   awrite-lock [OPTIONS] N                          locks an open descriptor of the caller
//!   awrite-lock --acquire|--refresh|--release|--break|--status [OPTIONS] TARGET     see lock/leasing.rs
//!   awrite-lock --list [-r] [OPTIONS] [DIR]
//! ```

mod command;
mod leasing;
mod list;
mod options;
mod request;
mod words;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use awrite::{Error, lock_callers_descriptor, unlock_descriptor};

use super::flags::Stop;
use super::{common, locking};
use crate::process::{self, Inherited, InheritedFd};
use crate::report::exit;
use command::{fail, lockable, run_command};
pub(super) use options::GRAMMAR;
use options::Settings;
use request::{Action, check};

pub(super) fn run(args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Stop> {
    let mut settings = Settings::default();
    let parsed = GRAMMAR.parse(args, &mut settings)?;
    common::use_style(settings.style)?;
    let request = check(settings, parsed)?;
    process::hold(inherited);
    let outcome = match &request.action {
        Action::Run(run) => run_command(run, &request, inherited),
        Action::Lock(number) => {
            let (options, observer) = (&request.options, &request.observer);
            words::about_descriptor(*number, &label(*number));
            on_descriptor(*number, |fd, name| lock_callers_descriptor(fd, name, options, observer).map(drop))
        }
        Action::Unlock(number) => {
            // All that it may say is that it waits. Then signals end it, and the lock stays.
            let observer = locking::observer_and(request.style, |_| drop(process::about_to_wait()));
            on_descriptor(*number, |fd, name| unlock_descriptor(fd, name, &observer))
        }
        Action::Lease(target, action) => {
            lockable(target).and_then(|target| leasing::carry_out(action, &target, &request, inherited))
        }
        Action::List(dir, recursive) => list::list(dir, *recursive, &request),
    };
    match outcome {
        Err(error) if error.exit_code() == exit::NOT_HELD => Ok(fail(&error, request.not_held())?),
        outcome => Ok(outcome?),
    }
}

fn label(number: i32) -> PathBuf {
    PathBuf::from(format!("descriptor {number}"))
}

fn on_descriptor(number: i32, work: impl FnOnce(&InheritedFd, &Path) -> Result<(), Error>) -> Result<u8, Error> {
    let name = label(number);
    let fd = InheritedFd::number(number)
        .map_err(|e| Error::io(&name, e).with_hint(format!("open it in the shell first: exec {number}>>FILE.lock")))?;
    work(&fd, &name).map(|()| exit::SUCCESS)
}
