//! The values of options: durations, permission bits, names.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use awrite::Claim;

/// A hundred years. A longer duration is a typing error, and adding it to a clock could overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `30`, `1.5`, `500ms`, `2m`, `1h 30m`.
pub(crate) fn parse_duration(text: &OsStr) -> Result<Duration, String> {
    let wrong = || format!("{} is not a duration such as 30, 1.5, 500ms, 2m, 1h30m or 1d", quoted(text));
    match text.to_str().and_then(awrite::parse_duration).ok_or_else(wrong)? {
        long if long > LONGEST => Err(format!("{} is longer than 100 years", quoted(text))),
        duration => Ok(duration),
    }
}

/// Permission bits in octal, with set-id and sticky bits.
pub(crate) fn parse_mode(text: &OsStr) -> Result<u32, String> {
    text.to_str()
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b)))
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("{} is not an octal mode between 0 and 7777", quoted(text)))
}

/// Any path but the empty one.
pub(crate) fn parse_path(text: OsString) -> Result<PathBuf, String> {
    if text.is_empty() { Err("an empty string is not a path".to_owned()) } else { Ok(text.into()) }
}

/// The owner of a lease.
pub(crate) fn parse_owner(text: OsString) -> Result<Claim, String> {
    let owner = text.into_string().map_err(|text| format!("{} is not UTF-8", quoted(&text)))?;
    Claim::new(owner).map_err(|e| e.to_string())
}

/// The reason of a lease.
pub(crate) fn parse_reason(text: OsString) -> Result<String, String> {
    let reason = text.into_string().map_err(|text| format!("{} is not UTF-8", quoted(&text)))?;
    awrite::check_reason(&reason).map(|()| reason).map_err(|e| e.to_string())
}

/// The URL of a store.
pub(crate) fn parse_store(text: OsString) -> Result<String, String> {
    let url = text.into_string().map_err(|text| format!("{} is not UTF-8", quoted(&text)))?;
    awrite::scheme_of_store(&url).map(drop).map_err(|e| format!("{}: {e}", quoted(url.as_ref()))).map(|()| url)
}

/// The plain name of a lease.
pub(crate) fn parse_lease(text: OsString) -> Result<String, String> {
    let name = text.into_string().map_err(|text| format!("{} is not UTF-8", quoted(&text)))?;
    awrite::check_lease_name(&name).map(|()| name).map_err(|e| e.to_string())
}

/// The token of a lease.
pub(crate) fn parse_token(text: &OsStr) -> Result<u64, String> {
    text.to_str()
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("{} is not a token", quoted(text)))
}

/// An exit status.
pub(crate) fn parse_status(text: &OsStr) -> Result<u8, String> {
    let status = text.to_str().and_then(|text| text.parse().ok());
    status.ok_or_else(|| format!("{} is not a number from 0 to 255", quoted(text)))
}

/// The number of a descriptor.
pub(crate) fn parse_descriptor(text: &OsStr) -> Result<i32, String> {
    let digits = text.to_str().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("{} is not a descriptor's number", quoted(text)))
}

/// A number of backups.
pub(crate) fn parse_count(text: &OsStr) -> Result<u64, String> {
    let digits = text.to_str().filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    // A number that does not fit into 64 bits means all of them.
    digits
        .map(|digits| digits.parse().unwrap_or(u64::MAX))
        .ok_or_else(|| format!("{} is not a number of backups", quoted(text)))
}

/// A number of backups that is not 0.
pub(crate) fn parse_kept(text: &OsStr) -> Result<u64, String> {
    match parse_count(text)? {
        0 => Err("at least 1 must be kept: the backup that is made is one of them".to_owned()),
        count => Ok(count),
    }
}

/// A suffix of file names.
pub(crate) fn parse_suffix(text: OsString) -> Result<OsString, String> {
    if text.is_empty() {
        return Err("an empty suffix would name the file itself".to_owned());
    }
    if text.as_encoded_bytes().contains(&b'/') {
        return Err(format!("{} contains a slash", quoted(&text)));
    }
    Ok(text)
}

/// A shell that completions can be generated for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The name of a shell.
pub(crate) fn parse_shell(text: &OsStr) -> Result<Shell, String> {
    one_of(text, &[("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)])
}

/// The one of `choices` whose name is `text`.
pub(crate) fn one_of<T: Copy>(text: &OsStr, choices: &[(&str, T)]) -> Result<T, String> {
    match choices.iter().find(|(name, _)| text == *name) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            Err(format!("{} is none of {}", quoted(text), names.join(", ")))
        }
    }
}

/// A value for a message: quoted, and safe to print on a terminal.
pub(crate) fn quoted(text: &OsStr) -> String {
    format!("'{}'", awrite::shown(text.as_ref()))
}

/// Checks what holds for any value.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_value(text: &OsStr) {
    let bytes = text.as_encoded_bytes();
    let octal = |value: u32, b: &u8| match b {
        b'0'..=b'7' => Some(value * 8 + u32::from(b - b'0')).filter(|value| *value <= 0o7777),
        _ => None,
    };
    let mode = bytes.iter().try_fold(0, octal).filter(|_| !bytes.is_empty());
    assert_eq!(parse_mode(text).ok(), mode, "{text:?}");
    if let Ok(duration) = parse_duration(text) {
        assert!(duration <= LONGEST && awrite::parse_duration(&text.to_string_lossy()) == Some(duration));
    }
    let digits = bytes.iter().all(u8::is_ascii_digit);
    assert!(parse_token(text).is_err() || digits, "{text:?}");
    // The reasons are safe to print.
    let reasons = [parse_mode(text).err(), parse_duration(text).err(), parse_token(text).err()];
    let reasons = reasons.into_iter().chain([parse_suffix(text.to_owned()).err(), parse_owner(text.to_owned()).err()]);
    for reason in reasons.flatten() {
        assert!(!reason.contains(char::is_control), "{reason:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values(text: String, mode in "0{0,2}[0-7]{1,5}|[0-9]{1,4}", bytes: Vec<u8>) {
            use std::os::unix::ffi::OsStrExt;
            any_value(OsStr::new(&text));
            any_value(OsStr::new(&mode));
            any_value(OsStr::from_bytes(&bytes));
        }
    }

    #[test]
    fn counts() {
        let count = |text: &str| parse_count(OsStr::new(text)).ok();
        assert_eq!(count("0"), Some(0));
        assert_eq!(count("007"), Some(7));
        assert_eq!(count("99999999999999999999999"), Some(u64::MAX));
        for bad in ["", "-1", "+1", "1.5", "x", "1x", " 1"] {
            assert_eq!(count(bad), None, "{bad:?}");
        }
        assert_eq!((parse_kept(OsStr::new("0")).ok(), parse_kept(OsStr::new("1")).ok()), (None, Some(1)));
    }

    fn duration(text: &str) -> Option<Duration> {
        parse_duration(OsStr::new(text)).ok()
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("30", 30_000),
            ("1.5", 1_500),
            (".5", 500),
            ("5.", 5_000),
            ("500ms", 500),
            ("0.5ms", 0),
            ("2m", 120_000),
            ("1.5m", 90_000),
            ("10s", 10_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("0ms", 0),
            ("007", 7_000),
            ("1m30s", 90_000),
            ("10min", 600_000),
            ("1h 30m", 5_400_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), Some(millis), "{text}");
        }
        assert_eq!(duration("0"), Some(Duration::ZERO));
    }

    #[test]
    fn impossible_durations() {
        for text in [
            "",
            " ",
            ".",
            "s",
            "ms",
            "-1",
            "1e3",
            "inf",
            "nan",
            "infinity",
            "1x",
            "1S",
            "1ss",
            "1.2.3",
            "0x10",
            "1mo",
            "1y",
            "1h ago",
            "٣",
            "5 ",
            " 5",
            "99999999999999999999999d",
            "40000d",
        ] {
            assert_eq!(duration(text), None, "{text:?}");
        }
        assert_eq!(duration("36500d"), Some(LONGEST));
        let text: String = std::iter::repeat_n('9', 400).collect();
        assert_eq!(duration(&text), None);
    }

    #[test]
    fn a_tiny_wait_is_still_a_wait() {
        assert_ne!(duration("0.0000000001ms"), Some(Duration::ZERO));
    }

    /// Every duration means what it is called in messages.
    #[test]
    fn what_is_said_means_what_was_asked() {
        let mut millis: u64 = 1;
        while millis < 3_000_000_000_000 {
            for near in [millis, millis + 1, millis * 60, millis * 1000] {
                let wanted = Duration::from_millis(near);
                if wanted <= LONGEST {
                    let said = awrite::shown_duration(wanted);
                    assert_eq!(duration(&said), Some(wanted), "{said}");
                }
            }
            millis = millis * 7 / 4 + 1;
        }
    }

    #[test]
    fn modes() {
        let mode = |text: &str| parse_mode(OsStr::new(text)).ok();
        assert_eq!(mode("644"), Some(0o644));
        assert_eq!(mode("0644"), Some(0o644));
        assert_eq!(mode("00000644"), Some(0o644));
        assert_eq!(mode("0"), Some(0));
        assert_eq!(mode("7777"), Some(0o7777));
        for text in ["", "10000", "8", "0o644", "-644", "+644", "rw-", "u+x", "6 44", "77777777777777777777"] {
            assert_eq!(mode(text), None, "{text:?}");
        }
        for value in 0..=0o7777 {
            assert_eq!(mode(&format!("{value:o}")), Some(value));
        }
    }

    #[test]
    fn suffixes() {
        assert!(parse_suffix(".orig".into()).is_ok());
        assert!(parse_suffix("".into()).is_err());
        assert!(parse_suffix("a/b".into()).is_err());
    }
}
