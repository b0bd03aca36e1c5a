//! What a stranger has put where a lock file belongs, in a directory such as `/tmp`.
//!
//! In a sticky directory anybody can make `f.lock`, and only its maker, the directory's owner and root can remove it. So a
//! stranger could keep everybody waiting for ever, or take the lock's file away under its holder. Whoever may remove it
//! does so before it locks. Nobody who may write the target ever holds such a file, so nobody loses a lock by that.

use super::place::Place;
use super::record::fresh_nonce;
use super::request::Request;
use crate::cleanup;
use crate::error::{Error, ErrorKind, Result};
use crate::names::TempNames;
use crate::remedy::Remedy;
use crate::sys::{FileId, thread};

/// In the mode of a directory: only its owner, that of a file in it, and root may remove the file.
const STICKY: u32 = 0o1000;

/// How often a stranger may put another file there meanwhile. After that it is waited for, as any other is.
pub(super) const MOST: u32 = 100;

/// Whether this process may remove what stands there.
pub(super) fn may_clear(request: &Request<'_, '_>) -> bool {
    let (place, dir) = (request.place, request.place.dir.opened());
    // A lock file that other programs use, too, may be anybody's.
    dir.mode & STICKY != 0
        && place.is_awrites()
        && !request.options.keep_file
        && (dir.uid == rustix::process::geteuid().as_raw() || thread::may_act_as_owner())
}

/// Removes what stands under the lock's name, if it belongs to somebody who may not write the target.
pub(super) fn clear_away(request: &Request<'_, '_>) -> Result<()> {
    let (place, writers) = (request.place, &request.place.lease.writers);
    let fail = |e| Error::io(&place.path, e);
    if !may_clear(request) {
        return Ok(());
    }
    for round in 0..MOST {
        let there = place.dir.status(&place.name).map_err(fail)?;
        let Some(there) = there.filter(|there| !writers.may_record(there.uid)) else { break };
        if round == 0 {
            writers.tell_ignored(&place.path, there.uid, request.patience.observer);
        }
        cleanup::step(|| take_away(place, there.id)).map_err(fail)?;
    }
    Ok(())
}

/// The error `e`, with what helps where another user's file stands under the lock's name and this user may not remove it. A
/// lock that is held counts, if its holder's does.
pub(super) fn help_past(e: Error, place: &Place) -> Error {
    let of_stranger = match e.kind() {
        ErrorKind::LockBusy | ErrorKind::LockTimeout => true,
        _ if e.path() == Some(&place.path) => false,
        _ => return e,
    };
    let there = place.dir.status(&place.name).ok().flatten().filter(|there| place.dir.protects(there));
    match there {
        Some(there) if place.is_awrites() && !(of_stranger && place.lease.writers.may_record(there.uid)) => {
            e.with_remedy(Remedy::LockPast { path: place.path.clone(), uid: there.uid })
        }
        _ => e,
    }
}

/// Two of us may be about to do this at once, and the other one may have made a lock file since. So the file is looked at
/// again under a name of our own, under which nobody else looks for it.
fn take_away(place: &Place, id: FileId) -> std::io::Result<()> {
    let (dir, name, nonce) = (&*place.dir, &*place.name, fresh_nonce());
    let is_gone = |e: &std::io::Error| e.raw_os_error() == Some(libc::ENOENT);
    let moved = TempNames::new(name, Some(&nonce)).first_free(dir, |aside| dir.rename(name, dir, aside));
    let aside = match moved {
        Err(e) if is_gone(&e) => return Ok(()),
        moved => moved?.1,
    };
    if dir.status(&aside)?.is_some_and(|now| now.id != id) {
        // Another's lock file. If there is a third by now, the other finds its lock lost.
        let _ = dir.link(&aside, dir, name);
    }
    match dir.unlink(&aside) {
        // It says EISDIR of a directory. One that is not empty stays under this name.
        Err(e) if !is_gone(&e) => dir.remove_dir(&aside).or(Ok(())),
        _ => Ok(()),
    }
}
