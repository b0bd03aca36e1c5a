//! Which file systems keep their locks in this kernel.

use std::os::fd::AsFd;

/// Whether `fd` is on a file system whose locks this kernel alone decides. What cannot be asked is taken as remote: the
/// caller then does without what is only safe locally.
#[cfg(target_os = "linux")]
pub(crate) fn is_local(fd: impl AsFd) -> bool {
    // statfs(2) and linux/magic.h. CIFS and SMB2 show numbers of their own beside SMB's; FUSE is local unless its
    // server forwards locks, and then record locks and flock stay apart there too.
    const REMOTE: &[u32] = &[
        0x6969,      // NFS
        0x517B,      // SMB
        0xFF53_4D42, // CIFS
        0xFE53_4D42, // SMB2
        0x5346_414F, // AFS
        0x6B41_4653, // kAFS
        0x0102_1997, // 9P
        0x00C3_6400, // Ceph
        0x564C,      // NCP
        0x7375_7245, // Coda
        0x0116_1970, // GFS2
        0x7461_636F, // OCFS2
        0x0BD0_0BD0, // Lustre
    ];
    match rustix::fs::fstatfs(fd) {
        // f_type is a long; the numbers are 32 bits, some with the highest set.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(s) => !REMOTE.contains(&(s.f_type as u32)),
        Err(_) => false,
    }
}

/// There is no registration here (it needs open-file-description locks), so the question does not matter.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_local(_fd: impl AsFd) -> bool {
    false
}
