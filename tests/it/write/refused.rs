//! What rename(2) would refuse is refused before anything is made.

use std::fs;
use std::process::Command;

use crate::common::{NOBODY, TestDir, chmod, is_root, needs_root, say};

/// Sets an attribute, and takes it off again.
struct Attribute<'a> {
    dir: &'a TestDir,
    flag: char,
    name: &'a str,
}

impl<'a> Attribute<'a> {
    fn set(dir: &'a TestDir, flag: char, name: &'a str) -> Option<Attribute<'a>> {
        let done = Command::new("chattr").arg(format!("+{flag}")).arg(dir.join(name)).output();
        if done.is_ok_and(|output| output.status.success()) {
            return Some(Attribute { dir, flag, name });
        }
        say("skipped: needs a file system with attributes, and the right to set them");
        None
    }
}

impl Drop for Attribute<'_> {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg(format!("-{}", self.flag)).arg(self.dir.join(self.name)).status();
    }
}

#[test]
fn what_has_attributes_against_it() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::on_disk();
    dir.dir("d");
    dir.file("d/f", "old");
    let cases = [
        ('i', "d/f", "Error: d/f: The file is immutable (chattr +i)"),
        ('a', "d/f", "Error: d/f: The file may only be appended to (chattr +a)"),
        ('i', "d", "Error: d/f: Its directory is immutable (chattr +i), so nothing in it can be replaced"),
        ('a', "d", "Error: d/f: Its directory is append-only (chattr +a), so nothing in it can be replaced"),
    ];
    for (flag, on, error) in cases {
        let Some(attribute) = Attribute::set(&dir, flag, on) else { return };
        for options in [&[][..], &["--force"], &["--backup"], &["--lock-on-commit"], &["--backup-dir=."]] {
            let before = dir.snapshot("d/f");
            let done = dir.awrite(options.iter().chain(&["d/f"])).stdin("new").run();
            done.assert_error(1, error).assert_hint(&format!("chattr -{flag} {on}"));
            assert_eq!(dir.snapshot("d/f"), before, "{options:?}");
            dir.assert_holds(&["d"]);
            assert_eq!(fs::read_dir(dir.join("d")).unwrap().count(), 1, "{options:?}");
        }
        if flag == 'a' && on == "d" {
            dir.awrite(["d/new"]).stdin("new").run().assert_code(1);
            assert_eq!(fs::read_dir(dir.join("d")).unwrap().count(), 1);
        }
        drop(attribute);
    }
    dir.awrite(["d/f"]).stdin("new").quiet_success();
}

#[test]
fn another_s_file_in_a_sticky_directory() {
    if !needs_root() || !is_root() {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    let sticky = dir.dir("d");
    chmod(&sticky, 0o1777);
    dir.file_with_mode("d/f", "old", 0o666);
    let error = "Error: d/f: Another user's file in a sticky directory cannot be replaced";
    let before = dir.snapshot("d/f");
    let alone = || assert_eq!(fs::read_dir(&sticky).unwrap().count(), 1);
    dir.awrite_unprivileged(["d/f"]).stdin("new").run().assert_error(1, error).assert_hint("--in-place");
    dir.awrite_unprivileged(["-b", "d/f"]).stdin("new").run().assert_error(1, error);
    alone();
    chmod(&dir.join("d/f"), 0o644);
    dir.awrite_unprivileged(["--force", "d/f"]).stdin("new").run().assert_error(1, error).assert_hint("ask its owner");
    dir.awrite_unprivileged(["d/f"]).stdin("new").run().assert_code(1);
    alone();
    chmod(&dir.join("d/f"), 0o666);
    assert_eq!(dir.snapshot("d/f").inode, before.inode);
    assert_eq!(dir.read("d/f"), "old");
    // What is asked for is possible.
    dir.awrite_unprivileged(["--in-place", "d/f"]).stdin("in place").run().ok();
    assert_eq!((dir.read("d/f").as_str(), dir.snapshot("d/f").inode), ("in place", before.inode));
    // Nothing is refused that would work: one's own file, one's own directory, root.
    std::os::unix::fs::chown(dir.join("d/f"), Some(NOBODY), Some(NOBODY)).unwrap();
    dir.awrite_unprivileged(["d/f"]).stdin("own").run().ok();
    std::os::unix::fs::chown(&sticky, Some(NOBODY), Some(NOBODY)).unwrap();
    std::os::unix::fs::chown(dir.join("d/f"), Some(0), Some(0)).unwrap();
    chmod(&dir.join("d/f"), 0o666);
    dir.awrite_unprivileged(["--no-preserve-owner", "d/f"]).stdin("own directory").run().ok();
    dir.awrite(["d/f"]).stdin("root").run().ok();
    assert_eq!(dir.read("d/f"), "root");
    alone();
}
