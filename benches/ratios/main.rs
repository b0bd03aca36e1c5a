//! Measures what awrite costs, as ratios to its peers: `cargo bench --bench ratios`.
//!
//! Every round runs each contender once, one after the other. The order turns from round to round. A ratio is the
//! median of the rounds' own ratios. Absolute times say little, because they depend on the machine. At the end comes a
//! table of the goals, and whether each is reached. Instructions and system calls are counted, and do not vary.
//!
//! | variable | what |
//! |---|---|
//! | `AWRITE_BENCH_QUICK` | if set: few rounds with little data, to see that it works; the figures then mean little |
//! | `AWRITE_BENCH_LONG` | if set: also housekeeping of a million files |
//! | `AWRITE_BENCH_STATIC` | a static awrite to measure; otherwise one is built |
//! | `AWRITE_BENCH_FIGURES` | the directory for the figures (SVG); otherwise below the target directory |
//! | `AWRITE_BENCH_MUSL` | an awrite that is linked with musl; otherwise that row is left out |
//!
//! What is not installed is left out, and the output says so: a C compiler with a static libc (the floors: ../floor.c,
//! ../floor_set.c), `sponge`, `flock`, `time`, `valgrind`, `strace`. As root it makes file systems of its own, ext4 and
//! xfs. Otherwise it uses
//! tmpfs and the file system of the target directory.

// A bench prints to the terminal.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod counts;
mod figure;
mod files;
mod housekeeping;
mod locks;
mod measure;
mod places;
mod programs;
mod queue;
mod several;
mod writes;

use std::path::{Path, PathBuf};

use measure::Report;
use places::Place;
use programs::Programs;

/// How many rounds, and how much data.
struct Amount {
    /// Rounds of work that takes a millisecond.
    small_rounds: usize,
    /// Rounds of work that takes a second.
    large_rounds: usize,
    /// Bytes streamed.
    stream: u64,
    /// Bytes in the large file, for work that should not depend on the size.
    large: u64,
    /// How many files are replaced together.
    files: &'static [usize],
    locks: usize,
    backups: usize,
    /// How many files housekeeping finds, in its turns.
    growth: &'static [usize],
    writers: usize,
    updates: usize,
    /// How many processes wait for one lock. The first is what the last is compared with.
    waiters: &'static [usize],
}

impl Amount {
    /// Where the figures go.
    fn figures(&self) -> PathBuf {
        let given = std::env::var_os("AWRITE_BENCH_FIGURES").map(PathBuf::from);
        given.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("figures"))
    }
}

const FULL: Amount = Amount {
    small_rounds: 300,
    large_rounds: 5,
    stream: 2 << 30,
    large: 1 << 30,
    files: &[1, 10, 100, 1000],
    locks: 10_000,
    backups: 100_000,
    growth: &[10_000, 100_000],
    writers: 100,
    updates: 20,
    waiters: &[10, 30, 100, 300, 1000],
};

const LONG: Amount = Amount { growth: &[10_000, 100_000, 1_000_000], ..FULL };

const QUICK: Amount = Amount {
    small_rounds: 20,
    large_rounds: 2,
    stream: 64 << 20,
    large: 64 << 20,
    files: &[1, 100],
    locks: 1000,
    backups: 2000,
    growth: &[10_000, 100_000],
    writers: 20,
    updates: 5,
    waiters: &[10, 100],
};

fn main() {
    // `cargo test --benches` runs this without `--bench`: nothing to test here.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let work = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let amount = match (is_set("AWRITE_BENCH_QUICK"), is_set("AWRITE_BENCH_LONG")) {
        (true, _) => &QUICK,
        (_, true) => &LONG,
        _ => &FULL,
    };
    let programs = Programs::find(work);
    let report = &mut Report::default();

    let tmpfs = Path::new("/dev/shm").is_dir().then(|| Place::scratch("tmpfs", Path::new("/dev/shm")));
    let disk =
        Place::made("ext4", &["mkfs.ext4", "-q", "-N", "250000"], work).unwrap_or_else(|| Place::scratch("here", work));
    let xfs = Place::made("xfs", &["mkfs.xfs", "-q"], work);
    let places: Vec<&Place> = tmpfs.iter().chain([&disk]).collect();

    measure::print_head();
    for place in &places {
        writes::small(place, &programs, amount, report);
    }
    writes::stream(places[0], &programs, amount, report);
    writes::simple_memory(places[0], &programs, amount, report);
    files::large_and_small(xfs.as_ref().unwrap_or(&disk), &programs, amount, report);
    several::together(&disk, &programs, amount, report);
    several::edit_one(places[0], &programs, amount, report);
    for place in &places {
        locks::library(place, amount, report);
    }
    locks::around_true(places[0], &programs, amount, report);
    locks::hand_over(places[0], &programs, amount, report);
    locks::counter(places[0], &programs, amount, report);
    queue::growth(places[0], &programs, amount, report);
    for place in &places {
        housekeeping::beside_find(place, &programs, amount, report);
    }
    housekeeping::growth(places[0], &programs, amount, report);
    counts::of_one_run(places[0], &programs, report);
    counts::sizes(&programs, report);
    report.print();
}
