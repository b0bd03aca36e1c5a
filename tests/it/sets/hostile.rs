//! Records that somebody has made up. Nothing is done for another file than the one that is locked, and for that only
//! what whoever made the record might have done.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};

use crate::common::{TestDir, chmod, needs_root, temp_stem};

const NONCE: &str = "0123456789abcdef";
const NOBODY: u32 = 65534;

/// A record in a set whose journal is in `journal`, the directory with this inode number.
fn record(journal: &str, ino: u64, more: &str) -> String {
    format!(
        "{{\"version\":1,\"set\":\"{NONCE}\",\"journal\":\"{journal}.awrite-set-{NONCE}\",\"journal_dir\":{ino}{more}}}\n"
    )
}

fn stage_of(name: &str) -> String {
    format!("{}-{NONCE}.{name}", temp_stem(name))
}

fn inode(dir: &TestDir, name: &str) -> u64 {
    fs::metadata(dir.join(name)).unwrap().ino()
}

fn give(dir: &TestDir, name: &str) {
    std::os::unix::fs::lchown(dir.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
}

/// A user's directory `u` with the file `f`, the record of it, and a committed journal, all the user's. Others' files are in
/// `o`.
fn users(more: &str) -> TestDir {
    let dir = TestDir::new();
    dir.dir("u");
    dir.dir("o");
    for (name, content) in [("u/f", "the user's\n"), ("u/g", "another of the user's\n"), ("o/f", "not the user's\n")] {
        dir.file(name, content);
    }
    let journal = format!("u/.awrite-set-{NONCE}");
    dir.file(&journal, format!("{{\"version\":1,\"set\":\"{NONCE}\",\"records\":[\"f.lease\",\"../o/f.lease\"]}}\n"));
    dir.file("u/f.lease", record("", inode(&dir, "u"), more));
    for name in ["u", "u/f", "u/g", "u/f.lease", &journal] {
        give(&dir, name);
    }
    dir
}

/// Root writes the file of a user who has made up a record of it.
#[track_caller]
fn assert_moves_nothing_else(dir: &TestDir, what: &str) {
    let others = || ["o/f", "u/g"].map(|name| (dir.read(name), inode(dir, name)));
    let before = others();
    let done = dir.awrite(["u/f"]).stdin("root's\n").run();
    // It goes on, or says what is wrong with the record.
    let content = if done.code == Some(0) { "root's\n" } else { "the user's\n" };
    assert_eq!(dir.read("u/f"), content, "{what}: {done:?}");
    assert_eq!(others(), before, "{what}");
    // And a housekeeper.
    dir.awrite(["housekeep", "--all", "-r"]).run();
    assert_eq!(others(), before, "{what}");
    assert!(dir.join("o/secret").exists() == dir.join("o/secret").symlink_metadata().is_ok(), "{what}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    if !needs_root() {
        return;
    }
    for more in [
        ",\"stage\":\"../o/f\"",
        ",\"stage\":\"g\"",
        ",\"target\":\"../o/f\"",
        ",\"backup\":[\"/../../o/f\",true]",
        ",\"backup\":[\"%2f..%2f..%2fo%2ff\",true]",
        ",\"backup\":[\"\",true]",
        ",\"backup\":[\".backup\",\"../o/f\",true]",
        ",\"prior\":{\"set\":1}",
    ] {
        let dir = users(more);
        dir.file(format!("u/{}", stage_of("f")), "staged\n");
        dir.file(format!("u/{}-{NONCE}-1.f", temp_stem("f")), "staged\n");
        assert_moves_nothing_else(&dir, more);
    }
}

#[test]
fn a_stage_that_is_a_link_or_another_s_is_left_alone() {
    if !needs_root() {
        return;
    }
    let stage = stage_of("f");
    // A link to another's file.
    let a_link = |dir: &TestDir| {
        symlink("../o/f", dir.join("u").join(&stage)).unwrap();
        give(dir, &format!("u/{stage}"));
    };
    // Another's file, linked there.
    let another_s = |dir: &TestDir| fs::hard_link(dir.join("o/f"), dir.join("u").join(&stage)).unwrap();
    for (make, what) in [(&a_link as &dyn Fn(&TestDir), "a symbolic link"), (&another_s, "a hard link")] {
        let dir = users("");
        make(&dir);
        assert_moves_nothing_else(&dir, what);
        assert_eq!(dir.read("o/f"), "not the user's\n");
        // Nor does it become the file.
        let dir = users("");
        make(&dir);
        let before = inode(&dir, "u/f");
        dir.awrite(["lock", "-q", "u/f", "--", "true"]).run();
        assert_eq!(inode(&dir, "u/f"), before, "{what}");
    }
}

/// The user's own record and stage are the user's own business.
#[test]
fn a_set_of_the_user_s_own_is_finished_for_that_file_only() {
    if !needs_root() {
        return;
    }
    let stage = stage_of("f");
    let dir = users("");
    dir.file(format!("u/{stage}"), "staged\n");
    give(&dir, &format!("u/{stage}"));
    let done = dir.awrite(["-a", "u/f"]).stdin("root's\n").run();
    assert_eq!((done.code, dir.read("u/f").as_str()), (Some(0), "staged\nroot's\n"), "{done:?}");
    assert!(!dir.join("u/f.lease").exists());
}

/// Whoever made the record could have replaced the file: its directory is everybody's, and not sticky.
#[test]
fn a_set_of_one_who_may_write_the_file_is_finished() {
    if !needs_root() {
        return;
    }
    let stage = stage_of("f");
    let dir = users("");
    chown(dir.join("u"), Some(0), Some(0)).unwrap();
    chmod(&dir.join("u"), 0o777);
    chown(dir.join("u/f"), Some(1001), Some(1001)).unwrap();
    chmod(&dir.join("u/f"), 0o666);
    dir.file(format!("u/{stage}"), "staged\n");
    give(&dir, &format!("u/{stage}"));
    dir.awrite(["-a", "u/f"]).stdin("root's\n").run().ok();
    assert_eq!(dir.read("u/f"), "staged\nroot's\n");
}

/// What is no record is somebody's. A draft that cannot be read is of a killed writer, and a journal is one that may be
/// needed.
#[test]
fn a_housekeeper_meets_what_it_cannot_read() {
    let dir = TestDir::new();
    let (journal, draft) = (format!(".awrite-set-{NONCE}"), format!(".awrite-set-{NONCE}.tmp"));
    for name in ["f.lease", &journal, &draft] {
        dir.file(name, "{\"vers");
    }
    let done = dir.awrite(["housekeep", "--clean-temps", "--older-than", "0"]).run();
    assert_eq!(done.ok().stderr.lines().filter(|line| line.starts_with("Error")).count(), 0, "{done:?}");
    dir.assert_holds(&[&journal, "f.lease"]);
}

/// Root has made the set for the user, to whom the new file belongs.
#[test]
fn a_set_of_root_s_is_finished_by_the_user() {
    if !needs_root() {
        return;
    }
    let stage = stage_of("f");
    let dir = users("");
    dir.open_to_all();
    for name in ["u/f.lease".to_owned(), format!("u/.awrite-set-{NONCE}")] {
        chown(dir.join(name), Some(0), Some(0)).unwrap();
    }
    dir.file(format!("u/{stage}"), "staged\n");
    give(&dir, &format!("u/{stage}"));
    dir.awrite_unprivileged(["-a", "u/f"]).stdin("the user's\n").run().ok();
    assert_eq!(dir.read("u/f"), "staged\nthe user's\n");
}

#[test]
fn a_journal_of_another_user_decides_nothing() {
    if !needs_root() {
        return;
    }
    let stage = stage_of("f");
    let dir = users("");
    chown(dir.join(format!("u/.awrite-set-{NONCE}")), Some(1001), Some(1001)).unwrap();
    dir.file(format!("u/{stage}"), "staged\n");
    give(&dir, &format!("u/{stage}"));
    dir.awrite(["-a", "u/f"]).stdin("root's\n").run().ok();
    assert_eq!(dir.read("u/f"), "the user's\nroot's\n", "taken back, since there is no journal of that user");
}

/// Where the journal's directory is gone or another one, nobody can tell.
#[test]
fn a_journal_that_cannot_be_found_is_an_error() {
    let stage = stage_of("f");
    let dir = TestDir::new();
    dir.file("f", "old\n");
    dir.file(&stage, "staged\n");
    for (journal, ino) in [("../gone/", 1), ("", 1)] {
        dir.file("f.lease", record(journal, ino, ""));
        let done = dir.awrite(["f"]).stdin("new\n").run();
        done.assert_error_with(1, &["f: It is part of a set of files, and the directory of the set's journal"]);
        assert_eq!((dir.read("f").as_str(), dir.read(&stage).as_str()), ("old\n", "staged\n"));
        dir.awrite(["housekeep", "--clean-temps"]).run();
        assert!(dir.join("f.lease").exists() && dir.join(&stage).exists());
    }
}

/// In a sticky directory a record moves nothing of another user's.
#[test]
fn a_sticky_directory_keeps_its_files() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    dir.dir("t");
    chmod(&dir.join("t"), 0o1777);
    // Everybody may write it, so everybody's record counts; but only root may replace it.
    dir.file_with_mode("t/f", "root's\n", 0o666);
    dir.file("t/foo", "root's too\n");
    let stage = stage_of("f");
    let backup = format!("{}-{NONCE}-1.f", temp_stem("f"));
    let journal = format!("t/.awrite-set-{NONCE}");
    dir.file(&journal, format!("{{\"version\":1,\"set\":\"{NONCE}\",\"records\":[\"f.lease\"]}}\n"));
    let more = ",\"backup\":[\"oo\",true]";
    dir.file("t/f.lease", record("", inode(&dir, "t"), more));
    dir.file(format!("t/{stage}"), "staged\n");
    dir.file(format!("t/{backup}"), "staged\n");
    for name in [&journal, "t/f.lease", &format!("t/{stage}"), &format!("t/{backup}")] {
        give(&dir, name);
    }
    dir.awrite(["lock", "t/f", "--", "true"]).run().ok();
    assert_eq!((dir.read("t/f").as_str(), dir.read("t/foo").as_str()), ("root's\n", "root's too\n"));
}
