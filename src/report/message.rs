//! A message: what it consists of, whether it is told, and how it looks.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use super::output::write_all_at_once;

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

/// From here on, messages look like this.
pub(crate) fn use_style(style: Style) {
    // JSON is for machines, which want to hear what happened; a person asks for it by -v. `-q --json` stays quiet.
    let level = if style.json && style.level == Level::Warn { Level::Info } else { style.level };
    LEVEL.store(level as u8, Ordering::Relaxed);
    JSON.store(style.json, Ordering::Relaxed);
}

pub(super) fn told(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

pub(super) fn json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// One thing to say.
pub(super) struct Message<'a> {
    pub(super) level: Level,
    pub(super) event: &'static str,
    /// Put before the text for people; JSON has `level` for it.
    pub(super) prefix: &'static str,
    pub(super) text: String,
    pub(super) fields: Vec<(&'static str, Field<'a>)>,
}

/// The value of a JSON field.
pub(super) enum Field<'a> {
    Path(&'a Path),
    Text(String),
    Number(i128),
    Bool(bool),
    Null,
}

impl Field<'_> {
    pub(super) fn millis(duration: Duration) -> Field<'static> {
        Field::Number(i128::try_from(duration.as_millis()).unwrap_or(i128::MAX))
    }
}

pub(super) fn say(message: &Message<'_>) {
    if json() {
        write_all_at_once(&json_line(message));
    } else {
        write_all_at_once(&format!("{}{}\n", message.prefix, message.text));
    }
}

pub(super) fn json_line(message: &Message<'_>) -> String {
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
        let fields = vec![("path", Field::Path(path))];
        let line =
            json_line(&Message { level: Level::Warn, event: "warning", prefix: "", text: "odd".to_owned(), fields });
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
}
