//! The C ABI. It only converts: arguments from C become Rust's, the crate's public API does the work, and the result
//! becomes a status. The contract is written where its users read it, in `include/awrite.h`. `build.rs` makes that file
//! of `preamble.h` and of the doc comments in here. Each module that exports something is one section of the header.
//!
//! ```text
//!   an export ──status::guard──> argument::* checks and converts ──> crate API ──> status, last error
//! ```
//!
//! Every export that can fail runs inside [`status::guard`], so no panic reaches C. An export checks all its arguments
//! before it does anything, so a call with a bad argument changes nothing.
//!
//! The modules import from one another in one direction: `status`, `memory`, `argument`, `notice`, `lock`, and then
//! `write`, `writer`, `set`, `read`, `lease`, `holds` and `housekeep`.

// Unsafe code is allowed because pointers come in from C. The names are C's. cbindgen exports only what is `pub`.
#![allow(unsafe_code, non_camel_case_types, unreachable_pub)]

mod argument;
mod holds;
mod housekeep;
mod lease;
mod lock;
mod memory;
mod notice;
mod read;
mod remedy;
mod set;
mod status;
mod write;
mod writer;

#[cfg(test)]
mod tests;
