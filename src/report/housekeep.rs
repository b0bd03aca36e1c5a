//! What the housekeeper says: one line for each deleted file on standard output, the rest on standard error.
//!
//! | event | where | level | fields |
//! |---|---|---|---|
//! | `deleted`, `would_delete` | stdout | info | `path` `kind` (`lock`, `lease`, `backup`, `temp`) `bytes` `age_ms` |
//! | `summary` | stderr | info | `dry_run` `locks` `leases` `backups` `temps` `bytes` `directories` `failures` |
//! | `not_entered` | stderr | info | `path` |
//! | `kept` | stderr | debug | `path` `kind` |

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use awrite::{Error, HousekeepEvent, HousekeepSummary, Leftover, shown};
use rustix::io::Errno;

use super::failures;
use super::listing::{MOST_LISTED, flush, listed};
use super::message::{Field, Level, Message, Style, json, json_line, say, told};
use super::output::{CLEAR_LINE, PROGRESS_SHOWN, write_fully};
use super::progress::{REDRAW_AFTER, end_progress, human_size};

/// Hears the library's events and says what the style asks for.
pub(crate) struct Teller {
    dry_run: bool,
    /// `-q`: errors only.
    quiet: bool,
    deleted: u64,
    ticker: Option<Ticker>,
    /// When the lines so far were written.
    flushed: Instant,
    /// Whether standard output takes any more.
    stdout: Result<(), Errno>,
}

impl Teller {
    pub(crate) fn new(style: Style, dry_run: bool) -> Teller {
        let quiet = style.level == Level::Error;
        // A terminal only: in a log the line would be garbage.
        let progress = style.progress && !style.json && !quiet && rustix::termios::isatty(rustix::stdio::stderr());
        let ticker = progress.then(|| Ticker { started: Instant::now(), drawn: None });
        Teller { dry_run, quiet, deleted: 0, ticker, flushed: Instant::now(), stdout: Ok(()) }
    }

    /// Stops the work when there is nobody left to list the deleted files for.
    pub(crate) fn hear(&mut self, event: &HousekeepEvent<'_>) -> ControlFlow<()> {
        match event {
            HousekeepEvent::Deleted { path, leftover, bytes, age } => {
                self.deleted += 1;
                if !self.quiet {
                    let fields = vec![
                        ("path", Field::Path(path)),
                        ("kind", Field::Text(kind(*leftover).to_owned())),
                        ("bytes", Field::Number((*bytes).into())),
                        ("age_ms", Field::millis(*age)),
                    ];
                    return self.list(path, fields);
                }
            }
            HousekeepEvent::Failed(error) => failures::error(error),
            HousekeepEvent::NotEntered { path, reason } if told(Level::Info) => {
                say_of(Level::Info, "not_entered", path, &format!("not entered: {reason}"), Vec::new());
            }
            HousekeepEvent::Kept { path, leftover, reason } if told(Level::Debug) => {
                let fields = vec![("kind", Field::Text(kind(*leftover).to_owned()))];
                say_of(Level::Debug, "kept", path, &format!("kept: {reason}"), fields);
            }
            HousekeepEvent::Progress { directories, entries } => {
                if let Some(ticker) = &mut self.ticker {
                    ticker.show(*directories, *entries, self.deleted);
                }
                return self.list_in_time();
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// One line on standard output, soon.
    fn list(&mut self, path: &Path, fields: Vec<(&'static str, Field<'_>)>) -> ControlFlow<()> {
        let line = if json() {
            let (event, verb) = if self.dry_run { ("would_delete", "Would delete") } else { ("deleted", "Deleted") };
            let text = format!("{verb} {}", shown(path));
            json_line(&Message { level: Level::Info, event, prefix: "", text, fields })
        } else {
            format!("{}\n", shown(path))
        };
        end_progress();
        let mut listed = listed();
        if listed.len() + line.len() > MOST_LISTED {
            self.stdout = flush(&mut listed);
        }
        listed.extend_from_slice(line.as_bytes());
        drop(listed);
        self.list_in_time()
    }

    /// Lines do not wait for others to fill the buffer with for longer than one notices.
    fn list_in_time(&mut self) -> ControlFlow<()> {
        if self.stdout.is_ok() && self.flushed.elapsed() >= REDRAW_AFTER {
            self.flushed = Instant::now();
            self.stdout = flush(&mut listed());
        }
        if self.stdout.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Says what has been done, and returns the status to exit with.
    pub(crate) fn finish(self, summary: &HousekeepSummary) -> Result<u8, Error> {
        end_progress();
        let stdout = self.stdout.and_then(|()| flush(&mut listed()));
        let status = u8::from(summary.failures > 0);
        match stdout {
            Ok(()) => {}
            // `| head -1` has seen enough.
            Err(Errno::PIPE) => return Ok(status),
            Err(e) => {
                let hint = "the rest was not looked at; run it again";
                return Err(Error::io("standard output", io::Error::from(e)).with_hint(hint));
            }
        }
        if !self.quiet {
            let number = |n: u64| Field::Number(n.into());
            let fields = vec![
                ("dry_run", Field::Bool(self.dry_run)),
                ("locks", number(summary.locks)),
                ("leases", number(summary.leases)),
                ("backups", number(summary.backups)),
                ("temps", number(summary.temps)),
                ("bytes", number(summary.bytes)),
                ("directories", number(summary.directories)),
                ("failures", number(summary.failures)),
            ];
            let text = in_words(summary, self.dry_run);
            say(&Message { level: Level::Info, event: "summary", prefix: "", text, fields });
        }
        Ok(status)
    }
}

fn say_of<'a>(
    level: Level,
    event: &'static str,
    path: &'a Path,
    text: &str,
    mut fields: Vec<(&'static str, Field<'a>)>,
) {
    fields.insert(0, ("path", Field::Path(path)));
    say(&Message { level, event, prefix: "", text: format!("{}: {text}", shown(path)), fields });
}

fn kind(leftover: Leftover) -> &'static str {
    match leftover {
        Leftover::Lock => "lock",
        Leftover::Lease => "lease",
        Leftover::Backup => "backup",
        Leftover::Temp => "temp",
        _ => "other",
    }
}

/// `Deleted 2 lock files, 1 backup (1.5 KiB); 1 failure`.
fn in_words(summary: &HousekeepSummary, dry_run: bool) -> String {
    let counted = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let parts: Vec<String> = [
        (summary.locks, "lock file"),
        (summary.leases, "expired lease"),
        (summary.backups, "backup"),
        (summary.temps, "temporary file"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| counted(n, what))
    .collect();
    let mut text = match (parts.is_empty(), dry_run) {
        (true, _) => "Nothing to delete".to_owned(),
        (false, true) => format!("Would delete {}", parts.join(", ")),
        (false, false) => format!("Deleted {}", parts.join(", ")),
    };
    if summary.bytes > 0 {
        text.push_str(&format!(" ({})", human_size(summary.bytes)));
    }
    if summary.failures > 0 {
        text.push_str(&format!("; {}", counted(summary.failures, "failure")));
    }
    text
}

/// The progress line.
struct Ticker {
    started: Instant,
    drawn: Option<Instant>,
}

impl Ticker {
    fn show(&mut self, directories: u64, entries: u64, deleted: u64) {
        let now = Instant::now();
        if now.duration_since(self.drawn.unwrap_or(self.started)) < REDRAW_AFTER {
            return;
        }
        self.drawn = Some(now);
        // Short enough for any terminal: a line that wraps could not be redrawn.
        let line = format!("{CLEAR_LINE}{directories} directories, {entries} names, {deleted} deleted");
        let _ = write_fully(rustix::stdio::stderr(), line.as_bytes());
        PROGRESS_SHOWN.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        // Not constructible from outside the library, but its default is.
        let mut summary = HousekeepSummary::default();
        assert_eq!(in_words(&summary, false), "Nothing to delete");
        assert_eq!(in_words(&summary, true), "Nothing to delete");
        summary.locks = 1;
        assert_eq!(in_words(&summary, false), "Deleted 1 lock file");
        summary.backups = 2;
        summary.bytes = 1536;
        assert_eq!(in_words(&summary, true), "Would delete 1 lock file, 2 backups (1.5 KiB)");
        summary.temps = 3;
        summary.failures = 1;
        let text = in_words(&summary, false);
        assert_eq!(text, "Deleted 1 lock file, 2 backups, 3 temporary files (1.5 KiB); 1 failure");
    }
}
