//! Clearing away what crashed programs and time have left in a directory: lock files that nobody holds, temporary files
//! whose writer has gone, old backups.
//!
//! ```text
//!   walk    directory after directory, by descriptor, never through a symbolic link
//!   job     one directory: read the names, look at the candidates, delete, report
//!   names   a first sieve: what a name may stand for
//!   plan    which backups are too many or too old; it only decides
//!   remove  looks at the one file again, under its lock where it has one, and deletes it
//! ```
//!
//! Whoever may write a directory can change it between any two of these steps. So a plan is never trusted: what is deleted
//! is what the last look saw, under its directory's descriptor. And memory is bounded by the largest group of backups,
//! not by the number of files: a directory with too many candidates is read several times, a part of them each time.

mod job;
mod names;
mod plan;
mod remove;
mod walk;

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::options::options_struct;
use crate::sys::Dir;
use job::Job;
#[cfg(fuzzing)]
pub(crate) use names::any_name;

options_struct! {
    /// What housekeeping is to do: by default, nothing.
    HousekeepOptions {
        /// Delete lock files that nobody holds: `NAME.lock`, regular, empty, with one link, without a `flock` or record
        /// lock. Locks by link(2) that are stale, and what their breakers left. And the records of expired leases,
        /// `NAME.lease`.
        locks: bool = false,
        /// Delete old backups.
        backups: bool = false,
        /// Delete temporary files whose writer has gone.
        temps: bool = false,
        /// Look into subdirectories too, never through symbolic links.
        recursive: bool = false,
        /// Do not go into directories where something else is mounted.
        one_file_system: bool = false,
        /// Leave lock files alone that were modified since. Default: none is too young, since programs that check the
        /// lock file's inode, as all of this crate do, cannot lose a lock this way.
        locks_older_than: Duration = Duration::ZERO,
        /// Leave temporary files alone that were modified since.
        temps_older_than: Duration = Duration::ZERO,
        /// Delete only backups that are at least this old, by the time in their name, or else by their modification
        /// time.
        backups_older_than: Option<Duration> = None,
        /// Keep so many of the newest backups of each file. Default: 1, or 0 where
        /// [`backups_older_than`](HousekeepOptions::backups_older_than) is given. What both allow is deleted.
        keep_newest: Option<u64> = None,
        /// What the names of backups end in. Default: `.backup`.
        backup_suffix: OsString = ".backup".into(),
        /// Delete nothing; tell what would be deleted.
        dry_run: bool = false,
    }
}

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
}

/// Deletes what `options` name from `dir`, and tells `report` of it, which may stop the work after any event.
///
/// It may run beside living writers, lock holders, and other housekeepers: it breaks no lock that is held, and makes no
/// writer fail. A file that vanishes meanwhile is no error. Running it twice deletes nothing more.
///
/// Two things to know:
///
/// - A lock file that nobody holds at this moment is deleted, also one that was meant to stay
///   ([`LockOptions::keep`](crate::LockOptions::keep)). Programs that open a lock file and lock it later without checking
///   that it is still the same one (`flock(1)`) can then come to hold two locks side by side. Leave such directories out,
///   or set [`locks_older_than`](HousekeepOptions::locks_older_than).
/// - A file that looks like a lock file is opened and closed. If this very process holds a classic record lock
///   (`fcntl(F_SETLK)`) on it through another descriptor, it loses it, as by any close (fcntl(2)).
///
/// A file that was changed a moment ago (a temporary file within a second, a backup without a time in its name within a
/// tenth of one, a lock file within a fiftieth) is looked at again after that time, at the end of the work: its writer
/// may not have come to lock it, or to say how old it is.
///
/// # Errors
///
/// The options name nothing to do or contradict each other; `dir` cannot be opened, or is part of a version control
/// directory (`.git`, `.hg`, `.svn`, a bare git repository), where nothing is ever deleted. Other failures are told as
/// [`HousekeepEvent::Failed`] and counted.
///
/// ```
/// use std::ops::ControlFlow;
/// use awrite::{HousekeepEvent, HousekeepOptions, housekeep};
/// # fn main() -> awrite::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # std::fs::write(dir.path().join("config.json.lock"), "").unwrap();
/// let mut options = HousekeepOptions::default();
/// options.locks = true;
/// let summary = housekeep(dir.path(), &options, |event| {
///     if let HousekeepEvent::Deleted { path, .. } = event {
///         println!("{}", path.display());
///     }
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(summary.locks, 1);
/// # Ok(())
/// # }
/// ```
pub fn housekeep(
    dir: impl AsRef<Path>,
    options: &HousekeepOptions,
    mut report: impl FnMut(&HousekeepEvent<'_>) -> ControlFlow<()>,
) -> Result<HousekeepSummary> {
    let dir = dir.as_ref();
    check(options)?;
    let root = Dir::open_to_read_names(dir).map_err(|e| Error::io(dir, e))?;
    walk::refuse_version_control(dir)?;
    let mut job = Job::new(options, &mut report);
    let flow = match walk::walk(&mut job, root) {
        ControlFlow::Continue(()) => job.look_again(),
        stopped => stopped,
    };
    Ok(job.finish(flow))
}

/// Refuses options that mean nothing, or that would reach for the wrong files.
fn check(options: &HousekeepOptions) -> Result<()> {
    if !(options.locks || options.backups || options.temps) {
        return Err(Error::new(
            ErrorKind::Usage,
            "nothing to do: neither locks, backups nor temporary files are named",
        ));
    }
    if options.backups && names::is_bad_suffix(&options.backup_suffix) {
        let reason = "the backup suffix must not be empty, contain / or end in .lock";
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    Ok(())
}
