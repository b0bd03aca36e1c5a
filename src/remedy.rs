//! What can be done about an error. The library only names the remedy. The commands word it with their options, the C
//! interface with the members of its structs, and [`Display`](fmt::Display) without either.

use std::fmt;
use std::path::PathBuf;

use crate::shown::shown;

/// What can be done about an [`Error`](crate::Error). Displays as one line without a final stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Accept empty input: [`WriteOptions::allow_empty`](crate::WriteOptions::allow_empty).
    AllowEmpty,
    /// Choose another name or directory for the backup: [`WriteOptions::backup`](crate::WriteOptions::backup).
    BackupElsewhere,
    /// Lock the file by its name. A descriptor cannot wait for a link lock.
    LockByName,
    /// Replace a file that this user may not write: [`WriteOptions::force`](crate::WriteOptions::force).
    Force,
    /// Start this process so that it inherits the descriptor of the lock, or start the command that should not share the
    /// lock without it.
    Inherit {
        /// The process that holds the lock.
        pid: u32,
    },
    /// Overwrite the file under its lock: [`WriteOptions::in_place`](crate::WriteOptions::in_place).
    InPlace,
    /// Overwrite the file, and keep its lock file in another directory, since only this one may not be written:
    /// [`WriteOptions::in_place`](crate::WriteOptions::in_place) and [`LockOptions::dir`](crate::LockOptions::dir).
    InPlaceLockedElsewhere,
    /// Keep lock files in another directory: [`LockOptions::dir`](crate::LockOptions::dir).
    LockElsewhere,
    /// Have another user's file removed that stands in place of the lock file, or of the record of a lease, and that this
    /// user may not remove; or keep lock files in another directory: [`LockOptions::dir`](crate::LockOptions::dir).
    LockPast {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Remove the link that stands in place of the lock file, or use another lock file:
    /// [`LockOptions::file`](crate::LockOptions::file).
    LockFile,
    /// Look at the file that stands in place of the lock file. Remove it, or use another lock file:
    /// [`LockOptions::file`](crate::LockOptions::file).
    Inspect(PathBuf),
    /// Create this missing directory: [`WriteOptions::mkdir`](crate::WriteOptions::mkdir).
    Mkdir(PathBuf),
    /// Become a user who may create files in the directory, or change the directory's permissions.
    Permissions,
    /// Write the new content to the standard output of the command whose output replaces the file.
    ToStdout,
    /// Run it again. A backup would have kept the old content.
    RunAgain,
    /// Read the input piece by piece, which needs no memory for the whole.
    Stream,
    /// This process holds the lock itself. Go on under that lock: [`LockOptions::under`](crate::LockOptions::under).
    UnderOwnLock,
    /// Lock by flock(2): [`LockOptions::method`](crate::LockOptions::method).
    UseFlock,
    /// A remedy in words that are the same for the commands, C and Rust.
    Other(String),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remedy::AllowEmpty => "allow empty input if the file shall be empty",
            Remedy::BackupElsewhere => "choose another name or directory for the backup",
            Remedy::LockByName => "lock the file by its name",
            Remedy::Force => "ask to replace a file that may not be written",
            Remedy::Inherit { pid } => {
                return write!(f, "process {pid} holds it; start this one so that it inherits descriptors");
            }
            Remedy::InPlace => "ask to overwrite it in place under the lock; that is not atomic",
            Remedy::InPlaceLockedElsewhere => {
                "check directory permissions; or ask to overwrite it in place, with its lock file in another directory"
            }
            Remedy::LockElsewhere => "keep lock files in another directory, the same for every writer",
            Remedy::LockPast { path, uid } => {
                let path = shown(path);
                return write!(
                    f,
                    "{path} is uid {uid}'s; that user, root or the directory's owner may remove it; or keep lock files in \
                     another directory, the same for every writer"
                );
            }
            Remedy::LockFile => "a lock file is never opened through a link; remove the link or use another lock file",
            Remedy::Inspect(path) => return write!(f, "look at {}; remove it or use another lock file", shown(path)),
            Remedy::Mkdir(parent) => {
                return write!(f, "directory {} does not exist; create it, or ask for that", shown(parent));
            }
            Remedy::Permissions => "check the permissions of the directory",
            Remedy::ToStdout => "write the new content to the command's standard output",
            Remedy::RunAgain => "run it again; a backup keeps the old content",
            Remedy::Stream => "read the input piece by piece: that needs no memory for it",
            Remedy::UnderOwnLock => "go on under the lock that this program has, or release it first",
            Remedy::UseFlock => "lock by flock",
            Remedy::Other(text) => text,
        })
    }
}
