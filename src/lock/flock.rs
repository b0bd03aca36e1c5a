//! The flock protocol.
//!
//! A lock file has no content and lives only while somebody holds or wants the lock. Deleting it on release is the
//! field's classic bug (a waiter then holds a lock on an inode that nobody else can find), so three things go together:
//!
//! 1. Whoever gets the lock looks whether the file still has its name ([`LockFile::is_current`]); if not, it starts over.
//! 2. A waiter registers (a shared record lock on byte 0, which a flock does not see), and a releaser that sees one
//!    leaves the file to it: otherwise every release would wake every waiter into a dead inode.
//! 3. A releaser that saw somebody unlocks and *looks again*; a waiter that gives up withdraws and *tries again*. Of any
//!    two such, one sees the other, so that no file stays.
//!
//! ```text
//!   open ──flock──> locked ──is_current──> held ──relinquish──> closed
//!            │         └── dead inode: open again
//!            └ busy: register, wait, withdraw
//! ```
//!
//! Registration is an optimisation and only used where the file system is local: over NFS flock is itself a record lock
//! on the same file, and the two would deadlock.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::access::{default_mode, open_existing, open_or_create, open_to_others};
use super::inherited::{self, Ancestor, Confirmed, HandOver, Intent};
use super::patience::Patience;
use super::place::{Place, not_ours};
use super::waiting::{self, Lockable};
use super::{baton, filesystem, proc_locks};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::options::{LockOptions, Wait};
use crate::sys::{self, Dir, FileId, FileKind, FileStatus, ofd};

/// An open lock file.
#[derive(Debug)]
pub(crate) struct LockFile {
    dir: Arc<Dir>,
    name: OsString,
    path: PathBuf,
    file: File,
    status: FileStatus,
    shared: bool,
    keep: bool,
    /// This descriptor has a registration, for the signal thread to withdraw.
    registered: AtomicBool,
    /// Who holds the lock above this process, so that ours is a share of theirs.
    ancestor: Option<Ancestor>,
    /// Whose lock is one by link(2), with this nonce.
    nonce: Option<String>,
    /// It has been handed to a child process.
    handed_over: AtomicBool,
}

/// The lock itself, or below an ancestor who holds it a byte that keeps those apart who go on under it.
impl Lockable for LockFile {
    fn try_lock(&self) -> io::Result<bool> {
        match &self.ancestor {
            None => sys::try_flock(&self.file, self.shared),
            Some(above) => ofd::try_lock(&self.file, self.shared, above.byte_below()),
        }
    }

    fn wait_once(&self) -> io::Result<()> {
        match &self.ancestor {
            None => sys::wait_flock(&self.file, self.shared),
            Some(above) => ofd::wait_lock(&self.file, self.shared, above.byte_below()),
        }
    }

    fn is_looked_at(&self) -> bool {
        filesystem::is_local(&self.file) && ofd::is_locked(&self.file, inherited::LOOKED_AT).unwrap_or(false)
    }
}

impl LockFile {
    /// Opens the lock file at `place`, creating it where it is missing. Does not lock it.
    pub(crate) fn open(place: &Place, target: Option<&FileStatus>, options: &LockOptions) -> io::Result<LockFile> {
        let mode = options.mode.unwrap_or_else(|| default_mode(target));
        let (file, created) = open_or_create(place, mode)?;
        let status = FileStatus::of(&file).and_then(|status| {
            if created {
                open_to_others(&file, status.mode, mode, target)?;
            }
            Ok(status)
        });
        let status = match status {
            Ok(status) => status,
            Err(e) => {
                // Nobody else may be left holding an inode without a name: only removed under its lock. Failing that,
                // a zero-length lock file stays, as after a crash.
                if created && sys::try_flock(&file, false).unwrap_or(false) {
                    let _ = place.dir.unlink(&place.name);
                }
                return Err(e);
            }
        };
        Ok(LockFile {
            dir: place.dir.clone(),
            name: place.name.clone(),
            path: place.path.clone(),
            status,
            shared: options.shared,
            keep: options.keep,
            registered: AtomicBool::new(false),
            ancestor: None,
            nonce: None,
            handed_over: AtomicBool::new(false),
            file,
        })
    }

    /// The lock file at `place` if there is one, for a look at who has it.
    pub(crate) fn existing(place: &Place) -> io::Result<Option<LockFile>> {
        let file = match place.dir.status(&place.name)? {
            None => return Ok(None),
            Some(s) if s.kind == FileKind::Symlink => return Err(io::Error::from_raw_os_error(libc::ELOOP)),
            Some(s) if s.kind != FileKind::Regular => {
                return Err(io::Error::other(format!("Lock file is a {}", s.kind.name())));
            }
            Some(_) => match open_existing(place) {
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
                file => file?,
            },
        };
        let status = FileStatus::of(&file)?;
        Ok(Some(LockFile {
            dir: place.dir.clone(),
            name: place.name.clone(),
            path: place.path.clone(),
            file,
            status,
            shared: false,
            keep: true,
            registered: AtomicBool::new(false),
            ancestor: None,
            nonce: None,
            handed_over: AtomicBool::new(false),
        }))
    }

    /// Whether a process above this one holds the lock at `place` by flock.
    pub(super) fn is_below(place: &Place) -> bool {
        inherited::is_any()
            && matches!(LockFile::existing(place), Ok(Some(file)) if !file.has_content()
                && inherited::find(&file.file, file.status.id).is_some())
    }

    /// `file`, a new description of what an `ancestor` who holds the lock at `place` by link(2) carries for those below.
    pub(super) fn below(
        place: &Place,
        file: File,
        ancestor: Ancestor,
        nonce: String,
        options: &LockOptions,
    ) -> io::Result<LockFile> {
        Ok(LockFile {
            dir: place.dir.clone(),
            name: place.name.clone(),
            path: place.path.clone(),
            status: FileStatus::of(&file)?,
            file,
            shared: options.shared,
            keep: true,
            registered: AtomicBool::new(false),
            ancestor: Some(ancestor),
            nonce: Some(nonce),
            handed_over: AtomicBool::new(false),
        })
    }

    /// Whether the lock is still there. It is as long as this process is, except below one by link(2).
    pub(super) fn is_still_held(&self) -> Result<bool> {
        self.nonce.as_ref().map_or(Ok(true), |nonce| baton::still_holds(&self.dir, &self.name, nonce))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says that it is held for a moment only. Where that does not work, one who does not wait may find it busy.
    pub(crate) fn look_at(file: &File) {
        let _ = ofd::try_lock(file, true, inherited::LOOKED_AT);
    }

    pub(super) fn tell_looked_at(&self) {
        LockFile::look_at(&self.file);
    }

    pub(super) fn is_held_by(&self, pid: u32) -> bool {
        self.holder().is_some_and(|holder| holder.pid == pid)
    }

    pub(super) fn id(&self) -> FileId {
        self.status.id
    }

    /// Whether there is something in it: then it is no lock file of this kind, and must never be locked or deleted.
    pub(crate) fn has_content(&self) -> bool {
        self.status.size != 0
    }

    /// Refuses to use, and so ever to delete, what is not a lock file.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        match self.status {
            FileStatus { kind: FileKind::Regular, size: 0, .. } => Ok(()),
            FileStatus { kind: FileKind::Regular, .. } => Err(not_ours(path)),
            FileStatus { kind, .. } => {
                Err(Error::new(ErrorKind::NotAFile, format!("Lock file is a {}", kind.name())).on(path))
            }
        }
    }

    /// Locks it, waiting as `options` say. False: it stayed busy for as long as the caller would wait.
    pub(crate) fn take(&self, options: &LockOptions, patience: &mut Patience<'_>) -> io::Result<bool> {
        if self.try_lock()? {
            return Ok(true);
        }
        if patience.wait == Wait::No {
            return waiting::glance(self);
        }
        if self.ancestor.is_none() && filesystem::is_local(&self.file) {
            // Without a registration the lock works as well: a release then wakes us into a dead inode.
            self.registered.store(ofd::register(&self.file).is_ok(), Ordering::SeqCst);
        }
        patience.tell_waiting(&self.path);
        let outcome = waiting::wait(self, options.use_alarm, patience);
        self.withdraw()?;
        match outcome {
            // Having withdrawn, try once more: a releaser that saw us registered has left the lock file to us.
            Ok(false) => self.try_lock(),
            outcome => outcome,
        }
    }

    fn withdraw(&self) -> io::Result<()> {
        if self.registered.swap(false, Ordering::SeqCst) { ofd::withdraw(&self.file) } else { Ok(()) }
    }

    /// Whether the locked file is still the one that others will find under its name.
    pub(crate) fn is_current(&self) -> io::Result<bool> {
        Ok(self.dir.status(&self.name)?.is_some_and(|now| now.id == self.status.id))
    }

    /// Looks whether an ancestor of this process holds it, whose lock is then shared instead of waited for.
    pub(crate) fn look_above(&mut self) {
        self.ancestor = inherited::find(&self.file, self.status.id);
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The ancestor under whose lock this one is, or would be, if any.
    pub(crate) fn ancestor(&self) -> Option<&Ancestor> {
        self.ancestor.as_ref()
    }

    /// Whether the lock is what it was taken for: always, unless it is one under an ancestor's.
    pub(crate) fn confirm(&self) -> Confirmed {
        self.ancestor.as_ref().map_or(Confirmed::Holds, |ancestor| ancestor.confirm(&self.file))
    }

    /// What to give a child process that may go on under this lock. `intent`: what it is held for.
    pub(crate) fn hand_over(&self, intent: Intent) -> io::Result<HandOver> {
        let depth = self.ancestor.as_ref().map_or(0, Ancestor::depth_below);
        self.handed_over.store(true, Ordering::SeqCst);
        inherited::hand_over(&self.file, self.status.id, intent, depth)
    }

    /// What to give a child process that may not.
    pub(crate) fn keep_back(&self) -> HandOver {
        inherited::keep_back(self.status.id)
    }

    /// Gives it back and removes the file, unless somebody registered to have it next. Does the same for a waiter that
    /// is told to stop: should the lock have come to it, or come to it now, the file is its to remove.
    ///
    /// Runs with the clean-up mutex held, on the waiter's own thread or the signal thread.
    pub(crate) fn relinquish(&self) -> io::Result<()> {
        // A registration that stays ends with the descriptor, which is about to be closed.
        let _ = self.withdraw();
        if self.handed_over.load(Ordering::SeqCst) {
            let depth = self.ancestor.as_ref().map_or(0, Ancestor::depth_below);
            if !inherited::take_back(&self.file, depth) {
                // Someone below goes on under it and has the descriptor: it is theirs now, to give back when they end;
                // unless they just have.
                inherited::leave(&self.file);
                if !inherited::take_back(&self.file, depth) {
                    return Ok(());
                }
            }
        }
        // Explicitly, not only by closing: a child may have been given the descriptor, and would keep the lock.
        if let Some(above) = &self.ancestor {
            let outcome = inherited::release(&self.file);
            return outcome.and(above.give_back_what_was_left(&self.file, |holding| {
                let outcome = if self.nonce.is_none() { self.remove_if_last(holding) } else { Ok(()) };
                let unlocked = sys::unflock(holding);
                outcome.and(unlocked)
            }));
        }
        let outcome = self.remove_if_last(self.file.as_fd());
        let unlocked = sys::unflock(&self.file);
        if self.handed_over.load(Ordering::SeqCst) {
            let _ = inherited::release(&self.file);
        }
        outcome.and(unlocked)
    }

    /// `holding`: the description that has the lock.
    fn remove_if_last(&self, holding: BorrowedFd<'_>) -> io::Result<()> {
        if self.keep || self.status.size != 0 || self.status.kind != FileKind::Regular {
            return Ok(());
        }
        // A holder has it already and this changes nothing; a shared holder must be alone to remove the file.
        if !sys::try_flock(holding, false)? {
            return Ok(());
        }
        if wanted(holding) {
            sys::unflock(holding)?;
            // Whoever withdrew before this look has had its own last try after the unlock, or has not come to it yet
            // and will find the lock free.
            if wanted(holding) || !sys::try_flock(holding, false)? {
                return Ok(());
            }
        }
        // The name may by now be somebody else's, if the file was removed by hand or by a broken program; and a program
        // may have written into it.
        if !self.dir.status(&self.name)?.is_some_and(|now| now.id == self.status.id && now.size == 0) {
            return Ok(());
        }
        match self.dir.unlink(&self.name) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
            _ => Ok(()),
        }
    }

    /// Who holds it, for a message.
    pub(crate) fn holder(&self) -> Option<Holder> {
        proc_locks::find(self.status.id)
    }
}

/// Whether a waiter has registered. Where that cannot be asked nobody registers.
fn wanted(file: BorrowedFd<'_>) -> bool {
    ofd::is_registered(file).unwrap_or(false)
}
