//! Power cuts: a file system is shut down hard right after awrite has returned. What awrite said it had done must be
//! there. ext4 and xfs have an ioctl for this, which their own tests use. `tests/power` is slower and takes any file
//! system: it replays the writes to a virtual machine's disk, and stops at each of them.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::common::{AWRITE, Done, Run, TestDir, needs, needs_mount, needs_strace, rounds, wait_until};
use crate::filesystems::{Mount, make_image};

/// What happens to journal entries that are not yet on the disk. If they are written, a missing sync of the file shows:
/// it has a name and no content. If they are lost, a missing sync of the directory shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Journal {
    Written = 1,
    Lost = 2,
}

/// A write that is acknowledged, and what must be there afterwards.
#[derive(Clone, Copy)]
struct Write {
    args: &'static [&'static str],
    after: &'static [(&'static str, Content)],
    before: Before,
    /// What it ends with.
    code: i32,
}

/// What there is before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Synced,
    /// Nobody has synced the file that is to be backed up.
    Unsynced,
    /// And there is a backup from before, which is synced.
    EarlierBackup,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Old,
    New,
    /// Of the earlier backup.
    Earlier,
    OldOrNew,
    OldAndNew,
    /// The record of a lease, with the token that was printed.
    Record,
}

const REPLACE: Write = Write { args: &["f"], after: &[("f", Content::New)], before: Before::Synced, code: 0 };
const CREATE: Write = Write { args: &["n"], after: &[("n", Content::New)], ..REPLACE };
const BACKUP: Write = Write {
    args: &["--backup", "f"],
    after: &[("f", Content::New), ("f.backup", Content::Old)],
    before: Before::Unsynced,
    ..REPLACE
};

const WRITES: &[Write] = &[
    REPLACE,
    CREATE,
    Write { args: &["--stream", "f"], ..REPLACE },
    Write { args: &["--lock-on-commit", "f"], ..REPLACE },
    Write { args: &["--lock-method=link", "f"], ..REPLACE },
    Write { args: &["-i", "in", "f"], ..REPLACE },
    Write { args: &["-i", "in", "f", "--", "cat"], ..REPLACE },
    // Only this file system: what sync(2) alone writes would be durable in the tests beside this one too.
    Write { args: &["--validate", "sync -f .", "f"], ..REPLACE },
    Write { args: &["--if-changed", "f"], ..REPLACE },
    Write { args: &["--append", "f"], after: &[("f", Content::OldAndNew)], ..REPLACE },
    BACKUP,
    Write { before: Before::EarlierBackup, ..BACKUP },
    Write { args: &["--backup-timestamp", "f"], after: &[("f", Content::New), ("*.backup", Content::Old)], ..BACKUP },
    Write { args: &["--backup-mode=600", "f"], ..BACKUP },
    Write { args: &["--backup-dir=d", "f"], after: &[("f", Content::New), ("d/f.backup", Content::Old)], ..BACKUP },
    Write { args: &["--keep-inode", "f"], ..REPLACE },
    Write { args: &["--keep-inode", "--backup", "f"], before: Before::EarlierBackup, ..BACKUP },
    Write { args: &["--mkdir", "a/b/n"], after: &[("a/b/n", Content::New)], ..REPLACE },
    Write {
        args: &["lock", "--acquire", "--owner=A", "--ttl=1h", "f"],
        after: &[("f", Content::Old), ("f.lease", Content::Record)],
        ..REPLACE
    },
];

/// More than one block, so that a part would show.
fn content(word: &str) -> String {
    format!("{word}\n").repeat(10_000)
}

pub(crate) struct Disk {
    pub(crate) dir: TestDir,
    kind: &'static str,
    image: PathBuf,
    pub(crate) at: PathBuf,
}

impl Disk {
    pub(crate) fn new(kind: &'static str) -> Disk {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { TestDir::made_in(shm) } else { TestDir::new() };
        let image = make_image(&dir, kind, if kind == "xfs" { 320 } else { 64 });
        let at = dir.dir("at");
        Disk { dir, kind, image, at }
    }

    pub(crate) fn mount(&self) -> Mount {
        // By default ext4 syncs by itself when a program renames without a sync, and every 5 seconds. That would hide a
        // missing one.
        let options = if self.kind == "ext4" { "loop,noauto_da_alloc,commit=300" } else { "loop" };
        Mount::new(&["-t", self.kind, "-o", options, self.image.to_str().unwrap()], &self.at).unwrap()
    }

    /// Runs awrite, below strace with `injection`, pulls the plug, and says what is not as it must be.
    fn cut(&self, write: &Write, journal: Journal, injection: Option<&str>) -> Vec<String> {
        let mount = self.mount();
        let dir = self.prepare(write.before);
        let run = match injection {
            None => self.dir.awrite(write.args),
            Some(injection) => self.below_strace(injection, write.args.iter().copied()),
        };
        let done = run.current_dir(&dir).stdin(content("new")).run();
        done.assert_code(write.code);
        shut_down(&self.at, journal);
        self.unmount(mount);
        let mount = self.mount();
        let wrong = |(name, content): &(&str, Content)| is_wrong(&found(&dir, name), *content, &done);
        let wrong = write.after.iter().filter_map(wrong).collect();
        self.unmount(mount);
        wrong
    }

    /// awrite, whose syncs go as `injection` says.
    fn below_strace<'a>(&self, injection: &'a str, args: impl Iterator<Item = &'a str>) -> Run {
        let strace = ["-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", injection, AWRITE];
        self.dir.program("strace", strace.into_iter().chain(args))
    }

    /// The directory to write in.
    fn prepare(&self, before: Before) -> PathBuf {
        let dir = self.at.join("w");
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(dir.join("d")).unwrap();
        fs::write(dir.join("f"), content("old")).unwrap();
        fs::write(dir.join("in"), content("new")).unwrap();
        if before == Before::EarlierBackup {
            fs::write(dir.join("f.backup"), content("earlier")).unwrap();
        }
        rustix::fs::syncfs(File::open(&dir).unwrap()).unwrap();
        if before != Before::Synced {
            fs::remove_file(dir.join("f")).unwrap();
            fs::write(dir.join("f"), content("old")).unwrap();
        }
        dir
    }

    /// Unmounts it everywhere: a process that has just got its own mount namespace may still have it mounted there. To
    /// mount the image again would give us that mount, which is shut down.
    pub(crate) fn unmount(&self, mount: Mount) {
        drop(mount);
        let image = self.image.to_str().unwrap();
        let is_used = |device: fs::DirEntry| {
            fs::read_to_string(device.path().join("loop/backing_file")).is_ok_and(|file| file.trim_end() == image)
        };
        wait_until("the disk has been let go", || !fs::read_dir("/sys/block").unwrap().flatten().any(is_used));
    }
}

/// The file `name`, where that may begin with a star.
fn found(dir: &Path, name: &str) -> PathBuf {
    let Some(end) = name.strip_prefix('*') else { return dir.join(name) };
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.into_iter().find(|path| path.to_str().unwrap().ends_with(end)).unwrap_or_else(|| dir.join(name))
}

fn is_wrong(path: &Path, expected: Content, done: &Done) -> Option<String> {
    let found = match fs::read_to_string(path) {
        Ok(found) => found,
        Err(e) => return Some(format!("{}: {e}", path.display())),
    };
    let right = match expected {
        Content::Old => found == content("old"),
        Content::New => found == content("new"),
        Content::Earlier => found == content("earlier"),
        Content::OldOrNew => found == content("old") || found == content("new"),
        Content::OldAndNew => found == content("old") + &content("new"),
        Content::Record => serde_json::from_str::<serde_json::Value>(&found)
            .is_ok_and(|record| record["token"].as_u64() == done.stdout.trim().parse().ok()),
    };
    let start: String = found.chars().take(20).collect();
    (!right).then(|| format!("{}: {} bytes, {start:?}, not {expected:?}", path.display(), found.len()))
}

#[allow(unsafe_code)]
pub(crate) fn shut_down(at: &Path, journal: Journal) {
    /// `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`.
    const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
    let (dir, flags) = (File::open(at).unwrap(), journal as u32);
    // SAFETY: the call reads one u32, which outlives it.
    let outcome = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN, &raw const flags) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

/// Whether it happens in one of a few tries. What nobody syncs may be durable all the same, when the kernel or another
/// program of this machine, sync(1) among them, writes it meanwhile.
fn is_ever(mut happens: impl FnMut() -> bool) -> bool {
    (0..10).any(|_| happens())
}

fn everything_survives(kind: &'static str) {
    if !needs_mount() || !needs(&format!("mkfs.{kind}")) {
        return;
    }
    let disk = Disk::new(kind);
    for journal in [Journal::Written, Journal::Lost] {
        for write in WRITES.iter().step_by(rounds(4, 1)) {
            assert_eq!(disk.cut(write, journal, None), [""; 0], "{:?}, journal {journal:?}", write.args);
        }
    }
}

/// Shows that the test can fail: without one of the two syncs, the same write does not survive.
fn without_sync_it_does_not(kind: &'static str) {
    if !needs_mount() || !needs_strace() || !needs(&format!("mkfs.{kind}")) {
        return;
    }
    let disk = Disk::new(kind);
    for (write, when, journal) in [
        (&REPLACE, 1, Journal::Written),
        (&CREATE, 1, Journal::Written),
        (&REPLACE, 2, Journal::Lost),
        (&CREATE, 2, Journal::Lost),
        // The old content comes first.
        (&BACKUP, 1, Journal::Lost),
        (&Write { before: Before::EarlierBackup, ..BACKUP }, 1, Journal::Lost),
    ] {
        let injection = format!("inject=fsync:retval=0:when={when}");
        let is_lost = is_ever(|| disk.cut(write, journal, Some(&injection)).len() == 1);
        assert!(is_lost, "{:?} survives without sync number {when}, journal {journal:?}", write.args);
    }
    // strace alone changes nothing.
    assert_eq!(disk.cut(&REPLACE, Journal::Lost, Some("inject=fsync:retval=0:when=3")), [""; 0]);
}

/// `--sync data`: the old content may come back, a part of the new one may not.
fn synced_data_is_never_partial(kind: &'static str) {
    if !needs_mount() || !needs(&format!("mkfs.{kind}")) {
        return;
    }
    let disk = Disk::new(kind);
    let write = Write { args: &["--sync=data", "f"], ..REPLACE };
    assert_eq!(disk.cut(&write, Journal::Written, None), [""; 0]);
    let write = Write { after: &[("f", Content::OldOrNew)], ..write };
    assert_eq!(disk.cut(&write, Journal::Lost, None), [""; 0]);
}

/// The backup's name is on the disk before the file is overwritten, or, elsewhere, replaced.
fn a_backup_elsewhere_is_there_too(kind: &'static str) {
    if !needs_mount() || !needs_strace() || !needs(&format!("mkfs.{kind}")) {
        return;
    }
    let (disk, other) = (Disk::new(kind), Disk::new(kind));
    for args in
        [&["--keep-inode"][..], &["--sync=data"], &["--sync=data", "--backup-mode=600"], &["--backup-timestamp"]]
    {
        assert!(keeps_backup(&disk, &other, args, None), "{args:?}");
        // Where it is not what it is meant to be, it is no directory that is synced.
        let is_lost = is_ever(|| !keeps_backup(&disk, &other, args, Some("inject=fsync:retval=0:when=2+")));
        assert!(is_lost, "{args:?}: the backup survives without its syncs");
    }
}

/// Whether the backup of a write on `disk`, made on `other`, is there after a power cut.
fn keeps_backup(disk: &Disk, other: &Disk, args: &[&str], injection: Option<&str>) -> bool {
    let (mount, other_mount) = (disk.mount(), other.mount());
    let (dir, other_dir) = (disk.prepare(Before::Unsynced), other.prepare(Before::EarlierBackup));
    let place = format!("--backup-dir={}", other_dir.display());
    let args = args.iter().copied().chain([place.as_str(), "f"]);
    let run = match injection {
        None => disk.dir.awrite(args),
        Some(injection) => disk.below_strace(injection, args),
    };
    let done = run.current_dir(&dir).stdin(content("new")).run();
    done.ok();
    shut_down(&disk.at, Journal::Lost);
    shut_down(&other.at, Journal::Lost);
    disk.unmount(mount);
    other.unmount(other_mount);
    let other_mount = other.mount();
    let is_kept = fs::read_dir(&other_dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        // Not the temporary one, which ends the same.
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("f.") && is_wrong(&path, Content::Old, &done).is_none()
    });
    other.unmount(other_mount);
    is_kept
}

/// What a write that failed has left as it was is still there after a power cut.
fn a_failed_write_keeps_the_earlier_backup(kind: &'static str) {
    if !needs_mount() || !needs_strace() || !needs(&format!("mkfs.{kind}")) {
        return;
    }
    let disk = Disk::new(kind);
    let failing = Write {
        after: &[("f", Content::Old), ("f.backup", Content::Earlier)],
        before: Before::EarlierBackup,
        code: 1,
        ..BACKUP
    };
    for journal in [Journal::Written, Journal::Lost] {
        assert_eq!(disk.cut(&failing, journal, Some("inject=fsync:error=EIO:when=2")), [""; 0], "{journal:?}");
    }
}

macro_rules! on_each {
    ($($kind:ident)*) => {
        $(mod $kind {
            #[test] fn everything_survives() { super::everything_survives(stringify!($kind)); }
            #[test] fn without_sync_it_does_not() { super::without_sync_it_does_not(stringify!($kind)); }
            #[test] fn a_backup_elsewhere_is_there_too() { super::a_backup_elsewhere_is_there_too(stringify!($kind)); }
            #[test] fn a_failed_write_keeps_the_earlier_backup() {
                super::a_failed_write_keeps_the_earlier_backup(stringify!($kind));
            }
            #[test] fn synced_data_is_never_partial() { super::synced_data_is_never_partial(stringify!($kind)); }
        })*
    };
}

on_each! { ext4 xfs }
