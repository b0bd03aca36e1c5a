//! What a set syncs, and when: seen by strace, since only a power cut would show what is missing.

use std::collections::BTreeSet;
use std::fs;

use super::{FILES, NEW};
use crate::common::{AWRITE, TestDir, needs_strace};

/// The syncs of a set of the files of `src`: `file` for some of them, the name of a directory, `fs`; `!` is the commit point.
/// Before and after it they are sorted: the order in which files are listed is the file system's.
fn syncs(dir: &TestDir, options: &[&str]) -> String {
    // Renames of the files themselves come between, and say nothing.
    let traced = ["-f", "-y", "-o", "trace", "-e", "trace=fsync,fdatasync,syncfs,rename,renameat,renameat2", AWRITE];
    let args = traced.iter().chain(options).chain(&["--into", "d", "src/"]);
    dir.program("strace", args).quiet_success();
    let root = format!("<{}/", fs::canonicalize(dir.path()).unwrap().display());
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    let mut is_committed = false;
    for line in dir.read("trace").lines() {
        let Some((call, rest)) = line.split_once(' ').and_then(|(_, line)| line.trim_start().split_once('(')) else {
            continue;
        };
        let path = rest.split_once(&root).and_then(|(_, path)| path.split_once('>')).map(|(path, _)| path);
        let step = match (call, path) {
            ("fsync" | "fdatasync", Some(path)) if dir.join(path).is_dir() => path,
            ("fsync" | "fdatasync", _) => "file",
            ("syncfs", _) => "fs",
            _ => {
                is_committed |= rest.contains(".awrite-set-");
                continue;
            }
        };
        seen[usize::from(is_committed)].insert(step.to_owned());
    }
    let [before, after] = seen.map(|steps| steps.into_iter().collect::<Vec<_>>().join(" "));
    format!("{before} ! {after}").trim().to_owned()
}

/// `files`, one in each of so many directories, after the three that there always are.
fn set_of(files: usize, dirs: usize) -> TestDir {
    let dir = TestDir::new();
    for made in ["d/x", "src/x"] {
        fs::create_dir_all(dir.join(made)).unwrap();
    }
    let mut all: Vec<String> = FILES.iter().map(|file| file.replacen("d/", "", 1)).collect();
    for number in 0..files - FILES.len() {
        let place = if number < dirs { format!("y{number}/") } else { String::new() };
        fs::create_dir_all(dir.join(format!("d/{place}"))).unwrap();
        fs::create_dir_all(dir.join(format!("src/{place}"))).unwrap();
        all.push(format!("{place}m{number}"));
    }
    for file in all {
        dir.file(format!("d/{file}"), "old\n");
        dir.file(format!("src/{file}"), NEW);
    }
    dir
}

#[test]
fn all_that_the_commit_relies_on_comes_before_it() {
    if !needs_strace() {
        return;
    }
    // Few files one by one, many together with the file system.
    for (files, options, expected) in [
        (3, &[][..], "d d/x file ! d d/x"),
        (3, &["--sync=data"], "file !"),
        (3, &["--sync=none"], "!"),
        (8, &[], "d d/x file ! d d/x"),
        (9, &[], "file fs ! d d/x"),
        (9, &["--sync=data"], "file fs !"),
        (9, &["--sync=none"], "!"),
    ] {
        assert_eq!(syncs(&set_of(files, 0), options), expected, "{files} {options:?}");
    }
}

/// Afterwards, many directories are synced together too.
#[test]
fn the_names_are_synced_after_it() {
    if !needs_strace() {
        return;
    }
    let each = "file fs ! d d/x d/y0 d/y1 d/y2 d/y3 d/y4 d/y5";
    for (dirs, options, expected) in
        [(6, &[][..], each), (7, &[], "file fs ! d fs"), (7, &["--sync=data"], "file fs !"), (7, &["--sync=none"], "!")]
    {
        assert_eq!(syncs(&set_of(11, dirs), options), expected, "{dirs} {options:?}");
    }
}

/// A directory that was made for a file is nothing as long as its name may be lost.
#[test]
fn so_are_those_of_new_directories() {
    if !needs_strace() {
        return;
    }
    for (files, options, expected) in [
        (3, &["-D"][..], "d d/n d/n/m d/x file ! d d/n/m d/x"),
        (3, &["-D", "--sync=data"], "file !"),
        (9, &["-D"], "file fs ! d d/n/m d/x"),
        (9, &["-D", "--sync=data"], "file fs !"),
    ] {
        let dir = set_of(files, 0);
        fs::create_dir_all(dir.join("src/n/m")).unwrap();
        dir.file("src/n/m/f", NEW);
        assert_eq!(syncs(&dir, options), expected, "{files} {options:?}");
        assert_eq!(dir.read("d/n/m/f"), NEW);
    }
}
