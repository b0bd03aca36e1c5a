//! Opening a lock file: who may, and with which mode it is made.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::thread::sleep;

use rustix::fs::OFlags;

use super::place::Place;
use super::waiting::{GLANCE, GLANCES};
use crate::sys::{Dir, FileKind, FileStatus};

/// Linux tells an NFS server by O_DIRECT that it wants no delegation: with one it would set the file's times by its own
/// clock, and tell the server later (RFC 9754).
#[cfg(target_os = "linux")]
const NOT_DELEGATED: OFlags = OFlags::DIRECT;
#[cfg(not(target_os = "linux"))]
const NOT_DELEGATED: OFlags = OFlags::empty();

/// The lock file, and whether this call made it.
///
/// Uncontended, one call: create it. O_EXCL because `fs.protected_regular` refuses O_CREAT on others' files in sticky
/// directories; never O_TRUNC, which through a link would empty what the link leads to (CVE-2025-68146).
pub(super) fn open_or_create(place: &Place, mode: u32) -> io::Result<(File, bool)> {
    let mut refusals = 0;
    loop {
        match place.dir.open_file(&place.name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode) {
            Ok(file) => return Ok((file, true)),
            Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
            Err(_) => {}
        }
        // Look before opening: to open a device or a FIFO does something.
        match place.dir.status(&place.name)? {
            None => continue,
            Some(s) if s.kind == FileKind::Regular => {}
            Some(s) if s.kind == FileKind::Symlink => return Err(io::Error::from_raw_os_error(libc::ELOOP)),
            Some(s) => return Err(io::Error::other(format!("Lock file is a {}", s.kind.name()))),
        }
        match open_existing(place) {
            // Removed by its holder between the two calls.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            // Just created by root, and about to be opened to this user (see open_to_others).
            Err(e) if e.raw_os_error() == Some(libc::EACCES) && refusals < GLANCES => {
                refusals += 1;
                sleep(GLANCE);
            }
            outcome => return outcome.map(|file| (file, false)),
        }
    }
}

pub(super) fn open_existing(place: &Place) -> io::Result<File> {
    place.dir.open_file(&place.name, OFlags::RDWR | OFlags::NONBLOCK, 0).or_else(|e| match e.raw_os_error() {
        // An exclusive flock needs no write permission on a local file system.
        Some(libc::EACCES) => place.dir.open_file(&place.name, OFlags::RDONLY | OFlags::NONBLOCK, 0),
        _ => Err(e),
    })
}

/// All who may write the target must be able to lock it.
pub(crate) fn default_mode(target: Option<&FileStatus>) -> u32 {
    let written_by = target.map_or(0, |t| t.mode);
    let group = if written_by & 0o020 != 0 { 0o060 } else { 0 };
    let others = if written_by & 0o002 != 0 { 0o006 } else { 0 };
    0o600 | group | others
}

/// Undoes what the umask took from the `wanted` mode, and gives root's lock file to the target's owner.
pub(crate) fn open_to_others(file: &File, mode: u32, wanted: u32, target: Option<&FileStatus>) -> io::Result<()> {
    let others = target.filter(|t| (t.uid, t.gid) != (0, 0));
    if let Some(t) = others.filter(|_| rustix::process::geteuid().is_root()) {
        use rustix::fs::{Gid, Uid};
        use rustix::io::Errno;
        match rustix::fs::fchown(file, Some(Uid::from_raw(t.uid)), Some(Gid::from_raw(t.gid))) {
            // Root without the capability, or a file system without owners: the lock works all the same.
            Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    if mode != wanted {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(wanted))?;
    }
    Ok(())
}

/// Opens a lock to give a sign of life.
///
/// For writing, so that an NFS server delegates the file to none of those who only look: it would have to ask all of them
/// back before every sign of life, and wait long for one that is dead.
pub(super) fn open_for_touch(dir: &Dir, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK;
    match dir.open_file(name, flags | NOT_DELEGATED, 0) {
        // Not every file system has O_DIRECT.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => dir.open_file(name, flags, 0),
        outcome => outcome,
    }
}
