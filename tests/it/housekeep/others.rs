//! Other programs' files, which `--all` leaves alone, and other programs' locks, which nothing breaks.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::{Signal, kill_process};

use super::{DAY, HOUR, Over, age, assert_deletes, housekeep, listed, set, stamp, stopped_after, tree, wait_for_ctime};
use crate::common::{Extent, TestDir, chmod, extent, is_root, needs, needs_root, needs_strace, wait_until};

/// What other programs keep on a server. All of it is old.
const SERVER: [&str; 31] = [
    // Empty lock files, which are locked now and then, or whose existence is the lock.
    "run/xtables.lock",
    "etc/.pwd.lock",
    "etc/subuid.lock",
    "var/lib/dpkg/triggers/Lock.lock",
    "var/lib/apt/daily_lock.lock",
    "var/cache/man/index.lock",
    "var/cache/fontconfig/.uuid.lock",
    "var/lib/logrotate/logrotate.status.lock",
    "var/spool/mail/root.lock",
    "srv/app/install.lock",
    "srv/app/yarn.lock",
    "srv/app/poetry.lock",
    "srv/app/deploy.lock",
    "srv/app/cron/job.lock",
    "srv/app/tmp/pids/server.lock",
    "srv/wiki/data/cache/.purge.lock",
    "home/u/.cargo/.package-cache.lock",
    "home/u/.config/chromium/lockfile.lock",
    "home/u/.npm/_locks/staging.lock",
    "home/u/.gradle/caches/journal-1/journal-1.lock",
    // A lock of a directory, and one of what is only a link.
    "srv/app/releases.lock",
    "srv/app/current.lock",
    // Backups.
    "srv/infra/terraform.tfstate.backup",
    "var/lib/postgresql/wal/000000010000000000000002.00000028.backup",
    "var/lib/app/settings.json.backup",
    "etc/group.backup",
    // The only copies: what they are backups of has gone.
    "srv/lost/orders.20240102-030405.backup",
    "srv/lost/users.20240102-030405.backup",
    // What once was taken for a temporary file.
    "home/u/.bashrc.awrite-backup",
    "home/u/.awrite-notes.txt",
    // The lock of a path that does not exist any more.
    "run/locks/%srv%no-such-directory%f.lock",
];

fn server() -> TestDir {
    let dir = TestDir::new();
    for name in SERVER {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        age(&dir.file(name, if name.ends_with(".lock") { "" } else { "only copy" }), 1000 * DAY);
    }
    dir.dir("srv/app/releases");
    symlink("releases", dir.join("srv/app/current")).unwrap();
    for name in
        ["srv/app/Cargo.lock", "srv/app/composer.lock", "srv/infra/.terraform.lock.hcl", "etc/passwd", "etc/pwd"]
    {
        age(&dir.file(name, "content"), 1000 * DAY);
    }
    // Terraform keeps the state before the last one beside the state.
    for name in ["srv/one/terraform.tfstate", "srv/one/terraform.tfstate.backup"] {
        fs::create_dir_all(dir.join("srv/one")).unwrap();
        age(&dir.file(name, "state"), 1000 * DAY);
    }
    dir
}

#[test]
fn all_deletes_nothing_of_other_programs() {
    let dir = server();
    let before = tree(dir.path());
    for args in [&["--all", "-r"][..], &["--all", "-r", "--older-than", "7d"], &["--all", "-rx", "--older-than=0"]] {
        let done = housekeep(&dir, args.iter().copied()).run();
        assert_eq!((done.ok().stdout.as_str(), tree(dir.path()) == before), ("", true), "{args:?}: {done:?}");
        let left = "Nothing to delete; 23 lock files that may be other programs' left alone (--clean-locks deletes them); \
                    4 backups that may be other programs' left alone (--clean-backups deletes them as the options say)\n";
        assert_eq!(done.stderr, left, "{args:?}");
    }
    // Beside them, awrite's own go.
    for name in ["etc/passwd.lock", "etc/passwd.20250102-030405.backup", "etc/passwd.20250102-030406.backup"] {
        age(&dir.file(name, ""), 100 * DAY);
    }
    fs::create_dir_all(dir.join("run/locks")).unwrap();
    let whole = dir.path().canonicalize().unwrap().join("etc/passwd");
    let flat = format!("run/locks/{}.lock", whole.to_str().unwrap().replace('/', "%"));
    dir.file(&flat, "");
    wait_for_ctime(&dir.join(&flat), Duration::from_millis(20));
    let done = housekeep(&dir, ["--all", "-r"]).run();
    let own = set(&["etc/passwd.lock", "etc/passwd.20250102-030405.backup", &flat]);
    assert_eq!(listed(done.ok()), own);
    // The last one goes only on request.
    let done = housekeep(&dir, ["--all", "-r", "--keep-newest=0", "--older-than=7d", "etc"]).run();
    assert_eq!(listed(done.ok()), set(&["etc/passwd.20250102-030406.backup"]));
    assert_eq!(tree(dir.path()), before);
    // Whoever asks for other programs' files gets them.
    let done = housekeep(&dir, ["--clean-locks", "-r"]).run();
    assert_eq!(listed(done.ok()).len(), 23, "{done:?}");
}

/// A name that is too long for `.lock` is cut, and has a hash of the whole name.
#[test]
fn the_lock_of_a_long_name_is_own_where_its_target_is() {
    let dir = TestDir::new();
    let long = "n".repeat(255);
    for name in [&long, &long[..251]] {
        dir.awrite([name]).stdin("x").env("AWRITE_KEEP_LOCK", "1").quiet_success();
    }
    let locks: Vec<String> = dir.names().into_iter().map(|name| name.into_string().unwrap()).collect();
    let locks: Vec<&str> = locks.iter().filter(|name| name.ends_with(".lock")).map(String::as_str).collect();
    let (kept, cut) = match locks[..] {
        [a, b] if a.len() == 255 && b.len() == 255 => (a, b),
        _ => panic!("{locks:?}"),
    };
    // Another hash, and the same one in capitals: of no file here.
    let others = [cut.replace(&cut[234..250], "0123456789abcdef"), cut.replace(&cut[234..250], "0123456789ABCDEF")];
    others.iter().for_each(|name| drop(dir.file(name, "")));
    wait_for_ctime(&dir.join(&others[1]), Duration::from_millis(20));
    let done = housekeep(&dir, ["--all"]).run();
    assert_eq!(listed(done.ok()), set(&[kept, cut]));
    assert!(done.stderr.contains("; 2 lock files that may be other programs'"), "{done:?}");
    // Its target has gone.
    for (lock, name) in [(kept, &long[..]), (cut, &long[..251])] {
        dir.file(lock, "");
        fs::remove_file(dir.join(name)).unwrap();
    }
    wait_for_ctime(&dir.join(cut), Duration::from_millis(20));
    let done = housekeep(&dir, ["--all"]).run();
    assert!(done.ok().stderr.contains("Nothing to delete; 4 lock files that may be"), "{done:?}");
}

/// The other operations add to `--all`.
#[test]
fn all_and_other_programs_locks() {
    let dir = TestDir::new();
    for name in ["f", "f.lock", "install.lock", "g.backup"] {
        age(&dir.file(name, ""), DAY);
    }
    wait_for_ctime(&dir.join("g.backup"), Duration::from_millis(100));
    let done = housekeep(&dir, ["--clean-locks", "--all", "--older-than=1h"]).run();
    assert_eq!(listed(done.ok()), set(&["f.lock", "install.lock"]));
    assert!(done.stderr.ends_with(
        "; 1 backup that may be another program's left alone (--clean-backups deletes it as the options say)\n"
    ));
}

#[test]
fn a_lock_file_stays_while_a_program_has_it_open() {
    if !needs("flock") {
        return;
    }
    let dir = TestDir::new();
    for name in ["job", "kept", "job2"] {
        dir.file(name, "");
    }
    // A daemon that locks its descriptor for each job. Between two jobs nobody holds the lock.
    let mut daemon =
        dir.sh("exec 9>job.lock; flock 9; flock -u 9; echo idle >&2; read go; flock 9; echo work; read go");
    daemon = daemon.stdin_open();
    let mut daemon = daemon.spawn();
    daemon.wait_for_stderr("idle");
    dir.awrite(["kept"]).stdin("x").env("AWRITE_KEEP_LOCK", "1").quiet_success();
    let mut keeper = dir.sh("exec 9>>kept.lock; echo open >&2; read go").stdin_open().spawn();
    keeper.wait_for_stderr("open");
    wait_for_ctime(&dir.join("kept.lock"), Duration::from_millis(20));
    assert_deletes(&dir, &["--clean-locks"], &[]);
    assert!(housekeep(&dir, ["--all"]).run().ok().stdout.is_empty());
    daemon.feed(b"go\n");
    wait_until("the daemon works", || crate::common::lock_is_held(&dir.join("job.lock")));
    // A second one finds the same lock.
    dir.program("flock", ["-n", "job.lock", "true"]).run().assert_code(1);
    drop(daemon.finish());
    keeper.finish();
    assert_deletes(&dir, &["--all"], &["job.lock", "kept.lock"]);
}

/// `set -C; : >job.lock`: the existence of the file is the lock, and nobody has it open.
#[test]
fn a_lock_file_whose_existence_counts_is_left_alone_by_all() {
    let dir = TestDir::new();
    dir.sh("set -C; : >job2.lock").run().ok();
    wait_for_ctime(&dir.join("job2.lock"), Duration::from_millis(20));
    let done = housekeep(&dir, ["--all", "--older-than", "0"]).run();
    assert!(done.ok().stderr.starts_with("Nothing to delete; 1 lock file that may be another program's left alone"));
    assert_ne!(dir.sh("set -C; : >job2.lock").run().code, Some(0));
}

/// Postfix and mutt lock a mailbox so: no process has the file open, and the mailbox is beside it.
#[test]
fn a_lock_file_that_its_owner_cannot_open_is_another_program_s() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.file("mbox", "mail");
    dir.file_with_mode("mbox.lock", "", 0);
    wait_for_ctime(&dir.join("mbox.lock"), Duration::from_millis(20));
    for done in [housekeep(&dir, ["--all"]).run(), dir.awrite_unprivileged(["housekeep", "--all"]).run()] {
        assert_eq!(
            done.ok().stderr,
            "Nothing to delete; 1 lock file that may be another program's left alone (--clean-locks deletes it)\n"
        );
    }
    dir.assert_holds(&["mbox", "mbox.lock"]);
    if is_root() {
        assert_deletes(&dir, &["--clean-locks"], &["mbox.lock"]);
    }
}

#[test]
fn a_record_lock_on_the_first_byte_keeps_a_lock_file() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "");
    dir.file("f.lock", "");
    let script = "import fcntl, sys\nf = open('f.lock', 'r+'); fcntl.lockf(f, fcntl.LOCK_EX, 1)\n\
                  print('locked', file=sys.stderr, flush=True); sys.stdin.read()";
    let mut holder = dir.program("python3", ["-c", script]).stdin_open().spawn();
    holder.wait_for_stderr("locked");
    wait_for_ctime(&dir.join("f.lock"), Duration::from_millis(20));
    assert_deletes(&dir, &["--all"], &[]);
    assert_deletes(&dir, &["--clean-locks"], &[]);
    holder.finish().ok();
    assert_deletes(&dir, &["--all"], &["f.lock"]);
}

/// A program opens the lock file when the housekeeper has found that nobody has: it must not lock a file without a name.
#[test]
fn a_lock_file_comes_back_when_a_program_opens_it_at_the_last_moment() {
    if !needs_strace() || !needs("flock") {
        return;
    }
    for (call, number) in [("fcntl", 2), ("renameat", 1)] {
        let dir = TestDir::new();
        dir.file("f", "");
        let lock = dir.file("f.lock", "");
        wait_for_ctime(&lock, Duration::from_millis(20));
        let inode = fs::metadata(&lock).unwrap().ino();
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGSTOP:when={number}"));
        let which = ["-P", "f.lock", "-e", trace.as_str(), "-e", inject.as_str()];
        let (housekeeper, pid) = stopped_after(&dir, &which, &["housekeep", "--all"]);
        // By the name that it has now. In open(2) it waits for the housekeeper.
        let name = if lock.exists() {
            "f.lock".into()
        } else {
            dir.names().into_iter().find(|name| name.to_str().unwrap().starts_with(".awrite-")).unwrap()
        };
        let mut program = dir.program("flock", ["-n", name.to_str().unwrap(), "sh", "-c", "echo locked >&2; read go"]);
        program = program.stdin_open();
        let mut program = program.spawn();
        wait_until("it waits in open(2)", || {
            let leases = fs::read_to_string("/proc/locks").unwrap();
            leases.lines().any(|line| line.contains("BREAKING") && line.contains(&format!(":{inode} ")))
        });
        kill_process(pid, Signal::CONT).unwrap();
        program.wait_for_stderr("locked");
        assert_eq!(housekeeper.finish().ok().stdout, "", "{call}");
        assert_eq!(fs::metadata(&lock).unwrap().ino(), inode, "{call}");
        dir.program("flock", ["-n", "f.lock", "true"]).run().assert_code(1);
        program.finish();
        dir.assert_holds(&["f", "f.lock"]);
    }
}

/// The housekeeper never holds the lock itself, so that a program that does not wait for it never fails.
#[test]
fn no_foreign_attempt_fails_because_of_a_sweep() {
    let attempts: u64 = match extent() {
        Extent::Quick => 5_000,
        Extent::Full => 100_000,
        Extent::Long => 1_000_000,
    };
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "");
    // What `flock -n f.lock true` does. Not in this process, whose children have its locks until they become a program.
    let script = "import fcntl, os, sys\nfailed = 0\nfor _ in range(int(sys.argv[1])):\n\
                  \x20fd = os.open('f.lock', os.O_RDWR | os.O_CREAT)\n\
                  \x20try: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
                  \x20except BlockingIOError: failed += 1\n\
                  \x20os.close(fd)\n\
                  print(failed)";
    let (over, deleted) = (AtomicBool::new(false), AtomicU64::new(0));
    let sweep = |args: &'static [&'static str]| {
        let _over = Over(&over);
        while !over.load(Ordering::SeqCst) {
            let done = housekeep(&dir, args.iter().copied()).run();
            assert_eq!(done.code, Some(0), "{done:?}");
            deleted.fetch_add(done.stdout.lines().count() as u64, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| sweep(&["--all"]));
        scope.spawn(|| sweep(&["--clean-locks", "-n"]));
        let (_over, mut tried) = (Over(&over), 0);
        while (tried < attempts || deleted.load(Ordering::SeqCst) == 0) && !over.load(Ordering::SeqCst) {
            let failed = dir.program("python3", ["-c", script, "5000"]).run();
            assert_eq!(failed.ok().stdout, "0\n", "of {attempts} attempts");
            tried += 5000;
        }
    });
}

/// Daemons that open their lock file once, and lock the descriptor for each job: had the file been deleted meanwhile, the
/// next daemon would lock another one.
#[test]
fn daemons_that_keep_their_descriptor_are_never_two_at_once() {
    let jobs: u64 = match extent() {
        Extent::Quick => 2_000,
        Extent::Full => 20_000,
        Extent::Long => 500_000,
    };
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f", "");
    // A life of twenty jobs, then another one. Whoever is inside has made the file `inside`.
    let script = "import fcntl, os, sys, time\n\
                  for life in range(int(sys.argv[1]) // 20):\n\
                  \x20fd = os.open('f.lock', os.O_RDWR | os.O_CREAT)\n\
                  \x20for job in range(20):\n\
                  \x20 fcntl.flock(fd, fcntl.LOCK_EX)\n\
                  \x20 os.close(os.open('inside', os.O_CREAT | os.O_EXCL))\n\
                  \x20 os.unlink('inside')\n\
                  \x20 fcntl.flock(fd, fcntl.LOCK_UN)\n\
                  \x20 time.sleep(0.0001)\n\
                  \x20os.close(fd)\n\
                  \x20time.sleep(0.001)";
    let (over, deleted) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _over = Over(&over);
            while !over.load(Ordering::SeqCst) {
                let done = housekeep(&dir, ["--all"]).run();
                deleted.fetch_add(done.stdout.lines().count() as u64, Ordering::SeqCst);
            }
        });
        let (_over, mut left) = (Over(&over), jobs);
        while (left > 0 || deleted.load(Ordering::SeqCst) == 0) && !over.load(Ordering::SeqCst) {
            let daemons: Vec<_> = (0..2).map(|_| dir.program("python3", ["-c", script, "500"]).spawn()).collect();
            for daemon in daemons {
                let done = daemon.finish();
                assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "two at once");
            }
            left = left.saturating_sub(1000);
        }
    });
}

#[test]
fn the_lock_file_of_another_user_is_left_by_all() {
    if !needs_root() {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    for name in ["f", "f.lock"] {
        chmod(&dir.file(name, ""), 0o666);
    }
    wait_for_ctime(&dir.join("f.lock"), Duration::from_millis(20));
    // This user could lock and delete the file, but may not ask whether anybody has it open.
    let done = dir.awrite_unprivileged(["housekeep", "--all", "-vv"]).run();
    let reason = "./f.lock: kept: may be open, which cannot be told here";
    assert!(done.ok().stdout.is_empty() && done.lines().contains(&reason), "{done:?}");
    for dry_run in [Some("-n"), None] {
        let args = ["housekeep", "--clean-locks"].into_iter().chain(dry_run);
        assert_eq!(dir.awrite_unprivileged(args).run().ok().stdout, "./f.lock\n");
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn a_dry_run_foresees_what_will_be_refused() {
    let dir = TestDir::new();
    dir.open_to_all();
    dir.dir("fixed");
    for name in ["f", "f.lock", "f.20250102-030405.backup", "f.20250102-030406.backup", ".awrite-29623195.f"] {
        age(&dir.file(format!("fixed/{name}"), ""), 10 * DAY);
    }
    if is_root() {
        for name in ["", "f.lock", ".awrite-29623195.f"] {
            let nobody = Some(crate::common::NOBODY);
            std::os::unix::fs::chown(dir.join("fixed").join(name), nobody, nobody).unwrap();
        }
    }
    chmod(&dir.join("fixed"), 0o555);
    wait_for_ctime(&dir.join("fixed/f.lock"), Duration::from_secs(1));
    let before = tree(dir.path());
    let run = |more: Option<&str>| {
        let args = ["housekeep", "--all", "-r", "--keep-newest=0"].into_iter().chain(more);
        let done = dir.awrite_unprivileged(args).run();
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
        done.stderr
    };
    assert_eq!(run(Some("-n")), run(None));
    assert_eq!(run(None).lines().filter(|line| line.ends_with(": Permission denied")).count(), 4);
    chmod(&dir.join("fixed"), 0o755);
    assert_eq!(tree(dir.path()), before);
}

// ---------------------------------------------------------------------------------------------------------------------
// Times

#[test]
fn no_time_zone_makes_a_young_backup_old() {
    let dir = TestDir::new();
    dir.file("f", "old");
    dir.awrite(["--backup-timestamp", "f"]).stdin("new").env("TZ", "UTC").quiet_success();
    let backup = dir.names().into_iter().find(|name| name.to_str().unwrap().ends_with(".backup")).unwrap();
    for zone in ["Asia/Tokyo", "XXX-14", "XXX+12", "UTC"] {
        let args = ["--all", "--keep-newest", "0", "--older-than", "8h"];
        let done = housekeep(&dir, args).env("TZ", zone).run();
        assert_eq!(done.ok().stdout, "", "{zone}");
    }
    // A copy of an old one is young, too; an old time in both is old.
    let old = format!("g{}.backup", stamp(30 * HOUR));
    dir.file(&old, "x");
    let args = ["--all", "--keep-newest", "0", "--older-than", "8h", "-n"];
    assert_eq!(housekeep(&dir, args).run().ok().stdout, "");
    age(&dir.join(&old), 30 * HOUR);
    assert_eq!(housekeep(&dir, args).run().ok().stdout, format!("./{old}\n"));
    assert!(dir.join(backup).exists());
}

/// 02:30 came twice in Berlin on 2025-10-26, an hour apart. A backup of that time counts as made at the later one.
#[test]
fn the_hour_that_comes_twice_is_the_younger_one() {
    let dir = TestDir::new();
    age(&dir.file("f.20251026-023000.backup", "x"), 5000 * DAY);
    let zone = "CET-1CEST,M3.5.0,M10.5.0/3";
    let later: jiff::Timestamp = "2025-10-26T01:30:00Z".parse().unwrap();
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    let seconds = now.as_second() - later.as_second();
    for (more, goes) in [(1800, false), (-1800, true)] {
        let limit = format!("{}s", seconds + more);
        let args = ["--clean-backups", "--older-than", &limit, "-n"];
        let done = housekeep(&dir, args).env("TZ", zone).run();
        assert_eq!(done.ok().stdout.is_empty(), !goes, "{limit}");
    }
}

/// In that hour the names alone would take the older one for the newest.
#[test]
fn in_the_hour_that_comes_twice_the_newest_stays() {
    let zone = "CET-1CEST,M3.5.0,M10.5.0/3";
    for (more, limit) in [(None, "--keep-newest=1"), (Some("--older-than=7d"), "--keep-newest=1"), (None, "-q")] {
        let dir = TestDir::new();
        // 2025-10-26T00:30Z is 02:30 in summer time, and 01:10Z is 02:10 in winter time.
        for (name, seconds) in
            [("f.20251026-023000.backup", 1_761_438_600), ("f.20251026-021000.backup", 1_761_441_000)]
        {
            let file = fs::File::create(dir.join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        }
        let args = ["--all", limit].into_iter().chain(more);
        housekeep(&dir, args).env("TZ", zone).run().ok();
        dir.assert_holds(&["f.20251026-021000.backup"]);
    }
}

/// Copies get new modification times in any order. The times in the names still tell which is the newest.
#[test]
fn copies_keep_their_order() {
    let dir = TestDir::new();
    for (name, days) in
        [("f.20250101-000000.backup", 1), ("f.20250102-000000.backup", 3), ("f.20250103-000000.backup", 2)]
    {
        age(&dir.file(name, "x"), days * DAY);
    }
    assert_deletes(&dir, &["--all", "--keep-newest=1"], &["f.20250101-000000.backup", "f.20250102-000000.backup"]);
}
