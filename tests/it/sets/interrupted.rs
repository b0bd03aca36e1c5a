//! A writer that is killed at each of its system calls, or one of them fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    BACKED_UP, FILES, LEASED, LINKED, MANY, NEW, PLAIN, Way, assert_whole, debris, lay_out, leases, take_locks,
};
use crate::common::{
    Extent, Run, Running, TestDir, extent, is_quick, needs, needs_strace, rounds, temp_name, wait_until,
};
use crate::protocol::OF_NO_INTEREST;
use crate::sweep::{Met, Point, Program};
use rustix::process::{Pid, Signal};

struct Sweep<'a> {
    way: &'a Way,
    leases: Vec<Vec<u8>>,
    program: Program<'a>,
    points: Vec<Point>,
}

impl Sweep<'_> {
    fn new(way: &Way) -> Sweep<'_> {
        let args = way.args.iter().map(|arg| (*arg).to_owned()).collect();
        let program = Program { args, input: "", always: None, has_command: false };
        let mut sweep = Sweep { way, leases: leases(), program, points: Vec::new() };
        let dir = sweep.fixture();
        let (done, points) = sweep.program.points(&dir);
        done.ok();
        assert!(assert_whole(dir.path(), way, &sweep.leases, "nothing"));
        assert!(debris(dir.path(), way).is_empty());
        // Where there are many files, most calls come once for each, and whoever comes next takes as many locks.
        let step = match extent() {
            Extent::Quick => 12,
            Extent::Full => 1 + points.len() / if way.more { 80 } else { 300 },
            Extent::Long => 1,
        };
        let first = way.args.iter().map(|arg| arg.len()).sum::<usize>() % step;
        let of_interest = points.into_iter().filter(|point| !OF_NO_INTEREST.contains(&point.call.as_str()));
        sweep.points = of_interest.skip(first).step_by(step).collect();
        sweep
    }

    fn fixture(&self) -> TestDir {
        let dir = TestDir::new();
        lay_out(dir.path(), self.way, &self.leases);
        dir
    }

    fn each(&self, strike: impl Fn(&Point)) {
        let strike = |point: &Point| catch_unwind(AssertUnwindSafe(|| strike(point))).is_err();
        let violations = self.points.iter().filter(|point| strike(point)).count();
        assert_eq!(violations, 0, "violations, of {} system calls; see above", self.points.len());
    }

    /// What a killed writer may leave that no record leads to: names that the next one takes over, and a journal that no
    /// record names.
    fn assert_may_be_left(&self, dir: &TestDir, what: &str) {
        let draft = |file: &str| {
            let (dir, name) = file.rsplit_once('/').unwrap();
            format!("{dir}/{}", temp_name(&format!("{name}.lease")))
        };
        let drafts: Vec<String> = self.way.files().into_iter().map(draft).collect();
        for name in debris(dir.path(), self.way) {
            let is_journal = name.starts_with("d/.awrite-set-") && !name.ends_with(".tmp");
            let of_link = self.way.link && name.contains(".lease");
            assert!(is_journal || of_link || drafts.contains(&name), "{what}: {name} is left");
        }
    }

    fn kill_everywhere(&self) {
        self.each(|point| {
            let dir = self.fixture();
            let what = format!("SIGKILL at {} number {} of {:?}", point.call, point.number, self.program.args);
            let (done, met) = self.program.kill_at(&dir, point);
            if met == Met::Nobody {
                done.ok();
            }
            take_locks(&dir, dir.path(), self.way, &what);
            assert_whole(dir.path(), self.way, &self.leases, &what);
            self.assert_may_be_left(&dir, &what);
            dir.awrite(self.way.args).run().ok();
            assert!(assert_whole(dir.path(), self.way, &self.leases, &what));
        });
    }

    fn fail_everywhere(&self) {
        self.each(|point| {
            // One of them by turns, unless there is time for all.
            let errors = if point.call == "close" { &["EIO"][..] } else { &["EIO", "ENOSPC", "EACCES"] };
            let (first, count) = if extent() == Extent::Long { (0, 3) } else { (point.number % errors.len(), 1) };
            for error in errors.iter().skip(first).take(count) {
                let dir = self.fixture();
                let what = format!("{error} from {} number {} of {:?}", point.call, point.number, self.program.args);
                let (done, met) = self.program.fail_at(&dir, point, error);
                if met == Met::Nobody {
                    done.ok();
                    continue;
                }
                for bad in ["panicked", "internal error", "os error"] {
                    assert!(!done.stderr.contains(bad), "{what}: {done:?}");
                }
                let left = debris(dir.path(), self.way);
                let replaced = self.way.files().into_iter().all(|file| dir.read(file) == NEW);
                take_locks(&dir, dir.path(), self.way, &what);
                let new = assert_whole(dir.path(), self.way, &self.leases, &what);
                assert!(done.code != Some(0) || replaced, "{what}: {done:?}");
                if !new && !is_loader(&done.stderr) {
                    // What a call that removes a name refuses to remove stays.
                    let excused = point.call.starts_with("unlink") || point.call == "statx" || point.call == "flock";
                    assert!(left.is_empty() || excused, "{what}: {left:?}: {done:?}");
                }
            }
        });
    }
}

fn is_loader(stderr: &str) -> bool {
    stderr.contains("error while loading shared libraries")
}

macro_rules! ways {
    ($($name:ident $way:ident)*) => {
        $(mod $name {
            #[test]
            fn killed_it_is_all_old_or_all_new() {
                if crate::common::needs_strace() {
                    super::Sweep::new(&super::$way).kill_everywhere();
                }
            }

            #[test]
            fn failing_it_is_all_old_or_all_new() {
                if crate::common::needs_strace() {
                    super::Sweep::new(&super::$way).fail_everywhere();
                }
            }
        })*
    };
}

ways! { plain PLAIN many MANY backed_up BACKED_UP leased LEASED linked LINKED }

/// Kills a writer before its system call number `number`, so that a set is left half-way.
fn left_half_way(way: &Way, call: &str, number: usize) -> TestDir {
    let dir = TestDir::new();
    lay_out(dir.path(), way, &[]);
    let args = way.args.iter().map(|arg| (*arg).to_owned()).collect();
    let program = Program { args, input: "", always: None, has_command: false };
    let point = Point { call: call.to_owned(), number, follow: true };
    assert_eq!(program.kill_at(&dir, &point).1, Met::Us);
    dir
}

/// Which renameat(2) is the commit point.
const COMMIT: usize = 1;

/// Each target is finished or taken back by whoever touches it first, whatever that is.
#[test]
fn every_command_finishes_what_it_touches() {
    if !needs_strace() {
        return;
    }
    let touch: &[&[&str]] = &[
        &["lock", "-s", "d/b", "--", "true"],
        &["lock", "--acquire", "--owner=A", "--ttl=1s", "d/b"],
        &["lock", "--break", "d/b"],
        &["lock", "--release", "--owner=A", "d/b"],
        &["-i", "src/b", "--if-changed", "d/b"],
        &["d/b", "--", "cat"],
    ];
    for (number, expected) in [(COMMIT, super::OLD), (COMMIT + 1, NEW)] {
        for args in touch.iter().skip((number + 1) % 2).step_by(if is_quick() { 2 } else { 1 }) {
            let dir = left_half_way(&PLAIN, "renameat", number);
            assert_eq!(dir.read("d/b"), super::OLD);
            let writes = args[0] == "-i";
            dir.awrite(*args).run().ok();
            assert_eq!(dir.read("d/b"), if writes { NEW } else { expected }, "{args:?}");
            // Nobody has touched the others.
            assert_eq!([dir.read("d/a"), dir.read("d/x/c")], [super::OLD, super::OLD], "{args:?}");
            assert!(dir.join("d/a.lease").exists() && dir.join("d/x/c.lease").exists());
        }
    }
}

/// Many who share the lock come at once. The lease that was there is over, and its token is not forgotten.
#[test]
fn of_those_who_share_the_lock_one_finishes_it() {
    if !needs_strace() {
        return;
    }
    for _ in 0..rounds(3, 20) {
        let dir = TestDir::new();
        lay_out(dir.path(), &PLAIN, &[]);
        dir.awrite(["lock", "--acquire", "--owner=A", "--ttl=1ms", "d/b"]).run().ok();
        let lease = dir.read("d/b.lease");
        let args = PLAIN.args.iter().map(|arg| (*arg).to_owned()).collect();
        let program = Program { args, input: "", always: None, has_command: false };
        let point = Point { call: "renameat".to_owned(), number: COMMIT + 2, follow: true };
        assert_eq!(program.kill_at(&dir, &point).1, Met::Us);
        let all: Vec<_> = (0..12).map(|_| dir.awrite(["lock", "-qs", "d/b", "--", "cat", "d/b"]).spawn()).collect();
        for one in all {
            let done = one.finish();
            assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), NEW, ""));
        }
        assert_eq!(dir.read("d/b.lease"), lease);
    }
}

/// What stands in the way is said, and that all goes on without it.
#[test]
fn what_cannot_be_finished_is_finished_later() {
    if !needs_strace() {
        return;
    }
    let dir = left_half_way(&PLAIN, "renameat", COMMIT + 1);
    std::fs::remove_file(dir.join("d/b")).unwrap();
    dir.dir("d/b");
    let lock = |file: &str| dir.awrite(["lock", "-q", file, "--", "true"]).run();
    lock("d/b").assert_error(1, "Error: d/b: cannot finish the set of files that it is part of: Is a directory");
    std::fs::remove_dir(dir.join("d/b")).unwrap();
    lock("d/b").ok();
    assert_eq!(dir.read("d/b"), NEW);
    // The journal is lost.
    let name = debris(dir.path(), &PLAIN).into_iter().find(|name| name.contains(".awrite-set-")).unwrap();
    std::fs::rename(dir.join("d/x"), dir.join("x")).unwrap();
    let hint = format!("make x/../{} available again; or remove x/c.lease", name.strip_prefix("d/").unwrap());
    lock("x/c").assert_says(1, &hint);
    std::fs::remove_file(dir.join("x/c.lease")).unwrap();
    lock("x/c").ok();
}

/// A look changes nothing, and shows no lease where there is none.
#[test]
fn a_look_shows_the_lease_that_comes_back() {
    if !needs_strace() {
        return;
    }
    let dir = left_half_way(&PLAIN, "renameat", COMMIT);
    let before = debris(dir.path(), &PLAIN);
    let status = || dir.awrite(["lock", "--status", "d/a"]).run().ok().stdout.clone();
    let said = status();
    let interrupted = "d/a: Part of a replacement of several files that was interrupted; who locks it next ";
    assert!(said.starts_with(&format!("d/a: Free\n{interrupted}")), "{said}");
    let json = dir.awrite(["lock", "--status", "--json", "d/a"]).run().ok().stdout.clone();
    assert!(json.contains(r#""free":true"#) && json.contains(r#""interrupted":true"#), "{json}");
    dir.awrite(["lock", "--list", "d"]).run().ok();
    if needs("flock") {
        // Its writer may live.
        let held = dir.sh("flock d/a.lock \"$BIN\" lock --status d/a").run();
        assert!(held.code == Some(2) && !held.stdout.contains("interrupted"), "{held:?}");
    }
    assert_eq!(debris(dir.path(), &PLAIN), before);
    dir.awrite(["lock", "-q", "d/a", "--", "true"]).run().ok();
    assert_eq!(status(), "d/a: Free\n");
}

#[test]
fn housekeeping_finishes_and_takes_back() {
    if !needs_strace() {
        return;
    }
    for (number, new) in [(COMMIT, false), (COMMIT + 1, true), (COMMIT + 2, true)] {
        let dir = left_half_way(&BACKED_UP, "renameat", number);
        let before = debris(dir.path(), &BACKED_UP);
        dir.awrite(["housekeep", "--clean-temps", "-r", "-n", "d"]).run().ok();
        assert_eq!(debris(dir.path(), &BACKED_UP), before, "a dry run changes nothing");
        dir.awrite(["housekeep", "--all", "-r", "d"]).run().ok();
        assert_eq!(assert_whole(dir.path(), &BACKED_UP, &[], "housekeeping"), new);
        let left = debris(dir.path(), &BACKED_UP);
        assert!(left.iter().all(|name| name.ends_with(".lock")), "{left:?}");
        // Nothing more to do.
        let done = dir.awrite(["housekeep", "--clean-temps", "-r", "d"]).run();
        assert_eq!(done.ok().stdout, "");
    }
}

/// A writer that is told to stop takes everything back, up to the commit.
#[test]
fn a_signal_takes_it_back() {
    if !needs_strace() {
        return;
    }
    for (call, number) in
        [("fsync", 1), ("fsync", 4), ("linkat", 6), ("linkat", 7), ("linkat", 10), ("linkat", 11), ("linkat", 12)]
    {
        let dir = TestDir::new();
        lay_out(dir.path(), &BACKED_UP, &[]);
        let inject = format!("inject={call}:signal=TERM:when={number}");
        let strace = ["-f", "-o", "trace", "-e", &inject, crate::common::AWRITE];
        let mut running = dir.program("strace", strace.iter().chain(BACKED_UP.args)).spawn();
        wait_until("it has ended", || running.has_ended());
        let done = running.finish();
        let new = assert_whole(dir.path(), &BACKED_UP, &[], &inject);
        assert_eq!((done.code, new), (Some(3), false), "{inject}: {done:?}");
        assert!(debris(dir.path(), &BACKED_UP).is_empty(), "{inject}: {:?}", debris(dir.path(), &BACKED_UP));
    }
}

/// The writer under strace, whose calls are in the file `trace`.
fn traced(dir: &TestDir, inject: &[&str]) -> Run {
    let strace = ["-f", "-o", "trace", "-e", "trace=linkat,renameat,unlinkat"];
    dir.program("strace", strace.iter().chain(inject).chain(&[crate::common::AWRITE]).chain(PLAIN.args))
}

/// A writer that is stopped when all its files have their names, and which process to continue.
fn stopped_before_commit() -> (TestDir, Running, Pid) {
    let dir = TestDir::new();
    lay_out(dir.path(), &PLAIN, &[]);
    traced(&dir, &[]).run().ok();
    let before_commit = dir.read("trace").split("renameat(").next().unwrap().matches(" linkat(").count();

    let dir = TestDir::new();
    lay_out(dir.path(), &PLAIN, &[]);
    let running = traced(&dir, &["-e", &format!("inject=linkat:signal=STOP:when={before_commit}")]).spawn();
    let mut pid = None;
    wait_until("it has stopped", || {
        let trace = std::fs::read_to_string(dir.join("trace")).unwrap_or_default();
        pid = trace.lines().find(|line| line.contains("stopped by SIGSTOP")).map(|line| {
            let pid = line.split_whitespace().next().and_then(|pid| pid.parse().ok());
            Pid::from_raw(pid.unwrap()).unwrap()
        });
        pid.is_some()
    });
    (dir, running, pid.unwrap())
}

/// Whoever takes the set back removes the draft of the journal, which is the one thing that decides.
#[test]
fn a_set_that_was_taken_back_is_not_committed() {
    if !needs_strace() {
        return;
    }
    let (dir, running, pid) = stopped_before_commit();
    let draft = debris(dir.path(), &PLAIN).into_iter().find(|name| name.ends_with(".tmp")).unwrap();
    std::fs::remove_file(dir.join(draft)).unwrap();
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    let done = running.finish();
    assert_eq!((done.code, assert_whole(dir.path(), &PLAIN, &[], "the draft is gone")), (Some(2), false), "{done:?}");
    assert!(done.stderr.contains("Lock lost: another process has taken the set back"), "{done:?}");
    assert!(debris(dir.path(), &PLAIN).is_empty(), "{:?}", debris(dir.path(), &PLAIN));
}

/// All is replaced then. A record that stays is the next one's to remove, and so is a journal.
#[test]
fn a_record_or_a_journal_that_cannot_be_removed_is_told() {
    if !needs_strace() {
        return;
    }
    for (name, told, left) in [
        ("\"a.lease\"", "d/a.lease: cannot restore the lease: Input/output error", "d/a.lease"),
        ("\".awrite-set-", ": cannot remove the journal: Input/output error", "d/.awrite-set-"),
    ] {
        cannot_remove(name, told, left);
    }
}

fn cannot_remove(name: &str, told: &str, left: &str) {
    let dir = TestDir::new();
    lay_out(dir.path(), &PLAIN, &[]);
    traced(&dir, &[]).run().ok();
    let trace = dir.read("trace");
    let mut removals = trace.lines().filter(|line| line.contains(" unlinkat("));
    let removal = 1 + removals.position(|call| call.contains(name)).unwrap();

    let dir = TestDir::new();
    lay_out(dir.path(), &PLAIN, &[]);
    let done = traced(&dir, &["-e", &format!("inject=unlinkat:error=EIO:when={removal}")]).run();
    done.assert_says(1, told);
    assert!(assert_whole(dir.path(), &PLAIN, &[], told));
    assert!(debris(dir.path(), &PLAIN).iter().any(|name| name.starts_with(left)), "{told}");
    take_locks(&dir, dir.path(), &PLAIN, told);
    dir.awrite(["housekeep", "--clean-temps", "-r", "d"]).run().ok();
    assert!(debris(dir.path(), &PLAIN).is_empty(), "{:?}", debris(dir.path(), &PLAIN));
}

/// A writer that is stopped, and loses its link locks, finds out when it wakes up. What it would still rename is gone.
#[test]
fn a_writer_that_sleeps_too_long_replaces_nothing_more() {
    if !needs_strace() {
        return;
    }
    // It stops right behind the call. Behind the commit the others finish the set, and then replace what it has made.
    for (call, number, code) in [("fsync", 2, 2), ("renameat", COMMIT, 0), ("renameat", COMMIT + 1, 0)] {
        let dir = TestDir::new();
        lay_out(dir.path(), &LINKED, &[]);
        let inject = format!("inject={call}:signal=STOP:when={number}");
        let strace = ["-f", "-o", "trace", "-e", &inject, crate::common::AWRITE];
        let run = dir.program("strace", strace.iter().chain(LINKED.args)).env("AWRITE_STALE_AFTER", "1");
        let running = run.spawn();
        wait_until("it has stopped", || {
            std::fs::read_to_string(dir.join("trace")).is_ok_and(|trace| trace.contains("stopped by SIGSTOP"))
        });
        let trace = std::fs::read_to_string(dir.join("trace")).unwrap();
        let line = trace.lines().find(|line| line.contains("stopped by SIGSTOP")).unwrap();
        let pid = rustix::process::Pid::from_raw(line.split_whitespace().next().unwrap().parse().unwrap()).unwrap();
        for file in FILES {
            let args = ["--lock-method=link", "--timeout=20", "-q", file];
            dir.awrite(args).env("AWRITE_STALE_AFTER", "1").stdin("mine\n").run().ok();
        }
        rustix::process::kill_process(pid, Signal::CONT).unwrap();
        let done = running.finish();
        assert_eq!(done.code, Some(code), "{inject}: {done:?}");
        assert_eq!(FILES.map(|file| dir.read(file)), ["mine\n"; 3], "{inject}");
        assert!(debris(dir.path(), &LINKED).is_empty(), "{inject}: {:?}", debris(dir.path(), &LINKED));
    }
}
