//! The options that every applet has, and those that all which lock will share.

use super::flags::{Flag, Stop};
use crate::report::{Level, Style};

/// Settings that say how much is told, and in which form.
pub(crate) trait Tells {
    fn style(&mut self) -> &mut Style;
}

pub(crate) const fn verbose<S: Tells>() -> Flag<S> {
    Flag::switch("Messages", &["verbose"], &['v'], "say what is done; twice: how", |settings, _| {
        let style = settings.style();
        style.level = if style.level >= Level::Info { Level::Debug } else { Level::Info };
        Ok(())
    })
}

pub(crate) const fn quiet<S: Tells>() -> Flag<S> {
    Flag::switch("Messages", &["quiet"], &['q'], "errors only", |settings, _| {
        settings.style().level = Level::Error;
        Ok(())
    })
}

pub(crate) const fn json<S: Tells>() -> Flag<S> {
    Flag::switch("Messages", &["json"], &[], "every message as one JSON object a line", |settings, _| {
        settings.style().json = true;
        Ok(())
    })
}

pub(crate) const fn help<S>() -> Flag<S> {
    Flag::switch("Other", &["help"], &['h'], "print this and exit", |_, _| Err(Stop::Help))
}

pub(crate) const fn version<S>() -> Flag<S> {
    Flag::switch("Other", &["version"], &['V'], "print the version and exit", |_, _| Err(Stop::Version))
}
