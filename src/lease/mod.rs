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
//!
//! A lease may be kept by a store instead ([`LockOptions::store`]): then a helper program is asked ([`remote`]), and nothing
//! is written here but, by a write under it, the mark of its token ([`fence`]).

mod clock;
mod descriptor;
mod door;
mod fence;
#[cfg(test)]
mod fence_model;
mod found;
mod helper;
mod inherited;
mod many;
mod mark;
mod message;
mod percent;
mod record;
mod remote;
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
pub(crate) use fence::{Shared, Standing};
pub use inherited::has_stores;
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
#[cfg(fuzzing)]
pub(crate) use {found::any_record, message::any_answer};

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clock::{Clock, Machine};
use found::{Found, Record, lease_at};
use inherited::StoreLease;
use mark::TargetRecord;
use record::LeaseRecord;
use remote::{GivenBack, Had, Holding, Remote};
use store::{LeaseStore, Written};

use crate::error::{ErrorKind, Result};
use crate::holder::Holder;
use crate::local_time::Moment;
use crate::lock::{self, HandOver, Place};
use crate::notice::Observer;
use crate::options::{Claim, LockOptions, Wait};
use crate::sys::host::{boot_clock, host_name};
use crate::target::{Resolve, Target};

/// How long dropping a lease tries to get the lock that it needs, or to ask the store.
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
    kept: Kept,
    ttl: Duration,
    options: LockOptions,
    observer: Observer,
    /// The process in which dropping it gives it back; `None`: it has been given back, or is to be kept.
    releases: Option<u32>,
}

/// Where a lease is, and what is known of it.
// One of a lease.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum Kept {
    /// In a record beside the target.
    Here(Written),
    /// In a store.
    There(StoredLease),
}

#[derive(Debug)]
struct StoredLease {
    remote: Remote,
    owner: String,
    had: Had,
    /// Of one that was acquired here.
    _given_back: Option<GivenBack>,
    /// When it was had first and last, by the wall clock.
    locked_at: SystemTime,
    refreshed_at: SystemTime,
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
        let target = target.as_ref();
        if let Some(url) = &options.store {
            let remote = Remote::of(url, target, options)?;
            ensure_not_leased_here(target, options, observer)?;
            let (had, given_back) = remote.acquire(owner, ttl, options, observer)?;
            return Ok(Lease::stored(target, (remote, owner, had, Some(given_back)), ttl, options, observer));
        }
        let store = LeaseStore { clock: &Machine, target, options, observer };
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
        let target = target.as_ref();
        if let Some(url) = &options.store {
            let remote = Remote::of(url, target, options)?;
            let had = remote.refresh(claim, ttl, options, Duration::MAX)?;
            let ttl = ttl.unwrap_or_else(|| had.ends.saturating_sub(boot_clock()));
            return Ok(Lease::stored(target, (remote, claim.owner(), had, None), ttl, options, observer));
        }
        let store = LeaseStore { clock: &Machine, target, options, observer };
        Ok(Lease::new(&store, store.refresh(claim, ttl)?))
    }

    /// Gives back a lease that another process has acquired and kept. Returns what it was; `None`: there was none, or a store
    /// keeps it, which does not say.
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
        if let Some(url) = &options.store {
            Remote::of(url, target.as_ref(), options)?.release(claim, Duration::MAX)?;
            return Ok(None);
        }
        let store = LeaseStore { clock: &Machine, target: target.as_ref(), options, observer };
        Ok(store.end(claim)?.map(|(record, path)| LeaseInfo::new(&record, path, &Machine)))
    }

    /// Ends a lease of `target`, whoever has it. Returns what it was; `None`: there was none. Whoever works under it is told
    /// at the next refresh or write. The next token is greater, as ever. Without a store, the mark that the leases of a store
    /// have left beside `target` is removed, too ([`LockOptions::store`]); the observer is told.
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
        if let Some(url) = &options.store {
            let was = Remote::of(url, target.as_ref(), options)?.break_any()?;
            return Ok(was.map(|was| LeaseInfo::of_store(was, None)));
        }
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
        let given = target.as_ref();
        let in_store = match &options.store {
            Some(url) => {
                Remote::of(url, given, options)?.status(Duration::MAX)?.map(|held| LeaseInfo::of_store(held, None))
            }
            None => None,
        };
        if options.store.is_some() && remote::is_plain_target(given) {
            let (lock_file, held, holder, since) = (PathBuf::new(), false, None, None);
            return Ok(LockStatus { lock_file, held, holder, since, lease: in_store, fence: None, interrupted: false });
        }
        let how = Resolve { follow: options.follow, mkdir: false };
        let target = Target::resolve(given, how)?;
        let place = Place::of(&target, options)?;
        place.lease.dir.refresh();
        let found = Record::read(&place.lease, observer)?;
        let (held, holder) = lock::status(&place, &target, observer)?;
        let since = held_since(&place).filter(|_| held);
        let interrupted = !held && is_of_same_set(found.as_ref(), &place);
        let record = found.and_then(Found::of_target);
        let fence = if let Some(TargetRecord::Mark(token)) = record { Some(token) } else { None };
        let here = record.and_then(TargetRecord::lease);
        let here = here.map(|record| LeaseInfo::new(&record, place.lease.path(), &Machine));
        Ok(LockStatus { lock_file: place.path, held, holder, since, lease: in_store.or(here), fence, interrupted })
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
        let value = match &self.kept {
            Kept::Here(Written { record, dir, path }) => {
                inherited::with(*dir, record.token, path.file_name().unwrap_or_default())
            }
            Kept::There(StoredLease { remote, owner, had, .. }) => {
                let (url, owner, token) = (remote.client.url.clone(), owner.clone(), had.token);
                inherited::with_store(&StoreLease { url, owner, token }, &remote.path())
            }
        };
        HandOver { fd: None, more: Vec::new(), close: Vec::new(), variable: inherited::VARIABLE, value: Some(value) }
    }

    fn new(store: &LeaseStore<'_>, written: Written) -> Lease {
        let (options, observer) = (store.options.clone(), store.observer.clone());
        let (target, ttl) = (store.target.to_owned(), Duration::from_millis(written.record.ttl_ms));
        Lease { target, kept: Kept::Here(written), ttl, options, observer, releases: Some(std::process::id()) }
    }

    fn stored(
        target: &Path,
        (remote, owner, had, given_back): (Remote, &str, Had, Option<GivenBack>),
        ttl: Duration,
        options: &LockOptions,
        observer: &Observer,
    ) -> Lease {
        let (owner, now) = (owner.to_owned(), SystemTime::now());
        let stored = StoredLease { remote, owner, had, _given_back: given_back, locked_at: now, refreshed_at: now };
        let kept = Kept::There(stored);
        let (options, observer, releases) = (options.clone(), observer.clone(), Some(std::process::id()));
        Lease { target: target.to_owned(), kept, ttl, options, observer, releases }
    }

    /// Reaches this lease, waiting for the lock as `options` say.
    fn store<'a>(&'a self, options: &'a LockOptions) -> LeaseStore<'a> {
        LeaseStore { clock: &Machine, target: &self.target, options, observer: &self.observer }
    }

    /// The fencing token: greater than the token of every earlier lease of this target. A refresh does not change it.
    #[must_use]
    pub fn token(&self) -> u64 {
        match &self.kept {
            Kept::Here(written) => written.record.token,
            Kept::There(stored) => stored.had.token,
        }
    }

    /// The claim of its holder, token included, for [`LockOptions::claim`].
    #[must_use]
    pub fn claim(&self) -> Claim {
        let owner = match &self.kept {
            Kept::Here(written) => &written.record.owner,
            Kept::There(stored) => &stored.owner,
        };
        Claim::of(owner, self.token())
    }

    /// What its record says; of a lease in a store, what is known here.
    #[must_use]
    pub fn info(&self) -> LeaseInfo {
        match &self.kept {
            Kept::Here(written) => LeaseInfo::new(&written.record, written.path.clone(), &Machine),
            Kept::There(stored) => stored.info(self.ttl, self.options.reason.clone()),
        }
    }

    /// The time until its end; zero: it is over. Of a lease in a store, by this host's boot clock.
    fn left(&self) -> Duration {
        match &self.kept {
            Kept::Here(written) => written.record.left(&Machine).unwrap_or_default(),
            Kept::There(stored) => stored.left(),
        }
    }

    /// How long until it should be refreshed, which is when a third of its time has passed; zero: now. Measured on the
    /// boot clock where there is one. Ask again after each sleep: while the machine is suspended, that clock goes on and a
    /// sleeping thread does not.
    #[must_use]
    pub fn time_to_refresh(&self) -> Duration {
        let left = self.left();
        // At most the whole time: if the wall clock has been set back, more may seem to be left.
        left.min(self.ttl).saturating_sub(self.ttl * 2 / 3)
    }

    /// Makes it last its whole time from now. Works even after its end, as long as nobody else has taken it; but a lease in a
    /// store is over for good once its time has passed by this host's clock.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`]: another owner has it by now, or it was given back. After any other error
    /// ([`ErrorKind::LockBusy`], [`ErrorKind::LockTimeout`]) the lease is as before, and the caller should try again.
    pub fn refresh(&mut self) -> Result<()> {
        self.refresh_within(Duration::MAX)
    }

    /// The same; a store is given only so long to answer.
    ///
    /// # Errors
    ///
    /// As [`Lease::refresh`].
    pub fn refresh_within(&mut self, limit: Duration) -> Result<()> {
        let claim = self.claim();
        if let Kept::There(stored) = &mut self.kept {
            if stored.left().is_zero() {
                return Err(stored.remote.over(&stored.owner));
            }
            stored.had = stored.remote.refresh(&claim, Some(self.ttl), &self.options, limit)?;
            stored.refreshed_at = SystemTime::now();
            return Ok(());
        }
        let record = self.store(&self.options).refresh(&claim, Some(self.ttl))?.record;
        if let Kept::Here(written) = &mut self.kept {
            written.record = record;
        }
        Ok(())
    }

    /// Gives it back. If another owner has it by now, nothing is changed, and that is not an error.
    ///
    /// # Errors
    ///
    /// The record could not be removed. The lease then ends by itself.
    pub fn release(self) -> Result<()> {
        match self.try_release() {
            Err(e) if e.kind() == ErrorKind::LockLost => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// The same, but it is an error if another owner has it by now, or if a store kept it and its time was over here. Returns
    /// what it was; `None`: it was not there any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`]: another owner has it, or may have had it. Otherwise as [`Lease::release`].
    pub fn try_release(mut self) -> Result<Option<LeaseInfo>> {
        self.releases = None;
        self.give_back(&self.options, Duration::MAX)
    }

    /// Leaves it in place until its end, and returns the token.
    pub fn detach(mut self) -> u64 {
        self.releases = None;
        self.token()
    }

    /// A store is given only so long to answer.
    fn give_back(&self, options: &LockOptions, limit: Duration) -> Result<Option<LeaseInfo>> {
        if let Kept::There(stored) = &self.kept {
            // Released is also what was not there: another may have had it since.
            let over = stored.left().is_zero();
            stored.remote.release(&self.claim(), limit)?;
            return if over { Err(stored.remote.over(&stored.owner)) } else { Ok(Some(self.info())) };
        }
        let was = self.store(options).end(&self.claim())?;
        Ok(was.map(|(record, path)| LeaseInfo::new(&record, path, &Machine)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.releases == Some(std::process::id()) {
            // Not for long: this thread may hold the lock itself. A lease that cannot be given back ends by itself.
            let options = LockOptions { wait: Wait::For(DROP_WAIT), use_alarm: false, ..self.options.clone() };
            let _ = self.give_back(&options, DROP_WAIT);
        }
    }
}

impl StoredLease {
    fn left(&self) -> Duration {
        self.had.ends.saturating_sub(boot_clock())
    }

    fn info(&self, ttl: Duration, reason: Option<String>) -> LeaseInfo {
        let holding = Holding {
            owner: self.owner.clone(),
            token: self.had.token,
            left: self.left(),
            ends: self.had.ends,
            reason,
            host: host_name(),
            pid: std::process::id(),
        };
        LeaseInfo::of_store(holding, Some((self.locked_at, self.refreshed_at, ttl)))
    }
}

/// Refuses to lease in a store what is leased without one.
fn ensure_not_leased_here(given: &Path, options: &LockOptions, observer: &Observer) -> Result<()> {
    if remote::is_plain_target(given) {
        return Ok(());
    }
    let target = Target::resolve(given, Resolve { follow: options.follow, mkdir: false })?;
    let visitor = Visitor { role: visitor::Role::Fenced, clock: &Machine };
    visitor.kept_out(&Place::of(&target, options)?.lease, given, observer).map(drop)
}

/// The leases that the store of `options` keeps, with their names, in the order of the names.
pub(crate) fn leases_in_store(url: &str) -> Result<Vec<(PathBuf, LeaseInfo)>> {
    let mut all: Vec<(PathBuf, LeaseInfo)> = Vec::new();
    for (name, held) in remote::list(url)? {
        // A sort of these would be some kilobytes of code.
        let at = all.partition_point(|(other, _)| *other < name);
        all.insert(at, (name, LeaseInfo::of_store(held, None)));
    }
    Ok(all)
}

/// What the record of a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The record's file. Empty: a store keeps the lease. Of one that was only read there, it is not known when it was
    /// acquired and refreshed, nor how long it lasts: the times are those of the reading.
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

    /// Whether a store keeps it.
    #[must_use]
    pub fn is_in_store(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// `times`: when it was acquired and refreshed, and how long it lasts after that, where this is known.
    fn of_store(held: Holding, times: Option<(SystemTime, SystemTime, Duration)>) -> LeaseInfo {
        let now = SystemTime::now();
        let (locked_at, refreshed_at, ttl) = times.unwrap_or((now, now, held.left));
        LeaseInfo {
            path: PathBuf::new(),
            owner: held.owner,
            token: held.token,
            locked_at,
            refreshed_at,
            expires_at: now + held.left,
            ttl,
            host: held.host,
            pid: held.pid,
            reason: held.reason,
            left: Some(held.left),
            until: visitor::until(held.left),
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

/// Whether what was `found` is the record of a set of files, and still there. Its writer has the lock all the time: if that
/// was free meanwhile, the writer was interrupted.
fn is_of_same_set(found: Option<&Found>, place: &Place) -> bool {
    let nonce = |found: &Found| if let Record::Set(set) = &found.record { Some(set.nonce.clone()) } else { None };
    let Some(before) = found.and_then(nonce) else { return false };
    let now = Record::read(&place.lease, &Observer::default());
    now.is_ok_and(|now| now.as_ref().and_then(nonce) == Some(before))
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
    /// The greatest token under which it was written, if that was under leases that a store keeps
    /// ([`LockOptions::store`]).
    pub fence: Option<u64>,
    /// It is one of several files whose replacement was interrupted: whoever locks it next finishes that, or takes it back.
    /// Nobody holds the lock.
    pub interrupted: bool,
}

impl LockStatus {
    /// Neither held nor leased.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !self.held && self.lease.as_ref().is_none_or(|lease| lease.left.is_none())
    }
}
