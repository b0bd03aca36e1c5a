//! A model of the set protocol (set.rs): tries every interleaving of a set's writer, those who lock its targets, and a
//! writer of one target, one system call at a time. Any of them may be killed at any point. In some runs the set's writer is
//! suspended, loses its locks, wakes up and goes on.
//!
//! It shows that whoever holds both locks sees both targets old or both new, each with its backup and with the lease that
//! it had, and that the protocol needs each of its guards.

use std::collections::HashSet;

/// What the protocol under test does.
#[derive(Clone, Copy)]
struct Protocol {
    /// P4: every target has a record, not only the first.
    records_all: bool,
    /// The records come before the names of the stages.
    records_first: bool,
    /// C1: the writer makes sure of its locks right before the commit.
    checks_locks: bool,
    /// A recovery takes back only after it has removed the draft of the journal.
    removes_draft: bool,
    /// It looks for the journal once more where there is no draft.
    looks_again: bool,
    /// Whoever finishes a target removes the journal only if no record names it.
    last_out: bool,
    /// Stages have the set's nonce in their names.
    has_nonce: bool,
    /// The backup gets its name before the target is replaced.
    backup_first: bool,
    /// The lease that was there comes back.
    restores: bool,
}

const WHOLE: Protocol = Protocol {
    records_all: true,
    records_first: true,
    checks_locks: true,
    removes_draft: true,
    looks_again: true,
    last_out: true,
    has_nonce: true,
    backup_first: true,
    restores: true,
};

const SET: usize = 0;
const SINGLE: usize = 3;
const PROCESSES: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Lease {
    None,
    /// That of somebody, which was there before.
    Prior,
    /// The set's record.
    Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Journal {
    None,
    Draft,
    Done,
}

/// What is under the name of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    None,
    Set,
    /// The single writer's, not yet complete.
    Half,
}

/// The next step of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Lock(u8),
    Recover(u8, Recovery),
    Record(u8),
    Draft,
    Name(u8),
    Link(u8),
    Check,
    Commit,
    Finish(u8, bool),
    Restore(u8),
    Forget,
    GiveUp,
    See,
    Stage,
    Replace,
    Release,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Recovery {
    Look,
    RemoveDraft,
    LookAgain,
    /// Forward: the backup, then the stage; or the other way round.
    First,
    Second,
    Back,
    Restore,
    Last,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// The target has the set's content.
    new: [bool; 2],
    /// The single writer's half of a content became the target.
    torn: bool,
    stage: [Stage; 2],
    /// A backup under its temporary name.
    draft: [bool; 2],
    backup: [bool; 2],
    lease: [Lease; 2],
    journal: Journal,
    lock: [Option<usize>; 2],
    at: [At; PROCESSES],
    /// The set's writer lost a lock, and so may leave what it makes without one.
    stalled: bool,
}

const BEFORE: [Lease; 2] = [Lease::Prior, Lease::None];

struct Model {
    protocol: Protocol,
    stalls: bool,
}

impl Model {
    /// The number of states, or what went wrong.
    fn explore(&self, present: [bool; PROCESSES]) -> Result<usize, &'static str> {
        let mut at = [At::Lock(0); PROCESSES];
        for (at, _) in at.iter_mut().zip(present).filter(|(_, present)| !present) {
            *at = At::Done;
        }
        let start = State {
            new: [false; 2],
            torn: false,
            stage: [Stage::None; 2],
            draft: [false; 2],
            backup: [false; 2],
            lease: BEFORE,
            journal: Journal::None,
            lock: [None; 2],
            at,
            stalled: false,
        };
        let mut seen = HashSet::from([start.clone()]);
        let mut open = vec![start];
        while let Some(state) = open.pop() {
            check(&state)?;
            for process in 0..PROCESSES {
                for next in self.steps(&state, process) {
                    if seen.insert(next.clone()) {
                        open.push(next);
                    }
                }
            }
        }
        Ok(seen.len())
    }

    fn steps(&self, state: &State, p: usize) -> Vec<State> {
        let at = state.at[p];
        let mut all = Vec::new();
        if at == At::Done {
            return all;
        }
        let killed = |s: &mut State| {
            s.at[p] = At::Done;
            s.lock.iter_mut().filter(|lock| **lock == Some(p)).for_each(|lock| *lock = None);
        };
        if at != At::Lock(0) {
            let mut dead = state.clone();
            killed(&mut dead);
            all.push(dead);
        }
        if self.stalls && p == SET {
            for i in (0..2).filter(|i| state.lock[*i] == Some(SET)) {
                let mut lost = state.clone();
                lost.lock[i] = None;
                lost.stalled = true;
                all.push(lost);
            }
        }
        let mut next = state.clone();
        let done = match at {
            At::Release => {
                killed(&mut next);
                true
            }
            At::Lock(i) if state.lock[usize::from(i)].is_some() => false,
            At::Lock(i) => {
                next.lock[usize::from(i)] = Some(p);
                next.at[p] = At::Recover(i, Recovery::Look);
                true
            }
            At::Recover(i, step) => {
                next.at[p] = self.recover(&mut next, i, step).unwrap_or_else(|| recovered(p, i, self.protocol));
                true
            }
            _ => {
                next.at[p] = self.step(&mut next, at);
                true
            }
        };
        if done {
            all.push(next);
        }
        all
    }

    /// What the set's writer does, and the single one.
    fn step(&self, s: &mut State, at: At) -> At {
        let it = self.protocol;
        match at {
            At::Record(i) => {
                if i == 0 || it.records_all {
                    s.lease[usize::from(i)] = Lease::Set;
                }
                match (i, it.records_first) {
                    (0, _) => At::Record(1),
                    (_, true) => At::Draft,
                    _ => At::Check,
                }
            }
            At::Draft => {
                s.journal = Journal::Draft;
                At::Name(0)
            }
            At::Name(i) => {
                s.stage[usize::from(i)] = Stage::Set;
                At::Link(i)
            }
            At::Link(i) => {
                s.draft[usize::from(i)] = true;
                match (i, it.records_first) {
                    (0, _) => At::Name(1),
                    (_, true) => At::Check,
                    _ => At::Record(0),
                }
            }
            At::Check if it.checks_locks && s.lock != [Some(SET); 2] => At::GiveUp,
            At::Check => At::Commit,
            At::Commit if s.journal == Journal::Draft => {
                s.journal = Journal::Done;
                At::Finish(0, false)
            }
            At::Commit => At::GiveUp,
            At::Finish(i, second) => {
                self.finish(s, usize::from(i), second);
                match (i, second) {
                    (i, false) => At::Finish(i, true),
                    (0, true) => At::Finish(1, false),
                    _ => At::Restore(0),
                }
            }
            At::Restore(i) => {
                self.restore(s, i, Some(SET));
                if i == 0 { At::Restore(1) } else { At::Forget }
            }
            At::Forget => {
                if !it.last_out || !s.lease.contains(&Lease::Set) {
                    s.journal = Journal::None;
                }
                At::Release
            }
            At::GiveUp => {
                if s.journal == Journal::Draft {
                    s.journal = Journal::None;
                }
                s.stage.iter_mut().filter(|stage| **stage == Stage::Set).for_each(|stage| *stage = Stage::None);
                s.draft = [false; 2];
                for i in 0..2 {
                    self.restore(s, i, Some(SET));
                }
                At::Release
            }
            At::Stage => {
                if !it.has_nonce {
                    s.stage[0] = Stage::Half;
                }
                At::Replace
            }
            At::Replace => {
                if s.stage[0] == Stage::Half {
                    s.stage[0] = Stage::None;
                }
                At::Release
            }
            _ => At::Release,
        }
    }

    /// Renames the backup or the stage. What is gone has been renamed by another.
    fn finish(&self, s: &mut State, i: usize, second: bool) {
        if second != self.protocol.backup_first {
            s.backup[i] |= std::mem::take(&mut s.draft[i]);
            return;
        }
        match std::mem::replace(&mut s.stage[i], Stage::None) {
            Stage::None => {}
            Stage::Set => s.new[i] = true,
            Stage::Half => s.torn = true,
        }
    }

    fn restore(&self, s: &mut State, i: u8, holder: Option<usize>) {
        let i = usize::from(i);
        if s.lease[i] == Lease::Set && (holder.is_none() || s.lock[i] == holder) {
            s.lease[i] = if self.protocol.restores { BEFORE[i] } else { Lease::None };
        }
    }

    /// One step of the recovery of target `i`; `None`: it is over.
    fn recover(&self, s: &mut State, i: u8, step: Recovery) -> Option<At> {
        let (it, at) = (self.protocol, usize::from(i));
        let to = |step| Some(At::Recover(i, step));
        let forward_or = |s: &State, step| to(if s.journal == Journal::Done { Recovery::First } else { step });
        match step {
            Recovery::Look if s.lease[at] != Lease::Set => None,
            Recovery::Look => forward_or(s, if it.removes_draft { Recovery::RemoveDraft } else { Recovery::Back }),
            Recovery::RemoveDraft if s.journal == Journal::Draft => {
                s.journal = Journal::None;
                to(Recovery::Back)
            }
            Recovery::RemoveDraft if it.looks_again => to(Recovery::LookAgain),
            Recovery::RemoveDraft => to(Recovery::Back),
            Recovery::LookAgain => forward_or(s, Recovery::Back),
            Recovery::First | Recovery::Second => {
                self.finish(s, at, step == Recovery::Second);
                to(if step == Recovery::First { Recovery::Second } else { Recovery::Restore })
            }
            Recovery::Back => {
                if s.stage[at] == Stage::Set {
                    s.stage[at] = Stage::None;
                }
                s.draft[at] = false;
                to(Recovery::Restore)
            }
            Recovery::Restore => {
                self.restore(s, i, None);
                to(Recovery::Last)
            }
            Recovery::Last => {
                let named = s.lease.contains(&Lease::Set);
                if s.journal == Journal::Done && !(it.last_out && named) {
                    s.journal = Journal::None;
                }
                None
            }
        }
    }
}

/// What follows when process `p` has the lock of target `i` and nothing is left to recover there.
fn recovered(p: usize, i: u8, protocol: Protocol) -> At {
    match (p, i) {
        (SINGLE, _) => At::Stage,
        (_, 0) => At::Lock(1),
        (SET, _) if protocol.records_first => At::Record(0),
        (SET, _) => At::Draft,
        _ => At::See,
    }
}

/// What must hold in every state.
fn check(s: &State) -> Result<(), &'static str> {
    if s.torn {
        return Err("half of another's content");
    }
    if (0..2).any(|i| s.new[i] && !s.backup[i]) {
        return Err("replaced without a backup");
    }
    for p in (0..PROCESSES).filter(|p| s.at[*p] == At::See && s.lock == [Some(*p); 2]) {
        let _ = p;
        if s.new[0] != s.new[1] {
            return Err("one old and one new");
        }
        // A writer that lost its locks may make such names until it notices.
        if !s.stalled && s.lease != BEFORE {
            return Err("not the lease that was there");
        }
        if !s.stalled && (s.stage.contains(&Stage::Set) || s.draft.contains(&true)) {
            return Err("a temporary file is left");
        }
        if !s.stalled && s.backup != s.new {
            return Err("a backup of what was not replaced");
        }
    }
    Ok(())
}

/// The set's writer, two who lock both, and the writer of the first target.
const MIXES: [[bool; PROCESSES]; 2] = [[true, true, true, false], [true, true, false, true]];

fn explore(protocol: Protocol, stalls: bool) -> Result<usize, &'static str> {
    MIXES.iter().map(|mix| Model { protocol, stalls }.explore(*mix)).sum()
}

#[test]
fn all_old_or_all_new() {
    for stalls in [false, true] {
        let states = explore(WHOLE, stalls).unwrap();
        assert!(states > 1000, "{states}");
    }
}

#[test]
fn every_guard_is_needed() {
    for (name, protocol, stalls) in [
        ("records_all", Protocol { records_all: false, ..WHOLE }, false),
        ("records_first", Protocol { records_first: false, ..WHOLE }, false),
        ("checks_locks", Protocol { checks_locks: false, ..WHOLE }, true),
        ("removes_draft", Protocol { removes_draft: false, ..WHOLE }, true),
        ("looks_again", Protocol { looks_again: false, ..WHOLE }, true),
        ("last_out", Protocol { last_out: false, ..WHOLE }, false),
        ("has_nonce", Protocol { has_nonce: false, ..WHOLE }, true),
        ("backup_first", Protocol { backup_first: false, ..WHOLE }, false),
        ("restores", Protocol { restores: false, ..WHOLE }, false),
    ] {
        assert!(explore(protocol, stalls).is_err(), "not needed: {name}");
    }
}
