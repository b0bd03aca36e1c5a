//! What comes in from C: strings, blocks, structs that begin with their size, handles.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::status::{awrite_status, guard};
use crate::error::{Error, ErrorKind, Result};

/// No struct of this library will ever be larger. What claims to be was not initialised.
const MAX_SIZE: usize = 4096;

/// The error of a caller who did not keep to the header.
pub(super) fn bad_argument(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, reason)
}

/// A string that must be there.
///
/// # Safety
///
/// NULL, or a string that ends in a zero byte and stays as it is during `'a`.
pub(super) unsafe fn string<'a>(text: *const c_char, name: &str) -> Result<&'a CStr> {
    if text.is_null() {
        return Err(bad_argument(format!("{name} is NULL")));
    }
    // SAFETY: not NULL, and the rest is what the caller promises.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// A path that must be there.
///
/// # Safety
///
/// As [`string`].
pub(super) unsafe fn path<'a>(text: *const c_char, name: &str) -> Result<&'a Path> {
    // SAFETY: the same promise.
    let text = unsafe { string(text, name) }?;
    Ok(Path::new(OsStr::from_bytes(text.to_bytes())))
}

/// A path, or NULL.
///
/// # Safety
///
/// As [`string`].
pub(super) unsafe fn optional_path<'a>(text: *const c_char, name: &str) -> Result<Option<&'a Path>> {
    // SAFETY: the same promise.
    if text.is_null() { Ok(None) } else { unsafe { path(text, name) }.map(Some) }
}

/// A text that must be there.
///
/// # Safety
///
/// As [`string`].
pub(super) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: the same promise.
    unsafe { string(text, name) }?.to_str().map_err(|_| bad_argument(format!("{name} is not UTF-8")))
}

/// A block to read. NULL is one of no bytes.
///
/// # Safety
///
/// NULL, or `size` bytes that may be read and do not change during `'a`.
pub(super) unsafe fn block<'a>(data: *const c_void, size: usize) -> Result<&'a [u8]> {
    ensure_block(data, size)?;
    if size == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, not longer than a slice may be; the rest is what the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), size) })
}

/// A block to write into.
///
/// # Safety
///
/// NULL, or `size` bytes that may be written and that nobody else looks at during `'a`.
pub(super) unsafe fn buffer<'a>(data: *mut c_void, size: usize) -> Result<&'a mut [u8]> {
    ensure_block(data, size)?;
    if size == 0 {
        return Ok(&mut []);
    }
    // A slice must not be of bytes without a value, and C's buffer may be one.
    // SAFETY: not NULL, not longer than a slice may be; the rest is what the caller promises.
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

/// An open descriptor of the caller's.
///
/// # Safety
///
/// It must not be closed during `'a`.
pub(super) unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(bad_argument("the descriptor is negative"));
    }
    // SAFETY: not -1; whether it is open the system calls find out, and that it stays so is what the caller promises.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Refuses flags outside of `known`. Returns what says whether a flag is set.
pub(super) fn known_flags(flags: u32, known: u32, name: &str) -> Result<impl Fn(u32) -> bool + use<>> {
    match flags & !known {
        0 => Ok(move |flag| flags & flag != 0),
        unknown => Err(bad_argument(format!("{name}: unknown flags {unknown:#x}"))),
    }
}

/// A member that a later version may give a meaning: 0 until then.
pub(super) fn ensure_reserved(value: u32, name: &str) -> Result<()> {
    if value == 0 { Ok(()) } else { Err(bad_argument(format!("{name} is not 0"))) }
}

/// A function of the caller's, and what it is called with, to be kept in options.
#[derive(Clone, Copy)]
pub(super) struct Callback<F> {
    function: F,
    context: *mut c_void,
}

// SAFETY: no thread of the library calls one. It is called within the calls that the caller makes, on the caller's
// threads, and the header says of each handle which of these may be made at once.
unsafe impl<F> Send for Callback<F> {}
// SAFETY: the same.
unsafe impl<F> Sync for Callback<F> {}

impl<F: Copy> Callback<F> {
    /// `None`: the caller has given none.
    pub(super) fn new(function: Option<F>, context: *mut c_void) -> Option<Callback<F>> {
        function.map(|function| Callback { function, context })
    }

    // Not as two members, of which a closure would capture each by itself, and so not this, which may be sent.
    pub(super) fn parts(&self) -> (F, *mut c_void) {
        (self.function, self.context)
    }
}

/// A C struct that begins with its size, a `size_t`, and may grow at its end.
///
/// # Safety
///
/// `repr(C)`, `usize` the first member, without padding, and all zero bytes are a value.
pub(super) unsafe trait Extensible: Copy {
    /// For messages.
    const NAME: &'static str;
    /// Its size in the first version of the library that had it: no caller has a shorter one. Once it has grown, that
    /// is `offset_of!` the first new member.
    const MIN_SIZE: usize;

    /// One with every member zero, its size too.
    fn zeroed() -> Self {
        // SAFETY: what the trait promises.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

/// Checks the size of such a struct, and returns it.
///
/// # Safety
///
/// Not NULL, and the size it begins with can be read.
unsafe fn checked_size<T: Extensible>(at: *const T) -> Result<usize> {
    if !at.is_aligned() {
        return Err(bad_argument(format!("{} is not aligned", T::NAME)));
    }
    // SAFETY: readable as the caller promises, and aligned.
    let size = unsafe { at.cast::<usize>().read() };
    if !(T::MIN_SIZE..=MAX_SIZE).contains(&size) {
        let name = T::NAME;
        return Err(bad_argument(format!("{name}.size is {size}; it must be sizeof({name})")));
    }
    Ok(size)
}

/// Reads options: those of an older caller, with zeros for what it does not know; those of a newer one, if what this
/// library does not know is zero. NULL: all zero.
///
/// # Safety
///
/// NULL, or as many readable bytes as it begins by saying.
pub(super) unsafe fn read_options<T: Extensible>(at: *const T) -> Result<T> {
    if at.is_null() {
        return Ok(T::zeroed());
    }
    // SAFETY: not NULL, and the rest is what the caller promises.
    let size = unsafe { checked_size(at) }?;
    let known = size_of::<T>();
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: no more bytes than either has, and the two are apart.
    unsafe { std::ptr::copy_nonoverlapping(at.cast::<u8>(), value.as_mut_ptr().cast(), size.min(known)) };
    for offset in known..size {
        // SAFETY: within the size that the caller promises.
        if unsafe { at.cast::<u8>().add(offset).read() } != 0 {
            let reason = format!("{} asks for something that this version of libawrite does not know", T::NAME);
            return Err(bad_argument(reason));
        }
    }
    // SAFETY: all zero was a value, and members that C has set are numbers and pointers: any bytes are.
    Ok(unsafe { value.assume_init() })
}

/// Where a result is to be put, checked before anything is done.
pub(super) struct Out<T> {
    /// Where to and how large; `None`: the caller does not want it.
    to: Option<(*mut T, usize)>,
}

impl<T: Extensible> Out<T> {
    /// # Safety
    ///
    /// NULL, or as many writable bytes as it begins by saying, until [`Out::put`].
    pub(super) unsafe fn new(at: *mut T) -> Result<Out<T>> {
        if at.is_null() {
            return Ok(Out { to: None });
        }
        // SAFETY: not NULL, and the rest is what the caller promises.
        let size = unsafe { checked_size(at.cast_const()) }?;
        Ok(Out { to: Some((at, size)) })
    }

    /// Puts it there, as much of it as the caller knows, and zeros where the caller knows more. The size stays.
    pub(super) fn put(self, value: &T) {
        let Some((at, size)) = self.to else { return };
        let (first, known) = (size_of::<usize>(), size_of::<T>().min(size));
        let from = std::ptr::from_ref(value).cast::<u8>();
        // SAFETY: `new` was promised that many bytes; the two are apart, since `value` is ours.
        unsafe {
            let to = at.cast::<u8>();
            std::ptr::copy_nonoverlapping(from.add(first), to.add(first), known - first);
            std::ptr::write_bytes(to.add(known), 0, size - known);
        }
    }
}

/// What a handle stands for: something of the process that made it, until it has been used up.
pub(super) struct Handle<T> {
    pid: u32,
    value: Option<T>,
}

impl<T> Handle<T> {
    pub(super) fn new(value: T) -> Handle<T> {
        Handle { pid: std::process::id(), value: Some(value) }
    }

    fn ensure_same_process(&self) -> Result<()> {
        // A forked child's copy shares the parent's descriptors, and their offsets.
        if self.pid == std::process::id() {
            Ok(())
        } else {
            Err(bad_argument("the handle belongs to the process that this one was forked from"))
        }
    }

    pub(super) fn get(&self) -> Result<&T> {
        self.ensure_same_process()?;
        self.value.as_ref().ok_or_else(used_up)
    }

    pub(super) fn get_mut(&mut self) -> Result<&mut T> {
        self.ensure_same_process()?;
        self.value.as_mut().ok_or_else(used_up)
    }

    /// Uses it up.
    pub(super) fn take(&mut self) -> Result<T> {
        self.ensure_same_process()?;
        self.value.take().ok_or_else(used_up)
    }
}

fn used_up() -> Error {
    bad_argument("the handle has been used up; nothing is left to do with it but to free it")
}

/// A handle that must be there.
///
/// # Safety
///
/// NULL, or a handle that was not freed, and that nobody changes during `'a`.
pub(super) unsafe fn handle<'a, T>(handle: *const T) -> Result<&'a T> {
    // SAFETY: what the caller promises; it was made by `Box` and so is aligned.
    unsafe { handle.as_ref() }.ok_or_else(|| bad_argument("the handle is NULL"))
}

/// The same, to be changed.
///
/// # Safety
///
/// NULL, or a handle that was not freed, and that nobody else uses during `'a`.
pub(super) unsafe fn handle_mut<'a, T>(handle: *mut T) -> Result<&'a mut T> {
    // SAFETY: what the caller promises; it was made by `Box` and so is aligned.
    unsafe { handle.as_mut() }.ok_or_else(|| bad_argument("the handle is NULL"))
}

/// The body of an export that makes a handle: puts what `make` returns there, or NULL if that fails.
///
/// # Safety
///
/// `to` is NULL or where a pointer can be written.
pub(super) unsafe fn new_handle<T>(to: *mut *mut T, make: impl FnOnce() -> Result<T>) -> awrite_status {
    guard(|| {
        if to.is_null() {
            return Err(bad_argument("there is no place for the handle: NULL"));
        }
        // SAFETY: not NULL, and writable as the caller promises.
        unsafe { to.write(std::ptr::null_mut()) };
        let made = Box::into_raw(Box::new(make()?));
        // SAFETY: as above.
        unsafe { to.write(made) };
        Ok(())
    })
}

/// The body of an export that frees a handle; NULL is fine.
///
/// # Safety
///
/// NULL, or a handle from [`new_handle`] that was not freed and that nobody uses.
pub(super) unsafe fn free_handle<T>(handle: *mut T) {
    guard(|| {
        if !handle.is_null() {
            // SAFETY: it came from `Box::into_raw` in `new_handle`, and the caller promises that it comes back once.
            drop(unsafe { Box::from_raw(handle) });
        }
        Ok(())
    });
}
