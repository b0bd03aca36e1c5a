//! The descriptor of a stage that the caller has, and account of what was written through it.

use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd};

use super::AtomicFile;
use crate::copy;
use crate::digest::Hasher;
use crate::error::Result;
use crate::sys::FileStatus;

impl AtomicFile {
    /// The descriptor of the new content, which begins with what was written so far: a regular file, open for reading and
    /// writing, at its end. The commit takes the file as it is then, and what is in it beyond the old content of
    /// [`append`](crate::WriteOptions::append) counts as input. If a digest is wanted, it reads the file once more.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub fn descriptor(&mut self) -> Result<BorrowedFd<'_>> {
        let input = self.input;
        let size = FileStatus::of(&self.stage()?.0.file).map_err(|e| self.target.failed(e))?.size;
        self.lent.get_or_insert(size.saturating_sub(input));
        Ok(self.stage()?.0.file.as_fd())
    }

    /// Takes account of what was written through the descriptor.
    pub(super) fn take_back(&mut self) -> Result<()> {
        let (Some(before), Some(stage)) = (self.lent, &self.stage) else { return Ok(()) };
        let failed = |e: io::Error| self.target.failed(e);
        self.input = FileStatus::of(&stage.file).map_err(failed)?.size.saturating_sub(before);
        if let Some(hasher) = &mut self.hasher {
            *hasher = Hasher::default();
            (&stage.file).rewind().map_err(failed)?;
            copy::hash(&stage.file, u64::MAX, hasher).map_err(failed)?;
        }
        Ok(())
    }
}
