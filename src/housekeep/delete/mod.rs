//! The last look at a file, and its deletion. Everything is relative to the directory's descriptor, and what counts is
//! the file itself, never what was seen before.
//!
//! What keeps each kind from being deleted while somebody uses it:
//!
//! - **A lock file**: its own lock. Housekeeping holds it while it compares and unlinks the name. Whoever gets the lock
//!   afterwards sees that the name is gone and starts over. A lock file that has just been created is about to be locked
//!   by its creator, so it is left alone for a moment.
//! - **A link lock**: its protocol. It breaks a stale lock as the next writer would.
//! - **A lease**: its target's lock, as for every change of a lease.
//! - **A temporary file**: a `flock`, which its writer holds as long as the file has a name. A file that is created with
//!   a name is not locked yet for an instant. To try the lock then could cost the writer its own, so a fresh file is not
//!   tried, but looked at again later.
//! - **A backup with a time in its name**: nothing ever replaces one.
//! - **A plain backup**: a new name. Writers replace it by rename at any moment, so it first gets the name that it would
//!   have with its time in it. If it then proves to be another file than planned, it gets its old name back. After a
//!   crash in between, or where a still newer backup has taken the old name, it stays under the new one, and the next
//!   run judges it by the time in that. The target's lock is only tested, to find a writer that has made a backup and not
//!   set its time yet. To take it would not be enough, because locks and backups may have directories of their own, and
//!   would make a writer fail that does not wait.

mod attempt;
mod backup;
mod lock;
mod refusal;
mod temp;

pub(super) use attempt::{Attempt, Deleted};
pub(super) use backup::{dated_backup, plain_backup};
pub(super) use lock::{lease, lock};
pub(super) use refusal::NotDeleted;
pub(super) use temp::temp;
