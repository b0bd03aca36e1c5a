//! At a terminal: COMMAND has it, and job control works. Python makes the terminal.

use std::fs;

use crate::common::{Done, TestDir, needs};

/// A shell at a terminal of its own, and the steps of somebody who sits there.
const PERSON: &str = r#"
import os, pty, select, sys, time

pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="xterm", PS1="PROMPT> ", ENV="")
    os.execvp("bash", ["bash", "--norc", "--noediting", "-i"])
seen = b""

def see(text):
    global seen
    end = time.monotonic() + 50
    while text.encode() not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        if not ready:
            sys.exit("waited in vain for %r, saw %r" % (text, seen))
        try:
            more = os.read(terminal, 4096)
        except OSError:
            more = b""
        if not more:
            sys.exit("the terminal closed before %r, after %r" % (text, seen))
        seen += more
    seen = seen.split(text.encode(), 1)[1]

def type(text):
    os.write(terminal, text.encode())

def until(what, holds):
    end = time.monotonic() + 50
    while not holds():
        if time.monotonic() > end:
            sys.exit("waited in vain until " + what)
        time.sleep(0.001)

def states():
    "What the processes of the shell's jobs do: awrite, and COMMAND."
    found = {}
    for entry in os.listdir("/proc"):
        try:
            name, rest = open("/proc/%s/stat" % entry).read().split("(", 1)[1].rsplit(") ", 1)
        except (OSError, IndexError):
            continue
        fields = rest.split()
        if int(fields[3]) == pid and int(entry) != pid:
            found[name] = fields[0]
    return found

see("PROMPT> ")
"#;

/// What the person does; then the shell's last status is 7.
#[track_caller]
fn at_a_terminal(dir: &TestDir, steps: &str) -> Done {
    let script =
        format!("{PERSON}\n{steps}\ntype('exit 7\\n')\nstatus = os.waitpid(pid, 0)[1]\nsys.exit(status >> 8)\n");
    let done = dir.program("python3", ["-c", &script]).env("TMPDIR", dir.path()).run();
    done.assert_code(7);
    done
}

#[test]
fn an_editor_has_the_terminal() {
    if !needs("python3") || !needs("bash") || !needs("vi") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "alpha\n");
    let steps = r#"
type('"$BIN" -e f -- vi -n\n')
see("alpha")
type("xx:wq\n")
see("PROMPT> ")
type("echo status $?\n")
see("status 0\r\n")
"#;
    at_a_terminal(&dir, steps);
    assert_eq!(dir.read("f"), "pha\n");
    dir.assert_holds(&["f"]);
}

/// ^Z stops both, fg lets both go on, and the lock is held meanwhile.
#[test]
fn it_can_be_stopped_and_go_on() {
    if !needs("python3") || !needs("bash") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let steps = r#"
type('"$BIN" -e f -- sh -c \': >begun; read -r line && echo "$line" >"$1"\' sh\n')
until("COMMAND has begun", lambda: os.path.exists("begun"))
type("\x1a")
see("Stopped")
see("PROMPT> ")
until("both are stopped", lambda: states() == {"awrite": "T", "sh": "T"})
type('echo x | "$BIN" -n f; echo status $?\n')
see("status 2\r\n")
type("fg\n")
see("begun")
type("typed\n")
see("PROMPT> ")
type("echo status $?\n")
see("status 0\r\n")
"#;
    at_a_terminal(&dir, steps);
    assert_eq!(dir.read("f"), "typed\n");
    dir.assert_holds(&["begun", "f"]);
}

/// ^C reaches COMMAND by itself, once, and it decides what that means.
// The file stays open, because Python ignores an interruption while it closes one that nobody has.
#[test]
fn the_keyboard_interrupts_command() {
    if !needs("python3") || !needs("bash") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let steps = r#"
type('"$BIN" -e f -- python3 -c \'import time; kept = open("begun", "w"); time.sleep(60)\' 2>/dev/null\n')
until("COMMAND has begun", lambda: os.path.exists("begun"))
type("\x03")
see("PROMPT> ")
type("echo status $?\n")
see("status 3\r\n")
os.unlink("begun")
type('"$BIN" -e f -- "$PWD/heeds.py"\n')
until("COMMAND has begun", lambda: os.path.exists("begun"))
type("\x03")
see("PROMPT> ")
type("echo status $?\n")
see("status 0\r\n")
"#;
    let heeds = r#"#!/usr/bin/env python3
import signal, sys, time
told = []
signal.signal(signal.SIGINT, lambda *_: told.append(1))
open("begun", "w")
end = time.monotonic() + 50
while not told and time.monotonic() < end:
    time.sleep(0.001)
time.sleep(0.1)
open(sys.argv[1], "w").write("told %d\n" % len(told))
"#;
    dir.script("heeds.py", heeds);
    at_a_terminal(&dir, steps);
    assert_eq!(dir.read("f"), "told 1\n");
    fs::remove_file(dir.join("begun")).unwrap();
    dir.assert_holds(&["f", "heeds.py"]);
}
