//! Late writes are refused: by the store, by the mark beside the file, by the clock.

use std::fs;

use super::Scene;
use crate::common::{AWRITE, needs_strace, wait_until};

/// A writer under the lease of A that has asked the store once, has the lock, and waits for its input.
fn begun(s: &Scene, options: &[&str]) -> crate::common::Running {
    let args = [&["--owner", "A", "--lease", "job:x"], options, &["f"]].concat();
    // Of the one before.
    let _ = fs::remove_file(s.dir.join("store/did-status"));
    let mut writer = s.awrite(&args).stdin_open().spawn();
    wait_until("it has asked", || {
        assert!(!writer.has_ended(), "{}", writer.stderr());
        s.dir.join("store/did-status").exists()
    });
    writer
}

#[test]
fn the_mark_is_the_greatest_token_that_has_written() {
    let s = Scene::new();
    for (owner, content) in [("A", "1"), ("B", "2"), ("A", "3")] {
        s.break_lease("job:x");
        let token = s.acquire(owner, "60s", "job:x");
        s.awrite(&["--owner", owner, "--lease", "job:x", "f"]).stdin(content).quiet_success();
        s.awrite(&["--owner", owner, "--token", &token.to_string(), "--lease", "job:x", "f"])
            .stdin(content)
            .quiet_success();
        assert_eq!((s.dir.read("f"), s.mark()), (content.into(), token));
    }
    assert_eq!(s.dir.read("f.lease"), "{\"version\":1,\"fence\":3}\n");
    // All kinds of writes, and a dry run that leaves the mark.
    s.break_lease("job:x");
    s.acquire("A", "60s", "job:x");
    let held = ["--owner", "A", "--lease", "job:x"];
    s.awrite(&[&held[..], &["--dry-run", "f"]].concat()).stdin("4").run().ok();
    assert_eq!((s.dir.read("f"), s.mark()), ("3".into(), 3));
    s.awrite(&[&held[..], &["-a", "f"]].concat()).stdin("4\n").quiet_success();
    s.awrite(&[&held[..], &["--lock-on-commit", "--keep-inode", "f"]].concat()).stdin("5\n").run().ok();
    s.awrite(&[&held[..], &["f", "--", "sed", "s/5/6/"]].concat()).quiet_success();
    s.awrite(&[&held[..], &["-e", "f", "--", "sed", "-i", "s/6/7/"]].concat()).quiet_success();
    s.awrite(&[&held[..], &["-b", "f"]].concat()).stdin("8\n").quiet_success();
    assert_eq!((s.dir.read("f"), s.dir.read("f.backup"), s.mark()), ("8\n".into(), "7\n".into(), 4));
    s.dir.assert_holds(&["bin", "store", "f", "f.lease", "f.backup"]);
}

/// The store was made anew and forgot its tokens: what it says does not count against the mark.
#[test]
fn a_smaller_token_is_refused_whatever_the_store_says() {
    let s = Scene::new();
    fs::write(s.dir.join("store/token"), "6").unwrap();
    assert_eq!(s.acquire("A", "60s", "job:x"), 7);
    s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin("1").quiet_success();
    s.dir.sh("rm store/*").quiet_success();
    assert_eq!(s.acquire("A", "60s", "job:x"), 1);
    for options in [&["f"][..], &["--dry-run", "f"], &["--keep-inode", "f"], &["f", "--", "echo", "2"]] {
        let late = s.awrite(&[&["--owner", "A", "--lease", "job:x"], options].concat()).stdin("2").run();
        late.assert_error_with(2, &["f: The lease of A with token 1 is over: token 7 has written it since"]);
        late.assert_hint("AWRITE_STORE= awrite-lock --break f");
    }
    let several = ["--owner", "A", "--lease", "job:x", "-e", "g", "f", "--", "sh", "-c", "echo 2 >$0; echo 2 >$1"];
    s.awrite(&several).run().assert_error_with(2, &["f: ", "token 7 has written it since"]);
    assert_eq!((s.dir.read("f"), s.mark()), ("1".into(), 7));
    // The remedy.
    let broken = s.plain(s.dir.lock(&["--break", "f"])).run();
    assert_eq!(broken.ok().stdout, "f: Not leased\n");
    assert!(broken.stderr.contains("removed the mark of leases that a store keeps (greatest token 7)"), "{broken:?}");
    s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin("2").quiet_success();
    assert_eq!((s.dir.read("f"), s.mark()), ("2".into(), 1));
    s.dir.assert_holds(&["bin", "store", "f", "f.lease"]);
}

#[test]
fn a_late_write_is_refused_by_the_store() {
    let s = Scene::odd();
    fs::write(s.dir.join("f"), "0").unwrap();
    for next in ["B", "A", ""] {
        s.acquire("A", "60s", "job:x");
        let mut late = begun(&s, &[]);
        // It is broken, and nobody has written under the next one yet. The same owner's next lease is another one.
        s.break_lease("job:x");
        if !next.is_empty() {
            s.acquire(next, "60s", "job:x");
        }
        late.feed(b"late");
        let why = match next {
            "B" => "f: Leased by B until ",
            "A" => "f: The lease with token ",
            _ => "f: Not leased by A (any more)",
        };
        late.finish().assert_error_with(2, &[why]);
        assert_eq!(s.dir.read("f"), "0");
        s.break_lease("job:x");
        let _ = fs::remove_file(s.dir.join("f.lease"));
    }
}

/// In every form of a write it is the last look that counts. The check of the new content ends the lease.
#[test]
fn all_forms_of_a_write_look_again() {
    let s = Scene::new();
    fs::create_dir(s.dir.join("new")).unwrap();
    for name in ["f", "g"] {
        fs::write(s.dir.join(name), "old\n").unwrap();
        fs::write(s.dir.join("new").join(name), "late\n").unwrap();
    }
    for form in [
        &["f"][..],
        &["-a", "f"],
        &["--stream", "f"],
        &["--lock-on-commit", "f"],
        &["--if-changed", "f"],
        &["--keep-inode", "f"],
        &["--in-place", "f"],
        &["-b", "f"],
        &["--dry-run", "f"],
        &["-i", "new/f", "f"],
        &["f", "--", "echo", "late"],
        &["-e", "f", "--", "sed", "-i", "s/old/late/"],
        &["-e", "f", "g", "--", "sed", "-i", "s/old/late/"],
        &["--into", ".", "new/f", "new/g"],
    ] {
        s.acquire("A", "60s", "job:x");
        let held = ["--owner", "A", "--lease", "job:x", "--validate", "awrite-lock --break job:x >/dev/null"];
        let late = s.awrite(&[&held[..], form].concat()).stdin("late\n").run();
        late.assert_error_with(2, &["Not leased by A (any more)"]);
        assert_eq!((s.dir.read("f"), s.dir.read("g")), ("old\n".into(), "old\n".into()), "{form:?}");
        assert!(!s.dir.join("f.backup").exists(), "{form:?}");
    }
}

#[test]
fn a_late_write_is_refused_by_the_mark() {
    let s = Scene::odd();
    s.acquire("A", "60s", "job:x");
    let mut late = begun(&s, &[]);
    // The lock is A's; on another host, with the file there, it would be B's.
    fs::write(s.dir.join("f.lease"), "{\"fence\":2}\n").unwrap();
    late.feed(b"late");
    late.finish().assert_error_with(2, &["f: The lease of A with token 1 is over: token 2 has written it since"]);
    s.dir.assert_holds(&["bin", "store", "f.lease"]);
}

/// The store's answer came late: by then the time was over here.
#[test]
fn a_late_write_is_refused_by_the_clock() {
    let s = Scene::odd();
    s.acquire("A", "8s", "job:x");
    let mut late = begun(&s, &[]);
    wait_until("it is nearly over", || {
        let status = s.lock(&["--status", "--json", "job:x"]).run();
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        status["left_ms"].as_u64().unwrap() <= 3000
    });
    s.fault("status late\n");
    late.feed(b"late");
    late.finish().assert_error_with(2, &["f: The time of A's lease is over here"]);
    assert!(!s.dir.join("f").exists());
}

/// Stopped behind all looks, in the very call that replaces the file: the lock is still held, so the next owner's write
/// comes behind it, and is what stays.
#[test]
fn a_writer_that_is_stopped_at_the_rename_comes_before_its_successor() {
    if !needs_strace() {
        return;
    }
    let s = Scene::new();
    s.acquire("A", "60s", "job:x");
    s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin("0").quiet_success();
    // The mark is there already, so the first rename is that of the file.
    let strace = ["-o", "trace", "-e", "inject=rename,renameat,renameat2:signal=SIGSTOP:when=1"];
    let args = [&strace[..], &[AWRITE, "--owner", "A", "--lease", "job:x", "f"]].concat();
    let mut late = s.run(s.dir.program("strace", args)).stdin("late").spawn();
    wait_until("it has stopped", || {
        assert!(!late.has_ended(), "{}", late.stderr());
        fs::read_to_string(s.dir.join("trace")).is_ok_and(|trace| trace.contains("stopped by SIGSTOP"))
    });
    s.break_lease("job:x");
    s.acquire("B", "60s", "job:x");
    let refused = s.awrite(&["-n", "--owner", "B", "--lease", "job:x", "f"]).stdin("next").run();
    refused.assert_error_with(2, &["f: File locked by another process"]);
    let next = s.awrite(&["--owner", "B", "--lease", "job:x", "f"]).stdin("next").spawn();
    let stopped = s.dir.program("pgrep", ["-P", &late.id().to_string()]).run().stdout;
    s.dir.sh(&format!("kill -CONT {}", stopped.trim())).quiet_success();
    late.finish().ok();
    next.finish().ok();
    assert_eq!((s.dir.read("f"), s.mark()), ("next".into(), 2));
}

#[test]
fn leases_in_a_store_and_beside_the_file_exclude_each_other() {
    let s = Scene::new();
    let here = |args: &[&str]| s.plain(s.dir.lock(args)).run();
    // Here, then the store.
    here(&["--acquire", "--owner", "H", "--ttl", "60s", "f"]).ok();
    let refused = s.lock(&["--acquire", "--owner", "A", "--ttl", "60s", "f"]).run();
    refused.assert_error_with(2, &["f: Leased by H until ", "without the store"]);
    s.acquire("A", "60s", "job:x");
    let refused = s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin("1").run();
    refused.assert_error_with(2, &["f: Leased by H until ", "without the store"]);
    refused.assert_hint("wait for the end of this one, or break it");
    here(&["--release", "--owner", "H", "f"]).ok();
    // Here, above a command that runs under both.
    let both = r#"awrite-lock --store "$STORE" --owner A --ttl 9s job:y -c 'echo 1 | awrite --lease job:y f'"#;
    let run = s.plain(s.dir.lock(&["--owner", "H", "--ttl", "60s", "f", "-c", both])).env("STORE", s.url()).run();
    run.assert_error_with(2, &["f: Leased by H until ", "without the store"]);
    assert!(!s.dir.join("f").exists());
    s.awrite(&["--owner", "A", "--lease", "job:x", "f"]).stdin("1").quiet_success();
    // The store, then here.
    let kept = "f: It is written under leases that a store keeps (greatest token 1)";
    for args in [
        &["--acquire", "--owner", "H", "--ttl", "60s", "f"][..],
        &["--refresh", "--owner", "H", "f"],
        &["--release", "--owner", "H", "f"],
        &["--owner", "H", "--ttl", "60s", "f", "--", "true"],
        &["--owner", "H", "f", "--", "true"],
    ] {
        here(args).assert_error_with(1, &[kept]).assert_hint("awrite-lock --break f, without a store");
    }
    s.plain(s.dir.awrite(["--owner", "H", "f"])).stdin("2").run().assert_error_with(1, &[kept]);
    // Who has no lease is let through, and the mark stays.
    s.plain(s.dir.awrite(["f"])).stdin("2").quiet_success();
    here(&["f", "--", "true"]).ok();
    let status = here(&["--status", "f"]);
    let said = "f: Free\nf: Written under leases that a store keeps (greatest token 1)\n";
    assert_eq!(status.ok().stdout, said);
    let status = here(&["--status", "--json", "f"]);
    assert!(status.ok().stdout.contains(r#""free":true"#) && status.stdout.contains(r#""fence":1"#), "{status:?}");
    assert_eq!(here(&["--list"]).ok().stdout, "");
    s.plain(s.dir.awrite(["housekeep", "--all", "."])).run().ok();
    s.plain(s.dir.awrite(["housekeep", "--clean-locks", "."])).run().ok();
    assert_eq!((s.dir.read("f"), s.mark()), ("2".into(), 1));
}

/// What the file is replaced by is never durable without the mark of its token.
#[test]
fn the_mark_is_durable_before_the_file_is_replaced() {
    if !needs_strace() {
        return;
    }
    let s = Scene::new();
    s.acquire("A", "60s", "job:x");
    let strace = ["-o", "trace", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,linkat,sendto"];
    let args = [&strace[..], &[AWRITE, "--owner", "A", "--lease", "job:x", "f"]].concat();
    s.run(s.dir.program("strace", args)).stdin("1").quiet_success();
    let trace = s.dir.read("trace");
    let calls: Vec<&str> = trace.lines().filter(|line| line.contains(" = ")).collect();
    let at = |from: usize, what: &dyn Fn(&str) -> bool| {
        let found = calls[from..].iter().position(|line| what(line));
        from + found.unwrap_or_else(|| panic!("not behind call {from}:\n{trace}"))
    };
    let renamed = |name: &str| {
        let end = format!("\"{name}\"");
        move |line: &str| line.starts_with("rename") && line.contains(&end)
    };
    let is_sync = |line: &str| line.starts_with("fsync(") || line.starts_with("fdatasync(");
    let mark = at(0, &renamed("f.lease"));
    assert!(is_sync(calls[mark - 1]) || is_sync(calls[mark - 2]), "its content:\n{trace}");
    let name = at(mark, &is_sync);
    let asked = at(name, &|line| line.starts_with("sendto("));
    at(asked, &|line| line.contains("\"f\"") && (line.starts_with("rename") || line.starts_with("linkat(")));
    let replaced = calls.iter().position(|line| line.contains(", \"f\"")).unwrap();
    assert!(replaced > asked, "{trace}");
}

/// The same of a set, also where the contents are not made durable: then nothing else is synced before.
#[test]
fn the_marks_of_a_set_are_durable_before_the_files_are_replaced() {
    if !needs_strace() {
        return;
    }
    let s = Scene::new();
    s.acquire("A", "60s", "job:x");
    let synced = |how: &str, content: &str| {
        for name in ["f", "g"] {
            fs::write(s.dir.join("new").join(name), content).unwrap();
        }
        let strace = ["-y", "-o", "trace", "-e", "trace=fsync,rename,renameat,renameat2", AWRITE];
        let args = ["--owner", "A", "--lease", "job:x", "--sync", how, "--into", ".", "new/f", "new/g"];
        s.run(s.dir.program("strace", [&strace[..], &args].concat())).quiet_success();
        let trace = s.dir.read("trace");
        fs::remove_file(s.dir.join("trace")).unwrap();
        let before = trace.lines().take_while(|line| !line.ends_with("\"f\") = 0") && !line.contains("\"f\", 0"));
        let syncs: Vec<&str> = before.filter(|line| line.starts_with("fsync(")).collect();
        let dir = format!("<{}>", s.dir.path().canonicalize().unwrap().display());
        let last_is_dir = syncs.last().is_some_and(|line| line.contains(&dir));
        (syncs.len(), last_is_dir, trace)
    };
    fs::create_dir(s.dir.join("new")).unwrap();
    let (syncs, last_is_dir, trace) = synced("none", "1");
    assert!(syncs == 3 && last_is_dir, "two records and the directory: {trace}");
    let (syncs, _, trace) = synced("none", "2");
    assert_eq!(syncs, 0, "{trace}");
    let marks = ["f.lease", "g.lease"].map(|name| s.dir.read(name));
    assert_eq!(marks, ["{\"version\":1,\"fence\":1}\n"; 2]);
}
