//! One table of options an applet: the parser, `--help` and the completions all read it, so an option that is not
//! documented cannot exist.
//!
//! An applet states its [`Grammar`]; an option's `apply` only checks its value and notes it in the applet's settings.
//! Work comes later, when everything has been checked.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use awrite::Error;
use lexopt::{Arg, Parser};

use super::values::{Shell, quoted};

/// What completes an option's value, or the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complete {
    Nothing,
    File,
    Dir,
    Command,
    Words(&'static [&'static str]),
}

/// An option: what it is called and what is said of it.
pub(crate) struct Spec {
    /// The heading of `--help` under which it stands.
    pub(crate) group: &'static str,
    /// Long names without the dashes; the first is the canonical one. At least one.
    pub(crate) long: &'static [&'static str],
    pub(crate) short: &'static [char],
    /// What its value is called, if it takes one.
    pub(crate) value: Option<&'static str>,
    /// What it does: a phrase without a final stop.
    pub(crate) help: &'static str,
    pub(crate) complete: Complete,
}

impl Spec {
    /// Every way to write it: `-w`, `-t`, `--timeout`.
    pub(crate) fn spellings(&self) -> Vec<String> {
        let short = self.short.iter().map(|letter| format!("-{letter}"));
        short.chain(self.long.iter().map(|long| format!("--{long}"))).collect()
    }
}

/// An option of an applet whose settings are `S`.
pub(crate) struct Flag<S> {
    pub(crate) spec: Spec,
    /// Notes the option in the settings. The value is empty where the option takes none.
    pub(crate) apply: fn(&mut S, OsString) -> Result<(), Stop>,
}

impl<S> Flag<S> {
    /// An option without a value.
    pub(crate) const fn switch(
        group: &'static str,
        long: &'static [&'static str],
        short: &'static [char],
        help: &'static str,
        apply: fn(&mut S, OsString) -> Result<(), Stop>,
    ) -> Flag<S> {
        Flag { spec: Spec { group, long, short, value: None, help, complete: Complete::Nothing }, apply }
    }
}

/// Why an applet does not do its work.
#[derive(Debug)]
pub(crate) enum Stop {
    /// What is wrong with the command line; from an `apply`, without the option's name.
    Usage(String),
    /// It could not be done.
    Failed(Error),
    // The rest is what is asked for instead. Who calls the applet does it, since it takes what all of them are.
    Help,
    Version,
    List,
    Completions(Shell),
    Install {
        dir: PathBuf,
        force: bool,
    },
}

impl From<String> for Stop {
    fn from(reason: String) -> Stop {
        Stop::Usage(reason)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// An applet's command line. Options come in the order of `--help`.
pub(crate) struct Grammar<S: 'static> {
    pub(crate) page: Page,
    pub(crate) flags: &'static [Flag<S>],
}

/// What is said of an applet besides its options.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    /// The lines of the synopsis, without the name.
    pub(crate) synopsis: &'static [&'static str],
    /// One or two sentences.
    pub(crate) about: &'static str,
    pub(crate) operand: &'static str,
    pub(crate) complete_operand: Complete,
    /// Whether `-- COMMAND [ARG...]` may follow the operand.
    pub(crate) takes_command: bool,
    /// Ready-made text behind the options.
    pub(crate) epilogue: &'static str,
}

/// What is on a command line besides options.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) operand: Option<OsString>,
    /// Program and arguments; never empty.
    pub(crate) command: Option<Vec<OsString>>,
}

/// A grammar without its settings: what all texts are made from. Parsing goes through it too, so that the parser is
/// compiled once and not for every applet.
pub(crate) struct Manual {
    pub(crate) page: &'static Page,
    pub(super) specs: Vec<&'static Spec>,
}

impl<S> Grammar<S> {
    pub(crate) fn manual(&'static self) -> Manual {
        Manual { page: &self.page, specs: self.flags.iter().map(|flag| &flag.spec).collect() }
    }

    /// Reads `args` (without the program's name) into `settings`. An option given twice: the last one wins.
    pub(crate) fn parse(&'static self, args: Vec<OsString>, settings: &mut S) -> Result<Parsed, Stop> {
        self.manual().parse(args, &mut |index, value| (self.flags[index].apply)(settings, value))
    }
}

impl Manual {
    /// Reads `args`, and has every option noted by `apply`, which gets its place in the table.
    pub(super) fn parse(
        &self,
        args: Vec<OsString>,
        apply: &mut dyn FnMut(usize, OsString) -> Result<(), Stop>,
    ) -> Result<Parsed, Stop> {
        let mut parser = Parser::from_args(args);
        let mut parsed = Parsed::default();
        let mut options_ended = false;
        loop {
            // lexopt swallows `--` and does not say so; it must be seen to know what follows it. Only asked for when
            // no option is half read, so a `--` that is an option's value is never mistaken for it.
            if let Some(mut rest) = parser.try_raw_args() {
                let at_dashes = rest.peek() == Some(OsStr::new("--"));
                if at_dashes && self.page.takes_command && parsed.operand.is_some() {
                    rest.next();
                    let command: Vec<OsString> = rest.collect();
                    if command.is_empty() {
                        return Err(Stop::Usage("no COMMAND after --".to_owned()));
                    }
                    parsed.command = Some(command);
                    return Ok(parsed);
                }
                if at_dashes && !options_ended {
                    rest.next();
                    options_ended = true;
                    continue;
                }
                if at_dashes && parsed.operand.is_none() {
                    // `-- --`: more likely an operand that came out empty than a file of that name.
                    return Err(self.missing_operand());
                }
                if options_ended {
                    match rest.next() {
                        Some(word) => self.take_operand(&mut parsed, word)?,
                        None => return Ok(parsed),
                    }
                    continue;
                }
            }
            let (index, given) = match parser.next() {
                Ok(Some(Arg::Value(word))) => {
                    self.take_operand(&mut parsed, word)?;
                    continue;
                }
                Ok(Some(Arg::Short(letter))) => (self.find_short(letter)?, format!("-{letter}")),
                Ok(Some(Arg::Long(name))) => {
                    let index = self.find_long(name)?;
                    (index, format!("--{}", self.specs[index].long[0]))
                }
                Ok(None) => return Ok(parsed),
                Err(error) => return Err(Stop::Usage(words_of(&error))),
            };
            let spec = self.specs[index];
            let value = match spec.value {
                Some(placeholder) => {
                    parser.value().map_err(|_| Stop::Usage(format!("{given}: {placeholder} is missing")))?
                }
                None => OsString::new(),
            };
            // The name that says most, whichever was typed: `-t` and `-w` are both `--timeout`.
            apply(index, value).map_err(|stop| match stop {
                Stop::Usage(reason) => Stop::Usage(format!("--{}: {reason}", spec.long[0])),
                other => other,
            })?;
        }
    }

    /// What to say where the operand is not there and has to be.
    pub(crate) fn missing_operand(&self) -> Stop {
        Stop::Usage(format!("{} is missing", self.page.operand))
    }

    fn take_operand(&self, parsed: &mut Parsed, word: OsString) -> Result<(), Stop> {
        if parsed.operand.is_some() {
            let remedy = if self.page.takes_command { "; put -- before COMMAND" } else { "" };
            return Err(Stop::Usage(format!("{}: unexpected argument{remedy}", quoted(&word))));
        }
        if word.is_empty() {
            return Err(Stop::Usage(format!("{} is empty", self.page.operand)));
        }
        parsed.operand = Some(word);
        Ok(())
    }

    fn find_short(&self, letter: char) -> Result<usize, Stop> {
        let known = self.specs.iter().position(|spec| spec.short.contains(&letter));
        known.ok_or_else(|| Stop::Usage(format!("-{}: unknown option", letter.escape_default())))
    }

    /// By its whole name, or as getopt_long(3) has it by the beginning of only one option's name.
    pub(super) fn find_long(&self, arg: &str) -> Result<usize, Stop> {
        let name = arg.strip_prefix("--").unwrap_or(arg);
        if let Some(index) = self.specs.iter().position(|spec| spec.long.contains(&name)) {
            return Ok(index);
        }
        let begins = |spec: &Spec| spec.long.iter().any(|long| long.starts_with(name));
        let found: Vec<usize> = (0..self.specs.len()).filter(|index| begins(self.specs[*index])).collect();
        match found.as_slice() {
            [index] if !name.is_empty() => Ok(*index),
            [_, _, ..] if !name.is_empty() => {
                let names: Vec<String> =
                    found.iter().map(|index| format!("--{}", self.specs[*index].long[0])).collect();
                Err(Stop::Usage(format!("--{name}: ambiguous: {}", names.join(", "))))
            }
            _ => Err(Stop::Usage(format!("--{}: unknown option", awrite::shown(name.as_ref())))),
        }
    }

    /// The text of `--help`, at most 80 columns wide.
    pub(crate) fn help(&self) -> String {
        let mut text = String::new();
        for (index, line) in self.page.synopsis.iter().enumerate() {
            let lead = if index == 0 { "Usage:" } else { "      " };
            text.push_str(&format!("{lead} {} {line}\n", self.page.name));
        }
        text.push('\n');
        wrap(&mut text, self.page.about, 0, 0);
        let mut groups: Vec<&str> = Vec::new();
        for spec in self.specs.iter().copied() {
            if !groups.contains(&spec.group) {
                groups.push(spec.group);
            }
        }
        for group in groups {
            text.push_str(&format!("\n{group}:\n"));
            for spec in self.specs.iter().copied().filter(|spec| spec.group == group) {
                describe(&mut text, spec);
            }
        }
        text.push('\n');
        text.push_str(self.page.epilogue);
        text
    }
}

fn words_of(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => format!("{option}: takes no value, got {}", quoted(value)),
        lexopt::Error::MissingValue { option: Some(option) } => format!("{option}: a value is missing"),
        other => awrite::shown(other.to_string().as_ref()),
    }
}

const WIDTH: usize = 80;
/// Where the explanations of `--help` begin.
const COLUMN: usize = 28;

fn describe(text: &mut String, flag: &Spec) {
    // Long names line up, whether there is a short one or not.
    let indent = if flag.short.is_empty() { "      " } else { "  " };
    let mut head = format!("{indent}{}", flag.spellings().join(", "));
    if let Some(value) = flag.value {
        head.push_str(&format!(" {value}"));
    }
    text.push_str(&head);
    let used = head.chars().count();
    if used + 2 > COLUMN {
        text.push('\n');
        wrap(text, flag.help, COLUMN, COLUMN);
    } else {
        wrap(text, flag.help, COLUMN - used, COLUMN);
    }
}

/// Appends `words`, `first` blanks before the first line and `indent` before the others, and ends the line. The text so
/// far ends `indent - first` columns into its line.
fn wrap(text: &mut String, words: &str, first: usize, indent: usize) {
    text.push_str(&" ".repeat(first));
    let mut column = indent;
    for (index, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

/// What every table must keep to; each applet's tests call it.
#[cfg(test)]
pub(crate) fn check_table(manual: &Manual) {
    let kebab = |name: &str| {
        !name.is_empty()
            && !name.starts_with('-')
            && !name.ends_with('-')
            && !name.contains("--")
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let mut longs: Vec<&str> = Vec::new();
    let mut shorts: Vec<char> = Vec::new();
    let help = manual.help();
    for flag in &manual.specs {
        assert!(!flag.long.is_empty(), "an option without a long name");
        for long in flag.long {
            assert!(kebab(long), "{long}");
            assert!(!longs.contains(long), "--{long} twice");
            longs.push(long);
            let listed = help.contains(&format!("--{long}\n"))
                || help.contains(&format!("--{long} "))
                || help.contains(&format!("--{long}, "));
            assert!(listed, "--{long} in --help");
        }
        for letter in flag.short {
            assert!(letter.is_ascii_alphanumeric(), "-{letter}");
            assert!(!shorts.contains(letter), "-{letter} twice");
            shorts.push(*letter);
        }
        let name = flag.long[0];
        assert!(!flag.group.is_empty() && !flag.group.ends_with(':'), "--{name}");
        assert!(!flag.help.is_empty() && flag.help.trim() == flag.help, "--{name}");
        assert!(!flag.help.ends_with('.') && !flag.help.contains("  "), "--{name}");
        assert!(flag.help.starts_with(|c: char| !c.is_uppercase()), "--{name}: help begins small");
        match flag.value {
            Some(value) => {
                assert!(!value.is_empty() && !value.chars().any(|c| c.is_ascii_lowercase() && !value.contains('|')));
            }
            None => assert_eq!(flag.complete, Complete::Nothing, "--{name} takes no value to complete"),
        }
    }
    assert!(longs.contains(&"help") && longs.contains(&"version"));
    assert!(help.lines().all(|line| line.chars().count() <= WIDTH), "{help}");
    assert!(help.ends_with('\n') && !help.ends_with("\n\n") && !help.lines().any(|line| line.ends_with(' ')));
    assert!(help.starts_with(&format!("Usage: {} ", manual.page.name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Settings {
        seen: Vec<String>,
    }

    const fn flag(
        long: &'static [&'static str],
        short: &'static [char],
        value: Option<&'static str>,
        apply: fn(&mut Settings, OsString) -> Result<(), Stop>,
    ) -> Flag<Settings> {
        let complete = Complete::Nothing;
        Flag { spec: Spec { group: "Options", long, short, value, help: "does it", complete }, apply }
    }

    const FLAGS: &[Flag<Settings>] = &[
        flag(&["timeout", "limit"], &['w', 't'], Some("TIME"), |s, v| {
            if v == "bad" {
                return Err(Stop::Usage("that is bad".to_owned()));
            }
            s.seen.push(format!("timeout={}", v.to_string_lossy()));
            Ok(())
        }),
        flag(&["backup"], &['b'], None, |s, _| {
            s.seen.push("backup".to_owned());
            Ok(())
        }),
        flag(&["backup-dir"], &[], Some("DIR"), |s, v| {
            s.seen.push(format!("backup-dir={}", v.to_string_lossy()));
            Ok(())
        }),
        flag(&["token"], &[], Some("N"), |s, _| {
            s.seen.push("token".to_owned());
            Ok(())
        }),
        flag(&["help"], &['h'], None, |_, _| Err(Stop::Help)),
        flag(&["version"], &['V'], None, |_, _| Err(Stop::Version)),
    ];

    static GRAMMAR: Grammar<Settings> = Grammar {
        page: Page {
            name: "prog",
            synopsis: &["[OPTIONS] OUTPUT"],
            about: "Does a thing.",
            operand: "OUTPUT",
            complete_operand: Complete::File,
            takes_command: true,
            epilogue: "The end.\n",
        },
        flags: FLAGS,
    };

    /// Options seen, operand, COMMAND.
    type Words = (Vec<String>, Option<String>, Option<Vec<String>>);

    fn parse(args: &[&str]) -> Result<Words, String> {
        let mut settings = Settings::default();
        let text = |word: OsString| word.to_string_lossy().into_owned();
        match GRAMMAR.parse(args.iter().map(Into::into).collect(), &mut settings) {
            Ok(parsed) => Ok((
                settings.seen,
                parsed.operand.map(text),
                parsed.command.map(|words| words.into_iter().map(text).collect()),
            )),
            Err(Stop::Usage(reason)) => Err(reason),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    fn parsed(args: &[&str]) -> Words {
        parse(args).unwrap_or_else(|reason| panic!("{args:?}: {reason}"))
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_table_is_sound() {
        check_table(&GRAMMAR.manual());
    }

    #[test]
    fn options_stand_before_and_behind_the_operand() {
        let (seen, operand, command) = parsed(&["-b", "f", "--timeout", "5"]);
        assert_eq!(seen, ["backup", "timeout=5"]);
        assert_eq!(operand.as_deref(), Some("f"));
        assert_eq!(command, None);
    }

    #[test]
    fn every_spelling_of_a_value() {
        for args in [
            &["-w", "5"][..],
            &["-w5"],
            &["-w=5"],
            &["-t5"],
            &["-bw5"],
            &["--timeout=5"],
            &["--timeout", "5"],
            &["--limit=5"],
            &["--time=5"],
        ] {
            let (seen, ..) = parsed(args);
            assert_eq!(seen.last().map(String::as_str), Some("timeout=5"), "{args:?}");
        }
    }

    #[test]
    fn a_value_may_look_like_an_option() {
        assert_eq!(parsed(&["-w", "-b"]).0, ["timeout=-b"]);
        assert_eq!(parsed(&["f", "-w", "--", "-b"]), (strings(&["timeout=--", "backup"]), Some("f".into()), None));
        assert_eq!(parsed(&["f", "-w--", "--", "x"]).2, Some(strings(&["x"])));
    }

    #[test]
    fn beginnings_of_names() {
        assert_eq!(parsed(&["--backup-d", "x"]).0, ["backup-dir=x"]);
        // A whole name is never ambiguous.
        assert_eq!(parsed(&["--backup"]).0, ["backup"]);
        let reason = parse(&["--back"]).unwrap_err();
        assert!(reason.contains("--back: ambiguous") && reason.contains("--backup, --backup-dir"), "{reason}");
        // Two names of one option are no ambiguity.
        assert_eq!(parsed(&["--to", "1"]).0, ["token"]);
    }

    #[test]
    fn wrong_options() {
        for (args, reason) in [
            (&["--nope"][..], "--nope: unknown option"),
            (&["--nope=1"], "--nope: unknown option"),
            (&["-x"], "-x: unknown option"),
            (&["-bx"], "-x: unknown option"),
            (&["-="], "-=: unknown option"),
            (&["--=5"], "--: unknown option"),
            (&["--timeout"], "--timeout: TIME is missing"),
            (&["-w"], "-w: TIME is missing"),
            (&["-t", "bad"], "--timeout: that is bad"),
            (&["--backup=1"], "--backup: takes no value, got '1'"),
            (&["--backup="], "--backup: takes no value, got ''"),
            (&["-b=1"], "-b: takes no value, got '1'"),
            (&["f", "g"], "'g': unexpected argument; put -- before COMMAND"),
            (&[""], "OUTPUT is empty"),
            (&["f", "--"], "no COMMAND after --"),
            (&["--", "f", "--"], "no COMMAND after --"),
            (&["--", "f", "g"], "'g': unexpected argument; put -- before COMMAND"),
            (&["--", "--", "x"], "OUTPUT is missing"),
        ] {
            assert_eq!(parse(args).unwrap_err(), reason, "{args:?}");
        }
    }

    #[test]
    fn a_command_is_taken_verbatim() {
        let (seen, operand, command) = parsed(&["f", "-b", "--", "sh", "-b", "--", "--timeout"]);
        assert_eq!(seen, ["backup"]);
        assert_eq!(operand.as_deref(), Some("f"));
        assert_eq!(command, Some(strings(&["sh", "-b", "--", "--timeout"])));
    }

    #[test]
    fn a_strange_name_stands_behind_dashes() {
        assert_eq!(parsed(&["-b", "--", "-weird"]), (strings(&["backup"]), Some("-weird".into()), None));
        assert_eq!(
            parsed(&["--", "-weird", "--", "cat", "-b"]),
            (vec![], Some("-weird".into()), Some(strings(&["cat", "-b"])))
        );
        assert_eq!(parsed(&["--"]), (vec![], None, None));
        assert_eq!(parsed(&["-"]).1.as_deref(), Some("-"));
    }

    #[test]
    fn bytes_that_are_not_utf_8() {
        use std::os::unix::ffi::OsStringExt;
        let mut settings = Settings::default();
        let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let parsed = GRAMMAR.parse(vec![word(b"--"), word(b"\xff")], &mut settings);
        assert_eq!(parsed.ok().and_then(|p| p.operand), Some(word(b"\xff")));
        for bad in [&b"-\xff"[..], b"--\xff", b"--\xff=1", b"-b\xff\xff", b"--timeou\xff=1"] {
            assert!(GRAMMAR.parse(vec![word(bad)], &mut settings).is_err(), "{bad:?}");
        }
    }

    /// Whatever is typed, the parser ends, and never panics.
    #[test]
    fn any_words_at_all() {
        let words =
            ["--", "-", "", "-b", "-w", "-w5", "--backup", "--timeout", "--backup=x", "f", "-bw", "-=", "--=", "-wb="];
        let count = words.len();
        for number in 0..count.pow(4) {
            let args: Vec<OsString> = (0..4).map(|place| words[number / count.pow(place) % count].into()).collect();
            let _ = GRAMMAR.parse(args, &mut Settings::default());
        }
    }
}
