//! What the applets share: options that say what is told, and an error.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use awrite::{Error, ErrorKind};

use super::flags::{Flag, Stop};
use crate::report::{Level, Style};

/// Settings that say how much is told, and in which form.
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

/// For the applets whose work may take long.
pub(crate) const fn progress<S: HasStyle>() -> Flag<S> {
    Flag::set("Messages", &["--progress"], "show progress on a terminal", |settings| settings.style().progress = true)
}

pub(crate) const fn help<S>() -> Flag<S> {
    Flag::check("Other", &["-h", "--help"], "print this and exit", |_, _| Err(Stop::Help))
}

pub(crate) const fn version<S>() -> Flag<S> {
    Flag::check("Other", &["-V", "--version"], "print the version and exit", |_, _| Err(Stop::Version))
}

/// The error when `program` cannot be run, for the sake of `target`.
pub(crate) fn cannot_run(program: &OsStr, target: &Path, error: io::Error) -> Error {
    let reason = Error::io(program, error).to_string();
    Error::new(ErrorKind::Io, format!("cannot run {reason}")).on(target)
}
