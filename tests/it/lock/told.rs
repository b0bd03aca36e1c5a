//! What the lock file tells others, and what those below a lock make of it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::{TestDir, chmod, lock_is_held, needs_root, needs_strace, somebody_waits_for, wait_until};

/// In seconds since 1970: 2001.
const LONG_AGO: &str = "978307200";

/// The time of the lock file is that since when it is held. A lock below does not change it.
#[test]
fn the_lock_files_time_is_that_of_the_lock() {
    let dir = TestDir::new();
    let since = |script: &str| {
        let script = format!("{script}; stat -c %Y f.lock");
        let done = dir.below_lock(&[], &script).run();
        done.ok().stdout.trim().to_owned()
    };
    // One that another program has left.
    dir.sh(&format!("touch -d @{LONG_AGO} f.lock")).quiet_success();
    assert!(since("true").parse::<u64>().unwrap() > LONG_AGO.parse().unwrap());
    assert_eq!(since(&format!("touch -d @{LONG_AGO} f.lock; echo x | \"$BIN\" f")), LONG_AGO);
    assert_eq!(since(&format!("touch -d @{LONG_AGO} f.lock; \"$BIN\" lock f -- true")), LONG_AGO);
    dir.assert_holds(&["f"]);
}

/// Who waits has registered, and the holder leaves the file to it: otherwise each release would wake the others for
/// nothing, on a file that has no name any more.
#[test]
fn the_lock_file_goes_from_hand_to_hand() {
    let dir = TestDir::new();
    for limit in ["--wait", "--timeout=60"] {
        let script = "stat -c %i f.lock; read line";
        let mut first = dir.below_lock(&[], script).stdin_open().spawn();
        wait_until("the first one holds it", || lock_is_held(&dir.join("f.lock")));
        let inode = fs::metadata(dir.join("f.lock")).unwrap().ino();
        let second = dir.below_lock(&[limit], "stat -c %i f.lock").spawn();
        wait_until("the second one waits", || somebody_waits_for(inode));
        first.feed(b"\n");
        assert_eq!(first.finish().ok().stdout, format!("{inode}\n"));
        assert_eq!(second.finish().ok().stdout, format!("{inode}\n"), "{limit}");
        dir.assert_holds(&[]);
    }
}

/// To be below one lock says nothing of how another one is taken.
#[test]
fn another_lock_below_is_taken_as_it_is_asked_for() {
    let dir = TestDir::new();
    let done = dir.below_lock(&[], "\"$BIN\" lock --lock-method=link g -- cat g.lock").run();
    assert!(done.ok().stdout.contains("\"nonce\":"), "{done:?}");
    // The same lock cannot be.
    let done = dir.below_lock(&[], "\"$BIN\" lock --lock-method=link f -- cat f.lock").run();
    assert_eq!(done.ok().stdout, "");
    dir.assert_holds(&[]);
}

/// A link lock is lost with its record, and with it what has been taken below it.
#[test]
fn what_is_below_a_lost_lock_is_lost() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "\"$BIN\" f -- sh -c 'rm f.lock; echo new'; echo $?";
    let done = dir.below_lock(&["--lock-method=link"], script).run();
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), "2\n"), "{done:?}");
    assert!(done.stderr.contains("Error: f: Lock lost\nHint: the process above that held it has ended"), "{done:?}");
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f"]);
}

/// Also by one who has failed: those who were started under the lock still count on it.
#[test]
fn who_fails_waits_for_those_below_too() {
    let dir = TestDir::new();
    let below = "(\"$BIN\" lock f -c 'touch in; while [ ! -e go ]; do sleep .01; done') & \
                 while [ ! -e in ]; do sleep .01; done; exit 5";
    let mut writer = dir.awrite(["f", "--", "sh", "-c", below]).spawn();
    writer.wait_for_stderr("processes that were started under the lock still work under it: waiting for their end");
    assert!(lock_is_held(&dir.join("f.lock")) && !writer.has_ended());
    dir.file("go", "");
    writer.finish().assert_error_with(1, &["command failed: exit status 5"]);
    dir.assert_holds(&["go", "in"]);
}

/// In a directory as `/tmp` a lock file of one's own is no stranger's, which would be cleared away again and again.
#[test]
fn ones_own_lock_file_is_no_strangers() {
    if !needs_root() || !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    chmod(dir.path(), 0o1777);
    for is_there in [false, true] {
        if is_there {
            dir.file("f.lock", "");
        }
        let strace = ["-f", "-o", "trace", "-e", "trace=openat,statx,newfstatat,renameat,renameat2"];
        dir.program("strace", strace.iter().chain(&[crate::common::AWRITE, "f"])).stdin("x").quiet_success();
        let looks = dir.read("trace").matches("\"f.lock\"").count();
        assert!(looks < 20, "{looks} looks");
        dir.assert_holds(&["f", "trace"]);
    }
}
