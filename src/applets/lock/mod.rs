//! `awrite-lock`: runs a command with the lock held that awrite takes.
//!
//! ```text
//!   awrite-lock [OPTIONS] TARGET -- COMMAND [ARG...]
//!   awrite-lock [OPTIONS] TARGET -c SCRIPT
//!   awrite-lock [OPTIONS] N                          an open descriptor of the caller
//!   awrite-lock --acquire|--refresh|--release|--status [OPTIONS] TARGET     see lock/leasing.rs
//! ```

mod leasing;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use awrite::{Error, ErrorKind, FileLock, LockOptions, Observer, lock_descriptor, unlock_descriptor};

use super::common::{self, Tells};
use super::flags::{Complete, Flag, Grammar, Page, Parsed, Spec, Stop};
use super::locking::{self, Locking, Locks};
use super::values::quoted;
use crate::process::{self, Given, Inherited};
use crate::report::{self, Style};
use leasing::{Order, Rest, Terms};

/// What the options have said.
#[derive(Default)]
pub(super) struct Settings {
    style: Style,
    locking: Locking,
    terms: Terms,
    shared: bool,
    unlock: bool,
    close: bool,
    no_fork: bool,
    conflict_status: Option<u8>,
    script: Option<OsString>,
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

pub(super) static GRAMMAR: Grammar<Settings> = Grammar { page: PAGE, flags: FLAGS };

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
    leasing::ACQUIRE,
    leasing::REFRESH,
    leasing::RELEASE,
    leasing::STATUS,
    locking::owner(),
    leasing::TTL,
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

/// A checked request.
struct Job {
    what: What,
    options: LockOptions,
    style: Style,
    observer: Observer,
    conflict_status: Option<u8>,
}

impl Job {
    /// What to end with when the lock or lease was not had, or was lost.
    fn not_had(&self) -> u8 {
        self.conflict_status.unwrap_or(2)
    }
}

enum What {
    Run {
        target: PathBuf,
        /// Program and arguments.
        command: Vec<OsString>,
        close: bool,
        no_fork: bool,
    },
    Lock(i32),
    Unlock(i32),
    Lease(PathBuf, Order),
}

pub(super) fn run(args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Stop> {
    let mut settings = Settings::default();
    let parsed = GRAMMAR.parse(args, &mut settings)?;
    report::use_style(settings.style);
    let job = check(settings, parsed)?;
    process::hold(inherited);
    let outcome = match &job.what {
        What::Run { target, command, close, no_fork } => {
            run_command(target, command, *close, *no_fork, &job, inherited)
        }
        What::Lock(number) => {
            descriptor(*number, |fd, name| lock_descriptor(fd, name, &job.options, &job.observer).map(drop))
        }
        What::Unlock(number) => descriptor(*number, |fd, name| unlock_descriptor(fd, name)),
        What::Lease(target, order) => named(target).and_then(|target| leasing::obey(order, &target, &job, inherited)),
    };
    match outcome {
        Err(error) if error.exit_code() == 2 => Ok(fail(&error, job.not_had())?),
        outcome => Ok(outcome?),
    }
}

/// Says what failed, and ends with a status that is not the error's own.
fn fail(error: &Error, status: u8) -> Result<u8, Error> {
    process::give_way();
    report::failure(error, status);
    Ok(status)
}

/// What the options come to, all contradictions found. Changes nothing.
fn check(settings: Settings, parsed: Parsed) -> Result<Job, Stop> {
    let operand = parsed.operand.ok_or_else(|| GRAMMAR.manual().missing_operand())?;
    let usage = |reason: &str| Stop::Usage(reason.to_owned());
    let command = match (parsed.command, settings.script) {
        (Some(_), Some(_)) => return Err(usage("--command: contradicts COMMAND")),
        (None, Some(script)) => Some(vec!["sh".into(), "-c".into(), script]),
        (command, None) => command,
    };
    if settings.no_fork && settings.close {
        return Err(usage("--no-fork: contradicts --close: nobody would be left to hold the lock"));
    }
    let mut options = settings.locking.options()?;
    options.shared = settings.shared;
    let Settings { style, conflict_status, shared, unlock, close, no_fork, .. } = settings;
    let observer = locking::observer(style);
    let rest = Rest { claim: options.claim.clone(), command, shared, unlock, close, no_fork };
    if let Some(order) = settings.terms.order(&rest)? {
        return Ok(Job { what: What::Lease(operand.into(), order), options, style, observer, conflict_status });
    }
    let what = match rest.command {
        Some(_) if unlock => return Err(usage("--unlock: is for a descriptor, not for COMMAND")),
        Some(command) => What::Run { target: operand.into(), command, close, no_fork },
        None if options.claim.is_some() => return Err(usage("--owner: COMMAND is missing; a descriptor has no lease")),
        None => {
            let number = operand.to_str().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let number = number.ok_or_else(|| usage("COMMAND is missing"))?;
            let number = number.parse().map_err(|_| Stop::Usage(format!("{number}: not a descriptor")))?;
            if unlock { What::Unlock(number) } else { What::Lock(number) }
        }
    };
    Ok(Job { what, options, style, observer, conflict_status })
}

fn run_command(
    target: &Path,
    words: &[OsString],
    close: bool,
    no_fork: bool,
    job: &Job,
    inherited: &Inherited,
) -> Result<u8, Error> {
    let lock = FileLock::acquire_with(named(target)?, &job.options, &job.observer)?;
    if no_fork && !lock.survives_exec() {
        let reason = "--no-fork: a link lock needs this process, to keep it fresh";
        return Err(Error::new(ErrorKind::Usage, reason).on(target));
    }
    let (program, args) = words.split_first().ok_or_else(|| Error::new(ErrorKind::Usage, "no COMMAND"))?;
    let mut command = Command::new(program);
    command.args(args);
    let handed = if close { lock.keep_back() } else { lock.hand_over()? };
    process::hand_lock(&mut command, &handed);
    let outcome =
        if no_fork { Err(process::become_command(command, inherited)) } else { process::supervise(command, inherited) };
    drop(handed);
    let kept = lock.ensure_held();
    if let Err(error) = lock.release() {
        // COMMAND's status says more.
        report::warning(&error);
    }
    match outcome {
        // It has run without the lock, in part: that says more than its status.
        Ok(status) => kept.map(|()| status_of(status)),
        Err(error) => could_not_run(target, program, error),
    }
}

fn could_not_run(target: &Path, program: &OsStr, error: io::Error) -> Result<u8, Error> {
    let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    let reason = Error::io(program, error).to_string();
    fail(&Error::new(ErrorKind::Io, format!("cannot run {reason}")).on(target), status)
}

/// A directory by a name that a lock file can stand beside, however it was typed: `repo/`, `.`.
fn named(target: &Path) -> Result<Cow<'_, Path>, Error> {
    if !target.is_dir() {
        return Ok(target.into());
    }
    match target.file_name() {
        Some(_) => Ok(target.components().as_path().into()),
        None => target.canonicalize().map(Cow::Owned).map_err(|e| Error::io(target, e)),
    }
}

/// As shells have it.
pub(super) fn status_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn descriptor(number: i32, work: impl FnOnce(&Given, &Path) -> Result<(), Error>) -> Result<u8, Error> {
    let name = PathBuf::from(format!("descriptor {number}"));
    let fd = Given::number(number)
        .map_err(|e| Error::io(&name, e).with_hint(format!("open it in the shell first: exec {number}>>FILE.lock")))?;
    work(&fd, &name).map(|()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        super::super::flags::check_table(&super::GRAMMAR.manual());
    }

    fn settled(args: &[&str]) -> Result<Job, String> {
        let mut settings = Settings::default();
        let parsed = GRAMMAR.parse(args.iter().map(Into::into).collect(), &mut settings);
        parsed.and_then(|parsed| check(settings, parsed)).map_err(|stop| match stop {
            Stop::Usage(reason) => reason,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn contradictions() {
        for (args, named) in [
            (&[][..], "TARGET is missing"),
            (&["f"], "COMMAND is missing"),
            (&["-9"], "-9: unknown option"),
            (&["99999999999"], "99999999999: not a descriptor"),
            (&["f", "--"], "no COMMAND after --"),
            (&["f", "ls"], "'ls': unexpected argument; put -- before COMMAND"),
            (&["f", "-c"], "-c: SCRIPT is missing"),
            (&["f", "-c", "x", "--", "ls"], "--command: contradicts COMMAND"),
            (&["-Fo", "f", "--", "ls"], "--no-fork: contradicts --close"),
            (&["-u", "f", "--", "ls"], "--unlock: is for a descriptor"),
            (&["-nw5", "f", "--", "ls"], "--timeout: contradicts --no-wait"),
            (&["--wait=5", "f", "--", "ls"], "--wait: takes no value"),
            (&["-E", "256", "f", "--", "ls"], "--conflict-exit-code: '256' is not"),
            (&["-E", "-1", "f", "--", "ls"], "--conflict-exit-code: '-1' is not"),
            (&["--no", "f", "--", "ls"], "--no: ambiguous"),
        ] {
            let reason = settled(args).err().unwrap_or_default();
            assert!(reason.starts_with(named), "{args:?}: {reason}");
        }
    }

    #[test]
    fn contradictions_of_leases() {
        for (args, named) in [
            (&["--acquire", "--owner=A", "--ttl=5"][..], "TARGET is missing"),
            (&["--acquire", "f"], "--acquire: needs --owner"),
            (&["--acquire", "--ttl", "5", "f"], "--acquire: needs --owner"),
            (&["--acquire", "--owner", "A", "f"], "--acquire: needs --ttl"),
            (&["--acquire", "--owner", "A", "--ttl=5", "--token=1", "f"], "--token: a lease that is acquired"),
            (&["--refresh", "f"], "--refresh: needs --owner"),
            (&["--release", "f"], "--release: needs --owner"),
            (&["--release", "--token", "5", "f"], "--token: needs --owner"),
            (&["--release", "--owner=A", "--ttl=5", "f"], "--ttl: is for a lease that goes on"),
            (&["--status", "--owner=A", "f"], "--owner: contradicts --status"),
            (&["--status", "--ttl=5", "f"], "--ttl: is for"),
            (&["--status", "--release", "--owner=A", "f"], "--release: contradicts --status"),
            (&["--acquire", "--refresh", "f"], "--refresh: contradicts --acquire"),
            (&["--status", "f", "--", "ls"], "--status: contradicts COMMAND"),
            (&["--acquire", "--owner=A", "--ttl=5", "f", "-c", "ls"], "--acquire: contradicts COMMAND"),
            (&["--acquire", "--owner=A", "--ttl=5", "-s", "f"], "--acquire: contradicts --shared"),
            (&["--status", "-u", "9"], "--status: contradicts --unlock"),
            (&["--ttl", "5", "f", "--", "ls"], "--ttl: needs --owner"),
            (&["--owner=A", "--ttl=5", "f"], "--ttl: COMMAND is missing; without one: --acquire"),
            (&["--owner=A", "--ttl=5", "9"], "--ttl: COMMAND is missing"),
            (&["--owner=A", "--ttl=5", "-F", "f", "--", "ls"], "--no-fork: contradicts --ttl"),
            (&["--owner=A", "--ttl=5", "-s", "f", "--", "ls"], "--shared: contradicts --owner"),
            (&["--owner=A", "--ttl=5", "-u", "f", "--", "ls"], "--unlock: contradicts --ttl"),
            (&["--owner=A", "--ttl=5", "--token=7", "f", "--", "ls"], "--token: a lease that is acquired"),
            (&["--owner=A", "-s", "f", "--", "ls"], "--shared: contradicts --owner"),
            (&["--owner=A", "9"], "--owner: COMMAND is missing; a descriptor has no lease"),
            (&["--owner=A", "-u", "9"], "--owner: COMMAND is missing; a descriptor has no lease"),
            (&["--owner", "", "f", "--", "ls"], "--owner: the owner of a lease must have a name"),
            (&["--owner", "a\nb", "f", "--", "ls"], "--owner: the name of a lease's owner must not"),
        ] {
            let reason = settled(args).err().unwrap_or_default();
            assert!(reason.starts_with(named), "{args:?}: {reason}");
        }
    }

    #[test]
    fn times_to_live() {
        let term = |ttl: &str| settled(&["--acquire", "--owner=A", &format!("--ttl={ttl}"), "f"]).map(|job| job.what);
        for ttl in ["0", "0s", "0.0", "3653d", "-1", "inf", "nan", "NaN", "1e3", "", "x", "99999999999999999999d"] {
            let reason = term(ttl).err().unwrap_or_default();
            assert!(reason.starts_with("--ttl: "), "{ttl}: {reason}");
        }
        for (ttl, millis) in
            [("1ms", 1), ("60s", 60_000), ("0.5", 500), ("3652d", 315_532_800_000), ("87660h", 315_576_000_000)]
        {
            let Ok(What::Lease(_, Order::Acquire { ttl: settled, .. })) = term(ttl) else { panic!("{ttl}") };
            assert_eq!(settled.as_millis(), millis, "{ttl}");
        }
    }

    /// With --ttl a lease is taken; without, the one that there is is used for the lock.
    #[test]
    fn owners_with_a_command() {
        let what = |args: &[&str]| settled(&[args, &["f", "--", "ls"]].concat()).unwrap();
        assert!(matches!(what(&["--owner=A", "--ttl=5", "-o"]).what, What::Lease(_, Order::Run { close: true, .. })));
        let job = what(&["--owner=A", "--token=7"]);
        assert!(matches!(job.what, What::Run { .. }));
        assert_eq!(job.options.claim, Some(awrite::Claim::new("A").unwrap().with_token(7)));
        assert!(matches!(settled(&["--status", "9"]).unwrap().what, What::Lease(_, Order::Status)));
    }

    #[test]
    fn flocks_options() {
        use awrite::Wait;
        let wait = |args: &[&str]| settled(&[args, &["f", "--", "ls"]].concat()).unwrap().options.wait;
        for args in [&["-n"][..], &["--nb"], &["--nonblock"], &["--nonblocking"], &["--no-wait"], &["-w0"], &["-nw0"]] {
            assert_eq!(wait(args), Wait::No, "{args:?}");
        }
        assert_eq!(wait(&["--time", "1"]), wait(&["-w1"]));
        let shared = |args: &[&str]| settled(&[args, &["f", "--", "ls"]].concat()).unwrap().options.shared;
        assert!(shared(&["-s"]) && shared(&["-xs"]) && !shared(&["-sx"]) && !shared(&["-se"]) && !shared(&[]));
        assert!(matches!(settled(&["9"]).unwrap().what, What::Lock(9)));
        assert!(matches!(settled(&["-u", "9"]).unwrap().what, What::Unlock(9)));
        assert!(matches!(settled(&["9", "-c", "ls"]).unwrap().what, What::Run { .. }));
    }
}
