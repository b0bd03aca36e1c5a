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
use super::found::{Record, lease_at, record_at, stage_record};
use super::mark::{TargetRecord, kept_by_store, mark_text};
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
        check_reason_of(self.options)?;
        self.under_lock(Role::Taker(owner), |store| {
            let mut record = match store.read()? {
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

    fn give_reason(&self, record: &mut LeaseRecord) {
        if self.options.reason.is_some() {
            record.reason.clone_from(&self.options.reason);
        }
    }

    /// Extends the lease that `claim` says, by `ttl` or by its last time.
    pub(super) fn refresh(&self, claim: &Claim, ttl: Option<Duration>) -> Result<Written> {
        ttl.map_or(Ok(()), ensure_ttl)?;
        check_reason_of(self.options)?;
        self.under_lock(Role::Keeper, |store| {
            let record = store.read()?;
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
        self.under_lock(Role::Keeper, |store| {
            store.finish(self.clock, |record, _| ensure_claimed(claim, Some(record), self.target, self.clock))
        })
    }

    /// Ends anybody's lease, for a caller who may write the target. Returns what it was; `None`: there was none. The mark of
    /// a store's leases goes, too, and the observer is told.
    pub(super) fn end_any(&self) -> Result<Option<(LeaseRecord, PathBuf)>> {
        let may = |target: &Target| match target.dir.may_write(&target.name) {
            Err(e) if target.status.is_some() => {
                Err(Error::io(self.target, e).of_kind(ErrorKind::NotWritable).during("cannot break the lease"))
            }
            _ => Ok(()),
        };
        self.under_lock(Role::Keeper, |store| {
            let Some(TargetRecord::Mark(token)) = record_at(store.lease, &Observer::default())? else {
                return store.finish(self.clock, |_, target| may(target));
            };
            may(store.target)?;
            remove(&store.lease.dir, &store.lease.name, store.lock)?;
            let text = format!(
                "removed the mark of leases that a store keeps (greatest token {token}): any token may write it again"
            );
            self.observer.tell(&Notice::Warning { path: self.target, text: &text });
            Ok(None)
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
        Ok(Some(Record::Target(TargetRecord::Mark(_)))) => {
            Ok(Some(Cleared::Kept("it keeps late holders of a store's lease from writing")))
        }
        Ok(Some(Record::Target(TargetRecord::Lease(record)))) => Ok(match record.left(clock) {
            Some(_) => Some(Cleared::Kept("not expired")),
            None if !is_past(record.token, clock) => Some(Cleared::Kept("its token is ahead of the clock")),
            None => None,
        }),
    };
    if let Some(reason) = why_not()? {
        return Ok(reason);
    }
    let Some(target) = leased_name(name) else {
        return Ok(Cleared::Kept("its target cannot be told from its name"));
    };
    let target = Target::in_dir(dir, target).map_err(|e| Error::io(dir.join(name), e))?;
    if dry_run {
        let held = lock::seems_locked(&target)?;
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

pub(super) fn check_reason_of(options: &LockOptions) -> Result<()> {
    options.reason.as_deref().map_or(Ok(()), check_reason)
}

pub(super) fn ensure_ttl(ttl: Duration) -> Result<()> {
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(Error::new(ErrorKind::Usage, "a lease must last more than 0 and at most 10 years"));
    }
    Ok(())
}

/// The lease of a target whose lock is held, so that the record may be changed.
pub(super) struct LockedStore<'a> {
    pub(super) lock: &'a FileLock,
    pub(super) target: &'a Target,
    pub(super) lease: &'a LeaseFile,
    pub(super) options: &'a LockOptions,
    pub(super) observer: &'a Observer,
}

impl LockedStore<'_> {
    /// The lease that is there. An error where a store keeps the leases of the target.
    fn read(&self) -> Result<Option<LeaseRecord>> {
        match record_at(self.lease, &Observer::default())? {
            Some(TargetRecord::Mark(token)) => Err(kept_by_store(&self.target.given, token)),
            record => Ok(record.and_then(TargetRecord::lease)),
        }
    }

    /// Removes the record of a lease that is over, or keeps its token where that is ahead of the clock. `may` decides.
    fn finish(
        &self,
        clock: &dyn Clock,
        may: impl FnOnce(&LeaseRecord, &Target) -> Result<()>,
    ) -> Result<Option<(LeaseRecord, PathBuf)>> {
        let Some(record) = self.read()?.filter(|record| !record.released) else { return Ok(None) };
        may(&record, self.target)?;
        if is_past(record.token, clock) {
            remove(&self.lease.dir, &self.lease.name, self.lock)?;
        } else {
            self.put(&LeaseRecord { released: true, ..record.clone() })?;
        }
        Ok(Some((record, self.lease.path())))
    }

    fn write(&self, record: LeaseRecord) -> Result<Written> {
        self.put(&record)?;
        Ok(Written { record, dir: self.lease.dir.id(), path: self.lease.path() })
    }

    /// Puts `record` in the place of the one that is there.
    fn put(&self, record: &LeaseRecord) -> Result<()> {
        let path = self.lease.path();
        let text = record.to_json().ok_or_else(|| {
            Error::new(ErrorKind::Io, "the clock is set to a year that cannot be written down").on(&path)
        })?;
        if let Err(e) = self.put_text(&text)? {
            // Only a warning, since the record is in place. After an error the caller would have a lease without knowing
            // its token.
            let text = format!("the lease may be lost when the power fails: {}", reason_of(&e));
            self.observer.tell(&Notice::Warning { path: &path, text: &text });
        }
        Ok(())
    }

    /// Puts the mark of a store's leases there, and makes it durable: what is written by a greater token must not survive a
    /// power cut that the mark does not.
    pub(super) fn put_mark(&self, token: u64) -> Result<()> {
        let fail = |e| Error::io(self.lease.path(), e).during("cannot make the mark of the lease's token durable");
        self.put_text(&mark_text(token))?.map_err(fail)
    }

    /// Puts a text in the place of the one that is there, all at once: staged beside it, synced, renamed. The inner result
    /// is that of making the name durable.
    fn put_text(&self, text: &str) -> Result<io::Result<()>> {
        let LeaseFile { dir, name, .. } = self.lease;
        let path = self.lease.path();
        let fail = |e: io::Error| Error::io(&path, e).during("cannot write the lease");
        let (writers, nonce) = (Writers::of(self.target, dir), self.lock.held.nonce());
        let mut stage = stage_record(self.lease, &writers, self.options.mode, nonce, text).map_err(fail)?;
        // Synced once it has a name: btrfs does not log an inode that has none.
        stage.publish().map_err(fail)?;
        stage.file.sync_all().map_err(fail)?;
        stage.flush().map_err(fail)?;
        self.lock.ensure_undisputed()?;
        stage.rename(dir, name, Rename::Place).map_err(|(e, _)| help_past(fail(e), self.lease))?;
        Ok(sync_dir(dir, &path, self.observer))
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
