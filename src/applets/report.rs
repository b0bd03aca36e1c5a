//! Everything the commands say: notices and errors as text or as JSON on standard error, asked-for text on standard
//! output.
//!
//! A message is written by one write(2), so that lines of processes that share a log do not mix. A message that cannot
//! be written is dropped: there is nowhere left to say so, and a full or closed log must not fail a write.
//!
//! JSON: one object a line, `time`, `level`, `event` and `message` first, in that order, then the event's own fields.
//! A field whose value is not known is left out.
//!
//! | event | level | fields |
//! |---|---|---|
//! | `waiting` | info | `path` `lock_file` `timeout_ms` |
//! | `lock_acquired` | info | `path` `lock_file` `method` `wait_time_ms` |
//! | `lock_released` | info | `lock_file` |
//! | `backed_up` | info | `path` `backup` `method` (`link`, `copy`) |
//! | `committed` | info | `path` `bytes` `changed` `backup` `duration_ms` |
//! | `warning` | warn | `path` |
//! | `info`, `debug` | the same | `path` |
//! | `interrupted` | error | `exit_code` |
//! | `cleaning_up` | info | `files` |
//! | `summary`, `kept`, `not_entered` | | see report/housekeep.rs, as for what it prints on standard output |
//! | `error` | error | `path` `exit_code` `errno` `hint` `holder_pid` |
//! | `status`, `lease_acquired`, `lease_refreshed`, `lease_released` | | see report/lease.rs |

pub(crate) mod housekeep;
pub(crate) mod lease;
mod remedy;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use awrite::{Error, Notice, Observer, shown, shown_duration};
use rustix::io::Errno;

use crate::{entry, process};

/// How important a message is, and, as a setting, the least important that is still told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// What is told, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) level: Level,
    pub(crate) json: bool,
    pub(crate) progress: bool,
}

impl Default for Style {
    fn default() -> Style {
        Style { level: Level::Warn, json: false, progress: false }
    }
}

// The style is the process's, not a value that is handed around: the signal thread and the panic guard speak too. Two
// atomics, because a lock could be held by the very thread that was stopped.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Warn as u8);
static JSON: AtomicBool = AtomicBool::new(false);
/// A progress line stands on the terminal and must be cleared before anything else is written there.
static PROGRESS_SHOWN: AtomicBool = AtomicBool::new(false);

/// From here on, messages look like this.
pub(crate) fn use_style(style: Style) {
    // JSON is for machines, which want to hear what happened; a person asks for it by -v. `-q --json` stays quiet.
    let level = if style.json && style.level == Level::Warn { Level::Info } else { style.level };
    LEVEL.store(level as u8, Ordering::Relaxed);
    JSON.store(style.json, Ordering::Relaxed);
}

fn told(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

fn json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// One thing to say.
struct Message<'a> {
    level: Level,
    event: &'static str,
    /// Put before the text for people; JSON has `level` for it.
    prefix: &'static str,
    text: String,
    fields: Vec<(&'static str, Field<'a>)>,
}

/// The value of a JSON field.
enum Field<'a> {
    Path(&'a Path),
    Text(String),
    Number(i128),
    Bool(bool),
    Null,
}

impl Field<'_> {
    fn millis(duration: Duration) -> Field<'static> {
        Field::Number(i128::try_from(duration.as_millis()).unwrap_or(i128::MAX))
    }
}

fn say(message: &Message<'_>) {
    if json() {
        write_all_at_once(&json_line(message));
    } else {
        write_all_at_once(&format!("{}{}\n", message.prefix, message.text));
    }
}

fn json_line(message: &Message<'_>) -> String {
    let mut line = String::with_capacity(256);
    // Written by hand and not through a map, which would sort the fields.
    line.push_str("{\"time\":");
    push_json(&mut line, &format!("{:.3}", jiff::Timestamp::now()));
    for (name, value) in [("level", message.level.name()), ("event", message.event), ("message", &message.text)] {
        push_name(&mut line, name);
        push_json(&mut line, value);
    }
    for (name, value) in &message.fields {
        push_name(&mut line, name);
        match value {
            Field::Path(path) => push_json(&mut line, &path.to_string_lossy()),
            Field::Text(text) => push_json(&mut line, text),
            Field::Number(number) => line.push_str(&number.to_string()),
            Field::Bool(value) => line.push_str(if *value { "true" } else { "false" }),
            Field::Null => line.push_str("null"),
        }
    }
    line.push_str("}\n");
    line
}

fn push_name(line: &mut String, name: &str) {
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":");
}

fn push_json(line: &mut String, text: &str) {
    match serde_json::to_string(text) {
        // JSON lets DEL and U+0080 to U+009F stand as they are; terminals obey the latter.
        Ok(quoted) if quoted.contains(char::is_control) => {
            for c in quoted.chars() {
                if c.is_control() { line.push_str(&format!("\\u{:04x}", u32::from(c))) } else { line.push(c) }
            }
        }
        Ok(quoted) => line.push_str(&quoted),
        Err(_) => line.push_str("null"),
    }
}

fn write_all_at_once(text: &str) {
    let cleared;
    let bytes = if PROGRESS_SHOWN.swap(false, Ordering::Relaxed) {
        cleared = format!("{CLEAR_LINE}{text}");
        cleared.as_bytes()
    } else {
        text.as_bytes()
    };
    let _ = write_fully(rustix::stdio::stderr(), bytes);
}

fn write_fully(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes what was asked for (`--help`, `--list`) on standard output. A reader that has seen enough is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match write_fully(rustix::stdio::stdout(), text.as_bytes()) {
        Err(Errno::PIPE) => Ok(()),
        written => written.map_err(no_output),
    }
}

/// The same for what must not get lost: that nobody reads it is an error.
fn print_all(text: &str) -> Result<(), Error> {
    let closed = if entry::stdout_was_closed() { Err(Errno::BADF) } else { Ok(()) };
    closed.and_then(|()| write_fully(rustix::stdio::stdout(), text.as_bytes())).map_err(no_output)
}

fn no_output(error: Errno) -> Error {
    // Not Error::io alone: its hint for a full disk speaks of a target.
    Error::io("standard output", io::Error::from(error)).with_hint("nothing was changed")
}

/// Says this on standard error, as it is.
pub(crate) fn raw(text: &str) {
    write_all_at_once(text);
}

/// Says what failed, and the remedy.
pub(crate) fn error(error: &Error) {
    failure(error, error.exit_code());
}

/// The same where the status to end with is another than the error's own.
pub(crate) fn failure(error: &Error, exit_code: u8) {
    let hint = error.hint_in(remedy::words);
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
    housekeep::list_the_rest();
}

/// An observer that says what the style asks for.
pub(crate) fn observer(style: Style) -> Observer {
    observer_and(style, |_| {})
}

/// An observer that says nothing but warnings.
pub(crate) fn warnings() -> Observer {
    Observer::new(|notice| {
        if let (Notice::Warning { .. }, Some(message)) = (notice, message_for(notice)) {
            say(&message);
        }
    })
}

/// One that says what the style asks for, and then does something more.
pub(crate) fn observer_and(style: Style, then: impl Fn(&Notice<'_>) + Send + Sync + 'static) -> Observer {
    // A terminal only: in a log the line would be garbage.
    let progress =
        style.progress && !style.json && style.level > Level::Error && rustix::termios::isatty(rustix::stdio::stderr());
    let meter = progress.then(|| Mutex::new(Meter::new()));
    Observer::new(move |notice| {
        if matches!(notice, Notice::Waiting { .. }) {
            // Where no thread can be had for signals, they end the process as they would any other.
            let _ = process::about_to_wait();
        }
        if let Notice::Progress { bytes, total } = notice {
            if let Some(meter) = &meter {
                meter.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).show(*bytes, *total);
            }
        } else if let Some(message) = message_for(notice) {
            say(&message);
        }
        then(notice);
    })
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

const CLEAR_LINE: &str = "\r\x1b[K";
const REDRAW_AFTER: Duration = Duration::from_millis(100);

/// The progress line.
struct Meter {
    started: Instant,
    drawn: Option<Instant>,
}

impl Meter {
    fn new() -> Meter {
        Meter { started: Instant::now(), drawn: None }
    }

    fn show(&mut self, bytes: u64, total: Option<u64>) {
        let now = Instant::now();
        // Not before the first tenth of a second either: what is done by then needs no meter.
        if now.duration_since(self.drawn.unwrap_or(self.started)) < REDRAW_AFTER {
            return;
        }
        self.drawn = Some(now);
        let line = progress_line(bytes, total, now.duration_since(self.started));
        let _ = write_fully(rustix::stdio::stderr(), format!("{CLEAR_LINE}{line}").as_bytes());
        PROGRESS_SHOWN.store(true, Ordering::Relaxed);
    }
}

/// Takes the progress line off the terminal.
pub(crate) fn end_progress() {
    if PROGRESS_SHOWN.load(Ordering::Relaxed) {
        write_all_at_once("");
    }
}

/// Short enough for any terminal: a line that wraps could not be redrawn.
fn progress_line(bytes: u64, total: Option<u64>, took: Duration) -> String {
    let millis = took.as_millis().max(1);
    let rate = u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX);
    let mut line = format!("{}, {}/s", human_size(bytes), human_size(rate));
    if let Some(total) = total.filter(|total| *total > 0) {
        let percent = (u128::from(bytes) * 100 / u128::from(total)).min(100);
        line.push_str(&format!(", {percent}%"));
    }
    line
}

fn human_size(bytes: u64) -> String {
    let mut unit = 1_u64;
    for name in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if bytes / unit < 1024 || name == "TiB" {
            if unit == 1 {
                return format!("{bytes} B");
            }
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        unit *= 1024;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    fn fields_in_order(line: &str) -> Vec<String> {
        // serde_json's map is sorted, so the order is read off the text.
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort_by_key(|name| line.find(&format!("\"{name}\":")).unwrap());
        names
    }

    #[test]
    fn json_begins_with_the_four_common_fields() {
        let message = Message {
            level: Level::Info,
            event: "committed",
            prefix: "",
            text: "a \"quoted\"\nline".to_owned(),
            fields: vec![
                ("path", Field::Path(Path::new("f"))),
                ("bytes", Field::Number(3)),
                ("changed", Field::Bool(true)),
            ],
        };
        let line = json_line(&message);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(fields_in_order(&line), ["time", "level", "event", "message", "path", "bytes", "changed"]);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "a \"quoted\"\nline");
        assert_eq!(value["bytes"], 3);
        let time = value["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn a_path_that_is_not_utf_8_does_not_break_json() {
        let path = Path::new(OsStr::from_bytes(b"a\xff\n\"b"));
        let (event, prefix, text, fields) = plain("warning", "Warning: ", path, "odd");
        let line = json_line(&Message { level: Level::Warn, event, prefix, text, fields });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["path"], "a\u{fffd}\n\"b");
    }

    proptest! {
        #[test]
        fn whatever_it_says_is_one_line_of_json(text: String, path: Vec<u8>, number: i64) {
            let path = Path::new(OsStr::from_bytes(&path));
            let fields = vec![("path", Field::Path(path)), ("number", Field::Number(number.into()))];
            let line = json_line(&Message { level: Level::Info, event: "info", prefix: "", text: text.clone(), fields });
            prop_assert!(line.ends_with('\n') && !line.trim_end_matches('\n').contains(char::is_control));
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(value["message"].as_str(), Some(text.as_str()));
            prop_assert_eq!(value["path"].as_str(), Some(&*path.to_string_lossy()));
            prop_assert_eq!(value["number"].as_i64(), Some(number));
        }
    }

    #[test]
    fn progress() {
        let second = Duration::from_secs(1);
        assert_eq!(progress_line(0, None, Duration::ZERO), "0 B, 0 B/s");
        assert_eq!(progress_line(1536, Some(3072), second), "1.5 KiB, 1.5 KiB/s, 50%");
        assert_eq!(progress_line(10, Some(5), second), "10 B, 10 B/s, 100%");
        assert_eq!(progress_line(10, Some(0), second), "10 B, 10 B/s");
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(1 << 20), "1.0 MiB");
        assert_eq!(human_size(u64::MAX), "16777215.9 TiB");
        assert!(progress_line(u64::MAX, Some(1), Duration::from_nanos(1)).len() < 50);
    }
}
