//! Measures what does not vary with the machine: instructions, system calls, sizes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::measure::{Contender, Report};
use crate::places::Place;
use crate::programs::{Programs, find};
use crate::writes::{self, SPONGE, STATIC};

/// As many as a login session has. A program that starts another copies them.
const VARIABLES: usize = 35;

/// What one run took; `None`: the tool that counts is not installed.
#[derive(Clone, Copy)]
struct Counted {
    instructions: Option<f64>,
    calls: Option<f64>,
}

/// Replaces a file of 1 KiB by another, and runs `true` under a lock.
pub(crate) fn of_one_run(place: &Place, programs: &Programs, report: &mut Report) {
    let counter = Counter::new(place);
    println!("\n{:<48} {:>13} {:>13}", "one run", "instructions", "system calls");
    let write = |level: &str| -> Vec<(&'static str, Counted)> {
        let count =
            |contender: Contender| (contender.name, counter.count(&format!("1 KiB, --sync {level}"), &contender, true));
        writes::once(programs, level).into_iter().map(count).collect()
    };
    let (durable, unsynced) = (write("full"), write("none"));
    let of =
        |all: &[(&str, Counted)], wanted| all.iter().find(|(name, _)| *name == wanted).map(|(_, counted)| *counted);
    let own = of(&durable, STATIC);
    report.goal("1 KiB, durable: instructions, static (glibc)", own.and_then(|own| own.instructions), 95_000.0, "");
    report.goal("1 KiB, durable: system calls, static (glibc)", own.and_then(|own| own.calls), 75.0, "");
    let (own, sponge) = (of(&unsynced, STATIC), of(&unsynced, SPONGE));
    let instructions = quotient(own, sponge, |counted| counted.instructions);
    report.goal("1 KiB, `--sync none`: instructions, static (glibc), beside sponge", instructions, 0.5, "x");

    // This includes COMMAND's own system calls, but not its instructions.
    let around = |name, words: &[&dyn AsRef<std::ffi::OsStr>]| {
        counter.count("lock and true", &Contender::new(name, words), false)
    };
    let floor = programs.floor.as_ref().map(|floor| around("floor (C, static)", &[floor, &"-c", &"f", &"/bin/true"]));
    let own = around("awrite (static)", &[&programs.awrite(), &"lock", &"f", &"--", &"/bin/true"]);
    if let Some(musl) = &programs.static_musl {
        around("awrite (musl)", &[musl, &"lock", &"f", &"--", &"/bin/true"]);
    }
    around("awrite (dynamic)", &[&programs.dynamic, &"lock", &"f", &"--", &"/bin/true"]);
    let flock = programs.flock.as_ref().map(|flock| around("flock(1)", &[flock, &"f.lck", &"/bin/true"]));
    let own = Some(own);
    let work = "lock and release around `true`, 35 variables";
    let instructions = quotient(own, flock, |counted| counted.instructions);
    report.goal(format!("{work}: instructions, static (glibc), beside flock(1)"), instructions, 0.7, "x");
    let calls = quotient(own, flock, |counted| counted.calls);
    report.goal(format!("{work}: system calls, static (glibc), beside flock(1)"), calls, 0.6, "x");
    let calls = quotient(floor, flock, |counted| counted.calls);
    report.figure(format!("{work}: system calls of the floor, beside flock(1)"), calls, "x");
}

fn quotient(own: Option<Counted>, other: Option<Counted>, of: fn(Counted) -> Option<f64>) -> Option<f64> {
    Some(own.and_then(of)? / other.and_then(of)?)
}

struct Counter<'a> {
    place: &'a Place,
    valgrind: Option<std::path::PathBuf>,
    strace: Option<std::path::PathBuf>,
}

impl Counter<'_> {
    fn new(place: &Place) -> Counter<'_> {
        fs::write(place.dir.join("f"), "old").unwrap();
        Counter { place, valgrind: find("valgrind"), strace: find("strace") }
    }

    fn count(&self, work: &str, contender: &Contender, with_target: bool) -> Counted {
        let number = |text: &str| text.trim().parse().ok();
        let instructions = self.valgrind.as_ref().and_then(|tool| {
            let options = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
            let said = self.said(tool, &options, contender, with_target)?;
            said.lines().find_map(|line| number(line.split_once("Collected : ")?.1))
        });
        let calls = self.strace.as_ref().and_then(|tool| {
            let said = self.said(tool, &["-f", "-c", "-U", "calls,name"], contender, with_target)?;
            said.lines().rev().find_map(|line| number(line.trim().strip_suffix(" total")?))
        });
        let shown = |count: Option<f64>| count.map_or("-".to_owned(), |count| count.to_string());
        println!("{:<48} {:>13} {:>13}", format!("{work}, {}", contender.name), shown(instructions), shown(calls));
        Counted { instructions, calls }
    }

    /// What `tool` writes to standard error when it runs the contender.
    fn said(&self, tool: &Path, options: &[&str], contender: &Contender, with_target: bool) -> Option<String> {
        let command = contender.command();
        let mut counted = Command::new(tool);
        counted.args(options).arg(command.get_program()).args(command.get_args());
        counted.args(with_target.then(|| self.place.dir.join("f")));
        counted.current_dir(&self.place.dir).stdin(writes::kibibyte()).stdout(Stdio::null());
        // The C locale: another one costs flock(1) half of its instructions.
        counted.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
        counted.envs((2..VARIABLES).map(|number| (format!("VARIABLE_{number}"), "/a/value/as/long/as/usual")));
        let output = counted.output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Beside version 0.1 without the abilities that have come since: a tenth more.
pub(crate) fn sizes(programs: &Programs, report: &mut Report) {
    let kib = |path: &Path| fs::metadata(path).ok().map(|meta| meta.len() as f64 / 1024.0);
    report.goal("size of the binary, dynamic", kib(&programs.dynamic), 1205.0 * 1.1, "KiB");
    let musl = programs.static_musl.as_deref().and_then(kib);
    report.goal("size of the binary, static (musl)", musl, 1156.0 * 1.1, "KiB");
    report.figure("size of the binary, static (glibc)", programs.static_glibc.as_deref().and_then(kib), "KiB");
}
