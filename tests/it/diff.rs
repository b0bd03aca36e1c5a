//! `--diff`: what changes, as `diff -u` prints it, before the commit.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;

use crate::common::{Extent, TestDir, extent, needs, wait_until};

/// What is printed when `new` is written over `old`; `None`: there is no file.
#[track_caller]
fn printed(old: Option<&str>, new: &str) -> String {
    let dir = TestDir::new();
    old.map(|old| dir.file("f", old));
    let done = dir.awrite(["--diff", "--allow-empty", "f"]).stdin(new).run();
    assert_eq!((done.ok().stderr.as_str(), dir.read("f").as_str()), ("", new));
    done.stdout
}

#[test]
fn a_unified_diff() {
    for (old, new, hunks) in [
        ("a\nb\nc\n", "a\nB\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"),
        ("1\n2\n3\n4\n5\n", "1\n2\n3\n4\n5\n6\n", "@@ -3,3 +3,4 @@\n 3\n 4\n 5\n+6\n"),
        ("", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"),
        ("a\n", "", "@@ -1 +0,0 @@\n-a\n"),
        ("a\nb", "a\nb\n", "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"),
        ("a\nb\n", "a\nb", "@@ -1,2 +1,2 @@\n a\n-b\n+b\n\\ No newline at end of file\n"),
        ("a\nb", "x\nb", "@@ -1,2 +1,2 @@\n-a\n+x\n b\n\\ No newline at end of file\n"),
        ("\r\n\u{7f}\u{e4}\n", "\n\u{7f}\u{e4}\n", "@@ -1,2 +1,2 @@\n-\r\n+\n \u{7f}\u{e4}\n"),
    ] {
        assert_eq!(printed(Some(old), new), format!("--- f\n+++ f\n{hunks}"));
    }
    assert_eq!(printed(None, "a\n"), "--- /dev/null\n+++ f\n@@ -0,0 +1 @@\n+a\n");
    assert_eq!(printed(None, ""), "");
    assert_eq!(printed(Some("same\n"), "same\n"), "");
    for (old, new) in [(Some("a\0"), "b"), (Some("a"), "b\0"), (None, "\0")] {
        let name = if old.is_some() { "f" } else { "/dev/null" };
        assert_eq!(printed(old, new), format!("--- {name}\n+++ f\nBinary files differ\n"));
    }
}

#[test]
fn with_every_way_to_write() {
    let dir = TestDir::new();
    dir.file("in", "new\n");
    symlink("f", dir.join("link")).unwrap();
    let diff = |name: &str, new: &str| format!("--- {name}\n+++ {name}\n@@ -1 +1 @@\n-old\n+{new}\n");
    for (args, input, expected) in [
        (&["f"][..], "new\n", diff("f", "new")),
        (&["--stream", "f"], "new\n", diff("f", "new")),
        (&["-i", "in", "f"], "", diff("f", "new")),
        (&["--lock-on-commit", "f"], "new\n", diff("f", "new")),
        (&["f", "--", "tr", "a-z", "A-Z"], "", diff("f", "OLD")),
        (&["--if-changed", "f"], "new\n", diff("f", "new")),
        (&["-q", "-b", "f"], "new\n", diff("f", "new")),
        (&["--in-place", "f"], "new\n", diff("f", "new")),
        (&["--keep-inode", "f"], "new\n", diff("f", "new")),
        (&["--dry-run", "-q", "f"], "new\n", diff("f", "new")),
        (&["-a", "f"], "new\n", "--- f\n+++ f\n@@ -1 +1,2 @@\n old\n+new\n".to_owned()),
        // A formatter has the last word.
        (&["--validate", "echo put right > \"$AWRITE_NEW\"", "f"], "new\n", diff("f", "put right")),
        (&["link"], "new\n", diff("link", "new")),
        (&["--no-follow", "--dry-run", "-q", "link"], "new\n", diff("link", "new")),
        (&["--if-changed", "f"], "old\n", String::new()),
    ] {
        dir.file("f", "old\n");
        let done = dir.awrite(["--diff"].iter().chain(args)).stdin(input).run();
        assert_eq!((done.ok().stdout.as_str(), done.stderr.as_str()), (expected.as_str(), ""), "{args:?}");
    }
}

/// One after the other, and all before the first is replaced.
#[test]
fn with_several_files_together() {
    let dir = TestDir::new();
    for (name, content) in [("a", "old\n"), ("b", "same\n"), ("c", "old\n")] {
        dir.file(name, content);
    }
    let diff = |name: &str| format!("--- {name}\n+++ {name}\n@@ -1 +1 @@\n-old\n+new\n");
    let both = [diff("a"), diff("c")].concat();
    let edit = ["-e", "a", "b", "c", "--", "sed", "-i", "s/old/new/"];
    let done = dir.awrite(["--diff", "--dry-run", "-q"].iter().chain(&edit)).run();
    assert_eq!(done.ok().stdout, both);
    let done = dir.sh("\"$BIN\" --diff -e a b c -- sed -i s/old/new/ >/dev/full").run();
    done.assert_error(1, "Error: standard output: No space left on device");
    assert_eq!([dir.read("a"), dir.read("c")].concat(), "old\nold\n");
    let done = dir.awrite(["--diff"].iter().chain(&edit)).run();
    assert_eq!((done.ok().stdout.as_str(), dir.read("c").as_str()), (both.as_str(), "new\n"));
    // The only one that changes is shown once.
    dir.file("a", "old\n");
    let done = dir.awrite(["--diff"].iter().chain(&edit)).run();
    assert_eq!((done.ok().stdout.as_str(), dir.read("a").as_str()), (diff("a").as_str(), "new\n"));
    dir.dir("to");
    dir.file("to/a", "old\n");
    let done = dir.awrite(["--diff", "--into", "to", "a", "b"]).run();
    let created = "--- /dev/null\n+++ to/b\n@@ -0,0 +1 @@\n+same\n";
    assert_eq!(done.ok().stdout, [diff("to/a").as_str(), created].concat());
}

#[test]
fn what_is_refused_is_not_replaced() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let before = dir.snapshot("f");
    // The check comes first.
    let done = dir.awrite(["--diff", "--validate", "false", "f"]).stdin("new\n").run();
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    for (redirection, reason) in [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")] {
        let done = dir.sh(&format!("\"$BIN\" --diff f {redirection}")).stdin("new\n").run();
        done.assert_error(1, &format!("Error: standard output: {reason}")).assert_hint("nothing was changed");
    }
    let gone = "{ \"$BIN\" --diff f 2>said; echo $? >status; } | true; while ! test -s status; do :; done";
    dir.sh(gone).stdin("x\n".repeat(100_000)).quiet_success();
    assert_eq!(
        (dir.read("status").as_str(), dir.read("said").lines().next()),
        ("1\n", Some("Error: standard output: Broken pipe"))
    );
    // Nothing to print is no reason to fail.
    dir.sh("\"$BIN\" --diff --if-changed f >&-").stdin("old\n").quiet_success();
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f", "said", "status"]);
}

/// A pager may be read for minutes; meanwhile the write can be stopped.
#[test]
fn a_signal_ends_it_while_nobody_reads() {
    let dir = TestDir::new();
    dir.file("f", "old\n");
    let before = dir.snapshot("f");
    let script = "mkfifo pipe; exec 3<>pipe; exec \"$BIN\" --diff -i in f >&3";
    dir.file("in", "new\n".repeat(100_000));
    let waiting = dir.sh(script).spawn();
    wait_until("there is a pipe", || dir.join("pipe").exists());
    let pipe = fs::File::options().read(true).write(true).open(dir.join("pipe")).unwrap();
    wait_until("the pipe is full", || rustix::io::ioctl_fionread(&pipe).unwrap() >= 1 << 16);
    waiting.signal(Signal::TERM);
    waiting.finish().assert_code(3);
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f", "in", "pipe"]);
}

#[test]
fn names_are_those_that_patch_reads() {
    if !needs("patch") {
        return;
    }
    let dir = TestDir::new();
    for (name, written) in [("f", "f"), ("a b", "\"a b\""), ("q\"\\", "\"q\\\"\\\\\""), ("t\tn\n", "\"t\\tn\\n\"")] {
        dir.file(name, "old\n");
        let done = dir.awrite(["--diff", "--dry-run", "-q", name]).stdin("new\n").run();
        assert!(done.ok().stdout.starts_with(&format!("--- {written}\n+++ {written}\n@@ ")), "{done:?}");
        dir.program("patch", ["-s"]).stdin(done.stdout).quiet_success();
        assert_eq!(dir.read(name), "new\n", "{name}");
    }
    // A new file, one that becomes empty, and one that was.
    for (old, new) in [(None, "new\n"), (Some("old\n"), ""), (Some(""), "new\n"), (Some("a\nb"), "a\nb\n")] {
        let _ = fs::remove_file(dir.join("g"));
        old.map(|old| dir.file("g", old));
        let done = dir.awrite(["--diff", "--dry-run", "-q", "--allow-empty", "g"]).stdin(new).run();
        dir.program("patch", ["-s"]).stdin(done.ok().stdout.as_str()).quiet_success();
        assert_eq!(dir.read("g"), new);
    }
}

#[test]
fn colours_are_for_terminals() {
    if !needs("script") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "same\nold\n");
    let shown = |environment: &str| {
        let command =
            format!("printf 'same\\nnew' | env -u NO_COLOR TERM=xterm {environment} \"$BIN\" --diff --dry-run -q f");
        dir.program("script", ["-qec", &command, "/dev/null"]).run().ok().stdout.replace('\r', "")
    };
    let coloured = "\x1b[1m--- f\x1b[0m\n\x1b[1m+++ f\x1b[0m\n\x1b[36m@@ -1,2 +1,2 @@\x1b[0m\n same\n\
                    \x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m\n\\ No newline at end of file\n";
    assert_eq!(shown(""), coloured);
    assert_eq!(shown("NO_COLOR="), coloured);
    let plain = "--- f\n+++ f\n@@ -1,2 +1,2 @@\n same\n-old\n+new\n\\ No newline at end of file\n";
    assert_eq!((shown("NO_COLOR=1").as_str(), shown("TERM=dumb").as_str()), (plain, plain));
}

/// The size of the files does not matter, only how much of them has changed.
#[test]
fn large_files() {
    let dir = TestDir::new();
    let line = |n: usize| format!("{n:07} and so on, for long enough\n");
    let log: String = (0..600_000).map(line).collect();
    dir.file("f", &log);
    dir.file("in", log.replacen("0300000 and", "0300000 or", 1));
    // 20 MB each, in less memory than one of them takes.
    let within = |rest: &str| format!("ulimit -v 32768; \"$BIN\" --diff --stream --dry-run -q -i in {rest}");
    let done = dir.sh(&within("f")).run();
    let around = |numbers: std::ops::Range<usize>| numbers.map(|n| format!(" {}", line(n))).collect::<String>();
    let hunk = format!(
        "--- f\n+++ f\n@@ -299998,7 +299998,7 @@\n{}-{}+{}{}",
        around(299_997..300_000),
        line(300_000),
        line(300_000).replace("and", "or"),
        around(300_001..300_004)
    );
    assert_eq!(done.ok().stdout, hunk);
    // More than can be compared is replaced all the same.
    let too_much = "Too much has changed to be shown: more than 16 MiB, or a million lines\n";
    dir.file("in", log.replace(" and", " or"));
    let done = dir.awrite(["--diff", "-i", "in", "f"]).run();
    assert_eq!(done.ok().stdout, format!("--- f\n+++ f\n{too_much}"));
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), fs::metadata(dir.join("in")).unwrap().len());
    dir.file("in", "\n".repeat(1_100_000));
    let done = dir.awrite(["--diff", "g"]).stdin_from(fs::File::open(dir.join("in")).unwrap()).run();
    assert_eq!(done.ok().stdout, format!("--- /dev/null\n+++ g\n{too_much}"));
}

// ---------------------------------------------------------------------------------------------------------------------
// Beside GNU diff

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end.max(1)
    }

    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..(start + 1 + self.below(most)).min(length)
    }
}

/// Changes lines as people do: adds, deletes, replaces and repeats some; with `moves`, moves and turns them round, too.
fn edited(lines: &[String], numbers: &mut Numbers, moves: bool) -> Vec<String> {
    let mut lines = lines.to_vec();
    for _ in 0..=numbers.below(10) {
        let range = numbers.range(lines.len(), 8);
        let at = range.start;
        match numbers.below(if moves { 7 } else { 5 }) {
            0 => drop(lines.drain(range)),
            1 => {
                let new: Vec<String> = (0..=numbers.below(4)).map(|_| format!("new {}\n", numbers.below(5))).collect();
                drop(lines.splice(at..at, new));
            }
            2 => {
                let copy = lines[range.clone()].to_vec();
                drop(lines.splice(range.end..range.end, copy));
            }
            3 | 4 => lines[range].iter_mut().take(2).for_each(|line| line.insert_str(0, "  ")),
            5 => lines[range].reverse(),
            _ => {
                let taken: Vec<String> = lines.drain(range).collect();
                let to = numbers.below(lines.len() + 1);
                drop(lines.splice(to..to, taken));
            }
        }
    }
    if let (0, Some(last)) = (numbers.below(8), lines.last_mut()) {
        *last = last.trim_end().to_owned();
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// How many of `count` diffs are the same as those of GNU diff. patch(1) makes the new file of each of them.
fn same_as_gnu(count: usize, moves: bool, mut text: impl FnMut(&mut Numbers) -> Vec<String>) -> usize {
    let dir = TestDir::new();
    let mut numbers = Numbers(7);
    let mut same = 0;
    for _ in 0..count {
        let old = text(&mut numbers);
        let (old, new) = (old.concat(), edited(&old, &mut numbers, moves).concat());
        dir.file("f", &old);
        dir.file("new", &new);
        let done = dir.awrite(["--diff", "--dry-run", "-q", "--allow-empty", "-i", "new", "f"]).run();
        let gnu = dir.program("diff", ["-u", "--label=f", "--label=f", "f", "new"]).run();
        same += usize::from(gnu.stdout == done.ok().stdout);
        assert_eq!(gnu.stdout.is_empty(), done.stdout.is_empty());
        if !done.stdout.is_empty() {
            dir.program("patch", ["-s"]).stdin(done.stdout.as_str()).quiet_success();
        }
        assert_eq!(fs::read_to_string(dir.join("f")).unwrap_or_default(), new, "{}", done.stdout);
    }
    same
}

/// Where several shortest diffs exist the two may choose differently, and GNU diff does not always find a shortest one.
#[test]
fn the_hunks_are_those_of_gnu_diff() {
    if !needs("diff") || !needs("patch") {
        return;
    }
    let count = match extent() {
        Extent::Quick => 60,
        Extent::Full => 300,
        Extent::Long => 2000,
    };
    let manifest = env!("CARGO_MANIFEST_DIR");
    let sources = ["src/write/sequence.rs", "src/names.rs", "README.md", "CHANGELOG.md", "pkg/man/awrite.1"];
    let sources = sources.map(|name| fs::read_to_string(format!("{manifest}/{name}")).unwrap());
    let source = |numbers: &mut Numbers| {
        let source = &sources[numbers.below(sources.len())];
        source.split_inclusive('\n').map(str::to_owned).collect::<Vec<String>>()
    };
    let settings = |numbers: &mut Numbers| {
        let length = numbers.below(200);
        let mut line =
            |n| if numbers.below(5) > 0 { format!("key{n} = {}\n", numbers.below(3)) } else { "\n".to_owned() };
        (0..length).map(&mut line).collect::<Vec<String>>()
    };
    let letters = |numbers: &mut Numbers| {
        let length = numbers.below(40);
        (0..length).map(|_| format!("{}\n", numbers.below(8))).collect::<Vec<String>>()
    };
    for (same, least) in [
        (same_as_gnu(count, false, source), 97),
        (same_as_gnu(count, false, settings), 97),
        (same_as_gnu(count, true, settings), 60),
        (same_as_gnu(count, false, letters), 75),
    ] {
        assert!(same * 100 >= count * least, "{same} of {count} are the same, not {least} %");
    }
}
