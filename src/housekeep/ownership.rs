//! Whose a file is that looks like a leftover: this program's, or that of another one that has such names too.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use crate::names::{cut_hash, flat_path, fnv1a, locked_name};
use crate::sys::{Dir, FileKind};

/// The regular files that were seen in a directory, as far as they are remembered: by the hashes of their names. Two names
/// with one hash cannot be told apart. Who could make a file with such a name could make the other one, too.
#[derive(Default)]
pub(super) struct Files(Vec<u64>);

impl Files {
    pub(super) fn add(&mut self, name: &OsStr) {
        self.0.push(fnv1a(name.as_bytes()));
    }

    /// To be called when all have been added.
    pub(super) fn sort(&mut self) {
        self.0.sort_unstable();
    }

    pub(super) fn size(&self) -> usize {
        self.0.len() * size_of::<u64>()
    }

    fn have(&self, hash: u64) -> bool {
        self.0.binary_search(&hash).is_ok()
    }
}

/// Whether the lock file `name` in `dir` is that of an existing target: beside it, or with the target's whole path in the
/// name, as in a directory of lock files. `seen` saves a system call for most of them. The target of a name that was cut
/// is found among these only.
pub(super) fn is_own_lock(dir: &Dir, name: &OsStr, seen: &Files) -> io::Result<bool> {
    let Some(target) = locked_name(name) else { return Ok(cut_hash(name).is_some_and(|hash| seen.have(hash))) };
    if seen.have(fnv1a(target.as_bytes())) {
        return Ok(true);
    }
    let is_flat = target.as_bytes().starts_with(b"%");
    if is_flat && flat_path(target).is_some_and(|path| path.symlink_metadata().is_ok()) {
        return Ok(true);
    }
    is_file(dir, target)
}

/// Whether the file is beside its backup.
pub(super) fn is_own_backup(dir: &Dir, of: &[u8]) -> io::Result<bool> {
    is_file(dir, OsStr::from_bytes(of))
}

fn is_file(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    Ok(dir.status(name)?.is_some_and(|status| status.kind == FileKind::Regular))
}
