//! The commands, with leases in etcd: what `--store` promises.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;

use crate::cluster::{Cluster, needs_etcd, test_dir};
use crate::common::{AWRITE, Run, Running, TestDir, extent, wait_until};
use crate::network::{Network, SERVER, needs_network};

/// `awrite-lock` with a store.
fn lock(dir: &TestDir, url: &str, args: &[&str]) -> Run {
    dir.lock(&[&["--store", url], args].concat())
}

/// The process that the process `parent` has started and that runs `program`.
fn child(parent: u32, program: &str) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let runs = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.split('\0').next().is_some_and(|first| first.ends_with(program)))
    };
    children.split_whitespace().find(runs).and_then(|pid| pid.parse().ok())
}

fn signal(pid: i32, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// How many lines the file has.
fn lines(dir: &TestDir, name: &str) -> usize {
    fs::read_to_string(dir.join(name)).unwrap_or_default().lines().count()
}

#[test]
fn none_of_thirty_clients_loses_its_count_when_the_leader_is_killed() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let mut etcd = Cluster::start(&dir, 3);
    let url = etcd.url("p");
    dir.file("count", "0\n");
    // Not atomic, and not under any lock but the lease.
    let count = "read n <count; echo $((n + 1)) >count; echo $CLIENT >>turns";
    // While etcd has no leader, it may give an error to those who ask.
    let tries = "until grep -qx $CLIENT turns; do
            $BIN lock --owner $CLIENT --ttl 30s -w 50s job:count -c \"$COUNT\" || sleep 0.1
        done";
    dir.file("turns", "");
    let client = |at: u32| {
        let run = dir.sh(tries).env("CLIENT", format!("client-{at}")).env("COUNT", count);
        run.env("AWRITE_STORE", &url).spawn()
    };
    let clients: Vec<Running> = (0..30).map(client).collect();
    for turn in 1..=extent() as usize + 1 {
        wait_until("some have counted", || lines(&dir, "turns") >= 8 * turn);
        let mut leader = None;
        wait_until("there is a leader", || {
            leader = etcd.leader();
            leader.is_some()
        });
        let leader = leader.unwrap();
        etcd.kill(leader);
        etcd.start_member(leader);
        etcd.wait_for_members(3);
    }
    for client in clients {
        client.finish().ok();
    }
    assert_eq!(dir.read("count"), "30\n");
    assert_eq!(etcd.granted(), 0);
}

#[test]
fn a_host_that_is_cut_off_stops_before_its_successor_starts() {
    if !needs_etcd() || !needs_network() {
        return;
    }
    let dir = test_dir();
    let network = Network::new(&dir);
    let etcd = Cluster::start_there(&dir, SERVER, network.at_server());
    let url = etcd.url("p");
    let at = |words: Vec<String>, args: &[&str]| {
        let words: Vec<&str> = words.iter().map(String::as_str).chain([AWRITE]).collect();
        dir.program(words[0], [&words[1..], args].concat()).env("AWRITE_STORE", &url)
    };
    // The time since the boot, of all hosts here.
    let work = "while :; do cut -d ' ' -f 1 /proc/uptime >>alive; done";
    let args = ["lock", "--owner", "a", "--ttl", "4s", "--kill-after", "1s", "job:x", "-c", work];
    let holder = at(network.at_client(), &args).spawn();
    wait_until("it works", || lines(&dir, "alive") > 0);
    let status = at(network.at_client(), &["lock", "--status", "--json", "job:x"]).run();
    let token = status.stdout.split("\"token\":").nth(1).unwrap();
    let token = token[..token.find(|c: char| !c.is_ascii_digit()).unwrap()].to_owned();

    network.connect(false);
    let cut = Instant::now();
    let args = [
        "lock",
        "--owner",
        "b",
        "--ttl",
        "60s",
        "-w",
        "50s",
        "job:x",
        "-c",
        "cut -d ' ' -f 1 /proc/uptime >started; cat",
    ];
    let mut successor = at(network.at_server(), &args).stdin_open().spawn();
    wait_until("its successor starts", || lines(&dir, "started") > 0);
    let lost = holder.finish();
    assert_eq!(lost.code, Some(2), "{lost:?}");
    let last = dir.read("alive").lines().last().unwrap().parse::<f64>().unwrap();
    let started = dir.read("started").trim().parse::<f64>().unwrap();
    assert!(last <= started, "worked until {last}; its successor started at {started}, {:?} after", cut.elapsed());

    // Its late write: while it is cut off, and when it is not any more.
    let late = ["--owner", "a", "--token", &token, "--lease", "job:x", "f"];
    let write = |status, words| {
        let done = at(network.at_client(), &late).stdin("late").run();
        done.assert_error_with(status, &[words]);
        assert!(!dir.join("f").exists());
    };
    write(1, "f: cannot ask the store");
    network.connect(true);
    write(2, "f: Leased by b");
    successor.feed(b"\n");
    successor.finish().ok();
}

#[test]
fn a_helper_that_is_paused_or_killed_costs_nothing() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let url = etcd.url("p");
    for how in [Signal::STOP, Signal::KILL] {
        let args = ["--owner", "a", "--ttl", "12s", "job:x", "-c", "echo x >>started; cat >/dev/null"];
        let mut holder = lock(&dir, &url, &args).stdin_open().spawn();
        wait_until("it works", || lines(&dir, "started") == 1);
        let first = child(holder.id(), "awrite-store-etcd").unwrap();
        signal(first, how);
        let mut other = None;
        wait_until("there is another one", || {
            other = child(holder.id(), "awrite-store-etcd").filter(|pid| *pid != first);
            assert!(!holder.has_ended(), "{}", holder.stderr());
            other.is_some()
        });
        wait_until("and the lease has new time", || {
            let left = lock(&dir, &url, &["--status", "--json", "job:x"]).run().stdout;
            left.contains("\"owner\":\"a\"") && left.contains("\"left_ms\":11000")
        });
        holder.close_stdin();
        holder.finish().ok();
        fs::remove_file(dir.join("started")).unwrap();
    }
    assert_eq!(etcd.granted(), 0);
}

#[test]
fn what_a_paused_holder_writes_late_is_refused() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let url = etcd.url("p");
    let target = dir.file("f", "old\n");
    let target = target.to_str().unwrap();
    let late = "echo >started; read line; echo late | $BIN f; echo $? >status";
    let mut holder = lock(&dir, &url, &["--owner", "a", "--ttl", "2s", target, "-c", late]).stdin_open().spawn();
    wait_until("it works", || dir.join("started").exists());
    holder.signal(Signal::STOP);
    let next = ["--owner", "b", "--ttl", "20s", "-w", "50s", target, "-c", "echo new | $BIN f"];
    lock(&dir, &url, &next).run().ok();
    assert_eq!(dir.read("f"), "new\n");
    // COMMAND goes on, which its paused parent cannot stop.
    holder.feed(b"\n");
    wait_until("it has tried to write", || lines(&dir, "status") > 0);
    assert_eq!((dir.read("status").as_str(), dir.read("f").as_str()), ("2\n", "new\n"));
    holder.signal(Signal::CONT);
    // Nobody has the lease now, but its time was over here.
    holder.finish().assert_code(2);
    // The mark keeps it out whatever etcd says.
    assert_eq!(dir.read("f"), "new\n");
    assert!(dir.read("f.lease").contains("\"fence\":"));
}

#[test]
fn a_restart_of_etcd_is_not_noticed() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let mut etcd = Cluster::start(&dir, 1);
    let url = etcd.url("p");
    let target = dir.file("f", "old\n");
    let target = target.to_str().unwrap();
    let work = "echo >started; read line; echo new | $BIN f";
    let mut holder = lock(&dir, &url, &["--owner", "a", "--ttl", "6s", target, "-c", work]).stdin_open().spawn();
    wait_until("it works", || dir.join("started").exists());
    etcd.kill(0);
    etcd.start_member(0);
    etcd.wait_for_members(1);
    holder.feed(b"\n");
    holder.finish().ok();
    assert_eq!(dir.read("f"), "new\n");
}

#[test]
fn every_verb_of_the_command_asks_etcd() {
    if !needs_etcd() {
        return;
    }
    let dir = test_dir();
    let etcd = Cluster::start(&dir, 1);
    let url = etcd.url("p");
    let ask = |args: &[&str]| lock(&dir, &url, args).run();
    let token = ask(&["--acquire", "--owner", "a", "--ttl", "60s", "--reason", "backup", "job:nightly"]);
    let token = token.ok().stdout.trim().to_owned();
    assert!(token.parse::<u64>().is_ok(), "{token}");
    ask(&["--acquire", "-n", "--owner", "b", "--ttl", "60s", "job:nightly"]).assert_code(2);
    assert!(ask(&["--status", "job:nightly"]).stdout.contains("backup"));
    ask(&["--refresh", "--owner", "a", "--token", &token, "job:nightly"]).ok();
    let list = ask(&["--list"]).ok().stdout.clone();
    assert!(list.contains("job:nightly") && list.contains("backup"), "{list}");
    ask(&["--release", "--owner", "a", "--token", &token, "job:nightly"]).ok();
    ask(&["--acquire", "--owner", "b", "--ttl", "60s", "job:nightly"]).ok();
    ask(&["--break", "job:nightly"]).ok();
    ask(&["--status", "job:nightly"]).ok();
    assert_eq!(etcd.granted(), 0);
    let done = lock(&dir, "etcd://127.0.0.1:9/p", &["--status", "job"]).run();
    done.assert_error_with(1, &["job: cannot ask the store", "http://127.0.0.1:9: connection refused"])
        .assert_hint("Check the address");
}
