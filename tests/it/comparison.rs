//! The README's table that compares awrite with other tools: each cell is measured here.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::{Held, Run, TestDir, needs, needs_mount, needs_strace, somebody_waits_for, wait_until};

/// A way to make the output of `./make` the content of `f`. `$T` is a directory for temporary files.
struct Peer {
    column: &'static str,
    needs: &'static [&'static str],
    form: &'static str,
}

const PEERS: [Peer; 7] = [
    Peer { column: "`>`", needs: &[], form: "./make > f" },
    Peer { column: "`tee`", needs: &[], form: "./make | tee f > /dev/null" },
    Peer { column: "`sponge`", needs: &["sponge"], form: "./make | TMPDIR=$T sponge f" },
    Peer { column: "`install`", needs: &["install"], form: "./make > $T/new && install $T/new f" },
    Peer { column: "`mv`", needs: &[], form: "./make > $T/new && mv $T/new f" },
    Peer { column: "`flock` + `mv`", needs: &["flock"], form: "flock f.lock sh -c './make > $T/new && mv $T/new f'" },
    Peer { column: "`awrite`", needs: &[], form: "$BIN f -- ./make" },
];

impl Peer {
    /// Its form as a process in `dir`, where `./make` is this script. `elsewhere`: what it keeps for the time being is
    /// on another file system, mounted for it.
    fn replacing(&self, dir: &TestDir, make: &str, elsewhere: bool) -> Run {
        self.under(dir, make, elsewhere, "")
    }

    /// The same, run by the words `by`.
    fn under(&self, dir: &TestDir, make: &str, elsewhere: bool, by: &str) -> Run {
        script(dir, make);
        let form = self.form;
        let run = if elsewhere {
            dir.sh(&format!("{IN_A_NAMESPACE} 'mount -t tmpfs none /mnt && exec {by} sh -c \"$1\"' - \"$1\""))
        } else {
            dir.sh(&format!("exec {by} sh -c \"$1\""))
        };
        run.arg("-").arg(form).env("T", if elsewhere { "/mnt" } else { "." })
    }

    fn is_there(&self) -> bool {
        self.needs.iter().all(|name| needs(name))
    }
}

const IN_A_NAMESPACE: &str = "exec unshare --mount sh -c";

fn script(dir: &TestDir, make: &str) {
    dir.script("make", &format!("#!/bin/sh\n{make}\n"));
}

/// A directory with a file `f`.
fn with_f() -> TestDir {
    let dir = TestDir::new();
    dir.file_with_mode("f", "old\n", 0o644);
    dir
}

fn yes_or_no(holds: bool) -> String {
    if holds { "yes" } else { "no" }.to_owned()
}

/// Some ways fail if the temporary file is on another file system.
fn on_one_or_two(holds: impl Fn(bool) -> bool) -> String {
    match (holds(false), holds(true)) {
        (true, false) => "on one file system".to_owned(),
        (true, true) => "yes".to_owned(),
        (false, _) => "no".to_owned(),
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What is compared

/// The system calls with which `f` was replaced.
fn traced(peer: &Peer, elsewhere: bool) -> String {
    let dir = with_f();
    let calls = "open,openat,creat,rename,renameat,renameat2,unlink,unlinkat,truncate,fsync,fdatasync,sync,syncfs";
    let by = format!("strace -f -qq -o log -e trace={calls}");
    peer.under(&dir, "echo new", elsewhere, &by).run().ok();
    assert_eq!(dir.read("f"), "new\n", "{}", peer.column);
    dir.read("log")
}

fn is_never_partial(peer: &Peer) -> String {
    on_one_or_two(|elsewhere| {
        let log = traced(peer, elsewhere);
        let lines = log.lines().filter(|line| line.contains("\"f\"") && !line.contains(") = -1"));
        let bad = |line: &&str| line.contains("O_TRUNC") || line.contains("unlink") || line.contains("creat(");
        lines.clone().count() > 0 && lines.filter(bad).count() == 0
    })
}

fn is_durable(peer: &Peer) -> String {
    yes_or_no(traced(peer, false).lines().any(|line| line.contains("sync") && line.ends_with(" = 0")))
}

fn takes_turns(peer: &Peer) -> String {
    let dir = with_f();
    let held = Held::new(&dir.join("f.lock"));
    let mut run = peer.replacing(&dir, "echo new", false).spawn();
    wait_until("it ends or waits for the lock", || run.has_ended() || somebody_waits_for(held.inode()));
    yes_or_no(!run.has_ended())
}

fn can_filter(peer: &Peer) -> String {
    let dir = with_f();
    // More than fits into a pipe, so that nobody has read it all before it is emptied.
    dir.file("f", "a".repeat(4 << 20));
    peer.replacing(&dir, "exec tr a b < f", false).run();
    yes_or_no(dir.read("f") == "b".repeat(4 << 20))
}

/// One has read the file and not written it yet when another comes to change it.
fn keeps_both_changes(peer: &Peer) -> String {
    let dir = with_f();
    dir.file("f", "0\n");
    dir.dir("A");
    dir.dir("B");
    let make =
        "read -r n <f; if [ $T = A ]; then : >has-read; until [ -e go ]; do sleep 0.01; done; fi; echo $((n + 1))";
    let mut first = peer.replacing(&dir, make, false).env("T", "A").spawn();
    wait_until("the first has read", || {
        assert!(!first.has_ended(), "{}: {}", peer.column, first.stderr());
        dir.join("has-read").exists()
    });
    let mut second = dir.sh(peer.form).env("T", "B").spawn();
    let waits = || fs::metadata(dir.join("f.lock")).is_ok_and(|lock| somebody_waits_for(lock.ino()));
    wait_until("the second ends or waits", || second.has_ended() || waits());
    dir.file("go", "");
    first.finish().ok();
    second.finish().ok();
    yes_or_no(dir.read("f") == "2\n")
}

fn notices_failure(peer: &Peer) -> String {
    let dir = with_f();
    peer.replacing(&dir, "echo half; exit 4", false).run();
    yes_or_no(dir.read("f") == "old\n")
}

fn survives_a_full_disk(peer: &Peer) -> String {
    on_one_or_two(|elsewhere| {
        let dir = TestDir::new();
        dir.dir("disk");
        script(&dir, "exec head -c 2097152 /dev/zero");
        let t = if elsewhere { ".." } else { "." };
        let form = peer.form;
        let done = dir
            .sh(&format!(
                "{IN_A_NAMESPACE} 'mount -t tmpfs -o size=1m none disk && cd disk && cp ../make . && echo old >f || exit 9
                sh -c \"$1\"; cat f' - \"$1\""
            ))
            .arg("-")
            .arg(form)
            .env("T", t)
            .run();
        assert_ne!(done.code, Some(9), "{done:?}");
        done.stdout == "old\n"
    })
}

fn keeps_the_mode(peer: &Peer) -> String {
    let dir = with_f();
    dir.file_with_mode("f", "old\n", 0o640);
    peer.replacing(&dir, "echo new", false).run().ok();
    yes_or_no(dir.mode("f") == 0o640)
}

fn keeps_attributes(peer: &Peer) -> String {
    let dir = with_f();
    dir.sh("setfattr -n user.awrite -v kept f").quiet_success();
    peer.replacing(&dir, "echo new", false).run().ok();
    yes_or_no(dir.sh("getfattr --only-values -n user.awrite f").run().stdout == "kept")
}

fn keeps_a_link(peer: &Peer) -> String {
    let dir = with_f();
    dir.sh("mv f real && ln -s real f").quiet_success();
    peer.replacing(&dir, "echo new", false).run().ok();
    yes_or_no(dir.join("f").is_symlink() && dir.read("real") == "new\n")
}

/// Whether `holds` is true of the form, or of it with an option of awrite's.
fn perhaps_with(option: &str, peer: &Peer, holds: impl Fn(&str) -> bool) -> String {
    if !holds(peer.form) && holds(&peer.form.replacen("$BIN", &format!("$BIN {option}"), 1)) {
        return format!("`{option}`");
    }
    yes_or_no(holds(peer.form))
}

fn keeps_the_inode(peer: &Peer) -> String {
    perhaps_with("--keep-inode", peer, |form| {
        let dir = with_f();
        script(&dir, "echo new");
        dir.sh("ln f other").quiet_success();
        dir.sh(form).env("T", ".").run().ok();
        dir.read("other") == "new\n"
    })
}

fn works_on_a_mount(peer: &Peer) -> String {
    perhaps_with("--in-place", peer, |form| {
        let dir = with_f();
        dir.file("volume", "old\n");
        script(&dir, "echo new");
        dir.sh(&format!("{IN_A_NAMESPACE} 'mount --bind volume f && sh -c \"$1\"' - \"$1\""))
            .arg("-")
            .arg(form)
            .env("T", ".")
            .run();
        dir.read("volume") == "new\n"
    })
}

// ---------------------------------------------------------------------------------------------------------------------

struct Row {
    label: &'static str,
    measure: fn(&Peer) -> String,
    can: fn() -> bool,
}

const ROWS: [Row; 12] = [
    Row {
        label: "readers find the old or the new content, never none or a part",
        measure: is_never_partial,
        can: || needs_strace() && needs_mount(),
    },
    Row { label: "what is there on return survives power loss", measure: is_durable, can: needs_strace },
    Row { label: "writers take turns", measure: takes_turns, can: || true },
    Row { label: "`filter < f` can be written back to `f`", measure: can_filter, can: || true },
    Row { label: "of two changes at once both count", measure: keeps_both_changes, can: || true },
    Row { label: "a command that fails leaves `f` alone", measure: notices_failure, can: || true },
    Row { label: "a full disk leaves `f` alone", measure: survives_a_full_disk, can: needs_mount },
    Row { label: "keeps the mode", measure: keeps_the_mode, can: || true },
    Row { label: "keeps ACLs and other extended attributes", measure: keeps_attributes, can: || needs("setfattr") },
    Row { label: "keeps a symbolic link", measure: keeps_a_link, can: || true },
    Row { label: "other hard links get the new content", measure: keeps_the_inode, can: || true },
    Row { label: "works on a file that is mounted", measure: works_on_a_mount, can: needs_mount },
];

#[test]
fn each_cell_of_the_comparison_is_so() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let columns = rows.iter().find(|cells| cells.contains(&"`flock` + `mv`")).expect("the table of peers");
    let row = |label: &str| rows.iter().find(|cells| cells[0] == label);
    let mut wrong = Vec::new();
    for Row { label, measure, can } in ROWS {
        if !can() {
            continue;
        }
        let mut measured = vec![label.to_owned()];
        for peer in PEERS.iter().filter(|peer| peer.is_there()) {
            let cell = measure(peer);
            let column = columns.iter().position(|column| *column == peer.column).unwrap();
            if row(label).is_none_or(|row| row[column] != cell) {
                measured.push(format!("{}: {cell}", peer.column));
            }
        }
        if measured.len() > 1 {
            wrong.push(measured.join(" | "));
        }
    }
    assert!(wrong.is_empty(), "the README says otherwise:\n{}", wrong.join("\n"));
    // Every row of the table is one of these.
    let first = rows.iter().position(|cells| cells == columns).unwrap();
    for cells in rows[first + 1..].iter().take_while(|cells| cells.len() == columns.len()) {
        assert!(ROWS.iter().any(|row| row.label == cells[0]), "{cells:?}");
    }
}
