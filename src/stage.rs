//! The temporary file that new content is staged in.
//!
//! States of a stage:
//!
//! ```text
//!   create ──> unnamed (O_TMPFILE) ──publish──> named ──rename──> an ordinary file, no longer ours
//!      └──────────────────────────────────────> named
//!   unnamed, named ──drop──> gone
//! ```
//!
//! An unnamed file needs no cleaning up, whatever ends the process. A named one is listed with [`cleanup`], which removes
//! it when a signal ends the process. It is locked with `flock` for as long as it has its name: that is how housekeeping
//! tells a living writer's file from a dead one's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::cleanup::{self, Ticket, Undo};
use crate::names::{NAME_LIMITS, TEMP_RANDOM, temp_prefix};
use crate::sys::dir::LinkWay;
use crate::sys::{self, Dir, FileStatus, retry};

/// A temporary file; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) dir: Arc<Dir>,
    pub(crate) file: File,
    /// The target's name, of which the temporary name is made.
    base: OsString,
    birth: Birth,
    state: State,
}

#[derive(Debug)]
enum State {
    Unnamed(LinkWay),
    Named { name: OsString, ticket: Ticket },
}

/// With which mode a stage is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Birth {
    /// 0600, until its final mode is set.
    Private,
    /// As any new file: 0666, filtered by the kernel with the umask or a default ACL. The umask itself is never toggled:
    /// every thread would see that.
    Plain,
}

/// What renaming a stage means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rename {
    /// It becomes the target: the commit point.
    Commit,
    /// It becomes another file, in place of an earlier one.
    Place,
}

impl Stage {
    /// An empty stage in `dir` for a file called `base`.
    pub(crate) fn create(dir: Arc<Dir>, base: &OsStr, birth: Birth) -> io::Result<Stage> {
        match Stage::unnamed(&dir, base, birth)? {
            Some(stage) => Ok(stage),
            None => Stage::named(dir, base, birth),
        }
    }

    /// `None` where the file system has no unnamed files (FUSE, NFS, old overlays) or they could not be named later.
    fn unnamed(dir: &Arc<Dir>, base: &OsStr, birth: Birth) -> io::Result<Option<Stage>> {
        let file = match dir.open_unnamed(birth.mode()) {
            Ok(file) => file,
            // A file system that ignores the flag sees an attempt to write a directory, or to open a missing file.
            Err(e) if sys::unsupported(&e) || matches!(e.raw_os_error(), Some(libc::EISDIR | libc::ENOENT)) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let way = dir.way_to_link(&file);
        Ok(way.map(|way| Stage { dir: dir.clone(), file, base: base.to_owned(), birth, state: State::Unnamed(way) }))
    }

    fn named(dir: Arc<Dir>, base: &OsStr, birth: Birth) -> io::Result<Stage> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let (file, name, ticket) = with_temp_name(&dir, base, |name| dir.open_file(name, flags, birth.mode()))?;
        mark_in_use(&file);
        Ok(Stage { dir, file, base: base.to_owned(), birth, state: State::Named { name, ticket } })
    }

    /// Gives the stage a name, if it has none, and tells its path.
    pub(crate) fn publish(&mut self) -> io::Result<PathBuf> {
        match self.state {
            State::Named { ref name, .. } => Ok(self.dir.join(name)),
            State::Unnamed(way) => {
                let (name, ticket) = link_temp_name(&self.dir, &self.base, &self.file, way)?;
                let path = self.dir.join(&name);
                self.state = State::Named { name, ticket };
                Ok(path)
            }
        }
    }

    /// Whether it has a name by now.
    pub(crate) fn is_named(&self) -> bool {
        matches!(self.state, State::Named { .. })
    }

    /// Whether its name still stands for this file, and not for one that was put in its place.
    pub(crate) fn has_its_name(&self) -> io::Result<bool> {
        match &self.state {
            State::Named { name, .. } => stands_for(&self.dir, name, &self.file),
            State::Unnamed(_) => Ok(true),
        }
    }

    /// Whether its mode is that of any new file already.
    pub(crate) fn is_plain(&self) -> bool {
        self.birth == Birth::Plain
    }

    /// The mode that a new file has here.
    pub(crate) fn plain_mode(&self) -> io::Result<u32> {
        match self.birth {
            Birth::Plain => Ok(FileStatus::of(&self.file)?.mode),
            // Asked of another file, which stays empty: the content of this one may not be for everyone.
            Birth::Private => Stage::create(self.dir.clone(), &self.base, Birth::Plain)?.plain_mode(),
        }
    }

    /// Whether all that was written has arrived, as far as the file system tells before a sync.
    pub(crate) fn flush(&self) -> io::Result<()> {
        sys::flush(&self.file)
    }

    /// Gives it a name, if it has none, and takes it apart.
    pub(crate) fn into_named(self) -> io::Result<(File, OsString, Ticket)> {
        let Stage { dir, file, base, state, .. } = self;
        let (name, ticket) = match state {
            State::Named { name, ticket } => (name, ticket),
            State::Unnamed(way) => link_temp_name(&dir, &base, &file, way)?,
        };
        Ok((file, name, ticket))
    }

    /// Renames it to `name` in `to`. On error the stage is as before, and handed back.
    pub(crate) fn rename(self, to: &Dir, name: &OsStr, how: Rename) -> Result<File, (io::Error, Stage)> {
        let Stage { dir, file, base, birth, state } = self;
        let (from, ticket) = match state {
            State::Named { name, ticket } => (name, ticket),
            State::Unnamed(way) => match link_temp_name(&dir, &base, &file, way) {
                Ok(named) => named,
                Err(e) => return Err((e, Stage { dir, file, base, birth, state })),
            },
        };
        let replace = || match retry(|| dir.rename(&from, to, name)) {
            // Over NFS the answer can be lost after the deed: what counts is which file has the name.
            Err(_) if stands_for(to, name, &file).unwrap_or(false) => Ok(()),
            outcome => outcome,
        };
        let outcome = match how {
            Rename::Commit => ticket.commit(replace),
            Rename::Place => ticket.settle(replace),
        };
        match outcome {
            Ok(()) => Ok(file),
            Err((e, ticket)) => {
                let state = State::Named { name: from, ticket };
                Err((e, Stage { dir, file, base, birth, state }))
            }
        }
    }
}

impl Birth {
    fn mode(self) -> u32 {
        match self {
            Birth::Private => 0o600,
            Birth::Plain => 0o666,
        }
    }
}

/// Whether `name` in `dir` stands for `file`.
fn stands_for(dir: &Dir, name: &OsStr, file: &File) -> io::Result<bool> {
    match dir.status(name)? {
        Some(there) => Ok(FileStatus::of(file)?.id == there.id),
        None => Ok(false),
    }
}

/// Rename that refuses to replace, by the best means the file system has.
pub(crate) fn rename_new(dir: &Dir, from: &OsStr, name: &OsStr) -> io::Result<()> {
    match dir.rename_new(from, dir, name) {
        Err(e) if sys::unsupported(&e) => {}
        outcome => return outcome,
    }
    // link(2) refuses an existing name too.
    match dir.link(from, dir, name) {
        Ok(()) => return dir.unlink(from),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) || sys::unsupported(&e) => {}
        Err(e) => return Err(e),
    }
    // exFAT has neither: take the name, then replace the empty file that is ours.
    dir.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o600)?;
    dir.rename(from, dir, name)
}

/// A temporary name, as [`cleanup`] knows it.
struct TempName {
    dir: Arc<Dir>,
    name: OsString,
}

impl Undo for TempName {
    fn undo(&self) -> io::Result<()> {
        self.dir.unlink(&self.name)
    }

    fn is_temporary_file(&self) -> bool {
        true
    }
}

/// Marks a temporary file as in use. Where that fails the file is only less well protected from a housekeeper, who also
/// looks at its age.
fn mark_in_use(file: &File) {
    let _ = sys::try_flock(file, false);
}

/// Calls `make` with fresh temporary names until one is free, and lists what it made.
fn with_temp_name<T>(
    dir: &Arc<Dir>,
    base: &OsStr,
    mut make: impl FnMut(&OsStr) -> io::Result<T>,
) -> io::Result<(T, OsString, Ticket)> {
    // eCryptfs has room for less, and says so.
    let mut longest = NAME_LIMITS.into_iter();
    let mut limit = longest.next().unwrap_or(0);
    loop {
        let prefix = temp_prefix(base, limit);
        let attempt: io::Result<_> = cleanup::make(|| {
            // tempfile only chooses the name. `make` puts the file into our directory, so this one is of no concern: with
            // "/" tempfile need not look up the current directory.
            let (made, path) = tempfile::Builder::new()
                .prefix(&prefix)
                .rand_bytes(TEMP_RANDOM)
                .disable_cleanup(true)
                .make_in("/", |path: &Path| make(path.file_name().unwrap_or_default()))?
                .into_parts();
            let name = path.file_name().unwrap_or_default().to_owned();
            Ok(((made, name.clone()), TempName { dir: dir.clone(), name }))
        });
        match attempt {
            Ok(((made, name), ticket)) => return Ok((made, name, ticket)),
            Err(e) if e.raw_os_error() == Some(libc::ENAMETOOLONG) => match longest.next() {
                Some(shorter) => limit = shorter,
                None => return Err(e),
            },
            Err(e) => return Err(e),
        }
    }
}

/// Gives an unnamed `file` in `dir` a temporary name.
fn link_temp_name(dir: &Arc<Dir>, base: &OsStr, file: &File, way: LinkWay) -> io::Result<(OsString, Ticket)> {
    mark_in_use(file);
    let ((), name, ticket) = with_temp_name(dir, base, |name| dir.link_unnamed(file, way, name))?;
    Ok((name, ticket))
}

/// Makes a second link to `name` in `from`, under a temporary name for `base` in `dir`.
pub(crate) fn link_temp(from: &Dir, name: &OsStr, dir: &Arc<Dir>, base: &OsStr) -> io::Result<(OsString, Ticket)> {
    let ((), temp, ticket) = with_temp_name(dir, base, |temp| from.link(name, dir, temp))?;
    Ok((temp, ticket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unnamed_stage_leaves_nothing_and_a_named_one_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(place.path()).unwrap());
        let count = || std::fs::read_dir(place.path()).unwrap().count();
        let stage = Stage::named(dir.clone(), OsStr::new("f"), Birth::Private).unwrap();
        assert_eq!(count(), 1);
        drop(stage);
        assert_eq!(count(), 0);
        let mut stage = Stage::create(dir, OsStr::new("f"), Birth::Private).unwrap();
        stage.publish().unwrap();
        assert_eq!(count(), 1);
        assert!(stage.has_its_name().unwrap());
        drop(stage);
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_rename_that_must_not_replace_hands_the_stage_back() {
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(place.path()).unwrap());
        let names = || {
            let mut names: Vec<_> =
                dir.names().unwrap().into_iter().filter(|name| name != "." && name != "..").collect();
            names.sort();
            names
        };
        std::fs::write(place.path().join("f"), "old").unwrap();
        let stage = Stage::create(dir.clone(), OsStr::new("f"), Birth::Private).unwrap();
        let (error, stage) = stage.rename(&dir, OsStr::new("f"), Rename::PlaceNew).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(stage.is_named() && names().len() == 2);
        let stage = match stage.rename(&dir, OsStr::new("no/such"), Rename::Place) {
            Ok(_) => panic!("there is no such directory"),
            Err((_, stage)) => stage,
        };
        let file = stage.rename(&dir, OsStr::new("f"), Rename::Place).unwrap();
        assert_eq!(names(), ["f"]);
        assert!(stands_for(&dir, OsStr::new("f"), &file).unwrap());
        let stage = Stage::create(dir.clone(), OsStr::new("f"), Birth::Private).unwrap();
        stage.rename(&dir, OsStr::new("g"), Rename::PlaceNew).unwrap();
        assert_eq!(names(), ["f", "g"]);
    }

    #[test]
    fn a_private_stage_knows_the_mode_of_a_plain_one() {
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(place.path()).unwrap());
        let [private, plain] = [Birth::Private, Birth::Plain].map(|birth| {
            let stage = Stage::create(dir.clone(), OsStr::new("f"), birth).unwrap();
            (FileStatus::of(&stage.file).unwrap().mode, stage.plain_mode().unwrap())
        });
        assert_eq!(private, (0o600, plain.1));
        assert_eq!(plain.0, plain.1);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
