//! strace kills awrite before each of its system calls, and lets each of them fail. The file is then the old one or the
//! new one, the next writer gets the lock at once, and nothing is left but what the documents say.
//!
//! By default this is tried at a sample of the calls; with `AWRITE_TEST_LONG=1` at each of them. `AWRITE_TEST_LONG=2`
//! makes every call fail with every error that it can have, instead of with EIO and one other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{
    Done, Extent, Held, Run, Snapshot, TestDir, extent, names_in, needs_strace, rounds, temp_stem, wait_until,
};
use crate::sweep::{Met, Point, Program};

/// A way of using the program. The sweeps go through its system calls.
#[derive(Clone, Copy)]
struct Way {
    kind: Kind,
    /// OTHER stands for a directory on another file system.
    args: &'static [&'static str],
    input: &'static str,
    /// The content of the file before. `None`: there is no file.
    old: Option<&'static str>,
    new: &'static str,
    /// What else is there before.
    before: Before,
    /// linkat(2) fails, so that the temporary file must have a name from the start.
    named: bool,
    /// It locks by link(2).
    link: bool,
    has_command: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Hold,
    Acquire,
    Refresh,
    Release,
    Housekeep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Backup,
    /// One with a time in its name, which the next one makes superfluous.
    OldBackup,
    Lease,
    /// The lock of a process that was killed.
    DeadLock,
    /// One of everything for a housekeeper.
    Litter,
}

/// An edit. What a killed one has left goes with it.
const NEXT: &str = "test $(ls -d .awrite-edit-* | wc -l) = 1 && printf next >\"$1\"";
const OLD: &str = "old content\n";
const NEW: &str = "the new content\n";

const PLAIN: Way = Way {
    kind: Kind::Write,
    args: &["f"],
    input: NEW,
    old: Some(OLD),
    new: NEW,
    before: Before::Nothing,
    named: false,
    link: false,
    has_command: false,
};
const CREATE: Way = Way { old: None, ..PLAIN };
const STREAM: Way = Way { args: &["--stream", "f"], ..PLAIN };
const NAMED: Way = Way { named: true, ..PLAIN };
const NAMED_CREATE: Way = Way { old: None, ..NAMED };
const BACKUP: Way = Way { args: &["--backup", "f"], ..PLAIN };
const NEXT_BACKUP: Way = Way { before: Before::Backup, ..BACKUP };
const COPIED_BACKUP: Way = Way { args: &["--backup-mode=600", "f"], ..PLAIN };
const FAR_BACKUP: Way = Way { args: &["--backup-dir=OTHER", "f"], ..PLAIN };
const DATED_BACKUP: Way = Way { args: &["--backup-timestamp", "f"], ..PLAIN };
const KEPT_BACKUP: Way = Way { args: &["--backup-keep=1", "f"], before: Before::OldBackup, ..PLAIN };
const APPEND: Way = Way { args: &["--append", "f"], new: "old content\nthe new content\n", ..PLAIN };
const LATE: Way = Way { args: &["--lock-on-commit", "f"], ..PLAIN };
const COMMAND: Way = Way { args: &["f", "--", "/bin/echo", "the new content"], has_command: true, ..PLAIN };
const EDIT: Way =
    Way { args: &["-e", "f", "--", "/bin/sh", "-c", "echo the new content >\"$1\"", "sh"], has_command: true, ..PLAIN };
const VALIDATED: Way = Way { args: &["--validate", "exit 0", "f"], has_command: true, ..PLAIN };
const FROM_FILE: Way = Way { args: &["--input", "in", "f"], ..PLAIN };
const CHANGED: Way = Way { args: &["--if-changed", "f"], ..PLAIN };
const UNCHANGED: Way = Way { old: Some(NEW), ..CHANGED };
const DRY_RUN: Way = Way { args: &["--dry-run", "f"], new: OLD, ..PLAIN };
const EXPECTED: Way = Way {
    args: &["--if-match=40eda80edfc38b36bdcdc408aa6ff2cc40b708e46ece9dfd2b2801a05a18a5fc", "--verify", "f"],
    ..PLAIN
};
const EXPECTED_ABSENT: Way = Way { args: &["--if-match=absent", "f"], old: None, ..PLAIN };
const LINK: Way = Way { args: &["--lock-method=link", "f"], link: true, ..PLAIN };
/// Without --no-wait, a run that cannot see whether the holder is dead would wait for a minute.
const LINK_BREAK: Way = Way { args: &["--lock-method=link", "--no-wait", "f"], before: Before::DeadLock, ..LINK };
const HOLD: Way = Way {
    kind: Kind::Hold,
    args: &["lock", "f", "--", "/bin/sh", "-c", "test -e f.lock"],
    new: OLD,
    has_command: true,
    ..PLAIN
};
const HOLD_SHARED: Way = Way { args: &["lock", "-s", "f", "--", "/bin/sh", "-c", "test -e f.lock"], ..HOLD };
const HOLD_LINK: Way =
    Way { args: &["lock", "--lock-method=link", "f", "--", "/bin/sh", "-c", "test -e f.lock"], link: true, ..HOLD };
const ACQUIRE: Way =
    Way { kind: Kind::Acquire, args: &["lock", "--acquire", "--owner=A", "--ttl=1h", "f"], new: OLD, ..PLAIN };
const REFRESH: Way = Way {
    kind: Kind::Refresh,
    args: &["lock", "--refresh", "--owner=A", "--ttl=2h", "f"],
    before: Before::Lease,
    ..ACQUIRE
};
const RELEASE: Way =
    Way { kind: Kind::Release, args: &["lock", "--release", "--owner=A", "f"], before: Before::Lease, ..ACQUIRE };
const LEASED: Way = Way { args: &["--owner=A", "f"], before: Before::Lease, ..PLAIN };
const HOUSEKEEP: Way = Way { kind: Kind::Housekeep, args: EACH_KIND, new: OLD, before: Before::Litter, ..PLAIN };

const EACH_KIND: &[&str] = &["housekeep", "--clean-locks", "--clean-backups", "--clean-temps"];

/// Memory, threads, children, signals and the loader: nothing there touches a file.
pub(crate) const OF_NO_INTEREST: &[&str] = &[
    "arch_prctl",
    "brk",
    "clone",
    "clone3",
    "execve",
    "exit",
    "exit_group",
    "futex",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getrandom",
    "getsid",
    "gettid",
    "getuid",
    "kill",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "pidfd_open",
    "poll",
    "prlimit64",
    "prctl",
    "recvfrom",
    "restart_syscall",
    "rseq",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigaction",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "socketpair",
    "tgkill",
    "uname",
    "vfork",
    "wait4",
    "waitid",
];

/// The errors of a system call on files. EIO is always the first.
fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "open" | "openat" => &["EIO", "EACCES", "ENOSPC", "EDQUOT", "EINTR", "EMFILE", "EOPNOTSUPP"],
        "write" | "copy_file_range" | "pwrite64" | "fallocate" | "ftruncate" => &["EIO", "ENOSPC", "EDQUOT", "EINTR"],
        "read" => &["EIO", "EINTR"],
        "close" => &["EIO", "ENOSPC", "EDQUOT", "EINTR"],
        "flock" => &["EIO", "EINTR", "ENOLCK"],
        "linkat" => &["EIO", "ENOSPC", "EDQUOT", "EACCES", "EPERM", "ENOENT", "EINTR"],
        "rename" | "renameat" | "renameat2" => &["EIO", "ENOSPC", "EACCES", "EDQUOT", "EINTR"],
        "unlink" | "unlinkat" => &["EIO", "EACCES", "EINTR", "EPERM"],
        "fsync" | "fdatasync" => &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EINVAL"],
        "fchmod" | "fchown" | "fsetxattr" | "utimensat" => &["EIO", "EPERM", "ENOSPC", "EDQUOT", "EACCES", "EINTR"],
        "fcntl" | "ioctl" => &["EIO", "EINVAL", "EINTR"],
        "faccessat2" | "statx" => &["EIO", "ENOSYS", "EACCES", "EINTR"],
        _ => &["EIO", "EACCES", "EINTR"],
    }
}

/// Whether the error only means that a signal came. On network and FUSE file systems these calls have it too.
fn is_transient(call: &str, error: &str) -> bool {
    error == "EINTR" && ["close", "read", "write", "flock", "fsync", "fdatasync", "renameat"].contains(&call)
}

/// The files that no housekeeper may remove.
const KEPT: [&str; 6] = ["Cargo.lock", "b.backup", "f", "h.lock", "in", "z.lease"];

struct Sweep<'a> {
    way: &'a Way,
    program: Program<'a>,
    /// On another file system, where there is one.
    other: TestDir,
    points: BTreeSet<Point>,
    /// The mode that the file has after an undisturbed run.
    new_mode: u32,
    /// The record of a live lease of A, of an expired one, and of a lock by link(2) whose holder was killed.
    lease: Vec<u8>,
    expired: Vec<u8>,
    dead: Vec<u8>,
    /// Directories for housekeepers, made early: a housekeeper leaves files alone that were changed a moment ago.
    pool: RefCell<Vec<TestDir>>,
    /// Directories that a disturbed housekeeper has left, and how it was disturbed.
    visited: RefCell<Vec<(TestDir, String)>>,
    /// How many more housekeepers may clean up. Each waits a second if it finds a new temporary file.
    housekeepers: Cell<usize>,
}

/// What a failed run must leave alone.
struct State {
    file: Option<Snapshot>,
    lease: Option<Vec<u8>>,
}

impl Sweep<'_> {
    fn new(way: &Way) -> Sweep<'_> {
        let other = TestDir::elsewhere();
        let args = way.args.iter().map(|arg| arg.replace("OTHER", other.path().to_str().unwrap())).collect();
        let always = way.named.then_some("inject=linkat:error=EPERM");
        let program = Program { args, input: way.input, always, has_command: way.has_command };
        let mut sweep = Sweep {
            way,
            program,
            other,
            points: BTreeSet::new(),
            new_mode: 0,
            lease: Vec::new(),
            expired: Vec::new(),
            dead: Vec::new(),
            pool: RefCell::default(),
            visited: RefCell::default(),
            housekeepers: Cell::new(match extent() {
                Extent::Quick => 1,
                Extent::Full => 2,
                Extent::Long => usize::MAX,
            }),
        };
        sweep.record_leases();
        sweep.record_dead_lock();
        let dir = sweep.fixture();
        let (done, points) = sweep.program.points(&dir);
        done.ok();
        sweep.assert_content(&dir, Some(way.new), "nothing");
        sweep.new_mode = dir.mode("f");
        sweep.points = points;
        assert!(sweep.points.len() > 30, "{:?}", sweep.points);
        sweep
    }

    fn record_leases(&mut self) {
        let dir = TestDir::new();
        for (ttl, record) in [("1h", &mut self.lease), ("1ms", &mut self.expired)] {
            dir.awrite(["lock", "--acquire", "--owner=A", "--ttl", ttl, "f"]).run().ok();
            *record = fs::read(dir.join("f.lease")).unwrap();
            fs::remove_file(dir.join("f.lease")).unwrap();
        }
    }

    fn record_dead_lock(&mut self) {
        let dir = TestDir::new();
        let holder = dir.awrite(["--lock-method=link", "f"]).stdin_open().spawn();
        let lock = dir.join("f.lock");
        wait_until("the lock is held", || fs::read(&lock).is_ok_and(|record| record.ends_with(b"}\n")));
        holder.signal(Signal::KILL);
        holder.finish();
        self.dead = fs::read(lock).unwrap();
    }

    /// A directory for one run.
    fn fixture(&self) -> TestDir {
        if self.way.before != Before::Litter {
            return self.fresh_fixture();
        }
        let mut pool = self.pool.borrow_mut();
        if pool.is_empty() {
            pool.extend((0..rounds(10, 200)).map(|_| self.fresh_fixture()));
            until_nothing_is_new();
        }
        pool.pop().unwrap()
    }

    fn fresh_fixture(&self) -> TestDir {
        let dir = TestDir::new();
        if let Some(old) = self.way.old {
            dir.file_with_mode("f", old, 0o640);
        }
        dir.file("in", self.way.input);
        for name in names_in(self.other.path()) {
            fs::remove_file(self.other.join(name)).unwrap();
        }
        match self.way.before {
            Before::Nothing => {}
            Before::Backup | Before::OldBackup => drop(dir.file(self.earlier_backup().unwrap(), "older\n")),
            Before::Lease => drop(dir.file_with_mode("f.lease", &self.lease, 0o600)),
            Before::DeadLock => drop(dir.file_with_mode("f.lock", &self.dead, 0o600)),
            Before::Litter => {
                for name in ["o.lock", "h.lock"] {
                    dir.file(name, "");
                }
                dir.file("l.lock", &self.dead);
                dir.file("y.lease", &self.expired);
                dir.file("z.lease", &self.lease);
                dir.file(".awrite-2961ebef.t", "half");
                dir.file("Cargo.lock", "[[package]]\n");
                for (name, days) in [("b.backup", 1), ("b.20200102-030405.backup", 2), ("b.20200101-000000.backup", 3)]
                {
                    let then = SystemTime::now() - days * Duration::from_secs(86400);
                    let file = dir.file(name, "kept\n");
                    fs::File::options().write(true).open(file).unwrap().set_modified(then).unwrap();
                }
            }
        }
        dir
    }

    fn state(&self, dir: &TestDir) -> State {
        let file = dir.join("f").exists().then(|| dir.snapshot("f"));
        State { file, lease: fs::read(dir.join("f.lease")).ok() }
    }

    fn content(dir: &TestDir) -> Option<String> {
        dir.join("f").exists().then(|| dir.read("f"))
    }

    #[track_caller]
    fn assert_content(&self, dir: &TestDir, expected: Option<&str>, what: &str) {
        assert_eq!(Self::content(dir).as_deref(), expected, "after {what}");
    }

    /// The files that do not belong there.
    fn debris(&self, dir: &TestDir) -> Vec<String> {
        let belongs = |name: &String| {
            ["f", "in", "f.lease"].contains(&name.as_str()) || (name.starts_with("f.") && name.ends_with(".backup"))
        };
        names(dir).into_iter().chain(names(&self.other)).filter(|name| !belongs(name)).collect()
    }

    fn makes_backup(&self) -> bool {
        self.way.args.iter().any(|arg| arg.starts_with("--backup"))
    }

    fn edits(&self) -> bool {
        self.way.args[0] == "-e"
    }

    fn earlier_backup(&self) -> Option<&'static str> {
        match self.way.before {
            Before::Backup => Some("f.backup"),
            Before::OldBackup => Some("f.20200101-000000.backup"),
            _ => None,
        }
    }

    /// What there was before a write that has failed: an earlier backup, or none.
    #[track_caller]
    fn assert_backups_as_before(&self, dir: &TestDir, what: &str) {
        let names = names(dir).into_iter().chain(names(&self.other));
        let backups: Vec<String> = names.filter(|name| is_backup(name)).collect();
        assert_eq!(backups.first().map(String::as_str), self.earlier_backup(), "{what}");
        assert!(backups.len() <= 1, "{what}: {backups:?}");
        if let Some(earlier) = self.earlier_backup() {
            assert_eq!(dir.read(earlier), "older\n", "{what}");
        }
    }

    /// Every backup is the whole old content, or an earlier one.
    #[track_caller]
    fn assert_backups_are_whole(&self, dir: &TestDir, what: &str) {
        let (mut seen, mut older) = (0, 0);
        for dir in [dir, &self.other] {
            for name in names(dir).iter().filter(|name| is_backup(name)) {
                let backup = dir.read(name);
                let earlier = self.earlier_backup().is_some() && backup == "older\n";
                older += usize::from(earlier);
                assert!(earlier || Some(backup.as_str()) == self.way.old, "{what}: {name:?}: {backup:?}");
                seen += 1;
            }
        }
        let asked = self.makes_backup();
        let replaced = Self::content(dir).as_deref() == Some(self.way.new);
        if self.way.before == Before::OldBackup {
            // It goes after the target has been replaced, if it can be deleted.
            assert!(if replaced { seen == older + 1 } else { older == 1 }, "{what}");
            return;
        }
        // The backup is made before the target is replaced.
        if asked && replaced {
            assert_eq!(seen, 1, "{what}");
        }
        assert!(self.way.before != Before::Backup || seen == 1, "{what}");
    }

    /// The record of A's lease, if it stands. Panics if it is not a whole record.
    #[track_caller]
    fn lease(&self, dir: &TestDir, what: &str) -> Option<Value> {
        let bytes = fs::read(dir.join("f.lease")).ok()?;
        let record: Value = serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{what}: {e}: {bytes:?}"));
        assert_eq!(record["owner"], "A", "{what}: {record}");
        (record["released"] != true).then_some(record)
    }

    #[track_caller]
    fn assert_lease(&self, dir: &TestDir, done: Option<&Done>, before: &State, what: &str) {
        let record = self.lease(dir, what);
        let token = |record: &Value| record["token"].as_u64().unwrap();
        let unchanged = || fs::read(dir.join("f.lease")).ok() == before.lease;
        let was: Option<Value> = before.lease.as_deref().map(|bytes| serde_json::from_slice(bytes).unwrap());
        let succeeded = done.is_some_and(|done| done.code == Some(0));
        match self.way.kind {
            Kind::Acquire if succeeded => {
                let printed = done.unwrap().stdout.trim().parse().unwrap();
                assert_eq!(record.as_ref().map(token), Some(printed), "{what}");
            }
            Kind::Refresh => {
                let (record, was) = (record.as_ref().unwrap_or_else(|| panic!("{what}: gone")), was.unwrap());
                assert_eq!(token(record), token(&was), "{what}");
                let extended = record["expires_at"].as_str() > was["expires_at"].as_str();
                assert!(extended || !succeeded, "{what}: {record}");
                assert!(extended || unchanged(), "{what}: {record}");
            }
            Kind::Release if succeeded => assert_eq!(record, None, "{what}"),
            Kind::Release => assert!(record.is_none() || unchanged(), "{what}"),
            Kind::Acquire => {}
            _ => assert!(unchanged(), "{what}: {record:?}"),
        }
        // A run that failed has changed nothing. One that was killed may have changed it just before.
        if done.is_some_and(|done| done.code != Some(0)) {
            assert!(unchanged(), "{what}: {record:?}");
        }
    }

    fn next(&self, dir: &TestDir, args: &[&str], direct: bool) -> Run {
        let method = if self.way.link { "link" } else { "flock" };
        // Without -f, strace kills awrite but not COMMAND, which may need a moment to end.
        let wait = if direct { "--timeout=20" } else { "--no-wait" };
        dir.awrite([wait, "--lock-method", method, "--quiet"].iter().chain(args))
    }

    /// The next writer gets the lock at once, takes over a lock file that was left, and removes it. A lease that was
    /// left still belongs to its owner. A housekeeper removes the rest.
    #[track_caller]
    fn assert_next_succeeds(&self, dir: &TestDir, direct: bool, what: &str) {
        if dir.join("f.lease").exists() {
            let wait = if direct { "--timeout=20" } else { "--no-wait" };
            for step in [&["--acquire", "--ttl=1h"][..], &["--release"]] {
                let done = dir.awrite(["lock", "--owner=A", wait, "f"].iter().chain(step)).run();
                assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{step:?} after {what}");
            }
        }
        let next: &[&str] = if self.edits() { &["-e", "f", "--", "sh", "-c", NEXT, "sh"] } else { &["f"] };
        let done = self.next(dir, next, direct).env("TMPDIR", dir.path()).stdin("next").run();
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "after {what}");
        assert_eq!(dir.read("f"), "next", "after {what}");
        assert!(!dir.join("f.lock").exists(), "after {what}");
        if self.housekeepers.get() > 0 && !self.debris(dir).is_empty() {
            self.housekeepers.set(self.housekeepers.get() - 1);
            for place in [dir, &self.other] {
                place.awrite(["housekeep", "--clean-locks", "--clean-temps"]).run().ok();
            }
            assert_eq!(self.debris(dir), [""; 0], "{what}");
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Killed

    fn kill_everywhere(&self) {
        let points = self.sample(self.points.iter());
        let killed = self.each(&points, |point| {
            let dir = self.fixture();
            let held = (self.way.kind == Kind::Housekeep).then(|| Held::new(&dir.join("h.lock")));
            let before = self.state(&dir);
            let what = format!("SIGKILL at {} number {} of {:?}", point.call, point.number, self.program.args);
            let (done, met) = self.program.kill_at(&dir, point);
            match met {
                Met::Nobody => drop(done.ok()),
                Met::Us | Met::Command if self.way.kind == Kind::Housekeep => {
                    self.assert_housekeeping(&dir, None, &what);
                    self.visited.borrow_mut().push((dir, what));
                }
                Met::Us | Met::Command => {
                    self.assert_killed(&dir, &done, &before, &what);
                    self.assert_next_succeeds(&dir, !point.follow, &what);
                }
            }
            drop(held);
            met == Met::Us
        });
        assert!(killed > rounds(0, 30), "only {killed} times");
        self.assert_housekeeping_goes_on();
    }

    /// The points to try: all, or by default one in ten. The first one differs from way to way, so that all ways
    /// together try most calls.
    fn sample<'b>(&self, points: impl Iterator<Item = &'b Point>) -> Vec<&'b Point> {
        let first = self.program.args.iter().map(String::len).sum::<usize>() + self.points.len();
        // A housekeeper makes many calls, and each run takes a second.
        let step = rounds(if self.way.kind == Kind::Housekeep { 40 } else { 10 }, 1);
        points.skip(first % step).step_by(step).collect()
    }

    /// Calls `strike` for all `points`, also after a violation. Returns how often it said that it did strike.
    fn each(&self, points: &[&Point], strike: impl Fn(&Point) -> bool) -> usize {
        let strike = |point: &&Point| catch_unwind(AssertUnwindSafe(|| strike(point)));
        let outcomes: Vec<_> = points.iter().map(strike).collect();
        let violations = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert_eq!(violations, 0, "violations, of {} system calls; see above", points.len());
        outcomes.into_iter().flatten().filter(|&struck| struck).count()
    }

    #[track_caller]
    fn assert_killed(&self, dir: &TestDir, done: &Done, before: &State, what: &str) {
        let way = self.way;
        let content = Self::content(dir);
        if done.code == Some(0) {
            assert_eq!(content.as_deref(), Some(way.new), "{what}");
        } else if way.kind == Kind::Write {
            assert!(content.as_deref() == way.old || content.as_deref() == Some(way.new), "{what}: {content:?}");
        } else {
            assert_eq!(self.state(dir).file, before.file, "{what}");
        }
        if content.is_some() {
            let mode = if content.as_deref() == Some(way.new) { self.new_mode } else { 0o640 };
            assert_eq!(dir.mode("f"), mode, "{what}");
        }
        self.assert_lease(dir, None, before, what);
        self.assert_backups_are_whole(dir, what);
        let (mut temporary, mut backups) = (0, 0);
        for name in self.debris(dir) {
            let path = if dir.join(&name).exists() { dir.join(&name) } else { self.other.join(&name) };
            let meta = fs::metadata(path).unwrap();
            if self.edits() && name.starts_with(".awrite-edit-") {
                assert_eq!(meta.permissions().mode() & 0o7777, 0o700, "{what}");
            } else if name == "f.lock" {
                assert!(way.link || meta.len() == 0, "{what}");
            } else {
                let of_link = way.link && (name.starts_with("f.lock.break-") || name.starts_with(&temp_stem("f.lock")));
                let of_write = ["f", "f.lease"].iter().any(|base| name.starts_with(&temp_stem(base)));
                let of_backup = self.makes_backup() && name.starts_with(&temp_stem("f.backup"));
                assert!(of_link || of_write || of_backup, "{what}: {name}");
                assert_eq!(meta.permissions().mode() & 0o7777 & !0o644, 0, "{what}: {name}");
                temporary += usize::from(of_write);
                backups += usize::from(of_backup);
            }
        }
        assert!(temporary <= 1 && backups <= 1, "{what}: {:?}", self.debris(dir));
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Failing

    fn fail_everywhere(&self) {
        let points = self.points.iter().filter(|point| !OF_NO_INTEREST.contains(&point.call.as_str()));
        // There linkat always fails, by strace, which cannot run together with what lets close fail.
        let can_fail = |point: &&Point| !(self.way.named && ["close", "linkat"].contains(&point.call.as_str()));
        let points = self.sample(points.filter(can_fail));
        let failed = self.each(&points, |point| {
            let errors = errors_of(&point.call);
            // EIO, and one of the others.
            let second = errors[1 + point.number % (errors.len() - 1)];
            let chosen = errors.iter().filter(|&&error| extent() == Extent::Long || error == "EIO" || error == second);
            // ENOENT from linkat(2) tells the holder of a link lock that it has lost the lock.
            let has_link = self.way.link || self.way.kind == Kind::Housekeep;
            let mut chosen = chosen.filter(|&&error| !(has_link && point.call == "linkat" && error == "ENOENT"));
            chosen.all(|error| self.fail_at(point, error))
        });
        assert!(failed > rounds(0, 20), "only {failed} times");
        self.assert_housekeeping_goes_on();
    }

    /// Returns whether there was such a call.
    fn fail_at(&self, point: &Point, error: &str) -> bool {
        let dir = self.fixture();
        let held = (self.way.kind == Kind::Housekeep).then(|| Held::new(&dir.join("h.lock")));
        let before = self.state(&dir);
        let call = point.call.as_str();
        let what = format!("{error} from {call} number {} of {:?}", point.number, self.program.args);
        let (done, met) = self.program.fail_at(&dir, point, error);
        if met == Met::Nobody {
            done.ok();
            return false;
        }
        assert_eq!(done.signal, None, "{what}: {done:?}");
        for bad in ["panicked", "internal error", "os error"] {
            assert!(!done.stderr.contains(bad), "{what}: {done:?}");
        }
        // The dynamic loader failed, so our program has not run.
        let loaded = !(done.code == Some(127) && done.stderr.contains("error while loading shared libraries"));
        let ours = met == Met::Us && loaded;
        if is_transient(call, error) && ours {
            assert_eq!(done.code, Some(0), "{what}: {done:?}");
        }
        if done.code != Some(0) && ours {
            self.assert_said(&done, &what);
        }
        if self.way.kind == Kind::Housekeep {
            self.assert_housekeeping(&dir, Some(&done), &what);
            self.visited.borrow_mut().push((dir, what));
        } else {
            self.assert_failed(&dir, &done, call, &before, &what);
            self.assert_next_succeeds(&dir, !point.follow, &what);
        }
        drop(held);
        true
    }

    /// There is an error, and it says on which path.
    #[track_caller]
    fn assert_said(&self, done: &Done, what: &str) {
        assert!(matches!(done.code, Some(1 | 2 | 126 | 127)), "{what}: {done:?}");
        let says_path = |line: &str| {
            let Some((path, reason)) = line.strip_prefix("Error: ").and_then(|rest| rest.split_once(": ")) else {
                return false;
            };
            (path.starts_with("standard ") || !path.contains(' ')) && !reason.is_empty()
        };
        assert!(done.stderr.lines().any(says_path), "{what}: it says nothing of a path: {done:?}");
    }

    #[track_caller]
    fn assert_failed(&self, dir: &TestDir, done: &Done, call: &str, before: &State, what: &str) {
        let way = self.way;
        let not_durable = done.stderr.contains("replaced, but not known to be durable");
        if done.code == Some(0) || not_durable {
            self.assert_content(dir, Some(way.new), &format!("{what}: {done:?}"));
            assert_eq!(dir.mode("f"), self.new_mode, "{what}: {done:?}");
        }
        assert!(!not_durable || done.code == Some(1), "{what}");
        let is_write = way.kind == Kind::Write && way.old != Some(way.new);
        if (done.code != Some(0) && !not_durable) || !is_write {
            assert_eq!(self.state(dir).file, before.file, "{what}: {done:?}");
            self.assert_backups_as_before(dir, &format!("{what}: {done:?}"));
        }
        self.assert_lease(dir, Some(done), before, &format!("{what}: {done:?}"));
        self.assert_backups_are_whole(dir, what);
        let mut debris = self.debris(dir);
        // The dead process's lock was there before.
        if fs::read(dir.join("f.lock")).is_ok_and(|record| record == self.dead) {
            debris.retain(|name| name != "f.lock");
        }
        // A lock file that cannot be removed stays, and a warning says so.
        if done.stderr.contains("Warning: f.lock: cannot remove the lock file: ") {
            debris.retain(|name| name != "f.lock");
        }
        if way.link && call == "utimensat" {
            // Without its heartbeat a breaker may have lost its mark to another one.
            debris.retain(|name| !name.starts_with("f.lock.break-"));
        }
        if call != "unlinkat" {
            assert_eq!(debris, [""; 0], "{what}: {done:?}");
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Housekeeping

    /// Everything is still there that must stay.
    #[track_caller]
    fn assert_housekeeping(&self, dir: &TestDir, done: Option<&Done>, what: &str) {
        for name in KEPT {
            assert!(dir.join(name).exists(), "{what}: {name} is gone; {done:?}");
        }
        assert_eq!((dir.read("f").as_str(), dir.read("b.backup").as_str()), (OLD, "kept\n"), "{what}");
        if let Some(done) = done.filter(|done| done.code == Some(0)) {
            let gone = |name: &String| done.stdout.lines().any(|line| line.strip_prefix("./") == Some(name));
            for name in names(dir).iter().filter(|name| !KEPT.contains(&name.as_str())) {
                // A lock stays if its holder cannot be seen to be dead. Marks of breakers harm nobody.
                let spared = name == "l.lock" && !gone(name);
                assert!(
                    spared || name.contains("l.lock.break-") || name.contains(&temp_stem("l.lock")),
                    "{what}: {name}: {done:?}"
                );
            }
        }
    }

    /// The next housekeeper does what a disturbed one has not done.
    fn assert_housekeeping_goes_on(&self) {
        let visited = self.visited.take();
        if !visited.is_empty() {
            until_nothing_is_new();
        }
        for (dir, what) in visited {
            let held = Held::new(&dir.join("h.lock"));
            dir.awrite(EACH_KIND).run().ok();
            assert_eq!(names(&dir), KEPT, "{what}, and again");
            held.release();
        }
    }
}

/// A temporary file for a backup ends as the backup does.
fn is_backup(name: &str) -> bool {
    name.ends_with(".backup") && !name.starts_with(".awrite-")
}

fn names(dir: &TestDir) -> Vec<String> {
    dir.names().into_iter().map(|name| name.into_string().unwrap()).collect()
}

/// Housekeepers leave files alone that were changed within the last second.
fn until_nothing_is_new() {
    let now = SystemTime::now();
    wait_until("nothing looks new", || now.elapsed().is_ok_and(|age| age > Duration::from_millis(1100)));
}

fn kill(way: &Way) {
    if needs_strace() {
        Sweep::new(way).kill_everywhere();
    }
}

fn fail(way: &Way) {
    if needs_strace() {
        Sweep::new(way).fail_everywhere();
    }
}

macro_rules! sweeps {
    ($($name:ident: $way:expr;)*) => {
        mod killed {
            use super::*;
            $(#[test] fn $name() { kill(&$way); })*
        }

        mod failing {
            use super::*;
            $(#[test] fn $name() { fail(&$way); })*
        }
    };
}

sweeps! {
    replacing: PLAIN;
    creating: CREATE;
    streaming: STREAM;
    with_a_named_temporary_file: NAMED;
    creating_with_a_named_temporary_file: NAMED_CREATE;
    with_a_backup: BACKUP;
    with_the_next_backup: NEXT_BACKUP;
    with_a_copied_backup: COPIED_BACKUP;
    with_a_backup_on_another_file_system: FAR_BACKUP;
    with_a_dated_backup: DATED_BACKUP;
    with_old_backups: KEPT_BACKUP;
    appending: APPEND;
    with_a_late_lock: LATE;
    with_a_command: COMMAND;
    editing: EDIT;
    with_validation: VALIDATED;
    with_input_from_a_file: FROM_FILE;
    if_changed: CHANGED;
    if_unchanged: UNCHANGED;
    dry: DRY_RUN;
    if_it_is_what_was_read: EXPECTED;
    if_it_is_absent: EXPECTED_ABSENT;
    with_a_link_lock: LINK;
    breaking_a_link_lock: LINK_BREAK;
    holding: HOLD;
    holding_shared: HOLD_SHARED;
    holding_a_link_lock: HOLD_LINK;
    acquiring_a_lease: ACQUIRE;
    refreshing_a_lease: REFRESH;
    releasing_a_lease: RELEASE;
    under_a_lease: LEASED;
    housekeeping: HOUSEKEEP;
}

/// Messages when only the last sync fails, and when the file system cannot sync directories.
#[test]
fn a_directory_that_cannot_be_synced() {
    if !needs_strace() {
        return;
    }
    let sweep = Sweep::new(&PLAIN);
    let run = |injection: &str| {
        let dir = sweep.fixture();
        let done = sweep.program.run_with(&dir, injection);
        assert_eq!(sweep.debris(&dir), [""; 0]);
        (done, Sweep::content(&dir).unwrap())
    };
    // The first sync is the file's.
    let (done, content) = run("inject=fsync:error=EIO:when=2");
    assert_eq!((done.code, content.as_str()), (Some(1), NEW));
    let expected = "Error: f: replaced, but not known to be durable: Input/output error";
    assert!(done.stderr.lines().any(|line| line == expected), "{done:?}");
    for error in ["EINVAL", "EOPNOTSUPP"] {
        let (done, content) = run(&format!("inject=fsync:error={error}:when=2"));
        assert_eq!((done.code, content.as_str()), (Some(0), NEW), "{done:?}");
        assert!(done.stderr.starts_with("Warning: f: "), "{done:?}");
    }
    let (done, content) = run("inject=fsync:error=EIO:when=1");
    assert_eq!((done.code, content.as_str()), (Some(1), OLD));
    assert!(done.stderr.starts_with("Error: f: "), "{done:?}");
}

/// awrite works on file systems and kernels that lack these abilities.
#[test]
fn missing_abilities_are_worked_around() {
    if !needs_strace() {
        return;
    }
    for way in [&PLAIN, &CREATE, &BACKUP, &APPEND, &FROM_FILE] {
        let sweep = Sweep::new(way);
        for injection in [
            "inject=faccessat2:error=ENOSYS",
            "inject=statx:error=ENOSYS",
            "inject=copy_file_range:error=ENOSYS",
            "inject=copy_file_range:error=EXDEV",
            "inject=copy_file_range:error=EINVAL",
            "inject=copy_file_range:error=EOPNOTSUPP",
            "inject=ioctl:error=EOPNOTSUPP",
            "inject=ioctl:error=ENOTTY",
            "inject=flistxattr:error=EOPNOTSUPP",
            "inject=fsetxattr:error=EOPNOTSUPP",
            "inject=fgetxattr:error=EOPNOTSUPP",
            "inject=renameat2:error=ENOSYS",
            "inject=fcntl:error=EINVAL:when=8+",
        ] {
            let dir = sweep.fixture();
            let done = sweep.program.run_with(&dir, injection);
            if injection.contains("fcntl") && done.code != Some(0) {
                // awrite also looks for closed standard descriptors with fcntl, which fails then.
                continue;
            }
            assert_eq!(done.code, Some(0), "{injection}: {done:?}");
            sweep.assert_content(&dir, Some(way.new), injection);
            assert_eq!(sweep.debris(&dir), [""; 0], "{injection}");
        }
    }
}
