//! The file that is about to be replaced, as it was found under the lock.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::acl::{self, List};
use crate::sys::{FileStatus, xattr};

/// What is known of a file's access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Acl {
    /// It has none.
    Absent,
    Known(List),
    /// It may have one, but that cannot be read.
    Unknown,
}

/// The file that is replaced, opened under the lock.
#[derive(Debug)]
pub(crate) struct Original {
    pub(crate) status: FileStatus,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Open(File),
    /// This user may write it but not read it. To list its attributes and to read its list takes no right to the file.
    Unreadable {
        attributes: io::Result<Vec<CString>>,
        acl: Acl,
    },
    /// It has been removed. Nobody can tell by now what its list was.
    Gone,
}

impl Original {
    /// A regular file that could be opened.
    pub(crate) fn readable(status: FileStatus, file: File) -> Original {
        Original { status, content: Content::Open(file) }
    }

    /// A regular file at `path` that this user may not read.
    pub(crate) fn unreadable(status: FileStatus, path: &Path) -> Original {
        let attributes = xattr::list_at(path).map_err(io::Error::from);
        let acl = known(xattr::get_at(path, acl::ATTRIBUTE));
        Original { status, content: Content::Unreadable { attributes, acl } }
    }

    /// A file that has been removed; only its status is known. Its set-id bits are not kept.
    pub(crate) fn gone(status: FileStatus) -> Original {
        Original { status: FileStatus { mode: status.mode & !0o6000, ..status }, content: Content::Gone }
    }

    /// Its content.
    pub(crate) fn content(&self) -> io::Result<&File> {
        match &self.content {
            Content::Open(file) => Ok(file),
            _ => Err(io::Error::from_raw_os_error(libc::EACCES)),
        }
    }

    pub(crate) fn is_readable(&self) -> bool {
        matches!(self.content, Content::Open(_))
    }

    /// The names of its extended attributes.
    pub(crate) fn attributes(&self) -> io::Result<Vec<CString>> {
        match &self.content {
            Content::Open(file) => Ok(xattr::list(file)?),
            Content::Unreadable { attributes: Ok(names), .. } => Ok(names.clone()),
            Content::Unreadable { .. } => Err(io::Error::from_raw_os_error(libc::EACCES)),
            Content::Gone => Ok(Vec::new()),
        }
    }

    /// Its access control list.
    pub(crate) fn acl(&self) -> Acl {
        match &self.content {
            Content::Open(file) => known(xattr::get(file, acl::ATTRIBUTE)),
            Content::Unreadable { acl, .. } => acl.clone(),
            Content::Gone => Acl::Absent,
        }
    }

    pub(crate) fn into_content(self) -> io::Result<File> {
        match self.content {
            Content::Open(file) => Ok(file),
            _ => Err(io::Error::from_raw_os_error(libc::EACCES)),
        }
    }
}

fn known(attribute: rustix::io::Result<Option<Vec<u8>>>) -> Acl {
    match attribute {
        Ok(None) => Acl::Absent,
        Ok(Some(bytes)) => List::parse(&bytes).map_or(Acl::Unknown, Acl::Known),
        Err(_) => Acl::Unknown,
    }
}
