//! What is said of leases: what was asked for on standard output, the rest on standard error.
//!
//! | event | where | level | fields |
//! |---|---|---|---|
//! | `status` | stdout | info | `path` `lock_file` `free` `held` `holder_pid` `holder` `leased` and those of a lease |
//! | `lease_acquired` | stdout, stderr with COMMAND | info | `path` and those of a lease |
//! | `lease_refreshed` | stdout | info | `path` and those of a lease |
//! | `lease_released` | stderr | info | `path` `owner` `token` |
//!
//! Those of a lease: `lease_file` `owner` `token` `locked_at` `refreshed_at` `expires_at` `ttl_ms` `left_ms` `host` `pid`.
//! Unlike elsewhere they are all there, with `null` for what is not known.

use std::path::Path;
use std::time::SystemTime;

use awrite::{Claim, Error, LeaseInfo, LockStatus, shown};

use super::message::{Field, Level, Message, json, json_line, say, told};
use super::output::{print, print_all};

type Fields<'a> = Vec<(&'static str, Field<'a>)>;

fn fields<'a>(lease: Option<&'a LeaseInfo>) -> Fields<'a> {
    let of = |value: fn(&'a LeaseInfo) -> Field<'a>| lease.map_or(Field::Null, value);
    vec![
        ("lease_file", of(|l| Field::Path(&l.path))),
        ("owner", of(|l| Field::Text(l.owner.clone()))),
        ("token", of(|l| Field::Number(l.token.into()))),
        ("locked_at", of(|l| time(l.locked_at))),
        ("refreshed_at", of(|l| time(l.refreshed_at))),
        ("expires_at", of(|l| time(l.expires_at))),
        ("ttl_ms", of(|l| Field::millis(l.ttl))),
        ("left_ms", of(|l| Field::millis(l.left.unwrap_or_default()))),
        ("host", of(|l| Field::Text(l.host.clone()))),
        ("pid", of(|l| Field::Number(l.pid.into()))),
    ]
}

fn time(time: SystemTime) -> Field<'static> {
    jiff::Timestamp::try_from(time).map_or(Field::Null, |time| Field::Text(format!("{time:.3}")))
}

fn message<'a>(event: &'static str, target: &'a Path, text: &str, more: Fields<'a>) -> Message<'a> {
    let mut fields = vec![("path", Field::Path(target))];
    fields.extend(more);
    let text = format!("{}: {text}", shown(target));
    Message { level: Level::Info, event, prefix: "", text, fields }
}

/// The outcome of `--status`.
pub(crate) fn status(target: &Path, status: &LockStatus) -> Result<(), Error> {
    let mut lines = Vec::new();
    if status.held {
        lines.push(match &status.holder {
            Some(holder) => format!("Held by {holder}"),
            None => "Held by another process".to_owned(),
        });
    }
    let leased = status.lease.as_ref().is_some_and(|lease| lease.left.is_some());
    match &status.lease {
        Some(lease) if leased => lines.push(in_words(lease)),
        Some(lease) if lines.is_empty() => {
            lines.push(format!("Free; the lease of {} is over (token {})", lease.owner, lease.token));
        }
        None if lines.is_empty() => lines.push("Free".to_owned()),
        _ => {}
    }
    if !json() {
        return print(&lines.iter().map(|line| format!("{}: {line}\n", shown(target))).collect::<String>());
    }
    let holder = status.holder.as_ref();
    let mut all = vec![
        ("lock_file", Field::Path(&status.lock_file)),
        ("free", Field::Bool(status.is_free())),
        ("held", Field::Bool(status.held)),
        ("holder_pid", holder.map_or(Field::Null, |holder| Field::Number(holder.pid.into()))),
        ("holder", holder.map_or(Field::Null, |holder| Field::Text(holder.command.clone()))),
        ("leased", Field::Bool(leased)),
    ];
    all.extend(fields(status.lease.as_ref()));
    print(&json_line(&message("status", target, &lines.join("; "), all)))
}

fn in_words(lease: &LeaseInfo) -> String {
    format!("{lease} (token {})", lease.token)
}

/// The outcome of `--acquire`. It is an error if nobody reads it.
pub(crate) fn token(target: &Path, lease: &LeaseInfo) -> Result<(), Error> {
    if json() {
        let message = message("lease_acquired", target, &in_words(lease), fields(Some(lease)));
        return print_all(&json_line(&message));
    }
    acquired(target, lease);
    print_all(&format!("{}\n", lease.token))
}

/// Says that the lease is held.
pub(crate) fn acquired(target: &Path, lease: &LeaseInfo) {
    if told(Level::Info) {
        say(&message("lease_acquired", target, &in_words(lease), fields(Some(lease))));
    }
}

/// The outcome of `--refresh`: for a machine, until when.
pub(crate) fn refreshed(target: &Path, lease: &LeaseInfo) -> Result<(), Error> {
    let message = || message("lease_refreshed", target, &in_words(lease), fields(Some(lease)));
    if json() {
        return print(&json_line(&message()));
    }
    if told(Level::Info) {
        say(&message());
    }
    Ok(())
}

/// Says that the lease was given back.
pub(crate) fn released(target: &Path, claim: &Claim) {
    if told(Level::Info) {
        let token = claim.token().map_or(Field::Null, |token| Field::Number(token.into()));
        let fields = vec![("owner", Field::Text(claim.owner().to_owned())), ("token", token)];
        say(&message("lease_released", target, &format!("No longer leased by {}", claim.owner()), fields));
    }
}
