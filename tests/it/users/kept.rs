//! Owner, group and lists: kept where that is permitted; and where it is not, what becomes of the mode, and what is said.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{
    ALICE, BOB, CAROL, CAROL_OF_SECRET, DAVE, MEMBER, ROOT, SECRET, USERS, make, needs_users, needs_users_and_strace,
    owned, shared_dir,
};
use crate::common::{TestDir, needs_user_namespaces};

/// cap_net_raw, permitted and effective (linux/capability.h: `vfs_cap_data`, revision 2).
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn what_root_writes_still_belongs_to_the_service() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    for (options, owner) in [
        (&[][..], (ALICE.uid, SECRET, 0o640)),
        (&["--try-preserve-owner"], (ALICE.uid, SECRET, 0o640)),
        (&["--preserve-owner"], (ALICE.uid, SECRET, 0o640)),
        (&["--no-preserve-owner", "--try-preserve-owner"], (ALICE.uid, SECRET, 0o640)),
        // What is root's now is not for the members of root's group.
        (&["--no-preserve-owner"], (0, 0, 0o600)),
        (&["--no-preserve-owner", "-m", "640"], (0, 0, 0o640)),
    ] {
        make(&dir, "f", 0o640, "");
        let args: Vec<&str> = options.iter().copied().chain(["f"]).collect();
        ROOT.awrite(&dir, &args).stdin("new").quiet_success();
        assert_eq!(owned(&dir, "f"), owner, "{options:?}");
        assert_eq!(dir.read("f"), "new");
    }
}

#[test]
fn a_member_keeps_the_group() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    for mode in [0o660, 0o664, 0o640] {
        make(&dir, "f", mode, "");
        let done = MEMBER.awrite(&dir, &["-f", "f"]).stdin("new").run();
        assert_eq!(owned(&dir, "f"), (MEMBER.uid, SECRET, mode));
        assert_eq!(CAROL.access_to(&dir.join("f")), if mode == 0o664 { 4 } else { 0 });
        // Alice may still write it if she is of the group.
        let denied = if mode == 0o640 { "Warning: f: not kept: owner 2001\n" } else { "" };
        assert_eq!(done.ok().stderr, denied, "{mode:o}");
    }
}

/// The case of the issue: the right to write comes from a list, the new file is of the writer's group.
#[test]
fn group_bits_do_not_go_to_another_group() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    for options in [&["f"][..], &["--try-preserve-owner", "f"], &["-b", "f"], &["--backup-mode=660", "f"]] {
        make(&dir, "f", 0o660, "u:2002:rw");
        fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
        let done = BOB.awrite(&dir, options).stdin("new").run();
        let warning = "Warning: f: not kept: group 3000, owner 2001\n";
        assert_eq!(done.ok().stderr, warning, "{options:?}");
        let meta = fs::metadata(dir.join("f")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), dir.read("f").as_str()), (BOB.uid, USERS, "new"));
        for name in ["f", "f.backup"] {
            assert_eq!(CAROL.access_to(&dir.join(name)), 0, "{name} {options:?}");
        }
        assert_eq!(BOB.access_to(&dir.join("f")), 6);
        for name in ["g", "f.backup"] {
            let _ = fs::remove_file(dir.join(name));
        }
    }
    // No list: bob may replace it with -f, or because all may write.
    make(&dir, "f", 0o660, "");
    BOB.awrite(&dir, &["-f", "f"]).stdin("new").run().ok();
    assert_eq!(owned(&dir, "f"), (BOB.uid, USERS, 0o600));
    make(&dir, "f", 0o666, "");
    BOB.awrite(&dir, &["f"]).stdin("new").quiet_success();
    assert_eq!(owned(&dir, "f"), (BOB.uid, USERS, 0o666));
    // A group that has less than others: its members are among them now.
    make(&dir, "f", 0o606, "");
    BOB.awrite(&dir, &["f"]).stdin("new").run().ok();
    assert_eq!(owned(&dir, "f"), (BOB.uid, USERS, 0o600));
    // A mode that is asked for was meant for the group that is lost.
    make(&dir, "f", 0o666, "");
    let done = BOB.awrite(&dir, &["-m", "664", "f"]).stdin("new").run();
    assert_eq!(done.ok().stderr, "Warning: f: not kept: group 3000, owner 2001\n");
    assert_eq!(owned(&dir, "f"), (BOB.uid, USERS, 0o644));
}

#[test]
fn denials_of_a_list_that_is_lost_are_for_all() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = shared_dir();
    let shut_out = |name: &str| {
        for user in [CAROL, CAROL_OF_SECRET] {
            assert_eq!(user.access_to(&dir.join(name)), 0, "{name}");
        }
    };
    make(&dir, "f", 0o644, "u:2003:-");
    shut_out("f");
    ROOT.awrite(&dir, &["f"]).stdin("new").quiet_success();
    shut_out("f");
    assert_eq!(DAVE.access_to(&dir.join("f")), 4);

    let done = ROOT.awrite(&dir, &["--no-preserve-xattrs", "f"]).stdin("new").run();
    assert_eq!(done.ok().stderr, "Warning: f: not kept: the access control list\n");
    shut_out("f");
    assert_eq!(dir.mode("f"), 0o600);

    // A file system without lists, for the new file and for the copy of the old one.
    make(&dir, "f", 0o644, "u:2003:-");
    fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
    let without = ["-e", "inject=fsetxattr:error=EOPNOTSUPP"];
    let done = ROOT.traced(&dir, &without, &["-b", "f"]).stdin("new").run();
    assert_eq!(done.ok().stderr, "Warning: f: not kept: the access control list\n");
    shut_out("f");
    shut_out("f.backup");
    assert_eq!((dir.mode("f"), dir.mode("f.backup")), (0o600, 0o600));
    assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str()), ("new", "old"));

    // Nobody had access to the backup before.
    make(&dir, "f", 0o644, "u:2003:-");
    let done = ROOT.traced(&dir, &without, &["-v", "--backup-mode=640", "f"]).stdin("new").run();
    let said = done.ok().lines().contains(&"f.backup: not kept: the access control list");
    assert!(said, "{done:?}");
}

/// A list that grants, and nobody loses access but who is named in it.
#[test]
fn a_list_that_is_lost_without_denials_leaves_the_others_alone() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = shared_dir();
    for (list, mode, denies) in [("u:2003:rw", 0o644, true), ("u:2003:r", 0o644, false)] {
        make(&dir, "f", 0o644, list);
        let without = ["-e", "inject=fsetxattr:error=EINVAL"];
        let done = ROOT.traced(&dir, &without, &["-v", "f"]).stdin("new").run();
        let said = done.ok().stderr.lines().find(|line| line.contains("not kept")).unwrap_or_default().to_owned();
        assert_eq!(said.starts_with("Warning: "), denies, "{list}: {said}");
        assert!(said.ends_with("f: not kept: the access control list"), "{said}");
        assert_eq!(dir.mode("f"), mode);
    }
}

/// An error of such a call is "not kept", never a refusal.
#[test]
fn attributes_that_cannot_be_read_or_set() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = shared_dir();
    for error in ["EPERM", "EACCES", "EIO", "ENODATA", "ENOSYS", "EOPNOTSUPP"] {
        for call in ["flistxattr", "fgetxattr", "fsetxattr", "fremovexattr"] {
            for (list, mode) in [("", 0o640), ("u:2003:r", 0o640)] {
                make(&dir, "f", mode, list);
                rustix::fs::setxattr(dir.join("f"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
                fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
                let before = [CAROL, DAVE, MEMBER].map(|user| user.access_to(&dir.join("f")));
                let injected = format!("inject={call}:error={error}");
                let done = ROOT.traced(&dir, &["-e", &injected], &["-b", "-v", "f"]).stdin("new").run();
                let case = format!("{injected} {list}: {done:?}");
                done.ok();
                for name in ["f", "f.backup"] {
                    let after = [CAROL, DAVE, MEMBER].map(|user| user.access_to(&dir.join(name)));
                    let gained = before.iter().zip(after).any(|(before, after)| after & !before != 0);
                    assert!(!gained, "{name} {case}");
                }
                // What cannot be set is named; a list that was not there is no reason for anything.
                assert!(call != "fsetxattr" || done.stderr.contains("not kept: "), "{case}");
                let is_known = list.is_empty() && call != "fremovexattr";
                assert!(!is_known || dir.mode("f") == 0o640, "{:o} {case}", dir.mode("f"));
                for name in ["f", "f.backup", "g"] {
                    fs::remove_file(dir.join(name)).unwrap();
                }
            }
        }
    }
}

#[test]
fn set_id_bits_and_capabilities_go_only_with_preserve_owner() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    let capability = |name: &str| rustix::fs::getxattr(dir.join(name), "security.capability", &mut [0; 64][..]).is_ok();
    for mode in [0o4755, 0o2755, 0o6711] {
        make(&dir, "f", mode, "");
        let done = ROOT.awrite(&dir, &["f"]).stdin("new").run();
        assert_eq!(done.ok().stderr, "Warning: f: not kept: set-user-id and set-group-id bits\n");
        assert_eq!(owned(&dir, "f"), (ALICE.uid, SECRET, mode & 0o777));
        make(&dir, "f", mode, "");
        ROOT.awrite(&dir, &["--preserve-owner", "f"]).stdin("new").quiet_success();
        assert_eq!(owned(&dir, "f"), (ALICE.uid, SECRET, mode));
    }
    make(&dir, "f", 0o755, "");
    rustix::fs::setxattr(dir.join("f"), "security.capability", &NET_RAW, rustix::fs::XattrFlags::empty()).unwrap();
    assert!(capability("f"));
    ROOT.awrite(&dir, &["--preserve-owner", "f"]).stdin("new").quiet_success();
    assert!(capability("f"));
    ROOT.awrite(&dir, &["f"]).stdin("new").run().ok();
    assert!(!capability("f"));
}

/// Root in some containers may give files away, but not change the mode of those that it has given away.
#[test]
fn a_file_that_is_given_away_still_gets_its_mode() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    make(&dir, "f", 0o640, "");
    let binary = dir.reachable_binary().to_str().unwrap().to_owned();
    let done = dir.program("setpriv", ["--bounding-set=-fowner", &binary, "-v", "f"]).stdin("new").run();
    assert!(done.ok().stderr.contains("not kept: owner 2001"), "{done:?}");
    assert_eq!(owned(&dir, "f"), (0, SECRET, 0o640));
    assert_eq!(dir.read("f"), "new");
}

/// Only that it is not permitted is no error.
#[test]
fn another_error_of_owner_or_mode_leaves_the_file() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = shared_dir();
    // The first fchown is about the lock file.
    let errors = [
        ("fchmod:error=EIO:when=1", "--try-preserve-owner"),
        ("fchmod:error=EPERM:when=1", "--preserve-owner"),
        ("fchown:error=EIO:when=2", "--try-preserve-owner"),
    ];
    for (error, option) in errors {
        make(&dir, "f", 0o640, "");
        let once = ["-e", &format!("inject={error}")];
        ROOT.traced(&dir, &once, &[option, "f"]).stdin("new").run().assert_code(1);
        assert_eq!((dir.read("f").as_str(), owned(&dir, "f")), ("old", (ALICE.uid, SECRET, 0o640)), "{error}");
    }
}

/// A directory's default list gives a new file one. If that cannot be removed, it must give nobody anything.
#[test]
fn a_list_that_cannot_be_removed_gives_nothing() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = shared_dir();
    make(&dir, "f", 0o660, "");
    let without = ["-e", "inject=fremovexattr:error=EIO"];
    ROOT.traced(&dir, &without, &["f"]).stdin("new").quiet_success();
    assert_eq!(owned(&dir, "f"), (ALICE.uid, SECRET, 0o660), "there was none");
    dir.program("setfacl", ["-d", "-m", "u:2004:rw", "."]).run().ok();
    ROOT.traced(&dir, &without, &["f"]).stdin("new").run().ok();
    assert_eq!((dir.read("f").as_str(), owned(&dir, "f")), ("new", (ALICE.uid, SECRET, 0o600)));
    assert_eq!(DAVE.access_to(&dir.join("f")), 0);
}

/// Without the right to write a file, even its owner may not set attributes of it.
#[test]
fn attributes_of_a_read_only_file_are_kept() {
    if !needs_users() {
        return;
    }
    let dir: TestDir = shared_dir();
    make(&dir, "f", 0o444, "");
    rustix::fs::setxattr(dir.join("f"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    ALICE.awrite(&dir, &["-f", "f"]).stdin("new").quiet_success();
    assert_eq!(owned(&dir, "f"), (ALICE.uid, SECRET, 0o444));
    assert!(rustix::fs::getxattr(dir.join("f"), "user.note", &mut [0; 64][..]).is_ok());
}

/// In a user namespace the kernel shows everybody who is not known there as 65534, who may be known, too.
#[test]
fn an_unknown_owner_is_not_taken_for_nobody() {
    if !needs_users() || !needs_user_namespaces() {
        return;
    }
    let dir = shared_dir();
    let binary = dir.reachable_binary().to_str().unwrap().to_owned();
    // Knows 0 to 65534.
    let within = |args: &[&str]| {
        let script = "echo ready >&2; read -r go; exec \"$@\"";
        let mut running =
            dir.program("unshare", ["-U", "sh", "-c", script, "sh", &*binary].iter().chain(args)).stdin_open().spawn();
        running.wait_for_stderr("ready\n");
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", running.id()), "0 0 65535").unwrap();
        }
        running.feed(b"go\nnew");
        running.finish()
    };
    let set_up = |uid, gid, mode| {
        make(&dir, "f", mode, "");
        std::os::unix::fs::chown(dir.join("f"), Some(uid), Some(gid)).unwrap();
    };
    set_up(70_000, 70_000, 0o660);
    let done = within(&["-f", "f"]);
    assert_eq!(done.ok().stderr, "ready\nWarning: f: not kept: group 65534, owner 65534\n");
    assert_eq!(owned(&dir, "f"), (0, 0, 0o600));
    set_up(70_000, 70_000, 0o660);
    within(&["-f", "--preserve-owner", "f"]).assert_error_with(1, &["Error: f: ", "invalid argument"]);
    assert_eq!(owned(&dir, "f"), (70_000, 70_000, 0o660));
    // The one of both that is known is kept.
    set_up(2001, 70_000, 0o640);
    within(&["-f", "f"]).ok();
    assert_eq!(owned(&dir, "f"), (2001, 0, 0o600));
    set_up(70_000, 3000, 0o640);
    within(&["-f", "f"]).ok();
    assert_eq!(owned(&dir, "f"), (0, 3000, 0o640));
    // Elsewhere it is a number like any other.
    set_up(65534, 65534, 0o640);
    ROOT.awrite(&dir, &["f"]).stdin("new").quiet_success();
    assert_eq!(owned(&dir, "f"), (65534, 65534, 0o640));
}
