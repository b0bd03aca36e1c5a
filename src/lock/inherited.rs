//! Going on under a lock that an ancestor of this process holds, instead of waiting for it for ever.
//!
//! A holder that starts a child process hands it a descriptor of the locked file and says so in the environment:
//! `AWRITE_HELD=FD:DEV:INO:MODE:DEPTH:PID[,…]`. The variable is only a hint where to look. What counts is asked of the
//! kernel, on the descriptor FD: that it is the lock file, and that its open file description is the one which holds the
//! lock. Nobody can make another description into that; it can only be inherited.
//!
//! Open-file-description record locks on the lock file say who is who. They do not interfere with its `flock`:
//!
//! ```text
//!   byte 0              waiters (flock.rs)
//!   byte DEPTH+1        taken by those who go on directly below a holder of that DEPTH; exclusive ones one at a time
//!   byte MARKERS+PID    shared by a holder that hands its lock on, until it gives it up; taken alone by one that has
//!                       ended before those below: the last of these gives the lock back for it
//!   byte END            housekeepers, for as long as they have the lock
//! ```
//!
//! ```text
//!   holder, depth D:   held ──hand_over: mark──> handed on ──take_back: lock bytes D+1…, unmark──> released
//!                                                    └── someone below has byte D+1: leave, the lock is theirs
//!   the one below:     find: marked? ──> lock byte D+1 of a fresh descriptor ──confirm: still marked, and locked──> held
//! ```
//!
//! For a lock by link(2), of which the kernel knows nothing, a baton stands for the lock file (baton.rs).
//!
//! A holder takes its lock back and one below confirms it under the same byte, so that of the two, one sees the other.
//! A holder that is killed leaves its mark and its lock to those who have the descriptor, and they can go on under it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use super::filesystem;
use crate::error::{Error, ErrorKind, Result};
use crate::names::NONCE;
use crate::remedy::Remedy;
use crate::sys::{self, FileId, FileStatus, host, ofd};

/// The environment variable.
const VARIABLE: &str = "AWRITE_HELD";
/// Above every depth, and with the largest process id (2^22) added still within 32 bits.
const MARKERS: u32 = 1 << 24;
/// The byte behind the last marker.
const END: u32 = MARKERS + (1 << 23);
/// Shared by a housekeeper while it has the lock.
pub(super) const LOOKED_AT: Range<u32> = END..END + 1;
/// Where descriptors for children begin: far from those that scripts choose for themselves (`exec 9>…`), which would
/// close ours.
const FIRST_FD: RawFd = 100;

/// What a lock is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Alone, for whatever a command does.
    Exclusive,
    /// Together with others.
    Shared,
    /// To replace the target by what a command writes.
    Replacing,
}

impl Intent {
    fn letter(self) -> char {
        match self {
            Intent::Exclusive => 'x',
            Intent::Shared => 's',
            Intent::Replacing => 'w',
        }
    }
}

/// One held lock of the environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    fd: RawFd,
    id: FileId,
    intent: Intent,
    depth: u32,
    pid: u32,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { fd, id, intent, depth, pid } = self;
        write!(f, "{fd}:{}:{}:{}:{depth}:{pid}", id.dev, id.ino, intent.letter())
    }
}

fn parse(text: &str) -> Option<Entry> {
    let mut words = text.split(':');
    let fd = words.next()?.parse().ok().filter(|fd| *fd >= 0)?;
    let id = FileId { dev: words.next()?.parse().ok()?, ino: words.next()?.parse().ok()? };
    let intent = match words.next()? {
        "x" => Intent::Exclusive,
        "s" => Intent::Shared,
        "w" => Intent::Replacing,
        _ => return None,
    };
    let depth = words.next()?.parse().ok().filter(|depth| *depth < MARKERS - 2)?;
    let pid = words.next()?.parse().ok().filter(|pid| (1..=END - MARKERS).contains(pid))?;
    words.next().is_none().then_some(Entry { fd, id, intent, depth, pid })
}

/// What the variable says, outermost first. Entries that nobody can have written are passed over.
fn entries(value: Option<&OsStr>) -> Vec<Entry> {
    let text = value.and_then(OsStr::to_str).unwrap_or_default();
    text.split(',').filter_map(parse).collect()
}

fn inherited() -> Vec<Entry> {
    entries(std::env::var_os(VARIABLE).as_deref())
}

/// Whether the environment speaks of any.
pub(super) fn is_any() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// A process above this one that has handed the lock `id` on, but not to this one: somebody in between has closed the
/// descriptor, as many programs do with all that they do not know.
pub(super) fn lost_on_the_way(id: FileId) -> Option<u32> {
    let is_lost = |entry: &Entry| {
        let fd = sys::Borrowed::number(entry.fd);
        entry.id == id && !fd.is_some_and(|fd| FileStatus::of(fd).is_ok_and(|status| status.id == id))
    };
    let lost: Vec<Entry> = inherited().into_iter().filter(is_lost).collect();
    if lost.is_empty() {
        return None;
    }
    let above = host::ancestors();
    lost.iter().map(|entry| entry.pid).find(|pid| above.contains(pid))
}

fn marker(pid: u32) -> Range<u32> {
    MARKERS + pid..MARKERS + pid + 1
}

impl Entry {
    /// Whether the descriptor is that of the lock file, and its description the one that the mark is on.
    fn is_marked(&self, fresh: impl AsFd) -> bool {
        let Some(fd) = sys::Borrowed::number(self.fd) else { return false };
        FileStatus::of(fd).is_ok_and(|status| status.id == self.id)
            // The mark is another's than the fresh descriptor's, and not another's than the inherited one's.
            && ofd::is_locked(fresh, marker(self.pid)).unwrap_or(false)
            && !ofd::is_locked(fd, marker(self.pid)).unwrap_or(true)
    }
}

/// The holders of a lock above this process: the first one holds its `flock`, each other one is below the one before.
#[derive(Debug)]
pub(crate) struct Ancestor {
    chain: Vec<Entry>,
    /// The kernel can be asked about them here.
    certain: bool,
}

/// Those who hold the lock above this process; `fresh` is a new descriptor of the lock file.
pub(crate) fn find(fresh: impl AsFd, id: FileId) -> Option<Ancestor> {
    let mut above: Vec<Entry> = inherited().into_iter().filter(|entry| entry.id == id).collect();
    if above.is_empty() {
        return None;
    }
    let certain = filesystem::is_local(&fresh);
    above.retain(|entry| if certain { entry.is_marked(&fresh) } else { entry.is_plausible() });
    let mut chain: Vec<Entry> = Vec::new();
    for entry in above {
        if entry.depth as usize == chain.len() {
            chain.push(entry);
        }
    }
    (!chain.is_empty()).then_some(Ancestor { chain, certain })
}

impl Entry {
    /// All that can be said where record locks and `flock` are the same thing (NFS), or where there are none.
    fn is_plausible(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        let lives =
            pid.is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH)));
        let fd = sys::Borrowed::number(self.fd);
        lives && fd.is_some_and(|fd| FileStatus::of(fd).is_ok_and(|status| status.id == self.id))
    }
}

impl Ancestor {
    /// The byte that those who go on below it take.
    pub(crate) fn byte_below(&self) -> Range<u32> {
        self.depth_below()..self.depth_below() + 1
    }

    /// The depth of those who go on below it.
    pub(crate) fn depth_below(&self) -> u32 {
        // No longer than the environment: far below 2^24.
        u32::try_from(self.chain.len()).unwrap_or(MARKERS - 2)
    }

    /// Refuses what could never be granted below this ancestor.
    pub(crate) fn permit(&self, intent: Intent, target: &Path) -> Result<()> {
        let Some(innermost) = self.chain.last() else { return Ok(()) };
        let pid = innermost.pid;
        let replacing = self.chain.iter().any(|entry| entry.intent == Intent::Replacing);
        let (reason, remedy) = if intent == Intent::Replacing && replacing {
            ("This runs below a command whose output is about to replace the file", Remedy::ToStdout)
        } else if intent != Intent::Shared && innermost.intent == Intent::Shared {
            (
                "An exclusive lock cannot be taken below a shared one",
                Remedy::Other(format!("process {pid}, above this one, shares the lock; take that one exclusively")),
            )
        } else if !self.certain {
            (
                "The lock is held above this process, and cannot be shared with it on this file system",
                Remedy::Other(format!("process {pid} holds it")),
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Usage, reason).on(target).with_remedy(remedy))
    }

    /// The last word, once the byte below is locked: whether they (still) hold the lock.
    pub(crate) fn confirm(&self, fresh: impl AsFd) -> Confirmed {
        if !self.chain.iter().all(|entry| entry.is_marked(&fresh)) {
            return Confirmed::Gone;
        }
        // Marked, so held, unless a mark is a forgery. Tried in the same mode, which changes nothing for a holder; an
        // exclusive try would drop a shared lock.
        let holds = |entry: &Entry| {
            let Some(fd) = sys::Borrowed::number(entry.fd) else { return Ok(false) };
            let shared = entry.intent == Intent::Shared;
            match entry.depth {
                0 => sys::try_flock(fd, shared),
                depth => ofd::try_lock(fd, shared, depth..depth + 1),
            }
        };
        if self.chain.iter().all(|entry| holds(entry).unwrap_or(false)) { Confirmed::Holds } else { Confirmed::Forged }
    }
}

impl Ancestor {
    /// Gives back the locks that holders above have [left](leave) to those below, now that this one, with the description
    /// `fresh`, has given its own back; the innermost first. `give_back` gets the description that has the `flock`.
    pub(crate) fn give_back_what_was_left(
        &self,
        fresh: impl AsFd,
        give_back: impl Fn(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        for entry in self.chain.iter().rev() {
            let Some(fd) = sys::Borrowed::number(entry.fd).filter(|_| entry.is_marked(&fresh)) else { break };
            // Shared: its holder lives, or was killed. Others below: the last of them does it.
            if !ofd::is_locked_alone(&fresh, marker(entry.pid))? || !is_last(fd, entry.depth) {
                break;
            }
            if entry.depth == 0 {
                give_back(fd.as_fd())?;
            }
            release(fd)?;
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    Holds,
    Gone,
    Forged,
}

/// What a child process is given, or has taken away, so that what runs in it can go on under a held lock, or cannot.
///
/// Whoever starts the child puts it into effect: the library does not change descriptors or the environment of its
/// process. See [`FileLock::hand_over`](crate::FileLock::hand_over).
#[derive(Debug)]
#[non_exhaustive]
pub struct HandOver {
    /// A descriptor that the child must have under this very number. Here it is closed on exec; in the child, clear
    /// that flag. It may be closed here once the child has been started.
    pub fd: Option<OwnedFd>,
    /// Descriptors that the child must not have.
    pub close: Vec<RawFd>,
    /// The name of an environment variable.
    pub variable: &'static str,
    /// What it must be in the child; `None`: not set.
    pub value: Option<OsString>,
}

/// Marks `file` as held by this process, and copies its descriptor.
pub(crate) fn hand_over(file: impl AsFd, id: FileId, intent: Intent, depth: u32) -> io::Result<HandOver> {
    use rustix::io::{Errno, fcntl_dupfd_cloexec};
    let fd = match fcntl_dupfd_cloexec(&file, FIRST_FD) {
        // The limit on descriptors is below that.
        Err(Errno::INVAL | Errno::MFILE) => fcntl_dupfd_cloexec(&file, 3)?,
        outcome => outcome?,
    };
    let pid = std::process::id();
    if filesystem::is_local(&file) {
        // Where that does not work nobody below goes on under the lock: they wait.
        let _ = ofd::try_lock(&file, true, marker(pid));
    }
    let mut held = inherited();
    held.push(Entry { fd: std::os::fd::AsRawFd::as_raw_fd(&fd), id, intent, depth, pid });
    Ok(HandOver { fd: Some(fd), close: Vec::new(), variable: VARIABLE, value: value_of(&held) })
}

/// What an ancestor carries for those below it, going by the environment.
pub(super) struct Carried {
    fd: RawFd,
    pub(super) id: FileId,
    /// The ancestor.
    pub(super) pid: u32,
    pub(super) content: Vec<u8>,
}

impl Carried {
    /// A description of our own of this file.
    pub(super) fn open(&self) -> Option<File> {
        let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", self.fd)).ok()?;
        FileStatus::of(&file).is_ok_and(|status| status.id == self.id).then_some(file)
    }
}

/// The inherited files that are batons, if anything is; lock files have no content.
pub(super) fn batons() -> Vec<Carried> {
    let content_of = |entry: &Entry| {
        let fd = sys::Borrowed::number(entry.fd).filter(|fd| FileStatus::of(fd).is_ok_and(|s| s.id == entry.id))?;
        let mut content = vec![0; 2 * NONCE];
        let length = rustix::io::pread(fd, content.as_mut_slice(), 0).ok()?;
        content.truncate(length);
        (length == NONCE).then_some(content)
    };
    let carried = |entry: Entry| {
        let content = content_of(&entry)?;
        Some(Carried { fd: entry.fd, id: entry.id, pid: entry.pid, content })
    };
    inherited().into_iter().filter_map(carried).collect()
}

/// Keeps this lock from a child, and the inherited descriptors of it too.
pub(crate) fn keep_back(id: FileId) -> HandOver {
    let (ours, others): (Vec<Entry>, Vec<Entry>) = inherited().into_iter().partition(|entry| entry.id == id);
    let is_lock = |fd: &RawFd| {
        sys::Borrowed::number(*fd).is_some_and(|fd| FileStatus::of(fd).is_ok_and(|status| status.id == id))
    };
    let close = ours.iter().map(|entry| entry.fd).filter(is_lock).collect();
    HandOver { fd: None, close, variable: VARIABLE, value: value_of(&others) }
}

fn value_of(held: &[Entry]) -> Option<OsString> {
    let texts: Vec<String> = held.iter().map(Entry::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(",").into())
}

/// Says of a lock that could not be taken back that it is to be given back by those below.
pub(crate) fn leave(file: impl AsFd) {
    // Nobody else locks this byte; an error would leave the lock until the last of them has ended.
    let _ = ofd::try_lock(file, false, marker(std::process::id()));
}

/// Ends the handing on of a lock held at `depth`; false if someone below goes on under it at this moment. On success
/// nobody can begin to before [`release`].
pub(crate) fn take_back(file: impl AsFd, depth: u32) -> bool {
    if !is_last(&file, depth) {
        return false;
    }
    let _ = ofd::unlock(&file, marker(std::process::id()));
    true
}

/// Whether nobody goes on below the holder at `depth`, and from now on nobody begins to.
fn is_last(file: impl AsFd, depth: u32) -> bool {
    // Errors: no such locks here, or a descriptor that is not for writing, below which nobody can lock a byte either.
    !matches!(ofd::try_lock(file, false, depth + 1..MARKERS), Ok(false))
}

/// Unlocks every byte of `file`.
pub(crate) fn release(file: impl AsFd) -> io::Result<()> {
    ofd::unlock(file, 0..END)
}

/// What holds for any value of the variable.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_entries(value: &OsStr) {
    let held = entries(Some(value));
    let again = value_of(&held);
    assert_eq!(entries(again.as_deref()), held, "{value:?}");
    for entry in held {
        // What descriptors and record locks can be.
        assert!(entry.fd >= 0 && entry.pid > 0 && entry.depth + 2 < MARKERS && marker(entry.pid).end <= END + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers about 0 and about a limit.
    fn near(limit: u32) -> impl Strategy<Value = u32> {
        prop_oneof![0..3_u32, limit - 3..limit + 3]
    }

    proptest! {
        #[test]
        fn any_environment(
            text: String,
            fd in -2..5_i64,
            mode in "[xswy]?",
            depth in near(MARKERS),
            pid in near(END - MARKERS),
        ) {
            any_entries(OsStr::new(&text));
            let likely = format!("{fd}:1:2:{mode}:{depth}:{pid}");
            any_entries(OsStr::new(&likely));
            any_entries(OsStr::new(&format!("{text},{likely},,3:{likely}")));
        }

        #[test]
        fn every_entry_arrives(
            fd in 0..RawFd::MAX,
            dev: u64,
            ino: u64,
            mode in 0..3_usize,
            depth in 0..MARKERS - 2,
            pid in 1..=END - MARKERS,
        ) {
            let intent = [Intent::Exclusive, Intent::Shared, Intent::Replacing][mode];
            let entry = Entry { fd, id: FileId { dev, ino }, intent, depth, pid };
            let value = value_of(&[entry.clone(), entry.clone()]);
            prop_assert_eq!(entries(value.as_deref()), [entry.clone(), entry]);
        }
    }

    #[test]
    fn entries_survive_the_environment() {
        let id = FileId { dev: 2049, ino: u64::MAX };
        let outer = Entry { fd: 100, id, intent: Intent::Shared, depth: 0, pid: 1 };
        let inner = Entry { fd: 3, id, intent: Intent::Replacing, depth: 7, pid: 4_194_304 };
        let value = value_of(&[outer.clone(), inner.clone()]).unwrap();
        assert_eq!(value, "100:2049:18446744073709551615:s:0:1,3:2049:18446744073709551615:w:7:4194304");
        assert_eq!(entries(Some(&value)), [outer, inner]);
        assert_eq!(value_of(&[]), None);
    }

    #[test]
    fn nonsense_is_passed_over() {
        for text in [
            "",
            ",",
            "::::::",
            "3:1:1:x:0",
            "3:1:1:x:0:1:",
            "-1:1:1:x:0:1",
            "3:1:1:y:0:1",
            "3:1:1::0:1",
            "3:1:1:x:0:0",
            "3:1:1:x:16777215:1",
            "3:1:1:x:0:8388609",
            "3:1:1:x:4294967295:4294967295",
            "99999999999:1:1:x:0:1",
            "3:1:1:x:0:1\u{e4}",
        ] {
            assert_eq!(entries(Some(OsStr::new(text))), [], "{text}");
        }
        assert_eq!(entries(Some(OsStr::new("x,3:1:1:x:0:1,,"))).len(), 1);
        assert_eq!(entries(None), []);
    }
}
