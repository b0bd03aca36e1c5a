//! What is refused, and what goes wrong.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::{housekeep, leftovers, listed, set, tree};
use crate::common::{AWRITE, NOBODY, TestDir, chmod, is_root, needs_full, needs_mount, needs_strace, rounds};
use crate::filesystems::Mount;

#[test]
fn bad_usage_touches_nothing() {
    let dir = leftovers();
    let before = tree(dir.path());
    for (args, reason) in [
        (&[][..], "nothing to do: name --all, --clean-locks, --clean-backups or --clean-temps"),
        (&["-r", "--dry-run"], "nothing to do: name --all, --clean-locks, --clean-backups or --clean-temps"),
        (&["--all", "--older-than", "soon"], "--older-than: 'soon' is not an age such as 30m, 2h or 7d"),
        (&["--all", "--older-than", "-1"], "--older-than: '-1' is not an age such as 30m, 2h or 7d"),
        (&["--all", "--older-than", "7x"], "--older-than: '7x' is not an age such as 30m, 2h or 7d"),
        (&["--all", "--older-than="], "--older-than: '' is not an age such as 30m, 2h or 7d"),
        (&["--all", "--keep-newest", "-1"], "--keep-newest: '-1' is not a number of backups"),
        (&["--all", "--keep-newest", "1.5"], "--keep-newest: '1.5' is not a number of backups"),
        (&["--all", "--keep-newest=two"], "--keep-newest: 'two' is not a number of backups"),
        (&["--all", "--backup-suffix", ""], "--backup-suffix: an empty suffix would name the file itself"),
        (&["--all", "--backup-suffix", ".x.lock"], "--backup-suffix: '.x.lock' would take lock files for backups"),
        (&["--all", "--backup-suffix=.lease"], "--backup-suffix: '.lease' would take leases for backups"),
        (&["--all", "--locks-older-than=x"], "--locks-older-than: 'x' is not an age such as 30m, 2h or 7d"),
        (&["--all", "sub", "other"], "'other': unexpected argument"),
    ] {
        let done = housekeep(&dir, args.iter().copied()).run();
        done.assert_error(1, &format!("Error: {reason}")).assert_hint("run 'awrite-housekeep --help'");
    }
    let both = housekeep(&dir, ["--all", "--json", "-0"]).run();
    assert!(both.assert_code(1).stderr.contains("--null and --json exclude each other"), "{both:?}");
    for args in [&["--all", "--older-than"][..], &["--all", "--keep-newest"], &["--everything"], &["--all", "--wait"]] {
        housekeep(&dir, args.iter().copied()).run().assert_code(1).assert_hint("run 'awrite-housekeep --help'");
    }
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn dir_must_be_a_directory() {
    let dir = leftovers();
    housekeep(&dir, ["--all", "missing"]).run().assert_error(1, "Error: missing: No such file or directory");
    housekeep(&dir, ["--all", "f.lock"]).run().assert_error(1, "Error: f.lock: Not a directory");
    housekeep(&dir, ["--all", ""]).run().assert_code(1);
    assert!(dir.join("f.lock").exists());
}

#[test]
fn what_cannot_be_read_or_deleted_is_reported_and_the_rest_goes_on() {
    let dir = TestDir::new();
    dir.open_to_all();
    for name in ["a", "closed", "fixed", "z"] {
        dir.dir(name);
        dir.file(format!("{name}/f.lock"), "");
    }
    // A file with content is no lock file, so it is no failure that it cannot be opened.
    dir.file_with_mode("a/secret.lock", "x", 0o600);
    if is_root() {
        for name in ["a", "z"] {
            std::os::unix::fs::chown(dir.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    chmod(&dir.join("closed"), 0o000);
    chmod(&dir.join("fixed"), 0o555);
    let done = dir.awrite_unprivileged(["housekeep", "--clean-locks", "-r"]).run();
    done.assert_code(1);
    assert_eq!(listed(&done), set(&["a/f.lock", "z/f.lock"]));
    for line in [
        "Error: ./closed: Permission denied",
        "Error: ./fixed/f.lock: Permission denied",
        "Deleted 2 lock files; 2 failures",
    ] {
        assert!(done.lines().contains(&line), "{line:?} {done:?}");
    }
    chmod(&dir.join("closed"), 0o755);
    chmod(&dir.join("fixed"), 0o755);
    assert_eq!(tree(dir.path()), set(&["a", "a/secret.lock", "closed", "closed/f.lock", "fixed", "fixed/f.lock", "z"]));
}

#[test]
fn a_read_only_file_system_is_reported() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("ro");
    let mount = Mount::tmpfs("size=1m", &at);
    dir.file("ro/f.lock", "");
    dir.file("ro/g.lock", "");
    mount.remount("ro");
    let done = housekeep(&dir, ["--clean-locks", "-r"]).run();
    done.assert_code(1);
    assert_eq!(done.lines().len(), 3, "{done:?}");
    assert!(done.stderr.contains("Error: ./ro/f.lock: Read-only file system\n"), "{done:?}");
}

#[test]
fn a_signal_ends_it() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for number in 0..100 {
        dir.file(format!("{number}.lock"), "");
    }
    let args = ["-f", "-o", "/dev/null", "-e", "trace=renameat", "-e"];
    let args = args.into_iter().chain(["inject=renameat:signal=TERM:when=3", AWRITE, "housekeep", "--clean-locks"]);
    let done = dir.program("strace", args).run();
    done.assert_code(3);
    assert_eq!(done.lines()[0], "Interrupted");
    // After the current file it says how far it came.
    assert_eq!(done.lines()[1], "Deleted 3 lock files");
    let gone = listed(&done);
    assert_eq!(gone.len(), 3, "{done:?}");
    let left = tree(dir.path());
    assert!(gone.is_disjoint(&left) && left.len() == 97, "{left:?}");
}

#[test]
fn a_very_deep_tree_is_cut_off_with_an_error() {
    let dir = TestDir::new();
    let mut at = rustix::fs::open(dir.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..rounds(1500, 10_000) {
        if level < 1000 {
            rustix::fs::openat(&at, "f.lock", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
        }
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
        at = rustix::fs::openat(&at, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    dir.dir("e");
    dir.file("e/f.lock", "");
    let done = housekeep(&dir, ["--clean-locks", "-r"]).run();
    done.assert_code(1);
    assert!(done.error_line().ends_with("Too many directories inside one another (more than 500)"), "{}", done.stderr);
    assert_eq!(done.stdout.lines().count(), 500 + 1);
    assert!(!dir.join("e/f.lock").exists(), "the rest went on");
    // The standard library would need a descriptor for each level.
    dir.program("rm", ["-rf", "d"]).run().ok();
}

#[test]
fn memory_is_bounded_where_there_are_very_many_files() {
    if !needs_full() {
        return;
    }
    let dir = TestDir::made_in(if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm") } else { Path::new("/tmp") });
    const FILES: usize = 150_000;
    let filler = "x".repeat(240);
    for number in 0..FILES {
        let name = if number % 2 == 0 { format!("{number:06}{filler}.lock") } else { format!("{number:06}.backup") };
        rustix::fs::mknodat(CWD, dir.join(name), rustix::fs::FileType::RegularFile, Mode::from_raw_mode(0o600), 0)
            .unwrap();
    }
    // In KiB. The names alone are 20 MB; most of the limit is for a debug build and its stacks.
    let limit = 28 * 1024;
    let run = |args: &str| dir.sh(&format!("ulimit -v {limit}; exec \"$BIN\" housekeep {args}")).run();
    assert_eq!(run("--clean-locks --clean-backups -n").ok().stdout.lines().count(), FILES / 2);
    assert_eq!(run("--clean-locks --clean-backups -q --older-than 0").ok().stderr, "");
    dir.assert_holds(&[]);
}
