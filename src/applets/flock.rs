//! flock(1), for who calls this program by that name: options, messages and exit codes are those of util-linux 2.38, for
//! images that lack it.
//!
//! ```text
//!   flock [options] FILE|DIRECTORY COMMAND [ARGUMENT...]
//!   flock [options] FILE|DIRECTORY -c SCRIPT
//!   flock [options] N                                      an open descriptor of the caller
//! ```
//!
//! Unlike awrite-lock's, the operand is the lock file itself, and it is never removed. Two things are better than there:
//! a lock file that its holder has removed meanwhile is opened again, so that it works beside awrite, whose lock files
//! come and go; and signals are passed on to COMMAND, which is never left behind with the lock.

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

use super::{lock, report};
use crate::process::{self, Given, Inherited};

// sysexits.h
const EX_USAGE: u8 = 64;
const EX_DATAERR: u8 = 65;
const EX_NOINPUT: u8 = 66;
const EX_UNAVAILABLE: u8 = 69;
const EX_OSERR: u8 = 71;
const EX_CANTCREAT: u8 = 73;

/// What is locked.
enum Lock {
    Exclusive,
    Shared,
    /// Given up.
    None,
}

struct Settings {
    lock: Lock,
    no_wait: bool,
    timeout: Option<Duration>,
    conflict_status: u8,
    close: bool,
    no_fork: bool,
    verbose: bool,
}

/// Why there is nothing more to do.
enum End {
    /// What is asked for on standard output, and success.
    Print(String),
    /// A message in warnx(3)'s manner, and the status.
    Fail(String, u8),
    /// One that getopt(3) gives, with the whole of argv[0], and the remedy.
    Option(String),
    Status(u8),
}

type Outcome<T> = Result<T, End>;

/// Letter, name, whether it takes a value. In util-linux's order, which its messages show.
const OPTIONS: [(u8, &str, bool); 13] = [
    (b's', "shared", false),
    (b'x', "exclusive", false),
    (b'u', "unlock", false),
    (b'n', "nonblocking", false),
    (b'n', "nb", false),
    (b'w', "timeout", true),
    (b'w', "wait", true),
    (b'E', "conflict-exit-code", true),
    (b'o', "close", false),
    (b'F', "no-fork", false),
    (VERBOSE, "verbose", false),
    (b'h', "help", false),
    (b'V', "version", false),
];
/// `--verbose` has no letter.
const VERBOSE: u8 = 0;

pub(super) fn run(called_as: &OsStr, args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Error> {
    // As program_invocation_short_name: what follows the last slash.
    let name = called_as.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
    let name = awrite::shown(Path::new(OsStr::from_bytes(name)));
    let status = match work(&name, args, inherited) {
        Ok(status) | Err(End::Status(status)) => status,
        Err(End::Print(text)) => return report::print(&text).map(|()| 0),
        Err(End::Fail(text, status)) => {
            report::raw(&format!("{name}: {text}\n"));
            status
        }
        Err(End::Option(text)) => {
            let long_name = awrite::shown(Path::new(called_as));
            let text = if text.is_empty() { text } else { format!("{long_name}: {text}\n") };
            report::raw(&format!("{text}Try '{name} --help' for more information.\n"));
            EX_USAGE
        }
    };
    Ok(status)
}

fn work(name: &str, args: Vec<OsString>, inherited: &Inherited) -> Outcome<u8> {
    if args.is_empty() {
        report::raw(&format!("{name}: not enough arguments\n"));
        return Err(End::Option(String::new()));
    }
    let mut settings = Settings {
        lock: Lock::Exclusive,
        no_wait: false,
        timeout: None,
        conflict_status: 1,
        close: false,
        no_fork: false,
        verbose: false,
    };
    let mut args = args.into_iter();
    let first = options(name, &mut args, &mut settings)?;
    if settings.no_fork && settings.close {
        return usage("the --no-fork and --close options are incompatible");
    }
    let Some(operand) = first else { return usage("requires file descriptor, file or directory") };
    let Some(program) = args.next() else {
        let number = number(&operand, "bad file descriptor")?;
        let fd = Given::number(number).map_err(|e| End::Fail(format!("{number}: {}", words(&e)), EX_DATAERR))?;
        // Its name, if it has one, is the caller's business.
        take(&fd, Path::new(&number.to_string()), &settings, name, true)?;
        return Ok(0);
    };
    let mut command = if program == "-c" || program == "--command" {
        let (Some(script), None) = (args.next(), args.next()) else {
            return usage(&format!("{} requires exactly one command argument", program.to_string_lossy()));
        };
        let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh".into());
        let mut command = Command::new(shell);
        command.arg("-c").arg(script);
        command
    } else {
        let mut command = Command::new(program);
        command.args(args);
        command
    };
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
        Ok(status) => Ok(lock::status_of(status)),
        Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {
            Err(End::Fail(format!("fork failed: {}", words(&e)), EX_OSERR))
        }
        Err(e) => {
            let status = if e.raw_os_error() == Some(libc::ENOMEM) { EX_OSERR } else { EX_UNAVAILABLE };
            Err(End::Fail(format!("failed to execute {}: {}", program.to_string_lossy(), words(&e)), status))
        }
    }
}

fn usage<T>(text: &str) -> Outcome<T> {
    Err(End::Fail(text.to_owned(), EX_USAGE))
}

/// As strerror(3) has it.
fn words(e: &io::Error) -> String {
    Error::io("", io::Error::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO))).reason()
}

/// On standard output; what cannot be written there is nobody's loss.
fn say(text: &str) {
    let _ = report::print(text);
}

// ---------------------------------------------------------------------------------------------------------------------
// The lock

/// Opens and locks the file or directory `path`, until the file locked is the one that has the name.
fn lock_path(path: &Path, settings: &Settings, name: &str) -> Outcome<File> {
    let started = Instant::now();
    let mut to_write = false;
    loop {
        let file = open(path, to_write)?;
        let left = settings.timeout.map(|limit| {
            // Never zero, which would mean not to wait: the time-out is for the wait itself to find.
            if limit.is_zero() { limit } else { limit.saturating_sub(started.elapsed()).max(Duration::from_nanos(1)) }
        });
        match try_take(&file, path, settings, left, false) {
            Ok(()) => {
                tell_time(settings, name, started);
                return Ok(file);
            }
            // Removed while we waited for it.
            Err(e) if e.kind() == ErrorKind::LockLost => {}
            // NFS, where a flock is a record lock and an exclusive one needs a descriptor for writing.
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
    // Not `create`, which std only does together with write access.
    let mut creating = options.clone();
    creating.custom_flags(libc::O_NOCTTY | libc::O_CREAT);
    let opened = match creating.open(path) {
        // O_CREAT on a directory; and a protected file in a sticky directory (fs.protected_regular).
        Err(e) if matches!(e.raw_os_error(), Some(libc::EISDIR)) => options.write(false).open(path),
        opened => opened,
    };
    opened.map_err(|e| {
        let status = match e.raw_os_error() {
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => EX_OSERR,
            Some(libc::EROFS | libc::ENOSPC) => EX_CANTCREAT,
            _ => EX_NOINPUT,
        };
        End::Fail(format!("cannot open lock file {}: {}", path.to_string_lossy(), words(&e)), status)
    })
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok()
}

/// Locks a descriptor; `name_of_it` is what messages call it.
fn take(fd: impl AsFd, name_of_it: &Path, settings: &Settings, name: &str, any: bool) -> Outcome<()> {
    let started = Instant::now();
    try_take(fd, name_of_it, settings, settings.timeout, any).map_err(|e| refused(&e, name_of_it, settings, name))?;
    tell_time(settings, name, started);
    Ok(())
}

fn try_take(
    fd: impl AsFd,
    name_of_it: &Path,
    settings: &Settings,
    timeout: Option<Duration>,
    any: bool,
) -> Result<(), Error> {
    let mut options = LockOptions::default();
    options.use_alarm = true;
    options.keep = any;
    options.shared = match settings.lock {
        Lock::Exclusive => false,
        Lock::Shared => true,
        Lock::None => return unlock_descriptor(fd, name_of_it),
    };
    options.wait = match timeout {
        _ if settings.no_wait => Wait::No,
        Some(limit) => Wait::For(limit),
        None => Wait::Forever,
    };
    lock_descriptor(fd, name_of_it, &options, &Observer::default()).map(drop)
}

fn refused(e: &Error, name_of_it: &Path, settings: &Settings, name: &str) -> End {
    let told = match e.kind() {
        ErrorKind::LockBusy => "failed to get lock",
        ErrorKind::LockTimeout => "timeout while waiting to get lock",
        _ => {
            let status = match e.errno() {
                Some(libc::ENOLCK | libc::ENOMEM) => EX_OSERR,
                _ => EX_DATAERR,
            };
            let errno = io::Error::from_raw_os_error(e.errno().unwrap_or(libc::EIO));
            return End::Fail(format!("{}: {}", name_of_it.to_string_lossy(), words(&errno)), status);
        }
    };
    if settings.verbose {
        report::raw(&format!("{name}: {told}\n"));
    }
    End::Status(settings.conflict_status)
}

fn tell_time(settings: &Settings, name: &str, started: Instant) {
    if settings.verbose {
        let took = started.elapsed();
        say(&format!("{name}: getting lock took {}.{:06} seconds\n", took.as_secs(), took.subsec_micros()));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Options

/// Reads options up to the first word that is none, and returns that.
fn options(
    name: &str,
    args: &mut impl Iterator<Item = OsString>,
    settings: &mut Settings,
) -> Outcome<Option<OsString>> {
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            return Ok(args.next());
        }
        if let Some(long) = bytes.strip_prefix(b"--") {
            long_option(name, long, args, settings)?;
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            let mut letters = &bytes[1..];
            while let [letter, rest @ ..] = letters {
                letters = rest;
                // -e is -x, and has no name of its own.
                let wanted = if *letter == b'e' { b'x' } else { *letter };
                let known = OPTIONS.iter().find(|(known, ..)| *known == wanted && wanted != VERBOSE);
                let Some((_, _, takes_value)) = known else {
                    let question = *letter == b'?';
                    let shown = awrite::shown(Path::new(OsStr::from_bytes(&[*letter])));
                    return Err(End::Option(if question {
                        String::new()
                    } else {
                        format!("invalid option -- '{shown}'")
                    }));
                };
                let mut value = OsString::new();
                if *takes_value {
                    value = if rest.is_empty() {
                        let missing =
                            || End::Option(format!("option requires an argument -- '{}'", char::from(wanted)));
                        args.next().ok_or_else(missing)?
                    } else {
                        OsStr::from_bytes(rest).to_owned()
                    };
                    letters = &[];
                }
                apply(name, wanted, &value, settings)?;
            }
        } else {
            return Ok(Some(arg));
        }
    }
    Ok(None)
}

/// By its name or an unambiguous beginning of it, as getopt_long(3) has it.
fn long_option(
    name: &str,
    given: &[u8],
    args: &mut impl Iterator<Item = OsString>,
    settings: &mut Settings,
) -> Outcome<()> {
    let at = given.iter().position(|b| *b == b'=');
    let (long, value) = at.map_or((given, None), |at| (&given[..at], Some(&given[at + 1..])));
    let shown = awrite::shown(Path::new(OsStr::from_bytes(given)));
    let exact = OPTIONS.iter().find(|(_, known, _)| known.as_bytes() == long);
    let found = match exact {
        Some(exact) => exact,
        None => {
            let mut begins = OPTIONS.iter().filter(|(_, known, _)| known.as_bytes().starts_with(long));
            let Some(first) = begins.next() else {
                return Err(End::Option(format!("unrecognized option '--{shown}'")));
            };
            let others: Vec<String> =
                begins.filter(|(letter, ..)| *letter != first.0).map(|(_, known, _)| format!(" '--{known}'")).collect();
            if !others.is_empty() {
                let text =
                    format!("option '--{shown}' is ambiguous; possibilities: '--{}'{}", first.1, others.concat());
                return Err(End::Option(text));
            }
            first
        }
    };
    let (letter, known, takes_value) = *found;
    let value = match (takes_value, value) {
        (false, Some(_)) => return Err(End::Option(format!("option '--{known}' doesn't allow an argument"))),
        (false, None) => OsString::new(),
        (true, Some(value)) => OsStr::from_bytes(value).to_owned(),
        (true, None) => args.next().ok_or_else(|| End::Option(format!("option '--{known}' requires an argument")))?,
    };
    apply(name, letter, &value, settings)
}

fn apply(name: &str, letter: u8, value: &OsStr, settings: &mut Settings) -> Outcome<()> {
    match letter {
        b's' => settings.lock = Lock::Shared,
        b'x' => settings.lock = Lock::Exclusive,
        b'u' => settings.lock = Lock::None,
        b'n' => settings.no_wait = true,
        b'w' => settings.timeout = Some(timeout(value)?),
        b'E' => {
            let status = number(value, "invalid exit code")?;
            settings.conflict_status = u8::try_from(status)
                .map_err(|_| End::Fail("exit code out of range (expected 0 to 255)".to_owned(), EX_USAGE))?;
        }
        b'o' => settings.close = true,
        b'F' => settings.no_fork = true,
        VERBOSE => settings.verbose = true,
        b'V' => {
            let version = env!("CARGO_PKG_VERSION");
            return Err(End::Print(format!("{name} from awrite {version} (as in util-linux 2.38)\n")));
        }
        _ => return Err(End::Print(help(name))),
    }
    Ok(())
}

/// A decimal number as strtol(3) reads it.
fn number(text: &OsStr, what: &str) -> Outcome<i32> {
    let shown = text.to_string_lossy();
    let digits = text.to_str().unwrap_or_default().trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
        return usage(&format!("{what}: '{shown}'"));
    }
    digits.parse().or_else(|_| usage(&format!("{what}: '{shown}': Numerical result out of range")))
}

/// Seconds as strtod(3) reads them.
fn timeout(text: &OsStr) -> Outcome<Duration> {
    let digits = text.to_str().unwrap_or_default().trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let seconds = match hex {
        #[allow(clippy::cast_precision_loss)] // a time-out
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|n| n as f64),
        None => digits.parse::<f64>().ok(),
    };
    let Some(seconds) = seconds else { return usage(&format!("invalid timeout value: '{}'", text.to_string_lossy())) };
    // What setitimer(2) does not take.
    let invalid = || End::Fail("cannot set up timer: Invalid argument".to_owned(), EX_OSERR);
    if seconds > 9.2e18 {
        return Err(invalid());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

fn help(name: &str) -> String {
    format!(
        "
Usage:
 {name} [options] <file>|<directory> <command> [<argument>...]
 {name} [options] <file>|<directory> -c <command>
 {name} [options] <file descriptor number>

Manage file locks from shell scripts.

Options:
 -s, --shared             get a shared lock
 -x, --exclusive          get an exclusive lock (default)
 -u, --unlock             remove a lock
 -n, --nonblock           fail rather than wait
 -w, --timeout <secs>     wait for a limited amount of time
 -E, --conflict-exit-code <number>  exit code after conflict or timeout
 -o, --close              close file descriptor before running command
 -c, --command <command>  run a single command string through the shell
 -F, --no-fork            execute command without forking
     --verbose            increase verbosity

 -h, --help               display this help
 -V, --version            display version

This is awrite, called as {name}.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_c_reads_them() {
        let read = |text: &str| number(OsStr::new(text), "x").ok();
        assert_eq!(
            [read("9"), read(" 9"), read("+9"), read("-1"), read("007")],
            [Some(9), Some(9), Some(9), Some(-1), Some(7)]
        );
        for text in ["", " ", "9x", "0x5", "9 ", "+", "--1", "99999999999", "1.5"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn times_as_c_reads_them() {
        let millis = |text: &str| timeout(OsStr::new(text)).ok().map(|limit| limit.as_millis());
        for (text, expected) in
            [("0", 0), ("1.5", 1500), (".5", 500), ("5.", 5000), ("1e1", 10_000), ("0x10", 16_000), (" +5", 5000)]
        {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in ["", ".", "x", "1.5x", "5s", "-1", "99999999999999999999", "inf", "nan", "1 "] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
