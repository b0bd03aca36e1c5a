//! Symbolic links are followed, hard links are not kept.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::{Held, TestDir, assert_no_debris};

#[test]
fn a_symbolic_link_is_followed_and_stays() {
    let dir = TestDir::new();
    dir.dir("real");
    dir.file("real/f", "old");
    symlink("real/f", dir.join("one")).unwrap();
    symlink(dir.join("one"), dir.join("two")).unwrap();
    symlink("real", dir.join("dirlink")).unwrap();
    symlink("../two", dir.join("real/three")).unwrap();
    for name in ["one", "two", "dirlink/f", "real/three", "dirlink/three"] {
        dir.awrite([name]).stdin(name).quiet_success();
        assert_eq!(dir.read("real/f"), name);
    }
    assert_eq!(fs::read_link(dir.join("one")).unwrap(), Path::new("real/f"));
    assert!(!fs::symlink_metadata(dir.join("real/f")).unwrap().is_symlink());
    dir.assert_holds(&["one", "two", "real", "dirlink"]);
    assert_no_debris(&dir.join("real"), &["f", "three"]);
}

#[test]
fn all_names_of_a_file_share_one_lock() {
    let dir = TestDir::new();
    dir.dir("real");
    dir.file("real/f", "old");
    symlink("real/f", dir.join("link")).unwrap();
    symlink("real", dir.join("dirlink")).unwrap();
    let held = Held::new(&dir.join("real/f.lock"));
    for name in ["link", "dirlink/f", "real/f", "./real/../real/f"] {
        let done = dir.awrite(["--no-wait", name]).stdin("x").run();
        done.assert_error(2, &format!("Error: {name}: File locked by another process"));
    }
    held.release();
    dir.awrite(["--no-wait", "link"]).stdin("new").quiet_success();
    assert_eq!(dir.read("real/f"), "new");
    assert_no_debris(&dir.join("real"), &["f"]);
}

#[test]
fn a_dangling_link_creates_its_target() {
    let dir = TestDir::new();
    dir.dir("real");
    symlink("real/new", dir.join("link")).unwrap();
    dir.awrite(["link"]).stdin("data").quiet_success();
    assert_eq!(dir.read("real/new"), "data");
    assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
    assert_no_debris(&dir.join("real"), &["new"]);

    symlink("nowhere/new", dir.join("lost")).unwrap();
    dir.awrite(["lost"]).stdin("data").run().assert_error_with(1, &["lost: ", "no such"]);
    dir.assert_holds(&["real", "link", "lost"]);
}

#[test]
fn link_loops_are_errors() {
    let dir = TestDir::new();
    symlink("b", dir.join("a")).unwrap();
    symlink("a", dir.join("b")).unwrap();
    symlink("self", dir.join("self")).unwrap();
    for name in ["a", "self", "self/f"] {
        dir.awrite([name]).stdin("x").run().assert_error_with(1, &[&format!("{name}: "), "symbolic links"]);
    }
    dir.assert_holds(&["a", "b", "self"]);
}

/// Following links by hand must not resolve `link/..` by text: `..` means the parent of where the link leads.
#[test]
fn dots_after_a_link_mean_the_parent_of_where_it_leads() {
    let dir = TestDir::new();
    fs::create_dir_all(dir.join("a/b")).unwrap();
    symlink("a/b", dir.join("link")).unwrap();
    dir.awrite(["link/../f"]).stdin("x").quiet_success();
    assert_eq!(dir.read("a/f"), "x");
    symlink("link/../g", dir.join("indirect")).unwrap();
    dir.awrite(["indirect"]).stdin("y").quiet_success();
    assert_eq!(dir.read("a/g"), "y");
    dir.assert_holds(&["a", "link", "indirect"]);
}

/// What is replaced is the link; what can be kept is what it led to.
#[test]
fn the_backup_of_a_link_that_is_replaced_is_what_was_behind_it() {
    let dir = TestDir::new();
    for option in ["--backup", "--backup-timestamp"] {
        dir.file("f", "old");
        symlink("f", dir.join("link")).unwrap();
        dir.awrite(["--no-follow", option, "link"]).stdin("new").quiet_success();
        assert_eq!((dir.read("link").as_str(), dir.read("f").as_str()), ("new", "old"));
        assert!(!dir.join("link").is_symlink());
        let backup = dir.names().into_iter().find(|name| name != "f" && name != "link").unwrap();
        assert_eq!(dir.read(&backup), "old");
        assert!(!dir.join(&backup).is_symlink());
        fs::remove_file(dir.join(backup)).unwrap();
        fs::remove_file(dir.join("link")).unwrap();
    }
    dir.assert_holds(&["f"]);
}

#[test]
fn other_hard_links_keep_the_old_content() {
    let dir = TestDir::new();
    dir.file("f", "old");
    fs::hard_link(dir.join("f"), dir.join("other")).unwrap();
    let done = dir.awrite(["-v", "f"]).stdin("new").run();
    done.ok();
    assert!(done.stderr.contains("keep the old content"), "said at -v\n{done:#?}");
    assert_eq!((dir.read("f").as_str(), dir.read("other").as_str()), ("new", "old"));

    fs::remove_file(dir.join("other")).unwrap();
    fs::hard_link(dir.join("f"), dir.join("other")).unwrap();
    dir.awrite(["f"]).stdin("newer").quiet_success();
}
