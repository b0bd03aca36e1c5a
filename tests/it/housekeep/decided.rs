//! What decides about a file: how long ago it was changed, how many names it has, where it is, and what was asked for.

use std::fs;
use std::time::{Duration, Instant};

use super::{DAY, age, assert_deletes, expired_lease, housekeep, listed, set, stamp, wait_for_ctime};
use crate::common::{AWRITE, TestDir, needs_strace, temp_name};

/// A file that was changed a moment ago is looked at again later, because its writer may not have locked it yet. One that
/// was not is deleted at once.
#[test]
fn only_what_is_fresh_is_waited_for() {
    let temp = temp_name("f");
    let backups = ["--clean-backups", "--keep-newest=0"];
    for (name, args, moment) in
        [(temp.as_str(), &["--clean-temps"][..], 1000), ("f.backup", &backups, 100), ("f.lock", &["--clean-locks"], 20)]
    {
        let (dir, moment) = (TestDir::new(), Duration::from_millis(moment));
        let made = Instant::now();
        dir.file(name, "");
        assert_eq!(listed(housekeep(&dir, args.iter().copied()).run().ok()), set(&[name]));
        assert!(made.elapsed() >= moment, "{name}");
        if !needs_strace() {
            return;
        }
        let trace = TestDir::new();
        let output = trace.join("trace");
        let words =
            ["-f", "-o", output.to_str().unwrap(), "-e", "trace=clock_nanosleep,nanosleep", AWRITE, "housekeep"];
        wait_for_ctime(&dir.file(name, ""), moment);
        let done = dir.program("strace", words.iter().chain(args)).run();
        assert_eq!(listed(done.ok()), set(&[name]));
        assert!(!fs::read_to_string(output).unwrap().contains("nanosleep("), "{name}");
    }
}

/// By its name or by its modification time, whichever is less.
#[test]
fn the_age_of_a_backup_is_told() {
    for (by_name, modified) in [(5, 10), (10, 5)] {
        let dir = TestDir::new();
        age(&dir.file(format!("f{}.backup", stamp(by_name * DAY)), ""), modified * DAY);
        let done = housekeep(&dir, ["--all", "--keep-newest=0", "--older-than=1d", "--json"]).run();
        let told: serde_json::Value = serde_json::from_str(done.ok().stdout.trim()).unwrap();
        let days = told["age_ms"].as_u64().unwrap() / 1000 / DAY;
        assert_eq!(days, 5, "{done:?}");
    }
}

/// Only what would go otherwise is counted as another program's.
#[test]
fn what_may_be_other_programs_is_counted() {
    let dir = TestDir::new();
    for name in ["old.lock", "two.lock"] {
        age(&dir.file(name, ""), DAY);
    }
    fs::hard_link(dir.join("two.lock"), dir.join("three.lock")).unwrap();
    dir.file("young.lock", "");
    dir.file("young.backup", "");
    let done = housekeep(&dir, ["--all", "--older-than=1h", "--backups-older-than=1d"]).run();
    assert_eq!(
        done.ok().stderr,
        "Nothing to delete; 1 lock file that may be another program's left alone (--clean-locks deletes it)\n"
    );
}

#[test]
fn an_expired_lease_is_no_temporary_file() {
    let dir = TestDir::new();
    expired_lease(&dir);
    assert_deletes(&dir, &["--clean-temps"], &[]);
    assert_deletes(&dir, &["--clean-locks"], &["f.lease"]);
}

/// Its first names tell nothing: there are so many that it is read in parts.
#[test]
fn a_bare_repository_with_very_many_files_is_not_entered() {
    let dir = TestDir::new();
    let bare = dir.dir("bare");
    // tmpfs lists what was made last first.
    for part in ["HEAD", "objects", "refs"] {
        fs::write(bare.join(part), "").unwrap();
    }
    let first = bare.join("0");
    fs::write(&first, "").unwrap();
    for number in 1..100_000 {
        fs::hard_link(&first, bare.join(number.to_string())).unwrap();
    }
    wait_for_ctime(&dir.file("bare/index.lock", ""), Duration::from_millis(20));
    let done = housekeep(&dir, ["--clean-locks", "-rv"]).run();
    assert_eq!((done.ok().stdout.as_str(), done.stderr.lines().count()), ("", 2), "{done:?}");
    fs::remove_file(bare.join("HEAD")).unwrap();
    assert_eq!(listed(housekeep(&dir, ["--clean-locks", "-r"]).run().ok()), set(&["bare/index.lock"]));
}
