//! `awrite-lock`. Only its name and its place in the table of applets so far.

use std::ffi::OsString;

use awrite::Error;

use super::common;
use super::flags::{Complete, Flag, Grammar, Page, Stop};
use crate::process::Inherited;

pub(super) struct Settings;

const FLAGS: &[Flag<Settings>] = &[common::help(), common::version()];

pub(super) static GRAMMAR: Grammar<Settings> = Grammar { page: PAGE, flags: FLAGS };

const PAGE: Page = Page {
    name: "awrite-lock",
    synopsis: &["[OPTIONS] TARGET -- COMMAND [ARG...]"],
    about: "Runs COMMAND with the lock held that awrite takes to write TARGET.",
    operand: "TARGET",
    complete_operand: Complete::File,
    takes_command: true,
    epilogue: "This version of awrite has no lock applet yet.\n",
};

pub(super) fn run(args: Vec<OsString>, _inherited: &Inherited) -> Result<u8, Error> {
    match GRAMMAR.parse(args, &mut Settings) {
        Err(stop @ (Stop::Help | Stop::Version)) => GRAMMAR.stop(stop),
        // Its options are not known yet, so nothing can be said of them.
        _ => Err(super::not_built_yet(PAGE.name)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_sound() {
        super::super::flags::check_table(&super::GRAMMAR.manual());
    }
}
