//! Going on under a lease that an ancestor of this process has, instead of waiting for its end for ever.
//!
//! Whoever runs a command under a lease says so in its environment: `AWRITE_LEASED=DEV:INO:TOKEN:NAME[/…]`, device and
//! inode of the directory that the record is in, the token, and the record's name, which is the one part that has no
//! slash but may have anything else. So it counts for that target only, however it is named, and for that one lease:
//! when it is over, what runs below must not wait and write after the next owner.
//!
//! The variable can be forged, but so can `--owner`: leases are for those who cooperate.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::sys::FileId;

/// The environment variable.
pub(crate) const VARIABLE: &str = "AWRITE_LEASED";

/// The token under which this process is to act on the target whose record this is.
pub(crate) fn token(dir: FileId, name: &OsStr) -> Option<u64> {
    token_in(std::env::var_os(VARIABLE)?.as_bytes(), dir, name)
}

/// What the variable says for a child: a lease of its own, besides those above.
pub(crate) fn with(dir: FileId, token: u64, name: &OsStr) -> OsString {
    appended(std::env::var_os(VARIABLE).unwrap_or_default(), dir, token, name)
}

fn appended(value: OsString, dir: FileId, token: u64, name: &OsStr) -> OsString {
    let mut value = value.into_vec();
    if !value.is_empty() {
        value.push(b'/');
    }
    value.extend_from_slice(format!("{}:{}:{token}:", dir.dev, dir.ino).as_bytes());
    value.extend_from_slice(name.as_bytes());
    OsString::from_vec(value)
}

fn token_in(value: &[u8], dir: FileId, name: &OsStr) -> Option<u64> {
    // The innermost one counts.
    value.rsplit(|&b| b == b'/').find_map(|entry| {
        let mut parts = entry.splitn(4, |&b| b == b':');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
        let (found, token) = (FileId { dev: number()?, ino: number()? }, number()?);
        (found == dir && parts.next() == Some(name.as_bytes())).then_some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: FileId = FileId { dev: 2049, ino: u64::MAX };

    #[test]
    fn entries_survive_the_environment() {
        let odd = OsStr::from_bytes(b"a:b\n\xff ,.lease");
        let value = appended(OsString::new(), DIR, 7, OsStr::new("f.lease"));
        assert_eq!(value, "2049:18446744073709551615:7:f.lease");
        let value = appended(appended(value, DIR, u64::MAX, odd), FileId { ino: 1, ..DIR }, 8, OsStr::new("f.lease"));
        let token = |ino, name| token_in(value.as_bytes(), FileId { ino, ..DIR }, name);
        assert_eq!(token(u64::MAX, OsStr::new("f.lease")), Some(7));
        assert_eq!(token(u64::MAX, odd), Some(u64::MAX));
        assert_eq!(token(1, OsStr::new("f.lease")), Some(8));
        assert_eq!(token(1, odd), None);
        assert_eq!(token(2, OsStr::new("f.lease")), None);
        let value = appended(value, DIR, 9, OsStr::new("f.lease"));
        assert_eq!(token_in(value.as_bytes(), DIR, OsStr::new("f.lease")), Some(9), "the innermost one");
    }

    #[test]
    fn nonsense_is_passed_over() {
        for text in ["", "/", ":::", "2049:1:f", "2049:1::f", "-1:1:1:f", "2049:1:1", "x/2049:1:1:g", "2049:1:1:f:"] {
            assert_eq!(token_in(text.as_bytes(), FileId { dev: 2049, ino: 1 }, OsStr::new("f")), None, "{text}");
        }
        assert_eq!(token_in(b"x/2049:1:5:f/", FileId { dev: 2049, ino: 1 }, OsStr::new("f")), Some(5));
    }
}
