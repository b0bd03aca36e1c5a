//! A model of the lock protocol, small enough to try every order in which processes can take their steps.
//!
//! It shows that the protocol's two safeguards are needed: without the look at the inode two processes hold the lock,
//! and without the second look on release a lock file is left behind. With both, neither happens.
//!
//! One step here is one system call there. A process that gives up or is killed has all its steps before that.

use std::collections::{HashSet, VecDeque};

/// What is left out.
#[derive(Clone, Copy, PartialEq)]
enum Without {
    Nothing,
    InodeCheck,
    SecondLook,
}

/// How a process takes the lock.
#[derive(Clone, Copy, PartialEq)]
enum Patience {
    Waits,
    /// Waits, and may give up at any time.
    MayGiveUp,
    Never,
}

/// The next step of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    Open,
    TryLock,
    Register,
    Wait,
    Withdraw,
    WithdrawAndGiveUp,
    LastTry,
    CheckInode,
    /// It believes that it holds the lock; the step is to begin the release: is anybody registered?
    Held,
    Unlink,
    Close,
    Unlock,
    SecondLook,
    TryAgain,
    CheckAgain,
    Gone,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Process {
    next: Next,
    /// The inode that it has open.
    open: Option<usize>,
    rounds: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    processes: Vec<Process>,
    /// The inode that the lock file's name leads to.
    name: Option<usize>,
    /// By inode: who has it locked.
    locked: Vec<Option<usize>>,
    /// By inode: a bit for each process that is registered.
    registered: Vec<u8>,
    kills: u8,
}

impl State {
    fn is_held_by(&self, process: usize) -> bool {
        self.processes[process].open.is_some_and(|inode| self.locked[inode] == Some(process))
    }

    /// Closing frees the lock and the registration.
    fn close(&mut self, process: usize) {
        if let Some(inode) = self.processes[process].open.take() {
            if self.locked[inode] == Some(process) {
                self.locked[inode] = None;
            }
            self.registered[inode] &= !(1 << process);
        }
    }

    fn lock(&mut self, process: usize) -> bool {
        let inode = self.processes[process].open.unwrap();
        let free = self.locked[inode].is_none();
        if free {
            self.locked[inode] = Some(process);
        }
        free
    }

    fn finish(&mut self, process: usize) {
        self.close(process);
        let p = &mut self.processes[process];
        p.rounds -= 1;
        p.next = if p.rounds == 0 { Next::Gone } else { Next::Open };
    }

    /// All states that a step of this process can lead to.
    fn after_step_of(&self, process: usize, patience: Patience, without: Without) -> Vec<State> {
        let mut state = self.clone();
        let inode = state.processes[process].open;
        let next = match state.processes[process].next {
            Next::Gone => return Vec::new(),
            Next::Open => {
                let inode = state.name.unwrap_or_else(|| {
                    state.locked.push(None);
                    state.registered.push(0);
                    state.locked.len() - 1
                });
                state.name = Some(inode);
                state.processes[process].open = Some(inode);
                Next::TryLock
            }
            Next::TryLock => match (state.lock(process), patience) {
                (true, _) => Next::CheckInode,
                (false, Patience::Never) => {
                    state.finish(process);
                    return vec![state];
                }
                (false, _) => Next::Register,
            },
            Next::Register => {
                state.registered[inode.unwrap()] |= 1 << process;
                Next::Wait
            }
            Next::Wait => {
                let mut outcomes = Vec::new();
                if patience == Patience::MayGiveUp {
                    let mut gives_up = state.clone();
                    gives_up.processes[process].next = Next::WithdrawAndGiveUp;
                    outcomes.push(gives_up);
                }
                if state.lock(process) {
                    state.processes[process].next = Next::Withdraw;
                    outcomes.push(state);
                }
                return outcomes;
            }
            Next::Withdraw => {
                state.registered[inode.unwrap()] &= !(1 << process);
                Next::CheckInode
            }
            Next::WithdrawAndGiveUp => {
                state.registered[inode.unwrap()] &= !(1 << process);
                Next::LastTry
            }
            Next::LastTry => {
                if !state.lock(process) {
                    state.finish(process);
                    return vec![state];
                }
                Next::CheckInode
            }
            Next::CheckInode => {
                if state.name == inode || without == Without::InodeCheck {
                    Next::Held
                } else {
                    state.close(process);
                    Next::Open
                }
            }
            Next::Held if state.registered[inode.unwrap()] == 0 => Next::Unlink,
            Next::Held => Next::Unlock,
            Next::Unlink => {
                // By name: whatever it leads to.
                state.name = None;
                Next::Close
            }
            Next::Close => {
                state.finish(process);
                return vec![state];
            }
            Next::Unlock => {
                state.locked[inode.unwrap()] = None;
                Next::SecondLook
            }
            Next::SecondLook => {
                if state.registered[inode.unwrap()] != 0 || without == Without::SecondLook {
                    state.finish(process);
                    return vec![state];
                }
                Next::TryAgain
            }
            Next::TryAgain => {
                if !state.lock(process) {
                    state.finish(process);
                    return vec![state];
                }
                Next::CheckAgain
            }
            Next::CheckAgain => {
                if state.name != inode {
                    state.finish(process);
                    return vec![state];
                }
                Next::Unlink
            }
        };
        state.processes[process].next = next;
        vec![state]
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// In every order: never two holders, nobody stuck, no file left (unless somebody was killed).
    Holds,
    TwoHolders,
    FileLeft,
    Stuck,
}

/// Tries all orders. `kills` of the processes may be killed, anywhere.
fn check(patience: &[Patience], rounds: u8, kills: u8, without: Without) -> Verdict {
    let first = State {
        processes: patience.iter().map(|_| Process { next: Next::Open, open: None, rounds }).collect(),
        name: None,
        locked: Vec::new(),
        registered: Vec::new(),
        kills,
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut waiting = VecDeque::from([first]);
    while let Some(state) = waiting.pop_front() {
        let holders = (0..patience.len())
            .filter(|process| {
                // Also while it is about to remove the file: it must be the only one who may.
                matches!(state.processes[*process].next, Next::Held | Next::Unlink) && state.is_held_by(*process)
            })
            .count();
        if holders > 1 {
            return Verdict::TwoHolders;
        }
        if state.processes.iter().all(|process| process.next == Next::Gone) {
            if state.name.is_some() && state.kills == kills {
                return Verdict::FileLeft;
            }
            continue;
        }
        let mut stuck = true;
        for (process, patience) in patience.iter().enumerate() {
            let mut following = state.after_step_of(process, *patience, without);
            stuck &= following.is_empty();
            if state.kills > 0 && state.processes[process].next != Next::Gone {
                let mut killed = state.clone();
                killed.close(process);
                killed.processes[process].next = Next::Gone;
                killed.kills -= 1;
                following.push(killed);
            }
            for state in following {
                if seen.insert(state.clone()) {
                    waiting.push_back(state);
                }
            }
        }
        if stuck {
            return Verdict::Stuck;
        }
    }
    Verdict::Holds
}

use Patience::{MayGiveUp, Never, Waits};

#[test]
fn the_protocol_holds_in_every_order() {
    assert_eq!(check(&[Waits, Waits, Waits], 1, 0, Without::Nothing), Verdict::Holds);
    assert_eq!(check(&[Waits, MayGiveUp, Never], 1, 0, Without::Nothing), Verdict::Holds);
    assert_eq!(check(&[MayGiveUp, MayGiveUp, MayGiveUp], 1, 0, Without::Nothing), Verdict::Holds);
    assert_eq!(check(&[Waits, MayGiveUp], 3, 0, Without::Nothing), Verdict::Holds);
}

#[test]
fn the_protocol_holds_when_processes_are_killed() {
    assert_eq!(check(&[Waits, Waits, Waits], 1, 1, Without::Nothing), Verdict::Holds);
    assert_eq!(check(&[Waits, MayGiveUp, Never], 1, 2, Without::Nothing), Verdict::Holds);
    assert_eq!(check(&[Waits, MayGiveUp], 2, 1, Without::Nothing), Verdict::Holds);
}

#[test]
fn without_the_inode_check_two_processes_hold_the_lock() {
    assert_eq!(check(&[Waits, Waits, Waits], 1, 0, Without::InodeCheck), Verdict::TwoHolders);
}

#[test]
fn without_the_second_look_a_file_is_left_behind() {
    assert_eq!(check(&[Waits, MayGiveUp], 1, 0, Without::SecondLook), Verdict::FileLeft);
}
