//! Locks, as another program sees them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

/// A lock held by the test itself, as plain `flock(1)` would: the file stays when it is given up.
pub(crate) struct Held(File);

impl Held {
    #[track_caller]
    pub(crate) fn new(lock_file: &Path) -> Held {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock_file).unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        Held(file)
    }

    pub(crate) fn inode(&self) -> u64 {
        self.0.metadata().unwrap().ino()
    }

    pub(crate) fn release(self) {
        rustix::fs::flock(&self.0, FlockOperation::Unlock).unwrap();
    }
}

/// Whether somebody holds the lock. Looks in `/proc/locks`: to try the lock would hold it for a moment. The kernel
/// gives that list in pieces, and a line can get lost if other locks go between two reads. So this looks more than
/// once.
pub(crate) fn lock_is_held(lock_file: &Path) -> bool {
    let held = |meta: fs::Metadata| locks_on(meta.ino()).iter().any(|line| line.contains(": FLOCK "));
    (0..5).any(|_| fs::metadata(lock_file).is_ok_and(held))
}

/// Whether somebody waits for a lock on this inode, be it a flock or an open-file-description lock.
pub(crate) fn somebody_waits_for(inode: u64) -> bool {
    locks_on(inode).iter().any(|line| line.contains("->"))
}

fn locks_on(inode: u64) -> Vec<String> {
    let ending = format!(":{inode}");
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks
        .lines()
        .filter(|line| line.split_whitespace().any(|word| word.ends_with(&ending)))
        .map(str::to_owned)
        .collect()
}
