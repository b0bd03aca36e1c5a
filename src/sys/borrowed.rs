//! Descriptors that this process may have inherited.

use std::os::fd::{AsFd, BorrowedFd, RawFd};

/// A descriptor that this process may have inherited: a number of which nothing is known.
#[derive(Clone, Copy)]
pub(crate) struct Borrowed(RawFd);

impl Borrowed {
    /// The descriptor `number`, if it is open.
    pub(crate) fn number(number: RawFd) -> Option<Borrowed> {
        let borrowed = Borrowed(number);
        (number >= 0 && rustix::io::fcntl_getfd(borrowed.as_fd()).is_ok()).then_some(borrowed)
    }
}

impl AsFd for Borrowed {
    // Not owned by anything here: should another thread close it, or open something else under that number, system calls
    // on it fail or tell what it is now. No memory depends on it.
    #[allow(unsafe_code)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: not -1, which `number` has made sure of.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}
