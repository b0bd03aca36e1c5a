//! Mode, owner, extended attributes and access control lists of the new file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::{AWRITE, NOBODY, TestDir, chmod, needs, needs_root, needs_user_namespaces};

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
            // For a new file, and instead of the old file's mode. umask does not apply.
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
fn set_id_bits_stay_only_with_preserve_owner() {
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
    assert_eq!(dir.mode("f"), 0o755, "the new content is not what the bits were given to");
    fs::remove_file(dir.join("f")).unwrap();

    set_up();
    dir.awrite(["--preserve-owner", "f"]).stdin("new").quiet_success();
    assert_eq!(dir.mode("f"), 0o6755);
    let meta = fs::metadata(dir.join("f")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY));
    fs::remove_file(dir.join("f")).unwrap();

    for option in ["--try-preserve-owner", "--no-preserve-owner"] {
        set_up();
        dir.awrite([option, "f"]).stdin("new").run().ok();
        assert_eq!(dir.mode("f"), 0o755);
    }
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
fn the_owner_is_kept_unless_told_otherwise() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    let path = dir.file("f", "old");
    let owner = || fs::metadata(&path).map(|meta| (meta.uid(), meta.gid())).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    for option in ["--preserve-owner", "--try-preserve-owner", "--stream"] {
        dir.awrite([option, "f"]).stdin("new").quiet_success();
        assert_eq!(owner(), (1234, 5678));
    }
    dir.awrite(["--no-preserve-owner", "f"]).stdin("new").quiet_success();
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

/// In a user namespace chown(2) fails with EINVAL, not EPERM, if the owner is not mapped.
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
    // The copy of a backup tries to keep the owner too.
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
    let dir = TestDir::on_disk();
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

/// chown(2) clears the set-id bits, so the mode must be set after it.
#[test]
fn mode_and_attributes_survive_a_change_of_owner() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::on_disk();
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
    let dir = TestDir::on_disk();
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

/// With an access control list, the group bits of the mode are the list's mask. Without the list they would give the
/// group more than it had.
#[test]
fn an_acl_that_is_not_carried_over_leaves_the_group_what_it_had() {
    if !needs("setfacl") {
        return;
    }
    let dir = TestDir::on_disk();
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
    // awrite cannot read the list of a file that it may write but not read.
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
    let dir = TestDir::on_disk();
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
