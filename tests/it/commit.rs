//! The commit: whether, when and how the new content becomes the file's.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{
    AWRITE, Held, TestDir, assert_no_debris, chmod, copy_program, lock_is_held, needs, needs_mount, needs_root,
    needs_strace, wait_until,
};
use crate::filesystems::Mount;

// ---------------------------------------------------------------------------------------------------------------------
// Readers

/// Readers that look all the time see one whole content after the other, and never none.
fn replace_under_readers(dir: &TestDir, args: &[&str], rounds: usize) {
    let length = 100_000;
    let whole = |round: usize| vec![b'a' + (round % 26) as u8; length];
    dir.file("f", whole(0));
    let path = dir.join("f");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) || reads == 0 {
                let content = fs::read(&path).expect("the file is never absent");
                assert_eq!(content.len(), length, "never partial");
                assert!(content.iter().all(|byte| *byte == content[0]), "never mixed");
                reads += 1;
            }
        });
        for round in 1..=rounds {
            dir.awrite(args).stdin(whole(round)).quiet_success();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert!(fs::read(&path).unwrap() == whole(rounds));
}

#[test]
fn readers_never_see_less_than_a_whole_file() {
    let dir = TestDir::new();
    replace_under_readers(&dir, &["--sync=none", "f"], 100);
    replace_under_readers(&dir, &["--sync=none", "--stream", "f"], 50);
    replace_under_readers(&dir, &["--sync=none", "-b", "f"], 50);
    replace_under_readers(&dir, &["--sync=none", "--backup-mode=600", "f"], 30);
    dir.assert_holds(&["f", "f.backup"]);
}

/// A reader that has the old file open goes on reading the old content.
#[test]
fn an_open_file_keeps_its_content() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let open = fs::File::open(dir.join("f")).unwrap();
    dir.awrite(["f"]).stdin("new").quiet_success();
    assert_eq!(std::io::read_to_string(open).unwrap(), "old");
}

// ---------------------------------------------------------------------------------------------------------------------
// --if-changed

#[test]
fn identical_content_leaves_the_file_untouched() {
    let dir = TestDir::new();
    let big: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    for content in ["same\n", &big] {
        dir.file("f", content);
        dir.file("in", content);
        let before = dir.snapshot("f");
        for args in [
            &["f"][..],
            &["--stream", "f"],
            &["--lock-on-commit", "f"],
            &["-i", "in", "f"],
            &["-i", "f", "f"],
            &["f", "--", "cat"],
        ] {
            dir.awrite(["--if-changed"].iter().chain(args)).stdin(content).quiet_success();
            assert_eq!(dir.snapshot("f"), before, "{args:?}");
        }
        dir.assert_holds(&["f", "in"]);
    }
}

/// A watcher of the directory that runs it on every change must not set off itself. strace shows what is made; the lock
/// file is.
#[test]
fn identical_content_makes_nothing_but_the_lock_file() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "same\n");
    dir.file("in", "same\n");
    for args in [
        &["f"][..],
        &["-i", "in", "f"],
        &["-i", "f", "f"],
        &["--lock-on-commit", "f"],
        &["--mode=600", "f"],
        &["f", "--", "cat"],
    ] {
        let traced =
            ["-f", "-o", "trace", "-e", "trace=openat,linkat,mkdirat,renameat,renameat2", AWRITE, "--if-changed"];
        dir.program("strace", traced.iter().chain(args)).stdin("same\n").run().ok();
        let trace = dir.read("trace");
        let made: Vec<_> = trace
            .lines()
            .filter(|line| !line.contains("= -1"))
            .filter(|line| ["O_CREAT", "O_TMPFILE", "linkat", "mkdir", "rename"].iter().any(|word| line.contains(word)))
            .collect();
        assert!(made.len() == 1 && made[0].contains("\"f.lock\""), "{args:?}: {made:?}");
    }
    assert_eq!(dir.mode("f"), 0o600);
}

#[test]
fn any_difference_is_a_change() {
    let dir = TestDir::new();
    let big: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    let mut last_byte = big.clone();
    last_byte.pop();
    last_byte.push(' ');
    for (old, new) in [("same", "samf"), ("same", "sam"), ("same", "same\n"), ("", "x"), (&big, &last_byte)] {
        for option in ["--quiet", "--stream"] {
            dir.file("f", old);
            let before = dir.snapshot("f");
            dir.awrite(["--if-changed", option, "f"]).stdin(new).quiet_success();
            assert!(dir.read("f") == new);
            assert_ne!(dir.snapshot("f").inode, before.inode);
        }
    }
    dir.awrite(["--if-changed", "new"]).stdin("x").quiet_success();
    assert_eq!(dir.read("new"), "x");
}

#[test]
fn empty_input_is_refused_even_if_nothing_would_change() {
    let dir = TestDir::new();
    dir.file("f", "");
    let before = dir.snapshot("f");
    dir.awrite(["--if-changed", "f"]).run().assert_error(1, "Error: No input provided");
    dir.awrite(["--if-changed", "--allow-empty", "f"]).quiet_success();
    assert_eq!(dir.snapshot("f"), before);
}

/// make compares modification times: a file that does not change must not look newer.
#[test]
fn if_changed_compares_under_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "one");
    let held = Held::new(&dir.join("f.lock"));
    let mut writer = dir.awrite(["--if-changed", "f"]).stdin("one").spawn();
    writer.wait_for_waiting();
    dir.file("f", "two");
    held.release();
    writer.finish().ok();
    assert_eq!(dir.read("f"), "one");
}

// ---------------------------------------------------------------------------------------------------------------------
// --validate

#[test]
fn validation_sees_the_new_content_and_the_target() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    for option in ["--quiet", "--stream", "--append", "--lock-on-commit"] {
        dir.file("config.json", "old");
        let script = "cp \"$AWRITE_NEW\" seen; echo \"$AWRITE_TARGET\" > name; cat config.json > current";
        dir.awrite([option, "--validate", script, "config.json"]).stdin("new").quiet_success();
        let new = if option == "--append" { "oldnew" } else { "new" };
        assert_eq!((dir.read("seen").as_str(), dir.read("current").as_str()), (new, "old"));
        assert_eq!(dir.read("name"), "config.json\n");
        assert_eq!(dir.read("config.json"), new);
        dir.assert_holds(&["config.json", "seen", "name", "current"]);
    }
}

#[test]
fn validation_that_refuses_changes_nothing() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for option in ["--quiet", "--stream", "--lock-on-commit", "--append"] {
        for (script, words) in [("exit 3", "exit status 3"), ("false", "exit status 1"), ("kill -9 $$", "signal 9")] {
            let done = dir.awrite([option, "--validate", script, "f"]).stdin("new").run();
            done.assert_error_with(1, &["Error: f: ", words]);
        }
        dir.awrite([option, "--validate", "grep -q '^{' \"$AWRITE_NEW\"", "f"]).stdin("new").run().assert_code(1);
        dir.awrite([option, "--validate", "false", "new"]).stdin("new").run().assert_code(1);
    }
    let done = dir.awrite(["--validate", "exit 3", "f", "--", "echo", "new"]).run();
    done.assert_error_with(1, &["Error: f: ", "exit status 3"]);
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f"]);
}

#[test]
fn what_validation_says_comes_through() {
    let dir = TestDir::new();
    let done = dir.awrite(["--validate", "echo line 3: bad >&2; exit 1", "f"]).stdin("x").run();
    assert_eq!(done.lines()[0], "line 3: bad");
    done.assert_code(1);
    // The check does not get awrite's standard input.
    // Its standard input is the new content, not that of awrite.
    dir.awrite(["--validate", "test \"$(cat)\" = x", "f", "--", "echo", "x"]).stdin("input").run().ok();
}

/// A formatter may change the new file itself. It may not replace it: the replacement would lack mode and owner.
#[test]
fn validation_may_change_the_new_file_but_not_exchange_it() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o640);
    dir.awrite(["--validate", "echo added >> \"$AWRITE_NEW\"", "f"]).stdin("new\n").quiet_success();
    assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new\nadded\n", 0o640));
    let before = dir.snapshot("f");
    for script in ["echo x > t; mv t \"$AWRITE_NEW\"", "rm \"$AWRITE_NEW\""] {
        dir.awrite(["--validate", script, "f"]).stdin("new").run().assert_error_with(1, &["Error: f: "]);
        assert_eq!(dir.snapshot("f"), before);
    }
    assert!(dir.names().iter().all(|name| name != "f.lock"));
}

/// Many checkers read their standard input (`jq empty`), or want an absolute path (`nginx -t -c`).
#[test]
fn a_check_has_the_content_in_two_ways() {
    let dir = TestDir::new();
    dir.dir("sub");
    for option in ["--quiet", "--stream", "--mode=400"] {
        let script = "cat > in; cd /; case $AWRITE_NEW in /*.f.conf) ;; *) exit 3;; esac; cat \"$AWRITE_NEW\" | cmp - \"$OLDPWD/in\"";
        dir.awrite([option, "--validate", script, "sub/f.conf"]).stdin("new").quiet_success();
        assert_eq!(dir.read("in"), "new");
    }
    dir.assert_holds(&["in", "sub"]);
}

/// A scratch image has the checker and no shell.
#[test]
fn without_a_shell_plain_words_are_run() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let bin = dir.dir("bin");
    let grep = dir.program("sh", ["-c", "command -v grep"]).run().stdout;
    copy_program(Path::new(grep.trim()), &bin.join("grep"));
    let run = |check: &str| dir.awrite(["--validate", check, "f"]).env("PATH", &bin).stdin("new").run();
    run("grep -q new \"$AWRITE_NEW\"").ok();
    assert_eq!(dir.read("f"), "new");
    run("  grep  -q new ").ok();
    run("grep -q other $AWRITE_NEW").assert_error_with(1, &["Error: f: validation failed: exit status 1"]);
    run("grep -q new && true").assert_error(1, "Error: f: cannot run sh: No such file or directory");
    run("no-such-check").assert_error(1, "Error: f: cannot run no-such-check: No such file or directory");
    dir.assert_holds(&["bin", "f"]);
}

#[test]
fn a_check_that_empties_the_content_is_refused() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for option in ["--quiet", "--stream"] {
        let done = dir.awrite([option, "--validate", ": > \"$AWRITE_NEW\"", "f"]).stdin("new").run();
        done.assert_error(1, "Error: f: the check emptied the new content").assert_hint("--allow-empty");
        assert_eq!(dir.read("f"), "old");
    }
    let done = dir.awrite(["--json", "--validate", "printf abcdefg > \"$AWRITE_NEW\"", "f"]).stdin("x").run();
    assert!(done.ok().stderr.contains("\"bytes\":7,"), "{done:?}");
    dir.awrite(["--allow-empty", "--validate", ": > \"$AWRITE_NEW\"", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.read("f"), "");
    dir.assert_holds(&["f"]);
}

#[test]
fn validation_works_for_awkward_names() {
    let dir = TestDir::new();
    let long = "n".repeat(255);
    for name in ["with space", "quote'\"$(id)", "new\nline", &long] {
        let script = "test \"$(cat \"$AWRITE_NEW\")\" = new && printf %s \"$AWRITE_TARGET\" > name";
        dir.awrite(["--validate", script, name]).stdin("new").quiet_success();
        assert_eq!((dir.read(name).as_str(), dir.read("name").as_str()), ("new", name));
        fs::remove_file(dir.join(name)).unwrap();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// --no-follow, --mkdir

#[test]
fn no_follow_replaces_the_link_itself() {
    let dir = TestDir::new();
    dir.dir("real");
    dir.file("real/f", "old");
    for to in ["real/f", "nowhere", "link"] {
        symlink(to, dir.join("link")).unwrap();
        // Then the link has its own lock.
        let held = Held::new(&dir.join("real/f.lock"));
        dir.awrite(["-n", "--no-follow", "link"]).stdin("new").quiet_success();
        held.release();
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_file());
        assert_eq!(dir.read("link"), "new");
        fs::remove_file(dir.join("link")).unwrap();
    }
    assert_eq!(dir.read("real/f"), "old");
    fs::remove_file(dir.join("real/f.lock")).unwrap();
    dir.assert_holds(&["real"]);
    // A plain file, a directory link on the way: nothing special.
    symlink("real", dir.join("dirlink")).unwrap();
    dir.awrite(["--no-follow", "dirlink/f"]).stdin("new").quiet_success();
    assert_eq!(dir.read("real/f"), "new");
    assert_no_debris(&dir.join("real"), &["f"]);
}

#[test]
fn mkdir_makes_the_parents() {
    let dir = TestDir::new();
    dir.sh("umask 027; echo x | \"$BIN\" --mkdir a/b/c/f").quiet_success();
    assert_eq!(dir.read("a/b/c/f"), "x\n");
    for made in ["a", "a/b", "a/b/c"] {
        assert_eq!(dir.mode(made), 0o750, "{made}");
    }
    assert_no_debris(&dir.join("a/b/c"), &["f"]);
    dir.awrite(["-D", "a/b/c/f"]).stdin("again").quiet_success();
    dir.awrite(["-D", "g"]).stdin("no parents needed").quiet_success();
    let absolute = dir.join("x/y/f");
    dir.awrite([Path::new("-D"), &absolute]).stdin("absolute").quiet_success();
    assert_eq!(dir.read("x/y/f"), "absolute");
    dir.awrite(["-D", "g/h/f"]).stdin("x").run().assert_error_with(1, &["g/h/f", "not a directory"]);
    assert_eq!(dir.read("g"), "no parents needed");
}

#[test]
fn mkdir_does_not_go_through_a_dangling_link() {
    let dir = TestDir::new();
    symlink("nowhere", dir.join("d")).unwrap();
    for name in ["d/f", "d/sub/f"] {
        let done = dir.awrite(["-D", name]).stdin("x").run();
        done.assert_error(1, &format!("Error: {name}: d: Is a dangling symbolic link")).assert_hint("points to");
        dir.assert_holds(&["d"]);
    }
}

#[test]
fn a_failing_write_leaves_no_new_directories() {
    let dir = TestDir::new();
    dir.dir("there");
    for args in [
        &["-D", "a/b/f"][..],
        &["-D", "there/b/c/f"],
        &["-D", "--validate", "false", "a/b/f"],
        &["-D", "a/b/f", "--", "false"],
        &["-D", "--lock-on-commit", "a/b/f", "--validate", "false"],
    ] {
        let input = if args.contains(&"--validate") { "x" } else { "" };
        dir.awrite(args).stdin(input).run().assert_code(1);
        dir.assert_holds(&["there"]);
        assert_no_debris(&dir.join("there"), &[]);
    }
}

#[test]
fn mkdir_makes_the_directory_for_backups_too() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.awrite(["--backup-dir", "kept/here", "f"]).stdin("x").run().assert_code(1).assert_hint("--mkdir");
    for failing in [&["--validate", "false"][..], &["-i", "/proc/self/mem"]] {
        let args = [&["-D", "--backup-dir", "kept/here", "f"], failing].concat();
        dir.awrite(args).stdin("x").run().assert_code(1);
        dir.assert_holds(&["f"]);
    }
    // Without an old file there is no backup.
    dir.awrite(["-D", "--backup-dir", "kept/here", "new"]).stdin("x").quiet_success();
    dir.assert_holds(&["f", "new"]);
    for option in ["--quiet", "--lock-on-commit", "--backup-timestamp"] {
        dir.awrite([option, "-D", "--backup-dir", "kept/here", "f"]).stdin(option).quiet_success();
        assert_eq!(dir.read("f"), option);
    }
    assert_eq!(dir.read("kept/here/f.backup"), "--quiet");
    assert_eq!(fs::read_dir(dir.join("kept/here")).unwrap().count(), 2);
    dir.assert_holds(&["f", "kept", "new"]);
}

#[test]
fn mkdir_by_many_at_once() {
    let dir = TestDir::new();
    let writers: Vec<_> =
        (0..12).map(|number| dir.awrite(["-q", "-D", "a/b/c/d/f"]).stdin(number.to_string()).spawn()).collect();
    for writer in writers {
        writer.finish().ok();
    }
    assert_no_debris(&dir.join("a/b/c/d"), &["f"]);
}

/// Runs that fail remove the directories that they made, while others need them.
#[test]
fn mkdir_beside_writers_that_fail() {
    let dir = TestDir::new();
    for round in 0..25 {
        let name = format!("{round}/b/c/d/e/f");
        let inputs = ["", "", "x", "", "", "x", "", ""];
        let spawn = |input: &&'static str| dir.awrite(["-q", "-D", &name]).stdin(*input).spawn();
        let writers: Vec<_> = inputs.iter().map(spawn).collect();
        for (input, writer) in inputs.iter().zip(writers) {
            let done = writer.finish();
            if input.is_empty() {
                done.assert_error(1, "Error: No input provided");
            } else {
                done.ok();
            }
        }
        assert_no_debris(dir.join(&name).parent().unwrap(), &["f"]);
    }
}

#[test]
fn mkdir_starts_over_when_a_directory_vanishes() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for when in 1..=3 {
        let inject = format!("inject=/^mkdir:error=ENOENT:when={when}");
        let name = format!("{when}/b/c/f");
        let args = ["-o", "/dev/null", "-e", "trace=/^mkdir", "-e", &inject, crate::common::AWRITE, "-D", &name];
        dir.program("strace", args).stdin("x").quiet_success();
        assert_eq!(dir.read(name), "x");
    }
    // But not for ever.
    let args = ["-o", "/dev/null", "-e", "inject=/^mkdir:error=ENOENT", crate::common::AWRITE, "-D", "a/f"];
    let done = dir.program("strace", args).stdin("x").run();
    done.assert_error_with(1, &["Error: a: cannot create directory: no such file or directory"]);
    assert!(!dir.join("a").exists());
}

// ---------------------------------------------------------------------------------------------------------------------
// --sync

/// The system calls of a run that matter for durability, in order: `fsync`, `rename`, `link`.
fn steps(dir: &TestDir, args: &[&str]) -> Vec<String> {
    let strace =
        ["-f", "-y", "-o", "trace", "-e", "trace=fsync,fdatasync,sync,syncfs,rename,renameat,renameat2,linkat"];
    let done = dir.program("strace", strace.iter().chain(&[crate::common::AWRITE]).chain(args)).stdin("new").run();
    done.ok();
    let here = fs::canonicalize(dir.path()).unwrap();
    let steps = dir
        .read("trace")
        .lines()
        .filter_map(|line| {
            // The pid comes first.
            let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
            let (name, rest) = call.split_once('(')?;
            if !rest.contains(") = 0") && !rest.contains(")   ") {
                return None;
            }
            let directory =
                rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(&format!("<{}>)", here.display()));
            Some(match name {
                "fsync" | "fdatasync" if directory => "sync directory".to_owned(),
                "fsync" | "fdatasync" => "sync file".to_owned(),
                "renameat" | "renameat2" => "rename".to_owned(),
                "linkat" => "link".to_owned(),
                other => other.to_owned(),
            })
        })
        .collect();
    fs::remove_file(dir.join("trace")).unwrap();
    steps
}

#[test]
fn what_is_synced_and_when() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for option in ["--quiet", "--stream", "--lock-on-commit", "--append"] {
        // The first one makes the file, the second one replaces it.
        for _ in 0..2 {
            let durable = steps(&dir, &[option, "f"]);
            let link = durable.iter().position(|step| step == "link");
            let file = durable.iter().position(|step| step == "sync file").expect("the file is synced");
            let rename = durable.iter().position(|step| step == "rename").expect("it is renamed");
            let directory = durable.iter().position(|step| step == "sync directory").expect("and the directory");
            // A file that has no name yet is not logged by every file system: link first, then sync.
            assert!(link.is_none_or(|link| link < file), "{durable:?}");
            assert!(file < rename && rename < directory, "{durable:?}");
            assert_eq!(durable.iter().filter(|step| step.starts_with("sync")).count(), 2, "{durable:?}");
        }
        let data = steps(&dir, &[option, "--sync=data", "f"]);
        assert_eq!(data.iter().filter(|step| *step == "sync file").count(), 1, "{data:?}");
        assert_eq!(data.iter().filter(|step| step.starts_with("sync")).count(), 1, "{data:?}");
        let none = steps(&dir, &[option, "--sync", "none", "f"]);
        assert_eq!(none.iter().filter(|step| step.starts_with("sync")).count(), 0, "{none:?}");
        assert_eq!(steps(&dir, &[option, "--sync", "full", "f"]).iter().filter(|s| s.starts_with("sync")).count(), 2);
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn a_copied_backup_is_synced_before_the_commit() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    let steps = steps(&dir, &["--backup-mode=600", "f"]);
    // Both are synced under their temporary names before one of them is renamed, the backup first.
    let expected = ["link", "sync file", "link", "sync file", "rename", "rename", "sync directory"];
    let end: Vec<&str> = steps.iter().rev().take(expected.len()).rev().map(String::as_str).collect();
    // Where the temporary file has a name from the start, there is no link.
    if steps.iter().any(|step| step == "link") {
        assert_eq!(end, expected, "{steps:?}");
    }
    assert_eq!(steps.last().unwrap(), "sync directory");
}

/// On a file system that cannot sync directories, new directories are treated like the target's.
#[test]
fn a_directory_that_cannot_be_synced() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let run = |fault: &str, name: &str| {
        let inject = format!("inject=fsync:{fault}");
        let strace = ["-f", "-o", "trace", "-e", "trace=fsync", "-e", &inject, crate::common::AWRITE];
        let done = dir.program("strace", strace.iter().chain(&["-D", name])).stdin("x").run();
        assert_eq!(dir.read(name), "x");
        (done, dir.read("trace").matches("fsync(").count())
    };
    // The first sync is the file's, the second its directory's, then one for each new directory.
    let (done, syncs) = run("error=EINVAL:when=2+", "a/b/c/f");
    assert_eq!(done.ok().stderr.matches("cannot sync a directory").count(), 1, "{done:?}");
    assert_eq!(syncs, 5);
    for when in 2..=5 {
        let (done, syncs) = run(&format!("error=EIO:when={when}"), &format!("{when}/b/c/f"));
        done.assert_error_with(1, &["replaced, but not known to be durable: ", "Input/output error"]);
        assert_eq!(syncs, 5);
        let (done, syncs) = run(&format!("error=EINTR:when={when}"), &format!("again{when}/b/c/f"));
        assert_eq!((done.ok().stderr.as_str(), syncs), ("", 6));
    }
}

#[test]
fn an_unchanged_file_needs_no_commit() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "new");
    let steps = steps(&dir, &["--if-changed", "f"]);
    assert!(!steps.iter().any(|step| step == "rename"), "{steps:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// --in-place, and what cannot be renamed over

#[test]
fn a_mounted_file_is_refused_with_a_hint() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let source = dir.file("source", "old");
    let target = dir.file_with_mode("target", "hidden", 0o640);
    let mount = Mount::bind(&source, &target);
    let before = dir.snapshot("target");
    for option in ["--quiet", "--stream", "--append", "--backup", "--force"] {
        let done = dir.awrite([option, "target"]).stdin("new").run();
        done.assert_error_with(1, &["Error: target: "]).assert_hint("--in-place");
        assert_eq!(dir.snapshot("target"), before);
        dir.assert_holds(&["source", "target"]);
    }
    drop(mount);
    assert_eq!(dir.read("target"), "hidden");
}

#[test]
fn in_place_overwrites_a_mounted_file() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let source = dir.file_with_mode("source", "old and longer than the new content", 0o640);
    let target = dir.file("target", "hidden");
    let mount = Mount::bind(&source, &target);
    let inode = fs::metadata(&target).unwrap().ino();
    for option in ["--quiet", "--stream"] {
        dir.awrite(["--in-place", option, "target"]).stdin("new").run().ok();
        assert_eq!((dir.read("target").as_str(), dir.read("source").as_str()), ("new", "new"));
        dir.file("source", "old and longer than the new content");
    }
    let done = dir.awrite(["--in-place", "target"]).stdin("x").run();
    assert!(done.ok().stderr.contains("not atomic"), "it says so: {done:?}");
    dir.awrite(["--in-place", "-a", "target"]).stdin("y").run().ok();
    assert_eq!(dir.read("source"), "xy");
    dir.awrite(["--in-place", "target", "--", "tr", "a-z", "A-Z"]).run().ok();
    assert_eq!(dir.read("source"), "XY");
    dir.assert_holds(&["source", "target"]);
    assert_eq!(fs::metadata(&target).unwrap().ino(), inode);
    assert_eq!(dir.mode("target"), 0o640);

    // Failures before the overwriting change nothing.
    let before = dir.snapshot("target");
    dir.awrite(["--in-place", "target"]).run().assert_error(1, "Error: No input provided");
    dir.awrite(["--in-place", "--validate", "false", "target"]).stdin("x").run().assert_code(1);
    dir.awrite(["--in-place", "target", "--", "false"]).run().assert_code(1);
    dir.awrite(["--in-place", "--if-changed", "target"]).stdin("XY").run().ok();
    assert_eq!(dir.snapshot("target"), before);
    dir.awrite(["--in-place", "--validate", "grep -q new \"$AWRITE_NEW\"", "target"]).stdin("new").run().ok();
    assert_eq!(dir.read("source"), "new");
    dir.assert_holds(&["source", "target"]);
    drop(mount);
    assert_eq!(dir.read("target"), "hidden");
}

#[test]
fn in_place_sets_the_mode_that_is_asked_for() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    let source = dir.file_with_mode("source", "old", 0o640);
    let target = dir.file("target", "hidden");
    let _mount = Mount::bind(&source, &target);
    for (mode, set) in [("600", 0o600), ("664", 0o664), ("4711", 0o4711), ("640", 0o640)] {
        dir.awrite(["--in-place", "-m", mode, "target"]).stdin(mode).run().ok();
        assert_eq!((dir.read("source").as_str(), dir.mode("source")), (mode, set));
    }
    for option in ["--preserve-owner", "--try-preserve-owner", "--preserve-mode"] {
        dir.awrite(["--in-place", option, "target"]).stdin("new").run().ok();
        assert_eq!(dir.mode("source"), 0o640);
    }
    // Refused: only the owner may change the mode.
    chmod(&source, 0o666);
    let before = dir.snapshot("target");
    for mode in ["600", "666"] {
        let done = dir.awrite_unprivileged(["--in-place", "-m", mode, "target"]).stdin("x").run();
        done.assert_error_with(1, &["Error: target: cannot set its permissions: ", "not permitted"]);
        assert_eq!(dir.snapshot("target"), before);
    }
    dir.assert_holds(&["source", "target"]);
}

/// A signal leaves the file overwritten or as it was, never with another mode or with reserved blocks.
#[test]
fn a_signal_waits_until_in_place_is_done() {
    if !needs_mount() || !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let source = dir.file("source", "");
    let target = dir.file("target", "hidden");
    let _mount = Mount::bind(&source, &target);
    chmod(&source, 0o664);
    // The delay lets the thread that handles signals go first; the outcome must not depend on it.
    // Whether the mode may be changed is tried first, with the one that it has; then it is narrowed, and then set.
    let run = |number: u32, delayed: &str| {
        let signal = format!("inject=fchmod:signal=TERM:when={number}");
        let delay = format!("inject={delayed}:delay_enter=200000");
        let strace = ["-f", "-o", "/dev/null", "-P", "target", "-e", &signal, "-e", &delay, crate::common::AWRITE];
        let args = ["--in-place", "-m", "606", "target", "--", "echo", "new"];
        dir.program("strace", strace.into_iter().chain(args)).run()
    };
    let before = dir.snapshot("source");
    run(1, "fallocate").assert_code(3);
    assert_eq!(dir.snapshot("source"), before);
    for number in [2, 3] {
        run(number, "ftruncate,fsync").ok();
        assert_eq!((dir.read("source").as_str(), dir.mode("source")), ("new\n", 0o606));
    }
    dir.assert_holds(&["source", "target"]);
}

#[test]
fn in_place_makes_a_backup_that_is_a_copy() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let source = dir.file_with_mode("source", "old", 0o640);
    let target = dir.file("target", "hidden");
    let mount = Mount::bind(&source, &target);
    dir.awrite(["--in-place", "-b", "target"]).stdin("new").run().ok();
    assert_eq!((dir.read("target").as_str(), dir.read("target.backup").as_str()), ("new", "old"));
    assert_eq!(dir.mode("target.backup"), 0o640);
    drop(mount);
    dir.assert_holds(&["source", "target", "target.backup"]);
}

/// Once the overwriting has begun it cannot be undone, so blocks are reserved before.
#[test]
fn in_place_on_a_full_disk_changes_nothing() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("small");
    let outer = Mount::tmpfs("size=256k", &at);
    fs::write(at.join("source"), "old").unwrap();
    let target = dir.file("target", "hidden");
    let inner = Mount::bind(&at.join("source"), &target);
    let before = dir.snapshot("target");
    for option in ["--quiet", "--stream", "--append", "--mode=600"] {
        let done = dir.awrite(["--in-place", option, "target"]).stdin(vec![b'x'; 1 << 20]).run();
        done.assert_error(1, "Error: target: No space left on device").assert_hint("unchanged");
        let after = dir.snapshot("target");
        assert_eq!(after, before, "{option}");
        dir.assert_holds(&["small", "target"]);
    }
    drop(inner);
    drop(outer);
}

/// As in a container: the directory belongs to the image and is read-only, the one file in it is mounted.
#[test]
fn in_place_works_in_a_read_only_directory() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("ro");
    let outer = Mount::tmpfs("size=1m", &at);
    fs::write(at.join("config.json"), "hidden").unwrap();
    let source = dir.file_with_mode("source", "old", 0o640);
    outer.remount("ro");
    let inner = Mount::bind(&source, &at.join("config.json"));
    for option in ["--quiet", "--stream", "--append"] {
        dir.file("source", "old");
        let args = ["--in-place", "--lock-file", "lock", option, "ro/config.json"];
        dir.awrite(args).stdin("new").env("TMPDIR", dir.path()).run().ok();
        assert_eq!(dir.read("source"), if option == "--append" { "oldnew" } else { "new" });
        dir.assert_holds(&["ro", "source"]);
    }
    drop(inner);
    drop(outer);
}

/// A configuration file that its user may write, in a directory of root's.
#[test]
fn a_file_in_a_directory_that_may_not_be_written() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    for name in ["locks", "scratch", "kept"] {
        chmod(&dir.dir(name), 0o777);
    }
    let at = dir.dir("d");
    dir.file_with_mode("d/f", "old", 0o666);
    let before = dir.snapshot("d/f");
    let run = |args: &[&str]| {
        let scratch = dir.join("scratch");
        dir.awrite_unprivileged(args.iter().chain(&["d/f"])).env("TMPDIR", scratch).stdin("new").run()
    };
    let done = run(&[]);
    done.assert_error(1, "Error: d/f.lock: Permission denied").assert_hint("--in-place --lock-dir");
    run(&["--in-place"]).assert_error(1, "Error: d/f.lock: Permission denied").assert_hint("--lock-dir");
    run(&["--lock-dir", "locks"]).assert_error(1, "Error: d/f: Permission denied").assert_hint("--in-place");
    let done = run(&["--in-place", "--lock-dir", "locks", "--backup"]);
    done.assert_error_with(1, &["d/f.backup: cannot make the backup: Permission denied"]);
    assert_eq!(dir.snapshot("d/f"), before);
    for (args, warns) in [
        (&["--in-place"][..], true),
        (&["--in-place", "--stream"], true),
        (&["--in-place", "--lock-on-commit"], true),
        (&["--in-place", "--validate", "test -s \"$AWRITE_NEW\""], true),
        (&["--in-place", "--backup-dir", "kept"], true),
        (&["--keep-inode"], false),
    ] {
        dir.file("d/f", "old");
        let done = run(&[args, &["--lock-dir", "locks"]].concat());
        assert_eq!(done.ok().stderr.contains("not atomic"), warns, "{args:?}: {done:?}");
        assert_eq!((dir.read("d/f").as_str(), dir.snapshot("d/f").inode), ("new", before.inode));
    }
    assert_eq!(dir.read("kept/f.backup"), "old");
    // There is nothing to overwrite.
    let done = dir.awrite_unprivileged(["--in-place", "--lock-dir", "locks", "d/n"]).stdin("new").run();
    done.assert_error_with(1, &["Error: d/n: Permission denied"]);
    for (name, expected) in [("d", &["f"][..]), ("locks", &[]), ("scratch", &[]), ("kept", &["f.backup"])] {
        assert_no_debris(&dir.join(name), expected);
    }
    assert!(at.is_dir());
}

#[test]
fn keep_inode_writes_into_the_file_that_is_there() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old and longer", 0o640);
    fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
    let before = dir.snapshot("f");
    let done = dir.awrite(["-v", "--keep-inode", "f"]).stdin("new").run();
    assert!(done.ok().stderr.contains("atomic"), "{done:?}");
    assert_eq!((dir.read("f").as_str(), dir.read("g").as_str()), ("new", "new"));
    assert_eq!((dir.snapshot("f").inode, dir.mode("f")), (before.inode, 0o640));
    dir.awrite(["--keep-inode", "-b", "-a", "f"]).stdin("er").quiet_success();
    assert_eq!((dir.read("g").as_str(), dir.read("f.backup").as_str()), ("newer", "new"));
    dir.awrite(["--keep-inode", "f", "--", "tr", "a-z", "A-Z"]).run().ok();
    assert_eq!((dir.read("g").as_str(), dir.snapshot("g").inode), ("NEWER", before.inode));
    let before = dir.snapshot("f");
    dir.awrite(["--keep-inode", "--if-changed", "f"]).stdin("NEWER").quiet_success();
    dir.awrite(["--keep-inode", "--validate", "false", "f"]).stdin("x").run().assert_code(1);
    dir.awrite(["--keep-inode", "f"]).run().assert_error(1, "Error: No input provided");
    assert_eq!(dir.snapshot("f"), before);
    // What does not exist is created.
    dir.awrite(["--keep-inode", "n"]).stdin("x").quiet_success();
    symlink("f", dir.join("link")).unwrap();
    dir.awrite(["--keep-inode", "link"]).stdin("through").quiet_success();
    assert_eq!((dir.read("g").as_str(), dir.read("n").as_str()), ("through", "x"));
    dir.awrite(["--keep-inode", "--no-follow", "link"]).stdin("a file").quiet_success();
    assert_eq!((dir.read("g").as_str(), dir.read("link").as_str()), ("through", "a file"));
    dir.assert_holds(&["f", "f.backup", "g", "link", "n"]);
}

/// Where it is said to overwrite anyway.
#[test]
fn keep_inode_writes_into_a_mounted_file() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let source = dir.file("source", "old");
    let target = dir.file("target", "hidden");
    let _mount = Mount::bind(&source, &target);
    let done = dir.awrite(["--keep-inode", "-b", "target"]).stdin("new").run();
    assert!(done.ok().stderr.contains("not atomic"), "{done:?}");
    assert_eq!((dir.read("source").as_str(), dir.read("target.backup").as_str()), ("new", "old"));
    dir.assert_holds(&["source", "target", "target.backup"]);
}

#[test]
fn in_place_is_for_where_rename_is_impossible() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    dir.awrite(["--in-place", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.read("f"), "new");
    assert_ne!(dir.snapshot("f").inode, before.inode, "atomic where it can be");
    dir.awrite(["--in-place", "new"]).stdin("x").quiet_success();
    dir.assert_holds(&["f", "new"]);
}

#[test]
fn an_immutable_file_is_an_error() {
    if !needs("chattr") || !crate::common::needs_root() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    if dir.sh("chattr +i f").run().code != Some(0) {
        eprintln!("skipped: no immutable files on this file system");
        return;
    }
    let before = dir.snapshot("f");
    let results: Vec<_> = ["--quiet", "--force", "--backup", "--backup-mode=600"]
        .iter()
        .map(|option| dir.awrite([option, "f"]).stdin("new").run())
        .collect();
    let after = dir.snapshot("f");
    let names = dir.names();
    dir.sh("chattr -i f").run().ok();
    for done in results {
        done.assert_error_with(1, &["Error: f"]);
    }
    assert_eq!(after, before);
    // A backup that was made before the rename failed is no harm, but nothing else may be there.
    assert!(names.iter().all(|name| name == "f" || name == "f.backup"), "{names:?}");
}

/// The lock file goes after the rename, not before it.
#[test]
fn the_lock_is_given_back_after_the_commit() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    let strace = ["-f", "-o", "trace", "-e", "trace=renameat,renameat2,rename,unlinkat,unlink"];
    dir.program("strace", strace.iter().chain(&[crate::common::AWRITE, "f"])).stdin("new").run().ok();
    let trace = dir.read("trace");
    let rename = trace.find("rename").unwrap();
    let unlink = trace.find("\"f.lock\"").unwrap();
    assert!(rename < unlink, "{trace}");
}

#[test]
fn a_write_into_an_unwritable_file_is_refused_in_place_too() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o444);
    dir.awrite_unprivileged(["--in-place", "f"]).stdin("x").run().assert_error(1, "Error: f: Permission denied");
    chmod(&dir.join("f"), 0o644);
    assert_eq!(dir.read("f"), "old");
}

/// While `--in-place` holds the lock, other writers wait for it as ever.
#[test]
fn in_place_takes_the_lock() {
    let dir = TestDir::new();
    let mut writer = dir.awrite(["--in-place", "f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    writer.feed(b"new");
    writer.finish().ok();
    dir.assert_holds(&["f"]);
}
