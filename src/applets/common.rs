//! The options that every applet has, and those that all which lock will share.

use super::flags::{Complete, Flag, Spec, Stop};
use super::report::{Level, Style};

/// Settings that say how much is told, and in which form.
pub(crate) trait Tells {
    fn style(&mut self) -> &mut Style;
}

pub(crate) const fn verbose<S: Tells>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: "Messages",
            long: &["verbose"],
            short: &['v'],
            value: None,
            help: "say what is done; twice: how",
            complete: Complete::Nothing,
        },
        apply: |settings, _| {
            let style = settings.style();
            style.level = if style.level >= Level::Info { Level::Debug } else { Level::Info };
            Ok(())
        },
    }
}

pub(crate) const fn quiet<S: Tells>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: "Messages",
            long: &["quiet"],
            short: &['q'],
            value: None,
            help: "errors only",
            complete: Complete::Nothing,
        },
        apply: |settings, _| {
            settings.style().level = Level::Error;
            Ok(())
        },
    }
}

pub(crate) const fn json<S: Tells>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: "Messages",
            long: &["json"],
            short: &[],
            value: None,
            help: "every message as one JSON object a line",
            complete: Complete::Nothing,
        },
        apply: |settings, _| {
            settings.style().json = true;
            Ok(())
        },
    }
}

pub(crate) const fn help<S>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: "Other",
            long: &["help"],
            short: &['h'],
            value: None,
            help: "print this and exit",
            complete: Complete::Nothing,
        },
        apply: |_, _| Err(Stop::Help),
    }
}

pub(crate) const fn version<S>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: "Other",
            long: &["version"],
            short: &['V'],
            value: None,
            help: "print the version and exit",
            complete: Complete::Nothing,
        },
        apply: |_, _| Err(Stop::Version),
    }
}
