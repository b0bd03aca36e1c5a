//! Housekeeping deletes what crashes have left, and nothing else, whoever works beside it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};
use rustix::process::Pid;

use crate::common::{AWRITE, Done, Run, Running, TestDir, wait_until};

mod backups;
mod beside;
mod decided;
mod failures;
mod foreseen;
mod kinds;
mod model;
mod others;
mod reports;
mod unlucky;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Ends the threads of a test that ask for it, whatever ends the one that has it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn housekeep<'a>(dir: &TestDir, args: impl IntoIterator<Item = &'a str>) -> Run {
    // The times in backups' names are local.
    dir.awrite(["housekeep"].into_iter().chain(args)).env("TZ", "UTC")
}

/// The time that many seconds before the first call, so that the same age is always the same time.
fn seconds_ago(seconds: u64) -> i64 {
    static NOW: OnceLock<u64> = OnceLock::new();
    let now = NOW.get_or_init(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    (now - seconds).try_into().unwrap()
}

/// Sets back the modification time, of a symbolic link itself too.
fn age(path: &Path, seconds: u64) {
    let then = Timespec { tv_sec: seconds_ago(seconds), tv_nsec: 0 };
    let times = Timestamps { last_access: then, last_modification: then };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Waits until the inode change time, which cannot be set, is older than `age`.
fn wait_for_ctime(path: &Path, age: Duration) {
    wait_until("the file was not changed a moment ago", || {
        let meta = fs::symlink_metadata(path).unwrap();
        let changed = Duration::new(meta.ctime().try_into().unwrap(), meta.ctime_nsec().try_into().unwrap());
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() > changed + age
    });
}

/// `.YYYYMMDD-HHMMSS`, so long ago.
fn stamp(seconds: u64) -> String {
    let then = jiff::Timestamp::from_second(seconds_ago(seconds)).unwrap();
    then.to_zoned(jiff::tz::TimeZone::UTC).strftime(".%Y%m%d-%H%M%S").to_string()
}

fn mkfifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// All paths below `dir`, relative to it, directories too.
fn tree(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        for entry in fs::read_dir(dir.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            found.insert(path.to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                left.push(path);
            }
        }
    }
    found
}

/// The paths that were listed as deleted, relative to the directory.
fn listed(done: &Done) -> BTreeSet<String> {
    let lines: Vec<&str> = done.stdout.lines().collect();
    let set: BTreeSet<String> = lines.iter().map(|line| line.strip_prefix("./").unwrap_or(line).to_owned()).collect();
    assert_eq!(set.len(), lines.len(), "nothing is listed twice: {done:?}");
    set
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Runs it with `args`. It must list and delete exactly `gone`, and a second run must find nothing to do.
#[track_caller]
fn assert_deletes(dir: &TestDir, args: &[&str], gone: &[&str]) {
    let before = tree(dir.path());
    let gone = set(gone);
    let dry = housekeep(dir, args.iter().copied().chain(["--dry-run"])).run();
    assert_eq!(listed(dry.ok()), gone, "dry run of {args:?}");
    assert_eq!(tree(dir.path()), before, "a dry run of {args:?} deletes nothing");
    let done = housekeep(dir, args.iter().copied()).run();
    assert_eq!(listed(done.ok()), gone, "{args:?}");
    let left = &before - &gone;
    assert_eq!(tree(dir.path()), left, "{args:?}");
    let again = housekeep(dir, args.iter().copied()).run();
    assert_eq!((again.ok().stdout.as_str(), again.stderr.as_str()), ("", "Nothing to delete\n"), "{args:?} again");
    assert_eq!(tree(dir.path()), left, "{args:?} again");
}

/// A directory with one file of each kind that goes, and two files in a subdirectory.
fn leftovers() -> TestDir {
    let dir = TestDir::new();
    dir.dir("sub");
    for name in ["f", "f.lock", ".awrite-29623195.f", "f.20260102-030405.backup", "f.backup", "sub/g.lock", "sub/g"] {
        dir.file(name, if name.ends_with(".lock") { "" } else { "content" });
    }
    dir
}

/// `awrite` with `args`, stopped by strace right after a system call. `which` are strace's options for that call.
fn stopped_after(dir: &TestDir, which: &[&str], args: &[&str]) -> (Running, Pid) {
    let place = TestDir::new();
    let trace = place.join("trace");
    let output = ["-f", "-o", trace.to_str().unwrap()];
    let all = output.iter().chain(which).chain([&AWRITE]).chain(args);
    let running = dir.program("strace", all).stdin("new").spawn();
    let mut said = String::new();
    wait_until("it has stopped", || {
        said = fs::read_to_string(&trace).unwrap_or_default();
        said.contains("stopped by SIGSTOP")
    });
    // The first call is by the process's first thread.
    let pid = said.split_whitespace().next().unwrap().parse().unwrap();
    (running, Pid::from_raw(pid).unwrap())
}

fn expired_lease(dir: &TestDir) {
    dir.awrite(["lock", "--acquire", "--owner", "A", "--ttl", "1ms", "f"]).run().ok();
    wait_until("it has expired", || dir.awrite(["lock", "--status", "f"]).run().code == Some(0));
}
