//! Replaces a file by what comes through a pipe.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::Instant;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::Amount;
use crate::measure::{Contender, Report, Times};
use crate::places::Place;
use crate::programs::Programs;

const FLOOR: &str = "floor (C, static)";
pub(crate) const STATIC: &str = "awrite (static)";
const MUSL: &str = "awrite (musl)";
const DYNAMIC: &str = "awrite (dynamic)";
pub(crate) const SPONGE: &str = "sponge (never syncs)";

/// All awrites that exist, with these options.
fn awrites(programs: &Programs, options: &[&str]) -> Vec<Contender> {
    let all = [
        (STATIC, programs.static_glibc.as_ref()),
        (MUSL, programs.static_musl.as_ref()),
        (DYNAMIC, Some(&programs.dynamic)),
    ];
    let contender = |(name, program): (&'static str, Option<&std::path::PathBuf>)| {
        let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![program?];
        words.extend(options.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        Some(Contender::new(name, &words))
    };
    all.into_iter().filter_map(contender).collect()
}

const KIBIBYTE: [u8; 1024] = [b'x'; 1024];

/// A pipe with these bytes, closed at its end. All of them fit, so the input is complete before anybody reads it.
pub(crate) fn kibibyte() -> OwnedFd {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    File::from(write).write_all(&KIBIBYTE).unwrap();
    read
}

/// Writes 1 KiB, durably and not.
pub(crate) fn small(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let target = place.dir.join("small");
    for level in ["full", "none"] {
        let contenders = once(programs, level);
        let times = Times::of(amount.small_rounds, &contenders, |_, contender| {
            let input = kibibyte();
            let started = Instant::now();
            let status = contender.start(&target, input).wait().unwrap();
            let took = started.elapsed();
            assert!(status.success(), "{} failed", contender.name);
            took
        });
        assert_eq!(fs::read(&target).unwrap(), KIBIBYTE);
        fs::remove_file(&target).unwrap();
        times.print(place, &format!("1 KiB, --sync {level}"), &[]);

        let on = place.name;
        if level == "none" {
            let work = format!("1 KiB, `--sync none`, {on}: static (musl), beside sponge");
            report.goal(work, times.ratio(MUSL, SPONGE), 0.5, "x");
            let work = format!("1 KiB, `--sync none`, {on}: static (glibc), beside sponge");
            report.figure(work, times.ratio(STATIC, SPONGE), "x");
            return;
        }
        let limit = if on == "tmpfs" { 1.2 } else { 1.1 };
        report.goal(
            format!("1 KiB, durable, {on}: static (glibc), beside the floor"),
            times.ratio(STATIC, FLOOR),
            limit,
            "x",
        );
        let work = format!("1 KiB, durable, {on}: static (musl), beside the floor");
        report.goal(work, times.ratio(MUSL, FLOOR), 1.0, "x");
    }
}

/// Feeds `child` this many bytes and waits for its end. Returns the most memory that it has had, in KiB.
fn feed(mut child: Child, pipe: OwnedFd, mut left: u64) -> u64 {
    let block = vec![b'x'; 1 << 20];
    let mut producer = File::from(pipe);
    while left > 0 {
        let n = left.min(block.len() as u64);
        producer.write_all(&block[..n as usize]).unwrap();
        left -= n;
    }
    // The child or the pipe now has all input. The child cannot end before the end of file, which comes next.
    let peak = peak_memory(child.id());
    drop(producer);
    assert!(child.wait().unwrap().success());
    peak
}

/// Streams much data through a pipe.
pub(crate) fn stream(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let mut contenders = vec![Contender::new("cat > file", &[&"cat"])];
    contenders[0].redirected = true;
    contenders.extend(awrites(programs, &["--stream", "--sync", "none"]));
    contenders.extend(programs.sponge.as_ref().map(|sponge| Contender::new(SPONGE, &[sponge])));
    let target = place.dir.join("stream");
    let mut peaks = vec![0; contenders.len()];
    let times = Times::of(amount.large_rounds, &contenders, |index, contender| {
        // Freeing the pages of the old content takes time, too. No contender pays for another's.
        let _ = fs::remove_file(&target);
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let started = Instant::now();
        let peak = feed(contender.start(&target, read), write, amount.stream);
        let took = started.elapsed();
        peaks[index] = peaks[index].max(peak);
        assert_eq!(fs::metadata(&target).unwrap().len(), amount.stream);
        took
    });
    fs::remove_file(&target).unwrap();
    let work = format!("stream {} MiB", amount.stream >> 20);
    times.print(place, &work, &peaks);
    for (name, build) in [(STATIC, "static (glibc)"), (MUSL, "static (musl)")] {
        let beside_cat = times.ratio(name, "cat > file");
        report.goal(format!("{work}, `--sync none`: {build}, beside `cat > file`"), beside_cat, 0.8, "x");
        let peak = contenders.iter().position(|contender| contender.name == name).map(|index| peaks[index] as f64);
        report.goal(format!("{work}: peak memory, {build}"), peak, 2048.0, "KiB");
    }
    report.figure(format!("{work}, `--sync none`: static (glibc), beside sponge"), times.ratio(STATIC, SPONGE), "x");
}

/// How much memory the simple mode takes for its input.
pub(crate) fn simple_memory(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let (target, input) = (place.dir.join("simple"), amount.large / 4);
    let contender = Contender::new("simple", &[&programs.awrite(), &"--sync", &"none"]);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let peak = feed(contender.start(&target, read), write, input) * 1024;
    fs::remove_file(&target).unwrap();
    let work = format!("simple mode, {} MiB: memory beyond 4 MiB, beside the input", input >> 20);
    report.goal(work, Some(peak.saturating_sub(4 << 20) as f64 / input as f64), 1.0, "x");
}

/// The most memory that the process has had resident so far, in KiB. (`ru_maxrss` is known only after its end, and it
/// counts what this process had when it forked.)
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// One write by each, with this `--sync`.
pub(crate) fn once(programs: &Programs, level: &str) -> Vec<Contender> {
    let mut all = Vec::new();
    if let Some(floor) = &programs.floor {
        let words: [&dyn AsRef<std::ffi::OsStr>; 2] = [floor, &"-n"];
        all.push(Contender::new(FLOOR, &words[..if level == "none" { 2 } else { 1 }]));
    }
    all.extend(awrites(programs, &["--sync", level]));
    all.extend(programs.sponge.as_ref().map(|sponge| Contender::new(SPONGE, &[sponge])));
    all
}
