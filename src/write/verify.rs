//! Reading back what was written ([`WriteOptions::verify`](crate::WriteOptions::verify)).

use std::fs::File;
use std::io::{self, Seek};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::expect::digest_of;
use crate::sys;
use crate::target::Target;

/// Makes sure that `file`, which becomes the content of `target`, contains what was `received`. If it has been synced, the
/// device is asked, as far as the system allows: a file system in memory has none.
pub(super) fn verify(mut file: &File, received: Digest, target: &Target) -> Result<()> {
    sys::forget_cached(file);
    let fail = |e: io::Error| target.failed(e).during("cannot read the new content back");
    file.rewind().map_err(fail)?;
    if digest_of(file).map_err(fail)? == received {
        return Ok(());
    }
    let reason = "The new content was written, but reads back differently";
    Err(Error::new(ErrorKind::Io, reason).on(&target.given).with_hint("the target is unchanged; check the disk"))
}
