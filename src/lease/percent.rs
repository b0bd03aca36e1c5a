//! Names of any bytes as text: `%` and two hexadecimal digits stand for a byte.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Printable ASCII stays as it is, but for `%` and the bytes of `special`.
pub(super) fn encoded(bytes: &[u8], special: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &b in bytes {
        match b {
            b' '..=b'~' if b != b'%' && !special.contains(&b) => text.push(char::from(b)),
            _ => text.push_str(&format!("%{b:02x}")),
        }
    }
    text
}

/// The name that is written so. `None`: it is not, is empty, or has a zero byte.
pub(super) fn decoded(text: &str) -> Option<OsString> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&b, behind)) = rest.split_first() {
        rest = behind;
        if b != b'%' {
            bytes.push(b);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    (!bytes.is_empty() && !bytes.contains(&0)).then(|| OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_so_is_none() {
        for text in ["", "%", "%4", "%zz", "%00", "a%", "a\0"] {
            assert_eq!(decoded(text), None, "{text}");
        }
        for (text, bytes) in [("a", &b"a"[..]), ("%2f%2F", b"//"), ("ä%25", b"\xc3\xa4%"), ("%ff", b"\xff")] {
            assert_eq!(decoded(text), Some(OsString::from_vec(bytes.to_vec())), "{text}");
        }
        assert_eq!(encoded(b"a b%/~\x7f\xff", b"/"), "a b%25%2f~%7f%ff");
    }
}
