//! Under which lease a write stands, and what a write under a store's lease makes sure of.
//!
//! A store alone cannot keep a late holder out: whoever was paused between the look at the lease and the write writes all
//! the same. So the target itself remembers the greatest token that has written it (mark.rs), and under the target's lock,
//! right before it is replaced:
//!
//! ```text
//!   F1  a greater token has written it, or it has a lease here ──> refused
//!   F2  the mark is raised to this token, and that is made durable
//!   F3  the store says that the lease is still this owner's, with this token
//!   F4  its time is not over by this host's clock
//!   F5  the target is replaced
//! ```
//!
//! The token that the mark is raised to has been confirmed by the store when the lock was taken: one that was mistyped
//! would keep everybody else out. A crash behind F2 leaves the mark greater than the target's last writer, but not greater
//! than the greatest token that the store has given. `fence_model.rs` is this protocol for `cargo test`,
//! `tests/models/fence.pml` for a model checker.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::clock::Machine;
use super::found::{Found, Record};
use super::helper::Client;
use super::inherited;
use super::mark::TargetRecord;
use super::remote::{Remote, name_of_path};
use super::store::LockedStore;
use super::visitor::Leased;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{FileLock, LeaseFile};
use crate::notice::Observer;
use crate::options::{Claim, LockOptions, check_lease_name};
use crate::shown::shown;
use crate::sys::host::boot_clock;
use crate::target::Target;

/// Where a target's record is, and the lease that a write of the target stands under.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) file: LeaseFile,
    /// The lease in a store; `None`: it stands under none. Targets of a set may stand under the same one.
    under: Option<Arc<Fenced>>,
}

#[derive(Debug)]
struct Fenced {
    remote: Remote,
    name: PathBuf,
    /// With the token.
    claim: Claim,
    token: u64,
    /// Its end on this host's boot clock, by the last answer.
    ends: Mutex<Duration>,
}

/// What the targets of a set share: the lease of the one before.
#[derive(Debug, Default)]
pub(crate) struct Shared(Option<Arc<Fenced>>);

impl Shared {
    /// The lease that is wanted, if that is so; asks nothing where it is that of the target before.
    fn fenced(&mut self, wanted: Wanted, target: &Target) -> Result<Arc<Fenced>> {
        let Wanted { url, name, claim } = wanted;
        let before = self.0.take().filter(|before| before.remote.client.url == url);
        let fenced = match before {
            // In a set the claim is one for all.
            Some(before) if before.name == name => before,
            before => {
                let client = before.map_or_else(|| Client::new(&url).map(Arc::new), |b| Ok(b.remote.client.clone()))?;
                let remote = Remote::named(client, &name, &target.given)?;
                let held = remote.ensure_had(&claim)?;
                let claim = Claim::of(claim.owner(), held.token);
                Arc::new(Fenced { remote, name, claim, token: held.token, ends: Mutex::new(held.ends) })
            }
        };
        Ok(self.0.insert(fenced).clone())
    }
}

/// A lease that is asked for.
struct Wanted {
    url: String,
    name: PathBuf,
    claim: Claim,
}

impl Standing {
    /// Finds out under which lease a write of `target` stands, whose lock is held. Under a store's, asks whether that is so.
    pub(crate) fn find(
        file: LeaseFile,
        target: &Target,
        options: &LockOptions,
        shared: &mut Shared,
    ) -> Result<Standing> {
        let Some(wanted) = wanted(target, options)? else {
            return Ok(Standing { file, under: None });
        };
        let standing = Standing { file, under: Some(shared.fenced(wanted, target)?) };
        // Not after whatever makes the content has done its work.
        standing.ensure_greatest(target)?;
        Ok(standing)
    }

    /// F1. Returns the token that the mark is to be raised to.
    pub(crate) fn ensure_greatest(&self, target: &Target) -> Result<Option<u64>> {
        let Some(Fenced { claim, token, .. }) = self.under.as_deref() else { return Ok(None) };
        let found = Record::read(&self.file, &Observer::default())?.and_then(Found::of_target);
        match found {
            Some(TargetRecord::Mark(greatest)) if *token < greatest => {
                let reason = format!(
                    "The lease of {} with token {token} is over: token {greatest} has written it since",
                    claim.owner()
                );
                Err(Error::new(ErrorKind::LockLost, reason).on(&target.given).with_hint(format!(
                    "acquire the lease again; if the store was made anew: AWRITE_STORE= awrite-lock --break {}",
                    shown(&target.given)
                )))
            }
            Some(TargetRecord::Mark(greatest)) if *token == greatest => Ok(None),
            Some(TargetRecord::Lease(lease)) => match lease.left(&Machine) {
                Some(left) => Err(Leased::new(lease.owner, left, lease.reason).without_store(&target.given)),
                None => Ok(Some(*token)),
            },
            _ => Ok(Some(*token)),
        }
    }

    /// F1 to F3. `dry_run`: the mark stays as it is. False: it stands under no lease in a store.
    pub(crate) fn fence(
        &self,
        target: &Target,
        lock: &FileLock,
        options: &LockOptions,
        observer: &Observer,
        dry_run: bool,
    ) -> Result<bool> {
        if let (Some(token), false) = (self.ensure_greatest(target)?, dry_run) {
            LockedStore { lock, target, lease: &self.file, options, observer }.put_mark(token)?;
        }
        self.under.as_deref().map_or(Ok(false), |fenced| fenced.confirm().map(|()| true))
    }

    /// F3 of a set.
    pub(crate) fn confirm_all<'a>(all: impl Iterator<Item = &'a Standing>) -> Result<()> {
        let mut before = None;
        for fenced in all.filter_map(|standing| standing.under.as_ref()) {
            if !before.is_some_and(|before| Arc::ptr_eq(before, fenced)) {
                fenced.confirm()?;
            }
            before = Some(fenced);
        }
        Ok(())
    }

    /// F4.
    pub(crate) fn ensure_in_time(&self) -> Result<()> {
        let Some(Fenced { remote, claim, ends, .. }) = self.under.as_deref() else { return Ok(()) };
        let ends = *ends.lock().unwrap_or_else(PoisonError::into_inner);
        if boot_clock() < ends { Ok(()) } else { Err(remote.over(claim.owner())) }
    }
}

impl Fenced {
    /// F3.
    fn confirm(&self) -> Result<()> {
        let held = self.remote.ensure_had(&self.claim)?;
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = held.ends;
        Ok(())
    }
}

/// The lease in a store that a write of `target` stands under: the one that is claimed, or that of a command above.
fn wanted(target: &Target, options: &LockOptions) -> Result<Option<Wanted>> {
    if let Some(name) = &options.lease {
        check_lease_name(name)?;
    }
    let is_asked_for = options.lease.is_some() || options.claim.is_some() && options.store.is_some();
    if !is_asked_for && (options.claim.is_some() || !inherited::has_stores()) {
        return Ok(None);
    }
    let name = options.lease.as_ref().map_or_else(|| name_of_path(target), |name| Ok(name.into()))?;
    if let Some(claim) = &options.claim {
        let Some(url) = options.store.clone() else {
            let reason = format!("the lease {} is one that a store keeps, and no store is named", shown(&name));
            return Err(usage(reason, target).with_hint("name it: --store or AWRITE_STORE"));
        };
        return Ok(Some(Wanted { url, name, claim: claim.clone() }));
    }
    match inherited::store_lease(&name) {
        Some(entry) => Ok(Some(Wanted { url: entry.url, name, claim: Claim::of(&entry.owner, entry.token) })),
        None if options.lease.is_some() => {
            let reason = format!("this does not run under the lease {}", shown(&name));
            Err(usage(reason, target).with_hint("name its store and owner: --store URL --owner ID"))
        }
        None => Ok(None),
    }
}

fn usage(reason: String, target: &Target) -> Error {
    Error::new(ErrorKind::Usage, reason).on(&target.given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Place;
    use crate::target::Resolve;

    /// The process may have been stopped since the store has answered.
    #[test]
    fn the_clock_is_looked_at_last() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::resolve(&dir.path().join("f"), Resolve { follow: true, mkdir: false }).unwrap();
        let standing = |ends: Option<Duration>| {
            let file = Place::of(&target, &LockOptions::default()).unwrap().lease;
            let under = ends.map(|ends| {
                let client = Arc::new(Client::new("none://x").unwrap());
                let remote = Remote::named(client, "job:x".as_ref(), "f".as_ref()).unwrap();
                let (name, claim) = ("job:x".into(), Claim::of("A", 7));
                Arc::new(Fenced { remote, name, claim, token: 7, ends: Mutex::new(ends) })
            });
            Standing { file, under }.ensure_in_time()
        };
        assert!(standing(None).is_ok());
        assert!(standing(Some(boot_clock() + Duration::from_secs(60))).is_ok());
        let late = standing(Some(boot_clock().saturating_sub(Duration::from_millis(1)))).unwrap_err();
        assert_eq!((late.kind(), late.path()), (ErrorKind::LockLost, Some("f".as_ref())));
    }
}
