//! Arguments from C: strings, blocks of memory, structs that begin with their size, handles. Each is checked as far as
//! that is possible, and becomes a Rust value.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::status::{awrite_status, guard};
use crate::error::{Error, ErrorKind, Result};

/// No struct of this library will ever be larger. A larger size means that the caller did not initialise the struct.
const MAX_SIZE: usize = 4096;

/// The error for a call that breaks the rules of the header.
pub(super) fn bad_argument(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, reason)
}

/// A string; NULL is an error.
///
/// # Safety
///
/// `text` is NULL, or a string that ends in a zero byte and does not change during `'a`.
pub(super) unsafe fn string<'a>(text: *const c_char, name: &str) -> Result<&'a CStr> {
    if text.is_null() {
        return Err(bad_argument(format!("{name} is NULL")));
    }
    // SAFETY: it is not NULL; the caller promises the rest.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// A path; NULL is an error, and so is an empty one.
///
/// # Safety
///
/// The same as for [`string`].
pub(super) unsafe fn path<'a>(text: *const c_char, name: &str) -> Result<&'a Path> {
    // SAFETY: the caller promises the same.
    match unsafe { string(text, name) }?.to_bytes() {
        [] => Err(bad_argument(format!("{name} is empty"))),
        bytes => Ok(Path::new(OsStr::from_bytes(bytes))),
    }
}

/// The same; `None` for NULL.
///
/// # Safety
///
/// The same as for [`string`].
pub(super) unsafe fn optional_path<'a>(text: *const c_char, name: &str) -> Result<Option<&'a Path>> {
    // SAFETY: the caller promises the same.
    if text.is_null() { Ok(None) } else { unsafe { path(text, name) }.map(Some) }
}

/// A string in UTF-8; NULL is an error.
///
/// # Safety
///
/// The same as for [`string`].
pub(super) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: the caller promises the same.
    unsafe { string(text, name) }?.to_str().map_err(|_| bad_argument(format!("{name} is not UTF-8")))
}

/// A block to read from. NULL with a size of 0 is an empty block.
///
/// # Safety
///
/// `data` is NULL, or `size` bytes at `data` can be read and do not change during `'a`.
pub(super) unsafe fn block<'a>(data: *const c_void, size: usize) -> Result<&'a [u8]> {
    ensure_block(data, size)?;
    if size == 0 {
        return Ok(&[]);
    }
    // SAFETY: it is not NULL and not longer than a slice may be; the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), size) })
}

/// An array to read from. NULL with a count of 0 is an empty one.
///
/// # Safety
///
/// `at` is NULL, or `count` elements there can be read and do not change during `'a`. Any bytes are a valid element.
pub(super) unsafe fn array<'a, T>(at: *const T, count: usize) -> Result<&'a [T]> {
    ensure_block(at.cast(), count.saturating_mul(size_of::<T>()))?;
    if count == 0 {
        return Ok(&[]);
    }
    if !at.is_aligned() {
        return Err(bad_argument("the array is not aligned"));
    }
    // SAFETY: it is not NULL, aligned, and not longer than a slice may be; the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(at, count) })
}

/// A block to write into. It is filled with zeros first.
///
/// # Safety
///
/// `data` is NULL, or `size` bytes at `data` can be written and nobody else uses them during `'a`.
pub(super) unsafe fn buffer<'a>(data: *mut c_void, size: usize) -> Result<&'a mut [u8]> {
    ensure_block(data, size)?;
    if size == 0 {
        return Ok(&mut []);
    }
    // A Rust slice must not contain uninitialised bytes, and C's buffer may: hence the zeros.
    // SAFETY: it is not NULL and not longer than a slice may be; the caller promises the rest.
    unsafe {
        std::ptr::write_bytes(data.cast::<u8>(), 0, size);
        Ok(std::slice::from_raw_parts_mut(data.cast(), size))
    }
}

fn ensure_block(data: *const c_void, size: usize) -> Result<()> {
    if data.is_null() && size > 0 {
        return Err(bad_argument("data is NULL, but its size is not 0"));
    }
    if isize::try_from(size).is_err() {
        return Err(bad_argument("the size is larger than memory"));
    }
    Ok(())
}

/// A descriptor that belongs to the caller.
///
/// # Safety
///
/// Nobody closes it during `'a`.
pub(super) unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(bad_argument("the descriptor is negative"));
    }
    // SAFETY: it is not -1. If it is not open, the system calls fail. The caller promises that it stays open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Refuses flags outside of `known`. Returns a function that tells whether a flag is set.
pub(super) fn known_flags(flags: u32, known: u32, name: &str) -> Result<impl Fn(u32) -> bool + use<>> {
    match flags & !known {
        0 => Ok(move |flag| flags & flag != 0),
        unknown => Err(bad_argument(format!("{name}: unknown flags {unknown:#x}"))),
    }
}

/// Refuses a reserved member that is not 0. A later version may give it a meaning.
pub(super) fn ensure_reserved(value: u32, name: &str) -> Result<()> {
    if value == 0 { Ok(()) } else { Err(bad_argument(format!("{name} is not 0"))) }
}

/// A callback of the caller's together with its context argument. The options keep both.
#[derive(Clone, Copy)]
pub(super) struct Callback<F> {
    function: F,
    context: *mut c_void,
}

// SAFETY: the library's own threads never call it. It is only called during a call that the caller makes, on the
// caller's thread. The header says for each handle which calls may be made at the same time.
unsafe impl<F> Send for Callback<F> {}
// SAFETY: the same as for `Send`.
unsafe impl<F> Sync for Callback<F> {}

impl<F: Copy> Callback<F> {
    /// `None` where the caller gave no function.
    pub(super) fn new(function: Option<F>, context: *mut c_void) -> Option<Callback<F>> {
        function.map(|function| Callback { function, context })
    }

    // A method, because a closure that names the two members captures each of them separately. The pointer alone is
    // not `Send`; the whole `Callback` is.
    pub(super) fn parts(&self) -> (F, *mut c_void) {
        (self.function, self.context)
    }
}

/// A C struct that begins with its size, a `size_t`, so that later versions can add members at its end. (The kernel
/// calls this an extensible struct: see clone3(2), openat2(2).)
///
/// # Safety
///
/// The struct is `repr(C)`, begins with a `usize` and has no padding. Zero is a valid value of every member.
pub(super) unsafe trait Extensible: Copy {
    /// The name of the struct, for error messages.
    const NAME: &'static str;
    /// The size of the struct in the first release that had it. No caller has a shorter one. Once a member is added after
    /// that, this is the `offset_of!` that member.
    const MIN_SIZE: usize = size_of::<Self>();

    /// A struct with every member zero, also its size.
    fn zeroed() -> Self {
        // SAFETY: zero is a valid value, as the trait promises.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

/// Returns the size that the caller's struct begins with, after checking it.
///
/// # Safety
///
/// `at` is not NULL, and the size at its beginning can be read.
unsafe fn checked_size<T: Extensible>(at: *const T) -> Result<usize> {
    if !at.is_aligned() {
        return Err(bad_argument(format!("{} is not aligned", T::NAME)));
    }
    // SAFETY: it is aligned, and the caller promises that it can be read.
    let size = unsafe { at.cast::<usize>().read() };
    if !(T::MIN_SIZE..=MAX_SIZE).contains(&size) {
        let name = T::NAME;
        return Err(bad_argument(format!("{name}.size is {size}; it must be sizeof({name})")));
    }
    Ok(size)
}

/// Copies a struct of options from the caller. An older caller's struct is shorter: the missing members become zero. A
/// newer caller's struct is longer: the members that this library does not know must be zero. NULL means that all
/// members are zero.
///
/// # Safety
///
/// `at` is NULL, or begins with its size, and that many bytes can be read.
pub(super) unsafe fn read_options<T: Extensible>(at: *const T) -> Result<T> {
    if at.is_null() {
        return Ok(T::zeroed());
    }
    // SAFETY: it is not NULL; the caller promises the rest.
    let size = unsafe { checked_size(at) }?;
    let known = size_of::<T>();
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both are at least that long. They do not overlap, because `value` is ours.
    unsafe { std::ptr::copy_nonoverlapping(at.cast::<u8>(), value.as_mut_ptr().cast(), size.min(known)) };
    for offset in known..size {
        // SAFETY: the offset is below the size, and the caller promises that many bytes.
        if unsafe { at.cast::<u8>().add(offset).read() } != 0 {
            let reason = format!("{} asks for something that this version of libawrite does not know", T::NAME);
            return Err(bad_argument(reason));
        }
    }
    // SAFETY: zero is a valid value. C has overwritten numbers and pointers, for which any bytes are valid.
    Ok(unsafe { value.assume_init() })
}

/// An out-parameter: a struct of the caller's that receives a result. It is checked before the work begins, and filled
/// after the work has succeeded.
pub(super) struct Out<T> {
    /// The caller's struct and its size; `None` if the caller passed NULL and wants no result.
    to: Option<(*mut T, usize)>,
}

impl<T: Extensible> Out<T> {
    /// # Safety
    ///
    /// `at` is NULL, or begins with its size, and that many bytes can be written until [`Out::put`].
    pub(super) unsafe fn new(at: *mut T) -> Result<Out<T>> {
        if at.is_null() {
            return Ok(Out { to: None });
        }
        // SAFETY: it is not NULL; the caller promises the rest.
        let size = unsafe { checked_size(at.cast_const()) }?;
        Ok(Out { to: Some((at, size)) })
    }

    /// Whether the caller has passed a struct.
    pub(super) fn is_wanted(&self) -> bool {
        self.to.is_some()
    }

    /// Fills the caller's struct. An older caller gets the members that it knows. A newer caller gets zeros for the
    /// members that this library does not know. The size stays as the caller set it.
    pub(super) fn put(self, value: &T) {
        let Some((at, size)) = self.to else { return };
        let (first, known) = (size_of::<usize>(), size_of::<T>().min(size));
        let from = std::ptr::from_ref(value).cast::<u8>();
        // SAFETY: the caller of `new` promised that many bytes. The two do not overlap, because `value` is ours.
        unsafe {
            let to = at.cast::<u8>();
            std::ptr::copy_nonoverlapping(from.add(first), to.add(first), known - first);
            std::ptr::write_bytes(to.add(known), 0, size - known);
        }
    }
}

/// What is behind a handle. It belongs to the process that made it. A commit, a release or a detach takes the value
/// out, and the handle is then used up.
pub(super) struct Handle<T> {
    pid: u32,
    value: Option<T>,
}

/// Refuses what the process `pid` has made. In a forked child the copy of it shares the parent's open file descriptions:
/// their locks and offsets.
pub(super) fn ensure_same_process(pid: u32) -> Result<()> {
    if pid == std::process::id() {
        Ok(())
    } else {
        Err(bad_argument("the handle belongs to the process that this one was forked from"))
    }
}

impl<T> Handle<T> {
    pub(super) fn new(value: T) -> Handle<T> {
        Handle { pid: std::process::id(), value: Some(value) }
    }

    pub(super) fn get(&self) -> Result<&T> {
        ensure_same_process(self.pid)?;
        self.value.as_ref().ok_or_else(used_up)
    }

    pub(super) fn get_mut(&mut self) -> Result<&mut T> {
        ensure_same_process(self.pid)?;
        self.value.as_mut().ok_or_else(used_up)
    }

    /// Takes the value. The handle is used up.
    pub(super) fn take(&mut self) -> Result<T> {
        ensure_same_process(self.pid)?;
        self.value.take().ok_or_else(used_up)
    }
}

fn used_up() -> Error {
    bad_argument("the handle has been used up; nothing is left to do with it but to free it")
}

/// A handle, to be read; NULL is an error.
///
/// # Safety
///
/// `handle` is NULL, or was not freed yet and nobody changes it during `'a`.
pub(super) unsafe fn handle<'a, T>(handle: *const T) -> Result<&'a T> {
    // SAFETY: the caller promises it. The library made the handle, so it is aligned.
    unsafe { handle.as_ref() }.ok_or_else(|| bad_argument("the handle is NULL"))
}

/// A handle, to be changed; NULL is an error.
///
/// # Safety
///
/// `handle` is NULL, or was not freed yet and nobody else uses it during `'a`.
pub(super) unsafe fn handle_mut<'a, T>(handle: *mut T) -> Result<&'a mut T> {
    // SAFETY: the caller promises it. The library made the handle, so it is aligned.
    unsafe { handle.as_mut() }.ok_or_else(|| bad_argument("the handle is NULL"))
}

/// The body of an export that makes a handle: writes a handle of what `make` returns to `to`, or NULL if that fails.
///
/// # Safety
///
/// `to` is NULL, or a pointer can be written there.
pub(super) unsafe fn new_handle<T>(to: *mut *mut T, make: impl FnOnce() -> Result<T>) -> awrite_status {
    guard(|| {
        if to.is_null() {
            return Err(bad_argument("there is no place for the handle: NULL"));
        }
        // SAFETY: it is not NULL, and the caller promises that it can be written.
        unsafe { to.write(std::ptr::null_mut()) };
        let made = Box::into_raw(Box::new(make()?));
        // SAFETY: as above.
        unsafe { to.write(made) };
        Ok(())
    })
}

/// The body of an export that frees a handle. NULL is allowed.
///
/// # Safety
///
/// `handle` is NULL, or comes from [`new_handle`], was not freed yet, and nobody uses it.
pub(super) unsafe fn free_handle<T>(handle: *mut T) {
    guard(|| {
        if !handle.is_null() {
            // SAFETY: `Box::into_raw` in `new_handle` made it, and the caller promises to free it only once.
            drop(unsafe { Box::from_raw(handle) });
        }
        Ok(())
    });
}
