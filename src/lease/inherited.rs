//! Going on under a lease that an ancestor of this process has, instead of waiting for its end for ever.
//!
//! A process that runs a command under a lease says so in the command's environment:
//! `AWRITE_LEASED=DEV:INO:TOKEN:NAME[/…]`. These are device and inode of the record's directory, the token, and the name of
//! the record, which may contain any byte but a slash. So the entry counts for that target only, whatever path leads to
//! it, and for that one lease. When the lease is over, a process below must not wait and then overwrite the next owner's
//! work.
//!
//! A lease that a store keeps has an entry `s:TOKEN:URL:NAME:OWNER`, all of it in printable ASCII: other bytes, slashes,
//! colons and `%` are written `%XX`. Its time is not in it: who runs the command refreshes the lease meanwhile, and
//! whoever writes asks the store.
//!
//! The variable can be forged, but so can `--owner`: leases are for those who cooperate.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::percent;
use crate::sys::FileId;

/// The environment variable.
pub(super) const VARIABLE: &str = "AWRITE_LEASED";

/// What the variable says now. Malformed entries are ignored.
fn inherited() -> OsString {
    std::env::var_os(VARIABLE).unwrap_or_default()
}

/// The token of the lease that this process runs under, of the target with this record.
pub(super) fn token(dir: FileId, name: &OsStr) -> Option<u64> {
    token_in(inherited().as_bytes(), dir, name)
}

/// The variable for a child of this process, with one more lease.
pub(super) fn with(dir: FileId, token: u64, name: &OsStr) -> OsString {
    appended(inherited(), dir, token, name)
}

fn appended(value: OsString, dir: FileId, token: u64, name: &OsStr) -> OsString {
    let mut entry = format!("{}:{}:{token}:", dir.dev, dir.ino).into_bytes();
    entry.extend_from_slice(name.as_bytes());
    with_entry(value, &entry)
}

fn with_entry(value: OsString, entry: &[u8]) -> OsString {
    let mut value = value.into_vec();
    if !value.is_empty() {
        value.push(b'/');
    }
    value.extend_from_slice(entry);
    OsString::from_vec(value)
}

/// A lease in a store that this process runs under.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoreLease {
    pub(super) url: String,
    pub(super) owner: String,
    pub(super) token: u64,
}

/// Whether this process runs under any lease that a store keeps.
#[doc(hidden)]
pub fn has_stores() -> bool {
    inherited().as_bytes().split(|&b| b == b'/').any(|entry| entry.starts_with(b"s:"))
}

/// The lease with this name that a store keeps and this process runs under.
pub(super) fn store_lease(name: &Path) -> Option<StoreLease> {
    store_lease_in(inherited().as_bytes(), name)
}

/// The variable for a child of this process, with one more lease, which a store keeps.
pub(super) fn with_store(lease: &StoreLease, name: &Path) -> OsString {
    with_entry(inherited(), store_entry(lease, name).as_bytes())
}

fn store_entry(lease: &StoreLease, name: &Path) -> String {
    let name = written(name.as_os_str().as_bytes());
    format!("s:{}:{}:{name}:{}", lease.token, written(lease.url.as_bytes()), written(lease.owner.as_bytes()))
}

fn written(bytes: &[u8]) -> String {
    percent::encoded(bytes, b"/:")
}

fn store_lease_in(value: &[u8], name: &Path) -> Option<StoreLease> {
    // The innermost entry counts.
    value.rsplit(|&b| b == b'/').find_map(|entry| {
        let mut parts = std::str::from_utf8(entry).ok()?.strip_prefix("s:")?.split(':');
        let token = parts.next()?.parse().ok()?;
        let mut text = || percent::decoded(parts.next()?);
        let (url, found, owner) = (text()?, text()?, text()?);
        let (url, owner) = (url.into_string().ok()?, owner.into_string().ok()?);
        (found == name).then_some(StoreLease { url, owner, token })
    })
}

fn token_in(value: &[u8], dir: FileId, name: &OsStr) -> Option<u64> {
    // The innermost entry counts.
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
    fn leases_of_stores_survive_it_too() {
        let lease = |token| StoreLease { url: "dir:///a b/%".into(), owner: "ä:1/2".into(), token };
        let (path, plain) = (Path::new(OsStr::from_bytes(b"/d/\xff:f")), Path::new("job:x"));
        let value = with_entry(OsString::new(), store_entry(&lease(7), path).as_bytes());
        let value =
            with_entry(appended(value, DIR, 8, OsStr::new("f.lease")), store_entry(&lease(9), plain).as_bytes());
        assert_eq!(store_lease_in(value.as_bytes(), path), Some(lease(7)));
        assert_eq!(store_lease_in(value.as_bytes(), plain), Some(lease(9)));
        assert_eq!(store_lease_in(value.as_bytes(), Path::new("job:y")), None);
        assert_eq!(token_in(value.as_bytes(), DIR, OsStr::new("f.lease")), Some(8));
        for text in ["s:", "s:7", "s:x:a:job%3ax:b", "s:7:a:job%3ax", "s:7:%z:job%3ax:b", "t:7:a:job%3ax:b"] {
            assert_eq!(store_lease_in(text.as_bytes(), plain), None, "{text}");
        }
    }

    #[test]
    fn nonsense_is_passed_over() {
        for text in ["", "/", ":::", "2049:1:f", "2049:1::f", "-1:1:1:f", "2049:1:1", "x/2049:1:1:g", "2049:1:1:f:"] {
            assert_eq!(token_in(text.as_bytes(), FileId { dev: 2049, ino: 1 }, OsStr::new("f")), None, "{text}");
        }
        assert_eq!(token_in(b"x/2049:1:5:f/", FileId { dev: 2049, ino: 1 }, OsStr::new("f")), Some(5));
    }
}
