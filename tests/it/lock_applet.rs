//! `awrite-lock`: a command under the lock, its status, its signals, and the lock through a descriptor.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::common::{
    Held, Run, Running, TestDir, lock_is_held, needs, needs_pid_namespaces, somebody_waits_for, wait_until,
};

/// `awrite-lock` with these arguments.
/// One that has started its command, which says so by making the file `started`. The script comes behind that.
fn started(dir: &TestDir, options: &[&str], script: &str) -> Running {
    started_as(dir, dir.lock(&[options, &["f", "-c", &announced(script)]].concat()))
}

fn announced(script: &str) -> String {
    format!("echo $$ > pid.new; mv pid.new started; {script}")
}

fn started_as(dir: &TestDir, run: Run) -> Running {
    let mut running = run.spawn();
    wait_until("COMMAND runs", || {
        assert!(!running.has_ended(), "{}", running.stderr());
        dir.join("started").exists()
    });
    running
}

#[track_caller]
fn command_has_ended(dir: &TestDir) -> bool {
    let pid = dir.read("started").trim().to_owned();
    // It may still be a zombie that its new parent has not reaped.
    fs::read_to_string(format!("/proc/{pid}/status")).map_or(true, |text| text.contains("State:\tZ"))
}

// ---------------------------------------------------------------------------------------------------------------------
// A command

#[test]
fn the_lock_is_awrites_and_held_while_command_runs() {
    let dir = TestDir::new();
    let script = "test -e f.lock && \"$BIN\" -n f < /proc/version";
    for args in [&["f", "-c", script][..], &["f", "--", "sh", "-c", script], &["--", "f", "--", "sh", "-c", script]] {
        let done = dir.lock(&[&["--close"], args].concat()).run();
        done.assert_error(2, "Error: f: File locked by another process").assert_hint("held by PID");
        dir.assert_holds(&[]);
    }
    dir.awrite(["f", "-c"]).arg0("awrite-lock").run().assert_code(1);
    dir.program("sh", ["-c", "exec \"$BIN\" f -- true"]).run().assert_code(1);
}

#[test]
fn command_has_stdin_stdout_and_its_arguments() {
    let dir = TestDir::new();
    let done = dir
        .lock(&["f", "--", "sh", "-c", "cat; printf '[%s]' \"$@\"; echo err >&2", "x", "--", "-n", "", "a b"])
        .stdin("in ")
        .run();
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "in [--][-n][][a b]", "err\n"));
    let done = dir.lock(&["-v", "f", "--", "true"]).run();
    assert_eq!(done.ok().lines(), ["Lock acquired: f.lock", "Lock released: f.lock"]);
    dir.assert_holds(&[]);
}

#[test]
fn its_status_is_commands() {
    let dir = TestDir::new();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 2", 2),
        ("exit 77", 77),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -INT $$", 130),
        ("kill -SEGV $$", 139),
    ] {
        let done = dir.lock(&["f", "-c", script]).run();
        assert_eq!((done.code, done.stderr.as_str()), (Some(status), ""), "{script}");
        dir.assert_holds(&[]);
    }
}

#[test]
fn what_cannot_be_run_is_126_or_127() {
    let dir = TestDir::new();
    for option in ["--quiet", "--no-fork", "--close"] {
        let done = dir.lock(&[option, "f", "--", "no-such-program"]).run();
        done.assert_error(127, "Error: f: cannot run no-such-program: No such file or directory");
        dir.file_with_mode("plain", "x", 0o644);
        let done = dir.lock(&[option, "f", "--", "./plain"]).run();
        done.assert_error(126, "Error: f: cannot run ./plain: Permission denied");
        dir.assert_holds(&["plain"]);
    }
    let done = dir.lock(&["--json", "f", "--", "no-such-program"]).run();
    assert!(done.lines().iter().any(|line| line.contains("\"exit_code\":127")), "{done:?}");
}

#[test]
fn a_held_lock() {
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    for args in [&["-n"][..], &["--nb"], &["--nonblock"], &["--no-wait"], &["-w", "0"], &["--timeout=0"]] {
        let done = dir.lock(&[args, &["f", "--", "touch", "was-run"]].concat()).run();
        done.assert_error(2, "Error: f: File locked by another process");
    }
    let done = dir.lock(&["-w", "100ms", "f", "--", "touch", "was-run"]).run();
    done.assert_error(2, "Error: f: Lock acquisition timeout after 100ms");
    for (code, args) in [(0, ["-E", "0"]), (77, ["-E", "77"]), (255, ["--conflict-exit-code", "255"])] {
        dir.lock(&[&args[..], &["-n", "f", "--", "touch", "was-run"]].concat()).run().assert_code(code);
        dir.lock(&[&args[..], &["-t", "50ms", "f", "--", "touch", "was-run"]].concat()).run().assert_code(code);
    }
    let done = dir.lock(&["-E", "9", "no/such/dir/f", "--", "true"]).run();
    done.assert_code(1);
    let mut waiter = dir.lock(&["f", "--", "echo", "ran"]).spawn();
    waiter.wait_for_waiting();
    held.release();
    let done = waiter.finish();
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "ran\n"));
    assert_eq!(done.lines(), ["Waiting for lock on f...", "Lock acquired"]);
    dir.assert_holds(&[]);
}

#[test]
fn shared_locks_are_shared_and_keep_writers_out() {
    let dir = TestDir::new();
    let readers: Vec<Running> = (0..3)
        .map(|_| {
            let _ = fs::remove_file(dir.join("started"));
            started_as(&dir, dir.lock(&["-s", "f", "-c", &announced("cat")]).stdin_open())
        })
        .collect();
    dir.lock(&["-n", "f", "--", "true"]).run().assert_code(2);
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    dir.lock(&["-s", "-n", "f", "--", "true"]).run().assert_code(0);
    for reader in readers {
        assert!(dir.join("f.lock").exists());
        reader.finish().ok();
    }
    dir.assert_holds(&["started"]);
}

#[test]
fn lock_options_are_the_write_applets() {
    let dir = TestDir::new();
    dir.dir("locks");
    dir.lock(&["--lock-file", "l", "f", "--", "test", "-e", "l"]).quiet_success();
    let script = "test \"$(ls locks | wc -l)\" = 1";
    dir.lock(&["--lock-dir", "locks", "f", "-c", script]).quiet_success();
    dir.lock(&["f", "-c", script]).env("AWRITE_LOCK_DIR", "locks").quiet_success();
    dir.lock(&["--lock-mode", "640", "f", "-c", "test \"$(stat -c %a f.lock)\" = 640"]).quiet_success();
    dir.assert_holds(&["locks"]);
    dir.lock(&["--keep-lock", "f", "--", "true"]).quiet_success();
    dir.assert_holds(&["f.lock", "locks"]);
}

#[test]
fn a_directory_however_it_is_typed() {
    let dir = TestDir::new();
    dir.dir("repo");
    let run = |name: &str, script: &str| dir.sh(&format!("cd repo; exec \"$BIN\" lock '{name}' -c '{script}'"));
    for name in ["../repo", "../repo/", "../repo//.", ".", "./", "../repo/../repo"] {
        let done = run(name, "test -e ../repo.lock").run();
        assert!(done.ok().stderr.ends_with(
            ": a directory: this covers its name, and not the files in it, which have locks of their own\n"
        ));
    }
    run("/", "true").run().assert_error_with(1, &["Error: /: ", "directory"]);
    dir.assert_holds(&["repo"]);
}

/// The lock is that of what the link leads to.
#[test]
fn a_link_to_a_directory_or_device_is_as_good() {
    let dir = TestDir::new();
    fs::create_dir_all(dir.join("releases/5/deep")).unwrap();
    for (name, to) in
        [("current", "releases/5"), ("slash", "releases/5/"), ("dot", "releases/5/."), ("up", "releases/5/deep/..")]
    {
        std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        std::os::unix::fs::symlink(name, dir.join(format!("to-{name}"))).unwrap();
        for name in [name.to_owned(), format!("to-{name}"), format!("{name}/")] {
            dir.lock(&["-q", &name, "-c", "test -e releases/5.lock && \"$BIN\" lock -qn releases/5 -- true"])
                .quiet_success();
            // To write it is as impossible as ever.
            dir.awrite([&name]).stdin("x").run().assert_error_with(1, &[&format!("Error: {name}: Is a directory")]);
        }
    }
    std::os::unix::fs::symlink("/dev/null", dir.join("device")).unwrap();
    dir.lock(&["--lock-dir", ".", "device", "-c", "test -e %dev%null.lock"]).quiet_success();
    dir.awrite(["device"]).stdin("x").run().assert_error_with(1, &["device: Is a character device"]);
    // A link that leads nowhere means the file that is to be.
    std::os::unix::fs::symlink("new", dir.join("dangling")).unwrap();
    dir.lock(&["dangling", "-c", "test -e new.lock"]).quiet_success();
    std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
    dir.lock(&["loop", "-c", "true"]).run().assert_error_with(1, &["loop: "]);
    assert_eq!(fs::read_dir(dir.join("releases")).unwrap().count(), 1);
}

#[test]
fn bad_usage_names_the_option() {
    let dir = TestDir::new();
    for (args, words) in [
        (&["-w", "x", "f", "--", "true"][..], "--timeout: 'x' is not a duration"),
        (&["f", "true"], "put -- before COMMAND"),
        (&["f"], "COMMAND is missing"),
        (&["-o", "-F", "f", "--", "true"], "--no-fork: contradicts --close"),
        (&["-E", "300", "f", "--", "true"], "--conflict-exit-code: '300'"),
        (&["--acquire", "--owner", "me", "f"], "--acquire: needs --ttl"),
    ] {
        let done = dir.lock(args).run();
        done.assert_error_with(1, &[words]).assert_hint("awrite-lock --help");
    }
    dir.assert_holds(&[]);
}

#[test]
fn no_fork_becomes_command() {
    let dir = TestDir::new();
    let mut running = started(&dir, &["--no-fork"], "exec sleep 600");
    assert_eq!(dir.read("started").trim(), running.id().to_string());
    assert!(lock_is_held(&dir.join("f.lock")));
    running.signal(Signal::TERM);
    wait_until("it ends", || running.has_ended());
    assert_eq!(running.finish().signal, Some(15));
    dir.assert_holds(&["f.lock", "started"]);
    dir.awrite(["-n", "f"]).stdin("x").quiet_success();
    dir.assert_holds(&["f", "started"]);
}

/// A daemon that COMMAND leaves behind has the descriptor, but not the lock.
#[test]
fn a_daemon_does_not_keep_the_lock() {
    let dir = TestDir::new();
    for option in ["--quiet", "--close", "--shared"] {
        let script = "sleep 600 > /dev/null 2>&1 & echo $! > daemon";
        dir.lock(&[option, "f", "-c", script]).quiet_success();
        let daemon = dir.read("daemon").trim().to_owned();
        dir.assert_holds(&["daemon"]);
        dir.awrite(["-n", "f"]).stdin("x").quiet_success();
        dir.sh(&format!("kill {daemon}")).quiet_success();
        fs::remove_file(dir.join("f")).unwrap();
    }
}

#[test]
fn close_keeps_the_descriptor_from_command() {
    let dir = TestDir::new();
    let script = "ls -l /proc/self/fd | grep -c f.lock; echo ${AWRITE_HELD-none}";
    let closed = dir.lock(&["-o", "f", "-c", script]).run().stdout;
    assert!(closed.starts_with("0\n-:"), "{closed}");
    let open = dir.lock(&["f", "-c", script]).run().stdout;
    assert!(open.starts_with("1\n1"), "{open}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Signals

const SIGNALS: [(Signal, i32); 6] =
    [(Signal::TERM, 15), (Signal::INT, 2), (Signal::HUP, 1), (Signal::QUIT, 3), (Signal::USR1, 10), (Signal::USR2, 12)];

#[test]
fn a_signal_goes_to_command_and_the_lock_is_released_after_it() {
    let dir = TestDir::new();
    for option in ["--quiet", "--close", "--shared"] {
        for (signal, number) in SIGNALS {
            // No core files.
            let mut running = started(&dir, &[option], "ulimit -c 0; exec sleep 600");
            running.signal(signal);
            wait_until("it ends", || running.has_ended());
            let done = running.finish();
            assert_eq!((done.code, done.stderr.as_str()), (Some(128 + number), ""), "{number}");
            assert!(command_has_ended(&dir));
            dir.assert_holds(&["started"]);
            fs::remove_file(dir.join("started")).unwrap();
        }
    }
}

/// awrite-lock passes signals on and waits until COMMAND ends, so that nobody is left with the lock.
#[test]
fn it_outlives_a_command_that_takes_its_time() {
    let dir = TestDir::new();
    let script = "trap 'echo caught >> caught' TERM; touch armed; while test ! -e go; do sleep 0.01; done; exit 5";
    let mut running = started(&dir, &[], script);
    wait_until("the trap is set", || dir.join("armed").exists());
    for count in 1..=3 {
        running.signal(Signal::TERM);
        wait_until("COMMAND has caught it", || {
            dir.join("caught").exists() && dir.read("caught").lines().count() == count
        });
        assert!(!running.has_ended());
        assert!(lock_is_held(&dir.join("f.lock")));
    }
    dir.file("go", "");
    wait_until("it ends", || running.has_ended());
    running.finish().assert_code(5);
    assert_eq!(dir.read("caught").lines().count(), 3);
    assert!(!dir.join("f.lock").exists());
}

#[test]
fn a_signal_while_waiting_ends_it_and_leaves_the_others_lock() {
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    for (signal, _) in &SIGNALS[..3] {
        for wait in ["--wait", "--timeout=600"] {
            let mut waiter = dir.lock(&[wait, "f", "--", "touch", "was-run"]).spawn();
            waiter.wait_for_waiting();
            wait_until("it waits", || somebody_waits_for(held.inode()));
            waiter.signal(*signal);
            wait_until("it ends", || waiter.has_ended());
            let done = waiter.finish();
            done.assert_code(3);
            assert!(done.lines().contains(&"Interrupted"), "{done:?}");
            assert!(lock_is_held(&dir.join("f.lock")));
        }
    }
    dir.assert_holds(&["f.lock"]);
}

/// A signal at any moment of the start never leaves COMMAND running without its lock.
#[test]
fn a_signal_at_any_moment_leaves_no_orphan() {
    let dir = TestDir::new();
    let (mut before, mut after) = (0, 0);
    for round in 0..120_u32 {
        let mut running = dir.lock(&["f", "-c", "echo $$ > pid.new; mv pid.new started; exec sleep 600"]).spawn();
        if round % 4 == 0 {
            wait_until("it starts", || dir.join("started").exists());
        }
        for _ in 0..round * 20 {
            std::hint::spin_loop();
            std::thread::yield_now();
        }
        running.signal(Signal::TERM);
        wait_until("it ends", || running.has_ended());
        let done = running.finish();
        match (done.code, done.signal) {
            (Some(143), _) => after += 1,
            // The signal came before COMMAND was started.
            (Some(3), _) | (None, Some(15)) => before += 1,
            _ => panic!("{done:?}"),
        }
        if dir.join("started").exists() {
            assert!(command_has_ended(&dir), "{done:?}");
        }
        let _ = fs::remove_file(dir.join("started"));
        let _ = fs::remove_file(dir.join("pid.new"));
        dir.assert_holds(&[]);
    }
    assert!(after > 0, "{before} {after}");
}

#[test]
fn what_was_ignored_stays_ignored() {
    let dir = TestDir::new();
    let script = announced("while test ! -e go; do sleep 0.01; done");
    for (name, signal) in [("HUP", Signal::HUP), ("INT", Signal::INT), ("TERM", Signal::TERM), ("USR1", Signal::USR1)] {
        let run = dir.sh(&format!("trap '' {name}; exec \"$BIN\" lock f -c '{script}'"));
        let running = started_as(&dir, run);
        for _ in 0..5 {
            running.signal(signal);
        }
        dir.file("go", "");
        running.finish().ok();
        dir.assert_holds(&["go", "started"]);
        fs::remove_file(dir.join("go")).unwrap();
        fs::remove_file(dir.join("started")).unwrap();
    }
}

#[test]
fn command_gets_the_dispositions_and_the_mask() {
    let dir = TestDir::new();
    // The C library keeps two real-time signals for itself (digits 8 and 9 from the right): nobody else can set them.
    let look = "sed -nE 's/^(Sig(Ign|Blk|Cgt):.*)..(.{7})$/\\1\\3/p' /proc/self/status";
    for trap in ["", "trap '' HUP;", "trap '' INT TERM;", "trap '' PIPE;", "trap '' XFSZ QUIT;", "trap '' USR1 ALRM;"] {
        let direct = dir.sh(&format!("{trap} exec {look}")).run().stdout;
        for option in ["", "-o", "-F", "-s"] {
            let locked = dir.sh(&format!("{trap} exec \"$BIN\" lock {option} f -- {look}")).run().stdout;
            assert_eq!(locked, direct, "{trap} {option}");
        }
    }
    if needs("python3") {
        let blocked = "import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
os.execvp(os.environ['BIN'], ['awrite-lock', 'f', '--', 'grep', 'SigBlk', '/proc/self/status'])";
        let done = dir.program("python3", ["-c", blocked]).run();
        assert_eq!(done.ok().stdout, "SigBlk:\t0000000000004200\n");
    }
}

/// The terminal's ^C goes to its whole foreground group: COMMAND has it already. When a terminal goes, only the leader
/// of its session is told: as `ssh -t host 'awrite-lock f -- command'` has it, that is awrite-lock.
#[test]
fn a_terminal_that_goes_ends_command() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    let script = r#"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(os.environ['BIN'], ['awrite-lock', 'f', '--', 'sh', '-c', 'touch started; exec sleep 1000'])
end = time.monotonic() + 60
while not os.path.exists('started'):
    if time.monotonic() > end:
        sys.exit('waited in vain')
    time.sleep(0.001)
os.close(terminal)
_, status = os.waitpid(pid, 0)
assert os.WEXITSTATUS(status) == 129, status
"#;
    dir.program("python3", ["-c", script]).quiet_success();
    dir.assert_holds(&["started"]);
}

/// As in a container that a process has entered from outside (docker exec): the leader of the session has no number
/// here, and getsid(2) says 0.
#[test]
fn the_leader_of_the_session_may_be_outside_of_the_container() {
    if !needs_pid_namespaces() {
        return;
    }
    let dir = TestDir::new();
    let script = "test \"$(cut -d' ' -f6 /proc/self/stat)\" = 0 && exec \"$BIN\" lock f -- echo done";
    let done = dir.program("unshare", ["--pid", "--fork", "--mount-proc", "sh", "-c", script]).run();
    done.assert_code(0);
    assert_eq!(done.stdout, "done\n");
    dir.assert_holds(&[]);
}

#[test]
fn an_interrupt_from_the_terminal_arrives_once() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    let command = "trap 'echo INT >> caught' INT; trap 'echo QUIT >> caught' QUIT; touch started
while test ! -e go; do sleep 0.01; done; exit 6";
    dir.file("command", command);
    // The terminal's keys, while COMMAND, a shell that notes every signal, runs in its foreground.
    let script = r#"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(os.environ['BIN'], ['awrite-lock', 'f', '--', 'sh', 'command'])
def wait_for(holds):
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            sys.exit('waited in vain')
        time.sleep(0.001)
def caught():
    return open('caught').read().splitlines() if os.path.exists('caught') else []
wait_for(lambda: os.path.exists('started'))
for count in range(1, 6):
    os.write(terminal, b'\x03' if count % 2 else b'\x1c')
    wait_for(lambda: len(caught()) >= count)
# Or the kernel would make one of two: of the terminal's, if that is still pending, and of this.
def pending():
    lines = [line.split() for line in open(f'/proc/{pid}/status')]
    return any(int(words[1], 16) for words in lines if words[0] in ('SigPnd:', 'ShdPnd:'))
wait_for(lambda: not pending())
os.kill(pid, 2)
wait_for(lambda: len(caught()) >= 6)
open('go', 'w').close()
_, status = os.waitpid(pid, 0)
assert os.WEXITSTATUS(status) == 6, status
assert caught() == ['INT', 'QUIT', 'INT', 'QUIT', 'INT', 'INT'], caught()
"#;
    dir.program("python3", ["-c", script]).quiet_success();
    assert!(!dir.join("f.lock").exists());
}

/// COMMAND replaces awrite-lock and holds the lock as long as it runs.
#[test]
fn killed_it_leaves_the_lock_to_command() {
    let dir = TestDir::new();
    let mut running = started(&dir, &[], "while test ! -e go; do sleep 0.01; done; rm go");
    running.signal(Signal::KILL);
    wait_until("it ends", || running.has_ended());
    assert!(lock_is_held(&dir.join("f.lock")));
    dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
    let mut waiter = dir.awrite(["f"]).stdin("x").spawn();
    waiter.wait_for_waiting();
    dir.file("go", "");
    waiter.finish().ok();
    dir.assert_holds(&["f", "started"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// A descriptor

#[test]
fn a_descriptor_of_the_shell() {
    let dir = TestDir::new();
    dir.sh("exec 9>>f.lock; \"$BIN\" lock 9 || exit
        ! flock -n f.lock true 2>/dev/null || exit 99
        echo x | \"$BIN\" -n f || exit
        \"$BIN\" lock -n 9 || exit
        \"$BIN\" lock -u 9 || exit
        echo x | \"$BIN\" -n f")
        .run()
        .ok();
    dir.assert_holds(&["f"]);
    // The lock ends with the shell, and the next writer removes the file.
    dir.sh("exec 9>>f.lock; \"$BIN\" lock 9").quiet_success();
    dir.assert_holds(&["f", "f.lock"]);
    dir.awrite(["-n", "f"]).stdin("y").quiet_success();
    dir.assert_holds(&["f"]);
}

#[test]
fn a_descriptor_that_is_locked_elsewhere() {
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    let done = dir.sh("exec 9>>f.lock; exec \"$BIN\" lock -n 9").run();
    done.assert_error(2, "Error: descriptor 9: File locked by another process").assert_hint("held by PID");
    dir.sh("exec 9>>f.lock; exec \"$BIN\" lock -n -E 5 9").run().assert_code(5);
    let done = dir.sh("exec 9>>f.lock; exec \"$BIN\" lock -w 50ms 9").run();
    done.assert_error(2, "Error: descriptor 9: Lock acquisition timeout after 50ms");
    let mut waiter = dir.sh("exec 9>>f.lock; exec \"$BIN\" lock 9").spawn();
    waiter.wait_for_waiting();
    wait_until("it waits", || somebody_waits_for(held.inode()));
    held.release();
    waiter.finish().ok();
    let shared = "exec 8<f.lock 9<f.lock; \"$BIN\" lock -s 8 && \"$BIN\" lock -ns 9 && ! \"$BIN\" lock -n 9 2>&1";
    dir.sh(shared).run().ok();
}

#[test]
fn a_signal_while_waiting_for_a_descriptor() {
    let dir = TestDir::new();
    let held = Held::new(&dir.join("f.lock"));
    for wait in ["--wait", "--timeout=600"] {
        let mut waiter = dir.sh(&format!("exec 9>>f.lock; exec \"$BIN\" lock {wait} 9")).spawn();
        waiter.wait_for_waiting();
        wait_until("it waits", || somebody_waits_for(held.inode()));
        waiter.signal(Signal::TERM);
        wait_until("it ends", || waiter.has_ended());
        waiter.finish().assert_code(3);
    }
}

/// A writer that releases the lock leaves the file to a process that waits with a descriptor, however that was opened.
#[test]
fn a_descriptor_is_waited_for_with_the_file_in_place() {
    let dir = TestDir::new();
    for how in [">>", "<", "<>"] {
        let mut holder = dir.awrite(["f"]).stdin_open().spawn();
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        let script = format!("exec 9{how}f.lock; \"$BIN\" lock 9 && test -e f.lock && \"$BIN\" lock -u 9");
        let mut waiter = dir.sh(&script).spawn();
        waiter.wait_for_waiting();
        holder.feed(b"x");
        holder.finish().ok();
        waiter.finish().ok();
        dir.awrite(["f"]).stdin("x").quiet_success();
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn a_descriptor_without_a_file_is_an_error_with_a_remedy() {
    let dir = TestDir::new();
    let done = dir.sh("exec 9>>f.lock; rm f.lock; exec \"$BIN\" lock 9").run();
    done.assert_error_with(2, &["descriptor 9", "deleted"]).assert_hint("9>>");
    let done = dir.sh("exec 9>&-; exec \"$BIN\" lock 9").run();
    done.assert_error(1, "Error: descriptor 9: Bad file descriptor").assert_hint("exec 9>>FILE.lock");
    dir.awrite(["lock", "-u", "77"]).run().assert_code(1);
}

// ---------------------------------------------------------------------------------------------------------------------
// What it is for

#[test]
fn rows_of_a_database_and_commits_of_a_repository() {
    let dir = TestDir::new();
    if needs("sqlite3") {
        dir.sh("sqlite3 db 'create table t (n integer)'").quiet_success();
        let writers: Vec<Running> = (0..10)
            .map(|n| {
                let sql = format!("insert into t select {n}");
                dir.lock(&["-q", "-w", "30", "db", "--", "sqlite3", "db", &sql]).spawn()
            })
            .collect();
        for writer in writers {
            writer.finish().ok();
        }
        assert_eq!(dir.sh("sqlite3 db 'select count(*), sum(n) from t'").run().stdout, "10|45\n");
        dir.assert_holds(&["db"]);
    }
    if needs("git") {
        dir.sh("git init -q repo && cd repo && git config user.name t && git config user.email t@example.org")
            .quiet_success();
        let writers: Vec<Running> = (0..10)
            .map(|n| {
                let script = format!("cd repo && echo {n} >> log && git add log && git commit -q -m {n}");
                dir.lock(&["-q", "-w", "30", "repo", "-c", &script]).spawn()
            })
            .collect();
        for writer in writers {
            writer.finish().ok();
        }
        assert_eq!(dir.sh("cd repo && git rev-list --count HEAD && wc -l < log").run().stdout, "10\n10\n");
        assert!(!dir.join("repo.lock").exists());
    }
}

#[test]
fn few_descriptors_are_enough() {
    let dir = TestDir::new();
    let done = dir.sh("ulimit -n 20; exec \"$BIN\" lock f -c 'echo x | \"$BIN\" f'").run();
    done.ok();
    assert_eq!(dir.read("f"), "x\n");
    dir.assert_holds(&["f"]);
}

#[test]
fn a_lock_file_that_cannot_be_made_is_an_error_before_command_runs() {
    let dir = TestDir::new();
    dir.dir("d");
    fs::set_permissions(dir.join("d"), fs::Permissions::from_mode(0o555)).unwrap();
    dir.awrite_unprivileged(["lock", "d/f", "--", "touch", "was-run"]).run().assert_code(1);
    assert!(!dir.join("was-run").exists());
}
