//! The events of `--json` have the fields that the manual pages name, and no others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::common::{Held, TestDir};
use crate::manual::page;

/// Each event and its fields.
type Fields = BTreeMap<String, BTreeSet<String>>;

/// The fields that every event has.
const COMMON: [&str; 4] = ["time", "level", "event", "message"];

/// The words of the lines `.Cm a , b ,` of a part of a page. Values of fields stand in lines `.Pq Cm …`.
fn words(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(".Cm "));
    lines.flat_map(|line| line.split([' ', ',', '.', ':'])).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What the pages say.
fn told() -> Fields {
    let mut told = Fields::new();
    let lock_page = page("awrite-lock.1");
    let of_a_lease =
        words(lock_page.split("The fields of a lease are\n").nth(1).unwrap().split("On standard").next().unwrap());
    assert_eq!(of_a_lease.len(), 11, "{of_a_lease:?}");
    for name in ["awrite.1", "awrite-lock.1", "awrite-housekeep.1"] {
        let page = page(name);
        let section = page.split(".Sh DIAGNOSTICS\n").nth(1).unwrap().split(".Sh ").next().unwrap();
        for item in section.split(".It Cm ").skip(1) {
            let (events, text) = item.split_once('\n').unwrap();
            if COMMON.contains(&events) {
                continue;
            }
            let text = text.split(".El\n").next().unwrap();
            let mut fields = words(text);
            if text.contains("fields of a lease") || text.contains("fields of the lease") {
                fields.extend(of_a_lease.iter().cloned());
            }
            for event in events.split(" , ") {
                told.entry(event.to_owned()).or_default().extend(fields.iter().cloned());
            }
        }
    }
    told
}

/// Adds what `script` prints as JSON, on whichever stream. The commands have their names and `--json`.
fn add(seen: &mut Fields, dir: &TestDir, script: &str) {
    let names = "awrite() { \"$BIN\" --json \"$@\"; }; lock() { \"$BIN\" lock --json \"$@\"; }
        housekeep() { \"$BIN\" housekeep --json \"$@\"; }\n";
    let done = dir.sh(&format!("{names}{script}")).run();
    let lines = done.stdout.lines().chain(done.stderr.lines());
    for event in lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(name) = event["event"].as_str() else { continue };
        let fields = event.as_object().unwrap().keys().filter(|key| !COMMON.contains(&key.as_str()));
        seen.entry(name.to_owned()).or_default().extend(fields.cloned());
    }
}

#[test]
fn events_have_the_fields_that_the_pages_name() {
    let mut seen = Fields::new();
    for script in [
        "echo 1 | awrite -vv --verify --backup-keep 1 f; echo 2 | awrite --verify --backup-keep 1 f
        TZ=UTC-5 awrite --backup-keep 1 f -- echo 3",
        "ln f other; echo 1 | awrite f; echo 1 | awrite --dry-run f",
        "echo 1 | awrite none/f; echo 1 | awrite --if-match absent f; awrite --if-match absent f -- echo",
        // A warning, and what a signal in the check of a file with a name removes.
        "lock f.lock -- true",
        "echo 1 | awrite --validate 'kill $PPID; while :; do sleep 1; done' f",
        "lock --acquire --owner A --ttl 60 f; lock --refresh --owner A f; lock --status f; lock --list
        echo 1 | awrite -w 1ms f
        lock --release --owner A f; lock --acquire --owner A --ttl 60 f; lock --break f
        lock --owner A --ttl 60 f -- true",
        ": >f; echo 1 >f.backup; : >f.lock; mkdir .git; housekeep --clean-locks --dry-run; housekeep --all -rv
        : >f.lock; housekeep --clean-locks --locks-older-than 1h -vv; housekeep --all none",
    ] {
        let dir = TestDir::on_disk();
        dir.file("f", "old\n");
        add(&mut seen, &dir, script);
    }
    let dir = TestDir::on_disk();
    let held = Held::new(&dir.join("f.lock"));
    add(&mut seen, &dir, "echo 1 | awrite -w 10ms f; lock --status f; lock --list");
    held.release();
    let told = told();
    let events: BTreeSet<&String> = told.keys().chain(seen.keys()).collect();
    assert!(events.len() > 20, "{events:?}");
    for event in events {
        assert_eq!(seen.get(event), told.get(event), "{event}: (what is printed, what the pages say)");
    }
}
