//! Locks by link(2): who may break them, who may not, and that no update is lost and no file left.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{INCREMENT, Method, all_succeed};
use crate::common::{Held, Run, Running, TestDir, needs, needs_pid_namespaces, needs_strace, rounds, wait_until};

/// The program with link locks.
fn link<'a>(dir: &TestDir, args: impl IntoIterator<Item = &'a str>) -> Run {
    Method::Link.awrite(dir, args)
}

pub(super) fn has_record(lock: &Path) -> bool {
    fs::read(lock).is_ok_and(|bytes| bytes.starts_with(b"{"))
}

/// A writer that holds the lock of `f` and reads its input, which the test has not given yet.
pub(super) fn holder(dir: &TestDir, stale_after: &str) -> Running {
    let holder = link(dir, ["f"]).env("AWRITE_STALE_AFTER", stale_after).stdin_open().spawn();
    let (lock, pid) = (dir.join("f.lock"), u64::from(holder.id()));
    wait_until("the lock is held", || record(&lock).is_some_and(|record| record["pid"] == pid));
    // A holder that is stopped before its first heartbeat might see that it has no lock yet, and take it again.
    wait_until("it gives signs of life", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        threads.filter_map(|thread| fs::read(thread.path().join("comm")).ok()).any(|name| name == b"awrite-heartbea\n")
    });
    holder
}

fn record(lock: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(lock).ok()?).ok()
}

/// A lock of a holder that was killed.
fn leave_lock_of_the_dead(dir: &TestDir) -> Value {
    let dead = holder(dir, "60");
    dead.signal(Signal::KILL);
    assert_eq!(dead.finish().signal, Some(9));
    record(&dir.join("f.lock")).unwrap()
}

/// The record of a lock that this process would hold.
fn own_record(dir: &TestDir) -> Value {
    let mut record = leave_lock_of_the_dead(dir);
    fs::remove_file(dir.join("f.lock")).unwrap();
    record["pid"] = json!(std::process::id());
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    record["start_time"] = json!(fields.split_whitespace().nth(19).unwrap().parse::<u64>().unwrap());
    record
}

/// Writes `record` to `name` as if its holder had last been heard of `age` ago; a negative age is in the future.
fn forge(dir: &TestDir, name: &str, record: &Value, age: i64) -> PathBuf {
    let path = dir.file(name, format!("{record}\n"));
    let offset = Duration::from_secs(age.unsigned_abs());
    let time = if age < 0 { SystemTime::now() + offset } else { SystemTime::now() - offset };
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    path
}

fn increment(dir: &TestDir) -> Run {
    link(dir, ["-q", "f", "--", "sh", "-c", INCREMENT])
}

// ---------------------------------------------------------------------------------------------------------------------
// What it looks like

#[test]
fn the_lock_says_who_holds_it_and_goes_with_the_holder() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let mut writer = holder(&dir, "90");
    dir.assert_holds(&["f", "f.lock"]);
    let meta = fs::metadata(dir.join("f.lock")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o600, 1));
    let record = record(&dir.join("f.lock")).unwrap();
    assert_eq!(record["pid"], writer.id());
    assert_eq!(record["heartbeat_ms"], 30_000);
    assert_eq!(record["boot_id"], fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    for name in ["host", "nonce"] {
        assert!(record[name].is_string(), "{record}");
    }
    assert!(record["start_time"].is_u64(), "{record}");
    writer.feed(b"new");
    writer.finish().ok();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

#[test]
fn settings_that_make_no_sense() {
    let dir = TestDir::new();
    for (name, value) in
        [("AWRITE_STALE_AFTER", "soon"), ("AWRITE_STALE_AFTER", "0"), ("AWRITE_LOCK_METHOD", "carrier pigeon")]
    {
        dir.awrite(["f"]).env(name, value).stdin("x").run().assert_error_with(1, &[name]);
    }
    dir.assert_holds(&[]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Exclusion

#[test]
fn the_methods_respect_each_other() {
    let dir = TestDir::new();
    dir.file("f", "0\n");
    // A holder by flock keeps lockers by link out. Their hint says what to do if the holder has crashed.
    let held = Held::new(&dir.join("f.lock"));
    link(&dir, ["-n", "f"]).stdin("x").run().assert_error_with(2, &["locked"]).assert_hint("uses flock; if that");
    let mut waiter = link(&dir, ["f"]).stdin("1\n").spawn();
    waiter.wait_for_stderr("Warning: f.lock: an empty lock file");
    fs::remove_file(dir.join("f.lock")).unwrap();
    held.release();
    waiter.finish().ok();
    assert_eq!(dir.read("f"), "1\n");
    // A holder by link keeps lockers by flock out. They understand the record and do not remove it.
    let mut writer = holder(&dir, "60");
    let held_by = format!("held by PID {} (", writer.id());
    dir.awrite(["-n", "f"]).stdin("x").run().assert_error_with(2, &["locked"]).assert_hint(&held_by);
    let mut waiter = dir.awrite(["f"]).stdin("3\n").spawn();
    waiter.wait_for_waiting();
    assert!(has_record(&dir.join("f.lock")));
    writer.feed(b"2\n");
    writer.finish().ok();
    waiter.finish().ok();
    assert_eq!(dir.read("f"), "3\n");
    // A dead holder keeps nobody out.
    leave_lock_of_the_dead(&dir);
    dir.awrite(["-n", "f"]).stdin("0\n").quiet_success();
    dir.assert_holds(&["f"]);
    // Both kinds at once.
    let many = rounds(10, 30);
    let all: Vec<Running> = (0..many)
        .map(|n| {
            if n % 2 == 0 { increment(&dir) } else { dir.awrite(["-q", "f", "--", "sh", "-c", INCREMENT]) }.spawn()
        })
        .collect();
    all_succeed(all);
    assert_eq!(dir.read("f"), format!("{many}\n"));
    dir.assert_holds(&["f"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Alive or dead

#[test]
fn a_living_holder_keeps_it_however_long() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let mut writer = holder(&dir, "300ms");
    let lock = dir.join("f.lock");
    let mut seen = std::collections::BTreeSet::new();
    // The holder is blocked in a read for several stale times, and its heartbeat goes on.
    wait_until("it has given ten signs of life", || {
        let meta = fs::metadata(&lock).unwrap();
        seen.insert((meta.mtime(), meta.mtime_nsec()));
        seen.len() > 10
    });
    link(&dir, ["-t", "1", "f"]).stdin("x").run().assert_code(2);
    writer.feed(b"new");
    writer.finish().ok();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

#[test]
fn a_stopped_holder_finds_its_lock_lost() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for command in [false, true] {
        let mut stopped = if command {
            let args =
                ["f", "--", "sh", "-c", "cat >/dev/null; touch started; while [ ! -e go ]; do :; done; echo theirs"];
            let running = link(&dir, args).env("AWRITE_STALE_AFTER", "300ms").spawn();
            wait_until("the command runs", || dir.join("started").exists());
            running
        } else {
            holder(&dir, "300ms")
        };
        stopped.signal(Signal::STOP);
        // The stopped holder is alive but silent: its lock is broken after the stale time, not before.
        let mut other = holder(&dir, "60");
        stopped.signal(Signal::CONT);
        if command {
            dir.file("go", "");
        } else {
            stopped.feed(b"theirs");
        }
        let done = stopped.finish();
        done.assert_error(2, "Error: f: Lock lost").assert_hint("300ms");
        assert_eq!(dir.read("f"), "old");
        assert_eq!(record(&dir.join("f.lock")).unwrap()["pid"], other.id(), "the successor's lock stays");
        other.feed(b"old");
        other.finish().ok();
        assert_eq!(dir.read("f"), "old");
        let _ = (fs::remove_file(dir.join("go")), fs::remove_file(dir.join("started")));
        dir.assert_holds(&["f"]);
    }
}

/// Any process that can read the lock file can forge a baton: a locked file with the nonce, and the variable.
#[test]
fn a_forged_baton_gains_nothing() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    let mut holder = holder(&dir, "60");
    let forge = r#"
import fcntl, json, os, struct, sys
record = json.load(open("f.lock"))
fd = os.memfd_create("baton", 0)
os.write(fd, record["nonce"].encode())
fcntl.flock(fd, fcntl.LOCK_EX)
mark = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 2 * 4242, 1, 0)
fcntl.fcntl(fd, 37, mark)  # F_OFD_SETLK
status = os.fstat(fd)
os.environ["AWRITE_HELD"] = f"{fd}:{status.st_dev}:{status.st_ino}:x:4242:{record['pid']}"
os.set_inheritable(fd, True)
os.execv(os.environ["BIN"], ["awrite", "-n", "f"])
"#;
    let forged = dir.program("python3", ["-c", forge]).env("AWRITE_LOCK_METHOD", "link").stdin("x").run();
    assert!(matches!(forged.code, Some(1 | 2)), "{forged:?}");
    assert!(!dir.join("f").exists(), "{forged:?}");
    holder.feed(b"mine");
    holder.finish().ok();
    assert_eq!(dir.read("f"), "mine");
    dir.assert_holds(&["f"]);
}

/// There the holder cannot be asked for its baton: an error, not a wait for itself.
#[test]
fn a_baton_that_cannot_be_confirmed_is_an_error_at_once() {
    if !needs_pid_namespaces() {
        return;
    }
    let dir = TestDir::new();
    let unshare = "unshare --mount --pid --fork";
    for proc in ["true", "mount -t proc none /proc", "mount -t tmpfs none /proc"] {
        let script = format!("{unshare} sh -c '{proc}; exec \"$BIN\" --lock-method link f'");
        let done = link(&dir, ["lock", "f", "-c", &script]).stdin("x").run();
        done.assert_error(1, "Error: f: The lock is held above this process, which cannot be confirmed");
    }
    dir.assert_holds(&[]);
}

#[test]
fn one_left_behind_is_waited_for() {
    let dir = TestDir::new();
    let script = "\"$BIN\" lock f -c 'touch in; while [ ! -e go ]; do sleep .01; done; touch done' >/dev/null 2>&1 &
        while [ ! -e in ]; do sleep .01; done";
    let mut holder = link(&dir, ["lock", "f", "-c", script]).spawn();
    holder.wait_for_stderr("still work under it");
    assert!(has_record(&dir.join("f.lock")) && !holder.has_ended());
    dir.file("go", "");
    holder.finish().ok();
    dir.assert_holds(&["done", "go", "in"]);
}

/// A signal ends the work, and the lock is given back, not lost: what COMMAND has left may take it.
#[test]
fn after_a_signal_those_left_behind_lock_as_any_other() {
    let dir = TestDir::new();
    let daemon = "(while [ ! -e go ]; do sleep .01; done; echo late | \"$BIN\" --lock-method link f 2>err
        echo $? >code; mv code done) >/dev/null 2>&1 &";
    let script = format!("trap 'exit 1' TERM; {daemon} touch ready; while :; do sleep .01; done");
    let writer = link(&dir, ["f", "--", "sh", "-c", &script]).spawn();
    wait_until("it runs", || dir.join("ready").exists());
    writer.signal(Signal::TERM);
    writer.finish().assert_code(3);
    assert!(!dir.join("f.lock").exists());
    dir.file("go", "");
    wait_until("the daemon has written", || dir.join("done").exists());
    assert_eq!((dir.read("done").as_str(), dir.read("f").as_str()), ("0\n", "late\n"), "{}", dir.read("err"));
}

/// Not even beside a sign of life that is another's.
#[test]
fn below_a_lock_that_another_has_by_now_nothing_is_written() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "\"$BIN\" f -- sh -c 'touch ready; while [ ! -e go ]; do sleep .01; done; echo late'; echo $? >code1
        echo later | \"$BIN\" f 2>err; echo $? >code.new; mv code.new code";
    let outer = link(&dir, ["lock", "f", "-c", script]).env("AWRITE_STALE_AFTER", "300ms").spawn();
    wait_until("it runs", || dir.join("ready").exists());
    outer.signal(Signal::STOP);
    let rival = link(&dir, ["lock", "f", "-c", "touch theirs; while [ ! -e end ]; do sleep .01; done"]).spawn();
    wait_until("another has the lock", || dir.join("theirs").exists());
    dir.file("go", "");
    wait_until("it has ended", || dir.join("code").exists());
    assert_eq!([dir.read("code1"), dir.read("code"), dir.read("f")], ["2\n", "2\n", "old"]);
    // One that begins now does not wait either.
    assert!(dir.read("err").starts_with("Error: f: The lock that this runs under is lost\n"), "{}", dir.read("err"));
    // Its release leaves the lock to the other.
    outer.signal(Signal::CONT);
    outer.finish().assert_code(2);
    assert!(has_record(&dir.join("f.lock")));
    dir.file("end", "");
    rival.finish().ok();
}

/// A server that does not answer is no lost lock.
#[test]
fn below_a_lock_an_error_is_one() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let script = "strace -f -qq -o /dev/null -e inject=utimensat:error=EIO \"$BIN\" f";
    let done = link(&dir, ["lock", "f", "-c", script]).stdin("x").run();
    done.assert_error_with(1, &["f: Input/output error"]);
    dir.assert_holds(&[]);
}

#[test]
fn below_a_lost_lock_nothing_is_written() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "\"$BIN\" f -- sh -c 'touch ready; while [ ! -e go ]; do :; done; echo late'";
    let outer = link(&dir, ["lock", "f", "-c", script]).env("AWRITE_STALE_AFTER", "300ms").spawn();
    wait_until("it runs", || dir.join("ready").exists());
    outer.signal(Signal::STOP);
    link(&dir, ["-t", "60", "f"]).stdin("other").run().ok();
    dir.file("go", "");
    wait_until("the inner one has ended", || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", outer.id())).unwrap_or_default();
        let child = children.split_whitespace().next().unwrap_or("0").to_owned();
        fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    assert_eq!(dir.read("f"), "other");
    outer.signal(Signal::CONT);
    outer.finish().assert_code(2);
    assert_eq!(dir.read("f"), "other");
    dir.assert_holds(&["f", "go", "ready"]);
}

/// COMMAND cannot notice that the lock was lost, so awrite-lock fails.
#[test]
fn a_command_that_has_lost_its_lock_does_not_succeed() {
    let dir = TestDir::new();
    let script = "touch ready; while [ ! -e go ]; do :; done";
    let holder = link(&dir, ["lock", "f", "-c", script]).env("AWRITE_STALE_AFTER", "300ms").spawn();
    wait_until("it runs", || dir.join("ready").exists());
    holder.signal(Signal::STOP);
    link(&dir, ["-t", "60", "f"]).stdin("other").run().ok();
    dir.file("go", "");
    holder.signal(Signal::CONT);
    holder.finish().assert_error_with(2, &["f.lock: Lock lost"]);
    dir.assert_holds(&["f", "go", "ready"]);
}

#[test]
fn it_cannot_be_left_to_command_alone() {
    let dir = TestDir::new();
    link(&dir, ["lock", "-F", "f", "--", "touch", "g"]).run().assert_error_with(1, &["Error: f: --no-fork: "]);
    dir.assert_holds(&[]);
}

#[test]
fn too_long_a_silence_loses_the_lock_even_if_nobody_took_it() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let mut stopped = holder(&dir, "300ms");
    stopped.signal(Signal::STOP);
    let start = Instant::now();
    wait_until("the stale time has passed", || start.elapsed() > Duration::from_millis(400));
    stopped.feed(b"new");
    stopped.signal(Signal::CONT);
    stopped.finish().assert_error(2, "Error: f: Lock lost");
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f"]);
}

/// Nobody has broken the lock of the dead holder yet.
#[test]
fn below_a_killed_holder_nothing_is_written() {
    let dir = TestDir::new();
    let script = "touch ready; while [ ! -e go ]; do sleep .01; done; \"$BIN\" -n f </dev/zero 2>err; echo $? >code; mv code done";
    let holder = link(&dir, ["lock", "f", "-c", script]).spawn();
    wait_until("it runs", || dir.join("ready").exists());
    holder.signal(Signal::KILL);
    holder.finish();
    dir.file("go", "");
    wait_until("it has ended", || dir.join("done").exists());
    assert_eq!(dir.read("done"), "2\n");
    assert!(dir.read("err").starts_with("Error: f: The lock that this runs under is lost\n"), "{}", dir.read("err"));
}

/// COMMAND reads, loses the lock with its holder, and writes: over what another has written meanwhile, if it took the lock
/// as anybody does.
#[test]
fn one_that_begins_below_a_lost_lock_writes_nothing() {
    for (loss, stale_after, code, outer) in
        [(Signal::KILL, "60", "2\n", None), (Signal::STOP, "1", "2\n", Some(2)), (Signal::CONT, "60", "0\n", Some(0))]
    {
        let dir = TestDir::new();
        dir.file("f", "old\n");
        // As a daemon: only then may a lock be given back before it ends.
        let write = "cp f was; touch ready; while [ ! -e go ]; do sleep .01; done; \
                     \"$BIN\" --lock-method link f <was 2>err; echo $? >code";
        let script = format!("({write}; mv code done) & while [ ! -e end ]; do sleep .01; done");
        let holder = link(&dir, ["lock", "f", "-c", &script]).env("AWRITE_STALE_AFTER", stale_after).spawn();
        wait_until("it has read", || dir.join("ready").exists());
        if loss == Signal::CONT {
            // Given back, and not lost.
            dir.file("end", "");
            wait_until("the lock is given back", || !dir.join("f.lock").exists());
        }
        holder.signal(loss);
        link(&dir, ["f"]).stdin("theirs\n").run().ok();
        dir.file("go", "");
        wait_until("it has written", || dir.join("done").exists());
        assert_eq!(dir.read("done"), code, "{loss:?}: {}", dir.read("err"));
        if loss != Signal::CONT {
            assert!(dir.read("err").starts_with("Error: f: The lock that this runs under is lost\nHint: "));
            assert_eq!(dir.read("f"), "theirs\n");
        }
        dir.file("end", "");
        holder.signal(Signal::CONT);
        assert_eq!(holder.finish().code, outer);
        assert!(!dir.join("f.lock").exists());
    }
}

#[test]
fn who_counts_as_dead() {
    let dir = TestDir::new();
    let own = own_record(&dir);
    let pid = std::process::id();
    let other = |changes: Value| {
        let mut record = own.clone();
        record.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        record
    };
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let start = own["start_time"].as_u64().unwrap();
    let elsewhere = format!("held by PID {pid} on elsewhere");
    let here = format!("held by PID {pid} (");
    // The record, the age of its last heartbeat, and the hint if the holder counts as alive.
    for (record, age, alive) in [
        (own.clone(), 0, Some(&here)),
        (other(json!({"start_time": null})), 0, Some(&here)),
        // The process is gone, or its number now belongs to another process.
        (other(json!({"pid": gone.id()})), 0, None),
        (other(json!({"start_time": start + 1})), 0, None),
        // Processes here prove nothing if the record is from another host, boot or PID namespace.
        (other(json!({"host": "elsewhere", "boot_id": "another"})), 0, Some(&elsewhere)),
        (other(json!({"host": "elsewhere", "boot_id": "another", "start_time": start + 1})), 0, Some(&elsewhere)),
        (other(json!({"host": "elsewhere", "pid_namespace": 1, "start_time": start + 1})), 0, Some(&elsewhere)),
        (other(json!({"host": "elsewhere", "boot_id": null, "start_time": start + 1})), 0, Some(&elsewhere)),
        // It has been silent for longer than its own stale time.
        (own.clone(), 61, None),
        (other(json!({"host": "elsewhere", "boot_id": "another"})), 61, None),
        (other(json!({"host": "elsewhere", "boot_id": "another"})), 50, Some(&elsewhere)),
        (other(json!({"host": "elsewhere", "boot_id": "another", "heartbeat_ms": 40_000})), 61, Some(&elsewhere)),
        // The file's time comes from the file server, so it may be in the future. That is no silence.
        (other(json!({"host": "elsewhere", "boot_id": "another"})), -3600, Some(&elsewhere)),
    ] {
        let lock = forge(&dir, "f.lock", &record, age);
        // The holder's stale time counts, not the asker's.
        let done = link(&dir, ["-n", "f"]).env("AWRITE_STALE_AFTER", "5").stdin("x").run();
        if let Some(holder) = alive {
            done.assert_error(2, "Error: f: File locked by another process").assert_hint(holder);
            assert_eq!(fs::read_to_string(&lock).unwrap(), format!("{record}\n"), "left alone");
            fs::remove_file(&lock).unwrap();
        } else {
            assert_eq!(done.code, Some(0), "{record} {age}: {done:#?}");
            fs::remove_file(dir.join("f")).unwrap();
        }
        dir.assert_holds(&[]);
    }
}

#[test]
fn a_zombie_is_dead() {
    let dir = TestDir::new();
    let dead = holder(&dir, "60");
    dead.signal(Signal::KILL);
    wait_until("it is a zombie", || {
        fs::read_to_string(format!("/proc/{}/stat", dead.id())).is_ok_and(|stat| stat.contains(") Z "))
    });
    link(&dir, ["-n", "f"]).stdin("x").quiet_success();
    dir.assert_holds(&["f"]);
}

#[test]
fn what_is_no_record_is_never_removed() {
    let dir = TestDir::new();
    let own = own_record(&dir);
    let mut future = own.clone();
    future["version"] = json!(2);
    let mut damaged = own.clone();
    damaged["nonce"] = json!("../../../etc/passwd");
    let torn = own.to_string()[..60].to_owned();
    for (content, words) in [
        (future.to_string(), "newer version"),
        (damaged.to_string(), "not empty"),
        (torn, "not empty"),
        ("# This file is generated\n[[package]]\n".to_owned(), "not empty"),
        ("{}".to_owned(), "not empty"),
    ] {
        dir.file("f.lock", &content);
        link(&dir, ["f"]).stdin("x").run().assert_error_with(1, &["f.lock: ", words]);
        dir.awrite(["f"]).stdin("x").run().assert_error_with(1, &["f.lock: ", words]);
        assert_eq!(dir.read("f.lock"), content);
        dir.assert_holds(&["f.lock"]);
    }
    fs::remove_file(dir.join("f.lock")).unwrap();
    fs::create_dir(dir.join("f.lock")).unwrap();
    link(&dir, ["f"]).stdin("x").run().assert_error(1, "Error: f.lock: Lock file is a directory");
}

// ---------------------------------------------------------------------------------------------------------------------
// Breakers that die

/// The file of one that was killed before its record was in it, where nobody can tell that no process has it open (NFS;
/// here one has). Its time of modification is then what the client gave it to know it again.
#[test]
fn an_empty_file_that_stays_empty_is_cleared_away() {
    let dir = TestDir::new();
    let name = ".awrite-d39cff2b-000000000000d4e5.f.lock";
    let open = File::create(dir.join(name)).unwrap();
    open.set_modified(SystemTime::now() + Duration::from_secs(1 << 28)).unwrap();
    link(&dir, ["f"]).stdin("x").quiet_success();
    dir.assert_holds(&[name, "f"]);
    wait_until("the stale time is over", || {
        link(&dir, ["f"]).env("AWRITE_STALE_AFTER", "1").stdin("x").quiet_success();
        !dir.join(name).exists()
    });
    dir.assert_holds(&["f"]);
}

/// The server's clock tells of one on another host, whether the lock is free or not. What its maker may still need is
/// looked at again, and stays.
#[test]
fn what_another_host_left_is_cleared_away_when_it_is_old() {
    let dir = TestDir::new();
    let mut elsewhere = own_record(&dir);
    elsewhere["boot_id"] = json!("another boot");
    let [old, young] = ["a1b2", "a1b3"].map(|end| format!(".awrite-d39cff2b-000000000000{end}.f.lock"));
    forge(&dir, &old, &elsewhere, 3600);
    forge(&dir, &young, &elsewhere, 0);
    link(&dir, ["f"]).stdin("x").quiet_success();
    dir.assert_holds(&[&young, "f"]);
}

#[test]
fn what_dead_breakers_left_is_cleared_away() {
    let dir = TestDir::new();
    let mut dead = leave_lock_of_the_dead(&dir);
    let nonce = |n: u32| format!("{n:016x}");
    let lock_nonce = dead["nonce"].as_str().unwrap().to_owned();
    let mut mark = format!("f.lock.break-{lock_nonce}");
    // Breaker 1 died holding the mark, breaker 2 while breaking that mark, breaker 3 …
    for n in 1..=3 {
        dead["nonce"] = json!(nonce(n));
        forge(&dir, &mark, &dead, 0);
        mark = format!("{mark}.break-{}", nonce(n));
    }
    // Older leftovers: a mark for a nonce that is gone, whose maker lives, and a file that never became a lock.
    let own = own_record(&TestDir::new());
    forge(&dir, &format!("f.lock.break-{}", nonce(9)), &own, 0);
    dead["nonce"] = json!(nonce(10));
    forge(&dir, ".awrite-d39cff2b-000000000000a1b2.f.lock", &dead, 0);
    // Similar names, without records.
    let mut left =
        vec!["f", "f.lock.break-it", "g.lock.break-0000000000000009", ".awrite-d39cff2b-000000000000d4e5.f.lock"];
    for name in &left[1..] {
        dir.file(name, "mine");
    }
    // Records, by names that are another lock's, another target's, or nobody's.
    let others = [
        "g.lock.break-000000000000000a",
        ".awrite-8cfefcce-0000000000000001.f117",
        "f.lock.break-00000000000000zz",
        ".awrite-d39cff2b-x.f.lock",
    ];
    for name in others {
        forge(&dir, name, &dead, 0);
    }
    left.extend(others);
    link(&dir, ["-n", "f"]).stdin("x").quiet_success();
    dir.assert_holds(&left);
}

#[test]
fn a_living_breaker_is_waited_for() {
    let dir = TestDir::new();
    let dead = leave_lock_of_the_dead(&dir);
    let own = own_record(&TestDir::new());
    let mark = forge(&dir, &format!("f.lock.break-{}", dead["nonce"].as_str().unwrap()), &own, 0);
    link(&dir, ["-n", "f"]).stdin("x").run().assert_code(2);
    assert_eq!(record(&dir.join("f.lock")), Some(dead));
    fs::remove_file(mark).unwrap();
    link(&dir, ["-n", "f"]).stdin("x").quiet_success();
    dir.assert_holds(&["f"]);
}

/// A lock by descriptor has no name to look at, but it sees that the open file is a link lock.
#[test]
fn a_descriptor_does_not_walk_over_it() {
    let dir = TestDir::new();
    let mut holder = holder(&dir, "60");
    let done = dir.sh("exec 9>>f.lock; \"$BIN\" lock -n 9").run();
    done.assert_error_with(2, &["descriptor 9: Held by a link lock"]);
    dir.sh("exec 9>>f.lock; \"$BIN\" lock 9").run().assert_code(2);
    holder.feed(b"x");
    holder.finish().ok();
    // A file with other content can be locked.
    dir.file("other", "content");
    dir.sh("exec 9>>other; \"$BIN\" lock -qn 9").quiet_success();
    dir.assert_holds(&["f", "other"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Housekeeping

fn clean_locks(dir: &TestDir, more: &[&str]) -> Vec<String> {
    let done = dir.awrite(["housekeep", "--clean-locks"].iter().chain(more)).run();
    done.ok();
    let mut listed: Vec<String> = done.stdout.lines().map(|line| line.trim_start_matches("./").to_owned()).collect();
    listed.sort();
    listed
}

#[test]
fn housekeeping_removes_what_is_stale_and_nothing_else() {
    let dir = TestDir::new();
    let own = own_record(&dir);
    let mut elsewhere = own.clone();
    elsewhere["boot_id"] = json!("another boot");
    let with_nonce = |record: &Value, nonce: u32| {
        let mut record = record.clone();
        record["nonce"] = json!(format!("{nonce:016x}"));
        record
    };
    let mut dead = own.clone();
    dead["start_time"] = json!(1);
    forge(&dir, "dead.lock", &with_nonce(&dead, 1), 0);
    forge(&dir, "long-silent.lock", &with_nonce(&elsewhere, 2), 3600);
    // Two marks of dead breakers: one for a nonce that is gone, and one whose lock is gone.
    forge(&dir, &format!("silent.lock.break-{:016x}", 99), &dead, 0);
    forge(&dir, &format!("gone.lock.break-{:016x}", 1), &dead, 0);
    let stale =
        ["dead.lock", "gone.lock.break-0000000000000001", "long-silent.lock", "silent.lock.break-0000000000000063"];

    // A process of this machine that lives keeps its lock, however long it has been silent.
    forge(&dir, "own.lock", &with_nonce(&own, 4), 3600);
    forge(&dir, "silent.lock", &with_nonce(&elsewhere, 3), 0);
    forge(&dir, &format!("silent.lock.break-{:016x}", 3), &dead, 0);
    let mut future = own;
    future["version"] = json!(2);
    forge(&dir, "future.lock", &future, 3600);
    dir.file("Cargo.lock", "# This file is generated\n");
    dir.file(format!("f.lock.break-{:016x}", 5), "mine");
    dir.file(format!("f.lock.break-{:016x}", 6), "");
    let stay = [
        "Cargo.lock",
        "f.lock.break-0000000000000005",
        "f.lock.break-0000000000000006",
        "future.lock",
        "own.lock",
        "silent.lock",
        "silent.lock.break-0000000000000003",
    ];

    assert_eq!(clean_locks(&dir, &["--older-than", "2h"]), [""; 0]);
    assert_eq!(clean_locks(&dir, &["--dry-run"]), stale);
    let all: Vec<&str> = stale.iter().chain(&stay).copied().collect();
    dir.assert_holds(&all);
    assert_eq!(clean_locks(&dir, &[]), stale);
    dir.assert_holds(&stay);
    assert_eq!(clean_locks(&dir, &[]), [""; 0]);
}

#[test]
fn housekeeping_beside_writers_costs_no_update() {
    let dir = TestDir::new();
    dir.file("f", "0\n");
    for round in 1..=rounds(1, 5) {
        let keepers: Vec<Running> = (0..2).map(|_| dir.awrite(["housekeep", "-q", "--all"]).spawn()).collect();
        let writers: Vec<Running> = (0..8).map(|_| increment(&dir).spawn()).collect();
        // Killed before, while or after they have the lock.
        let dead: Vec<Running> = (0..3).map(|_| link(&dir, ["f"]).stdin_open().spawn()).collect();
        dead.iter().for_each(|one| one.signal(Signal::KILL));
        all_succeed(writers);
        all_succeed(keepers);
        assert_eq!(dir.read("f"), format!("{}\n", round * 8));
    }
    dir.awrite(["housekeep", "--clean-locks", "--clean-temps"]).run().ok();
    dir.assert_holds(&["f"]);
}
