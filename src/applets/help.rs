//! `--help` and `-h`, generated from the table of options.

use super::flags::{Manual, Spec};

/// The text of `--help`, at most 80 columns wide.
pub(super) fn text(manual: &Manual) -> String {
    let mut text = usage(manual);
    wrap(&mut text, manual.page.about, 0, 0);
    let mut groups: Vec<&str> = Vec::new();
    for spec in manual.specs.iter().copied() {
        if !groups.contains(&spec.group) {
            groups.push(spec.group);
        }
    }
    for group in groups {
        text.push_str(&format!("\n{group}:\n"));
        for spec in manual.specs.iter().copied().filter(|spec| spec.group == group) {
            describe(&mut text, spec);
        }
    }
    text.push('\n');
    text.push_str(manual.page.epilogue);
    text
}

/// The text of `-h`. With the prompt after it, it fits a screen of 24 lines.
pub(super) fn brief(manual: &Manual) -> String {
    let (name, brief) = (manual.page.name, &manual.page.brief);
    let mut text = usage(manual);
    text.push_str(&format!("{}\n", brief.about));
    for (long, help) in brief.options {
        let Some(spec) = manual.specs.iter().find(|spec| spec.name().strip_prefix("--") == Some(long)) else {
            continue;
        };
        let short = spec.short().next().map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let value = spec.value.map_or(String::new(), |value| format!(" {}", value.name()));
        let head = format!("  {short}--{long}{value}");
        text.push_str(&format!("{head:COLUMN$}{help}\n"));
    }
    text + &format!("\n{}\nAll options and examples: {name} --help, man {name}\n", brief.codes)
}

fn usage(manual: &Manual) -> String {
    let mut text = String::new();
    for (index, line) in manual.page.synopsis.iter().enumerate() {
        let lead = if index == 0 { "Usage:" } else { "      " };
        text.push_str(&format!("{lead} {} {line}\n", manual.page.name));
    }
    text.push('\n');
    text
}

const WIDTH: usize = 80;
/// The column where the descriptions of options begin.
const COLUMN: usize = 28;

fn describe(text: &mut String, flag: &Spec) {
    // Long names are aligned, with or without a short one before them.
    let indent = if flag.short().next().is_none() { "      " } else { "  " };
    let mut head = format!("{indent}{}", flag.names.join(", "));
    if let Some(value) = flag.value {
        head.push_str(&format!(" {}", value.name()));
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

/// Appends `words` in lines, and a line end. `first` blanks stand before the first line, `indent` before the others.
/// The text so far must end in column `indent - first` of its line.
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

/// Checks what holds for every table. Each applet's tests call this.
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
    let mut shorts: Vec<&str> = Vec::new();
    let help = text(manual);
    for flag in &manual.specs {
        assert!(!flag.name().is_empty(), "an option without a long name");
        assert!(flag.names.is_sorted_by_key(|name| name.starts_with("--")), "short names first: {:?}", flag.names);
        assert_eq!(flag.names.len(), flag.short().count() + flag.long().count(), "dashes: {:?}", flag.names);
        for long in flag.long() {
            assert!(kebab(long), "{long}");
            assert!(!longs.contains(&long), "--{long} twice");
            longs.push(long);
            let listed = help.contains(&format!("--{long}\n"))
                || help.contains(&format!("--{long} "))
                || help.contains(&format!("--{long}, "));
            assert!(listed, "--{long} in --help");
        }
        for letter in flag.short() {
            assert!(letter.len() == 1 && letter.chars().all(|c| c.is_ascii_alphanumeric()), "-{letter}");
            assert!(!shorts.contains(&letter), "-{letter} twice");
            shorts.push(letter);
        }
        let name = flag.name();
        assert!(!flag.group.is_empty() && !flag.group.ends_with(':'), "{name}");
        assert!(!flag.help.is_empty() && flag.help.trim() == flag.help, "{name}");
        assert!(!flag.help.ends_with('.') && !flag.help.contains("  "), "{name}");
        assert!(flag.help.starts_with(|c: char| !c.is_uppercase()), "{name}: help begins small");
        if let Some(value) = flag.value {
            let named = value.name();
            assert!(!named.is_empty() && (named.contains('|') || !named.contains(|c: char| c.is_ascii_lowercase())));
        }
    }
    assert!(longs.contains(&"help") && longs.contains(&"version"));
    assert!(help.lines().all(|line| line.chars().count() <= WIDTH), "{help}");
    assert!(help.ends_with('\n') && !help.ends_with("\n\n") && !help.lines().any(|line| line.ends_with(' ')));
    assert!(help.starts_with(&format!("Usage: {} ", manual.page.name)));
    let page = brief(manual);
    assert!(page.lines().count() <= 23, "one line of the screen is the prompt's:\n{page}");
    assert!(page.lines().all(|line| line.chars().count() <= WIDTH && !line.ends_with(' ')), "{page}");
    for (long, help) in manual.page.brief.options {
        assert!(longs.contains(long), "--{long} is on the short page, and no option");
        assert!(page.contains(&format!(" {help}\n")), "--{long} on the short page:\n{page}");
    }
}
