//! Mode, owner, extended attributes and ACLs of a new file.
//!
//! The order matters. Owner first: chown clears set-id bits and capabilities, even for root. Then the ACL, set or taken
//! away, while the file is still 0600: until then a mode bit for the group would stand for the ACL's mask, and give the
//! group what only the mask allows. Then the mode, then all other attributes.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;

use crate::options::Ownership;
use crate::original::{ACL, Original};
use crate::sys::{FileStatus, set_mode, xattr};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;
/// An NFSv4 server's access lists. The permission bits are a summary of them, not something beside them.
const NFS4_ACL: &[u8] = b"system.nfs4_";
/// Made anew by the kernel for each content; a copied one would be wrong, and lock everybody out.
const MEASURED: &[&CStr] = &[c"security.ima", c"security.evm"];
const CAPABILITIES: &CStr = c"security.capability";

/// What the new file shall have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Permission bits; `None`: the original's.
    pub(crate) mode: Option<u32>,
    pub(crate) ownership: Ownership,
    pub(crate) xattrs: bool,
}

/// Gives `file`, created 0600, its metadata. Returns what could not be carried over, in words.
pub(crate) fn finish(file: &File, original: &Original, wanted: Wanted) -> io::Result<Vec<String>> {
    let mut left = Vec::new();
    let old = &original.status;
    own(file, old, wanted.ownership)?;
    let kept_owner = !needs_same_owner(old) || same_owner(file, old)?;
    let mut mode = wanted.mode.unwrap_or(if kept_owner { old.mode } else { old.mode & !SET_ID });
    if wanted.mode.is_none() && mode != old.mode {
        left.push("set-user-id and set-group-id bits, since the owner is another".to_owned());
    }
    let names = match original.content() {
        Ok(old_file) if wanted.xattrs => {
            let names = list(old_file)?;
            if !names.iter().any(|n| n.as_c_str() == ACL) {
                drop_inherited_acl(file)?;
            } else if copy_attribute(old_file, file, ACL).is_err() {
                // Without the ACL the group's bits are its mask: more than the group had.
                left.push("the access control list".to_owned());
                mode &= !0o070;
            }
            names
        }
        // Not to be carried over, or not readable. With the original's mode goes that nobody else has access.
        _ => {
            if wanted.mode.is_none() {
                drop_inherited_acl(file)?;
                if let Some(acl) = original.acl() {
                    mode &= !0o070 | owning_group(&acl);
                    if wanted.xattrs {
                        left.push("the access control list".to_owned());
                    }
                }
            }
            Vec::new()
        }
    };
    set_mode(file, mode)?;
    for name in &names {
        let name = name.as_c_str();
        if name == ACL || MEASURED.contains(&name) || (name == CAPABILITIES && !same_owner(file, old)?) {
            continue;
        }
        // The original's would bring its bits back over the mode that was asked for.
        if name.to_bytes().starts_with(NFS4_ACL) && mode != old.mode {
            continue;
        }
        if original.content().and_then(|old_file| copy_attribute(old_file, file, name)).is_err() {
            left.push(format!("extended attribute {}", name.to_string_lossy()));
        }
    }
    Ok(left)
}

fn own(file: &File, old: &FileStatus, ownership: Ownership) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(old.uid), Gid::from_raw(old.gid));
    match ownership {
        Ownership::Writer => Ok(()),
        Ownership::Keep => Ok(fchown(file, Some(uid), Some(gid))?),
        Ownership::TryKeep => match fchown(file, Some(uid), Some(gid)) {
            // The owner may not be given away, but a group that one is in may be set.
            Err(e) if is_refusal(e) => match fchown(file, None, Some(gid)) {
                Err(e) if is_refusal(e) => Ok(()),
                outcome => Ok(outcome?),
            },
            outcome => Ok(outcome?),
        },
    }
}

/// Not allowed; an owner whom this user namespace does not know; a file system without owners (chown(2)).
fn is_refusal(e: Errno) -> bool {
    matches!(e, Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP)
}

fn needs_same_owner(old: &FileStatus) -> bool {
    old.mode & SET_ID != 0
}

fn same_owner(file: &File, old: &FileStatus) -> io::Result<bool> {
    let now = FileStatus::of(file)?;
    Ok((now.uid, now.gid) == (old.uid, old.gid))
}

/// Takes away the ACL that a directory's default ACL has given the new file: the original had none, and under its mode
/// the entries would come into force.
fn drop_inherited_acl(file: &File) -> io::Result<()> {
    match xattr::remove(file, ACL) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The permission bits of the owning group itself. In the mode of a file with such a list the mask stands in their
/// place, which may be more than the group had.
fn owning_group(acl: &[u8]) -> u32 {
    /// As in linux/posix_acl_xattr.h: after the version, four bytes, entries of tag, permissions and id, little-endian.
    const GROUP_OBJ: [u8; 2] = [0x04, 0x00];
    let mut entries = acl.get(4..).unwrap_or_default().chunks_exact(8);
    entries.find(|entry| entry[..2] == GROUP_OBJ).map_or(0, |entry| u32::from(entry[2] & 0o7) << 3)
}

fn copy_attribute(from: &File, to: &File, name: &CStr) -> io::Result<()> {
    Ok(xattr::set(to, name, &xattr::get(from, name)?)?)
}

/// The names of `file`'s attributes; none where the file system has none.
fn list(file: &File) -> io::Result<Vec<CString>> {
    match xattr::list(file) {
        Ok(names) => {
            Ok(names.split(|&b| b == 0).filter(|n| !n.is_empty()).filter_map(|n| CString::new(n).ok()).collect())
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}
