//! File systems: the same contract on each of them, and clear errors where one refuses. To mount them needs root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::common::{
    AWRITE, Held, Running, TestDir, assert_no_debris, chmod, copy_program, lock_is_held, needs, needs_mount,
    needs_root, needs_strace, rounds, temp_stem, wait_until,
};
use crate::sweep::Program;

/// Something that is mounted, until it is dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(args: &[&str], at: &Path) -> Option<Mount> {
        let output = Command::new("mount").args(args).arg(at).output().unwrap();
        if !output.status.success() {
            eprintln!("mount {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Mount(at.to_owned()))
    }

    pub(crate) fn bind(source: &Path, target: &Path) -> Mount {
        Mount::new(&["--bind", source.to_str().unwrap()], target).unwrap()
    }

    pub(crate) fn tmpfs(options: &str, at: &Path) -> Mount {
        Mount::new(&["-t", "tmpfs", "-o", options, "none"], at).unwrap()
    }

    /// A new file system in an image file, of `mebibytes` at most.
    fn image(dir: &TestDir, kind: &str, mebibytes: u64) -> Option<(Mount, PathBuf)> {
        let image = make_image(dir, kind, mebibytes);
        let at = dir.dir(kind);
        let mount = Mount::new(&["-t", kind, "-o", "loop", image.to_str().unwrap()], &at)?;
        Some((mount, at))
    }

    pub(crate) fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a failed test may leave something open in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// An image file of `mebibytes` with a new file system in it.
pub(crate) fn make_image(dir: &TestDir, kind: &str, mebibytes: u64) -> PathBuf {
    let image = dir.join(format!("{kind}.img"));
    File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
    let quiet: &[&str] = if kind == "ext4" { &["-q", "-F"] } else { &["-q"] };
    let path = std::env::var("PATH").unwrap_or_default();
    let made = Command::new(format!("mkfs.{kind}"))
        .args(quiet)
        .arg(&image)
        .env("PATH", format!("{path}:/sbin:/usr/sbin"))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success(), "mkfs.{kind}");
    image
}

// ---------------------------------------------------------------------------------------------------------------------
// Each of them

/// What holds everywhere.
fn contract(parent: &Path) {
    let dir = TestDir::made_in(parent);
    // Create and replace, by all ways of input.
    dir.awrite(["f"]).stdin("new").run().ok();
    assert_eq!(dir.read("f"), "new");
    chmod(&dir.join("f"), 0o640);
    let big: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    dir.file("in", &big);
    for args in [&["f"][..], &["--stream", "f"], &["-i", "in", "f"], &["--stream", "-i", "in", "f"]] {
        dir.awrite(args).stdin(big.clone()).run().ok();
        assert!(fs::read(dir.join("f")).unwrap() == big, "{args:?}");
        assert_eq!(dir.mode("f"), 0o640);
        dir.assert_holds(&["f", "in"]);
    }
    dir.awrite(["-a", "f"]).stdin("tail").run().ok();
    assert!(fs::read(dir.join("f")).unwrap() == [&big, &b"tail"[..]].concat());
    dir.awrite(["f", "--", "head", "-c", "3"]).run().ok();
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 3);
    // Backups.
    dir.file("f", "old");
    dir.awrite(["-b", "f"]).stdin("new").run().ok();
    assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str()), ("new", "old"));
    dir.awrite(["--backup-mode", "600", "f"]).stdin("newer").run().ok();
    assert_eq!((dir.mode("f.backup"), dir.read("f.backup").as_str()), (0o600, "new"));
    fs::remove_file(dir.join("f.backup")).unwrap();
    dir.awrite(["--backup-timestamp", "f"]).stdin("a").run().ok();
    dir.awrite(["--backup-timestamp", "f"]).stdin("b").run().ok();
    assert_eq!(dir.names().len(), 4, "{:?}", dir.names());
    for name in dir.names() {
        if name.as_encoded_bytes().ends_with(b".backup") {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
    dir.assert_holds(&["f", "in"]);
    // Nothing changes when it fails or need not change.
    let before = dir.snapshot("f");
    dir.awrite(["--if-changed", "f"]).stdin("b").run().ok();
    dir.awrite(["--validate", "false", "f"]).stdin("new").run().assert_code(1);
    dir.awrite(["f", "--", "false"]).run().assert_code(1);
    assert_eq!(dir.snapshot("f"), before);
    dir.assert_holds(&["f", "in"]);
    dir.awrite(["--validate", "grep -q new \"$AWRITE_NEW\"", "f"]).stdin("new").run().ok();
    // The lock.
    let held = Held::new(&dir.join("f.lock"));
    dir.awrite(["-n", "f"]).stdin("x").run().assert_error(2, "Error: f: File locked by another process");
    dir.awrite(["-t", "50ms", "f"]).stdin("x").run().assert_code(2);
    let mut waiter = dir.awrite(["f"]).stdin("waited").spawn();
    waiter.wait_for_waiting();
    held.release();
    waiter.finish().ok();
    assert_eq!(dir.read("f"), "waited");
    dir.assert_holds(&["f", "in"]);
    let killed = dir.awrite(["--stream", "f"]).stdin_open().spawn();
    wait_until("the lock is held", || lock_is_held(&dir.join("f.lock")));
    killed.signal(Signal::KILL);
    killed.finish();
    dir.awrite(["-n", "f"]).stdin("next").run().ok();
    // Where the temporary file has a name, a killed writer leaves it, and the next one takes it over.
    dir.assert_holds(&["f", "in"]);
    // Links and long names.
    symlink("f", dir.join("link")).unwrap();
    dir.awrite(["link"]).stdin("through").run().ok();
    assert_eq!(dir.read("f"), "through");
    let long = "n".repeat(255);
    for _ in 0..2 {
        dir.awrite([&long]).stdin("x").run().ok();
    }
    // Many at once.
    dir.file("n", "0\n");
    let script = "for i in 1 2 3 4 5; do \"$BIN\" -q n -- sh -c 'read n; echo $((n + 1))' || exit 1; done";
    let writers: Vec<Running> = (0..8).map(|_| dir.sh(script).spawn()).collect();
    for writer in writers {
        writer.finish().ok();
    }
    assert_eq!(dir.read("n"), "40\n");
    dir.assert_holds(&["f", "in", "link", "n", &long]);
    // Side by side, since much of it is waiting.
    std::thread::scope(|scope| {
        for method in ["flock", "link"] {
            scope.spawn(move || locks(parent, method));
        }
        scope.spawn(|| leases(parent));
        scope.spawn(|| housekeeping(parent));
    });
}

/// Locks of all kinds keep each other out, come to who waits for them, and are free once their holder is dead.
fn locks(parent: &Path, method: &str) {
    let dir = TestDir::made_in(parent);
    dir.file("f", "old");
    let lock_file = dir.join("f.lock");
    let other = if method == "link" { "flock" } else { "link" };
    let awrite = |args: &[&str]| dir.awrite(args).env("AWRITE_LOCK_METHOD", method);
    awrite(&["lock", "f", "--", "sh", "-c", "test -e f.lock && exit 7"]).run().assert_code(7);
    let holds = "echo held; cat >holder";
    let holders = [
        (false, &["--stream", "f"][..]),
        (false, &["f", "--", "sh", "-c", "echo x; cat <&3 >holder"]),
        (false, &["lock", "f", "--", "sh", "-c", holds]),
        (false, &["lock", "--owner", "A", "--ttl", "60s", "f", "--", "sh", "-c", holds]),
        (true, &["lock", "-s", "f", "--", "sh", "-c", holds]),
    ];
    // By default all of them are tried only in memory.
    let few = parent != Path::new("/dev/shm");
    for (shared, holder) in holders.into_iter().take(if few { rounds(1, 5) } else { 5 }) {
        // COMMAND of a write does not get awrite's standard input, so it reads descriptor 3.
        let mut args = vec!["-c", "exec 3<&0; exec \"$BIN\" \"$@\"", "sh"];
        args.extend(holder);
        for end in ["end", "death"] {
            let mut running = dir.program("sh", &args).env("AWRITE_LOCK_METHOD", method).stdin_open().spawn();
            let leased = holder.contains(&"--owner");
            wait_until("it is held", || {
                let ready = if holder.contains(&"sh") { dir.join("holder") } else { lock_file.clone() };
                ready.exists() && (method == "flock" || leased || lock_file.metadata().is_ok_and(|meta| meta.len() > 0))
            });
            if method == "flock" && !leased {
                wait_until("it is held", || lock_is_held(&lock_file));
            }
            for by in [method, other] {
                let done = dir.awrite(["-n", "--lock-method", by, "f"]).stdin("x").run();
                assert_eq!(done.code, Some(2), "{by} beside {method} {holder:?}: {done:?}");
            }
            awrite(&["lock", "-n", "f", "--", "true"]).run().assert_code(2);
            awrite(&["lock", "-w", "0.05", "f", "--", "true"]).run().assert_code(2);
            // A link lock is never shared.
            let expected = if shared && method == "flock" { 0 } else { 2 };
            awrite(&["lock", "-n", "-s", "f", "--", "true"]).run().assert_code(expected);
            awrite(&["lock", "--status", "f"]).run().assert_code(2);
            assert_eq!(dir.read("f"), "old", "{holder:?}");
            let mut waiter = awrite(&["f"]).stdin("waited").spawn();
            waiter.wait_for_stderr(if leased { "Waiting for" } else { "Waiting for lock on f" });
            if end == "end" {
                running.feed(b"end");
                running.close_stdin();
                running.finish().ok();
            } else {
                running.signal_group(Signal::KILL);
                running.finish();
                if leased {
                    // Nobody can know that its holder is dead.
                    awrite(&["lock", "--release", "--owner", "A", "f"]).run().ok();
                }
            }
            waiter.finish().ok();
            assert_eq!(dir.read("f"), "waited", "{holder:?}");
            let _ = fs::remove_file(dir.join("holder"));
            dir.awrite(["housekeep", "--clean-temps", "--clean-locks"]).run().ok();
            dir.assert_holds(&["f"]);
            dir.file("f", "old");
        }
    }
    // Below it, and side by side below it.
    dir.file("n", "0\n");
    let increment = "\"$BIN\" -q n -- sh -c 'read n; echo $((n + 1))'";
    let below = format!("for i in 1 2 3; do {increment} & done; wait");
    let all: Vec<Running> = (0..4)
        .flat_map(|_| {
            [awrite(&["lock", "n", "-c", &below]), awrite(&["n", "--", "sh", "-c", "read n; echo $((n + 1))"])]
        })
        .map(|run| run.spawn())
        .collect();
    for one in all {
        one.finish().ok();
    }
    assert_eq!(dir.read("n"), "16\n");
    if method == "flock" {
        let script = "exec 9>>f.lock; \"$BIN\" lock 9 && \"$BIN\" -n f <n && \"$BIN\" lock -u 9 && \"$BIN\" -n f <n";
        dir.sh(script).run().ok();
        assert_eq!(dir.read("f"), "16\n");
    }
    dir.assert_holds(&["f", "n"]);
}

fn leases(parent: &Path) {
    let dir = TestDir::made_in(parent);
    dir.file("f", "old");
    let lease = |args: &[&str]| dir.awrite([&["lock"], args, &["f"]].concat()).run();
    let token = lease(&["--acquire", "--owner=A", "--ttl=60s"]).ok().stdout.trim().to_owned();
    lease(&["--acquire", "--owner=B", "--ttl=60s", "-n"]).assert_code(2);
    dir.awrite(["-n", "f"]).stdin("x").run().assert_error_with(2, &["Leased by A until "]);
    dir.awrite(["-n", "--owner=B", "f"]).stdin("x").run().assert_code(2);
    assert_eq!(lease(&["--refresh", "--owner=A", "--token", &token]).ok().stdout, "");
    assert_eq!(lease(&["--acquire", "--owner=A", "--ttl=50ms"]).ok().stdout.trim(), token);
    // It has expired, so anybody may take it.
    let next = lease(&["--acquire", "--owner=B", "--ttl=60s", "-w", "20"]).ok().stdout.trim().to_owned();
    assert!(next.parse::<u64>().unwrap() > token.parse().unwrap());
    dir.awrite(["--owner=A", "f"]).stdin("x").run().assert_code(2);
    dir.awrite(["--owner=B", "--token", &next, "f"]).stdin("new").run().ok();
    assert_eq!(dir.read("f"), "new");
    lease(&["--release", "--owner=A"]).assert_code(2);
    lease(&["--release", "--owner=B"]).ok();
    lease(&["--status"]).ok();
    dir.assert_holds(&["f"]);
}

fn housekeeping(parent: &Path) {
    let dir = TestDir::made_in(parent);
    dir.awrite(["lock", "--acquire", "--owner=A", "--ttl=1ms", "y"]).run().ok();
    for name in ["f", "o.lock", "h.lock", ".awrite-2961ebef.t", "b.20200101-000000.backup", "b.backup"] {
        dir.file(name, if name.ends_with("lock") { "" } else { "content" });
    }
    // With everything that a killed one leaves.
    let killed = dir.awrite(["--lock-method=link", "--stream", "l"]).stdin_open().spawn();
    wait_until("the lock is held", || dir.join("l.lock").metadata().is_ok_and(|meta| meta.len() > 0));
    killed.signal(Signal::KILL);
    killed.finish();
    let each_kind = ["housekeep", "--clean-locks", "--clean-backups", "--clean-temps"];
    let held = Held::new(&dir.join("h.lock"));
    for _ in 0..2 {
        dir.awrite(["housekeep", "--all"]).run().ok();
        dir.awrite(each_kind).run().ok();
        dir.assert_holds(&["b.backup", "f", "h.lock"]);
    }
    held.release();
    dir.awrite(each_kind).run().ok();
    dir.assert_holds(&["b.backup", "f"]);
}

/// Where rename is impossible, --in-place overwrites the file.
fn in_place(parent: &Path) {
    let dir = TestDir::made_in(parent);
    let target = dir.file("f", "hidden");
    dir.file_with_mode("source", "old", 0o640);
    let _mount = Mount::bind(&dir.join("source"), &target);
    let before = dir.snapshot("source");
    dir.awrite(["f"]).stdin("new").run().assert_error_with(1, &["Error: f: Something is mounted on this file"]);
    assert_eq!(dir.snapshot("source"), before);
    dir.awrite(["--in-place", "--backup", "f"]).stdin("new").run().ok();
    assert_eq!((dir.read("source").as_str(), dir.read("f.backup").as_str()), ("new", "old"));
    assert_eq!((dir.snapshot("source").inode, dir.mode("source")), (before.inode, 0o640));
    dir.awrite(["--in-place", "f", "--", "tr", "a-z", "A-Z"]).run().ok();
    assert_eq!(dir.read("source"), "NEW");
    dir.assert_holds(&["f", "f.backup", "source"]);
}

#[test]
fn tmpfs() {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        contract(shm);
    }
}

#[test]
fn tmpfs_in_place() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("tmpfs");
    let _mount = Mount::tmpfs("size=16m", &at);
    in_place(&at);
}

#[test]
fn ext4() {
    if !needs_mount() || !needs("mkfs.ext4") {
        return;
    }
    let dir = TestDir::new();
    let (_mount, at) = Mount::image(&dir, "ext4", 64).unwrap();
    contract(&at);
    in_place(&at);
}

#[test]
fn xfs() {
    if !needs_mount() || !needs("mkfs.xfs") {
        return;
    }
    let dir = TestDir::new();
    let Some((_mount, at)) = Mount::image(&dir, "xfs", 320) else { return };
    contract(&at);
    in_place(&at);
    copies_by_reflink(&at);
}

#[test]
fn btrfs() {
    if !needs_mount() || !needs("mkfs.btrfs") {
        return;
    }
    let dir = TestDir::new();
    let Some((_mount, at)) = Mount::image(&dir, "btrfs", 256) else { return };
    contract(&at);
    in_place(&at);
    copies_by_reflink(&at);
}

/// On file systems with reflinks, whole files are never copied.
fn copies_by_reflink(parent: &Path) {
    if !needs_strace() {
        return;
    }
    let dir = TestDir::made_in(parent);
    let content = vec![b'x'; 3_000_000];
    dir.file("in", &content);
    let clones = |args: &[&str]| {
        dir.file("f", &content);
        let strace = ["-f", "-o", "trace", "-e", "trace=ioctl"];
        dir.program("strace", strace.iter().chain(&[AWRITE]).chain(args)).stdin("tail").run().ok();
        let trace = dir.read("trace");
        fs::remove_file(dir.join("trace")).unwrap();
        trace.lines().filter(|line| line.contains("FICLONE") && line.contains("= 0")).count()
    };
    assert_eq!(clones(&["-i", "in", "f"]), 1);
    assert_eq!(clones(&["--stream", "-i", "in", "f"]), 1);
    assert_eq!(clones(&["--append", "f"]), 1);
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 3_000_004);
    assert_eq!(clones(&["--backup-mode", "600", "f"]), 1);
    dir.assert_holds(&["f", "f.backup", "in"]);
}

#[test]
fn overlay() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    // An overlay's upper directory must not be on an overlay itself, as a container's root is.
    let base = dir.dir("base");
    let _base = Mount::tmpfs("size=64m", &base);
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    fs::write(base.join("lower/config.json"), "from the image").unwrap();
    fs::create_dir(base.join("lower/sub")).unwrap();
    fs::write(base.join("lower/sub/f"), "lower").unwrap();
    let options = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", base.display());
    let merged = base.join("merged");
    let Some(_overlay) = Mount::new(&["-t", "overlay", "-o", &options, "overlay"], &merged) else { return };
    let run = |args: &[&str]| dir.awrite(args).current_dir(&merged).stdin("new").run();
    run(&["config.json"]).ok();
    assert_eq!(fs::read_to_string(merged.join("config.json")).unwrap(), "new");
    assert_eq!(fs::read_to_string(base.join("lower/config.json")).unwrap(), "from the image");
    run(&["-b", "sub/f"]).ok();
    assert_eq!(fs::read_to_string(merged.join("sub/f")).unwrap(), "new");
    assert_eq!(fs::read_to_string(merged.join("sub/f.backup")).unwrap(), "lower");
    assert_no_debris(&merged.join("sub"), &["f", "f.backup"]);
    assert_no_debris(&merged, &["config.json", "sub"]);
    contract(&merged);
    in_place(&merged);
}

/// FUSE has no O_TMPFILE, so the temporary file has a name.
#[test]
fn fuse() {
    if !needs_mount() || !needs("bindfs") || !Path::new("/dev/fuse").exists() {
        return;
    }
    let dir = TestDir::new();
    let (source, at) = (dir.dir("source"), dir.dir("fuse"));
    let status = Command::new("bindfs").arg(&source).arg(&at).status().unwrap();
    assert!(status.success());
    let mount = Mount(at.clone());
    contract(&at);
    in_place(&at);
    a_named_temporary_file_is_private(&at);
    drop(mount);
}

/// Others can see a named temporary file. It must not be more readable than the file.
fn a_named_temporary_file_is_private(parent: &Path) {
    let dir = TestDir::made_in(parent);
    for mode in [0o600, 0o640, 0o644] {
        dir.file_with_mode("secret", "old", mode);
        let mut writer = dir.awrite(["--stream", "secret"]).stdin_open().spawn();
        writer.feed(&vec![b's'; 1 << 20]);
        let mut staged = None;
        wait_until("something is staged", || {
            staged = dir.names().into_iter().find(|name| {
                name.to_str().unwrap().starts_with(&temp_stem("secret"))
                    && fs::metadata(dir.join(name)).is_ok_and(|meta| meta.len() > 0)
            });
            staged.is_some()
        });
        assert_eq!(dir.mode(staged.unwrap()) & !mode, 0);
        // Here there is something to clean up.
        writer.signal(Signal::TERM);
        wait_until("it has ended", || writer.has_ended());
        let done = writer.finish();
        assert_eq!(done.assert_code(3).lines(), ["Interrupted", "Cleaning up temporary files..."]);
        assert_eq!(dir.read("secret"), "old");
        dir.assert_holds(&["secret"]);
        fs::remove_file(dir.join("secret")).unwrap();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Full and read-only ones

#[test]
fn a_full_disk_changes_nothing() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("full");
    let _mount = Mount::tmpfs("size=256k", &at);
    let path = at.join("file.txt");
    fs::write(&path, "old").unwrap();
    dir.file("in", vec![b'x'; 1 << 20]);
    let before = crate::common::Snapshot::of(&path);
    let big = vec![b'x'; 1 << 20];
    let expected = format!("Error: {}: No space left on device", path.display());
    for args in [
        &[][..],
        &["--stream"],
        &["--append"],
        &["--backup"],
        &["--lock-on-commit"],
        &["--stream", "--lock-on-commit"],
        &["-i", "in"],
        &["--stream", "-i", "in"],
    ] {
        let done = dir.awrite(args.iter().map(Path::new).chain([path.as_path()])).stdin(big.clone()).run();
        done.assert_error(1, &expected).assert_hint("unchanged");
        assert_eq!(crate::common::Snapshot::of(&path), before, "{args:?}");
        assert_no_debris(&at, &["file.txt"]);
    }
    // A producer that would go on for ever is stopped.
    for option in ["--stream", "--append"] {
        let args = [option, path.to_str().unwrap(), "--", "head", "-c", "50000000", "/dev/zero"];
        dir.awrite(args).run().assert_error(1, &expected);
        assert_eq!(crate::common::Snapshot::of(&path), before);
        assert_no_debris(&at, &["file.txt"]);
    }
    let args = ["--stream", path.to_str().unwrap(), "--", "cat", "/dev/zero"];
    dir.awrite(args).run().assert_error(1, &expected);
    // What fits still goes.
    dir.awrite([&path]).stdin("new").quiet_success();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}

/// ext4 keeps the blocks of a reservation that failed half-way.
#[test]
fn a_refused_write_in_place_gives_back_what_it_reserved() {
    if !needs_mount() || !needs("mkfs.ext4") {
        return;
    }
    let dir = TestDir::new();
    let (_outer, at) = Mount::image(&dir, "ext4", 8).unwrap();
    fs::write(at.join("source"), "old").unwrap();
    File::open(at.join("source")).unwrap().sync_all().unwrap();
    let target = dir.file("target", "hidden");
    let _inner = Mount::bind(&at.join("source"), &target);
    let (before, blocks) = (dir.snapshot("target"), fs::metadata(&target).unwrap().blocks());
    let done = dir.awrite(["--in-place", "target"]).stdin(vec![b'x'; 16 << 20]).run();
    done.assert_error(1, "Error: target: No space left on device").assert_hint("unchanged");
    assert_eq!((dir.snapshot("target"), fs::metadata(&target).unwrap().blocks()), (before, blocks));
    fs::write(at.join("other"), vec![b'x'; 1 << 20]).unwrap();
}

#[test]
fn a_backup_that_does_not_fit_changes_nothing() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("full");
    let _mount = Mount::tmpfs("size=256k", &at);
    dir.file("f", vec![b'o'; 1 << 20]);
    let before = dir.snapshot("f");
    let done = dir.awrite(["--backup-dir", "full", "f"]).stdin("new").run();
    done.assert_error_with(1, &["full/f.backup: ", "No space left on device"]);
    assert_eq!(dir.snapshot("f"), before);
    assert_no_debris(&at, &[]);
    dir.assert_holds(&["f", "full"]);
}

/// There is room for no more file, not even for the lock file.
#[test]
fn a_disk_without_inodes_changes_nothing() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("full");
    let mount = Mount::tmpfs("size=1m,nr_inodes=4", &at);
    for free in 0..3 {
        for number in free..3 {
            let _ = fs::write(at.join(number.to_string()), "x");
        }
        let names: Vec<String> =
            crate::common::names_in(&at).into_iter().map(|name| name.into_string().unwrap()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let target = at.join(names.last().unwrap());
        // One for the lock file and one for the new content: that is nowhere else even if it could be.
        for options in [&[][..], &["--in-place"]] {
            let args = options.iter().map(OsStr::new).chain([target.as_os_str()]);
            let done = dir.awrite(args).stdin("new").run();
            if free == 2 {
                done.ok();
            } else {
                done.assert_error_with(1, &["No space left on device"]);
                assert!(!done.stderr.contains("--in-place"), "{done:?}");
                assert_eq!(fs::read_to_string(&target).unwrap(), "x");
            }
            assert_no_debris(&at, &names);
        }
        fs::remove_file(at.join(free.to_string())).unwrap();
    }
    drop(mount);
}

#[test]
fn a_read_only_file_system_says_so() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let at = dir.dir("ro");
    let mount = Mount::tmpfs("size=1m", &at);
    fs::write(at.join("file.txt"), "old").unwrap();
    let before = crate::common::Snapshot::of(&at.join("file.txt"));
    mount.remount("ro");
    for name in ["ro/file.txt", "ro/new.txt"] {
        for option in ["--quiet", "--stream", "--no-wait", "--force", "--if-changed", "--backup"] {
            let done = dir.awrite([option, name]).stdin("new").run();
            done.assert_error(1, &format!("Error: {name}: Cannot create lock file (read-only file system)"));
            // A lock elsewhere would be of no use.
            assert!(!done.stderr.contains("Hint:"), "{done:?}");
        }
        let done = dir.awrite(["lock", name, "--", "true"]).run();
        done.assert_error_with(1, &["read-only file system"]).assert_hint("--lock-dir");
        // Here the temporary file is the first that cannot be made.
        dir.awrite(["--lock-on-commit", name])
            .stdin("new")
            .run()
            .assert_error_with(1, &[&format!("Error: {name}: "), "read-only file system"]);
    }
    // With the lock elsewhere it is the file itself.
    let done = dir.awrite(["--lock-file", "lock", "ro/file.txt"]).stdin("new").run();
    done.assert_error_with(1, &["Error: ro/file.txt: ", "read-only file system"]);
    let done = dir.awrite(["--lock-file", "ro/lock", "f"]).stdin("new").run();
    done.assert_error(1, "Error: ro/lock: Cannot create lock file (read-only file system)");
    dir.awrite(["-D", "ro/a/b/f"]).stdin("new").run().assert_error_with(1, &["ro/a", "read-only file system"]);
    assert_eq!(crate::common::Snapshot::of(&at.join("file.txt")), before);
    assert_no_debris(&at, &["file.txt"]);
    dir.assert_holds(&["ro"]);
}

/// A read-only mount of one file, as a container gets its configuration.
/// What is written to it, nobody else would ever see.
#[test]
fn a_mounted_file_that_has_been_deleted_is_refused() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let source = dir.file("source", "old");
    let target = dir.file("target", "hidden");
    let mount = Mount::bind(&source, &target);
    fs::remove_file(&source).unwrap();
    for option in ["--quiet", "--in-place", "--force", "--keep-inode"] {
        let done = dir.awrite([option, "target"]).stdin("new").run();
        done.assert_error_with(1, &["Error: target: The file that is mounted here has been deleted"]);
        done.assert_hint("mount the file anew");
        assert_eq!(dir.read("target"), "old");
        dir.assert_holds(&["target"]);
    }
    drop(mount);
}

/// With contents that can be exchanged, the inode stays, and every reader sees the old or the new content.
#[test]
fn xfs_exchanges_contents() {
    if !needs_mount() || !needs("mkfs.xfs") || !needs("xfs_db") {
        return;
    }
    let dir = TestDir::new();
    let image = make_image(&dir, "xfs", 320);
    let path = std::env::var("PATH").unwrap_or_default();
    // mkfs.xfs does not know the feature before version 6.10.
    for group in 0..4 {
        let commands = [format!("sb {group}"), "write -d features_incompat 0x4b".to_owned()];
        let mut xfs_db = Command::new("xfs_db");
        xfs_db.arg("-x").args(["-c", &commands[0], "-c", &commands[1]]).arg(&image);
        xfs_db.env("PATH", format!("{path}:/sbin:/usr/sbin")).stdout(Stdio::null());
        assert!(xfs_db.status().unwrap().success());
    }
    let at = dir.dir("xfs");
    let Some(_mount) = Mount::new(&["-t", "xfs", "-o", "loop", image.to_str().unwrap()], &at) else {
        eprintln!("skipped: this kernel cannot exchange contents");
        return;
    };
    let dir = TestDir::made_in(&at);
    dir.file_with_mode("f", "old and longer than the new content", 0o640);
    fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
    let mut open = File::open(dir.join("f")).unwrap();
    let inode = dir.snapshot("f").inode;
    let done = dir.awrite(["-v", "--keep-inode", "-b", "f"]).stdin("new").run();
    assert!(done.ok().stderr.contains("atomic") && !done.stderr.contains("not atomic"), "{done:?}");
    assert_eq!((dir.read("f").as_str(), dir.read("g").as_str()), ("new", "new"));
    assert_eq!(dir.read("f.backup"), "old and longer than the new content");
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut open, &mut seen).unwrap();
    assert_eq!(seen, "new", "whoever has it open sees it too");
    assert_eq!((dir.snapshot("f").inode, dir.mode("f")), (inode, 0o640));
    dir.awrite(["--keep-inode", "-m", "600", "f"]).stdin("x").run().ok();
    assert_eq!((dir.snapshot("g").inode, dir.mode("g"), dir.read("g").as_str()), (inode, 0o600, "x"));
    // One read is under one lock.
    let contents = [vec![b'a'; 3 << 20], vec![b'b'; 2 << 20]];
    dir.awrite(["--keep-inode", "f"]).stdin(contents[0].clone()).run().ok();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 4 << 20];
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let read = std::io::Read::read(&mut File::open(dir.join("g")).unwrap(), &mut buffer).unwrap();
                assert!(contents.iter().any(|content| content[..] == buffer[..read]), "a part of it, {read} bytes");
            }
        });
        for round in 0..20 {
            dir.awrite(["--keep-inode", "f"]).stdin(contents[round % 2].clone()).run().ok();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    dir.assert_holds(&["f", "f.backup", "g"]);
    if needs_strace() {
        exchanging_is_synced(&at);
        killed_while_it_exchanges(&at);
    }
}

/// And an error after it says what the file is now.
fn exchanging_is_synced(parent: &Path) {
    let dir = TestDir::made_in(parent);
    let run = |fault: &str, args: &[&str]| {
        dir.file_with_mode("f", "old", 0o640);
        let mut strace = vec!["-f", "-o", "trace", "-e", "trace=fsync,ioctl,fchmod"];
        if !fault.is_empty() {
            strace.extend(["-e", fault]);
        }
        let args = strace.iter().chain(&[crate::common::AWRITE, "--keep-inode"]).chain(args);
        let done = dir.program("strace", args).stdin("new").run();
        // From the exchange on.
        let trace = dir.read("trace");
        let after = trace.rsplit_once("ioctl(").map_or("", |(_, after)| after);
        (done, after.matches("fsync(").count(), trace.matches("fchmod(").count())
    };
    for (option, syncs) in [("--sync=full", 1), ("--sync=data", 0), ("--sync=none", 0)] {
        let (done, after, _) = run("", &[option, "f"]);
        assert_eq!((done.code, after, dir.read("f").as_str()), (Some(0), syncs, "new"), "{option}");
    }
    let (done, _, modes) = run("", &["-m", "604", "f"]);
    done.ok();
    // The one before the exchange, and the one after it.
    let fault = |number: usize| format!("inject=fchmod:error=EIO:when={number}");
    let (done, ..) = run(&fault(modes - 1), &["-m", "604", "f"]);
    done.assert_error_with(1, &["Error: f: cannot write into it: Input/output error"]);
    assert_eq!(dir.read("f"), "old");
    let (done, ..) = run(&fault(modes), &["-m", "604", "f"]);
    done.assert_error_with(1, &["Error: f: replaced, but cannot set its permissions: Input/output error"]);
    assert_eq!(dir.read("f"), "new");
}

/// Killed at any call: the file is still the same, with its old or its new content.
fn killed_while_it_exchanges(parent: &Path) {
    const OF_INTEREST: [&str; 9] =
        ["close", "fcntl", "fsync", "ioctl", "linkat", "openat", "renameat2", "unlinkat", "write"];
    let dir = TestDir::made_in(parent);
    let args = ["--keep-inode", "-b", "f"].map(str::to_owned).to_vec();
    let program = Program { args, input: "new", always: None, has_command: false };
    dir.file("f", "old and longer");
    let inode = dir.snapshot("f").inode;
    let (done, points) = program.points(&dir);
    done.ok();
    for point in points.iter().filter(|point| OF_INTEREST.contains(&point.call.as_str())) {
        dir.file("f", "old and longer");
        dir.file("f.backup", "earlier");
        program.kill_at(&dir, point);
        let content = dir.read("f");
        assert!(["old and longer", "new"].contains(&content.as_str()), "{point:?}: {content:?}");
        let backup = dir.read("f.backup");
        let expected: &[&str] = if content == "new" { &["old and longer"] } else { &["earlier", "old and longer"] };
        assert!(expected.contains(&backup.as_str()), "{point:?}: {content:?}, {backup:?}");
        assert_eq!(dir.snapshot("f").inode, inode, "{point:?}");
        dir.awrite(["--no-wait", "--keep-inode", "-b", "f"]).stdin("next").run().ok();
        assert_eq!(dir.read("f"), "next");
    }
}

#[test]
fn a_read_only_mounted_file_is_refused() {
    if !needs_mount() {
        return;
    }
    let dir = TestDir::new();
    let source = dir.file("source", "old");
    let target = dir.file("target", "hidden");
    let mount = Mount::bind(&source, &target);
    let status = Command::new("mount").args(["-o", "remount,ro,bind"]).arg(&target).status().unwrap();
    assert!(status.success());
    for option in ["--quiet", "--in-place", "--force", "--keep-inode"] {
        let done = dir.awrite([option, "target"]).stdin("new").run();
        done.assert_error(1, "Error: target: Read-only file system").assert_hint("mounted read-only");
        assert!(!done.stderr.contains("--in-place"), "it would not help: {done:?}");
    }
    assert_eq!(dir.read("target"), "old");
    dir.assert_holds(&["source", "target"]);
    drop(mount);
}

/// The temporary file lies beside its target, whatever is mounted above.
#[test]
fn a_target_on_another_file_system_than_the_working_directory() {
    let dir = TestDir::new();
    let other = TestDir::elsewhere();
    symlink(other.join("f"), dir.join("link")).unwrap();
    for content in ["one", "two"] {
        dir.awrite(["link"]).stdin(content).quiet_success();
        assert_eq!(other.read("f"), content);
    }
    dir.file("in", "from the other one");
    dir.awrite(["-i", "in", "link"]).quiet_success();
    assert_eq!(other.read("f"), "from the other one");
    other.assert_holds(&["f"]);
    dir.assert_holds(&["in", "link"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// A root directory with nothing in it

/// A root directory with the binary and the libraries that it is linked with. If `AWRITE_TEST_STATIC` names a static
/// binary, the directory has that alone.
fn empty_root(dir: &TestDir) -> PathBuf {
    let root = dir.dir("root");
    if let Some(binary) = std::env::var_os("AWRITE_TEST_STATIC") {
        copy_program(Path::new(&binary), &root.join("awrite"));
    } else {
        copy_program(Path::new(AWRITE), &root.join("awrite"));
        let output = Command::new("ldd").arg(AWRITE).output().unwrap();
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if let Some(relative) = word.strip_prefix('/') {
                let copy = root.join(relative);
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                copy_program(Path::new(word), &copy);
            }
        }
    }
    fs::create_dir(root.join("data")).unwrap();
    chmod(&root.join("data"), 0o777);
    root
}

#[test]
fn it_works_in_an_empty_root() {
    if !needs_root() || !needs("chroot") || !needs("ldd") {
        return;
    }
    let dir = TestDir::new();
    let root = empty_root(&dir);
    let data = root.join("data");
    let read = |name: &str| fs::read_to_string(data.join(name)).unwrap();
    for user in ["0:0", "65534:65534"] {
        let run = |args: &[&str]| {
            let user = format!("--userspec={user}");
            dir.program(
                "chroot",
                [&user, root.to_str().unwrap(), "/awrite"].iter().copied().chain(args.iter().copied()),
            )
        };
        run(&["/data/f"]).stdin("one").quiet_success();
        run(&["data/f"]).stdin("two").quiet_success();
        run(&["--stream", "/data/../data/f"]).stdin("three").quiet_success();
        assert_eq!(read("f"), "three");
        run(&["-b", "-i", "/data/f", "/data/g"]).quiet_success();
        run(&["-b", "-a", "/data/f"]).stdin(" four").quiet_success();
        assert_eq!((read("f"), read("f.backup"), read("g")), ("three four".into(), "three".into(), "three".into()));
        run(&["--backup-timestamp", "/data/g"]).stdin("x").quiet_success();
        // The only program there is: itself.
        run(&["/data/g", "--", "/awrite", "--list"]).quiet_success();
        assert!(read("g").contains("awrite"));
        run(&["/data/new", "--", "/awrite", "--version"]).quiet_success();
        assert!(read("new").starts_with("awrite "));
        run(&["/data/g", "--", "/awrite", "--no-such-option"]).run().assert_code(1);
        run(&["/data/g", "--", "sh"]).run().assert_error_with(1, &["/data/g: ", "sh", "No such file"]);
        run(&["--validate", "true", "/data/g"]).stdin("x").run().assert_error_with(1, &["/data/g: "]);
        run(&["-D", "/data/d/e/f"]).stdin("x").quiet_success();
        // There is no directory for temporary files: the copies are beside the file.
        run(&["-e", "/data/g", "--", "/awrite"]).stdin("edited").quiet_success();
        run(&["-e", "--no-such-option", "/data/g", "--", "/awrite"]).stdin("x").run().assert_code(1);
        run(&["--into", "/data/d", "/data/g", "/data/f"]).quiet_success();
        assert_eq!((read("g"), read("d/g"), read("d/f")), ("edited".into(), "edited".into(), "three four".into()));
        run(&["/data/f"]).run().assert_error(1, "Error: No input provided");
        assert!(run(&["--help"]).run().ok().stdout.contains("--stream"));
        assert!(run(&["--json", "/data/f"]).stdin("json").run().ok().stderr.contains("\"committed\""));

        let lock = data.join("f.lock");
        let held = Held::new(&lock);
        chmod(&lock, 0o666);
        run(&["-n", "/data/f"]).stdin("x").run().assert_error(2, "Error: /data/f: File locked by another process");
        run(&["-t", "50ms", "/data/f"]).stdin("x").run().assert_code(2);
        let mut waiter = run(&["/data/f"]).stdin("waited").spawn();
        waiter.wait_for_waiting();
        held.release();
        waiter.finish().ok();
        assert_eq!(read("f"), "waited");

        // Not even standard descriptors.
        let script = format!("exec chroot --userspec={user} root /awrite --allow-empty /data/f <&- >&- 2>&-");
        dir.sh(&script).run().ok();
        assert_eq!(read("f"), "");

        assert!(!lock.exists());
        for entry in fs::read_dir(&data).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let expected = ["f", "g", "new", "d"].contains(&name.as_str()) || name.ends_with(".backup");
            assert!(expected, "{name}");
            if entry.metadata().unwrap().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        assert!(!root.join("dev").exists() && !root.join("proc").exists() && !root.join("tmp").exists());
    }
    assert_eq!(fs::metadata(&root).unwrap().uid(), 0);
}
