//! Two users and one file: who can lock it, lease it, wait, and take over what a dead one left; and that nobody else is in
//! the way. In every kind of directory, for every kind of record. By root, who becomes all of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use rustix::process::Signal;

use crate::common::{AWRITE, Held, NOBODY, TestDir, chmod, lock_is_held, needs_strace, rounds, wait_until};
use crate::users::{
    ALICE, DAVE, EVE, FRANK, ROOT, SECRET, TEAM, USERS, User, needs_users, needs_users_and_strace, owned, shared_dir,
};

/// A stranger to every file here.
const STRANGER: User = User { uid: NOBODY, groups: &[NOBODY] };
/// Two members of a group that is not their first.
const ANN: User = User { uid: 2011, groups: &[2011, TEAM] };
const BEN: User = User { uid: 2012, groups: &[2012, TEAM] };

/// A directory whose files are replaced by all, each by its owner, or by a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sticky,
    Setgid,
    Plain,
}

const KINDS: [Kind; 3] = [Kind::Sticky, Kind::Setgid, Kind::Plain];

impl Kind {
    /// A directory of this kind, root's and the team's.
    fn make(self) -> TestDir {
        let dir = shared_dir();
        chown(dir.path(), Some(0), Some(TEAM)).unwrap();
        chmod(
            dir.path(),
            match self {
                Kind::Sticky => 0o1777,
                Kind::Setgid => 0o2775,
                Kind::Plain => 0o775,
            },
        );
        dir
    }
}

/// The file `f`, with this owner, group and mode.
fn make(dir: &TestDir, uid: u32, gid: u32, mode: u32) {
    let path = dir.file_with_mode("f", "old", mode);
    chown(&path, Some(uid), Some(gid)).unwrap();
}

/// A record of a lease, as this user could write it by hand.
fn forge_lease(dir: &TestDir, by: User, token: u64) {
    let record = format!(
        "{{\"version\":1,\"owner\":\"X\",\"token\":{token},\"locked_at\":\"2026-01-02T03:04:05.123Z\",\
         \"refreshed_at\":\"2026-01-02T03:04:05.123Z\",\"expires_at\":\"2099-01-02T03:05:05.123Z\",\
         \"ttl_ms\":315000000000,\"host\":\"h\",\"pid\":1,\"boot_id\":null,\"expires_boottime_ms\":null}}\n"
    );
    let path = dir.file_with_mode("f.lease", record, 0o666);
    chown(&path, Some(by.uid), Some(by.groups[0])).unwrap();
}

fn remove(dir: &TestDir, name: &str) {
    let _ = fs::remove_file(dir.join(name));
}

fn has_record(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"{"))
}

#[test]
fn a_strangers_lease_keeps_nobody_out() {
    if !needs_users() {
        return;
    }
    let warning = format!("Warning: f.lease: made by uid {NOBODY}, who may not write f: ignored\n");
    for kind in KINDS {
        let dir = kind.make();
        for (owner, token) in [(0, 1 << 40), (0, u64::MAX), (ALICE.uid, 1 << 53)] {
            make(&dir, owner, USERS, 0o644);
            forge_lease(&dir, STRANGER, token);
            let done = ROOT.awrite(&dir, &["-n", "f"]).stdin("new").run();
            assert_eq!(done.ok().stderr, warning, "{kind:?}");
            assert_eq!(dir.read("f"), "new");
            let done = ROOT.awrite(&dir, &["lock", "-n", "f", "--", "true"]).run();
            assert_eq!(done.ok().stderr, warning);
            for (look, said) in [("--status", "f: Free\n"), ("--break", "f: Not leased\n")] {
                let done = ROOT.awrite(&dir, &["lock", look, "f"]).run();
                assert_eq!((&*done.ok().stdout, &*done.stderr), (said, &*warning));
            }
            let done = ROOT.awrite(&dir, &["lock", "--list"]).run();
            assert_eq!((&*done.ok().stdout, &*done.stderr), ("", &*warning));
            // Root gets a lease in its place, and with a token of its own.
            let done = ROOT.awrite(&dir, &["lock", "-n", "--acquire", "--owner", "r", "--ttl", "60", "f"]).run();
            assert_eq!(done.ok().stderr, warning);
            assert!(done.stdout.trim().parse::<u64>().unwrap() < 1 << 53, "{done:?}");
            assert_eq!(owned(&dir, "f.lease").0, owner);
            ROOT.awrite(&dir, &["-n", "f"]).stdin("x").run().assert_error_with(2, &["f: Leased by r until "]);
            ROOT.awrite(&dir, &["lock", "--release", "--owner", "r", "f"]).quiet_success();
            dir.assert_holds(&["f"]);
        }
        // The target's owner passes over it, too, wherever it may replace the file.
        if kind == Kind::Sticky {
            make(&dir, EVE.uid, USERS, 0o644);
            forge_lease(&dir, STRANGER, 1 << 40);
            let done = EVE.awrite(&dir, &["-n", "f"]).stdin("new").run();
            assert_eq!(done.ok().stderr, warning);
        }
    }
}

/// Whatever a stranger puts there: the record's owner is asked before its content.
#[test]
fn what_a_stranger_calls_a_lease_is_not_even_read() {
    if !needs_users() {
        return;
    }
    let dir = Kind::Sticky.make();
    make(&dir, 0, 0, 0o644);
    for content in ["not a record", "{\"version\":99}"] {
        let path = dir.file("f.lease", content);
        ROOT.awrite(&dir, &["-n", "f"]).stdin("new").run().assert_error_with(1, &["f.lease: "]);
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        ROOT.awrite(&dir, &["-n", "f"]).stdin("new").run().ok();
        remove(&dir, "f.lease");
    }
    STRANGER.runs(&dir, "mkfifo", &["f.lease"]).run().ok();
    let done = ROOT.awrite(&dir, &["-n", "f"]).stdin("new").run();
    assert!(done.ok().stderr.contains("f.lease: made by uid"), "{done:?}");
}

#[test]
fn whose_leases_count() {
    if !needs_users() {
        return;
    }
    for kind in KINDS {
        let dir = kind.make();
        // Who made the record, the target's owner and mode, and whether it counts for root.
        for (by, owner, mode, counts) in [
            (ROOT, ALICE.uid, 0o644, true),
            (ALICE, ALICE.uid, 0o644, true),
            (EVE, ALICE.uid, 0o644, false),
            (EVE, ALICE.uid, 0o664, true),
            (EVE, ALICE.uid, 0o646, true),
            (ALICE, 0, 0o600, false),
        ] {
            make(&dir, owner, SECRET, mode);
            forge_lease(&dir, by, 1 << 40);
            let done = ROOT.awrite(&dir, &["-n", "f"]).stdin("new").run();
            assert_eq!(done.code, Some(if counts { 2 } else { 0 }), "{kind:?} {by:?} {mode:o} {done:?}");
        }
        // The directory's owner may replace any file in it.
        chown(dir.path(), Some(DAVE.uid), None).unwrap();
        make(&dir, ALICE.uid, SECRET, 0o644);
        forge_lease(&dir, DAVE, 1 << 40);
        ROOT.awrite(&dir, &["-n", "f"]).stdin("new").run().assert_error_with(2, &["Leased by X"]);
        // A file that is not there yet is made by whoever may.
        remove(&dir, "f");
        forge_lease(&dir, EVE, 1 << 40);
        ROOT.awrite(&dir, &["-n", "f"]).stdin("new").run().assert_error_with(2, &["Leased by X"]);
    }
}

#[test]
fn only_who_may_write_a_file_takes_a_lease_of_it() {
    if !needs_users() {
        return;
    }
    let acquire = ["lock", "-n", "--acquire", "--owner", "x", "--ttl", "60", "f"];
    for kind in KINDS {
        let dir = kind.make();
        for (user, owner, group, mode, may) in [
            (STRANGER, 0, 0, 0o644, false),
            (ANN, 0, TEAM, 0o644, false),
            (ANN, 0, TEAM, 0o664, true),
            (EVE, EVE.uid, TEAM, 0o644, true),
        ] {
            if kind != Kind::Sticky && !user.groups.contains(&TEAM) && may {
                continue;
            }
            make(&dir, owner, group, mode);
            let done = user.awrite(&dir, &acquire).run();
            if may {
                done.ok();
                user.awrite(&dir, &["lock", "--release", "--owner", "x", "f"]).quiet_success();
            } else {
                done.assert_error(1, "Error: f: Permission denied").assert_hint("who may write");
                // Nor is root's lease shown.
                ROOT.awrite(&dir, &acquire).run().ok();
                let done = user.awrite(&dir, &["lock", "--status", "f"]).run();
                let denied = "Error: f.lease: cannot read the lease: Permission denied";
                done.assert_error(1, denied).assert_hint("shown to those who may write");
                ROOT.awrite(&dir, &["lock", "--release", "--owner", "x", "f"]).quiet_success();
            }
            dir.assert_holds(&["f"]);
        }
    }
}

/// A link lock in the way of root's file.
#[test]
fn a_strangers_link_lock_is_broken() {
    if !needs_users() {
        return;
    }
    let warning = format!("f.lock: made by uid {NOBODY}, who may not write f: ignored\n");
    for kind in KINDS {
        let dir = kind.make();
        for (method, owner) in [("link", 0), ("flock", 0), ("link", ALICE.uid)] {
            make(&dir, owner, USERS, 0o644);
            // A lock of a process that lives: this one's record is root's, until it is given away.
            let holder = ROOT.awrite(&dir, &["--lock-method", "link", "f"]).stdin_open().spawn();
            wait_until("it holds the lock", || has_record(&dir.join("f.lock")));
            chown(dir.join("f.lock"), Some(NOBODY), Some(NOBODY)).unwrap();
            for look in [&["lock", "--status", "f"][..], &["lock", "--list"]] {
                let done = ROOT.awrite(&dir, look).run();
                assert!(done.ok().stderr.ends_with(&warning), "{done:?}");
            }
            let args = ["--lock-method", method, "-n", "f"];
            let done = ROOT.awrite(&dir, &args).stdin("new").run();
            assert!(done.ok().stderr.ends_with(&warning), "{kind:?} {method} {done:?}");
            assert_eq!(done.stderr.matches("made by").count(), 1, "{done:?}");
            assert_eq!(dir.read("f"), "new");
            drop(holder);
            ROOT.awrite(&dir, &["housekeep", "-q", "--clean-temps", "--clean-locks", "--older-than", "0"]).run();
            dir.assert_holds(&["f"]);
        }
        // Who may write the file has a lock that counts.
        make(&dir, ALICE.uid, TEAM, 0o664);
        let holder = ROOT.awrite(&dir, &["--lock-method", "link", "f"]).stdin_open().spawn();
        wait_until("it holds the lock", || has_record(&dir.join("f.lock")));
        chown(dir.join("f.lock"), Some(NOBODY), Some(NOBODY)).unwrap();
        ROOT.awrite(&dir, &["-n", "f"]).stdin("x").run().assert_code(2);
        drop(holder);
    }
}

/// In a sticky directory anybody can make `f.lock`.
#[test]
fn what_a_stranger_has_put_in_the_way_is_removed() {
    if !needs_users() {
        return;
    }
    let dir = Kind::Sticky.make();
    let warning = format!("Warning: f.lock: made by uid {NOBODY}, who may not write f: ignored\n");
    for method in ["flock", "link"] {
        for script in [
            "exec 9>f.lock; flock 9; : >held; exec sleep 600",
            "echo nonsense >f.lock; : >held",
            "mkfifo f.lock; : >held",
            "mkdir f.lock; : >held",
            "ln -s /etc/passwd f.lock; : >held",
        ] {
            make(&dir, 0, 0, 0o644);
            let stranger = STRANGER.runs(&dir, "sh", &["-c", script]).spawn();
            wait_until("it is there", || dir.join("held").exists());
            let done = ROOT.awrite(&dir, &["-n", "--lock-method", method, "f"]).stdin("new").run();
            assert_eq!(done.ok().stderr, warning, "{method} {script}");
            assert_eq!(dir.read("f"), "new");
            drop(stranger);
            remove(&dir, "held");
            dir.assert_holds(&["f"]);
        }
    }
    // Not what may be another program's, nor what counts.
    for (args, uid, mode) in [
        (&["-n", "--lock-file", "f.lock", "f"][..], NOBODY, 0o644),
        (&["-n", "--keep-lock", "f"], NOBODY, 0o644),
        (&["-n", "f"], NOBODY, 0o666),
        (&["-n", "f"], ALICE.uid, 0o644),
    ] {
        make(&dir, ALICE.uid, USERS, mode);
        let held = Held::new(&dir.join("f.lock"));
        chown(dir.join("f.lock"), Some(uid), None).unwrap();
        ROOT.awrite(&dir, args).stdin("x").run().assert_error_with(2, &["f: File locked"]);
        held.release();
        remove(&dir, "f.lock");
    }
}

/// It is not theirs to remove. They are told whose it is, and what helps.
#[test]
fn who_may_not_remove_what_a_stranger_has_put_there_locks_elsewhere() {
    if !needs_users() {
        return;
    }
    let dir = Kind::Sticky.make();
    chown(dir.dir("locks"), Some(ALICE.uid), None).unwrap();
    let acquire = ["lock", "-n", "--acquire", "--owner", "a", "--ttl", "60"];
    for method in ["flock", "link"] {
        for (script, code, error) in [
            ("exec 9>f.lock; flock 9; : >held; exec sleep 600", 2, "Error: f: File locked by another process"),
            ("umask 077; : >f.lock; : >held", 1, "Error: f.lock: Permission denied"),
            ("echo nonsense >f.lock; : >held", 1, "Error: f.lock: Lock file is not empty"),
            ("mkdir f.lock; : >held", 1, "Error: f.lock: Lock file is a directory"),
            ("ln -s /etc/passwd f.lock; : >held", 1, "Error: f.lock: Lock file is a symbolic link"),
        ] {
            if method == "link" && code == 1 {
                continue;
            }
            make(&dir, ALICE.uid, USERS, 0o644);
            let stranger = STRANGER.runs(&dir, "sh", &["-c", script]).spawn();
            wait_until("it is there", || dir.join("held").exists());
            let hint =
                format!("f.lock is uid {NOBODY}'s; that user, root or the directory's owner may remove it; or keep");
            for args in [&["-n"][..], &acquire] {
                let args = [args, &["--lock-method", method, "f"]].concat();
                let done = ALICE.awrite(&dir, &args).stdin("x").run();
                done.assert_error_with(code, &[error]).assert_hint(&hint);
            }
            assert_eq!(dir.read("f"), "old");
            ALICE.awrite(&dir, &["-n", "--lock-dir", "locks", "f"]).stdin("new").quiet_success();
            drop(stranger);
            remove(&dir, "held");
            STRANGER.runs(&dir, "rm", &["-rf", "f.lock"]).run().ok();
        }
    }
    // One who may not write the file, but whose lock file counts, is waited for as any other.
    make(&dir, ALICE.uid, TEAM, 0o664);
    let held = Held::new(&dir.join("f.lock"));
    chown(dir.join("f.lock"), Some(ANN.uid), None).unwrap();
    chmod(&dir.join("f.lock"), 0o666);
    ALICE
        .awrite(&dir, &["-n", "f"])
        .stdin("x")
        .run()
        .assert_error_with(2, &["f: File locked"])
        .assert_hint("held by PID");
    held.release();
    remove(&dir, "f.lock");
    // The record of a lease is passed over, but it cannot be replaced.
    make(&dir, ALICE.uid, USERS, 0o644);
    forge_lease(&dir, STRANGER, 1 << 40);
    ALICE.awrite(&dir, &["-n", "f"]).stdin("new").run().ok();
    let refused = ALICE.awrite(&dir, &[&acquire[..], &["f"]].concat()).run();
    refused.assert_error(1, "Error: f.lease: cannot write the lease: Operation not permitted");
    refused.assert_hint(&format!("f.lease is uid {NOBODY}'s; that user, root or the directory's owner may remove it"));
    ALICE.awrite(&dir, &[&acquire[..], &["--lock-dir", "locks", "f"]].concat()).run().ok();
    ALICE.awrite(&dir, &["-n", "--lock-dir", "locks", "f"]).stdin("x").run().assert_error_with(2, &["f: Leased by a"]);
}

#[test]
fn members_of_a_group_wait_for_each_other_and_take_over() {
    if !needs_users() {
        return;
    }
    for kind in KINDS {
        for method in ["flock", "link"] {
            let dir = kind.make();
            make(&dir, 0, TEAM, 0o664);
            let lock = |user: User, args: &[&str]| {
                let all: Vec<&str> = ["lock", "--lock-method", method].iter().chain(args).copied().collect();
                user.awrite(&dir, &all)
            };
            let held =
                || if method == "flock" { lock_is_held(&dir.join("f.lock")) } else { has_record(&dir.join("f.lock")) };
            // The second waits for the first.
            let hold = ["f", "--", "sh", "-c", "while [ ! -e go ]; do :; done"];
            let first = lock(ANN, &hold).spawn();
            wait_until("the lock is held", held);
            wait_until("it is the group's", || owned(&dir, "f.lock") == (ANN.uid, TEAM, 0o660));
            lock(BEN, &["-n", "f", "--", "true"]).run().assert_error_with(2, &["f: File locked"]);
            lock(EVE, &["-n", "f", "--", "true"]).run().assert_error_with(1, &["f.lock: Permission denied"]);
            let mut second = lock(BEN, &["f", "--", "true"]).spawn();
            second.wait_for_waiting();
            dir.file("go", "");
            first.finish().ok();
            second.finish().ok();
            remove(&dir, "go");
            // What a dead one leaves is nobody's obstacle.
            let dead = lock(ANN, &hold).spawn();
            wait_until("the lock is held", held);
            dead.signal_group(Signal::KILL);
            dead.finish();
            assert!(dir.join("f.lock").exists());
            if kind == Kind::Sticky && method == "link" {
                // Only its owner and the directory's can remove it.
                lock(BEN, &["-n", "f", "--", "true"]).run().assert_error_with(1, &["f.lock: "]);
                lock(ANN, &["-n", "f", "--", "true"]).run().ok();
            } else {
                lock(BEN, &["-n", "f", "--", "true"]).run().ok();
            }
            remove(&dir, "f.lock");
            // Neither is a lease that has ended.
            let acquire = ["-n", "--acquire", "--owner", "a", "--ttl", "1ms", "f"];
            lock(ANN, &acquire).run().ok();
            assert_eq!(owned(&dir, "f.lease"), (ANN.uid, TEAM, 0o660));
            let taken = lock(BEN, &["-w", "10", "--acquire", "--owner", "b", "--ttl", "60", "f"]).run();
            if kind == Kind::Sticky {
                taken.assert_error_with(1, &["f.lease: "]);
            } else {
                taken.ok();
                lock(ANN, &["-n", "f", "--", "true"]).run().assert_error_with(2, &["Leased by b"]);
            }
        }
    }
}

/// The group and the others may open a lock file, or the record of a lease, if they may write the target. Both are the
/// target's owner's and group's as far as their maker may give them away.
#[test]
fn a_lock_file_is_for_those_who_may_write_the_target() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    for mode in [0o600, 0o640, 0o660, 0o606, 0o620, 0o602, 0o666].into_iter().step_by(rounds(3, 1)) {
        for (uid, gid) in [(0, 0), (0, TEAM), (ANN.uid, TEAM), (BEN.uid, BEN.uid)] {
            make(&dir, uid, gid, mode);
            let is_writer = |user: &User| user.access_to(&dir.join("f")) & 2 != 0;
            for user in [ROOT, ANN, BEN, EVE].into_iter().filter(is_writer) {
                let own = user.groups[0];
                let right = |asked: Option<u32>| {
                    let given = |bits: u32| if mode & bits & 0o022 != 0 { bits } else { 0 };
                    let right = asked.unwrap_or(0o600 | given(0o060) | given(0o006));
                    let is_for_group = right & 0o070 != 0;
                    let may_give = user.uid == 0 || user.groups.contains(&gid) && is_for_group;
                    let group = if may_give { gid } else { own };
                    let is_cut = group != gid && is_for_group && asked.is_none();
                    let owner = if user.uid == 0 { uid } else { user.uid };
                    (owner, group, if is_cut { right & 0o707 | (right & 0o007) << 3 } else { right })
                };
                let what = format!("{mode:o} {uid} {gid}, by {user:?}");
                for asked in [None, Some(0o640), Some(0o602)] {
                    let asks = asked.map_or(Vec::new(), |mode| vec!["--lock-mode".to_owned(), format!("{mode:o}")]);
                    let see = ["f", "--", "stat", "-c", "%u %g %a", "f.lock"].map(str::to_owned);
                    let args = [vec!["lock".to_owned()], asks, see.to_vec()].concat();
                    let done = user.awrite(&dir, &args.iter().map(String::as_str).collect::<Vec<_>>()).run();
                    let (owner, group, mode) = right(asked);
                    assert_eq!(done.ok().stdout, format!("{owner} {group} {mode:o}\n"), "{what}, {asked:?}");
                }
                let acquire = ["lock", "-q", "--acquire", "--owner", "a", "--ttl", "1ms", "f"];
                user.awrite(&dir, &acquire).run().ok();
                assert_eq!(owned(&dir, "f.lease"), right(None), "{what}: the lease");
                remove(&dir, "f.lease");
            }
        }
    }
}

/// Whoever may make the target may open its lock file, too. In a sticky directory it is its maker's.
#[test]
fn the_lock_of_what_is_not_there_is_for_those_who_may_make_it() {
    if !needs_users() {
        return;
    }
    for kind in KINDS {
        let dir = kind.make();
        let see = ["lock", "new", "--", "stat", "-c", "%u %g %a", "new.lock"];
        let expected =
            if kind == Kind::Sticky { format!("2011 {} 600", ANN.groups[0]) } else { format!("2011 {TEAM} 660") };
        assert_eq!(ANN.awrite(&dir, &see).run().ok().stdout, format!("{expected}\n"), "{kind:?}");
    }
}

/// What stays beside each file of an interrupted set is for the writers of that file, and tells who made it. Files with the
/// same writers share it.
#[test]
fn what_a_set_leaves_is_for_the_writers_of_each_file() {
    if !needs_users_and_strace() {
        return;
    }
    let first = (0, TEAM, 0o602);
    for (second, is_shared) in [
        (first, true),
        ((0, TEAM, 0o606), true),
        ((0, TEAM, 0o600), false),
        // There might be an access control list.
        ((0, TEAM, 0o662), false),
        ((0, SECRET, 0o602), false),
        ((ALICE.uid, TEAM, 0o602), false),
    ] {
        let dir = shared_dir();
        dir.dir("d");
        dir.dir("new");
        for (name, (uid, gid, mode)) in [("f", first), ("g", second)] {
            dir.file(format!("new/{name}"), "new");
            let path = dir.file_with_mode(format!("d/{name}"), "old", mode);
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
        let kill = ["-e", "inject=renameat,renameat2:signal=KILL:when=1"];
        ROOT.traced(&dir, &kill, &["--into", "d", "new"]).run();
        for (name, (_, gid, mode)) in [("f", first), ("g", second)] {
            let given = |bits: u32| if mode & bits & 0o022 != 0 { bits } else { 0 };
            let right = (0, gid, 0o600 | given(0o060) | given(0o006));
            assert_eq!(owned(&dir, &format!("d/{name}.lease")), right, "{name} {second:?}");
        }
        let inode = |name: &str| fs::metadata(dir.join(name)).unwrap().ino();
        assert_eq!(inode("d/f.lease") == inode("d/g.lease"), is_shared, "{second:?}");
    }
}

/// Until its group is the target's, it is open to its owner only.
#[test]
fn a_lock_file_is_its_makers_alone_at_first() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    for (asked, first) in [("600", "0600"), ("666", "0600"), ("440", "0400")] {
        let strace =
            ["-f", "-o", "trace", "-e", "trace=openat", AWRITE, "lock", "--lock-mode", asked, "f", "--", "true"];
        dir.program("strace", strace).run().ok();
        let trace = dir.read("trace");
        let made = trace.lines().find(|line| line.contains("\"f.lock\"") && line.contains("O_CREAT")).unwrap();
        assert!(made.contains(&format!(", {first}) = ")), "{made}");
        remove(&dir, "f.lock");
    }
}

/// Between the two, its maker opens it to the group.
#[test]
fn a_lock_file_that_was_just_made_is_tried_again() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = Kind::Plain.make();
    make(&dir, 0, TEAM, 0o664);
    let first =
        ANN.traced(&dir, &["-e", "inject=fchmod:delay_enter=60000:when=1"], &["lock", "f", "--", "true"]).spawn();
    wait_until("it has made the file", || dir.join("f.lock").exists());
    BEN.awrite(&dir, &["lock", "-w", "30", "f", "--", "true"]).run().ok();
    first.finish().ok();
    dir.assert_holds(&["f"]);
}

/// The record may be readable to all, and the directory be everybody's.
#[test]
fn only_who_may_write_a_file_ends_another_s_lease() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    make(&dir, 0, 0, 0o644);
    ROOT.awrite(&dir, &["lock", "--lock-mode", "644", "--acquire", "--owner", "a", "--ttl", "60", "f"]).run().ok();
    let broken = EVE.awrite(&dir, &["lock", "--break", "f"]).run();
    broken.assert_error_with(1, &["f: cannot break the lease: Permission denied"]);
    assert!(dir.join("f.lease").exists());
    // Of a link, what counts is who may replace it.
    std::os::unix::fs::symlink("f", dir.join("link")).unwrap();
    EVE.awrite(&dir, &["lock", "--no-follow", "--acquire", "--owner", "e", "--ttl", "60", "link"]).run().ok();
}

/// A user or group that may write the file by its access control list can lock it, and nobody else.
#[test]
fn the_lock_is_open_to_an_access_control_list() {
    if !needs_users() {
        return;
    }
    for (entries, may, may_not) in [
        ("u:2005:rw", &[EVE][..], &[STRANGER, DAVE, ALICE][..]),
        ("g:3002:rw", &[DAVE, FRANK], &[EVE, STRANGER]),
        ("u:2005:rw,u:2004:r", &[EVE], &[DAVE, STRANGER]),
        ("u:2005:rw,m::r", &[], &[EVE]),
    ] {
        let dir = shared_dir();
        make(&dir, 0, SECRET, 0o640);
        dir.program("setfacl", ["-m", entries, "f"]).run().ok();
        chmod_list_mask(&dir, entries);
        let holder = ROOT.awrite(&dir, &["--allow-empty", "f"]).stdin_open().spawn();
        wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
        wait_until("it is open to them", || may.iter().all(|user| user.access_to(&dir.join("f.lock")) == 6));
        for user in may_not {
            assert_eq!(user.access_to(&dir.join("f.lock")), 0, "{user:?} {entries}");
        }
        for user in may {
            user.awrite(&dir, &["lock", "-n", "f", "--", "true"]).run().assert_error_with(2, &["f: File locked"]);
        }
        // And what a dead one left is theirs to lock.
        holder.signal(Signal::KILL);
        holder.finish();
        for user in may {
            user.awrite(&dir, &["lock", "-n", "f", "--", "true"]).run().ok();
        }
        let _ = fs::remove_file(dir.join("f.lock"));
        // The record of a lease, too.
        ROOT.awrite(&dir, &["lock", "--acquire", "--owner", "r", "--ttl", "60", "f"]).run().ok();
        for user in may {
            assert_eq!(user.access_to(&dir.join("f.lease")), 6);
        }
        for user in may_not {
            assert_eq!(user.access_to(&dir.join("f.lease")), 0, "{user:?} {entries}");
        }
    }
}

/// setfacl -m computes the mask anew unless the entries give it.
fn chmod_list_mask(dir: &TestDir, entries: &str) {
    assert_eq!(dir.mode("f") & 0o020 != 0, !entries.contains("m::r"), "{:o}", dir.mode("f"));
}

/// The group bits of a lock are never those of a group that has nothing to do with the target.
#[test]
fn another_group_gets_no_access_to_the_lock() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    make(&dir, ALICE.uid, SECRET, 0o666);
    // Eve writes as one of the others, and may not give a file to alice's group.
    let script = "stat -c '%u %g %a' f.lock";
    let done = EVE.awrite(&dir, &["lock", "f", "--", "sh", "-c", script]).run();
    assert_eq!(done.ok().stdout, format!("{} 2005 666\n", EVE.uid));
    make(&dir, ALICE.uid, SECRET, 0o660);
    dir.program("setfacl", ["-m", "u:2005:rw", "f"]).run().ok();
    let done = EVE.awrite(&dir, &["lock", "f", "--", "sh", "-c", script]).run();
    assert!(done.ok().stdout.starts_with(&format!("{} 2005 6", EVE.uid)), "{done:?}");
    // What the directory gives to all new files is not for the lock.
    dir.program("setfacl", ["-m", "d:u:2003:rw,d:m::rw", "."]).run().ok();
    make(&dir, 0, TEAM, 0o664);
    dir.program("setfacl", ["-b", "f"]).run().ok();
    let holder = ROOT.awrite(&dir, &["--allow-empty", "f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    wait_until("it is the group's", || owned(&dir, "f.lock") == (0, TEAM, 0o660));
    assert_eq!(fs::metadata(dir.join("f.lock")).unwrap().mode() & 0o777, 0o660);
    assert_eq!(crate::users::CAROL.access_to(&dir.join("f.lock")), 0);
    holder.finish().ok();
}
