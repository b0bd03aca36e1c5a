//! Who holds a `flock`, found in `/proc/locks` (proc_locks(5)), where there is one.

use std::path::{Path, PathBuf};

use crate::holder::Holder;
#[cfg(target_os = "linux")]
use crate::sys::host::is_there;
use crate::sys::host::proc_is_ours;
use crate::sys::{FileId, FileStatus};

/// A `flock` as `/proc/locks` shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) pid: u32,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) ino: u64,
}

impl Line {
    /// Whether the file is on this device. For btrfs and overlay the list has another device number than stat.
    pub(super) fn is_on(&self, dev: u64) -> bool {
        #[cfg(target_os = "linux")]
        {
            (self.major, self.minor) == (rustix::fs::major(dev), rustix::fs::minor(dev))
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = dev; // There is no such list.
            false
        }
    }
}

/// The process that holds a `flock` on this file. It may have ended when the caller reads this.
pub(crate) fn find(id: FileId) -> Option<Holder> {
    #[cfg(target_os = "linux")]
    {
        readings().find_map(|locks| search(&locks, id))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = id; // There is no such table.
        None
    }
}

/// Those who may hold a `flock` on this file, or on one with its inode number on another file system.
pub(super) fn holders(id: FileId) -> Vec<u32> {
    readings().take(3).flat_map(|locks| candidates(&locks, id)).map(|line| line.pid).collect()
}

/// The list; nothing if it is not of this process's PID namespace. The kernel gives it in pieces of a page (seq_file). If
/// locks come and go between two pieces, lines are skipped, or are there twice. So a long list is read again, but not
/// for long: no lock of this machine can be taken or released meanwhile.
pub(super) fn readings() -> impl Iterator<Item = String> {
    let mut left = if proc_is_ours() { 20 } else { 0 };
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        left = if locks.len() < 4096 { 0 } else { left - 1 };
        Some(locks)
    })
}

fn candidates(locks: &str, id: FileId) -> Vec<Line> {
    locks.lines().filter_map(parse).filter(|line| line.ino == id.ino).collect()
}

#[cfg(target_os = "linux")]
fn search(locks: &str, id: FileId) -> Option<Holder> {
    let candidates = candidates(locks, id);
    let exact = candidates.iter().find(|line| line.is_on(id.dev));
    // Where the device numbers differ, ask what the process has open.
    let line = exact.or_else(|| candidates.iter().find(|line| has_open(line.pid, id)));
    // The process that took the lock may have ended and left it to a child, or to the shell whose descriptor it is.
    let pid = match line.filter(|line| is_there(line.pid)) {
        Some(line) => line.pid,
        None if candidates.is_empty() => return None,
        None => heir(id)?,
    };
    Some(Holder::here(pid))
}

/// A process that has the lock by a descriptor that it has inherited, of those that may be looked at. Waiters have the
/// file open too, but fdinfo shows the locks that belong to a descriptor (proc_pid_fdinfo(5)).
#[cfg(target_os = "linux")]
fn heir(id: FileId) -> Option<u32> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|&pid: &u32| {
        open_as(pid, id).any(|fd| {
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", fd.display())).unwrap_or_default();
            info.lines().any(|line| line.strip_prefix("lock:").is_some_and(|line| parse(line).is_some()))
        })
    })
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`. A waiter's line has `->` behind the first number.
pub(super) fn parse(line: &str) -> Option<Line> {
    let mut words = line.split_ascii_whitespace();
    words.next()?;
    if words.next()? != "FLOCK" {
        return None;
    }
    let pid = words.nth(2)?.parse().ok().filter(|&pid| pid > 0)?;
    let mut device = words.next()?.split(':');
    Some(Line {
        pid,
        major: u32::from_str_radix(device.next()?, 16).ok()?,
        minor: u32::from_str_radix(device.next()?, 16).ok()?,
        ino: device.next()?.parse().ok()?,
    })
}

/// Whether the process has this file open. False also where this user cannot see that.
pub(super) fn has_open(pid: u32, id: FileId) -> bool {
    open_as(pid, id).next().is_some()
}

/// The numbers of the descriptors by which the process has this file open.
fn open_as(pid: u32, id: FileId) -> impl Iterator<Item = PathBuf> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let this_file = move |path: &Path| FileStatus::following(path).is_ok_and(|status| status.id == id);
    descriptors.filter(move |entry| this_file(&entry.path())).map(|entry| entry.file_name().into())
}

/// What holds for any line.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_line(line: &str) {
    if let Some(Line { pid, major, minor, ino }) = parse(line) {
        let known = format!("1: FLOCK  ADVISORY  WRITE {pid} {major:02x}:{minor:02x}:{ino} 0 EOF");
        assert_eq!(parse(&known), parse(line), "{line:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_and_words(text: String, likely in "1: (-> )?FLOCK  ADVISORY  WRITE [-0-9]{1,11} [0-9a-f:]{0,30} 0 EOF") {
            any_line(&text);
            any_line(&likely);
        }

        /// As the kernel writes them (fs/locks.c, lock_get_status).
        #[test]
        fn the_kernel_s_lines(pid in 1..=i32::MAX as u32, major in 0..4096_u32, minor in 0..0x10_0000_u32, ino: u64) {
            let line = format!("12: FLOCK  ADVISORY  READ  {pid} {major:02x}:{minor:02x}:{ino} 0 EOF");
            prop_assert_eq!(parse(&line), Some(Line { pid, major, minor, ino }));
            prop_assert_eq!(parse(&line.replacen(": ", ": -> ", 1)), None);
            prop_assert_eq!(parse(&line.replace("FLOCK ", "POSIX ")), None);
        }
    }

    #[test]
    fn reads_the_kernel_s_lines() {
        let line = parse("12: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF");
        assert_eq!(line, Some(Line { pid: 4711, major: 0xfe, minor: 0, ino: 1234 }));
        for other in [
            "12: -> FLOCK  ADVISORY  WRITE 4712 fe:00:1234 0 EOF",
            "3: OFDLCK ADVISORY  READ -1 fe:00:1234 0 0",
            "3: POSIX  ADVISORY  WRITE 1 fe:00:1234 0 EOF",
            "4: FLOCK  ADVISORY  WRITE 0 fe:00:1234 0 EOF",
            "4: FLOCK  ADVISORY  WRITE",
            "4: FLOCK  ADVISORY  WRITE 7 fe:00 0 EOF",
            "",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
