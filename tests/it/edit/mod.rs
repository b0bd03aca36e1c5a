//! `awrite -e OUTPUT... -- COMMAND`: programs that edit files.

mod refused;
mod several;
mod signals;
mod terminal;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::common::{AWRITE, Run, TestDir, lock_is_held, needs, wait_until};

/// `awrite ARGS`, with a directory of the test's own for the copies.
fn awrite(dir: &TestDir, args: &[&str]) -> Run {
    let copies = dir.join("tmp");
    fs::create_dir_all(&copies).unwrap();
    dir.awrite(args).env("TMPDIR", copies)
}

/// No copy is left, and nothing else either.
#[track_caller]
fn assert_holds(dir: &TestDir, names: &[&str]) {
    dir.assert_holds(&[names, &["tmp"]].concat());
    assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
}

#[test]
fn programs_that_edit_files() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "[a]\n\tb = 1\n", 0o640);
    awrite(&dir, &["-e", "f", "--", "sed", "-i", "s/1/2/"]).quiet_success();
    assert_eq!(dir.read("f"), "[a]\n\tb = 2\n");
    if needs("git") {
        awrite(&dir, &["-e", "f", "--", "sh", "-c", "git config -f \"$1\" a.b 3", "sh"]).quiet_success();
        assert_eq!(dir.read("f"), "[a]\n\tb = 3\n");
    }
    if needs("ed") {
        awrite(&dir, &["-e", "f", "--", "ed", "-s"]).stdin("2s/[0-9]/4/\nw\nq\n").quiet_success();
        assert_eq!(dir.read("f"), "[a]\n\tb = 4\n");
    }
    if needs("ex") {
        awrite(&dir, &["-e", "f", "--", "ex", "-s"]).stdin("2s/4/5/\nwq\n").quiet_success();
        assert_eq!(dir.read("f"), "[a]\n\tb = 5\n");
    }
    if needs("patch") {
        let patch = "--- f\n+++ f\n@@ -1,2 +1,2 @@\n [a]\n-\tb = 5\n+\tb = 6\n";
        dir.file("f", "[a]\n\tb = 5\n");
        awrite(&dir, &["-e", "f", "--", "patch", "-s"]).stdin(patch).quiet_success();
        assert_eq!(dir.read("f"), "[a]\n\tb = 6\n");
    }
    assert_eq!(dir.mode("f"), 0o640);
    assert_holds(&dir, &["f"]);
}

#[test]
fn command_gets_a_private_copy_and_all_else_as_it_is() {
    let dir = TestDir::new();
    dir.dir("d");
    dir.file_with_mode("d/f", "old\n", 0o444);
    let script = r#"cat; stat -c '%a %n' "$AWRITE_DIR" "$@" | sed "s|$AWRITE_DIR|DIR|"; cat "$4"; echo new >"$4"; pwd"#;
    let done = awrite(&dir, &["-fe", "d/f", "--", "sh", "-c", script, "sh", "*", "", "--"]).stdin("typed\n").run();
    done.ok();
    let here = fs::canonicalize(dir.path()).unwrap();
    assert!(done.stdout.starts_with("typed\n700 DIR\n"), "{done:?}");
    assert!(done.stdout.ends_with(&format!("\n644 DIR/f\nold\n{}\n", here.display())), "{done:?}");
    assert_eq!(dir.read("d/f"), "new\n");
    // That of OUTPUT, not of the copy.
    assert_eq!(dir.mode("d/f"), 0o444);
    assert_holds(&dir, &["d"]);
    dir.file("f", "old\n");
    awrite(&dir, &["-e", "f", "--", "sh", "-c", "chmod 777 \"$1\" && echo x >>\"$1\"", "sh"]).quiet_success();
    assert_eq!((dir.mode("f"), dir.read("f")), (0o644, "old\nx\n".to_owned()));
}

/// What has the name counts. Backups and the like go.
#[test]
fn a_copy_may_be_replaced_and_have_company() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let script = r#"cd "$AWRITE_DIR" && cp f f~ && mkdir d && touch .f.swp d/x && echo new >g && mv g f"#;
    awrite(&dir, &["-e", "f", "--", "sh", "-c", script]).quiet_success();
    assert_eq!(dir.read("f"), "new\n");
    // A directory that cannot be emptied by anybody but root.
    awrite(&dir, &["-e", "f", "--", "sh", "-c", "echo newer >$AWRITE_DIR/f; ln -s / $AWRITE_DIR/root"]).quiet_success();
    assert_eq!(dir.read("f"), "newer\n");
    assert_holds(&dir, &["f"]);
}

#[test]
fn what_command_leaves_as_it_was_stays_untouched() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    dir.file("empty", "");
    for (name, script) in [("f", "true"), ("f", "sed -i s/x/y/ \"$1\""), ("f", "touch \"$1\""), ("empty", "true")] {
        let before = dir.snapshot(name);
        let done = awrite(&dir, &["-vbe", name, "--", "sh", "-c", script, "sh"]).run();
        done.ok();
        assert_eq!(dir.snapshot(name), before);
        assert!(done.stderr.contains(&format!("\nUnchanged: {name} ({} bytes)\n", dir.read(name).len())), "{done:?}");
    }
    assert_holds(&dir, &["empty", "f"]);
}

/// There is no copy, and the file is what COMMAND makes, as it makes it.
#[test]
fn a_new_file_is_made_by_command() {
    let dir = TestDir::new();
    let script = r#"test ! -e "$1" && umask 077 && echo secret >"$1""#;
    awrite(&dir, &["-De", "d/key", "--", "sh", "-c", script, "sh"]).quiet_success();
    assert_eq!((dir.read("d/key").as_str(), dir.mode("d/key")), ("secret\n", 0o600));
    awrite(&dir, &["-e", "-m", "640", "other", "--", "sh", "-c", script, "sh"]).quiet_success();
    assert_eq!(dir.mode("other"), 0o640);
    awrite(&dir, &["-e", "run", "--", "sh", "-c", r#"echo x >"$1"; chmod 4755 "$1""#, "sh"]).quiet_success();
    assert_eq!(dir.mode("run"), 0o755);
    let done = awrite(&dir, &["-ve", "none", "--", "true"]).run();
    done.ok();
    assert!(done.stderr.contains("none: COMMAND made no such file\n"), "{done:?}");
    assert_holds(&dir, &["d", "other", "run"]);
}

#[test]
fn what_a_write_can_do_an_edit_can() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    symlink("f", dir.join("link")).unwrap();
    let edit = ["--", "sed", "-i", "s/$/!/"];
    // The check sees the new content, and its name.
    let check = r#"grep -q '!$' && case $AWRITE_NEW in */*f) ! test "$AWRITE_NEW" = f ;; *) false ;; esac"#;
    awrite(&dir, &[&["-be", "-m", "600", "--validate", check, "link"][..], &edit].concat()).quiet_success();
    assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str(), dir.mode("f")), ("old!\n", "old\n", 0o600));
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
    let before = dir.snapshot("f");
    awrite(&dir, &[&["-e", "--validate", "false", "f"][..], &edit].concat())
        .run()
        .assert_error(1, "Error: f: validation failed: exit status 1");
    assert_eq!(dir.snapshot("f"), before);
    awrite(&dir, &[&["-e", "--no-follow", "link"][..], &edit].concat()).quiet_success();
    assert_eq!(dir.read("link"), "old!!\n");
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_file());
    assert_eq!(dir.snapshot("f"), before);
    let lease = dir.awrite(["lock", "--acquire", "--owner", "A", "--ttl", "60s", "f"]).run();
    lease.ok();
    awrite(&dir, &[&["-ne", "f"][..], &edit].concat()).run().assert_code(2);
    awrite(&dir, &[&["-ne", "--owner", "A", "f"][..], &edit].concat()).quiet_success();
    assert_eq!(dir.read("f"), "old!!\n");
    dir.awrite(["lock", "--release", "--owner", "A", "f"]).run().ok();
    let done = awrite(&dir, &[&["--json", "-e", "f"][..], &edit].concat()).run();
    done.ok();
    assert!(done.stderr.contains(r#""event":"committed""#) && done.stderr.contains(r#""changed":true"#), "{done:?}");
}

#[test]
fn the_lock_is_held_while_command_runs_and_handed_to_it() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let mut edit = awrite(&dir, &["-e", "f", "--", "sh", "-c", r#"touch begun; read -r go; echo "$go" >"$1""#, "sh"])
        .stdin_open()
        .spawn();
    wait_until("COMMAND has begun", || dir.join("begun").exists());
    assert!(lock_is_held(&dir.join("f.lock")));
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    edit.feed(b"new\n");
    edit.finish().ok();
    assert_eq!(dir.read("f"), "new\n");
    let nested = format!("test -n \"$AWRITE_HELD\" && '{AWRITE}' lock f -- sed -i s/new/newer/ \"$1\"");
    awrite(&dir, &["-e", "f", "--", "sh", "-c", &nested, "sh"]).quiet_success();
    assert_eq!(dir.read("f"), "newer\n");
    dir.assert_holds(&["begun", "f", "tmp"]);
}

/// Two at once: no change is lost.
#[test]
fn edits_take_turns() {
    let dir = TestDir::new();
    dir.file("f", "");
    let line = |number: usize| format!("echo {number} >>\"$1\"");
    let edits: Vec<_> =
        (0..8).map(|number| awrite(&dir, &["-qe", "f", "--", "sh", "-c", &line(number), "sh"]).spawn()).collect();
    for edit in edits {
        edit.finish().ok();
    }
    let text = dir.read("f");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert_holds(&dir, &["f"]);
}

#[test]
fn holes_stay_holes() {
    let dir = TestDir::on_disk();
    let file = fs::File::create(dir.join("f")).unwrap();
    file.set_len(64 << 20).unwrap();
    drop(file);
    let is_sparse = |path: &std::path::Path| fs::metadata(path).unwrap().blocks() < 2048;
    if !is_sparse(&dir.join("f")) {
        return;
    }
    let script = r#"stat -c %b "$1" && printf x | dd of="$1" conv=notrunc status=none"#;
    let done = dir.awrite(["-e", "f", "--", "sh", "-c", script, "sh"]).run();
    done.ok();
    assert!(done.stdout.trim().parse::<u64>().unwrap() < 2048, "{done:?}");
    assert!(is_sparse(&dir.join("f")) && fs::metadata(dir.join("f")).unwrap().len() == 64 << 20);
}

/// An image without /tmp, or one that is full of others' rules.
#[test]
fn copies_go_where_there_is_room() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old\n", 0o666);
    let where_is = ["-e", "f", "--", "sh", "-c", "dirname \"$AWRITE_DIR\"; echo x >>\"$1\"", "sh"];
    let done = dir.awrite(where_is).env("TMPDIR", dir.join("missing")).run();
    done.ok();
    assert_eq!(done.stdout, "/tmp\n");
    dir.dir("tmp");
    // Relative, and COMMAND elsewhere.
    let script = "cd / && dirname \"$AWRITE_DIR\" && echo x >>\"$1\"";
    let done = dir.awrite(["-e", "f", "--", "sh", "-c", script, "sh"]).env("TMPDIR", "tmp").run();
    done.ok();
    assert!(done.stdout.starts_with('/') && done.stdout.ends_with("/tmp\n"), "{done:?}");
    assert_eq!(dir.read("f"), "old\nx\nx\n");
    fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o755)).unwrap();
}
