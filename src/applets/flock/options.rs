//! The options of flock(1), parsed as getopt_long(3) does, with its error messages.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::report::exit;

/// The lock that is asked for.
#[derive(Clone, Copy)]
pub(super) enum Lock {
    Exclusive,
    Shared,
    /// The lock is given up.
    None,
}

pub(super) struct Settings {
    pub(super) lock: Lock,
    pub(super) no_wait: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) conflict_status: u8,
    pub(super) close: bool,
    pub(super) no_fork: bool,
    pub(super) verbose: bool,
    /// The part of the file that is locked by a record lock of its description instead: start and length, 0 for the rest.
    pub(super) part: Option<(u64, u64)>,
    /// `--fd`: the descriptor to lock around COMMAND.
    pub(super) fd: Option<i32>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lock: Lock::Exclusive,
            no_wait: false,
            timeout: None,
            conflict_status: exit::FLOCK_CONFLICT,
            close: false,
            no_fork: false,
            verbose: false,
            part: None,
            fd: None,
        }
    }
}

/// Why there is no more work to do.
pub(super) enum End {
    /// Success, after this text on standard output.
    Print(String),
    /// An error message as of warnx(3), and the exit status.
    Fail(String, u8),
    /// An error message as of getopt(3): argv[0] stands before it in full, and a hint after it.
    Option(String),
    Status(u8),
}

pub(super) type Outcome<T> = Result<T, End>;

/// Letter, name, and whether it takes a value. The order is that of util-linux, since messages show it.
const OPTIONS: [(u8, &str, bool); 17] = [
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
    (FCNTL, "fcntl", false),
    (START, "start", true),
    (LENGTH, "length", true),
    (FD, "fd", true),
    (b'h', "help", false),
    (b'V', "version", false),
];
// These have no letters.
const VERBOSE: u8 = 0;
const FCNTL: u8 = 1;
const START: u8 = 2;
const LENGTH: u8 = 3;
const FD: u8 = 4;

pub(super) fn usage<T>(text: &str) -> Outcome<T> {
    Err(End::Fail(text.to_owned(), exit::USAGE))
}

/// Parses options up to the first word that is not one, and returns that word.
pub(super) fn options(
    name: &str,
    args: &mut impl Iterator<Item = OsString>,
    settings: &mut Settings,
) -> Outcome<Option<OsString>> {
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            return Ok(args.next());
        }
        // With --fd there is no operand before it.
        if settings.fd.is_some() && (bytes == b"-c" || bytes == b"--command") {
            return Ok(Some(arg));
        }
        if let Some(long) = bytes.strip_prefix(b"--") {
            long_option(name, long, args, settings)?;
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            let mut letters = &bytes[1..];
            while let [letter, rest @ ..] = letters {
                letters = rest;
                // -e is -x, and has no long name.
                let wanted = if *letter == b'e' { b'x' } else { *letter };
                let known = OPTIONS.iter().find(|(known, ..)| *known == wanted && wanted > FD);
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

/// Finds the option by its name or an unambiguous prefix of it, as getopt_long(3) does.
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
                .map_err(|_| End::Fail("exit code out of range (expected 0 to 255)".to_owned(), exit::USAGE))?;
        }
        b'o' => settings.close = true,
        b'F' => settings.no_fork = true,
        VERBOSE => settings.verbose = true,
        FCNTL => drop(settings.part.get_or_insert_default()),
        START => settings.part.get_or_insert_default().0 = size(value, "invalid as start offset")?,
        LENGTH => settings.part.get_or_insert_default().1 = size(value, "invalid as length of lock range")?,
        FD => match number(value, "invalid file descriptor")? {
            fd @ 0.. => settings.fd = Some(fd),
            fd => return usage(&format!("invalid file descriptor: '{fd}': {TOO_LARGE}")),
        },
        b'V' => {
            let version = env!("CARGO_PKG_VERSION");
            return Err(End::Print(format!("{name} from awrite {version} (as in util-linux 2.42)\n")));
        }
        _ => return Err(End::Print(help(name))),
    }
    Ok(())
}

/// A decimal number as strtol(3) parses it.
pub(super) fn number(text: &OsStr, what: &str) -> Outcome<i32> {
    let shown = text.to_string_lossy();
    let digits = text.to_str().unwrap_or_default().trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
        return usage(&format!("{what}: '{shown}'"));
    }
    digits.parse().or_else(|_| usage(&format!("{what}: '{shown}': {TOO_LARGE}")))
}

// Texts of strerror(3).
const INVALID: &str = "Invalid argument";
const TOO_LARGE: &str = "Numerical result out of range";

/// A number of bytes as util-linux's strtosize reads it: `10`, `0x10`, `1KiB`, `1.5k`; `1kB` is 1000.
fn size(text: &OsStr, what: &str) -> Outcome<u64> {
    let wrong = |why| usage(&format!("{what}: '{}': {why}", text.to_string_lossy()));
    let Some(shown) = text.to_str().map(str::trim_start) else { return wrong(INVALID) };
    let shown = shown.strip_prefix('+').unwrap_or(shown);
    let (radix, digits) = match shown.strip_prefix("0x").or_else(|| shown.strip_prefix("0X")) {
        Some(hex) => (16, hex),
        None if shown.starts_with('0') => (8, shown),
        None => (10, shown),
    };
    let (whole, rest) = split_digits(digits, radix);
    if whole.is_empty() {
        return wrong(INVALID);
    }
    let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), |rest| split_digits(rest, 10));
    // A part of a byte is none, and 19 digits are enough for any other.
    let fraction = &fraction[..fraction.len().min(19)];
    let mut letters = suffix.chars();
    let power = match letters.next() {
        None if rest.starts_with('.') => return wrong(INVALID),
        None => 0,
        Some(letter) => match "KMGTPEZY".find(letter.to_ascii_uppercase()) {
            Some(index) => u32::try_from(index).unwrap_or(0) + 1,
            None => return wrong(INVALID),
        },
    };
    let base: u128 = match letters.as_str() {
        "" | "iB" | "ib" => 1024,
        "B" | "b" => 1000,
        _ => return wrong(INVALID),
    };
    let bytes = || {
        let unit = base.pow(power);
        let whole = u128::from_str_radix(whole, radix).ok()?.checked_mul(unit)?;
        let places = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let part = fraction.parse().unwrap_or(0_u128).checked_mul(unit)? / places;
        // off_t is signed.
        i64::try_from(whole.checked_add(part)?).ok()?.try_into().ok()
    };
    bytes().map_or_else(|| wrong(TOO_LARGE), Ok)
}

/// Parts `text` behind its digits.
fn split_digits(text: &str, radix: u32) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len()))
}

/// Seconds as strtod(3) parses them.
fn timeout(text: &OsStr) -> Outcome<Duration> {
    let digits = text.to_str().unwrap_or_default().trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    match seconds(digits) {
        None => usage(&format!("invalid timeout value: '{}'", text.to_string_lossy())),
        // The error of setitimer(2).
        Some(None) => Err(End::Fail("cannot set up timer: Invalid argument".to_owned(), exit::OSERR)),
        Some(Some(limit)) => Ok(limit),
    }
}

/// `None`: it is no number. `Some(None)`: no timer can be set to it. Not by the parser of `f64`, whose tables and code are
/// 15 KB.
fn seconds(text: &str) -> Option<Option<Duration>> {
    const MOST: u64 = 9_200_000_000_000_000_000;
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let seconds = u64::from_str_radix(hex, 16).ok()?;
        return Some((seconds <= MOST).then(|| Duration::from_secs(seconds)));
    }
    let number = text.strip_prefix(['+', '-']).unwrap_or(text);
    if ["inf", "infinity", "nan"].iter().any(|word| number.eq_ignore_ascii_case(word)) {
        return Some(None);
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let exponent = i64::from(exponent.parse::<i32>().ok()?) + 9 - i64::try_from(fraction.len()).ok()?;
    let nanos = || {
        let digits = digits.trim_start_matches('0');
        let cut = usize::try_from(-exponent).unwrap_or(0);
        let kept = digits.get(..digits.len().saturating_sub(cut)).filter(|kept| !kept.is_empty());
        let Some(kept) = kept else { return Some(0) };
        let unit = 10_u128.checked_pow(u32::try_from(exponent).unwrap_or(0))?;
        kept.parse::<u128>().ok()?.checked_mul(unit).filter(|_| !text.starts_with('-'))
    };
    let limit = |nanos: u128| {
        let seconds = u64::try_from(nanos / 1_000_000_000).ok().filter(|seconds| *seconds <= MOST)?;
        Some(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
    };
    Some(nanos().and_then(limit))
}

fn help(name: &str) -> String {
    format!(
        "
Usage:
 {name} [options] <file>|<directory> <command> [<argument>...]
 {name} [options] <file>|<directory> -c <command>
 {name} [options] <file descriptor number>
 {name} [options] --fd <file descriptor number> -c <command>
 {name} [options] --fd <file descriptor number> <command> [<argument>...]

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
     --fcntl              use fcntl(F_OFD_SETLK) rather than flock()
     --start <offset>     starting offset for lock (implies --fcntl)
     --length <number>    number of bytes to lock (implies --fcntl)
     --fd <number>        use the file descriptor number to wrap the
                          lock around the command execution
     --verbose            increase verbosity

 -h, --help               display this help
 -V, --version            display version

This is awrite, called as {name}.
"
    )
}

/// Checks what holds for any command line.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_words(words: &[OsString]) {
    let mut args = words.iter().cloned();
    if let Ok(Some(operand)) = options("flock", &mut args, &mut Settings::default()) {
        let behind: Vec<OsString> = std::iter::once(operand).chain(args).collect();
        assert!(words.ends_with(&behind), "{words:?}");
    }
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
    fn sizes_as_util_linux_reads_them() {
        let bytes = |text: &str| size(OsStr::new(text), "x").ok();
        for (text, expected) in [
            ("0", 0),
            ("100", 100),
            ("0x10", 16),
            ("010", 8),
            ("1K", 1024),
            ("1k", 1024),
            ("2MiB", 2 << 20),
            ("1KB", 1000),
            ("7E", 7 << 60),
            ("+5", 5),
            (" 5", 5),
            ("1.5K", 1536),
            ("1.25kb", 1250),
            ("0.05MB", 50_000),
            ("1.K", 1024),
            ("1kib", 1024),
            ("0x1.8K", 1843),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "x", "-1", "1X", "1Kx", "1KiBx", "0x", "1.5", ".5K", "1 K", "1B", "++1", "08", "5."] {
            assert_eq!(bytes(text), None, "{text}");
        }
        for text in ["8E", "1Z", "9.5Y", "9223372036854775808", "99999999999999999999999999999999999999999"] {
            let refused = size(OsStr::new(text), "x");
            assert!(matches!(refused, Err(End::Fail(said, _)) if said.ends_with(TOO_LARGE)), "{text}");
        }
    }

    #[test]
    fn times_as_c_reads_them() {
        let millis = |text: &str| timeout(OsStr::new(text)).ok().map(|limit| limit.as_millis());
        for (text, expected) in [
            ("0", 0),
            ("1.5", 1500),
            (".5", 500),
            ("5.", 5000),
            ("1e1", 10_000),
            ("0x10", 16_000),
            (" +5", 5000),
            ("15e-1", 1500),
            ("1.5e3", 1_500_000),
            ("0e99", 0),
            ("-0", 0),
            ("1e-30", 0),
        ] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in ["", ".", "x", "1.5x", "5s", "-1", "99999999999999999999", "inf", "nan", "1 "] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
