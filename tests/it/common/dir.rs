//! A directory for each test, and what is in it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::leftovers::Started;
use super::{AWRITE, Run, extent, is_root};

/// A directory of the test's own, removed at its end. Children run in it, so that messages show relative names, and may
/// not outlive it.
pub(crate) struct TestDir {
    /// Before the directory, which must still be there when its processes are looked for.
    started: Started,
    dir: tempfile::TempDir,
    /// A copy of the binary that other users can reach: the build directory may lie below a private home.
    reachable: OnceLock<(tempfile::TempDir, PathBuf)>,
}

impl TestDir {
    pub(crate) fn new() -> TestDir {
        TestDir::made_in(extent::place())
    }

    /// The same on the disk, for tests of what not every file system in memory has: attributes, access control lists.
    pub(crate) fn on_disk() -> TestDir {
        TestDir::made_in(&std::env::temp_dir())
    }

    /// The same on another file system than that of [`TestDir::new`], where there is one.
    pub(crate) fn elsewhere() -> TestDir {
        TestDir::made_in(&extent::other_place())
    }

    /// The same below `parent`: for a file system of one's choice.
    pub(crate) fn made_in(parent: &Path) -> TestDir {
        let dir = tempfile::Builder::new().prefix("awrite-test-").tempdir_in(parent).unwrap();
        // Unprivileged children must be able to look in.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let started = Started::by(dir.path());
        TestDir { started, dir, reachable: OnceLock::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Makes the file `name`.
    pub(crate) fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Makes the file `name` with exactly this mode.
    pub(crate) fn file_with_mode(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.file(name, content);
        chmod(&path, mode);
        path
    }

    /// Makes the program `name`. By a child process, as [`copy_program`] does and for its reason.
    #[track_caller]
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        self.sh(&format!("cat >{name} && chmod 755 {name}")).stdin(text).quiet_success();
        self.join(name)
    }

    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// What the file `name` holds.
    #[track_caller]
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.join(name);
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[track_caller]
    pub(crate) fn mode(&self, name: impl AsRef<Path>) -> u32 {
        fs::metadata(self.join(name)).unwrap().mode() & 0o7777
    }

    #[track_caller]
    pub(crate) fn snapshot(&self, name: impl AsRef<Path>) -> Snapshot {
        Snapshot::of(&self.join(name))
    }

    /// The names in here, hidden ones too.
    pub(crate) fn names(&self) -> BTreeSet<OsString> {
        names_in(self.path())
    }

    /// Panics when anything but `expected` is in here.
    #[track_caller]
    pub(crate) fn assert_holds(&self, expected: &[&str]) {
        assert_no_debris(self.path(), expected);
    }

    /// The binary, to be run in this directory.
    pub(crate) fn awrite<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        self.program(AWRITE, args)
    }

    /// Another program, to be run in this directory.
    pub(crate) fn program<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Run {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.path()).env("LC_ALL", "C").env("BIN", AWRITE);
        // Settings in the caller's environment must not change what is tested.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"AWRITE_") {
                command.env_remove(name);
            }
        }
        self.started.mark(&mut command);
        Run::new(command)
    }

    /// A shell script, to be run in this directory, with the binary as `$BIN`.
    pub(crate) fn sh(&self, script: &str) -> Run {
        self.program("sh", ["-c", script])
    }

    /// `awrite-lock`.
    pub(crate) fn lock(&self, args: &[&str]) -> Run {
        self.awrite([&["lock"], args].concat())
    }

    /// A script under the lock of `f`, `$BIN` being awrite.
    pub(crate) fn below_lock(&self, options: &[&str], script: &str) -> Run {
        self.lock(&[options, &["f", "-c", script]].concat())
    }

    /// The binary as an unprivileged user: nobody if the tests run as root, otherwise the same user.
    pub(crate) fn awrite_unprivileged<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        if !is_root() {
            return self.awrite(args);
        }
        let binary = self.reachable_binary();
        let mut run = self.program(binary, args);
        run.become_nobody();
        run.env("BIN", binary)
    }

    pub(crate) fn reachable_binary(&self) -> &Path {
        let (_, path) = self.reachable.get_or_init(|| {
            let dir = tempfile::Builder::new().prefix("awrite-bin-").tempdir().unwrap();
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let path = dir.path().join("awrite");
            copy_program(Path::new(AWRITE), &path);
            (dir, path)
        });
        path
    }

    /// Opens this directory to all users.
    pub(crate) fn open_to_all(&self) {
        chmod(self.path(), 0o777);
    }
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies a program that will be run. A child process copies it: if this process did, a child that another test starts
/// at that moment would inherit the open descriptor, and exec would fail with ETXTBSY.
#[track_caller]
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(status.success());
    chmod(to, 0o755);
}

pub(crate) fn names_in(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// What the names of awrite's temporary files for `base` begin with.
pub(crate) fn temp_stem(base: &str) -> String {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = base.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!(".awrite-{:08x}", (hash >> 32) as u32 ^ hash as u32)
}

/// The name that awrite gives to a temporary file for `base`, if nobody else has one.
pub(crate) fn temp_name(base: &str) -> String {
    format!("{}.{base}", temp_stem(base))
}

/// Panics when `dir` holds anything but the names `expected`: a lock file, a temporary file, a backup.
#[track_caller]
pub(crate) fn assert_no_debris(dir: &Path, expected: &[&str]) {
    let expected: BTreeSet<OsString> = expected.iter().map(OsString::from).collect();
    assert_eq!(names_in(dir), expected, "in {}", dir.display());
}

/// Everything of a file that a failed write must leave as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    content: Vec<u8>,
    pub(crate) inode: u64,
    mode: u32,
    owner: (u32, u32),
    pub(crate) links: u64,
    modified: (i64, i64),
}

impl Snapshot {
    #[track_caller]
    pub(crate) fn of(path: &Path) -> Snapshot {
        let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Snapshot {
            content: fs::read(path).unwrap(),
            inode: meta.ino(),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            links: meta.nlink(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}
