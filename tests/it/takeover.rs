//! What SIGKILL leaves: at most one temporary file for a target, since the next writer takes it over. How a living writer's
//! is told from it.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::{AWRITE, TestDir, needs, rounds, temp_name, temp_stem, wait_until};

/// How many files a killed write of a kind may leave beside its target, at most and for good, but for the lock file.
const KINDS: &[(&[&str], usize)] = &[
    (&[], 1),
    (&["--sync=data"], 1),
    (&["--stream"], 1),
    (&["--append"], 1),
    (&["--input=in"], 1),
    (&["--lock-on-commit"], 1),
    (&["--backup"], 2),
    (&["--backup-mode=600"], 2),
    // The record that is to become the lock, and the two names that it has while a lock is broken.
    (&["--lock-method=link"], 3),
    (&["--lock-method=link", "--backup-mode=600"], 4),
];

#[test]
fn kills_in_a_row_leave_one_file() {
    for (options, most) in KINDS {
        // On the disk: what takes time there is the sync, during which the file has its name.
        let dir = TestDir::on_disk();
        dir.file("in", vec![b'z'; 100_000]);
        let started = Instant::now();
        for _ in 0..3 {
            dir.awrite(options.iter().chain(&["f"])).stdin("x").run().ok();
        }
        let usual = started.elapsed() / 3;
        let (mut killed, mut left) = (0, 0);
        let rounds = rounds(40, 200);
        for round in 0..rounds {
            let mut child = Command::new(AWRITE)
                .args(*options)
                .arg("f")
                .current_dir(dir.path())
                .stdin(fs::File::open(dir.join("in")).unwrap())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(usual * round / rounds);
            child.kill().unwrap();
            killed += usize::from(child.wait().unwrap().code().is_none());
            let temporary = dir.names().iter().filter(|name| name.to_str().unwrap().contains("awrite-")).count();
            assert!(temporary <= *most, "{options:?}: {:?}", dir.names());
            left = left.max(temporary);
        }
        assert!(killed > 0, "{options:?}");
        // The next one that is not killed takes over what is there, and gives it its own name.
        dir.awrite(options.iter().chain(&["f"])).stdin("x").run().ok();
        let temporary: Vec<_> =
            dir.names().into_iter().filter(|name| name.to_str().unwrap().contains("awrite-")).collect();
        assert!(temporary.len() < *most, "{options:?}: {temporary:?}");
    }
}

#[test]
fn the_next_writer_takes_over_what_a_dead_one_left() {
    let dir = TestDir::new();
    let long = "n".repeat(250);
    for name in ["f", "f.json", &long] {
        let temp = {
            // What it would be called, whatever has to be cut.
            let stem = format!("{}.", temp_stem(name));
            format!("{stem}{}", &name[name.len().saturating_sub(255 - stem.len())..])
        };
        for mode in [0o600, 0o444, 0o000] {
            dir.file_with_mode(&temp, "left by a dead writer", mode);
            dir.awrite([name]).stdin("new").quiet_success();
            dir.assert_holds(&[name]);
        }
        fs::remove_file(dir.join(name)).unwrap();
    }
}

/// Whoever wants to see a living writer's file has to look while a check runs: there it has its name.
#[test]
fn a_living_writer_s_file_stays() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let check = "echo > running; while [ -e running ]; do sleep 0.01; done";
    let first = dir.awrite(["--validate", check, "f"]).stdin("first").spawn();
    wait_until("the check runs", || dir.join("running").exists());
    let name = temp_name("f");
    assert!(dir.join(&name).exists(), "{:?}", dir.names());
    // Another lock, so that it does not wait.
    dir.awrite(["--lock-file=other.lock", "f"]).stdin("second").quiet_success();
    assert!(dir.join(&name).exists());
    // Long enough for a housekeeper to look at it twice.
    dir.awrite(["housekeep", "--clean-temps", "--older-than=0"]).run().ok();
    assert!(dir.join(&name).exists());
    fs::remove_file(dir.join("running")).unwrap();
    first.finish().ok();
    assert_eq!(dir.read("f"), "first");
    dir.assert_holds(&["f"]);
}

#[test]
fn a_stranger_s_file_stays() {
    let dir = TestDir::new();
    let name = temp_name("f");
    dir.dir(&name);
    dir.awrite(["f"]).stdin("new").quiet_success();
    dir.assert_holds(&[&name, "f"]);
    fs::remove_dir(dir.join(&name)).unwrap();
    std::os::unix::fs::symlink("f", dir.join(&name)).unwrap();
    dir.awrite(["f"]).stdin("newer").quiet_success();
    dir.assert_holds(&[&name, "f"]);
    fs::remove_file(dir.join(&name)).unwrap();
    // Somebody has it open.
    let open = fs::File::create(dir.join(&name)).unwrap();
    dir.awrite(["f"]).stdin("newest").quiet_success();
    dir.assert_holds(&[&name, "f"]);
    drop(open);
    dir.awrite(["f"]).stdin("last").quiet_success();
    dir.assert_holds(&["f"]);
}

#[test]
fn a_check_may_lock_the_new_file() {
    let dir = TestDir::new();
    if !needs("flock") || !needs("python3") {
        return;
    }
    let whole = "import fcntl, os; fcntl.lockf(open(os.environ['AWRITE_NEW'], 'r+'), fcntl.LOCK_EX)";
    for check in ["flock \"$AWRITE_NEW\" true".to_owned(), format!("python3 -c \"{whole}\"")] {
        dir.awrite(["--validate", &check, "f"]).stdin("new").quiet_success();
        dir.awrite(["--validate", &check, "f"]).stdin("new").quiet_success();
    }
    dir.assert_holds(&["f"]);
}
