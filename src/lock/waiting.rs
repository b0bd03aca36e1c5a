//! How to wait for a lock that is not free.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::request::Patience;
use crate::sys::alarm::Alarm;

/// How often a caller that does not wait tries again, and the pause before each try.
pub(super) const TRIES: u32 = 5;
pub(super) const TRY_PAUSE: Duration = Duration::from_millis(1);
/// How long a housekeeper may have a lock before it counts as any other holder: it unlinks files, which takes a while.
const LONGEST_BRIEF_HOLD: Duration = Duration::from_secs(1);
/// The pauses of a timed wait without an alarm.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// What can be waited for.
pub(super) trait Lockable {
    /// True if it is locked now.
    fn try_lock(&self) -> io::Result<bool>;

    /// Blocks until it is locked; `Err(Interrupted)` when a signal handler ran.
    fn wait_once(&self) -> io::Result<()>;

    /// Whether a housekeeper has it, and so gives it back in a moment.
    fn is_held_briefly(&self) -> bool {
        false
    }
}

/// The pauses of a process that asks again and again. They grow to the longest one.
pub(crate) struct Pauses {
    pause: Duration,
    longest: Duration,
    /// In percent. Differs between processes, so that waiters that started together do not stay in step. 0: there has
    /// been no pause yet.
    growth: u32,
}

impl Pauses {
    pub(crate) fn new(first: Duration, longest: Duration) -> Pauses {
        Pauses { pause: first, longest, growth: 0 }
    }

    /// The next pause, no longer than what is left of `patience`; `None`: nothing is left.
    pub(crate) fn next(&mut self, patience: &Patience<'_>) -> Option<Duration> {
        let left = patience.left().unwrap_or(self.longest);
        let pause = self.pause.min(left);
        if self.growth == 0 {
            self.growth = 100 + std::process::id() % 50;
        }
        self.pause = (self.pause * 3 / 2).min(self.longest) * self.growth / 100;
        (!left.is_zero()).then_some(pause)
    }
}

/// Tries a few times within milliseconds, for a caller that does not wait: a housekeeper or a status query may hold the
/// lock for an instant.
pub(super) fn try_again(lock: &impl Lockable) -> io::Result<bool> {
    let started = Instant::now();
    let mut left = TRIES;
    while left > 0 {
        sleep(TRY_PAUSE);
        if lock.try_lock()? {
            return Ok(true);
        }
        if started.elapsed() > LONGEST_BRIEF_HOLD || !lock.is_held_briefly() {
            left -= 1;
        }
    }
    Ok(false)
}

/// Waits as long as `patience` allows; false: it was not free in that time.
pub(super) fn wait(lock: &impl Lockable, patience: &Patience<'_>) -> io::Result<bool> {
    match patience.left() {
        None => block(lock).map(|()| true),
        Some(left) if patience.use_alarm => block_until(lock, left, patience),
        Some(_) => poll(lock, patience),
    }
}

fn block(lock: &impl Lockable) -> io::Result<()> {
    loop {
        match lock.wait_once() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A blocking wait that the timer interrupts at the deadline.
fn block_until(lock: &impl Lockable, left: Duration, patience: &Patience<'_>) -> io::Result<bool> {
    let _alarm = Alarm::after(left)?;
    loop {
        match lock.wait_once() {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            Err(_) if patience.left().is_some_and(|left| left.is_zero()) => return Ok(false),
            // Another signal.
            Err(_) => {}
        }
    }
}

/// Tries again and again, without signals or threads.
fn poll(lock: &impl Lockable, patience: &Patience<'_>) -> io::Result<bool> {
    let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
    while let Some(pause) = pauses.next(patience) {
        sleep(pause);
        if lock.try_lock()? {
            return Ok(true);
        }
    }
    Ok(false)
}
