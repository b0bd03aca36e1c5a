//! Replace a file all-or-nothing and durably, under a lock that every cooperating writer takes too.
//!
//! - [`write()`] replaces a file, [`write_from`] by what a reader gives; [`AtomicFile`] does it piece by piece.
//! - [`Set`] replaces several files together, or none.
//! - [`update`] reads and replaces it under its lock, so that no other update is lost.
//! - [`digest`](digest()) says what a file contains, and [`WriteOptions::expect`] replaces it only if it still does: for
//!   those who read a file, take minutes, and write it back.
//! - [`FileLock`] holds the same lock for anything else.
//! - [`Lease`] keeps others from the file across many processes, for a limited time.
//! - [`housekeep()`] clears away what crashes left, and old backups.
//!
//! ```
//! # fn main() -> awrite::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("counter");
//! use awrite::{BackupOptions, LockOptions, Wait, WriteOptions};
//! use std::time::Duration;
//!
//! // Replace a file. Wait at most 5 seconds for its lock, and keep the old content as `counter.backup`.
//! let lock = LockOptions::new().wait(Wait::For(Duration::from_secs(5)));
//! let options = WriteOptions::new().mode(0o640).lock(lock).backup(BackupOptions::new());
//! awrite::write(&path, "1\n", &options)?;
//!
//! // Read, change and write it under the same lock.
//! let count = awrite::update(&path, &options, |old, new| {
//!     let text = std::io::read_to_string(old)?;
//!     let count = text.trim().parse().unwrap_or(0) + 1;
//!     writeln!(new, "{count}")?;
//!     Ok(count)
//! })?;
//! # assert_eq!(count, 2);
//! # assert_eq!(std::fs::read_to_string(&path).unwrap(), "2\n");
//! # Ok(())
//! # }
//! ```
//!
//! At every instant the target is the complete old or the complete new content: for readers, after a crash of the
//! process at any point, and, unless [`Durability::None`] is asked for, after power loss. On any error before the
//! replacement it is as it was, and nothing is left beside it.
//!
//! The library never prints, exits, installs signal handlers or changes process-wide state; the only exception is
//! [`LockOptions::use_alarm`]. What happens is told to an [`Observer`]. A program that cleans up when a signal ends it
//! uses [`Shutdown`] in the thread that handles its signals.
//!
//! The commands `awrite`, `awrite-lock` and `awrite-housekeep` are built on this crate (feature `cli`); programs in Rust
//! want `default-features = false`.

// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod acl;
mod backup;
#[cfg(feature = "capi")]
mod capi;
mod cleanup;
mod commit;
mod copy;
mod digest;
mod duration;
mod error;
mod expect;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod holder;
mod holds;
mod housekeep;
mod lease;
mod local_time;
mod lock;
mod metadata;
mod names;
mod notice;
mod old_backups;
mod options;
mod original;
mod remedy;
mod scratch;
mod shown;
mod stage;
mod sys;
mod target;
mod write;

pub use cleanup::Shutdown;
#[doc(hidden)]
pub use copy::read_all;
pub use digest::Digest;
#[doc(hidden)]
pub use duration::{parse_duration, shown_duration};
pub use error::{Error, ErrorKind, Result};
pub use expect::{Expect, contents, digest};
pub use holder::Holder;
pub use holds::{Hold, HoldState, list_holds};
pub use housekeep::{HousekeepEvent, HousekeepOptions, HousekeepSummary, Leftover, housekeep};
#[doc(hidden)]
pub use lease::has_stores as runs_under_store;
pub use lease::{Lease, LeaseInfo, LockStatus, MAX_TTL, lock_callers_descriptor};
#[doc(hidden)]
pub use local_time::shown_time;
pub use lock::{FileLock, HandOver, lock_descriptor, unlock_descriptor};
#[doc(hidden)]
pub use lock::{is_link_record, lock_range, unlock_range};
pub use notice::{Notice, Observer};
pub use options::{
    BackupOptions, Check, Claim, Durability, LockMethod, LockOptions, Ownership, Preview, Under, Wait, WriteOptions,
};
#[doc(hidden)]
pub use options::{check_lease_name, check_reason, scheme_of_store};
pub use remedy::Remedy;
#[doc(hidden)]
pub use scratch::Scratch;
#[doc(hidden)]
pub use shown::shown;
pub use write::set::Set;
pub use write::together::Staged;
pub use write::{AtomicFile, Committed, update, write, write_from};
