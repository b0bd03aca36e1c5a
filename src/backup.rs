//! Keeping the current content before it is replaced. The target itself is never renamed away.
//!
//! ```text
//!   prepare:  same file system, one link, no mode asked for:  link(target, temp); fsync(target)
//!             otherwise:                                      a copy, reflinked where possible; fsync(temp)
//!   place:    the name is free:                               rename(temp, backup)
//!             with a timestamp it must be:                    -1, -2 … until one is
//!             otherwise an earlier backup has it:             exchange(temp, backup)
//!   keep:     the earlier backup, if there is one:            unlink(temp)
//! ```
//!
//! States of a backup:
//!
//! ```text
//!   (none) --prepare--> Draft, under a temporary name --place--> Backup --keep, after the commit--> kept
//!                       Draft --drop, shutdown--> (none)
//!                                                                Backup --drop, shutdown--> (none); the earlier one is back
//! ```
//!
//! Where names cannot be exchanged (FUSE, NFS) an earlier backup is replaced by `place`, and a drop does nothing then.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cleanup::{self, Ticket, Undo};
use crate::copy::{self, Failed};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Place;
use crate::metadata::{self, Lost, Wanted};
use crate::names::BackupNames;
use crate::notice::{Notice, Observer};
use crate::old_backups;
use crate::options::{BackupOptions, Durability, Ownership};
use crate::original::Original;
use crate::remedy::Remedy;
use crate::stage::{Birth, Stage, clear_for, link_temp, link_temp_as, rename_new};
use crate::sys::{self, Dir, FileId, FileKind, FileStatus, retry};
use crate::target::Target;

/// A backup under a temporary name; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    names: BackupNames<'a>,
    file: Unplaced<'a>,
    linked: bool,
    /// A copy, which is marked as in use for as long as it has its temporary name.
    _copy: Option<File>,
}

/// What is at a backup's temporary name.
#[derive(Debug)]
struct Unplaced<'a> {
    target: &'a Target,
    dir: Arc<Dir>,
    temp: OsString,
    /// `None`: it has got another name for good.
    ticket: Option<Ticket>,
    /// Of the backup.
    id: FileId,
    /// Of the file that is about to be replaced.
    original: FileId,
}

/// A backup that has its name. Dropping it before it is kept takes it back.
#[derive(Debug)]
pub(crate) struct Backup {
    dir: Arc<Dir>,
    name: OsString,
    pub(crate) path: PathBuf,
    pub(crate) linked: bool,
    /// `None`: it has replaced an earlier one for good.
    ticket: Option<Ticket>,
    /// What the earlier backup is called now.
    earlier: Option<OsString>,
}

/// A backup as [`cleanup`] knows it: taken back while the target is what it was. Afterwards it is the only one to have the
/// old content, and stays.
struct Placed {
    dir: Arc<Dir>,
    name: OsString,
    id: FileId,
    target_dir: Arc<Dir>,
    target: OsString,
    original: FileId,
    earlier: Option<OsString>,
}

impl Undo for Placed {
    fn undo(&self) -> io::Result<()> {
        let take_back =
            stands_for(&self.dir, &self.name, self.id)? && stands_for(&self.target_dir, &self.target, self.original)?;
        match &self.earlier {
            None if take_back => self.dir.unlink(&self.name),
            None => Ok(()),
            Some(earlier) => {
                if take_back {
                    self.dir.exchange(earlier, &self.name)?;
                }
                self.dir.unlink(earlier)
            }
        }
    }

    fn is_temporary_file(&self) -> bool {
        self.earlier.is_some()
    }
}

fn stands_for(dir: &Dir, name: &OsStr, id: FileId) -> io::Result<bool> {
    Ok(dir.status(name)?.is_some_and(|there| there.id == id))
}

/// A backup of a target in a set, under its temporary name; dropping it removes it.
#[derive(Debug)]
pub(crate) struct SetDraft {
    /// `None`: it is no longer this process's to remove.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) linked: bool,
    _copy: Option<File>,
}

impl Draft<'_> {
    /// Takes it back, if it could get its name.
    pub(crate) fn give_up(self) -> Result<()> {
        let (name, dir) = (self.names.plain(), &self.file.dir);
        let taken =
            !self.names.is_dated() && matches!(dir.status(&name), Ok(Some(there)) if there.kind == FileKind::Directory);
        if taken { Err(unplaced(dir, &name, io::Error::from_raw_os_error(libc::EISDIR))) } else { Ok(()) }
    }

    pub(crate) fn into_set(self) -> SetDraft {
        let Draft { file, linked, _copy, .. } = self;
        SetDraft { ticket: file.ticket, linked, _copy }
    }

    /// Gives the backup its name, and makes that as durable as `durability` says. `in_place`: the target will be
    /// overwritten, so its directory is not synced later.
    pub(crate) fn place(self, durability: Durability, in_place: bool) -> Result<Backup> {
        // What comes first here is dropped last: a copy is marked until its temporary name is gone.
        let Draft { _copy, names, mut file, linked } = self;
        let placed = if names.is_dated() {
            names.first_free(|name| file.take(name, false)).map(|name| (name, None))
        } else {
            let name = names.plain();
            file.replace(&name).map(|earlier| (name, earlier))
        };
        let Unplaced { dir, ticket, target, .. } = file;
        let (name, earlier) = placed.map_err(|e| unplaced(&dir, &names.plain(), e))?;
        let backup = Backup { path: dir.join(&name), dir: dir.clone(), name, linked, ticket, earlier };
        if durability != Durability::None && (in_place || dir.id() != target.dir.id()) {
            dir.sync().map_err(|e| unplaced(&dir, &backup.name, e))?;
        }
        Ok(backup)
    }
}

fn unplaced(dir: &Dir, name: &OsStr, e: io::Error) -> Error {
    Error::io(dir.join(name), e).during("cannot make the backup")
}

impl Unplaced<'_> {
    /// Gives it `name`, which must be free, or, with `exchange`, the name of an earlier backup, which gets the temporary one.
    fn take(&mut self, name: &OsStr, exchange: bool) -> io::Result<()> {
        let Some(ticket) = self.ticket.take() else { return Err(io::ErrorKind::NotFound.into()) };
        let turned = ticket.turn(|| {
            match exchange {
                true => self.dir.exchange(&self.temp, name)?,
                false => rename_new(&self.dir, &self.temp, name)?,
            }
            Ok(Placed {
                dir: self.dir.clone(),
                name: name.to_owned(),
                id: self.id,
                target_dir: self.target.dir.clone(),
                target: self.target.name.clone(),
                original: self.original,
                earlier: exchange.then(|| self.temp.clone()),
            })
        });
        let (ticket, outcome) = match turned {
            Ok(ticket) => (ticket, Ok(())),
            Err((e, ticket)) => (ticket, Err(e)),
        };
        self.ticket = Some(ticket);
        outcome
    }

    /// Gives it `name`, in place of an earlier backup. Returns what that is called now, if it is still there.
    fn replace(&mut self, name: &OsStr) -> io::Result<Option<OsString>> {
        loop {
            match self.take(name, false) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => return outcome.map(|()| None),
            }
            // Names would be exchanged with a directory, too.
            if self.dir.status(name)?.is_some_and(|there| there.kind == FileKind::Directory) {
                return Err(io::Error::from_raw_os_error(libc::EISDIR));
            }
            match self.take(name, true) {
                Err(e) if sys::unsupported(&e) => break,
                // A housekeeper has removed the earlier one meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound && stands_for(&self.dir, &self.temp, self.id)? => {}
                outcome => return outcome.map(|()| Some(self.temp.clone())),
            }
        }
        let rename = || match self.dir.rename(&self.temp, &self.dir, name) {
            // Over NFS the answer can be lost after the deed.
            Err(_) if stands_for(&self.dir, name, self.id).unwrap_or(false) => Ok(()),
            outcome => outcome,
        };
        let for_good = || {
            retry(rename)?;
            // Between two links of one inode rename does nothing and leaves the source (rename(2)).
            match self.dir.unlink(&self.temp) {
                Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
                _ => Ok(()),
            }
        };
        let ticket = self.ticket.take();
        ticket.map_or(Ok(()), |ticket| ticket.settle(for_good).map_err(|(e, _)| e)).map(|()| None)
    }
}

impl Backup {
    /// The backup stays, from now on whatever follows.
    pub(crate) fn keep(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        match self.earlier.take() {
            None => ticket.keep(),
            Some(earlier) => {
                // What cannot be removed is what a crash would leave.
                if let Err((_, ticket)) = ticket.settle(|| self.dir.unlink(&earlier)) {
                    ticket.keep();
                }
            }
        }
    }

    /// What would take it back, for a commit of several files.
    pub(crate) fn give_up_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }

    /// Removes the earlier backup, once nothing takes this one back any more.
    pub(crate) fn remove_earlier(&mut self) {
        if let Some(earlier) = self.earlier.take() {
            // What cannot be removed is what a crash would leave.
            let _ = cleanup::step(|| self.dir.unlink(&earlier));
        }
    }

    /// Its directory and name.
    pub(crate) fn place(&self) -> (&Arc<Dir>, &OsStr) {
        (&self.dir, &self.name)
    }

    /// Called after the commit: a link has the old content's time, but a backup has the time when it was made.
    pub(crate) fn date(&self) -> io::Result<()> {
        if self.linked { self.dir.touch(&self.name) } else { Ok(()) }
    }
}

/// After the commit: deletes the target's dated backups that are too many. `made` is the one of this write.
pub(crate) fn delete_older(
    target: &Target,
    options: &BackupOptions,
    made: Option<(&Arc<Dir>, &OsStr)>,
    observer: &Observer,
) {
    let Some(keep) = options.keep_newest else { return };
    let dir = match made.map_or_else(|| open_dir(options), |(dir, _)| Ok(Some(dir.clone()))) {
        Ok(dir) => dir.unwrap_or_else(|| target.dir.clone()),
        // There was nothing to back up, so it was not made.
        Err(e) if e.errno() == Some(libc::ENOENT) => return,
        Err(e) => {
            let path = e.path().unwrap_or(&target.given);
            return observer.tell(&Notice::Warning { path, text: &e.reason() });
        }
    };
    old_backups::delete(target, &dir, options, keep, made.map(|(_, name)| name), observer);
}

/// Refuses options that name no backup or a directory that is not there, before anything is locked or read. With `mkdir` a
/// missing directory will be made.
pub(crate) fn ensure_nameable(options: &BackupOptions, mkdir: bool) -> Result<()> {
    let suffix = options.suffix.as_bytes();
    if suffix.is_empty() || suffix.contains(&b'/') || suffix.contains(&0) {
        return Err(Error::new(ErrorKind::Usage, "the backup suffix must not be empty or contain /"));
    }
    if options.keep_newest == Some(0) {
        let reason = "at least 1 backup must be kept: the one that is made is one of them";
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    match open_dir(options) {
        Err(e) if mkdir && e.errno() == Some(libc::ENOENT) => Ok(()),
        opened => opened.map(drop),
    }
}

/// Refuses a backup that would replace the lock file, which is held meanwhile, or the lease's record.
pub(crate) fn ensure_apart(target: &Target, place: &Place, options: &BackupOptions, mkdir: bool) -> Result<()> {
    // Nobody names a lock file after the time of a backup.
    if options.is_dated() {
        return Ok(());
    }
    let dir = match open_dir(options) {
        // It will be made, and has no lock file in it.
        Err(e) if mkdir && e.errno() == Some(libc::ENOENT) => return Ok(()),
        opened => opened?,
    };
    let dir = dir.as_ref().unwrap_or(&target.dir);
    let name = BackupNames::new(&target.name, &options.suffix, options.is_dated()).plain();
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

/// How a backup is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making<'a> {
    /// Of the link lock that is held.
    pub(crate) nonce: Option<&'a str>,
    /// The temporary name that it must have.
    pub(crate) temp: Option<&'a OsStr>,
    pub(crate) durability: Durability,
    /// The original will be overwritten, so that a link to it is no backup.
    pub(crate) in_place: bool,
}

/// What the name of a target's backup in a set will have behind the target's, and whether it replaces an earlier one. `None`:
/// it is in another directory.
pub(crate) fn plan_in_set(target: &Target, options: &BackupOptions) -> Result<Option<(OsString, bool)>> {
    if open_dir(options)?.is_some_and(|dir| dir.id() != target.dir.id()) {
        return Ok(None);
    }
    let (dir, dated) = (&*target.dir, options.is_dated());
    let names = names_of(target, options, dir);
    let fail = |e: io::Error| Error::io(dir.join(&names.plain()), e).during("cannot make the backup");
    let free = |name: &OsStr| match dir.status(name)? {
        None => Ok(()),
        Some(there) if !dated && there.kind == FileKind::Directory => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        Some(_) if dated => Err(io::ErrorKind::AlreadyExists.into()),
        Some(_) => Ok(()),
    };
    let name = names.first_free(free).map_err(fail)?;
    let tail = name.as_bytes().strip_prefix(target.name.as_bytes()).unwrap_or(name.as_bytes());
    Ok(Some((OsStr::from_bytes(tail).to_owned(), !dated)))
}

/// The names that a backup in `dir` may get.
fn names_of<'a>(target: &'a Target, options: &'a BackupOptions, dir: &Dir) -> BackupNames<'a> {
    let mut names = BackupNames::new(&target.name, &options.suffix, options.is_dated());
    if options.keep_newest.is_some() {
        names.begin_above(&old_backups::find(dir, &names).unwrap_or_default());
    }
    names
}

/// Makes the backup under a temporary name.
pub(crate) fn prepare<'a>(
    target: &'a Target,
    original: &Original,
    options: &'a BackupOptions,
    how: Making<'_>,
    observer: &Observer,
) -> Result<Draft<'a>> {
    let Making { durability, in_place, .. } = how;
    let dir = open_dir(options)?.unwrap_or_else(|| target.dir.clone());
    let names = names_of(target, options, &dir);
    let fail = |e: io::Error| unplaced(&dir, &names.plain(), e);
    // One name for all backups of the target, whatever time it is.
    let base = BackupNames::new(&target.name, &options.suffix, false).plain();
    let nonce = how.nonce.map(str::to_owned);
    // A link that a dead writer has left is no other name of the file.
    let mut old = original.status;
    old.links -= u64::from(clear_for(&dir, &base, nonce.as_deref(), &old));
    let may_link = !in_place && options.mode.is_none() && is_plain(target, &old);
    let link = if may_link { link(target, original, &dir, &base, how) } else { None };
    let linked = link.is_some();
    let (copy, temp, ticket, id) = match link {
        Some((temp, ticket)) => {
            if durability != Durability::None {
                sync_content(target, original).map_err(fail)?;
            }
            (None, temp, ticket, original.status.id)
        }
        None => {
            let stage = Stage::create_under(dir.clone(), &base, nonce, Birth::Private).map_err(fail)?;
            let (stage, lost) = copy(stage, original, options, how).map_err(fail)?;
            metadata::tell_of_backup(&lost, &dir.join(&names.plain()), observer);
            let (file, temp, ticket) = stage.into_named().map_err(fail)?;
            let id = FileStatus::of(&file).map_err(fail)?.id;
            (Some(file), temp, ticket, id)
        }
    };
    let file = Unplaced { target, dir, temp, ticket: Some(ticket), id, original: original.status.id };
    Ok(Draft { names, file, linked, _copy: copy })
}

/// Whether the backup may be a link. With other names of the file, a program that writes through them would change the
/// backup.
fn is_plain(target: &Target, original: &FileStatus) -> bool {
    original.kind == FileKind::Regular && original.links == 1 && !target.is_link()
}

/// Makes a second link to the target, under a temporary name. `None`: no link is possible (protected_hardlinks, another
/// file system, too many links …). A copy follows, and reports what is wrong if it fails too.
fn link(
    target: &Target,
    original: &Original,
    dir: &Arc<Dir>,
    base: &OsStr,
    how: Making<'_>,
) -> Option<(OsString, Ticket)> {
    let old = &original.status;
    // The name could not be taken away again.
    if dir.protects(old) {
        return None;
    }
    let (temp, ticket) = match how.temp {
        Some(temp) => (temp.to_owned(), link_temp_as(&target.dir, &target.name, dir, temp).ok()?),
        None => link_temp(&target.dir, &target.name, dir, base, how.nonce.map(str::to_owned)).ok()?,
    };
    // Not a file that somebody without the lock has put there, nor a number that each name has for itself (sshfs).
    stands_for(dir, &temp, old.id).ok()?.then_some((temp, ticket))
}

/// A link has only the durability that the content had before: after a power cut it would be empty.
fn sync_content(target: &Target, original: &Original) -> io::Result<()> {
    match original.content() {
        Ok(file) => file.sync_all(),
        // This user may write it but not read it.
        Err(_) => target.dir.sync_file_system(),
    }
}

fn copy(
    mut stage: Stage,
    original: &Original,
    options: &BackupOptions,
    how: Making<'_>,
) -> io::Result<(Stage, Vec<Lost>)> {
    let mut content = original.content()?;
    content.rewind()?;
    copy::copy(content, &stage.file, |_, _| {}).map_err(Failed::into_inner)?;
    let wanted = Wanted { mode: options.mode, ownership: Ownership::TryKeep, xattrs: true };
    let made = FileStatus::of(&stage.file)?;
    let lost = metadata::apply(&stage.file, &made, original, wanted)?;
    match how.temp {
        Some(temp) => stage = stage.publish_as(temp)?,
        None => drop(stage.publish()?),
    }
    if how.durability != Durability::None {
        stage.file.sync_all()?;
    }
    stage.flush()?;
    Ok((stage, lost))
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

    /// Nobody has said yet that it is to be kept, but the target is another file by now, or the backup is.
    #[test]
    fn what_has_the_only_old_content_is_not_taken_back() {
        for earlier in [false, true] {
            for (replaced, left) in [("f", "old"), ("f.backup", "another")] {
                let place = tempfile::tempdir().unwrap();
                let at = |name: &str| place.path().join(name);
                std::fs::write(at("f"), "old").unwrap();
                if earlier {
                    std::fs::write(at("f.backup"), "earlier").unwrap();
                }
                let how = crate::target::Resolve { follow: true, mkdir: false };
                let target = Target::resolve(&at("f"), how).unwrap();
                let original = target.open_original().unwrap().unwrap();
                let how = Making { nonce: None, temp: None, durability: Durability::None, in_place: false };
                let options = BackupOptions::default();
                let draft = prepare(&target, &original, &options, how, &Observer::default()).unwrap();
                let backup = draft.place(Durability::None, false).unwrap();
                std::fs::write(at("another"), "another").unwrap();
                std::fs::rename(at("another"), at(replaced)).unwrap();
                drop(backup);
                assert_eq!(std::fs::read_to_string(at("f.backup")).unwrap(), left);
                assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
            }
        }
    }

    #[test]
    fn a_backup_is_taken_back_until_it_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let read = |name: &str| std::fs::read_to_string(at(name)).ok();
        let count = || std::fs::read_dir(place.path()).unwrap().count();
        let (link, copy) = (BackupOptions::default(), BackupOptions::default().mode(0o600));
        let dated = BackupOptions::default().timestamp(true);
        for options in [&link, &copy, &dated] {
            for earlier in [None, Some("earlier")] {
                std::fs::write(at("f"), "old").unwrap();
                if let Some(earlier) = earlier {
                    std::fs::write(at("f.backup"), earlier).unwrap();
                }
                let before = count();
                let how = crate::target::Resolve { follow: true, mkdir: false };
                let target = Target::resolve(&at("f"), how).unwrap();
                let original = target.open_original().unwrap().unwrap();
                let how = Making { nonce: None, temp: None, durability: Durability::Full, in_place: false };
                let draft = || prepare(&target, &original, options, how, &Observer::default()).unwrap();
                drop(draft());
                assert_eq!((count(), read("f.backup").as_deref()), (before, earlier));
                drop(draft().place(Durability::Full, false).unwrap());
                assert_eq!((count(), read("f.backup").as_deref()), (before, earlier));
                let mut backup = draft().place(Durability::Full, false).unwrap();
                // After the commit it is the only one that has the old content.
                std::fs::rename(at("f"), at("g")).unwrap();
                std::fs::write(at("f"), "new").unwrap();
                std::fs::remove_file(at("g")).unwrap();
                backup.keep();
                assert_eq!(std::fs::read_to_string(&backup.path).unwrap(), "old");
                let kept = if options.timestamp { earlier } else { Some("old") };
                assert_eq!(read("f.backup").as_deref(), kept);
                std::fs::remove_file(&backup.path).unwrap();
                let _ = std::fs::remove_file(at("f.backup"));
                assert_eq!(count(), 1);
            }
        }
    }
}
