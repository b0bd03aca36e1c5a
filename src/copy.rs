//! Moves bytes from one descriptor to another: by a reflink, by a copy in the kernel, or by `read` and `write`, whichever
//! comes first and works. Falling back loses nothing. Holes stay holes.
//!
//! Between a pipe and a file, plain `read` and `write` were faster than splice(2) in every measurement. `std::io::copy`
//! splices by itself, so it is not used.

use std::fs::File;
#[cfg(target_os = "linux")]
use std::io::Seek;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::digest::Hasher;
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

/// Holes in a file of this size do not matter.
#[cfg(target_os = "linux")]
const DENSE: u64 = 32 * 1024;

/// A file of less is read and written faster than the kernel is asked to copy it.
const SMALL: usize = 32 * 1024;

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
    told: impl FnMut(u64, Option<u64>),
) -> std::result::Result<u64, Failed> {
    copy_and_hash(source, to, None, told)
}

/// The same, and adds what it reads to `hasher`. What the kernel has copied is read once more for that.
pub(crate) fn copy_and_hash(
    source: impl AsFd,
    to: &File,
    mut hasher: Option<&mut Hasher>,
    mut told: impl FnMut(u64, Option<u64>),
) -> std::result::Result<u64, Failed> {
    let status = FileStatus::of(&source).map_err(Failed::Reading)?;
    // A file of size 0 may be one of /proc, which has content only for read(2).
    let file = status.kind == FileKind::Regular && status.size > 0;
    let total = file.then_some(status.size);
    let mut copied = 0;
    #[cfg(target_os = "linux")]
    if file {
        copied = a_file(&source, to, status.size, |n| told(n, total))?;
    }
    if let (Some(hasher), 1..) = (&mut hasher, copied) {
        read_again(&source, copied, hasher).map_err(Failed::Reading)?;
    }
    let mut wide = status.kind != FileKind::Fifo;
    let before = copied;
    if file && copied >= status.size && copied > 0 {
        // All of it, and the kernel has found the end behind it.
        return Ok(copied);
    }
    copied += by_hand(&source, to, u64::MAX, hasher, |n| {
        told(before + n, total);
        if !wide && n >= BUFFER as u64 {
            wide = true;
            widen(&source);
        }
    })?;
    Ok(copied)
}

/// Copies as much of a file of this size as the kernel can.
#[cfg(target_os = "linux")]
fn a_file(source: impl AsFd, to: &File, size: u64, mut told: impl FnMut(u64)) -> std::result::Result<u64, Failed> {
    if reflink(&source, to, size) {
        told(size);
        return Ok(size);
    }
    let mut copied = 0;
    while size > DENSE && ends_here(to) {
        let Some(hole) = next_hole(&source, size) else { break };
        let data = stretch(&source, to, hole.data, |n| told(copied + n))?;
        copied += data;
        if data < hole.data {
            // The source has been cut meanwhile.
            break;
        }
        skip(&source, to, hole.length).map_err(Failed::Writing)?;
        copied += hole.length;
        told(copied);
    }
    Ok(copied + in_kernel(&source, to, u64::MAX, |n| told(copied + n))?)
}

/// Adds the `copied` bytes before the position of `source` to `hasher`. A source that is written meanwhile gives other bytes
/// than have been copied.
fn read_again(source: impl AsFd, copied: u64, hasher: &mut Hasher) -> io::Result<()> {
    let end = rustix::fs::seek(&source, rustix::fs::SeekFrom::Current(0))?;
    rustix::fs::seek(&source, rustix::fs::SeekFrom::Start(end.saturating_sub(copied)))?;
    hash(source, copied, hasher)
}

/// Copies up to `most` bytes between two files. `told` hears the bytes so far.
#[cfg(target_os = "linux")]
fn stretch(source: impl AsFd, to: &File, most: u64, mut told: impl FnMut(u64)) -> std::result::Result<u64, Failed> {
    let copied = in_kernel(&source, to, most, &mut told)?;
    Ok(copied + by_hand(&source, to, most - copied, None, |n| told(copied + n))?)
}

/// The same as far as the kernel can copy between these two: from then on both positions are behind what was copied.
#[cfg(target_os = "linux")]
fn in_kernel(source: impl AsFd, to: &File, most: u64, mut told: impl FnMut(u64)) -> std::result::Result<u64, Failed> {
    let mut copied = 0;
    while copied < most {
        let wanted = usize::try_from(most - copied).map_or(STRETCH, |left| left.min(STRETCH));
        match rustix::io::retry_on_intr(|| rustix::fs::copy_file_range(&source, None, to, None, wanted)) {
            Ok(0) => break,
            Ok(n) => {
                copied += n as u64;
                told(copied);
            }
            Err(e) if is_full(e) => return Err(Failed::Writing(e.into())),
            // Not possible between these two.
            Err(_) => break,
        }
    }
    Ok(copied)
}

/// The same by `read` and `write`, from any descriptor.
fn by_hand(
    source: impl AsFd,
    to: &File,
    most: u64,
    mut hasher: Option<&mut Hasher>,
    mut told: impl FnMut(u64),
) -> std::result::Result<u64, Failed> {
    let mut copied = 0;
    by_pieces(source, most, |bytes| {
        if let Some(hasher) = &mut hasher {
            hasher.add(bytes);
        }
        (&*to).write_all(bytes).map_err(Failed::Writing)?;
        copied += bytes.len() as u64;
        told(copied);
        Ok(())
    })
}

/// Adds up to `most` bytes of what is left to read in `source` to `hasher`.
pub(crate) fn hash(source: impl AsFd, most: u64, hasher: &mut Hasher) -> io::Result<()> {
    let read = by_pieces(source, most, |bytes| {
        hasher.add(bytes);
        Ok(())
    });
    read.map(drop).map_err(Failed::into_inner)
}

/// Reads up to `most` bytes, piece by piece.
fn by_pieces(
    source: impl AsFd,
    most: u64,
    mut each: impl FnMut(&[u8]) -> std::result::Result<(), Failed>,
) -> std::result::Result<u64, Failed> {
    if most == 0 {
        return Ok(0);
    }
    let mut buffer = buffer().map_err(Failed::Reading)?;
    let mut copied = 0;
    while copied < most {
        let wanted = usize::try_from(most - copied).map_or(BUFFER, |left| left.min(BUFFER));
        // Not filled with zeros before: for a small file that would be most of the work.
        let bytes = match rustix::io::read(&source, &mut buffer.spare_capacity_mut()[..wanted]) {
            Ok(([], _)) => break,
            Ok((bytes, _)) => bytes,
            Err(e) => {
                go_on_after(e, &source).map_err(Failed::Reading)?;
                continue;
            }
        };
        each(bytes)?;
        copied += bytes.len() as u64;
    }
    Ok(copied)
}

/// Whether reading can go on after `read` has failed. Standard input may not wait for its bytes (`O_NONBLOCK`): the flag is
/// that of the pipe or terminal, and another program that has it open may have set it.
fn go_on_after(failure: Errno, source: impl AsFd) -> io::Result<()> {
    match failure {
        Errno::INTR => Ok(()),
        Errno::AGAIN => match poll(&mut [PollFd::new(&source, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        },
        e => Err(e.into()),
    }
}

/// A hole of a file, and how much data lies before it.
#[cfg(target_os = "linux")]
struct Hole {
    data: u64,
    length: u64,
}

/// The next hole behind the position of `source`, of which the last one may reach to the end, which is at `size`. `None`:
/// there is none, or the file system does not tell.
#[cfg(target_os = "linux")]
fn next_hole(source: impl AsFd, size: u64) -> Option<Hole> {
    use rustix::fs::{SeekFrom, seek};
    let at = seek(&source, SeekFrom::Current(0)).ok()?;
    let hole = seek(&source, SeekFrom::Hole(at)).ok().filter(|hole| *hole < size);
    let data = hole.map(|hole| match seek(&source, SeekFrom::Data(hole)) {
        Ok(data) => data.min(size),
        // Nothing but the hole follows (lseek(2)).
        Err(_) => size,
    });
    // Asking has moved the position.
    seek(&source, SeekFrom::Start(at)).ok()?;
    let (hole, data) = (hole?, data?);
    Some(Hole { data: hole - at, length: data.checked_sub(hole).filter(|length| *length > 0)? })
}

/// Whether `to` ends at its position, so that what is not written there is a hole.
#[cfg(target_os = "linux")]
fn ends_here(to: &File) -> bool {
    let size = FileStatus::of(to).map(|status| status.size);
    matches!((size, (&*to).stream_position()), (Ok(size), Ok(at)) if size == at)
}

/// Makes a hole of `length` in `to`, and moves both positions behind it.
#[cfg(target_os = "linux")]
fn skip(source: impl AsFd, to: &File, length: u64) -> io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    let distance = i64::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    let end = seek(to, SeekFrom::Current(distance))?;
    to.set_len(end)?;
    seek(source, SeekFrom::Current(distance))?;
    Ok(())
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
fn is_full(e: Errno) -> bool {
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
    let mut content = Vec::new();
    let mut want = BUFFER;
    loop {
        if content.len() == content.capacity() {
            content
                .try_reserve(want)
                .map_err(|_| fail(io::Error::from_raw_os_error(libc::ENOMEM)).with_remedy(Remedy::Stream))?;
            // Doubles each time. Memory that is never touched costs nothing, and growing moves pages, not bytes.
            want = content.capacity();
        }
        match rustix::io::read(&source, spare_capacity(&mut content)) {
            Ok(0) => return Ok(content),
            Ok(_) => observer.tell(&Notice::Progress { bytes: content.len() as u64, total: None }),
            Err(e) => go_on_after(e, &source).map_err(fail)?,
        }
    }
}

/// An empty buffer. Where there is no memory for it, an error: an abort would leave the lock file.
fn buffer() -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(BUFFER).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    Ok(buffer)
}

/// Whether two files have the same content, whatever their positions.
pub(crate) fn same_content(a: &File, b: &File) -> io::Result<bool> {
    if FileStatus::of(a)?.size != FileStatus::of(b)?.size {
        return Ok(false);
    }
    Content::Rest(a.as_fd(), 0).is_all_of(b)
}

/// Whether `file` contains just `bytes`.
pub(crate) fn is_content_of(bytes: &[u8], file: &File) -> io::Result<bool> {
    if FileStatus::of(file)?.size != bytes.len() as u64 {
        return Ok(false);
    }
    let mut there = Vec::new();
    there.try_reserve_exact(bytes.len()).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    Content::Rest(file.as_fd(), 0).fill(&mut there)?;
    Ok(there == bytes)
}

/// All of `file`, whatever its position, if that is so little that to share or copy it in the kernel saves nothing.
pub(crate) fn small_content(file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    content.try_reserve_exact(SMALL).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    Content::Rest(file.as_fd(), 0).fill(&mut content)?;
    Ok((content.len() < content.capacity()).then_some(content))
}

/// Content that has not been written anywhere yet.
pub(crate) enum Content<'a> {
    Memory(&'a [u8]),
    /// What a file has from this offset on. Its position does not move.
    Rest(BorrowedFd<'a>, u64),
}

impl<'a> Content<'a> {
    pub(crate) fn rest_of(file: BorrowedFd<'a>) -> io::Result<Content<'a>> {
        let at = rustix::fs::seek(file, rustix::fs::SeekFrom::Current(0))?;
        Ok(Content::Rest(file, at))
    }

    /// Whether it is what `file` contains.
    pub(crate) fn is_all_of(&mut self, file: &File) -> io::Result<bool> {
        let mut other = Content::Rest(file.as_fd(), 0);
        let (mut left, mut right) = (buffer()?, buffer()?);
        loop {
            self.fill(&mut left)?;
            other.fill(&mut right)?;
            if left != right {
                return Ok(false);
            }
            if left.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Reads on until `buffer` is full or the content ends.
    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        while buffer.len() < buffer.capacity() {
            let n = match self {
                Content::Memory(left) => {
                    let n = left.len().min(buffer.capacity() - buffer.len());
                    buffer.extend_from_slice(&left[..n]);
                    *left = &left[n..];
                    n
                }
                Content::Rest(file, at) => {
                    let read = || rustix::io::pread(*file, spare_capacity(buffer), *at);
                    let n = rustix::io::retry_on_intr(read)?;
                    *at += n as u64;
                    n
                }
            };
            if n == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

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
    fn small_files_are_compared_and_read_as_a_whole() {
        for (content, bytes, same) in
            [("", "", true), ("ab", "ab", true), ("ab", "ac", false), ("abc", "ab", false), ("", "a", false)]
        {
            let mut file = file_with(content.as_bytes());
            assert_eq!(is_content_of(bytes.as_bytes(), &file).unwrap(), same, "{content} {bytes}");
            file.seek(SeekFrom::End(0)).unwrap();
            assert_eq!(small_content(&file).unwrap().unwrap(), content.as_bytes());
        }
        assert!(small_content(&file_with(&vec![b'x'; 4 * SMALL])).unwrap().is_none());
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

    /// Data and holes in turn, the first and the last included, copied to the start of an empty file and behind content.
    #[cfg(target_os = "linux")]
    #[test]
    fn holes_stay_holes() {
        use std::os::unix::fs::MetadataExt;
        const PART: u64 = 1 << 20;
        for holes in [[true, false, true], [false, true, false]] {
            let mut sparse = tempfile::tempfile().unwrap();
            for (number, hole) in holes.into_iter().enumerate() {
                sparse.set_len((number as u64 + 1) * PART).unwrap();
                sparse.seek(SeekFrom::Start(number as u64 * PART)).unwrap();
                if !hole {
                    sparse.write_all(&vec![7; PART as usize]).unwrap();
                }
            }
            let blocks = sparse.metadata().unwrap().blocks();
            if blocks * 512 >= 3 * PART {
                return; // This file system has no holes.
            }
            for before in [0, 100_000] {
                let mut to = file_with(&vec![1; before]);
                to.seek(SeekFrom::End(0)).unwrap();
                sparse.rewind().unwrap();
                let mut told = 0;
                assert_eq!(copy(&sparse, &to, |n, _| told = n).unwrap(), 3 * PART);
                assert_eq!(told, 3 * PART);
                assert!(
                    to.metadata().unwrap().blocks() <= blocks + 300,
                    "{} > {blocks}",
                    to.metadata().unwrap().blocks()
                );
                assert_eq!(to.stream_position().unwrap(), 3 * PART + before as u64);
                assert_eq!(sparse.stream_position().unwrap(), 3 * PART);
                assert!(content_of(&to)[before..] == content_of(&sparse));
            }
            // Where something stands behind the position, nothing may be left out.
            let mut to = file_with(&vec![1; 4 * PART as usize]);
            to.rewind().unwrap();
            sparse.rewind().unwrap();
            copy(&sparse, &to, |_, _| {}).unwrap();
            assert!(content_of(&to)[..3 * PART as usize] == content_of(&sparse));
        }
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
