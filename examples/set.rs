//! Replace two files together, or none: `cargo run --example set -- [DIRECTORY]`. Whoever takes their locks sees both old
//! contents or both new ones, at whatever point this program is killed.

use std::io::Write;
use std::path::PathBuf;

use awrite::{Set, WriteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let paths = [dir.join("awrite-example-data"), dir.join("awrite-example-index")];

    for round in 1..=2 {
        let mut set = Set::open(&paths, &WriteOptions::new())?;
        writeln!(set.file(0), "one\ntwo\nthree {round}")?;
        writeln!(set.file(1), "one 0\ntwo 4\nthree 8")?;
        let committed = set.commit()?;
        // The second time, the index is the same as before and stays as it is.
        assert_eq!([committed[0].changed, committed[1].changed], [true, round == 1]);
    }

    paths.iter().try_for_each(std::fs::remove_file)?;
    Ok(())
}
