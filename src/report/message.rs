//! A message: its parts, its text form and its JSON form; and the style, which says which messages are shown, and how.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use awrite::shown;

use super::output::{write_at_once, write_event};

/// The importance of a message and, as a setting, the least importance that is shown.
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

/// Which messages are shown, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) level: Level,
    pub(crate) json: bool,
    /// The descriptor that gets all messages as JSON, besides.
    pub(crate) json_fd: Option<i32>,
    pub(crate) progress: bool,
}

impl Default for Style {
    fn default() -> Style {
        Style { level: Level::Warn, json: false, json_fd: None, progress: false }
    }
}

// The style is global, because the signal thread and the panic guard report too. Two atomics and no lock: the thread
// that was stopped could hold a lock.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Warn as u8);
static JSON: AtomicBool = AtomicBool::new(false);
/// The least importance of what goes to the descriptor of `--json-fd`.
static EVENT_LEVEL: AtomicU8 = AtomicU8::new(Level::Error as u8);

/// Sets the style of all messages from here on.
pub(crate) fn use_style(style: Style) {
    // Programs that read JSON want to know what happened; a person asks for that by -v. `-q --json` stays quiet.
    let level = if style.json && style.level == Level::Warn { Level::Info } else { style.level };
    LEVEL.store(level as u8, Ordering::Relaxed);
    JSON.store(style.json, Ordering::Relaxed);
    // -q is about standard error alone.
    let events = if style.json_fd.is_some() { style.level.max(Level::Info) } else { Level::Error };
    EVENT_LEVEL.store(events as u8, Ordering::Relaxed);
}

/// Whether messages of this level are shown anywhere.
pub(super) fn shows(level: Level) -> bool {
    is_in(&LEVEL, level) || is_in(&EVENT_LEVEL, level)
}

fn is_in(least: &AtomicU8, level: Level) -> bool {
    level as u8 <= least.load(Ordering::Relaxed)
}

pub(super) fn json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// A message on standard error, or a JSON object on standard output.
pub(super) struct Message<'a> {
    level: Level,
    /// Decides whether it is shown.
    importance: Level,
    event: &'static str,
    text: String,
    fields: Vec<(&'static str, Field<'a>)>,
}

/// The value of a JSON field.
pub(super) enum Field<'a> {
    Path(&'a Path),
    Text(Cow<'a, str>),
    Number(i128),
    Bool(bool),
    Null,
}

impl<'a> From<&'a Path> for Field<'a> {
    fn from(path: &'a Path) -> Field<'a> {
        Field::Path(path)
    }
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Field<'a> {
        Field::Text(text.into())
    }
}

impl From<String> for Field<'_> {
    fn from(text: String) -> Self {
        Field::Text(text.into())
    }
}

impl From<u64> for Field<'_> {
    fn from(number: u64) -> Self {
        Field::Number(number.into())
    }
}

impl From<i32> for Field<'_> {
    fn from(number: i32) -> Self {
        Field::Number(number.into())
    }
}

impl From<bool> for Field<'_> {
    fn from(value: bool) -> Self {
        Field::Bool(value)
    }
}

/// A number of milliseconds.
impl From<Duration> for Field<'_> {
    fn from(duration: Duration) -> Self {
        Field::Number(i128::try_from(duration.as_millis()).unwrap_or(i128::MAX))
    }
}

/// `null` for what is not known.
impl<'a, T: Into<Field<'a>>> From<Option<T>> for Field<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Field::Null, Into::into)
    }
}

impl<'a> Message<'a> {
    pub(super) fn new(level: Level, event: &'static str, text: String) -> Message<'a> {
        Message { level, importance: level, event, text, fields: Vec::new() }
    }

    /// A message about `path`, which stands before the text and is the first field.
    pub(super) fn about(level: Level, event: &'static str, path: &'a Path, text: &str) -> Message<'a> {
        Message::new(level, event, format!("{}: {text}", shown(path))).with("path", path)
    }

    /// Shown wherever messages of this level are. By default that is its own.
    pub(super) fn shown_at(mut self, importance: Level) -> Message<'a> {
        self.importance = importance;
        self
    }

    /// Adds a field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Field<'a>>) -> Message<'a> {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds a field, unless its value is not known.
    pub(super) fn with_known(self, name: &'static str, value: Option<impl Into<Field<'a>>>) -> Message<'a> {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Writes it on standard error and, with `--json-fd`, on that descriptor, where messages of its importance are shown.
    pub(super) fn say(&self) {
        if is_in(&EVENT_LEVEL, self.importance) {
            write_event(|| self.json_line());
        }
        if is_in(&LEVEL, self.importance) {
            write_at_once(&if json() { self.json_line() } else { self.text_lines() });
        }
    }

    fn text_lines(&self) -> String {
        let prefix = match self.event {
            "error" | "conflict" => "Error: ",
            "warning" => "Warning: ",
            _ => "",
        };
        let mut lines = format!("{prefix}{}\n", self.text);
        // JSON has a field for it.
        if let Some((_, Field::Text(hint))) = self.fields.iter().find(|(name, _)| *name == "hint") {
            lines.push_str(&format!("Hint: {}\n", shown(hint.as_ref().as_ref())));
        }
        lines
    }

    pub(super) fn json_line(&self) -> String {
        let mut line = String::with_capacity(256);
        // Not through serde_json's map, which would sort the fields.
        line.push_str("{\"time\":");
        let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        push_json(&mut line, &format!("{now:.3}"));
        for (name, value) in [("level", self.level.name()), ("event", self.event), ("message", &self.text)] {
            push_name(&mut line, name);
            push_json(&mut line, value);
        }
        for (name, value) in &self.fields {
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
}

fn push_name(line: &mut String, name: &str) {
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":");
}

fn push_json(line: &mut String, text: &str) {
    match serde_json::to_string(text) {
        // JSON allows DEL and U+0080 to U+009F unescaped, but terminals take the latter for commands.
        Ok(quoted) if quoted.contains(char::is_control) => {
            for c in quoted.chars() {
                if c.is_control() { line.push_str(&format!("\\u{:04x}", u32::from(c))) } else { line.push(c) }
            }
        }
        Ok(quoted) => line.push_str(&quoted),
        Err(_) => line.push_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    fn fields_in_order(line: &str) -> Vec<String> {
        // serde_json's map is sorted, so the order is found in the text.
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort_by_key(|name| line.find(&format!("\"{name}\":")).unwrap());
        names
    }

    #[test]
    fn json_begins_with_the_four_common_fields() {
        let message = Message::new(Level::Info, "committed", "a \"quoted\"\nline".to_owned());
        let line = message.with("path", Path::new("f")).with("bytes", 3).with("changed", true).json_line();
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
        let line = Message::about(Level::Warn, "warning", path, "odd").json_line();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["path"], "a\u{fffd}\n\"b");
    }

    proptest! {
        #[test]
        fn whatever_it_says_is_one_line_of_json(text: String, path: Vec<u8>, number: u64) {
            let path = Path::new(OsStr::from_bytes(&path));
            let message = Message::new(Level::Info, "info", text.clone());
            let line = message.with("path", path).with("number", number).json_line();
            prop_assert!(line.ends_with('\n') && !line.trim_end_matches('\n').contains(char::is_control));
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(value["message"].as_str(), Some(text.as_str()));
            prop_assert_eq!(value["path"].as_str(), Some(&*path.to_string_lossy()));
            prop_assert_eq!(value["number"].as_u64(), Some(number));
        }
    }
}
