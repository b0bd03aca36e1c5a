//! Hold a file's lock during something that is not a write: `cargo run --example lock -- [DIRECTORY]`.

// The crate's own sources may not print; a program may.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Duration;

use awrite::{ErrorKind, FileLock, LockOptions, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = dir.join("awrite-example-locked");

    // AWRITE_LOCK_DIR and AWRITE_KEEP_LOCK count here as they do for the command.
    let options = LockOptions::from_env().wait(Wait::For(Duration::from_secs(5)));
    let lock = FileLock::acquire(&path, &options)?;

    // Nobody else gets the lock meanwhile: no process, and no other thread of this one.
    match FileLock::acquire(&path, &options.clone().wait(Wait::No)) {
        Err(error) if error.kind() == ErrorKind::LockBusy => {
            println!("{error}");
            if let Some(hint) = error.hint() {
                println!("{hint}");
            }
        }
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("two holders of one lock".into()),
    }

    // Dropping the lock releases it too, but cannot report an error.
    lock.release()?;
    FileLock::acquire(&path, &options)?.release()?;
    Ok(())
}
