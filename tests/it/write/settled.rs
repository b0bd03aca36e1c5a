//! Which file OUTPUT means, and what it is, is settled under the lock.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::{Held, TestDir, assert_no_debris, chmod, lock_is_held, wait_until};

/// COMMAND may remove the old file before it prints the new content.
#[test]
fn the_mode_of_a_file_that_is_removed_meanwhile_is_kept() {
    let dir = TestDir::new();
    for option in ["--quiet", "--stream", "--no-preserve-xattrs", "--try-preserve-owner"] {
        for (old, mode) in [(0o644, 0o644), (0o6755, 0o755), (0o600, 0o600)] {
            dir.file_with_mode("f", "old", old);
            dir.awrite([option, "f", "--", "sh", "-c", "rm f; echo new"]).quiet_success();
            assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new\n", mode), "{option} {old:o}");
        }
    }
    dir.file_with_mode("f", "old", 0o600);
    dir.awrite(["--mode", "640", "f", "--", "sh", "-c", "rm f; echo new"]).quiet_success();
    assert_eq!(dir.mode("f"), 0o640);
    dir.file_with_mode("f", "old", 0o600);
    dir.sh("umask 027; \"$BIN\" --no-preserve-mode f -- sh -c 'rm f; echo new'").quiet_success();
    assert_eq!(dir.mode("f"), 0o640);
    dir.assert_holds(&["f"]);
}

#[test]
fn the_mode_is_the_one_that_is_found_under_the_lock() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o644);
    let held = Held::new(&dir.join("f.lock"));
    let mut writer = dir.awrite(["f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    chmod(&dir.join("f"), 0o600);
    held.release();
    writer.finish().ok();
    assert_eq!(dir.mode("f"), 0o600);
    dir.assert_holds(&["f"]);
}

#[test]
fn a_target_that_became_a_directory_is_refused() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let held = Held::new(&dir.join("f.lock"));
    let mut writer = dir.awrite(["f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    fs::remove_file(dir.join("f")).unwrap();
    dir.dir("f");
    held.release();
    writer.finish().assert_error_with(1, &["Error: f: ", "directory"]);
    dir.assert_holds(&["f"]);
}

#[test]
fn a_target_that_became_read_only_is_refused() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o666);
    let held = Held::new(&dir.join("f.lock"));
    chmod(&dir.join("f.lock"), 0o666);
    let mut writer = dir.awrite_unprivileged(["f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    chmod(&dir.join("f"), 0o444);
    held.release();
    writer.finish().assert_error(1, "Error: f: Permission denied");
    assert_eq!(dir.read("f"), "old");
}

#[test]
fn a_link_that_was_turned_meanwhile_leads_to_its_new_target() {
    let dir = TestDir::new();
    dir.file("one", "1");
    dir.file("two", "2");
    symlink("one", dir.join("link")).unwrap();
    let held = Held::new(&dir.join("one.lock"));
    let mut writer = dir.awrite(["link"]).stdin("new").spawn();
    writer.wait_for_waiting();
    symlink("two", dir.join("link.new")).unwrap();
    fs::rename(dir.join("link.new"), dir.join("link")).unwrap();
    held.release();
    writer.finish().ok();
    assert_eq!((dir.read("one").as_str(), dir.read("two").as_str()), ("1", "new"));
    dir.assert_holds(&["one", "two", "link"]);
}

#[test]
fn a_directory_that_was_replaced_meanwhile_is_found_again() {
    let dir = TestDir::new();
    dir.dir("d");
    dir.file("d/f", "old");
    let held = Held::new(&dir.join("d/f.lock"));
    let mut writer = dir.awrite(["d/f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    fs::rename(dir.join("d"), dir.join("moved")).unwrap();
    dir.dir("d");
    held.release();
    writer.finish().ok();
    assert_eq!(dir.read("d/f"), "new");
    assert_eq!(dir.read("moved/f"), "old");
    assert_no_debris(&dir.join("d"), &["f"]);
    assert_no_debris(&dir.join("moved"), &["f"]);
}

/// Once the lock is held, the directory is the one it was: all further steps are relative to it.
#[test]
fn a_directory_renamed_while_the_lock_is_held_changes_nothing() {
    let dir = TestDir::new();
    dir.dir("d");
    dir.file("d/f", "old");
    let mut writer = dir.awrite(["--stream", "d/f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("d/f.lock")));
    writer.feed(b"new");
    fs::rename(dir.join("d"), dir.join("moved")).unwrap();
    dir.dir("d");
    writer.finish().ok();
    assert_eq!(dir.read("moved/f"), "new");
    assert_no_debris(&dir.join("moved"), &["f"]);
    assert_no_debris(&dir.join("d"), &[]);
}
