//! The multi-call binary: `awrite`, `awrite-lock`, `awrite-housekeep`.

// See sys/entry.rs.
#![cfg_attr(not(test), no_main)]

mod applets;
#[path = "sys/entry.rs"]
mod entry;
#[path = "sys/process.rs"]
mod process;
