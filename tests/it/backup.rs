//! Backups: made before the target is replaced, in place or elsewhere, and never a second way to lose the content.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::{
    AWRITE, NOBODY, TestDir, assert_no_debris, chmod, names_in, needs, needs_root, needs_strace, rounds,
};

#[test]
fn a_backup_is_a_link_to_the_old_file() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o640);
    let before = dir.snapshot("f");
    for option in ["-b", "--backup"] {
        dir.awrite([option, "f"]).stdin("new").quiet_success();
        assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str()), ("new", "old"));
        assert_eq!(dir.mode("f.backup"), 0o640);
        assert_eq!(dir.snapshot("f.backup").inode, before.inode, "linked, whatever the size");
        dir.assert_holds(&["f", "f.backup"]);
        fs::rename(dir.join("f.backup"), dir.join("f")).unwrap();
    }
}

#[test]
fn without_an_old_file_there_is_no_backup() {
    let dir = TestDir::new();
    dir.awrite(["-b", "f"]).stdin("new").quiet_success();
    dir.assert_holds(&["f"]);
}

#[test]
fn the_next_backup_replaces_the_last_one() {
    let dir = TestDir::new();
    dir.file("f", "0");
    for number in 1..5 {
        dir.awrite(["-b", "f"]).stdin(number.to_string()).quiet_success();
        assert_eq!(dir.read("f.backup"), (number - 1).to_string());
    }
    dir.assert_holds(&["f", "f.backup"]);
}

#[test]
fn the_suffix_can_be_chosen() {
    let dir = TestDir::new();
    dir.file("f", "old");
    for suffix in ["~", ".bak", ".old copy", "-1"] {
        dir.awrite(["--backup-suffix", suffix, "f"]).stdin("new").quiet_success();
        assert_eq!(dir.read(format!("f{suffix}")), "old");
        fs::rename(dir.join(format!("f{suffix}")), dir.join("f")).unwrap();
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn the_directory_can_be_chosen() {
    let dir = TestDir::new();
    let kept = dir.dir("kept");
    dir.file("f", "old");
    let before = dir.snapshot("f");
    dir.awrite(["--backup-dir", "kept", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.read("kept/f.backup"), "old");
    assert_eq!(dir.snapshot("kept/f.backup").inode, before.inode);
    dir.awrite(["--backup-dir", "kept/", "--backup-suffix", ".1", "f"]).stdin("newer").quiet_success();
    assert_eq!(dir.read("kept/f.1"), "new");
    dir.assert_holds(&["f", "kept"]);
    assert_no_debris(&kept, &["f.backup", "f.1"]);
}

#[test]
fn a_backup_that_cannot_be_made_stops_the_write() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.dir("f.dir");
    dir.file("not-a-directory", "");
    let before = dir.snapshot("f");
    for option in ["--quiet", "--stream"] {
        let done = dir.awrite([option, "--backup-dir", "no/such", "f"]).stdin("new").run();
        done.assert_error_with(1, &["no/such", "no such file or directory"]);
        let done = dir.awrite([option, "--backup-dir", "not-a-directory", "f"]).stdin("new").run();
        done.assert_error_with(1, &["not-a-directory", "not a directory"]);
        let done = dir.awrite([option, "--backup-suffix", ".dir", "f"]).stdin("new").run();
        done.assert_error_with(1, &["f.dir", "directory"]);
        let suffix = "s".repeat(255);
        let done = dir.awrite([option, "--backup-suffix", &suffix, "f"]).stdin("new").run();
        done.assert_error_with(1, &["File name too long"]);
    }
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f", "f.dir", "not-a-directory"]);
}

#[test]
fn a_read_only_backup_directory_stops_the_write() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o666);
    let kept = dir.dir("kept");
    chmod(&kept, 0o555);
    let before = dir.snapshot("f");
    let done = dir.awrite_unprivileged(["--backup-dir", "kept", "f"]).stdin("new").run();
    done.assert_error_with(1, &["kept", "Permission denied"]);
    assert_eq!(dir.snapshot("f"), before);
    chmod(&kept, 0o755);
    dir.assert_holds(&["f", "kept"]);
    assert_no_debris(&kept, &[]);
}

/// A backup with the lock file's name would replace the held lock file, and no later writer could lock.
#[test]
fn a_backup_never_takes_the_place_of_the_lock_or_the_lease() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.dir("locks");
    let before = dir.snapshot("f");
    for (args, name) in [
        ("--backup-suffix .lock f", "f.lock"),
        ("--backup-suffix .lease f", "f.lease"),
        ("--backup-suffix .lock --backup-dir . f", "./f.lock"),
        ("--backup-suffix .lock --lock-on-commit f", "f.lock"),
        ("-b --lock-file f.backup f", "f.backup"),
        ("-b --backup-dir locks --lock-file locks/f.backup f", "locks/f.backup"),
    ] {
        let done = dir.awrite(args.split(' ')).stdin("new").run();
        done.assert_error(
            1,
            &format!("Error: {name}: the backup must be another file than the lock file and the lease's record"),
        );
        done.assert_hint("--backup-suffix");
        assert_eq!(dir.snapshot("f"), before);
        dir.assert_holds(&["f", "locks"]);
        assert_no_debris(&dir.join("locks"), &[]);
    }
    // Elsewhere the name is free.
    dir.awrite(["--backup-suffix", ".lock", "--backup-dir", "locks", "f"]).stdin("new").quiet_success();
    assert_eq!((dir.read("f").as_str(), dir.read("locks/f.lock").as_str()), ("new", "old"));
    dir.assert_holds(&["f", "locks"]);
}

#[test]
fn a_failing_write_makes_no_backup() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    dir.awrite(["-b", "f"]).run().assert_error(1, "Error: No input provided");
    dir.awrite(["-b", "f", "--", "false"]).run().assert_code(1);
    dir.awrite(["-b", "--validate", "false", "f"]).stdin("new").run().assert_code(1);
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f"]);
}

#[test]
fn a_write_that_changes_nothing_makes_no_backup() {
    let dir = TestDir::new();
    dir.file("f", "same");
    let before = dir.snapshot("f");
    dir.awrite(["-b", "--if-changed", "f"]).stdin("same").quiet_success();
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f"]);
    dir.awrite(["-b", "--if-changed", "f"]).stdin("other").quiet_success();
    dir.assert_holds(&["f", "f.backup"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Time

/// What the shell says the local time is.
fn local_time(dir: &TestDir, zone: &str) -> String {
    dir.program("date", ["+%Y%m%d-%H%M%S"]).env("TZ", zone).run().stdout.trim().to_owned()
}

#[test]
fn a_timestamped_backup_bears_the_local_time() {
    let dir = TestDir::new();
    for zone in [
        "UTC0",
        "XYZ-14",
        "ABC+11:30",
        "<-03>3",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "EST5EDT",
        "America/New_York",
        ":Asia/Kolkata",
        "/usr/share/zoneinfo/Asia/Tokyo",
        "Atlantis/Capital",
        "",
    ] {
        for suffix in [".backup", ".old"] {
            dir.file("f", "old");
            let before = local_time(&dir, zone);
            let args = ["--backup-timestamp", "--backup-suffix", suffix, "f"];
            dir.awrite(args).env("TZ", zone).stdin("new").quiet_success();
            let after = local_time(&dir, zone);
            let name = dir.names().into_iter().find(|name| name != "f").unwrap().into_string().unwrap();
            let time = name.strip_prefix("f.").and_then(|rest| rest.strip_suffix(suffix)).unwrap_or_else(|| {
                panic!("{name}");
            });
            assert_eq!(time.len(), before.len(), "{name}");
            assert!(*before <= *time && *time <= *after, "{before} <= {time} <= {after}");
            assert_eq!(dir.read(&name), "old");
            fs::remove_file(dir.join(&name)).unwrap();
        }
    }
    dir.awrite(["--backup-timestamp", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.names().len(), 2);
}

/// Several backups of one second are numbered.
#[test]
fn backups_of_one_second_are_numbered() {
    // As links, and, with a mode of their own, as copies.
    are_numbered(&["--backup-timestamp", "f"]);
    are_numbered(&["--backup-timestamp", "--backup-mode", "600", "f"]);
}

#[track_caller]
fn are_numbered(args: &[&str]) {
    let dir = TestDir::new();
    dir.file("f", "0");
    let count = 24;
    let mut numbered = 0;
    for number in 1..=count {
        dir.awrite(args).stdin(number.to_string()).quiet_success();
    }
    let mut contents = Vec::new();
    for name in dir.names() {
        if name == "f" {
            continue;
        }
        contents.push(dir.read(&name).parse::<u32>().unwrap());
        let name = name.into_string().unwrap();
        let middle = name.strip_prefix("f.").and_then(|rest| rest.strip_suffix(".backup")).unwrap();
        let (time, rest) = middle.split_at("YYYYMMDD-HHMMSS".len());
        assert!(time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'), "{name}");
        if !rest.is_empty() {
            assert!(rest.strip_prefix('-').unwrap().parse::<u32>().unwrap() >= 1, "{name}");
            numbered += 1;
            // The one without a number was there first.
            assert!(dir.join(format!("f.{time}.backup")).exists(), "{name}");
        }
    }
    contents.sort_unstable();
    assert_eq!(contents, (0..count).collect::<Vec<u32>>(), "each of them is there");
    assert!(numbered > 0);
}

#[test]
fn backups_of_one_second_by_many_writers_are_all_kept() {
    let dir = TestDir::new();
    dir.file("f", "start");
    let writers: Vec<_> =
        (0..12).map(|number| dir.awrite(["-q", "--backup-timestamp", "f"]).stdin(number.to_string()).spawn()).collect();
    for writer in writers {
        writer.finish().ok();
    }
    assert_eq!(dir.names().len(), 13);
    let mut contents: Vec<String> = dir.names().iter().map(|name| dir.read(name)).collect();
    contents.sort();
    contents.dedup();
    assert_eq!(contents.len(), 13);
}

#[test]
fn a_backups_time_is_that_of_the_backup() {
    let dir = TestDir::new();
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    for option in ["--backup", "--backup-mode=600", "--backup-timestamp"] {
        let path = dir.file("f", "old");
        fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        dir.awrite([option, "f"]).stdin("new").quiet_success();
        let backup = dir.names().into_iter().find(|name| name != "f").unwrap();
        let age = SystemTime::now().duration_since(fs::metadata(dir.join(&backup)).unwrap().modified().unwrap());
        // A clock that was set back is no failure.
        let age = age.unwrap_or_default();
        assert!(age < Duration::from_secs(500_000), "{option}: {age:?}");
        fs::remove_file(dir.join(backup)).unwrap();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Copies

#[test]
fn the_mode_can_be_chosen() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o644);
    let before = dir.snapshot("f");
    dir.sh("umask 077; printf new | \"$BIN\" --backup-mode 0640 f").quiet_success();
    assert_eq!((dir.mode("f"), dir.mode("f.backup")), (0o644, 0o640));
    assert_eq!(dir.read("f.backup"), "old");
    assert_ne!(dir.snapshot("f.backup").inode, before.inode, "the old file itself keeps its mode");
    dir.awrite(["--backup-mode", "600", "f"]).stdin("newer").quiet_success();
    assert_eq!((dir.mode("f.backup"), dir.read("f.backup").as_str()), (0o600, "new"));
    dir.assert_holds(&["f", "f.backup"]);
}

/// If the file has another name, a linked backup would change with that name.
#[test]
fn a_file_with_other_links_is_copied() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old", 0o640);
    fs::hard_link(dir.join("f"), dir.join("other")).unwrap();
    dir.awrite(["-b", "f"]).stdin("new").quiet_success();
    assert_eq!((dir.read("f.backup").as_str(), dir.read("other").as_str()), ("old", "old"));
    assert_ne!(dir.snapshot("f.backup").inode, dir.snapshot("other").inode);
    assert_eq!(dir.mode("f.backup"), 0o640);
    dir.assert_holds(&["f", "f.backup", "other"]);
}

/// Renaming one name of a file onto another name of the same file does nothing at all, and succeeds.
#[test]
fn a_backup_that_is_the_file_itself_leaves_no_stray_name() {
    let dir = TestDir::new();
    dir.file("f", "old");
    fs::hard_link(dir.join("f"), dir.join("f.backup")).unwrap();
    dir.awrite(["-b", "f"]).stdin("new").quiet_success();
    assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str()), ("new", "old"));
    dir.assert_holds(&["f", "f.backup"]);
}

#[test]
fn a_symbolic_link_in_the_backups_place_is_replaced_not_followed() {
    let dir = TestDir::new();
    for option in ["--backup", "--backup-mode=600"] {
        dir.file("f", "old");
        dir.file("victim", "victim");
        symlink("victim", dir.join("f.backup")).unwrap();
        dir.awrite([option, "f"]).stdin("new").quiet_success();
        assert_eq!((dir.read("victim").as_str(), dir.read("f.backup").as_str()), ("victim", "old"));
        assert!(!fs::symlink_metadata(dir.join("f.backup")).unwrap().is_symlink());
        dir.assert_holds(&["f", "f.backup", "victim"]);
        fs::remove_file(dir.join("f.backup")).unwrap();
    }
}

#[test]
fn a_linked_target_is_backed_up_where_it_really_is() {
    let dir = TestDir::new();
    dir.dir("real");
    dir.file("real/f", "old");
    symlink("real/f", dir.join("link")).unwrap();
    dir.awrite(["-b", "link"]).stdin("new").quiet_success();
    let all: Vec<String> = [dir.path(), &dir.join("real")]
        .into_iter()
        .flat_map(names_in)
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.ends_with(".backup"))
        .collect();
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
    assert_eq!(dir.read("real/f"), "new");
    let backup = ["link.backup", "real/f.backup"].into_iter().find(|name| dir.join(name).exists()).unwrap();
    assert_eq!(dir.read(backup), "old");
    assert!(!fs::symlink_metadata(dir.join(backup)).unwrap().is_symlink());
}

#[test]
fn a_backup_on_another_file_system_is_a_copy() {
    let (dir, elsewhere) = (TestDir::new(), TestDir::elsewhere());
    let device = |dir: &TestDir| fs::metadata(dir.path()).unwrap().dev();
    if device(&dir) == device(&elsewhere) {
        eprintln!("skipped: needs two file systems");
        return;
    }
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = dir.file_with_mode("f", &content, 0o640);
    let xattr = rustix::fs::setxattr(&path, "user.note", b"kept", rustix::fs::XattrFlags::empty()).is_ok();
    dir.awrite([Path::new("--backup-dir"), elsewhere.path(), Path::new("f")]).stdin("new").quiet_success();
    assert!(fs::read(elsewhere.join("f.backup")).unwrap() == content);
    assert_eq!(elsewhere.mode("f.backup"), 0o640);
    if xattr {
        let mut value = [0; 16];
        if let Ok(length) = rustix::fs::getxattr(elsewhere.join("f.backup"), "user.note", &mut value) {
            assert_eq!(&value[..length], b"kept");
        }
    }
    elsewhere.assert_holds(&["f.backup"]);
    dir.assert_holds(&["f"]);
}

#[test]
fn a_backup_keeps_the_owner() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    for option in ["--backup", "--backup-mode=640"] {
        let path = dir.file("f", "old");
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        dir.awrite([option, "f"]).stdin("new").quiet_success();
        let meta = fs::metadata(dir.join("f.backup")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY), "{option}");
        fs::remove_file(dir.join("f")).unwrap();
        fs::remove_file(dir.join("f.backup")).unwrap();
    }
}

#[test]
fn a_copied_backup_is_a_reliable_one_for_the_unprivileged_too() {
    let dir = TestDir::new();
    dir.open_to_all();
    // With fs.protected_hardlinks nobody may link root's file, so the backup is a copy.
    dir.file_with_mode("f", "old", 0o666);
    dir.awrite_unprivileged(["-b", "f"]).stdin("new").run().ok();
    assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str()), ("new", "old"));
    dir.assert_holds(&["f", "f.backup"]);
}

#[test]
fn every_way_of_writing_can_make_a_backup() {
    let dir = TestDir::new();
    for args in [
        &["-b", "--stream", "f"][..],
        &["-b", "--append", "f"],
        &["-b", "--lock-on-commit", "f"],
        &["-b", "--validate", "test \"$(cat f)\" = old", "f"],
        &["-b", "--sync", "none", "f"],
        &["-b", "f", "--", "echo", "new"],
        &["-b", "-i", "/proc/version", "f"],
    ] {
        dir.file("f", "old");
        dir.awrite(args).stdin("new").quiet_success();
        assert_eq!(dir.read("f.backup"), "old");
        assert_ne!(dir.read("f"), "old");
        dir.assert_holds(&["f", "f.backup"]);
        fs::remove_file(dir.join("f.backup")).unwrap();
    }
}

#[test]
fn a_long_names_backup_is_an_error_that_says_so() {
    let dir = TestDir::new();
    let name = "n".repeat(250);
    dir.file(&name, "old");
    let done = dir.awrite(["-b", &name]).stdin("new").run();
    done.assert_error_with(1, &["File name too long"]);
    assert_eq!(dir.read(&name), "old");
    dir.assert_holds(&[&name]);
    let name = "n".repeat(248);
    dir.file(&name, "old");
    dir.awrite(["-b", &name]).stdin("new").quiet_success();
    assert_eq!(dir.read(format!("{name}.backup")), "old");
}

// ---------------------------------------------------------------------------------------------------------------------
// Failures

/// The calls of a write with a backup: the old content is synced, then the new one, then names are exchanged, then the
/// target is replaced.
#[test]
fn a_failed_write_leaves_the_earlier_backup_and_nothing_else() {
    if !needs_strace() {
        return;
    }
    for (option, earlier) in
        [("--backup", true), ("--backup", false), ("--backup-mode=600", true), ("--backup-mode=600", false)]
    {
        for strike in [
            "fsync:error=EIO:when=1",
            "fsync:error=EIO:when=2",
            "fsync:signal=TERM:delay_exit=200000:when=2",
            "renameat2:error=EIO:when=1",
            "renameat:error=EIO:when=1",
            "renameat:error=EACCES:when=1",
        ] {
            let dir = TestDir::new();
            dir.file("f", "old");
            if earlier {
                dir.file("f.backup", "earlier");
            }
            let before = dir.snapshot("f");
            let inject = format!("inject={strike}");
            let strace = ["-f", "-o", "/dev/null", "-e", &inject, AWRITE, option, "f"];
            let done = dir.program("strace", strace).stdin("new").run();
            done.assert_code(if strike.contains("TERM") { 3 } else { 1 });
            assert_eq!(dir.snapshot("f"), before, "{option} {strike}: {done:?}");
            if earlier {
                assert_eq!(dir.read("f.backup"), "earlier", "{option} {strike}: {done:?}");
                dir.assert_holds(&["f", "f.backup"]);
            } else {
                dir.assert_holds(&["f"]);
            }
        }
    }
}

/// A housekeeper may do so at any time.
#[test]
fn an_earlier_backup_that_is_removed_meanwhile_is_no_error() {
    let dir = TestDir::new();
    dir.file("f", "0");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::remove_file(dir.join("f.backup"));
                let _ = fs::write(dir.join("f.backup"), "somebody's");
            }
        });
        let writes: Vec<_> = (0..rounds(30, 1000))
            .map(|number| dir.awrite(["--sync=none", "-b", "f"]).stdin(number.to_string()).run())
            .collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for write in writes {
            write.ok();
        }
    });
    dir.assert_holds(&["f", "f.backup"]);
}

/// Names cannot be exchanged on every file system, or made anew only if they are free.
#[test]
fn backups_on_file_systems_that_can_do_less() {
    if !needs_strace() {
        return;
    }
    for option in ["--backup", "--backup-mode=600", "--backup-timestamp"] {
        for also in ["signal=none", "inject=linkat:error=EPERM"] {
            let dir = TestDir::new();
            dir.file("f", "0");
            for number in ["1", "2"] {
                let strace =
                    ["-f", "-o", "/dev/null", "-e", "inject=renameat2:error=EINVAL", "-e", also, AWRITE, option, "f"];
                dir.program("strace", strace).stdin(number).run().ok();
            }
            let names: Vec<_> = dir.names().into_iter().filter(|name| name != "f").collect();
            let mut contents: Vec<_> = names.iter().map(|name| dir.read(name)).collect();
            contents.sort();
            let expected: &[&str] = if option == "--backup-timestamp" { &["0", "1"] } else { &["1"] };
            assert_eq!(contents, expected, "{names:?}");
        }
    }
}

/// Only that it can do less leads to another way: an error is one.
#[test]
fn errors_on_file_systems_that_can_do_less() {
    if !needs_strace() {
        return;
    }
    // The first only asks in which way an unnamed file can be named. Then come backup, new file, and the backup's own name.
    for (when, code) in [(2, 1), (3, 1), (4, 1), (5, 0)] {
        let dir = TestDir::new();
        dir.file("f", "old");
        let inject = format!("inject=linkat:error=EIO:when={when}");
        let strace = ["-f", "-o", "/dev/null", "-e", "inject=renameat2:error=EINVAL", "-e", &inject, AWRITE];
        let options = ["--backup-timestamp", "--backup-mode=600", "f"];
        dir.program("strace", strace.iter().chain(&options)).stdin("new").run().assert_code(code);
        assert_eq!(dir.read("f"), if code == 0 { "new" } else { "old" }, "{inject}");
        assert_eq!(dir.names().len(), if code == 0 { 2 } else { 1 }, "{inject}");
    }
}

/// Replacing such a file fails at the very end, and was once found only there.
#[test]
fn a_file_that_cannot_be_replaced_keeps_its_earlier_backup() {
    if !needs_root() || !needs("chattr") {
        return;
    }
    for attribute in ["+i", "+a"] {
        for option in ["--backup", "--backup-mode=600", "--backup-timestamp"] {
            let dir = TestDir::new();
            let path = dir.file("f", "old");
            dir.file("f.backup", "earlier");
            let chattr = |change: &str| {
                let status = std::process::Command::new("chattr").arg(change).arg(&path).status();
                status.is_ok_and(|status| status.success())
            };
            if !chattr(attribute) {
                eprintln!("skipped: this file system has no such attribute");
                return;
            }
            let before = dir.snapshot("f");
            let done = dir.awrite(["--force", option, "f"]).stdin("new").run();
            let after = dir.snapshot("f");
            chattr(&attribute.replace('+', "-"));
            done.assert_error_with(1, &["Error: f: The file "]);
            assert_eq!(after, before);
            assert_eq!(dir.read("f.backup"), "earlier");
            dir.assert_holds(&["f", "f.backup"]);
        }
    }
}

/// There, neither another's file can be replaced nor a link to it be taken away again.
#[test]
fn another_users_file_in_a_sticky_directory() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    let sticky = dir.dir("sticky");
    dir.open_to_all();
    chmod(&sticky, 0o1777);
    dir.file_with_mode("sticky/f", "old", 0o666);
    let before = dir.snapshot("sticky/f");
    dir.awrite_unprivileged(["-b", "sticky/f"]).stdin("new").run().assert_code(1);
    assert_eq!(dir.snapshot("sticky/f"), before);
    assert_no_debris(&sticky, &["f"]);
    // The directory of the backup may be such a one, too.
    dir.file_with_mode("f", "old", 0o666);
    dir.awrite_unprivileged(["--backup-dir", "sticky", "--backup-suffix", ".1", "f"]).stdin("new").run().ok();
    assert_eq!((dir.read("f").as_str(), dir.read("sticky/f.1").as_str()), ("new", "old"));
    assert_no_debris(&sticky, &["f", "f.1"]);
    // And it may be overwritten.
    let done = dir.awrite_unprivileged(["--in-place", "-b", "sticky/f"]).stdin("new").run();
    assert!(done.ok().stderr.contains("not atomic"), "{done:?}");
    assert_eq!((dir.read("sticky/f").as_str(), dir.read("sticky/f.backup").as_str()), ("new", "old"));
    assert_eq!(dir.snapshot("sticky/f").inode, before.inode);
    assert_no_debris(&sticky, &["f", "f.1", "f.backup"]);
}
