//! Where the lock file of a target is: beside it, in a directory of lock files, or where the caller says.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::writers::Writers;
use crate::error::{Error, ErrorKind, Result};
use crate::names::{flat_name, is_lock_name, lease_name, lock_name};
use crate::options::LockOptions;
use crate::remedy::Remedy;
use crate::sys::{Dir, FileKind};
use crate::target::Target;

/// The directory and name of a lock file.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: OsString,
    /// For messages.
    pub(crate) path: PathBuf,
    /// The record of the target's lease. In the directory of lock files, if there is one: no other may be writable. Beside
    /// the target, if the caller named the lock file: several targets may share a lock, but not a lease.
    pub(crate) lease: LeaseFile,
    /// The caller named the lock file; otherwise its name comes from the target's.
    chosen: bool,
    /// It is beside the target because the caller chose no other place.
    beside: bool,
}

/// The record of a lease: its name in its directory.
#[derive(Debug)]
pub(crate) struct LeaseFile {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: OsString,
    /// Of the target, whose records count.
    pub(crate) writers: Writers,
}

impl LeaseFile {
    /// For messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }
}

impl Place {
    pub(crate) fn of(target: &Target, options: &LockOptions) -> Result<Place> {
        if let Some(path) = &options.file {
            return Place::at(path, target);
        }
        if let Some(dir) = &options.dir {
            let opened = Dir::open(dir).map_err(|e| {
                let missing = e.raw_os_error() == Some(libc::ENOENT);
                let error = Error::io(dir, e);
                if missing { error.with_hint("the directory for lock files does not exist; create it") } else { error }
            })?;
            // Different paths to the target's directory must give the same lock.
            let flat = flat_name(&target.whole_path().map_err(|e| Error::io(&target.given, e))?);
            let (name, dir) = (lock_name(&flat, &opened), Arc::new(opened));
            let lease =
                LeaseFile { name: lease_name(&flat, &dir), writers: Writers::of(target, &dir), dir: dir.clone() };
            return Ok(Place { path: dir.join(&name), dir, name, lease, chosen: false, beside: false });
        }
        let name = lock_name(&target.name, &target.dir);
        Ok(Place {
            path: target.beside(&name),
            dir: target.dir.clone(),
            name,
            lease: lease_beside(target),
            chosen: false,
            beside: true,
        })
    }

    /// Whether a lock file here that this process did not create may be removed: not one that the caller named after
    /// something else.
    pub(super) fn is_removable(&self) -> bool {
        !self.chosen || is_lock_name(&self.name)
    }

    /// Whether awrite has chosen its name, so that no other program uses it.
    pub(super) fn is_awrites(&self) -> bool {
        !self.chosen
    }

    /// Refuses the target as its own lock file, under this or another name: after the target has been replaced, others
    /// would lock another file.
    pub(crate) fn ensure_not_target(&self, target: &Target) -> Result<()> {
        let same_name = self.dir.id() == target.dir.id() && self.name == target.name;
        let same_file = || {
            let is_it = |dir: &Dir, name: &std::ffi::OsStr| {
                let found = dir.status(name).ok().flatten();
                found.is_some_and(|found| target.status.is_some_and(|target| target.id == found.id))
            };
            // The target may have been replaced since, and a new lock file have its inode number.
            is_it(&self.dir, &self.name) && is_it(&target.dir, &target.name)
        };
        // Another name of the target is not worth a system call unless the caller named the lock file.
        if same_name || (self.chosen && same_file()) {
            let reason = "the lock file must be another file than the one it protects";
            return Err(Error::new(ErrorKind::Usage, reason).on(&self.path));
        }
        Ok(())
    }

    /// A lock file that the caller names.
    fn at(path: &Path, target: &Target) -> Result<Place> {
        if path.as_os_str().is_empty() {
            return Err(Error::new(ErrorKind::Usage, "the name of the lock file is empty"));
        }
        let (Some(name), false) = (path.file_name(), path.as_os_str().as_bytes().ends_with(b"/")) else {
            return Err(not_regular(path, FileKind::Directory));
        };
        let dir = Dir::open(path.parent().unwrap_or(Path::new(""))).map_err(|e| Error::io(path, e))?;
        Ok(Place {
            dir: Arc::new(dir),
            name: name.to_owned(),
            path: path.to_owned(),
            lease: lease_beside(target),
            chosen: true,
            beside: false,
        })
    }

    /// The message for a lock file that could not be made or opened.
    pub(crate) fn explain(&self, target: &Path, e: io::Error) -> Error {
        let e = match e.downcast::<Error>() {
            Ok(error) => return error,
            Err(e) => e,
        };
        // What is true of the directory of a lock file elsewhere need not be true of the target's.
        let about = if self.beside { target } else { &self.path };
        match e.raw_os_error() {
            Some(libc::EROFS) => Error::io(about, e)
                .because("Cannot create lock file (read-only file system)")
                .with_remedy(Remedy::LockElsewhere),
            Some(libc::EACCES | libc::EPERM) => {
                // A lock file that is there is another user's, and is to be locked.
                let is_there = || self.dir.status(&self.name).is_ok_and(|status| status.is_some());
                let elsewhere = self.beside && !is_there();
                Error::io(&self.path, e).with_remedy(if elsewhere {
                    Remedy::LockElsewhere
                } else {
                    Remedy::Permissions
                })
            }
            // The directory is open. /proc takes no files.
            Some(libc::ENOENT) => {
                let error = Error::io(about, e)
                    .because("No such file or directory (its directory was removed, or takes no new files)");
                if self.beside {
                    error.with_hint("a file that cannot be replaced is written with a redirection: > PATH")
                } else {
                    error
                }
            }
            // It has become one since it was looked at.
            Some(libc::ELOOP) => not_regular(&self.path, FileKind::Symlink),
            Some(libc::EISDIR) => not_regular(&self.path, FileKind::Directory),
            Some(libc::ENOSPC | libc::EDQUOT) => Error::io(about, e).unchanged(),
            _ => Error::io(&self.path, e),
        }
    }
}

fn lease_beside(target: &Target) -> LeaseFile {
    let (dir, name) = (target.dir.clone(), lease_name(&target.name, &target.dir));
    LeaseFile { writers: Writers::of(target, &dir), dir, name }
}

/// The error for a lock file that is neither empty nor a record.
pub(super) fn not_ours(path: &Path) -> Error {
    Error::new(ErrorKind::NotAFile, "Lock file is not empty, so it is not a lock file of awrite")
        .on(path)
        .with_remedy(Remedy::Inspect(path.to_owned()))
}

/// The error for a lock file that is not a regular file.
pub(super) fn not_regular(path: &Path, kind: FileKind) -> Error {
    let error = match kind {
        FileKind::Directory => Error::from_raw(ErrorKind::NotAFile, libc::EISDIR),
        FileKind::Symlink => Error::from_raw(ErrorKind::NotAFile, libc::ELOOP).with_remedy(Remedy::LockFile),
        _ => Error::new(ErrorKind::NotAFile, ""),
    };
    error.because(format!("Lock file is a {}", kind.name())).on(path)
}
