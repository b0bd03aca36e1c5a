//! What a commit does, one step after the other, under the target's lock:
//!
//! 1. If the content is the same, leave the target alone, but for a mode and an owner that are asked for
//!    ([`WriteOptions::if_changed`]).
//! 2. Give the stage the target's metadata.
//! 3. Ask the caller's check.
//! 4. Make sure that nobody else has taken the lease.
//! 5. Back up the old content.
//! 6. Give the stage a name (publish) and sync it.
//! 7. Make sure that the lock is still held.
//! 8. Replace the target: the commit point. The stage is renamed over it. Where something is mounted on the target, rename
//!    is impossible; it is overwritten in place, without the steps 2 and 6.
//! 9. Sync the directory, and the directories that were made for the target.
//! 10. Release the lock.
//!
//! An error before step 8 leaves the target as it was and nothing beside it. An error after it is reported, but the target
//! has the new content.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use super::hold::{Hold, open_original};
use crate::backup::{self, Backup};
use crate::commit;
use crate::copy;
use crate::error::{Error, ErrorKind, Result, reason_of};
use crate::lease::{self, Visitor};
use crate::metadata::{self, Wanted};
use crate::notice::Notice;
use crate::options::{Check, Durability, WriteOptions};
use crate::original::Original;
use crate::remedy::Remedy;
use crate::stage::Stage;
use crate::sys::{FileStatus, set_mode};

/// What a write has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// Length of the content in bytes.
    pub bytes: u64,
    /// False when the content was identical and the file was left alone ([`WriteOptions::if_changed`]).
    pub changed: bool,
    /// Where the previous content was kept.
    pub backup: Option<PathBuf>,
}

/// How the target gets its new content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Rename,
    InPlace,
}

/// A write that is being committed.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) hold: Hold,
    pub(super) options: WriteOptions,
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
        // Of a link only a backup needs what is behind it.
        let is_needed = !self.hold.target.is_link() || self.options.backup.is_some();
        let original = if is_needed { open_original(&self.hold.target)? } else { None };
        let made = FileStatus::of(&stage.file).map_err(|e| self.failed(e))?;
        let bytes = made.size;
        if self.is_unchanged(&stage, original.as_ref())? {
            if let Some(changed) = self.amend(&stage, &made, original.as_ref())? {
                drop(stage);
                return self.release(Committed { bytes, changed, backup: None }, Ok(()));
            }
        }
        let (bytes, backup, durable) = self.replace(stage, &made, original.as_ref())?;
        if let Some(backup) = &backup {
            if let Err(e) = backup.date() {
                // The backup itself is complete; only its age will be misjudged.
                let text = format!("cannot set the time of the backup: {}", reason_of(&e));
                self.options.observer.tell(&Notice::Warning { path: &backup.path, text: &text });
            }
        }
        self.release(Committed { bytes, changed: true, backup: backup.map(|b| b.path) }, durable)
    }

    fn is_unchanged(&self, stage: &Stage, original: Option<&Original>) -> Result<bool> {
        match original {
            Some(old) if self.options.if_changed && !self.hold.target.is_link() => {
                let same = old.content().and_then(|old| copy::same_content(&stage.file, old));
                same.map_err(|e| self.failed(e).during("cannot compare"))
            }
            _ => Ok(false),
        }
    }

    fn ensure_untouched(&self) -> Result<()> {
        let target = &self.hold.target;
        let facts = |status: FileStatus| (status.id, status.size, status.modified);
        match target.dir.status(&target.name).map_err(|e| self.failed(e))? {
            // Removed: nothing of it can be lost by the commit.
            None => return Ok(()),
            Some(now) if target.status.map(facts) == Some(facts(now)) => return Ok(()),
            Some(_) => {}
        }
        let reason = "COMMAND changed this file itself; it was not replaced";
        Err(Error::new(ErrorKind::Refused, reason).on(&target.given).with_remedy(Remedy::ToStdout))
    }

    /// Steps 2 to 9. Returns the length of what was committed. Once the target has been replaced, an error of step 9 is
    /// part of the result.
    fn replace(
        &self,
        mut stage: Stage,
        made: &FileStatus,
        original: Option<&Original>,
    ) -> Result<(u64, Option<Backup>, Result<()>)> {
        let target = &self.hold.target;
        let mut bytes = made.size;
        let mut way = if target.is_mounted_on() { Way::InPlace } else { Way::Rename };
        if way == Way::Rename {
            self.set_metadata(&stage, made, original)?;
        }
        if let Some(check) = &self.options.check {
            bytes = self.run_check(check, &mut stage)?;
        }
        self.ensure_claim()?;
        loop {
            let mut backup = self.back_up(&stage, original, way)?;
            if way == Way::Rename {
                stage.publish().map_err(|e| self.unnamed(e))?;
                self.sync(&stage)?;
            }
            // After the sync, which may take longer than a link lock lives.
            self.hold.lock.ensure_held().map_err(|e| e.on(&target.given))?;
            self.announce(way);
            let file = match way {
                Way::InPlace => {
                    let sync = self.options.durability != Durability::None;
                    commit::overwrite(&stage, target, self.options.mode, sync)?
                }
                Way::Rename => match commit::replace(stage, target) {
                    Ok(file) => file,
                    Err((e, back)) => {
                        drop(backup);
                        if !commit::is_busy(&e) {
                            return Err(self.failed(e).during("cannot replace it"));
                        }
                        if !self.options.in_place {
                            return Err(commit::mounted_on(&target.given));
                        }
                        // Mounted on since the target was looked at.
                        (stage, way) = (back, Way::InPlace);
                        continue;
                    }
                },
            };
            if let Some(backup) = &mut backup {
                backup.keep();
            }
            // Closed, and so unlocked, before the target's lock is released.
            drop(file);
            let durable = if way == Way::Rename { self.sync_directory() } else { Ok(()) };
            return Ok((bytes, backup, durable));
        }
    }

    fn set_metadata(&self, stage: &Stage, made: &FileStatus, original: Option<&Original>) -> Result<()> {
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
    fn wanted(&self, stage: &Stage) -> io::Result<Wanted> {
        let options = &self.options;
        let mode = match options.mode {
            None if !options.preserve_mode => Some(stage.plain_mode()?),
            mode => mode,
        };
        Ok(Wanted { mode, ownership: options.ownership, xattrs: options.preserve_xattrs })
    }

    /// The content is the same. Gives the target itself the mode and the owner that are asked for. Returns whether it had
    /// others; `None`: this user may not set them there, but a new file can have them.
    fn amend(&self, stage: &Stage, made: &FileStatus, original: Option<&Original>) -> Result<Option<bool>> {
        let fail = |e: io::Error| self.failed(e).during("cannot set its owner and permissions");
        let wanted = self.wanted(stage).map_err(fail)?;
        let Some(original) = original.filter(|original| metadata::differs(original, made, wanted)) else {
            return Ok(Some(false));
        };
        self.ensure_claim()?;
        self.hold.lock.ensure_held().map_err(|e| e.on(&self.hold.target.given))?;
        match metadata::amend(original, made, wanted) {
            Ok(lost) => {
                metadata::tell(&lost, &self.hold.target.given, &self.options.observer);
                if self.options.durability != Durability::None {
                    original.content().and_then(File::sync_all).map_err(|e| self.not_durable(e))?;
                }
                Ok(Some(true))
            }
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => Ok(None),
            Err(e) => Err(fail(e)),
        }
    }

    /// Comes before the sync: a check may be a formatter, and what it changes in the new file must be synced too. Returns
    /// the length of what it left.
    fn run_check(&self, check: &Check, stage: &mut Stage) -> Result<u64> {
        let target = &self.hold.target.given;
        check.run(&stage.publish().map_err(|e| self.unnamed(e))?, target)?;
        if stage.has_its_name().map_err(|e| self.failed(e))? {
            return match stage.file.metadata().map_err(|e| self.failed(e))?.len() {
                0 if self.options.refuse_empty => {
                    Err(Error::new(ErrorKind::NoInput, "the check emptied the new content")
                        .on(target)
                        .with_remedy(Remedy::AllowEmpty))
                }
                bytes => Ok(bytes),
            };
        }
        Err(Error::new(ErrorKind::Refused, "the check put another file in the place of the new one")
            .on(target)
            .with_hint("a check may change the new file, but not replace or remove it"))
    }

    /// The last look at the lease that this write acts under, if it does: nobody else may have taken it.
    fn ensure_claim(&self) -> Result<()> {
        let (Hold { lease, target, lock, .. }, options) = (&self.hold, &self.options);
        let visitor = Visitor::of(&options.lock);
        if !visitor.is_bound(lease) {
            return Ok(());
        }
        visitor.kept_out(lease, &target.given)?;
        lease::refresh_for_ancestor(target, lease, lock, &options.lock, &options.observer)
    }

    /// Before a rename the backup is made while the stage has no name, so that a crash leaves at most one temporary name.
    /// The backup may replace an earlier one, so the stage is synced first: a failing disk is found before that.
    fn back_up(&self, stage: &Stage, original: Option<&Original>, way: Way) -> Result<Option<Backup>> {
        let (Some(options), Some(original)) = (&self.options.backup, original) else { return Ok(None) };
        if way == Way::Rename {
            self.sync(stage)?;
        }
        let target = &self.hold.target;
        let backup = backup::make(target, original, options, self.options.durability, way == Way::InPlace)?;
        let (path, linked) = (&backup.path, backup.linked);
        self.options.observer.tell(&Notice::BackedUp { target: &target.given, backup: path, linked });
        Ok(Some(backup))
    }

    /// Makes the new content durable. For the commit the stage must have its name: btrfs does not log an inode without one,
    /// and the sync would have no effect. An error is final: the kernel has dropped the pages that it could not write, and
    /// a second fsync would report success.
    fn sync(&self, stage: &Stage) -> Result<()> {
        if self.options.durability == Durability::None {
            return Ok(());
        }
        stage.file.sync_all().map_err(|e| self.failed(e).during("cannot sync the new content"))
    }

    fn announce(&self, way: Way) {
        let (target, observer) = (&self.hold.target.given, &self.options.observer);
        if way == Way::InPlace {
            let text = "something is mounted on this file: overwriting it in place, which is not atomic";
            observer.tell(&Notice::Warning { path: target, text });
        }
        observer.tell(&Notice::Committing { target });
    }

    fn sync_directory(&self) -> Result<()> {
        if self.options.durability != Durability::Full {
            return Ok(());
        }
        let target = &self.hold.target;
        commit::sync_dir(&target.dir, &target.given, &self.options.observer).map_err(|e| self.not_durable(e))
    }

    /// The directories made for the target stay, the observer is told, and the lock is released.
    fn release(mut self, committed: Committed, durable: Result<()>) -> Result<Committed> {
        let sync = committed.changed && self.options.durability == Durability::Full;
        let kept = self.hold.target.keep_dirs(sync);
        let durable = durable.and(kept.map_err(|e| self.not_durable(e)));
        let Commit { hold: Hold { lock, target, .. }, options: WriteOptions { observer, .. }, started, .. } = self;
        if durable.is_ok() {
            observer.tell(&Notice::Committed {
                target: &target.given,
                bytes: committed.bytes,
                changed: committed.changed,
                backup: committed.backup.as_deref(),
                took: started.elapsed(),
            });
        }
        lock.release_or_warn();
        durable.map(|()| committed)
    }

    fn failed(&self, e: io::Error) -> Error {
        self.hold.target.failed(e)
    }

    fn unnamed(&self, e: io::Error) -> Error {
        self.failed(e).during("cannot name the temporary file")
    }

    fn not_durable(&self, e: io::Error) -> Error {
        self.failed(e)
            .of_kind(ErrorKind::NotDurable)
            .during("replaced, but not known to be durable")
            .with_hint("the new content is in place; check the disk before you rely on it")
    }
}
