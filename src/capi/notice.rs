//! Notices
//!
//! A notice is what a person should know about a call that goes on and does not fail: that it waits, or that the file
//! system keeps less than was asked for. The commands print notices. The library prints nothing: it calls the function
//! in the member notice of the options, unless that is NULL.

use std::ffi::{c_char, c_void};
use std::path::Path;

use super::argument::Callback;
use super::status::{c_path, c_string};
use crate::duration::shown_duration;
use crate::notice::{Notice, Observer};

/// awrite_notice.kind. Later versions may add kinds: ignore those that you do not know.
pub type awrite_notice_kind = u32;
/// Nothing has failed, but something is less than it should be: the file system cannot sync a
/// directory, a lock file could not be removed, a file is being overwritten in place.
pub const AWRITE_NOTICE_WARNING: u32 = 1;
/// Somebody else holds the lock or a lease, and this call waits for it. At most once in a call.
pub const AWRITE_NOTICE_WAITING: u32 = 2;
/// The lock is held now, after AWRITE_NOTICE_WAITING.
pub const AWRITE_NOTICE_LOCKED: u32 = 3;
/// Worth knowing: other hard links keep the old content, an extended attribute was not kept.
pub const AWRITE_NOTICE_INFO: u32 = 4;

/// Something that the library tells while it works. The library makes it and its strings. They exist only during the
/// callback.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awrite_notice {
    /// The size of this struct in the library that runs.
    pub size: usize,
    /// What kind of notice it is.
    pub kind: awrite_notice_kind,
    /// 0.
    pub reserved: u32,
    /// What it is about: the target as it was given, the lock file, the backup. Never NULL.
    pub path: *const c_char,
    /// What happened: a phrase in English without a full stop at its end. Never NULL.
    pub text: *const c_char,
}

/// Gets notices, on the thread that makes the call, while the call goes on. It should be quick, and must not lock or
/// write the same target. It must return: no longjmp, no C++ exception.
pub type awrite_notice_fn = Option<unsafe extern "C" fn(notice: *const awrite_notice, context: *mut c_void)>;

/// An observer that calls the caller's function; `None` if that is NULL.
///
/// # Safety
///
/// `function` is NULL, or may be called with a notice and `context` as long as the observer or a copy of it lives.
pub(super) unsafe fn observer(function: awrite_notice_fn, context: *mut c_void) -> Option<Observer> {
    let callback = Callback::new(function, context)?;
    Some(Observer::new(move |notice| {
        let Some((kind, path, text)) = for_c(notice) else { return };
        let (path, text) = (c_path(path), c_string(text));
        let size = size_of::<awrite_notice>();
        let notice = awrite_notice { size, kind, reserved: 0, path: path.as_ptr(), text: text.as_ptr() };
        let (function, context) = callback.parts();
        // SAFETY: the caller promises it. The strings live until the function returns.
        unsafe { function(&raw const notice, context) }
    }))
}

/// Kind, path and text of a notice for C. `None` for a notice that C does not get: `awrite_result` reports it later, or
/// it comes often.
fn for_c<'a>(notice: &Notice<'a>) -> Option<(u32, &'a Path, String)> {
    Some(match *notice {
        Notice::Warning { path, text } => (AWRITE_NOTICE_WARNING, path, text.to_owned()),
        Notice::Waiting { target, timeout: None, .. } => (AWRITE_NOTICE_WAITING, target, "waiting for the lock".into()),
        Notice::Waiting { target, timeout: Some(limit), .. } => {
            (AWRITE_NOTICE_WAITING, target, format!("waiting for the lock, {} at the most", shown_duration(limit)))
        }
        Notice::Locked { target, contended: true, .. } => (AWRITE_NOTICE_LOCKED, target, "the lock is held now".into()),
        Notice::Info { path, text } => (AWRITE_NOTICE_INFO, path, text.to_owned()),
        _ => return None,
    })
}
