//! What cannot be replaced: directories, devices, files of the kernel.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

use crate::common::{TestDir, assert_no_debris};

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
    // As a user who could not write to the device even if the check failed.
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

/// Links in `/proc/PID/fd` lead to open files, not to names. `/dev/stdout` and `>(…)` of shells are such links.
#[test]
fn links_to_open_files_are_not_taken_for_names() {
    let dir = TestDir::new();
    // A pipe.
    dir.awrite(["/dev/stdout"]).stdin("x").run().assert_error_with(1, &["/dev/stdout: ", "fifo"]);
    // A file that has been deleted: the link reads `…/gone (deleted)`.
    let done = dir.sh("exec 7> gone; rm gone; echo x | \"$BIN\" /dev/fd/7").run();
    done.assert_error_with(1, &["/dev/fd/7: "]);
    dir.assert_holds(&[]);
    // A file that still has its name. Whoever has it open would go on writing to the old one.
    dir.file("log", "before\n");
    for name in ["/dev/fd/7", "/proc/self/fd/7", "link"] {
        let script =
            format!("ln -sf /proc/self/fd/7 link; exec 7>> log; echo x | \"$BIN\" {name}; s=$?; rm link; exit $s");
        let done = dir.sh(&script).run();
        done.assert_error(1, &format!("Error: {name}: Leads to an open file of a process (/proc/PID/fd)"));
    }
    let script = "for name in /dev/stdout /dev/fd/1; do \"$BIN\" $name -- echo x; test $? = 1 || exit 3; done >> log";
    dir.sh(script).run().ok();
    assert_eq!(dir.read("log"), "before\n");
    dir.assert_holds(&["log"]);
}

#[test]
fn files_of_the_kernels_cannot_be_replaced() {
    let dir = TestDir::new();
    for path in ["/proc/self/comm", "/proc/sys/kernel/hostname", "/sys/kernel/mm/ksm/run"] {
        for option in ["--quiet", "--stream", "--lock-on-commit"] {
            dir.awrite_unprivileged([option, path]).stdin("x").run().assert_error_with(1, &[path]);
        }
        // Nobody has heard of a lock file there.
        let done = dir.awrite([path]).stdin("x").run();
        assert!(!path.starts_with("/proc") || !done.stderr.contains(".lock"), "{done:?}");
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
