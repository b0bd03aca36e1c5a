//! One directory: find the candidates, decide which backups go, delete, report.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::tz::TimeZone;

use super::age::now;
use super::classify::NameKind;
use super::delete::{self, Attempt, Deleted, NotDeleted};
use super::events::{Flow, HousekeepEvent, HousekeepSummary, Leftover};
use super::options::HousekeepOptions;
use super::retention::{BackupTime, Retention};
use super::scan::{Batches, Candidate};
use super::version_control::RepositoryNames;
use crate::error::Error;
use crate::local_time;
use crate::names::{BackupNames, Stamp, split_stamp};
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
    /// A backup that was made at this time, by its name.
    DatedBackup {
        time: i128,
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
    made: BackupTime,
    /// Where the time is not from its name: what the file looked like.
    planned: Option<Box<FileStatus>>,
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
            zone: None,
            buffer: vec![MaybeUninit::uninit(); BUFFER],
        }
    }

    pub(super) fn finish(self, flow: Flow) -> HousekeepSummary {
        HousekeepSummary { stopped: flow.is_break(), ..self.summary }
    }

    /// Deletes what is to be deleted in `dir` itself. Returns whether it may have subdirectories to go on with.
    pub(super) fn clean(&mut self, dir: &Arc<Dir>) -> Flow<bool> {
        self.summary.directories += 1;
        let mut batches = Batches::new(dir, self.options);
        let mut repository = RepositoryNames::default();
        let mut has_directories = false;
        loop {
            let batch = batches.next(&mut self.buffer, |name, kind| {
                self.entries += 1;
                repository.add(name);
                has_directories |= matches!(kind, None | Some(FileKind::Directory));
            });
            let candidates = match batch {
                Ok(Some(candidates)) => candidates,
                Ok(None) => return ControlFlow::Continue(has_directories),
                Err(e) => {
                    // A name that could not be read may be the newest backup's, on which the other backups depend.
                    self.failed(Error::io(dir.path(), e))?;
                    return ControlFlow::Continue(has_directories);
                }
            };
            if repository.are_complete() {
                self.not_entered(dir.path(), "bare git repository")?;
                return ControlFlow::Continue(false);
            }
            self.tell(&HousekeepEvent::Progress { directories: self.summary.directories, entries: self.entries })?;
            self.delete_all(dir, &candidates)?;
        }
    }

    fn delete_all(&mut self, dir: &Arc<Dir>, candidates: &[Candidate]) -> Flow {
        for Candidate { name, kind } in candidates {
            match kind {
                NameKind::Lock => self.delete(dir, name, Deletion::Lock)?,
                NameKind::Lease => self.delete(dir, name, Deletion::Lease)?,
                NameKind::Temp => self.delete(dir, name, Deletion::Temp)?,
                NameKind::Backup(_) | NameKind::DatedTarget => {}
            }
        }
        self.delete_backups(dir, candidates)
    }

    /// Deletes the backups among `candidates` that are too many or too old.
    fn delete_backups(&mut self, dir: &Arc<Dir>, candidates: &[Candidate]) -> Flow {
        let mut backups = self.find_backups(dir, candidates)?;
        let retention = Retention::new(self.options.keep_newest, self.options.backups_older_than);
        let now = now();
        // Group by group, newest first.
        backups.sort_unstable_by(|a, b| a.of.cmp(b.of).then(b.made.cmp(&a.made)).then(b.name.cmp(a.name)));
        for group in backups.chunk_by(|a, b| a.of == b.of) {
            let (kept, old) = group.split_at(retention.keeps(group, |backup| backup.made, now));
            // The oldest first: if the work ends half-way, the most valuable backups are left.
            for Backup { of, name, made, planned } in old.iter().rev() {
                let deletion = match planned {
                    Some(planned) => Deletion::PlainBackup { of: of.len() as u16, planned: **planned },
                    None => Deletion::DatedBackup { time: made.time },
                };
                self.delete(dir, name, deletion)?;
            }
            for Backup { name, .. } in kept {
                let path = dir.join(OsStr::from_bytes(name));
                let reason = "among the newest, or not old enough";
                self.tell(&HousekeepEvent::Kept { path: &path, leftover: Leftover::Backup, reason })?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The backups among `candidates`, each with the file it is of and its time.
    fn find_backups<'c>(&mut self, dir: &Dir, candidates: &'c [Candidate]) -> Flow<Vec<Backup<'c>>> {
        let mut backups = Vec::new();
        for Candidate { name, kind } in candidates {
            let NameKind::Backup(length) = *kind else { continue };
            let base = &name[..usize::from(length)];
            let dated = split_stamp(base).filter(|_| {
                let target = candidates.binary_search_by(|c| (*c.name).cmp(base));
                // `log.20260102-030405.backup` is a plain backup where `log.20260102-030405` is a file.
                !target.is_ok_and(|at| candidates[at].kind == NameKind::DatedTarget)
            });
            if let Some((length, stamp)) = dated {
                let made = BackupTime { time: self.moment(stamp), number: stamp.number };
                backups.push(Backup { of: &base[..length], name, made, planned: None });
                continue;
            }
            match dir.status(OsStr::from_bytes(name)) {
                Ok(Some(status)) if status.kind == FileKind::Regular => {
                    let made = BackupTime { time: status.modified, number: 0 };
                    backups.push(Backup { of: base, name, made, planned: Some(Box::new(status)) });
                }
                Ok(_) => {}
                Err(e) => self.failed(Error::io(dir.join(OsStr::from_bytes(name)), e))?,
            }
        }
        ControlFlow::Continue(backups)
    }

    fn zone(&mut self) -> &TimeZone {
        self.zone.get_or_insert_with(local_time::zone)
    }

    /// The time in a backup's name, which is local time.
    fn moment(&mut self, stamp: Stamp) -> i128 {
        // jiff cannot convert the last hours of the year 9999, which is in the future.
        self.zone().to_timestamp(stamp.time).map_or(i128::MAX, |time| time.as_nanosecond())
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
        ControlFlow::Continue(())
    }

    /// Tries to delete one file, and reports what came of it. Returns the file if it is too fresh.
    fn attempt(&mut self, dir: &Arc<Dir>, name: &[u8], deletion: Deletion, again: bool) -> Flow<Option<Deferred>> {
        let options = self.options;
        let attempt = Attempt { now: now(), dry_run: options.dry_run, again };
        let file = OsStr::from_bytes(name);
        let (leftover, outcome) = match deletion {
            Deletion::Lock => (Leftover::Lock, delete::lock(dir, file, options.locks_older_than, attempt)),
            Deletion::Lease => (Leftover::Lease, delete::lease(dir, file, options.locks_older_than, attempt)),
            Deletion::Temp => (Leftover::Temp, delete::temp(dir, file, options.temps_older_than, attempt)),
            Deletion::DatedBackup { time } => (Leftover::Backup, delete::dated_backup(dir, file, time, attempt)),
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
