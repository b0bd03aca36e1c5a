//! Whose a file is that looks like a leftover: this program's, or that of another one that has such names too.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use crate::names::{flat_path, locked_name};
use crate::sys::{Dir, FileKind};

/// Whether the lock file `name` in `dir` is that of an existing target: beside it, or with the target's whole path in the
/// name, as in a directory of lock files. A name that was cut says nothing.
pub(super) fn is_own_lock(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let Some(target) = locked_name(name) else { return Ok(false) };
    if is_file(dir, target)? {
        return Ok(true);
    }
    if !target.as_bytes().starts_with(b"%") {
        return Ok(false);
    }
    Ok(flat_path(target).is_some_and(|path| path.symlink_metadata().is_ok()))
}

/// Whether the file is beside its backup.
pub(super) fn is_own_backup(dir: &Dir, of: &[u8]) -> io::Result<bool> {
    is_file(dir, OsStr::from_bytes(of))
}

fn is_file(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    Ok(dir.status(name)?.is_some_and(|status| status.kind == FileKind::Regular))
}
