//! Who may write a target. Whoever may must be able to open its lock file and the record of its lease, and nobody else; and
//! a record that somebody else has made keeps nobody out.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

use crate::acl::{self, List};
use crate::notice::{Notice, Observer};
use crate::shown::shown;
use crate::sys::{Dir, FileKind, FileStatus, set_mode, xattr};
use crate::target::Target;

/// In the mode of a directory: a file in it is replaced and removed by its owner and the directory's only.
const STICKY: u32 = 0o1000;
/// Write permission of group and others.
const WRITABLE: u32 = 0o022;

/// Who may write a target, as it was when its path was resolved.
#[derive(Clone, Debug)]
pub(crate) struct Writers {
    /// As the caller called it, for a message.
    given: PathBuf,
    /// The target itself, if it may have an access control list.
    listed: Option<PathBuf>,
    /// Permission bits that say who may write it: its own; of one that is not there, or is a link to be replaced itself,
    /// those of its directory.
    mode: u32,
    /// User and group that those bits are about.
    owner: Option<(u32, u32)>,
    /// Users whose records count, besides this one.
    makers: [u32; 4],
    /// Everybody's record counts.
    is_open: bool,
}

impl Writers {
    /// Those of `target`, whose lock file and record are in `dir`.
    pub(crate) fn of(target: &Target, dir: &Dir) -> Writers {
        let beside = target.dir.opened();
        let own = target.status.filter(|status| status.kind != FileKind::Symlink);
        // What somebody makes in a sticky directory is no other's to write.
        let shared = (beside.mode & STICKY == 0).then_some(*beside);
        let decides = own.or(shared);
        let anybody_may_make_it = target.status.is_none() && beside.mode & WRITABLE != 0;
        Writers {
            given: target.given.clone(),
            listed: own.filter(|own| own.mode & 0o020 != 0).map(|_| target.beside(&target.name)),
            mode: decides.map_or(0, |status| status.mode),
            owner: decides.map(|status| (status.uid, status.gid)),
            makers: [0, beside.uid, dir.opened().uid, target.status.map_or(0, |status| status.uid)],
            is_open: anybody_may_make_it || decides.is_some_and(|status| status.mode & WRITABLE != 0),
        }
    }

    /// The same, for a file that stays this process's own, which tells who made it.
    pub(crate) fn of_own(self) -> Writers {
        let own = rustix::process::geteuid().as_raw();
        Writers { owner: self.owner.map(|(_, gid)| (own, gid)), ..self }
    }

    /// Whether a file that is given to these is given to the `others`, too.
    pub(crate) fn are_as(&self, others: &Writers) -> bool {
        let as_given = |writers: &Writers| (writers.mode & WRITABLE, writers.owner);
        self.listed.is_none() && others.listed.is_none() && as_given(self) == as_given(others)
    }

    /// Whether a record counts that belongs to `uid`.
    pub(crate) fn may_record(&self, uid: u32) -> bool {
        self.is_open || self.makers.contains(&uid) || uid == rustix::process::geteuid().as_raw()
    }

    /// Whether a lock file is opened to others once it has been made.
    pub(super) fn are_several(&self) -> bool {
        self.mode & WRITABLE != 0
    }

    /// Tells the observer of a record at `path` that does not count.
    pub(crate) fn tell_ignored(&self, path: &Path, uid: u32, observer: &Observer) {
        let text = format!("made by uid {uid}, who may not write {}: ignored", shown(&self.given));
        observer.tell(&Notice::Warning { path, text: &text });
    }

    /// The permission bits of a new lock file or record, unless `asked` for others, until it is [given](Self::give) to them.
    pub(crate) fn first_mode(asked: Option<u32>) -> u32 {
        // Not the group's yet: it is this process's group, and not that of the target.
        asked.unwrap_or(0o600) & 0o700
    }

    /// Gives a new lock file or record, which was `born` so, to all who may write the target.
    pub(crate) fn give(&self, file: &File, born: &FileStatus, asked: Option<u32>) -> io::Result<()> {
        let list = if asked.is_none() { self.list() } else { None };
        let written_by_group = list.as_ref().map_or(self.mode & 0o020 != 0, |list| list.owning_group() != 0);
        let group = if written_by_group { 0o060 } else { 0 };
        let others = if self.mode & 0o002 != 0 { 0o006 } else { 0 };
        let mut mode = asked.unwrap_or(0o600 | group | others);
        let (uid, gid) = self.owner.unwrap_or((born.uid, born.gid));
        let is_root = (uid, gid) != (born.uid, born.gid) && rustix::process::geteuid().is_root();
        let (new_uid, new_gid) = (is_root && uid != born.uid, gid != born.gid && (is_root || mode & 0o070 != 0));
        let as_born = mode == born.mode && list.is_none();
        // After that, root in some containers may not change the mode any more.
        let uid = Some(Uid::from_raw(uid)).filter(|_| new_uid);
        let gid = Some(Gid::from_raw(gid)).filter(|_| new_gid);
        if new_gid && !chown(file, uid.filter(|_| as_born), gid)? && asked.is_none() {
            // It stays with this process's group, which may have nothing to do with the target.
            mode = mode & !0o070 | (mode & 0o007) << 3;
        }
        let listed = list.is_some_and(|mut list| {
            list.limit_owning_group(mode >> 3 & 0o7);
            xattr::set(file, acl::ATTRIBUTE, &list.to_attribute()).is_ok()
        });
        if !listed {
            if mode & 0o070 != 0 && self.listed.is_some() {
                // What the directory gives to every new file is for others than may write this one.
                let _ = xattr::remove(file, acl::ATTRIBUTE);
            }
            if mode != born.mode {
                set_mode(file, mode)?;
            }
        }
        if uid.is_some() && !(as_born && new_gid) {
            chown(file, uid, None)?;
        }
        Ok(())
    }

    /// The access control list of a lock file, if the target has one.
    fn list(&self) -> Option<List> {
        let attribute = xattr::get_at(self.listed.as_deref()?, acl::ATTRIBUTE).ok()??;
        Some(List::parse(&attribute)?.of_writers())
    }
}

/// False: that is not permitted, or not possible here. The lock works without it too.
fn chown(file: &File, uid: Option<Uid>, gid: Option<Gid>) -> io::Result<bool> {
    match rustix::fs::fchown(file, uid, gid) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
