//! From directory to directory.
//!
//! By descriptors and with a stack of our own, not by paths: a directory that is swapped for a symbolic link meanwhile,
//! or has one put above it, must not lead root's cron job elsewhere; and a path of a very deep directory could not be
//! opened at all. One descriptor and one buffer full of names a level, whatever is in the directories.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::sweep::Sweep;
use super::version_control::is_version_control;
use crate::error::{Error, ErrorKind};
use crate::sys::{Dir, FileKind};

/// How many directories may be inside one another. A limit because each level takes a descriptor, of which a process
/// usually has 1024.
const MAX_DEPTH: usize = 500;
/// Bytes of names that are read at a time for each level.
const BUFFER: usize = 4096;

/// A directory that has been cleaned and whose subdirectories come next.
struct Level {
    dir: Arc<Dir>,
    /// Some of the subdirectories.
    names: Vec<OsString>,
    /// There may be more to read.
    more: bool,
}

impl Level {
    fn new(dir: Arc<Dir>) -> io::Result<Level> {
        dir.rewind()?;
        Ok(Level { dir, names: Vec::new(), more: true })
    }

    fn next(&mut self, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Option<OsString>> {
        while self.names.is_empty() && self.more {
            // Off at once: after an error there is nothing more to be had.
            self.more = false;
            let names = &mut self.names;
            self.more = self.dir.read_some(buffer, |name, kind| {
                if matches!(kind, None | Some(FileKind::Directory)) {
                    names.push(name.to_owned());
                }
            })?;
        }
        Ok(self.names.pop())
    }
}

/// Cleans `root`, and what is below it if the options say so.
pub(super) fn walk(sweep: &mut Sweep<'_>, root: Dir) -> ControlFlow<()> {
    let device = root.id().dev;
    let root = Arc::new(root);
    let mut stack: Vec<Level> = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut entered = Some(root);
    loop {
        if let Some(dir) = entered.take() {
            if sweep.clean(&dir)? && sweep.options.recursive {
                match Level::new(dir.clone()) {
                    Ok(level) => stack.push(level),
                    Err(e) => sweep.failed(Error::io(dir.path(), e))?,
                }
            }
        }
        let Some(level) = stack.last_mut() else { return ControlFlow::Continue(()) };
        match level.next(&mut buffer) {
            Ok(Some(name)) => {
                let (dir, depth) = (level.dir.clone(), stack.len());
                entered = enter(sweep, &dir, &name, device, depth)?;
            }
            Ok(None) => drop(stack.pop()),
            Err(e) => {
                let path = level.dir.path().to_owned();
                sweep.failed(Error::io(path, e))?;
            }
        }
    }
}

/// Opens the subdirectory `name`; `None`: it is not to be entered.
fn enter(
    sweep: &mut Sweep<'_>,
    dir: &Dir,
    name: &OsStr,
    device: u64,
    depth: usize,
) -> ControlFlow<(), Option<Arc<Dir>>> {
    let none = ControlFlow::Continue(None);
    if is_version_control(name) {
        sweep.not_entered(&dir.join(name), "version control")?;
        return none;
    }
    if sweep.options.one_file_system {
        // Before it is opened, which could mount something there.
        match dir.status(name) {
            Ok(Some(status)) if status.kind != FileKind::Directory => return none,
            Ok(Some(status)) if status.mount_root || status.id.dev != device => {
                sweep.not_entered(&dir.join(name), "another file system")?;
                return none;
            }
            Ok(None) => return none,
            Ok(Some(_)) => {}
            Err(e) => {
                sweep.failed(Error::io(dir.join(name), e))?;
                return none;
            }
        }
    }
    if depth >= MAX_DEPTH {
        let reason = format!("Too many directories inside one another (more than {MAX_DEPTH})");
        sweep.failed(Error::new(ErrorKind::Io, reason).on(dir.join(name)))?;
        return none;
    }
    match dir.open_child(name) {
        Ok(child) if sweep.options.one_file_system && child.id().dev != device => none,
        Ok(child) => ControlFlow::Continue(Some(Arc::new(child))),
        // Removed or replaced since its name was read; or, where kinds are not told with the names, no directory.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ESTALE)) => none,
        Err(e) => {
            sweep.failed(Error::io(dir.join(name), e))?;
            none
        }
    }
}
