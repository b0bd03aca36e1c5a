//! Beside living writers, lock holders and other housekeepers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{DAY, age, expired_lease, housekeep, listed, stamp, tree};
use crate::common::{AWRITE, Extent, Running, TestDir, extent, lock_is_held, needs_strace, rounds, wait_until};

#[test]
fn two_at_once_delete_everything_once() {
    let dir = TestDir::new();
    for number in 0..rounds(500, 3000) {
        dir.file(format!("{number}.lock"), "");
        age(&dir.file(format!("{number}{}.backup", stamp(10 * DAY)), ""), 10 * DAY);
    }
    let all = tree(dir.path());
    let run = || housekeep(&dir, ["--clean-backups", "--clean-locks", "--older-than", "1h"]).spawn();
    // Locks are too young for the age; they come first, without one.
    let locks = || housekeep(&dir, ["--clean-locks"]).spawn();
    let running = [run(), locks(), run(), locks()];
    let mut gone = BTreeSet::new();
    for done in running.map(Running::finish) {
        let own = listed(done.ok());
        assert!(gone.is_disjoint(&own), "nothing is deleted twice");
        gone.extend(own);
    }
    assert_eq!(gone, all);
    dir.assert_holds(&[]);
}

/// 50 writers and holders of all kinds, and two housekeepers that never stop: no update is lost, no lock is broken, no
/// backup is deleted that is to stay, and nobody fails.
#[test]
fn beside_living_writers_and_lock_holders() {
    const FILES: usize = 10;
    let dir = TestDir::new();
    for file in 0..FILES {
        dir.file(format!("f{file}"), "0\n");
    }
    let done: Vec<AtomicU64> = (0..FILES).map(|_| AtomicU64::new(0)).collect();
    let (stop, locks_deleted) = (AtomicBool::new(false), AtomicU64::new(0));
    let stopped = || stop.load(Ordering::SeqCst);
    let record = File::create(dir.join("record.lock")).unwrap();
    rustix::fs::fcntl_lock(&record, FlockOperation::NonBlockingLockExclusive).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..36 {
            let (dir, done, stopped) = (&dir, &done, &stopped);
            scope.spawn(move || {
                let ways = [&["-b"][..], &["--backup-timestamp"], &["--stream", "-b"], &["-t", "60"]];
                let file = writer % FILES;
                while !stopped() {
                    let name = format!("f{file}");
                    let add = ["--sync", "none", &name, "--", "sh", "-c", "read n; echo $((n + 1))"];
                    let run = dir.awrite(ways[writer % ways.len()].iter().chain(&add)).run();
                    assert_eq!(run.code, Some(0), "{run:?}");
                    done[file].fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // No other writer takes these locks, so only a housekeeper could make them busy.
        for writer in 0..6 {
            let (dir, stopped) = (&dir, &stopped);
            scope.spawn(move || {
                while !stopped() {
                    let run = dir.awrite(["-n", "--sync", "none", &format!("own{writer}")]).stdin("x").run();
                    assert_eq!(run.code, Some(0), "{run:?}");
                }
            });
        }
        // Holders that leave their lock file behind. While they hold it, it must stay.
        for holder in 0..8 {
            let (path, stopped) = (dir.join(format!("held{}.lock", holder % 4)), &stopped);
            scope.spawn(move || {
                while !stopped() {
                    let file = File::options().write(true).create(true).truncate(false).open(&path).unwrap();
                    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
                    let inode = file.metadata().unwrap().ino();
                    let is_same = || fs::metadata(&path).is_ok_and(|now| now.ino() == inode);
                    if is_same() {
                        std::thread::sleep(Duration::from_millis(3));
                        assert!(is_same(), "a lock was taken away from its holder");
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !stopped() {
                    let run = housekeep(&dir, ["--clean-locks", "--clean-temps", "--clean-backups", "-r"]).run();
                    assert_eq!(run.code, Some(0), "{run:?}");
                    let locks = run.stdout.lines().filter(|line| line.ends_with(".lock")).count();
                    locks_deleted.fetch_add(locks as u64, Ordering::SeqCst);
                }
            });
        }
        let end = Instant::now()
            + match extent() {
                Extent::Quick => Duration::from_secs(1),
                Extent::Full => Duration::from_secs(5),
                Extent::Long => Duration::from_secs(30),
            };
        for orphan in 0_u64.. {
            dir.file(format!("orphan{orphan}.lock"), "");
            std::thread::sleep(Duration::from_millis(10));
            if Instant::now() > end {
                break;
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    for (file, done) in done.iter().enumerate() {
        let done = done.load(Ordering::SeqCst);
        assert_eq!(dir.read(format!("f{file}")), format!("{done}\n"), "no update was lost");
        let backups = dir.names().into_iter().filter(|name| {
            let name = name.to_str().unwrap();
            name.starts_with(&format!("f{file}.")) && name.ends_with(".backup")
        });
        assert!(backups.count() >= 1, "f{file} has a backup");
    }
    assert!(dir.join("record.lock").exists());
    assert!(locks_deleted.load(Ordering::SeqCst) > 0, "there was something to delete");
    drop(record);
    housekeep(&dir, ["--clean-locks"]).run().ok();
    assert!(!dir.names().iter().any(|name| name.to_str().unwrap().ends_with(".lock")));
}

/// Also if the housekeeper takes long to remove a file under the lock.
#[test]
fn one_who_does_not_wait_does_not_fail_because_of_a_housekeeper() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for round in 0..3 {
        expired_lease(&dir);
        // awrite waits a second for a housekeeper. This is far less, also on a busy machine.
        let slow = "inject=unlinkat:delay_enter=100000";
        let args = ["-f", "-o", "trace", "-e", "trace=unlinkat", "-e", slow, AWRITE, "housekeep", "--clean-locks"];
        let keeper = dir.program("strace", args).spawn();
        wait_until("it has the lock", || lock_is_held(&dir.join("f.lock")));
        dir.awrite(["-n", "f"]).stdin(round.to_string()).quiet_success();
        keeper.finish().ok();
        assert_eq!(dir.read("f"), round.to_string());
    }
    dir.assert_holds(&["f", "trace"]);
}
