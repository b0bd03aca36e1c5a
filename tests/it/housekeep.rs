//! Housekeeping: what crashes left goes, and nothing else, whoever works beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{
    AWRITE, Done, Held, NOBODY, Run, Running, TestDir, chmod, is_root, lock_is_held, needs, needs_mount, needs_strace,
    temp_stem, wait_until,
};
use crate::filesystems::Mount;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn housekeep<'a>(dir: &TestDir, args: impl IntoIterator<Item = &'a str>) -> Run {
    // The times in backups' names are local.
    dir.awrite(["housekeep"].into_iter().chain(args)).env("TZ", "UTC")
}

/// So many seconds ago, counted from the first call, so that the same age is the same time.
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

/// The same for the inode's time, which cannot be set.
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

/// What was listed as deleted, relative to the directory.
fn listed(done: &Done) -> BTreeSet<String> {
    let lines: Vec<&str> = done.stdout.lines().collect();
    let set: BTreeSet<String> = lines.iter().map(|line| line.strip_prefix("./").unwrap_or(line).to_owned()).collect();
    assert_eq!(set.len(), lines.len(), "nothing is listed twice: {done:?}");
    set
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Runs it with `args`; exactly `gone` must be listed and be gone afterwards, and a second run find nothing to do.
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

// ---------------------------------------------------------------------------------------------------------------------
// What goes

/// One of each kind that goes, two of which are below.
fn leftovers() -> TestDir {
    let dir = TestDir::new();
    dir.dir("sub");
    for name in ["f", "f.lock", ".awrite-29623195.f", "f.20260102-030405.backup", "f.backup", "sub/g.lock", "sub/g"] {
        dir.file(name, if name.ends_with(".lock") { "" } else { "content" });
    }
    dir
}

#[test]
fn each_operation_deletes_its_own_kind() {
    let cases = [
        (&["--clean-locks"][..], &["f.lock"][..]),
        (&["--clean-temps"], &[".awrite-29623195.f"]),
        (&["--clean-backups"], &["f.20260102-030405.backup"]),
        (&["--clean-locks", "--clean-temps"], &["f.lock", ".awrite-29623195.f"]),
        (&["--all"], &["f.lock", ".awrite-29623195.f", "f.20260102-030405.backup"]),
        (&["--clean-locks", "-r"], &["f.lock", "sub/g.lock"]),
        (&["--clean-locks", "--recursive", "."], &["f.lock", "sub/g.lock"]),
        (&["--all", "--recursive"], &["f.lock", ".awrite-29623195.f", "f.20260102-030405.backup", "sub/g.lock"]),
    ];
    let dirs = cases.map(|_| leftovers());
    wait_for_ctime(&dirs[7].join("sub/g"), Duration::from_secs(1));
    for (dir, (args, gone)) in dirs.iter().zip(cases) {
        assert_deletes(dir, args, gone);
    }
}

#[test]
fn the_directory_is_an_operand() {
    let dir = leftovers();
    let done = housekeep(&dir, ["--clean-locks", "sub"]).run();
    assert_eq!((done.ok().stdout.as_str(), done.stderr.as_str()), ("sub/g.lock\n", "Deleted 1 lock file\n"));
    // By the other names of the applet, and through a symbolic link that was named on purpose.
    symlink(".", dir.join("link")).unwrap();
    let done = dir.awrite(["--clean-locks", "link"]).arg0("awrite-housekeep").run();
    assert_eq!(done.ok().stdout, "link/f.lock\n");
}

#[test]
fn a_killed_writer_s_leftovers_go() {
    let dir = TestDir::new();
    // Stopped while its check runs, it has both a lock and a temporary file with a name.
    let writer = dir.awrite(["--validate", "sleep 1000", "f"]).stdin("x").spawn();
    wait_until("it has a temporary file", || {
        dir.names().iter().any(|name| name.to_str().unwrap().contains(".awrite-"))
    });
    wait_for_ctime(&dir.join("f.lock"), Duration::from_secs(1));
    let alive = housekeep(&dir, ["--all"]).run();
    assert_eq!(alive.ok().stdout, "", "both are in use");
    assert_eq!(dir.names().len(), 2);
    writer.signal_group(Signal::KILL);
    writer.finish();
    let done = housekeep(&dir, ["--all"]).run();
    assert_eq!(done.ok().stderr, "Deleted 1 lock file, 1 temporary file (1 B)\n");
    dir.assert_holds(&[]);
}

// ---------------------------------------------------------------------------------------------------------------------
// What stays: lock files

#[test]
fn only_an_empty_regular_file_with_one_name_is_a_lock_file() {
    let dir = TestDir::new();
    for name in ["Cargo.lock", "yarn.lock", "package.lock"] {
        dir.file(name, "[[package]]\n");
    }
    dir.file("one-byte.lock", "\n");
    dir.dir("directory.lock");
    dir.file("linked.lock", "");
    fs::hard_link(dir.join("linked.lock"), dir.join("linked-too.lock")).unwrap();
    dir.file("elsewhere", "");
    symlink("elsewhere", dir.join("symlink.lock")).unwrap();
    symlink("missing", dir.join("dangling.lock")).unwrap();
    mkfifo(&dir.join("fifo.lock"));
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket.lock")).unwrap();
    for name in [".lock", "lock", "f.LOCK", "f.lock~", "f.lock.", "flock"] {
        dir.file(name, "");
    }
    dir.file("orphan.lock", "");
    assert_deletes(&dir, &["--all", "-r"], &["orphan.lock"]);
}

#[test]
fn a_lock_that_is_held_stays() {
    let dir = TestDir::new();
    dir.file("orphan.lock", "");
    let open = |name: &str| File::options().read(true).write(true).open(dir.file(name, "")).unwrap();
    let exclusive = open("exclusive.lock");
    rustix::fs::flock(&exclusive, FlockOperation::NonBlockingLockExclusive).unwrap();
    let shared = open("shared.lock");
    rustix::fs::flock(&shared, FlockOperation::NonBlockingLockShared).unwrap();
    let record = open("record.lock");
    rustix::fs::fcntl_lock(&record, FlockOperation::NonBlockingLockExclusive).unwrap();
    let reading = open("reading.lock");
    rustix::fs::fcntl_lock(&reading, FlockOperation::NonBlockingLockShared).unwrap();
    assert_deletes(&dir, &["--all"], &["orphan.lock"]);
    // Given up, they are orphans.
    drop((exclusive, shared, record, reading));
    assert_deletes(&dir, &["--all"], &["exclusive.lock", "shared.lock", "record.lock", "reading.lock"]);
}

#[test]
fn a_record_lock_on_any_byte_counts() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.file("far.lock", "");
    dir.file("registered.lock", "");
    // 37: F_OFD_SETLK, with which awrite's waiters register on byte 0.
    let script = "import fcntl, struct, sys\n\
        far = open('far.lock', 'r+'); fcntl.lockf(far, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 << 40)\n\
        near = open('registered.lock', 'r+')\n\
        fcntl.fcntl(near, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 1, 0))\n\
        print('locked', file=sys.stderr, flush=True); sys.stdin.read()";
    let mut holder = dir.program("python3", ["-c", script]).stdin_open().spawn();
    holder.wait_for_stderr("locked");
    assert_deletes(&dir, &["--clean-locks"], &[]);
    holder.finish().ok();
    assert_deletes(&dir, &["--clean-locks"], &["far.lock", "registered.lock"]);
}

#[test]
fn a_lock_file_that_changes_at_the_last_moment_stays() {
    if !needs_strace() {
        return;
    }
    let args = ["housekeep", "--clean-locks"];
    // Opened, and not locked yet: its holder gives it up and removes it, and another makes a new one.
    let dir = TestDir::new();
    let lock = dir.file("f.lock", "");
    let opened = ["-P", "f.lock", "-e", "trace=openat", "-e", "inject=openat:signal=SIGSTOP:when=1"];
    let (housekeeper, pid) = stopped_after(&dir, &opened, &args);
    fs::remove_file(&lock).unwrap();
    let held = Held::new(&lock);
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(housekeeper.finish().ok().stdout, "");
    assert_eq!(fs::metadata(&lock).unwrap().ino(), held.inode());

    // Locked, and not removed yet: somebody writes into it.
    let dir = TestDir::new();
    dir.file("f.lock", "");
    let locked = ["-e", "trace=flock", "-e", "inject=flock:signal=SIGSTOP:when=1"];
    let (housekeeper, pid) = stopped_after(&dir, &locked, &args);
    dir.file("f.lock", "content");
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(housekeeper.finish().ok().stdout, "");
    assert_eq!(dir.read("f.lock"), "content");
}

#[test]
fn version_control_is_never_entered() {
    let dir = TestDir::new();
    for name in [".git", ".hg", ".svn", "bare.git", "bare.git/objects", "bare.git/refs", "bare.git/refs/heads", "a.git"]
    {
        dir.dir(name);
        dir.file(format!("{name}/index.lock"), "");
    }
    dir.file("bare.git/HEAD", "ref: refs/heads/main\n");
    assert_deletes(&dir, &["--all", "-r"], &["a.git/index.lock"]);
    // Neither when one is named, nor from within.
    for start in [".git", ".hg", ".svn", "bare.git", "bare.git/refs/heads"] {
        let done = housekeep(&dir, ["--all", start]).run();
        done.assert_error(1, &format!("Error: {start}: Is part of a version control directory"));
        assert!(dir.join(start).join("index.lock").exists());
    }
}

#[test]
fn symbolic_links_are_not_followed() {
    let dir = TestDir::new();
    dir.dir("outside");
    dir.file("outside/f.lock", "");
    dir.dir("inside");
    symlink("../outside", dir.join("inside/link")).unwrap();
    symlink("../outside/f.lock", dir.join("inside/g.lock")).unwrap();
    assert_deletes(&dir, &["--all", "-r", "inside"], &[]);
}

#[test]
fn mount_points_are_not_crossed_with_x() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f.lock", "");
    let (other, bound) = (dir.dir("other"), dir.dir("bound"));
    dir.dir("source");
    let _other = Mount::tmpfs("size=1m", &other);
    // The same device: told by the mount alone.
    let _bound = Mount::bind(&dir.join("source"), &bound);
    for name in ["other/f.lock", "source/f.lock"] {
        dir.file(name, "");
    }
    // A lock file that something is mounted on could not be removed, and is somebody's.
    dir.file("g.lock", "");
    dir.file("empty", "");
    let _file = Mount::bind(&dir.join("empty"), &dir.join("g.lock"));
    let done = housekeep(&dir, ["--all", "-rx"]).run();
    assert_eq!(listed(done.ok()), set(&["f.lock", "source/f.lock"]));
    dir.file("source/f.lock", "");
    let done = housekeep(&dir, ["--all", "-r"]).run();
    assert_eq!(done.ok().stderr, "Deleted 2 lock files\n", "{done:?}");
    assert!(dir.join("g.lock").exists());
}

// ---------------------------------------------------------------------------------------------------------------------
// What stays: temporary files

#[test]
fn only_awrite_s_own_temporary_files_go() {
    let dir = TestDir::new();
    for name in
        [".f.awrite-aB3xyZ", ".awrite-aB3xyZ", ".awrite-29623195", ".awrite-29623195.g", "awrite-29623195.f", ".f.swp"]
    {
        dir.file(name, "x");
    }
    dir.dir(".awrite-29623e3f.d");
    symlink("missing", dir.join(".awrite-29621447.l")).unwrap();
    mkfifo(&dir.join(".awrite-2961e423.p"));
    let held = Held::new(&dir.join(".awrite-553b4c72.held"));
    dir.file(".awrite-29623195.f", "x");
    assert_deletes(&dir, &["--clean-temps", "-r"], &[".awrite-29623195.f"]);
    held.release();
    assert_deletes(&dir, &["--clean-temps", "-r"], &[".awrite-553b4c72.held"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Backups

#[test]
fn backups_are_kept_by_number_and_by_age() {
    let dated = |days: u64| format!("f{}.backup", stamp(days * DAY));
    let all: Vec<String> = [1, 3, 8, 30].map(dated).into();
    for (args, oldest_kept) in [
        (&[][..], 1),
        (&["--keep-newest", "0"], 0),
        (&["--keep-newest", "3"], 3),
        (&["--keep-newest", "99999999999999999999"], 4),
        (&["--older-than", "7d"], 2),
        (&["--older-than", "7"], 2),
        (&["--older-than", "72h"], 1),
        (&["--older-than", "0"], 0),
        (&["--older-than", "100d"], 4),
        // Only what both allow.
        (&["--keep-newest", "3", "--older-than", "7d"], 3),
        (&["--keep-newest", "1", "--older-than", "7d"], 2),
        (&["--older-than", "2d", "--keep-newest", "0"], 1),
    ] {
        let dir = TestDir::new();
        for name in &all {
            // Its name says how old it is, whatever its time says.
            age(&dir.file(name, "x"), 1000 * DAY);
        }
        let gone: Vec<&str> = all[oldest_kept..].iter().map(String::as_str).collect();
        let args: Vec<&str> = ["--clean-backups"].iter().chain(args).copied().collect();
        assert_deletes(&dir, &args, &gone);
    }
}

#[test]
fn a_plain_backup_is_as_old_as_its_content() {
    let dir = TestDir::new();
    age(&dir.file("f.backup", "x"), 5 * DAY);
    let (older, newer) = (format!("f{}.backup", stamp(6 * DAY)), format!("f{}.backup", stamp(4 * DAY)));
    dir.file(&older, "x");
    dir.file(&newer, "x");
    wait_for_ctime(&dir.join("f.backup"), Duration::from_millis(100));
    assert_deletes(&dir, &["--clean-backups", "--keep-newest", "2"], &[&older]);
    assert_deletes(&dir, &["--clean-backups"], &["f.backup"]);
    assert_deletes(&dir, &["--clean-backups"], &[]);
}

#[test]
fn groups_are_by_directory_and_name() {
    let dir = TestDir::new();
    dir.dir("sub");
    for name in ["f.backup", "sub/f.backup", "g.20260101-000000.backup", "f.x.backup", "no-target.backup"] {
        age(&dir.file(name, "x"), 1000 * DAY);
    }
    // No times, so names of files of their own.
    for name in ["f.20261332-000000.backup", "f.20260101-000000-0.backup", "f.20260101.backup"] {
        age(&dir.file(name, "x"), 1000 * DAY);
    }
    // The plain backup of a file that is called like this.
    dir.file("h.20260101-000000", "x");
    for name in ["h.20260101-000000.backup", "h.20260202-000000.backup"] {
        dir.file(name, "x");
    }
    // No backups at all.
    dir.dir("directory.backup");
    symlink("f", dir.join("link.backup")).unwrap();
    for name in [".backup", "f.backup~", "f.Backup", "f.backup.1"] {
        dir.file(name, "x");
    }
    assert_deletes(&dir, &["--clean-backups", "-r"], &[]);
}

#[test]
fn backups_of_one_second_are_in_the_order_of_their_numbers() {
    let dir = TestDir::new();
    let names = ["", "-1", "-2", "-9", "-10"].map(|number| format!("f.20260102-030405{number}.backup"));
    for name in &names {
        dir.file(name, "x");
    }
    let gone: Vec<&str> = names[..3].iter().map(String::as_str).collect();
    assert_deletes(&dir, &["--clean-backups", "--keep-newest", "2"], &gone);
}

#[test]
fn the_suffix_of_backups_can_be_chosen() {
    let dir = TestDir::new();
    for name in ["f.20260102-030405.orig", "f.orig", "f.20260102-030405.backup", "f.backup", "f.lock.orig"] {
        dir.file(name, "x");
    }
    assert_deletes(&dir, &["--all", "--backup-suffix", ".orig"], &["f.20260102-030405.orig"]);
}

#[test]
fn times_in_names_are_local() {
    let dir = TestDir::new();
    // Five hours ago, for those who are ten hours behind.
    let name = format!("f{}.backup", stamp(15 * HOUR));
    dir.file(&name, "x");
    for (zone, goes) in [("AAA+10", false), ("BBB+8", true)] {
        let done = housekeep(&dir, ["--clean-backups", "--older-than", "6h", "-n"]).env("TZ", zone).run();
        assert_eq!(done.ok().stdout.is_empty(), !goes, "{zone}: {done:?}");
    }
}

#[test]
fn backups_from_the_future_are_young() {
    let dir = TestDir::new();
    for name in ["f.99991231-235959.backup", "f.20260102-030405.backup"] {
        dir.file(name, "x");
    }
    assert_deletes(&dir, &["--clean-backups", "--older-than", "1s"], &["f.20260102-030405.backup"]);
}

/// `awrite` with `args`, stopped by strace right after a system call: `which` are strace's options that say which.
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

/// The backup that is to go, of ten days ago, and its file.
fn old_backup() -> TestDir {
    let dir = TestDir::new();
    age(&dir.file("f.backup", "old"), 10 * DAY);
    dir.file("f", "current");
    dir
}

const OLDER: [&str; 3] = ["--clean-backups", "--older-than", "7d"];
const HOUSEKEEP_OLDER: [&str; 4] = ["housekeep", "--clean-backups", "--older-than", "7d"];
/// Between the last look at it and its renaming, and between that and the look after it.
const LOOKED: [&str; 6] = ["-P", "f.backup", "-e", "trace=statx", "-e", "inject=statx:signal=SIGSTOP:when=2"];
const RENAMED: [&str; 4] = ["-e", "trace=renameat2", "-e", "inject=renameat2:signal=SIGSTOP:when=1"];

#[test]
fn a_backup_made_at_the_last_moment_stays() {
    if !needs_strace() {
        return;
    }
    for moment in [&LOOKED[..], &RENAMED] {
        let dir = old_backup();
        let (housekeeper, pid) = stopped_after(&dir, moment, &HOUSEKEEP_OLDER);
        dir.awrite(["-b", "f"]).stdin("new").quiet_success();
        kill_process(pid, Signal::CONT).unwrap();
        housekeeper.finish().ok();
        assert_eq!(dir.read("f.backup"), "current", "stopped by {moment:?}");
        dir.assert_holds(&["f", "f.backup"]);
    }
}

#[test]
fn killed_half_way_it_leaves_a_backup_by_another_name() {
    if !needs_strace() {
        return;
    }
    let dir = old_backup();
    let (housekeeper, pid) = stopped_after(&dir, &RENAMED, &HOUSEKEEP_OLDER);
    kill_process(pid, Signal::KILL).unwrap();
    housekeeper.finish();
    let mut names = tree(dir.path());
    assert!(names.remove("f"));
    let aside = names.pop_last().unwrap();
    assert_eq!(dir.read(&aside), "old");
    // The time in its name is right, so it is treated as before.
    assert_deletes(&dir, &["--all"], &[]);
    assert_deletes(&dir, &["--clean-backups", "--older-than", "11d"], &[]);
    assert_deletes(&dir, &OLDER, &[&aside]);
}

#[test]
fn a_backup_that_is_being_made_stays() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    age(&dir.file("f", "current"), 10 * DAY);
    // Until its writer sets its time, after the commit, the new backup looks as old as the content. Stop it before.
    let committed = ["-e", "trace=renameat", "-e", "inject=renameat:signal=SIGSTOP:when=1"];
    let (writer, pid) = stopped_after(&dir, &committed, &["-b", "f"]);
    wait_for_ctime(&dir.join("f.backup"), Duration::from_secs(1));
    assert_eq!(dir.read("f"), "new", "it has committed");
    let done = housekeep(&dir, OLDER).run();
    assert_eq!(done.ok().stdout, "");
    assert_eq!(dir.read("f.backup"), "current");
    kill_process(pid, Signal::CONT).unwrap();
    writer.finish().ok();
    assert_eq!(housekeep(&dir, OLDER).run().ok().stdout, "");
    dir.assert_holds(&["f", "f.backup"]);
}

/// The same where its writer's lock is elsewhere, and cannot be seen: before the commit it still is the target, too.
#[test]
fn a_new_link_to_the_target_stays() {
    let dir = TestDir::new();
    age(&dir.file("f", "current"), 10 * DAY);
    fs::hard_link(dir.join("f"), dir.join("f.backup")).unwrap();
    assert_deletes(&dir, &OLDER, &[]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Age

#[test]
fn younger_files_stay() {
    let dir = TestDir::new();
    for (name, hours) in
        [("young.lock", 1), ("old.lock", 3), (".awrite-e8138a4a.young", 1), (".awrite-3bdf2d6f.old", 3)]
    {
        age(&dir.file(name, ""), hours * HOUR);
    }
    wait_for_ctime(&dir.join(".awrite-3bdf2d6f.old"), Duration::from_secs(1));
    let both = ["old.lock", ".awrite-3bdf2d6f.old"];
    // A bare number means hours here.
    for limit in ["4h", "4", "0.5d"] {
        assert_deletes(&dir, &["--all", "--older-than", limit], &[]);
    }
    assert_deletes(&dir, &["--all", "--older-than", "2"], &both);
    assert_deletes(&dir, &["--all", "--older-than=30m"], &["young.lock", ".awrite-e8138a4a.young"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// What it says

#[test]
fn it_says_what_it_does() {
    let dir = leftovers();
    let done = housekeep(&dir, ["--all", "-r", "--dry-run"]).run();
    assert_eq!(done.ok().stderr, "Would delete 2 lock files, 1 backup, 1 temporary file (14 B)\n");
    let done = housekeep(&dir, ["--clean-locks", "-vv"]).run();
    assert_eq!((done.ok().stdout.as_str(), done.lines()), ("./f.lock\n", vec!["Deleted 1 lock file"]));
    let done = housekeep(&dir, ["--all", "-r", "-q"]).run();
    assert_eq!((done.ok().stdout.as_str(), done.stderr.as_str()), ("", ""));
    dir.assert_holds(&["f", "f.backup", "sub"]);

    dir.dir(".git");
    dir.file("Cargo.lock", "x");
    let done = housekeep(&dir, ["--all", "-r", "-vv"]).run();
    for line in ["./Cargo.lock: kept: not empty", "./.git: not entered: version control", "Nothing to delete"] {
        assert!(done.lines().contains(&line), "{line:?} {done:?}");
    }
    let done = housekeep(&dir, ["--all", "-r"]).run();
    assert_eq!(done.lines(), ["Nothing to delete"]);
}

#[test]
fn json_is_an_object_a_line() {
    let dir = leftovers();
    let parse = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
    };
    for (args, event, dry_run) in
        [(&["--all", "--json", "-n"][..], "would_delete", true), (&["--all", "--json"], "deleted", false)]
    {
        let done = housekeep(&dir, args.iter().copied()).run();
        let deleted = parse(&done.ok().stdout);
        assert_eq!(deleted.len(), 3);
        for (kind, path, bytes) in
            [("lock", "./f.lock", 0), ("temp", "./.awrite-29623195.f", 7), ("backup", "./f.20260102-030405.backup", 7)]
        {
            let line = deleted.iter().find(|line| line["kind"] == kind).unwrap();
            assert_eq!((&line["path"], &line["bytes"]), (&path.into(), &bytes.into()), "{line}");
            assert_eq!((&line["event"], &line["level"]), (&event.into(), &"info".into()), "{line}");
            assert!(line["time"].is_string() && line["message"].is_string() && line["age_ms"].is_u64(), "{line}");
        }
        let said = parse(&done.stderr);
        assert_eq!(said.len(), 1);
        let summary = &said[0];
        assert_eq!((&summary["event"], &summary["dry_run"]), (&"summary".into(), &dry_run.into()));
        for (field, value) in
            [("locks", 1), ("backups", 1), ("temps", 1), ("bytes", 14), ("directories", 1), ("failures", 0)]
        {
            assert_eq!(summary[field], value, "{field}");
        }
    }
    let done = housekeep(&dir, ["--all", "--json", "missing"]).run();
    let error = &parse(&done.assert_code(1).stderr)[0];
    assert_eq!((&error["event"], &error["path"], &error["exit_code"]), (&"error".into(), &"missing".into(), &1.into()));
    let quiet = housekeep(&leftovers(), ["--all", "--json", "-q"]).run();
    assert_eq!((quiet.ok().stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn names_that_are_no_text_are_deleted_and_shown_on_one_line() {
    use std::os::unix::ffi::OsStrExt;
    let dir = TestDir::new();
    dir.file("new\nline.lock", "");
    dir.file(std::ffi::OsStr::from_bytes(b"\xff.lock"), "");
    dir.file("-r.lock", "");
    let done = housekeep(&dir, ["--all"]).run();
    assert_eq!(listed(done.ok()), set(&["new\\nline.lock", "\u{fffd}.lock", "-r.lock"]));
    dir.assert_holds(&[]);
}

#[test]
fn progress_is_for_terminals() {
    let dir = leftovers();
    let done = housekeep(&dir, ["--all", "--progress", "-n"]).run();
    assert_eq!(done.ok().lines().len(), 1);
    if !needs("script") || !needs_strace() {
        return;
    }
    // What is done in no time needs no progress line, so it is made slow.
    let slow = "strace -o /dev/null -e trace=getdents64 -e inject=getdents64:delay_enter=300000 \"$BIN\" housekeep -rn";
    let on_a_terminal = |args: &str| dir.program("script", ["-qec", &format!("{slow} {args}"), "/dev/null"]).run();
    let shown = on_a_terminal("--clean-locks --progress").stdout;
    assert!(shown.contains(" directories, ") && shown.contains(" names, "), "{shown}");
    for silent in ["--clean-locks", "--clean-locks --progress -q", "--clean-locks --progress --json"] {
        let shown = on_a_terminal(silent).stdout;
        assert!(!shown.contains(" names, "), "{silent}: {shown}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = TestDir::new();
    for number in 0..5000 {
        dir.file(format!("{number}.lock"), "");
    }
    for option in ["-q", "-v", "--json"] {
        let done = dir.sh(&format!("{{ \"$BIN\" housekeep --all {option}; echo $? >status; }} | head -n 1")).run();
        assert_eq!((dir.read("status").as_str(), done.stderr.contains("rror")), ("0\n", false), "{done:?}");
    }
    // Closed from the start, and full.
    dir.file("f.lock", "");
    dir.sh("\"$BIN\" housekeep --all >&-").run().ok();
    dir.file("f.lock", "");
    let done = dir.sh("\"$BIN\" housekeep --all >/dev/full").run();
    done.assert_error(1, "Error: standard output: No space left on device");
}

// ---------------------------------------------------------------------------------------------------------------------
// What is refused, and what goes wrong

#[test]
fn bad_usage_touches_nothing() {
    let dir = leftovers();
    let before = tree(dir.path());
    for (args, reason) in [
        (&[][..], "nothing to do: name --clean-locks, --clean-backups, --clean-temps or --all"),
        (&["-r", "--dry-run"], "nothing to do: name --clean-locks, --clean-backups, --clean-temps or --all"),
        (&["--all", "--older-than", "soon"], "--older-than: 'soon' is not an age such as 30m, 2h or 7d"),
        (&["--all", "--older-than", "-1"], "--older-than: '-1' is not an age such as 30m, 2h or 7d"),
        (&["--all", "--older-than", "7x"], "--older-than: '7x' is not an age such as 30m, 2h or 7d"),
        (&["--all", "--older-than="], "--older-than: '' is not an age such as 30m, 2h or 7d"),
        (&["--all", "--keep-newest", "-1"], "--keep-newest: '-1' is not a number of backups"),
        (&["--all", "--keep-newest", "1.5"], "--keep-newest: '1.5' is not a number of backups"),
        (&["--all", "--keep-newest=two"], "--keep-newest: 'two' is not a number of backups"),
        (&["--all", "--backup-suffix", ""], "--backup-suffix: an empty suffix would name the file itself"),
        (&["--all", "--backup-suffix", ".x.lock"], "--backup-suffix: '.x.lock' would take lock files for backups"),
        (&["--all", "sub", "other"], "'other': unexpected argument"),
    ] {
        let done = housekeep(&dir, args.iter().copied()).run();
        done.assert_error(1, &format!("Error: {reason}")).assert_hint("run 'awrite-housekeep --help'");
    }
    for args in [&["--all", "--older-than"][..], &["--all", "--keep-newest"], &["--everything"], &["--all", "--wait"]] {
        housekeep(&dir, args.iter().copied()).run().assert_code(1).assert_hint("run 'awrite-housekeep --help'");
    }
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn dir_must_be_a_directory() {
    let dir = leftovers();
    housekeep(&dir, ["--all", "missing"]).run().assert_error(1, "Error: missing: No such file or directory");
    housekeep(&dir, ["--all", "f.lock"]).run().assert_error(1, "Error: f.lock: Not a directory");
    housekeep(&dir, ["--all", ""]).run().assert_code(1);
    assert!(dir.join("f.lock").exists());
}

#[test]
fn what_cannot_be_read_or_deleted_is_reported_and_the_rest_goes_on() {
    let dir = TestDir::new();
    dir.open_to_all();
    for name in ["a", "closed", "fixed", "z"] {
        dir.dir(name);
        dir.file(format!("{name}/f.lock"), "");
    }
    // Somebody else's, with content: none of our business, so no failure.
    dir.file_with_mode("a/secret.lock", "x", 0o600);
    if is_root() {
        for name in ["a", "z"] {
            std::os::unix::fs::chown(dir.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    chmod(&dir.join("closed"), 0o000);
    chmod(&dir.join("fixed"), 0o555);
    let done = dir.awrite_unprivileged(["housekeep", "--all", "-r"]).run();
    done.assert_code(1);
    assert_eq!(listed(&done), set(&["a/f.lock", "z/f.lock"]));
    for line in [
        "Error: ./closed: Permission denied",
        "Error: ./fixed/f.lock: Permission denied",
        "Deleted 2 lock files; 2 failures",
    ] {
        assert!(done.lines().contains(&line), "{line:?} {done:?}");
    }
    chmod(&dir.join("closed"), 0o755);
    chmod(&dir.join("fixed"), 0o755);
    assert_eq!(tree(dir.path()), set(&["a", "a/secret.lock", "closed", "closed/f.lock", "fixed", "fixed/f.lock", "z"]));
}

#[test]
fn a_read_only_file_system_is_reported() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("ro");
    let mount = Mount::tmpfs("size=1m", &at);
    dir.file("ro/f.lock", "");
    dir.file("ro/g.lock", "");
    mount.remount("ro");
    let done = housekeep(&dir, ["--all", "-r"]).run();
    done.assert_code(1);
    assert_eq!(done.lines().len(), 3, "{done:?}");
    assert!(done.stderr.contains("Error: ./ro/f.lock: Read-only file system\n"), "{done:?}");
}

#[test]
fn a_signal_ends_it() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for number in 0..100 {
        dir.file(format!("{number}.lock"), "");
    }
    let args = ["-f", "-o", "/dev/null", "-e", "trace=unlinkat", "-e"];
    let args = args.into_iter().chain(["inject=unlinkat:signal=TERM:when=3", AWRITE, "housekeep", "--all"]);
    let done = dir.program("strace", args).run();
    done.assert_code(3);
    assert_eq!(done.lines()[0], "Interrupted");
    let gone = listed(&done);
    assert!(gone.len() >= 2, "{done:?}");
    assert!(gone.is_disjoint(&tree(dir.path())));
}

#[test]
fn a_very_deep_tree_is_cut_off_with_an_error() {
    let dir = TestDir::new();
    let mut at = rustix::fs::open(dir.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..10_000 {
        if level < 1000 {
            rustix::fs::openat(&at, "f.lock", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
        }
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
        at = rustix::fs::openat(&at, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    dir.dir("e");
    dir.file("e/f.lock", "");
    let done = housekeep(&dir, ["--all", "-r"]).run();
    done.assert_code(1);
    assert!(done.error_line().ends_with("Too many directories inside one another (more than 500)"), "{}", done.stderr);
    assert_eq!(done.stdout.lines().count(), 500 + 1);
    assert!(!dir.join("e/f.lock").exists(), "the rest went on");
    // The standard library would need a descriptor for each level.
    dir.program("rm", ["-rf", "d"]).run().ok();
}

#[test]
fn memory_is_bounded_where_there_are_very_many_files() {
    let dir = TestDir::made_in(if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm") } else { Path::new("/tmp") });
    const FILES: usize = 150_000;
    let filler = "x".repeat(240);
    for number in 0..FILES {
        let name = if number % 2 == 0 { format!("{number:06}{filler}.lock") } else { format!("{number:06}.backup") };
        rustix::fs::mknodat(CWD, dir.join(name), rustix::fs::FileType::RegularFile, Mode::from_raw_mode(0o600), 0)
            .unwrap();
    }
    // The names alone are 20 MB. KiB; a debug build and its stacks have most of it.
    let limit = 28 * 1024;
    let run = |args: &str| dir.sh(&format!("ulimit -v {limit}; exec \"$BIN\" housekeep {args}")).run();
    assert_eq!(run("--all -n").ok().stdout.lines().count(), FILES / 2);
    assert_eq!(run("--all -q --older-than 0").ok().stderr, "");
    dir.assert_holds(&[]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Random trees against a model

/// xorshift64*: the same seed makes the same trees.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()].clone()
    }
}

/// What the model knows of a file that could go.
enum Fact {
    Lock {
        hours: u64,
    },
    Temp {
        hours: u64,
    },
    /// `dated`: its time is in its name.
    Backup {
        group: String,
        seconds: u64,
        number: u64,
        dated: bool,
    },
}

/// A random tree, with the facts about those files that a rule does not protect whatever the options say.
struct Wood {
    dir: TestDir,
    facts: Vec<(String, Fact)>,
    held: BTreeMap<String, Held>,
}

/// Ages that are far from every limit that is used below.
const AGES: [u64; 7] = [1, 5, 20, 30, 4 * 24, 12 * 24, 50 * 24];

impl Wood {
    fn grow(random: &mut Random) -> Wood {
        let mut wood = Wood { dir: TestDir::new(), facts: Vec::new(), held: BTreeMap::new() };
        let mut places = vec![(String::new(), true)];
        for _ in 0..random.below(6) {
            let (above, mut entered) = random.one_of(&places);
            let name = random.one_of(&["a", "b.lock", "c.backup", ".awrite-29623e3f.d", ".git", ".hg", "bare", "e"]);
            let path = format!("{above}{name}/");
            if wood.dir.join(&path).exists() {
                continue;
            }
            wood.dir.dir(&path);
            if name == "bare" {
                for part in ["HEAD", "objects", "refs"] {
                    wood.dir.file(format!("{path}{part}"), "");
                }
            }
            entered &= !matches!(name, ".git" | ".hg" | "bare");
            places.push((path, entered));
        }
        for _ in 0..random.below(40) {
            let (place, entered) = random.one_of(&places);
            wood.plant(random, &place, entered);
        }
        wood
    }

    fn plant(&mut self, random: &mut Random, place: &str, entered: bool) {
        let hours = random.one_of(&AGES);
        let target = random.one_of(&["f", "g.conf", "h.lock", "a b", ".hidden"]);
        let (name, fact) = match random.below(4) {
            0 => (format!("{target}.lock"), Fact::Lock { hours }),
            1 => (format!("{}-{}.{target}", temp_stem(target), 1 + random.below(9_999)), Fact::Temp { hours }),
            2 => {
                // Its own time says how old it is, which is set below.
                let group = format!("{place}{target}");
                (
                    format!("{target}.backup"),
                    Fact::Backup { group, seconds: hours * HOUR + 60, number: 0, dated: false },
                )
            }
            _ => {
                // Told by its name; its own time is another.
                let (dated, number) = (random.one_of(&AGES), random.below(3));
                let suffix = if number == 0 { String::new() } else { format!("-{number}") };
                let group = format!("{place}{target}");
                let fact = Fact::Backup { group, seconds: dated * HOUR, number, dated: true };
                (format!("{target}{}{suffix}.backup", stamp(dated * HOUR)), fact)
            }
        };
        let path = format!("{place}{name}");
        let whole = self.dir.join(&path);
        if whole.symlink_metadata().is_ok() {
            return;
        }
        let is_lock = matches!(fact, Fact::Lock { .. });
        let mut protected = !entered;
        match random.below(8) {
            0 => symlink("/dev/null", &whole).unwrap(),
            1 => mkfifo(&whole),
            2 => fs::create_dir(&whole).unwrap(),
            // Not a plain backup, which may be one that is being made, for a time.
            3 if !matches!(fact, Fact::Backup { dated: false, .. }) => {
                self.dir.file(&path, "");
                fs::hard_link(&whole, self.dir.join(format!("{path}-too"))).unwrap();
                protected |= is_lock;
            }
            4 => {
                self.held.insert(path.clone(), Held::new(&whole));
                protected |= !matches!(fact, Fact::Backup { .. });
            }
            5 => {
                self.dir.file(&path, "content");
                protected |= is_lock;
            }
            _ => drop(self.dir.file(&path, "")),
        }
        protected |= !whole.symlink_metadata().unwrap().is_file();
        age(&whole, hours * HOUR + 60);
        if !protected {
            self.facts.push((path, fact));
        }
    }

    /// What the contract says goes.
    fn doomed(&self, options: &Options) -> BTreeSet<String> {
        let reached = |path: &str| options.recursive || !path.contains('/');
        let goes = |path: &str, fact: &Fact| match fact {
            Fact::Lock { hours } => {
                options.locks && options.limits.is_none_or(|(limit, _)| *hours > limit) && reached(path)
            }
            Fact::Temp { hours } => {
                options.temps && options.limits.is_none_or(|(limit, _)| *hours > limit) && reached(path)
            }
            Fact::Backup { group, seconds, number, dated } => {
                let newer = self.facts.iter().filter(|(_, other)| match other {
                    Fact::Backup { group: g, seconds: s, number: n, .. } => {
                        g == group && (s < seconds || s == seconds && n > number)
                    }
                    _ => false,
                });
                let newer = newer.count() as u64;
                let kept = options.keep_newest.unwrap_or(u64::from(options.limits.is_none()));
                let in_use = !dated && self.held.contains_key(&format!("{group}.lock"));
                let old = options.limits.is_none_or(|(_, limit)| *seconds > limit * HOUR);
                options.backups && newer >= kept && old && !in_use && reached(path)
            }
        };
        self.facts.iter().filter(|(path, fact)| goes(path, fact)).map(|(path, _)| path.clone()).collect()
    }
}

#[derive(Debug)]
struct Options {
    args: Vec<&'static str>,
    locks: bool,
    backups: bool,
    temps: bool,
    recursive: bool,
    /// `--older-than` in hours: for locks and temporary files, and for backups.
    limits: Option<(u64, u64)>,
    keep_newest: Option<u64>,
}

impl Options {
    fn random(random: &mut Random) -> Options {
        let (what, [locks, backups, temps]) = random.one_of(&[
            ("--clean-locks", [true, false, false]),
            ("--clean-backups", [false, true, false]),
            ("--clean-temps", [false, false, true]),
            ("--all", [true; 3]),
            ("--all", [true; 3]),
        ]);
        let mut args = vec![what];
        let recursive = random.below(4) > 0;
        args.extend(recursive.then_some("-r"));
        let limits = random.one_of(&[
            None,
            Some(("--older-than=2h", (2, 2))),
            Some(("--older-than=2d", (48, 48))),
            // A bare number: hours, and days.
            Some(("--older-than=8", (8, 8 * 24))),
        ]);
        args.extend(limits.map(|(arg, _)| arg));
        let keep_newest = random.one_of(&[
            None,
            Some(("--keep-newest=0", 0)),
            Some(("--keep-newest=1", 1)),
            Some(("--keep-newest=2", 2)),
        ]);
        args.extend(keep_newest.map(|(arg, _)| arg));
        let (limits, keep_newest) = (limits.map(|(_, l)| l), keep_newest.map(|(_, k)| k));
        Options { args, locks, backups, temps, recursive, limits, keep_newest }
    }
}

#[test]
fn random_trees_agree_with_a_model() {
    let given = std::env::var("AWRITE_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = given.unwrap_or_else(|| (u64::from(std::process::id()) << 20) | 1);
    let mut random = Random(seed);
    let rounds = if long() { 600 } else { 80 };
    let woods: Vec<Wood> = (0..rounds).map(|_| Wood::grow(&mut random)).collect();
    // So that no temporary file is too fresh to tell.
    wait_for_ctime(woods.last().unwrap().dir.path(), Duration::from_secs(1));
    let mut deleted = 0;
    for (number, wood) in woods.iter().enumerate() {
        let options = Options::random(&mut random);
        let doomed = wood.doomed(&options);
        let before = tree(wood.dir.path());
        let context = format!("AWRITE_SEED={seed}, tree {number}, {:?}", options.args);
        for dry_run in [Some("-n"), None] {
            let done = housekeep(&wood.dir, options.args.iter().copied().chain(dry_run)).run();
            assert_eq!(done.code, Some(0), "{context}: {done:?}");
            assert_eq!(listed(&done), doomed, "{context} {dry_run:?}");
            let left = if dry_run.is_some() { before.clone() } else { &before - &doomed };
            assert_eq!(tree(wood.dir.path()), left, "{context} {dry_run:?}");
        }
        let again = housekeep(&wood.dir, options.args.iter().copied()).run();
        assert_eq!(again.stdout, "", "{context} again");
        deleted += doomed.len();
    }
    assert!(deleted > rounds, "the trees are not all of things that stay: {deleted}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Beside others

/// Whether there is time for what takes long.
fn long() -> bool {
    std::env::var_os("AWRITE_LONG").is_some_and(|value| value == "1")
}

#[test]
fn two_at_once_delete_everything_once() {
    let dir = TestDir::new();
    for number in 0..3000 {
        dir.file(format!("{number}.lock"), "");
        dir.file(format!("{number}{}.backup", stamp(10 * DAY)), "");
    }
    let all = tree(dir.path());
    let run = || housekeep(&dir, ["--all", "--older-than", "1h"]).spawn();
    // Locks are too young for the age; they come first, without one.
    let locks = || housekeep(&dir, ["--clean-locks"]).spawn();
    let running = [run(), locks(), run(), locks()];
    let mut gone = BTreeSet::new();
    for done in running.map(Running::finish) {
        let own = listed(done.ok());
        assert!(gone.is_disjoint(&own), "nothing is deleted twice");
        gone.extend(own);
    }
    assert_eq!(gone, all);
    dir.assert_holds(&[]);
}

/// 50 writers and holders of all kinds, and two housekeepers that never stop: no update is lost, no lock broken, no
/// backup that is to stay deleted, and nobody fails.
#[test]
fn beside_living_writers_and_lock_holders() {
    const FILES: usize = 10;
    let dir = TestDir::new();
    for file in 0..FILES {
        dir.file(format!("f{file}"), "0\n");
    }
    let done: Vec<AtomicU64> = (0..FILES).map(|_| AtomicU64::new(0)).collect();
    let (stop, locks_deleted) = (AtomicBool::new(false), AtomicU64::new(0));
    let stopped = || stop.load(Ordering::SeqCst);
    let record = File::create(dir.join("record.lock")).unwrap();
    rustix::fs::fcntl_lock(&record, FlockOperation::NonBlockingLockExclusive).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..36 {
            let (dir, done, stopped) = (&dir, &done, &stopped);
            scope.spawn(move || {
                let ways = [&["-b"][..], &["--backup-timestamp"], &["--stream", "-b"], &["-t", "60"]];
                let file = writer % FILES;
                while !stopped() {
                    let name = format!("f{file}");
                    let add = ["--sync", "none", &name, "--", "sh", "-c", "read n; echo $((n + 1))"];
                    let run = dir.awrite(ways[writer % ways.len()].iter().chain(&add)).run();
                    assert_eq!(run.code, Some(0), "{run:?}");
                    done[file].fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Nobody else wants these locks, so only a housekeeper could make them busy.
        for writer in 0..6 {
            let (dir, stopped) = (&dir, &stopped);
            scope.spawn(move || {
                while !stopped() {
                    let run = dir.awrite(["-n", "--sync", "none", &format!("own{writer}")]).stdin("x").run();
                    assert_eq!(run.code, Some(0), "{run:?}");
                }
            });
        }
        // Holders that leave their file behind, and look whether it is still the one that they have locked.
        for holder in 0..8 {
            let (path, stopped) = (dir.join(format!("held{}.lock", holder % 4)), &stopped);
            scope.spawn(move || {
                while !stopped() {
                    let file = File::options().write(true).create(true).truncate(false).open(&path).unwrap();
                    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
                    let inode = file.metadata().unwrap().ino();
                    let is_same = || fs::metadata(&path).is_ok_and(|now| now.ino() == inode);
                    if is_same() {
                        std::thread::sleep(Duration::from_millis(3));
                        assert!(is_same(), "a lock was taken away from its holder");
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !stopped() {
                    let run = housekeep(&dir, ["--all", "-r"]).run();
                    assert_eq!(run.code, Some(0), "{run:?}");
                    let locks = run.stdout.lines().filter(|line| line.ends_with(".lock")).count();
                    locks_deleted.fetch_add(locks as u64, Ordering::SeqCst);
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(if long() { 30 } else { 5 });
        for orphan in 0_u64.. {
            dir.file(format!("orphan{orphan}.lock"), "");
            std::thread::sleep(Duration::from_millis(10));
            if Instant::now() > end {
                break;
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    for (file, done) in done.iter().enumerate() {
        let done = done.load(Ordering::SeqCst);
        assert_eq!(dir.read(format!("f{file}")), format!("{done}\n"), "no update was lost");
        let backups = dir.names().into_iter().filter(|name| {
            let name = name.to_str().unwrap();
            name.starts_with(&format!("f{file}.")) && name.ends_with(".backup")
        });
        assert!(backups.count() >= 1, "f{file} has a backup");
    }
    assert!(dir.join("record.lock").exists());
    assert!(locks_deleted.load(Ordering::SeqCst) > 0, "there was something to delete");
    drop(record);
    housekeep(&dir, ["--all"]).run().ok();
    assert!(!dir.names().iter().any(|name| name.to_str().unwrap().ends_with(".lock")));
}

// ---------------------------------------------------------------------------------------------------------------------
// Leases

fn expired_lease(dir: &TestDir) {
    dir.awrite(["lock", "--acquire", "--owner", "A", "--ttl", "1ms", "f"]).run().ok();
    wait_until("it has expired", || dir.awrite(["lock", "--status", "f"]).run().code == Some(0));
}

#[test]
fn a_lease_goes_without_what_is_beside_it() {
    let dir = TestDir::new();
    expired_lease(&dir);
    dir.file("f.lock", "");
    let lease = fs::File::options().write(true).open(dir.join("f.lease")).unwrap();
    lease.set_modified(SystemTime::now() - Duration::from_secs(5 * 3600)).unwrap();
    let args = ["--clean-locks", "--older-than", "2h"];
    let dry = housekeep(&dir, args.into_iter().chain(["-n"])).run().ok().stdout.clone();
    assert_eq!(dry, "./f.lease\n");
    assert_eq!(housekeep(&dir, args).run().ok().stdout, dry);
    dir.assert_holds(&["f.lock"]);

    // Not while somebody has the lock, which a dry run knows too.
    fs::remove_file(dir.join("f.lock")).unwrap();
    expired_lease(&dir);
    let held = Held::new(&dir.join("f.lock"));
    for args in [&["--clean-locks"][..], &["--clean-locks", "-n"]] {
        assert_eq!(housekeep(&dir, args.iter().copied()).run().ok().stdout, "");
    }
    held.release();
    dir.assert_holds(&["f.lease", "f.lock"]);
}

/// However long it takes to remove a file.
#[test]
fn one_who_does_not_wait_does_not_fail_because_of_a_housekeeper() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for round in 0..3 {
        expired_lease(&dir);
        // Well below the second that is waited for it, also on a busy machine.
        let slow = "inject=unlinkat:delay_enter=100000";
        let args = ["-f", "-o", "trace", "-e", "trace=unlinkat", "-e", slow, AWRITE, "housekeep", "--clean-locks"];
        let keeper = dir.program("strace", args).spawn();
        wait_until("it has the lock", || lock_is_held(&dir.join("f.lock")));
        dir.awrite(["-n", "f"]).stdin(round.to_string()).quiet_success();
        keeper.finish().ok();
        assert_eq!(dir.read("f"), round.to_string());
    }
    dir.assert_holds(&["f", "trace"]);
}
