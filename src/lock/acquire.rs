//! Taking the lock at a place, by the method that is right there.

use super::filesystem::has_no_flock;
use super::flock::{Above, LockFile, seems_in_use};
use super::held::{FileLock, Taken, list};
use super::inherited::{Confirmed, Intent};
use super::own::Own;
use super::place::Place;
use super::request::{Patience, Request};
use super::waiting::{self, Lockable};
use super::{below, link, look, squatter, under};
use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::notice::Observer;
use crate::options::{LockMethod, LockOptions, Wait};
use crate::target::Target;

/// Takes the lock that `request` asks for, or goes on under it if the caller has it already.
pub(crate) fn acquire_at(request: &mut Request<'_, '_>) -> Result<FileLock> {
    if let Some(under) = &request.options.under {
        return under::go_on(under, request);
    }
    squatter::clear_away(request)?;
    let mut lock = by_method(request).map_err(|e| squatter::help_past(e, request.place))?;
    lock.own = Some(Own::new(request.place));
    Ok(lock)
}

fn by_method(request: &mut Request<'_, '_>) -> Result<FileLock> {
    let mut above = Above::Environment;
    if request.method() == LockMethod::Link {
        match LockFile::holder_above(request)? {
            Some(ancestor) => above = Above::Known(ancestor),
            None => return link::acquire(request),
        }
    }
    match by_flock(request, above) {
        Err(e) if request.options.method == LockMethod::Auto && e.errno().is_some_and(has_no_flock) => {
            request.tell_method(LockMethod::Link, "no flock(2)");
            link::acquire(request)
        }
        outcome => outcome,
    }
}

fn by_flock(request: &mut Request<'_, '_>, mut above: Above) -> Result<FileLock> {
    let (place, mut strangers) = (request.place, 0);
    loop {
        let (file, ticket) = list(request, || LockFile::open(request, &above))?;
        if file.is_squatted(place) && squatter::may_clear(request) && strangers < squatter::MOST {
            strangers += 1;
            drop((file, ticket));
            squatter::clear_away(request)?;
            continue;
        }
        if file.has_content() {
            drop((file, ticket));
            // The content is a record: somebody holds the lock by link(2).
            if let Some(lock) = below::go_on(request)? {
                return Ok(lock);
            }
            link::wait_until_none(request)?;
            continue;
        }
        file.ensure_lock_file()?;
        if let Some(ancestor) = file.ancestor() {
            ancestor.ensure_grantable(request.intent, &request.target.given)?;
        }
        let lock = match FileLock::take(&file, ticket, request)? {
            Taken::Lock(lock) => lock,
            Taken::Below(ancestor) => {
                above = Above::Known(ancestor);
                continue;
            }
        };
        let known = matches!(above, Above::Known(_));
        if file.is_current().map_err(|e| Error::io(&place.path, e))? {
            match file.confirm() {
                Confirmed::Holds => return Ok(lock),
                Confirmed::Forged if !known => above = Above::Nobody,
                Confirmed::Forged | Confirmed::Gone => {}
            }
        }
        if known {
            above = Above::Environment;
        }
        // Start over. Either the holder we waited for has removed the file, and our lock is on a dead inode; or the
        // ancestor has given up the lock that we would have gone on under.
        drop(lock);
    }
}

/// Whether somebody holds the lock of `target` at its usual place, as far as it can be told without taking it for an instant.
pub(crate) fn seems_locked(target: &Target) -> Result<bool> {
    let place = Place::of(target, &LockOptions::default())?;
    seems_in_use(&place.dir, &place.name).map_err(|e| Error::io(&place.path, e))
}

/// Takes the lock of `target` at its usual place, without waiting, and whoever has a lease of it. A lock file that was
/// there before stays there.
pub(crate) fn lock_as_found(target: &Target) -> Result<(Place, FileLock)> {
    let options = LockOptions { wait: Wait::No, keep_file: true, ..LockOptions::default() };
    let (place, observer) = (Place::of(target, &options)?, Observer::default());
    let mut patience = Patience::new(&target.given, &options, &observer);
    patience.briefly = true;
    let intent = Intent::Exclusive;
    let request = &mut Request { place: &place, target, options: &options, intent, patience: &mut patience };
    let lock = acquire_at(request)?;
    Ok((place, lock))
}

/// Whether the lock at `place` is held, and by whom. Makes and removes nothing; takes the lock for an instant.
pub(crate) fn status(place: &Place, target: &Target, observer: &Observer) -> Result<(bool, Option<Holder>)> {
    let Some(file) = LockFile::existing(place).map_err(|e| place.explain(&target.given, e))? else {
        return Ok((false, None));
    };
    if file.has_content() {
        return look::holder(place, observer);
    }
    file.ensure_lock_file()?;
    let taken = file.try_lock().and_then(|locked| if locked { Ok(true) } else { waiting::try_again(&file) });
    if matches!(&taken, Err(e) if e.raw_os_error().is_some_and(has_no_flock)) {
        // As for those who lock by link(2).
        return Ok((true, None));
    }
    match taken.map_err(|e| Error::io(&target.given, e).during("cannot look at the lock"))? {
        true => Ok((false, None)),
        false => Ok((true, file.holder())),
    }
}
