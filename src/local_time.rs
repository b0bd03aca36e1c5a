//! The local time zone, as `TZ` or else `/etc/localtime` has it.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time for messages, in local time: `10:15:00`, with the date where that is not today's.
pub fn shown_time(time: SystemTime) -> String {
    let ms = |time| Timestamp::try_from(time).map_or(i64::MAX, |time: Timestamp| time.as_millisecond());
    Moment { now: ms(SystemTime::now()), time: ms(time) }.to_string()
}

/// The same as milliseconds since 1970. To read the local time zone takes dozens of system calls, so that is done when it
/// is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) now: i64,
    pub(crate) time: i64,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = zone();
        let local = |ms: i64| Timestamp::from_millisecond(ms).ok().map(|t| t.to_zoned(zone.clone()));
        let Some(time) = local(self.time) else { return f.write_str("the end of time") };
        if local(self.now).is_none_or(|now| now.date() != time.date()) {
            write!(f, "{} ", time.date())?;
        }
        // Not by strftime, which would add 28 KB to the program.
        write!(f, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
    }
}

pub(crate) fn zone() -> TimeZone {
    // Without TZ, jiff would look up the zone's name in a list of all zones, which it makes first: a hundred system calls
    // and 3 million instructions for a name that nothing here needs.
    if std::env::var_os("TZ").is_none() {
        let zone = std::fs::read("/etc/localtime").ok().and_then(|data| TimeZone::tzif("", &data).ok());
        if let Some(zone) = zone {
            return zone;
        }
    }
    TimeZone::system()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_system_s() {
        for month in 1..=12 {
            let time = jiff::civil::date(2026, month, 15).at(12, 30, 15, 0);
            let instant = |zone: TimeZone| zone.to_timestamp(time).unwrap();
            assert_eq!(instant(zone()), instant(TimeZone::system()), "{time}");
        }
    }
}
