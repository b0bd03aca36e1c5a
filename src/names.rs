//! Every name that awrite gives to a file of its own, made and known again in one place.
//!
//! ```text
//!   NAME.lock                          the lock file                 lock_name, locked_name
//!   NAME.lock.break-NONCE              the mark of its breaker       mark_name, marked_name
//!   NAME.lease                         the record of a lease         lease_name, leased_name
//!   .NAME.awrite-XXXXXX                a temporary file              temp_prefix, is_temp_name
//!   NAME.backup                        a backup                      BackupNames
//!   NAME.YYYYMMDD-HHMMSS[-N].backup    a dated one
//! ```

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::local_time;

/// What the name of a lock file ends in.
const LOCK_SUFFIX: &str = ".lock";
/// What the name of a lease's record ends in.
const LEASE_SUFFIX: &str = ".lease";
/// A file name's greatest length on every file system we know but eCryptfs (143).
pub(crate) const NAME_MAX: usize = 255;

/// What stands between the target's name and the random letters in the name of a temporary file.
const TEMP_INFIX: &str = ".awrite-";
/// How many random letters follow.
pub(crate) const TEMP_RANDOM: usize = 6;
/// What a mark has between the name it is for and the nonce.
const MARK: &str = ".break-";

/// Hexadecimal digits in a nonce.
pub(crate) const NONCE: usize = 16;
/// How many backups of one second are told apart.
const MOST_OF_A_SECOND: u32 = 10_000;

/// `NAME.lease`.
pub(crate) fn lease_name(name: &OsStr) -> OsString {
    side_name(name, LEASE_SUFFIX)
}

/// `NAME.lock`.
pub(crate) fn lock_name(name: &OsStr) -> OsString {
    side_name(name, LOCK_SUFFIX)
}

/// `NAME` and `suffix`; a name too long for that is cut and told apart by a hash of the whole, the same for everyone.
pub(crate) fn side_name(name: &OsStr, suffix: &str) -> OsString {
    let bytes = name.as_bytes();
    let mut side = Vec::with_capacity(bytes.len() + suffix.len());
    if bytes.len() + suffix.len() <= NAME_MAX {
        side.extend_from_slice(bytes);
    } else {
        let hash = format!("-{:016x}", fnv1a(bytes));
        side.extend_from_slice(&bytes[..NAME_MAX - suffix.len() - hash.len()]);
        side.extend_from_slice(hash.as_bytes());
    }
    side.extend_from_slice(suffix.as_bytes());
    OsString::from_vec(side)
}

/// The name of the target whose lease's record is called `name`; `None` where that is not to be known, since it has been
/// cut.
pub(crate) fn leased_name(name: &OsStr) -> Option<&OsStr> {
    without(name, LEASE_SUFFIX)
}

/// The same of a lock file's name.
pub(crate) fn locked_name(name: &OsStr) -> Option<&OsStr> {
    without(name, LOCK_SUFFIX)
}

fn without<'a>(name: &'a OsStr, suffix: &str) -> Option<&'a OsStr> {
    let base = name.as_bytes().strip_suffix(suffix.as_bytes())?;
    let hash = base.rsplit(|&b| b == b'-').next().unwrap_or_default();
    let cut = name.len() == NAME_MAX && hash.len() == 16 && hash.iter().all(u8::is_ascii_hexdigit);
    (!cut).then(|| OsStr::from_bytes(base))
}

/// FNV-1a, 64 bits: fixed for ever, since programs of different versions must arrive at the same lock. No secrecy is
/// needed: two targets that share a lock by a collision only wait for each other.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// `.NAME.awrite-`, NAME cut so that the whole name fits in `limit` bytes.
pub(crate) fn temp_prefix(base: &OsStr, limit: usize) -> OsString {
    let room = limit - 1 - TEMP_INFIX.len() - TEMP_RANDOM;
    let base = base.as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&base[..base.len().min(room)]));
    prefix.push(TEMP_INFIX);
    prefix
}

/// Whether `name` is one of ours for a temporary file: `.NAME.awrite-XXXXXX`.
pub(crate) fn is_temp_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let Some(at) = name.len().checked_sub(TEMP_RANDOM + TEMP_INFIX.len()) else { return false };
    name.starts_with(b".")
        && at > 1
        && name[at..].starts_with(TEMP_INFIX.as_bytes())
        && name[at + TEMP_INFIX.len()..].iter().all(u8::is_ascii_alphanumeric)
}

/// The name of the mark for `name` while it has `nonce`.
pub(crate) fn mark_name(name: &OsStr, nonce: &str) -> OsString {
    side_name(name, &format!("{MARK}{nonce}"))
}

/// A name of the pattern that all temporary files have, so that housekeeping knows it.
pub(crate) fn temp_name(lock: &OsStr, nonce: &str) -> OsString {
    let mut name = temp_prefix(lock, NAME_MAX);
    name.push(&nonce[..6]);
    name
}

/// Whether a name ends like a mark's.
pub(crate) fn is_mark_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let Some(at) = name.len().checked_sub(NONCE) else { return false };
    is_nonce(&name[at..]) && name[..at].ends_with(MARK.as_bytes())
}

/// The name that a mark is for and the nonce in it; `None` where that is not to be known, since the name has been cut.
/// Only for what [`is_mark_name`].
pub(crate) fn marked_name(mark: &OsStr) -> Option<(&OsStr, &str)> {
    let (of, nonce) = mark.as_bytes().split_at(mark.len() - NONCE);
    let of = OsStr::from_bytes(&of[..of.len() - MARK.len()]);
    let nonce = std::str::from_utf8(nonce).ok()?;
    (mark_name(of, nonce) == mark && mark.len() != NAME_MAX).then_some((of, nonce))
}

/// What every mark for `name` begins with, unless it has been cut.
pub(crate) fn mark_stem(name: &OsStr) -> OsString {
    let mut stem = name.to_owned();
    stem.push(MARK);
    stem
}

/// Whether `text` is a nonce as link locks have it.
pub(crate) fn is_nonce(text: &[u8]) -> bool {
    text.len() == NONCE && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `YYYYMMDD-HHMMSS`.
fn stamp(t: &jiff::Zoned) -> String {
    let (date, time) = (t.date(), t.time());
    format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        date.year(),
        date.month(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// The names that a backup may get.
#[derive(Debug)]
pub(crate) struct BackupNames<'a> {
    base: &'a OsStr,
    suffix: &'a OsStr,
    stamp: Option<String>,
}

impl<'a> BackupNames<'a> {
    /// `timestamp`: with the local time of this moment in them.
    pub(crate) fn new(base: &'a OsStr, suffix: &'a OsStr, timestamp: bool) -> BackupNames<'a> {
        let stamp = timestamp.then(|| stamp(&jiff::Timestamp::now().to_zoned(local_time::zone())));
        BackupNames { base, suffix, stamp }
    }

    /// Those with this time in them.
    pub(crate) fn of_time(base: &'a OsStr, suffix: &'a OsStr, time: &jiff::Zoned) -> BackupNames<'a> {
        BackupNames { base, suffix, stamp: Some(stamp(time)) }
    }

    /// The name of the first backup of this second, or of the only one.
    pub(crate) fn plain(&self) -> OsString {
        self.numbered(0)
    }

    /// Whether the time is part of the name.
    pub(crate) fn is_dated(&self) -> bool {
        self.stamp.is_some()
    }

    fn numbered(&self, n: u32) -> OsString {
        let mut name = self.base.to_owned();
        if let Some(stamp) = &self.stamp {
            name.push(format!(".{stamp}"));
            if n > 0 {
                name.push(format!("-{n}"));
            }
        }
        name.push(self.suffix);
        name
    }

    /// Counts up until `take` finds a name that was not taken.
    pub(crate) fn first_free(&self, mut take: impl FnMut(&OsStr) -> io::Result<()>) -> io::Result<OsString> {
        for n in 0..MOST_OF_A_SECOND {
            let name = self.numbered(n);
            match take(&name) {
                Ok(()) => return Ok(name),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// What holds for any name of a target.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_name(name: &OsStr) {
    for suffix in [LOCK_SUFFIX, LEASE_SUFFIX] {
        let side = side_name(name, suffix);
        assert!(side.len() <= NAME_MAX && side.as_bytes().ends_with(suffix.as_bytes()), "{side:?}");
        // No name is taken for another's; where it has been cut it is taken for nobody's.
        let back = without(&side, suffix);
        assert!(back == Some(name) || back.is_none(), "{name:?} becomes {back:?}");
        assert!(back.is_some() || side.len() == NAME_MAX, "{name:?} is not known again");
    }
    for limit in [255, 143] {
        let mut temp = temp_prefix(name, limit);
        temp.push("aB3xyZ");
        assert!(temp.len() <= limit, "{temp:?}");
        assert_eq!(is_temp_name(&temp), !name.is_empty(), "{temp:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_of_targets(
            name in prop::collection::vec(any::<u8>(), 0..300),
            hash in "[a-z]{0,3}-[0-9a-f]{15,17}",
            more: u8,
        ) {
            any_name(OsStr::from_bytes(&name));
            any_name(OsStr::new(&hash));
            let mut other = name.clone();
            other.push(more);
            let lock = |name: &[u8]| lock_name(OsStr::from_bytes(name));
            prop_assert_ne!(lock(&name), lock(&other));
            *other.last_mut().unwrap() = more ^ 1;
            prop_assert_ne!(lock(&other), lock(&[&name[..], &[more]].concat()));
        }
    }

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(lock_name(OsStr::new("f")), "f.lock");
        let longest = "x".repeat(250);
        assert_eq!(lock_name(OsStr::new(&longest)).len(), 255);
        assert_eq!(lock_name(OsStr::new(&longest)), format!("{longest}.lock").as_str());
        let a = lock_name(OsStr::new(&format!("{}a", "x".repeat(254))));
        let b = lock_name(OsStr::new(&format!("{}b", "x".repeat(254))));
        assert_eq!((a.len(), b.len()), (255, 255));
        assert_ne!(a, b);
        assert_eq!(side_name(OsStr::new("f"), LEASE_SUFFIX), "f.lease");
        assert_eq!(leased_name(OsStr::new("a-0123456789abcdef.lease")), Some(OsStr::new("a-0123456789abcdef")));
        let cut = side_name(OsStr::new(&longest), LEASE_SUFFIX);
        assert_eq!((cut.len(), leased_name(&cut)), (255, None));
        let whole = side_name(OsStr::new(&longest[1..]), LEASE_SUFFIX);
        assert_eq!((whole.len(), leased_name(&whole)), (255, Some(OsStr::new(&longest[1..]))));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn names_fit_and_are_recognised() {
        for length in [1, 240, 241, 255] {
            let mut name = temp_prefix(OsStr::new(&"n".repeat(length)), 255);
            name.push("aB3xyZ");
            assert!(name.len() <= 255, "{}", name.len());
            assert!(is_temp_name(&name), "{name:?}");
        }
        for other in
            [".awrite-aB3xyZ", "f.awrite-aB3xyZ", ".f.awrite-aB3xy", ".f.awrite-aB3x_Z", ".f.awrite-aB3xyZ7", ""]
        {
            assert!(!is_temp_name(OsStr::new(other)), "{other}");
        }
    }

    #[test]
    fn names_of_backups() {
        let mut names = BackupNames::new(OsStr::new("f.conf"), OsStr::new(".backup"), false);
        assert_eq!(names.plain(), "f.conf.backup");
        let then: jiff::Zoned = "2026-01-02T03:04:05[UTC]".parse().unwrap();
        names.stamp = Some(stamp(&then));
        assert_eq!(names.plain(), "f.conf.20260102-030405.backup");
        assert_eq!(names.numbered(2), "f.conf.20260102-030405-2.backup");
    }
}
