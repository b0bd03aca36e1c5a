//! The lock: who waits, how long, what is said meanwhile, and that nothing is left in the directory. `both` is what
//! holds for both methods, written once.

use std::ffi::OsStr;
use std::path::Path;

use crate::common::{Run, Running, TestDir, lock_is_held, wait_until};

mod both;
mod elsewhere;
mod flock;
mod foreign;
mod link;
mod place;
mod told;

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Flock,
    Link,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Flock => "flock",
            Method::Link => "link",
        }
    }

    fn other(self) -> Method {
        match self {
            Method::Flock => Method::Link,
            Method::Link => Method::Flock,
        }
    }

    /// The binary, locking by this method.
    fn awrite<S: AsRef<OsStr>>(self, dir: &TestDir, args: impl IntoIterator<Item = S>) -> Run {
        dir.awrite(args).env("AWRITE_LOCK_METHOD", self.name())
    }

    /// Whether somebody holds the lock. A dead holder's link lock counts.
    fn is_held(self, lock_file: &Path) -> bool {
        match self {
            Method::Flock => lock_is_held(lock_file),
            Method::Link => link::has_record(lock_file),
        }
    }

    /// A writer that holds the lock of `f` and reads its input, which the test has not given yet.
    fn holder(self, dir: &TestDir) -> Running {
        if self == Method::Link {
            return link::holder(dir, "60");
        }
        let holder = dir.awrite(["f"]).stdin_open().spawn();
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        holder
    }

    /// Removes the file that a process leaves if it is killed before it has a link lock.
    fn clear_after_killed_waiter(self, dir: &TestDir) {
        if self == Method::Link {
            dir.awrite(["housekeep", "-q", "--clean-temps", "--older-than", "0"]).run().ok();
        }
    }

    /// Leaves the lock file of a holder that was killed.
    fn leave_lock_of_the_dead(self, dir: &TestDir) {
        drop(self.holder(dir));
        assert!(dir.join("f.lock").exists());
    }
}

/// A command that adds one to the number it reads.
const INCREMENT: &str = "read n; echo $((n + 1))";

#[track_caller]
fn all_succeed(all: Vec<Running>) {
    for one in all {
        one.finish().ok();
    }
}
