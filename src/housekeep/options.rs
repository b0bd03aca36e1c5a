//! What housekeeping is asked to do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::names::is_reserved_suffix;

/// What housekeeping is to do. Start from `HousekeepOptions::default()`, which does nothing, and set what is wanted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HousekeepOptions {
    /// Delete lock files that nobody holds: `NAME.lock`, regular, empty, with one link, without a `flock` or record lock.
    /// Locks by link(2) that are stale, and what their breakers left. And the records of expired leases, `NAME.lease`.
    pub locks: bool,
    /// Delete old backups.
    pub backups: bool,
    /// Delete temporary files whose writer has gone.
    pub temps: bool,
    /// Look into subdirectories too, never through symbolic links.
    pub recursive: bool,
    /// Do not go into directories where something else is mounted.
    pub one_file_system: bool,
    /// Leave lock files alone that were modified since. Default: none is too young, since programs that check the lock
    /// file's inode, as all of this crate do, cannot lose a lock this way.
    pub locks_older_than: Duration,
    /// Leave temporary files alone that were modified since.
    pub temps_older_than: Duration,
    /// Delete only backups that are at least this old, by the time in their name, or else by their modification time.
    pub backups_older_than: Option<Duration>,
    /// Keep so many of the newest backups of each file. Default: 1, or 0 where
    /// [`backups_older_than`](HousekeepOptions::backups_older_than) is given. What both allow is deleted.
    pub keep_newest: Option<u64>,
    /// What the names of backups end in. Default: `.backup`.
    pub backup_suffix: OsString,
    /// Delete nothing; tell what would be deleted.
    pub dry_run: bool,
}

impl Default for HousekeepOptions {
    fn default() -> Self {
        HousekeepOptions {
            locks: false,
            backups: false,
            temps: false,
            recursive: false,
            one_file_system: false,
            locks_older_than: Duration::ZERO,
            temps_older_than: Duration::ZERO,
            backups_older_than: None,
            keep_newest: None,
            backup_suffix: ".backup".into(),
            dry_run: false,
        }
    }
}

impl HousekeepOptions {
    /// Refuses options that mean nothing, and a suffix that would reach for the wrong files.
    pub(super) fn ensure_valid(&self) -> Result<()> {
        let suffix = self.backup_suffix.as_bytes();
        let impossible = suffix.is_empty() || suffix.contains(&b'/') || suffix.contains(&0);
        let reason = if !(self.locks || self.backups || self.temps) {
            "nothing to do: neither locks, backups nor temporary files are named"
        } else if self.backups && (impossible || is_reserved_suffix(&self.backup_suffix)) {
            "the backup suffix must not be empty, contain / or end in .lock"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Usage, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_that_would_reach_for_other_files() {
        let with = |suffix: &str| HousekeepOptions {
            backups: true,
            backup_suffix: suffix.into(),
            ..HousekeepOptions::default()
        };
        for bad in ["", "/x", ".lock", ".old.lock", ".lease", "a\0"] {
            assert!(with(bad).ensure_valid().is_err(), "{bad:?}");
        }
        assert!(with(".orig").ensure_valid().is_ok());
    }
}
