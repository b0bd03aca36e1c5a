//! What the library tells while it works. It never prints: an [`Observer`] decides what to do with a [`Notice`].

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;

/// Something that happened, or is about to.
///
/// A path that the caller gave is as the caller gave it. New kinds may be added, so match with a `_` arm.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Somebody else holds the lock or a lease, and this thread is about to wait for it. Sent once per acquisition.
    Waiting {
        /// The file whose lock it is.
        target: &'a Path,
        /// The lock file.
        lock_file: &'a Path,
        /// The limit of the wait, if there is one.
        timeout: Option<Duration>,
        /// Whose lease it waits for, if it is not for the lock: `leased by agent-7 until 10:15:00 (rebuilding)`.
        leased: Option<&'a str>,
    },
    /// The lock is held now.
    Locked {
        /// The file whose lock it is.
        target: &'a Path,
        /// The lock file.
        lock_file: &'a Path,
        /// How the lock is held: `flock`, `link`, or `inherited`: a process above this one holds it, and this one works
        /// under that lock.
        method: &'static str,
        /// How long it took to get the lock.
        waited: Duration,
        /// Whether [`Notice::Waiting`] was sent before.
        contended: bool,
    },
    /// The lock has been released.
    Unlocked {
        /// The lock file.
        lock_file: &'a Path,
        /// How long the lock was held.
        held: Duration,
    },
    /// Some of the new content has been written. Sent often: show only some of them.
    Progress {
        /// Bytes written so far.
        bytes: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// The target has been backed up.
    BackedUp {
        /// The file that was backed up.
        target: &'a Path,
        /// The backup.
        backup: &'a Path,
        /// Whether the backup is a second link to the same inode, not a copy.
        linked: bool,
    },
    /// An old backup of the target has been deleted ([`BackupOptions::keep_newest`](crate::BackupOptions::keep_newest)).
    BackupDeleted {
        /// The file that it was a backup of.
        target: &'a Path,
        /// The backup.
        backup: &'a Path,
    },
    /// The target is about to be replaced, and all else is done. The target is unchanged until the observer returns.
    Committing {
        /// The file.
        target: &'a Path,
    },
    /// The target has the new content. With `changed` false, it had it already and was left alone.
    Committed {
        /// The file, as the caller gave it.
        target: &'a Path,
        /// Its length in bytes.
        bytes: u64,
        /// Whether it was replaced.
        changed: bool,
        /// The backup of the previous content, if one was made.
        backup: Option<&'a Path>,
        /// The digest of the content, if it is known.
        digest: Option<Digest>,
        /// The time since the file was opened for writing.
        took: Duration,
    },
    /// A dry run has come to its end ([`WriteOptions::dry_run`](crate::WriteOptions::dry_run)).
    WouldReplace {
        /// The file, as the caller gave it. It is as it was.
        target: &'a Path,
        /// The length of the new content in bytes.
        bytes: u64,
        /// Whether the write would change it.
        changed: bool,
        /// Whether it exists.
        exists: bool,
    },
    /// Something that a user should know, though nothing failed.
    Warning {
        /// What it is about.
        path: &'a Path,
        /// A phrase without a final stop.
        text: &'a str,
    },
    /// Something worth knowing: the commands show it with `-v`.
    Info {
        /// What it is about.
        path: &'a Path,
        /// A phrase without a final stop.
        text: &'a str,
    },
    /// How the work is done: the commands show it with `-vv`.
    Debug {
        /// What it is about.
        path: &'a Path,
        /// A phrase without a final stop.
        text: &'a str,
    },
}

/// Receives every [`Notice`] at once, on the thread that does the work. It should be quick, and must not begin another
/// operation on the same file. The default ignores everything.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Receive>>);

type Receive = dyn Fn(&Notice<'_>) + Send + Sync;

impl Observer {
    /// An observer that calls `receive`.
    pub fn new(receive: impl Fn(&Notice<'_>) + Send + Sync + 'static) -> Observer {
        Observer(Some(Arc::new(receive)))
    }

    /// Sends it `notice`.
    pub fn tell(&self, notice: &Notice<'_>) {
        if let Some(receive) = &self.0 {
            receive(notice);
        }
    }
}

// After a panic in the closure nothing of this library is left half-done, and the closure's own state is its own matter,
// as with a panic hook. Without these, a file that is being replaced could not be moved into `catch_unwind`.
impl UnwindSafe for Observer {}
impl RefUnwindSafe for Observer {}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(set)" } else { "Observer(none)" })
    }
}
