//! Going on under a lock by link(2) that an ancestor of this process holds.
//!
//! The kernel knows nothing of such a lock. So its holder gives its children something that the kernel does know, a
//! baton: a file in memory (memfd_create(2)) that contains the lock's nonce and its number, locked by the holder with
//! `flock`. From there on everything is as below a `flock` (inherited.rs), with the baton in place of the lock file.
//!
//! ```text
//!   made, locked ──hand_over: mark──> handed on ──take_back: wait for those below──> ──kill: unlock──> dead
//! ```
//!
//! Only the holder moves a baton. Others can read the nonce and could make such a file too. So a baton counts only if the
//! process that the lock's record names has this very file open: nobody can put a file there from outside.
//!
//! The lock ends with its holder, even while somebody goes on below it. So a process below looks for the nonce before it
//! commits ([`still_holds`]). And one that begins later must not take the lock as any other does: what it is to write may
//! come of what was read under the lock that is lost. Its baton tells that it had one, since only a holder that has given
//! the lock back has killed it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fs::OFlags;

use super::access::open_for_touch;
use super::inherited::{self, HandOver, Handed, Intent};
use super::look::{is_contention, is_record_of, read};
use super::record::LockRecord;
use crate::error::{Error, Result};
use crate::names::{NONCE, fnv1a};
use crate::sys::dir::{modified_and_links, touch};
use crate::sys::{self, Dir, FileStatus};

#[derive(Debug)]
pub(super) struct Baton {
    file: File,
    handed: Handed,
}

impl Baton {
    #[cfg(target_os = "linux")]
    pub(super) fn new(nonce: &str, dir: &Dir, name: &OsStr) -> io::Result<Baton> {
        use std::io::Write;

        use rustix::fs::{MemfdFlags, memfd_create};

        let mut file = File::from(memfd_create(inherited::BATON, MemfdFlags::CLOEXEC)?);
        file.write_all(nonce.as_bytes())?;
        file.write_all(&number(dir, name))?;
        sys::try_flock(&file, false)?;
        Ok(Baton { file, handed: Handed::default() })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new(_nonce: &str, _dir: &Dir, _name: &OsStr) -> io::Result<Baton> {
        Err(rustix::io::Errno::NOSYS.into())
    }

    pub(super) fn hand_over(&self, intent: Intent, can_wait: bool) -> io::Result<HandOver> {
        self.handed.hand_over(&self.file, FileStatus::of(&self.file)?.id, intent, None, can_wait)
    }

    /// Ends the handing on, once nobody goes on below the lock any more.
    pub(super) fn take_back(&self, tell: impl FnOnce()) {
        self.handed.take_back(&self.file, tell);
    }

    /// From now on nobody can begin to go on under the lock.
    pub(super) fn kill(&self) {
        // Not only by closing: children have the descriptor. An error would leave them a baton whose nonce is in no lock
        // any more.
        let _ = inherited::release(&self.file);
        let _ = sys::unflock(&self.file);
    }
}

/// A number for the lock `name`, in as many digits as a nonce has.
pub(super) fn number(dir: &Dir, name: &OsStr) -> Vec<u8> {
    let id = dir.id();
    let bytes = [&id.dev.to_ne_bytes(), &id.ino.to_ne_bytes(), name.as_bytes()].concat();
    format!("{:0NONCE$x}", fnv1a(&bytes)).into_bytes()
}

/// Whether the lock `name` still has `nonce`, for a process that is about to commit below it. Gives a sign of life on
/// behalf of the holder, so that nobody breaks the lock during the commit.
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
    let Ok(record) = LockRecord::parse(&bytes) else { return Ok(false) };
    let again = open_for_touch(dir, name)?;
    if record.nonce != nonce || links == 0 {
        return Ok(false);
    }
    // Where the numbers differ it may still be the same file: a nonce that is gone never comes back.
    let id = FileStatus::of(&again)?.id;
    if id != FileStatus::of(&file)?.id && !is_record_of(dir, name, nonce, id)? {
        return Ok(false);
    }
    touch(&again)?;
    let (after, _) = modified_and_links(&again)?;
    Ok(!record.is_too_long(Duration::from_nanos(u64::try_from(after - before).unwrap_or(0))))
}
