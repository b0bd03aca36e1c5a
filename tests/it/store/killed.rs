//! A write under a store's lease, killed at each of its system calls.

use std::fs;

use super::Scene;
use crate::common::{AWRITE, needs_strace, rounds};

/// The file is the old one or the new one, and if it is the new one, the mark is that of its token; the mark is never
/// greater. The next writer gets in.
#[test]
fn a_killed_write_leaves_no_new_content_without_its_mark() {
    if !needs_strace() {
        return;
    }
    let step = rounds(19, 4);
    for (kind, options) in [("one", &["f"][..]), ("set", &["-e", "f", "g", "--", "sed", "-i", "s/old/new/"])] {
        let s = Scene::new();
        let mut killed = 0;
        for when in (1..).step_by(step) {
            s.break_lease("job:x");
            s.acquire("O", "60s", "job:x");
            let base = s.dir.read("store/token").trim().parse::<u64>().unwrap();
            for name in ["f", "g"] {
                s.awrite(&["--owner", "O", "--lease", "job:x", name]).stdin("old\n").quiet_success();
            }
            s.break_lease("job:x");
            let token = s.acquire("A", "60s", "job:x");
            let inject = format!("inject=all:signal=SIGKILL:when={when}");
            let args = ["-o", "/dev/null", "-e", &inject, AWRITE, "--owner", "A", "--lease", "job:x"];
            let done = s.run(s.dir.program("strace", [&args[..], options].concat())).stdin("new\n").run();
            let (content, mark) = (s.dir.read("f"), fs::read_to_string(s.dir.join("f.lease")).unwrap());
            let fence = |token: u64| format!("{{\"version\":1,\"fence\":{token}}}\n");
            match &*content {
                "old\n" => assert!(mark == fence(base) || mark == fence(token) || kind == "set", "{when}: {mark}"),
                "new\n" => assert!(mark == fence(token) || kind == "set", "{when}: {mark}"),
                other => panic!("{kind} {when}: {other}"),
            }
            // Whoever comes next finishes a set, and then that holds for it, too.
            for name in ["f", "g"] {
                s.lock(&[name, "--", "true"]).run().ok();
            }
            let (all, marks) = (["f", "g"].map(|n| s.dir.read(n)), ["f.lease", "g.lease"].map(|n| s.dir.read(n)));
            for (content, mark) in all.iter().zip(&marks) {
                assert!(mark == &fence(token) || mark == &fence(base) && content == "old\n", "{when}: {content}{mark}");
            }
            assert!(kind == "one" || all[0] == all[1], "{when}: {all:?}");
            if done.code == Some(0) {
                break;
            }
            killed += 1;
        }
        assert!(killed > 2, "{kind}: {killed}");
    }
}

/// A call that is to be made again is. A helper that is gone is started anew, once; another error is one.
#[test]
fn what_fails_in_passing_is_done_again() {
    if !needs_strace() {
        return;
    }
    let s = Scene::new();
    s.acquire("A", "600s", "job:x");
    for (inject, code) in [
        ("sendto:error=EAGAIN:when=1", 0),
        ("sendto:error=EINTR:when=1", 0),
        ("poll,ppoll:error=EINTR:when=1", 0),
        ("sendto:error=EPIPE:when=2", 0),
        ("sendto:error=ECONNRESET:when=2", 0),
        ("sendto:error=EPIPE:when=2+", 1),
        ("sendto:error=EIO:when=2", 1),
    ] {
        let args = ["-o", "trace", "-e", &format!("inject={inject}"), AWRITE, "--owner", "A", "--lease", "job:x", "f"];
        let done = s.run(s.dir.program("strace", args)).stdin("new\n").run();
        assert!(s.dir.read("trace").contains("(INJECTED)"), "{inject}");
        done.assert_code(code);
        let words =
            if inject.contains("EIO") { "cannot speak to awrite-store-dir: " } else { "ended without an answer" };
        assert!(code == 0 || done.stderr.contains(words), "{inject}: {done:?}");
    }
}

/// Each call that fails, as often as it is made: the write is done, or it is an error and the file is as it was. Nothing
/// else is left but the mark.
#[test]
fn a_call_that_fails_changes_nothing() {
    if !needs_strace() {
        return;
    }
    let s = Scene::new();
    s.acquire("A", "600s", "job:x");
    let (mut failed, most) = (0, rounds(2, 8));
    for (call, error) in [
        ("socketpair", "EMFILE"),
        ("pipe2", "EMFILE"),
        ("sendto", "EIO"),
        ("sendto", "EPIPE"),
        ("poll", "ENOMEM"),
        ("ppoll", "ENOMEM"),
        ("fsync", "EIO"),
        ("renameat", "ENOSPC"),
        ("linkat", "ENOSPC"),
        ("openat", "EMFILE"),
        ("write", "ENOSPC"),
    ] {
        for when in 1..=most {
            s.run(s.dir.sh("rm -f f.lease; echo old >f")).quiet_success();
            let inject = format!("inject={call}:error={error}:when={when}");
            let args = ["-o", "trace", "-e", &inject, AWRITE, "--owner", "A", "--lease", "job:x", "f"];
            let done = s.run(s.dir.program("strace", args)).stdin("new\n").run();
            let made = s.dir.read("trace").contains("(INJECTED)");
            fs::remove_file(s.dir.join("trace")).unwrap();
            match done.code {
                Some(0) => assert_eq!((s.dir.read("f"), s.mark()), ("new\n".into(), 1), "{inject}"),
                // Of the directory's sync, once it is replaced.
                Some(1) if done.stderr.contains("not known to be durable") => assert_eq!(s.dir.read("f"), "new\n"),
                Some(1 | 127) => assert_eq!(s.dir.read("f"), "old\n", "{inject}: {done:?}"),
                _ => panic!("{inject}: {done:?}"),
            }
            failed += u32::from(made);
            let names = s.dir.names();
            let known = ["bin", "store", "f", "f.lease"];
            assert!(names.iter().all(|name| known.iter().any(|known| *known == name)), "{inject}: {names:?}");
        }
    }
    assert!(failed > 10, "{failed}");
}
