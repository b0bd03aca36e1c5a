//! Leases: a hold on a target that outlives processes, and ends by itself.
//!
//! The record of a lease ([`record`]) is `TARGET.lease`. What can happen to it:
//!
//! ```text
//!   (none) ────acquire──────────────────────> live ──its time passes──> expired
//!   expired ───acquire, by anyone───────────> live, a greater token
//!   live, expired ──acquire or refresh, by its owner──> live, the same token
//!   live, expired ──release, by its owner──> (none)
//! ```
//!
//! Every arrow but the passing of time is taken under the target's lock: read the record, decide, write the new one
//! beside it, sync, rename. So the record of a live lease is never absent or partial, whoever looks, and nobody who
//! loses a race has written anything. The lock itself is only held for that moment; it is [`Visitor`] that keeps others
//! out meanwhile, in [`lock_target`], for everyone who locks.
//!
//! A token is the time of its acquisition, in microseconds, or one more than the token before, whichever is greater. A
//! release removes the record, since the time will do; if the wall clock has been set back behind the token by then, the
//! record stays, marked as released.

mod clock;
mod door;
mod inherited;
mod record;
#[cfg(test)]
mod tests;
mod visitor;

#[cfg(fuzzing)]
pub(crate) use record::any_record;

use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cleanup;
use crate::commit::sync_dir;
use crate::error::{Error, ErrorKind, Result, reason_of};
use crate::holder::Holder;
use crate::lock::{self, Cleared, FileLock, HandOver, Place, Spot};
use crate::names::leased_name;
use crate::notice::{Notice, Observer};
use crate::options::{Claim, LockOptions, Wait, check_owner};
use crate::stage::{Birth, Rename, Stage};
use crate::sys::{Dir, FileId, FileStatus};
use crate::target::{Resolve, Target};

use clock::{Clock, Machine};
pub(crate) use door::{Purpose, lock_target};
pub use record::MAX_TTL;
use record::{Record, Until};
pub(crate) use visitor::Visitor;
use visitor::{Role, confirm};

/// How long dropping a lease tries to get the lock it needs.
const DROP_WAIT: Duration = Duration::from_secs(1);

/// A lease of a target: keeps every other owner, and every writer without a lease, from it until it ends.
///
/// While this value lives, [`refresh`](Lease::refresh) the lease in good time ([`Lease::due`]): nothing does that by
/// itself. Dropping it gives the lease back, also while a panic unwinds; [`Lease::keep`] leaves it standing, for another
/// process to go on with ([`Lease::resume`]) or to [`end`](Lease::end). In a forked child, dropping its copy does
/// nothing.
///
/// The target's lock is only held for the moment that each of these takes. [`LockOptions::claim`] is of no concern to
/// them. A relative path is looked up in the current directory each time.
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
pub struct Lease {
    target: PathBuf,
    seat: Seat,
    record: Record,
    ttl: Duration,
    options: LockOptions,
    observer: Observer,
    /// The process whose drop ends it; `None` once that is settled.
    releases: Option<u32>,
}

impl Lease {
    /// Takes a lease of `target`, which need not exist, for `ttl` from now. Where `owner` has it already this is a
    /// refresh, and the token stays. Waits for the lock and for the end of another's lease as `options` say.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Leased`]: another owner's lease did not end in time. [`ErrorKind::DamagedRecord`]: the record is kept
    /// as it is. [`ErrorKind::Usage`]: `ttl` is zero or above [`MAX_TTL`], or `owner` is no owner (see [`Claim`]).
    /// Otherwise as [`FileLock::acquire`].
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
        let (record, seat) = acquire(&Machine, target, owner, ttl, options, observer)?;
        Ok(Lease::standing(target, record, seat, options, observer))
    }

    /// Goes on with a lease that another process has acquired and kept: refreshes it, for `ttl` or for as long as it was
    /// last given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`]: the lease is not the one that `claim` says; nothing is changed then. Otherwise as
    /// [`Lease::acquire`].
    pub fn resume(
        target: impl AsRef<Path>,
        claim: &Claim,
        ttl: Option<Duration>,
        options: &LockOptions,
        observer: &Observer,
    ) -> Result<Lease> {
        let target = target.as_ref();
        let (record, seat) = refresh(&Machine, target, claim, ttl, options, observer)?;
        Ok(Lease::standing(target, record, seat, options, observer))
    }

    /// Gives back a lease that another process has acquired and kept. False: there was none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`]: there is one, but not the one that `claim` says; nothing is changed then. Otherwise as
    /// [`FileLock::acquire`].
    pub fn end(target: impl AsRef<Path>, claim: &Claim, options: &LockOptions, observer: &Observer) -> Result<bool> {
        end(&Machine, target.as_ref(), claim, options, observer)
    }

    /// Whether `target` is held or leased, and by whom. Changes nothing and waits for nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DamagedRecord`]: a lease record says nothing that can be trusted. Otherwise what kept the lock file or
    /// the record from being read.
    pub fn status(target: impl AsRef<Path>, options: &LockOptions) -> Result<LockStatus> {
        let how = Resolve { follow: options.follow, mkdir: false };
        let target = Target::resolve(target.as_ref(), how)?;
        let place = Place::of(&target, options)?;
        place.lease.dir.refresh();
        let record = Record::read(&place.lease)?;
        let lease = record.map(|record| LeaseInfo::new(&record, place.lease.path(), &Machine));
        let (held, holder) = lock::status(&place, &target)?;
        Ok(LockStatus { lock_file: place.path, held, holder, lease })
    }

    /// From here on it waits for the lock as `options` say and tells `observer`. It must still be the same lock.
    #[must_use]
    pub fn with_options(mut self, options: &LockOptions, observer: &Observer) -> Lease {
        self.options = options.clone();
        self.observer = observer.clone();
        self
    }

    /// What to give a child process so that whatever awrite does in it or below it with the same target goes on under
    /// this lease, and fails once it is over, instead of waiting for its end.
    #[must_use]
    pub fn hand_over(&self) -> HandOver {
        let name = self.seat.path.file_name().unwrap_or_default();
        let value = inherited::with(self.seat.dir, self.record.token, name);
        HandOver { fd: None, close: Vec::new(), variable: inherited::VARIABLE, value: Some(value) }
    }

    fn standing(target: &Path, record: Record, seat: Seat, options: &LockOptions, observer: &Observer) -> Lease {
        let (options, observer) = (options.clone(), observer.clone());
        let (target, ttl) = (target.to_owned(), Duration::from_millis(record.ttl_ms));
        Lease { target, seat, record, ttl, options, observer, releases: Some(std::process::id()) }
    }

    /// The fencing token: greater than that of every lease of this target before. It stays the same for as long as the
    /// lease does.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.record.token
    }

    /// The claim of its holder, token included, for [`LockOptions::claim`].
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim::of(&self.record.owner, self.record.token)
    }

    /// What its record says.
    #[must_use]
    pub fn info(&self) -> LeaseInfo {
        LeaseInfo::new(&self.record, self.seat.path.clone(), &Machine)
    }

    /// How long until it should be refreshed, which is when a third of its time has passed; zero: now. Measured on the
    /// boot clock where there is one: ask again after a sleep, in which that clock may have gone on without this thread
    /// (the machine was suspended).
    #[must_use]
    pub fn due(&self) -> Duration {
        let left = self.record.left(&Machine).unwrap_or_default();
        // A wall clock set back would have it wait too long.
        left.min(self.ttl).saturating_sub(self.ttl * 2 / 3)
    }

    /// Lets it end its whole time from now. Even when that has passed, so long as nobody else has taken it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LockLost`]: it is another's by now, or was given back. After any other error ([`ErrorKind::LockBusy`],
    /// [`ErrorKind::LockTimeout`]) the lease stands as it stood, and trying again is right.
    pub fn refresh(&mut self) -> Result<()> {
        let ttl = Some(self.ttl);
        let (record, _) = refresh(&Machine, &self.target, &self.claim(), ttl, &self.options, &self.observer)?;
        self.record = record;
        Ok(())
    }

    /// Gives it back. If it is another's by now nothing is changed, and that is no error: it is given back.
    ///
    /// # Errors
    ///
    /// What kept the record from being removed; the lease then ends by itself.
    pub fn release(mut self) -> Result<()> {
        self.releases = None;
        self.give_back(&self.options)
    }

    /// Leaves it standing until its end, and returns the token.
    pub fn keep(mut self) -> u64 {
        self.releases = None;
        self.record.token
    }

    fn give_back(&self, options: &LockOptions) -> Result<()> {
        match end(&Machine, &self.target, &self.claim(), options, &self.observer) {
            Err(e) if e.kind() == ErrorKind::LockLost => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.releases == Some(std::process::id()) {
            // Not for long: this thread may itself hold the lock. A lease that cannot be given back ends by itself.
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
    /// When it ends, by the wall clock of then. [`LeaseInfo::left`] knows better.
    pub expires_at: SystemTime,
    /// How long a refresh lets it last.
    pub ttl: Duration,
    /// The host that wrote the record.
    pub host: String,
    /// The process that wrote it.
    pub pid: u32,
    /// How long it had still to go when this was read; `None`: it had expired, or was given back.
    pub left: Option<Duration>,
    until: Until,
}

impl LeaseInfo {
    fn new(record: &Record, path: PathBuf, clock: &dyn Clock) -> LeaseInfo {
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
            left: record.left(clock),
            until: record.until(clock),
        }
    }
}

/// `Leased by agent-7 until 10:15:00`, in local time, or `Lease of agent-7 expired`.
impl fmt::Display for LeaseInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            Some(_) => write!(f, "Leased by {} until {}", self.owner, self.until),
            None => write!(f, "Lease of {} expired", self.owner),
        }
    }
}

fn system_time(ms: i64) -> SystemTime {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    // A record with a time that cannot be written down is neither read nor made.
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

// ---------------------------------------------------------------------------------------------------------------------
// The changes of a record. Each with the clock that it goes by.

/// Where a record is.
#[derive(Clone, Debug)]
struct Seat {
    dir: FileId,
    path: PathBuf,
}

fn acquire(
    clock: &dyn Clock,
    target: &Path,
    owner: &str,
    ttl: Duration,
    options: &LockOptions,
    observer: &Observer,
) -> Result<(Record, Seat)> {
    check_owner(owner)?;
    check_ttl(ttl)?;
    let visitor = Visitor { role: Role::Taker(owner), clock };
    under_lock(target, options, &visitor, observer, |desk| {
        let record = match desk.read()? {
            Some(mut own) if own.owner == owner && !own.released => {
                own.extend(ttl, clock);
                own
            }
            previous => Record::new(owner, ttl, previous.as_ref(), clock).ok_or_else(|| {
                let reason = "Not a lease record that can be trusted: there is no greater token";
                Error::new(ErrorKind::DamagedRecord, reason).on(desk.spot.path())
            })?,
        };
        desk.put(&record)?;
        Ok((record, desk.seat()))
    })
}

fn refresh(
    clock: &dyn Clock,
    target: &Path,
    claim: &Claim,
    ttl: Option<Duration>,
    options: &LockOptions,
    observer: &Observer,
) -> Result<(Record, Seat)> {
    ttl.map_or(Ok(()), check_ttl)?;
    let visitor = Visitor { role: Role::Keeper, clock };
    under_lock(target, options, &visitor, observer, |desk| {
        let record = desk.read()?;
        confirm(claim, record.as_ref(), target, clock)?;
        // The check has passed, so there is one.
        let Some(mut record) = record else { return Err(Error::new(ErrorKind::LockLost, "Not leased").on(target)) };
        record.extend(ttl.unwrap_or(Duration::from_millis(record.ttl_ms)), clock);
        desk.put(&record)?;
        Ok((record, desk.seat()))
    })
}

/// Refreshes a lease that an ancestor of this process holds, if that is due, under the lock of this process: the ancestor
/// cannot while the lock is held here, and whoever waits would take the lease for over.
pub(crate) fn refresh_for_ancestor(
    target: &Target,
    spot: &Spot,
    lock: &FileLock,
    options: &LockOptions,
    observer: &Observer,
) -> Result<()> {
    let clock = &Machine;
    if (Visitor { role: Role::Anybody, clock }).inherited(spot).is_none() {
        return Ok(());
    }
    let Some(mut record) = Record::read(spot)? else { return Ok(()) };
    let ttl = Duration::from_millis(record.ttl_ms);
    if record.left(clock).is_some_and(|left| left > ttl * 2 / 3) {
        return Ok(());
    }
    record.extend(ttl, clock);
    Desk { lock, target, spot, options, observer }.put(&record)
}

fn end(clock: &dyn Clock, target: &Path, claim: &Claim, options: &LockOptions, observer: &Observer) -> Result<bool> {
    let visitor = Visitor { role: Role::Keeper, clock };
    under_lock(target, options, &visitor, observer, |desk| {
        let Some(mut record) = desk.read()?.filter(|record| !record.released) else { return Ok(false) };
        confirm(claim, Some(&record), target, clock)?;
        if is_past(record.token, clock) {
            remove(desk.spot, desk.lock)?;
        } else {
            record.released = true;
            desk.put(&record)?;
        }
        Ok(true)
    })
}

/// Removes the record `name` in `dir`, if it is one and its lease is over; in a dry run: would it?
///
/// Its name is all that is known of the target, and leads to the target's lock, unless that is one of the caller's choice
/// ([`LockOptions::file`]): whoever uses such a lock and comes back to an expired lease may find it gone.
pub(crate) fn clear(dir: &Arc<Dir>, name: &OsStr, dry_run: bool) -> Result<Cleared> {
    clear_by(&Machine, dir, name, dry_run)
}

fn clear_by(clock: &dyn Clock, dir: &Arc<Dir>, name: &OsStr, dry_run: bool) -> Result<Cleared> {
    let spot = Spot { dir: dir.clone(), name: name.to_owned() };
    let why_not = || match Record::read(&spot) {
        // Somebody's file that happens to have such a name, or a record that speaks for itself when it is needed.
        Err(e) if e.kind() == ErrorKind::DamagedRecord => Ok(Some(Cleared::Kept("not a lease that can be read"))),
        Err(e) => Err(e),
        Ok(None) => Ok(Some(Cleared::Gone)),
        Ok(Some(record)) if record.left(clock).is_some() => Ok(Some(Cleared::Kept("not expired"))),
        Ok(Some(record)) if !is_past(record.token, clock) => Ok(Some(Cleared::Kept("its token is ahead of the clock"))),
        Ok(Some(_)) => Ok(None),
    };
    if let Some(reason) = why_not()? {
        return Ok(reason);
    }
    let Some(target) = leased_name(name) else {
        return Ok(Cleared::Kept("its target cannot be told from its name"));
    };
    let target = Target::in_dir(dir, target).map_err(|e| Error::io(spot.path(), e))?;
    if dry_run {
        let (held, _) = lock::status(&Place::of(&target, &LockOptions::default())?, &target)?;
        return Ok(if held { Cleared::Kept("in use") } else { Cleared::Removed });
    }
    let (_, lock) = lock::lock_as_found(&target)?;
    let outcome = match why_not()? {
        Some(reason) => Ok(reason),
        None => remove(&spot, &lock).map(|()| Cleared::Removed),
    };
    lock.release()?;
    outcome
}

/// Whether the time alone makes the next token greater than this one.
fn is_past(token: u64, clock: &dyn Clock) -> bool {
    u64::try_from(clock.wall_us()).is_ok_and(|now| now > token)
}

fn check_ttl(ttl: Duration) -> Result<()> {
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(Error::new(ErrorKind::Usage, "a lease must last more than 0 and at most 10 years"));
    }
    Ok(())
}

/// Where the record can be changed: the target's lock is held.
struct Desk<'a> {
    lock: &'a FileLock,
    target: &'a Target,
    spot: &'a Spot,
    options: &'a LockOptions,
    observer: &'a Observer,
}

fn under_lock<T>(
    target: &Path,
    options: &LockOptions,
    visitor: &Visitor<'_>,
    observer: &Observer,
    change: impl FnOnce(&Desk<'_>) -> Result<T>,
) -> Result<T> {
    let options = LockOptions { shared: false, claim: None, ..options.clone() };
    let how = Resolve { follow: options.follow, mkdir: false };
    let (target, place, lock) = lock_target(target, how, &options, visitor, observer, Purpose::Hold, |_, _| Ok(()))?;
    let outcome = change(&Desk { lock: &lock, target: &target, spot: &place.lease, options: &options, observer });
    release(lock, observer);
    outcome
}

fn release(lock: FileLock, observer: &Observer) {
    let path = lock.path().to_owned();
    if let Err(e) = lock.release() {
        observer.tell(&Notice::Warning { path: &path, text: &format!("cannot remove the lock file: {e}") });
    }
}

impl Desk<'_> {
    fn seat(&self) -> Seat {
        Seat { dir: self.spot.dir.id(), path: self.spot.path() }
    }

    fn read(&self) -> Result<Option<Record>> {
        Record::read(self.spot)
    }

    /// Makes `record` the one that stands: all at once, whatever was there before.
    fn put(&self, record: &Record) -> Result<()> {
        let Spot { dir, name } = self.spot;
        let path = self.spot.path();
        let fail = |e: std::io::Error| Error::io(&path, e).during("cannot write the lease");
        let text = record.to_json().ok_or_else(|| {
            Error::new(ErrorKind::Io, "the clock is set to a year that cannot be written down").on(&path)
        })?;
        let mut stage = Stage::create(dir.clone(), name, Birth::Private).map_err(fail)?;
        let status = self.target.status.as_ref();
        let mode = self.options.mode.unwrap_or_else(|| lock::default_mode(status));
        let born = FileStatus::of(&stage.file).map_err(fail)?.mode;
        lock::open_to_others(&stage.file, born, mode, status).map_err(fail)?;
        (&stage.file).write_all(text.as_bytes()).map_err(fail)?;
        // See AtomicFile::commit: synced once it has a name.
        stage.publish().map_err(fail)?;
        stage.file.sync_all().map_err(fail)?;
        self.lock.ensure_held()?;
        stage.rename(dir, name, Rename::Place).map_err(|(e, _)| fail(e))?;
        if let Err(e) = sync_dir(dir, &path, self.observer) {
            // It stands. To call that a failure would leave the caller without the token of a lease it has.
            let text = format!("the lease may be lost when the power fails: {}", reason_of(&e));
            self.observer.tell(&Notice::Warning { path: &path, text: &text });
        }
        Ok(())
    }
}

/// To be called under the target's lock.
fn remove(spot: &Spot, lock: &FileLock) -> Result<()> {
    lock.ensure_held()?;
    match cleanup::step(|| spot.dir.unlink(&spot.name)) {
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => {
            Err(Error::io(spot.path(), e).during("cannot remove the lease"))
        }
        _ => Ok(()),
    }
}
