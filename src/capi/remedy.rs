//! The remedies in the words of C: flags and members of the options.

use crate::remedy::Remedy;

/// One line without a final stop.
pub(super) fn words(remedy: &Remedy) -> String {
    let text = match remedy {
        Remedy::AllowEmpty => "leave AWRITE_WRITE_REFUSE_EMPTY out if the file shall be empty",
        Remedy::BackupElsewhere => "choose another name for it: backup_suffix, backup_dir",
        Remedy::Force => "use AWRITE_WRITE_FORCE to replace a file that you may not write",
        Remedy::InPlace => "use AWRITE_WRITE_IN_PLACE to overwrite it under the lock; that is not atomic",
        Remedy::InPlaceLockedElsewhere => {
            "check directory permissions; or overwrite it: AWRITE_WRITE_IN_PLACE and lock_dir, which is not atomic"
        }
        Remedy::LockElsewhere => "keep lock files elsewhere: lock_dir, the same for every writer",
        Remedy::LockPast { .. } => return format!("{remedy}: lock_dir"),
        Remedy::LockFile => "a lock file is never opened through a link; remove the link or name another: lock_file",
        Remedy::Mkdir(_) => return format!("{remedy}: AWRITE_WRITE_MKDIR"),
        Remedy::RunAgain => "call it again; with AWRITE_WRITE_BACKUP the old content is kept",
        Remedy::Stream => "use awrite_writer_write(): it needs no memory for the whole content",
        Remedy::UnderOwnLock => "write under the lock that this program has: held_lock; or release it first",
        Remedy::UseFlock => "use AWRITE_METHOD_FLOCK",
        // In these the words of this crate say it.
        Remedy::LockByName
        | Remedy::Inherit { .. }
        | Remedy::Inspect(_)
        | Remedy::Permissions
        | Remedy::ToStdout
        | Remedy::Other(_) => {
            return remedy.to_string();
        }
    };
    text.to_owned()
}
