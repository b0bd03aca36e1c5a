//! Which files go, which stay, and how old they must be.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use rustix::process::{Signal, kill_process};

use super::{
    HOUR, age, assert_deletes, expired_lease, housekeep, leftovers, listed, mkfifo, set, stopped_after, wait_for_ctime,
};
use crate::common::{Held, TestDir, needs, needs_mount, needs_strace, wait_until};
use crate::filesystems::Mount;

#[test]
fn each_operation_deletes_its_own_kind() {
    let cases = [
        (&["--clean-locks"][..], &["f.lock"][..]),
        (&["--clean-temps"], &[".awrite-29623195.f"]),
        (&["--clean-backups"], &["f.20260102-030405.backup"]),
        (&["--clean-locks", "--clean-temps"], &["f.lock", ".awrite-29623195.f"]),
        (&["--all"], &["f.lock", ".awrite-29623195.f", "f.20260102-030405.backup"]),
        (&["--clean-locks", "-r"], &["f.lock", "sub/g.lock"]),
        (&["--clean-locks", "--recursive", "."], &["f.lock", "sub/g.lock"]),
        (&["--all", "--recursive"], &["f.lock", ".awrite-29623195.f", "f.20260102-030405.backup", "sub/g.lock"]),
    ];
    let dirs = cases.map(|_| leftovers());
    wait_for_ctime(&dirs[7].join("sub/g"), Duration::from_secs(1));
    for (dir, (args, gone)) in dirs.iter().zip(cases) {
        assert_deletes(dir, args, gone);
    }
}

#[test]
fn the_directory_is_an_operand() {
    let dir = leftovers();
    let done = housekeep(&dir, ["--clean-locks", "sub"]).run();
    assert_eq!((done.ok().stdout.as_str(), done.stderr.as_str()), ("sub/g.lock\n", "Deleted 1 lock file\n"));
    // By the other names of the applet, and through a symbolic link that was named on purpose.
    symlink(".", dir.join("link")).unwrap();
    let done = dir.awrite(["--clean-locks", "link"]).arg0("awrite-housekeep").run();
    assert_eq!(done.ok().stdout, "link/f.lock\n");
}

#[test]
fn a_killed_writer_s_leftovers_go() {
    let dir = TestDir::new();
    dir.file("f", "old");
    // While its check runs, it has both a lock and a temporary file with a name.
    let writer = dir.awrite(["--validate", "sleep 1000", "f"]).stdin("x").spawn();
    wait_until("it has a temporary file", || {
        dir.names().iter().any(|name| name.to_str().unwrap().contains(".awrite-"))
    });
    wait_for_ctime(&dir.join("f.lock"), Duration::from_secs(1));
    let alive = housekeep(&dir, ["--all"]).run();
    assert_eq!(alive.ok().stdout, "", "both are in use");
    assert_eq!(dir.names().len(), 3);
    writer.signal_group(Signal::KILL);
    writer.finish();
    let done = housekeep(&dir, ["--all"]).run();
    assert_eq!(done.ok().stderr, "Deleted 1 lock file, 1 temporary file (1 B)\n");
    dir.assert_holds(&["f"]);
}

#[test]
fn a_lease_goes_without_what_is_beside_it() {
    let dir = TestDir::new();
    expired_lease(&dir);
    dir.file("f.lock", "");
    let lease = fs::File::options().write(true).open(dir.join("f.lease")).unwrap();
    lease.set_modified(SystemTime::now() - Duration::from_secs(5 * 3600)).unwrap();
    let args = ["--clean-locks", "--older-than", "2h"];
    let dry = housekeep(&dir, args.into_iter().chain(["-n"])).run().ok().stdout.clone();
    assert_eq!(dry, "./f.lease\n");
    assert_eq!(housekeep(&dir, args).run().ok().stdout, dry);
    dir.assert_holds(&["f.lock"]);

    // Not while somebody has the lock, which a dry run knows too.
    fs::remove_file(dir.join("f.lock")).unwrap();
    expired_lease(&dir);
    let held = Held::new(&dir.join("f.lock"));
    for args in [&["--clean-locks"][..], &["--clean-locks", "-n"]] {
        assert_eq!(housekeep(&dir, args.iter().copied()).run().ok().stdout, "");
    }
    held.release();
    dir.assert_holds(&["f.lease", "f.lock"]);
}

/// The lock file that the housekeeper has found is its holder's, who removes it. Then the housekeeper makes one.
#[test]
fn no_lock_file_stays_that_was_made_for_a_lease() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    expired_lease(&dir);
    let mut holder = dir.lock(&["f", "--", "sh", "-c", "echo held >&2; read go; true"]).stdin_open().spawn();
    holder.wait_for_stderr("held");
    let busy = ["-P", "f.lock", "-e", "trace=flock", "-e", "inject=flock:signal=SIGSTOP:when=1"];
    let (housekeeper, pid) = stopped_after(&dir, &busy, &["housekeep", "--clean-locks"]);
    holder.finish().ok();
    assert!(!dir.join("f.lock").exists());
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(housekeeper.finish().ok().stdout, "./f.lease\n");
    dir.assert_holds(&[]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Lock files

#[test]
fn only_an_empty_regular_file_with_one_name_is_a_lock_file() {
    let dir = TestDir::new();
    for name in ["Cargo.lock", "yarn.lock", "package.lock"] {
        dir.file(name, "[[package]]\n");
    }
    dir.file("one-byte.lock", "\n");
    dir.dir("directory.lock");
    dir.file("linked.lock", "");
    fs::hard_link(dir.join("linked.lock"), dir.join("linked-too.lock")).unwrap();
    dir.file("elsewhere", "");
    symlink("elsewhere", dir.join("symlink.lock")).unwrap();
    symlink("missing", dir.join("dangling.lock")).unwrap();
    mkfifo(&dir.join("fifo.lock"));
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket.lock")).unwrap();
    for name in [".lock", "lock", "f.LOCK", "f.lock~", "f.lock.", "flock"] {
        dir.file(name, "");
    }
    dir.file("orphan.lock", "");
    assert_deletes(&dir, &["--clean-locks", "--clean-temps", "--clean-backups", "-r"], &["orphan.lock"]);
}

#[test]
fn a_lock_that_is_held_stays() {
    let dir = TestDir::new();
    dir.file("orphan.lock", "");
    let open = |name: &str| File::options().read(true).write(true).open(dir.file(name, "")).unwrap();
    let exclusive = open("exclusive.lock");
    rustix::fs::flock(&exclusive, FlockOperation::NonBlockingLockExclusive).unwrap();
    let shared = open("shared.lock");
    rustix::fs::flock(&shared, FlockOperation::NonBlockingLockShared).unwrap();
    let record = open("record.lock");
    rustix::fs::fcntl_lock(&record, FlockOperation::NonBlockingLockExclusive).unwrap();
    let reading = open("reading.lock");
    rustix::fs::fcntl_lock(&reading, FlockOperation::NonBlockingLockShared).unwrap();
    assert_deletes(&dir, &["--clean-locks"], &["orphan.lock"]);
    // Once they are released, they are orphans.
    drop((exclusive, shared, record, reading));
    assert_deletes(&dir, &["--clean-locks"], &["exclusive.lock", "shared.lock", "record.lock", "reading.lock"]);
}

#[test]
fn a_record_lock_on_any_byte_counts() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.file("far.lock", "");
    dir.file("registered.lock", "");
    // 37: F_OFD_SETLK, with which awrite's waiters register on byte 0.
    let script = "import fcntl, struct, sys\n\
        far = open('far.lock', 'r+'); fcntl.lockf(far, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 << 40)\n\
        near = open('registered.lock', 'r+')\n\
        fcntl.fcntl(near, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 1, 0))\n\
        print('locked', file=sys.stderr, flush=True); sys.stdin.read()";
    let mut holder = dir.program("python3", ["-c", script]).stdin_open().spawn();
    holder.wait_for_stderr("locked");
    assert_deletes(&dir, &["--clean-locks"], &[]);
    holder.finish().ok();
    assert_deletes(&dir, &["--clean-locks"], &["far.lock", "registered.lock"]);
}

#[test]
fn a_lock_file_that_changes_at_the_last_moment_stays() {
    if !needs_strace() {
        return;
    }
    let args = ["housekeep", "--clean-locks"];
    // The housekeeper has opened the file, not locked it. Its holder removes it, and another holder makes a new one.
    let dir = TestDir::new();
    let lock = dir.file("f.lock", "");
    wait_for_ctime(&lock, Duration::from_millis(20));
    let opened = ["-P", "f.lock", "-e", "trace=openat", "-e", "inject=openat:signal=SIGSTOP:when=1"];
    let (housekeeper, pid) = stopped_after(&dir, &opened, &args);
    fs::remove_file(&lock).unwrap();
    let held = Held::new(&lock);
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(housekeeper.finish().ok().stdout, "");
    assert_eq!(fs::metadata(&lock).unwrap().ino(), held.inode());

    // The housekeeper has seen that nobody has the file open, and not removed it. Another file gets its name: one with
    // content, or one that is locked.
    for content in ["content", ""] {
        let dir = TestDir::new();
        wait_for_ctime(&dir.file("f.lock", ""), Duration::from_millis(20));
        // F_SETSIG, F_SETLEASE.
        let leased = ["-P", "f.lock", "-e", "trace=fcntl", "-e", "inject=fcntl:signal=SIGSTOP:when=2"];
        let (housekeeper, pid) = stopped_after(&dir, &leased, &args);
        let held = Held::new(&dir.file("new", content));
        rustix::fs::rename(dir.join("new"), dir.join("f.lock")).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
        assert_eq!(housekeeper.finish().ok().stdout, "");
        assert_eq!(fs::metadata(dir.join("f.lock")).unwrap().ino(), held.inode());
        assert_eq!(dir.read("f.lock"), content);
    }
}

#[test]
fn version_control_is_never_entered() {
    let dir = TestDir::new();
    for name in [".git", ".hg", ".svn", "bare.git", "bare.git/objects", "bare.git/refs", "bare.git/refs/heads", "a.git"]
    {
        dir.dir(name);
        dir.file(format!("{name}/index.lock"), "");
    }
    dir.file("bare.git/HEAD", "ref: refs/heads/main\n");
    assert_deletes(&dir, &["--clean-locks", "-r"], &["a.git/index.lock"]);
    assert!(housekeep(&dir, ["--all", "-r"]).run().ok().stdout.is_empty());
    // Not even if the operand is one, or is inside one.
    for start in [".git", ".hg", ".svn", "bare.git", "bare.git/refs/heads"] {
        let done = housekeep(&dir, ["--all", start]).run();
        done.assert_error(1, &format!("Error: {start}: Is part of a version control directory"));
        assert!(dir.join(start).join("index.lock").exists());
    }
}

#[test]
fn symbolic_links_are_not_followed() {
    let dir = TestDir::new();
    dir.dir("outside");
    dir.file("outside/f.lock", "");
    dir.dir("inside");
    symlink("../outside", dir.join("inside/link")).unwrap();
    symlink("../outside/f.lock", dir.join("inside/g.lock")).unwrap();
    assert_deletes(&dir, &["--all", "-r", "inside"], &[]);
}

#[test]
fn mount_points_are_not_crossed_with_x() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    dir.file("f.lock", "");
    let (other, bound) = (dir.dir("other"), dir.dir("bound"));
    dir.dir("source");
    let _other = Mount::tmpfs("size=1m", &other);
    // A bind mount of the same device: only the mount ID differs.
    let _bound = Mount::bind(&dir.join("source"), &bound);
    for name in ["other/f.lock", "source/f.lock"] {
        dir.file(name, "");
    }
    // A file that something is mounted on cannot be removed.
    dir.file("g.lock", "");
    dir.file("empty", "");
    let _file = Mount::bind(&dir.join("empty"), &dir.join("g.lock"));
    let done = housekeep(&dir, ["--clean-locks", "-rx"]).run();
    assert_eq!(listed(done.ok()), set(&["f.lock", "source/f.lock"]));
    dir.file("source/f.lock", "");
    let done = housekeep(&dir, ["--clean-locks", "-r"]).run();
    assert_eq!(done.ok().stderr, "Deleted 2 lock files\n", "{done:?}");
    assert!(dir.join("g.lock").exists());
}

// ---------------------------------------------------------------------------------------------------------------------
// Temporary files

#[test]
fn only_awrite_s_own_temporary_files_go() {
    let dir = TestDir::new();
    for name in
        [".f.awrite-aB3xyZ", ".awrite-aB3xyZ", ".awrite-29623195", ".awrite-29623195.g", "awrite-29623195.f", ".f.swp"]
    {
        dir.file(name, "x");
    }
    dir.dir(".awrite-29623e3f.d");
    symlink("missing", dir.join(".awrite-29621447.l")).unwrap();
    mkfifo(&dir.join(".awrite-2961e423.p"));
    let held = Held::new(&dir.join(".awrite-553b4c72.held"));
    dir.file(".awrite-29623195.f", "x");
    assert_deletes(&dir, &["--clean-temps", "-r"], &[".awrite-29623195.f"]);
    held.release();
    assert_deletes(&dir, &["--clean-temps", "-r"], &[".awrite-553b4c72.held"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Age

#[test]
fn younger_files_stay() {
    let dir = TestDir::new();
    for (name, hours) in
        [("young.lock", 1), ("old.lock", 3), (".awrite-e8138a4a.young", 1), (".awrite-3bdf2d6f.old", 3)]
    {
        age(&dir.file(name, ""), hours * HOUR);
    }
    wait_for_ctime(&dir.join(".awrite-3bdf2d6f.old"), Duration::from_secs(1));
    let both = ["old.lock", ".awrite-3bdf2d6f.old"];
    // A bare number means hours here.
    for limit in ["4h", "4", "0.5d"] {
        assert_deletes(&dir, &["--clean-locks", "--clean-temps", "--older-than", limit], &[]);
    }
    // What is said of one kind counts for that, before and behind what is said of all.
    for (one, all) in [("--locks-older-than=4", "--older-than=4h"), ("--locks-older-than=4h", "--older-than=0.2")] {
        assert_deletes(&dir, &["--clean-locks", one, all], &[]);
        assert_deletes(&dir, &["--clean-locks", all, one], &[]);
    }
    assert_deletes(&dir, &["--clean-locks", "--clean-temps", "--older-than", "2"], &both);
    assert_deletes(&dir, &["--clean-locks", "--older-than=4h", "--locks-older-than=30m"], &["young.lock"]);
    assert_deletes(&dir, &["--all", "--older-than=30m"], &[".awrite-e8138a4a.young"]);
}
