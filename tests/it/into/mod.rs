//! `awrite --into DIR FILE...`: files are put into a directory together.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::common::{Run, TestDir, chmod, lock_is_held, needs, temp_name, wait_until};

/// `awrite --into d ARGS`.
fn into(dir: &TestDir, args: &[&str]) -> Run {
    dir.awrite([&["--into", "d"], args].concat())
}

/// A tree of three files, and a directory that has two of them already.
fn tree() -> TestDir {
    let dir = TestDir::new();
    for made in ["build", "build/bin", "d", "d/bin"] {
        dir.dir(made);
    }
    dir.file_with_mode("build/app.conf", "port 2\n", 0o600);
    dir.file_with_mode("build/bin/run", "#!/bin/sh\n", 0o755);
    dir.file("build/same", "the same\n");
    dir.file_with_mode("d/app.conf", "port 1\n", 0o640);
    dir.file("d/same", "the same\n");
    dir.file("d/other", "not ours\n");
    dir
}

#[track_caller]
fn assert_holds(dir: &TestDir, under: &str, names: &[&str]) {
    crate::common::assert_no_debris(&dir.join(under), names);
}

#[test]
fn a_tree_replaces_what_is_below() {
    let dir = tree();
    let before = [dir.snapshot("d/same"), dir.snapshot("d/other")];
    let done = into(&dir, &["-v", "build/"]).run();
    done.ok();
    assert_eq!((dir.read("d/app.conf").as_str(), dir.read("d/bin/run").as_str()), ("port 2\n", "#!/bin/sh\n"));
    // What was there keeps its mode; what is new has that of its source.
    assert_eq!((dir.mode("d/app.conf"), dir.mode("d/bin/run")), (0o640, 0o755));
    assert_eq!([dir.snapshot("d/same"), dir.snapshot("d/other")], before);
    for line in ["Wrote d/app.conf (7 bytes)", "Wrote d/bin/run (10 bytes)", "Unchanged: d/same (9 bytes)"] {
        assert!(done.lines().contains(&line), "{line}: {done:?}");
    }
    assert_holds(&dir, "d", &["app.conf", "bin", "other", "same"]);
    assert_holds(&dir, "d/bin", &["run"]);
    let before = ["d/app.conf", "d/bin/run"].map(|name| dir.snapshot(name));
    into(&dir, &["build"]).quiet_success();
    assert_eq!(["d/app.conf", "d/bin/run"].map(|name| dir.snapshot(name)), before);
}

#[test]
fn files_replace_those_of_their_names() {
    let dir = tree();
    dir.dir("more");
    dir.file("more/x", "");
    symlink("../build/same", dir.join("more/y")).unwrap();
    // A link that is named itself is followed, and an empty file may be new.
    let done = into(&dir, &["-bv", "build/app.conf", "more/x", "more/y"]).run();
    assert!(done.ok().stderr.contains("Backed up d/app.conf to d/app.conf.backup\n"), "{done:?}");
    assert_eq!((dir.read("d/app.conf").as_str(), dir.read("d/app.conf.backup").as_str()), ("port 2\n", "port 1\n"));
    assert_eq!((dir.read("d/x").as_str(), dir.read("d/y").as_str()), ("", "the same\n"));
    assert!(fs::symlink_metadata(dir.join("d/y")).unwrap().is_file());
    into(&dir, &["-m", "604", "build", "more/x"]).quiet_success();
    for name in ["d/app.conf", "d/bin/run", "d/same", "d/x"] {
        assert_eq!(dir.mode(name), 0o604, "{name}");
    }
    // A link in DIR stays one.
    symlink("../outside", dir.join("d/link")).unwrap();
    dir.file("link", "through\n");
    into(&dir, &["link"]).quiet_success();
    assert_eq!(dir.read("outside"), "through\n");
    assert!(fs::symlink_metadata(dir.join("d/link")).unwrap().is_symlink());
}

#[test]
fn a_new_file_is_no_more_open_than_the_umask_allows() {
    let dir = tree();
    dir.file_with_mode("build/open", "x", 0o777);
    dir.file_with_mode("build/set-id", "x", 0o6755);
    dir.sh("umask 027 && \"$BIN\" --into d build/open build/set-id build/bin/run").quiet_success();
    assert_eq!((dir.mode("d/open"), dir.mode("d/set-id"), dir.mode("d/run")), (0o750, 0o750, 0o750));
    dir.file_with_mode("build/secret", "x", 0o400);
    into(&dir, &["build/secret"]).quiet_success();
    assert_eq!(dir.mode("d/secret"), 0o400);
}

#[test]
fn missing_directories_are_made_on_request() {
    let dir = tree();
    dir.dir("build/a");
    dir.dir("build/a/b");
    dir.file("build/a/b/c", "deep\n");
    let before = dir.snapshot("d/app.conf");
    let done = into(&dir, &["build"]).run();
    done.assert_error(1, "Error: d/a/b/c: No such file or directory");
    done.assert_hint("use awrite --mkdir");
    assert_eq!(dir.snapshot("d/app.conf"), before);
    assert_holds(&dir, "d", &["app.conf", "bin", "other", "same"]);
    into(&dir, &["-D", "build"]).quiet_success();
    assert_eq!(dir.read("d/a/b/c"), "deep\n");
    dir.awrite(["-D", "--into", "new/dir", "build"]).quiet_success();
    assert_eq!(dir.read("new/dir/a/b/c"), "deep\n");
}

/// Each is found before anything is made or replaced.
#[test]
fn what_cannot_be_put_there_is_an_error_and_changes_nothing() {
    let dir = tree();
    dir.dir("other");
    dir.file("other/app.conf", "port 3\n");
    dir.file("other/empty", "");
    dir.dir("none");
    dir.dir("bad");
    dir.file("bad/bin", "is a directory there\n");
    dir.file("d/empty", "not empty\n");
    let before = dir.snapshot("d/app.conf");
    let error = |args: &[&str], line: &str| {
        into(&dir, args).run().assert_error(1, line);
        assert_eq!(dir.snapshot("d/app.conf"), before);
        assert_holds(&dir, "d", &["app.conf", "bin", "empty", "other", "same"]);
    };
    error(&["build", "other/app.conf"], "Error: other/app.conf: would replace d/app.conf, as build/app.conf would");
    error(&["build", "missing"], "Error: missing: No such file or directory");
    error(&["build/app.conf", "bad"], "Error: d/bin: Is a directory");
    error(&["none"], "Error: none: No files in it");
    error(&["build/app.conf", "other/empty"], "Error: other/empty: is empty, and d/empty is not");
    error(&["--validate", "false", "build"], "Error: validation failed: exit status 1");
    error(&["--lock-file", "l", "build"], "Error: l: one lock file cannot be the lock of several targets");
    into(&dir, &["."]).run().assert_error_with(1, &[".: contains", "which its files are for"]);
    into(&dir, &["d"]).run().assert_error_with(1, &["d: contains", "which its files are for"]);
    symlink("app.conf", dir.join("build/link")).unwrap();
    error(&["build"], "Error: build/link: is a symbolic link, which --into does not copy");
    fs::remove_file(dir.join("build/link")).unwrap();
    if needs("mkfifo") {
        dir.sh("mkfifo build/pipe").quiet_success();
        error(&["build"], "Error: build/pipe: is a FIFO, not a regular file");
        error(&["build/pipe"], "Error: build/pipe: is a FIFO, not a regular file");
        fs::remove_file(dir.join("build/pipe")).unwrap();
    }
    into(&dir, &["--allow-empty", "other/empty"]).quiet_success();
    assert_eq!(dir.read("d/empty"), "");
    dir.awrite(["--into", "d/app.conf", "build"]).run().assert_error_with(1, &["not a directory"]);
}

/// Temporary files, locks and leases in the tree are not a part of it; other programs' files of such names are.
#[test]
fn what_awrite_made_in_the_tree_is_left_out() {
    let dir = tree();
    dir.file("build/app.conf.lock", "");
    dir.file("build/app.conf.lease", "{}");
    dir.file(Path::new("build").join(temp_name("app.conf")), "half");
    dir.file("build/yarn.lock", "");
    dir.file("build/poetry.lock", "content\n");
    let done = into(&dir, &["-v", "build"]).run();
    done.ok();
    assert!(done.stderr.contains("build/app.conf.lock: left out: awrite made it\n"), "{done:?}");
    assert_holds(&dir, "d", &["app.conf", "bin", "other", "poetry.lock", "same", "yarn.lock"]);
}

#[test]
fn one_check_of_all_files_under_their_names() {
    let dir = tree();
    let check =
        "cd \"$AWRITE_DIR\" && grep -q 2 app.conf && test -s bin/run && grep -q same same && touch \"$HERE\"/asked";
    into(&dir, &["--validate", check, "build"]).env("HERE", dir.path()).quiet_success();
    assert_eq!(dir.read("d/app.conf"), "port 2\n");
    fs::remove_file(dir.join("asked")).unwrap();
    into(&dir, &["--validate", check, "build"]).env("HERE", dir.path()).quiet_success();
    assert!(!dir.join("asked").exists(), "nothing changes");
}

#[test]
fn all_locks_are_taken_first() {
    let dir = tree();
    let mut held = dir.awrite(["lock", "d/same", "--", "sh", "-c", "touch held; read -r _"]).stdin_open().spawn();
    wait_until("the lock is held", || dir.join("held").exists());
    into(&dir, &["-n", "build"]).run().assert_error(2, "Error: d/same: File locked by another process");
    assert_eq!(dir.read("d/app.conf"), "port 1\n");
    let mut waiting = into(&dir, &["build"]).spawn();
    waiting.wait_for_waiting();
    assert!(lock_is_held(&dir.join("d/app.conf.lock")), "in one order: this comes first");
    held.feed(b"\n");
    held.finish().ok();
    waiting.finish().ok();
    assert_eq!(dir.read("d/app.conf"), "port 2\n");
    assert_holds(&dir, "d", &["app.conf", "bin", "other", "same"]);
}

#[test]
fn another_users_lease_keeps_it_out() {
    let dir = tree();
    dir.awrite(["lock", "--acquire", "--owner", "A", "--ttl", "60s", "d/app.conf"]).run().ok();
    into(&dir, &["-n", "build"]).run().assert_error_with(2, &["d/app.conf: leased by a"]);
    assert!(!dir.join("d/bin/run").exists());
    into(&dir, &["-n", "--owner", "A", "build/app.conf"]).quiet_success();
    assert_eq!(dir.read("d/app.conf"), "port 2\n");
}

/// More files than descriptors may be open at first.
#[test]
fn as_many_as_there_are() {
    let dir = TestDir::new();
    dir.dir("build");
    for number in 0..300 {
        dir.file(format!("build/{number}"), format!("{number}\n"));
    }
    dir.sh("ulimit -Sn 128 && \"$BIN\" -D --into d --validate 'test $(ulimit -Sn) = 128' build").quiet_success();
    assert_eq!(fs::read_dir(dir.join("d")).unwrap().count(), 300);
    assert_eq!(dir.read("d/299"), "299\n");
    assert_eq!(fs::metadata(dir.join("d/7")).unwrap().nlink(), 1);
    chmod(&dir.join("d"), 0o755);
}

#[test]
fn expectations_and_the_status_are_about_the_files_in_the_directory() {
    let dir = tree();
    let digest = dir.awrite(["--digest", "d/app.conf"]).run().stdout.trim().to_owned();
    let expected = format!("d/app.conf={digest}");
    into(&dir, &["--if-match", &expected, "--unchanged-exit-code", "9", "build"]).quiet_success();
    into(&dir, &["--unchanged-exit-code", "9", "build"]).run().assert_code(9);
    into(&dir, &["--if-match", &expected, "build"]).run().assert_error(4, "Error: d/app.conf: Not what was expected");
    into(&dir, &["--if-match", "no=absent", "build"]).run().assert_error_with(1, &["'no' is no output"]);
}

/// One that stays as it is may be what the others were made from.
#[test]
fn an_expectation_of_a_file_that_stays_as_it_is_counts_until_the_commit() {
    let dir = tree();
    into(&dir, &["build"]).quiet_success();
    let digest = dir.awrite(["--digest", "d/app.conf"]).run().stdout.trim().to_owned();
    let expected = format!("d/app.conf={digest}");
    let other = fs::read_dir(dir.join("build"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| entry.file_type().unwrap().is_file() && entry.file_name() != "app.conf");
    let other = other.unwrap().file_name().into_string().unwrap();
    let before = dir.read(format!("d/{other}"));
    dir.file(format!("build/{other}"), "another\n");
    let meanwhile = ["--if-match", &expected, "--validate", "echo by hand >d/app.conf", "build"];
    into(&dir, &meanwhile).run().assert_error(4, "Error: d/app.conf: Not what was expected");
    assert_eq!(dir.read(format!("d/{other}")), before);
}
