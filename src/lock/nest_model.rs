//! A model of going on below a lock that is held above: tries every interleaving of a few processes, one system call at a
//! time. tests/models/nest.pml has more of them, and file names.
//!
//! A and B take the lock like anybody. A hands it over to a command that starts X and leaves it behind; X goes on below A if
//! it finds it holding the lock, and hands that over to Y in turn. A daemon keeps every descriptor open for ever. One of
//! them may be killed.

use std::collections::HashSet;

/// What the protocol under test does.
#[derive(Clone, Copy)]
struct Protocol {
    /// One below looks at the mark again when it has the byte.
    looks_again: bool,
    /// A holder waits for those below.
    waits: bool,
    /// The mark goes before the byte below it.
    mark_first: bool,
    /// A holder that finds somebody below leaves the lock to them.
    leaves: bool,
    /// Each hand-over has an identity of its own.
    distinct: bool,
    /// The bytes go before the flock.
    flock_last: bool,
}

const RIGHT: Protocol =
    Protocol { looks_again: true, waits: true, mark_first: true, leaves: false, distinct: true, flock_last: true };

/// The next step of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// Its parent has not started it yet.
    Unborn,
    Find,
    /// Below this one.
    LockByte(usize),
    Confirm(usize),
    Flock,
    Held,
    HandOver,
    Start,
    /// COMMAND waits for what it has started.
    Foreground,
    Wait,
    Unlock1,
    Unlock2,
    Release,
    Late1,
    Late2,
    Close,
    Over,
}

const PROCESSES: usize = 4;
const A: usize = 0;
const B: usize = 1;
const X: usize = 2;
const DAEMON: u8 = 1 << 7;

fn parent(p: usize) -> Option<usize> {
    [None, None, Some(A), Some(X)][p]
}

/// A process, and its open file description.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct One {
    at: Step,
    dead: bool,
    holds: bool,
    /// By which processes, a bit each.
    open: u8,
    flocked: bool,
    marked: bool,
    /// Its own byte 2R+1.
    barred: bool,
    /// The byte 2R+1 of this one.
    below: Option<usize>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    all: [One; PROCESSES],
    killed: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine {
        states: usize,
    },
    TwoHolders,
    /// Somebody waits for a lock that nobody holds, or that a daemon keeps.
    Stuck,
}

struct Model {
    protocol: Protocol,
    foreground: bool,
    kills: bool,
}

impl Model {
    fn identity(&self, p: usize) -> usize {
        if self.protocol.distinct { p } else { 0 }
    }

    fn byte_is_free(&self, state: &State, me: usize, of: usize) -> bool {
        (0..PROCESSES).filter(|&d| d != me).all(|d| {
            let one = &state.all[d];
            let taken = |p: usize| self.identity(p) == self.identity(of);
            !(one.barred && taken(d) || one.below.is_some_and(taken))
        })
    }

    /// A fresh description sees the mark, and the inherited one does not.
    fn is_marked(&self, state: &State, p: usize) -> bool {
        let is_other = |d: usize| d != p && state.all[d].marked && self.identity(d) == self.identity(p);
        state.all[p].marked && !(0..PROCESSES).any(is_other)
    }

    fn two_hold(state: &State) -> bool {
        let under = |p: usize, q: usize| {
            state.all[p].below == Some(q) || state.all[p].below.is_some_and(|m| state.all[m].below == Some(q))
        };
        let holds = |p: &usize| state.all[*p].holds;
        (0..PROCESSES).filter(holds).any(|p| (0..p).filter(holds).any(|q| !under(p, q) && !under(q, p)))
    }

    fn steps(&self, state: &State, p: usize) -> Vec<State> {
        let one = state.all[p];
        let to = |at: Step, change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            next.all[p].at = at;
            change(&mut next);
            vec![next]
        };
        let nothing = |_: &mut State| {};
        let is_over = |q: usize| state.all[q].at == Step::Over || state.all[q].dead;
        let child = (0..PROCESSES).find(|&q| parent(q) == Some(p));
        match one.at {
            Step::Unborn | Step::Over => Vec::new(),
            Step::Find => {
                let ancestors = [parent(p), parent(p).and_then(parent)];
                let above = ancestors.into_iter().flatten().find(|&q| self.is_marked(state, q));
                to(above.map_or(Step::Flock, Step::LockByte), &|s| s.all[p].open |= 1 << p)
            }
            Step::LockByte(q) if self.byte_is_free(state, p, q) => to(Step::Confirm(q), &|s| s.all[p].below = Some(q)),
            Step::Confirm(q) if !self.protocol.looks_again || self.is_marked(state, q) => to(Step::Held, &nothing),
            Step::Confirm(_) => to(Step::Find, &|s| s.all[p].below = None),
            Step::Flock if (0..PROCESSES).all(|d| !state.all[d].flocked) => {
                to(Step::Held, &|s| s.all[p].flocked = true)
            }
            Step::LockByte(_) | Step::Flock => Vec::new(),
            Step::Held => {
                let then = if child.is_some() { Step::HandOver } else { Step::Release };
                to(then, &|s| s.all[p].holds = true)
            }
            Step::HandOver => to(Step::Start, &|s| s.all[p].marked = true),
            Step::Start => to(if self.foreground { Step::Foreground } else { Step::Wait }, &|s| {
                let Some(child) = child else { return };
                s.all[child].at = Step::Find;
                for one in &mut s.all {
                    if one.open & (1 << p) != 0 {
                        one.open |= 1 << child | DAEMON;
                    }
                }
            }),
            Step::Foreground if child.is_none_or(is_over) => to(Step::Wait, &nothing),
            Step::Foreground => Vec::new(),
            Step::Wait if !self.protocol.waits => to(Step::Release, &|s| s.all[p].marked = false),
            Step::Wait if self.byte_is_free(state, p, p) => {
                to(if self.protocol.flock_last { Step::Unlock1 } else { Step::Release }, &|s| s.all[p].barred = true)
            }
            Step::Wait if self.protocol.leaves => to(Step::Close, &nothing),
            Step::Wait => Vec::new(),
            Step::Unlock1 | Step::Late1 => {
                let then = if one.at == Step::Late1 { Step::Late2 } else { Step::Unlock2 };
                to(then, &|s| if self.protocol.mark_first { s.all[p].marked = false } else { s.all[p].barred = false })
            }
            Step::Unlock2 | Step::Late2 => {
                let then = if one.at == Step::Late2 { Step::Close } else { Step::Release };
                to(then, &|s| (s.all[p].marked, s.all[p].barred) = (false, false))
            }
            Step::Release => to(if one.barred { Step::Late1 } else { Step::Close }, &|s| {
                let one = &mut s.all[p];
                (one.holds, one.flocked, one.below) = (false, false, None);
            }),
            Step::Close => to(Step::Over, &|s| close_all(s, p)),
        }
    }

    fn check(&self) -> Verdict {
        let unborn = One {
            at: Step::Unborn,
            dead: false,
            holds: false,
            open: 0,
            flocked: false,
            marked: false,
            barred: false,
            below: None,
        };
        let mut start = State { all: [unborn; PROCESSES], killed: !self.kills };
        (start.all[A].at, start.all[B].at) = (Step::Find, Step::Find);
        let mut seen = HashSet::from([start.clone()]);
        let mut open = vec![start];
        while let Some(state) = open.pop() {
            if Model::two_hold(&state) {
                return Verdict::TwoHolders;
            }
            let running = |p: &usize| !state.all[*p].dead && !matches!(state.all[*p].at, Step::Unborn | Step::Over);
            let mut nexts: Vec<State> = (0..PROCESSES).filter(running).flat_map(|p| self.steps(&state, p)).collect();
            if nexts.is_empty() && (0..PROCESSES).any(|p| running(&p)) {
                // What a killed process held is held for as long as somebody has the descriptor.
                let is_left = |one: &One| one.dead && one.open != 0 && (one.flocked || one.below.is_some());
                if !state.all.iter().any(is_left) {
                    return Verdict::Stuck;
                }
            }
            for p in (0..PROCESSES).filter(|p| !state.killed && running(p)) {
                let mut next = state.clone();
                (next.killed, next.all[p].dead) = (true, true);
                close_all(&mut next, p);
                nexts.push(next);
            }
            open.extend(nexts.into_iter().filter(|next| seen.insert(next.clone())));
        }
        Verdict::Fine { states: seen.len() }
    }
}

/// The last descriptor of a description takes its locks with it.
fn close_all(state: &mut State, p: usize) {
    for one in &mut state.all {
        one.open &= !(1 << p);
        if one.open == 0 {
            (one.holds, one.flocked, one.marked, one.barred, one.below) = (false, false, false, false, None);
        }
    }
}

fn verdicts(protocol: Protocol) -> Vec<Verdict> {
    let both = [false, true];
    both.iter().flat_map(|&foreground| both.map(|kills| Model { protocol, foreground, kills }.check())).collect()
}

#[test]
fn excludes_and_gives_back() {
    for verdict in verdicts(RIGHT) {
        assert!(matches!(verdict, Verdict::Fine { states } if states > 100), "{verdict:?}");
    }
}

#[test]
fn every_guard_is_needed() {
    for (guard, protocol, expected) in [
        ("looks again", Protocol { looks_again: false, ..RIGHT }, Verdict::TwoHolders),
        ("waits", Protocol { waits: false, ..RIGHT }, Verdict::TwoHolders),
        ("mark first", Protocol { mark_first: false, ..RIGHT }, Verdict::TwoHolders),
        ("no leaving", Protocol { leaves: true, ..RIGHT }, Verdict::Stuck),
        ("identities", Protocol { distinct: false, ..RIGHT }, Verdict::Stuck),
        ("flock last", Protocol { flock_last: false, ..RIGHT }, Verdict::Stuck),
    ] {
        let verdicts = verdicts(protocol);
        assert!(verdicts.contains(&expected), "{guard}: {verdicts:?}");
    }
}
