//! A model of a write under a store's lease (fence.rs): two holders, one after the other, each step by step in every order.
//! Leases end by time, are broken, and the store is made anew and counts from the beginning.
//!
//! It shows that no smaller token writes after a greater one, that a holder who has a successor before its last look is
//! refused, and that a power cut never leaves content without its mark; and that each guard is needed.

use std::collections::HashSet;

/// What the protocol under test does.
#[derive(Clone, Copy)]
struct Protocol {
    /// F1 to F5 are under the lock of the target.
    locks: bool,
    /// F1.
    compares_mark: bool,
    /// F2: the mark is durable before the target is replaced.
    syncs_mark: bool,
    /// F3.
    asks_store: bool,
    /// F4.
    looks_at_clock: bool,
    /// The time is counted from before the request was sent, so a lease is over here first.
    over_here_first: bool,
}

const WHOLE: Protocol = Protocol {
    locks: true,
    compares_mark: true,
    syncs_mark: true,
    asks_store: true,
    looks_at_clock: true,
    over_here_first: true,
};

/// The next step of a holder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Acquire,
    Lock,
    Compare,
    Raise,
    Sync,
    Ask,
    /// The answer is on its way.
    LookAtClock,
    Replace,
    Unlock,
    Done,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// Who has the lease, says the store.
    owner: Option<usize>,
    next: u8,
    /// The last lease ended by time.
    expired: bool,
    /// Somebody may still break a lease, or make the store anew.
    may_break: bool,
    may_reset: bool,
    lock: Option<usize>,
    mark: u8,
    durable_mark: u8,
    /// The token that wrote the target last.
    file: u8,
    at: [At; 2],
    token: [u8; 2],
    /// The time is over on the holder's clock.
    over: [bool; 2],
    /// Another had the lease before this one's last look: it must not write.
    late: [bool; 2],
}

fn explore(protocol: Protocol) -> Result<usize, &'static str> {
    let start = State {
        owner: None,
        // A store that is made anew begins with a smaller one.
        next: 2,
        expired: false,
        may_break: true,
        may_reset: true,
        lock: None,
        mark: 0,
        durable_mark: 0,
        file: 0,
        at: [At::Acquire; 2],
        token: [0; 2],
        over: [false; 2],
        late: [false; 2],
    };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(state) = open.pop() {
        if state.file > state.durable_mark {
            return Err("a power cut may leave content without its mark");
        }
        let mut all = around(&state, protocol);
        for p in 0..2 {
            all.extend(step(&state, p, protocol)?);
        }
        for next in all {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

/// What happens to the holders.
fn around(state: &State, protocol: Protocol) -> Vec<State> {
    let mut all = Vec::new();
    for p in (0..2).filter(|p| !state.over[*p] && state.token[*p] > 0) {
        let mut next = state.clone();
        next.over[p] = true;
        all.push(next);
    }
    for p in (0..2).filter(|p| state.at[*p] != At::Acquire && state.at[*p] != At::Done) {
        let mut killed = state.clone();
        killed.at[p] = At::Done;
        killed.lock = killed.lock.filter(|holder| *holder != p);
        all.push(killed);
    }
    if let Some(owner) = state.owner {
        if state.over[owner] || !protocol.over_here_first {
            all.push(State { owner: None, expired: true, ..state.clone() });
        }
        if state.may_break {
            all.push(State { owner: None, expired: false, may_break: false, ..state.clone() });
        }
    }
    if state.may_reset {
        all.push(State { owner: None, expired: false, may_reset: false, next: 1, ..state.clone() });
    }
    all
}

fn step(state: &State, p: usize, protocol: Protocol) -> Result<Option<State>, &'static str> {
    let mut next = state.clone();
    let token = state.token[p];
    next.at[p] = match state.at[p] {
        At::Acquire if state.owner.is_some() => return Ok(None),
        At::Acquire => {
            (next.owner, next.token[p]) = (Some(p), state.next);
            next.next += 1;
            let other = 1 - p;
            // A lease that was broken may be asked for a moment before. One whose time was over may not: the clock is
            // looked at behind the answer.
            let last_look = if state.expired { At::LookAtClock } else { At::Ask };
            next.late[other] = state.token[other] > 0 && state.at[other] <= last_look;
            At::Lock
        }
        At::Lock if !protocol.locks => At::Compare,
        At::Lock if state.lock.is_some() => return Ok(None),
        At::Lock => {
            next.lock = Some(p);
            At::Compare
        }
        At::Compare if protocol.compares_mark && state.mark > token => At::Unlock,
        At::Compare => At::Raise,
        At::Raise => {
            next.mark = token;
            At::Sync
        }
        At::Sync => {
            if protocol.syncs_mark {
                next.durable_mark = state.mark;
            }
            At::Ask
        }
        At::Ask if protocol.asks_store && state.owner != Some(p) => At::Unlock,
        At::Ask => At::LookAtClock,
        At::LookAtClock if protocol.looks_at_clock && state.over[p] => At::Unlock,
        At::LookAtClock => At::Replace,
        At::Replace if state.late[p] => return Err("a holder writes that had a successor before its last look"),
        At::Replace if token < state.file => return Err("a smaller token writes after a greater one"),
        At::Replace => {
            next.file = token;
            At::Unlock
        }
        At::Unlock => {
            next.lock = next.lock.filter(|holder| *holder != p);
            At::Done
        }
        At::Done => return Ok(None),
    };
    Ok(Some(next))
}

#[test]
fn late_holders_are_refused() {
    assert!(explore(WHOLE).is_ok_and(|states| states > 500), "{:?}", explore(WHOLE));
}

#[test]
fn each_guard_is_needed() {
    let smaller = "a smaller token writes after a greater one";
    let late = "a holder writes that had a successor before its last look";
    let cut = "a power cut may leave content without its mark";
    for (protocol, found) in [
        (Protocol { locks: false, ..WHOLE }, vec![smaller, cut]),
        (Protocol { compares_mark: false, ..WHOLE }, vec![smaller, cut]),
        (Protocol { syncs_mark: false, ..WHOLE }, vec![cut]),
        (Protocol { asks_store: false, ..WHOLE }, vec![late]),
        (Protocol { looks_at_clock: false, ..WHOLE }, vec![late]),
        (Protocol { over_here_first: false, ..WHOLE }, vec![late]),
    ] {
        let outcome = explore(protocol);
        assert!(outcome.is_err_and(|why| found.contains(&why)), "{outcome:?}, not {found:?}");
    }
}
