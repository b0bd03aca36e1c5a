//! What must hold for any input of parsers that are private, for the fuzz targets (fuzz/). The unit tests of each module
//! ask the same of inputs that are more likely to be right.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Durations.
pub fn duration(input: &[u8]) {
    crate::duration::any_text(&String::from_utf8_lossy(input));
}

/// The records of leases and of link locks, and the answers of a store's helper.
pub fn records(input: &[u8]) {
    crate::lease::any_record(input);
    crate::lease::any_answer(input);
    crate::lock::any_record(input);
}

/// Names of locks, leases, backups and temporary files.
pub fn names(input: &[u8]) {
    let name = OsStr::from_bytes(input);
    crate::names::any_name(name);
    crate::housekeep::any_name(name);
}

/// What the kernel says in `/proc/locks` and `/proc/PID/stat`, and a holder in its child's environment.
pub fn surroundings(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    crate::lock::any_line(&text);
    crate::lock::any_entries(OsStr::from_bytes(input));
    crate::sys::host::any_stat(&text);
}

/// What is shown of names that others chose.
pub fn messages(input: &[u8]) {
    crate::shown::any_path(OsStr::from_bytes(input).as_ref());
    crate::holder::any_words(&String::from_utf8_lossy(input));
}
