//! The report of leases: results on standard output, messages on standard error.
//!
//! | event | where | level | fields |
//! |---|---|---|---|
//! | `status` | stdout | info | `path` `lock_file` `free` `held` `holder_pid` `holder` `held_since` `leased` `fence` `interrupted` and the lease's fields |
//! | `lease_acquired` | stdout, stderr with COMMAND | info | `path` and the lease's fields |
//! | `lease_refreshed` | stdout | info | `path` and the lease's fields |
//! | `lease_released` | stderr | info | `path` `owner` `token` `held_ms` |
//! | `lease_broken` | stdout | info | `path` `held_ms` and the lease's fields |
//!
//! A lease's fields: `lease_file` `owner` `token` `locked_at` `refreshed_at` `expires_at` `ttl_ms` `left_ms` `host`
//! `pid` `reason`. They are always there; an unknown value is `null`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use awrite::{Error, LeaseInfo, LockStatus, shown, shown_time};

use super::message::{Field, Level, Message, json, shows};
use super::output::{print, print_all};

/// Adds the fields of a lease.
pub(super) fn with_lease<'a>(message: Message<'a>, lease: Option<&'a LeaseInfo>) -> Message<'a> {
    // A store does not say when it was taken.
    let here = lease.filter(|lease| !lease.is_in_store());
    message
        .with("lease_file", here.map(|l| l.path.as_path()))
        .with("owner", lease.map(|l| l.owner.as_str()))
        .with("token", lease.map(|l| l.token))
        .with("locked_at", here.map(|l| time(l.locked_at)))
        .with("refreshed_at", here.map(|l| time(l.refreshed_at)))
        .with("expires_at", lease.map(|l| time(l.expires_at)))
        .with("ttl_ms", here.map(|l| l.ttl))
        .with("left_ms", lease.map(|l| l.left.unwrap_or_default()))
        .with("host", lease.map(|l| l.host.as_str()))
        .with("pid", lease.map(|l| u64::from(l.pid)))
        .with("reason", lease.map(|l| l.reason.as_deref()).unwrap_or_default())
}

pub(super) fn time(time: SystemTime) -> Field<'static> {
    jiff::Timestamp::try_from(time).ok().map(|time| format!("{time:.3}")).into()
}

/// Prints the result of `--status`.
pub(crate) fn status(target: &Path, status: &LockStatus) -> Result<(), Error> {
    let mut lines = Vec::new();
    if status.held {
        let since = status.since.map(|since| format!(" since {}", shown_time(since))).unwrap_or_default();
        lines.push(match &status.holder {
            Some(holder) => format!("Held by {holder}{since}"),
            None => format!("Held by another process{since}"),
        });
    }
    let leased = status.lease.as_ref().is_some_and(|lease| lease.left.is_some());
    match &status.lease {
        Some(lease) if leased => {
            let since = since_of(lease).map(|since| format!(" since {}", shown_time(since))).unwrap_or_default();
            lines.push(format!("{lease}{since} (token {})", lease.token));
        }
        Some(lease) if lines.is_empty() => {
            lines.push(format!("Free; the lease of {} is over (token {})", lease.owner, lease.token));
        }
        None if lines.is_empty() => lines.push("Free".to_owned()),
        _ => {}
    }
    if status.interrupted {
        let text =
            "Part of a replacement of several files that was interrupted; who locks it next finishes or undoes that";
        lines.push(text.to_owned());
    }
    if let Some(token) = status.fence {
        lines.push(format!("Written under leases that a store keeps (greatest token {token})"));
    }
    if !json() {
        return print(&lines.iter().map(|line| format!("{}: {line}\n", shown(target))).collect::<String>());
    }
    let holder = status.holder.as_ref();
    let message = Message::about(Level::Info, "status", target, &lines.join("; "))
        .with("lock_file", Some(status.lock_file.as_path()).filter(|path| !path.as_os_str().is_empty()))
        .with("free", status.is_free())
        .with("held", status.held)
        .with("holder_pid", holder.map(|holder| u64::from(holder.pid)))
        .with("holder", holder.map(|holder| holder.command.as_str()))
        .with("held_since", status.since.map(time))
        .with("leased", leased)
        .with("fence", status.fence)
        .with("interrupted", status.interrupted);
    print(&with_lease(message, status.lease.as_ref()).json_line())
}

fn in_words(lease: &LeaseInfo) -> String {
    format!("{lease} (token {})", lease.token)
}

fn acquired_message<'a>(target: &'a Path, lease: &'a LeaseInfo) -> Message<'a> {
    with_lease(Message::about(Level::Info, "lease_acquired", target, &in_words(lease)), Some(lease))
}

/// Prints the result of `--acquire`. It is an error if nobody reads it.
pub(crate) fn token(target: &Path, lease: &LeaseInfo) -> Result<(), Error> {
    if json() {
        return print_all(acquired_message(target, lease).json_line().as_bytes());
    }
    acquired(target, lease);
    print_all(format!("{}\n", lease.token).as_bytes())
}

/// Reports that the lease was acquired.
pub(crate) fn acquired(target: &Path, lease: &LeaseInfo) {
    if shows(Level::Info) {
        acquired_message(target, lease).say();
    }
}

/// Reports the result of `--refresh`. With `--json` it goes to standard output: a program wants to know the new end.
pub(crate) fn refreshed(target: &Path, lease: &LeaseInfo) -> Result<(), Error> {
    let message = || with_lease(Message::about(Level::Info, "lease_refreshed", target, &in_words(lease)), Some(lease));
    if json() {
        return print(&message().json_line()).map_err(|e| e.with_hint("the lease has been refreshed"));
    }
    if shows(Level::Info) {
        message().say();
    }
    Ok(())
}

/// Reports that the lease was released.
pub(crate) fn released(target: &Path, lease: &LeaseInfo) {
    if shows(Level::Info) {
        let text = format!("No longer leased by {}", lease.owner);
        let message = Message::about(Level::Info, "lease_released", target, &text);
        message.with("owner", lease.owner.as_str()).with("token", lease.token).with("held_ms", held(lease)).say();
    }
}

/// When it was taken, if that is known.
pub(super) fn since_of(lease: &LeaseInfo) -> Option<SystemTime> {
    (!lease.is_in_store()).then_some(lease.locked_at)
}

/// How long the lease was held until now. By the wall clock, since the process that acquired it may be gone.
fn held(lease: &LeaseInfo) -> Duration {
    lease.locked_at.elapsed().unwrap_or_default()
}

/// Prints whose lease was broken.
pub(crate) fn broken(target: &Path, lease: Option<&LeaseInfo>) -> Result<(), Error> {
    let text = match lease {
        Some(lease) => format!("The lease has ended. It was: {}", in_words(lease)),
        None => "Not leased".to_owned(),
    };
    let result = if json() {
        let message = Message::about(Level::Info, "lease_broken", target, &text)
            .with("held_ms", lease.filter(|lease| !lease.is_in_store()).map(held));
        with_lease(message, lease).json_line()
    } else {
        format!("{}: {text}\n", shown(target))
    };
    print(&result).map_err(|e| if lease.is_some() { e.with_hint("the lease has ended") } else { e })
}
