//! Which backups are kept. A backup that is being made is never deleted.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::{DAY, HOUR, age, assert_deletes, housekeep, stamp, stopped_after, tree, wait_for_ctime};
use crate::common::{TestDir, needs_strace};

#[test]
fn backups_are_kept_by_number_and_by_age() {
    let dated = |days: u64| format!("f{}.backup", stamp(days * DAY));
    let all: Vec<String> = [1, 3, 8, 30].map(dated).into();
    for (args, oldest_kept) in [
        (&[][..], 1),
        (&["--keep-newest", "0"], 0),
        (&["--keep-newest", "3"], 3),
        (&["--keep-newest", "99999999999999999999"], 4),
        (&["--older-than", "7d"], 2),
        (&["--older-than", "7"], 2),
        (&["--older-than", "72h"], 1),
        (&["--older-than", "0"], 0),
        (&["--older-than", "100d"], 4),
        // A backup goes only if both options allow it.
        (&["--keep-newest", "3", "--older-than", "7d"], 3),
        (&["--keep-newest", "1", "--older-than", "7d"], 2),
        (&["--older-than", "2d", "--keep-newest", "0"], 1),
    ] {
        let dir = TestDir::new();
        for name in &all {
            // The younger of the time in its name and its modification time counts.
            age(&dir.file(name, "x"), 1000 * DAY);
        }
        let gone: Vec<&str> = all[oldest_kept..].iter().map(String::as_str).collect();
        let args: Vec<&str> = ["--clean-backups"].iter().chain(args).copied().collect();
        assert_deletes(&dir, &args, &gone);
    }
}

#[test]
fn a_plain_backup_is_as_old_as_its_content() {
    let dir = TestDir::new();
    age(&dir.file("f.backup", "x"), 5 * DAY);
    let (older, newer) = (format!("f{}.backup", stamp(6 * DAY)), format!("f{}.backup", stamp(4 * DAY)));
    age(&dir.file(&older, "x"), 6 * DAY);
    age(&dir.file(&newer, "x"), 6 * DAY);
    wait_for_ctime(&dir.join("f.backup"), Duration::from_millis(100));
    assert_deletes(&dir, &["--clean-backups", "--keep-newest", "2"], &[&older]);
    assert_deletes(&dir, &["--clean-backups"], &["f.backup"]);
    assert_deletes(&dir, &["--clean-backups"], &[]);
}

#[test]
fn groups_are_by_directory_and_name() {
    let dir = TestDir::new();
    dir.dir("sub");
    for name in ["f.backup", "sub/f.backup", "g.20260101-000000.backup", "f.x.backup", "no-target.backup"] {
        age(&dir.file(name, "x"), 1000 * DAY);
    }
    // These are no times, so the names belong to other files.
    for name in ["f.20261332-000000.backup", "f.20260101-000000-0.backup", "f.20260101.backup"] {
        age(&dir.file(name, "x"), 1000 * DAY);
    }
    // The plain backup of a file that is called like this.
    dir.file("h.20260101-000000", "x");
    for name in ["h.20260101-000000.backup", "h.20260202-000000.backup"] {
        dir.file(name, "x");
    }
    // No backups at all.
    dir.dir("directory.backup");
    symlink("f", dir.join("link.backup")).unwrap();
    for name in [".backup", "f.backup~", "f.Backup", "f.backup.1"] {
        dir.file(name, "x");
    }
    assert_deletes(&dir, &["--clean-backups", "-r"], &[]);
}

#[test]
fn backups_of_one_second_are_in_the_order_of_their_numbers() {
    let dir = TestDir::new();
    let names = ["", "-1", "-2", "-9", "-10"].map(|number| format!("f.20260102-030405{number}.backup"));
    for name in &names {
        dir.file(name, "x");
    }
    let gone: Vec<&str> = names[..3].iter().map(String::as_str).collect();
    assert_deletes(&dir, &["--clean-backups", "--keep-newest", "2"], &gone);
}

#[test]
fn the_suffix_of_backups_can_be_chosen() {
    let dir = TestDir::new();
    for name in ["f.20260102-030405.orig", "f.orig", "f.20260102-030405.backup", "f.backup", "f.lock.orig"] {
        dir.file(name, "x");
    }
    assert_deletes(&dir, &["--clean-backups", "--backup-suffix", ".orig"], &["f.20260102-030405.orig"]);
}

#[test]
fn times_in_names_are_local() {
    let dir = TestDir::new();
    // In a time zone ten hours behind UTC this was five hours ago.
    let name = format!("f{}.backup", stamp(15 * HOUR));
    age(&dir.file(&name, "x"), 1000 * DAY);
    for (zone, goes) in [("AAA+10", false), ("BBB+8", true)] {
        let done = housekeep(&dir, ["--clean-backups", "--older-than", "6h", "-n"]).env("TZ", zone).run();
        assert_eq!(done.ok().stdout.is_empty(), !goes, "{zone}: {done:?}");
    }
}

#[test]
fn backups_from_the_future_are_young() {
    let dir = TestDir::new();
    for name in ["f.99991231-235959.backup", "f.20260102-030405.backup"] {
        age(&dir.file(name, "x"), DAY);
    }
    assert_deletes(&dir, &["--clean-backups", "--older-than", "1s"], &["f.20260102-030405.backup"]);
}

/// A file with a backup of ten days ago, which is to go.
fn old_backup() -> TestDir {
    let dir = TestDir::new();
    age(&dir.file("f.backup", "old"), 10 * DAY);
    dir.file("f", "current");
    dir
}

const OLDER: [&str; 3] = ["--clean-backups", "--older-than", "7d"];
const HOUSEKEEP_OLDER: [&str; 4] = ["housekeep", "--clean-backups", "--older-than", "7d"];
/// Stops the housekeeper after its last look at the backup, and after it has renamed the backup.
const LOOKED: [&str; 6] = ["-P", "f.backup", "-e", "trace=statx", "-e", "inject=statx:signal=SIGSTOP:when=2"];
const RENAMED: [&str; 4] = ["-e", "trace=renameat2", "-e", "inject=renameat2:signal=SIGSTOP:when=1"];

#[test]
fn a_backup_made_at_the_last_moment_stays() {
    if !needs_strace() {
        return;
    }
    for moment in [&LOOKED[..], &RENAMED] {
        let dir = old_backup();
        let (housekeeper, pid) = stopped_after(&dir, moment, &HOUSEKEEP_OLDER);
        dir.awrite(["-b", "f"]).stdin("new").quiet_success();
        kill_process(pid, Signal::CONT).unwrap();
        housekeeper.finish().ok();
        assert_eq!(dir.read("f.backup"), "current", "stopped by {moment:?}");
        dir.assert_holds(&["f", "f.backup"]);
    }
}

#[test]
fn killed_half_way_it_leaves_a_backup_by_another_name() {
    if !needs_strace() {
        return;
    }
    let dir = old_backup();
    let (housekeeper, pid) = stopped_after(&dir, &RENAMED, &HOUSEKEEP_OLDER);
    kill_process(pid, Signal::KILL).unwrap();
    housekeeper.finish();
    let mut names = tree(dir.path());
    assert!(names.remove("f"));
    let aside = names.pop_last().unwrap();
    assert_eq!(dir.read(&aside), "old");
    // The time in its name is right, so it is treated as before.
    assert_deletes(&dir, &["--all"], &[]);
    assert_deletes(&dir, &["--clean-backups", "--older-than", "11d"], &[]);
    assert_deletes(&dir, &OLDER, &[&aside]);
}

#[test]
fn a_backup_that_is_being_made_stays() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    age(&dir.file("f", "current"), 10 * DAY);
    // Until its writer sets its time, after the commit, the new backup looks as old as the content. Stop it before.
    let committed = ["-e", "trace=renameat", "-e", "inject=renameat:signal=SIGSTOP:when=1"];
    let (writer, pid) = stopped_after(&dir, &committed, &["-b", "f"]);
    wait_for_ctime(&dir.join("f.backup"), Duration::from_secs(1));
    assert_eq!(dir.read("f"), "new", "it has committed");
    let done = housekeep(&dir, OLDER).run();
    assert_eq!(done.ok().stdout, "");
    assert_eq!(dir.read("f.backup"), "current");
    kill_process(pid, Signal::CONT).unwrap();
    writer.finish().ok();
    assert_eq!(housekeep(&dir, OLDER).run().ok().stdout, "");
    dir.assert_holds(&["f", "f.backup"]);
}

/// The writer's lock may be elsewhere, where the housekeeper does not see it. Before the commit the backup is a link to
/// the target.
#[test]
fn a_new_link_to_the_target_stays() {
    let dir = TestDir::new();
    age(&dir.file("f", "current"), 10 * DAY);
    fs::hard_link(dir.join("f"), dir.join("f.backup")).unwrap();
    assert_deletes(&dir, &OLDER, &[]);
}
