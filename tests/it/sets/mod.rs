//! Several files replaced together: whatever happens to the writer, whoever takes the locks afterwards finds all of them
//! old, or all of them new. `src/lease/set.rs` has the protocol.

mod backups;
mod hostile;
mod interrupted;
mod power;
mod synced;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::TestDir;

/// The targets. The last one is in another directory.
const FILES: [&str; 3] = ["d/a", "d/b", "d/x/c"];
const OLD: &str = "old\n";
const NEW: &str = "the new content\n";
const OLDER: &str = "an earlier backup\n";

/// More of them: these are synced together.
const MORE: [&str; 8] = ["d/m1", "d/m2", "d/m3", "d/m4", "d/x/m5", "d/x/m6", "d/x/m7", "d/x/m8"];

/// How the files are replaced.
#[derive(Clone, Copy)]
struct Way {
    args: &'static [&'static str],
    backup: bool,
    /// The writer has a lease of each of them.
    leased: bool,
    link: bool,
    more: bool,
}

impl Way {
    fn files(&self) -> Vec<&'static str> {
        let more = if self.more { &MORE[..] } else { &[] };
        FILES.iter().chain(more).copied().collect()
    }
}

const PLAIN: Way = Way { args: &["--into", "d", "src/"], backup: false, leased: false, link: false, more: false };
const BACKED_UP: Way = Way { args: &["-b", "--into", "d", "src/"], backup: true, ..PLAIN };
const LEASED: Way = Way { args: &["--owner=A", "--into", "d", "src/"], leased: true, ..PLAIN };
const MANY: Way = Way { more: true, ..PLAIN };
const MANY_BACKED_UP: Way = Way { more: true, ..BACKED_UP };
const LINKED: Way = Way { args: &["--lock-method=link", "--into", "d", "src/"], link: true, ..PLAIN };

/// The old files, and what replaces them, below `root`; the records of leases of A.
fn lay_out(root: &Path, way: &Way, leases: &[Vec<u8>]) {
    for made in ["d/x", "src/x"] {
        fs::create_dir_all(root.join(made)).unwrap();
    }
    for (number, file) in way.files().into_iter().enumerate() {
        fs::write(root.join(file), OLD).unwrap();
        fs::write(root.join(file.replacen('d', "src", 1)), NEW).unwrap();
        if way.backup && number == 0 {
            fs::write(root.join(format!("{file}.backup")), OLDER).unwrap();
        }
        if way.leased {
            fs::write(root.join(format!("{file}.lease")), &leases[number]).unwrap();
        }
    }
}

/// Long leases of A of the files.
fn leases() -> Vec<Vec<u8>> {
    let dir = TestDir::new();
    dir.dir("d");
    dir.dir("d/x");
    let record = |file: &str| {
        dir.awrite(["lock", "--acquire", "--owner=A", "--ttl=10h", file]).run().ok();
        fs::read(dir.join(format!("{file}.lease"))).unwrap()
    };
    FILES.iter().map(|file| record(file)).collect()
}

/// What everybody does who takes the locks of all the files, one after the other.
#[track_caller]
fn take_locks(dir: &TestDir, root: &Path, way: &Way, what: &str) {
    let owner = if way.leased { "--owner=A" } else { "--quiet" };
    // A holder by link(2) that was killed is recognised on this host.
    let method = if way.link { "--lock-method=link" } else { "--lock-method=flock" };
    for file in way.files() {
        let done = dir.awrite(["lock", "--no-wait", owner, method, file, "--", "true"]).current_dir(root).run();
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{file} after {what}");
    }
}

/// All old or all new, with the backups and leases that go with it. True: new.
#[track_caller]
fn assert_whole(root: &Path, way: &Way, leases: &[Vec<u8>], what: &str) -> bool {
    let read = |name: &str| fs::read_to_string(root.join(name)).ok();
    let contents: Vec<String> = way.files().into_iter().map(|file| read(file).unwrap()).collect();
    let new = contents[0] == NEW;
    assert!(contents.iter().all(|content| content == if new { NEW } else { OLD }), "{what}: {contents:?}");
    for (number, file) in way.files().into_iter().enumerate() {
        let backup = read(&format!("{file}.backup"));
        let expected = match (way.backup, new) {
            (true, true) => Some(OLD),
            (true, false) if number == 0 => Some(OLDER),
            _ => None,
        };
        assert_eq!(backup.as_deref(), expected, "{what}: backup of {file}");
        if way.leased {
            assert_eq!(
                fs::read(root.join(format!("{file}.lease"))).unwrap(),
                leases[number],
                "{what}: lease of {file}"
            );
        }
    }
    new
}

/// What is there beside the files, their backups and their leases.
fn debris(root: &Path, way: &Way) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for dir in ["d", "d/x"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let path = format!("{dir}/{}", entry.unwrap().file_name().into_string().unwrap());
            let belongs = way.files().into_iter().any(|file| {
                path == file
                    || way.backup && path == format!("{file}.backup")
                    || way.leased && path == format!("{file}.lease")
            });
            if !belongs && path != "d/x" {
                names.insert(path);
            }
        }
    }
    names
}
