//! What it says: to people, as JSON, on a terminal.

use super::{housekeep, leftovers, listed, set};
use crate::common::{TestDir, needs, needs_strace};

#[test]
fn it_says_what_it_does() {
    let dir = leftovers();
    let done = housekeep(&dir, ["--all", "-r", "--dry-run"]).run();
    assert_eq!(done.ok().stderr, "Would delete 2 lock files, 1 backup, 1 temporary file (14 B)\n");
    let done = housekeep(&dir, ["--clean-locks", "-vv"]).run();
    assert_eq!((done.ok().stdout.as_str(), done.lines()), ("./f.lock\n", vec!["Deleted 1 lock file"]));
    let done = housekeep(&dir, ["--all", "-r", "-q"]).run();
    assert_eq!((done.ok().stdout.as_str(), done.stderr.as_str()), ("", ""));
    dir.assert_holds(&["f", "f.backup", "sub"]);

    dir.dir(".git");
    dir.file("Cargo.lock", "x");
    let done = housekeep(&dir, ["--all", "-r", "-vv"]).run();
    for line in ["./Cargo.lock: kept: not empty", "./.git: not entered: version control", "Nothing to delete"] {
        assert!(done.lines().contains(&line), "{line:?} {done:?}");
    }
    let done = housekeep(&dir, ["--all", "-r"]).run();
    assert_eq!(done.lines(), ["Nothing to delete"]);
}

#[test]
fn json_is_an_object_a_line() {
    let dir = leftovers();
    let parse = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    };
    for (args, event, dry_run) in
        [(&["--all", "--json", "-n"][..], "would_delete", true), (&["--all", "--json"], "deleted", false)]
    {
        let done = housekeep(&dir, args.iter().copied()).run();
        let deleted = parse(&done.ok().stdout);
        assert_eq!(deleted.len(), 3);
        for (kind, path, bytes) in
            [("lock", "./f.lock", 0), ("temp", "./.awrite-29623195.f", 7), ("backup", "./f.20260102-030405.backup", 7)]
        {
            let line = deleted.iter().find(|line| line["kind"] == kind).unwrap();
            assert_eq!((&line["path"], &line["bytes"]), (&path.into(), &bytes.into()), "{line}");
            assert_eq!((&line["event"], &line["level"]), (&event.into(), &"info".into()), "{line}");
            assert!(line["time"].is_string() && line["message"].is_string() && line["age_ms"].is_u64(), "{line}");
        }
        let said = parse(&done.stderr);
        assert_eq!(said.len(), 1);
        let summary = &said[0];
        assert_eq!((&summary["event"], &summary["dry_run"]), (&"summary".into(), &dry_run.into()));
        for (field, value) in
            [("locks", 1), ("backups", 1), ("temps", 1), ("bytes", 14), ("directories", 1), ("failures", 0)]
        {
            assert_eq!(summary[field], value, "{field}");
        }
    }
    let done = housekeep(&dir, ["--all", "--json", "missing"]).run();
    let error = &parse(&done.assert_code(1).stderr)[0];
    assert_eq!((&error["event"], &error["path"], &error["exit_code"]), (&"error".into(), &"missing".into(), &1.into()));
    let quiet = housekeep(&leftovers(), ["--all", "--json", "-q"]).run();
    assert_eq!((quiet.ok().stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn names_that_are_no_text_are_deleted_and_shown_on_one_line() {
    use std::os::unix::ffi::OsStrExt;
    let dir = TestDir::new();
    dir.file("new\nline.lock", "");
    dir.file(std::ffi::OsStr::from_bytes(b"\xff.lock"), "");
    dir.file("-r.lock", "");
    dir.sh("exec \"$BIN\" housekeep --clean-locks -0n >list").run().ok();
    let list = std::fs::read(dir.join("list")).unwrap();
    let mut raw: Vec<&[u8]> = list.split_inclusive(|&b| b == 0).collect();
    raw.sort_unstable();
    assert_eq!(raw, [&b"./-r.lock\0"[..], b"./new\nline.lock\0", b"./\xff.lock\0"]);
    std::fs::remove_file(dir.join("list")).unwrap();
    let done = housekeep(&dir, ["--clean-locks"]).run();
    assert_eq!(listed(done.ok()), set(&["new\\nline.lock", "\u{fffd}.lock", "-r.lock"]));
    dir.assert_holds(&[]);
}

#[test]
fn progress_is_for_terminals() {
    let dir = leftovers();
    let done = housekeep(&dir, ["--all", "--progress", "-n"]).run();
    assert_eq!(done.ok().lines().len(), 1);
    if !needs("script") || !needs_strace() {
        return;
    }
    // A fast run shows no progress, so strace makes it slow.
    let slow = "strace -o /dev/null -e trace=getdents64 -e inject=getdents64:delay_enter=300000 \"$BIN\" housekeep -rn";
    let on_a_terminal = |args: &str| dir.program("script", ["-qec", &format!("{slow} {args}"), "/dev/null"]).spawn();
    let silent = ["--clean-locks", "--clean-locks --progress -q", "--clean-locks --progress --json"];
    let (talker, quiet) = (on_a_terminal("--clean-locks --progress"), silent.map(on_a_terminal));
    let shown = talker.finish().stdout;
    assert!(shown.contains(" directories, ") && shown.contains(" names, "), "{shown}");
    for (silent, run) in silent.into_iter().zip(quiet) {
        let shown = run.finish().stdout;
        assert!(!shown.contains(" names, "), "{silent}: {shown}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = TestDir::new();
    for number in 0..5000 {
        dir.file(format!("{number}.lock"), "");
    }
    for option in ["-q", "-v", "--json"] {
        let done =
            dir.sh(&format!("{{ \"$BIN\" housekeep --clean-locks {option}; echo $? >status; }} | head -n 1")).run();
        assert_eq!((dir.read("status").as_str(), done.stderr.contains("rror")), ("0\n", false), "{done:?}");
    }
    // Standard output that is closed, and one that is full.
    dir.file("f.lock", "");
    dir.sh("\"$BIN\" housekeep --clean-locks >&-").run().ok();
    dir.file("f.lock", "");
    let done = dir.sh("\"$BIN\" housekeep --clean-locks >/dev/full").run();
    done.assert_error(1, "Error: standard output: No space left on device");
}
