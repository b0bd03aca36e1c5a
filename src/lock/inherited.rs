//! Going on under a lock that an ancestor of this process holds, instead of waiting for it for ever.
//!
//! A holder that starts a child gives it a descriptor of the locked file and says so in the environment:
//! `AWRITE_HELD=FD:DEV:INO:MODE:DEPTH:PID[,…]`. The variable only says where to look. The kernel is asked for the facts,
//! through the descriptor FD: is it the lock file, and does its open file description hold the lock? Nobody can give
//! another description these properties. It can only be inherited.
//!
//! Open-file-description record locks on the lock file say who is who. They do not interfere with its `flock`:
//!
//! ```text
//!   byte 0              shared by waiters (flock.rs)
//!   byte DEPTH+1        taken by those who go on directly below a holder of that DEPTH; exclusive ones one at a time
//!   byte MARKS+PID      the mark: shared by a holder that hands its lock on, until it gives the lock back; locked alone
//!                       by a holder that ended before those below, so that the last of these gives the lock back
//!   byte END            shared by a housekeeper, as long as it has the lock
//! ```
//!
//! ```text
//!   holder, depth D:  held ──hand_over: mark──> handed on ──take_back: lock bytes D+1…, unmark──> released
//!                                                   └──somebody below has byte D+1: leave, the lock is theirs
//!   descendant:       find: marked? ──lock byte D+1 of a fresh descriptor──> confirm: still marked, locked ──> held
//! ```
//!
//! A holder takes its lock back under byte D+1, and a descendant confirms it under the same byte. So one of the two sees
//! the other. A holder that is killed leaves its mark and its lock to those who have the descriptor, and they can go on
//! under it.
//!
//! The kernel knows nothing of a lock by link(2). There, a baton stands for the lock file (baton.rs).

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
/// Above every depth. With the largest process id (2^22) added, the sum still fits in 32 bits.
const MARKS: u32 = 1 << 24;
/// The byte behind the last mark.
const END: u32 = MARKS + (1 << 23);
/// Shared by a housekeeper while it has the lock.
const BRIEF: Range<u32> = END..END + 1;
/// The first descriptor for children. Far from those that scripts choose for themselves: `exec 9>…` closes what was 9.
const FIRST_FD: RawFd = 100;

/// What a lock is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Alone, for any purpose.
    Exclusive,
    /// Together with other shared holders.
    Shared,
    /// To replace the target by the output of a command.
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

/// One entry of the environment variable: a process that holds a lock.
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
    let depth = words.next()?.parse().ok().filter(|depth| *depth < MARKS - 2)?;
    let pid = words.next()?.parse().ok().filter(|pid| (1..=END - MARKS).contains(pid))?;
    words.next().is_none().then_some(Entry { fd, id, intent, depth, pid })
}

/// The entries in the variable, outermost first. Malformed ones are ignored.
fn entries(value: Option<&OsStr>) -> Vec<Entry> {
    let text = value.and_then(OsStr::to_str).unwrap_or_default();
    text.split(',').filter_map(parse).collect()
}

fn variable() -> Option<OsString> {
    std::env::var_os(VARIABLE)
}

fn inherited() -> Vec<Entry> {
    entries(variable().as_deref())
}

/// Whether the environment names any holder.
pub(super) fn is_any() -> bool {
    variable().is_some()
}

/// An ancestor that has handed the lock `id` on, but whose descriptor has not reached this process: a process in between
/// has closed it, as many programs do with descriptors that they do not know.
pub(super) fn lost_on_the_way(id: FileId) -> Option<u32> {
    let is_lost = |entry: &Entry| entry.id == id && entry.descriptor().is_none();
    let lost: Vec<Entry> = inherited().into_iter().filter(is_lost).collect();
    if lost.is_empty() {
        return None;
    }
    let above = host::ancestors();
    lost.iter().map(|entry| entry.pid).find(|pid| above.contains(pid))
}

fn mark_of(pid: u32) -> Range<u32> {
    MARKS + pid..MARKS + pid + 1
}

impl Entry {
    /// The descriptor, if it has reached this process and leads to the file that the entry names.
    fn descriptor(&self) -> Option<sys::Borrowed> {
        sys::Borrowed::number(self.fd).filter(|fd| FileStatus::of(*fd).is_ok_and(|status| status.id == self.id))
    }

    /// Whether the open file description behind the descriptor has the mark.
    fn is_marked(&self, fresh: impl AsFd) -> bool {
        // The fresh descriptor sees a foreign mark; the inherited one shares its description and does not.
        self.descriptor().is_some_and(|fd| {
            ofd::is_locked(fresh, mark_of(self.pid)).unwrap_or(false)
                && !ofd::is_locked(fd, mark_of(self.pid)).unwrap_or(true)
        })
    }

    /// The best guess where record locks and `flock` are the same thing (NFS), or where there are no record locks.
    fn is_plausible(&self) -> bool {
        host::is_there(self.pid) && self.descriptor().is_some()
    }
}

/// The ancestors that hold a lock. The first one holds its `flock`, and each further one is below the one before it.
#[derive(Debug)]
pub(crate) struct Ancestor {
    chain: Vec<Entry>,
    /// On this file system the kernel can be asked about them.
    certain: bool,
}

/// The ancestors that hold the lock `id`. `fresh` is a new descriptor of the lock file.
pub(super) fn find(fresh: impl AsFd, id: FileId) -> Option<Ancestor> {
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

impl Ancestor {
    /// The byte that those take who go on below it.
    pub(super) fn byte_below(&self) -> Range<u32> {
        self.depth_below()..self.depth_below() + 1
    }

    /// The depth of those who go on below it.
    pub(super) fn depth_below(&self) -> u32 {
        // The environment is far too short for 2^24 entries.
        u32::try_from(self.chain.len()).unwrap_or(MARKS - 2)
    }

    /// Refuses a lock that could never be granted below this ancestor.
    pub(super) fn ensure_grantable(&self, intent: Intent, target: &Path) -> Result<()> {
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

    /// Whether they hold the lock, or hold it still. To be asked once the byte below is locked.
    pub(super) fn confirm(&self, fresh: impl AsFd) -> Confirmed {
        if !self.chain.iter().all(|entry| entry.is_marked(&fresh)) {
            return Confirmed::Gone;
        }
        // They have the marks, so they hold the lock, unless a mark is forged. To lock again in the same mode changes
        // nothing for a holder. An exclusive attempt would drop a shared lock.
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

    /// Gives back the locks that ancestors have [left](leave) to those below, the innermost first. To be called once this
    /// process has given its own back, whose description is `fresh`. `give_back` gets the description that has the
    /// `flock`.
    pub(super) fn give_back_what_was_left(
        &self,
        fresh: impl AsFd,
        give_back: impl Fn(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        for entry in self.chain.iter().rev() {
            let Some(fd) = sys::Borrowed::number(entry.fd).filter(|_| entry.is_marked(&fresh)) else { break };
            // A shared mark: the holder lives, or was killed. Others below: the last of them gives the lock back.
            if !ofd::is_locked_alone(&fresh, mark_of(entry.pid))? || !bar_below(fd, entry.depth) {
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
pub(super) enum Confirmed {
    /// The ancestor holds the lock.
    Holds,
    /// It has given the lock back.
    Gone,
    /// It never had the lock.
    Forged,
}

/// How to start a child process that can go on under a held lock or lease, or one that cannot.
///
/// The program that starts the child has to apply it: the library does not change its process's descriptors or
/// environment. See [`FileLock::hand_over`](crate::FileLock::hand_over) and [`Lease::hand_over`](crate::Lease::hand_over).
#[derive(Debug)]
#[non_exhaustive]
pub struct HandOver {
    /// A descriptor that the child must have under this very number. It has the close-on-exec flag: clear that in the
    /// child. It may be closed in this process once the child has been started.
    pub fd: Option<OwnedFd>,
    /// Descriptors that the child must not have.
    pub close: Vec<RawFd>,
    /// The name of an environment variable.
    pub variable: &'static str,
    /// The value that it must have in the child; `None`: it must not be set.
    pub value: Option<OsString>,
}

/// Marks `file` as held by this process, and copies its descriptor for a child.
pub(super) fn hand_over(file: impl AsFd, id: FileId, intent: Intent, depth: u32) -> io::Result<HandOver> {
    use rustix::io::{Errno, fcntl_dupfd_cloexec};
    let fd = match fcntl_dupfd_cloexec(&file, FIRST_FD) {
        // The limit on descriptors is lower.
        Err(Errno::INVAL | Errno::MFILE) => fcntl_dupfd_cloexec(&file, 3)?,
        outcome => outcome?,
    };
    let pid = std::process::id();
    if filesystem::is_local(&file) {
        // Where that does not work, processes below wait for the lock as any other does.
        let _ = ofd::try_lock(&file, true, mark_of(pid));
    }
    let mut held = inherited();
    held.push(Entry { fd: std::os::fd::AsRawFd::as_raw_fd(&fd), id, intent, depth, pid });
    Ok(HandOver { fd: Some(fd), close: Vec::new(), variable: VARIABLE, value: value_of(&held) })
}

/// A file that an ancestor has open for those below it, according to the environment.
pub(super) struct InheritedFile {
    fd: RawFd,
    pub(super) id: FileId,
    /// The ancestor.
    pub(super) pid: u32,
    pub(super) content: Vec<u8>,
}

impl InheritedFile {
    /// Opens the file anew, for a description of our own.
    pub(super) fn open(&self) -> Option<File> {
        let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", self.fd)).ok()?;
        FileStatus::of(&file).is_ok_and(|status| status.id == self.id).then_some(file)
    }
}

/// The inherited files that may be batons: those with a nonce in them. A lock file is empty.
pub(super) fn batons() -> Vec<InheritedFile> {
    let content_of = |entry: &Entry| {
        let fd = entry.descriptor()?;
        let mut content = vec![0; 2 * NONCE];
        let length = rustix::io::pread(fd, content.as_mut_slice(), 0).ok()?;
        content.truncate(length);
        (length == NONCE).then_some(content)
    };
    let carried = |entry: Entry| {
        let content = content_of(&entry)?;
        Some(InheritedFile { fd: entry.fd, id: entry.id, pid: entry.pid, content })
    };
    inherited().into_iter().filter_map(carried).collect()
}

/// Keeps the lock `id` from a child, with all inherited descriptors of it.
pub(super) fn keep_back(id: FileId) -> HandOver {
    let (ours, others): (Vec<Entry>, Vec<Entry>) = inherited().into_iter().partition(|entry| entry.id == id);
    let close = ours.iter().filter(|entry| entry.descriptor().is_some()).map(|entry| entry.fd).collect();
    HandOver { fd: None, close, variable: VARIABLE, value: value_of(&others) }
}

fn value_of(held: &[Entry]) -> Option<OsString> {
    let texts: Vec<String> = held.iter().map(Entry::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(",").into())
}

/// Leaves a lock that could not be taken back to those below: the last of them gives it back.
pub(super) fn leave(file: impl AsFd) {
    // Nobody else locks this byte. After an error the lock stays held until the last process with the descriptor ends.
    let _ = ofd::try_lock(file, false, mark_of(std::process::id()));
}

/// Ends the handing on of a lock held at `depth`. False: somebody below works under it now. On success, nobody can begin
/// to before [`release`].
pub(super) fn take_back(file: impl AsFd, depth: u32) -> bool {
    if !bar_below(&file, depth) {
        return false;
    }
    let _ = ofd::unlock(&file, mark_of(std::process::id()));
    true
}

/// Locks the bytes below the holder at `depth`: from then on nobody can begin to go on there. False: somebody does now.
fn bar_below(file: impl AsFd, depth: u32) -> bool {
    // An error means that there are no such locks here, or that the descriptor is not writable. Then nobody below can
    // lock a byte either.
    !matches!(ofd::try_lock(file, false, depth + 1..MARKS), Ok(false))
}

/// Tells others that `file` is about to be locked for a moment only. Where that does not work, a caller that does not wait
/// may find it busy.
pub(crate) fn mark_brief(file: impl AsFd) {
    let _ = ofd::try_lock(file, true, BRIEF);
}

/// Whether another has [told](mark_brief) so.
pub(super) fn is_marked_brief(file: impl AsFd) -> bool {
    ofd::is_locked(file, BRIEF).unwrap_or(false)
}

/// Unlocks every byte of `file`.
pub(super) fn release(file: impl AsFd) -> io::Result<()> {
    ofd::unlock(file, 0..END)
}

/// What holds for any value of the variable.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_entries(value: &OsStr) {
    let held = entries(Some(value));
    let again = value_of(&held);
    assert_eq!(entries(again.as_deref()), held, "{value:?}");
    for entry in held {
        // In the range of descriptors and of record locks.
        assert!(entry.fd >= 0 && entry.pid > 0 && entry.depth + 2 < MARKS && mark_of(entry.pid).end <= END + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers near 0 and near a limit.
    fn near(limit: u32) -> impl Strategy<Value = u32> {
        prop_oneof![0..3_u32, limit - 3..limit + 3]
    }

    proptest! {
        #[test]
        fn any_environment(
            text: String,
            fd in -2..5_i64,
            mode in "[xswy]?",
            depth in near(MARKS),
            pid in near(END - MARKS),
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
            depth in 0..MARKS - 2,
            pid in 1..=END - MARKS,
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
