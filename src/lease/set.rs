//! Several targets that are replaced together: their records, the journal, and what becomes of them after a crash.
//!
//! ```text
//! prepare  P1  lock all targets, in the order of many.rs
//!          P2  stage all, with metadata                        (unnamed, where the file system can)
//!          P3  each T.lease := the set's record of T           (its content is durable before it has this name; targets that
//!                                                               are alike share it)
//!          P4  the journal's draft D := where the records are
//!          P5  name all stages and backups; sync all of it, names too
//! commit   C1  all locks and leases still ours? rename D to J, sync J's directory               <- the commit point
//! finish   C2  each T: rename its backup, rename its stage over it
//!          C3  sync each directory
//!          C4  each T whose lock is still held: T.lease := the lease that was there, or none; remove J; release
//! ```
//!
//! What a set leaves behind must never make a privileged process act on files that it was not asked for. So **whoever locks
//! a target finishes that target, and nothing else**, by what T.lease says, which everybody reads who takes the lock:
//!
//! - J's directory is gone, or another one: the state is not known. That is an error, and nothing is touched.
//! - J exists: T's own renames, where they have not been made; then T.lease as it was before.
//! - D can be removed: the set is taken back. T's stage and backup go, then T.lease as it was before. This removal and the
//!   rename of C1 are the one decision: one of the two wins, also against a writer that was only suspended.
//! - Neither: J is looked for once more. If it is there now, as above. If not, the set was taken back.
//! - If no record is left that names J, J is removed. What J lists is only used to look.
//!
//! Why in this order. P3 is before P4 and P5, so that whatever a killed writer has named can be found by the record: the
//! names have the set's nonce in them, and nobody would find them otherwise. (A stage without one would not do: a writer
//! that was suspended in C2 and lost its lock would rename its successor's, half-written.) A record that is there while D is
//! not means "taken back" to whoever finds it; the writer then has lost that lock and notices in C1. All is durable before
//! J is. Whoever finishes syncs J's directory first: J may have been seen that a power cut would take away again, and a
//! target that was finished by it could not be taken back. The renames are durable before any record goes (C3). Nothing in
//! C4 needs to be: if the power cut brings a record back, with J or without it, its stage is gone and nothing is left to do
//! but to restore the lease.
//!
//! `set_model.rs` is this protocol for `cargo test`, `tests/models/set.pml` for a model checker.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::found::{Found, Record, record_at, stage_record};
use super::mark::TargetRecord;
use super::set_record::{SetRecord, journal_text, records_of};
use crate::cleanup::{self, Ticket, Undo};
use crate::error::{Error, ErrorKind, Result, reason_of};
use crate::lock::{self, Cleared, FileLock, LeaseFile, Writers};
use crate::names::{
    InSet, TempNames, flat_path, journal_draft_name, journal_name, journal_nonce, lease_name, leased_name,
    set_temp_name, temp_name_under_nonce,
};
use crate::notice::{Notice, Observer};
use crate::options::LockOptions;
use crate::remedy::Remedy;
use crate::shown::shown;
use crate::stage::{Stage, rename_new};
use crate::sys::{Dir, FileId, FileKind, FileStatus, flush, retry, unsupported};
use crate::target::{Resolve, Target};

/// Longer journals are not read: a set of half a million files has one of this size.
const LONGEST_JOURNAL: u64 = 64 << 20;

/// A set's record under a temporary name, for one target or for several that are alike.
#[derive(Debug)]
pub(crate) struct DraftRecord {
    stage: Stage,
    id: FileId,
    record: SetRecord,
    writers: Writers,
    mode: Option<u32>,
}

/// A set's record in its place. Dropping it brings back the lease that was there.
#[derive(Debug)]
pub(crate) struct PlacedRecord {
    pub(crate) ticket: Option<Ticket>,
    back: Arc<Back>,
}

/// The lease that was there before, and who may write it.
#[derive(Clone, Debug)]
struct Prior {
    record: Option<TargetRecord>,
    writers: Writers,
    mode: Option<u32>,
}

/// The way back from a set's record to the lease before.
#[derive(Debug)]
struct Back {
    dir: Arc<Dir>,
    name: OsString,
    /// Of the set's record.
    id: FileId,
    nonce: String,
    prior: Prior,
}

struct Listed(Arc<Back>);

impl Undo for Listed {
    fn undo(&self) -> io::Result<()> {
        self.0.restore()
    }
}

impl Back {
    /// Leaves alone what somebody else has put there, who had the lock meanwhile.
    fn restore(&self) -> io::Result<()> {
        match self.dir.status(&self.name)? {
            Some(there) if there.id == self.id => put_back(&self.dir, &self.name, &self.nonce, &self.prior),
            _ => Ok(()),
        }
    }
}

/// The names that stage and backup of a target have in the set with `nonce` before it is finished.
pub(crate) fn set_temp_names(target: &Target, lease: &LeaseFile, nonce: &str) -> [OsString; 2] {
    let (dir, name) = (&target.dir, &target.name);
    let beside = lease.dir.id() == dir.id() && lease.name == lease_name(name, dir);
    [InSet::Stage, InSet::Backup].map(|what| set_temp_name(name, nonce, what, !beside, dir))
}

impl DraftRecord {
    /// Writes `record` of the target, which is locked, and of others like it. `mark`: what the mark of a store's leases is to
    /// be when the set is done. `sync`: makes it durable.
    pub(crate) fn new(
        mut record: SetRecord,
        (target, lease, lock): (&Target, &LeaseFile, &FileLock),
        options: &LockOptions,
        mark: Option<u64>,
        sync: bool,
    ) -> Result<DraftRecord> {
        let fail = |e: io::Error| cannot_prepare(&lease.path(), e);
        record.prior = match mark {
            Some(token) => Some(TargetRecord::Mark(token)),
            None => record_at(lease, &Observer::default())?,
        };
        let text = record.to_json().ok_or_else(|| fail(io::ErrorKind::InvalidData.into()))?;
        let (writers, mode) = (Writers::of(target, &lease.dir), options.mode);
        let staged = || {
            let own = writers.clone().of_own();
            let mut stage = stage_record(lease, &own, mode, lock.held.nonce(), &text)?;
            // Synced once it has a name: btrfs does not log an inode that has none.
            stage.publish()?;
            if sync {
                stage.file.sync_all()?;
            }
            stage.flush()?;
            Ok(stage)
        };
        let stage = staged().map_err(fail)?;
        let id = FileStatus::of(&stage.file).map_err(fail)?.id;
        Ok(DraftRecord { stage, id, record, writers, mode })
    }

    /// Whether it is the record of another target, too, which has no lease.
    pub(crate) fn fits(&self, record: &SetRecord, target: &Target, lease: &LeaseFile) -> bool {
        self.record == *record && self.writers.are_as(&Writers::of(target, &lease.dir))
    }

    /// Gives it the name of the target's lease, too, if there is nothing. `None`: there is, or files have one name here.
    pub(crate) fn link(&mut self, lease: &LeaseFile) -> Result<Option<PlacedRecord>> {
        let fail = |e: io::Error| cannot_prepare(&lease.path(), e);
        let (from, temp) = self.stage.name().map_err(fail)?;
        let back = self.back(lease);
        let made: io::Result<_> = cleanup::make(|| {
            let linked = retry(|| from.link(temp, &lease.dir, &lease.name));
            match linked {
                // Over NFS the answer can be lost after the deed.
                Err(_) if matches!(lease.dir.status(&lease.name), Ok(Some(there)) if there.id == back.id) => {}
                linked => linked?,
            }
            Ok(((), Listed(back.clone())))
        });
        match made {
            Ok(((), ticket)) => Ok(Some(PlacedRecord { ticket: Some(ticket), back })),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists || unsupported(&e) => Ok(None),
            // EPERM: no hard links on this file system. EMLINK: too many of them. EXDEV: below another mount of it.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EMLINK | libc::EXDEV)) => Ok(None),
            Err(e) => Err(fail(e)),
        }
    }

    /// Puts it in the place of the target's lease.
    pub(crate) fn place(self, lease: &LeaseFile) -> Result<PlacedRecord> {
        let fail = |e: io::Error| cannot_prepare(&lease.path(), e);
        let back = self.back(lease);
        let (_file, temp, ticket) = self.stage.into_named().map_err(fail)?;
        let placed = ticket.turn(|| {
            rename(&back.dir, &temp, &back.name, back.id)?;
            Ok(Listed(back.clone()))
        });
        match placed {
            Ok(ticket) => Ok(PlacedRecord { ticket: Some(ticket), back }),
            Err((e, _)) => Err(fail(e)),
        }
    }

    fn back(&self, lease: &LeaseFile) -> Arc<Back> {
        let prior = Prior { record: self.record.prior.clone(), writers: self.writers.clone(), mode: self.mode };
        let (dir, name, nonce) = (lease.dir.clone(), lease.name.clone(), self.record.nonce.clone());
        Arc::new(Back { dir, name, id: self.id, nonce, prior })
    }
}

impl PlacedRecord {
    /// Brings back the lease that was there before, once the set is committed. The caller has the lock.
    pub(crate) fn restore(&self) -> Result<()> {
        let outcome = cleanup::step(|| self.back.restore());
        outcome.map_err(|e| Error::io(self.back.dir.join(&self.back.name), e).during("cannot restore the lease"))
    }
}

/// Puts the lease `prior` back under `name`; without one, removes what has the name.
fn put_back(dir: &Dir, name: &OsStr, nonce: &str, prior: &Prior) -> io::Result<()> {
    let remove = |name: &OsStr| match dir.unlink(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    let Some(record) = &prior.record else { return remove(name) };
    let text = record.to_json().ok_or(io::ErrorKind::InvalidData)?;
    let temp = TempNames::new(name, Some(nonce)).first(dir);
    // One that was killed here has left it.
    remove(&temp)?;
    let file = dir.open_file(&temp, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, Writers::first_mode(prior.mode))?;
    let written = || {
        prior.writers.give(&file, &FileStatus::of(&file)?, prior.mode)?;
        (&file).write_all(text.as_bytes())?;
        file.sync_all()?;
        flush(&file)?;
        rename(dir, &temp, name, FileStatus::of(&file)?.id)
    };
    written().inspect_err(|_| {
        // The first error is reported.
        let _ = remove(&temp);
    })
}

/// Renames `from`, which is file `id`, to `to`. Over NFS the answer can be lost after the deed: what counts is which file has
/// the name.
fn rename(dir: &Dir, from: &OsStr, to: &OsStr, id: FileId) -> io::Result<()> {
    match retry(|| dir.rename(from, dir, to)) {
        Err(_) if matches!(dir.status(to), Ok(Some(there)) if there.id == id) => Ok(()),
        outcome => outcome,
    }
}

fn cannot_prepare(path: &Path, e: io::Error) -> Error {
    Error::io(path, e).unchanged().during("cannot prepare to replace several files")
}

/// The draft of a set's journal. Dropping it takes the set back.
#[derive(Debug)]
pub(crate) struct JournalDraft {
    dir: Arc<Dir>,
    nonce: String,
    pub(crate) file: File,
    ticket: Ticket,
}

struct DraftName {
    dir: Arc<Dir>,
    name: OsString,
}

impl Undo for DraftName {
    fn undo(&self) -> io::Result<()> {
        self.dir.unlink(&self.name)
    }

    fn is_temporary_file(&self) -> bool {
        true
    }
}

impl JournalDraft {
    /// Writes the draft of the journal of the set with `nonce`; `records` are relative to `dir`.
    pub(crate) fn new(dir: &Arc<Dir>, nonce: &str, records: &[PathBuf], writers: Writers) -> Result<JournalDraft> {
        let name = journal_draft_name(nonce);
        let fail = |e: io::Error| cannot_prepare(&dir.join(&name), e);
        let made: io::Result<_> = cleanup::make(|| {
            let file = dir.open_file(&name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, 0o600)?;
            Ok((file, DraftName { dir: dir.clone(), name: name.clone() }))
        });
        let (file, ticket) = made.map_err(fail)?;
        let draft = JournalDraft { dir: dir.clone(), nonce: nonce.to_owned(), file, ticket };
        let written = || {
            writers.of_own().give(&draft.file, &FileStatus::of(&draft.file)?, None)?;
            (&draft.file).write_all(journal_text(nonce, records).as_bytes())?;
            flush(&draft.file)
        };
        written().map_err(fail)?;
        Ok(draft)
    }

    /// Makes it the journal: the commit point. From then on, what `tickets` stand for is no longer this process's to remove.
    pub(crate) fn commit(self, mut tickets: Vec<Ticket>) -> Result<Journal> {
        let JournalDraft { dir, nonce, file, ticket } = self;
        let (from, to) = (journal_draft_name(&nonce), journal_name(&nonce));
        tickets.push(ticket);
        let outcome = FileStatus::of(&file)
            .map_err(|e| (e, Vec::new()))
            .and_then(|status| cleanup::commit_all(tickets, || rename(&dir, &from, &to, status.id)));
        match outcome {
            Ok(()) => Ok(Journal { dir, nonce }),
            Err((e, _)) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::LockLost, "Lock lost: another process has taken the set back")
                    .on(dir.join(&from)))
            }
            Err((e, _)) => Err(cannot_prepare(&dir.join(&to), e)),
        }
    }
}

/// The journal of a set that is committed.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) dir: Arc<Dir>,
    nonce: String,
}

impl Journal {
    /// Removes it. No record may name it any more.
    pub(crate) fn remove(&self) -> Result<()> {
        let name = journal_name(&self.nonce);
        match cleanup::step(|| self.dir.unlink(&name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(self.dir.join(&name), e).during("cannot remove the journal"))
            }
            _ => Ok(()),
        }
    }
}

const FINISHING: &str = "cannot finish the set of files that it is part of";

/// A target whose writer has left a set's record there.
struct Recovery<'a> {
    target: &'a Target,
    record: &'a LeaseFile,
    set: &'a SetRecord,
    /// The user who made the record.
    uid: u32,
    /// The temporary names of stage and backup.
    stage: OsString,
    draft: OsString,
}

/// Finishes what `record` says of `target`, or takes it back. The caller has the lock. `record` comes with the user whose it
/// is, and counts.
pub(super) fn recover(
    target: &Target,
    lease: &LeaseFile,
    lock: &FileLock,
    (set, uid): (&SetRecord, u32),
    options: &LockOptions,
    observer: &Observer,
) -> Result<()> {
    let fail = |e: io::Error| Error::io(&target.given, e).during(FINISHING);
    lock.ensure_undisputed()?;
    let [stage, draft] = set_temp_names(target, lease, &set.nonce);
    let work = Recovery { target, record: lease, set, uid, stage, draft };
    let journals = work.journals()?;
    let done = work.is_there(&journals).map_err(fail)?
        || !work.remove_draft(&journals).map_err(fail)? && work.is_there(&journals).map_err(fail)?;
    if done { work.finish(&journals) } else { work.take_back().map_err(fail) }?;
    let prior = Prior { record: set.prior.clone(), writers: Writers::of(target, &lease.dir), mode: options.mode };
    lock.ensure_undisputed()?;
    cleanup::step(|| put_back(&lease.dir, &lease.name, &set.nonce, &prior))
        .map_err(|e| Error::io(lease.path(), e).during("cannot restore the lease"))?;
    if done && !is_named(&journals, &journal_name(&set.nonce), &set.nonce, true) {
        work.forget(&journals).map_err(fail)?;
    }
    let text = if done { "finished" } else { "took back" };
    let text = format!("{text} what an interrupted replacement of several files had left");
    observer.tell(&Notice::Info { path: &target.given, text: &text });
    Ok(())
}

impl Recovery<'_> {
    /// The directory of the journal.
    fn journals(&self) -> Result<Dir> {
        let SetRecord { journal_dir, journal_ino, nonce, .. } = self.set;
        let path = self.target.dir.join(journal_dir.as_os_str());
        let unknown = |why: String| {
            let (journal, record) = (path.join(journal_name(nonce)), self.record.path());
            let remedy = format!(
                "make {} available again; or remove {}, to keep this file as it is",
                shown(&journal),
                shown(&record)
            );
            Error::new(ErrorKind::DamagedRecord, format!("It is part of a set of files, and {why}"))
                .on(&self.target.given)
                .with_hint(remedy)
        };
        match self.target.dir.open_relative(journal_dir) {
            Ok(dir) if dir.id().ino == *journal_ino => Ok(dir),
            Ok(_) => Err(unknown("the directory of the set's journal is another one now".to_owned())),
            Err(e) => Err(unknown(format!("the directory of the set's journal cannot be opened: {}", reason_of(&e)))),
        }
    }

    fn is_there(&self, journals: &Dir) -> io::Result<bool> {
        self.is_own(journals, &journal_name(&self.set.nonce))
    }

    /// Whether `name` is a regular file of the user who made the record.
    fn is_own(&self, dir: &Dir, name: &OsStr) -> io::Result<bool> {
        Ok(dir.status(name)?.is_some_and(|file| file.kind == FileKind::Regular && file.uid == self.uid))
    }

    /// Whether this was the one that removed it.
    fn remove_draft(&self, journals: &Dir) -> io::Result<bool> {
        let name = journal_draft_name(&self.set.nonce);
        if !self.is_own(journals, &name)? {
            return Ok(false);
        }
        match cleanup::step(|| journals.unlink(&name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    /// Whether `name` is a file of the set beside the target, which whoever made the record might have put in the place of
    /// another file there.
    fn is_staged(&self, name: &OsStr) -> io::Result<bool> {
        let there = self.target.dir.status(name)?;
        Ok(there.is_some_and(|file| file.kind == FileKind::Regular && (self.is_trusted() || file.uid == self.uid)))
    }

    /// The record is root's or this user's own.
    fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }

    /// Whether whoever made the record might have replaced the file `name` beside the target: in a sticky directory only
    /// what is their own.
    fn may_replace(&self, name: &OsStr) -> io::Result<bool> {
        const STICKY: u32 = 0o1000;
        let dir = &self.target.dir;
        if self.is_trusted() || dir.opened().mode & STICKY == 0 || dir.opened().uid == self.uid {
            return Ok(true);
        }
        Ok(dir.status(name)?.is_none_or(|there| there.uid == self.uid))
    }

    /// C2 and C3, of this target.
    fn finish(&self, journals: &Dir) -> Result<()> {
        let target = self.target;
        let fail = |e: io::Error| Error::io(&target.given, e).during(FINISHING);
        journals.sync().map_err(fail)?;
        if let Some(backup) = &self.set.backup {
            let name = backup.name_of(target);
            if self.is_staged(&self.draft).map_err(fail)? && self.may_replace(&name).map_err(fail)? {
                finish_backup(&target.dir, &self.draft, &name, backup.replaces).map_err(|e| {
                    Error::io(target.beside(&name), e).during("cannot make the backup, and so not finish the set")
                })?;
            }
        }
        let is_left = self.is_staged(&self.stage).and_then(|there| Ok(there && self.may_replace(&target.name)?));
        if is_left.map_err(fail)? {
            finish_target(target, &self.stage).map_err(|e| match target.ensure_changeable(false) {
                Err(why) if why.remedy() == Some(&Remedy::InPlace) => {
                    why.during(FINISHING).with_hint("whoever may replace it, or root, finishes it when locking it")
                }
                Err(why) => why.during(FINISHING),
                Ok(()) => fail(e),
            })?;
        }
        target.dir.sync().map(drop).map_err(fail)
    }

    fn take_back(&self) -> io::Result<()> {
        for name in [&self.stage, &self.draft] {
            if self.is_staged(name)? {
                match cleanup::step(|| self.target.dir.unlink(name)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn forget(&self, journals: &Dir) -> io::Result<()> {
        let name = journal_name(&self.set.nonce);
        if !self.is_own(journals, &name)? {
            return Ok(());
        }
        match cleanup::step(|| journals.unlink(&name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Renames a stage of a set over its target. If it is gone, somebody else has done so.
pub(crate) fn finish_target(target: &Target, stage: &OsStr) -> io::Result<()> {
    finish_rename(&target.dir, stage, |dir| dir.rename(stage, dir, &target.name))
}

/// Gives a backup of a set its name. If it is gone, somebody else has done so.
pub(crate) fn finish_backup(dir: &Dir, temp: &OsStr, name: &OsStr, replaces: bool) -> io::Result<()> {
    finish_rename(dir, temp, |dir| if replaces { dir.rename(temp, dir, name) } else { rename_new(dir, temp, name) })?;
    // Between two links of one inode rename does nothing and leaves the source (rename(2)).
    if replaces && dir.status(temp)?.is_some() {
        return cleanup::step(|| dir.unlink(temp));
    }
    Ok(())
}

fn finish_rename(dir: &Dir, from: &OsStr, rename: impl Fn(&Dir) -> io::Result<()>) -> io::Result<()> {
    match cleanup::step(|| retry(|| rename(dir))) {
        // Over NFS the answer can be lost after the deed.
        Err(_) if dir.status(from)?.is_none() => Ok(()),
        outcome => outcome,
    }
}

/// Whether any record still names the journal of this set, as far as can be told. `name` is the journal's or its draft's;
/// `unknown` is the answer where that cannot be read.
fn is_named(journals: &Dir, name: &OsStr, nonce: &str, unknown: bool) -> bool {
    let read = || {
        let file = journals.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
        let mut text = Vec::new();
        file.take(LONGEST_JOURNAL).read_to_end(&mut text)?;
        io::Result::Ok(text)
    };
    let Ok(text) = read() else { return true };
    let Ok(records) = records_of(&text, nonce) else { return unknown };
    // Whoever finishes them one after the other begins at the front.
    records.iter().rev().any(|path| {
        let (Some(name), Some(dir)) = (path.file_name(), path.parent()) else { return true };
        match journals.open_relative(dir).map(|dir| Record::read_of(&dir, name, |_| true)) {
            Ok(Ok(Some(Found { record: Record::Set(set), .. }))) => set.nonce == nonce,
            Ok(Ok(_)) => false,
            Ok(Err(_)) | Err(_) => true,
        }
    })
}

/// Removes the journal `name` in `dir`, or a draft of one, if no record names it: then the set is over. In a dry run, only
/// says whether it would. A draft that is not complete is of a writer that was killed there: it takes longer to ask.
pub(crate) fn clear_journal(dir: &Dir, name: &OsStr, dry_run: bool) -> Result<Cleared> {
    let Some(nonce) = journal_nonce(name) else { return Ok(Cleared::Gone) };
    let is_draft = name != journal_name(nonce);
    if is_named(dir, name, nonce, !is_draft) {
        return Ok(Cleared::Kept(UNFINISHED));
    }
    match if dry_run { Ok(()) } else { cleanup::step(|| dir.unlink(name)) } {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Cleared::Gone),
        outcome => outcome.map(|()| Cleared::Removed).map_err(|e| Error::io(dir.join(name), e)),
    }
}

/// Whether the temporary file `name` in `dir` may be one of a set that is not finished: the record of its target says so, or
/// cannot be asked.
pub(crate) fn is_in_set(dir: &Dir, name: &OsStr) -> bool {
    let Some((nonce, base)) = temp_name_under_nonce(name) else { return false };
    let Some(base) = base else { return true };
    match Record::read_of(dir, &lease_name(base, dir), |_| true) {
        Ok(Some(Found { record: Record::Set(set), .. })) => set.nonce == nonce,
        Ok(_) => false,
        Err(_) => true,
    }
}

/// Why a record, a journal or a temporary file stays.
pub(crate) const UNFINISHED: &str = "part of a set of files that is not finished";

/// Finishes or takes back what the record `name` in `dir` says of its target, unless it is `young` or its writer lives. In a
/// dry run, only says whether it would. `None`: it is not the record of a set.
pub(crate) fn finish_set(dir: &Arc<Dir>, name: &OsStr, dry_run: bool, young: bool) -> Result<Option<Cleared>> {
    match Record::read_of(dir, name, |_| true) {
        Ok(Some(Found { record: Record::Set(_), .. })) => {}
        // A damaged one is reported when it is needed.
        Err(e) if e.kind() != ErrorKind::DamagedRecord => return Err(e),
        _ => return Ok(None),
    }
    if young {
        return Ok(Some(Cleared::Kept("not old enough")));
    }
    let Some(base) = leased_name(name) else {
        return Ok(Some(Cleared::Kept("its target cannot be told from its name")));
    };
    let found = Target::in_dir(dir, base).map_err(|e| Error::io(dir.join(name), e))?;
    if dry_run {
        let held = lock::seems_locked(&found)?;
        return Ok(Some(if held { Cleared::Kept("in use") } else { Cleared::Removed }));
    }
    // In a directory of lock files, the record's name is that of the target's whole path.
    let path = if found.status.is_none() { flat_path(base).filter(|path| path.is_absolute()) } else { None };
    let elsewhere = path.map(|path| Target::resolve(&path, Resolve { follow: false, mkdir: false })).transpose()?;
    let (place, lock) = lock::lock_as_found(&found)?;
    let target = elsewhere.as_ref().unwrap_or(&found);
    let lease = LeaseFile { writers: Writers::of(target, dir), ..place.lease };
    let observer = Observer::default();
    let outcome = match Record::read(&lease, &observer)? {
        Some(Found { record: Record::Set(set), uid }) => {
            recover(target, &lease, &lock, (&set, uid), &LockOptions::default(), &observer).map(|()| Cleared::Removed)
        }
        Some(_) => Ok(Cleared::Gone),
        None => Ok(Cleared::Kept("made by a user who may not write its target, or gone")),
    };
    lock.release()?;
    outcome.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another may have had the lock meanwhile.
    #[test]
    fn what_another_has_put_in_the_record_s_place_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f.lease");
        std::fs::write(&path, "").unwrap();
        let target = Target::resolve(&place.path().join("f"), Resolve { follow: true, mkdir: false }).unwrap();
        let prior = Prior { record: None, writers: Writers::of(&target, &target.dir), mode: None };
        let id = FileStatus::of(File::open(&path).unwrap()).unwrap().id;
        let nonce = lock::fresh_nonce();
        let back = |id| Back {
            dir: target.dir.clone(),
            name: "f.lease".into(),
            id,
            nonce: nonce.clone(),
            prior: prior.clone(),
        };
        back(FileId { ino: id.ino + 1, ..id }).restore().unwrap();
        assert!(path.exists());
        back(id).restore().unwrap();
        assert!(!path.exists());
    }
}
