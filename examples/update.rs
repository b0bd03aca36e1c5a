//! Change a file by its own content, from many threads at once, and lose nothing:
//! `cargo run --example update -- [DIRECTORY]`.

use std::io;
use std::path::{Path, PathBuf};

use awrite::WriteOptions;

/// Returns the new count.
fn add_one(path: &Path) -> awrite::Result<u64> {
    awrite::update(path, &WriteOptions::new(), |old, new| {
        let text = io::read_to_string(old)?;
        // If there is no file yet, this is empty. An error here leaves the file as it was, like every error.
        let count: u64 = if text.is_empty() { 0 } else { text.trim().parse().map_err(io::Error::other)? };
        writeln!(new, "{}", count + 1)?;
        Ok(count + 1)
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = dir.join("awrite-example-count");

    // The lock excludes threads of one process just as it excludes processes.
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..5).try_for_each(|_| add_one(&path).map(drop)))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    assert_eq!(std::fs::read_to_string(&path)?, "20\n");

    std::fs::remove_file(path)?;
    Ok(())
}
