//! Errors that only bad file systems have: at the close of a file, in its sync, one after the other. `tests/fuse/faulty.py`
//! is such a file system.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{AWRITE, Done, TestDir, names_in, needs, needs_mount, needs_strace, rounds, wait_until};
use crate::filesystems::Mount;

/// Debian installs the module for its own interpreter only.
const PYTHON: &str = "/usr/bin/python3";

/// A directory that fails as it is told to, until it is dropped.
struct Faulty {
    dir: TestDir,
    at: PathBuf,
    server: Child,
}

impl Faulty {
    fn new(faults: &[&str]) -> Faulty {
        let dir = TestDir::new();
        let (backing, at) = (dir.dir("backing"), dir.dir("at"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuse/faulty.py");
        let mut server = Command::new(PYTHON);
        server.arg(script).args([&backing, &at]).args(faults).stdin(Stdio::null()).process_group(0);
        let server = server.spawn().unwrap();
        let faulty = Faulty { dir, at, server };
        wait_until("it is mounted", || {
            fs::read_to_string("/proc/self/mountinfo").unwrap().contains(faulty.at.to_str().unwrap())
        });
        faulty
    }

    /// Without any fault.
    fn file(&self, name: &str, content: &str) {
        self.dir.file(Path::new("backing").join(name), content);
    }

    fn read(&self, name: &str) -> String {
        self.dir.read(Path::new("backing").join(name))
    }

    fn awrite(&self, args: &[&str]) -> Done {
        self.dir.awrite(args).current_dir(&self.at).stdin(NEW).run()
    }

    fn assert_holds(&self, expected: &[&str]) {
        let names: Vec<_> = names_in(&self.dir.join("backing")).into_iter().collect();
        assert_eq!(names, expected);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        // Lazily, for a failed test may have something open. The server ends with the mount.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn needs_faulty() -> bool {
    let has_module = || {
        let status = Command::new(PYTHON).args(["-c", "import fusepy"]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    needs_mount()
        && if Path::new("/dev/fuse").exists() && has_module() { true } else { needs("python3-fusepy and /dev/fuse") }
}

/// Every way to write `f`, or the files in `d`. All but the appending one make NEW of OLD.
const WAYS: &[&[&str]] = &[
    &["f"],
    &["--stream", "f"],
    &["--sync", "none", "f"],
    &["--lock-on-commit", "f"],
    &["--append", "f"],
    &["f", "--", "printf", "%s", NEW],
    &["-e", "f", "--", "sh", "-c", "printf 'the new content' >\"$1\"", "sh"],
    &["-i", "in", "f"],
    &["--validate", "exit 0", "f"],
    &["--backup", "f"],
    &["--backup-mode", "600", "f"],
    &["--sync", "none", "--backup-timestamp", "f"],
    &["--lock-method", "link", "f"],
    &["--into", "d", "src/"],
    &["--into", "d", "--backup", "src/"],
    &["--into", "d", "--sync", "none", "src/"],
];

/// Ways that write over the old content: there is no way back.
const OVER: &[&[&str]] = &[&["--keep-inode", "f"], &["--in-place", "f"]];

const OLD: &str = "old\n";
const NEW: &str = "the new content";
const EARLIER: &str = "earlier\n";
/// What the directory holds before.
const LAID_OUT: [&str; 5] = ["d", "f", "f.backup", "in", "src"];

fn targets(way: &[&str]) -> &'static [&'static str] {
    if way[0] == "--into" { &["d/f", "d/g"] } else { &["f"] }
}

impl Faulty {
    /// The files that a way is about, with an earlier backup of each.
    fn lay_out(&self, content: &str) {
        let backing = self.dir.join("backing");
        for entry in fs::read_dir(&backing).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        for made in ["d", "src"] {
            fs::create_dir(backing.join(made)).unwrap();
        }
        for name in ["f", "d/f", "d/g"] {
            self.file(name, OLD);
            self.file(&format!("{name}.backup"), EARLIER);
        }
        for name in ["in", "src/f", "src/g"] {
            self.file(name, content);
        }
    }

    /// Nothing has changed, and nothing is left.
    #[track_caller]
    fn assert_unchanged(&self, what: &str) {
        for name in ["f", "d/f", "d/g"] {
            assert_eq!(self.read(name), OLD, "{what}");
            assert_eq!(self.read(&format!("{name}.backup")), EARLIER, "{what}");
        }
        self.assert_holds(&LAID_OUT);
        let names: Vec<_> = names_in(&self.dir.join("backing/d")).into_iter().collect();
        assert_eq!(names, ["f", "f.backup", "g", "g.backup"], "{what}");
    }

    /// All targets are new, and so is each backup that was asked for.
    #[track_caller]
    fn assert_replaced(&self, way: &[&str], what: &str) {
        for name in targets(way) {
            let expected = if way.contains(&"--append") { "old\nthe new content" } else { NEW };
            assert_eq!(self.read(name), expected, "{what}");
            let replaces = way.contains(&"--backup") || way.contains(&"--backup-mode");
            assert_eq!(self.read(&format!("{name}.backup")), if replaces { OLD } else { EARLIER }, "{what}");
        }
        let dated = way.contains(&"--backup-timestamp");
        for name in names_in(&self.dir.join("backing")).into_iter().chain(names_in(&self.dir.join("backing/d"))) {
            let name = name.to_str().unwrap();
            let known = LAID_OUT.contains(&name) || ["g", "g.backup"].contains(&name);
            assert!(known || dated && self.read(name) == OLD, "{what}: {name}");
        }
    }
}

/// All ways, or a third of them by turns when time is short.
fn some<'a>(
    round: usize,
    ways: impl Iterator<Item = &'a &'static [&'static str]>,
) -> impl Iterator<Item = &'a &'static [&'static str]> {
    let step = rounds(3, 1);
    ways.skip(round % step).step_by(step)
}

/// Whatever a file system keeps until a flush, and whatever it lacks, a success is one.
#[test]
fn without_an_error_all_is_well() {
    if !needs_faulty() {
        return;
    }
    for (round, faults) in [
        &[][..],
        &["keep-until-flush"],
        &["fsync=ENOSYS"],
        &["keep-until-flush", "fsync=ENOSYS"],
        &["link=EPERM"],
        &["link=ENOSYS", "keep-until-flush", "fsync=ENOSYS"],
    ]
    .into_iter()
    .enumerate()
    {
        let faulty = Faulty::new(faults);
        for way in some(round, WAYS.iter().chain(OVER)) {
            // Which says that there are no links.
            if faults[..].iter().any(|fault| fault.starts_with("link")) && way.contains(&"link") {
                continue;
            }
            faulty.lay_out(NEW);
            let what = format!("{faults:?} {way:?}");
            let done = faulty.awrite(way);
            assert_eq!(done.code, Some(0), "{what}: {done:?}");
            faulty.assert_replaced(way, &what);
        }
    }
}

/// As `cp` does, awrite says so, and the file and its earlier backup are as before.
#[test]
fn no_space_at_the_close_is_an_error() {
    if !needs_faulty() {
        return;
    }
    for (round, faults) in [
        &["keep-until-flush", "flush=ENOSPC", "fsync=ENOSYS"][..],
        &["flush=ENOSPC"],
        &["flush=EDQUOT", "fsync=ENOSYS"],
        &["flush=EIO", "link=EPERM"],
        &["fsync=ENOSPC"],
    ]
    .into_iter()
    .enumerate()
    {
        let faulty = Faulty::new(faults);
        for way in some(round, WAYS.iter()) {
            if *faults == ["fsync=ENOSPC"] && way.contains(&"none") || faults.len() == 2 && way.contains(&"link") {
                continue;
            }
            faulty.lay_out(NEW);
            let done = faulty.awrite(way);
            let reason = match faults[0] {
                "flush=EDQUOT" => "quota",
                "flush=EIO" => "Input/output error",
                _ => "No space left on device",
            };
            done.assert_error_with(1, &[reason]);
            faulty.assert_unchanged(&format!("{faults:?} {way:?}"));
        }
    }
}

/// The last close is answered before the file system is asked: nobody can be told.
#[test]
fn an_error_of_the_last_close_is_nobody_s() {
    if !needs_faulty() {
        return;
    }
    let faulty = Faulty::new(&["release=EIO"]);
    for way in WAYS.iter().chain(OVER) {
        faulty.lay_out(NEW);
        faulty.awrite(way).ok();
        faulty.assert_replaced(way, &format!("{way:?}"));
    }
}

/// Neither of the two ways to lock is there: that is said, and nothing is written.
#[test]
fn without_links_and_flock_nothing_is_locked() {
    if !needs_faulty() || !needs_strace() {
        return;
    }
    let without_flock = |faulty: &Faulty, way: &[&str]| {
        let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=flock:error=ENOSYS", AWRITE];
        let all: Vec<&str> = strace.iter().chain(way).copied().collect();
        faulty.dir.program("strace", all).current_dir(&faulty.at).stdin(NEW).run()
    };
    let faulty = Faulty::new(&["link=EPERM"]);
    for way in some(0, WAYS.iter()) {
        faulty.lay_out(NEW);
        without_flock(&faulty, way).assert_error_with(1, &["lock"]);
        faulty.assert_unchanged(&format!("{way:?}"));
    }
    // With links there is a way.
    let faulty = Faulty::new(&[]);
    for way in some(1, WAYS.iter()) {
        faulty.lay_out(NEW);
        without_flock(&faulty, way).ok();
        faulty.assert_replaced(way, &format!("{way:?}"));
    }
}

/// It is there that the backup is lost, and nothing may be replaced then.
#[test]
fn a_backup_that_arrives_nowhere_is_none() {
    if !needs_faulty() {
        return;
    }
    let faulty = Faulty::new(&["keep-until-flush", "flush=ENOSPC", "fsync=ENOSYS"]);
    let dir = TestDir::new();
    dir.file("f", "old");
    let before = dir.snapshot("f");
    faulty.file("f.backup", "earlier");
    for option in ["--quiet", "--sync=none", "--backup-timestamp"] {
        let args = ["--backup-dir", faulty.at.to_str().unwrap(), option, "f"];
        let done = dir.awrite(args).stdin("new").run();
        done.assert_error_with(1, &["cannot make the backup: No space left on device"]);
        assert_eq!(dir.snapshot("f"), before);
        dir.assert_holds(&["f"]);
        faulty.assert_holds(&["f.backup"]);
        assert_eq!(faulty.read("f.backup"), "earlier");
    }
}

/// Where the file itself is written into there is no way back, so it is said what it is now.
#[test]
fn overwriting_that_does_not_arrive_is_said() {
    if !needs_faulty() {
        return;
    }
    let faulty = Faulty::new(&["keep-until-flush", "flush=ENOSPC", "fsync=ENOSYS"]);
    for way in OVER {
        for option in ["--quiet", "--sync=none"] {
            faulty.lay_out(NEW);
            let done = faulty.awrite(&[&[option], *way].concat());
            done.assert_error_with(1, &["Error: f: ", "No space left on device"]);
        }
    }
}

/// A disk that returns other bytes than were written. They are only seen if they do not come from memory, where whole pages
/// of what was written are.
#[test]
fn what_reads_back_differently_is_not_committed() {
    if !needs_faulty() {
        return;
    }
    let faulty = Faulty::new(&["flip"]);
    let content = "x".repeat(65_536);
    // A record of a lock or of a set that reads back differently is nobody's.
    let ways = WAYS.iter().filter(|way| !["none", "link", "--into"].iter().any(|word| way.contains(word)));
    let more: [&[&str]; 2] = [&["--lock-on-commit", "--append", "f"], &["--if-match", "absent", "new"]];
    for way in ways.copied().chain(more) {
        faulty.lay_out(&content);
        let args = ["--verify"].iter().chain(way);
        let done = faulty.dir.awrite(args).current_dir(&faulty.at).stdin(&*content).run();
        done.assert_error_with(1, &["The new content was written, but reads back differently"]);
        done.assert_hint("the target is unchanged");
        faulty.assert_unchanged(&format!("{way:?}"));
    }
    // Without the option nobody notices.
    faulty.dir.awrite(["f"]).current_dir(&faulty.at).stdin(&*content).run().ok();
    // What has been overwritten cannot be taken back, and is said.
    let args = ["--verify", "--keep-inode", "--sync=data", "f"];
    let done = faulty.dir.awrite(args).current_dir(&faulty.at).stdin(&*content).run();
    done.assert_error_with(1, &["reads back differently"]);
    faulty.file("f", "old\n");
    let mounted = Mount::bind(&faulty.at.join("f"), &faulty.at.join("f"));
    let args = ["--verify", "--in-place", "f"];
    let done = faulty.dir.awrite(args).current_dir(&faulty.at).stdin(&*content).run();
    done.assert_error_with(1, &["reads back differently"]);
    assert!(!done.stderr.contains("unchanged"), "{done:?}");
    drop(mounted);
    // That a digest is known is no wish to have it verified.
    faulty.dir.awrite(["--if-match", "absent", "new"]).current_dir(&faulty.at).stdin(&*content).run().ok();
}

/// Neither of a set, whether few or many: none of the files is replaced.
#[test]
fn no_file_of_a_set_is_lost_at_the_close() {
    if !needs_faulty() {
        return;
    }
    let faulty = Faulty::new(&["keep-until-flush", "flush=ENOSPC", "fsync=ENOSYS"]);
    faulty.dir.dir("src");
    for number in 0..12 {
        let name = format!("f{number:02}");
        faulty.file(&name, "old\n");
        faulty.dir.file(format!("src/{name}"), "the new content");
        if number == 1 || number == 11 {
            let done = faulty.awrite(&["--into", ".", "../src/"]);
            done.assert_error_with(1, &["No space left on device"]);
            let names = names_in(&faulty.dir.join("backing"));
            assert_eq!(names.len(), number + 1, "{names:?}");
            assert!(names.iter().all(|name| faulty.read(name.to_str().unwrap()) == "old\n"), "{number}");
        }
    }
}

/// A change of a few bytes that leaves no trace, as within one tick of the clock: the times count only once they are some
/// ticks old.
#[test]
fn a_change_that_no_time_tells_of_is_found() {
    if !needs_faulty() {
        return;
    }
    let faulty = Faulty::new(&["frozen"]);
    for way in [&["f"][..], &["--stream", "f"], &["--append", "f"], &["--backup", "f"], &["--keep-inode", "f"]] {
        faulty.file("f", "old");
        let args = ["--if-match-file", "f", "--validate", "printf odd >f"];
        let done = faulty.awrite(&[&args[..], way].concat());
        done.assert_error(4, "Error: f: Not what was expected");
        assert_eq!(faulty.read("f"), "odd", "{way:?}");
        faulty.assert_holds(&["f"]);
    }
}

/// As on eCryptfs: what stands behind a name, or before it, makes it too long, and it is cut. Every program arrives at the
/// same lock.
#[test]
fn names_that_end_early() {
    if !needs_faulty() {
        return;
    }
    let faulty = Faulty::new(&["short-names"]);
    for length in [120, 126, 127, 138, 139, 143] {
        let name = "n".repeat(length);
        for args in [&[&*name][..], &["--lock-method=link", &name], &["--stream", &name]] {
            let done = faulty.awrite(args);
            assert_eq!(done.code, Some(0), "{length}: {args:?}: {done:?}");
            assert_eq!(faulty.read(&name), "the new content");
            faulty.assert_holds(&[&name]);
        }
        // The lock is one and the same, and is cut the same way by everybody.
        let held =
            faulty.awrite(&["lock", &name, "--", "sh", "-c", "ls | grep -c lock; echo x | \"$BIN\" -n -q $0", &name]);
        assert_eq!((held.code, held.stdout.as_str()), (Some(0), "1\n"), "{length}: {held:?}");
        let leased = faulty.awrite(&["lock", "--acquire", "--owner=me", "--ttl=1h", &name]);
        assert_eq!(leased.code, Some(0), "{length}: {leased:?}");
        assert_eq!(faulty.awrite(&["-n", &name]).code, Some(2), "{length}");
        assert_eq!(faulty.awrite(&["lock", "--release", "--owner=me", &name]).code, Some(0));
        for left in names_in(&faulty.dir.join("backing")) {
            fs::remove_file(faulty.dir.join("backing").join(left)).unwrap();
        }
    }
    assert_ne!(faulty.awrite(&[&"n".repeat(144)]).code, Some(0));
}
