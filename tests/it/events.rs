//! `--json-fd`: events on a descriptor of their own, beside what people read and what COMMAND prints.

use serde_json::Value;

use crate::common::{Done, TestDir, needs};

/// Runs a shell script that leaves events in the file `events`.
#[track_caller]
fn run(dir: &TestDir, script: &str) -> (Done, Vec<Value>) {
    let done = dir.sh(script).stdin("new\n").run();
    let events = dir.read("events");
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    (done, events.lines().map(parse).collect())
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[test]
fn events_are_apart_from_messages() {
    let dir = TestDir::new();
    for (options, said) in
        [("", ""), ("-q", ""), ("-v", "Lock acquired: f.lock\nWrote f (4 bytes)\nLock released: f.lock\n")]
    {
        let (done, events) = run(&dir, &format!("\"$BIN\" {options} --json-fd 3 f 3>events"));
        assert_eq!((done.ok().stdout.as_str(), done.stderr.as_str()), ("", said), "{options}");
        assert_eq!(names(&events), ["lock_acquired", "committed", "lock_released"], "{options}");
        assert_eq!((&events[1]["path"], &events[1]["bytes"]), (&"f".into(), &4.into()));
    }
    // More of it on both, and JSON on both.
    let (done, events) = run(&dir, "\"$BIN\" -vv --json-fd=3 f 3>events");
    assert!(names(&events).contains(&"debug") && done.stderr.lines().count() == events.len(), "{done:?}");
    let (done, events) = run(&dir, "\"$BIN\" --json --json-fd=3 f 3>events");
    assert_eq!(done.stderr.lines().count(), events.len());
    assert!(done.stderr.lines().all(|line| line.starts_with('{')), "{done:?}");
    // Standard output and error are descriptors like others.
    let (done, events) = run(&dir, "\"$BIN\" --json-fd 1 f >events; echo x | \"$BIN\" --json-fd 2 f 2>>events");
    assert_eq!((done.stderr.as_str(), events.len()), ("", 6));
}

#[test]
fn errors_are_on_both() {
    let dir = TestDir::new();
    for (command, path, said) in [
        ("-i none f", "none", "Error: none: No such file or directory\n"),
        ("f -- sh -c 'echo loud >&2; exit 4'", "f", "loud\nError: f: command failed: exit status 4\n"),
    ] {
        let (done, events) = run(&dir, &format!("\"$BIN\" --json-fd 3 {command} 3>events"));
        assert_eq!((done.code, done.stderr.as_str()), (Some(1), said));
        let error = events.iter().find(|event| event["event"] == "error").unwrap();
        assert_eq!((&error["exit_code"], error["path"].as_str()), (&1.into(), Some(path)));
    }
    // The hint is a line for people and a field for programs; so with an option that is wrong, wherever it stands.
    for options in ["--nonsense --json-fd 3", "--json-fd=3 --nonsense"] {
        let (done, events) = run(&dir, &format!("\"$BIN\" {options} f 3>events"));
        done.assert_error(1, "Error: --nonsense: unknown option").assert_hint("run 'awrite --help'");
        assert_eq!((events.len(), &events[0]["hint"]), (1, &"run 'awrite --help'".into()));
        assert_eq!(events[0]["message"], "--nonsense: unknown option");
    }
    dir.assert_holds(&["events"]);
}

#[test]
fn what_cannot_be_written_to_is_refused_at_once() {
    let dir = TestDir::new();
    for (redirection, number) in [("", 7), ("7</dev/null", 7), ("<&-", 0), (">&-", 1), ("", 999_999)] {
        let done = dir.sh(&format!("\"$BIN\" --json-fd {number} f {redirection}")).stdin("new").run();
        done.assert_error(
            1,
            &format!(
                "Error: --json-fd: descriptor {number} is not open for writing; in a shell, {number}>FILE opens it"
            ),
        );
    }
    for word in ["", "x", "-1", "1.5", "99999999999"] {
        let done = dir.awrite(["--json-fd", word, "f"]).stdin("new").run();
        done.assert_error(1, &format!("Error: --json-fd: '{word}' is not a descriptor's number"));
    }
    dir.assert_holds(&[]);
}

#[test]
fn no_child_gets_the_descriptor() {
    let dir = TestDir::new();
    let look = "for fd in /proc/self/fd/*; do readlink $fd; done | grep -c /events";
    for (command, stdout) in [
        (format!("f -- sh -c '{look} >seen; echo x'"), ""),
        (format!("--validate '{look} >seen; true' f"), ""),
        (format!("lock f -- sh -c '{look} >seen; true'"), ""),
        (format!("lock -F f -- sh -c '{look} >seen; true'"), ""),
        // That an awrite below has no such descriptor is said by it.
        ("lock f -- sh -c 'echo x | $BIN --json-fd 3 f 2>seen; true'".to_owned(), ""),
    ] {
        let command = command.replacen("lock ", "lock --json-fd 3 ", 1);
        let command = if command.starts_with("lock") { command } else { format!("--json-fd 3 {command}") };
        let (done, events) = run(&dir, &format!("\"$BIN\" {command} 3>events"));
        assert_eq!((done.ok().stdout.as_str(), names(&events)[0]), (stdout, "lock_acquired"), "{command}");
        let seen = dir.read("seen");
        assert!(seen.trim() == "0" || seen.contains("descriptor 3 is not open"), "{command}: {seen}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = TestDir::new();
    dir.sh("{ \"$BIN\" --json-fd 3 f; echo $? >status; } 3>&1 >&2 | true").stdin("new").quiet_success();
    assert_eq!((dir.read("status").as_str(), dir.read("f").as_str()), ("0\n", "new"));
    dir.sh("\"$BIN\" --json-fd 3 f 3>/dev/full").stdin("newer").quiet_success();
    assert_eq!(dir.read("f"), "newer");
}

#[test]
fn a_signal_is_an_event() {
    let dir = TestDir::new();
    let mut waiting = dir.sh("exec \"$BIN\" --json-fd 3 f -- sh -c 'echo begun >&2; exec sleep 60' 3>events").spawn();
    waiting.wait_for_stderr("begun");
    waiting.signal(rustix::process::Signal::TERM);
    waiting.finish().assert_code(3);
    let events = dir.read("events");
    assert!(events.lines().last().is_some_and(|line| line.contains("\"event\":\"interrupted\"")), "{events}");
}

/// Progress is drawn on the terminal; events are written without its control characters.
#[test]
fn a_progress_line_is_not_mixed_in() {
    if !needs("script") {
        return;
    }
    let dir = TestDir::new();
    let slow = "(head -c 9000 /dev/zero; sleep 0.3; head -c 9000 /dev/zero)";
    let command = format!("{slow} | \"$BIN\" --progress --stream --json-fd 3 f 3>events");
    let done = dir.program("script", ["-qec", &command, "/dev/null"]).run();
    assert!(done.ok().stdout.contains("KiB/s"), "{done:?}");
    assert!(dir.read("events").lines().all(|line| line.starts_with('{')));
}
