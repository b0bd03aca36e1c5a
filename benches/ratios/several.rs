//! Replaces many files together, and edits one.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::Amount;
use crate::figure::{Figure, Line};
use crate::measure::{Contender, Report, Times};
use crate::places::Place;
use crate::programs::Programs;

const FLOOR: &str = "floor (C), syncfs";
const SET: &str = "awrite --into";
const ONE_BY_ONE: &str = "awrite, one by one";

/// Small files, durably, few and many: by `--into`, one by one, and the floor.
pub(crate) fn together(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let names = [SET, ONE_BY_ONE, FLOOR];
    let mut lines = names.map(|name| Line { name: name.to_owned(), points: Vec::new() });
    let mut last = None;
    for &count in amount.files {
        let times = replace(place, programs, count, amount.large_rounds);
        times.print(place, &format!("{count} files of 1 KiB"), &[]);
        for line in &mut lines {
            let each = times.median(&line.name).map(|took| took.as_secs_f64() * 1e3 / count as f64);
            line.points.extend(each.map(|each| (count as f64, each)));
        }
        last = Some((count, times));
    }
    let Some((count, times)) = last else { return };
    let (work, on) = (format!("{count} files of 1 KiB"), place.name);
    report.goal(format!("{work} by `--into`, {on}: beside one by one"), times.ratio(SET, ONE_BY_ONE), 0.1, "x");
    report.goal(format!("{work} by `--into`, {on}: beside the floor"), times.ratio(SET, FLOOR), 1.5, "x");
    let title = format!("Replacing files of 1 KiB durably, {on}");
    let figure = Figure { title, across: "files", up: "milliseconds for each file", lines: lines.into() };
    figure.write(&amount.figures(), "files.svg");
}

fn replace(place: &Place, programs: &Programs, count: usize, rounds: usize) -> Times {
    let awrite = programs.awrite();
    // Each contender replaces files of its own, by other content each time.
    for tree in ["even", "odd"] {
        fs::create_dir(place.dir.join(tree)).unwrap();
        for number in 0..count {
            fs::write(place.dir.join(tree).join(number.to_string()), format!("{tree:>1023}\n")).unwrap();
        }
    }
    let script = r#"for file in "$1"/*; do "$0" -i "$file" "$2/${file##*/}" || exit; done"#;
    let contenders: Vec<Contender> = [
        programs.floor_set.as_ref().map(|floor| Contender::new(FLOOR, &[floor])),
        Some(Contender::new(SET, &[&awrite, &"--into"])),
        Some(Contender::new(ONE_BY_ONE, &[&"sh", &"-c", &script, &awrite])),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut turns = vec![0; contenders.len()];
    let times = Times::of(rounds, &contenders, |index, contender| {
        let target = place.dir.join(format!("to-{index}"));
        let source = place.dir.join(["even", "odd"][turns[index] % 2]);
        turns[index] += 1;
        let _ = fs::create_dir(&target);
        let mut command = contender.command();
        let words: [&Path; 2] = if contender.name == SET { [&target, &source] } else { [&source, &target] };
        let started = Instant::now();
        assert!(command.args(words).status().unwrap().success(), "{} failed", contender.name);
        let took = started.elapsed();
        assert_eq!(fs::read(target.join("0")).unwrap(), fs::read(source.join("0")).unwrap());
        took
    });
    for tree in ["even", "odd", "to-0", "to-1", "to-2"] {
        let _ = fs::remove_dir_all(place.dir.join(tree));
    }
    times
}

/// `-e` of one file, beside a filter.
pub(crate) fn edit_one(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let awrite = programs.awrite();
    fs::write(place.dir.join("f"), "x".repeat(1024)).unwrap();
    let contenders = [
        Contender::new("-e and true", &[&awrite, &"-e", &"f", &"--", &"true"]),
        Contender::new("cat", &[&awrite, &"f", &"--", &"cat"]),
    ];
    let times = Times::of(amount.small_rounds / 3, &contenders, |_, contender| {
        let started = Instant::now();
        contender.run_in(&place.dir);
        started.elapsed()
    });
    times.print(place, "edit 1 KiB", &[]);
    let work = format!("`-e` of 1 KiB around `true`, {}: beside `awrite f -- cat`", place.name);
    report.goal(work, times.ratio("-e and true", "cat"), 1.3, "x");
    fs::remove_file(place.dir.join("f")).unwrap();
}
