//! What a target must contain for it to be replaced, and how anybody finds out what it contains.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::copy;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::lease::open_past_leases;
use crate::sys::{FileKind, FileStatus};

/// What a target must contain for it to be replaced: [`WriteOptions::expect`](crate::WriteOptions::expect).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expect {
    /// What this digest is of; with [`Digest::Absent`] it must not exist.
    Digest(Digest),
    /// The same as this file, which is read once, before the target's lock is taken.
    SameAs(PathBuf),
}

impl Expect {
    /// The digest that the target must have. Reads the other file.
    pub(crate) fn digest(&self) -> Result<Digest> {
        match self {
            Expect::Digest(digest) => Ok(*digest),
            Expect::SameAs(path) => std::fs::File::open(path).and_then(digest_of).map_err(|e| Error::io(path, e)),
        }
    }
}

impl From<Digest> for Expect {
    fn from(digest: Digest) -> Expect {
        Expect::Digest(digest)
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Reads `sha256:` and 64 hexadecimal digits, the digits alone, or `absent`. Anything else is [`ErrorKind::Usage`].
    fn from_str(text: &str) -> Result<Digest> {
        let wrong = || Error::new(ErrorKind::Usage, "a digest is sha256: and 64 hexadecimal digits, or absent");
        Digest::read(text).ok_or_else(wrong)
    }
}

/// The most attempts to read a file that another machine replaces again and again.
const ATTEMPTS: u32 = 10;

/// What `path` contains now. A symbolic link is followed. No lock is taken and nothing is written: every file that this
/// crate replaces is whole at every instant.
///
/// ```
/// # fn main() -> awrite::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("config");
/// # awrite::write(&path, "old", &Default::default())?;
/// let before = awrite::digest(&path)?;
/// let old = std::fs::read_to_string(&path).unwrap();
/// // … minutes later:
/// let options = awrite::WriteOptions::new().expect(before);
/// awrite::write(&path, format!("{old}, improved"), &options)?;
/// // Whoever has read it before that, too, is told so.
/// let error = awrite::write(&path, "mine", &options).unwrap_err();
/// assert_eq!(error.kind(), awrite::ErrorKind::Conflict);
/// assert_eq!(error.found(), Some(awrite::digest(&path)?));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// It cannot be read; or it is a directory, a FIFO, a socket or a device, which are not opened; or the path is empty.
pub fn digest(path: impl AsRef<Path>) -> Result<Digest> {
    let path = path.as_ref();
    if path.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the name of the file is empty"));
    }
    let mut attempts = 0;
    loop {
        match digest_at(path) {
            // An NFS client whose file has been replaced and removed elsewhere, while it was read.
            Err(e) if e.errno() == Some(libc::ESTALE) && attempts < ATTEMPTS => attempts += 1,
            outcome => return outcome,
        }
    }
}

fn digest_at(path: &Path) -> Result<Digest> {
    match open_file(path)? {
        None => Ok(Digest::Absent),
        Some(file) => digest_of(file).map_err(|e| Error::io(path, e)),
    }
}

/// Opens what has a content of its own for reading; `None`: there is nothing.
fn open_file(path: &Path) -> Result<Option<File>> {
    let fail = |e: io::Error| Error::io(path, e);
    let status = match FileStatus::following(path) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        status => status.map_err(fail)?,
    };
    // To open a FIFO would let its writer go on, and a device may do anything.
    ensure_file(path, status.kind)?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match open_past_leases(|| OpenOptions::new().read(true).custom_flags(flags).open(path)) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        file => file.map_err(fail)?,
    };
    ensure_file(path, FileStatus::of(&file).map_err(fail)?.kind)?;
    Ok(Some(file))
}

/// All that `path` contains, and the digest of that. A symbolic link is followed. The caller holds the lock, if one is
/// wanted.
///
/// # Errors
///
/// As [`digest()`]; it does not exist; there is not enough memory.
pub fn contents(path: impl AsRef<Path>) -> Result<(Vec<u8>, Digest)> {
    let path = path.as_ref();
    let fail = |e: io::Error| Error::io(path, e);
    let Some(mut file) = open_file(path)? else { return Err(Error::from_raw(ErrorKind::Io, libc::ENOENT).on(path)) };
    let size = usize::try_from(FileStatus::of(&file).map_err(fail)?.size).unwrap_or(usize::MAX);
    let mut content = Vec::new();
    content.try_reserve_exact(size).map_err(|_| fail(io::Error::from_raw_os_error(libc::ENOMEM)))?;
    file.read_to_end(&mut content).map_err(fail)?;
    let mut hasher = Hasher::default();
    hasher.add(&content);
    Ok((content, hasher.finish()))
}

/// Refuses what has no content of its own.
pub(crate) fn ensure_file(path: &Path, kind: FileKind) -> Result<()> {
    if kind == FileKind::Regular {
        return Ok(());
    }
    Err(match kind {
        FileKind::Directory => Error::from_raw(ErrorKind::NotAFile, libc::EISDIR),
        other => Error::new(ErrorKind::NotAFile, format!("Is a {}, not a regular file", other.name())),
    }
    .on(path))
}

/// The digest of what is left to read in `source`.
pub(crate) fn digest_of(source: impl AsFd) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    copy::hash(source, u64::MAX, &mut hasher)?;
    Ok(hasher.finish())
}
