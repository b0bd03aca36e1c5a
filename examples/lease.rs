//! Keep everybody else from a file during some steps of work: `cargo run --example lease -- [DIRECTORY]`.

// The crate's own sources may not print; a program may.
#![allow(clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use awrite::{Claim, ErrorKind, Lease, LockOptions, Notice, Observer, Wait, WriteOptions};

/// A step: writes as the owner of the lease. If another owner has taken the lease meanwhile, this fails.
fn step(path: &Path, claim: Claim, text: &str) -> awrite::Result<()> {
    let options = WriteOptions::new().append(true).lock(LockOptions::new().claim(claim));
    awrite::write(path, text, &options)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = dir.join("awrite-example-leased");

    let options = LockOptions::new().wait(Wait::For(Duration::from_secs(5)));
    // The library prints nothing. An observer is told what happens.
    let observer = Observer::new(|notice| match notice {
        Notice::Waiting { target, .. } => eprintln!("waiting for {}", target.display()),
        Notice::Warning { path, text } => eprintln!("{}: {text}", path.display()),
        _ => {}
    });

    let mut lease = Lease::acquire_with(&path, "example", Duration::from_secs(60), &options, &observer)?;
    for number in 1..=3 {
        step(&path, lease.claim(), &format!("step {number}\n"))?;
        // The library refreshes a lease only when it is told to.
        if lease.time_to_refresh().is_zero() {
            lease.refresh()?;
        }
    }

    // A writer without the lease is kept out.
    let no_wait = WriteOptions::new().lock(LockOptions::new().wait(Wait::No));
    let refused = awrite::write(&path, "without a lease", &no_wait);
    assert!(refused.is_err_and(|error| error.kind() == ErrorKind::Leased));

    // A detached lease outlives this process. Another process continues it with the owner and the token.
    let token = lease.detach();
    let claim = Claim::new("example")?.with_token(token);
    let lease = Lease::resume(&path, &claim, None, &options, &observer)?;
    lease.release()?;
    assert!(Lease::status(&path, &options)?.is_free());
    assert_eq!(std::fs::read_to_string(&path)?, "step 1\nstep 2\nstep 3\n");

    std::fs::remove_file(path)?;
    Ok(())
}
