//! `awrite-housekeep`: deletes what crashes have left, and old backups.

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use awrite::HousekeepOptions;

use super::common::{self, HasStyle};
use super::flags::{Brief, Flag, Grammar, Page, Stop, Value, put};
use super::values::{parse_count, parse_duration, parse_suffix, quoted};
use crate::process::{self, Inherited};
use crate::report::housekeep::HousekeepReport;
use crate::report::{self, Style};

/// The values of the options.
#[derive(Default)]
pub(super) struct Settings {
    style: Style,
    options: HousekeepOptions,
    null: bool,
    /// `--older-than`, for each kind for which nothing else is said.
    older_than: Option<Ages>,
    locks_older_than: Option<Duration>,
    backups_older_than: Option<Duration>,
}

/// An age for lock files and temporary files, and one for backups. A number without a unit means hours for the former and
/// days for the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ages {
    leftovers: Duration,
    backups: Duration,
}

impl HasStyle for Settings {
    fn style(&mut self) -> &mut Style {
        &mut self.style
    }
}

pub(super) static GRAMMAR: Grammar<Settings> = Grammar { page: PAGE, flags: FLAGS };

const PAGE: Page = Page {
    name: "awrite-housekeep",
    synopsis: &["--all [OPTIONS] [DIR]", "[--clean-locks] [--clean-backups] [--clean-temps] [DIR]"],
    about: "--all deletes what awrite has left in DIR (default: the current directory): lock files that nobody has open, \
            old backups, temporary files of crashed writers. It is safe anywhere, also beside living writers. The other \
            three delete exactly this kind, whoever made it. Prints what it deletes.",
    operand: Value::Dir("DIR"),
    several: false,
    takes_command: false,
    epilogue: "\
Examples:
  awrite-housekeep --all --dry-run   what would be deleted here
  awrite-housekeep --all -rx --keep-newest 5 --older-than 30d /srv
  awrite-housekeep --clean-locks .   empty lock files of other programs too

Exit codes:
  0  success
  1  error: bad usage, or something could not be read or deleted
  3  interrupted (SIGINT, SIGTERM, SIGHUP)
",
    brief: Brief {
        about: "Deletes what crashed writers have left in DIR, and old backups.",
        options: &[
            ("all", "all three kinds, awrite's own only: safe anywhere"),
            ("clean-locks", "lock files that nobody has open, of any program"),
            ("clean-backups", "all backups but the newest of each file"),
            ("clean-temps", "temporary files of writers that have gone"),
            ("recursive", "subdirectories too"),
            ("one-file-system", "do not cross mount points"),
            ("older-than", "only what is at least so old: 30m, 2h, 7d"),
            ("keep-newest", "keep the N newest backups of each file"),
            ("dry-run", "say what would be deleted, delete nothing"),
            ("quiet", "errors only"),
        ],
        codes: "Exit codes: 0 success, 1 error, 3 interrupted",
    },
};

const WHAT: &str = "What to delete";
const WHERE: &str = "Where, and which";

const FLAGS: &[Flag<Settings>] = &[
    Flag::set(WHAT, &["--all"], "all three kinds, only what is awrite's own; never a file's last backup", |s| {
        s.options.own = true;
    }),
    Flag::set(WHAT, &["--clean-locks"], "lock files that nobody has open, of any program; expired leases", |s| {
        s.options.locks = true;
    }),
    Flag::set(WHAT, &["--clean-backups"], "old backups; the newest of each file stays unless said otherwise", |s| {
        s.options.backups = true
    }),
    Flag::set(WHAT, &["--clean-temps"], "temporary files and interrupted sets of files whose writer has gone", |s| {
        s.options.temps = true
    }),
    Flag::set(WHERE, &["-r", "--recursive"], "subdirectories too; never through symbolic links", |s| {
        s.options.recursive = true;
    }),
    Flag::set(WHERE, &["-x", "--one-file-system"], "do not cross mount points", |s| s.options.one_file_system = true),
    Flag::value(
        WHERE,
        &["--older-than"],
        Value::Text("AGE"),
        "only what is at least so old: 30m, 2h, 7d; a bare number means hours for locks and temporary files, days for \
         backups",
        |s, value| put(&mut s.older_than, parse_age(&value).map(Some)),
    ),
    Flag::value(WHERE, &["--locks-older-than"], Value::Text("AGE"), "the same for lock files alone", |s, value| {
        put(&mut s.locks_older_than, parse_age(&value).map(|age| Some(age.leftovers)))
    }),
    Flag::value(WHERE, &["--backups-older-than"], Value::Text("AGE"), "the same for backups alone", |s, value| {
        put(&mut s.backups_older_than, parse_age(&value).map(|age| Some(age.backups)))
    }),
    Flag::value(
        WHERE,
        &["--keep-newest"],
        Value::Text("N"),
        "keep the N newest backups of each file; default 1, or 0 with --clean-backups and an age",
        |s, value| put(&mut s.options.keep_newest, parse_count(&value)),
    ),
    Flag::value(
        WHERE,
        &["--backup-suffix"],
        Value::Text("SUFFIX"),
        "what backups end in; default .backup",
        |s, value| put(&mut s.options.backup_suffix, parse_backup_suffix(value)),
    ),
    Flag::set(WHERE, &["-n", "--dry-run"], "say what would be deleted, delete nothing", |s| s.options.dry_run = true),
    Flag::set(WHERE, &["-0", "--null"], "end the paths in NUL, their bytes as they are", |s| s.null = true),
    common::progress(),
    common::verbose(),
    common::quiet(),
    common::json(),
    common::help(),
    common::version(),
];

pub(super) fn run(args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Stop> {
    let mut settings = Settings::default();
    let parsed = GRAMMAR.parse(args, &mut settings)?;
    report::use_style(settings.style);
    let (options, null) = (settings.options(), settings.null);
    if !(options.own || options.locks || options.backups || options.temps) {
        let reason = "nothing to do: name --all, --clean-locks, --clean-backups or --clean-temps";
        return Err(Stop::Usage(reason.to_owned()));
    }
    if null && settings.style.json {
        return Err(Stop::Usage("--null and --json exclude each other".to_owned()));
    }
    let dir = parsed.operand.map_or_else(|| PathBuf::from("."), PathBuf::from);
    process::remember(inherited);
    let mut report = HousekeepReport::new(settings.style, options.dry_run, null);
    let summary = awrite::housekeep(dir, &options, |event| {
        let flow = report.receive(event);
        if process::interrupted() { ControlFlow::Break(()) } else { flow }
    })?;
    Ok(report.finish(&summary, summary.stopped && process::interrupted())?)
}

impl Settings {
    fn options(&self) -> HousekeepOptions {
        let mut options = self.options.clone();
        let all = self.older_than;
        let leftovers = all.map(|age| age.leftovers);
        options.locks_older_than = self.locks_older_than.or(leftovers).unwrap_or_default();
        options.temps_older_than = leftovers.unwrap_or_default();
        options.backups_older_than = self.backups_older_than.or(all.map(|age| age.backups));
        options
    }
}

fn parse_backup_suffix(text: OsString) -> Result<OsString, String> {
    let suffix = parse_suffix(text)?;
    let others = [(".lock", "lock files"), (".lease", "leases")];
    match others.iter().find(|(end, _)| suffix.as_encoded_bytes().ends_with(end.as_bytes())) {
        Some((_, what)) => Err(format!("{} would take {what} for backups", quoted(&suffix))),
        None => Ok(suffix),
    }
}

fn parse_age(text: &OsStr) -> Result<Ages, String> {
    let age = |text: &OsStr| {
        parse_duration(text).map_err(|reason| match reason.contains("longer") {
            true => reason,
            false => format!("{} is not an age such as 30m, 2h or 7d", quoted(text)),
        })
    };
    if text.as_encoded_bytes().last().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        let with = |unit: &str| {
            let mut whole = text.to_owned();
            whole.push(unit);
            whole
        };
        // First as it was typed, so that an error message shows that.
        age(text)?;
        return Ok(Ages { leftovers: age(&with("h"))?, backups: age(&with("d"))? });
    }
    age(text).map(|age| Ages { leftovers: age, backups: age })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        super::super::help::check_table(&GRAMMAR.manual());
    }

    #[test]
    fn ages() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let age = |text: &str| parse_age(OsStr::new(text)).ok().map(|age| (age.leftovers, age.backups));
        assert_eq!(age("2h"), Some((hours(2), hours(2))));
        assert_eq!(age("30m"), Some((hours(1) / 2, hours(1) / 2)));
        assert_eq!(age("7d"), Some((hours(168), hours(168))));
        assert_eq!(age("7"), Some((hours(7), hours(168))));
        assert_eq!(age("1w"), Some((hours(168), hours(168))));
        assert_eq!(age("1d 12h"), Some((hours(36), hours(36))));
        assert_eq!(age("1.5"), Some((hours(3) / 2, hours(36))));
        assert_eq!(age("0"), Some((Duration::ZERO, Duration::ZERO)));
        for bad in ["", "-1", "-1d", "x", "7x", "d", ".", "1e3", "1mo", "99999999999d", "99999999999999999999"] {
            assert_eq!(age(bad), None, "{bad:?}");
        }
        let reason = parse_age(OsStr::new("7x")).unwrap_err();
        assert_eq!(reason, "'7x' is not an age such as 30m, 2h or 7d");
    }
}
