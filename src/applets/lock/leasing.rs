//! What `awrite-lock` does with leases.
//!
//! ```text
//!   awrite-lock --acquire --owner ID --ttl DURATION TARGET               prints the token
//!   awrite-lock --refresh --owner ID [--token N] [--ttl DURATION] TARGET
//!   awrite-lock --release --owner ID [--token N] TARGET
//!   awrite-lock --status TARGET
//!   awrite-lock --owner ID --ttl DURATION TARGET -- COMMAND [ARG...]     refreshes it while COMMAND runs
//! ```

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use awrite::{Claim, Error, ErrorKind, Lease, LeaseInfo, LockOptions, MAX_TTL, Notice, Wait};

use super::super::flags::{Complete, Flag, Spec, Stop};
use super::super::locking;
use super::super::values::parse_duration;
use super::{Job, Settings, could_not_run, status_of};
use crate::process::{self, Inherited, Next};
use crate::report;
use crate::report::lease as says;

/// A refresh waits so long for the lock, so that the end of COMMAND is noticed in between.
const REFRESH_WAIT: Duration = Duration::from_millis(100);
/// Until it is tried again, when it has failed for another reason than that.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// The end of COMMAND waits so long for the lock at most. The lease ends by itself then.
const RELEASE_WAIT: Duration = Duration::from_secs(10);

// ---------------------------------------------------------------------------------------------------------------------
// The options

/// What the options of a lease have said.
#[derive(Default)]
pub(super) struct Terms {
    verb: Option<Verb>,
    ttl: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Acquire,
    Refresh,
    Release,
    Status,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Acquire => "--acquire",
            Verb::Refresh => "--refresh",
            Verb::Release => "--release",
            Verb::Status => "--status",
        }
    }
}

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

pub(super) const ACQUIRE: Flag<Settings> =
    verb(&["acquire"], "take a lease for --owner that lasts --ttl, and print its token", |settings, _| {
        choose(settings, Verb::Acquire)
    });

pub(super) const REFRESH: Flag<Settings> =
    verb(&["refresh"], "let the lease of --owner last its whole time from now, or --ttl", |settings, _| {
        choose(settings, Verb::Refresh)
    });

pub(super) const RELEASE: Flag<Settings> =
    verb(&["release"], "give the lease of --owner back", |settings, _| choose(settings, Verb::Release));

pub(super) const STATUS: Flag<Settings> =
    verb(&["status"], "say whether TARGET is held or leased (2) or free (0), and change nothing", |settings, _| {
        choose(settings, Verb::Status)
    });

pub(super) const TTL: Flag<Settings> = Flag {
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

/// What is to be done with the lease of a target.
pub(super) enum Order {
    Acquire { owner: String, ttl: Duration },
    Refresh { claim: Claim, ttl: Option<Duration> },
    Release { claim: Claim },
    Status,
    Run { owner: String, ttl: Duration, command: Vec<OsString>, close: bool },
}

/// What else the command line says.
pub(super) struct Rest {
    pub(super) claim: Option<Claim>,
    pub(super) command: Option<Vec<OsString>>,
    pub(super) shared: bool,
    pub(super) unlock: bool,
    pub(super) close: bool,
    pub(super) no_fork: bool,
}

impl Terms {
    /// The order that the options come to, if it is one about a lease, or what contradicts what.
    pub(super) fn order(&self, rest: &Rest) -> Result<Option<Order>, Stop> {
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

// ---------------------------------------------------------------------------------------------------------------------
// The work

pub(super) fn obey(order: &Order, target: &Path, job: &Job, inherited: &Inherited) -> Result<u8, Error> {
    // From the moment that the lock is held until the process ends or has a COMMAND to pass signals on to: a signal must
    // not leave a lease that nobody knows of.
    let observer = locking::observer_and(job.style, |notice| {
        if matches!(notice, Notice::Locked { .. }) {
            process::hold_again();
        }
    });
    match order {
        Order::Acquire { owner, ttl } => {
            acquire(Lease::acquire_with(target, owner, *ttl, &job.options, &observer)?, target)
        }
        Order::Refresh { claim, ttl } => {
            let lease = Lease::resume(target, claim, *ttl, &job.options, &observer)?;
            let info = lease.info();
            lease.keep();
            says::refreshed(target, &info)
        }
        Order::Release { claim } => {
            if Lease::end(target, claim, &job.options, &observer)? {
                says::released(target, claim);
            }
            Ok(())
        }
        Order::Status => {
            let status = Lease::status(target, &job.options)?;
            says::status(target, &status)?;
            return Ok(if status.is_free() { 0 } else { job.not_had() });
        }
        Order::Run { owner, ttl, command, close } => {
            let lease = Lease::acquire_with(target, owner, *ttl, &job.options, &observer)?;
            says::acquired(target, &lease.info());
            return run(lease, target, command, *close, job, inherited);
        }
    }
    .map(|()| 0)
}

fn acquire(lease: Lease, target: &Path) -> Result<(), Error> {
    let info = lease.info();
    let Err(error) = says::token(target, &info) else {
        lease.keep();
        return Ok(());
    };
    if is_older(&info) {
        lease.keep();
        return Err(error.with_hint("the lease was there before, and stands"));
    }
    // A lease that nobody knows the token of would only be in the way.
    match lease.release() {
        Ok(()) => Err(error.with_hint("the lease was given back")),
        Err(e) => {
            report::warning(&e);
            Err(error)
        }
    }
}

/// Whether its owner had it before it was acquired now.
fn is_older(info: &LeaseInfo) -> bool {
    info.locked_at != info.refreshed_at
}

/// Runs COMMAND under the lease, and gives it back.
fn run(
    lease: Lease,
    target: &Path,
    words: &[OsString],
    close: bool,
    job: &Job,
    inherited: &Inherited,
) -> Result<u8, Error> {
    let (program, args) = words.split_first().ok_or_else(|| Error::new(ErrorKind::Usage, "no COMMAND"))?;
    let mut command = Command::new(program);
    command.args(args);
    if !close {
        process::hand_lock(&mut command, &lease.hand_over());
    }
    // While COMMAND runs it is not of interest when its lease waits for what.
    let quiet = report::warnings();
    let lease = lease.with_options(&waiting(&job.options, REFRESH_WAIT), &quiet);
    let mut keeper = Keeper { lease, target, lost: false, warned: false };
    let outcome = process::supervise_beside(command, inherited, || keeper.turn());
    let claim = keeper.lease.claim();
    keeper.lease.keep();
    let lost = match Lease::end(target, &claim, &waiting(&job.options, RELEASE_WAIT), &quiet) {
        _ if keeper.lost => true,
        Err(e) if e.kind() == ErrorKind::LockLost => {
            // It ended before we could look, as did COMMAND: while this process was stopped.
            lose(target, &e, "the lease was lost while COMMAND ran");
            true
        }
        Err(e) => {
            report::warning(&e.during("cannot give the lease back"));
            false
        }
        Ok(released) => {
            if released {
                says::released(target, &claim);
            }
            false
        }
    };
    match outcome {
        _ if lost => Ok(job.not_had()),
        Ok(status) => Ok(status_of(status)),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            process::give_way();
            Err(Error::io(target, e))
        }
        Err(e) => could_not_run(target, program, e),
    }
}

fn waiting(options: &LockOptions, limit: Duration) -> LockOptions {
    let mut options = options.clone();
    options.wait = Wait::For(limit);
    options
}

fn lose(target: &Path, why: &Error, what: &str) {
    report::error(&Error::new(ErrorKind::LockLost, format!("{what}: {}", why.reason())).on(target));
}

/// Refreshes a lease in time.
struct Keeper<'a> {
    lease: Lease,
    target: &'a Path,
    /// And that has been said.
    lost: bool,
    /// A failure to refresh it has been told of.
    warned: bool,
}

impl Keeper<'_> {
    fn turn(&mut self) -> Next {
        let due = self.lease.due();
        if !due.is_zero() {
            return Next::In(due);
        }
        let error = match self.lease.refresh() {
            Ok(()) => {
                self.warned = false;
                return Next::In(self.lease.due());
            }
            // A writer of our own, maybe: nobody takes the lease while somebody else has the lock.
            Err(e) if matches!(e.kind(), ErrorKind::LockBusy | ErrorKind::LockTimeout) => {
                return Next::In(Duration::ZERO);
            }
            Err(e) => e,
        };
        if error.kind() == ErrorKind::LockLost || self.lease.info().left.is_none() {
            lose(self.target, &error, "the lease is lost, COMMAND is told to stop");
            self.lost = true;
            return Next::Stop;
        }
        if !self.warned {
            self.warned = true;
            report::warning(&error.during("cannot refresh the lease yet"));
        }
        Next::In(TRY_AGAIN)
    }
}
