//! `flock`, for images without util-linux: options, messages and exit codes are those of flock(1) in util-linux 2.42.
//!
//! ```text
//!   flock [options] FILE|DIRECTORY COMMAND [ARGUMENT...]
//!   flock [options] FILE|DIRECTORY -c SCRIPT
//!   flock [options] N                                      an open descriptor of the caller
//!   flock [options] --fd N COMMAND [ARGUMENT...]           locked while COMMAND runs
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
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use awrite::{
    Error, ErrorKind, LockOptions, Observer, Wait, is_link_record, lock_descriptor, lock_range, unlock_descriptor,
    unlock_range,
};

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
        Err(End::Print(text)) => {
            say(&text);
            exit::SUCCESS
        }
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
    match WRITE_ERROR.load(Ordering::Relaxed) {
        0 => Ok(status),
        errno => {
            report::raw(&format!("{name}: write error: {}\n", strerror(&io::Error::from_raw_os_error(errno))));
            Ok(exit::FAILURE)
        }
    }
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
    let (mut command, file) = match (settings.fd, first) {
        (Some(number), Some(program)) => {
            let command = command(program, args)?;
            let fd = inherited_fd(number)?;
            lock_inherited(&fd, Path::new(&number.to_string()), &settings, name)?;
            (command, None)
        }
        (Some(_), None) => return usage("missing command"),
        (None, None) => return usage("requires file descriptor, file or directory"),
        (None, Some(operand)) => match args.next() {
            None => {
                let number = number(&operand, "bad file descriptor")?;
                lock_inherited(&inherited_fd(number)?, Path::new(&number.to_string()), &settings, name)?;
                return Ok(exit::SUCCESS);
            }
            Some(program) => {
                let command = command(program, args)?;
                (command, Some(lock_path(Path::new(&operand), &settings, name)?))
            }
        },
    };
    let program = command.get_program().to_owned();
    if settings.verbose {
        say(&format!("{name}: executing {}\n", program.to_string_lossy()));
    }
    match (&file, settings.fd) {
        (Some(file), _) if !settings.close => process::hand_descriptor(&mut command, file.as_fd()),
        (None, Some(number)) if settings.close => process::keep_descriptor(&mut command, number),
        _ => {}
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

fn inherited_fd(number: i32) -> Outcome<InheritedFd> {
    InheritedFd::number(number).map_err(|e| End::Fail(format!("{number}: {}", strerror(&e)), exit::DATAERR))
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

/// The first error of standard output. flock(1) finds it at its end, when it closes that.
static WRITE_ERROR: AtomicI32 = AtomicI32::new(0);

/// Prints to standard output. An error there is reported at the end.
fn say(text: &str) {
    if let Err(e) = report::print(text) {
        let errno = e.errno().unwrap_or(libc::EIO);
        let _ = WRITE_ERROR.compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Opens and locks the file or directory `path`, again and again until the locked file is the one at `path`.
fn lock_path(path: &Path, settings: &Settings, name: &str) -> Outcome<File> {
    let started = Instant::now();
    // A record lock that is exclusive needs a descriptor for writing.
    let mut access =
        if settings.part.is_some() && matches!(settings.lock, Lock::Exclusive) { Access::Write } else { Access::Read };
    let mut creates = true;
    loop {
        let file = open(path, access, creates)?;
        let left = settings.timeout.map(|limit| {
            // Not zero, which would mean not to wait: the wait itself must report the timeout.
            if limit.is_zero() { limit } else { limit.saturating_sub(started.elapsed()).max(Duration::from_nanos(1)) }
        });
        match try_lock(&file, path, settings, left) {
            Ok(()) if is_at(&file, path) => {
                ensure_no_record(&file, path, settings)?;
                print_elapsed(settings, name, started);
                return Ok(file);
            }
            // It was removed or replaced while we waited for it. A directory is not made anew.
            Ok(()) => creates = !file.metadata().is_ok_and(|status| status.is_dir()),
            // On NFS a flock is a record lock, and an exclusive one needs a descriptor that is open for writing.
            Err(e)
                if matches!(e.errno(), Some(libc::EBADF | libc::EIO))
                    && access == Access::Read
                    && is_writable(path) =>
            {
                access = Access::Both;
            }
            Err(e) => return Err(refused(&e, path, settings, name)),
        }
    }
}

/// Whether `path` leads to this very file. Not whether that has a name: `path` may be of /proc.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |status: std::fs::Metadata| (status.dev(), status.ino());
    matches!((file.metadata().map(id), std::fs::metadata(path).map(id)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

/// Refuses a file that awrite locks by link(2): flock excludes nobody there.
fn ensure_no_record(file: &File, path: &Path, settings: &Settings) -> Outcome<()> {
    if settings.part.is_some() || matches!(settings.lock, Lock::None) || !is_link_record(file) {
        return Ok(());
    }
    let text = "a link lock of awrite, which flock cannot wait for (awrite-lock can)";
    Err(End::Fail(format!("{}: {text}", path.to_string_lossy()), settings.conflict_status))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Both,
}

fn open(path: &Path, access: Access, creates: bool) -> Outcome<File> {
    let mut options = OpenOptions::new();
    options.read(access != Access::Write).write(access != Access::Read).mode(0o666);
    // `OpenOptions::create` would need write access.
    options.custom_flags(libc::O_NOCTTY | if creates { libc::O_CREAT } else { 0 });
    let opened = match options.open(path) {
        // O_CREAT and writing fail on a directory. Without writing there is no exclusive record lock.
        Err(e) if e.raw_os_error() == Some(libc::EISDIR) && access == Access::Write => {
            return Err(End::Fail(format!("{}: {}", path.to_string_lossy(), strerror(&e)), exit::DATAERR));
        }
        Err(e) if e.raw_os_error() == Some(libc::EISDIR) => {
            OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open(path)
        }
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
    try_lock(fd, label, settings, settings.timeout).map_err(|e| refused(&e, label, settings, name))?;
    // Opened again, for reading; nothing but a regular file, since that could have effects.
    let again = Path::new("/proc/self/fd").join(fd.as_fd().as_raw_fd().to_string());
    let file = std::fs::metadata(&again).is_ok_and(|status| status.is_file()).then(|| File::open(&again));
    if let Some(Ok(file)) = file {
        ensure_no_record(&file, label, settings)
            .inspect_err(|_| drop(unlock_descriptor(fd, label, &Observer::default())))?;
    }
    print_elapsed(settings, name, started);
    Ok(())
}

fn try_lock(fd: impl AsFd, label: &Path, settings: &Settings, timeout: Option<Duration>) -> Result<(), Error> {
    let mut options = LockOptions::default();
    options.use_alarm = true;
    // Whoever calls this finds out by itself whether the file is still the one that is meant.
    options.keep_file = true;
    // An end at the start means: to the end of the file.
    let part = settings.part.map(|(start, length)| start..start.saturating_add(length));
    options.shared = match (settings.lock, part.clone()) {
        (Lock::Exclusive, _) => false,
        (Lock::Shared, _) => true,
        (Lock::None, Some(part)) => return unlock_range(fd, label, part),
        (Lock::None, None) => return unlock_descriptor(fd, label, &Observer::default()),
    };
    options.wait = match timeout {
        _ if settings.no_wait => Wait::No,
        Some(limit) => Wait::For(limit),
        None => Wait::Forever,
    };
    match part {
        Some(part) => lock_range(fd, label, &options, part),
        None => lock_descriptor(fd, label, &options, &Observer::default()).map(drop),
    }
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
