//! What a caller may ask of a write and of a lock. Plain data; the defaults are what a careful user wants.

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::duration::parse_duration;
use crate::error::{Error, ErrorKind, Result};
use crate::expect::Expect;
use crate::notice::Observer;
use crate::shown::shown;

/// Defines a struct of options: its fields with their defaults, and a setter for each. Fields may be added, so a
/// program outside this crate cannot write the struct down; with the setters it can build one in one expression. A field
/// that is an `Option` of what is made of a string has what its setter takes behind a semicolon: there is no
/// `From<&str> for Option<PathBuf>`.
macro_rules! options_struct {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr $(; $given:ty)?,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $default,)* }
            }
        }

        impl $name {
            /// The defaults.
            #[must_use]
            pub fn new() -> $name {
                $name::default()
            }

            $(
                $(#[$doc])*
                #[must_use]
                pub fn $field(mut self, $field: impl Into<options_struct!(@given $type $(; $given)?)>) -> $name {
                    self.$field = options_struct!(@put $field $(; $given)?);
                    self
                }
            )*
        }
    };
    (@given $type:ty) => { $type };
    (@given $type:ty; $given:ty) => { $given };
    (@put $field:ident) => { $field.into() };
    (@put $field:ident; $given:ty) => { Some($field.into()) };
}
pub(crate) use options_struct;

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Until it is free.
    #[default]
    Forever,
    /// At most this long; zero is the same as [`Wait::No`].
    For(Duration),
    /// Not at all. It still tries again for a few milliseconds, because a housekeeper or a status query may hold the lock
    /// for a moment.
    No,
}

/// By which means a lock is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockMethod {
    /// [`LockMethod::Flock`], except where advisory locks cannot be trusted: NFS, SMB and CIFS, AFS, and file systems
    /// that do not say what they are.
    #[default]
    Auto,
    /// flock(2) on a lock file without content.
    Flock,
    /// A lock file that is created by link(2) and says who holds it. The file system need not support locks. The holder
    /// keeps the file fresh; others break a lock that is not kept fresh ([`LockOptions::stale_after`]).
    Link,
}

options_struct! {
    /// How a target's lock is found and taken. Every program that locks the same target must use the same `file`, `dir`
    /// and `keep_file`.
    ///
    /// **The defaults do not ask the environment.** The commands and the C library do: where `AWRITE_LOCK_DIR` or another of
    /// their variables is set, a program with the defaults takes another lock than they take. A program that works on files
    /// together with them begins with [`LockOptions::from_env`].
    LockOptions {
        /// How long to wait.
        wait: Wait = Wait::default(),
        /// Share the lock with other shared holders. A write ignores this and holds the lock alone.
        shared: bool = false,
        /// Use this lock file instead of `TARGET.lock`.
        file: Option<PathBuf> = None; PathBuf,
        /// Put lock files in this directory, named after the target's whole path with `/` written `%`, and `\\` before a `%` or
        /// `\\` of the path.
        dir: Option<PathBuf> = None; PathBuf,
        /// Permission bits of a lock file that is created. Default: 0600, plus read and write for group, others, and the
        /// users and groups of an ACL where the target gives them write.
        mode: Option<u32> = None,
        /// Leave the lock file in place on release: for a lock shared with programs that do not check its inode, such
        /// as plain `flock(1)`.
        keep_file: bool = false,
        /// Follow a symbolic link to the file it means, so that all names of a file share one lock. Default: true.
        follow: bool = true,
        /// Act as the holder of a lease. The lock is only taken while the lease belongs to this owner; a lease whose time
        /// has passed still does if nobody else has taken it. A write checks that again right before it replaces the
        /// target. Default: wait for the end of a lease as for the lock; but a process whose ancestor has handed its
        /// lease over ([`Lease::hand_over`](crate::Lease::hand_over)) acts as the holder of that lease.
        claim: Option<Claim> = None,
        /// The store that keeps the lease, for many hosts without a common file system: `SCHEME://REST`. All functions of
        /// [`Lease`](crate::Lease) then ask it, through the program `awrite-store-SCHEME` (awrite-store(7)), and take no
        /// lock. A target of the form `WORD:REST`, without a slash before the colon, is then a plain name; any other is a
        /// path, and its lease is named after the whole path. A write as the holder ([`LockOptions::claim`]) takes the
        /// file's lock and, right before it replaces the file, makes sure that the lease has not ended by this host's
        /// clock, that the store still says so, and that no greater token has written the file: the greatest is kept
        /// beside it, in `TARGET.lease`. A write without a claim, and a lock, ask no store.
        store: Option<String> = None; String,
        /// The plain name of the lease that a write stands under. Default: that of the file's path. With `store` and
        /// `claim`; or below a command that runs under this lease, without either.
        lease: Option<String> = None; String,
        /// Why a lease is taken or refreshed: one line of at most 255 bytes, for those who are kept out. Default: what the
        /// lease says already.
        reason: Option<String> = None; String,
        /// Go on under this lock, which the program holds already, instead of taking it: `under(&lock)`. It must be the
        /// target's, found by the same `file`, `dir` and `follow`, and must not be shared if the target is to be written.
        /// It stays held. Two writes under one lock at the same time do not exclude each other. If it is released before
        /// the commit, that fails ([`ErrorKind::LockLost`](crate::ErrorKind::LockLost)).
        under: Option<Under> = None; Under,
        /// Time a limited wait by `SIGALRM` and the process's real interval timer, instead of polling. The lock is then
        /// taken some 30 µs after it is free instead of some milliseconds. The wait changes process-wide state, so this is
        /// only for a program that uses neither and acquires from its main thread. Default: false.
        use_alarm: bool = false,
        /// By which means the lock is held. Both methods respect each other's locks, but every program should use the
        /// same: neither can tell that a holder by the other method on another machine has crashed.
        method: LockMethod = LockMethod::default(),
        /// For a link lock: after how long without a sign of life from this process others break the lock. This process
        /// gives one every third of that time. Default (`None`): 60 seconds.
        stale_after: Option<Duration> = None,
    }
}

/// The environment variable for [`LockOptions::store`].
pub(crate) const STORE_VARIABLE: &str = "AWRITE_STORE";

/// A [`FileLock`](crate::FileLock), or several, to go on under ([`LockOptions::under`]). It does not keep the lock.
#[derive(Clone)]
pub struct Under(Arc<Locks>);

type Locks = dyn Any + Send + Sync + UnwindSafe + RefUnwindSafe;

impl Under {
    /// Locks are of a higher floor than options, which only pass them on.
    pub(crate) fn new(locks: impl Any + Send + Sync + UnwindSafe + RefUnwindSafe) -> Under {
        Under(Arc::new(locks))
    }

    pub(crate) fn get<T: Any>(&self) -> Option<&T> {
        let locks: &dyn Any = &*self.0;
        locks.downcast_ref()
    }
}

// Nobody changes what is in it.
impl UnwindSafe for Under {}
impl RefUnwindSafe for Under {}

impl fmt::Debug for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Under")
    }
}

impl LockOptions {
    /// The defaults, with `AWRITE_LOCK_DIR` (a directory), `AWRITE_KEEP_LOCK` (`1`), `AWRITE_LOCK_METHOD` (`auto`,
    /// `flock`, `link`), `AWRITE_STALE_AFTER` (a duration: `90`, `1.5`, `500ms`, `2m`) and `AWRITE_STORE` (the URL of
    /// [`LockOptions::store`]) taken from the environment, as the commands do. Any other value is ignored; the commands
    /// refuse it. But one of `AWRITE_STORE` is an error of whatever needs the store.
    #[must_use]
    pub fn from_env() -> LockOptions {
        LockOptions {
            // What is not UTF-8 becomes a store that there is none of, not a lease without one.
            store: std::env::var_os(STORE_VARIABLE)
                .filter(|v| !v.is_empty())
                .map(|v| v.into_string().unwrap_or_default()),
            dir: std::env::var_os("AWRITE_LOCK_DIR").filter(|v| !v.is_empty()).map(PathBuf::from),
            keep_file: std::env::var_os("AWRITE_KEEP_LOCK").is_some_and(|v| !v.is_empty() && v != "0"),
            method: match std::env::var_os("AWRITE_LOCK_METHOD") {
                Some(v) if v == "flock" => LockMethod::Flock,
                Some(v) if v == "link" => LockMethod::Link,
                _ => LockMethod::Auto,
            },
            stale_after: std::env::var("AWRITE_STALE_AFTER")
                .ok()
                .and_then(|v| parse_duration(&v))
                .filter(|d| !d.is_zero()),
            ..LockOptions::default()
        }
    }
}

/// Names the lease that a program acts under: by its owner and, optionally, by its token, which tells it from earlier and
/// later leases of the same owner.
///
/// Two programs with the same owner share its leases. An owner is any text of 1 to 255 bytes without control characters.
///
/// ```
/// # fn main() -> awrite::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("config.json");
/// let lease = awrite::Lease::acquire(&path, "agent-7", std::time::Duration::from_secs(60), &Default::default())?;
/// // Elsewhere, maybe in another process that knows the owner and the token:
/// let claim = awrite::Claim::new("agent-7")?.with_token(lease.token());
/// let options = awrite::WriteOptions::new().lock(awrite::LockOptions::new().claim(claim));
/// awrite::write(&path, "new", &options)?;
/// # lease.release()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    owner: String,
    token: Option<u64>,
}

impl Claim {
    /// Any lease that `owner` has.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`]: `owner` is empty, longer than 255 bytes, or has control characters.
    pub fn new(owner: impl Into<String>) -> Result<Claim> {
        let owner = owner.into();
        check_owner(&owner)?;
        Ok(Claim { owner, token: None })
    }

    /// A lease that is known to exist.
    pub(crate) fn of(owner: &str, token: u64) -> Claim {
        Claim { owner: owner.to_owned(), token: Some(token) }
    }

    /// Only the lease with this token.
    #[must_use]
    pub fn with_token(self, token: u64) -> Claim {
        Claim { token: Some(token), ..self }
    }

    /// The owner.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The token, if one is claimed.
    #[must_use]
    pub fn token(&self) -> Option<u64> {
        self.token
    }
}

/// The longest owner, in bytes.
pub(crate) const MAX_OWNER: usize = 255;

/// Refuses what cannot be the reason of a lease: nothing, more than 255 bytes, control characters.
#[doc(hidden)]
pub fn check_reason(reason: &str) -> Result<()> {
    let why = if reason.is_empty() {
        "the reason of a lease is empty"
    } else if reason.len() > MAX_OWNER {
        "the reason of a lease is longer than 255 bytes"
    } else if reason.contains(char::is_control) {
        "the reason of a lease must be one line, without control characters"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Usage, why))
}

/// The longest URL of a store, in bytes.
const MAX_URL: usize = 1024;

/// Refuses what cannot name a store, or returns its scheme.
#[doc(hidden)]
pub fn scheme_of_store(url: &str) -> Result<&str> {
    let is_word = |scheme: &str| {
        let mut letters = scheme.bytes();
        letters.next().is_some_and(|b| b.is_ascii_lowercase())
            && letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-'))
    };
    let why = match url.split_once("://") {
        _ if url.len() > MAX_URL || url.contains(char::is_control) => {
            "the URL of a store is one line of at most 1024 bytes"
        }
        Some((scheme, rest)) if is_word(scheme) && !rest.is_empty() => return Ok(scheme),
        _ => "the URL of a store is SCHEME://REST, such as etcd://localhost:2379/locks",
    };
    Err(Error::new(ErrorKind::Usage, why))
}

/// Whether a target is the plain name of a lease in a store: `WORD:REST` without a slash before the colon.
pub(crate) fn is_plain_name(target: &[u8]) -> bool {
    let end = target.iter().position(|b| matches!(b, b':' | b'/')).unwrap_or(0);
    end > 0 && target[end] == b':' && end + 1 < target.len()
}

/// Refuses what is not the plain name of a lease.
#[doc(hidden)]
pub fn check_lease_name(name: &str) -> Result<()> {
    if is_plain_name(name.as_bytes()) {
        return Ok(());
    }
    let reason = format!("'{}': the plain name of a lease is WORD:REST", shown(name.as_ref()));
    Err(Error::new(ErrorKind::Usage, reason).with_hint("the lease of a file's path is used without being named"))
}

/// Refuses what cannot name an owner: nothing, more than 255 bytes, control characters.
pub(crate) fn check_owner(owner: &str) -> Result<()> {
    let reason = if owner.is_empty() {
        "the owner of a lease must have a name"
    } else if owner.len() > MAX_OWNER {
        "the name of a lease's owner is longer than 255 bytes"
    } else if owner.contains(char::is_control) {
        "the name of a lease's owner must not contain control characters"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Usage, reason))
}

/// What owner and group the new file gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ownership {
    /// The original's as far as that is permitted. Where the group cannot be kept, its permissions are cut down to those of
    /// others, so that no other group gains access.
    #[default]
    TryKeep,
    /// The original's; if that is not permitted, the write fails. Only then set-user-id and set-group-id bits and
    /// capabilities are kept, too.
    Keep,
    /// Those of the process that writes it.
    Writer,
}

/// What is synced before a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// File and directory: the new content survives power loss.
    #[default]
    Full,
    /// Only the file: power loss may bring the old content back, never a partial one.
    Data,
    /// Neither: only a crash of the process does no harm.
    None,
}

options_struct! {
    /// How the current content is kept.
    BackupOptions {
        /// What is put behind the target's name.
        suffix: OsString = ".backup".into(),
        /// The directory for the backup. Default: the target's.
        dir: Option<PathBuf> = None; PathBuf,
        /// Put the local time before the suffix: `NAME.YYYYMMDD-HHMMSS.backup`.
        timestamp: bool = false,
        /// Permission bits of the backup. Default: the original's. The backup is then a copy, never a link.
        mode: Option<u32> = None,
        /// After the commit, delete the target's dated backups but the newest ones, this many of them, at least 1. The one
        /// that was just made is among these. Backups have the time in their names then, as with `timestamp`. One that
        /// cannot be deleted is a [`Notice::Warning`](crate::Notice::Warning).
        ///
        /// Only names are compared: in a `dir` that has backups of several files of one name they are counted together.
        keep_newest: Option<u64> = None,
    }
}

impl BackupOptions {
    /// Whether the time is part of the backup's name.
    pub(crate) fn is_dated(&self) -> bool {
        self.timestamp || self.keep_newest.is_some()
    }
}

/// The caller's check of the new content. It is called before anything is replaced, with the path of the complete new file
/// and with the target as given; an error aborts the write.
#[derive(Clone)]
pub struct Check(Arc<Accept>);

type Accept = dyn Fn(&Path, &Path) -> Result<()> + Send + Sync;

impl Check {
    /// A check that runs `accept(new, target)`.
    pub fn new(accept: impl Fn(&Path, &Path) -> Result<()> + Send + Sync + 'static) -> Check {
        Check(Arc::new(accept))
    }

    pub(crate) fn run(&self, new: &Path, target: &Path) -> Result<()> {
        (self.0)(new, target)
    }
}

/// The caller's look at what will change. It is called before anything is replaced, after the [`Check`], with the target as
/// given, its current content (`None`: there is none) and the new content; an error aborts the write. It must not move the
/// positions of the files: `read_at` does not.
#[derive(Clone)]
pub struct Preview(Arc<Show>);

type Show = dyn Fn(&Path, Option<&File>, &File) -> Result<()> + Send + Sync;

impl Preview {
    /// A preview that runs `show(target, old, new)`.
    pub fn new(show: impl Fn(&Path, Option<&File>, &File) -> Result<()> + Send + Sync + 'static) -> Preview {
        Preview(Arc::new(show))
    }

    pub(crate) fn run(&self, target: &Path, old: Option<&File>, new: &File) -> Result<()> {
        (self.0)(target, old, new)
    }
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Preview")
    }
}

// As an observer's.
impl UnwindSafe for Check {}
impl RefUnwindSafe for Check {}
impl UnwindSafe for Preview {}
impl RefUnwindSafe for Preview {}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

options_struct! {
    /// How a file is replaced.
    WriteOptions {
        /// How the lock is taken.
        lock: LockOptions = LockOptions::default(),
        /// Take the lock at the commit instead of at the start, so that a slow producer blocks nobody. The old content is
        /// still read under the lock.
        lock_on_commit: bool = false,
        /// The new content begins with the current content.
        append: bool = false,
        /// Permission bits of the new file. Default: the original's, or 0666 less umask. Where the group should be kept
        /// and cannot, its bits are cut down to those of others.
        mode: Option<u32> = None,
        /// Permission bits of a file that is new, less umask. Default: 0666. For a copy: those of the file it is made of.
        new_mode: u32 = 0o666,
        /// Keep the original's mode. Default: true; otherwise the new file gets 0666 less umask.
        preserve_mode: bool = true,
        /// What happens to owner and group.
        ownership: Ownership = Ownership::default(),
        /// Carry extended attributes and ACLs over. Default: true.
        preserve_xattrs: bool = true,
        /// Replace a file that this user may not write.
        force: bool = false,
        /// Replace the target only if it contains this: for whoever reads it, takes a while without holding the lock, and
        /// writes it back. Compared under the lock as soon as it is held, and again right before the target is replaced;
        /// otherwise the write fails with [`ErrorKind::Conflict`](crate::ErrorKind::Conflict). Of a symbolic link that is
        /// replaced itself, the content of the file behind it counts.
        expect: Option<Expect> = None; Expect,
        /// Accept a write without any input. Otherwise it fails with [`ErrorKind::NoInput`](crate::ErrorKind::NoInput):
        /// mostly, whatever should have made the content has failed.
        allow_empty: bool = false,
        /// Leave the target untouched when its content is identical. A mode or an owner that is asked for is still set, on
        /// the file itself.
        if_changed: bool = false,
        /// Where rename is impossible, overwrite the file under the lock: something is mounted on it, only its directory
        /// may not be written, or it is another user's in a sticky directory. Not atomic.
        in_place: bool = false,
        /// Write into the existing file, so that its other hard links, and a container that it is mounted into, have the
        /// new content too. Atomic where the file system can exchange contents (XFS, since Linux 6.10); elsewhere the
        /// file is overwritten, as with `in_place`.
        keep_inode: bool = false,
        /// What is synced.
        durability: Durability = Durability::default(),
        /// Before the target is replaced, read the new content back and compare it with what was received: from the device,
        /// where the system allows to drop what it has cached. Whatever is overwritten in place is read back afterwards.
        /// Not with [`Durability::None`].
        verify: bool = false,
        /// Create missing parent directories.
        mkdir: bool = false,
        /// Keep the current content.
        backup: Option<BackupOptions> = None,
        /// Checks the new content before the commit.
        check: Option<Check> = None,
        /// Is shown what will change, before the commit.
        preview: Option<Preview> = None,
        /// Do everything but the commit: take the lock, stage and sync the new content, run the check, prepare the backup.
        /// Then take all of that back. The write fails where a real one would, as far as that can be known.
        dry_run: bool = false,
        /// Is told what happens.
        observer: Observer = Observer::default(),
    }
}

impl WriteOptions {
    /// Whether the target may be overwritten instead of replaced.
    pub(crate) fn may_overwrite(&self) -> bool {
        self.in_place || self.keep_inode
    }
}
