//! What a hand-over costs when few and when many processes wait for one lock.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{WaitOptions, wait};

use crate::Amount;
use crate::figure::{Figure, Line};
use crate::measure::{Contender, Report, median, median_time};
use crate::places::Place;
use crate::programs::Programs;

pub(crate) fn growth(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let (awrite, target) = (programs.awrite(), place.dir.join("f"));
    let lock_file = place.dir.join("f.lock");
    let queue = |waiter| Queue { waiter, lock_file: lock_file.clone() };
    let writer = queue(Contender::new("awrite f", &[&awrite, &"-q", &"--sync=none", &"--allow-empty", &target]));
    let locker = queue(Contender::new("awrite-lock f -- true", &[&awrite, &"lock", &"-q", &target, &"--", &"true"]));
    let flock = programs.flock.as_ref().map(|flock| queue(Contender::new("flock(1)", &[flock, &lock_file, &"true"])));

    let mut lines = Vec::new();
    for queue in [Some(&writer), Some(&locker), flock.as_ref()].into_iter().flatten() {
        let mut line = Line { name: queue.waiter.name.to_owned(), points: Vec::new() };
        let (mut each, mut longest) = (Vec::new(), 0.0);
        for &count in amount.waiters {
            // Few are done so soon that chance decides: more of them.
            let rounds = (amount.large_rounds * 100).div_ceil(count).clamp(1, amount.large_rounds * 4);
            let (took, unfair): (Vec<Duration>, Vec<f64>) = (0..rounds).map(|_| queue.run(count)).unzip();
            each.push(median_time(&took).as_secs_f64() / count as f64);
            longest = median(unfair.into_iter());
            line.points.push((count as f64, each[each.len() - 1] * 1e6));
        }
        println!("{}: hand-over among {:?} takes {:?} µs", line.name, amount.waiters, line.points);
        lines.push(line);
        if queue.waiter.name != "flock(1)" {
            let (few, many) = (amount.waiters[0], amount.waiters[amount.waiters.len() - 1]);
            let work = format!("hand-over with {many} waiting, `{}`", queue.waiter.name);
            report.goal(format!("{work}: beside {few}"), Some(each[each.len() - 1] / each[0]), 2.0, "x");
            report.goal(format!("{work}: longest wait, beside the mean"), Some(longest), 3.0, "x");
        }
    }
    let title = format!("Hand-over of one lock, {}", place.name);
    let figure = Figure { title, across: "waiting processes", up: "microseconds for each hand-over", lines };
    figure.write(&amount.figures(), "hand-over.svg");
}

/// Processes that wait for one lock, have it one after the other, and end.
struct Queue {
    waiter: Contender,
    lock_file: PathBuf,
}

impl Queue {
    /// From the release to the end of the last one: how long it took, and how many times longer the last one waited than
    /// they did in the mean.
    fn run(&self, count: usize) -> (Duration, f64) {
        let lock = File::create(&self.lock_file).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let ino = lock.metadata().unwrap().ino();
        let start = |_| self.waiter.command().stdin(Stdio::null()).spawn().unwrap().id();
        let mut running: Vec<u32> = (0..count).map(start).collect();
        let waits = |line: &&str| line.contains("-> FLOCK") && line.contains(&format!(":{ino} "));
        while fs::read_to_string("/proc/locks").unwrap().lines().filter(waits).count() < count {
            std::thread::sleep(Duration::from_millis(20));
        }
        let started = Instant::now();
        flock(&lock, FlockOperation::Unlock).unwrap();
        drop(lock);
        let mut waited = Vec::new();
        while !running.is_empty() {
            let (pid, status) = wait(WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0), "{}", self.waiter.name);
            running.retain(|known| i32::try_from(*known) != Ok(pid.as_raw_nonzero().get()));
            waited.push(started.elapsed());
        }
        // flock(1) leaves its file, and awrite must not.
        assert_eq!(self.lock_file.exists(), self.waiter.name == "flock(1)", "{}", self.waiter.name);
        for left in [&self.lock_file, &self.lock_file.with_extension("")] {
            let _ = fs::remove_file(left);
        }
        let longest = *waited.last().unwrap();
        (longest, longest.as_secs_f64() / (waited.iter().sum::<Duration>().as_secs_f64() / count as f64))
    }
}
