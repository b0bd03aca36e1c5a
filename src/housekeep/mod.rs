//! Housekeeping deletes what crashes and time have left in a directory: lock files that nobody holds, temporary files
//! whose writer has ended, old backups. Each file below uses only those under it.
//!
//! ```text
//!   walk             directory after directory, by descriptor, never through a symbolic link
//!   sweep            one directory: find, decide, delete, report
//!   delete           the last look at one file, and its deletion
//!   scan             a directory's names, in batches
//!   classify         what a name may stand for
//!   ownership        whose a file is that looks like a leftover
//!   retention        which backups stay, by number and age
//!   version_control  directories that are left alone
//!   age              how old a file is
//!   options, events  what is asked, what is told
//! ```
//!
//! Other processes can change the directory between any two steps. So a plan is never trusted: only what the last look saw
//! is deleted, by its directory's descriptor.

mod age;
mod classify;
mod delete;
mod events;
mod options;
mod ownership;
mod retention;
mod scan;
mod sweep;
mod version_control;
mod walk;

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::{Error, Result};
use crate::sys::Dir;
#[cfg(fuzzing)]
pub(crate) use classify::any_name;
pub use events::{HousekeepEvent, HousekeepSummary, Leftover};
pub use options::HousekeepOptions;
use sweep::Sweep;

/// Deletes from `dir` what `options` name. Calls `report` with each event, which may stop the work.
///
/// It may run beside writers, lock holders and other housekeepers. It breaks no lock that is held and makes no writer
/// fail. A file that vanishes meanwhile is no error. A second run deletes nothing more.
///
/// [`own`](HousekeepOptions::own) is safe anywhere: it deletes only what is this crate's own. The other operations go by
/// what a file looks like, whoever made it. Things to know about lock files:
///
/// - A lock file stays while any process has it open: some programs, such as `flock(1)` in a daemon, keep a descriptor and
///   lock it again later, without looking whether its name still leads to it. The kernel tells the owner of the file and
///   root (`CAP_LEASE`) that nobody has it open, by a write lease (fcntl(2), `F_SETLEASE`). Where there is no lease,
///   [`own`](HousekeepOptions::own) leaves the file, and [`locks`](HousekeepOptions::locks) deletes it if it is not locked.
/// - With [`locks`](HousekeepOptions::locks), a lock file goes even if it was kept on purpose
///   ([`LockOptions::keep_file`](crate::LockOptions::keep_file)), or if its existence alone is the lock. Leave such directories out,
///   or set [`locks_older_than`](HousekeepOptions::locks_older_than).
/// - While it looks at a lock file, another process may open that. The kernel then sends this process `SIGURG`, which is
///   ignored by default.
/// - A file that looks like a lock file is opened and closed. If this process holds a classic record lock on it
///   (`fcntl(F_SETLK)`) through another descriptor, the lock is lost, as by any close (fcntl(2)).
///
/// A file that was changed a moment ago is looked at again at the end of the work: its writer may not have locked it yet,
/// or not have set its time. A moment is a second for a temporary file, 100 ms for a backup without a time in its name,
/// and 20 ms for a lock file. A backup without a time in its name that is a second link may be being made: it is left alone
/// for a minute.
///
/// # Errors
///
/// The options name nothing to do, or a suffix that backups cannot have. `dir` cannot be opened, or is part of a version
/// control directory (`.git`, `.hg`, `.svn`, a bare git repository), where nothing is ever deleted. All other failures are
/// reported as [`HousekeepEvent::Failed`] and counted.
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
    options.ensure_valid()?;
    let root = Dir::open_to_read_names(dir).map_err(|e| Error::io(dir, e))?;
    version_control::ensure_outside(dir)?;
    let mut sweep = Sweep::new(options, &mut report);
    let flow = match walk::walk(&mut sweep, root) {
        ControlFlow::Continue(()) => sweep.delete_deferred(),
        stopped => stopped,
    };
    Ok(sweep.finish(flow))
}
