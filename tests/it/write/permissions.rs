//! What the permissions of the file and of its directory allow.

use std::fs;
use std::path::Path;

use crate::common::{Held, TestDir, assert_no_debris, chmod, copy_program, wait_until};

#[test]
fn a_read_only_file_is_refused_unless_forced() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("readonly.txt", "old", 0o444);
    let before = dir.snapshot("readonly.txt");
    let done = dir.awrite_unprivileged(["readonly.txt"]).stdin("new").run();
    done.assert_error(1, "Error: readonly.txt: Permission denied");
    assert_eq!(dir.snapshot("readonly.txt"), before);
    dir.assert_holds(&["readonly.txt"]);

    dir.awrite_unprivileged(["--force", "readonly.txt"]).stdin("new").quiet_success();
    assert_eq!(dir.read("readonly.txt"), "new");
    assert_eq!(dir.mode("readonly.txt"), 0o444);
    dir.awrite_unprivileged(["-f", "readonly.txt"]).stdin("newer").quiet_success();
    assert_eq!(dir.read("readonly.txt"), "newer");
    dir.assert_holds(&["readonly.txt"]);
}

#[test]
fn a_read_only_file_gives_its_error_before_the_wait_for_its_lock() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o444);
    let _held = Held::new(&dir.join("f.lock"));
    dir.awrite_unprivileged(["f"]).stdin("new").run().assert_error(1, "Error: f: Permission denied");
}

#[test]
fn a_directory_that_refuses_the_lock_file_is_named_with_a_hint() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    dir.file_with_mode("sub/config.json", "old", 0o666);
    chmod(&sub, 0o555);
    let done = dir.awrite_unprivileged(["sub/config.json"]).stdin("new").run();
    done.assert_error(1, "Error: sub/config.json.lock: Permission denied")
        .assert_hint("Run with sudo or check directory permissions");
    assert_eq!(dir.read("sub/config.json"), "old");
    let absolute = dir.join("sub/config.json");
    let done = dir.awrite_unprivileged([&absolute]).stdin("new").run();
    done.assert_error(1, &format!("Error: {}.lock: Permission denied", absolute.display()));
    chmod(&sub, 0o755);
    assert_no_debris(&sub, &["config.json"]);
}

/// A way is named only if it leads somewhere: overwriting takes a file that may be written, and a lock file elsewhere.
#[test]
fn a_directory_that_refuses_the_lock_file_leaves_what_may_be_written() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    dir.file_with_mode("sub/open", "old", 0o666);
    dir.file_with_mode("sub/closed", "old", 0o444);
    chmod(&sub, 0o555);
    for (args, hint) in [
        (&["sub/open"][..], "directory permissions; or overwrite it: --in-place --lock-dir DIR"),
        (&["--in-place", "sub/open"], "keep lock files elsewhere: --lock-dir DIR"),
        (&["sub/new"], "Run with sudo or check directory permissions\n"),
        (&["--force", "sub/closed"], "Run with sudo or check directory permissions\n"),
    ] {
        let done = dir.awrite_unprivileged(args.iter().copied()).stdin("new").run();
        assert!(done.assert_code(1).stderr.contains(hint), "{args:?}: {done:?}");
    }
    chmod(&sub, 0o755);
    assert_no_debris(&sub, &["closed", "open"]);
}

#[test]
fn a_directory_that_may_not_be_searched_is_an_error() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    chmod(&sub, 0o000);
    let done = dir.awrite_unprivileged(["sub/f"]).stdin("new").run();
    done.assert_error_with(1, &["sub/f", "Permission denied"]);
    chmod(&sub, 0o755);
    assert_no_debris(&sub, &[]);
}

/// A directory that may be searched and written, but not listed, is enough.
#[test]
fn an_unlistable_directory_is_no_obstacle() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    chmod(&sub, 0o333);
    dir.awrite_unprivileged(["sub/f"]).stdin("one").quiet_success();
    dir.awrite_unprivileged(["sub/f"]).stdin("two").quiet_success();
    chmod(&sub, 0o755);
    assert_eq!(dir.read("sub/f"), "two");
    assert_no_debris(&sub, &["f"]);
}

#[test]
fn an_unreadable_target_can_be_replaced() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o222);
    dir.awrite_unprivileged(["f"]).stdin("new").quiet_success();
    assert_eq!(dir.mode("f"), 0o222);
    chmod(&dir.join("f"), 0o644);
    assert_eq!(dir.read("f"), "new");
}

/// Opening the target for writing would be ETXTBSY.
#[test]
fn a_running_program_can_be_replaced() {
    let dir = TestDir::new();
    let program = dir.join("program");
    copy_program(Path::new("/bin/sleep"), &program);
    let running = dir.program(&program, ["60"]).spawn();
    wait_until("the program runs", || {
        fs::read_link(format!("/proc/{}/exe", running.id())).is_ok_and(|exe| exe.ends_with("program"))
    });
    dir.awrite(["program"]).stdin("#!/bin/sh\necho replaced\n").quiet_success();
    let done = dir.program("./program", [""; 0]).run();
    assert_eq!(done.ok().stdout, "replaced\n");
}
