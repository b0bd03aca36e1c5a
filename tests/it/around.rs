//! Nobody waits for a lock that a process above holds, or a descriptor of its own: awrite goes on under that lock, or says
//! at once that it cannot.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::capi::source;
use crate::common::{
    Running, TestDir, chmod, is_root, lock_is_held, needs, needs_pid_namespaces, needs_root, needs_strace, say,
    wait_until,
};

const CLOSED: &str = "The lock is held above this process, but its descriptor was closed on the way";
const OWN: &str = "The lock is held by a descriptor that this process has inherited, and cannot be shared with it";
const FRESH: &str = "env -i PATH=\"$PATH\" BIN=\"$BIN\"";

// ---------------------------------------------------------------------------------------------------------------------
// The environment is lost, or the descriptor, or both

#[test]
fn without_its_environment_it_goes_on_under_the_descriptor() {
    let dir = TestDir::new();
    for script in [
        "\"$BIN\" -n f",
        "\"$BIN\" lock f -- \"$BIN\" -n f",
        "\"$BIN\" lock f -- FRESH \"$BIN\" lock f -- FRESH \"$BIN\" lock f -- \"$BIN\" f",
        "sh -c 'exec 9>>f.lock; \"$BIN\" lock 9 && \"$BIN\" f'",
    ] {
        dir.file("f", "old");
        let script = format!("exec {FRESH} {}", script.replace("FRESH", FRESH));
        dir.below_lock(&[], &script).stdin("new").quiet_success();
        assert_eq!(dir.read("f"), "new", "{script}");
        dir.assert_holds(&["f"]);
    }
    // What could never be granted is seen there too.
    let done = dir.below_lock(&["-s"], &format!("{FRESH} \"$BIN\" f")).stdin("x").run();
    done.assert_says(1, "An exclusive lock cannot be taken below a shared one");
    let script = format!("{FRESH} \"$BIN\" f; echo $? >&2");
    let done = dir.awrite(["f", "--", "sh", "-c", &script]).run();
    done.assert_says(1, "This runs below a command whose output is about to replace the file");
    // A descriptor for writing only cannot be shared, whatever is asked; but the one above it is.
    let script = format!("exec 9>>f.lock; \"$BIN\" lock -s 9 && {FRESH} \"$BIN\" lock -w 5 f -- true");
    dir.below_lock(&["-s"], &script).run().assert_says(1, "An exclusive lock cannot be taken below a shared one");
    let shared = format!("{FRESH} \"$BIN\" lock -s f -- true");
    dir.below_lock(&["-s"], &shared).quiet_success();
    // Those side by side still exclude each other.
    dir.file("n", "0");
    let one = format!("{FRESH} \"$BIN\" -q n -- sh -c 'read n; echo $((n + 1))'");
    dir.file("n", "0\n");
    dir.awrite(["lock", "n", "-c", &format!("for i in 1 2 3 4 5 6 7 8; do {one} & done; wait")]).quiet_success();
    assert_eq!(dir.read("n"), "8\n");
    dir.assert_holds(&["f", "n"]);
}

/// As sudo does; Python's subprocess closes descriptors only.
#[test]
fn without_a_descriptor_it_is_an_error_at_once() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    let python = |environment: &str, pass: &str| {
        format!(
            "python3 -c \"import os, subprocess, sys
sys.exit(subprocess.run([os.environ['BIN'], 'f'], input=b'x', {environment}pass_fds={pass}).returncode)\""
        )
    };
    for environment in ["", "env={}, "] {
        dir.below_lock(&[], &python(environment, "()")).run().assert_says(1, CLOSED);
        // The one that is passed on is not the one that counts.
        let inner = format!("exec \"$BIN\" lock f -c '{}'", python(environment, "[100]").replace('\'', "'\\''"));
        dir.below_lock(&[], &inner).run().assert_says(1, CLOSED);
    }
    let script = "exec 9>>f.lock; \"$BIN\" lock 9; \"$BIN\" f 9>&-";
    dir.sh(script).stdin("x").run().assert_says(1, CLOSED);
    assert_eq!(dir.read("f"), "old");
    fs::remove_file(dir.join("f.lock")).unwrap();
    // With -o it is meant to wait.
    let script = format!("{FRESH} AWRITE_HELD=\"$AWRITE_HELD\" \"$BIN\" -w 50ms f");
    dir.below_lock(&["-o"], &script).stdin("x").run().assert_says(2, "Lock acquisition timeout after 50ms");
    dir.assert_holds(&["f"]);
}

/// Its descriptors cannot be seen, but the list of all locks can.
#[test]
fn below_another_user_s_lock() {
    if !needs_root() || !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    let script = "import os, subprocess, sys
run = subprocess.run([sys.argv[1], '-w', '1', 'f'], input=b'x', env={}, user=65534, group=65534, extra_groups=[])
sys.exit(run.returncode)";
    let binary = dir.reachable_binary().to_str().unwrap().to_owned();
    let done = dir.lock(&["f", "--", "python3", "-c", script, &binary]).run();
    done.assert_says(1, CLOSED);
    dir.assert_holds(&[]);
}

/// It looks around some milliseconds after it has begun to wait, and then even if its time is over by then.
#[test]
fn a_wait_for_itself_ends_whatever_its_limit_is() {
    let dir = TestDir::new();
    let started = Instant::now();
    for limit in ["--wait", "-n", "-w1ms", "-w20ms", "-w600"] {
        let script = format!("exec 9>>f.lock; \"$BIN\" lock 9; \"$BIN\" {limit} f 9>&-");
        dir.sh(&script).stdin("x").run().assert_says(1, CLOSED);
        let script = format!("exec 9>>f.lock; \"$BIN\" lock 9; exec 8>>f.lock; \"$BIN\" lock {limit} 8 9>&-");
        dir.sh(&script).run().assert_says(1, CLOSED);
        dir.below_lock(&[], &format!("exec {FRESH} \"$BIN\" {limit} f")).stdin("new").quiet_success();
    }
    // What seems to have been taken after it had begun to wait, it takes for another's at first.
    let script = "exec 9>>f.lock; \"$BIN\" lock 9
        { touch in; while ! test -e go; do touch f.lock; done; } 9>&- & while ! test -e in; do sleep 0.01; done
        \"$BIN\" f 9>&-; code=$?; touch go; wait; exit $code";
    dir.sh(script).stdin("x").run().assert_says(1, CLOSED);
    // Of 16 waits, most of which last 20 ms, and one a second. The machine may be busy.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    dir.assert_holds(&["f", "f.lock", "go", "in"]);
}

/// By link(2) the holder's baton stands for the lock file.
#[test]
fn below_a_link_lock_without_an_environment() {
    let dir = TestDir::new();
    let link = |script: &str| dir.below_lock(&["--lock-method", "link"], script);
    let fresh = format!("{FRESH} \"$BIN\" --lock-method link");
    link(&format!("{fresh} f")).stdin("new").quiet_success();
    assert_eq!(dir.read("f"), "new");
    link(&format!("{FRESH} \"$BIN\" lock --lock-method link f -- {fresh} -n f")).stdin("newer").quiet_success();
    assert_eq!(dir.read("f"), "newer");
    if needs("python3") {
        let script = "import os, subprocess, sys
sys.exit(subprocess.run([os.environ['BIN'], '--lock-method', 'link', 'f'], input=b'x').returncode)";
        let done = dir.awrite(["lock", "--lock-method", "link", "f", "--", "python3", "-c", script]).run();
        done.assert_says(1, CLOSED);
    }
    dir.assert_holds(&["f"]);
}

/// Link locks are for network file systems, where a shell locks its descriptor by flock all the same.
#[test]
fn one_that_locks_by_link_below_a_flock() {
    let dir = TestDir::new();
    let link = "\"$BIN\" --lock-method link f";
    dir.below_lock(&[], &format!("{FRESH} {link}")).stdin("new").quiet_success();
    dir.sh(&format!("exec 9>>f.lock; \"$BIN\" lock 9; {link} 9>&-")).stdin("x").run().assert_says(1, CLOSED);
    dir.sh(&format!("exec 9>>f.lock; \"$BIN\" lock 9; {link}")).stdin("newer").quiet_success();
    assert_eq!(dir.read("f"), "newer");
    if needs("flock") {
        dir.sh(&format!("exec 9>>f.lock; flock 9; {link}")).stdin("x").run().assert_says(1, OWN);
    }
    dir.assert_holds(&["f", "f.lock"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// A descriptor of the shell

#[test]
fn under_a_descriptor_of_the_shell() {
    let dir = TestDir::new();
    let script = "exec 9>>f.lock; \"$BIN\" lock 9 || exit
        echo 1 | \"$BIN\" f; \"$BIN\" lock f -- sh -c 'cat f; echo 2 | \"$BIN\" -n f'
        \"$BIN\" f -- sh -c 'cat; echo 3'
        touch in; while ! test -e go; do sleep 0.01; done
        exec \"$BIN\" lock -u 9";
    let holder = dir.sh(script).spawn();
    wait_until("the shell has written", || dir.join("in").exists());
    assert_eq!(dir.read("f"), "2\n3\n");
    assert!(lock_is_held(&dir.join("f.lock")));
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    dir.file("go", "");
    assert_eq!(holder.finish().ok().stdout, "1\n");
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    dir.assert_holds(&["f", "go", "in"]);
    // A number that is used for another file below, and shared ones.
    let script = "exec 9>>f.lock; \"$BIN\" lock 9 && \"$BIN\" lock f -c 'exec 9>other; echo y | \"$BIN\" f'";
    dir.sh(script).quiet_success();
    let script = "exec 9<>f.lock; \"$BIN\" lock -s 9 && \"$BIN\" lock -s f -- true && \"$BIN\" f";
    dir.sh(script).stdin("x").run().assert_says(1, "An exclusive lock cannot be taken below a shared one");
}

/// The kernel shares a byte with those only who may read the file.
#[test]
fn a_shared_lock_needs_a_descriptor_for_reading() {
    let dir = TestDir::new();
    let beside = |open: &str| {
        let script = format!(
            "(exec {open}; \"$BIN\" lock -s 9; touch in; while ! test -e go; do sleep 0.01; done) &
            while ! test -e in; do sleep 0.01; done
            \"$BIN\" lock -ns f -- true; code=$?; touch go; wait; rm in go; exit $code"
        );
        dir.below_lock(&[], &script)
    };
    beside("9<>f.lock").quiet_success();
    let done = beside("9>>f.lock").run();
    done.assert_says(2, "opened for writing only: below another lock, it keeps out other shared locks too");
    // Where nobody is above, it shares.
    dir.sh("exec 9>>f.lock; \"$BIN\" lock -s 9; exec 8>>f.lock; \"$BIN\" lock -ns 8 9>&-").quiet_success();
    if !needs_strace() {
        return;
    }
    for (open, option, hint) in [
        ("9>>f.lock", "-s", Some("a shared lock needs a descriptor for reading here (9<>FILE.lock)")),
        ("9<f.lock", "-x", Some("an exclusive lock needs a descriptor for writing here (9>>FILE.lock)")),
        ("9>>f.lock", "-x", None),
        ("9<f.lock", "-s", None),
    ] {
        let refused = |error: &str| {
            let as_on_nfs = format!("strace -o /dev/null -e trace=flock -e inject=flock:error={error}");
            dir.sh(&format!("exec {open}; exec {as_on_nfs} \"$BIN\" lock {option} 9")).run()
        };
        let done = refused("EBADF");
        done.assert_error(1, "Error: descriptor 9: cannot lock: Bad file descriptor");
        assert_eq!(done.lines().iter().find_map(|line| line.strip_prefix("Hint: ")), hint, "{open} {option}");
        // Another error is not about the descriptor's mode.
        let done = refused("EIO");
        assert_eq!(done.lines(), ["Error: descriptor 9: cannot lock: Input/output error"]);
    }
}

#[test]
fn unlocking_a_descriptor_waits_for_those_below() {
    let dir = TestDir::new();
    let inner = "\"$BIN\" lock f -c 'touch in; while ! test -e go; do sleep 0.01; done; touch done' &
        while ! test -e in; do sleep 0.01; done";
    for unlock in ["-u 9", "-s 9"] {
        let script = format!(
            "exec 9<>f.lock; \"$BIN\" lock 9; {inner}; touch unlocking; \"$BIN\" lock {unlock}; test -e done; exit $?"
        );
        let holder = dir.sh(&script).spawn();
        wait_until("it unlocks", || dir.join("unlocking").exists());
        dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
        dir.file("go", "");
        holder.finish().ok();
        for file in ["in", "go", "done", "unlocking"] {
            fs::remove_file(dir.join(file)).unwrap();
        }
    }
}

#[test]
fn the_wait_for_those_below_a_descriptor_can_be_ended() {
    let dir = TestDir::new();
    let script = "exec 9<>f.lock; \"$BIN\" lock 9
        \"$BIN\" lock f -c 'touch in; while ! test -e go; do sleep 0.01; done' & while ! test -e in; do sleep 0.01; done
        for limit in -n -w0.05; do \"$BIN\" lock -q $limit 9; echo $?; done
        exec \"$BIN\" lock -u 9";
    let mut holder = dir.sh(script).spawn();
    holder.wait_for_stderr("still work under it: waiting for their end");
    holder.signal(Signal::TERM);
    let done = holder.finish();
    done.assert_code(3);
    assert_eq!(done.stdout, "2\n2\n");
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    dir.file("go", "");
    dir.awrite(["-w", "30", "f"]).stdin("x").run().ok();
}

/// One that is locked below another of the same shell can be locked again. To give up the other one first would be to wait
/// for itself.
#[test]
fn descriptors_of_one_shell_below_each_other() {
    let dir = TestDir::new();
    let script = "exec 9<>f.lock 8<>f.lock; \"$BIN\" lock 9 && \"$BIN\" lock 8 || exit
        \"$BIN\" lock 8 && \"$BIN\" lock -s 8 && \"$BIN\" lock -n 8 && echo x | \"$BIN\" f || exit
        \"$BIN\" lock -u 9 && exit; \"$BIN\" lock 9 && exit
        \"$BIN\" lock -n f 8>&- 9>&- -- true && exit
        \"$BIN\" lock -u 8 && \"$BIN\" lock -u 9 && \"$BIN\" lock -n f 8>&- 9>&- -- true && echo done";
    let done = dir.sh(script).run();
    assert_eq!(done.stdout, "done\n", "{done:?}");
    let refused = "Error: descriptor 9: The lock is shared with another descriptor of this process\n\
        Hint: give up the lock of descriptor 8 first, which was taken below this one\n";
    assert!(done.stderr.starts_with(&refused.repeat(2)), "{done:?}");
    assert_eq!(dir.read("f"), "x\n");
}

/// The environment names the lock above, and the descriptor's is nearer.
#[test]
fn below_a_descriptor_below_a_lock() {
    let dir = TestDir::new();
    let script = "exec 9<>f.lock; \"$BIN\" lock 9 && \"$BIN\" -w 60 f && \"$BIN\" lock -n f -- true";
    dir.below_lock(&[], script).stdin("x").run().ok();
    dir.assert_holds(&["f"]);
}

/// The tutorial's way.
#[test]
fn increments_under_a_descriptor_of_the_shell_are_not_lost() {
    let dir = TestDir::new();
    dir.file("n", "0\n");
    let script = "i=0; while test $i -lt 15; do
            until exec 9>>n.lock; \"$BIN\" lock -q -w 20 9; do test $? = 2 || exit; done
            read n <n; echo $((n + 1)) | \"$BIN\" -q n || exit
            \"$BIN\" lock -u 9
            i=$((i + 1)); done";
    let runs: Vec<Running> = (0..4).map(|_| dir.sh(script).spawn()).collect();
    for run in runs {
        run.finish().ok();
    }
    assert_eq!(dir.read("n"), "60\n");
}

#[test]
fn what_another_program_has_locked_is_an_error_where_it_is_inherited() {
    if !needs("flock") {
        return;
    }
    let dir = TestDir::new();
    for script in [
        "exec 9>>f.lock; flock 9; \"$BIN\" f",
        "flock f.lock \"$BIN\" f",
        "flock -F f.lock \"$BIN\" f",
        "flock f.lock sh -c '\"$BIN\" -w 5 f'",
        // A descriptor for reading cannot wait for those below.
        "exec 9>>f.lock; exec 9<f.lock; \"$BIN\" lock 9; \"$BIN\" f",
        "exec 9>>f.lock; flock 9; exec 8>>f.lock; \"$BIN\" lock 8",
    ] {
        dir.sh(script).stdin("x").run().assert_says(1, OWN);
    }
    // Not to wait is no mistake.
    dir.sh("exec 9>>f.lock; flock 9; \"$BIN\" -n f").stdin("x").run().assert_code(2);
    dir.sh("exec 9>>f.lock; flock 9; \"$BIN\" -w 50ms f 9>&-").stdin("x").run().assert_code(2);
}

// ---------------------------------------------------------------------------------------------------------------------
// Where nothing can be handed over

/// Root's 0644, in a directory where this user may write.
#[test]
fn below_a_lock_file_that_may_only_be_read() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file("f.lock", "");
    chmod(&dir.join("f.lock"), 0o444);
    let below = |outer: &str, inner: &str| {
        let script = format!("\"$BIN\" lock {inner} f -- true");
        dir.awrite_unprivileged(["lock", "--keep-lock", outer, "f", "-c", &script]).run()
    };
    below("-x", "-x").assert_says(1, OWN);
    below("-x", "-s").assert_says(1, OWN);
    below("-s", "-x").assert_says(1, OWN);
    if needs("python3") {
        let script = "import os, subprocess, sys
sys.exit(subprocess.run([os.environ['BIN'], 'f'], input=b'x').returncode)";
        let args = ["lock", "--keep-lock", "f", "--", "python3", "-c", script];
        dir.awrite_unprivileged(args).run().assert_says(1, CLOSED);
    }
    // Shared ones need nobody's leave, and each has the lock until its own end.
    below("-s", "-s").ok();
    let inner =
        "\"$BIN\" lock --keep-lock -s f -c 'touch in; while ! test -e go; do sleep 0.01; done' >/dev/null 2>&1 &
        while ! test -e in; do sleep 0.01; done";
    dir.awrite_unprivileged(["lock", "--keep-lock", "-s", "f", "-c", inner]).run().ok();
    dir.awrite(["lock", "--keep-lock", "-n", "f", "--", "true"]).run().assert_code(2);
    dir.file("go", "");
    dir.awrite(["lock", "--keep-lock", "-w", "30", "f", "--", "true"]).run().ok();
    if is_root() {
        // The holder may write it, and the one below may not.
        chmod(&dir.join("f.lock"), 0o644);
        let script = "exec setpriv --reuid=65534 --clear-groups \"$NOBODYS\" lock f -- true";
        let done = dir.below_lock(&["--keep-lock"], script).env("NOBODYS", dir.reachable_binary()).run();
        done.assert_says(1, "which may not write the lock file");
    }
}

fn without_ofd_locks(dir: &TestDir) -> Option<PathBuf> {
    if !needs("cc") {
        return None;
    }
    let program = dir.join("no_ofd");
    let output = Command::new("cc").arg("-o").arg(&program).arg(source("no_ofd.c")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    if Command::new(&program).arg("true").status().is_ok_and(|status| status.success()) {
        return Some(program);
    }
    say("skipped: no seccomp here");
    None
}

#[test]
fn where_there_are_no_record_locks() {
    let (programs, dir) = (TestDir::new(), TestDir::new());
    let Some(no_ofd) = without_ofd_locks(&programs) else { return };
    let no_ofd = no_ofd.to_str().unwrap();
    let awrite = |args: &[&str]| dir.program(no_ofd, [&[crate::common::AWRITE], args].concat());
    dir.file("f", "old");
    for script in ["\"$BIN\" lock f -- true", "\"$BIN\" -w 5 f", "env -i \"$BIN\" f", "\"$BIN\" lock -s f -- true"] {
        awrite(&["lock", "f", "-c", script]).stdin("x").run().assert_says(1, OWN);
    }
    awrite(&["f", "--", "sh", "-c", "echo x | \"$BIN\" f"]).run().assert_says(1, OWN);
    dir.program(no_ofd, ["sh", "-c", "exec 9>>f.lock; \"$BIN\" lock 9; \"$BIN\" f"])
        .stdin("x")
        .run()
        .assert_says(1, OWN);
    if needs("python3") {
        let script = "import os, subprocess, sys
sys.exit(subprocess.run([os.environ['BIN'], 'f'], input=b'x').returncode)";
        awrite(&["lock", "f", "--", "python3", "-c", script]).run().assert_says(1, CLOSED);
    }
    fs::remove_file(dir.join("f.lock")).unwrap_or(());
    // What needs no nesting works.
    awrite(&["lock", "-s", "f", "--", crate::common::AWRITE, "lock", "-s", "f", "--", "true"]).quiet_success();
    awrite(&["lock", "-o", "f", "-c", "\"$BIN\" -w 50ms f"]).stdin("x").run().assert_code(2);
    awrite(&["lock", "f", "-c", "sleep 600 >/dev/null 2>&1 & echo $! >pid"]).quiet_success();
    awrite(&["-n", "f"]).stdin("new").quiet_success();
    dir.sh("kill $(cat pid); rm pid").quiet_success();
    assert_eq!(dir.read("f"), "new");
    dir.assert_holds(&["f"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Levels, namespaces, daemons, signals

#[test]
fn levels_may_have_one_process_id() {
    let dir = TestDir::new();
    let script = "exec \"$BIN\" lock -F f -- \"$BIN\" lock f -- \"$BIN\" lock -w 5 f -- true";
    dir.sh(script).quiet_success();
    let script = "exec \"$BIN\" lock -F f -- \"$BIN\" lock -F f -- \"$BIN\" lock -F f -- \"$BIN\" -w 5 f";
    dir.sh(script).stdin("x").quiet_success();
    assert_eq!(dir.read("f"), "x");
    if !needs_pid_namespaces() {
        return;
    }
    let inside = "unshare --pid --fork --mount-proc \"$BIN\" lock";
    let script = format!("\"$BIN\" lock f -- {inside} f -- {inside} f -- {inside} -w 5 f -- true");
    dir.sh(&script).quiet_success();
    // Two that share it, each with the first id of its namespace, and a daemon below one of them.
    let script = format!(
        "{inside} -s f -- {inside} -s f -- sh -c 'touch in; while ! test -e go; do sleep 0.01; done' &
        while ! test -e in; do sleep 0.01; done
        {inside} -s f -- sh -c 'touch go; true'; wait; \"$BIN\" lock -n f -- true"
    );
    dir.sh(&script).quiet_success();
}

#[test]
fn a_daemon_does_not_get_a_shared_lock_left() {
    let dir = TestDir::new();
    let script =
        "\"$BIN\" lock -s f -- \"$BIN\" lock -s f -- sh -c 'touch in; while ! test -e go; do sleep 0.01; done' &
        while ! test -e in; do sleep 0.01; done
        \"$BIN\" lock -s f -c 'sleep 600 >/dev/null 2>&1 & echo $! >pid'
        touch go; wait; \"$BIN\" lock -n f -- true; code=$?; kill $(cat pid); exit $code";
    dir.sh(script).run().ok();
    dir.assert_holds(&["go", "in", "pid"]);
}

/// Bytes that are dropped after the flock say that somebody is below, when the next one has the lock already.
#[test]
fn the_bytes_are_dropped_before_the_flock() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let trace = dir.join("trace");
    let strace = ["-o", trace.to_str().unwrap(), "-e", "trace=fcntl,flock,unlinkat,unlink", crate::common::AWRITE];
    dir.program("strace", [&strace[..], &["lock", "f", "--", "true"]].concat()).run().ok();
    let text = dir.read("trace");
    let find = |words: &str| text.rfind(words).unwrap_or_else(|| panic!("{words}\n{text}"));
    let (unmarked, removed, unlocked) = (find("F_UNLCK"), find("unlink"), find("LOCK_UN"));
    assert!(unmarked < removed && removed < unlocked, "{text}");
}

/// Nobody but somebody who insists ends the wait for those that COMMAND has left: then they keep the lock.
#[test]
fn a_second_signal_ends_the_wait_for_those_below() {
    let dir = TestDir::new();
    let script = "\"$BIN\" lock f -c 'touch in; while ! test -e go; do sleep 0.01; done' >/dev/null 2>&1 &
        while ! test -e in; do sleep 0.01; done";
    let mut holder = dir.below_lock(&[], script).spawn();
    holder.wait_for_stderr("still work under it");
    holder.signal(Signal::TERM);
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert!(!holder.has_ended());
    holder.signal(Signal::TERM);
    holder.finish().assert_code(3);
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    dir.file("go", "");
    dir.awrite(["-w", "30", "f"]).stdin("x").run().ok();
    dir.assert_holds(&["f", "go", "in"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Other things that are held

#[test]
fn a_lease_taken_below_a_lock_is_its_owner_s() {
    let dir = TestDir::new();
    let acquire = "\"$BIN\" lock -q --acquire --owner";
    let script = format!(
        "{acquire} A --ttl 60 f >/dev/null; {acquire} B -n --ttl 60 f; test $? = 2 || exit 98
        echo x | \"$BIN\" -qn --owner B f; test $? = 2 || exit 97
        \"$BIN\" lock -qn f -- true; test $? = 2 || exit 96
        echo mine | \"$BIN\" -n f || exit 95
        echo ours | \"$BIN\" -n --owner A f"
    );
    dir.below_lock(&[], &script).run().ok();
    assert_eq!(dir.read("f"), "ours\n");
    dir.awrite(["-qn", "f"]).stdin("x").run().assert_code(2);
}

/// Several targets may share a lock file: the output of a command replaces one of them.
#[test]
fn another_target_with_the_same_lock_file_may_be_written_below() {
    let dir = TestDir::new();
    let script = "echo a | \"$BIN\" --lock-file L g; echo b";
    dir.awrite(["--lock-file", "L", "f", "--", "sh", "-c", script]).quiet_success();
    assert_eq!((dir.read("f").as_str(), dir.read("g").as_str()), ("b\n", "a\n"));
    let script = "echo a | \"$BIN\" --lock-file L f; echo b";
    let done = dir.awrite(["--lock-file", "L", "f", "--", "sh", "-c", script]).run();
    done.assert_says(0, "This runs below a command whose output is about to replace the file");
}
