//! The names in one directory.
//!
//! Lock files and leases are judged one by one: they are handed out while the directory is being read, and forgotten.
//! Temporary files come when all leases have been handed out, because a lease's record may say that one of them is still
//! needed. Backups are judged by group, so a whole group must be known first. Where both are too many, the directory is
//! read again for each part of them. So the memory is bounded, whatever the directory contains, unless a single file has
//! hundreds of thousands of backups.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;

use super::classify::{NameKind, classify, group_of};
use super::options::HousekeepOptions;
use super::ownership::Files;
use crate::names::fnv1a;
use crate::sys::{Dir, FileKind};

/// How many bytes of memory the candidates may take. A name takes its length and 16 bytes.
#[derive(Clone, Copy)]
struct Limits {
    /// What is judged one by one, before it is handed out, together with the files beside it.
    singles: usize,
    /// Backups and temporary files, before a part of them is left for another reading: 300,000 with names of usual length.
    grouped: usize,
}

/// How many names are read before the caller is told: a signal must not wait for a very large directory.
const MOST_NAMES: usize = 100_000;

const LIMITS: Limits = Limits { singles: 2 << 20, grouped: 16 << 20 };

/// A name that may be a leftover's.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    start: usize,
    length: u16,
    /// The length of what it has in common with all backups that may be of the same file.
    group: u16,
    pub(super) kind: NameKind,
}

/// Candidates, and their names one after the other in one piece of memory.
#[derive(Default)]
pub(super) struct Candidates {
    text: Vec<u8>,
    pub(super) all: Vec<Candidate>,
}

impl Candidates {
    fn add(&mut self, name: &[u8], group: usize, kind: NameKind) {
        // No name is longer than 64 KiB. One that were would not be found.
        let (Ok(length), Ok(group)) = (u16::try_from(name.len()), u16::try_from(group)) else { return };
        self.all.push(Candidate { start: self.text.len(), length, group, kind });
        self.text.extend_from_slice(name);
    }

    pub(super) fn name(&self, candidate: &Candidate) -> &[u8] {
        &self.text[candidate.start..][..usize::from(candidate.length)]
    }

    fn group(&self, candidate: &Candidate) -> &[u8] {
        &self.text[candidate.start..][..usize::from(candidate.group)]
    }

    fn size(&self) -> usize {
        self.text.len() + self.all.len() * size_of::<Candidate>()
    }

    /// Keeps those that are in `partition`, in the memory that they have.
    fn retain(&mut self, partition: Partition) {
        let (mut kept, mut end) = (0, 0);
        for at in 0..self.all.len() {
            let candidate = self.all[at];
            if partition.contains(self.group(&candidate)) {
                let length = usize::from(candidate.length);
                self.text.copy_within(candidate.start..candidate.start + length, end);
                self.all[kept] = Candidate { start: end, ..candidate };
                (kept, end) = (kept + 1, end + length);
            }
        }
        self.all.truncate(kept);
        self.text.truncate(end);
    }

    // Inlined, it would be in the sort eleven times.
    #[inline(never)]
    fn order(&self, a: &Candidate, b: &Candidate) -> Ordering {
        self.group(a).cmp(self.group(b)).then_with(|| self.name(a).cmp(self.name(b)))
    }

    /// Sorts them by group, and by name in each group.
    fn into_groups(mut self) -> Part {
        let mut all = std::mem::take(&mut self.all);
        all.sort_unstable_by(|a, b| self.order(a, b));
        self.all = all;
        Part::Groups(self)
    }

    /// Group by group, if they are sorted.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[Candidate]> {
        self.all.chunk_by(|a, b| self.group(a) == self.group(b))
    }
}

/// What a reading has found.
pub(super) enum Part {
    /// What is judged one by one, and the files that were seen beside it.
    Singles(Candidates, Files),
    /// Temporary files, backups, and the files that have names like those, sorted by group.
    Groups(Candidates),
}

/// A directory's candidates, part by part.
pub(super) struct Scan<'a> {
    dir: &'a Dir,
    options: &'a HousekeepOptions,
    limits: Limits,
    /// The first reading has come to its end.
    read: bool,
    /// What the first reading has found so far of what comes after it.
    grouped: Grouped,
    /// Those that other readings are for.
    left: Vec<Partition>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(dir: &'a Dir, options: &'a HousekeepOptions) -> Scan<'a> {
        Scan::within(LIMITS, dir, options)
    }

    fn within(limits: Limits, dir: &'a Dir, options: &'a HousekeepOptions) -> Scan<'a> {
        let grouped = Grouped::new(Partition::ALL, limits.grouped);
        Scan { dir, options, limits, read: false, grouped, left: Vec::new() }
    }

    /// Whether all names of the directory have been seen.
    pub(super) fn has_read_all(&self) -> bool {
        self.read
    }

    /// Reads on for the next part; `None`: there is no other. Calls `every` with each name in the directory, and its kind
    /// where that is known.
    pub(super) fn next(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        every: impl FnMut(&OsStr, Option<FileKind>),
    ) -> io::Result<Option<Part>> {
        if !self.read {
            return self.read_on(buffer, every).map(Some);
        }
        let first = std::mem::take(&mut self.grouped.found);
        if !first.all.is_empty() {
            return Ok(Some(first.into_groups()));
        }
        match self.left.pop() {
            Some(partition) => self.read_again(partition, buffer, every).map(Some),
            None => Ok(None),
        }
    }

    /// Reads on until there are many candidates that are judged one by one, or to the end.
    fn read_on(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        mut every: impl FnMut(&OsStr, Option<FileKind>),
    ) -> io::Result<Part> {
        let (mut singles, mut files) = (Candidates::default(), Files::default());
        let wants_files = self.options.own && !self.options.locks;
        let mut names = 0;
        while !self.read && names < MOST_NAMES && singles.size() + files.size() < self.limits.singles {
            self.read = !self.dir.read_some(buffer, |name, file_kind| {
                names += 1;
                every(name, file_kind);
                if wants_files && file_kind == Some(FileKind::Regular) {
                    files.add(name);
                }
                let Some(kind) = candidate(name, file_kind, self.options) else { return };
                match kind {
                    NameKind::Lock | NameKind::Lease => singles.add(name.as_bytes(), 0, kind),
                    NameKind::Temp | NameKind::Backup(_) | NameKind::DatedTarget => self.grouped.add(name, kind),
                }
            })?;
            self.grouped.limit(&mut self.left);
        }
        files.sort();
        Ok(Part::Singles(singles, files))
    }

    /// Reads the directory once more, for one of the partitions.
    fn read_again(
        &mut self,
        partition: Partition,
        buffer: &mut [MaybeUninit<u8>],
        mut every: impl FnMut(&OsStr, Option<FileKind>),
    ) -> io::Result<Part> {
        let mut grouped = Grouped::new(partition, self.limits.grouped);
        self.dir.rewind()?;
        let mut more = true;
        while more {
            more = self.dir.read_some(buffer, |name, file_kind| {
                every(name, file_kind);
                match candidate(name, file_kind, self.options) {
                    None | Some(NameKind::Lock | NameKind::Lease) => {}
                    Some(kind) => grouped.add(name, kind),
                }
            })?;
            grouped.limit(&mut self.left);
        }
        Ok(grouped.found.into_groups())
    }
}

/// What a name may stand for. Leaves out what is known not to be a regular file.
fn candidate(name: &OsStr, file_kind: Option<FileKind>, options: &HousekeepOptions) -> Option<NameKind> {
    let kind = classify(name, options)?;
    // A dated target may be a symbolic link.
    let fits = kind == NameKind::DatedTarget || matches!(file_kind, None | Some(FileKind::Regular));
    fits.then_some(kind)
}

/// What comes after the first reading, of a partition.
struct Grouped {
    partition: Partition,
    found: Candidates,
    /// How many bytes these may take: what was asked for, or more where a group is too large.
    most: usize,
}

impl Grouped {
    fn new(partition: Partition, most: usize) -> Grouped {
        Grouped { partition, found: Candidates::default(), most }
    }

    fn add(&mut self, name: &OsStr, kind: NameKind) {
        let name = name.as_bytes();
        let group = match kind {
            // Backups that may turn out to be of the same file have this in common.
            NameKind::Backup(length) => group_of(&name[..usize::from(length)]),
            NameKind::DatedTarget => group_of(name),
            NameKind::Temp | NameKind::Lock | NameKind::Lease => name,
        };
        if self.partition.contains(group) {
            self.found.add(name, group.len(), kind);
        }
    }

    /// Leaves as many to other readings as there are too many.
    fn limit(&mut self, left: &mut Vec<Partition>) {
        while self.found.size() > self.most {
            let Some(other) = self.partition.halve() else {
                self.most = usize::MAX;
                return;
            };
            left.push(other);
            self.found.retain(self.partition);
            // A large group cannot be divided. It then bounds the memory.
            self.most = self.most.max(2 * self.found.size());
        }
    }
}

/// The groups whose hash has `bits` where `mask` has ones.
#[derive(Clone, Copy, Debug)]
struct Partition {
    mask: u64,
    bits: u64,
}

impl Partition {
    const ALL: Partition = Partition { mask: 0, bits: 0 };

    fn contains(self, group: &[u8]) -> bool {
        // The hash only has to spread names. Collisions cost memory, nothing else.
        self.mask == 0 || fnv1a(group) & self.mask == self.bits
    }

    /// Halves this partition and returns the other half; `None` where it is too small for that.
    fn halve(&mut self) -> Option<Partition> {
        let bit = self.mask + 1;
        if bit > 1 << 20 {
            return None;
        }
        self.mask |= bit;
        Some(Partition { mask: self.mask, bits: self.bits | bit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TempNames;

    #[test]
    fn partitions_divide_without_overlap_or_gap() {
        let mut partitions = vec![Partition::ALL];
        for _ in 0..5 {
            let mut partition = partitions.remove(0);
            partitions.push(partition.halve().unwrap());
            partitions.push(partition);
        }
        assert_eq!(partitions.len(), 6);
        for n in 0..1000 {
            let name = format!("file{n}");
            let holders = partitions.iter().filter(|p| p.contains(name.as_bytes())).count();
            assert_eq!(holders, 1, "{name}");
        }
    }

    #[test]
    fn a_group_is_never_divided() {
        let mut grouped = Grouped::new(Partition { mask: 0xff, bits: fnv1a(b"log") & 0xff }, 1 << 20);
        for (name, length) in [
            ("log.backup", Some(3)),
            ("log.20260102-030405.backup", Some(19)),
            ("log.20260102-030405-3.backup", Some(21)),
            ("log.20260102-030405", None),
            ("another.backup", Some(7)),
        ] {
            grouped.add(OsStr::new(name), length.map_or(NameKind::DatedTarget, NameKind::Backup));
        }
        let Part::Groups(found) = grouped.found.into_groups() else { panic!() };
        assert_eq!(found.groups().map(<[Candidate]>::len).collect::<Vec<_>>(), [4]);
    }

    /// Every candidate is handed out once, groups as a whole, and what is seen beside them helps, whatever fits into memory
    /// and though files are deleted between two parts.
    #[test]
    fn large_directories_come_in_parts() {
        let place = tempfile::tempdir().unwrap();
        let mut names = std::collections::BTreeSet::new();
        for n in 0..300 {
            for name in [
                format!("f{n}"),
                format!("f{n}.lock"),
                format!("f{n}.lease"),
                TempNames::new(OsStr::new(&format!("f{n}")), None).numbered(0, 255).into_string().unwrap(),
                format!("f{n}.backup"),
                format!("f{n}.20260102-030405.backup"),
                format!("f{n}.20260102-030405-1.backup"),
            ] {
                std::fs::write(place.path().join(&name), "").unwrap();
                names.extend((name.len() > 4).then_some(name));
            }
        }
        let dir = Dir::open_to_read_names(place.path()).unwrap();
        let options = HousekeepOptions { own: true, ..HousekeepOptions::default() };
        // Enough for some names only; for a third; for all.
        for limit in [1000, 10_000, 1 << 20] {
            let mut scan = Scan::within(Limits { singles: limit, grouped: limit }, &dir, &options);
            let (mut found, mut parts) = (Vec::new(), 0);
            dir.rewind().unwrap();
            let mut buffer = [MaybeUninit::uninit(); 4096];
            while let Some(part) = scan.next(&mut buffer, |_, _| {}).unwrap() {
                parts += 1;
                let candidates = match part {
                    Part::Singles(candidates, _) => candidates,
                    Part::Groups(candidates) => {
                        assert!(scan.has_read_all());
                        assert!(candidates.groups().all(|group| match group {
                            [temp] => temp.kind == NameKind::Temp,
                            backups => backups.len() == 3,
                        }));
                        candidates
                    }
                };
                assert!(candidates.size() < 3 * limit + 4096, "{limit}");
                for candidate in &candidates.all {
                    let name = String::from_utf8(candidates.name(candidate).to_vec()).unwrap();
                    std::fs::remove_file(place.path().join(&name)).unwrap();
                    found.push(name);
                }
            }
            assert!(if limit == 1 << 20 { parts == 2 } else { parts > 4 }, "{limit}: {parts} parts");
            assert_eq!(found.len(), names.len());
            assert_eq!(found.into_iter().collect::<std::collections::BTreeSet<_>>(), names);
            for name in &names {
                std::fs::write(place.path().join(name), "").unwrap();
            }
        }
    }
}
