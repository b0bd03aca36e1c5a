//! What is said, word for word, to people and (with `--json`) to machines.

use serde_json::Value;

use crate::common::{Done, Held, TestDir, needs, needs_root, wait_until};

#[test]
fn errors_have_a_path_a_reason_and_where_there_is_one_a_remedy() {
    let dir = TestDir::new();
    dir.dir("d");
    let said = |args: &[&str]| dir.awrite(args).stdin("x").run().stderr;
    assert_eq!(said(&["-i", "missing.txt", "f"]), "Error: missing.txt: No such file or directory\n");
    assert_eq!(said(&["f", "--", "sh", "-c", "exit 4"]), "Error: f: command failed: exit status 4\n");
    assert_eq!(said(&["--validate", "false", "f"]).lines().count(), 1);
    let said = dir.awrite(["f"]).run().stderr;
    assert_eq!(said.lines().next(), Some("Error: No input provided"));
    assert!(said.lines().nth(1).is_some_and(|line| line.starts_with("Hint: ")), "{said}");
    dir.assert_holds(&["d"]);
}

#[test]
fn hints_help() {
    let dir = TestDir::new();
    // Habits from sed and cp.
    dir.file("app.json", "old");
    let done = dir.awrite(["-i", "app.json", "--", "jq", ".a=7"]).stdin("x").run();
    let meant =
        "Error: OUTPUT is missing before --: awrite OUTPUT -- jq .a=7; -i names what is read, not what is written";
    done.assert_error(1, meant);
    let done = dir.awrite(["app.json", "copy"]).stdin("x").run();
    done.assert_error(1, "Error: 'copy': unexpected argument; put -- before COMMAND, or -i before a file to read");
    // A directory that another user may not write: awrite needs it for the new file, awrite-lock for the lock alone.
    dir.dir("closed");
    dir.file_with_mode("closed/f", "old", 0o666);
    if needs_root() {
        let done = dir.awrite_unprivileged(["closed/f"]).stdin("x").run();
        done.assert_error(1, "Error: closed/f.lock: Permission denied").assert_hint("Run with sudo");
        let done = dir.awrite_unprivileged(["lock", "closed/f", "--", "true"]).run();
        done.assert_error(1, "Error: closed/f.lock: Permission denied").assert_hint("--lock-dir");
        dir.file("immutable", "old");
        if dir.sh("chattr +i immutable").run().code == Some(0) {
            let done = dir.awrite(["immutable"]).stdin("x").run();
            dir.sh("chattr -i immutable").quiet_success();
            done.assert_error(1, "Error: immutable: The file is immutable (chattr +i)").assert_hint("chattr -i");
            assert!(!done.stderr.contains("--force"), "{done:?}");
        }
    }
}

#[test]
fn a_terminal_is_told_that_it_is_read() {
    if !needs("script") {
        return;
    }
    let dir = TestDir::new();
    let typed = |options: &str| {
        let done =
            dir.program("script", ["-qec", &format!("\"$BIN\" {options} f"), "/dev/null"]).stdin("typed\n\x04").run();
        assert_eq!(dir.read("f"), "typed\n");
        done.ok().stdout.matches("Reading from the terminal; end with ^D").count()
    };
    assert_eq!(typed(""), 1);
    assert_eq!(typed("-b --stream"), 1);
    assert_eq!(typed("-q"), 0);
    // Nobody types here.
    dir.awrite(["f"]).stdin("x").quiet_success();
    dir.awrite(["f", "--", "echo", "x"]).quiet_success();
    dir.sh("script -qec '\"$BIN\" f -- echo y' /dev/null").quiet_success();
}

/// What others print begins on a line of its own.
#[test]
fn a_progress_line_is_gone_before_a_check_speaks() {
    if !needs("script") {
        return;
    }
    let dir = TestDir::new();
    let slow = "(head -c 9000 /dev/zero; sleep 0.3; head -c 9000 /dev/zero)";
    let command = format!("{slow} | \"$BIN\" --progress --stream --validate 'echo said by the check' f");
    let done = dir.program("script", ["-qec", &command, "/dev/null"]).run();
    let before = done.ok().stdout.split("said by").next().unwrap_or_default();
    assert!(before.contains("KiB/s") && before.ends_with("\r\x1b[K"), "{done:?}");
}

#[test]
fn paths_are_shown_as_they_were_typed() {
    let dir = TestDir::new();
    dir.dir("d");
    dir.file("d/f", "x");
    let absolute = dir.join("d/f");
    let _held = Held::new(&dir.join("d/f.lock"));
    for typed in ["d/f", "./d/f", "d//f", "d/../d/f", absolute.to_str().unwrap()] {
        let done = dir.awrite(["-n", typed]).stdin("x").run();
        done.assert_error(2, &format!("Error: {typed}: File locked by another process"));
    }
}

#[test]
fn names_cannot_forge_messages() {
    let dir = TestDir::new();
    let name = "x\nError: forged\r\x1b[31m/f";
    let done = dir.awrite([name]).stdin("x").run();
    done.assert_code(1);
    assert_eq!(done.stderr.lines().filter(|line| line.starts_with("Error: ")).count(), 1, "{done:?}");
    assert!(!done.stderr.contains('\x1b') && !done.stderr.contains('\r'), "{done:?}");
}

#[test]
fn verbosity_has_four_steps() {
    let dir = TestDir::new();
    let said = |args: &[&str]| {
        let done = dir.awrite(args.iter().chain(&["f"])).stdin("new").run();
        done.ok();
        assert_eq!(done.stdout, "");
        done.stderr
    };
    assert_eq!(said(&["-q"]), "");
    assert_eq!(said(&[]), "");
    let info = said(&["-v"]);
    let debug = said(&["-vv"]);
    assert!(info.contains('f') && !info.is_empty(), "{info}");
    assert!(debug.lines().count() > info.lines().count(), "{debug}");
    assert_eq!(said(&["-v", "-v"]).lines().count(), debug.lines().count());
    assert_eq!(said(&["--verbose"]).lines().count(), info.lines().count());
    // Errors are said at any step.
    dir.awrite(["-q", "no/such"]).stdin("x").run().assert_error_with(1, &["no/such"]);
}

#[test]
fn the_lock_method_is_told_at_debug_level() {
    let dir = TestDir::new();
    let done = dir.awrite(["-vv", "f"]).stdin("x").run();
    assert!(done.ok().stderr.contains("flock"), "{done:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// JSON

fn events(done: &Done) -> Vec<Value> {
    done.stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .inspect(|event: &Value| {
            for field in ["time", "level", "event", "message"] {
                assert!(event[field].is_string(), "{field} of {event}");
            }
            let level = event["level"].as_str().unwrap();
            assert!(["error", "warn", "info", "debug"].contains(&level), "{event}");
            let name = event["event"].as_str().unwrap();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{event}");
            let time: &str = event["time"].as_str().unwrap();
            // 2026-01-02T03:04:05Z, with or without a fraction, or with an offset.
            let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert!(shape.starts_with("0000-00-00T00:00:00"), "{event}");
            assert!(time.ends_with('Z') || time[19..].contains(['+', '-']), "{event}");
            for (key, value) in event.as_object().unwrap() {
                if key.ends_with("_ms") {
                    assert!(value.is_number(), "{key} of {event}");
                }
            }
        })
        .collect()
}

#[track_caller]
fn the_one<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found: Vec<&Value> = events.iter().filter(|event| event["event"] == name).collect();
    assert_eq!(found.len(), 1, "{name} in {events:#?}");
    found[0]
}

#[test]
fn json_tells_of_a_write() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let done = dir.awrite(["--json", "-b", "f"]).stdin("new content").run();
    done.ok();
    assert_eq!(done.stdout, "");
    let events = events(&done);
    let locked = the_one(&events, "lock_acquired");
    assert_eq!(locked["lock_file"], "f.lock");
    assert_eq!(locked["method"], "flock");
    assert!(locked["wait_time_ms"].is_number());
    let committed = the_one(&events, "committed");
    assert_eq!(committed["path"], "f");
    assert_eq!(committed["bytes"], 11);
    assert_eq!(committed["changed"], true);
    assert_eq!(committed["backup"], "f.backup");
    assert!(committed["duration_ms"].is_number());
    assert_eq!(committed["level"], "info");

    let done = dir.awrite(["--json", "--if-changed", "f"]).stdin("new content").run();
    let events = self::events(&done);
    assert!(events.iter().any(|event| event["changed"] == false), "{events:#?}");
    assert!(events.iter().all(|event| event["backup"].is_null()), "{events:#?}");
}

#[test]
fn json_tells_of_waiting() {
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    let mut writer = dir.awrite(["--json", "--timeout", "50", "f"]).stdin("x").spawn();
    writer.wait_for_stderr("\n");
    wait_until("it waits", || crate::common::somebody_waits_for(held.inode()));
    held.release();
    let done = writer.finish();
    done.ok();
    let events = events(&done);
    assert!(events.iter().any(|event| event["message"] == "Waiting for lock on f (50s timeout)..."), "{events:#?}");
    let locked = the_one(&events, "lock_acquired");
    assert!(locked["wait_time_ms"].as_f64().unwrap() >= 0.0);
}

#[test]
fn json_tells_of_errors() {
    let dir = TestDir::new();
    let _held = Held::new(&dir.join("f.lock"));
    let done = dir.awrite(["--json", "-n", "f"]).stdin("x").run();
    done.assert_code(2);
    let all = events(&done);
    let error = the_one(&all, "error");
    assert_eq!(error["level"], "error");
    assert_eq!(error["path"], "f");
    assert_eq!(error["exit_code"], 2);
    assert_eq!(error["holder_pid"], std::process::id());
    assert!(error["hint"].as_str().unwrap().starts_with("held by PID "), "{error}");
    assert!(error["message"].as_str().unwrap().contains("File locked by another process"), "{error}");

    let done = dir.awrite(["--json", "-i", "missing.txt", "g"]).run();
    done.assert_code(1);
    let all = events(&done);
    let error = the_one(&all, "error");
    assert_eq!((&error["path"], &error["errno"], &error["exit_code"]), (&"missing.txt".into(), &2.into(), &1.into()));

    for args in [&["--json", "--mode", "9", "g"][..], &["--json"], &["g", "h", "--json"]] {
        let done = dir.awrite(args).stdin("x").run();
        done.assert_code(1);
        let all = events(&done);
        assert_eq!(the_one(&all, "error")["exit_code"], 1);
    }
    let done = dir.awrite(["--json", "g"]).run();
    assert!(the_one(&events(&done), "error")["message"].as_str().unwrap().contains("No input provided"));
}

#[test]
fn json_tells_of_a_signal() {
    let dir = TestDir::new();
    let writer = dir.awrite(["--json", "f"]).stdin_open().spawn();
    wait_until("the lock is held", || crate::common::lock_is_held(&dir.join("f.lock")));
    writer.signal(rustix::process::Signal::TERM);
    let mut writer = writer;
    wait_until("it has ended", || writer.has_ended());
    let done = writer.finish();
    done.assert_code(3);
    let all = events(&done);
    assert!(all.iter().any(|event| event["message"].as_str().unwrap().contains("Interrupted")), "{all:#?}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf_8_do_not_break_json() {
    use std::os::unix::ffi::OsStrExt;
    let dir = TestDir::new();
    for bytes in [&b"\xff\x80.txt"[..], b"quote\"back\\slash", b"tab\tnew\nline\x01", "\u{7f}\u{2028}".as_bytes()] {
        let name = std::ffi::OsStr::from_bytes(bytes);
        let done = dir.awrite([std::ffi::OsStr::new("--json"), std::ffi::OsStr::new("-b"), name]).stdin("x").run();
        done.ok();
        assert!(the_one(&events(&done), "committed")["path"].is_string());
        let missing = dir.join("no-such").join(name);
        let done = dir.awrite([std::ffi::OsStr::new("--json"), missing.as_os_str()]).stdin("x").run();
        done.assert_code(1);
        assert!(the_one(&events(&done), "error")["path"].is_string());
    }
}

#[test]
fn quiet_json_is_errors_only() {
    let dir = TestDir::new();
    for args in [["--json", "-q", "f"], ["-q", "--json", "f"]] {
        let done = dir.awrite(args).stdin("x").run();
        let events = events(&done);
        assert!(done.code == Some(0) && events.iter().all(|event| event["level"] != "debug"), "{done:?}");
    }
    let done = dir.awrite(["--json", "-q", "no/such"]).stdin("x").run();
    assert_eq!(events(&done).len(), 1);
}

#[test]
fn json_debug_lines_are_json_too() {
    let dir = TestDir::new();
    let done = dir.awrite(["--json", "-vv", "-b", "--validate", "true", "f"]).stdin("x").run();
    assert!(events(done.ok()).iter().any(|event| event["level"] == "debug"), "{done:?}");
}
