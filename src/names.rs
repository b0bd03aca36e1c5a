//! Every name that awrite gives to a file of its own, made and known again in one place.
//!
//! ```text
//!   NAME.lock                          the lock file             lock_name, is_lock_name, locked_name
//!   NAME.lock.break-NONCE              the mark of its breaker   mark_name, is_mark_name, marked_name
//!   NAME.lease                         the record of a lease     lease_name, is_lease_name, leased_name
//!   .awrite-HHHHHHHH[-N].NAME          a temporary file          TempNames, is_temp_name
//!   .awrite-HHHHHHHH-NONCE[-N].NAME    the same under link(2)    TempNames, is_temp_name
//!   .awrite-HHHHHHHH-NONCE[-1].NAME    the same in a set         set_temp_name, temp_name_under_nonce
//!   .awrite-set-NONCE                  the journal of a set      journal_name, journal_nonce
//!   .awrite-set-NONCE.tmp              the draft of a journal    journal_draft_name, journal_nonce
//!   NAME.backup                        a backup                  BackupNames
//!   NAME.YYYYMMDD-HHMMSS[-N].backup    a dated backup            BackupNames, split_stamp
//! ```
//!
//! Anybody may give a file such a name. A name alone never proves that the file is awrite's.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::civil::DateTime;

use crate::local_time;
use crate::sys::Dir;

/// What the name of a lock file ends in.
const LOCK_SUFFIX: &str = ".lock";
/// What the name of a lease's record ends in.
const LEASE_SUFFIX: &str = ".lease";

/// The greatest length of a file name.
pub(crate) const NAME_MAX: usize = 255;
/// The greatest length on eCryptfs. A name that is no longer fits everywhere.
pub(crate) const SHORT_NAME_MAX: usize = 143;

/// What the name of a temporary file begins with.
const TEMP_PREFIX: &str = ".awrite-";
/// How many hexadecimal digits of the target's hash follow.
const TEMP_HASH: usize = 8;
/// How many names of temporary files are tried, where others have taken some of them.
const TEMP_NAMES: u32 = 10_000;

/// What the name of a set's journal begins with. No temporary file is called so: `set-` is no hash.
const JOURNAL_PREFIX: &str = ".awrite-set-";
/// What the name of its draft ends in.
const DRAFT_SUFFIX: &str = ".tmp";

/// What stands between a lock's name and the nonce in the name of a mark.
const MARK_INFIX: &str = ".break-";
/// How many hexadecimal digits a nonce has.
pub(crate) const NONCE: usize = 16;

/// The length of `YYYYMMDD-HHMMSS`.
const STAMP: usize = 15;
/// The length of the longest part that a time adds to a name: `.YYYYMMDD-HHMMSS-9999`.
const LONGEST_STAMP: usize = 21;
/// How many backups of one second get different names: the numbers up to 9999.
const BACKUPS_PER_SECOND: u32 = 10_000;

/// `NAME.lock` in `dir`.
pub(crate) fn lock_name(name: &OsStr, dir: &Dir) -> OsString {
    side_name(name, LOCK_SUFFIX, || longest_name(dir))
}

/// `NAME.lease` in `dir`.
pub(crate) fn lease_name(name: &OsStr, dir: &Dir) -> OsString {
    side_name(name, LEASE_SUFFIX, || longest_name(dir))
}

/// The name that stands for a whole path in a directory of lock files: `/` is written `%`, and `%` and `\\` in the path get
/// a `\\` before them, so that each path has its own name.
pub(crate) fn flat_name(path: &Path) -> OsString {
    let mut flat = Vec::with_capacity(path.as_os_str().len());
    for &b in path.as_os_str().as_bytes() {
        match b {
            b'/' => flat.push(b'%'),
            b'%' | b'\\' => flat.extend([b'\\', b]),
            _ => flat.push(b),
        }
    }
    OsString::from_vec(flat)
}

/// The path for which a [flat name](flat_name) stands; `None`: no path has this name.
pub(crate) fn flat_path(name: &OsStr) -> Option<PathBuf> {
    let (mut path, mut bytes) = (Vec::with_capacity(name.len()), name.as_bytes().iter());
    while let Some(&b) = bytes.next() {
        path.push(match b {
            b'%' => b'/',
            b'\\' => *bytes.next().filter(|b| matches!(b, b'%' | b'\\'))?,
            b => b,
        });
    }
    Some(PathBuf::from(OsString::from_vec(path)))
}

/// The greatest length of a name in `dir`. Where it cannot be asked, that of most file systems. Some say more than what a
/// name may have elsewhere (vfat counts otherwise); every program must arrive at the same name.
fn longest_name(dir: &Dir) -> usize {
    dir.longest_name().filter(|longest| *longest >= SHORT_NAME_MAX).map_or(NAME_MAX, |longest| longest.min(NAME_MAX))
}

/// `NAME` and `suffix`. A name too long for that is cut, and a hash of the whole name tells it apart. Every program
/// arrives at the same name. `limit` is only asked where it may matter.
fn side_name(name: &OsStr, suffix: &str, limit: impl FnOnce() -> usize) -> OsString {
    let bytes = name.as_bytes();
    let length = bytes.len() + suffix.len();
    if length <= SHORT_NAME_MAX {
        return joined(&[bytes, suffix.as_bytes()]);
    }
    let limit = limit();
    if length <= limit {
        return joined(&[bytes, suffix.as_bytes()]);
    }
    let hash = format!("-{:016x}", fnv1a(bytes));
    joined(&[&bytes[..limit - suffix.len() - hash.len()], hash.as_bytes(), suffix.as_bytes()])
}

/// Whether a name of this length may have been cut.
fn may_be_cut(length: usize) -> bool {
    length == NAME_MAX || length == SHORT_NAME_MAX
}

fn joined(parts: &[&[u8]]) -> OsString {
    OsString::from_vec(parts.concat())
}

/// FNV-1a, 64 bits. It is fixed for ever, since programs of different versions must arrive at the same lock. It needs no
/// secrecy: two targets whose hashes collide share a lock, and only wait for each other.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Whether `name` is one of a lock file: `NAME.lock`.
pub(crate) fn is_lock_name(name: &OsStr) -> bool {
    is_side_name(name, LOCK_SUFFIX)
}

/// Whether `name` is one of a lease's record: `NAME.lease`.
pub(crate) fn is_lease_name(name: &OsStr) -> bool {
    is_side_name(name, LEASE_SUFFIX)
}

fn is_side_name(name: &OsStr, suffix: &str) -> bool {
    name.len() > suffix.len() && name.as_bytes().ends_with(suffix.as_bytes())
}

/// The target of a lock file by its name; `None` where the name has been cut.
pub(crate) fn locked_name(name: &OsStr) -> Option<&OsStr> {
    target_name(name, LOCK_SUFFIX)
}

/// The target of a lease by the name of its record; `None` where the name has been cut.
pub(crate) fn leased_name(name: &OsStr) -> Option<&OsStr> {
    target_name(name, LEASE_SUFFIX)
}

fn target_name<'a>(name: &'a OsStr, suffix: &str) -> Option<&'a OsStr> {
    let base = name.as_bytes().strip_suffix(suffix.as_bytes())?;
    hash_in(base, suffix).is_none().then(|| OsStr::from_bytes(base))
}

/// The hash of its target's whole name in the name of a lock file, if that has been cut.
pub(crate) fn cut_hash(name: &OsStr) -> Option<u64> {
    hash_in(name.as_bytes().strip_suffix(LOCK_SUFFIX.as_bytes())?, LOCK_SUFFIX)
}

/// The hash at the end of `base`, which stands before `suffix` in a name that has been cut.
fn hash_in(base: &[u8], suffix: &str) -> Option<u64> {
    let (rest, hash) = base.split_at_checked(base.len().checked_sub(16)?)?;
    let cut = may_be_cut(base.len() + suffix.len()) && rest.ends_with(b"-") && is_hex(hash);
    u64::from_str_radix(std::str::from_utf8(hash).ok()?, 16).ok().filter(|_| cut)
}

/// Whether backups with this suffix would look like lock files or leases.
pub(crate) fn is_reserved_suffix(suffix: &OsStr) -> bool {
    [LOCK_SUFFIX, LEASE_SUFFIX].iter().any(|own| suffix.as_bytes().ends_with(own.as_bytes()))
}

/// The names that the temporary files for one target get, always the same ones in the same order: the next writer finds
/// what a dead one has left.
#[derive(Debug)]
pub(crate) struct TempNames<'a> {
    base: &'a OsStr,
    /// Of the link lock that the writer holds. Another that comes to hold that lock must not find the file.
    nonce: Option<&'a str>,
}

impl<'a> TempNames<'a> {
    pub(crate) fn new(base: &'a OsStr, nonce: Option<&'a str>) -> TempNames<'a> {
        TempNames { base, nonce }
    }

    /// `.awrite-HHHHHHHH`, and behind it `-NONCE`: what all of these names begin with.
    pub(crate) fn stem(&self) -> String {
        let stem = temp_stem(self.base);
        self.nonce.map_or_else(|| stem.clone(), |nonce| format!("{stem}-{nonce}"))
    }

    /// Name number `number`. The target's name comes last, so that programs see the ending that they know; it is cut at
    /// its beginning so that the whole fits in `limit` bytes.
    pub(crate) fn numbered(&self, number: u32, limit: usize) -> OsString {
        let mut head = self.stem();
        if number > 0 {
            head.push_str(&format!("-{number}"));
        }
        self.headed(head, limit)
    }

    fn headed(&self, mut head: String, limit: usize) -> OsString {
        head.push('.');
        let base = self.base.as_bytes();
        let room = limit.saturating_sub(head.len());
        joined(&[head.as_bytes(), &base[base.len().saturating_sub(room)..]])
    }

    fn in_set(&self, what: InSet, elsewhere: bool, limit: usize) -> OsString {
        let mut head = self.stem();
        if elsewhere {
            head.push_str("-0");
        }
        if what == InSet::Backup {
            head.push_str("-1");
        }
        self.headed(head, limit)
    }

    /// The first of them.
    pub(crate) fn first(&self, dir: &Dir) -> OsString {
        self.numbered(0, self.limit(dir))
    }

    fn limit(&self, dir: &Dir) -> usize {
        let may_be_long = self.base.len() + TEMP_PREFIX.len() + TEMP_HASH + NONCE + 8 > SHORT_NAME_MAX;
        if may_be_long { longest_name(dir) } else { NAME_MAX }
    }

    /// Counts up until `take` accepts a name, which it does by returning something. A name that is too long
    /// for the file system is made shorter, whatever that says about itself.
    pub(crate) fn first_free<T>(
        &self,
        dir: &Dir,
        mut take: impl FnMut(&OsStr) -> io::Result<T>,
    ) -> io::Result<(T, OsString)> {
        let mut limit = self.limit(dir);
        let mut number = 0;
        while number < TEMP_NAMES {
            let name = self.numbered(number, limit);
            match take(&name) {
                Ok(taken) => return Ok((taken, name)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) if e.raw_os_error() == Some(libc::ENAMETOOLONG) && name.len() > SHORT_NAME_MAX => {
                    limit = SHORT_NAME_MAX;
                }
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// What the name of every temporary file for `base` begins with: `.awrite-` and 32 bits of a hash of `base`. No person
/// types that, and it can be checked.
pub(crate) fn temp_stem(base: &OsStr) -> String {
    format!("{TEMP_PREFIX}{:08x}", temp_hash(base.as_bytes()))
}

/// The 64 bits, folded to 32.
fn temp_hash(base: &[u8]) -> u32 {
    let hash = fnv1a(base);
    #[allow(clippy::cast_possible_truncation)] // That is the folding.
    let folded = (hash >> 32) as u32 ^ hash as u32;
    folded
}

/// Whether `name` is one of a temporary file. The hash is compared where the name has not been cut.
pub(crate) fn is_temp_name(name: &OsStr) -> bool {
    let length = name.len();
    let Some(rest) = name.as_bytes().strip_prefix(TEMP_PREFIX.as_bytes()) else { return false };
    let Some(dot) = rest.iter().position(|&b| b == b'.') else { return false };
    let (head, base) = (&rest[..dot], &rest[dot + 1..]);
    let mut parts = head.split(|&b| b == b'-');
    let hash = parts.next().unwrap_or_default();
    if hash.len() != TEMP_HASH || !is_hex(hash) || base.is_empty() {
        return false;
    }
    let rest: Vec<&[u8]> = parts.collect();
    let is_number =
        |part: &[u8]| part.len() <= 4 && part.first() != Some(&b'0') && decimal(part).is_some_and(|n| n > 0);
    let is_form = match rest[..] {
        [] => true,
        [one] => is_nonce(one) || is_number(one),
        [nonce, number] => is_nonce(nonce) && is_number(number),
        _ => false,
    };
    is_form && (may_be_cut(length) || format!("{:08x}", temp_hash(base)).as_bytes() == hash)
}

/// Whether `name` is one of a temporary file for `base` that was made under a link lock.
pub(crate) fn is_temp_name_under_nonce(name: &OsStr, base: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(temp_stem(base).as_bytes()).and_then(|rest| rest.strip_prefix(b"-"));
    is_temp_name(name) && rest.and_then(|rest| rest.get(..NONCE)).is_some_and(is_nonce)
}

/// What a temporary file of a set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InSet {
    Stage,
    Backup,
}

/// The temporary name for `base` in the set with this nonce. Housekeeping finds the set's record by it, beside it. If that
/// is elsewhere, the name is one that housekeeping does not know: it would take the file for a dead writer's.
pub(crate) fn set_temp_name(base: &OsStr, nonce: &str, what: InSet, elsewhere: bool, dir: &Dir) -> OsString {
    let names = TempNames::new(base, Some(nonce));
    names.in_set(what, elsewhere, names.limit(dir))
}

/// The nonce in the name of a temporary file, and the file that it is for; `None` in its place: the name may have been cut.
pub(crate) fn temp_name_under_nonce(name: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    let (head, base) = name.as_bytes().strip_prefix(TEMP_PREFIX.as_bytes())?.split_at_checked(TEMP_HASH + 1 + NONCE)?;
    let nonce = std::str::from_utf8(&head[TEMP_HASH + 1..]).ok().filter(|nonce| is_nonce(nonce.as_bytes()))?;
    let base = base.iter().position(|&b| b == b'.').map(|dot| OsStr::from_bytes(&base[dot + 1..]))?;
    is_temp_name(name).then_some((nonce, Some(base).filter(|_| !may_be_cut(name.len()))))
}

/// The name of the journal of the set with this nonce.
pub(crate) fn journal_name(nonce: &str) -> OsString {
    format!("{JOURNAL_PREFIX}{nonce}").into()
}

/// The name of the journal's draft: it becomes the journal by being renamed.
pub(crate) fn journal_draft_name(nonce: &str) -> OsString {
    format!("{JOURNAL_PREFIX}{nonce}{DRAFT_SUFFIX}").into()
}

/// The nonce of a journal or of a draft of one, by its name.
pub(crate) fn journal_nonce(name: &OsStr) -> Option<&str> {
    let rest = name.as_bytes().strip_prefix(JOURNAL_PREFIX.as_bytes())?;
    let nonce = rest.strip_suffix(DRAFT_SUFFIX.as_bytes()).unwrap_or(rest);
    std::str::from_utf8(nonce).ok().filter(|nonce| is_nonce(nonce.as_bytes()))
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of the mark for the lock `name` while that has `nonce`.
pub(crate) fn mark_name(name: &OsStr, nonce: &str, dir: &Dir) -> OsString {
    side_name(name, &mark_suffix(nonce), || longest_name(dir))
}

fn mark_suffix(nonce: &str) -> String {
    format!("{MARK_INFIX}{nonce}")
}

/// What the name of every mark for the lock `name` begins with, unless it has been cut.
pub(crate) fn mark_stem(name: &OsStr) -> OsString {
    joined(&[name.as_bytes(), MARK_INFIX.as_bytes()])
}

/// Whether `name` is one of a mark.
pub(crate) fn is_mark_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let Some(at) = name.len().checked_sub(NONCE) else { return false };
    is_nonce(&name[at..]) && name[..at].ends_with(MARK_INFIX.as_bytes())
}

/// The lock and the nonce of a mark by its name; `None` where the name has been cut. Call it only with what
/// [`is_mark_name`] accepts.
pub(crate) fn marked_name(mark: &OsStr) -> Option<(&OsStr, &str)> {
    let (of, nonce) = mark.as_bytes().split_at(mark.len() - NONCE);
    let of = OsStr::from_bytes(&of[..of.len() - MARK_INFIX.len()]);
    let nonce = std::str::from_utf8(nonce).ok()?;
    (!may_be_cut(mark.len())).then_some((of, nonce))
}

/// Whether `text` is a nonce of a link lock.
pub(crate) fn is_nonce(text: &[u8]) -> bool {
    text.len() == NONCE && is_hex(text)
}

/// The time in the name of a dated backup. The order is the order in which the backups were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// Local time, in whole seconds.
    pub(crate) time: DateTime,
    /// Tells the backups of one second apart: 0 for the first, whose name has no number.
    pub(crate) number: u32,
}

/// `YYYYMMDD-HHMMSS` or `YYYYMMDD-HHMMSS-N`.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.time;
        write!(f, "{:04}{:02}{:02}-{:02}{:02}{:02}", t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second())?;
        if self.number > 0 { write!(f, "-{}", self.number) } else { Ok(()) }
    }
}

/// The length of NAME and the time in `NAME.YYYYMMDD-HHMMSS[-N]`, a backup's name without its suffix. Accepts only what a
/// writer would make: a date that exists, and N from 1 without leading zeros.
pub(crate) fn split_stamp(base: &[u8]) -> Option<(usize, Stamp)> {
    let dot = base.iter().rposition(|&b| b == b'.').filter(|&dot| dot > 0)?;
    let (stamp, rest) = base[dot + 1..].split_at_checked(STAMP)?;
    let number = match rest {
        [] => 0,
        [b'-', digits @ ..] if (1..=5).contains(&digits.len()) && digits[0] != b'0' => decimal(digits)?,
        _ => return None,
    };
    if stamp[8] != b'-' {
        return None;
    }
    let part = |from: usize, to: usize| decimal(&stamp[from..to]).and_then(|n| i16::try_from(n).ok());
    let small = |from: usize, to: usize| part(from, to).and_then(|n| i8::try_from(n).ok());
    let (year, month, day) = (part(0, 4)?, small(4, 6)?, small(6, 8)?);
    let (hour, minute, second) = (small(9, 11)?, small(11, 13)?, small(13, 15)?);
    let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some((dot, Stamp { time, number }))
}

fn decimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

/// The names that a backup may get.
#[derive(Debug)]
pub(crate) struct BackupNames<'a> {
    base: &'a OsStr,
    suffix: &'a OsStr,
    time: Option<DateTime>,
    /// The first number that is tried.
    from: u32,
}

impl<'a> BackupNames<'a> {
    /// The name `NAME.backup`, or, with `timestamp`, those with the local time of this moment.
    pub(crate) fn new(base: &'a OsStr, suffix: &'a OsStr, timestamp: bool) -> BackupNames<'a> {
        let time = timestamp.then(|| {
            // Whole seconds, as in a name. A time that is now cannot be out of range.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let now = i64::try_from(now).ok().and_then(|now| jiff::Timestamp::from_second(now).ok());
            now.unwrap_or_default().to_zoned(local_time::zone()).datetime()
        });
        BackupNames { base, suffix, time, from: 0 }
    }

    /// The names with this time. `base` is cut where they would be too long otherwise.
    pub(crate) fn of_time(base: &'a OsStr, suffix: &'a OsStr, time: DateTime) -> BackupNames<'a> {
        let room = NAME_MAX.saturating_sub(LONGEST_STAMP + suffix.len());
        let base = OsStr::from_bytes(&base.as_bytes()[..base.len().min(room)]);
        BackupNames { base, suffix, time: Some(time), from: 0 }
    }

    /// Leaves out the names that come before one of `others`. Where old backups are deleted, a number that is free again would
    /// make the new one older than they are.
    pub(crate) fn begin_above(&mut self, others: &[(Stamp, OsString)]) {
        let of_now = others.iter().filter(|(stamp, _)| Some(stamp.time) == self.time);
        let numbers = of_now.map(|(stamp, _)| stamp.number + 1).filter(|number| *number < BACKUPS_PER_SECOND);
        self.from = numbers.max().unwrap_or(0);
    }

    /// The name of the first backup of this second, or of the only one.
    pub(crate) fn plain(&self) -> OsString {
        self.numbered(self.from)
    }

    /// Whether the time is part of the name.
    pub(crate) fn is_dated(&self) -> bool {
        self.time.is_some()
    }

    fn numbered(&self, number: u32) -> OsString {
        let stamp = self.time.map_or_else(String::new, |time| format!(".{}", Stamp { time, number }));
        joined(&[self.base.as_bytes(), stamp.as_bytes(), self.suffix.as_bytes()])
    }

    /// The time in `name`, if it is that of a dated backup of the same file with the same suffix.
    pub(crate) fn stamp_in(&self, name: &OsStr) -> Option<Stamp> {
        let (length, stamp) = split_stamp(name.as_bytes().strip_suffix(self.suffix.as_bytes())?)?;
        (&name.as_bytes()[..length] == self.base.as_bytes()).then_some(stamp)
    }

    /// Counts up until `take` accepts a name, and returns that name.
    pub(crate) fn first_free(&self, mut take: impl FnMut(&OsStr) -> io::Result<()>) -> io::Result<OsString> {
        for number in self.from..BACKUPS_PER_SECOND {
            let name = self.numbered(number);
            match take(&name) {
                Ok(()) => return Ok(name),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// What holds for any name of a file.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_name(name: &OsStr) {
    for (suffix, limit) in [LOCK_SUFFIX, LEASE_SUFFIX].iter().flat_map(|s| [(*s, NAME_MAX), (*s, SHORT_NAME_MAX)]) {
        let side = side_name(name, suffix, || limit);
        assert!(side.len() <= limit && side.as_bytes().ends_with(suffix.as_bytes()), "{side:?}");
        assert_eq!(is_side_name(&side, suffix), !name.is_empty(), "{side:?}");
        // A name stands for one target, or, where it has been cut, for none.
        let back = target_name(&side, suffix);
        assert!(back == Some(name) || back.is_none(), "{name:?} becomes {back:?}");
        assert!(back.is_some() || may_be_cut(side.len()), "{name:?} is not known again");
        if suffix == LOCK_SUFFIX && side.len() != name.len() + suffix.len() {
            assert_eq!(cut_hash(&side), Some(fnv1a(name.as_bytes())));
        }
    }
    for limit in [NAME_MAX, SHORT_NAME_MAX] {
        for (nonce, number) in [(None, 0), (None, 7), (Some("0123456789abcdef"), 0), (Some("0123456789abcdef"), 9999)] {
            let temp = TempNames::new(name, nonce).numbered(number, limit);
            assert!(temp.len() <= limit, "{temp:?}");
            assert_eq!(is_temp_name(&temp), !name.is_empty(), "{temp:?}");
        }
    }
    // A path has one name, and the name one path.
    assert_eq!(flat_path(&flat_name(Path::new(name))).as_deref(), Some(Path::new(name)), "{name:?}");
    assert!(flat_path(name).is_none_or(|path| flat_name(&path) == name || name.as_bytes().contains(&b'/')), "{name:?}");
    if let Some((length, stamp)) = split_stamp(name.as_bytes()) {
        // Each time has only one text.
        let (base, rest) = name.as_bytes().split_at(length);
        assert!(!base.is_empty());
        assert_eq!(format!(".{stamp}").as_bytes(), rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What looks like a dated name, and often is one.
    const LIKELY: &str = concat!(
        r"[^/]{0,3}(\.[0-2][0-9]{3}(0[1-9]|1[0-3])[0-3][1-9]-[01][0-9][0-5][0-9][0-6][0-9]",
        r"(-0?[0-9]{1,5})?){1,3}(\.backup)?"
    );

    /// On most file systems.
    fn in_most(name: &OsStr, suffix: &str) -> OsString {
        side_name(name, suffix, || NAME_MAX)
    }

    proptest! {
        #[test]
        fn names_of_targets(
            name in prop::collection::vec(any::<u8>(), 0..300),
            hash in "[a-z]{0,3}-[0-9a-f]{15,17}",
            dated in LIKELY,
            more: u8,
        ) {
            any_name(OsStr::from_bytes(&name));
            any_name(OsStr::new(&hash));
            any_name(OsStr::new(&dated));
            let mut other = name.clone();
            other.push(more);
            let lock = |name: &[u8]| in_most(OsStr::from_bytes(name), LOCK_SUFFIX);
            prop_assert_ne!(lock(&name), lock(&other));
            *other.last_mut().unwrap() = more ^ 1;
            prop_assert_ne!(lock(&other), lock(&[&name[..], &[more]].concat()));
        }
    }

    #[test]
    fn names_fit_and_differ() {
        let lock_name = |name: &str| in_most(OsStr::new(name), LOCK_SUFFIX);
        assert_eq!(lock_name("f"), "f.lock");
        let longest = "x".repeat(250);
        assert_eq!(lock_name(&longest).len(), 255);
        assert_eq!(lock_name(&longest), format!("{longest}.lock").as_str());
        let a = lock_name(&format!("{}a", "x".repeat(254)));
        let b = lock_name(&format!("{}b", "x".repeat(254)));
        assert_eq!((a.len(), b.len()), (255, 255));
        assert_ne!(a, b);
        assert_eq!(in_most(OsStr::new("f"), LEASE_SUFFIX), "f.lease");
        assert_eq!(leased_name(OsStr::new("a-0123456789abcdef.lease")), Some(OsStr::new("a-0123456789abcdef")));
        let cut = in_most(OsStr::new(&longest), LEASE_SUFFIX);
        assert_eq!((cut.len(), leased_name(&cut)), (255, None));
        let whole = in_most(OsStr::new(&longest[1..]), LEASE_SUFFIX);
        assert_eq!((whole.len(), leased_name(&whole)), (255, Some(OsStr::new(&longest[1..]))));
    }

    #[test]
    fn names_of_whole_paths() {
        for (path, name) in
            [("/a/b", "%a%b"), ("/a%b", "%a\\%b"), ("/a\\b", "%a\\\\b"), ("/%/a", "%\\%%a"), ("/a\\/%", "%a\\\\%\\%")]
        {
            assert_eq!(flat_name(Path::new(path)), name);
            assert_eq!(flat_path(OsStr::new(name)), Some(path.into()));
        }
        for name in ["%a\\", "%a\\b"] {
            assert_eq!(flat_path(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn names_where_they_end_early() {
        for length in [138, 139, 143] {
            let name = "n".repeat(length);
            let lock = side_name(OsStr::new(&name), LOCK_SUFFIX, || SHORT_NAME_MAX);
            assert_eq!(lock.len(), 143, "{length}");
            assert_eq!(locked_name(&lock).is_none(), length > 138, "{length}");
        }
    }

    #[test]
    fn names_of_temporary_files() {
        let name = |base: &str, nonce, number| {
            TempNames::new(OsStr::new(base), nonce).numbered(number, NAME_MAX).into_string().unwrap()
        };
        assert_eq!(name("f.conf", None, 0), ".awrite-ebaa7927.f.conf");
        assert_eq!(name("f.conf", None, 2), ".awrite-ebaa7927-2.f.conf");
        assert_eq!(
            name("f", Some("0123456789abcdef"), 0),
            format!("{}-0123456789abcdef.f", temp_stem(OsStr::new("f")))
        );
        for length in [1, 238, 239, 255] {
            let name = name(&"n".repeat(length), None, 0);
            assert!(name.len() <= 255 && is_temp_name(OsStr::new(&name)), "{name}");
        }
        // What is cut is the beginning.
        assert!(name(&format!("{}.json", "n".repeat(250)), None, 0).ends_with("n.json"));
        let f = temp_stem(OsStr::new("f"));
        for other in [
            ".awrite-ebaa7927.f",
            &f,
            &format!("{f}."),
            &format!("{}.f", &f[1..]),
            &format!("{f}-0.f"),
            &format!("{f}-01.f"),
            &format!("{f}-.f"),
            &format!("{f}-12345.f"),
            &format!("{f}-1-2.f"),
            &format!("{f}-0123456789abcdeg.f"),
            &format!("{f}-0123456789abcdef-.f"),
            &format!("{}.f", f.to_uppercase()),
            ".f.awrite-aB3xyZ",
            "",
        ] {
            assert!(!is_temp_name(OsStr::new(other)), "{other}");
        }
    }

    #[test]
    fn names_of_backups() {
        let mut names = BackupNames::new(OsStr::new("f.conf"), OsStr::new(".backup"), false);
        assert_eq!(names.plain(), "f.conf.backup");
        let then = jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0);
        names.time = Some(then);
        assert_eq!(names.plain(), "f.conf.20260102-030405.backup");
        assert_eq!(names.numbered(2), "f.conf.20260102-030405-2.backup");
        let stamp = names.stamp_in(&names.numbered(2));
        assert_eq!(stamp, Some(Stamp { time: then, number: 2 }));
        for others in [
            "f.conf.backup",
            "f.conf.20260102-030405",
            "f.conf.20260102-030405.old",
            "f.conf.20260102.backup",
            "xf.conf.20260102-030405.backup",
            "f.conf2.20260102-030405.backup",
            "conf.20260102-030405.backup",
            "f.conf.20260102-030405.20260102-030406.backup",
        ] {
            assert_eq!(names.stamp_in(OsStr::new(others)), None, "{others}");
        }
    }

    #[test]
    fn dated_names_fit() {
        let time = DateTime::new(2026, 1, 2, 3, 4, 5, 0).unwrap();
        let (base, suffix) = ("n".repeat(255), ".backup");
        let names = BackupNames::of_time(OsStr::new(&base), OsStr::new(suffix), time);
        assert_eq!(names.numbered(BACKUPS_PER_SECOND - 1).len(), NAME_MAX);
    }

    #[test]
    fn times_in_names() {
        let stamp = |year, month, day, hour, minute, second, number| {
            let time = DateTime::new(year, month, day, hour, minute, second, 0).unwrap();
            Stamp { time, number }
        };
        for (base, expected) in [
            ("f.20260102-030405", Some((1, stamp(2026, 1, 2, 3, 4, 5, 0)))),
            ("f.20260102-030405-1", Some((1, stamp(2026, 1, 2, 3, 4, 5, 1)))),
            ("f.20260102-030405-9999", Some((1, stamp(2026, 1, 2, 3, 4, 5, 9999)))),
            ("a.b.20240229-235959", Some((3, stamp(2024, 2, 29, 23, 59, 59, 0)))),
            ("a.20200101-000000.20240229-235959", Some((17, stamp(2024, 2, 29, 23, 59, 59, 0)))),
            (".20260102-030405", None),
            ("20260102-030405", None),
            ("f.20260102-030405-", None),
            ("f.20260102-030405-0", None),
            ("f.20260102-030405-01", None),
            ("f.20260102-030405-1234567", None),
            ("f.20260102-030405x", None),
            ("f.20260102_030405", None),
            ("f.2026010-2030405", None),
            ("f.20260102-0304", None),
            ("f.20261302-030405", None),
            ("f.20260230-030405", None),
            ("f.20250229-030405", None),
            ("f.20260102-240000", None),
            ("f.20260102-036005", None),
            ("f.20260102-030461", None),
            ("f.2026+102-030405", None),
            ("f", None),
            ("", None),
        ] {
            assert_eq!(split_stamp(base.as_bytes()), expected, "{base}");
        }
    }

    #[test]
    fn a_second_s_backups_are_in_order() {
        let stamp = |base: &[u8]| split_stamp(base).unwrap().1;
        assert!(stamp(b"f.20260102-030405") < stamp(b"f.20260102-030405-2"));
        assert!(stamp(b"f.20260102-030405-2") < stamp(b"f.20260102-030405-10"));
        assert!(stamp(b"f.20260102-030405-10") < stamp(b"f.20260102-030406"));
    }
}
