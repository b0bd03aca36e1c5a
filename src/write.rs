//! Writing a file: the protocol from end to end.
//!
//! ```text
//!   AtomicFile::open:   resolve → check → lock → resolve again, under the lock
//!   write, fill_from:   stage (made at the first byte)
//!   commit:             compare → metadata → name → check → sync → back up → rename → sync directory → release
//! ```
//!
//! Up to the rename any failure, and dropping, leaves the target as it was and nothing beside it. The rename is the
//! commit point: what fails after it is reported, but the content is the new one.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::backup::{self, Backup};
use crate::commit;
use crate::copy::{self, Failed};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{self, Purpose, Visitor, lock_target};
use crate::lock::{FileLock, HandOver, Place, Spot};
use crate::metadata::{self, Wanted};
use crate::notice::Notice;
use crate::options::{Durability, LockOptions, WriteOptions};
use crate::original::Original;
use crate::remedy::Remedy;
use crate::stage::{Birth, Stage};
use crate::sys::{Dir, set_mode};
use crate::target::{Resolve, Target};

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

/// A file that is being replaced: what is written goes to a temporary file, and [`commit`](AtomicFile::commit) makes it
/// the target, all at once.
///
/// From [`open`](AtomicFile::open) on, the target's lock is held (unless
/// [`lock_on_commit`](WriteOptions::lock_on_commit) puts that off). Dropping the value without committing aborts: the
/// target is as before, temporary file and lock are gone.
///
/// Writes are not buffered; put a [`BufWriter`] around it for small ones.
///
/// ```
/// use std::io::Write;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("config.json");
/// let mut file = awrite::AtomicFile::open(&path, &awrite::WriteOptions::default())?;
/// writeln!(file, "{{\"ok\":true}}")?;
/// file.commit()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "{\"ok\":true}\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    // Dropped in this order: the stage, then the lock, then directories made for the target.
    stage: Option<Stage>,
    lock: Option<FileLock>,
    /// Where the target's lease is; known with the lock.
    lease: Option<Spot>,
    target: Target,
    options: WriteOptions,
    /// Bytes of input, without what was there before (append).
    input: u64,
    /// A write failed: what is staged is not what the caller meant.
    broken: bool,
    started: Instant,
}

impl AtomicFile {
    /// Begins to replace `path`, which need not exist. Waits for its lock as `options.lock` says.
    ///
    /// # Errors
    ///
    /// The target is no regular file, may not be written, or is mounted on; the lock was not to be had; the options
    /// contradict each other. Nothing has been changed then.
    pub fn open(path: impl AsRef<Path>, options: &WriteOptions) -> Result<AtomicFile> {
        let (path, started) = (path.as_ref(), Instant::now());
        if let Some(options) = &options.backup {
            backup::check(options)?;
        }
        let how = Resolve { no_follow: options.lock.no_follow, mkdir: options.mkdir };
        let (target, lease, lock) = if options.lock_on_commit {
            let target = Target::resolve(path, how)?;
            check(&target, &Place::of(&target, &options.lock)?, options)?;
            (target, None, None)
        } else {
            let (target, lease, lock) = lock(path, how, options)?;
            (target, Some(lease), Some(lock))
        };
        Ok(AtomicFile { stage: None, lock, lease, target, options: options.clone(), input: 0, broken: false, started })
    }

    /// Opens the current content for reading; `None`: the target does not exist.
    ///
    /// # Errors
    ///
    /// It cannot be read, or the lock is put off to the commit: what is read now could be stale by then.
    pub fn original(&self) -> Result<Option<File>> {
        if self.lock.is_none() {
            let reason = "the current content cannot be read before the lock is taken";
            return Err(Error::new(ErrorKind::Usage, reason).on(&self.target.given));
        }
        let original = self.open_original()?;
        original.map(|original| original.into_content().map_err(|e| self.unreadable(e))).transpose()
    }

    /// What to give a child process whose output will be written here: see [`FileLock::hand_over`]. What it does below
    /// with the same target goes on under this lock, but to replace the target there is an error.
    ///
    /// # Errors
    ///
    /// The lock's descriptor cannot be copied, or the lock is put off to the commit.
    pub fn hand_over(&self) -> Result<HandOver> {
        match &self.lock {
            Some(lock) => lock.hand_over(),
            None => Err(Error::new(ErrorKind::Usage, "the lock is not held yet").on(&self.target.given)),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// Said of the target, which is unchanged: the disk is full, the file too large.
    pub fn fill(&mut self, bytes: &[u8]) -> Result<()> {
        let outcome = self.begin().and_then(|()| (&self.stage()?.file).write_all(bytes).map_err(|e| self.failed(e)));
        self.broken |= outcome.is_err();
        self.input += bytes.len() as u64;
        outcome
    }

    /// Writes all that is left to read in `source`, in constant memory: shared or copied by the kernel where both are
    /// files and the file system can, otherwise read and written. Returns how many bytes that was.
    ///
    /// # Errors
    ///
    /// Of reading, said of `source_name`; of writing, said of the target. Neither has changed the target.
    pub fn fill_from(&mut self, source: impl AsFd, source_name: &Path) -> Result<u64> {
        let before = self.input;
        let outcome = self.begin().and_then(|()| {
            let told = |bytes, total: Option<u64>| {
                let total = total.map(|t| before + t);
                self.options.observer.tell(&Notice::Progress { bytes: before + bytes, total });
            };
            copy::copy(source, &self.stage()?.file, told).map_err(|failed| match failed {
                Failed::Reading(e) => Error::io(source_name, e),
                Failed::Writing(e) => self.failed(e),
            })
        });
        self.broken |= outcome.is_err();
        self.input += outcome.as_ref().map_or(0, |&n| n);
        outcome
    }

    /// Makes what was written the target's content, and releases the lock.
    ///
    /// # Errors
    ///
    /// The target is as before, except with [`ErrorKind::NotDurable`]: then it has the new content (or, overwritten in
    /// place, a part of it). [`ErrorKind::LockLost`]: the lease that [`LockOptions::claim`](crate::LockOptions::claim)
    /// names is another's by now.
    pub fn commit(mut self) -> Result<Committed> {
        if self.broken {
            return Err(Error::new(ErrorKind::Io, "an earlier write failed").on(&self.target.given));
        }
        if self.input == 0 && self.options.refuse_empty {
            return Err(Error::new(ErrorKind::NoInput, "No input provided").with_remedy(Remedy::AllowEmpty));
        }
        if self.lock.is_none() {
            self.lock_now()?;
        }
        self.begin()?;
        let original = self.open_original()?;
        let Some(mut stage) = self.stage.take() else { return Err(self.gone()) };
        let bytes = stage.file.metadata().map_err(|e| self.failed(e))?.len();

        if self.options.if_changed {
            if let Some(old) = &original {
                let same = old.content().and_then(|old| copy::same_content(&stage.file, old));
                if same.map_err(|e| self.failed(e).during("cannot compare"))? {
                    drop(stage);
                    return self.finish(Committed { bytes, changed: false, backup: None }, None);
                }
            }
        }

        if self.target.status.is_some_and(|s| s.mount_root) {
            self.run_check(&mut stage)?;
            self.check_claim()?;
            return self.commit_in_place(&stage, original.as_ref(), bytes);
        }
        self.set_metadata(&stage, original.as_ref())?;
        self.run_check(&mut stage)?;
        self.check_claim()?;
        let mut backup = self.back_up_before(&stage, original.as_ref())?;
        self.publish(&mut stage)?;
        self.sync(&stage)?;
        // Last: a sync may take longer than a link lock lives.
        self.ensure_locked()?;
        self.options.observer.tell(&Notice::Committing { target: &self.target.given });
        let file = match commit::replace(stage, &self.target) {
            Ok(file) => file,
            Err((e, stage)) => {
                drop(backup);
                if !commit::is_busy(&e) {
                    return Err(self.failed(e).during("cannot replace it"));
                }
                if !self.options.in_place {
                    return Err(commit::mounted_on(&self.target.given));
                }
                return self.commit_in_place(&stage, original.as_ref(), bytes);
            }
        };
        if let Some(backup) = &mut backup {
            backup.keep();
        }
        // Closed, and so unlocked, before the target's lock is given back.
        drop(file);
        let unsure = self.sync_directory().err();
        self.finish_with(bytes, backup, unsure)
    }

    /// The commit where rename is impossible.
    fn commit_in_place(self, stage: &Stage, original: Option<&Original>, bytes: u64) -> Result<Committed> {
        let backup = self.back_up(original, true)?;
        let sync = self.options.durability != Durability::None;
        self.ensure_locked()?;
        let text = "something is mounted on this file: overwriting it in place, which is not atomic";
        self.options.observer.tell(&Notice::Warning { path: &self.target.given, text });
        self.options.observer.tell(&Notice::Committing { target: &self.target.given });
        commit::overwrite(stage, &self.target, self.options.mode, sync)?;
        self.finish_with(bytes, backup, None)
    }

    fn finish_with(self, bytes: u64, backup: Option<Backup>, unsure: Option<Error>) -> Result<Committed> {
        if let Some(backup) = &backup {
            if let Err(e) = backup.date() {
                // The backup itself is complete; only its age will be misjudged.
                let text = format!("cannot set the time of the backup: {}", crate::error::reason_of(&e));
                self.options.observer.tell(&Notice::Warning { path: &backup.path, text: &text });
            }
        }
        self.finish(Committed { bytes, changed: true, backup: backup.map(|b| b.path) }, unsure)
    }

    /// After the commit: release, report.
    fn finish(mut self, done: Committed, unsure: Option<Error>) -> Result<Committed> {
        let observer = self.options.observer.clone();
        let given = self.target.given.clone();
        let sync = done.changed && self.options.durability == Durability::Full;
        let unsure = unsure.or(self.target.keep_dirs(sync).err().map(|e| not_durable(&given, e)));
        if unsure.is_none() {
            observer.tell(&Notice::Committed {
                target: &given,
                bytes: done.bytes,
                changed: done.changed,
                backup: done.backup.as_deref(),
                took: self.started.elapsed(),
            });
        }
        if let Some(lock) = self.lock.take() {
            let path = lock.path().to_owned();
            if let Err(e) = lock.release() {
                observer.tell(&Notice::Warning { path: &path, text: &e.reason() });
            }
        }
        unsure.map_or(Ok(done), Err)
    }

    /// The lock was put off to here. What was staged may now be beside the wrong file, or have to come behind what has
    /// been written meanwhile.
    fn lock_now(&mut self) -> Result<()> {
        let how = Resolve { no_follow: self.options.lock.no_follow, mkdir: self.options.mkdir };
        let (mut target, lease, lock) = lock(&self.target.given, how, &self.options)?;
        self.target.pass_dirs_to(&mut target);
        self.target = target;
        (self.lease, self.lock) = (Some(lease), Some(lock));
        let Some(spool) = self.stage.take() else { return Ok(()) };
        if spool.dir.id() == self.target.dir.id() && !self.options.append {
            self.stage = Some(spool);
            return Ok(());
        }
        (&spool.file).rewind().map_err(|e| self.failed(e))?;
        self.begin()?;
        copy::copy(&spool.file, &self.stage()?.file, |_, _| {}).map_err(|failed| self.failed(failed.into_inner()))?;
        Ok(())
    }

    /// Makes the stage at the first call, beginning with the old content where that was asked for.
    fn begin(&mut self) -> Result<()> {
        if self.stage.is_some() {
            return Ok(());
        }
        let stage = self.make_stage().map_err(|e| self.failed(e))?;
        let text = if stage.is_named() { "staging in a named temporary file" } else { "staging in an unnamed file" };
        self.options.observer.tell(&Notice::Debug { path: &self.target.given, text });
        if self.options.append && self.lock.is_some() {
            if let Some(old) = self.open_original()? {
                let old = old.content().map_err(|e| self.unreadable(e))?;
                copy::copy(old, &stage.file, |_, _| {}).map_err(|failed| self.failed(failed.into_inner()))?;
            }
        }
        self.stage = Some(stage);
        Ok(())
    }

    fn stage(&self) -> Result<&Stage> {
        self.stage.as_ref().ok_or_else(|| self.gone())
    }

    fn make_stage(&self) -> io::Result<Stage> {
        let options = &self.options;
        // What stands behind a link that is replaced itself is known once it is opened.
        let birth = if self.lock.is_none() || self.target.is_link() {
            Birth::Undecided
        } else if options.mode.is_none() && (self.target.status.is_none() || options.no_preserve_mode) {
            Birth::Plain
        } else {
            Birth::Private
        };
        match Stage::create(self.target.dir.clone(), &self.target.name, birth) {
            // A file mounted into a directory that may not be written: what is staged for it need not be beside it.
            Err(e) if options.in_place && is_refusal(&e) => {
                let scratch = Dir::open(&std::env::temp_dir())?;
                Stage::create(Arc::new(scratch), &self.target.name, Birth::Private)
            }
            outcome => outcome,
        }
    }

    fn open_original(&self) -> Result<Option<Original>> {
        self.target.open_original().map_err(|e| self.unreadable(e))
    }

    fn unreadable(&self, e: io::Error) -> Error {
        self.failed(e).during("cannot read the current content")
    }

    fn set_metadata(&self, stage: &Stage, original: Option<&Original>) -> Result<()> {
        let options = &self.options;
        let fail = |e: io::Error| self.failed(e).during("cannot set owner and permissions of the new file");
        // The producer may remove the file meanwhile; what was asked to be kept of it is known all the same.
        let gone = if original.is_none() { self.target.gone() } else { None };
        let Some(original) = original.or(gone.as_ref()) else {
            let mode = options.mode.or(stage.plain_mode);
            return mode.map_or(Ok(()), |mode| set_mode(&stage.file, mode).map_err(fail));
        };
        let mode = match options.mode {
            None if options.no_preserve_mode => Some(stage.fresh_mode().map_err(fail)?),
            mode => mode,
        };
        let wanted = Wanted { mode, ownership: options.ownership, xattrs: !options.no_preserve_xattrs };
        let left = metadata::finish(&stage.file, original, wanted).map_err(fail)?;
        for what in left {
            options.observer.tell(&Notice::Info { path: &self.target.given, text: &format!("not kept: {what}") });
        }
        let others = original.status.links.saturating_sub(1);
        if others > 0 && !self.target.is_link() {
            let text = format!("hard links to this file ({others} more) keep the old content");
            options.observer.tell(&Notice::Info { path: &self.target.given, text: &text });
        }
        Ok(())
    }

    fn publish(&self, stage: &mut Stage) -> Result<PathBuf> {
        let dir = stage.dir.clone();
        let name = stage.publish().map_err(|e| self.failed(e).during("cannot name the temporary file"))?;
        Ok(dir.join(name))
    }

    /// The caller's last word. Before the sync, so that what a formatter changes in the new file is synced too.
    fn run_check(&self, stage: &mut Stage) -> Result<()> {
        let Some(check) = &self.options.check else { return Ok(()) };
        let path = self.publish(stage)?;
        check.run(&path, &self.target.given)?;
        if stage.is_current().map_err(|e| self.failed(e))? {
            return Ok(());
        }
        let reason = "the check put another file in the place of the new one";
        Err(Error::new(ErrorKind::Refused, reason)
            .on(&self.target.given)
            .with_hint("a check may change the new file, but not replace or remove it"))
    }

    /// Under a lease, the last look before the target is replaced: nobody else may have taken it.
    fn check_claim(&self) -> Result<()> {
        let lease = self.lease.as_ref().ok_or_else(|| self.gone())?;
        let visitor = Visitor::of(&self.options.lock);
        if !visitor.is_bound(lease) {
            return Ok(());
        }
        visitor.kept_out(lease, &self.target.given)?;
        let (Some(lock), options) = (&self.lock, &self.options) else { return Ok(()) };
        lease::refresh_for_ancestor(&self.target, lease, lock, &options.lock, &options.observer)
    }

    /// Makes the new content durable. After it has a name: btrfs does not log an inode that has none, and the sync would
    /// be for nothing. Never tried again on error: the kernel has dropped what it could not write, and would report
    /// success.
    fn sync(&self, stage: &Stage) -> Result<()> {
        if self.options.durability == Durability::None {
            return Ok(());
        }
        stage.file.sync_all().map_err(|e| self.failed(e).during("cannot sync the new content"))
    }

    /// The backup, made before the new content has its temporary name, so that a crash leaves one such name at the most;
    /// but not before a failing disk has had its chance to say so, since it may replace an earlier backup.
    fn back_up_before(&self, stage: &Stage, original: Option<&Original>) -> Result<Option<Backup>> {
        if self.options.backup.is_none() || original.is_none() {
            return Ok(None);
        }
        self.sync(stage)?;
        self.back_up(original, false)
    }

    fn back_up(&self, original: Option<&Original>, must_copy: bool) -> Result<Option<Backup>> {
        let (Some(options), Some(original)) = (&self.options.backup, original) else { return Ok(None) };
        let backup = backup::make(&self.target, original, options, self.options.durability, must_copy)?;
        self.options.observer.tell(&Notice::BackedUp {
            target: &self.target.given,
            backup: &backup.path,
            linked: backup.linked,
        });
        Ok(Some(backup))
    }

    /// The last look before the commit: whoever lost the lock must not write.
    fn ensure_locked(&self) -> Result<()> {
        let lock = self.lock.as_ref().ok_or_else(|| self.gone())?;
        lock.ensure_held().map_err(|e| e.on(&self.target.given))
    }

    fn sync_directory(&self) -> Result<()> {
        if self.options.durability != Durability::Full {
            return Ok(());
        }
        commit::sync_dir(&self.target.dir, &self.target.given, &self.options.observer)
            .map_err(|e| not_durable(&self.target.given, e))
    }

    fn failed(&self, e: io::Error) -> Error {
        Error::io(&self.target.given, e)
    }

    /// A stage that was there a moment ago: not reached.
    fn gone(&self) -> Error {
        Error::new(ErrorKind::Io, "the temporary file is gone").on(&self.target.given)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = match self.begin().and_then(|()| self.stage()) {
            Ok(stage) => (&stage.file).write(bytes),
            Err(e) => Err(io::Error::other(e)),
        };
        match &outcome {
            Ok(n) => self.input += *n as u64,
            Err(e) => self.broken |= e.kind() != io::ErrorKind::Interrupted,
        }
        outcome
    }

    /// Does nothing: writes are not buffered, and syncing is the commit's.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock(path: &Path, how: Resolve, options: &WriteOptions) -> Result<(Target, Spot, FileLock)> {
    let visitor = Visitor::of(&options.lock);
    let check = |target: &Target, place: &Place| check(target, place, options);
    // Two who shared it would overwrite each other.
    let alone = LockOptions { shared: false, ..options.lock.clone() };
    let (target, place, lock) = lock_target(path, how, &alone, &visitor, &options.observer, Purpose::Replace, check)?;
    Ok((target, place.lease, lock))
}

/// Refuses what cannot or must not be replaced.
fn check(target: &Target, place: &Place, options: &WriteOptions) -> Result<()> {
    target.check_kind()?;
    if target.status.is_some_and(|s| s.mount_root) && !options.in_place {
        return Err(commit::mounted_on(&target.given));
    }
    if let Some(backup) = &options.backup {
        backup::check_place(target, place, backup)?;
    }
    if options.force { Ok(()) } else { target.check_writable() }
}

/// The directory, not the file, refuses.
fn is_refusal(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
}

fn not_durable(target: &Path, e: io::Error) -> Error {
    Error::io(target, e)
        .of_kind(ErrorKind::NotDurable)
        .during("replaced, but not known to be durable")
        .with_hint("the new content is in place; check the disk before you rely on it")
}

/// Replaces `path` by all that `reader` gives.
///
/// # Errors
///
/// As [`AtomicFile::open`] and [`AtomicFile::commit`]; an error of `reader` aborts, and is said of the target.
pub fn write(path: impl AsRef<Path>, mut reader: impl Read, options: &WriteOptions) -> Result<Committed> {
    let mut file = AtomicFile::open(path, options)?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return file.commit(),
            Ok(n) => file.fill(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(file.failed(e).during("cannot read the input")),
        }
    }
}

/// Reads and replaces `path` under its lock, so that no other update is lost: `change` reads the current content (empty
/// where there is none) and writes the new one.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("counter");
/// awrite::update(&path, &awrite::WriteOptions::default(), |old, new| {
///     let mut text = String::new();
///     old.read_to_string(&mut text)?;
///     let count: u64 = text.trim().parse().unwrap_or(0);
///     writeln!(new, "{}", count + 1)
/// })?;
/// # assert_eq!(std::fs::read_to_string(&path)?, "1\n");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`AtomicFile::open`] and [`AtomicFile::commit`]; an error of `change` aborts, and is said of the target.
pub fn update(
    path: impl AsRef<Path>,
    options: &WriteOptions,
    change: impl FnOnce(&mut dyn Read, &mut dyn Write) -> io::Result<()>,
) -> Result<Committed> {
    let mut file = AtomicFile::open(path, options)?;
    let mut old: Box<dyn Read> = match file.original()? {
        Some(old) => Box::new(io::BufReader::new(old)),
        None => Box::new(io::empty()),
    };
    let mut new = BufWriter::new(&mut file);
    let outcome = change(&mut old, &mut new).and_then(|()| new.flush());
    // What is buffered after an error must not be written while unwinding it.
    let _ = new.into_parts();
    match outcome {
        Ok(()) => file.commit(),
        Err(e) => Err(file.failed(e).of_kind(ErrorKind::Refused).during("the update was given up")),
    }
}
