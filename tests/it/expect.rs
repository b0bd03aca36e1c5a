//! Reading a file, taking a while without its lock, and writing it back only if nobody else has changed it.

use std::fs;
use std::os::unix::fs::symlink;

use awrite::{Digest, ErrorKind, Expect, Notice, Observer, WriteOptions};
use rustix::fs::FileType;
use serde_json::Value;

use crate::common::{Held, TestDir, is_root, needs, rounds, wait_until};

/// As `--digest` says it.
#[track_caller]
fn digest(dir: &TestDir, name: &str) -> String {
    let done = dir.awrite(["--digest", name]).run();
    done.ok();
    assert_eq!(done.stderr, "");
    done.stdout.trim_end_matches('\n').to_owned()
}

const CONFLICT: &str = "Error: f: Not what was expected";

#[test]
fn a_file_is_replaced_only_if_it_is_what_was_read() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let read = digest(&dir, "f");
    dir.awrite(["--if-match", &read, "f"]).stdin("new\n").quiet_success();
    let before = dir.snapshot("f");
    let done = dir.awrite(["--if-match", &read, "f"]).stdin("mine\n").run();
    done.assert_error(4, CONFLICT).assert_hint(&digest(&dir, "f"));
    assert_eq!(dir.snapshot("f"), before);
    dir.awrite(["--if-match", &digest(&dir, "f"), "f"]).stdin("mine\n").quiet_success();
    assert_eq!(dir.read("f"), "mine\n");
    dir.assert_holds(&["f"]);
}

#[test]
fn digests_are_those_of_sha256sum() {
    if !needs("sha256sum") {
        return;
    }
    let dir = TestDir::new();
    for size in [0, 1, 55, 56, 63, 64, 65, 131_071, 131_072, 131_073, 1_000_000] {
        let content: Vec<u8> = (0..size).map(|i: u32| (i * 7 / 3) as u8).collect();
        dir.file("f", content);
        let done = dir.program("sha256sum", ["f"]).run();
        let digits = done.stdout.split(' ').next().unwrap();
        assert_eq!(digest(&dir, "f"), format!("sha256:{digits}"), "{size}");
        dir.awrite(["--if-match", digits, "f"]).stdin("new").quiet_success();
        assert_eq!(dir.read("f"), "new");
    }
}

#[test]
fn absent_creates_only() {
    let dir = TestDir::new();
    assert_eq!(digest(&dir, "f"), "absent");
    dir.awrite(["--if-match", "absent", "f"]).stdin("first").quiet_success();
    for option in ["--quiet", "--stream", "--lock-on-commit", "--append", "--force", "--if-changed"] {
        let done = dir.awrite([option, "--if-match", "absent", "f"]).stdin("second").run();
        done.assert_error(4, CONFLICT).assert_hint(&digest(&dir, "f"));
    }
    assert_eq!(dir.read("f"), "first");
    let done = dir.awrite(["--if-match", &digest(&dir, "f"), "g"]).stdin("x").run();
    done.assert_error(4, "Error: g: Not what was expected").assert_hint("there is no such file now");
    // An empty file is not an absent one.
    dir.file("f", "");
    dir.awrite(["--if-match=absent", "f"]).stdin("x").run().assert_error(4, CONFLICT);
    dir.awrite(["--if-match", &digest(&dir, "f"), "f"]).stdin("x").quiet_success();
    // Nor is it one in a directory that is missing.
    assert_eq!(digest(&dir, "d/e/f"), "absent");
    dir.awrite(["--mkdir", "--if-match=absent", "d/e/f"]).stdin("x").quiet_success();
    dir.awrite(["--mkdir", "--if-match", &digest(&dir, "f"), "new/f"]).stdin("x").run().assert_code(4);
    dir.assert_holds(&["d", "f"]);
}

#[test]
fn a_copy_says_the_same() {
    let dir = TestDir::new();
    dir.file("f", "old");
    fs::copy(dir.join("f"), dir.join("base")).unwrap();
    dir.awrite(["--if-match-file", "base", "f"]).stdin("new").quiet_success();
    dir.awrite(["--if-match-file", "base", "f"]).stdin("mine").run().assert_error(4, CONFLICT);
    // It need not be a file.
    let from_a_pipe = "printf new | \"$BIN\" -i /dev/stdin --if-match-file base base || exit; mkfifo p; printf new >p & \
                       printf newer | \"$BIN\" --if-match-file p f; r=$?; wait; rm p; exit $r";
    fs::write(dir.join("base"), "new").unwrap();
    dir.sh(from_a_pipe).run().ok();
    assert_eq!((dir.read("f").as_str(), dir.read("base").as_str()), ("newer", "new"));
    dir.awrite(["--if-match-file", "none", "f"])
        .stdin("x")
        .run()
        .assert_error(1, "Error: none: No such file or directory");
    dir.awrite(["--if-match-file", ".", "f"]).stdin("x").run().assert_error(1, "Error: .: Is a directory");
    assert_eq!(dir.read("f"), "newer");
    dir.assert_holds(&["base", "f"]);
}

#[test]
fn a_conflict_is_found_before_anything_is_read_or_started() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.file("f.backup", "earlier");
    let before = dir.snapshot("f");
    // Its input does not end.
    for option in ["--quiet", "--stream", "--append", "--backup", "--keep-inode", "--lock-method=link"] {
        let mut run = dir.awrite([option, "--if-match=absent", "f"]).stdin_open().spawn();
        wait_until("it has ended", || run.has_ended());
        run.finish().assert_error(4, CONFLICT);
    }
    dir.awrite(["--if-match=absent", "f", "--", "touch", "started"]).run().assert_error(4, CONFLICT);
    dir.awrite(["-b", "--validate", "touch started", "--if-match=absent", "f"]).stdin("x").run().assert_code(4);
    assert_eq!(dir.snapshot("f"), before);
    assert_eq!(dir.read("f.backup"), "earlier");
    dir.assert_holds(&["f", "f.backup"]);
}

/// The ways to write, with what each makes of `old` and the input `new`.
const WAYS: &[(&[&str], &str)] = &[
    (&["f"], "new"),
    (&["--stream", "f"], "new"),
    (&["--append", "f"], "oldnew"),
    (&["--lock-on-commit", "f"], "new"),
    (&["--lock-on-commit", "--stream", "--append", "f"], "oldnew"),
    (&["--backup", "f"], "new"),
    (&["--backup-mode=600", "f"], "new"),
    (&["--keep-inode", "f"], "new"),
    (&["--keep-inode", "--backup", "f"], "new"),
    (&["--if-changed", "f"], "new"),
    (&["--lock-method=link", "f"], "new"),
    (&["--owner=me", "f"], "new"),
    (&["link"], "new"),
    (&["-i", "in", "f"], "new"),
    (&["--sync=none", "f"], "new"),
];

/// A directory with a file, a link to it, and what else this way needs.
fn prepared(way: &[&str]) -> TestDir {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.file("in", "new");
    dir.file("f.backup", "earlier");
    symlink("f", dir.join("link")).unwrap();
    if way.contains(&"--owner=me") {
        dir.awrite(["lock", "--acquire", "--owner=me", "--ttl=1h", "f"]).run().ok();
    }
    dir
}

/// `--validate` runs when all but the last look has been done. A program that takes no lock is as late as that.
#[test]
fn a_change_at_the_last_moment_is_found() {
    for (way, expected) in WAYS {
        for change in [
            // Same length, and the times that the file had.
            "touch -r f stamp && printf odd >f && touch -r stamp f",
            "printf other >temp && mv temp f",
            "rm f",
        ] {
            let dir = prepared(way);
            let read = digest(&dir, "f");
            let args = ["--validate", change, "--if-match", &read];
            let done = dir.awrite(args.iter().chain(way.iter())).stdin("new").run();
            let target = way.last().unwrap();
            done.assert_error(4, &format!("Error: {target}: Not what was expected"));
            match change {
                "rm f" => assert!(!dir.join("f").exists(), "{way:?}"),
                _ => assert!(["odd", "other"].contains(&&*dir.read("f")), "{way:?} {change}"),
            }
            assert_eq!(dir.read("f.backup"), "earlier", "{way:?} {change}: no backup of what was not replaced");
            for left in ["f", "f.lease", "stamp"] {
                let _ = fs::remove_file(dir.join(left));
            }
            dir.assert_holds(&["f.backup", "in", "link"]);
        }
        // What only looks changed is not.
        let dir = prepared(way);
        let read = digest(&dir, "f");
        let args = ["--validate", "touch f; chmod 600 f; cp f g; mv g f", "--if-match", &read];
        dir.awrite(args.iter().chain(way.iter())).stdin("new").run().ok();
        assert_eq!(dir.read("f"), *expected, "{way:?}");
    }
}

/// A dry run ends as the write would.
#[test]
fn a_conflict_is_foreseen() {
    for way in [&["f"][..], &["--keep-inode", "f"], &["--if-changed", "--mode=600", "f"]] {
        let dir = prepared(way);
        let read = digest(&dir, "f");
        let args = |more: &[&str]| {
            ["--dry-run", "-q", "--if-match"].iter().chain(more).chain(way).map(|s| (*s).to_owned()).collect::<Vec<_>>()
        };
        dir.awrite(args(&["absent"])).stdin("old").run().assert_error(4, CONFLICT);
        let done = dir.awrite(args(&[&read, "--validate", "printf odd >f"])).stdin("new").run();
        done.assert_error(4, CONFLICT);
        fs::write(dir.join("f"), "old").unwrap();
        dir.awrite(args(&[&read, "--validate", "rm f"])).stdin("new").run().assert_error(4, CONFLICT);
        fs::write(dir.join("f"), "old").unwrap();
        dir.awrite(args(&[&read])).stdin("new").quiet_success();
        assert_eq!(dir.read("f"), "old");
    }
}

#[test]
fn what_was_to_be_created_and_is_there_at_the_last_moment_stays() {
    for (way, _) in WAYS {
        let dir = prepared(way);
        fs::remove_file(dir.join("f")).unwrap();
        let args = ["--validate", "printf other >f", "--if-match=absent"];
        let done = dir.awrite(args.iter().chain(way.iter())).stdin("new").run();
        done.assert_code(4);
        assert_eq!(dir.read("f"), "other", "{way:?}");
        assert_eq!(dir.read("f.backup"), "earlier");
    }
}

#[test]
fn a_command_whose_file_was_changed_meanwhile_is_in_conflict() {
    let dir = TestDir::new();
    for option in ["--quiet", "--stream", "--if-changed", "--append"] {
        dir.file("f", "old");
        let read = digest(&dir, "f");
        // Also if what is there now is just what COMMAND makes.
        let command = ["f", "--", "sh", "-c", "printf new >f; printf new"];
        let done = dir.awrite(["--if-match", &read, option].iter().chain(&command)).run();
        done.assert_error(4, CONFLICT);
        assert_eq!(dir.read("f"), "new");
    }
    dir.assert_holds(&["f"]);
}

/// The one who waits for the lock compares what the holder has written.
#[test]
fn what_counts_is_what_is_there_once_the_lock_is_held() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let read = digest(&dir, "f");
    let held = Held::new(&dir.join("f.lock"));
    let mut writers: Vec<_> = ["--quiet=", "--lock-on-commit"]
        .iter()
        .map(|option| dir.awrite(["--if-match", &read, option.trim_end_matches('='), "f"]).stdin("mine"))
        .map(|run| run.spawn())
        .collect();
    writers[1].wait_for_waiting();
    fs::write(dir.join("f"), "theirs").unwrap();
    held.release();
    for writer in writers {
        writer.finish().assert_error(4, CONFLICT);
    }
    assert_eq!(dir.read("f"), "theirs");
}

#[test]
fn nothing_changes_that_is_the_same_and_expected() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let (before, read) = (dir.snapshot("f"), digest(&dir, "f"));
    dir.awrite(["--if-changed", "--if-match", &read, "f"]).stdin("old").quiet_success();
    assert_eq!(dir.snapshot("f"), before);
    let done = dir.awrite(["--if-changed", "--if-match=absent", "f"]).stdin("old").run();
    done.assert_error(4, CONFLICT);
    assert_eq!(dir.snapshot("f"), before);
}

/// Each reads, computes and writes, and starts over if somebody else was faster. First the digest and then the content: a
/// change between the two is a conflict.
#[test]
fn no_update_is_lost_though_nobody_holds_the_lock_meanwhile() {
    let dir = TestDir::new();
    dir.file("n", "0\n");
    let (scripts, programs, updates) = (rounds(4, 20), rounds(8, 80), 20);
    let script = "i=0; while [ $i -lt $UPDATES ]; do \
                      read=$(\"$BIN\" --digest n) && v=$(cat n) || exit 1; \
                      echo $((v + 1)) | \"$BIN\" -q --if-match \"$read\" n 2>/dev/null; \
                      case $? in 0) i=$((i + 1)) ;; 4) ;; *) exit 1 ;; esac; \
                  done";
    let worker = ["--exact", "expect::a_worker_of_other_tests"];
    let own = std::env::current_exe().unwrap();
    let scripts = (0..scripts).map(|_| dir.sh(script));
    let programs = (0..programs).map(|_| dir.program(&own, worker).env(WORKER, dir.join("n")));
    let running: Vec<_> = scripts.chain(programs).map(|run| run.env("UPDATES", updates.to_string()).spawn()).collect();
    let all = running.len() * updates;
    let mut counted = 0;
    for mut process in running {
        // As long as the number grows, nobody hangs.
        while !process.has_ended() {
            wait_until("one ends, or counts on", || {
                let now = dir.read("n").trim().parse().unwrap();
                process.has_ended() || std::mem::replace(&mut counted, now) < now
            });
        }
        process.finish().ok();
    }
    assert_eq!(dir.read("n"), format!("{all}\n"));
    dir.assert_holds(&["n"]);
}

/// Tells [`a_worker_of_other_tests`] what to count in.
const WORKER: &str = "AWRITE_TEST_EXPECT_WORKER";

#[test]
fn a_worker_of_other_tests() {
    let Ok(path) = std::env::var(WORKER) else { return };
    let mut left: u32 = std::env::var("UPDATES").unwrap().parse().unwrap();
    while left > 0 {
        let read = awrite::digest(&path).unwrap();
        let count: u64 = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        let options = WriteOptions::new().expect(read).durability(awrite::Durability::None);
        match awrite::write(&path, format!("{}\n", count + 1), &options) {
            Ok(_) => left -= 1,
            Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e}"),
        }
    }
}

/// Of a link that is itself replaced counts what its reader reads.
#[test]
fn the_content_behind_a_link_is_compared() {
    let dir = TestDir::new();
    dir.file("behind", "old");
    for (link, to) in [("f", "behind"), ("dangling", "nowhere"), ("to-dir", ".")] {
        symlink(to, dir.join(link)).unwrap();
    }
    let read = digest(&dir, "behind");
    assert_eq!((digest(&dir, "f"), digest(&dir, "dangling")), (read.clone(), "absent".into()));
    for option in ["--quiet", "--no-follow"] {
        dir.awrite([option, "--if-match=absent", "f"]).stdin("x").run().assert_error(4, CONFLICT);
    }
    dir.awrite(["--no-follow", "--if-match", &read, "to-dir"])
        .stdin("x")
        .run()
        .assert_error(1, "Error: to-dir: Is a directory");
    dir.awrite(["--no-follow", "--if-match", &read, "f"]).stdin("new").quiet_success();
    assert_eq!((dir.read("f").as_str(), dir.read("behind").as_str()), ("new", "old"));
    dir.awrite(["--no-follow", "--if-match=absent", "dangling"]).stdin("new").quiet_success();
    assert!(fs::symlink_metadata(dir.join("dangling")).unwrap().is_file());
    dir.assert_holds(&["behind", "dangling", "f", "to-dir"]);
}

#[test]
fn who_may_not_read_a_file_is_told_so() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o222);
    let read = "0".repeat(64);
    if !is_root() {
        return;
    }
    let done = dir.awrite_unprivileged(["--if-match", &read, "f"]).stdin("x").run();
    done.assert_error(1, "Error: f: cannot read the current content: Permission denied").assert_hint("who may read it");
    dir.awrite_unprivileged(["--digest", "f"]).run().assert_error(1, "Error: f: Permission denied");
    assert_eq!(dir.read("f"), "old");
}

#[test]
fn a_digest_is_found_without_the_lock_and_without_writing() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    let held = Held::new(&dir.join("f.lock"));
    assert!(digest(&dir, "f").starts_with("sha256:"));
    held.release();
    fs::remove_file(dir.join("f.lock")).unwrap();
    // Nobody may write here.
    assert_eq!(dir.awrite_unprivileged(["--digest", "f"]).run().ok().stdout.len(), 72);
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f"]);
}

#[test]
fn what_has_no_digest() {
    let dir = TestDir::new();
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("fifo"), FileType::Fifo, 0o644.into(), 0).unwrap();
    dir.file("f", "x");
    symlink("loop", dir.join("loop")).unwrap();
    let done = |name: &str| dir.awrite(["--digest", name]).run();
    done("fifo").assert_error(1, "Error: fifo: Is a FIFO, not a regular file");
    done(".").assert_error(1, "Error: .: Is a directory");
    done("/dev/null").assert_error(1, "Error: /dev/null: Is a character device, not a regular file");
    done("loop").assert_error(1, "Error: loop: Too many levels of symbolic links");
    done("f/x").assert_error(1, "Error: f/x: Not a directory");
    done("-").assert_error_with(1, &["--digest: standard input is no file"]);
    dir.awrite(["--digest"]).run().assert_error(1, "Error: --digest: FILE is missing");
    dir.awrite(["--digest", "f", "--", "cat"]).run().assert_error(1, "Error: --digest: takes no COMMAND");
    dir.awrite(["--digest", "f", "g"]).run().assert_code(1);
}

#[test]
fn a_conflict_is_an_event_of_its_own() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let done = dir.awrite(["--json", "--if-match=absent", "f"]).stdin("x").run();
    done.assert_code(4);
    let event: Value = serde_json::from_str(done.lines().last().unwrap()).unwrap();
    assert_eq!(event["event"], "conflict");
    assert_eq!(event["level"], "error");
    assert_eq!(event["message"], "f: Not what was expected");
    assert_eq!((&event["path"], &event["exit_code"]), (&"f".into(), &4.into()));
    assert_eq!((&event["expected"], &event["found"]), (&"absent".into(), &digest(&dir, "f").into()));
}

#[test]
fn an_empty_path_is_no_absent_file() {
    assert_eq!(awrite::digest("").unwrap_err().kind(), awrite::ErrorKind::Usage);
}

#[test]
fn rust_programs_get_both_digests() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let options = || WriteOptions::new().expect(Digest::Absent);
    awrite::write(&path, "one", &options()).unwrap();
    let error = awrite::write(&path, "two", &options()).unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Conflict, 4));
    let found = awrite::digest(&path).unwrap();
    assert_eq!((error.expected(), error.found()), (Some(Digest::Absent), Some(found)));
    assert_eq!(found.to_string().parse::<Digest>().unwrap(), found);
    assert_eq!("nonsense".parse::<Digest>().unwrap_err().kind(), ErrorKind::Usage);
    let same = WriteOptions::new().expect(Expect::SameAs(path.clone()));
    awrite::write(&path, "two", &same).unwrap();
    let options = WriteOptions::new().expect(awrite::digest(&path).unwrap());
    awrite::update(&path, &options, |old, new| std::io::copy(old, new).and_then(|_| new.write_all(b"!"))).unwrap();
    assert_eq!(dir.read("f"), "two!");
}

/// What is committed has the digest that the event says, whichever way it took.
#[test]
fn the_digest_of_what_was_written_is_known() {
    for (way, expected) in WAYS {
        for options in
            [&["--if-match-file", "f"][..], &["--verify"], &["--verify", "--validate", "echo more >>$AWRITE_NEW"]]
        {
            if options[0] == "--verify" && way.contains(&"--sync=none") {
                continue;
            }
            let dir = prepared(way);
            let args = ["--json"].iter().chain(options).chain(way.iter());
            let done = dir.awrite(args).stdin("new").run();
            done.ok();
            let events = done.lines().into_iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let committed = events.into_iter().find(|event| event["event"] == "committed").unwrap();
            let expected = if options.len() == 3 { format!("{expected}more\n") } else { (*expected).to_owned() };
            assert_eq!(dir.read("f"), expected, "{options:?} {way:?}");
            assert_eq!(committed["digest"], digest(&dir, "f"), "{options:?} {way:?}");
        }
    }
}

/// Data and holes, copied by the kernel, from a file of which a part has been read already.
#[test]
fn what_the_kernel_copies_is_verified_too() {
    let dir = TestDir::new();
    dir.sh("head -c 300000 /dev/urandom >in && truncate -s 3000000 in && head -c 100000 /dev/urandom >>in").run().ok();
    for option in ["--verify", "--append"] {
        dir.file("f", "old");
        dir.awrite(["--verify", option, "-i", "in", "f"]).quiet_success();
        let old = if option == "--append" { "old" } else { "" };
        dir.sh(&format!("printf %s '{old}' | cat - in | cmp - f")).quiet_success();
        let script = format!("(head -c 5000 >/dev/null; \"$BIN\" --verify {option} f) <in && tail -c +5001 in >rest");
        dir.file("f", "old");
        dir.sh(&script).quiet_success();
        dir.sh(&format!("printf %s '{old}' | cat - rest | cmp - f")).quiet_success();
    }
}

#[test]
fn nothing_can_be_verified_that_is_not_synced() {
    let dir = TestDir::new();
    let done = dir.awrite(["--verify", "--sync=none", "f"]).stdin("x").run();
    done.assert_error_with(1, &["--verify: contradicts --sync none"]);
    dir.assert_holds(&[]);
    let options = WriteOptions::new().verify(true);
    let mut file = awrite::AtomicFile::open(dir.join("f"), &options).unwrap();
    file.add(b"ab").unwrap();
    std::io::Write::write_all(&mut file, b"c").unwrap();
    let committed = file.commit().unwrap();
    assert_eq!(committed.digest, Some(awrite::digest(dir.join("f")).unwrap()));
    // The spool of a late lock is copied behind the old content, and the digest is that of both.
    let options = options.lock_on_commit(true).append(true);
    let committed = awrite::write(dir.join("f"), "def", &options).unwrap();
    assert_eq!((dir.read("f"), committed.digest), ("abcdef".into(), Some(awrite::digest(dir.join("f")).unwrap())));
    let committed = awrite::write(dir.join("f"), "g", &WriteOptions::new()).unwrap();
    assert_eq!(committed.digest, None);
}

/// The last look is before the rename. What comes between the two is refused by the rename itself.
#[test]
fn absent_is_a_promise_of_the_rename() {
    let dir = TestDir::new();
    let path = dir.join("f");
    let other = path.clone();
    let observer = Observer::new(move |notice| {
        if matches!(notice, Notice::Committing { .. }) {
            fs::write(&other, "theirs").unwrap();
        }
    });
    let options = WriteOptions::new().expect(Digest::Absent).observer(observer);
    let error = awrite::write(&path, "mine", &options).unwrap_err();
    assert_eq!((error.kind(), error.found()), (ErrorKind::Conflict, Some(awrite::digest(&path).unwrap())));
    assert_eq!(dir.read("f"), "theirs");
    dir.assert_holds(&["f"]);
}
