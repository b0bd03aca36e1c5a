//! The lock: who waits, how long, what is said meanwhile, and what is left in the directory (nothing).

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{
    AWRITE, Held, NOBODY, Run, Running, TestDir, assert_no_debris, chmod, lock_is_held, needs_root, needs_strace,
    rounds, somebody_waits_for, wait_until,
};

/// A writer that has the lock of `name` and reads its input, which this test has not given yet.
fn holder_of(dir: &TestDir, name: &str) -> Running {
    let holder = dir.awrite([name]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join(format!("{name}.lock"))));
    holder
}

#[test]
fn the_lock_is_held_from_before_the_input_to_the_end() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for option in ["--quiet", "--stream", "--append"] {
        let mut writer = dir.sh(&format!("umask 0; exec \"$BIN\" {option} f")).stdin_open().spawn();
        let lock = dir.join("f.lock");
        wait_until("the lock is held", || lock_is_held(&lock));
        let meta = fs::symlink_metadata(&lock).unwrap();
        assert!(meta.is_file());
        assert_eq!((meta.len(), meta.mode() & 0o7777, meta.nlink()), (0, 0o600, 1));
        writer.feed(b"new");
        writer.finish().ok();
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn an_uncontended_lock_is_not_spoken_of() {
    let dir = TestDir::new();
    for args in [["--wait", "f"], ["--no-wait", "f"], ["--timeout=5", "f"]] {
        dir.awrite(args).stdin("x").quiet_success();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Waiting

#[test]
fn by_default_it_waits_and_says_so_once() {
    let dir = TestDir::new();
    for args in [&["config.json"][..], &["--wait", "config.json"]] {
        dir.file("config.json", "old");
        let held = Held::new(&dir.join("config.json.lock"));
        let mut writer = dir.awrite(args).stdin("new").spawn();
        writer.wait_for_waiting();
        wait_until("it waits in the kernel", || somebody_waits_for(held.inode()));
        assert_eq!(dir.read("config.json"), "old");
        held.release();
        let done = writer.finish();
        done.ok();
        assert_eq!(done.stderr, "Waiting for lock on config.json...\nLock acquired\n");
        assert_eq!(dir.read("config.json"), "new");
        // A file that somebody else made and left is no longer needed either.
        dir.assert_holds(&["config.json"]);
    }
}

#[test]
fn quiet_waiting_says_nothing() {
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    let writer = dir.awrite(["-q", "f"]).stdin("new").spawn();
    wait_until("it waits", || somebody_waits_for(held.inode()));
    held.release();
    let done = writer.finish();
    assert_eq!(done.ok().stderr, "");
}

#[test]
fn a_timeout_that_is_not_reached_is_a_wait() {
    let dir = TestDir::new();
    for (given, shown) in [("50", "50s"), ("2m", "2m"), ("90000ms", "")] {
        let held = Held::new(&dir.join("f.lock"));
        let mut writer = dir.awrite(["--timeout", given, "f"]).stdin("new").spawn();
        writer.wait_for_waiting();
        held.release();
        let done = writer.finish();
        done.ok();
        if !shown.is_empty() {
            assert_eq!(done.stderr, format!("Waiting for lock on f ({shown} timeout)...\nLock acquired\n"));
        }
        assert_eq!(dir.read("f"), "new");
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn a_timeout_that_is_reached_is_status_2() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    let before = dir.snapshot("config.json");
    let held = Held::new(&dir.join("config.json.lock"));
    let wait = |(args, shown, least): ([&'static str; 2], &'static str, u64)| {
        let start = Instant::now();
        (start, shown, least, dir.awrite(args.into_iter().chain(["config.json"])).stdin("new").spawn())
    };
    // The shortest first: they wait side by side, and each is looked at when it ends.
    let all = [
        (["--timeout", "150ms"], "150ms", 150),
        (["-w", "0.2"], "", 200),
        (["-t", "1"], "1s", 1000),
        (["--timeout", "1.5"], "1.5s", 1500),
    ]
    .map(wait);
    for (start, shown, least, waiting) in all {
        let done = waiting.finish();
        assert!(start.elapsed() >= Duration::from_millis(least), "{:?}", start.elapsed());
        done.assert_error_with(2, &["Error: config.json: Lock acquisition timeout after "]);
        if !shown.is_empty() {
            done.assert_error(2, &format!("Error: config.json: Lock acquisition timeout after {shown}"));
            assert_eq!(done.lines()[0], format!("Waiting for lock on config.json ({shown} timeout)..."));
        }
        done.assert_hint(&format!("held by PID {} (", std::process::id()));
        assert!(!done.stderr.contains("Lock acquired"));
    }
    assert_eq!(dir.snapshot("config.json"), before);
    assert!(lock_is_held(&dir.join("config.json.lock")), "the lock file of another stays");
    held.release();
    dir.assert_holds(&["config.json", "config.json.lock"]);
}

#[test]
fn no_wait_fails_at_once_with_status_2() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    let before = dir.snapshot("config.json");
    let _held = Held::new(&dir.join("config.json.lock"));
    for args in [&["-n"][..], &["--no-wait"], &["--timeout", "0"], &["-t", "0ms"], &["-n", "-t", "0"], &["-nq"]] {
        let start = Instant::now();
        let done = dir.awrite(args.iter().chain(&["config.json"])).stdin("new").run();
        // Not a measurement: only that it is no wait.
        assert!(start.elapsed() < Duration::from_secs(10));
        done.assert_error(2, "Error: config.json: File locked by another process");
        done.assert_hint(&format!("held by PID {} (", std::process::id()));
        assert!(!done.stderr.contains("Waiting"));
    }
    assert_eq!(dir.snapshot("config.json"), before);
}

#[test]
fn the_holder_is_named_with_its_command() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let holder = dir.awrite(["f", "--", "sleep", "600"]).spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    let done = dir.awrite(["-n", "f"]).stdin("x").run();
    done.assert_error(2, "Error: f: File locked by another process");
    let hint = done.lines()[1];
    assert!(hint.starts_with(&format!("Hint: held by PID {} (", holder.id())), "{hint}");
    assert!(hint.ends_with("awrite f -- sleep 600)"), "{hint}");
}

/// What another process calls itself must not write to the reader's terminal.
#[test]
fn the_holders_command_is_shown_without_control_characters() {
    let dir = TestDir::new();
    let _holder = dir.awrite(["f", "--", "sh", "-c", "sleep 600 # \x1b[31m\nHint: forged"]).spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    let done = dir.awrite(["-n", "f"]).stdin("x").run();
    done.assert_code(2).assert_hint("held by PID");
    assert!(!done.stderr.contains('\x1b'), "{done:?}");
    assert_eq!(done.lines().len(), 2, "{done:?}");
}

#[test]
fn a_time_out_in_an_empty_wait_leaves_no_file_behind() {
    let dir = TestDir::new();
    let holder = holder_of(&dir, "f");
    dir.awrite(["-t", "50ms", "f"]).stdin("x").run().assert_code(2);
    drop(holder);
    // The holder was killed: its file stays until the next one comes.
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    dir.assert_holds(&["f"]);
}

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
    // Another lock is no obstacle: that is what all of them must agree upon.
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    writer.feed(b"new");
    writer.finish().ok();
    dir.assert_holds(&["f"]);

    let done = dir.awrite(["--lock-file", "no/such/lock", "f"]).stdin("x").run();
    done.assert_error_with(1, &["no/such/lock", "no such file or directory"]);
    dir.assert_holds(&["f"]);
}

/// Two files may share a lock, but none may be its own.
#[test]
fn the_target_cannot_be_its_own_lock_file() {
    let dir = TestDir::new();
    dir.file("f", "");
    let before = dir.snapshot("f");
    dir.awrite(["--lock-file", "f", "f"]).stdin("x").run().assert_error_with(1, &["f: "]);
    assert_eq!(dir.snapshot("f"), before);
    dir.awrite(["--lock-file", "new", "new"]).stdin("x").run().assert_error_with(1, &["new: "]);
    dir.assert_holds(&["f"]);
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
    // The option goes before the environment.
    dir.awrite(["--lock-dir", "locks", "f"]).env("AWRITE_LOCK_DIR", "/no/such").stdin("x").quiet_success();
    let done = dir.awrite(["--lock-dir", "no/such", "f"]).stdin("x").run();
    done.assert_error_with(1, &["no/such", "no such file or directory"]);
    dir.assert_holds(&["f", "locks"]);
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

/// A read-only directory's file can still be locked elsewhere; it cannot be replaced, of course.
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
// What stands where the lock file belongs

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

// ---------------------------------------------------------------------------------------------------------------------
// When the lock is taken

#[test]
fn lock_on_commit_reads_its_input_without_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for option in ["--quiet", "--stream"] {
        let mut slow = dir.awrite(["--lock-on-commit", option, "f"]).stdin_open().spawn();
        slow.feed(&vec![b's'; 1 << 20]);
        // It is past its start, and yet others may write.
        dir.awrite(["--no-wait", "f"]).stdin("quick").quiet_success();
        assert_eq!(dir.read("f"), "quick");
        slow.finish().ok();
        assert_eq!(dir.read("f").len(), 1 << 20);
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn lock_on_commit_still_waits_for_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let held = Held::new(&dir.join("f.lock"));
    let done = dir.awrite(["--lock-on-commit", "--no-wait", "f"]).stdin("x").run();
    done.assert_error(2, "Error: f: File locked by another process");
    assert_eq!(dir.read("f"), "old");
    let mut writer = dir.awrite(["--lock-on-commit", "f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    chmod(&dir.join("f"), 0o600);
    held.release();
    writer.finish().ok();
    assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new", 0o600));
    dir.assert_holds(&["f"]);
}

#[test]
fn lock_on_commit_appends_to_what_it_finds_under_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "1");
    for option in ["--quiet", "--stream"] {
        let mut slow = dir.awrite(["--lock-on-commit", "-a", option, "f"]).stdin_open().spawn();
        slow.feed(&vec![b'x'; 1 << 20]);
        dir.awrite(["-n", "-a", "f"]).stdin("2").quiet_success();
        slow.finish().ok();
        let content = dir.read("f");
        assert!(content.starts_with("12xxx"), "{option}: {}", &content[..8]);
        assert_eq!(content.len(), 2 + (1 << 20));
        dir.file("f", "1");
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn a_write_never_shares_the_lock() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let mut options = awrite::WriteOptions::default();
    (options.lock.shared, options.lock.wait) = (true, awrite::Wait::No);
    let reader = awrite::FileLock::acquire(&path, &options.lock).unwrap();
    let refused = awrite::write(&path, "new".as_bytes(), &options);
    assert_eq!(refused.unwrap_err().kind(), awrite::ErrorKind::LockBusy);
    reader.release().unwrap();
    awrite::write(&path, "new".as_bytes(), &options).unwrap();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Holders that die, files that are exchanged, many at once

#[test]
fn a_killed_holder_frees_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for option in ["--quiet", "--stream"] {
        let mut holder = dir.awrite([option, "f"]).stdin_open().spawn();
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        holder.feed(&vec![b'x'; 1 << 20]);
        holder.signal(Signal::KILL);
        assert_eq!(holder.finish().signal, Some(9));
        assert_eq!(dir.read("f"), "old");
        dir.assert_holds(&["f", "f.lock"]);
        assert_eq!(fs::metadata(dir.join("f.lock")).unwrap().len(), 0);
        dir.awrite(["--no-wait", "f"]).stdin("old").quiet_success();
        dir.assert_holds(&["f"]);
    }
}

/// Free once it is gone, not a while later: nobody waits here.
#[test]
fn a_thousand_killed_holders_leave_it_free() {
    let dir = TestDir::new();
    for round in 0..rounds(40, 1000) {
        let holder = dir.awrite(["f"]).stdin_open().spawn();
        // Some before they have it, most while they hold it.
        if round % 10 > 0 {
            wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        }
        holder.signal(Signal::KILL);
        assert_eq!(holder.finish().signal, Some(9));
        dir.awrite(["--no-wait", "f"]).stdin(round.to_string()).quiet_success();
        assert_eq!(dir.read("f"), round.to_string());
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn a_waiter_goes_on_when_the_holder_is_killed() {
    let dir = TestDir::new();
    let holder = holder_of(&dir, "f");
    let mut waiter = dir.awrite(["f"]).stdin("new").spawn();
    waiter.wait_for_waiting();
    drop(holder);
    waiter.finish().ok();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

#[test]
fn a_killed_waiter_is_no_obstacle() {
    let dir = TestDir::new();
    let mut holder = holder_of(&dir, "f");
    let mut killed = dir.awrite(["f"]).stdin("killed").spawn();
    killed.wait_for_waiting();
    let mut other = dir.awrite(["f"]).stdin("other").spawn();
    other.wait_for_waiting();
    drop(killed);
    holder.feed(b"holder");
    holder.finish().ok();
    other.finish().ok();
    assert_eq!(dir.read("f"), "other");
    dir.assert_holds(&["f"]);
}

/// Background processes that COMMAND leaves behind must not keep the lock for ever.
#[test]
fn daemons_do_not_inherit_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "sleep 600 > /dev/null 2>&1 < /dev/null & echo $! > pid; cat";
    dir.awrite(["f", "--", "sh", "-c", script]).quiet_success();
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    dir.sh("kill \"$(cat pid)\"").quiet_success();
    dir.assert_holds(&["f", "pid"]);
}

/// A lock on a file that is no longer the lock file is worth nothing.
#[test]
fn a_lock_on_an_exchanged_file_does_not_count() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let lock = dir.join("f.lock");
    for args in [&["f"][..], &["--timeout", "100", "f"]] {
        let first = Held::new(&lock);
        let mut writer = dir.awrite(args).stdin("new").spawn();
        writer.wait_for_waiting();
        fs::remove_file(&lock).unwrap();
        let second = Held::new(&lock);
        first.release();
        wait_until("it waits for the new file's lock", || somebody_waits_for(second.inode()));
        assert_eq!(dir.read("f"), "old");
        second.release();
        let done = writer.finish();
        assert_eq!(done.ok().stderr.matches("Waiting").count(), 1, "{done:?}");
        assert_eq!(dir.read("f"), "new");
        dir.assert_holds(&["f"]);
        dir.file("f", "old");
    }
}

#[test]
fn the_last_of_many_waiters_removes_the_file() {
    let dir = TestDir::new();
    let mut holder = holder_of(&dir, "f");
    let mut waiters: Vec<Running> = (0..20)
        .map(|number| {
            let args: &[&str] = if number % 2 == 0 { &["f"] } else { &["--timeout", "55", "f"] };
            dir.awrite(args).stdin(format!("waiter {number}")).spawn()
        })
        .collect();
    for waiter in &mut waiters {
        waiter.wait_for_waiting();
    }
    holder.feed(b"holder");
    holder.finish().ok();
    for waiter in waiters {
        waiter.finish().ok();
    }
    assert!(dir.read("f").starts_with("waiter "));
    dir.assert_holds(&["f"]);
}

/// Waits that end by time-out just when the lock is given up: one of the two has to remove the file.
#[test]
fn impatient_writers_leave_nothing_behind() {
    let dir = TestDir::new();
    for round in 0..rounds(2, 6) {
        let name = format!("f{round}");
        let writers: Vec<Running> = (0..16)
            .map(|number| {
                let timeout = format!("{}ms", number * 2);
                let run = match number % 4 {
                    0 => dir.awrite(["-q", "-n", &name]),
                    1 => dir.awrite(["-q", &name]),
                    _ => dir.awrite(["-q", "-t", &timeout, &name]),
                };
                run.stdin(vec![b'0' + number as u8; 40_000]).spawn()
            })
            .collect();
        let done: Vec<_> = writers.into_iter().map(Running::finish).collect();
        assert!(done.iter().all(|done| matches!(done.code, Some(0 | 2))), "{done:?}");
        assert!(done.iter().any(|done| done.code == Some(0)), "{done:?}");
        let content = dir.read(&name);
        assert_eq!(content.len(), 40_000);
        assert!(content.bytes().all(|byte| byte == content.as_bytes()[0]));
        fs::remove_file(dir.join(name)).unwrap();
        dir.assert_holds(&[]);
    }
}

/// Two writers, one lock: while the first one holds it the second cannot have written.
#[test]
fn two_writers_take_turns() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let mut first = holder_of(&dir, "f");
    let mut second = dir.awrite(["f"]).stdin("second").spawn();
    second.wait_for_waiting();
    first.feed(b"first");
    assert_eq!(dir.read("f"), "old");
    first.finish().ok();
    second.finish().ok();
    assert_eq!(dir.read("f"), "second");
    dir.assert_holds(&["f"]);
}

#[test]
fn a_suspended_waiter_does_not_hinder_others() {
    let dir = TestDir::new();
    let mut holder = holder_of(&dir, "f");
    let mut suspended = dir.awrite(["f"]).stdin("suspended").spawn();
    suspended.wait_for_waiting();
    let mut other = dir.awrite(["f"]).stdin("other").spawn();
    other.wait_for_waiting();
    suspended.signal(Signal::STOP);
    holder.feed(b"holder");
    holder.finish().ok();
    // The kernel may hand the lock to the suspended one first: it owns it then, and the other one has to wait.
    suspended.signal(Signal::CONT);
    other.finish().ok();
    suspended.finish().ok();
    dir.assert_holds(&["f"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// The moments that count, made long by strace

/// `awrite` under strace, which writes the `traced` calls to the file `trace`.
fn under_strace(dir: &TestDir, traced: &str, injection: Option<&str>, args: &[&str]) -> Run {
    let mut all = vec!["-f", "-o", "trace", "-e", traced];
    all.extend(injection.iter().flat_map(|injection| ["-e", injection]));
    all.push(AWRITE);
    all.extend(args);
    dir.program("strace", all)
}

/// Which one of the traced calls it is, counted from 1, that the trace says `what` of.
#[track_caller]
fn number_of(trace: &str, call: &str, what: &str) -> usize {
    let mut calls = trace.lines().filter(|line| line.contains(&format!(" {call}(")));
    1 + calls.position(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in {trace}"))
}

/// The holder sees somebody waiting, who then gives up before it has unlocked: it has to look again.
#[test]
fn a_waiter_that_goes_just_before_the_unlock_leaves_the_file_to_the_holder() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    under_strace(&dir, "trace=flock", None, &["f"]).stdin("x").run().ok();
    let unlock = number_of(&dir.read("trace"), "flock", "LOCK_UN");

    let delay = format!("inject=flock:delay_enter={}:when={unlock}", rounds(1_000_000, 3_000_000));
    let mut holder = under_strace(&dir, "trace=flock,fcntl", Some(&delay), &["f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    let mut waiter = dir.awrite(["f"]).stdin("waiter").spawn();
    waiter.wait_for_waiting();
    holder.feed(b"holder");
    holder.close_stdin();
    wait_until("the holder has looked", || dir.read("trace").contains("F_OFD_GETLK"));
    waiter.signal(Signal::TERM);
    waiter.finish().assert_code(3);
    holder.finish().ok();
    assert_eq!(dir.read("f"), "holder");
    dir.assert_holds(&["f", "trace"]);
}

/// The holder unlocks and leaves the file to somebody who has just run out of time: that one has to try again.
#[test]
fn a_waiter_whose_time_is_up_tries_once_more() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    under_strace(&dir, "trace=fcntl", None, &["-t", "20ms", "f"]).stdin("x").run().assert_code(2);
    let withdrawal = number_of(&dir.read("trace"), "fcntl", "F_UNLCK");
    held.release();

    let mut holder = holder_of(&dir, "f");
    let delay = format!("inject=fcntl:delay_enter={}:when={withdrawal}", rounds(1_000_000, 3_000_000));
    let args = ["-t", "20ms", "f"];
    let mut waiter = under_strace(&dir, "trace=fcntl,flock", Some(&delay), &args).stdin("waiter").spawn();
    waiter.wait_for_waiting();
    wait_until("its time is up", || dir.read("trace").contains("SIGALRM"));
    holder.feed(b"holder");
    holder.finish().ok();
    let done = waiter.finish();
    // On a slow machine it may have given up before the holder was done, who then has to remove the file.
    assert!(matches!(done.code, Some(0 | 2)), "{done:?}");
    assert_eq!(dir.read("f"), if done.code == Some(0) { "waiter" } else { "holder" });
    dir.assert_holds(&["f", "trace"]);
}

/// A housekeeper tries the lock for an instant; that must not fail anybody.
#[test]
fn a_short_look_by_others_does_not_fail_no_wait() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let busy = "inject=flock:error=EAGAIN:when=1..3";
    let done = under_strace(&dir, "trace=flock", Some(busy), &["--no-wait", "f"]).stdin("x").run();
    assert_eq!(done.ok().stderr, "");
    assert_eq!(dir.read("f"), "x");
    dir.assert_holds(&["f", "trace"]);
}

/// Taken away by force while it was held: what stands there now is another's.
#[test]
fn a_lock_file_that_is_no_longer_ones_own_is_not_removed() {
    let dir = TestDir::new();
    let lock = dir.join("f.lock");
    let mut holder = holder_of(&dir, "f");
    fs::remove_file(&lock).unwrap();
    let others = Held::new(&lock);
    holder.feed(b"x");
    holder.finish();
    assert_eq!(fs::metadata(&lock).unwrap().ino(), others.inode());
    assert!(lock_is_held(&lock));

    // Also not when it has got content.
    others.release();
    fs::remove_file(&lock).unwrap();
    let mut holder = holder_of(&dir, "f");
    fs::write(&lock, "content").unwrap();
    holder.feed(b"x");
    holder.finish();
    assert_eq!(dir.read("f.lock"), "content");
}
