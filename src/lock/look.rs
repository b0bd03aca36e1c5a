//! Looking at what stands under a lock's name, by the file server's knowledge: neither the name nor the file may come from
//! a cache.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::thread::sleep;

use rustix::fs::OFlags;

use super::place::{Place, not_ours};
use super::record::{Here, LONGEST, Record, Unreadable};
use super::waiting::{GLANCE, GLANCES};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::sys::dir::modified_and_links;
use crate::sys::{Dir, FileKind};

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Seen {
    Absent,
    /// A lock file without content: a `flock` holder's.
    Empty,
    Record {
        record: Record,
        /// When its holder last gave a sign of life, by the server's clock.
        modified: i128,
    },
}

impl Seen {
    pub(super) fn has_nonce(&self, nonce: &str) -> bool {
        matches!(self, Seen::Record { record, .. } if record.nonce == nonce)
    }
}

/// Reads what stands under `name`, by the server's knowledge: neither the name nor the file may come from a cache.
pub(super) fn look(dir: &Dir, name: &OsStr) -> Result<Seen> {
    let path = dir.join(name);
    let mut refusals = 0;
    loop {
        dir.refresh();
        // To open a device or a FIFO does something.
        match dir.status(name).map_err(|e| Error::io(&path, e))? {
            None => return Ok(Seen::Absent),
            Some(s) if s.kind == FileKind::Regular => {}
            Some(s) => {
                return Err(Error::new(ErrorKind::NotAFile, format!("Lock file is a {}", s.kind.name())).on(path));
            }
        }
        let outcome = dir.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0).and_then(|file| read(&file));
        match outcome {
            Ok((bytes, _, _)) if bytes.is_empty() => return Ok(Seen::Empty),
            // Has lost its last name since it was looked up, or before that, unnoticed by a client that was not told.
            Ok((_, _, 0)) if refusals < GLANCES => refusals += 1,
            Ok((_, _, 0)) => return Ok(Seen::Absent),
            Ok((bytes, modified, _)) => {
                return match Record::parse(&bytes) {
                    Ok(record) => Ok(Seen::Record { record, modified }),
                    Err(Unreadable::Foreign) => Err(not_ours(&path)),
                    Err(Unreadable::Future) => {
                        Err(Error::new(ErrorKind::NotAFile, "Lock file was written by a newer version of awrite")
                            .on(path))
                    }
                };
            }
            Err(e) => match e.raw_os_error() {
                Some(libc::ENOENT) => return Ok(Seen::Absent),
                // Removed by another client while we had it open; or just made by root, and about to be opened to us.
                Some(libc::ESTALE | libc::EACCES) if refusals < GLANCES => {
                    refusals += 1;
                    sleep(GLANCE);
                }
                Some(libc::ESTALE) => return Ok(Seen::Absent),
                Some(libc::EACCES) => {
                    return Err(Error::io(path, e).with_hint("Run with sudo or check directory permissions"));
                }
                _ => return Err(Error::io(path, e)),
            },
        }
    }
}

/// Content, time of modification, number of names.
pub(super) fn read(mut file: &File) -> io::Result<(Vec<u8>, i128, u64)> {
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(LONGEST).read_to_end(&mut bytes)?;
    let (modified, links) = modified_and_links(file)?;
    Ok((bytes, modified, links))
}

/// Whether a file is the record of a lock, of this version or a later one.
pub(super) fn is_record(file: &File) -> bool {
    read(file).is_ok_and(|(bytes, _, _)| !matches!(Record::parse(&bytes), Err(Unreadable::Foreign)))
}

/// Whether an answer means that somebody else was at it, and looking again will tell.
pub(super) fn is_contention(errno: i32) -> bool {
    use libc::{EAGAIN, EBUSY, EEXIST, EINTR, ENOENT, ESTALE, ETIMEDOUT};
    [EEXIST, ENOENT, ESTALE, EINTR, EAGAIN, EBUSY, ETIMEDOUT].contains(&errno)
}

/// Whether `name` in `dir` is a lock of somebody who may live. What cannot be read is taken for one.
pub(crate) fn is_held_by_link(dir: &Dir, name: &OsStr) -> bool {
    match look(dir, name) {
        Ok(Seen::Record { record, .. }) => !record.is_dead(&Here::now()),
        Ok(Seen::Absent | Seen::Empty) => false,
        Err(e) => e.kind() != ErrorKind::NotAFile,
    }
}

/// Whether somebody has the lock at `place`, and who. One that has only been silent for too long, here or elsewhere, still
/// has it until somebody breaks it.
pub(super) fn holder(place: &Place) -> Result<(bool, Option<Holder>)> {
    let here = Here::now();
    Ok(match look(&place.dir, &place.name)? {
        Seen::Record { record, .. } if !record.is_dead(&here) => (true, Some(record.holder(&here))),
        // Made by flock since the caller looked.
        Seen::Empty => (true, None),
        Seen::Record { .. } | Seen::Absent => (false, None),
    })
}

/// Asks again a few times where the answer is an error: a lock that is left because nobody can tell whose it is keeps
/// other hosts waiting for the stale time.
pub(super) fn insist<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1..GLANCES;
    loop {
        match ask() {
            Err(_) if tries.next().is_some() => {}
            answer => return answer,
        }
    }
}
