//! What a request means for what stands in etcd.
//!
//! A lease of awrite's is a key with a value (who has it) that ends with a lease of etcd's. The key's create_revision is
//! the token. A key is
//!
//! - free: there is none;
//! - held: made by [`acquire`] out of free, in a transaction that compares; it ends with its etcd lease, or by
//!   [`release`] and [`take`], in a transaction that compares the revision that was seen.
//!
//! [`renew`] keeps the key and its revision, and gives it time: the etcd lease that it has, or a new one when another
//! length is asked for.
//!
//! Every request may be carried out and its answer lost. Then it is sent again, and what stands in etcd says what
//! happened.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::etcd::{Entry, Etcd};
use crate::protocol::{Answer, Holder, Request, Verb};
use crate::trouble::Trouble;

/// How often a key may change between a look at it and the change that follows.
const ROUNDS: usize = 5;

/// Does what is asked.
pub(crate) fn answer(etcd: &mut Etcd, request: &Request) -> Result<Vec<Answer>, Trouble> {
    match request.verb {
        Verb::Acquire => acquire(etcd, request),
        Verb::Refresh => refresh(etcd, request),
        Verb::Release => release(etcd, request),
        Verb::Status => match etcd.look(&request.name)?.0 {
            None => Ok(Answer::Done),
            Some(entry) => Ok(Answer::Held(holder(etcd, &entry)?)),
        },
        Verb::Break => take(etcd, request),
        Verb::List => return list(etcd),
    }
    .map(|answer| vec![answer])
}

fn acquire(etcd: &mut Etcd, request: &Request) -> Result<Answer, Trouble> {
    let ttl_ms = request.ttl_ms.unwrap_or_default();
    for _ in 0..ROUNDS {
        if let Some(entry) = etcd.look(&request.name)?.0 {
            if entry.text("owner") != request.owner {
                return Ok(Answer::Held(holder(etcd, &entry)?));
            }
            match renew(etcd, &entry, ttl_ms, &request.reason)? {
                Some(granted) => return Ok(granted),
                None => continue,
            }
        }
        let (lease, seconds) = etcd.grant(seconds_of(ttl_ms))?;
        let left_ms = ttl_ms.min(seconds.saturating_mul(1000));
        match etcd.create(&request.name, &value_of(request), lease) {
            Ok(Some(token)) => return Ok(Answer::Granted { token, left_ms }),
            // Somebody else was faster, or this took longer than the lease. Or an earlier try was carried out: then the
            // key goes with the lease, and is made once more.
            Ok(None) | Err(Trouble::NoSuchLease) => etcd.revoke(lease),
            // With the lease goes the key, if it was made.
            Err(trouble) => {
                etcd.revoke(lease);
                return Err(trouble);
            }
        }
    }
    Err(busy(&request.name))
}

fn refresh(etcd: &mut Etcd, request: &Request) -> Result<Answer, Trouble> {
    for _ in 0..ROUNDS {
        match etcd.look(&request.name)?.0 {
            None => return Ok(Answer::Lost(None)),
            Some(entry) if !is_askers(&entry, request) => return Ok(Answer::Lost(Some(holder(etcd, &entry)?))),
            Some(entry) => {
                let ttl_ms = request.ttl_ms.unwrap_or(ttl_of(&entry));
                if let Some(granted) = renew(etcd, &entry, ttl_ms, &request.reason)? {
                    return Ok(granted);
                }
            }
        }
    }
    Err(busy(&request.name))
}

/// Gives the key new time, and another reason if there is one; `None` if it is not any more what was seen.
fn renew(etcd: &mut Etcd, entry: &Entry, ttl_ms: u64, reason: &str) -> Result<Option<Answer>, Trouble> {
    let granted =
        |seconds: u64| Answer::Granted { token: entry.created, left_ms: ttl_ms.min(seconds.saturating_mul(1000)) };
    let stays = ttl_of(entry) == ttl_ms && (reason.is_empty() || reason == entry.text("reason"));
    if stays && entry.lease != 0 {
        // A leader that was paused or cut off may give time to a lease, while its successor lets it run out (etcd does
        // not ask a majority for that). But when the same member reads linearizably before and after it, in one and the
        // same term, then a majority followed that leader still.
        let before = etcd.look(&entry.name)?.1;
        let Some(seconds) = etcd.keep_alive(entry.lease)? else { return Ok(None) };
        let (now, after) = etcd.look(&entry.name)?;
        if now.is_none_or(|now| now.created != entry.created || now.lease != entry.lease) {
            return Ok(None);
        }
        if before == after {
            return Ok(Some(granted(seconds)));
        }
    }
    let (lease, seconds) = etcd.grant(seconds_of(ttl_ms))?;
    let mut value = entry.value.clone();
    value.insert("ttl_ms".to_owned(), ttl_ms.into());
    if !reason.is_empty() {
        value.insert("reason".to_owned(), reason.into());
    }
    match etcd.replace(entry, &value.into(), lease) {
        Ok(true) => {
            // No key ends with the old one now.
            etcd.revoke(entry.lease);
            Ok(Some(granted(seconds)))
        }
        Ok(false) | Err(Trouble::NoSuchLease) => {
            etcd.revoke(lease);
            Ok(None)
        }
        // The key may end with the new lease now: it stays, and runs out if it does not.
        Err(trouble) => Err(trouble),
    }
}

fn release(etcd: &mut Etcd, request: &Request) -> Result<Answer, Trouble> {
    match etcd.look(&request.name)?.0 {
        None => Ok(Answer::Done),
        Some(entry) if !is_askers(&entry, request) => Ok(Answer::Lost(Some(holder(etcd, &entry)?))),
        Some(entry) => delete(etcd, &entry).map(|()| Answer::Done),
    }
}

/// Takes it from whoever has it at the first look, and from nobody who comes after that.
fn take(etcd: &mut Etcd, request: &Request) -> Result<Answer, Trouble> {
    match etcd.look(&request.name)?.0 {
        None => Ok(Answer::Done),
        Some(entry) => {
            let holder = holder(etcd, &entry)?;
            delete(etcd, &entry).map(|()| Answer::Broken(holder))
        }
    }
}

fn delete(etcd: &mut Etcd, entry: &Entry) -> Result<(), Trouble> {
    // If it is not deleted here, then it was by an earlier try whose answer was lost, or it has ended meanwhile.
    etcd.delete(entry)?;
    etcd.revoke(entry.lease);
    Ok(())
}

fn list(etcd: &mut Etcd) -> Result<Vec<Answer>, Trouble> {
    let mut answers = Vec::new();
    for entry in etcd.list()? {
        let holder = holder(etcd, &entry)?;
        answers.push(Answer::Listed { name: entry.name, holder });
    }
    answers.push(Answer::Done);
    Ok(answers)
}

fn is_askers(entry: &Entry, request: &Request) -> bool {
    entry.text("owner") == request.owner && request.token.is_none_or(|token| token == entry.created)
}

fn holder(etcd: &mut Etcd, entry: &Entry) -> Result<Holder, Trouble> {
    Ok(Holder {
        owner: entry.text("owner").to_owned(),
        token: entry.created,
        left_ms: etcd.seconds_left(entry.lease)?.saturating_mul(1000),
        reason: entry.text("reason").to_owned(),
        host: entry.text("host").to_owned(),
        pid: entry.text("pid").to_owned(),
    })
}

/// How long it was asked for the last time.
fn ttl_of(entry: &Entry) -> u64 {
    entry.value.get("ttl_ms").and_then(Value::as_u64).unwrap_or_default()
}

/// etcd counts whole seconds.
fn seconds_of(ttl_ms: u64) -> u64 {
    ttl_ms.div_ceil(1000)
}

fn value_of(request: &Request) -> Value {
    let mut value = Map::new();
    for (key, text) in
        [("owner", &request.owner), ("reason", &request.reason), ("host", &request.host), ("pid", &request.pid)]
    {
        if !text.is_empty() {
            value.insert(key.to_owned(), text.as_str().into());
        }
    }
    value.insert("ttl_ms".to_owned(), request.ttl_ms.into());
    if let Ok(now) = jiff::Timestamp::try_from(SystemTime::now()) {
        value.insert("acquired_at".to_owned(), json!(format!("{now:.0}")));
    }
    value.into()
}

fn busy(name: &str) -> Trouble {
    Trouble::Said(format!("The lease \"{name}\" changes hands too often to be asked for. Try again."))
}
