//! The options that say how a lock is taken, for every applet that takes one.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use awrite::{Claim, LockMethod, LockOptions, Notice, Observer, Wait};

use super::flags::{Complete, Flag, Spec, Stop};
use super::values::{parse_duration, parse_mode, parse_owner, parse_path, parse_token, quoted};
use crate::process;
use crate::report::{self, Style};

/// What the options below have said.
#[derive(Default)]
pub(super) struct Locking {
    wait: bool,
    no_wait: bool,
    timeout: Option<Duration>,
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
    mode: Option<u32>,
    keep: bool,
    method: Option<OsString>,
    owner: Option<Claim>,
    token: Option<u64>,
}

/// Settings that have those of a lock in them.
pub(super) trait Locks {
    fn locking(&mut self) -> &mut Locking;
}

impl Locking {
    /// What the options and the environment come to, or what contradicts what.
    pub(super) fn options(self) -> Result<LockOptions, Stop> {
        let named = |name: &str, reason: String| Stop::Usage(format!("{name}: {reason}"));
        let method = match self.method {
            Some(method) => Some(parse_method(&method).map_err(|reason| named("--lock-method", reason))?),
            None => from_env("AWRITE_LOCK_METHOD", parse_method)?,
        };
        let stale_after = from_env("AWRITE_STALE_AFTER", parse_stale_after)?;
        let wait = match self.timeout {
            Some(limit) if limit.is_zero() => Wait::No,
            Some(_) if self.no_wait => {
                return Err(Stop::Usage("--timeout: contradicts --no-wait".to_owned()));
            }
            Some(limit) => Wait::For(limit),
            None if self.no_wait => Wait::No,
            None => Wait::Forever,
        };
        if self.wait && wait == Wait::No {
            let other = if self.no_wait { "--no-wait" } else { "--timeout 0" };
            return Err(Stop::Usage(format!("--wait: contradicts {other}")));
        }
        if self.file.is_some() && self.dir.is_some() {
            return Err(Stop::Usage("--lock-file: contradicts --lock-dir".to_owned()));
        }
        let claim = match (self.owner, self.token) {
            (None, Some(_)) => return Err(Stop::Usage("--token: needs --owner".to_owned())),
            (Some(claim), Some(token)) => Some(claim.with_token(token)),
            (claim, None) => claim,
        };
        let mut options = LockOptions::from_env();
        options.claim = claim;
        options.wait = wait;
        options.mode = self.mode;
        options.keep |= self.keep;
        if self.file.is_some() {
            // Said of this one lock, so stronger than where the environment puts all of them.
            options.dir = None;
            options.file = self.file;
        }
        if self.dir.is_some() {
            options.dir = self.dir;
        }
        options.method = method.unwrap_or_default();
        options.stale_after = stale_after;
        // This process has no other use for SIGALRM, and locks on its main thread.
        options.use_alarm = true;
        Ok(options)
    }
}

/// An observer that says what the style asks for.
pub(super) fn observer(style: Style) -> Observer {
    observer_and(style, |_| {})
}

/// One that says what the style asks for, and then does something more.
pub(super) fn observer_and(style: Style, then: impl Fn(&Notice<'_>) + Send + Sync + 'static) -> Observer {
    let tell = report::telling(style);
    Observer::new(move |notice| {
        if matches!(notice, Notice::Waiting { .. }) {
            // Where no thread can be had for signals, they end the process as they would any other.
            let _ = process::about_to_wait();
        }
        tell(notice);
        then(notice);
    })
}

/// The value of an environment variable, unless it is not set or empty.
fn from_env<T>(name: &str, parse: impl FnOnce(&OsStr) -> Result<T, String>) -> Result<Option<T>, Stop> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(|value| parse(&value).map_err(|reason| Stop::Usage(format!("{name}: {reason}")))).transpose()
}

fn parse_method(method: &OsStr) -> Result<LockMethod, String> {
    match method.to_str() {
        Some("auto") => Ok(LockMethod::Auto),
        Some("flock") => Ok(LockMethod::Flock),
        Some("link") => Ok(LockMethod::Link),
        _ => Err(format!("{} is none of auto, flock, link", quoted(method))),
    }
}

fn parse_stale_after(text: &OsStr) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a lock cannot be stale from the start".to_owned()),
        limit => Ok(limit),
    }
}

const GROUP: &str = "Locking";

pub(super) const fn wait<S: Locks>() -> Flag<S> {
    Flag::switch(GROUP, &["wait"], &[], "wait until the lock is free (the default)", |settings, _| {
        settings.locking().wait = true;
        Ok(())
    })
}

pub(super) const fn timeout<S: Locks>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: GROUP,
            long: &["timeout"],
            short: &['w', 't'],
            value: Some("DURATION"),
            help: "wait at most this long: 30, 1.5, 500ms, 2m; 0 means --no-wait",
            complete: Complete::Nothing,
        },
        apply: |settings, value| {
            settings.locking().timeout = Some(parse_duration(&value)?);
            Ok(())
        },
    }
}

pub(super) const fn no_wait<S: Locks>() -> Flag<S> {
    Flag::switch(GROUP, &["no-wait"], &['n'], "fail at once if the lock is held", |settings, _| {
        settings.locking().no_wait = true;
        Ok(())
    })
}

/// The same, by flock(1)'s names too.
pub(super) const fn no_wait_or_nonblock<S: Locks>() -> Flag<S> {
    let mut flag = no_wait();
    flag.spec.long = &["no-wait", "nonblock", "nonblocking", "nb"];
    flag
}

pub(super) const fn lock_file<S: Locks>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: GROUP,
            long: &["lock-file"],
            short: &[],
            value: Some("PATH"),
            help: "use this lock file",
            complete: Complete::File,
        },
        apply: |settings, value| {
            settings.locking().file = Some(parse_path(value)?);
            Ok(())
        },
    }
}

pub(super) const fn lock_dir<S: Locks>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: GROUP,
            long: &["lock-dir"],
            short: &[],
            value: Some("DIR"),
            help: "put lock files in DIR, named after the whole path (or set AWRITE_LOCK_DIR)",
            complete: Complete::Dir,
        },
        apply: |settings, value| {
            settings.locking().dir = Some(parse_path(value)?);
            Ok(())
        },
    }
}

pub(super) const fn lock_mode<S: Locks>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: GROUP,
            long: &["lock-mode"],
            short: &[],
            value: Some("OCTAL"),
            help: "mode of a new lock file; default 0600, wider where others may write the file itself",
            complete: Complete::Nothing,
        },
        apply: |settings, value| {
            settings.locking().mode = Some(parse_mode(&value)?);
            Ok(())
        },
    }
}

pub(super) const fn keep_lock<S: Locks>() -> Flag<S> {
    Flag::switch(
        GROUP,
        &["keep-lock"],
        &[],
        "leave the lock file in place, for a lock shared with flock(1) and the like (or set AWRITE_KEEP_LOCK=1)",
        |settings, _| {
            settings.locking().keep = true;
            Ok(())
        },
    )
}

pub(super) const fn lock_method<S: Locks>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: GROUP,
            long: &["lock-method"],
            short: &[],
            value: Some("auto|flock|link"),
            help: "how to lock; auto (the default) means link on network file systems, otherwise flock",
            complete: Complete::Words(&["auto", "flock", "link"]),
        },
        apply: |settings, value| {
            settings.locking().method = Some(value);
            Ok(())
        },
    }
}

pub(super) const fn owner<S: Locks>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: GROUP,
            long: &["owner"],
            short: &[],
            value: Some("ID"),
            help: "act as ID, who has a lease of the file",
            complete: Complete::Nothing,
        },
        apply: |settings, value| {
            settings.locking().owner = Some(parse_owner(value)?);
            Ok(())
        },
    }
}

pub(super) const fn token<S: Locks>() -> Flag<S> {
    Flag {
        spec: Spec {
            group: GROUP,
            long: &["token"],
            short: &[],
            value: Some("N"),
            help: "and whose lease has this token",
            complete: Complete::Nothing,
        },
        apply: |settings, value| {
            settings.locking().token = Some(parse_token(&value)?);
            Ok(())
        },
    }
}
