//! A private directory for the copies of files that a command edits.
//!
//! Nobody else can look into it (mode 0700), so the copies of secret files need no further protection. It is listed for
//! clean-up while it exists, and goes with all that the command has left in it. A killed process cannot remove its
//! directory. So it has the same name for the same target every time, and is held under flock(2): the next edit of that
//! target finds a dead one's, and removes it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf, absolute};

use crate::cleanup::{self, Ticket, Undo};
use crate::copy;
use crate::error::{Error, ErrorKind, Result};
use crate::names::fnv1a;
use crate::sys;

/// A directory that only this user can enter. Dropping it removes it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _ticket: Ticket,
    /// Locked for as long as the directory is in use. `None`: its name is nobody else's.
    _mark: Option<File>,
}

const PREFIX: &str = ".awrite-edit-";

/// Not tempfile's `TempDir`, which a forked child would remove too.
struct Directory(PathBuf);

impl Undo for Directory {
    fn undo(&self) -> io::Result<()> {
        // Once more if it fails: what the command has left running may have made another file meanwhile.
        fs::remove_dir_all(&self.0).or_else(|_| fs::remove_dir_all(&self.0))
    }

    fn is_temporary_file(&self) -> bool {
        true
    }
}

impl Scratch {
    /// Makes one for `target` in the directory for temporary files (`TMPDIR`), or in `/tmp`, or else beside the target.
    ///
    /// # Errors
    ///
    /// It can be made in none of them. The error is about the first.
    pub fn new(target: &Path) -> Result<Scratch> {
        let first = std::env::temp_dir();
        let beside = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Scratch::new_in(&first, target).or_else(|error| {
            let others = [Path::new("/tmp"), beside];
            let made = others.iter().find_map(|parent| Scratch::new_in(parent, target).ok());
            made.ok_or_else(|| Error::io(&first, error).during("cannot make a private directory"))
        })
    }

    fn new_in(parent: &Path, target: &Path) -> io::Result<Scratch> {
        // A command may run in another directory.
        let parent = absolute(parent)?;
        let hash = fnv1a(absolute(target)?.as_os_str().as_bytes());
        let usual = parent.join(format!("{PREFIX}{:016x}", hash ^ u64::from(rustix::process::geteuid().as_raw())));
        let ((path, mark), ticket) = cleanup::make(|| {
            let (path, mark) = match make_marked(&usual) {
                Ok(mark) => (usual, Some(mark)),
                // In use, or a stranger's, or there are no locks of directories here.
                Err(_) => {
                    let mode = Permissions::from_mode(0o700);
                    (tempfile::Builder::new().prefix(PREFIX).permissions(mode).tempdir_in(&parent)?.keep(), None)
                }
            };
            Ok::<_, io::Error>(((path.clone(), mark), Directory(path)))
        })?;
        Ok(Scratch { path, _ticket: ticket, _mark: mark })
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
        self.make_dir_of(name)?;
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        copy::copy(content, &file, |_, _| {}).map_err(copy::Failed::into_inner)?;
        // After the copy, so that the umask has no say.
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// Makes the directory that `name` begins with, so that a command can make the file.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn make_dir_of(&self, name: &Path) -> io::Result<()> {
        let path = self.path.join(name);
        path.parent().map_or(Ok(()), |parent| DirBuilder::new().recursive(true).mode(0o700).create(parent))
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

/// Makes the directory and locks it, after it has removed what a dead process of this user has left there.
fn make_marked(path: &Path) -> io::Result<File> {
    let marked = || {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let is_own = directory.metadata()?.uid() == rustix::process::geteuid().as_raw();
        if is_own && sys::try_flock(&directory, false)? {
            Ok(directory)
        } else {
            Err(io::ErrorKind::ResourceBusy.into())
        }
    };
    let make = || DirBuilder::new().mode(0o700).create(path);
    match make() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let _dead = marked()?;
            fs::remove_dir_all(path)?;
            make()?;
        }
        made => made?,
    }
    marked().inspect_err(|_| {
        // Empty, and nobody's: what cannot be removed is what a crash would leave.
        let _ = fs::remove_dir(path);
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_its_own_files_are_opened_and_all_goes() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new_in(parent.path(), Path::new("f")).unwrap();
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

    /// What a killed process has left is removed by the next one; a living one's stays.
    #[test]
    fn the_next_one_takes_over() {
        let parent = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let make = || Scratch::new_in(parent.path(), Path::new("f")).unwrap();
        let living = make();
        living.put(Path::new("f"), File::open("Cargo.toml").unwrap(), 0o600).unwrap();
        let beside = make();
        assert!(living.path() != beside.path() && names().len() == 2 && living.path().join("f").exists());
        drop(beside);
        assert_eq!(names(), [living.path()]);
        let path = living.path().to_owned();
        drop(living);
        fs::create_dir_all(path.join("d")).unwrap();
        fs::write(path.join("d/f"), "left").unwrap();
        let next = make();
        assert!(next.path() == path && fs::read_dir(&path).unwrap().count() == 0);
        drop(next);
        // Neither a link nor a file is taken for one.
        symlink(parent.path().join("elsewhere"), &path).unwrap();
        fs::create_dir(parent.path().join("elsewhere")).unwrap();
        let other = make();
        assert!(other.path() != path && path.is_symlink() && parent.path().join("elsewhere").exists());
    }
}
