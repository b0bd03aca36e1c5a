//! What is found in `TARGET.lease`: the record of a lease, the mark of a store's leases, or the record of a set that the
//! target is part of.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::mark::TargetRecord;
use super::record::{LeaseRecord, Parsed, SET, object};
use super::set_record::SetRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::{LeaseFile, Writers};
use crate::notice::Observer;
use crate::stage::{Birth, Stage};
use crate::sys::{Dir, FileKind, FileStatus};

/// Many times the size of the longest record.
const MAX_SIZE: u64 = 64 * 1024;

/// What `TARGET.lease` contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Target(TargetRecord),
    /// The target is one of several that are being replaced together.
    Set(Box<SetRecord>),
}

/// A record, and whose file it is in.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: Record,
    pub(super) uid: u32,
}

impl Found {
    /// What it says of the target alone. Where the target is one of a set, that which comes back when the set is done.
    pub(super) fn of_target(self) -> Option<TargetRecord> {
        match self.record {
            Record::Target(record) => Some(record),
            Record::Set(set) => set.prior,
        }
    }
}

impl Record {
    /// Reads the text of a file. The error says why it is not a record.
    pub(super) fn parse(text: &[u8]) -> Parsed<Record> {
        let fields = object(text)?;
        if fields.contains_key(SET) {
            return SetRecord::of_fields(fields).map(|set| Record::Set(Box::new(set)));
        }
        TargetRecord::of_fields(fields).map(Record::Target)
    }

    /// What is at `lease`, if there is something that counts. Needs no lock, since a record is only replaced as a whole. Tells the observer of a record that does not.
    pub(super) fn read(lease: &LeaseFile, observer: &Observer) -> Result<Option<Found>> {
        let mut ignored = None;
        let accept = |uid| {
            let counts = lease.writers.may_record(uid);
            ignored = (!counts).then_some(uid);
            counts
        };
        let record = Record::read_of(&lease.dir, &lease.name, accept)?;
        if let Some(uid) = ignored {
            lease.writers.tell_ignored(&lease.path(), uid, observer);
        }
        Ok(record)
    }

    /// The record `name` in `dir`, if there is one and it belongs to a user whom `accept` accepts.
    pub(super) fn read_of(dir: &Dir, name: &OsStr, mut accept: impl FnMut(u32) -> bool) -> Result<Option<Found>> {
        let fail = |e: std::io::Error| {
            let denied = e.kind() == std::io::ErrorKind::PermissionDenied;
            let error = Error::io(dir.join(name), e).during("cannot read the lease");
            if denied { error.with_hint("a lease is shown to those who may write the file") } else { error }
        };
        // Asked before opening: opening a device or a FIFO has effects. Without a lease this is the only system call.
        let Some(status) = dir.status(name).map_err(fail)?.filter(|status| accept(status.uid)) else { return Ok(None) };
        let damaged = |why: &str| damaged(dir.join(name), why);
        if status.kind != FileKind::Regular {
            return Err(damaged(&format!("it is a {}", status.kind.name())));
        }
        let file = match dir.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
            // Removed between the two calls. Only a caller without the lock can see that.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            file => file.map_err(fail)?,
        };
        // Replaced between the two calls.
        let uid = FileStatus::of(&file).map_err(fail)?.uid;
        if !accept(uid) {
            return Ok(None);
        }
        let mut text = Vec::new();
        file.take(MAX_SIZE + 1).read_to_end(&mut text).map_err(fail)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(damaged("it is too long"));
        }
        let record = Record::parse(&text).map_err(|why| damaged(&why))?;
        Ok(Some(Found { record, uid }))
    }
}

/// The lease or the mark at `lease`, if there is one that counts.
pub(super) fn record_at(lease: &LeaseFile, observer: &Observer) -> Result<Option<TargetRecord>> {
    Ok(Record::read(lease, observer)?.and_then(Found::of_target))
}

/// The lease at `lease`, if there is one that counts. Tells the observer of a record that does not.
pub(super) fn lease_at(lease: &LeaseFile, observer: &Observer) -> Result<Option<LeaseRecord>> {
    Ok(record_at(lease, observer)?.and_then(TargetRecord::lease))
}

fn damaged(path: PathBuf, why: &str) -> Error {
    Error::new(ErrorKind::DamagedRecord, format!("Not a lease record that can be trusted: {why}"))
        .on(path)
        .with_hint("remove it if nobody works under this lease any more")
}

/// A record with this `text`, staged beside the one that it will replace. `nonce`: of the link lock that is held.
pub(super) fn stage_record(
    lease: &LeaseFile,
    writers: &Writers,
    mode: Option<u32>,
    nonce: Option<&str>,
    text: &str,
) -> io::Result<Stage> {
    let stage = Stage::create_under(lease.dir.clone(), &lease.name, nonce.map(str::to_owned), Birth::Private)?;
    writers.give(&stage.file, &FileStatus::of(&stage.file)?, mode)?;
    (&stage.file).write_all(text.as_bytes())?;
    Ok(stage)
}

/// What holds for any content of a file.
#[cfg(fuzzing)]
pub(crate) fn any_record(bytes: &[u8]) {
    match Record::parse(bytes) {
        Ok(Record::Set(_)) => super::set_record::any_set_record(bytes),
        Ok(Record::Target(TargetRecord::Lease(_))) => super::record::any_lease_record(bytes),
        Ok(Record::Target(TargetRecord::Mark(_))) => {}
        // It becomes part of a message.
        Err(why) => assert!(!why.contains(char::is_control), "{why:?}"),
    }
}
