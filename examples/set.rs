//! Replace several files together, or none: `cargo run --example set -- TEXT FILE...` writes TEXT and the file's name to
//! each of them. Whoever takes their locks sees all the old contents or all the new ones, whenever this is killed.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write;
use std::path::PathBuf;

use awrite::{BackupOptions, LockOptions, Notice, Observer, Set, WriteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let text = args.next().unwrap_or_else(|| "example".into());
    let mut files: Vec<PathBuf> = args.map(PathBuf::from).collect();
    if files.is_empty() {
        let dir = std::env::temp_dir();
        files = vec![dir.join("awrite-example-a"), dir.join("awrite-example-b")];
    }

    let observer = Observer::new(|notice| {
        if let Notice::Warning { path, text } | Notice::Info { path, text } = notice {
            eprintln!("{}: {text}", path.display());
        }
    });
    let mut options = WriteOptions::new().lock(LockOptions::from_env()).observer(observer);
    if std::env::var_os("BACKUP").is_some() {
        options = options.backup(BackupOptions::new());
    }
    if let Ok(owner) = std::env::var("OWNER") {
        options.lock.claim = Some(awrite::Claim::new(owner)?);
    }
    let mut set = Set::open(&files, &options)?;
    for (number, file) in files.iter().enumerate() {
        writeln!(set.file(number), "{} {}", text.to_string_lossy(), file.display())?;
    }
    for committed in set.commit()? {
        println!("{committed:?}");
    }
    Ok(())
}
