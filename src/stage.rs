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
//! it when a signal ends the process. SIGKILL leaves it. Its name is the same every time (names.rs), so the next writer of
//! the target finds it and puts its own in its place.
//!
//! A living writer's file is told from a dead one's by its mark: a record lock on one byte, for as long as it has its
//! name. It is no `flock`, which a check of the new content may want for itself.
//!
//! ```text
//!   writer:  mark, alone ──busy: taken for dead──> the next name        (a new file; is the name still its own?)
//!   finder:  share the mark ──busy──> it lives;  ──another shares it──> it lives, or is another finder's
//!               └──nobody else has it or has the file open, and the name is still this file's──> dead: unlinked while
//!                  the mark is shared
//! ```
//!
//! Two finders share the mark before they look for others, so at most one of them sees nobody.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::cleanup::{self, Ticket, Undo};
use crate::names::{TempNames, is_temp_name_under_nonce};
use crate::sys::dir::LinkWay;
use crate::sys::{self, Dir, FileKind, FileStatus, lease, ofd, retry};

/// The byte of a temporary file that its writer has locked. No content reaches that far, and no program locks it that
/// locks what a file holds.
const MARK: Range<u64> = 1 << 62..(1 << 62) + 1;

/// A temporary file; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Stage {
    // Dropped in this order: the name before the file, and so before the mark. Whoever took the file for dead would put
    // another one under that name.
    state: State,
    pub(crate) dir: Arc<Dir>,
    pub(crate) file: File,
    label: Label,
    birth: Birth,
}

/// What the temporary name is made of.
#[derive(Clone, Debug)]
struct Label {
    /// The target's name.
    base: OsString,
    /// That of the link lock that is held.
    nonce: Option<String>,
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
    /// As any new file: these bits (usually 0666), filtered by the kernel with the umask or a default ACL. The umask itself
    /// is never toggled: every thread would see that.
    Plain(u32),
}

/// What renaming a stage means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rename {
    /// It becomes the target: the commit point.
    Commit,
    /// The same, if there is none yet (EEXIST), as far as the file system can see to that.
    Create,
    /// It becomes another file, in place of an earlier one.
    Place,
}

impl Stage {
    /// An empty stage in `dir` for a file called `base`.
    pub(crate) fn create(dir: Arc<Dir>, base: &OsStr, birth: Birth) -> io::Result<Stage> {
        Stage::create_under(dir, base, None, birth)
    }

    /// The same under a link lock with this nonce.
    pub(crate) fn create_under(dir: Arc<Dir>, base: &OsStr, nonce: Option<String>, birth: Birth) -> io::Result<Stage> {
        let label = Label { base: base.to_owned(), nonce };
        match Stage::unnamed(&dir, &label, birth)? {
            Some(stage) => Ok(stage),
            None => Stage::named(dir, label, birth),
        }
    }

    /// `None` where the file system has no unnamed files (FUSE, NFS, old overlays) or they could not be named later.
    fn unnamed(dir: &Arc<Dir>, label: &Label, birth: Birth) -> io::Result<Option<Stage>> {
        let file = match dir.open_unnamed(birth.mode()) {
            Ok(file) => file,
            // A file system that ignores the flag sees an attempt to write a directory, or to open a missing file.
            Err(e) if sys::unsupported(&e) || matches!(e.raw_os_error(), Some(libc::EISDIR | libc::ENOENT)) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let way = dir.way_to_link(&file);
        Ok(way.map(|way| Stage { state: State::Unnamed(way), dir: dir.clone(), file, label: label.clone(), birth }))
    }

    fn named(dir: Arc<Dir>, label: Label, birth: Birth) -> io::Result<Stage> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let make = |name: &OsStr| {
            let file = dir.open_file(name, flags, birth.mode())?;
            // Until now it had no mark, and somebody may have taken it for dead.
            // Where that cannot be asked it is kept: nobody else would remove it.
            let lost = !mark(&file) || !stands_for(&dir, name, &file).unwrap_or(true);
            if lost { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(file) }
        };
        let (file, name, ticket) = with_temp_name(&dir, &label, make)?;
        Ok(Stage { state: State::Named { name, ticket }, dir, file, label, birth })
    }

    /// Gives the stage a name, if it has none, and tells its path.
    pub(crate) fn publish(&mut self) -> io::Result<PathBuf> {
        match self.state {
            State::Named { ref name, .. } => Ok(self.dir.join(name)),
            State::Unnamed(way) => {
                let (name, ticket) = link_temp_name(&self.dir, &self.label, &self.file, way)?;
                let path = self.dir.join(&name);
                self.state = State::Named { name, ticket };
                Ok(path)
            }
        }
    }

    /// Takes the mark off while `work` runs: a program that locks the whole file, by record locks or on NFS by `flock`,
    /// would wait for it for ever. Those who look for dead ones see that the file is open.
    pub(crate) fn unmarked<T>(&self, work: impl FnOnce() -> T) -> T {
        // Errors only make it worse protected from a housekeeper, who also looks at its age.
        let _ = ofd::unlock(&self.file, MARK);
        let done = work();
        mark(&self.file);
        done
    }

    /// Its directory and its name there, which it must have.
    pub(crate) fn name(&self) -> io::Result<(&Dir, &OsStr)> {
        match &self.state {
            State::Named { name, .. } => Ok((&self.dir, name)),
            State::Unnamed(_) => Err(io::ErrorKind::NotFound.into()),
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
        matches!(self.birth, Birth::Plain(_))
    }

    /// The mode that a new file has here.
    pub(crate) fn plain_mode(&self) -> io::Result<u32> {
        match self.birth {
            Birth::Plain(_) => Ok(FileStatus::of(&self.file)?.mode),
            // Asked of another file, which stays empty: the content of this one may not be for everyone.
            Birth::Private => {
                let Label { base, nonce } = self.label.clone();
                Stage::create_under(self.dir.clone(), &base, nonce, Birth::Plain(0o666))?.plain_mode()
            }
        }
    }

    /// Whether all that was written has arrived, as far as the file system tells before a sync.
    pub(crate) fn flush(&self) -> io::Result<()> {
        sys::flush(&self.file)
    }

    /// Gives it a name, if it has none, and takes it apart.
    pub(crate) fn into_named(self) -> io::Result<(File, OsString, Ticket)> {
        let Stage { state, dir, file, label, .. } = self;
        let (name, ticket) = match state {
            State::Named { name, ticket } => (name, ticket),
            State::Unnamed(way) => link_temp_name(&dir, &label, &file, way)?,
        };
        Ok((file, name, ticket))
    }

    /// Gives it exactly this temporary name.
    pub(crate) fn publish_as(self, name: &OsStr) -> io::Result<Stage> {
        let Stage { state, dir, file, label, birth } = self;
        let ticket = match state {
            State::Unnamed(way) => {
                mark(&file);
                make_temp_name(&dir, name, || dir.link_unnamed(&file, way, name))
            }
            State::Named { name: old, ticket } => {
                let listed = || TempName { dir: dir.clone(), name: name.to_owned() };
                let turned = ticket.turn(|| rename_new(&dir, &old, name).map(|()| listed()));
                turned.map_err(|(e, _)| e)
            }
        }?;
        Ok(Stage { state: State::Named { name: name.to_owned(), ticket }, dir, file, label, birth })
    }

    /// Renames it to `name` in `to`. On error the stage is as before, and handed back.
    pub(crate) fn rename(self, to: &Dir, name: &OsStr, how: Rename) -> Result<File, (io::Error, Stage)> {
        let Stage { state, dir, file, label, birth } = self;
        let (from, ticket) = match state {
            State::Named { name, ticket } => (name, ticket),
            State::Unnamed(way) => match link_temp_name(&dir, &label, &file, way) {
                Ok(named) => named,
                Err(e) => return Err((e, Stage { state, dir, file, label, birth })),
            },
        };
        let rename = || match how {
            Rename::Create => match dir.rename_new(&from, to, name) {
                Err(e) if sys::unsupported(&e) => dir.rename(&from, to, name),
                outcome => outcome,
            },
            Rename::Commit | Rename::Place => dir.rename(&from, to, name),
        };
        let replace = || match retry(rename) {
            // Over NFS the answer can be lost after the deed: what counts is which file has the name.
            Err(_) if stands_for(to, name, &file).unwrap_or(false) => Ok(()),
            outcome => outcome,
        };
        let outcome = match how {
            Rename::Commit | Rename::Create => ticket.commit(replace),
            Rename::Place => ticket.settle(replace),
        };
        match outcome {
            Ok(()) => Ok(file),
            Err((e, ticket)) => {
                let state = State::Named { name: from, ticket };
                Err((e, Stage { state, dir, file, label, birth }))
            }
        }
    }
}

impl Birth {
    fn mode(self) -> u32 {
        match self {
            Birth::Private => 0o600,
            Birth::Plain(bits) => bits,
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

/// Marks a temporary file as in use. False: somebody has taken it for a dead writer's. Where there is no such lock the file
/// is only less well protected from a housekeeper, who also looks at its age.
fn mark(file: &File) -> bool {
    match ofd::try_lock(file, false, MARK) {
        Err(e) if is_missing(&e) => sys::try_flock(file, false),
        outcome => outcome,
    }
    .unwrap_or(true)
}

/// Whether this system has no such record locks.
fn is_missing(e: &io::Error) -> bool {
    sys::unsupported(e) || e.kind() == io::ErrorKind::Unsupported
}

/// Opens the file `name` in `dir`, if nobody uses it. As long as the descriptor is open, nobody else takes it for unused,
/// so the name may be removed.
pub(crate) fn open_dead(dir: &Dir, name: &OsStr) -> io::Result<Option<File>> {
    // Never for writing: where a check runs the new content, execve(2) would fail with "Text file busy". And the mode may
    // forbid it.
    let file = dir.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
    let dead = match ofd::try_lock(&file, true, MARK) {
        Ok(shared) => shared && !ofd::is_locked(&file, MARK)?,
        Err(e) if is_missing(&e) => sys::try_flock(&file, false)?,
        Err(e) => return Err(e),
    };
    // A writer takes its mark off while a check runs, but has the file open. A stranger's file cannot be asked about.
    let open = || match lease::is_open_elsewhere(&file) {
        Err(e) => e.raw_os_error() == Some(libc::EACCES),
        Ok(open) => open,
    };
    Ok((dead && stands_for(dir, name, &file)? && !open()).then_some(file))
}

/// Removes the temporary file `name` in `dir` if a dead writer has left it. False: it is in use, or a stranger's.
fn remove_dead(dir: &Dir, name: &OsStr) -> bool {
    // Opening a device or a FIFO has effects.
    let is_file = matches!(dir.status(name), Ok(Some(s)) if s.kind == FileKind::Regular);
    is_file && matches!(open_dead(dir, name), Ok(Some(_dead)) if dir.unlink(name).is_ok())
}

/// Calls `make` with temporary names until one is free, and lists what it made.
fn with_temp_name<T>(
    dir: &Arc<Dir>,
    label: &Label,
    mut make: impl FnMut(&OsStr) -> io::Result<T>,
) -> io::Result<(T, OsString, Ticket)> {
    let names = TempNames::new(&label.base, label.nonce.as_deref());
    let taken: io::Result<_> = cleanup::make(|| {
        let (made, name) = names.first_free(dir, |name| match make(name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && remove_dead(dir, name) => make(name),
            outcome => outcome,
        })?;
        Ok(((made, name.clone()), TempName { dir: dir.clone(), name }))
    });
    let ((made, name), ticket) = taken?;
    Ok((made, name, ticket))
}

/// Makes exactly this temporary name, and lists it.
fn make_temp_name(dir: &Arc<Dir>, name: &OsStr, make: impl FnOnce() -> io::Result<()>) -> io::Result<Ticket> {
    let listed = || TempName { dir: dir.clone(), name: name.to_owned() };
    cleanup::make(|| make().map(|()| ((), listed()))).map(|((), ticket)| ticket)
}

/// The same as [`link_temp`] with exactly this temporary name.
pub(crate) fn link_temp_as(from: &Dir, name: &OsStr, dir: &Arc<Dir>, temp: &OsStr) -> io::Result<Ticket> {
    make_temp_name(dir, temp, || from.link(name, dir, temp))
}

/// Gives an unnamed `file` in `dir` a temporary name.
fn link_temp_name(dir: &Arc<Dir>, label: &Label, file: &File, way: LinkWay) -> io::Result<(OsString, Ticket)> {
    mark(file);
    let ((), name, ticket) = with_temp_name(dir, label, |name| dir.link_unnamed(file, way, name))?;
    Ok((name, ticket))
}

/// Makes a second link to `name` in `from`, under a temporary name for `base` in `dir`. It cannot be marked as this
/// process's own, so nothing else of it may have that name; but this process has the file open.
pub(crate) fn link_temp(
    from: &Dir,
    name: &OsStr,
    dir: &Arc<Dir>,
    base: &OsStr,
    nonce: Option<String>,
) -> io::Result<(OsString, Ticket)> {
    let label = Label { base: base.to_owned(), nonce };
    let ((), temp, ticket) = with_temp_name(dir, &label, |temp| from.link(name, dir, temp))?;
    Ok((temp, ticket))
}

/// Removes what dead writers have left in `dir` under temporary names for `base`, and what the next one would take for a
/// living writer's or not find. The caller has the lock. One is a link to `file`, the caller's own file, which has this many
/// `links`. The others are of writers that held the link lock, under another nonce than `nonce`. True: the link is gone.
pub(crate) fn clear_for(dir: &Dir, base: &OsStr, nonce: Option<&str>, file: &FileStatus) -> bool {
    // What stays is what a crash leaves, and housekeeping knows it.
    let remove = |name: &OsStr| cleanup::step(|| dir.unlink(name)).is_ok();
    if let Some(nonce) = nonce {
        let own = TempNames::new(base, Some(nonce)).stem();
        let others = dir.names().unwrap_or_default().into_iter().filter(|name| is_temp_name_under_nonce(name, base));
        for name in others.filter(|name| !name.as_bytes().starts_with(own.as_bytes())) {
            remove(&name);
        }
    }
    let first = TempNames::new(base, nonce).first(dir);
    file.links > 1 && matches!(dir.status(&first), Ok(Some(s)) if s.id == file.id) && remove(&first)
}

/// Removes the temporary files for `base` in `dir` that a writer has left who held a link lock with `nonce`, and has lost
/// it: if that writer lives, it finds nothing to rename.
pub(crate) fn remove_of_lost_lock(dir: &Dir, base: &OsStr, nonce: &str) {
    let names = TempNames::new(base, Some(nonce));
    // What stays is what a crash leaves, and housekeeping knows it.
    let _ = names.first_free::<()>(dir, |name| {
        dir.unlink(name)?;
        Err(io::ErrorKind::AlreadyExists.into())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unnamed_stage_leaves_nothing_and_a_named_one_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(place.path()).unwrap());
        let count = || std::fs::read_dir(place.path()).unwrap().count();
        let label = || Label { base: "f".into(), nonce: None };
        let stage = Stage::named(dir.clone(), label(), Birth::Private).unwrap();
        assert_eq!(count(), 1);
        drop(stage);
        assert_eq!(count(), 0);
        let has_unnamed = dir.open_unnamed(0o600).is_ok();
        let mut stage = Stage::create(dir, OsStr::new("f"), Birth::Private).unwrap();
        assert_eq!((stage.is_named(), count()), (!has_unnamed, usize::from(!has_unnamed)));
        stage.publish().unwrap();
        assert!(stage.is_named());
        assert_eq!(count(), 1);
        assert!(stage.has_its_name().unwrap());
        drop(stage);
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_dead_writer_s_file_is_taken_over_and_a_living_one_s_is_not() {
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(place.path()).unwrap());
        let names = || {
            let mut names: Vec<_> = dir.names().unwrap().into_iter().map(|name| name.into_string().unwrap()).collect();
            names.retain(|name| name != "." && name != "..");
            names.sort();
            names
        };
        let first = TempNames::new(OsStr::new("f"), None).numbered(0, 255).into_string().unwrap();
        let second = TempNames::new(OsStr::new("f"), None).numbered(1, 255).into_string().unwrap();
        let label = || Label { base: "f".into(), nonce: None };
        for mode in [0o600, 0o444] {
            let path = place.path().join(&first);
            std::fs::write(&path, "a dead writer's").unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let living = Stage::named(dir.clone(), label(), Birth::Private).unwrap();
            assert_eq!(living.file.metadata().unwrap().len(), 0);
            assert_eq!(names(), [&*first]);
            let mut other = Stage::create(dir.clone(), OsStr::new("f"), Birth::Private).unwrap();
            other.publish().unwrap();
            assert_eq!(names(), [&*second, &*first]);
            assert!(open_dead(&dir, OsStr::new(&first)).unwrap().is_none());
            drop((living, other));
            assert!(names().is_empty());
        }
        // Of two finders, at most one.
        std::fs::write(place.path().join(&first), "").unwrap();
        let finder = open_dead(&dir, OsStr::new(&first)).unwrap();
        assert!(finder.is_some() && open_dead(&dir, OsStr::new(&first)).unwrap().is_none());
        drop(finder);
        // A stranger's.
        std::fs::remove_file(place.path().join(&first)).unwrap();
        std::fs::create_dir(place.path().join(&first)).unwrap();
        let stage = Stage::named(dir.clone(), label(), Birth::Private).unwrap();
        assert_eq!(names(), [&*second, &*first]);
        drop(stage);
    }

    #[test]
    fn what_has_a_temporary_name_is_marked() {
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(place.path()).unwrap());
        let stage = || Stage::create(dir.clone(), OsStr::new("f"), Birth::Private).unwrap();
        let named = Stage::named(dir.clone(), Label { base: "f".into(), nonce: None }, Birth::Private).unwrap();
        let published = stage().publish_as(OsStr::new("g")).unwrap();
        let mut later = stage();
        later.publish().unwrap();
        for stage in [named, published, later] {
            let is_marked = || {
                let file = dir.open_file(stage.name().unwrap().1, OFlags::RDONLY, 0).unwrap();
                !ofd::try_lock(&file, true, MARK).unwrap()
            };
            assert!(is_marked());
            assert!(!stage.unmarked(is_marked));
            assert!(is_marked());
        }
    }

    #[test]
    fn links_and_nonces_of_dead_writers_go() {
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(place.path()).unwrap());
        let (target, base, nonce) = (place.path().join("f"), OsStr::new("f.backup"), "0123456789abcdef");
        std::fs::write(&target, "old").unwrap();
        let file = std::fs::File::open(&target).unwrap();
        let name = |nonce, number| place.path().join(TempNames::new(base, nonce).numbered(number, 255));
        std::fs::hard_link(&target, name(None, 0)).unwrap();
        assert!(clear_for(&dir, base, None, &FileStatus::of(&file).unwrap()));
        assert!(!name(None, 0).exists() && target.exists());
        std::fs::hard_link(&target, place.path().join("g")).unwrap();
        assert!(!clear_for(&dir, base, None, &FileStatus::of(&file).unwrap()));
        for (nonce, number) in [(None, 0), (None, 1), (Some(nonce), 0), (Some("fedcba9876543210"), 2)] {
            std::fs::write(name(nonce, number), "").unwrap();
        }
        assert!(!clear_for(&dir, base, Some(nonce), &FileStatus::of(&file).unwrap()));
        assert!(!name(Some("fedcba9876543210"), 2).exists());
        std::fs::write(name(Some(nonce), 1), "").unwrap();
        assert!(name(None, 0).exists() && name(None, 1).exists() && name(Some(nonce), 0).exists());
        remove_of_lost_lock(&dir, base, nonce);
        assert!(!name(Some(nonce), 0).exists() && !name(Some(nonce), 1).exists());
        assert!(name(None, 0).exists() && name(None, 1).exists());
    }

    #[test]
    fn a_rename_that_fails_hands_the_stage_back() {
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
        let stage = match stage.rename(&dir, OsStr::new("no/such"), Rename::Place) {
            Ok(_) => panic!("there is no such directory"),
            Err((_, stage)) => stage,
        };
        assert!(stage.is_named() && names().len() == 2);
        let file = stage.rename(&dir, OsStr::new("f"), Rename::Place).unwrap();
        assert_eq!(names(), ["f"]);
        assert!(stands_for(&dir, OsStr::new("f"), &file).unwrap());
        std::fs::write(place.path().join("g"), "").unwrap();
        let error = rename_new(&dir, OsStr::new("g"), OsStr::new("f")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        rename_new(&dir, OsStr::new("g"), OsStr::new("h")).unwrap();
        assert_eq!(names(), ["f", "h"]);
    }

    #[test]
    fn a_private_stage_knows_the_mode_of_a_plain_one() {
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(place.path()).unwrap());
        let [private, plain] = [Birth::Private, Birth::Plain(0o666)].map(|birth| {
            let stage = Stage::create(dir.clone(), OsStr::new("f"), birth).unwrap();
            (FileStatus::of(&stage.file).unwrap().mode, stage.plain_mode().unwrap())
        });
        assert_eq!(private, (0o600, plain.1));
        assert_eq!(plain.0, plain.1);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
