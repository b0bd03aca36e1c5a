//! awrite below awrite: what a command does with the locked file goes on under the lock of its ancestor.

use std::fs;

use rustix::process::Signal;

use crate::common::{Running, TestDir, lock_is_held, needs, wait_until};

#[test]
fn a_write_below_a_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.below_lock(&[], "tr a-z A-Z < f | \"$BIN\" f").quiet_success();
    assert_eq!(dir.read("f"), "OLD");
    for script in [
        "\"$BIN\" -n f",
        "\"$BIN\" -w 1 f",
        "\"$BIN\" --stream f",
        "\"$BIN\" --lock-on-commit f",
        "\"$BIN\" f -- cat -",
        "\"$BIN\" lock f -- \"$BIN\" f",
        "\"$BIN\" lock -n f -- \"$BIN\" lock -w 5 f -c 'exec \"$BIN\" lock f -- \"$BIN\" -n f'",
        "cd / && exec \"$BIN\" \"$OLDPWD/f\"",
        "ln -s f link; exec \"$BIN\" link",
        // The lock's descriptor must not be one that scripts use.
        "exec 3>a 4>b 9>c; rm a b c; exec \"$BIN\" f",
    ] {
        dir.file("f", "old");
        dir.below_lock(&[], script).stdin("new").quiet_success();
        let expected = if script.contains("cat -") { "old" } else { "new" };
        assert_eq!(dir.read("f"), expected, "{script}");
        let _ = fs::remove_file(dir.join("link"));
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn nested_ones_side_by_side_exclude_each_other() {
    let dir = TestDir::new();
    for (option, wait) in [("-q", "--wait"), ("-q", "--timeout=60")] {
        dir.file("f", "0\n");
        let one = format!("\"$BIN\" -q {wait} f -- sh -c 'read n; echo $((n + 1))'");
        let script = format!("i=0; while test $i -lt 20; do {one} & i=$((i + 1)); done; wait");
        dir.below_lock(&[option], &script).quiet_success();
        assert_eq!(dir.read("f"), "20\n");
        // Children and grandchildren at the same time.
        dir.file("f", "0\n");
        let deeper = format!("\"$BIN\" lock -q f -c \"$DEEPER\" & {one} &");
        let script = format!("for i in 1 2 3 4 5; do {deeper} done; wait");
        let nested = format!("{one} & {one} & {one} & wait");
        dir.below_lock(&[option], &script).env("DEEPER", nested).quiet_success();
        assert_eq!(dir.read("f"), "20\n");
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn those_outside_wait_for_the_ancestor() {
    let dir = TestDir::new();
    let script = "echo 1 | \"$BIN\" f; touch ready; while test ! -e go; do sleep 0.01; done; cat f > seen";
    let holder = dir.below_lock(&[], script).spawn();
    wait_until("the nested write is done", || dir.join("ready").exists());
    let mut outsider = dir.awrite(["f"]).stdin("2").spawn();
    outsider.wait_for_waiting();
    assert!(lock_is_held(&dir.join("f.lock")));
    dir.file("go", "");
    holder.finish().ok();
    outsider.finish().ok();
    assert_eq!((dir.read("seen").as_str(), dir.read("f").as_str()), ("1\n", "2"));
    dir.assert_holds(&["f", "go", "ready", "seen"]);
}

#[test]
fn a_nested_one_that_does_not_wait_fails_beside_another() {
    let dir = TestDir::new();
    let script = "\"$BIN\" lock f -c 'touch in; while test ! -e go; do sleep 0.01; done' &
        while test ! -e in; do sleep 0.01; done
        echo x | \"$BIN\" -n f; a=$?; echo x | \"$BIN\" -w 50ms f; b=$?
        touch go; wait; exit $a$b";
    let done = dir.below_lock(&[], script).run();
    done.assert_says(22, "Error: f: File locked by another process");
    done.assert_says(22, "Error: f: Lock acquisition timeout after 50ms");
}

#[test]
fn shared_below_shared_and_shared_below_exclusive() {
    let dir = TestDir::new();
    dir.below_lock(&["-s"], "\"$BIN\" lock -s f -- \"$BIN\" lock -sn f -- true").quiet_success();
    // Two shared ones side by side, both in at the same time.
    let script =
        "for i in 1 2; do \"$BIN\" lock -s f -c \"touch in$i; while ! test -e in1 -a -e in2; do sleep 0.01; done\" &
        done; wait";
    dir.below_lock(&[], script).quiet_success();
    dir.assert_holds(&["in1", "in2"]);
}

#[test]
fn wrong_nestings_are_errors_at_once() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let exclusive = "An exclusive lock cannot be taken below a shared one";
    dir.below_lock(&["-s"], "\"$BIN\" f").stdin("new").run().assert_says(1, exclusive);
    dir.below_lock(&["-s"], "\"$BIN\" lock f -- true").run().assert_says(1, exclusive);
    let done = dir.below_lock(&["-s"], "echo $PPID; \"$BIN\" lock f -- true").run();
    let hint = format!("process {}, above this one, shares the lock; take that one exclusively", done.stdout.trim());
    done.assert_hint(&hint);
    // Without the environment it is not known who has locked what is below another lock.
    let fresh = "env -i PATH=\"$PATH\" BIN=\"$BIN\" \"$BIN\" lock";
    let done = dir.below_lock(&[], &format!("{fresh} -s f -- {fresh} f -- true")).run();
    done.assert_says(1, "Hint: a process, above this one, shares the lock");
    dir.below_lock(&[], "\"$BIN\" lock -s f -- \"$BIN\" f").stdin("new").run().assert_says(1, exclusive);
    assert_eq!(dir.read("f"), "old\n");
    let replaced = "Error: f: This runs below a command whose output is about to replace the file";
    for script in ["\"$BIN\" f", "\"$BIN\" lock f -- \"$BIN\" f", "\"$BIN\" f -- cat"] {
        let script = format!("cat; echo new | {script} || echo failed");
        for option in ["--quiet", "--stream"] {
            let done = dir.awrite([option, "f", "--", "sh", "-c", &script]).run();
            done.assert_says(0, replaced);
            assert_eq!(dir.read("f"), "old\nfailed\n");
            dir.file("f", "old\n");
        }
    }
    // To hold the lock there, or to write another file, is allowed.
    let script = "\"$BIN\" lock f -- cat; echo x | \"$BIN\" g";
    dir.awrite(["f", "--", "sh", "-c", script]).quiet_success();
    assert_eq!((dir.read("f").as_str(), dir.read("g").as_str()), ("old\n", "x\n"));
    dir.assert_holds(&["f", "g"]);
}

#[test]
fn several_files_at_once() {
    let dir = TestDir::new();
    let script = "exec \"$BIN\" lock g -c 'echo 1 | \"$BIN\" f; echo 2 | \"$BIN\" g; echo 3 | \"$BIN\" -n h'";
    dir.below_lock(&[], script).quiet_success();
    assert_eq!([dir.read("f"), dir.read("g"), dir.read("h")], ["1\n", "2\n", "3\n"]);
    dir.assert_holds(&["f", "g", "h"]);
}

/// An entry for each lock and each level, outermost first.
#[test]
fn the_environment_names_all_that_is_held_above() {
    let dir = TestDir::new();
    let show = "for file in f g; do stat -c %i $file.lock; done; echo $AWRITE_HELD";
    let done = dir.lock(&["f", "--", crate::common::AWRITE, "lock", "g", "--", "sh", "-c", show]).run();
    let inodes = |text: &str| -> Vec<String> {
        text.split(',').filter_map(|entry| entry.split(':').nth(2)).map(str::to_owned).collect()
    };
    let lines: Vec<&str> = done.ok().stdout.lines().collect();
    assert_eq!(inodes(lines[2]), lines[..2], "{done:?}");
    let again = format!("\"$BIN\" lock g -- \"$BIN\" lock f -c '{show}'");
    let done = dir.below_lock(&[], &again).run();
    let lines: Vec<&str> = done.ok().stdout.lines().collect();
    assert_eq!(inodes(lines[2]), [lines[0], lines[1], lines[0]], "{done:?}");
    dir.assert_holds(&[]);
}

#[test]
fn close_switches_it_off() {
    let dir = TestDir::new();
    dir.below_lock(&["-o"], "\"$BIN\" -n f").stdin("x").run().assert_code(2);
    dir.below_lock(&["-o"], "\"$BIN\" -w 50ms f").stdin("x").run().assert_code(2);
    // The same below a nested lock.
    dir.below_lock(&[], "\"$BIN\" lock -o f -- \"$BIN\" -n f").stdin("x").run().assert_code(2);
    // Only this lock is hidden from COMMAND.
    dir.below_lock(&[], "\"$BIN\" lock -o g -- \"$BIN\" -n f").stdin("x").quiet_success();
    dir.assert_holds(&["f"]);
}

#[test]
fn a_forged_variable_gains_nothing() {
    let dir = TestDir::new();
    let mut holder = dir.awrite(["f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    let lock = fs::metadata(dir.join("f.lock")).unwrap();
    let (device, inode) = (std::os::unix::fs::MetadataExt::dev(&lock), std::os::unix::fs::MetadataExt::ino(&lock));
    let pid = holder.id();
    for fd in ["0", "3", "9", "100"] {
        for rest in [format!("x:0:{pid}"), format!("s:4242:{pid}"), format!("x:4242:{pid}"), "x:7:1".to_owned()] {
            let held = format!("{fd}:{device}:{inode}:{rest}");
            // With a descriptor of the lock file, of another file, and without any.
            for open in ["exec 9<>f.lock", "exec 9</proc/version", "true"] {
                let done = dir.sh(&format!("{open}; exec \"$BIN\" -n f")).env("AWRITE_HELD", &held).stdin("x").run();
                done.assert_says(2, "Error: f: File locked by another process");
            }
        }
    }
    // Even with a forged mark: a mark shows who claims to hold the lock, not who holds it.
    if needs("python3") {
        let script = format!(
            "import fcntl, os, struct
fd = os.open('f.lock', os.O_RDWR)
os.set_inheritable(fd, True)
fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 2 * 4242, 1, 0))
os.environ['AWRITE_HELD'] = '%d:{device}:{inode}:x:4242:%d' % (fd, os.getpid())
os.dup2(os.open('f.lock', os.O_RDWR), 9)
os.execv(os.environ['BIN'], ['awrite'] + ARGS)"
        );
        for (args, what) in [("['-n', 'f']", "f"), ("['lock', '-n', '9']", "descriptor 9")] {
            let done = dir.program("python3", ["-c", &script.replace("ARGS", args)]).stdin("x").run();
            done.assert_says(2, &format!("Error: {what}: File locked by another process"));
        }
    }
    holder.feed(b"done");
    holder.finish().ok();
    assert_eq!(dir.read("f"), "done");
    // A stale variable harms nobody.
    for held in ["garbage", "9:1:1:x:0:1", "9:1:1:x:4242:1", ",,,", "\u{e4}"] {
        dir.awrite(["-n", "f"]).env("AWRITE_HELD", held).stdin("x").quiet_success();
    }
    dir.assert_holds(&["f"]);
}

/// The descriptor outlives the lock in a daemon; the lock does not come back through it.
#[test]
fn a_daemon_below_a_lock_that_has_ended_waits_like_any_other() {
    let dir = TestDir::new();
    let script = "{ while test ! -e go; do sleep 0.01; done; echo late | \"$BIN\" -n f; echo $? > status; } \
        >/dev/null 2>&1 &";
    dir.below_lock(&[], script).run().ok();
    dir.assert_holds(&[]);
    let mut holder = dir.awrite(["f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    dir.file("go", "");
    wait_until("the daemon has tried", || fs::read(dir.join("status")).is_ok_and(|text| !text.is_empty()));
    assert_eq!(dir.read("status"), "2\n");
    holder.feed(b"x");
    holder.finish().ok();
    fs::remove_file(dir.join("status")).unwrap();
    dir.assert_holds(&["f", "go"]);
}

/// A nested process that runs on in the background after COMMAND has ended still holds the lock alone: it is waited for.
#[test]
fn a_nested_one_left_behind_is_waited_for() {
    let dir = TestDir::new();
    for option in ["-x", "-s"] {
        let script = format!(
            "\"$BIN\" lock {option} f -c 'touch in; while test ! -e go; do sleep 0.01; done; touch done' > /dev/null 2>&1 &
            while test ! -e in; do sleep 0.01; done; exit 7"
        );
        let mut holder = dir.below_lock(&[option], &script).spawn();
        holder.wait_for_stderr("still work under it");
        dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
        let mut waiter = dir.awrite(["f"]).stdin("x").spawn();
        waiter.wait_for_waiting();
        assert!(!holder.has_ended() && !dir.join("done").exists());
        dir.file("go", "");
        holder.finish().assert_code(7);
        assert!(dir.join("done").exists());
        waiter.finish().ok();
        dir.assert_holds(&["done", "f", "go", "in"]);
        for file in ["done", "f", "go", "in"] {
            fs::remove_file(dir.join(file)).unwrap();
        }
    }
}

/// It works on the content that it has found. What replaces this comes after it.
#[test]
fn a_nested_one_left_behind_comes_before_the_replacement() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "\"$BIN\" lock f -c 'touch in; while test ! -e go; do sleep 0.01; done; cat f >seen' >/dev/null 2>&1 &
        while test ! -e in; do sleep 0.01; done; echo new";
    let mut holder = dir.awrite(["f", "--", "sh", "-c", script]).spawn();
    holder.wait_for_stderr("still work under it");
    assert_eq!(dir.read("f"), "old");
    dir.file("go", "");
    holder.finish().ok();
    assert_eq!((dir.read("seen").as_str(), dir.read("f").as_str()), ("old", "new\n"));
    dir.assert_holds(&["f", "go", "in", "seen"]);
}

/// An ancestor that is killed leaves the lock to its descendants, which go on under it.
#[test]
fn below_a_killed_ancestor() {
    let dir = TestDir::new();
    let script = "touch in; while test ! -e go; do sleep 0.01; done; echo x | \"$BIN\" -n f; echo $? > status";
    let mut holder = dir.below_lock(&[], script).spawn();
    wait_until("COMMAND runs", || dir.join("in").exists());
    holder.signal(Signal::KILL);
    wait_until("it ends", || holder.has_ended());
    let mut outsider = dir.awrite(["f"]).stdin("later").spawn();
    outsider.wait_for_waiting();
    dir.file("go", "");
    wait_until("COMMAND has written", || fs::read(dir.join("status")).is_ok_and(|text| !text.is_empty()));
    assert_eq!(dir.read("status"), "0\n");
    outsider.finish().ok();
    assert_eq!(dir.read("f"), "later");
    dir.assert_holds(&["f", "go", "in", "status"]);
}

#[test]
fn killed_nested_ones_leave_the_ancestor_its_lock() {
    let dir = TestDir::new();
    let script = "for i in 1 2 3; do
            \"$BIN\" lock -o f -c 'touch in; echo $$ >&3; exec sleep 600' & while test ! -e in; do sleep 0.01; done; rm in
            kill -9 $!; wait $!; done 2>/dev/null 3>pids
        echo x | \"$BIN\" -w 60 f; test -e f.lock && xargs kill <pids";
    dir.below_lock(&[], script).run().ok();
    assert_eq!(dir.read("f"), "x\n");
    dir.assert_holds(&["f", "pids"]);
}

#[test]
fn many_rounds_of_everything_lose_no_update() {
    let dir = TestDir::new();
    dir.file("f", "0\n");
    let one = "\"$BIN\" -q f -- sh -c 'read n; echo $((n + 1))'";
    let nested = format!("{one} & \"$BIN\" lock -q f -c \"$ONE\" & {one} & wait");
    let runs: Vec<Running> = (0..12)
        .map(|number| match number % 3 {
            0 => dir.sh(one).spawn(),
            _ => dir.below_lock(&["-q"], &nested).env("ONE", one).spawn(),
        })
        .collect();
    for run in runs {
        run.finish().ok();
    }
    assert_eq!(dir.read("f"), format!("{}\n", 4 + 8 * 3));
    dir.assert_holds(&["f"]);
}

/// Whoever else has the descriptor, and however many levels there are.
#[test]
fn when_the_last_one_below_has_ended_the_lock_is_free() {
    let dir = TestDir::new();
    // A daemon has the descriptors too, until the end of the test.
    let daemon = "sh -c 'touch daemon; while [ ! -e end ]; do sleep 0.01; done' >/dev/null 2>&1 </dev/null &";
    let inner =
        "\"$BIN\" lock f -- sh -c 'touch inner; while [ ! -e go ]; do sleep 0.01; done; \"$BIN\" lock f -- true'";
    for middle in ["", "\"$BIN\" lock f -- "] {
        for file in ["daemon", "inner", "go", "end"] {
            let _ = fs::remove_file(dir.join(file));
        }
        let script = format!(
            "{daemon} {inner} >/dev/null 2>&1 </dev/null & while [ ! -e inner -o ! -e daemon ]; do sleep 0.01; done"
        );
        dir.file("script", script);
        let mut holder = dir.below_lock(&[], &format!("{middle} sh script")).spawn();
        holder.wait_for_stderr("still work under it");
        dir.awrite(["lock", "-n", "f", "--", "true"]).run().assert_code(2);
        dir.file("go", "");
        holder.finish().ok();
        assert!(!dir.join("f.lock").exists());
        dir.awrite(["lock", "-n", "f", "--", "true"]).quiet_success();
        dir.file("end", "");
    }
    dir.assert_holds(&["daemon", "end", "go", "inner", "script"]);
}

/// As Python's subprocess does by itself.
#[test]
fn a_descriptor_that_is_closed_on_the_way_is_an_error_not_a_wait() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    let program =
        "import os, subprocess, sys; sys.exit(subprocess.run([os.environ['BIN'], 'f'], input=b'x').returncode)";
    let done = dir.awrite(["lock", "f", "--", "python3", "-c", program]).run();
    done.assert_says(1, "its descriptor was closed on the way");
    // It is an error only if an ancestor holds the lock now.
    dir.awrite(["lock", "-o", "f", "--", "true"]).quiet_success();
    let done = dir.awrite(["lock", "g", "--", "python3", "-c", program]).run();
    done.ok();
    assert_eq!(dir.read("f"), "x");
    dir.assert_holds(&["f"]);
}

/// The ancestor has checked the lease, and while it holds the lock the owner cannot release it.
#[test]
fn below_the_holder_of_a_lease_it_is_no_obstacle() {
    let dir = TestDir::new();
    dir.awrite(["lock", "--acquire", "--owner", "A", "--ttl", "100", "f"]).run().ok();
    dir.awrite(["lock", "--owner", "A", "f", "-c", "echo new | \"$BIN\" -n f"]).quiet_success();
    assert_eq!(dir.read("f"), "new\n");
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    dir.awrite(["lock", "-q", "--release", "--owner", "A", "f"]).run().ok();
    dir.assert_holds(&["f"]);
}
