//! Going on under a lock that this program has already: a write, or a lease, of a target whose lock the caller holds.

use std::time::Instant;

use super::held::{FileLock, Held};
use super::inherited::Intent;
use super::request::Request;
use crate::cleanup::Mark;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Under;

/// What is needed of a held lock to go on under it. It does not keep the lock.
#[derive(Clone, Debug)]
struct Share {
    held: Held,
    intent: Intent,
    /// `None`: it was no lock of this process when it was asked for.
    mark: Option<Mark>,
}

impl Share {
    fn of(lock: &FileLock) -> Share {
        let mark = lock.ticket.as_ref().map_or_else(|| lock.under.clone(), |ticket| Some(ticket.mark()));
        Share { held: lock.held.clone(), intent: lock.intent, mark }
    }
}

impl From<&FileLock> for Under {
    fn from(lock: &FileLock) -> Under {
        Under::new(vec![Share::of(lock)])
    }
}

impl From<&[FileLock]> for Under {
    fn from(locks: &[FileLock]) -> Under {
        Under::new(locks.iter().map(Share::of).collect::<Vec<Share>>())
    }
}

/// The lock that `request` asks for, which is one of those that the caller holds. Releasing it does nothing.
pub(super) fn go_on(under: &Under, request: &Request<'_, '_>) -> Result<FileLock> {
    let place = request.place;
    let refused = |kind, reason: &str| Err(Error::new(kind, reason).on(&request.target.given));
    let shares = under.get::<Vec<Share>>().map(Vec::as_slice).unwrap_or_default();
    let Some(share) = shares.iter().find(|share| share.held.is_at(place)) else {
        let error = refused(ErrorKind::Usage, "The lock that is held is not the lock of this file");
        return error
            .map_err(|e| e.with_hint("it must be found by the same options: lock file, lock directory, follow"));
    };
    if share.intent == Intent::Shared && request.intent != Intent::Shared {
        return refused(ErrorKind::Usage, "The lock that is held is shared with others; this needs it alone");
    }
    let (held, observer) = (share.held.clone(), request.patience.observer.clone());
    let (intent, since, under) = (request.intent, Instant::now(), share.mark.clone());
    let lock = FileLock { ticket: None, held, intent, observer, since, own: None, under };
    lock.ensure_held().map_err(|e| e.on(&request.target.given))?;
    Ok(lock)
}
