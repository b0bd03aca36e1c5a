//! The directories of version control systems. What looks like a lock file there is one, though no process holds it.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::Dir;

/// What a bare git repository has in its first directory. The `.git` of a working tree has it too.
const BARE_REPOSITORY: [&str; 3] = ["HEAD", "objects", "refs"];

/// Whether a directory called `name` belongs to a version control system.
pub(super) fn is_version_control(name: &OsStr) -> bool {
    [".git", ".hg", ".svn"].iter().any(|own| name == *own)
}

/// Which names of a bare git repository a directory has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RepositoryNames([bool; BARE_REPOSITORY.len()]);

impl RepositoryNames {
    pub(super) fn add(&mut self, name: &OsStr) {
        for (found, part) in self.0.iter_mut().zip(BARE_REPOSITORY) {
            *found |= name == part;
        }
    }

    pub(super) fn are_complete(self) -> bool {
        self.0.iter().all(|found| *found)
    }
}

/// Whether `dir` is a bare git repository: asks the file system, where not all names in it have been read.
pub(super) fn is_bare_repository(dir: &Dir) -> bool {
    BARE_REPOSITORY.iter().all(|part| matches!(dir.status(OsStr::new(part)), Ok(Some(_))))
}

/// Refuses to begin in a version control directory, or below one.
pub(super) fn ensure_outside(dir: &Path) -> Result<()> {
    // The parent of a plain name is the empty path.
    let whole = std::fs::canonicalize(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
        .map_err(|e| Error::io(dir, e))?;
    let found = whole.ancestors().any(|above| {
        above.file_name().is_some_and(is_version_control)
            || BARE_REPOSITORY.iter().all(|part| above.join(part).symlink_metadata().is_ok())
    });
    if !found {
        return Ok(());
    }
    let hint = "what looks like a lock file there is one; name another directory";
    Err(Error::new(ErrorKind::Usage, "Is part of a version control directory").on(dir).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parent of a plain name.
    #[test]
    fn the_empty_path_is_the_current_directory() {
        assert!(ensure_outside(Path::new("")).is_ok());
        assert!(ensure_outside(Path::new("missing")).is_err());
    }

    #[test]
    fn bare_repositories() {
        let is_repository = |names: &[&str]| {
            let mut found = RepositoryNames::default();
            names.iter().for_each(|name| found.add(OsStr::new(name)));
            found.are_complete()
        };
        assert!(is_repository(&["config", "refs", "HEAD", "objects"]));
        assert!(!is_repository(&["refs", "HEAD"]));
        assert!(!is_repository(&["refs", "HEAD", "object"]));
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        for part in BARE_REPOSITORY {
            assert!(!is_bare_repository(&dir));
            std::fs::write(place.path().join(part), "").unwrap();
        }
        assert!(is_bare_repository(&dir));
    }
}
