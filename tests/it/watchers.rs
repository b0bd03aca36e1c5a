//! What programs see of a write that go by an inode: watches, mounts, labels (pkg/doc/watchers.md).

use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::common::{TestDir, needs, needs_mount, needs_root};

/// What a watch of `path` gets while `script` runs, in order and without repetitions: (name, event).
fn seen(dir: &TestDir, path: &Path, script: &str) -> Vec<(String, ReadFlags)> {
    let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&queue, path, WatchFlags::ALL_EVENTS).unwrap();
    dir.sh(script).run().ok();
    // The kernel queues an event before the call returns that causes it.
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&queue, &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = reader.next() {
        let name = event.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        seen.push((name, event.events()));
    }
    seen.dedup();
    seen
}

/// What readers cause, too.
const READING: ReadFlags = ReadFlags::OPEN.union(ReadFlags::ACCESS).union(ReadFlags::CLOSE_NOWRITE);

/// What is seen of `name` in the directory, but for what readers cause.
fn changes(seen: &[(String, ReadFlags)], name: &str) -> Vec<ReadFlags> {
    seen.iter().filter(|(of, event)| of == name && !READING.contains(*event)).map(|(_, event)| *event).collect()
}

/// A file `f`. This process has never had it open: a child of another test could have its descriptor for a moment, and close
/// it under the watch.
fn with_f() -> TestDir {
    let dir = TestDir::on_disk();
    dir.sh("echo old >f").run().ok();
    dir
}

#[test]
fn a_watch_of_the_directory_sees_the_file_move_in() {
    for script in [
        "echo new | \"$BIN\" f",
        "echo new | \"$BIN\" --stream f",
        "echo new | \"$BIN\" -a f",
        "\"$BIN\" f -- sed s/old/new/",
        "\"$BIN\" -e f -- sed -i s/old/new/",
        "mkdir from; echo new >from/f; \"$BIN\" --into . from",
        "rm f; echo new | \"$BIN\" f",
    ] {
        let dir = with_f();
        let seen = seen(&dir, dir.path(), script);
        let removed = if script.starts_with("rm") { vec![ReadFlags::DELETE] } else { Vec::new() };
        assert_eq!(changes(&seen, "f"), [removed, vec![ReadFlags::MOVED_TO]].concat(), "{script}: {seen:?}");
        let locked = [ReadFlags::CREATE, ReadFlags::DELETE, ReadFlags::CLOSE_WRITE];
        assert_eq!(changes(&seen, "f.lock"), locked, "{script}: {seen:?}");
        let staged = seen.iter().filter(|(name, _)| name.starts_with(".awrite-") && name.ends_with(".f"));
        let staged: Vec<_> = staged.map(|(_, event)| *event).collect();
        assert!(staged.contains(&ReadFlags::CREATE) && staged.contains(&ReadFlags::MOVED_FROM), "{script}: {seen:?}");
    }
}

#[test]
fn other_files_move_in_too() {
    let dir = with_f();
    let seen = seen(&dir, dir.path(), "echo new | \"$BIN\" -b f; \"$BIN\" lock --acquire --owner me --ttl 60 f");
    for name in ["f.backup", "f.lease"] {
        assert!(changes(&seen, name).contains(&ReadFlags::MOVED_TO), "{name}: {seen:?}");
    }
}

#[test]
fn with_its_lock_elsewhere_only_the_file_is_seen() {
    let (dir, locks) = (with_f(), TestDir::new());
    let script = format!("echo new | \"$BIN\" --lock-dir '{}' f", locks.path().display());
    let seen = seen(&dir, dir.path(), &script);
    assert_eq!(changes(&seen, "f"), [ReadFlags::MOVED_TO]);
    assert!(!seen.iter().any(|(name, _)| name.ends_with(".lock")), "{seen:?}");
}

#[test]
fn a_watch_of_the_file_sees_one_write() {
    let dir = with_f();
    let seen = seen(&dir, &dir.join("f"), "for n in 1 2 3; do echo $n | \"$BIN\" f || exit; done");
    let changes = changes(&seen, "");
    assert_eq!(changes, [ReadFlags::ATTRIB, ReadFlags::DELETE_SELF, ReadFlags::IGNORED], "{seen:?}");
}

#[test]
fn a_watch_of_the_file_sees_each_write_that_keeps_the_inode() {
    for name in ["", "f"] {
        let dir = with_f();
        let watched = if name.is_empty() { dir.join("f") } else { dir.path().to_owned() };
        let seen = seen(&dir, &watched, "for n in 1 2; do echo $n | \"$BIN\" --keep-inode f || exit; done");
        let changes = changes(&seen, name);
        let ends = changes.iter().filter(|event| **event == ReadFlags::CLOSE_WRITE).count();
        assert_eq!(ends, 2, "{seen:?}");
        assert!(changes.contains(&ReadFlags::MODIFY), "{seen:?}");
        assert!(changes.iter().all(|event| (ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE).contains(*event)), "{seen:?}");
    }
}

#[test]
fn what_changes_nothing_is_not_seen() {
    for script in [
        "echo old | \"$BIN\" --if-changed f",
        "\"$BIN\" -e f -- true",
        "echo new | \"$BIN\" --dry-run f",
        "! false | \"$BIN\" f",
        "! \"$BIN\" f -- sh -c 'echo half; exit 1'",
        "echo new | \"$BIN\" --if-match absent f; [ $? = 4 ]",
        "\"$BIN\" --digest f",
        "\"$BIN\" lock --status f && \"$BIN\" lock --list",
        "\"$BIN\" lock f -- cat f",
    ] {
        let dir = with_f();
        let seen = seen(&dir, dir.path(), script);
        assert_eq!(changes(&seen, "f"), [], "{script}: {seen:?}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Mounts and labels

/// Runs the script where `inside/f` is a mount of `f`, and `inside/dir` one of `dir`, in which there is another `f`.
fn in_a_container(script: &str) -> TestDir {
    let dir = with_f();
    for name in ["dir", "inside", "inside/dir"] {
        dir.dir(name);
    }
    dir.file("dir/f", "old\n");
    dir.file("inside/f", "");
    let mounted = "mount --bind f inside/f && mount --bind dir inside/dir";
    dir.program("unshare", ["--mount", "sh", "-euc", &format!("{mounted}\n{script}")]).run().ok();
    dir
}

#[test]
fn a_mounted_file_keeps_its_content_and_a_mounted_directory_does_not() {
    if !needs_mount() {
        return;
    }
    in_a_container(
        "echo new | \"$BIN\" f; echo new | \"$BIN\" dir/f
        [ \"$(cat f inside/f dir/f inside/dir/f | xargs)\" = 'new old new new' ]
        echo newer | \"$BIN\" inside/dir/f; [ \"$(cat dir/f)\" = newer ]",
    );
}

#[test]
fn a_mounted_file_gets_what_is_written_into_its_inode() {
    if !needs_mount() {
        return;
    }
    in_a_container("echo new | \"$BIN\" --keep-inode f; [ \"$(cat f inside/f | xargs)\" = 'new new' ]");
    let dir = in_a_container(
        "! echo new | \"$BIN\" inside/f 2>log; [ \"$(cat f)\" = old ]
        echo new | \"$BIN\" --in-place inside/f; [ \"$(cat f inside/f | xargs)\" = 'new new' ]",
    );
    assert!(dir.read("log").contains("Something is mounted on this file"), "{}", dir.read("log"));
}

#[test]
fn a_mounted_file_that_was_replaced_outside_is_not_written() {
    if !needs_mount() {
        return;
    }
    let dir = in_a_container("echo new | \"$BIN\" f; ! echo newer | \"$BIN\" --in-place inside/f 2>log; cat f >copy");
    assert_eq!(dir.read("copy"), "new\n");
    assert!(dir.read("log").contains("The file that is mounted here has been deleted"), "{}", dir.read("log"));
}

/// Both sides of a mounted directory share the locks in it.
#[test]
fn a_lock_is_shared_through_a_mounted_directory() {
    if !needs_mount() {
        return;
    }
    in_a_container(
        "\"$BIN\" lock dir/f -- env -u AWRITE_HELD sh -c 'exec 3>&-; \"$BIN\" lock --status inside/dir/f >state || :'
        grep -q Held state",
    );
}

#[test]
fn a_label_of_selinux_stays_on_the_file_and_its_copies() {
    if !needs_root() || !needs("setfattr") {
        return;
    }
    const LABEL: &str = "system_u:object_r:etc_t:s0";
    let dir = with_f();
    dir.sh(&format!("setfattr -n security.selinux -v {LABEL} f")).quiet_success();
    dir.sh("echo new | \"$BIN\" -b f && echo newer | \"$BIN\" --backup-mode 600 --backup-suffix .copy f")
        .quiet_success();
    dir.sh("\"$BIN\" -e f -- sed -i s/newer/newest/").quiet_success();
    for name in ["f", "f.backup", "f.copy"] {
        let label = dir.sh(&format!("getfattr --only-values -n security.selinux {name}")).run().stdout;
        assert_eq!(label.trim_end_matches('\0'), LABEL, "{name}");
    }
    assert_eq!(dir.read("f"), "newest\n");
    dir.sh("echo last | \"$BIN\" --no-preserve-xattrs f && ! getfattr -n security.selinux f 2>/dev/null")
        .quiet_success();
}
