//! Thin safe wrappers over system calls: the bottom of the house. Nothing here knows what a target or a lock is.
//!
//! All of the library's unsafe code but that of the C interface is in here: in [`ofd`], [`lease`], [`alarm`], [`thread`],
//! [`exchange`], `cancel`, `spare`, [`flush`] and [`Borrowed`].

pub(crate) mod alarm;
mod borrowed;
mod call;
#[cfg(feature = "capi")]
pub(crate) mod cancel;
pub(crate) mod dir;
pub(crate) mod exchange;
mod flock;
pub(crate) mod host;
pub(crate) mod lease;
pub(crate) mod ofd;
mod spare;
pub(crate) mod thread;
pub(crate) mod xattr;

pub(crate) use borrowed::Borrowed;
pub(crate) use call::{flush, forget_cached, retry, set_mode, unsupported};
pub(crate) use dir::{Dir, FileId, FileKind, FileStatus};
pub(crate) use flock::{try_flock, unflock, wait_flock};
pub(crate) use spare::give_no_descriptors;
