use std::ffi::{CStr, c_void};

use super::argument::{Growing, options};
use super::lock::awrite_lock_options;
use super::status::awrite_status::{AWRITE_INTERNAL, AWRITE_OK};
use super::status::{awrite_last_errno, awrite_last_error, guard, guard_or};

fn last_error() -> String {
    // SAFETY: never NULL, and no other call on this thread comes between.
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

/// An option struct of a caller who was built with a later version: two words longer.
#[repr(C)]
struct Later(awrite_lock_options, [usize; 2]);

#[test]
fn a_later_callers_options_count_if_they_are_default() {
    let known = size_of::<awrite_lock_options>();
    let mut later = Later(awrite_lock_options { size: known + 16, timeout_ms: 7, ..Growing::zero() }, [0, 0]);
    let read = |later: &Later| {
        // SAFETY: as long as it says.
        unsafe { options::<awrite_lock_options>(std::ptr::from_ref(later).cast::<c_void>().cast()) }
    };
    assert_eq!(read(&later).unwrap().timeout_ms, 7);
    later.1[1] = 1;
    assert!(read(&later).err().unwrap().to_string().contains("does not know"));
    // Not part of what it says it has.
    later.0.size = known + 8;
    assert!(read(&later).is_ok());
    for size in [0, 8, known - 1, 1 << 40, usize::MAX] {
        later.0.size = size;
        let reason = read(&later).err().unwrap().to_string();
        assert!(reason.contains("must be sizeof(awrite_lock_options)"), "{reason}");
    }
}
