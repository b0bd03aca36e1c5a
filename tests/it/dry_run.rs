//! `--dry-run`: what a write does, but for the commit, and nothing stays of it.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::common::{Held, TestDir, needs_root, needs_strace};

const WOULD: &str = "Would replace f\n";

#[test]
fn it_says_what_a_write_would_do_and_does_nothing() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old\n", 0o640);
    dir.file("in", "new\n");
    fs::hard_link(dir.join("f"), dir.join("other")).unwrap();
    symlink("f", dir.join("link")).unwrap();
    let before = dir.snapshot("f");
    for (args, input, said) in [
        (&["f"][..], "new\n", WOULD),
        (&["--stream", "f"], "new\n", WOULD),
        (&["-a", "f"], "more\n", WOULD),
        (&["-i", "in", "f"], "", WOULD),
        (&["--lock-on-commit", "f"], "new\n", WOULD),
        (&["f", "--", "tr", "a-z", "A-Z"], "", WOULD),
        (&["--validate", "test -s \"$AWRITE_NEW\"", "f"], "new\n", WOULD),
        (&["-m", "0600", "--sync=none", "f"], "new\n", WOULD),
        (&["-b", "f"], "new\n", WOULD),
        (&["--backup-keep=1", "f"], "new\n", WOULD),
        (&["--backup-dir", "made", "-D", "f"], "new\n", WOULD),
        (&["--in-place", "f"], "new\n", WOULD),
        (&["--keep-inode", "-b", "f"], "new\n", WOULD),
        (&["--lock-method=link", "f"], "new\n", WOULD),
        (&["link"], "new\n", "Would replace link\n"),
        (&["--no-follow", "link"], "new\n", "Would replace link\n"),
        // Without --if-changed the same content is written anew.
        (&["f"], "old\n", WOULD),
        (&["--if-changed", "f"], "old\n", "Would leave f unchanged\n"),
        (&["--if-changed", "--stream", "f"], "old\n", "Would leave f unchanged\n"),
        (&["--if-changed", "-m", "0600", "f"], "old\n", WOULD),
        (&["--if-changed", "-m", "0600", "--stream", "f"], "old\n", WOULD),
        (&["n"], "new\n", "Would create n\n"),
        (&["-D", "a/b/n"], "new\n", "Would create a/b/n\n"),
        (&["--keep-inode", "n"], "new\n", "Would create n\n"),
        (&["-q", "f"], "new\n", ""),
    ] {
        let done = dir.awrite(["--dry-run"].iter().chain(args)).stdin(input).run();
        assert_eq!((done.ok().stdout.as_str(), done.stderr.as_str()), ("", said), "{args:?}");
        assert_eq!(dir.snapshot("f"), before, "{args:?}");
        assert!(dir.join("link").is_symlink());
        dir.assert_holds(&["f", "in", "link", "other"]);
    }
}

/// With the same status and the same words.
#[test]
fn it_fails_where_a_write_would() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.dir("f.backup");
    dir.dir("d");
    let before = dir.snapshot("f");
    let mut failing = vec![
        (vec!["f"], ""),
        (vec!["d"], "new"),
        (vec!["none/f"], "new"),
        (vec!["-i", "none", "f"], ""),
        (vec!["f", "--", "false"], ""),
        (vec!["--validate", "exit 4", "f"], "new"),
        (vec!["--validate", ": > \"$AWRITE_NEW\"", "f"], "new"),
        (vec!["-b", "f"], "new"),
        (vec!["--keep-inode", "-b", "f"], "new"),
        (vec!["--backup-dir", "none", "f"], "new"),
        (vec!["f", "--", "sh", "-c", "echo x >f; echo y"], ""),
    ];
    let held = Held::new(&dir.join("g.lock"));
    failing.push((vec!["-n", "g"], "new"));
    for (args, input) in failing {
        let run = |args: &[&str]| {
            dir.file("f", "old");
            dir.awrite(args).stdin(input).run()
        };
        let (real, dry) = (run(&args), run(&[&["--dry-run"], &args[..]].concat()));
        assert_ne!(real.code, Some(0), "{args:?}");
        assert_eq!((dry.code, dry.stderr), (real.code, real.stderr), "{args:?}");
    }
    drop(held);
    dir.file("f", "old");
    assert_eq!(dir.snapshot("f").inode, before.inode);
    if needs_root() {
        dir.open_to_all();
        for (name, mode) in [("closed", 0o444), ("f", 0o666)] {
            dir.file_with_mode(name, "old", mode);
        }
        for args in [&["closed"][..], &["--in-place", "closed"], &["--keep-inode", "-f", "closed"], &["d/f"]] {
            let run = |args: &[&str]| dir.awrite_unprivileged(args).stdin("new").run();
            let (real, dry) = (run(args), run(&[&["--dry-run"], args].concat()));
            assert_eq!((dry.code, real.code), (Some(1), Some(1)), "{args:?}");
            assert_eq!(dry.stderr, real.stderr, "{args:?}");
        }
    }
}

#[test]
fn it_exits_as_the_write_would() {
    let dir = TestDir::new();
    dir.file("f", "same");
    let run = |input: &str| {
        let args = ["--dry-run", "--if-changed", "--unchanged-exit-code=77", "f"];
        dir.awrite(args).stdin(input).run().code
    };
    assert_eq!((run("same"), run("other")), (Some(77), Some(0)));
}

#[test]
fn it_is_an_event() {
    let dir = TestDir::new();
    dir.file("f", "same");
    for (input, changed) in [("same", false), ("longer", true)] {
        let done = dir.awrite(["--dry-run", "--if-changed", "--json", "f"]).stdin(input).run();
        let events: Vec<Value> = done.ok().stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["lock_acquired", "would_replace", "lock_released"]);
        let event = &events[1];
        assert_eq!((&event["path"], &event["bytes"]), (&"f".into(), &(input.len() as u64).into()));
        assert_eq!((&event["changed"], &event["level"]), (&changed.into(), &"info".into()));
    }
}

/// Whoever watches the file is not woken: it is neither renamed over nor opened to be written.
#[test]
fn nobody_notices() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    for options in ["", "-b", "--in-place", "--keep-inode", "--if-changed -m 0600"] {
        let calls = "openat,open,rename,renameat,renameat2,truncate,chmod,fchmodat,utimensat,link,linkat,fallocate";
        let script = format!("echo new | strace -f -o trace -e trace={calls} \"$BIN\" --dry-run {options} f");
        assert_eq!(dir.sh(&script).run().ok().stderr, WOULD, "{options}");
        let trace = dir.read("trace");
        let names_f = |line: &&str| line.contains("\"f\"");
        assert!(trace.lines().any(|line| names_f(&line) && line.contains("O_RDONLY")) || options.is_empty(), "{trace}");
        // A backup is prepared as a link to it.
        for line in trace.lines().filter(names_f).filter(|line| !(options == "-b" && line.contains("linkat"))) {
            assert!(line.contains("O_RDONLY"), "{options}: {line}");
        }
    }
}

/// A name that stays on release is there to stay.
#[test]
fn a_lock_that_is_kept_is_kept() {
    let dir = TestDir::new();
    dir.awrite(["--dry-run", "--keep-lock", "f"]).stdin("new").run().ok();
    dir.assert_holds(&["f.lock"]);
}
