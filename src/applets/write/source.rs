//! The input of `awrite`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use awrite::Error;
use rustix::fs::FileType;

use crate::process;

/// The file or the standard input that the content comes from.
pub(super) struct Source {
    /// `None`: standard input.
    file: Option<File>,
    /// Its name in messages.
    pub(super) name: PathBuf,
    pub(super) is_regular: bool,
    is_device: bool,
    size: u64,
}

/// A file of this size is copied before anybody could press ^C.
pub(super) const SMALL: u64 = 1 << 20;

impl Source {
    pub(super) fn open(path: &Path) -> Result<Source, Error> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        Source::new(Some(file), path.to_owned())
    }

    pub(super) fn stdin() -> Result<Source, Error> {
        Source::new(None, "standard input".into())
    }

    fn new(file: Option<File>, name: PathBuf) -> Result<Source, Error> {
        let mut source = Source { file, name, is_regular: false, is_device: false, size: 0 };
        let status = rustix::fs::fstat(source.fd()).map_err(|e| Error::io(&source.name, e))?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {
                source.is_regular = true;
                source.size = u64::try_from(status.st_size).unwrap_or(u64::MAX);
            }
            FileType::CharacterDevice => source.is_device = true,
            // Opening a directory is no error, only reading it is, which would be too late.
            FileType::Directory => {
                return Err(Error::io(&source.name, io::Error::from_raw_os_error(libc::EISDIR)));
            }
            _ => {}
        }
        Ok(source)
    }

    /// Whether somebody types it.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_device && rustix::termios::isatty(self.fd())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.file {
            Some(file) => file.as_fd(),
            None => rustix::stdio::stdin(),
        }
    }

    /// Whether reading it takes so little time that no signal need be expected.
    pub(super) fn is_ready(&self) -> bool {
        if self.is_regular { self.size <= SMALL } else { process::is_complete(self.fd()) }
    }

    pub(super) fn into_stdio(self) -> Stdio {
        self.file.map_or_else(Stdio::inherit, Stdio::from)
    }
}

/// Whether two paths lead to the same file now.
pub(super) fn same_file(input: &Path, output: &Path, follow: bool) -> bool {
    let output = if follow { fs::metadata(output) } else { fs::symlink_metadata(output) };
    match (fs::metadata(input), output) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_by_two_names() {
        assert!(same_file(Path::new("src/main.rs"), Path::new("./src/main.rs"), false));
        assert!(!same_file(Path::new("src/main.rs"), Path::new("src/lib.rs"), false));
        assert!(!same_file(Path::new("src/none"), Path::new("src/none"), false));
        assert!(!same_file(Path::new(""), Path::new(""), false));
    }
}
