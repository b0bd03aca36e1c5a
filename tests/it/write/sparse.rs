//! Files with holes.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use crate::common::{TestDir, say};

const MIB: u64 = 1 << 20;

/// 30 MiB, of which some KiB are there.
fn make_sparse(dir: &TestDir, name: &str) -> Option<u64> {
    let mut file = File::create(dir.join(name)).unwrap();
    file.write_all(b"head").unwrap();
    file.seek(SeekFrom::Start(11 * MIB)).unwrap();
    file.write_all(b"middle").unwrap();
    file.set_len(30 * MIB).unwrap();
    drop(file);
    let blocks = fs::metadata(dir.join(name)).unwrap().blocks();
    if blocks * 512 > MIB {
        say("skipped: needs a file system with holes");
        return None;
    }
    Some(blocks)
}

#[test]
fn holes_stay_holes() {
    for dir in [TestDir::new(), TestDir::on_disk()] {
        let Some(blocks) = make_sparse(&dir, "in") else { continue };
        let original = fs::read(dir.join("in")).unwrap();
        let few = |name: &str| {
            let now = fs::metadata(dir.join(name)).unwrap().blocks();
            assert!(now <= blocks + 64, "{name}: {now} blocks, and not {blocks}");
        };
        for args in [&["-i", "in", "f"][..], &["--stream", "-i", "in", "f"], &["--lock-on-commit", "-i", "in", "f"]] {
            dir.awrite(args).run().ok();
            few("f");
            assert!(fs::read(dir.join("f")).unwrap() == original, "{args:?}");
        }
        dir.awrite(["f"]).stdin_from(File::open(dir.join("in")).unwrap()).run().ok();
        few("f");
        assert!(fs::read(dir.join("f")).unwrap() == original);
        dir.awrite(["--backup-mode=600", "-a", "f"]).stdin("tail").run().ok();
        few("f");
        few("f.backup");
        assert!(fs::read(dir.join("f.backup")).unwrap() == original);
        assert!(fs::read(dir.join("f")).unwrap() == [&original[..], b"tail"].concat());
        // To another file system, where the kernel may not be able to copy.
        let other = TestDir::elsewhere();
        dir.awrite(["-i", "in", other.join("f").to_str().unwrap()]).run().ok();
        let there = fs::metadata(other.join("f")).unwrap();
        assert!(there.blocks() * 512 < MIB, "{} blocks", there.blocks());
        assert!(fs::read(other.join("f")).unwrap() == original);
    }
}
