//! The lock that every cooperating writer of a target takes. By default it is an advisory `flock` on `TARGET.lock`, an
//! empty file that exists only while somebody holds or wants the lock. Where advisory locks cannot be trusted, the lock
//! is the existence of that file, which then contains a record of the holder.
//!
//! ```text
//!   Place     where the lock file of a target is            (place.rs; access.rs opens it)
//!   Request   which lock a caller wants, and how patiently  (request.rs; waiting.rs waits)
//!   LockFile  the lock file, open: locked or not, or dead   (flock.rs: the protocol; descriptor.rs: a caller's file)
//!   Unique    our own file, to be linked to the lock's name (link.rs: the protocol; record.rs: its content; look.rs)
//!   LinkLock  a lock by link(2), held                       (heartbeat.rs; clear.rs removes stale ones)
//!   FileLock  a lock of either kind, held                   (held.rs; acquire.rs takes it)
//!   Ancestor  a process above that holds the lock already   (inherited.rs; baton.rs, below.rs: by link(2))
//! ```

mod access;
mod acquire;
mod around;
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
#[cfg(test)]
mod nest_model;
mod open_files;
mod own;
mod place;
mod proc_locks;
mod range;
mod record;
mod request;
mod several;
mod squatter;
mod table;
mod under;
mod waiting;
mod writers;

pub use descriptor::{lock_descriptor, unlock_descriptor};
pub use held::FileLock;
pub use inherited::HandOver;
pub use look::is_link_record;
pub use range::{lock_range, unlock_range};

pub(crate) use acquire::{acquire_at, lock_as_found, seems_locked, status};
pub(crate) use clear::{Cleared, clear_link, clear_mark};
pub(crate) use descriptor::{holds_flock, lock_and_mark, register};
pub(crate) use flock::is_in_use;
pub(crate) use inherited::{Intent, VARIABLE as HELD_VARIABLE, mark_brief};
pub(crate) use place::{LeaseFile, Place};
pub(crate) use proc_locks::find as flock_holder;
pub(crate) use record::fresh_nonce;
pub(crate) use request::{Patience, Request};
pub(crate) use table::LockTable;
pub(crate) use waiting::Pauses;
pub(crate) use writers::Writers;
#[cfg(fuzzing)]
pub(crate) use {inherited::any_entries, proc_locks::any_line, record::any_record};
