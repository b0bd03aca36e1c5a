//! What holds for both methods. Each body runs once for each: `lock::both::flock::NAME` and `lock::both::link::NAME`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{INCREMENT, Method, all_succeed};
use crate::common::{Running, TestDir, chmod, rounds, wait_until};

macro_rules! by_each_method {
    ($($name:ident)*) => {
        mod flock {
            $(#[test] fn $name() { super::$name(super::Method::Flock); })*
        }

        mod link {
            $(#[test] fn $name() { super::$name(super::Method::Link); })*
        }
    };
}

by_each_method! {
    the_lock_is_held_from_before_the_input_to_the_end
    an_uncontended_lock_is_not_spoken_of
    two_writers_take_turns
    one_that_gives_up_says_who_holds_it
    its_status_can_be_asked
    every_ending_gives_it_back
    names_of_every_length
    lock_on_commit_reads_its_input_without_the_lock
    lock_on_commit_still_waits_for_the_lock
    lock_on_commit_appends_to_what_it_finds_under_the_lock
    a_killed_holder_frees_the_lock
    many_killed_holders_leave_it_free
    a_waiter_goes_on_when_the_holder_is_killed
    a_killed_waiter_is_no_obstacle
    a_suspended_waiter_does_not_hinder_others
    the_last_of_many_waiters_removes_the_file
    impatient_writers_leave_nothing_behind
    no_update_is_lost
    of_many_that_meet_a_dead_holder_one_wins_at_a_time
    they_nest
    nested_ones_side_by_side_exclude_each_other
}

// ---------------------------------------------------------------------------------------------------------------------
// Holding and waiting

fn the_lock_is_held_from_before_the_input_to_the_end(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "old");
    let lock = dir.join("f.lock");
    for option in ["--quiet", "--stream", "--append"] {
        let script = format!("umask 0; exec \"$BIN\" {option} f");
        let mut writer = dir.sh(&script).env("AWRITE_LOCK_METHOD", method.name()).stdin_open().spawn();
        wait_until("the lock is held", || method.is_held(&lock));
        let meta = fs::symlink_metadata(&lock).unwrap();
        assert!(meta.is_file());
        assert_eq!((meta.len() == 0, meta.mode() & 0o7777), (method == Method::Flock, 0o600));
        wait_until("it has no other name", || fs::symlink_metadata(&lock).unwrap().nlink() == 1);
        writer.feed(b"new");
        writer.finish().ok();
        dir.assert_holds(&["f"]);
    }
}

fn an_uncontended_lock_is_not_spoken_of(method: Method) {
    let dir = TestDir::new();
    for args in [["--wait", "f"], ["--no-wait", "f"], ["--timeout=5", "f"]] {
        method.awrite(&dir, args).stdin("x").quiet_success();
    }
}

/// While the first one holds the lock the second cannot have written.
fn two_writers_take_turns(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "old");
    let mut first = method.holder(&dir);
    let mut second = method.awrite(&dir, ["f"]).stdin("second").spawn();
    second.wait_for_waiting();
    first.feed(b"first");
    assert_eq!(dir.read("f"), "old");
    first.finish().ok();
    assert_eq!(second.finish().ok().stderr, "Waiting for lock on f...\nLock acquired\n");
    assert_eq!(dir.read("f"), "second");
    dir.assert_holds(&["f"]);
}

fn one_that_gives_up_says_who_holds_it(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "old");
    let holder = method.holder(&dir);
    let held_by = format!("held by PID {} (", holder.id());
    for (args, reason) in [
        (["-n", "f"].as_slice(), "File locked by another process"),
        (&["-t", "200ms", "f"], "Lock acquisition timeout after 200ms"),
    ] {
        let done = method.awrite(&dir, args).stdin("x").run();
        done.assert_error(2, &format!("Error: f: {reason}")).assert_hint(&held_by);
    }
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f", "f.lock"]);
}

fn its_status_can_be_asked(method: Method) {
    let dir = TestDir::new();
    let status = || method.awrite(&dir, ["lock", "--status", "f"]).run();
    let holder = method.holder(&dir);
    let lock = || fs::read(dir.join("f.lock")).unwrap();
    let before = lock();
    let said = status();
    said.assert_code(2);
    assert!(said.stdout.contains(&format!("PID {}", holder.id())), "{said:?}");
    assert_eq!(lock(), before, "to look changes nothing");
    holder.finish();
    status().ok();
    // A dead holder holds nothing.
    method.leave_lock_of_the_dead(&dir);
    status().ok();
}

fn every_ending_gives_it_back(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "old");
    method.awrite(&dir, ["f"]).run().assert_code(1);
    method.awrite(&dir, ["f", "--", "false"]).run().assert_code(1);
    let mut writer = method.holder(&dir);
    writer.signal(Signal::TERM);
    wait_until("it has ended", || writer.has_ended());
    writer.finish().assert_code(3);
    dir.assert_holds(&["f"]);
    // One that waits leaves nothing either, and does not disturb the holder.
    let mut writer = method.holder(&dir);
    let mut waiter = method.awrite(&dir, ["f"]).stdin("x").spawn();
    waiter.wait_for_waiting();
    waiter.signal(Signal::INT);
    waiter.finish().assert_code(3);
    dir.assert_holds(&["f", "f.lock"]);
    writer.feed(b"new");
    writer.finish().ok();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

/// The lock file's name, and those that link locks need besides, are longer than the file's.
fn names_of_every_length(method: Method) {
    let dir = TestDir::new();
    for length in [200, 232, 240, 250, 255] {
        let name = "n".repeat(length);
        method.awrite(&dir, [&name]).stdin("x").quiet_success();
        // The lock of a dead holder is taken over.
        let dead = method.awrite(&dir, [&name]).stdin_open().spawn();
        let is_lock = |name: &&std::ffi::OsString| name.as_encoded_bytes().ends_with(b".lock");
        wait_until("the lock is held", || {
            dir.names().iter().find(is_lock).is_some_and(|n| method.is_held(&dir.join(n)))
        });
        drop(dead);
        method.awrite(&dir, [&name]).stdin("y").quiet_success();
        dir.assert_holds(&[&name]);
        fs::remove_file(dir.join(&name)).unwrap();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// --lock-on-commit

fn lock_on_commit_reads_its_input_without_the_lock(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "old");
    for option in ["--quiet", "--stream"] {
        let mut slow = method.awrite(&dir, ["--lock-on-commit", option, "f"]).stdin_open().spawn();
        slow.feed(&vec![b's'; 1 << 20]);
        // It is past its start, and yet others may write.
        method.awrite(&dir, ["--no-wait", "f"]).stdin("quick").quiet_success();
        assert_eq!(dir.read("f"), "quick");
        slow.finish().ok();
        assert_eq!(dir.read("f").len(), 1 << 20);
        dir.assert_holds(&["f"]);
    }
}

fn lock_on_commit_still_waits_for_the_lock(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "old");
    let mut holder = method.holder(&dir);
    let done = method.awrite(&dir, ["--lock-on-commit", "--no-wait", "f"]).stdin("x").run();
    done.assert_error(2, "Error: f: File locked by another process");
    assert_eq!(dir.read("f"), "old");
    let mut writer = method.awrite(&dir, ["--lock-on-commit", "f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    chmod(&dir.join("f"), 0o600);
    holder.signal(Signal::TERM);
    wait_until("the holder has ended", || holder.has_ended());
    writer.finish().ok();
    assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new", 0o600));
    dir.assert_holds(&["f"]);
}

fn lock_on_commit_appends_to_what_it_finds_under_the_lock(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "1");
    for option in ["--quiet", "--stream"] {
        let mut slow = method.awrite(&dir, ["--lock-on-commit", "-a", option, "f"]).stdin_open().spawn();
        slow.feed(&vec![b'x'; 1 << 20]);
        method.awrite(&dir, ["-n", "-a", "f"]).stdin("2").quiet_success();
        slow.finish().ok();
        let content = dir.read("f");
        assert!(content.starts_with("12xxx"), "{option}: {}", &content[..8]);
        assert_eq!(content.len(), 2 + (1 << 20));
        dir.file("f", "1");
    }
    dir.assert_holds(&["f"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Holders and waiters that die

fn a_killed_holder_frees_the_lock(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "old");
    for option in ["--quiet", "--stream"] {
        let mut holder = method.awrite(&dir, [option, "f"]).stdin_open().spawn();
        wait_until("the lock is held", || method.is_held(&dir.join("f.lock")));
        holder.feed(&vec![b'x'; 1 << 20]);
        holder.signal(Signal::KILL);
        assert_eq!(holder.finish().signal, Some(9));
        assert_eq!(dir.read("f"), "old");
        dir.assert_holds(&["f", "f.lock"]);
        assert_eq!(dir.read("f.lock").is_empty(), method == Method::Flock);
        method.awrite(&dir, ["--no-wait", "f"]).stdin("old").quiet_success();
        dir.assert_holds(&["f"]);
    }
}

/// The lock is free when its holder is gone, not a while later: the next one does not wait.
fn many_killed_holders_leave_it_free(method: Method) {
    let dir = TestDir::new();
    let (mut slow, all) = (0, rounds(30, 1000));
    for round in 0..all {
        let holder = method.awrite(&dir, ["f"]).stdin_open().spawn();
        // Some are killed before they have it, most while they hold it.
        if round % 10 > 0 {
            wait_until("the lock is held", || method.is_held(&dir.join("f.lock")));
        }
        holder.signal(Signal::KILL);
        assert_eq!(holder.finish().signal, Some(9));
        let start = Instant::now();
        method.awrite(&dir, ["--no-wait", "f"]).stdin(round.to_string()).quiet_success();
        // The documents promise a second. A stall of the machine may cost a round; to wait for the stale time would
        // cost all.
        slow += u32::from(start.elapsed() > Duration::from_secs(1));
        assert_eq!(dir.read("f"), round.to_string());
        if round % 10 == 0 {
            method.clear_after_killed_waiter(&dir);
        }
        dir.assert_holds(&["f"]);
    }
    assert!(slow < rounds(2, 10), "{slow} of {all} took longer than a second");
}

fn a_waiter_goes_on_when_the_holder_is_killed(method: Method) {
    let dir = TestDir::new();
    let holder = method.holder(&dir);
    let mut waiter = method.awrite(&dir, ["f"]).stdin("new").spawn();
    waiter.wait_for_waiting();
    drop(holder);
    waiter.finish().ok();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

fn a_killed_waiter_is_no_obstacle(method: Method) {
    let dir = TestDir::new();
    let mut holder = method.holder(&dir);
    let mut killed = method.awrite(&dir, ["f"]).stdin("killed").spawn();
    killed.wait_for_waiting();
    let mut other = method.awrite(&dir, ["f"]).stdin("other").spawn();
    other.wait_for_waiting();
    drop(killed);
    holder.feed(b"holder");
    holder.finish().ok();
    other.finish().ok();
    assert_eq!(dir.read("f"), "other");
    method.clear_after_killed_waiter(&dir);
    dir.assert_holds(&["f"]);
}

fn a_suspended_waiter_does_not_hinder_others(method: Method) {
    let dir = TestDir::new();
    let mut holder = method.holder(&dir);
    let mut suspended = method.awrite(&dir, ["f"]).stdin("suspended").spawn();
    suspended.wait_for_waiting();
    let mut other = method.awrite(&dir, ["f"]).stdin("other").spawn();
    other.wait_for_waiting();
    suspended.signal(Signal::STOP);
    holder.feed(b"holder");
    holder.finish().ok();
    // The kernel may give a lock by flock to the suspended one first: it owns it then, and the other one has to wait.
    suspended.signal(Signal::CONT);
    other.finish().ok();
    suspended.finish().ok();
    dir.assert_holds(&["f"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Many at once

fn increment(method: Method, dir: &TestDir) -> Running {
    method.awrite(dir, ["-q", "f", "--", "sh", "-c", INCREMENT]).spawn()
}

fn the_last_of_many_waiters_removes_the_file(method: Method) {
    let dir = TestDir::new();
    let mut holder = method.holder(&dir);
    let mut waiters: Vec<Running> = (0..rounds(10, 20))
        .map(|number| {
            let args: &[&str] = if number % 2 == 0 { &["f"] } else { &["--timeout", "55", "f"] };
            method.awrite(&dir, args).stdin(format!("waiter {number}")).spawn()
        })
        .collect();
    for waiter in &mut waiters {
        waiter.wait_for_waiting();
    }
    holder.feed(b"holder");
    holder.finish().ok();
    all_succeed(waiters);
    assert!(dir.read("f").starts_with("waiter "));
    dir.assert_holds(&["f"]);
}

/// Waits that end by time-out just when the lock is given up: one of the two has to remove the file.
fn impatient_writers_leave_nothing_behind(method: Method) {
    let dir = TestDir::new();
    for round in 0..rounds(2, 6) {
        let name = format!("f{round}");
        let writers: Vec<Running> = (0..16)
            .map(|number| {
                let timeout = format!("{}ms", number * 2);
                let run = match number % 4 {
                    0 => method.awrite(&dir, ["-q", "-n", &name]),
                    1 => method.awrite(&dir, ["-q", &name]),
                    _ => method.awrite(&dir, ["-q", "-t", &timeout, &name]),
                };
                run.stdin(vec![b'0' + number as u8; 40_000]).spawn()
            })
            .collect();
        let done: Vec<_> = writers.into_iter().map(Running::finish).collect();
        assert!(done.iter().all(|done| matches!(done.code, Some(0 | 2))), "{done:?}");
        assert!(done.iter().any(|done| done.code == Some(0)), "{done:?}");
        let content = dir.read(&name);
        assert_eq!(content.len(), 40_000);
        assert!(content.bytes().all(|byte| byte == content.as_bytes()[0]));
        fs::remove_file(dir.join(name)).unwrap();
        dir.assert_holds(&[]);
    }
}

fn no_update_is_lost(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "0\n");
    let many = rounds(12, 40);
    all_succeed((0..many).map(|_| increment(method, &dir)).collect());
    assert_eq!(dir.read("f"), format!("{many}\n"));
    dir.assert_holds(&["f"]);
}

fn of_many_that_meet_a_dead_holder_one_wins_at_a_time(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "0\n");
    let many = rounds(12, 30);
    for round in 1..=rounds(1, 20) {
        method.leave_lock_of_the_dead(&dir);
        all_succeed((0..many).map(|_| increment(method, &dir)).collect());
        assert_eq!(dir.read("f"), format!("{}\n", round * many));
        dir.assert_holds(&["f"]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Below a lock

fn they_nest(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "old");
    let below = |script: &str| method.awrite(&dir, ["lock", "f", "-c", script]);
    below("\"$BIN\" f").stdin("1").quiet_success();
    assert_eq!(dir.read("f"), "1");
    below("\"$BIN\" lock f -- \"$BIN\" lock f -- sh -c 'read n < f; echo $((n + 1)) | \"$BIN\" f'").quiet_success();
    assert_eq!(dir.read("f"), "2\n");
    // By whatever method the inner one would lock by itself.
    below(&format!("AWRITE_LOCK_METHOD={} \"$BIN\" f", method.other().name())).stdin("3\n").quiet_success();
    assert_eq!(dir.read("f"), "3\n");
    let done = below("\"$BIN\" -v --json f").stdin("4\n").run();
    assert!(done.ok().stderr.contains(r#""method":"inherited""#), "{done:?}");
    // A command cannot replace the file that its own output is about to replace.
    method.awrite(&dir, ["f", "--", "sh", "-c", "\"$BIN\" f"]).run().assert_code(1);
    assert_eq!(dir.read("f"), "4\n");
    below("echo x | \"$BIN\" g").quiet_success();
    // Not told of it, they wait as for any other.
    method.awrite(&dir, ["lock", "-o", "f", "-c", "\"$BIN\" -n f"]).stdin("x").run().assert_code(2);
    dir.assert_holds(&["f", "g"]);
}

fn nested_ones_side_by_side_exclude_each_other(method: Method) {
    let dir = TestDir::new();
    dir.file("f", "0\n");
    let (holders, each) = rounds((2, 5), (3, 20));
    let add = format!("\"$BIN\" -q f -- sh -c '{INCREMENT}' &");
    let script = format!("{} wait", add.repeat(each));
    all_succeed((0..holders).map(|_| method.awrite(&dir, ["lock", "f", "-c", &script]).spawn()).collect());
    assert_eq!(dir.read("f"), format!("{}\n", holders * each));
    dir.assert_holds(&["f"]);
}
