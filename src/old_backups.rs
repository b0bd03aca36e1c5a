//! The dated backups of a target: which there are, and the deletion of those that are too many, after a commit and under
//! the target's lock.
//!
//! Their order is that of the times in their names: a copy may have mixed up their modification times. Only in the hour
//! that comes twice in autumn these tell which of the two it was. The backup that was just made counts as the newest,
//! whatever the clock says.

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cleanup;
use crate::error::reason_of;
use crate::local_time;
use crate::names::{BackupNames, Stamp};
use crate::notice::{Notice, Observer};
use crate::options::BackupOptions;
use crate::sys::{Dir, FileKind};
use crate::target::Target;

/// Bytes of names that are read at a time.
const BUFFER: usize = 8 * 1024;

/// All that are called as backups of this file with this suffix, and the times in their names.
pub(crate) fn find(dir: &Dir, names: &BackupNames<'_>) -> io::Result<Vec<(Stamp, OsString)>> {
    let mut found = Vec::new();
    // A descriptor of its own: `dir` may be open without the right to read it, and reading moves its position.
    let dir = dir.open_child(OsStr::new("."))?;
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    loop {
        let more = dir.read_some(&mut buffer, |name, _| {
            found.extend(names.stamp_in(name).map(|stamp| (stamp, name.to_owned())));
        })?;
        if !more {
            return Ok(found);
        }
    }
}

/// Deletes those in `dir` beyond the newest `keep`. `made` was just made, and stays. The write has succeeded, so what goes
/// wrong here is only told.
pub(crate) fn delete(
    target: &Target,
    dir: &Dir,
    options: &BackupOptions,
    keep: u64,
    made: Option<&OsStr>,
    observer: &Observer,
) {
    let warn = |path: &Path, text: &str| observer.tell(&Notice::Warning { path, text });
    let found = match of_target(target, dir, options, made) {
        Ok(found) => found,
        Err(e) => return warn(dir.path(), &format!("cannot look for old backups: {}", reason_of(&e))),
    };
    let keep = usize::try_from(keep).unwrap_or(usize::MAX).saturating_sub(usize::from(made.is_some()));
    let mut failed: Option<(&OsStr, io::Error)> = None;
    let mut more = 0;
    // The oldest first: if the work ends half-way, the most valuable ones are left.
    for name in found.iter().skip(keep).rev() {
        // After a shutdown has given the lock back, the next writer decides.
        match cleanup::step(|| dir.unlink(name)) {
            Ok(()) => observer.tell(&Notice::BackupDeleted { target: &target.given, backup: &dir.join(name) }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(_) if failed.is_some() => more += 1,
            Err(e) => failed = Some((name, e)),
        }
    }
    if let Some((name, e)) = failed {
        let others = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        warn(&dir.join(name), &format!("cannot delete this old backup{others}: {}", reason_of(&e)));
    }
}

/// The target's dated backups in `dir` but `made`, the newest first.
fn of_target(target: &Target, dir: &Dir, options: &BackupOptions, made: Option<&OsStr>) -> io::Result<Vec<OsString>> {
    let names = BackupNames::new(&target.name, &options.suffix, false);
    let zone = local_time::zone();
    let mut found = Vec::new();
    for (stamp, name) in find(dir, &names)? {
        let Some(status) = dir.status(&name)?.filter(|status| status.kind == FileKind::Regular) else { continue };
        if made != Some(&name) && !is_of_another(target, dir, &name, &options.suffix)? {
            let made = local_time::moment(stamp.time, &zone, Some(status.modified));
            found.push((made, stamp.number, name));
        }
    }
    found.sort_unstable_by(later_first);
    Ok(found.into_iter().map(|(_, _, name)| name).collect())
}

/// Moment, number in that second, name.
type Found = (i128, u32, OsString);

// Inlined, it would be in the sort eleven times.
#[inline(never)]
fn later_first(a: &Found, b: &Found) -> Ordering {
    b.cmp(a)
}

/// Whether it is the plain backup of another file, whose own name ends in a time: `log.20260102-030405.backup` where there
/// is a `log.20260102-030405`.
fn is_of_another(target: &Target, dir: &Dir, name: &OsStr, suffix: &OsStr) -> io::Result<bool> {
    let of = OsStr::from_bytes(&name.as_bytes()[..name.len() - suffix.len()]);
    Ok(dir.status(of)?.is_some() || (dir.id() != target.dir.id() && target.dir.status(of)?.is_some()))
}
