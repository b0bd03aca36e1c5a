//! Which of a file's backups stay, by their number and their ages.

use std::time::Duration;

use super::age::age;

/// When a backup was made. The order is the order in which the backups were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackupTime {
    /// Nanoseconds since 1970.
    pub(super) time: i128,
    /// Tells backups of one time apart.
    pub(super) number: u32,
}

/// What to keep of each file's backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    keep_newest: u64,
    older_than: Option<Duration>,
}

impl Retention {
    /// With neither option the newest stays: a bare run from cron must never delete the last backup.
    pub(super) fn new(keep_newest: Option<u64>, older_than: Option<Duration>) -> Retention {
        Retention { keep_newest: keep_newest.unwrap_or(u64::from(older_than.is_none())), older_than }
    }

    /// How many of one file's `backups` stay, counted from the first. They are sorted newest first.
    pub(super) fn keeps<T>(self, backups: &[T], made: impl Fn(&T) -> BackupTime, now: i128) -> usize {
        let newest = usize::try_from(self.keep_newest).unwrap_or(usize::MAX).min(backups.len());
        let young = |backup: &T| self.older_than.is_some_and(|limit| age(now, made(backup).time) < limit);
        // Sorted newest first, so the young ones form a prefix.
        newest.max(backups.partition_point(young))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i128 = 86_400 * 1_000_000_000;
    const NOW: i128 = 20_000 * DAY;

    /// The ages in days of what goes, of backups with these ages.
    fn removed(ages: &[i128], keep_newest: Option<u64>, older_than_days: Option<u64>) -> Vec<i128> {
        let retention = Retention::new(keep_newest, older_than_days.map(|days| Duration::from_secs(days * 86_400)));
        let mut ages = ages.to_vec();
        ages.sort_unstable();
        let kept = retention.keeps(&ages, |age| BackupTime { time: NOW - age * DAY, number: 0 }, NOW);
        ages.split_off(kept)
    }

    #[test]
    fn a_bare_run_keeps_the_newest() {
        assert_eq!(removed(&[3, 1, 2], None, None), [2, 3]);
        assert_eq!(removed(&[1000], None, None), []);
        assert_eq!(removed(&[], None, None), []);
    }

    #[test]
    fn keep_newest_alone() {
        assert_eq!(removed(&[3, 1, 2], Some(0), None), [1, 2, 3]);
        assert_eq!(removed(&[3, 1, 2], Some(2), None), [3]);
        assert_eq!(removed(&[3, 1, 2], Some(u64::MAX), None), []);
    }

    #[test]
    fn older_than_alone_takes_the_last_one_too() {
        assert_eq!(removed(&[30], None, Some(7)), [30]);
        assert_eq!(removed(&[6, 30, 7], None, Some(7)), [7, 30]);
        assert_eq!(removed(&[6, 30, 7], None, Some(0)), [6, 7, 30]);
    }

    #[test]
    fn both_together_remove_only_what_both_allow() {
        assert_eq!(removed(&[1, 8, 9, 10], Some(2), Some(7)), [9, 10]);
        assert_eq!(removed(&[8, 9, 10], Some(1), Some(7)), [9, 10]);
        assert_eq!(removed(&[1, 2, 3], Some(1), Some(7)), []);
        assert_eq!(removed(&[1, 10], Some(0), Some(7)), [10]);
    }

    #[test]
    fn the_future_is_young() {
        assert_eq!(removed(&[-5, 10], None, Some(7)), [10]);
        assert_eq!(removed(&[-5, 10], None, None), [10]);
    }

    #[test]
    fn numbers_decide_within_a_second() {
        assert!(BackupTime { time: 1, number: 2 } < BackupTime { time: 1, number: 10 });
        assert!(BackupTime { time: 1, number: 10 } < BackupTime { time: 2, number: 0 });
    }
}
