//! Power cuts: the writer is killed at one of its system calls, the file system is shut down, and then somebody takes the
//! locks.

use std::fs;

use super::{BACKED_UP, MANY_BACKED_UP, Way, assert_whole, lay_out, take_locks};
use crate::common::{AWRITE, Extent, extent, needs, needs_mount, needs_strace};
use crate::power::{Disk, Journal, shut_down};
use crate::protocol::OF_NO_INTEREST;
use crate::sweep::{Point, Program};

fn points(way: &Way) -> Vec<Point> {
    let dir = crate::common::TestDir::new();
    lay_out(dir.path(), way, &[]);
    let args = way.args.iter().map(|arg| (*arg).to_owned()).collect();
    let (done, points) = Program { args, input: "", always: None, has_command: false }.points(&dir);
    done.ok();
    // A cut right before a call that changes nothing is one before the next call that does.
    let changes = |point: &Point| {
        let calls = ["linkat", "renameat", "renameat2", "unlinkat", "fsync", "syncfs", "openat"];
        !OF_NO_INTEREST.contains(&point.call.as_str()) && calls.contains(&point.call.as_str())
    };
    points.into_iter().filter(changes).collect()
}

fn all_old_or_all_new(kind: &'static str, way: &Way) {
    if !needs_mount() || !needs_strace() || !needs(&format!("mkfs.{kind}")) {
        return;
    }
    let points = points(way);
    let step = match extent() {
        Extent::Quick => 9 + points.len() / 20,
        Extent::Full => 1 + points.len() / 80,
        Extent::Long => 1,
    };
    let disk = Disk::new(kind);
    let mut outcomes = [0, 0];
    for journal in [Journal::Written, Journal::Lost] {
        for point in points.iter().step_by(step) {
            let what = format!("a power cut at {} number {}, journal {journal:?}", point.call, point.number);
            let mount = disk.mount();
            let root = disk.at.join("w");
            if root.exists() {
                fs::remove_dir_all(&root).unwrap();
            }
            lay_out(&root, way, &[]);
            rustix::fs::syncfs(fs::File::open(&root).unwrap()).unwrap();
            let inject = format!("inject={}:signal=KILL:when={}", point.call, point.number);
            let strace = ["-f", "-o", "/dev/null", "-e", &inject, AWRITE];
            let run = disk.dir.program("strace", strace.iter().chain(way.args)).current_dir(&root);
            let done = run.run();
            shut_down(&disk.at, journal);
            disk.unmount(mount);
            let mount = disk.mount();
            take_locks(&disk.dir, &root, way, &what);
            let new = assert_whole(&root, way, &[], &what);
            assert!(new || done.code != Some(0), "{what}: acknowledged and lost");
            outcomes[usize::from(new)] += 1;
            // A second cut changes nothing about it.
            shut_down(&disk.at, Journal::Lost);
            disk.unmount(mount);
            let mount = disk.mount();
            take_locks(&disk.dir, &root, way, &what);
            assert_eq!(assert_whole(&root, way, &[], &what), new, "{what}, and a second one");
            disk.unmount(mount);
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

macro_rules! on_each {
    ($($kind:ident)*) => {
        $(mod $kind {
            #[test]
            fn all_old_or_all_new() {
                super::all_old_or_all_new(stringify!($kind), &super::BACKED_UP);
            }

            #[test]
            fn many_are_all_old_or_all_new() {
                super::all_old_or_all_new(stringify!($kind), &super::MANY_BACKED_UP);
            }
        })*
    };
}

on_each! { ext4 xfs }
