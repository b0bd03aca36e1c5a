//! Leases: a hold on a target that outlives processes and ends by itself.
//!
//! The record of a lease ([`record`]) is `TARGET.lease`. Its states:
//!
//! ```text
//!   (none) ──acquire, by anybody──────────────────> live ──its time passes──> expired
//!   expired ──acquire, by another owner───────────> live, with a greater token
//!   live, expired ──acquire, refresh, by its owner──> live, with the same token
//!   live, expired ──release, by its owner───────────> (none)
//!   expired ──housekeeping────────────────────────> (none)
//! ```
//!
//! Every change but the passing of time is made under the target's lock ([`store`]): read the record, decide, write the
//! new one beside it, sync, rename. So the record of a live lease is never absent or partial for anybody who reads it, and
//! a process that loses a race has written nothing. The lock itself is held only for that moment. In between, everybody
//! who locks the target checks the lease and waits for its end ([`lock_target`], [`Visitor`]).
//!
//! A token is the time of the acquisition in microseconds, or one more than the token before, whichever is greater. A
//! release removes the record, since the time makes the next token greater. If the wall clock has been set back behind the
//! token by then, the record stays, marked as released.

mod clock;
mod descriptor;
mod door;
mod found;
mod inherited;
mod many;
mod record;
mod set;
#[cfg(test)]
mod set_model;
mod set_record;
mod store;
#[cfg(test)]
mod tests;
mod visitor;

pub use descriptor::lock_callers_descriptor;
pub(crate) use door::{Purpose, lock_target};
#[cfg(fuzzing)]
pub(crate) use found::any_record;
pub(crate) use many::lock_targets;
pub use record::MAX_TTL;
pub(crate) use set::{
    DraftRecord, Journal, JournalDraft, PlacedRecord, UNFINISHED, clear_journal, finish_backup, finish_set,
    finish_target, is_in_set, set_temp_names,
};
pub(crate) use set_record::{SetBackup, SetRecord};
pub(crate) use store::{clear, refresh_for_ancestor};
pub(crate) use visitor::Visitor;
use visitor::in_brackets;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clock::{Clock, Machine};
use found::lease_at;
use record::LeaseRecord;
use store::{LeaseStore, Written};

use crate::error::{ErrorKind, Result};
use crate::holder::Holder;
use crate::local_time::Moment;
use crate::lock::{self, HandOver, Place};
use crate::notice::Observer;
use crate::options::{Claim, LockOptions, Wait};
use crate::target::{Resolve, Target};

/// How long dropping a lease tries to get the lock that it needs.
const DROP_WAIT: Duration = Duration::from_secs(1);

/// A lease of a target: until it ends, every other owner and every writer without a lease has to wait.
///
/// While this value lives, [`refresh`](Lease::refresh) the lease in good time ([`Lease::time_to_refresh`]): nothing does that by
/// itself. Dropping the value gives the lease back, also while a panic unwinds. [`Lease::detach`] leaves the lease in place,
/// for another process to go on with ([`Lease::resume`]) or to give back ([`Lease::release_claimed`]). In a forked child, dropping the copy
/// does nothing.
///
/// Each of these holds the target's lock only for a moment, and ignores [`LockOptions::claim`]. A relative path is looked
/// up in the current directory each time.
///
/// ```
/// # fn main() -> awrite::Result<()> {
/// use std::time::Duration;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("config.json");
/// let options = awrite::LockOptions::default();
/// let mut lease = awrite::Lease::acquire(&path, "agent-7", Duration::from_secs(60), &options)?;
/// assert!(!awrite::Lease::status(&path, &options)?.is_free());
/// lease.refresh()?;
/// lease.release()?;
/// assert!(awrite::Lease::status(&path, &options)?.is_free());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it gives the lease back"]
pub struct Lease {
    target: PathBuf,
    written: Written,
    ttl: Duration,
    options: LockOptions,
    observer: Observer,
    /// The process in which dropping it gives it back; `None`: it has been given back, or is to be kept.
    releases: Option<u32>,
}

impl Lease {
    /// Takes a lease of `target`, which need not exist, for `ttl` from now. If `owner` has it already, this refreshes it,
    /// and the token stays the same. Waits for the lock and for the end of another's lease as `options` say.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Leased`]: another owner's lease did not end in time. [`ErrorKind::DamagedRecord`]: the record cannot be
    /// read, and is left as it is. [`ErrorKind::Usage`]: `ttl` is zero or above [`MAX_TTL`], or `owner` is not a valid name
    /// (see [`Claim`]). Otherwise as [`FileLock::acquire`](crate::FileLock::acquire).
    pub fn acquire(target: impl AsRef<Path>, owner: &str, ttl: Duration, options: &LockOptions) -> Result<Lease> {
        Lease::acquire_with(target, owner, ttl, options, &Observer::default())
    }

    /// The same, with an observer that is told when it has to wait.
    ///
    /// # Errors
    ///
    /// As [`Lease::acquire`].
    pub fn acquire_with(
        target: impl AsRef<Path>,
        owner: &str,
        ttl: Duration,
        options: &LockOptions,
        observer: &Observer,
    ) -> Result<Lease> {
        let store = LeaseStore { clock: &Machine, target: target.as_ref(), options, observer };
        Ok(Lease::new(&store, store.acquire(owner, ttl)?))
    }

    /// Goes on with a lease that another process has acquired and kept. Refreshes it for `ttl`; `None`: for the same time as
    /// before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`]: the lease is not the one that `claim` says. Nothing is changed then. Otherwise as
    /// [`Lease::acquire`].
    pub fn resume(
        target: impl AsRef<Path>,
        claim: &Claim,
        ttl: Option<Duration>,
        options: &LockOptions,
        observer: &Observer,
    ) -> Result<Lease> {
        let store = LeaseStore { clock: &Machine, target: target.as_ref(), options, observer };
        Ok(Lease::new(&store, store.refresh(claim, ttl)?))
    }

    /// Gives back a lease that another process has acquired and kept. Returns what it was; `None`: there was none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`]: there is one, but not the one that `claim` says. Nothing is changed then. Otherwise as
    /// [`FileLock::acquire`](crate::FileLock::acquire).
    pub fn release_claimed(
        target: impl AsRef<Path>,
        claim: &Claim,
        options: &LockOptions,
        observer: &Observer,
    ) -> Result<Option<LeaseInfo>> {
        let store = LeaseStore { clock: &Machine, target: target.as_ref(), options, observer };
        Ok(store.end(claim)?.map(|(record, path)| LeaseInfo::new(&record, path, &Machine)))
    }

    /// Ends a lease of `target`, whoever has it. Returns what it was; `None`: there was none. Whoever works under it is told
    /// at the next refresh or write. The next token is greater, as ever.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotWritable`]: `target` exists, and this user may not write it. [`ErrorKind::DamagedRecord`]: the
    /// record cannot be read. Otherwise as [`FileLock::acquire`](crate::FileLock::acquire).
    pub fn break_any(
        target: impl AsRef<Path>,
        options: &LockOptions,
        observer: &Observer,
    ) -> Result<Option<LeaseInfo>> {
        let store = LeaseStore { clock: &Machine, target: target.as_ref(), options, observer };
        Ok(store.end_any()?.map(|(record, path)| LeaseInfo::new(&record, path, &Machine)))
    }

    /// Whether `target` is held or leased, and by whom. Changes nothing and waits for nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DamagedRecord`]: the lease's record cannot be read or trusted. Otherwise, the lock file or the record
    /// could not be opened.
    pub fn status(target: impl AsRef<Path>, options: &LockOptions) -> Result<LockStatus> {
        Lease::status_with(target, options, &Observer::default())
    }

    /// The same, with an observer that is told of a record that does not count, since its maker may not write `target`.
    ///
    /// # Errors
    ///
    /// As [`Lease::status`].
    pub fn status_with(target: impl AsRef<Path>, options: &LockOptions, observer: &Observer) -> Result<LockStatus> {
        let how = Resolve { follow: options.follow, mkdir: false };
        let target = Target::resolve(target.as_ref(), how)?;
        let place = Place::of(&target, options)?;
        place.lease.dir.refresh();
        let record = lease_at(&place.lease, observer)?;
        let lease = record.map(|record| LeaseInfo::new(&record, place.lease.path(), &Machine));
        let (held, holder) = lock::status(&place, &target, observer)?;
        let since = held_since(&place).filter(|_| held);
        Ok(LockStatus { lock_file: place.path, held, holder, since, lease })
    }

    /// Changes how this lease waits for the lock, and whom it tells. `options` must lead to the same lock file.
    pub fn with_options(mut self, options: &LockOptions, observer: &Observer) -> Lease {
        self.options = options.clone();
        self.observer = observer.clone();
        self
    }

    /// What to give a child process so that awrite, in it or below it, goes on under this lease when it locks the same
    /// target, instead of waiting for its end. Once the lease is over, awrite fails there.
    #[must_use]
    pub fn hand_over(&self) -> HandOver {
        let Written { record, dir, path } = &self.written;
        let value = inherited::with(*dir, record.token, path.file_name().unwrap_or_default());
        HandOver { fd: None, more: Vec::new(), close: Vec::new(), variable: inherited::VARIABLE, value: Some(value) }
    }

    fn new(store: &LeaseStore<'_>, written: Written) -> Lease {
        let (options, observer) = (store.options.clone(), store.observer.clone());
        let (target, ttl) = (store.target.to_owned(), Duration::from_millis(written.record.ttl_ms));
        Lease { target, written, ttl, options, observer, releases: Some(std::process::id()) }
    }

    /// Reaches this lease, waiting for the lock as `options` say.
    fn store<'a>(&'a self, options: &'a LockOptions) -> LeaseStore<'a> {
        LeaseStore { clock: &Machine, target: &self.target, options, observer: &self.observer }
    }

    /// The fencing token: greater than the token of every earlier lease of this target. A refresh does not change it.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.written.record.token
    }

    /// The claim of its holder, token included, for [`LockOptions::claim`].
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim::of(&self.written.record.owner, self.written.record.token)
    }

    /// What its record says.
    #[must_use]
    pub fn info(&self) -> LeaseInfo {
        LeaseInfo::new(&self.written.record, self.written.path.clone(), &Machine)
    }

    /// How long until it should be refreshed, which is when a third of its time has passed; zero: now. Measured on the
    /// boot clock where there is one. Ask again after each sleep: while the machine is suspended, that clock goes on and a
    /// sleeping thread does not.
    #[must_use]
    pub fn time_to_refresh(&self) -> Duration {
        let left = self.written.record.left(&Machine).unwrap_or_default();
        // At most the whole time: if the wall clock has been set back, more may seem to be left.
        left.min(self.ttl).saturating_sub(self.ttl * 2 / 3)
    }

    /// Makes it last its whole time from now. Works even after its end, as long as nobody else has taken it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`]: another owner has it by now, or it was given back. After any other error
    /// ([`ErrorKind::LockBusy`], [`ErrorKind::LockTimeout`]) the lease is as before, and the caller should try again.
    pub fn refresh(&mut self) -> Result<()> {
        self.written.record = self.store(&self.options).refresh(&self.claim(), Some(self.ttl))?.record;
        Ok(())
    }

    /// Gives it back. If another owner has it by now, nothing is changed, and that is not an error.
    ///
    /// # Errors
    ///
    /// The record could not be removed. The lease then ends by itself.
    pub fn release(mut self) -> Result<()> {
        self.releases = None;
        self.give_back(&self.options)
    }

    /// Leaves it in place until its end, and returns the token.
    pub fn detach(mut self) -> u64 {
        self.releases = None;
        self.written.record.token
    }

    fn give_back(&self, options: &LockOptions) -> Result<()> {
        match self.store(options).end(&self.claim()) {
            Err(e) if e.kind() == ErrorKind::LockLost => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.releases == Some(std::process::id()) {
            // Not for long: this thread may hold the lock itself. A lease that cannot be given back ends by itself.
            let options = LockOptions { wait: Wait::For(DROP_WAIT), use_alarm: false, ..self.options.clone() };
            let _ = self.give_back(&options);
        }
    }
}

/// What the record of a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The record's file.
    pub path: PathBuf,
    /// Whose it is.
    pub owner: String,
    /// Its fencing token.
    pub token: u64,
    /// When it was acquired, by the wall clock.
    pub locked_at: SystemTime,
    /// When it was last refreshed, by the wall clock.
    pub refreshed_at: SystemTime,
    /// When it ends, by the wall clock at the time of writing. [`LeaseInfo::left`] is more reliable.
    pub expires_at: SystemTime,
    /// How long it lasts after a refresh.
    pub ttl: Duration,
    /// The host that wrote the record.
    pub host: String,
    /// The process that wrote it.
    pub pid: u32,
    /// Why it was taken, if its owner said so.
    pub reason: Option<String>,
    /// The time until its end when this was read; `None`: it had expired, or was given back.
    pub left: Option<Duration>,
    until: Moment,
}

impl LeaseInfo {
    fn new(record: &LeaseRecord, path: PathBuf, clock: &dyn Clock) -> LeaseInfo {
        LeaseInfo {
            path,
            owner: record.owner.clone(),
            token: record.token,
            locked_at: system_time(record.locked_at),
            refreshed_at: system_time(record.refreshed_at),
            expires_at: system_time(record.expires_at),
            ttl: Duration::from_millis(record.ttl_ms),
            host: record.host.clone(),
            pid: record.pid,
            reason: record.reason.clone(),
            left: record.left(clock),
            until: record.until(clock),
        }
    }
}

/// `Leased by agent-7 until 10:15:00 (its reason)`, in local time, or `Lease of agent-7 expired`.
impl fmt::Display for LeaseInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            Some(_) => {
                write!(f, "Leased by {} until {}{}", self.owner, self.until, in_brackets(self.reason.as_deref()))
            }
            None => write!(f, "Lease of {} expired", self.owner),
        }
    }
}

/// When the lock at `place` was taken, if it is held: whoever takes a lock by flock makes its file or gives it the time.
pub(crate) fn held_since(place: &Place) -> Option<SystemTime> {
    let status = place.dir.status(&place.name).ok().flatten().filter(|status| status.size == 0)?;
    i64::try_from(status.modified / 1_000_000).ok().map(system_time)
}

/// The lease of the target at `place`, unless it has expired. The observer is told of one that does not count.
pub(crate) fn live_lease(place: &Place, observer: &Observer) -> Result<Option<LeaseInfo>> {
    let record = lease_at(&place.lease, observer)?.filter(|record| record.left(&Machine).is_some());
    Ok(record.map(|record| LeaseInfo::new(&record, place.lease.path(), &Machine)))
}

fn system_time(ms: i64) -> SystemTime {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    // A record has times of the years -9999 to 9999 only. A 64-bit `SystemTime` holds them all.
    time.unwrap_or(UNIX_EPOCH)
}

/// Whether a target is held or leased.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStatus {
    /// Where its lock file is, or would be.
    pub lock_file: PathBuf,
    /// Somebody holds the lock.
    pub held: bool,
    /// Who, where that could be found.
    pub holder: Option<Holder>,
    /// Since when, where that is known: not of link locks, nor of programs that lock a file that was there before.
    pub since: Option<SystemTime>,
    /// Its lease, which may have expired ([`LeaseInfo::left`]).
    pub lease: Option<LeaseInfo>,
}

impl LockStatus {
    /// Neither held nor leased.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !self.held && self.lease.as_ref().is_none_or(|lease| lease.left.is_none())
    }
}
