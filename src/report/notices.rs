//! What the library tells while it works.

use std::path::Path;
use std::sync::Mutex;

use awrite::{Notice, Observer, shown, shown_duration};

use super::message::{Field, Level, Message, Style, say, told};
use super::progress::Meter;

/// An observer that says nothing but warnings.
pub(crate) fn warnings() -> Observer {
    Observer::new(|notice| {
        if let (Notice::Warning { .. }, Some(message)) = (notice, message_for(notice)) {
            say(&message);
        }
    })
}

/// Says of notices what the style asks for.
pub(crate) fn telling(style: Style) -> impl Fn(&Notice<'_>) + Send + Sync + 'static {
    // A terminal only: in a log the line would be garbage.
    let progress =
        style.progress && !style.json && style.level > Level::Error && rustix::termios::isatty(rustix::stdio::stderr());
    let meter = progress.then(|| Mutex::new(Meter::new()));
    move |notice| {
        if let Notice::Progress { bytes, total } = notice {
            if let Some(meter) = &meter {
                meter.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).show(*bytes, *total);
            }
        } else if let Some(message) = message_for(notice) {
            say(&message);
        }
    }
}

/// What is said of `notice`, unless the level says to keep silent.
fn message_for<'a>(notice: &Notice<'a>) -> Option<Message<'a>> {
    // Asked before anything is formatted: most notices are never told.
    let level = match notice {
        Notice::Waiting { .. } => Level::Warn,
        Notice::Locked { contended: true, .. } => Level::Warn,
        Notice::Warning { .. } => Level::Warn,
        Notice::Debug { .. } => Level::Debug,
        _ => Level::Info,
    };
    if !told(level) {
        return None;
    }
    let (event, prefix, text, fields): (_, _, _, Vec<(&'static str, Field<'a>)>) = match *notice {
        Notice::Waiting { target, lock_file, timeout } => {
            let mut text = format!("Waiting for lock on {}", shown(target));
            let mut fields = vec![("path", Field::Path(target)), ("lock_file", Field::Path(lock_file))];
            if let Some(timeout) = timeout {
                text.push_str(&format!(" ({} timeout)", shown_duration(timeout)));
                fields.push(("timeout_ms", Field::millis(timeout)));
            }
            text.push_str("...");
            ("waiting", "", text, fields)
        }
        Notice::Locked { target, lock_file, method, waited, contended } => {
            let mut text = "Lock acquired".to_owned();
            if !contended {
                text.push_str(&format!(": {}", shown(lock_file)));
            }
            let fields = vec![
                ("path", Field::Path(target)),
                ("lock_file", Field::Path(lock_file)),
                ("method", Field::Text(method.to_owned())),
                ("wait_time_ms", Field::millis(waited)),
            ];
            ("lock_acquired", "", text, fields)
        }
        Notice::Unlocked { lock_file } => {
            let text = format!("Lock released: {}", shown(lock_file));
            ("lock_released", "", text, vec![("lock_file", Field::Path(lock_file))])
        }
        Notice::BackedUp { target, backup, linked } => {
            let text = format!("Backed up {} to {}", shown(target), shown(backup));
            let method = Field::Text(if linked { "link" } else { "copy" }.to_owned());
            let fields = vec![("path", Field::Path(target)), ("backup", Field::Path(backup)), ("method", method)];
            ("backed_up", "", text, fields)
        }
        Notice::Committed { target, bytes, changed, backup, took } => {
            let text = if changed {
                format!("Wrote {} ({bytes} bytes)", shown(target))
            } else {
                format!("Unchanged: {} ({bytes} bytes)", shown(target))
            };
            let mut fields = vec![
                ("path", Field::Path(target)),
                ("bytes", Field::Number(bytes.into())),
                ("changed", Field::Bool(changed)),
            ];
            if let Some(backup) = backup {
                fields.push(("backup", Field::Path(backup)));
            }
            fields.push(("duration_ms", Field::millis(took)));
            ("committed", "", text, fields)
        }
        Notice::Warning { path, text } => plain("warning", "Warning: ", path, text),
        Notice::Info { path, text } => plain("info", "", path, text),
        Notice::Debug { path, text } => plain("debug", "", path, text),
        _ => return None,
    };
    // Waiting is told to everybody, but it is nothing to be warned of.
    let level = if event == "warning" || level != Level::Warn { level } else { Level::Info };
    Some(Message { level, event, prefix, text, fields })
}

type Parts<'a> = (&'static str, &'static str, String, Vec<(&'static str, Field<'a>)>);

fn plain<'a>(event: &'static str, prefix: &'static str, path: &'a Path, text: &str) -> Parts<'a> {
    (event, prefix, format!("{}: {text}", shown(path)), vec![("path", Field::Path(path))])
}
