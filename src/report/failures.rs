//! What failed: errors, warnings, and the signal that ended the work.

use awrite::{Error, shown};

use super::listing;
use super::message::{Field, Level, Message, json, say, told};
use super::output::write_all_at_once;

/// Says what failed, and the remedy.
pub(crate) fn error(error: &Error) {
    failure(error, error.exit_code());
}

/// The same where the status to end with is another than the error's own.
pub(crate) fn failure(error: &Error, exit_code: u8) {
    let hint = error.hint();
    if !json() {
        let mut text = format!("Error: {error}\n");
        if let Some(hint) = hint {
            text.push_str(&format!("Hint: {}\n", shown(hint.as_ref())));
        }
        write_all_at_once(&text);
        return;
    }
    let mut fields = Vec::new();
    if let Some(path) = error.path() {
        fields.push(("path", Field::Path(path)));
    }
    fields.push(("exit_code", Field::Number(exit_code.into())));
    if let Some(errno) = error.errno() {
        fields.push(("errno", Field::Number(errno.into())));
    }
    if let Some(hint) = hint {
        fields.push(("hint", Field::Text(hint)));
    }
    if let Some(holder) = error.holder() {
        fields.push(("holder_pid", Field::Number(holder.pid.into())));
    }
    say(&Message { level: Level::Error, event: "error", prefix: "Error: ", text: error.to_string(), fields });
}

/// Says what failed though the work is done.
pub(crate) fn warning(error: &Error) {
    if told(Level::Warn) {
        let fields = error.path().map(|path| ("path", Field::Path(path))).into_iter().collect();
        say(&Message { level: Level::Warn, event: "warning", prefix: "Warning: ", text: error.to_string(), fields });
    }
}

/// Says that a signal ended the work, after `files` temporary files have been removed.
pub(crate) fn interrupted(exit_code: u8, files: usize) {
    let fields = vec![("exit_code", Field::Number(exit_code.into()))];
    let text = "Interrupted".to_owned();
    say(&Message { level: Level::Error, event: "interrupted", prefix: "", text, fields });
    if files > 0 && told(Level::Warn) {
        let fields = vec![("files", Field::Number(i128::try_from(files).unwrap_or(i128::MAX)))];
        let text = "Cleaning up temporary files...".to_owned();
        say(&Message { level: Level::Info, event: "cleaning_up", prefix: "", text, fields });
    }
    listing::list_the_rest();
}
