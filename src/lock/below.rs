//! Going on below an ancestor that holds the lock by link(2): see baton.rs.

use std::path::Path;

use super::around::{self, Around};
use super::baton;
use super::flock::LockFile;
use super::held::{FileLock, Taken, list};
use super::inherited::{self, Confirmed, InheritedFile};
use super::look::{Seen, look};
use super::record::{Here, LockRecord};
use super::request::Request;
use super::{open_files, proc_locks};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::host;

/// Refuses to wait for a link lock that an ancestor has handed over, but whose baton has not reached this process.
pub(super) fn ensure_not_itself(record: &LockRecord, here: &Here, target: &Path) -> Result<()> {
    let has_baton = |pid: u32| !open_files::called(&pid.to_string(), inherited::BATON).is_empty();
    if record.is_alive(here) && host::ancestors().contains(&record.pid) && has_baton(record.pid) {
        return Err(around::lost_on_the_way(record.pid, target));
    }
    Ok(())
}

/// Takes the lock below the process that holds it by link(2), if that is an ancestor of this one.
pub(super) fn go_on(request: &mut Request<'_, '_>) -> Result<Option<FileLock>> {
    let batons = inherited::batons();
    if batons.is_empty() {
        return Ok(None);
    }
    let (place, given) = (request.place, &request.target.given);
    loop {
        let record = match look(&place.dir, &place.name) {
            Ok(Seen::Record { record, .. }) => record,
            Ok(_) => return ensure_not_lost(&batons, request, None),
            Err(_) => return Ok(None),
        };
        let of_record =
            |baton: &&InheritedFile| baton.nonce() == record.nonce.as_bytes() && [0, record.pid].contains(&baton.pid);
        let here = Here::now();
        let Some(baton) = batons.iter().find(of_record).filter(|_| !record.is_dead(&here)) else {
            return ensure_not_lost(&batons, request, Some(&record));
        };
        let is_its_own = record.is_alive(&here) && proc_locks::has_open(record.pid, baton.id);
        let file = if is_its_own { baton.open() } else { None };
        let file = file.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "The lock is held above this process, which cannot be confirmed")
                .on(given)
                .with_hint(format!(
                    "process {} holds it; this one needs /proc, and to be of the same user and PID namespace",
                    record.pid
                ))
        })?;
        let found = || match around::look(&file, baton.id, None, request.patience.use_alarm) {
            Around::Ancestor(ancestor) => Some(ancestor),
            _ => None,
        };
        let Some(ancestor) = inherited::find(&file, baton.id).or_else(found) else { return Ok(None) };
        ancestor.ensure_grantable(request.intent, given)?;
        let (file, ticket) = list(request, || LockFile::below_link(request, file, ancestor, record.nonce.clone()))?;
        // There is nobody below a baton whom its holder does not know.
        let Taken::Lock(lock) = FileLock::take(&file, ticket, request)? else { return Ok(None) };
        match file.confirm() {
            Confirmed::Holds => return Ok(Some(lock)),
            Confirmed::Forged => return Ok(None),
            // The ancestor has given the lock up. Another ancestor may hold it by now.
            Confirmed::Gone => {}
        }
    }
}

/// Refuses a process that runs below a holder which has lost the lock, or was killed with it. `record` is the lock's now.
/// `None`: it does not.
fn ensure_not_lost(
    batons: &[InheritedFile],
    request: &Request<'_, '_>,
    record: Option<&LockRecord>,
) -> Result<Option<FileLock>> {
    let (number, here) = (baton::number(&request.place.dir, &request.place.name), Here::now());
    let is_lost = |baton: &&InheritedFile| {
        baton.number() == number
            && record.is_none_or(|record| baton.nonce() != record.nonce.as_bytes() || record.is_dead(&here))
            // Whoever gives it back unmarks it first.
            && baton.open().is_some_and(|file| inherited::find(&file, baton.id).is_some())
    };
    match batons.iter().find(is_lost) {
        None => Ok(None),
        Some(_) => Err(Error::new(ErrorKind::LockLost, "The lock that this runs under is lost")
            .on(&request.target.given)
            .with_hint("what is to go on after it must be started without AWRITE_HELD in its environment")),
    }
}
