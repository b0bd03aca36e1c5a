//! Opening a lock file: who may open it, and the mode that a new one gets.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::thread::sleep;

use rustix::fs::OFlags;

use super::place::{Place, not_regular};
use super::waiting::{TRIES, TRY_PAUSE};
use crate::sys::lease::open_past_leases;
use crate::sys::{Dir, FileKind};

/// With O_DIRECT, Linux asks an NFS server not to delegate the file. A client with a delegation sets the file's times by
/// its own clock and tells the server later (RFC 9754).
#[cfg(target_os = "linux")]
const NOT_DELEGATED: OFlags = OFlags::DIRECT;
#[cfg(not(target_os = "linux"))]
const NOT_DELEGATED: OFlags = OFlags::empty();

/// Opens the lock file, or creates it; true: this call created it.
///
/// Uncontended, that is one system call. O_EXCL, because `fs.protected_regular` refuses O_CREAT on others' files in
/// sticky directories. Never O_TRUNC: through a link it would empty the file behind it (CVE-2025-68146).
pub(super) fn open_or_create(place: &Place, mode: u32) -> io::Result<(File, bool)> {
    let mut refusals = 0;
    // On a loaded machine it may take a while until it is.
    let tries = if place.lease.writers.are_several() { 20 * TRIES } else { TRIES };
    loop {
        match place.dir.open_file(&place.name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode) {
            Ok(file) => return Ok((file, true)),
            Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
            Err(_) => {}
        }
        match open_existing(place) {
            Ok(Some(file)) => return Ok((file, false)),
            // Removed by its holder between the calls.
            Ok(None) => {}
            // Just created by another, who is about to open it to this user (see Writers::give).
            Err(e) if e.raw_os_error() == Some(libc::EACCES) && refusals < tries => {
                refusals += 1;
                sleep(TRY_PAUSE);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Opens the lock file if there is one.
pub(super) fn open_existing(place: &Place) -> io::Result<Option<File>> {
    // Asked before opening: opening a device or a FIFO has effects.
    match place.dir.status(&place.name)? {
        None => return Ok(None),
        Some(s) if s.kind == FileKind::Regular => {}
        Some(s) => return Err(not_regular(&place.path, s.kind).into()),
    }
    let open = |access| open_past_leases(|| place.dir.open_file(&place.name, access | OFlags::NONBLOCK, 0));
    let opened = open(OFlags::RDWR).or_else(|e| match e.raw_os_error() {
        // An exclusive flock needs no write permission on a local file system.
        Some(libc::EACCES) => open(OFlags::RDONLY),
        _ => Err(e),
    });
    match opened {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Opens a link lock to set its time, which is the holder's sign of life.
///
/// For writing, so that an NFS server gives no waiter a delegation for reading. The server would have to recall all
/// delegations before every sign of life, and would wait long for the answer of a dead client.
pub(super) fn open_for_touch(dir: &Dir, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK;
    match dir.open_file(name, flags | NOT_DELEGATED, 0) {
        // Some file systems do not support O_DIRECT.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => dir.open_file(name, flags, 0),
        outcome => outcome,
    }
}
