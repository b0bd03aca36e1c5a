//! What the commit of a set does, under the locks of all its files. The steps P2 to C4 are those of lease/set.rs, where the
//! protocol stands.
//!
//! 1. Find out which files change. If none does, that is all; if one does, it is replaced as any single file.
//! 2. Give the stages their metadata, and ask the caller's check.
//! 3. P3 to P5. An error, or a signal, up to here takes everything back.
//! 4. C1: the commit point.
//! 5. C2 to C4. An error in here is reported; whoever takes the lock of a file that could not be finished tries again.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::hold::{Hold, open_original, unreadable};
use super::places::Places;
use super::sequence::{Commit, Committed};
use super::{AtomicFile, Phase};
use crate::backup::{self, Backup, Making, SetDraft};
use crate::cleanup::Ticket;
use crate::commit::sync_dir;
use crate::digest::Hasher;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{
    DraftRecord, Journal, JournalDraft, PlacedRecord, SetBackup, SetRecord, Standing, finish_backup, finish_target,
    set_temp_names,
};
use crate::lock::{Writers, fresh_nonce};
use crate::metadata;
use crate::notice::Notice;
use crate::options::Durability;
use crate::original::Original;
use crate::remedy::Remedy;
use crate::stage::Stage;
use crate::sys::{Dir, FileStatus, flush};
use crate::target::Target;

/// Up to so many files are synced one by one. To sync the whole file system waits for whatever else is written to it.
const FEW: usize = 8;

/// A file of a set that is about to be committed, as a check of the whole set sees it.
#[derive(Debug)]
pub struct Staged<'a> {
    /// As the caller gave it.
    pub target: &'a Path,
    /// What was written to it, to be read from any position; `None`: nothing was, and it stays as it is.
    pub new: Option<&'a File>,
    /// Whether it will be replaced: the content is another one, or the mode or owner that is asked for.
    pub changed: bool,
    current: &'a Target,
}

impl Staged<'_> {
    /// Opens what the target contains until now; `None`: it does not exist.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn current(&self) -> Result<Option<File>> {
        let original = open_original(self.current)?;
        original.map(|original| original.into_content().map_err(|e| unreadable(self.current, e))).transpose()
    }
}

/// A file of the set.
struct Member {
    /// `None`: nothing was written to it.
    stage: Option<Stage>,
    changes: bool,
    /// What was written is known to be another content.
    differs: bool,
    bytes: u64,
    commit: Commit,
}

impl Member {
    fn of(mut file: AtomicFile) -> Result<Member> {
        file.take_back()?;
        let AtomicFile { stage, phase, target, options, hasher, input, watched, differs, broken, started, .. } = file;
        if let Some(broken) = broken {
            return Err(broken.error(&target));
        }
        if stage.is_some() && input == 0 && !options.allow_empty {
            return Err(Error::new(ErrorKind::NoInput, "No input provided")
                .on(&target.given)
                .with_remedy(Remedy::AllowEmpty));
        }
        let Phase::Held { lock, lease, expected } = phase else {
            return Err(Error::new(ErrorKind::Usage, "the lock is not held yet").on(&target.given));
        };
        let bytes = target.status.map_or(0, |status| status.size);
        let received = hasher.filter(|_| stage.is_some()).map(Hasher::finish);
        let commit = Commit { hold: Hold { lock, lease, target, expected }, options, received, watched, started };
        Ok(Member { stage, changes: false, differs, bytes, commit })
    }

    /// Finds out whether it changes: its content, or the mode or owner that is asked for. Returns the current file, and what
    /// the stage is like.
    fn look(&mut self) -> Result<(Option<Original>, Option<FileStatus>)> {
        let (Some(stage), commit) = (&self.stage, &self.commit) else { return Ok((None, None)) };
        let made = FileStatus::of(&stage.file).map_err(|e| commit.failed(e))?;
        self.bytes = made.size;
        let original = open_original(&commit.hold.target)?;
        let differs = |old: &Original| commit.wanted(stage).is_ok_and(|w| metadata::differs(old, &made, w));
        let other = self.differs || !commit.is_unchanged(stage, original.as_ref())?;
        self.changes = other || original.as_ref().is_some_and(differs);
        Ok((original, Some(made)))
    }

    fn dress(&self, original: Option<&Original>, made: Option<&FileStatus>) -> Result<()> {
        let (Some(stage), Some(made), commit) = (&self.stage, made, &self.commit) else { return Ok(()) };
        commit.set_metadata(stage, made, original)
    }

    fn show(&self) -> Result<()> {
        let (Some(stage), commit) = (&self.stage, &self.commit) else { return Ok(()) };
        if commit.options.preview.is_none() {
            return Ok(());
        }
        commit.show(stage, open_original(&commit.hold.target)?.as_ref())
    }

    /// It stays as it is, or this is a dry run.
    fn leave(self) -> Result<Committed> {
        let Member { stage, changes, bytes, commit, .. } = self;
        drop(stage);
        let digest = commit.received;
        commit.release(Committed { bytes, changed: changes, backup: None, digest }, Ok(()))
    }
}

pub(super) fn commit(
    files: Vec<AtomicFile>,
    accept: impl FnOnce(&[Staged<'_>]) -> Result<()>,
) -> Result<Vec<Committed>> {
    let mut members = files.into_iter().map(Member::of).collect::<Result<Vec<_>>>()?;
    // Those who work with the files under their locks are to do so before they are replaced.
    members.iter().for_each(|member| member.commit.hold.lock.take_back());
    look_at(&mut members)?;
    let staged: Vec<Staged<'_>> = members
        .iter()
        .map(|Member { stage, changes, commit, .. }| Staged {
            target: &commit.hold.target.given,
            current: &commit.hold.target,
            new: stage.as_ref().map(|stage| &stage.file),
            changed: *changes,
        })
        .collect();
    accept(&staged)?;
    drop(staged);
    // One that stays as it is may be what the others were made from.
    members.iter().try_for_each(|member| member.commit.ensure_expected())?;
    let dry_run = members.first().is_some_and(|member| member.commit.options.dry_run);
    if dry_run || members.iter().filter(|member| member.changes).count() > 1 {
        // A single one is shown when it is replaced.
        members.iter().filter(|member| member.changes).try_for_each(Member::show)?;
    }
    if dry_run {
        return members.into_iter().map(Member::leave).collect();
    }
    let (mut parts, mut rest) = (Vec::new(), Vec::new());
    for (number, mut member) in members.into_iter().enumerate() {
        match member.stage.take().filter(|_| member.changes) {
            Some(stage) => parts.push(Part::new(number, stage, member.bytes, member.commit)),
            None => rest.push((number, member)),
        }
    }
    let mut done: Vec<(usize, Committed)> = match parts.len() {
        0 => Vec::new(),
        1 => parts.into_iter().map(Part::alone).collect::<Result<_>>()?,
        _ => replace(parts)?,
    };
    for (number, member) in rest {
        done.push((number, member.leave()?));
    }
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, committed)| committed).collect())
}

/// Finds out which of them change. If these are several, gives their stages the metadata.
fn look_at(members: &mut [Member]) -> Result<()> {
    let mut first = None;
    for number in 0..members.len() {
        let member = &mut members[number];
        if member.commit.watched {
            member.commit.ensure_untouched()?;
        }
        let (original, made) = member.look()?;
        match first {
            _ if !member.changes => {}
            None => first = Some((number, false)),
            Some((first_number, dressed)) => {
                member.dress(original.as_ref(), made.as_ref())?;
                if !dressed {
                    // Left out until now: a single one gets them from its own commit.
                    let first_one = &mut members[first_number];
                    let (original, made) = first_one.look()?;
                    first_one.dress(original.as_ref(), made.as_ref())?;
                    first = Some((first_number, true));
                }
            }
        }
    }
    Ok(())
}

/// A file of the set that is replaced.
struct Part {
    // Dropped in this order: the names that the record leads to, then the record, then the lock.
    /// `None` once it has its name in the set.
    stage: Option<Stage>,
    named: Option<Named>,
    draft: Option<SetDraft>,
    /// A backup in another directory.
    elsewhere: Option<Backup>,
    record: Option<PlacedRecord>,
    /// The temporary names of stage and backup.
    names: [OsString; 2],
    backup: Option<SetBackup>,
    bytes: u64,
    number: usize,
    commit: Commit,
}

/// A stage under its name in the set; dropping it removes it.
struct Named {
    ticket: Option<Ticket>,
    file: File,
}

impl Part {
    fn new(number: usize, stage: Stage, bytes: u64, commit: Commit) -> Part {
        Part {
            stage: Some(stage),
            named: None,
            draft: None,
            elsewhere: None,
            record: None,
            names: Default::default(),
            backup: None,
            bytes,
            number,
            commit,
        }
    }

    /// The only one that changes is replaced as a single file.
    fn alone(mut self) -> Result<(usize, Committed)> {
        // That it changes is known.
        self.commit.options.if_changed = false;
        let Part { stage, number, commit, .. } = self;
        let Some(stage) = stage else { return Err(Error::new(ErrorKind::Io, "it was not staged")) };
        commit.run(stage).map(|committed| (number, committed))
    }

    fn plan(&mut self, nonce: &str) -> Result<()> {
        let Hold { target, lease, .. } = &self.commit.hold;
        self.names = set_temp_names(target, &lease.file, nonce);
        if let Some(options) = &self.commit.options.backup {
            let planned = backup::plan_in_set(target, options)?;
            self.backup = planned.map(|(tail, replaces)| SetBackup { tail, replaces });
        }
        Ok(())
    }

    /// P3. Targets that are alike share a record, `shared`, by links to it. Returns whether it raises the mark of a store's
    /// leases, which is durable even where the contents are not: as that of a single file.
    fn place_record(
        &mut self,
        nonce: &str,
        journal: (PathBuf, u64),
        shared: &mut Option<DraftRecord>,
        sync: bool,
    ) -> Result<bool> {
        let Hold { lock, lease, target, .. } = &self.commit.hold;
        lock.ensure_undisputed()?;
        let record = SetRecord::new(nonce, journal, self.backup.clone());
        let mark = lease.ensure_greatest(target)?;
        let (lease, options) = (&lease.file, &self.commit.options.lock);
        let raises = mark.is_some();
        let draft = || DraftRecord::new(record.clone(), (target, lease, lock), options, mark, sync || raises);
        let fresh = raises || !shared.as_ref().is_some_and(|draft| draft.fits(&record, target, lease));
        if fresh {
            *shared = Some(draft()?);
        }
        let linked = shared.as_mut().map_or(Ok(None), |draft| draft.link(lease))?;
        self.record = match linked {
            Some(placed) => Some(placed),
            None if fresh => shared.take().map(|draft| draft.place(lease)).transpose()?,
            None => Some(draft()?.place(lease)?),
        };
        Ok(raises)
    }

    /// P5, but for the sync of what `together` says.
    fn name(&mut self, together: bool) -> Result<()> {
        let commit = &self.commit;
        let target = &commit.hold.target;
        if let Some(stage) = self.stage.take() {
            let named = stage.publish_as(&self.names[0]).and_then(Stage::into_named);
            let (file, _, ticket) = named.map_err(|e| commit.failed(e).during("cannot name the temporary file"))?;
            self.named = Some(Named { ticket: Some(ticket), file });
        }
        if let (Some(_), Some(options)) = (&self.backup, &commit.options.backup) {
            let Some(original) = open_original(target)? else { return Ok(()) };
            let durability = if together { Durability::None } else { commit.options.durability };
            let how = Making { nonce: None, temp: Some(&self.names[1]), durability, in_place: false };
            let draft = backup::prepare(target, &original, options, how, &commit.options.observer)?;
            self.draft = Some(draft.into_set());
        }
        Ok(())
    }

    /// Makes the backup in another directory, which no record leads to.
    fn back_up_elsewhere(&mut self) -> Result<()> {
        if self.commit.options.backup.is_some() && self.backup.is_none() {
            let original = open_original(&self.commit.hold.target)?;
            let draft = self.commit.prepare_backup(original.as_ref(), false)?;
            self.elsewhere = self.commit.place_backup(draft, false)?;
        }
        Ok(())
    }

    /// What takes it back.
    fn tickets(&mut self) -> impl Iterator<Item = Ticket> {
        let stage = self.named.as_mut().and_then(|named| named.ticket.take());
        let draft = self.draft.as_mut().and_then(|draft| draft.ticket.take());
        let backup = self.elsewhere.as_mut().and_then(Backup::give_up_ticket);
        let record = self.record.as_mut().and_then(|record| record.ticket.take());
        [stage, draft, backup, record].into_iter().flatten()
    }

    /// C2.
    fn finish(&mut self) -> Result<()> {
        let target = &self.commit.hold.target;
        if let Some(backup) = &mut self.elsewhere {
            backup.remove_earlier();
        }
        let finished = match &self.backup {
            Some(backup) if self.draft.is_some() => {
                finish_backup(&target.dir, &self.names[1], &backup.name_of(target), backup.replaces)
            }
            _ => Ok(()),
        };
        let finished = finished.and_then(|()| finish_target(target, &self.names[0]));
        finished.map_err(|e| {
            Error::io(&target.given, e)
                .of_kind(ErrorKind::NotDurable)
                .during("part of a set that is committed, but it cannot be replaced")
                .with_hint("once the cause is gone, whoever locks this file next finishes it")
        })
    }

    /// The name of the backup that the record leads to, if it was made.
    fn backup_name(&self) -> Option<OsString> {
        let made = self.backup.as_ref().filter(|_| self.draft.is_some());
        made.map(|backup| backup.name_of(&self.commit.hold.target))
    }

    fn backup_path(&self) -> Option<PathBuf> {
        let beside = self.backup_name().map(|name| self.commit.hold.target.beside(&name));
        beside.or_else(|| self.elsewhere.as_ref().map(|backup| backup.path.clone()))
    }

    fn delete_older_backups(&self) {
        let (target, options) = (&self.commit.hold.target, &self.commit.options);
        let Some(kept) = &options.backup else { return };
        let name = self.backup_name();
        let beside = name.as_deref().map(|name| (&target.dir, name));
        let made = beside.or_else(|| self.elsewhere.as_ref().map(Backup::place));
        backup::delete_older(target, kept, made, &options.observer);
    }

    /// Tells of the backup, unless [`Commit::place_backup`] has.
    fn tell_of_backup(&self) {
        if let (Some(SetDraft { linked, .. }), Some(backup)) = (&self.draft, self.backup_path()) {
            let target = &self.commit.hold.target.given;
            self.commit.options.observer.tell(&Notice::BackedUp { target, backup: &backup, linked: *linked });
        }
    }

    /// The backup, which may be a link, gets the time when it was made.
    fn date_backup(&self) {
        let target = &self.commit.hold.target;
        let dated = match (&self.draft, &self.backup, &self.elsewhere) {
            (Some(SetDraft { linked: true, .. }), Some(backup), _) => target.dir.touch(&backup.name_of(target)),
            (_, _, Some(backup)) => backup.date(),
            _ => Ok(()),
        };
        if let (Err(e), Some(path)) = (dated, self.backup_path()) {
            self.commit.warn_of_undated(&path, &e);
        }
    }
}

/// P3 to C4, for two files or more.
fn replace(mut parts: Vec<Part>) -> Result<Vec<(usize, Committed)>> {
    let nonce = fresh_nonce();
    let places = Places::of(parts.iter().map(|part| &part.commit.hold))?;
    let together = parts.len() > FEW && places.dirs.iter().all(|(dir, _)| dir.can_sync_file_system());
    let durability = parts.iter().map(|part| part.commit.options.durability).fold(Durability::None, safer);
    let sync = Sync { together, durability };
    let journal = match prepare(&mut parts, &nonce, &places, sync) {
        Ok(journal) => journal,
        // Others take away what is staged under a lock that has been lost.
        Err(e) => return Err(lost_lock(&parts).unwrap_or(e)),
    };
    let tickets: Vec<Ticket> = parts.iter_mut().flat_map(Part::tickets).collect();
    let journal = journal.commit(tickets)?;
    let outcome = finish(&mut parts, &journal, &places, sync);
    release(parts, outcome)
}

/// P3 to P5, and what C1 asks before the rename.
fn prepare(parts: &mut [Part], nonce: &str, places: &Places, sync: Sync) -> Result<JournalDraft> {
    for part in &mut *parts {
        part.commit.ensure_claim()?;
        part.plan(nonce)?;
    }
    let (mut shared, durable, mut raises) = (None, sync.durability != Durability::None, false);
    for part in &mut *parts {
        raises |= part.place_record(nonce, places.journal_from(&part.commit.hold), &mut shared, durable)?;
    }
    drop(shared);
    if raises && sync.durability != Durability::Full {
        for (dir, path) in &places.dirs {
            sync_dir(dir, path, &parts[0].commit.options.observer).map_err(|e| Error::io(path, e))?;
        }
    }
    let home = &parts[0].commit.hold.target;
    let writers = Writers::of(home, &home.dir);
    let journal =
        JournalDraft::new(&home.dir, nonce, &places.records(parts.iter().map(|part| &part.commit.hold)), writers)?;
    for part in &mut *parts {
        part.name(sync.together)?;
    }
    sync.prepared(parts, &journal, places)?;
    for part in &mut *parts {
        part.back_up_elsewhere()?;
    }
    Standing::confirm_all(parts.iter().map(|part| &part.commit.hold.lease))?;
    for part in &*parts {
        part.commit.ensure_held()?;
        part.commit.ensure_leased()?;
        part.commit.ensure_expected()?;
        part.commit.hold.lease.ensure_in_time()?;
        part.commit.announce();
    }
    Ok(journal)
}

fn lost_lock(parts: &[Part]) -> Option<Error> {
    let lost = parts.iter().filter_map(|part| part.commit.ensure_held().err());
    lost.into_iter().find(|e| e.kind() == ErrorKind::LockLost)
}

/// C2 to C4. Goes on after an error, and returns the first one.
fn finish(parts: &mut [Part], journal: &Journal, places: &Places, sync: Sync) -> Result<()> {
    let mut outcome = sync.directory(&journal.dir, &parts[0].commit);
    let mut all_done = true;
    for part in &mut *parts {
        let finished = part.finish();
        if finished.is_err() {
            // Its record stays, for those who come next.
            (part.record, all_done) = (None, false);
        }
        outcome = outcome.and(finished);
    }
    outcome = outcome.and(sync.finished(parts, places));
    for record in parts.iter().filter_map(|part| part.record.as_ref()) {
        let restored = record.restore();
        all_done &= restored.is_ok();
        outcome = outcome.and(restored.map_err(|e| e.of_kind(ErrorKind::NotDurable)));
    }
    if all_done {
        outcome = outcome.and(journal.remove().map_err(|e| e.of_kind(ErrorKind::NotDurable)));
    }
    outcome
}

fn release(parts: Vec<Part>, outcome: Result<()>) -> Result<Vec<(usize, Committed)>> {
    let mut done = Vec::with_capacity(parts.len());
    let committed = outcome.is_ok();
    for mut part in parts {
        part.date_backup();
        if committed {
            part.tell_of_backup();
            part.delete_older_backups();
        }
        let (backup, digest) = (part.backup_path(), part.commit.received);
        let result = Committed { bytes: part.bytes, changed: true, backup, digest };
        part.named = None;
        let Part { commit, number, .. } = part;
        if !committed {
            // The locks are given back without a word: the error says what has happened.
            continue;
        }
        done.push((number, commit.release_synced(result)?));
    }
    outcome.map(|()| done)
}

fn safer(one: Durability, other: Durability) -> Durability {
    let rank = |durability| match durability {
        Durability::Full => 2,
        Durability::Data => 1,
        Durability::None => 0,
    };
    if rank(one) >= rank(other) { one } else { other }
}

/// How the set is made durable.
#[derive(Clone, Copy)]
struct Sync {
    /// By one sync of the file system.
    together: bool,
    durability: Durability,
}

impl Sync {
    /// Makes the contents of `files` durable, and the names in `dirs`.
    fn contents(self, files: &[&File], dirs: &[&Dir], first: &Commit) -> Result<()> {
        let fail = |e| first.failed(e).during("cannot sync the new contents");
        if self.durability == Durability::None {
            return Ok(());
        }
        if self.together {
            return first.hold.target.dir.sync_file_system().map_err(fail);
        }
        files.iter().try_for_each(|file| file.sync_all()).map_err(fail)?;
        if self.durability == Durability::Full {
            for dir in dirs {
                dir.sync().map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Of P5: all that C1 relies on.
    fn prepared(self, parts: &[Part], journal: &JournalDraft, places: &Places) -> Result<()> {
        let staged = parts.iter().filter_map(|part| part.named.as_ref()).map(|named| &named.file);
        let files: Vec<&File> = staged.chain([&journal.file]).collect();
        let dirs: Vec<&Dir> = places.dirs.iter().map(|(dir, _)| &**dir).collect();
        self.contents(&files, &dirs, &parts[0].commit)?;
        for part in parts {
            let fail = |e| part.commit.failed(e).during("cannot write the new content");
            if let Some(named) = &part.named {
                if !self.together {
                    // Where one sync is enough, no error waits for a close.
                    flush(&named.file).map_err(fail)?;
                }
                part.commit.verify(&named.file, part.commit.received)?;
            }
            if self.durability == Durability::Full && !self.together {
                part.commit.hold.target.sync_dirs().map_err(fail)?;
            }
        }
        Ok(())
    }

    fn directory(self, dir: &Dir, commit: &Commit) -> Result<()> {
        if self.durability != Durability::Full {
            return Ok(());
        }
        let (given, observer) = (&commit.hold.target.given, &commit.options.observer);
        sync_dir(dir, given, observer).map_err(|e| commit.not_durable(e))
    }

    /// C3.
    fn finished(self, parts: &[Part], places: &Places) -> Result<()> {
        let first = &parts[0].commit;
        if self.together && places.dirs.len() > FEW && self.durability == Durability::Full {
            return first.hold.target.dir.sync_file_system().map_err(|e| first.not_durable(e));
        }
        places.dirs.iter().try_for_each(|(dir, _)| self.directory(dir, first))
    }
}
