//! What is known of the file system that a lock file is on: whether its locks can be trusted, and whether they are kept
//! in this kernel.

use std::os::fd::AsFd;

/// What a file system's locks are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// For messages.
    pub(crate) name: &'static str,
    /// This kernel alone decides about locks.
    pub(crate) local: bool,
    /// Advisory locks exclude all who share the file system. Where they do not, or nobody can say, `link` is used.
    pub(crate) trusted: bool,
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
const LOCAL: FileSystem = FileSystem { name: "local", local: true, trusted: true };
const UNKNOWN: FileSystem = FileSystem { name: "unknown file system", local: false, trusted: false };

/// statfs(2) and linux/magic.h: those whose locks another machine decides about. FUSE is local unless its server
/// forwards locks, and then record locks and flock stay apart there too.
#[cfg(target_os = "linux")]
const REMOTE: &[(u32, &str, bool)] = &[
    // Locks that depend on the server's lock daemon, on mount options, or are not passed on at all.
    (0x6969, "NFS", false),
    // CIFS and SMB2 show numbers of their own beside SMB's.
    (0x517B, "SMB", false),
    (0xFF53_4D42, "CIFS", false),
    (0xFE53_4D42, "SMB2", false),
    (0x5346_414F, "AFS", false),
    (0x6B41_4653, "AFS", false),
    // Cluster file systems that keep the promise of flock(2) between machines, and those shared by one machine only.
    (0x0102_1997, "9P", true),
    (0x00C3_6400, "Ceph", true),
    (0x564C, "NCP", true),
    (0x7375_7245, "Coda", true),
    (0x0116_1970, "GFS2", true),
    (0x7461_636F, "OCFS2", true),
    (0x0BD0_0BD0, "Lustre", true),
];

/// Asks for the file system that `fd` is on. One that cannot be asked is taken as remote and not to be trusted.
#[cfg(target_os = "linux")]
pub(crate) fn of(fd: impl AsFd) -> FileSystem {
    match rustix::fs::fstatfs(fd) {
        // f_type is a long; the numbers are 32 bits, some with the highest set.
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

/// Whether `fd` is on a file system whose locks this kernel alone decides. What cannot be asked is taken as remote: the
/// caller then does without what is only safe locally.
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
