//! The file system of a lock file: whether its locks can be trusted, and whether this kernel alone keeps them.

use std::os::fd::AsFd;

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

/// The file systems whose locks another machine decides about: number, name, trusted (statfs(2), linux/magic.h). FUSE
/// counts as local. If its server forwards locks, it too keeps record locks and flock apart.
#[cfg(target_os = "linux")]
const REMOTE: &[(u32, &str, bool)] = &[
    // Their locks depend on the server's lock daemon or on mount options, or are not passed on at all.
    (0x6969, "NFS", false),
    // Mounts by the CIFS and SMB2 protocols have numbers of their own.
    (0x517B, "SMB", false),
    (0xFF53_4D42, "CIFS", false),
    (0xFE53_4D42, "SMB2", false),
    (0x5346_414F, "AFS", false),
    (0x6B41_4653, "AFS", false),
    // Cluster file systems, where flock(2) works between machines, and file systems that only one machine uses.
    (0x0102_1997, "9P", true),
    (0x00C3_6400, "Ceph", true),
    (0x564C, "NCP", true),
    (0x7375_7245, "Coda", true),
    (0x0116_1970, "GFS2", true),
    (0x7461_636F, "OCFS2", true),
    (0x0BD0_0BD0, "Lustre", true),
];

/// The file system that `fd` is on. One that cannot be asked counts as remote and not trusted.
#[cfg(target_os = "linux")]
pub(crate) fn of(fd: impl AsFd) -> FileSystem {
    match rustix::fs::fstatfs(fd) {
        // f_type is a long. The numbers have 32 bits, and some of them have the highest bit set.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(s) => by_number(s.f_type as u32),
        Err(_) => UNKNOWN,
    }
}

#[cfg(target_os = "linux")]
fn by_number(number: u32) -> FileSystem {
    match REMOTE.iter().find(|(remote, ..)| *remote == number) {
        Some(&(_, name, trusted)) => FileSystem { name, local: false, trusted },
        None => LOCAL,
    }
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
        // ext4, xfs, btrfs, tmpfs, overlay, FUSE.
        for number in [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0x6573_5546] {
            assert_eq!(by_number(number), LOCAL);
        }
        let ceph = by_number(0x00C3_6400);
        assert!(ceph.trusted && !ceph.local);
    }
}
