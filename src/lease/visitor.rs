//! Who comes to lock a target, as far as its lease is concerned: whose lease it has to wait for, and whose not.

use std::path::Path;
use std::time::Duration;

use super::clock::{Clock, Machine};
use super::inherited;
use super::record::{Record, Until};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Spot;
use crate::options::{Claim, LockOptions};

/// Who comes to lock a target, as far as its lease is concerned.
pub(crate) struct Visitor<'a> {
    pub(super) role: Role<'a>,
    pub(super) clock: &'a dyn Clock,
}

pub(super) enum Role<'a> {
    /// Waits for the end of any lease but one that it runs below.
    Anybody,
    /// Acts under a lease.
    Holder(&'a Claim),
    /// Wants the lease for this owner.
    Taker(&'a str),
    /// Has to do with the record alone, and looks at it itself.
    Keeper,
}

/// A lease that keeps a visitor out.
pub(crate) struct Leased {
    owner: String,
    until: Until,
    /// How long at most.
    pub(crate) left: Duration,
}

impl Leased {
    pub(crate) fn refusal(&self, target: &Path) -> Error {
        Error::new(ErrorKind::Leased, format!("Leased by {} until {}", self.owner, self.until)).on(target)
    }
}

impl<'a> Visitor<'a> {
    /// One who locks a target to do something with it.
    pub(crate) fn of(options: &'a LockOptions) -> Visitor<'a> {
        let role = options.claim.as_ref().map_or(Role::Anybody, Role::Holder);
        Visitor { role, clock: &Machine }
    }

    /// The lease for whose end this visitor has to wait; `None`: nothing is in the way. An error where waiting is of no
    /// use. To be asked under the lock, but for those who only want to know when to try.
    pub(crate) fn kept_out(&self, spot: &Spot, target: &Path) -> Result<Option<Leased>> {
        if matches!(self.role, Role::Keeper) {
            return Ok(None);
        }
        let record = Record::read(spot)?;
        if let Role::Holder(claim) = self.role {
            return confirm(claim, record.as_ref(), target, self.clock).map(|()| None);
        }
        if let Some(token) = self.inherited(spot) {
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
            (_, Some(left)) => Ok(Some(Leased { until: record.until(self.clock), owner: record.owner, left })),
        }
    }

    /// Whether it has to do with one lease only, of which it has to make sure again before it changes anything.
    pub(crate) fn is_bound(&self, spot: &Spot) -> bool {
        matches!(self.role, Role::Holder(_)) || self.inherited(spot).is_some()
    }

    /// The token of a lease that an ancestor of this process has.
    pub(super) fn inherited(&self, spot: &Spot) -> Option<u64> {
        matches!(self.role, Role::Anybody).then(|| inherited::token(spot.dir.id(), &spot.name)).flatten()
    }

    fn taker(&self) -> Option<&str> {
        if let Role::Taker(owner) = self.role { Some(owner) } else { None }
    }
}

/// Whether `record` is the lease that is claimed. Its time does not matter: what counts is that nobody has taken it.
pub(super) fn confirm(claim: &Claim, record: Option<&Record>, target: &Path, clock: &dyn Clock) -> Result<()> {
    let why = match record {
        None => format!("Not leased by {}", claim.owner()),
        Some(r) if r.owner != claim.owner() => match r.left(clock) {
            Some(_) => format!("Leased by {} until {}", r.owner, r.until(clock)),
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
    Err(Error::new(ErrorKind::LockLost, why).on(target).with_hint("acquire the lease (again), and read the file anew"))
}
