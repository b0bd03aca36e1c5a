//! The manual pages have every option, variable, event and function, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{TestDir, needs};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub(crate) fn page(name: &str) -> String {
    let path = Path::new(ROOT).join("pkg/man").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

const PAGES: [&str; 6] = ["awrite.1", "awrite-lock.1", "awrite-housekeep.1", "awrite.3", "awrite.7", "awrite-store.7"];

/// An option as help and page have it: its spellings and its value.
type Flag = (BTreeSet<String>, String);

/// The options of `--help`.
fn flags_of_help(applet: &str) -> BTreeSet<Flag> {
    let done = TestDir::new().awrite(["--help"]).arg0(applet).run();
    done.ok();
    let mut flags = BTreeSet::new();
    for line in done.stdout.lines() {
        let words = line.trim_start();
        if line.len() - words.len() > 6 || line == words || !words.starts_with('-') {
            continue;
        }
        let head = words.split("  ").next().unwrap();
        let (mut names, mut value) = (BTreeSet::new(), String::new());
        for word in head.split([' ', ',']).filter(|word| !word.is_empty()) {
            if word.starts_with('-') {
                names.insert(word.to_owned());
            } else {
                value = word.to_owned();
            }
        }
        flags.insert((names, value));
    }
    flags
}

/// The options that have a tag of their own in a page: `.It Fl w , t , Fl Fl timeout Ar DURATION`.
fn flags_of_page(name: &str) -> BTreeSet<Flag> {
    let page = page(name);
    let tags = page.lines().filter_map(|line| line.strip_prefix(".It "));
    tags.filter(|tag| tag.starts_with("Fl ")).map(flag_of_tag).collect()
}

fn flag_of_tag(tag: &str) -> Flag {
    let (mut names, mut value) = (BTreeSet::new(), String::new());
    let (mut dashes, mut before) = (0, "");
    for word in tag.split(' ') {
        match word {
            "Fl" => dashes = if before == "Fl" { 2 } else { 1 },
            "Ar" | "Cm" => dashes = 0,
            "," => {}
            _ if dashes > 0 => {
                names.insert(format!("{}{word}", "-".repeat(dashes)));
            }
            _ => value.push_str(word),
        }
        before = word;
    }
    (names, value)
}

#[test]
fn tags_are_read_as_they_are_printed() {
    let flag = |names: &[&str], value: &str| (names.iter().map(|&n| n.to_owned()).collect(), value.to_owned());
    let read = flag_of_tag("Fl w , t , Fl Fl timeout Ar DURATION");
    assert_eq!(read, flag(&["-w", "-t", "--timeout"], "DURATION"));
    assert_eq!(flag_of_tag("Fl Fl sync Cm full | data | none"), flag(&["--sync"], "full|data|none"));
    assert_eq!(flag_of_tag("Fl n , Fl Fl nb , Fl Fl no-wait"), flag(&["-n", "--nb", "--no-wait"], ""));
}

#[test]
fn pages_have_the_options_of_help_and_no_others() {
    for applet in ["awrite", "awrite-lock", "awrite-housekeep"] {
        let (help, mut page) = (flags_of_help(applet), flags_of_page(&format!("{applet}.1")));
        assert!(help.len() > 10, "{applet}: {help:?}");
        if applet == "awrite" {
            // For the parser its directory is an operand.
            let install: BTreeSet<String> = ["--install".to_owned()].into();
            assert!(page.remove(&(install.clone(), "DIR".to_owned())));
            page.insert((install, String::new()));
        }
        let (missing, extra): (Vec<_>, Vec<_>) = (help.difference(&page).collect(), page.difference(&help).collect());
        assert!(missing.is_empty() && extra.is_empty(), "{applet}.1: missing: {missing:?}, too many: {extra:?}");
    }
}

/// The names in `text` that begin with `start`.
fn names_in(text: &str, start: &str) -> BTreeSet<String> {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let found = text.match_indices(start).map(|(at, _)| {
        let end = text[at..].find(|c| !is_in_name(c)).map_or(text.len(), |length| at + length);
        text[at..end].to_owned()
    });
    found.collect()
}

/// The files below src.
pub(crate) fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![Path::new(ROOT).join("src")];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

/// The sources, without their tests and comments.
fn code() -> String {
    let mut code = String::new();
    for path in sources().iter().filter(|path| !path.ends_with("tests.rs") && !path.ends_with("model.rs")) {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

#[test]
fn pages_have_the_environment_and_no_other() {
    let code = code();
    let known: BTreeSet<String> =
        code.split('"').filter(|text| text.starts_with("AWRITE_")).flat_map(|text| names_in(text, "AWRITE_")).collect();
    assert!(known.len() > 5, "{known:?}");
    let mut documented = BTreeSet::new();
    for name in PAGES {
        let page = page(name);
        for variables in page.lines().filter_map(|line| line.split_once("Ev ").map(|(_, rest)| rest)) {
            documented.extend(names_in(variables, "AWRITE_"));
        }
        if let Some(section) = page.split(".Sh ENVIRONMENT\n").nth(1).filter(|_| name.ends_with(".1")) {
            let section = section.split(".Sh ").next().unwrap();
            for variable in section.lines().filter_map(|line| line.strip_prefix(".It Ev ")) {
                for variable in variable.split(" , ") {
                    assert!(
                        known.contains(variable)
                            || ["NO_COLOR", "SHELL", "TERM", "TMPDIR", "TZ", "TZDIR"].contains(&variable),
                        "{name}: {variable}"
                    );
                }
            }
        }
    }
    // Only for those who change the repository.
    documented.insert("AWRITE_BLESS".to_owned());
    let of_c = names_in(&fs::read_to_string(abi()).unwrap(), "AWRITE_");
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), Vec::<&String>::new(), "in no page");
    let extra: Vec<_> = documented.difference(&known).filter(|name| !of_c.contains(*name)).collect();
    assert_eq!(extra, ["AWRITE_BLESS"], "of no use");
}

/// Those that have no name of ours. std reads TMPDIR for us; PATH means to awrite what it means to every program.
#[test]
fn pages_have_the_variables_of_others_that_are_read_and_no_others() {
    let code = code();
    let mut read = BTreeSet::from(["TMPDIR"]);
    for call in ["var_os(\"", "env::var(\"", "is_set(\""] {
        read.extend(code.split(call).skip(1).map(|rest| rest.split('"').next().unwrap()));
    }
    read.retain(|name| !name.starts_with("AWRITE_") && *name != "PATH");
    let pages = ["awrite.1", "awrite-lock.1", "awrite-housekeep.1"].map(page);
    let sections = pages.iter().filter_map(|page| page.split(".Sh ENVIRONMENT\n").nth(1)?.split(".Sh ").next());
    let told = sections.flat_map(|section| section.lines().filter_map(|line| line.strip_prefix(".It Ev ")));
    let told: BTreeSet<&str> =
        told.flat_map(|names| names.split(" , ")).filter(|name| !name.starts_with("AWRITE_")).collect();
    assert_eq!(read, told);
}

/// The names of files that the head of src/names.rs lists.
#[test]
fn pages_have_the_names_of_all_files() {
    let names = fs::read_to_string(Path::new(ROOT).join("src/names.rs")).unwrap();
    let rows: Vec<&str> = names.lines().filter_map(|line| line.strip_prefix("//!   ")?.split(' ').next()).collect();
    assert!(rows.len() > 8, "{rows:?}");
    for name in ["awrite.1", "awrite.7"] {
        let page = page(name);
        let section = page.split(".Sh FILES\n").nth(1).unwrap().split(".Sh ").next().unwrap();
        for row in &rows {
            // What is fixed in the name: `[-N]`, NAME and NONCE are not.
            let fixed = row.split(['[', ']']).step_by(2).collect::<String>();
            let fixed = fixed.split("NAME").flat_map(|part| part.split("NONCE"));
            for part in fixed.map(|part| part.trim_end_matches(['-', '.'])).filter(|part| part.len() > 4) {
                assert!(section.contains(part) || part == ".tmp" && name == "awrite.7", "{name}: {row}: {part}");
            }
        }
    }
}

#[test]
fn pages_have_the_events_and_no_others() {
    let mut events = BTreeSet::new();
    for path in sources().iter().filter(|path| path.to_str().unwrap().contains("src/report")) {
        let text = fs::read_to_string(path).unwrap();
        // The tables at the heads of the files, and the code, which shows whether they are complete.
        for row in text.lines().filter_map(|line| line.strip_prefix("//! | `")) {
            let cell = row.split(" |").next().unwrap();
            events.extend(cell.split(['`', ',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned));
        }
        for start in ["Level::Error, \"", "Level::Warn, \"", "Level::Info, \"", "Level::Debug, \"", "(\""] {
            for (at, _) in text.match_indices(start) {
                let (name, behind) = text[at + start.len()..].split_once('"').unwrap();
                // `("name", "text before the message"` is one, `("name", Field::…` a field.
                if start != "(\"" || behind.starts_with(", \"") {
                    events.insert(name.to_owned());
                }
            }
        }
    }
    let mut documented = BTreeSet::new();
    for name in ["awrite.1", "awrite-housekeep.1", "awrite-lock.1"] {
        let page = page(name);
        let Some(section) = page.split(".Sh DIAGNOSTICS\n").nth(1) else { continue };
        let section = section.split(".Sh ").next().unwrap();
        let tags = section.lines().filter_map(|line| line.strip_prefix(".It Cm "));
        documented.extend(tags.flat_map(|tag| tag.split(" , ")).map(str::to_owned));
    }
    for field in ["time", "level", "event", "message"] {
        assert!(documented.remove(field), "{field}");
    }
    assert_eq!(events, documented);
}

#[test]
fn pages_have_the_exit_codes() {
    for (name, codes) in [
        ("awrite.1", &["0", "1", "2", "3", "4"][..]),
        ("awrite-lock.1", &["1", "2", "3", "126", "127"]),
        ("awrite-housekeep.1", &["0", "1", "3"]),
    ] {
        let page = page(name);
        let section = page.split(".Sh EXIT STATUS\n").nth(1).unwrap().split(".Sh ").next().unwrap();
        assert_eq!(section.lines().filter_map(|line| line.strip_prefix(".It ")).collect::<Vec<_>>(), codes, "{name}");
    }
    // These are all that the code has, but for those of flock(1).
    let exit = fs::read_to_string(Path::new(ROOT).join("src/report/exit.rs")).unwrap();
    let (ours, of_flock) = exit.split_once("FLOCK_CONFLICT").unwrap();
    let error = fs::read_to_string(Path::new(ROOT).join("src/error.rs")).unwrap();
    let of_errors = error.split("pub fn exit_code(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let mut used = numbers(ours, "u8 = ");
    used.extend(numbers(of_errors, "=> "));
    assert_eq!(used, [0, 1, 2, 3, 4, 126, 127].into());
    let of_flock = numbers(of_flock, "u8 = ");
    let said = format!("{} to {}", of_flock.range(2..).min().unwrap(), of_flock.range(2..).max().unwrap());
    assert!(page("awrite-lock.1").contains(&said), "{said}");
}

/// The numbers that follow `start` in `code`.
fn numbers(code: &str, start: &str) -> BTreeSet<u8> {
    code.split(start).skip(1).filter_map(|rest| rest.split([';', ',']).next()?.parse().ok()).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// awrite(3)

/// The functions, constants and members of the header, one a line: see capi.rs.
fn abi() -> PathBuf {
    Path::new(ROOT).join("tests/c/abi.txt")
}

/// The functions in the SYNOPSIS of awrite(3), as prototypes.
fn prototypes_of_page() -> BTreeSet<String> {
    let page = page("awrite.3");
    let mut found = BTreeSet::new();
    let (mut result, mut name, mut arguments) = (String::new(), String::new(), Vec::new());
    for line in page.split(".Sh SYNOPSIS\n").nth(1).unwrap().split(".Sh ").next().unwrap().lines() {
        let (macro_name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_matches('"');
        match macro_name {
            ".Ft" => result = rest.to_owned(),
            ".Fo" => name = rest.to_owned(),
            ".Fa" => arguments.push(rest.to_owned()),
            ".Fc" => {
                let space = if result.ends_with('*') { "" } else { " " };
                found.insert(format!("{result}{space}{name}({})", arguments.join(", ")));
                arguments.clear();
            }
            _ => {}
        }
    }
    found
}

#[test]
fn the_page_for_c_has_the_functions_of_the_header_and_no_others() {
    let abi = fs::read_to_string(abi()).unwrap();
    let header: BTreeSet<String> =
        abi.lines().filter(|line| line.contains('(') && !line.starts_with("typedef")).map(str::to_owned).collect();
    assert!(header.len() > 30, "{header:?}");
    let page = prototypes_of_page();
    let (missing, extra): (Vec<_>, Vec<_>) = (header.difference(&page).collect(), page.difference(&header).collect());
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}, too many: {extra:#?}");
    let text = self::page("awrite.3");
    let described = text.split(".Sh DESCRIPTION\n").nth(1).unwrap();
    for function in
        names_in(&abi, "awrite_").iter().filter(|name| abi.contains(&format!("{name}(")) && !name.ends_with("_fn"))
    {
        assert!(
            described.contains(&format!(".Fn {function}\n")) || described.contains(&format!(".Fn {function} ")),
            "{function}"
        );
    }
}

#[test]
fn the_page_for_c_has_the_constants_and_members_of_the_header() {
    let (abi, page) = (fs::read_to_string(abi()).unwrap(), page("awrite.3"));
    let words_of = |macro_name: &str| -> BTreeSet<String> {
        let lines = page.lines().filter(|line| line.contains(macro_name));
        lines.flat_map(|line| line.split([' ', ','])).map(str::to_owned).collect()
    };
    let constants: BTreeSet<String> = abi
        .lines()
        .filter(|line| line.starts_with("AWRITE_"))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert!(constants.len() > 40, "{constants:?}");
    let shown = words_of("Dv ");
    let missing: Vec<_> = constants.difference(&shown).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    let header = fs::read_to_string(Path::new(ROOT).join("include/awrite.h")).unwrap();
    let header = names_in(&header, "AWRITE_");
    let extra: Vec<_> = shown.iter().filter(|name| name.starts_with("AWRITE_") && !header.contains(*name)).collect();
    assert!(extra.is_empty(), "not in the header: {extra:?}");
    let members =
        abi.lines().filter_map(|line| line.split(" offset ").next().filter(|head| *head != line)?.split('.').nth(1));
    let named = words_of("Va ");
    let missing: BTreeSet<&str> = members.filter(|member| *member != "reserved" && !named.contains(*member)).collect();
    assert!(missing.is_empty(), "members: {missing:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Examples

/// A line of a page as it is printed.
fn printed(line: &str) -> String {
    let plain = line.replace("\\(aq", "'").replace("\\(dq", "\"").replace("\\&", "").replace("\\-", "-");
    plain.replace("\\e", "\\")
}

/// The commands in the EXAMPLES of a page: those of a line of their own, and those of a display as one script.
fn examples(name: &str) -> Vec<String> {
    let page = page(name);
    let section = page.split(".Sh EXAMPLES\n").nth(1).unwrap().split(".Sh ").next().unwrap();
    let (mut found, mut display) = (Vec::new(), None::<String>);
    for line in section.lines() {
        match &mut display {
            Some(_) if line == ".Ed" => found.extend(display.take()),
            Some(script) => {
                script.push_str(&printed(line));
                script.push('\n');
            }
            None if line.starts_with(".Bd ") => display = Some(String::new()),
            None => found.extend(line.strip_prefix(".Dl ").map(printed)),
        }
    }
    found
}

/// Each example in the pages of the commands succeeds if the files that it names are there.
#[test]
fn examples_in_the_pages_work() {
    if !["jq", "sqlite3", "flock", "make"].into_iter().all(needs) {
        return;
    }
    for (name, number) in [("awrite.1", 9), ("awrite-lock.1", 6), ("awrite-housekeep.1", 3)] {
        let dir = TestDir::new();
        let bin = dir.dir("bin");
        dir.sh("\"$BIN\" --install bin; mkdir conf srv; touch conf/a conf/b; printf '#!/bin/sh\\n' >transfer; chmod +x transfer; printf '#!/bin/sh\\n' >job; chmod +x job
            printf 'deploy:\\n' >Makefile; echo 'create table t (n);' >change.sql; echo 1 >srv/a; : >srv/a.backup")
            .quiet_success();
        let examples = examples(name);
        assert!(examples.len() >= number, "{name}: {examples:#?}");
        for example in examples {
            // What is for cron is run as cron does, in a directory of ours; nothing is deleted elsewhere.
            let command = example.trim_start_matches("17 4 * * * ").replace("/srv", "srv").replace("/run/", "./");
            let command = command.replace("\n...\n", "\n:\n");
            let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
            let done = dir.program("sh", ["-eu", "-c", &command]).env("PATH", path).run();
            assert_eq!(done.code, Some(0), "{name}: {command}\n{done:?}");
        }
    }
}

#[test]
fn the_example_in_c_compiles() {
    let dir = TestDir::new();
    let [source] = examples("awrite.3").try_into().unwrap();
    dir.file("example.c", source);
    let include = Path::new(ROOT).join("include");
    let words = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"];
    let words = words.into_iter().chain([include.to_str().unwrap(), "example.c"]);
    dir.program("cc", words).quiet_success();
}

/// The fields of each event, as the sources have them in a table, stand with it in the page.
#[test]
fn pages_have_the_fields_of_events() {
    let mut checked = 0;
    for (source, name) in [
        ("src/report/mod.rs", "awrite.1"),
        ("src/report/lease.rs", "awrite-lock.1"),
        ("src/report/housekeep.rs", "awrite-housekeep.1"),
    ] {
        let page = page(name);
        let page = page.split(".Sh DIAGNOSTICS\n").nth(1).unwrap().split(".Sh ").next().unwrap();
        let text = fs::read_to_string(Path::new(ROOT).join(source)).unwrap();
        for row in text.lines().filter_map(|line| line.strip_prefix("//! | `")) {
            let (events, rest) = row.split_once(" |").unwrap();
            let fields = rest.trim_end_matches('|').rsplit(" | ").next().unwrap();
            for event in events.split('`').filter(|event| !event.trim_matches([',', ' ']).is_empty()) {
                let tag = page
                    .split(".It Cm ")
                    .find(|tag| tag.lines().next().unwrap().split(" , ").any(|word| word == event));
                let Some(tag) = tag else { continue };
                let words: BTreeSet<&str> = tag.split([' ', '\n']).collect();
                for field in fields.split('`').skip(1).step_by(2) {
                    checked += 1;
                    let one = words.contains(field);
                    assert!(one, "{name}: {event}: {field}");
                }
            }
        }
    }
    assert!(checked > 30, "{checked}");
}
