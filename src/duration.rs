//! Durations as people write them.

use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

/// 10,000 years, in seconds. jiff's own limit depends on the unit.
const LONGEST: u64 = 10_000 * 365 * 86_400;

/// What `30`, `1.5`, `500ms`, `2m`, `1h 30m`, `10min`, `1w` or `01:30:00` mean: jiff's friendly format. A number without
/// a unit is seconds. A day has 24 hours; months and years, which are not all of one length, are refused. `None`: it is
/// no duration, it is negative, or it is longer than 10,000 years.
#[doc(hidden)]
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    // jiff wants digits on both sides of a point, and divides nothing longer than an hour.
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let (unit, times) = match unit {
        "" if number.is_empty() || number == "." => return None,
        "" => ("s", 1),
        "d" if !fraction.is_empty() => ("h", 24),
        "w" if !fraction.is_empty() => ("h", 7 * 24),
        unit => (unit, 1),
    };
    let whole = if whole.is_empty() && !fraction.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    let span = SpanParser::new().parse_span(format!("{whole}{point}{fraction}{unit}")).ok()?;
    if span.is_negative() || span.get_years() != 0 || span.get_months() != 0 {
        return None;
    }
    let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
    let minutes = (days * 24 + i64::from(span.get_hours())) * 60 + span.get_minutes();
    let nanos = (i128::from(minutes) * 60 + i128::from(span.get_seconds())) * 1_000_000_000
        + i128::from(span.get_milliseconds()) * 1_000_000
        + i128::from(span.get_microseconds()) * 1_000
        + i128::from(span.get_nanoseconds());
    let nanos = u128::try_from(nanos).ok()? * times;
    // A wait below a nanosecond must not become zero, which means not to wait at all.
    let some = text.bytes().any(|b| (b'1'..=b'9').contains(&b));
    let nanos = if nanos == 0 && some { 1 } else { nanos };
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds <= LONGEST)?;
    Some(Duration::new(seconds, rest as u32))
}

/// A duration for a message, such as `5s`, `2m`, `500ms` or `1.5s`. [`parse_duration`] reads it.
#[doc(hidden)]
#[must_use]
pub fn shown_duration(d: Duration) -> String {
    let (secs, nanos) = (d.as_secs(), d.subsec_nanos());
    if nanos == 0 {
        return match secs {
            0 => "0s".to_owned(),
            s if s % 86_400 == 0 => format!("{}d", s / 86_400),
            s if s % 3_600 == 0 => format!("{}h", s / 3_600),
            s if s % 60 == 0 => format!("{}m", s / 60),
            s => format!("{s}s"),
        };
    }
    if secs == 0 && nanos % 1_000_000 == 0 {
        return format!("{}ms", nanos / 1_000_000);
    }
    let fraction = format!("{nanos:09}");
    format!("{secs}.{}s", fraction.trim_end_matches('0'))
}

/// What holds for any text.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_text(text: &str) {
    let Some(duration) = parse_duration(text) else { return };
    let shown = shown_duration(duration);
    assert_eq!(parse_duration(&shown), Some(duration), "{text:?} is shown as {shown:?}");
    // Only zero becomes zero.
    assert_eq!(duration.is_zero(), !text.bytes().any(|b| (b'1'..=b'9').contains(&b)), "{text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts(text in "(0{0,2}|[0-9]{1,25})(\\.0{0,15}[0-9]{0,5})?(|ms|s|m|h|d|w)|([0-9]{1,3} ?(w|d|h|min|s|ms) ?){1,4}|\\PC*") {
            any_text(&text);
        }

        #[test]
        fn every_duration_is_shown_so_that_it_can_be_read(secs in 0..=LONGEST, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(secs, nanos);
            prop_assert_eq!(parse_duration(&shown_duration(duration)), Some(duration));
        }

        /// Against the arithmetic of a schoolbook.
        #[test]
        fn they_are_what_they_say(whole in 0..500_000_u32, fraction in "[0-9]{0,6}", unit in 0..7_usize) {
            let name = ["ms", "", "s", "m", "h", "d", "w"][unit];
            let nanos = [1, 1_000, 1_000, 60_000, 3_600_000, 86_400_000, 604_800_000_u128][unit] * 1_000_000;
            let part = fraction.parse::<u128>().unwrap_or(0) * nanos / 10_u128.pow(fraction.len() as u32);
            let duration = parse_duration(&format!("{whole}.{fraction}{name}")).unwrap();
            prop_assert_eq!(duration.as_nanos(), u128::from(whole) * nanos + part);
        }
    }

    #[test]
    fn they_are_read_as_people_write_them() {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        for (text, seconds) in [
            ("30", 30),
            ("1m5s", MINUTE + 5),
            ("10min", 10 * MINUTE),
            ("10 minutes", 10 * MINUTE),
            ("1h 30m", HOUR + 30 * MINUTE),
            ("1h, 30m", HOUR + 30 * MINUTE),
            ("1hr30mins", HOUR + 30 * MINUTE),
            ("01:30:00", HOUR + 30 * MINUTE),
            ("5 s", 5),
            ("2 days", 48 * HOUR),
            ("1.5d", 36 * HOUR),
            ("1d12h", 36 * HOUR),
            ("1w", 7 * 24 * HOUR),
            ("1wk 1day", 8 * 24 * HOUR),
            ("60 seconds", 60),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn they_are_said_as_they_were_given() {
        for (ms, said) in [
            (0, "0s"),
            (5_000, "5s"),
            (1_500, "1.5s"),
            (500, "500ms"),
            (120_000, "2m"),
            (90_000, "90s"),
            (86_400_000, "1d"),
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(shown_duration(duration), said);
            assert_eq!(parse_duration(said), Some(duration));
        }
    }

    #[test]
    fn what_is_none() {
        for text in
            ["", "x", "-1", "-1h", "1h ago", "1.2.3", "1e3", "inf", ".", "ms", "1x", "1\u{e4}", "1mo", "1y", " 5", "5 "]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["99999999999999999999999999999999999999999999", "18446744073709551615d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration("0.0001us"), Some(Duration::from_nanos(1)));
    }
}
