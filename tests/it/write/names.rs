//! File names and paths of every kind and length.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::common::{TestDir, assert_no_debris, lock_is_held, wait_until};

#[test]
fn any_name_will_do() {
    let dir = TestDir::new();
    let names: [&[u8]; 8] = [
        b"with space",
        b"new\nline",
        b"\xff\xfe not utf-8 \x80",
        b"*?[]{}$HOME`id`\"'\\",
        b"%s%n%d",
        b"...",
        b"lock",
        "k\u{e4}se \u{1f9c0}".as_bytes(),
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        dir.awrite([Path::new(".").join(name)]).stdin("1").quiet_success();
        dir.awrite([OsStr::new("--"), name]).stdin("2").quiet_success();
        assert_eq!(dir.read(name), "2");
        fs::remove_file(dir.join(name)).unwrap();
    }
    dir.awrite(["--", "--help"]).stdin("x").quiet_success();
    dir.awrite(["./-"]).stdin("x").quiet_success();
    dir.assert_holds(&["--help", "-"]);
    // `-` would mean standard output, which cannot be replaced. Nobody wants a file called `-`.
    fs::remove_file(dir.join("-")).unwrap();
    dir.awrite(["-"]).stdin("x").run().assert_error_with(1, &["standard output"]).assert_hint("awrite --help");
    dir.assert_holds(&["--help"]);
}

#[test]
fn the_longest_names_work_and_longer_ones_are_errors() {
    let dir = TestDir::new();
    for length in [235, 240, 249, 250, 251, 254, 255] {
        let name = "n".repeat(length);
        dir.awrite([&name]).stdin("1").quiet_success();
        dir.awrite([&name]).stdin("2").quiet_success();
        assert_eq!(dir.read(&name), "2");
        fs::remove_file(dir.join(&name)).unwrap();
    }
    // Shortening a name must not cut a character in two.
    let name = "\u{1f9c0}".repeat(63);
    dir.awrite([&name]).stdin("1").quiet_success();
    dir.awrite(["--validate", "true", &name]).stdin("2").quiet_success();
    assert_eq!(dir.read(&name), "2");
    fs::remove_file(dir.join(&name)).unwrap();

    let name = "n".repeat(256);
    dir.awrite([&name]).stdin("x").run().assert_error(1, &format!("Error: {name}: File name too long"));
    let path = format!("{}f", "./".repeat(3000));
    dir.awrite([&path]).stdin("x").run().assert_error(1, &format!("Error: {path}: File name too long"));
    dir.assert_holds(&[]);
}

/// Up to 250 bytes, `.lock` fits behind the name. All processes shorten a longer name in the same way.
#[test]
fn long_names_lock_each_other_out() {
    let dir = TestDir::new();
    for length in [250, 251, 255] {
        let name = "n".repeat(length);
        let mut holder = dir.awrite([&name]).stdin_open().spawn();
        wait_until("there is a lock file", || !dir.names().is_empty());
        let lock = dir.names().into_iter().next().unwrap();
        wait_until("the lock is held", || lock_is_held(&dir.join(&lock)));
        if length == 250 {
            assert_eq!(lock, OsStr::new(&format!("{name}.lock")));
        }
        assert!(lock.as_bytes().ends_with(b".lock"), "{lock:?}");
        let absolute = dir.join(&name);
        dir.awrite([OsStr::new("-n"), absolute.as_os_str()]).stdin("x").run().assert_code(2);
        // Another long name with the same beginning is another file.
        let other = format!("{}m", &name[1..]);
        dir.awrite(["-n", &other]).stdin("x").quiet_success();
        fs::remove_file(dir.join(other)).unwrap();
        holder.feed(b"held");
        holder.finish().ok();
        assert_eq!(dir.read(&name), "held");
        fs::remove_file(dir.join(name)).unwrap();
        dir.assert_holds(&[]);
    }
}

#[test]
fn paths_of_all_kinds_mean_what_the_kernel_says() {
    let dir = TestDir::new();
    dir.dir("sub");
    let absolute = dir.join("sub/f");
    for (number, name) in ["sub/f", "./sub/f", "sub//f", "sub/./f", "sub/../sub/f"].iter().enumerate() {
        dir.awrite([name]).stdin(number.to_string()).quiet_success();
        assert_eq!(dir.read("sub/f"), number.to_string());
    }
    dir.awrite([absolute]).stdin("absolute").quiet_success();
    assert_eq!(dir.read("sub/f"), "absolute");
    assert_no_debris(&dir.join("sub"), &["f"]);
}
