//! Requests and answers that are lost on the way: what stands in etcd counts, and nothing is left behind.

use crate::cluster::{Cluster, needs_etcd, test_dir};

use crate::helper::{Helper, Said};
use crate::proxy::{Fate, Proxy};

const TTL: &str = "ttl_ms=60000";

/// Brings the lease to the state that a request wants to find: `a` has it, or `b`, or nobody.
fn prepare(direct: &mut Helper, owner: &str) {
    direct.ask("break", &["name=job"]);
    if !owner.is_empty() {
        direct.ask("acquire", &["name=job", &format!("owner={owner}"), TTL]).token();
    }
}

/// Loses one message after the other of each request, the request or its answer, once. The answer must be as if none
/// had been lost, and etcd must look like that, too.
#[test]
fn one_that_is_lost_makes_no_difference() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let proxy = Proxy::start(&etcd.members[0].place);
    let mut direct = etcd.helper("p");
    for (held_by, verb, lines, word, then_held_by) in [
        ("", "acquire", &["owner=a", TTL][..], "ok", "a"),
        ("b", "acquire", &["owner=a", TTL], "held", "b"),
        ("a", "acquire", &["owner=a", TTL], "ok", "a"),
        ("a", "acquire", &["owner=a", "ttl_ms=50000"], "ok", "a"),
        ("a", "refresh", &["owner=a"], "ok", "a"),
        ("a", "refresh", &["owner=a", "ttl_ms=50000"], "ok", "a"),
        ("b", "refresh", &["owner=a"], "lost", "b"),
        ("a", "release", &["owner=a"], "ok", ""),
        ("b", "release", &["owner=a"], "lost", "b"),
        ("b", "break", &[], "ok", ""),
        ("b", "status", &[], "held", "b"),
    ] {
        let what = format!("{verb} {lines:?} while \"{held_by}\" has it");
        for fate in [Fate::RequestLost, Fate::AnswerLost] {
            for lost in 0.. {
                prepare(&mut direct, held_by);
                let mut helper = Helper::start(&dir, &proxy.url("p"));
                proxy.rule(move |at, _| if at == lost { fate } else { Fate::Pass });
                let said = helper.ask(verb, &[&["name=job"], lines].concat());
                assert_eq!(said.word(), word, "{what}, {fate:?} of {lost}: {said:?}");
                let stands = direct.ask("status", &["name=job"]);
                assert_eq!(stands.value("owner"), then_held_by, "{what}, {fate:?} of {lost}");
                if said.word() == "ok" && verb != "break" && verb != "release" {
                    assert_eq!(said.number("token"), stands.number("token"), "{what}, {fate:?} of {lost}");
                }
                assert_eq!(etcd.granted(), usize::from(!then_held_by.is_empty()), "{what}, {fate:?} of {lost}");
                if proxy.paths().len() <= lost {
                    assert!(lost > 0, "{what}: it asked for nothing");
                    break;
                }
            }
        }
    }
}

/// etcd is gone from one message on: an error, soon, and nothing is left that does not run out.
#[test]
fn when_all_are_lost_the_error_comes_in_time() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let proxy = Proxy::start(&etcd.members[0].place);
    let mut direct = etcd.helper("p");
    for lost in 0..3 {
        let mut helper = Helper::start(&dir, &proxy.url("p"));
        proxy.rule(move |at, path| if at >= lost && path != "lease/revoke" { Fate::AnswerLost } else { Fate::Pass });
        let said: Said = helper.ask("acquire", &["name=job", "owner=a", TTL, "timeout_ms=4000"]);
        said.is_error(&["http://"]);
        // What it may have got, it has given back.
        assert_eq!(direct.ask("status", &["name=job"]).word(), "ok", "from {lost}");
        assert_eq!(etcd.granted(), 0, "from {lost}");
        // Tries are few: it pauses between them.
        assert!(proxy.paths().len() < 30, "{:?}", proxy.paths());
    }
}

/// Between a look, a keepalive and the look after it, the leader has changed: the keepalive may have gone to the old
/// one. A new lease in etcd, which a majority has agreed to, takes its place, and the token stays.
#[test]
fn a_keepalive_counts_only_under_one_leader() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let proxy = Proxy::start(&etcd.members[0].place);
    let mut helper = Helper::start(&dir, &proxy.url("p"));
    let token = helper.acquire("job", "a", 60_000).token();
    proxy.rule(|_, _| Fate::Pass);
    assert_eq!(helper.ask("refresh", &["name=job", "owner=a"]).token(), token);
    assert!(!proxy.paths().contains(&"kv/txn".to_owned()), "{:?}", proxy.paths());
    for other in ["kv/range", "lease/keepalive"] {
        let mut is_after = false;
        proxy.rule(move |_, path| {
            is_after |= path == "lease/keepalive";
            if is_after && path == other { Fate::OtherTerm } else { Fate::Pass }
        });
        assert_eq!(helper.ask("refresh", &["name=job", "owner=a"]).token(), token);
        assert_eq!(proxy.paths().contains(&"kv/txn".to_owned()), other == "kv/range", "{:?}", proxy.paths());
        assert_eq!(etcd.granted(), 1);
    }
}
