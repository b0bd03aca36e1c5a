//! The helper program that speaks to a store.
//!
//! ```text
//!   (none) ──first request──> running ──answer in time──> running
//!                                ├──no answer in time, nonsense──> killed; the request has failed
//!                                ├──it has died since the last answer──> started anew, once, for this request
//!                                └──the client is dropped: end of file──> it ends, or is killed
//! ```
//!
//! Requests go through a socket and not a pipe: whoever writes to a pipe that nobody reads gets SIGPIPE, and a library
//! must not change what that does.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::inherited;
use super::message::{Answer, LONGEST, Question, Said};
use crate::cleanup::{self, Ticket, Undo};
use crate::duration::shown_duration;
use crate::error::{Error, ErrorKind, Result, reason_of};
use crate::lock::HELD_VARIABLE;
use crate::options::{STORE_VARIABLE, scheme_of_store};
use crate::shown::shown;
use crate::sys::host::boot_clock;
use crate::sys::{give_no_descriptors, retry};

/// The longest single wait. Its clock stops while the machine is suspended; the clock of leases does not.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long a helper may take to end when nothing more is asked, and the pause between two looks.
const GRACE: Duration = Duration::from_millis(500);
const GRACE_PAUSE: Duration = Duration::from_millis(1);

/// A store, and the process that speaks to it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) url: String,
    /// The name of the helper program.
    program: String,
    helper: Mutex<Option<Helper>>,
    /// The id of the last request.
    last: AtomicU64,
    /// Its helper is ended with this process, if that is told to end now. False where that is happening.
    is_listed: bool,
}

#[derive(Debug)]
struct Helper {
    child: Child,
    /// Kills it, if this process is told to end now.
    ticket: Option<Ticket>,
    is_reaped: bool,
    to: Option<UnixStream>,
    from: ChildStdout,
    /// What was read behind the last answer: a part of the next one.
    rest: Vec<u8>,
    /// The process that started it.
    pid: u32,
}

/// Why a request has failed.
struct Failure {
    reason: String,
    hint: String,
    /// The helper has ended without a word.
    died: bool,
}

/// What came of a request, and where the boot clock stood before it was sent.
pub(super) struct Answered {
    /// The last one says how it went. Those before are of a list.
    pub(super) answers: Vec<Answer>,
    pub(super) sent: Duration,
}

impl Client {
    /// A client for the store `url`. Starts nothing.
    pub(super) fn new(url: &str) -> Result<Client> {
        let program = format!("awrite-store-{}", scheme_of_store(url).map_err(|e| e.on(url))?);
        Ok(Client { url: url.to_owned(), program, helper: Mutex::new(None), last: AtomicU64::new(0), is_listed: true })
    }

    /// A client of the same store for the clean-up of a process that is told to end.
    pub(super) fn for_the_end(&self) -> Client {
        let (url, program) = (self.url.clone(), self.program.clone());
        Client { url, program, helper: Mutex::new(None), last: AtomicU64::new(0), is_listed: false }
    }

    /// Asks the store, and waits for the answer until `timeout` has passed. `list`: there may be many answers, up to the
    /// one that has no name.
    pub(super) fn ask(&self, question: &Question, timeout: Duration, list: bool) -> Result<Answered> {
        // A panic under the mutex leaves at worst a helper with an answer that nobody has read; see below.
        let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let text = question.text(id);
        // Taken out: whatever goes wrong, this one is not asked again.
        let used = helper.take().filter(Helper::is_own);
        let was_used = used.is_some();
        let mut outcome = self.ask_one(used, (id, &text), timeout, list);
        if was_used && outcome.as_ref().is_err_and(|failure| failure.died) {
            outcome = self.ask_one(None, (id, &text), timeout, list);
        }
        match outcome {
            Ok((still, answered)) => {
                *helper = Some(still);
                Ok(answered)
            }
            Err(failure) => Err(Error::new(ErrorKind::Store, failure.reason).with_hint(failure.hint)),
        }
    }

    fn ask_one(
        &self,
        used: Option<Helper>,
        (id, text): (u64, &str),
        timeout: Duration,
        list: bool,
    ) -> std::result::Result<(Helper, Answered), Failure> {
        let sent = boot_clock();
        let deadline = sent + timeout;
        let mut helper = match used {
            Some(helper) => helper,
            None => self.start()?,
        };
        let mut exchange = || {
            helper.send(text.as_bytes(), deadline)?;
            let mut answers = Vec::new();
            loop {
                let answer = helper.answer(id, deadline)?;
                let more = list && answer.said == Said::Held;
                answers.push(answer);
                if !more {
                    return Ok(answers);
                }
            }
        };
        match exchange() {
            Ok(answers) => Ok((helper, Answered { answers, sent })),
            Err(trouble) => Err(self.failure(helper, trouble, timeout)),
        }
    }

    fn failure(&self, helper: Helper, trouble: Trouble, timeout: Duration) -> Failure {
        let program = &self.program;
        if !matches!(trouble, Trouble::Gone) {
            helper.kill();
        }
        match trouble {
            Trouble::Late => Failure {
                reason: format!("{program} did not answer within {}", shown_duration(timeout)),
                hint: "can the store be reached from here? The helper was ended; nothing is known to have changed"
                    .into(),
                died: false,
            },
            Trouble::Nonsense(why) => Failure {
                reason: format!("{program} gave an answer that cannot be understood: {why}"),
                hint: "awrite-store(7) has what a helper may answer".into(),
                died: false,
            },
            Trouble::Gone => Failure {
                reason: format!("{program} ended without an answer{}", helper.how_it_ended()),
                hint: "what it wrote to standard error may say why; awrite-store(7) has what it is asked".into(),
                died: true,
            },
            Trouble::System(e) => Failure {
                reason: format!("cannot speak to {program}: {}", reason_of(&e)),
                hint: "awrite-store(7) has how it is run".into(),
                died: false,
            },
        }
    }

    fn start(&self) -> std::result::Result<Helper, Failure> {
        let program = &self.program;
        let Some(path) = found(program) else {
            return Err(Failure {
                reason: format!("there is no program {program}, which such a store needs"),
                hint: "install it beside awrite or in a directory of PATH; awrite-store(7) has how to write one".into(),
                died: false,
            });
        };
        let failed = |e: io::Error| Failure {
            reason: format!("cannot run {}: {}", shown(&path), reason_of(&e)),
            hint: match e.raw_os_error() {
                Some(libc::EACCES) => format!("make it executable: chmod +x {}", shown(&path)),
                // Of a script, it is the program behind #! that is not there.
                _ => "does it begin with #! and the path of a program that is there?".into(),
            },
            died: false,
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        // Apple's systems have no flag for send(2).
        #[cfg(target_vendor = "apple")]
        rustix::net::sockopt::set_socket_nosigpipe(&ours, true).map_err(|e| failed(e.into()))?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mut command = Command::new(&path);
        command.arg0(program).arg(&self.url).stdin(OwnedFd::from(theirs)).stdout(Stdio::piped());
        // A ^C at the terminal is for the commands, and not for what they need to give a lease back.
        command.process_group(0);
        // A helper may use awrite itself, for its own locks.
        for variable in [STORE_VARIABLE, inherited::VARIABLE, HELD_VARIABLE] {
            command.env_remove(variable);
        }
        give_no_descriptors(&mut command);
        let mut spawn = || {
            let child = command.spawn()?;
            let group = Group(Pid::from_child(&child));
            Ok((child, group))
        };
        let started = match self.is_listed {
            true => cleanup::make(&mut spawn).map(|(child, ticket)| (child, Some(ticket))),
            false => spawn().map(|(child, _)| (child, None)),
        };
        // With it goes this process's copy of the helper's end of the socket.
        drop(command);
        let (mut child, ticket) = started.map_err(failed)?;
        let from = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let (rest, pid) = (Vec::new(), std::process::id());
        Ok(Helper { child, ticket, is_reaped: false, to: Some(ours), from, rest, pid })
    }
}

/// A helper with what it has started: it has a group of its own.
struct Group(Pid);

impl Undo for Group {
    fn undo(&self) -> io::Result<()> {
        Ok(kill_process_group(self.0, Signal::KILL)?)
    }
}

/// The helper beside this program, or else on PATH.
fn found(program: &str) -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.canonicalize().ok()?.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).filter(|dir| dir.as_os_str() != OsStr::new("")).collect();
    beside.into_iter().chain(on_path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

enum Trouble {
    Late,
    /// It closed its end.
    Gone,
    Nonsense(String),
    System(io::Error),
}

impl Helper {
    /// Not a forked copy.
    fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    fn send(&mut self, mut text: &[u8], deadline: Duration) -> std::result::Result<(), Trouble> {
        let Some(to) = &self.to else { return Err(Trouble::Gone) };
        while !text.is_empty() {
            // Apple's systems have no such flag; see above.
            #[cfg(not(target_vendor = "apple"))]
            let flags = SendFlags::NOSIGNAL;
            #[cfg(target_vendor = "apple")]
            let flags = SendFlags::empty();
            match send(to, text, flags).map_err(io::Error::from) {
                Ok(n) => text = &text[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => wait(to, PollFlags::OUT, deadline)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => {
                    return Err(Trouble::Gone);
                }
                Err(e) => return Err(Trouble::System(e)),
            }
        }
        Ok(())
    }

    fn answer(&mut self, id: u64, deadline: Duration) -> std::result::Result<Answer, Trouble> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
                let answer = Answer::parse(&self.rest[..=end]).map_err(Trouble::Nonsense)?;
                self.rest.drain(..end + 2);
                return match answer.is_to(id) {
                    true => Ok(answer),
                    false => Err(Trouble::Nonsense("it has not the id of the request".to_owned())),
                };
            }
            if self.rest.len() > LONGEST {
                return Err(Trouble::Nonsense("it is longer than 64 KiB".to_owned()));
            }
            wait(&self.from, PollFlags::IN, deadline)?;
            match self.read()? {
                0 if self.rest.is_empty() => return Err(Trouble::Gone),
                0 => return Err(Trouble::Nonsense("it ends without an empty line".to_owned())),
                _ => {}
            }
        }
    }

    /// Reads what is there. 0: it has closed its end.
    fn read(&mut self) -> std::result::Result<usize, Trouble> {
        let mut more = [0; 4096];
        let n = retry(|| self.from.read(&mut more)).map_err(Trouble::System)?;
        self.rest.extend_from_slice(&more[..n]);
        Ok(n)
    }

    /// Not once it has been reaped: its number may be another's then.
    fn kill(&self) {
        if !self.is_reaped {
            let _ = Group(Pid::from_child(&self.child)).undo();
        }
    }

    /// Gives it a moment to end by itself, and returns how it has ended.
    fn end(&mut self) -> Option<ExitStatus> {
        let end = boot_clock() + GRACE;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while let Ok(None) = waitid(WaitId::Pid(Pid::from_child(&self.child)), options) {
            if boot_clock() >= end {
                self.kill();
                break;
            }
            sleep(GRACE_PAUSE);
        }
        if let Some(ticket) = self.ticket.take() {
            ticket.keep();
        }
        self.is_reaped = true;
        // A program that ignores SIGCHLD, or reaps all, has its status.
        self.child.wait().ok()
    }

    fn how_it_ended(mut self) -> String {
        let Some(status) = self.end() else { return String::new() };
        match (status.code(), status.signal()) {
            (Some(code), _) => format!(" (exit status {code})"),
            (None, Some(signal)) => format!(" (signal {signal})"),
            (None, None) => String::new(),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.is_own() {
            return;
        }
        self.to = None;
        if !self.is_reaped {
            self.end();
        }
    }
}

/// Waits until `fd` is ready, or its other end has been closed.
fn wait(fd: impl AsFd, flags: PollFlags, deadline: Duration) -> std::result::Result<(), Trouble> {
    loop {
        let left = deadline.saturating_sub(boot_clock());
        match ready(&fd, flags, left.min(LONGEST_WAIT)) {
            Ok(false) if left.is_zero() => return Err(Trouble::Late),
            Ok(false) => {}
            Ok(true) => return Ok(()),
            Err(e) => return Err(Trouble::System(e)),
        }
    }
}

fn ready(fd: impl AsFd, flags: PollFlags, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).ok();
    match poll(&mut [PollFd::new(&fd, flags)], limit.as_ref()) {
        Ok(n) => Ok(n > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
