//! Paths in messages.

use std::path::Path;

/// A path, made fit for a message: control characters are escaped, since a file name must not control the reader's
/// terminal, and what is not UTF-8 is shown as replacement characters.
#[doc(hidden)]
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if !text.contains(char::is_control) {
        return text.into_owned();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// What holds for any path.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_path(path: &Path) {
    let text = shown(path);
    assert!(!text.contains(char::is_control), "{text:?}");
    if let Some(whole) = path.to_str().filter(|whole| !whole.contains(char::is_control)) {
        assert_eq!(text, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn paths(bytes: Vec<u8>, text: String) {
            use std::os::unix::ffi::OsStrExt;
            any_path(std::ffi::OsStr::from_bytes(&bytes).as_ref());
            any_path(text.as_ref());
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(shown(Path::new("a\nb\x1b[31m")), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(Path::new("käse.txt")), "käse.txt");
    }
}
