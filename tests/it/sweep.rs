//! Goes through the system calls of a run. strace first lists them. Then, in a run for each, it kills the process at
//! that call or lets the call fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{AWRITE, Done, Extent, TestDir, extent, wait_until};

/// One run of the program.
pub(crate) struct Program<'a> {
    pub(crate) args: Vec<String>,
    pub(crate) input: &'a str,
    /// What strace injects into every run.
    pub(crate) always: Option<&'static str>,
    /// It starts a program that is not ours: COMMAND, or a shell.
    pub(crate) has_command: bool,
}

/// A system call to strike at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) number: usize,
    /// Strikes in every thread and child that makes this call; otherwise in the first thread of the process only.
    pub(crate) follow: bool,
}

/// Which program a strike hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Nobody,
    /// This program, any of its threads, or a child that has not become another program yet.
    Us,
    /// COMMAND alone.
    Command,
}

impl Program<'_> {
    fn strace(&self, dir: &TestDir, follow: bool, options: &[&str]) -> (Done, String) {
        let mut args = vec!["-o", "trace"];
        if follow {
            args.push("-f");
            // Then only the traced calls stop the process, which is far quicker. strace then does not inject signals.
            let has = |what: &str| options.iter().any(|option| option.contains(what));
            if has("trace=") && !has("signal=") {
                args.push("--seccomp-bpf");
            }
        }
        for option in self.always.iter().chain(options) {
            args.extend(["-e", option]);
        }
        args.push(AWRITE);
        args.extend(self.args.iter().map(String::as_str));
        let mut running = dir.program("strace", args).env("TMPDIR", dir.path()).stdin(self.input).spawn();
        wait_until(&format!("{:?} with {options:?} has ended", self.args), || running.has_ended());
        let done = running.finish();
        let trace = fs::read_to_string(dir.join("trace")).unwrap_or_else(|e| panic!("{e}: {done:?}"));
        fs::remove_file(dir.join("trace")).unwrap();
        (done, trace)
    }

    /// An undisturbed run: its outcome, and every call that can be struck at. Calls of the dynamic loader, which runs
    /// before the program, are among them in the long form only.
    pub(crate) fn points(&self, dir: &TestDir) -> (Done, BTreeSet<Point>) {
        let (done, trace) = self.strace(dir, true, &[]);
        let (main, others) = calls(&trace, extent() < Extent::Long);
        let mut points = BTreeSet::new();
        for (follow, calls) in [(!self.has_command, main), (true, others)] {
            for (call, (before, count)) in calls {
                // With several threads, another run may make one call more.
                points.extend((before + 1..=count + 1).map(|number| Point { call: call.clone(), number, follow }));
            }
        }
        (done, points)
    }

    /// A run with strace's `option`.
    pub(crate) fn run_with(&self, dir: &TestDir, option: &str) -> Done {
        self.strace(dir, true, &[option]).0
    }

    fn strike(&self, dir: &TestDir, point: &Point, what: &str) -> (Done, String) {
        let Point { call, number, .. } = point;
        // execve shows which children have become another program.
        let traced = format!("trace={call},linkat{}", if point.follow { ",execve" } else { "" });
        self.strace(dir, point.follow, &[&traced, &format!("inject={call}:{what}:when={number}")])
    }

    /// The run is killed right before the call.
    pub(crate) fn kill_at(&self, dir: &TestDir, point: &Point) -> (Done, Met) {
        let (done, trace) = self.strike(dir, point, "signal=KILL");
        let met = match done.signal {
            Some(9) => Met::Us,
            _ if trace.contains("+++ killed by SIGKILL +++") => Met::Command,
            _ => Met::Nobody,
        };
        (done, met)
    }

    /// The call fails with `error`.
    pub(crate) fn fail_at(&self, dir: &TestDir, point: &Point, error: &str) -> (Done, Met) {
        if point.call == "close" {
            let (done, closes) = self.close_fails_at(dir, point, error);
            let failed = closes.iter().any(|close| close.error == error_number(error));
            return (done, if failed { Met::Us } else { Met::Nobody });
        }
        let (done, trace) = self.strike(dir, point, &format!("error={error}"));
        let mut strangers = BTreeSet::new();
        let mut met = Met::Nobody;
        let first = trace.split_whitespace().next().unwrap_or_default();
        for (number, line) in trace.lines().enumerate() {
            let task = line.split_whitespace().next().unwrap_or_default();
            if point.follow && number > 0 && becomes_another(line) {
                strangers.insert(task);
            }
            if line.contains("(INJECTED)") && line.contains(point.call.as_str()) {
                let ours = !point.follow || task == first || !strangers.contains(task);
                met = if ours || met == Met::Us { Met::Us } else { Met::Command };
            }
        }
        (done, met)
    }
}

/// A call of close(2) that is the program's own.
#[derive(Debug)]
pub(crate) struct Close {
    /// What the caller was told. 0 is success.
    pub(crate) error: i32,
    pub(crate) file: String,
}

impl Program<'_> {
    /// A run in which the call `point` of close(2) closes the descriptor and returns `error`, and all of its calls. strace
    /// would leave the descriptor open, with the locks on it. Panics when a descriptor is closed that is not open: a second
    /// attempt, by which another thread can lose the descriptor that it has just opened (close(2), "Dealing with error
    /// returns from close()").
    pub(crate) fn close_fails_at(&self, dir: &TestDir, point: &Point, error: &str) -> (Done, Vec<Close>) {
        assert!(self.always.is_none(), "strace cannot inject more: a process has one tracer");
        let which = if point.follow { "all" } else { "first" };
        let (number, error) = (point.number.to_string(), error_number(error).to_string());
        let args = ["closes", which, &number, &error, AWRITE].into_iter().chain(self.args.iter().map(String::as_str));
        let mut running = dir.program(close_fails(), args).env("TMPDIR", dir.path()).stdin(self.input).spawn();
        wait_until(&format!("{:?} with {error} from close has ended", self.args), || running.has_ended());
        let done = running.finish();
        let log = fs::read_to_string(dir.join("closes")).unwrap_or_else(|e| panic!("{e}: {done:?}"));
        fs::remove_file(dir.join("closes")).unwrap();
        let close = |line: &str| {
            let mut words = line.splitn(5, ' ').skip(3);
            Close { error: words.next().unwrap().parse().unwrap(), file: words.next().unwrap().to_owned() }
        };
        let closes: Vec<Close> = log.lines().map(close).collect();
        let twice = closes.iter().any(|close| close.error == libc::EBADF);
        assert!(!twice || is_loader(&done), "closed twice, {done:?}:\n{log}");
        (done, closes)
    }
}

/// Whether the dynamic loader has failed, so that our program has not run.
fn is_loader(done: &Done) -> bool {
    done.code == Some(127) && done.stderr.contains("error while loading shared libraries")
}

/// tests/c/close_fails.c, built.
fn close_fails() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("close_fails");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/close_fails.c");
        let output = Command::new("cc").arg("-o").args([&program, &source]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        program
    })
}

fn error_number(name: &str) -> i32 {
    match name {
        "EIO" => libc::EIO,
        "EINTR" => libc::EINTR,
        "ENOSPC" => libc::ENOSPC,
        "EDQUOT" => libc::EDQUOT,
        _ => panic!("no error of close(2): {name}"),
    }
}

/// Whether this line says that the process becomes another program.
fn becomes_another(line: &str) -> bool {
    line.contains("execve(") && !line.contains(" = -1 ")
}

/// For each system call: how many of them the dynamic loader makes, and how many there are in all. Of the other
/// threads, and of children before they become another program, the one with the most calls counts.
type Calls = BTreeMap<String, (usize, usize)>;

fn calls(trace: &str, without_loader: bool) -> (Calls, Calls) {
    let mut tasks: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut loader: Option<BTreeMap<&str, usize>> = None;
    let mut strangers = BTreeSet::new();
    let main = trace.split_whitespace().next().unwrap();
    for (number, line) in trace.lines().enumerate() {
        let Some((task, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        // Skip signals, exits, and the second halves of calls.
        if strangers.contains(task) || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        // The first thing that the program does is to ignore SIGPIPE.
        if without_loader && loader.is_none() && call.trim_start().starts_with("rt_sigaction(SIGPIPE") {
            loader = tasks.get(main).cloned();
        }
        *tasks.entry(task).or_default().entry(name).or_default() += 1;
        if number > 0 && becomes_another(line) {
            strangers.insert(task);
        }
    }
    let loader = loader.unwrap_or_default();
    let (mut own, mut others) = (Calls::new(), Calls::new());
    for (task, seen) in &tasks {
        for (&name, &count) in seen {
            let before = loader.get(name).copied().unwrap_or(0);
            if *task == main && count > before {
                own.insert(name.to_owned(), (before, count));
            } else if *task != main {
                let most = others.entry(name.to_owned()).or_insert((0, count));
                most.1 = most.1.max(count);
            }
        }
    }
    (own, others)
}
