//! The list of what to remove if this process is told to stop now: temporary files that have a name, locks, leases that a
//! store was asked for, directories made for a write that is not committed, and its backup.
//!
//! States of an entry:
//!
//! ```text
//!   (none) --make: the thing is made-->              listed
//!   listed --turn: it becomes another thing-->       listed
//!   listed --settle, commit: it is renamed-->        (gone from the list)
//!   listed --commit_all: others will finish it-->    (gone from the list)
//!   listed --keep: it stays as it is-->              (gone from the list)
//!   listed --remove, drop: it is undone-->           (gone from the list)
//!   listed --Shutdown::clean: it is undone-->        (the process ends)
//! ```
//!
//! One mutex is held across every arrow, the system call included. Otherwise a stale entry could remove a lock or a file
//! that another process has made under the same name meanwhile. A shutdown takes the mutex and never gives it back, so
//! that nothing is made after the clean-up.
//!
//! Every entry belongs to the process that made it. A forked child has a copy of the list, and removes nothing that is its
//! parent's.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something that exists now and must not outlive the process.
pub(crate) trait Undo: Send {
    /// Removes the thing, or gives a lock back. Runs with the clean-up mutex held.
    fn undo(&self) -> io::Result<()>;

    /// Whether it is a temporary file: users are told how many are removed.
    fn is_temporary_file(&self) -> bool {
        false
    }
}

struct Registry {
    /// By their ids. A set of files gives the first of many locks back first.
    entries: VecDeque<Entry>,
    next: u64,
    /// How often this process has replaced a target.
    commits: u64,
}

impl Registry {
    fn find(&self, id: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        self.find(id).and_then(|at| self.entries.remove(at))
    }
}

struct Entry {
    id: u64,
    pid: u32,
    thing: Box<dyn Undo>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { entries: VecDeque::new(), next: 0, commits: 0 });

fn registry() -> MutexGuard<'static, Registry> {
    // A panic under the mutex leaves at worst an entry too many, whose removal then finds nothing.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry in the list. Dropping it removes the thing.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket {
    id: u64,
    pid: u32,
}

/// Tells whether what a ticket stands for is still listed, without keeping it.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    id: u64,
    pid: u32,
}

impl Mark {
    /// False in a forked child, too.
    pub(crate) fn is_listed(&self) -> bool {
        self.pid == std::process::id() && registry().entries.iter().any(|entry| entry.id == self.id)
    }
}

/// Makes something and lists it, as one step.
pub(crate) fn make<T, U: Undo + 'static, E>(make: impl FnOnce() -> Result<(T, U), E>) -> Result<(T, Ticket), E> {
    let mut registry = registry();
    let (made, thing) = make()?;
    let id = registry.next;
    registry.next += 1;
    let pid = std::process::id();
    registry.entries.push_back(Entry { id, pid, thing: Box::new(thing) });
    Ok((made, Ticket { id, pid }))
}

/// Runs the step that replaces a target in place, with the mutex held. Once it succeeds, a shutdown counts the write as
/// done.
pub(crate) fn commit<T, E>(step: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let mut registry = registry();
    let done = step()?;
    registry.commits += 1;
    Ok(done)
}

/// Runs the step that commits several files together. On success none of what `tickets` stand for is listed any more: what
/// is left to do is done by whoever takes the locks next.
pub(crate) fn commit_all<T>(
    tickets: Vec<Ticket>,
    step: impl FnOnce() -> io::Result<T>,
) -> Result<T, (io::Error, Vec<Ticket>)> {
    let mut registry = registry();
    let done = match step() {
        Ok(done) => done,
        Err(e) => {
            // Unlocked first, since dropping the tickets locks it again.
            drop(registry);
            return Err((e, tickets));
        }
    };
    let ids: HashSet<u64> = tickets.iter().map(|ticket| ticket.id).collect();
    registry.entries.retain(|entry| !ids.contains(&entry.id));
    registry.commits += 1;
    drop(registry);
    tickets.into_iter().for_each(std::mem::forget);
    Ok(done)
}

/// Runs a step that removes a name which is not listed, with the mutex held: after a shutdown has given this process's
/// locks back, the name may belong to another process.
pub(crate) fn step<T>(step: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _registry = registry();
    step()
}

impl Ticket {
    /// Whether this process made the thing, and did not get a copy of the ticket by being forked.
    pub(crate) fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { id: self.id, pid: self.pid }
    }

    /// Runs `step`, which makes another thing of this one: on success that is listed in its place.
    pub(crate) fn turn<U: Undo + 'static>(
        self,
        step: impl FnOnce() -> io::Result<U>,
    ) -> Result<Ticket, (io::Error, Ticket)> {
        let mut registry = registry();
        let outcome = step();
        let thing = match outcome {
            Ok(thing) => thing,
            Err(e) => {
                drop(registry);
                return Err((e, self));
            }
        };
        if let Some(at) = registry.find(self.id) {
            registry.entries[at].thing = Box::new(thing);
        }
        drop(registry);
        Ok(self)
    }

    /// Runs `step`, a rename that makes the thing a file that stays. On success it is no longer listed.
    pub(crate) fn settle(self, step: impl FnOnce() -> io::Result<()>) -> Result<(), (io::Error, Ticket)> {
        self.leave(step, 0)
    }

    /// The same for the rename that replaces a target: from then on a shutdown counts the write as done.
    pub(crate) fn commit(self, step: impl FnOnce() -> io::Result<()>) -> Result<(), (io::Error, Ticket)> {
        self.leave(step, 1)
    }

    fn leave(self, step: impl FnOnce() -> io::Result<()>, commits: u64) -> Result<(), (io::Error, Ticket)> {
        let mut registry = registry();
        if let Err(e) = step() {
            // Unlocked first, since dropping the ticket locks it again.
            drop(registry);
            return Err((e, self));
        }
        registry.remove(self.id);
        registry.commits += commits;
        drop(registry);
        std::mem::forget(self);
        Ok(())
    }

    /// The thing stays: it is no longer listed.
    pub(crate) fn keep(&self) {
        registry().entries.retain(|entry| entry.id != self.id);
    }

    /// Removes the thing now, to learn how that went.
    pub(crate) fn remove(self) -> io::Result<()> {
        let outcome = self.take();
        std::mem::forget(self);
        outcome
    }

    fn take(&self) -> io::Result<()> {
        if self.pid != std::process::id() {
            // The thing is the parent's, but this process has copies of its descriptors, which would keep a lock held if
            // the parent dies. try_lock: a thread that held the mutex during the fork does not exist here.
            let forgotten = REGISTRY.try_lock().ok().and_then(|mut registry| registry.remove(self.id));
            drop(forgotten);
            return Ok(());
        }
        let mut registry = registry();
        registry.remove(self.id).map_or(Ok(()), |entry| entry.thing.undo())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // A drop cannot report. What stays is what a crash would leave, and housekeeping knows it.
        let _ = self.take();
    }
}

/// The end of a process that is told to stop in the middle of its work, for the thread that handles its signals.
///
/// While this value lives, every other thread of the process stops before its next step that makes, renames or removes a
/// name.
///
/// ```no_run
/// let shutdown = awrite::Shutdown::begin();
/// if !shutdown.committed() {
///     shutdown.clean();
///     std::process::exit(3);
/// }
/// ```
pub struct Shutdown {
    registry: MutexGuard<'static, Registry>,
}

impl Shutdown {
    /// Stops the other threads at their next step. Waits for a step that is under way.
    #[must_use]
    pub fn begin() -> Shutdown {
        Shutdown { registry: registry() }
    }

    /// Whether this process has replaced a target. A program that makes a single write then drops this value and lets the
    /// write end, since it has succeeded.
    #[must_use]
    pub fn committed(&self) -> bool {
        self.registry.commits > 0
    }

    /// How many temporary files have a name now.
    #[must_use]
    pub fn temporary_files(&self) -> usize {
        self.registry.entries.iter().filter(|entry| entry.thing.is_temporary_file()).count()
    }

    /// Removes temporary files and directories of unfinished writes, gives back locks and the leases that a store has been
    /// asked for, and leaves the other threads stopped.
    /// The process must end next.
    pub fn clean(mut self) {
        let pid = std::process::id();
        // The newest first: a directory can go once what is in it has gone.
        while let Some(entry) = self.registry.entries.pop_back() {
            if entry.pid == pid {
                // The process ends. What cannot be removed is what a crash would leave.
                let _ = entry.thing.undo();
            }
        }
        std::mem::forget(self.registry);
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shutdown")
    }
}
