//! What a caller asks for: one lock, and how long to wait for it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::filesystem;
use super::inherited::Intent;
use super::place::Place;
use crate::duration::shown_duration;
use crate::error::{Error, ErrorKind};
use crate::notice::{Notice, Observer};
use crate::options::{LockMethod, LockOptions, Wait};
use crate::target::Target;

/// How often an observer that can end a wait is asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(100);

/// One lock to take.
pub(crate) struct Request<'a, 'p> {
    pub(crate) place: &'a Place,
    /// Messages name it as the caller did.
    pub(crate) target: &'a Target,
    pub(crate) options: &'a LockOptions,
    pub(crate) intent: Intent,
    pub(crate) patience: &'a mut Patience<'p>,
}

impl Request<'_, '_> {
    /// The method to lock by. The observer is told which, the first time.
    pub(super) fn method(&mut self) -> LockMethod {
        let (method, why) = match self.options.method {
            LockMethod::Auto => {
                let there = filesystem::of(self.place.dir.as_ref());
                (if there.trusted { LockMethod::Flock } else { LockMethod::Link }, there.name)
            }
            asked => (asked, "asked for"),
        };
        if !std::mem::replace(&mut self.patience.told_method, true) {
            self.tell_method(method, why);
        }
        method
    }

    /// Tells the observer which method it is, and why.
    pub(super) fn tell_method(&self, method: LockMethod, why: &str) {
        let (path, observer) = (self.patience.target, self.patience.observer);
        let by_link = method == LockMethod::Link;
        if by_link && self.options.method == LockMethod::Auto {
            let text = format!("{why}: advisory locks are unreliable here, using link locks");
            observer.tell(&Notice::Warning { path, text: &text });
        }
        if by_link && self.options.keep_file {
            let text = "a link lock is given back by removing its file: it cannot be kept in place";
            observer.tell(&Notice::Warning { path, text });
        }
        let text = format!("locking by {} ({why})", if by_link { "link" } else { "flock" });
        observer.tell(&Notice::Debug { path: &self.place.path, text: &text });
    }
}

/// How long a caller is willing to wait, and what its observer has been told. One value for all the rounds of an
/// acquisition.
pub(crate) struct Patience<'p> {
    pub(crate) target: &'p Path,
    pub(crate) wait: Wait,
    pub(super) use_alarm: bool,
    pub(crate) started: Instant,
    /// The lock was not free at once. Others may have changed the target meanwhile.
    pub(crate) has_waited: bool,
    /// The observer has been told that we wait.
    pub(crate) told: bool,
    /// The observer has ended the wait.
    pub(super) stopped: bool,
    /// When the observer was asked last.
    asked: Instant,
    /// The lock is only held for a moment. A caller that does not wait must not fail because of that. A file that was there
    /// before stays there, and one that this process has created does not.
    pub(super) briefly: bool,
    /// The observer has been told the method.
    told_method: bool,
    pub(crate) observer: &'p Observer,
}

impl<'p> Patience<'p> {
    pub(crate) fn new(target: &'p Path, options: &LockOptions, observer: &'p Observer) -> Patience<'p> {
        let wait = match options.wait {
            Wait::For(limit) if limit.is_zero() => Wait::No,
            wait => wait,
        };
        Patience {
            target,
            wait,
            use_alarm: options.use_alarm,
            started: Instant::now(),
            has_waited: false,
            told: false,
            stopped: false,
            asked: Instant::now(),
            briefly: false,
            told_method: false,
            observer,
        }
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        match self.wait {
            Wait::For(limit) => Some(limit),
            Wait::Forever | Wait::No => None,
        }
    }

    /// What is left of the limit; `None`: there is no limit.
    pub(super) fn left(&self) -> Option<Duration> {
        self.limit().map(|limit| limit.saturating_sub(self.started.elapsed()))
    }

    pub(crate) fn tell_waiting(&mut self, lock_file: &Path) {
        self.tell_waiting_for(lock_file, None);
    }

    /// The same for the end of another's lease, which is described by `leased`.
    pub(crate) fn tell_waiting_for(&mut self, lock_file: &Path, leased: Option<&str>) {
        self.has_waited = true;
        if !self.told {
            self.told = true;
            let notice = Notice::Waiting { target: self.target, lock_file, timeout: self.limit(), leased };
            self.ask(&notice);
        }
    }

    fn ask(&mut self, notice: &Notice<'_>) {
        self.stopped |= self.observer.ask(notice).is_break() && self.observer.decides();
        self.asked = Instant::now();
    }

    /// Whether the wait goes on, as far as the observer decides that. To be called often.
    pub(crate) fn goes_on(&mut self, lock_file: &Path) -> bool {
        if self.observer.decides() && self.told && !self.stopped && self.asked.elapsed() >= ASK_EVERY {
            self.ask(&Notice::StillWaiting { target: self.target, lock_file, waited: self.started.elapsed() });
        }
        !self.stopped
    }

    /// The error for a lock that was not free in time.
    pub(crate) fn given_up(&self) -> Error {
        match self.limit() {
            _ if self.stopped => Error::new(ErrorKind::Stopped, "The caller gave up waiting for the lock"),
            None => Error::new(ErrorKind::LockBusy, "File locked by another process"),
            Some(limit) => {
                let limit = shown_duration(limit);
                Error::new(ErrorKind::LockTimeout, format!("Lock acquisition timeout after {limit}"))
            }
        }
        .on(self.target)
    }
}
