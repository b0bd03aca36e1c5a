//! The record in a link lock: which process holds it, on which host, and how often it gives a sign of life.
//!
//! It is JSON, so that a person who finds one can read it:
//!
//! ```text
//!   {"version":1,"host":"web1","boot_id":"…","pid_namespace":4026531836,"pid":4711,"time_namespace":4026531834,
//!    "start_time":123456,"nonce":"8c1f0b2e6a974d35","heartbeat_ms":20000}
//! ```
//!
//! `boot_id`, `pid_namespace`, `time_namespace` and `start_time` are null where they are not known. The nonce is new each time that a lock
//! is taken, so it tells one holding of a lock from the next, even by the same process.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use serde_json::{Value, json};

use crate::holder::{Holder, harmless};
use crate::names::is_nonce;
use crate::sys::host;

const VERSION: u64 = 1;
/// No record is longer: a host name has at most 64 bytes.
pub(super) const LONGEST: u64 = 4096;
/// How long a holder may be silent, in heartbeats.
const BEATS: u32 = 3;
/// A hundred years. A record that says more is damaged.
const SLOWEST_MS: u64 = 100 * 365 * 24 * 3600 * 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LockRecord {
    host: String,
    boot_id: Option<String>,
    pid_namespace: Option<u64>,
    pub(super) pid: u32,
    /// Earlier versions do not say it.
    time_namespace: Option<u64>,
    start_time: Option<u64>,
    pub(super) nonce: String,
    heartbeat_ms: u64,
}

/// Why a file is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is something else, or a damaged record.
    Foreign,
    /// A later version wrote it.
    Future,
}

/// Where this process runs: the boot of a machine, and the namespaces. Process ids of another PID namespace say nothing
/// here, and start times of another time namespace do not either.
#[derive(Debug)]
pub(super) struct Here {
    boot_id: Option<String>,
    pid_namespace: Option<u64>,
    time_namespace: Option<u64>,
}

impl Here {
    /// Asked anew for every lock: a forked child may be in another namespace.
    pub(super) fn now() -> Here {
        let (pid_namespace, time_namespace) = (host::pid_namespace(), host::time_namespace());
        Here { boot_id: host::boot_id(), pid_namespace, time_namespace }
    }
}

impl LockRecord {
    /// A record for this process, with a new nonce.
    pub(super) fn of_this_process(here: &Here, stale_after: Duration) -> LockRecord {
        let pid = std::process::id();
        let heartbeat = u64::try_from((stale_after / BEATS).as_millis()).unwrap_or(SLOWEST_MS);
        LockRecord {
            host: host::host_name(),
            boot_id: here.boot_id.clone(),
            pid_namespace: here.pid_namespace,
            pid,
            time_namespace: here.time_namespace,
            start_time: host::start_time(pid),
            nonce: fresh_nonce(),
            heartbeat_ms: heartbeat.clamp(1, SLOWEST_MS),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let value = json!({
            "version": VERSION,
            "host": self.host,
            "boot_id": self.boot_id,
            "pid_namespace": self.pid_namespace,
            "pid": self.pid,
            "time_namespace": self.time_namespace,
            "start_time": self.start_time,
            "nonce": self.nonce,
            "heartbeat_ms": self.heartbeat_ms,
        });
        format!("{value}\n")
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<LockRecord, Unreadable> {
        let value: Value = serde_json::from_slice(bytes).map_err(|_| Unreadable::Foreign)?;
        match value.get("version").and_then(Value::as_u64) {
            Some(VERSION) => from_json(&value).ok_or(Unreadable::Foreign),
            Some(version) if version > VERSION && value.get("nonce").is_some() => Err(Unreadable::Future),
            _ => Err(Unreadable::Foreign),
        }
    }

    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// How long the holder may be silent. Uses the holder's setting, not the asker's.
    pub(super) fn stale_after(&self) -> Duration {
        self.heartbeat() * BEATS
    }

    /// For the holder itself: whether others may take it for dead by now, after its last sign of life at `last` on the
    /// boot clock. True earlier than others find so, because clocks run at different rates.
    pub(super) fn is_late(&self, last: Duration) -> bool {
        self.is_too_long(host::boot_clock().saturating_sub(last))
    }

    /// The same of a silence of this length.
    pub(super) fn is_too_long(&self, silence: Duration) -> bool {
        silence >= self.longest_silence()
    }

    /// How long the holder itself relies on the lock after a sign of life.
    pub(super) fn longest_silence(&self) -> Duration {
        self.stale_after() / 10 * 9
    }

    /// Whether its process ran here, so that its process id says something.
    fn is_of(&self, here: &Here) -> bool {
        self.boot_id.is_some()
            && self.boot_id == here.boot_id
            && self.pid_namespace.is_some()
            && self.pid_namespace == here.pid_namespace
    }

    /// Whether its process certainly has ended.
    pub(super) fn is_dead(&self, here: &Here) -> bool {
        self.is_of(here) && self.is_gone(here)
    }

    /// Whether its process runs here now.
    pub(super) fn is_alive(&self, here: &Here) -> bool {
        self.is_of(here) && !self.is_gone(here)
    }

    fn is_gone(&self, here: &Here) -> bool {
        let comparable = self.time_namespace.is_some() && self.time_namespace == here.time_namespace;
        host::is_gone(self.pid, self.start_time.filter(|_| comparable))
    }

    pub(super) fn holder(&self, here: &Here) -> Holder {
        if self.is_of(here) {
            return Holder::here(self.pid);
        }
        Holder { pid: self.pid, command: String::new(), host: Some(harmless(&self.host)) }
    }
}

fn from_json(value: &Value) -> Option<LockRecord> {
    // Null where it is not known. Anything but null and the right type is damage.
    let number = |name: &str| match value.get(name)? {
        Value::Null => Some(None),
        other => other.as_u64().map(Some),
    };
    let boot_id = match value.get("boot_id")? {
        Value::Null => None,
        other => Some(other.as_str()?.to_owned()),
    };
    Some(LockRecord {
        host: value.get("host")?.as_str()?.to_owned(),
        boot_id,
        pid_namespace: number("pid_namespace")?,
        pid: value.get("pid")?.as_u64().and_then(|pid| i32::try_from(pid).ok()).filter(|&pid| pid > 0)?.unsigned_abs(),
        time_namespace: if value.get("time_namespace").is_some() { number("time_namespace")? } else { None },
        start_time: number("start_time")?,
        // Checked, because it becomes part of file names.
        nonce: value.get("nonce")?.as_str().filter(|n| is_nonce(n.as_bytes()))?.to_owned(),
        heartbeat_ms: value.get("heartbeat_ms")?.as_u64().filter(|ms| (1..=SLOWEST_MS).contains(ms))?,
    })
}

/// The hash keys of the standard library are random, but a forked child has those of its parent. So the process id and the
/// time go in too.
pub(crate) fn fresh_nonce() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_i128(host::wall_clock());
    format!("{:016x}", hasher.finish())
}

/// What holds for any content of a file.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_record(bytes: &[u8]) {
    let Ok(record) = LockRecord::parse(bytes) else { return };
    assert_eq!(LockRecord::parse(record.to_json().as_bytes()), Ok(record.clone()));
    assert!(record.pid > 0 && is_nonce(record.nonce.as_bytes()) && !record.heartbeat().is_zero());
    // Calculations with it must not overflow.
    assert!(record.stale_after() > record.heartbeat());
    let name = format!("f.lock.break-{}", record.nonce);
    assert!(crate::names::is_mark_name(name.as_ref()), "{name:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option::of;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn contents(bytes: Vec<u8>, cut: prop::sample::Index, with: u8) {
            any_record(&bytes);
            let mut damaged = mine().1.to_json().into_bytes();
            let place = cut.index(damaged.len());
            damaged[place] = with;
            any_record(&damaged);
        }

        #[test]
        fn every_record_is_read_as_written(
            host: String,
            boot_id: Option<String>,
            pid_namespace: Option<u64>,
            pid in prop_oneof![1..3_u32, i32::MAX as u32 - 2..=i32::MAX as u32],
            time_namespace: Option<u64>,
            start_time in of(any::<u64>()),
            nonce in "[0-9a-f]{16}",
            heartbeat_ms in prop_oneof![1..3_u64, SLOWEST_MS - 2..=SLOWEST_MS],
        ) {
            let record =
                LockRecord { host, boot_id, pid_namespace, pid, time_namespace, start_time, nonce, heartbeat_ms };
            let text = record.to_json();
            any_record(text.as_bytes());
            prop_assert_eq!(LockRecord::parse(text.as_bytes()), Ok(record));
            for end in 0..text.len() - 1 {
                prop_assert_eq!(LockRecord::parse(&text.as_bytes()[..end]), Err(Unreadable::Foreign));
            }
        }
    }

    fn mine() -> (Here, LockRecord) {
        let here = Here::now();
        let record = LockRecord::of_this_process(&here, Duration::from_secs(60));
        (here, record)
    }

    #[test]
    fn what_is_written_is_read() {
        let (here, record) = mine();
        assert_eq!(LockRecord::parse(record.to_json().as_bytes()), Ok(record.clone()));
        assert_eq!(record.stale_after(), Duration::from_secs(60));
        assert!(!record.is_dead(&here));
        assert_ne!(record.nonce, mine().1.nonce);
        assert_eq!(record.holder(&here).pid, std::process::id());
        let bare = LockRecord { boot_id: None, pid_namespace: None, start_time: None, ..record };
        assert_eq!(LockRecord::parse(bare.to_json().as_bytes()), Ok(bare));
    }

    #[test]
    fn damage_is_seen() {
        let (_, record) = mine();
        let good: Value = serde_json::from_str(&record.to_json()).unwrap();
        let fields = good.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for field in fields {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(&field);
            let read = LockRecord::parse(bad.to_string().as_bytes());
            assert!(field == "time_namespace" && read.is_ok() || read == Err(Unreadable::Foreign), "without {field}");
            bad[&field] = json!([]);
            assert_eq!(LockRecord::parse(bad.to_string().as_bytes()), Err(Unreadable::Foreign), "wrong {field}");
        }
        for (field, value) in [
            ("nonce", json!("../../etc/passwd")),
            ("nonce", json!("8C1F0B2E6A974D35")),
            ("pid", json!(0)),
            ("pid", json!(4_294_967_295_u64)),
            ("pid", json!(-1)),
            ("heartbeat_ms", json!(0)),
            ("heartbeat_ms", json!(u64::MAX)),
            ("version", json!(0)),
        ] {
            let mut bad = good.clone();
            bad[field] = value.clone();
            assert_eq!(LockRecord::parse(bad.to_string().as_bytes()), Err(Unreadable::Foreign), "{field} {value}");
        }
        let mut future = good.clone();
        future["version"] = json!(2);
        assert_eq!(LockRecord::parse(future.to_string().as_bytes()), Err(Unreadable::Future));
        for other in ["", "{", "null", "[1]", "{}", "# This file is automatically generated", "{\"version\":3}"] {
            assert_eq!(LockRecord::parse(other.as_bytes()), Err(Unreadable::Foreign), "{other}");
        }
    }

    /// Not that of this process.
    fn record_start(here: &Here) -> Option<u64> {
        LockRecord::of_this_process(here, Duration::from_secs(60)).start_time.map(|ticks| ticks + 1)
    }

    #[test]
    fn only_a_process_of_this_boot_and_namespace_can_be_known_dead() {
        let (here, record) = mine();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = LockRecord { pid: child.id(), ..record };
        assert_eq!(dead.is_dead(&here), here.boot_id.is_some());
        for elsewhere in [
            LockRecord { boot_id: Some("another".into()), ..dead.clone() },
            LockRecord { boot_id: None, ..dead.clone() },
            LockRecord { pid_namespace: Some(1), ..dead.clone() },
            LockRecord { pid_namespace: None, ..dead.clone() },
        ] {
            assert!(!elsewhere.is_dead(&here), "{elsewhere:?}");
            assert_eq!(elsewhere.holder(&here).host, Some(harmless(&dead.host)));
        }
        // A start time of another time namespace, or of an earlier version, says nothing.
        let start_time = record_start(&here);
        for (time_namespace, differs) in [(here.time_namespace, true), (Some(1), false), (None, false)] {
            let alive = LockRecord { pid: std::process::id(), time_namespace, start_time, ..dead.clone() };
            assert_eq!(alive.is_dead(&here), differs && start_time.is_some(), "{alive:?}");
        }
        let nowhere = Here { boot_id: None, pid_namespace: None, time_namespace: None };
        assert!(!dead.is_dead(&nowhere));
    }
}
