//! The local time zone, as `TZ` or else `/etc/localtime` has it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::DateTime;
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

/// When a local time was, in nanoseconds since 1970. Of the two readings of the hour that comes twice in autumn it is the one
/// that is nearer to `near`, or else the later.
pub(crate) fn moment(time: DateTime, zone: &TimeZone, near: Option<i128>) -> i128 {
    let time = zone.to_ambiguous_timestamp(time);
    // jiff cannot convert the last hours of the year 9999, which is in the future.
    let nanoseconds = |time: Result<Timestamp, jiff::Error>| time.map_or(i128::MAX, |time| time.as_nanosecond());
    let later = nanoseconds(time.later());
    let Some(near) = near.filter(|_| time.is_ambiguous()) else { return later };
    let earlier = nanoseconds(time.earlier());
    if near.abs_diff(earlier) < near.abs_diff(later) { earlier } else { later }
}

/// Whether [`moment`] has more than one answer.
pub(crate) fn is_ambiguous(time: DateTime, zone: &TimeZone) -> bool {
    zone.to_ambiguous_timestamp(time).is_ambiguous()
}

/// The names that TZ may have are files here, if TZDIR is not set.
const ZONES: [&str; 3] = ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];

/// The zone that tzset(3) finds. UTC, if there is none.
///
/// Not by jiff's features `tz-system` and `tzdb-zoneinfo`. They look up the zone's name in a list of all zones, which they
/// make first: a hundred system calls and 3 million instructions.
pub(crate) fn zone() -> TimeZone {
    zone_of(std::env::var_os("TZ").as_deref()).unwrap_or(TimeZone::UTC)
}

fn zone_of(tz: Option<&OsStr>) -> Option<TimeZone> {
    let file = |path: &Path| TimeZone::tzif("", &std::fs::read(path).ok()?).ok();
    let Some(tz) = tz else { return file(Path::new("/etc/localtime")) };
    let name = OsStr::from_bytes(tz.as_bytes().strip_prefix(b":").unwrap_or(tz.as_bytes()));
    if name.is_empty() {
        return None;
    }
    // A path from the root is not below the directory that it is joined to.
    match std::env::var_os("TZDIR") {
        Some(dir) => file(&Path::new(&dir).join(name)),
        None => ZONES.iter().find_map(|dir| file(&Path::new(dir).join(name))),
    }
    .or_else(|| TimeZone::posix(tz.to_str()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That they are the system's is tested beside date(1), with backups.
    #[test]
    fn all_forms_of_tz() {
        let noons = |tz: Option<&str>| {
            let zone = zone_of(tz.map(OsStr::new)).unwrap();
            let noon = |month| zone.to_timestamp(jiff::civil::date(2026, month, 15).at(12, 0, 0, 0)).unwrap();
            (1..=12).map(noon).collect::<Vec<_>>()
        };
        let by_rule = noons(Some("CET-1CEST,M3.5.0,M10.5.0/3"));
        assert_ne!(by_rule, noons(Some("CET-1")));
        if Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
            for name in ["Europe/Berlin", ":Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin"] {
                assert_eq!(noons(Some(name)), by_rule, "{name}");
            }
        }
        if Path::new("/etc/localtime").exists() {
            assert_eq!(noons(None), noons(Some("/etc/localtime")));
        }
        for none in ["", ":", "Atlantis/Capital", "../../../etc/passwd", "/nowhere", "1", "\u{e4}"] {
            assert_eq!(zone_of(Some(OsStr::new(none))), None, "{none}");
        }
    }
}
