//! Compares housekeeping with `find -delete`, which checks nothing.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use crate::Amount;
use crate::measure::{Contender, Report, Times};
use crate::places::Place;
use crate::programs::Programs;

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
        let contenders = [
            Contender::new("find -delete", &[&"find", &".", &"-name", &pattern, &"-delete"]),
            Contender::new("awrite-housekeep", &[&awrite, &"housekeep", &"-q", &operation, &option, &value]),
        ];
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
    }
}
