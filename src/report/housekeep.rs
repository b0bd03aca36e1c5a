//! The report of housekeeping: a line for each deleted file on standard output, the rest on standard error.
//!
//! | event | where | level | fields |
//! |---|---|---|---|
//! | `deleted`, `would_delete` | stdout | info | `path` `kind` (`lock`, `lease`, `backup`, `temp`) `bytes` `age_ms` |
//! | `summary` | stderr | info | `dry_run` `locks` `leases` `backups` `temps` `other_locks` `other_backups` `bytes` `directories` `failures` |
//! | `not_entered` | stderr | info | `path` |
//! | `kept` | stderr | debug | `path` `kind` |

use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use awrite::{Error, HousekeepEvent, HousekeepSummary, Leftover, shown};
use rustix::io::Errno;

use super::exit;
use super::failures;
use super::listing;
use super::message::{Level, Message, Style, json, shows};
use super::output::end_progress;
use super::progress::{ProgressLine, REDRAW_AFTER, human_size};

/// Receives the library's events and reports those that the style asks for.
pub(crate) struct HousekeepReport {
    dry_run: bool,
    /// `-q`: errors only.
    quiet: bool,
    /// `-0`: paths end in NUL, and are not made fit to be shown.
    null: bool,
    deleted: u64,
    progress: Option<ProgressLine>,
    /// When lines were last written.
    flushed: Instant,
    /// The first error of standard output.
    stdout: Result<(), Errno>,
}

impl HousekeepReport {
    pub(crate) fn new(style: Style, dry_run: bool, null: bool) -> HousekeepReport {
        let quiet = style.level == Level::Error;
        let progress = ProgressLine::new(style);
        HousekeepReport { dry_run, quiet, null, deleted: 0, progress, flushed: Instant::now(), stdout: Ok(()) }
    }

    /// Stops the work when nobody reads the list of deleted files any more.
    pub(crate) fn receive(&mut self, event: &HousekeepEvent<'_>) -> ControlFlow<()> {
        match event {
            HousekeepEvent::Deleted { path, leftover, bytes, age } => {
                self.deleted += 1;
                if !self.quiet {
                    return self.list(path, *leftover, *bytes, *age);
                }
            }
            HousekeepEvent::Failed(error) => failures::error(error),
            HousekeepEvent::NotEntered { path, reason } if shows(Level::Info) => {
                Message::about(Level::Info, "not_entered", path, &format!("not entered: {reason}")).say();
            }
            HousekeepEvent::Kept { path, leftover, reason } if shows(Level::Debug) => {
                let message = Message::about(Level::Debug, "kept", path, &format!("kept: {reason}"));
                message.with("kind", kind(*leftover)).say();
            }
            HousekeepEvent::Progress { directories, entries } => {
                let deleted = self.deleted;
                if let Some(progress) = &mut self.progress {
                    progress.draw(|_| format!("{directories} directories, {entries} names, {deleted} deleted"));
                }
                return self.flush_in_time();
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// Lists a deleted file on standard output.
    fn list(&mut self, path: &Path, leftover: Leftover, bytes: u64, age: Duration) -> ControlFlow<()> {
        let line = if self.null {
            [path.as_os_str().as_bytes(), b"\0"].concat()
        } else if json() {
            let (event, verb) = if self.dry_run { ("would_delete", "Would delete") } else { ("deleted", "Deleted") };
            Message::new(Level::Info, event, format!("{verb} {}", shown(path)))
                .with("path", path)
                .with("kind", kind(leftover))
                .with("bytes", bytes)
                .with("age_ms", age)
                .json_line()
                .into_bytes()
        } else {
            format!("{}\n", shown(path)).into_bytes()
        };
        end_progress();
        self.stdout = self.stdout.and(listing::add(&line));
        self.flush_in_time()
    }

    /// Writes the lines that have waited long enough: a person must not notice the delay.
    fn flush_in_time(&mut self) -> ControlFlow<()> {
        if self.stdout.is_ok() && self.flushed.elapsed() >= REDRAW_AFTER {
            self.flushed = Instant::now();
            self.stdout = listing::flush();
        }
        if self.stdout.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Reports the summary, and returns the exit status. `interrupted`: a signal has ended the work.
    pub(crate) fn finish(self, summary: &HousekeepSummary, interrupted: bool) -> Result<u8, Error> {
        end_progress();
        let mut status = if summary.failures > 0 { exit::FAILURE } else { exit::SUCCESS };
        if interrupted {
            status = exit::INTERRUPTED;
            // What is still to be listed comes first, unless that would have to wait.
            failures::interrupted(status, 0);
        }
        match self.stdout.and_then(|()| if interrupted { Ok(()) } else { listing::flush() }) {
            Ok(()) => {}
            Err(Errno::INTR) if interrupted => {}
            // `| head -1` has seen enough.
            Err(Errno::PIPE) => return Ok(status),
            Err(e) => {
                let hint = "the rest was not looked at; run it again";
                return Err(Error::io("standard output", io::Error::from(e)).with_hint(hint));
            }
        }
        if !self.quiet {
            Message::new(Level::Info, "summary", in_words(summary, self.dry_run))
                .shown_at(Level::Warn)
                .with("dry_run", self.dry_run)
                .with("locks", summary.locks)
                .with("leases", summary.leases)
                .with("backups", summary.backups)
                .with("temps", summary.temps)
                .with("other_locks", summary.other_locks)
                .with("other_backups", summary.other_backups)
                .with("bytes", summary.bytes)
                .with("directories", summary.directories)
                .with("failures", summary.failures)
                .say();
        }
        Ok(status)
    }
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

fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `Deleted 2 lock files, 1 backup (1.5 KiB); 1 failure`.
fn in_words(summary: &HousekeepSummary, dry_run: bool) -> String {
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
    for (n, what, option, how) in [
        (summary.other_locks, "lock file", "--clean-locks", ""),
        (summary.other_backups, "backup", "--clean-backups", " as the options say"),
    ] {
        let left = match n {
            0 => continue,
            1 => format!("1 {what} that may be another program's left alone ({option} deletes it{how})"),
            _ => format!("{n} {what}s that may be other programs' left alone ({option} deletes them{how})"),
        };
        text.push_str("; ");
        text.push_str(&left);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        // Outside the library only the default can be constructed.
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
        let mut summary = HousekeepSummary::default();
        summary.other_locks = 3;
        let locks =
            "Nothing to delete; 3 lock files that may be other programs' left alone (--clean-locks deletes them)";
        assert_eq!(in_words(&summary, false), locks);
        summary.other_backups = 1;
        let backups =
            "1 backup that may be another program's left alone (--clean-backups deletes it as the options say)";
        assert_eq!(in_words(&summary, true), format!("{locks}; {backups}"));
    }
}
