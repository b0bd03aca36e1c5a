//! Going on below an ancestor that holds the lock by link(2): see baton.rs.

use super::flock::LockFile;
use super::held::{FileLock, Taken, list};
use super::inherited::{self, Confirmed};
use super::look::{Seen, look};
use super::proc_locks;
use super::record::Here;
use super::request::Request;
use crate::error::{Error, ErrorKind, Result};

/// Takes the lock below the process that holds it by link(2), if that is an ancestor of this one.
pub(super) fn go_on(request: &mut Request<'_, '_>) -> Result<Option<FileLock>> {
    let batons = inherited::batons();
    if batons.is_empty() {
        return Ok(None);
    }
    let (place, given) = (request.place, &request.target.given);
    loop {
        let Ok(Seen::Record { record, .. }) = look(&place.dir, &place.name) else { return Ok(None) };
        let of_record =
            |baton: &&inherited::InheritedFile| baton.content == record.nonce.as_bytes() && baton.pid == record.pid;
        let Some(baton) = batons.iter().find(of_record).filter(|_| record.is_alive(&Here::now())) else {
            return Ok(None);
        };
        let file = if proc_locks::has_open(baton.pid, baton.id) { baton.open() } else { None };
        let file = file.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "The lock is held above this process, which cannot be confirmed")
                .on(given)
                .with_hint(format!("process {} holds it; this one needs /proc, and to be of the same user", baton.pid))
        })?;
        let Some(ancestor) = inherited::find(&file, baton.id) else { return Ok(None) };
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
