//! From a path as given to the file that it means: symbolic links followed, the directory opened once, the current
//! metadata.
//!
//! ```text
//!   resolve: given --readlink by hand--> (directory, name) --open--> Target { dir, name, status }
//!   settle:  resolves again under the lock; if the path means another file by now, the caller starts over
//! ```
//!
//! A target owns the directories that were made for it: dropping it removes them, [`Target::keep_dirs`] lets them stay.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::CWD;

use crate::cleanup::{self, Ticket, Undo};
use crate::error::{Error, ErrorKind, Result};
use crate::names::fnv1a;
use crate::original::Original;
use crate::remedy::Remedy;
use crate::shown::shown;
use crate::sys::{Dir, FileKind, FileStatus, retry};

/// The most symbolic links that are followed, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// How often missing directories are made anew, when another writer removes them at once.
const MAX_ROUNDS: usize = 100;

/// How a path is resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolve {
    /// Follow a symbolic link. Otherwise the link itself is the target.
    pub(crate) follow: bool,
    /// Create missing parent directories.
    pub(crate) mkdir: bool,
}

/// The file that a path means.
#[derive(Debug)]
pub(crate) struct Target {
    /// The path as the caller gave it: for messages.
    pub(crate) given: PathBuf,
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: OsString,
    /// What stands under that name; `None`: nothing yet.
    pub(crate) status: Option<FileStatus>,
    how: Resolve,
    made_dirs: Vec<Arc<MadeDir>>,
}

/// A directory that was made for the target, or for several. Dropping it removes it; a list of them has the deepest first,
/// so that each goes before its parent.
#[derive(Debug)]
struct MadeDir {
    path: PathBuf,
    ticket: Ticket,
}

struct MadePath(PathBuf);

impl Undo for MadePath {
    fn undo(&self) -> io::Result<()> {
        std::fs::remove_dir(&self.0)
    }
}

impl Target {
    pub(crate) fn resolve(given: &Path, how: Resolve) -> Result<Target> {
        Target::resolve_near(given, how, None)
    }

    /// The same, where the directory may be `near`, which has been opened a moment ago. Whether it still has that path shows
    /// when the target is [settled](Target::settle).
    pub(crate) fn resolve_near(given: &Path, how: Resolve, near: Option<&Arc<Dir>>) -> Result<Target> {
        let (parent, name, status) = walk(given, how.follow)?;
        if let Some(dir) = near.filter(|near| near.path() == parent) {
            return Ok(Target { given: given.to_owned(), dir: dir.clone(), name, status, how, made_dirs: Vec::new() });
        }
        let (mut made_dirs, mut rounds) = (Vec::new(), 0);
        let dir = loop {
            match Dir::open(&parent) {
                Ok(dir) => break dir,
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) && how.mkdir && rounds < MAX_ROUNDS => {
                    rounds += 1;
                    match make_dirs(given, &parent, &mut made_dirs) {
                        // Another writer made the directory above, failed, and removed it meanwhile.
                        Err(e) if e.errno() == Some(libc::ENOENT) && rounds < MAX_ROUNDS => {}
                        outcome => outcome?,
                    }
                }
                Err(e) => return Err(unreachable_parent(given, &parent, e)),
            }
        };
        Ok(Target { given: given.to_owned(), dir: Arc::new(dir), name, status, how, made_dirs })
    }

    /// A number for this target, which is not 0 and the same in every process.
    pub(crate) fn number(&self) -> u64 {
        let id = self.dir.id();
        let mut bytes = [id.dev.to_ne_bytes(), id.ino.to_ne_bytes()].concat();
        bytes.extend_from_slice(self.name.as_bytes());
        fnv1a(&bytes).max(1)
    }

    /// The file `name` in `dir`, of which a lock file or the record of a lease was found there.
    pub(crate) fn in_dir(dir: &Arc<Dir>, name: &OsStr) -> io::Result<Target> {
        let status = dir.status(name)?;
        let (given, name, how) = (dir.join(name), name.to_owned(), Resolve { follow: true, mkdir: false });
        Ok(Target { given, dir: dir.clone(), name, status, how, made_dirs: Vec::new() })
    }

    /// Resolves again, and takes the file's metadata as it is now. False: the path means another file by now.
    pub(crate) fn settle(&mut self) -> Result<bool> {
        // What is read from now on must not come from a cache that is older than the lock.
        self.dir.refresh();
        let (parent, name, status) = walk(&self.given, self.how.follow)?;
        let same = name == self.name && parent == self.dir.path() && self.dir.still_there();
        if same {
            self.status = status;
        }
        Ok(same)
    }

    /// Lets the directories made for it stay. With `sync` their names are made durable; after an error the others are
    /// synced all the same.
    pub(crate) fn keep_dirs(&mut self, sync: bool) -> io::Result<()> {
        let mut outcome = Ok(());
        for made in self.made_dirs.drain(..) {
            made.ticket.keep();
            if sync {
                outcome = outcome.and(sync_parent(&made.path));
            }
        }
        outcome
    }

    /// Makes the names of the directories made for it durable.
    pub(crate) fn sync_dirs(&self) -> io::Result<()> {
        self.made_dirs.iter().try_for_each(|made| sync_parent(&made.path))
    }

    /// Makes a directory that the write needs, and the missing ones above it. They go with the target's own.
    pub(crate) fn make_dir(&mut self, path: &Path) -> Result<()> {
        make_dirs(&self.given, path, &mut self.made_dirs)
    }

    /// Shares with `other` those of the made directories that it is below: they stay if either is to keep them, and
    /// otherwise go with the last one, when no lock file is left in them.
    pub(crate) fn share_dirs_with(&self, other: &mut Target) {
        let above = self.made_dirs.iter().filter(|made| other.dir.path().starts_with(&made.path));
        let above: Vec<_> = above.cloned().collect();
        other.made_dirs.extend(above);
    }

    /// Hands the made directories to `other`.
    pub(crate) fn pass_dirs_to(&mut self, other: &mut Target) {
        let mut dirs = std::mem::take(&mut self.made_dirs);
        dirs.append(&mut other.made_dirs);
        other.made_dirs = dirs;
    }

    /// Whether it is a symbolic link, which will be replaced itself.
    pub(crate) fn is_link(&self) -> bool {
        self.status.is_some_and(|s| s.kind == FileKind::Symlink)
    }

    /// Whether something is mounted exactly on it: rename onto it is EBUSY.
    pub(crate) fn is_mounted_on(&self) -> bool {
        self.status.is_some_and(|s| s.mount_root)
    }

    /// Refuses what cannot be replaced: anything but a regular file, a link to one, or nothing.
    pub(crate) fn ensure_regular(&self) -> Result<()> {
        self.status.map_or(Ok(()), |s| refuse_special(&self.given, s.kind))
    }

    /// Whether it is another user's file in a sticky directory, of which neither is this user's: rename onto it is EPERM.
    pub(crate) fn is_protected(&self) -> bool {
        self.status.is_some_and(|file| self.dir.protects(&file))
    }

    /// Refuses what rename(2) would refuse, or, with `in_place`, any change, before anything is made.
    pub(crate) fn ensure_changeable(&self, in_place: bool) -> Result<()> {
        let refuse = |reason: &str, remedy: Remedy| {
            let error = Error::io(&self.given, io::Error::from_raw_os_error(libc::EPERM));
            Err(error.of_kind(ErrorKind::NotWritable).because(reason).with_remedy(remedy))
        };
        let chattr =
            |flag: char, path: &Path| Remedy::Other(format!("root can allow it: chattr -{flag} {}", shown(path)));
        if self.status.is_some_and(|file| file.immutable) {
            return refuse("The file is immutable (chattr +i)", chattr('i', &self.given));
        }
        if self.status.is_some_and(|file| file.append_only) {
            return refuse("The file may only be appended to (chattr +a)", chattr('a', &self.given));
        }
        if in_place {
            return Ok(());
        }
        let dir = self.dir.path();
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        if self.dir.opened().immutable {
            return refuse(
                "Its directory is immutable (chattr +i), so nothing in it can be replaced",
                chattr('i', dir),
            );
        }
        if self.dir.opened().append_only {
            return refuse(
                "Its directory is append-only (chattr +a), so nothing in it can be replaced",
                chattr('a', dir),
            );
        }
        if self.is_protected() {
            let writable = !self.is_link() && self.dir.may_write(&self.name).is_ok();
            let remedy =
                if writable { Remedy::InPlace } else { Remedy::Other("ask its owner, or run it as root".into()) };
            return refuse("Another user's file in a sticky directory cannot be replaced", remedy);
        }
        Ok(())
    }

    /// Refuses an existing file that this user may not write.
    pub(crate) fn ensure_writable(&self) -> Result<()> {
        if self.status.is_none_or(|s| s.kind != FileKind::Regular) {
            return Ok(());
        }
        match self.dir.may_write(&self.name) {
            Ok(()) => Ok(()),
            Err(e) => match e.raw_os_error() {
                // Creating the lock file or the temporary file will fail too, with a better message.
                Some(libc::EROFS) => Ok(()),
                // Removed meanwhile, or long ago: an NFS client knows names for a while that are gone.
                Some(libc::ENOENT | libc::ESTALE) => Ok(()),
                Some(libc::EACCES) => {
                    Err(Error::io(&self.given, e).of_kind(ErrorKind::NotWritable).with_remedy(Remedy::Force))
                }
                // Rename would be refused too.
                Some(libc::EPERM) => Err(Error::io(&self.given, e)
                    .of_kind(ErrorKind::NotWritable)
                    .with_hint("it is immutable: lsattr shows that, chattr -i ends it")),
                _ => Err(Error::io(&self.given, e)),
            },
        }
    }

    /// Opens the current content; of a link that is replaced itself, that of the file behind it, which has nothing else to
    /// say about the new file. `None`: there is none.
    pub(crate) fn open_original(&self) -> io::Result<Option<Original>> {
        let Some(status) = self.status else { return Ok(None) };
        // Anybody may have made the link. To open a FIFO would let its writer go on, and a device may do anything.
        let is_file = |behind: FileStatus| behind.kind == FileKind::Regular;
        if self.is_link() && !self.dir.status_behind(&self.name)?.is_some_and(is_file) {
            return Ok(None);
        }
        let file = match self.dir.open_to_read(&self.name, self.is_link()) {
            Ok(file) => file,
            // Removed meanwhile, or a link that leads nowhere.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ELOOP)) => return Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::EACCES) && !self.is_link() => {
                return Ok(Some(Original::unreadable(status, &self.beside(&self.name))));
            }
            Err(e) => return Err(e),
        };
        let status = FileStatus::of(&file)?;
        Ok((status.kind == FileKind::Regular).then(|| Original::readable(status, file)))
    }

    /// What is still known of a file that has been removed since the lock was taken. `None`: there was none, or only a link,
    /// whose status tells nothing of the file behind it.
    pub(crate) fn gone(&self) -> Option<Original> {
        let status = self.status.filter(|s| s.kind == FileKind::Regular)?;
        Some(Original::gone(status))
    }

    /// The error for a system call on it that failed.
    pub(crate) fn failed(&self, e: io::Error) -> Error {
        Error::io(&self.given, e).unchanged()
    }

    /// Its path from the root, without a link in it.
    pub(crate) fn whole_path(&self) -> io::Result<PathBuf> {
        let dir = self.dir.path();
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        Ok(std::fs::canonicalize(dir)?.join(&self.name))
    }

    /// The path of `name` beside the target.
    pub(crate) fn beside(&self, name: &OsStr) -> PathBuf {
        self.dir.join(name)
    }
}

/// Follows symbolic links by hand to (directory, name, what stands there now).
fn walk(given: &Path, follow: bool) -> Result<(PathBuf, OsString, Option<FileStatus>)> {
    if given.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the name of the file is empty"));
    }
    let fail = |e: io::Error| Error::io(given, e);
    let mut path = given.to_owned();
    let mut behind = None;
    for links in 0..=MAX_LINKS {
        let Some((parent, name)) = split(&path) else {
            // `dir/`, `.`, `..`: can only mean a directory. If there is one, it is meant under its own name.
            let real = std::fs::canonicalize(&path).map_err(fail)?;
            if links == MAX_LINKS || split(&real).is_none() || !follow {
                return Err(not_a_file(given, FileKind::Directory));
            }
            path = real;
            continue;
        };
        let status = FileStatus::at(CWD.as_fd(), &path).map_err(fail)?;
        match status {
            Some(s) if s.kind == FileKind::Symlink && follow => {
                if links == 0 {
                    // Ask the kernel first: it finds loops, and the file behind links such as /dev/stdout, whose text is no
                    // path.
                    behind = match FileStatus::following(given) {
                        Ok(s) => Some(s),
                        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => None,
                        Err(e) => return Err(fail(e)),
                    };
                }
                refuse_descriptor(given, parent, behind)?;
                let link = rustix::fs::readlink(&path, Vec::new()).map_err(|e| fail(e.into()))?;
                path = parent.join(OsStr::from_bytes(link.as_bytes()));
            }
            _ => {
                if behind.is_some_and(|b| status.is_none_or(|s| s.id != b.id)) {
                    return Err(Error::new(ErrorKind::NotAFile, "the file behind this link has no name").on(given));
                }
                return Ok((parent.to_owned(), name.to_owned(), status));
            }
        }
    }
    Err(fail(io::Error::from_raw_os_error(libc::ELOOP)))
}

/// Directory (empty: the current one) and name; `None`: the path can only mean a directory. Works on bytes, because `Path`
/// silently drops a trailing `/` or `/.`.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let cut = bytes.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    let name = &bytes[cut..];
    if name.is_empty() || name == b"." || name == b".." {
        return None;
    }
    let mut parent = &bytes[..cut];
    while parent.len() > 1 && parent.ends_with(b"/") {
        parent = &parent[..parent.len() - 1];
    }
    Some((Path::new(OsStr::from_bytes(parent)), OsStr::from_bytes(name)))
}

fn refuse_special(given: &Path, kind: FileKind) -> Result<()> {
    match kind {
        FileKind::Regular | FileKind::Symlink => Ok(()),
        _ => Err(not_a_file(given, kind)),
    }
}

/// Refuses `/dev/stdout` and the like: the link leads to a file that a process has open, and what that still writes would
/// go to the old one.
fn refuse_descriptor(given: &Path, dir: &Path, behind: Option<FileStatus>) -> Result<()> {
    #[cfg(target_os = "linux")]
    if dir.ends_with("fd") && rustix::fs::statfs(dir).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC) {
        behind.map_or(Ok(()), |behind| refuse_special(given, behind.kind))?;
        return Err(Error::new(ErrorKind::NotAFile, "Leads to an open file of a process (/proc/PID/fd)")
            .on(given)
            .with_hint("name the file itself, or write to this with a redirection: > PATH"));
    }
    let _ = (given, dir, behind);
    Ok(())
}

fn not_a_file(given: &Path, kind: FileKind) -> Error {
    if kind == FileKind::Directory {
        return Error::from_raw(ErrorKind::NotAFile, libc::EISDIR).on(given).with_hint("name a file in it");
    }
    Error::new(ErrorKind::NotAFile, format!("Is a {}, not a regular file", kind.name()))
        .on(given)
        .with_hint("only a regular file can be replaced; write to this with a redirection: > PATH")
}

fn unreachable_parent(given: &Path, parent: &Path, e: io::Error) -> Error {
    let missing = e.raw_os_error() == Some(libc::ENOENT);
    let error = Error::io(given, e);
    if missing { error.with_remedy(Remedy::Mkdir(parent.to_owned())) } else { error }
}

/// Makes `path` and the missing directories above it.
fn make_dirs(given: &Path, path: &Path, made: &mut Vec<Arc<MadeDir>>) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    for dir in missing.into_iter().rev() {
        match cleanup::make(|| std::fs::create_dir(dir).map(|()| ((), MadePath(dir.to_owned())))) {
            Ok(((), ticket)) => made.insert(0, Arc::new(MadeDir { path: dir.to_owned(), ticket })),
            // For mkdir(2) a link that leads nowhere exists, for open(2) it does not: trying again would not end.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_dangling(dir) => {
                return Err(Error::io(given, e)
                    .because(format!("{}: Is a dangling symbolic link", shown(dir)))
                    .with_hint("create the directory that it points to, or remove the link"));
            }
            // Another writer of the same tree was first, and removes the directory if its write fails.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(path, e).during("cannot create directory")),
        }
    }
    Ok(())
}

/// Makes the name of a directory that was made for the target durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new(""));
    // On the target's file system. If that cannot sync directories, the user has been told so already.
    retry(|| Dir::open(parent)).and_then(|parent| parent.sync()).map(drop)
}

fn is_dangling(path: &Path) -> bool {
    let is_link = matches!(FileStatus::at(CWD.as_fd(), path), Ok(Some(s)) if s.kind == FileKind::Symlink);
    is_link && FileStatus::following(path).is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Option<(String, String)> {
        split(Path::new(path)).map(|(d, n)| (d.display().to_string(), n.to_string_lossy().into_owned()))
    }

    #[test]
    fn splits_as_the_kernel_would() {
        let some = |d: &str, n: &str| Some((d.to_owned(), n.to_owned()));
        assert_eq!(parts("f"), some("", "f"));
        assert_eq!(parts("/f"), some("/", "f"));
        assert_eq!(parts("//f"), some("/", "f"));
        assert_eq!(parts("a//b"), some("a", "b"));
        assert_eq!(parts("a/./b"), some("a/.", "b"));
        assert_eq!(parts("..x"), some("", "..x"));
        for directory in ["a/", "a/.", "a/..", ".", "..", "/"] {
            assert_eq!(parts(directory), None, "{directory}");
        }
    }
}
