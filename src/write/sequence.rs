//! What a commit does, one step after the other, under the target's lock:
//!
//! 1. If the content is the same, leave the target alone ([`WriteOptions::if_changed`]).
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
use crate::options::{Durability, WriteOptions};
use crate::original::Original;
use crate::stage::Stage;
use crate::sys::set_mode;

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
    pub(super) started: Instant,
}

impl Commit {
    pub(super) fn run(self, stage: Stage) -> Result<Committed> {
        // Those who work with the target under this lock have done so, or find it replaced.
        self.hold.lock.take_back();
        let original = open_original(&self.hold.target)?;
        let bytes = stage.file.metadata().map_err(|e| self.failed(e))?.len();
        if self.is_unchanged(&stage, original.as_ref())? {
            drop(stage);
            return self.release(Committed { bytes, changed: false, backup: None }, Ok(()));
        }
        let (backup, durable) = self.replace(stage, original.as_ref())?;
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
            Some(old) if self.options.if_changed => {
                let same = old.content().and_then(|old| copy::same_content(&stage.file, old));
                same.map_err(|e| self.failed(e).during("cannot compare"))
            }
            _ => Ok(false),
        }
    }

    /// Steps 2 to 9. Once the target has been replaced, an error of step 9 is part of the result.
    fn replace(&self, mut stage: Stage, original: Option<&Original>) -> Result<(Option<Backup>, Result<()>)> {
        let target = &self.hold.target;
        let mut way = if target.is_mounted_on() { Way::InPlace } else { Way::Rename };
        if way == Way::Rename {
            self.set_metadata(&stage, original)?;
        }
        self.run_check(&mut stage)?;
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
            return Ok((backup, durable));
        }
    }

    fn set_metadata(&self, stage: &Stage, original: Option<&Original>) -> Result<()> {
        let (options, target) = (&self.options, &self.hold.target);
        let fail = |e: io::Error| self.failed(e).during("cannot set owner and permissions of the new file");
        let plain_mode = || stage.plain_mode().map_err(fail);
        // The producer may have removed the file. What is to be kept of it was read before.
        let gone = if original.is_none() { target.gone() } else { None };
        let Some(original) = original.or(gone.as_ref()) else {
            return match options.mode {
                None if stage.is_plain() => Ok(()),
                mode => set_mode(&stage.file, mode.map_or_else(plain_mode, Ok)?).map_err(fail),
            };
        };
        let mode = match options.mode {
            None if !options.preserve_mode => Some(plain_mode()?),
            mode => mode,
        };
        let wanted = Wanted { mode, ownership: options.ownership, xattrs: options.preserve_xattrs };
        let inform = |text: &str| options.observer.tell(&Notice::Info { path: &target.given, text });
        for lost in metadata::apply(&stage.file, original, wanted).map_err(fail)? {
            inform(&format!("not kept: {lost}"));
        }
        let others = original.status.links.saturating_sub(1);
        if others > 0 && !target.is_link() {
            inform(&format!("hard links to this file ({others} more) keep the old content"));
        }
        Ok(())
    }

    /// Comes before the sync: a check may be a formatter, and what it changes in the new file must be synced too.
    fn run_check(&self, stage: &mut Stage) -> Result<()> {
        let Some(check) = &self.options.check else { return Ok(()) };
        let target = &self.hold.target.given;
        check.run(&stage.publish().map_err(|e| self.unnamed(e))?, target)?;
        if stage.has_its_name().map_err(|e| self.failed(e))? {
            return Ok(());
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
        let Commit { hold: Hold { lock, target, .. }, options: WriteOptions { observer, .. }, started } = self;
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
