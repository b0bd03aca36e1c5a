//! What is held, leased and waited for in a directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::lease::{LeaseInfo, held_since, leases_in_store, live_lease};
use crate::lock::{self, LockTable, Place};
use crate::names::{flat_path, is_lease_name, is_lock_name, leased_name, locked_name};
use crate::notice::Observer;
use crate::options::LockOptions;
use crate::sys::Dir;
use crate::target::{Resolve, Target};

/// Somebody who holds, leases, or waits for a target.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hold {
    /// The target. Where its name cannot be told from that of the lock file: the lock file.
    pub target: PathBuf,
    /// The lock file.
    pub lock_file: PathBuf,
    /// What it is.
    pub state: HoldState,
}

/// What somebody does with a target.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HoldState {
    /// Holds the lock.
    Held {
        /// Who, where that could be found.
        by: Option<Holder>,
        /// Since when, where that is known.
        since: Option<SystemTime>,
    },
    /// Waits for the lock.
    Waiting {
        /// Who.
        by: Holder,
    },
    /// Has a lease that has not expired.
    Leased(LeaseInfo),
}

/// Gives `tell` everybody who holds, leases or waits for a file in `dir`, or also below it, in the order of the names; or
/// the error that keeps it from knowing about one. With [`LockOptions::dir`] it looks there. With [`LockOptions::store`] it
/// lists the leases in the store instead: those named after files in `dir`, or all if `dir` is the empty path. Changes nothing and waits for
/// nothing. Waiting processes are known on Linux only, and those that wait for the end of a lease are not. The observer is
/// told of records that do not count, since their makers may not write the target.
///
/// # Errors
///
/// `dir` cannot be read.
pub fn list_holds(
    dir: impl AsRef<Path>,
    recursive: bool,
    options: &LockOptions,
    observer: &Observer,
    tell: &mut dyn FnMut(Result<Hold>),
) -> Result<()> {
    if let Some(url) = &options.store {
        return list_store(url, dir.as_ref(), recursive, tell);
    }
    let lister = Lister { options, observer, table: LockTable::read() };
    match &options.dir {
        Some(locks) => lister.in_lock_dir(locks, dir.as_ref(), recursive, tell),
        None => lister.in_dir(dir.as_ref(), recursive, tell),
    }
}

fn list_store(url: &str, dir: &Path, recursive: bool, tell: &mut dyn FnMut(Result<Hold>)) -> Result<()> {
    let wanted = match dir.as_os_str().is_empty() {
        true => None,
        false => Some(std::fs::canonicalize(dir).map_err(|e| Error::io(dir, e))?),
    };
    if wanted.as_ref().is_some_and(|dir| !dir.is_dir()) {
        return Err(Error::io(dir, std::io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    for (target, lease) in leases_in_store(url)? {
        let is_there = |dir: &PathBuf| target.parent() == Some(dir) || recursive && target.starts_with(dir);
        if wanted.as_ref().is_none_or(is_there) {
            tell(Ok(Hold { target, lock_file: PathBuf::new(), state: HoldState::Leased(lease) }));
        }
    }
    Ok(())
}

struct Lister<'a> {
    options: &'a LockOptions,
    observer: &'a Observer,
    table: LockTable,
}

impl Lister<'_> {
    fn in_dir(&self, path: &Path, recursive: bool, tell: &mut dyn FnMut(Result<Hold>)) -> Result<()> {
        // Without a `./` in front of every name, which says nothing.
        let dir = if path == Path::new(".") { Path::new("") } else { path };
        let opened = Arc::new(Dir::open(dir).map_err(|e| Error::io(path, e))?);
        let names = opened.names().map_err(|e| Error::io(path, e))?;
        let mut targets = Vec::new();
        for name in names.iter().filter(|name| is_lock_name(name) || is_lease_name(name)) {
            let target = if is_lock_name(name) { locked_name(name) } else { leased_name(name) };
            match target {
                Some(target) => targets.push(target.to_owned()),
                // A name that was shortened. The lock itself can still be looked at.
                None if is_lock_name(name) => {
                    if let Err(e) = self.lock_alone(&opened, name, tell) {
                        tell(Err(e));
                    }
                }
                None => {}
            }
        }
        targets.sort_unstable();
        targets.dedup();
        for name in targets {
            let found = Target::in_dir(&opened, &name).map_err(|e| Error::io(dir.join(&name), e));
            if let Err(e) = found.and_then(|target| self.target(&target, &dir.join(&name), tell)) {
                tell(Err(e));
            }
        }
        if recursive {
            let mut names = names;
            names.retain(|name| name != "." && name != "..");
            names.sort_unstable();
            for below in names.iter().map(|name| dir.join(name)) {
                let is_dir = std::fs::symlink_metadata(&below).is_ok_and(|status| status.is_dir());
                if is_dir {
                    self.in_dir(&below, true, tell).unwrap_or_else(|e| tell(Err(e)));
                }
            }
        }
        Ok(())
    }

    /// The names in a directory of lock files are those of the targets, with `/` written `%`.
    fn in_lock_dir(
        &self,
        locks: &Path,
        path: &Path,
        recursive: bool,
        tell: &mut dyn FnMut(Result<Hold>),
    ) -> Result<()> {
        let opened = Dir::open(locks).map_err(|e| Error::io(locks, e))?;
        let wanted = std::fs::canonicalize(path).map_err(|e| Error::io(path, e))?;
        let mut targets = BTreeSet::new();
        for name in opened.names().map_err(|e| Error::io(locks, e))? {
            let flat = if is_lock_name(&name) { locked_name(&name) } else { leased_name(&name) };
            let Some(whole) = flat.and_then(flat_path) else { continue };
            let is_there = whole.parent() == Some(&*wanted) || (recursive && whole.starts_with(&wanted));
            if is_there {
                targets.insert(whole);
            }
        }
        for whole in targets {
            let how = Resolve { follow: false, mkdir: false };
            if let Err(e) = Target::resolve(&whole, how).and_then(|target| self.target(&target, &whole, tell)) {
                tell(Err(e));
            }
        }
        Ok(())
    }

    fn target(&self, target: &Target, shown: &Path, tell: &mut dyn FnMut(Result<Hold>)) -> Result<()> {
        let place = Place::of(target, &LockOptions { file: None, ..self.options.clone() })?;
        let hold = |state| Ok(Hold { target: shown.to_owned(), lock_file: place.path.clone(), state });
        let found = place.dir.status(&place.name).map_err(|e| Error::io(&place.path, e))?;
        let (mut holders, mut waiters) = found.as_ref().map(|status| self.table.of(status.id)).unwrap_or_default();
        let since = held_since(&place);
        if holders.is_empty() {
            // The table does not show everything: not link locks, nor what is held outside this PID namespace.
            match lock::status(&place, target, self.observer) {
                Ok((true, by)) => {
                    if let Some(status) = found.filter(|status| by.is_some() && status.size == 0) {
                        (holders, waiters) = LockTable::of_held(status.id);
                    }
                    if holders.is_empty() {
                        tell(hold(HoldState::Held { by, since }));
                    }
                }
                Ok((false, _)) => {}
                // Another program's file of such a name.
                Err(e) if e.kind() == ErrorKind::NotAFile => return Ok(()),
                Err(e) => tell(Err(e)),
            }
        }
        for by in holders {
            tell(hold(HoldState::Held { by: Some(by), since }));
        }
        for by in waiters {
            tell(hold(HoldState::Waiting { by }));
        }
        if let Some(lease) = live_lease(&place, self.observer)? {
            tell(hold(HoldState::Leased(lease)));
        }
        Ok(())
    }

    fn lock_alone(&self, dir: &Dir, name: &OsStr, tell: &mut dyn FnMut(Result<Hold>)) -> Result<()> {
        let path = dir.join(name);
        let Some(status) = dir.status(name).map_err(|e| Error::io(&path, e))? else { return Ok(()) };
        let (holders, waiters) = self.table.of(status.id);
        let hold = |state| Ok(Hold { target: path.clone(), lock_file: path.clone(), state });
        for by in holders {
            tell(hold(HoldState::Held { by: Some(by), since: None }));
        }
        for by in waiters {
            tell(hold(HoldState::Waiting { by }));
        }
        Ok(())
    }
}
