//! The backups of a set: where they are put, how old they look, and how many stay.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{BACKED_UP, NEW, OLD, PLAIN, lay_out};
use crate::common::{TestDir, names_in};

const LONG_AGO: Duration = Duration::from_secs(1_000_000);

/// Replaces the set by `options`; the old files are old.
fn replaced(options: &[&str]) -> TestDir {
    let dir = TestDir::new();
    lay_out(dir.path(), &PLAIN, &[]);
    for file in PLAIN.files() {
        let old = fs::File::options().write(true).open(dir.join(file)).unwrap();
        old.set_modified(SystemTime::now() - LONG_AGO).unwrap();
    }
    dir.dir("kept");
    dir.awrite(options.iter().chain(PLAIN.args)).quiet_success();
    for file in PLAIN.files() {
        assert_eq!(dir.read(file), NEW);
    }
    dir
}

#[track_caller]
fn assert_recent(path: &Path) {
    let age = SystemTime::now().duration_since(fs::metadata(path).unwrap().modified().unwrap());
    // A clock that was set back is no failure.
    assert!(age.unwrap_or_default() < LONG_AGO / 2, "{}", path.display());
}

#[test]
fn their_directory_can_be_chosen() {
    for more in [&[][..], &["--backup-mode=600"]] {
        let dir = replaced(&[&["--backup-dir=kept"], more].concat());
        for name in ["a", "b", "c"].map(|name| format!("kept/{name}.backup")) {
            assert_eq!(dir.read(&name), OLD);
            assert_recent(&dir.join(&name));
        }
        assert_eq!(names_in(&dir.join("kept")).len(), 3);
        // The next ones replace them.
        dir.sh("for f in src/a src/b src/x/c; do echo 3 >$f; done").quiet_success();
        dir.awrite(["--backup-dir=kept"].iter().chain(PLAIN.args)).quiet_success();
        assert_eq!(["a", "b", "c"].map(|name| dir.read(format!("kept/{name}.backup"))), [NEW; 3]);
        assert_eq!(names_in(&dir.join("kept")).len(), 3);
    }
}

/// A link has the time of the old file.
#[test]
fn their_time_is_that_of_the_backup() {
    for option in ["--backup", "--backup-mode=600"] {
        let dir = replaced(&[option]);
        for file in BACKED_UP.files() {
            assert_recent(&dir.join(format!("{file}.backup")));
        }
    }
}

#[test]
fn the_newest_stay() {
    for options in [&["--backup-keep=2"][..], &["--backup-keep=2", "--backup-dir=kept"]] {
        let dir = replaced(options);
        for number in 2..6 {
            for file in ["a", "b", "x/c"] {
                dir.file(format!("src/{file}"), number.to_string());
            }
            dir.awrite(options.iter().chain(PLAIN.args)).quiet_success();
        }
        let places = if options.len() > 1 { ["kept"; 3] } else { ["d", "d", "d/x"] };
        for (place, name) in places.into_iter().zip(["a", "b", "c"]) {
            let all = names_in(&dir.join(place)).into_iter().map(|found| found.into_string().unwrap());
            let mut held: Vec<String> = all
                .filter(|found| found.starts_with(&format!("{name}.2")))
                .map(|found| dir.read(format!("{place}/{found}")))
                .collect();
            held.sort_unstable();
            assert_eq!(held, ["3", "4"], "{options:?} {name}");
        }
    }
}

/// Without an old file there is nothing to keep, and no backup of an earlier time is taken for one.
#[test]
fn a_new_file_has_none() {
    let dir = TestDir::new();
    lay_out(dir.path(), &PLAIN, &[]);
    fs::remove_file(dir.join("d/b")).unwrap();
    dir.file("d/b.backup", "of another time");
    dir.awrite(["-b"].iter().chain(PLAIN.args)).quiet_success();
    assert_eq!((dir.read("d/a.backup").as_str(), dir.read("d/b").as_str()), (OLD, NEW));
    assert_eq!(dir.read("d/b.backup"), "of another time");
    assert_eq!(names_in(&dir.join("d")).len(), 5);
}
