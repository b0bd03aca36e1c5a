//! `awrite`: the write applet.
//!
//! ```text
//!   awrite [OPTIONS] OUTPUT                      stdin -> OUTPUT
//!   awrite [OPTIONS] -i FILE OUTPUT              FILE -> OUTPUT
//!   awrite [OPTIONS] OUTPUT -- COMMAND [ARG...]  OUTPUT -> COMMAND -> OUTPUT, the lock held throughout
//!   awrite [OPTIONS] -e OUTPUT... -- COMMAND [ARG...]   COMMAND edits private copies of the OUTPUTs; all, or none
//!   awrite [OPTIONS] --into DIR FILE...          each FILE replaces the one of its name in DIR; all, or none
//!   awrite --digest FILE                         prints what --if-match takes
//! ```

mod edit;
mod expectations;
mod into;
mod options;
mod request;
mod source;
mod validation;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;

use awrite::{AtomicFile, Committed, Error, ErrorKind, Expect, Notice, Remedy, digest, read_all};

use super::common::{self, cannot_run};
use super::flags::{CommandLine, Stop};
use crate::process::{self, Inherited};
use crate::report::{self, exit};
pub(super) use options::GRAMMAR;
use options::Settings;
use request::{Input, Request, check, to_digest};
use source::{SMALL, Source, same_file};
use validation::ensure_success;

pub(super) fn run(args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Stop> {
    let mut settings = Settings::default();
    let parsed = GRAMMAR.parse(args, &mut settings).map_err(|stop| match stop {
        // A habit from `sed -i`.
        Stop::Usage(reason) if settings.input.is_some() && reason.starts_with("OUTPUT is missing") => {
            Stop::Usage(format!("{reason}; -i names what is read, not what is written"))
        }
        stop => stop,
    })?;
    common::use_style(settings.style)?;
    if settings.digest {
        let digest = digest(to_digest(parsed)?)?;
        report::print(&format!("{digest}\n"))?;
        return Ok(exit::SUCCESS);
    }
    let request = check(settings, parsed, inherited)?;
    let unchanged = request.unchanged_status;
    let changed = work(request, inherited)?;
    Ok(if changed { exit::SUCCESS } else { unchanged })
}

/// Returns whether anything has changed.
fn work(request: Request, inherited: &Inherited) -> Result<bool, Stop> {
    process::hold(inherited);
    if request.asks_store() {
        process::about_to_wait()?;
    }
    if let (true, Some(command)) = (request.edit, &request.command) {
        return Ok(edit::edit(&request, command, inherited)?);
    }
    if let Some(dir) = &request.into {
        let outcome = into::into(&request, dir, inherited);
        report::end_progress();
        return outcome;
    }
    // Before the lock, so that a missing file is reported without waiting.
    let source = match &request.input {
        Some(Input::File(path)) => {
            if !path.is_file() {
                // Opening a FIFO waits for its writer.
                process::about_to_wait()?;
            }
            Some(Source::open(path)?)
        }
        Some(Input::Stdin) | None => None,
    };
    if compares_much(&request) {
        process::about_to_wait()?;
    }
    let outcome = match &request.command {
        None => transfer(source.map_or_else(Source::stdin, Ok)?, &request),
        Some(command) => transform(source, &request, command, inherited),
    };
    report::end_progress();
    Ok(outcome?.changed)
}

/// The source of a request whose input is OUTPUT itself, which may have been replaced before the lock was held.
fn opened_again(request: &Request) -> Result<Option<Source>, Error> {
    match &request.input {
        Some(Input::File(path)) if same_file(path, &request.output, request.options.lock.follow) => {
            Source::open(path).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether OUTPUT's current content must be read and is so much that it may take a while.
fn reads_much(request: &Request) -> bool {
    let options = &request.options;
    (options.append || options.if_changed || options.backup.is_some() || options.expect.is_some())
        && is_large(&request.output)
}

/// Whether it takes a while to find out whether OUTPUT is what is expected.
fn compares_much(request: &Request) -> bool {
    match &request.options.expect {
        None => false,
        // Opening a FIFO waits for its writer.
        Some(Expect::SameAs(copy)) => !copy.is_file() || is_large(copy) || is_large(&request.output),
        Some(_) => is_large(&request.output),
    }
}

fn is_large(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > SMALL)
}

/// Whether this waits for somebody else with something in place that must be removed: the lock, or a stage before it.
fn may_wait(source: &Source, request: &Request) -> bool {
    let options = &request.options;
    !source.is_ready() || options.check.is_some() || (options.lock_on_commit && request.stream) || reads_much(request)
}

/// Input -> OUTPUT.
fn transfer(source: Source, request: &Request) -> Result<Committed, Error> {
    if may_wait(&source, request) {
        process::about_to_wait()?;
    }
    let mut file = AtomicFile::open(&request.output, &request.options)?;
    let source = opened_again(request)?.unwrap_or(source);
    if source.is_terminal() {
        report::reading_terminal();
    }
    // A signal such as ^C also ends the producer in the pipe, and then the input is incomplete.
    if source.is_regular {
        // It is complete; the kernel can share or copy its content.
        process::give_way();
        file.commit_fd(source.fd(), &source.name)
    } else if request.stream {
        file.add_fd(source.fd(), &source.name)?;
        process::give_way();
        file.commit()
    } else {
        let content = read_all(source.fd(), &source.name, &request.options.observer)?;
        process::give_way();
        file.commit_with(&content)
    }
}

/// OUTPUT (or input) -> COMMAND -> OUTPUT.
fn transform(
    source: Option<Source>,
    request: &Request,
    command: &CommandLine,
    inherited: &Inherited,
) -> Result<Committed, Error> {
    let cannot_run = |e| cannot_run(&command.program, request.output.as_path(), e);
    process::about_to_wait()?;
    let mut file = AtomicFile::open(&request.output, &request.options)?;
    let stdin = match (opened_again(request)?.or(source), &request.input) {
        (Some(source), _) => source.into_stdio(),
        (None, Some(_)) => Stdio::inherit(),
        (None, None) => match file.original()? {
            Some(original) => original.into(),
            None => process::empty_input().map_err(cannot_run)?.into(),
        },
    };
    let mut child = command.to_command();
    child.stdin(stdin).stdout(Stdio::piped());
    file.watch();
    let lock = file.hand_over()?;
    process::hand_lock(&mut child, &lock);
    let mut child = process::start(child, inherited).map_err(cannot_run)?;
    drop(lock);
    // From here on, the child's Drop ends it on every way out that does not wait for it.
    let name = Path::new(&command.program);
    let mut content = Vec::new();
    let mut bytes = 0;
    child.read_output(name, |output| {
        bytes += output.len() as u64;
        request.options.observer.tell(&Notice::Progress { bytes, total: None });
        if request.stream {
            return file.add(output);
        }
        content.try_reserve(output.len()).map_err(|_| out_of_memory(name))?;
        content.extend_from_slice(output);
        Ok(())
    })?;
    let status = child.wait().map_err(cannot_run)?;
    ensure_success(status, "command failed", Some(&request.output))?;
    if bytes == 0 && !request.options.allow_empty {
        // Not with a hint at --allow-empty: it would wipe the file of whoever uses a program that edits files.
        let reason = "COMMAND printed nothing";
        return Err(Error::new(ErrorKind::NoInput, reason).on(&request.output).with_remedy(Remedy::ToStdout));
    }
    if request.stream { file.commit() } else { file.commit_with(&content) }
}

fn out_of_memory(name: &Path) -> Error {
    Error::io(name, io::Error::from_raw_os_error(libc::ENOMEM)).with_remedy(Remedy::Stream)
}
