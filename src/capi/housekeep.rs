//! Housekeeping
//!
//! Deletes what crashed programs and time have left in a directory: lock files that nobody holds, the records of
//! expired leases, temporary files whose writer has gone, old backups. It may run while writers are at work: it breaks
//! no lock, and makes no writer fail.

use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::argument::{self, Extensible, Out, bad_argument, ensure_reserved, known_flags, optional_path, read_options};
use super::status::{awrite_status, c_path, c_string, guard};
use crate::error::{Error, ErrorKind, Result};
use crate::housekeep::{HousekeepEvent, HousekeepOptions, HousekeepSummary, Leftover, housekeep};

/// awrite_housekeep_options.flags, or-ed.
pub type awrite_clean_flags = u32;
/// None of them.
#[allow(dead_code, reason = "for C")]
pub const AWRITE_CLEAN_NOTHING: u32 = 0;
/// Delete lock files that no process has open, of whatever program, and the records of
/// expired leases.
pub const AWRITE_CLEAN_LOCKS: u32 = 1;
/// Delete old backups, of whatever program.
pub const AWRITE_CLEAN_BACKUPS: u32 = 2;
/// Delete temporary files whose writer has gone.
pub const AWRITE_CLEAN_TEMPS: u32 = 4;
/// Look into subdirectories too, never through symbolic links.
pub const AWRITE_CLEAN_RECURSIVE: u32 = 8;
/// Do not go into directories where something else is mounted.
pub const AWRITE_CLEAN_ONE_FILE_SYSTEM: u32 = 16;
/// Delete nothing; tell what would be deleted.
pub const AWRITE_CLEAN_DRY_RUN: u32 = 32;
/// Delete backups by their age alone or, without an age, all of them. Needed because a
/// keep_newest of 0 stands for its default.
pub const AWRITE_CLEAN_KEEP_NONE: u32 = 64;
/// Delete lock files, backups and temporary files, but only what is awrite's own, whatever
/// else is in the directory: NAME.lock and NAME.backup where the regular file NAME is beside them, a lock file that no
/// process has open, backups with a time in their name. The last backup of a file stays, unless AWRITE_CLEAN_KEEP_NONE
/// says otherwise. Safe anywhere. The flags for one kind go by what a file looks like, whoever made it.
pub const AWRITE_CLEAN_ALL: u32 = 128;

/// What housekeeping is to do. Without one of AWRITE_CLEAN_ALL, AWRITE_CLEAN_LOCKS, AWRITE_CLEAN_BACKUPS and
/// AWRITE_CLEAN_TEMPS there is nothing to do, which is an error. Strings are only read during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_housekeep_options {
    /// sizeof(awrite_housekeep_options).
    pub size: usize,
    /// AWRITE_CLEAN_*, or-ed.
    pub flags: awrite_clean_flags,
    /// 0.
    pub reserved: u32,
    /// Keep lock files that were modified less than this many seconds ago. 0: none is too young.
    pub locks_older_than_s: u64,
    /// Keep temporary files that were modified less than this many seconds ago. 0: none is too young.
    pub temps_older_than_s: u64,
    /// Delete only backups that are at least this many seconds old. 0: whatever their age.
    pub backups_older_than_s: u64,
    /// Keep this many of the newest backups of each file. 0: 1, or none where backups_older_than_s is set without
    /// AWRITE_CLEAN_ALL.
    pub keep_newest: u64,
    /// What the names of backups end with. NULL: ".backup".
    pub backup_suffix: *const c_char,
}

// SAFETY: repr(C), begins with its size, and numbers and pointers follow without a gap (tests/it/capi checks).
unsafe impl Extensible for awrite_housekeep_options {
    const NAME: &'static str = "awrite_housekeep_options";
}

/// awrite_housekeep_event.kind. Later versions may add kinds: ignore those that you do not know.
pub type awrite_event_kind = u32;
/// The file has been deleted; in a dry run: would be.
pub const AWRITE_EVENT_DELETED: u32 = 1;
/// A file that looked like a leftover was left alone, for this reason.
pub const AWRITE_EVENT_KEPT: u32 = 2;
/// A directory was left out, for this reason.
pub const AWRITE_EVENT_NOT_ENTERED: u32 = 3;
/// Something could not be read or deleted, for this reason. The rest goes on.
pub const AWRITE_EVENT_FAILED: u32 = 4;

/// awrite_housekeep_event.leftover: what kind of file it is.
pub type awrite_leftover = u32;
/// None of these.
pub const AWRITE_LEFTOVER_NONE: u32 = 0;
/// A lock file.
pub const AWRITE_LEFTOVER_LOCK: u32 = 1;
/// The record of a lease.
pub const AWRITE_LEFTOVER_LEASE: u32 = 2;
/// A backup.
pub const AWRITE_LEFTOVER_BACKUP: u32 = 3;
/// A temporary file.
pub const AWRITE_LEFTOVER_TEMP: u32 = 4;

/// Something that housekeeping tells while it works. The library makes it and its strings. They exist only during the
/// callback.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_housekeep_event {
    /// The size of this struct in the library that runs.
    pub size: usize,
    /// What has become of the file.
    pub kind: awrite_event_kind,
    /// What kind of file it is.
    pub leftover: awrite_leftover,
    /// The path of the file: the directory as it was given, and the path from there. Never NULL.
    pub path: *const c_char,
    /// Why. Never NULL; "" for AWRITE_EVENT_DELETED.
    pub reason: *const c_char,
    /// AWRITE_EVENT_DELETED: how many bytes the deletion has freed.
    pub bytes: u64,
    /// AWRITE_EVENT_DELETED: how old the file was, in seconds.
    pub age_s: u64,
}

/// What housekeeping has done; in a dry run: would have done.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_housekeep_summary {
    /// sizeof(awrite_housekeep_summary), to be set by the caller.
    pub size: usize,
    /// Lock files deleted.
    pub locks: u64,
    /// Records of leases deleted.
    pub leases: u64,
    /// Backups deleted.
    pub backups: u64,
    /// Temporary files deleted.
    pub temps: u64,
    /// Bytes freed by the deletions.
    pub bytes: u64,
    /// Directories looked at.
    pub directories: u64,
    /// How many files and directories could not be read or deleted.
    pub failures: u64,
    /// AWRITE_CLEAN_ALL: files that look like lock files and may be other programs', left alone.
    pub other_locks: u64,
    /// The same of backups.
    pub other_backups: u64,
}

// SAFETY: repr(C), begins with its size, and numbers follow without a gap (tests/it/capi checks).
unsafe impl Extensible for awrite_housekeep_summary {
    const NAME: &'static str = "awrite_housekeep_summary";
}

/// Gets the events of housekeeping. Returns 0 to go on; anything else stops it. It must return: see Callbacks.
pub type awrite_housekeep_fn =
    Option<unsafe extern "C-unwind" fn(event: *const awrite_housekeep_event, context: *mut c_void) -> c_int>;

/// Reads and checks the options of housekeeping.
///
/// # Safety
///
/// The same as for [`read_options`]. The string in it is NULL or a C string.
pub(super) unsafe fn housekeep_options(at: *const awrite_housekeep_options) -> Result<HousekeepOptions> {
    const ALL: u32 = 2 * AWRITE_CLEAN_ALL - 1;
    // SAFETY: the caller promises the same.
    let given = unsafe { read_options(at) }?;
    let has = known_flags(given.flags, ALL, "awrite_housekeep_options.flags")?;
    ensure_reserved(given.reserved, "awrite_housekeep_options.reserved")?;
    if has(AWRITE_CLEAN_KEEP_NONE) && given.keep_newest > 0 {
        return Err(bad_argument("keep_newest and AWRITE_CLEAN_KEEP_NONE exclude each other"));
    }
    // SAFETY: the caller promises that it is NULL or a C string.
    let suffix = unsafe { optional_path(given.backup_suffix, "backup_suffix") }?;
    let plain = HousekeepOptions::default();
    let keep = has(AWRITE_CLEAN_KEEP_NONE) || given.keep_newest > 0;
    Ok(HousekeepOptions {
        own: has(AWRITE_CLEAN_ALL),
        locks: has(AWRITE_CLEAN_LOCKS),
        backups: has(AWRITE_CLEAN_BACKUPS),
        temps: has(AWRITE_CLEAN_TEMPS),
        recursive: has(AWRITE_CLEAN_RECURSIVE),
        one_file_system: has(AWRITE_CLEAN_ONE_FILE_SYSTEM),
        locks_older_than: Duration::from_secs(given.locks_older_than_s),
        temps_older_than: Duration::from_secs(given.temps_older_than_s),
        backups_older_than: (given.backups_older_than_s > 0).then(|| Duration::from_secs(given.backups_older_than_s)),
        keep_newest: keep.then_some(given.keep_newest),
        backup_suffix: suffix.map_or(plain.backup_suffix, |suffix| suffix.as_os_str().to_owned()),
        dry_run: has(AWRITE_CLEAN_DRY_RUN),
    })
}

/// Deletes what the options name from a directory.
///
/// @param dir the directory.
/// @param options what to delete; not NULL.
/// @param report called on this thread for each file that is deleted, kept, or cannot be deleted; NULL: nobody is told.
/// @param context passed to report.
/// @param summary receives what was done, also if the run was stopped or something failed; or NULL.
///
/// @return AWRITE_OK; AWRITE_STOPPED if the callback returned anything but 0; AWRITE_ERROR if the directory could not
/// be read, or if something in it could not be read or deleted (the rest was done); AWRITE_BAD_ARGUMENT. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awrite_housekeep(
    dir: *const c_char,
    options: *const awrite_housekeep_options,
    report: awrite_housekeep_fn,
    context: *mut c_void,
    summary: *mut awrite_housekeep_summary,
) -> awrite_status {
    guard(|| {
        // SAFETY: what the header asks of the caller.
        let (dir, options, out) =
            unsafe { (argument::path(dir, "dir")?, housekeep_options(options)?, Out::new(summary)?) };
        let mut failed = None;
        let done = housekeep(dir, &options, |event| {
            if let HousekeepEvent::Failed(e) = event {
                failed.get_or_insert_with(|| copy_error(e, dir));
            }
            match report {
                // SAFETY: it is the caller's function, and is called as the header says.
                Some(report) => unsafe { call_report(report, context, event) },
                None => ControlFlow::Continue(()),
            }
        })?;
        out.put(&summary_of(&done));
        if done.stopped {
            return Err(Error::new(ErrorKind::Refused, "stopped by the callback").on(dir));
        }
        failed.map_or(Ok(()), Err)
    })
}

/// A copy of an error. Housekeeping only lends the error to its observer, and the status needs it at the end.
fn copy_error(error: &Error, dir: &Path) -> Error {
    let copy = match error.errno() {
        None => Error::new(ErrorKind::Io, error.reason()),
        Some(errno) => Error::from_raw(ErrorKind::Io, errno).because(error.reason()),
    };
    let copy = copy.on(error.path().unwrap_or(dir)).held_by(error.holder().cloned());
    error.remedy().into_iter().fold(copy, |copy, remedy| copy.with_remedy(remedy.clone()))
}

/// Reports one event to the caller's function, except for the progress, which C does not get.
///
/// # Safety
///
/// `report` may be called with an event and `context`.
unsafe fn call_report(
    report: unsafe extern "C-unwind" fn(*const awrite_housekeep_event, *mut c_void) -> c_int,
    context: *mut c_void,
    event: &HousekeepEvent<'_>,
) -> ControlFlow<()> {
    let failed;
    let (kind, leftover, path, reason, bytes, age) = match event {
        HousekeepEvent::Deleted { path, leftover, bytes, age } => {
            (AWRITE_EVENT_DELETED, Some(*leftover), *path, "", *bytes, *age)
        }
        HousekeepEvent::Kept { path, leftover, reason } => {
            (AWRITE_EVENT_KEPT, Some(*leftover), *path, *reason, 0, Duration::ZERO)
        }
        HousekeepEvent::NotEntered { path, reason } => {
            (AWRITE_EVENT_NOT_ENTERED, None, *path, *reason, 0, Duration::ZERO)
        }
        HousekeepEvent::Failed(e) => {
            failed = e.reason();
            (AWRITE_EVENT_FAILED, None, e.path().unwrap_or(Path::new("")), &*failed, 0, Duration::ZERO)
        }
        HousekeepEvent::Progress { .. } => return ControlFlow::Continue(()),
    };
    let (path, reason) = (c_path(path), c_string(reason));
    let event = awrite_housekeep_event {
        size: size_of::<awrite_housekeep_event>(),
        kind,
        leftover: leftover.map_or(AWRITE_LEFTOVER_NONE, |leftover| match leftover {
            Leftover::Lock => AWRITE_LEFTOVER_LOCK,
            Leftover::Lease => AWRITE_LEFTOVER_LEASE,
            Leftover::Backup => AWRITE_LEFTOVER_BACKUP,
            Leftover::Temp => AWRITE_LEFTOVER_TEMP,
        }),
        path: path.as_ptr(),
        reason: reason.as_ptr(),
        bytes,
        age_s: age.as_secs(),
    };
    // SAFETY: the caller promises it. The strings live until the function returns.
    match unsafe { report(&raw const event, context) } {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    }
}

fn summary_of(done: &HousekeepSummary) -> awrite_housekeep_summary {
    awrite_housekeep_summary {
        size: 0,
        locks: done.locks,
        leases: done.leases,
        backups: done.backups,
        temps: done.temps,
        bytes: done.bytes,
        directories: done.directories,
        failures: done.failures,
        other_locks: done.other_locks,
        other_backups: done.other_backups,
    }
}
