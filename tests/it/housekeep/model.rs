//! Random trees of files, against a model of what goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::{HOUR, age, housekeep, listed, mkfifo, stamp, tree, wait_for_ctime};
use crate::common::{Extent, Held, TestDir, extent, rounds, temp_stem};

/// xorshift64*: the same seed makes the same trees.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()].clone()
    }
}

/// The model's knowledge of a file that could go.
enum Fact {
    Lock {
        hours: u64,
    },
    Temp {
        hours: u64,
    },
    Backup {
        group: String,
        /// How long ago it was modified.
        seconds: u64,
        /// How long ago it was made by its name, and its number.
        dated: Option<(u64, u64)>,
    },
}

/// A random tree, and the facts about its files, without those that are protected whatever the options are.
struct Wood {
    dir: TestDir,
    facts: Vec<(String, Fact)>,
    held: BTreeMap<String, Held>,
}

/// Ages that are far from every limit that is used below.
const AGES: [u64; 7] = [1, 5, 20, 30, 4 * 24, 12 * 24, 50 * 24];

impl Wood {
    fn grow(random: &mut Random) -> Wood {
        let mut wood = Wood { dir: TestDir::new(), facts: Vec::new(), held: BTreeMap::new() };
        let mut places = vec![(String::new(), true)];
        for _ in 0..random.below(6) {
            let (above, mut entered) = random.one_of(&places);
            let name = random.one_of(&["a", "b.lock", "c.backup", ".awrite-29623e3f.d", ".git", ".hg", "bare", "e"]);
            let path = format!("{above}{name}/");
            if wood.dir.join(&path).exists() {
                continue;
            }
            wood.dir.dir(&path);
            if name == "bare" {
                for part in ["HEAD", "objects", "refs"] {
                    wood.dir.file(format!("{path}{part}"), "");
                }
            }
            entered &= !matches!(name, ".git" | ".hg" | "bare");
            places.push((path, entered));
        }
        for _ in 0..random.below(40) {
            let (place, entered) = random.one_of(&places);
            wood.plant(random, &place, entered);
        }
        wood
    }

    fn plant(&mut self, random: &mut Random, place: &str, entered: bool) {
        let hours = random.one_of(&AGES);
        let target = random.one_of(&["f", "g.conf", "h.lock", "a b", ".hidden"]);
        let (name, fact) = match random.below(5) {
            0 => {
                let path = format!("{place}{target}");
                if self.dir.join(&path).symlink_metadata().is_err() {
                    self.dir.file(path, "content");
                }
                return;
            }
            1 => (format!("{target}.lock"), Fact::Lock { hours }),
            2 => (format!("{}-{}.{target}", temp_stem(target), 1 + random.below(9_999)), Fact::Temp { hours }),
            3 => {
                // Its modification time, set below, says how old it is.
                let group = format!("{place}{target}");
                (format!("{target}.backup"), Fact::Backup { group, seconds: hours * HOUR + 60, dated: None })
            }
            _ => {
                // The time in its name gives its place in the group; its modification time differs.
                let (dated, number) = (random.one_of(&AGES), random.below(3));
                let suffix = if number == 0 { String::new() } else { format!("-{number}") };
                let group = format!("{place}{target}");
                let fact = Fact::Backup { group, seconds: hours * HOUR + 60, dated: Some((dated * HOUR, number)) };
                (format!("{target}{}{suffix}.backup", stamp(dated * HOUR)), fact)
            }
        };
        let path = format!("{place}{name}");
        let whole = self.dir.join(&path);
        if whole.symlink_metadata().is_ok() {
            return;
        }
        let is_lock = matches!(fact, Fact::Lock { .. });
        let mut protected = !entered;
        match random.below(8) {
            0 => symlink("/dev/null", &whole).unwrap(),
            1 => mkfifo(&whole),
            2 => fs::create_dir(&whole).unwrap(),
            // Not a plain backup: with two links it may be one that is being made.
            3 if !matches!(fact, Fact::Backup { dated: None, .. }) => {
                self.dir.file(&path, "");
                fs::hard_link(&whole, self.dir.join(format!("{path}-too"))).unwrap();
                protected |= is_lock;
            }
            4 => {
                self.held.insert(path.clone(), Held::new(&whole));
                protected |= !matches!(fact, Fact::Backup { .. });
            }
            5 => {
                self.dir.file(&path, "content");
                protected |= is_lock;
            }
            _ => drop(self.dir.file(&path, "")),
        }
        protected |= !whole.symlink_metadata().unwrap().is_file();
        age(&whole, hours * HOUR + 60);
        if !protected {
            self.facts.push((path, fact));
        }
    }

    /// The files that must go.
    fn doomed(&self, options: &Options) -> BTreeSet<String> {
        let reached = |path: &str| options.recursive || !path.contains('/');
        let is_file = |path: &str| self.dir.join(path).symlink_metadata().is_ok_and(|of| of.is_file());
        // Of a backup without a time in its name, all that is its own.
        let own = |group: &str| options.backups || is_file(group);
        let age = |fact: &Fact| match fact {
            Fact::Backup { seconds, dated, .. } => dated.map_or(*seconds, |(named, _)| named.min(*seconds)),
            Fact::Lock { hours } | Fact::Temp { hours } => hours * HOUR,
        };
        let newer_than = |group: &str, fact: &Fact| {
            // Newest first, by their names.
            let mut others: Vec<(u64, u64, u64)> = Vec::new();
            let mut plain = None;
            for (_, other) in &self.facts {
                match other {
                    Fact::Backup { group: g, dated: Some((named, number)), .. } if g == group => {
                        others.push((*named, u64::MAX - number, age(other)));
                    }
                    Fact::Backup { group: g, dated: None, seconds } if g == group && own(g) => plain = Some(*seconds),
                    _ => {}
                }
            }
            others.sort_unstable();
            let before_plain = plain.map(|plain| others.iter().take_while(|other| other.2 < plain).count());
            match fact {
                Fact::Backup { dated: Some((named, number)), .. } => {
                    let place = others.iter().position(|o| (o.0, o.1) == (*named, u64::MAX - number)).unwrap();
                    place + usize::from(before_plain.is_some_and(|before| before <= place))
                }
                _ => before_plain.unwrap(),
            }
        };
        let goes = |path: &str, fact: &Fact| match fact {
            Fact::Lock { hours } => {
                (options.locks || options.own && is_file(path.strip_suffix(".lock").unwrap()))
                    && options.limits.is_none_or(|(limit, _)| *hours > limit)
                    && reached(path)
            }
            Fact::Temp { hours } => {
                (options.temps || options.own)
                    && options.limits.is_none_or(|(limit, _)| *hours > limit)
                    && reached(path)
            }
            Fact::Backup { group, dated, .. } => {
                if !(options.backups || options.own) || dated.is_none() && !own(group) || !reached(path) {
                    return false;
                }
                let newer = newer_than(group, fact) as u64;
                let kept = options.keep_newest.unwrap_or(u64::from(options.own || options.limits.is_none()));
                let in_use = dated.is_none() && self.held.contains_key(&format!("{group}.lock"));
                let old = options.limits.is_none_or(|(_, limit)| age(fact) > limit * HOUR);
                newer >= kept && old && !in_use
            }
        };
        self.facts.iter().filter(|(path, fact)| goes(path, fact)).map(|(path, _)| path.clone()).collect()
    }
}

#[derive(Debug)]
struct Options {
    args: Vec<&'static str>,
    own: bool,
    locks: bool,
    backups: bool,
    temps: bool,
    recursive: bool,
    /// `--older-than` in hours: for locks and temporary files, and for backups.
    limits: Option<(u64, u64)>,
    keep_newest: Option<u64>,
}

impl Options {
    fn random(random: &mut Random) -> Options {
        let (what, [own, locks, backups, temps]) = random.one_of(&[
            (&["--clean-locks"][..], [false, true, false, false]),
            (&["--clean-backups"], [false, false, true, false]),
            (&["--clean-temps"], [false, false, false, true]),
            (&["--clean-backups", "--clean-temps", "--clean-locks"], [false, true, true, true]),
            (&["--clean-locks", "--all"], [true, true, false, false]),
            (&["--all"], [true, false, false, false]),
            (&["--all"], [true, false, false, false]),
        ]);
        let mut args = what.to_vec();
        let recursive = random.below(4) > 0;
        args.extend(recursive.then_some("-r"));
        let limits = random.one_of(&[
            None,
            Some(("--older-than=2h", (2, 2))),
            Some(("--older-than=2d", (48, 48))),
            // A bare number: hours, and days.
            Some(("--older-than=8", (8, 8 * 24))),
        ]);
        args.extend(limits.map(|(arg, _)| arg));
        let keep_newest = random.one_of(&[
            None,
            Some(("--keep-newest=0", 0)),
            Some(("--keep-newest=1", 1)),
            Some(("--keep-newest=2", 2)),
        ]);
        args.extend(keep_newest.map(|(arg, _)| arg));
        let (limits, keep_newest) = (limits.map(|(_, l)| l), keep_newest.map(|(_, k)| k));
        Options { args, own, locks, backups, temps, recursive, limits, keep_newest }
    }
}

#[test]
fn random_trees_agree_with_a_model() {
    let given = std::env::var("AWRITE_SEED").ok().map(|seed| seed.parse().unwrap());
    // Other trees each time only in the long form: chance must not decide what lands.
    let chance = if extent() == Extent::Long { u64::from(std::process::id()) << 20 } else { 0 };
    let seed: u64 = given.unwrap_or(chance | 1);
    let mut random = Random(seed);
    let trees = match extent() {
        Extent::Quick => 20,
        Extent::Full => 80,
        Extent::Long => 600,
    };
    let woods: Vec<Wood> = (0..trees).map(|_| Wood::grow(&mut random)).collect();
    // So that no temporary file is too fresh to tell.
    wait_for_ctime(woods.last().unwrap().dir.path(), Duration::from_secs(1));
    let mut deleted = 0;
    for (number, wood) in woods.iter().enumerate() {
        let options = Options::random(&mut random);
        let doomed = wood.doomed(&options);
        let before = tree(wood.dir.path());
        let context = format!("AWRITE_SEED={seed}, tree {number}, {:?}", options.args);
        for dry_run in [Some("-n"), None] {
            let done = housekeep(&wood.dir, options.args.iter().copied().chain(dry_run)).run();
            assert_eq!(done.code, Some(0), "{context}: {done:?}");
            assert_eq!(listed(&done), doomed, "{context} {dry_run:?}");
            let left = if dry_run.is_some() { before.clone() } else { &before - &doomed };
            assert_eq!(tree(wood.dir.path()), left, "{context} {dry_run:?}");
        }
        let again = housekeep(&wood.dir, options.args.iter().copied()).run();
        assert_eq!(again.stdout, "", "{context} again");
        deleted += doomed.len();
    }
    // With --all, other programs' files stay.
    assert!(deleted > rounds(0, trees), "the trees are not all of things that stay: {deleted}");
}
