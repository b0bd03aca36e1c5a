//! Access control lists (acl(5)), as the kernel's attribute has them.
//!
//! The attribute (linux/posix_acl_xattr.h): a version, four bytes; then entries of tag, permissions and id, little-endian.
//! A file has it only if somebody is named in the list; else the mode says it all. With it, the mode's bits for the group
//! are the list's mask.

use std::ffi::CStr;

/// The attribute that a list is kept in.
pub(crate) const ATTRIBUTE: &CStr = c"system.posix_acl_access";

const VERSION: [u8; 4] = [2, 0, 0, 0];
/// All three permissions.
pub(crate) const ALL: u32 = 0o7;

/// Whom an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Others,
}

impl Tag {
    const NUMBERS: [(Tag, u16); 6] = [
        (Tag::Owner, 0x01),
        (Tag::User, 0x02),
        (Tag::OwningGroup, 0x04),
        (Tag::Group, 0x08),
        (Tag::Mask, 0x10),
        (Tag::Others, 0x20),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    bits: u32,
    id: [u8; 4],
}

/// An access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List(Vec<Entry>);

impl List {
    /// `None`: damaged, or of a later version.
    pub(crate) fn parse(attribute: &[u8]) -> Option<List> {
        let entries = attribute.strip_prefix(&VERSION)?.chunks(8).map(parse_entry).collect::<Option<Vec<_>>>()?;
        let has = |tag| entries.iter().any(|entry: &Entry| entry.tag == tag);
        (has(Tag::Owner) && has(Tag::OwningGroup) && has(Tag::Others)).then_some(List(entries))
    }

    pub(crate) fn to_attribute(&self) -> Vec<u8> {
        let mut attribute = VERSION.to_vec();
        for entry in &self.0 {
            let number = Tag::NUMBERS.iter().find(|(tag, _)| *tag == entry.tag).map_or(0, |(_, number)| *number);
            attribute.extend(number.to_le_bytes());
            attribute.extend([entry.bits as u8, 0]);
            attribute.extend(entry.id);
        }
        attribute
    }

    /// The permissions of the owning group that are in force.
    pub(crate) fn owning_group(&self) -> u32 {
        self.in_force(Tag::OwningGroup).next().unwrap_or(0)
    }

    /// What every user who is named has; all, where nobody is.
    pub(crate) fn every_user(&self) -> u32 {
        self.in_force(Tag::User).fold(ALL, |least, bits| least & bits)
    }

    /// What every group that is named has; all, where none is.
    pub(crate) fn every_group(&self) -> u32 {
        self.in_force(Tag::Group).fold(ALL, |least, bits| least & bits)
    }

    /// What at least one of those has who are named.
    pub(crate) fn anybody(&self) -> u32 {
        self.in_force(Tag::User).chain(self.in_force(Tag::Group)).fold(0, |most, bits| most | bits)
    }

    /// The list of a file that those may read and write who may write this one, and nobody else but its owner. Nobody is
    /// left out: who is denied something would else be one of the others.
    pub(crate) fn of_writers(&self) -> List {
        let mask = self.first(Tag::Mask).unwrap_or(ALL);
        let entries = self.0.iter().map(|entry| {
            let in_force = match entry.tag {
                Tag::Owner | Tag::Mask => ALL,
                Tag::Others => entry.bits,
                Tag::User | Tag::OwningGroup | Tag::Group => entry.bits & mask,
            };
            Entry { bits: if in_force & 0o2 != 0 { 0o6 } else { 0 }, ..*entry }
        });
        List(entries.collect())
    }

    /// Takes all but these permissions from the owning group.
    pub(crate) fn limit_owning_group(&mut self, bits: u32) {
        self.each(Tag::OwningGroup, |group| *group &= bits);
    }

    /// As chmod(2) does: the mode's bits for the group become the mask.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        let masks = if self.first(Tag::Mask).is_some() { Tag::Mask } else { Tag::OwningGroup };
        for (tag, shift) in [(Tag::Owner, 6), (masks, 3), (Tag::Others, 0)] {
            self.each(tag, |bits| *bits = mode >> shift & ALL);
        }
    }

    fn in_force(&self, tag: Tag) -> impl Iterator<Item = u32> {
        let mask = self.first(Tag::Mask).unwrap_or(ALL);
        self.0.iter().filter(move |entry| entry.tag == tag).map(move |entry| entry.bits & mask)
    }

    fn first(&self, tag: Tag) -> Option<u32> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.bits)
    }

    fn each(&mut self, tag: Tag, change: impl Fn(&mut u32)) {
        self.0.iter_mut().filter(|entry| entry.tag == tag).for_each(|entry| change(&mut entry.bits));
    }
}

fn parse_entry(bytes: &[u8]) -> Option<Entry> {
    let [t0, t1, bits @ 0..=7, 0, ref id @ ..] = *bytes else { return None };
    let number = u16::from_le_bytes([t0, t1]);
    let (tag, _) = Tag::NUMBERS.into_iter().find(|(_, n)| *n == number)?;
    Some(Entry { tag, bits: bits.into(), id: id.try_into().ok()? })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A list as setfacl(1) writes it down, with numbers for permissions: `u::6,u:2003:6,g::4,m::6,o::0`.
    pub(crate) fn list(text: &str) -> List {
        let entry = |text: &str| {
            let parts: Vec<&str> = text.split(':').collect();
            let tag = match (parts[0], parts[1]) {
                ("u", "") => Tag::Owner,
                ("u", _) => Tag::User,
                ("g", "") => Tag::OwningGroup,
                ("g", _) => Tag::Group,
                ("m", _) => Tag::Mask,
                _ => Tag::Others,
            };
            let id = parts[1].parse().unwrap_or(u32::MAX);
            Entry { tag, bits: parts[2].parse().unwrap(), id: id.to_le_bytes() }
        };
        List(text.split(',').map(entry).collect())
    }

    /// The permissions that the list gives to a user other than the owner of a file of the group `gid` (acl(5)).
    pub(crate) fn granted(list: &List, gid: u32, user: u32, groups: &[u32]) -> u32 {
        let mask = list.first(Tag::Mask).unwrap_or(ALL);
        let is = |entry: &Entry, id: u32| entry.id == id.to_le_bytes();
        if let Some(entry) = list.0.iter().find(|e| e.tag == Tag::User && is(e, user)) {
            return entry.bits & mask;
        }
        let of_a_group = list.0.iter().filter(|e| match e.tag {
            Tag::OwningGroup => groups.contains(&gid),
            Tag::Group => groups.iter().any(|&group| is(e, group)),
            _ => false,
        });
        let granted = of_a_group.map(|entry| entry.bits & mask).reduce(|most, bits| most | bits);
        granted.unwrap_or_else(|| list.first(Tag::Others).unwrap_or(0))
    }

    #[test]
    fn an_attribute_is_read_and_written() {
        let text = list("u::6,u:2003:6,g::4,m::6,o::0");
        let bytes = text.to_attribute();
        assert_eq!(bytes.len(), 4 + 5 * 8);
        assert_eq!(bytes[12..20], [0x02, 0, 6, 0, 0xd3, 0x07, 0, 0]);
        assert_eq!(List::parse(&bytes), Some(text));
        let mut later = bytes.clone();
        later[0] = 3;
        for bad in [&b""[..], b"\x02", b"\x02\0\0\0\x04\0\x07", &bytes[..bytes.len() - 1], &later, &bytes[..12]] {
            assert_eq!(List::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_mask_limits_all_but_owner_and_others() {
        let some = list("u::7,u:1:6,u:2:5,g::7,g:1:3,m::5,o::7");
        assert_eq!((some.owning_group(), some.every_user(), some.every_group(), some.anybody()), (5, 4, 1, 5));
        let alone = list("u::7,g::6,o::4");
        assert_eq!((alone.owning_group(), alone.every_user(), alone.every_group(), alone.anybody()), (6, 7, 7, 0));
    }

    #[test]
    fn a_mode_is_set_as_chmod_would() {
        let mut some = list("u::7,u:1:6,g::7,m::5,o::7");
        some.set_mode(0o640);
        assert_eq!(some, list("u::6,u:1:6,g::7,m::4,o::0"));
        some.limit_owning_group(1);
        assert_eq!(some, list("u::6,u:1:6,g::1,m::4,o::0"));
        let mut alone = list("u::7,g::7,o::7");
        alone.set_mode(0o640);
        assert_eq!(alone, list("u::6,g::4,o::0"));
    }
}
