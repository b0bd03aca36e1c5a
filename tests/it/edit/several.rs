//! Several OUTPUTs: all are replaced, or none.

use std::fs;
use std::os::unix::fs::symlink;

use super::{assert_holds, awrite};
use crate::common::{TestDir, lock_is_held, needs_mount, rounds, wait_until};
use crate::filesystems::Mount;

/// Three files of two directories, two of one name.
fn files() -> TestDir {
    let dir = TestDir::new();
    dir.dir("a");
    dir.dir("b");
    for name in ["a/x", "b/x", "y"] {
        dir.file_with_mode(name, format!("{name} 1\n"), 0o640);
    }
    dir
}

const NAMES: [&str; 3] = ["a/x", "b/x", "y"];

fn edit(options: &[&'static str], command: &[&'static str]) -> Vec<&'static str> {
    [options, &["-e"], &NAMES, &["--"], command].concat()
}

#[test]
fn all_are_replaced() {
    let dir = files();
    awrite(&dir, &edit(&[], &["sed", "-i", "s/1/2/"])).quiet_success();
    for name in NAMES {
        assert_eq!((dir.read(name), dir.mode(name)), (format!("{name} 2\n"), 0o640));
    }
    // Behind COMMAND's own arguments, in the order of the OUTPUTs, and below AWRITE_DIR.
    let script = r#"for f; do echo "$f" | sed "s|^$AWRITE_DIR|DIR|"; done; cat "$3"; echo 3 >"$4""#;
    let done = awrite(&dir, &edit(&["-v"], &["sh", "-c", script, "sh", "own"])).run();
    done.ok();
    assert_eq!(done.stdout, "own\nDIR/1/x\nDIR/2/x\nDIR/y\nb/x 2\n");
    assert_eq!(dir.read("y"), "3\n");
    for line in ["Unchanged: a/x (6 bytes)", "Unchanged: b/x (6 bytes)", "Wrote y (2 bytes)"] {
        assert!(done.lines().contains(&line), "{line}: {done:?}");
    }
    assert_holds(&dir, &["a", "b", "y"]);
    assert!(fs::read_dir(dir.join("a")).unwrap().count() == 1);
}

#[test]
fn or_none_is() {
    let dir = files();
    let before = NAMES.map(|name| dir.snapshot(name));
    let change = r#"sed -i s/1/2/ "$@" && "#;
    for (options, script, error) in [
        (&[][..], "exit 4", "Error: command failed: exit status 4"),
        (&[], "rm \"$2\"", "Error: b/x: COMMAND removed its copy"),
        (&[], ": >\"$3\"", "Error: y: COMMAND left it empty"),
        (&[], "ln -sf y \"$1\"", "Error: a/x: COMMAND left something else than a regular file in place of its copy"),
        (&["--validate", "exit 5"], "true", "Error: validation failed: exit status 5"),
        (&["--backup-dir", "none"], "true", "Error: b/x: cannot back it up: No such file or directory"),
    ] {
        let script = format!("{change}{script}");
        let args = [options, &["-e"], &NAMES, &["--", "sh", "-c", &script, "sh"]].concat();
        let done = awrite(&dir, &args).run();
        if error.contains("cannot back") {
            done.assert_code(1);
        } else {
            done.assert_error(1, error);
        }
        assert_eq!(NAMES.map(|name| dir.snapshot(name)), before, "{script}");
        assert_holds(&dir, &["a", "b", "y"]);
    }
    awrite(&dir, &["-e", "y", "a/x", "./y", "--", "true"]).run().assert_error_with(1, &["./y", "same file"]);
    awrite(&dir, &["-e", "y", "missing/x", "--", "true"]).run().assert_error_with(1, &["missing/x: no such file"]);
    awrite(&dir, &["-e", "y", "a", "--", "true"]).run().assert_error_with(1, &["a: is a directory"]);
    assert_holds(&dir, &["a", "b", "y"]);
}

/// It sees all the files as they will be, in the directory, and is asked once, and only if something changes.
#[test]
fn one_check_of_all() {
    let dir = files();
    let check = "test -z \"$AWRITE_NEW$AWRITE_TARGET\" && cd \"$AWRITE_DIR\" && grep -q 2 1/x && grep -q 1 2/x y && echo one >>\"$HERE\"/asked";
    for script in [r#"sed -i s/1/2/ "$1""#, "true"] {
        let args = [&["--validate", check, "-e"][..], &NAMES, &["--", "sh", "-c", script, "sh"]].concat();
        awrite(&dir, &args).env("HERE", dir.path()).quiet_success();
    }
    assert_eq!(dir.read("asked"), "one\n");
    assert_eq!(dir.read("a/x"), "a/x 2\n");
    // The same variable for one file.
    let check = r#"cmp "$AWRITE_DIR"/y "$AWRITE_NEW" && test "$AWRITE_TARGET" = y"#;
    awrite(&dir, &["--validate", check, "-e", "y", "--", "sed", "-i", "s/1/5/"]).quiet_success();
    assert_eq!(dir.read("y"), "y 5\n");
}

#[test]
fn files_are_made_and_kept_as_for_one() {
    let dir = files();
    symlink("../y", dir.join("a/link")).unwrap();
    let script = r#"test $# = 3 && test ! -e "$3" && echo new >"$3" && chmod 700 "$3" && sed -i s/1/2/ "$1""#;
    let args = ["-Dbe", "a/link", "a/x", "new/z", "--", "sh", "-c", script, "sh"];
    awrite(&dir, &args).quiet_success();
    assert_eq!(
        (dir.read("y"), dir.read("y.backup"), dir.read("new/z")),
        ("y 2\n".into(), "y 1\n".into(), "new\n".into())
    );
    assert_eq!((dir.mode("y"), dir.mode("new/z")), (0o640, 0o700));
    assert!(!dir.join("a/x.backup").exists(), "that one has not changed");
    assert!(fs::symlink_metadata(dir.join("a/link")).unwrap().is_symlink());
    awrite(&dir, &["-e", "-m", "600", "a/x", "y", "--", "true"]).quiet_success();
    assert_eq!((dir.mode("a/x"), dir.mode("y")), (0o600, 0o600));
}

/// What stays as it is, loses nothing.
#[test]
fn nothing_is_said_of_links_to_what_is_unchanged() {
    let dir = files();
    fs::hard_link(dir.join("y"), dir.join("other")).unwrap();
    let said = "hard links to this file";
    let done = awrite(&dir, &edit(&["-v"], &["sh", "-c", r#"sed -i s/1/2/ "$1" "$2""#, "sh"])).run();
    assert!(!done.ok().stderr.contains(said), "{done:?}");
    let done = awrite(&dir, &edit(&["-v"], &["sed", "-i", "s/[12]/3/"])).run();
    assert!(done.ok().stderr.contains(said), "{done:?}");
}

#[test]
fn outputs_of_one_name_are_made() {
    let dir = files();
    let script = r#"echo 1 >"$1" && echo 2 >"$2""#;
    awrite(&dir, &["-e", "a/new", "b/new", "--", "sh", "-c", script, "sh"]).quiet_success();
    assert_eq!((dir.read("a/new"), dir.read("b/new")), ("1\n".into(), "2\n".into()));
}

/// The same directory below two mounts, and a mounted file.
#[test]
fn mounts() {
    if !needs_mount() {
        return;
    }
    let dir = files();
    dir.file("a/z", "z 1\n");
    let mount = Mount::bind(&dir.join("a"), &dir.dir("again"));
    awrite(&dir, &["-e", "a/x", "again/z", "b/x", "--", "sed", "-i", "s/1/2/"]).quiet_success();
    assert_eq!(["a/x", "a/z", "b/x"].map(|name| dir.read(name)), ["a/x 2\n", "z 2\n", "b/x 2\n"]);
    let same = awrite(&dir, &["-e", "a/x", "again/x", "--", "true"]).run();
    same.assert_error(1, "Error: again/x: is the same file as a/x: it would be replaced twice");
    drop(mount);
    let _mount = Mount::bind(&dir.join("y"), &dir.join("a/z"));
    let done = awrite(&dir, &["-e", "a/x", "a/z", "--", "true"]).run();
    done.assert_error_with(1, &["Error: a/z: "]).assert_hint("only by itself");
}

/// Whichever of the files do not change.
#[test]
fn directories_stay_for_what_is_in_them_only() {
    let dir = files();
    dir.dir("y.backup");
    let args = |options: &'static str, script: &'static str| {
        [options, "-e", "new/1/a", "new/2/b", "other/c", "y", "--", "sh", "-c", script, "sh"]
    };
    for script in ["false", "true", "echo 1 >\"$1\"; exit 5", "echo 2 >\"$4\"", "echo 1 >\"$1\"; echo 2 >\"$4\""] {
        let done = awrite(&dir, &args("-bD", script)).run();
        assert_eq!(done.code, Some(if script == "true" { 0 } else { 1 }), "{script}: {done:?}");
        assert_holds(&dir, &["a", "b", "y", "y.backup"]);
    }
    awrite(&dir, &args("-D", "echo 2 >\"$4\"")).quiet_success();
    assert_holds(&dir, &["a", "b", "y", "y.backup"]);
    awrite(&dir, &args("-D", "echo 3 >\"$1\"; echo 3 >\"$4\"")).quiet_success();
    assert_holds(&dir, &["a", "b", "new", "y", "y.backup"]);
    assert_eq!(fs::read_dir(dir.join("new")).unwrap().count(), 1);
    assert_eq!(dir.read("new/1/a"), "3\n");
}

#[test]
fn all_locks_are_held_and_handed_on() {
    let dir = files();
    let script =
        r#"test -n "$AWRITE_HELD" && touch begun; read -r _; "$BIN" lock y -- "$BIN" lock a/x -- sed -i s/1/2/ "$@""#;
    let mut running = awrite(&dir, &edit(&[], &["sh", "-c", script, "sh"])).stdin_open().spawn();
    wait_until("COMMAND has begun", || dir.join("begun").exists());
    for name in NAMES {
        assert!(lock_is_held(&dir.join(format!("{name}.lock"))));
        let done = dir.awrite(["-n", name]).stdin("x").run();
        done.assert_code(2);
    }
    awrite(&dir, &["-n", "-e", "begun", "y", "--", "true"]).run().assert_code(2);
    running.feed(b"\n");
    running.finish().ok();
    assert_eq!(dir.read("y"), "y 2\n");
    let done = awrite(&dir, &edit(&[], &["sh", "-c", "echo x | \"$BIN\" y", "sh"])).run();
    done.assert_code(1);
    assert!(done.stderr.contains("y: This runs below a command whose output"), "{done:?}");
    let done = awrite(&dir, &edit(&[], &["sh", "-c", "echo x >y", "sh"])).run();
    done.assert_error(1, "Error: y: COMMAND changed this file itself; it was not replaced");
    dir.assert_holds(&["a", "b", "begun", "tmp", "y"]);
}

/// Money is neither made nor lost, in whatever order the files are named.
#[test]
fn many_at_once_in_any_order() {
    let dir = TestDir::new();
    for name in ["p", "q", "r"] {
        dir.file(name, "100\n");
    }
    let script = r#"a=$(cat "$1"); b=$(cat "$2"); echo $((a - 1)) >"$1"; echo $((b + 1)) >"$2""#;
    let runs: Vec<_> = (0..rounds(12, 60))
        .map(|number| {
            let (from, to) = [("p", "q"), ("q", "r"), ("r", "p"), ("q", "p")][number % 4];
            awrite(&dir, &["-qe", from, to, "--", "sh", "-c", script, "sh"]).spawn()
        })
        .collect();
    for run in runs {
        run.finish().ok();
    }
    let total: i64 = ["p", "q", "r"].iter().map(|name| dir.read(name).trim().parse::<i64>().unwrap()).sum();
    assert_eq!(total, 300);
    assert_holds(&dir, &["p", "q", "r"]);
}

/// With a name each, since there are several.
#[test]
fn each_may_have_an_expectation() {
    let dir = files();
    let digest = |name: &str| dir.awrite(["--digest", name]).run().stdout.trim().to_owned();
    let (of_a, of_y) = (format!("a/x={}", digest("a/x")), format!("y={}", digest("y")));
    let args = ["--if-match", &of_a, "--if-match", &of_y, "-e", "a/x", "y", "--", "sed", "-i", "s/1/2/"];
    awrite(&dir, &args).quiet_success();
    assert_eq!((dir.read("a/x"), dir.read("y")), ("a/x 2\n".into(), "y 2\n".into()));
    awrite(&dir, &args).run().assert_error(4, "Error: a/x: Not what was expected");
    let plain = of_y.strip_prefix("y=").unwrap();
    awrite(&dir, &["--if-match", plain, "-e", "a/x", "y", "--", "true"]).run().assert_code(1);
    awrite(&dir, &["--if-match", plain, "-e", "y", "--", "true"]).run().assert_code(4);
}

#[test]
fn too_many_for_a_command_are_an_error() {
    let dir = TestDir::new();
    dir.dir("d");
    dir.sh("seq 3000 | while read -r number; do echo \"$number\" >d/$number; done").quiet_success();
    dir.dir("tmp");
    let script = "ulimit -n $(ulimit -Hn); test $(ulimit -n) -gt 15000 || exit 9; \"$BIN\" -e d/* -- touch";
    let done = dir.sh(script).env("TMPDIR", dir.join("tmp")).run();
    if done.code == Some(9) {
        return;
    }
    done.assert_error(1, "Error: cannot run touch: Argument list too long").assert_hint("--into takes more");
    assert_holds(&dir, &["d"]);
    assert_eq!(fs::read_dir(dir.join("d")).unwrap().count(), 3000);
}

#[test]
fn the_status_can_tell_that_nothing_changed() {
    let dir = files();
    awrite(&dir, &edit(&["--unchanged-exit-code", "9"], &["true"])).run().assert_code(9);
    awrite(&dir, &edit(&["--unchanged-exit-code", "9"], &["sed", "-i", "/^y/s/1/2/"])).run().assert_code(0);
    awrite(&dir, &["--unchanged-exit-code", "9", "-e", "y", "--", "true"]).run().assert_code(9);
    awrite(&dir, &["--unchanged-exit-code", "9", "-e", "none", "--", "true"]).run().assert_code(9);
    awrite(&dir, &["--unchanged-exit-code", "9", "-e", "y", "--", "sed", "-i", "s/2/3/"]).run().assert_code(0);
}
