//! `awrite --into DIR FILE...`: each FILE replaces the file of its name in DIR; all, or none.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use awrite::{Error, ErrorKind, Notice, Observer, Remedy, Scratch, Set, Staged, shown};
use rustix::fs::{SeekFrom, seek};
use walkdir::{DirEntry, WalkDir};

use super::super::flags::Stop;
use super::request::Request;
use super::source::SMALL;
use super::validation::{Subject, validate};
use crate::process::{self, Inherited};

/// A file that is to be copied.
struct Source {
    path: PathBuf,
    /// The one that it replaces, relative to DIR.
    name: PathBuf,
    size: u64,
    /// It was named itself; then a link is followed.
    is_operand: bool,
}

/// Returns whether anything has changed.
pub(super) fn into(request: &Request, dir: &Path, inherited: &Inherited) -> Result<bool, Stop> {
    let sources = gather(request, dir)?;
    let total = sources.iter().map(|source| source.size).sum();
    if sources.len() > 1 || total > SMALL || request.validate.is_some() {
        // It may wait for one lock with others held. Nor must long work begin before signals are delivered.
        process::about_to_wait()?;
    }
    process::raise_descriptor_limit();
    let targets: Vec<PathBuf> = sources.iter().map(|source| dir.join(&source.name)).collect();
    let done = Arc::new(AtomicU64::new(0));
    let observer = over_all(request.options.observer.clone(), done.clone(), total);
    let all: Vec<&Path> = targets.iter().map(PathBuf::as_path).collect();
    request.expectations.ensure_about(&all)?;
    let options = |target: &PathBuf| {
        let options = request.options_for(target).observer(observer.clone());
        (target.clone(), options.allow_empty(true))
    };
    let mut set = Set::open_each(&targets.iter().map(options).collect::<Vec<_>>())?;
    if !request.options.allow_empty {
        for (number, source) in sources.iter().enumerate().filter(|(_, source)| source.size == 0) {
            ensure_wipes_nothing(source, &targets[number], set.file(number).original()?)?;
        }
    }
    for (number, source) in sources.iter().enumerate() {
        let (content, facts) = source.open()?;
        let file = set.file(number);
        file.mode_if_new(facts.mode());
        if request.sets_metadata() {
            file.add_fd(&content, &source.path)?;
        } else {
            file.add_if_other(&content, &source.path)?;
        }
        done.fetch_add(source.size, Ordering::Relaxed);
    }
    let committed = set.commit_if(|staged| {
        if let Some(script) = request.validate.as_ref().filter(|_| staged.iter().any(|file| file.changed)) {
            let scratch = all_new_files(staged, &sources, dir)?;
            validate(script, Subject { one: None, dir: Some(scratch.path()) }, inherited)?;
        }
        process::give_way();
        Ok(())
    });
    Ok(committed?.iter().any(|file| file.changed))
}

/// The progress of all files together.
fn over_all(observer: Observer, done: Arc<AtomicU64>, total: u64) -> Observer {
    Observer::new(move |notice| match notice {
        Notice::Progress { bytes, .. } => {
            let bytes = done.load(Ordering::Relaxed) + bytes;
            observer.tell(&Notice::Progress { bytes, total: Some(total.max(bytes)) });
        }
        other => observer.tell(other),
    })
}

/// The files to copy, in the order of the operands, each directory's by name.
fn gather(request: &Request, dir: &Path) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    for path in std::iter::once(&request.output).chain(&request.more) {
        let facts = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if facts.is_dir() {
            ensure_outside(dir, path)?;
            walk(path, &request.options.observer, &mut sources)?;
        } else {
            ensure_regular(path, facts.file_type())?;
            let name = path.file_name().ok_or_else(|| no_file(path, "has no file name"))?.into();
            sources.push(Source { path: path.clone(), name, size: facts.len(), is_operand: true });
        }
    }
    let mut names = BTreeMap::new();
    for source in &sources {
        // As bytes: to compare paths piece by piece takes many times as long.
        if let Some(other) = names.insert(source.name.as_os_str(), &source.path) {
            let reason = format!("would replace {}, as {} would", shown(&dir.join(&source.name)), shown(other));
            return Err(Error::new(ErrorKind::Usage, reason).on(&source.path));
        }
    }
    match sources.is_empty() {
        true => Err(Error::new(ErrorKind::NoInput, "No files in it").on(&request.output)),
        false => Ok(sources),
    }
}

/// The files below `root`. Links are not followed: a link may lead out of the tree, and what it means in DIR cannot be
/// known.
fn walk(root: &Path, observer: &Observer, sources: &mut Vec<Source>) -> Result<(), Error> {
    // By name, since those that are compared are in one directory.
    let by_name = |a: &DirEntry, b: &DirEntry| a.path().as_os_str().cmp(b.path().as_os_str());
    for entry in WalkDir::new(root).sort_by(by_name) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(root).to_owned();
            // walkdir names the path too.
            let errno = e.io_error().and_then(io::Error::raw_os_error).unwrap_or(libc::EIO);
            Error::io(path, io::Error::from_raw_os_error(errno))
        })?;
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.is_dir() {
            continue;
        }
        if is_of_awrite(path, kind) {
            observer.tell(&Notice::Info { path, text: "left out: awrite made it" });
            continue;
        }
        ensure_regular(path, kind)?;
        let name = path.strip_prefix(root).map_err(|_| no_file(path, "is not in the directory"))?.to_owned();
        let size = fs::symlink_metadata(path).map_err(|e| Error::io(path, e))?.len();
        sources.push(Source { path: path.to_owned(), name, size, is_operand: false });
    }
    Ok(())
}

/// Whether it is a temporary file, a lock file or a lease of awrite: not a part of what the tree is for, and in DIR it
/// would lock another file.
fn is_of_awrite(path: &Path, kind: FileType) -> bool {
    let name = path.file_name().unwrap_or_default();
    let is_beside = |suffix: &str| path.extension() == Some(OsStr::new(suffix)) && path.with_extension("").is_file();
    let is_empty = || fs::symlink_metadata(path).is_ok_and(|facts| facts.len() == 0);
    kind.is_file()
        && (name.as_encoded_bytes().starts_with(b".awrite-") || is_beside("lease") || (is_beside("lock") && is_empty()))
}

impl Source {
    /// Opens it, and makes sure again that it is a file: it may have been replaced since it was found.
    fn open(&self) -> Result<(File, Metadata), Error> {
        let failed = |e: io::Error| Error::io(&self.path, e);
        let follow = if self.is_operand { 0 } else { libc::O_NOFOLLOW };
        let mut how = OpenOptions::new();
        let file = how.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | follow).open(&self.path);
        let file = file.map_err(failed)?;
        let facts = file.metadata().map_err(failed)?;
        ensure_regular(&self.path, facts.file_type())?;
        Ok((file, facts))
    }
}

/// A producer that failed leaves an empty file. It must not wipe another; a new file may be empty.
fn ensure_wipes_nothing(source: &Source, target: &Path, original: Option<File>) -> Result<(), Error> {
    let Some(original) = original else { return Ok(()) };
    match original.metadata().map_err(|e| Error::io(target, e))?.len() {
        0 => Ok(()),
        _ => {
            let reason = format!("is empty, and {} is not", shown(target));
            Err(Error::new(ErrorKind::NoInput, reason).on(&source.path).with_remedy(Remedy::AllowEmpty))
        }
    }
}

/// DIR may not be what is copied, nor in it.
fn ensure_outside(dir: &Path, root: &Path) -> Result<(), Error> {
    let (Ok(dir), Ok(inside)) = (dir.canonicalize(), root.canonicalize()) else { return Ok(()) };
    if !dir.starts_with(inside) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("contains {}, which its files are for", shown(&dir))).on(root))
}

fn ensure_regular(path: &Path, kind: FileType) -> Result<(), Error> {
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_symlink() => {
            let hint = "name it, or what it points to, as an operand of its own";
            return Err(no_file(path, "is a symbolic link, which --into does not copy").with_hint(hint));
        }
        kind if kind.is_fifo() => "is a FIFO, not a regular file",
        kind if kind.is_socket() => "is a socket, not a regular file",
        kind if kind.is_dir() => "is a directory by now",
        _ => "is a device, not a regular file",
    };
    Err(no_file(path, what))
}

fn no_file(path: &Path, reason: &str) -> Error {
    Error::new(ErrorKind::NotAFile, reason).on(path)
}

/// A private directory with all files as they will be, under their names, for the command of `--validate`.
fn all_new_files(staged: &[Staged<'_>], sources: &[Source], dir: &Path) -> Result<Scratch, Error> {
    let scratch = Scratch::new(dir)?;
    for (file, source) in staged.iter().zip(sources) {
        let failed = |e: io::Error| Error::io(file.target, e).during("cannot copy it for --validate");
        let put = |content: &File| {
            seek(content, SeekFrom::Start(0))?;
            scratch.put(&source.name, content, 0o600)
        };
        match file.new {
            Some(new) => put(new).map_err(failed)?,
            None => put(&source.open()?.0).map_err(failed)?,
        }
    }
    Ok(scratch)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn progress_is_about_all_files() {
        let (seen, done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let told = seen.clone();
        let observer = Observer::new(move |notice| match notice {
            Notice::Progress { bytes, total } => told.lock().unwrap().push((*bytes, *total)),
            other => panic!("{other:?}"),
        });
        let observer = over_all(observer, done.clone(), 10);
        observer.tell(&Notice::Progress { bytes: 4, total: Some(4) });
        done.fetch_add(4, Ordering::Relaxed);
        observer.tell(&Notice::Progress { bytes: 6, total: None });
        // A file that has grown meanwhile.
        observer.tell(&Notice::Progress { bytes: 7, total: None });
        assert_eq!(*seen.lock().unwrap(), [(4, Some(10)), (10, Some(10)), (11, Some(11))]);
    }

    #[test]
    fn what_awrite_makes_is_known() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["f", "f.lock", "f.lease", "g.lock", ".awrite-00000000.f", ".awrite-set-1"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::write(dir.path().join("h"), "").unwrap();
        fs::write(dir.path().join("h.lock"), "content").unwrap();
        let left_out = |name: &str| {
            let path = dir.path().join(name);
            is_of_awrite(&path, fs::symlink_metadata(&path).unwrap().file_type())
        };
        for name in ["f.lock", "f.lease", ".awrite-00000000.f", ".awrite-set-1"] {
            assert!(left_out(name), "{name}");
        }
        for name in ["f", "g.lock", "h", "h.lock"] {
            assert!(!left_out(name), "{name}");
        }
    }
}
