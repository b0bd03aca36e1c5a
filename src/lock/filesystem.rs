//! The file system of a lock file: whether its locks can be trusted, and whether this kernel alone keeps them.

use std::os::fd::AsFd;

#[cfg(target_os = "linux")]
use crate::sys::FileStatus;

/// What the locks of a file system are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// For messages.
    pub(crate) name: &'static str,
    /// This kernel alone decides about locks.
    pub(crate) local: bool,
    /// Advisory locks exclude everybody who uses the file system. Where they do not, or it is not known, link locks are
    /// used.
    pub(crate) trusted: bool,
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
const LOCAL: FileSystem = FileSystem { name: "local", local: true, trusted: true };
const UNKNOWN: FileSystem = FileSystem { name: "unknown file system", local: false, trusted: false };

/// How a file system of the table below is known.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// By this number in statfs(2).
    Number(u32),
    /// By this type in /proc/PID/mountinfo (proc_pid_mountinfo(5)), its number being that of FUSE.
    Type(&'static str),
}

/// The number of all that is served by FUSE, virtiofs included (linux/magic.h, FUSE_SUPER_MAGIC).
#[cfg(target_os = "linux")]
const FUSE: u32 = 0x6573_5546;

/// The file systems that other machines use too: how one is known, its name, and whether its locks can be trusted. Behind
/// each stands where its number or type is from. The type of what FUSE serves is `fuse.` and what its server calls itself
/// (-o subtype in mount.fuse3(8)); libfuse takes the program's name (lib/helper.c, add_default_subtype).
///
/// Not trusted are those whose locks depend on the server's lock daemon or on mount options, or end in this kernel, so that
/// they exclude nobody elsewhere. What FUSE serves from this machine's own disks (bindfs, ntfs-3g, mergerfs) is not in the
/// table: there, this kernel keeps the locks, or hands them to the one server.
#[cfg(target_os = "linux")]
#[rustfmt::skip]
const REMOTE: &[(Known, &str, bool)] = {
    use Known::{Number, Type};
    &[
        (Number(0x6969), "NFS", false),             // linux/magic.h, NFS_SUPER_MAGIC
        (Number(0x517B), "SMB", false),             // linux/magic.h, SMB_SUPER_MAGIC
        (Number(0xFF53_4D42), "CIFS", false),       // linux/magic.h, CIFS_SUPER_MAGIC
        (Number(0xFE53_4D42), "SMB2", false),       // linux/magic.h, SMB2_SUPER_MAGIC
        (Number(0x5346_414F), "AFS", false),        // linux/magic.h, AFS_SUPER_MAGIC
        (Number(0x6B41_4653), "AFS", false),        // linux/magic.h, AFS_FS_MAGIC
        (Number(0x0102_1997), "9P", false),         // linux/magic.h, V9FS_MAGIC; Documentation/filesystems/9p.rst, "posixacl" and "cache": locks are sent only for some protocols
        (Number(0x00C3_6400), "Ceph", true),        // linux/magic.h, CEPH_SUPER_MAGIC; fs/ceph/locks.c asks the metadata server
        (Number(0x564C), "NCP", true),              // linux/magic.h, NCP_SUPER_MAGIC; fs/ncpfs, of one client
        (Number(0x7375_7245), "Coda", true),        // linux/magic.h, CODA_SUPER_MAGIC
        (Number(0x0116_1970), "GFS2", true),        // linux/gfs2_ondisk.h, GFS2_MAGIC; flock(2) is a lock of the cluster
        (Number(0x7461_636F), "OCFS2", true),       // linux/magic.h, OCFS2_SUPER_MAGIC; fs/ocfs2/locks.c, the same
        (Number(0x0BD0_0BD0), "Lustre", true),      // lustre_user.h, LL_SUPER_MAGIC; llite/file.c, the same with -o flock
        (Type("virtiofs"), "virtiofs", false),      // fs/fuse/virtio_fs.c, virtio_fs_type
        (Type("fuse.sshfs"), "sshfs", false),       // sshfs, sshfs.c: -osubtype=sshfs
        (Type("fuse.rclone"), "rclone", false),     // rclone, cmd/mount: Subtype
        (Type("fuse.gcsfuse"), "gcsfuse", false),   // gcsfuse, cmd/mount.go: Subtype
        (Type("fuse.juicefs"), "JuiceFS", false),   // juicefs, pkg/fuse: Name
        (Type("fuse.goofys"), "goofys", false),     // goofys, api: Subtype
        (Type("fuse.seaweedfs"), "SeaweedFS", false), // seaweedfs, weed/command: Name
        (Type("fuse.glusterfs"), "GlusterFS", false), // glusterfs, xlators/mount/fuse: -osubtype
        (Type("fuse.ceph"), "Ceph", false),         // ceph, mount.fuse.ceph(8)
        (Type("fuse.ceph-fuse"), "Ceph", false),    // ceph, ceph-fuse(8); this and the rest: the program's name
        (Type("fuse.s3fs"), "s3fs", false),         // s3fs(1)
        (Type("fuse.ossfs"), "ossfs", false),       // ossfs, made of s3fs
        (Type("fuse.cosfs"), "cosfs", false),       // cosfs, made of s3fs
        (Type("fuse.obsfs"), "obsfs", false),       // obsfs, made of s3fs
        (Type("fuse.blobfuse"), "blobfuse", false), // azure-storage-fuse, version 1
        (Type("fuse.blobfuse2"), "blobfuse2", false), // azure-storage-fuse, version 2
        (Type("fuse.alluxio-fuse"), "Alluxio", false), // alluxio, integration/fuse
        (Type("fuse.fuse_dfs"), "HDFS", false),     // hadoop, fuse-dfs
        (Type("fuse.mfs"), "MooseFS", false),       // moosefs, mfsmount(8): -osubtype=mfs
        (Type("fuse.lizardfs"), "LizardFS", false), // lizardfs, mfsmount(1)
        (Type("fuse.curlftpfs"), "curlftpfs", false), // curlftpfs(1)
        (Type("fuse.smbnetfs"), "SMB", false),      // smbnetfs(1)
        (Type("fuse.gvfsd-fuse"), "GVfs", false),   // gvfs, gvfsd-fuse(1)
        (Type("fuse.vmhgfs-fuse"), "VMware", false), // open-vm-tools, vmhgfs-fuse(1): folders of the machine around
        (Type("fuse.grpcfuse"), "Docker Desktop", false), // Docker Desktop, file sharing: the same
        (Type("fuse.osxfs"), "Docker Desktop", false), // the same, before grpcfuse
    ]
};

/// The file system that `fd` is on. One that cannot be asked counts as remote and not trusted.
#[cfg(target_os = "linux")]
pub(crate) fn of(fd: impl AsFd) -> FileSystem {
    match rustix::fs::fstatfs(&fd) {
        // f_type is a long. The numbers have 32 bits, and some of them have the highest bit set.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(s) => match s.f_type as u32 {
            FUSE => of_fuse(fd),
            number => by_number(number),
        },
        Err(_) => UNKNOWN,
    }
}

#[cfg(target_os = "linux")]
fn known(is_it: impl Fn(Known) -> bool) -> FileSystem {
    match REMOTE.iter().find(|(known, ..)| is_it(*known)) {
        Some(&(_, name, trusted)) => FileSystem { name, local: false, trusted },
        None => LOCAL,
    }
}

/// What is served by FUSE here. Not even that can be asked without /proc, or of what is mounted outside this root.
#[cfg(target_os = "linux")]
fn of_fuse(fd: impl AsFd) -> FileSystem {
    let asked = || {
        let dev = FileStatus::of(fd).ok()?.id.dev;
        let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
        mounts.split(|&b| b == b'\n').find_map(|line| type_in(line, dev)).map(by_type)
    };
    asked().unwrap_or(FileSystem { name: "FUSE of an unknown kind", ..UNKNOWN })
}

#[cfg(target_os = "linux")]
fn by_number(number: u32) -> FileSystem {
    known(|known| known == Known::Number(number))
}

#[cfg(target_os = "linux")]
fn by_type(kind: &[u8]) -> FileSystem {
    known(|known| matches!(known, Known::Type(known) if known.as_bytes() == kind))
}

/// The type of the file system in a line of mountinfo, if it is the device `dev`: `36 35 98:0 /mnt1 /mnt2 rw,noatime
/// master:1 - ext3 /dev/root rw,errors=continue`. Some fields may be missing before the hyphen. No field has a blank.
#[cfg(target_os = "linux")]
fn type_in(line: &[u8], dev: u64) -> Option<&[u8]> {
    let mut fields = line.split(|&b| b == b' ');
    let device = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    if fields.nth(2)? != device.as_bytes() {
        return None;
    }
    fields.find(|field| *field == b"-")?;
    fields.next()
}

/// The systems of the BSD family say themselves whether a file system is local.
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
pub(crate) fn of(fd: impl AsFd) -> FileSystem {
    match rustix::fs::fstatfs(fd) {
        Ok(s) if s.f_flags as u64 & libc::MNT_LOCAL as u64 != 0 => LOCAL,
        Ok(_) => FileSystem { name: "network file system", local: false, trusted: false },
        Err(_) => UNKNOWN,
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
pub(crate) fn of(_fd: impl AsFd) -> FileSystem {
    UNKNOWN
}

/// Whether this kernel alone decides about locks on the file system of `fd`. One that cannot be asked counts as remote:
/// the caller then leaves out what is only safe locally.
pub(crate) fn is_local(fd: impl AsFd) -> bool {
    of(fd).local
}

/// Whether an error of flock(2) says that there is no such lock on this file system, or none at present: a FUSE server or
/// an NFS mount without a lock daemon.
pub(crate) fn has_no_flock(errno: i32) -> bool {
    /// The kernel's own ENOTSUPP (include/linux/errno.h), which some file systems let out.
    const ENOTSUPP: i32 = 524;
    matches!(errno, libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOLCK | ENOTSUPP)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_by_number() {
        for (number, name) in
            [(0x6969, "NFS"), (0x517B, "SMB"), (0xFF53_4D42, "CIFS"), (0xFE53_4D42, "SMB2"), (0x6B41_4653, "AFS")]
        {
            assert_eq!(by_number(number), FileSystem { name, local: false, trusted: false });
        }
        // ext4, xfs, btrfs, tmpfs, overlay.
        for number in [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630] {
            assert_eq!(by_number(number), LOCAL);
        }
        let ceph = by_number(0x00C3_6400);
        assert!(ceph.trusted && !ceph.local);
    }

    #[test]
    fn what_fuse_serves_by_type() {
        let line = b"310 38 0:52 / /mnt/host rw,nosuid shared:7 - fuse.sshfs web1:/srv rw,user_id=0";
        let dev = rustix::fs::makedev(0, 52);
        assert_eq!(type_in(line, dev), Some(&b"fuse.sshfs"[..]));
        assert_eq!(type_in(b"1 2 0:52 / / rw - virtiofs shared rw", dev), Some(&b"virtiofs"[..]));
        assert_eq!(type_in(line, rustix::fs::makedev(0, 5)), None);
        for broken in [&b""[..], b"1 2 0:52", b"1 2 0:52 / / rw -", b"1 2 0:52 / / rw"] {
            assert_eq!(type_in(broken, dev), None);
        }
        for kind in ["virtiofs", "fuse.sshfs", "fuse.rclone", "fuse.gcsfuse", "fuse.juicefs"] {
            let there = by_type(kind.as_bytes());
            assert!(!there.trusted && !there.local, "{kind}");
        }
        for kind in ["fuse", "fuse.bindfs", "fuseblk", "fuse.mergerfs", "fuse.portal"] {
            assert_eq!(by_type(kind.as_bytes()), LOCAL, "{kind}");
        }
    }

    #[test]
    fn no_file_system_is_in_the_table_twice() {
        for (n, (known, ..)) in REMOTE.iter().enumerate() {
            assert!(!REMOTE[..n].iter().any(|(earlier, ..)| earlier == known), "{known:?}");
        }
    }
}
