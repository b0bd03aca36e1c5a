//! Mode, owner, extended attributes and ACLs of a new file.
//!
//! [`plan`] decides from what was found and what is wanted; [`apply`] finds, plans and does. Its order matters:
//!
//! 1. The owner. chown clears set-id bits and capabilities, even for root.
//! 2. The ACL, set or removed, while the file is still 0600. Until then a mode bit for the group would stand for the
//!    ACL's mask, and give the group what only the mask allows.
//! 3. The mode.
//! 4. All other attributes.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io;

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;

use crate::options::Ownership;
use crate::original::{ACL, Original};
use crate::sys::{FileStatus, set_mode, xattr};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;
/// The bits of the group, or of the ACL's mask where there is an ACL.
const GROUP: u32 = 0o070;
/// An NFSv4 server's access lists. The permission bits are a summary of them, not something beside them.
const NFS4_ACL: &[u8] = b"system.nfs4_";
/// The kernel makes these anew for each content. A copied one would be wrong, and lock everybody out.
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

/// Something of the original that the new file does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    SetId,
    Acl,
    Attribute(CString),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::SetId => f.write_str("set-user-id and set-group-id bits, since the owner is another"),
            Lost::Acl => f.write_str("the access control list"),
            Lost::Attribute(name) => write!(f, "extended attribute {}", name.to_string_lossy()),
        }
    }
}

/// The original's access control list.
#[derive(Debug)]
enum Acl {
    /// It has none.
    Absent,
    /// It can be carried over.
    Known(Vec<u8>),
    /// It could not be read, or not be set on the new file.
    Failed,
    /// Attributes are not carried over, or the original cannot be read. Its list, where it has one and that is known.
    Left(Option<Vec<u8>>),
}

/// What to do about the new file's ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AclStep<'a> {
    Set(&'a [u8]),
    /// A directory's default ACL may have given it one.
    Remove,
    /// As the kernel made it.
    Leave,
}

#[derive(Debug)]
struct Plan<'a> {
    acl: AclStep<'a>,
    mode: u32,
    left: Vec<Lost>,
}

/// What becomes of mode and ACL: of an original with `old_mode` and `acl`, where the new file has the same owner and
/// group or not.
fn plan(old_mode: u32, acl: &Acl, same_owner: bool, wanted: Wanted) -> Plan<'_> {
    let mut left = Vec::new();
    let mut mode = wanted.mode.unwrap_or(old_mode);
    if wanted.mode.is_none() && !same_owner && old_mode & SET_ID != 0 {
        mode &= !SET_ID;
        left.push(Lost::SetId);
    }
    let acl = match acl {
        Acl::Known(list) => AclStep::Set(list),
        // Under the original's mode the entries of an inherited list would come into force.
        Acl::Absent => AclStep::Remove,
        Acl::Failed => {
            // Without the list the group's bits are its mask: more than the group had.
            mode &= !GROUP;
            left.push(Lost::Acl);
            AclStep::Leave
        }
        Acl::Left(_) if wanted.mode.is_some() => AclStep::Leave,
        // With the original's mode goes that nobody else has access.
        Acl::Left(list) => {
            if let Some(list) = list {
                mode &= !GROUP | owning_group(list);
                left.extend(wanted.xattrs.then_some(Lost::Acl));
            }
            AclStep::Remove
        }
    };
    Plan { acl, mode, left }
}

/// Whether the attribute `name` is carried over, once owner, ACL and mode are set.
fn is_carried(name: &CStr, same_owner: bool, same_mode: bool) -> bool {
    // An NFSv4 list would bring the original's bits back over the mode that was asked for.
    let undoes_mode = name.to_bytes().starts_with(NFS4_ACL) && !same_mode;
    name != ACL && !MEASURED.contains(&name) && (name != CAPABILITIES || same_owner) && !undoes_mode
}

/// Gives `file`, created 0600, its metadata. Returns what could not be carried over.
pub(crate) fn apply(file: &File, original: &Original, wanted: Wanted) -> io::Result<Vec<Lost>> {
    let old = &original.status;
    set_owner(file, old, wanted.ownership)?;
    let (names, acl) = match original.content() {
        Ok(old_file) if wanted.xattrs => {
            let names = list(old_file)?;
            let acl = match names.iter().any(|name| name.as_c_str() == ACL) {
                true => xattr::get(old_file, ACL).map_or(Acl::Failed, Acl::Known),
                false => Acl::Absent,
            };
            (names, acl)
        }
        _ => (Vec::new(), Acl::Left(if wanted.mode.is_none() { original.acl() } else { None })),
    };
    let needs_owner = old.mode & SET_ID != 0 || names.iter().any(|name| name.as_c_str() == CAPABILITIES);
    let same_owner = !needs_owner || has_owner_of(file, old)?;

    let mut plan = self::plan(old.mode, &acl, same_owner, wanted);
    match plan.acl {
        AclStep::Set(list) => {
            if xattr::set(file, ACL, list).is_err() {
                plan = self::plan(old.mode, &Acl::Failed, same_owner, wanted);
            }
        }
        AclStep::Remove => remove_acl(file)?,
        AclStep::Leave => {}
    }
    set_mode(file, plan.mode)?;
    for name in names {
        if is_carried(&name, same_owner, plan.mode == old.mode)
            && original.content().and_then(|old_file| copy_attribute(old_file, file, &name)).is_err()
        {
            plan.left.push(Lost::Attribute(name));
        }
    }
    Ok(plan.left)
}

fn set_owner(file: &File, old: &FileStatus, ownership: Ownership) -> io::Result<()> {
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

fn has_owner_of(file: &File, old: &FileStatus) -> io::Result<bool> {
    let now = FileStatus::of(file)?;
    Ok((now.uid, now.gid) == (old.uid, old.gid))
}

fn remove_acl(file: &File) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `user::rw-`, `user:2003:rw-`, `group::r--`, `mask::rw-`, `other::---`.
    fn some_list() -> Vec<u8> {
        let entry = |tag: u8, bits: u8, id: u32| [&[tag, 0, bits, 0], &id.to_le_bytes()[..]].concat();
        let none = u32::MAX;
        let entries = [
            entry(0x01, 6, none),
            entry(0x02, 6, 2003),
            entry(0x04, 4, none),
            entry(0x10, 6, none),
            entry(0x20, 0, none),
        ];
        [&[2, 0, 0, 0], entries.concat().as_slice()].concat()
    }

    fn known() -> Acl {
        Acl::Known(some_list())
    }

    fn unread() -> Acl {
        Acl::Left(Some(some_list()))
    }

    const NONE: Acl = Acl::Absent;
    const SAME: bool = true;
    const OTHER: bool = false;

    #[test]
    fn mode_and_acl_in_every_case() {
        use AclStep::{Leave, Remove, Set};
        let list = some_list();
        // What the original has, whether the owner is the same, what is asked for -> what the new file gets, what is lost.
        let both = vec![Lost::SetId, Lost::Acl];
        for (old, acl, owner, (mode, xattrs), (step, new, left)) in [
            (0o644, NONE, SAME, (None, true), (Remove, 0o644, vec![])),
            (0o644, NONE, OTHER, (None, true), (Remove, 0o644, vec![])),
            (0o644, NONE, SAME, (Some(0o600), true), (Remove, 0o600, vec![])),
            (0o4755, NONE, SAME, (None, true), (Remove, 0o4755, vec![])),
            (0o6755, NONE, OTHER, (None, true), (Remove, 0o755, vec![Lost::SetId])),
            (0o1755, NONE, OTHER, (None, true), (Remove, 0o1755, vec![])),
            (0o4755, NONE, OTHER, (Some(0o4711), true), (Remove, 0o4711, vec![])),
            (0o660, known(), SAME, (None, true), (Set(&list), 0o660, vec![])),
            (0o660, known(), SAME, (Some(0o600), true), (Set(&list), 0o600, vec![])),
            (0o660, Acl::Failed, SAME, (None, true), (Leave, 0o600, vec![Lost::Acl])),
            (0o660, Acl::Failed, SAME, (Some(0o664), true), (Leave, 0o604, vec![Lost::Acl])),
            (0o4770, Acl::Failed, OTHER, (None, true), (Leave, 0o700, both.clone())),
            (0o660, unread(), SAME, (None, false), (Remove, 0o640, vec![])),
            (0o660, unread(), SAME, (None, true), (Remove, 0o640, vec![Lost::Acl])),
            (0o4770, unread(), OTHER, (None, true), (Remove, 0o740, both)),
            (0o660, Acl::Left(None), SAME, (None, false), (Remove, 0o660, vec![])),
            (0o660, Acl::Left(None), SAME, (Some(0o664), false), (Leave, 0o664, vec![])),
        ] {
            let case = format!("{old:o} {acl:?} {owner} {mode:?} {xattrs}");
            let plan = plan(old, &acl, owner, Wanted { mode, ownership: Ownership::Writer, xattrs });
            assert_eq!((plan.acl, plan.mode, plan.left), (step, new, left), "{case}");
        }
    }

    #[test]
    fn attributes_that_are_carried_over() {
        for (name, owner, same_mode, carried) in [
            (c"user.a", OTHER, false, true),
            (ACL, SAME, true, false),
            (c"security.ima", SAME, true, false),
            (c"security.selinux", OTHER, false, true),
            (c"security.capability", SAME, false, true),
            (c"security.capability", OTHER, true, false),
            (c"system.nfs4_acl", OTHER, true, true),
            (c"system.nfs4_acl", SAME, false, false),
        ] {
            assert_eq!(is_carried(name, owner, same_mode), carried, "{name:?} {owner} {same_mode}");
        }
    }

    #[test]
    fn a_damaged_list_gives_the_group_nothing() {
        assert_eq!(owning_group(&some_list()), 0o040);
        for bad in [&b""[..], b"\x02", b"\x02\0\0\0\x04\0\x07"] {
            assert_eq!(owning_group(bad), 0);
        }
    }
}
