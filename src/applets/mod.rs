//! All that is command line: which applet is meant, its flags, messages, exit codes, signals and children.

mod common;
mod completions;
mod flags;
mod flock;
mod housekeep;
mod install;
mod lock;
mod locking;
mod values;
mod write;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::OnceLock;

use awrite::Error;

use crate::process::{self, Inherited};
use crate::report::{self, Style};
use flags::Manual;

/// One of the programs that this binary is.
struct Applet {
    /// What it is called, and called by.
    name: &'static str,
    /// The first argument that chooses it where the binary's name does not; empty: it is what other names mean.
    word: &'static str,
    run: fn(Vec<OsString>, &Inherited) -> Result<u8, Error>,
    manual: fn() -> Manual,
}

const APPLETS: [Applet; 3] = [
    Applet { name: "awrite", word: "", run: write::run, manual: || write::GRAMMAR.manual() },
    Applet { name: "awrite-lock", word: "lock", run: lock::run, manual: || lock::GRAMMAR.manual() },
    Applet { name: "awrite-housekeep", word: "housekeep", run: housekeep::run, manual: || housekeep::GRAMMAR.manual() },
];

/// Another name of the write applet. It needs no rule of its own, since any unknown name is one.
const SECOND_NAME: &str = "atomic-write";

/// Runs what `args` (the program's name first, if there is one) ask for and returns the status to exit with.
pub(crate) fn run(args: Vec<OsString>) -> u8 {
    let inherited = process::take_over();
    let mut args = args.into_iter();
    let name = CALLED_AS.get_or_init(|| args.next().unwrap_or_default());
    let args: Vec<OsString> = args.collect();
    // An error in the options is to come out as JSON too, wherever among them `--json` stands.
    if args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json") {
        report::use_style(Style { json: true, ..Style::default() });
    }
    match dispatch(name, args, &inherited) {
        Ok(status) => status,
        Err(error) => {
            process::give_way();
            report::error(&error);
            error.exit_code()
        }
    }
}

static CALLED_AS: OnceLock<OsString> = OnceLock::new();

/// `argv[0]`; empty if there was none.
fn called_as() -> &'static OsStr {
    CALLED_AS.get().map_or(OsStr::new(""), OsString::as_os_str)
}

fn dispatch(name: &OsStr, mut args: Vec<OsString>, inherited: &Inherited) -> Result<u8, Error> {
    let called_as = name;
    let name = base_name(name);
    if name == b"flock" {
        return flock::run(called_as, args, inherited);
    }
    let (applet, by_word) = choose(name, args.first().map(OsString::as_os_str));
    if by_word {
        args.remove(0);
    }
    (applet.run)(args, inherited)
}

/// The applet, and whether the first argument has chosen it.
fn choose(name: &[u8], first: Option<&OsStr>) -> (&'static Applet, bool) {
    let [write, others @ ..] = &APPLETS;
    if let Some(applet) = others.iter().find(|applet| applet.name.as_bytes() == name) {
        return (applet, false);
    }
    match others.iter().find(|applet| first == Some(OsStr::new(applet.word))) {
        Some(applet) => (applet, true),
        None => (write, false),
    }
}

/// `argv[0]` without its directories and without the `-` that login(1) puts before a shell's name.
fn base_name(name: &OsStr) -> &[u8] {
    let name = Path::new(name).file_name().unwrap_or_default().as_encoded_bytes();
    name.strip_prefix(b"-").unwrap_or(name)
}

/// The text of `--list`.
fn list() -> String {
    APPLETS.iter().map(|applet| format!("{}\n", applet.name)).collect()
}

/// The names that `--install` makes.
fn link_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = APPLETS.iter().map(|applet| applet.name).collect();
    names.insert(1, SECOND_NAME);
    names
}

/// What holds for any command line of any applet.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_words(words: &[OsString]) {
    fn ask<S: Default>(grammar: &'static flags::Grammar<S>, words: &[OsString]) {
        match grammar.parse(words.to_vec(), &mut S::default()) {
            Ok(parsed) => {
                assert!(parsed.operand.is_none_or(|operand| !operand.is_empty()));
                let command = parsed.command.unwrap_or_default();
                assert!(words.ends_with(&command), "COMMAND is what stands at the end");
            }
            Err(flags::Stop::Usage(reason)) => assert!(!reason.contains(char::is_control), "{reason:?}"),
            Err(_) => {}
        }
    }
    ask(&write::GRAMMAR, words);
    ask(&lock::GRAMMAR, words);
    ask(&housekeep::GRAMMAR, words);
    flock::any_words(words);
    words.iter().for_each(|word| values::any_value(word));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_applets() {
        for (name, first, chosen, by_word) in [
            ("awrite", None, "awrite", false),
            ("awrite", Some("f"), "awrite", false),
            ("awrite", Some("lock"), "awrite-lock", true),
            ("awrite", Some("housekeep"), "awrite-housekeep", true),
            ("awrite", Some("./lock"), "awrite", false),
            ("awrite", Some("locks"), "awrite", false),
            ("awrite", Some(""), "awrite", false),
            ("/usr/bin/awrite-lock", None, "awrite-lock", false),
            ("awrite-lock", Some("housekeep"), "awrite-lock", false),
            ("-awrite-housekeep", None, "awrite-housekeep", false),
            ("-/bin/awrite-housekeep", None, "awrite-housekeep", false),
            ("atomic-write", None, "awrite", false),
            ("atomic-write", Some("housekeep"), "awrite-housekeep", true),
            ("anything", Some("lock"), "awrite-lock", true),
            ("", None, "awrite", false),
            ("/", None, "awrite", false),
            ("-", None, "awrite", false),
        ] {
            let (applet, word) = choose(base_name(OsStr::new(name)), first.map(OsStr::new));
            assert_eq!((applet.name, word), (chosen, by_word), "{name} {first:?}");
        }
        assert_eq!(base_name(OsStr::new("/usr/bin/flock")), b"flock");
    }

    #[test]
    fn the_list() {
        assert_eq!(list(), "awrite\nawrite-lock\nawrite-housekeep\n");
        assert_eq!(link_names(), ["awrite", "atomic-write", "awrite-lock", "awrite-housekeep"]);
    }
}
