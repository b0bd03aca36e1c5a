//! Which lines stay, and which go or come.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::Range;

use similar::algorithms::{DiffHook, myers};

/// Lines of the old file that give way to lines of the new one. One of the two ranges may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

/// The lines of `text`, each with the line feed at its end, if it has one.
pub(super) fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|b| *b == b'\n').collect()
}

/// The edits that make the new lines of the old ones, in their order. The `margins` at both ends of both are the same, and
/// no edit moves there.
pub(super) fn edits(old: &[&[u8]], new: &[&[u8]], margins: [usize; 2]) -> Vec<Edit> {
    let inner = |length: usize| margins[0]..length - margins[1];
    let (old, new) = numbered(&old[inner(old.len())], &new[inner(new.len())]);
    let mut kept = kept(&old, &new);
    slide(&old, &mut kept.old, &kept.new, new.len());
    slide(&new, &mut kept.new, &kept.old, old.len());
    let outer = |gap: Range<usize>| gap.start + margins[0]..gap.end + margins[0];
    let edit =
        |at: usize| Edit { old: outer(gap(&kept.old, at, old.len())), new: outer(gap(&kept.new, at, new.len())) };
    (0..=kept.old.len()).map(edit).filter(|edit| !(edit.old.is_empty() && edit.new.is_empty())).collect()
}

/// The lines that stay. One that the other file does not have at all cannot; without these the search is short.
fn kept(old: &[usize], new: &[usize]) -> Kept {
    let (old_places, new_places) = (shared(old, new), shared(new, old));
    let of = |lines: &[usize], places: &[usize]| places.iter().map(|at| lines[*at]).collect::<Vec<usize>>();
    let (old, new) = (of(old, &old_places), of(new, &new_places));
    let mut kept = Kept::default();
    // Often there are several shortest scripts. Which of them is found depends on which file is called the old one; this
    // choice is that of GNU diff, in most cases.
    let swapped = (old.len() + new.len()) % 2 == 0;
    let Ok(()) = match swapped {
        true => myers::diff(&mut kept, &new[..], 0..new.len(), &old[..], 0..old.len()),
        false => myers::diff(&mut kept, &old[..], 0..old.len(), &new[..], 0..new.len()),
    };
    if swapped {
        std::mem::swap(&mut kept.old, &mut kept.new);
    }
    Kept { old: of(&old_places, &kept.old), new: of(&new_places, &kept.new) }
}

/// The places of the lines that `others` has too.
fn shared(lines: &[usize], others: &[usize]) -> Vec<usize> {
    // The numbers have no gaps.
    let most = lines.iter().chain(others).max().map_or(0, |most| most + 1);
    let mut has = vec![false; most];
    others.iter().for_each(|line| has[*line] = true);
    (0..lines.len()).filter(|at| has[lines[*at]]).collect()
}

/// Equal lines get the same number.
fn numbered<'a>(old: &[&'a [u8]], new: &[&'a [u8]]) -> (Vec<usize>, Vec<usize>) {
    let mut numbers = HashMap::new();
    let mut number = |lines: &[&'a [u8]]| {
        let one = |line: &&'a [u8]| {
            let next = numbers.len();
            *numbers.entry(*line).or_insert(next)
        };
        lines.iter().map(one).collect()
    };
    (number(old), number(new))
}

/// The lines that stay: their places in the two files, pair by pair.
#[derive(Default)]
struct Kept {
    old: Vec<usize>,
    new: Vec<usize>,
}

impl DiffHook for Kept {
    type Error = Infallible;

    fn equal(&mut self, old: usize, new: usize, length: usize) -> Result<(), Infallible> {
        self.old.extend(old..old + length);
        self.new.extend(new..new + length);
        Ok(())
    }
}

/// What lies before the line `kept[at]`, behind the one before that: lines that go or come.
fn gap(kept: &[usize], at: usize, end: usize) -> Range<usize> {
    let from = if at == 0 { 0 } else { kept[at - 1] + 1 };
    from..kept.get(at).copied().unwrap_or(end)
}

/// Moves each gap of one file to where people expect it: a block that is added behind an equal one is behind it, not in
/// its middle. A gap can move over a line that is the same as its first or its last one. It goes down as far as it can,
/// or to the last place where the other file has a gap too, so that both are one change. Gaps that meet become one.
fn slide(lines: &[usize], kept: &mut [usize], other: &[usize], other_end: usize) {
    let end = lines.len();
    let mut at = 0;
    while at <= kept.len() {
        let mut length = gap(kept, at, end).len();
        if length == 0 {
            at += 1;
            continue;
        }
        let beside = loop {
            while move_up(lines, kept, at) {
                at -= 1;
            }
            let meets = |at: usize| Some(at).filter(|at| !gap(other, *at, other_end).is_empty());
            let mut beside = meets(at);
            while move_down(lines, kept, at) {
                at += 1;
                beside = meets(at).or(beside);
            }
            match gap(kept, at, end).len() {
                same if same == length => break beside,
                longer => length = longer,
            }
        };
        while beside.is_some_and(|beside| beside < at) && move_up(lines, kept, at) {
            at -= 1;
        }
        at += 1;
    }
}

/// Moves the gap up by a line, if its last line is the one before it.
fn move_up(lines: &[usize], kept: &mut [usize], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    let last = gap(kept, at, lines.len()).end - 1;
    let can = lines[kept[before]] == lines[last];
    if can {
        kept[before] = last;
    }
    can
}

/// Moves the gap down by a line, if its first line is the one behind it.
fn move_down(lines: &[usize], kept: &mut [usize], at: usize) -> bool {
    let first = gap(kept, at, lines.len()).start;
    match kept.get_mut(at) {
        Some(behind) if lines[first] == lines[*behind] => {
            *behind = first;
            true
        }
        _ => false,
    }
}
