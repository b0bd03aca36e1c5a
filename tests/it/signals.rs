//! Signals: everything is cleaned up, nothing is half done, and what was ignored stays ignored.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::common::{
    AWRITE, Done, Held, Running, TestDir, lock_is_held, needs, needs_strace, rounds, somebody_waits_for, temp_name,
    wait_until,
};

const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Waits for the end of a writer whose input stays open.
#[track_caller]
fn ended(mut writer: Running) -> Done {
    wait_until("the signal has ended it", || writer.has_ended());
    writer.finish()
}

#[track_caller]
fn assert_interrupted(done: &Done) {
    done.assert_code(3);
    assert!(done.lines().contains(&"Interrupted"), "{done:?}");
    assert_eq!(done.stdout, "");
    assert!(!done.stderr.contains("Error"), "{done:?}");
}

#[test]
fn a_signal_while_reading_leaves_everything_as_it_was() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for signal in SIGNALS {
        for option in ["--quiet", "--stream", "--append", "--backup"] {
            let mut writer = dir.awrite([option, "f"]).stdin_open().spawn();
            wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
            writer.feed(&vec![b'x'; 1 << 20]);
            writer.signal(signal);
            assert_interrupted(&ended(writer));
            assert_eq!(dir.snapshot("f"), before);
            dir.assert_holds(&["f"]);
        }
    }
}

/// A signal counts until the target is replaced, also when all input has been read.
#[test]
fn a_signal_while_the_disk_is_slow_leaves_everything_as_it_was() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    let slow = &format!("inject=fsync:delay_enter={}:when=1", rounds(500_000, 1_000_000));
    for args in [&["f"][..], &["-i", "new", "f"], &["-a", "f"]] {
        dir.file("new", "new");
        dir.file("trace", "");
        let strace = ["-f", "-o", "trace", "-e", "trace=fsync,linkat,clone,clone3", "-e", slow, AWRITE];
        let writer = dir.program("strace", strace.iter().chain(args).copied()).stdin("new").spawn();
        wait_until("it has a name", || dir.read("trace").contains(&temp_name("f")));
        let pid = dir.read("trace").split_whitespace().next().unwrap().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let done = writer.finish();
        assert_interrupted(&done);
        assert_eq!(dir.snapshot("f"), before);
        dir.assert_holds(&["f", "new", "trace"]);
        // The input was complete, so there was no reason to start a thread before the lock, and under it none may start.
        let trace = fs::read_to_string(dir.join("trace")).unwrap();
        assert!(!args.contains(&"-i") || !trace.contains("CLONE_THREAD"), "{trace}");
        fs::remove_file(dir.join("trace")).unwrap();
    }
}

/// A thread that finds no memory when it begins makes the C library abort the process, and the lock file would stay.
#[test]
fn the_signal_thread_is_there_before_the_lock() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    fs::create_dir(dir.join("d")).unwrap();
    let much = vec![b'x'; 2 << 20];
    for args in [
        &["f", "--", "cat"][..],
        &["-i", "new", "f", "--", "cat"],
        &["--validate", "true", "-i", "new", "f"],
        &["-i", "much", "f"],
        &["--stream", "f"],
        &["-a", "-i", "new", "much"],
        &["--stream", "--lock-on-commit", "-i", "new", "f"],
        &["lock", "f", "g", "--", "true"],
        &["-e", "f", "much", "--", "true"],
        &["--into", "d", "new", "much"],
    ] {
        dir.file("f", "old");
        dir.file("new", "new");
        dir.file("much", &much);
        dir.file("trace", "");
        let strace = ["-f", "-o", "trace", "-e", "trace=openat,clone,clone3", AWRITE];
        let mut writer = dir.program("strace", strace.iter().chain(args).copied()).stdin_open().spawn();
        if args.contains(&"--stream") && !args.contains(&"-i") {
            wait_until("it locks", || dir.read("trace").contains(".lock\""));
        }
        writer.feed(b"new");
        writer.close_stdin();
        writer.finish().ok();
        let trace = dir.read("trace");
        let line = |word: &str| trace.lines().position(|line| line.contains(word));
        let (thread, lock) = (line("CLONE_THREAD"), line(".lock\""));
        assert!(thread.is_some() && thread < lock, "{args:?}: {trace}");
        assert_eq!(trace.matches("CLONE_THREAD").count(), 1, "{args:?}: {trace}");
        dir.assert_holds(&["d", "f", "much", "new", "trace"]);
    }
}

#[test]
fn a_signal_while_waiting_leaves_the_others_lock_alone() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for signal in SIGNALS {
        for args in [&["f"][..], &["--timeout", "100", "f"], &["--lock-on-commit", "f"]] {
            let held = Held::new(&dir.join("f.lock"));
            let mut writer = dir.awrite(args).stdin("x").spawn();
            writer.wait_for_waiting();
            wait_until("it waits", || somebody_waits_for(held.inode()));
            writer.signal(signal);
            assert_interrupted(&ended(writer));
            assert!(lock_is_held(&dir.join("f.lock")));
            assert_eq!(
                fs::metadata(dir.join("f.lock")).map(|m| std::os::unix::fs::MetadataExt::ino(&m)).unwrap(),
                held.inode()
            );
            held.release();
            dir.assert_holds(&["f", "f.lock"]);
            fs::remove_file(dir.join("f.lock")).unwrap();
        }
    }
    assert_eq!(dir.snapshot("f"), before);
}

/// A registered waiter makes the holder leave the lock file behind. An interrupted waiter must remove it.
#[test]
fn an_interrupted_waiter_does_not_leave_the_lock_file_behind() {
    let dir = TestDir::new();
    for _ in 0..10 {
        let mut holder = dir.awrite(["f"]).stdin_open().spawn();
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        let mut waiter = dir.awrite(["f"]).stdin("waiter").spawn();
        waiter.wait_for_waiting();
        holder.feed(b"holder");
        // Both end at once, in any order.
        holder.close_stdin();
        waiter.signal(Signal::TERM);
        let done = ended(waiter);
        assert!(matches!(done.code, Some(0 | 3)), "{done:?}");
        holder.finish().ok();
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn a_signal_ends_command_too() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for signal in SIGNALS {
        for option in ["--quiet", "--stream"] {
            let args = [option, "f", "--", "sh", "-c", "echo half; echo $$ > pid.new; mv pid.new pid; exec sleep 600"];
            let writer = dir.awrite(args).spawn();
            wait_until("COMMAND runs", || dir.join("pid").exists());
            let command = dir.read("pid").trim().to_owned();
            writer.signal(signal);
            assert_interrupted(&ended(writer));
            let status = format!("/proc/{command}/status");
            wait_until("COMMAND has ended", || {
                // It may still be a zombie that its new parent has not reaped.
                fs::read_to_string(&status).map_or(true, |text| text.contains("State:\tZ"))
            });
            fs::remove_file(dir.join("pid")).unwrap();
            assert_eq!(dir.snapshot("f"), before);
            dir.assert_holds(&["f"]);
        }
    }
}

/// COMMAND gets the signal that awrite got, may take its time to end, and has the lock until then.
#[test]
fn a_signal_is_passed_on_and_command_waited_for() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for (signal, name) in SIGNALS.into_iter().zip(["INT", "TERM", "HUP"]) {
        let script =
            format!("trap 'echo {name} > got; read x < gate; exit 0' {name}; touch runs; while :; do sleep 0.01; done");
        for args in [&["f", "--", "sh", "-c", &script][..], &["--validate", &script, "f"]] {
            dir.sh("mkfifo gate").quiet_success();
            let mut writer = dir.awrite(args).stdin("new").spawn();
            wait_until("COMMAND runs", || dir.join("runs").exists());
            writer.signal(signal);
            wait_until("COMMAND has the signal", || fs::read(dir.join("got")).is_ok_and(|got| !got.is_empty()));
            assert_eq!(dir.read("got"), format!("{name}\n"));
            assert!(!writer.has_ended());
            dir.awrite(["-n", "f"]).stdin("x").run().assert_code(2);
            fs::write(dir.join("gate"), "\n").unwrap();
            assert_interrupted(&ended(writer));
            assert_eq!(dir.snapshot("f"), before);
            for file in ["gate", "got", "runs"] {
                fs::remove_file(dir.join(file)).unwrap();
            }
            dir.assert_holds(&["f"]);
        }
    }
}

/// COMMAND has a terminal's ^C already. A second one kills it, if it ignores that.
#[test]
fn an_interrupt_from_the_terminal_is_not_doubled() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    // A shell would take two for one.
    let ends = "import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
open('started', 'w').close()
while not os.path.exists('go'):
    if signal.sigtimedwait([signal.SIGINT], 0.01):
        open('caught', 'a').write('INT\\n')
print('new')";
    dir.file("ends", ends);
    dir.file(
        "ignores",
        "import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
open('started', 'w').close()
time.sleep(600)",
    );
    let script = r#"
import os, pty, sys, time
def wait_for(name, there=True):
    end = time.monotonic() + 60
    while os.path.exists(name) != there:
        if time.monotonic() > end:
            sys.exit('waited in vain for ' + name)
        time.sleep(0.001)
def run(command, keys):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(os.environ['BIN'], ['awrite', 'f', '--', 'python3', command])
    wait_for('started')
    os.unlink('started')
    for _ in range(keys):
        os.write(terminal, b'\x03')
        time.sleep(0.4)
    if keys == 1:
        wait_for('caught')
        assert os.path.exists('f.lock')
        open('go', 'w').close()
    else:
        wait_for('f.lock', there=False)
    _, status = os.waitpid(pid, 0)
    assert os.WEXITSTATUS(status) == 3, status
run('ends', 1)
assert open('caught').read() == 'INT\n', open('caught').read()
run('ignores', 2)
"#;
    dir.program("python3", ["-c", script]).quiet_success();
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["caught", "ends", "f", "go", "ignores"]);
}

#[test]
fn a_second_signal_kills_a_command_that_goes_on() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let writer = dir.awrite(["f", "--", "sh", "-c", "trap '' TERM; echo $$ > pid; touch runs; exec sleep 600"]).spawn();
    wait_until("COMMAND runs", || dir.join("runs").exists());
    writer.signal(Signal::TERM);
    // A second one at once is the same request.
    std::thread::sleep(Duration::from_millis(300));
    assert!(dir.join("f.lock").exists());
    writer.signal(Signal::TERM);
    assert_interrupted(&ended(writer));
    let status = fs::read_to_string(format!("/proc/{}/status", dir.read("pid").trim()));
    assert!(status.map_or(true, |text| text.contains("State:\tZ")));
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f", "pid", "runs"]);
}

#[test]
fn kill_after_ends_a_command_that_goes_on() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let script = "trap '' TERM; touch runs; exec sleep 600";
    for args in [&["--kill-after", "50ms", "f"][..], &["lock", "--kill-after=50ms", "f"]] {
        let runner = dir.awrite([args, &["--", "sh", "-c", script]].concat()).spawn();
        wait_until("COMMAND runs", || dir.join("runs").exists());
        runner.signal(Signal::TERM);
        let done = ended(runner);
        if args[0] == "lock" {
            done.assert_code(128 + 9);
        } else {
            assert_interrupted(&done);
        }
        fs::remove_file(dir.join("runs")).unwrap();
        assert_eq!(dir.read("f"), "old");
        dir.assert_holds(&["f"]);
    }
    // It is no limit of a COMMAND that nobody has told to end.
    dir.awrite(["--kill-after=1ms", "f", "--", "sh", "-c", "sleep 0.1; echo new"]).quiet_success();
    dir.awrite(["lock", "--kill-after=1ms", "f", "--", "sleep", "0.1"]).quiet_success();
    assert_eq!(dir.read("f"), "new\n");
}

/// A terminal's ^C goes to the whole process group at the same time.
#[test]
fn a_signal_to_the_whole_group_is_an_interruption_not_a_failure() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for _ in 0..10 {
        let args = ["f", "--", "sh", "-c", "echo half; touch started; exec sleep 600"];
        let writer = dir.awrite(args).spawn();
        wait_until("COMMAND runs", || dir.join("started").exists());
        writer.signal_group(Signal::INT);
        // awrite may see COMMAND's death before its own signal.
        assert_interrupted(&ended(writer));
        fs::remove_file(dir.join("started")).unwrap();
        assert_eq!(dir.snapshot("f"), before);
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn a_signal_during_validation_removes_the_temporary_file() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for signal in SIGNALS {
        let script = "echo $$ > pid.new; mv pid.new pid; exec sleep 600";
        let writer = dir.awrite(["-b", "--validate", script, "f"]).stdin("new").spawn();
        wait_until("the check runs", || dir.join("pid").exists());
        writer.signal(signal);
        let done = ended(writer);
        assert_interrupted(&done);
        assert!(done.lines().contains(&"Cleaning up temporary files..."), "{done:?}");
        let check = dir.read("pid").trim().to_owned();
        wait_until("the check has ended", || {
            fs::read_to_string(format!("/proc/{check}/status")).map_or(true, |text| text.contains("State:\tZ"))
        });
        fs::remove_file(dir.join("pid")).unwrap();
        assert_eq!(dir.snapshot("f"), before);
        dir.assert_holds(&["f"]);
    }
}

/// As `nohup` leaves it.
#[test]
fn ignored_signals_stay_ignored() {
    let dir = TestDir::new();
    for (name, signal) in [("HUP", Signal::HUP), ("INT", Signal::INT), ("TERM", Signal::TERM)] {
        let mut writer = dir.sh(&format!("trap '' {name}; exec \"$BIN\" f")).stdin_open().spawn();
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        for _ in 0..5 {
            writer.signal(signal);
        }
        writer.feed(name.as_bytes());
        writer.finish().ok();
        assert_eq!(dir.read("f"), name);
        // The others still work.
        let other = if name == "TERM" { Signal::HUP } else { Signal::TERM };
        let writer = dir.sh(&format!("trap '' {name}; exec \"$BIN\" f")).stdin_open().spawn();
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        writer.signal(signal);
        writer.signal(other);
        assert_interrupted(&ended(writer));
        dir.assert_holds(&["f"]);
    }
}

/// The signals that a child finds ignored and blocked.
#[test]
fn command_gets_the_dispositions_that_awrite_was_given() {
    let dir = TestDir::new();
    // The C library keeps two real-time signals for itself (digits 8 and 9 from the right): nobody else can set them.
    let look = "sed -nE 's/^(Sig(Ign|Blk|Cgt):.*)..(.{7})$/\\1\\3/p' /proc/self/status";
    for trap in ["", "trap '' HUP;", "trap '' INT TERM;", "trap '' PIPE;", "trap '' XFSZ;", "trap '' USR1 ALRM;"] {
        let direct = dir.sh(&format!("{trap} exec {look}")).run().stdout;
        dir.sh(&format!("{trap} exec \"$BIN\" f -- {look}")).quiet_success();
        assert_eq!(dir.read("f"), direct, "{trap}");
        dir.sh(&format!("{trap} exec \"$BIN\" --validate \"{look} > seen\" g")).stdin("x").quiet_success();
        assert_eq!(dir.read("seen"), direct, "{trap} in --validate");
    }
}

#[test]
fn stdout_and_stderr_that_nobody_reads_are_no_failure() {
    let dir = TestDir::new();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(crate::common::AWRITE);
    let status = command
        .args(["-vv", "f"])
        .current_dir(dir.path())
        .stdin(fs::File::open("/proc/version").unwrap())
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    dir.assert_holds(&["f"]);
}

#[test]
fn a_file_size_limit_is_an_ordinary_error() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for args in ["f", "--stream f", "-a f", "-b --stream f", "--stream f -- cat /dev/zero", "-i big f"] {
        // `big` is one hole.
        fs::File::create(dir.join("big")).unwrap().set_len(1 << 20).unwrap();
        let script = format!("ulimit -f 8; head -c 1000000 /dev/zero | \"$BIN\" {args}");
        let done = dir.sh(&script).run();
        done.assert_error(1, "Error: f: File too large").assert_hint("unchanged");
        assert_eq!(dir.snapshot("f"), before);
        dir.assert_holds(&["f", "big"]);
    }
}

#[test]
fn a_child_signal_that_is_ignored_does_not_lose_commands_status() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.sh("trap '' CHLD; exec \"$BIN\" f -- echo new").quiet_success();
    assert_eq!(dir.read("f"), "new\n");
    let done = dir.sh("trap '' CHLD; exec \"$BIN\" f -- sh -c 'exit 4'").run();
    done.assert_error(1, "Error: f: command failed: exit status 4");
}

#[test]
fn a_timed_wait_works_with_the_alarm_signal_ignored_or_blocked() {
    let dir = TestDir::new();
    let _held = Held::new(&dir.join("f.lock"));
    dir.sh("trap '' ALRM; exec \"$BIN\" -t 100ms f").stdin("x").run().assert_code(2);
    if crate::common::needs("python3") {
        let blocked = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGTERM])
os.execv(os.environ['BIN'], ['awrite', '-t', '100ms', 'f'])";
        dir.program("python3", ["-c", blocked]).stdin("x").run().assert_code(2);
    }
}

/// Signals at any moment of many quick writes: each write happens or does not, and its status says which.
#[test]
fn a_signal_at_any_moment_never_leaves_half_a_write() {
    let dir = TestDir::new();
    dir.file("f", "0");
    let mut seen = [0; 4];
    for round in 1..=rounds(50, 150_u32) {
        let before = dir.read("f");
        let content = round.to_string();
        let mut writer = dir.awrite(["-b", "f"]).stdin_open().spawn();
        writer.feed(content.as_bytes());
        writer.close_stdin();
        // A little later each time; what counts as "later" differs from machine to machine.
        for _ in 0..(round % 50) * 40 {
            std::hint::spin_loop();
            std::thread::yield_now();
        }
        if !writer.has_ended() {
            writer.signal(SIGNALS[round as usize % 3]);
        }
        let done = ended(writer);
        match (done.code, done.signal) {
            (Some(0), _) => {
                assert_eq!(dir.read("f"), content, "{done:?}");
                seen[0] += 1;
            }
            (Some(3), _) => {
                assert_eq!(dir.read("f"), before, "{done:?}");
                seen[3] += 1;
            }
            // Before anything had been set up.
            (None, Some(1 | 2 | 15)) => assert_eq!(dir.read("f"), before),
            _ => panic!("{done:?}"),
        }
        let expected: &[&str] = if dir.join("f.backup").exists() { &["f", "f.backup"] } else { &["f"] };
        dir.assert_holds(expected);
    }
    assert!(seen[0] > 0, "{seen:?}");
}

/// An interrupted writer must not remove the lock file of another holder.
#[test]
fn many_interrupted_writers_leave_nothing_behind() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for round in 0..5 {
        let writers: Vec<Running> =
            (0..12).map(|number| dir.awrite(["-q", "f"]).stdin(format!("{round} {number}")).spawn()).collect();
        for (number, writer) in writers.iter().enumerate() {
            if number % 2 == 0 {
                // It may have ended already.
                let _ = rustix::process::kill_process(writer.pid(), Signal::TERM);
            }
        }
        for (number, writer) in writers.into_iter().enumerate() {
            let done = ended(writer);
            let interrupted = number % 2 == 0 && (done.code == Some(3) || done.signal == Some(15));
            assert!(done.code == Some(0) || interrupted, "{done:?}");
        }
        dir.assert_holds(&["f"]);
    }
}

/// The process that strace runs, once `made` is true.
#[track_caller]
fn traced(strace: &mut Running, what: &str, mut made: impl FnMut() -> bool) -> Pid {
    wait_until(what, || made() || strace.has_ended());
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let children = fs::read_to_string(children).unwrap();
    let pid = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    pid.unwrap_or_else(|| panic!("{what}: {}", strace.stderr()))
}

/// After the commit a signal cannot undo the write, and awrite must not say so.
#[test]
fn a_signal_after_the_commit_comes_too_late() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for signal in SIGNALS {
        dir.file("f", "old");
        // The directory's sync, the second one, is made slow.
        let args = [
            "-f",
            "-o",
            "trace",
            "-e",
            "trace=fsync",
            "-e",
            &format!("inject=fsync:delay_enter={}:when=2", rounds(500_000, 1_000_000)),
        ];
        let mut strace = dir.program("strace", args.iter().chain(&[AWRITE, "f"])).stdin("new").spawn();
        let pid = traced(&mut strace, "it has been committed", || dir.read("f") == "new");
        rustix::process::kill_process(pid, signal).unwrap();
        let done = ended(strace);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
        dir.assert_holds(&["f", "trace"]);
    }
}

/// Until the commit a linked backup is the same file as the target: a write to one would change both.
#[test]
fn a_signal_before_the_commit_takes_a_linked_backup_away() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    // strace delays the main thread in both syncs, of the old content and of the new one. So the thread that cleans up,
    // which is not traced, is in time.
    let slow = format!("inject=fsync:delay_enter={}", rounds(500_000, 1_000_000));
    let strace = ["-o", "trace", "-e", "trace=fsync", "-e", &slow];
    let interrupted = |options: &[&str], made: &mut dyn FnMut() -> bool| {
        let args = strace.iter().chain(&[AWRITE]).chain(options).chain(&["f", "--", "echo", "new"]);
        let mut strace = dir.program("strace", args).spawn();
        let pid = traced(&mut strace, "the backup is made", made);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_interrupted(&ended(strace));
        assert_eq!(dir.read("f"), "old");
    };
    let linked = || fs::metadata(dir.join("f")).unwrap().nlink() == 2;
    let before = dir.snapshot("f");
    for options in [&["-b"][..], &["--backup-timestamp"]] {
        interrupted(options, &mut || linked());
        assert_eq!(dir.snapshot("f"), before);
        dir.assert_holds(&["f", "trace"]);
    }
    dir.file("f.backup", "older");
    interrupted(&["-b"], &mut || linked());
    assert_eq!((dir.snapshot("f"), dir.read("f.backup").as_str()), (before, "older"));
    dir.assert_holds(&["f", "f.backup", "trace"]);
}

/// Right before the commit the new backup has its name already: either all of it is taken back, or all of it is done.
#[test]
fn a_signal_between_the_backup_and_the_commit() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for option in ["--backup", "--backup-mode=600"] {
        for number in ["1", "2"] {
            dir.file("f", "old");
            dir.file("f.backup", "older");
            let signal = format!("inject=renameat2:signal=TERM:delay_exit=100000:when={number}");
            let strace = ["-o", "/dev/null", "-e", &signal, AWRITE, option, "f", "--", "echo", "new"];
            let done = dir.program("strace", strace).run();
            let contents = (dir.read("f"), dir.read("f.backup"));
            let (f, backup) = (contents.0.trim(), contents.1.as_str());
            match done.code {
                Some(0) => assert_eq!((f, backup), ("new", "old"), "{done:?}"),
                _ => assert_eq!((done.code, f, backup), (Some(3), "old", "older"), "{done:?}"),
            }
            dir.assert_holds(&["f", "f.backup"]);
        }
    }
}

#[test]
fn a_clean_up_that_hangs_can_be_cut_short() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let args = ["-f", "-o", "trace", "-e", "trace=unlinkat,exit_group", "-e", "inject=unlinkat:delay_enter=600000000"];
    let mut strace = dir.program("strace", args.iter().chain(&[AWRITE, "f"])).stdin_open().spawn();
    let pid = traced(&mut strace, "the lock is held", || lock_is_held(&dir.join("f.lock")));
    // One ^C is one signal, and may still come twice: once from the terminal, once from a parent that passes it on. So
    // only one that comes a while later counts as impatience. strace itself waits for the end of its delay: hence the
    // look at the process. Should it go on with its clean-up, this waits in vain.
    wait_until("it ends without its clean-up", || {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        dir.read("trace").contains("exit_group(3)")
    });
    assert!(!dir.read("trace").contains("unlinkat(3, \"f.lock\", 0) = 0"));
}

/// strace makes a pipe fail that never fails by itself.
#[test]
fn a_panic_cleans_up_and_says_so() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    let args = ["-f", "-o", "trace", "-e", "inject=recvfrom:error=EIO"];
    let args = args.iter().chain(&[AWRITE, "f", "--", "echo", "new"]);
    let done = dir.program("strace", args).run();
    if dir.read("trace").contains("(INJECTED)") {
        done.assert_code(1);
        assert!(done.stderr.starts_with("Error: internal error: "), "{done:?}");
        assert_eq!(done.error_line(), done.lines()[0]);
        assert_eq!(dir.snapshot("f"), before);
    }
    dir.assert_holds(&["f", "trace"]);
}

#[test]
fn a_second_signal_is_harmless() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for _ in 0..10 {
        let writer = dir.awrite(["f"]).stdin_open().spawn();
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        for signal in [Signal::INT, Signal::TERM, Signal::INT] {
            let _ = rustix::process::kill_process(writer.pid(), signal);
        }
        let done = ended(writer);
        assert_eq!(done.code, Some(3), "{done:?}");
        assert_eq!(dir.read("f"), "old");
        // The second signal may end the clean-up early. Then the next writer cleans up.
        dir.awrite(["-n", "f"]).stdin("old").quiet_success();
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn a_stopped_and_continued_writer_goes_on() {
    let dir = TestDir::new();
    let mut writer = dir.awrite(["f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    writer.signal(Signal::STOP);
    let state = |pid: u32| fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap();
    wait_until("it is stopped", || state(writer.id()).contains(") T "));
    writer.signal(Signal::CONT);
    writer.feed(b"x");
    writer.finish().ok();
    assert_eq!(dir.read("f"), "x");
}
