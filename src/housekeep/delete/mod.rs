//! The last look at a file, and its deletion. Every step uses the directory's descriptor. What counts is the file itself,
//! never what was seen before.
//!
//! What keeps each kind from being deleted while somebody uses it:
//!
//! - **A lock file**: a write lease, which the kernel grants only if nobody has the file open (lock.rs, aside.rs). So nobody
//!   holds it, waits for it, or keeps a descriptor to lock it again later. Who comes to open it meanwhile waits in open(2),
//!   and the file comes back. Where there are no leases, its own lock: housekeeping holds it while it compares and unlinks
//!   the name. Awrite itself would notice that the name is gone, and start over; many programs do not look.
//! - **A link lock**: its protocol. It breaks a stale lock as the next writer would.
//! - **A lease**: its target's lock, as for every change of a lease.
//! - **A temporary file**: its mark, which its writer keeps as long as the file has a name (stage.rs). Where the file is
//!   created with a name, there is an instant before the mark. A writer whose file is taken for dead at that instant makes
//!   another one; so that this is rare, housekeeping looks at a fresh file again later.
//! - **A backup with a time in its name**: nothing ever replaces one.
//! - **A plain backup**: another name. Writers replace it by rename at any moment. So housekeeping first renames it to
//!   what it would be called with its time in its name, and looks at it there. If it is not the file that was planned, it
//!   gets its old name back. After a crash in between, or where a still newer backup has the old name by then, the new
//!   name stays, and the next run judges the backup by the time in it. The target's lock is only tested, to find a writer
//!   that has made a backup and not set its time yet. Housekeeping does not take that lock for the deletion: locks and
//!   backups may have directories of their own, which are not known here, and a writer that does not wait would fail.

mod aside;
mod attempt;
mod backup;
mod lock;
mod refusal;
mod temp;

pub(super) use aside::Aside;
pub(super) use attempt::{Attempt, Deleted};
pub(super) use backup::{dated_backup, plain_backup};
pub(super) use lock::{LockDeletion, lease, lock};
pub(super) use refusal::NotDeleted;
pub(super) use temp::{set_record, temp};
