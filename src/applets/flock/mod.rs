//! `flock`, for images without util-linux: options, messages and exit codes are those of flock(1) in util-linux 2.38.
//!
//! ```text
//!   flock [options] FILE|DIRECTORY COMMAND [ARGUMENT...]
//!   flock [options] FILE|DIRECTORY -c SCRIPT
//!   flock [options] N                                      an open descriptor of the caller
//! ```
//!
//! The operand is the lock file itself, which is not so in awrite-lock, and it is never removed. Two things are better
//! than in util-linux. If the holder removes the lock file while this process waits for it, the file is opened again;
//! so this works beside awrite, which removes lock files. And signals are passed on to COMMAND, so that it does not
//! stay behind with the lock.

mod options;

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use awrite::{Error, ErrorKind, LockOptions, Observer, Wait, lock_descriptor, unlock_descriptor};

use crate::process::{self, Inherited, InheritedFd};
use crate::report::{self, exit};
#[cfg(any(test, fuzzing))]
pub(super) use options::any_words;
use options::{End, Lock, Outcome, Settings, number, options, usage};

pub(super) fn run(called_as: &OsStr, args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Error> {
    // The part after the last slash, as in program_invocation_short_name.
    let name = called_as.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
    let name = awrite::shown(Path::new(OsStr::from_bytes(name)));
    let status = match work(&name, args, inherited) {
        Ok(status) | Err(End::Status(status)) => status,
        Err(End::Print(text)) => return report::print(&text).map(|()| exit::SUCCESS),
        Err(End::Fail(text, status)) => {
            report::raw(&format!("{name}: {text}\n"));
            status
        }
        Err(End::Option(text)) => {
            let long_name = awrite::shown(Path::new(called_as));
            let text = if text.is_empty() { text } else { format!("{long_name}: {text}\n") };
            report::raw(&format!("{text}Try '{name} --help' for more information.\n"));
            exit::USAGE
        }
    };
    Ok(status)
}

fn work(name: &str, args: Vec<OsString>, inherited: &Inherited) -> Outcome<u8> {
    if args.is_empty() {
        report::raw(&format!("{name}: not enough arguments\n"));
        return Err(End::Option(String::new()));
    }
    let mut settings = Settings::default();
    let mut args = args.into_iter();
    let first = options(name, &mut args, &mut settings)?;
    if settings.no_fork && settings.close {
        return usage("the --no-fork and --close options are incompatible");
    }
    let Some(operand) = first else { return usage("requires file descriptor, file or directory") };
    let Some(program) = args.next() else {
        let number = number(&operand, "bad file descriptor")?;
        let fd =
            InheritedFd::number(number).map_err(|e| End::Fail(format!("{number}: {}", strerror(&e)), exit::DATAERR))?;
        lock_inherited(&fd, Path::new(&number.to_string()), &settings, name)?;
        return Ok(exit::SUCCESS);
    };
    let mut command = command(program, args)?;
    let file = lock_path(Path::new(&operand), &settings, name)?;
    let program = command.get_program().to_owned();
    if settings.verbose {
        say(&format!("{name}: executing {}\n", program.to_string_lossy()));
    }
    if !settings.close {
        process::hand_descriptor(&mut command, file.as_fd());
    }
    let outcome = if settings.no_fork {
        Err(process::become_command(command, inherited))
    } else {
        process::supervise(command, inherited)
    };
    match outcome {
        Ok(status) => Ok(exit::of_command(status)),
        Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {
            Err(End::Fail(format!("fork failed: {}", strerror(&e)), exit::OSERR))
        }
        Err(e) => {
            let status = if e.raw_os_error() == Some(libc::ENOMEM) { exit::OSERR } else { exit::UNAVAILABLE };
            Err(End::Fail(format!("failed to execute {}: {}", program.to_string_lossy(), strerror(&e)), status))
        }
    }
}

/// The command that the words after the operand describe.
fn command(program: OsString, mut args: impl Iterator<Item = OsString>) -> Outcome<Command> {
    if program != "-c" && program != "--command" {
        let mut command = Command::new(program);
        command.args(args);
        return Ok(command);
    }
    let (Some(script), None) = (args.next(), args.next()) else {
        return usage(&format!("{} requires exactly one command argument", program.to_string_lossy()));
    };
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh".into());
    let mut command = Command::new(shell);
    command.arg("-c").arg(script);
    Ok(command)
}

/// The text of strerror(3).
fn strerror(e: &io::Error) -> String {
    Error::io("", io::Error::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO))).reason()
}

/// Prints to standard output, and ignores errors there.
fn say(text: &str) {
    let _ = report::print(text);
}

/// Opens and locks the file or directory `path`, again and again until the locked file is the one at `path`.
fn lock_path(path: &Path, settings: &Settings, name: &str) -> Outcome<File> {
    let started = Instant::now();
    let mut to_write = false;
    loop {
        let file = open(path, to_write)?;
        let left = settings.timeout.map(|limit| {
            // Not zero, which would mean not to wait: the wait itself must report the timeout.
            if limit.is_zero() { limit } else { limit.saturating_sub(started.elapsed()).max(Duration::from_nanos(1)) }
        });
        match try_lock(&file, path, settings, left, false) {
            Ok(()) => {
                print_elapsed(settings, name, started);
                return Ok(file);
            }
            // It was removed while we waited for it.
            Err(e) if e.kind() == ErrorKind::LockLost => {}
            // On NFS a flock is a record lock, and an exclusive one needs a descriptor that is open for writing.
            Err(e) if matches!(e.errno(), Some(libc::EBADF | libc::EIO)) && !to_write && is_writable(path) => {
                to_write = true;
            }
            Err(e) => return Err(refused(&e, path, settings, name)),
        }
    }
}

fn open(path: &Path, to_write: bool) -> Outcome<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(to_write).custom_flags(libc::O_NOCTTY).mode(0o666);
    // `OpenOptions::create` would need write access.
    let mut creating = options.clone();
    creating.custom_flags(libc::O_NOCTTY | libc::O_CREAT);
    let opened = match creating.open(path) {
        // O_CREAT fails on a directory.
        Err(e) if e.raw_os_error() == Some(libc::EISDIR) => options.write(false).open(path),
        opened => opened,
    };
    opened.map_err(|e| {
        let status = match e.raw_os_error() {
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => exit::OSERR,
            Some(libc::EROFS | libc::ENOSPC) => exit::CANTCREAT,
            _ => exit::NOINPUT,
        };
        End::Fail(format!("cannot open lock file {}: {}", path.to_string_lossy(), strerror(&e)), status)
    })
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok()
}

/// Locks a descriptor, which messages call `label`. Whether its file still has a name is up to the caller.
fn lock_inherited(fd: &InheritedFd, label: &Path, settings: &Settings, name: &str) -> Outcome<()> {
    let started = Instant::now();
    try_lock(fd, label, settings, settings.timeout, true).map_err(|e| refused(&e, label, settings, name))?;
    print_elapsed(settings, name, started);
    Ok(())
}

fn try_lock(
    fd: impl AsFd,
    label: &Path,
    settings: &Settings,
    timeout: Option<Duration>,
    removed_too: bool,
) -> Result<(), Error> {
    let mut options = LockOptions::default();
    options.use_alarm = true;
    options.keep = removed_too;
    options.shared = match settings.lock {
        Lock::Exclusive => false,
        Lock::Shared => true,
        Lock::None => return unlock_descriptor(fd, label),
    };
    options.wait = match timeout {
        _ if settings.no_wait => Wait::No,
        Some(limit) => Wait::For(limit),
        None => Wait::Forever,
    };
    lock_descriptor(fd, label, &options, &Observer::default()).map(drop)
}

fn refused(e: &Error, label: &Path, settings: &Settings, name: &str) -> End {
    let told = match e.kind() {
        ErrorKind::LockBusy => "failed to get lock",
        ErrorKind::LockTimeout => "timeout while waiting to get lock",
        _ => {
            let status = match e.errno() {
                Some(libc::ENOLCK | libc::ENOMEM) => exit::OSERR,
                _ => exit::DATAERR,
            };
            let errno = io::Error::from_raw_os_error(e.errno().unwrap_or(libc::EIO));
            return End::Fail(format!("{}: {}", label.to_string_lossy(), strerror(&errno)), status);
        }
    };
    if settings.verbose {
        report::raw(&format!("{name}: {told}\n"));
    }
    End::Status(settings.conflict_status)
}

fn print_elapsed(settings: &Settings, name: &str, started: Instant) {
    if settings.verbose {
        let took = started.elapsed();
        say(&format!("{name}: getting lock took {}.{:06} seconds\n", took.as_secs(), took.subsec_micros()));
    }
}
