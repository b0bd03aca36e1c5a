//! Several files that are replaced together.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::expected::Expected;
use super::hold::{ensure_replaceable, resolve};
use super::sequence::Committed;
use super::together::{self, Staged};
use super::{AtomicFile, Phase};
use crate::backup;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Purpose, Shared, Standing, Visitor, lock_targets};
use crate::lock::{HandOver, Place};
use crate::options::{Durability, LockOptions, WriteOptions};
use crate::remedy::Remedy;
use crate::target::Target;

/// Several files that are replaced together, or none.
///
/// [`open`](Set::open) takes all their locks, in an order that is the same for every caller. What is then written to
/// [`file(i)`](Set::file) is staged; [`commit`](Set::commit) has one commit point for all. A crash before it leaves every
/// file as it was. After a crash behind it, whoever takes the lock of one of the files finishes the work first. So
/// whoever holds the locks sees all the old contents, or all the new ones.
///
/// Files to which nothing was written are left alone, and so are those whose content is the same as before.
///
/// Dropping the value without a commit leaves every file as it was.
///
/// ```
/// use std::io::Write;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let (passwd, shadow) = (dir.path().join("passwd"), dir.path().join("shadow"));
/// let mut set = awrite::Set::open(&[&passwd, &shadow], &awrite::WriteOptions::default())?;
/// writeln!(set.file(0), "root:x:0:0::/root:/bin/sh")?;
/// writeln!(set.file(1), "root:*:19000:0:99999:7:::")?;
/// let committed = set.commit()?;
/// assert!(committed.iter().all(|file| file.changed));
/// # assert!(passwd.exists() && shadow.exists());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it aborts the write"]
pub struct Set {
    files: Vec<AtomicFile>,
}

impl Set {
    /// Takes the locks of all `paths`, or none. [`LockOptions::wait`] is about all of them together.
    ///
    /// # Errors
    ///
    /// As [`AtomicFile::open`], for any of them. [`ErrorKind::Usage`]: two of them are the same file; the options ask for
    /// something that a set cannot do ([`lock_on_commit`](WriteOptions::lock_on_commit),
    /// [`in_place`](WriteOptions::in_place), [`keep_inode`](WriteOptions::keep_inode), [`check`](WriteOptions::check));
    /// or the files are not all on one file system. Nothing has been changed then.
    pub fn open(paths: &[impl AsRef<Path>], options: &WriteOptions) -> Result<Set> {
        let files: Vec<_> = paths.iter().map(|path| (path.as_ref().to_owned(), options.clone())).collect();
        Set::open_each(&files)
    }

    /// The same with options for each file. [`WriteOptions::lock`] and [`WriteOptions::observer`] of the first are for all.
    ///
    /// # Errors
    ///
    /// As [`Set::open`].
    pub fn open_each(files: &[(PathBuf, WriteOptions)]) -> Result<Set> {
        let started = Instant::now();
        let Some((_, first)) = files.first() else { return Ok(Set { files: Vec::new() }) };
        for (path, options) in files {
            ensure_possible(path, options)?;
        }
        let lock = LockOptions { shared: false, ..first.lock.clone() };
        let refuse = |number: usize, target: &Target, place: &Place| {
            let options = &files[number].1;
            if options.durability != Durability::None && files.len() > 1 {
                ensure_recoverable(target, place)?;
            }
            ensure_replaceable(target, place, options).map_err(|e| match e.remedy() {
                Some(Remedy::InPlace) => e.with_hint("it can only be overwritten in place, and so only by itself"),
                _ => e,
            })
        };
        let mkdir = files.iter().any(|(_, options)| options.mkdir);
        let (how, visitor) = (crate::target::Resolve { mkdir, ..resolve(first) }, Visitor::of(&lock));
        let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
        let all = lock_targets(&paths, how, &lock, &visitor, &first.observer, Purpose::Replace, &refuse)?;
        let (mut opened, mut shared) = (Vec::with_capacity(files.len()), Shared::default());
        for ((target, place, lock), (_, options)) in all.into_iter().zip(files) {
            let mut options = options.clone();
            (options.lock, options.observer) = (first.lock.clone(), first.observer.clone());
            options.if_changed = true;
            let expected = options.expect.as_ref().map(|expect| Expected::compare(expect, &target)).transpose()?;
            let lease = Standing::find(place.lease, &target, &options.lock, &mut shared)?;
            let phase = Phase::Held { lock, lease, expected };
            opened.push(AtomicFile::new(phase, target, options, false, started));
        }
        Ok(Set { files: opened })
    }

    /// The files, to be passed around one by one.
    #[cfg(feature = "capi")]
    pub(crate) fn into_files(self) -> Vec<AtomicFile> {
        self.files
    }

    /// The set of all that [`Set::into_files`] has returned.
    #[cfg(feature = "capi")]
    pub(crate) fn of_files(files: Vec<AtomicFile>) -> Set {
        Set { files }
    }

    /// How many files it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether it has no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// File number `number`, in the order of the paths: to write to, and to read the current content of.
    ///
    /// # Panics
    ///
    /// There is no such file.
    pub fn file(&mut self, number: usize) -> &mut AtomicFile {
        &mut self.files[number]
    }

    /// What to give a child process that works with the files under their locks: see [`AtomicFile::hand_over`].
    ///
    /// # Errors
    ///
    /// A lock's descriptor cannot be copied.
    pub fn hand_over(&self) -> Result<Vec<HandOver>> {
        self.files.iter().map(AtomicFile::hand_over).collect()
    }

    /// Makes it an error of the commit if anybody else has changed one of the files: see [`AtomicFile::watch`].
    pub fn watch(&mut self) {
        self.files.iter_mut().for_each(AtomicFile::watch);
    }

    /// Replaces all the files by what was written to them, and releases the locks. The results are in the order of the
    /// paths.
    ///
    /// # Errors
    ///
    /// All files are as before, except with [`ErrorKind::NotDurable`]: then the set is committed, and the files have their
    /// new contents or get them as soon as anybody takes their locks.
    pub fn commit(self) -> Result<Vec<Committed>> {
        self.commit_if(|_| Ok(()))
    }

    /// The same, if `accept` accepts it. It is called once, when all has been staged and nothing has been replaced, with
    /// all the files in the order of the paths.
    ///
    /// # Errors
    ///
    /// That of `accept`; all files are as before then. Otherwise as [`Set::commit`].
    pub fn commit_if(self, accept: impl FnOnce(&[Staged<'_>]) -> Result<()>) -> Result<Vec<Committed>> {
        together::commit(self.files, accept)
    }
}

/// Refuses to keep the records where a power cut does something else to them than to the files.
fn ensure_recoverable(target: &Target, place: &Place) -> Result<()> {
    if place.lease.dir.id().dev == target.dir.id().dev {
        return Ok(());
    }
    let reason = "the directory for lock files is on another file system than the files to replace together";
    Err(Error::new(ErrorKind::Usage, reason)
        .on(place.lease.dir.path())
        .with_hint("after a power cut one would know nothing of the other: choose a directory beside the files"))
}

/// Refuses what a set cannot do.
fn ensure_possible(path: &Path, options: &WriteOptions) -> Result<()> {
    let why = if options.lock_on_commit {
        "the locks of several files cannot be taken at the commit only"
    } else if options.may_overwrite() {
        "several files are replaced together by renaming: none of them can be overwritten in place"
    } else if options.check.is_some() {
        "several files are checked together, not one by one"
    } else {
        return options.backup.as_ref().map_or(Ok(()), |backup| backup::ensure_nameable(backup, options.mkdir));
    };
    Err(Error::new(ErrorKind::Usage, why).on(path))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_written_behind_another_content_may_make_it_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, content) in [("a", "ab"), ("b", "ab"), ("c", "ab"), ("one", "a"), ("two", "ab")] {
            fs::write(path(name), content).unwrap();
        }
        let [one, two] = ["one", "two"].map(|name| File::open(path(name)).unwrap());
        let mut set = Set::open(&[path("a"), path("b"), path("c")], &WriteOptions::default()).unwrap();
        assert_eq!((set.len(), set.is_empty()), (3, false));
        assert!(Set::open(&[] as &[PathBuf; 0], &WriteOptions::default()).unwrap().is_empty());
        assert!(set.file(0).add_if_other(&one, &path("one")).unwrap());
        assert!(set.file(1).add_if_other(&one, &path("one")).unwrap());
        set.file(1).write_all(b"b").unwrap();
        assert!(!set.file(2).add_if_other(&two, &path("two")).unwrap());
        let changed: Vec<bool> = set.commit().unwrap().iter().map(|file| file.changed).collect();
        assert_eq!(changed, [true, false, false]);
        assert_eq!(fs::read_to_string(path("a")).unwrap(), "a");
        assert_eq!(fs::read_to_string(path("b")).unwrap(), "ab");
    }

    #[test]
    fn a_check_sees_what_is_there_and_what_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a"), "old").unwrap();
        let mut set = Set::open(&[path("a"), path("b")], &WriteOptions::default()).unwrap();
        set.file(0).write_all(b"new a").unwrap();
        set.file(1).write_all(b"new b").unwrap();
        let mut seen = Vec::new();
        let read = |file: Option<File>| file.map(|file| std::io::read_to_string(file).unwrap());
        set.commit_if(|staged| {
            for file in staged {
                let new = file.new.map(|file| file.metadata().unwrap().len());
                seen.push((read(file.current()?), new, file.changed));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(Some("old".to_owned()), Some(5), true), (None, Some(5), true)]);
    }
}
