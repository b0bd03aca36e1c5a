//! The ways of waiting for a lock that does not come at once.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::patience::Patience;
use crate::sys::alarm::Alarm;

/// How often, and how far apart, a caller that does not wait looks again.
pub(crate) const GLANCES: u32 = 5;
pub(crate) const GLANCE: Duration = Duration::from_millis(1);
/// How long a housekeeper may have a lock before it counts as anybody: it has to unlink files, which can take a while.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// The pauses of a timed wait without an alarm: from the first, growing, to the last.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LAST_PAUSE: Duration = Duration::from_millis(4);

/// What can be waited for.
pub(crate) trait Lockable {
    /// True if it is locked now.
    fn try_lock(&self) -> io::Result<bool>;

    /// Blocks until it is locked; `Err(Interrupted)` when a signal handler ran.
    fn wait_once(&self) -> io::Result<()>;

    /// Whether a housekeeper has it, who gives it back in a moment.
    fn is_looked_at(&self) -> bool {
        false
    }
}

/// A few looks within milliseconds: a housekeeper or a status look may be holding it for an instant.
pub(crate) fn glance(lock: &impl Lockable) -> io::Result<bool> {
    let started = Instant::now();
    let mut left = GLANCES;
    while left > 0 {
        sleep(GLANCE);
        if lock.try_lock()? {
            return Ok(true);
        }
        if started.elapsed() > LONGEST_LOOK || !lock.is_looked_at() {
            left -= 1;
        }
    }
    Ok(false)
}

/// Waits for as long as `patience` has; false: that was not long enough.
pub(crate) fn wait(lock: &impl Lockable, use_alarm: bool, patience: &Patience<'_>) -> io::Result<bool> {
    match patience.left() {
        None => block(lock).map(|()| true),
        Some(left) if use_alarm => block_until(lock, left, patience),
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
            // Some other signal.
            Err(_) => {}
        }
    }
}

/// Looks again and again, without signals or threads.
fn poll(lock: &impl Lockable, patience: &Patience<'_>) -> io::Result<bool> {
    let mut pause = FIRST_PAUSE;
    // Waiters that started together must not go on looking together: each has its own rhythm.
    let stretch = 100 + std::process::id() % 50;
    loop {
        let left = patience.left().unwrap_or(LAST_PAUSE);
        if left.is_zero() {
            return Ok(false);
        }
        sleep(pause.min(left));
        if lock.try_lock()? {
            return Ok(true);
        }
        pause = (pause * 3 / 2).min(LAST_PAUSE) * stretch / 100;
    }
}
