//! Killed before any system call, or with any one of them failing: the file is the old one or the new one, the next
//! writer gets the lock at once, and nothing is left but what was promised. strace does the killing and the failing.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;

use crate::common::{AWRITE, Done, TestDir, needs_strace, wait_until};

/// A way of writing, which the sweeps go through call by call.
struct Way {
    args: &'static [&'static str],
    input: &'static str,
    /// What the file holds before; `None`: there is none.
    old: Option<&'static str>,
    new: &'static str,
    /// The nameless temporary file is refused, so that it needs a name from the start.
    named: bool,
}

const OLD: &str = "old content\n";
const NEW: &str = "the new content\n";

const PLAIN: Way = Way { args: &["f"], input: NEW, old: Some(OLD), new: NEW, named: false };
const CREATE: Way = Way { old: None, ..PLAIN };
const STREAM: Way = Way { args: &["--stream", "f"], ..PLAIN };
const NAMED: Way = Way { named: true, ..PLAIN };
const BACKUP: Way = Way { args: &["--backup", "f"], ..PLAIN };
const COPIED_BACKUP: Way = Way { args: &["--backup-mode=600", "f"], ..PLAIN };
const APPEND: Way = Way { args: &["--append", "f"], new: "old content\nthe new content\n", ..PLAIN };
const LATE: Way = Way { args: &["--lock-on-commit", "f"], ..PLAIN };
const COMMAND: Way = Way { args: &["f", "--", "echo", "the new content"], ..PLAIN };
const VALIDATED: Way = Way { args: &["--validate", "exit 0", "f"], ..PLAIN };
const FROM_FILE: Way = Way { args: &["--input", "in", "f"], ..PLAIN };

/// Memory, threads, children and the loader: nothing there touches the file.
const OF_NO_INTEREST: &[&str] = &[
    "access",
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
    "gettid",
    "getuid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "poll",
    "pread64",
    "prlimit64",
    "recvfrom",
    "rseq",
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
    "vfork",
    "wait4",
    "waitid",
];

struct Sweep<'a> {
    dir: TestDir,
    way: &'a Way,
    /// What makes the nameless file fail, if that is wanted.
    always: Option<String>,
    /// Each system call that matters, with the numbers that it has between the start of the program proper (the loader's
    /// come before) and its end.
    calls: BTreeMap<String, RangeInclusive<usize>>,
}

impl Sweep<'_> {
    /// One run without a fault, to see which calls there are.
    fn new(way: &Way) -> Sweep<'_> {
        let mut sweep = Sweep { dir: TestDir::new(), way, always: None, calls: BTreeMap::new() };
        sweep.reset();
        let (done, trace) = sweep.run(&[]);
        done.ok();
        sweep.assert_new();
        if way.named {
            // Only the thread that does the work opens files, so its calls can be counted.
            let opened = trace.lines().filter(|line| line.contains("openat("));
            let number = opened.into_iter().position(|line| line.contains("O_TMPFILE"));
            let Some(number) = number else { return sweep };
            sweep.always = Some(format!("inject=openat:error=EOPNOTSUPP:when={}", number + 1));
        }
        // The first one, which is not a thread's or a child's.
        let process = trace.split_whitespace().next().unwrap();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut first: Option<BTreeMap<&str, usize>> = None;
        for line in trace.lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            // The first thing that it does is to ignore SIGPIPE.
            if call.trim_start().starts_with("rt_sigaction(SIGPIPE") && first.is_none() {
                first = Some(seen.clone());
            }
            if let (true, Some((name, _))) = (pid == process, call.trim_start().split_once('(')) {
                *seen.entry(name).or_default() += 1;
            }
        }
        let first = first.unwrap_or_default();
        let of_interest = |name: &str| {
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            is_name && !OF_NO_INTEREST.contains(&name) && !(way.named && name == "openat")
        };
        for (name, count) in seen.into_iter().filter(|(name, _)| of_interest(name)) {
            let before = first.get(name).copied().unwrap_or(0);
            if count > before {
                // With a fault there may be more of them.
                sweep.calls.insert(name.to_owned(), before + 1..=count + 3);
            }
        }
        assert!(sweep.calls.len() > 8, "{:?}", sweep.calls);
        sweep
    }

    fn reset(&self) {
        for name in self.dir.names() {
            fs::remove_file(self.dir.join(name)).unwrap();
        }
        if let Some(old) = self.way.old {
            self.dir.file_with_mode("f", old, 0o640);
        }
        self.dir.file("in", self.way.input);
    }

    fn run(&self, injections: &[&str]) -> (Done, String) {
        let mut args = vec!["-f", "-o", "trace"];
        if injections.iter().any(|injection| injection.starts_with("trace=")) {
            // Only those calls stop the process then: far quicker.
            args.push("--seccomp-bpf");
        }
        for injection in self.always.as_deref().iter().chain(injections) {
            args.extend(["-e", injection]);
        }
        args.push(AWRITE);
        args.extend(self.way.args);
        let mut running = self.dir.program("strace", args).stdin(self.way.input).spawn();
        wait_until(&format!("{:?} with {injections:?} has ended", self.way.args), || running.has_ended());
        let done = running.finish();
        let trace = fs::read_to_string(self.dir.join("trace")).unwrap_or_else(|e| panic!("{e}: {done:?}"));
        fs::remove_file(self.dir.join("trace")).unwrap();
        (done, trace)
    }

    fn content(&self) -> Option<String> {
        self.dir.join("f").exists().then(|| self.dir.read("f"))
    }

    #[track_caller]
    fn assert_new(&self) {
        assert_eq!(self.content().as_deref(), Some(self.way.new));
    }

    /// What is there besides the files that belong there.
    fn debris(&self) -> Vec<String> {
        let names = self.dir.names().into_iter().map(|name| name.into_string().unwrap());
        names.filter(|name| !["f", "in", "f.backup"].contains(&name.as_str())).collect()
    }

    /// The lock is free, a lock file that was left is taken over, and then it is gone.
    #[track_caller]
    fn assert_next_writer_succeeds(&self, what: &str) {
        let done = self.dir.awrite(["--no-wait", "--quiet", "f"]).stdin("next").run();
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "after {what}");
        assert_eq!(self.dir.read("f"), "next", "after {what}");
        assert!(!self.dir.join("f.lock").exists(), "after {what}");
    }

    #[track_caller]
    fn assert_backup_is_whole(&self, what: &str) {
        if let Ok(backup) = fs::read_to_string(self.dir.join("f.backup")) {
            assert_eq!(Some(backup.as_str()), self.way.old, "after {what}");
        }
    }

    fn kill_everywhere(&self) {
        for (call, numbers) in &self.calls {
            for number in numbers.clone() {
                self.reset();
                let what = format!("SIGKILL at {call} number {number} of {:?}", self.way.args);
                let (done, trace) =
                    self.run(&[&format!("trace={call},openat"), &format!("inject={call}:signal=KILL:when={number}")]);
                if !trace.contains("+++ killed by SIGKILL +++") {
                    done.ok();
                    break;
                }
                let content = self.content();
                if done.code == Some(0) {
                    assert_eq!(content.as_deref(), Some(self.way.new), "{what}");
                } else {
                    let whole = content.as_deref() == self.way.old || content.as_deref() == Some(self.way.new);
                    assert!(whole, "{what}: {content:?}");
                }
                self.assert_backup_is_whole(&what);
                let mut temporary = 0;
                for name in self.debris() {
                    let length = fs::metadata(self.dir.join(&name)).unwrap().len();
                    if name == "f.lock" {
                        assert_eq!(length, 0, "{what}");
                    } else {
                        assert!(name.starts_with(".f."), "{what}: {name}");
                        assert_eq!(self.dir.mode(&name) & !0o644, 0, "{what}: {name}");
                        temporary += 1;
                    }
                }
                assert!(temporary <= 1, "{what}: {:?}", self.debris());
                self.assert_next_writer_succeeds(&what);
            }
        }
    }

    fn fail_everywhere(&self) {
        let way = self.way;
        // A close that strace lets fail has not closed, unlike a real one: a pipe would never end.
        for (call, numbers) in self.calls.iter().filter(|(call, _)| *call != "close") {
            for error in errors_of(call) {
                for number in numbers.clone() {
                    self.reset();
                    let before = self.way.old.map(|_| self.dir.snapshot("f"));
                    let what = format!("{error} from {call} number {number} of {:?}", self.way.args);
                    let (done, trace) = self
                        .run(&[&format!("trace={call},openat"), &format!("inject={call}:error={error}:when={number}")]);
                    let ours = |line: &&str| line.contains("(INJECTED)") && !(way.named && line.contains("EOPNOTSUPP"));
                    if !trace.lines().any(|line| ours(&line)) {
                        done.ok();
                        break;
                    }
                    assert_eq!(done.signal, None, "{what}: {done:?}");
                    for bad in ["panicked", "internal error"] {
                        assert!(!done.stderr.contains(bad), "{what}: {done:?}");
                    }
                    let not_durable = done.stderr.contains("replaced, but not known to be durable");
                    if done.code == Some(0) {
                        assert_eq!(self.content().as_deref(), Some(self.way.new), "{what}: {done:?}");
                    } else if not_durable {
                        assert_eq!(done.code, Some(1), "{what}");
                        assert_eq!(self.content().as_deref(), Some(self.way.new), "{what}: {done:?}");
                    } else {
                        let after = self.dir.join("f").exists().then(|| self.dir.snapshot("f"));
                        // A backup that has been linked shows in the number of links only.
                        if self.dir.join("f.backup").exists() {
                            assert_eq!(self.content().as_deref(), self.way.old, "{what}: {done:?}");
                        } else {
                            assert_eq!(after, before, "{what}: {done:?}");
                        }
                        // 127 is the loader's: it never came to us.
                        assert!(matches!(done.code, Some(1 | 2 | 127)), "{what}: {done:?}");
                        assert!(!done.stderr.is_empty(), "{what}: it failed without a word");
                    }
                    self.assert_backup_is_whole(&what);
                    // What cannot be removed stays, of course, and if it is the lock file it is said.
                    let mut debris = self.debris();
                    if done.stderr.contains("Warning: f.lock: cannot remove the lock file: ") {
                        // Also when it cannot be seen any more whose it is.
                        assert!(["flock", "statx", "unlinkat"].contains(&call.as_str()), "{what}: {done:?}");
                        debris.retain(|name| name != "f.lock");
                    }
                    if call != "unlinkat" {
                        assert_eq!(debris, [""; 0], "{what}: {done:?}");
                    }
                    self.assert_next_writer_succeeds(&what);
                }
            }
        }
    }
}

fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "openat" => &["EACCES", "ENOSPC", "EMFILE", "EOPNOTSUPP"],
        "write" | "copy_file_range" | "pwrite64" => &["ENOSPC", "EIO", "EINTR"],
        "read" | "flock" => &["EIO", "EINTR"],
        "linkat" => &["ENOSPC", "EIO", "EPERM", "ENOENT"],
        "rename" | "renameat" | "renameat2" => &["EIO", "ENOSPC", "EACCES"],
        "fsync" | "fdatasync" => &["EIO", "ENOSPC", "EINVAL"],
        "fcntl" | "ioctl" => &["EIO", "EINVAL"],
        "faccessat2" | "statx" => &["EIO", "ENOSYS"],
        _ => &["EIO", "EPERM"],
    }
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

#[test]
fn killed_while_replacing() {
    kill(&PLAIN);
}

#[test]
fn killed_while_creating() {
    kill(&CREATE);
}

#[test]
fn killed_while_streaming() {
    kill(&STREAM);
}

#[test]
fn killed_with_a_named_temporary_file() {
    kill(&NAMED);
}

#[test]
fn killed_with_a_backup() {
    kill(&BACKUP);
}

#[test]
fn killed_with_a_copied_backup() {
    kill(&COPIED_BACKUP);
}

#[test]
fn killed_with_a_late_lock() {
    kill(&LATE);
}

#[test]
fn killed_with_a_command() {
    kill(&COMMAND);
}

#[test]
fn failing_calls_while_replacing() {
    fail(&PLAIN);
}

#[test]
fn failing_calls_while_creating() {
    fail(&CREATE);
}

#[test]
fn failing_calls_with_a_named_temporary_file() {
    fail(&NAMED);
}

#[test]
fn failing_calls_with_a_backup() {
    fail(&BACKUP);
}

#[test]
fn failing_calls_with_a_copied_backup() {
    fail(&COPIED_BACKUP);
}

#[test]
fn failing_calls_while_appending() {
    fail(&APPEND);
}

#[test]
fn failing_calls_with_input_from_a_file() {
    fail(&FROM_FILE);
}

#[test]
fn failing_calls_with_a_command() {
    fail(&COMMAND);
}

#[test]
fn failing_calls_with_validation() {
    fail(&VALIDATED);
}

/// The commit itself: what is said when only the last sync fails, and when the file system has none.
#[test]
fn a_directory_that_cannot_be_synced() {
    if !needs_strace() {
        return;
    }
    let sweep = Sweep::new(&PLAIN);
    sweep.reset();
    // The first sync is the file's.
    let (done, _) = sweep.run(&["inject=fsync:error=EIO:when=2"]);
    assert_eq!(done.code, Some(1));
    let expected = "Error: f: replaced, but not known to be durable: Input/output error";
    assert!(done.stderr.lines().any(|line| line == expected), "{done:?}");
    sweep.assert_new();
    assert_eq!(sweep.debris(), [""; 0]);

    for error in ["EINVAL", "EOPNOTSUPP"] {
        sweep.reset();
        let (done, _) = sweep.run(&[&format!("inject=fsync:error={error}:when=2")]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stderr.starts_with("Warning: f: "), "{done:?}");
        sweep.assert_new();
    }
    sweep.reset();
    let (done, _) = sweep.run(&["inject=fsync:error=EIO:when=1"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(sweep.content().as_deref(), Some(OLD));
    assert!(done.stderr.starts_with("Error: f: "), "{done:?}");
    assert_eq!(sweep.debris(), [""; 0]);
}

/// File systems and kernels that lack something are no reason to fail.
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
            sweep.reset();
            let (done, _) = sweep.run(&[injection]);
            if injection.contains("fcntl") && done.code != Some(0) {
                // Closed standard descriptors are looked for with it, too.
                continue;
            }
            assert_eq!(done.code, Some(0), "{injection}: {done:?}");
            sweep.assert_new();
            assert_eq!(sweep.debris(), [""; 0], "{injection}");
        }
    }
}
