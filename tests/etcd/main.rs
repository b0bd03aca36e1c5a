//! Black-box tests of awrite-store-etcd against etcd's own server, on loopback and in network namespaces of their own.
//!
//!     cargo test --features etcd --test etcd
// Tests panic at the first surprise, and say on stderr what they skip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod answers_lost;
mod cluster;
// The harness of the other tests. Not all of it is used here.
#[allow(dead_code, unused_imports)]
#[path = "../it/common/mod.rs"]
mod common;
mod helper;
mod hosts;
mod leases;
mod members;
mod network;
mod proxy;
mod trust;
