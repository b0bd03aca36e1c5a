//! Going on under a lock by link(2) that an ancestor of this process holds.
//!
//! The kernel knows nothing of such a lock. So its holder gives its children something that the kernel does know, a
//! baton: a file in memory (memfd_create(2)) with the lock's nonce in it, which the holder has locked by `flock`. Below
//! that all is as below a `flock` (inherited.rs), with the baton in the place of the lock file.
//!
//! A nonce can be read by others, who could make such a file too. So a baton counts only if the process that the lock's
//! record names has this very file open: nobody can put one there from outside.
//!
//! The lock ends with its holder, be there somebody below it or not; before a commit that one looks for the nonce
//! ([`still_holds`]).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

use super::flock::LockFile;
use super::heartbeat::open_for_touch;
use super::inherited::{self, Confirmed, HandOver, Mode};
use super::link::{Seen, is_contention, look, read};
use super::place::Place;
use super::record::{Here, Record};
use super::{FileLock, Held, Patience, holder};
use crate::cleanup::{self, Thing};
use crate::error::{Error, ErrorKind, Result};
use crate::options::LockOptions;
use crate::sys::dir::{modified_and_links, touch};
use crate::sys::{self, Dir, FileStatus};
use crate::target::Target;

#[derive(Debug)]
pub(super) struct Baton(File);

impl Baton {
    #[cfg(target_os = "linux")]
    pub(super) fn new(nonce: &str) -> io::Result<Baton> {
        use std::io::Write;

        use rustix::fs::{MemfdFlags, memfd_create};

        let mut file = File::from(memfd_create("awrite-baton", MemfdFlags::CLOEXEC)?);
        file.write_all(nonce.as_bytes())?;
        sys::try_flock(&file, false)?;
        Ok(Baton(file))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new(_nonce: &str) -> io::Result<Baton> {
        Err(rustix::io::Errno::NOSYS.into())
    }

    pub(super) fn hand_over(&self, mode: Mode) -> io::Result<HandOver> {
        inherited::hand_over(&self.0, FileStatus::of(&self.0)?.id, mode, 0)
    }

    /// Nobody begins to go on under the lock from now on.
    pub(super) fn take_back(&self) {
        // Explicitly, not only by closing: children have the descriptor. An error would leave them with a baton whose
        // nonce stands nowhere any more.
        let _ = inherited::release(&self.0);
        let _ = sys::unflock(&self.0);
    }
}

/// The lock at `place` below the process that holds it by link(2), if that is one above this one.
pub(super) fn go_on(
    place: &Place,
    target: &Target,
    options: &LockOptions,
    mode: Mode,
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
        let file = if holder::has_open(baton.pid, baton.id) { baton.open() } else { None };
        let file = file.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "The lock is held above this process, which cannot be confirmed")
                .on(&target.given)
                .with_hint(format!("process {} holds it; this one needs /proc, and to be of the same user", baton.pid))
        })?;
        let Some(ancestor) = inherited::find(&file, baton.id) else { return Ok(None) };
        ancestor.permit(mode, &target.given)?;
        let taken = cleanup::make(|| {
            let file = Arc::new(LockFile::below(place, file, ancestor, record.nonce.clone(), options)?);
            Ok((file.clone(), Thing::Lock(Held::Flock(file))))
        });
        let (file, ticket) = taken.map_err(|e: io::Error| place.explain(&target.given, e))?;
        let lock = FileLock::take(&file, ticket, target, options, mode, patience)?;
        match file.confirm() {
            Confirmed::Holds => return Ok(Some(lock)),
            Confirmed::Forged => return Ok(None),
            // Given up meanwhile; there may be another.
            Confirmed::Gone => {}
        }
    }
}

/// Whether the lock `name` is still the one with `nonce`, for one who is about to commit below it. Gives a sign of life
/// for its holder, so that nobody breaks it right then.
pub(super) fn still_holds(dir: &Dir, name: &OsStr, nonce: &str) -> Result<bool> {
    let outcome = sign_of_life(dir, name, nonce);
    match outcome {
        Err(e) if e.raw_os_error().is_some_and(is_contention) => Ok(false),
        outcome => outcome.map_err(|e| Error::io(dir.join(name), e)),
    }
}

fn sign_of_life(dir: &Dir, name: &OsStr, nonce: &str) -> io::Result<bool> {
    dir.refresh();
    let file = dir.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
    let (bytes, before, links) = read(&file)?;
    let Ok(record) = Record::parse(&bytes) else { return Ok(false) };
    let again = open_for_touch(dir, name)?;
    if record.nonce != nonce || links == 0 || FileStatus::of(&again)?.id != FileStatus::of(&file)?.id {
        return Ok(false);
    }
    touch(&again)?;
    let (after, _) = modified_and_links(&again)?;
    Ok(!record.is_too_long(Duration::from_nanos(u64::try_from(after - before).unwrap_or(0))))
}
