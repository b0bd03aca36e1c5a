//! One directory: find the candidates, decide which backups go, delete, report.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::tz::TimeZone;

use super::age::{age, now};
use super::classify::NameKind;
use super::delete::{self, Aside, Attempt, Deleted, LockDeletion, NotDeleted};
use super::events::{Flow, HousekeepEvent, HousekeepSummary, Leftover};
use super::options::HousekeepOptions;
use super::ownership::{Files, is_own_backup, is_own_lock};
use super::retention::Retention;
use super::scan::{Candidate, Candidates, Part, Scan};
use super::version_control::{RepositoryNames, is_bare_repository};
use crate::error::Error;
use crate::local_time;
use crate::names::{BackupNames, Stamp, is_mark_name, split_stamp};
use crate::sys::{Dir, FileKind, FileStatus};

/// Bytes of names that are read at a time.
const BUFFER: usize = 32 * 1024;
/// How many files are put off before they are looked at again.
const MOST_DEFERRED: usize = 64;

/// One run of housekeeping: what it is asked to do, and what it has done so far.
pub(super) struct Sweep<'a> {
    pub(super) options: &'a HousekeepOptions,
    report: &'a mut dyn FnMut(&HousekeepEvent<'_>) -> Flow,
    summary: HousekeepSummary,
    /// How many names were read.
    entries: u64,
    deferred: Vec<Deferred>,
    aside: Aside,
    zone: Option<TimeZone>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// A file that was too fresh.
struct Deferred {
    dir: Arc<Dir>,
    name: Box<[u8]>,
    deletion: Deletion,
    due: Instant,
}

/// What is to be deleted.
enum Deletion {
    Lock,
    Lease,
    Temp,
    /// A backup with its time in its name.
    DatedBackup {
        time: i128,
        /// What it looked like when its age was compared, if it was.
        seen: Option<Box<FileStatus>>,
    },
    PlainBackup {
        /// The length of the name of the file that it is a backup of.
        of: u16,
        /// What it looked like when its age was compared.
        planned: FileStatus,
    },
}

/// A backup in its group.
struct Backup<'a> {
    /// The file that it is a backup of.
    of: &'a [u8],
    name: &'a [u8],
    /// When it was made by the time in its name, and its number in that second.
    dated: Option<(i128, u32)>,
    /// When it was made: by its name or by its modification time, whichever is later, so that no time zone, summer time or
    /// copy makes a young one old.
    made: i128,
    /// What it looked like. Not looked at where only the order in its group counts, and the names tell that.
    seen: Option<Box<FileStatus>>,
}

impl Backup<'_> {
    /// File by file, the newest first. The names order those that have a time in them, even where a copy has mixed up
    /// their modification times; only of the hour that comes twice in autumn these tell which of the two it was. A file has
    /// one without at most: it comes first, and then finds its place.
    // Inlined, it would be in the sort eleven times.
    #[inline(never)]
    fn order(&self, other: &Self) -> Ordering {
        let by_file = self.of.cmp(other.of).then(self.dated.is_some().cmp(&other.dated.is_some()));
        by_file.then(other.dated.cmp(&self.dated))
    }
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        options: &'a HousekeepOptions,
        report: &'a mut dyn FnMut(&HousekeepEvent<'_>) -> Flow,
    ) -> Sweep<'a> {
        Sweep {
            options,
            report,
            summary: HousekeepSummary::default(),
            entries: 0,
            deferred: Vec::new(),
            aside: Aside::new(),
            zone: None,
            buffer: vec![MaybeUninit::uninit(); BUFFER],
        }
    }

    pub(super) fn finish(mut self, flow: Flow) -> HousekeepSummary {
        // Empty, unless the work was stopped half-way.
        let _ = self.empty_aside();
        HousekeepSummary { stopped: flow.is_break(), ..self.summary }
    }

    /// Deletes what is to be deleted in `dir` itself. Returns whether it may have subdirectories to go on with.
    pub(super) fn clean(&mut self, dir: &Arc<Dir>) -> Flow<bool> {
        self.summary.directories += 1;
        let mut scan = Scan::new(dir, self.options);
        let mut repository = RepositoryNames::default();
        let mut has_directories = false;
        loop {
            let part = scan.next(&mut self.buffer, |name, kind| {
                self.entries += 1;
                repository.add(name);
                has_directories |= matches!(kind, None | Some(FileKind::Directory));
            });
            let part = match part {
                Ok(Some(part)) => part,
                Ok(None) => return ControlFlow::Continue(has_directories),
                Err(e) => {
                    // A name that could not be read may be the newest backup's, on which the other backups depend.
                    self.failed(Error::io(dir.path(), e))?;
                    return ControlFlow::Continue(has_directories);
                }
            };
            if repository.are_complete() || (!scan.has_read_all() && is_bare_repository(dir)) {
                self.not_entered(dir.path(), "bare git repository")?;
                return ControlFlow::Continue(false);
            }
            self.tell(&HousekeepEvent::Progress { directories: self.summary.directories, entries: self.entries })?;
            match part {
                Part::Singles(candidates, files) => self.delete_singles(dir, &candidates, &files)?,
                Part::Groups(candidates) => {
                    for temp in candidates.all.iter().filter(|candidate| candidate.kind == NameKind::Temp) {
                        self.delete(dir, candidates.name(temp), Deletion::Temp)?;
                    }
                    self.delete_backups(dir, &candidates)?;
                }
            }
        }
    }

    fn delete_singles(&mut self, dir: &Arc<Dir>, candidates: &Candidates, files: &Files) -> Flow {
        for candidate in &candidates.all {
            let name = candidates.name(candidate);
            match candidate.kind {
                NameKind::Lock => {
                    if self.may_delete_lock(dir, name, files)? {
                        self.delete(dir, name, Deletion::Lock)?;
                    }
                }
                NameKind::Lease => self.delete(dir, name, Deletion::Lease)?,
                NameKind::Temp | NameKind::Backup(_) | NameKind::DatedTarget => {}
            }
        }
        self.empty_aside()
    }

    /// Removes the lock file that was renamed last.
    fn empty_aside(&mut self) -> Flow {
        match self.aside.finish() {
            Ok(()) => ControlFlow::Continue(()),
            Err((path, e)) => self.failed(Error::io(path, e)),
        }
    }

    /// Whether the lock file is ours, or may be anybody's. Reports and counts one that stays for that reason.
    fn may_delete_lock(&mut self, dir: &Arc<Dir>, name: &[u8], files: &Files) -> Flow<bool> {
        let name = OsStr::from_bytes(name);
        if self.options.locks {
            return ControlFlow::Continue(true);
        }
        let looked = is_own_lock(dir, name, files).and_then(|own| if own { Ok(None) } else { dir.status(name) });
        match looked {
            // What has content is ours if it is a record, and stays otherwise.
            Ok(Some(status)) if status.kind == FileKind::Regular && status.size == 0 && !is_mark_name(name) => {
                let old = age(now(), status.modified) >= self.options.locks_older_than;
                self.summary.other_locks += u64::from(status.links == 1 && old);
                self.not_ours(dir, name, Leftover::Lock)?;
                ControlFlow::Continue(false)
            }
            Ok(_) => ControlFlow::Continue(true),
            Err(e) => {
                self.failed(Error::io(dir.join(name), e))?;
                ControlFlow::Continue(false)
            }
        }
    }

    fn not_ours(&mut self, dir: &Dir, name: &OsStr, leftover: Leftover) -> Flow {
        let reason = "may be another program's";
        self.tell(&HousekeepEvent::Kept { path: &dir.join(name), leftover, reason })
    }

    /// Deletes the backups among `candidates` that are too many or too old.
    fn delete_backups(&mut self, dir: &Arc<Dir>, candidates: &Candidates) -> Flow {
        let options = self.options;
        let retention = Retention::new(options.keep_newest, options.backups_older_than, options.own);
        let now = now();
        for group in candidates.groups() {
            let mut backups = self.find_backups(dir, candidates, group, retention)?;
            backups.sort_unstable_by(Backup::order);
            for backups in backups.chunk_by_mut(|a, b| a.of == b.of) {
                self.delete_backups_of_one(dir, backups, retention, now)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn delete_backups_of_one(
        &mut self,
        dir: &Arc<Dir>,
        backups: &mut [Backup<'_>],
        retention: Retention,
        now: i128,
    ) -> Flow {
        if backups[0].dated.is_none() {
            let newer = backups[1..].iter().take_while(|dated| dated.made > backups[0].made).count();
            backups[..=newer].rotate_left(1);
        }
        // The oldest first: if the work ends half-way, the most valuable backups are left.
        for (newer, Backup { of, name, dated, made, seen }) in backups.iter_mut().enumerate().rev() {
            if retention.keeps(newer, *made, now) {
                let path = dir.join(OsStr::from_bytes(name));
                let reason = "among the newest, or not old enough";
                self.tell(&HousekeepEvent::Kept { path: &path, leftover: Leftover::Backup, reason })?;
                continue;
            }
            let deletion = match (dated, seen.take()) {
                (None, Some(planned)) => Deletion::PlainBackup { of: of.len() as u16, planned: *planned },
                (_, seen) => Deletion::DatedBackup { time: *made, seen },
            };
            self.delete(dir, name, deletion)?;
        }
        ControlFlow::Continue(())
    }

    /// The backups in `group` that may go, each with the file it is of and its time.
    fn find_backups<'c>(
        &mut self,
        dir: &Dir,
        candidates: &'c Candidates,
        group: &[Candidate],
        retention: Retention,
    ) -> Flow<Vec<Backup<'c>>> {
        let mut backups = Vec::with_capacity(group.len());
        let position = |name: &[u8]| group.binary_search_by(|c| candidates.name(c).cmp(name));
        for candidate in group {
            let NameKind::Backup(length) = candidate.kind else { continue };
            let name = candidates.name(candidate);
            let (base, suffix) = name.split_at(usize::from(length));
            let dated = split_stamp(base).filter(|_| {
                // `log.20260102-030405.backup` is a plain backup where `log.20260102-030405` is a file.
                !position(base).is_ok_and(|at| group[at].kind == NameKind::DatedTarget)
            });
            let of = dated.map_or(base, |(length, _)| &base[..length]);
            let stamp = dated.map(|(_, stamp)| stamp);
            let by_name = stamp.map_or(i128::MIN, |stamp| self.moment(stamp, None));
            let is_clear = stamp.is_some_and(|stamp| !local_time::is_ambiguous(stamp.time, self.zone()));
            if is_clear && !retention.asks_for_age() && position(&[of, suffix].concat()).is_err() {
                let dated = stamp.map(|stamp| (by_name, stamp.number));
                backups.push(Backup { of, name, dated, made: by_name, seen: None });
                continue;
            }
            match dir.status(OsStr::from_bytes(name)) {
                Ok(Some(status)) if status.kind == FileKind::Regular => {
                    let made = by_name.max(status.modified);
                    if stamp.is_some()
                        || self.may_delete_plain_backup(dir, of, name, retention.is_young(made, now()))?
                    {
                        let dated = stamp.map(|stamp| (self.moment(stamp, Some(status.modified)), stamp.number));
                        backups.push(Backup { of, name, dated, made, seen: Some(Box::new(status)) });
                    }
                }
                Ok(_) => {}
                Err(e) => self.failed(Error::io(dir.join(OsStr::from_bytes(name)), e))?,
            }
        }
        ControlFlow::Continue(backups)
    }

    /// Whether a backup without a time in its name is ours, or may be anybody's.
    fn may_delete_plain_backup(&mut self, dir: &Dir, of: &[u8], name: &[u8], young: bool) -> Flow<bool> {
        let name = OsStr::from_bytes(name);
        match if self.options.backups { Ok(true) } else { is_own_backup(dir, of) } {
            Ok(true) => return ControlFlow::Continue(true),
            Ok(false) => {
                self.summary.other_backups += u64::from(!young);
                self.not_ours(dir, name, Leftover::Backup)?;
            }
            Err(e) => self.failed(Error::io(dir.join(name), e))?,
        }
        ControlFlow::Continue(false)
    }

    fn zone(&mut self) -> &TimeZone {
        self.zone.get_or_insert_with(local_time::zone)
    }

    /// The time in a backup's name, which is local time.
    fn moment(&mut self, stamp: Stamp, near: Option<i128>) -> i128 {
        local_time::moment(stamp.time, self.zone(), near)
    }

    /// Deletes one file, or puts it off if it is too fresh.
    fn delete(&mut self, dir: &Arc<Dir>, name: &[u8], deletion: Deletion) -> Flow {
        if let Some(deferred) = self.attempt(dir, name, deletion, false)? {
            self.deferred.push(deferred);
            if self.deferred.len() >= MOST_DEFERRED {
                return self.delete_deferred();
            }
        }
        ControlFlow::Continue(())
    }

    /// Waits for the files that were too fresh, and deletes them.
    pub(super) fn delete_deferred(&mut self) -> Flow {
        for Deferred { dir, name, deletion, due } in std::mem::take(&mut self.deferred) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.attempt(&dir, &name, deletion, true)?;
        }
        self.empty_aside()
    }

    /// Tries to delete one file, and reports what came of it. Returns the file if it is too fresh.
    fn attempt(&mut self, dir: &Arc<Dir>, name: &[u8], deletion: Deletion, again: bool) -> Flow<Option<Deferred>> {
        let options = self.options;
        let attempt = Attempt { now: now(), dry_run: options.dry_run, again };
        let file = OsStr::from_bytes(name);
        let (leftover, outcome) = match deletion {
            Deletion::Lock => {
                let (only_own, older_than) = (!options.locks, options.locks_older_than);
                let how = LockDeletion { only_own, older_than, aside: &mut self.aside };
                (Leftover::Lock, delete::lock(dir, file, how, attempt))
            }
            Deletion::Lease => {
                let set = || delete::set_record(dir, file, options.temps_older_than, attempt);
                match if options.cleans_temps() { set() } else { None } {
                    Some(outcome) => (Leftover::Temp, outcome),
                    None if options.cleans_locks() => {
                        (Leftover::Lease, delete::lease(dir, file, options.locks_older_than, attempt))
                    }
                    None => return ControlFlow::Continue(None),
                }
            }
            Deletion::Temp => (Leftover::Temp, delete::temp(dir, file, options.temps_older_than, attempt)),
            Deletion::DatedBackup { time, ref seen } => {
                (Leftover::Backup, delete::dated_backup(dir, file, time, seen.as_deref(), attempt))
            }
            Deletion::PlainBackup { of, ref planned } => {
                let of = OsStr::from_bytes(&name[..usize::from(of)]);
                // A time out of range says nothing; any will do.
                let time = jiff::Timestamp::from_nanosecond(planned.modified).unwrap_or_default();
                let time = self.zone().to_datetime(time);
                let asides = BackupNames::of_time(of, &options.backup_suffix, time);
                (Leftover::Backup, delete::plain_backup(dir, file, of, &asides, planned, attempt))
            }
        };
        let path = dir.join(file);
        match outcome {
            Ok(Deleted { bytes, age }) => {
                self.summary.add(leftover, bytes);
                self.tell(&HousekeepEvent::Deleted { path: &path, leftover, bytes, age })?;
            }
            Err(NotDeleted::Kept(reason)) => self.tell(&HousekeepEvent::Kept { path: &path, leftover, reason })?,
            Err(NotDeleted::TooFresh(wait)) => {
                let deferred = Deferred { dir: dir.clone(), name: name.into(), deletion, due: Instant::now() + wait };
                return ControlFlow::Continue(Some(deferred));
            }
            Err(NotDeleted::Leased) => {
                let reason = "in use, with a lease";
                self.tell(&HousekeepEvent::Kept { path: &path, leftover, reason })?;
            }
            Err(NotDeleted::Others) => {
                self.summary.other_locks += 1;
                self.not_ours(dir, file, leftover)?;
            }
            Err(NotDeleted::Gone) => {}
            // NFS: another client has deleted it.
            Err(NotDeleted::Failed(e)) if e.raw_os_error() == Some(libc::ESTALE) => {}
            Err(NotDeleted::Failed(e)) => self.failed(Error::io(path, e))?,
        }
        ControlFlow::Continue(None)
    }

    pub(super) fn not_entered(&mut self, path: &Path, reason: &'static str) -> Flow {
        self.tell(&HousekeepEvent::NotEntered { path, reason })
    }

    pub(super) fn failed(&mut self, error: Error) -> Flow {
        self.summary.failures += 1;
        self.tell(&HousekeepEvent::Failed(&error))
    }

    fn tell(&mut self, event: &HousekeepEvent<'_>) -> Flow {
        (self.report)(event)
    }
}
