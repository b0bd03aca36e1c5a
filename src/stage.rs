//! The temporary file that new content is staged in.
//!
//! ```text
//!   create ──> unnamed (O_TMPFILE) ──publish──> named ──commit──> it is the target
//!         └──────────────────────────────────> named
//! ```
//!
//! An unnamed file needs no cleaning up, whatever ends the process. A named one is listed with [`cleanup`], and locked
//! with `flock` for as long as it has its name: that is how housekeeping tells a living writer's from a dead one's.
//! Dropping a stage removes it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::cleanup::{self, Ticket, Undo};
use crate::names::{NAME_LIMITS, TEMP_RANDOM, temp_prefix};
use crate::sys::dir::LinkWay;
use crate::sys::{self, Dir, FileId, FileStatus};

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) dir: Arc<Dir>,
    pub(crate) file: File,
    /// The target's name, of which the temporary name is made.
    base: OsString,
    name: State,
    /// The mode that a new file gets here, 0666 less umask or by a default ACL, where the stage was created with it.
    pub(crate) plain_mode: Option<u32>,
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
    /// As any new file: 0666, filtered by the kernel with the umask (which is never toggled: that would be seen by every
    /// thread) or a default ACL.
    Plain,
    /// To be decided later: 0600 now, what `Plain` would have given is remembered.
    Undecided,
}

impl Stage {
    /// An empty stage in `dir` for a file called `base`.
    pub(crate) fn create(dir: Arc<Dir>, base: &OsStr, birth: Birth) -> io::Result<Stage> {
        let mode = if birth == Birth::Private { 0o600 } else { 0o666 };
        if let Some(mut stage) = Stage::unnamed(&dir, base, mode)? {
            if birth == Birth::Undecided {
                stage.plain_mode = Some(FileStatus::of(&stage.file)?.mode);
                sys::set_mode(&stage.file, 0o600)?;
            }
            return Ok(stage);
        }
        if birth != Birth::Undecided {
            return Stage::named(dir, base, mode);
        }
        // Whoever opens a file by its name before it is made private can read what is written later. So another one,
        // that stays empty, tells the mode.
        let probe = Stage::named(dir.clone(), base, mode)?;
        let plain_mode = Some(FileStatus::of(&probe.file)?.mode);
        drop(probe);
        Ok(Stage { plain_mode, ..Stage::named(dir, base, 0o600)? })
    }

    /// `None` where the file system has no unnamed files (FUSE, NFS, old overlays) or they could not be named later.
    fn unnamed(dir: &Arc<Dir>, base: &OsStr, mode: u32) -> io::Result<Option<Stage>> {
        let file = match dir.open_unnamed(mode) {
            Ok(file) => file,
            // A file system that ignores the flag sees an attempt to write a directory, or to open a missing file.
            Err(e) if sys::unsupported(&e) || matches!(e.raw_os_error(), Some(libc::EISDIR | libc::ENOENT)) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let Some(way) = dir.way_to_link(&file) else { return Ok(None) };
        let (base, name) = (base.to_owned(), State::Unnamed(way));
        Ok(Some(Stage { dir: dir.clone(), file, base, name, plain_mode: None }))
    }

    fn named(dir: Arc<Dir>, base: &OsStr, mode: u32) -> io::Result<Stage> {
        let (file, name, ticket) =
            with_temp_name(&dir, base, |name| dir.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode))?;
        hold(&file);
        Ok(Stage { dir, file, base: base.to_owned(), name: State::Named { name, ticket }, plain_mode: None })
    }

    /// Gives the stage a name, if it has none.
    pub(crate) fn publish(&mut self) -> io::Result<&OsStr> {
        if let State::Unnamed(way) = self.name {
            hold(&self.file);
            let ((), name, ticket) =
                with_temp_name(&self.dir, &self.base, |name| self.dir.link_unnamed(&self.file, way, name))?;
            self.name = State::Named { name, ticket };
        }
        match &self.name {
            State::Named { name, .. } => Ok(name),
            State::Unnamed(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether it has a name by now.
    pub(crate) fn is_named(&self) -> bool {
        matches!(self.name, State::Named { .. })
    }

    /// Whether the name still stands for this file, and not for one that was put in its place.
    pub(crate) fn is_current(&self) -> io::Result<bool> {
        let State::Named { name, .. } = &self.name else { return Ok(true) };
        Ok(self.dir.status(name)?.is_some_and(|now| self.id().is_ok_and(|id| now.id == id)))
    }

    /// The mode that a new file has here.
    pub(crate) fn fresh_mode(&self) -> io::Result<u32> {
        self.plain_mode.map_or_else(|| Ok(FileStatus::of(&self.file)?.mode), Ok)
    }

    pub(crate) fn id(&self) -> io::Result<FileId> {
        Ok(FileStatus::of(&self.file)?.id)
    }

    /// Renames it to `to` by `rename(from)`; `replaces` says that this is the step that replaces a target. On error the
    /// stage is as before.
    pub(crate) fn become_file(
        mut self,
        replaces: bool,
        rename: impl FnOnce(&OsStr, &File) -> io::Result<()>,
    ) -> Result<File, (io::Error, Stage)> {
        if let Err(e) = self.publish() {
            return Err((e, self));
        }
        let Stage { dir, file, base, name, plain_mode } = self;
        let (outcome, name) = match name {
            State::Named { name, ticket } => {
                let step = || rename(&name, &file);
                let outcome = if replaces { ticket.commit(step) } else { ticket.settle(step) };
                match outcome {
                    Ok(()) => return Ok(file),
                    Err((e, ticket)) => (e, State::Named { name, ticket }),
                }
            }
            unnamed @ State::Unnamed(_) => (io::ErrorKind::NotFound.into(), unnamed),
        };
        Err((outcome, Stage { dir, file, base, name, plain_mode }))
    }
}

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

/// Marks a temporary file as in use. Where that fails it is only less well protected from a housekeeper, who also looks
/// at its age.
fn hold(file: &File) {
    let _ = sys::try_flock(file, false);
}

/// Runs `make` with fresh temporary names until one is not taken, and lists what it made.
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
            // The crate finds the name; the directory is ours, and "/" spares its look-up of the current one.
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

/// A second link to `name` in `from`, under a temporary name in `dir`.
pub(crate) fn link_temp(from: &Dir, name: &OsStr, dir: &Arc<Dir>) -> io::Result<(OsString, Ticket)> {
    let ((), temp, ticket) = with_temp_name(dir, name, |temp| from.link(name, dir, temp))?;
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
        let stage = Stage::named(dir.clone(), OsStr::new("f"), 0o600).unwrap();
        assert_eq!(count(), 1);
        drop(stage);
        assert_eq!(count(), 0);
        let mut stage = Stage::create(dir, OsStr::new("f"), Birth::Private).unwrap();
        stage.publish().unwrap();
        assert_eq!(count(), 1);
        assert!(stage.is_current().unwrap());
        drop(stage);
        assert_eq!(count(), 0);
    }
}
