//! What a real run cannot delete, a dry run knows.

use std::fs;
use std::process::Command;

use super::{DAY, age, expired_lease, housekeep, listed, tree};
use crate::common::{AWRITE, Held, TestDir, needs, needs_root, needs_strace, say};

/// Every kind of file that could be deleted. Returns their names.
fn one_of_each_kind(dir: &TestDir) -> Vec<String> {
    expired_lease(dir);
    dir.awrite(["lock", "--lock-method=link", "l", "--", "sh", "-c", "kill -9 $PPID"]).run();
    for name in ["g.lock", ".awrite-29623195.f", "f.20250102-030405.backup", "h", "h.backup"] {
        age(&dir.file(name, ""), 10 * DAY);
    }
    // The mark of who was to break a lock that is not there any more.
    dir.file("i.lock.break-0123456789abcdef", dir.read("l.lock"));
    tree(dir.path()).into_iter().filter(|name| name != "h").collect()
}

/// Whoever tries a lock while it is looked at does not find it busy.
#[test]
fn nothing_is_locked() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    one_of_each_kind(&dir);
    for name in ["f", "f.lock", "a", "b"] {
        dir.file(name, "");
    }
    // A set of files whose writer is killed before its commit point.
    dir.dir("new");
    for name in ["a", "b"] {
        dir.file(format!("new/{name}"), "new");
    }
    let kill = ["-f", "-o", "/dev/null", "-e", "inject=renameat:signal=KILL:when=3", AWRITE, "--into", "."];
    dir.program("strace", kill.iter().chain(&["new/a", "new/b"])).run();
    for name in ["a.lock", "b.lock"] {
        dir.file(name, "");
    }
    assert!(dir.join("a.lease").exists() && dir.join("b.lease").exists());
    let trace = TestDir::new();
    let output = trace.join("trace");
    let calls = ["-f", "-o", output.to_str().unwrap(), "-e", "trace=flock,fcntl", AWRITE, "housekeep", "-n"];
    let args = ["--clean-locks", "--clean-temps", "--clean-backups", "--keep-newest=0"];
    let done = dir.program("strace", calls.iter().chain(&args)).run();
    let said = fs::read_to_string(output).unwrap();
    assert!(!said.contains("flock(") && !said.contains("F_WRLCK, l_") && said.contains("F_SETLEASE"), "{said}");
    let foreseen = listed(done.ok());
    assert!(foreseen.contains("f.lease") && foreseen.contains("a.lease"), "{done:?}");
    // Those who hold the lock of a lease's target, or of a set's, are seen all the same.
    let held = ["f.lock", "a.lock"].map(|name| Held::new(&dir.join(name)));
    let foreseen = listed(housekeep(&dir, args.iter().chain(&["-n"]).copied()).run().ok());
    assert!(!foreseen.contains("f.lease") && !foreseen.contains("a.lease") && foreseen.contains("b.lease"));
    drop(held);
}

/// Some may not be changed at all, others only be appended to.
#[test]
fn files_with_attributes_of_every_kind() {
    if !needs_root() || !needs("chattr") {
        return;
    }
    let dir = TestDir::on_disk();
    let all = one_of_each_kind(&dir);
    assert_eq!(all.len(), 7, "{all:?}");
    let before = tree(dir.path());
    let chattr = |sign: char| {
        all.iter().zip("iaiaiai".chars()).all(|(name, attribute)| {
            let mut chattr = Command::new("chattr");
            chattr.arg(format!("{sign}{attribute}")).arg(dir.join(name)).status().unwrap().success()
        })
    };
    if !chattr('+') {
        return say("skipped: this file system has no attributes");
    }
    let args = ["--clean-locks", "--clean-backups", "--clean-temps", "--keep-newest=0"];
    let runs = [Some("--dry-run"), None].map(|more| housekeep(&dir, args.into_iter().chain(more)).run());
    chattr('-');
    for done in &runs {
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.lines().count()), (Some(1), "", 8), "{done:?}");
        for name in &all {
            assert!(done.stderr.contains(&format!("./{name}: ")), "{name}: {done:?}");
        }
    }
    assert_eq!(tree(dir.path()), before);
    assert_eq!(listed(housekeep(&dir, args).run().ok()).len(), 7);
}
