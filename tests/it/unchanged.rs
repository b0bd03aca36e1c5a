//! `--unchanged-exit-code`: a script learns by the status whether something has changed.

use std::fs;

use crate::common::{TestDir, needs_root};

#[test]
fn the_status_says_that_nothing_has_changed() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "same\n", 0o640);
    dir.file("in", "same\n");
    let before = dir.snapshot("f");
    for status in [0, 1, 77, 255] {
        let unchanged = ["--if-changed", &format!("--unchanged-exit-code={status}")];
        for way in [&["f"][..], &["--stream", "f"], &["-i", "in", "f"], &["--lock-on-commit", "f"], &["f", "--", "cat"]]
        {
            let done = dir.awrite(unchanged.iter().chain(way)).stdin("same\n").run();
            done.assert_code(status);
            assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""), "{way:?}");
            assert_eq!(dir.snapshot("f"), before, "{way:?}");
        }
        let done = dir.awrite(unchanged.iter().chain(&["-m", "0640", "f"])).stdin("same\n").run();
        done.assert_code(status);
    }
    dir.assert_holds(&["f", "in"]);
}

#[test]
fn any_change_is_success() {
    let dir = TestDir::new();
    let unchanged = ["--if-changed", "--unchanged-exit-code=77"];
    let write = |args: &[&str], input: &str| {
        dir.awrite(unchanged.iter().chain(args)).stdin(input).quiet_success();
    };
    write(&["f"], "created");
    write(&["f"], "longer than that");
    write(&["f", "--", "echo", "x"], "");
    write(&["-m", "0600", "f"], "x\n");
    write(&["-m", "0640", "--stream", "f"], "x\n");
    if needs_root() {
        std::os::unix::fs::chown(dir.join("f"), Some(1234), None).unwrap();
        write(&["--no-preserve-owner", "-m", "0640", "f"], "x\n");
    }
    // The link is replaced by a file, whatever that holds.
    fs::rename(dir.join("f"), dir.join("g")).unwrap();
    std::os::unix::fs::symlink("g", dir.join("f")).unwrap();
    write(&["--no-follow", "f"], "x\n");
    dir.assert_holds(&["f", "g"]);
}

#[test]
fn an_error_keeps_its_status() {
    let dir = TestDir::new();
    dir.file("f", "same");
    let unchanged = ["--if-changed", "--unchanged-exit-code=77"];
    dir.awrite(unchanged.iter().chain(&["f"])).run().assert_error(1, "Error: No input provided");
    dir.awrite(unchanged.iter().chain(&["f", "--", "false"])).run().assert_code(1);
    let _held = crate::common::Held::new(&dir.join("f.lock"));
    dir.awrite(unchanged.iter().chain(&["-n", "f"])).stdin("same").run().assert_code(2);
}
