//! The process that holds a lock, as data for a message.

use std::fmt;

use crate::sys::host;

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its process id, in the PID namespace of this process.
    pub pid: u32,
    /// Its command line with spaces between the words, cut at 80 characters; empty where it cannot be read.
    pub command: String,
    /// The machine or container that it runs on, if that is not this one. Only known of link locks.
    pub host: Option<String>,
}

impl Holder {
    /// A process in the PID namespace of this one.
    pub(crate) fn here(pid: u32) -> Holder {
        Holder { pid, command: command_of(pid), host: None }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PID {}", self.pid)?;
        if let Some(host) = &self.host {
            return write!(f, " on {host}");
        }
        if self.command.is_empty() { Ok(()) } else { write!(f, " ({})", self.command) }
    }
}

/// Empty where there is no /proc, or another PID namespace's.
fn command_of(pid: u32) -> String {
    if !host::proc_is_ours() {
        return String::new();
    }
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = raw.split(|&b| b == 0).filter(|w| !w.is_empty()).map(String::from_utf8_lossy).collect();
    // Another user may have chosen these words, which must not control a terminal.
    harmless(&words.join(" "))
}

/// Text of another program, made fit for a message: no control characters, at most 80 characters.
pub(crate) fn harmless(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if line.chars().count() > 80 { line.chars().take(77).collect::<String>() + "..." } else { line }
}

/// What holds for any text of another program.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_words(text: &str) {
    let shown = harmless(text);
    assert!(shown.chars().count() <= 80 && !shown.contains(char::is_control), "{shown:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words(text: String) {
            any_words(&text);
        }
    }

    #[test]
    fn said_with_and_without_the_command() {
        let mut holder = Holder { pid: 4711, command: "python3 deploy.py".into(), host: None };
        assert_eq!(holder.to_string(), "PID 4711 (python3 deploy.py)");
        holder.command.clear();
        assert_eq!(holder.to_string(), "PID 4711");
        holder.host = Some("web1".into());
        assert_eq!(holder.to_string(), "PID 4711 on web1");
    }
}
