//! How old a file is. A time is in nanoseconds since 1970, by the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time now.
pub(super) fn now() -> i128 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        // A clock before 1970: everything is young.
        Err(_) => 0,
    }
}

/// How long ago `time` was; zero for a time in the future.
pub(super) fn age(now: i128, time: i128) -> Duration {
    let nanos = now.saturating_sub(time).max(0);
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    // The remainder is below 10^9.
    Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_is_young() {
        assert_eq!(age(5, 6), Duration::ZERO);
        assert_eq!(age(6, 5), Duration::from_nanos(1));
        assert!(age(i128::MAX, i128::MIN) > Duration::from_secs(1 << 60));
    }
}
