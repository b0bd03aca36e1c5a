//! Moves bytes from one descriptor to another: by a reflink, by a copy in the kernel, or by `read` and `write`, whichever
//! comes first and works. Falling back loses nothing.
//!
//! Between a pipe and a file, plain `read` and `write` were faster than splice(2) in every measurement. `std::io::copy`
//! splices by itself, so it is not used.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::buffer::spare_capacity;

use crate::error::{Error, Result};
use crate::notice::{Notice, Observer};
use crate::remedy::Remedy;
use crate::sys::{FileKind, FileStatus};

/// The buffer of a stream: large enough that the number of calls does not matter, small enough to stay in the cache.
const BUFFER: usize = 128 * 1024;
/// A pipe is widened to this size once the producer has filled it: fewer switches between the two processes.
const PIPE: usize = 1024 * 1024;
/// The most that one `copy_file_range` copies: takes seconds at most, so that progress can be shown.
#[cfg(target_os = "linux")]
const STRETCH: usize = 64 * 1024 * 1024;

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum Failed {
    Reading(io::Error),
    Writing(io::Error),
}

impl Failed {
    /// The error, where it does not matter which side it was.
    pub(crate) fn into_inner(self) -> io::Error {
        let (Failed::Reading(e) | Failed::Writing(e)) = self;
        e
    }
}

/// Writes all that is left in `source` to `to` at its position. `told` hears the bytes so far and the bytes to expect.
pub(crate) fn copy(
    source: impl AsFd,
    to: &File,
    mut told: impl FnMut(u64, Option<u64>),
) -> std::result::Result<u64, Failed> {
    let status = FileStatus::of(&source).map_err(Failed::Reading)?;
    // A file of size 0 may be one of /proc, which has content only for read(2).
    let file = status.kind == FileKind::Regular && status.size > 0;
    let total = file.then_some(status.size);
    let mut copied = 0;
    #[cfg(target_os = "linux")]
    if file {
        if reflink(&source, to, status.size) {
            told(status.size, total);
            return Ok(status.size);
        }
        loop {
            match rustix::io::retry_on_intr(|| rustix::fs::copy_file_range(&source, None, to, None, STRETCH)) {
                Ok(0) => break,
                Ok(n) => {
                    copied += n as u64;
                    told(copied, total);
                }
                Err(e) if is_full(e) => return Err(Failed::Writing(e.into())),
                // Not possible between these two. The loop below goes on from both positions.
                Err(_) => break,
            }
        }
    }
    let mut buffer = buffer().map_err(Failed::Reading)?;
    let mut wide = status.kind != FileKind::Fifo;
    loop {
        buffer.clear();
        let n = match rustix::io::retry_on_intr(|| rustix::io::read(&source, spare_capacity(&mut buffer))) {
            Ok(0) => return Ok(copied),
            Ok(n) => n,
            Err(e) => return Err(Failed::Reading(e.into())),
        };
        (&*to).write_all(&buffer).map_err(Failed::Writing)?;
        copied += n as u64;
        told(copied, total);
        if !wide && copied >= BUFFER as u64 {
            wide = true;
            widen(&source);
        }
    }
}

/// Shares the whole content of `source` with the empty file `to` (ioctl_ficlone(2)). False: not possible, and nothing has
/// changed.
#[cfg(target_os = "linux")]
fn reflink(source: impl AsFd, to: &File, size: u64) -> bool {
    use std::io::SeekFrom;

    let at_start = rustix::fs::seek(&source, rustix::fs::SeekFrom::Current(0)) == Ok(0);
    if !at_start || !matches!((&*to).stream_position(), Ok(0)) {
        return false;
    }
    match rustix::fs::ioctl_ficlone(to, &source).map_err(io::Error::from) {
        Ok(()) => {}
        Err(e) if crate::sys::unsupported(&e) || e.raw_os_error() == Some(libc::EXDEV) => return false,
        Err(_) => {
            // It may have shared a part before it failed: start over with an empty file. If truncating fails, the writes
            // that follow fail too, and report it.
            let _ = to.set_len(0);
            return false;
        }
    }
    // A copy would have left both positions at the end.
    (&*to).seek(SeekFrom::End(0)).is_ok() && rustix::fs::seek(source, rustix::fs::SeekFrom::Start(size)).is_ok()
}

#[cfg(target_os = "linux")]
fn is_full(e: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(e, Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
}

/// Only for speed, so errors do not matter: a user may have no right to a wider pipe (pipe-max-size).
fn widen(source: impl AsFd) {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(source, PIPE);
    #[cfg(not(target_os = "linux"))]
    let _ = (source, PIPE);
}

/// Reads all that is left in `source` into memory, telling `observer` of the progress.
///
/// # Errors
///
/// `read` failed, or the memory does not suffice. Both name `source_name`.
pub fn read_all(source: impl AsFd, source_name: &Path, observer: &Observer) -> Result<Vec<u8>> {
    let fail = |e: io::Error| Error::io(source_name, e);
    let status = FileStatus::of(&source).map_err(fail)?;
    let mut content = Vec::new();
    let total = (status.kind == FileKind::Regular).then_some(status.size);
    // One byte more than the file is long, so that the end is found without growing.
    let mut want = total.map_or(BUFFER, |size| usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1));
    loop {
        if content.len() == content.capacity() {
            content
                .try_reserve(want)
                .map_err(|_| fail(io::Error::from_raw_os_error(libc::ENOMEM)).with_remedy(Remedy::Stream))?;
            // Doubles each time. Memory that is never touched costs nothing, and growing moves pages, not bytes.
            want = content.capacity();
        }
        match rustix::io::retry_on_intr(|| rustix::io::read(&source, spare_capacity(&mut content))) {
            Ok(0) => return Ok(content),
            Ok(_) => observer.tell(&Notice::Progress { bytes: content.len() as u64, total }),
            Err(e) => return Err(fail(e.into())),
        }
    }
}

/// An empty buffer. Where there is no memory for it, an error: an abort would leave the lock file.
fn buffer() -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(BUFFER).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    Ok(buffer)
}

/// Whether two files have the same content. Reads both from their start.
pub(crate) fn same_content(a: &File, b: &File) -> io::Result<bool> {
    if FileStatus::of(a)?.size != FileStatus::of(b)?.size {
        return Ok(false);
    }
    (&*a).rewind()?;
    (&*b).rewind()?;
    let (mut left, mut right) = (buffer()?, buffer()?);
    loop {
        fill(a, &mut left)?;
        fill(b, &mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    while buffer.len() < buffer.capacity() {
        if rustix::io::retry_on_intr(|| rustix::io::read(file, spare_capacity(buffer)))? == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, SeekFrom};

    use super::*;

    fn file_with(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    fn content_of(file: &File) -> Vec<u8> {
        let mut content = Vec::new();
        (&*file).rewind().unwrap();
        (&*file).read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn copies_a_file_from_where_it_stands_to_where_the_other_stands() {
        let mut source = file_with(b"0123456789");
        source.seek(SeekFrom::Start(4)).unwrap();
        let mut to = file_with(b"ab");
        to.seek(SeekFrom::End(0)).unwrap();
        assert_eq!(copy(&source, &to, |_, _| {}).unwrap(), 6);
        assert_eq!(content_of(&to), b"ab456789");
    }

    #[test]
    fn copies_what_has_no_size() {
        let source = File::open("/proc/self/status").or_else(|_| File::open("/dev/null")).unwrap();
        let to = file_with(b"");
        let told = copy(&source, &to, |_, _| {}).unwrap();
        assert_eq!(told, content_of(&to).len() as u64);
    }

    #[test]
    fn reads_all_of_a_pipe() {
        let (from, to) = rustix::pipe::pipe().unwrap();
        let mut to = File::from(to);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| i as u8).collect();
        let expected = sent.clone();
        let writer = std::thread::spawn(move || to.write_all(&sent).unwrap());
        assert!(read_all(&from, Path::new("-"), &Observer::default()).unwrap() == expected);
        writer.join().unwrap();
    }

    #[test]
    fn tells_contents_apart() {
        let long = vec![7; 3 * BUFFER + 1];
        let mut other = long.clone();
        *other.last_mut().unwrap() = 8;
        assert!(same_content(&file_with(&long), &file_with(&long)).unwrap());
        assert!(!same_content(&file_with(&long), &file_with(&other)).unwrap());
        assert!(!same_content(&file_with(b"a"), &file_with(b"ab")).unwrap());
        assert!(same_content(&file_with(b""), &file_with(b"")).unwrap());
    }
}
