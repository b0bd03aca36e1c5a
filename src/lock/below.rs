//! Going on under a lock by link(2) that a process above this one holds (see baton.rs).

use std::io;
use std::sync::Arc;

use super::flock::LockFile;
use super::held::{FileLock, Held};
use super::inherited::{self, Confirmed, Intent};
use super::look::{Seen, look};
use super::patience::Patience;
use super::place::Place;
use super::proc_locks;
use super::record::Here;
use crate::cleanup;
use crate::error::{Error, ErrorKind, Result};
use crate::options::LockOptions;
use crate::target::Target;

/// The lock at `place` below the process that holds it by link(2), if that is one above this one.
pub(super) fn go_on(
    place: &Place,
    target: &Target,
    options: &LockOptions,
    intent: Intent,
    patience: &mut Patience<'_>,
) -> Result<Option<FileLock>> {
    let batons = inherited::batons();
    if batons.is_empty() {
        return Ok(None);
    }
    loop {
        let Ok(Seen::Record { record, .. }) = look(&place.dir, &place.name) else { return Ok(None) };
        let of_record =
            |baton: &&inherited::Carried| baton.content == record.nonce.as_bytes() && baton.pid == record.pid;
        let Some(baton) = batons.iter().find(of_record).filter(|_| record.is_alive(&Here::now())) else {
            return Ok(None);
        };
        let file = if proc_locks::has_open(baton.pid, baton.id) { baton.open() } else { None };
        let file = file.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "The lock is held above this process, which cannot be confirmed")
                .on(&target.given)
                .with_hint(format!("process {} holds it; this one needs /proc, and to be of the same user", baton.pid))
        })?;
        let Some(ancestor) = inherited::find(&file, baton.id) else { return Ok(None) };
        ancestor.permit(intent, &target.given)?;
        let taken = cleanup::make(|| {
            let file = Arc::new(LockFile::below(place, file, ancestor, record.nonce.clone(), options)?);
            Ok((file.clone(), Held::Flock(file)))
        });
        let (file, ticket) = taken.map_err(|e: io::Error| place.explain(&target.given, e))?;
        let lock = FileLock::take(&file, ticket, target, options, intent, patience)?;
        match file.confirm() {
            Confirmed::Holds => return Ok(Some(lock)),
            Confirmed::Forged => return Ok(None),
            // Given up meanwhile; there may be another.
            Confirmed::Gone => {}
        }
    }
}
