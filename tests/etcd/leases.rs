//! What each request does, with one server.

use rustix::process::Signal;

use crate::cluster::{Cluster, needs_etcd, test_dir};
use crate::common::wait_until;
use crate::helper::{HELPER, Helper};

#[test]
fn a_lease_is_acquired_refreshed_and_released() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let mut helper = etcd.helper("p");

    helper.ask("status", &["name=job"]).is(&[("answer", "ok")]);
    let all = ["name=job", "owner=a", "ttl_ms=60000", "reason=to = see %0A", "host=h", "pid=7"];
    let first = helper.ask("acquire", &all);
    let token = first.token().to_string();
    first.is(&[("answer", "ok"), ("token", &token), ("left_ms", "60000")]);

    // Whoever asks is told who has it.
    for (verb, lines) in [
        ("status", &["name=job"][..]),
        ("acquire", &["name=job", "owner=b", "ttl_ms=60000"]),
        ("refresh", &["name=job", "owner=b", "ttl_ms=60000"]),
        ("refresh", &["name=job", "owner=a", "token=1", "ttl_ms=60000"]),
        ("release", &["name=job", "owner=b"]),
        ("release", &["name=job", "owner=a", "token=1"]),
    ] {
        let said = helper.ask(verb, lines);
        let word = if matches!(verb, "status" | "acquire") { "held" } else { "lost" };
        let left = said.value("left_ms").to_owned();
        assert!((50_000..=60_000).contains(&said.number("left_ms")), "{said:?}");
        said.is(&[
            ("answer", word),
            ("owner", "a"),
            ("token", &token),
            ("left_ms", &left),
            ("reason", "to = see %0A"),
            ("host", "h"),
            ("pid", "7"),
        ]);
    }
    // Nothing of that has made a lease in etcd that is not needed.
    assert_eq!(etcd.granted(), 1);

    // The owner keeps it under the same token: asking again, refreshing, for another time.
    for (verb, lines, left) in [
        ("acquire", &["name=job", "owner=a", "ttl_ms=60000"][..], "60000"),
        ("refresh", &["name=job", "owner=a", "ttl_ms=60000"], "60000"),
        ("refresh", &["name=job", "owner=a"], "60000"),
        ("refresh", &["name=job", "owner=a", "ttl_ms=1500"], "1500"),
        ("acquire", &["name=job", "owner=a", "ttl_ms=90000"], "90000"),
        ("refresh", &["name=job", "owner=a"], "90000"),
    ] {
        helper.ask(verb, lines).is(&[("answer", "ok"), ("token", &token), ("left_ms", left)]);
        assert_eq!(etcd.granted(), 1, "{verb} {lines:?}");
    }
    let said = helper.ask("status", &["name=job"]);
    assert_eq!((said.value("reason"), said.value("pid")), ("to = see %0A", "7"));
    assert!(said.number("left_ms") > 80_000);

    helper.ask("refresh", &["name=job", "owner=a", "reason=other"]).token();
    assert_eq!(helper.ask("status", &["name=job"]).value("reason"), "other");
    helper.ask("refresh", &["name=job", "owner=a"]).token();
    assert_eq!(helper.ask("status", &["name=job"]).value("reason"), "other");
    assert_eq!(etcd.granted(), 1);

    let of_a = format!("token={token}");
    helper.ask("release", &["name=job", "owner=a", &of_a]).is(&[("answer", "ok")]);
    helper.ask("release", &["name=job", "owner=a", &of_a]).is(&[("answer", "ok")]);
    helper.ask("refresh", &["name=job", "owner=a", &of_a, "ttl_ms=5000"]).is(&[("answer", "lost")]);
    helper.ask("break", &["name=job"]).is(&[("answer", "ok")]);
    assert_eq!(etcd.granted(), 0);
}

#[test]
fn tokens_grow_over_release_break_expiry_and_restart() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let mut etcd = Cluster::start(&dir, 1);
    let mut helper = etcd.helper("p");
    let mut tokens = vec![helper.acquire("job", "a", 60_000).token()];

    helper.ask("release", &["name=job", "owner=a"]);
    tokens.push(helper.acquire("job", "a", 60_000).token());

    let token = tokens[1].to_string();
    let said = helper.ask("break", &["name=job"]);
    let left = said.value("left_ms").to_owned();
    assert!((50_000..=60_000).contains(&said.number("left_ms")), "{said:?}");
    said.is(&[("answer", "ok"), ("owner", "a"), ("token", &token), ("left_ms", &left)]);
    // etcd gives it two seconds.
    tokens.push(helper.acquire("job", "a", 300).token());

    let mut got = None;
    wait_until("it has run out", || {
        let said = helper.acquire("job", "b", 60_000);
        got = (said.word() == "ok").then(|| said.token());
        got.is_some()
    });
    tokens.extend(got);

    etcd.kill(0);
    helper.ask("status", &["name=job", "timeout_ms=500"]).is_error(&["connection refused"]);
    etcd.start_member(0);
    // Nobody loses a lease that way.
    let mut said = helper.acquire("job", "a", 60_000);
    wait_until("etcd serves again", || {
        said = helper.acquire("job", "a", 60_000);
        said.word() != "error"
    });
    assert_eq!((said.word(), said.value("owner"), said.number("token")), ("held", "b", tokens[3]));
    assert_eq!(helper.acquire("job", "b", 60_000).token(), tokens[3]);
    helper.ask("release", &["name=job", "owner=b"]);
    tokens.push(helper.acquire("job", "a", 60_000).token());

    assert!(tokens.is_sorted() && tokens.windows(2).all(|two| two[0] < two[1]), "{tokens:?}");
    assert_eq!(etcd.granted(), 1);
}

#[test]
fn one_of_many_gets_it_and_nothing_is_left_of_the_others() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let mut helpers: Vec<Helper> = (0..8).map(|_| etcd.helper("p")).collect();
    for round in 1..=10 {
        let name = format!("name=job {round}");
        for (at, helper) in helpers.iter_mut().enumerate() {
            helper.send("acquire", &[&name, &format!("owner={at}"), "ttl_ms=60000"]);
        }
        let answers: Vec<_> = helpers.iter_mut().map(Helper::answer).collect();
        let got: Vec<usize> = (0..8).filter(|at| answers[*at].word() == "ok").collect();
        assert_eq!(got.len(), 1, "{answers:?}");
        for (at, said) in answers.iter().enumerate().filter(|(at, _)| *at != got[0]) {
            assert_eq!((said.word(), said.number("token")), ("held", answers[got[0]].token()), "{at}: {said:?}");
            assert_eq!(said.value("owner"), got[0].to_string());
        }
        assert_eq!(etcd.granted(), round);
    }
}

#[test]
fn names_and_prefixes_keep_leases_apart() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let names = ["/etc/app.conf", "a", "a/b", "job:nightly", "x=y%0Az", "ä"];
    let mut helper = etcd.helper("p");
    for name in names {
        helper.acquire(name, "o", 60_000).token();
    }
    for other in ["p2", "p/q", "o"] {
        assert_eq!(etcd.helper(other).ask("status", &["name=a"]).word(), "ok");
        etcd.helper(other).acquire("beside", "o", 60_000).token();
    }
    let listed: Vec<String> = helper.list().iter().map(|said| said.value("name").to_owned()).collect();
    // Below `p/q` is below `p`, as in a tree of files.
    assert_eq!(listed, ["/etc/app.conf", "a", "a/b", "job:nightly", "q/beside", "x=y%0Az", "ä"]);
    assert!(etcd.etcdctl("get --keys-only p//etc/app.conf").contains("p//etc/app.conf"));
}

#[test]
fn the_longest_names_come_whole() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let mut helper = etcd.helper("p");
    let names = ["x".repeat(4091), format!("job:{}", "%FF".repeat(1000))];
    for name in &names {
        helper.acquire(name, "o", 60_000).token();
        assert_eq!(helper.ask("status", &[&format!("name={name}")]).word(), "held");
    }
    let listed: Vec<String> = helper.list().iter().map(|said| said.value("name").to_owned()).collect();
    assert_eq!(listed, [names[1].clone(), names[0].clone()]);
}

#[test]
fn a_long_list_comes_whole() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let puts = |from: usize| -> String {
        (from..from + 100).map(|at| format!("put p/{at:04} \"{{\\\"owner\\\":\\\"o\\\"}}\"\n")).collect()
    };
    for from in (0..1100).step_by(100) {
        dir.file("txn", format!("\n{}\n\n", puts(from)));
        assert!(etcd.etcdctl("txn <txn").contains("OK"));
    }
    let names: Vec<String> = etcd.helper("p").list().iter().map(|said| said.value("name").to_owned()).collect();
    assert!(names == (0..1100).map(|at| format!("{at:04}")).collect::<Vec<_>>(), "{} names", names.len());
}

#[test]
fn a_key_that_is_no_lease_is_left_alone() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    etcd.etcdctl("put p/job something");
    let mut helper = etcd.helper("p");
    for (verb, lines) in [
        ("acquire", &["name=job", "owner=a", "ttl_ms=5000"][..]),
        ("refresh", &["name=job", "owner=a", "ttl_ms=5000"]),
        ("release", &["name=job", "owner=a"]),
        ("status", &["name=job"]),
        ("break", &["name=job"]),
    ] {
        helper.ask(verb, lines).is_error(&["The key \"p/job\"", "is no lease", "another PREFIX"]);
    }
    assert!(helper.list().is_empty());
    assert!(etcd.etcdctl("get p/job").contains("something"));
    assert_eq!(etcd.granted(), 0);
    // What others have written does not break the lines.
    etcd.etcdctl("put p/job '{\"owner\":\"a\\nanswer=ok\"}'");
    assert_eq!(helper.ask("status", &["name=job"]).value("owner"), "a%0Aanswer=ok");
    etcd.etcdctl(&format!("put p/job '{{\"owner\":\"{}\"}}'", "long".repeat(20_000)));
    assert_eq!(helper.ask("status", &["name=job"]).value("owner").len(), 255);
    // Nor do their keys: they are no names.
    for key in ["100%", "two%0", &"long".repeat(2000)] {
        etcd.etcdctl(&format!("put 'p/{key}' '{{\"owner\":\"a\"}}'"));
    }
    assert_eq!(helper.list().len(), 1);
}

#[test]
fn a_server_that_is_paused_is_an_error_in_time_and_no_more() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let mut helper = etcd.helper("p");
    let token = helper.acquire("job", "a", 60_000).token();
    etcd.signal(0, Signal::STOP);
    helper.ask("refresh", &["name=job", "owner=a", "timeout_ms=400"]).is_error(&["no answer in time"]);
    etcd.signal(0, Signal::CONT);
    assert_eq!(helper.ask("refresh", &["name=job", "owner=a"]).token(), token);
}

#[test]
fn what_is_no_request_is_answered_and_the_end_of_requests_is_the_end() {
    let dir = test_dir();
    // Nobody listens at this address.
    let url = "etcd://127.0.0.1:9/p";
    assert_eq!(Helper::start(&dir, url).last_words(b""), (String::new(), Some(0)));
    assert_eq!(Helper::start(&dir, url).last_words(b"version=1\nrequest=li"), (String::new(), Some(0)));
    for (bytes, said) in [(&b"hello\n\n"[..], "no \"=\""), (b"a=\xff\n\n", "UTF-8"), (&[b'='; 5000], "too long")] {
        let (answer, code) = Helper::start(&dir, url).last_words(bytes);
        assert!(answer.starts_with("answer=error\nmessage=") && answer.ends_with("\n\n"), "{answer:?}");
        assert!(answer.contains(said) && code == Some(1), "{answer:?} {code:?}");
    }
    // A request that is well-formed, but none: others may follow.
    let mut helper = Helper::start(&dir, url);
    helper.ask("steal", &[]).is_error(&["no request \"steal\""]);
    helper.ask("acquire", &["name=n", "owner=o"]).is_error(&["no ttl_ms"]);
    helper.ask("status", &["name=n"]).is_error(&["http://127.0.0.1:9: connection refused.", "Check the address"]);
    assert_eq!(helper.last_words(b"").1, Some(0));
}

#[test]
fn a_wrong_address_is_said_in_words() {
    let dir = test_dir();
    for (url, words) in [
        ("etcd://127.0.0.1:9,127.0.0.1:11/p", &["http://127.0.0.1:9: c", "http://127.0.0.1:11: connection ref"][..]),
        ("etcd://no-such-host.invalid:1/p", &["http://no-such-host.invalid:1: there is no such host"]),
        ("etcd://127.0.0.1/", &["etcd://127.0.0.1/: there is no PREFIX", "etcd://HOST:PORT"]),
        ("consul://127.0.0.1/p", &["neither with etcd:// nor with etcds://"]),
    ] {
        let mut helper = Helper::start(&dir, url);
        helper.ask("status", &["name=x"]).is_error(words);
        helper.acquire("x", "o", 5_000).is_error(words);
    }
    for (args, words) in [(&[][..], "Usage: "), (&["a", "b"], "Usage: ")] {
        dir.program(HELPER, args).run().assert_says(1, words);
    }
    assert!(dir.program(HELPER, ["--help"]).run().ok().stdout.contains("ETCDCTL_CACERT"));
    assert!(dir.program(HELPER, ["--version"]).run().ok().stdout.starts_with("awrite-store-etcd "));
}
