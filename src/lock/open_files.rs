//! What the open file descriptions of a process hold of a file, by proc_pid_fdinfo(5).
//!
//! The kernel lists the locks of a description with each of its descriptors. So this says which of several descriptors of
//! a lock file is the one that holds the lock, which the environment may not.

use std::ops::Range;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::sys::{Borrowed, FileId, FileStatus};

/// A descriptor, with the locks of its open file description.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OpenFile {
    pub(super) fd: RawFd,
    /// A program that this process becomes has it too; and so this process may have it from the one that it was before.
    pub(super) is_inherited: bool,
    /// The `flock`.
    pub(super) flock: Option<Flock>,
    /// Record locks: the bytes, and whether they are shared.
    pub(super) bytes: Vec<(Range<u64>, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flock {
    pub(super) shared: bool,
    /// The process that took it; 0: it has ended, or is outside of this PID namespace.
    pub(super) pid: u32,
}

/// The descriptors of the file `id` that a process has, `process` being its number or `self`. `None`: this user cannot see
/// them.
pub(super) fn of(process: &str, id: FileId) -> Option<Vec<OpenFile>> {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let found = descriptors.flatten().filter_map(|entry| {
        let fd = entry.file_name().to_str()?.parse().ok()?;
        let status = match process {
            // Cheaper than a path.
            "self" => FileStatus::of(Borrowed::number(fd)?),
            _ => FileStatus::following(&entry.path()),
        };
        (status.ok()?.id == id).then_some(fd)
    });
    // All of them first: what is opened here is not one of them.
    let found: Vec<RawFd> = found.collect();
    Some(found.into_iter().filter_map(|fd| one(process, fd)).collect())
}

/// The descriptors of a process of files in memory with this name (memfd_create(2)).
pub(super) fn called(process: &str, name: &str) -> Vec<RawFd> {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let name = PathBuf::from(format!("/memfd:{name} (deleted)"));
    let is_it = |path: &Path| std::fs::read_link(path).is_ok_and(|target| target == name);
    let names = descriptors.flatten().filter(|entry| is_it(&entry.path())).map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// The descriptor `fd` of a process.
pub(super) fn one(process: &str, fd: RawFd) -> Option<OpenFile> {
    let text = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{fd}")).ok()?;
    Some(OpenFile { fd, ..parse(&text) })
}

fn parse(text: &str) -> OpenFile {
    let mut file = OpenFile::default();
    for line in text.lines() {
        match line.split_once(':') {
            Some(("flags", flags)) => {
                let flags = i32::from_str_radix(flags.trim(), 8).unwrap_or(libc::O_CLOEXEC);
                file.is_inherited = flags & libc::O_CLOEXEC == 0;
            }
            Some(("lock", lock)) => {
                let _ = add_lock(&mut file, lock);
            }
            _ => {}
        }
    }
    file
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`, `2: OFDLCK ADVISORY  READ -1 fe:00:1234 2 3`.
fn add_lock(file: &mut OpenFile, line: &str) -> Option<()> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let kind = words.next()?;
    let shared = words.nth(1)? == "READ";
    let pid = words.next()?.parse().unwrap_or(0);
    let (start, end) = (words.nth(1)?.parse().ok()?, words.next()?);
    match kind {
        "FLOCK" => file.flock = Some(Flock { shared, pid }),
        "OFDLCK" => {
            // The last byte; EOF: no end.
            let end = end.parse().map_or(u64::MAX, |last: u64| last.saturating_add(1));
            file.bytes.push((start..end, shared));
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_lines() {
        let text = "pos:\t0\nflags:\t0100002\nmnt_id:\t29\nino:\t131\n\
            lock:\t1: FLOCK  ADVISORY  WRITE 2911 00:1a:131 0 EOF\n\
            lock:\t2: OFDLCK ADVISORY  READ -1 00:1a:131 6 6\n\
            lock:\t3: OFDLCK ADVISORY  WRITE -1 00:1a:131 4611686018427387900 EOF\n";
        let flock = Some(Flock { shared: false, pid: 2911 });
        let bytes = vec![(6..7, true), (4_611_686_018_427_387_900..u64::MAX, false)];
        assert_eq!(parse(text), OpenFile { fd: 0, is_inherited: true, flock, bytes });
        assert!(!parse("flags:\t02100002\n").is_inherited);
        assert_eq!(
            parse("lock:\t1: FLOCK\nlock:\nflags:\tx\n\nlock:\t1: POSIX ADVISORY READ 1 0:0:0 0 EOF"),
            OpenFile::default()
        );
    }

    #[test]
    fn tells_the_description_that_holds_the_lock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = file.reopen().unwrap();
        let id = FileStatus::of(&file).unwrap().id;
        crate::sys::try_flock(&other, true).unwrap();
        let Some(found) = of("self", id) else { return };
        assert_eq!(found.len(), 2, "{found:?}");
        let holds: Vec<_> = found.iter().filter_map(|file| Some((file.fd, file.flock?))).collect();
        let pid = std::process::id();
        assert_eq!(holds, [(std::os::fd::AsRawFd::as_raw_fd(&other), Flock { shared: true, pid })]);
    }
}
