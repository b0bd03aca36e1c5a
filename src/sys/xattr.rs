//! Extended attributes, where rustix has calls for them: on Linux and macOS. FreeBSD has other calls (extattr(2)); there, a
//! file counts as having none, as it does on a file system without attributes.

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod calls {
    use std::ffi::{CStr, CString};
    use std::fs::File;
    use std::path::Path;

    use rustix::buffer::spare_capacity;
    use rustix::fs::XattrFlags;
    use rustix::io::{Errno, Result};

    /// The error for an attribute that is not there. On macOS ENODATA means something else.
    #[cfg(not(target_vendor = "apple"))]
    const MISSING: Errno = Errno::NODATA;
    #[cfg(target_vendor = "apple")]
    const MISSING: Errno = Errno::NOATTR;

    /// The value of the attribute `name`; `None`: it has none by that name.
    pub(crate) fn get(file: &File, name: &CStr) -> Result<Option<Vec<u8>>> {
        found(grow(|buffer| rustix::fs::fgetxattr(file, name, spare_capacity(buffer))))
    }

    /// The same of a file by its path, never through a symbolic link.
    pub(crate) fn get_at(path: &Path, name: &CStr) -> Result<Option<Vec<u8>>> {
        found(grow(|buffer| rustix::fs::lgetxattr(path, name, spare_capacity(buffer))))
    }

    pub(crate) fn set(file: &File, name: &CStr, value: &[u8]) -> Result<()> {
        rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
    }

    /// An attribute that is not there is no error.
    pub(crate) fn remove(file: &File, name: &CStr) -> Result<()> {
        match rustix::fs::fremovexattr(file, name) {
            Err(MISSING | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            outcome => outcome,
        }
    }

    /// The names of its attributes.
    pub(crate) fn list(file: &File) -> Result<Vec<CString>> {
        names(grow(|buffer| rustix::fs::flistxattr(file, spare_capacity(buffer))))
    }

    /// The same of a file by its path, never through a symbolic link.
    pub(crate) fn list_at(path: &Path) -> Result<Vec<CString>> {
        names(grow(|buffer| rustix::fs::llistxattr(path, spare_capacity(buffer))))
    }

    fn found<T>(outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(MISSING | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// The kernel's list has a zero byte behind each name.
    fn names(list: Result<Vec<u8>>) -> Result<Vec<CString>> {
        let list = found(list)?.unwrap_or_default();
        Ok(list.split(|&b| b == 0).filter(|n| !n.is_empty()).filter_map(|n| CString::new(n).ok()).collect())
    }

    /// Calls with a larger buffer until it suffices: the attribute may grow between asking its size and reading it.
    fn grow(mut call: impl FnMut(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
        let mut size = 256;
        loop {
            let mut buffer = Vec::with_capacity(size);
            match call(&mut buffer) {
                Err(Errno::RANGE) if size < (1 << 24) => size *= 4,
                outcome => return outcome.map(|_| buffer),
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod calls {
    use std::ffi::{CStr, CString};
    use std::fs::File;
    use std::path::Path;

    use rustix::io::{Errno, Result};

    pub(crate) fn get(_file: &File, _name: &CStr) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    pub(crate) fn get_at(_path: &Path, _name: &CStr) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    pub(crate) fn set(_file: &File, _name: &CStr, _value: &[u8]) -> Result<()> {
        Err(Errno::OPNOTSUPP)
    }

    pub(crate) fn remove(_file: &File, _name: &CStr) -> Result<()> {
        Ok(())
    }

    pub(crate) fn list(_file: &File) -> Result<Vec<CString>> {
        Ok(Vec::new())
    }

    pub(crate) fn list_at(_path: &Path) -> Result<Vec<CString>> {
        Ok(Vec::new())
    }
}

pub(crate) use calls::*;
