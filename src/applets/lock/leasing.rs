//! Leases: acquiring, refreshing and releasing them, and running COMMAND under one.
//!
//! ```text
//!   awrite-lock --acquire --owner ID --ttl DURATION TARGET               prints the token
//!   awrite-lock --refresh --owner ID [--token N] [--ttl DURATION] TARGET
//!   awrite-lock --release --owner ID [--token N] TARGET
//!   awrite-lock --break TARGET
//!   awrite-lock --status TARGET
//!   awrite-lock --owner ID --ttl DURATION TARGET -- COMMAND [ARG...]     refreshes it while COMMAND runs
//! ```

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use awrite::{Error, ErrorKind, Lease, LeaseInfo, LockOptions, Notice, Wait};

use super::super::flags::CommandLine;
use super::super::locking;
use super::command::could_not_run;
use super::request::{LeaseAction, Request};
use super::words;
use crate::process::{self, Inherited, Next};
use crate::report::{self, exit, lease as lease_report};

/// How long a refresh waits for the lock. COMMAND may end meanwhile, and this process must notice that soon.
const REFRESH_WAIT: Duration = Duration::from_millis(100);
/// The longest pause before the next attempt, after a refresh failed for another reason than the lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long a store may take to answer, at most.
const LONGEST_ANSWER: Duration = Duration::from_secs(2);
/// How long a refresh is waited for before anything else is done. Twice what it waits for the lock.
const REFRESH_TIME: Duration = Duration::from_millis(200);
/// The pause before the next look at a refresh that takes longer.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the release after COMMAND's end waits for the lock. If it fails, the lease expires.
const RELEASE_WAIT: Duration = Duration::from_secs(10);

pub(super) fn carry_out(
    action: &LeaseAction,
    target: &Path,
    request: &Request,
    inherited: &Inherited,
) -> Result<u8, Error> {
    // Signals are blocked from the moment that the lock is held until the process ends or has a COMMAND to pass them on
    // to. Otherwise a signal could leave a lease that nobody knows of.
    let observer = locking::observer_and(request.style, |notice| {
        if matches!(notice, Notice::Locked { .. }) {
            process::hold_again();
        }
    });
    let acquire = |owner: &str, ttl| {
        if request.options.store.is_some() {
            // No lock is taken. If a signal comes before the next line, the clean-up gives the lease back.
            let lease = Lease::acquire_with(target, owner, ttl, &request.options, &observer)?;
            process::hold_again();
            return Ok(lease);
        }
        words::about_target(target);
        Lease::acquire_with(target, owner, ttl, &request.options, &observer)
    };
    if request.options.store.is_some() {
        process::about_to_wait()?;
    }
    match action {
        LeaseAction::Acquire { owner, ttl } => print_token(acquire(owner, *ttl)?, target),
        LeaseAction::Refresh { claim, ttl } => {
            let lease = Lease::resume(target, claim, *ttl, &request.options, &observer)?;
            let info = lease.info();
            lease.detach();
            lease_report::refreshed(target, &info)
        }
        LeaseAction::Release { claim } => {
            if let Some(was) = Lease::release_claimed(target, claim, &request.options, &observer)? {
                lease_report::released(target, &was);
            }
            Ok(())
        }
        LeaseAction::Break => {
            let was = Lease::break_any(target, &request.options, &observer)?;
            lease_report::broken(target, was.as_ref())
        }
        LeaseAction::Status => {
            let status = Lease::status_with(target, &request.options, &observer)?;
            lease_report::status(target, &status)?;
            return Ok(if status.is_free() { exit::SUCCESS } else { request.not_held() });
        }
        LeaseAction::Run { owner, ttl, command, close } => {
            let lease = acquire(owner, *ttl)?;
            lease_report::acquired(target, &lease.info());
            return run(lease, target, command, *close, request, inherited);
        }
    }
    .map(|()| exit::SUCCESS)
}

/// Prints the token of a lease that was acquired. If that fails, a new lease is given back.
fn print_token(lease: Lease, target: &Path) -> Result<(), Error> {
    let info = lease.info();
    let Err(error) = lease_report::token(target, &info) else {
        lease.detach();
        return Ok(());
    };
    if info.is_in_store() {
        lease.detach();
        return Err(error.with_hint("the lease stands, in the store; awrite-lock --release gives it back"));
    }
    if is_older(&info) {
        lease.detach();
        return Err(error.with_hint("the lease was there before, and stands"));
    }
    // Nobody has read the token, so the lease would only be in the way.
    match lease.release() {
        Ok(()) => Err(error.with_hint("the lease was given back")),
        Err(e) => {
            report::warning(&e);
            Err(error)
        }
    }
}

/// Whether the owner had the lease before it was acquired now.
fn is_older(info: &LeaseInfo) -> bool {
    info.locked_at != info.refreshed_at
}

/// Runs COMMAND under the lease, and releases it.
fn run(
    lease: Lease,
    target: &Path,
    line: &CommandLine,
    close: bool,
    request: &Request,
    inherited: &Inherited,
) -> Result<u8, Error> {
    let mut command = line.to_command();
    if !close {
        process::hand_lock(&mut command, &lease.hand_over());
    }
    // While COMMAND runs, the user does not want to know when a refresh waits for the lock.
    let quiet = report::warnings();
    let mut options = with_wait(&request.options, REFRESH_WAIT);
    // A thread waits, and a timer's signal would come to this one, which passes signals on to COMMAND.
    options.use_alarm = false;
    let lease = lease.with_options(&options, &quiet);
    let kill_after = request.kill_after.unwrap_or_default();
    let claim = lease.claim();
    let mut refresher = Refresher::new(lease, target, kill_after);
    let outcome = process::supervise_beside(command, inherited, || refresher.run_if_due());
    let was_lost = refresher.lost;
    let options = with_wait(&request.options, RELEASE_WAIT);
    let released = match refresher.into_lease() {
        Some(lease) => lease.with_options(&options, &quiet).try_release(),
        // A server does not answer, and has been waited for. The lease ends by itself.
        None if was_lost => Ok(None),
        None => Lease::release_claimed(target, &claim, &options, &quiet),
    };
    let lost = match released {
        _ if was_lost => true,
        Err(e) if e.kind() == ErrorKind::LockLost => {
            // This process was stopped; the lease and COMMAND both ended before it could look.
            report_lost(target, &e, "the lease was lost while COMMAND ran");
            true
        }
        Err(e) => {
            report::warning(&e.during("cannot give the lease back"));
            false
        }
        Ok(was) => {
            if let Some(was) = was {
                lease_report::released(target, &was);
            }
            false
        }
    };
    match outcome {
        _ if lost => Ok(request.not_held()),
        Ok(status) => Ok(exit::of_command(status)),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            process::give_way();
            Err(Error::io(target, e))
        }
        Err(e) => could_not_run(target, &line.program, e),
    }
}

fn with_wait(options: &LockOptions, limit: Duration) -> LockOptions {
    let mut options = options.clone();
    options.wait = Wait::For(limit);
    options
}

fn report_lost(target: &Path, why: &Error, what: &str) {
    report::error(&Error::new(ErrorKind::LockLost, format!("{what}: {}", why.reason())).on(target));
}

/// Refreshes the lease while COMMAND runs. A thread does it: a file server that does not answer keeps only the thread
/// waiting, and COMMAND is stopped in time.
struct Refresher<'a> {
    lease: Arc<Mutex<Lease>>,
    ttl: Duration,
    /// The refresh that goes on, which has the mutex meanwhile.
    under_way: Option<Receiver<Result<(), Error>>>,
    /// When the lease ends, unless the last refresh that was begun succeeds.
    ends: Instant,
    target: &'a Path,
    /// The lease is lost, and the user has been told.
    lost: bool,
    /// The user has been warned that the lease cannot be refreshed.
    warned: bool,
    /// How long COMMAND may take to end once it is told to. Zero: for ever.
    kill_after: Duration,
}

impl<'a> Refresher<'a> {
    fn new(lease: Lease, target: &'a Path, kill_after: Duration) -> Refresher<'a> {
        let (ttl, lease) = (lease.info().ttl, Arc::new(Mutex::new(lease)));
        let ends = Instant::now();
        Refresher { lease, ttl, under_way: None, ends, target, lost: false, warned: false, kill_after }
    }

    /// Ends the refreshing. `None`: a thread still has the lease, since a server does not answer it.
    fn into_lease(self) -> Option<Lease> {
        if let Some(answer) = self.under_way {
            // The end of this process must not catch it with the lock in its hands.
            let _ = answer.recv_timeout(RELEASE_WAIT);
        }
        match Arc::try_unwrap(self.lease) {
            Ok(lease) => Some(lease.into_inner().unwrap_or_else(PoisonError::into_inner)),
            Err(lease) => {
                // Dropping it would release it, and so wait for that thread.
                std::mem::forget(lease);
                None
            }
        }
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long COMMAND can still go on without a refresh. With a limit for its end, that must be over in time; the tenth
    /// of the lease makes up for an attempt at the lock and for the machine's delays.
    fn spare(&self) -> Duration {
        let reserve = if self.kill_after.is_zero() { Duration::ZERO } else { self.kill_after + self.ttl / 10 };
        self.ends.saturating_duration_since(Instant::now()).saturating_sub(reserve)
    }

    /// How long a store may take to answer. COMMAND may end meanwhile, or have to be told to.
    fn answer_limit(&self) -> Duration {
        // Two attempts fit into what is left when the first is due.
        LONGEST_ANSWER.min(self.ttl / 3).min(self.spare())
    }

    /// Whether a lock that is not free may be waited for. COMMAND that is to be gone in time cannot go on any longer.
    fn may_wait(&self) -> bool {
        self.kill_after.is_zero() || !self.spare().is_zero()
    }

    /// Begins a refresh.
    fn begin(&mut self) -> Result<Receiver<Result<(), Error>>, Error> {
        let left = self.lease().info().left.unwrap_or_default();
        self.ends = Instant::now() + left;
        let (answer, lease, limit) = (mpsc::channel(), self.lease.clone(), self.answer_limit());
        process::start_thread(move || {
            let outcome = lease.lock().unwrap_or_else(PoisonError::into_inner).refresh_within(limit);
            // Before it is told, so that whoever is told has the lease alone.
            drop(lease);
            let _ = answer.0.send(outcome);
        })
        .map_err(|e| Error::io(self.target, e))?;
        Ok(answer.1)
    }

    fn run_if_due(&mut self) -> Next {
        let (answer, patience) = match self.under_way.take() {
            Some(answer) => (Ok(answer), Duration::ZERO),
            None => {
                let due = self.lease().time_to_refresh();
                if !due.is_zero() {
                    return Next::In(due);
                }
                (self.begin(), REFRESH_TIME)
            }
        };
        let error = match answer.map(|answer| (answer.recv_timeout(patience), answer)) {
            Ok((Ok(Ok(())), _)) => {
                self.warned = false;
                return Next::In(self.lease().time_to_refresh());
            }
            // The holder may be a writer of ours. Nobody can take the lease while somebody else holds the lock.
            Ok((Ok(Err(e)), _))
                if self.may_wait() && matches!(e.kind(), ErrorKind::LockBusy | ErrorKind::LockTimeout) =>
            {
                return Next::In(Duration::ZERO);
            }
            Ok((Ok(Err(e)), _)) | Err(e) => e,
            Ok((Err(RecvTimeoutError::Timeout), answer)) => {
                self.under_way = Some(answer);
                if self.may_wait() {
                    return Next::In(LOOK_INTERVAL);
                }
                Error::new(ErrorKind::LockTimeout, "a refresh takes too long")
            }
            Ok((Err(RecvTimeoutError::Disconnected), _)) => Error::new(ErrorKind::Io, "a refresh has broken off"),
        };
        let spare = self.spare();
        if error.kind() == ErrorKind::LockLost || spare.is_zero() {
            report_lost(self.target, &error, "the lease is lost, COMMAND is told to stop");
            self.lost = true;
            return Next::Stop;
        }
        if !self.warned {
            self.warned = true;
            report::warning(&error.during("cannot refresh the lease yet"));
        }
        Next::In(RETRY_INTERVAL.min(spare))
    }
}
