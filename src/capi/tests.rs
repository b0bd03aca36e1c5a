use std::ffi::{CStr, c_void};
use std::fmt::Debug;
use std::mem::offset_of;
use std::time::Duration;

use super::argument::{Extensible, Out, read_options};
use super::housekeep::{self as h, awrite_housekeep_options, housekeep_options};
use super::lock::{self as l, awrite_lock_options, lock_options};
use super::status::awrite_status::{AWRITE_INTERNAL, AWRITE_OK};
use super::status::{awrite_last_errno, awrite_last_error, guard, guard_or};
use super::write::{self as w, awrite_write_options, write_options};
use crate::error::Result;
use crate::housekeep::HousekeepOptions;
use crate::options::Claim;
use crate::options::{BackupOptions, Durability, LockMethod, LockOptions, Ownership, Wait, WriteOptions};

fn last_error() -> String {
    // SAFETY: it is never NULL, and this thread makes no other call before the copy.
    unsafe { CStr::from_ptr(awrite_last_error()) }.to_str().unwrap().to_owned()
}

#[test]
fn a_panic_becomes_a_status() {
    assert_eq!(guard(|| panic!("a {}", "bug")), AWRITE_INTERNAL);
    assert_eq!(last_error(), "internal error: a bug");
    assert_eq!(awrite_last_errno(), 0);
    assert_eq!(guard_or(-1, || panic!("another")), -1);
    assert_eq!(last_error(), "internal error: another");
    assert_eq!(guard(|| Ok(())), AWRITE_OK);
    assert_eq!(last_error(), "internal error: another", "success leaves it alone");
}

#[test]
fn each_thread_has_its_own_error() {
    guard(|| panic!("here"));
    std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
    assert_eq!(last_error(), "internal error: here");
}

/// The options of a caller that was built with a later version of the header: two words longer.
#[repr(C)]
struct Later(awrite_lock_options, [usize; 2]);

#[test]
fn a_later_callers_options_count_if_they_are_default() {
    let known = size_of::<awrite_lock_options>();
    let mut later = Later(awrite_lock_options { size: known + 16, timeout_ms: 7, ..Extensible::zeroed() }, [0, 0]);
    let read = |later: &Later| {
        // SAFETY: the struct is at least as long as its size says, or the size is refused.
        unsafe { read_options::<awrite_lock_options>(std::ptr::from_ref(later).cast::<c_void>().cast()) }
    };
    assert_eq!(read(&later).unwrap().timeout_ms, 7);
    later.1[1] = 1;
    assert!(read(&later).err().unwrap().to_string().contains("does not know"));
    // The word that is not zero is now outside of the size.
    later.0.size = known + 8;
    assert!(read(&later).is_ok());
    for size in [0, 8, awrite_lock_options::MIN_SIZE - 1, 1 << 40, usize::MAX] {
        later.0.size = size;
        let reason = read(&later).err().unwrap().to_string();
        assert!(reason.contains("must be sizeof(awrite_lock_options)"), "{reason}");
    }
}

/// A struct to whose first version a member was added.
#[repr(C)]
#[derive(Clone, Copy)]
struct Grown {
    size: usize,
    old: usize,
    new: usize,
}

// SAFETY: repr(C), begins with its size, and numbers follow without a gap.
unsafe impl Extensible for Grown {
    const NAME: &'static str = "grown";
    const MIN_SIZE: usize = offset_of!(Self, new);
}

#[test]
fn an_earlier_callers_struct_is_shorter() {
    let mut short = [Grown::MIN_SIZE, 7, 8];
    let at = short.as_mut_ptr().cast::<Grown>();
    // SAFETY: it is as long as its size says.
    let read = unsafe { read_options(at.cast_const()) }.unwrap();
    assert_eq!((read.size, read.old, read.new), (Grown::MIN_SIZE, 7, 0));
    // SAFETY: the same.
    unsafe { Out::new(at) }.unwrap().put(&Grown { size: 1, old: 2, new: 3 });
    assert_eq!(short, [Grown::MIN_SIZE, 2, 8]);
}

/// How an option is set in C, and how the same one is set in Rust.
type Sets<C, R> = (fn(&mut C), fn(&mut R));

/// Checks that each option of C sets its counterpart in Rust, and nothing else.
#[track_caller]
fn assert_each<C: Extensible, R: Clone + Debug>(read: impl Fn(*const C) -> Result<R>, plain: &R, cases: &[Sets<C, R>]) {
    let given = |change: fn(&mut C)| {
        let mut given = C::zeroed();
        change(&mut given);
        // SAFETY: every such struct begins with its size.
        unsafe { std::ptr::from_mut(&mut given).cast::<usize>().write(size_of::<C>()) };
        format!("{:?}", read(&raw const given).unwrap())
    };
    assert_eq!(given(|_| {}), format!("{plain:?}"), "nothing is set");
    for (number, &(ask, set)) in cases.iter().enumerate() {
        let mut expected = plain.clone();
        set(&mut expected);
        let (got, expected) = (given(ask), format!("{expected:?}"));
        assert_eq!(got, expected, "case {number}");
        assert_ne!(got, format!("{plain:?}"), "case {number}");
    }
}

#[test]
fn each_option_of_a_lock_is_the_one_it_is_called() {
    assert_each::<awrite_lock_options, LockOptions>(
        // SAFETY: `assert_each` passes a valid struct of its own.
        |at| unsafe { lock_options(at) },
        &LockOptions::from_env(),
        &[
            (|c| c.flags = l::AWRITE_LOCK_SHARED, |r| r.shared = true),
            (|c| c.flags = l::AWRITE_LOCK_KEEP, |r| r.keep_file = true),
            (|c| c.flags = l::AWRITE_LOCK_NO_FOLLOW, |r| r.follow = false),
            (|c| c.wait = l::AWRITE_WAIT_NO, |r| r.wait = Wait::No),
            (
                |c| (c.wait, c.timeout_ms) = (l::AWRITE_WAIT_LIMITED, 1500),
                |r| r.wait = Wait::For(Duration::from_millis(1500)),
            ),
            (|c| c.method = l::AWRITE_METHOD_FLOCK, |r| r.method = LockMethod::Flock),
            (|c| c.method = l::AWRITE_METHOD_LINK, |r| r.method = LockMethod::Link),
            (|c| c.lock_mode = 0o640, |r| r.mode = Some(0o640)),
            (|c| c.lock_mode = l::AWRITE_MODE_NONE, |r| r.mode = Some(0)),
            (|c| c.lock_file = c"a".as_ptr(), |r| r.file = Some("a".into())),
            (|c| c.lock_dir = c"b".as_ptr(), |r| r.dir = Some("b".into())),
            (|c| c.stale_after_ms = 7, |r| r.stale_after = Some(Duration::from_millis(7))),
            (|c| c.reason = c"why".as_ptr(), |r| r.reason = Some("why".to_owned())),
            (|c| c.owner = c"o".as_ptr(), |r| r.claim = Some(Claim::new("o").unwrap())),
            (|c| (c.owner, c.token) = (c"o".as_ptr(), 9), |r| r.claim = Some(Claim::new("o").unwrap().with_token(9))),
        ],
    );
}

#[test]
fn each_option_of_a_write_is_the_one_it_is_called() {
    assert_each::<awrite_write_options, WriteOptions>(
        // SAFETY: `assert_each` passes a valid struct of its own.
        |at| unsafe { write_options(at) },
        &WriteOptions::new().lock(LockOptions::from_env()),
        &[
            (|c| c.flags = w::AWRITE_WRITE_LATE_LOCK, |r| r.lock_on_commit = true),
            (|c| c.flags = w::AWRITE_WRITE_APPEND, |r| r.append = true),
            (|c| c.flags = w::AWRITE_WRITE_NO_PRESERVE_MODE, |r| r.preserve_mode = false),
            (|c| c.flags = w::AWRITE_WRITE_NO_PRESERVE_XATTRS, |r| r.preserve_xattrs = false),
            (|c| c.flags = w::AWRITE_WRITE_FORCE, |r| r.force = true),
            (|c| c.flags = w::AWRITE_WRITE_ALLOW_EMPTY, |r| r.allow_empty = true),
            (|c| c.flags = w::AWRITE_WRITE_IF_CHANGED, |r| r.if_changed = true),
            (|c| c.flags = w::AWRITE_WRITE_IN_PLACE, |r| r.in_place = true),
            (|c| c.flags = w::AWRITE_WRITE_KEEP_INODE, |r| r.keep_inode = true),
            (|c| c.flags = w::AWRITE_WRITE_MKDIR, |r| r.mkdir = true),
            (|c| c.flags = w::AWRITE_WRITE_BACKUP, |r| r.backup = Some(BackupOptions::default())),
            (
                |c| c.flags = w::AWRITE_WRITE_BACKUP_TIMESTAMP,
                |r| r.backup = Some(BackupOptions { timestamp: true, ..BackupOptions::default() }),
            ),
            (
                |c| c.backup_suffix = c".old".as_ptr(),
                |r| r.backup = Some(BackupOptions { suffix: ".old".into(), ..BackupOptions::default() }),
            ),
            (
                |c| c.backup_dir = c"d".as_ptr(),
                |r| r.backup = Some(BackupOptions { dir: Some("d".into()), ..BackupOptions::default() }),
            ),
            (
                |c| c.backup_mode = 0o400,
                |r| r.backup = Some(BackupOptions { mode: Some(0o400), ..BackupOptions::default() }),
            ),
            (|c| c.mode = 0o4755, |r| r.mode = Some(0o4755)),
            (|c| c.mode = l::AWRITE_MODE_NONE, |r| r.mode = Some(0)),
            (|c| c.sync = w::AWRITE_SYNC_DATA, |r| r.durability = Durability::Data),
            (|c| c.sync = w::AWRITE_SYNC_NONE, |r| r.durability = Durability::None),
            (|c| c.ownership = w::AWRITE_OWNERSHIP_KEEP, |r| r.ownership = Ownership::Keep),
            (|c| c.ownership = w::AWRITE_OWNERSHIP_WRITER, |r| r.ownership = Ownership::Writer),
        ],
    );
}

#[test]
fn each_option_of_housekeeping_is_the_one_it_is_called() {
    assert_each::<awrite_housekeep_options, HousekeepOptions>(
        // SAFETY: `assert_each` passes a valid struct of its own.
        |at| unsafe { housekeep_options(at) },
        &HousekeepOptions::default(),
        &[
            (|c| c.flags = h::AWRITE_CLEAN_LOCKS, |r| r.locks = true),
            (|c| c.flags = h::AWRITE_CLEAN_BACKUPS, |r| r.backups = true),
            (|c| c.flags = h::AWRITE_CLEAN_TEMPS, |r| r.temps = true),
            (|c| c.flags = h::AWRITE_CLEAN_RECURSIVE, |r| r.recursive = true),
            (|c| c.flags = h::AWRITE_CLEAN_ONE_FILE_SYSTEM, |r| r.one_file_system = true),
            (|c| c.flags = h::AWRITE_CLEAN_DRY_RUN, |r| r.dry_run = true),
            (|c| c.flags = h::AWRITE_CLEAN_KEEP_NONE, |r| r.keep_newest = Some(0)),
            (|c| c.keep_newest = 3, |r| r.keep_newest = Some(3)),
            (|c| c.locks_older_than_s = 5, |r| r.locks_older_than = Duration::from_secs(5)),
            (|c| c.temps_older_than_s = 6, |r| r.temps_older_than = Duration::from_secs(6)),
            (|c| c.backups_older_than_s = 7, |r| r.backups_older_than = Some(Duration::from_secs(7))),
            (|c| c.backup_suffix = c".old".as_ptr(), |r| r.backup_suffix = ".old".into()),
        ],
    );
}
