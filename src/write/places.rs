//! The directories of a set's files.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::hold::Hold;
use crate::error::Result;
use crate::sys::Dir;

/// The directories of a set, and how to get from one to the other.
pub(super) struct Places {
    /// Those of targets and records, each once, with its real path.
    pub(super) dirs: Vec<(Arc<Dir>, PathBuf)>,
}

impl Places {
    pub(super) fn of<'a>(holds: impl Iterator<Item = &'a Hold>) -> Result<Places> {
        let mut places = Places { dirs: Vec::new() };
        for Hold { target, lease, .. } in holds {
            for dir in [&target.dir, &lease.file.dir] {
                if places.path_of(dir).is_none() {
                    let path = if dir.path().as_os_str().is_empty() { Path::new(".") } else { dir.path() };
                    let path = std::fs::canonicalize(path).map_err(|e| target.failed(e))?;
                    places.dirs.push((dir.clone(), path));
                }
            }
        }
        Ok(places)
    }

    fn path_of(&self, dir: &Dir) -> Option<&Path> {
        self.dirs.iter().find(|(other, _)| other.id() == dir.id()).map(|(_, path)| &**path)
    }

    /// The directory of the journal, which is that of the first target, from that of a target.
    pub(super) fn journal_from(&self, hold: &Hold) -> (PathBuf, u64) {
        let Some((home, to)) = self.dirs.first() else { return (PathBuf::new(), 0) };
        let from = self.path_of(&hold.target.dir).unwrap_or(to);
        (relative(from, to), home.id().ino)
    }

    /// Where the records are, from the directory of the journal.
    pub(super) fn records<'a>(&self, holds: impl Iterator<Item = &'a Hold>) -> Vec<PathBuf> {
        let Some((_, from)) = self.dirs.first() else { return Vec::new() };
        let record = |Hold { lease, .. }: &Hold| {
            relative(from, self.path_of(&lease.file.dir).unwrap_or(from)).join(&lease.file.name)
        };
        holds.map(record).collect()
    }
}

/// The way from one directory to another; both paths are real ones.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_between_directories() {
        for (from, to, way) in [
            ("/a/b", "/a/b", ""),
            ("/a/b", "/a/c/d", "../c/d"),
            ("/a", "/", ".."),
            ("/", "/a", "a"),
            ("/a/bb", "/a/b", "../b"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way), "{from} {to}");
        }
    }
}
