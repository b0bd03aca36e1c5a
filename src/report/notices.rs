//! The notices that the library sends during its work, as messages.

use std::sync::Mutex;

use awrite::{Notice, Observer, shown, shown_duration};

use super::message::{Level, Message, Style, shows};
use super::progress::{self, ProgressLine};

/// An observer that reports warnings only.
pub(crate) fn warnings() -> Observer {
    Observer::new(|notice| {
        if matches!(notice, Notice::Warning { .. }) {
            say(notice);
        }
    })
}

/// Reports the notices that the style asks for.
pub(crate) fn notice_reporter(style: Style) -> impl Fn(&Notice<'_>) + Send + Sync + 'static {
    let line = ProgressLine::new(style).map(Mutex::new);
    move |notice| match (notice, &line) {
        (Notice::Progress { bytes, total }, Some(line)) => {
            let mut line = line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            line.draw(|elapsed| progress::transferred(*bytes, *total, elapsed));
        }
        _ => say(notice),
    }
}

fn say(notice: &Notice<'_>) {
    // Checked first: most notices are never shown, and need not be formatted.
    let importance = importance(notice);
    if shows(importance) {
        if let Some(message) = message(notice) {
            message.shown_at(importance).say();
        }
    }
}

/// The level that decides whether `notice` is shown. Waiting and the result of a dry run are shown by default, though their
/// messages are no warnings.
fn importance(notice: &Notice<'_>) -> Level {
    match notice {
        Notice::Waiting { .. }
        | Notice::Locked { contended: true, .. }
        | Notice::WouldReplace { .. }
        | Notice::Warning { .. } => Level::Warn,
        Notice::Debug { .. } => Level::Debug,
        _ => Level::Info,
    }
}

fn message<'a>(notice: &Notice<'a>) -> Option<Message<'a>> {
    Some(match *notice {
        Notice::Waiting { target, lock_file, timeout, leased } => {
            let limit = timeout.map(|limit| format!(" ({} timeout)", shown_duration(limit))).unwrap_or_default();
            let text = match leased {
                Some(leased) => format!("Waiting for {}, {leased}{limit}...", shown(target)),
                None => format!("Waiting for lock on {}{limit}...", shown(target)),
            };
            Message::new(Level::Info, "waiting", text)
                .with("path", target)
                .with("lock_file", lock_file)
                .with_known("timeout_ms", timeout)
                .with_known("leased", leased)
        }
        Notice::Locked { target, lock_file, method, waited, contended } => {
            let name = if contended { String::new() } else { format!(": {}", shown(lock_file)) };
            Message::new(Level::Info, "lock_acquired", format!("Lock acquired{name}"))
                .with("path", target)
                .with("lock_file", lock_file)
                .with("method", method)
                .with("wait_time_ms", waited)
        }
        Notice::Unlocked { lock_file, held } => {
            let text = format!("Lock released: {}", shown(lock_file));
            Message::new(Level::Info, "lock_released", text).with("lock_file", lock_file).with("held_ms", held)
        }
        Notice::BackedUp { target, backup, linked } => {
            let text = format!("Backed up {} to {}", shown(target), shown(backup));
            Message::new(Level::Info, "backed_up", text)
                .with("path", target)
                .with("backup", backup)
                .with("method", if linked { "link" } else { "copy" })
        }
        Notice::BackupDeleted { target, backup } => {
            Message::new(Level::Info, "backup_deleted", format!("Deleted the old backup {}", shown(backup)))
                .with("path", target)
                .with("backup", backup)
        }
        Notice::Committed { target, bytes, changed, backup, digest, took } => {
            let verb = if changed { "Wrote" } else { "Unchanged:" };
            Message::new(Level::Info, "committed", format!("{verb} {} ({bytes} bytes)", shown(target)))
                .with("path", target)
                .with("bytes", bytes)
                .with("changed", changed)
                .with_known("backup", backup)
                .with_known("digest", digest.map(|digest| digest.to_string()))
                .with("duration_ms", took)
        }
        Notice::WouldReplace { target, bytes, changed, exists } => {
            let name = shown(target);
            let text = match (changed, exists) {
                (false, _) => format!("Would leave {name} unchanged"),
                (true, false) => format!("Would create {name}"),
                (true, true) => format!("Would replace {name}"),
            };
            Message::new(Level::Info, "would_replace", text)
                .with("path", target)
                .with("bytes", bytes)
                .with("changed", changed)
        }
        Notice::Warning { path, text } => Message::about(Level::Warn, "warning", path, text),
        Notice::Info { path, text } => Message::about(Level::Info, "info", path, text),
        Notice::Debug { path, text } => Message::about(Level::Debug, "debug", path, text),
        _ => return None,
    })
}
