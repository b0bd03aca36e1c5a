//! `awrite-lock`: leases across processes, and a command under a lease.

use std::fs;
use std::time::Duration;

use awrite::{Claim, FileLock, Lease, LockOptions, LockStatus};
use rustix::process::Signal;

use crate::common::{AWRITE, Done, Held, Running, TestDir, needs_strace, wait_until};

/// `awrite-lock` with these arguments.
/// Takes the lease of `f` and returns the token that was printed.
#[track_caller]
fn acquire(dir: &TestDir, owner: &str, ttl: &str) -> String {
    let done = dir.lock(&["--acquire", "-n", "--owner", owner, "--ttl", ttl, "f"]).run();
    assert_eq!(done.ok().stderr, "");
    let token = done.stdout.strip_suffix('\n').unwrap();
    assert!(token.bytes().all(|b| b.is_ascii_digit()), "{done:?}");
    token.to_owned()
}

#[track_caller]
fn json(text: &str) -> serde_json::Value {
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

#[track_caller]
fn record(dir: &TestDir) -> serde_json::Value {
    json(&dir.read("f.lease"))
}

fn status(dir: &TestDir) -> LockStatus {
    Lease::status(dir.join("f"), &LockOptions::default()).unwrap()
}

/// Whether the lease of `f` stands, its time not over.
fn is_leased(dir: &TestDir) -> bool {
    status(dir).lease.is_some_and(|lease| lease.left.is_some())
}

#[track_caller]
fn outlast(dir: &TestDir) {
    wait_until("the lease has ended", || !is_leased(dir));
}

/// One that runs a script under a lease of A; it has begun when the file `started` is there. The shell waits for `go`
/// in between. `announced` may set traps.
fn under_lease(dir: &TestDir, options: &[&str], announced: &str, after: &str) -> Running {
    let script = format!("{announced}\ntouch started; while test ! -e go; do sleep 0.01; done; {after}");
    let mut running = dir.lock(&[&["--owner", "A"], options, &["f", "-c", &script]].concat()).spawn();
    wait_until("COMMAND runs", || {
        assert!(!running.has_ended(), "{}", running.stderr());
        dir.join("started").exists()
    });
    running
}

// ---------------------------------------------------------------------------------------------------------------------
// From one process to the next

#[test]
fn a_lease_goes_from_command_to_command() {
    let dir = TestDir::new();
    let token = acquire(&dir, "A", "60s");
    dir.assert_holds(&["f.lease"]);
    let first = record(&dir);
    assert_eq!((&first["owner"], &first["ttl_ms"]), (&"A".into(), &60_000.into()));
    assert_eq!(first["token"].to_string(), token);
    // Only its owner may write.
    dir.awrite(["-n", "f"]).stdin("x").run().assert_error_with(2, &["f: Leased by A until "]);
    dir.lock(&["-n", "f", "--", "touch", "was-run"]).run().assert_code(2);
    dir.awrite(["--owner", "A", "--token", &token, "f"]).stdin("1").quiet_success();
    dir.lock(&["--owner", "A", "--token", &token, "f", "--", "grep", "-q", "1", "f"]).quiet_success();
    // If its owner acquires it again or refreshes it, it is the same lease.
    assert_eq!(acquire(&dir, "A", "120s"), token);
    assert_eq!((&record(&dir)["ttl_ms"], &record(&dir)["locked_at"]), (&120_000.into(), &first["locked_at"]));
    dir.lock(&["--refresh", "--owner", "A", "--token", &token, "f"]).quiet_success();
    assert_eq!(record(&dir)["ttl_ms"], 120_000);
    dir.lock(&["--refresh", "--owner", "A", "--ttl", "30", "f"]).quiet_success();
    assert_eq!((&record(&dir)["ttl_ms"], record(&dir)["token"].to_string()), (&30_000.into(), token.clone()));
    for _ in 0..2 {
        dir.lock(&["--release", "--owner", "A", "f"]).quiet_success();
        dir.assert_holds(&["f"]);
    }
    let done = dir.lock(&["--refresh", "--owner", "A", "f"]).run();
    done.assert_error(2, "Error: f: Not leased by A").assert_hint("acquire the lease");
    let second = acquire(&dir, "B", "60s");
    assert!(second.parse::<u64>().unwrap() > token.parse().unwrap());
    // By its other name.
    dir.program(AWRITE, ["--release", "--owner", "B", "f"]).arg0("awrite-lock").quiet_success();
    dir.assert_holds(&["f"]);
}

#[test]
fn another_owner_or_an_old_token_changes_nothing() {
    let dir = TestDir::new();
    let old = acquire(&dir, "A", "1ms");
    outlast(&dir);
    let other = acquire(&dir, "B", "1ms");
    outlast(&dir);
    let token = acquire(&dir, "A", "60s");
    let text = dir.read("f.lease");
    for what in ["--refresh", "--release"] {
        let done = dir.lock(&[what, "--owner", "B", "f"]).run();
        done.assert_error_with(2, &["f: Leased by A until "]);
        let done = dir.lock(&[what, "--owner", "B", "--token", &other, "f"]).run();
        done.assert_error_with(2, &["f: Leased by A until "]);
        let done = dir.lock(&[what, "--owner", "A", "--token", &old, "f"]).run();
        done.assert_error(2, &format!("Error: f: The lease with token {old} is over: A has token {token} now"));
        dir.lock(&[what, "-E", "77", "--owner", "B", "f"]).run().assert_code(77);
        assert_eq!(dir.read("f.lease"), text);
        dir.assert_holds(&["f.lease"]);
    }
}

#[test]
fn the_next_owner_waits_or_does_not() {
    let dir = TestDir::new();
    let first = acquire(&dir, "A", "1h");
    let attempt =
        |options: &[&str]| dir.lock(&[&["--acquire", "--owner", "B", "--ttl", "1h"], options, &["f"]].concat());
    attempt(&["-n"]).run().assert_error_with(2, &["f: Leased by A until "]);
    attempt(&["-n", "-E", "9"]).run().assert_code(9);
    let done = attempt(&["-w", "100ms"]).run();
    done.assert_error_with(2, &["f: Leased by A until "]).assert_hint("waited 100ms for its end");
    dir.lock(&["-n", "-E", "0", "f", "--", "touch", "was-run"]).run().assert_code(0);
    assert_eq!(record(&dir)["token"].to_string(), first);
    dir.assert_holds(&["f.lease"]);
    let mut waiter = attempt(&[]).spawn();
    waiter.wait_for_waiting();
    dir.lock(&["--release", "--owner", "A", "f"]).quiet_success();
    let done = waiter.finish();
    let lines = done.ok().lines();
    assert!(lines[0].starts_with("Waiting for f, leased by ") && lines[1..] == ["Lock acquired"], "{lines:?}");
    assert!(done.stdout.trim().parse::<u64>().unwrap() > first.parse().unwrap());
    // Changes of the lease wait for the lock.
    let held = Held::new(&dir.join("f.lock"));
    for what in [&["--refresh"][..], &["--release"], &["--acquire", "--ttl=1"]] {
        let done = dir.lock(&[what, &["--owner", "B", "-n", "f"]].concat()).run();
        done.assert_error(2, "Error: f: File locked by another process").assert_hint("held by PID");
    }
    held.release();
}

#[test]
fn a_signal_while_waiting_takes_no_lease() {
    let dir = TestDir::new();
    acquire(&dir, "A", "1h");
    let text = dir.read("f.lease");
    for rest in [&["--acquire", "f"][..], &["f", "--", "touch", "was-run"]] {
        let mut waiter = dir.lock(&[&["--owner", "B", "--ttl", "1h"], rest].concat()).spawn();
        waiter.wait_for_waiting();
        waiter.signal(Signal::TERM);
        let done = waiter.finish();
        assert_eq!(done.assert_code(3).stdout, "");
        assert_eq!(dir.read("f.lease"), text);
        dir.assert_holds(&["f.lease"]);
    }
}

#[test]
fn a_token_that_nobody_hears_of_is_no_lease() {
    let dir = TestDir::new();
    let attempt = |to: &str| {
        let script = format!("\"$BIN\" lock --acquire --owner A --ttl 60s f {to}");
        dir.sh(&script).run()
    };
    for to in [">&-", "> /dev/full"] {
        attempt(to).assert_error_with(1, &["standard output: "]).assert_hint("the lease was given back");
        dir.assert_holds(&[]);
    }
    let done = dir.sh("{ \"$BIN\" lock --acquire --owner A --ttl 60s f; echo $? > code; } | exec true").run();
    // Either of them may have been first.
    let read = dir.read("code") == "0\n";
    assert!(read || done.stderr.contains("Broken pipe"), "{done:?}");
    dir.assert_holds(if read { &["code", "f.lease"] } else { &["code"] });
    // The token was printed, so the owner knows that it has the lease.
    let token = acquire(&dir, "A", "30s");
    attempt("> /dev/full").assert_error_with(1, &["standard output: "]).assert_hint("was there before, and stands");
    assert_eq!((record(&dir)["token"].to_string(), &record(&dir)["ttl_ms"]), (token, &60_000.into()));
}

#[test]
fn for_machines() {
    let dir = TestDir::new();
    let done = dir.lock(&["--acquire", "--json", "--owner", "A", "--ttl", "60s", "f"]).run();
    let said = json(&done.ok().stdout);
    let record = record(&dir);
    assert_eq!(
        (&said["event"], &said["path"], &said["lease_file"]),
        (&"lease_acquired".into(), &"f".into(), &"f.lease".into())
    );
    for field in ["owner", "token", "locked_at", "refreshed_at", "expires_at", "ttl_ms", "host", "pid"] {
        assert_eq!(said[field], record[field], "{field}");
    }
    assert!((1..=60_000).contains(&said["left_ms"].as_u64().unwrap()));
    let done = dir.lock(&["--refresh", "--json", "--owner", "A", "f"]).run();
    let again = json(&done.ok().stdout);
    assert_eq!((&again["event"], &again["token"]), (&"lease_refreshed".into(), &said["token"]));
    assert_ne!(again["expires_at"], said["expires_at"]);
    let done = dir.lock(&["--release", "--json", "--owner", "B", "f"]).run();
    assert_eq!(done.assert_code(2).stdout, "");
    let error = json(&format!("{}\n", done.lines().last().unwrap()));
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &2.into()));
    let done = dir.lock(&["--release", "--json", "--owner", "A", "f"]).run();
    assert!(done.ok().stderr.contains("\"event\":\"lease_released\""), "{done:?}");
    assert_eq!(done.stdout, "");
    // With COMMAND, standard output is COMMAND's.
    let done = dir.lock(&["--json", "--owner", "A", "--ttl", "60s", "f", "--", "echo", "x"]).run();
    assert_eq!(done.ok().stdout, "x\n");
    for event in ["lease_acquired", "lease_released"] {
        assert!(done.stderr.contains(&format!("\"event\":\"{event}\"")), "{done:?}");
    }
    let done = dir.lock(&["-v", "--owner", "A", "--ttl", "60s", "f", "--", "true"]).run();
    assert!(done.stderr.contains("f: Leased by A until "), "{done:?}");
}

/// The lines for people, the JSON object and the exit status of `--status`.
#[track_caller]
fn looked(dir: &TestDir, code: i32) -> (Vec<String>, serde_json::Value) {
    let before = dir.names();
    let done = dir.lock(&["--status", "f"]).run();
    assert_eq!(done.assert_code(code).stderr, "");
    let said = dir.lock(&["--status", "--json", "f"]).run();
    assert_eq!(said.assert_code(code).stderr, "");
    assert_eq!(dir.lock(&["--status", "-E", "44", "f"]).run().code, Some(if code == 0 { 0 } else { 44 }));
    assert_eq!(dir.names(), before);
    (done.stdout.lines().map(str::to_owned).collect(), json(&said.stdout))
}

#[test]
fn status_in_every_state() {
    use serde_json::Value::Null;
    let dir = TestDir::new();
    let (text, said) = looked(&dir, 0);
    assert_eq!(text, ["f: Free"]);
    assert_eq!((&said["event"], &said["path"], &said["lock_file"]), (&"status".into(), &"f".into(), &"f.lock".into()));
    assert_eq!((&said["free"], &said["held"], &said["leased"]), (&true.into(), &false.into(), &false.into()));
    let nothing =
        ["holder_pid", "holder", "lease_file", "owner", "token", "locked_at", "expires_at", "ttl_ms", "left_ms", "pid"];
    for field in nothing {
        assert_eq!(said.as_object().unwrap().get(field), Some(&Null), "{field}");
    }
    // A lock file that a crash left.
    dir.file("f.lock", "");
    assert_eq!(looked(&dir, 0).0, ["f: Free"]);

    let held = Held::new(&dir.join("f.lock"));
    let (text, said) = looked(&dir, 2);
    let me = std::process::id();
    assert!(text.len() == 1 && text[0].starts_with(&format!("f: Held by PID {me} (")), "{text:?}");
    assert_eq!((&said["free"], &said["held"], &said["holder_pid"]), (&false.into(), &true.into(), &me.into()));
    assert!(said["holder"].is_string() && said["owner"].is_null(), "{said}");
    held.release();
    fs::remove_file(dir.join("f.lock")).unwrap();

    let token = acquire(&dir, "A \"7\"", "1h");
    let (text, said) = looked(&dir, 2);
    assert!(text.len() == 1 && text[0].starts_with("f: Leased by A \"7\" until "), "{text:?}");
    assert!(text[0].ends_with(&format!(" (token {token})")), "{text:?}");
    assert_eq!((&said["free"], &said["held"], &said["leased"]), (&false.into(), &false.into(), &true.into()));
    assert_eq!(
        (&said["owner"], said["token"].to_string(), &said["ttl_ms"]),
        (&"A \"7\"".into(), token.clone(), &3_600_000.into())
    );
    assert_eq!(said["expires_at"], record(&dir)["expires_at"]);

    let held = Held::new(&dir.join("f.lock"));
    let (text, said) = looked(&dir, 2);
    assert!(text.len() == 2 && text[0].starts_with("f: Held by") && text[1].starts_with("f: Leased by"), "{text:?}");
    assert_eq!((&said["held"], &said["leased"]), (&true.into(), &true.into()));
    held.release();
    fs::remove_file(dir.join("f.lock")).unwrap();

    dir.lock(&["--refresh", "--owner", "A \"7\"", "--ttl", "1ms", "f"]).quiet_success();
    outlast(&dir);
    let (text, said) = looked(&dir, 0);
    assert_eq!(text, [format!("f: Free; the lease of A \"7\" is over (token {token})")]);
    assert_eq!((&said["free"], &said["leased"], &said["left_ms"]), (&true.into(), &false.into(), &0.into()));
    assert_eq!(said["token"].to_string(), token);

    dir.lock(&["--status", "no/such/f"]).run().assert_error_with(1, &["no/such/f: "]);
}

#[test]
fn a_record_that_cannot_be_trusted_is_kept() {
    let dir = TestDir::new();
    for text in ["", "{", "somebody's", "{\"version\":2,\"owner\":\"A\"}"] {
        dir.file("f.lease", text);
        for args in [
            &["--acquire", "--owner", "A", "--ttl", "60s", "f"][..],
            &["--refresh", "--owner", "A", "f"],
            &["--release", "--owner", "A", "f"],
            &["--status", "f"],
            &["--status", "--json", "-q", "f"],
            &["--owner", "A", "--ttl", "60s", "f", "--", "touch", "was-run"],
            &["--owner", "A", "f", "--", "touch", "was-run"],
        ] {
            let done = dir.lock(args).run();
            assert_eq!(done.assert_code(1).stdout, "");
            assert!(done.stderr.contains("f.lease: Not a lease record that can be trusted"), "{args:?}: {done:?}");
            assert_eq!(dir.read("f.lease"), text);
            dir.assert_holds(&["f.lease"]);
        }
    }
}

#[test]
fn records_lie_where_the_lock_options_say() {
    let dir = TestDir::new();
    dir.dir("locks");
    dir.dir("repo");
    for name in ["repo", "repo/", "repo/."] {
        dir.lock(&["--acquire", "--owner", "A", "--ttl", "1h", name]).run().assert_code(0);
        dir.assert_holds(&["locks", "repo", "repo.lease"]);
        dir.lock(&["--status", name]).run().assert_code(2);
        dir.lock(&["--release", "--owner", "A", name]).quiet_success();
    }
    let term = ["--owner", "A", "--ttl", "1h"];
    let script = "ls locks | grep -q '%f.lease$' && echo x | \"$BIN\" -n f && echo y | \"$BIN\" -n --lock-dir . f";
    let done = dir.lock(&[&term[..], &["--lock-dir", "locks", "f", "-c", script]].concat());
    // The second one looks elsewhere, and finds nothing.
    done.env("AWRITE_LOCK_DIR", "locks").quiet_success();
    assert_eq!(dir.read("f"), "y\n");
    dir.assert_holds(&["f", "locks", "repo"]);
    assert!(fs::read_dir(dir.join("locks")).unwrap().next().is_none());
}

// ---------------------------------------------------------------------------------------------------------------------
// A command under a lease

#[test]
fn the_lease_is_refreshed_while_command_runs_and_given_back() {
    let dir = TestDir::new();
    let running = under_lease(&dir, &["--ttl", "900ms"], "", "exit 7");
    let first = record(&dir);
    assert_eq!((&first["owner"], &first["ttl_ms"], &first["pid"]), (&"A".into(), &900.into(), &running.id().into()));
    let end = |record: &serde_json::Value| record["expires_boottime_ms"].as_u64().unwrap();
    let mut last = first.clone();
    for _ in 0..4 {
        wait_until("it is refreshed", || record(&dir)["refreshed_at"] != last["refreshed_at"]);
        let now = record(&dir);
        assert_eq!((&now["token"], &now["owner"], &now["pid"]), (&first["token"], &first["owner"], &first["pid"]));
        // Not before a third of its time has passed.
        assert!(end(&now) - end(&last) >= 300, "{last} {now}");
        last = now;
    }
    dir.file("go", "");
    let done = running.finish();
    assert_eq!((done.code, done.stderr.as_str()), (Some(7), ""));
    dir.assert_holds(&["go", "started"]);
}

#[test]
fn its_status_and_streams_are_commands() {
    let dir = TestDir::new();
    let term = ["--owner", "A", "--ttl", "60s", "f"];
    for (script, status) in [("exit 0", 0), ("exit 2", 2), ("exit 255", 255), ("kill -9 $$", 137)] {
        let done = dir.lock(&[&term[..], &["-c", script]].concat()).run();
        assert_eq!((done.code, done.stderr.as_str()), (Some(status), ""), "{script}");
        dir.assert_holds(&[]);
    }
    let done = dir.lock(&[&term[..], &["--", "sh", "-c", "cat; echo \"$1\"", "x", "--"]].concat()).stdin("in ").run();
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "in --\n", ""));
    let done = dir.lock(&[&term[..], &["--", "no-such-program"]].concat()).run();
    done.assert_error(127, "Error: f: cannot run no-such-program: No such file or directory");
    dir.file_with_mode("plain", "x", 0o644);
    dir.lock(&[&term[..], &["--", "./plain"]].concat()).run().assert_code(126);
    dir.assert_holds(&["plain"]);
}

#[test]
fn what_runs_below_goes_on_under_the_lease() {
    let dir = TestDir::new();
    dir.dir("d");
    std::os::unix::fs::symlink("f", dir.join("link")).unwrap();
    let below = |options: &[&str], script: &str| {
        let script = format!("set -e\n{script}");
        dir.lock(&[&["--owner", "A", "--ttl", "60s"], options, &["f", "-c", &script]].concat()).run()
    };
    let all = "echo 1 | \"$BIN\" f; echo 2 | \"$BIN\" -n -a \"$PWD/link\"; (cd d; echo 3 | \"$BIN\" -an ../f)
        \"$BIN\" f -- sed 's/1/0/'; \"$BIN\" lock -n f -- sh -c 'echo 4 | \"$BIN\" -a f'
        echo 5 | \"$BIN\" -a --lock-on-commit f; echo 6 | \"$BIN\" -a --owner A f
        echo x | \"$BIN\" g; echo x | \"$BIN\" d/f";
    let done = below(&[], all);
    assert_eq!(done.ok().stderr, "");
    assert_eq!(dir.read("f"), "0\n2\n3\n4\n5\n6\n");
    dir.assert_holds(&["d", "f", "g", "link"]);
    // Each lease counts for its own target only.
    let done = below(&[], "\"$BIN\" lock --owner B --ttl 60s g -c 'echo a | \"$BIN\" f; echo b | \"$BIN\" g'");
    assert_eq!((done.ok().stderr.as_str(), dir.read("f"), dir.read("g")), ("", "a\n".into(), "b\n".into()));
    // A given owner overrides the one that is passed on.
    let done = below(&[], "echo x | \"$BIN\" --owner B f");
    done.assert_error_with(2, &["f: Leased by A until "]);
    // Not passed on: like any other.
    let done = below(&["-o"], "test -z \"${AWRITE_LEASED-}\"; echo x | \"$BIN\" -n f");
    done.assert_error_with(2, &["f: Leased by A until "]);
    assert_eq!(dir.read("f"), "a\n");
    dir.assert_holds(&["d", "f", "g", "link"]);
}

/// Its holder cannot do so while the lock is held below, and is stopped here.
#[test]
fn a_write_below_refreshes_the_lease_when_that_is_due() {
    let dir = TestDir::new();
    let write = "echo x | \"$BIN\" f; sed 's/.*\"refreshed_at\":\"\\([^\"]*\\)\".*/\\1/' f.lease";
    let script = format!("kill -STOP $PPID; {write}; sleep 1.1; {write}; kill -CONT $PPID");
    let done = dir.lock(&["--owner", "A", "--ttl", "3", "f", "-c", &script]).run();
    let times: Vec<&str> = done.ok().stdout.lines().collect();
    assert!(times.len() == 2 && times[0] < times[1], "{times:?}");
    let done = dir.lock(&["--owner", "A", "--ttl", "60", "f", "-c", &format!("{write}; sleep 0.01; {write}")]).run();
    let times: Vec<&str> = done.ok().stdout.lines().collect();
    assert!(times.len() == 2 && times[0] == times[1], "not due: {times:?}");
}

/// An error that keeps the lease in place is one.
#[test]
fn a_lease_that_cannot_be_removed_is_an_error() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    acquire(&dir, "A", "60s");
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=unlinkat:error=EIO:when=1", AWRITE];
    let done = dir.program("strace", strace.iter().chain(&["lock", "--release", "--owner", "A", "f"])).run();
    done.assert_error_with(1, &["f.lease: cannot remove the lease: Input/output error"]);
    dir.lock(&["--status", "f"]).run().assert_code(2);
}

#[test]
fn a_lost_lease_stops_command() {
    let dir = TestDir::new();
    for (options, code) in [(&["--ttl", "300ms"][..], 2), (&["--ttl", "300ms", "-E", "44"], 44)] {
        let trap = "trap 'echo told > told; exit 0' TERM";
        let mut running = under_lease(&dir, options, trap, "");
        dir.lock(&["--release", "--owner", "A", "f"]).run().ok();
        acquire(&dir, "B", "1h");
        let text = dir.read("f.lease");
        wait_until("it ends", || running.has_ended());
        let done = running.finish();
        done.assert_error_with(code, &["f: the lease is lost, COMMAND is told to stop: "]);
        assert_eq!((dir.read("told").as_str(), dir.read("f.lease")), ("told\n", text));
        dir.assert_holds(&["f.lease", "started", "told"]);
        for name in ["f.lease", "started", "told"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
}

#[test]
fn kill_after_ends_a_command_that_ignores_the_loss_of_its_lease() {
    let dir = TestDir::new();
    let options = ["--ttl", "300ms", "--kill-after", "50ms"];
    let mut running = under_lease(&dir, &options, "trap '' TERM", "");
    dir.lock(&["--release", "--owner", "A", "f"]).run().ok();
    wait_until("it ends", || running.has_ended());
    running.finish().assert_error_with(2, &["f: the lease is lost, COMMAND is told to stop: "]);
    dir.assert_holds(&["started"]);
}

/// A lease that cannot be refreshed, because somebody holds the lock for too long.
#[test]
fn kill_after_is_over_before_the_lease_ends() {
    let dir = TestDir::new();
    let script = "trap ': >told' TERM; echo $$ >pid.new; mv pid.new pid; while :; do : >alive; sleep 0.02; done";
    let holder = dir.lock(&["--owner", "A", "--ttl", "4", "--kill-after", "1", "f", "-c", script]).spawn();
    wait_until("COMMAND runs", || dir.join("pid").exists());
    let held = Held::new(&dir.join("f.lock"));
    let ends = status(&dir).lease.unwrap().expires_at;
    let pid = dir.read("pid").trim().to_owned();
    wait_until("COMMAND is gone", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    held.release();
    holder.finish().assert_error_with(2, &["f: the lease is lost, COMMAND is told to stop: "]);
    let alive = fs::metadata(dir.join("alive")).unwrap().modified().unwrap();
    assert!(alive < ends, "{alive:?} {ends:?}");
    dir.assert_holds(&["alive", "pid", "told"]);
}

/// COMMAND gets SIGTERM and is not killed: it may have much to clean up.
#[test]
fn a_command_without_its_lease_cannot_write() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let after = "echo x | \"$BIN\" f; echo $? > code; \"$BIN\" lock f -- touch was-run";
    let mut running = under_lease(&dir, &["--ttl", "300ms"], "trap : TERM", after);
    dir.lock(&["--release", "--owner", "A", "f"]).run().ok();
    running.wait_for_stderr("the lease is lost, COMMAND is told to stop: Not leased by A");
    // Even if nobody else has the lease.
    assert!(!running.has_ended());
    dir.file("go", "");
    let done = running.finish();
    done.assert_code(2);
    assert_eq!(done.stderr.matches("Error: f: The lease that this runs under is over").count(), 2, "{done:?}");
    done.assert_hint("AWRITE_LEASED");
    assert_eq!((dir.read("f").as_str(), dir.read("code").as_str()), ("old", "2\n"));
    dir.assert_holds(&["code", "f", "go", "started"]);
}

#[test]
fn killed_it_leaves_the_lease_to_its_time() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let after = "echo x | \"$BIN\" f 2> err; echo $? > code.new; mv code.new code";
    let mut running = under_lease(&dir, &["--ttl", "500ms"], "", after);
    running.signal(Signal::KILL);
    wait_until("it ends", || running.has_ended());
    let mut next = dir.lock(&["--acquire", "--owner", "B", "--ttl", "1h", "f"]).spawn();
    wait_until("its time is over", || next.has_ended());
    next.finish().ok();
    // COMMAND lives on, but its lease is over.
    dir.file("go", "");
    wait_until("COMMAND ends", || dir.join("code").exists());
    assert_eq!((dir.read("code").as_str(), dir.read("f").as_str()), ("2\n", "old"));
    assert!(dir.read("err").contains("The lease that this runs under is over"), "{}", dir.read("err"));
    assert_eq!(record(&dir)["owner"], "B");
}

#[test]
fn stopped_past_its_end() {
    let dir = TestDir::new();
    let clear = || {
        for name in ["f.lease", "started", "go"] {
            let _ = fs::remove_file(dir.join(name));
        }
    };
    // Nobody has taken the lease, so it goes on.
    let running = under_lease(&dir, &["--ttl", "300ms"], "", "exit 5");
    let token = record(&dir)["token"].clone();
    stop(&dir, &running);
    outlast(&dir);
    running.signal(Signal::CONT);
    wait_until("it is refreshed", || is_leased(&dir));
    assert_eq!(record(&dir)["token"], token);
    dir.file("go", "");
    running.finish().assert_code(5);
    clear();
    // Another owner has taken the lease, and COMMAND gets a signal.
    let mut running = under_lease(&dir, &["--ttl", "300ms"], "", "");
    stop(&dir, &running);
    outlast(&dir);
    acquire(&dir, "B", "1h");
    running.signal(Signal::CONT);
    wait_until("it ends", || running.has_ended());
    running.finish().assert_error_with(2, &["the lease is lost, COMMAND is told to stop: Leased by B until "]);
    assert_eq!(record(&dir)["owner"], "B");
    clear();
    // COMMAND has ended in the meantime. What it did then, it did without the lease.
    let running = under_lease(&dir, &["--ttl", "300ms"], "", "touch done");
    stop(&dir, &running);
    outlast(&dir);
    acquire(&dir, "B", "1h");
    dir.file("go", "");
    wait_until("COMMAND ends", || dir.join("done").exists());
    running.signal(Signal::CONT);
    running.finish().assert_error_with(2, &["f: the lease ", "Leased by B until "]);
    assert_eq!(record(&dir)["owner"], "B");
}

/// Suspends it at a moment when it does not hold the lock for a refresh.
fn stop(dir: &TestDir, running: &Running) {
    let state = format!("/proc/{}/status", running.id());
    loop {
        running.signal(Signal::STOP);
        wait_until("it is stopped", || fs::read_to_string(&state).unwrap().contains("State:\tT"));
        if !status(dir).held {
            return;
        }
        running.signal(Signal::CONT);
    }
}

#[test]
fn signals_go_to_command_and_the_lease_is_given_back() {
    let dir = TestDir::new();
    for (signal, number) in [(Signal::TERM, 15), (Signal::INT, 2), (Signal::HUP, 1), (Signal::USR1, 10)] {
        let mut running = under_lease(&dir, &["--ttl", "60s"], "", "");
        running.signal(signal);
        wait_until("it ends", || running.has_ended());
        let done = running.finish();
        assert_eq!((done.code, done.stderr.as_str()), (Some(128 + number), ""), "{number}");
        dir.assert_holds(&["started"]);
        fs::remove_file(dir.join("started")).unwrap();
    }
}

#[test]
fn a_signal_at_any_moment_leaves_no_lease() {
    let dir = TestDir::new();
    let mut codes = Vec::new();
    for round in 0..120_u32 {
        let held = (round % 3 == 0).then(|| Held::new(&dir.join("f.lock")));
        let mut running = dir.lock(&["--owner", "A", "--ttl", "1h", "f", "--", "sleep", "600"]).spawn();
        if let Some(held) = held {
            // It waits for COMMAND, so its signals are caught and no longer blocked.
            running.wait_for_waiting();
            held.release();
        } else if round % 4 == 0 {
            wait_until("it has the lease", || dir.join("f.lease").exists());
        }
        for _ in 0..round % 40 * 10 {
            std::hint::spin_loop();
            std::thread::yield_now();
        }
        running.signal(Signal::TERM);
        wait_until("it ends", || running.has_ended());
        let done = running.finish();
        assert!(matches!((done.code, done.signal), (Some(143 | 3), _) | (None, Some(15))), "{done:?}");
        codes.push(done.code);
        dir.assert_holds(&[]);
    }
    assert!(codes.contains(&Some(143)), "{codes:?}");
}

/// A writer below that takes longer than the lease lasts keeps the lock from those who refresh it, but from everybody
/// else too.
#[test]
fn a_long_write_below_outlasts_the_lease() {
    let dir = TestDir::new();
    let write = "\"$BIN\" f -- sh -c 'touch writing; while test ! -e written; do sleep 0.01; done; echo new'";
    let script = format!("{write} && while test ! -e go; do sleep 0.01; done");
    let running = dir.lock(&["--owner", "A", "--ttl", "1s", "f", "-c", &script]).spawn();
    wait_until("it writes", || dir.join("writing").exists());
    outlast(&dir);
    assert!(status(&dir).held);
    dir.lock(&["--acquire", "-n", "--owner", "B", "--ttl", "1h", "f"]).run().assert_code(2);
    dir.file("written", "");
    wait_until("it is refreshed", || is_leased(&dir));
    // Refreshed right before the commit.
    wait_until("it is written", || fs::read(dir.join("f")).is_ok_and(|content| content == b"new\n"));
    dir.file("go", "");
    assert_eq!(running.finish().ok().stderr, "");
    dir.assert_holds(&["f", "go", "writing", "written"]);
}

#[test]
fn a_lease_that_cannot_be_refreshed_is_lost_with_its_time() {
    let dir = TestDir::new();
    let running = under_lease(&dir, &["--ttl", "600ms"], "", "");
    dir.file("f.lease", "damaged");
    let done: Done = running.finish();
    let warnings: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("Warning: ")).collect();
    assert!(warnings[0].contains("cannot refresh the lease yet: Not a lease record"), "{done:?}");
    done.assert_error_with(2, &["f: the lease is lost, COMMAND is told to stop: Not a lease record"]);
    assert_eq!(dir.read("f.lease"), "damaged");
    // A record that is repaired in time is refreshed.
    let dir = TestDir::new();
    let mut running = under_lease(&dir, &["--ttl", "6s"], "", "");
    let text = dir.read("f.lease");
    dir.file("damaged", "damaged");
    fs::rename(dir.join("damaged"), dir.join("f.lease")).unwrap();
    running.wait_for_stderr("Warning: ");
    dir.file("right", &text);
    fs::rename(dir.join("right"), dir.join("f.lease")).unwrap();
    wait_until("it is refreshed", || dir.read("f.lease") != text);
    dir.file("go", "");
    let done = running.finish();
    assert_eq!(done.ok().lines().len(), 1, "{done:?}");
    dir.assert_holds(&["go", "started"]);
}

/// Its end is noticed at once, however far the next refresh is, and however long the lock is not to be had.
#[test]
fn the_end_of_command_is_noticed() {
    let dir = TestDir::new();
    let running = under_lease(&dir, &["--ttl", "300ms"], "", "");
    let mut options = LockOptions::default();
    options.claim = Some(Claim::new("A").unwrap());
    let held = FileLock::acquire(dir.join("f"), &options).unwrap();
    outlast(&dir);
    dir.file("go", "");
    let command_has_ended = || {
        let children = format!("/proc/{0}/task/{0}/children", running.id());
        let child = fs::read_to_string(children).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/status", child.trim()));
        state.map_or(true, |text| text.contains("State:\tZ"))
    };
    wait_until("COMMAND has ended", command_has_ended);
    // Now it waits for the lock to release the lease.
    held.release().unwrap();
    assert_eq!(running.finish().ok().stderr, "");
    dir.assert_holds(&["go", "started"]);
    for _ in 0..20 {
        let begun = std::time::Instant::now();
        dir.lock(&["--owner", "A", "--ttl", "3652d", "f", "--", "true"]).quiet_success();
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

/// pidfd_open(2) is younger than some kernels, and some sandboxes refuse it.
#[test]
fn without_a_descriptor_of_command() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let inject = "inject=pidfd_open:error=ENOSYS";
    let script = "while test ! -e go; do sleep 0.01; done; exit 7";
    let args = ["-o", "trace", "-e", inject, AWRITE, "lock", "--owner", "A", "--ttl", "600ms", "f", "-c", script];
    let running = dir.program("strace", args).spawn();
    wait_until("it has the lease", || dir.join("f.lease").exists());
    let first = record(&dir);
    wait_until("it is refreshed", || record(&dir)["refreshed_at"] != first["refreshed_at"]);
    dir.file("go", "");
    let done = running.finish();
    assert_eq!((done.code, done.stderr.as_str()), (Some(7), ""));
    assert!(dir.read("trace").contains("(INJECTED)"));
    dir.assert_holds(&["go", "trace"]);
}

/// awrite-lock cannot refresh the lease while a nested writer holds the lock, so the nested writer does.
#[test]
fn a_long_write_below_does_not_cost_the_lease() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "(printf A; while [ ! -e enough ]; do sleep 0.01; done) | \"$BIN\" --stream f; touch written
        while [ ! -e go ]; do sleep 0.01; done; cat f > seen";
    let run = dir.awrite(["lock", "--owner", "A", "--ttl", "1s", "f", "-c", script]).spawn();
    let status = |field: &str| {
        let done = dir.awrite(["lock", "--status", "--json", "f"]).run();
        serde_json::from_str::<serde_json::Value>(&done.stdout).unwrap()[field].clone()
    };
    wait_until("the lease is there", || status("leased") == true);
    let mut other = dir.awrite(["-w", "60", "f"]).stdin("other").spawn();
    other.wait_for_waiting();
    wait_until("its time is over, the lock held", || status("leased") == false && status("held") == true);
    dir.file("enough", "");
    wait_until("it is written", || dir.join("written").exists());
    dir.file("go", "");
    run.finish().ok();
    assert_eq!(dir.read("seen"), "A");
    other.finish().ok();
    assert_eq!(dir.read("f"), "other");
    assert!(!dir.join("f.lease").exists() && !dir.join("f.lock").exists());
}

/// A descriptor of the lock file is no way round a lease: nobody below could tell.
#[test]
fn a_descriptor_waits_for_the_lease_of_what_it_locks() {
    let dir = TestDir::new();
    dir.dir("locks");
    let flat = dir.path().canonicalize().unwrap().display().to_string().replace('/', "%");
    for (option, lock_file) in [("", "f.lock".to_owned()), ("--lock-dir locks", format!("locks/{flat}%f.lock"))] {
        let sh = |script: &str| dir.sh(&script.replace("LOCK", &lock_file).replace("LD", option)).run();
        sh("\"$BIN\" lock LD --acquire --owner A --ttl 1h --reason why f").ok();
        let done = sh("exec 9>>LOCK; \"$BIN\" lock LD -n 9 && echo x | \"$BIN\" LD f");
        done.assert_error_with(2, &["Error: descriptor 9: Leased by A until ", " (why)"]);
        // Nothing is held meanwhile: the owner needs the lock.
        let done = sh("exec 9>>LOCK; \"$BIN\" lock LD -w 60 9 & p=$!
            until \"$BIN\" lock LD --release --owner A f; do :; done; wait $p && echo x | \"$BIN\" LD -n f");
        done.ok();
        assert_eq!(dir.read("f"), "x\n");
        // Who has the lock may take a lease, and keeps the lock.
        let done = sh("exec 9>>LOCK; \"$BIN\" lock LD 9; \"$BIN\" lock LD -q --acquire --owner B --ttl 1h f >token
            \"$BIN\" lock LD -n 9 && echo kept; \"$BIN\" lock LD --release --owner B f");
        assert_eq!(done.ok().stdout, "kept\n");
        for name in ["f", "token", &lock_file] {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
    // A directory of lock files says nothing of a lock file elsewhere.
    let done = dir
        .sh("\"$BIN\" lock -q --acquire --owner A --ttl 1h f >token; exec 9>>f.lock
        \"$BIN\" lock --lock-dir locks -n 9; code=$?; \"$BIN\" lock --break f >/dev/null; exit $code")
        .run();
    done.assert_error_with(2, &["Error: descriptor 9: Leased by A until "]);
    // What is no lock file has no lease.
    dir.sh("\"$BIN\" lock -q --acquire --owner A --ttl 1h f >token; exec 9>>f; \"$BIN\" lock -qn 9").run().ok();
}

/// Whoever releases the lease removes the lock file, unless somebody waits. Who waits for a lease does that until he has
/// the lock, even if it takes a while.
#[test]
fn a_descriptor_that_waited_for_a_lease_finds_its_file() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.sh("\"$BIN\" lock -q --acquire --owner A --ttl 1h f >token").run().ok();
    let script = "exec 9>>f.lock; strace -f -qq -o /dev/null -e inject=flock:delay_enter=700000 \"$BIN\" lock -w 60 9 \
        && echo x | \"$BIN\" -n f";
    let mut waits = dir.sh(script).spawn();
    waits.wait_for_waiting();
    // The lease is gone, and a moment later the lock is released.
    let inject = "inject=unlink,unlinkat:delay_exit=300000:when=1";
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", inject, AWRITE];
    let release = ["lock", "--release", "--owner", "A", "-w", "60", "f"];
    dir.program("strace", strace.iter().chain(&release)).run().ok();
    waits.finish().ok();
    assert_eq!(dir.read("f"), "x\n");
}

/// A descriptor of the lock file is as good as the name: whoever has the lock finds all of an interrupted set, or none.
#[test]
fn a_descriptor_finishes_an_interrupted_set() {
    if !needs_strace() {
        return;
    }
    let mut finished = [0; 2];
    for number in 1..=6 {
        let dir = TestDir::new();
        dir.file("a", "old");
        dir.file("b", "old");
        let inject = format!("inject=renameat,renameat2,rename:signal=KILL:when={number}");
        let strace = ["-f", "-qq", "-o", "/dev/null", "-e", &inject, AWRITE];
        let set = ["-e", "a", "b", "--", "sh", "-c", "printf new >\"$1\"; printf new >\"$2\"", "sh"];
        // The copies of a killed one stay until the next edit of the same files.
        let killed = dir.program("strace", strace.iter().chain(&set)).env("TMPDIR", dir.path()).run();
        let read = |name: &str| {
            let script = format!("exec 9>>{name}.lock; \"$BIN\" lock 9 && cat {name} && \"$BIN\" lock -u 9");
            dir.sh(&script).run().ok().stdout.clone()
        };
        let (b, a) = (read("b"), read("a"));
        assert_eq!(a, b, "after rename {number}: {killed:?}");
        finished[usize::from(a == "new")] += 1;
        assert!(!dir.join("a.lease").exists() && !dir.join("b.lease").exists());
    }
    assert!(finished.iter().all(|&count| count > 0), "{finished:?}");
}
