//! Random trees of holders: exclusive and shared, nested, side by side, left behind, killed, without an environment, by
//! name and by a descriptor of a shell, waiting for ever, for a time or not at all. What holds the lock writes so into a
//! log. Two that hold it together must both share it, unless one is above the other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{Extent, TestDir, extent, rounds, say};

/// Trees by default, and in all.
const TREES: (u64, u64) = (200, 3000);
const WORKERS: usize = 4;

/// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct Tree<'a> {
    dir: &'a TestDir,
    random: Random,
    nodes: usize,
    /// Whether each node shares the lock.
    shares: BTreeMap<String, bool>,
    /// A lock file may stay: somebody is killed, or becomes the command, or has opened it for a descriptor.
    leaves_file: bool,
}

impl Tree<'_> {
    /// The shell command that runs a new node, whose script is written to a file.
    fn node(&mut self, id: &str, depth: u32) -> String {
        self.nodes += 1;
        let shared = self.random.chance(40);
        self.shares.insert(id.to_owned(), shared);
        let by_descriptor = self.random.chance(15);
        // Its children would wait for it.
        let closes = self.random.chance(5);
        let work = self.work(id, if closes { 0 } else { depth });
        let mode = if shared { "-s" } else { "-x" };
        let wait = ["", "", "", "-n", "-w 0.02", "-w 20"][usize::try_from(self.random.below(6)).unwrap()];
        if by_descriptor {
            self.leaves_file = true;
            let unlock = if self.random.chance(70) { "\"$BIN\" lock -u 9" } else { "" };
            let script = format!("exec 9>>f.lock\n\"$BIN\" lock -q {mode} {wait} 9 || exit\n{work}{unlock}\n");
            self.dir.file(format!("{id}.sh"), script);
            return format!("sh {id}.sh");
        }
        self.dir.file(format!("{id}.sh"), work);
        let environment = if self.random.chance(15) { "env -i PATH=\"$PATH\" BIN=\"$BIN\" " } else { "" };
        if !shared && depth == 0 && self.random.chance(30) {
            return format!("{environment}\"$BIN\" -q {wait} f -- sh {id}.sh");
        }
        let form = match (closes, self.random.chance(10)) {
            (true, _) => "-o",
            (false, true) => "-F",
            (false, false) => "",
        };
        self.leaves_file |= form == "-F";
        format!("{environment}\"$BIN\" lock -q {form} {mode} {wait} f -- sh {id}.sh")
    }

    /// What a node does while it holds the lock.
    fn work(&mut self, id: &str, depth: u32) -> String {
        let mut text = format!("echo +{id} >>log\n");
        let children = if depth == 0 { 0 } else { self.random.below(4) };
        for child in 0..children {
            if self.nodes >= 14 {
                break;
            }
            let command = self.node(&format!("{id}.{child}"), depth - 1);
            // Whose death is not that of what holds the lock, nor leaves that without the lock.
            let is_mortal = command.contains(" f -- ") && !command.contains(" -F ") && !command.contains(" -o ");
            let pause = self.random.below(8);
            match self.random.below(10) {
                0..4 => writeln!(text, "{command}"),
                4..6 => writeln!(text, "{command} & p{child}=$!; sleep 0.00{pause}; wait $p{child}"),
                6..7 if is_mortal => {
                    self.leaves_file = true;
                    let wait = if self.random.chance(50) { "wait $p" } else { "" };
                    writeln!(text, "{command} & p=$!; sleep 0.00{pause}; kill -9 $p; {wait}")
                }
                _ => writeln!(text, "{command} &"),
            }
            .unwrap();
        }
        writeln!(text, "echo -{id} >>log\necho x").unwrap();
        text
    }
}

fn is_above(one: &str, other: &str) -> bool {
    other.strip_prefix(one).is_some_and(|rest| rest.starts_with('.'))
}

/// The number of holds.
fn check(log: &str, shares: &BTreeMap<String, bool>) -> Result<usize, String> {
    let mut inside: Vec<&str> = Vec::new();
    let mut holds = 0;
    for line in log.lines() {
        if let Some(id) = line.strip_prefix('-') {
            inside.retain(|other| *other != id);
            continue;
        }
        let id = line.strip_prefix('+').ok_or("a torn line")?;
        holds += 1;
        for other in &inside {
            if !(is_above(id, other) || is_above(other, id) || shares[id] && shares[*other]) {
                return Err(format!("{id} and {other} hold it together"));
            }
        }
        inside.push(id);
    }
    if inside.is_empty() { Ok(holds) } else { Err(format!("{inside:?} have not ended")) }
}

/// Says what failed.
struct Told<'a>(u64, &'a Tree<'a>, &'a [String]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Told(seed, tree, roots) = self;
        let mut text = format!("tree {seed}: {roots:#?}\n");
        for name in tree.dir.names() {
            if name != "f" && name != "f.lock" {
                writeln!(text, "{:?}:\n{}", name, tree.dir.read(&name)).unwrap();
            }
        }
        say(&text);
    }
}

/// The number of holds.
fn grow(seed: u64) -> usize {
    let dir = TestDir::new();
    let mut tree = Tree { dir: &dir, random: Random(seed), nodes: 0, shares: BTreeMap::new(), leaves_file: false };
    let roots: Vec<String> = (0..2).map(|root| tree.node(&format!("{root}"), 3)).collect();
    let _told = Told(seed, &tree, &roots);
    // Nobody closes standard output, so that this waits for all.
    let done = dir.sh(&format!("{} & {} & wait", roots[0], roots[1])).run();
    let log = if dir.join("log").exists() { dir.read("log") } else { String::new() };
    let holds = check(&log, &tree.shares).unwrap_or_else(|e| panic!("{e}: {done:#?}"));
    assert!(tree.leaves_file || !dir.join("f.lock").exists(), "a lock file is left: {done:#?}");
    let last = dir.awrite(["lock", "-w", "10", "f", "--", "true"]).run();
    assert_eq!(last.code, Some(0), "it stays held: {last:#?}");
    assert!(!dir.join("f.lock").exists());
    holds
}

#[test]
fn random_trees_exclude_and_leave_nothing() {
    let (trees, next, holds) = (rounds(TREES.0, TREES.1), AtomicU64::new(0), AtomicU64::new(0));
    // Other trees each time only in the long form: chance must not decide what lands.
    let first = if extent() == Extent::Long { u64::from(std::process::id()) << 32 } else { 0 };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= trees {
                        break;
                    }
                    let held = u64::try_from(grow(first + number)).unwrap();
                    holds.fetch_add(held, Ordering::SeqCst);
                }
            });
        }
    });
    say(&format!("{trees} trees, {} holds", holds.load(Ordering::SeqCst)));
    assert!(holds.load(Ordering::SeqCst) > 2 * trees);
}
