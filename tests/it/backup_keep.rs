//! `--backup-keep`: after the commit, only this file's dated backups go, and only those beyond the newest.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::common::{TestDir, chmod, needs_root, needs_strace};

/// The dated backups in `dir`, oldest first by their names, with what they hold.
fn backups(dir: &TestDir, of: &str) -> Vec<(String, String)> {
    let prefix = format!("{of}.2");
    let mut found: Vec<(String, String)> = dir
        .names()
        .into_iter()
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.starts_with(&prefix))
        .map(|name| (name.clone(), dir.read(&name)))
        .collect();
    found.sort_by_key(|(name, _)| name.replace(".backup", ""));
    found
}

/// Also many within one second: a number that has become free must not make a new backup look old.
#[test]
fn the_newest_stay() {
    for keep in [1, 2, 3] {
        let dir = TestDir::new();
        dir.file("f", "0");
        for number in 1..=14 {
            dir.awrite(["--backup-keep", &keep.to_string(), "f"]).stdin(number.to_string()).quiet_success();
            let mut held: Vec<i32> = backups(&dir, "f").iter().map(|(_, held)| held.parse().unwrap()).collect();
            held.sort_unstable();
            assert_eq!(held, ((number - keep).max(0)..number).collect::<Vec<_>>());
        }
        assert_eq!(dir.names().len(), keep as usize + 1);
    }
}

#[test]
fn nothing_else_goes() {
    let dir = TestDir::new();
    dir.file("f", "old");
    let others = [
        // Of other files, with other suffixes, plain, not quite dated, or a plain backup of a file with such a name.
        "f.backup",
        "f.20200101-000000.old",
        "f.20200101-000000",
        "f.20200101-000000.backup",
        "f.20201301-000000.backup",
        "f.20200101-000000-0.backup",
        "f.20200101.backup",
        "f.conf.20200101-000000.backup",
        "xf.20200101-000000.backup",
        "f.20200101-000001.20200101-000002.backup",
    ];
    for other in others {
        dir.file(other, "another's");
    }
    symlink("f.backup", dir.join("f.20200102-000000.backup")).unwrap();
    dir.dir("f.20200103-000000.backup");
    dir.file("f.20200104-000000.backup", "ours");
    dir.file("f.20200104-000000-1.backup", "ours");
    dir.awrite(["--backup-keep=1", "f"]).stdin("new").quiet_success();
    for other in others {
        assert_eq!(dir.read(other), "another's", "{other}");
    }
    for gone in ["f.20200104-000000.backup", "f.20200104-000000-1.backup"] {
        assert!(!dir.join(gone).exists(), "{gone}");
    }
    // The link, the directory, f and its new backup.
    assert_eq!(dir.names().len(), others.len() + 4);
}

#[test]
fn elsewhere_and_with_another_suffix() {
    let dir = TestDir::new();
    dir.file("f", "0");
    dir.dir("kept");
    // A file beside OUTPUT whose plain backup is in that directory.
    dir.file("f.20200101-000000", "");
    dir.file("kept/f.20200101-000000~", "another's");
    dir.file("f.20200101-000001~", "beside");
    for name in ["f.20200101-000001~", "f.20200101-000002~", "f.20200101-000003.backup"] {
        dir.file(format!("kept/{name}"), name);
    }
    dir.awrite(["--backup-dir=kept", "--backup-suffix=~", "--backup-keep=2", "f"]).stdin("1").quiet_success();
    let kept = fs::read_dir(dir.join("kept")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut kept: Vec<String> = kept.collect();
    kept.sort();
    assert_eq!(kept[..3], ["f.20200101-000000~", "f.20200101-000002~", "f.20200101-000003.backup"]);
    assert_eq!((kept.len(), dir.read(format!("kept/{}", kept[3])).as_str()), (4, "0"));
    assert_eq!(dir.read("f.20200101-000001~"), "beside");
}

#[test]
fn without_a_commit_nothing_goes() {
    let dir = TestDir::new();
    dir.file("f", "same");
    dir.file("f.20200101-000000.backup", "1");
    dir.file("f.20200101-000001.backup", "2");
    dir.awrite(["--backup-keep=1", "--if-changed", "f"]).stdin("same").quiet_success();
    dir.awrite(["--backup-keep=1", "f"]).run().assert_code(1);
    dir.awrite(["--backup-keep=1", "--validate=false", "f"]).stdin("new").run().assert_code(1);
    assert_eq!(backups(&dir, "f").len(), 2);
    // Where there was nothing to back up, the commit counts all the same.
    fs::remove_file(dir.join("f")).unwrap();
    dir.awrite(["--backup-keep=1", "f"]).stdin("new").quiet_success();
    assert_eq!(backups(&dir, "f"), [("f.20200101-000001.backup".to_owned(), "2".to_owned())]);
    dir.awrite(["--backup-keep=1", "--backup-dir=made", "-D", "g"]).stdin("new").quiet_success();
    assert!(!dir.join("made").exists());
}

/// In that hour the names alone would take the newer ones for the older.
#[test]
fn the_hour_that_comes_twice() {
    let dir = TestDir::new();
    dir.file("f", "0");
    // 2025-10-26T00:30Z is 02:30 in summer time, and 01:10Z is 02:10 in winter time.
    for (name, seconds) in [("f.20251026-023000.backup", 1_761_438_600), ("f.20251026-021000.backup", 1_761_441_000)] {
        let file = fs::File::create(dir.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
    dir.awrite(["--backup-keep=2", "f"]).env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3").stdin("1").quiet_success();
    let left: Vec<String> = backups(&dir, "f").into_iter().map(|(name, _)| name).collect();
    assert_eq!((left.len(), left[0].as_str()), (2, "f.20251026-021000.backup"));
}

#[test]
fn what_cannot_be_deleted_is_a_warning() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file_with_mode("f", "old", 0o666);
    // In a sticky directory another's file can be made beside, but not deleted.
    let kept = dir.dir("kept");
    chmod(&kept, 0o1777);
    for number in 0..3 {
        dir.file(format!("kept/f.20200101-00000{number}.backup"), "root's");
    }
    let done = dir.awrite_unprivileged(["--backup-dir=kept", "--backup-keep=1", "f"]).stdin("new").run();
    done.assert_code(0);
    let warning = "Warning: kept/f.20200101-000000.backup: cannot delete this old backup (and 2 more): Operation not \
                   permitted\n";
    assert_eq!((done.stderr.as_str(), dir.read("f").as_str()), (warning, "new"));
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 4);
    // A directory that may be written but not read.
    dir.file_with_mode("f", "old", 0o666);
    chmod(&kept, 0o733);
    let done = dir.awrite_unprivileged(["--backup-dir=kept", "--backup-keep=1", "f"]).stdin("new").run();
    done.assert_code(0);
    assert_eq!(done.stderr, "Warning: kept: cannot look for old backups: Permission denied\n");
}

#[test]
fn each_is_an_event() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.file("f.20200101-000000.backup", "1");
    dir.file("f.20200101-000001.backup", "2");
    let done = dir.awrite(["--backup-keep=1", "--json", "f"]).stdin("new").run();
    let events: Vec<Value> = done.ok().stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let deleted: Vec<&Value> = events.iter().filter(|event| event["event"] == "backup_deleted").collect();
    assert_eq!(deleted.len(), 2);
    for (event, number) in deleted.iter().zip(0..) {
        assert_eq!(event["path"], "f");
        assert_eq!(event["backup"], format!("f.20200101-00000{number}.backup"));
    }
}

/// An old backup may be all that is left of the content if the new directory entry does not survive.
#[test]
fn a_commit_that_may_not_last_deletes_nothing() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.file("f.20200101-000000.backup", "1");
    // The third fsync is that of the directory, after those of the backup and of the new file.
    let script =
        "echo new | strace -f -o trace -e trace=fsync -e inject=fsync:error=EIO:when=3 \"$BIN\" --backup-keep=1 f";
    let done = dir.sh(script).run();
    done.assert_error_with(1, &["replaced, but not known to be durable"]);
    assert!(dir.join("f.20200101-000000.backup").exists());
}
