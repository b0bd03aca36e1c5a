//! The examples for shells, each in every shell that can read it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{TestDir, needs};

fn examples(ending: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    found.sort();
    found
}

/// Runs every example with this ending by the words `shell`.
#[track_caller]
fn all_succeed(shell: &[&str], ending: &str) {
    let examples = examples(ending);
    assert!(!examples.is_empty());
    for example in examples {
        let (dir, applets) = (TestDir::new(), TestDir::new());
        dir.awrite(["--install".as_ref(), applets.path().as_os_str()]).quiet_success();
        let words = shell[1..].iter().map(|&word| word.to_owned()).chain([example.to_str().unwrap().to_owned()]);
        let path = format!("{}:{}", applets.path().display(), std::env::var("PATH").unwrap());
        let done = dir.program(shell[0], words).env("PATH", path).env("HOME", dir.path()).run();
        assert_eq!(done.code, Some(0), "{shell:?} {}\n{done:?}", example.display());
        // They work in a directory of their own, and take it away.
        let left = dir.names().into_iter().filter(|name| !name.to_str().unwrap().starts_with('.')).count();
        assert_eq!(left, 0, "{shell:?} {}: {:?}", example.display(), dir.names());
    }
}

#[test]
fn the_examples_run_under_sh() {
    all_succeed(&["sh"], "sh");
}

#[test]
fn the_examples_run_under_dash() {
    if needs("dash") {
        all_succeed(&["dash"], "sh");
    }
}

#[test]
fn the_examples_run_under_bash() {
    if needs("bash") {
        all_succeed(&["bash"], "sh");
        all_succeed(&["bash", "--posix"], "sh");
    }
}

/// As itself too: nothing in them depends on how words are split.
#[test]
fn the_examples_run_under_zsh() {
    if needs("zsh") {
        all_succeed(&["zsh", "--emulate", "sh", "-f"], "sh");
        all_succeed(&["zsh", "-f"], "sh");
    }
}

#[test]
fn the_examples_run_under_busybox() {
    if needs("busybox") {
        all_succeed(&["busybox", "sh"], "sh");
    }
}

#[test]
fn the_examples_for_fish_run() {
    if needs("fish") {
        all_succeed(&["fish"], "fish");
    }
}
