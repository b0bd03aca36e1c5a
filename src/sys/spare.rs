//! Keeps this process's descriptors from a child.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How many are looked at where no directory lists them.
const MOST: RawFd = 1024;

/// Lets `command` have no other descriptors than standard input, output and error. Those that a thread opens until it is
/// started must be closed on exec by themselves, as `std` opens all.
pub(crate) fn give_no_descriptors(command: &mut Command) {
    let listed = ["/proc/self/fd", "/dev/fd"].into_iter().find_map(|dir| std::fs::read_dir(dir).ok());
    let open: Vec<RawFd> = match listed {
        Some(names) => names.filter_map(|name| name.ok()?.file_name().to_str()?.parse().ok()).collect(),
        None => (0..MOST).collect(),
    };
    // SAFETY: the closure runs between fork and exec and calls only fcntl, which is async-signal-safe, with plain
    // numbers.
    unsafe {
        command.pre_exec(move || {
            for &fd in open.iter().filter(|fd| **fd > libc::STDERR_FILENO) {
                // It fails only for one that is closed by now. To close them here would take `std`'s own from it, for the
                // error of exec.
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            Ok(())
        });
    }
}
