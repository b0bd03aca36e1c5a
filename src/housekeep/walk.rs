//! From directory to directory.
//!
//! The walk uses descriptors and a stack of its own, not paths. Somebody may replace a directory, or one above it, by a
//! symbolic link meanwhile: that must not lead root's cron job elsewhere. And the path of a very deep directory is too
//! long to be opened. Each level takes one descriptor and at most one buffer full of names, whatever the directories
//! contain.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::events::Flow;
use super::sweep::Sweep;
use super::version_control::is_version_control;
use crate::error::{Error, ErrorKind};
use crate::sys::{Dir, FileKind};

/// How many directories may be inside one another. Each level takes a descriptor, and a process usually may have 1024.
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
            // After an error nothing more can be read.
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
pub(super) fn walk(sweep: &mut Sweep<'_>, root: Dir) -> Flow {
    let device = root.id().dev;
    let mut stack: Vec<Level> = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut entered = Some(Arc::new(root));
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
            Err(e) => sweep.failed(Error::io(level.dir.path(), e))?,
        }
    }
}

/// Why a subdirectory is not entered.
enum NotEntered {
    /// It is no directory, or no longer there.
    Gone,
    LeftOut(&'static str),
    Failed(Error),
}

fn enter(sweep: &mut Sweep<'_>, dir: &Dir, name: &OsStr, device: u64, depth: usize) -> Flow<Option<Arc<Dir>>> {
    match open(dir, name, sweep.options.one_file_system.then_some(device), depth) {
        Ok(child) => return ControlFlow::Continue(Some(Arc::new(child))),
        Err(NotEntered::Gone) => {}
        Err(NotEntered::LeftOut(reason)) => sweep.not_entered(&dir.join(name), reason)?,
        Err(NotEntered::Failed(e)) => sweep.failed(e.on(dir.join(name)))?,
    }
    ControlFlow::Continue(None)
}

/// Opens the subdirectory `name`. With `device`, only where it is on that one.
fn open(dir: &Dir, name: &OsStr, device: Option<u64>, depth: usize) -> Result<Dir, NotEntered> {
    let failed = |e: io::Error| NotEntered::Failed(Error::io(dir.path(), e));
    if is_version_control(name) {
        return Err(NotEntered::LeftOut("version control"));
    }
    if let Some(device) = device {
        // Looked at before it is opened, because opening can mount a file system there (autofs).
        let status = dir.status(name).map_err(failed)?.ok_or(NotEntered::Gone)?;
        if status.kind != FileKind::Directory {
            return Err(NotEntered::Gone);
        }
        if status.mount_root || status.id.dev != device {
            return Err(NotEntered::LeftOut("another file system"));
        }
    }
    if depth >= MAX_DEPTH {
        let reason = format!("Too many directories inside one another (more than {MAX_DEPTH})");
        return Err(NotEntered::Failed(Error::new(ErrorKind::Io, reason)));
    }
    let child = dir.open_child(name).map_err(|e| match e.raw_os_error() {
        // Deleted or replaced since its name was read. Or no directory, where names are read without their kinds.
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ESTALE) => NotEntered::Gone,
        _ => failed(e),
    })?;
    if device.is_some_and(|device| child.id().dev != device) { Err(NotEntered::Gone) } else { Ok(child) }
}
