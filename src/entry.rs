//! Where the process begins, in place of what `std` does before a Rust `main`.
//!
//! Before `std` calls `main` it ignores SIGPIPE. The disposition that this process was started with would then be lost,
//! and COMMAND must get exactly that one: under systemd SIGPIPE is ignored, in a shell it is not. To begin at C's
//! `main` also saves start-up time. Two things that `std` does there are done here instead: closed standard descriptors
//! are opened, and a panic ends in a message and status 1.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use crate::{applets, process, report};

/// Called by the C runtime.
#[cfg_attr(not(any(test, fuzzing)), unsafe(no_mangle))]
#[cfg_attr(any(test, fuzzing), allow(dead_code))]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    open_missing_descriptors();
    // SAFETY: the C runtime calls `main` with `argc` strings in `argv`, which live as long as the process.
    let args = unsafe { arguments(argc, argv) };
    process::guard(|| applets::run(args)).into()
}

/// The arguments. `std::env::args_os` has them only where the C library passes them to constructors (glibc does, musl
/// does not).
///
/// # Safety
///
/// `argv` has `argc` pointers to strings that live during the call; fewer, if a null pointer comes first.
unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = if argv.is_null() { 0 } else { usize::try_from(argc).unwrap_or(0) };
    let mut args = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: `index` is below `argc`, so this is one of the caller's pointers.
        let arg = unsafe { *argv.add(index) };
        if arg.is_null() {
            break;
        }
        // SAFETY: it is not null, so it is one of the caller's strings.
        let arg = unsafe { CStr::from_ptr(arg) };
        args.push(OsStr::from_bytes(arg.to_bytes()).to_owned());
    }
    args
}

/// Whether descriptors 0, 1 and 2 are certainly open. One call instead of three.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn are_open() -> bool {
    let mut fds = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: the pointer is to three live structures, which the call fills in.
    let asked = unsafe { libc::poll(fds.as_mut_ptr(), 3, 0) };
    asked >= 0 && fds.iter().all(|fd| fd.revents & libc::POLLNVAL == 0)
}

/// poll(2) says POLLNVAL of devices on some systems.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn are_open() -> bool {
    false
}

/// Opens descriptors 0, 1 and 2 where the caller closed them. Otherwise the lock file or the target would be opened as
/// number 2, and messages would be written into it.
fn open_missing_descriptors() {
    if are_open() {
        return;
    }
    // In ascending order: a new descriptor gets the lowest free number, so each one lands where it is missing.
    for fd in 0..=2 {
        // SAFETY: these calls take plain numbers, a C string literal and a pointer to a local array of two. Nothing
        // owns the descriptors that they open or close.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) != -1 {
                continue;
            }
            process::was_closed(fd);
            if fd == 1 {
                report::stdout_was_closed();
            }
            if libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == fd {
                continue;
            }
            // An empty root directory has no /dev/null. The reading end of a pipe without writers serves instead: it is
            // empty as standard input, and as standard output it refuses writes, as if it were closed.
            let mut ends = [-1; 2];
            if libc::pipe(ends.as_mut_ptr()) == 0 {
                libc::close(ends[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_bytes() {
        let strings = [c"awrite".as_ptr(), c"\xff".as_ptr(), c"".as_ptr(), std::ptr::null()];
        // SAFETY: three strings and a null pointer, all static.
        let args = unsafe { arguments(4, strings.as_ptr()) };
        assert_eq!(args, ["awrite".into(), OsStr::from_bytes(b"\xff").to_owned(), "".into()]);
        // SAFETY: no strings are read.
        assert!(unsafe { arguments(0, std::ptr::null()) }.is_empty());
    }
}
