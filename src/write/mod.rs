//! Writing a file: the protocol from end to end.
//!
//! States of a write:
//!
//! ```text
//!   open: resolve, refuse ──lock, resolve again──> held ──commit──> replaced, released
//!                         └──(lock_on_commit)────> spooling ──commit: lock, resolve again──> held
//!   spooling, held ──drop, any error──> as it was: stage, lock and new directories are gone
//! ```
//!
//! In both states `write`, `add` and its kin write to the stage, which is made at the first byte. The old content is
//! only read under the lock. What a commit does, step by step, stands in `sequence.rs`.

mod expected;
mod hold;
mod lent;
mod places;
mod sequence;
pub(crate) mod set;
pub(crate) mod together;
mod verify;

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::backup;
use crate::copy::{self, Content, Failed};
use crate::digest::Hasher;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Standing;
use crate::lock::{FileLock, HandOver, Place};
use crate::notice::Notice;
use crate::options::{Durability, WriteOptions};
use crate::remedy::Remedy;
use crate::stage::{Birth, Stage};
use crate::sys::{Dir, FileStatus};
use crate::target::Target;
use expected::Expected;
use hold::{Hold, ensure_replaceable, is_writable, open_original, resolve, unreadable};
use sequence::Commit;
pub use sequence::Committed;
use verify::verify;

/// A file that is being replaced: what is written goes to a temporary file, and [`commit`](AtomicFile::commit) makes that
/// file the target, all at once.
///
/// From [`open`](AtomicFile::open) on, the target's lock is held (unless
/// [`lock_on_commit`](WriteOptions::lock_on_commit) puts that off). Dropping the value without a commit aborts the write:
/// the target is as before, and temporary file and lock are gone.
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
#[must_use = "dropping it aborts the write"]
pub struct AtomicFile {
    // Dropped in this order: the stage, then the lock, then directories made for the target.
    /// `None` before the first byte.
    stage: Option<Stage>,
    phase: Phase,
    target: Target,
    options: WriteOptions,
    /// Of the new content so far, if its digest is wanted.
    hasher: Option<Hasher>,
    /// Bytes of input, without the old content that it is appended to.
    input: u64,
    /// Set once the descriptor was given out: the length of the stage without the input so far.
    lent: Option<u64>,
    /// A change of the target by anybody else is an error.
    watched: bool,
    /// What was written is known to be something else than what the target contains.
    differs: bool,
    /// A write failed, so the stage does not contain what the caller meant.
    broken: Option<Broken>,
    started: Instant,
}

/// What a write has failed with: the number of the system error, if it was one.
#[derive(Debug)]
struct Broken(Option<i32>);

impl Broken {
    fn error(&self, target: &Target) -> Error {
        let what = "an earlier write failed";
        match self.0 {
            Some(errno) => target.failed(io::Error::from_raw_os_error(errno)).during(what),
            None => Error::new(ErrorKind::Io, what).on(&target.given),
        }
    }
}

// A write has one of these, for as long as it lives: its size costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum Phase {
    /// Before the lock. Another writer may replace the target meanwhile, so nothing is decided by what it is now.
    Spooling,
    /// Under the lock, and perhaps under a lease.
    Held { lock: FileLock, lease: Standing, expected: Option<Expected> },
}

impl AtomicFile {
    /// Begins to replace `path`, which need not exist. Waits for its lock as `options.lock` says.
    ///
    /// # Errors
    ///
    /// The target is no regular file, may not be written, or something is mounted on it; the lock could not be taken; the
    /// options contradict each other. [`ErrorKind::Conflict`]: it is not what [`WriteOptions::expect`] says. Nothing has
    /// been changed then.
    pub fn open(path: impl AsRef<Path>, options: &WriteOptions) -> Result<AtomicFile> {
        let (path, started, mut options) = (path.as_ref(), Instant::now(), options.clone());
        if let Some(expect) = &mut options.expect {
            *expect = expect.digest()?.into();
        }
        if let Some(backup) = &options.backup {
            backup::ensure_nameable(backup, options.mkdir)?;
        }
        if options.verify && options.durability == Durability::None {
            let reason = "without a sync, nothing can be read back from the disk to verify it";
            return Err(Error::new(ErrorKind::Usage, reason));
        }
        let (phase, target) = if options.lock_on_commit {
            let target = Target::resolve(path, resolve(&options))?;
            ensure_replaceable(&target, &Place::of(&target, &options.lock)?, &options)?;
            (Phase::Spooling, target)
        } else {
            let Hold { lock, lease, target, expected } = Hold::take(path, &options)?;
            (Phase::Held { lock, lease, expected }, target)
        };
        Ok(AtomicFile::new(phase, target, options, false, started))
    }

    fn new(phase: Phase, target: Target, options: WriteOptions, watched: bool, started: Instant) -> AtomicFile {
        // Who expects a content may want to expect the new one next.
        let hasher = (options.verify || options.expect.is_some()).then(Hasher::default);
        let (differs, broken, lent) = (false, None, None);
        AtomicFile { stage: None, phase, target, options, hasher, input: 0, lent, watched, differs, broken, started }
    }

    /// Opens the current content for reading; `None`: the target does not exist.
    ///
    /// # Errors
    ///
    /// It cannot be read; or the lock is put off to the commit, and what is read now could be stale by then.
    pub fn original(&self) -> Result<Option<File>> {
        self.held("the current content cannot be read before the lock is taken")?;
        let original = open_original(&self.target)?;
        original.map(|original| original.into_content().map_err(|e| unreadable(&self.target, e))).transpose()
    }

    /// What to give a child process whose output will be written here: see [`FileLock::hand_over`]. The child works with
    /// the target under this lock; replacing the target there is an error.
    ///
    /// # Errors
    ///
    /// The lock's descriptor cannot be copied, or the lock is put off to the commit.
    pub fn hand_over(&self) -> Result<HandOver> {
        self.held("the lock is not held yet")?.hand_over()
    }

    /// Makes it an error of the commit if the target is another file than when its lock was taken, or was written: its
    /// inode, size and modification time are compared. That it was removed is no error. For a command that should write its output here, and edits the target instead.
    pub fn watch(&mut self) {
        self.watched = true;
    }

    /// Sets [`WriteOptions::new_mode`] for this file. To be called before anything is written.
    pub fn mode_if_new(&mut self, mode: u32) {
        self.options.new_mode = mode;
    }

    /// Writes all of `source`, a file that is at its start, unless the target contains that already. Returns whether it did.
    /// To be called before anything is written.
    ///
    /// # Errors
    ///
    /// As [`add_fd`](AtomicFile::add_fd) and [`original`](AtomicFile::original).
    pub fn add_if_other(&mut self, source: &File, source_name: &Path) -> Result<bool> {
        let old = self.original()?;
        let small = copy::small_content(source).map_err(|e| Error::io(source_name, e))?;
        let same = match (&old, &small) {
            (None, _) => Ok(false),
            (Some(old), Some(new)) => copy::is_content_of(new, old),
            (Some(old), None) => copy::same_content(source, old),
        };
        if same.map_err(|e| self.target.failed(e).during("cannot compare"))? {
            return Ok(false);
        }
        match small {
            Some(content) => {
                self.add(&content)?;
                let bytes = content.len() as u64;
                self.options.observer.tell(&Notice::Progress { bytes, total: Some(bytes) });
            }
            None => drop(self.add_fd(source, source_name)?),
        }
        self.differs = !self.options.append;
        Ok(true)
    }

    /// Adds `bytes` to the new content. As `write_all` of [`Write`], but with an error that names the target.
    ///
    /// # Errors
    ///
    /// The disk is full, or the file too large. The target is unchanged, and a commit fails from now on.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let outcome = self.stage().map(|(stage, hasher)| {
            if let Some(hasher) = hasher {
                hasher.add(bytes);
            }
            (&stage.file).write_all(bytes)
        });
        let outcome = outcome.and_then(|written| written.map_err(|e| self.target.failed(e)));
        self.count(outcome.map(|()| bytes.len() as u64)).map(drop)
    }

    /// Adds all that `reader` gives to the new content, in constant memory. Returns the number of bytes. For what has a
    /// descriptor (a file, a pipe), [`add_fd`](AtomicFile::add_fd) is faster.
    ///
    /// # Errors
    ///
    /// Writing fails as with [`add`](AtomicFile::add). Reading fails: [`ErrorKind::Io`], with what `reader` returned as the
    /// source; an [`Error`] in it comes back as it is. The target is unchanged, and a commit fails from now on.
    pub fn add_from(&mut self, mut reader: impl Read) -> Result<u64> {
        let mut buffer = vec![0; 128 * 1024];
        let mut bytes = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(n) => {
                    self.add(&buffer[..n])?;
                    bytes += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.broken = Some(Broken(e.raw_os_error()));
                    let failed = |e| self.target.failed(e).during("cannot read the input");
                    return Err(e.downcast::<Error>().unwrap_or_else(failed));
                }
            }
        }
    }

    /// Adds all that is left to read in the file, pipe or socket `source`, in constant memory. Where both are files and
    /// the file system can, the kernel shares or copies the content; otherwise it is read and written. Returns the number
    /// of bytes.
    ///
    /// # Errors
    ///
    /// An error of reading names `source_name`, an error of writing the target. The target is unchanged, and a commit fails
    /// from now on.
    pub fn add_fd(&mut self, source: impl AsFd, source_name: &Path) -> Result<u64> {
        let (before, observer) = (self.input, self.options.observer.clone());
        let told = |bytes, total: Option<u64>| {
            let total = total.map(|t| before + t);
            observer.tell(&Notice::Progress { bytes: before + bytes, total });
        };
        let outcome = self.stage().map(|(stage, hasher)| copy::copy_and_hash(source, &stage.file, hasher, told));
        let outcome = outcome.and_then(|copied| {
            copied.map_err(|failed| match failed {
                Failed::Reading(e) => Error::io(source_name, e),
                Failed::Writing(e) => self.target.failed(e),
            })
        });
        self.count(outcome)
    }

    /// Makes what was written the target's content, and releases the lock.
    ///
    /// # Errors
    ///
    /// The target is as before, except with [`ErrorKind::NotDurable`]: then it has the new content (or, overwritten in
    /// place, a part of it). [`ErrorKind::LockLost`]: another owner has taken the lease that
    /// [`LockOptions::claim`](crate::LockOptions::claim) names, or the lock was lost. [`ErrorKind::Conflict`]: the target is
    /// not what [`WriteOptions::expect`] says (any more).
    pub fn commit(mut self) -> Result<Committed> {
        self.take_back()?;
        if let Some(broken) = &self.broken {
            return Err(broken.error(&self.target));
        }
        if self.input == 0 && !self.options.allow_empty {
            return Err(Error::new(ErrorKind::NoInput, "No input provided").with_remedy(Remedy::AllowEmpty));
        }
        let AtomicFile { stage, phase, target, options, mut hasher, watched, started, .. } = self;
        let (stage, hold) = match phase {
            Phase::Held { lock, lease, expected } => (stage, Hold { lock, lease, target, expected }),
            Phase::Spooling => lock_now(target, stage, &options, &mut hasher)?,
        };
        let stage = match stage {
            Some(stage) => stage,
            None => begin_stage(&hold.target, &hold.lock, &options, hasher.as_mut())?,
        };
        Commit { hold, options, received: hasher.map(Hasher::finish), watched, started }.run(stage)
    }

    /// Lets `change` read the current content (empty where there is none) and write the new one, and commits that. Returns
    /// what `change` returns, and what was done. What `change` writes is buffered.
    ///
    /// # Errors
    ///
    /// An error of `change` aborts the write, and is the source of the error that this returns. If it is one of the system,
    /// or the new content could not be written, the kind is [`ErrorKind::Io`], else [`ErrorKind::Refused`]; an [`Error`] in
    /// it comes back as it is. Otherwise as [`original`](AtomicFile::original) and [`commit`](AtomicFile::commit).
    pub fn update<T>(
        mut self,
        change: impl FnOnce(&mut dyn Read, &mut dyn Write) -> io::Result<T>,
    ) -> Result<(T, Committed)> {
        let mut old: Box<dyn Read> = match self.original()? {
            Some(old) => Box::new(io::BufReader::new(old)),
            None => Box::new(io::empty()),
        };
        let mut new = BufWriter::new(&mut self);
        let outcome = change(&mut old, &mut new).and_then(|value| new.flush().map(|()| value));
        // Dropping the buffer would write it, also after an error.
        let _ = new.into_parts();
        match outcome {
            Ok(value) => self.commit().map(|committed| (value, committed)),
            Err(e) => Err(self.given_up(e)),
        }
    }

    fn given_up(&self, e: io::Error) -> Error {
        let e = match e.downcast::<Error>() {
            Ok(error) => return error,
            Err(e) => e,
        };
        let failed = |e| self.target.failed(e).during("the update was given up");
        match (e.raw_os_error(), &self.broken) {
            (Some(errno), Some(Broken(Some(same)))) if errno == *same => self.target.failed(e),
            (None, None) => failed(e).of_kind(ErrorKind::Refused),
            _ => failed(e),
        }
    }

    /// Makes `content` the target's content, as [`add`](AtomicFile::add) and [`commit`](AtomicFile::commit) do. If it is
    /// that already and [`if_changed`](WriteOptions::if_changed) is set, no other file than the lock file has been made.
    ///
    /// # Errors
    ///
    /// As `add` and `commit`.
    pub fn commit_with(self, content: &[u8]) -> Result<Committed> {
        match self.leave_if_same(content.len() as u64, Content::Memory(content))? {
            Ok(done) => Ok(done),
            Err(mut file) => {
                file.add(content)?;
                file.commit()
            }
        }
    }

    /// The same with what is left to read in the file `source`; of any other source, as
    /// [`add_fd`](AtomicFile::add_fd) and `commit` do.
    ///
    /// # Errors
    ///
    /// As `add_fd` and `commit`.
    pub fn commit_fd(self, source: impl AsFd, source_name: &Path) -> Result<Committed> {
        let size = if self.options.if_changed { FileStatus::of(&source).map_or(0, |status| status.size) } else { 0 };
        let rest = if size > 0 { Content::rest_of(source.as_fd()).ok() } else { None };
        let outcome = match rest {
            None => Err(self),
            Some(rest) => self.leave_if_same(size, rest)?,
        };
        match outcome {
            Ok(done) => Ok(done),
            Err(mut file) => {
                file.add_fd(source, source_name)?;
                file.commit()
            }
        }
    }

    /// Leaves the target alone if that is asked for and the `bytes` to come are what it contains. Otherwise hands all back.
    fn leave_if_same(self, bytes: u64, new: Content<'_>) -> Result<std::result::Result<Committed, AtomicFile>> {
        let begun = self.stage.is_some() || self.input > 0 || self.broken.is_some();
        if begun || bytes == 0 || self.options.append || !self.options.if_changed {
            return Ok(Err(self));
        }
        let AtomicFile { phase, target, options, watched, started, .. } = self;
        let hold = match phase {
            Phase::Held { lock, lease, expected } => Hold { lock, lease, target, expected },
            Phase::Spooling => lock_now(target, None, &options, &mut None)?.1,
        };
        let outcome = Commit { hold, options, received: None, watched, started }.leave_if_same(bytes, new)?;
        Ok(outcome.map_err(
            |Commit { hold: Hold { lock, lease, target, expected }, options, watched, started, .. }| {
                AtomicFile::new(Phase::Held { lock, lease, expected }, target, options, watched, started)
            },
        ))
    }

    fn held(&self, otherwise: &str) -> Result<&FileLock> {
        match &self.phase {
            Phase::Held { lock, .. } => Ok(lock),
            Phase::Spooling => Err(Error::new(ErrorKind::Usage, otherwise).on(&self.target.given)),
        }
    }

    /// The stage, and what makes the digest of that which is added to it.
    fn stage(&mut self) -> Result<(&Stage, Option<&mut Hasher>)> {
        self.differs = false;
        let stage = match (self.stage.take(), &self.phase) {
            (Some(stage), _) => stage,
            (None, Phase::Held { lock, .. }) => begin_stage(&self.target, lock, &self.options, self.hasher.as_mut())?,
            // The mode is decided under the lock.
            (None, Phase::Spooling) => create_stage(&self.target, None, Birth::Private, &self.options)?,
        };
        Ok((self.stage.insert(stage), self.hasher.as_mut()))
    }

    /// Keeps account of the input.
    fn count(&mut self, outcome: Result<u64>) -> Result<u64> {
        match &outcome {
            Ok(n) => self.input += n,
            Err(e) => self.broken = Some(Broken(e.errno())),
        }
        outcome
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = match self.stage() {
            Ok((stage, hasher)) => {
                let outcome = (&stage.file).write(bytes);
                if let (Ok(n), Some(hasher)) = (&outcome, hasher) {
                    hasher.add(&bytes[..*n]);
                }
                outcome
            }
            Err(e) => Err(e.into()),
        };
        match &outcome {
            Ok(n) => self.input += *n as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => self.broken = Some(Broken(e.raw_os_error())),
        }
        outcome
    }

    /// Does nothing: writes are not buffered, and the commit syncs.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends the spooling: takes the lock. By now the spool may be in the wrong directory, or belong behind content that has
/// been written meanwhile; it is copied then.
///
/// Parameters are dropped from the last to the first, so that on error the spool goes before the directories around it.
fn lock_now(
    mut before: Target,
    spool: Option<Stage>,
    options: &WriteOptions,
    hasher: &mut Option<Hasher>,
) -> Result<(Option<Stage>, Hold)> {
    let mut hold = Hold::take(&before.given, options)?;
    before.pass_dirs_to(&mut hold.target);
    let target = &hold.target;
    let stage = match spool {
        Some(spool) if spool.dir.id() != target.dir.id() || options.append => {
            // The digest is that of the whole file, so it begins anew.
            if let Some(spooled) = hasher.as_mut().map(std::mem::take).filter(|_| options.verify) {
                verify(&spool.file, spooled.finish(), target)?;
            }
            (&spool.file).rewind().map_err(|e| target.failed(e))?;
            let stage = begin_stage(target, &hold.lock, options, hasher.as_mut())?;
            copy_all(&spool.file, &stage, target, hasher.as_mut())?;
            Some(stage)
        }
        spool => spool,
    };
    Ok((stage, hold))
}

/// The stage for a locked target. With `append` it begins with the old content.
fn begin_stage(target: &Target, lock: &FileLock, options: &WriteOptions, hasher: Option<&mut Hasher>) -> Result<Stage> {
    // An existing file may be closed to somebody whom a new file's mode lets in. A link is nothing of the new file's.
    let is_new = target.status.is_none() || target.is_link();
    let birth = if options.mode.is_none() && is_new { Birth::Plain(options.new_mode & 0o777) } else { Birth::Private };
    let stage = create_stage(target, Some(lock), birth, options)?;
    if options.append {
        if let Some(old) = open_original(target)? {
            copy_all(old.content().map_err(|e| unreadable(target, e))?, &stage, target, hasher)?;
        }
    }
    Ok(stage)
}

fn copy_all(from: &File, stage: &Stage, target: &Target, hasher: Option<&mut Hasher>) -> Result<()> {
    let copied = copy::copy_and_hash(from, &stage.file, hasher, |_, _| {});
    copied.map(drop).map_err(|failed| target.failed(failed.into_inner()))
}

/// An empty stage beside the target.
fn create_stage(target: &Target, lock: Option<&FileLock>, birth: Birth, options: &WriteOptions) -> Result<Stage> {
    let nonce = lock.and_then(|lock| lock.held.nonce()).map(str::to_owned);
    let stage = match Stage::create_under(target.dir.clone(), &target.name, nonce, birth) {
        // A file that may be written, in a directory that may not, or mounted into one. It is overwritten in place, so its
        // stage may be anywhere.
        Err(e) if is_refusal(&e) && options.may_overwrite() && target.status.is_some() => {
            Dir::open(&std::env::temp_dir())
                .and_then(|scratch| Stage::create(Arc::new(scratch), &target.name, Birth::Private))
        }
        outcome => outcome,
    };
    let stage = stage.map_err(|e| {
        let only_in_place = is_refusal(&e) && !options.may_overwrite() && is_writable(target);
        let error = target.failed(e);
        if only_in_place { error.with_remedy(Remedy::InPlace) } else { error }
    })?;
    let text = if stage.is_named() { "staging in a named temporary file" } else { "staging in an unnamed file" };
    options.observer.tell(&Notice::Debug { path: &target.given, text });
    Ok(stage)
}

/// Whether the directory may not be written.
fn is_refusal(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
}

/// Replaces `path` by `content`.
///
/// ```
/// # fn main() -> awrite::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("config");
/// use awrite::WriteOptions;
///
/// awrite::write(&path, "one\n", &WriteOptions::new())?;
/// awrite::write(&path, b"two\n", &WriteOptions::new().append(true))?;
/// # assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`AtomicFile::open`] and [`AtomicFile::commit`].
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>, options: &WriteOptions) -> Result<Committed> {
    AtomicFile::open(path, options)?.commit_with(content.as_ref())
}

/// Replaces `path` by all that `reader` gives, in constant memory. Of a file, [`AtomicFile::commit_fd`] is faster.
///
/// # Errors
///
/// As [`AtomicFile::open`], [`AtomicFile::add_from`] and [`AtomicFile::commit`].
pub fn write_from(path: impl AsRef<Path>, reader: impl Read, options: &WriteOptions) -> Result<Committed> {
    let mut file = AtomicFile::open(path, options)?;
    file.add_from(reader)?;
    file.commit()
}

/// Reads and replaces `path` under its lock, so that no other update is lost: `change` reads the current content (empty
/// where there is none) and writes the new one. Returns what `change` returns; [`AtomicFile::update`] also says what was
/// done.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("counter");
/// let count = awrite::update(&path, &awrite::WriteOptions::new(), |old, new| {
///     let mut text = String::new();
///     old.read_to_string(&mut text)?;
///     let count = text.trim().parse().unwrap_or(0) + 1;
///     writeln!(new, "{count}")?;
///     Ok(count)
/// })?;
/// # assert_eq!(count, 1);
/// # assert_eq!(std::fs::read_to_string(&path)?, "1\n");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`AtomicFile::open`] and [`AtomicFile::update`].
pub fn update<T>(
    path: impl AsRef<Path>,
    options: &WriteOptions,
    change: impl FnOnce(&mut dyn Read, &mut dyn Write) -> io::Result<T>,
) -> Result<T> {
    AtomicFile::open(path, options)?.update(change).map(|(value, _)| value)
}
