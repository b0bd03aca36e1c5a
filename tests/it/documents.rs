//! The sessions, scripts and tables in the documents are run, and must do what the documents show.
//!
//! In README.md and pkg/doc/*.md a block ```` ```console ```` is a session: `$ command`, continued by `> `, and then
//! all that it prints, standard output and error, where `…` stands for anything and a line `…` for any lines. A command
//! that fails says `Error:`, or `$ echo $?` comes next. A block ```` ```sh ```` is a script that succeeds, ```` ```fish
//! ```` the same for fish. All blocks below one second-level heading share a directory, which is fresh, and one shell;
//! what they need besides stands in lines `<!-- setup: COMMAND -->`. What cannot be run here says so for all to see:
//! its first line is `# Not run here: REASON`. What the programs' own configuration would look like (crontab, ini,
//! yaml, dockerfile) is never run, and says so too.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::common::{TestDir, needs, needs_strace};
use crate::manual::sources;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TROUBLES: &str = "pkg/doc/troubleshooting.md";
const NOT_RUN: &str = "# Not run here: ";
/// The script prints this before the status of each command.
const END: &str = "\u{1e}";
/// Other programs that a block may use. Without them it is skipped.
const OTHERS: [&str; 11] =
    ["bash", "curl", "fish", "flock", "jq", "python3", "setfattr", "sponge", "sqlite3", "strace", "vi"];

#[derive(Clone, Debug)]
struct Block {
    language: String,
    lines: Vec<String>,
    /// The number of its first line.
    number: usize,
    /// `.ci/run` runs it, by this mark in front of it.
    ci: bool,
}

impl Block {
    fn is_not_run(&self) -> bool {
        self.ci || self.lines.first().is_some_and(|line| line.starts_with(NOT_RUN))
    }
}

/// What stands below one second-level heading.
#[derive(Debug)]
struct Section {
    heading: String,
    /// Blocks, and commands of setup lines as blocks in the language "setup".
    blocks: Vec<Block>,
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section { heading: String::new(), blocks: Vec::new() }];
    let mut open: Option<Block> = None;
    let mut ci = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 2;
        let blocks = &mut sections.last_mut().unwrap().blocks;
        if let Some(block) = &mut open {
            if line == "```" {
                blocks.extend(open.take());
                ci = false;
            } else {
                block.lines.push(line.to_owned());
            }
        } else if let Some(language) = line.strip_prefix("```") {
            open = Some(Block { language: language.to_owned(), lines: Vec::new(), number, ci });
        } else if let Some(heading) = line.strip_prefix("## ") {
            sections.push(Section { heading: heading.to_owned(), blocks: Vec::new() });
        } else if let Some(command) = line.strip_prefix("<!-- setup: ") {
            let command = command.strip_suffix(" -->").expect("a setup line ends in -->").to_owned();
            blocks.push(Block { language: "setup".to_owned(), lines: vec![command], number, ci: false });
        } else if line.starts_with("<!-- ci: ") {
            ci = true;
        }
    }
    assert!(open.is_none(), "a block is not closed");
    sections
}

/// A command of a section, and what it is to print; `None`: anything, but it must succeed.
#[derive(Debug)]
struct Step {
    command: String,
    output: Option<Vec<String>>,
    number: usize,
}

fn steps(section: &Section) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in section.blocks.iter().filter(|block| !block.is_not_run()) {
        let number = block.number;
        let script = block.lines.join("\n");
        match block.language.as_str() {
            "setup" => steps.push(Step { command: script, output: None, number }),
            "sh" => steps.push(Step { command: format!("(set -eu\n{script}\n)"), output: None, number }),
            "fish" => steps.push(Step {
                command: format!("fish <<'END_OF_BLOCK'\n{script}\nEND_OF_BLOCK"),
                output: None,
                number,
            }),
            "console" => {
                let mut at_command = false;
                for (index, line) in block.lines.iter().enumerate() {
                    if let Some(command) = line.strip_prefix("$ ") {
                        let (command, output) = (command.to_owned(), Some(Vec::new()));
                        steps.push(Step { command, output, number: number + index });
                        at_command = true;
                    } else if let Some(more) = line.strip_prefix("> ").filter(|_| at_command) {
                        write!(steps.last_mut().unwrap().command, "\n{more}").unwrap();
                    } else {
                        at_command = false;
                        let step = steps.last_mut().and_then(|step| step.output.as_mut());
                        step.expect("a session begins with a command").push(line.clone());
                    }
                }
            }
            _ => {}
        }
    }
    steps
}

/// Whether `line` is `pattern`, in which `…` stands for anything.
fn is_like(line: &str, pattern: &str) -> bool {
    match pattern.split_once('…') {
        None => line == pattern,
        Some((head, tail)) => line
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).any(|n| rest.is_char_boundary(n) && is_like(&rest[n..], tail))),
    }
}

fn are_like(lines: &[&str], patterns: &[String]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((pattern, more)) if pattern == "…" => (0..=lines.len()).any(|n| are_like(&lines[n..], more)),
        Some((pattern, more)) => {
            lines.split_first().is_some_and(|(line, rest)| is_like(line, pattern) && are_like(rest, more))
        }
    }
}

/// Runs a section's commands and returns what each has printed; `None` if something is not installed that it needs. An
/// error is what is not as the document has it.
fn play(section: &Section, document: &str, shell: &[&str]) -> Result<Option<Vec<String>>, String> {
    let steps = steps(section);
    if steps.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let not_in_words = |c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c);
    let uses = |other: &str| steps.iter().any(|step| step.command.split(not_in_words).any(|word| word == other));
    if !OTHERS
        .into_iter()
        .filter(|other| uses(other))
        .all(|other| if other == "strace" { needs_strace() } else { needs(other) })
    {
        return Ok(None);
    }
    // In memory, a directory lists its files in another order than in the documents.
    let (dir, applets) = (TestDir::on_disk(), TestDir::new());
    dir.awrite(["--install".as_ref(), applets.path().as_os_str()]).quiet_success();
    let mut script = String::from("exec 2>&1\numask 022\n");
    for step in &steps {
        writeln!(script, "{}\nresult=$?; printf '\\n\\036%s\\n' $result; (exit $result)", step.command).unwrap();
    }
    // What was started in the background ends with the section.
    script.push_str("trap '' TERM; kill 0; wait\n");
    let path = format!("{}:{}", applets.path().display(), env::var("PATH").unwrap());
    let words = shell[1..].iter().copied().chain(["-c", &script]);
    let run =
        dir.program(shell[0], words).env("PATH", path).env("HOME", dir.path()).env("TZ", "UTC").env("SHELL", "/bin/sh");
    let said = run.env("EXAMPLES", Path::new(ROOT).join("examples")).run().stdout;

    let mut outputs = Vec::new();
    let mut rest = said.as_str();
    let mut failed: Option<String> = None;
    for step in &steps {
        let at = format!("{document}:{}: {}", step.number, step.command);
        if let Some(failed) = failed.take().filter(|_| !step.command.contains("$?")) {
            return Err(format!("{failed}\nfails and does not say so"));
        }
        let end =
            rest.split_once(&format!("\n{END}")).and_then(|(output, more)| Some((output, more.split_once('\n')?)));
        let Some((output, (status, more))) = end else { return Err(format!("{at}\ndoes not end:\n{rest}")) };
        rest = more;
        let lines: Vec<&str> = output.lines().collect();
        match &step.output {
            None if status != "0" => return Err(format!("{at}\nfails:\n{output}")),
            Some(shown) if !are_like(&lines, shown) => {
                return Err(format!("{at}\nprints\n{output}\nand not\n{}", shown.join("\n")));
            }
            _ => {}
        }
        if status != "0" && !lines.iter().any(|line| line.starts_with("Error: ")) {
            failed = Some(at);
        }
        outputs.push(output.to_owned());
    }
    match failed {
        Some(failed) => Err(format!("{failed}\nfails and does not say so")),
        None => Ok(Some(outputs)),
    }
}

fn read(document: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(document)).unwrap_or_else(|e| panic!("{document}: {e}"))
}

fn guides() -> Vec<String> {
    let mut guides: Vec<String> = fs::read_dir(Path::new(ROOT).join("pkg/doc"))
        .unwrap()
        .map(|entry| format!("pkg/doc/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    guides.sort();
    guides
}

#[track_caller]
fn play_all(document: &str, shell: &[&str]) {
    let sections = sections(&read(document));
    // Most of them wait for something.
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = sections.iter().map(|section| scope.spawn(|| play(section, document, shell).err())).collect();
        all.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_readme_is_true() {
    play_all("README.md", &["sh"]);
}

#[test]
fn the_guides_are_true() {
    for guide in guides().iter().filter(|guide| *guide != TROUBLES) {
        play_all(guide, &["sh"]);
    }
}

/// Users of other shells paste the same commands.
#[test]
fn the_tutorial_is_true_in_other_shells() {
    for shell in [&["bash", "--norc"][..], &["zsh", "-f"]] {
        if needs(shell[0]) {
            play_all("pkg/doc/tutorial.md", shell);
        }
    }
}

#[test]
fn what_is_not_run_says_so() {
    for document in guides().into_iter().chain(["README.md".to_owned()]) {
        for block in sections(&read(&document)).into_iter().flat_map(|section| section.blocks) {
            let at = format!("{document}:{}", block.number);
            match block.language.as_str() {
                "console" | "sh" | "fish" | "setup" => {}
                "crontab" | "ini" | "yaml" | "dockerfile" => {
                    assert!(block.is_not_run(), "{at}: does not begin with {NOT_RUN}")
                }
                // Compiled elsewhere, or nothing to run: protocols, diagrams, file formats.
                "rust" | "rust,no_run" | "c" | "toml" | "json" | "text" => {}
                other => panic!("{at}: a block in {other:?}"),
            }
        }
    }
}

/// `.ci/run` runs every block that has a mark. (The package does not have that file.)
#[test]
fn what_ci_runs_it_does_run() {
    let Ok(run) = fs::read_to_string(Path::new(ROOT).join(".ci/run")) else { return };
    for document in guides().into_iter().chain(["README.md".to_owned()]) {
        let text = read(&document);
        for name in text.lines().filter_map(|line| line.strip_prefix("<!-- ci: ")?.strip_suffix(" -->")) {
            assert!(run.contains(&format!("readme_block {name} ")), "{document}: {name}");
        }
    }
}

/// A link to a file of the repository leads somewhere, and one to a heading to that. (When it is an address in the
/// repository and when a path, checks pkg/build/facts.sh.)
#[test]
fn links_lead_somewhere() {
    let others = ["README", "CHANGELOG", "CONTRIBUTING", "SECURITY", "ARCHITECTURE", "pkg/README", "examples/README"];
    for document in guides().into_iter().chain(others.map(|name| format!("{name}.md"))) {
        let text = read(&document);
        let dir = Path::new(&document).parent().unwrap();
        let inline = text.match_indices("](").map(|(at, _)| text[at + 2..].split(')').next().unwrap());
        let at_the_end = text.lines().filter_map(|line| Some(line.strip_prefix('[')?.split_once("]: ")?.1));
        for target in inline.chain(at_the_end) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let in_repository = ["blob", "tree"]
                .iter()
                .find_map(|kind| file.strip_prefix(concat!(env!("CARGO_PKG_REPOSITORY"), "/"))?.strip_prefix(kind))
                .and_then(|path| path.strip_prefix("/HEAD/"));
            let path = match in_repository {
                Some(path) => PathBuf::from(path),
                None if file.contains("://") => continue,
                None if file.is_empty() => PathBuf::from(&document),
                None => dir.join(file),
            };
            assert!(Path::new(ROOT).join(&path).exists(), "{document}: {target}");
            if !anchor.is_empty() {
                let text = read(path.to_str().unwrap());
                let headings = text.lines().filter(|line| line.starts_with('#')).map(anchor_of);
                assert!(headings.into_iter().any(|heading| heading == anchor), "{document}: {target}");
            }
        }
    }
}

#[test]
fn the_readme_lists_every_guide() {
    let text = read("README.md");
    let list = text.split("\n## Documentation\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for guide in guides() {
        assert!(list.contains(&format!("][{guide}]")), "{guide}");
    }
}

/// The names in the guide to the library are those of the library.
#[test]
fn the_guide_to_the_library_names_what_there_is() {
    let sources: String = sources().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let interface = read("src/lib.rs");
    let guide = read("pkg/doc/library.md");
    let mut names = 0;
    for cell in guide.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next()) {
        for name in cell.split(['`', ',', ' ']).filter(|name| !name.is_empty()) {
            let (outer, inner) = name.split_once("::").unwrap_or((name, ""));
            let mut told = interface.split(|c: char| !c.is_alphanumeric() && c != '_');
            assert!(told.any(|word| word == outer), "{name}");
            // Options are members, from which a macro makes functions.
            let is_there =
                ["pub fn NAME(", "        NAME: "].map(|form| sources.contains(&form.replace("NAME", inner)));
            assert!(inner.is_empty() || is_there.contains(&true), "{name}");
            names += 1;
        }
    }
    assert!(names >= 10, "{names}");
}

/// The picture of what a power cut leaves is drawn from the record of a run.
#[test]
fn the_picture_of_power_cuts_is_what_was_recorded() {
    let Ok(recorded) = fs::read(Path::new(ROOT).join("tests/power/cuts.txt")) else { return };
    if !needs("python3") {
        return;
    }
    let draw = Path::new(ROOT).join("tests/power/draw.py");
    let drawn = TestDir::new().program("python3", [draw]).stdin(recorded).run();
    assert!(drawn.ok().stdout == read("pkg/doc/power-cut.svg"), "draw it anew: see tests/power/draw.py");
}

/// What a heading is called in links to it.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The commands in the second column of the table below a heading.
fn forms(document: &str, heading: &str) -> Vec<String> {
    let text = read(document);
    let table = text.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let mut forms = Vec::new();
    for row in table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| |"))
        .skip_while(|line| !line.contains('`'))
    {
        let row = row.replace("\\|", "\u{1}");
        let cell = row.split('|').nth(2).unwrap().replace('\u{1}', "|");
        let before = forms.len();
        let codes = cell.split('`').skip(1).step_by(2).filter(|code| code.contains("awrite"));
        forms.extend(codes.map(str::to_owned));
        assert!(forms.len() > before, "{document}: {row}");
    }
    forms
}

/// Every form in the tables of forms is a whole command, and does what its row says, as far as that can be told from
/// here: it succeeds, and if it writes, the file is new.
#[test]
fn the_forms_in_the_tables_work() {
    let of_readme = forms("README.md", "What you want, and how to say it");
    let of_choosing = forms("pkg/doc/choosing.md", "In one table");
    assert!(of_readme.len() >= 25 && of_choosing.len() >= 10, "{of_readme:?} {of_choosing:?}");
    for form in of_readme.into_iter().chain(of_choosing) {
        if form.contains("jq") && !needs("jq") {
            continue;
        }
        let dir = TestDir::new();
        dir.file("f", "{\"a\": 1}\n");
        dir.file("new", "[]\n");
        dir.file("g", "[1]\n");
        dir.dir("build");
        dir.file("build/f", "[2]\n");
        let bin = dir.dir("bin");
        for (name, script) in [
            ("migrate", "for file; do echo [2] >\"$file\"; done"),
            ("edit", "sed s/1/2/"),
            ("reader", "cat f g >read-them"),
            ("deploy", "echo [2] | awrite f"),
            ("bin/producer", "echo [2]"),
        ] {
            dir.script(name, &format!("#!/bin/sh\n{script}\n"));
        }
        dir.sh("cd bin && \"$BIN\" --install .").quiet_success();
        let path = format!("{}:{ROOT}/examples:{}", bin.display(), env::var("PATH").unwrap());
        let target = if form.contains("a/b/f") { "a/b/f" } else { "f" };
        // Nothing is typed: what needs more than the form says fails.
        let here = form.replace("/etc/app", ".").replace("etcd://db1,db2,db3/jobs", "dir://$PWD/build");
        let done = dir.sh(&here).env("PATH", path).run();
        assert_eq!(done.code, Some(0), "{form}\n{done:?}");
        let prints = form.contains("--diff") || form.contains("--acquire");
        assert_eq!(done.stdout.is_empty(), !prints, "{form}\n{done:?}");
        let runs_a_writer = ["migrate", "deploy"].iter().any(|name| form.contains(name));
        let writes = !form.contains("--dry-run") && (!form.starts_with("awrite-") || runs_a_writer);
        assert_eq!(dir.read(target) != "{\"a\": 1}\n", writes, "{form}");
        assert!(!dir.join("f.lock").exists(), "{form}");
    }
}

/// Each symptom that the guide to troubleshooting has for a heading is one that its section shows.
#[test]
fn the_guide_to_troubleshooting_is_true() {
    let document = TROUBLES;
    let mut seen = 0;
    for section in sections(&read(document)) {
        let outputs = play(&section, document, &["sh"]).unwrap_or_else(|wrong| panic!("{wrong}"));
        let Some(symptom) = section.heading.strip_prefix('`').and_then(|text| text.strip_suffix('`')) else { continue };
        seen += 1;
        let is_seen = match outputs {
            _ if section.blocks.iter().all(Block::is_not_run) => is_in_sources(symptom),
            Some(outputs) => outputs.iter().flat_map(|output| output.lines()).any(|line| is_like(line, symptom)),
            None => true,
        };
        assert!(is_seen, "{document}: {symptom}: is not what comes");
    }
    assert!(seen > 10, "{seen}");
}

/// Whether the longest fixed part of a message is in the sources.
fn is_in_sources(message: &str) -> bool {
    let words = message.split('…').map(|part| part.trim_matches([' ', ':'])).max_by_key(|part| part.len()).unwrap();
    // The texts of system errors are not in our sources.
    let of_the_system = ["Permission denied", "No space left on device"].contains(&words);
    of_the_system || sources().iter().any(|path| fs::read_to_string(path).unwrap().contains(words))
}

#[test]
fn the_test_of_documents_finds_what_is_wrong() {
    let plays = |text: &str| sections(text).iter().all(|section| play(section, "document", &["sh"]).is_ok());
    assert!(plays("## A\n```console\n$ echo one;\n> echo two\none\ntwo\n$ false\n$ echo $?\n1\n```\n"));
    assert!(plays("```sh\ntoken=$(echo 1)\n[ \"$token\" = 1 ]\n```\n"));
    assert!(plays("```console\n$ x=1\n```\n```console\n$ echo a$x b\na…\n$ seq 9\n1\n…\n9\n```\n"));
    assert!(plays("```console\n# Not run here: none\n$ false\n```\n"));
    assert!(plays("<!-- setup: x=1 -->\n```console\n$ echo $x\n1\n```\n"));
    assert!(!plays("```console\n$ echo one\ntwo\n```\n"), "other output");
    assert!(!plays("```console\n$ echo one\n```\n"), "output that is not shown");
    assert!(!plays("```console\n$ true\none\n```\n"), "no output");
    assert!(!plays("```console\n$ false\n```\n"), "a failure");
    assert!(!plays("```sh\nfalse\ntrue\n```\n"), "a failure in a script");
    assert!(!plays("```console\n$ x=1\n```\n## B\n```console\n$ echo a$x\na1\n```\n"), "the next section's shell");
}
