//! Replace a file: `cargo run --example write -- [DIRECTORY]`.

use std::io::Write;
use std::path::PathBuf;

use awrite::{AtomicFile, BackupOptions, WriteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = dir.join("awrite-example.txt");

    // In one call.
    awrite::write(&path, "first\n", &WriteOptions::new())?;

    // Piece by piece. The lock is held from here to the commit. Without a commit the file stays as it was.
    let options = WriteOptions::new().backup(BackupOptions::new());
    let mut file = AtomicFile::open(&path, &options)?;
    for line in 1..=3 {
        writeln!(file, "line {line}")?;
    }
    let committed = file.commit()?;
    assert_eq!(std::fs::read_to_string(&path)?, "line 1\nline 2\nline 3\n");
    let backup = committed.backup.ok_or("there is no backup")?;
    assert_eq!(std::fs::read_to_string(&backup)?, "first\n");

    // Dropped: the file stays as it was.
    let mut file = AtomicFile::open(&path, &options)?;
    writeln!(file, "never seen")?;
    drop(file);
    assert_eq!(std::fs::metadata(&path)?.len(), committed.bytes);

    std::fs::remove_file(backup)?;
    std::fs::remove_file(path)?;
    Ok(())
}
