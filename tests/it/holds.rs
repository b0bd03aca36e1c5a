//! Several targets in one order, the list of what is held, reasons, breaking, and what is said of wrong targets.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FlockOperation;

use crate::common::{Running, TestDir, lock_is_held, rounds, wait_until};

/// By number, which may be that of a real-time signal.
fn signal(running: &Running, number: i32) {
    let sent = std::process::Command::new("kill").args([format!("-{number}"), running.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Two crowds with opposite orders. Each holds both locks at once, and nobody waits for ever.
#[test]
fn two_crowds_with_opposite_orders() {
    let dir = TestDir::new();
    dir.file("n", "0");
    let rounds = rounds(20, 200);
    let crowd = |order: &str| {
        format!(
            "i=0; while [ $i -lt {rounds} ]; do \"$BIN\" lock -q -w 60 {order} -c 'read -r n <n; echo $((n + 1)) >n' || exit; i=$((i + 1)); done"
        )
    };
    let (one, other, third) = (dir.sh(&crowd("a b c")), dir.sh(&crowd("c b a")), dir.sh(&crowd("b c")));
    let all = [one.spawn(), other.spawn(), third.spawn()];
    for running in all {
        running.finish().ok();
    }
    assert_eq!(dir.read("n").trim(), (3 * rounds).to_string());
    dir.assert_holds(&["n"]);
}

#[test]
fn all_or_none_and_nested_below_any() {
    let dir = TestDir::new();
    let script = "echo x | \"$BIN\" -n b && echo y | \"$BIN\" -n a && \"$BIN\" lock -n c a -c 'ls *.lock'";
    let done = dir.lock(&["c", "a", "b", "./a", "-c", script]).run();
    done.ok();
    assert_eq!(done.stdout, "a.lock\nb.lock\nc.lock\n");
    dir.assert_holds(&["a", "b"]);
    // With -o neither is passed on.
    for name in ["a", "b"] {
        let done = dir.lock(&["-o", "a", "b", "-c", &format!("exec \"$BIN\" lock -n {name} -- true")]).run();
        done.assert_error(2, &format!("Error: {name}: File locked by another process"));
    }
    // One of them is held: none is kept, and the limit is about all.
    let done = dir.lock(&["-o", "b", "-c", "\"$BIN\" lock -w 0.1 a b -- true; echo $?; ls *.lock"]).run();
    assert_eq!(done.ok().stdout, "2\nb.lock\n");
    for (args, reason) in [
        (&["a", "b"][..], "Error: 'b': unexpected argument; put -- before COMMAND"),
        (&["--status", "a", "b"], "Error: 'b': a lease is of one TARGET"),
        (&["--lock-file", "l", "a", "b", "--", "true"], "Error: --lock-file: cannot be the lock of several TARGETs"),
    ] {
        dir.lock(args).run().assert_error(1, reason);
    }
    dir.assert_holds(&["a", "b"]);
}

#[test]
fn the_list_says_who_since_when_and_why() {
    let dir = TestDir::new();
    dir.dir("sub");
    dir.lock(&["--list"]).quiet_success();
    dir.lock(&["--acquire", "--owner", "agent 7", "--ttl", "1h", "--reason", "the plan", "sub/plan"]).run().ok();
    let list = "\"$BIN\" lock --list -r; \"$BIN\" lock --list -r --json";
    let holder = dir.lock(&["-o", "f", "-c", &format!("until [ -e go ]; do sleep 0.05; done; {list}")]).spawn();
    wait_until("it is held", || lock_is_held(&dir.join("f.lock")));
    let mut waiter = dir.lock(&["f", "--", "true"]).spawn();
    waiter.wait_for_waiting();
    dir.file("go", "");
    let done = holder.finish();
    waiter.finish().ok();
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!(lines[0].starts_with("TARGET") && lines[0].ends_with("REASON"), "{done:#?}");
    assert!(lines[1].starts_with("f         held") && lines[1].contains("PID "), "{done:#?}");
    assert!(lines[2].starts_with("f         waiting"), "{done:#?}");
    assert!(lines[3].starts_with("sub/plan  leased") && lines[3].ends_with("the plan"), "{done:#?}");
    let json: Vec<serde_json::Value> = lines[4..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> = json.iter().map(|hold| hold["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["held", "waiting", "leased"]);
    assert!(json[0]["since"].is_string() && json[0]["holder_pid"].is_u64() && json[1]["since"].is_null());
    assert!(json[0]["since"].as_str() > Some("2025"), "{json:?}");
    assert_eq!((json[2]["owner"].as_str(), json[2]["reason"].as_str()), (Some("agent 7"), Some("the plan")));
    // Not recursive: only what is in it.
    assert_eq!(dir.lock(&["--list"]).run().ok().stdout, "");
    assert_eq!(dir.lock(&["--list", "sub"]).run().ok().stdout.lines().count(), 2);
    dir.lock(&["--list", "missing"]).run().assert_error(1, "Error: missing: No such file or directory");
    // In a directory of lock files, whatever is in the path.
    dir.dir("locks");
    dir.lock(&["--lock-dir", "locks", "--acquire", "--owner", "B", "--ttl", "1h", "sub/a%b"]).run().ok();
    let done = dir.lock(&["--lock-dir", "locks", "--list", "--json", "-r"]).run();
    let hold: serde_json::Value = serde_json::from_str(&done.ok().stdout).unwrap();
    assert_eq!(hold["path"].as_str().unwrap(), format!("{}/sub/a%b", dir.path().canonicalize().unwrap().display()));
}

/// The kernel gives its list in pieces, and other programs take and release locks between them.
#[test]
fn the_list_is_right_while_locks_come_and_go() {
    let (dir, others) = (TestDir::new(), TestDir::new());
    let holder = dir.lock(&["-o", "f", "-c", "until [ -e go ]; do sleep 0.05; done"]).spawn();
    wait_until("it is held", || lock_is_held(&dir.join("f.lock")));
    let mut waiter = dir.lock(&["f", "--", "true"]).spawn();
    waiter.wait_for_waiting();
    let is_over = AtomicBool::new(false);
    let takes_locks = |first: usize| {
        // More than fit into a piece, and a number that changes all the time.
        let files: Vec<File> =
            (first..first + 150).map(|n| File::create(others.join(n.to_string())).unwrap()).collect();
        while !is_over.load(Ordering::Relaxed) {
            for file in &files {
                rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).unwrap();
            }
            for file in &files {
                rustix::fs::flock(file, FlockOperation::Unlock).unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        for first in [0, 1000] {
            let takes_locks = &takes_locks;
            scope.spawn(move || takes_locks(first));
        }
        let lists = (0..rounds(8, 20)).map(|_| dir.lock(&["--list"]).run());
        let wrong = lists.map(|done| done.ok().stdout.clone()).find(|list| {
            let states: Vec<_> = list.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
            states != ["held", "waiting"]
        });
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
    });
    dir.file("go", "");
    holder.finish().ok();
    waiter.finish().ok();
}

#[test]
fn a_reason_is_told_and_a_lease_is_broken() {
    let dir = TestDir::new();
    dir.lock(&["--acquire", "--owner", "A", "--ttl", "1h", "--reason", "rebuilding", "f"]).run().ok();
    let first = dir.read("f.lease");
    assert!(first.contains(",\"reason\":\"rebuilding\"}"), "{first}");
    let done = dir.awrite(["-n", "f"]).stdin("x").run();
    assert!(
        done.stderr.starts_with("Error: f: Leased by A until ") && done.stderr.contains(" (rebuilding)\n"),
        "{done:?}"
    );
    let done = dir.awrite(["f"]).env("AWRITE_TIMEOUT", "100ms").stdin("x").run();
    assert!(done.stderr.starts_with("Waiting for f, leased by A until "), "{done:?}");
    assert!(done.stderr.contains(" (rebuilding) (100ms timeout)...\n"), "{done:?}");
    // A refresh leaves it, or changes it.
    dir.lock(&["--refresh", "--owner", "A", "f"]).quiet_success();
    assert!(dir.read("f.lease").contains("rebuilding"));
    dir.lock(&["--refresh", "--owner", "A", "--reason", "testing", "f"]).quiet_success();
    let done = dir.lock(&["--break", "f"]).run();
    assert!(done.ok().stdout.starts_with("f: The lease has ended. It was: Leased by A until "), "{done:?}");
    assert!(done.stdout.contains(" (testing) (token "), "{done:?}");
    assert_eq!(dir.lock(&["--break", "f"]).run().ok().stdout, "f: Not leased\n");
    dir.lock(&["--refresh", "--owner", "A", "f"]).run().assert_error(2, "Error: f: Not leased by A");
    // Where the result cannot be printed, what was done is done, and the error says so.
    for (verb, hint) in [
        ("--refresh --owner A --json", "the lease has been refreshed"),
        ("--break", "the lease has ended"),
        ("--break", "nothing was changed"),
    ] {
        if hint.contains("refreshed") {
            dir.lock(&["--acquire", "--owner", "A", "--ttl", "1h", "f"]).run().ok();
        }
        let done = dir.sh(&format!("exec \"$BIN\" lock {verb} f >/dev/full")).run();
        assert_eq!((done.code, done.stderr.contains(hint)), (Some(1), true), "{verb}: {done:?}");
    }
    for bad in ["", "a\nb"] {
        dir.lock(&["--acquire", "--owner", "A", "--ttl", "1h", "--reason", bad, "f"]).run().assert_code(1);
    }
    dir.lock(&["--reason", "x", "f", "--", "true"])
        .run()
        .assert_error(1, "Error: --reason: is for a lease that is acquired or refreshed");
    dir.assert_holds(&[]);
}

#[test]
fn a_release_says_how_long() {
    let dir = TestDir::new();
    let done = dir.lock(&["-v", "--json", "f", "--", "sleep", "0.1"]).run();
    let last: serde_json::Value = serde_json::from_str(done.ok().stderr.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "lock_released");
    assert!((100..10_000).contains(&last["held_ms"].as_u64().unwrap()), "{last}");
    // A lease, under COMMAND and released or broken by another process.
    let told = |lines: &str, event: &str| {
        let line = lines.lines().find(|line| line.contains(event)).unwrap_or_else(|| panic!("{event}: {lines}"));
        let told: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!((100..10_000).contains(&told["held_ms"].as_u64().unwrap()), "{told}");
    };
    let done = dir.lock(&["--json", "--owner", "A", "--ttl", "60", "f", "--", "sleep", "0.1"]).run();
    told(&done.ok().stderr, "lease_released");
    let held = |last: &[&str]| {
        dir.lock(&["--acquire", "--owner", "A", "--ttl", "60", "f"]).run().ok();
        let started = std::time::Instant::now();
        wait_until("it was held for a while", || started.elapsed().as_millis() > 110);
        dir.lock(last).run()
    };
    told(&held(&["--json", "--release", "--owner", "A", "f"]).ok().stderr, "lease_released");
    told(&held(&["--json", "--break", "f"]).ok().stdout, "lease_broken");
    assert!(dir.lock(&["--json", "--break", "f"]).run().ok().stdout.contains("\"held_ms\":null"));
}

/// Whatever signal comes, it ends after COMMAND, and the lock is held until then.
#[test]
fn every_signal_is_outlived() {
    let dir = TestDir::new();
    // SIGKILL and the signals that stop cannot be; 32 and 33 are the C library's.
    let signals = (1..=64).filter(|number| ![9, 17, 18, 19, 20, 21, 22, 23, 28, 32, 33].contains(number));
    let ignore = "trap '' 1 2 3 4 5 6 7 8 10 11 12 13 14 15 16 24 25 26 27 29 30 31; : >started; \
                  until [ -e go ]; do sleep 0.02; done; exit 7";
    for number in signals.step_by(rounds(3, 1)) {
        let running = dir.lock(&["-o", "f", "-c", ignore]).spawn();
        wait_until("COMMAND runs", || dir.join("started").exists());
        signal(&running, number);
        if number >= 34 {
            // The shell cannot ignore it: it is passed on.
            assert_eq!(running.finish().code, Some(128 + number), "signal {number}");
        } else {
            std::thread::sleep(std::time::Duration::from_millis(20));
            dir.lock(&["-n", "f", "--", "true"]).run().assert_code(2);
            dir.file("go", "");
            assert_eq!(running.finish().code, Some(7), "signal {number}");
            std::fs::remove_file(dir.join("go")).unwrap();
        }
        std::fs::remove_file(dir.join("started")).unwrap();
    }
    dir.assert_holds(&[]);
}

/// A lost lease ends COMMAND and all that it has started, before another can have the lease.
#[test]
fn what_is_left_of_command_is_killed_in_time() {
    let dir = TestDir::new();
    let script = "trap '' TERM; (trap '' TERM; sleep 600) & echo $! >left; rm f.lease; sleep 600";
    let done = dir.lock(&["--owner", "A", "--ttl", "2", "--kill-after", "300ms", "f", "-c", script]).run();
    done.assert_error(2, "Error: f: the lease is lost, COMMAND is told to stop: Not leased by A");
    let left = dir.read("left").trim().to_owned();
    wait_until("it is gone", || {
        std::fs::read_to_string(format!("/proc/{left}/status")).map_or(true, |text| text.contains("State:\tZ"))
    });
    let done = dir.lock(&["--owner", "A", "--ttl", "2", "--kill-after", "2", "f", "--", "true"]).run();
    done.assert_error(1, "Error: --kill-after: is more than half of --ttl");
}

#[test]
fn a_link_itself_can_be_locked() {
    let dir = TestDir::new();
    dir.file("f", "");
    std::os::unix::fs::symlink("f", dir.join("link")).unwrap();
    let script = "ls *.lock; echo x | \"$BIN\" -n --no-follow link; echo $?";
    assert_eq!(dir.lock(&["-o", "--no-follow", "link", "-c", script]).run().ok().stdout, "link.lock\n2\n");
    assert_eq!(dir.lock(&["link", "-c", "ls *.lock"]).run().ok().stdout, "f.lock\n");
}

#[test]
fn what_excludes_nobody_is_said() {
    let dir = TestDir::new();
    let done = dir.lock(&["report.lock", "--", "true"]).run();
    assert!(
        done.ok().stderr.starts_with("Warning: report.lock: this locks report.lock.lock; to lock report,"),
        "{done:?}"
    );
    let done = dir.sh("exec 9>>report; exec \"$BIN\" lock 9").run();
    assert!(done.ok().stderr.contains("report itself, and awrite locks "), "{done:?}");
    dir.file("Cargo.lock", "[[package]]\n");
    dir.lock(&["Cargo.lock", "--", "true"]).quiet_success();
    dir.sh("exec 9>>report.lock; exec \"$BIN\" lock 9").quiet_success();
    for script in ["\"$BIN\" lock -n 0 <&-", "\"$BIN\" lock -n 1 >&-"] {
        assert!(dir.sh(script).run().assert_code(1).stderr.contains(": Bad file descriptor\n"), "{script}");
    }
    let done = dir.sh("\"$BIN\" lock f -c 'test -e /proc/$$/fd/0' <&-").run();
    assert_ne!(done.code, Some(0), "COMMAND's input is closed");
}

/// util-linux 2.42's: parts of files, and a descriptor around a command.
#[test]
fn flock_locks_parts_and_descriptors() {
    let dir = TestDir::new();
    for (script, code) in [
        ("flock --start 10 --length 5 L flock -n --start 12 --length 1 L true", 1),
        ("flock --start 10 --length 5 L flock -n --start 15 --length 1 L true", 0),
        ("flock --start 5 L flock -n --start 1KiB --length 1 L true", 1),
        ("flock --fcntl L flock -n --fcntl L true", 1),
        ("flock -s --fcntl L flock -n -s --fcntl L true", 0),
        ("flock --fcntl L flock -w 0.1 --fcntl L true", 1),
        ("flock --fcntl L flock -n L true", 0),
        ("exec 8>L; flock --fd 8 -c 'flock -n L true'", 1),
        ("exec 8>L; flock --fd 8 -o sh -c 'test ! -e /proc/self/fd/8'", 0),
        ("exec 8>L; flock --fd 8", 64),
        ("flock --fd 99 true", 65),
        ("flock -n 0 <&-", 65),
        ("flock --verbose L true >/dev/full", 1),
        ("flock -h >/dev/full", 1),
        ("exec 9>gone; rm gone; exec timeout 5 flock /proc/self/fd/9 true", 0),
        (
            "mkdir d; flock d sleep 0.5 & sleep 0.2; flock d true & p=$!; sleep 0.1; rmdir d; wait $p; s=$?; test ! -e d || exit 9; exit $s",
            66,
        ),
        ("\"$BIN\" lock --lock-method link f -c 'flock f.lock true' 2>&1 | grep -q 'a link lock of awrite'", 0),
    ] {
        let done = dir.sh(&format!("mkdir -p bin; ln -sf \"$BIN\" bin/flock; PATH=$PWD/bin:$PATH; {script}")).run();
        assert_eq!(done.code, Some(code), "{script}: {done:?}");
    }
}
