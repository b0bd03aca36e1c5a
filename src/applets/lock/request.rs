//! The checked command line of `awrite-lock`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use awrite::{Claim, LockOptions, Observer};

use super::super::flags::{CommandLine, Parsed, Stop};
use super::super::locking;
use super::super::values::quoted;
use super::options::{GRAMMAR, Settings, Verb};
use crate::process;
use crate::report::{Style, exit};

pub(super) struct Request {
    pub(super) action: Action,
    pub(super) options: LockOptions,
    pub(super) style: Style,
    pub(super) observer: Observer,
    pub(super) kill_after: Option<Duration>,
    conflict_status: Option<u8>,
}

impl Request {
    /// The exit status if the lock or lease was not acquired, or was lost.
    pub(super) fn not_held(&self) -> u8 {
        self.conflict_status.unwrap_or(exit::NOT_HELD)
    }
}

pub(super) enum Action {
    Run(Run),
    /// Locks the descriptor of this number.
    Lock(i32),
    Unlock(i32),
    Lease(PathBuf, LeaseAction),
    /// Lists who holds, leases or waits for what is in this directory; empty: all leases in the store.
    List(PathBuf, bool),
}

/// To run COMMAND with the lock held.
pub(super) struct Run {
    /// At least one.
    pub(super) targets: Vec<PathBuf>,
    pub(super) command: CommandLine,
    pub(super) close: bool,
    pub(super) no_fork: bool,
}

/// What is to be done with the lease of a target.
pub(super) enum LeaseAction {
    Acquire { owner: String, ttl: Duration },
    Refresh { claim: Claim, ttl: Option<Duration> },
    Release { claim: Claim },
    Break,
    Status,
    Run { owner: String, ttl: Duration, command: CommandLine, close: bool },
}

/// Finds all contradictions between options. Changes nothing.
pub(super) fn check(mut settings: Settings, mut parsed: Parsed) -> Result<Request, Stop> {
    let usage = |reason: &str| Stop::Usage(reason.to_owned());
    let listing = settings.verb == Some(Verb::List);
    let operand = match parsed.operand.take() {
        None if listing => OsString::new(),
        operand => operand.ok_or_else(|| GRAMMAR.manual().missing_operand())?,
    };
    let command = match (parsed.command, settings.script.take()) {
        (Some(_), Some(_)) => return Err(usage("--command: contradicts COMMAND")),
        (None, Some(script)) => Some(CommandLine { program: "sh".into(), args: vec!["-c".into(), script] }),
        (command, None) => command,
    };
    if settings.no_fork && settings.close {
        return Err(usage("--no-fork: contradicts --close: nobody would be left to hold the lock"));
    }
    let (names_store, about_a_lock) = (settings.locking.names_store(), settings.locking.about_a_lock());
    let mut options = std::mem::take(&mut settings.locking).options(settings.verb.is_some())?;
    options.shared = settings.shared;
    check_kill_after(&settings, command.is_some())?;
    if settings.recursive && !listing {
        return Err(usage("--recursive: is for --list"));
    }
    if options.reason.is_some() && settings.ttl.is_none() && settings.verb != Some(Verb::Refresh) {
        return Err(usage("--reason: is for a lease that is acquired or refreshed"));
    }
    let lease = lease_action(&settings, options.claim.as_ref(), command.as_ref())?;
    let leases = lease.is_some() || listing;
    if names_store && !leases {
        return Err(usage("--store: is for leases: --acquire and the like, or --owner and --ttl with COMMAND"));
    }
    if let (true, true, Some(name)) = (options.store.is_some(), leases, about_a_lock) {
        return Err(Stop::Usage(format!("{name}: contradicts --store: no lock is taken")));
    }
    if let (Some(word), true) = (parsed.more.first(), command.is_none() || lease.is_some()) {
        return Err(match lease {
            Some(_) => Stop::Usage(format!("{}: a lease is of one TARGET", quoted(word))),
            None => GRAMMAR.manual().unexpected(word),
        });
    }
    let Settings { style, conflict_status, unlock, close, no_fork, recursive, kill_after, .. } = settings;
    let action = match (lease, command) {
        _ if listing && operand.is_empty() && options.store.is_none() => Action::List(".".into(), recursive),
        _ if listing => Action::List(operand.into(), recursive),
        (Some(action), _) => Action::Lease(operand.into(), action),
        (None, Some(_)) if options.claim.is_some() && options.store.is_some() => {
            return Err(usage("--owner: needs --ttl with a store: a lock does not ask the store"));
        }
        (None, Some(_)) if unlock => return Err(usage("--unlock: is for a descriptor, not for COMMAND")),
        (None, Some(command)) => {
            let targets: Vec<PathBuf> = std::iter::once(operand).chain(parsed.more).map(PathBuf::from).collect();
            if targets.len() > 1 && options.file.is_some() {
                return Err(usage("--lock-file: cannot be the lock of several TARGETs"));
            }
            Action::Run(Run { targets, command, close, no_fork })
        }
        (None, None) if options.claim.is_some() => {
            return Err(usage("--owner: COMMAND is missing; a descriptor has no lease"));
        }
        (None, None) => {
            let number = operand.to_str().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let number = number.ok_or_else(|| usage("COMMAND is missing"))?;
            let number = number.parse().map_err(|_| Stop::Usage(format!("{number}: not a descriptor")))?;
            if unlock { Action::Unlock(number) } else { Action::Lock(number) }
        }
    };
    Ok(Request { action, options, style, observer: locking::observer(style), kill_after, conflict_status })
}

/// A COMMAND whose lease is lost must be gone before another can have the lease.
fn check_kill_after(settings: &Settings, has_command: bool) -> Result<(), Stop> {
    let Some(limit) = settings.kill_after else { return Ok(()) };
    if !has_command {
        return Err(Stop::Usage("--kill-after: COMMAND is missing".to_owned()));
    }
    if settings.no_fork {
        return Err(Stop::Usage(
            "--kill-after: contradicts --no-fork: nobody would be left to kill COMMAND".to_owned(),
        ));
    }
    if settings.ttl.is_some_and(|ttl| limit.saturating_mul(2) > ttl) {
        return Err(Stop::Usage("--kill-after: is more than half of --ttl".to_owned()));
    }
    process::kill_after(limit);
    Ok(())
}

/// What is to be done with a lease, if there is anything. Fails if options contradict each other.
fn lease_action(
    settings: &Settings,
    claim: Option<&Claim>,
    command: Option<&CommandLine>,
) -> Result<Option<LeaseAction>, Stop> {
    let usage = |name: &str, reason: &str| Err(Stop::Usage(format!("{name}: {reason}")));
    let Settings { verb, ttl, shared, unlock, close, no_fork, .. } = *settings;
    if let Some(verb) = verb {
        let others = [(command.is_some(), "COMMAND"), (unlock, "--unlock"), (shared, "--shared")];
        if let Some((_, other)) = others.into_iter().find(|(given, _)| *given) {
            return usage(verb.name(), &format!("contradicts {other}"));
        }
    } else if claim.is_some() && shared {
        return usage("--shared", "contradicts --owner: a lease is one owner's alone");
    }
    let owner = |claim: &Claim| claim.owner().to_owned();
    Ok(Some(match (verb, claim, ttl) {
        (Some(Verb::Status), None, None) => LeaseAction::Status,
        (Some(Verb::Break), None, None) => LeaseAction::Break,
        (Some(Verb::List), None, None) => return Ok(None),
        (Some(verb @ (Verb::Status | Verb::Break | Verb::List)), Some(_), _) => {
            return usage("--owner", &format!("contradicts {}, which is about anybody's", verb.name()));
        }
        (Some(Verb::Status | Verb::Break | Verb::List | Verb::Release), _, Some(_)) => {
            return usage("--ttl", "is for a lease that goes on");
        }
        (Some(verb), None, _) => return usage(verb.name(), "needs --owner"),
        (Some(Verb::Refresh), Some(claim), ttl) => LeaseAction::Refresh { claim: claim.clone(), ttl },
        (Some(Verb::Release), Some(claim), None) => LeaseAction::Release { claim: claim.clone() },
        (Some(Verb::Acquire), Some(_), None) => return usage("--acquire", "needs --ttl"),
        (None, None, Some(_)) => return usage("--ttl", "needs --owner"),
        (None, _, None) => return Ok(None),
        (Some(Verb::Acquire) | None, Some(claim), Some(_)) if claim.token().is_some() => {
            return usage("--token", "a lease that is acquired has a token of its own; to go on with one: --refresh");
        }
        (Some(Verb::Acquire), Some(claim), Some(ttl)) => LeaseAction::Acquire { owner: owner(claim), ttl },
        (None, Some(_), Some(_)) if no_fork => {
            return usage("--no-fork", "contradicts --ttl: nobody would be left to refresh the lease");
        }
        (None, Some(_), Some(_)) if unlock => return usage("--unlock", "contradicts --ttl"),
        (None, Some(claim), Some(ttl)) => match command {
            Some(command) => LeaseAction::Run { owner: owner(claim), ttl, command: command.clone(), close },
            None => return usage("--ttl", "COMMAND is missing; without one: --acquire"),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(args: &[&str]) -> Result<Request, String> {
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
            (&["--kill-after=1", "9"], "--kill-after: COMMAND is missing"),
            (&["--kill-after=5", "--acquire", "--owner=A", "--ttl=5", "f"], "--kill-after: COMMAND is missing"),
            (&["--kill-after=1", "-F", "f", "--", "ls"], "--kill-after: contradicts --no-fork"),
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
        let term = |ttl: &str| {
            settled(&["--acquire", "--owner=A", &format!("--ttl={ttl}"), "f"]).map(|request| request.action)
        };
        for ttl in ["0", "0s", "0.0", "3653d", "-1", "inf", "nan", "NaN", "1e3", "", "x", "99999999999999999999d"] {
            let reason = term(ttl).err().unwrap_or_default();
            assert!(reason.starts_with("--ttl: "), "{ttl}: {reason}");
        }
        for (ttl, millis) in
            [("1ms", 1), ("60s", 60_000), ("0.5", 500), ("3652d", 315_532_800_000), ("87660h", 315_576_000_000)]
        {
            let Ok(Action::Lease(_, LeaseAction::Acquire { ttl: settled, .. })) = term(ttl) else { panic!("{ttl}") };
            assert_eq!(settled.as_millis(), millis, "{ttl}");
        }
    }

    /// With --ttl a lease is taken; without, the one that there is is used for the lock.
    #[test]
    fn owners_with_a_command() {
        let what = |args: &[&str]| settled(&[args, &["f", "--", "ls"]].concat()).unwrap();
        assert!(matches!(
            what(&["--owner=A", "--ttl=5", "-o"]).action,
            Action::Lease(_, LeaseAction::Run { close: true, .. })
        ));
        let request = what(&["--owner=A", "--token=7"]);
        assert!(matches!(request.action, Action::Run(_)));
        assert_eq!(request.options.claim, Some(awrite::Claim::new("A").unwrap().with_token(7)));
        assert!(matches!(settled(&["--status", "9"]).unwrap().action, Action::Lease(_, LeaseAction::Status)));
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
        assert!(matches!(settled(&["9"]).unwrap().action, Action::Lock(9)));
        assert!(matches!(settled(&["-u", "9"]).unwrap().action, Action::Unlock(9)));
        assert!(matches!(settled(&["9", "-c", "ls"]).unwrap().action, Action::Run(_)));
    }
}
