//! Every operation, through the shell helper.

use std::fs;
use std::os::unix::fs::symlink;

use super::Scene;

#[test]
fn a_lease_goes_from_command_to_command() {
    let s = Scene::new();
    let first = s.acquire("A", "60s", "job:x");
    assert_eq!(s.acquire("A", "60s", "job:x"), first, "the owner has it already");
    let refused = s.lock(&["--acquire", "-n", "--owner", "B", "--ttl", "5", "job:x"]).run();
    refused.assert_error_with(2, &["job:x: Leased by A until "]);
    s.lock(&["--status", "job:x"]).run().assert_code(2);
    s.lock(&["--refresh", "--owner", "A", "--token", &first.to_string(), "--ttl", "90s", "job:x"]).quiet_success();
    s.lock(&["--refresh", "--owner", "A", "job:x"]).quiet_success();
    let other = (first + 1).to_string();
    let lost = s.lock(&["--refresh", "--owner", "A", "--token", &other, "job:x"]).run();
    lost.assert_error_with(2, &["job:x: The lease with token ", " is over: A has token "]);
    s.lock(&["--release", "--owner", "B", "job:x"]).run().assert_error_with(2, &["job:x: Leased by A until "]);
    s.lock(&["--release", "--owner", "A", "job:x"]).quiet_success();
    s.lock(&["--release", "--owner", "A", "job:x"]).quiet_success();
    assert_eq!(s.lock(&["--status", "job:x"]).run().ok().stdout, "job:x: Free\n");
    s.lock(&["--refresh", "--owner", "A", "job:x"]).run().assert_error_with(2, &["job:x: Not leased by A"]);
    assert!(s.acquire("B", "60s", "job:x") > first, "tokens grow over a release");
    s.dir.assert_holds(&["bin", "store"]);
}

#[test]
fn a_reason_is_shown_and_a_lease_can_be_broken() {
    let s = Scene::new();
    let args = ["--acquire", "--owner", "A", "--ttl", "60s", "--reason", "moving to v2", "job:x"];
    let token = s.lock(&args).run().ok().stdout.clone();
    let refused = s.lock(&["--acquire", "-n", "--owner", "B", "--ttl", "5", "job:x"]).run();
    refused.assert_error_with(2, &["job:x: Leased by A until ", "(moving to v2)"]);
    let listed = s.lock(&["--list", "--json"]).run();
    let host = format!(r#""host":"{}""#, s.dir.program("uname", ["-n"]).run().stdout.trim());
    for part in [&*host, r#""path":"job:x""#, r#""owner":"A""#, r#""reason":"moving to v2""#, r#""lock_file":null"#] {
        assert!(listed.stdout.contains(part), "{listed:?}");
    }
    let lease: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let now = s.dir.program("date", ["-u", "+%Y-%m-%dT%H:%M:%S"]).run().stdout;
    assert!(lease["expires_at"].as_str() > Some(now.trim()), "{listed:?}");
    let broken = s.lock(&["--break", "job:x"]).run();
    assert!(broken.ok().stdout.starts_with("job:x: The lease has ended. It was: Leased by A until "), "{broken:?}");
    assert_eq!(s.lock(&["--break", "job:x"]).run().ok().stdout, "job:x: Not leased\n");
    assert!(s.acquire("B", "5", "job:x") > token.trim_end().parse().unwrap());
}

#[test]
fn a_waiter_gets_it_next() {
    let s = Scene::new();
    let first = s.acquire("A", "60s", "job:x");
    let mut waiter = s.lock(&["--acquire", "-w", "60", "--owner", "B", "--ttl", "60s", "job:x"]).spawn();
    waiter.wait_for_stderr("Waiting for ");
    assert!(waiter.stderr().contains("leased by A until"), "{}", waiter.stderr());
    s.lock(&["--release", "--owner", "A", "job:x"]).quiet_success();
    let done = waiter.finish();
    assert!(done.ok().stdout.trim_end().parse::<u64>().unwrap() > first);
}

/// A helper that starts nothing, and so answers at once however busy the machine is: A has the lease.
const QUICK: &str = r"#!/bin/sh
while read -r line; do
    case $line in
        id=*) id=$line ;;
        request=*) request=${line#*=} ;;
        ttl_ms=*) ttl=${line#*=} ;;
        owner=*) owner=${line#*=} ;;
        '')
            echo $request >>asked
            case $request,$owner in
                acquire,A | refresh,A) printf 'answer=ok\ntoken=1\nleft_ms=%s\n%s\n\n' $ttl $id ;;
                acquire,*) printf 'answer=held\nowner=A\ntoken=1\nleft_ms=60000\n%s\n\n' $id ;;
                *) printf 'answer=ok\n%s\n\n' $id ;;
            esac ;;
    esac
done
";

/// A store that answers at once is not asked all the time.
#[test]
fn a_waiter_pauses_between_its_questions() {
    let s = Scene::new();
    s.dir.script("bin/awrite-store-quick", QUICK);
    let args = ["--store", "quick://x", "--acquire", "-w", "0.5", "--owner", "B", "--ttl", "5", "job:x"];
    let refused = s.plain(s.dir.lock(&args)).run();
    refused.assert_error_with(2, &["job:x: Leased by A until "]).assert_hint("waited 500ms");
    let asked = s.dir.read("asked").lines().count();
    assert!(asked <= 5, "{asked}");
}

#[test]
fn a_lease_that_is_not_refreshed_ends() {
    let s = Scene::new();
    let first = s.acquire("A", "1ms", "job:x");
    let next = s.lock(&["--acquire", "-w", "60", "--owner", "B", "--ttl", "60s", "job:x"]).run();
    assert!(next.ok().stdout.trim_end().parse::<u64>().unwrap() > first);
}

/// All paths of a file lead to one lease, and a file that is called as a plain name is one with `./` in front.
#[test]
fn names_and_paths() {
    let s = Scene::new();
    fs::write(s.dir.join("f"), "0").unwrap();
    symlink("f", s.dir.join("link")).unwrap();
    s.dir.dir("d");
    s.acquire("A", "60s", "d/../link");
    s.acquire("B", "60s", "job:x");
    s.acquire("C", "60s", "./job:x");
    s.acquire("D", "60s", "d/a=b %\n");
    let root = s.dir.path().canonicalize().unwrap();
    let root = root.to_str().unwrap();
    let paths = |args: &[&str]| -> Vec<String> {
        let listed = s.lock(&[args, &["--list", "--json"]].concat()).run();
        let path = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].as_str().unwrap().to_owned();
        listed.ok().stdout.lines().map(path).collect()
    };
    let (file, odd, below) = (format!("{root}/f"), format!("{root}/job:x"), format!("{root}/d/a=b %\n"));
    assert_eq!(paths(&[]), [&below, &file, &odd, "job:x"].map(str::to_owned));
    assert_eq!(s.lock(&["--list", "."]).run().ok().stdout.lines().count(), 3, "two, and the headings");
    assert_eq!(s.lock(&["--list", "-r", "."]).run().ok().stdout.lines().count(), 4);
    s.lock(&["--list", "f"]).run().assert_error_with(1, &["f: Not a directory"]);
    s.lock(&["--list", "missing"]).run().assert_error_with(1, &["missing: No such file or directory"]);
    s.lock(&["--acquire", "-n", "--owner", "X", "--ttl", "5", "f"]).run().assert_error_with(2, &["Leased by A"]);
    s.lock(&["--acquire", "-n", "--owner", "X", "--ttl", "5", &file]).run().assert_error_with(2, &["Leased by A"]);
    s.lock(&["--status", "d/a=b %\n"]).run().assert_code(2);
}

#[test]
fn what_makes_no_sense_with_a_store_is_refused() {
    let s = Scene::new();
    let url = s.url();
    let with = |args: &[&str]| s.plain(s.dir.lock(&[&["--store", &*url], args].concat())).run();
    for (args, words) in [
        (&["f", "--", "true"][..], "--store: is for leases"),
        (&["9"], "--store: is for leases"),
        (&["-u", "9"], "--store: is for leases"),
        (&["--owner", "A", "f", "--", "true"], "--store: is for leases"),
        (&["--acquire", "--owner", "A", "--ttl", "5", "--lock-file", "l", "f"], "--lock-file: contradicts --store"),
        (&["--status", "--lock-method", "link", "f"], "--lock-method: contradicts --store"),
        (&["--status", "--keep-lock", "f"], "--keep-lock: contradicts --store"),
        (&["--list", "--lock-mode", "600"], "--lock-mode: contradicts --store"),
        (&["--status", "--store", "x"], "--store: 'x': the URL of a store is"),
        (&["--status", "--store", "../x://y"], "--store: '../x://y': the URL of a store is"),
    ] {
        with(args).assert_error_with(1, &[words]);
    }
    // In the environment it is for what asks a store.
    s.lock(&["f", "--", "true"]).quiet_success();
    s.lock(&["--owner", "A", "f", "--", "true"]).run().assert_error_with(1, &["--owner: needs --ttl with a store"]);
    s.awrite(&["f"]).stdin("x").quiet_success();
    let write = |args: &[&str]| s.plain(s.dir.awrite(args)).stdin("x").run();
    write(&["--store", &url, "f"]).assert_error_with(1, &["--store: needs --owner"]);
    write(&["--lease", "f", "f"]).assert_error_with(1, &["--lease: 'f': the plain name of a lease is WORD:REST"]);
    write(&["--lease", "job:x", "f"]).assert_error_with(1, &["f: this does not run under the lease job:x"]);
    write(&["--lease", "job:x", "--owner", "A", "f"]).assert_error_with(1, &["no store is named"]);
    for args in [&["--status", "f"][..], &["--list"], &["--owner", "A", "--ttl", "9s", "f", "--", "true"]] {
        let bad = s.plain(s.dir.lock(args)).env("AWRITE_STORE", "et\ncd").run();
        bad.assert_error_with(1, &["AWRITE_STORE: 'et\\ncd': the URL of a store is"]);
    }
    let bad = s.plain(s.dir.awrite(["--owner", "A", "f"])).env("AWRITE_STORE", "etcd").stdin("1").run();
    bad.assert_error_with(1, &["AWRITE_STORE: 'etcd': the URL of a store is"]);
    // It is nothing to those who ask no store.
    s.plain(s.dir.awrite(["free"])).env("AWRITE_STORE", "etcd").stdin("1").quiet_success();
    s.plain(s.dir.lock(&["free", "--", "rm", "free"])).env("AWRITE_STORE", "etcd").run().ok();
    assert_eq!(s.dir.read("f"), "x");
}

#[test]
fn what_runs_under_the_lease_of_a_file_writes_it_without_an_option() {
    let s = Scene::new();
    let script = r#"echo 1 | "$BIN" f && echo 2 | "$BIN" -a f && "$BIN" f -- sed 's/2/3/' && echo 4 | "$BIN" other"#;
    s.lock(&["--owner", "A", "--ttl", "60s", "f", "-c", script]).quiet_success();
    assert_eq!((s.dir.read("f"), s.mark()), ("1\n3\n".into(), 1));
    s.dir.assert_holds(&["bin", "store", "f", "f.lease", "other"]);
    // It has been given back.
    assert_eq!(s.acquire("B", "60s", "f"), 2);
    // Without the option of the command above, too.
    s.break_lease("f");
    let url = s.url();
    let args = ["--store", &*url, "--owner", "A", "--ttl", "60s", "f", "-c", "echo 5 | awrite f"];
    s.plain(s.dir.lock(&args)).quiet_success();
    assert_eq!((s.dir.read("f"), s.mark()), ("5\n".into(), 3));
    // With -o, what is below does not write under it, and the lease of a store keeps no plain writer out.
    s.lock(&["-o", "--owner", "A", "--ttl", "60s", "f", "-c", r#"echo 6 | "$BIN" f"#]).quiet_success();
    assert_eq!((s.dir.read("f"), s.mark()), ("6\n".into(), 3));
}

#[test]
fn what_runs_under_a_plain_name_names_it() {
    let s = Scene::new();
    let script =
        r#"echo 1 | "$BIN" --lease job:x f && echo 2 | "$BIN" g && "$BIN" --lease job:y g </dev/null; test $? = 1"#;
    let done = s.lock(&["--owner", "A", "--ttl", "60s", "job:x", "-c", script]).run();
    done.ok();
    assert_eq!(done.error_line(), "Error: g: this does not run under the lease job:y");
    assert_eq!((s.dir.read("f"), s.mark()), ("1\n".into(), 1));
    s.dir.assert_holds(&["bin", "store", "f", "f.lease", "g"]);
}

#[test]
fn commands_end_with_their_own_status() {
    let s = Scene::new();
    s.lock(&["--owner", "A", "--ttl", "60s", "job:x", "-c", "exit 7"]).run().assert_code(7);
    s.lock(&["--owner", "A", "--ttl", "60s", "job:x", "--", "/none"]).run().assert_code(127);
    s.acquire("B", "60s", "job:x");
    let refused = s.lock(&["-n", "--owner", "A", "--ttl", "60s", "job:x", "--", "touch", "was-run"]).run();
    refused.assert_error_with(2, &["job:x: Leased by B until "]);
    s.lock(&["-nE", "9", "--owner", "A", "--ttl", "60s", "job:x", "--", "touch", "was-run"]).run().assert_code(9);
    s.dir.assert_holds(&["bin", "store"]);
}

/// Refreshed while COMMAND runs, through one helper, and released then.
#[test]
fn a_command_may_run_longer_than_the_lease() {
    let s = Scene::new();
    s.dir.script("bin/awrite-store-quick", QUICK);
    let script = "until test $(grep -c refresh asked) -ge 4; do sleep 0.02; done";
    let args = ["--store", "quick://x", "--owner", "A", "--ttl", "2s", "job:x", "-c", script];
    s.plain(s.dir.lock(&args)).run().ok();
    assert!(s.dir.read("asked").ends_with("refresh\nrelease\n"), "{}", s.dir.read("asked"));
}

#[test]
fn several_files_under_one_lease() {
    let s = Scene::new();
    for name in ["f", "g"] {
        fs::write(s.dir.join(name), "0\n").unwrap();
    }
    let edit = ["-e", "f", "g", "--", "sed", "-i", "s/0/1/"];
    s.acquire("A", "60s", "job:x");
    s.awrite(&[&["--owner", "A", "--lease", "job:x"], &edit[..]].concat()).quiet_success();
    assert_eq!((s.dir.read("f"), s.dir.read("g"), s.mark()), ("1\n".into(), "1\n".into(), 1));
    assert_eq!(s.dir.read("f.lease"), s.dir.read("g.lease"));
    // Without a lease the marks stay.
    let edit = ["-e", "f", "g", "--", "sed", "-i", "s/1/2/"];
    s.awrite(&edit).quiet_success();
    assert_eq!((s.dir.read("f"), s.dir.read("g"), s.mark()), ("2\n".into(), "2\n".into(), 1));
    s.dir.assert_holds(&["bin", "store", "f", "f.lease", "g", "g.lease"]);
    // The next owner's token is greater, and the one before may write neither of them any more.
    s.break_lease("job:x");
    s.acquire("B", "60s", "job:x");
    s.dir.dir("new");
    fs::write(s.dir.join("new/f"), "3\n").unwrap();
    fs::write(s.dir.join("new/g"), "3\n").unwrap();
    let into = ["--into", ".", "new/f", "new/g"];
    s.awrite(&[&["--owner", "B", "--lease", "job:x"], &into[..]].concat()).quiet_success();
    assert_eq!((s.dir.read("g"), s.mark()), ("3\n".into(), 2));
    let edit = ["-e", "f", "g", "--", "sed", "-i", "s/3/4/"];
    let late = s.awrite(&[&["--owner", "A", "--lease", "job:x"], &edit[..]].concat()).run();
    late.assert_error_with(2, &["f: Leased by B until "]);
    // Each under the lease of its own path, below one command.
    s.acquire("A", "60s", "f");
    s.acquire("A", "60s", "g");
    s.awrite(&[&["--owner", "A"], &edit[..]].concat()).quiet_success();
    let marks = ["f.lease", "g.lease"].map(|name| s.dir.read(name));
    assert_eq!(marks, [3, 4].map(|token| format!("{{\"version\":1,\"fence\":{token}}}\n")));
}

/// Below two commands, each file under a lease of its own store. A lease here, of another file, is nothing to them.
#[test]
fn two_stores_are_kept_apart() {
    let (one, two) = (Scene::new(), Scene::odd());
    let here = |args: &[&str]| one.plain(one.dir.lock(args)).env("TWO", two.url());
    fs::write(two.dir.join("store/token"), "6").unwrap();
    here(&["--acquire", "--owner", "H", "--ttl", "60s", "h"]).run().ok();
    let script = r#"echo 1 >new/f && echo 1 >new/g && awrite --into . new/f new/g && echo 1 | awrite --owner H h"#;
    let second = format!(r#"awrite-lock --store "$TWO" --owner B --ttl 60s "$PWD/g" -c '{script}'"#);
    fs::create_dir(one.dir.join("new")).unwrap();
    let done = here(&["--store", &one.url(), "--owner", "A", "--ttl", "60s", "f", "-c", &second])
        .env("PATH", format!("{}:{}", two.dir.join("bin").display(), std::env::var("PATH").unwrap()))
        .run();
    done.ok();
    let marks = ["f.lease", "g.lease"].map(|name| one.dir.read(name));
    assert_eq!(marks, [1, 7].map(|token| format!("{{\"version\":1,\"fence\":{token}}}\n")));
    assert_eq!(["f", "g", "h"].map(|name| one.dir.read(name)), ["1\n"; 3]);
}

/// The lease of many files is asked for twice, as that of one is.
#[test]
fn the_store_is_asked_of_each_lease_once() {
    let s = Scene::odd();
    s.dir.dir("new");
    for name in ["a", "b", "c"] {
        fs::write(s.dir.join("new").join(name), "1\n").unwrap();
    }
    s.acquire("A", "60s", "job:x");
    let asked = || fs::read_to_string(s.dir.join("store/asked")).unwrap().matches("status").count();
    s.awrite(&["--owner", "A", "--lease", "job:x", "--into", ".", "new/a", "new/b", "new/c"]).quiet_success();
    assert_eq!(asked(), 2);
    for name in ["a", "b", "c"] {
        s.acquire("A", "60s", name);
        fs::write(s.dir.join("new").join(name), "2\n").unwrap();
    }
    let started = || fs::read_to_string(s.dir.join("store/started")).unwrap().len();
    let before = started();
    s.awrite(&["--owner", "A", "--into", ".", "new/a", "new/b", "new/c"]).quiet_success();
    assert_eq!((asked(), started()), (2 + 6, before + 1), "one process for all");
    let marks = ["a.lease", "b.lease", "c.lease"].map(|name| s.dir.read(name));
    assert_eq!(marks, [2, 3, 4].map(|token| format!("{{\"version\":1,\"fence\":{token}}}\n")));
}

/// One process, which gets nothing of this one but standard input, output and error.
#[test]
fn the_helper_gets_no_other_descriptors() {
    let s = Scene::odd();
    fs::write(s.dir.join("f"), "0").unwrap();
    let ended = s.dir.join("store/ended");
    s.lock(&["--status", "job:x"]).run().ok();
    assert!(ended.exists(), "it ends by itself, and is waited for");
    let script = r#"exec 9<f; awrite-lock g -c 'echo 1 | awrite --owner A --lease job:x f'"#;
    s.acquire("A", "60s", "job:x");
    s.run(s.dir.sh(script)).quiet_success();
    let given = s.dir.read("store/fds");
    assert!(!given.contains("g.lock") && !given.contains(" 9 -> ") && !given.contains("/f\n"), "{given}");
}
