//! Black-box tests of the built binary: real processes, real files, one module a capability.
#![cfg(feature = "cli")]
// Tests stop at the first surprise, and say on stderr what they had to skip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod backup;
mod capi;
mod command;
mod commit;
mod common;
mod comparison;
mod completions;
mod documents;
mod exclusion;
mod filesystems;
mod flock;
mod housekeep;
mod lease;
mod lease_applet;
mod lock;
mod lock_applet;
mod manual;
mod messages;
mod nesting;
mod options;
mod power;
mod protocol;
mod shells;
mod signals;
mod stream;
mod sweep;
mod write;
