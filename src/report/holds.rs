//! The report of `--list`: a table for people, or one JSON object a line, on standard output.
//!
//! | event | level | fields |
//! |---|---|---|
//! | `hold` | info | `path` `state` (`held`, `waiting`, `leased`) `lock_file` `holder_pid` `holder` `since`; leased: the lease's fields |
//!
//! An unknown value is `null`.

use std::path::Path;
use std::time::SystemTime;

use awrite::{Error, Hold, HoldState, Holder, shown, shown_time};

use super::lease::{since_of, time, with_lease};
use super::message::{Level, Message, json};
use super::output::print;

/// The columns, by their headings.
const COLUMNS: [&str; 6] = ["TARGET", "STATE", "SINCE", "UNTIL", "BY", "REASON"];

/// Prints all `holds`; nothing if there are none.
pub(crate) fn print_list(holds: &[Hold]) -> Result<(), Error> {
    if json() {
        return print(&holds.iter().map(json_line).collect::<String>());
    }
    let mut rows: Vec<[String; COLUMNS.len()]> = holds.iter().map(row).collect();
    if !rows.is_empty() {
        rows.insert(0, COLUMNS.map(str::to_owned));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    print(&text)
}

fn row(hold: &Hold) -> [String; COLUMNS.len()] {
    let unknown = || "-".to_owned();
    let moment = |time: Option<SystemTime>| time.map_or_else(unknown, shown_time);
    let by = |by: Option<&Holder>| by.map_or_else(unknown, Holder::to_string);
    let target = shown(&hold.target);
    match &hold.state {
        HoldState::Held { by: who, since } => {
            [target, "held".to_owned(), moment(*since), unknown(), by(who.as_ref()), unknown()]
        }
        HoldState::Waiting { by: who } => {
            [target, "waiting".to_owned(), unknown(), unknown(), by(Some(who)), unknown()]
        }
        HoldState::Leased(lease) => {
            let end = lease.left.and_then(|left| SystemTime::now().checked_add(left));
            let reason = lease.reason.as_deref().map_or_else(unknown, |reason| shown(Path::new(reason)));
            let since = moment(since_of(lease));
            [target, "leased".to_owned(), since, moment(end), shown(Path::new(&lease.owner)), reason]
        }
        _ => [target, unknown(), unknown(), unknown(), unknown(), unknown()],
    }
}

fn json_line(hold: &Hold) -> String {
    let (state, by, since, lease) = match &hold.state {
        HoldState::Held { by, since } => ("held", by.as_ref(), *since, None),
        HoldState::Waiting { by } => ("waiting", Some(by), None, None),
        HoldState::Leased(lease) => ("leased", None, since_of(lease), Some(lease)),
        _ => ("unknown", None, None, None),
    };
    let [_, _, _, _, who, _] = row(hold);
    let text = format!("{state} by {who}");
    let message = Message::about(Level::Info, "hold", &hold.target, &text)
        .with("state", state)
        .with("lock_file", Some(hold.lock_file.as_path()).filter(|path| !path.as_os_str().is_empty()))
        .with("holder_pid", by.map(|by| u64::from(by.pid)))
        .with("holder", by.map(|by| by.command.as_str()))
        .with("since", since.map(time));
    match lease {
        Some(lease) => with_lease(message, Some(lease)).json_line(),
        None => message.json_line(),
    }
}
