//! Which backups are too many or too old. Only decides: nothing here reads or removes a file.

use std::time::Duration;

/// When a backup was made. The greater is the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Aged {
    /// Nanoseconds since 1970.
    pub(super) time: i128,
    /// Tells backups of one time apart.
    pub(super) number: u32,
}

/// What to keep of each file's backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    keep_newest: u64,
    older_than: Option<Duration>,
}

impl Rule {
    /// With neither option the newest stays: a bare run from cron must never remove the last backup.
    pub(super) fn new(keep_newest: Option<u64>, older_than: Option<Duration>) -> Rule {
        Rule { keep_newest: keep_newest.unwrap_or(u64::from(older_than.is_none())), older_than }
    }

    /// Whether every backup goes, whatever its age.
    pub(super) fn takes_all(self) -> bool {
        self.keep_newest == 0 && self.older_than.is_none_or(|limit| limit.is_zero())
    }

    /// How many at the beginning of one file's backups, the newest first, stay.
    pub(super) fn stay<T>(self, backups: &[T], aged: impl Fn(&T) -> Aged, now: i128) -> usize {
        let newest = usize::try_from(self.keep_newest).unwrap_or(usize::MAX).min(backups.len());
        let young = |backup: &T| self.older_than.is_some_and(|limit| age(now, aged(backup).time) < limit);
        // The older ones stand behind, so the young are a beginning, too.
        newest.max(backups.partition_point(young))
    }
}

/// How long ago `time` was; zero if it is in the future.
pub(super) fn age(now: i128, time: i128) -> Duration {
    let nanos = now.saturating_sub(time).max(0);
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    // The remainder is below 10^9.
    Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i128 = 86_400 * 1_000_000_000;
    const NOW: i128 = 20_000 * DAY;

    /// The ages in days of what goes, of backups with these ages.
    fn removed(ages: &[i128], keep_newest: Option<u64>, older_than_days: Option<u64>) -> Vec<i128> {
        let rule = Rule::new(keep_newest, older_than_days.map(|days| Duration::from_secs(days * 86_400)));
        let mut ages = ages.to_vec();
        ages.sort_unstable();
        let kept = rule.stay(&ages, |age| Aged { time: NOW - age * DAY, number: 0 }, NOW);
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
        assert_eq!(age(NOW, NOW + 1), Duration::ZERO);
        assert_eq!(age(NOW, NOW - 1), Duration::from_nanos(1));
        assert!(age(i128::MAX, i128::MIN) > Duration::from_secs(1 << 60));
    }

    #[test]
    fn numbers_decide_within_a_second() {
        assert!(Aged { time: 1, number: 2 } < Aged { time: 1, number: 10 });
        assert!(Aged { time: 1, number: 10 } < Aged { time: 2, number: 0 });
    }
}
