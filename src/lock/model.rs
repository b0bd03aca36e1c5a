//! A model of the flock protocol: tries every interleaving of a few processes, one system call at a time.
//!
//! It shows that the protocol excludes and leaves no file, and that it needs its two checks. Without the check of the
//! inode two processes hold the lock at once. Without the second look for waiters a file stays behind.

use std::collections::HashSet;

/// What the protocol under test does.
#[derive(Clone, Copy)]
struct Protocol {
    /// Whoever gets the lock checks that the file still has its name.
    checks_inode: bool,
    /// A releaser that saw a waiter looks again after unlocking.
    looks_again: bool,
}

/// How long a process waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Patient,
    /// Gives up at any moment while it waits.
    Timed,
    /// Does not wait.
    Hasty,
}

/// The next step of a process. The names follow flock.rs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    Open,
    TryLock,
    Register,
    Wait,
    Withdraw { locked: bool },
    LastTry,
    IsCurrent,
    Held,
    Relinquish,
    Look,
    Unlock,
    LookAgain,
    Relock,
    StillCurrent,
    Unlink,
    Close,
    Done,
}

const PROCESSES: usize = 3;
const INODES: usize = 6;

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// The inode that has the lock file's name.
    name: Option<usize>,
    /// For each inode, who holds its flock.
    holder: [Option<usize>; INODES],
    /// For each inode, who has registered: a bit per process.
    registered: [u8; INODES],
    inodes: usize,
    at: [Step; PROCESSES],
    file: [usize; PROCESSES],
    /// The inode turned out to be dead: open again after giving the lock back.
    again: [bool; PROCESSES],
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine { states: usize },
    TwoHolders,
    FileLeft,
}

fn explore(protocol: Protocol, kinds: [Kind; PROCESSES]) -> Verdict {
    let start = State {
        name: None,
        holder: [None; INODES],
        registered: [0; INODES],
        inodes: 0,
        at: [Step::Open; PROCESSES],
        file: [0; PROCESSES],
        again: [false; PROCESSES],
    };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(state) = open.pop() {
        if state.at.iter().filter(|&&s| s == Step::Held).count() > 1 {
            return Verdict::TwoHolders;
        }
        let mut stuck = true;
        for (p, &kind) in kinds.iter().enumerate() {
            for next in steps(&state, p, protocol, kind) {
                stuck = false;
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        if stuck {
            assert!(state.at.iter().all(|&s| s == Step::Done), "deadlock: {:?}", state.at);
            if state.name.is_some() {
                return Verdict::FileLeft;
            }
        }
    }
    Verdict::Fine { states: seen.len() }
}

/// Every state that one system call of process `p` may lead to.
fn steps(state: &State, p: usize, protocol: Protocol, kind: Kind) -> Vec<State> {
    let file = state.file[p];
    let me = 1 << p;
    let to = |step: Step, change: &dyn Fn(&mut State)| {
        let mut next = state.clone();
        next.at[p] = step;
        change(&mut next);
        vec![next]
    };
    let free = state.holder[file].is_none();
    let mine = state.holder[file] == Some(p);
    let wanted = state.registered[file] & !me != 0;
    let nothing = |_: &mut State| {};
    let lock = |s: &mut State| s.holder[file] = Some(p);
    let unlock = |s: &mut State| {
        if mine {
            s.holder[file] = None;
        }
    };
    match state.at[p] {
        Step::Open => to(Step::TryLock, &|s| {
            s.file[p] = s.name.unwrap_or_else(|| {
                s.inodes += 1;
                s.name = Some(s.inodes - 1);
                s.inodes - 1
            });
        }),
        Step::TryLock if free => to(Step::IsCurrent, &lock),
        Step::TryLock if kind == Kind::Hasty => to(Step::Relinquish, &nothing),
        Step::TryLock => to(Step::Register, &nothing),
        Step::Register => to(Step::Wait, &|s| s.registered[file] |= me),
        Step::Wait => {
            let mut next = Vec::new();
            if free {
                next.extend(to(Step::Withdraw { locked: true }, &lock));
            }
            if kind == Kind::Timed {
                next.extend(to(Step::Withdraw { locked: false }, &nothing));
            }
            next
        }
        Step::Withdraw { locked } => {
            let then = if locked { Step::IsCurrent } else { Step::LastTry };
            to(then, &|s| s.registered[file] &= !me)
        }
        Step::LastTry if free => to(Step::IsCurrent, &lock),
        Step::LastTry => to(Step::Relinquish, &nothing),
        Step::IsCurrent if !protocol.checks_inode || state.name == Some(file) => to(Step::Held, &nothing),
        Step::IsCurrent => to(Step::Relinquish, &|s| s.again[p] = true),
        Step::Held => to(Step::Relinquish, &nothing),
        Step::Relinquish if free || mine => to(Step::Look, &lock),
        Step::Relinquish => to(Step::Close, &nothing),
        Step::Look if !wanted => to(Step::StillCurrent, &nothing),
        Step::Look => to(Step::Unlock, &nothing),
        Step::Unlock => to(if protocol.looks_again { Step::LookAgain } else { Step::Close }, &unlock),
        Step::LookAgain => to(if wanted { Step::Close } else { Step::Relock }, &nothing),
        Step::Relock if free => to(Step::StillCurrent, &lock),
        Step::Relock => to(Step::Close, &nothing),
        Step::StillCurrent if state.name == Some(file) => to(Step::Unlink, &nothing),
        Step::StillCurrent => to(Step::Close, &nothing),
        Step::Unlink => to(Step::Close, &|s| s.name = None),
        Step::Close => to(if state.again[p] { Step::Open } else { Step::Done }, &|s| {
            unlock(s);
            s.again[p] = false;
        }),
        Step::Done => Vec::new(),
    }
}

const MIXES: [[Kind; PROCESSES]; 5] = [
    [Kind::Patient; PROCESSES],
    [Kind::Timed; PROCESSES],
    [Kind::Patient, Kind::Timed, Kind::Timed],
    [Kind::Patient, Kind::Timed, Kind::Hasty],
    [Kind::Hasty, Kind::Hasty, Kind::Timed],
];

#[test]
fn excludes_and_leaves_no_file() {
    for kinds in MIXES {
        let verdict = explore(Protocol { checks_inode: true, looks_again: true }, kinds);
        assert!(matches!(verdict, Verdict::Fine { states } if states > 500), "{verdict:?}");
    }
}

#[test]
fn two_hold_it_without_the_check_of_the_inode() {
    let verdict = explore(Protocol { checks_inode: false, looks_again: true }, MIXES[0]);
    assert_eq!(verdict, Verdict::TwoHolders);
}

#[test]
fn a_file_stays_without_the_second_look() {
    let verdict = explore(Protocol { checks_inode: true, looks_again: false }, MIXES[1]);
    assert_eq!(verdict, Verdict::FileLeft);
}
