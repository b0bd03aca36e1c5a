//! Status and errors
//!
//! Nearly every function returns an awrite_status. On the thread that made the call, awrite_last_error(),
//! awrite_last_hint() and awrite_last_errno() say what exactly went wrong, and with which file.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::remedy;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::cancel::Uncancelled;

/// The result of a call. 0, 1, 2 and 4 are also the exit codes of the commands. (3 is theirs alone: a signal ended the
/// command. The library handles no signals.)
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum awrite_status {
    /// It is done.
    AWRITE_OK = 0,
    /// A system call failed, or the target is not a file that can be replaced. The target is unchanged.
    AWRITE_ERROR = 1,
    /// The lock could not be taken, or was lost: somebody else holds it and the time to wait is over, another owner has
    /// a lease, or the named lease is not the caller's (any more). The target is unchanged.
    AWRITE_LOCKED = 2,
    /// The target is not what awrite_write_options.expect says. It is unchanged. awrite_last_found() says what it is.
    AWRITE_CONFLICT = 4,
    /// An argument is wrong: NULL where something must be, a struct whose size is not set, an unknown flag, options
    /// that contradict each other, a handle of the parent process. Nothing was done.
    AWRITE_BAD_ARGUMENT = 5,
    /// The caller's own callback stopped it, or gave up a wait. A target is unchanged then.
    AWRITE_STOPPED = 6,
    /// A bug in the library. The call ended as if it had failed. The target is whole: it has the old content, or the
    /// new content if it had just been replaced.
    AWRITE_INTERNAL = 7,
    /// The target has been replaced, but its directory could not be synced: after a power cut the old content may be
    /// back. (If it was overwritten in place by AWRITE_WRITE_IN_PLACE, it may then have only a part of the new
    /// content.)
    AWRITE_NOT_DURABLE = 8,
}

/// A number that a caller passes as an `awrite_status`, whatever it is. The header has that name for it.
///
/// cbindgen:ignore
pub type any_status = u32;

use awrite_status::{
    AWRITE_BAD_ARGUMENT, AWRITE_CONFLICT, AWRITE_ERROR, AWRITE_INTERNAL, AWRITE_LOCKED, AWRITE_NOT_DURABLE, AWRITE_OK,
    AWRITE_STOPPED,
};

/// What `awrite_last_error()` and the functions beside it return.
#[derive(Default)]
struct LastError {
    text: CString,
    hint: CString,
    errno: c_int,
    found: CString,
}

thread_local! {
    static LAST: RefCell<LastError> = RefCell::default();
}

/// A string for C. Zero bytes inside the text are left out, because they would end the string early.
pub(super) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes = text.into();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}

/// A path as a string for C.
pub(super) fn c_path(path: &Path) -> CString {
    c_string(path.as_os_str().as_bytes())
}

/// A C string of fixed size: as much of `text` as there is room for, and a zero byte at its end.
pub(super) fn c_array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (to, &from) in array.iter_mut().take(N - 1).zip(text.as_bytes()) {
        *to = from as c_char;
    }
    array
}

fn set_last_error(last: LastError) {
    // A thread that is ending may have destroyed its `LAST` already. Nobody will ask for the error then.
    let _ = LAST.try_with(|cell| cell.replace(last));
}

fn status_of(kind: ErrorKind) -> awrite_status {
    match kind {
        ErrorKind::Usage => AWRITE_BAD_ARGUMENT,
        ErrorKind::Conflict => AWRITE_CONFLICT,
        ErrorKind::Refused | ErrorKind::Stopped => AWRITE_STOPPED,
        ErrorKind::NotDurable => AWRITE_NOT_DURABLE,
        ErrorKind::LockBusy | ErrorKind::LockTimeout | ErrorKind::Leased | ErrorKind::LockLost => AWRITE_LOCKED,
        _ => AWRITE_ERROR,
    }
}

fn record_error(error: &Error) -> awrite_status {
    set_last_error(LastError {
        text: c_string(error.to_string()),
        hint: c_string(error.hint_in(remedy::words).unwrap_or_default()),
        errno: error.errno().unwrap_or(0),
        found: c_string(error.found().map(|found| found.to_string()).unwrap_or_default()),
    });
    status_of(error.kind())
}

fn record_panic(payload: Box<dyn Any + Send>) -> awrite_status {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic".to_owned(),
    };
    set_last_error(LastError { text: c_string(format!("internal error: {text}")), ..LastError::default() });
    // Dropping the payload may panic too, and here nothing else would catch that. The payload of that second panic is
    // leaked, because dropping it could panic again.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    AWRITE_INTERNAL
}

/// Runs the body of an export and turns its result into a status. No panic leaves it: unwinding into C is undefined
/// behaviour. A C++ exception of a callback drops what is above this, as a panic does, and then `catch_unwind` aborts. The
/// thread cannot be cancelled meanwhile.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> awrite_status {
    let _uncancelled = Uncancelled::new();
    // Why `AssertUnwindSafe` is right: the crate's values that were in use are dropped while unwinding, and its mutexes
    // ignore poison. A handle that was in use is dropped too, or refuses to go on as after any failed write.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => AWRITE_OK,
        Ok(Err(error)) => record_error(&error),
        Err(payload) => record_panic(payload),
    }
}

/// The same for an export that does not return a status. It returns `otherwise` if the body fails.
pub(super) fn guard_or<T>(otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    let mut value = otherwise;
    guard(|| {
        value = body()?;
        Ok(())
    });
    value
}

/// Says what a status means: a short phrase in English.
///
/// @param status any number, also one of a later version.
///
/// @return a string that belongs to the library and stays. Never NULL. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn awrite_strerror(status: any_status) -> *const c_char {
    let text: &CStr = match status {
        0 => c"success",
        1 => c"input/output or general error",
        2 => c"the lock was not acquired, or was lost",
        3 => c"interrupted by a signal",
        4 => c"the target is not what was expected",
        5 => c"bad argument",
        6 => c"stopped by the callback",
        7 => c"internal error",
        8 => c"replaced, but not known to be durable",
        _ => c"unknown status",
    };
    text.as_ptr()
}

/// Says what was wrong in the last call on this thread that returned anything but AWRITE_OK: "PATH: REASON". One line
/// in UTF-8, without a newline at its end. Control characters in a path are escaped, and bytes that are not UTF-8 are
/// replaced. A call that succeeds leaves the text as it was.
///
/// @return a string that belongs to the library and stays until the next call on this thread that fails; "" before the
/// first one. Never NULL. Thread-safe: each thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn awrite_last_error() -> *const c_char {
    // Without `guard`, which would overwrite the error that the caller asks for. Nothing here can panic.
    LAST.try_with(|cell| cell.try_borrow().map_or(c"".as_ptr(), |last| last.text.as_ptr())).unwrap_or(c"".as_ptr())
}

/// What can be done about awrite_last_error(), or who holds the lock ("held by PID 4711 (python3 deploy.py)"): one
/// line, without a newline at its end, that the commands print as "Hint: ...". What it names are flags and members of
/// the options here.
///
/// @return a string that belongs to the library and stays until the next call on this thread that fails; "" where there
/// is no hint. Never NULL. Thread-safe: each thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn awrite_last_hint() -> *const c_char {
    LAST.try_with(|cell| cell.try_borrow().map_or(c"".as_ptr(), |last| last.hint.as_ptr())).unwrap_or(c"".as_ptr())
}

/// The errno of the system call behind awrite_last_error(), or 0 if there was none (the lock is held, a bad argument).
///
/// @return the number. It stays the same until the next call on this thread that fails. Thread-safe: each thread has
/// its own.
#[unsafe(no_mangle)]
pub extern "C" fn awrite_last_errno() -> c_int {
    LAST.try_with(|cell| cell.try_borrow().map_or(0, |last| last.errno)).unwrap_or(0)
}

/// What the target was found to contain when the last call on this thread failed with AWRITE_CONFLICT: "sha256:" and 64
/// hexadecimal digits, or "absent". The next awrite_write_options.expect, once the caller has read the target again.
///
/// @return a string that belongs to the library and stays until the next call on this thread that fails; "" if the last
/// one failed otherwise. Never NULL. Thread-safe: each thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn awrite_last_found() -> *const c_char {
    LAST.try_with(|cell| cell.try_borrow().map_or(c"".as_ptr(), |last| last.found.as_ptr())).unwrap_or(c"".as_ptr())
}

/// The version of the library that runs, such as "1.2.3". Compare it with AWRITE_VERSION, the version of the header.
///
/// @return a string that belongs to the library and stays. Never NULL. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn awrite_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The same as a number. Compare it with AWRITE_VERSION_NUMBER.
///
/// @return 1002003 for 1.2.3. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn awrite_version_number() -> u32 {
    const NUMBER: u32 = {
        version_number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
            + version_number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
            + version_number(env!("CARGO_PKG_VERSION_PATCH"))
    };
    NUMBER
}

const fn version_number(text: &str) -> u32 {
    let (bytes, mut at, mut number) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        number = number * 10 + (bytes[at] - b'0') as u32;
        at += 1;
    }
    number
}
