//! Helpers that die, hang, talk nonsense, or are not there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::Scene;
use crate::common::{needs_full, wait_until};

/// How each request is made. The lease is A's, with token 1.
const REQUESTS: &[(&str, &[&str])] = &[
    ("acquire", &["--acquire", "-n", "--owner", "A", "--ttl", "60s", "job:x"]),
    ("refresh", &["--refresh", "--owner", "A", "job:x"]),
    ("release", &["--release", "--owner", "A", "job:x"]),
    ("status", &["--status", "job:x"]),
    ("break", &["--break", "job:x"]),
    ("list", &["--list"]),
];

#[test]
fn each_fault_is_an_error_that_says_what_is_wrong() {
    for (fault, words) in [
        ("die", "awrite-store-odd ended without an answer (exit status 3)"),
        ("kill", "awrite-store-odd ended without an answer (signal 9)"),
        ("nonsense", "cannot be understood: \"hello\" is no key=value"),
        ("half", "cannot be understood: it ends without an empty line"),
        ("long", "cannot be understood: it is longer than 64 KiB"),
        ("wrong", "cannot be understood: \"held\" is without owner, token or left_ms"),
        ("error", "the disk of the store is full"),
    ] {
        let s = Scene::odd();
        s.acquire("A", "60s", "job:x");
        for (request, args) in REQUESTS {
            s.fault(&format!("{request} {fault}\n"));
            let done = s.lock(args).run();
            done.assert_error_with(1, &[words]);
            let about = if *request == "list" { s.url() } else { "job:x".to_owned() };
            assert!(done.error_line().starts_with(&format!("Error: {about}: cannot ")), "{done:?}");
            assert!(done.stderr.contains("Hint: "), "{done:?}");
            s.fault("");
            s.lock(&["--status", "job:x"]).run().assert_code(2);
        }
    }
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let s = Scene::odd();
    s.acquire("A", "60s", "job:x");
    for (request, args) in &REQUESTS[..2] {
        s.fault(&format!("{request} unfit\n"));
        s.lock(args).run().assert_error_with(1, &["does not fit the request"]);
    }
    // One too many is found at the next request, and that fails.
    s.fault("status twice\n");
    let mut writer = s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin_open().spawn();
    wait_until("it has answered twice", || s.dir.join("store/did-twice").exists());
    writer.feed(b"1");
    writer.finish().assert_error_with(1, &["f: ", "cannot be understood: it has not the id of the request"]);
    s.dir.assert_holds(&["bin", "store", "f.lease"]);
}

/// The answer to an earlier request says what was, and may come at any time.
#[test]
fn an_answer_to_an_earlier_request_is_refused() {
    let s = Scene::odd();
    s.acquire("A", "60s", "job:x");
    for fault in ["again", "nameless"] {
        s.fault("");
        let _ = fs::remove_file(s.dir.join("store/did-status"));
        let mut writer = s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin_open().spawn();
        wait_until("it was asked once", || s.dir.join("store/did-status").exists());
        s.break_lease("job:x");
        s.fault(&format!("status {fault}\n"));
        writer.feed(b"late");
        writer.finish().assert_error_with(1, &["f: ", "cannot be understood: it has not the id of the request"]);
        assert!(!s.dir.join("f").exists());
        s.fault("");
        s.acquire("A", "60s", "job:x");
    }
}

/// As long as a message may be, with keys that nobody knows.
#[test]
fn what_a_helper_says_besides_is_passed_over() {
    let s = Scene::odd();
    s.fault("status wordy\n");
    s.lock(&["--status", "job:x"]).run().ok();
    s.acquire("A", "60s", "job:x");
    s.lock(&["--status", "job:x"]).run().assert_code(2);
}

#[test]
fn a_helper_that_hangs_is_ended_in_time() {
    let s = Scene::odd();
    s.fault("acquire hang\n");
    let began = Instant::now();
    let done = s.lock(&["--acquire", "-w", "1", "--owner", "A", "--ttl", "60s", "job:x"]).run();
    done.assert_error_with(1, &["job:x: cannot take the lease: awrite-store-odd did not answer within 1s"]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn any_request_may_hang() {
    if !needs_full() {
        return;
    }
    std::thread::scope(|scope| {
        for (request, args) in REQUESTS {
            scope.spawn(move || {
                let s = Scene::odd();
                s.acquire("A", "60s", "job:x");
                s.fault(&format!("{request} hang\n"));
                let done = s.lock(args).run();
                done.assert_error_with(1, &["awrite-store-odd did not answer within 10s"]);
            });
        }
    });
}

#[test]
fn a_signal_ends_the_wait_for_an_answer() {
    let s = Scene::odd();
    s.fault("acquire hang\n");
    let running = s.lock(&["--acquire", "--owner", "A", "--ttl", "60s", "job:x"]).spawn();
    wait_until("the helper was asked", || s.dir.join("store/got-acquire").exists());
    running.signal(rustix::process::Signal::TERM);
    running.finish().assert_code(3);
}

/// The store has given the lease, and its answer does not come.
#[test]
fn a_lease_that_nobody_knows_of_is_given_back() {
    for (before, after) in [("", 0), ("B", 0), ("A", 2)] {
        let s = Scene::odd();
        if !before.is_empty() {
            s.acquire(before, "60s", "job:x");
        }
        s.fault("acquire given\n");
        let mut running = s.lock(&["--acquire", "--owner", "A", "--ttl", "50s", "job:x"]).spawn();
        if before == "B" {
            wait_until("it waits", || running.stderr().contains("Waiting for job:x"));
            s.break_lease("job:x");
        }
        wait_until("it is given", || {
            assert!(!running.has_ended(), "{}", running.stderr());
            s.dir.join("store/gave-acquire").exists()
        });
        s.lock(&["--status", "job:x"]).run().assert_code(2);
        running.signal(rustix::process::Signal::TERM);
        let done = running.finish();
        done.assert_code(3);
        assert_eq!(done.stdout, "");
        // What the owner had before is another process's.
        s.lock(&["--status", "job:x"]).run().assert_code(after);
    }
}

#[test]
fn a_program_that_cannot_be_run() {
    let s = Scene::new();
    let status = |scheme: &str| s.plain(s.dir.lock(&["--status", "--store", &format!("{scheme}://x"), "job:x"])).run();
    status("none")
        .assert_error_with(1, &["job:x: ", "there is no program awrite-store-none"])
        .assert_hint("beside awrite or in a directory of PATH");
    s.dir.script("bin/awrite-store-closed", "#!/bin/sh\n");
    fs::set_permissions(s.dir.join("bin/awrite-store-closed"), fs::Permissions::from_mode(0o644)).unwrap();
    status("closed")
        .assert_error_with(1, &["cannot run ", "awrite-store-closed: Permission denied"])
        .assert_hint("chmod +x ");
    s.dir.script("bin/awrite-store-lost", "#!/none/sh\n");
    status("lost").assert_error_with(1, &["cannot run ", "No such file or directory"]).assert_hint("#!");
    s.dir.script("bin/awrite-store-silent", "#!/bin/sh\nexec >&-; exec sleep 600\n");
    status("silent").assert_error_with(1, &["awrite-store-silent ended without an answer (signal 9)"]);
    // It has a moment to say how it ended.
    s.dir.script("bin/awrite-store-slow", "#!/bin/sh\nexec >&-; sleep 0.1; exit 3\n");
    status("slow").assert_error_with(1, &["awrite-store-slow ended without an answer (exit status 3)"]);
    // Not all that is there must be one; nor is the empty name in PATH this directory.
    s.dir.script("awrite-store-here", "#!/bin/sh\n");
    let here = s.dir.lock(&["--status", "--store", "here://x", "job:x"]).env("PATH", "::/none").run();
    here.assert_error_with(1, &["there is no program awrite-store-here"]);
}

/// What a write asks right before it replaces the file. The file is as it was.
#[test]
fn a_write_that_cannot_ask_is_refused() {
    for fault in ["die", "nonsense", "error", "wrong"] {
        let s = Scene::odd();
        s.acquire("A", "60s", "job:x");
        fs::write(s.dir.join("f"), "0").unwrap();
        s.fault(&format!("status {fault}\n"));
        let done = s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin("1").run();
        done.assert_error_with(1, &["f: cannot ask the store of the lease: "]);
        // The second time only.
        s.fault("");
        let mut writer = s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin_open().spawn();
        wait_until("it was asked once", || s.dir.join("store/got-status").exists());
        wait_until("it has the lock", || s.dir.join("f.lock").exists());
        s.fault(&format!("status {fault}\n"));
        fs::remove_file(s.dir.join("store/got-status")).unwrap();
        writer.feed(b"1");
        writer.finish().assert_error_with(1, &["f: cannot ask the store of the lease: "]);
        assert!(s.dir.join("store/got-status").exists());
        assert_eq!(s.dir.read("f"), "0");
    }
}

/// Somebody ends the helper, as the system does that is short of memory: the next request starts it anew.
#[test]
fn a_helper_that_has_died_meanwhile_is_started_again() {
    let s = Scene::odd();
    s.acquire("A", "60s", "job:x");
    let mut writer = s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin_open().spawn();
    let helper = || {
        let args = ["-P", &writer.id().to_string(), "-f", "awrite-store-odd"];
        s.dir.program("pgrep", args).run().stdout.trim().to_owned()
    };
    wait_until("it has asked", || s.dir.join("f.lock").exists() && !helper().is_empty());
    wait_until("it has the answer", || s.dir.read("store/fds").contains("0 -> ") && helper().lines().count() == 1);
    s.dir.sh(&format!("kill -9 {}", helper())).quiet_success();
    writer.feed(b"1");
    writer.finish().ok();
    assert_eq!((s.dir.read("f"), s.mark()), ("1".into(), 1));
}

/// A hung helper: COMMAND is told, killed, and gone before the lease is over in the store.
#[test]
fn command_is_gone_before_the_lease_is_over() {
    let s = Scene::odd();
    s.fault("refresh hang\nrelease die\n");
    let script = "trap '' TERM; while :; do date +%s%N >beat.new; mv beat.new beat; sleep 0.02; done";
    let args = ["--owner", "A", "--ttl", "6s", "--kill-after", "1s", "job:x", "-c", script];
    let done = s.lock(&args).run();
    done.assert_code(2);
    assert!(done.error_line().starts_with("Error: job:x: the lease is lost, COMMAND is told to stop: "), "{done:?}");
    let nanos = |name: &str| s.dir.read(name).trim().parse::<u64>().unwrap();
    let (got, beat) = (nanos("store/got-acquire"), nanos("beat"));
    assert!(beat < got + 6_000_000_000, "it went on for {} ms", (beat - got) / 1_000_000);
    assert!(beat > got + 2_500_000_000, "it was told too early: {} ms", (beat - got) / 1_000_000);
    assert!(!done.stderr.contains("Terminated"), "{done:?}");
}

/// Another has broken the lease while COMMAND runs.
#[test]
fn command_is_told_that_the_lease_is_lost() {
    let s = Scene::new();
    let running = s.under_lease(&["--ttl", "9s"], "job:x", "");
    s.break_lease("job:x");
    s.acquire("B", "60s", "job:x");
    let done = running.finish();
    done.assert_code(2);
    assert!(done.error_line().contains("COMMAND is told to stop: Leased by B until "), "{done:?}");
    // It was not B's that was given back.
    s.lock(&["--status", "job:x"]).run().assert_code(2);
}

/// The same, and COMMAND ended meanwhile, and so did the next owner's lease: there is nothing to release any more.
#[test]
fn a_lease_that_was_over_before_its_release_was_lost() {
    let s = Scene::new();
    let running = s.under_lease(&["--ttl", "6s"], "job:x", "");
    running.signal(rustix::process::Signal::STOP);
    wait_until("the lease is over in the store", || s.lock(&["--status", "job:x"]).run().code == Some(0));
    fs::write(s.dir.join("go"), "").unwrap();
    let has_children =
        || !s.dir.program("pgrep", ["-P", &running.id().to_string(), "-x", "sh"]).run().stdout.is_empty();
    let zombie = || s.dir.program("pgrep", ["-r", "Z", "-P", &running.id().to_string()]).run().code == Some(0);
    wait_until("COMMAND has ended", || !has_children() || zombie());
    running.signal(rustix::process::Signal::CONT);
    running.finish().assert_says(2, "The time of A's lease is over here");
}

/// awrite-lock itself was stopped, for longer than the lease lasts.
#[test]
fn a_lease_that_is_over_here_is_not_brought_back() {
    let s = Scene::new();
    let running = s.under_lease(&["--ttl", "6s"], "job:x", "");
    running.signal(rustix::process::Signal::STOP);
    wait_until("the lease is over in the store", || s.lock(&["--status", "job:x"]).run().code == Some(0));
    running.signal(rustix::process::Signal::CONT);
    let done = running.finish();
    done.assert_code(2);
    assert!(done.error_line().contains("COMMAND is told to stop: The time of A's lease is over here"), "{done:?}");
}
