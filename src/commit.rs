//! Replacing the target. Nothing else in this crate does.

use std::fs::{File, FileTimes, Metadata};
use std::io::{self, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::cleanup;
use crate::copy::{self, Failed};
use crate::error::{Error, ErrorKind, Result};
use crate::notice::{Notice, Observer};
use crate::remedy::Remedy;
use crate::stage::{Rename, Stage};
use crate::sys::{Dir, set_mode};
use crate::target::Target;

/// Renames the stage over the target: the commit point. Returns the file, which is the target now.
pub(crate) fn replace(stage: Stage, target: &Target) -> std::result::Result<File, (io::Error, Stage)> {
    stage.rename(&target.dir, &target.name, Rename::Commit)
}

/// Makes the names in `dir` durable, where the file system can.
pub(crate) fn sync_dir(dir: &Dir, target: &Path, observer: &Observer) -> io::Result<()> {
    if !dir.sync()? {
        let text = "this file system cannot sync a directory: the new content may be lost when the power fails";
        observer.tell(&Notice::Warning { path: target, text });
    }
    Ok(())
}

/// Overwrites the target in place, which is not atomic. A signal waits until it is done. The target keeps its owner, and
/// its mode unless `mode` gives another.
pub(crate) fn overwrite(stage: &Stage, target: &Target, mode: Option<u32>, sync: bool) -> Result<File> {
    let fail = |e: io::Error| target.failed(e);
    let file = target.dir.open_file(&target.name, OFlags::WRONLY, 0).map_err(fail)?;
    let length = stage.file.metadata().map_err(fail)?.len();
    (&stage.file).rewind().map_err(fail)?;
    let before = file.metadata().map_err(fail)?;
    let write = || {
        copy::copy(&stage.file, &file, |_, _| {}).map_err(Failed::into_inner)?;
        file.set_len(length)?;
        if let Some(mode) = mode {
            set_mode(&file, mode)?;
        }
        if sync { file.sync_all() } else { Ok(()) }
    };
    cleanup::commit(|| {
        if let Some(mode) = mode {
            // Takes permissions away before the new content is there; the others are added after it. Called even where
            // there is nothing to take away: a user who may not change the mode learns it before anything is overwritten.
            let narrowed = before.permissions().mode() & mode;
            set_mode(&file, narrowed).map_err(|e| fail(e).during("cannot set its permissions"))?;
        }
        if let Err(e) = reserve(&file, length) {
            // The first error is reported; a second one adds nothing.
            let _ = unreserve(&file, &before);
            return Err(fail(e));
        }
        write().map_err(|e| {
            fail(e).of_kind(ErrorKind::NotDurable).during("overwritten only in part").with_remedy(Remedy::RunAgain)
        })
    })?;
    Ok(file)
}

/// Finds out that the disk is full before anything has been overwritten.
fn reserve(file: &File, length: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        if length > 0 {
            match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, length); // no such call
    Ok(())
}

/// Undoes a reservation that failed. A file system (ext4 for one) may keep the blocks that it found, and changes mtime. The
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

/// The error for a target that something is mounted on.
pub(crate) fn mounted_on(target: &Path) -> Error {
    Error::from_raw(ErrorKind::MountPoint, libc::EBUSY)
        .because("Something is mounted on this file, so it cannot be replaced")
        .on(target)
        .with_remedy(Remedy::InPlace)
}
