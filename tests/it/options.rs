//! The command line: what is understood, what is refused (and then nothing touched), and which applet answers.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{AWRITE, TestDir, assert_no_debris, copy_program};

// ---------------------------------------------------------------------------------------------------------------------
// Refused

#[test]
fn bad_usage_names_the_option_and_touches_nothing() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.file("in", "input");
    symlink("f", dir.join("link")).unwrap();
    let before = dir.snapshot("f");
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &[]),
        (&["-v"], &[]),
        (&["--"], &[]),
        (&["f", "--"], &[]),
        (&[""], &[]),
        (&["f", "g"], &["g"]),
        (&["f", "sort", "-r"], &["sort"]),
        (&["--no-such-option", "f"], &["--no-such-option"]),
        (&["--no-such-option=value", "f"], &["--no-such-option"]),
        (&["-Z", "f"], &["-Z"]),
        (&["-bZ", "f"], &["-Z"]),
        (&["--timeout"], &["--timeout"]),
        (&["f", "--timeout"], &["--timeout"]),
        (&["f", "-m"], &["-m"]),
        (&["--wait=5", "f"], &["--wait"]),
        (&["--stream=yes", "f"], &["--stream"]),
        (&["--timeout", "5", "--no-wait", "f"], &["--timeout", "--no-wait"]),
        (&["--no-wait", "--timeout", "5", "f"], &["--timeout", "--no-wait"]),
        (&["--timeout", "", "f"], &["--timeout"]),
        (&["--timeout", "x", "f"], &["--timeout", "x"]),
        (&["--timeout", "-1", "f"], &["--timeout", "-1"]),
        (&["--timeout", "1h ago", "f"], &["--timeout"]),
        (&["--timeout", "5y", "f"], &["--timeout", "5y"]),
        (&["--timeout", "1.2.3", "f"], &["--timeout", "1.2.3"]),
        (&["--timeout", "nan", "f"], &["--timeout", "nan"]),
        (&["--timeout", "inf", "f"], &["--timeout", "inf"]),
        (&["--timeout", "1e99", "f"], &["--timeout", "1e99"]),
        (&["--timeout", "99999999999999999999999999", "f"], &["--timeout"]),
        (&["--timeout", "0x10", "f"], &["--timeout", "0x10"]),
        (&["-t", "abc", "f"], &["abc"]),
        (&["-w", "abc", "f"], &["abc"]),
        (&["--mode", "", "f"], &["--mode"]),
        (&["--mode", "888", "f"], &["--mode", "888"]),
        (&["--mode", "rw", "f"], &["--mode", "rw"]),
        (&["--mode", "10000", "f"], &["--mode", "10000"]),
        (&["--mode", "-600", "f"], &["--mode"]),
        (&["--mode", "+600", "f"], &["--mode"]),
        (&["--mode", "6 0", "f"], &["--mode"]),
        (&["--mode", "0o600", "f"], &["--mode"]),
        (&["--mode", "7777777777777777777777777", "f"], &["--mode"]),
        (&["-m", "9", "f"], &["9"]),
        (&["--lock-mode", "x", "f"], &["--lock-mode", "x"]),
        (&["--lock-mode", "12345670", "f"], &["--lock-mode"]),
        (&["--backup-mode", "8", "f"], &["--backup-mode", "8"]),
        (&["--backup-suffix", "", "f"], &["--backup-suffix"]),
        (&["--backup-suffix", "a/b", "f"], &["--backup-suffix"]),
        (&["--backup-suffix", "/../../x", "f"], &["--backup-suffix"]),
        (&["--backup-dir", "", "f"], &["--backup-dir"]),
        (&["--lock-file", "", "f"], &["--lock-file"]),
        (&["--lock-dir", "", "f"], &["--lock-dir"]),
        (&["--lock-file", "a", "--lock-dir", "b", "f"], &["--lock-file", "--lock-dir"]),
        (&["--input", "", "f"], &["--input"]),
        (&["--sync", "fully", "f"], &["--sync", "fully"]),
        (&["--sync", "", "f"], &["--sync"]),
        (&["--lock-on-commit", "f", "--", "cat"], &["--lock-on-commit"]),
        (&["--lock-on-commit", "-i", "f", "f"], &["--lock-on-commit"]),
        (&["--lock-on-commit", "-i", "link", "f"], &["--lock-on-commit"]),
        (&["--lock-on-commit", "-i", "./f", "link"], &["--lock-on-commit"]),
        (&["--lock-on-commit", "-i", "in", "f", "--", "cat"], &["--lock-on-commit"]),
        (&["--completions", "tcsh"], &["tcsh"]),
        (&["--completions"], &["--completions"]),
        (&["--install"], &["--install"]),
    ];
    for (args, words) in cases {
        let done = dir.awrite(*args).stdin("new").run();
        done.assert_error_with(1, words).assert_hint("run 'awrite --help'");
        assert_eq!(done.lines().len(), 2, "{done:?}");
        assert_eq!(dir.snapshot("f"), before, "{args:?}");
        dir.assert_holds(&["f", "in", "link"]);
    }
}

#[test]
fn arguments_that_are_not_utf_8_are_refused_where_they_make_no_sense() {
    let dir = TestDir::new();
    let odd = OsStr::from_bytes(b"6\xff");
    for option in ["--mode", "--timeout", "--sync", "--lock-mode", "--backup-mode", "--completions"] {
        let done = dir.awrite([OsStr::new(option), odd, OsStr::new("f")]).stdin("x").run();
        done.assert_error_with(1, &[option]).assert_hint("awrite --help");
    }
    for argument in [&b"--\xff"[..], b"-\xff", b"--mode\xff=600"] {
        dir.awrite([OsStr::from_bytes(argument), OsStr::new("f")]).stdin("x").run().assert_error_with(1, &[]);
    }
    dir.assert_holds(&[]);
    // As names they make sense.
    for option in ["--lock-file", "--backup-suffix", "--backup-dir", "--validate"] {
        if option == "--backup-dir" {
            fs::create_dir(dir.join(odd)).unwrap();
        }
        let done = dir.awrite([OsStr::new(option), odd, OsStr::new("f")]).stdin("x").run();
        assert_eq!(done.code, Some(if option == "--validate" { 1 } else { 0 }), "{option}: {done:?}");
        assert_eq!(dir.read("f"), "x");
    }
}

#[test]
fn bad_usage_is_found_before_any_wait_and_any_input() {
    let dir = TestDir::new();
    let _held = crate::common::Held::new(&dir.join("f.lock"));
    // The input stays open: whoever tried to read it would hang here.
    let done = dir.awrite(["f", "--mode", "9"]).stdin_open().spawn();
    let mut done = done;
    crate::common::wait_until("it has ended", || done.has_ended());
    done.finish().assert_code(1);
}

#[test]
fn the_last_of_two_wins() {
    let dir = TestDir::new();
    let held = crate::common::Held::new(&dir.join("f.lock"));
    dir.awrite(["-t", "100", "-t", "10ms", "f"]).stdin("x").run().assert_code(2);
    held.release();
    dir.awrite(["-m", "600", "-m", "640", "f"]).stdin("x").quiet_success();
    assert_eq!(dir.mode("f"), 0o640);
    dir.awrite(["-v", "-q", "f"]).stdin("x").quiet_success();
}

// ---------------------------------------------------------------------------------------------------------------------
// Understood

#[test]
fn options_may_stand_anywhere_before_command() {
    let dir = TestDir::new();
    for args in [
        &["f", "-m", "640"][..],
        &["-m640", "f"],
        &["f", "--mode=640"],
        &["-qm", "640", "f"],
        &["-qm640", "f"],
        &["f", "-q", "--mode", "0640", "--", "echo", "-m", "600"],
        &["-m", "640", "--", "f"],
    ] {
        dir.awrite(args).stdin("x").quiet_success();
        assert_eq!(dir.mode("f"), 0o640, "{args:?}");
        fs::remove_file(dir.join("f")).unwrap();
    }
}

#[test]
fn durations_of_all_units_are_understood() {
    let dir = TestDir::new();
    for duration in ["30", "1.5", "500ms", "2m", "3s", "1h", "0.001", "0", "0s", "1d", "1w", "10min", "1m5s", "1h 30m"]
    {
        dir.awrite(["--timeout", duration, "f"]).stdin("x").quiet_success();
    }
}

/// Every option of the contract, in `--help`.
const OPTIONS: &[&str] = &[
    "-i, --input",
    "--stream",
    "-a, --append",
    "--wait",
    "--timeout",
    "-w",
    "-t",
    "-n, --no-wait",
    "--lock-on-commit",
    "--lock-file",
    "--lock-dir",
    "--lock-mode",
    "--keep-lock",
    "--owner",
    "--token",
    "--lock-method",
    "-b, --backup",
    "--backup-suffix",
    "--backup-dir",
    "--backup-timestamp",
    "--backup-mode",
    "-m, --mode",
    "--preserve-mode",
    "--no-preserve-mode",
    "--preserve-owner",
    "--try-preserve-owner",
    "--no-preserve-owner",
    "--no-preserve-xattrs",
    "--no-follow",
    "-f, --force",
    "--allow-empty",
    "--if-changed",
    "--validate",
    "--in-place",
    "--keep-inode",
    "--sync",
    "-D, --mkdir",
    "--progress",
    "-v",
    "-q, --quiet",
    "--json",
    "-h, --help",
    "-V, --version",
];

#[test]
fn help_shows_every_option() {
    let dir = TestDir::new();
    let done = dir.awrite(["--help"]).run();
    done.ok();
    assert_eq!(done.stderr, "");
    for name in OPTIONS {
        assert!(done.stdout.contains(name), "{name} is missing in\n{}", done.stdout);
    }
    for line in done.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    // Whatever else is asked for.
    assert_eq!(dir.awrite(["-q", "--help", "f"]).run().ok().stderr, "");
    dir.assert_holds(&[]);
}

/// `-h` is what most people need, on one screen of 24 lines, of which one is the prompt's.
#[test]
fn the_short_page_fits_a_screen_and_has_only_what_the_long_one_has() {
    let dir = TestDir::new();
    for applet in ["awrite", "awrite-lock", "awrite-housekeep"] {
        let [short, long] = ["-h", "--help"].map(|option| {
            let done = dir.awrite([option]).arg0(applet).run();
            assert_eq!(done.ok().stderr, "");
            done.stdout
        });
        assert!(short.lines().count() <= 23 && short.lines().all(|line| line.chars().count() <= 80), "{short}");
        let mut options = 0;
        for line in short.lines().filter(|line| line.trim_start().starts_with('-')) {
            let word = line.split_whitespace().find(|word| word.starts_with("--")).unwrap();
            let listed = |line: &str| line.starts_with("  ") && line.split([' ', ',']).any(|other| other == word);
            assert!(long.lines().any(listed), "{word}\n{long}");
            options += 1;
        }
        assert!(options >= 10 && short.contains(&format!("{applet} --help")), "{short}");
        assert!(long.lines().count() > short.lines().count(), "{long}");
    }
    dir.assert_holds(&[]);
}

#[test]
fn version_is_the_packages() {
    let dir = TestDir::new();
    for option in ["--version", "-V"] {
        let done = dir.awrite([option]).run();
        assert_eq!(done.ok().stdout, format!("awrite {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(done.stderr, "");
    }
}

/// A command whose standard output is a pipe that nobody reads any more.
fn into_a_closed_pipe(args: &[&str]) -> std::process::Output {
    let (reader, writer): (OwnedFd, OwnedFd) = rustix::pipe::pipe().unwrap();
    drop(reader);
    Command::new(AWRITE).args(args).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap()
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    for args in [&["--help"][..], &["--list"], &["--version"], &["--completions", "bash"]] {
        let output = into_a_closed_pipe(args);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
    let dir = TestDir::new();
    let done = dir.sh("\"$BIN\" --help | head -n 1").run();
    assert_eq!((done.ok().stdout.lines().count(), done.stderr.as_str()), (1, ""));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let dir = TestDir::new();
    for option in ["--help", "--list", "--version"] {
        let done = dir.sh(&format!("\"$BIN\" {option} > /dev/full")).run();
        done.assert_error_with(1, &["No space left on device"]);
        // A closed descriptor must not panic; whether it is an error is a matter of taste.
        let done = dir.sh(&format!("\"$BIN\" {option} >&-")).run();
        assert!(matches!(done.code, Some(0 | 1)) && !done.stderr.contains("panic"), "{done:?}");
        dir.sh(&format!("\"$BIN\" {option} > /dev/full 2>&1")).run().assert_code(1);
    }
}

#[test]
fn completions_are_valid_scripts() {
    let dir = TestDir::new();
    for shell in ["bash", "zsh", "fish"] {
        let done = dir.awrite(["--completions", shell]).run();
        done.ok();
        assert_eq!(done.stderr, "");
        for word in ["awrite", "backup-timestamp", "lock-on-commit", "if-changed"] {
            assert!(done.stdout.contains(word), "{shell}: {word}");
        }
        dir.file(shell, &done.stdout);
        // The shells themselves say whether it is one of their scripts.
        if Path::new("/bin").join(shell).exists() || Path::new("/usr/bin").join(shell).exists() {
            dir.program(shell, ["-n", shell]).quiet_success();
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Applets

#[test]
fn the_name_chooses_the_applet() {
    let dir = TestDir::new();
    for name in ["awrite", "atomic-write", "-awrite", "/some/where/awrite", "frobnicate", "sponge", "", "./-x"] {
        dir.awrite(["f"]).arg0(name).stdin(name.as_bytes().to_vec()).run();
        dir.awrite(["--allow-empty", "f"]).arg0(name).stdin(name).quiet_success();
        assert_eq!(dir.read("f"), name);
    }
    for name in ["awrite-lock", "awrite-housekeep", "/usr/bin/awrite-lock", "-awrite-housekeep", "flock"] {
        // None of them may be taken for the write applet.
        dir.awrite(["g"]).arg0(name).stdin("x").run();
        dir.assert_holds(&["f"]);
    }
}

#[test]
fn the_first_word_chooses_the_applet() {
    let dir = TestDir::new();
    for word in ["lock", "housekeep"] {
        for name in ["awrite", "atomic-write"] {
            let help = dir.awrite([word, "--help"]).arg0(name).run();
            assert!(help.ok().stdout.contains(&format!("awrite-{word}")), "{help:?}");
            let version = dir.awrite([word, "--version"]).arg0(name).run();
            assert!(version.ok().stdout.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
            dir.awrite([word]).arg0(name).stdin("x").run().assert_code(1);
            dir.assert_holds(&[]);
        }
        // Only as the first word, and only exactly.
        let dotted = format!("./{word}");
        dir.awrite([&dotted]).stdin("x").quiet_success();
        dir.awrite(["--", word]).stdin("x").quiet_success();
        dir.awrite(["-q", word]).stdin("x").quiet_success();
        assert_eq!(dir.read(word), "x");
        fs::remove_file(dir.join(word)).unwrap();
    }
    dir.awrite(["locks"]).stdin("x").quiet_success();
    dir.assert_holds(&["locks"]);
}

#[test]
fn list_names_the_applets() {
    let dir = TestDir::new();
    let done = dir.awrite(["--list"]).run();
    let names: Vec<&str> = done.ok().stdout.lines().collect();
    for name in ["awrite", "awrite-lock", "awrite-housekeep"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(names.iter().all(|name| !name.contains(' ')));
}

#[test]
fn install_makes_links_that_work() {
    let dir = TestDir::new();
    let bin = dir.dir("bin");
    dir.awrite(["--install", "bin"]).quiet_success();
    let listed = dir.awrite(["--list"]).run().stdout;
    for name in listed.lines() {
        let link = bin.join(name);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{name}");
        assert!(dir.program(&link, ["--version"]).run().ok().stdout.contains(env!("CARGO_PKG_VERSION")));
    }
    dir.program(bin.join("awrite"), ["f"]).stdin("through the link").quiet_success();
    assert_eq!(dir.read("f"), "through the link");
}

#[test]
fn install_is_all_or_nothing() {
    let dir = TestDir::new();
    let bin = dir.dir("bin");
    dir.file("bin/awrite-lock", "somebody else's");
    let done = dir.awrite(["--install", "bin"]).run();
    done.assert_error_with(1, &["awrite-lock", "exists"]);
    assert_no_debris(&bin, &["awrite-lock"]);
    assert_eq!(dir.read("bin/awrite-lock"), "somebody else's");

    for args in [["--install", "--force", "bin"], ["--install", "-f", "bin"]] {
        dir.awrite(args).quiet_success();
        assert!(fs::symlink_metadata(bin.join("awrite-lock")).unwrap().is_symlink());
    }
    let names = crate::common::names_in(&bin);
    assert!(names.len() >= 3 && names.iter().all(|name| !name.to_str().unwrap().contains("XX")), "{names:?}");

    fs::remove_file(bin.join("awrite-lock")).unwrap();
    fs::create_dir(bin.join("awrite-lock")).unwrap();
    let done = dir.awrite(["--install", "--force", "bin"]).run();
    done.assert_error_with(1, &["awrite-lock", "directory"]);
    assert_eq!(crate::common::names_in(&bin), names);

    dir.awrite(["--install", "no/such"]).run().assert_error_with(1, &["no/such", "no such file or directory"]);
    dir.file("plain", "");
    dir.awrite(["--install", "plain"]).run().assert_error_with(1, &["plain", "not a directory"]);
}

/// As a package does it: the binary stands in the directory already.
#[test]
fn install_beside_the_binary_leaves_it_alone() {
    let dir = TestDir::new();
    let bin = dir.dir("bin");
    copy_program(Path::new(AWRITE), &bin.join("awrite"));
    dir.program(bin.join("awrite"), ["--install", "bin"]).quiet_success();
    assert!(fs::symlink_metadata(bin.join("awrite")).unwrap().is_file());
    assert!(fs::symlink_metadata(bin.join("awrite-lock")).unwrap().is_symlink());
    // The directory can be moved as a whole.
    fs::rename(&bin, dir.join("moved")).unwrap();
    dir.program(dir.join("moved/awrite-lock"), ["--version"]).run().ok();
}
