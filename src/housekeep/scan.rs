//! The names in one directory, read in batches: memory is bounded by the largest group of backups, not by the number of
//! files. A directory with too many candidates is read several times, and each time gives a part of them.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;

use super::classify::{NameKind, classify, group_of};
use super::options::HousekeepOptions;
use crate::names::fnv1a;
use crate::sys::{Dir, FileKind};

/// How many candidates of one directory are held in memory before the others are left for another reading.
const BATCH: usize = 32_768;

/// A name that may be a leftover's.
pub(super) struct Candidate {
    pub(super) name: Box<[u8]>,
    pub(super) kind: NameKind,
}

/// A directory's candidates, batch by batch.
pub(super) struct Batches<'a> {
    dir: &'a Dir,
    options: &'a HousekeepOptions,
    left: Vec<Partition>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(dir: &'a Dir, options: &'a HousekeepOptions) -> Batches<'a> {
        Batches { dir, options, left: vec![Partition::ALL] }
    }

    /// Reads the directory for the next batch, sorted by name; `None`: there is no other. Calls `every` with each name in
    /// the directory, and its kind where that is known.
    pub(super) fn next(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        mut every: impl FnMut(&OsStr, Option<FileKind>),
    ) -> io::Result<Option<Vec<Candidate>>> {
        let Some(mut partition) = self.left.pop() else { return Ok(None) };
        let mut found: Vec<Candidate> = Vec::new();
        let mut most = BATCH;
        self.dir.rewind()?;
        loop {
            let more = self.dir.read_some(buffer, |name, file_kind| {
                every(name, file_kind);
                let Some(kind) = classify(name, self.options) else { return };
                // Skip entries known not to be regular files. A dated target may be a symbolic link.
                let fits = kind == NameKind::DatedTarget || matches!(file_kind, None | Some(FileKind::Regular));
                let name = name.as_bytes();
                if fits && partition.contains(name, kind) {
                    found.push(Candidate { name: name.into(), kind });
                }
            })?;
            while found.len() > most {
                let Some(other) = partition.halve() else {
                    most = usize::MAX;
                    break;
                };
                self.left.push(other);
                found.retain(|c| partition.contains(&c.name, c.kind));
                found.shrink_to_fit();
                // A large group cannot be divided. It then bounds the memory.
                most = BATCH.max(2 * found.len());
            }
            if !more {
                break;
            }
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(found))
    }
}

/// The candidates whose hash has `bits` where `mask` has ones.
#[derive(Clone, Copy, Debug)]
struct Partition {
    mask: u64,
    bits: u64,
}

impl Partition {
    const ALL: Partition = Partition { mask: 0, bits: 0 };

    fn contains(self, name: &[u8], kind: NameKind) -> bool {
        let key = match kind {
            // Backups that may turn out to be of the same file must be in the same partition.
            NameKind::Backup(length) => group_of(&name[..usize::from(length)]),
            NameKind::DatedTarget => group_of(name),
            NameKind::Lock | NameKind::Lease | NameKind::Temp => name,
        };
        // The hash only has to spread names. Collisions cost memory, nothing else.
        self.mask == 0 || fnv1a(key) & self.mask == self.bits
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
            let name = format!("file{n}.lock");
            let holders = partitions.iter().filter(|p| p.contains(name.as_bytes(), NameKind::Lock)).count();
            assert_eq!(holders, 1, "{name}");
        }
    }

    #[test]
    fn a_group_is_never_divided() {
        let partition = Partition { mask: 0xff, bits: fnv1a(b"log") & 0xff };
        for (name, length) in
            [("log.backup", 3), ("log.20260102-030405.backup", 19), ("log.20260102-030405-3.backup", 21)]
        {
            assert!(partition.contains(name.as_bytes(), NameKind::Backup(length)), "{name}");
        }
        assert!(partition.contains(b"log.20260102-030405", NameKind::DatedTarget));
    }
}
