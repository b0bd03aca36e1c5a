//! Leases: whom they keep out and for how long, and what others see of them meanwhile.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use awrite::{AtomicFile, Claim, Error, ErrorKind, FileLock, Lease, LockOptions, Notice, Observer, Wait, WriteOptions};

use crate::common::{Run, Running, TestDir, needs_strace, wait_until};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn waiting(wait: Wait) -> LockOptions {
    let mut options = LockOptions::default();
    options.wait = wait;
    options
}

fn writing(wait: Wait, claim: Option<Claim>) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.lock = waiting(wait);
    options.lock.claim = claim;
    options
}

fn acquire(target: &Path, owner: &str, ttl: Duration) -> awrite::Result<Lease> {
    Lease::acquire(target, owner, ttl, &waiting(Wait::No))
}

fn write(target: &Path, text: &str, wait: Wait, claim: Option<Claim>) -> awrite::Result<awrite::Committed> {
    awrite::write(target, text, &writing(wait, claim))
}

/// Waits until the lease of `target` has expired.
fn outlast(target: &Path) {
    wait_until("the lease has ended", || Lease::status(target, &LockOptions::default()).unwrap().is_free());
}

/// Takes the lease of `target` and leaves it standing.
fn lease(target: &Path, owner: &str, ttl: Duration) -> u64 {
    acquire(target, owner, ttl).unwrap().detach()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(outcome: awrite::Result<T>, kind: ErrorKind, code: u8) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (kind, code), "{error}");
    error
}

/// The record, read as JSON.
fn record(dir: &TestDir, name: &str) -> serde_json::Value {
    serde_json::from_str(&dir.read(name)).unwrap()
}

// ---------------------------------------------------------------------------------------------------------------------
// The record

#[test]
fn the_record_is_as_documented() {
    let dir = TestDir::new();
    let path = dir.file_with_mode("f", "", 0o644);
    let lease = acquire(&path, "agent-7", Duration::from_secs(60)).unwrap();
    dir.assert_holds(&["f", "f.lease"]);
    assert_eq!(dir.mode("f.lease"), 0o600);
    let said = record(&dir, "f.lease");
    assert_eq!(said["owner"], "agent-7");
    assert_eq!(said["token"], lease.token());
    assert_eq!(said["ttl_ms"], 60_000);
    assert_eq!(said["pid"], std::process::id());
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(said["boot_id"], boot_id.trim());
    assert!(said["expires_boottime_ms"].as_u64().unwrap() > 60_000);
    for field in ["locked_at", "refreshed_at", "expires_at"] {
        let text = said[field].as_str().unwrap();
        // 2026-01-02T03:04:05.678Z
        assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    }
    let info = lease.info();
    assert_eq!((info.owner.as_str(), info.token), ("agent-7", lease.token()));
    assert_eq!(info.expires_at.duration_since(info.refreshed_at).unwrap(), info.ttl);
    lease.release().unwrap();
    dir.assert_holds(&["f"]);
}

#[test]
fn the_record_is_open_to_those_who_may_write_the_target() {
    let dir = TestDir::new();
    let path = dir.file_with_mode("f", "", 0o666);
    lease(&path, "a", LONG);
    assert_eq!(dir.mode("f.lease"), 0o666);
    let path = dir.file_with_mode("g", "", 0o660);
    let mut options = waiting(Wait::No);
    options.mode = Some(0o640);
    Lease::acquire(&path, "a", LONG, &options).unwrap().detach();
    assert_eq!(dir.mode("g.lease"), 0o640);
}

#[test]
fn the_record_lies_with_the_lock_files_that_have_a_directory() {
    let dir = TestDir::new();
    dir.dir("locks");
    let mut options = waiting(Wait::No);
    options.dir = Some(dir.join("locks"));
    let lease = Lease::acquire(dir.join("f"), "a", LONG, &options).unwrap();
    dir.assert_holds(&["locks"]);
    let info = lease.info();
    let name = info.path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with('%') && name.ends_with("%f.lease"), "{name}");
    assert_refused(Lease::acquire(dir.join("f"), "b", LONG, &options), ErrorKind::Leased, 2);
    drop(lease);
    // A lock file that targets share: each has its own lease.
    let mut options = waiting(Wait::No);
    options.file = Some(dir.join("common.lock"));
    let _f = Lease::acquire(dir.join("f"), "a", LONG, &options).unwrap();
    let _g = Lease::acquire(dir.join("g"), "b", LONG, &options).unwrap();
    dir.assert_holds(&["f.lease", "g.lease", "locks"]);
}

#[test]
fn the_longest_names_have_leases() {
    let dir = TestDir::new();
    for length in [249, 250, 255] {
        let path = dir.join("n".repeat(length));
        let lease = acquire(&path, "a", LONG).unwrap();
        assert_refused(acquire(&path, "b", LONG), ErrorKind::Leased, 2);
        drop(lease);
        dir.assert_holds(&[]);
    }
}

#[test]
fn all_names_of_a_file_share_its_lease() {
    let dir = TestDir::new();
    std::os::unix::fs::symlink("f", dir.join("link")).unwrap();
    let _lease = acquire(&dir.join("link"), "a", LONG).unwrap();
    dir.assert_holds(&["f.lease", "link"]);
    assert_refused(acquire(&dir.join("f"), "b", LONG), ErrorKind::Leased, 2);
}

#[test]
fn damaged_records_stop_a_writer_and_are_kept() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for text in ["", "\0\0\0\0", "{\"version\":2}", "an unrelated file\n", "{\"owner\":\"a\"}"] {
        dir.file("f.lease", text);
        let done = dir.awrite(["f"]).stdin("new").run();
        done.assert_code(1);
        assert!(done.lines()[0].starts_with("Error: f.lease: Not a lease record"), "{done:#?}");
        let outcome = Lease::status(dir.join("f"), &LockOptions::default());
        assert_refused(outcome, ErrorKind::DamagedRecord, 1);
        assert_refused(acquire(&dir.join("f"), "a", LONG), ErrorKind::DamagedRecord, 1);
        assert_eq!((dir.read("f.lease").as_str(), dir.read("f").as_str()), (text, "old"));
        dir.assert_holds(&["f", "f.lease"]);
    }
}

#[test]
fn without_a_lease_a_write_asks_once() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let trace = dir.join("trace");
    let program = crate::common::AWRITE;
    dir.program("strace", ["-f", "-o", trace.to_str().unwrap(), program, "f"]).stdin("x").quiet_success();
    let calls = dir.read("trace");
    assert_eq!(calls.lines().filter(|line| line.contains("f.lease")).count(), 1, "{calls}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Keeping others out

#[test]
fn writers_and_lockers_are_kept_out() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let _lease = acquire(&path, "agent-7", LONG).unwrap();
    let done = dir.awrite(["--no-wait", "f"]).stdin("new").run();
    done.assert_code(2);
    let line = done.lines()[0];
    let time = line.strip_prefix("Error: f: Leased by agent-7 until ").unwrap_or_else(|| panic!("{line}"));
    // 10:15:00, or 2026-01-02 10:15:00 shortly before midnight.
    assert!(time.len() == 8 || time.len() == 19, "{time}");
    assert!(time.bytes().all(|b| b.is_ascii_digit() || b"-: ".contains(&b)), "{time}");
    assert_refused(FileLock::acquire(&path, &waiting(Wait::No)), ErrorKind::Leased, 2);
    let mut shared = waiting(Wait::No);
    shared.shared = true;
    assert_refused(FileLock::acquire(&path, &shared), ErrorKind::Leased, 2);
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f", "f.lease"]);
}

#[test]
fn a_time_limit_ends_the_wait() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let _lease = acquire(&path, "a", LONG).unwrap();
    let began = Instant::now();
    let done = dir.awrite(["--timeout=0.3", "f"]).stdin("new").run();
    done.assert_code(2);
    assert!(began.elapsed() >= Duration::from_millis(300));
    let lines = done.lines();
    assert!(
        lines[0].starts_with("Waiting for f, leased by ") && lines[0].ends_with(" (300ms timeout)..."),
        "{done:#?}"
    );
    assert!(lines[1].starts_with("Error: f: Leased by a until "), "{done:#?}");
    assert_eq!(lines[2..], ["Hint: waited 300ms for its end"], "{done:#?}");
    dir.assert_holds(&["f.lease"]);
}

#[test]
fn a_writer_waits_for_the_release() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let lease = acquire(&path, "a", LONG).unwrap();
    let mut writer = dir.awrite(["f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    // The waiter does not hold the lock while it waits for the lease.
    write(&path, "mine", Wait::Forever, Some(lease.claim())).unwrap();
    assert_eq!(dir.read("f"), "mine");
    lease.release().unwrap();
    let done = writer.finish();
    done.ok();
    assert!(done.stderr.starts_with("Waiting for f, leased by ") && done.stderr.ends_with("...\nLock acquired\n"));
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

#[test]
fn a_writer_waits_for_the_end() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let ttl = Duration::from_millis(300);
    let began = Instant::now();
    lease(&path, "a", ttl);
    write(&path, "new", Wait::Forever, None).unwrap();
    // A record has whole milliseconds.
    assert!(began.elapsed() + Duration::from_millis(1) >= ttl);
    // An expired record hinders nobody. The next owner replaces it.
    dir.assert_holds(&["f", "f.lease"]);
}

#[test]
fn the_next_owner_waits_and_is_told_once() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let first = lease(&path, "a", Duration::from_secs(1));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observer = Observer::new({
        let seen = Arc::clone(&seen);
        move |notice| match notice {
            Notice::Waiting { .. } => seen.lock().unwrap().push("waiting"),
            Notice::Locked { contended: true, .. } => seen.lock().unwrap().push("locked"),
            _ => {}
        }
    });
    let second = Lease::acquire_with(&path, "b", LONG, &waiting(Wait::For(LONG)), &observer).unwrap();
    assert!(second.token() > first);
    assert_eq!(*seen.lock().unwrap(), ["waiting", "locked"]);
}

#[test]
fn status_tells_held_and_leased_apart_and_changes_nothing() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let status = || Lease::status(&path, &LockOptions::default()).unwrap();
    assert!(status().is_free());
    dir.assert_holds(&[]);
    // A lock file that a crash left.
    dir.file("f.lock", "");
    assert!(status().is_free());
    dir.assert_holds(&["f.lock"]);
    let lock = FileLock::acquire(&path, &waiting(Wait::No)).unwrap();
    let held = status();
    assert!(held.held && !held.is_free() && held.lease.is_none());
    assert_eq!(held.holder.unwrap().pid, std::process::id());
    lock.release().unwrap();
    let token = lease(&path, "a", LONG);
    let leased = status();
    assert!(!leased.held && !leased.is_free());
    let info = leased.lease.unwrap();
    assert_eq!((info.owner.as_str(), info.token), ("a", token));
    assert!(info.to_string().starts_with("Leased by a until "));
    // Its owner may shorten it.
    lease(&path, "a", Duration::from_millis(1));
    outlast(&path);
    assert_eq!(status().lease.unwrap().to_string(), "Lease of a expired");
    dir.assert_holds(&["f.lease"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Claims

#[test]
fn a_claim_is_good_while_nobody_else_has_taken_the_lease() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let claim = |owner: &str, token| {
        let claim = Claim::new(owner).unwrap();
        Some(match token {
            Some(token) => claim.with_token(token),
            None => claim,
        })
    };
    // Without a lease a write with an owner is refused, and does not wait for one.
    assert_refused(write(&path, "x", Wait::Forever, claim("a", None)), ErrorKind::LockLost, 2);
    let token = lease(&path, "a", Duration::from_millis(200));
    for (owner, token) in [("b", None), ("b", Some(token)), ("a", Some(token - 1))] {
        assert_refused(write(&path, "x", Wait::Forever, claim(owner, token)), ErrorKind::LockLost, 2);
    }
    assert_eq!(dir.read("f"), "old");
    write(&path, "1", Wait::No, claim("a", None)).unwrap();
    outlast(&path);
    // Expired, and nobody has taken it.
    write(&path, "2", Wait::No, claim("a", Some(token))).unwrap();
    assert_eq!(dir.read("f"), "2");
    let second = lease(&path, "b", Duration::from_millis(1));
    outlast(&path);
    // Another owner has taken it, and that lease has expired too.
    let error = assert_refused(write(&path, "x", Wait::No, claim("a", Some(token))), ErrorKind::LockLost, 2);
    assert_eq!(error.path(), Some(path.as_path()));
    // The same owner again: another lease, another token.
    let third = lease(&path, "a", LONG);
    assert!(token < second && second < third);
    assert_refused(write(&path, "x", Wait::No, claim("a", Some(token))), ErrorKind::LockLost, 2);
    write(&path, "3", Wait::No, claim("a", Some(third))).unwrap();
    assert_eq!(dir.read("f"), "3");
    let ended =
        Lease::release_claimed(&path, &claim("a", None).unwrap(), &waiting(Wait::No), &Observer::default()).unwrap();
    assert_eq!(ended.unwrap().owner, "a");
    assert_refused(write(&path, "x", Wait::No, claim("a", Some(third))), ErrorKind::LockLost, 2);
    dir.assert_holds(&["f"]);
}

#[test]
fn the_command_writes_under_a_lease() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let refused = |args: &[&str], line: &str| {
        dir.awrite(args).stdin("x").run().assert_error(2, line);
        assert_eq!(dir.read("f"), "old");
    };
    refused(&["--owner", "a", "f"], "Error: f: Not leased by a");
    let lease = acquire(&path, "a", LONG).unwrap();
    let (token, stale) = (lease.token().to_string(), (lease.token() - 1).to_string());
    let line = format!("Error: f: The lease with token {stale} is over: a has token {token} now");
    refused(&["--owner", "a", "--token", &stale, "f"], &line);
    let done = dir.awrite(["--wait", "--owner", "b", "f"]).stdin("x").run();
    done.assert_code(2);
    assert!(done.lines()[0].starts_with("Error: f: Leased by a until "), "{done:#?}");
    for option in ["--quiet", "--lock-on-commit", "--stream", "--no-wait"] {
        dir.awrite([option, "--owner", "a", "f"]).stdin("1").quiet_success();
        dir.awrite([option, "--owner=a", "--token", &token, "f"]).stdin("2").quiet_success();
    }
    dir.awrite(["--owner", "a", "f", "--", "sed", "s/2/3/"]).quiet_success();
    assert_eq!(dir.read("f"), "3");
    drop(lease);
    dir.assert_holds(&["f"]);
}

#[test]
fn a_command_that_outlasts_its_lease_counts_unless_another_has_taken_it() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let begin = || {
        lease(&path, "a", Duration::from_millis(100));
        let mut writer = dir.awrite(["--lock-on-commit", "--owner", "a", "f"]).stdin_open().spawn();
        writer.feed(b"new");
        outlast(&path);
        writer
    };
    begin().finish().ok();
    assert_eq!(dir.read("f"), "new");
    dir.file("f", "old");
    let writer = begin();
    lease(&path, "b", LONG);
    writer.finish().assert_code(2);
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f", "f.lease"]);
}

#[test]
fn a_lease_taken_by_another_before_the_commit_stops_it() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let token = lease(&path, "a", Duration::from_millis(1));
    let mut options = writing(Wait::No, Some(Claim::new("a").unwrap().with_token(token)));
    options.lock_on_commit = true;
    options.backup = Some(awrite::BackupOptions::default());
    let mut file = AtomicFile::open(&path, &options).unwrap();
    file.add(b"new").unwrap();
    outlast(&path);
    lease(&path, "b", LONG);
    assert_refused(file.commit(), ErrorKind::LockLost, 2);
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f", "f.lease"]);
}

#[test]
fn the_claim_is_looked_at_again_right_before_the_replacement() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let mut options = writing(Wait::No, None);
    options.backup = Some(awrite::BackupOptions::default());
    for in_the_way in ["gone", "another's", "damaged"] {
        let lease = acquire(&path, "a", LONG).unwrap();
        options.lock.claim = Some(lease.claim());
        let mut file = AtomicFile::open(&path, &options).unwrap();
        file.add(b"new").unwrap();
        // The lock is held, so only a program that ignores it can do this.
        let text = dir.read("f.lease");
        match in_the_way {
            "gone" => fs::remove_file(dir.join("f.lease")).unwrap(),
            "another's" => drop(dir.file("f.lease", text.replace("\"owner\":\"a\"", "\"owner\":\"b\""))),
            _ => drop(dir.file("f.lease", "{")),
        }
        let error = file.commit().unwrap_err();
        let expected = if in_the_way == "damaged" { ErrorKind::DamagedRecord } else { ErrorKind::LockLost };
        assert_eq!(error.kind(), expected, "{error}");
        assert_eq!(dir.read("f"), "old");
        dir.file("f.lease", text);
        drop(lease);
        dir.assert_holds(&["f"]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The value

#[test]
fn dropping_it_gives_it_back_and_keeping_it_does_not() {
    let dir = TestDir::new();
    let path = dir.join("f");
    drop(acquire(&path, "a", LONG).unwrap());
    dir.assert_holds(&[]);
    let panicked = std::panic::catch_unwind(|| {
        let _lease = acquire(&path, "a", LONG).unwrap();
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    dir.assert_holds(&[]);
    let token = acquire(&path, "a", LONG).unwrap().detach();
    dir.assert_holds(&["f.lease"]);
    let claim = Claim::new("a").unwrap().with_token(token);
    let lease = Lease::resume(&path, &claim, Some(LONG * 2), &waiting(Wait::No), &Observer::default()).unwrap();
    assert_eq!((lease.token(), lease.info().ttl), (token, LONG * 2));
    drop(lease);
    dir.assert_holds(&[]);
}

#[test]
fn dropping_what_another_has_taken_leaves_it_to_the_other() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let mut lost = acquire(&path, "a", Duration::from_millis(1)).unwrap();
    outlast(&path);
    let token = lease(&path, "b", LONG);
    let before = dir.snapshot("f.lease");
    assert_refused(lost.refresh(), ErrorKind::LockLost, 2);
    drop(lost);
    assert_eq!(dir.snapshot("f.lease"), before);
    assert_eq!(record(&dir, "f.lease")["token"], token);
}

#[test]
fn it_is_due_when_a_third_of_its_time_has_passed() {
    let dir = TestDir::new();
    let ttl = Duration::from_secs(3);
    let mut lease = acquire(&dir.join("f"), "a", ttl).unwrap();
    let first = lease.time_to_refresh();
    assert!(first <= ttl / 3 && first > Duration::ZERO, "{first:?}");
    wait_until("it is due", || lease.time_to_refresh().is_zero());
    assert!(lease.info().left.unwrap_or_default() <= ttl * 2 / 3);
    lease.refresh().unwrap();
    assert!(lease.time_to_refresh() > Duration::ZERO);
}

// ---------------------------------------------------------------------------------------------------------------------
// Many at once, and crashes

const WORKER: &str = "AWRITE_TEST_LEASE_WORKER";

/// Runs this test binary as a worker process of another test.
fn worker(dir: &TestDir, what: &str) -> Run {
    let program = std::env::current_exe().unwrap();
    dir.program(program, ["--exact", "lease::a_worker_of_other_tests", "--nocapture"]).env(WORKER, what).stdin_open()
}

/// Waits until a worker has come to its loop.
fn begun(mut worker: Running) -> Running {
    worker.wait_for_stderr("worker: begins");
    worker
}

/// A worker, which works on `f` in the current directory until there is a file `stop`.
#[test]
fn a_worker_of_other_tests() {
    let Ok(what) = std::env::var(WORKER) else { return };
    let path = PathBuf::from("f");
    if what == "once" {
        eprintln!("worker: {:?}", acquire(&path, "a", LONG).map(Lease::detach).map_err(|e| (e.kind(), e.to_string())));
        return;
    }
    let (mut rounds, mut refused) = (0_u64, 0_u64);
    eprintln!("worker: begins");
    while !Path::new("stop").exists() {
        rounds += 1;
        let outcome = match what.as_str() {
            "acquire" => acquire(&path, "thief", LONG).map(|lease| assert_ne!(lease.detach(), 0)),
            "write" => write(&path, "stolen", Wait::No, None).map(drop),
            "resume" => {
                let claim = Claim::new("thief").unwrap();
                Lease::resume(&path, &claim, None, &waiting(Wait::No), &Observer::default()).map(drop)
            }
            "end" => {
                let claim = Claim::new("thief").unwrap();
                Lease::release_claimed(&path, &claim, &waiting(Wait::No), &Observer::default()).map(drop)
            }
            "refresh" => acquire_patiently(&path, "a").map(|lease| assert_ne!(lease.detach(), 0)),
            other => panic!("{other}"),
        };
        match outcome {
            Ok(()) => assert_eq!(what, "refresh", "got what is another's"),
            Err(e) if matches!(e.kind(), ErrorKind::Leased | ErrorKind::LockLost) => refused += 1,
            Err(e) => assert_eq!(e.kind(), ErrorKind::LockBusy, "{e}"),
        }
    }
    eprintln!("worker: {what}: {rounds} rounds, refused {refused}");
    assert!(rounds > 0);
}

fn acquire_patiently(path: &Path, owner: &str) -> awrite::Result<Lease> {
    Lease::acquire(path, owner, LONG, &waiting(Wait::Forever))
}

/// Reads the record again and again during a test. It must always be there, be whole, and belong to `a`.
struct Monitor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Monitor {
    fn of(path: PathBuf, token: u64) -> Monitor {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !asked.load(Ordering::SeqCst) {
                let text = fs::read(&path).expect("the record is there");
                let said: serde_json::Value = serde_json::from_slice(&text).expect("the record is whole");
                assert_eq!((&said["owner"], &said["token"]), (&"a".into(), &token.into()));
                looks += 1;
            }
            looks
        });
        Monitor { stop, thread: Some(thread) }
    }

    fn assert_content(&self) {
        assert!(!self.thread.as_ref().unwrap().is_finished(), "the monitor has seen something: see above");
    }

    /// How often it has looked.
    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_refresh_leaves_no_gap() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let mut lease = acquire_patiently(&path, "a").unwrap();
    let workers = ["acquire", "acquire", "write", "resume", "end"].map(|what| begun(worker(&dir, what).spawn()));
    let monitor = Monitor::of(dir.join("f.lease"), lease.token());
    for _ in 0..400 {
        lease.refresh().unwrap();
        monitor.assert_content();
    }
    let looks = monitor.finish();
    assert!(looks > 400, "{looks}");
    dir.file("stop", "");
    for worker in workers {
        worker.finish().ok();
    }
    assert_eq!(dir.read("f"), "old");
    lease.release().unwrap();
    dir.assert_holds(&["f", "stop"]);
}

#[test]
fn a_crash_in_a_refresh_leaves_a_whole_record() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let token = lease(&path, "a", LONG);
    let monitor = Monitor::of(dir.join("f.lease"), token);
    for _ in 0..20 {
        let before = record(&dir, "f.lease");
        let refreshing = begun(worker(&dir, "refresh").spawn());
        wait_until("it has refreshed", || record(&dir, "f.lease") != before);
        // To drop it kills it at any point of its work.
        drop(refreshing);
        monitor.assert_content();
    }
    monitor.finish();
    // The dead process's lock is free at once. Its lease stands.
    assert_refused(write(&path, "x", Wait::No, None), ErrorKind::Leased, 2);
    acquire(&path, "a", LONG).unwrap().release().unwrap();
    write(&path, "new", Wait::No, None).unwrap();
}

#[test]
fn a_change_that_fails_half_way_changes_nothing() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let exe = std::env::current_exe().unwrap();
    let attempt = |fault: &str, expected: &str| {
        let inject = format!("inject={fault}");
        let strace = ["-f", "-o", "/dev/null", "-e", &inject, exe.to_str().unwrap()];
        let args = strace.into_iter().chain(["--exact", "lease::a_worker_of_other_tests", "--nocapture"]);
        let done = dir.program("strace", args).env(WORKER, "once").run();
        assert!(done.stderr.contains(&format!("worker: {expected}")), "{fault}: {done:#?}");
    };
    let full = r#"Err((Io, "f.lease: cannot write the lease: No space left on device"))"#;
    let faults = ["fsync:error=ENOSPC:when=1", "/^rename:error=ENOSPC"];
    for fault in faults {
        attempt(fault, full);
        dir.assert_holds(&[]);
    }
    let token = lease(&dir.join("f"), "a", LONG);
    let text = dir.read("f.lease");
    for fault in faults {
        attempt(fault, full);
        assert_eq!(dir.read("f.lease"), text);
        dir.assert_holds(&["f.lease"]);
    }
    // The sync of the directory fails. The record is there by then, and its owner must know.
    attempt("fsync:error=EIO:when=2", &format!("Ok({token})"));
    assert_ne!(dir.read("f.lease"), text);
    dir.assert_holds(&["f.lease"]);
}

#[test]
fn housekeeping_clears_expired_leases_beside_living_owners() {
    let dir = TestDir::new();
    lease(&dir.join("live"), "a", LONG);
    lease(&dir.join("over"), "a", Duration::from_millis(1));
    outlast(&dir.join("over"));
    dir.file("data.lease", "somebody's");
    let path = dir.join("f");
    let busy = AtomicBool::new(true);
    let root = dir.path().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut options = awrite::HousekeepOptions::default();
            options.locks = true;
            while busy.load(Ordering::SeqCst) {
                let summary = awrite::housekeep(&root, &options, |_| ControlFlow::Continue(())).unwrap();
                assert_eq!(summary.failures, 0);
            }
        });
        let mut last = 0;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..100 {
                let short = Lease::acquire(&path, "a", Duration::from_millis(1), &waiting(Wait::Forever)).unwrap();
                assert!(short.token() >= last);
                last = short.detach();
                outlast(&path);
                let long = acquire_patiently(&path, "a").unwrap();
                assert!(long.token() >= last);
                // From here on the lease is live.
                for _ in 0..3 {
                    assert_eq!(record(&dir, "f.lease")["token"], long.token());
                }
                last = long.detach();
            }
        }));
        busy.store(false, Ordering::SeqCst);
        outcome.unwrap();
    });
    dir.assert_holds(&["data.lease", "f.lease", "live.lease"]);
}

/// The owners have the lease one after the other, each with a greater token.
#[test]
fn one_owner_at_a_time_and_growing_tokens() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let turns = Mutex::new(Vec::new());
    let inside = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for owner in ["a", "b", "c", "d"] {
            let (path, turns, inside) = (&path, &turns, &inside);
            scope.spawn(move || {
                for round in 0..10 {
                    let lease = acquire_patiently(path, owner).unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                    turns.lock().unwrap().push(lease.token());
                    inside.store(false, Ordering::SeqCst);
                    if round % 2 == 0 {
                        lease.release().unwrap();
                    } else {
                        drop(lease);
                    }
                }
            });
        }
    });
    let turns = turns.into_inner().unwrap();
    assert_eq!(turns.len(), 40);
    assert!(turns.windows(2).all(|pair| pair[0] < pair[1]), "{turns:?}");
    dir.assert_holds(&[]);
}

/// What the commands refuse when they read their options.
#[test]
fn options_that_no_lease_or_lock_takes() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let two_lines = LockOptions::new().reason("a\nb");
    assert_refused(Lease::acquire(&path, "A", LONG, &two_lines), ErrorKind::Usage, 1);
    let token = lease(&path, "A", LONG);
    let claim = Claim::new("A").unwrap().with_token(token);
    assert_refused(Lease::resume(&path, &claim, None, &two_lines, &Observer::default()), ErrorKind::Usage, 1);
    // A lock does not ask the store.
    let stored = LockOptions::new().store("etcd://host/").claim(claim);
    assert_refused(FileLock::acquire(&path, &stored), ErrorKind::Usage, 1);
    assert_refused(FileLock::acquire_all(&[&path], &stored, &Observer::default()), ErrorKind::Usage, 1);
}

/// Two who share the lock would both change the record.
#[test]
fn a_lease_is_changed_alone() {
    let dir = TestDir::new();
    let (path, shared) = (dir.join("f"), waiting(Wait::No).shared(true));
    let lock = FileLock::acquire(&path, &shared).unwrap();
    assert_refused(Lease::acquire(&path, "A", LONG, &shared), ErrorKind::LockBusy, 2);
    lock.release().unwrap();
    Lease::acquire(&path, "A", LONG, &shared).unwrap().release().unwrap();
}

/// A lease that is over is no error at its release, but one that cannot be given back is; dropping it does not wait for
/// long.
#[test]
fn a_lease_is_released_or_dropped_while_another_has_the_lock() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let mine = acquire(&path, "A", LONG).unwrap();
    Lease::break_any(&path, &waiting(Wait::No), &Observer::default()).unwrap();
    let theirs = acquire(&path, "B", LONG).unwrap();
    mine.release().unwrap();
    assert_eq!(theirs.claim().owner(), "B");

    let lock = FileLock::acquire(&path, &LockOptions::new().claim(theirs.claim())).unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let patient = theirs.with_options(&LockOptions::new(), &Observer::default());
        scope.spawn(|| drop(patient)).join().unwrap();
    });
    assert!(started.elapsed() < LONG / 60, "{:?}", started.elapsed());
    let again = Lease::status(&path, &LockOptions::new()).unwrap().lease.unwrap();
    let claim = Claim::new("B").unwrap().with_token(again.token);
    lock.release().unwrap();
    let again = Lease::resume(&path, &claim, None, &waiting(Wait::No), &Observer::default()).unwrap();
    let _lock = FileLock::acquire(&path, &LockOptions::new().claim(claim)).unwrap();
    assert_refused(again.release(), ErrorKind::LockBusy, 2);
}

#[test]
fn a_record_that_is_too_long_is_not_read() {
    let dir = TestDir::new();
    let path = dir.join("f");
    lease(&path, "A", LONG);
    let record = dir.read("f.lease");
    for (length, fits) in [(64 << 10, true), ((64 << 10) + 1, false), (1 << 20, false)] {
        dir.file("f.lease", record.clone() + &" ".repeat(length - record.len()));
        let outcome = Lease::status(&path, &LockOptions::new());
        assert_eq!(outcome.is_ok(), fits, "{length}");
        assert!(fits || outcome.unwrap_err().to_string().ends_with("it is too long"), "{length}");
    }
}
