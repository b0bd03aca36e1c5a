//! The two clocks that measure a lease.
//!
//! The wall clock can be set, by hand or by NTP. A lease measured by it alone then ends too early or too late. The boot
//! clock cannot be set and goes on while the machine sleeps, but says nothing on another machine or after a restart. So
//! a record has its end on both clocks, and names the boot.

use crate::sys::host;

/// What time it is. A trait so that the tests can set it.
pub(crate) trait Clock {
    /// Microseconds since 1970.
    fn wall_us(&self) -> i64;
    /// Where the boot clock stands; `None` where there is none, or none that every process here reads alike.
    fn boot(&self) -> Option<Boot>;

    fn wall_ms(&self) -> i64 {
        self.wall_us().div_euclid(1000)
    }
}

/// A moment on the clock of one boot of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    /// Which boot.
    pub(crate) id: String,
    /// Milliseconds since then, sleep included.
    pub(crate) ms: u64,
}

/// The machine's own clocks.
#[derive(Debug)]
pub(crate) struct Machine;

impl Clock for Machine {
    fn wall_us(&self) -> i64 {
        i64::try_from(host::wall_clock() / 1000).unwrap_or(i64::MAX)
    }

    fn boot(&self) -> Option<Boot> {
        let id = host::boot_id_of_clock()?.to_owned();
        Some(Boot { id, ms: u64::try_from(host::boot_clock().as_millis()).ok()? })
    }
}

/// Clocks that the test sets.
#[cfg(test)]
pub(crate) mod fake {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::{Boot, Clock};

    pub(crate) struct Fake(RefCell<(i64, Option<Boot>)>);

    impl Fake {
        pub(crate) fn new() -> Fake {
            Fake(RefCell::new((1_700_000_000_000_000, Some(Boot { id: "boot-1".into(), ms: 5_000 }))))
        }

        /// Time passes.
        pub(crate) fn pass(&self, d: Duration) {
            let mut now = self.0.borrow_mut();
            now.0 += i64::try_from(d.as_micros()).unwrap();
            if let Some(boot) = &mut now.1 {
                boot.ms += u64::try_from(d.as_millis()).unwrap();
            }
        }

        /// Somebody sets the wall clock forward or back.
        pub(crate) fn step(&self, seconds: i64) {
            self.0.borrow_mut().0 += seconds * 1_000_000;
        }

        /// The machine restarts: its boot clock begins at zero.
        pub(crate) fn reboot(&self, id: &str) {
            self.0.borrow_mut().1 = Some(Boot { id: id.into(), ms: 0 });
        }

        /// There is no boot clock.
        pub(crate) fn forget_boot(&self) {
            self.0.borrow_mut().1 = None;
        }
    }

    impl Clock for Fake {
        fn wall_us(&self) -> i64 {
            self.0.borrow().0
        }

        fn boot(&self) -> Option<Boot> {
            self.0.borrow().1.clone()
        }
    }
}
