//! The multi-call binary: `awrite`, `awrite-lock`, `awrite-housekeep`.

// See entry.rs.
#![cfg_attr(not(test), no_main)]

mod applets;
mod entry;
mod process;
mod report;
