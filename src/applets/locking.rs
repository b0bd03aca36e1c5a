//! The options of locking, and the observer, for all applets that take a lock.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use awrite::{Claim, LockMethod, LockOptions, Notice, Observer, Wait};

use super::flags::{Flag, Stop, Value, put};
use super::values::{
    one_of, parse_duration, parse_lease, parse_mode, parse_owner, parse_path, parse_reason, parse_store, parse_token,
};
use crate::process;
use crate::report::{self, Style};

/// The values of the options below.
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
    reason: Option<String>,
    store: Option<String>,
    lease: Option<String>,
    no_follow: bool,
}

/// Settings that contain those of locking.
pub(super) trait HasLocking {
    fn locking(&mut self) -> &mut Locking;
}

/// Settings with the members `style` and `locking` contain both.
macro_rules! has_style_and_locking {
    ($settings:ty) => {
        impl $crate::applets::common::HasStyle for $settings {
            fn style(&mut self) -> &mut $crate::report::Style {
                &mut self.style
            }
        }

        impl $crate::applets::locking::HasLocking for $settings {
            fn locking(&mut self) -> &mut $crate::applets::locking::Locking {
                &mut self.locking
            }
        }
    };
}
pub(super) use has_style_and_locking;

impl Locking {
    /// Whether a store is named on the command line.
    pub(super) fn names_store(&self) -> bool {
        self.store.is_some()
    }

    /// An option about how a lock is taken, if there is one.
    pub(super) fn about_a_lock(&self) -> Option<&'static str> {
        let given = [
            (self.file.is_some(), "--lock-file"),
            (self.mode.is_some(), "--lock-mode"),
            (self.keep, "--keep-lock"),
            (self.method.is_some(), "--lock-method"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// Combines the options with the environment. Fails if options contradict each other. `about_leases`: also without an
    /// owner.
    pub(super) fn options(self, about_leases: bool) -> Result<LockOptions, Stop> {
        let named = |name: &str, reason: String| Stop::Usage(format!("{name}: {reason}"));
        let method = match self.method {
            Some(method) => Some(parse_method(&method).map_err(|reason| named("--lock-method", reason))?),
            None => from_env("AWRITE_LOCK_METHOD", parse_method)?,
        };
        let store = match self.store {
            Some(store) => Some(store),
            None if about_leases || self.owner.is_some() => {
                from_env("AWRITE_STORE", |text| parse_store(text.to_owned()))?
            }
            None => None,
        };
        let stale_after = from_env("AWRITE_STALE_AFTER", parse_stale_after)?;
        let wait = match self.timeout {
            Some(limit) if limit.is_zero() => Wait::No,
            Some(_) if self.no_wait => {
                return Err(Stop::Usage("--timeout: contradicts --no-wait".to_owned()));
            }
            Some(limit) => Wait::For(limit),
            None if self.no_wait => Wait::No,
            None if self.wait => Wait::Forever,
            None => match from_env("AWRITE_TIMEOUT", parse_duration)? {
                Some(limit) if limit.is_zero() => Wait::No,
                Some(limit) => Wait::For(limit),
                None => Wait::Forever,
            },
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
        let mut options = LockOptions::default();
        options.dir = from_env("AWRITE_LOCK_DIR", |dir| Ok(dir.into()))?;
        options.keep_file = self.keep || from_env("AWRITE_KEEP_LOCK", |keep| Ok(keep != "0"))?.unwrap_or_default();
        options.claim = claim;
        (options.store, options.lease) = (store, self.lease);
        options.reason = self.reason;
        options.follow = !self.no_follow;
        options.wait = wait;
        options.mode = self.mode;
        if self.file.is_some() {
            // --lock-file names this one lock, so it is stronger than the environment's directory for all locks.
            options.dir = None;
            options.file = self.file;
        }
        if self.dir.is_some() {
            options.dir = self.dir;
        }
        options.method = method.unwrap_or_default();
        options.stale_after = stale_after;
        // This process does not use SIGALRM otherwise, and takes locks on its main thread.
        options.use_alarm = true;
        Ok(options)
    }
}

/// An observer that reports what the style asks for.
pub(super) fn observer(style: Style) -> Observer {
    observer_and(style, |_| {})
}

/// An observer that reports what the style asks for, and then calls `then`.
pub(super) fn observer_and(style: Style, then: impl Fn(&Notice<'_>) + Send + Sync + 'static) -> Observer {
    let report = report::notice_reporter(style);
    Observer::new(move |notice| {
        if matches!(notice, Notice::Waiting { .. }) {
            // Where no signal thread can be started, a signal ends the process as it would any other.
            let _ = process::about_to_wait();
        }
        report(notice);
        then(notice);
    })
}

/// The value of an environment variable, unless it is not set or empty.
fn from_env<T>(name: &str, parse: impl FnOnce(&OsStr) -> Result<T, String>) -> Result<Option<T>, Stop> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(|value| parse(&value).map_err(|reason| Stop::Usage(format!("{name}: {reason}")))).transpose()
}

fn parse_method(text: &OsStr) -> Result<LockMethod, String> {
    one_of(text, &[("auto", LockMethod::Auto), ("flock", LockMethod::Flock), ("link", LockMethod::Link)])
}

fn parse_stale_after(text: &OsStr) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a lock cannot be stale from the start".to_owned()),
        limit => Ok(limit),
    }
}

const GROUP: &str = "Locking";

pub(super) const fn wait<S: HasLocking>() -> Flag<S> {
    Flag::set(GROUP, &["--wait"], "wait until the lock is free (the default)", |s| s.locking().wait = true)
}

pub(super) const fn timeout<S: HasLocking>() -> Flag<S> {
    let help = "wait at most this long: 30, 1.5, 500ms, 2m, 1h30m; 0 means --no-wait (or set AWRITE_TIMEOUT)";
    Flag::value(GROUP, &["-w", "-t", "--timeout"], Value::Text("DURATION"), help, |s, value| {
        put(&mut s.locking().timeout, parse_duration(&value))
    })
}

pub(super) const fn no_wait<S: HasLocking>() -> Flag<S> {
    Flag::set(GROUP, &["-n", "--no-wait"], "fail at once if the lock is held", |s| s.locking().no_wait = true)
}

/// The same with flock(1)'s names too.
pub(super) const fn no_wait_or_nonblock<S: HasLocking>() -> Flag<S> {
    let mut flag = no_wait();
    flag.spec.names = &["-n", "--no-wait", "--nonblock", "--nonblocking", "--nb"];
    flag
}

pub(super) const fn lock_file<S: HasLocking>() -> Flag<S> {
    Flag::value(GROUP, &["--lock-file"], Value::File("PATH"), "use this lock file", |s, value| {
        put(&mut s.locking().file, parse_path(value))
    })
}

pub(super) const fn lock_dir<S: HasLocking>() -> Flag<S> {
    let help = "put lock files in DIR, named after the whole path (or set AWRITE_LOCK_DIR)";
    Flag::value(GROUP, &["--lock-dir"], Value::Dir("DIR"), help, |s, value| {
        put(&mut s.locking().dir, parse_path(value))
    })
}

pub(super) const fn lock_mode<S: HasLocking>() -> Flag<S> {
    let help = "mode of a new lock file; default 0600, wider where others may write the file itself";
    Flag::value(GROUP, &["--lock-mode"], Value::Text("OCTAL"), help, |s, value| {
        put(&mut s.locking().mode, parse_mode(&value))
    })
}

pub(super) const fn keep_lock<S: HasLocking>() -> Flag<S> {
    let help = "leave the lock file in place, for a lock shared with flock(1) and the like (or set AWRITE_KEEP_LOCK=1)";
    Flag::set(GROUP, &["--keep-lock"], help, |s| s.locking().keep = true)
}

pub(super) const fn lock_method<S: HasLocking>() -> Flag<S> {
    let help = "how to lock; auto (the default) means link on network file systems, otherwise flock";
    Flag::value(GROUP, &["--lock-method"], Value::OneOf(&["auto", "flock", "link"]), help, |s, value| {
        put(&mut s.locking().method, Ok(value))
    })
}

pub(super) const fn owner<S: HasLocking>() -> Flag<S> {
    Flag::value(GROUP, &["--owner"], Value::Text("ID"), "act as ID, who has a lease of the file", |s, value| {
        put(&mut s.locking().owner, parse_owner(value))
    })
}

pub(super) const fn token<S: HasLocking>() -> Flag<S> {
    Flag::value(GROUP, &["--token"], Value::Text("N"), "and whose lease has this token", |s, value| {
        put(&mut s.locking().token, parse_token(&value))
    })
}

pub(super) const fn store<S: HasLocking>() -> Flag<S> {
    let help = "the lease is one that this store keeps, for many hosts: etcd://HOST:PORT/PREFIX (or set AWRITE_STORE)";
    Flag::value("Leases", &["--store"], Value::Text("URL"), help, |s, value| {
        put(&mut s.locking().store, parse_store(value))
    })
}

pub(super) const fn lease<S: HasLocking>() -> Flag<S> {
    let help = "the lease in the store is the one with this plain name, instead of that of the file";
    Flag::value("Leases", &["--lease"], Value::Text("NAME"), help, |s, value| {
        put(&mut s.locking().lease, parse_lease(value))
    })
}

pub(super) const fn reason<S: HasLocking>() -> Flag<S> {
    let help = "say to those whom the lease keeps out why it was taken: one line";
    Flag::value("Leases", &["--reason"], Value::Text("TEXT"), help, |s, value| {
        put(&mut s.locking().reason, parse_reason(value))
    })
}

/// For applets that do not write.
pub(super) const fn no_follow<S: HasLocking>() -> Flag<S> {
    let help = "lock a symbolic link itself instead of the file it points to, as awrite --no-follow does";
    Flag::set(GROUP, &["--no-follow"], help, |s| s.locking().no_follow = true)
}
