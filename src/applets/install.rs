//! `awrite --install DIR`: symbolic links to this program, one for each name of an applet.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use awrite::{Error, ErrorKind};

/// Makes links of all `names` in `dir`, or none. They lead to this program, whose `argv[0]` is `called_as`. With
/// `force` they replace existing files, but no directory, and not this program itself.
pub(super) fn install(names: &[&str], dir: &Path, force: bool, called_as: &OsStr) -> Result<(), Error> {
    let program = program(called_as)?;
    install_to(&program, names, dir, force)
}

fn install_to(program: &Path, names: &[&str], dir: &Path, force: bool) -> Result<(), Error> {
    let status = fs::metadata(program).map_err(|e| Error::io(program, e))?;
    if !fs::metadata(dir).map_err(|e| Error::io(dir, e))?.is_dir() {
        return Err(Error::io(dir, io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    let mut text = program.as_os_str();
    let mut wanted: Vec<PathBuf> = Vec::new();
    for name in names {
        let path = dir.join(name);
        match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => wanted.push(path),
            Err(e) => return Err(Error::io(path, e)),
            Ok(there) if is_same(&there, &status) => {
                // The program itself has this name here. A link in its place would point to itself. The other links
                // contain only this name, so that the directory can be moved.
                text = OsStr::new(*name);
            }
            Ok(there) if there.is_dir() => {
                return Err(Error::io(path, io::Error::from_raw_os_error(libc::EISDIR)));
            }
            Ok(_) if force => wanted.push(path),
            Ok(_) => {
                let error = Error::io(path, io::Error::from_raw_os_error(libc::EEXIST));
                return Err(error.with_hint("use --force to replace it"));
            }
        }
    }
    let mut made: Vec<PathBuf> = Vec::new();
    let outcome = if force { replace(text, &wanted, &mut made) } else { create(text, wanted, &mut made) };
    if outcome.is_err() {
        for path in made {
            // Another error here is ignored: the first one is reported.
            let _ = fs::remove_file(path);
        }
    }
    outcome
}

fn create(text: &OsStr, wanted: Vec<PathBuf>, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    for path in wanted {
        symlink(text, &path).map_err(|e| Error::io(&path, e))?;
        made.push(path);
    }
    Ok(())
}

/// Makes all links under temporary names first. An error (permission, space) then comes before anything was replaced.
fn replace(text: &OsStr, wanted: &[PathBuf], made: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mut pairs = Vec::new();
    for path in wanted {
        let temporary = link_beside(text, path).map_err(|e| Error::io(path, e))?;
        made.push(temporary.clone());
        pairs.push((temporary, path));
    }
    for (temporary, path) in pairs {
        fs::rename(temporary, path).map_err(|e| Error::io(path, e))?;
    }
    Ok(())
}

fn link_beside(text: &OsStr, path: &Path) -> io::Result<PathBuf> {
    let mut attempt = 0_u32;
    loop {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".install-{}-{attempt}", std::process::id()));
        let temporary = path.with_file_name(name);
        match symlink(text, &temporary) {
            Ok(()) => return Ok(temporary),
            // An earlier process with the same process id has left it.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(e) => return Err(e),
        }
    }
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    a.dev() == b.dev() && a.ino() == b.ino()
}

/// The absolute path of the running program.
fn program(called_as: &OsStr) -> Result<PathBuf, Error> {
    let known = std::env::current_exe().ok().filter(|path| path.is_absolute() && path.exists());
    match known.or_else(|| find(called_as)) {
        Some(path) => Ok(path),
        None => Err(Error::new(ErrorKind::Io, "cannot tell where this program is stored")
            .with_hint("call it by its path, or make the links with ln -s")),
    }
}

/// Finds the program by its `argv[0]`, for systems without /proc.
fn find(called_as: &OsStr) -> Option<PathBuf> {
    if called_as.as_bytes().contains(&b'/') {
        return fs::canonicalize(called_as).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(called_as))
        .find(|file| file.is_file())
        .and_then(|file| fs::canonicalize(file).ok())
}
