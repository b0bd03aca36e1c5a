//! The changes of a lease's record. Each is made under the target's lock.
//!
//! ```text
//!   LeaseStore ──under_lock──> LockedStore ──read, decide, put or remove──> the lock is released
//! ```

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, Machine};
use super::door::{Purpose, lock_target};
use super::found::{Record, lease_at, stage_record};
use super::record::{LeaseRecord, MAX_TTL};
use super::set::UNFINISHED;
use super::visitor::{Role, Visitor, ensure_claimed};
use crate::cleanup;
use crate::commit::sync_dir;
use crate::error::{Error, ErrorKind, Result, reason_of};
use crate::lock::{self, Cleared, FileLock, LeaseFile, Place, Writers};
use crate::names::leased_name;
use crate::notice::{Notice, Observer};
use crate::options::{Claim, LockOptions, check_owner, check_reason};
use crate::remedy::Remedy;
use crate::stage::Rename;
use crate::sys::{Dir, FileId};
use crate::target::{Resolve, Target};

/// The lease of a target, whoever has it, and how to lock the target to change the lease.
pub(super) struct LeaseStore<'a> {
    pub(super) clock: &'a dyn Clock,
    pub(super) target: &'a Path,
    pub(super) options: &'a LockOptions,
    pub(super) observer: &'a Observer,
}

/// A record that has been written, and where it is.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) record: LeaseRecord,
    /// Its directory.
    pub(super) dir: FileId,
    pub(super) path: PathBuf,
}

impl LeaseStore<'_> {
    /// Takes the lease for `owner`, or refreshes it where `owner` has it already.
    pub(super) fn acquire(&self, owner: &str, ttl: Duration) -> Result<Written> {
        check_owner(owner)?;
        ensure_ttl(ttl)?;
        self.check_reason()?;
        self.under_lock(Role::Taker(owner), |store| {
            let mut record = match lease_at(store.lease, &Observer::default())? {
                Some(mut own) if own.owner == owner && !own.released => {
                    own.extend(ttl, self.clock);
                    own
                }
                previous => LeaseRecord::new(owner, ttl, previous.as_ref(), self.clock).ok_or_else(|| {
                    let reason = "Not a lease record that can be trusted: there is no greater token";
                    Error::new(ErrorKind::DamagedRecord, reason).on(store.lease.path())
                })?,
            };
            self.give_reason(&mut record);
            store.write(record)
        })
    }

    fn check_reason(&self) -> Result<()> {
        self.options.reason.as_deref().map_or(Ok(()), check_reason)
    }

    fn give_reason(&self, record: &mut LeaseRecord) {
        if self.options.reason.is_some() {
            record.reason.clone_from(&self.options.reason);
        }
    }

    /// Extends the lease that `claim` says, by `ttl` or by its last time.
    pub(super) fn refresh(&self, claim: &Claim, ttl: Option<Duration>) -> Result<Written> {
        ttl.map_or(Ok(()), ensure_ttl)?;
        self.check_reason()?;
        self.under_lock(Role::Keeper, |store| {
            let record = lease_at(store.lease, &Observer::default())?;
            ensure_claimed(claim, record.as_ref(), self.target, self.clock)?;
            // It is claimed, so there is one.
            let Some(mut record) = record else {
                return Err(Error::new(ErrorKind::LockLost, "Not leased").on(self.target));
            };
            record.extend(ttl.unwrap_or(Duration::from_millis(record.ttl_ms)), self.clock);
            self.give_reason(&mut record);
            store.write(record)
        })
    }

    /// Gives back the lease that `claim` says. Returns what it was; `None`: there was none.
    pub(super) fn end(&self, claim: &Claim) -> Result<Option<(LeaseRecord, PathBuf)>> {
        self.finish(|record, _| ensure_claimed(claim, Some(record), self.target, self.clock))
    }

    /// Ends anybody's lease, for a caller who may write the target. Returns what it was; `None`: there was none.
    pub(super) fn end_any(&self) -> Result<Option<(LeaseRecord, PathBuf)>> {
        self.finish(|_, target| match target.dir.may_write(&target.name) {
            Err(e) if target.status.is_some() => {
                Err(Error::io(self.target, e).of_kind(ErrorKind::NotWritable).during("cannot break the lease"))
            }
            _ => Ok(()),
        })
    }

    /// Removes the record of a lease that is over, or keeps its token where that is ahead of the clock. `may` decides.
    fn finish(&self, may: impl FnOnce(&LeaseRecord, &Target) -> Result<()>) -> Result<Option<(LeaseRecord, PathBuf)>> {
        self.under_lock(Role::Keeper, |store| {
            let record = lease_at(store.lease, &Observer::default())?;
            let Some(record) = record.filter(|record| !record.released) else { return Ok(None) };
            may(&record, store.target)?;
            if is_past(record.token, self.clock) {
                remove(&store.lease.dir, &store.lease.name, store.lock)?;
            } else {
                store.put(&LeaseRecord { released: true, ..record.clone() })?;
            }
            Ok(Some((record, store.lease.path())))
        })
    }

    fn under_lock<T>(&self, role: Role<'_>, change: impl FnOnce(&LockedStore<'_>) -> Result<T>) -> Result<T> {
        let options = LockOptions { shared: false, claim: None, ..self.options.clone() };
        let how = Resolve { follow: options.follow, mkdir: false };
        let is_taker = matches!(role, Role::Taker(_));
        let accept = |target: &Target, _: &Place| if is_taker { ensure_may_write(target) } else { Ok(()) };
        let (visitor, observer) = (Visitor { role, clock: self.clock }, self.observer);
        let (target, place, lock) = lock_target(self.target, how, &options, &visitor, observer, Purpose::Hold, accept)?;
        let lease = &place.lease;
        let outcome = change(&LockedStore { lock: &lock, target: &target, lease, options: &options, observer });
        lock.release_or_warn();
        outcome
    }
}

/// Refreshes a lease that an ancestor of this process holds, if that is due. This process has the target's lock, so the
/// ancestor cannot do it, and a waiter would take the lease for expired.
pub(crate) fn refresh_for_ancestor(
    target: &Target,
    lease: &LeaseFile,
    lock: &FileLock,
    options: &LockOptions,
    observer: &Observer,
) -> Result<()> {
    let clock = &Machine;
    if (Visitor { role: Role::Anybody, clock }).inherited_token(lease).is_none() {
        return Ok(());
    }
    let Some(mut record) = lease_at(lease, &Observer::default())? else { return Ok(()) };
    let ttl = Duration::from_millis(record.ttl_ms);
    if record.left(clock).is_some_and(|left| left > ttl * 2 / 3) {
        return Ok(());
    }
    record.extend(ttl, clock);
    LockedStore { lock, target, lease, options, observer }.put(&record)
}

/// Removes the record `name` in `dir`, if it is one and its lease is over. In a dry run, only says whether it would.
///
/// The name of the record leads to the target, and so to the lock at its usual place. If the users of the target lock
/// another file ([`LockOptions::file`]), an owner who comes back to an expired lease may find its record gone.
pub(crate) fn clear(dir: &Arc<Dir>, name: &OsStr, dry_run: bool) -> Result<Cleared> {
    clear_by(&Machine, dir, name, dry_run)
}

pub(super) fn clear_by(clock: &dyn Clock, dir: &Arc<Dir>, name: &OsStr, dry_run: bool) -> Result<Cleared> {
    let read = || Record::read_of(dir, name, |_| true);
    let why_not = || match read().map(|found| found.map(|found| found.record)) {
        // Somebody's file with such a name, or a damaged record, which is reported when the lease is needed.
        Err(e) if e.kind() == ErrorKind::DamagedRecord => Ok(Some(Cleared::Kept("not a lease that can be read"))),
        Err(e) => Err(e),
        Ok(None) => Ok(Some(Cleared::Gone)),
        Ok(Some(Record::Set(_))) => Ok(Some(Cleared::Kept(UNFINISHED))),
        Ok(Some(Record::Lease(record))) if record.left(clock).is_some() => Ok(Some(Cleared::Kept("not expired"))),
        Ok(Some(Record::Lease(record))) if !is_past(record.token, clock) => {
            Ok(Some(Cleared::Kept("its token is ahead of the clock")))
        }
        Ok(Some(Record::Lease(_))) => Ok(None),
    };
    if let Some(reason) = why_not()? {
        return Ok(reason);
    }
    let Some(target) = leased_name(name) else {
        return Ok(Cleared::Kept("its target cannot be told from its name"));
    };
    let target = Target::in_dir(dir, target).map_err(|e| Error::io(dir.join(name), e))?;
    if dry_run {
        let (held, _) = lock::status(&Place::of(&target, &LockOptions::default())?, &target, &Observer::default())?;
        return Ok(if held { Cleared::Kept("in use") } else { Cleared::Removed });
    }
    let (_, lock) = lock::lock_as_found(&target)?;
    let outcome = match why_not()? {
        Some(reason) => Ok(reason),
        None => remove(dir, name, &lock).map(|()| Cleared::Removed),
    };
    lock.release()?;
    outcome
}

/// Whether the time alone makes the next token greater than this one.
fn is_past(token: u64, clock: &dyn Clock) -> bool {
    u64::try_from(clock.wall_us()).is_ok_and(|now| now > token)
}

/// Refuses an existing target that this user may not write: a lease keeps those out who may.
fn ensure_may_write(target: &Target) -> Result<()> {
    if target.status.is_none() || target.is_link() {
        return Ok(());
    }
    match target.dir.may_write(&target.name) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            Err(Error::io(&target.given, e).of_kind(ErrorKind::NotWritable).with_hint(NOT_A_WRITER))
        }
        // Whatever else it is, a lease of it does no harm.
        _ => Ok(()),
    }
}

const NOT_A_WRITER: &str = "only who may write a file may have a lease of it";

fn ensure_ttl(ttl: Duration) -> Result<()> {
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(Error::new(ErrorKind::Usage, "a lease must last more than 0 and at most 10 years"));
    }
    Ok(())
}

/// The lease of a target whose lock is held, so that the record may be changed.
struct LockedStore<'a> {
    lock: &'a FileLock,
    target: &'a Target,
    lease: &'a LeaseFile,
    options: &'a LockOptions,
    observer: &'a Observer,
}

impl LockedStore<'_> {
    fn write(&self, record: LeaseRecord) -> Result<Written> {
        self.put(&record)?;
        Ok(Written { record, dir: self.lease.dir.id(), path: self.lease.path() })
    }

    /// Puts `record` in the place of the one that is there, all at once: staged beside it, synced, renamed.
    fn put(&self, record: &LeaseRecord) -> Result<()> {
        let LeaseFile { dir, name, .. } = self.lease;
        let path = self.lease.path();
        let fail = |e: io::Error| Error::io(&path, e).during("cannot write the lease");
        let text = record.to_json().ok_or_else(|| {
            Error::new(ErrorKind::Io, "the clock is set to a year that cannot be written down").on(&path)
        })?;
        let (writers, nonce) = (Writers::of(self.target, dir), self.lock.held.nonce());
        let mut stage = stage_record(self.lease, &writers, self.options.mode, nonce, &text).map_err(fail)?;
        // Synced once it has a name: btrfs does not log an inode that has none.
        stage.publish().map_err(fail)?;
        stage.file.sync_all().map_err(fail)?;
        stage.flush().map_err(fail)?;
        self.lock.ensure_undisputed()?;
        stage.rename(dir, name, Rename::Place).map_err(|(e, _)| help_past(fail(e), self.lease))?;
        if let Err(e) = sync_dir(dir, &path, self.observer) {
            // Only a warning, since the record is in place. After an error the caller would have a lease without knowing
            // its token.
            let text = format!("the lease may be lost when the power fails: {}", reason_of(&e));
            self.observer.tell(&Notice::Warning { path: &path, text: &text });
        }
        Ok(())
    }
}

/// The error `e`, with what helps where the record that is there is another user's and may not be replaced.
fn help_past(e: Error, lease: &LeaseFile) -> Error {
    match lease.dir.status(&lease.name) {
        Ok(Some(there)) if lease.dir.protects(&there) => {
            e.with_remedy(Remedy::LockPast { path: lease.path(), uid: there.uid })
        }
        _ => e,
    }
}

/// Removes the record `name` in `dir`, under the target's `lock`.
fn remove(dir: &Dir, name: &OsStr, lock: &FileLock) -> Result<()> {
    lock.ensure_undisputed()?;
    match cleanup::step(|| dir.unlink(name)) {
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => {
            Err(Error::io(dir.join(name), e).during("cannot remove the lease"))
        }
        _ => Ok(()),
    }
}
