//! What housekeeping tells: event by event, and as a summary.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::error::Error;

/// Whether the receiver of the events lets the work go on.
pub(super) type Flow<T = ()> = ControlFlow<(), T>;

/// A kind of file that housekeeping deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Leftover {
    /// A lock file.
    Lock,
    /// The record of a lease.
    Lease,
    /// A backup.
    Backup,
    /// A temporary file.
    Temp,
}

/// What [`housekeep`] tells while it works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HousekeepEvent<'a> {
    /// A file has been deleted; in a dry run: would be.
    Deleted {
        /// The file: the directory as it was given, and the way from there.
        path: &'a Path,
        /// What it was.
        leftover: Leftover,
        /// How many bytes that has freed: its length, or nothing while it has other names.
        bytes: u64,
        /// How old it was; zero for a time in the future.
        age: Duration,
    },
    /// A file that looked like a leftover was left alone.
    Kept {
        /// The file.
        path: &'a Path,
        /// What it looked like.
        leftover: Leftover,
        /// Why.
        reason: &'static str,
    },
    /// A directory was left out.
    NotEntered {
        /// The directory.
        path: &'a Path,
        /// Why.
        reason: &'static str,
    },
    /// Something could not be read or deleted. The rest goes on.
    Failed(&'a Error),
    /// The work goes on. Sent often; the receiver thins it out.
    Progress {
        /// Directories so far.
        directories: u64,
        /// Names read so far. Those of a very large directory may count more than once.
        entries: u64,
    },
}

/// What [`housekeep`] has done; in a dry run: would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HousekeepSummary {
    /// Lock files deleted.
    pub locks: u64,
    /// Records of leases deleted.
    pub leases: u64,
    /// Backups deleted.
    pub backups: u64,
    /// Temporary files deleted.
    pub temps: u64,
    /// Bytes freed by that.
    pub bytes: u64,
    /// Directories looked at.
    pub directories: u64,
    /// Times that [`HousekeepEvent::Failed`] was told.
    pub failures: u64,
    /// The receiver has stopped it before its end.
    pub stopped: bool,
}

impl HousekeepSummary {
    /// How many files were deleted, of all kinds.
    #[must_use]
    pub fn deleted(&self) -> u64 {
        self.locks + self.leases + self.backups + self.temps
    }

    pub(super) fn add(&mut self, leftover: Leftover, bytes: u64) {
        match leftover {
            Leftover::Lock => self.locks += 1,
            Leftover::Lease => self.leases += 1,
            Leftover::Backup => self.backups += 1,
            Leftover::Temp => self.temps += 1,
        }
        self.bytes += bytes;
    }
}
