//! The record of a lease: one JSON object in `TARGET.lease`.
//!
//! ```json
//! {"version":1,"owner":"agent-7","token":1767323045123456,"locked_at":"2026-01-02T03:04:05.123Z",
//!  "refreshed_at":"2026-01-02T03:04:05.123Z","expires_at":"2026-01-02T03:05:05.123Z","ttl_ms":60000,
//!  "host":"build-1","pid":4711,"boot_id":"5b8e…","expires_boottime_ms":912345}
//! ```
//!
//! `"reason"`, behind these, is why it was taken, if its owner said so. `boot_id` and `expires_boottime_ms` are null where there is no boot clock. A record with `"released":true` is of a lease
//! that was given back, and is only kept for its token. A file in the same place with a field `"set"` is another record
//! (set_record.rs). A record with any other field is refused and never replaced: what
//! we do not know may be what keeps us out.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde_json::{Map, Value};

use super::clock::{Boot, Clock};
use crate::local_time::Moment;
use crate::options::{check_owner, check_reason};
use crate::sys::host;

/// The error says what is wrong with a record.
pub(super) type Parsed<T> = std::result::Result<T, String>;

pub(super) const VERSION: u64 = 1;
/// The field that only the record of a set has.
pub(super) const SET: &str = "set";
/// The greatest token, which every program that reads JSON can read. Microseconds since 1970 reach it in the year 2255.
pub(super) const MAX_TOKEN: u64 = 1 << 53;
/// The longest time that a lease can last without a refresh: ten years.
pub const MAX_TTL: Duration = Duration::from_secs(315_576_000);

/// Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseRecord {
    pub(super) owner: String,
    pub(super) token: u64,
    pub(super) locked_at: i64,
    pub(super) refreshed_at: i64,
    pub(super) expires_at: i64,
    pub(super) ttl_ms: u64,
    pub(super) host: String,
    pub(super) pid: u32,
    /// The same end as `expires_at`, on the boot clock.
    pub(super) boot_end: Option<Boot>,
    /// Why it was taken, in its owner's words.
    pub(super) reason: Option<String>,
    pub(super) released: bool,
}

impl LeaseRecord {
    /// A lease that begins now. `previous` is the record until now, of any owner. `None`: there is no greater token.
    pub(super) fn new(
        owner: &str,
        ttl: Duration,
        previous: Option<&LeaseRecord>,
        clock: &dyn Clock,
    ) -> Option<LeaseRecord> {
        let now = u64::try_from(clock.wall_us()).unwrap_or(0).max(1);
        let token = previous.map_or(now, |previous| now.max(previous.token.saturating_add(1)));
        if token > MAX_TOKEN {
            return None;
        }
        let mut record = LeaseRecord {
            owner: owner.to_owned(),
            token,
            locked_at: 0,
            refreshed_at: 0,
            expires_at: 0,
            ttl_ms: 0,
            host: String::new(),
            pid: 0,
            boot_end: None,
            reason: None,
            released: false,
        };
        record.extend(ttl, clock);
        // The same moment. It tells a new lease from one that the owner had already.
        record.locked_at = record.refreshed_at;
        Some(record)
    }

    /// Makes it end `ttl` from now.
    pub(super) fn extend(&mut self, ttl: Duration, clock: &dyn Clock) {
        // Rounded up: a lease of less than a millisecond is a lease, too.
        let ttl = ttl.as_nanos().div_ceil(1_000_000);
        self.ttl_ms = u64::try_from(ttl).unwrap_or(u64::MAX);
        self.refreshed_at = clock.wall_ms();
        self.expires_at = self.refreshed_at.saturating_add_unsigned(self.ttl_ms);
        self.boot_end = clock.boot().map(|now| Boot { ms: now.ms.saturating_add(self.ttl_ms), ..now });
        self.host = host::host_name();
        self.pid = std::process::id();
    }

    /// The time until its end; `None`: it is over.
    pub(super) fn left(&self, clock: &dyn Clock) -> Option<Duration> {
        if self.released {
            return None;
        }
        let left = match (&self.boot_end, clock.boot()) {
            (Some(end), Some(now)) if end.id == now.id => end.ms.saturating_sub(now.ms),
            _ => u64::try_from(self.expires_at.saturating_sub(clock.wall_ms())).unwrap_or(0),
        };
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Its end, for a message.
    pub(super) fn until(&self, clock: &dyn Clock) -> Moment {
        let now = clock.wall_ms();
        let left = self.left(clock).unwrap_or_default().as_millis();
        Moment { now, time: now.saturating_add(i64::try_from(left).unwrap_or(i64::MAX)) }
    }

    /// The text of the file. `None`: the clock shows a year that the format does not have.
    pub(super) fn to_json(&self) -> Option<String> {
        let text = |s: &str| Value::from(s);
        let time = |ms| Timestamp::from_millisecond(ms).ok().map(|t| Value::from(format!("{t:.3}")));
        let fields = [
            ("version", Value::from(VERSION)),
            ("owner", text(&self.owner)),
            ("token", self.token.into()),
            ("locked_at", time(self.locked_at)?),
            ("refreshed_at", time(self.refreshed_at)?),
            ("expires_at", time(self.expires_at)?),
            ("ttl_ms", self.ttl_ms.into()),
            ("host", text(&self.host)),
            ("pid", self.pid.into()),
            ("boot_id", self.boot_end.as_ref().map_or(Value::Null, |b| text(&b.id))),
            ("expires_boottime_ms", self.boot_end.as_ref().map_or(Value::Null, |b| b.ms.into())),
        ];
        let reason = self.reason.as_deref().map(|reason| ("reason", text(reason)));
        let released = self.released.then(|| ("released", true.into()));
        // By hand, in this order, because people read this file too. A map of serde_json is sorted by name.
        let fields = fields.into_iter().chain(reason).chain(released);
        let fields: Vec<String> = fields.map(|(name, value)| format!("\"{name}\":{value}")).collect();
        Some(format!("{{{}}}\n", fields.join(",")))
    }

    /// Reads the text of a file. The error says why it is not the record of a lease.
    #[cfg(any(test, fuzzing))]
    pub(super) fn parse(text: &[u8]) -> Parsed<LeaseRecord> {
        LeaseRecord::of_fields(object(text)?)
    }

    pub(super) fn of_fields(mut fields: Map<String, Value>) -> Parsed<LeaseRecord> {
        let fields = &mut fields;
        ensure_version(fields)?;
        let record = LeaseRecord {
            owner: string(fields, "owner")?,
            token: number(fields, "token")?,
            locked_at: time(fields, "locked_at")?,
            refreshed_at: time(fields, "refreshed_at")?,
            expires_at: time(fields, "expires_at")?,
            ttl_ms: number(fields, "ttl_ms")?,
            host: string(fields, "host")?,
            pid: u32::try_from(number(fields, "pid")?).map_err(|_| "\"pid\" is out of range".to_owned())?,
            boot_end: boot_end(fields)?,
            reason: match fields.remove("reason") {
                None | Some(Value::Null) => None,
                Some(Value::String(reason)) if check_reason(&reason).is_ok() => Some(reason),
                Some(_) => return Err("\"reason\" is not a line of text".to_owned()),
            },
            released: match fields.remove("released") {
                None => false,
                Some(Value::Bool(released)) => released,
                Some(_) => return Err("\"released\" is not true or false".to_owned()),
            },
        };
        ensure_no_other(fields)?;
        if check_owner(&record.owner).is_err() {
            return Err("\"owner\" is not a name".to_owned());
        }
        if record.token == 0
            || record.token > MAX_TOKEN
            || record.ttl_ms == 0
            || u128::from(record.ttl_ms) > MAX_TTL.as_millis()
        {
            return Err("\"token\" or \"ttl_ms\" is out of range".to_owned());
        }
        Ok(record)
    }
}

pub(super) fn object(text: &[u8]) -> Parsed<Map<String, Value>> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("it is not a JSON object".to_owned()),
        Err(_) => Err("it is not JSON".to_owned()),
    }
}

pub(super) fn ensure_version(fields: &mut Map<String, Value>) -> Parsed<()> {
    match fields.remove("version") {
        None => Ok(()),
        Some(Value::Number(n)) if n.as_u64() == Some(VERSION) => Ok(()),
        Some(Value::Number(n)) => Err(format!("it has format version {n}, which this version of awrite does not know")),
        Some(_) => Err("\"version\" is not a number".to_owned()),
    }
}

/// Refuses fields that have not been removed.
pub(super) fn ensure_no_other(fields: &Map<String, Value>) -> Parsed<()> {
    let Some(name) = fields.keys().next() else { return Ok(()) };
    Err(format!("it has a field \"{}\", which this version of awrite does not know", name.escape_debug()))
}

pub(super) fn string(fields: &mut Map<String, Value>, name: &str) -> Parsed<String> {
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("\"{name}\" is not a string")),
        None => Err(format!("it has no \"{name}\"")),
    }
}

pub(super) fn number(fields: &mut Map<String, Value>, name: &str) -> Parsed<u64> {
    let value = fields.remove(name).ok_or_else(|| format!("it has no \"{name}\""))?;
    value.as_u64().ok_or_else(|| format!("\"{name}\" is not a whole number"))
}

fn time(fields: &mut Map<String, Value>, name: &str) -> Parsed<i64> {
    let time = parse_time(&string(fields, name)?).ok_or_else(|| format!("\"{name}\" is not a time"))?;
    Ok(time.as_millisecond())
}

/// A time in the form that [`LeaseRecord::to_json`] writes, with any number of decimal places.
///
/// Not by jiff's parser: it has an `unwrap`, for which the texts of all errors of jiff are linked, a tenth of the program.
fn parse_time(text: &str) -> Option<Timestamp> {
    // Nothing else that `parse` takes for a number.
    if !text.bytes().all(|b| b.is_ascii_digit() || b"-T:.Z".contains(&b)) {
        return None;
    }
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    // From the right: a year can be negative.
    let mut date = date.rsplitn(3, '-');
    let (day, month, year) = (date.next()?.parse().ok()?, date.next()?.parse().ok()?, date.next()?.parse().ok()?);
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let time = DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
    Offset::UTC.to_timestamp(time).ok()
}

fn boot_end(fields: &mut Map<String, Value>) -> Parsed<Option<Boot>> {
    let absent = |value: Option<&Value>| value.is_none_or(Value::is_null);
    if absent(fields.get("boot_id")) && absent(fields.get("expires_boottime_ms")) {
        fields.remove("boot_id");
        fields.remove("expires_boottime_ms");
        return Ok(None);
    }
    Ok(Some(Boot { id: string(fields, "boot_id")?, ms: number(fields, "expires_boottime_ms")? }))
}

/// What holds for any content of a file.
#[cfg(any(test, fuzzing))]
pub(super) fn any_lease_record(bytes: &[u8]) {
    match LeaseRecord::parse(bytes) {
        Ok(record) => {
            // A time that was read can be written again.
            let text = record.to_json().unwrap_or_default();
            assert_eq!(LeaseRecord::parse(text.as_bytes()), Ok(record.clone()), "{text}");
            assert!(record.token > 0 && record.ttl_ms > 0 && check_owner(&record.owner).is_ok());
            let _ = record.until(&super::clock::Machine).to_string();
        }
        // It becomes part of a message.
        Err(why) => assert!(!why.contains(char::is_control), "{why:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::fake::Fake;
    use super::*;
    use proptest::option::of;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn contents(bytes: Vec<u8>, cut: prop::sample::Index, with: u8) {
            any_lease_record(&bytes);
            let mut damaged = record().to_json().unwrap().into_bytes();
            let place = cut.index(damaged.len());
            damaged[place] = with;
            any_lease_record(&damaged);
        }

        #[test]
        fn every_record_is_read_as_written(
            owner in "\\PC{1,60}",
            token in 1..=MAX_TOKEN,
            times in prop::array::uniform3(-62_135_596_800_000..253_402_300_799_000_i64),
            ttl_ms in 1..=315_576_000_000_u64,
            host: String,
            pid: u32,
            boot in of((any::<String>(), any::<u64>())),
            reason in of("\\PC{1,60}"),
            released: bool,
        ) {
            let [locked_at, refreshed_at, expires_at] = times;
            let boot_end = boot.map(|(id, ms)| Boot { id, ms });
            let record =
                LeaseRecord { owner, token, locked_at, refreshed_at, expires_at, ttl_ms, host, pid, boot_end, reason, released };
            let text = record.to_json().unwrap();
            any_lease_record(text.as_bytes());
            prop_assert_eq!(LeaseRecord::parse(text.as_bytes()), Ok(record));
        }
    }

    const TTL: Duration = Duration::from_secs(60);

    fn record() -> LeaseRecord {
        LeaseRecord::new("agent \"7\"", TTL, None, &Fake::new()).unwrap()
    }

    #[test]
    fn read_as_written() {
        for released in [false, true] {
            let mut record = record();
            record.released = released;
            assert_eq!(LeaseRecord::parse(record.to_json().unwrap().as_bytes()), Ok(record.clone()));
            record.boot_end = None;
            assert_eq!(LeaseRecord::parse(record.to_json().unwrap().as_bytes()), Ok(record));
        }
    }

    #[test]
    fn the_fields_and_their_order() {
        let mut record = record();
        (record.host, record.pid) = ("h".into(), 4711);
        let expected = concat!(
            r#"{"version":1,"owner":"agent \"7\"","token":1700000000000000,"locked_at":"2023-11-14T22:13:20.000Z","#,
            r#""refreshed_at":"2023-11-14T22:13:20.000Z","expires_at":"2023-11-14T22:14:20.000Z","ttl_ms":60000,"#,
            r#""host":"h","pid":4711,"boot_id":"boot-1","expires_boottime_ms":65000}"#,
            "\n"
        );
        assert_eq!(record.to_json().unwrap(), expected);
    }

    #[test]
    fn a_part_of_a_record_is_none() {
        let whole = record().to_json().unwrap();
        for end in 0..whole.len() - 1 {
            assert!(LeaseRecord::parse(&whole.as_bytes()[..end]).is_err(), "{}", &whole[..end]);
        }
    }

    #[test]
    fn damaged_foreign_and_future_ones_are_refused() {
        let whole = record().to_json().unwrap();
        for (what, by) in [
            (r#""version":1"#, r#""version":2"#),
            (r#""version":1"#, r#""version":"1""#),
            (r#""version":1"#, r#""version":1,"shared":true"#),
            (r#""owner":"agent \"7\"""#, r#""owner":"""#),
            (r#""owner":"agent \"7\"""#, r#""owner":"a\nb""#),
            (r#""owner":"agent \"7\"""#, r#""owner":7"#),
            (r#""token":1700000000000000"#, r#""token":0"#),
            (r#""token":1700000000000000"#, r#""token":-1"#),
            (r#""token":1700000000000000"#, r#""token":1.5"#),
            (r#""token":1700000000000000"#, r#""token":18446744073709551615"#),
            (r#""token":1700000000000000"#, r#""token":9007199254740993"#),
            (r#""ttl_ms":60000"#, r#""ttl_ms":0"#),
            (r#""ttl_ms":60000"#, r#""ttl_ms":9000000000000"#),
            (r#""expires_at":"2023-11-14T22:14:20.000Z""#, r#""expires_at":"soon""#),
            (r#""boot_id":"boot-1""#, r#""boot_id":null"#),
            (r#""expires_boottime_ms":65000"#, r#""expires_boottime_ms":null"#),
            (r#""pid":"#, r#""pid":9999999999"#),
            (r#""host":"#, r#""guest":"#),
        ] {
            let text = whole.replacen(what, by, 1);
            assert_ne!(text, whole, "{what}");
            assert!(LeaseRecord::parse(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["", "null", "[]", "{}", "not ours\n", "\0\0\0"] {
            assert!(LeaseRecord::parse(text.as_bytes()).is_err(), "{text}");
        }
        // The version may be left out.
        let text = whole.replacen(r#""version":1,"#, "", 1);
        assert_eq!(LeaseRecord::parse(text.as_bytes()), Ok(record_of(&whole)));
    }

    fn record_of(text: &str) -> LeaseRecord {
        LeaseRecord::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn steps_of_the_wall_clock_neither_free_nor_extend() {
        let clock = Fake::new();
        let record = LeaseRecord::new("a", TTL, None, &clock).unwrap();
        for step in [-1_000_000, 3_000_000, -2_000_000] {
            clock.step(step);
            assert_eq!(record.left(&clock), Some(TTL));
        }
        clock.pass(Duration::from_secs(59));
        assert_eq!(record.left(&clock), Some(Duration::from_secs(1)));
        clock.step(-1_000_000);
        clock.pass(Duration::from_secs(1));
        assert_eq!(record.left(&clock), None);
    }

    #[test]
    fn without_a_common_boot_the_wall_clock_decides() {
        for lose in [|clock: &Fake| clock.reboot("boot-2"), |clock: &Fake| clock.forget_boot()] {
            let clock = Fake::new();
            let record = LeaseRecord::new("a", TTL, None, &clock).unwrap();
            lose(&clock);
            assert_eq!(record.left(&clock), Some(TTL));
            clock.step(59);
            assert_eq!(record.left(&clock), Some(Duration::from_secs(1)));
            clock.step(1);
            assert_eq!(record.left(&clock), None);
            clock.step(-60);
            assert_eq!(record.left(&clock), Some(TTL));
        }
    }

    #[test]
    fn tokens_are_the_time_and_never_shrink() {
        let clock = Fake::new();
        let first = LeaseRecord::new("a", TTL, None, &clock).unwrap();
        assert_eq!(first.token, 1_700_000_000_000_000);
        let second = LeaseRecord::new("b", TTL, Some(&first), &clock).unwrap();
        assert_eq!(second.token, first.token + 1);
        clock.step(-1_000_000);
        let third = LeaseRecord::new("a", TTL, Some(&second), &clock).unwrap();
        assert_eq!(third.token, first.token + 2);
        clock.step(-2_000_000_000);
        assert_eq!(LeaseRecord::new("a", TTL, None, &clock).unwrap().token, 1);
        let last = LeaseRecord { token: u64::MAX, ..first };
        assert_eq!(LeaseRecord::new("a", TTL, Some(&last), &clock), None);
    }

    /// Against jiff's own parser.
    #[test]
    fn times() {
        for good in [
            "2026-01-02T03:04:05.123Z",
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.1Z",
            "2024-02-29T23:59:59.123456789Z",
            "0000-01-01T00:00:00.000Z",
            "-009999-01-02T01:59:59.000Z",
            "9999-12-30T22:00:00.999Z",
        ] {
            assert_eq!(parse_time(good), Some(good.parse().unwrap()), "{good}");
        }
        for bad in [
            "",
            "Z",
            "TZ",
            "soon",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04Z",
            "2026-02-29T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T-3:04:05Z",
            "+2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.+12Z",
            "2026-01-02T03:04:05.-12Z",
            "2026-01-02T03:04:05.1.2Z",
            "2026-01-02T03:04:05:06Z",
            "2026-01-2-3T03:04:05Z",
            "2026-01-02T03:04:05ZZ",
            "10000-01-02T03:04:05Z",
            "2026-13-02T03:04:05Z",
            "9999-12-31T23:59:59.999Z",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
            assert!(bad.parse::<Timestamp>().is_err() || bad.ends_with("04Z"), "{bad}");
        }
    }

    #[test]
    fn owners() {
        for good in ["a", "agent 7", "ä/b", &"x".repeat(255)] {
            assert!(check_owner(good).is_ok(), "{good}");
        }
        for bad in ["", "a\tb", "a\n", "\u{7f}", "\u{85}", &"x".repeat(256), &"ä".repeat(128)] {
            assert!(check_owner(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fraction_of_a_millisecond_is_a_lease() {
        let record = LeaseRecord::new("a", Duration::from_nanos(1), None, &Fake::new()).unwrap();
        assert_eq!(record.ttl_ms, 1);
    }
}
