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
/// gives a long list in pieces, and a line can get lost if other locks go between two of them: then this looks again. Not
/// more often than that: meanwhile nobody can take or release a lock.
pub(crate) fn lock_is_held(lock_file: &Path) -> bool {
    for _ in 0..5 {
        let Ok(inode) = fs::metadata(lock_file).map(|meta| meta.ino()) else { return false };
        let locks = fs::read_to_string("/proc/locks").unwrap();
        if of_inode(&locks, inode).any(|line| line.contains(": FLOCK ")) {
            return true;
        }
        if locks.len() < 4096 {
            break;
        }
    }
    false
}

/// Whether somebody waits for a lock on this inode, be it a flock or an open-file-description lock.
pub(crate) fn somebody_waits_for(inode: u64) -> bool {
    of_inode(&fs::read_to_string("/proc/locks").unwrap(), inode).any(|line| line.contains("->"))
}

fn of_inode(locks: &str, inode: u64) -> impl Iterator<Item = &str> {
    let ending = format!(":{inode}");
    locks.lines().filter(move |line| line.split_whitespace().any(|word| word.ends_with(&ending)))
}
