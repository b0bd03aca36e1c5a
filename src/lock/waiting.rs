//! How to wait for a lock that is not free.
//!
//! A process must not wait for itself (around.rs). To find that out takes a hundred system calls, as many as all the rest
//! of a write, and most waits are short. So it is asked late:
//!
//! ```text
//!   busy ──20 ms──> taken meanwhile? ──no───────────────> look around ──> wait
//!                        └──yes──until 1 s have passed──────┘
//! ```
//!
//! A lock that was taken while this process waited is not one that it runs under. But clocks are set, and times of files
//! too; so that is believed for a second only. A look interrupts the wait, and a `flock` that is interrupted goes to the
//! end of the queue. So there are no more looks than that. A wait without a limit or an alarm, in a library, cannot be
//! interrupted: there the look comes first.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::around::Around;
use super::request::{ASK_EVERY, Patience};
use crate::options::Wait;
use crate::sys::alarm::Alarm;
use crate::sys::host::wall_clock;

/// How often a caller that does not wait tries again, and the pause before each try.
pub(super) const TRIES: u32 = 5;
pub(super) const TRY_PAUSE: Duration = Duration::from_millis(1);
/// How long a housekeeper may have a lock before it counts as any other holder: it unlinks files, which takes a while.
const LONGEST_BRIEF_HOLD: Duration = Duration::from_secs(1);
/// How long a wait lasts before this process looks around, and how much longer if the lock was taken meanwhile.
const BEFORE_LOOK: Duration = Duration::from_millis(20);
const BEFORE_LATE_LOOK: Duration = Duration::from_millis(980);
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

/// A lock that takes part in nesting, so that a process may run under the very lock that it waits for.
pub(super) trait Nesting: Lockable {
    /// Whether it takes part indeed.
    fn can_be_its_own(&self) -> bool;

    /// Whether it has certainly been taken at these times (nanoseconds since 1970), and not before.
    fn was_taken_in(&self, times: RangeInclusive<i128>) -> bool;

    /// Who is in the way of locking it. `alone`: no thread of this process has locks of its own.
    fn look_around(&self, alone: bool) -> Around;
}

/// What has come of a wait.
#[derive(Debug)]
pub(super) enum Waited {
    Locked,
    /// The time is over, or it would last for ever: this is in the way.
    Not(Around),
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
        self.next_within(patience.left())
    }

    /// The same of what is `left` of something else.
    fn next_within(&mut self, left: Option<Duration>) -> Option<Duration> {
        let left = left.unwrap_or(self.longest);
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

/// Waits as long as `patience` allows, if at all, but not for this process itself.
pub(super) fn wait(lock: &impl Nesting, patience: &mut Patience<'_>, lock_file: &Path) -> io::Result<Waited> {
    patience.has_waited = true;
    let can_be_its_own = lock.can_be_its_own();
    if patience.wait == Wait::No {
        return Ok(match try_again(lock)? {
            true => Waited::Locked,
            false if can_be_its_own => Waited::Not(lock.look_around(patience.use_alarm)),
            false => Waited::Not(Around::Nothing),
        });
    }
    let can_be_interrupted = patience.use_alarm || patience.left().is_some() || patience.observer.decides();
    let before_looks: &[Duration] = match can_be_interrupted {
        _ if !can_be_its_own => &[],
        true => &[BEFORE_LOOK, BEFORE_LATE_LOOK],
        false => &[Duration::ZERO],
    };
    let since = wall_clock();
    for &limit in before_looks {
        let limit = patience.left().map_or(limit, |left| left.min(limit));
        if wait_for(lock, Some(limit), patience, lock_file)? {
            return Ok(Waited::Locked);
        }
        if patience.stopped {
            return Ok(Waited::Not(Around::Nothing));
        }
        if limit == BEFORE_LOOK && lock.was_taken_in(since + 1..=wall_clock()) {
            patience.tell_waiting(lock_file);
            continue;
        }
        match lock.look_around(patience.use_alarm) {
            Around::Nothing => break,
            itself => return Ok(Waited::Not(itself)),
        }
    }
    patience.tell_waiting(lock_file);
    let locked = wait_for(lock, patience.left(), patience, lock_file)?;
    Ok(if locked { Waited::Locked } else { Waited::Not(Around::Nothing) })
}

/// The same for `limit`, if there is one, or until the observer ends the wait: false.
pub(super) fn wait_for(
    lock: &impl Lockable,
    limit: Option<Duration>,
    patience: &mut Patience<'_>,
    lock_file: &Path,
) -> io::Result<bool> {
    if !patience.observer.decides() {
        return wait_within(lock, limit, patience.use_alarm);
    }
    let started = Instant::now();
    while patience.goes_on(lock_file) {
        let left = limit.map_or(ASK_EVERY, |limit| limit.saturating_sub(started.elapsed()));
        if left.is_zero() {
            break;
        }
        if poll(lock, left.min(ASK_EVERY))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Waits for `limit`, if there is one; false: it was not free in that time.
pub(super) fn wait_within(lock: &impl Lockable, limit: Option<Duration>, use_alarm: bool) -> io::Result<bool> {
    match limit {
        None => block(lock).map(|()| true),
        Some(limit) if use_alarm => block_until(lock, limit),
        Some(limit) => poll(lock, limit),
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
fn block_until(lock: &impl Lockable, limit: Duration) -> io::Result<bool> {
    let started = Instant::now();
    let _alarm = Alarm::after(limit)?;
    loop {
        match lock.wait_once() {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            Err(_) if started.elapsed() >= limit => return Ok(false),
            // Another signal.
            Err(_) => {}
        }
    }
}

/// Tries again and again, without signals or threads.
fn poll(lock: &impl Lockable, limit: Duration) -> io::Result<bool> {
    let (started, mut pauses) = (Instant::now(), Pauses::new(FIRST_PAUSE, LONGEST_PAUSE));
    while let Some(pause) = pauses.next_within(Some(limit.saturating_sub(started.elapsed()))) {
        sleep(pause);
        if lock.try_lock()? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::notice::Observer;
    use crate::options::LockOptions;

    const LONG: Duration = Duration::from_secs(60);

    /// A lock that is free after some tries, and that is had after some waits were interrupted.
    #[derive(Default)]
    struct Fake {
        busy: u32,
        briefly: bool,
        interrupted: u32,
        errno: Option<i32>,
        tries: Cell<u32>,
        waits: Cell<u32>,
    }

    impl Lockable for Fake {
        fn try_lock(&self) -> io::Result<bool> {
            self.tries.set(self.tries.get() + 1);
            Ok(self.tries.get() > self.busy)
        }

        fn wait_once(&self) -> io::Result<()> {
            self.waits.set(self.waits.get() + 1);
            match self.errno {
                _ if self.waits.get() <= self.interrupted => Err(io::ErrorKind::Interrupted.into()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Ok(()),
            }
        }

        fn is_held_briefly(&self) -> bool {
            self.briefly
        }
    }

    #[test]
    fn pauses_grow_to_the_longest() {
        let (options, observer) = (LockOptions::default(), Observer::default());
        let patience = Patience::new(Path::new("f"), &options, &observer);
        let (first, longest) = (Duration::from_millis(1), Duration::from_millis(50));
        let mut pauses = Pauses::new(first, longest);
        let all: Vec<Duration> = (0..40).map(|_| pauses.next(&patience).unwrap()).collect();
        assert_eq!(all[0], first);
        assert!(all.windows(2).all(|two| two[0] <= two[1] && two[1] <= two[0] * 9 / 4), "{all:?}");
        assert!((longest..longest * 3 / 2).contains(&all[39]), "{all:?}");
    }

    #[test]
    fn one_who_does_not_wait_outlasts_a_brief_holder_only() {
        let held = Fake { busy: u32::MAX, ..Fake::default() };
        assert!(!try_again(&held).unwrap());
        assert_eq!(held.tries.get(), TRIES);
        assert!(try_again(&Fake { busy: 3 * TRIES, briefly: true, ..Fake::default() }).unwrap());
    }

    #[test]
    fn a_signal_does_not_end_a_wait_and_an_error_does() {
        for limit in [None, Some(LONG)] {
            let interrupted = Fake { interrupted: 3, ..Fake::default() };
            assert!(wait_within(&interrupted, limit, true).unwrap());
            assert_eq!(interrupted.waits.get(), 4);
            let failing = Fake { errno: Some(libc::EIO), ..Fake::default() };
            assert_eq!(wait_within(&failing, limit, true).unwrap_err().raw_os_error(), Some(libc::EIO));
        }
        let asked = Fake { busy: 3, ..Fake::default() };
        assert!(wait_within(&asked, Some(LONG), false).unwrap());
        assert_eq!((asked.tries.get(), asked.waits.get()), (4, 0), "a library uses no signal");
    }
}
