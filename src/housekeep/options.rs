//! What housekeeping is asked to do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::names::is_reserved_suffix;
use crate::options::options_struct;

options_struct! {
    /// What housekeeping is to do: by default, nothing.
    HousekeepOptions {
        /// Delete all three kinds below, but only what is this crate's own, whatever else is in the directory:
        ///
        /// - `NAME.lock` where the regular file NAME is beside it, or where its name is that of a lock file in a
        ///   [directory of lock files](crate::LockOptions::dir) whose target exists, which its owner may read and write, and
        ///   where the system can tell that no process has it open; stale link locks and expired leases;
        /// - `NAME.backup` where the regular file NAME is beside it, and all with a time in their name, but never the last
        ///   backup of a file unless [`keep_newest`](HousekeepOptions::keep_newest) is 0;
        /// - temporary files.
        ///
        /// [`locks`](HousekeepOptions::locks) and [`backups`](HousekeepOptions::backups) add those of other programs.
        own: bool = false,
        /// Delete lock files that nobody holds, of whatever program: `NAME.lock`, regular, empty, with one link, which no
        /// process has open or, where the system cannot tell that, has locked by `flock` or a record lock. Also stale link locks and what their breakers left, and the records of expired leases, `NAME.lease`.
        locks: bool = false,
        /// Delete old backups, of whatever program.
        backups: bool = false,
        /// Delete temporary files whose writer has ended.
        temps: bool = false,
        /// Work in subdirectories too, but never through symbolic links.
        recursive: bool = false,
        /// Do not enter directories on which another file system is mounted.
        one_file_system: bool = false,
        /// Keep lock files that are younger, by their modification time. Default: zero, because programs that check the
        /// lock file's inode, as this crate does, cannot lose a lock this way.
        locks_older_than: Duration = Duration::ZERO,
        /// Keep temporary files that are younger, by their modification time.
        temps_older_than: Duration = Duration::ZERO,
        /// Keep backups that are younger, by the time in their name or by their modification time, whichever makes them
        /// younger.
        backups_older_than: Option<Duration> = None,
        /// Keep this number of the newest backups of each file. Default: 1, or 0 where
        /// [`backups_older_than`](HousekeepOptions::backups_older_than) is given and
        /// [`own`](HousekeepOptions::own) is not. With both, a backup is deleted if
        /// neither keeps it.
        keep_newest: Option<u64> = None,
        /// The end of the names of backups. Default: `.backup`.
        backup_suffix: OsString = ".backup".into(),
        /// Delete nothing, and report what would be deleted.
        dry_run: bool = false,
    }
}

impl HousekeepOptions {
    pub(super) fn cleans_locks(&self) -> bool {
        self.locks || self.own
    }

    pub(super) fn cleans_backups(&self) -> bool {
        self.backups || self.own
    }

    pub(super) fn cleans_temps(&self) -> bool {
        self.temps || self.own
    }

    /// Refuses options that ask for nothing, and a suffix that other files have.
    pub(super) fn ensure_valid(&self) -> Result<()> {
        let suffix = self.backup_suffix.as_bytes();
        let impossible = suffix.is_empty() || suffix.contains(&b'/') || suffix.contains(&0);
        let reason = if !(self.cleans_locks() || self.cleans_backups() || self.cleans_temps()) {
            "nothing to do: neither locks, backups nor temporary files are named"
        } else if self.cleans_backups() && (impossible || is_reserved_suffix(&self.backup_suffix)) {
            "the backup suffix must not be empty, contain / or end in .lock or .lease"
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
