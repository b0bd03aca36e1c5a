//! Parses the command lines of all applets. Each line of the input is a word.
#![no_main]
// This target never runs most of the program.
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
    // A command-line argument never contains a NUL.
    let lines = input.split(|b| *b == b'\n').filter(|line| !line.contains(&0));
    let words: Vec<OsString> = lines.map(|line| OsStr::from_bytes(line).to_owned()).collect();
    applets::any_words(&words);
});
