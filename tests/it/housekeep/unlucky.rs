//! System calls that fail, or come too late: what is not certain stays, and what fails is said.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::{DAY, age, assert_deletes, housekeep, stopped_after, wait_for_ctime};
use crate::common::{Done, Held, NOBODY, TestDir, chmod, needs, needs_root, needs_strace, temp_name, wait_until};

/// A housekeeper some of whose calls that concern `path` are changed as strace's `inject` says.
fn injected(dir: &TestDir, path: &str, injections: &[&str], args: &[&str]) -> Done {
    let (place, whole) = (TestDir::new(), dir.join(path));
    let trace = place.join("trace");
    let mut words = vec!["-f", "-o", trace.to_str().unwrap(), "-P", whole.to_str().unwrap(), "-P", path];
    injections.iter().for_each(|injection| words.extend(["-e", injection]));
    words.extend([crate::common::AWRITE, "housekeep"].iter().chain(args));
    let mut done = dir.program("strace", words).run();
    // How it has understood the path.
    done.stderr = done.stderr.split_inclusive('\n').filter(|line| !line.starts_with("strace: Requested")).collect();
    done
}

/// What cannot be deleted is reported, and only that which has been deleted by another is not.
#[test]
fn an_error_is_reported_and_what_is_gone_is_not() {
    if !needs_strace() {
        return;
    }
    let (dated, temp) = ("f.20250102-030405.backup", temp_name("f"));
    let lock = ["--clean-locks"];
    let backups = ["--clean-backups", "--keep-newest=0"];
    for (name, content, args, injection, reason) in [
        ("c.lock", "content", &lock[..], "openat:error=EIO", Some("Input/output error")),
        ("f.lock", "", &lock, "openat:error=EIO", Some("Input/output error")),
        ("f.lock", "", &lock, "openat:error=ENOENT", None),
        ("f.lock", "", &lock, "openat:error=ESTALE", None),
        ("f.lock", "", &lock, "renameat:error=EIO", Some("Input/output error")),
        ("f.lock", "", &lock, "renameat:error=ENOENT", None),
        (&temp, "", &["--clean-temps"], "unlinkat:error=EIO", Some("Input/output error")),
        (&temp, "", &["--clean-temps"], "unlinkat:error=ENOENT", None),
        (dated, "", &backups, "unlinkat:error=EACCES", Some("Permission denied")),
        ("f.backup", "", &backups, "renameat2:error=EIO", Some("Input/output error")),
        ("f.backup", "", &backups, "renameat2:error=ENOENT", None),
    ] {
        let dir = TestDir::new();
        age(&dir.file(name, content), 10 * DAY);
        let done = injected(&dir, name, &[&format!("inject={injection}")], args);
        let expected = reason.map_or_else(
            || "Nothing to delete\n".to_owned(),
            |reason| format!("Error: ./{name}: {reason}\nNothing to delete; 1 failure\n"),
        );
        let code = i32::from(reason.is_some());
        assert_eq!((done.code, &*done.stdout, &*done.stderr), (Some(code), "", &*expected), "{name} {injection}");
        dir.assert_holds(&[name]);
    }
}

/// The lock of the file that a backup is of cannot be looked at: an error is said, and a lock file that this user may not
/// open counts as held.
#[test]
fn a_backup_whose_lock_cannot_be_looked_at_stays() {
    if !needs_strace() || !needs_root() {
        return;
    }
    let dir = TestDir::new();
    dir.open_to_all();
    chmod(&dir.file("f.lock", ""), 0o600);
    age(&dir.file("f.backup", "x"), 10 * DAY);
    std::os::unix::fs::chown(dir.join("f.backup"), Some(NOBODY), Some(NOBODY)).unwrap();
    let args = ["--clean-backups", "--keep-newest=0"];
    let done = injected(&dir, "f.lock", &["inject=openat:error=EIO"], &args);
    done.assert_error(1, "Error: ./f.backup: Input/output error");
    let done = dir.awrite_unprivileged(["housekeep", "-vv"].into_iter().chain(args)).run();
    assert_eq!(done.ok().stderr, "./f.backup: kept: in use\nNothing to delete\n");
    // Whoever has it open may lock it at any moment.
    let open = fs::File::open(dir.join("f.lock")).unwrap();
    assert_deletes(&dir, &args, &[]);
    drop(open);
    assert_deletes(&dir, &args, &["f.backup"]);
}

/// FUSE and NFS cannot rename to a free name in one step.
#[test]
fn a_backup_goes_where_names_cannot_be_reserved() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    age(&dir.file("f.backup", "x"), 10 * DAY);
    let args = ["--clean-backups", "--keep-newest=0"];
    let done = injected(&dir, "f.backup", &["inject=renameat2:error=EINVAL"], &args);
    assert_eq!(done.ok().stdout, "./f.backup\n");
    dir.assert_holds(&[]);
}

/// Where the system cannot tell whether a lock file is open, the lock itself is taken. On NFS that needs a descriptor for
/// writing.
#[test]
fn a_lock_file_goes_where_there_are_no_leases() {
    if !needs_strace() {
        return;
    }
    let no_leases = "inject=fcntl:error=EINVAL:when=1";
    for (flock, code, said) in [
        ("inject=flock:error=EBADF:when=1", 0, "./f.lock\n"),
        ("inject=flock:error=EIO:when=1", 1, ""),
        ("inject=flock:error=EAGAIN:when=1", 0, ""),
    ] {
        let dir = TestDir::new();
        wait_for_ctime(&dir.file("f.lock", ""), Duration::from_millis(20));
        let done = injected(&dir, "f.lock", &[no_leases, flock], &["--clean-locks"]);
        assert_eq!((done.code, &*done.stdout), (Some(code), said), "{flock}: {done:?}");
        assert_eq!(dir.join("f.lock").exists(), said.is_empty(), "{flock}");
    }
}

/// Another program has a lease on the file, and does not give it up: Samba, or one that is stopped.
#[test]
fn a_file_with_another_s_lease_is_not_waited_for() {
    if !needs("python3") {
        return;
    }
    let dir = TestDir::new();
    dir.file("f.lock", "");
    let script = "import fcntl, signal, sys\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\nf = open('f.lock')\n\
                  fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                  print('leased', file=sys.stderr, flush=True); sys.stdin.read()";
    let mut holder = dir.program("python3", ["-c", script]).stdin_open().spawn();
    holder.wait_for_stderr("leased");
    let done = housekeep(&dir, ["--clean-locks", "-vv"]).run();
    assert_eq!(done.ok().stderr, "./f.lock: kept: in use, with a lease\nNothing to delete\n");
    if !needs_strace() {
        return;
    }
    // It may be another housekeeper, which has it for an instant: it is looked at again.
    let pause = ["-e", "trace=clock_nanosleep", "-e", "inject=clock_nanosleep:signal=SIGSTOP:when=1"];
    let (housekeeper, pid) = stopped_after(&dir, &pause, &["housekeep", "--clean-locks"]);
    holder.finish().ok();
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(housekeeper.finish().ok().stdout, "./f.lock\n");
}

/// The names have been read, and then stand for something else.
#[test]
fn what_is_no_file_any_more_stays() {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::new();
    let (young, old) = ("f.20250103-030405.backup", "f.20250102-030405.backup");
    for name in ["a.lock", "b.lock", young, old] {
        age(&dir.file(name, ""), 10 * DAY);
    }
    // The second call says that there are no more names.
    let read = ["-e", "trace=getdents64", "-e", "inject=getdents64:signal=SIGSTOP:when=2"];
    let args = ["housekeep", "--clean-locks", "--clean-backups", "--keep-newest=1", "--older-than=1h", "-vv"];
    let (housekeeper, pid) = stopped_after(&dir, &read, &args);
    for name in ["a.lock", "b.lock", young] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    symlink(old, dir.join("a.lock")).unwrap();
    symlink(old, dir.join(young)).unwrap();
    let _socket = UnixListener::bind(dir.join("b.lock")).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    let done = housekeeper.finish();
    assert_eq!(done.ok().stdout, "");
    for name in ["a.lock", "b.lock"] {
        assert!(done.stderr.contains(&format!("./{name}: kept: not a regular file\n")), "{done:?}");
    }
    dir.assert_holds(&["a.lock", "b.lock", young, old]);
}

/// Their names have been read. When they are to be entered, they are somewhere else, and what stands there is not entered.
#[test]
fn directories_that_vanish_are_no_error() {
    if !needs_strace() {
        return;
    }
    let (dir, elsewhere) = (TestDir::new(), TestDir::new());
    let names = ["a", "b", "c", "d", "e", "g"];
    for name in names {
        dir.dir(name);
        dir.file(format!("{name}/f.lock"), "");
    }
    wait_for_ctime(&dir.join("g/f.lock"), Duration::from_millis(20));
    // The first directory is read twice, to its end and for the directories in it. Then the first of those is read.
    let read = ["-e", "trace=getdents64", "-e", "inject=getdents64:signal=SIGSTOP:when=4"];
    let (housekeeper, pid) = stopped_after(&dir, &read, &["housekeep", "--clean-locks", "-r"]);
    for (number, name) in names.into_iter().enumerate() {
        fs::rename(dir.join(name), elsewhere.join(name)).unwrap();
        match number % 3 {
            0 => symlink(elsewhere.join(name), dir.join(name)).unwrap(),
            1 => fs::write(dir.join(name), "").unwrap(),
            _ => {}
        }
    }
    kill_process(pid, Signal::CONT).unwrap();
    let done = housekeeper.finish();
    // The one that is open already is cleaned, wherever it is.
    assert!(done.ok().stdout.lines().count() == 1 && done.stderr == "Deleted 1 lock file\n", "{done:?}");
}

/// A program has opened a lock file when it was on its way out, and its name is needed for it again.
#[test]
fn a_lock_file_on_its_way_out_is_never_lost() {
    if !needs_strace() || !needs("flock") {
        return;
    }
    // Whether another has made a lock file under the name meanwhile; what fails; what is left besides it.
    for (taken, failing, is_back, error) in [
        (true, &[][..], false, false),
        (false, &["renameat2:error=EINVAL"], true, false),
        (true, &["renameat2:error=EINVAL"], false, false),
        (false, &["renameat2:error=EINVAL", "linkat:error=EPERM"], false, true),
    ] {
        let dir = TestDir::new();
        dir.file("f", "");
        let lock = dir.file("f.lock", "");
        wait_for_ctime(&lock, Duration::from_millis(20));
        let inode = fs::metadata(&lock).unwrap().ino();
        let injections = failing.iter().map(|injection| format!("inject={injection}"));
        let injections: Vec<String> = injections.chain(["inject=renameat:signal=SIGSTOP:when=1".into()]).collect();
        let which: Vec<&str> = injections.iter().flat_map(|injection| ["-e", injection]).collect();
        let (housekeeper, pid) = stopped_after(&dir, &which, &["housekeep", "--all"]);
        let aside = dir.names().into_iter().find(|name| name.to_str().unwrap().starts_with(".awrite-")).unwrap();
        let aside = aside.to_str().unwrap();
        let program = dir.program("flock", ["-n", aside, "sh", "-c", "echo locked >&2; read go"]).stdin_open();
        let mut program = program.spawn();
        wait_until("it waits in open(2)", || {
            let leases = fs::read_to_string("/proc/locks").unwrap();
            leases.lines().any(|line| line.contains("BREAKING") && line.contains(&format!(":{inode} ")))
        });
        let other = taken.then(|| Held::new(&lock));
        kill_process(pid, Signal::CONT).unwrap();
        program.wait_for_stderr("locked");
        let done = housekeeper.finish();
        assert_eq!((done.code, &*done.stdout), (Some(i32::from(error)), ""), "{taken} {failing:?}: {done:?}");
        let there = fs::metadata(&lock).ok().map(|meta| meta.ino());
        let expected = other.as_ref().map(Held::inode).or(is_back.then_some(inode));
        assert_eq!(there, expected, "{taken} {failing:?}");
        // What could get no other name keeps this one.
        assert_eq!(dir.join(aside).exists(), error, "{taken} {failing:?}");
        program.finish();
    }
}

/// The last step for a lock file: nobody can open it any more.
#[test]
fn the_end_of_a_lock_file() {
    if !needs_strace() {
        return;
    }
    for (error, code) in [("ENOENT", 0), ("EIO", 1)] {
        let dir = TestDir::new();
        wait_for_ctime(&dir.file("f.lock", ""), Duration::from_millis(20));
        let place = TestDir::new();
        let (trace, inject) = (place.join("trace"), format!("inject=unlinkat:error={error}"));
        let words = ["-f", "-o", trace.to_str().unwrap(), "-e", &inject, crate::common::AWRITE];
        let done = dir.program("strace", words.into_iter().chain(["housekeep", "--clean-locks"])).run();
        assert_eq!((done.code, &*done.stdout), (Some(code), "./f.lock\n"), "{error}: {done:?}");
        assert_eq!(done.stderr.contains(".removed: Input/output error"), code == 1, "{done:?}");
    }
}
