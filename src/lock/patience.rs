//! How long a caller is willing to wait for a lock, and what its observer has been told of that.

use std::path::Path;
use std::time::{Duration, Instant};

use super::filesystem;
use super::place::Place;
use crate::duration::shown_duration;
use crate::error::{Error, ErrorKind};
use crate::notice::{Notice, Observer};
use crate::options::{LockMethod, LockOptions, Wait};

/// How long a caller is willing to wait, and whether its observer knows that it does. One for all the rounds of an
/// acquisition.
pub(crate) struct Patience<'a> {
    pub(crate) target: &'a Path,
    pub(crate) wait: Wait,
    pub(crate) started: Instant,
    /// The observer has been told that we wait.
    pub(crate) told: bool,
    /// The lock is wanted for a moment only, and those who do not wait at all shall not fail because of it.
    pub(crate) briefly: bool,
    /// The observer has been told by which method.
    told_method: bool,
    pub(crate) observer: &'a Observer,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(target: &'a Path, options: &LockOptions, observer: &'a Observer) -> Patience<'a> {
        let wait = match options.wait {
            Wait::For(limit) if limit.is_zero() => Wait::No,
            wait => wait,
        };
        Patience { target, wait, started: Instant::now(), told: false, briefly: false, told_method: false, observer }
    }

    /// The method to lock by at `place`.
    pub(crate) fn method(&mut self, place: &Place, options: &LockOptions) -> LockMethod {
        let (method, why) = match options.method {
            LockMethod::Auto => {
                let there = filesystem::of(place.dir.as_ref());
                (if there.trusted { LockMethod::Flock } else { LockMethod::Link }, there.name)
            }
            asked => (asked, "asked for"),
        };
        if !std::mem::replace(&mut self.told_method, true) {
            let by_link = method == LockMethod::Link;
            if by_link && options.method == LockMethod::Auto {
                let text = format!("{why}: advisory locks are unreliable here, using link locks");
                self.observer.tell(&Notice::Warning { path: self.target, text: &text });
            }
            if by_link && options.keep {
                let text = "a link lock is given back by removing its file: it cannot be kept in place";
                self.observer.tell(&Notice::Warning { path: self.target, text });
            }
            let text = format!("locking by {} ({why})", if by_link { "link" } else { "flock" });
            self.observer.tell(&Notice::Debug { path: &place.path, text: &text });
        }
        method
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        match self.wait {
            Wait::For(limit) => Some(limit),
            Wait::Forever | Wait::No => None,
        }
    }

    /// What is left of the limit; `None`: there is none.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.limit().map(|limit| limit.saturating_sub(self.started.elapsed()))
    }

    pub(crate) fn tell_waiting(&mut self, lock_file: &Path) {
        if !self.told {
            self.told = true;
            self.observer.tell(&Notice::Waiting { target: self.target, lock_file, timeout: self.limit() });
        }
    }

    pub(crate) fn given_up(&self) -> Error {
        match self.limit() {
            None => Error::new(ErrorKind::LockBusy, "File locked by another process"),
            Some(limit) => {
                let limit = shown_duration(limit);
                Error::new(ErrorKind::LockTimeout, format!("Lock acquisition timeout after {limit}"))
            }
        }
        .on(self.target)
    }
}
