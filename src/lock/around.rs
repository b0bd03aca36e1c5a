//! A look at who is in the way, for a process that waits for a lock: does it wait for itself?
//!
//! The environment may have been reset on the way to this process (sudo, `env -i`), or the descriptors closed. A shell that
//! locks a descriptor of its own (`exec 9>>f.lock; awrite-lock 9`) does not get an environment from that. So the
//! descriptors of this process are asked what they hold (open_files.rs), and then those of its ancestors.
//!
//! ```text
//!   busy ──an inherited descriptor holds it and is marked──────> go on below that
//!        ├─an inherited descriptor holds it, without a mark────> an error: it cannot be shared
//!        ├─an ancestor holds it and has handed it over─────────> an error: the descriptor was lost on the way
//!        └─────────────────────────────────────────────────────> wait
//! ```
//!
//! Who holds the lock without having handed it over is another program, or wants to be waited for.

use std::cell::LazyCell;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::inherited::{self, Ancestor, Entry, Identity, Intent};
use super::open_files::{self, Flock, OpenFile};
use super::{filesystem, proc_locks};
use crate::error::{Error, ErrorKind, Result};
use crate::options::Wait;
use crate::remedy::Remedy;
use crate::sys::{FileId, host};

/// What stands between this process and a lock.
#[derive(Debug)]
pub(super) enum Around {
    /// Nothing that it would wait for in vain.
    Nothing,
    /// An ancestor, under whose lock it can go on.
    Ancestor(Ancestor),
    /// A descriptor of its own, under whose lock it cannot.
    Own { pid: u32 },
    /// An ancestor, whose descriptor has not reached it.
    Lost { pid: u32 },
}

impl Around {
    /// The error instead of a wait for oneself.
    pub(super) fn ensure_not_itself(self, target: &Path, wait: Wait) -> Result<Option<Ancestor>> {
        match self {
            Around::Nothing => Ok(None),
            Around::Ancestor(ancestor) => Ok(Some(ancestor)),
            // Not to wait for it is no mistake.
            Around::Own { .. } if wait == Wait::No => Ok(None),
            Around::Own { pid } => Err(not_shared(pid, target)),
            Around::Lost { pid } => Err(lost_on_the_way(pid, target)),
        }
    }
}

fn not_shared(pid: u32, target: &Path) -> Error {
    let reason = "The lock is held by a descriptor that this process has inherited, and cannot be shared with it";
    let remedy = match pid {
        0 => "lock the descriptor with awrite-lock, and open it for writing (9>>FILE.lock)".to_owned(),
        pid => format!("process {pid} holds it, by flock(2) alone or without permission to write it"),
    };
    Error::new(ErrorKind::Usage, reason).on(target).with_remedy(Remedy::Other(remedy))
}

/// The error of a process below `pid`, whose descriptor it does not have.
pub(super) fn lost_on_the_way(pid: u32, target: &Path) -> Error {
    let reason = "The lock is held above this process, but its descriptor was closed on the way";
    let remedy = match pid {
        0 => Remedy::Other("start this process so that it inherits descriptors".to_owned()),
        pid => Remedy::Inherit { pid },
    };
    Error::new(ErrorKind::Usage, reason).on(target).with_remedy(remedy)
}

/// Looks who holds what this process is about to wait for: the `flock` of the lock file `id`, or the byte below `above`.
/// `fresh` is its descriptor of the file. `alone`: no thread of this process has locks of its own.
pub(super) fn look(fresh: impl AsFd, id: FileId, above: Option<&Ancestor>, alone: bool) -> Around {
    let own = inherited_descriptors(&fresh, id);
    let (chain, unmarked) = chain_of(&own, id);
    if let Some(file) = unmarked {
        let pid = file.flock.map_or(0, |flock| flock.pid);
        // A thread of this process that has locked an inheritable descriptor is waited for.
        if alone || pid != std::process::id() {
            // Not the one that has locked the descriptor of a shell, and ended.
            return Around::Own { pid: if host::is_there(pid) { pid } else { 0 } };
        }
    } else if let Some(nearer) = Ancestor::of(chain) {
        if above.is_none_or(|above| !above.is_the_same(&nearer)) {
            return Around::Ancestor(nearer);
        }
    }
    lost(&fresh, id, above).map_or(Around::Nothing, |pid| Around::Lost { pid })
}

/// The descriptors of the file `id` that this process has inherited, but for `fresh`: a caller's descriptor may be locked
/// already, and is then locked again.
pub(super) fn inherited_descriptors(fresh: impl AsFd, id: FileId) -> Vec<OpenFile> {
    let fresh = fresh.as_fd().as_raw_fd();
    let own = open_files::of("self", id).unwrap_or_default();
    own.into_iter().filter(|file| file.is_inherited && file.fd != fresh).collect()
}

/// Those who hold the lock, by what the descriptors of this process hold: marked ones, and at their end, if there is one,
/// one without a mark.
fn chain_of(own: &[OpenFile], id: FileId) -> (Vec<Entry>, Option<&OpenFile>) {
    let mut chain: Vec<Entry> = Vec::new();
    loop {
        let above = chain.last().map(|entry| entry.identity);
        let holders = || own.iter().filter(|file| holds(file, above).is_some());
        let Some(file) = holders().find(|file| mark_of(file).is_some()).or_else(|| holders().next()) else {
            return (chain, None);
        };
        let (Some(identity), Some(Flock { shared, pid })) = (mark_of(file), holds(file, above)) else {
            return (chain, Some(file));
        };
        let intent = match shared {
            true => Intent::Shared,
            false if identity.is_replacing() => Intent::Replacing(0),
            false => Intent::Exclusive,
        };
        chain.push(Entry { fd: Some(file.fd), id, intent, identity, pid });
    }
}

pub(super) fn mark_of(file: &OpenFile) -> Option<Identity> {
    file.bytes.iter().find_map(|(bytes, _)| Identity::of_mark(bytes))
}

/// The bytes below others that the description may have.
pub(super) fn shares_of(file: &OpenFile) -> impl Iterator<Item = Range<u64>> {
    file.bytes.iter().map(|(bytes, _)| bytes.clone()).filter(|bytes| Identity::of_byte_below(bytes).is_some())
}

/// How the description holds the lock, or its share of the lock below `above`.
fn holds(file: &OpenFile, above: Option<Identity>) -> Option<Flock> {
    let Some(above) = above else { return file.flock };
    let below = above.byte_below();
    // Its holder itself takes the byte, too, at the end.
    let shared = file.bytes.iter().find_map(|(bytes, shared)| (*bytes == below).then_some(*shared));
    shared.filter(|_| mark_of(file) != Some(above)).map(|shared| Flock { shared, pid: 0 })
}

/// An ancestor that holds the lock, has handed it over, and whose descriptor has not reached this process.
fn lost(fresh: impl AsFd, id: FileId, above: Option<&Ancestor>) -> Option<u32> {
    let said = inherited::said_about(id);
    if said.last().is_some_and(|entry| entry.fd.is_none()) {
        return None;
    }
    // Whoever has the entry is below the one who has the mark.
    let is_lost = |entry: &&Entry| entry.descriptor().is_none() && entry.is_marked_somewhere(&fresh);
    if let Some(entry) = said.iter().rev().find(is_lost) {
        return Some(entry.pid);
    }
    let marks = if filesystem::is_local(&fresh) { inherited::has_marks(&fresh).ok() } else { None };
    if marks == Some(false) && said.is_empty() {
        return None;
    }
    let ancestors = host::ancestors();
    // Nor is there anything to see of a lock that cannot be handed over.
    let is_above = |pid: u32| ancestors.contains(&pid);
    let holds_alone = |entry: &&Entry| {
        !entry.is_handed_over() && (is_above(entry.pid) || ancestors.is_empty() && entry.is_plausible())
    };
    if let Some(entry) = said.iter().rev().find(holds_alone) {
        return Some(entry.pid);
    }
    if marks == Some(false) {
        return None;
    }
    let above = above.map(Ancestor::innermost);
    let is_it = |file: &OpenFile| holds(file, above).is_some() && (marks.is_none() || mark_of(file).is_some());
    // The list of all locks of the machine may be long.
    let holders = LazyCell::new(|| proc_locks::holders(id));
    let has_lost = |pid: &&u32| match open_files::of(&pid.to_string(), id) {
        Some(files) => files.iter().any(is_it),
        // Another user's descriptors cannot be seen.
        None => above.is_none() && holders.contains(pid),
    };
    ancestors.iter().find(has_lost).copied()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::sys::{self, FileStatus};
    use rustix::fs::{Mode, OFlags};

    /// In a library, it is a thread's, which gives it back.
    #[test]
    fn what_this_process_has_locked_itself() {
        let place = tempfile::NamedTempFile::new().unwrap();
        let inheritable = rustix::fs::open(place.path(), OFlags::RDWR, Mode::empty()).unwrap();
        sys::try_flock(&inheritable, false).unwrap();
        let (fresh, id) = (place.reopen().unwrap(), FileStatus::of(&inheritable).unwrap().id);
        assert!(matches!(look(&fresh, id, None, false), Around::Nothing));
        let own = std::process::id();
        assert!(matches!(look(&fresh, id, None, true), Around::Own { pid } if pid == own));
        // A descriptor is not in its own way.
        assert!(matches!(look(&inheritable, id, None, true), Around::Nothing));
    }
}
