//! Errors that only bad file systems have: at the close of a file, in its sync, one after the other. `tests/fuse/faulty.py`
//! is such a file system.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Done, TestDir, names_in, needs, needs_mount, wait_until};
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
        self.dir.awrite(args).current_dir(&self.at).stdin("the new content").run()
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

const WAYS: &[&[&str]] = &[
    &["f"],
    &["--stream", "f"],
    &["--sync", "none", "f"],
    &["--lock-on-commit", "f"],
    &["--append", "f"],
    &["f", "--", "echo", "new"],
    &["--backup", "f"],
    &["--backup-mode", "600", "f"],
    &["--sync", "none", "--backup-timestamp", "f"],
    &["--lock-method", "link", "f"],
];

#[test]
fn without_a_fault_all_is_well() {
    if !needs_faulty() {
        return;
    }
    for faults in [&[][..], &["keep-until-flush"], &["fsync=ENOSYS"], &["keep-until-flush", "fsync=ENOSYS"]] {
        let faulty = Faulty::new(faults);
        for way in WAYS {
            faulty.file("f", "old\n");
            faulty.awrite(way).ok();
            let expected = match way {
                ["--append", ..] => "old\nthe new content",
                [.., "new"] => "new\n",
                _ => "the new content",
            };
            assert_eq!(faulty.read("f"), expected, "{faults:?} {way:?}");
            for name in names_in(&faulty.dir.join("backing")) {
                if name != "f" {
                    let name = name.to_str().unwrap();
                    assert!(name.ends_with(".backup"), "{faults:?} {way:?}: {name}");
                    assert_eq!(faulty.read(name), "old\n", "{faults:?} {way:?}");
                    fs::remove_file(faulty.dir.join("backing").join(name)).unwrap();
                }
            }
        }
    }
}

/// As `cp` does, awrite says so, and the file and its earlier backup are as before.
#[test]
fn no_space_at_the_close_is_an_error() {
    if !needs_faulty() {
        return;
    }
    for faults in [
        &["keep-until-flush", "flush=ENOSPC", "fsync=ENOSYS"][..],
        &["flush=ENOSPC"],
        &["flush=EDQUOT", "fsync=ENOSYS"],
        &["fsync=ENOSPC"],
    ] {
        let faulty = Faulty::new(faults);
        for way in WAYS {
            if *faults == ["fsync=ENOSPC"] && way.contains(&"none") {
                continue;
            }
            faulty.file("f", "old\n");
            faulty.file("f.backup", "earlier\n");
            let done = faulty.awrite(way);
            done.assert_error_with(1, &[if faults[0] == "flush=EDQUOT" { "quota" } else { "No space left on device" }]);
            assert_eq!((faulty.read("f"), faulty.read("f.backup")), ("old\n".into(), "earlier\n".into()), "{way:?}");
            faulty.assert_holds(&["f", "f.backup"]);
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
    for way in WAYS {
        faulty.file("f", "old\n");
        faulty.awrite(way).ok();
        assert!(faulty.read("f").contains("new"), "{way:?}");
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
    faulty.file("f", "old\n");
    for option in ["--quiet", "--sync=none"] {
        let done = faulty.dir.awrite(["--keep-inode", option, "f"]).current_dir(&faulty.at).stdin("new").run();
        done.assert_error_with(1, &["Error: f: ", "No space left on device"]);
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
    // A record of a lock that reads back differently is nobody's.
    let ways = WAYS.iter().filter(|way| !way.contains(&"none") && !way.contains(&"link"));
    let more: [&[&str]; 4] = [
        &["--validate", "exit 0", "f"],
        &["--input", "in", "f"],
        &["--lock-on-commit", "--append", "f"],
        &["--if-match", "absent", "new"],
    ];
    for way in ways.copied().chain(more) {
        faulty.file("f", "old\n");
        faulty.dir.file("backing/in", &content);
        faulty.file("f.backup", "earlier\n");
        let args = ["--verify"].iter().chain(way);
        let done = faulty.dir.awrite(args).current_dir(&faulty.at).stdin(&*content).run();
        done.assert_error_with(1, &["The new content was written, but reads back differently"]);
        done.assert_hint("the target is unchanged");
        assert_eq!((faulty.read("f"), faulty.read("f.backup")), ("old\n".into(), "earlier\n".into()), "{way:?}");
        faulty.assert_holds(&["f", "f.backup", "in"]);
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
