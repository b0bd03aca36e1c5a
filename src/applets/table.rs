//! The table of all applets and their names.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::flags::{Manual, Stop};
#[cfg(any(test, fuzzing))]
use super::{flags, flock, values};
use super::{housekeep, lock, write};
use crate::process::Inherited;

/// One of the programs that this binary contains.
pub(super) struct Applet {
    /// Its name in texts, and the file name that chooses it.
    pub(super) name: &'static str,
    /// The first argument that chooses it if the file name does not. Empty for the applet that all other names choose.
    pub(super) word: &'static str,
    pub(super) run: fn(Vec<OsString>, &Inherited) -> Result<u8, Stop>,
    pub(super) manual: fn() -> Manual,
}

pub(super) const APPLETS: [Applet; 3] = [
    Applet { name: "awrite", word: "", run: write::run, manual: || write::GRAMMAR.manual() },
    Applet { name: "awrite-lock", word: "lock", run: lock::run, manual: || lock::GRAMMAR.manual() },
    Applet { name: "awrite-housekeep", word: "housekeep", run: housekeep::run, manual: || housekeep::GRAMMAR.manual() },
];

/// Another name of the write applet. It needs no rule, since every unknown name chooses that applet.
pub(super) const SECOND_NAME: &str = "atomic-write";

/// The applet for a file name and a first argument, and whether the argument has chosen it.
pub(super) fn choose(name: &[u8], first: Option<&OsStr>) -> (&'static Applet, bool) {
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
pub(super) fn base_name(name: &OsStr) -> &[u8] {
    let name = Path::new(name).file_name().unwrap_or_default().as_encoded_bytes();
    name.strip_prefix(b"-").unwrap_or(name)
}

/// The text of `--list`.
pub(super) fn list() -> String {
    APPLETS.iter().map(|applet| format!("{}\n", applet.name)).collect()
}

/// The names that `--install` makes.
pub(super) fn link_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = APPLETS.iter().map(|applet| applet.name).collect();
    names.insert(1, SECOND_NAME);
    names
}

/// Checks what holds for any command line of any applet.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_words(words: &[OsString]) {
    fn ask<S: Default>(grammar: &'static flags::Grammar<S>, words: &[OsString]) {
        match grammar.parse(words.to_vec(), &mut S::default()) {
            Ok(parsed) => {
                assert!(parsed.operand.is_none_or(|operand| !operand.is_empty()));
                let command = parsed.command.map(|line| [vec![line.program], line.args].concat());
                assert!(words.ends_with(&command.unwrap_or_default()), "COMMAND is what stands at the end");
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
    use proptest::prelude::*;

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

    /// An option in one of the ways to write it.
    fn spelled(manual: &Manual, index: usize, value: &str, way: usize) -> Vec<OsString> {
        let spec = manual.specs[index];
        let longs: Vec<&str> = spec.long().collect();
        let name = longs[way % longs.len()];
        // The shortest beginning that is no other's.
        let is_own = |length: &usize| manual.find_long(&name[..*length]).is_ok_and(|found| found == index);
        let short = (1..=name.len()).find(is_own).unwrap();
        let words = match (spec.value, spec.short().next(), way % 5) {
            (None, Some(letter), 0 | 1) => vec![format!("-{letter}")],
            (None, _, 2) => vec![format!("--{}", &name[..short])],
            (None, ..) => vec![format!("--{name}")],
            (Some(_), Some(letter), 0) => vec![format!("-{letter}"), value.to_owned()],
            // An equals sign is taken for the one that may stand there.
            (Some(_), Some(letter), 1) => vec![format!("-{letter}={value}")],
            (Some(_), _, 2) => vec![format!("--{}={value}", &name[..short])],
            (Some(_), _, 3) => vec![format!("--{name}"), value.to_owned()],
            (Some(_), ..) => vec![format!("--{name}={value}")],
        };
        words.into_iter().map(OsString::from).collect()
    }

    proptest! {
        /// Whatever is meant can be written, in every way, and means that.
        #[test]
        fn what_is_written_is_what_is_read(
            applet in 0..3_usize,
            options in prop::collection::vec((any::<prop::sample::Index>(), "[^\0]{0,6}", any::<usize>()), 0..6),
            operand in "-{0,2}[^\0]{1,6}".prop_filter("what stands before COMMAND", |operand| operand != "--"),
            place: prop::sample::Index,
            command in prop::collection::vec("[^\0]{0,6}", 0..4),
        ) {
            let manual = &(APPLETS[applet].manual)();
            let mut meant = Vec::new();
            let mut words = Vec::new();
            for (option, value, way) in &options {
                let index = option.index(manual.specs.len());
                let value = if manual.specs[index].value.is_some() { value.as_str() } else { "" };
                meant.push((index, OsString::from(value)));
                words.push(spelled(manual, index, value, *way));
            }
            if operand.starts_with('-') && operand != "-" {
                words.push(vec!["--".into(), operand.clone().into()]);
            } else {
                words.insert(place.index(words.len() + 1), vec![operand.clone().into()]);
            }
            let command: Vec<OsString> = command.into_iter().map(OsString::from).collect();
            let command = Some(command).filter(|command| manual.page.takes_command && !command.is_empty());
            if let Some(command) = &command {
                words.push(vec!["--".into()]);
                words.push(command.clone());
            }
            let mut read = Vec::new();
            let parsed = manual.parse(words.concat(), &mut |index, value| {
                read.push((index, value));
                Ok(())
            });
            let mut command = command.unwrap_or_default().into_iter();
            let command = command.next().map(|program| flags::CommandLine { program, args: command.collect() });
            prop_assert_eq!(parsed.unwrap(), flags::Parsed { operand: Some(operand.into()), more: vec![], command });
            prop_assert_eq!(read, meant);
        }

        #[test]
        fn all_words(words in prop::collection::vec("-{0,2}[a-z]{0,4}=?.{0,3}|-{0,2}\\PC{0,5}", 0..6)) {
            any_words(&words.into_iter().map(OsString::from).collect::<Vec<_>>());
        }
    }
}
