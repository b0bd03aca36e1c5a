//! Owner, mode, ACL and extended attributes of a new file.
//!
//! Nobody may gain access, at no instant: what cannot be kept is taken from others too. [`plan`] decides from what was
//! found, what could be kept and what is wanted; [`apply`] finds, keeps, plans and does. Its order matters:
//!
//! 1. The owner and the group. chown clears set-id bits and capabilities, even for root.
//! 2. The attributes, while the file is 0600: without the right to write it, its own owner may not set them.
//! 3. The ACL, set or removed, while the file is still 0600. Until then a mode bit for the group would stand for the
//!    ACL's mask, and give the group what only the mask allows. The list that is set has the final mode in it.
//! 4. The mode.
//! 5. An NFSv4 server's list, which the mode would have changed.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;

use crate::acl::{self, ALL, List};
use crate::notice::{Notice, Observer};
use crate::options::Ownership;
use crate::original::{Acl, Original};
use crate::sys::host::IdMap;
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
    /// Permission bits that are asked for; `None`: the original's.
    pub(crate) mode: Option<u32>,
    pub(crate) ownership: Ownership,
    pub(crate) xattrs: bool,
}

/// Something of the original that the new file does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    what: What,
    /// Somebody had access by it and has none, or less, now.
    denies: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Acl,
    Owner(u32),
    Group(u32),
    SetId,
    Attribute(CString),
    /// Their names could not be read.
    Attributes,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Acl => f.write_str("the access control list"),
            What::Owner(id) => write!(f, "owner {id}"),
            What::Group(id) => write!(f, "group {id}"),
            What::SetId => f.write_str("set-user-id and set-group-id bits"),
            What::Attribute(name) => write!(f, "extended attribute {}", name.to_string_lossy()),
            What::Attributes => f.write_str("extended attributes"),
        }
    }
}

/// Tells what the new file at `path` has lost: with a warning where somebody loses access by that.
pub(crate) fn tell(lost: &[Lost], path: &Path, observer: &Observer) {
    let (denied, harmless): (Vec<&Lost>, Vec<&Lost>) = lost.iter().partition(|lost| lost.denies);
    tell_line(&denied, |text| observer.tell(&Notice::Warning { path, text }));
    tell_line(&harmless, |text| observer.tell(&Notice::Info { path, text }));
}

/// The same of a backup. Nobody had access to that.
pub(crate) fn tell_of_backup(lost: &[Lost], path: &Path, observer: &Observer) {
    tell_line(&lost.iter().collect::<Vec<_>>(), |text| observer.tell(&Notice::Info { path, text }));
}

fn tell_line(lost: &[&Lost], tell: impl FnOnce(&str)) {
    let what: Vec<String> = lost.iter().map(|lost| lost.what.to_string()).collect();
    if !what.is_empty() {
        tell(&format!("not kept: {}", what.join(", ")));
    }
}

/// What of the original's ownership the new file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    owner: bool,
    group: bool,
}

impl Kept {
    const BOTH: Kept = Kept { owner: true, group: true };

    fn of(now: &FileStatus, old: &FileStatus) -> Kept {
        Kept {
            owner: now.uid == old.uid && !IdMap::Users.may_hide(old.uid),
            group: now.gid == old.gid && !IdMap::Groups.may_hide(old.gid),
        }
    }
}

/// Whether the original's ACL is carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carry {
    Wanted,
    /// Nobody asked for it.
    Unwanted,
    /// It could not be set on the new file; or the original cannot be read.
    Failed,
}

/// What to do about the new file's ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AclStep {
    Set(List),
    /// A directory's default ACL may have given it one. Under the original's mode its entries would come into force.
    Remove,
    /// As the kernel made it.
    Leave,
}

#[derive(Debug)]
struct Plan {
    acl: AclStep,
    mode: u32,
    lost: Vec<Lost>,
}

/// Who had access to the original, beside its owner.
struct Access {
    group: u32,
    others: u32,
    /// What each named user has, each named group, and one of those at least.
    every_user: u32,
    every_group: u32,
    anybody: u32,
}

impl Access {
    fn of(mode: u32, acl: &Acl) -> Access {
        let others = mode & ALL;
        match acl {
            Acl::Absent => Access { group: mode >> 3 & ALL, others, every_user: ALL, every_group: ALL, anybody: 0 },
            Acl::Known(list) => Access {
                group: list.owning_group(),
                others,
                every_user: list.every_user(),
                every_group: list.every_group(),
                anybody: list.anybody(),
            },
            // It may deny anything to anybody.
            Acl::Unknown => Access { group: 0, others, every_user: 0, every_group: 0, anybody: ALL },
        }
    }
}

/// What becomes of mode and ACL: of an original with `old` as its status and `acl`.
///
/// Whoever is not of the group any more is one of the others, and one of the new group was one of the others or of any
/// group that is named. So the denials of a group that is lost go to both, and those of a list that is lost too. A mode
/// that is asked for is only cut where what is lost was not given up by the caller.
fn plan(old: &FileStatus, acl: &Acl, kept: Kept, carry: Carry, wanted: Wanted) -> Plan {
    let before = Access::of(old.mode, acl);
    let mut mode = wanted.mode.unwrap_or(old.mode);
    let mut lost = Vec::new();
    let mut lose = |what, denies| lost.push(Lost { what, denies });
    let (group_asked, others_asked) = match wanted.mode {
        Some(mode) => (mode >> 3 & ALL, mode & ALL),
        None => (before.group, before.others),
    };
    let (mut group, mut others) = (group_asked, others_asked);
    let mut list = match acl {
        Acl::Known(list) if carry == Carry::Wanted => Some(list.clone()),
        _ => None,
    };
    let loses_list = list.is_none() && *acl != Acl::Absent;
    if loses_list && (wanted.mode.is_none() || carry != Carry::Unwanted) {
        group &= before.group & before.every_user;
        others &= before.every_user & before.every_group;
        let cut = group_asked & before.group & !group | others_asked & !others;
        let denies = cut != 0 || carry != Carry::Unwanted && before.anybody & !others != 0;
        if denies || carry != Carry::Unwanted {
            lose(What::Acl, denies);
        }
    }
    let tried = wanted.ownership != Ownership::Writer;
    if !kept.group && (tried || wanted.mode.is_none()) {
        let members = group;
        group &= others & before.every_group;
        if wanted.mode.is_none() {
            others &= members;
        }
        if let Some(list) = &mut list {
            list.limit_owning_group(group);
        }
        if tried || members & !others != 0 {
            lose(What::Group(old.gid), tried && members & !others != 0);
        }
    }
    if !kept.owner && tried {
        lose(What::Owner(old.uid), old.mode >> 6 & ALL & !(group | others) != 0);
    }
    if wanted.mode.is_none() && wanted.ownership != Ownership::Keep && old.mode & SET_ID != 0 {
        mode &= !SET_ID;
        lose(What::SetId, true);
    }
    let mask = if list.is_some() { mode >> 3 & ALL } else { group };
    mode = mode & !(GROUP | ALL) | mask << 3 | others;
    let acl = match list {
        Some(mut list) => {
            list.set_mode(mode);
            AclStep::Set(list)
        }
        None if carry == Carry::Unwanted && wanted.mode.is_some() => AclStep::Leave,
        None => AclStep::Remove,
    };
    Plan { acl, mode, lost }
}

/// What the original has besides its status.
struct Found {
    attributes: Vec<CString>,
    acl: Acl,
    carry: Carry,
    lost: Vec<Lost>,
}

impl Found {
    fn of(original: &Original, wanted: Wanted) -> Found {
        let mut found = Found { attributes: Vec::new(), acl: Acl::Absent, carry: Carry::Unwanted, lost: Vec::new() };
        if !wanted.xattrs {
            if wanted.mode.is_none() {
                found.acl = original.acl();
            }
            return found;
        }
        found.carry = if original.is_readable() { Carry::Wanted } else { Carry::Failed };
        match original.attributes() {
            Ok(names) => {
                if names.iter().any(|name| name.as_c_str() == acl::ATTRIBUTE) {
                    found.acl = original.acl();
                }
                found.attributes = names;
            }
            Err(_) => {
                found.acl = original.acl();
                found.lost.push(Lost { what: What::Attributes, denies: false });
            }
        }
        found
    }
}

/// Gives `file`, which was `made` 0600, its metadata. Returns what could not be kept.
pub(crate) fn apply(file: &File, made: &FileStatus, original: &Original, wanted: Wanted) -> io::Result<Vec<Lost>> {
    let (old, found) = (&original.status, Found::of(original, wanted));
    let kept = set_owner(file, made, old, wanted.ownership)?;
    match dress(file, original, &found, kept, wanted) {
        // A file could be given away, but only its owner may set its mode (CAP_CHOWN without CAP_FOWNER).
        Err(e)
            if e.raw_os_error() == Some(libc::EPERM)
                && wanted.ownership == Ownership::TryKeep
                && kept.owner
                && made.uid != old.uid =>
        {
            fchown(file, Some(Uid::from_raw(made.uid)), None)?;
            dress(file, original, &found, Kept { owner: false, ..kept }, wanted)
        }
        outcome => outcome,
    }
}

/// Whether `original` has another mode or owner than what is asked for; `made` is a new file, which is the writer's.
pub(crate) fn differs(original: &Original, made: &FileStatus, wanted: Wanted) -> bool {
    let old = &original.status;
    let gets_owner = wanted.ownership == Ownership::Writer && Kept::of(made, old) != Kept::BOTH;
    gets_owner || wanted.mode.is_some_and(|mode| mode != old.mode)
}

/// Gives `original` itself, whose content stays, the mode and the owner that are asked for, as chmod and chown would, and
/// nobody access who did not have it.
pub(crate) fn amend(original: &Original, made: &FileStatus, wanted: Wanted) -> io::Result<Vec<Lost>> {
    let (file, old) = (original.content()?, &original.status);
    let kept = match wanted.ownership {
        Ownership::Writer => Kept::of(made, old),
        _ => Kept::BOTH,
    };
    if kept == Kept::BOTH {
        set_mode(file, wanted.mode.unwrap_or(old.mode))?;
        return Ok(Vec::new());
    }
    let plan = plan(old, &original.acl(), kept, Carry::Wanted, wanted);
    set_mode(file, old.mode & plan.mode & !SET_ID)?;
    fchown(file, Some(Uid::from_raw(made.uid)), Some(Gid::from_raw(made.gid)))?;
    if let AclStep::Set(list) = &plan.acl {
        xattr::set(file, acl::ATTRIBUTE, &list.to_attribute())?;
    }
    set_mode(file, plan.mode)?;
    Ok(plan.lost)
}

/// Steps 2 to 5.
fn dress(file: &File, original: &Original, found: &Found, kept: Kept, wanted: Wanted) -> io::Result<Vec<Lost>> {
    let old = &original.status;
    let mut lost = found.lost.clone();
    let mut carry = |late: bool, same_mode: bool| {
        for name in found.attributes.iter().filter(|name| is_nfs4(name) == late && is_carried(name, wanted, same_mode))
        {
            if original.content().and_then(|old_file| copy_attribute(old_file, file, name)).is_err() {
                lost.push(Lost { what: What::Attribute(name.clone()), denies: false });
            }
        }
    };
    carry(false, true);
    let mut plan = self::plan(old, &found.acl, kept, found.carry, wanted);
    if let AclStep::Set(list) = &plan.acl {
        if xattr::set(file, acl::ATTRIBUTE, &list.to_attribute()).is_err() {
            plan = self::plan(old, &found.acl, kept, Carry::Failed, wanted);
        }
    }
    // A list that cannot be removed gives nobody anything if its mask is empty.
    if plan.acl == AclStep::Remove && !remove_acl(file) {
        plan.mode &= !GROUP;
    }
    set_mode(file, plan.mode)?;
    carry(true, plan.mode == old.mode);
    plan.lost.append(&mut lost);
    Ok(plan.lost)
}

/// Whether the attribute `name` is carried over; owner, ACL and mode are not its concern.
fn is_carried(name: &CStr, wanted: Wanted, same_mode: bool) -> bool {
    // An NFSv4 list would bring the original's bits back over the mode that was asked for. New content is not what
    // capabilities were given to.
    let undoes_mode = is_nfs4(name) && !same_mode;
    let may_have = name != CAPABILITIES || wanted.ownership == Ownership::Keep;
    name != acl::ATTRIBUTE && !MEASURED.contains(&name) && may_have && !undoes_mode
}

fn is_nfs4(name: &CStr) -> bool {
    name.to_bytes().starts_with(NFS4_ACL)
}

/// Keeps owner and group as far as that is wanted and permitted: both, or one of them.
fn set_owner(file: &File, made: &FileStatus, old: &FileStatus, ownership: Ownership) -> io::Result<Kept> {
    let as_made = Kept::of(made, old);
    if ownership == Ownership::Writer || as_made == Kept::BOTH {
        return Ok(as_made);
    }
    if ownership == Ownership::Keep {
        give(file, old, true, true)?;
        // Some file systems say that they did, and did not.
        return match Kept::of(&FileStatus::of(file)?, old) {
            Kept::BOTH => Ok(Kept::BOTH),
            _ => Err(Errno::PERM.into()),
        };
    }
    // The owner may not be given away, but a group that one is in may be set. In a user namespace, either may be unknown.
    for (owner, group) in [(true, true), (false, !as_made.group), (!as_made.owner, false)] {
        if owner || group {
            match give(file, old, owner, group) {
                Ok(()) => return Ok(Kept::of(&FileStatus::of(file)?, old)),
                Err(e) if is_refusal(e) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(as_made)
}

/// Gives `file` the owner and the group of another.
fn give(file: &File, old: &FileStatus, owner: bool, group: bool) -> rustix::io::Result<()> {
    // Else the file would go to the one whose number is shown of those who are not known.
    if owner && IdMap::Users.may_hide(old.uid) || group && IdMap::Groups.may_hide(old.gid) {
        return Err(Errno::INVAL);
    }
    fchown(file, owner.then(|| Uid::from_raw(old.uid)), group.then(|| Gid::from_raw(old.gid)))
}

/// Not allowed; an owner whom this user namespace does not know; a file system without owners (chown(2)); no room in that
/// owner's quota.
fn is_refusal(e: Errno) -> bool {
    matches!(
        e,
        Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OVERFLOW | Errno::OPNOTSUPP | Errno::NOSYS | Errno::DQUOT
    )
}

/// Removes the ACL. False: it may still have one.
fn remove_acl(file: &File) -> bool {
    xattr::remove(file, acl::ATTRIBUTE).is_ok() || matches!(xattr::get(file, acl::ATTRIBUTE), Ok(None))
}

/// One that has been removed meanwhile is not missing.
fn copy_attribute(from: &File, to: &File, name: &CStr) -> io::Result<()> {
    match xattr::get(from, name)? {
        Some(value) => Ok(xattr::set(to, name, &value)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::tests::{granted, list};
    use crate::sys::{FileId, FileKind};

    fn status(mode: u32) -> FileStatus {
        FileStatus {
            id: FileId { dev: 0, ino: 0 },
            kind: FileKind::Regular,
            mode,
            uid: 1,
            gid: 10,
            size: 0,
            links: 1,
            mount_root: false,
            immutable: false,
            append_only: false,
            modified: 0,
            changed: 0,
        }
    }

    const BOTH: Kept = Kept::BOTH;
    const GROUP_ONLY: Kept = Kept { owner: false, group: true };
    const NEITHER: Kept = Kept { owner: false, group: false };
    const TRY: Ownership = Ownership::TryKeep;

    #[test]
    fn mode_and_list_in_every_case() {
        use AclStep::{Leave, Remove, Set};
        use Carry::{Failed, Unwanted, Wanted as Yes};
        let some = || Acl::Known(list("u::6,u:2003:6,g::4,m::6,o::0"));
        let shut = || Acl::Known(list("u::6,u:2003:0,g::4,m::4,o::4"));
        let shut_group = || Acl::Known(list("u::6,u:2003:0,g::4,m::4,o::0"));
        let open = || Acl::Known(list("u::6,u:2003:4,g::4,m::4,o::4"));
        let set = |text: &str| Set(list(text));
        let none = || Acl::Absent;
        let (acl, owner, group) = (What::Acl, What::Owner(1), What::Group(10));
        let l = |what: &What| Lost { what: what.clone(), denies: true };
        let said = |what: &What| Lost { what: what.clone(), denies: false };
        // What the original has, what was kept, what is asked for -> what the new file gets, what is lost.
        for (old, found, kept, carry, (asked, ownership), (step, new, lost)) in [
            (0o644, none(), BOTH, Yes, (None, TRY), (Remove, 0o644, vec![])),
            (0o644, none(), BOTH, Yes, (Some(0o600), TRY), (Remove, 0o600, vec![])),
            (0o664, none(), GROUP_ONLY, Yes, (None, TRY), (Remove, 0o664, vec![said(&owner)])),
            (0o640, none(), GROUP_ONLY, Yes, (None, TRY), (Remove, 0o640, vec![l(&owner)])),
            (0o660, none(), NEITHER, Yes, (None, TRY), (Remove, 0o600, vec![l(&group), l(&owner)])),
            (0o666, none(), NEITHER, Yes, (None, TRY), (Remove, 0o666, vec![said(&group), said(&owner)])),
            (0o604, none(), NEITHER, Yes, (None, TRY), (Remove, 0o600, vec![said(&group), l(&owner)])),
            (0o660, none(), NEITHER, Yes, (None, Ownership::Writer), (Remove, 0o600, vec![said(&group)])),
            (0o604, none(), NEITHER, Yes, (None, Ownership::Writer), (Remove, 0o600, vec![])),
            (0o600, none(), NEITHER, Yes, (Some(0o660), TRY), (Remove, 0o600, vec![l(&group), l(&owner)])),
            (0o600, none(), NEITHER, Yes, (Some(0o664), TRY), (Remove, 0o644, vec![l(&group), l(&owner)])),
            (0o600, none(), NEITHER, Yes, (Some(0o660), Ownership::Writer), (Remove, 0o660, vec![])),
            (0o6755, none(), BOTH, Yes, (None, Ownership::Keep), (Remove, 0o6755, vec![])),
            (0o6755, none(), BOTH, Yes, (None, TRY), (Remove, 0o755, vec![l(&What::SetId)])),
            (0o1755, none(), BOTH, Yes, (None, TRY), (Remove, 0o1755, vec![])),
            (0o4755, none(), BOTH, Yes, (Some(0o4711), TRY), (Remove, 0o4711, vec![])),
            (0o660, some(), BOTH, Yes, (None, TRY), (set("u::6,u:2003:6,g::4,m::6,o::0"), 0o660, vec![])),
            // The mask is narrow before the list is set.
            (0o660, some(), BOTH, Yes, (Some(0o600), TRY), (set("u::6,u:2003:6,g::4,m::0,o::0"), 0o600, vec![])),
            (
                0o660,
                some(),
                NEITHER,
                Yes,
                (None, TRY),
                (set("u::6,u:2003:6,g::0,m::6,o::0"), 0o660, vec![l(&group), l(&owner)]),
            ),
            (0o660, some(), BOTH, Failed, (None, TRY), (Remove, 0o640, vec![l(&acl)])),
            (0o660, some(), BOTH, Failed, (Some(0o664), TRY), (Remove, 0o644, vec![l(&acl)])),
            (0o660, some(), BOTH, Unwanted, (None, TRY), (Remove, 0o640, vec![])),
            (0o660, some(), BOTH, Unwanted, (Some(0o664), TRY), (Leave, 0o664, vec![])),
            // 2003 may be of the group.
            (0o644, shut(), BOTH, Failed, (None, TRY), (Remove, 0o600, vec![l(&acl)])),
            (0o644, shut(), BOTH, Unwanted, (None, TRY), (Remove, 0o600, vec![l(&acl)])),
            (0o644, shut(), BOTH, Failed, (Some(0o666), TRY), (Remove, 0o600, vec![l(&acl)])),
            (0o640, shut_group(), BOTH, Unwanted, (None, TRY), (Remove, 0o600, vec![l(&acl)])),
            // What is not asked for is not denied.
            (0o644, open(), BOTH, Failed, (Some(0o604), TRY), (Remove, 0o604, vec![said(&acl)])),
            (0o644, Acl::Unknown, BOTH, Yes, (None, TRY), (Remove, 0o600, vec![l(&acl)])),
            (0o644, Acl::Unknown, BOTH, Unwanted, (Some(0o644), TRY), (Leave, 0o644, vec![])),
        ] {
            let case = format!("{old:o} {found:?} {kept:?} {carry:?} {asked:?} {ownership:?}");
            let plan = plan(&status(old), &found, kept, carry, Wanted { mode: asked, ownership, xattrs: true });
            assert_eq!((plan.acl, plan.mode, plan.lost), (step, new, lost), "{case}");
        }
    }

    /// All lists of this form, and a mode without a list.
    fn originals() -> impl Iterator<Item = (u32, Acl)> {
        let bits = [0, 4, 6];
        let of_bits = move || bits.into_iter();
        let modes = of_bits().flat_map(move |g| of_bits().map(move |o| (0o600 | g << 3 | o, Acl::Absent)));
        let lists = of_bits().flat_map(move |x| {
            of_bits().flat_map(move |y| {
                of_bits().flat_map(move |g| {
                    of_bits().flat_map(move |m| {
                        of_bits().map(move |o| {
                            let text = format!("u::6,u:3:{x},u:4:6,g::{g},g:20:6,g:30:{y},m::{m},o::{o}");
                            (0o600 | m << 3 | o, Acl::Known(list(&text)))
                        })
                    })
                })
            })
        });
        modes.chain(lists)
    }

    fn access(mode: u32, acl: &Acl, gid: u32, user: u32, groups: &[u32]) -> u32 {
        match acl {
            Acl::Known(list) => granted(list, gid, user, groups),
            _ if groups.contains(&gid) => mode >> 3 & ALL,
            _ => mode & ALL,
        }
    }

    /// The old owner could always have given access to himself, and the writer has what the new file holds.
    #[test]
    fn nobody_but_the_owners_gains_access() {
        for (mode, acl) in originals() {
            for kept in [BOTH, NEITHER] {
                for carry in [Carry::Wanted, Carry::Unwanted, Carry::Failed] {
                    for new_gid in [20, 40] {
                        let wanted = Wanted { mode: None, ownership: TRY, xattrs: true };
                        let plan = plan(&status(mode), &acl, kept, carry, wanted);
                        let new_acl = match plan.acl {
                            AclStep::Set(list) => Acl::Known(list),
                            _ => Acl::Absent,
                        };
                        let gid = if kept.group { 10 } else { new_gid };
                        for user in [3, 4, 5] {
                            for set in 0..16 {
                                let groups: Vec<u32> =
                                    (0..4).filter(|n| set >> n & 1 == 1).map(|n| 10 * n + 10).collect();
                                let before = access(mode, &acl, 10, user, &groups);
                                let after = access(plan.mode, &new_acl, gid, user, &groups);
                                let case = format!("{mode:o} {acl:?} {kept:?} {carry:?} {gid}: {user} {groups:?}");
                                assert_eq!(after & !before, 0, "{case}: {before} -> {after}");
                                if kept == BOTH && carry == Carry::Wanted {
                                    assert_eq!(after, before, "{case}");
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn attributes_that_are_carried_over() {
        for (name, ownership, same_mode, carried) in [
            (c"user.a", TRY, false, true),
            (acl::ATTRIBUTE, Ownership::Keep, true, false),
            (c"security.ima", Ownership::Keep, true, false),
            (c"security.selinux", TRY, false, true),
            (c"security.capability", Ownership::Keep, false, true),
            (c"security.capability", TRY, true, false),
            (c"system.nfs4_acl", TRY, true, true),
            (c"system.nfs4_acl", TRY, false, false),
        ] {
            let wanted = Wanted { mode: None, ownership, xattrs: true };
            assert_eq!(is_carried(name, wanted, same_mode), carried, "{name:?} {ownership:?} {same_mode}");
        }
    }
}
