//! The difference between two files, as `diff -u` prints it, on standard output.
//!
//! ```text
//!   window   what is not the same at the beginning and at the end of both, in constant memory
//!   script   which lines of the window stay
//!   hunks    its text
//! ```
//!
//! The header has the file's name without times: the text depends on the contents alone, and patch(1) applies it.

mod hunks;
mod script;
mod window;

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use awrite::Error;

use super::output::print_all;
use hunks::{Colours, Hunks};
use window::{Seen, Window};

/// Prints how `new` differs from `old`, the current content of `target`; `None`: there is none. Nothing if they are the same.
/// It is an error if not all of it can be written.
pub(crate) fn print(target: &Path, old: Option<&File>, new: &File) -> Result<(), Error> {
    let colours = Colours::for_stdout();
    let failed = |e: io::Error| Error::io(target, e).during("cannot compare");
    let seen = window::find(old, new).map_err(failed)?;
    if matches!(seen, Seen::Same) {
        return Ok(());
    }
    let name = quoted(target);
    let old_name = if old.is_some() { &name[..] } else { b"/dev/null" };
    let mut text = Vec::new();
    for (mark, name) in [(&b"--- "[..], old_name), (b"+++ ", &name)] {
        colours.line(&mut text, colours.header, &[mark, name, b"\n"]);
    }
    match &seen {
        Seen::Same => {}
        Seen::Binary => text.extend_from_slice(b"Binary files differ\n"),
        Seen::TooLarge => {
            text.extend_from_slice(b"Too much has changed to be shown: more than 16 MiB, or a million lines\n")
        }
        Seen::Changed(Window { old, new, line, margins }) => {
            let (old, new) = (script::lines(old), script::lines(new));
            let edits = script::edits(&old, &new, *margins);
            for hunk in Hunks::new(&edits, old.len()) {
                hunks::write(&mut text, hunk, &old, &new, *line, &colours);
                if text.len() > 1 << 16 {
                    print_all(&text)?;
                    text.clear();
                }
            }
        }
    }
    print_all(&text)
}

/// A name as patch(1) reads it: in quotes where it has blanks or other characters that would be taken for the end.
fn quoted(path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_bytes();
    let special = |b: &u8| *b <= b' ' || matches!(b, b'"' | b'\\' | 0x7f);
    if !name.iter().any(special) {
        return name.to_owned();
    }
    let mut quoted = vec![b'"'];
    for &b in name {
        match b {
            b'"' | b'\\' => quoted.extend([b'\\', b]),
            b'\n' => quoted.extend(b"\\n"),
            b'\t' => quoted.extend(b"\\t"),
            0..=0x1f | 0x7f => quoted.extend(format!("\\{b:03o}").bytes()),
            _ => quoted.push(b),
        }
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn names() {
        for (name, written) in [
            (&b"/etc/f.conf"[..], &b"/etc/f.conf"[..]),
            (b"\xc3\xa4\xff", b"\xc3\xa4\xff"),
            (b"a b", b"\"a b\""),
            (b"a\"\\\n\t\x1b\x7f", b"\"a\\\"\\\\\\n\\t\\033\\177\""),
        ] {
            assert_eq!(quoted(Path::new(OsStr::from_bytes(name))), written);
        }
    }
}
