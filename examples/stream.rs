//! Replace a file by the output of a command, however large, in constant memory:
//! `cargo run --example stream -- [DIRECTORY]`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use awrite::{AtomicFile, Committed, WriteOptions};

/// Replaces the file only if the command succeeds.
fn replace_by_output(path: &Path, command: &mut Command) -> Result<Committed, Box<dyn std::error::Error>> {
    // A slow command then blocks nobody: the library takes the lock when all input is there.
    let options = WriteOptions::new().lock_on_commit(true);
    let mut file = AtomicFile::open(path, &options)?;
    writeln!(file, "# made by a program")?;

    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("no pipe")?;
    file.add_fd(&output, Path::new("the command's output"))?;
    let status = child.wait()?;
    if !status.success() {
        // Dropped without a commit: the file stays as it was.
        return Err(format!("the command failed: {status}").into());
    }
    Ok(file.commit()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = dir.join("awrite-example-stream");

    let committed = replace_by_output(&path, Command::new("seq").arg("1000000"))?;
    assert_eq!(std::fs::metadata(&path)?.len(), committed.bytes);

    let failed = replace_by_output(&path, Command::new("sh").args(["-c", "echo half of it; exit 4"]));
    assert!(failed.is_err());
    assert_eq!(std::fs::metadata(&path)?.len(), committed.bytes);

    std::fs::remove_file(path)?;
    Ok(())
}
