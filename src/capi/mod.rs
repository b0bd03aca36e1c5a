//! The C ABI. Nothing but conversion around the crate's public API: C's arguments become Rust's, and what that returns
//! becomes a status. What it promises is written where its users read it: in `include/awrite.h`, which is made of
//! `preamble.h` and of the doc comments of the modules in here, one section each, in the order of `build.rs`.
//!
//! ```text
//!   an export ──status::guard──> argument::* checks and converts ──> crate API ──> status, last error
//! ```
//!
//! Nothing is exported but through [`status::guard`] and its relative, so no panic crosses. Nothing is touched before
//! all arguments have been checked, so a bad one has changed nothing.

// The one place besides sys that may: pointers come in. Names are C's; and cbindgen only sees what is `pub`.
#![allow(unsafe_code, non_camel_case_types, unreachable_pub)]

mod argument;
mod housekeep;
mod lease;
mod lock;
mod notice;
mod remedy;
mod status;
mod write;

#[cfg(test)]
mod tests;
