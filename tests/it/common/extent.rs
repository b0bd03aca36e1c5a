//! How much is tried. `AWRITE_TEST_LONG` unset: in two minutes, what a change needs before a commit. 1: what `.ci/run`
//! tries for every change. 2: what `.ci/run long` tries.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::StatVfsMountFlags;

use super::machine::say;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    Quick,
    Full,
    Long,
}

pub(crate) fn extent() -> Extent {
    static EXTENT: OnceLock<Extent> = OnceLock::new();
    *EXTENT.get_or_init(|| match std::env::var("AWRITE_TEST_LONG").as_deref() {
        Err(_) | Ok("" | "0") => Extent::Quick,
        Ok("1") => Extent::Full,
        Ok("2") => Extent::Long,
        Ok(other) => panic!("AWRITE_TEST_LONG={other}: neither 1 nor 2"),
    })
}

pub(crate) fn is_quick() -> bool {
    extent() == Extent::Quick
}

/// How often something is tried: `quick` by default, `full` with AWRITE_TEST_LONG.
pub(crate) fn rounds<T>(quick: T, full: T) -> T {
    if is_quick() { quick } else { full }
}

/// Whether there is time for a test that means nothing in a shorter form.
pub(crate) fn needs_full() -> bool {
    if is_quick() {
        say("skipped: AWRITE_TEST_LONG=1 runs it");
    }
    !is_quick()
}

/// Where the tests' directories are. By default in memory, where there is room: most of the time of a write is waiting
/// for the disk. With AWRITE_TEST_LONG, or if TMPDIR is set, where temporary files always are.
pub(super) fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let chosen = std::env::var_os("TMPDIR").is_some();
        if is_quick() && !chosen && memory_will_do() { MEMORY.into() } else { std::env::temp_dir() }
    })
}

/// A place on another file system than [`place`], where there is one.
pub(super) fn other_place() -> PathBuf {
    let memory = Path::new(MEMORY);
    if memory.is_dir() && place() != memory { memory.into() } else { std::env::temp_dir() }
}

const MEMORY: &str = "/dev/shm";

/// Docker gives containers 64 MB of it, and mounts it `noexec`.
fn memory_will_do() -> bool {
    const ENOUGH: u64 = 1 << 30;
    rustix::fs::statvfs(MEMORY).is_ok_and(|of| {
        of.f_bavail.saturating_mul(of.f_frsize) > ENOUGH && !of.f_flag.contains(StatVfsMountFlags::NOEXEC)
    })
}
