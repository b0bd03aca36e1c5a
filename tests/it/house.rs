//! The floors of src: ARCHITECTURE.md has a table of them, and an import leads to a lower floor, or to another file of
//! the same floor where no circle comes of it.
//!
//! An import is a `use` line, a re-export, or a path in the code (`crate::lock::place::name()`). What is re-exported
//! counts as an import of the file that defines it, so a `mod.rs` that only lists and re-exports is in no circle. A binary
//! sees the library as `awrite::`, which is `lib.rs`; a binary in a folder of its own has its modules there. Comments, strings and `#[cfg(test)]` items do not count.
//!
//! [`complaints`] is a function of the table and the sources; the tests at the end feed it small houses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use crate::manual::sources;

/// Sources by path, as `src/lock/mod.rs`.
type Files = BTreeMap<String, String>;

/// A word or sign of the code, and its line.
type Token<'a> = (&'a str, usize);

/// The length of the space, comment or literal that `text` begins with, if it does.
fn no_code(text: &str) -> Option<usize> {
    let until = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    match text.as_bytes() {
        [b'/', b'/', ..] => Some(until("\n", 0)),
        [b'/', b'*', ..] => Some(until("*/", 2)),
        [b'r', b'"', ..] => Some(until("\"", 2)),
        [b'r', b'#', b'"', ..] => Some(until("\"#", 3)),
        [b'"', ..] => {
            let is_end = |at: usize| text[..at].bytes().rev().take_while(|c| *c == b'\\').count() % 2 == 0;
            Some(text.match_indices('"').skip(1).find(|(at, _)| is_end(*at)).map_or(text.len(), |(at, _)| at + 1))
        }
        [b'\'', b'\\', ..] => Some(until("'", 3)),
        // A character; or a lifetime, of which only the mark is left out.
        [b'\'', ..] => Some(text.char_indices().nth(2).filter(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1)),
        [c, ..] if c.is_ascii_whitespace() => Some(1),
        _ => None,
    }
}

/// The code of a file, without its `#[cfg(test)]` items.
fn code(source: &str) -> Vec<Token<'_>> {
    let (mut all, mut rest, mut line) = (Vec::new(), source, 1);
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let token = if rest.starts_with("::") { 2 } else { word.max(first.len_utf8()) };
        let (text, after) = rest.split_at(no_code(rest).unwrap_or(token));
        if no_code(rest).is_none() {
            all.push((text, line));
        }
        line += text.matches('\n').count();
        rest = after;
    }
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < all.len() {
        let next: String = all[at..].iter().take(7).map(|(text, _)| *text).collect();
        if next == "#[cfg(test)]" || next == "#[cfg(all(test" {
            at += item_length(&all[at..]);
        } else {
            kept.push(all[at]);
            at += 1;
        }
    }
    kept
}

/// How many tokens an item has, its attributes included: up to its `;` or to the end of its braces.
fn item_length(tokens: &[Token]) -> usize {
    let (mut depth, mut is_use) = (0, false);
    for (at, (text, _)) in tokens.iter().enumerate() {
        match *text {
            "use" if depth == 0 => is_use = true,
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 && (*text == ";" || *text == "}" && !is_use) {
            return at + 1;
        }
    }
    tokens.len()
}

/// An import: what a module says, and where.
struct Said {
    path: Vec<String>,
    line: usize,
    /// The name that a `use` gives it here; `*` for all names.
    name: Option<String>,
}

#[derive(Default)]
struct Module {
    file: String,
    says: Vec<Said>,
    defines: BTreeSet<String>,
}

/// What leads from a file to another one.
struct Arrow {
    from: String,
    to: String,
    line: usize,
    said: String,
}

/// The crates: the name that their paths begin with here, the file where they begin, the folder of their modules.
const CRATES: [(&str, &str, &str); 3] = [
    ("awrite", "src/lib.rs", "src"),
    ("main", "src/main.rs", "src"),
    ("store_etcd", "src/store_etcd/main.rs", "src/store_etcd"),
];

/// The modules by path, which begins with the name of their crate.
#[derive(Default)]
struct House {
    modules: BTreeMap<String, Module>,
    complaints: Vec<String>,
}

impl House {
    /// Reads a file, and the files that its `mod` lines name.
    fn read(&mut self, file: &str, module: &str, files: &Files) {
        let Some(source) = files.get(file) else { return };
        let code = code(source);
        let text = |at: usize| code.get(at).map_or("", |(text, _)| *text);
        let (mut scopes, mut depth) = (vec![(module.to_owned(), 0)], 0);
        let (mut at, mut below) = (0, Vec::new());
        while at < code.len() {
            let here = scopes.last().unwrap().0.clone();
            let room = self.modules.entry(here.clone()).or_default();
            file.clone_into(&mut room.file);
            let line = code[at].1;
            match text(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if scopes.len() > 1 && scopes.last().is_some_and(|(_, outside)| *outside == depth) {
                        scopes.pop();
                    }
                }
                "path" if text(at + 1) == "=" && at > 1 && text(at - 1) == "[" => {
                    let advice = "`#[path]` hides where a file belongs. Move the file.";
                    self.complaints.push(format!("{file}:{line}: {advice}"));
                }
                "mod" if text(at + 2) == ";" => below.push(format!("{here}::{}", text(at + 1))),
                "mod" => {
                    scopes.push((format!("{here}::{}", text(at + 1)), depth));
                    depth += 1;
                    at += 2;
                }
                "use" if text(at + 1) != "<" => at = read_use(&code, at + 1, &[], &mut room.says),
                "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" | "impl" => {
                    room.defines.insert(text(at + 1).to_owned());
                }
                "::" => at += 1,
                _ if text(at + 1) == "::" => {
                    let is_visibility = at > 1 && text(at - 1) == "in" && text(at - 2) == "(";
                    let mut path = vec![text(at).to_owned()];
                    while text(at + 1) == "::" && text(at + 2).starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                        path.push(text(at + 2).to_owned());
                        at += 2;
                    }
                    if !is_visibility {
                        room.says.push(Said { path, line, name: None });
                    }
                }
                _ => {}
            }
            at += 1;
        }
        for module in below {
            let (root, path) = module.split_once("::").unwrap();
            let (_, _, folder) = CRATES.iter().find(|(name, _, _)| *name == root).unwrap();
            let stem = format!("{folder}/{}", path.replace("::", "/"));
            for file in [format!("{stem}.rs"), format!("{stem}/mod.rs")] {
                self.read(&file, &module, files);
            }
        }
    }

    /// The files that define what `path` means in the module `here`; none if it is nothing of src.
    fn files_of(&self, here: &str, path: &[String], depth: usize) -> BTreeSet<String> {
        let Some(room) = self.modules.get(here).filter(|_| depth > 0) else { return BTreeSet::new() };
        let Some((first, rest)) = path.split_first() else { return BTreeSet::from([room.file.clone()]) };
        let (root, child) = (here.split("::").next().unwrap(), format!("{here}::{first}"));
        match first.as_str() {
            "self" => return self.files_of(here, rest, depth),
            "super" => return self.files_of(here.rsplit_once("::").map_or(here, |(above, _)| above), rest, depth),
            "crate" => return self.files_of(root, rest, depth),
            "awrite" if root != "awrite" => return BTreeSet::from(["src/lib.rs".to_owned()]),
            _ if self.modules.contains_key(&child) => return self.files_of(&child, rest, depth),
            _ => {}
        }
        let mut found = BTreeSet::new();
        if first == "*" || room.defines.contains(first) {
            found.insert(room.file.clone());
        }
        for Said { path: from, name, .. } in &room.says {
            match name.as_deref() {
                Some("*") => {
                    found.extend(self.files_of(here, &[&from[..from.len() - 1], path].concat(), depth - 1));
                }
                Some(name) if name == first || first == "*" => {
                    found.extend(self.files_of(here, &[from, rest].concat(), depth - 1));
                }
                _ => {}
            }
        }
        found
    }

    fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (here, room) in &self.modules {
            for Said { path, line, .. } in &room.says {
                for to in self.files_of(here, path, 9).into_iter().filter(|to| *to != room.file) {
                    arrows.push(Arrow { from: room.file.clone(), to, line: *line, said: path.join("::") });
                }
            }
        }
        arrows
    }

    /// Whether a file only lists and re-exports.
    fn is_list(&self, file: &str) -> bool {
        self.modules.values().filter(|room| room.file == file).all(|room| room.defines.is_empty())
    }
}

/// Reads what stands between `use` and `;`, and returns where it ends.
fn read_use(code: &[Token], mut at: usize, start: &[String], says: &mut Vec<Said>) -> usize {
    let (mut path, mut name) = (start.to_vec(), None);
    let line = code[at].1;
    while at < code.len() {
        match code[at].0 {
            "{" => {
                while !matches!(code[at].0, "}" | ";") {
                    at = read_use(code, at + 1, &path, says);
                }
                return at + 1;
            }
            "}" | "," | ";" => break,
            "::" => {}
            "as" => {
                name = Some(code[at + 1].0.to_owned());
                at += 1;
            }
            "self" if !path.is_empty() => {}
            part => path.push(part.to_owned()),
        }
        at += 1;
    }
    if path.len() > start.len() || at > 0 && code[at - 1].0 == "self" || name.is_some() {
        let name = name.or_else(|| path.last().cloned());
        says.push(Said { path, line, name });
    }
    at
}

/// The rooms of the table, as paths below src, with their floors.
fn floors(table: &str) -> Vec<(u32, String)> {
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let floor = cells.next()?.parse().ok()?;
        Some((floor, format!("src/{}", cells.next()?.trim_matches('`'))))
    });
    rows.collect()
}

fn is_in(file: &str, room: &str) -> bool {
    file == room || room.ends_with('/') && file.starts_with(room)
}

/// The files that imports lead to from `start`, each with the shortest way there.
fn reached<'a>(start: &str, arrows: &[&'a Arrow]) -> BTreeMap<&'a str, Vec<&'a Arrow>> {
    let (mut found, mut ways) = (BTreeMap::new(), VecDeque::from([vec![]]));
    while let Some(way) = ways.pop_front() {
        let here = way.last().map_or(start, |arrow: &&Arrow| &arrow.to);
        for arrow in arrows.iter().filter(|arrow| arrow.from == here) {
            if !found.contains_key(arrow.to.as_str()) {
                ways.push_back([way.as_slice(), &[*arrow]].concat());
                found.insert(arrow.to.as_str(), ways[ways.len() - 1].clone());
            }
        }
    }
    found
}

/// What is wrong with the sources, going by the table.
fn complaints(table: &str, files: &Files) -> Vec<String> {
    let floors = floors(table);
    let floor_of = |file: &str| floors.iter().find(|(_, room)| is_in(file, room)).map_or(0, |(floor, _)| *floor);
    let mut house = House::default();
    for (name, file, _) in CRATES {
        house.read(file, name, files);
    }
    let mut said = std::mem::take(&mut house.complaints);
    for file in files.keys().filter(|file| floor_of(file) == 0) {
        said.push(format!("{file}: in no room. Add it to the table in ARCHITECTURE.md."));
    }
    for (_, room) in floors.iter().filter(|(_, room)| !files.keys().any(|file| is_in(file, room))) {
        said.push(format!("{room}: a room without a file. Take it out of the table in ARCHITECTURE.md."));
    }
    let arrows = house.arrows();
    let shown = |arrow: &Arrow| {
        let (from, to) = (floor_of(&arrow.from), floor_of(&arrow.to));
        let Arrow { from: file, line, said, to: other } = arrow;
        format!("{file}:{line} (floor {from}): `{said}` is in {other} (floor {to})")
    };
    for arrow in arrows.iter().filter(|arrow| (1..floor_of(&arrow.to)).contains(&floor_of(&arrow.from))) {
        let advice = "An import leads down. Move what both need to the lower floor, or let the caller pass it in.";
        said.push(format!("{}. {advice}", shown(arrow)));
    }
    let beside: Vec<&Arrow> = arrows.iter().filter(|a| !house.is_list(&a.from) && !house.is_list(&a.to)).collect();
    let mut seen = BTreeSet::new();
    for file in files.keys() {
        let from_here = reached(file, &beside);
        let Some(way) = from_here.get(file.as_str()).filter(|_| !seen.contains(file.as_str())) else { continue };
        let is_round = |other: &&str| reached(other, &beside).contains_key(file.as_str());
        let circle: BTreeSet<&str> = from_here.keys().copied().filter(is_round).collect();
        let way: Vec<String> = way.iter().map(|arrow| format!("\n    {}", shown(arrow))).collect();
        let advice = "Move what two of them need to a third. One way round";
        said.push(format!("A circle of {} files: {circle:?}. {advice}:{}", circle.len(), way.concat()));
        seen.extend(circle);
    }
    said
}

#[test]
fn imports_lead_down_and_not_round() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let files = sources().iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect();
    let wrong = complaints(&fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap(), &files);
    assert!(wrong.is_empty(), "{} complaints:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// A small house that is sound: a file a line.
const SOUND: [(u32, &str, &str); 11] = [
    (5, "main.rs", "mod words; fn main() { words::say() }"),
    (4, "words.rs", "use awrite::open; pub fn say() { open() }"),
    (3, "lib.rs", "mod attic; mod cellar; mod door; mod hall; pub use door::open; pub use hall::Bell as Gong;"),
    (3, "attic.rs", "pub struct Bat;"),
    (3, "door.rs", "use crate::hall::{self, Bell}; pub fn open() { hall::ring(Bell) }"),
    (2, "hall/mod.rs", "//! Not crate::door.\nmod bell; mod rope; pub use bell::*; pub(crate) use rope::pull;"),
    (2, "hall/bell.rs", "use super::pull; pub struct Bell; pub fn ring(_: Bell) { pull(crate::cellar::DEEP) }"),
    (2, "hall/rope.rs", "pub fn pull(_: &str) {}\n#[cfg(test)]\nmod tests { use crate::door::open; }"),
    (1, "store_etcd/main.rs", "mod shed; fn main() { shed::fill() }"),
    (1, "store_etcd/shed.rs", "pub fn fill() {}"),
    (1, "cellar.rs", "/* crate::door */ pub const DEEP: &str = \"\\\"crate::door::open\"; const Q: char = '\"';"),
];

/// What is said of it when one file has another content, or is gone.
fn complaints_after(changed: &str, content: &str) -> Vec<String> {
    let room = |file: &str| file.split_once('/').map_or(file.to_owned(), |(folder, _)| format!("{folder}/"));
    let table: String = SOUND.iter().map(|(floor, file, _)| format!("| {floor} | `{}` | |\n", room(file))).collect();
    let mut files: Files = SOUND.iter().map(|(_, file, text)| (format!("src/{file}"), (*text).to_owned())).collect();
    files.insert(format!("src/{changed}"), content.to_owned());
    files.retain(|_, content| content != "gone");
    complaints(&table, &files)
}

#[test]
fn what_is_wrong_is_found_and_nothing_else() {
    for (_, file, content) in SOUND {
        assert_eq!(complaints_after(file, content), Vec::<String>::new());
    }
    for (file, content, expected) in [
        // Up: each form of a `use` line, paths in the code, a re-export, imports through re-exports, the binary.
        (
            "cellar.rs",
            "use crate::{\ndoor::{open as o}};",
            "cellar.rs:2 (floor 1): `crate::door::open` is in src/door.rs",
        ),
        ("cellar.rs", "use super::door::*;", "`super::door::*` is in src/door.rs (floor 3). An import leads down."),
        ("cellar.rs", "use crate::door::{self};", "`crate::door` is in src/door.rs (floor 3). An import leads down."),
        ("cellar.rs", "fn f<'a>() { '\\'';\n g::<crate::door::open>() }", "cellar.rs:2 (floor 1): `crate::door::open`"),
        (
            "cellar.rs",
            "mod m { fn f() { super::super::door::open() } }",
            "`super::super::door::open` is in src/door.rs",
        ),
        ("hall/mod.rs", "pub use crate::door::open;", "hall/mod.rs:1 (floor 2): `crate::door::open` is in src/door.rs"),
        ("cellar.rs", "use crate::Gong;", "`crate::Gong` is in src/hall/bell.rs (floor 2). An import leads down."),
        ("cellar.rs", "use crate::hall; fn f() { hall::pull() }", "`hall::pull` is in src/hall/rope.rs (floor 2)"),
        ("words.rs", "fn f() { crate::main() }", "words.rs:1 (floor 4): `crate::main` is in src/main.rs (floor 5)"),
        // The other binary stands beside the library, not on it.
        ("store_etcd/shed.rs", "use awrite::open;", "`awrite::open` is in src/lib.rs (floor 3). An import leads down."),
        (
            "store_etcd/shed.rs",
            "fn fill() { crate::main() }",
            r#"{"src/store_etcd/main.rs", "src/store_etcd/shed.rs"}."#,
        ),
        // Round: here through a re-export.
        ("hall/rope.rs", "use super::Bell; pub fn pull() {}", r#"files: {"src/hall/bell.rs", "src/hall/rope.rs"}."#),
        // Files and rooms.
        ("main.rs", "#[path = \"words.rs\"]\nmod words;", "src/main.rs:1: `#[path]` hides where a file belongs."),
        ("roof.rs", "", "src/roof.rs: in no room."),
        ("attic.rs", "gone", "src/attic.rs: a room without a file."),
    ] {
        let said = complaints_after(file, content);
        assert!(said.iter().any(|text| text.contains(expected)), "{content}\n{expected}\n{said:#?}");
    }
}
