//! The steps of a commit one by one: what is synced, what an error of one of them means. strace makes the errors.

use std::fs;

use crate::common::{AWRITE, Done, TestDir, needs_mount, needs_strace};
use crate::filesystems::Mount;

/// Runs awrite with these calls failing, and traced in `trace`.
fn traced(dir: &TestDir, calls: &str, fault: &str, args: &[&str]) -> Done {
    let inject = format!("inject={calls}:{fault}");
    let trace = format!("trace={calls}");
    let mut strace = vec!["-f", "-y", "-o", "trace", "-e", &trace];
    if !fault.is_empty() {
        strace.extend(["-e", &inject]);
    }
    dir.program("strace", strace.iter().chain(&[AWRITE]).chain(args)).stdin("new").run()
}

fn count(dir: &TestDir, call: &str) -> usize {
    dir.read("trace").lines().filter(|line| line.contains(call)).count()
}

/// Between the look at the file and the rename, something may be mounted on it, or its directory become sticky.
#[test]
fn a_rename_that_is_refused_may_become_an_overwriting() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file_with_mode("f", "old and longer", 0o640);
    let inode = dir.snapshot("f").inode;
    for (errno, why, may) in [
        ("EBUSY", "Something is mounted on this file", true),
        ("EPERM", "cannot replace it: Operation not permitted", true),
        ("EACCES", "cannot replace it: Permission denied", true),
        ("EIO", "cannot replace it: Input/output error", false),
    ] {
        let before = dir.snapshot("f");
        let fault = format!("error={errno}");
        let done = traced(&dir, "renameat,renameat2", &fault, &["f"]);
        done.assert_error_with(1, &["Error: f: ", why]);
        assert_eq!(dir.snapshot("f"), before, "{errno}");
        let done = traced(&dir, "renameat,renameat2", &fault, &["--in-place", "f"]);
        if may {
            assert!(done.ok().stderr.contains("overwriting it in place, which is not atomic"), "{errno}: {done:?}");
            assert_eq!((dir.read("f").as_str(), dir.snapshot("f").inode, dir.mode("f")), ("new", inode, 0o640));
        } else {
            done.assert_error_with(1, &["Error: f: ", why]);
            assert_eq!(dir.snapshot("f"), before);
        }
        dir.assert_holds(&["f", "trace"]);
    }
}

#[test]
fn overwriting_is_synced_too() {
    if !needs_mount() || !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let (source, target) = (dir.file("source", "old"), dir.file("target", ""));
    let _mount = Mount::bind(&source, &target);
    for (option, syncs) in [("--sync=full", 1), ("--sync=data", 1), ("--sync=none", 0)] {
        traced(&dir, "fsync,fdatasync,syncfs", "", &["--in-place", option, "target"]).ok();
        assert_eq!((count(&dir, "sync"), dir.read("target").as_str()), (syncs, "new"), "{option}");
    }
    let done = traced(&dir, "fsync", "error=EIO", &["--in-place", "target"]);
    done.assert_error_with(1, &["Error: target: overwritten only in part: Input/output error"]);
    // Nothing is there to be reserved.
    dir.awrite(["--in-place", "--allow-empty", "target"]).run().ok();
    assert_eq!(dir.read("target"), "");
}

/// Nobody may read the new content by the old mode, or before it is there by the new one.
#[test]
fn overwriting_takes_permissions_away_first() {
    if !needs_mount() || !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let (source, target) = (dir.file_with_mode("source", "old", 0o640), dir.file("target", ""));
    let _mount = Mount::bind(&source, &target);
    traced(&dir, "fchmod,write,copy_file_range,ftruncate", "", &["--in-place", "-m", "604", "target"]).ok();
    let modes: Vec<String> = dir
        .read("trace")
        .lines()
        .filter_map(|line| Some(line.split_once("fchmod(")?.1.split_once(", ")?.1.split_once(')')?.0.to_owned()))
        .collect();
    let end: Vec<&str> = modes.iter().rev().take(2).rev().map(String::as_str).collect();
    assert_eq!(end, ["0600", "0604"], "{modes:?}");
    let trace = dir.read("trace");
    assert!(trace.find("ftruncate").unwrap() > trace.find("0600").unwrap(), "{trace}");
    assert!(trace.find("ftruncate").unwrap() < trace.find("0604").unwrap(), "{trace}");
}

/// The content is the same, and the mode is set on the file that is there.
#[test]
fn a_mode_alone_is_synced_too() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let amend = |mode: u32, fault: &str, option: &str| {
        dir.file_with_mode("f", "new", 0o644);
        let inode = dir.snapshot("f").inode;
        let calls = if fault.is_empty() { "fsync,fdatasync,syncfs" } else { "fchmod" };
        let mode = format!("{mode:o}");
        let done = traced(&dir, calls, fault, &["--if-changed", option, "-m", &mode, "f"]);
        (done, dir.snapshot("f").inode == inode)
    };
    for (option, syncs) in [("--sync=full", 1), ("--sync=data", 1), ("--sync=none", 0)] {
        let (done, is_same) = amend(0o600, "", option);
        done.ok();
        assert_eq!((count(&dir, "sync("), is_same, dir.mode("f")), (syncs, true, 0o600), "{option}");
        let (done, is_same) = amend(0o644, "", option);
        done.ok();
        assert_eq!((count(&dir, "sync("), is_same, dir.mode("f")), (0, true, 0o644), "nothing is to be done");
    }
    // A new file would have the mode, but not because of a bad disk.
    let (done, is_same) = amend(0o600, "error=EIO", "--sync=full");
    done.assert_error_with(1, &["cannot set its owner and permissions: Input/output error"]);
    assert!(is_same && dir.mode("f") == 0o644);
}

/// It is complete; only its age will be misjudged.
#[test]
fn a_backup_without_its_date_is_a_warning() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    let done = traced(&dir, "utimensat", "error=EIO", &["-b", "f"]);
    let warning = "Warning: f.backup: cannot set the time of the backup: Input/output error";
    assert!(done.ok().stderr.contains(warning), "{done:?}");
    assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str()), ("new", "old"));
    // Of a set as well.
    for made in ["d", "src"] {
        dir.dir(made);
        for name in ["a", "b"] {
            fs::write(dir.join(made).join(name), made).unwrap();
        }
    }
    let done = traced(&dir, "utimensat", "error=EIO", &["-b", "--into", "d", "src/"]);
    for name in ["d/a.backup", "d/b.backup"] {
        let warning = format!("Warning: {name}: cannot set the time of the backup: Input/output error");
        assert!(done.ok().stderr.contains(&warning), "{done:?}");
    }
    assert_eq!((dir.read("d/a").as_str(), dir.read("d/a.backup").as_str()), ("src", "d"));
}

/// A directory that was made for a file is nothing as long as its name may be lost.
#[test]
fn the_directories_that_were_made_are_synced() {
    if !needs_strace() {
        return;
    }
    for (options, syncs) in [(&[][..], 4), (&["--sync=data"], 1), (&["--sync=none"], 0)] {
        let dir = TestDir::new();
        let args = [&["--mkdir", "one/two/f"][..], options].concat();
        traced(&dir, "fsync,fdatasync,syncfs", "", &args).ok();
        // The file, its directory, the one above, and that where the first was made.
        assert_eq!(count(&dir, "sync("), syncs, "{options:?}: {}", dir.read("trace"));
    }
}
