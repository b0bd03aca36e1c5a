//! Much data: streamed in constant memory or held in memory, appended, from pipes and files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use crate::common::{Running, TestDir, lock_is_held, needs, needs_strace, rounds, wait_until};

/// Content without repetitions, so that misplaced parts show.
fn content(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    all
}

#[test]
fn sizes_around_the_buffers_are_exact() {
    let dir = TestDir::new();
    for size in [1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 1_048_577, 5_000_001] {
        let all = content(size);
        for option in ["--quiet", "--stream"] {
            dir.awrite([option, "--sync", "none", "f"]).stdin(all.clone()).quiet_success();
            assert!(fs::read(dir.join("f")).unwrap() == all, "{option} {size}");
        }
        dir.file("in", &all);
        for option in ["--quiet", "--stream"] {
            dir.awrite([option, "--sync", "none", "-i", "in", "f"]).quiet_success();
            assert!(fs::read(dir.join("f")).unwrap() == all, "{option} -i {size}");
        }
    }
}

#[test]
fn input_that_comes_in_crumbs_is_complete() {
    let dir = TestDir::new();
    for option in ["--quiet", "--stream"] {
        let mut writer = dir.awrite([option, "f"]).stdin_open().spawn();
        let all = content(3000);
        for crumb in all.chunks(7) {
            writer.feed(crumb);
        }
        writer.finish().ok();
        assert_eq!(fs::read(dir.join("f")).unwrap(), all);
    }
}

/// Peak memory in KiB, read while the process is still there.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Feeds `mebibytes` through a pipe and says how much memory the writer had at its peak.
fn peak_while_fed(dir: &TestDir, args: &[&str], mebibytes: usize) -> u64 {
    let mut writer = dir.awrite(args).stdin_open().spawn();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..mebibytes {
        writer.feed(&block);
    }
    // All but what fits into the pipe has been read by now.
    let peak = peak_memory(writer.id());
    writer.finish().ok();
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), (mebibytes as u64) << 20);
    peak
}

/// Compared with a small input, so that the memory of the loader and of a debug build does not count.
#[test]
fn streaming_needs_no_more_memory_for_more_input() {
    let dir = TestDir::new();
    for args in [
        &["--sync=none", "--stream", "f"][..],
        &["--sync=none", "--stream", "-i", "-", "f", "--", "cat"],
        &["--sync=none", "--stream", "--lock-on-commit", "f"],
    ] {
        let small = peak_while_fed(&dir, args, 4);
        let large = peak_while_fed(&dir, args, 128);
        assert!(large <= small + 1024, "{args:?}: {small} KiB for 4 MiB, {large} KiB for 128 MiB");
        assert!(small < 16 << 10, "{small} KiB");
    }
}

#[test]
fn simple_mode_needs_little_more_memory_than_the_input() {
    let dir = TestDir::new();
    let peak = peak_while_fed(&dir, &["--sync=none", "f"], 64);
    // 1.1 times the input and 4 MiB, and the rest for a debug build.
    assert!(peak < (64 << 10) * 11 / 10 + (12 << 10), "{peak} KiB for 64 MiB");
}

#[test]
fn too_little_memory_is_an_error_that_names_the_way_out() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    let done = dir.sh("ulimit -v 200000; head -c 400000000 /dev/zero | \"$BIN\" f").run();
    done.assert_error_with(1, &["memory"]).assert_hint("--stream");
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f"]);
    dir.sh("ulimit -v 200000; head -c 400000000 /dev/zero | \"$BIN\" --stream --sync none f").quiet_success();
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 400_000_000);
}

#[test]
fn holes_read_as_zeros() {
    let dir = TestDir::new();
    let input = File::create(dir.join("in")).unwrap();
    input.set_len(20 << 20).unwrap();
    input.write_all_at(b"middle", 10 << 20).unwrap();
    for args in [&["-i", "in", "f"][..], &["--stream", "-i", "in", "f"], &["f", "--", "cat", "in"]] {
        dir.awrite(args).quiet_success();
        assert!(fs::read(dir.join("f")).unwrap() == fs::read(dir.join("in")).unwrap());
        fs::remove_file(dir.join("f")).unwrap();
    }
}

#[test]
fn an_input_file_that_grows_meanwhile_is_no_error() {
    let dir = TestDir::new();
    let mut input = File::create(dir.join("in")).unwrap();
    input.write_all(&content(1000)).unwrap();
    let held = crate::common::Held::new(&dir.join("f.lock"));
    let mut writer = dir.awrite(["-i", "in", "f"]).spawn();
    writer.wait_for_waiting();
    input.write_all(&content(1000)).unwrap();
    held.release();
    writer.finish().ok();
    assert!(dir.join("f").exists());
}

/// A copy with a length that was taken too early would be cut or padded.
#[test]
fn the_output_as_input_is_read_under_the_lock() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for args in [&["-i", "f", "f"][..], &["--stream", "-i", "f", "f"], &["f", "--", "cat"]] {
        let held = crate::common::Held::new(&dir.join("f.lock"));
        let mut writer = dir.awrite(args).spawn();
        writer.wait_for_waiting();
        dir.file("f.new", "changed while it waited");
        fs::rename(dir.join("f.new"), dir.join("f")).unwrap();
        held.release();
        writer.finish().ok();
        assert_eq!(dir.read("f"), "changed while it waited");
        dir.file("f", "old");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Append

#[test]
fn append_keeps_what_is_there() {
    let dir = TestDir::new();
    for args in [&["-a", "f"][..], &["--append", "f"], &["-a", "--stream", "f"], &["-a", "-i", "in", "f"]] {
        dir.file_with_mode("f", "old\n", 0o640);
        dir.file("in", "new\n");
        let before = dir.snapshot("f");
        dir.awrite(args).stdin("new\n").quiet_success();
        assert_eq!(dir.read("f"), "old\nnew\n");
        assert_eq!(dir.mode("f"), 0o640);
        assert_ne!(dir.snapshot("f").inode, before.inode, "replaced as a whole");
        dir.assert_holds(&["f", "in"]);
    }
}

#[test]
fn append_to_nothing_makes_the_file() {
    let dir = TestDir::new();
    for option in ["--quiet", "--stream", "--lock-on-commit"] {
        dir.awrite(["-a", option, "f"]).stdin("new\n").quiet_success();
        assert_eq!(dir.read("f"), "new\n");
        fs::remove_file(dir.join("f")).unwrap();
    }
}

#[test]
fn append_of_nothing_is_no_input() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    for option in ["--quiet", "--stream"] {
        dir.awrite(["-a", option, "f"]).run().assert_error(1, "Error: No input provided");
    }
    assert_eq!(dir.snapshot("f"), before);
    dir.awrite(["-a", "--allow-empty", "f"]).quiet_success();
    assert_eq!(dir.read("f"), "old");
    dir.assert_holds(&["f"]);
}

#[test]
fn append_of_the_file_to_itself_doubles_it() {
    let dir = TestDir::new();
    let all = content(700_001);
    for option in ["--quiet", "--stream"] {
        dir.file("f", &all);
        dir.awrite(["-a", option, "-i", "f", "f"]).quiet_success();
        let doubled = fs::read(dir.join("f")).unwrap();
        assert!(doubled == [all.clone(), all.clone()].concat(), "{option}: {}", doubled.len());
    }
}

#[test]
fn append_to_a_large_file_is_exact() {
    let dir = TestDir::new();
    let all = content(9_000_001);
    for option in ["--quiet", "--stream"] {
        dir.file("f", &all[..8_000_001]);
        dir.awrite(["-a", option, "f"]).stdin(&all[8_000_001..]).quiet_success();
        assert!(fs::read(dir.join("f")).unwrap() == all);
    }
}

#[test]
fn appending_needs_no_memory_for_the_old_content() {
    let dir = TestDir::new();
    dir.file("f", vec![b'o'; 96 << 20]);
    for option in ["--quiet", "--stream"] {
        let mut writer = dir.awrite(["-a", option, "--sync=none", "f", "-i", "-", "--", "cat"]).stdin_open().spawn();
        writer.feed(b"new");
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        writer.feed(b"er");
        let mut peak = 0;
        writer.close_stdin();
        // /proc/PID/status goes with the process, so the last value that was read counts.
        wait_until("it has ended", || {
            if let Ok(mut status) = File::open(format!("/proc/{}/status", writer.id())) {
                let mut text = String::new();
                let _ = status.read_to_string(&mut text);
                let line = text.lines().find(|line| line.starts_with("VmHWM:"));
                peak = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(peak);
            }
            writer.has_ended()
        });
        writer.finish().ok();
        assert!(peak < 40 << 10, "{peak} KiB");
    }
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), (96 << 20) + 10);
}

#[test]
fn appends_at_once_lose_nothing() {
    let dir = TestDir::new();
    dir.file("log", "");
    let appenders: Vec<Running> = (0..20)
        .map(|number| {
            let script = format!(
                "for i in 0 1 2 3 4 5 6 7 8 9; do
                    echo {number} $i | \"$BIN\" -q -a --sync none log || exit 1
                done"
            );
            dir.sh(&script).spawn()
        })
        .collect();
    for appender in appenders {
        appender.finish().ok();
    }
    let log = dir.read("log");
    for number in 0..20 {
        let own: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix(&format!("{number} "))).collect();
        assert_eq!(own, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "in order, all there");
    }
    assert_eq!(log.lines().count(), 200);
    dir.assert_holds(&["log"]);
}

/// Too little memory is an error, never an abort that leaves the lock file.
#[test]
fn little_memory_leaves_nothing_behind() {
    let dir = TestDir::new();
    // The least that a write of little takes, found by bisection. A little more is not enough for the buffers.
    let script = r#"
        low=2000 high=60000
        while [ $((high - low)) -gt 40 ]; do
            middle=$(((low + high) / 2))
            cp small f
            if (ulimit -v $middle; $1 < small > out 2>&1) && [ ! -s out ]; then high=$middle; else low=$middle; fi
            rm -f f.lock
        done
        limit=$((low - 160))
        while [ $limit -lt $((low + 400)) ]; do
            cp in f
            (ulimit -v $limit; $1 < in > out 2>&1)
            if [ -e f.lock ]; then cat out >&2; exit 3; fi
            limit=$((limit + $2))
        done
        if [ "$3" ]; then
            cp in f
            if (ulimit -v $low; $1 < in > out 2>&1); then exit 4; fi
            case $(cat out) in "Error: $3: Cannot allocate memory"*"(ulimit -v)") ;; *) cat out >&2; exit 5;; esac
            cmp in f
        fi
        rm out"#;
    dir.file("in", content(2_000_000));
    dir.file("small", "x");
    let (bin, step) = (crate::common::AWRITE, rounds("40", "4"));
    // Those that wait for somebody else begin with a thread.
    let no_thread = "cannot start the signal thread";
    for (args, refused) in [
        ("f", ""),
        ("--stream f", ""),
        ("-a f", ""),
        ("--if-changed f", ""),
        ("--lock-method link f", ""),
        ("f -- cat", no_thread),
        ("--stream f -- cat", no_thread),
        ("--lock-method link f -- cat", no_thread),
        ("--validate true f", no_thread),
        ("lock f g -- true", ""),
    ] {
        dir.program("sh", ["-c", script, "sh", &format!("{bin} {args}"), step, refused]).run().ok();
        dir.assert_holds(&["f", "in", "small"]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Progress

#[test]
fn progress_is_only_for_terminals() {
    let dir = TestDir::new();
    dir.awrite(["--progress", "--stream", "f"]).stdin(content(3_000_000)).quiet_success();
    dir.awrite(["--progress", "-i", "f", "g"]).quiet_success();
}

#[test]
fn progress_on_a_terminal_shows_bytes_rate_and_percentage() {
    if !needs("script") || !needs_strace() {
        return;
    }
    let with_input = || {
        let dir = TestDir::new();
        dir.file("in", content(3_000_000));
        dir
    };
    let dir = with_input();
    // script gives the command a terminal, and prints what appears there.
    let start = |dir: &TestDir, command: &str| dir.program("script", ["-qec", command, "/dev/null"]).spawn();
    let on_a_terminal = |command: &str| start(&dir, command).finish();
    // A fast write shows no progress, so strace makes it slow.
    let slow = "strace -f -o trace -e trace=copy_file_range -e inject=copy_file_range:delay_exit=300000 \"$BIN\"";
    let silent = ["-q --progress", "--json --progress", ""].map(|options| {
        let dir = with_input();
        (start(&dir, &format!("{slow} {options} -i in f")), dir)
    });
    let done = on_a_terminal(&format!("{slow} --progress -i in f"));
    assert!(done.ok().stdout.contains("/s") && done.stdout.contains('%'), "{done:?}");
    // The line redraws itself and is erased at the end.
    assert!(done.stdout.contains('\r') && !done.stdout.contains('\n'), "{done:?}");
    for (silent, _dir) in silent {
        let done = silent.finish();
        assert!(!done.ok().stdout.contains("/s") && !done.stdout.contains('%'), "{done:?}");
    }
    // The size of a pipe's content is not known.
    let done = on_a_terminal("{ cat in; sleep 0.3; cat in; } | \"$BIN\" --progress --stream f");
    assert!(done.ok().stdout.contains("/s") && !done.stdout.contains('%'), "{done:?}");
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 6_000_000);
}
