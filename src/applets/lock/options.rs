//! The options of `awrite-lock`.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use awrite::MAX_TTL;

use super::super::common;
use super::super::flags::{Brief, Flag, Grammar, Page, Stop, Value, put};
use super::super::locking::{self, Locking};
use super::super::values::{parse_duration, parse_status};
use crate::report::Style;

/// The values of the options.
#[derive(Default)]
pub(crate) struct Settings {
    pub(super) style: Style,
    pub(super) locking: Locking,
    pub(super) verb: Option<Verb>,
    pub(super) ttl: Option<Duration>,
    pub(super) shared: bool,
    pub(super) unlock: bool,
    pub(super) close: bool,
    pub(super) no_fork: bool,
    pub(super) conflict_status: Option<u8>,
    pub(super) script: Option<OsString>,
    pub(super) kill_after: Option<Duration>,
    pub(super) recursive: bool,
}

/// What is to be done with a lease.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Acquire,
    Refresh,
    Release,
    Status,
    Break,
    List,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Verb::Acquire => "--acquire",
            Verb::Refresh => "--refresh",
            Verb::Release => "--release",
            Verb::Status => "--status",
            Verb::Break => "--break",
            Verb::List => "--list",
        }
    }
}

impl Settings {
    fn choose(&mut self, verb: Verb) -> Result<(), Stop> {
        match self.verb.replace(verb) {
            Some(other) if other != verb => Err(format!("contradicts {}", other.name()).into()),
            _ => Ok(()),
        }
    }
}

locking::has_style_and_locking!(Settings);

pub(crate) static GRAMMAR: Grammar<Settings> = Grammar { page: PAGE, flags: FLAGS };

const PAGE: Page = Page {
    name: "awrite-lock",
    synopsis: &[
        "[OPTIONS] TARGET... -- COMMAND [ARG...]",
        "[OPTIONS] TARGET... -c SCRIPT",
        "[OPTIONS] N",
        "--acquire|--refresh|--release [OPTIONS] TARGET",
        "--break|--status [OPTIONS] TARGET",
        "--list [-r] [OPTIONS] [DIR]",
    ],
    about: "Runs COMMAND with the lock held that awrite takes to write TARGET, and ends with COMMAND's status. The locks \
            of several TARGETs are all taken, or none, in an order that cannot deadlock. An awrite or awrite-lock on the \
            same TARGET below COMMAND goes on under this lock. With a descriptor N of the calling shell instead \
            (exec 9>>FILE.lock), locks what that has open, and ends. A lease keeps everybody but its owner from TARGET \
            across many commands.",
    operand: Value::File("TARGET"),
    several: true,
    takes_command: true,
    epilogue: "\
Examples:
  awrite-lock config.json -- ./migrate config.json
  awrite-lock -w 30 app.db -c 'sqlite3 app.db < change.sql'
  awrite-lock from to -- ./transfer from to
  awrite-lock -o data -- ./start-a-daemon      the daemon does not get the lock
  exec 9>>data.lock; awrite-lock -w 5 9        until the shell ends, or
  awrite-lock -u 9                             until this
  token=$(awrite-lock --acquire --owner A --ttl 60s config.json)
  awrite-lock --release --owner A config.json
  awrite-lock --owner A --ttl 30s config.json -- make deploy
  awrite-lock --list -r .

Exit codes:
  COMMAND's own; 128+N when signal N has killed it
  1    error: I/O, permission, bad usage
  2    no lock or lease was had, or it was lost; --status: not free (or -E)
  3    interrupted while waiting for the lock
  126  COMMAND cannot be run
  127  COMMAND was not found
",
    brief: Brief {
        about: "Runs COMMAND with the lock held that awrite takes to write TARGET.",
        options: &[
            ("timeout", "wait at most this long for the lock: 30, 500ms, 2m"),
            ("no-wait", "fail at once if the lock is held"),
            ("shared", "share the lock with others who share it"),
            ("close", "do not pass the lock on: for daemons"),
            ("unlock", "give up the lock of the descriptor N"),
            ("acquire", "take a lease: it lasts --ttl, and excludes others"),
            ("refresh", "let the lease last its whole time from now"),
            ("release", "give the lease back"),
            ("owner", "who has the lease: any name"),
            ("ttl", "how long the lease lasts: 60s, 10m, 2h"),
            ("status", "say whether TARGET is held or leased, or free"),
            ("list", "list who holds, leases or waits for what"),
        ],
        codes: "Exit codes: COMMAND's own; 1 error, 2 no lock or lease, 3 interrupted",
    },
};

const LOCK: &str = "Locking";
const LEASE: &str = "Leases";
const COMMAND: &str = "Command";

const FLAGS: &[Flag<Settings>] = &[
    Flag::set(LOCK, &["-s", "--shared"], "share the lock with others who share it", |s| s.shared = true),
    Flag::set(LOCK, &["-x", "-e", "--exclusive"], "hold the lock alone (the default)", |s| s.shared = false),
    locking::wait(),
    locking::timeout(),
    locking::no_wait_or_nonblock(),
    Flag::value(
        LOCK,
        &["-E", "--conflict-exit-code"],
        Value::Text("N"),
        "end with N instead of 2 when the lock or lease was not had, or was lost",
        |s, value| put(&mut s.conflict_status, parse_status(&value)),
    ),
    Flag::set(LOCK, &["-u", "--unlock"], "give up the lock of the descriptor N", |s| s.unlock = true),
    locking::no_follow(),
    locking::lock_file(),
    locking::lock_dir(),
    locking::lock_mode(),
    locking::keep_lock(),
    locking::lock_method(),
    Flag::check(LEASE, &["--acquire"], "take a lease for --owner that lasts --ttl, and print its token", |s, _| {
        s.choose(Verb::Acquire)
    }),
    Flag::check(LEASE, &["--refresh"], "let the lease of --owner last its whole time from now, or --ttl", |s, _| {
        s.choose(Verb::Refresh)
    }),
    Flag::check(LEASE, &["--release"], "give the lease of --owner back", |s, _| s.choose(Verb::Release)),
    Flag::check(
        LEASE,
        &["--status"],
        "say whether TARGET is held or leased (2) or free (0), and change nothing",
        |s, _| s.choose(Verb::Status),
    ),
    Flag::check(LEASE, &["--break"], "end the lease of TARGET, whoever has it, and say whose it was", |s, _| {
        s.choose(Verb::Break)
    }),
    Flag::check(
        LEASE,
        &["--list"],
        "list who holds, leases or waits for the files in DIR, since when and why; default: the current directory",
        |s, _| s.choose(Verb::List),
    ),
    Flag::set(LEASE, &["-r", "--recursive"], "list what is below DIR too", |s| s.recursive = true),
    locking::owner(),
    Flag::value(
        LEASE,
        &["--ttl"],
        Value::Text("DURATION"),
        "how long a lease lasts without a refresh; with COMMAND: take one and refresh it while COMMAND runs",
        |s, value| put(&mut s.ttl, parse_ttl(&value)),
    ),
    locking::token(),
    locking::store(),
    locking::reason(),
    Flag::value(COMMAND, &["-c", "--command"], Value::Command("SCRIPT"), "run sh -c SCRIPT", |s, value| {
        put(&mut s.script, Ok(value))
    }),
    Flag::value(
        COMMAND,
        &["--kill-after"],
        Value::Text("DURATION"),
        "kill a COMMAND that still runs this long after a signal, or a lost lease, has told it to end",
        |s, value| put(&mut s.kill_after, parse_duration(&value)),
    ),
    Flag::set(COMMAND, &["-o", "--close"], "do not pass the lock to COMMAND, so that nothing below it has it", |s| {
        s.close = true;
    }),
    Flag::set(
        COMMAND,
        &["-F", "--no-fork"],
        "become COMMAND instead of waiting for it; the lock file then stays, unlocked, when it ends",
        |s| s.no_fork = true,
    ),
    common::verbose(),
    common::quiet(),
    common::json(),
    common::json_fd(),
    common::help(),
    common::version(),
];

fn parse_ttl(text: &OsStr) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err("a lease must last more than 0 and at most 10 years".to_owned());
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::super::super::help::check_table;
    use super::*;

    #[test]
    fn the_table_is_sound() {
        check_table(&GRAMMAR.manual());
    }
}
