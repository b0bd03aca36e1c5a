//! The `flock` applet does what flock(1) of util-linux does. Both run the same cases here.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::common::{Done, Held, Run, Running, TestDir, lock_is_held, needs, somebody_waits_for, wait_until};

fn flock<S: AsRef<std::ffi::OsStr>>(dir: &TestDir, args: impl IntoIterator<Item = S>) -> Run {
    dir.awrite(args).arg0("flock")
}

/// Whether flock(1) is installed, in a version with the messages that we print.
fn needs_flock() -> bool {
    if !needs("flock") {
        return false;
    }
    let version = Command::new("flock").arg("--version").output().unwrap().stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    let minor = version.rsplit("util-linux 2.").next().and_then(|rest| rest.split('.').next()?.trim().parse().ok());
    let known = minor.is_some_and(|minor: u32| (36..=40).contains(&minor));
    if !known {
        eprintln!("skipped: needs flock from util-linux 2.36 to 2.40, here is {version}");
    }
    known
}

/// All that can be seen of a run, without what differs from run to run.
fn seen(done: &Done) -> (Option<i32>, Option<i32>, Vec<String>, String) {
    let line = |line: &str| match line.split_once(" took ") {
        Some((before, _)) => format!("{before} took ..."),
        None => line.to_owned(),
    };
    // flock(1) buffers its own lines until it ends, so the order of the lines differs.
    let mut stdout: Vec<String> = done.stdout.lines().map(line).collect();
    stdout.sort();
    (done.code, done.signal, stdout, done.stderr.clone())
}

/// As flock(1), it does not go on under a lock that it has inherited: it is held.
#[test]
fn below_awrite_lock_it_is_as_any_other() {
    let dir = TestDir::new();
    std::os::unix::fs::symlink(crate::common::AWRITE, dir.join("flock")).unwrap();
    for how in ["-n", "-w 0.05"] {
        let done = dir.below_lock(&[], &format!("./flock {how} -E 9 f.lock true; echo $?")).run();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("9\n", ""), "{how}");
    }
    dir.assert_holds(&["flock"]);
}

const CASES: &[&[&str]] = &[
    &[],
    &["-z", "f", "true"],
    &["-1"],
    &["-?"],
    &["-c"],
    &["-c", "f", "true"],
    &["-s", "-zn", "f"],
    &["--bogus", "f", "true"],
    &["--bogus=1", "f", "true"],
    &["--no=1", "f", "true"],
    &["--no", "f", "true"],
    &["--n", "f", "true"],
    &["--c", "f", "true"],
    &["--v", "f", "true"],
    &["--t", "1", "f", "true"],
    &["--sh", "--excl", "--nonb", "f", "echo", "x"],
    &["--shared=5", "f", "true"],
    &["--close=1", "f", "true"],
    &["--clo=1", "f", "true"],
    &["-w"],
    &["-sw"],
    &["--timeout"],
    &["--wai"],
    &["-w", "f"],
    &["-w", "x", "f", "true"],
    &["-w", "", "f", "true"],
    &["-w", ".", "f", "true"],
    &["-w", "5s", "f", "true"],
    &["-w", "1.5x", "f", "true"],
    &["-w", "-1", "f", "true"],
    &["-w", "99999999999999999999", "f", "true"],
    &["-w", "1e1", "f", "true"],
    &["-w", ".5", "f", "true"],
    &["-w", "5.", "f", "true"],
    &["-w", " 5", "f", "true"],
    &["-w", "+5", "f", "true"],
    &["-w", "0x10", "f", "true"],
    &["-w5", "f", "true"],
    &["-nw5", "f", "true"],
    &["--wait=1", "f", "true"],
    &["--timeout=1", "f", "true"],
    &["--nb", "f", "true"],
    &["--nonblock", "f", "true"],
    &["--nonblocking", "f", "true"],
    &["-E"],
    &["-E", "x", "f", "true"],
    &["-E", "", "f", "true"],
    &["-E", "-1", "f", "true"],
    &["-E", "256", "f", "true"],
    &["-E", "99999999999", "f", "true"],
    &["-E", "0x5", "f", "true"],
    &["-E", " 5", "f", "true"],
    &["-E", "5", "f", "true"],
    &["--conflict-exit-code"],
    &["-Fo", "f", "true"],
    &["-o", "-F", "f"],
    &["f", "-c"],
    &["f", "-c", "a", "b"],
    &["f", "--command"],
    &["f", "--command", "echo hi"],
    &["f", "-c", "exit 9"],
    &["f", "-c", "kill -9 $$"],
    &["f", "-c", "kill -TERM $$"],
    &["f", "--", "true"],
    &["--", "f", "echo", "-n", "--"],
    &["f", "echo", "-s", "--help", "--", "x"],
    &["f", "no-such-program"],
    &["f", ""],
    &["f", "/"],
    &["-F", "f", "no-such-program"],
    &["-F", "f", "-c", "exit 3"],
    &["-o", "f", "-c", "exit 4"],
    &["-u", "f", "echo", "unlocked"],
    &["-s", "-n", "-x", "-e", "f", "true"],
    &["no/such/dir/f", "true"],
    &["", "true"],
    &["f/g", "true"],
    &["/", "true"],
    &[".", "echo", "a directory"],
    &["-s", ".", "true"],
    &["f"],
    &["9"],
    &["99"],
    &["--", "9"],
    &[" 9"],
    &["+9"],
    &["-s", "9"],
    &["9x"],
    &["99999999999"],
    &["0"],
    &["--verbose", "f", "true"],
    &["--verbose", "-n", "f", "echo", "x"],
    &["--verbose", "f", "no-such-program"],
    &["--verbose", "f", "-c", "echo x"],
    &["--verbose", "0"],
];

#[test]
fn as_the_real_one() {
    if !needs_flock() {
        return;
    }
    for shell in ["", "/bin/sh", "/no/such/shell"] {
        for case in CASES {
            let (ours, theirs) = (TestDir::new(), TestDir::new());
            let run = |run: Run| run.env("SHELL", shell).run();
            let mine = run(flock(&ours, *case));
            let real = run(theirs.program("flock", *case));
            assert_eq!(seen(&mine), seen(&real), "{case:?}, SHELL={shell}");
            assert!(ours.names() == theirs.names() || mine.code == Some(71), "{case:?}: {:?}", ours.names());
            if ours.join("f").exists() {
                assert_eq!(ours.mode("f"), theirs.mode("f"), "{case:?}");
            }
        }
    }
}

/// What it says, and how it ends, when the lock is held.
#[test]
fn as_the_real_one_with_the_lock_held() {
    if !needs_flock() {
        return;
    }
    let dir = TestDir::new();
    let _held = Held::new(&dir.join("f"));
    for case in [
        &["-n", "f", "true"][..],
        &["-n", "-E", "7", "f", "true"],
        &["-E0", "-n", "f", "true"],
        &["-sn", "f", "true"],
        &["-w", "0", "f", "true"],
        &["-w", "0.05", "f", "true"],
        &["-E", "9", "-w", ".05", "f", "-c", "true"],
        &["--verbose", "-n", "f", "true"],
        &["--verbose", "-w", "0.05", "f", "true"],
        &["--verbose", "-w", "0", "f", "true"],
        &["-u", "f", "echo", "x"],
        &["-n", "./f", "true"],
    ] {
        assert_eq!(seen(&flock(&dir, case).run()), seen(&dir.program("flock", case).run()), "{case:?}");
    }
    for script in [
        "exec 9>>f; FLOCK -n 9",
        "exec 9<f; FLOCK -n -E 3 9",
        "exec 9<f; FLOCK --verbose -w .05 9",
        "exec 9>>g; FLOCK 9 && FLOCK -n g true; echo $?; FLOCK -u 9; FLOCK -n g true",
        "exec 8<g 9<g; FLOCK -s 8; FLOCK -sn 9; FLOCK -n g true; echo $?; exec 8<&-; FLOCK -n 9; echo $?",
        "exec 9>h; rm h; FLOCK -n 9; echo $?",
        "(FLOCK -n 9 || exit 1; echo in; FLOCK -n g true; echo $?) 9>g",
        "FLOCK f2 ls -l /proc/self/fd | grep -c f2; FLOCK -o f2 ls -l /proc/self/fd | grep -c f2",
        "FLOCK -n f2 sh -c 'FLOCK -n f2 true; echo $?; FLOCK -u 3; FLOCK -n f2 true; echo $?'",
        "FLOCK -F f2 sh -c 'echo $PPID' | grep -c .",
        "[ \"${LOCKED}\" != \"$0\" ] && exec env LOCKED=\"$0\" FLOCK -en \"$0\" sh -c 'echo inside; exit 12' || :",
    ] {
        dir.file("script", script);
        let bin = |flock: &str| {
            let script = script.replace("FLOCK", flock);
            dir.program("sh", ["-c", &script, &dir.join("script").display().to_string()]).run()
        };
        let link = dir.join("bin");
        fs::create_dir_all(&link).unwrap();
        let _ = std::os::unix::fs::symlink(crate::common::AWRITE, link.join("flock"));
        let mine = bin(&link.join("flock").display().to_string());
        assert_eq!(seen(&mine), seen(&bin("flock")), "{script}");
    }
}

#[test]
fn the_lock_file_is_the_operand_and_stays() {
    let dir = TestDir::new();
    flock(&dir, ["f", "sh", "-c", "test -e f && test ! -e f.lock"]).quiet_success();
    dir.file("f", "content");
    flock(&dir, ["f", "true"]).quiet_success();
    assert_eq!(dir.read("f"), "content");
    flock(&dir, ["-V"]).run().ok();
    assert!(flock(&dir, ["--help"]).run().ok().stdout.contains("--conflict-exit-code"));
    dir.assert_holds(&["f"]);
}

#[test]
fn both_exclude_each_other_and_awrite() {
    let dir = TestDir::new();
    let holder = flock(&dir, ["f.lock", "sh", "-c", "touch in; while test ! -e go; do sleep 0.01; done"]).spawn();
    wait_until("it has the lock", || dir.join("in").exists());
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    if needs("flock") {
        dir.program("flock", ["-n", "f.lock", "true"]).run().assert_code(1);
    }
    dir.file("go", "");
    holder.finish().ok();
}

/// awrite deletes its lock file. A process that waits through flock must end up with the file that others see.
#[test]
fn a_lock_file_that_comes_and_goes() {
    let dir = TestDir::new();
    dir.file("f", "0\n");
    let update = "n=$(cat f); echo $((n + 1)) > f";
    let runs: Vec<Running> = (0..40)
        .map(|number| match number % 4 {
            0 => dir.awrite(["-q", "f", "--", "sh", "-c", "read n; echo $((n + 1))"]).spawn(),
            1 => flock(&dir, ["-w", "60", "f.lock", "-c", update]).spawn(),
            2 => dir.awrite(["lock", "-q", "f", "-c", update]).spawn(),
            _ => flock(&dir, ["f.lock", "-c", update]).spawn(),
        })
        .collect();
    for run in runs {
        run.finish().ok();
    }
    assert_eq!(dir.read("f"), "40\n");
}

#[test]
fn a_removed_lock_file_is_opened_again() {
    let dir = TestDir::new();
    let held = Held::new(&dir.join("l"));
    let waiter = flock(&dir, ["l", "sh", "-c", "test -e l"]).spawn();
    wait_until("it waits", || somebody_waits_for(held.inode()));
    fs::remove_file(dir.join("l")).unwrap();
    held.release();
    waiter.finish().ok();
    dir.assert_holds(&["l"]);
}

/// This differs from flock(1), which ends and leaves COMMAND with the lock.
#[test]
fn a_signal_goes_to_command() {
    let dir = TestDir::new();
    let running = flock(&dir, ["l", "sh", "-c", "touch in; exec sleep 600"]).spawn();
    wait_until("COMMAND runs", || dir.join("in").exists());
    running.signal(Signal::TERM);
    let mut running = running;
    wait_until("it ends", || running.has_ended());
    running.finish().assert_code(143);
    assert!(!lock_is_held(&dir.join("l")));
    // While waiting there is nothing to be cleaned up.
    let held = Held::new(&dir.join("l"));
    let mut waiter = flock(&dir, ["l", "true"]).spawn();
    wait_until("it waits", || somebody_waits_for(held.inode()));
    waiter.signal(Signal::TERM);
    wait_until("it ends", || waiter.has_ended());
    assert_eq!(waiter.finish().signal, Some(15));
}

/// What util-linux's own tests ask: each way to lock, while a shared lock of either kind is held.
#[test]
fn both_kinds_beside_a_shared_holder() {
    let dir = TestDir::new();
    dir.dir("bin");
    std::os::unix::fs::symlink(crate::common::AWRITE, dir.join("bin/flock")).unwrap();
    let sh = |script: &str| dir.sh(&format!("PATH=$PWD/bin:$PATH; {script}"));
    for (kind, other) in [("", "--fcntl"), ("--fcntl", "")] {
        let hold = format!("flock {kind} --shared L sh -c ': >in; until [ -e go ]; do sleep 0.01; done; : >out'");
        let holder = sh(&hold).spawn();
        wait_until("it is held", || dir.join("in").exists());
        for (script, code, stdout) in [
            ("flock KIND --nonblocking --conflict-exit-code 123 L echo never", 123, ""),
            ("flock KIND --no-fork --nonblocking --conflict-exit-code 123 L echo never", 123, ""),
            ("flock KIND --nb --exclusive --conflict-exit-code 123 L echo never", 123, ""),
            ("flock KIND --shared L echo shared", 0, "shared\n"),
            ("exec 4<>L; flock KIND --nonblocking -E 123 4 || s=$?; test ! -e 4 && exit $s", 123, ""),
            ("exec 4<>L; flock KIND -n -E 123 --fd 4 echo never", 123, ""),
            ("exec 4<>L; flock KIND -s --fd 4 -c 'echo shared'", 0, "shared\n"),
            ("flock OTHER --nonblock --exclusive L echo beside", 0, "beside\n"),
            ("flock KIND --wait 0 -E 9 L echo never", 9, ""),
            ("flock KIND --timeout 0.05 --conflict-exit-code 5 L echo never", 5, ""),
        ] {
            let script = script.replace("KIND", kind).replace("OTHER", other);
            let done = sh(&script).run();
            assert_eq!((done.code, &*done.stdout, &*done.stderr), (Some(code), stdout, ""), "{script}");
        }
        let waiter = sh(&format!("flock {kind} --timeout 60 -E 5 L sh -c 'test -e out && echo after'")).spawn();
        let inode = dir.snapshot("L").inode;
        wait_until("it waits", || somebody_waits_for(inode));
        dir.file("go", "");
        assert_eq!(waiter.finish().ok().stdout, "after\n");
        holder.finish().ok();
        for name in ["in", "go", "out"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
}

#[test]
fn descriptors_are_locked_unlocked_and_closed() {
    let dir = TestDir::new();
    dir.dir("bin");
    std::os::unix::fs::symlink(crate::common::AWRITE, dir.join("bin/flock")).unwrap();
    for (script, code, stdout, stderr) in [
        // With --close, COMMAND has no such descriptor.
        ("exec 8<>L; flock -x -o --fd 8 -c 'flock -xn --fd 8 true'", 65, "", "flock: 8: Bad file descriptor\n"),
        ("exec 8<>L; flock -x --fd 8 -c 'flock -xn --fd 8 true'", 0, "", ""),
        (
            "exec 8<>L; flock -xn --verbose 8; flock -n L true; echo $?; flock -u 8; flock -x --wait 0 --verbose L true",
            0,
            "flock: getting lock took\n1\nflock: getting lock took\nflock: executing true\n",
            "",
        ),
        (
            "exec 8<>L; flock --fcntl -xn 8; flock --fcntl -n L true || flock --fcntl -u 8; flock --fcntl -n L true",
            0,
            "",
            "",
        ),
        ("exec 8<L; flock --fcntl -n 8", 65, "", "flock: 8: Bad file descriptor\n"),
        ("exec 8<L; flock --fcntl -sn 8", 0, "", ""),
        ("flock --fcntl . true", 65, "", "flock: .: Is a directory\n"),
        // The kernel has just the bytes that are named: 1 and 2 here, then to the end.
        (
            "flock -sF --start 1 --length 2 . -c 'grep lock: /proc/self/fdinfo/3' | cut -d ' ' -f 3-5,8-",
            0,
            "ADVISORY  READ 1 2\n",
            "",
        ),
        (
            "flock --start 1.5K L -c 'grep lock: /proc/self/fdinfo/3' | cut -d ' ' -f 3-5,8-",
            0,
            "ADVISORY  WRITE 1536 EOF\n",
            "",
        ),
        ("flock --length x L true", 64, "", "flock: invalid as length of lock range: 'x': Invalid argument\n"),
        ("flock --fd -1 true", 64, "", "flock: invalid file descriptor: '-1': Numerical result out of range\n"),
        ("exec 8>L; flock --fd 8 --verbose -n echo x", 0, "flock: getting lock took\nflock: executing echo\nx\n", ""),
        (
            "exec 8>L; flock 8; flock --verbose -n L true; flock --verbose -w .01 L true",
            1,
            "",
            "flock: failed to get lock\nflock: timeout while waiting to get lock\n",
        ),
        ("exec 8>L; flock --fcntl 8; flock --fcntl --verbose -n L true", 1, "", "flock: failed to get lock\n"),
    ] {
        let done = dir.sh(&format!(": >L; PATH=$PWD/bin:$PATH; {script}")).run();
        let took =
            |line: &str| line.split_once(" took ").map_or(line.to_owned(), |(before, _)| format!("{before} took"));
        let said: String = done.stdout.lines().map(|line| took(line) + "\n").collect();
        assert_eq!((done.code, &*said, &*done.stderr), (Some(code), stdout, stderr), "{script}");
    }
}
