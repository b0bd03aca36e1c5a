//! The remedies in a command's words: its options.

use awrite::{Remedy, shown};

/// One line without a final stop.
pub(super) fn words(remedy: &Remedy) -> String {
    let text = match remedy {
        Remedy::AllowEmpty => "use --allow-empty if the file shall be empty",
        Remedy::BackupElsewhere => "choose another name for it: --backup-suffix, --backup-dir",
        Remedy::LockByName => "lock the file by its name: awrite-lock FILE -- COMMAND",
        Remedy::Force => "use --force to replace a file that you may not write",
        Remedy::Inherit { .. } => return format!("{remedy}, or that one with --close"),
        Remedy::InPlace => "use --in-place to overwrite it under the lock; that is not atomic",
        Remedy::InPlaceLockedElsewhere => {
            "Run with sudo or check directory permissions; or overwrite it: --in-place --lock-dir DIR, which is not atomic"
        }
        Remedy::LockElsewhere => "keep lock files elsewhere: --lock-dir DIR, the same for every writer",
        Remedy::LockPast { .. } => return format!("{remedy}: --lock-dir DIR"),
        Remedy::LockFile => "a lock file is never opened through a link; remove the link or name another: --lock-file",
        Remedy::Inspect(path) => return format!("look at {}; remove it or choose another: --lock-file", shown(path)),
        Remedy::Mkdir(parent) => {
            return format!("directory {} does not exist; create it, or use awrite --mkdir", shown(parent));
        }
        Remedy::Permissions if rustix::process::geteuid().is_root() => "check directory permissions",
        Remedy::Permissions => "Run with sudo or check directory permissions",
        Remedy::ToStdout => {
            "write the new content to the command's standard output; one that edits files: awrite -e FILE -- COMMAND"
        }
        Remedy::RunAgain => "run it again; with --backup the old content is kept",
        Remedy::Stream => "use --stream: it needs no memory for the input",
        Remedy::UseFlock => "use --lock-method flock",
        other => return other.to_string(),
    };
    text.to_owned()
}
