//! A child process: before it is started, while it runs, when it has ended.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{NOBODY, wait_until};

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
    pub(super) fn new(command: Command) -> Run {
        Run { command, input: Input::Bytes(Vec::new()) }
    }

    pub(super) fn become_nobody(&mut self) {
        self.command.uid(NOBODY).gid(NOBODY);
    }

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

/// Whoever started the tests may have ignored signals (nohup, a background job), and children inherit that; but they
/// are sent signals here, to see what they do.
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

/// The output of a child. A thread reads it all the time, so that the child never blocks.
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
        self.wait_for_stderr("Waiting for ");
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
        // A grandchild may still have the pipe, so the collecting threads need not end. What the child itself wrote is
        // in the pipe by now, and is read soon.
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

    /// It failed with this status, and one of its lines is exactly this.
    #[track_caller]
    pub(crate) fn assert_error(&self, code: i32, line: &str) -> &Done {
        self.assert_code(code);
        assert!(self.lines().contains(&line), "wanted {line:?}\n{self:#?}");
        self.assert_tidy();
        self
    }

    /// It ended with this status, and these words are among what it said, whatever else it said.
    #[track_caller]
    pub(crate) fn assert_says(&self, code: i32, words: &str) {
        self.assert_code(code);
        assert!(self.stderr.contains(words), "wanted {words:?}\n{self:#?}");
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
