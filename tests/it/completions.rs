//! The completions in pkg/completions, each in its own shell.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::{TestDir, needs};

/// What is typed, and what is offered.
const CASES: [(&[&str], &[&str]); 25] = [
    (&["awrite", "--lo"], &["--lock-dir", "--lock-file", "--lock-method", "--lock-mode", "--lock-on-commit"]),
    (&["awrite", "--token"], &["--token"]),
    (&["awrite", "--sync", ""], &["data", "full", "none"]),
    (&["awrite", "--lock-method", "f"], &["flock"]),
    (&["awrite", "--completions", ""], &["bash", "fish", "zsh"]),
    (&["awrite", "lock", "--acq"], &["--acquire"]),
    (&["awrite-lock", "--re"], &["--reason", "--recursive", "--refresh", "--release"]),
    (&["awrite", "housekeep", "--cl"], &["--clean-backups", "--clean-locks", "--clean-temps"]),
    (&["awrite-housekeep", "--ke"], &["--keep-newest"]),
    (&["atomic-write", "--val"], &["--validate"]),
    (&["awrite", "fi"], &["file-one", "file-two"]),
    (&["awrite", "-i", "file-o"], &["file-one"]),
    (&["awrite", "--lock-dir", "d"], &["dir-one"]),
    (&["awrite-housekeep", "d"], &["dir-one"]),
    (&["awrite", "file-one", "--", "test-comm"], &["test-command"]),
    (&["awrite", "loc"], &["lock"]),
    (&["awrite", "hous"], &["housekeep"]),
    (&["atomic-write", "hous"], &["housekeep"]),
    (&["awrite", "file-one", "hous"], &[]),
    (&["awrite", "lock", "hous"], &[]),
    (&["awrite-lock", "hous"], &[]),
    (&["awrite", "lock", "fi"], &["file-one", "file-two"]),
    (&["awrite", "housekeep", "-r", "d"], &["dir-one"]),
    (&["awrite", "lock", "-n", "file-one", "--", "test-comm"], &["test-command"]),
    (&["awrite-lock", "-E", "5", "file-two", "--", "test-comm"], &["test-command"]),
];

/// A directory in which the cases are played.
fn place() -> TestDir {
    let dir = TestDir::new();
    for name in ["file-one", "file-two", "dfile"] {
        dir.file(name, "");
    }
    dir.dir("dir-one");
    dir.dir("bin");
    dir.file_with_mode("bin/test-command", "#!/bin/sh\n", 0o755);
    dir
}

fn path_of(dir: &TestDir) -> String {
    format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap())
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg/completions").join(name);
    path.to_str().unwrap().to_owned()
}

/// Compares what a shell offers, a line each, with what it should.
#[track_caller]
fn compare(shell: &str, typed: &[&str], offered: &str, wanted: &[&str]) {
    let offered: BTreeSet<&str> =
        offered.lines().map(|line| line.trim_end_matches(['/', ' '])).filter(|line| !line.is_empty()).collect();
    let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
    assert_eq!(offered, wanted, "{shell}: {typed:?}");
}

#[test]
fn bash_offers_what_fits() {
    if !needs("bash") {
        return;
    }
    let dir = place();
    let script = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE=$*; COMP_POINT=${#COMP_LINE}
        function=$(complete -p "$1") && function=${function#*-F } && ${function%% *} && printf '%s\n' "${COMPREPLY[@]}""#;
    let bash = |typed: &[&str]| {
        let bash = ["--norc", "--noprofile", "-c", script, "-", &file("awrite.bash")].map(str::to_owned);
        let run = dir.program("bash", bash.into_iter().chain(typed.iter().map(|&word| word.to_owned())));
        let done = run.env("PATH", path_of(&dir)).run();
        done.ok();
        assert_eq!(done.stderr, "");
        done.stdout
    };
    for (typed, wanted) in CASES {
        compare("bash", typed, &bash(typed), wanted);
    }
    // bash splits this into three words.
    compare("bash", &["--sync=d"], &bash(&["awrite", "--sync", "=", "d"]), &["data"]);
    compare("bash", &["--sync="], &bash(&["awrite", "--sync", "="]), &["data", "full", "none"]);
}

/// With the bash-completion package, as most have it, COMMAND is completed by its own rules.
#[test]
fn bash_completes_the_command_by_its_own_rules() {
    const PACKAGE: &str = "/usr/share/bash-completion/bash_completion";
    if !needs("bash") || !Path::new(PACKAGE).exists() {
        return;
    }
    let dir = place();
    let script = r#"source "$1"; source "$2"; COMP_WORDS=(awrite lock file-one -- sort --rev) COMP_CWORD=5
        COMP_LINE=${COMP_WORDS[*]} COMP_POINT=${#COMP_LINE}; _awrite_any awrite --rev sort; printf '%s\n' "${COMPREPLY[@]}""#;
    let done = dir.program("bash", ["--norc", "-c", script, "-", PACKAGE, &file("awrite.bash")]).run();
    // compopt(1) says on standard error that this is no terminal's line.
    compare("bash", &["sort", "--rev"], &done.stdout, &["--reverse"]);
}

#[test]
fn fish_offers_what_fits() {
    if !needs("fish") {
        return;
    }
    let dir = place();
    let fish = |line: &str| {
        let script = "source $argv[1]; complete -C $argv[2]";
        let done = dir.program("fish", ["-c", script, &file("awrite.fish"), line]);
        let done = done.env("PATH", path_of(&dir)).env("HOME", dir.path()).run();
        done.ok();
        assert_eq!(done.stderr, "");
        done.stdout.lines().map(|line| format!("{}\n", line.split('\t').next().unwrap())).collect::<String>()
    };
    for (typed, wanted) in CASES {
        compare("fish", typed, &fish(&typed.join(" ")), wanted);
    }
    compare("fish", &["--sync=d"], &fish("awrite --sync=d"), &["--sync=data"]);
}

/// In a terminal: a zsh that has its completion system as users have it types the line and a tab. What is offered to
/// its `compadd` is noted.
#[test]
fn zsh_offers_what_fits() {
    if !needs("zsh") {
        return;
    }
    let dir = place();
    dir.dir("functions");
    std::fs::copy(file("_awrite"), dir.join("functions/_awrite")).unwrap();
    dir.file(
        "setup.zsh",
        r#"PS1= PS2= RPS1=
        unsetopt beep
        fpath=($PWD/functions $fpath)
        autoload -Uz compinit && compinit -u -D
        zstyle ':completion:*' verbose no
        compadd() {
            local -a hits
            # Asked to put its matches into an array it adds none.
            if (( ! ${argv[(I)-[OAD]*]} )); then
                builtin compadd -O hits "$@"
                (( $#hits )) && print -rl -- $hits >>offered
            fi
            builtin compadd "$@"
        }
        ended() { : >ended; }
        note() { comppostfuncs=(ended); zle complete-word; }
        zle -C complete-word complete-word _main_complete
        zle -N note
        bindkey '^I' note '^U' kill-whole-line
        : >ready
        "#,
    );
    let lines: Vec<String> = CASES.iter().map(|(typed, _)| typed.join(" ")).collect();
    let script = r#"zmodload zsh/zpty || exit
        await() { local i; for ((i = 0; i < 3000; i++)); do [[ -e $1 ]] && return; zpty -rt inner >/dev/null; sleep 0.01; done; return 1; }
        zpty -b inner 'zsh -f -i'
        zpty -w inner 'source ./setup.zsh'
        await ready || exit 9
        for line; do
            rm -f offered ended
            zpty -wn inner $'\x15'"$line"$'\t'
            await ended || exit 8
            print -r -- "== $line"
            cat offered 2>/dev/null
        done
        zpty -d inner; exit 0"#;
    let words = ["-f", "-c", script, "-"].map(str::to_owned);
    let run = dir.program("zsh", words.into_iter().chain(lines));
    let done = run.env("PATH", path_of(&dir)).env("TERM", "dumb").env("HOME", dir.path()).run();
    done.ok();
    let offers: Vec<&str> = done.stdout.split("== ").skip(1).collect();
    assert_eq!(offers.len(), CASES.len(), "{done:?}");
    for ((typed, wanted), offered) in CASES.into_iter().zip(offers) {
        compare("zsh", typed, offered.split_once('\n').unwrap().1, wanted);
    }
}
