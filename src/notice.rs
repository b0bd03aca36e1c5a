//! What the library tells an observer while it works. It never prints: an [`Observer`] decides what becomes of a
//! [`Notice`].

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened, or is about to.
///
/// Paths are as the caller gave them where the caller gave them. New kinds may be added, so match with a `_` arm.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// The lock is held by somebody else; this thread is about to wait for it. Sent once per acquisition.
    Waiting {
        /// The file whose lock it is.
        target: &'a Path,
        /// The lock file.
        lock_file: &'a Path,
        /// The longest wait, if there is a limit.
        timeout: Option<Duration>,
    },
    /// The lock is held now.
    Locked {
        /// The file whose lock it is.
        target: &'a Path,
        /// The lock file.
        lock_file: &'a Path,
        /// How the lock is held: `flock`, `link`, or `inherited` where a process above holds it and this one goes on under
        /// that.
        method: &'static str,
        /// How long that took.
        waited: Duration,
        /// Whether [`Notice::Waiting`] was sent before.
        contended: bool,
    },
    /// The lock has been given back.
    Unlocked {
        /// The lock file.
        lock_file: &'a Path,
    },
    /// Some of the new content has been written. Sent often; the receiver thins it out.
    Progress {
        /// Bytes written so far.
        bytes: u64,
        /// Bytes to expect in all, where that is known.
        total: Option<u64>,
    },
    /// The current content has been kept.
    BackedUp {
        /// The file that was backed up.
        target: &'a Path,
        /// Where to.
        backup: &'a Path,
        /// A second link to the same inode, not a copy.
        linked: bool,
    },
    /// The target is about to be replaced: all else is done. Until this returns it is as it was.
    Committing {
        /// The file.
        target: &'a Path,
    },
    /// The target holds the new content (or, with `changed` false, held it already and was left alone).
    Committed {
        /// The file, as the caller gave it.
        target: &'a Path,
        /// Its length in bytes.
        bytes: u64,
        /// Whether it was replaced.
        changed: bool,
        /// Where the previous content was kept.
        backup: Option<&'a Path>,
        /// From opening to here.
        took: Duration,
    },
    /// Something a user should know though nothing failed.
    Warning {
        /// What it is about.
        path: &'a Path,
        /// What it is: a phrase without a final stop.
        text: &'a str,
    },
    /// Something worth knowing (`-v`).
    Info {
        /// What it is about.
        path: &'a Path,
        /// What it is.
        text: &'a str,
    },
    /// How the work is being done (`-vv`).
    Debug {
        /// What it is about.
        path: &'a Path,
        /// What it is.
        text: &'a str,
    },
}

/// Receives every [`Notice`], on the thread that does the work, at once: it should be quick, and must not call back
/// into an operation on the same file. The default receives nothing.
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

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(set)" } else { "Observer(none)" })
    }
}
