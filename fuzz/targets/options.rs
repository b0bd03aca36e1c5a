//! The command lines of all applets: the input's lines are the words.
#![no_main]
// Most of the program is never run here.
#![allow(dead_code, unused_imports)]

#[path = "../../src/applets/mod.rs"]
mod applets;
#[path = "../../src/entry.rs"]
mod entry;
#[path = "../../src/process/mod.rs"]
mod process;
#[path = "../../src/report/mod.rs"]
mod report;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // No argument has a NUL in it.
    let lines = input.split(|b| *b == b'\n').filter(|line| !line.contains(&0));
    let words: Vec<OsString> = lines.map(|line| OsStr::from_bytes(line).to_owned()).collect();
    applets::any_words(&words);
});
