//! What the options of `awrite-lock` come to.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use awrite::{Claim, LockOptions, Observer};

use super::super::flags::{Parsed, Stop};
use super::super::locking;
use super::options::{GRAMMAR, Settings, Terms, Verb};
use crate::report::{Style, exit};

/// A checked request.
pub(super) struct Job {
    pub(super) what: What,
    pub(super) options: LockOptions,
    pub(super) style: Style,
    pub(super) observer: Observer,
    conflict_status: Option<u8>,
}

impl Job {
    /// What to end with when the lock or lease was not had, or was lost.
    pub(super) fn not_had(&self) -> u8 {
        self.conflict_status.unwrap_or(exit::NOT_HELD)
    }
}

pub(super) enum What {
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

/// What is to be done with the lease of a target.
pub(super) enum Order {
    Acquire { owner: String, ttl: Duration },
    Refresh { claim: Claim, ttl: Option<Duration> },
    Release { claim: Claim },
    Status,
    Run { owner: String, ttl: Duration, command: Vec<OsString>, close: bool },
}

/// What else the command line says.
struct Rest {
    claim: Option<Claim>,
    command: Option<Vec<OsString>>,
    shared: bool,
    unlock: bool,
    close: bool,
    no_fork: bool,
}

impl Terms {
    /// The order that the options come to, if it is one about a lease, or what contradicts what.
    fn order(&self, rest: &Rest) -> Result<Option<Order>, Stop> {
        let usage = |name: &str, reason: &str| Err(Stop::Usage(format!("{name}: {reason}")));
        let Rest { claim, command, shared, unlock, close, no_fork } = rest;
        let claim = claim.clone();
        let token = claim.as_ref().and_then(Claim::token);
        if let Some(verb) = self.verb {
            let others = [(command.is_some(), "COMMAND"), (*unlock, "--unlock"), (*shared, "--shared")];
            if let Some((_, other)) = others.into_iter().find(|(given, _)| *given) {
                return usage(verb.name(), &format!("contradicts {other}"));
            }
        } else if claim.is_some() && *shared {
            return usage("--shared", "contradicts --owner: a lease is one owner's alone");
        }
        let order = match (self.verb, claim, self.ttl) {
            (Some(Verb::Status), None, None) => Order::Status,
            (Some(Verb::Status), Some(_), _) => {
                return usage("--owner", "contradicts --status, which asks for anybody's");
            }
            (Some(Verb::Status | Verb::Release), _, Some(_)) => return usage("--ttl", "is for a lease that goes on"),
            (Some(verb), None, _) => return usage(verb.name(), "needs --owner"),
            (Some(Verb::Refresh), Some(claim), ttl) => Order::Refresh { claim, ttl },
            (Some(Verb::Release), Some(claim), None) => Order::Release { claim },
            (Some(Verb::Acquire), Some(_), None) => return usage("--acquire", "needs --ttl"),
            (None, None, Some(_)) => return usage("--ttl", "needs --owner"),
            (None, _, None) => return Ok(None),
            (Some(Verb::Acquire) | None, Some(_), Some(_)) if token.is_some() => {
                return usage(
                    "--token",
                    "a lease that is acquired has a token of its own; to go on with one: --refresh",
                );
            }
            (Some(Verb::Acquire), Some(claim), Some(ttl)) => Order::Acquire { owner: claim.owner().to_owned(), ttl },
            (None, Some(_), Some(_)) if *no_fork => {
                return usage("--no-fork", "contradicts --ttl: nobody would be left to refresh the lease");
            }
            (None, Some(_), Some(_)) if *unlock => return usage("--unlock", "contradicts --ttl"),
            (None, Some(claim), Some(ttl)) => match command {
                Some(command) => {
                    Order::Run { owner: claim.owner().to_owned(), ttl, command: command.clone(), close: *close }
                }
                None => return usage("--ttl", "COMMAND is missing; without one: --acquire"),
            },
        };
        Ok(Some(order))
    }
}

/// What the options come to, all contradictions found. Changes nothing.
pub(super) fn check(settings: Settings, parsed: Parsed) -> Result<Job, Stop> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
