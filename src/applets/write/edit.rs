//! `awrite -e OUTPUT... -- COMMAND`: COMMAND edits private copies of the OUTPUTs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use awrite::{AtomicFile, Error, ErrorKind, HandOver, Notice, Remedy, Scratch, Set};

use super::super::common::cannot_run;
use super::super::flags::CommandLine;
use super::request::Request;
use super::validation::{DIR, Subject, ensure_success, validate, validation};
use crate::process::{self, Inherited};

/// The copy of one OUTPUT.
struct Copy<'a> {
    output: &'a Path,
    /// Relative to the private directory.
    name: PathBuf,
    /// The length of OUTPUT; `None`: it does not exist, and has no copy.
    size: Option<u64>,
}

/// Returns whether anything has changed.
pub(super) fn edit(request: &Request, command: &CommandLine, inherited: &Inherited) -> Result<bool, Error> {
    if request.validate.is_some() || !request.more.is_empty() {
        // This starts a thread, which must not fail under the lock. With several it may wait for one lock with others held.
        process::about_to_wait()?;
    }
    if request.more.is_empty() {
        edit_one(request, command, inherited)
    } else {
        edit_several(request, command, inherited)
    }
}

fn edit_one(request: &Request, command: &CommandLine, inherited: &Inherited) -> Result<bool, Error> {
    let output = &request.output;
    let mut options = request.options_for(output);
    // The check may look into the directory, which is made once the lock is held.
    let dir = Arc::new(OnceLock::new());
    options.check = request.validate.clone().map(|script| validation(script, *inherited, dir.clone()));
    let mut file = AtomicFile::open(output, &options)?;
    let scratch = Scratch::new(output)?;
    dir.get_or_init(|| scratch.path().to_owned());
    let copy = Copy::of(output, names(&[output]).remove(0), file.original()?, &scratch)?;
    file.watch();
    let lock = file.hand_over()?;
    run(command, std::slice::from_ref(&copy), &scratch, vec![lock], inherited)?;
    match copy.edited(&scratch, options.allow_empty)? {
        Some(new) => {
            file.mode_if_new(new.mode);
            let committed = file.commit_fd(&new.content, &scratch.path().join(&copy.name));
            committed.map(|done| done.changed).map_err(edited_itself)
        }
        None => {
            copy.tell_if_absent(request);
            if copy.size.is_some() {
                // Empty, as before.
                let took = request.started.elapsed();
                let (target, backup, digest) = (&**output, None, None);
                let unchanged = Notice::Committed { target, bytes: 0, changed: false, backup, digest, took };
                request.options.observer.tell(&unchanged);
            }
            Ok(false)
        }
    }
}

fn edit_several(request: &Request, command: &CommandLine, inherited: &Inherited) -> Result<bool, Error> {
    let outputs: Vec<&PathBuf> = std::iter::once(&request.output).chain(&request.more).collect();
    process::raise_descriptor_limit();
    // What may be empty is decided below.
    let options = |output: &PathBuf| (output.clone(), request.options_for(output).allow_empty(true));
    let mut set = Set::open_each(&outputs.iter().map(|output| options(output)).collect::<Vec<_>>())?;
    let scratch = Scratch::new(outputs[0])?;
    let mut copies = Vec::with_capacity(outputs.len());
    for (number, name) in names(&outputs).into_iter().enumerate() {
        copies.push(Copy::of(outputs[number], name, set.file(number).original()?, &scratch)?);
    }
    set.watch();
    let locks = set.hand_over()?;
    run(command, &copies, &scratch, locks, inherited)?;
    let mut edited = Vec::with_capacity(copies.len());
    for copy in &copies {
        edited.push(copy.edited(&scratch, request.options.allow_empty)?);
    }
    for (number, new) in edited.into_iter().enumerate() {
        match new {
            Some(new) => {
                let (file, name) = (set.file(number), scratch.path().join(&copies[number].name));
                file.mode_if_new(new.mode);
                if request.sets_metadata() {
                    file.add_fd(&new.content, &name)?;
                } else {
                    file.add_if_other(&new.content, &name)?;
                }
            }
            None => copies[number].tell_if_absent(request),
        }
    }
    let committed = set.commit_if(|staged| {
        if let Some(script) = request.validate.as_ref().filter(|_| staged.iter().any(|file| file.changed)) {
            validate(script, Subject { one: None, dir: Some(scratch.path()) }, inherited)?;
        }
        process::give_way();
        Ok(())
    });
    committed.map(|done| done.iter().any(|file| file.changed)).map_err(edited_itself)
}

const EDIT_THE_COPIES: &str = "COMMAND is to work on the paths that its last arguments name";

/// COMMAND has edited OUTPUT and not the copy.
fn edited_itself(error: Error) -> Error {
    match error.remedy() {
        Some(Remedy::ToStdout) => error.with_hint(EDIT_THE_COPIES),
        _ => error,
    }
}

/// Runs COMMAND with the paths of the copies behind its own arguments.
fn run(
    command: &CommandLine,
    copies: &[Copy<'_>],
    scratch: &Scratch,
    locks: Vec<HandOver>,
    inherited: &Inherited,
) -> Result<(), Error> {
    let only = <&[_; 1]>::try_from(copies).ok().map(|[copy]| copy.output);
    let mut child = command.to_command();
    child.args(copies.iter().map(|copy| scratch.path().join(&copy.name))).env(DIR, scratch.path());
    process::hand_locks(&mut child, &locks);
    let status = process::supervise_step(child, inherited).map_err(|e| {
        let too_many = e.raw_os_error() == Some(libc::E2BIG) && only.is_none();
        let error = cannot_run(&command.program, only, e);
        // execve(2): one string, such as the variable with all locks, has at most 128 KiB.
        if too_many { error.with_hint("a COMMAND can get some 1,500 files; --into takes more") } else { error }
    })?;
    drop(locks);
    ensure_success(status, "command failed", only)
}

/// What COMMAND has made of a copy.
struct Edited {
    content: File,
    mode: u32,
}

impl Copy<'_> {
    /// Makes the copy of `output`, whose content is `original`.
    fn of<'a>(output: &'a Path, name: PathBuf, original: Option<File>, scratch: &Scratch) -> Result<Copy<'a>, Error> {
        let failed = |e: io::Error| Error::io(output, e).during("cannot copy it for COMMAND");
        let Some(original) = original else {
            scratch.make_dir_of(&name).map_err(failed)?;
            return Ok(Copy { output, name, size: None });
        };
        let facts = original.metadata().map_err(failed)?;
        // Nobody else can enter the directory. What is read-only would keep an editor from saving.
        let mode = facts.mode() & 0o777 | 0o600;
        scratch.put(&name, &original, mode).map_err(|e| {
            let full = matches!(e.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG));
            let error = failed(e);
            if full { error.with_hint("set TMPDIR to a directory with enough space") } else { error }
        })?;
        Ok(Copy { output, name, size: Some(facts.len()) })
    }

    /// What COMMAND has left under the name of the copy. `None`: OUTPUT is to stay as it is, absent or empty.
    fn edited(&self, scratch: &Scratch, allow_empty: bool) -> Result<Option<Edited>, Error> {
        let refused = |reason: &str| Error::new(ErrorKind::Refused, reason).on(self.output);
        let found = scratch.open(&self.name).map_err(|e| match e.kind() {
            ErrorKind::NotAFile => refused("COMMAND left something else than a regular file in place of its copy"),
            _ => e.on(self.output),
        })?;
        let Some(new) = found else {
            return match self.size {
                Some(_) => Err(refused("COMMAND removed its copy").with_hint("to delete files is not what -e is for")),
                // It may have made OUTPUT itself.
                None if self.output.exists() => {
                    Err(refused("COMMAND made this file itself").with_hint(EDIT_THE_COPIES))
                }
                None => Ok(None),
            };
        };
        let facts = new.metadata().map_err(|e| Error::io(self.output, e))?;
        match (facts.len(), self.size) {
            (0, Some(0)) => Ok(None),
            (0, _) if !allow_empty => Err(Error::new(ErrorKind::NoInput, "COMMAND left it empty")
                .on(self.output)
                .with_remedy(Remedy::AllowEmpty)),
            _ => Ok(Some(Edited { content: new, mode: facts.mode() })),
        }
    }

    fn tell_if_absent(&self, request: &Request) {
        if self.size.is_none() {
            request.options.observer.tell(&Notice::Info { path: self.output, text: "COMMAND made no such file" });
        }
    }
}

/// The names of the copies of `outputs`: their base names. Those that would collide get a numbered directory each.
fn names(outputs: &[&PathBuf]) -> Vec<PathBuf> {
    let base = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let all: Vec<OsString> = outputs.iter().map(|path| base(path)).collect();
    let mut free = (1_u64..).map(|number| OsString::from(number.to_string())).filter(|number| !all.contains(number));
    let is_alone = |name: &OsStr| all.iter().filter(|other| *other == name).count() == 1;
    all.iter()
        .map(|name| match is_alone(name) {
            true => PathBuf::from(name),
            false => Path::new(&free.next().unwrap_or_default()).join(name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_copies() {
        let of = |outputs: &[&str]| {
            let outputs: Vec<PathBuf> = outputs.iter().map(PathBuf::from).collect();
            let names = names(&outputs.iter().collect::<Vec<_>>());
            names.iter().map(|name| name.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of(&["d/f"]), ["f"]);
        assert_eq!(of(&["a/f", "g", "b/f"]), ["1/f", "g", "2/f"]);
        assert_eq!(of(&["a/f", "1", "b/f", "x/3"]), ["2/f", "1", "4/f", "3"]);
    }
}
