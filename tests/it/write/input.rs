//! Where the new content comes from: a pipe, a file, nothing at all.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use crate::common::{TestDir, wait_until};

#[test]
fn a_pipe_becomes_a_new_file() {
    let dir = TestDir::new();
    dir.awrite(["config.json"]).stdin("data\n").quiet_success();
    assert_eq!(dir.read("config.json"), "data\n");
    dir.assert_holds(&["config.json"]);
}

#[test]
fn a_pipe_replaces_a_file() {
    let dir = TestDir::new();
    dir.file("config.json", "old, and longer than the new content\n");
    let before = dir.snapshot("config.json");
    dir.awrite(["config.json"]).stdin("new\n").quiet_success();
    assert_eq!(dir.read("config.json"), "new\n");
    assert_ne!(dir.snapshot("config.json").inode, before.inode, "replaced, not overwritten");
    dir.assert_holds(&["config.json"]);
}

#[test]
fn bytes_are_never_interpreted() {
    let dir = TestDir::new();
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend_from_slice(b"\r\n\r\n\0\0\xff\xfe no newline at the end");
    for option in ["--quiet", "--stream"] {
        dir.awrite([option, "f"]).stdin(bytes.clone()).quiet_success();
        assert_eq!(fs::read(dir.join("f")).unwrap(), bytes);
    }
}

#[test]
fn stdin_may_be_a_file() {
    let dir = TestDir::new();
    dir.file("in", "from a file\n");
    for option in ["--quiet", "--stream"] {
        dir.awrite([option, "out"]).stdin_from(File::open(dir.join("in")).unwrap()).quiet_success();
        assert_eq!(dir.read("out"), "from a file\n");
        fs::remove_file(dir.join("out")).unwrap();
    }
}

/// Input begins at the descriptor's offset, as for any filter.
#[test]
fn stdin_that_is_a_file_is_read_from_where_it_stands() {
    let dir = TestDir::new();
    dir.file("in", "first line\nsecond line\nthird line\n");
    for option in ["--quiet", "--stream"] {
        dir.sh(&format!("{{ read -r _; \"$BIN\" {option} out; }} < in")).quiet_success();
        assert_eq!(dir.read("out"), "second line\nthird line\n");
    }
}

/// A file opened for appending, or with its end already reached, has nothing more to give.
#[test]
fn stdin_at_its_end_is_empty_input() {
    let dir = TestDir::new();
    dir.file("in", "line\n");
    dir.sh("{ cat > /dev/null; \"$BIN\" out; } < in").run().assert_error(1, "Error: No input provided");
    dir.assert_holds(&["in"]);
}

#[test]
fn input_option_reads_a_file() {
    let dir = TestDir::new();
    dir.file("in", "content\n");
    for args in [["-i", "in", "out"], ["--input", "in", "out"], ["--input=in", "--stream", "out"]] {
        dir.awrite(args).stdin("not this").quiet_success();
        assert_eq!(dir.read("out"), "content\n");
        fs::remove_file(dir.join("out")).unwrap();
    }
    dir.awrite(["-i", "-", "out"]).stdin("stdin\n").quiet_success();
    assert_eq!(dir.read("out"), "stdin\n");
}

#[test]
fn input_may_be_the_output_itself() {
    let dir = TestDir::new();
    dir.file("f", "content\n");
    symlink("f", dir.join("link")).unwrap();
    fs::hard_link(dir.join("f"), dir.join("hard")).unwrap();
    for args in [["-i", "f", "f"], ["-i", "link", "f"], ["-i", "f", "link"], ["-i", "./f", "f"], ["-i", "hard", "f"]] {
        dir.awrite(args).quiet_success();
        assert_eq!(dir.read("f"), "content\n");
        dir.awrite(["--stream"].into_iter().chain(args)).quiet_success();
        assert_eq!(dir.read("f"), "content\n");
    }
    dir.assert_holds(&["f", "link", "hard"]);
}

#[test]
fn input_may_be_a_fifo() {
    let dir = TestDir::new();
    dir.sh("mkfifo in && { echo through the fifo > in & } && \"$BIN\" -i in out && wait").quiet_success();
    assert_eq!(dir.read("out"), "through the fifo\n");
}

/// Files in /proc have size 0, so the size says nothing.
#[test]
fn input_from_proc_is_read_in_full() {
    let dir = TestDir::new();
    let version = fs::read_to_string("/proc/version").unwrap();
    for option in ["--quiet", "--stream"] {
        dir.awrite([option, "-i", "/proc/version", "a"]).quiet_success();
        assert_eq!(dir.read("a"), version);
        dir.awrite([option, "b"]).stdin_from(File::open("/proc/version").unwrap()).quiet_success();
        assert_eq!(dir.read("b"), version);
    }
}

#[test]
fn input_that_cannot_be_read_changes_nothing() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.dir("d");
    let before = dir.snapshot("f");
    for option in ["--quiet", "--stream"] {
        let done = dir.awrite([option, "-i", "missing.txt", "f"]).run();
        done.assert_error(1, "Error: missing.txt: No such file or directory");
        dir.awrite([option, "-i", "d", "f"]).run().assert_error(1, "Error: d: Is a directory");
        dir.awrite([option, "f"])
            .stdin_from(File::open(dir.join("d")).unwrap())
            .run()
            .assert_error_with(1, &["directory"]);
        // Address 0 is never mapped, so the very first read fails.
        let done = dir.awrite([option, "-i", "/proc/self/mem", "f"]).run();
        done.assert_error_with(1, &["/proc/self/mem: ", "Input/output error"]);
    }
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f", "d"]);
}

#[test]
fn empty_input_never_wipes_a_file() {
    let dir = TestDir::new();
    dir.file("f", "precious\n");
    dir.file("empty", "");
    let before = dir.snapshot("f");
    for option in ["--quiet", "--stream", "--lock-on-commit", "--append"] {
        for script in [
            "\"$BIN\" OPTION f < /dev/null",
            "\"$BIN\" OPTION f < empty",
            "\"$BIN\" OPTION f <&-",
            "true | \"$BIN\" OPTION f",
            "\"$BIN\" OPTION -i empty f",
            "\"$BIN\" OPTION -i /dev/null f",
            "\"$BIN\" OPTION new < /dev/null",
        ] {
            let done = dir.sh(&script.replace("OPTION", option)).run();
            done.assert_error(1, "Error: No input provided").assert_hint("--allow-empty");
        }
    }
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f", "empty"]);
}

#[test]
fn allow_empty_writes_an_empty_file() {
    let dir = TestDir::new();
    for script in [
        "\"$BIN\" --allow-empty f < /dev/null",
        "\"$BIN\" --allow-empty f <&-",
        "\"$BIN\" --allow-empty --stream f < /dev/null",
        "\"$BIN\" --allow-empty -i /dev/null f",
    ] {
        dir.file("f", "old");
        dir.sh(script).quiet_success();
        assert_eq!(dir.read("f"), "");
        dir.sh(&script.replace(" f", " new")).quiet_success();
        assert_eq!(dir.read("new"), "");
        fs::remove_file(dir.join("new")).unwrap();
    }
    dir.assert_holds(&["f"]);
}

/// A program that opened its output before it read its input would truncate the file.
#[test]
fn the_output_may_be_standard_input() {
    let dir = TestDir::new();
    for (options, expected) in [("", "abc"), ("--stream", "abc"), ("-a", "abcabc"), ("-a --stream", "abcabc")] {
        dir.file("f", "abc");
        dir.sh(&format!("\"$BIN\" {options} f < f")).quiet_success();
        assert_eq!(dir.read("f"), expected, "{options}");
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn standard_input_that_cannot_be_read_is_named() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for option in ["--quiet", "--stream"] {
        let done = dir.sh(&format!("\"$BIN\" {option} f 0> write-only")).run();
        done.assert_error(1, "Error: standard input: Bad file descriptor");
    }
    assert_eq!(dir.snapshot("f"), before);
}

/// Another program that has the pipe, too, may have set the flag.
#[test]
fn a_pipe_that_does_not_wait_is_waited_for() {
    let dir = TestDir::new();
    for option in ["--quiet", "--stream"] {
        let (input, output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::fs::fcntl_setfl(&input, OFlags::NONBLOCK).unwrap();
        let writer = dir.awrite([option, "f"]).stdin_from(input).spawn();
        for _ in 0..20 {
            assert_eq!(rustix::io::write(&output, b"1"), Ok(1));
            wait_until("it has been read", || rustix::io::ioctl_fionread(&output) == Ok(0));
        }
        drop(output);
        writer.finish().ok();
        assert_eq!(dir.read("f"), "1".repeat(20));
    }
}
