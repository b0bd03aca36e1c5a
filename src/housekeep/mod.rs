//! Housekeeping: deletes what crashed programs and time have left in a directory, which are lock files that nobody holds,
//! temporary files whose writer has gone, and old backups.
//!
//! ```text
//!   walk             directory after directory, by descriptor, never through a symbolic link
//!   sweep            one directory: find, decide, delete, report
//!   delete           the last look at one file, and its deletion
//!   scan             a directory's names, in batches
//!   retention        which backups stay, by number and age
//!   classify         what a name may stand for
//!   version_control  directories that are left alone
//!   age              how old a file is
//!   options, events  what is asked, what is told
//! ```
//!
//! Whoever may write a directory can change it between any two steps. So a plan is never trusted: what is deleted is what
//! the last look saw, under its directory's descriptor.

mod age;
mod classify;
mod delete;
mod events;
mod options;
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
