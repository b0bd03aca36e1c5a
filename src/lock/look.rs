//! Reading what stands under a lock's name. The file server is asked: neither the name nor the content may come from this
//! machine's cache.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::thread::sleep;

use rustix::fs::OFlags;

use super::place::{Place, not_ours, not_regular};
use super::record::{Here, LONGEST, LockRecord, Unreadable};
use super::waiting::{TRIES, TRY_PAUSE};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::notice::Observer;
use crate::remedy::Remedy;
use crate::sys::dir::modified_and_links;
use crate::sys::lease::open_past_leases;
use crate::sys::{Dir, FileId, FileKind, FileStatus};

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Seen {
    Absent,
    /// An empty lock file: that of a holder, or waiter, that uses `flock`.
    Empty,
    Record {
        record: LockRecord,
        /// When its holder last gave a sign of life, by the server's clock.
        modified: i128,
        /// Whom the file belongs to.
        uid: u32,
    },
}

impl Seen {
    pub(super) fn has_nonce(&self, nonce: &str) -> bool {
        matches!(self, Seen::Record { record, .. } if record.nonce == nonce)
    }
}

/// Reads what stands under `name`.
pub(super) fn look(dir: &Dir, name: &OsStr) -> Result<Seen> {
    let path = dir.join(name);
    let mut refusals = 0;
    loop {
        dir.refresh();
        // Asked before opening: opening a device or a FIFO has effects.
        match dir.status(name).map_err(|e| Error::io(&path, e))? {
            None => return Ok(Seen::Absent),
            Some(s) if s.kind == FileKind::Regular => {}
            Some(s) => return Err(not_regular(&path, s.kind)),
        }
        let opened = open_past_leases(|| dir.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0));
        let outcome = opened.and_then(|file| Ok((read(&file)?, FileStatus::of(&file)?.uid)));
        match outcome {
            Ok(((bytes, _, _), _)) if bytes.is_empty() => return Ok(Seen::Empty),
            // Removed since its name was looked up; or earlier, if this client was not told.
            Ok(((_, _, 0), _)) if refusals < TRIES => refusals += 1,
            Ok(((_, _, 0), _)) => return Ok(Seen::Absent),
            Ok(((bytes, modified, _), uid)) => {
                return match LockRecord::parse(&bytes) {
                    Ok(record) => Ok(Seen::Record { record, modified, uid }),
                    Err(Unreadable::Foreign) => Err(not_ours(&path)),
                    Err(Unreadable::Future) => {
                        Err(Error::new(ErrorKind::NotAFile, "Lock file was written by a newer version of awrite")
                            .on(path))
                    }
                };
            }
            Err(e) => match e.raw_os_error() {
                Some(libc::ENOENT) => return Ok(Seen::Absent),
                // ESTALE: removed by another client while we had it open. EACCES: perhaps just created by root, who is
                // about to open it to this user.
                Some(libc::ESTALE | libc::EACCES) if refusals < TRIES => {
                    refusals += 1;
                    sleep(TRY_PAUSE);
                }
                Some(libc::ESTALE) => return Ok(Seen::Absent),
                Some(libc::EACCES) => {
                    return Err(Error::io(path, e).with_remedy(Remedy::Permissions));
                }
                _ => return Err(Error::io(path, e)),
            },
        }
    }
}

/// Whether the record with `nonce` stands under `name`, which may be one of several names of the file `id`. The number
/// alone says nothing: some file systems give each name its own (sshfs, CIFS with `noserverino`), and a server may give
/// the number of a file that it has dropped to another.
pub(super) fn is_record_of(dir: &Dir, name: &OsStr, nonce: &str, id: FileId) -> io::Result<bool> {
    match look(dir, name) {
        Ok(seen) => Ok(seen.has_nonce(nonce)),
        Err(e) if e.kind() == ErrorKind::NotAFile => Ok(false),
        // No descriptor is left to read it by, or it is another user's. The number is better than nothing.
        Err(e) if matches!(e.errno(), Some(libc::EMFILE | libc::ENFILE | libc::EACCES)) => {
            Ok(dir.status(name)?.is_some_and(|status| status.id == id))
        }
        Err(e) => Err(io::Error::from_raw_os_error(e.errno().unwrap_or(libc::EIO))),
    }
}

/// The content, the time of modification, and the number of names.
pub(super) fn read(mut file: &File) -> io::Result<(Vec<u8>, i128, u64)> {
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(LONGEST).read_to_end(&mut bytes)?;
    let (modified, links) = modified_and_links(file)?;
    Ok((bytes, modified, links))
}

/// Whether a file is a lock record, of this version or a later one.
pub(super) fn is_record(file: &File) -> bool {
    read(file).is_ok_and(|(bytes, _, _)| !matches!(LockRecord::parse(&bytes), Err(Unreadable::Foreign)))
}

/// Whether an open file, which can be read, is the record of a link lock.
#[doc(hidden)]
pub fn is_link_record(file: &File) -> bool {
    FileStatus::of(file).is_ok_and(|status| status.kind == FileKind::Regular && status.size > 0) && is_record(file)
}

/// Whether an error means that another process was faster, so that the caller has to look again.
pub(super) fn is_contention(errno: i32) -> bool {
    use libc::{EAGAIN, EBUSY, EEXIST, EINTR, ENOENT, ESTALE, ETIMEDOUT};
    [EEXIST, ENOENT, ESTALE, EINTR, EAGAIN, EBUSY, ETIMEDOUT].contains(&errno)
}

/// Whether `name` in `dir` is a link lock whose holder may live. A file that cannot be read counts as one.
pub(crate) fn is_held_by_link(dir: &Dir, name: &OsStr) -> bool {
    match look(dir, name) {
        Ok(Seen::Record { record, .. }) => !record.is_dead(&Here::now()),
        Ok(Seen::Absent | Seen::Empty) => false,
        Err(e) => e.kind() != ErrorKind::NotAFile,
    }
}

/// Whether the lock at `place` is held, and by whom. A holder that has been silent for too long, here or elsewhere, still
/// has the lock until somebody breaks it. The observer is told of a record that does not count.
pub(super) fn holder(place: &Place, observer: &Observer) -> Result<(bool, Option<Holder>)> {
    let here = Here::now();
    Ok(match look(&place.dir, &place.name)? {
        Seen::Record { uid, .. } if !place.lease.writers.may_record(uid) => {
            place.lease.writers.tell_ignored(&place.path, uid, observer);
            (false, None)
        }
        Seen::Record { record, .. } if !record.is_dead(&here) => (true, Some(record.holder(&here))),
        // Somebody has locked it by flock since the caller looked.
        Seen::Empty => (true, None),
        Seen::Record { .. } | Seen::Absent => (false, None),
    })
}

/// Asks again a few times when the answer is an error. A holder that cannot tell whether a lock is its own has to leave
/// it, and other hosts then wait for the whole stale time.
pub(super) fn ask_again<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1..TRIES;
    loop {
        match ask() {
            Err(_) if tries.next().is_some() => {}
            answer => return answer,
        }
    }
}
