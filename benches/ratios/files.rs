//! Measures what should take the same time whatever the size: cloning a file, and linking a backup.

use std::fs::{self, File};
use std::io::{self, Read};
use std::time::Instant;

use crate::Amount;
use crate::measure::{Contender, Report, Times};
use crate::places::Place;
use crate::programs::Programs;

pub(crate) fn large_and_small(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    for (name, size) in [("large", amount.large), ("small", 1024)] {
        let mut file = File::create(place.dir.join(name)).unwrap();
        io::copy(&mut io::repeat(b'x').take(size), &mut file).unwrap();
        // A clone would first write out what is not on the disk yet.
        file.sync_all().unwrap();
    }
    let awrite = programs.awrite();
    let size = format!("{} MiB, beside 1 KiB", amount.large >> 20);
    let rounds = amount.small_rounds / 3;

    let clone = |name: &'static str, to: &'static str| Contender::new(name, &[&awrite, &"-i", &name, &to]);
    let times = Times::of(rounds, &[clone("small", "s"), clone("large", "l")], |_, contender| {
        let started = Instant::now();
        contender.run_in(&place.dir);
        started.elapsed()
    });
    times.print(place, "-i FILE", &[]);
    // Without reflinks, awrite copies.
    if place.name == "xfs" {
        report.goal(format!("`-i FILE`, xfs (reflink): {size}"), times.ratio("large", "small"), 1.5, "x");
    } else {
        report.goal("`-i FILE` with reflinks", None, 1.5, "x");
    }

    let replace = |name: &'static str| Contender::new(name, &[&awrite, &"-b", &"-i", &"new", &name]);
    fs::write(place.dir.join("new"), "new\n").unwrap();
    let times = Times::of(rounds, &[replace("small"), replace("large")], |_, contender| {
        let started = Instant::now();
        contender.run_in(&place.dir);
        let took = started.elapsed();
        // The content of this size must also be the old one in the next round.
        fs::rename(place.dir.join(format!("{}.backup", contender.name)), place.dir.join(contender.name)).unwrap();
        took
    });
    times.print(place, "--backup", &[]);
    report.goal(format!("`--backup`, same file system: {size}"), times.ratio("large", "small"), 1.2, "x");
    for name in ["large", "small", "new", "l", "s"] {
        fs::remove_file(place.dir.join(name)).unwrap();
    }
}
