//! What housekeeping reports: events, and a summary.

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

/// What [`housekeep`](crate::housekeep()) reports while it works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HousekeepEvent<'a> {
    /// A file has been deleted, or would be in a dry run.
    Deleted {
        /// The file, below the directory as it was given.
        path: &'a Path,
        /// The kind of file.
        leftover: Leftover,
        /// How many bytes were freed: the length of the file, or 0 while it has other names.
        bytes: u64,
        /// How old the file was; zero for a time in the future.
        age: Duration,
    },
    /// A file that looked like a leftover was kept.
    Kept {
        /// The file.
        path: &'a Path,
        /// The kind that it looked like.
        leftover: Leftover,
        /// The reason, for a message.
        reason: &'static str,
    },
    /// A directory was not entered.
    NotEntered {
        /// The directory.
        path: &'a Path,
        /// The reason, for a message.
        reason: &'static str,
    },
    /// Something could not be read or deleted. The rest goes on.
    Failed(&'a Error),
    /// The work goes on. Sent often: show only some of them.
    Progress {
        /// Directories so far.
        directories: u64,
        /// Names read so far. The names in a very large directory may be read and counted more than once.
        entries: u64,
    },
}

/// What [`housekeep`](crate::housekeep()) has done, or would have done in a dry run.
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
    /// With [`own`](crate::HousekeepOptions::own): files that look like lock files and may be other programs', left alone.
    pub other_locks: u64,
    /// The same of backups.
    pub other_backups: u64,
    /// Bytes freed.
    pub bytes: u64,
    /// Directories read.
    pub directories: u64,
    /// How often [`HousekeepEvent::Failed`] was reported.
    pub failures: u64,
    /// Whether the receiver of the events stopped the work before its end.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_counts() {
        let mut summary = HousekeepSummary::default();
        for (leftover, count) in [(Leftover::Lock, 1), (Leftover::Lease, 2), (Leftover::Backup, 4), (Leftover::Temp, 8)]
        {
            (0..count).for_each(|_| summary.add(leftover, 3));
        }
        assert_eq!((summary.locks, summary.leases, summary.backups, summary.temps), (1, 2, 4, 8));
        assert_eq!((summary.deleted(), summary.bytes), (15, 45));
    }
}
