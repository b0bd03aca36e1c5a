//! Signals while COMMAND edits, and after.

use rustix::process::Signal;

use super::{assert_holds, awrite};
use crate::common::{Done, Held, Running, TestDir, lock_is_held, wait_until};

#[track_caller]
fn ended(mut edit: Running) -> Done {
    wait_until("it has ended", || edit.has_ended());
    edit.finish()
}

/// An edit whose COMMAND says that it has begun, and then does this.
fn begun(dir: &TestDir, args: &[&str], then: &str) -> Running {
    let script = format!("echo half >\"$1\"; touch begun; {then}");
    let edit = awrite(dir, &[args, &["-e", "f", "--", "sh", "-c", &script, "sh"]].concat()).stdin_open().spawn();
    wait_until("COMMAND has begun", || dir.join("begun").exists());
    edit
}

#[test]
fn a_signal_from_a_process_is_passed_on_and_nothing_is_replaced() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        // COMMAND dies of it, or ends as if nothing had happened.
        for then in ["read -r _", "trap 'touch told; exit 0' INT TERM HUP; touch ready; read -r _; exit 0"] {
            let dir = TestDir::new();
            dir.file("f", "old\n");
            let before = dir.snapshot("f");
            let edit = begun(&dir, &[], then);
            if then.starts_with("trap") {
                wait_until("the trap is set", || dir.join("ready").exists());
            }
            assert!(lock_is_held(&dir.join("f.lock")));
            edit.signal(signal);
            let done = ended(edit);
            done.assert_code(3);
            assert_eq!(done.lines(), ["Interrupted", "Cleaning up temporary files..."]);
            assert_eq!(dir.snapshot("f"), before);
            assert_eq!(dir.join("told").exists(), then.starts_with("trap"));
            for mark in ["begun", "ready", "told"] {
                let _ = std::fs::remove_file(dir.join(mark));
            }
            assert_holds(&dir, &["f"]);
        }
    }
}

/// The lock outlasts COMMAND, and COMMAND outlasts the signal as long as it likes.
#[test]
fn awrite_outlives_command() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let mut edit = begun(&dir, &[], "trap 'touch told' TERM; touch ready; read -r _; read -r _; exit 0");
    wait_until("the trap is set", || dir.join("ready").exists());
    edit.signal(Signal::TERM);
    wait_until("COMMAND was told", || dir.join("told").exists());
    assert!(lock_is_held(&dir.join("f.lock")) && !edit.has_ended());
    ended_after(edit, b"\n\n").assert_code(3);
    assert_eq!(dir.read("f"), "old\n");
}

#[track_caller]
fn ended_after(mut edit: Running, input: &[u8]) -> Done {
    edit.feed(input);
    ended(edit)
}

#[test]
fn a_command_that_does_not_heed_it_can_be_killed() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let edit = begun(&dir, &["--kill-after", "50ms"], "trap '' TERM; touch ready; while :; do read -r _ || :; done");
    wait_until("the trap is set", || dir.join("ready").exists());
    edit.signal(Signal::TERM);
    ended(edit).assert_code(3);
    assert_eq!(dir.read("f"), "old\n");
}

/// Signals end the work again: those that come while the new content is checked.
#[test]
fn a_signal_after_command_counts() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let before = dir.snapshot("f");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let check = "touch checking; exec sleep 60";
        let edit = awrite(&dir, &["-be", "--validate", check, "f", "--", "sed", "-i", "s/old/new/"]).spawn();
        wait_until("the check runs", || dir.join("checking").exists());
        edit.signal(signal);
        let done = ended(edit);
        done.assert_code(3);
        assert!(done.lines().contains(&"Interrupted"), "{done:?}");
        std::fs::remove_file(dir.join("checking")).unwrap();
        assert_eq!(dir.snapshot("f"), before);
        assert_holds(&dir, &["f"]);
    }
    // While it waits for the lock, too.
    let held = Held::new(&dir.join("f.lock"));
    let mut edit = awrite(&dir, &["-e", "f", "--", "false"]).spawn();
    edit.wait_for_waiting();
    edit.signal(Signal::TERM);
    ended(edit).assert_code(3);
    drop(held);
    assert_eq!(dir.snapshot("f"), before);
}

/// An ignored signal stays ignored, for COMMAND too (nohup).
#[test]
fn nohup() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let script = "trap '' HUP; \"$BIN\" -e f -- sh -c 'kill -HUP $$ $PPID; echo new >\"$1\"' sh";
    dir.sh(script).quiet_success();
    assert_eq!(dir.read("f"), "new\n");
}

/// A killed awrite cannot remove its copies. COMMAND has the lock until it ends too, and the next edit clears away.
#[test]
fn what_a_killed_one_leaves_goes_with_the_next() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let mut edit = begun(&dir, &[], "exec sleep 60");
    rustix::process::kill_process(edit.pid(), Signal::KILL).unwrap();
    wait_until("awrite is dead", || edit.has_ended());
    awrite(&dir, &["-n", "-e", "f", "--", "true"]).run().assert_code(2);
    assert_eq!(std::fs::read_dir(dir.join("tmp")).unwrap().count(), 1);
    edit.signal_group(Signal::KILL);
    wait_until("COMMAND is dead too", || !lock_is_held(&dir.join("f.lock")));
    awrite(&dir, &["-e", "f", "--", "sed", "-i", "s/old/new/"]).quiet_success();
    assert_eq!(dir.read("f"), "new\n");
    std::fs::remove_file(dir.join("begun")).unwrap();
    assert_holds(&dir, &["f"]);
}
