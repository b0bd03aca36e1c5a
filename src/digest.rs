//! What a file contains, in a form that fits in a variable of a script: the SHA-256 of its content.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// What a file contains, found by [`digest`](crate::digest()) and compared by [`Expect`](crate::Expect).
///
/// Displays as `sha256:` and 64 hexadecimal digits, or as `absent`. `parse` reads that, and also the digits alone, as
/// sha256sum(1) prints them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Digest {
    /// There is no file.
    Absent,
    /// The SHA-256 of the content.
    Sha256([u8; 32]),
}

const PREFIX: &str = "sha256:";
const ABSENT: &str = "absent";

impl Digest {
    pub(crate) fn read(text: &str) -> Option<Digest> {
        if text == ABSENT {
            return Some(Digest::Absent);
        }
        let digits = text.strip_prefix(PREFIX).unwrap_or(text).as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Some(Digest::Sha256(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Digest::Sha256(bytes) = self else { return f.write_str(ABSENT) };
        f.write_str(PREFIX)?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes the digest of content that comes piece by piece.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::Sha256(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    /// Of `abc`: FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn of(content: &[u8]) -> Digest {
        let mut hasher = Hasher::default();
        hasher.add(content);
        hasher.finish()
    }

    #[test]
    fn known_digests() {
        assert_eq!(of(b"").to_string(), format!("sha256:{EMPTY}"));
        assert_eq!(of(b"abc").to_string(), format!("sha256:{ABC}"));
        assert_eq!(Digest::Absent.to_string(), "absent");
    }

    #[test]
    fn what_is_read_as_a_digest() {
        for text in [ABC, &format!("sha256:{ABC}"), &ABC.to_uppercase(), &format!("sha256:{}", ABC.to_uppercase())] {
            assert_eq!(Digest::read(text), Some(of(b"abc")), "{text}");
        }
        assert_eq!(Digest::read("absent"), Some(Digest::Absent));
        let long = format!("{ABC}0");
        let line = format!("{ABC}  f");
        let other = format!("sha512:{ABC}");
        let signed = ABC.replace("ba78", "+a78");
        let wide = format!("{}é", &ABC[2..]);
        for text in
            ["", "sha256:", "Absent", " absent", &ABC[1..], &long, &line, &other, &signed, &wide, "sha256:absent"]
        {
            assert_eq!(Digest::read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(bytes: [u8; 32], text: String) {
            let digest = Digest::Sha256(bytes);
            prop_assert_eq!(Digest::read(&digest.to_string()), Some(digest));
            if let Some(read) = Digest::read(&text) {
                prop_assert_eq!(Digest::read(&read.to_string()), Some(read));
            }
        }

        #[test]
        fn pieces_make_the_whole(pieces: Vec<Vec<u8>>) {
            let mut hasher = Hasher::default();
            pieces.iter().for_each(|piece| hasher.add(piece));
            prop_assert_eq!(hasher.finish(), of(&pieces.concat()));
        }
    }
}
