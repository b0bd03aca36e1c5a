//! What two files do not have in common at their beginning and at their end, with some lines around it. The rest is only
//! compared, in constant memory: it may be a log of gigabytes that has got a line more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::hunks::CONTEXT;

/// How many equal lines there are before and behind what differs: an edit may move by [`CONTEXT`], as GNU diff lets it, and
/// has as many around it wherever it is then.
const AROUND: usize = 2 * CONTEXT;
/// How much of each file is compared line by line. Each line takes some 100 bytes of memory.
const LIMIT: u64 = 16 << 20;
const MOST_LINES: usize = 1 << 20;
/// How much is read at a time.
const BLOCK: usize = 1 << 16;

/// What a comparison has found.
pub(super) enum Seen {
    Same,
    /// One of the two is no text: it has a zero byte where it was looked at.
    Binary,
    /// More has changed than can be compared line by line.
    TooLarge,
    Changed(Window),
}

/// The parts of the two files with all that differs, in whole lines.
pub(super) struct Window {
    pub(super) old: Vec<u8>,
    pub(super) new: Vec<u8>,
    /// How many lines are before it.
    pub(super) line: u64,
    /// How many lines at its beginning and at its end are only there to be shown.
    pub(super) margins: [usize; 2],
}

/// A file that is read here and there, without moving its position.
struct Side<'a> {
    file: Option<&'a File>,
    size: u64,
}

/// The beginning that both have.
struct Prefix {
    /// Where the lines begin that may not be the same, and some lines before that.
    end: u64,
    context: u64,
    /// How many lines are before that context, and how many in it.
    line: u64,
    lines: usize,
}

pub(super) fn find(old: Option<&File>, new: &File) -> io::Result<Seen> {
    let mut text = Text { has_zero: false };
    let (old, new) = (Side::new(old)?, Side::new(Some(new))?);
    let Some(prefix) = common_prefix(&old, &new, &mut text)? else { return Ok(Seen::Same) };
    let (tail, behind) = common_suffix(&old, &new, prefix.end, &mut text)?;
    let lengths = [&old, &new].map(|side| side.size - tail - prefix.context);
    let read = |side: &Side<'_>, length: u64| side.block(prefix.context, length.min(LIMIT));
    let margins = [prefix.lines, behind].map(|lines| lines.saturating_sub(CONTEXT));
    let window = Window { old: read(&old, lengths[0])?, new: read(&new, lengths[1])?, line: prefix.line, margins };
    text.look(&window.old);
    text.look(&window.new);
    Ok(match text.has_zero {
        true => Seen::Binary,
        false if lengths.iter().any(|length| *length > LIMIT) => Seen::TooLarge,
        false if [&window.old, &window.new].iter().any(|text| count_lines(text) > MOST_LINES) => Seen::TooLarge,
        false => Seen::Changed(window),
    })
}

fn count_lines(text: &[u8]) -> usize {
    text.iter().filter(|b| **b == b'\n').count()
}

/// Whether what was read is text.
struct Text {
    has_zero: bool,
}

impl Text {
    fn look(&mut self, bytes: &[u8]) {
        self.has_zero |= bytes.contains(&0);
    }
}

impl<'a> Side<'a> {
    fn new(file: Option<&'a File>) -> io::Result<Side<'a>> {
        let size = file.map_or(Ok(0), |file| file.metadata().map(|status| status.len()))?;
        Ok(Side { file, size })
    }

    /// Fills `buffer` with what is at `offset`. A file that has become shorter is an error.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.file {
            Some(file) if !buffer.is_empty() => file.read_exact_at(buffer, offset),
            _ => Ok(()),
        }
    }

    fn block(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let mut block = Vec::new();
        block.try_reserve_exact(length).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        block.resize(length, 0);
        self.read(offset, &mut block)?;
        Ok(block)
    }

    /// Where the line behind the one at `offset` begins.
    fn next_line(&self, mut offset: u64) -> io::Result<u64> {
        let mut block = [0; 4096];
        while offset < self.size {
            let block = &mut block[..at_most(4096, self.size - offset)];
            self.read(offset, block)?;
            if let Some(end) = block.iter().position(|b| *b == b'\n') {
                return Ok(offset + end as u64 + 1);
            }
            offset += block.len() as u64;
        }
        Ok(self.size)
    }

    /// Whether a line begins at `offset`.
    fn is_line(&self, offset: u64) -> io::Result<bool> {
        let mut before = [0];
        match offset.checked_sub(1) {
            None => Ok(true),
            Some(last) => self.read(last, &mut before).map(|()| before == *b"\n"),
        }
    }
}

fn at_most(most: usize, left: u64) -> usize {
    usize::try_from(left).map_or(most, |left| left.min(most))
}

/// `None`: both are the same.
fn common_prefix(old: &Side<'_>, new: &Side<'_>, text: &mut Text) -> io::Result<Option<Prefix>> {
    let both = old.size.min(new.size);
    let (mut one, mut other) = (vec![0; BLOCK], vec![0; BLOCK]);
    // The last lines that have begun, the latest one last.
    let (mut begun, mut lines, mut offset) = ([0; AROUND + 1], 0_u64, 0);
    let mut differ = false;
    while offset < both && !differ {
        let size = at_most(BLOCK, both - offset);
        let (one, other) = (&mut one[..size], &mut other[..size]);
        old.read(offset, one)?;
        new.read(offset, other)?;
        let same = if one == other { size } else { one.iter().zip(&*other).take_while(|(a, b)| a == b).count() };
        text.look(&one[..same]);
        for (at, _) in one[..same].iter().enumerate().filter(|(_, b)| **b == b'\n') {
            begun.rotate_left(1);
            begun[AROUND] = offset + at as u64 + 1;
            lines += 1;
        }
        offset += same as u64;
        differ = same < size;
    }
    if !differ && old.size == new.size {
        return Ok(None);
    }
    let line = lines.saturating_sub(AROUND as u64);
    // It is 0 where there are fewer lines.
    let context = begun[0];
    Ok(Some(Prefix { end: begun[AROUND], context, line, lines: at_most(AROUND, lines) }))
}

/// How many bytes both have at their end, in whole lines, without those around what differs, and how many these are.
fn common_suffix(old: &Side<'_>, new: &Side<'_>, prefix: u64, text: &mut Text) -> io::Result<(u64, usize)> {
    let most = old.size.min(new.size) - prefix;
    let (mut one, mut other) = (vec![0; BLOCK], vec![0; BLOCK]);
    let (mut same, mut differ) = (0, false);
    while same < most && !differ {
        let size = at_most(BLOCK, most - same);
        let (one, other) = (&mut one[..size], &mut other[..size]);
        old.read(old.size - same - size as u64, one)?;
        new.read(new.size - same - size as u64, other)?;
        let equal = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
        text.look(&one[size - equal..]);
        same += equal as u64;
        differ = equal < size;
    }
    let mut offset = old.size - same;
    if !(old.is_line(offset)? && new.is_line(new.size - same)?) {
        offset = old.next_line(offset)?;
    }
    let mut around = 0;
    while around < AROUND && offset < old.size {
        offset = old.next_line(offset)?;
        around += 1;
    }
    Ok((old.size - offset, around))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// The two parts and the number of lines before them.
    fn window(old: &[u8], new: &[u8]) -> Option<(String, String, u64)> {
        match find(Some(&file(old)), &file(new)).unwrap() {
            Seen::Changed(Window { old, new, line, .. }) => {
                Some((String::from_utf8(old).unwrap(), String::from_utf8(new).unwrap(), line))
            }
            _ => None,
        }
    }

    #[test]
    fn what_is_around_a_change() {
        let lines = |range: std::ops::Range<u32>| range.map(|n| format!("{n}\n")).collect::<String>();
        let some = |old: &str, new: &str, line| Some((old.to_owned(), new.to_owned(), line));
        let old = lines(0..40);
        let (part, line) = (lines(13..26), lines(19..20));
        for (new, expected) in [
            (old.clone(), None),
            (old.replace(&line, "x\n"), some(&part, &part.replace(&line, "x\n"), 13)),
            (old.replace(&line, ""), some(&part, &part.replace(&line, ""), 13)),
            (format!("x\n{old}"), some(&lines(0..6), &format!("x\n{}", lines(0..6)), 0)),
            (format!("{old}x\n"), some(&lines(34..40), &format!("{}x\n", lines(34..40)), 34)),
            (format!("{old}x"), some(&lines(34..40), &format!("{}x", lines(34..40)), 34)),
            // Both have the end of that line, but the line is not the same.
            (old.replace(&line, "9\n"), some(&part, &part.replace(&line, "9\n"), 13)),
            (old.trim_end().to_owned(), some(&lines(33..40), lines(33..40).trim_end(), 33)),
            (String::new(), some(&old, "", 0)),
        ] {
            assert_eq!(window(old.as_bytes(), new.as_bytes()), expected, "{new}");
        }
        // The first line twice: the second one is new.
        let one = "a\n";
        let two = one.repeat(2);
        assert_eq!(window(one.as_bytes(), two.as_bytes()), some(one, &two, 0));
        assert_eq!(window(b"a", b"a\na"), some(one.trim_end(), two.trim_end(), 0));
    }

    #[test]
    fn across_blocks() {
        for size in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let same = vec![b'x'; size];
            let with = |middle: &[u8]| [&same[..], b"\n", middle, b"\n", &same, b"\n"].concat();
            let (old, new, line) = window(&with(b"old"), &with(b"new")).unwrap();
            assert_eq!((old.into_bytes(), new.into_bytes(), line), (with(b"old"), with(b"new"), 0));
        }
    }

    #[test]
    fn what_is_no_text() {
        let is_binary = |old: &[u8], new: &[u8]| matches!(find(Some(&file(old)), &file(new)), Ok(Seen::Binary));
        let many = b"line\n".repeat(BLOCK);
        assert!(is_binary(b"a\0", b"b") && is_binary(b"a", b"b\0") && !is_binary(b"\xff", b"\xfe"));
        assert!(is_binary(&[b"\0", &many[..]].concat(), &[b"\0", &many[..], b"x"].concat()));
        assert!(is_binary(&[&many[..], b"\0"].concat(), &[b"x", &many[..], b"\0"].concat()));
        assert!(matches!(find(None, &file(b"\0")), Ok(Seen::Binary)));
        assert!(matches!(find(None, &file(b"")), Ok(Seen::Same)));
    }
}
