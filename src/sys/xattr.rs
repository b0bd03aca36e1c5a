//! Extended attributes, where rustix has calls for them: on Linux and macOS. FreeBSD has other calls (extattr(2)); there, a
//! file counts as having none.

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod calls {
    use std::ffi::CStr;
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

    pub(crate) fn get(file: &File, name: &CStr) -> Result<Vec<u8>> {
        grow(|buffer| rustix::fs::fgetxattr(file, name, spare_capacity(buffer)))
    }

    /// The same of a file by its path, never through a symbolic link.
    pub(crate) fn get_at(path: &Path, name: &CStr) -> Result<Vec<u8>> {
        grow(|buffer| rustix::fs::lgetxattr(path, name, spare_capacity(buffer)))
    }

    pub(crate) fn set(file: &File, name: &CStr, value: &[u8]) -> Result<()> {
        rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
    }

    /// An attribute that is not there is no error.
    pub(crate) fn remove(file: &File, name: &CStr) -> Result<()> {
        match rustix::fs::fremovexattr(file, name) {
            Err(MISSING) => Ok(()),
            outcome => outcome,
        }
    }

    /// The names, each with a zero byte behind it.
    pub(crate) fn list(file: &File) -> Result<Vec<u8>> {
        grow(|buffer| rustix::fs::flistxattr(file, spare_capacity(buffer)))
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
    use std::ffi::CStr;
    use std::fs::File;
    use std::path::Path;

    use rustix::io::{Errno, Result};

    pub(crate) fn get(_file: &File, _name: &CStr) -> Result<Vec<u8>> {
        Err(Errno::OPNOTSUPP)
    }

    pub(crate) fn get_at(_path: &Path, _name: &CStr) -> Result<Vec<u8>> {
        Err(Errno::OPNOTSUPP)
    }

    pub(crate) fn set(_file: &File, _name: &CStr, _value: &[u8]) -> Result<()> {
        Err(Errno::OPNOTSUPP)
    }

    pub(crate) fn remove(_file: &File, _name: &CStr) -> Result<()> {
        Err(Errno::OPNOTSUPP)
    }

    pub(crate) fn list(_file: &File) -> Result<Vec<u8>> {
        Err(Errno::OPNOTSUPP)
    }
}

pub(crate) use calls::*;
