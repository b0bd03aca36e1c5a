//! Other users try to open whatever is in the directory, all the time, while strace makes the writer slow.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{BOB, CAROL, DAVE, EVE, MEMBER, ROOT, User, make, needs_users_and_strace, shared_dir};
use crate::common::{TestDir, chmod, rounds};

/// Before each call on a file there is time for everybody to have a look.
const SLOW: &str = "inject=%file,%desc:delay_enter=2000";
/// No link can be made: the stage has a name from the first moment, and the backup is a copy.
const NAMED: &str = "inject=linkat:error=EPERM";

fn slowed(named: bool) -> &'static [&'static str] {
    if named { &["-e", SLOW, "-e", NAMED] } else { &["-e", SLOW] }
}

/// Tries as `user` to open everything in `dir`, until told to stop. Returns what could be written, and what could be read:
/// also what was written later to a file that was still empty. Adds to `looks`.
fn try_all(user: User, dir: &Path, stop: &AtomicBool, looks: &AtomicUsize) -> Vec<String> {
    user.does(|| {
        let (mut opened, mut files) = (Vec::new(), BTreeMap::new());
        while !stop.load(Ordering::Relaxed) {
            let inside = |entry: fs::DirEntry| fs::read_dir(entry.path()).into_iter().flatten().flatten();
            let entries = || fs::read_dir(dir).unwrap().flatten();
            for entry in entries().chain(entries().flat_map(inside)) {
                let name = entry.file_name().to_string_lossy().into_owned();
                // Never has content. Whoever may write the target may open it.
                if name.ends_with(".lock") || entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                looks.fetch_add(1, Ordering::Relaxed);
                let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(entry.path());
                if let Ok(file) = file {
                    files.entry(file.metadata().unwrap().ino()).or_insert((name.clone(), file));
                }
                if fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(entry.path()).is_ok() {
                    opened.push(format!("{user:?} opened {name} for writing"));
                }
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        for (name, mut file) in files.into_values() {
            let mut content = String::new();
            if matches!(file.read_to_string(&mut content), Ok(1..)) {
                opened.push(format!("{user:?} opened {name}: {content:?}"));
            }
        }
        opened
    })
}

/// Runs `writer`'s awrite with `args`; those of `watchers` who could not open `f` before never open anything.
#[track_caller]
fn watched(dir: &TestDir, writer: User, named: bool, args: &[&str], watchers: &[User]) {
    let shut_out: Vec<User> =
        watchers.iter().copied().filter(|user| user.uid != writer.uid && user.access_to(&dir.join("f")) == 0).collect();
    assert!(!shut_out.is_empty(), "nobody is shut out: {writer:?} {args:?}");
    let (stop, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let opened: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            shut_out.iter().map(|user| scope.spawn(|| try_all(*user, dir.path(), &stop, &looks))).collect();
        let done = writer.traced(dir, slowed(named), args).env("TMPDIR", dir.path()).stdin("new").run();
        stop.store(true, Ordering::Relaxed);
        done.ok();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(looks.load(Ordering::Relaxed) > 20, "hardly anybody looked: {looks:?}");
    assert_eq!(opened, [""; 0], "{writer:?} {args:?}");
    assert_eq!(dir.read("f"), "new");
}

#[test]
fn nobody_who_is_shut_out_opens_anything_at_any_instant() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = shared_dir();
    let everybody = [CAROL, DAVE, EVE];
    let cases: &[(u32, &str, User, &[&str])] = &[
        // The mask is set narrow, with the list.
        (0o660, "u:2003:rw,m::-", ROOT, &["f"]),
        (0o640, "u:2003:-,o::r", ROOT, &["f"]),
        (0o644, "u:2003:-", ROOT, &["-b", "f"]),
        (0o660, "u:2002:rw", BOB, &["-b", "f"]),
        (0o660, "", MEMBER, &["f"]),
        (0o600, "u:2002:rw,g:3001:-,o::rw", BOB, &["f"]),
        (0o644, "u:2003:-", ROOT, &["--no-preserve-mode", "f"]),
        (0o644, "u:2003:-", ROOT, &["--no-preserve-xattrs", "-b", "f"]),
        (0o664, "g:3001:-", ROOT, &["--no-preserve-owner", "--stream", "f"]),
        (0o600, "", ROOT, &["--backup-mode=600", "--lock-on-commit", "f"]),
        (0o660, "u:2002:rw", BOB, &["-b", "--keep-inode", "f"]),
        // The copy that COMMAND edits, the journal of a set and its records.
        (0o640, "u:2003:-", ROOT, &["-b", "-e", "f", "--", "sh", "-c", "printf new >\"$1\"", "sh"]),
        (0o660, "u:2002:rw", BOB, &["-e", "f", "--", "sh", "-c", "printf new >\"$1\"", "sh"]),
        (0o640, "u:2003:-", ROOT, &["--into", ".", "private/"]),
        (0o660, "g:3001:-", ROOT, &["-b", "--into", ".", "private/"]),
    ];
    fs::write(dir.dir("private").join("f"), "new").unwrap();
    fs::write(dir.join("private/g"), "new").unwrap();
    chmod(&dir.join("private"), 0o700);
    for (number, (mode, list, writer, args)) in cases.iter().enumerate() {
        for named in [true, false] {
            // Half of them by turns when time is short.
            if rounds((number % 2 == 0) == named, true) {
                for name in ["f", "g"] {
                    make(&dir, name, *mode, list);
                }
                watched(&dir, *writer, named, args, &everybody);
                for name in ["f.backup", "g.backup"] {
                    let _ = fs::remove_file(dir.join(name));
                }
            }
        }
    }
}

/// Carol may read the file by its list until the mode that is asked for shuts her out: she never sees the new content.
#[test]
fn a_mode_that_is_asked_for_is_there_before_the_list() {
    if !needs_users_and_strace() {
        return;
    }
    let dir = shared_dir();
    for named in [true, false] {
        make(&dir, "f", 0o660, "u:2003:rw,g::-");
        assert_eq!(CAROL.access_to(&dir.join("f")), 6);
        let (stop, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
        let opened: Vec<String> = std::thread::scope(|scope| {
            let carol = scope.spawn(|| try_all(CAROL, dir.path(), &stop, &looks));
            let done = ROOT.traced(&dir, slowed(named), &["-m", "600", "f"]).stdin("new").run();
            stop.store(true, Ordering::Relaxed);
            done.ok();
            carol.join().unwrap()
        });
        let gained: Vec<&String> = opened.iter().filter(|what| !what.contains("opened f")).collect();
        assert_eq!(gained, [""; 0], "named: {named}");
        assert!(!opened.iter().any(|what| what.contains("\"new\"")));
        assert_eq!(CAROL.access_to(&dir.join("f")), 0);
    }
}
