//! What a real run cannot delete, a dry run knows.

use std::process::Command;

use super::{DAY, age, expired_lease, housekeep, listed, tree};
use crate::common::{TestDir, needs, needs_root, say};

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
