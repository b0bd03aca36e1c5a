//! Measures locking: alone, around a command, and between many processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use awrite::{FileLock, LockOptions, Notice, Observer, Wait};

use crate::Amount;
use crate::measure::{Contender, Report, Times, median_time};
use crate::places::Place;
use crate::programs::{Programs, STATICS};

/// What the lock costs a program that uses the library.
pub(crate) fn library(place: &Place, amount: &Amount, report: &mut Report) {
    let (target, options) = (place.dir.join("f"), LockOptions::default());
    let one = |_| {
        let started = Instant::now();
        FileLock::acquire(&target, &options).unwrap().release().unwrap();
        started.elapsed()
    };
    let took = median_time(&(0..amount.small_rounds * 10).map(one).collect::<Vec<_>>());
    report.goal(format!("uncontended lock and release, {}", place.name), Some(micros(took)), 50.0, "µs");
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A command that does nothing, with the lock held.
pub(crate) fn around_true(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let mut contenders = vec![Contender::new("true alone", &[&"/bin/true"])];
    for (name, program) in programs.statics() {
        contenders.push(Contender::new(name, &[&program, &"lock", &"f", &"--", &"/bin/true"]));
    }
    contenders.extend(programs.flock.as_ref().map(|flock| Contender::new("flock", &[flock, &"f.lck", &"/bin/true"])));
    let times = Times::of(amount.small_rounds, &contenders, |_, contender| {
        let started = Instant::now();
        contender.run_in(&place.dir);
        started.elapsed()
    });
    let _ = fs::remove_file(place.dir.join("f.lck"));
    times.print(place, "lock, true, unlock", &[]);
    for name in STATICS {
        let work = format!("lock and release around `true`: {name}, beside flock(1)");
        report.goal(work, times.ratio(name, "flock"), 0.5, "x");
    }
}

/// The time from a release to the moment when a process that waits with a time-out has the lock.
pub(crate) fn hand_over(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let target = place.dir.join("f");
    let options = LockOptions::default();
    let rounds = amount.small_rounds / 3;
    // The time between the waiter's start and the release varies.
    let a_while = |round: usize| std::thread::sleep(Duration::from_micros(1000 + round as u64 * 777 % 8000));

    let command = |round| {
        let lock = FileLock::acquire(&target, &options).unwrap();
        let mut child = Command::new(programs.awrite())
            .args(["--json", "--allow-empty", "--timeout", "60"])
            .arg(&target)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut wait_for = |event: &str| while !lines.next().unwrap().unwrap().contains(event) {};
        wait_for("\"waiting\"");
        a_while(round);
        let started = Instant::now();
        lock.release().unwrap();
        wait_for("\"lock_acquired\"");
        let took = started.elapsed();
        while lines.next().is_some() {}
        assert!(child.wait().unwrap().success());
        took
    };
    let took = median_time(&(0..rounds).map(command).collect::<Vec<_>>());
    let _ = fs::remove_file(&target);
    report.goal("hand-over to a waiting `awrite --timeout`", Some(micros(took) / 1000.0), 0.2, "ms");

    let library = |round| {
        let lock = FileLock::acquire(&target, &options).unwrap();
        let (waits, waiting) = mpsc::channel();
        let observer = Observer::new(move |notice: &Notice<'_>| {
            if matches!(notice, Notice::Waiting { .. }) {
                let _ = waits.send(());
            }
        });
        let (mut timed, target) = (options.clone(), target.clone());
        timed.wait = Wait::For(Duration::from_secs(60));
        let waiter = std::thread::spawn(move || {
            let lock = FileLock::acquire_with(&target, &timed, &observer).unwrap();
            let had = Instant::now();
            lock.release().unwrap();
            had
        });
        waiting.recv().unwrap();
        a_while(round);
        let started = Instant::now();
        lock.release().unwrap();
        waiter.join().unwrap().duration_since(started)
    };
    let took = median_time(&(0..rounds).map(library).collect::<Vec<_>>());
    report.goal("hand-over to a thread that waits with a time-out (library)", Some(micros(took) / 1000.0), 5.0, "ms");
}

/// Many writers, each of which increments one number again and again.
pub(crate) fn counter(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let dir = &place.dir.join("counter");
    let locked = "flock n.lock sh -c 'read n <n; echo $((n+1)) >n.new; mv n.new n'";
    let repeated =
        |update: &str| format!("i=0; while [ $i -lt {} ]; do i=$((i+1)); {update} || exit 1; done", amount.updates);
    let mut contenders = Vec::new();
    for (name, program) in programs.statics() {
        let update = format!("{} -q --sync none n -- sh -c 'read n; echo $((n+1))'", program.display());
        contenders.push(Contender::new(name, &[&"sh", &"-c", &repeated(&update)]));
    }
    // The same without a lock while they compute; whoever was too slow starts over.
    let awrite = programs.awrite().display();
    let expecting = format!(
        "while read=$({awrite} --digest n); read n <n; \
         echo $((n+1)) | {awrite} -q --sync none --if-match $read n 2>/dev/null; [ $? = 4 ]; do :; done"
    );
    contenders.push(Contender::new("--if-match loop", &[&"sh", &"-c", &repeated(&expecting)]));
    if programs.flock.is_some() {
        contenders.push(Contender::new("flock loop", &[&"sh", &"-c", &repeated(locked)]));
    }
    let times = Times::of(amount.large_rounds.min(3), &contenders, |_, contender| {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("n"), "0\n").unwrap();
        let started = Instant::now();
        let start = |_| contender.command().current_dir(dir).stdin(Stdio::null()).spawn().unwrap();
        for mut writer in (0..amount.writers).map(start).collect::<Vec<_>>() {
            assert!(writer.wait().unwrap().success());
        }
        let took = started.elapsed();
        assert_eq!(fs::read_to_string(dir.join("n")).unwrap(), format!("{}\n", amount.writers * amount.updates));
        assert!(contender.name == "flock loop" || names(dir) == 1, "something is left");
        fs::remove_dir_all(dir).unwrap();
        took
    });
    let work = format!("{} writers x {} updates", amount.writers, amount.updates);
    times.print(place, &work, &[]);
    for name in STATICS {
        report.goal(format!("{work}: {name}, beside a flock(1) loop"), times.ratio(name, "flock loop"), 0.4, "x");
    }
}

/// What a hand-over costs when many wait, beside the same with ten.
pub(crate) fn growth(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let few: Vec<Duration> = (0..amount.large_rounds * 4).map(|_| queue(place, programs, 10).0 / 10).collect();
    let (took, fairness) = queue(place, programs, amount.waiters);
    let many = took.as_secs_f64() / amount.waiters as f64;
    let growth = many / median_time(&few).as_secs_f64();
    report.goal(format!("hand-over with {} waiting, beside 10", amount.waiters), Some(growth), 2.0, "x");
    report.goal(format!("longest wait of {}, beside their mean", amount.waiters), Some(fairness), 3.0, "x");
}

/// So many processes wait for a lock, have it one after the other from its release on, and end. How long it took, and how
/// many times longer the last one waited than they did in the mean.
fn queue(place: &Place, programs: &Programs, count: usize) -> (Duration, f64) {
    let target = place.dir.join("f");
    let lock = FileLock::acquire(&target, &LockOptions::default()).unwrap();
    let ino = fs::metadata(lock.path()).unwrap().ino();
    let start = |_| {
        let mut command =
            Contender::new("waiter", &[&programs.awrite(), &"-q", &"--sync=none", &"--allow-empty"]).command();
        command.arg(&target).stdin(Stdio::null()).spawn().unwrap().id()
    };
    let mut running: Vec<u32> = (0..count).map(start).collect();
    let waits = |line: &&str| line.contains("-> FLOCK") && line.contains(&format!(":{ino} "));
    while fs::read_to_string("/proc/locks").unwrap().lines().filter(waits).count() < count {
        std::thread::sleep(Duration::from_millis(20));
    }
    let started = Instant::now();
    lock.release().unwrap();
    let mut waited = Vec::new();
    while !running.is_empty() {
        let (pid, status) = rustix::process::wait(rustix::process::WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        running.retain(|known| i32::try_from(*known) != Ok(pid.as_raw_nonzero().get()));
        waited.push(started.elapsed());
    }
    let longest = *waited.last().unwrap();
    fs::remove_file(&target).unwrap();
    assert!(!target.with_file_name("f.lock").exists(), "something is left");
    (longest, longest.as_secs_f64() / (waited.iter().sum::<Duration>().as_secs_f64() / count as f64))
}

fn names(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}
