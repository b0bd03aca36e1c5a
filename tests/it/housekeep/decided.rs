//! What decides about a file: how long ago it was changed, how many names it has, where it is, and what was asked for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{DAY, Over, age, assert_deletes, expired_lease, housekeep, listed, set, stamp, wait_for_ctime};
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
    let done = housekeep(&dir, ["--clean-locks"]).run();
    assert!(done.ok().stdout == "./f.lease\n" && done.stderr.starts_with("Deleted 1 expired lease"), "{done:?}");
}

/// What looks like a dated backup is the plain one of a file whose own name ends in a time, also if that is a link.
#[test]
fn the_backup_of_a_link_with_a_time_in_its_name() {
    let dir = TestDir::new();
    for name in ["log", "real", "log.20250102-030405.backup"] {
        age(&dir.file(name, "x"), 10 * DAY);
    }
    let args = ["--all", "--keep-newest=0", "-n"];
    assert_eq!(listed(housekeep(&dir, args).run().ok()), set(&["log.20250102-030405.backup"]));
    symlink("real", dir.join("log.20250102-030405")).unwrap();
    assert!(housekeep(&dir, args).run().ok().stdout.is_empty());
}

/// There are so many that its names are read in parts, and no part tells what it is.
#[test]
fn a_bare_repository_with_very_many_files_is_not_entered() {
    let dir = TestDir::new();
    let bare = dir.dir("bare");
    // tmpfs lists names in the order in which they were made, or in the opposite one.
    for name in ["HEAD", "first.lock", "0"] {
        fs::write(bare.join(name), "").unwrap();
    }
    for number in 1..105_000 {
        let name = bare.join(number.to_string());
        // ext4 has 65,000 links of a file at most.
        match number % 50_000 {
            0 => fs::write(name, "").unwrap(),
            n => fs::hard_link(bare.join((number - n).to_string()), name).unwrap(),
        }
    }
    for name in ["objects", "last.lock", "refs"] {
        fs::write(bare.join(name), "").unwrap();
    }
    wait_for_ctime(&bare.join("last.lock"), Duration::from_millis(20));
    let done = housekeep(&dir, ["--clean-locks", "-rv"]).run();
    assert_eq!((done.ok().stdout.as_str(), done.stderr.lines().count()), ("", 2), "{done:?}");
    fs::remove_file(bare.join("HEAD")).unwrap();
    let locks = set(&["bare/first.lock", "bare/last.lock"]);
    assert_eq!(listed(housekeep(&dir, ["--clean-locks", "-r"]).run().ok()), locks);
}

/// There is a writer, and it has just made the lock file, or another one of that name.
#[test]
fn a_lock_file_that_is_fresh_at_each_look_stays() {
    let dir = TestDir::new();
    let (lock, over) = (dir.join("f.lock"), AtomicBool::new(false));
    let mut stays = false;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let _ = fs::set_permissions(&lock, fs::Permissions::from_mode(0o600));
            }
        });
        let _over = Over(&over);
        // The machine may be too busy to keep it fresh.
        for _ in 0..100 {
            dir.file("f.lock", "");
            let done = housekeep(&dir, ["--clean-locks", "-vv"]).run();
            stays = done.stderr == "./f.lock: kept: in use\nNothing to delete\n" && lock.exists();
            if stays {
                break;
            }
        }
    });
    assert!(stays);
}
