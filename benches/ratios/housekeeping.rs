//! Compares housekeeping with `find -delete`, which checks nothing, and with itself where there are more files.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Amount;
use crate::measure::{Contender, Report, Times};
use crate::places::Place;
use crate::programs::{Programs, find};

const FLOOR: &str = "floor (C, static)";
/// In how many directories files are spread.
const DIRECTORIES: usize = 1000;

pub(crate) fn beside_find(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let awrite = programs.awrite();
    let own = ["--all", "--older-than", "0"];
    let locks = ["--clean-locks", "--older-than", "0"];
    let backups = ["--clean-backups", "--keep-newest", "0"];
    for (what, suffix, options, count, seconds) in [
        ("own locks", ".lock", own, amount.locks, 1.0),
        ("locks", ".lock", locks, amount.locks, 1.0),
        ("backups", ".backup", backups, amount.backups, 5.0),
        ("dated backups", ".20260102-030405.backup", backups, amount.backups, 5.0),
    ] {
        let [operation, option, value] = options;
        let pattern = format!("*{suffix}");
        let mut contenders = vec![
            Contender::new("find -delete", &[&"find", &".", &"-name", &pattern, &"-delete"]),
            Contender::new("awrite-housekeep", &[&awrite, &"housekeep", &"-q", &operation, &option, &value]),
        ];
        if let Some(floor) = programs.floor.as_ref().filter(|_| suffix == ".lock") {
            contenders.push(Contender::new(FLOOR, &[floor, &"-l"]));
        }
        let dir = place.dir.join("housekeep");
        let times = Times::of(amount.large_rounds.min(3), &contenders, |_, contender| {
            fs::create_dir(&dir).unwrap();
            for number in 0..count {
                File::create(dir.join(format!("file-{number}{suffix}"))).unwrap();
                if options == own {
                    File::create(dir.join(format!("file-{number}"))).unwrap();
                }
            }
            // awrite-housekeep looks again, a little later, at backups and locks that somebody may be making now.
            std::thread::sleep(Duration::from_millis(200));
            let started = Instant::now();
            contender.run_in(&dir);
            let took = started.elapsed();
            if options == own {
                (0..count).for_each(|number| fs::remove_file(dir.join(format!("file-{number}"))).unwrap());
            }
            // Fails if anything is left.
            fs::remove_dir(&dir).unwrap();
            took
        });
        let (work, on) = (format!("housekeeping, {count} {what}"), place.name);
        times.print(place, &work, &[]);
        let took = times.median("awrite-housekeep").map(|took| took.as_secs_f64());
        report.goal(format!("{work}, {on}: time"), took, seconds, "s");
        let ratio = times.ratio("awrite-housekeep", "find -delete");
        report.goal(format!("{work}, {on}: beside `find -delete`"), ratio, 1.5, "x");
        if suffix == ".lock" {
            let ratio = times.ratio("awrite-housekeep", FLOOR);
            report.goal(format!("{work}, {on}: beside the floor, which makes the same calls"), ratio, 1.2, "x");
        }
    }
}

/// Time and memory, where there are more and more files, in one directory and in many.
pub(crate) fn growth(place: &Place, programs: &Programs, amount: &Amount, report: &mut Report) {
    let Some(time) = find("time") else { return };
    let awrite = programs.awrite();
    println!();
    for (what, name, options) in [
        ("own locks", lock_name as fn(usize) -> String, ["--all", "--older-than", "0"]),
        ("dated backups", backup_name, ["--clean-backups", "--keep-newest", "0"]),
        ("dated backups, all kept", backup_name, ["--clean-backups", "--older-than", "9999d"]),
    ] {
        for (where_, directories) in [("one directory", 1), ("1,000 directories", DIRECTORIES)] {
            let mut measured = Vec::new();
            for &count in amount.growth {
                let dir = place.dir.join("growth");
                make(&dir, directories, count, name);
                let mut command = Command::new(&time);
                command.args(["-f", "%U %S %M"]).arg(awrite).args(["housekeep", "-q", "-r"]).args(options);
                let output = command.current_dir(&dir).stdin(Stdio::null()).output().unwrap();
                fs::remove_dir_all(&dir).unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
                let [user, system, peak] = numbers[..] else { panic!("{said}") };
                let each = (user + system) * 1e6 / count as f64;
                println!("{:<6} {count:>8} {what} in {where_}: {each:.2} µs each, {peak} KiB", place.name);
                measured.push((each, user + system, peak));
            }
            let ((before, seconds, _), (last, _, peak)) = (measured[measured.len() - 2], measured[measured.len() - 1]);
            // The time is counted in hundredths of a second.
            let ratio = (seconds > 0.04).then(|| last / before);
            let most = amount.growth[amount.growth.len() - 1];
            let work = format!("housekeeping, {most} {what} in {where_}");
            report.goal(format!("{work}: time for each, beside a tenth of them"), ratio, 1.5, "x");
            report.goal(format!("{work}: peak memory"), Some(peak), 40.0 * 1024.0, "KiB");
        }
    }
}

fn lock_name(number: usize) -> String {
    if number % 2 == 0 { format!("file-{}", number / 2) } else { format!("file-{}.lock", number / 2) }
}

/// A hundred of each file.
fn backup_name(number: usize) -> String {
    format!("file-{}.20260102-030405-{}.backup", number / 100, number % 100 + 1)
}

fn make(dir: &Path, directories: usize, count: usize, name: fn(usize) -> String) {
    for number in 0..directories {
        let below = dir.join(number.to_string());
        fs::create_dir_all(&below).unwrap();
        (0..count / directories).for_each(|number| drop(File::create(below.join(name(number))).unwrap()));
    }
    std::thread::sleep(Duration::from_millis(200));
}
