//! A directory that is held open, and all system calls on the names in it. They are relative to its descriptor, so they
//! mean the same directory even if it is renamed meanwhile.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::{Errno, retry_on_intr};

/// For calls that set the times of a file: the file system's clock.
const NOW: Timestamps = {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Timestamps { last_access: now, last_modification: now }
};

/// What identifies an inode while somebody has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
    Unknown,
}

impl FileKind {
    /// For messages like that of EISDIR: "Is a …".
    pub(crate) fn name(self) -> &'static str {
        match self {
            FileKind::Regular => "regular file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symbolic link",
            FileKind::Fifo => "FIFO",
            FileKind::Socket => "socket",
            FileKind::CharacterDevice => "character device",
            FileKind::BlockDevice => "block device",
            FileKind::Unknown => "special file",
        }
    }
}

/// What statx(2) tells about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStatus {
    pub(crate) id: FileId,
    pub(crate) kind: FileKind,
    /// Permission bits, set-id and sticky included: `07777`.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) links: u64,
    /// Something is mounted on it: rename onto it is EBUSY.
    pub(crate) mount_root: bool,
    /// It has the attribute +i (chattr(1)): nobody may change, replace or remove it, root included.
    pub(crate) immutable: bool,
    /// It has the attribute +a: nobody may replace or remove it, or, of a directory, anything in it.
    pub(crate) append_only: bool,
    /// When the content was last written, in nanoseconds since 1970 (mtime; anybody may set it).
    pub(crate) modified: i128,
    /// When the inode was last changed, a link or a new name included (ctime).
    pub(crate) changed: i128,
}

impl FileStatus {
    /// Of an open file.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<FileStatus> {
        Ok(from_stat(&rustix::fs::fstat(fd)?))
    }

    /// The same as it is now. NFS and FUSE clients remember it for a while.
    pub(crate) fn fresh(fd: impl AsFd) -> io::Result<FileStatus> {
        #[cfg(target_os = "linux")]
        return Ok(status_at(fd.as_fd(), Path::new(""), AtFlags::STATX_FORCE_SYNC)?);
        #[cfg(not(target_os = "linux"))]
        FileStatus::of(fd)
    }

    /// Of the file that `path` means, symbolic links followed.
    pub(crate) fn following(path: &Path) -> io::Result<FileStatus> {
        Ok(from_stat(&rustix::fs::stat(path)?))
    }

    /// Of `path` itself, a symbolic link not followed; `None` when there is nothing.
    pub(crate) fn at(dir: BorrowedFd<'_>, path: &Path) -> io::Result<Option<FileStatus>> {
        match status_at(dir, path, AtFlags::empty()) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(target_os = "linux")]
fn status_at(dir: BorrowedFd<'_>, path: &Path, besides: AtFlags) -> Result<FileStatus, Errno> {
    use rustix::fs::{StatxAttributes, StatxFlags, makedev, statx};
    // Unlike lstat(2), statx mounts what an automount point stands for, unless told not to.
    let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | besides;
    if path.as_os_str().is_empty() {
        flags |= AtFlags::EMPTY_PATH;
    }
    match statx(dir, path, flags, StatxFlags::BASIC_STATS) {
        Ok(x) => Ok(FileStatus {
            id: FileId { dev: makedev(x.stx_dev_major, x.stx_dev_minor), ino: x.stx_ino },
            kind: kind_of(u32::from(x.stx_mode)),
            mode: u32::from(x.stx_mode) & 0o7777,
            uid: x.stx_uid,
            gid: x.stx_gid,
            size: x.stx_size,
            links: u64::from(x.stx_nlink),
            mount_root: x.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
                && x.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            immutable: x.stx_attributes.contains(StatxAttributes::IMMUTABLE),
            append_only: x.stx_attributes.contains(StatxAttributes::APPEND),
            modified: nanoseconds(x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec),
            changed: nanoseconds(x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec),
        }),
        // Before Linux 4.11, and EPERM under older container runtimes' system call filters.
        Err(Errno::NOSYS | Errno::PERM) if path.as_os_str().is_empty() => Ok(from_stat(&rustix::fs::fstat(dir)?)),
        Err(Errno::NOSYS | Errno::PERM) => Ok(from_stat(&rustix::fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW)?)),
        Err(e) => Err(e),
    }
}

#[cfg(not(target_os = "linux"))]
fn status_at(dir: BorrowedFd<'_>, path: &Path, _besides: AtFlags) -> Result<FileStatus, Errno> {
    Ok(from_stat(&rustix::fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW)?))
}

// The fields' types differ between targets.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion, clippy::cast_lossless)]
fn from_stat(s: &rustix::fs::Stat) -> FileStatus {
    FileStatus {
        id: FileId { dev: s.st_dev as u64, ino: s.st_ino as u64 },
        kind: kind_of(s.st_mode as u32),
        mode: s.st_mode as u32 & 0o7777,
        uid: s.st_uid,
        gid: s.st_gid,
        size: s.st_size as u64,
        links: s.st_nlink as u64,
        mount_root: false,
        immutable: false,
        append_only: false,
        modified: nanoseconds(s.st_mtime as i64, s.st_mtime_nsec as u32),
        changed: nanoseconds(s.st_ctime as i64, s.st_ctime_nsec as u32),
    }
}

fn nanoseconds(seconds: i64, nanos: u32) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

fn kind_of(mode: u32) -> FileKind {
    kind_of_type(rustix::fs::FileType::from_raw_mode(mode as _))
}

fn tell_entry(name: &CStr, kind: rustix::fs::FileType, each: &mut impl FnMut(&OsStr, Option<FileKind>)) {
    if name != c"." && name != c".." {
        let kind = Some(kind_of_type(kind)).filter(|kind| *kind != FileKind::Unknown);
        each(OsStr::from_bytes(name.to_bytes()), kind);
    }
}

fn kind_of_type(kind: rustix::fs::FileType) -> FileKind {
    use rustix::fs::FileType;
    match kind {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => FileKind::Unknown,
    }
}

/// A directory, opened once.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    /// As the caller gave it, for messages and for child processes; empty: the current directory.
    path: PathBuf,
    status: FileStatus,
    /// Opened with O_PATH, because this user may search and write it but not read it. Then fsync does not work.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    path_only: bool,
    /// How files without a name get one in it, once that has been found out.
    link_way: OnceLock<Option<LinkWay>>,
}

impl Dir {
    fn new(fd: OwnedFd, path: PathBuf, path_only: bool) -> io::Result<Dir> {
        let status = status_at(fd.as_fd(), Path::new(""), AtFlags::empty())?;
        Ok(Dir { fd, path, status, path_only, link_way: OnceLock::new() })
    }

    /// Opens `path`; an empty path is the current directory.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        let opened = named(path);
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (fd, path_only) = match retry_on_intr(|| rustix::fs::open(opened, flags | OFlags::RDONLY, Mode::empty())) {
            Ok(fd) => (fd, false),
            #[cfg(target_os = "linux")]
            Err(Errno::ACCESS) => {
                (retry_on_intr(|| rustix::fs::open(opened, flags | OFlags::PATH, Mode::empty()))?, true)
            }
            Err(e) => return Err(e.into()),
        };
        Dir::new(fd, path.to_owned(), path_only)
    }

    /// Opens `path` to read the names in it: see [`Dir::read_some`].
    pub(crate) fn open_to_read_names(path: &Path) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open(named(path), flags, Mode::empty()))?;
        Dir::new(fd, path.to_owned(), false)
    }

    /// Opens the directory `name` in it to read the names in that, never through a symbolic link.
    pub(crate) fn open_child(&self, name: &OsStr) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Dir::new(self.open_at(name, flags, Mode::empty())?, self.path.join(name), false)
    }

    /// Opens the directory at `path`, relative to this one; an empty path is this one. Messages call it `path` as seen from
    /// here.
    pub(crate) fn open_relative(&self, path: &Path) -> io::Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (fd, path_only) = match self.open_at(named(path).as_os_str(), flags | OFlags::RDONLY, Mode::empty()) {
            Ok(fd) => (fd, false),
            #[cfg(target_os = "linux")]
            Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
                (self.open_at(named(path).as_os_str(), flags | OFlags::PATH, Mode::empty())?, true)
            }
            Err(e) => return Err(e),
        };
        Dir::new(fd, self.path.join(path), path_only)
    }

    /// Reads on from where the last call stopped, as many entries as `buffer` has room for. Calls `each` with their names,
    /// without `.` and `..`, and their kinds; `None`: the file system does not tell. Returns false at the end.
    #[cfg(target_os = "linux")]
    pub(crate) fn read_some(
        &self,
        buffer: &mut [MaybeUninit<u8>],
        mut each: impl FnMut(&OsStr, Option<FileKind>),
    ) -> io::Result<bool> {
        let mut entries = rustix::fs::RawDir::new(&self.fd, buffer);
        loop {
            let Some(entry) = entries.next() else { return Ok(false) };
            match entry {
                Ok(entry) => tell_entry(entry.file_name(), entry.file_type(), &mut each),
                Err(Errno::INTR) => continue,
                // A directory that has been removed since has no entries.
                Err(Errno::NOENT) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
            if entries.is_buffer_empty() {
                return Ok(true);
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn read_some(
        &self,
        _buffer: &mut [MaybeUninit<u8>],
        mut each: impl FnMut(&OsStr, Option<FileKind>),
    ) -> io::Result<bool> {
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            tell_entry(entry.file_name(), entry.file_type(), &mut each);
        }
        Ok(false)
    }

    /// Makes [`Dir::read_some`] start over.
    pub(crate) fn rewind(&self) -> io::Result<()> {
        rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0))?;
        Ok(())
    }

    /// Whether the effective user may make and remove names in it.
    pub(crate) fn may_change(&self) -> io::Result<()> {
        self.may_write(OsStr::new("."))
    }

    /// Whether this user may neither remove nor rename a name of `file` in it: it is sticky, and both are others'.
    pub(crate) fn protects(&self, file: &FileStatus) -> bool {
        const STICKY: u32 = 0o1000;
        if self.status.mode & STICKY == 0 {
            return false;
        }
        let user = rustix::process::geteuid().as_raw();
        self.status.uid != user && file.uid != user && !super::thread::may_act_as_owner()
    }

    /// Whether its path still leads to it.
    pub(crate) fn still_there(&self) -> bool {
        FileStatus::following(named(&self.path)).is_ok_and(|now| now.id == self.status.id)
    }

    pub(crate) fn id(&self) -> FileId {
        self.status.id
    }

    /// What it was like when it was opened.
    pub(crate) fn opened(&self) -> &FileStatus {
        &self.status
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `name` in it, as a path for messages and children.
    pub(crate) fn join(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Makes an NFS client ask its server whether names in here have changed. Without that, a name may stand for the file
    /// that the client saw last, for up to a minute, though another client has put a new one there.
    pub(crate) fn refresh(&self) {
        // An error shows again in the call that follows.
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{StatxFlags, statx};
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
            let _ = statx(&self.fd, "", flags, StatxFlags::BASIC_STATS);
        }
    }

    pub(crate) fn status(&self, name: &OsStr) -> io::Result<Option<FileStatus>> {
        FileStatus::at(self.fd.as_fd(), Path::new(name))
    }

    /// The same of what stands behind a symbolic link.
    pub(crate) fn status_behind(&self, name: &OsStr) -> io::Result<Option<FileStatus>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::empty()) {
            Ok(status) => Ok(Some(from_stat(&status))),
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens `name`; a symbolic link is refused (ELOOP), and the descriptor is not inherited.
    pub(crate) fn open_file(&self, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(self.open_at(name, flags, bits(mode))?.into())
    }

    /// Opens an existing file to read, following a symbolic link where `follow` says so. Never waits for a FIFO, but for
    /// somebody who has a lease on the file.
    pub(crate) fn open_to_read(&self, name: &OsStr, follow: bool) -> io::Result<File> {
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        Ok(super::lease::open_past_leases(|| self.open_at(name, flags, Mode::empty()))?.into())
    }

    fn open_at(&self, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        match retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, mode)) {
            // FreeBSD's error for a symbolic link under O_NOFOLLOW (open(2) there). No other system's open returns it.
            Err(Errno::MLINK) => Err(Errno::LOOP.into()),
            opened => Ok(opened?),
        }
    }

    /// Opens a new file without a name (`O_TMPFILE`).
    #[cfg(target_os = "linux")]
    pub(crate) fn open_unnamed(&self, mode: u32) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(retry_on_intr(|| rustix::fs::openat(&self.fd, ".", flags, bits(mode)))?.into())
    }

    /// No such thing here.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open_unnamed(&self, _mode: u32) -> io::Result<File> {
        Err(Errno::NOSYS.into())
    }

    /// Whether the effective user may write `name`. access(2) would ask for the real user. open(2) for writing is ETXTBSY
    /// on a running program, and every watcher is told that the file was written.
    pub(crate) fn may_write(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::accessat(&self.fd, name, Access::WRITE_OK, AtFlags::EACCESS)?)
    }

    /// Whether a file of this `status` in here could be unlinked now, as far as that is known before it is tried.
    pub(crate) fn ensure_may_unlink(&self, status: &FileStatus) -> io::Result<()> {
        rustix::fs::accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
        let user = rustix::process::geteuid();
        // Root without CAP_FOWNER is taken for root.
        let sticky = self.status.mode & 0o1000 != 0
            && !user.is_root()
            && ![status.uid, self.status.uid].contains(&user.as_raw());
        if sticky || status.immutable || status.append_only || self.status.append_only {
            return Err(Errno::PERM.into());
        }
        Ok(())
    }

    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    pub(crate) fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    pub(crate) fn rename(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &to_dir.fd, to)?)
    }

    /// Renames unless `to` exists. EINVAL where the file system cannot (FUSE, NFS).
    #[cfg(target_os = "linux")]
    pub(crate) fn rename_new(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(&self.fd, from, &to_dir.fd, to, rustix::fs::RenameFlags::NOREPLACE)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn rename_new(&self, _from: &OsStr, _to_dir: &Dir, _to: &OsStr) -> io::Result<()> {
        Err(Errno::INVAL.into())
    }

    /// Exchanges two names in it. EINVAL where the file system cannot.
    #[cfg(target_os = "linux")]
    pub(crate) fn exchange(&self, one: &OsStr, other: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(&self.fd, one, &self.fd, other, rustix::fs::RenameFlags::EXCHANGE)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn exchange(&self, _one: &OsStr, _other: &OsStr) -> io::Result<()> {
        Err(Errno::INVAL.into())
    }

    pub(crate) fn link(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(&self.fd, from, &to_dir.fd, to, AtFlags::empty())?)
    }

    /// Gives an unnamed file `name`, by `way`.
    pub(crate) fn link_unnamed(&self, file: &File, way: LinkWay, name: &OsStr) -> io::Result<()> {
        match way {
            #[cfg(target_os = "linux")]
            LinkWay::EmptyPath => rustix::fs::linkat(file, "", &self.fd, name, AtFlags::EMPTY_PATH)?,
            _ => rustix::fs::linkat(CWD, proc_path(file), &self.fd, name, AtFlags::SYMLINK_FOLLOW)?,
        }
        Ok(())
    }

    /// How an unnamed file can be given a name here, found without giving one: a link called `.` is EEXIST, but only after
    /// the kernel has accepted the source. `None`: neither way works (no /proc, and no right to AT_EMPTY_PATH, which before
    /// Linux 6.10 takes CAP_DAC_READ_SEARCH).
    pub(crate) fn way_to_link(&self, file: &File) -> Option<LinkWay> {
        let find = || {
            [LinkWay::EmptyPath, LinkWay::ProcFd].into_iter().find(|&way| {
                let probe = self.link_unnamed(file, way, OsStr::new("."));
                matches!(&probe, Err(e) if e.raw_os_error() == Some(libc::EEXIST))
            })
        };
        *self.link_way.get_or_init(find)
    }

    /// Makes the names in it durable. False: this file system cannot sync a directory.
    pub(crate) fn sync(&self) -> io::Result<bool> {
        match super::call::retry(|| self.sync_once()) {
            Ok(()) => Ok(true),
            Err(e) if super::call::unsupported(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn sync_once(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self.path_only {
            // fsync refuses O_PATH descriptors. syncfs writes the whole file system, the directory included.
            return self.sync_file_system();
        }
        // On macOS fsync leaves data in the drive's cache (fsync(2)). Not every file system has F_FULLFSYNC.
        #[cfg(target_vendor = "apple")]
        if rustix::fs::fcntl_fullfsync(&self.fd).is_ok() {
            return Ok(());
        }
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Writes the whole file system that it is on to the disk.
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        match self.path_only {
            true => rustix::fs::syncfs(self.open_unnamed(0o600)?)?,
            false => rustix::fs::syncfs(&self.fd)?,
        }
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }

    /// Whether [`Dir::sync_file_system`] makes durable whatever has been written to it, and tells of errors. Linux has told of
    /// them since 5.8 (syncfs(2)). What serves a FUSE or network file system is not told to sync.
    #[cfg(target_os = "linux")]
    pub(crate) fn can_sync_file_system(&self) -> bool {
        /// ext2 to ext4, XFS, Btrfs, F2FS, tmpfs, overlay (linux/magic.h).
        const KNOWN: [u32; 6] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0x0102_1994, 0x794C_7630];
        let release = rustix::system::uname();
        let mut numbers = release.release().to_bytes().split(|b| !b.is_ascii_digit());
        let mut number = || std::str::from_utf8(numbers.next()?).ok()?.parse::<u32>().ok();
        let tells = (number(), number()) >= (Some(5), Some(8));
        // As in lock/filesystem.rs.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let known = || rustix::fs::fstatfs(&self.fd).is_ok_and(|fs| KNOWN.contains(&(fs.f_type as u32)));
        !self.path_only && tells && known()
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn can_sync_file_system(&self) -> bool {
        false
    }

    /// Sets access and modification time of `name` to now.
    pub(crate) fn touch(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::utimensat(&self.fd, name, &NOW, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The greatest length of a name in it, as the file system says.
    pub(crate) fn longest_name(&self) -> Option<usize> {
        usize::try_from(rustix::fs::fstatvfs(&self.fd).ok()?.f_namemax).ok()
    }

    /// All names in it.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        // A descriptor of its own: reading moves the position in the directory.
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned());
        }
        Ok(names)
    }
}

/// Sets access and modification time of an open file to now, by the clock of the file system (the server's, on NFS).
pub(crate) fn touch(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::futimens(file, &NOW))?)
}

/// When an open file was modified, in nanoseconds since 1970, and how many names it has. On NFS the server is asked, not
/// this machine's cache.
pub(crate) fn modified_and_links(file: &File) -> io::Result<(i128, u64)> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{StatxFlags, statx};
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        match statx(file, "", flags, StatxFlags::MTIME | StatxFlags::NLINK) {
            Ok(x) => {
                return Ok((nanoseconds(x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec), u64::from(x.stx_nlink)));
            }
            // As in status_at.
            Err(Errno::NOSYS | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let status = FileStatus::of(file)?;
    Ok((status.modified, status.links))
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How a file without a name gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkWay {
    /// `linkat(fd, "", …, AT_EMPTY_PATH)`.
    EmptyPath,
    /// `linkat("/proc/self/fd/N", …)`.
    ProcFd,
}

fn proc_path(file: &File) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn named(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

// RawMode is u16 on macOS and FreeBSD.
#[allow(clippy::unnecessary_cast)]
fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as rustix::fs::RawMode)
}
