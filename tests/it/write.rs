//! The main job: input to a file, whatever the file is called, whoever owns it, whatever stands there already.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use crate::common::{
    AWRITE, Held, NOBODY, Snapshot, TestDir, assert_no_debris, chmod, copy_program, is_root, lock_is_held, needs,
    needs_root, needs_strace, needs_user_namespaces, wait_until,
};

// ---------------------------------------------------------------------------------------------------------------------
// Input

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

/// Only what has not been read yet is input, as for any filter.
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

/// Such files say that they are empty, and must be read to be known.
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

/// It would have been opened, and even truncated, by anything that opened its output before reading.
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

// ---------------------------------------------------------------------------------------------------------------------
// Links

#[test]
fn a_symbolic_link_is_followed_and_stays() {
    let dir = TestDir::new();
    dir.dir("real");
    dir.file("real/f", "old");
    symlink("real/f", dir.join("one")).unwrap();
    symlink(dir.join("one"), dir.join("two")).unwrap();
    symlink("real", dir.join("dirlink")).unwrap();
    symlink("../two", dir.join("real/three")).unwrap();
    for name in ["one", "two", "dirlink/f", "real/three", "dirlink/three"] {
        dir.awrite([name]).stdin(name).quiet_success();
        assert_eq!(dir.read("real/f"), name);
    }
    assert_eq!(fs::read_link(dir.join("one")).unwrap(), Path::new("real/f"));
    assert!(!fs::symlink_metadata(dir.join("real/f")).unwrap().is_symlink());
    dir.assert_holds(&["one", "two", "real", "dirlink"]);
    assert_no_debris(&dir.join("real"), &["f", "three"]);
}

#[test]
fn all_names_of_a_file_share_one_lock() {
    let dir = TestDir::new();
    dir.dir("real");
    dir.file("real/f", "old");
    symlink("real/f", dir.join("link")).unwrap();
    symlink("real", dir.join("dirlink")).unwrap();
    let held = Held::new(&dir.join("real/f.lock"));
    for name in ["link", "dirlink/f", "real/f", "./real/../real/f"] {
        let done = dir.awrite(["--no-wait", name]).stdin("x").run();
        done.assert_error(2, &format!("Error: {name}: File locked by another process"));
    }
    held.release();
    dir.awrite(["--no-wait", "link"]).stdin("new").quiet_success();
    assert_eq!(dir.read("real/f"), "new");
    assert_no_debris(&dir.join("real"), &["f"]);
}

#[test]
fn a_dangling_link_creates_its_target() {
    let dir = TestDir::new();
    dir.dir("real");
    symlink("real/new", dir.join("link")).unwrap();
    dir.awrite(["link"]).stdin("data").quiet_success();
    assert_eq!(dir.read("real/new"), "data");
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
    assert_no_debris(&dir.join("real"), &["new"]);

    symlink("nowhere/new", dir.join("lost")).unwrap();
    dir.awrite(["lost"]).stdin("data").run().assert_error_with(1, &["lost: ", "no such"]);
    dir.assert_holds(&["real", "link", "lost"]);
}

#[test]
fn link_loops_are_errors() {
    let dir = TestDir::new();
    symlink("b", dir.join("a")).unwrap();
    symlink("a", dir.join("b")).unwrap();
    symlink("self", dir.join("self")).unwrap();
    for name in ["a", "self", "self/f"] {
        dir.awrite([name]).stdin("x").run().assert_error_with(1, &[&format!("{name}: "), "symbolic links"]);
    }
    dir.assert_holds(&["a", "b", "self"]);
}

/// Following links by hand must not resolve `link/..` by text: `..` means the parent of where the link leads.
#[test]
fn dots_after_a_link_mean_the_parent_of_where_it_leads() {
    let dir = TestDir::new();
    fs::create_dir_all(dir.join("a/b")).unwrap();
    symlink("a/b", dir.join("link")).unwrap();
    dir.awrite(["link/../f"]).stdin("x").quiet_success();
    assert_eq!(dir.read("a/f"), "x");
    symlink("link/../g", dir.join("indirect")).unwrap();
    dir.awrite(["indirect"]).stdin("y").quiet_success();
    assert_eq!(dir.read("a/g"), "y");
    dir.assert_holds(&["a", "link", "indirect"]);
}

#[test]
fn other_hard_links_keep_the_old_content() {
    let dir = TestDir::new();
    dir.file("f", "old");
    fs::hard_link(dir.join("f"), dir.join("other")).unwrap();
    let done = dir.awrite(["-v", "f"]).stdin("new").run();
    done.ok();
    assert!(done.stderr.contains("keep the old content"), "said at -v\n{done:#?}");
    assert_eq!((dir.read("f").as_str(), dir.read("other").as_str()), ("new", "old"));

    fs::remove_file(dir.join("other")).unwrap();
    fs::hard_link(dir.join("f"), dir.join("other")).unwrap();
    dir.awrite(["f"]).stdin("newer").quiet_success();
}

// ---------------------------------------------------------------------------------------------------------------------
// What cannot be a target

#[test]
fn what_is_no_regular_file_is_refused_by_name() {
    let dir = TestDir::new();
    dir.dir("d");
    dir.sh("mkfifo fifo").quiet_success();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("sock")).unwrap();
    symlink("fifo", dir.join("to-fifo")).unwrap();
    symlink("d", dir.join("to-dir")).unwrap();
    for (name, kind) in [
        ("d", "directory"),
        ("d/", "directory"),
        (".", "directory"),
        ("..", "directory"),
        ("d/.", "directory"),
        ("/", "directory"),
        ("to-dir", "directory"),
        ("fifo", "fifo"),
        ("to-fifo", "fifo"),
        ("sock", "socket"),
        ("/dev/null", "device"),
        ("/dev/tty", "device"),
    ] {
        let done = dir.awrite([name]).stdin("x").run();
        done.assert_error_with(1, &[&format!("Error: {name}: "), kind]);
    }
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    dir.assert_holds(&["d", "fifo", "sock", "to-fifo", "to-dir"]);
    assert_no_debris(&dir.join("d"), &[]);
}

#[test]
fn a_block_device_is_refused_by_name() {
    let device = ["/dev/vda", "/dev/sda", "/dev/loop0", "/dev/nvme0n1"]
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device()));
    let Some(device) = device else { return };
    let dir = TestDir::new();
    // As somebody who could not write to it even if the check failed.
    dir.awrite_unprivileged([device]).stdin("x").run().assert_error_with(1, &[device, "device"]);
}

#[test]
fn a_path_through_a_file_is_refused() {
    let dir = TestDir::new();
    dir.file("f", "x");
    for name in ["f/g", "f/"] {
        dir.awrite([name]).stdin("x").run().assert_error_with(1, &[&format!("Error: {name}: "), "not a directory"]);
    }
    dir.awrite(["new/"]).stdin("x").run().assert_error_with(1, &["Error: new/: "]);
    dir.assert_holds(&["f"]);
    assert_eq!(dir.read("f"), "x");
}

/// Links in `/proc` lead to files, not to names. `/dev/stdout` and shells' `>(…)` are such.
#[test]
fn links_to_open_files_are_not_taken_for_names() {
    let dir = TestDir::new();
    // A pipe.
    dir.awrite(["/dev/stdout"]).stdin("x").run().assert_error_with(1, &["/dev/stdout: ", "fifo"]);
    // A file that has been deleted: the link reads `…/gone (deleted)`.
    let done = dir.sh("exec 7> gone; rm gone; echo x | \"$BIN\" /dev/fd/7").run();
    done.assert_error_with(1, &["/dev/fd/7: "]);
    dir.assert_holds(&[]);
    // One that still has its name is that file.
    dir.sh("exec 7> here; echo x | \"$BIN\" /dev/fd/7").quiet_success();
    assert_eq!(dir.read("here"), "x\n");
    dir.assert_holds(&["here"]);
}

#[test]
fn files_of_the_kernels_cannot_be_replaced() {
    let dir = TestDir::new();
    for path in ["/proc/self/comm", "/proc/sys/kernel/hostname", "/sys/kernel/mm/ksm/run"] {
        for option in ["--quiet", "--stream", "--lock-on-commit"] {
            dir.awrite_unprivileged([option, path]).stdin("x").run().assert_error_with(1, &[path]);
        }
        dir.awrite_unprivileged(["--lock-file", "/dev/shm/awrite-test.lock", path]).stdin("x").run().assert_code(1);
        assert!(!Path::new("/dev/shm/awrite-test.lock").exists());
    }
}

#[test]
fn a_missing_parent_is_an_error_with_a_hint() {
    let dir = TestDir::new();
    let done = dir.awrite(["no/such/f"]).stdin("x").run();
    done.assert_error_with(1, &["Error: no/such/f: ", "no such file or directory"]).assert_hint("--mkdir");
    dir.assert_holds(&[]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Permissions

#[test]
fn a_read_only_file_is_refused_unless_forced() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("readonly.txt", "old", 0o444);
    let before = dir.snapshot("readonly.txt");
    let done = dir.awrite_unprivileged(["readonly.txt"]).stdin("new").run();
    done.assert_error(1, "Error: readonly.txt: Permission denied");
    assert_eq!(dir.snapshot("readonly.txt"), before);
    dir.assert_holds(&["readonly.txt"]);

    dir.awrite_unprivileged(["--force", "readonly.txt"]).stdin("new").quiet_success();
    assert_eq!(dir.read("readonly.txt"), "new");
    assert_eq!(dir.mode("readonly.txt"), 0o444);
    dir.awrite_unprivileged(["-f", "readonly.txt"]).stdin("newer").quiet_success();
    assert_eq!(dir.read("readonly.txt"), "newer");
    dir.assert_holds(&["readonly.txt"]);
}

#[test]
fn a_read_only_file_gives_its_error_before_the_wait_for_its_lock() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o444);
    let _held = Held::new(&dir.join("f.lock"));
    dir.awrite_unprivileged(["f"]).stdin("new").run().assert_error(1, "Error: f: Permission denied");
}

#[test]
fn a_directory_that_refuses_the_lock_file_is_named_with_a_hint() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    dir.file_with_mode("sub/config.json", "old", 0o666);
    chmod(&sub, 0o555);
    let done = dir.awrite_unprivileged(["sub/config.json"]).stdin("new").run();
    done.assert_error(1, "Error: sub/config.json.lock: Permission denied")
        .assert_hint("Run with sudo or check directory permissions");
    assert_eq!(dir.read("sub/config.json"), "old");
    let absolute = dir.join("sub/config.json");
    let done = dir.awrite_unprivileged([&absolute]).stdin("new").run();
    done.assert_error(1, &format!("Error: {}.lock: Permission denied", absolute.display()));
    chmod(&sub, 0o755);
    assert_no_debris(&sub, &["config.json"]);
}

#[test]
fn a_directory_that_may_not_be_searched_is_an_error() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    chmod(&sub, 0o000);
    let done = dir.awrite_unprivileged(["sub/f"]).stdin("new").run();
    done.assert_error_with(1, &["sub/f", "Permission denied"]);
    chmod(&sub, 0o755);
    assert_no_debris(&sub, &[]);
}

/// A directory that may be searched and written, but not listed, is enough.
#[test]
fn an_unlistable_directory_is_no_obstacle() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    chmod(&sub, 0o333);
    dir.awrite_unprivileged(["sub/f"]).stdin("one").quiet_success();
    dir.awrite_unprivileged(["sub/f"]).stdin("two").quiet_success();
    chmod(&sub, 0o755);
    assert_eq!(dir.read("sub/f"), "two");
    assert_no_debris(&sub, &["f"]);
}

#[test]
fn an_unreadable_target_can_be_replaced() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o222);
    dir.awrite_unprivileged(["f"]).stdin("new").quiet_success();
    assert_eq!(dir.mode("f"), 0o222);
    chmod(&dir.join("f"), 0o644);
    assert_eq!(dir.read("f"), "new");
}

/// Opening the target for writing would be ETXTBSY.
#[test]
fn a_running_program_can_be_replaced() {
    let dir = TestDir::new();
    let program = dir.join("program");
    copy_program(Path::new("/bin/sleep"), &program);
    let running = dir.program(&program, ["60"]).spawn();
    wait_until("the program runs", || {
        fs::read_link(format!("/proc/{}/exe", running.id())).is_ok_and(|exe| exe.ends_with("program"))
    });
    dir.awrite(["program"]).stdin("#!/bin/sh\necho replaced\n").quiet_success();
    let done = dir.program("./program", [""; 0]).run();
    assert_eq!(done.ok().stdout, "replaced\n");
}

// ---------------------------------------------------------------------------------------------------------------------
// Names

#[test]
fn any_name_will_do() {
    let dir = TestDir::new();
    let names: [&[u8]; 8] = [
        b"with space",
        b"new\nline",
        b"\xff\xfe not utf-8 \x80",
        b"*?[]{}$HOME`id`\"'\\",
        b"%s%n%d",
        b"...",
        b"lock",
        "k\u{e4}se \u{1f9c0}".as_bytes(),
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        dir.awrite([Path::new(".").join(name)]).stdin("1").quiet_success();
        dir.awrite([OsStr::new("--"), name]).stdin("2").quiet_success();
        assert_eq!(dir.read(name), "2");
        fs::remove_file(dir.join(name)).unwrap();
    }
    dir.awrite(["--", "--help"]).stdin("x").quiet_success();
    dir.awrite(["./-"]).stdin("x").quiet_success();
    dir.assert_holds(&["--help", "-"]);
    // That would be standard output, which cannot be replaced: nobody shall find a file called `-` one day.
    fs::remove_file(dir.join("-")).unwrap();
    dir.awrite(["-"]).stdin("x").run().assert_error_with(1, &["standard output"]).assert_hint("awrite --help");
    dir.assert_holds(&["--help"]);
}

#[test]
fn the_longest_names_work_and_longer_ones_are_errors() {
    let dir = TestDir::new();
    for length in [235, 240, 249, 250, 251, 254, 255] {
        let name = "n".repeat(length);
        dir.awrite([&name]).stdin("1").quiet_success();
        dir.awrite([&name]).stdin("2").quiet_success();
        assert_eq!(dir.read(&name), "2");
        fs::remove_file(dir.join(&name)).unwrap();
    }
    // Shortening a name must not cut a character in two.
    let name = "\u{1f9c0}".repeat(63);
    dir.awrite([&name]).stdin("1").quiet_success();
    dir.awrite(["--validate", "true", &name]).stdin("2").quiet_success();
    assert_eq!(dir.read(&name), "2");
    fs::remove_file(dir.join(&name)).unwrap();

    let name = "n".repeat(256);
    dir.awrite([&name]).stdin("x").run().assert_error(1, &format!("Error: {name}: File name too long"));
    let path = format!("{}f", "./".repeat(3000));
    dir.awrite([&path]).stdin("x").run().assert_error(1, &format!("Error: {path}: File name too long"));
    dir.assert_holds(&[]);
}

/// Up to 250 bytes `.lock` fits behind the name. Beyond, the name is shortened the same way by everyone.
#[test]
fn long_names_lock_each_other_out() {
    let dir = TestDir::new();
    for length in [250, 251, 255] {
        let name = "n".repeat(length);
        let mut holder = dir.awrite([&name]).stdin_open().spawn();
        wait_until("there is a lock file", || !dir.names().is_empty());
        let lock = dir.names().into_iter().next().unwrap();
        wait_until("the lock is held", || lock_is_held(&dir.join(&lock)));
        if length == 250 {
            assert_eq!(lock, OsStr::new(&format!("{name}.lock")));
        }
        assert!(lock.as_bytes().ends_with(b".lock"), "{lock:?}");
        let absolute = dir.join(&name);
        dir.awrite([OsStr::new("-n"), absolute.as_os_str()]).stdin("x").run().assert_code(2);
        // Another long name with the same beginning is another file.
        let other = format!("{}m", &name[1..]);
        dir.awrite(["-n", &other]).stdin("x").quiet_success();
        fs::remove_file(dir.join(other)).unwrap();
        holder.feed(b"held");
        holder.finish().ok();
        assert_eq!(dir.read(&name), "held");
        fs::remove_file(dir.join(name)).unwrap();
        dir.assert_holds(&[]);
    }
}

#[test]
fn paths_of_all_kinds_mean_what_the_kernel_says() {
    let dir = TestDir::new();
    dir.dir("sub");
    let absolute = dir.join("sub/f");
    for (number, name) in ["sub/f", "./sub/f", "sub//f", "sub/./f", "sub/../sub/f"].iter().enumerate() {
        dir.awrite([name]).stdin(number.to_string()).quiet_success();
        assert_eq!(dir.read("sub/f"), number.to_string());
    }
    dir.awrite([absolute]).stdin("absolute").quiet_success();
    assert_eq!(dir.read("sub/f"), "absolute");
    assert_no_debris(&dir.join("sub"), &["f"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Mode, owner, attributes

#[test]
fn a_new_file_gets_what_umask_leaves() {
    let dir = TestDir::new();
    for (umask, mode) in [("022", 0o644), ("077", 0o600), ("027", 0o640), ("000", 0o666), ("0777", 0o000)] {
        for option in ["--quiet", "--stream", "--no-preserve-mode", "--validate=true"] {
            dir.sh(&format!("umask {umask}; echo x | \"$BIN\" {option} f")).quiet_success();
            assert_eq!(dir.mode("f"), mode, "umask {umask} {option}");
            fs::remove_file(dir.join("f")).unwrap();
        }
    }
}

#[test]
fn the_mode_of_a_file_is_kept() {
    let dir = TestDir::new();
    for mode in [0o600, 0o640, 0o644, 0o755, 0o666, 0o777, 0o1644, 0o400] {
        dir.file_with_mode("f", "old", mode);
        dir.sh("umask 077; echo new | \"$BIN\" -f f").quiet_success();
        assert_eq!(dir.mode("f"), mode, "{mode:o}");
        dir.sh("umask 077; echo new | \"$BIN\" -f --preserve-mode f").quiet_success();
        assert_eq!(dir.mode("f"), mode, "{mode:o}");
        fs::remove_file(dir.join("f")).unwrap();
    }
}

#[test]
fn the_mode_can_be_given() {
    let dir = TestDir::new();
    for (text, mode) in [("600", 0o600), ("0644", 0o644), ("755", 0o755), ("0", 0o000), ("1777", 0o1777)] {
        for args in [["-m", text], ["--mode", text]] {
            // For a new file, and instead of the old one's; umask has no say.
            dir.sh(&format!("umask 077; echo x | \"$BIN\" {} f", args.join(" "))).quiet_success();
            assert_eq!(dir.mode("f"), mode);
            chmod(&dir.join("f"), 0o664);
            dir.awrite(args.into_iter().chain(["f"])).stdin("x").quiet_success();
            assert_eq!(dir.mode("f"), mode);
            fs::remove_file(dir.join("f")).unwrap();
        }
    }
}

#[test]
fn no_preserve_mode_gives_what_umask_leaves() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o600);
    dir.sh("umask 027; echo new | \"$BIN\" --no-preserve-mode f").quiet_success();
    assert_eq!(dir.mode("f"), 0o640);
}

#[test]
fn set_id_bits_stay_only_with_owner_and_group() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    let set_up = || {
        let path = dir.file("f", "old");
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        chmod(&path, 0o6755);
    };
    set_up();
    dir.awrite(["f"]).stdin("new").run().ok();
    assert_eq!(dir.mode("f"), 0o755, "root's file must not become set-uid root");
    fs::remove_file(dir.join("f")).unwrap();

    set_up();
    dir.awrite(["--preserve-owner", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.mode("f"), 0o6755);
    let meta = fs::metadata(dir.join("f")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY));
    fs::remove_file(dir.join("f")).unwrap();

    // A group that is not kept takes the set-gid bit with it.
    set_up();
    std::os::unix::fs::chown(dir.join("f"), Some(0), Some(NOBODY)).unwrap();
    chmod(&dir.join("f"), 0o2755);
    dir.awrite(["f"]).stdin("new").run().ok();
    assert_eq!(dir.mode("f"), 0o755);
}

#[test]
fn set_id_bits_of_ones_own_file_stay() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o4755);
    dir.awrite(["--preserve-owner", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.mode("f"), 0o4755);
}

#[test]
fn a_new_file_takes_the_group_of_a_set_gid_directory() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    std::os::unix::fs::chown(&sub, None, Some(NOBODY)).unwrap();
    chmod(&sub, 0o2775);
    dir.awrite(["sub/f"]).stdin("x").quiet_success();
    assert_eq!(fs::metadata(sub.join("f")).unwrap().gid(), NOBODY);
    assert_eq!(dir.mode("sub/f") & 0o7000, 0);
}

#[test]
fn the_owner_is_kept_on_request() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let owner = || fs::metadata(&path).map(|meta| (meta.uid(), meta.gid())).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    for option in ["--preserve-owner", "--try-preserve-owner"] {
        dir.awrite([option, "f"]).stdin("new").quiet_success();
        assert_eq!(owner(), (1234, 5678));
    }
    dir.awrite(["f"]).stdin("new").quiet_success();
    assert_eq!(owner(), (0, 0));
}

#[test]
fn an_owner_that_cannot_be_kept_is_an_error_unless_only_tried() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o666);
    let before = dir.snapshot("f");
    for option in ["--quiet", "--stream"] {
        let done = dir.awrite_unprivileged([option, "--preserve-owner", "f"]).stdin("new").run();
        done.assert_error_with(1, &["Error: f: ", "not permitted"]);
        assert_eq!(dir.snapshot("f"), before);
    }
    dir.assert_holds(&["f"]);
    dir.awrite_unprivileged(["--try-preserve-owner", "f"]).stdin("new").run().ok();
    assert_eq!(dir.read("f"), "new");
    assert_eq!(fs::metadata(dir.join("f")).unwrap().uid(), NOBODY);
    dir.assert_holds(&["f"]);
}

/// There chown says EINVAL, not EPERM, of an owner without a number.
#[test]
fn an_owner_unknown_in_the_user_namespace_cannot_be_kept() {
    if !needs_root() || !needs_user_namespaces() {
        return;
    }
    let dir = TestDir::new();
    let path = dir.file_with_mode("f", "old", 0o666);
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    let run = |option: &str| dir.program("unshare", ["-Ur", AWRITE, option, "f"]).stdin("new").run();
    run("--preserve-owner").assert_error_with(1, &["Error: f: ", "invalid argument"]);
    assert_eq!(dir.read("f"), "old");
    // The copy of a backup tries the same.
    run("--backup-mode=600").ok();
    assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str()), ("new", "old"));
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    run("--try-preserve-owner").ok();
    assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new", 0o666));
    assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
    dir.assert_holds(&["f", "f.backup"]);
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn extended_attributes_are_carried_over() {
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    if rustix::fs::setxattr(&path, "user.note", b"kept", rustix::fs::XattrFlags::empty()).is_err() {
        eprintln!("skipped: no extended attributes on this file system");
        return;
    }
    for option in ["--quiet", "--stream", "--if-changed", "--append"] {
        dir.awrite([option, "f"]).stdin("new").quiet_success();
        assert_eq!(xattr(&path, "user.note").as_deref(), Some(&b"kept"[..]), "{option}");
    }
    dir.awrite(["--no-preserve-xattrs", "f"]).stdin("new").quiet_success();
    assert_eq!(xattr(&path, "user.note"), None);
}

/// The new content is not what the capability was given to.
#[test]
fn mode_and_attributes_survive_a_change_of_owner() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    let path = dir.file_with_mode("f", "old", 0o4751);
    if rustix::fs::setxattr(&path, "user.note", b"kept", rustix::fs::XattrFlags::empty()).is_err() {
        return;
    }
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    chmod(&path, 0o4751);
    dir.awrite(["--preserve-owner", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.mode("f"), 0o4751);
    assert_eq!(xattr(&path, "user.note").as_deref(), Some(&b"kept"[..]));
}

#[test]
fn access_control_lists_are_carried_over() {
    if !needs("setfacl") || !needs("getfacl") {
        return;
    }
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o640);
    if dir.sh("setfacl -m u:1234:rw f").run().code != Some(0) {
        eprintln!("skipped: no access control lists on this file system");
        return;
    }
    let acl = || dir.sh("getfacl -cn f").run().stdout;
    let before = acl();
    dir.awrite(["f"]).stdin("new").quiet_success();
    assert_eq!(acl(), before);
    dir.awrite(["--no-preserve-xattrs", "f"]).stdin("new").quiet_success();
    assert!(!acl().contains("1234"), "{}", acl());
}

/// With a list, the mode's bits for the group are the list's mask; without it they would be the group's.
#[test]
fn an_acl_that_is_not_carried_over_leaves_the_group_what_it_had() {
    if !needs("setfacl") {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    let with_acl = |entries: &str| {
        let _ = fs::remove_file(dir.join("f"));
        dir.file_with_mode("f", "old", 0o600);
        dir.sh(&format!("setfacl -m {entries} f")).run().code == Some(0)
    };
    for (entries, mode) in [("u:1234:rw,g::-", 0o600), ("u:1234:rwx,g::r", 0o640), ("u:1234:r,g::rw,m::r", 0o640)] {
        if !with_acl(entries) {
            eprintln!("skipped: no access control lists on this file system");
            return;
        }
        dir.awrite(["--no-preserve-xattrs", "f"]).stdin("new").quiet_success();
        assert_eq!(dir.mode("f"), mode, "{entries}");
    }
    with_acl("u:1234:rw,g::-");
    dir.awrite(["--no-preserve-xattrs", "--mode=660", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.mode("f"), 0o660, "as asked for");
    // The list of a file that may be written but not read is not carried over.
    if needs_root() {
        with_acl(&format!("u:{NOBODY}:w,g::-,m::rw"));
        let done = dir.awrite_unprivileged(["-v", "f"]).stdin("new").run();
        assert!(done.ok().stderr.contains("not kept: the access control list"), "{done:?}");
        assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new", 0o600));
    }
}

#[test]
fn a_directorys_default_acl_does_not_open_an_existing_file() {
    if !needs("setfacl") || !needs("getfacl") {
        return;
    }
    let dir = TestDir::new();
    dir.file_with_mode("secret", "old", 0o600);
    if dir.sh("setfacl -d -m u:1234:rw,g::rwx,o::r .").run().code != Some(0) {
        eprintln!("skipped: no access control lists on this file system");
        return;
    }
    for option in ["--quiet", "--stream", "--no-preserve-xattrs", "--mode=600", "--validate=true"] {
        dir.awrite([option, "secret"]).stdin("new").quiet_success();
        assert_eq!(dir.mode("secret"), 0o600, "{option}");
        let acl = dir.sh("getfacl -cn secret").run().stdout;
        assert!(!acl.contains("1234"), "{option}: {acl}");
    }
    // A new file is made as the directory says, like any other program's.
    dir.sh("umask 022; echo x | \"$BIN\" new; echo x > plain").quiet_success();
    let acl = |name: &str| dir.sh(&format!("getfacl -cn {name}")).run().stdout;
    assert_eq!(acl("new"), acl("plain"));
}

/// The modes of all files that a process has open for writing in `dir`, named or not.
fn modes_of_staged_files(pid: u32, dir: &Path) -> Vec<u32> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    descriptors
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let shown = fs::read_link(&path).ok()?;
            let name = shown.file_name()?.to_str()?.to_owned();
            let meta = fs::metadata(&path).ok()?;
            (meta.is_file() && shown.starts_with(dir) && !name.contains(".lock") && meta.len() > 0)
                .then(|| meta.mode() & 0o777)
        })
        .collect()
}

#[test]
fn staged_content_is_never_more_readable_than_the_file() {
    let dir = TestDir::new();
    for (mode, allowed) in [(Some(0o600), 0o600), (Some(0o640), 0o640), (Some(0o604), 0o604), (None, 0o600)] {
        match mode {
            Some(mode) => drop(dir.file_with_mode("f", "old", mode)),
            // A new file below umask 077.
            None => fs::remove_file(dir.join("f")).unwrap(),
        }
        let mut writer = dir.sh("umask 077; exec \"$BIN\" --stream f").stdin_open().spawn();
        writer.feed(&vec![b'x'; 1 << 20]);
        let mut seen = Vec::new();
        let (pid, path) = (writer.id(), fs::canonicalize(dir.path()).unwrap());
        wait_until("something is staged", || {
            seen = modes_of_staged_files(pid, &path);
            !seen.is_empty()
        });
        for mode in seen {
            assert_eq!(mode & !allowed, 0, "staged with {mode:o} for {allowed:o}");
        }
        writer.finish().ok();
        assert_eq!(dir.mode("f"), allowed);
    }
}

/// Where files cannot be without a name, anybody could open one before its mode is narrowed, and read it once full.
#[test]
fn a_named_stage_is_private_from_its_first_moment() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let run = |injection: &str| {
        let strace = ["-f", "-o", "trace", "-e", "trace=openat,renameat,renameat2", "-e", injection];
        let script = format!("umask 022; exec strace {} \"$BIN\" --lock-on-commit f", strace.join(" "));
        dir.sh(&script).stdin("new").run().ok();
        dir.read("trace")
    };
    let trace = run("signal=none");
    let number = trace.lines().filter(|line| line.contains("openat(")).position(|line| line.contains("O_TMPFILE"));
    let Some(number) = number else { return };
    let without = format!("inject=openat:error=EOPNOTSUPP:when={}", number + 1);
    for old in [None, Some(0o600), Some(0o640)] {
        fs::remove_file(dir.join("f")).unwrap();
        if let Some(mode) = old {
            dir.file_with_mode("f", "old", mode);
        }
        let trace = run(&without);
        let name =
            trace.lines().find(|line| line.contains("renameat")).and_then(|line| line.split('"').nth(1)).unwrap();
        let made = trace.lines().find(|line| line.contains("openat(") && line.contains(name)).unwrap();
        assert!(made.contains("O_EXCL") && made.contains(", 0600)"), "{made}");
        assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new", old.unwrap_or(0o644)));
        dir.assert_holds(&["f", "trace"]);
    }
}

#[test]
fn content_staged_for_a_given_mode_is_no_more_readable() {
    let dir = TestDir::new();
    let mut writer = dir.sh("umask 000; exec \"$BIN\" --stream --mode 600 f").stdin_open().spawn();
    writer.feed(&vec![b'x'; 1 << 20]);
    let (pid, path) = (writer.id(), fs::canonicalize(dir.path()).unwrap());
    wait_until("something is staged", || !modes_of_staged_files(pid, &path).is_empty());
    assert_eq!(modes_of_staged_files(pid, &path), [0o600]);
    writer.finish().ok();
    assert_eq!(dir.mode("f"), 0o600);
}

// ---------------------------------------------------------------------------------------------------------------------
// What OUTPUT means is settled under the lock

/// A producer may take the old file away before it writes the new one.
#[test]
fn the_mode_of_a_file_that_is_removed_meanwhile_is_kept() {
    let dir = TestDir::new();
    for option in ["--quiet", "--stream", "--no-preserve-xattrs", "--try-preserve-owner"] {
        for (old, mode) in [(0o644, 0o644), (0o6755, 0o755), (0o600, 0o600)] {
            dir.file_with_mode("f", "old", old);
            dir.awrite([option, "f", "--", "sh", "-c", "rm f; echo new"]).quiet_success();
            assert_eq!((dir.read("f").as_str(), dir.mode("f")), ("new\n", mode), "{option} {old:o}");
        }
    }
    dir.file_with_mode("f", "old", 0o600);
    dir.awrite(["--mode", "640", "f", "--", "sh", "-c", "rm f; echo new"]).quiet_success();
    assert_eq!(dir.mode("f"), 0o640);
    dir.file_with_mode("f", "old", 0o600);
    dir.sh("umask 027; \"$BIN\" --no-preserve-mode f -- sh -c 'rm f; echo new'").quiet_success();
    assert_eq!(dir.mode("f"), 0o640);
    dir.assert_holds(&["f"]);
}

#[test]
fn the_mode_is_the_one_that_is_found_under_the_lock() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o644);
    let held = Held::new(&dir.join("f.lock"));
    let mut writer = dir.awrite(["f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    chmod(&dir.join("f"), 0o600);
    held.release();
    writer.finish().ok();
    assert_eq!(dir.mode("f"), 0o600);
    dir.assert_holds(&["f"]);
}

#[test]
fn a_target_that_became_a_directory_is_refused() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let held = Held::new(&dir.join("f.lock"));
    let mut writer = dir.awrite(["f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    fs::remove_file(dir.join("f")).unwrap();
    dir.dir("f");
    held.release();
    writer.finish().assert_error_with(1, &["Error: f: ", "directory"]);
    dir.assert_holds(&["f"]);
}

#[test]
fn a_target_that_became_read_only_is_refused() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o666);
    let held = Held::new(&dir.join("f.lock"));
    chmod(&dir.join("f.lock"), 0o666);
    let mut writer = dir.awrite_unprivileged(["f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    chmod(&dir.join("f"), 0o444);
    held.release();
    writer.finish().assert_error(1, "Error: f: Permission denied");
    assert_eq!(dir.read("f"), "old");
}

#[test]
fn a_link_that_was_turned_meanwhile_leads_to_its_new_target() {
    let dir = TestDir::new();
    dir.file("one", "1");
    dir.file("two", "2");
    symlink("one", dir.join("link")).unwrap();
    let held = Held::new(&dir.join("one.lock"));
    let mut writer = dir.awrite(["link"]).stdin("new").spawn();
    writer.wait_for_waiting();
    symlink("two", dir.join("link.new")).unwrap();
    fs::rename(dir.join("link.new"), dir.join("link")).unwrap();
    held.release();
    writer.finish().ok();
    assert_eq!((dir.read("one").as_str(), dir.read("two").as_str()), ("1", "new"));
    dir.assert_holds(&["one", "two", "link"]);
}

#[test]
fn a_directory_that_was_replaced_meanwhile_is_found_again() {
    let dir = TestDir::new();
    dir.dir("d");
    dir.file("d/f", "old");
    let held = Held::new(&dir.join("d/f.lock"));
    let mut writer = dir.awrite(["d/f"]).stdin("new").spawn();
    writer.wait_for_waiting();
    fs::rename(dir.join("d"), dir.join("moved")).unwrap();
    dir.dir("d");
    held.release();
    writer.finish().ok();
    assert_eq!(dir.read("d/f"), "new");
    assert_eq!(dir.read("moved/f"), "old");
    assert_no_debris(&dir.join("d"), &["f"]);
    assert_no_debris(&dir.join("moved"), &["f"]);
}

/// Once the lock is held, the directory is the one it was: all further steps are relative to it.
#[test]
fn a_directory_renamed_while_the_lock_is_held_changes_nothing() {
    let dir = TestDir::new();
    dir.dir("d");
    dir.file("d/f", "old");
    let mut writer = dir.awrite(["--stream", "d/f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("d/f.lock")));
    writer.feed(b"new");
    fs::rename(dir.join("d"), dir.join("moved")).unwrap();
    dir.dir("d");
    writer.finish().ok();
    assert_eq!(dir.read("moved/f"), "new");
    assert_no_debris(&dir.join("moved"), &["f"]);
    assert_no_debris(&dir.join("d"), &[]);
}

#[test]
fn a_deleted_working_directory_is_an_error() {
    let dir = TestDir::new();
    let sub = dir.dir("sub");
    let done = dir.sh("rmdir ../sub; echo x | \"$BIN\" f").current_dir(&sub).run();
    done.assert_error_with(1, &["Error: f", "no such file or directory"]);
}

#[test]
fn other_files_in_the_directory_are_left_alone() {
    let dir = TestDir::new();
    let names = ["f", "f.tmp", "f.bak", "f~", ".f.swp", ".f.awrite-aaaaaa", ".awrite-00000000.f", "#f#", "f.backup"];
    for name in names {
        dir.file(name, name);
    }
    let before: Vec<Snapshot> = names[1..].iter().map(|name| dir.snapshot(name)).collect();
    dir.awrite(["f"]).stdin("new").quiet_success();
    let after: Vec<Snapshot> = names[1..].iter().map(|name| dir.snapshot(name)).collect();
    assert_eq!(before, after);
    dir.assert_holds(&names);
}

/// Closed descriptors must not be taken by the files that awrite opens: a message would end in one of them.
#[test]
fn closed_standard_descriptors_do_no_harm() {
    let dir = TestDir::new();
    for closed in [">&-", "2>&-", ">&- 2>&-"] {
        for options in ["", "--stream", "-vv", "--json"] {
            dir.file("f", "old");
            let done = dir.sh(&format!("echo new | \"$BIN\" {options} f {closed}")).run();
            done.ok();
            assert_eq!(dir.read("f"), "new\n", "{closed} {options}");
        }
    }
    for (closed, options) in [("<&- >&- 2>&-", "-vv"), ("<&- 2>&-", "--json"), ("<&-", "")] {
        dir.file("f", "old");
        dir.sh(&format!("\"$BIN\" {options} f {closed}")).run().assert_code(1);
        assert_eq!(dir.read("f"), "old");
        dir.sh(&format!("\"$BIN\" {options} --allow-empty f {closed}")).run().ok();
        assert_eq!(dir.read("f"), "", "{closed} {options}");
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn messages_into_a_full_device_are_no_failure() {
    let dir = TestDir::new();
    dir.sh("echo new | \"$BIN\" -vv f 2> /dev/full").run().ok();
    assert_eq!(dir.read("f"), "new\n");
    dir.sh("\"$BIN\" -vv f 2> /dev/full").run().assert_code(1);
    dir.sh("echo new | \"$BIN\" --json f 2> /dev/full").run().ok();
    dir.assert_holds(&["f"]);
}

#[test]
fn it_works_with_an_empty_environment() {
    let dir = TestDir::new();
    let done = dir.program("env", ["-i", AWRITE, "-v", "f"]).stdin("x").run();
    done.ok();
    assert_eq!(dir.read("f"), "x");
    if is_root() {
        dir.assert_holds(&["f"]);
    }
}
