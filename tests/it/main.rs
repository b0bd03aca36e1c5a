//! Black-box tests of the built binary, with real processes and files. Each module tests one capability.
#![cfg(feature = "cli")]
// Tests panic at the first surprise, and say on stderr what they skip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod around;
mod backup;
mod backup_keep;
mod backup_steps;
mod capi;
mod close;
mod command;
mod commit;
mod common;
mod comparison;
mod completions;
mod diff;
mod documents;
mod dry_run;
mod edit;
mod events;
mod exclusion;
mod expect;
mod fields;
mod filesystems;
mod flock;
mod fuse;
mod holds;
mod house;
mod housekeep;
mod into;
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
mod rust;
mod sets;
mod shells;
mod signals;
mod store;
mod strangers;
mod stream;
mod sweep;
mod takeover;
mod trees;
mod unchanged;
mod under;
mod users;
mod watchers;
mod write;
