//! Going on under a lock that an ancestor of this process holds, instead of waiting for it for ever.
//!
//! A holder that starts a child gives it a descriptor of the locked file and says so in the environment:
//! `AWRITE_HELD=FD:DEV:INO:INTENT:R:PID[,…]`, outermost first. The variable only says where to look. The kernel is asked
//! for the facts, through the descriptor FD: is it the lock file, and does its open file description hold the lock? Nobody
//! can give another description these properties. It can only be inherited.
//!
//! R is a random number that the holder draws when it hands the lock over for the first time. Process ids would not do:
//! they repeat in other PID namespaces, and a process that becomes another program keeps its own. Open-file-description
//! record locks on the lock file say who is who. They do not interfere with its `flock`:
//!
//! ```text
//!   byte 0       shared by waiters (flock.rs)
//!   byte 1       shared by a housekeeper, as long as it has the lock
//!   byte 2R      the mark of a holder that hands its lock on, until it takes it back
//!   byte 2R+1    taken by those who go on directly below it; exclusive ones one at a time
//! ```
//!
//! ```text
//!   holder:      held ──hand_over: mark──> handed on ──take_back: wait for byte 2R+1, unmark──> held ──> released
//!   descendant:  find: marked? ──lock byte 2R+1 of a fresh descriptor──> confirm: still marked ──> held
//! ```
//!
//! A holder takes its lock back under byte 2R+1, and a descendant looks for the mark again under the same byte. So nobody
//! goes on below a holder that has released the lock. The bytes go before the `flock`: then they say nothing untrue about
//! a lock that is free. A holder that is killed leaves its mark and its lock to those who have the descriptor, and they can
//! go on under it. tests/models/nest.pml is this protocol for a model checker.
//!
//! What cannot be waited for is not handed over (R is 0): where the kernel has no such locks, or has one kind only (NFS),
//! or the lock file could not be opened for writing. Nor is a lock that a child shall wait for (FD is `-`).
//!
//! The kernel knows nothing of a lock by link(2). There, a baton stands for the lock file (baton.rs). Where the environment
//! was lost on the way, see around.rs.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::filesystem;
use super::open_files;
use super::record::fresh_nonce;
use crate::error::{Error, ErrorKind, Result};
use crate::names::NONCE;
use crate::remedy::Remedy;
use crate::sys::{self, FileId, FileStatus, host, ofd};

/// The environment variable.
pub(crate) const VARIABLE: &str = "AWRITE_HELD";
/// What batons are called.
pub(super) const BATON: &str = "awrite-baton";
/// Shared by a housekeeper while it has the lock.
const BRIEF: Range<u64> = 1..2;
/// The first descriptor for children. Far from those that scripts choose for themselves: `exec 9>…` closes what was 9.
const FIRST_FD: RawFd = 100;
/// The pause before the next look at those below, where the kernel has no room for one more waiter.
const PAUSE: Duration = Duration::from_millis(20);

/// What a lock is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Alone, for any purpose.
    Exclusive,
    /// Together with other shared holders.
    Shared,
    /// To replace a target by the output of a command. Several targets may share a lock file: the number is the target's
    /// (0: not known which).
    Replacing(u64),
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Intent::Exclusive => f.write_str("x"),
            Intent::Shared => f.write_str("s"),
            Intent::Replacing(target) => write!(f, "w{target:x}"),
        }
    }
}

fn intent(text: &str) -> Option<Intent> {
    match text {
        "x" => Some(Intent::Exclusive),
        "s" => Some(Intent::Shared),
        _ => u64::from_str_radix(text.strip_prefix('w')?, 16).ok().map(Intent::Replacing),
    }
}

/// R of one hand-over; 0: there was none. Its lowest bit is set if the holder is about to replace a target, for those who
/// have lost the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64);

impl Identity {
    const NONE: Identity = Identity(0);

    fn random(intent: Intent) -> Identity {
        let number = u64::from_str_radix(&fresh_nonce(), 16).unwrap_or_default();
        Identity((number % (ofd::END / 2)).max(2) & !1 | u64::from(matches!(intent, Intent::Replacing(_))))
    }

    /// Which one these bytes are the mark of.
    pub(super) fn of_mark(bytes: &Range<u64>) -> Option<Identity> {
        // The kernel may show the mark and the byte behind it as one.
        let is_mark = bytes.start % 2 == 0 && bytes.start > 2 && matches!(bytes.end - bytes.start, 1 | 2);
        is_mark.then_some(Identity(bytes.start / 2))
    }

    /// Below which one this byte is.
    pub(super) fn of_byte_below(bytes: &Range<u64>) -> Option<Identity> {
        Identity::of_mark(&(bytes.start.checked_sub(1)?..bytes.end)).filter(|_| bytes.end - bytes.start == 1)
    }

    pub(super) fn is_replacing(self) -> bool {
        self.0 & 1 == 1
    }

    fn mark(self) -> Range<u64> {
        2 * self.0..2 * self.0 + 1
    }

    /// The byte that those take who go on directly below the holder.
    pub(super) fn byte_below(self) -> Range<u64> {
        2 * self.0 + 1..2 * self.0 + 2
    }
}

/// One entry of the environment variable: a process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `None`: it shall not be gone on under that lock here.
    pub(super) fd: Option<RawFd>,
    pub(super) id: FileId,
    pub(super) intent: Intent,
    pub(super) identity: Identity,
    /// For messages; 0: not known.
    pub(super) pid: u32,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { fd, id, intent, identity, pid } = self;
        let fd = fd.map_or("-".to_owned(), |fd| fd.to_string());
        write!(f, "{fd}:{}:{}:{intent}:{}:{pid}", id.dev, id.ino, identity.0)
    }
}

fn parse(text: &str) -> Option<Entry> {
    let mut words = text.split(':');
    let fd = match words.next()? {
        "-" => None,
        number => Some(number.parse().ok().filter(|fd| *fd >= 0)?),
    };
    let id = FileId { dev: words.next()?.parse().ok()?, ino: words.next()?.parse().ok()? };
    let intent = intent(words.next()?)?;
    let identity = words.next()?.parse().ok().filter(|number| *number < ofd::END / 2 && *number != 1)?;
    let pid = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Entry { fd, id, intent, identity: Identity(identity), pid })
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

/// What the environment says about the lock `id`.
pub(super) fn said_about(id: FileId) -> Vec<Entry> {
    inherited().into_iter().filter(|entry| entry.id == id).collect()
}

impl Entry {
    /// The descriptor, if it has reached this process and leads to the file that the entry names.
    pub(super) fn descriptor(&self) -> Option<sys::Borrowed> {
        let fd = sys::Borrowed::number(self.fd?);
        fd.filter(|fd| FileStatus::of(*fd).is_ok_and(|status| status.id == self.id))
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.identity != Identity::NONE
    }

    /// Whether any description but that of `fresh` has the mark.
    pub(super) fn is_marked_somewhere(&self, fresh: impl AsFd) -> bool {
        self.is_handed_over() && ofd::is_locked(fresh, self.identity.mark()).unwrap_or(false)
    }

    /// The best guess where there are no record locks and no /proc.
    pub(super) fn is_plausible(&self) -> bool {
        host::is_there(self.pid) && self.descriptor().is_some()
    }

    /// Whether the open file description behind the descriptor has the mark.
    fn is_marked(&self, fresh: impl AsFd) -> bool {
        // The fresh descriptor sees a foreign mark; the inherited one shares its description and does not.
        self.descriptor().is_some_and(|fd| {
            self.is_marked_somewhere(fresh) && !ofd::is_locked(fd, self.identity.mark()).unwrap_or(true)
        })
    }
}

/// The ancestors that hold a lock. The first one holds its `flock`, and each further one is below the one before it.
#[derive(Clone, Debug)]
pub(crate) struct Ancestor {
    /// Not empty.
    chain: Vec<Entry>,
}

/// The ancestors that hold the lock `id`, by the environment. `fresh` is a new descriptor of the lock file.
pub(super) fn find(fresh: impl AsFd, id: FileId) -> Option<Ancestor> {
    let mut chain = said_about(id);
    if chain.last().is_some_and(|innermost| !innermost.is_handed_over()) {
        return None;
    }
    // The others have released it, or never had it.
    chain.retain(|entry| entry.is_marked(&fresh));
    Ancestor::of(chain)
}

impl Ancestor {
    pub(super) fn of(chain: Vec<Entry>) -> Option<Ancestor> {
        (!chain.is_empty()).then_some(Ancestor { chain })
    }

    pub(super) fn innermost(&self) -> Identity {
        self.chain.last().map_or(Identity::NONE, |entry| entry.identity)
    }

    /// The byte that those take who go on below it.
    pub(super) fn byte_below(&self) -> Range<u64> {
        self.innermost().byte_below()
    }

    pub(super) fn is_the_same(&self, other: &Ancestor) -> bool {
        self.innermost() == other.innermost()
    }

    /// Refuses a lock that could never be granted below this ancestor.
    pub(super) fn ensure_grantable(&self, intent: Intent, target: &Path) -> Result<()> {
        // Not the innermost alone: below a shared one, a descriptor that is only for writing is locked exclusively
        // (fcntl(2): a read lock needs one for reading).
        let shared = self.chain.iter().rev().find(|entry| entry.intent == Intent::Shared);
        let is_replaced = |by: &Entry| match (by.intent, intent) {
            (Intent::Replacing(outer), Intent::Replacing(inner)) => outer == inner || outer == 0,
            _ => false,
        };
        let (reason, remedy) = if self.chain.iter().any(is_replaced) {
            ("This runs below a command whose output is about to replace the file", Remedy::ToStdout)
        } else if let Some(shared) = shared.filter(|_| intent != Intent::Shared) {
            let by = process(shared.pid);
            (
                "An exclusive lock cannot be taken below a shared one",
                Remedy::Other(format!("{by}, above this one, shares the lock; take that one exclusively")),
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
        let mut above: Option<Identity> = None;
        let mut holds = |entry: &Entry| {
            let Some(fd) = entry.descriptor() else { return Ok(false) };
            let shared = entry.intent == Intent::Shared;
            match above.replace(entry.identity) {
                None => sys::try_flock(fd, shared),
                Some(above) => ofd::try_lock(fd, shared, above.byte_below()),
            }
        };
        if self.chain.iter().all(|entry| holds(entry).unwrap_or(false)) { Confirmed::Holds } else { Confirmed::Forged }
    }
}

/// For messages.
pub(super) fn process(pid: u32) -> String {
    if pid == 0 { "a process".to_owned() } else { format!("process {pid}") }
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
    /// More such descriptors.
    pub more: Vec<OwnedFd>,
    /// Descriptors that the child must not have.
    pub close: Vec<RawFd>,
    /// The name of an environment variable.
    pub variable: &'static str,
    /// The value that it must have in the child; `None`: it must not be set.
    pub value: Option<OsString>,
}

/// Whether and how a held lock is handed on. One identity serves all the children: they exclude each other.
#[derive(Debug, Default)]
pub(super) struct Handed(AtomicU64);

impl Handed {
    /// Marks `file` as held, and copies its descriptor for a child. `above`: who holds it above. `can_wait`: this process
    /// takes the lock back before it releases it.
    pub(super) fn hand_over(
        &self,
        file: impl AsFd,
        id: FileId,
        intent: Intent,
        above: Option<&Ancestor>,
        can_wait: bool,
    ) -> io::Result<HandOver> {
        let fd = copy_for_child(&file)?;
        let identity = self.mark(&file, intent, can_wait);
        let mut held: Vec<Entry> = inherited().into_iter().filter(|entry| entry.id != id).collect();
        let mut more = Vec::new();
        for entry in above.iter().flat_map(|above| &above.chain) {
            let mut entry = entry.clone();
            // A script's own number may be used for another file below.
            if let Some(chosen) = entry.descriptor().filter(|_| entry.fd.is_some_and(|fd| fd < FIRST_FD)) {
                let copy = copy_for_child(chosen)?;
                entry.fd = Some(copy.as_raw_fd());
                more.push(copy);
            }
            held.push(entry);
        }
        held.push(Entry { fd: Some(fd.as_raw_fd()), id, intent, identity, pid: std::process::id() });
        Ok(HandOver { fd: Some(fd), more, close: Vec::new(), variable: VARIABLE, value: value_of(&held) })
    }

    /// Whether it is handed on, so that there is something to take back.
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    fn mark(&self, file: impl AsFd, intent: Intent, can_wait: bool) -> Identity {
        let known = self.0.load(Ordering::SeqCst);
        if known != 0 || !can_wait {
            return Identity(known);
        }
        let identity = mark(&file, intent);
        match self.0.compare_exchange(0, identity.0, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => identity,
            // Another thread was faster.
            Err(first) => {
                let _ = ofd::unlock(&file, identity.mark());
                Identity(first)
            }
        }
    }

    /// Ends the handing on, once nobody goes on below the lock any more. `tell` is called if somebody does now.
    pub(super) fn take_back(&self, file: impl AsFd, tell: impl FnOnce()) {
        let identity = self.0.load(Ordering::SeqCst);
        if identity != 0 {
            take_back(file, Identity(identity), tell);
            self.0.store(0, Ordering::SeqCst);
        }
    }
}

fn copy_for_child(file: impl AsFd) -> io::Result<OwnedFd> {
    use rustix::io::{Errno, fcntl_dupfd_cloexec};
    Ok(match fcntl_dupfd_cloexec(&file, FIRST_FD) {
        // The limit on descriptors is lower.
        Err(Errno::INVAL | Errno::MFILE) => fcntl_dupfd_cloexec(&file, 3)?,
        outcome => outcome?,
    })
}

/// Marks the description of `file`, which holds a lock; [`Identity::NONE`] where nobody can go on below it.
pub(super) fn mark(file: impl AsFd, intent: Intent) -> Identity {
    let identity = Identity::random(intent);
    // For writing, as taking it back needs.
    let marked = filesystem::is_local(&file) && ofd::try_lock(&file, false, identity.mark()).unwrap_or(false);
    if marked { identity } else { Identity::NONE }
}

/// Waits until nobody goes on below the holder, lets nobody begin to any more, and unmarks the description.
pub(super) fn take_back(file: impl AsFd, identity: Identity, tell: impl FnOnce()) {
    if !matches!(ofd::try_lock(&file, false, identity.byte_below()), Ok(true)) {
        tell();
        while let Err(e) = ofd::wait_lock(&file, false, identity.byte_below()) {
            if e.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            // No room for one more lock, say. Nobody new is let in without the mark.
            let _ = ofd::unlock(&file, identity.mark());
            while ofd::is_locked(&file, identity.byte_below()).unwrap_or(false) {
                sleep(PAUSE);
            }
            break;
        }
    }
    // In one step, and before the lock itself is released.
    let _ = ofd::unlock(&file, identity.mark().start..identity.byte_below().end);
}

/// A file that an ancestor has open for those below it, according to the environment.
pub(super) struct InheritedFile {
    fd: RawFd,
    pub(super) id: FileId,
    /// The ancestor; 0: not known.
    pub(super) pid: u32,
    content: Vec<u8>,
}

impl InheritedFile {
    /// The nonce of the lock that this is the baton of.
    pub(super) fn nonce(&self) -> &[u8] {
        &self.content[..NONCE]
    }

    /// The number of that lock.
    pub(super) fn number(&self) -> &[u8] {
        &self.content[NONCE..]
    }

    /// Opens the file anew, for a description of our own.
    pub(super) fn open(&self) -> Option<File> {
        let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", self.fd)).ok()?;
        FileStatus::of(&file).is_ok_and(|status| status.id == self.id).then_some(file)
    }
}

/// The inherited files that may be batons: those with a nonce and a number in them. A lock file is empty.
pub(super) fn batons() -> Vec<InheritedFile> {
    let content_of = |fd: sys::Borrowed| {
        let mut content = vec![0; 2 * NONCE + 1];
        let length = rustix::io::pread(fd, content.as_mut_slice(), 0).ok()?;
        content.truncate(length);
        (length == 2 * NONCE).then_some(content)
    };
    let said = inherited().into_iter().filter_map(|entry| {
        let content = content_of(entry.descriptor()?)?;
        Some(InheritedFile { fd: entry.fd?, id: entry.id, pid: entry.pid, content })
    });
    // Where the environment was lost.
    let found = open_files::called("self", BATON).into_iter().filter_map(|fd| {
        let file = sys::Borrowed::number(fd)?;
        Some(InheritedFile { fd, id: FileStatus::of(file).ok()?.id, pid: 0, content: content_of(file)? })
    });
    said.chain(found).collect()
}

/// Keeps the lock `id`, held for `intent`, from a child, with all inherited descriptors of it.
pub(super) fn keep_back(id: FileId, intent: Intent) -> HandOver {
    let (ours, mut held): (Vec<Entry>, Vec<Entry>) = inherited().into_iter().partition(|entry| entry.id == id);
    let close = ours.iter().filter(|entry| entry.descriptor().is_some()).filter_map(|entry| entry.fd).collect();
    held.push(Entry { fd: None, id, intent, identity: Identity::NONE, pid: std::process::id() });
    HandOver { fd: None, more: Vec::new(), close, variable: VARIABLE, value: value_of(&held) }
}

fn value_of(held: &[Entry]) -> Option<OsString> {
    let texts: Vec<String> = held.iter().map(Entry::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(",").into())
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

/// Whether there are record locks besides such a mark, on a file that has some.
pub(super) fn has_more_than_brief(file: impl AsFd) -> io::Result<bool> {
    if cfg!(not(any(target_os = "linux", target_os = "android"))) {
        // There are no marks there.
        return Ok(true);
    }
    Ok(ofd::is_locked(&file, 0..BRIEF.start)? || ofd::is_locked(file, BRIEF.end..ofd::END)?)
}

/// Whether any holder hands the lock on; an error where nobody can.
pub(super) fn has_marks(file: impl AsFd) -> io::Result<bool> {
    ofd::is_locked(file, BRIEF.end..ofd::END)
}

/// Unlocks every byte of `file`.
pub(super) fn release(file: impl AsFd) -> io::Result<()> {
    ofd::unlock(file, 0..ofd::END)
}

/// What holds for any value of the variable.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_entries(value: &OsStr) {
    let held = entries(Some(value));
    let again = value_of(&held);
    assert_eq!(entries(again.as_deref()), held, "{value:?}");
    for entry in held {
        // In the range of descriptors and of record locks, and none of the bytes that mean something else.
        assert!(entry.fd.is_none_or(|fd| fd >= 0) && entry.identity.byte_below().end <= ofd::END);
        assert!(!entry.is_handed_over() || entry.identity.mark().start >= 2 * BRIEF.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers near 0 and near a limit.
    fn near(limit: u64) -> impl Strategy<Value = u64> {
        prop_oneof![0..4_u64, limit - 3..limit + 3]
    }

    proptest! {
        #[test]
        fn any_environment(
            text: String,
            fd in -2..5_i64,
            intent in "[xswy]?[0-9a-f]{0,3}",
            identity in near(ofd::END / 2),
            pid: u32,
        ) {
            any_entries(OsStr::new(&text));
            let likely = format!("{fd}:1:2:{intent}:{identity}:{pid}");
            any_entries(OsStr::new(&likely));
            any_entries(OsStr::new(&format!("{text},{likely},,3:{likely}")));
        }

        #[test]
        fn every_entry_arrives(
            fd in proptest::option::of(0..RawFd::MAX),
            dev: u64,
            ino: u64,
            intent in 0..3_usize,
            target: u64,
            identity in 2..ofd::END / 2,
            pid: u32,
        ) {
            let intent = [Intent::Exclusive, Intent::Shared, Intent::Replacing(target)][intent];
            let entry = Entry { fd, id: FileId { dev, ino }, intent, identity: Identity(identity), pid };
            let value = value_of(&[entry.clone(), entry.clone()]);
            prop_assert_eq!(entries(value.as_deref()), [entry.clone(), entry]);
        }
    }

    #[test]
    fn identities_are_their_own() {
        for intent in [Intent::Exclusive, Intent::Shared, Intent::Replacing(7)] {
            let [one, other] = [Identity::random(intent), Identity::random(intent)];
            assert_ne!(one, other);
            assert_eq!(one.is_replacing(), intent == Intent::Replacing(7));
            assert_eq!(Identity::of_mark(&one.mark()), Some(one));
            assert_eq!(Identity::of_mark(&(one.mark().start..one.byte_below().end)), Some(one));
            assert_eq!(Identity::of_mark(&one.byte_below()), None);
        }
        for bytes in [0..1, 1..2, 0..2, 2..3, 4..7, 4..u64::MAX] {
            assert_eq!(Identity::of_mark(&bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn entries_survive_the_environment() {
        let id = FileId { dev: 2049, ino: u64::MAX };
        let outer = Entry { fd: Some(100), id, intent: Intent::Shared, identity: Identity(2), pid: 1 };
        let identity = Identity(0xfff_ffff_ffff_ffff);
        let inner = Entry { fd: Some(3), id, intent: Intent::Replacing(0xab), identity, pid: 4_194_304 };
        let kept = Entry { fd: None, id, intent: Intent::Exclusive, identity: Identity::NONE, pid: 0 };
        if ofd::END == 1 << 62 {
            let value = value_of(&[outer.clone(), inner.clone(), kept.clone()]).unwrap();
            let lock = "2049:18446744073709551615";
            assert_eq!(value, *format!("100:{lock}:s:2:1,3:{lock}:wab:1152921504606846975:4194304,-:{lock}:x:0:0"));
            assert_eq!(entries(Some(&value)), [outer, inner, kept]);
        }
        assert_eq!(value_of(&[]), None);
    }

    #[test]
    fn nonsense_is_passed_over() {
        for text in [
            "",
            ",",
            "::::::",
            "3:1:1:x:4",
            "3:1:1:x:4:1:",
            "-1:1:1:x:4:1",
            "--:1:1:x:4:1",
            "3:1:1:y:4:1",
            "3:1:1::4:1",
            "3:1:1:w:4:1",
            "3:1:1:wg:4:1",
            "3:1:1:x:1:1",
            "3:1:1:x:-4:1",
            "3:1:1:x:2305843009213693952:1",
            "3:1:1:x:18446744073709551616:1",
            "3:1:1:x:4:4294967296",
            "99999999999:1:1:x:4:1",
            "3:1:1:x:4:1\u{e4}",
        ] {
            assert_eq!(entries(Some(OsStr::new(text))), [], "{text}");
        }
        assert_eq!(entries(Some(OsStr::new("x,3:1:1:x:4:1,,"))).len(), 1);
        assert_eq!(entries(None), []);
    }
}
