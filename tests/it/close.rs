//! Errors of close(2), which closes the descriptor nevertheless. One close decides: that of a copy of the descriptor of what
//! has been written, before it takes the target's place. There FUSE and network file systems tell what has become of the
//! content (src/sys/call.rs, `flush`). Any other close is of what has been synced, or only read, and its error is nobody's.
//! No descriptor is ever closed twice. The sweeps of protocol.rs and of the sets let each close fail, too.

use std::fs;

use crate::common::{Extent, TestDir, extent, needs_strace};
use crate::sweep::{Point, Program};

const OLD: &str = "old content\n";
const NEW: &str = "the new content\n";

/// Ways to write `f`, and how many files each writes whose content must have arrived.
const WAYS: &[(&[&str], usize)] = &[
    (&["f"], 1),
    (&["--stream", "f"], 1),
    (&["--sync=none", "f"], 1),
    (&["--lock-on-commit", "f"], 1),
    // The record of the lock, too.
    (&["--lock-method=link", "f"], 2),
    (&["-i", "in", "f"], 1),
    (&["-e", "f", "--", "sh", "-c", "cat in >\"$1\"", "sh"], 1),
    (&["f", "--", "cat", "in"], 1),
    (&["--verify", "--if-match=sha256:40eda80edfc38b36bdcdc408aa6ff2cc40b708e46ece9dfd2b2801a05a18a5fc", "f"], 1),
    // Before the check, and before the rename.
    (&["--validate", "exit 0", "f"], 2),
    (&["-b", "f"], 1),
    // The backup is a copy.
    (&["--backup-mode=600", "f"], 2),
    // And what the set leaves for whoever finds it half-way: the record of the targets, and the journal.
    (&["--into", "d", "src/"], 5),
    (&["lock", "f", "--", "cp", "in", "f"], 0),
];

fn lay_out() -> TestDir {
    let dir = TestDir::new();
    for made in ["d", "src"] {
        dir.dir(made);
        for name in ["f", "g", "h"] {
            dir.file(format!("{made}/{name}"), if made == "d" { OLD } else { NEW });
        }
    }
    dir.file("f", OLD);
    dir.file("in", NEW);
    dir
}

/// The content of the targets, which must be the same.
fn content(dir: &TestDir, args: &[&str]) -> String {
    let files = if args[0] == "--into" { &["d/f", "d/g", "d/h"][..] } else { &["f"] };
    let contents: Vec<String> = files.iter().map(|file| dir.read(file)).collect();
    assert!(contents.iter().all(|content| *content == contents[0]), "{args:?}: {contents:?}");
    contents[0].clone()
}

fn is_loader_s(file: &str) -> bool {
    file.ends_with("/ld.so.cache") || file.contains(".so.")
}

#[test]
fn the_close_that_decides_is_an_error_and_no_other_is() {
    // Of strace only its right to trace.
    if !needs_strace() {
        return;
    }
    for (args, decisive) in WAYS {
        let words = args.iter().map(|arg| (*arg).to_owned()).collect();
        let program = Program { args: words, input: NEW, always: None, has_command: false };
        let fail = |number: usize, error: &str| {
            let dir = lay_out();
            let point = Point { call: "close".into(), number, follow: true };
            let (done, closes) = program.close_fails_at(&dir, &point, error);
            (dir, done, closes)
        };
        let (dir, done, closes) = fail(0, "EIO");
        done.ok();
        assert_eq!(content(&dir, args), NEW, "{args:?}");
        for error in
            if extent() < Extent::Long { &["ENOSPC", "EINTR"][..] } else { &["ENOSPC", "EDQUOT", "EIO", "EINTR"] }
        {
            let mut decided = 0;
            // Not the loader's: it fails, and closes the descriptor again.
            let first = closes.iter().take_while(|close| is_loader_s(&close.file)).count() + 1;
            for number in first..=closes.len() {
                let (dir, done, _) = fail(number, error);
                let what = format!("{error} from close number {number} of {args:?}: {done:?}");
                assert!(matches!(done.code, Some(0 | 1)), "{what}");
                let failed = done.code == Some(1);
                assert_eq!(content(&dir, args), if failed { OLD } else { NEW }, "{what}");
                decided += usize::from(failed);
                let backups = dir.names().into_iter().filter(|name| name.to_str().unwrap().ends_with(".backup"));
                let backups: Vec<_> = backups.collect();
                // There is one with the new content, and none without.
                assert_eq!(backups.len(), usize::from(!failed && args[0].contains("-b")), "{what}");
                for place in [dir.path().to_owned(), dir.join("d")] {
                    for entry in fs::read_dir(place).unwrap() {
                        let name = entry.unwrap().file_name().into_string().unwrap();
                        assert!(!name.starts_with(".awrite-") && !name.ends_with(".lock"), "{what}: {name} is left");
                    }
                }
            }
            // What a signal has interrupted is tried again.
            let expected = if *error == "EINTR" { 0 } else { *decisive };
            assert_eq!(decided, expected, "of {} closes of {args:?} with {error}", closes.len());
        }
    }
}
