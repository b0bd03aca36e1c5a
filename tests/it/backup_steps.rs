//! The steps of a write with a backup, one by one: what is synced before what, and what a failure at each of them leaves.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Signal, kill_process};

use crate::common::{AWRITE, Held, TestDir, needs_strace, temp_name, wait_until};

/// The calls of a write with these options that succeed, with the paths behind descriptors.
fn calls(dir: &TestDir, options: &[&str]) -> Vec<String> {
    let (place, calls) = (TestDir::new(), "trace=fsync,fdatasync,renameat,renameat2,pwrite64,write,ftruncate");
    let trace = place.join("trace");
    let words = ["-f", "-y", "-o", trace.to_str().unwrap(), "-e", calls, AWRITE];
    dir.program("strace", words.iter().chain(options).chain(&["f"])).stdin("new").quiet_success();
    fs::read_to_string(trace).unwrap().lines().filter(|line| !line.contains(" = -1 ")).map(str::to_owned).collect()
}

/// The backup's own directory is synced after the backup has its name, and before the target is touched.
#[test]
fn a_backup_is_durable_before_the_target_changes() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.dir("bd");
    // Where the backup's directory is, and whether the target's directory is synced later anyway.
    for (options, needs_sync) in [
        (&["--backup-dir=bd"][..], true),
        (&["--backup-dir=bd", "--sync=data"], true),
        (&["--backup-dir=bd", "--backup-timestamp"], true),
        (&["--backup-dir=bd", "--keep-inode"], true),
        (&["--backup", "--keep-inode"], true),
        (&["--backup"], false),
        (&["--backup-dir=bd", "--sync=none"], false),
    ] {
        dir.file("f", "old");
        let calls = calls(&dir, options);
        let at = |what: &str| {
            let found = calls.iter().position(|call| what.split(' ').all(|part| call.contains(part)));
            found.unwrap_or_else(|| panic!("{options:?}: no {what}: {calls:?}"))
        };
        let place = if options[0].contains("dir") { "/bd>" } else { &format!("{}>", dir.path().display()) };
        let named = at("renameat2 backup");
        let replaced = if options.contains(&"--keep-inode") { at("ftruncate /f>") } else { at("renameat( \"f\"") };
        let synced = calls.iter().position(|call| call.contains("fsync") && call.contains(place));
        match needs_sync {
            true => assert!(synced.is_some_and(|synced| named < synced && synced < replaced), "{options:?}: {calls:?}"),
            false => assert!(synced.is_none_or(|synced| replaced < synced), "{options:?}: {calls:?}"),
        }
    }
}

/// Only where names cannot be exchanged at all is an earlier backup replaced for good.
#[test]
fn an_exchange_that_fails_leaves_the_earlier_backup() {
    if !needs_strace() {
        return;
    }
    for injections in [
        &["renameat2:error=EIO:when=2"][..],
        &["renameat2:error=EINVAL", "unlinkat:error=EIO:when=1"],
        &["renameat2:error=EINVAL", "renameat:error=EIO:when=1"],
    ] {
        let dir = TestDir::new();
        dir.file("f", "old");
        dir.file("f.backup", "earlier");
        let injections: Vec<String> = injections.iter().map(|injection| format!("inject={injection}")).collect();
        let words = injections.iter().flat_map(|injection| ["-e", injection]);
        let words = ["-f", "-o", "/dev/null"].into_iter().chain(words).chain([AWRITE, "-b", "f"]);
        dir.program("strace", words).stdin("new").run().assert_says(1, "cannot make the backup");
        assert_eq!(dir.read("f"), "old");
        let backup = dir.read("f.backup");
        // Where the new one has replaced it, its temporary name could not be removed.
        assert!(
            backup == "earlier" || injections.iter().any(|injection| injection.contains("unlinkat")) && backup == "old",
            "{injections:?}"
        );
    }
}

/// A housekeeper removes the earlier backup between two attempts. Or a stranger the new one, which is then made by nobody.
#[test]
fn a_backup_that_vanishes_at_the_last_moment() {
    if !needs_strace() {
        return;
    }
    for (vanishes, code, left) in [("f.backup", 0, &["f", "f.backup"][..]), (".awrite-", 1, &["f", "f.backup"])] {
        let dir = TestDir::new();
        dir.file("f", "old");
        dir.file("f.backup", "earlier");
        let stop = ["-e", "trace=renameat2", "-e", "inject=renameat2:signal=SIGSTOP:when=1"];
        let trace = TestDir::new();
        let output = trace.join("trace");
        let words = ["-f", "-o", output.to_str().unwrap()].into_iter().chain(stop).chain([AWRITE, "-b", "f"]);
        let writer = dir.program("strace", words).stdin("new").spawn();
        let mut said = String::new();
        wait_until("it has stopped", || {
            said = fs::read_to_string(&output).unwrap_or_default();
            said.contains("stopped by SIGSTOP")
        });
        for name in dir.names() {
            let is_link = || fs::read_to_string(dir.join(&name)).is_ok_and(|text| text == "old");
            let name_text = name.to_str().unwrap();
            if name_text == vanishes || (name_text.starts_with(vanishes) && is_link()) {
                fs::remove_file(dir.join(&name)).unwrap();
            }
        }
        let pid = said.split_whitespace().next().unwrap().parse().unwrap();
        kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::CONT).unwrap();
        let done = writer.finish();
        assert_eq!(done.code, Some(code), "{vanishes}: {done:?}");
        assert_eq!(dir.read("f.backup"), if code == 0 { "old" } else { "earlier" });
        dir.assert_holds(left);
    }
}

/// Before the lock is waited for.
#[test]
fn a_directory_that_is_not_there_is_said_at_once() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.file("file", "");
    let held = Held::new(&dir.join("f.lock"));
    for (options, reason) in [
        (&["--backup-dir=missing"][..], "missing: No such file or directory"),
        (&["--backup-dir=missing", "--backup-timestamp"], "missing: No such file or directory"),
        (&["--backup-dir=file", "--mkdir"], "file: Not a directory"),
        (&["--backup-dir=file", "--mkdir", "--backup-timestamp"], "file: Not a directory"),
    ] {
        let done = dir.awrite(["-n"].iter().chain(options).chain(&["f"])).stdin("new").run();
        done.assert_error(1, &format!("Error: {reason}"));
    }
    held.release();
}

/// Two files in a set, with what is to replace them, and with their earlier backups.
fn set_of_two() -> TestDir {
    let dir = TestDir::new();
    for name in ["new", "bd"] {
        dir.dir(name);
    }
    for name in ["a", "b"] {
        dir.file(name, "old");
        dir.file(format!("{name}.backup"), "earlier");
        dir.file(format!("new/{name}"), "new");
    }
    dir
}

/// Beside the files, they get their names after the commit point only.
#[test]
fn a_set_that_is_killed_has_all_its_backups_or_none() {
    if !needs_strace() {
        return;
    }
    let mut seen = std::collections::BTreeSet::new();
    for number in 1..9 {
        let dir = set_of_two();
        let inject = format!("inject=renameat,renameat2:signal=KILL:when={number}");
        let words = ["-f", "-o", "/dev/null", "-e", &inject, AWRITE, "-b", "--into", ".", "new/a", "new/b"];
        dir.program("strace", words).run();
        for name in ["a", "b"] {
            dir.lock(&[name, "--", "true"]).quiet_success();
        }
        let contents = ["a", "b", "a.backup", "b.backup"].map(|name| dir.read(name));
        assert!(
            contents == ["old", "old", "earlier", "earlier"] || contents == ["new", "new", "old", "old"],
            "{number}"
        );
        seen.insert(contents[0].clone());
    }
    assert_eq!(seen.len(), 2);
}

/// Others have made backups with these times, in a set too.
#[test]
fn a_set_s_dated_backups_replace_nothing() {
    let dir = set_of_two();
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    let others: Vec<String> = (0..100)
        .map(|seconds| {
            let time = (now + jiff::SignedDuration::from_secs(seconds)).to_zoned(jiff::tz::TimeZone::UTC);
            format!("a.{}.backup", time.strftime("%Y%m%d-%H%M%S"))
        })
        .collect();
    others.iter().for_each(|name| drop(dir.file(name, "another's")));
    let args = ["--backup-timestamp", "--into", ".", "new/a", "new/b"];
    dir.awrite(args).env("TZ", "UTC").quiet_success();
    assert!(others.iter().all(|name| dir.read(name) == "another's"));
    let made = dir.names().into_iter().find(|name| name.to_str().unwrap().ends_with("-1.backup")).unwrap();
    assert_eq!((dir.read(made), dir.read("a")), ("old".into(), "new".into()));
}

/// It is no other name of the file, which would have to be copied.
#[test]
fn the_link_of_a_dead_writer_does_not_count() {
    let dir = TestDir::new();
    let target = dir.file("f", "old");
    fs::hard_link(&target, dir.join(temp_name("f.backup"))).unwrap();
    let inode = fs::metadata(&target).unwrap().ino();
    dir.awrite(["-b", "f"]).stdin("new").quiet_success();
    assert_eq!(fs::metadata(dir.join("f.backup")).unwrap().ino(), inode);
    dir.assert_holds(&["f", "f.backup"]);
}

/// A set's backups in another directory have their names before its commit point, and lose them again if it is not reached.
#[test]
fn a_set_that_fails_takes_its_backups_back() {
    if !needs_strace() {
        return;
    }
    let mut failed = 0;
    for number in 1..8 {
        let dir = set_of_two();
        let inject = format!("inject=renameat:error=EIO:when={number}");
        let args = ["--backup-dir=bd", "--into", ".", "new/a", "new/b"];
        let words = ["-f", "-o", "/dev/null", "-e", &inject, AWRITE];
        let done = dir.program("strace", words.into_iter().chain(args)).run();
        let (contents, backups) = ([dir.read("a"), dir.read("b")], fs::read_dir(dir.join("bd")).unwrap().count());
        if contents == ["old", "old"] {
            failed += 1;
            assert_eq!((done.code, backups), (Some(1), 0), "{number}: {done:?}");
        } else {
            assert_eq!(backups, 2, "{number}: {done:?}");
        }
    }
    assert!(failed > 0);
}
