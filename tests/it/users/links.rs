//! `--no-follow`: what stands behind the link is somebody else's.

use std::fs;
use std::os::unix::fs::symlink;

use super::{ALICE, BOB, MEMBER, ROOT, SECRET, make, needs_users, owned, shared_dir};
use crate::common::{TestDir, chmod, needs, wait_until};

/// The mode of a new file is that of any new file, whatever is behind the link.
#[test]
fn the_new_file_has_nothing_from_behind_the_link() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    chmod(dir.path(), 0o1777);
    for (mode, list) in [(0o4755, ""), (0o6777, ""), (0o600, ""), (0o666, ""), (0o660, "u:2003:rw")] {
        make(&dir, "behind", mode, list);
        for writer in [ROOT, MEMBER] {
            // Nobody's link, as far as root is concerned.
            let link = dir.join("link");
            writer.does(|| symlink("behind", &link)).unwrap();
            let binary = dir.reachable_binary().to_str().unwrap().to_owned();
            let script = format!("umask 022; exec {binary} --no-follow \"$@\" link");
            for option in ["-v", "--preserve-owner", "--preserve-mode"] {
                writer.runs(&dir, "sh", &["-c", &script, "sh", option]).stdin("new").run().ok();
                assert_eq!(owned(&dir, "link"), (writer.uid, writer.groups[0], 0o644), "{mode:o} {option}");
                assert_eq!(dir.read("link"), "new");
                let acl = dir.program("getfacl", ["-cn", "link"]).run().stdout;
                assert!(!acl.contains("2003"), "{acl}");
                fs::remove_file(&link).unwrap();
                writer.does(|| symlink("behind", &link)).unwrap();
            }
            writer.runs(&dir, "sh", &["-c", &script, "sh", "-m", "640"]).stdin("new").quiet_success();
            assert_eq!(dir.mode("link"), 0o640);
            fs::remove_file(link).unwrap();
        }
        assert_eq!(owned(&dir, "behind"), (ALICE.uid, SECRET, mode));
        assert_eq!(dir.read("behind"), "old");
    }
}

/// The backup of what is behind a link is for nobody who could not read that, and has no set-id bits.
#[test]
fn a_backup_of_what_is_behind_a_link() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    for mode in [0o4755, 0o640] {
        make(&dir, "behind", mode, "");
        symlink("behind", dir.join("link")).unwrap();
        ROOT.awrite(&dir, &["-b", "--no-follow", "link"]).stdin("new").quiet_success();
        assert_eq!(owned(&dir, "link.backup"), (ALICE.uid, SECRET, mode & 0o777));
        assert_eq!(dir.read("link.backup"), "old");
        assert_eq!(BOB.access_to(&dir.join("link.backup")), BOB.access_to(&dir.join("behind")) & !2);
        for name in ["link", "link.backup"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
}

#[test]
fn an_unreadable_file_behind_the_link_does_not_matter() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("behind", "old", 0o000);
    symlink("behind", dir.join("link")).unwrap();
    dir.awrite_unprivileged(["--no-follow", "link"]).stdin("new").quiet_success();
    assert_eq!(dir.read("link"), "new");
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_file());
    dir.assert_holds(&["behind", "link"]);
}

/// Neither is opened: the writer of a FIFO would go on, and lose what it writes.
#[test]
fn fifos_and_devices_behind_the_link_are_left_alone() {
    if !needs("mkfifo") {
        return;
    }
    let dir = TestDir::new();
    for options in [&["--no-follow", "link"][..], &["--no-follow", "-b", "link"], &["--no-follow", "-a", "link"]] {
        dir.program("mkfifo", ["fifo"]).run().ok();
        symlink("fifo", dir.join("link")).unwrap();
        let mut writer = dir.sh("echo ready >&2; echo lost > fifo; echo freed >&2").spawn();
        writer.wait_for_stderr("ready");
        let opens = format!("{} ", libc::SYS_openat);
        wait_until("it waits for a reader", || {
            fs::read_to_string(format!("/proc/{}/syscall", writer.id())).is_ok_and(|call| call.starts_with(&opens))
        });
        dir.awrite(options).stdin("new").quiet_success();
        assert_eq!(dir.read("link"), "new");
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!writer.stderr().contains("freed"), "{options:?}");
        assert!(!writer.has_ended());
        for name in ["link", "fifo"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
    for device in ["/dev/null", "/dev/zero", "/dev", "/dev/full"] {
        symlink(device, dir.join("link")).unwrap();
        dir.awrite(["--no-follow", "link"]).stdin("new").quiet_success();
        assert_eq!(dir.read("link"), "new");
        fs::remove_file(dir.join("link")).unwrap();
    }
    dir.assert_holds(&[]);
}

/// What is behind the link is not the content of the link.
#[test]
fn a_link_is_replaced_though_the_content_is_the_same() {
    let dir = TestDir::new();
    dir.file("behind", "same");
    symlink("behind", dir.join("link")).unwrap();
    dir.awrite(["--no-follow", "--if-changed", "link"]).stdin("same").quiet_success();
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_file());
}

/// Its mode is 0777 and says nothing. Who may replace it is up to its directory.
#[test]
fn the_mode_of_a_link_opens_its_lock_to_nobody() {
    let dir = TestDir::new();
    symlink("behind", dir.join("link")).unwrap();
    for (directory, lock) in [(0o755, "600"), (0o1777, "600"), (0o777, "666")] {
        chmod(dir.path(), directory);
        for behind in [false, true] {
            let _ = fs::remove_file(dir.join("behind"));
            if behind {
                dir.file_with_mode("behind", "", 0o666);
            }
            let script = "umask 0; exec \"$BIN\" lock --no-follow \"$@\"";
            let lock_with = |args: &[&str]| dir.program("sh", [&["-c", script, "-"], args].concat()).run();
            let done = lock_with(&["link", "--", "stat", "-c", "%a", "link.lock"]);
            assert_eq!(done.ok().stdout.trim(), lock, "{directory:o} {behind}");
            lock_with(&["--acquire", "--owner", "a", "--ttl", "60", "link"]).ok();
            assert_eq!(format!("{:o}", owned(&dir, "link.lease").2), lock, "{directory:o} {behind}");
            lock_with(&["--release", "--owner", "a", "link"]).ok();
        }
    }
}
