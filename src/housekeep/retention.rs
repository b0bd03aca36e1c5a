//! Which of a file's backups stay, by their number and their ages.

use std::time::Duration;

use super::age::age;

/// What to keep of each file's backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    keep_newest: u64,
    older_than: Option<Duration>,
}

impl Retention {
    /// With neither limit the newest stays: a bare run from cron must never delete the last backup. `always_one`: it stays
    /// with an age alone, too.
    pub(super) fn new(keep_newest: Option<u64>, older_than: Option<Duration>, always_one: bool) -> Retention {
        let default = u64::from(always_one || older_than.is_none());
        Retention { keep_newest: keep_newest.unwrap_or(default), older_than }
    }

    /// Whether the ages of backups matter.
    pub(super) fn asks_for_age(self) -> bool {
        self.older_than.is_some()
    }

    /// Whether a backup of that age is too young to go, however many newer ones there are.
    pub(super) fn is_young(self, time: i128, now: i128) -> bool {
        self.older_than.is_some_and(|limit| age(now, time) < limit)
    }

    /// Whether a backup stays that has `newer` newer ones, and was made at `time`.
    pub(super) fn keeps(self, newer: usize, time: i128, now: i128) -> bool {
        u64::try_from(newer).is_ok_and(|newer| newer < self.keep_newest) || self.is_young(time, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i128 = 86_400 * 1_000_000_000;
    const NOW: i128 = 20_000 * DAY;

    /// The ages in days of what goes, of backups with these ages.
    fn removed(ages: &[i128], keep_newest: Option<u64>, older_than_days: Option<u64>) -> Vec<i128> {
        let older_than = older_than_days.map(|days| Duration::from_secs(days * 86_400));
        let retention = Retention::new(keep_newest, older_than, false);
        let mut ages = ages.to_vec();
        ages.sort_unstable();
        let goes = |(newer, age): (usize, &i128)| (!retention.keeps(newer, NOW - age * DAY, NOW)).then_some(*age);
        ages.iter().enumerate().filter_map(goes).collect()
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
    fn always_one() {
        let limit = Some(Duration::from_secs(60));
        assert!(Retention::new(None, limit, true).keeps(0, NOW - DAY, NOW));
        assert!(!Retention::new(None, limit, true).keeps(1, NOW - DAY, NOW));
        assert!(!Retention::new(Some(0), limit, true).keeps(0, NOW - DAY, NOW));
    }
}
