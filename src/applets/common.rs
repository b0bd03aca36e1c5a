//! The options that every applet has, and those that all which lock will share.

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
