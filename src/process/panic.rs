//! Panics: unwinding cleans up, then an error message is printed.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;

use awrite::{Error, ErrorKind};

use crate::report::{self, exit};

/// The message of the first panic.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs `work` and returns its status. After a panic, unwinding has cleaned up; the panic is reported and the status is
/// 1.
///
/// The hook is set for the whole process, so the signal thread prints no message of its own either.
pub(crate) fn guard(work: impl FnOnce() -> u8) -> u8 {
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("panic");
        let text = match panic.location() {
            Some(place) => format!("{text} ({}:{})", place.file(), place.line()),
            None => text.to_owned(),
        };
        PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(text);
    }));
    contain(work).unwrap_or_else(|error| {
        report::error(&error);
        exit::FAILURE
    })
}

/// Runs `work`. A panic in it becomes an error.
pub(crate) fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        // Dropping a payload can panic again.
        std::mem::forget(payload);
        let text = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let text = text.unwrap_or_else(|| "panic".to_owned());
        Error::new(ErrorKind::Io, format!("internal error: {text}"))
            .with_hint("this is a bug in awrite, please report it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_cleans_up_and_ends_with_1() {
        struct Cleans<'a>(&'a mut bool);
        impl Drop for Cleans<'_> {
            fn drop(&mut self) {
                *self.0 = true;
            }
        }
        let before = panic::take_hook();
        let mut cleaned = false;
        let status = guard(|| {
            let _cleans = Cleans(&mut cleaned);
            panic!("on {}", "purpose");
        });
        assert_eq!(status, 1);
        let error = contain(|| panic!("again")).unwrap_err().to_string();
        let _ = panic::take_hook();
        panic::set_hook(before);
        assert!(cleaned);
        assert!(error.starts_with("internal error: again (src/process/panic.rs:"), "{error}");
        assert_eq!(guard(|| 7), 7);
        let _ = panic::take_hook();
    }
}
