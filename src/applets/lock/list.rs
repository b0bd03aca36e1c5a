//! `awrite-lock --list`.

use std::path::Path;

use awrite::{Error, list_holds};

use super::request::Request;
use crate::report::{self, exit, holds};

/// Lists who holds, leases or waits for what is in `dir`. What cannot be read is reported, and the rest is listed.
pub(super) fn list(dir: &Path, recursive: bool, request: &Request) -> Result<u8, Error> {
    let (mut found, mut failed) = (Vec::new(), false);
    list_holds(dir, recursive, &request.options, &request.observer, &mut |outcome| match outcome {
        Ok(hold) => found.push(hold),
        Err(error) => {
            report::error(&error);
            failed = true;
        }
    })?;
    holds::print_list(&found)?;
    Ok(if failed { exit::FAILURE } else { exit::SUCCESS })
}
