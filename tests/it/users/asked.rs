//! `--if-changed` with the same content, and a mode or an owner that is asked for.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{ALICE, BOB, CAROL, ROOT, SECRET, make, needs_users, needs_users_and_strace, owned, shared_dir};
use crate::common::{TestDir, chmod};

/// Whether the last event says that the file was changed.
fn says_changed(dir: &TestDir, args: &[&str]) -> bool {
    let args = ["--json", "--if-changed"].iter().chain(args).copied();
    let done = dir.awrite(args).stdin("same").run();
    let committed = done.ok().stderr.lines().find(|line| line.contains("\"committed\"")).unwrap().to_owned();
    committed.contains("\"changed\":true")
}

#[test]
fn a_mode_that_is_asked_for_is_set_on_the_file_itself() {
    let dir = TestDir::new();
    dir.file_with_mode("f", "same", 0o644);
    let inode = || fs::metadata(dir.join("f")).map(|meta| (meta.ino(), meta.mtime_nsec())).unwrap();
    let before = inode();
    for (mode, changed) in [("600", true), ("600", false), ("0640", true), ("4750", true), ("4750", false)] {
        assert_eq!(says_changed(&dir, &["-b", "-m", mode, "f"]), changed, "{mode}");
        assert_eq!(dir.mode("f"), u32::from_str_radix(mode, 8).unwrap());
        assert_eq!(inode(), before);
        dir.assert_holds(&["f"]);
    }
    assert!(!says_changed(&dir, &["f"]), "what is not asked for stays");
    assert_eq!(dir.mode("f"), 0o4750);
    // The mode of a new file.
    let done = dir.sh("umask 027; printf same | \"$BIN\" --if-changed --no-preserve-mode f").run();
    done.ok();
    assert_eq!((dir.mode("f"), inode()), (0o640, before));
    // Other content is written as ever.
    dir.awrite(["--if-changed", "-m", "604", "f"]).stdin("other").quiet_success();
    assert_eq!((dir.mode("f"), dir.read("f").as_str()), (0o604, "other"));
}

#[test]
fn an_owner_that_is_asked_for_is_set_on_the_file_itself() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    let set_up = |mode| {
        make(&dir, "f", mode, "");
        fs::write(dir.join("f"), "same").unwrap();
        fs::metadata(dir.join("f")).unwrap().ino()
    };
    let inode = set_up(0o660);
    assert!(!says_changed(&dir, &["f"]) && !says_changed(&dir, &["--preserve-owner", "f"]));
    assert_eq!(owned(&dir, "f"), (ALICE.uid, SECRET, 0o660));
    assert!(says_changed(&dir, &["--no-preserve-owner", "f"]));
    assert!(!says_changed(&dir, &["--no-preserve-owner", "f"]));
    assert_eq!(owned(&dir, "f"), (0, 0, 0o600));
    assert_eq!(fs::metadata(dir.join("f")).unwrap().ino(), inode);
    set_up(0o660);
    assert!(says_changed(&dir, &["--no-preserve-owner", "-m", "640", "f"]));
    assert_eq!(owned(&dir, "f"), (0, 0, 0o640));
}

/// Until the file has its new owner, it has no more than both modes allow: the members of the old group are not those of
/// the new one.
#[test]
fn nobody_gains_access_before_the_owner_is_set() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = shared_dir();
    make(&dir, "f", 0o4640, "");
    fs::write(dir.join("f"), "same").unwrap();
    let strace = ["-o", "trace", "-e", "trace=fchmod,fchown"];
    let args = ["--if-changed", "--no-preserve-owner", "-m", "4622", "f"];
    ROOT.traced(&dir, &strace, &args).stdin("same").run().ok();
    let trace = dir.read("trace");
    let calls: Vec<String> = trace.lines().map(|line| line.replace(' ', "")).collect();
    let [.., before, owner, after] = &calls[..] else { panic!("{trace}") };
    assert!(before.ends_with(",0600)=0") && owner.ends_with(",0,0)=0") && after.ends_with(",04622)=0"), "{trace}");
}

/// Who may not change the mode of the file may still replace it.
#[test]
fn anothers_file_is_replaced_to_have_the_mode() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    make(&dir, "f", 0o666, "");
    fs::write(dir.join("f"), "same").unwrap();
    BOB.awrite(&dir, &["--if-changed", "-m", "600", "f"]).stdin("same").run().ok();
    let meta = fs::metadata(dir.join("f")).unwrap();
    assert_eq!((meta.uid(), meta.permissions().mode() & 0o7777), (BOB.uid, 0o600));
    dir.assert_holds(&["f"]);
}

#[test]
fn a_list_goes_with_the_mode_as_chmod_would_have_it() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    make(&dir, "f", 0o640, "u:2003:r");
    fs::write(dir.join("f"), "same").unwrap();
    assert_eq!(CAROL.access_to(&dir.join("f")), 4);
    ROOT.awrite(&dir, &["--if-changed", "-m", "600", "f"]).stdin("same").quiet_success();
    assert_eq!((CAROL.access_to(&dir.join("f")), owned(&dir, "f")), (0, (ALICE.uid, SECRET, 0o600)));
    chmod(&dir.join("f"), 0o640);
    assert_eq!(CAROL.access_to(&dir.join("f")), 4, "the list is still there");
}
