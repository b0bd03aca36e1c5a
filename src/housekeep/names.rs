//! What the name of a file says about it. A name is a first sieve only: what may be removed is decided by looking at the
//! file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use jiff::civil::DateTime;

use super::HousekeepOptions;
use crate::names::{is_mark_name, is_temp_name};

const LOCK_SUFFIX: &[u8] = b".lock";
const LEASE_SUFFIX: &[u8] = b".lease";
/// `YYYYMMDD-HHMMSS`.
const STAMP: usize = 15;

/// What a file may be, going by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Lock,
    Lease,
    Temp,
    /// A backup: the length of the name before the suffix.
    Backup(u16),
    /// Not to be removed, but its name looks like a backup's without the suffix: `log.20260102-030405`. What looks like a
    /// dated backup of `log` is then this file's plain backup.
    Dated,
}

/// `None`: nothing that `options` are about.
pub(super) fn meaning(name: &[u8], options: &HousekeepOptions) -> Option<Meaning> {
    if is_temp_name(OsStr::from_bytes(name)) {
        return options.temps.then_some(Meaning::Temp);
    }
    if name.len() > LOCK_SUFFIX.len() && name.ends_with(LOCK_SUFFIX) || is_mark_name(OsStr::from_bytes(name)) {
        return options.locks.then_some(Meaning::Lock);
    }
    if options.locks && name.len() > LEASE_SUFFIX.len() && name.ends_with(LEASE_SUFFIX) {
        return Some(Meaning::Lease);
    }
    if !options.backups {
        return None;
    }
    match name.strip_suffix(options.backup_suffix.as_bytes()) {
        Some(base) if !base.is_empty() => u16::try_from(base.len()).ok().map(Meaning::Backup),
        _ => split_stamp(name).is_some().then_some(Meaning::Dated),
    }
}

/// Whether a backup with this suffix could be taken for something else.
pub(super) fn is_bad_suffix(suffix: &OsStr) -> bool {
    let suffix = suffix.as_bytes();
    suffix.is_empty()
        || suffix.contains(&b'/')
        || suffix.contains(&0)
        || [LOCK_SUFFIX, LEASE_SUFFIX].iter().any(|own| suffix.ends_with(own))
}

/// The time in a backup's name, and the number that tells backups of one second apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(super) time: DateTime,
    pub(super) number: u32,
}

/// `NAME.YYYYMMDD-HHMMSS` or `NAME.YYYYMMDD-HHMMSS-N` → NAME's length and the time. Only what a writer would make: a date
/// that exists, N from 1 without leading zeros.
pub(super) fn split_stamp(base: &[u8]) -> Option<(usize, Stamp)> {
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

/// What is left of `base` when all the times at its end are taken off. Files that could compete for being the newest
/// backup of something have it in common, however their names are read.
pub(super) fn root(mut base: &[u8]) -> &[u8] {
    while let Some((length, _)) = split_stamp(base) {
        base = &base[..length];
    }
    base
}

/// Directories that belong to version control: what looks like a lock file there is one, though nobody holds it open.
pub(super) fn is_version_control(name: &[u8]) -> bool {
    matches!(name, b".git" | b".hg" | b".svn")
}

/// The shape of a bare git repository, gathered from the names in a directory. A working tree's `.git` has it too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    head: bool,
    objects: bool,
    refs: bool,
}

impl Shape {
    pub(super) fn add(&mut self, name: &[u8]) {
        match name {
            b"HEAD" => self.head = true,
            b"objects" => self.objects = true,
            b"refs" => self.refs = true,
            _ => {}
        }
    }

    pub(super) fn is_repository(self) -> bool {
        self.head && self.objects && self.refs
    }
}

/// What holds for any name.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_name(name: &OsStr) {
    let options = HousekeepOptions { locks: true, backups: true, temps: true, ..HousekeepOptions::default() };
    let name = name.as_bytes();
    if let Some(Meaning::Backup(length)) = meaning(name, &options) {
        let (base, suffix) = name.split_at(usize::from(length));
        assert!(!base.is_empty() && suffix == options.backup_suffix.as_bytes());
    }
    if let Some((length, Stamp { time: t, number })) = split_stamp(name) {
        // Only what a writer would make, which is one text for each time.
        let (date, time) = (t.date(), t.time());
        let mut again = name[..length].to_vec();
        let days = format!(".{:04}{:02}{:02}", date.year(), date.month(), date.day());
        let seconds = format!("-{:02}{:02}{:02}", time.hour(), time.minute(), time.second());
        again.extend_from_slice((days + &seconds).as_bytes());
        if number > 0 {
            again.extend_from_slice(format!("-{number}").as_bytes());
        }
        assert_eq!(again, name);
        assert_eq!(root(name), root(&name[..length]));
    }
    assert!(name.starts_with(root(name)) && root(root(name)) == root(name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::BackupNames;
    use proptest::prelude::*;

    /// What looks like a dated name, and often is one.
    const LIKELY: &str = concat!(
        r"[^/]{0,3}(\.[0-2][0-9]{3}(0[1-9]|1[0-3])[0-3][1-9]-[01][0-9][0-5][0-9][0-6][0-9]",
        r"(-0?[0-9]{1,5})?){1,3}(\.backup)?"
    );

    proptest! {
        #[test]
        fn names(bytes: Vec<u8>, likely in LIKELY) {
            any_name(OsStr::from_bytes(&bytes));
            any_name(OsStr::new(&likely));
        }

        /// Whatever a writer calls a backup, housekeeping knows it, with its time and the file that it is of.
        #[test]
        fn what_writers_call_them(
            base in "[^/\0]{1,20}",
            suffix in "(\\.backup|~|\\.orig|-old)",
            seconds in 0..253_402_300_799_i64,
            number in 0..200_u32,
        ) {
            let time = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            let mut taken = 0;
            let name = BackupNames::of_time(OsStr::new(&base), OsStr::new(&suffix), &time).first_free(|_| {
                taken += 1;
                if taken > number { Ok(()) } else { Err(std::io::ErrorKind::AlreadyExists.into()) }
            }).unwrap();
            let options = HousekeepOptions { backup_suffix: suffix.into(), ..all() };
            let Some(Meaning::Backup(length)) = meaning(name.as_bytes(), &options) else { panic!("{name:?}") };
            let (dot, stamp) = split_stamp(&name.as_bytes()[..usize::from(length)]).unwrap();
            prop_assert_eq!(&name.as_bytes()[..dot], base.as_bytes());
            prop_assert_eq!((stamp.time, stamp.number), (time.datetime(), number));
        }
    }

    fn all() -> HousekeepOptions {
        HousekeepOptions { locks: true, backups: true, temps: true, ..HousekeepOptions::default() }
    }

    #[test]
    fn names_say_what_a_file_may_be() {
        for (name, expected) in [
            ("f.lock", Some(Meaning::Lock)),
            ("f.lease", Some(Meaning::Lease)),
            (".lease", None),
            (".f.lock", Some(Meaning::Lock)),
            ("f.lock.break-0123456789abcdef", Some(Meaning::Lock)),
            ("f.lock.break-0123456789abcde", None),
            ("a.backup.lock", Some(Meaning::Lock)),
            (".lock", None),
            ("lock", None),
            ("flock", None),
            ("f.lock2", None),
            ("f.LOCK", None),
            (".f.awrite-aB3xyZ", Some(Meaning::Temp)),
            ("f.awrite-aB3xyZ", None),
            (".f.awrite-aB3xy", None),
            ("f.backup", Some(Meaning::Backup(1))),
            ("f.lock.backup", Some(Meaning::Backup(6))),
            ("f.20260102-030405.backup", Some(Meaning::Backup(17))),
            (".backup", None),
            ("backup", None),
            ("f.backup2", None),
            ("log.20260102-030405", Some(Meaning::Dated)),
            ("log.20260102", None),
            ("f", None),
        ] {
            assert_eq!(meaning(name.as_bytes(), &all()), expected, "{name}");
        }
        assert_eq!(meaning(b"f.lock", &HousekeepOptions { locks: false, ..all() }), None);
        assert_eq!(meaning(b"f.backup", &HousekeepOptions { backups: false, ..all() }), None);
        assert_eq!(meaning(b".f.awrite-aB3xyZ", &HousekeepOptions { temps: false, ..all() }), None);
    }

    #[test]
    fn the_suffix_can_be_chosen() {
        let options = HousekeepOptions { backup_suffix: "~".into(), ..all() };
        assert_eq!(meaning(b"f~", &options), Some(Meaning::Backup(1)));
        assert_eq!(meaning(b"f.backup", &options), None);
        for bad in ["", "/x", ".lock", ".old.lock", ".lease", "a\0"] {
            assert!(is_bad_suffix(OsStr::new(bad)), "{bad:?}");
        }
        assert!(!is_bad_suffix(OsStr::new(".orig")));
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

    #[test]
    fn roots() {
        assert_eq!(root(b"log"), b"log");
        assert_eq!(root(b"log.20260102-030405"), b"log");
        assert_eq!(root(b"log.20260102-030405.20260102-030406-3"), b"log");
        assert_eq!(root(b".20260102-030405"), b".20260102-030405");
    }

    #[test]
    fn shapes() {
        let shape = |names: &[&str]| {
            let mut shape = Shape::default();
            names.iter().for_each(|name| shape.add(name.as_bytes()));
            shape.is_repository()
        };
        assert!(shape(&["config", "refs", "HEAD", "objects"]));
        assert!(!shape(&["refs", "HEAD"]));
        assert!(!shape(&["refs", "HEAD", "object"]));
    }
}
