//! What a run finds around it: neighbours in the directory, closed descriptors, an empty environment.

use crate::common::{AWRITE, Snapshot, TestDir, is_root};

#[test]
fn a_deleted_working_directory_is_an_error() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    let done = dir.sh("rmdir ../sub; echo x | \"$BIN\" f").current_dir(&sub).run();
    done.assert_error_with(1, &["Error: f", "no such file or directory"]);
}

#[test]
fn other_files_in_the_directory_are_left_alone() {
    let dir = TestDir::new();
    let names = ["f", "f.tmp", "f.bak", "f~", ".f.swp", ".f.awrite-aaaaaa", ".awrite-00000000.f", "#f#", "f.backup"];
    for name in names {
        dir.file(name, name);
    }
    let before: Vec<Snapshot> = names[1..].iter().map(|name| dir.snapshot(name)).collect();
    dir.awrite(["f"]).stdin("new").quiet_success();
    let after: Vec<Snapshot> = names[1..].iter().map(|name| dir.snapshot(name)).collect();
    assert_eq!(before, after);
    dir.assert_holds(&names);
}

/// If descriptor 2 is closed, the next file that awrite opens would get it, and messages would go into that file.
#[test]
fn closed_standard_descriptors_do_no_harm() {
    let dir = TestDir::new();
    for closed in [">&-", "2>&-", ">&- 2>&-"] {
        for options in ["", "--stream", "-vv", "--json"] {
            dir.file("f", "old");
            let done = dir.sh(&format!("echo new | \"$BIN\" {options} f {closed}")).run();
            done.ok();
            assert_eq!(dir.read("f"), "new\n", "{closed} {options}");
        }
    }
    for (closed, options) in [("<&- >&- 2>&-", "-vv"), ("<&- 2>&-", "--json"), ("<&-", "")] {
        dir.file("f", "old");
        dir.sh(&format!("\"$BIN\" {options} f {closed}")).run().assert_code(1);
        assert_eq!(dir.read("f"), "old");
        dir.sh(&format!("\"$BIN\" {options} --allow-empty f {closed}")).run().ok();
        assert_eq!(dir.read("f"), "", "{closed} {options}");
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn messages_into_a_full_device_are_no_failure() {
    let dir = TestDir::new();
    dir.sh("echo new | \"$BIN\" -vv f 2> /dev/full").run().ok();
    assert_eq!(dir.read("f"), "new\n");
    dir.sh("\"$BIN\" -vv f 2> /dev/full").run().assert_code(1);
    dir.sh("echo new | \"$BIN\" --json f 2> /dev/full").run().ok();
    dir.assert_holds(&["f"]);
}

#[test]
fn it_works_with_an_empty_environment() {
    let dir = TestDir::new();
    let done = dir.program("env", ["-i", AWRITE, "-v", "f"]).stdin("x").run();
    done.ok();
    assert_eq!(dir.read("f"), "x");
    if is_root() {
        dir.assert_holds(&["f"]);
    }
}
