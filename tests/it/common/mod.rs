//! What every test leans on: a directory of its own, the built binary as a child process, and waiting for a condition
//! with a deadline. Nothing here sleeps in the hope that something has happened by then.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

/// The binary under test.
pub(crate) const AWRITE: &str = env!("CARGO_BIN_EXE_awrite");

/// How long anything may take before it counts as hanging. Generous: a loaded machine is no bug.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The user and group that unprivileged runs have.
pub(crate) const NOBODY: u32 = 65534;

/// Waits until `holds` says true. Panics with `what` when that takes longer than [`DEADLINE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What this machine can do

/// Says that a test is skipped, for want of `what`. Where CI=true nothing may be missing.
fn skipped(what: &str) -> bool {
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "this test needs {what}, and CI must not skip it");
    eprintln!("skipped: needs {what}");
    false
}

/// Whether the program `name` is installed.
pub(crate) fn needs(name: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/sbin".into(), "/usr/sbin".into()]).any(|dir| dir.join(name).is_file())
    });
    found || skipped(name)
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this is root.
pub(crate) fn needs_root() -> bool {
    is_root() || skipped("root")
}

/// Whether strace is there and may trace.
pub(crate) fn needs_strace() -> bool {
    needs("strace")
        && (Command::new("strace")
            .args(["-o", "/dev/null", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
            || skipped("strace that may trace"))
}

/// Whether a user namespace can be made here.
pub(crate) fn needs_user_namespaces() -> bool {
    needs("unshare")
        && (Command::new("unshare").args(["-Ur", "true"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
            || skipped("user namespaces"))
}

/// Whether a PID namespace can be made here, with a /proc of its own.
pub(crate) fn needs_pid_namespaces() -> bool {
    needs_root()
        && needs("unshare")
        && (Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
            || skipped("PID namespaces"))
}

/// Whether file systems can be mounted here.
pub(crate) fn needs_mount() -> bool {
    needs_root()
        && (Command::new("unshare")
            .args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
            || skipped("a machine that lets root mount"))
}

// ---------------------------------------------------------------------------------------------------------------------
// A directory

/// A directory of the test's own, removed at its end; children run in it, so that messages show relative names.
pub(crate) struct TestDir {
    dir: tempfile::TempDir,
    /// A copy of the binary that other users can reach: the build directory may lie below a private home.
    reachable: OnceLock<(tempfile::TempDir, PathBuf)>,
}

impl TestDir {
    pub(crate) fn new() -> TestDir {
        TestDir::made_in(&std::env::temp_dir())
    }

    /// The same below `parent`: for a file system of one's choice.
    pub(crate) fn made_in(parent: &Path) -> TestDir {
        let dir = tempfile::Builder::new().prefix("awrite-test-").tempdir_in(parent).unwrap();
        // Unprivileged children must be able to look in.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        TestDir { dir, reachable: OnceLock::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Makes the file `name`.
    pub(crate) fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Makes the file `name` with exactly this mode.
    pub(crate) fn file_with_mode(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.file(name, content);
        chmod(&path, mode);
        path
    }

    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// What the file `name` holds.
    #[track_caller]
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.join(name);
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[track_caller]
    pub(crate) fn mode(&self, name: impl AsRef<Path>) -> u32 {
        fs::metadata(self.join(name)).unwrap().mode() & 0o7777
    }

    #[track_caller]
    pub(crate) fn snapshot(&self, name: impl AsRef<Path>) -> Snapshot {
        Snapshot::of(&self.join(name))
    }

    /// The names in here, hidden ones too.
    pub(crate) fn names(&self) -> BTreeSet<OsString> {
        names_in(self.path())
    }

    /// Panics when anything but `expected` is in here.
    #[track_caller]
    pub(crate) fn assert_holds(&self, expected: &[&str]) {
        assert_no_debris(self.path(), expected);
    }

    /// The binary, to be run in this directory.
    pub(crate) fn awrite<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        self.program(AWRITE, args)
    }

    /// Another program, to be run in this directory.
    pub(crate) fn program<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Run {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.path()).env("LC_ALL", "C").env("BIN", AWRITE);
        // What the caller's environment says must not change what is tested.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"AWRITE_") {
                command.env_remove(name);
            }
        }
        Run { command, input: Input::Bytes(Vec::new()) }
    }

    /// A shell script, to be run in this directory, with the binary as `$BIN`.
    pub(crate) fn sh(&self, script: &str) -> Run {
        self.program("sh", ["-c", script])
    }

    /// The binary as an unprivileged user, whom this directory is opened to; as ourselves where that is one already.
    pub(crate) fn awrite_unprivileged<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        if !is_root() {
            return self.awrite(args);
        }
        let binary = self.reachable_binary();
        let mut run = self.program(binary, args);
        run.command.uid(NOBODY).gid(NOBODY).env("BIN", binary);
        run
    }

    pub(crate) fn reachable_binary(&self) -> &Path {
        let (_, path) = self.reachable.get_or_init(|| {
            let dir = tempfile::Builder::new().prefix("awrite-bin-").tempdir().unwrap();
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let path = dir.path().join("awrite");
            copy_program(Path::new(AWRITE), &path);
            (dir, path)
        });
        path
    }

    /// Opens this directory to all users.
    pub(crate) fn open_to_all(&self) {
        chmod(self.path(), 0o777);
    }
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies a program that will be run. Not by this process: a child that another test starts meanwhile would have a copy
/// of the descriptor that we write to, and running it would be ETXTBSY.
#[track_caller]
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(status.success());
    chmod(to, 0o755);
}

pub(crate) fn names_in(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// What the names of awrite's temporary files for `base` begin with.
pub(crate) fn temp_stem(base: &str) -> String {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = base.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!(".awrite-{:08x}", (hash >> 32) as u32 ^ hash as u32)
}

/// The name that awrite gives to a temporary file for `base`, if nobody else has one.
pub(crate) fn temp_name(base: &str) -> String {
    format!("{}.{base}", temp_stem(base))
}

/// Panics when `dir` holds anything but the names `expected`: a lock file, a temporary file, a backup.
#[track_caller]
pub(crate) fn assert_no_debris(dir: &Path, expected: &[&str]) {
    let expected: BTreeSet<OsString> = expected.iter().map(OsString::from).collect();
    assert_eq!(names_in(dir), expected, "in {}", dir.display());
}

/// All that a failed write must leave alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    content: Vec<u8>,
    pub(crate) inode: u64,
    mode: u32,
    owner: (u32, u32),
    pub(crate) links: u64,
    modified: (i64, i64),
}

impl Snapshot {
    #[track_caller]
    pub(crate) fn of(path: &Path) -> Snapshot {
        let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Snapshot {
            content: fs::read(path).unwrap(),
            inode: meta.ino(),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            links: meta.nlink(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Locks, as another program sees them

/// A lock held by the test itself, as plain `flock(1)` would: the file stays when it is given up.
pub(crate) struct Held(File);

impl Held {
    #[track_caller]
    pub(crate) fn new(lock_file: &Path) -> Held {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock_file).unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        Held(file)
    }

    pub(crate) fn inode(&self) -> u64 {
        self.0.metadata().unwrap().ino()
    }

    pub(crate) fn release(self) {
        rustix::fs::flock(&self.0, FlockOperation::Unlock).unwrap();
    }
}

/// Whether somebody holds the lock. Looks in `/proc/locks`: trying the lock would hold it for a moment. Looks more than
/// once, because the list comes in pieces, and when other locks go between two of them a line can fall through.
pub(crate) fn lock_is_held(lock_file: &Path) -> bool {
    let held = |meta: fs::Metadata| locks_on(meta.ino()).iter().any(|line| !line.contains("->"));
    (0..5).any(|_| fs::metadata(lock_file).is_ok_and(held))
}

/// Whether somebody waits for the lock on this inode.
pub(crate) fn somebody_waits_for(inode: u64) -> bool {
    locks_on(inode).iter().any(|line| line.contains("->"))
}

fn locks_on(inode: u64) -> Vec<String> {
    let ending = format!(":{inode}");
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks
        .lines()
        .filter(|line| line.contains(" FLOCK ") && line.split_whitespace().any(|word| word.ends_with(&ending)))
        .map(str::to_owned)
        .collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// A child process

enum Input {
    Bytes(Vec<u8>),
    Open,
    From(Stdio),
}

/// A child process that has not been started yet. Its standard input is empty unless said otherwise.
pub(crate) struct Run {
    command: Command,
    input: Input,
}

impl Run {
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Standard input is a pipe that stays open: see [`Running::feed`].
    pub(crate) fn stdin_open(mut self) -> Run {
        self.input = Input::Open;
        self
    }

    pub(crate) fn stdin_from(mut self, from: impl Into<Stdio>) -> Run {
        self.input = Input::From(from.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    pub(crate) fn arg(mut self, word: &str) -> Run {
        self.command.arg(word);
        self
    }

    pub(crate) fn arg0(mut self, name: &str) -> Run {
        self.command.arg0(name);
        self
    }

    pub(crate) fn current_dir(mut self, dir: &Path) -> Run {
        self.command.current_dir(dir);
        self
    }

    #[track_caller]
    pub(crate) fn spawn(mut self) -> Running {
        signals_as_usual();
        let (input, bytes) = match self.input {
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
            Input::Open => (Stdio::piped(), None),
            Input::From(stdio) => (stdio, None),
        };
        self.command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A process group of its own, so that all of it can be signalled, and its children go with it.
        self.command.process_group(0);
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        let mut stdin = child.stdin.take();
        if let Some(bytes) = bytes {
            let mut pipe = stdin.take().unwrap();
            // The child may well end without having read it all: that is no failure of the test.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let stdout = Collected::from(child.stdout.take().unwrap());
        let stderr = Collected::from(child.stderr.take().unwrap());
        Running { child, stdin, stdout, stderr, status: None }
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub(crate) fn run(self) -> Done {
        self.spawn().finish()
    }

    /// Runs it; it must succeed and say nothing.
    #[track_caller]
    pub(crate) fn quiet_success(self) -> Done {
        let done = self.run();
        done.assert_code(0);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
        done
    }
}

/// Whoever started the tests may have ignored signals (nohup, a background job), and children inherit that; but they are
/// sent signals here, to see what they do.
#[allow(unsafe_code)]
fn signals_as_usual() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            // SAFETY: to give a signal its default disposition needs no memory and runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    });
}

/// What a child writes, collected as it comes so that it never blocks.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Collected {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Collected { bytes, thread }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

/// A child process that runs. Dropping it kills it and its children.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
    status: Option<ExitStatus>,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    #[track_caller]
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn signal_group(&self, signal: Signal) {
        rustix::process::kill_process_group(self.pid(), signal).unwrap();
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.so_far()).into_owned()
    }

    /// Waits until it has said `text` on standard error.
    #[track_caller]
    pub(crate) fn wait_for_stderr(&mut self, text: &str) {
        wait_until(&format!("stderr says {text:?}"), || {
            let said = self.stderr().contains(text);
            assert!(said || !self.has_ended(), "it ended without saying {text:?}, but:\n{}", self.stderr());
            said
        });
    }

    /// Waits until this process has gone to wait for the lock.
    #[track_caller]
    pub(crate) fn wait_for_waiting(&mut self) {
        self.wait_for_stderr("Waiting for lock on ");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status.is_some()
    }

    /// Closes its standard input and waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Done {
        self.close_stdin();
        let pid = self.id();
        wait_until(&format!("process {pid} has ended; stderr so far:\n{}", self.stderr()), || self.has_ended());
        // A grandchild may still have the pipe, so the collecting threads need not end; what the child itself wrote
        // has been written before it ended, and is read soon.
        let soon = Instant::now() + Duration::from_secs(2);
        while !(self.stdout.thread.is_finished() && self.stderr.thread.is_finished()) && Instant::now() < soon {
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = self.status.unwrap();
        let stdout = self.stdout.so_far();
        Done {
            code: status.code(),
            signal: status.signal(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Errors mean that it has gone already.
            let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// A child process that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Done {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> &Done {
        self.assert_code(0)
    }

    /// Its messages, a line each.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.stderr.lines().collect()
    }

    /// It failed with this status, and the first line that it said begins with `Error: ` and is exactly this.
    #[track_caller]
    pub(crate) fn assert_error(&self, code: i32, line: &str) -> &Done {
        self.assert_code(code);
        assert!(self.lines().contains(&line), "wanted {line:?}\n{self:#?}");
        self.assert_tidy();
        self
    }

    /// It failed with this status, and its one `Error: ` line has all these words in it.
    #[track_caller]
    pub(crate) fn assert_error_with(&self, code: i32, words: &[&str]) -> &Done {
        self.assert_code(code);
        let error = self.error_line().to_lowercase();
        for word in words {
            assert!(error.contains(&word.to_lowercase()), "wanted {word:?}\n{self:#?}");
        }
        self.assert_tidy();
        self
    }

    #[track_caller]
    pub(crate) fn error_line(&self) -> &str {
        let errors: Vec<&str> = self.lines().into_iter().filter(|line| line.starts_with("Error: ")).collect();
        assert_eq!(errors.len(), 1, "wanted one error line\n{self:#?}");
        errors[0]
    }

    /// The hint that it gave has this in it.
    #[track_caller]
    pub(crate) fn assert_hint(&self, words: &str) -> &Done {
        let hints: Vec<&str> = self.lines().into_iter().filter(|line| line.starts_with("Hint: ")).collect();
        assert!(hints.iter().any(|hint| hint.contains(words)), "wanted a hint with {words:?}\n{self:#?}");
        self
    }

    /// No message is one that a user must never see.
    #[track_caller]
    fn assert_tidy(&self) {
        for bad in ["panicked", "internal error", "os error", "RUST_BACKTRACE", "unwrap"] {
            assert!(!self.stderr.contains(bad), "{self:#?}");
        }
        assert_eq!(self.stdout, "", "an error must leave stdout alone");
    }
}
