//! Locks where numbers do not mean what they mean elsewhere: on a file system whose links differ in their numbers, on one
//! without flock(2), in other namespaces, with signs of life that fail, without descriptors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{INCREMENT, all_succeed};
use crate::common::{
    Run, Running, TestDir, assert_no_debris, needs, needs_full, needs_mount, needs_pid_namespaces, needs_root,
    needs_strace, rounds, say, wait_until,
};

/// Holds the lock of `f` by link until there is a file `go`. It has it once there is a file `ready`.
const HOLD: [&str; 7] = ["lock", "--lock-method", "link", "f", "--", "sh", "-c"];
const UNTIL_GO: &str = "touch ready; while [ ! -e go ]; do sleep .01; done";

fn hold(dir: &TestDir) -> Running {
    let holder = dir.awrite(HOLD.iter().chain([&UNTIL_GO])).spawn();
    wait_until("the lock is held", || dir.join("ready").exists());
    holder
}

#[track_caller]
fn let_go(dir: &TestDir, holder: Running) {
    dir.file("go", "");
    holder.finish().ok();
    for name in ["go", "ready"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// File systems

struct Sshfs(PathBuf);

impl Drop for Sshfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Without a network: what would be ssh is the server.
fn sshfs(dir: &TestDir) -> Option<Sshfs> {
    const SERVER: &str = "/usr/lib/openssh/sftp-server";
    if !needs_mount() || !needs("sshfs") || !Path::new("/dev/fuse").exists() {
        return None;
    }
    if !Path::new(SERVER).exists() {
        assert!(!needs("sftp-server"), "it is elsewhere");
        return None;
    }
    let (source, at) = (dir.dir("source"), dir.dir("sshfs"));
    let ssh = dir.script("ssh", &format!("#!/bin/sh\nexec {SERVER}\n"));
    let command = format!("ssh_command={}", ssh.display());
    let from = format!("host:{}", source.display());
    let status = Command::new("sshfs").args(["-o", &command, &from]).arg(&at).status().unwrap();
    assert!(status.success());
    Some(Sshfs(at))
}

/// There, each name of a file has its own inode number.
#[test]
fn by_link_over_sshfs() {
    let outer = TestDir::new();
    let Some(mount) = sshfs(&outer) else { return };
    let warning = "Warning: f: sshfs: advisory locks are unreliable here, using link locks\n";
    {
        let dir = TestDir::made_in(&mount.0);
        fs::write(dir.join("a"), "").unwrap();
        fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
        for name in ["a", "b"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
        let done = dir.awrite(["f"]).stdin("0\n").run();
        assert_eq!(done.ok().stderr, warning);
        dir.assert_holds(&["f"]);
        for method in ["auto", "link"] {
            dir.awrite(["-q", "--lock-method", method, "f"]).stdin("0\n").run().ok();
            dir.assert_holds(&["f"]);
        }
        let holder = hold(&dir);
        dir.awrite(["-n", "f"]).stdin("x").run().assert_error_with(2, &["f: File locked"]);
        let_go(&dir, holder);
        dir.assert_holds(&["f"]);
        let nested = "\"$BIN\" lock -qn f -- \"$BIN\" -qn f -- sh -c 'echo 0'";
        dir.awrite(["lock", "-q", "f", "--", "sh", "-c", nested]).run().ok();
        let dead = hold(&dir);
        dead.signal_group(Signal::KILL);
        dead.finish();
        assert!(dir.join("f.lock").exists());
        dir.awrite(["-qn", "f"]).stdin("0\n").run().ok();
        fs::remove_file(dir.join("ready")).unwrap();
        dir.assert_holds(&["f"]);
        let many = rounds(4, 20);
        let one = || dir.awrite(["-q", "f", "--", "sh", "-c", INCREMENT]).spawn();
        all_succeed((0..many).map(|_| one()).collect());
        assert_eq!(dir.read("f"), format!("{many}\n"));
        dir.assert_holds(&["f"]);
    }
    drop(mount);
    assert_no_debris(&outer.join("source"), &[]);
}

/// awrite, of whose calls of flock(2) each fails.
fn without_flock(dir: &TestDir, error: &str, args: &[&str]) -> Run {
    let injected = format!("inject=flock:error={error}");
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", &injected, env!("CARGO_BIN_EXE_awrite")];
    dir.program("strace", strace.iter().chain(args))
}

#[test]
fn a_file_system_without_flock_gets_link_locks() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for error in ["ENOSYS", "EOPNOTSUPP", "ENOLCK", "524"] {
        let done = without_flock(&dir, error, &["f"]).stdin("new").run();
        let warning = "Warning: f: no flock(2): advisory locks are unreliable here, using link locks\n";
        assert_eq!(done.ok().stderr, warning, "{error}");
        assert_eq!(dir.read("f"), "new");
        dir.assert_holds(&["f"]);
        // It excludes, too.
        let holder = hold(&dir);
        without_flock(&dir, error, &["-n", "f"]).stdin("x").run().assert_error_with(2, &["f: File locked"]);
        let_go(&dir, holder);
        // Who insists is told, and nothing stays.
        let done = without_flock(&dir, error, &["--lock-method", "flock", "f"]).stdin("x").run();
        done.assert_error_with(1, &["f: cannot lock: "]);
        dir.assert_holds(&["f"]);
    }
    dir.file("f", "0\n");
    let many = rounds(4, 20);
    let one = || without_flock(&dir, "ENOSYS", &["-q", "f", "--", "sh", "-c", INCREMENT]).spawn();
    all_succeed((0..many).map(|_| one()).collect());
    assert_eq!(dir.read("f"), format!("{many}\n"));
    dir.assert_holds(&["f"]);
    // Any other error is one.
    without_flock(&dir, "EIO", &["f"]).stdin("x").run().assert_error_with(1, &["f: cannot lock: "]);
    assert_eq!(dir.read("f"), format!("{many}\n"));
}

/// A link lock is opened so that an NFS server does not delegate it, which some file systems do not support (here ramfs).
#[test]
fn a_file_system_without_direct_io_has_link_locks() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let script = "mount -t ramfs none . && cd \"$PWD\" && echo x | \"$BIN\" --lock-method link f &&
        \"$BIN\" lock --lock-method link f -- \"$BIN\" -n f <f && cat f && ls -A";
    let done = dir.program("unshare", ["--mount", "sh", "-c", script]).run();
    assert_eq!(done.ok().stdout, "x\nf\n", "{done:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Namespaces

/// There, /proc shows every start time shifted.
#[test]
fn a_holder_in_another_time_namespace_is_alive() {
    let probe = || Command::new("unshare").args(["-T", "--boottime", "5000", "true"]).output();
    if !needs_root() || !needs("unshare") {
        return;
    }
    if !probe().is_ok_and(|done| done.status.success()) {
        return say("skipped: this kernel has no time namespaces");
    }
    let dir = TestDir::new();
    let shifted = |args: &[&str]| {
        let unshare = ["-T", "--boottime", "5000", env!("CARGO_BIN_EXE_awrite")];
        dir.program("unshare", unshare.iter().chain(args))
    };
    let holder = hold(&dir);
    for method in ["link", "flock"] {
        shifted(&["--lock-method", method, "-n", "f"]).stdin("x").run().assert_error_with(2, &["f: File locked"]);
    }
    let_go(&dir, holder);
    // The other way round.
    let all: Vec<&str> = HOLD.iter().chain([&UNTIL_GO]).copied().collect();
    let holder = shifted(&all).spawn();
    wait_until("the lock is held", || dir.join("ready").exists());
    dir.awrite(["--lock-method", "link", "-n", "f"]).stdin("x").run().assert_error_with(2, &["f: File locked"]);
    let_go(&dir, holder);
    dir.assert_holds(&[]);
}

/// There, the holder's number is that of another process in /proc, here of one that is dead.
#[test]
fn a_holder_under_a_proc_of_another_pid_namespace_is_alive() {
    if !needs_pid_namespaces() {
        return;
    }
    let dir = TestDir::new();
    // Nobody asks for its end, so it stays a zombie.
    let mut zombie = Command::new("true").spawn().unwrap();
    let state = || fs::read_to_string(format!("/proc/{}/stat", zombie.id())).unwrap();
    wait_until("it has ended", || state().contains(") Z "));
    // The next process after the first command gets that number.
    let script = format!(
        "echo {} >/proc/sys/kernel/ns_last_pid; \"$BIN\" {} '{UNTIL_GO}' & while [ ! -e ready ]; do sleep .01; done
         grep -q '\"pid\":{},' f.lock || {{ echo its number is another; cat f.lock; }}
         \"$BIN\" --lock-method link -n f </dev/zero; echo $?; touch go; wait",
        zombie.id() - 1,
        HOLD.join(" "),
        zombie.id(),
    );
    let done = dir.program("unshare", ["--pid", "--fork", "sh", "-c", &script]).run();
    zombie.wait().unwrap();
    assert_eq!(done.stdout, "2\n", "{done:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// What fails

#[test]
fn a_sign_of_life_that_fails_is_tried_again_soon() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=utimensat:error=EIO:when=1..2"];
    let script = ": >ready; sleep 2.5";
    let all = strace.iter().chain([&env!("CARGO_BIN_EXE_awrite")]).chain(&HOLD).chain([&script]);
    let done = dir.program("strace", all).env("AWRITE_STALE_AFTER", "1500ms").run();
    assert_eq!(done.ok().stderr, "");
    dir.assert_holds(&["ready"]);
}

/// COMMAND is gone before another can break a lock that gets no sign of life any more: it fails, or a server does not
/// answer.
#[test]
fn kill_after_is_over_before_the_lock_is_broken() {
    if !needs_strace() {
        return;
    }
    kill_after_is_over_with("inject=utimensat:error=EIO");
    if needs_full() {
        // In each thread the first one, which takes longer than the stale time.
        kill_after_is_over_with("inject=utimensat:delay_enter=5000000:when=1");
    }

    let dir = TestDir::new();
    let args = ["lock", "--lock-method", "link", "--kill-after", "2", "f", "--", "touch", "g"];
    let done = dir.awrite(args).env("AWRITE_STALE_AFTER", "3").run();
    done.assert_error_with(1, &["f.lock: --kill-after: is more than half of"]).assert_hint("AWRITE_STALE_AFTER");
    dir.assert_holds(&[]);
}

fn kill_after_is_over_with(fault: &str) {
    let dir = TestDir::new();
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", fault, env!("CARGO_BIN_EXE_awrite")];
    let script = "trap ': >told' TERM; echo $$ >pid.new; mv pid.new pid; while :; do sleep 0.1; done";
    let held = ["lock", "--lock-method", "link", "--kill-after", "1", "f", "-c", script];
    let holder = dir.program("strace", strace.iter().chain(&held)).env("AWRITE_STALE_AFTER", "3").spawn();
    wait_until("COMMAND runs", || dir.join("pid").exists());
    let rival = ["lock", "--lock-method", "link", "-w", "60", "f", "-c", "kill -0 $(cat pid) 2>/dev/null; echo $?"];
    let done = dir.awrite(rival).env("AWRITE_STALE_AFTER", "3").run();
    assert_ne!(done.ok().stdout, "0\n", "COMMAND is gone");
    let done = holder.finish();
    done.assert_error_with(2, &["f.lock: Lock lost"]);
    assert!(done.stderr.contains("f.lock: the lock is lost, COMMAND is told to stop\n"), "{done:?}");
    dir.assert_holds(&["pid", "told"]);
}

/// A release makes a name first. Where there is no room for it the lock goes all the same; and if it cannot be removed it
/// stays, for the next one to break.
#[test]
fn a_link_lock_that_meets_errors() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let release = |fault: &[&str]| {
        let strace = ["-f", "-qq", "-o", "/dev/null"];
        let lock = [env!("CARGO_BIN_EXE_awrite"), "lock", "--lock-method", "link", "f", "--", "true"];
        dir.program("strace", strace.iter().chain(fault).chain(&lock)).run()
    };
    for error in ["ENOSPC", "EMLINK", "EDQUOT"] {
        release(&["-e", &format!("inject=linkat:error={error}:when=2")]).ok();
        dir.assert_holds(&[]);
    }
    // A lock that should be handed over, and cannot be.
    let done = release(&["-e", "inject=memfd_create:error=EMFILE"]);
    done.assert_error_with(1, &["f.lock: cannot hand the lock over: Too many open files"]);
    release(&["-e", "inject=memfd_create:error=ENOSYS"]).ok();
    dir.assert_holds(&[]);
    // Nothing can be read any more: it is not asked for ever.
    let trace = ["-qq", "-o", "trace", "-e", "trace=openat,linkat"];
    let lock = [env!("CARGO_BIN_EXE_awrite"), "lock", "--lock-method", "link", "f", "--", "true"];
    dir.program("strace", trace.iter().chain(&lock)).run().ok();
    let traced = dir.read("trace");
    let before: Vec<&str> = traced.lines().take_while(|line| !line.contains("f.lock.break-")).collect();
    let opened = before.iter().filter(|line| line.starts_with("openat(")).count();
    let fault = format!("inject=openat:error=EIO:when={}+", opened + 1);
    let done = dir.program("strace", trace.iter().chain(&["-e", &fault]).chain(&lock)).run();
    assert!(done.stderr.contains("f.lock: cannot remove the lock file: Input/output error"), "{done:?}");
    for name in ["trace", "f.lock"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    // One may be an answer of NFS that was lost.
    for error in ["EEXIST", "EIO"] {
        release(&["-e", &format!("inject=unlinkat:error={error}:when=2")]);
        dir.awrite(["--lock-method", "link", "-w", "30", "f"]).stdin("x").run().ok();
        dir.assert_holds(&["f"]);
        fs::remove_file(dir.join("f")).unwrap();
    }
}

/// The server does not answer for 40 seconds.
#[test]
fn the_release_of_a_lost_lock_waits_for_no_server() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let fault = "inject=utimensat:delay_enter=40000000:when=1";
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", fault, env!("CARGO_BIN_EXE_awrite")];
    let held = ["lock", "--lock-method", "link", "--kill-after", "300ms", "f", "--", "sleep", "20"];
    let started = Instant::now();
    let mut holder = dir.program("strace", strace.iter().chain(&held)).env("AWRITE_STALE_AFTER", "1").spawn();
    // The last that it does. (strace itself waits.)
    holder.wait_for_stderr("Error: f.lock: Lock lost");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    holder.signal(Signal::KILL);
    holder.finish();
    dir.awrite(["--lock-method", "link", "-w", "30", "f"]).stdin("x").run().ok();
    dir.assert_holds(&["f"]);
}

#[test]
fn without_descriptors_no_lock_stays() {
    let dir = TestDir::new();
    let mut outcomes = [0; 2];
    for limit in 4..=14 {
        let script = format!("ulimit -n {limit}; exec \"$BIN\" --lock-method link f");
        let done = dir.sh(&script).stdin("new").run();
        outcomes[usize::from(done.code == Some(0))] += 1;
        let _ = fs::remove_file(dir.join("f"));
        assert!(dir.names().is_empty(), "{limit}: {:?} {done:?}", dir.names());
    }
    assert!(outcomes.iter().all(|&n| n > 0), "{outcomes:?}");
    for limit in 4..=9 {
        let script = format!("ulimit -n {limit}; exec \"$BIN\" lock --lock-method link f -- true");
        let done = dir.sh(&script).run();
        assert!(dir.names().is_empty(), "{limit}: {:?} {done:?}", dir.names());
    }
}
