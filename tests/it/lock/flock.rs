//! Locks by flock(2): waiting in the kernel, files that are exchanged meanwhile, and the moments between two system
//! calls.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Method;
use crate::common::{AWRITE, Held, Run, TestDir, lock_is_held, needs_strace, rounds, somebody_waits_for, wait_until};

#[test]
fn by_default_it_waits_and_says_so_once() {
    let dir = TestDir::new();
    for args in [&["config.json"][..], &["--wait", "config.json"]] {
        dir.file("config.json", "old");
        let held = Held::new(&dir.join("config.json.lock"));
        let mut writer = dir.awrite(args).stdin("new").spawn();
        writer.wait_for_waiting();
        wait_until("it waits in the kernel", || somebody_waits_for(held.inode()));
        assert_eq!(dir.read("config.json"), "old");
        held.release();
        let done = writer.finish();
        done.ok();
        assert_eq!(done.stderr, "Waiting for lock on config.json...\nLock acquired\n");
        assert_eq!(dir.read("config.json"), "new");
        // The writer also removes a lock file that another program made and left.
        dir.assert_holds(&["config.json"]);
    }
}

#[test]
fn quiet_waiting_says_nothing() {
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    let writer = dir.awrite(["-q", "f"]).stdin("new").spawn();
    wait_until("it waits", || somebody_waits_for(held.inode()));
    held.release();
    let done = writer.finish();
    assert_eq!(done.ok().stderr, "");
}

#[test]
fn a_timeout_that_is_not_reached_is_a_wait() {
    let dir = TestDir::new();
    for (given, shown) in [("50", "50s"), ("2m", "2m"), ("90000ms", "")] {
        let held = Held::new(&dir.join("f.lock"));
        let mut writer = dir.awrite(["--timeout", given, "f"]).stdin("new").spawn();
        writer.wait_for_waiting();
        held.release();
        let done = writer.finish();
        done.ok();
        if !shown.is_empty() {
            assert_eq!(done.stderr, format!("Waiting for lock on f ({shown} timeout)...\nLock acquired\n"));
        }
        assert_eq!(dir.read("f"), "new");
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn a_timeout_that_is_reached_is_status_2() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    let before = dir.snapshot("config.json");
    let held = Held::new(&dir.join("config.json.lock"));
    let wait = |(args, shown, least): ([&'static str; 2], &'static str, u64)| {
        let start = Instant::now();
        (start, shown, least, dir.awrite(args.into_iter().chain(["config.json"])).stdin("new").spawn())
    };
    // They wait side by side. The shortest is first, since each is checked when it has ended.
    let all = [
        (["--timeout", "150ms"], "150ms", 150),
        (["-w", "0.2"], "", 200),
        (["-t", "1"], "1s", 1000),
        (["--timeout", "1.5"], "1.5s", 1500),
    ]
    .map(wait);
    for (start, shown, least, waiting) in all {
        let done = waiting.finish();
        assert!(start.elapsed() >= Duration::from_millis(least), "{:?}", start.elapsed());
        done.assert_error_with(2, &["Error: config.json: Lock acquisition timeout after "]);
        if !shown.is_empty() {
            done.assert_error(2, &format!("Error: config.json: Lock acquisition timeout after {shown}"));
            assert_eq!(done.lines()[0], format!("Waiting for lock on config.json ({shown} timeout)..."));
        }
        done.assert_hint(&format!("held by PID {} (", std::process::id()));
        assert!(!done.stderr.contains("Lock acquired"));
    }
    assert_eq!(dir.snapshot("config.json"), before);
    assert!(lock_is_held(&dir.join("config.json.lock")), "the lock file of another stays");
    held.release();
    dir.assert_holds(&["config.json", "config.json.lock"]);
}

#[test]
fn no_wait_fails_at_once_with_status_2() {
    let dir = TestDir::new();
    dir.file("config.json", "old");
    let before = dir.snapshot("config.json");
    let _held = Held::new(&dir.join("config.json.lock"));
    for args in [&["-n"][..], &["--no-wait"], &["--timeout", "0"], &["-t", "0ms"], &["-n", "-t", "0"], &["-nq"]] {
        let start = Instant::now();
        let done = dir.awrite(args.iter().chain(&["config.json"])).stdin("new").run();
        // Far longer than it takes, and shorter than a wait.
        assert!(start.elapsed() < Duration::from_secs(10));
        done.assert_error(2, "Error: config.json: File locked by another process");
        done.assert_hint(&format!("held by PID {} (", std::process::id()));
        assert!(!done.stderr.contains("Waiting"));
    }
    assert_eq!(dir.snapshot("config.json"), before);
}

#[test]
fn the_holder_is_named_with_its_command() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let holder = dir.awrite(["f", "--", "sleep", "600"]).spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    let done = dir.awrite(["-n", "f"]).stdin("x").run();
    done.assert_error(2, "Error: f: File locked by another process");
    let hint = done.lines()[1];
    assert!(hint.starts_with(&format!("Hint: held by PID {} (", holder.id())), "{hint}");
    assert!(hint.ends_with("awrite f -- sleep 600)"), "{hint}");
}

/// The name of another process must not send control characters to the reader's terminal.
#[test]
fn the_holders_command_is_shown_without_control_characters() {
    let dir = TestDir::new();
    let _holder = dir.awrite(["f", "--", "sh", "-c", "sleep 600 # \x1b[31m\nHint: forged"]).spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    let done = dir.awrite(["-n", "f"]).stdin("x").run();
    done.assert_code(2).assert_hint("held by PID");
    assert!(!done.stderr.contains('\x1b'), "{done:?}");
    assert_eq!(done.lines().len(), 2, "{done:?}");
}

#[test]
fn a_time_out_in_an_empty_wait_leaves_no_file_behind() {
    let dir = TestDir::new();
    let holder = Method::Flock.holder(&dir);
    dir.awrite(["-t", "50ms", "f"]).stdin("x").run().assert_code(2);
    drop(holder);
    // The holder was killed: its file stays until the next one comes.
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    dir.assert_holds(&["f"]);
}

#[test]
fn a_write_never_shares_the_lock() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let mut options = awrite::WriteOptions::default();
    (options.lock.shared, options.lock.wait) = (true, awrite::Wait::No);
    let reader = awrite::FileLock::acquire(&path, &options.lock).unwrap();
    let refused = awrite::write(&path, "new", &options);
    assert_eq!(refused.unwrap_err().kind(), awrite::ErrorKind::LockBusy);
    reader.release().unwrap();
    awrite::write(&path, "new", &options).unwrap();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

/// Background processes that COMMAND leaves behind must not keep the lock for ever.
#[test]
fn daemons_do_not_inherit_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "sleep 600 > /dev/null 2>&1 < /dev/null & echo $! > pid; cat";
    dir.awrite(["f", "--", "sh", "-c", script]).quiet_success();
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    dir.sh("kill \"$(cat pid)\"").quiet_success();
    dir.assert_holds(&["f", "pid"]);
}

/// A lock on a file that is no longer the lock file does not count.
#[test]
fn a_lock_on_an_exchanged_file_does_not_count() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let lock = dir.join("f.lock");
    for args in [&["f"][..], &["--timeout", "100", "f"]] {
        let first = Held::new(&lock);
        let mut writer = dir.awrite(args).stdin("new").spawn();
        writer.wait_for_waiting();
        fs::remove_file(&lock).unwrap();
        let second = Held::new(&lock);
        first.release();
        wait_until("it waits for the new file's lock", || somebody_waits_for(second.inode()));
        assert_eq!(dir.read("f"), "old");
        second.release();
        let done = writer.finish();
        assert_eq!(done.ok().stderr.matches("Waiting").count(), 1, "{done:?}");
        assert_eq!(dir.read("f"), "new");
        dir.assert_holds(&["f"]);
        dir.file("f", "old");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Short moments, made long by strace

/// `awrite` under strace, which writes the `traced` calls to the file `trace`.
fn under_strace(dir: &TestDir, traced: &str, injection: Option<&str>, args: &[&str]) -> Run {
    let mut all = vec!["-f", "-o", "trace", "-e", traced];
    all.extend(injection.iter().flat_map(|injection| ["-e", injection]));
    all.push(AWRITE);
    all.extend(args);
    dir.program("strace", all)
}

/// The number of the traced call whose line has `what`, counted from 1.
#[track_caller]
fn number_of(trace: &str, call: &str, what: &str) -> usize {
    let mut calls = trace.lines().filter(|line| line.contains(&format!(" {call}(")));
    1 + calls.position(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in {trace}"))
}

/// The holder sees a waiter and leaves the file to it. The waiter gives up before the holder unlocks, so the holder
/// must look again.
#[test]
fn a_waiter_that_goes_just_before_the_unlock_leaves_the_file_to_the_holder() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    under_strace(&dir, "trace=flock", None, &["f"]).stdin("x").run().ok();
    let unlock = number_of(&dir.read("trace"), "flock", "LOCK_UN");

    let delay = format!("inject=flock:delay_enter={}:when={unlock}", rounds(1_000_000, 3_000_000));
    let mut holder = under_strace(&dir, "trace=flock,fcntl", Some(&delay), &["f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    let mut waiter = dir.awrite(["f"]).stdin("waiter").spawn();
    waiter.wait_for_waiting();
    holder.feed(b"holder");
    holder.close_stdin();
    wait_until("the holder has looked", || dir.read("trace").contains("F_OFD_GETLK"));
    waiter.signal(Signal::TERM);
    waiter.finish().assert_code(3);
    holder.finish().ok();
    assert_eq!(dir.read("f"), "holder");
    dir.assert_holds(&["f", "trace"]);
}

/// The holder unlocks and leaves the file to a waiter whose time has just run out. The waiter must try again.
#[test]
fn a_waiter_whose_time_is_up_tries_once_more() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    under_strace(&dir, "trace=fcntl", None, &["-t", "20ms", "f"]).stdin("x").run().assert_code(2);
    let withdrawal = number_of(&dir.read("trace"), "fcntl", "F_UNLCK");
    held.release();

    let mut holder = Method::Flock.holder(&dir);
    let delay = format!("inject=fcntl:delay_enter={}:when={withdrawal}", rounds(1_000_000, 3_000_000));
    let args = ["-t", "20ms", "f"];
    let mut waiter = under_strace(&dir, "trace=fcntl,flock", Some(&delay), &args).stdin("waiter").spawn();
    waiter.wait_for_waiting();
    wait_until("its time is up", || dir.read("trace").contains("SIGALRM"));
    holder.feed(b"holder");
    holder.finish().ok();
    let done = waiter.finish();
    // On a slow machine it may have given up before the holder was done. Then the holder removes the file.
    assert!(matches!(done.code, Some(0 | 2)), "{done:?}");
    assert_eq!(dir.read("f"), if done.code == Some(0) { "waiter" } else { "holder" });
    dir.assert_holds(&["f", "trace"]);
}

/// A housekeeper takes the lock for an instant. That must not make a run with --no-wait fail.
#[test]
fn a_short_look_by_others_does_not_fail_no_wait() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let busy = "inject=flock:error=EAGAIN:when=1..3";
    let done = under_strace(&dir, "trace=flock", Some(busy), &["--no-wait", "f"]).stdin("x").run();
    assert_eq!(done.ok().stderr, "");
    assert_eq!(dir.read("f"), "x");
    dir.assert_holds(&["f", "trace"]);
}

/// Another holder is not waited for, but for a few milliseconds.
#[test]
fn no_wait_tries_a_few_times() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    under_strace(&dir, "trace=flock", None, &["-n", "f"]).stdin("x").run().assert_code(2);
    let tries = dir.read("trace").matches("LOCK_EX|LOCK_NB").count();
    assert!((4..10).contains(&tries), "{tries}");
    held.release();
}

/// It says that it holds the lock for a moment only, and that moment may be long.
#[test]
fn a_housekeeper_that_takes_its_time_does_not_fail_no_wait() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.lock(&["--acquire", "--owner", "A", "--ttl", "1ms", "f"]).run().ok();
    wait_until("it has expired", || dir.lock(&["--status", "f"]).run().code == Some(0));
    let busy = "inject=flock:delay_exit=250000:when=1";
    let keeper = under_strace(&dir, "trace=flock", Some(busy), &["housekeep", "--clean-locks"]).spawn();
    wait_until("it has the lock", || lock_is_held(&dir.join("f.lock")));
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    keeper.finish().ok();
    dir.assert_holds(&["f", "trace"]);
}

/// Most waits are short, and to look around takes a hundred system calls.
#[test]
fn who_waits_looks_around_late() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    for (limit, code) in [("--wait", 3), ("--timeout=100ms", 2)] {
        let mut waiter = under_strace(&dir, "trace=flock,openat,setitimer", None, &[limit, "f"]).stdin("x").spawn();
        waiter.wait_for_waiting();
        waiter.signal_group(Signal::TERM);
        assert!([Some(code), Some(3)].contains(&waiter.finish().code));
        let trace = dir.read("trace");
        let find = |what: &str| trace.find(what).unwrap_or_else(|| panic!("no {what}: {trace}"));
        let (in_20_ms, waits, looks) = (find("tv_usec=20000}"), find("LOCK_EX)"), find("\"/proc/self/fd\""));
        assert!(in_20_ms < waits && waits < looks, "{limit}: {trace}");
    }
    held.release();
}

/// Somebody has removed the held lock file. The one that is there now belongs to another holder.
#[test]
fn a_lock_file_that_is_no_longer_ones_own_is_not_removed() {
    let dir = TestDir::new();
    let lock = dir.join("f.lock");
    let mut holder = Method::Flock.holder(&dir);
    fs::remove_file(&lock).unwrap();
    let others = Held::new(&lock);
    holder.feed(b"x");
    holder.finish();
    assert_eq!(fs::metadata(&lock).unwrap().ino(), others.inode());
    assert!(lock_is_held(&lock));

    // Nor is a lock file removed that has got content.
    others.release();
    fs::remove_file(&lock).unwrap();
    let mut holder = Method::Flock.holder(&dir);
    fs::write(&lock, "content").unwrap();
    holder.feed(b"x");
    holder.finish();
    assert_eq!(dir.read("f.lock"), "content");
}
