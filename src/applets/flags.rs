//! The form of the tables of options. Each applet has one table. The parser, `--help` and the completions all read it,
//! so an undocumented option cannot exist.
//!
//! An option only checks its value and stores it in the applet's settings. The work begins when everything was checked.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use awrite::{Error, shown};
use lexopt::{Arg, Parser};

use super::values::{Shell, quoted};

/// The value of an option, or the operand: its name in texts, and what shells complete it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// It is not completed.
    Text(&'static str),
    File(&'static str),
    Dir(&'static str),
    Command(&'static str),
    OneOf(&'static [&'static str]),
}

impl Value {
    pub(crate) fn name(self) -> String {
        match self {
            Value::Text(name) | Value::File(name) | Value::Dir(name) | Value::Command(name) => name.to_owned(),
            Value::OneOf(words) => words.join("|"),
        }
    }
}

/// An option: its names and its description.
pub(crate) struct Spec {
    /// Its heading in `--help`.
    pub(crate) group: &'static str,
    /// All its names as they are typed, short ones first: `-w`, `-t`, `--timeout`. At least one is long.
    pub(crate) names: &'static [&'static str],
    /// Its value, if it takes one.
    pub(crate) value: Option<Value>,
    /// What it does: a phrase without a full stop.
    pub(crate) help: &'static str,
}

impl Spec {
    /// The name in messages, whichever was typed: the first long one, which is the clearest.
    pub(crate) fn name(&self) -> &'static str {
        self.names.iter().copied().find(|name| name.starts_with("--")).unwrap_or_default()
    }

    /// The letters of the short names.
    pub(crate) fn short(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().filter_map(|name| name.strip_prefix('-').filter(|letter| !letter.starts_with('-')))
    }

    /// The long names without their dashes.
    pub(crate) fn long(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().filter_map(|name| name.strip_prefix("--"))
    }
}

/// An option of an applet whose settings are `S`.
pub(crate) struct Flag<S> {
    pub(crate) spec: Spec,
    apply: Apply<S>,
}

/// How an option changes the settings.
enum Apply<S> {
    Set(fn(&mut S)),
    /// May refuse the value, which is empty if the option takes none.
    Check(fn(&mut S, OsString) -> Result<(), Stop>),
}

impl<S> Flag<S> {
    /// An option without a value.
    pub(crate) const fn set(
        group: &'static str,
        names: &'static [&'static str],
        help: &'static str,
        set: fn(&mut S),
    ) -> Flag<S> {
        Flag { spec: Spec { group, names, value: None, help }, apply: Apply::Set(set) }
    }

    /// An option without a value that may stop the parsing.
    pub(crate) const fn check(
        group: &'static str,
        names: &'static [&'static str],
        help: &'static str,
        check: fn(&mut S, OsString) -> Result<(), Stop>,
    ) -> Flag<S> {
        Flag { spec: Spec { group, names, value: None, help }, apply: Apply::Check(check) }
    }

    /// An option with a value.
    pub(crate) const fn value(
        group: &'static str,
        names: &'static [&'static str],
        value: Value,
        help: &'static str,
        check: fn(&mut S, OsString) -> Result<(), Stop>,
    ) -> Flag<S> {
        let mut flag = Flag::check(group, names, help, check);
        flag.spec.value = Some(value);
        flag
    }
}

/// Stores the value of an option, or refuses it.
pub(crate) fn put<T, P: From<T>>(place: &mut P, value: Result<T, String>) -> Result<(), Stop> {
    *place = value?.into();
    Ok(())
}

/// Why an applet did not do its work.
#[derive(Debug)]
pub(crate) enum Stop {
    /// What is wrong with the command line. An option's check leaves out the option's name; the parser adds it.
    Usage(String),
    /// The work failed.
    Failed(Error),
    // Something else was asked for. The caller of the applet does it, because it needs the table of all applets.
    Help,
    /// The short page.
    Brief,
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

/// An applet's command line. The options are in the order of `--help`.
pub(crate) struct Grammar<S: 'static> {
    pub(crate) page: Page,
    pub(crate) flags: &'static [Flag<S>],
}

/// The description of an applet, without its options.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    /// The lines of the synopsis, without the applet's name.
    pub(crate) synopsis: &'static [&'static str],
    /// One or two sentences.
    pub(crate) about: &'static str,
    pub(crate) operand: Value,
    /// Whether there may be more operands of this kind.
    pub(crate) several: bool,
    /// Whether `-- COMMAND [ARG...]` may follow the operand.
    pub(crate) takes_command: bool,
    /// The text after the options.
    pub(crate) epilogue: &'static str,
    pub(crate) brief: Brief,
}

/// The page of `-h`: what most people need.
pub(crate) struct Brief {
    /// What the applet does, in one line.
    pub(crate) about: &'static str,
    /// The first long names of options without their dashes, and what they do, in one line each.
    pub(crate) options: &'static [(&'static str, &'static str)],
    /// The exit codes, in one line.
    pub(crate) codes: &'static str,
}

/// What was on a command line besides options.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) operand: Option<OsString>,
    /// The operands behind the first one.
    pub(crate) more: Vec<OsString>,
    pub(crate) command: Option<CommandLine>,
}

/// COMMAND and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
}

impl CommandLine {
    pub(crate) fn to_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }
}

/// A grammar without the type of its settings. Texts are made from it. The parser works on it too, so that it is
/// compiled only once and not for every applet.
pub(crate) struct Manual {
    pub(crate) page: &'static Page,
    pub(super) specs: Vec<&'static Spec>,
}

impl<S> Grammar<S> {
    pub(crate) fn manual(&'static self) -> Manual {
        Manual { page: &self.page, specs: self.flags.iter().map(|flag| &flag.spec).collect() }
    }

    /// Parses `args` (without the program's name) into `settings`. If an option is given twice, the last one wins.
    pub(crate) fn parse(&'static self, args: Vec<OsString>, settings: &mut S) -> Result<Parsed, Stop> {
        self.manual().parse(args, &mut |index, value| match self.flags[index].apply {
            Apply::Set(set) => {
                set(settings);
                Ok(())
            }
            Apply::Check(check) => check(settings, value),
        })
    }
}

impl Manual {
    /// Parses `args`, and calls `apply` with each option's index in the table and its value.
    pub(super) fn parse(
        &self,
        args: Vec<OsString>,
        apply: &mut dyn FnMut(usize, OsString) -> Result<(), Stop>,
    ) -> Result<Parsed, Stop> {
        let mut parser = Parser::from_args(args);
        let mut parsed = Parsed::default();
        loop {
            // lexopt skips `--` without a word, but COMMAND begins there. Raw arguments are only available between
            // options, so a `--` that is an option's value is never taken for this one.
            if let Some(rest) = parser.try_raw_args() {
                if rest.peek() == Some(OsStr::new("--")) {
                    return self.parse_after_dashes(parsed, rest.skip(1));
                }
            }
            // An option that is unknown behind a second operand is one of a COMMAND without -- before it.
            let or_commands = |stop| parsed.more.first().map_or(stop, |word| self.unexpected(word));
            let (index, given) = match parser.next() {
                Ok(Some(Arg::Value(word))) => {
                    self.take_operand(&mut parsed, word)?;
                    continue;
                }
                Ok(Some(Arg::Short(letter))) => (self.find_short(letter).map_err(or_commands)?, format!("-{letter}")),
                Ok(Some(Arg::Long(name))) => {
                    let index = self.find_long(name).map_err(or_commands)?;
                    (index, self.specs[index].name().to_owned())
                }
                Ok(None) => return Ok(parsed),
                Err(error) => return Err(Stop::Usage(reason_of(&error))),
            };
            let spec = self.specs[index];
            let value = match spec.value {
                Some(value) => {
                    parser.value().map_err(|_| Stop::Usage(format!("{given}: {} is missing", value.name())))?
                }
                None => OsString::new(),
            };
            apply(index, value).map_err(|stop| match stop {
                Stop::Usage(reason) => Stop::Usage(format!("{}: {reason}", spec.name())),
                Stop::Help if !given.starts_with("--") => Stop::Brief,
                other => other,
            })?;
        }
    }

    /// Parses the words after the first `--`: the operand, if it has not come yet, and COMMAND after another `--`.
    fn parse_after_dashes(
        &self,
        mut parsed: Parsed,
        mut words: impl Iterator<Item = OsString>,
    ) -> Result<Parsed, Stop> {
        let mut at_command = self.page.takes_command && parsed.operand.is_some();
        while !at_command {
            match words.next() {
                None => return Ok(parsed),
                // `-- --`: a script whose variable for the operand is empty, more likely than a file of that name.
                Some(word) if word == "--" && parsed.operand.is_none() => return Err(self.missing_operand()),
                Some(word) if word == "--" && self.page.takes_command => at_command = true,
                Some(word) => match &parsed.operand {
                    // More likely COMMAND, as in `sed -i`, than the operand and something else.
                    Some(program) if self.page.takes_command => return Err(self.operand_behind_dashes(program, &word)),
                    _ => self.take_operand(&mut parsed, word)?,
                },
            }
        }
        let program = words.next().ok_or_else(|| Stop::Usage("no COMMAND after --".to_owned()))?;
        parsed.command = Some(CommandLine { program, args: words.collect() });
        Ok(parsed)
    }

    /// The error that a required operand is missing.
    pub(crate) fn missing_operand(&self) -> Stop {
        Stop::Usage(format!("{} is missing", self.page.operand.name()))
    }

    fn operand_behind_dashes(&self, program: &OsStr, word: &OsStr) -> Stop {
        let (name, operand) = (self.page.name, self.page.operand.name());
        let meant = format!("{name} {operand} -- {} {}", shown(program.as_ref()), shown(word.as_ref()));
        Stop::Usage(format!("{operand} is missing before --: {meant}"))
    }

    fn take_operand(&self, parsed: &mut Parsed, word: OsString) -> Result<(), Stop> {
        if parsed.operand.is_some() && !self.page.several {
            return Err(self.unexpected(&word));
        }
        if word.is_empty() {
            return Err(Stop::Usage(format!("{} is empty", self.page.operand.name())));
        }
        match parsed.operand {
            Some(_) => parsed.more.push(word),
            None => parsed.operand = Some(word),
        }
        Ok(())
    }

    /// The error for an operand too many.
    pub(crate) fn unexpected(&self, word: &OsStr) -> Stop {
        let remedy = match (self.page.takes_command, self.find_long("input").is_ok()) {
            (true, true) => "; put -- before COMMAND, or -i before a file to read",
            (true, false) => "; put -- before COMMAND",
            (false, _) => "",
        };
        Stop::Usage(format!("{}: unexpected argument{remedy}", quoted(word)))
    }

    fn find_short(&self, letter: char) -> Result<usize, Stop> {
        let known = self.specs.iter().position(|spec| spec.short().any(|known| known.chars().eq([letter])));
        known.ok_or_else(|| Stop::Usage(format!("-{}: unknown option", letter.escape_default())))
    }

    /// Finds an option by its whole name or, as getopt_long(3) does, by a prefix that no other option's name has.
    pub(super) fn find_long(&self, arg: &str) -> Result<usize, Stop> {
        let name = arg.strip_prefix("--").unwrap_or(arg);
        if let Some(index) = self.specs.iter().position(|spec| spec.long().any(|long| long == name)) {
            return Ok(index);
        }
        let begins = |spec: &Spec| spec.long().any(|long| long.starts_with(name));
        let found: Vec<usize> = (0..self.specs.len()).filter(|index| begins(self.specs[*index])).collect();
        match found.as_slice() {
            [index] if !name.is_empty() => Ok(*index),
            [_, _, ..] if !name.is_empty() => {
                let names: Vec<&str> = found.iter().map(|index| self.specs[*index].name()).collect();
                Err(Stop::Usage(format!("--{name}: ambiguous: {}", names.join(", "))))
            }
            _ => Err(Stop::Usage(format!("--{}: unknown option", awrite::shown(name.as_ref())))),
        }
    }
}

fn reason_of(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => format!("{option}: takes no value, got {}", quoted(value)),
        lexopt::Error::MissingValue { option: Some(option) } => format!("{option}: a value is missing"),
        other => awrite::shown(other.to_string().as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Settings {
        seen: Vec<String>,
    }

    const GROUP: &str = "Options";

    const FLAGS: &[Flag<Settings>] = &[
        Flag::value(GROUP, &["-w", "-t", "--timeout", "--limit"], Value::Text("TIME"), "does it", |s, v| {
            if v == "bad" {
                return Err(Stop::Usage("that is bad".to_owned()));
            }
            s.seen.push(format!("timeout={}", v.to_string_lossy()));
            Ok(())
        }),
        Flag::set(GROUP, &["-b", "--backup"], "does it", |s| s.seen.push("backup".to_owned())),
        Flag::value(GROUP, &["--backup-dir"], Value::Dir("DIR"), "does it", |s, v| {
            s.seen.push(format!("backup-dir={}", v.to_string_lossy()));
            Ok(())
        }),
        Flag::value(GROUP, &["--token"], Value::Text("N"), "does it", |s, _| {
            s.seen.push("token".to_owned());
            Ok(())
        }),
        Flag::check(GROUP, &["-h", "--help"], "does it", |_, _| Err(Stop::Help)),
        Flag::check(GROUP, &["-V", "--version"], "does it", |_, _| Err(Stop::Version)),
    ];

    static GRAMMAR: Grammar<Settings> = Grammar {
        page: Page {
            name: "prog",
            synopsis: &["[OPTIONS] OUTPUT"],
            about: "Does a thing.",
            operand: Value::File("OUTPUT"),
            several: false,
            takes_command: true,
            epilogue: "The end.\n",
            brief: Brief { about: "Does a thing.", options: &[("timeout", "does it")], codes: "Exit codes: 0" },
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
                parsed.command.map(|line| std::iter::once(line.program).chain(line.args).map(text).collect()),
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
        super::super::help::check_table(&GRAMMAR.manual());
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
            (&["--", "f", "g"], "OUTPUT is missing before --: prog OUTPUT -- f g"),
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
