//! `awrite`: the write applet.
//!
//! ```text
//!   awrite [OPTIONS] OUTPUT                      stdin -> OUTPUT
//!   awrite [OPTIONS] -i FILE OUTPUT              FILE -> OUTPUT
//!   awrite [OPTIONS] OUTPUT -- COMMAND [ARG...]  OUTPUT -> COMMAND -> OUTPUT, the lock held throughout
//!   awrite [OPTIONS] -e OUTPUT... -- COMMAND [ARG...]   COMMAND edits private copies of the OUTPUTs; all, or none
//!   awrite [OPTIONS] --into DIR FILE...          each FILE replaces the one of its name in DIR; all, or none
//! ```

mod edit;
mod into;
mod options;
mod request;
mod source;
mod validation;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;

use awrite::{AtomicFile, Error, ErrorKind, Notice, Remedy, read_all};

use super::common::cannot_run;
use super::flags::{CommandLine, Stop};
use crate::process::{self, Inherited};
use crate::report::{self, exit};
pub(super) use options::GRAMMAR;
use options::Settings;
use request::{Input, Request, check};
use source::{SMALL, Source, same_file};
use validation::ensure_success;

pub(super) fn run(args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Stop> {
    let mut settings = Settings::default();
    // The library accepts empty input by default.
    settings.options.refuse_empty = true;
    let parsed = GRAMMAR.parse(args, &mut settings).map_err(|stop| match stop {
        // A habit from `sed -i`.
        Stop::Usage(reason) if settings.input.is_some() && reason.starts_with("OUTPUT is missing") => {
            Stop::Usage(format!("{reason}; -i names what is read, not what is written"))
        }
        stop => stop,
    })?;
    report::use_style(settings.style);
    let request = check(settings, parsed, inherited)?;
    work(request, inherited)?;
    Ok(exit::SUCCESS)
}

fn work(request: Request, inherited: &Inherited) -> Result<(), Error> {
    process::hold(inherited);
    if let (true, Some(command)) = (request.edit, &request.command) {
        return edit::edit(&request, command, inherited);
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
    let file = AtomicFile::open(&request.output, &request.options)?;
    let source = match source {
        // The input is OUTPUT itself: it may have been replaced before the lock was held.
        Some(source) if same_file(&source.name, &request.output, request.options.lock.follow) => {
            Some(Source::open(&source.name)?)
        }
        source => source,
    };
    let outcome = match &request.command {
        None => transfer(file, source, &request),
        Some(command) => transform(file, source, &request, command, inherited),
    };
    report::end_progress();
    outcome
}

/// Whether OUTPUT's current content must be read and is so much that it may take a while.
fn reads_much(request: &Request) -> bool {
    let options = &request.options;
    (options.append || options.if_changed || options.backup.is_some())
        && std::fs::metadata(&request.output).is_ok_and(|output| output.len() > SMALL)
}

/// Input -> OUTPUT.
fn transfer(mut file: AtomicFile, source: Option<Source>, request: &Request) -> Result<(), Error> {
    let source = match source {
        Some(source) => source,
        None => Source::stdin()?,
    };
    if source.is_terminal() {
        report::reading_terminal();
    }
    if !source.is_ready() || reads_much(request) {
        process::about_to_wait()?;
    }
    // A signal such as ^C also ends the producer in the pipe, and then the input is incomplete.
    if source.is_regular {
        // It is complete; the kernel can share or copy its content.
        process::give_way();
        file.commit_from(source.fd(), &source.name).map(drop)
    } else if request.stream {
        file.fill_from(source.fd(), &source.name)?;
        process::give_way();
        file.commit().map(drop)
    } else {
        let content = read_all(source.fd(), &source.name, &request.options.observer)?;
        process::give_way();
        file.commit_with(&content).map(drop)
    }
}

/// OUTPUT (or input) -> COMMAND -> OUTPUT.
fn transform(
    mut file: AtomicFile,
    source: Option<Source>,
    request: &Request,
    command: &CommandLine,
    inherited: &Inherited,
) -> Result<(), Error> {
    let cannot_run = |e| cannot_run(&command.program, request.output.as_path(), e);
    let stdin = match (source, &request.input) {
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
            return file.fill(output);
        }
        content.try_reserve(output.len()).map_err(|_| out_of_memory(name))?;
        content.extend_from_slice(output);
        Ok(())
    })?;
    let status = child.wait().map_err(cannot_run)?;
    ensure_success(status, "command failed", Some(&request.output))?;
    if bytes == 0 && request.options.refuse_empty {
        // Not with a hint at --allow-empty: it would wipe the file of whoever uses a program that edits files.
        let reason = "COMMAND printed nothing";
        return Err(Error::new(ErrorKind::NoInput, reason).on(&request.output).with_remedy(Remedy::ToStdout));
    }
    if request.stream { file.commit() } else { file.commit_with(&content) }.map(drop)
}

fn out_of_memory(name: &Path) -> Error {
    Error::io(name, io::Error::from_raw_os_error(libc::ENOMEM)).with_remedy(Remedy::Stream)
}
