//! What the name of a file says about it. A name only makes a candidate: what is deleted is decided by looking at the file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::options::HousekeepOptions;
use crate::names::{is_lease_name, is_lock_name, is_mark_name, is_temp_name, journal_nonce, split_stamp};

/// What a file may be, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    /// A lock file, or the mark of one who breaks it.
    Lock,
    /// The record of a lease, or of a set that its target is part of.
    Lease,
    /// A temporary file, or the journal of a set.
    Temp,
    /// A backup: the length of the name before the suffix.
    Backup(u16),
    /// No leftover, but a file whose own name ends in a time: `log.20260102-030405`. Beside it,
    /// `log.20260102-030405.backup` is its plain backup, and no dated backup of `log`.
    DatedTarget,
}

/// What `name` may stand for; `None` where `options` do not ask for that.
pub(super) fn classify(name: &OsStr, options: &HousekeepOptions) -> Option<NameKind> {
    if is_temp_name(name) || journal_nonce(name).is_some() {
        return options.cleans_temps().then_some(NameKind::Temp);
    }
    if is_lock_name(name) || is_mark_name(name) {
        return options.cleans_locks().then_some(NameKind::Lock);
    }
    if is_lease_name(name) {
        return (options.cleans_locks() || options.cleans_temps()).then_some(NameKind::Lease);
    }
    if !options.cleans_backups() {
        return None;
    }
    let name = name.as_bytes();
    match name.strip_suffix(options.backup_suffix.as_bytes()) {
        Some(base) if !base.is_empty() => u16::try_from(base.len()).ok().map(NameKind::Backup),
        _ => split_stamp(name).is_some().then_some(NameKind::DatedTarget),
    }
}

/// `base` without all the times at its end. Two backups that may turn out to be of the same file have this in common,
/// whichever of the times prove to be part of that file's name.
pub(super) fn group_of(mut base: &[u8]) -> &[u8] {
    while let Some((length, _)) = split_stamp(base) {
        base = &base[..length];
    }
    base
}

/// What holds for any name.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_name(name: &OsStr) {
    let options = HousekeepOptions { locks: true, backups: true, temps: true, ..HousekeepOptions::default() };
    let kind = classify(name, &options);
    let name = name.as_bytes();
    if let Some(NameKind::Backup(length)) = kind {
        let (base, suffix) = name.split_at(usize::from(length));
        assert!(!base.is_empty() && suffix == options.backup_suffix.as_bytes());
    }
    let group = group_of(name);
    assert!(name.starts_with(group) && group_of(group) == group);
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
            let name = BackupNames::of_time(OsStr::new(&base), OsStr::new(&suffix), time.datetime()).first_free(|_| {
                taken += 1;
                if taken > number { Ok(()) } else { Err(std::io::ErrorKind::AlreadyExists.into()) }
            }).unwrap();
            let options = HousekeepOptions { backup_suffix: suffix.into(), ..all() };
            let Some(NameKind::Backup(length)) = classify(&name, &options) else { panic!("{name:?}") };
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
            ("f.lock", Some(NameKind::Lock)),
            ("f.lease", Some(NameKind::Lease)),
            (".lease", None),
            (".f.lock", Some(NameKind::Lock)),
            ("f.lock.break-0123456789abcdef", Some(NameKind::Lock)),
            ("f.lock.break-0123456789abcde", None),
            ("a.backup.lock", Some(NameKind::Lock)),
            (".lock", None),
            ("lock", None),
            ("flock", None),
            ("f.lock2", None),
            ("f.LOCK", None),
            (".awrite-29623195.f", Some(NameKind::Temp)),
            (".awrite-29623195-1.f", Some(NameKind::Temp)),
            (".awrite-29623195.g", None),
            (".awrite-set-0123456789abcdef", Some(NameKind::Temp)),
            (".awrite-set-0123456789abcdef.tmp", Some(NameKind::Temp)),
            (".awrite-set-0123456789abcdef.tmp2", None),
            (".awrite-set-f", None),
            ("awrite-29623195.f", None),
            (".f.awrite-aB3xyZ", None),
            ("f.backup", Some(NameKind::Backup(1))),
            ("f.lock.backup", Some(NameKind::Backup(6))),
            ("f.20260102-030405.backup", Some(NameKind::Backup(17))),
            (".backup", None),
            ("backup", None),
            ("f.backup2", None),
            ("log.20260102-030405", Some(NameKind::DatedTarget)),
            ("log.20260102", None),
            ("f", None),
        ] {
            assert_eq!(classify(OsStr::new(name), &all()), expected, "{name}");
        }
        assert_eq!(classify(OsStr::new("f.lock"), &HousekeepOptions { locks: false, ..all() }), None);
        let neither = HousekeepOptions { locks: false, temps: false, ..all() };
        assert_eq!(classify(OsStr::new("f.lease"), &neither), None);
        assert_eq!(classify(OsStr::new("f.backup"), &HousekeepOptions { backups: false, ..all() }), None);
        assert_eq!(classify(OsStr::new(".awrite-29623195.f"), &HousekeepOptions { temps: false, ..all() }), None);
    }

    #[test]
    fn the_suffix_can_be_chosen() {
        let options = HousekeepOptions { backup_suffix: "~".into(), ..all() };
        assert_eq!(classify(OsStr::new("f~"), &options), Some(NameKind::Backup(1)));
        assert_eq!(classify(OsStr::new("f.backup"), &options), None);
    }

    #[test]
    fn groups() {
        assert_eq!(group_of(b"log"), b"log");
        assert_eq!(group_of(b"log.20260102-030405"), b"log");
        assert_eq!(group_of(b"log.20260102-030405.20260102-030406-3"), b"log");
        assert_eq!(group_of(b".20260102-030405"), b".20260102-030405");
    }
}
