//! Three servers, of which some are gone.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cluster::{Cluster, needs_etcd, test_dir};
use crate::common::wait_until;

#[test]
fn a_lease_outlives_its_leader() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let mut etcd = Cluster::start(&dir, 3);
    let mut helper = etcd.helper("p");
    let mut token = helper.acquire("job", "a", 60_000).token();
    for how in [Signal::KILL, Signal::STOP] {
        let leader = etcd.leader().unwrap();
        let began = Instant::now();
        match how {
            Signal::KILL => etcd.kill(leader),
            how => etcd.signal(leader, how),
        }
        // One request: what the helper asks first may be the one that is gone, and the others have to elect one.
        let said = helper.ask("refresh", &["name=job", "owner=a"]);
        assert_eq!(said.token(), token, "{said:?}");
        assert!(began.elapsed() < Duration::from_secs(10));
        // One that has seen nothing of it.
        let mut other = etcd.helper("p");
        assert_eq!(other.ask("status", &["name=job"]).number("token"), token);
        let said = other.ask("release", &["name=job", "owner=a"]);
        said.is(&[("answer", "ok")]);
        let next = other.acquire("job", "a", 60_000).token();
        assert!(next > token);
        token = next;
        match how {
            Signal::KILL => etcd.start_member(leader),
            _ => etcd.signal(leader, Signal::CONT),
        }
        etcd.wait_for_members(3);
    }
}

#[test]
fn without_a_majority_there_is_an_error_in_time() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let mut etcd = Cluster::start(&dir, 3);
    let mut helper = etcd.helper("p");
    let token = helper.acquire("job", "a", 60_000).token();
    etcd.kill(0);
    etcd.kill(1);
    for (verb, lines) in [
        ("status", &["name=job", "timeout_ms=1500"][..]),
        ("refresh", &["name=job", "owner=a", "timeout_ms=1500"]),
        ("acquire", &["name=other", "owner=a", "ttl_ms=5000", "timeout_ms=1500"]),
    ] {
        let began = Instant::now();
        helper.ask(verb, lines).is_error(&["http://", ": "]);
        assert!(began.elapsed() < Duration::from_millis(1500), "{verb}: {:?}", began.elapsed());
    }
    etcd.start_member(0);
    // The same helper goes on.
    wait_until("two are enough", || {
        let said = helper.ask("refresh", &["name=job", "owner=a"]);
        said.word() == "ok" && said.number("token") == token
    });
}
