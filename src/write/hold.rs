//! A target under its lock, ready to be replaced.

use std::io;
use std::path::Path;

use super::expected::Expected;
use crate::backup;
use crate::commit;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Purpose, Shared, Standing, Visitor, lock_target};
use crate::lock::{FileLock, Place, is_in_use};
use crate::names::is_lock_name;
use crate::options::{LockOptions, WriteOptions};
use crate::original::Original;
use crate::remedy::Remedy;
use crate::sys::FileKind;
use crate::target::{Resolve, Target};

/// A target under its lock.
#[derive(Debug)]
pub(super) struct Hold {
    // Dropped in this order.
    pub(super) lock: FileLock,
    pub(super) lease: Standing,
    pub(super) target: Target,
    /// `None`: it may contain anything.
    pub(super) expected: Option<Expected>,
}

impl Hold {
    pub(super) fn take(path: &Path, options: &WriteOptions) -> Result<Hold> {
        let visitor = Visitor::of(&options.lock);
        let refuse = |target: &Target, place: &Place| ensure_replaceable(target, place, options);
        // Two writers that share a lock would overwrite each other's work.
        let alone = LockOptions { shared: false, ..options.lock.clone() };
        let (how, observer) = (resolve(options), &options.observer);
        let taken = lock_target(path, how, &alone, &visitor, observer, Purpose::Replace, refuse);
        let (mut target, place, lock) = taken.map_err(|e| help_to_replace(e, path, options))?;
        let lease = Standing::find(place.lease, &target, &options.lock, &mut Shared::default())?;
        let expected = options.expect.as_ref().map(|expect| Expected::compare(expect, &target)).transpose()?;
        if let (true, Some(_), Some(backup)) = (options.mkdir, target.status, &options.backup) {
            if let Some(dir) = &backup.dir {
                target.make_dir(dir)?;
            }
        }
        Ok(Hold { lock, lease, target, expected })
    }
}

/// A lock elsewhere does not help where the directory must take the new file too.
fn help_to_replace(e: Error, path: &Path, options: &WriteOptions) -> Error {
    match (e.remedy(), e.errno()) {
        _ if options.may_overwrite() => e,
        (Some(Remedy::LockElsewhere), Some(libc::EROFS)) => e.without_remedy(),
        (Some(Remedy::LockElsewhere), _) => match Target::resolve(path, Resolve { mkdir: false, ..resolve(options) }) {
            Ok(target) if is_writable(&target) && target.dir.may_change().is_err() => {
                e.with_remedy(Remedy::InPlaceLockedElsewhere)
            }
            _ => e.with_remedy(Remedy::Permissions),
        },
        _ => e,
    }
}

pub(super) fn open_original(target: &Target) -> Result<Option<Original>> {
    target.open_original().map_err(|e| unreadable(target, e))
}

pub(super) fn unreadable(target: &Target, e: io::Error) -> Error {
    target.failed(e).during("cannot read the current content")
}

pub(super) fn resolve(options: &WriteOptions) -> Resolve {
    Resolve { follow: options.lock.follow, mkdir: options.mkdir }
}

/// Refuses a lock file that somebody holds, or waits for: once it is replaced, others lock another file. It is called as
/// lock files are, or it is empty and locked.
pub(super) fn ensure_not_locked(target: &Target) -> Result<()> {
    let named = is_lock_name(&target.name);
    if !named && target.status.is_none_or(|status| status.size > 0) {
        return Ok(());
    }
    let in_use = match is_in_use(&target.dir, &target.name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => named,
        outcome => outcome.map_err(|e| target.failed(e))?,
    };
    if !in_use {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotAFile, "Is a lock file that is in use")
        .on(&target.given)
        .with_hint("name the file that it is the lock of"))
}

/// Refuses what cannot or must not be replaced.
pub(super) fn ensure_replaceable(target: &Target, place: &Place, options: &WriteOptions) -> Result<()> {
    target.ensure_regular()?;
    ensure_not_locked(target)?;
    if target.is_mounted_on() {
        ensure_mount(target, options)?;
    }
    target.ensure_changeable(options.may_overwrite())?;
    if let Some(backup) = &options.backup {
        backup::ensure_apart(target, place, backup, options.mkdir)?;
    }
    if options.force { Ok(()) } else { target.ensure_writable() }
}

/// Refuses a file that something is mounted on, unless it is to be overwritten there and that is of any use.
fn ensure_mount(target: &Target, options: &WriteOptions) -> Result<()> {
    if target.status.is_some_and(|status| status.links == 0) {
        let reason = "The file that is mounted here has been deleted: nobody else would see what is written to it";
        return Err(Error::new(ErrorKind::MountPoint, reason)
            .on(&target.given)
            .with_hint("mount the file anew, or the directory that it is in"));
    }
    match target.dir.may_write(&target.name) {
        Err(e) if e.raw_os_error() == Some(libc::EROFS) => {
            Err(target.failed(e).of_kind(ErrorKind::MountPoint).with_hint("the file is mounted read-only here"))
        }
        _ if options.may_overwrite() => Ok(()),
        _ => Err(commit::mounted_on(&target.given)),
    }
}

/// Whether there is a file that this user may write.
pub(super) fn is_writable(target: &Target) -> bool {
    target.status.is_some_and(|status| status.kind == FileKind::Regular) && target.dir.may_write(&target.name).is_ok()
}
