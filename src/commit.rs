//! Replacing the target. Nothing else in this crate does.

use std::fs::{File, FileTimes, Metadata};
use std::io::{self, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use crate::cleanup::{self, Ticket, Undo};
use crate::copy::{self, Failed};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::{Notice, Observer};
use crate::remedy::Remedy;
use crate::stage::{Rename, Stage};
use crate::sys::{self, Dir, set_mode};
use crate::target::Target;

/// Renames the stage over the target: the commit point. Returns the file, which is the target now. With `create` there must
/// be none.
pub(crate) fn replace(stage: Stage, target: &Target, create: bool) -> std::result::Result<File, (io::Error, Stage)> {
    let how = if create { Rename::Create } else { Rename::Commit };
    stage.rename(&target.dir, &target.name, how)
}

/// Makes the names in `dir` durable, where the file system can.
pub(crate) fn sync_dir(dir: &Dir, target: &Path, observer: &Observer) -> io::Result<()> {
    if !dir.sync()? {
        let text = "this file system cannot sync a directory: the new content may be lost when the power fails";
        observer.tell(&Notice::Warning { path: target, text });
    }
    Ok(())
}

/// The target, open to be given new content without a new inode. Dropping it leaves the target as it was.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    target: &'a Target,
    stage: &'a Stage,
    file: File,
    before: Metadata,
    mode: Option<u32>,
    /// Its content can be exchanged with the stage's: atomic.
    exchange: bool,
    /// The content has begun to change.
    begun: Arc<AtomicBool>,
    /// Gives back the room for the new content.
    _reserved: Option<Ticket>,
}

/// Room in the target. Once it has begun to be overwritten there is no way back.
struct Reserved {
    file: File,
    before: Metadata,
    /// There is any.
    room: bool,
    begun: Arc<AtomicBool>,
}

impl Undo for Reserved {
    fn undo(&self) -> io::Result<()> {
        match self.room && !self.begun.load(Ordering::Relaxed) {
            true => unreserve(&self.file, &self.before),
            false => Ok(()),
        }
    }
}

impl<'a> Opened<'a> {
    /// Opens the target and tries what can be known to fail, before anything is overwritten. The target keeps its owner,
    /// and its mode unless `mode` gives another. `exchange`: rather exchange the contents, where the file system can.
    pub(crate) fn new(stage: &'a Stage, target: &'a Target, mode: Option<u32>, exchange: bool) -> Result<Opened<'a>> {
        let fail = |e: io::Error| target.failed(e);
        let open = |flags| target.dir.open_file(&target.name, flags, 0);
        let file = match exchange {
            // This user may be allowed to write it and not to read it.
            true => open(OFlags::RDWR).or_else(|_| open(OFlags::WRONLY)),
            false => open(OFlags::WRONLY),
        };
        let file = file.map_err(fail)?;
        let before = file.metadata().map_err(fail)?;
        if mode.is_some() {
            // A user who may not change the mode learns it now.
            file.set_permissions(before.permissions()).map_err(|e| fail(e).during("cannot set its permissions"))?;
        }
        let exchange = exchange && sys::exchange::is_possible(&file, &stage.file);
        let begun = Arc::default();
        let reserved = if exchange { None } else { Some(room_for(stage, &file, &before, &begun).map_err(fail)?) };
        Ok(Opened { target, stage, file, before, mode, exchange, begun, _reserved: reserved })
    }

    /// Whether no reader can see a part of the new content.
    pub(crate) fn is_atomic(&self) -> bool {
        self.exchange
    }

    /// Gives it the content of the stage. A signal waits until it is done.
    pub(crate) fn write(self, sync: bool) -> Result<File> {
        cleanup::commit(|| self.write_now(sync)).map_err(|e| {
            let error = Error::io(&self.target.given, e);
            match self.begun.load(Ordering::Relaxed) {
                false => error.unchanged().during("cannot write into it"),
                true if self.exchange => {
                    error.of_kind(ErrorKind::NotDurable).during("replaced, but cannot set its permissions")
                }
                true => error
                    .of_kind(ErrorKind::NotDurable)
                    .during("overwritten only in part")
                    .with_remedy(Remedy::RunAgain),
            }
        })?;
        Ok(self.file)
    }

    fn write_now(&self, sync: bool) -> io::Result<()> {
        let (file, stage) = (&self.file, &self.stage.file);
        if let Some(mode) = self.mode {
            // Takes permissions away before the new content is there; the others are added after it.
            set_mode(file, self.before.permissions().mode() & mode)?;
        }
        if self.exchange {
            sys::exchange::exchange(file, stage)?;
            self.begun.store(true, Ordering::Relaxed);
        } else {
            let mut stage = stage;
            stage.rewind()?;
            self.begun.store(true, Ordering::Relaxed);
            copy::copy(stage, file, |_, _| {}).map_err(Failed::into_inner)?;
            file.set_len(stage.metadata()?.len())?;
        }
        if let Some(mode) = self.mode {
            set_mode(file, mode)?;
        }
        if self.exchange {
            return Ok(());
        }
        if sync {
            file.sync_all()?;
        }
        sys::flush(file)
    }
}

/// Finds out that the disk is full before anything has been overwritten, and keeps the room.
fn room_for(stage: &Stage, file: &File, before: &Metadata, begun: &Arc<AtomicBool>) -> io::Result<Ticket> {
    let length = stage.file.metadata()?.len();
    let copy = file.try_clone()?;
    let reserved = cleanup::make(|| {
        let room = reserve(file, length).inspect_err(|_| {
            // The first error is reported; a second one adds nothing.
            let _ = unreserve(file, before);
        })?;
        Ok(((), Reserved { file: copy, before: before.clone(), room, begun: begun.clone() }))
    });
    reserved.map(|((), ticket)| ticket)
}

/// False: the file system cannot.
fn reserve(file: &File, length: u64) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        if length > 0 {
            return match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length) {
                Ok(()) => Ok(true),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(false),
                Err(e) => Err(e.into()),
            };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, length); // no such call
    Ok(false)
}

/// Undoes a reservation. A file system (ext4 for one) may keep the blocks that it found, and changes mtime. The
/// mode may have been narrowed, or have lost set-id bits.
fn unreserve(file: &File, before: &Metadata) -> io::Result<()> {
    // The length it has already: this frees the blocks behind it.
    file.set_len(before.len())?;
    file.set_times(FileTimes::new().set_accessed(before.accessed()?).set_modified(before.modified()?))?;
    file.set_permissions(before.permissions())
}

/// Whether a rename failed because something is mounted on the target.
pub(crate) fn is_busy(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::EBUSY)
}

/// Whether a rename failed because the name may not be replaced, as that of another's file in a sticky directory.
pub(crate) fn is_refused(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// The error for a target that something is mounted on.
pub(crate) fn mounted_on(target: &Path) -> Error {
    Error::from_raw(ErrorKind::MountPoint, libc::EBUSY)
        .because("Something is mounted on this file, so it cannot be replaced")
        .on(target)
        .with_remedy(Remedy::InPlace)
}
