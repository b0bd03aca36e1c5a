//! The lock that every cooperating writer of a target takes: an advisory `flock` on `TARGET.lock`, a zero-length file
//! that exists only while somebody holds or wants it; or, where advisory locks cannot be trusted, that file as a record
//! of who holds it.
//!
//! ```text
//!   Place     where the lock file of a target is           (place.rs; access.rs: opening it)
//!   LockFile  that file, open; maybe locked, maybe dead    (flock.rs: the protocol)
//!   Unique    a file of our own, to be linked to that name (link.rs: the protocol; record.rs: what is in it)
//!   LinkLock  the lock by link(2), held                    (heartbeat.rs)
//!   FileLock  the lock, held                               (held.rs; acquire.rs: taking it)
//!   Ancestor  a process above that holds it already        (inherited.rs; baton.rs and below.rs: by link(2))
//! ```

mod access;
mod acquire;
mod baton;
mod below;
mod clear;
mod descriptor;
pub(crate) mod filesystem;
mod flock;
mod heartbeat;
mod held;
mod inherited;
mod link;
mod look;
#[cfg(test)]
mod model;
mod patience;
mod place;
mod proc_locks;
mod record;
mod waiting;

pub use descriptor::{lock_descriptor, unlock_descriptor};
pub use held::FileLock;
pub use inherited::HandOver;

pub(crate) use access::{default_mode, open_to_others};
pub(crate) use acquire::{acquire_at, lock_as_found, status};
pub(crate) use clear::{Cleared, clear_link, clear_mark};
pub(crate) use flock::LockFile;
pub(crate) use inherited::Intent;
pub(crate) use look::is_held_by_link;
pub(crate) use patience::Patience;
pub(crate) use place::{Place, Spot};
#[cfg(fuzzing)]
pub(crate) use {inherited::any_entries, proc_locks::any_line, record::any_record};
