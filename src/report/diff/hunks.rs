//! Edits as text.

use std::ops::Range;

use super::script::Edit;

/// How many unchanged lines are shown before and behind a change.
pub(super) const CONTEXT: usize = 3;

/// The edits in groups: those between which there is less than twice the context.
pub(super) struct Hunks<'a> {
    edits: &'a [Edit],
    /// How many lines the old file has.
    end: usize,
}

/// Edits that are shown together, and the unchanged lines around them.
pub(super) struct Hunk<'a> {
    edits: &'a [Edit],
    before: usize,
    behind: usize,
}

impl<'a> Hunks<'a> {
    pub(super) fn new(edits: &'a [Edit], end: usize) -> Hunks<'a> {
        Hunks { edits, end }
    }
}

impl<'a> Iterator for Hunks<'a> {
    type Item = Hunk<'a>;

    fn next(&mut self) -> Option<Hunk<'a>> {
        let first = self.edits.first()?;
        let near = self.edits.windows(2).take_while(|two| two[1].old.start - two[0].old.end <= 2 * CONTEXT).count();
        let (edits, rest) = self.edits.split_at(near + 1);
        self.edits = rest;
        let behind = CONTEXT.min(self.end - edits[near].old.end);
        Some(Hunk { edits, before: CONTEXT.min(first.old.start), behind })
    }
}

/// The sequences that make lines coloured on a terminal, as GNU diff has them; all empty elsewhere.
pub(super) struct Colours {
    pub(super) header: &'static [u8],
    place: &'static [u8],
    gone: &'static [u8],
    come: &'static [u8],
    plain: &'static [u8],
}

impl Colours {
    /// None where standard output is no terminal, or where the user wants none (https://no-color.org).
    pub(super) fn for_stdout() -> Colours {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_set("NO_COLOR") || dumb || !rustix::termios::isatty(rustix::stdio::stdout()) {
            return Colours { header: b"", place: b"", gone: b"", come: b"", plain: b"" };
        }
        let [header, place, gone, come] = [&b"\x1b[1m"[..], b"\x1b[36m", b"\x1b[31m", b"\x1b[32m"];
        Colours { header, place, gone, come, plain: b"\x1b[0m" }
    }

    /// Adds a line, which is given in parts. It becomes plain again before its line feed.
    pub(super) fn line(&self, text: &mut Vec<u8>, colour: &[u8], parts: &[&[u8]]) {
        text.extend_from_slice(colour);
        parts.iter().for_each(|part| text.extend_from_slice(part));
        if !colour.is_empty() {
            let has_feed = text.last() == Some(&b'\n') && text.pop().is_some();
            text.extend_from_slice(self.plain);
            text.extend(has_feed.then_some(b'\n'));
        }
    }
}

/// Adds the text of `hunk`. `line` lines are before those of `old` and `new`.
pub(super) fn write(text: &mut Vec<u8>, hunk: Hunk<'_>, old: &[&[u8]], new: &[&[u8]], line: u64, colours: &Colours) {
    let Hunk { edits, before, behind } = hunk;
    let ([first, ..], [.., last]) = (edits, edits) else { return };
    let place = |first: &Range<usize>, last: &Range<usize>| {
        let start = line + (first.start - before) as u64;
        match last.end + behind - (first.start - before) {
            0 => format!("{start},0"),
            1 => format!("{}", start + 1),
            length => format!("{},{length}", start + 1),
        }
    };
    let places = format!("@@ -{} +{} @@", place(&first.old, &last.old), place(&first.new, &last.new));
    colours.line(text, colours.place, &[places.as_bytes(), b"\n"]);
    let mut add = |colour: &[u8], mark: &[u8], lines: &[&[u8]]| {
        for line in lines {
            colours.line(text, colour, &[mark, line]);
            if !line.ends_with(b"\n") {
                text.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
    };
    let mut shown = first.old.start - before;
    for edit in edits {
        add(b"", b" ", &old[shown..edit.old.start]);
        add(colours.gone, b"-", &old[edit.old.clone()]);
        add(colours.come, b"+", &new[edit.new.clone()]);
        shown = edit.old.end;
    }
    add(b"", b" ", &old[shown..last.old.end + behind]);
}
