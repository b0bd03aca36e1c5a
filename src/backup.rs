//! Keeping the current content before it is replaced. The target itself is never renamed away.
//!
//! ```text
//!   same file system, one link, no mode asked for:  link(target, backup), which refuses to replace; if there is one:
//!                                                   link(target, temp); rename(temp, backup)
//!   otherwise:                                      a copy, reflinked where possible, synced; rename(temp, backup)
//!   with a timestamp:                               the same, but the name must be new: -1, -2 … until one is
//! ```
//!
//! States of a backup:
//!
//! ```text
//!   (none) --make--> linked under a new name --keep, after the commit--> kept
//!                    linked under a new name --drop, shutdown--> (none), for it is the target still
//!          --make--> copied, or linked in place of an earlier backup: kept, whatever follows
//! ```

use std::ffi::{OsStr, OsString};
use std::io::{self, Seek};
use std::path::PathBuf;
use std::sync::Arc;

use crate::cleanup::{self, Ticket, Undo};
use crate::copy::{self, Failed};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Place;
use crate::metadata::{self, Wanted};
use crate::names::BackupNames;
use crate::options::{BackupOptions, Durability, Ownership};
use crate::original::Original;
use crate::remedy::Remedy;
use crate::stage::{Birth, Rename, Stage, link_temp};
use crate::sys::{Dir, FileKind, FileStatus};
use crate::target::Target;

/// A backup that has been made. Dropping it before it is kept removes a second link, which would go on changing with the
/// target. One that has replaced an earlier backup stays all the same: no backup at all would be worse.
#[derive(Debug)]
pub(crate) struct Backup {
    dir: Arc<Dir>,
    name: OsString,
    pub(crate) path: PathBuf,
    pub(crate) linked: bool,
    /// Only of a link that has replaced no earlier backup.
    ticket: Option<Ticket>,
}

/// A backup that is a second link to its target. Once the target has been replaced it is the only link, and stays.
struct SecondLink {
    dir: Arc<Dir>,
    name: OsString,
    target_dir: Arc<Dir>,
    target: OsString,
}

impl Undo for SecondLink {
    fn undo(&self) -> io::Result<()> {
        let (one, other) = (self.dir.status(&self.name)?, self.target_dir.status(&self.target)?);
        if one.is_some_and(|one| other.is_some_and(|other| one.id == other.id)) {
            self.dir.unlink(&self.name)
        } else {
            Ok(())
        }
    }
}

impl Backup {
    /// Called after the commit: the backup stays.
    pub(crate) fn keep(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.keep();
        }
    }

    /// Called after the commit: a link has the old content's time, but a backup has the time when it was made.
    pub(crate) fn date(&self) -> io::Result<()> {
        if self.linked { self.dir.touch(&self.name) } else { Ok(()) }
    }
}

/// Refuses options that name no backup or a directory that is not there, before anything is locked or read. With `mkdir` a
/// missing directory will be made.
pub(crate) fn ensure_nameable(options: &BackupOptions, mkdir: bool) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let suffix = options.suffix.as_bytes();
    if suffix.is_empty() || suffix.contains(&b'/') || suffix.contains(&0) {
        return Err(Error::new(ErrorKind::Usage, "the backup suffix must not be empty or contain /"));
    }
    match open_dir(options) {
        Err(e) if mkdir && e.errno() == Some(libc::ENOENT) => Ok(()),
        opened => opened.map(drop),
    }
}

/// Refuses a backup that would replace the lock file, which is held meanwhile, or the lease's record.
pub(crate) fn ensure_apart(target: &Target, place: &Place, options: &BackupOptions, mkdir: bool) -> Result<()> {
    // Nobody names a lock file after the time of a backup.
    if options.timestamp {
        return Ok(());
    }
    let dir = match open_dir(options) {
        // It will be made, and has no lock file in it.
        Err(e) if mkdir && e.errno() == Some(libc::ENOENT) => return Ok(()),
        opened => opened?,
    };
    let dir = dir.as_ref().unwrap_or(&target.dir);
    let name = BackupNames::new(&target.name, &options.suffix, options.timestamp).plain();
    let stands_for = |there: &Dir, other: &OsStr| there.id() == dir.id() && name == other;
    if stands_for(&place.dir, &place.name) || stands_for(&place.lease.dir, &place.lease.name) {
        let reason = "the backup must be another file than the lock file and the lease's record";
        return Err(Error::new(ErrorKind::Usage, reason).on(dir.join(&name)).with_remedy(Remedy::BackupElsewhere));
    }
    Ok(())
}

/// The directory for backups; `None`: the target's.
fn open_dir(options: &BackupOptions) -> Result<Option<Arc<Dir>>> {
    let Some(path) = &options.dir else { return Ok(None) };
    let dir = Dir::open(path).map_err(|e| {
        let missing = e.raw_os_error() == Some(libc::ENOENT);
        let error = Error::io(path, e);
        if missing { error.with_remedy(Remedy::Mkdir(path.clone())) } else { error }
    })?;
    Ok(Some(Arc::new(dir)))
}

/// Makes the backup, as durable as `durability` says. `must_copy`: the original will be overwritten in place.
pub(crate) fn make(
    target: &Target,
    original: &Original,
    options: &BackupOptions,
    durability: Durability,
    must_copy: bool,
) -> Result<Backup> {
    let dir = open_dir(options)?.unwrap_or_else(|| target.dir.clone());
    let names = BackupNames::new(&target.name, &options.suffix, options.timestamp);
    let fail = |name: &OsStr, e: io::Error| Error::io(dir.join(name), e).during("cannot make the backup");
    let may_link = !must_copy && options.mode.is_none() && is_plain(target, &original.status);
    let link = if may_link { link(target, &dir, &names) } else { None };
    let linked = link.is_some();
    let (name, ticket) = match link {
        Some(link) => link,
        None => {
            let name = make_copy(target, original, options, durability, &dir, &names);
            (name.map_err(|e| fail(&names.plain(), e))?, None)
        }
    };
    if durability == Durability::Full && dir.id() != target.dir.id() {
        dir.sync().map_err(|e| fail(&name, e))?;
    }
    Ok(Backup { path: dir.join(&name), dir, name, linked, ticket })
}

/// Whether the backup may be a link. With other names of the file, a program that writes through them would change the
/// backup.
fn is_plain(target: &Target, original: &FileStatus) -> bool {
    original.kind == FileKind::Regular && original.links == 1 && !target.is_link()
}

/// Makes a second link to the target. Returns its name, and the ticket for it where the name is new. `None`: no link is
/// possible (protected_hardlinks, another file system, too many links …). A copy follows, and reports what is wrong if it
/// fails too.
fn link(target: &Target, dir: &Arc<Dir>, names: &BackupNames<'_>) -> Option<(OsString, Option<Ticket>)> {
    let to_new_name = |name: &OsStr| {
        cleanup::make(|| {
            // link(2) refuses an existing name by itself.
            target.dir.link(&target.name, dir, name)?;
            let (target_dir, target) = (target.dir.clone(), target.name.clone());
            Ok::<_, io::Error>(((), SecondLink { dir: dir.clone(), name: name.to_owned(), target_dir, target }))
        })
    };
    if names.is_dated() {
        let mut ticket = None;
        let name = names.first_free(|name| to_new_name(name).map(|((), made)| ticket = Some(made))).ok()?;
        return Some((name, ticket));
    }
    let name = names.plain();
    match to_new_name(&name) {
        Ok(((), ticket)) => return Some((name, Some(ticket))),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(_) => return None,
    }
    let (temp, ticket) = link_temp(&target.dir, &target.name, dir).ok()?;
    ticket.settle(|| dir.rename(&temp, dir, &name)).ok()?;
    // Between two links of one inode rename does nothing and leaves the source (rename(2)).
    match dir.unlink(&temp) {
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => None,
        _ => Some((name, None)),
    }
}

fn make_copy(
    target: &Target,
    original: &Original,
    options: &BackupOptions,
    durability: Durability,
    dir: &Arc<Dir>,
    names: &BackupNames<'_>,
) -> io::Result<OsString> {
    let mut stage = Stage::create(dir.clone(), &target.name, Birth::Private)?;
    let mut content = original.content()?;
    content.rewind()?;
    copy::copy(content, &stage.file, |_, _| {}).map_err(Failed::into_inner)?;
    let wanted = Wanted { mode: options.mode, ownership: Ownership::TryKeep, xattrs: true };
    let made = FileStatus::of(&stage.file)?;
    metadata::apply(&stage.file, &made, original, wanted)?;
    stage.publish()?;
    if durability != Durability::None {
        stage.file.sync_all()?;
    }
    if !names.is_dated() {
        let name = names.plain();
        stage.rename(dir, &name, Rename::Place).map_err(|(e, _)| e)?;
        return Ok(name);
    }
    let mut stage = Some(stage);
    names.first_free(|name| {
        let Some(current) = stage.take() else { return Err(io::ErrorKind::NotFound.into()) };
        current.rename(dir, name, Rename::PlaceNew).map(drop).map_err(|(e, back)| {
            stage = Some(back);
            e
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_that_would_hit_the_target_or_another_directory() {
        for bad in ["", "/x", "a/b"] {
            assert!(
                ensure_nameable(&BackupOptions { suffix: bad.into(), ..BackupOptions::default() }, false).is_err(),
                "{bad}"
            );
        }
        assert!(ensure_nameable(&BackupOptions::default(), false).is_ok());
    }
}
