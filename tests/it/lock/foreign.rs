//! Beside programs that use the lock file's name in their own way: they make it, write into it and rename it, or they keep
//! it. And files that are lock files, given as something else.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Held, TestDir, lock_is_held, needs, needs_full, needs_strace, rounds, wait_until};

/// What git and others do, slowly: with the lock file's name they make the new content.
fn replace_by_lock_file(dir: &TestDir, content: &str, pause: Duration) {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join("f.lock")).unwrap();
    thread::sleep(pause);
    file.write_all(content.as_bytes()).unwrap();
    drop(file);
    fs::rename(dir.join("f.lock"), dir.join("f")).unwrap();
}

#[test]
fn whoever_has_the_lock_file_open_and_empty_is_let_go_on() {
    for option in ["--wait", "--no-wait"] {
        let dir = TestDir::new();
        dir.file("f", "old\n");
        thread::scope(|scope| {
            scope.spawn(|| replace_by_lock_file(&dir, "old\ntheirs\n", Duration::from_millis(60)));
            wait_until("it has begun", || dir.join("f.lock").exists());
            let done = dir.awrite([option, "f", "--", "sh", "-c", "cat; echo ours"]).run();
            done.ok();
        });
        assert_eq!(dir.read("f"), "old\ntheirs\nours\n", "{option}");
        dir.assert_holds(&["f"]);
    }
}

/// A shell that has the file open for good must not hinder anybody for long.
#[test]
fn a_descriptor_that_stays_open_is_not_waited_for() {
    let dir = TestDir::new();
    let open = fs::File::create(dir.join("f.lock")).unwrap();
    let started = Instant::now();
    dir.awrite(["-n", "f"]).stdin("new").quiet_success();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(open);
    dir.assert_holds(&["f"]);
}

#[test]
fn a_lock_file_that_is_taken_away_is_a_lost_lock() {
    let renamed = |dir: &TestDir| {
        dir.file("theirs", "theirs");
        fs::rename(dir.join("theirs"), dir.join("f.lock")).unwrap();
        fs::rename(dir.join("f.lock"), dir.join("f")).unwrap();
    };
    let replaced = |dir: &TestDir| {
        fs::remove_file(dir.join("f.lock")).unwrap();
        dir.file("f.lock", "");
    };
    let written = |dir: &TestDir| drop(dir.file("f.lock", "theirs"));
    let removed = |dir: &TestDir| fs::remove_file(dir.join("f.lock")).unwrap();
    type Step<'a> = (&'a dyn Fn(&TestDir), &'a str, &'a [&'a str]);
    let steps: [Step<'_>; 4] = [
        (&renamed, "theirs", &["f"]),
        (&replaced, "old", &["f", "f.lock"]),
        (&written, "old", &["f", "f.lock"]),
        (&removed, "old", &["f"]),
    ];
    for (step, content, left) in steps {
        for args in [&["f"][..], &["--stream", "f"], &["--backup", "f"], &["f", "--", "cat", "fifo"]] {
            let dir = TestDir::new();
            dir.file("f", "old");
            let piped = args.contains(&"fifo");
            if piped {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    dir.join("fifo"),
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )
                .unwrap();
            }
            let mut writer = dir.awrite(args).stdin_open().spawn();
            wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
            // And it has seen that the file still has its name: a file that goes before that is no loss.
            let stat = format!("/proc/{}/stat", writer.id());
            wait_until("it waits for its input", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S ")));
            step(&dir);
            if piped {
                fs::write(dir.join("fifo"), "ours").unwrap();
                fs::remove_file(dir.join("fifo")).unwrap();
            } else {
                writer.feed(b"ours");
            }
            let done = writer.finish();
            done.assert_error(2, "Error: f: Lock lost").assert_hint("f.lock has been removed or replaced");
            assert_eq!(dir.read("f"), content, "{args:?}");
            let left: Vec<&str> = left.to_vec();
            let names: Vec<_> = dir.names().into_iter().filter(|name| name != "f.backup").collect();
            assert_eq!(names, left, "{args:?}");
        }
    }
}

/// Two of us come at once, and the one that has made the file is not the first to lock it. It need not wait until the other
/// is sure that it is no stranger.
#[test]
fn whoever_has_made_the_lock_file_and_locks_it_now_comes_first() {
    if !needs_strace() || !needs("flock") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    // It stops when it has the lock, until the other one waits for that.
    let stops = "strace -o /dev/null -e trace=flock -e inject=flock:signal=SIGSTOP:when=1";
    let script = format!(
        "exec 9>>f.lock; id=$(stat -c %i f.lock)
        {stops} sh -c 'echo $$ >pid; exec \"$BIN\" f <new' 9>&- &
        until grep -q \"FLOCK .*:$id \" /proc/locks; do sleep 0.01; done
        (flock 9; cat f) & exec 9>&-
        until grep -q -e \"-> FLOCK .*:$id \" /proc/locks; do sleep 0.01; done
        kill -CONT $(cat pid); wait; rm pid"
    );
    dir.file("new", "new");
    assert_eq!(dir.sh(&script).run().ok().stdout, "old");
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f", "new"]);
}

/// What both report as done is there.
#[test]
fn no_update_is_lost_beside_git() {
    if !needs("git") || !needs_full() {
        return;
    }
    let dir = TestDir::new();
    let rounds = rounds(30, 300);
    dir.sh("git init -q r").run().ok();
    let theirs = format!(
        "cd r; for i in $(seq {rounds}); do git config loop.g$i 1 2>/dev/null && echo g$i; done >../theirs; true"
    );
    let ours = format!(
        "cd r; for i in $(seq {rounds}); do
            \"$BIN\" -n .git/config -- sh -c \"cat; printf '[loop]\\n\\ta$i = 1\\n'\" 2>/dev/null && echo a$i
        done >../ours; true"
    );
    let (theirs, ours) = (dir.sh(&theirs).spawn(), dir.sh(&ours).spawn());
    let ended = |running: crate::common::Running| running.finish().ok().stderr.clone();
    // The loops take as long as they take; each has its own deadline.
    assert_eq!((ended(ours), ended(theirs)), (String::new(), String::new()));
    let there = dir.sh("cd r; git config --list").run();
    let done = dir.read("theirs") + &dir.read("ours");
    assert!(done.lines().count() > 10, "{done}");
    for key in done.lines() {
        assert!(there.stdout.contains(&format!("loop.{key}=1\n")), "{key} is lost");
    }
    assert!(!dir.join("r/.git/config.lock").exists());
}

/// With link locks the lock file's being there is the lock, as it is for these programs.
#[test]
fn link_locks_and_others_exclude_each_other() {
    let dir = TestDir::new();
    let write = |options: &[&str]| {
        let args = [&["--lock-method=link"], options].concat();
        dir.awrite(args).stdin("new").run()
    };
    if needs("git") {
        dir.sh("git init -q r && cd r && git config user.name nobody").run().ok();
        let holder = dir.awrite(["--lock-method=link", "r/.git/config"]).stdin_open().spawn();
        wait_until("the lock is there", || dir.join("r/.git/config.lock").exists());
        let refused = dir.sh("cd r && git config a.b c").run();
        assert!(refused.code != Some(0) && refused.stderr.contains("could not lock config file"), "{refused:?}");
        drop(holder);
        fs::remove_file(dir.join("r/.git/config.lock")).unwrap();
        fs::write(dir.join("r/.git/config.lock"), "").unwrap();
        write(&["-n", "r/.git/config"]).assert_code(2);
    }
    if needs("dotlockfile") {
        dir.sh("dotlockfile -l -r 0 f.lock").run().ok();
        let refused = write(&["-n", "f"]);
        assert!(refused.code == Some(1) || refused.code == Some(2), "{refused:?}");
        dir.sh("dotlockfile -u f.lock").run().ok();
        let holder = dir.awrite(["--lock-method=link", "f"]).stdin_open().spawn();
        wait_until("the lock is there", || dir.join("f.lock").exists());
        assert_ne!(dir.sh("dotlockfile -l -r 0 f.lock").run().code, Some(0));
        holder.finish().assert_code(1);
        dir.sh("dotlockfile -l -r 0 f.lock && dotlockfile -u f.lock").run().ok();
    }
}

#[test]
fn a_lock_file_in_use_is_not_replaced() {
    let dir = TestDir::new();
    let hint = "name the file that it is the lock of";
    for (lock_file, name) in [("f.lock", "f.lock"), ("mine", "mine")] {
        let held = Held::new(&dir.join(lock_file));
        let before = dir.snapshot(name);
        for args in [&["--allow-empty"][..], &["--allow-empty", "--force"], &["--lock-on-commit", "--allow-empty"]] {
            let done = dir.awrite(args.iter().chain(&[name])).run();
            done.assert_error(1, &format!("Error: {name}: Is a lock file that is in use")).assert_hint(hint);
            assert_eq!(dir.snapshot(name), before);
        }
        held.release();
        dir.awrite(["--allow-empty", name]).quiet_success();
        fs::remove_file(dir.join(name)).unwrap();
    }
    let holder = dir.awrite(["--lock-method=link", "f"]).stdin_open().spawn();
    wait_until("the lock is there", || dir.join("f.lock").exists());
    dir.awrite(["f.lock"]).stdin("x").run().assert_error(1, "Error: f.lock: Is a lock file that is in use");
    holder.finish().assert_code(1);
    // What has content and no such name is locked by its readers.
    dir.file("read", "old");
    let reader = Held::new(&dir.join("read"));
    dir.awrite(["read"]).stdin("new").quiet_success();
    reader.release();
    fs::remove_file(dir.join("read")).unwrap();
    // Locked since awrite looked at it.
    dir.file("f.lock", "");
    let mut writer = dir.awrite(["f.lock"]).stdin_open().spawn();
    wait_until("its lock is held", || lock_is_held(&dir.join("f.lock.lock")));
    let held = Held::new(&dir.join("f.lock"));
    writer.feed(b"x");
    writer.finish().assert_error(1, "Error: f.lock: Is a lock file that is in use");
    held.release();
    dir.assert_holds(&["f.lock"]);
}

#[test]
fn a_lock_file_that_was_there_is_only_removed_if_it_is_called_so() {
    let dir = TestDir::new();
    for (name, stays) in [("mine", true), ("mine.lock", false)] {
        for existed in [true, false] {
            if existed {
                dir.file(name, "");
            }
            let option = format!("--lock-file={name}");
            dir.awrite([&option, "f"]).stdin("new").quiet_success();
            dir.awrite(["lock", &option, "f", "--", "true"]).quiet_success();
            // Several that wait for each other: none may take what another has made for a file that was there.
            let all: Vec<_> = (0..8).map(|_| dir.awrite([&option, "f", "--", "echo", "new"]).spawn()).collect();
            super::all_succeed(all);
            assert_eq!(dir.join(name).exists(), existed && stays, "{name} {existed}");
            let _ = fs::remove_file(dir.join(name));
        }
    }
    dir.assert_holds(&["f"]);
}
