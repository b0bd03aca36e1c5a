//! Where the lock file of a target is: beside it, in a directory of lock files, or where the caller says.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::options::LockOptions;
use crate::sys::Dir;
use crate::target::Target;

/// What the name of a lock file ends in.
const SUFFIX: &str = ".lock";
/// What the name of a lease's record ends in.
const LEASE_SUFFIX: &str = ".lease";
/// NAME_MAX of every file system we know but eCryptfs (143).
const NAME_MAX: usize = 255;

/// The directory and name of a lock file.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: OsString,
    /// For messages.
    pub(crate) path: PathBuf,
    /// Where the target's lease is. With a directory of lock files, there: it may be the only one that may be written.
    /// With a lock file of the caller's, beside the target: several targets may share the lock, but not the lease.
    pub(crate) lease: Spot,
    /// By the caller, not by the target's name.
    chosen: bool,
}

/// A name in a directory.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: OsString,
}

impl Spot {
    /// For messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }
}

impl Place {
    pub(crate) fn of(target: &Target, options: &LockOptions) -> Result<Place> {
        if let Some(path) = &options.file {
            return Place::at(path, target);
        }
        if let Some(dir) = &options.dir {
            let opened = Dir::open(dir).map_err(|e| {
                let missing = e.raw_os_error() == Some(libc::ENOENT);
                let error = Error::io(dir, e);
                if missing { error.with_hint("the directory for lock files does not exist; create it") } else { error }
            })?;
            // Every name of the directory must give the same lock.
            let whole = std::fs::canonicalize(if target.dir.path().as_os_str().is_empty() {
                Path::new(".")
            } else {
                target.dir.path()
            })
            .map_err(|e| Error::io(&target.given, e))?
            .join(&target.name);
            let flat = whole.as_os_str().as_bytes().iter().map(|&b| if b == b'/' { b'%' } else { b }).collect();
            let flat = OsString::from_vec(flat);
            let (name, dir) = (lock_name(&flat), Arc::new(opened));
            let lease = Spot { dir: dir.clone(), name: side_name(&flat, LEASE_SUFFIX) };
            return Ok(Place { path: dir.join(&name), dir, name, lease, chosen: false });
        }
        let name = lock_name(&target.name);
        Ok(Place {
            path: target.beside(&name),
            dir: target.dir.clone(),
            name,
            lease: lease_beside(target),
            chosen: false,
        })
    }

    /// Refuses the target as its own lock file, under this or another name: replacing it would split the lock.
    pub(crate) fn check(&self, target: &Target) -> Result<()> {
        let same_name = self.dir.id() == target.dir.id() && self.name == target.name;
        let same_file = || {
            let lock = self.dir.status(&self.name).ok().flatten();
            lock.is_some_and(|lock| target.status.is_some_and(|target| target.id == lock.id))
        };
        // Only a lock file of the caller's choice can be another name of the target that is worth asking for.
        if same_name || (self.chosen && same_file()) {
            let reason = "the lock file must be another file than the one it protects";
            return Err(Error::new(ErrorKind::Usage, reason).on(&self.path));
        }
        Ok(())
    }

    /// A lock file that the caller names.
    fn at(path: &Path, target: &Target) -> Result<Place> {
        let (Some(name), false) = (path.file_name(), path.as_os_str().as_bytes().ends_with(b"/")) else {
            return Err(Error::new(ErrorKind::NotAFile, "Lock file is a directory").on(path));
        };
        let dir = Dir::open(path.parent().unwrap_or(Path::new(""))).map_err(|e| Error::io(path, e))?;
        Ok(Place {
            dir: Arc::new(dir),
            name: name.to_owned(),
            path: path.to_owned(),
            lease: lease_beside(target),
            chosen: true,
        })
    }

    /// The message for a lock file that could not be made or opened.
    pub(crate) fn explain(&self, target: &Path, e: io::Error) -> Error {
        match e.raw_os_error() {
            Some(libc::EROFS) => Error::io(target, e)
                .because("Cannot create lock file (read-only file system)")
                .with_hint("keep lock files elsewhere: --lock-dir DIR, the same for every writer"),
            Some(libc::EACCES | libc::EPERM) => {
                Error::io(&self.path, e).with_hint("Run with sudo or check directory permissions")
            }
            Some(libc::ELOOP) => Error::new(ErrorKind::NotAFile, "Lock file is a symbolic link")
                .on(&self.path)
                .with_hint("a lock file is never opened through a link; remove the link or name another: --lock-file"),
            Some(libc::ENOSPC | libc::EDQUOT) => Error::io(target, e),
            _ => Error::io(&self.path, e),
        }
    }
}

fn lease_beside(target: &Target) -> Spot {
    Spot { dir: target.dir.clone(), name: side_name(&target.name, LEASE_SUFFIX) }
}

/// `NAME.lock`.
pub(crate) fn lock_name(name: &OsStr) -> OsString {
    side_name(name, SUFFIX)
}

/// `NAME` and `suffix`; a name too long for that is cut and told apart by a hash of the whole, the same for everyone.
pub(super) fn side_name(name: &OsStr, suffix: &str) -> OsString {
    let bytes = name.as_bytes();
    let mut side = Vec::with_capacity(bytes.len() + suffix.len());
    if bytes.len() + suffix.len() <= NAME_MAX {
        side.extend_from_slice(bytes);
    } else {
        let hash = format!("-{:016x}", fnv1a(bytes));
        side.extend_from_slice(&bytes[..NAME_MAX - suffix.len() - hash.len()]);
        side.extend_from_slice(hash.as_bytes());
    }
    side.extend_from_slice(suffix.as_bytes());
    OsString::from_vec(side)
}

/// The name of the target whose lease's record is called `name`; `None` where that is not to be known, since it has been
/// cut.
pub(crate) fn leased_name(name: &OsStr) -> Option<&OsStr> {
    without(name, LEASE_SUFFIX)
}

/// The same of a lock file's name.
pub(super) fn locked_name(name: &OsStr) -> Option<&OsStr> {
    without(name, SUFFIX)
}

fn without<'a>(name: &'a OsStr, suffix: &str) -> Option<&'a OsStr> {
    let base = name.as_bytes().strip_suffix(suffix.as_bytes())?;
    let hash = base.rsplit(|&b| b == b'-').next().unwrap_or_default();
    let cut = name.len() == NAME_MAX && hash.len() == 16 && hash.iter().all(u8::is_ascii_hexdigit);
    (!cut).then(|| OsStr::from_bytes(base))
}

/// FNV-1a, 64 bits: fixed for ever, since programs of different versions must arrive at the same lock. No secrecy is
/// needed: two targets that share a lock by a collision only wait for each other.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The hint for a lock file with content.
pub(crate) fn not_ours(path: &Path) -> Error {
    Error::new(ErrorKind::NotAFile, "Lock file is not empty, so it is not a lock file of awrite")
        .on(path)
        .with_hint(format!("look at {}; remove it or choose another: --lock-file", shown(path)))
}

/// What holds for any name of a target.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_name(name: &OsStr) {
    for suffix in [SUFFIX, LEASE_SUFFIX] {
        let side = side_name(name, suffix);
        assert!(side.len() <= NAME_MAX && side.as_bytes().ends_with(suffix.as_bytes()), "{side:?}");
        // No name is taken for another's; where it has been cut it is taken for nobody's.
        let back = without(&side, suffix);
        assert!(back == Some(name) || back.is_none(), "{name:?} becomes {back:?}");
        assert!(back.is_some() || side.len() == NAME_MAX, "{name:?} is not known again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_of_targets(
            name in prop::collection::vec(any::<u8>(), 0..300),
            hash in "[a-z]{0,3}-[0-9a-f]{15,17}",
            more: u8,
        ) {
            any_name(OsStr::from_bytes(&name));
            any_name(OsStr::new(&hash));
            let mut other = name.clone();
            other.push(more);
            let lock = |name: &[u8]| lock_name(OsStr::from_bytes(name));
            prop_assert_ne!(lock(&name), lock(&other));
            *other.last_mut().unwrap() = more ^ 1;
            prop_assert_ne!(lock(&other), lock(&[&name[..], &[more]].concat()));
        }
    }

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(lock_name(OsStr::new("f")), "f.lock");
        let longest = "x".repeat(250);
        assert_eq!(lock_name(OsStr::new(&longest)).len(), 255);
        assert_eq!(lock_name(OsStr::new(&longest)), format!("{longest}.lock").as_str());
        let a = lock_name(OsStr::new(&format!("{}a", "x".repeat(254))));
        let b = lock_name(OsStr::new(&format!("{}b", "x".repeat(254))));
        assert_eq!((a.len(), b.len()), (255, 255));
        assert_ne!(a, b);
        assert_eq!(side_name(OsStr::new("f"), LEASE_SUFFIX), "f.lease");
        assert_eq!(leased_name(OsStr::new("a-0123456789abcdef.lease")), Some(OsStr::new("a-0123456789abcdef")));
        let cut = side_name(OsStr::new(&longest), LEASE_SUFFIX);
        assert_eq!((cut.len(), leased_name(&cut)), (255, None));
        let whole = side_name(OsStr::new(&longest[1..]), LEASE_SUFFIX);
        assert_eq!((whole.len(), leased_name(&whole)), (255, Some(OsStr::new(&longest[1..]))));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
