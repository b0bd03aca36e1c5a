//! Clear away what crashed programs left below a directory, and old backups:
//! `cargo run --example housekeep -- [DIRECTORY]`.

// The crate's own sources may not print; a program may.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use awrite::{HousekeepEvent, HousekeepOptions, housekeep};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("awrite-example-dir");
    fs::create_dir_all(&dir)?;
    // The lock file of a process that was killed, backups of two days, and the lock file of another program.
    fs::write(dir.join("config"), "three")?;
    fs::write(dir.join("config.lock"), "")?;
    fs::write(dir.join("config.20260101-000000.backup"), "one")?;
    fs::write(dir.join("config.20260102-000000.backup"), "two")?;
    fs::write(dir.join("install.lock"), "")?;

    // Only what is ours.
    let options = HousekeepOptions::new().own(true).keep_newest(1).recursive(true);
    let summary = housekeep(&dir, &options, |event| {
        match event {
            HousekeepEvent::Deleted { path, .. } => println!("deleted {}", path.display()),
            HousekeepEvent::Failed(error) => eprintln!("{error}"),
            _ => {}
        }
        // `Break` would stop housekeeping.
        ControlFlow::Continue(())
    })?;

    assert_eq!((summary.locks, summary.backups, summary.failures), (1, 1, 0));
    assert!(
        summary.other_locks == 1
            && dir.join("install.lock").exists()
            && dir.join("config.20260102-000000.backup").exists()
    );
    fs::remove_dir_all(dir)?;
    Ok(())
}
