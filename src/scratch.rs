//! A private directory for the copies of files that a command edits.
//!
//! Nobody else can look into it (mode 0700), so the copies of secret files need no further protection. It is listed for
//! clean-up while it exists, and goes with all that the command has left in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf, absolute};

use crate::cleanup::{self, Ticket, Undo};
use crate::copy;
use crate::error::{Error, ErrorKind, Result};

/// A directory that only this user can enter. Dropping it removes it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _ticket: Ticket,
}

/// Not tempfile's `TempDir`, which a forked child would remove too.
struct Directory(PathBuf);

impl Undo for Directory {
    fn undo(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.0)
    }

    fn is_temporary_file(&self) -> bool {
        true
    }
}

impl Scratch {
    /// Makes one in the directory for temporary files (`TMPDIR`), or in `/tmp`, or else in `beside`.
    ///
    /// # Errors
    ///
    /// It can be made in none of them. The error is about the first.
    pub fn new(beside: &Path) -> Result<Scratch> {
        let first = std::env::temp_dir();
        Scratch::new_in(&first).or_else(|error| {
            let others = [Path::new("/tmp"), beside];
            let made = others.iter().find_map(|parent| Scratch::new_in(parent).ok());
            made.ok_or_else(|| Error::io(&first, error).during("cannot make a private directory"))
        })
    }

    fn new_in(parent: &Path) -> io::Result<Scratch> {
        // A command may run in another directory.
        let parent = absolute(parent)?;
        let (path, ticket) = cleanup::make(|| {
            let mut named = tempfile::Builder::new();
            let made = named.prefix(".awrite-edit-").permissions(Permissions::from_mode(0o700)).tempdir_in(&parent)?;
            let path = made.keep();
            Ok::<_, io::Error>((path.clone(), Directory(path)))
        })?;
        Ok(Scratch { path, _ticket: ticket })
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file `name` with this mode and all that is left to read in `content`. Holes stay holes, and where the file
    /// system can, the two share their content. A directory that `name` begins with is made too.
    ///
    /// # Errors
    ///
    /// It cannot be made, or not be written, or `content` cannot be read.
    pub fn put(&self, name: &Path, content: impl AsFd, mode: u32) -> io::Result<()> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        copy::copy(content, &file, |_, _| {}).map_err(copy::Failed::into_inner)?;
        // After the copy, so that the umask has no say.
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Opens the file that is called `name` now, to read it. `None`: there is none.
    ///
    /// # Errors
    ///
    /// What is called so is no regular file. A symbolic link is not followed. Or the file cannot be opened.
    pub fn open(&self, name: &Path) -> Result<Option<File>> {
        let path = self.path.join(name);
        // O_NONBLOCK: opening a FIFO must not wait.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let not_a_file = || Error::new(ErrorKind::NotAFile, "is no regular file any more");
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            // open(2): ELOOP for a link, ENXIO for a socket.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::EMLINK | libc::ENXIO)) => {
                return Err(not_a_file());
            }
            Err(e) => return Err(Error::io(path, e)),
        };
        let is_file = file.metadata().map_err(|e| Error::io(path, e))?.is_file();
        if is_file { Ok(Some(file)) } else { Err(not_a_file()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_its_own_files_are_opened_and_all_goes() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new_in(parent.path()).unwrap();
        assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        let content = File::open("Cargo.toml").unwrap();
        scratch.put(Path::new("1/f"), &content, 0o640).unwrap();
        let mut copy = scratch.open(Path::new("1/f")).unwrap().unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, fs::read_to_string("Cargo.toml").unwrap());
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
        assert!(scratch.open(Path::new("f")).unwrap().is_none());
        symlink("1/f", scratch.path().join("link")).unwrap();
        for other in ["link", "1", "."] {
            assert_eq!(scratch.open(Path::new(other)).unwrap_err().kind(), ErrorKind::NotAFile, "{other}");
        }
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
