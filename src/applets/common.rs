//! What the applets share: the options for messages, and an error.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use awrite::{Error, ErrorKind};

use super::flags::{Flag, Stop, Value, put};
use super::values::parse_descriptor;
use crate::process;
use crate::report::{self, Level, Style};

/// Settings that contain the style of messages.
pub(crate) trait HasStyle {
    fn style(&mut self) -> &mut Style;
}

pub(crate) const fn verbose<S: HasStyle>() -> Flag<S> {
    Flag::set("Messages", &["-v", "--verbose"], "say what is done; twice: how", |settings| {
        let style = settings.style();
        style.level = if style.level >= Level::Info { Level::Debug } else { Level::Info };
    })
}

pub(crate) const fn quiet<S: HasStyle>() -> Flag<S> {
    Flag::set("Messages", &["-q", "--quiet"], "errors only", |settings| settings.style().level = Level::Error)
}

pub(crate) const fn json<S: HasStyle>() -> Flag<S> {
    Flag::set("Messages", &["--json"], "every message as one JSON object a line", |settings| {
        settings.style().json = true
    })
}

/// For applets that run COMMAND, whose messages would run into those of `--json`.
pub(crate) const fn json_fd<S: HasStyle>() -> Flag<S> {
    let help = "the same on descriptor N, besides those on standard error; COMMAND does not get N";
    Flag::value("Messages", &["--json-fd"], Value::Text("N"), help, |settings, value| {
        put(&mut settings.style().json_fd, parse_descriptor(&value))
    })
}

/// Sets the style of all messages from here on.
pub(crate) fn use_style(style: Style) -> Result<(), Stop> {
    report::use_style(style);
    if let Some(number) = style.json_fd {
        let events = process::writable(number).map_err(|_| {
            let remedy = format!("in a shell, {number}>FILE opens it");
            Stop::Usage(format!("--json-fd: descriptor {number} is not open for writing; {remedy}"))
        })?;
        report::use_events(events);
    }
    Ok(())
}

/// For applets whose work can take long.
pub(crate) const fn progress<S: HasStyle>() -> Flag<S> {
    Flag::set("Messages", &["--progress"], "show progress on a terminal", |settings| settings.style().progress = true)
}

pub(crate) const fn help<S>() -> Flag<S> {
    Flag::check("Other", &["-h", "--help"], "print this (-h: what most people need) and exit", |_, _| Err(Stop::Help))
}

pub(crate) const fn version<S>() -> Flag<S> {
    Flag::check("Other", &["-V", "--version"], "print the version and exit", |_, _| Err(Stop::Version))
}

/// The error that `program`, which was to work on `target`, or on several, cannot be run.
pub(crate) fn cannot_run<'a>(program: &OsStr, target: impl Into<Option<&'a Path>>, error: io::Error) -> Error {
    let reason = Error::io(program, error).to_string();
    about(target.into(), Error::new(ErrorKind::Io, format!("cannot run {reason}")))
}

/// The error, about `target` if it is about a single one.
pub(crate) fn about(target: Option<&Path>, error: Error) -> Error {
    match target {
        Some(target) => error.on(target),
        None => error,
    }
}
