//! Backups.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use rustix::fs::OFlags;

use super::attempt::{Attempt, Deleted, gone_or_failed, open, status};
use super::refusal::{IN_USE, NotDeleted, REPLACED, Result, ensure_regular};
use crate::lock::is_in_use;
use crate::names::{BackupNames, lock_name};
use crate::sys::{self, Dir, FileStatus, lease};

/// How long a write may take from making its backup, as a link, to the commit, which waits for the disk. This is for
/// writers whose lock is in another directory.
const UNDER_WAY: Duration = Duration::from_secs(60);
/// How long a writer may take from the commit to setting the backup's time.
const DATING: Duration = Duration::from_millis(100);

/// Deletes a backup with a time in its name, which was made at `time`. Nobody replaces it, so that `seen`, if it was looked
/// at for its age, still holds.
pub(crate) fn dated_backup(
    dir: &Dir,
    name: &OsStr,
    time: i128,
    seen: Option<&FileStatus>,
    attempt: Attempt,
) -> Result<Deleted> {
    let status = seen.map_or_else(|| status(dir, name), |seen| Ok(*seen))?;
    ensure_regular(&status)?;
    Ok(Deleted { age: attempt.since(time), ..attempt.unlink(dir, name, &status)? })
}

/// Deletes a backup of the file `of` that may be replaced at any moment, and that goes because of its age, which
/// `planned` shows. `asides` are the names that it could have with its time in them.
pub(crate) fn plain_backup(
    dir: &Dir,
    name: &OsStr,
    of: &OsStr,
    asides: &BackupNames<'_>,
    planned: &FileStatus,
    attempt: Attempt,
) -> Result<Deleted> {
    ensure_regular(planned)?;
    // A backup that is a second link to the old file has the content's time until its writer sets it, after the commit.
    // Up to the commit, it is the target too.
    if is_held(dir, &lock_name(of, dir))? {
        return Err(IN_USE);
    }
    if planned.links > 1 && attempt.is_fresh(UNDER_WAY, planned) {
        return Err(NotDeleted::Kept("may be being made"));
    }
    attempt.ensure_not_fresh(DATING, planned)?;
    let now = status(dir, name)?;
    ensure_as_planned(&now, planned)?;
    if attempt.dry_run {
        return attempt.foresee(dir, &now);
    }
    let aside = asides.first_free(|aside| rename_to_free(dir, name, aside)).map_err(gone_or_failed)?;
    let now = status(dir, &aside)?;
    if let Err(replaced) = ensure_as_planned(&now, planned) {
        // A writer has made a new one since. If this fails, that stays a backup, with its time in its name.
        let _ = dir.rename_new(&aside, dir, name);
        return Err(replaced);
    }
    attempt.unlink(dir, &aside, &now)
}

/// Compares all but ctime, which renaming changes. No writer makes a new backup of the same inode with the same time and
/// length.
fn ensure_as_planned(now: &FileStatus, planned: &FileStatus) -> Result<()> {
    let same = (now.id, now.kind, now.size, now.modified) == (planned.id, planned.kind, planned.size, planned.modified);
    if same { Ok(()) } else { Err(REPLACED) }
}

/// Whether somebody may hold the lock file `name`: has it open, or holds it. One that may not be opened counts as held.
fn is_held(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let file = match open(dir, name, OFlags::RDONLY) {
        Ok(file) => file,
        Err(NotDeleted::Failed(e)) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(true),
        Err(NotDeleted::Failed(e)) => return Err(e),
        Err(why) => return Ok(matches!(why, NotDeleted::Leased)),
    };
    // Not its lock, if that can be helped: a program that does not wait for it would fail.
    if FileStatus::of(&file)?.size == 0 {
        if let Ok(open) = lease::is_open_elsewhere(&file) {
            return Ok(open);
        }
    }
    drop(file);
    is_in_use(dir, name)
}

fn rename_to_free(dir: &Dir, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match dir.rename_new(from, dir, to) {
        // FUSE and NFS cannot do this in one step. Only another housekeeper could make this name meanwhile, of a backup
        // that is to go too. link(2) would not do: the name that is unlinked after it could be another file's by then.
        Err(e) if sys::unsupported(&e) => match dir.status(to)? {
            None => dir.rename(from, dir, to),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        },
        outcome => outcome,
    }
}
