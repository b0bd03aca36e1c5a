//! The local time zone, as `TZ` or else `/etc/localtime` has it.

use jiff::tz::TimeZone;

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
