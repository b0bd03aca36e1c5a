//! New content is never more readable than the file, also before it has its name.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::{TestDir, needs_strace, wait_until};

/// The modes of all files that a process has open for writing in `dir`, named or not.
fn modes_of_staged_files(pid: u32, dir: &Path) -> Vec<u32> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    descriptors
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let shown = fs::read_link(&path).ok()?;
            let name = shown.file_name()?.to_str()?.to_owned();
            let meta = fs::metadata(&path).ok()?;
            (meta.is_file() && shown.starts_with(dir) && !name.contains(".lock") && meta.len() > 0)
                .then(|| meta.mode() & 0o777)
        })
        .collect()
}

#[test]
fn staged_content_is_never_more_readable_than_the_file() {
    let dir = TestDir::new();
    for (mode, allowed) in [(Some(0o600), 0o600), (Some(0o640), 0o640), (Some(0o604), 0o604), (None, 0o600)] {
        match mode {
            Some(mode) => drop(dir.file_with_mode("f", "old", mode)),
            // A new file below umask 077.
            None => fs::remove_file(dir.join("f")).unwrap(),
        }
        let mut writer = dir.sh("umask 077; exec \"$BIN\" --stream f").stdin_open().spawn();
        writer.feed(&vec![b'x'; 1 << 20]);
        let mut seen = Vec::new();
        let (pid, path) = (writer.id(), fs::canonicalize(dir.path()).unwrap());
        wait_until("something is staged", || {
            seen = modes_of_staged_files(pid, &path);
            !seen.is_empty()
        });
        for mode in seen {
            assert_eq!(mode & !allowed, 0, "staged with {mode:o} for {allowed:o}");
        }
        writer.finish().ok();
        assert_eq!(dir.mode("f"), allowed);
    }
}

/// If the temporary file has a name, another user could open it before its mode is narrowed, and read it later.
#[test]
fn a_named_stage_is_private_from_its_first_moment() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let run = |injection: &str| {
        let strace = ["-f", "-o", "trace", "-e", "trace=openat,renameat,renameat2", "-e", injection];
        let script = format!("umask 022; exec strace {} \"$BIN\" --lock-on-commit f", strace.join(" "));
        dir.sh(&script).stdin("new").run().ok();
        dir.read("trace")
    };
    let trace = run("signal=none");
    let number = trace.lines().filter(|line| line.contains("openat(")).position(|line| line.contains("O_TMPFILE"));
    let Some(number) = number else { return };
    let without = format!("inject=openat:error=EOPNOTSUPP:when={}", number + 1);
    for old in [None, Some(0o600), Some(0o640)] {
        fs::remove_file(dir.join("f")).unwrap();
        if let Some(mode) = old {
            dir.file_with_mode("f", "old", mode);
        }
        let trace = run(&without);
        let name =
            trace.lines().find(|line| line.contains("renameat")).and_then(|line| line.split('"').nth(1)).unwrap();
        let made = trace.lines().find(|line| line.contains("openat(") && line.contains(name)).unwrap();
        assert!(made.contains("O_EXCL") && made.contains(", 0600)"), "{made}");
        assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new", old.unwrap_or(0o644)));
        dir.assert_holds(&["f", "trace"]);
    }
}

#[test]
fn content_staged_for_a_given_mode_is_no_more_readable() {
    let dir = TestDir::new();
    let mut writer = dir.sh("umask 000; exec \"$BIN\" --stream --mode 600 f").stdin_open().spawn();
    writer.feed(&vec![b'x'; 1 << 20]);
    let (pid, path) = (writer.id(), fs::canonicalize(dir.path()).unwrap());
    wait_until("something is staged", || !modes_of_staged_files(pid, &path).is_empty());
    assert_eq!(modes_of_staged_files(pid, &path), [0o600]);
    writer.finish().ok();
    assert_eq!(dir.mode("f"), 0o600);
}
