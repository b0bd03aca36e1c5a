//! The two clocks a lease is measured by.
//!
//! The wall clock can be stepped, by hand or by NTP, and then frees a lease too early or keeps it too long. The boot
//! clock cannot, and goes on while the machine sleeps, but means nothing on another machine or after a restart. So a
//! record has its end on both, and says which boot the second is of.

use std::time::{SystemTime, UNIX_EPOCH};

/// What time it is. A trait so that the tests can step it.
pub(crate) trait Clock {
    /// Microseconds since 1970.
    fn wall_us(&self) -> i64;
    /// Where this boot's clock stands; `None` where there is none, or none that other processes would agree with.
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
        let micros = |d: std::time::Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        }
    }

    fn boot(&self) -> Option<Boot> {
        Some(Boot { id: boot_id()?.to_owned(), ms: boot_ms()? })
    }
}

/// The kernel's name for this boot. `None` without /proc, as in an empty root directory.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn boot_id() -> Option<&'static str> {
    use std::sync::OnceLock;
    static ID: OnceLock<Option<String>> = OnceLock::new();
    ID.get_or_init(|| {
        // A time namespace has a boot clock of its own under the same boot id (time_namespaces(7)). Only the first
        // namespace's is comparable; its inode number is fixed (PROC_TIME_INIT_INO). Before Linux 5.6 there are none.
        if std::fs::read_link("/proc/self/ns/time").is_ok_and(|name| name.as_os_str() != "time:[4026531834]") {
            return None;
        }
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = id.trim();
        (!id.is_empty()).then(|| id.to_owned())
    })
    .as_deref()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn boot_ms() -> Option<u64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).ok()?, u64::try_from(now.tv_nsec).ok()?);
    Some(seconds * 1000 + nanos / 1_000_000)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn boot_id() -> Option<&'static str> {
    None
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn boot_ms() -> Option<u64> {
    None
}

/// Clocks that stand where the test puts them.
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

        /// Somebody sets the wall clock.
        pub(crate) fn step(&self, seconds: i64) {
            self.0.borrow_mut().0 += seconds * 1_000_000;
        }

        /// The machine is started anew: its boot clock begins at nothing.
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
