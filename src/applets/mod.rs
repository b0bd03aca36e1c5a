//! The command lines: choosing the applet, its options, and what it does with them.

mod common;
mod completions;
mod flags;
mod flock;
mod help;
mod housekeep;
mod install;
mod lock;
mod locking;
mod table;
mod values;
mod write;

use std::ffi::{OsStr, OsString};

use awrite::{Error, ErrorKind};

use crate::process::{self, Inherited};
use crate::report::{self, Style, exit};
use flags::Stop;
use table::Applet;
#[cfg(fuzzing)]
pub(crate) use table::any_words;

/// Runs the applet that `args` choose, and returns the exit status. The program's name is the first of `args`, if there
/// are any.
pub(crate) fn run(args: Vec<OsString>) -> u8 {
    let inherited = process::take_over();
    let mut args = args.into_iter();
    let name = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    match dispatch(&name, args, &inherited) {
        Ok(status) => status,
        Err(error) => {
            process::give_way();
            report::error(&error);
            error.exit_code()
        }
    }
}

fn dispatch(called_as: &OsStr, mut args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Error> {
    let name = table::base_name(called_as);
    if name == b"flock" {
        return flock::run(called_as, args, inherited);
    }
    // An error in the options must be JSON too, even if these come after it.
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let _ = common::use_style(Style { json, json_fd: named_descriptor(&args), ..Style::default() });
    let (applet, by_word) = table::choose(name, args.first().map(OsString::as_os_str));
    if by_word {
        args.remove(0);
    }
    (applet.run)(args, inherited).or_else(|stop| answer(stop, applet, called_as))
}

/// The value of the last `--json-fd`.
fn named_descriptor(args: &[OsString]) -> Option<i32> {
    let options = args.split(|arg| arg == "--").next()?;
    let at = options.iter().rposition(|arg| arg.as_encoded_bytes().starts_with(b"--json-fd"))?;
    let value = match options[at].to_str()?.strip_prefix("--json-fd=") {
        Some(value) => OsStr::new(value),
        None => options.get(at + 1)?,
    };
    values::parse_descriptor(value).ok()
}

/// Does what was asked for instead of the applet's work.
fn answer(stop: Stop, applet: &Applet, called_as: &OsStr) -> Result<u8, Error> {
    let text = match stop {
        Stop::Usage(reason) => {
            let hint = format!("run '{} --help'", applet.name);
            return Err(Error::new(ErrorKind::Usage, reason).with_hint(hint));
        }
        Stop::Failed(error) => return Err(error),
        Stop::Install { dir, force } => {
            return install::install(&table::link_names(), &dir, force, called_as).map(|()| exit::SUCCESS);
        }
        Stop::Help => help::text(&(applet.manual)()),
        Stop::Brief => help::brief(&(applet.manual)()),
        Stop::Version => format!("{} {}\n", applet.name, env!("CARGO_PKG_VERSION")),
        Stop::List => table::list(),
        Stop::Completions(shell) => completions::for_shell(shell),
    };
    report::print(&text).map(|()| exit::SUCCESS)
}
