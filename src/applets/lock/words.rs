//! What is said of a TARGET or a descriptor that somebody took for something else.

use std::path::Path;

use awrite::{Error, ErrorKind, shown};

use crate::report;

/// Warns of a TARGET that is a lock file by its name, as one writes it for flock(1). What has content is a file that ends
/// so, as Cargo.lock. Says what the lock of a directory is.
pub(super) fn about_target(target: &Path) {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let status = std::fs::metadata(target).ok();
    if status.as_ref().is_some_and(std::fs::Metadata::is_dir) {
        report::note(
            target,
            "a directory: this covers its name, and not the files in it, which have locks of their own",
        );
        return;
    }
    let is_empty = status.is_none_or(|status| status.is_file() && status.len() == 0);
    if let (Some(meant), true) = (name.strip_suffix(".lock").filter(|meant| !meant.is_empty()), is_empty) {
        let meant = target.with_file_name(meant);
        warn(
            target,
            &format!("this locks {0}.lock; to lock {1}, name that: awrite-lock {1}", shown(target), shown(&meant)),
        );
    }
}

/// Warns of a descriptor that leads to the file itself and not to its lock file. A file or directory that is called a lock
/// is one.
pub(super) fn about_descriptor(number: i32, label: &Path) {
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{number}")) else { return };
    let is_file = std::fs::metadata(&path).is_ok_and(|status| status.is_file());
    let text = path.to_string_lossy().to_ascii_lowercase();
    let mut parts = text.rsplit('/');
    let is_lock = [parts.next(), parts.next()].into_iter().flatten().any(|part| part.contains("lock"));
    if is_file && !is_lock {
        let path = shown(&path);
        warn(label, &format!("this locks {path} itself, and awrite locks {path}.lock: exec {number}>>{path}.lock"));
    }
}

fn warn(path: &Path, text: &str) {
    report::warning(&Error::new(ErrorKind::Usage, text).on(path));
}
