//! The lock file: where it is, how long it stays, whose it is, and what may not be in its place.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::common::{Held, NOBODY, TestDir, assert_no_debris, chmod, lock_is_held, needs_root, wait_until};

// ---------------------------------------------------------------------------------------------------------------------
// Which file, and how long it stays

#[test]
fn keep_lock_leaves_the_file() {
    let dir = TestDir::new();
    let lock = dir.join("f.lock");
    dir.awrite(["--keep-lock", "f"]).stdin("1").quiet_success();
    dir.assert_holds(&["f", "f.lock"]);
    let inode = fs::metadata(&lock).unwrap().ino();
    dir.awrite(["f"]).env("AWRITE_KEEP_LOCK", "1").stdin("2").quiet_success();
    assert_eq!(fs::metadata(&lock).unwrap().ino(), inode);
    assert_eq!(fs::metadata(&lock).unwrap().len(), 0);
    // Also when it fails, and when somebody waited.
    dir.awrite(["--keep-lock", "f"]).run().assert_code(1);
    let held = Held::new(&lock);
    let mut writer = dir.awrite(["--keep-lock", "f"]).stdin("3").spawn();
    writer.wait_for_waiting();
    held.release();
    writer.finish().ok();
    assert_eq!(fs::metadata(&lock).unwrap().ino(), inode);
    dir.awrite(["f"]).stdin("4").quiet_success();
    dir.assert_holds(&["f"]);
}

#[test]
fn keep_lock_works_beside_plain_flock() {
    if !crate::common::needs("flock") {
        return;
    }
    let dir = TestDir::new();
    dir.file("n", "0\n");
    let script = "
        for i in 1 2 3 4 5; do
            (for j in 1 2 3 4 5 6 7 8 9 10; do
                \"$BIN\" --keep-lock -q n -- sh -c 'read n; echo $((n + 1))' || exit 1
            done) &
            (for j in 1 2 3 4 5 6 7 8 9 10; do
                flock n.lock sh -c 'read n < n; echo $((n + 1)) > n.other; mv n.other n' || exit 1
            done) &
        done
        wait";
    dir.sh(script).quiet_success();
    assert_eq!(dir.read("n"), "100\n");
    dir.assert_holds(&["n", "n.lock"]);
}

#[test]
fn lock_file_names_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let mut writer = dir.awrite(["--lock-file", "my lock", "f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("my lock")));
    dir.assert_holds(&["f", "my lock"]);
    let done = dir.awrite(["-n", "--lock-file", "./my lock", "other"]).stdin("x").run();
    done.assert_error(2, "Error: other: File locked by another process");
    // A writer with another lock file is not kept out: all writers must agree on the lock file.
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    writer.feed(b"new");
    writer.finish().ok();
    dir.assert_holds(&["f"]);

    let done = dir.awrite(["--lock-file", "no/such/lock", "f"]).stdin("x").run();
    done.assert_error_with(1, &["no/such/lock", "no such file or directory"]);
    dir.assert_holds(&["f"]);
}

/// Two files may share a lock file, but no file may be its own.
#[test]
fn the_target_cannot_be_its_own_lock_file() {
    let dir = TestDir::new();
    dir.file("f", "");
    let before = dir.snapshot("f");
    dir.awrite(["--lock-file", "f", "f"]).stdin("x").run().assert_error_with(1, &["f: "]);
    assert_eq!(dir.snapshot("f"), before);
    dir.awrite(["--lock-file", "new", "new"]).stdin("x").run().assert_error_with(1, &["new: "]);
    // Under another name.
    fs::hard_link(dir.join("f"), dir.join("g.lock")).unwrap();
    let done = dir.awrite(["--lock-file", "g.lock", "f"]).stdin("x").run();
    done.assert_error(1, "Error: g.lock: the lock file must be another file than the one it protects");
    dir.assert_holds(&["f", "g.lock"]);
}

#[test]
fn a_lock_dir_that_is_missing_is_named() {
    let dir = TestDir::new();
    let done = dir.awrite(["--lock-dir", "locks", "f"]).stdin("x").run();
    done.assert_error(1, "Error: locks: No such file or directory").assert_hint("does not exist; create it");
    dir.file("locks", "");
    let done = dir.awrite(["--lock-dir", "locks", "f"]).stdin("x").run();
    assert!(!done.stderr.contains("create it"), "{done:?}");
}

/// Below a command whose output becomes `f`, another file may be written under the same lock, but not `f`.
#[test]
fn one_lock_file_for_two_targets() {
    let dir = TestDir::new();
    let script = "echo inner | \"$BIN\" -n --lock-file L g && echo outer";
    dir.awrite(["--lock-file", "L", "f", "--", "sh", "-c", script]).run().ok();
    assert_eq!((dir.read("f").as_str(), dir.read("g").as_str()), ("outer\n", "inner\n"));
    let script = "echo inner | \"$BIN\" -n --lock-file L f && echo outer";
    let done = dir.awrite(["--lock-file", "L", "f", "--", "sh", "-c", script]).run();
    done.assert_code(1);
    assert!(done.stderr.contains("Error: f: This runs below a command whose output"), "{done:?}");
    assert_eq!(dir.read("f"), "outer\n");
    dir.assert_holds(&["f", "g"]);
}

#[test]
fn lock_dir_collects_the_locks() {
    let dir = TestDir::new();
    let locks = dir.dir("locks");
    let target = fs::canonicalize(dir.path()).unwrap().join("f");
    let encoded = target.to_str().unwrap().replace('/', "%");
    for use_environment in [false, true] {
        let run = if use_environment {
            dir.awrite(["f"]).env("AWRITE_LOCK_DIR", &locks)
        } else {
            dir.awrite(["--lock-dir", "locks", "f"])
        };
        let mut writer = run.stdin_open().spawn();
        wait_until("there is a lock", || fs::read_dir(&locks).unwrap().count() > 0);
        let name = fs::read_dir(&locks).unwrap().next().unwrap().unwrap().file_name();
        wait_until("the lock is held", || lock_is_held(&locks.join(&name)));
        assert_eq!(name.to_str().unwrap(), format!("{encoded}.lock"));
        assert!(!dir.join("f.lock").exists());
        symlink("f", dir.join("link")).unwrap();
        for other in ["f", "./f", "link"] {
            dir.awrite(["-n", "--lock-dir", "locks", other]).stdin("x").run().assert_code(2);
        }
        fs::remove_file(dir.join("link")).unwrap();
        writer.feed(b"new");
        writer.finish().ok();
        assert_no_debris(&locks, &[]);
        dir.assert_holds(&["f", "locks"]);
    }
    // The option overrides the environment.
    dir.awrite(["--lock-dir", "locks", "f"]).env("AWRITE_LOCK_DIR", "/no/such").stdin("x").quiet_success();
    let done = dir.awrite(["--lock-dir", "no/such", "f"]).stdin("x").run();
    done.assert_error_with(1, &["no/such", "no such file or directory"]);
    dir.assert_holds(&["f", "locks"]);
}

/// `%` stands for `/`, so a `%` of the path is written otherwise.
#[test]
fn lock_dir_tells_all_paths_apart() {
    let dir = TestDir::new();
    let (locks, here) = (dir.dir("locks"), fs::canonicalize(dir.path()).unwrap());
    fs::create_dir_all(dir.join("a/%")).unwrap();
    fs::create_dir_all(dir.join("a%")).unwrap();
    let paths = ["a/b", "a%b", "a\\%b", "a/%b", "a%/b", "a/%/b", "a%%b"];
    let mut writers = Vec::new();
    for path in paths {
        let lease = ["lock", "-n", "--lock-dir", "locks", "--acquire", "--owner", path, "--ttl", "60", path];
        dir.awrite(lease).run().ok();
        let writer = ["-n", "--lock-dir", "locks", "--owner", path, path];
        writers.push(dir.awrite(writer).stdin_open().spawn());
        wait_until("its lock is held", || {
            let all = fs::read_dir(&locks).unwrap().map(|entry| entry.unwrap().path());
            all.filter(|file| lock_is_held(file)).count() == writers.len()
        });
    }
    let beginning = here.to_str().unwrap().replace('/', "%");
    for name in [r"a%b", r"a\%b", r"a\\\%b", r"a%\%b"] {
        assert!(locks.join(format!("{beginning}%{name}.lock")).exists(), "{name}");
    }
    drop(writers);
}

#[test]
fn a_path_too_long_for_a_lock_name_is_hashed() {
    let dir = TestDir::new();
    let locks = dir.dir("locks");
    let deep = ["d".repeat(200), "e".repeat(200), "f".repeat(200)].join("/");
    fs::create_dir_all(dir.join(&deep)).unwrap();
    let name = |last: &str| format!("{deep}/{last}");
    let mut writer = dir.awrite(["--lock-dir", "locks", &name("one")]).stdin_open().spawn();
    wait_until("there is a lock", || fs::read_dir(&locks).unwrap().count() > 0);
    wait_until("it is held", || fs::read_dir(&locks).unwrap().all(|entry| lock_is_held(&entry.unwrap().path())));
    dir.awrite(["-n", "--lock-dir", "locks", &name("one")]).stdin("x").run().assert_code(2);
    dir.awrite(["-n", "--lock-dir", "locks", &name("two")]).stdin("x").quiet_success();
    writer.feed(b"x");
    writer.finish().ok();
    assert_no_debris(&locks, &[]);
}

/// A file in a read-only directory can be locked elsewhere, but not replaced.
#[test]
fn lock_dir_serves_where_the_directory_refuses() {
    let dir = TestDir::new();
    let locks = dir.dir("locks");
    chmod(&locks, 0o777);
    let sub = dir.dir("sub");
    dir.file_with_mode("sub/f", "old", 0o666);
    chmod(&sub, 0o555);
    let done = dir.awrite_unprivileged(["--lock-dir", "locks", "sub/f"]).stdin("x").run();
    done.assert_error_with(1, &["sub/f: ", "Permission denied"]);
    chmod(&sub, 0o755);
    assert_eq!(dir.read("sub/f"), "old");
    assert_no_debris(&locks, &[]);
    assert_no_debris(&sub, &["f"]);
}

#[test]
fn the_lock_files_mode_lets_all_lock_who_may_write() {
    let dir = TestDir::new();
    let lock = dir.join("f.lock");
    for umask in ["000", "077"] {
        for (target, expected) in
            [(0o644, 0o600), (0o600, 0o600), (0o664, 0o660), (0o666, 0o666), (0o646, 0o606), (0o620, 0o660)]
        {
            dir.file_with_mode("f", "old", target);
            let writer = dir.sh(&format!("umask {umask}; exec \"$BIN\" --allow-empty f")).stdin_open().spawn();
            wait_until("the lock is held", || lock_is_held(&lock));
            assert_eq!(dir.mode("f.lock"), expected, "target {target:o} umask {umask}");
            writer.finish().ok();
        }
        for (text, mode) in [("644", 0o644), ("0660", 0o660), ("600", 0o600), ("400", 0o400)] {
            let script = format!("umask {umask}; exec \"$BIN\" --allow-empty --lock-mode {text} f");
            let writer = dir.sh(&script).stdin_open().spawn();
            wait_until("the lock is held", || lock_is_held(&lock));
            assert_eq!(dir.mode("f.lock"), mode, "umask {umask}");
            writer.finish().ok();
        }
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn root_gives_the_lock_file_the_targets_owner() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    let writer = dir.awrite(["--allow-empty", "f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    // The owner must be able to wait for root's write.
    wait_until("it has been given away", || fs::metadata(dir.join("f.lock")).is_ok_and(|m| m.uid() == NOBODY));
    assert_eq!(fs::metadata(dir.join("f.lock")).unwrap().gid(), NOBODY);
    dir.open_to_all();
    dir.awrite_unprivileged(["-n", "f"]).stdin("x").run().assert_code(2);
    writer.finish().ok();
}

// ---------------------------------------------------------------------------------------------------------------------
// What may not be a lock file

#[test]
fn a_symbolic_link_for_a_lock_file_is_refused() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    let victim = dir.file("victim", "victim");
    let before = dir.snapshot("victim");
    for leads_to in [Path::new("victim"), Path::new("nowhere"), Path::new("/dev/null"), &victim] {
        symlink(leads_to, dir.join("config.json.lock")).unwrap();
        for option in ["--quiet", "--keep-lock", "--no-wait", "--timeout=1", "--lock-on-commit"] {
            let done = dir.awrite([option, "config.json"]).stdin("new").run();
            done.assert_error(1, "Error: config.json.lock: Lock file is a symbolic link");
        }
        assert_eq!(fs::read_link(dir.join("config.json.lock")).unwrap(), leads_to);
        fs::remove_file(dir.join("config.json.lock")).unwrap();
    }
    symlink("victim", dir.join("mylock")).unwrap();
    let done = dir.awrite(["--lock-file", "mylock", "config.json"]).stdin("new").run();
    done.assert_error(1, "Error: mylock: Lock file is a symbolic link");
    assert_eq!(dir.snapshot("victim"), before);
    assert_eq!(dir.read("config.json"), "old");
    dir.assert_holds(&["config.json", "victim", "mylock"]);
}

#[test]
fn what_is_no_regular_file_is_refused_as_a_lock_file() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let lock = dir.join("f.lock");
    let mut listener = None;
    for kind in ["directory", "fifo", "socket"] {
        match kind {
            "directory" => fs::create_dir(&lock).unwrap(),
            "fifo" => drop(dir.sh("mkfifo f.lock").quiet_success()),
            _ => listener = Some(UnixListener::bind(&lock).unwrap()),
        }
        for option in ["--quiet", "--no-wait"] {
            let done = dir.awrite([option, "f"]).stdin("new").run();
            done.assert_error_with(1, &["Error: f.lock: ", kind]);
        }
        let file_type = fs::symlink_metadata(&lock).unwrap().file_type();
        assert!(file_type.is_dir() || file_type.is_fifo() || file_type.is_socket(), "left alone");
        if kind == "directory" { fs::remove_dir(&lock).unwrap() } else { fs::remove_file(&lock).unwrap() }
    }
    drop(listener);
    let done = dir.awrite(["--lock-file", "/dev/null", "f"]).stdin("new").run();
    done.assert_error_with(1, &["Error: /dev/null: ", "device"]);
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f"]);
}

/// `Cargo.lock`, `yarn.lock`: a file with content is nobody's lock file and must never be emptied or removed.
#[test]
fn a_lock_file_with_content_is_left_alone() {
    let dir = TestDir::new();
    dir.file("Cargo.lock", "version = 4\n");
    let before = dir.snapshot("Cargo.lock");
    for option in ["--no-wait", "--timeout=100ms", "--keep-lock"] {
        let done = dir.awrite([option, "Cargo"]).stdin("x").run();
        assert!(matches!(done.code, Some(1 | 2)), "{done:?}");
        assert!(done.error_line().contains("Cargo"), "{done:?}");
    }
    assert_eq!(dir.snapshot("Cargo.lock"), before);
    dir.assert_holds(&["Cargo.lock"]);
}

#[test]
fn another_users_lock_file_can_be_locked_when_it_can_be_read() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o666);
    dir.file_with_mode("f.lock", "", 0o444);
    let held = Held::new(&dir.join("f.lock"));
    dir.awrite_unprivileged(["-n", "f"]).stdin("x").run().assert_error(2, "Error: f: File locked by another process");
    held.release();
    dir.awrite_unprivileged(["-n", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);

    dir.file_with_mode("f.lock", "", 0o600);
    let done = dir.awrite_unprivileged(["-n", "f"]).stdin("x").run();
    done.assert_error(1, "Error: f.lock: Permission denied")
        .assert_hint("Run with sudo or check directory permissions");
    let done = dir.awrite_unprivileged(["lock", "-n", "f", "--", "true"]).run();
    done.assert_error(1, "Error: f.lock: Permission denied").assert_hint("Run with sudo");
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f", "f.lock"]);
}

/// In a directory like `/tmp`, another's lock file can be locked but not removed.
#[test]
fn a_lock_file_that_cannot_be_removed_is_a_warning() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    chmod(dir.path(), 0o1777);
    let path = dir.file_with_mode("f", "old", 0o666);
    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    dir.file_with_mode("f.lock", "", 0o666);
    let done = dir.awrite_unprivileged(["f"]).stdin("new").run();
    done.ok();
    assert!(done.stderr.starts_with("Warning: f.lock: "), "{done:?}");
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f", "f.lock"]);
}
