//! For housekeeping: removing what crashed holders of link locks have left.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use super::inherited::Intent;
use super::link::{Goal, contend};
use super::look::{Seen, look};
use super::place::Place;
use super::record::Here;
use super::request::{Patience, Request};
use crate::cleanup;
use crate::error::{Error, ErrorKind, Result};
use crate::names::{locked_name, marked_name};
use crate::notice::Observer;
use crate::options::{LockOptions, Wait};
use crate::sys::Dir;
use crate::sys::host::wall_clock;
use crate::target::Target;

/// What came of an attempt to remove a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cleared {
    Removed,
    /// It stays, for this reason.
    Kept(&'static str),
    Gone,
}

/// Removes `name` in `dir` if it is a stale link lock, in the way that the next holder would break it.
pub(crate) fn clear_link(dir: &Arc<Dir>, name: &OsStr, dry_run: bool) -> Result<Cleared> {
    let Some(target) = locked_name(name) else {
        return Ok(Cleared::Kept("its target cannot be told from its name"));
    };
    let target = Target::in_dir(dir, target).map_err(|e| Error::io(dir.join(name), e))?;
    clear_stale(&Place::of(&target, &LockOptions::default())?, &target, dry_run)
}

/// Removes the lock at `place` if it is a stale link lock. A lock whose process runs here stays, even if that is silent.
fn clear_stale(place: &Place, target: &Target, dry_run: bool) -> Result<Cleared> {
    let here = Here::now();
    let (record, modified) = match look(&place.dir, &place.name) {
        Ok(Seen::Record { record, modified, .. }) => (record, modified),
        Ok(Seen::Absent) => return Ok(Cleared::Gone),
        Ok(Seen::Empty) => return Ok(Cleared::Kept("in use")),
        Err(e) if e.kind() == ErrorKind::NotAFile => return Ok(Cleared::Kept("not empty")),
        Err(e) => return Err(e),
    };
    if record.is_alive(&here) {
        return Ok(Cleared::Kept("in use"));
    }
    if dry_run {
        // By this machine's clock: to read the server's, we would have to create a file there.
        let silence = u64::try_from(wall_clock() - modified).map_or(Duration::ZERO, Duration::from_nanos);
        let stale = record.is_dead(&here) || silence >= record.stale_after();
        return Ok(if stale { Cleared::Removed } else { Cleared::Kept("in use") });
    }
    let (options, observer) = (LockOptions { wait: Wait::No, ..LockOptions::default() }, Observer::default());
    let (patience, intent) = (&mut Patience::new(&target.given, &options, &observer), Intent::Exclusive);
    match contend(&mut Request { place, target, options: &options, intent, patience }, Goal::Clear) {
        Ok(Some(broken)) => broken.release().map(|()| Cleared::Removed),
        Ok(None) => Ok(Cleared::Gone),
        Err(e) if e.kind() == ErrorKind::LockBusy => Ok(Cleared::Kept("in use")),
        Err(e) => Err(e),
    }
}

/// Removes the mark `name` in `dir` if its lock does not have the nonce that the mark is for. Such a mark never means
/// anything again.
pub(crate) fn clear_mark(dir: &Dir, name: &OsStr, dry_run: bool) -> Result<Cleared> {
    let Some((of, nonce)) = marked_name(name) else {
        return Ok(Cleared::Kept("its lock cannot be told from its name"));
    };
    match look(dir, name) {
        Ok(Seen::Record { .. }) => {}
        Ok(Seen::Absent) => return Ok(Cleared::Gone),
        Ok(Seen::Empty) => return Ok(Cleared::Kept("empty")),
        Err(e) if e.kind() == ErrorKind::NotAFile => return Ok(Cleared::Kept("not of a lock")),
        Err(e) => return Err(e),
    }
    match look(dir, of) {
        Ok(seen) if seen.has_nonce(nonce) => return Ok(Cleared::Kept("in use")),
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotAFile => {}
        Err(e) => return Err(e),
    }
    if !dry_run {
        match cleanup::step(|| dir.unlink(name)) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => return Err(Error::io(dir.join(name), e)),
            _ => {}
        }
    }
    Ok(Cleared::Removed)
}
