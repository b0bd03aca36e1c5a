//! What a commit does, one step after the other, under the target's lock:
//!
//! 1. If the content is the same, leave the target alone, but for a mode and an owner that are asked for
//!    ([`WriteOptions::if_changed`]).
//! 2. Give the stage the target's metadata.
//! 3. Ask the caller's check. Show what will change, if that is asked for.
//! 4. Make sure that nobody else has taken the lease.
//! 5. Back up the old content under a temporary name, and sync it.
//! 6. Give the stage a name (publish), sync it, and read it back ([`WriteOptions::verify`]). Or, where the target is to be written into, open it and try what can be
//!    known to fail.
//! 7. Make sure that the lock is still held, and that the target is what is expected ([`WriteOptions::expect`]).
//! 8. Give the backup its name. An earlier backup is kept until the commit.
//!    Then, under a store's lease, make sure of that and raise the mark of its token (lease/fence.rs).
//! 9. Replace the target: the commit point. The stage is renamed over it. Where that is impossible or not wanted, the
//!    content of the two is exchanged, or the target is overwritten in place, without step 2.
//! 10. Date the backup, and sync the directory, and the directories that were made for the target. Then delete the oldest
//!     backups, where their number is limited.
//! 11. Release the lock.
//!
//! An error before step 9 leaves the target as it was and nothing beside it. An error after it is reported, but the target
//! has the new content.

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::hold::{Hold, ensure_not_locked, open_original, unreadable};
use super::verify::verify;
use crate::backup::{self, Backup, Draft, Making};
use crate::commit::{self, Opened};
use crate::copy::{self, Content};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result, reason_of};
use crate::expect::digest_of;
use crate::lease::{self, Visitor};
use crate::metadata::{self, Wanted};
use crate::notice::Notice;
use crate::options::{Check, Durability, Ownership, WriteOptions};
use crate::original::Original;
use crate::remedy::Remedy;
use crate::stage::Stage;
use crate::sys::{FileStatus, set_mode};

/// What a write has done; a dry run: would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// Length of the content in bytes.
    pub bytes: u64,
    /// False when the content was identical and the file was left alone ([`WriteOptions::if_changed`]).
    pub changed: bool,
    /// Where the previous content was kept.
    pub backup: Option<PathBuf>,
    /// The digest of the content: with [`WriteOptions::expect`] and [`WriteOptions::verify`].
    pub digest: Option<Digest>,
}

/// The backup that was made, and whether all is known to be durable.
type Replaced = (Option<Backup>, Result<()>);

/// A write that is being committed.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) hold: Hold,
    pub(super) options: WriteOptions,
    /// The digest of what is to be committed, if it is wanted.
    pub(super) received: Option<Digest>,
    pub(super) watched: bool,
    pub(super) started: Instant,
}

impl Commit {
    pub(super) fn run(self, stage: Stage) -> Result<Committed> {
        // Those who work with the target under this lock are to do so before it is replaced.
        self.hold.lock.take_back();
        if self.watched {
            self.ensure_untouched()?;
        }
        // Of a link only a backup and a preview need what is behind it.
        let is_needed = !self.hold.target.is_link() || self.options.backup.is_some() || self.options.preview.is_some();
        let original = if is_needed { open_original(&self.hold.target)? } else { None };
        let made = FileStatus::of(&stage.file).map_err(|e| self.failed(e))?;
        let bytes = made.size;
        if self.is_unchanged(&stage, original.as_ref())? {
            let wanted = self.wanted(&stage).map_err(|e| self.not_amended(e))?;
            if let Some(changed) = self.amend(wanted, &made, original.as_ref())? {
                drop(stage);
                let digest = self.received;
                return self.release(Committed { bytes, changed, backup: None, digest }, Ok(()));
            }
        }
        let (bytes, digest, (backup, durable)) = self.replace(stage, &made, original.as_ref())?;
        if self.options.dry_run {
            return self.release(Committed { bytes, changed: true, backup: None, digest }, durable);
        }
        if let Some(backup) = &backup {
            if let Err(e) = backup.date() {
                self.warn_of_undated(&backup.path, &e);
            }
        }
        // An old one may be all that is left if the new content does not survive.
        if let (Some(options), Ok(())) = (&self.options.backup, &durable) {
            let made = backup.as_ref().map(Backup::place);
            backup::delete_older(&self.hold.target, options, made, &self.options.observer);
        }
        self.release(Committed { bytes, changed: true, backup: backup.map(|b| b.path), digest }, durable)
    }

    /// For content that has not been staged, of this length: leaves the target alone if it is what that contains. Otherwise
    /// everything is handed back.
    pub(super) fn leave_if_same(
        self,
        bytes: u64,
        mut new: Content<'_>,
    ) -> Result<std::result::Result<Committed, Commit>> {
        let options = &self.options;
        // What a new file would get besides must be known without one.
        let told = options.mode.is_some() || options.preserve_mode;
        let Some(old) = (if told && options.ownership != Ownership::Writer && !self.hold.target.is_link() {
            open_original(&self.hold.target)?
        } else {
            None
        }) else {
            return Ok(Err(self));
        };
        if self.watched {
            self.ensure_untouched()?;
        }
        let same = old.content().and_then(|old| new.is_all_of(old));
        if !same.map_err(|e| self.failed(e).during("cannot compare"))? {
            return Ok(Err(self));
        }
        let wanted = Wanted { mode: options.mode, ownership: options.ownership, xattrs: options.preserve_xattrs };
        match self.amend(wanted, &old.status, Some(&old))? {
            Some(changed) => {
                let digest = self.hold.expected.as_ref().map(|expected| expected.digest);
                self.release(Committed { bytes, changed, backup: None, digest }, Ok(())).map(Ok)
            }
            None => Ok(Err(self)),
        }
    }

    pub(super) fn is_unchanged(&self, stage: &Stage, original: Option<&Original>) -> Result<bool> {
        match original {
            Some(old) if self.options.if_changed && !self.hold.target.is_link() => {
                let same = old.content().and_then(|old| copy::same_content(&stage.file, old));
                same.map_err(|e| self.failed(e).during("cannot compare"))
            }
            _ => Ok(false),
        }
    }

    pub(super) fn ensure_untouched(&self) -> Result<()> {
        // Says more of what happened, if it is asked.
        self.ensure_expected()?;
        let target = &self.hold.target;
        let facts = |status: FileStatus| (status.id, status.size, status.modified);
        match target.dir.status(&target.name).map_err(|e| self.failed(e))? {
            // Removed: nothing of it can be lost by the commit.
            None => return Ok(()),
            Some(now) if target.status.map(facts) == Some(facts(now)) => return Ok(()),
            // Another program may have done it, after it has taken the lock file away.
            Some(_) => self.hold.lock.ensure_undisputed().map_err(|e| e.on(&target.given))?,
        }
        let reason = "COMMAND changed this file itself; it was not replaced";
        Err(Error::new(ErrorKind::Refused, reason).on(&target.given).with_remedy(Remedy::ToStdout))
    }

    /// Steps 2 to 10. Returns the length and the digest of what was committed. Once the target has been replaced, an error
    /// of step 10 is part of the result.
    fn replace(
        &self,
        mut stage: Stage,
        made: &FileStatus,
        original: Option<&Original>,
    ) -> Result<(u64, Option<Digest>, Replaced)> {
        let into = self.must_write_into(&stage, original);
        if !into {
            self.set_metadata(&stage, made, original)?;
        }
        let (mut bytes, mut digest) = (made.size, self.received);
        if let Some(check) = &self.options.check {
            (bytes, digest) = self.run_check(check, &mut stage)?;
        }
        self.show(&stage, original)?;
        self.ensure_claim()?;
        if into {
            return Ok((bytes, digest, self.write_into(&stage, original, digest)?));
        }
        let (error, stage) = match self.rename_over(stage, original, digest)? {
            Ok(replaced) => return Ok((bytes, digest, replaced)),
            Err(failed) => failed,
        };
        let mounted = commit::is_busy(&error);
        if self.options.may_overwrite() && (mounted || commit::is_refused(&error)) {
            // Mounted on since the target was looked at, or another's in a sticky directory.
            return Ok((bytes, digest, self.write_into(&stage, original, digest)?));
        }
        let target = &self.hold.target;
        Err(if mounted { commit::mounted_on(&target.given) } else { self.failed(error).during("cannot replace it") })
    }

    /// Shows what will change, if that is asked for.
    pub(super) fn show(&self, stage: &Stage, original: Option<&Original>) -> Result<()> {
        let Some(preview) = &self.options.preview else { return Ok(()) };
        let old = original.map(Original::content).transpose().map_err(|e| unreadable(&self.hold.target, e))?;
        preview.run(&self.hold.target.given, old, &stage.file)
    }

    /// Whether the file that is there must be written into, as far as can be known before a rename is tried.
    fn must_write_into(&self, stage: &Stage, original: Option<&Original>) -> bool {
        let target = &self.hold.target;
        let kept = self.options.keep_inode && original.is_some() && !target.is_link();
        let protected = self.options.may_overwrite() && target.is_protected();
        // A stage in another directory is there because this one may not be written.
        kept || protected || target.is_mounted_on() || stage.dir.id() != target.dir.id()
    }

    /// Steps 5 to 10, by a rename. What the rename itself failed with is handed back with the stage; the backup is taken
    /// back then.
    fn rename_over(
        &self,
        mut stage: Stage,
        original: Option<&Original>,
        digest: Option<Digest>,
    ) -> Result<std::result::Result<Replaced, (io::Error, Stage)>> {
        let draft = self.prepare_backup(original, false)?;
        stage.publish().map_err(|e| self.unnamed(e))?;
        self.sync(&stage)?;
        self.verify(&stage.file, digest)?;
        // After the sync, which may take longer than a link lock lives.
        self.ensure_held()?;
        if self.options.dry_run {
            self.fence()?;
            return draft.map_or(Ok(()), Draft::give_up).map(|()| Ok((None, Ok(()))));
        }
        let mut backup = self.place_backup(draft, false)?;
        self.fence()?;
        self.announce();
        let create = self.hold.expected.as_ref().is_some_and(|expected| expected.creates(&self.hold.target));
        let file = match commit::replace(stage, &self.hold.target, create) {
            Ok(file) => file,
            // Made since the last look.
            Err((e, stage)) if create && e.kind() == io::ErrorKind::AlreadyExists => {
                return self.ensure_expected().map(|()| Err((e, stage)));
            }
            Err(failed) => return Ok(Err(failed)),
        };
        if let Some(backup) = &mut backup {
            backup.keep();
        }
        // Closed, and so unlocked, before the target's lock is released.
        drop(file);
        Ok(Ok((backup, self.sync_directory())))
    }

    /// The same, by writing into the file that is there.
    fn write_into(&self, stage: &Stage, original: Option<&Original>, digest: Option<Digest>) -> Result<Replaced> {
        let (options, target) = (&self.options, &self.hold.target);
        let draft = self.prepare_backup(original, true)?;
        if options.keep_inode {
            // What is exchanged must be on the disk before.
            self.sync(stage)?;
            self.verify(&stage.file, digest)?;
        }
        if options.dry_run {
            self.ensure_held()?;
            self.fence()?;
            // To open it for writing would wake those who watch it.
            target.dir.may_write(&target.name).map_err(|e| self.failed(e))?;
            return draft.map_or(Ok(()), Draft::give_up).map(|()| (None, Ok(())));
        }
        let opened = Opened::new(stage, target, options.mode, options.keep_inode);
        // That it has been removed may be what was not expected.
        let opened = opened.or_else(|e| self.ensure_expected().and(Err(e)))?;
        self.ensure_held()?;
        let mut backup = self.place_backup(draft, true)?;
        self.fence()?;
        if let Some(backup) = &mut backup {
            backup.keep();
        }
        self.warn_of_overwriting(opened.is_atomic());
        self.announce();
        let exchanged = opened.is_atomic();
        let file = opened.write(options.durability != Durability::None)?;
        let durable = match exchanged {
            true if options.durability == Durability::Full => file.sync_all().map_err(|e| self.not_durable(e)),
            true => Ok(()),
            // By now nothing can be taken back.
            false => self.verify_overwritten(digest).map_err(|e| e.of_kind(ErrorKind::NotDurable).without_remedy()),
        };
        Ok((backup, durable))
    }

    fn verify_overwritten(&self, digest: Option<Digest>) -> Result<()> {
        let target = &self.hold.target;
        if !self.options.verify {
            return Ok(());
        }
        let file = target.dir.open_to_read(&target.name, false).map_err(|e| self.failed(e))?;
        self.verify(&file, digest)
    }

    pub(super) fn verify(&self, file: &File, digest: Option<Digest>) -> Result<()> {
        match digest {
            Some(received) if self.options.verify => verify(file, received, &self.hold.target),
            _ => Ok(()),
        }
    }

    pub(super) fn set_metadata(&self, stage: &Stage, made: &FileStatus, original: Option<&Original>) -> Result<()> {
        let (options, target) = (&self.options, &self.hold.target);
        let fail = |e: io::Error| self.failed(e).during("cannot set owner and permissions of the new file");
        // The producer may have removed the file. What is to be kept of it was read before.
        let gone = if original.is_none() { target.gone() } else { None };
        // What a link led to was made by whoever made the link, or was not theirs.
        let Some(original) = original.or(gone.as_ref()).filter(|_| !target.is_link()) else {
            return match options.mode {
                None if stage.is_plain() => Ok(()),
                None => stage.plain_mode().and_then(|mode| set_mode(&stage.file, mode)).map_err(fail),
                Some(mode) => set_mode(&stage.file, mode).map_err(fail),
            };
        };
        let wanted = self.wanted(stage).map_err(fail)?;
        let lost = metadata::apply(&stage.file, made, original, wanted).map_err(fail)?;
        metadata::tell(&lost, &target.given, &options.observer);
        let others = original.status.links.saturating_sub(1);
        if others > 0 {
            let text = &*format!("hard links to this file ({others} more) keep the old content");
            options.observer.tell(&Notice::Info { path: &target.given, text });
        }
        Ok(())
    }

    /// What is asked for of the new file's metadata, where there is an original.
    pub(super) fn wanted(&self, stage: &Stage) -> io::Result<Wanted> {
        let options = &self.options;
        let mode = match options.mode {
            None if !options.preserve_mode => Some(stage.plain_mode()?),
            mode => mode,
        };
        Ok(Wanted { mode, ownership: options.ownership, xattrs: options.preserve_xattrs })
    }

    /// The content is the same. Gives the target itself the mode and the owner that are asked for. Returns whether it had
    /// others; `None`: this user may not set them there, but a new file can have them.
    fn amend(&self, wanted: Wanted, made: &FileStatus, original: Option<&Original>) -> Result<Option<bool>> {
        self.ensure_expected()?;
        let Some(original) = original.filter(|original| metadata::differs(original, made, wanted)) else {
            return Ok(Some(false));
        };
        if self.options.dry_run {
            // Whether this user may set them is found out on the stage.
            return Ok(None);
        }
        self.ensure_claim()?;
        self.ensure_held()?;
        self.fence()?;
        match metadata::amend(original, made, wanted) {
            Ok(lost) => {
                metadata::tell(&lost, &self.hold.target.given, &self.options.observer);
                if self.options.durability != Durability::None {
                    original.content().and_then(File::sync_all).map_err(|e| self.not_durable(e))?;
                }
                Ok(Some(true))
            }
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => Ok(None),
            Err(e) => Err(self.not_amended(e)),
        }
    }

    /// Comes before the sync: a check may be a formatter, and what it changes in the new file must be synced too. Returns
    /// the length and the digest of what it left.
    fn run_check(&self, check: &Check, stage: &mut Stage) -> Result<(u64, Option<Digest>)> {
        let target = &self.hold.target.given;
        let path = stage.publish().map_err(|e| self.unnamed(e))?;
        if self.options.verify {
            // What the check leaves can only be compared with itself.
            self.sync(stage)?;
            self.verify(&stage.file, self.received)?;
        } else {
            // The check reads it by another descriptor, and shall not be blamed for what has not arrived.
            self.ensure_arrived(stage)?;
        }
        stage.unmarked(|| check.run(&path, target))?;
        if stage.has_its_name().map_err(|e| self.failed(e))? {
            return match stage.file.metadata().map_err(|e| self.failed(e))?.len() {
                0 if !self.options.allow_empty => {
                    Err(Error::new(ErrorKind::NoInput, "the check emptied the new content")
                        .on(target)
                        .with_remedy(Remedy::AllowEmpty))
                }
                bytes => Ok((bytes, self.received.map(|_| self.digest_of(stage)).transpose()?)),
            };
        }
        Err(Error::new(ErrorKind::Refused, "the check put another file in the place of the new one")
            .on(target)
            .with_hint("a check may change the new file, but not replace or remove it"))
    }

    fn digest_of(&self, stage: &Stage) -> Result<Digest> {
        (&stage.file).rewind().and_then(|()| digest_of(&stage.file)).map_err(|e| self.failed(e))
    }

    /// The last look at the lease that this write acts under, if it does: nobody else may have taken it.
    pub(super) fn ensure_claim(&self) -> Result<()> {
        let (Hold { lease, target, lock, .. }, options) = (&self.hold, &self.options);
        if !self.ensure_leased()? {
            return Ok(());
        }
        if options.dry_run {
            return Ok(());
        }
        lease::refresh_for_ancestor(target, &lease.file, lock, &options.lock, &options.observer)
    }

    /// The same, without a change of the lease. False: this write acts under none.
    pub(super) fn ensure_leased(&self) -> Result<bool> {
        let (Hold { lease, target, .. }, options) = (&self.hold, &self.options);
        let visitor = Visitor::of(&options.lock);
        let bound = visitor.is_bound(&lease.file);
        if bound {
            visitor.kept_out(&lease.file, &target.given, &options.observer)?;
        }
        Ok(bound)
    }

    /// Makes sure that no later holder of the store's lease that this write stands under has written the target or may
    /// write it, if it stands under one. The last step before the target is replaced.
    fn fence(&self) -> Result<()> {
        let (Hold { lease, target, lock, .. }, options) = (&self.hold, &self.options);
        if lease.fence(target, lock, &options.lock, &options.observer, options.dry_run)? {
            // The answer may have taken longer than a link lock lives.
            self.ensure_held()?;
        }
        lease.ensure_in_time()
    }

    /// The last look at the lock and at the target.
    pub(super) fn ensure_held(&self) -> Result<()> {
        let target = &self.hold.target;
        self.hold.lock.ensure_undisputed().map_err(|e| e.on(&target.given))?;
        ensure_not_locked(target)?;
        self.ensure_expected()
    }

    pub(super) fn ensure_expected(&self) -> Result<()> {
        self.hold.expected.as_ref().map_or(Ok(()), |expected| expected.still(&self.hold.target))
    }

    pub(super) fn prepare_backup<'a>(
        &'a self,
        original: Option<&Original>,
        in_place: bool,
    ) -> Result<Option<Draft<'a>>> {
        let (Some(options), Some(original)) = (&self.options.backup, original) else { return Ok(None) };
        let (Hold { target, lock, .. }, WriteOptions { durability, observer, .. }) = (&self.hold, &self.options);
        let how = Making { nonce: lock.held.nonce(), temp: None, durability: *durability, in_place };
        backup::prepare(target, original, options, how, observer).map(Some)
    }

    pub(super) fn place_backup(&self, draft: Option<Draft<'_>>, in_place: bool) -> Result<Option<Backup>> {
        let Some(draft) = draft else { return Ok(None) };
        let backup = draft.place(self.options.durability, in_place)?;
        let (target, path, linked) = (&self.hold.target.given, &backup.path, backup.linked);
        self.options.observer.tell(&Notice::BackedUp { target, backup: path, linked });
        Ok(Some(backup))
    }

    /// Makes the new content durable. For the commit the stage must have its name: btrfs does not log an inode without one,
    /// and the sync would have no effect. An error is final: the kernel has dropped the pages that it could not write, and
    /// a second fsync would report success.
    fn sync(&self, stage: &Stage) -> Result<()> {
        if self.options.durability != Durability::None {
            stage.file.sync_all().map_err(|e| self.failed(e).during("cannot sync the new content"))?;
        }
        self.ensure_arrived(stage)
    }

    fn ensure_arrived(&self, stage: &Stage) -> Result<()> {
        stage.flush().map_err(|e| self.failed(e).during("cannot write the new content"))
    }

    /// The backup itself is complete; only its age will be misjudged.
    pub(super) fn warn_of_undated(&self, backup: &Path, e: &io::Error) {
        let text = format!("cannot set the time of the backup: {}", reason_of(e));
        self.options.observer.tell(&Notice::Warning { path: backup, text: &text });
    }

    fn warn_of_overwriting(&self, atomic: bool) {
        let (target, observer) = (&self.hold.target, &self.options.observer);
        let path = &target.given;
        if atomic {
            observer.tell(&Notice::Info { path, text: "exchanging its content for the new one, which is atomic" });
        } else if target.is_mounted_on() {
            let text = "something is mounted on this file: overwriting it in place, which is not atomic";
            observer.tell(&Notice::Warning { path, text });
        } else if self.options.keep_inode {
            let text = "contents cannot be exchanged here: overwriting it in place, which is not atomic";
            observer.tell(&Notice::Info { path, text });
        } else {
            let text = "this file cannot be replaced: overwriting it in place, which is not atomic";
            observer.tell(&Notice::Warning { path, text });
        }
    }

    pub(super) fn announce(&self) {
        self.options.observer.tell(&Notice::Committing { target: &self.hold.target.given });
    }

    fn sync_directory(&self) -> Result<()> {
        if self.options.durability != Durability::Full {
            return Ok(());
        }
        let target = &self.hold.target;
        commit::sync_dir(&target.dir, &target.given, &self.options.observer).map_err(|e| self.not_durable(e))
    }

    /// The directories made for the target stay if it is replaced, the observer is told, and the lock is released.
    pub(super) fn release(self, committed: Committed, durable: Result<()>) -> Result<Committed> {
        if self.options.dry_run {
            return Ok(self.release_unchanged(committed));
        }
        let sync = committed.changed && self.options.durability == Durability::Full;
        self.release_and(sync, committed, durable)
    }

    /// The same, where those directories have been synced.
    pub(super) fn release_synced(self, committed: Committed) -> Result<Committed> {
        self.release_and(false, committed, Ok(()))
    }

    fn release_and(mut self, sync: bool, committed: Committed, durable: Result<()>) -> Result<Committed> {
        let kept = if committed.changed { self.hold.target.keep_dirs(sync) } else { Ok(()) };
        let durable = durable.and(kept.map_err(|e| self.not_durable(e)));
        let Commit { hold: Hold { lock, target, .. }, options: WriteOptions { observer, .. }, started, .. } = self;
        if durable.is_ok() {
            observer.tell(&Notice::Committed {
                target: &target.given,
                bytes: committed.bytes,
                changed: committed.changed,
                backup: committed.backup.as_deref(),
                digest: committed.digest,
                took: started.elapsed(),
            });
        }
        lock.release_or_warn();
        durable.map(|()| committed)
    }

    /// After a dry run: the observer is told, the lock is released, and the directories made for the target go.
    fn release_unchanged(self, committed: Committed) -> Committed {
        let Commit { hold: Hold { target, lock, .. }, options: WriteOptions { observer, .. }, .. } = self;
        observer.tell(&Notice::WouldReplace {
            target: &target.given,
            bytes: committed.bytes,
            changed: committed.changed,
            exists: target.status.is_some(),
        });
        lock.release_or_warn();
        committed
    }

    pub(super) fn failed(&self, e: io::Error) -> Error {
        self.hold.target.failed(e)
    }

    fn not_amended(&self, e: io::Error) -> Error {
        self.failed(e).during("cannot set its owner and permissions")
    }

    fn unnamed(&self, e: io::Error) -> Error {
        self.failed(e).during("cannot name the temporary file")
    }

    pub(super) fn not_durable(&self, e: io::Error) -> Error {
        self.failed(e)
            .of_kind(ErrorKind::NotDurable)
            .during("replaced, but not known to be durable")
            .with_hint("the new content is in place; check the disk before you rely on it")
    }
}
