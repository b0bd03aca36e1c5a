//! The harness: a directory for each test, the built binary as a child process, and waiting for a condition with a
//! deadline. Nothing here sleeps in the hope that something has happened by then. What a test has started ends with its
//! directory, and a test that left a process behind fails (leftovers.rs).

use std::time::{Duration, Instant};

mod dir;
mod extent;
mod leftovers;
mod locks;
mod machine;
mod run;

pub(crate) use dir::{Snapshot, TestDir, assert_no_debris, chmod, copy_program, names_in, temp_name, temp_stem};
pub(crate) use extent::{Extent, extent, is_quick, needs_full, rounds};
pub(crate) use locks::{Held, lock_is_held, somebody_waits_for};
pub(crate) use machine::{
    is_root, needs, needs_mount, needs_pid_namespaces, needs_root, needs_strace, needs_user_namespaces, say,
};
pub(crate) use run::{Done, Run, Running};

/// The binary under test.
pub(crate) const AWRITE: &str = env!("CARGO_BIN_EXE_awrite");

/// How long anything may take before it counts as hanging. Generous: a loaded machine is no bug.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The user and group of unprivileged runs.
pub(crate) const NOBODY: u32 = 65534;

/// Waits until `holds` says true. Panics with `what` when that takes longer than [`DEADLINE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
