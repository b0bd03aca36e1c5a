//! Handing several locks to one child.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::inherited::HandOver;

impl HandOver {
    /// The value that the variable of all `handed` must have in a child that gets all of them; `None`: it must not be set.
    /// Each of them says what the variable says now, with its own lock added or taken away.
    #[must_use]
    pub fn value_of_all(handed: &[HandOver]) -> Option<OsString> {
        let now = handed.first().and_then(|first| std::env::var_os(first.variable));
        let values: Vec<&OsStr> = handed.iter().map(|one| one.value.as_deref().unwrap_or_default()).collect();
        combined(now.as_deref().unwrap_or_default(), &values)
    }
}

/// What is in `now` stays if it is in each of `values`. What they add comes behind it.
fn combined(now: &OsStr, values: &[&OsStr]) -> Option<OsString> {
    let entries = |value: &'_ OsStr| -> Vec<Vec<u8>> {
        value.as_bytes().split(|&b| b == b',').filter(|entry| !entry.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let values: Vec<Vec<Vec<u8>>> = values.iter().map(|value| entries(value)).collect();
    let now = entries(now);
    let mut all: Vec<Vec<u8>> =
        now.iter().filter(|entry| values.iter().all(|value| value.contains(entry))).cloned().collect();
    for entry in values.iter().flatten() {
        if !now.contains(entry) && !all.contains(entry) {
            all.push(entry.clone());
        }
    }
    (!all.is_empty()).then(|| OsString::from_vec(all.join(&[b','][..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_keep_and_what_each_adds() {
        let of = |now: &str, values: &[&str]| {
            let values: Vec<&OsStr> = values.iter().map(OsStr::new).collect();
            combined(OsStr::new(now), &values).map(|value| value.into_string().unwrap())
        };
        assert_eq!(of("", &["a", "b"]).as_deref(), Some("a,b"));
        assert_eq!(of("x,y", &["x,y,a", "x,y,b"]).as_deref(), Some("x,y,a,b"), "outermost first");
        assert_eq!(of("x,y,z", &["y,z", "x,z"]).as_deref(), Some("z"), "each keeps one back");
        assert_eq!(of("x", &["", "x"]), None);
        assert_eq!(of("x", &["x,a"]).as_deref(), Some("x,a"));
    }
}
