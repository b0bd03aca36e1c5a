//! Measures locking: alone, around a command, and between many processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use awrite::{FileLock, LockOptions, Notice, Observer, Wait};

use crate::Amount;
use crate::measure::{Contender, Report, Times, median_time};
use crate::places::Place;
use crate::programs::{Programs, STATICS};

const FLOOR: &str = "floor (C, static)";

/// What the lock costs a program that uses the library.
pub(crate) fn library(place: &Place, amount: &Amount, report: &mut Report) {
    let (target, options) = (place.dir.join("f"), LockOptions::default());
    let one = |_| {
        let started = Instant::now();
        FileLock::acquire(&target, &options).unwrap().release().unwrap();
        started.elapsed()
    };
    let took = median_time(&(0..amount.small_rounds * 10).map(one).collect::<Vec<_>>());
    report.goal(format!("uncontended lock and release, {}", place.name), Some(micros(took)), 35.0, "µs");
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A command that does nothing, with the lock held.
pub(crate) fn around_true(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let mut contenders = vec![Contender::new("true alone", &[&"/bin/true"])];
    contenders.extend(programs.floor.as_ref().map(|floor| Contender::new(FLOOR, &[floor, &"-c", &"f", &"/bin/true"])));
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
    let [glibc, musl] = STATICS;
    let work = "lock and release around `true`";
    report.goal(format!("{work}: {musl}, beside flock(1)"), times.ratio(musl, "flock"), 0.7, "x");
    report.figure(format!("{work}: {glibc}, beside flock(1)"), times.ratio(glibc, "flock"), "x");
    for name in STATICS {
        report.figure(format!("{work}: {name}, beside the floor"), times.ratio(name, FLOOR), "x");
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
    let [glibc, musl] = STATICS;
    report.goal(format!("{work}: {musl}, beside a flock(1) loop"), times.ratio(musl, "flock loop"), 0.4, "x");
    report.figure(format!("{work}: {glibc}, beside a flock(1) loop"), times.ratio(glibc, "flock loop"), "x");
}

fn names(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}
