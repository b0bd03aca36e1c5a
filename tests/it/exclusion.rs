//! No two processes ever hold the lock at once. Holders of all kinds run at the same time, and each marks shared memory
//! when it gets the lock and when it gives it back. By default there are a few thousand holds; with
//! `AWRITE_TEST_LONG=1`, 10^5 in all tests.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use awrite::{ErrorKind, FileLock, LockMethod, LockOptions, Wait};
use rustix::process::Signal;

use crate::capi::{Link, compile, source};
use crate::common::{AWRITE, DEADLINE, Done, Running, TestDir, is_quick, rounds, say};

/// How often each command is run, at most.
const RUNS: u64 = 200;
/// Tells [`a_worker_of_other_tests`] its work: the board, the kind, the target.
const WORKER: &str = "AWRITE_TEST_EXCLUSION_WORKER";

// ---------------------------------------------------------------------------------------------------------------------
// The board (tests/c/mark.c has the same in C)

// Places on it. Marks are process IDs.
/// The mark of the exclusive holder.
const ALONE: usize = 0;
/// How often two holders overlapped.
const OVERLAPS: usize = 1;
/// All holds so far, and how many there shall be.
const TOTAL: usize = 2;
const WANTED: usize = 3;
/// How often the mark of a killed holder was found.
const DEAD: usize = 4;
/// Holds of each kind.
const KINDS: usize = 8;
/// The marks of shared holders.
const SHARED: usize = 64;
const NUMBERS: usize = 128;

#[derive(Clone, Copy)]
struct Board(&'static [AtomicU64; NUMBERS]);

impl Board {
    fn create(path: &Path, wanted: u64) -> Board {
        std::fs::write(path, [0; NUMBERS * 8]).unwrap();
        let board = Board::open(path);
        board.0[WANTED].store(wanted, Ordering::SeqCst);
        board
    }

    #[allow(unsafe_code)]
    fn open(path: &Path) -> Board {
        let file = File::options().read(true).write(true).open(path).unwrap();
        // SAFETY: a new mapping, as large as the file, which nobody shortens; it stays until the process ends, and all
        // processes touch it by atomic operations only.
        unsafe {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
            let (size, access) = (NUMBERS * 8, libc::PROT_READ | libc::PROT_WRITE);
            let memory = libc::mmap(std::ptr::null_mut(), size, access, libc::MAP_SHARED, fd, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            Board(&*memory.cast())
        }
    }

    fn get(self, place: usize) -> u64 {
        self.0[place].load(Ordering::SeqCst)
    }

    fn add(self, place: usize) {
        self.0[place].fetch_add(1, Ordering::SeqCst);
    }

    fn is_complete(self) -> bool {
        self.get(TOTAL) >= self.get(WANTED)
    }

    fn overlap(self, other: u64, when: &str) {
        self.add(OVERLAPS);
        eprintln!("overlap: {} finds {other}, {when}", std::process::id());
    }

    /// Checks a place where no mark should be. Only the mark of a killed holder may be there.
    fn must_be_gone(self, place: usize, mark: u64, when: &str) {
        if mark == 0 {
            return;
        }
        if !is_dead(mark) {
            return self.overlap(mark, when);
        }
        self.add(DEAD);
        // Another process that finds it may clear it first.
        let _ = self.0[place].compare_exchange(mark, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The caller must hold the lock.
    fn hold(self, kind: usize, shared: bool, round: u64) {
        if shared {
            self.hold_shared(round)
        } else {
            self.hold_alone(round)
        }
        self.add(KINDS + kind);
        self.add(TOTAL);
    }

    fn hold_alone(self, round: u64) {
        let me = u64::from(std::process::id());
        self.must_be_gone(ALONE, self.0[ALONE].swap(me, Ordering::SeqCst), "coming");
        for place in SHARED..NUMBERS {
            self.must_be_gone(place, self.get(place), "coming among sharers");
        }
        linger(round);
        if let Err(other) = self.0[ALONE].compare_exchange(me, 0, Ordering::SeqCst, Ordering::SeqCst) {
            self.overlap(other, "going");
        }
    }

    fn hold_shared(self, round: u64) {
        let me = u64::from(std::process::id());
        let claim = |place: &usize| {
            let there = self.get(*place);
            (there == 0 || is_dead(there))
                && self.0[*place].compare_exchange(there, me, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let place = (SHARED..NUMBERS).find(claim).unwrap();
        self.must_be_gone(ALONE, self.get(ALONE), "sharing");
        linger(round);
        self.must_be_gone(ALONE, self.get(ALONE), "still sharing");
        self.0[place].store(0, Ordering::SeqCst);
    }
}

/// Lets others run, who would make a mistake now.
fn linger(round: u64) {
    for _ in 0..round % 4 {
        std::thread::yield_now();
    }
}

/// Whether a process has ended or is ending: the kernel sets PF_EXITING (4) before it takes the process's locks away.
fn is_dead(pid: u64) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let mut words = text.rsplit(')').next().unwrap().split_whitespace();
    let (state, flags) = (words.next().unwrap(), words.nth(5).unwrap());
    state == "Z" || state == "X" || flags.parse::<u64>().unwrap() & 4 != 0
}

// ---------------------------------------------------------------------------------------------------------------------
// The holders

/// The kinds of holders, which are counted separately.
const NAMES: [&str; 18] = [
    // The Rust library, each in its own process.
    "wait",
    "timeout",
    "no wait",
    "shared",
    "shared no wait",
    "link",
    // The C library.
    "C wait",
    "C timeout",
    "C no wait",
    "C shared",
    "C link",
    // The commands.
    "awrite-lock",
    "awrite-lock timeout",
    "awrite-lock shared",
    "awrite COMMAND",
    "nested",
    // Processes that are killed.
    "killed holding",
    "killed anywhere",
];

fn kind(name: &str) -> usize {
    NAMES.into_iter().position(|known| known == name).unwrap()
}

/// The options with which a kind of worker takes the lock.
fn options(kind: &str) -> LockOptions {
    let mut options = LockOptions::default();
    match kind {
        "wait" => {}
        "timeout" => options.wait = Wait::For(Duration::from_millis(20)),
        "no wait" => options.wait = Wait::No,
        "shared" => options.shared = true,
        "shared no wait" => (options.shared, options.wait) = (true, Wait::No),
        "link" => options.method = LockMethod::Link,
        other => panic!("{other}"),
    }
    options
}

#[test]
fn a_worker_of_other_tests() {
    let Ok(work) = std::env::var(WORKER) else { return };
    let [board, name, target] = work.split(':').collect::<Vec<_>>().try_into().unwrap();
    let (board, options) = (Board::open(Path::new(board)), options(name));
    let mut round = 0;
    while !board.is_complete() {
        match FileLock::acquire(target, &options) {
            Ok(lock) => {
                board.hold(kind(name), options.shared, round);
                lock.release().unwrap();
                round += 1;
            }
            Err(e) => assert!(matches!(e.kind(), ErrorKind::LockBusy | ErrorKind::LockTimeout), "{e}"),
        }
        if options.shared {
            // Shared holders that follow each other without a gap would keep everybody else out.
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// Who takes part in a test.
#[derive(Default)]
struct Cast {
    /// Workers on the target.
    workers: Vec<&'static str>,
    /// Programs that hold until there have been enough holds.
    programs: Vec<String>,
    /// Commands that are run again and again.
    commands: Vec<String>,
    /// Programs that kill themselves while they hold the lock.
    suicides: Vec<String>,
    /// Programs that are killed at any moment.
    victims: Vec<String>,
}

struct Scene {
    target: &'static str,
    /// Only the target, and its lock while somebody has it.
    dir: TestDir,
    /// What else is needed.
    aside: TestDir,
    board: Board,
    program: PathBuf,
}

impl Scene {
    fn new(target: &'static str, wanted: u64) -> Scene {
        let aside = TestDir::new();
        let program = compile(&aside, &source("mark.c"), Link::Shared, &[]);
        let board = Board::create(&aside.join("board"), wanted);
        Scene { target, dir: TestDir::new(), aside, board, program }
    }

    /// The words of a program that takes the lock, or marks the board under somebody's lock.
    fn mark(&self, name: &str, how: &str) -> String {
        format!("{} {} {} {how}", self.program.display(), self.aside.join("board").display(), kind(name))
    }

    /// The words of a command under whose lock two of these run side by side, which take it too.
    fn nested(&self, lock: &str, how: &str) -> String {
        let one = self.mark("nested", how);
        format!("{lock} sh -c '{one} & other=$!; {one} && wait $other'")
    }

    fn play(&self, cast: &Cast) {
        let started = Instant::now();
        let worker = |name: &&str| {
            let program = std::env::current_exe().unwrap();
            let work = format!("{}:{name}:{}", self.aside.join("board").display(), self.target);
            let args = ["--exact", "exclusion::a_worker_of_other_tests", "--nocapture"];
            self.dir.program(program, args).env(WORKER, work)
        };
        let programs = cast.programs.iter().map(|script| self.dir.sh(&format!("exec {script}")));
        let mut running: Vec<Running> =
            cast.workers.iter().map(worker).chain(programs).map(|run| run.spawn()).collect();
        std::thread::scope(|scope| {
            for script in &cast.commands {
                scope.spawn(|| self.repeat(script));
            }
            for script in &cast.suicides {
                scope.spawn(|| self.see_die(script));
            }
            for script in &cast.victims {
                scope.spawn(|| self.kill(script));
            }
            for one in &mut running {
                self.wait_for(one);
            }
        });
        for done in running.into_iter().map(Running::finish) {
            assert_sound(&done);
            done.ok();
        }
        self.say(started.elapsed());
        assert_eq!(self.board.get(OVERLAPS), 0);
    }

    /// Waits before the next process is started: it holds the lock for far longer than the others.
    fn pause(&self) {
        let until = self.board.get(TOTAL) + self.board.get(WANTED) / RUNS;
        while !self.board.is_complete() && self.board.get(TOTAL) < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs a command again and again until there have been enough holds.
    fn repeat(&self, script: &str) {
        while !self.board.is_complete() {
            self.pause();
            let mut running = self.dir.sh(&format!("exec {script}")).spawn();
            self.wait_for(&mut running);
            let done = running.finish();
            // 2: it did not get the lock in time.
            assert!(matches!(done.code, Some(0 | 2)), "{script}: {done:?}");
            assert_sound(&done);
        }
    }

    /// The last processes are not killed, so that they clean up after the killed ones.
    fn may_kill(&self) -> bool {
        self.board.get(TOTAL) < self.board.get(WANTED) / 10 * 8
    }

    fn see_die(&self, script: &str) {
        while self.may_kill() {
            self.pause();
            let mut running = self.dir.sh(&format!("exec {script}")).spawn();
            self.wait_for(&mut running);
            let done = running.finish();
            assert_sound(&done);
            assert_eq!(done.signal, Some(9), "{script}: {done:?}");
        }
    }

    fn kill(&self, script: &str) {
        let mut round = 0;
        while self.may_kill() {
            self.pause();
            let running = self.dir.sh(&format!("exec {script}")).spawn();
            round += 1;
            // Not a wait for a condition: the kill comes at any point of its run.
            std::thread::sleep(Duration::from_micros(1500 + round * 977 % 20_000));
            running.signal(Signal::KILL);
            assert_sound(&running.finish());
        }
    }

    /// Waits for the end of a process, as long as anybody still gets the lock.
    fn wait_for(&self, running: &mut Running) {
        let mut last = (self.board.get(TOTAL), Instant::now());
        let mut swept = Instant::now();
        while !running.has_ended() {
            let total = self.board.get(TOTAL);
            if total != last.0 {
                last = (total, Instant::now());
            }
            // On a machine that stalls, a process may be killed after all others have come. Then nobody takes over its
            // empty lock file, and processes that lock by link(2) wait until the file is gone.
            let quiet = last.1.elapsed().min(swept.elapsed()) > Duration::from_secs(5);
            if quiet && self.board.is_complete() {
                self.dir.awrite(["housekeep", "-q", "--clean-locks", "--older-than", "0"]).run().ok();
                swept = Instant::now();
            }
            // If the whole machine stalls for long, a holder leaves its link lock as it is. This is longer than it
            // takes others to break such a lock.
            assert!(last.1.elapsed() < 3 * DEADLINE, "nobody has got the lock for long, after {total} holds");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn say(&self, took: Duration) {
        let mut counts = Vec::new();
        for name in NAMES {
            match self.board.get(KINDS + kind(name)) {
                0 => {}
                n => counts.push(format!("{name} {n}")),
            }
        }
        let (holds, dead, overlaps) = (self.board.get(TOTAL), self.board.get(DEAD), self.board.get(OVERLAPS));
        let line = format!("{holds} holds in {took:.1?}, {overlaps} overlaps, {dead} killed while holding");
        say(&format!("{line}: {}", counts.join(", ")));
    }

    /// Checks that every kind has held the lock. With few holds, some kind may have had none.
    #[track_caller]
    fn assert_all_had_it(&self, names: &[&str]) {
        if is_quick() {
            return;
        }
        for name in names {
            assert!(self.board.get(KINDS + kind(name)) > 0, "{name} never had it");
        }
        assert!(self.board.get(DEAD) > 0, "nobody was killed while holding it");
    }
}

#[track_caller]
fn assert_sound(done: &Done) {
    assert!(!done.stderr.contains("overlap"), "{}", done.stderr);
}

/// How many holds there are in each of two tests.
fn wanted() -> u64 {
    rounds(5000, 50_000)
}

#[test]
fn never_two_at_once() {
    let scene = Scene::new("f", wanted());
    scene.dir.file("f", "");
    let mark = |name: &str, how: &str| scene.mark(name, how);
    let lock = |options: &str, command: String| format!("{AWRITE} lock {options} f -- {command}");
    scene.play(&Cast {
        workers: vec!["wait", "wait", "timeout", "timeout", "no wait", "shared", "link"],
        programs: vec![
            mark("C wait", "wait f flock 0"),
            mark("C timeout", "timed f flock 0"),
            mark("C no wait", "try f flock 0"),
            mark("C shared", "shared f flock 0"),
        ],
        commands: vec![
            lock("", mark("awrite-lock", "hold 1")),
            lock("-q -t 20ms", mark("awrite-lock timeout", "hold 1")),
            lock("-s", mark("awrite-lock shared", "shared-hold 1")),
            format!("{AWRITE} --allow-empty f -- {}", mark("awrite COMMAND", "hold 1")),
            scene.nested(&lock("", String::new()), "wait f flock 20"),
        ],
        suicides: vec![mark("killed holding", "wait f flock -5"), mark("killed holding", "shared f flock -5")],
        // The second victim dies while it waits, or while its command runs, which then keeps the lock.
        victims: vec![mark("killed anywhere", "wait f flock 0"), lock("", mark("killed anywhere", "hold 20"))],
    });
    // Except two kinds: a locker by link(2) seldom gets the lock beside many by flock, and a victim may die too early.
    scene.assert_all_had_it(&[&NAMES[..4], &NAMES[6..10], &NAMES[11..17]].concat());
    scene.dir.assert_holds(&["f"]);
}

/// Above, somebody nearly always waits, so the lock file stays. Here it comes and goes with each holder, while others
/// have it open and are not registered as waiters.
#[test]
fn never_two_at_once_where_hardly_anybody_waits() {
    let scene = Scene::new("f", wanted());
    let mark = |name: &str, how: &str| scene.mark(name, how);
    scene.play(&Cast {
        workers: vec!["no wait", "no wait", "shared no wait", "shared no wait"],
        programs: vec![mark("C no wait", "try f flock 0"), mark("C no wait", "try f flock 0")],
        commands: vec![
            format!("{AWRITE} lock -qn f -- {}", mark("awrite-lock", "hold 1")),
            format!("{AWRITE} housekeep -q --clean-locks --older-than 0"),
        ],
        suicides: vec![mark("killed holding", "wait f flock -5")],
        victims: vec![mark("killed anywhere", "try f flock 0")],
    });
    scene.assert_all_had_it(&["no wait", "shared no wait", "C no wait", "killed holding"]);
    scene.dir.assert_holds(&[]);
}

/// The same by link(2), which is slower: every hold syncs a file.
#[test]
fn never_two_at_once_by_link() {
    let scene = Scene::new("l", wanted() / 20);
    scene.dir.file("l", "");
    let mark = |name: &str, how: &str| scene.mark(name, how);
    let lock = format!("{AWRITE} lock --lock-method link l");
    scene.play(&Cast {
        workers: vec!["link", "link"],
        programs: vec![
            mark("C link", "wait l link 0"),
            mark("C timeout", "timed l link 0"),
            mark("C no wait", "try l link 0"),
        ],
        commands: vec![
            format!("{lock} -- {}", mark("awrite-lock", "hold 1")),
            format!("{AWRITE} --lock-method link --allow-empty l -- {}", mark("awrite COMMAND", "hold 1")),
            scene.nested(&format!("{lock} --"), "wait l link 5"),
        ],
        suicides: vec![mark("killed holding", "wait l link -1")],
        victims: vec![mark("killed anywhere", "wait l link 0")],
    });
    scene.assert_all_had_it(&["link", "C link", "awrite-lock", "awrite COMMAND", "nested"]);
    // A waiter has a file too, and so has a process that breaks a dead holder's lock. If it is killed, the file stays.
    scene.dir.awrite(["housekeep", "-q", "--clean-temps", "--clean-locks", "--older-than", "0"]).run().ok();
    scene.dir.assert_holds(&["l"]);
}
