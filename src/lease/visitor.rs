//! Which leases a caller that locks a target has to wait for.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::clock::{Clock, Machine};
use super::found::record_at;
use super::inherited;
use super::mark::{TargetRecord, kept_by_store};
use super::record::LeaseRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::local_time::Moment;
use crate::lock::LeaseFile;
use crate::notice::Observer;
use crate::options::{Claim, LockOptions};

/// A caller that locks a target, in its relation to the target's lease.
pub(crate) struct Visitor<'a> {
    pub(super) role: Role<'a>,
    pub(super) clock: &'a dyn Clock,
}

pub(super) enum Role<'a> {
    /// Waits for the end of any lease, except one that it runs under.
    Anybody,
    /// Acts under the lease that it claims.
    Holder(&'a Claim),
    /// Acts under a lease that a store keeps, and checks that by itself.
    Fenced,
    /// Wants the lease for this owner.
    Taker(&'a str),
    /// Changes the record, and checks it by itself.
    Keeper,
}

/// Another's lease, which a caller has to wait for.
pub(crate) struct Leased {
    owner: String,
    until: Moment,
    reason: Option<String>,
    /// How long at most.
    pub(super) left: Duration,
}

/// The moment when `left` has passed.
pub(super) fn until(left: Duration) -> Moment {
    let now = Machine.wall_ms();
    Moment { now, time: now.saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)) }
}

impl Leased {
    pub(super) fn new(owner: String, left: Duration, reason: Option<String>) -> Leased {
        Leased { owner, until: until(left), reason, left }
    }

    /// Refuses a writer under a store's lease.
    pub(super) fn without_store(&self, target: &Path) -> Error {
        Error::new(ErrorKind::Leased, format!("Leased by {self}, without the store"))
            .on(target)
            .with_hint("a file has leases in a store or beside it: wait for the end of this one, or break it")
    }

    pub(super) fn refusal(&self, target: &Path) -> Error {
        Error::new(ErrorKind::Leased, format!("Leased by {self}")).on(target)
    }
}

/// `agent-7 until 10:15:00 (rebuilding)`
impl fmt::Display for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {}{}", self.owner, self.until, in_brackets(self.reason.as_deref()))
    }
}

/// The reason of a lease as messages give it.
pub(super) fn in_brackets(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

impl<'a> Visitor<'a> {
    /// A caller that locks a target to use it.
    pub(crate) fn of(options: &'a LockOptions) -> Visitor<'a> {
        let role = match &options.claim {
            Some(_) if options.store.is_some() || options.lease.is_some() => Role::Fenced,
            claim => claim.as_ref().map_or(Role::Anybody, Role::Holder),
        };
        Visitor { role, clock: &Machine }
    }

    /// The lease that this caller has to wait for, if any. An error where waiting would not help. To be asked under
    /// the lock; without it, the answer only tells when to try. The observer is told of a record that does not count.
    pub(crate) fn kept_out(&self, lease: &LeaseFile, target: &Path, observer: &Observer) -> Result<Option<Leased>> {
        if matches!(self.role, Role::Keeper) {
            return Ok(None);
        }
        self.judge(record_at(lease, observer)?, lease, target)
    }

    /// The same, where `record` has been read.
    pub(super) fn judge(
        &self,
        record: Option<TargetRecord>,
        lease: &LeaseFile,
        target: &Path,
    ) -> Result<Option<Leased>> {
        if matches!(self.role, Role::Keeper) {
            return Ok(None);
        }
        let record = match (record, &self.role) {
            (Some(TargetRecord::Mark(token)), Role::Holder(_)) => return Err(kept_by_store(target, token)),
            (record, _) => record.and_then(TargetRecord::lease),
        };
        if matches!(self.role, Role::Fenced) {
            let left = record.as_ref().and_then(|record| record.left(self.clock));
            return match (record, left) {
                (Some(record), Some(left)) => Err(Leased::new(record.owner, left, record.reason).without_store(target)),
                _ => Ok(None),
            };
        }
        if let Role::Holder(claim) = self.role {
            return ensure_claimed(claim, record.as_ref(), target, self.clock).map(|()| None);
        }
        if let Some(token) = self.inherited_token(lease) {
            return match record {
                Some(r) if r.token == token && !r.released => Ok(None),
                _ => Err(Error::new(ErrorKind::LockLost, "The lease that this runs under is over")
                    .on(target)
                    .with_hint("what is to go on after it must be started without AWRITE_LEASED in its environment")),
            };
        }
        let Some(record) = record else { return Ok(None) };
        match (self.taker(), record.left(self.clock)) {
            (_, None) => Ok(None),
            (Some(owner), _) if owner == record.owner => Ok(None),
            (_, Some(left)) => {
                let until = record.until(self.clock);
                Ok(Some(Leased { until, owner: record.owner, reason: record.reason, left }))
            }
        }
    }

    /// Whether the caller acts under one certain lease, and so has to ask again before it replaces the target.
    pub(crate) fn is_bound(&self, lease: &LeaseFile) -> bool {
        matches!(self.role, Role::Holder(_)) || self.inherited_token(lease).is_some()
    }

    /// The token of an ancestor's lease that the caller runs under.
    pub(super) fn inherited_token(&self, lease: &LeaseFile) -> Option<u64> {
        matches!(self.role, Role::Anybody).then(|| inherited::token(lease.dir.id(), &lease.name)).flatten()
    }

    fn taker(&self) -> Option<&str> {
        if let Role::Taker(owner) = self.role { Some(owner) } else { None }
    }
}

/// Refuses to lock as the holder of a lease in a store: a lock does not ask the store.
pub(super) fn ensure_not_fenced(options: &LockOptions) -> Result<()> {
    if options.claim.is_none() || options.store.is_none() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, "a lock cannot be taken as the holder of a lease that a store keeps")
        .with_hint("write as the holder, or run a command under the lease (--ttl)"))
}

/// What helps whoever has lost a lease.
pub(super) const AGAIN: &str = "acquire the lease (again), and read the file anew";

/// Makes sure that `record` is the lease that is claimed. It may have expired, as long as nobody has taken it since.
pub(super) fn ensure_claimed(
    claim: &Claim,
    record: Option<&LeaseRecord>,
    target: &Path,
    clock: &dyn Clock,
) -> Result<()> {
    let why = match record {
        None => format!("Not leased by {}", claim.owner()),
        Some(r) if r.owner != claim.owner() => match r.left(clock) {
            Some(_) => {
                format!("Leased by {} until {}{}", r.owner, r.until(clock), in_brackets(r.reason.as_deref()))
            }
            None => format!("Not leased by {}, but by {} since", claim.owner(), r.owner),
        },
        Some(r) if r.released => format!("Not leased by {} any more", claim.owner()),
        Some(r) => match claim.token() {
            Some(token) if token != r.token => {
                format!("The lease with token {token} is over: {} has token {} now", claim.owner(), r.token)
            }
            _ => return Ok(()),
        },
    };
    Err(Error::new(ErrorKind::LockLost, why).on(target).with_hint(AGAIN))
}
