//! Modes, lists, writers and options, each with each: who may open the file and its backup afterwards could open the old
//! file before.

use std::fs;

use super::{ALICE, BOB, EVERYBODY, MEMBER, ROOT, User, make, needs_users, owned, shared_dir};
use crate::common::{TestDir, rounds, temp_name};

const MODES: &[u32] = &[0o600, 0o640, 0o660, 0o644, 0o664, 0o604, 0o606, 0o666];
const LISTS: &[&str] = &[
    "",
    "u:2002:rw",
    "u:2002:rw,u:2003:-",
    "u:2002:rw,g:3001:-",
    "u:2002:rw,u:2003:r,g:3002:-",
    "u:2002:rw,g:3002:r,m::r",
    "u:2003:-,m::rw",
];
/// With another link to the file, the backup is a copy.
const OPTIONS: &[&[&str]] = &[
    &["-b"],
    &["-b", "--no-preserve-xattrs"],
    &["-b", "--no-preserve-owner"],
    &["-b", "--lock-on-commit", "--sync=none"],
];

/// Whose file the new one is has what it holds, and alice could always have given herself access.
fn gains(writer: User, before: &[u32], dir: &TestDir, name: &str) -> Vec<String> {
    let others = EVERYBODY.iter().zip(before).filter(|(user, _)| ![ALICE.uid, writer.uid].contains(&user.uid));
    others
        .filter_map(|(user, before)| {
            let after = user.access_to(&dir.join(name));
            (after & !before != 0).then(|| format!("{user:?}: {before} before, {after} after, of {name}"))
        })
        .collect()
}

#[test]
fn nobody_gains_access() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    let (mut number, mut runs) = (0, 0);
    for &mode in MODES {
        for &list in LISTS {
            for writer in [ROOT, ALICE, MEMBER, BOB] {
                for &options in OPTIONS {
                    number += 1;
                    // 13 is no divisor of any of the numbers of cases, so each case meets many others.
                    if number % rounds(13, 1) != 0 {
                        continue;
                    }
                    let case = format!("{mode:o} {list} {writer:?} {options:?}");
                    make(&dir, "f", mode, list);
                    let _ = fs::remove_file(dir.join("g"));
                    fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
                    let before: Vec<u32> = EVERYBODY.iter().map(|user| user.access_to(&dir.join("f"))).collect();
                    let args: Vec<&str> = options.iter().copied().chain(["-f", "f"]).collect();
                    let done = writer.awrite(&dir, &args).stdin("new").run();
                    if writer.access_to(&dir.join("g")) & 4 == 0 {
                        // Who cannot read it cannot back it up.
                        done.assert_code(1);
                        continue;
                    }
                    done.ok();
                    assert_eq!((dir.read("f").as_str(), dir.read("f.backup").as_str()), ("new", "old"), "{case}");
                    runs += 1;
                    for name in ["f", "f.backup"] {
                        assert_eq!(gains(writer, &before, &dir, name), [""; 0], "{case}");
                    }
                    // And nobody loses any where all can be kept.
                    if (writer.uid == ROOT.uid || writer.uid == ALICE.uid) && options.len() != 2 {
                        assert_eq!(owned(&dir, "f"), owned(&dir, "g"), "{case}");
                    }
                    fs::remove_file(dir.join("f.backup")).unwrap();
                }
            }
        }
    }
    assert!(runs > 20, "{runs}");
}

/// Nobody but its owner may ask whether a file is open, so what looks like a dead writer's may be a living one's.
#[test]
fn another_users_temporary_file_stays() {
    if !needs_users() {
        return;
    }
    let (dir, temp) = (shared_dir(), temp_name("f"));
    make(&dir, "f", 0o666, "");
    make(&dir, &temp, 0o644, "");
    BOB.awrite(&dir, &["f"]).stdin("new").quiet_success();
    assert_eq!((dir.read("f").as_str(), dir.read(&temp).as_str()), ("new", "old"));
    ALICE.awrite(&dir, &["f"]).stdin("newer").quiet_success();
    dir.assert_holds(&["f"]);
}

/// Who may not open an empty file cannot ask whether somebody locks it. Its name tells.
#[test]
fn a_closed_file_is_a_lock_file_if_it_is_called_so() {
    if !needs_users() {
        return;
    }
    let dir = shared_dir();
    for (name, code) in [("f", 0), ("f.lock", 1)] {
        make(&dir, name, 0o600, "");
        fs::write(dir.join(name), "").unwrap();
        let done = BOB.awrite(&dir, &["--force", "--quiet", name]).stdin("new").run();
        assert!(done.assert_code(code).stderr.contains("in use") == (code == 1), "{done:?}");
        assert_eq!(dir.read(name), if code == 0 { "new" } else { "" });
    }
}
