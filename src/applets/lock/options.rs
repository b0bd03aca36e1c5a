//! The options of `awrite-lock`, and what they have said.

use std::ffi::OsString;
use std::time::Duration;

use awrite::MAX_TTL;

use super::super::common::{self, Tells};
use super::super::flags::{Complete, Flag, Grammar, Page, Spec, Stop};
use super::super::locking::{self, Locking, Locks};
use super::super::values::{parse_duration, quoted};
use crate::report::Style;

/// What the options have said.
#[derive(Default)]
pub(crate) struct Settings {
    pub(super) style: Style,
    pub(super) locking: Locking,
    pub(super) terms: Terms,
    pub(super) shared: bool,
    pub(super) unlock: bool,
    pub(super) close: bool,
    pub(super) no_fork: bool,
    pub(super) conflict_status: Option<u8>,
    pub(super) script: Option<OsString>,
}

/// What the options of a lease have said.
#[derive(Default)]
pub(super) struct Terms {
    pub(super) verb: Option<Verb>,
    pub(super) ttl: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Acquire,
    Refresh,
    Release,
    Status,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Verb::Acquire => "--acquire",
            Verb::Refresh => "--refresh",
            Verb::Release => "--release",
            Verb::Status => "--status",
        }
    }
}

impl Tells for Settings {
    fn style(&mut self) -> &mut Style {
        &mut self.style
    }
}

impl Locks for Settings {
    fn locking(&mut self) -> &mut Locking {
        &mut self.locking
    }
}

pub(crate) static GRAMMAR: Grammar<Settings> = Grammar { page: PAGE, flags: FLAGS };

const PAGE: Page = Page {
    name: "awrite-lock",
    synopsis: &[
        "[OPTIONS] TARGET -- COMMAND [ARG...]",
        "[OPTIONS] TARGET -c SCRIPT",
        "[OPTIONS] N",
        "--acquire|--refresh|--release|--status [OPTIONS] TARGET",
    ],
    about: "Runs COMMAND with the lock held that awrite takes to write TARGET, and ends with COMMAND's status. An awrite \
            or awrite-lock on the same TARGET below COMMAND goes on under this lock. With a descriptor N of the calling \
            shell instead (exec 9>>FILE.lock), locks what that has open, and ends. A lease keeps everybody but its \
            owner from TARGET across many commands.",
    operand: "TARGET",
    complete_operand: Complete::File,
    takes_command: true,
    epilogue: "\
Examples:
  awrite-lock config.json -- ./migrate config.json
  awrite-lock -w 30 app.db -c 'sqlite3 app.db < change.sql'
  awrite-lock -o data -- ./start-a-daemon      the daemon does not get the lock
  exec 9>>data.lock; awrite-lock -w 5 9        until the shell ends, or
  awrite-lock -u 9                             until this
  token=$(awrite-lock --acquire --owner A --ttl 60s config.json)
  awrite-lock --release --owner A config.json
  awrite-lock --owner A --ttl 30s config.json -- make deploy

Exit codes:
  COMMAND's own; 128+N when signal N has killed it
  1    error: I/O, permission, bad usage
  2    no lock or lease was had, or it was lost; --status: not free (or -E)
  3    interrupted while waiting for the lock
  126  COMMAND cannot be run
  127  COMMAND was not found
",
};

const GROUP: &str = "Locking";
const COMMAND: &str = "Command";

const FLAGS: &[Flag<Settings>] = &[
    Flag::switch(GROUP, &["shared"], &['s'], "share the lock with others who share it", |settings, _| {
        settings.shared = true;
        Ok(())
    }),
    Flag::switch(GROUP, &["exclusive"], &['x', 'e'], "hold the lock alone (the default)", |settings, _| {
        settings.shared = false;
        Ok(())
    }),
    locking::wait(),
    locking::timeout(),
    locking::no_wait_or_nonblock(),
    Flag {
        spec: Spec {
            group: GROUP,
            long: &["conflict-exit-code"],
            short: &['E'],
            value: Some("N"),
            help: "end with N instead of 2 when the lock or lease was not had, or was lost",
            complete: Complete::Nothing,
        },
        apply: |settings, value| {
            let status = value.to_str().and_then(|text| text.parse().ok());
            let status = status.ok_or_else(|| format!("{} is not a number from 0 to 255", quoted(&value)))?;
            settings.conflict_status = Some(status);
            Ok(())
        },
    },
    Flag::switch(GROUP, &["unlock"], &['u'], "give up the lock of the descriptor N", |settings, _| {
        settings.unlock = true;
        Ok(())
    }),
    locking::lock_file(),
    locking::lock_dir(),
    locking::lock_mode(),
    locking::keep_lock(),
    locking::lock_method(),
    ACQUIRE,
    REFRESH,
    RELEASE,
    STATUS,
    locking::owner(),
    TTL,
    locking::token(),
    Flag {
        spec: Spec {
            group: COMMAND,
            long: &["command"],
            short: &['c'],
            value: Some("SCRIPT"),
            help: "run sh -c SCRIPT",
            complete: Complete::Command,
        },
        apply: |settings, value| {
            settings.script = Some(value);
            Ok(())
        },
    },
    Flag::switch(
        COMMAND,
        &["close"],
        &['o'],
        "do not pass the lock to COMMAND, so that nothing below it has it",
        |settings, _| {
            settings.close = true;
            Ok(())
        },
    ),
    Flag::switch(
        COMMAND,
        &["no-fork"],
        &['F'],
        "become COMMAND instead of waiting for it; the lock file then stays, unlocked, when it ends",
        |settings, _| {
            settings.no_fork = true;
            Ok(())
        },
    ),
    common::verbose(),
    common::quiet(),
    common::json(),
    common::help(),
    common::version(),
];

const fn verb(
    long: &'static [&'static str],
    help: &'static str,
    apply: fn(&mut Settings, OsString) -> Result<(), Stop>,
) -> Flag<Settings> {
    Flag::switch("Leases", long, &[], help, apply)
}

fn choose(settings: &mut Settings, verb: Verb) -> Result<(), Stop> {
    match settings.terms.verb.replace(verb) {
        Some(other) if other != verb => Err(format!("contradicts {}", other.name()).into()),
        _ => Ok(()),
    }
}

const ACQUIRE: Flag<Settings> =
    verb(&["acquire"], "take a lease for --owner that lasts --ttl, and print its token", |settings, _| {
        choose(settings, Verb::Acquire)
    });

const REFRESH: Flag<Settings> =
    verb(&["refresh"], "let the lease of --owner last its whole time from now, or --ttl", |settings, _| {
        choose(settings, Verb::Refresh)
    });

const RELEASE: Flag<Settings> =
    verb(&["release"], "give the lease of --owner back", |settings, _| choose(settings, Verb::Release));

const STATUS: Flag<Settings> =
    verb(&["status"], "say whether TARGET is held or leased (2) or free (0), and change nothing", |settings, _| {
        choose(settings, Verb::Status)
    });

const TTL: Flag<Settings> = Flag {
    spec: Spec {
        group: "Leases",
        long: &["ttl"],
        short: &[],
        value: Some("DURATION"),
        help: "how long a lease lasts without a refresh; with COMMAND: take one and refresh it while COMMAND runs",
        complete: Complete::Nothing,
    },
    apply: |settings, value| {
        let ttl = parse_duration(&value)?;
        if ttl.is_zero() || ttl > MAX_TTL {
            return Err("a lease must last more than 0 and at most 10 years".to_owned().into());
        }
        settings.terms.ttl = Some(ttl);
        Ok(())
    },
};

#[cfg(test)]
mod tests {
    use super::super::super::flags::check_table;
    use super::*;

    #[test]
    fn the_table_is_sound() {
        check_table(&GRAMMAR.manual());
    }
}
