//! One directory: read its names, look at the candidates, remove, report.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;

use super::names::{self, Meaning, Shape, Stamp};
use super::plan::{Aged, Rule};
use super::remove::{self, Look, Outcome};
use super::{HousekeepEvent, HousekeepOptions, HousekeepSummary, Leftover};
use crate::error::Error;
use crate::local_time;
use crate::names::BackupNames;
use crate::sys::{Dir, FileKind, FileStatus};

/// Bytes of names that are read at a time.
const BUFFER: usize = 32 * 1024;
/// How many candidates of one directory are held in memory before its others are left for another reading.
const BATCH: usize = 32_768;
/// What a name may have (255 bytes), less `.YYYYMMDD-HHMMSS-9999`.
const MOST_OF_A_NAME: usize = 255 - 21;
/// How many files are put off before the wait that they are put off for.
const LATER: usize = 64;

pub(super) struct Job<'a> {
    pub(super) options: &'a HousekeepOptions,
    report: &'a mut dyn FnMut(&HousekeepEvent<'_>) -> ControlFlow<()>,
    summary: HousekeepSummary,
    entries: u64,
    later: Vec<Later>,
    zone: Option<TimeZone>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// A file that was too fresh.
struct Later {
    dir: Arc<Dir>,
    name: Box<[u8]>,
    case: Case,
    due: Instant,
}

/// What to do about a file.
enum Case {
    Lock,
    Lease,
    Temp,
    /// Made at this time; nobody replaces it.
    DatedBackup {
        time: i128,
    },
    /// The length of the name of the file it is a backup of, and what it looked like when it was decided that it goes.
    PlainBackup {
        of: u16,
        planned: FileStatus,
    },
}

/// A name that deserves a look.
struct Candidate {
    name: Box<[u8]>,
    meaning: Meaning,
}

/// The candidates whose hash ends in `bits`, as far as `mask` reaches: with mask 0, all.
#[derive(Clone, Copy, Debug)]
struct Part {
    mask: u64,
    bits: u64,
}

/// A backup in its group.
struct Backup<'a> {
    /// The file that it is a backup of.
    of: &'a [u8],
    name: &'a [u8],
    aged: Aged,
    /// `None`: the time is from its name.
    planned: Option<Box<FileStatus>>,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        options: &'a HousekeepOptions,
        report: &'a mut dyn FnMut(&HousekeepEvent<'_>) -> ControlFlow<()>,
    ) -> Job<'a> {
        Job {
            options,
            report,
            summary: HousekeepSummary::default(),
            entries: 0,
            later: Vec::new(),
            zone: None,
            buffer: vec![MaybeUninit::uninit(); BUFFER],
        }
    }

    pub(super) fn finish(self, flow: ControlFlow<()>) -> HousekeepSummary {
        HousekeepSummary { stopped: flow.is_break(), ..self.summary }
    }

    /// Removes what is to be removed in `dir` itself. Says whether there are subdirectories to go on with.
    pub(super) fn clean(&mut self, dir: &Arc<Dir>) -> ControlFlow<(), bool> {
        self.summary.directories += 1;
        let mut parts = vec![Part { mask: 0, bits: 0 }];
        let mut first = true;
        let mut has_directories = false;
        while let Some(part) = parts.pop() {
            let mut shape = Shape::default();
            let read = self.read(dir, part, &mut parts, |name, kind| {
                shape.add(name);
                has_directories |= matches!(kind, None | Some(FileKind::Directory));
            });
            let candidates = match read {
                Ok(candidates) => candidates,
                Err(e) => {
                    // What was not read could be what the rest depends on: the newest backup.
                    self.failed(Error::io(dir.path(), e))?;
                    return ControlFlow::Continue(has_directories);
                }
            };
            if first && shape.is_repository() {
                self.not_entered(dir.path(), "bare git repository")?;
                return ControlFlow::Continue(false);
            }
            first = false;
            self.tell(&HousekeepEvent::Progress { directories: self.summary.directories, entries: self.entries })?;
            self.work_off(dir, candidates)?;
        }
        ControlFlow::Continue(has_directories)
    }

    /// The candidates of `part`, sorted by name. If they are too many, only the half of them; the other half is added to
    /// `parts`. Calls `every` with each name and kind.
    fn read(
        &mut self,
        dir: &Dir,
        mut part: Part,
        parts: &mut Vec<Part>,
        mut every: impl FnMut(&[u8], Option<FileKind>),
    ) -> io::Result<Vec<Candidate>> {
        let mut found: Vec<Candidate> = Vec::new();
        let mut most = BATCH;
        dir.rewind()?;
        loop {
            let mut entries = 0;
            let more = dir.read_some(&mut self.buffer, |name, kind| {
                let name = name.as_bytes();
                entries += 1;
                every(name, kind);
                // What is certainly no file can be no leftover; a symbolic link's name still says what it is not.
                let Some(meaning) = names::meaning(name, self.options) else { return };
                let fits = meaning == Meaning::Dated || matches!(kind, None | Some(FileKind::Regular));
                if fits && part.has(name, meaning) {
                    found.push(Candidate { name: name.into(), meaning });
                }
            })?;
            self.entries += entries;
            while found.len() > most {
                match part.halve() {
                    Some(other) => {
                        parts.push(other);
                        found.retain(|c| part.has(&c.name, c.meaning));
                        found.shrink_to_fit();
                        // A large group cannot be divided: then it is what bounds the memory.
                        most = BATCH.max(2 * found.len());
                    }
                    None => most = usize::MAX,
                }
            }
            if !more {
                break;
            }
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn work_off(&mut self, dir: &Arc<Dir>, candidates: Vec<Candidate>) -> ControlFlow<()> {
        for candidate in &candidates {
            match candidate.meaning {
                Meaning::Lock => self.settle(dir, &candidate.name, Case::Lock)?,
                Meaning::Lease => self.settle(dir, &candidate.name, Case::Lease)?,
                Meaning::Temp => self.settle(dir, &candidate.name, Case::Temp)?,
                Meaning::Backup(_) | Meaning::Dated => {}
            }
        }
        self.thin_out(dir, &candidates)
    }

    /// The backups among `candidates`, group by group.
    fn thin_out(&mut self, dir: &Arc<Dir>, candidates: &[Candidate]) -> ControlFlow<()> {
        let mut backups = Vec::new();
        for Candidate { name, meaning } in candidates {
            let Meaning::Backup(length) = *meaning else { continue };
            let base = &name[..usize::from(length)];
            let dated = names::split_stamp(base).filter(|_| {
                let target = candidates.binary_search_by(|c| (*c.name).cmp(base));
                // `log.20260102-030405.backup` is a plain backup where `log.20260102-030405` is a file.
                !target.is_ok_and(|at| candidates[at].meaning == Meaning::Dated)
            });
            let backup = match dated {
                Some((length, stamp)) => {
                    let aged = Aged { time: self.moment(stamp), number: stamp.number };
                    Backup { of: &base[..length], name, aged, planned: None }
                }
                None => match dir.status(OsStr::from_bytes(name)) {
                    Ok(Some(status)) if status.kind == FileKind::Regular => {
                        let aged = Aged { time: status.modified, number: 0 };
                        Backup { of: base, name, aged, planned: Some(Box::new(status)) }
                    }
                    Ok(_) => continue,
                    Err(e) => {
                        self.failed(Error::io(dir.join(OsStr::from_bytes(name)), e))?;
                        continue;
                    }
                },
            };
            backups.push(backup);
        }
        let rule = Rule::new(self.options.keep_newest, self.options.backups_older_than);
        let now = now();
        // Group by group, the newest first.
        backups.sort_unstable_by(|a, b| a.of.cmp(b.of).then(b.aged.cmp(&a.aged)).then(b.name.cmp(a.name)));
        for group in backups.chunk_by(|a, b| a.of == b.of) {
            let kept = rule.stay(group, |backup| backup.aged, now);
            // The oldest first: should the work end half-way, what is left is what is worth most.
            for Backup { of, name, aged, planned } in group[kept..].iter().rev() {
                let case = match planned {
                    Some(planned) => Case::PlainBackup { of: of.len() as u16, planned: **planned },
                    None => Case::DatedBackup { time: aged.time },
                };
                self.settle(dir, name, case)?;
            }
            for Backup { name, .. } in &group[..kept] {
                let path = dir.join(OsStr::from_bytes(name));
                let reason = "among the newest, or not old enough";
                self.tell(&HousekeepEvent::Kept { path: &path, leftover: Leftover::Backup, reason })?;
            }
        }
        ControlFlow::Continue(())
    }

    fn zone(&mut self) -> &TimeZone {
        self.zone.get_or_insert_with(local_time::zone)
    }

    /// The time in a backup's name is local time.
    fn moment(&mut self, stamp: Stamp) -> i128 {
        match self.zone().to_timestamp(stamp.time) {
            Ok(timestamp) => timestamp.as_nanosecond(),
            // The year 9999: the future.
            Err(_) => i128::MAX,
        }
    }

    /// Removes one file, unless the last look says otherwise, and tells of it.
    fn settle(&mut self, dir: &Arc<Dir>, name: &[u8], case: Case) -> ControlFlow<()> {
        if let Some(later) = self.look(dir, name, case, false)? {
            self.later.push(later);
            if self.later.len() >= LATER {
                return self.look_again();
            }
        }
        ControlFlow::Continue(())
    }

    /// Comes back to what was too fresh.
    pub(super) fn look_again(&mut self) -> ControlFlow<()> {
        for Later { dir, name, case, due } in std::mem::take(&mut self.later) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.look(&dir, &name, case, true)?;
        }
        ControlFlow::Continue(())
    }
}

/// How events are told and counted.
impl Job<'_> {
    /// Looks at one file, removes it if that is right, and tells what has become of it. Something: it was too fresh.
    fn look(&mut self, dir: &Arc<Dir>, name: &[u8], case: Case, again: bool) -> ControlFlow<(), Option<Later>> {
        let look = Look { now: now(), dry_run: self.options.dry_run, again };
        let file = OsStr::from_bytes(name);
        let (leftover, outcome) = match case {
            Case::Lock => (Leftover::Lock, remove::lock(dir, file, self.options.locks_older_than, look)),
            Case::Lease => (Leftover::Lease, remove::lease(dir, file, self.options.locks_older_than, look)),
            Case::Temp => (Leftover::Temp, remove::temp(dir, file, self.options.temps_older_than, look)),
            Case::DatedBackup { time } => (Leftover::Backup, remove::dated_backup(dir, file, time, look)),
            Case::PlainBackup { of: length, ref planned } => {
                let of = OsStr::from_bytes(&name[..usize::from(length)]);
                // A time out of range says nothing; any will do.
                let time = jiff::Timestamp::from_nanosecond(planned.modified).unwrap_or_default();
                let time = time.to_zoned(self.zone().clone());
                let suffix = &self.options.backup_suffix;
                let room = MOST_OF_A_NAME.saturating_sub(suffix.len());
                let base = OsStr::from_bytes(&name[..usize::from(length).min(room)]);
                let names = BackupNames::of_time(base, suffix, &time);
                (Leftover::Backup, remove::plain_backup(dir, file, of, &names, planned, look))
            }
        };
        let path = dir.join(file);
        match outcome {
            Ok(Outcome::Removed { bytes, age }) => {
                match leftover {
                    Leftover::Lock => self.summary.locks += 1,
                    Leftover::Lease => self.summary.leases += 1,
                    Leftover::Backup => self.summary.backups += 1,
                    Leftover::Temp => self.summary.temps += 1,
                }
                self.summary.bytes += bytes;
                self.tell(&HousekeepEvent::Deleted { path: &path, leftover, bytes, age })?;
            }
            Ok(Outcome::Kept(reason)) => self.tell(&HousekeepEvent::Kept { path: &path, leftover, reason })?,
            Ok(Outcome::TooFresh(wait)) => {
                let later = Later { dir: dir.clone(), name: name.into(), case, due: Instant::now() + wait };
                return ControlFlow::Continue(Some(later));
            }
            Ok(Outcome::Gone) => {}
            // NFS: removed by another client.
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => {}
            Err(e) => self.failed(Error::io(path, e))?,
        }
        ControlFlow::Continue(None)
    }

    pub(super) fn not_entered(&mut self, path: &Path, reason: &'static str) -> ControlFlow<()> {
        self.tell(&HousekeepEvent::NotEntered { path, reason })
    }

    pub(super) fn failed(&mut self, error: Error) -> ControlFlow<()> {
        self.summary.failures += 1;
        self.tell(&HousekeepEvent::Failed(&error))
    }

    fn tell(&mut self, event: &HousekeepEvent<'_>) -> ControlFlow<()> {
        (self.report)(event)
    }
}

impl Part {
    fn has(self, name: &[u8], meaning: Meaning) -> bool {
        let key = match meaning {
            // Whatever may turn out to be of one group must be in one part.
            Meaning::Backup(length) => names::root(&name[..usize::from(length)]),
            Meaning::Dated => names::root(name),
            Meaning::Lock | Meaning::Lease | Meaning::Temp => name,
        };
        self.mask == 0 || hash(key) & self.mask == self.bits
    }

    /// Leaves this the half of what it was and returns the other half; `None`: it is too small for that.
    fn halve(&mut self) -> Option<Part> {
        let bit = self.mask + 1;
        if bit > 1 << 20 {
            return None;
        }
        self.mask |= bit;
        Some(Part { mask: self.mask, bits: self.bits | bit })
    }
}

/// FNV-1a. It only has to spread names; whoever makes his collide makes us take more memory for them.
fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Nanoseconds since 1970.
fn now() -> i128 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        // A clock before 1970: everything is young.
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_divide_without_overlap_or_gap() {
        let mut parts = vec![Part { mask: 0, bits: 0 }];
        for _ in 0..5 {
            let mut part = parts.remove(0);
            parts.push(part.halve().unwrap());
            parts.push(part);
        }
        assert_eq!(parts.len(), 6);
        for n in 0..1000 {
            let name = format!("file{n}.lock");
            let holders = parts.iter().filter(|part| part.has(name.as_bytes(), Meaning::Lock)).count();
            assert_eq!(holders, 1, "{name}");
        }
    }

    #[test]
    fn a_group_is_never_divided() {
        let part = Part { mask: 0xff, bits: hash(b"log") & 0xff };
        for (name, length) in
            [("log.backup", 3), ("log.20260102-030405.backup", 19), ("log.20260102-030405-3.backup", 21)]
        {
            assert!(part.has(name.as_bytes(), Meaning::Backup(length)), "{name}");
        }
        assert!(part.has(b"log.20260102-030405", Meaning::Dated));
    }
}
