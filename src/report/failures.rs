//! Errors, warnings, and the signal that ended the work.

use std::path::Path;

use awrite::Error;

use super::message::{Level, Message, shows};
use super::{listing, remedy};

/// Reports an error and, as a hint, its remedy.
pub(crate) fn error(error: &Error) {
    failure(error, error.exit_code());
}

/// The same for a process that ends with `exit_code`, which is not the error's own.
pub(crate) fn failure(error: &Error, exit_code: u8) {
    let hint = error.hint_in(remedy::words);
    let event = if error.found().is_some() { "conflict" } else { "error" };
    Message::new(Level::Error, event, error.to_string())
        .with_known("path", error.path())
        .with("exit_code", u64::from(exit_code))
        .with_known("errno", error.errno())
        .with_known("hint", hint)
        .with_known("expected", error.expected().map(|expected| expected.to_string()))
        .with_known("found", error.found().map(|found| found.to_string()))
        .with_known("holder_pid", error.holder().map(|holder| u64::from(holder.pid)))
        .say();
}

/// Reports that something failed though the work is done.
pub(crate) fn warning(error: &Error) {
    if shows(Level::Warn) {
        Message::new(Level::Warn, "warning", error.to_string()).with_known("path", error.path()).say();
    }
}

/// Reports what is worth knowing about `path`, by default, though nothing is wrong.
pub(crate) fn note(path: &Path, text: &str) {
    if shows(Level::Warn) {
        Message::about(Level::Info, "info", path, text).shown_at(Level::Warn).say();
    }
}

/// Reports that the input is typed. Shown by default: who forgot the input would wait without a word.
pub(crate) fn reading_terminal() {
    if shows(Level::Warn) {
        let text = "Reading from the terminal; end with ^D".to_owned();
        Message::new(Level::Info, "info", text).shown_at(Level::Warn).say();
    }
}

/// Reports that a signal ended the work. `files` temporary files have been removed.
pub(crate) fn interrupted(exit_code: u8, files: usize) {
    Message::new(Level::Error, "interrupted", "Interrupted".to_owned()).with("exit_code", u64::from(exit_code)).say();
    if files > 0 && shows(Level::Warn) {
        let text = "Cleaning up temporary files...".to_owned();
        let message = Message::new(Level::Info, "cleaning_up", text).shown_at(Level::Warn);
        message.with("files", files as u64).say();
    }
    listing::flush_if_ready();
}
