//! What etcd does: keys that end with leases, changed only when they are as they were seen.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::base64;
use crate::environment::Environment;
use crate::http::{Gateway, random};
use crate::protocol::is_name;
use crate::trouble::Trouble;
use crate::url::Place;

/// How many keys of a list are asked for at once.
const PAGE: usize = 500;

/// The keys below a prefix.
pub(crate) struct Etcd {
    gateway: Gateway,
    prefix: String,
    /// Until when to tidy up after [`Gateway::until`].
    tidy_until: Instant,
}

/// A key as it was seen.
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The revision of etcd's store in which the key was made. It is the token: etcd's revisions only grow.
    pub(crate) created: u64,
    /// The id of the etcd lease that the key ends with. 0: with none.
    pub(crate) lease: u64,
    pub(crate) value: Map<String, Value>,
}

/// By whom a read was answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    member: u64,
    /// Of the leader. In a term there is one leader at most.
    term: u64,
}

impl Entry {
    /// A member of the value; empty if there is none.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.value.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Etcd {
    pub(crate) fn new(place: Place, environment: Environment) -> Etcd {
        let gateway = Gateway::new(place.endpoints, environment);
        Etcd { gateway, prefix: place.prefix, tidy_until: Instant::now() }
    }

    /// When to give up, and until when to tidy up after that.
    pub(crate) fn give_up_at(&mut self, until: Instant, tidy_until: Instant) {
        self.gateway.until = until;
        self.tidy_until = tidy_until;
    }

    /// Makes a lease of at least this many seconds, and says how many etcd gives it and which id it has.
    ///
    /// The id is chosen here, so that a request can be sent again whose answer was lost.
    pub(crate) fn grant(&mut self, seconds: u64) -> Result<(u64, u64), Trouble> {
        // etcd's ids are positive i64.
        let id = (random() >> 1).max(1);
        let body = json!({ "TTL": seconds.to_string(), "ID": id.to_string() });
        match self.gateway.call("lease/grant", &body) {
            Ok(answer) => Ok((id, number(&answer, "TTL"))),
            // An earlier try was carried out.
            Err(Trouble::LeaseExists) => Ok((id, seconds)),
            Err(trouble) => {
                self.revoke(id);
                Err(trouble)
            }
        }
    }

    /// Ends a lease that no key needs any more. If that fails, it runs out.
    pub(crate) fn revoke(&mut self, lease: u64) {
        if lease == 0 {
            return;
        }
        let until = std::mem::replace(&mut self.gateway.until, self.tidy_until);
        let _ = self.gateway.call("lease/revoke", &json!({ "ID": lease.to_string() }));
        self.gateway.until = until;
    }

    /// Starts the time of a lease anew, and says how many seconds it has now; `None` if it has ended.
    ///
    /// A leader that does not know yet that it is none any more answers that, too.
    pub(crate) fn keep_alive(&mut self, lease: u64) -> Result<Option<u64>, Trouble> {
        match self.gateway.call("lease/keepalive", &json!({ "ID": lease.to_string() })) {
            Ok(answer) => Ok(Some(number(&answer["result"], "TTL")).filter(|seconds| *seconds > 0)),
            Err(Trouble::NoSuchLease) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// How much of a lease is left, in whole seconds.
    pub(crate) fn seconds_left(&mut self, lease: u64) -> Result<u64, Trouble> {
        if lease == 0 {
            return Ok(0);
        }
        match self.gateway.call("lease/timetolive", &json!({ "ID": lease.to_string() })) {
            // -1 if there is none.
            Ok(answer) => Ok(number(&answer, "TTL")),
            Err(Trouble::NoSuchLease) => Ok(0),
            Err(trouble) => Err(trouble),
        }
    }

    /// A linearizable read.
    pub(crate) fn look(&mut self, name: &str) -> Result<(Option<Entry>, Seen), Trouble> {
        let answer = self.gateway.call("kv/range", &json!({ "key": self.key(name) }))?;
        let seen =
            Seen { member: number(&answer["header"], "member_id"), term: number(&answer["header"], "raft_term") };
        Ok((self.first_entry(&answer)?, seen))
    }

    /// All leases: keys with a name and a value of awrite's.
    pub(crate) fn list(&mut self) -> Result<Vec<Entry>, Trouble> {
        // All keys that begin with the prefix and a slash are below the same with what follows a slash in ASCII.
        let end = base64::encode(format!("{}0", self.prefix).as_bytes());
        let mut from = format!("{}/", self.prefix).into_bytes();
        let mut entries = Vec::new();
        loop {
            let body = json!({ "key": base64::encode(&from), "range_end": end, "limit": PAGE.to_string() });
            let answer = self.gateway.call("kv/range", &body)?;
            let keys = answer.get("kvs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            entries.extend(keys.iter().filter_map(|key| self.entry(key)).filter(|entry| is_name(&entry.name)));
            let last = keys.last().and_then(|key| base64::decode(key.get("key")?.as_str()?));
            match last.filter(|_| answer.get("more").and_then(Value::as_bool) == Some(true)) {
                Some(last) => from = [last, vec![0]].concat(),
                None => return Ok(entries),
            }
        }
    }

    /// Makes the key if there is none, and says with which revision; `None` if there is one.
    pub(crate) fn create(&mut self, name: &str, value: &Value, lease: u64) -> Result<Option<u64>, Trouble> {
        let answer = self.transaction(name, 0, &self.put(name, value, lease))?;
        Ok(succeeded(&answer).then(|| number(&answer["header"], "revision")))
    }

    /// Writes the key anew if it is still the one of that revision. Its revision stays.
    pub(crate) fn replace(&mut self, seen: &Entry, value: &Value, lease: u64) -> Result<bool, Trouble> {
        let put = self.put(&seen.name, value, lease);
        self.transaction(&seen.name, seen.created, &put).map(|answer| succeeded(&answer))
    }

    /// Deletes the key if it is still the one of that revision.
    pub(crate) fn delete(&mut self, seen: &Entry) -> Result<bool, Trouble> {
        let delete = json!([{ "request_delete_range": { "key": self.key(&seen.name) } }]);
        self.transaction(&seen.name, seen.created, &delete).map(|answer| succeeded(&answer))
    }

    fn transaction(&mut self, name: &str, created: u64, then: &Value) -> Result<Value, Trouble> {
        let compare = json!([{ "target": "CREATE", "key": self.key(name), "create_revision": created.to_string() }]);
        self.gateway.call("kv/txn", &json!({ "compare": compare, "success": then }))
    }

    fn put(&self, name: &str, value: &Value, lease: u64) -> Value {
        let value = base64::encode(value.to_string().as_bytes());
        json!([{ "request_put": { "key": self.key(name), "value": value, "lease": lease.to_string() } }])
    }

    fn key(&self, name: &str) -> String {
        base64::encode(format!("{}/{name}", self.prefix).as_bytes())
    }

    /// The key that a read has found. A value that is none of awrite's is an error: somebody uses this key for
    /// something else.
    fn first_entry(&self, answer: &Value) -> Result<Option<Entry>, Trouble> {
        let Some(found) = answer.get("kvs").and_then(|keys| keys.get(0)) else { return Ok(None) };
        let key = found.get("key").and_then(Value::as_str).and_then(base64::decode).unwrap_or_default();
        self.entry(found).map(Some).ok_or_else(|| {
            let key = String::from_utf8_lossy(&key).into_owned();
            Trouble::Said(format!(
                "The key \"{key}\" in etcd has a value that is no lease. Choose another PREFIX in the URL, or delete the \
                 key if nothing needs it."
            ))
        })
    }

    fn entry(&self, found: &Value) -> Option<Entry> {
        let key = String::from_utf8(base64::decode(found.get("key")?.as_str()?)?).ok()?;
        let name = key.strip_prefix(&self.prefix)?.strip_prefix('/')?.to_owned();
        let value = serde_json::from_slice(&base64::decode(found.get("value")?.as_str()?)?).ok()?;
        let entry = Entry { name, created: number(found, "create_revision"), lease: number(found, "lease"), value };
        Some(entry).filter(|entry| !entry.text("owner").is_empty())
    }
}

fn succeeded(answer: &Value) -> bool {
    answer.get("succeeded").and_then(Value::as_bool) == Some(true)
}

/// A number, which JSON of protocol buffers writes as a string if it has 64 bits, and leaves out if it is 0. A negative
/// one becomes 0.
fn number(answer: &Value, key: &str) -> u64 {
    match answer.get(key) {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    }
}
