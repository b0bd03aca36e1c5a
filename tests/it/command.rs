//! `awrite OUTPUT -- COMMAND`: read-modify-write under one lock.

use std::fs;

use crate::common::{Done, Running, TestDir, lock_is_held, needs, rounds, wait_until};

#[test]
fn the_current_content_goes_in_and_the_new_content_comes_out() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "some words\n", 0o640);
    for option in ["--quiet", "--stream", "--wait", "--no-wait", "--allow-empty"] {
        dir.file_with_mode("f", "some words\n", 0o640);
        // COMMAND does not get awrite's standard input.
        dir.awrite([option, "f", "--", "tr", "a-z", "A-Z"]).stdin("not this").quiet_success();
        assert_eq!(dir.read("f"), "SOME WORDS\n");
        assert_eq!(dir.mode("f"), 0o640);
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn a_missing_output_is_empty_input() {
    let dir = TestDir::new();
    for option in ["--quiet", "--stream"] {
        dir.awrite([option, "f", "--", "wc", "-c"]).stdin("not this").quiet_success();
        assert_eq!(dir.read("f").trim(), "0");
        fs::remove_file(dir.join("f")).unwrap();
    }
    dir.assert_holds(&[]);
}

#[test]
fn the_arguments_are_passed_as_they_are() {
    let dir = TestDir::new();
    let args = ["f", "--", "printf", "[%s]", "--", "-n", "", "a b", "--help", "*", "\u{e4}"];
    dir.awrite(args).quiet_success();
    assert_eq!(dir.read("f"), "[--][-n][][a b][--help][*][\u{e4}]");
    // The output's name comes first even when it looks like an option.
    dir.awrite(["--", "-f", "--", "echo", "x"]).quiet_success();
    assert_eq!(dir.read("-f"), "x\n");
}

#[test]
fn input_option_replaces_what_command_reads() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.file("in", "from in\n");
    for option in ["--quiet", "--stream"] {
        dir.awrite([option, "-i", "in", "f", "--", "tr", "a-z", "A-Z"]).stdin("not this").quiet_success();
        assert_eq!(dir.read("f"), "FROM IN\n");
        dir.awrite([option, "-i", "-", "f", "--", "tr", "a-z", "A-Z"]).stdin("stdin\n").quiet_success();
        assert_eq!(dir.read("f"), "STDIN\n");
        dir.awrite([option, "-i", "f", "f", "--", "tr", "A-Z", "a-z"]).quiet_success();
        assert_eq!(dir.read("f"), "stdin\n");
    }
    let before = dir.snapshot("f");
    let done = dir.awrite(["-i", "missing.txt", "f", "--", "touch", "was-run"]).run();
    done.assert_error(1, "Error: missing.txt: No such file or directory");
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f", "in"]);
}

#[test]
fn the_lock_is_held_while_command_runs() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "\"$BIN\" -n f < /dev/zero 2>/dev/null; echo $?; test -e f.lock && cat";
    dir.awrite(["f", "--", "sh", "-c", script]).run().ok();
    let content = dir.read("f");
    assert!(content.ends_with("\nold") && !content.starts_with("0\n"), "{content}");
    dir.assert_holds(&["f"]);
}

#[track_caller]
fn assert_aborted(dir: &TestDir, run: impl Fn(&str) -> Done, expected: &str) {
    let before = dir.snapshot("config.json");
    for option in ["--quiet", "--stream"] {
        run(option).assert_error(1, expected);
        assert_eq!(dir.snapshot("config.json"), before);
    }
    dir.assert_holds(&["config.json"]);
}

#[test]
fn a_failing_command_aborts() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    for script in ["exit 4", "echo half; exit 4", "cat; exit 4", "echo half; exec >&-; exit 4"] {
        let run = |option: &str| dir.awrite([option, "config.json", "--", "sh", "-c", script]).run();
        assert_aborted(&dir, run, "Error: config.json: command failed: exit status 4");
    }
    let run = |option: &str| dir.awrite([option, "config.json", "--", "false"]).run();
    assert_aborted(&dir, run, "Error: config.json: command failed: exit status 1");
}

#[test]
fn a_command_that_a_signal_ends_aborts() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    let run = |option: &str| dir.awrite([option, "config.json", "--", "sh", "-c", "echo half; kill -9 $$"]).run();
    for option in ["--quiet", "--stream"] {
        run(option).assert_error_with(1, &["Error: config.json: command failed: ", "signal 9"]);
    }
    assert_eq!(dir.read("config.json"), "old");
    dir.assert_holds(&["config.json"]);
}

#[test]
fn a_failing_command_makes_no_new_file() {
    let dir = TestDir::new();
    let done = dir.awrite(["new", "--", "sh", "-c", "echo x; exit 7"]).run();
    done.assert_error(1, "Error: new: command failed: exit status 7");
    dir.assert_holds(&[]);
}

#[test]
fn a_command_that_cannot_be_run_is_named() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    dir.file_with_mode("not-executable", "x", 0o644);
    let before = dir.snapshot("config.json");
    // A directory in PATH that may not be searched would make it "Permission denied".
    let done = dir.awrite(["config.json", "--", "no-such-command", "x"]).env("PATH", "/usr/bin:/bin").run();
    done.assert_error_with(1, &["config.json: ", "no-such-command", "No such file or directory"]);
    let done = dir.awrite(["config.json", "--", "./not-executable"]).run();
    done.assert_error_with(1, &["config.json: ", "./not-executable", "Permission denied"]);
    let done = dir.awrite(["config.json", "--", ""]).run();
    done.assert_code(1);
    assert_eq!(dir.snapshot("config.json"), before);
    dir.assert_holds(&["config.json", "not-executable"]);
}

#[test]
fn a_command_that_prints_nothing_never_wipes_a_file() {
    let dir = TestDir::new();
    dir.file("f", "precious");
    let before = dir.snapshot("f");
    for option in ["--quiet", "--stream"] {
        let done = dir.awrite([option, "f", "--", "true"]).run();
        done.assert_error(1, "Error: f: COMMAND printed nothing").assert_hint("awrite -e FILE -- COMMAND");
        assert!(!done.stderr.contains("--allow-empty"), "{done:?}");
    }
    assert_eq!(dir.snapshot("f"), before);
    dir.awrite(["--allow-empty", "f", "--", "true"]).quiet_success();
    assert_eq!(dir.read("f"), "");
    dir.assert_holds(&["f"]);
}

/// COMMAND may fail after its last output: the commit waits for its status, not for the end of its output.
#[test]
fn the_commit_waits_for_commands_end() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.sh("mkfifo gate").quiet_success();
    let mut writer = dir.awrite(["f", "--", "sh", "-c", "echo new; exec >&-; read x < gate; exit $x"]).spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    fs::write(dir.join("gate"), "3\n").unwrap();
    assert!(dir.read("f") == "old");
    wait_until("it has ended", || writer.has_ended());
    writer.finish().assert_error(1, "Error: f: command failed: exit status 3");
    assert_eq!(dir.read("f"), "old");
}

#[test]
fn what_command_says_on_stderr_comes_through() {
    let dir = TestDir::new();
    let done = dir.awrite(["f", "--", "sh", "-c", "echo note >&2; echo x"]).run();
    assert_eq!(done.ok().stderr, "note\n");
}

#[test]
fn command_runs_where_awrite_was_started_with_its_environment() {
    let dir = TestDir::new();
    dir.dir("sub");
    let done = dir.awrite(["sub/f", "--", "sh", "-c", "pwd; echo $NOTE"]).env("NOTE", "kept").run();
    done.ok();
    let here = fs::canonicalize(dir.path()).unwrap();
    assert_eq!(dir.read("sub/f"), format!("{}\nkept\n", here.display()));
}

/// A child that outlives awrite must not have descriptors of the directory or of the staged file.
#[test]
fn children_get_the_standard_descriptors_and_that_of_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    // The tests may have inherited more open descriptors.
    let direct = dir.program("ls", ["/proc/self/fd"]).run().stdout;
    for option in ["--quiet", "--stream", "--wait"] {
        dir.awrite([option, "f", "--", "ls", "/proc/self/fd"]).quiet_success();
        // COMMAND gets the lock's descriptor, so that awrite below it finds the lock. Its number is higher than those
        // that scripts use.
        let content = dir.read("f");
        let others: Vec<&str> = content.lines().filter(|fd| direct.lines().any(|there| there == *fd)).collect();
        assert_eq!(others, direct.lines().collect::<Vec<_>>());
        assert_eq!(content.lines().count(), others.len() + 1);
        assert!(content.lines().any(|fd| fd.len() >= 3 && !others.contains(&fd)), "{content}");
        dir.awrite([option, "--validate", "exec ls /proc/self/fd > seen", "f"]).stdin("x").quiet_success();
        assert_eq!(dir.read("seen"), direct);
    }
}

#[test]
fn big_content_does_not_block() {
    let dir = TestDir::new();
    let big: String = (0..400_000).map(|number| format!("{number:08}\n")).collect();
    for option in ["--quiet", "--stream"] {
        dir.file("f", &big);
        dir.awrite([option, "f", "--", "cat"]).quiet_success();
        assert!(dir.read("f") == big);
        // A command that reads little, one that reads nothing, and one that reads all before it writes.
        dir.awrite([option, "f", "--", "head", "-n", "1"]).quiet_success();
        assert_eq!(dir.read("f"), "00000000\n");
        dir.file("f", &big);
        dir.awrite([option, "f", "--", "echo", "new"]).quiet_success();
        assert_eq!(dir.read("f"), "new\n");
        dir.file("f", &big);
        dir.awrite([option, "f", "--", "sort", "-r"]).quiet_success();
        assert!(dir.read("f").starts_with("00399999\n"));
        assert_eq!(dir.read("f").len(), big.len());
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn append_adds_what_command_prints() {
    let dir = TestDir::new();
    dir.file("f", "one\n");
    dir.awrite(["-a", "f", "--", "wc", "-l"]).quiet_success();
    let content = dir.read("f");
    assert!(content.starts_with("one\n") && content.trim_end().ends_with('1'), "{content}");
}

#[test]
fn jq_edits_in_place() {
    if !needs("jq") {
        return;
    }
    let dir = TestDir::new();
    dir.file("config.json", "{\"a\":1}\n");
    dir.awrite(["config.json", "--", "jq", "-c", ".a += 1"]).quiet_success();
    assert_eq!(dir.read("config.json"), "{\"a\":2}\n");
    let done = dir.awrite(["config.json", "--", "jq", "-c", ".["]).run();
    done.assert_code(1);
    assert_eq!(dir.read("config.json"), "{\"a\":2}\n");
}

/// Many processes run at once. Each makes its increments one after the other.
fn count_together(processes: usize, each: usize, options: &str) {
    let dir = TestDir::new();
    dir.file("n", "0\n");
    let script = format!(
        "i=0
        while [ $i -lt {each} ]; do
            \"$BIN\" -q {options} n -- sh -c 'read n; echo $((n + 1))' || exit 1
            i=$((i + 1))
        done"
    );
    let writers: Vec<Running> = (0..processes).map(|_| dir.sh(&script).spawn()).collect();
    for writer in writers {
        let done = writer.finish();
        assert_eq!(done.ok().stderr, "");
    }
    assert_eq!(dir.read("n"), format!("{}\n", processes * each));
    dir.assert_holds(&["n"]);
}

#[test]
fn a_hundred_processes_lose_no_update() {
    let (processes, each) = rounds((20, 10), (100, 20));
    count_together(processes, each, "--sync none");
}

#[test]
fn processes_with_a_timeout_lose_no_update() {
    let (processes, each) = rounds((10, 4), (20, 10));
    count_together(processes, each, "--timeout 59");
}

#[test]
fn processes_that_keep_the_lock_file_lose_no_update() {
    let dir = TestDir::new();
    dir.file("n", "0\n");
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do
            \"$BIN\" -q --keep-lock n -- sh -c 'read n; echo $((n + 1))' || exit 1
        done";
    let writers: Vec<Running> = (0..20).map(|_| dir.sh(script).spawn()).collect();
    for writer in writers {
        writer.finish().ok();
    }
    assert_eq!(dir.read("n"), "200\n");
    dir.assert_holds(&["n", "n.lock"]);
}

/// Some of the writers are killed while they hold the lock. The others must neither hang nor lose anything.
#[test]
fn killed_writers_cost_no_update() {
    let dir = TestDir::new();
    dir.file("n", "0\n");
    let count = "i=0; while [ $i -lt 15 ]; do
            \"$BIN\" -q n -- sh -c 'read n; echo $((n + 1))' || exit 1
            i=$((i + 1))
        done";
    let counters: Vec<Running> = (0..10).map(|_| dir.sh(count).spawn()).collect();
    for _ in 0..20 {
        // This writer is killed before its commit.
        let killed = dir.awrite(["-q", "n", "--", "sh", "-c", "echo 1000000; kill -9 $PPID"]).run();
        assert_eq!(killed.signal, Some(9), "{killed:?}");
    }
    for counter in counters {
        counter.finish().ok();
    }
    assert_eq!(dir.read("n"), "150\n");
    // The last one to hold the lock may have been killed.
    dir.awrite(["-n", "n"]).stdin("0").quiet_success();
    dir.assert_holds(&["n"]);
}

/// What a program that edits the file itself has done would be erased by what it prints, or by nothing.
#[test]
fn a_command_that_changes_the_file_itself_is_found() {
    let dir = TestDir::new();
    let changed = "Error: f: COMMAND changed this file itself; it was not replaced";
    for (script, content) in [
        ("echo direct > f; echo new", "direct\n"),
        ("echo direct > f", "direct\n"),
        ("echo longer >> f; echo new", "old\nlonger\n"),
        ("cp f g; mv g f; echo new", "old\n"),
        ("sleep 0.02; touch f; echo new", "old\n"),
    ] {
        for option in ["--allow-empty", "--stream", "--if-changed"] {
            if option != "--allow-empty" && !script.contains("new") {
                continue;
            }
            dir.file("f", "old\n");
            dir.awrite([option, "--allow-empty", "f", "--", "sh", "-c", script]).run().assert_error(1, changed);
            assert_eq!(dir.read("f"), content, "{option} {script}");
        }
    }
    fs::remove_file(dir.join("f")).unwrap();
    dir.awrite(["f", "--", "sh", "-c", "echo direct > f; echo new"]).run().assert_error(1, changed);
    assert_eq!(dir.read("f"), "direct\n");
    // To read it, to give it another name, and to change its mode is no change of its content.
    dir.awrite(["f", "--", "sh", "-c", "cat f; ln f name; rm name; chmod 600 f"]).quiet_success();
    dir.assert_holds(&["f"]);
}

/// Of a COMMAND that fails, only its end is waited for: what it left behind may keep its standard output for ever.
#[test]
fn a_failed_command_is_not_waited_for_any_longer() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for option in ["--quiet", "--stream"] {
        for script in
            ["(exec sleep 600) & echo $! > pid; echo half; exit 3", "(exec sleep 600) & echo $! > pid; kill -9 $$"]
        {
            let done = dir.awrite([option, "f", "--", "sh", "-c", script]).run();
            dir.sh("kill $(cat pid); rm pid").quiet_success();
            done.assert_error_with(1, &["Error: f: command failed: "]);
            assert_eq!(dir.read("f"), "old");
            dir.assert_holds(&["f"]);
        }
    }
}

/// What succeeds is read to its end, whoever writes it.
#[test]
fn the_output_of_a_command_that_has_ended_is_complete() {
    let dir = TestDir::new();
    for option in ["--quiet", "--stream"] {
        dir.awrite([option, "f", "--", "sh", "-c", "(sleep 0.2; echo late) & echo early"]).quiet_success();
        assert_eq!(dir.read("f"), "early\nlate\n");
    }
}

#[test]
fn a_command_that_ignores_sigterm_does_not_delay_an_error() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let command = "trap '' TERM PIPE; head -c 100000 /dev/zero 2>/dev/null; exec sleep 600";
    let done = dir.sh(&format!("ulimit -f 8; exec \"$BIN\" --stream f -- sh -c \"{command}\"")).run();
    done.assert_error(1, "Error: f: File too large").assert_hint("ulimit -f");
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f"]);
}

/// The lock is COMMAND's, too. Who is refused is told whom to ask.
#[test]
fn the_orphan_that_has_the_lock_is_named() {
    let dir = TestDir::new();
    let orphaned = dir.awrite(["f", "--", "sh", "-c", "echo $$ > pid; kill -9 $PPID; exec sleep 600"]).run();
    assert_eq!(orphaned.signal, Some(9));
    let pid = dir.read("pid");
    // One that waits has the lock file open, too.
    let mut waiter = dir.awrite(["f"]).stdin("waited").spawn();
    waiter.wait_for_waiting();
    let done = dir.awrite(["-n", "f"]).stdin("x").run();
    done.assert_error(2, "Error: f: File locked by another process")
        .assert_hint(&format!("held by PID {}", pid.trim()));
    dir.sh("kill $(cat pid)").quiet_success();
    waiter.finish().ok();
    assert_eq!(dir.read("f"), "waited");
    dir.assert_holds(&["f", "pid"]);
}
