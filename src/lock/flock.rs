//! The flock protocol.
//!
//! A lock file is empty and exists only while somebody holds or wants the lock. Deleting it on release is the classic
//! error of lock files: a waiter then gets the lock of an inode that nobody else can find. Three rules prevent that:
//!
//! 1. Whoever gets the lock checks that the locked file still has its name ([`LockFile::is_current`]). If not, it starts
//!    over. Before a commit it checks that again: programs that use the name in their own way do not know this protocol.
//! 2. A waiter registers: it shares a record lock on byte 0, which flock ignores. A releaser that sees a registration
//!    leaves the file to the waiter. Otherwise every release would wake all waiters on a dead inode.
//! 3. A releaser that saw a registration unlocks and then looks *again*. A waiter that gives up withdraws its registration
//!    and then tries *again*. At least one of the two sees the other, so no file stays.
//!
//! ```text
//!   open ─────take: free──────────> locked ──is_current, confirm──> held ──relinquish──> closed
//!    ├────────take: busy──────────> closed                            (a caller that does not wait)
//!    └────────take: busy──────────> registered ──flock, withdraw────> locked
//!   registered ──out of time: withdraw, try again──> locked or closed
//!   locked ──not current: the inode is dead──> closed, and the caller opens the file anew
//! ```
//!
//! The thread that acquires makes every move but the last. `relinquish` runs on that thread or on the signal thread, in
//! any state, with the clean-up mutex held. A forked child only closes its copy.
//!
//! Registration is an optimisation, and is left out unless the file system is local: over NFS a flock is itself a record
//! lock on the same file, and the two would deadlock.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::OFlags;

use super::access::{open_existing, open_or_create};
use super::around::{self, Around};
use super::inherited::{self, Ancestor, Confirmed, HandOver, Handed, Intent};
use super::look::is_held_by_link;
use super::place::{Place, not_ours, not_regular};
use super::request::{Patience, Request};
use super::waiting::{self, Lockable, Nesting, Waited};
use super::writers::Writers;
use super::{baton, filesystem, proc_locks};
use crate::error::Result;
use crate::holder::Holder;
use crate::options::{LockOptions, Wait};
use crate::sys::{self, Dir, FileKind, FileStatus, lease, ofd};

/// An open file whose lock is, or becomes, the lock of a target.
#[derive(Debug)]
pub(crate) struct LockFile {
    dir: Arc<Dir>,
    name: OsString,
    path: PathBuf,
    file: File,
    status: FileStatus,
    level: Level,
    shared: bool,
    keep: bool,
    /// This descriptor has a registration, which the signal thread may have to withdraw.
    registered: AtomicBool,
    handed: Handed,
    /// This process has created the file.
    created: bool,
    /// A waiter, who has not created it, may remove it after this process.
    is_removable: bool,
}

/// How often a lock file that somebody else has open is looked at again, and the pause before each look. Together about
/// as long as a program that makes lock files in its own way has them open.
const LOOKS: [Duration; 8] = {
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    [ms(1), ms(2), ms(4), ms(8), ms(15), ms(20), ms(25), ms(25)]
};

/// Who holds the target's lock above this process, and so what of the file is locked.
#[derive(Debug)]
enum Level {
    /// Nobody: the lock file's flock.
    Top,
    /// An ancestor, by flock: a byte of the lock file, which keeps those apart who go on below that ancestor.
    Below(Ancestor),
    /// An ancestor, by link(2), under this nonce: the same byte of the ancestor's baton.
    BelowLink(Ancestor, String),
}

/// How to find out who holds a lock above this process.
#[derive(Debug)]
pub(super) enum Above {
    /// By the environment.
    Environment,
    /// It is known.
    Known(Ancestor),
    /// Nobody: the environment has lied.
    Nobody,
}

impl Lockable for LockFile {
    fn try_lock(&self) -> io::Result<bool> {
        match self.ancestor() {
            None => sys::try_flock(&self.file, self.shared),
            Some(ancestor) => ofd::try_lock(&self.file, self.shared, ancestor.byte_below()),
        }
    }

    fn wait_once(&self) -> io::Result<()> {
        match self.ancestor() {
            None => sys::wait_flock(&self.file, self.shared),
            Some(ancestor) => ofd::wait_lock(&self.file, self.shared, ancestor.byte_below()),
        }
    }

    fn is_held_briefly(&self) -> bool {
        filesystem::is_local(&self.file) && inherited::is_marked_brief(&self.file)
    }
}

impl Nesting for LockFile {
    fn can_be_its_own(&self) -> bool {
        // Its baton is an ancestor's, and nobody else's.
        !matches!(self.level, Level::BelowLink(..))
    }

    fn was_taken_in(&self, times: RangeInclusive<i128>) -> bool {
        // By its creation, or show_since. Below a lock there is no such sign.
        let status = || FileStatus::of(&self.file);
        matches!(self.level, Level::Top) && status().is_ok_and(|status| times.contains(&status.modified))
    }

    fn look_around(&self, alone: bool) -> Around {
        around::look(&self.file, self.status.id, self.ancestor(), alone)
    }
}

impl LockFile {
    fn new(place: &Place, file: File, status: FileStatus, level: Level, options: &LockOptions) -> LockFile {
        LockFile {
            dir: place.dir.clone(),
            name: place.name.clone(),
            path: place.path.clone(),
            file,
            status,
            level,
            shared: options.shared,
            keep: options.keep_file,
            registered: AtomicBool::new(false),
            handed: Handed::default(),
            created: false,
            is_removable: place.is_removable(),
        }
    }

    /// Opens the lock file, creating it where it is missing. Does not lock it. `above` says who holds it above.
    pub(super) fn open(request: &Request<'_, '_>, above: &Above) -> io::Result<LockFile> {
        let (place, mode) = (request.place, request.options.mode);
        let (file, created) = open_or_create(place, Writers::first_mode(mode))?;
        let opened = FileStatus::of(&file).and_then(|status| {
            if created {
                place.lease.writers.give(&file, &status, mode)?;
            }
            Ok(status)
        });
        let status = opened.inspect_err(|_| {
            // Removed under its lock only: nobody else may be left with an inode that has no name. If the lock is not
            // free, an empty lock file stays, as after a crash.
            if created && sys::try_flock(&file, false).unwrap_or(false) {
                let _ = place.dir.unlink(&place.name);
            }
        })?;
        let ancestor = match above {
            Above::Environment => inherited::find(&file, status.id),
            Above::Known(ancestor) => Some(ancestor.clone()),
            Above::Nobody => None,
        };
        let level = ancestor.map_or(Level::Top, Level::Below);
        let mut file = LockFile::new(place, file, status, level, request.options);
        file.created = created;
        // A file that the caller named and that was there before is only removed where it is called as lock files are.
        file.keep |= !created && !file.is_removable;
        // Which one it is, only this call tells: another holder may remove the file that was there a moment ago.
        file.keep &= !(created && request.patience.briefly);
        Ok(file)
    }

    /// Gives the file, now locked, the time of this lock: others say since when it is held.
    pub(super) fn show_since(&self) {
        if !self.created && matches!(self.level, Level::Top) {
            // It may be another user's file. Then the time stays unknown.
            let _ = sys::dir::touch(&self.file);
        }
    }

    /// Opens the lock file at `place`, if there is one, to find out who holds it. It is never removed through this value.
    pub(super) fn existing(place: &Place) -> io::Result<Option<LockFile>> {
        let Some(file) = open_existing(place)? else { return Ok(None) };
        let (status, options) = (FileStatus::of(&file)?, LockOptions { keep_file: true, ..LockOptions::default() });
        Ok(Some(LockFile::new(place, file, status, Level::Top, &options)))
    }

    /// `baton` is a new description of the file that `ancestor`, who holds the lock by link(2) under `nonce`, has given to
    /// its children.
    pub(super) fn below_link(
        request: &Request<'_, '_>,
        baton: File,
        ancestor: Ancestor,
        nonce: String,
    ) -> io::Result<LockFile> {
        let status = FileStatus::of(&baton)?;
        Ok(LockFile::new(request.place, baton, status, Level::BelowLink(ancestor, nonce), request.options))
    }

    /// The ancestor that holds the lock by flock, for one who would lock by link(2). An error where it cannot go on under
    /// that lock.
    pub(super) fn holder_above(request: &Request<'_, '_>) -> Result<Option<Ancestor>> {
        let (place, is_empty) = (request.place, |file: FileStatus| file.size == 0);
        if !place.dir.status(&place.name).is_ok_and(|file| file.is_some_and(is_empty)) {
            // Without opening it: there is no lock, or the record of one by link(2).
            return Ok(None);
        }
        let Ok(Some(file)) = LockFile::existing(place) else { return Ok(None) };
        match inherited::find(&file.file, file.status.id) {
            None => file
                .look_around(request.patience.use_alarm)
                .ensure_not_itself(&request.target.given, request.patience.wait),
            found => Ok(found),
        }
    }

    /// Whether the lock is still held. A flock is, as long as this process lives; a link lock above may have been lost.
    pub(super) fn is_still_held(&self) -> Result<bool> {
        match &self.level {
            Level::Top | Level::Below(_) => Ok(true),
            Level::BelowLink(_, nonce) => baton::still_holds(&self.dir, &self.name, nonce),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory and the name of the lock file.
    pub(super) fn place(&self) -> (&Dir, &OsStr) {
        (&self.dir, &self.name)
    }

    /// Whether it belongs to somebody who may not write the target.
    pub(super) fn is_squatted(&self, place: &Place) -> bool {
        !self.created && !place.lease.writers.may_record(self.status.uid)
    }

    /// Whether it has content. Then it is no lock file of this kind, and must never be locked or deleted.
    pub(super) fn has_content(&self) -> bool {
        self.status.size != 0
    }

    /// Refuses to use what is not a lock file, so that it is never deleted.
    pub(super) fn ensure_lock_file(&self) -> Result<()> {
        match self.status {
            FileStatus { kind: FileKind::Regular, size: 0, .. } => Ok(()),
            FileStatus { kind: FileKind::Regular, .. } => Err(not_ours(&self.path)),
            FileStatus { kind, .. } => Err(not_regular(&self.path, kind)),
        }
    }

    /// Locks it if it is free: true.
    pub(super) fn lock_now(&self) -> io::Result<bool> {
        Ok(self.try_lock()? && self.let_strangers_finish()?)
    }

    /// Waits for the lock, which was not free, as long as `patience` allows.
    pub(super) fn wait(&self, patience: &mut Patience<'_>) -> io::Result<Waited> {
        if patience.wait != Wait::No && matches!(self.level, Level::Top) && filesystem::is_local(&self.file) {
            // Without a registration the lock works too, but a release wakes us on a dead inode.
            self.registered.store(ofd::register(&self.file).is_ok(), Ordering::SeqCst);
        }
        let outcome = waiting::wait(self, patience, &self.path);
        self.withdraw()?;
        match outcome {
            // Again, now that we have withdrawn: a releaser that saw us registered has left the lock file to us.
            Ok(Waited::Not(_)) if patience.wait != Wait::No && self.try_lock()? => Ok(Waited::Locked),
            outcome => outcome,
        }
    }

    fn withdraw(&self) -> io::Result<()> {
        if self.registered.swap(false, Ordering::SeqCst) { ofd::withdraw(&self.file) } else { Ok(()) }
    }

    /// Some programs lock a file `f` by making `f.lock`, into which they write the new content, to rename it over `f`: git,
    /// for one. They hold no `flock`, but have it open, and it is empty at first. So an empty lock file that nobody has
    /// locked may be theirs. Gives them a moment to go on, after which the file has content or another name.
    ///
    /// It may also have been created by one of us, who has not locked it yet. The first moment is for that one to do so:
    /// then this is false, and the lock is not held.
    fn let_strangers_finish(&self) -> io::Result<bool> {
        let may_be_theirs = !self.created && !self.keep && !self.shared && matches!(self.level, Level::Top);
        if !may_be_theirs || has_waiter(&self.file) {
            return Ok(true);
        }
        for (look, pause) in LOOKS.into_iter().enumerate() {
            // Where that cannot be asked, what they do is found before the commit, but for the worst moment.
            if !lease::is_open_elsewhere(&self.file).unwrap_or(false) || !self.is_current()? {
                break;
            }
            if look > 0 {
                sleep(pause);
                continue;
            }
            sys::unflock(&self.file)?;
            sleep(pause);
            if !self.try_lock()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the locked file is still the one that others will find under its name, and still a lock file.
    pub(super) fn is_current(&self) -> io::Result<bool> {
        Ok(self.dir.status(&self.name)?.is_some_and(|now| now.id == self.status.id && now.size == 0))
    }

    /// The same of a lock that is held. What is locked below a link lock has no name.
    pub(super) fn has_its_name(&self) -> io::Result<bool> {
        if matches!(self.level, Level::BelowLink(..)) { Ok(true) } else { self.is_current() }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The ancestor below whose lock this one is, if any.
    pub(super) fn ancestor(&self) -> Option<&Ancestor> {
        match &self.level {
            Level::Top => None,
            Level::Below(ancestor) | Level::BelowLink(ancestor, _) => Some(ancestor),
        }
    }

    /// Of the link lock above.
    pub(super) fn nonce(&self) -> Option<&str> {
        match &self.level {
            Level::Top | Level::Below(_) => None,
            Level::BelowLink(_, nonce) => Some(nonce),
        }
    }

    /// Whether the ancestor, if any, still holds the lock, now that this one is locked below it.
    pub(super) fn confirm(&self) -> Confirmed {
        self.ancestor().map_or(Confirmed::Holds, |ancestor| ancestor.confirm(&self.file))
    }

    /// What to give a child process that may go on under this lock. `intent`: what it is held for. `can_wait`: this process
    /// takes it back.
    pub(super) fn hand_over(&self, intent: Intent, can_wait: bool) -> io::Result<HandOver> {
        self.handed.hand_over(&self.file, self.status.id, intent, self.ancestor(), can_wait)
    }

    /// What to give a child process that may not.
    pub(super) fn keep_back(&self, intent: Intent) -> HandOver {
        inherited::keep_back(self.status.id, intent)
    }

    /// Ends the handing on, once nobody works under the lock any more. `tell` is called if somebody does now.
    pub(super) fn is_handed_on(&self) -> bool {
        self.handed.is_any()
    }

    pub(super) fn take_back(&self, tell: impl FnOnce()) {
        self.handed.take_back(&self.file, tell);
    }

    /// Gives the lock back and removes the file, unless a waiter has registered.
    ///
    /// A waiter that is told to stop calls it too: if the lock has come to it, or comes to it now, the file is its to
    /// remove.
    pub(super) fn relinquish(&self) -> io::Result<()> {
        // A registration that cannot be withdrawn ends with the descriptor, which is closed next.
        let _ = self.withdraw();
        // Done before, unless a signal ends the process.
        self.take_back(|| ());
        if self.ancestor().is_some() {
            // Not only by closing, here and below: a child that has the descriptor would keep the lock.
            return inherited::release(&self.file);
        }
        let outcome = self.remove_if_last();
        let unlocked = sys::unflock(&self.file);
        outcome.and(unlocked)
    }

    /// Removes the file unless a waiter has registered who may do so.
    fn remove_if_last(&self) -> io::Result<()> {
        let holding = &self.file;
        if self.keep || self.status.size != 0 || self.status.kind != FileKind::Regular {
            return Ok(());
        }
        // Changes nothing for an exclusive holder. A shared one may only remove the file when it is alone.
        let locked = sys::try_flock(holding, false);
        let errno = locked.as_ref().err().and_then(std::io::Error::raw_os_error);
        if self.created && errno.is_some_and(filesystem::has_no_flock) {
            // Left here, the file would keep out all who lock by link(2).
            return if errno != Some(libc::ENOLCK) || self.is_let_alone() { self.remove() } else { Ok(()) };
        }
        if !locked? {
            return Ok(());
        }
        if self.is_removable && has_waiter(holding) {
            sys::unflock(holding)?;
            // A waiter that withdrew before this second look tries again after the unlock, and finds the lock free.
            if has_waiter(holding) || !sys::try_flock(holding, false)? {
                return Ok(());
            }
        }
        self.remove()
    }

    /// ENOLCK may pass, and then another process has the lock, and the file open. Those that find no such locks have it
    /// open for a moment only.
    fn is_let_alone(&self) -> bool {
        (0..2 * waiting::TRIES).any(|try_| {
            if try_ > 0 {
                sleep(waiting::TRY_PAUSE);
            }
            // What cannot be asked is a network file system.
            !lease::is_open_elsewhere(&self.file).unwrap_or(false)
        })
    }

    fn remove(&self) -> io::Result<()> {
        // If somebody removed the file, another file may have its name by now; and a program may have written into it.
        if !self.dir.status(&self.name)?.is_some_and(|now| now.id == self.status.id && now.size == 0) {
            return Ok(());
        }
        match self.dir.unlink(&self.name) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
            _ => Ok(()),
        }
    }

    /// Who holds it, for a message.
    pub(super) fn holder(&self) -> Option<Holder> {
        proc_locks::find(self.status.id)
    }
}

/// Whether somebody holds the lock file `name` in `dir`, or waits for it, by either method.
pub(crate) fn is_in_use(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let file = match open_to_look(dir, name)? {
        Ok(file) => file,
        Err(in_use) => return Ok(in_use),
    };
    // This comes before the flock is tried. A waiter that is registered for the lock tries it once more before it gives
    // up, and must not fail because of this look.
    if ofd::has_locks(&file)? && inherited::has_more_than_brief(&file)? {
        return Ok(true);
    }
    inherited::mark_brief(&file);
    Ok(!sys::try_flock(&file, true)?)
}

/// The same, as far as it can be told without taking the lock for an instant: others who try it then would find it busy.
pub(super) fn seems_in_use(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let file = match open_to_look(dir, name)? {
        Ok(file) => file,
        Err(in_use) => return Ok(in_use),
    };
    let may_be = lease::is_open_elsewhere(&file).unwrap_or(true);
    Ok(may_be && (ofd::has_locks(&file)? || proc_locks::find(FileStatus::of(&file)?.id).is_some()))
}

/// Opens the lock file `name` in `dir` for reading. The inner error: it is in use, or not, without a further look.
fn open_to_look(dir: &Dir, name: &OsStr) -> io::Result<std::result::Result<File, bool>> {
    let file = match dir.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
        Ok(file) => file,
        Err(e) => match e.raw_os_error() {
            Some(libc::ENOENT | libc::ELOOP | libc::ENXIO | libc::EISDIR) => return Ok(Err(false)),
            // Somebody has a lease on it, and so has it open.
            Some(libc::EWOULDBLOCK) => return Ok(Err(true)),
            _ => return Err(e),
        },
    };
    let is_record = FileStatus::of(&file)?.size > 0;
    Ok(if is_record { Err(is_held_by_link(dir, name)) } else { Ok(file) })
}

/// Whether a waiter has registered. Where that cannot be asked nobody registers.
fn has_waiter(file: &File) -> bool {
    ofd::is_registered(file).unwrap_or(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Two writers of an empty file may look at it at the same moment.
    #[test]
    fn a_look_is_no_use() {
        let place = tempfile::tempdir().unwrap();
        let other = File::create_new(place.path().join("f")).unwrap();
        let reading = File::open(place.path().join("f")).unwrap();
        let in_use = || is_in_use(&Dir::open(place.path()).unwrap(), OsStr::new("f")).unwrap();
        inherited::mark_brief(&reading);
        assert!(sys::try_flock(&reading, true).unwrap());
        assert!(!in_use());
        ofd::register(&reading).unwrap();
        assert!(in_use());
        ofd::withdraw(&reading).unwrap();
        assert!(sys::try_flock(&other, true).unwrap() && !in_use());
        drop(reading);
        assert!(sys::try_flock(&other, false).unwrap() && in_use());
    }
}
