//! Durations as people write them.

use std::time::Duration;

/// The duration that `30`, `1.5`, `500ms`, `2m`, `1h` or `1d` means: digits with at most one point, then a unit, or else
/// seconds. `None` where `text` is not of this form. What is longer than [`Duration::MAX`] becomes that.
#[doc(hidden)]
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_nanos: u128 = match unit {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // Integer arithmetic, digit by digit, is exact.
    let digit = |b: u8| u128::from(b - b'0');
    let mut nanos: u128 = 0;
    for b in whole.bytes() {
        nanos = nanos * 10 + digit(b) * unit_nanos;
        if nanos > Duration::MAX.as_nanos() {
            return Some(Duration::MAX);
        }
    }
    let mut worth = unit_nanos;
    for b in fraction.bytes() {
        worth /= 10;
        nanos += digit(b) * worth;
    }
    // A wait below a nanosecond must not become zero, which means not to wait at all.
    if nanos == 0 && number.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        nanos = 1;
    }
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    Some(u64::try_from(seconds).map_or(Duration::MAX, |seconds| Duration::new(seconds, rest as u32)))
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
    assert_eq!(parse_duration(&format!("0{text}")), Some(duration), "{text:?}");
    // Only zero becomes zero.
    assert_eq!(duration.is_zero(), !text.bytes().any(|b| (b'1'..=b'9').contains(&b)), "{text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts(text in "(0{0,2}|[0-9]{1,25})(\\.0{0,15}[0-9]{0,5})?(|ms|s|m|h|d)|\\PC*") {
            any_text(&text);
        }

        #[test]
        fn every_duration_is_shown_so_that_it_can_be_read(secs: u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(secs, nanos);
            prop_assert_eq!(parse_duration(&shown_duration(duration)), Some(duration));
        }

        /// Against the arithmetic of a schoolbook.
        #[test]
        fn they_are_what_they_say(whole: u32, fraction in "[0-9]{0,6}", unit in 0..6_usize) {
            let name = ["ms", "", "s", "m", "h", "d"][unit];
            let nanos = [1, 1_000, 1_000, 60_000, 3_600_000, 86_400_000_u128][unit] * 1_000_000;
            let part = fraction.parse::<u128>().unwrap_or(0) * nanos / 10_u128.pow(fraction.len() as u32);
            let duration = parse_duration(&format!("{whole}.{fraction}{name}")).unwrap();
            prop_assert_eq!(duration.as_nanos(), u128::from(whole) * nanos + part);
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
        for text in ["", "x", "-1", "1.2.3", "5 s", "1e3", "inf", ".", "ms", "+1", "1x", "1\u{e4}"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration("0.0000000001"), Some(Duration::from_nanos(1)));
        for text in ["99999999999999999999999999999999999999999999", "18446744073709551615.9999999999d"] {
            assert_eq!(parse_duration(text), Some(Duration::MAX), "{text}");
        }
    }
}
