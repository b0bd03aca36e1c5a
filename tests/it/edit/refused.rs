//! What leaves OUTPUT as it was.

use std::fs;

use super::{assert_holds, awrite};
use crate::common::{NOBODY, TestDir, is_root};

#[test]
fn a_command_that_fails_changes_nothing() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let before = dir.snapshot("f");
    for (script, error) in [
        ("echo x >$AWRITE_DIR/f; exit 4", "Error: f: command failed: exit status 4"),
        ("echo x >$AWRITE_DIR/f; kill -9 $$", "Error: f: command failed: killed by signal 9 (SIGKILL)"),
        ("rm $AWRITE_DIR/f", "Error: f: COMMAND removed its copy"),
        ("rm -r $AWRITE_DIR", "Error: f: COMMAND removed its copy"),
        (": >$AWRITE_DIR/f", "Error: f: COMMAND left it empty"),
        (
            "ln -sf /etc/passwd $AWRITE_DIR/f",
            "Error: f: COMMAND left something else than a regular file in place of its copy",
        ),
        (
            "rm $AWRITE_DIR/f && mkfifo $AWRITE_DIR/f",
            "Error: f: COMMAND left something else than a regular file in place of its copy",
        ),
        (
            "rm $AWRITE_DIR/f && mkdir $AWRITE_DIR/f",
            "Error: f: COMMAND left something else than a regular file in place of its copy",
        ),
    ] {
        awrite(&dir, &["-be", "f", "--", "sh", "-c", script]).run().assert_error(1, error);
        assert_eq!(dir.snapshot("f"), before);
        assert_holds(&dir, &["f"]);
    }
    let done = awrite(&dir, &["-e", "f", "--", "no-such-program"]).run();
    done.assert_error(1, "Error: f: cannot run no-such-program: No such file or directory");
    awrite(&dir, &["-e", "new", "--", "touch"]).run().assert_error(1, "Error: new: COMMAND left it empty");
    assert_eq!(dir.snapshot("f"), before);
    assert_holds(&dir, &["f"]);
    awrite(&dir, &["-e", "--allow-empty", "f", "--", "truncate", "-s0"]).quiet_success();
    assert_eq!(dir.read("f"), "");
}

/// COMMAND was told to edit its copy.
#[test]
fn an_output_that_command_changes_itself_is_left_as_it_is() {
    let dir = TestDir::new();
    for script in ["echo direct >f", "echo direct >f; echo copy >$AWRITE_DIR/f"] {
        dir.file("f", "old\n");
        let done = awrite(&dir, &["-e", "f", "--", "sh", "-c", script]).run();
        done.assert_error(1, "Error: f: COMMAND changed this file itself; it was not replaced");
        done.assert_hint("COMMAND is to work on the paths that its last arguments name");
        assert_eq!(dir.read("f"), "direct\n");
    }
    dir.file("f", "old\n");
    let done = awrite(&dir, &["-e", "f", "--", "sh", "-c", "echo x | \"$BIN\" f"]).run();
    done.assert_code(1);
    assert!(done.stderr.contains("This runs below a command whose output is about to replace the file"), "{done:?}");
    assert_eq!(dir.read("f"), "old\n");
    assert_holds(&dir, &["f"]);
}

#[test]
fn what_is_typed_wrong_is_said() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let before = dir.snapshot("f");
    awrite(&dir, &["-e", "f"]).run().assert_error_with(1, &["--edit: COMMAND is missing"]);
    awrite(&dir, &["-e", "f", "sed", "-n"]).run().assert_error_with(1, &["--edit: COMMAND is missing"]);
    awrite(&dir, &["-e", "--", "vi"]).run().assert_error_with(1, &["COMMAND is missing"]);
    awrite(&dir, &["-e", "tmp", "--", "vi"]).run().assert_error_with(1, &["tmp", "is a directory"]);
    assert_eq!(dir.snapshot("f"), before);
    assert_holds(&dir, &["f"]);
}

/// Others find neither the copy nor what is in it.
#[test]
fn nobody_else_can_read_the_copy() {
    if !is_root() {
        return;
    }
    let dir = TestDir::new();
    dir.file_with_mode("f", "secret\n", 0o600);
    let script = format!(
        "setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups cat \"$1\" 2>/dev/null; test $? = 1 && echo x >>\"$1\""
    );
    fs::create_dir_all(dir.join("tmp")).unwrap();
    crate::common::chmod(&dir.join("tmp"), 0o777);
    awrite(&dir, &["-e", "f", "--", "sh", "-c", &script, "sh"]).quiet_success();
    assert_eq!(dir.read("f"), "secret\nx\n");
}
