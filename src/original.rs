//! The file that is about to be replaced, as it was found under the lock.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::sys::{FileStatus, xattr};

/// The attribute that an access control list is kept in (acl(5), linux/xattr.h).
pub(crate) const ACL: &CStr = c"system.posix_acl_access";

/// The file that is replaced, opened under the lock.
#[derive(Debug)]
pub(crate) struct Original {
    pub(crate) status: FileStatus,
    /// `None`: this user may write it but not read it.
    file: Option<File>,
    /// The access control list of a file that may not be read. Reading the list takes no right to the file.
    unread_acl: Option<Vec<u8>>,
}

impl Original {
    /// A regular file that could be opened.
    pub(crate) fn readable(status: FileStatus, file: File) -> Original {
        Original { status, file: Some(file), unread_acl: None }
    }

    /// A regular file at `path` that this user may not read.
    pub(crate) fn unreadable(status: FileStatus, path: &Path) -> Original {
        Original { status, file: None, unread_acl: xattr::get_at(path, ACL).ok() }
    }

    /// A file that has been removed; only its status is known. Its set-id bits are not kept.
    pub(crate) fn gone(status: FileStatus) -> Original {
        Original { status: FileStatus { mode: status.mode & !0o6000, ..status }, file: None, unread_acl: None }
    }

    /// Its content.
    pub(crate) fn content(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))
    }

    /// Its access control list, where it has one and that can be read.
    pub(crate) fn acl(&self) -> Option<Vec<u8>> {
        self.file.as_ref().map_or_else(|| self.unread_acl.clone(), acl_of)
    }

    pub(crate) fn into_content(self) -> io::Result<File> {
        self.file.ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))
    }
}

/// The access control list of an open file; `None` where it has none, or none that can be read.
fn acl_of(file: &File) -> Option<Vec<u8>> {
    xattr::get(file, ACL).ok()
}
