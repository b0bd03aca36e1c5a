//! Whether a target still is what its writer expects ([`WriteOptions::expect`](crate::WriteOptions::expect)).
//!
//! ```text
//!   compare, when the lock is had:              the content is read, and what tells of a change of it is remembered
//!   still,   right before it is replaced:       nothing tells of a change: good;  otherwise the content is read again
//! ```
//!
//! The file's times tell of a change, but a clock ticks: a second change within the tick of the first leaves the times as
//! they are. So they count only if the first change was some ticks ago when the content was read, and if the file system's
//! clock is this machine's.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::expect::{Expect, digest_of, ensure_file};
use crate::lock::filesystem;
use crate::sys::{FileId, FileStatus};
use crate::target::Target;

/// Longer than any file system's clock ticks, which is 2 s on FAT; in nanoseconds.
const TICK: i128 = 3_000_000_000;

/// What a target must contain, and what it was like when it did.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(super) digest: Digest,
    /// `None`: it may have changed since without a trace.
    seen: Option<Facts>,
}

/// What tells of a change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    id: FileId,
    size: u64,
    modified: i128,
    changed: i128,
}

impl Expected {
    /// Compares the content of `target`, whose lock is held.
    pub(super) fn compare(expect: &Expect, target: &Target) -> Result<Expected> {
        let mut expected = Expected { digest: expect.digest()?, seen: None };
        expected.seen = expected.look(target)?;
        Ok(expected)
    }

    /// Makes sure that it still is what was expected.
    pub(super) fn still(&self, target: &Target) -> Result<()> {
        self.look(target).map(drop)
    }

    /// Whether nothing may be replaced. A link that leads nowhere may.
    pub(super) fn creates(&self, target: &Target) -> bool {
        self.digest == Digest::Absent && !target.is_link()
    }

    /// Returns what the file was like, if a change from now on would show.
    fn look(&self, target: &Target) -> Result<Option<Facts>> {
        let fail = |e: io::Error| target.failed(e).during("cannot read the current content");
        // An NFS client may remember the file that had the name before.
        target.dir.refresh();
        let began = now();
        let Some(status) = target.dir.status_behind(&target.name).map_err(fail)? else {
            return self.ensure(Digest::Absent, target).map(|()| None);
        };
        // To open a FIFO would let its writer go on, and a device may do anything.
        ensure_file(&target.given, status.kind)?;
        let file = match target.dir.open_to_read(&target.name, true) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                return self.ensure(Digest::Absent, target).map(|()| None);
            }
            file => file.map_err(|e| fail(e).with_hint("what it contains can only be compared by who may read it"))?,
        };
        let status = FileStatus::fresh(&file).map_err(fail)?;
        ensure_file(&target.given, status.kind)?;
        let FileStatus { id, size, modified, changed, .. } = status;
        let facts = Facts { id, size, modified, changed };
        if self.seen == Some(facts) {
            return Ok(self.seen);
        }
        self.ensure(digest_of(&file).map_err(fail)?, target)?;
        Ok((facts.are_settled(began) && filesystem::of(&file).local).then_some(facts))
    }

    fn ensure(&self, found: Digest, target: &Target) -> Result<()> {
        if found == self.digest { Ok(()) } else { Err(Error::conflict(&target.given, self.digest, found)) }
    }
}

impl Facts {
    /// Whether a change after `when` gives the file other times than it has.
    fn are_settled(&self, when: i128) -> bool {
        self.modified.max(self.changed) + TICK < when
    }
}

/// In nanoseconds since 1970, by the clock that the times of local files are of.
fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|since| i128::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_once_the_clock_has_ticked() {
        let second = 1_000_000_000;
        let at = |modified: i128, changed: i128| Facts {
            id: FileId { dev: 1, ino: 1 },
            size: 1,
            modified: modified * second,
            changed: changed * second,
        };
        assert!(at(0, 100).are_settled(104 * second));
        assert!(!at(0, 100).are_settled(102 * second), "within the tick of FAT");
        assert!(!at(0, 100).are_settled(100 * second + TICK));
        assert!(!at(0, 100).are_settled(100 * second));
        assert!(!at(100, 0).are_settled(101 * second), "a file system without a time of change");
        assert!(!at(0, 100).are_settled(50 * second), "the clock has been set back");
        // A file that has just been made: by the same clock.
        let made = tempfile::tempfile().unwrap();
        let ago = now() - FileStatus::of(&made).unwrap().modified;
        assert!((-second..60 * second).contains(&ago), "{ago}");
    }
}
