//! The way of a lock file out of the directory, from which it can come back.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::attempt::gone_or_failed;
use super::refusal::Result;
use crate::lock::fresh_nonce;
use crate::names::{NAME_MAX, TempNames};
use crate::sys::{Dir, lease};

/// What the lock file's name becomes ends in.
const REMOVED: &str = "removed";

/// A name of a temporary file that lock files are renamed to, one after the other. Each replaces the one before: that is
/// its end, and costs no call of its own. [`finish`](Aside::finish) removes the last one.
///
/// A name that has been unlinked cannot be given back to its inode. So a file is only renamed, until it is known that
/// nobody has come to open it meanwhile: he would lock a file that nobody else can find.
#[derive(Debug)]
pub(crate) struct Aside {
    name: OsString,
    /// Where the last one is.
    dir: Option<Arc<Dir>>,
}

impl Aside {
    pub(crate) fn new() -> Aside {
        let nonce = fresh_nonce();
        Aside { name: TempNames::new(OsStr::new(REMOVED), Some(&nonce)).numbered(0, NAME_MAX), dir: None }
    }

    /// Removes the lock file `name`, on which `file` has a write lease. False: somebody has come to open it, and it has its
    /// name again.
    pub(super) fn remove(&mut self, dir: &Arc<Dir>, name: &OsStr, file: &File) -> Result<bool> {
        if !self.dir.as_ref().is_some_and(|last| Arc::ptr_eq(last, dir)) {
            self.finish().map_err(|(_, e)| e)?;
        }
        dir.rename(name, dir, &self.name).map_err(gone_or_failed)?;
        if lease::is_undisturbed(file) {
            self.dir = Some(dir.clone());
            return Ok(true);
        }
        self.dir = None;
        match dir.rename_new(&self.name, dir, name) {
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // FUSE has no such renaming. Of the two, losing a file that has come meanwhile is worse.
            Err(_) => match dir.link(&self.name, dir, name) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
                _ => {}
            },
        }
        // The name is another file's already, or this one's again.
        dir.unlink(&self.name)?;
        Ok(false)
    }

    /// Removes what was renamed last. The error comes with the path.
    pub(crate) fn finish(&mut self) -> std::result::Result<(), (PathBuf, io::Error)> {
        let Some(dir) = self.dir.take() else { return Ok(()) };
        match dir.unlink(&self.name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err((dir.join(&self.name), e)),
            _ => Ok(()),
        }
    }
}
