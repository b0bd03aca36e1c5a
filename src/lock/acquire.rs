//! Taking the lock at a place, by whichever method holds there.

use std::sync::Arc;

use super::below;
use super::flock::LockFile;
use super::held::{FileLock, Held};
use super::inherited::{self, Confirmed, Intent};
use super::link;
use super::look;
use super::patience::Patience;
use super::place::Place;
use crate::cleanup;
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::notice::Observer;
use crate::options::{LockMethod, LockOptions, Wait};
use crate::remedy::Remedy;
use crate::target::Target;

/// Takes the lock at `place`, for messages the one of `target`.
pub(crate) fn acquire_at(
    place: &Place,
    target: &Target,
    options: &LockOptions,
    intent: Intent,
    patience: &mut Patience<'_>,
) -> Result<FileLock> {
    if patience.method(place, options) == LockMethod::Link && !LockFile::is_below(place) {
        return link::acquire(place, target, options, intent, patience);
    }
    // Set once the environment has turned out to lie about who holds the lock.
    let mut deceived = false;
    loop {
        // Listed at once: whoever made or waits for a lock file may be the one who has to remove it.
        let opened = cleanup::make(|| {
            let mut file = LockFile::open(place, target.status.as_ref(), options)?;
            if !deceived {
                file.look_above();
            }
            let file = Arc::new(file);
            Ok((file.clone(), Held::Flock(file)))
        });
        let (file, ticket) = opened.map_err(|e| place.explain(&target.given, e))?;
        if file.has_content() {
            drop((file, ticket));
            // A record means that somebody holds the lock by link(2).
            if let Some(lock) = below::go_on(place, target, options, intent, patience)? {
                return Ok(lock);
            }
            link::wait_for_passage(place, target, options, intent, patience)?;
            continue;
        }
        file.check(&place.path)?;
        if let Some(ancestor) = file.ancestor() {
            ancestor.permit(intent, &target.given)?;
        } else if let Some(pid) = inherited::lost_on_the_way(file.id()).filter(|pid| file.is_held_by(*pid)) {
            let reason = "The lock is held above this process, but its descriptor was closed on the way";
            return Err(Error::new(ErrorKind::Usage, reason).on(&target.given).with_remedy(Remedy::Inherit { pid }));
        }
        let lock = FileLock::take(&file, ticket, target, options, intent, patience)?;
        if file.is_current().map_err(|e| Error::io(&place.path, e))? {
            match file.confirm() {
                Confirmed::Holds => return Ok(lock),
                Confirmed::Forged => deceived = true,
                Confirmed::Gone => {}
            }
        }
        // The previous holder removed the file that we waited for: our lock is on a dead inode. Or the ancestor under
        // whose lock we would have gone on has given it up.
        drop(lock);
    }
}

/// Takes the lock of `target` at its usual place, as it is and whoever has a lease of it, without waiting.
pub(crate) fn lock_as_found(target: &Target) -> Result<(Place, FileLock)> {
    let (mut options, observer) = (LockOptions { wait: Wait::No, ..LockOptions::default() }, Observer::default());
    let place = Place::of(target, &options)?;
    // What was there before stays there.
    options.keep = place.dir.status(&place.name).map_err(|e| Error::io(&place.path, e))?.is_some();
    let mut patience = Patience::new(&target.given, &options, &observer);
    patience.briefly = true;
    let lock = acquire_at(&place, target, &options, Intent::Exclusive, &mut patience)?;
    Ok((place, lock))
}

/// Whether the lock at `place` is held, and by whom. Makes and removes nothing; the lock is taken for an instant.
pub(crate) fn status(place: &Place, target: &Target) -> Result<(bool, Option<Holder>)> {
    let Some(file) = LockFile::existing(place).map_err(|e| place.explain(&target.given, e))? else {
        return Ok((false, None));
    };
    if file.has_content() {
        return look::holder(place);
    }
    file.check(&place.path)?;
    let (options, observer) = (LockOptions { wait: Wait::No, ..LockOptions::default() }, Observer::default());
    let taken = file.take(&options, &mut Patience::new(&target.given, &options, &observer));
    match taken.map_err(|e| Error::io(&target.given, e).during("cannot look at the lock"))? {
        true => Ok((false, None)),
        false => Ok((true, file.holder())),
    }
}
