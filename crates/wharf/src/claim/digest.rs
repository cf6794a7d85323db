//! SHA-256 as claim checks use it: computed while bytes pass, written in hex, part of the key.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// How many bytes are hashed before others may run.
const PIECE: usize = 256 << 10;

/// The SHA-256 of a payload. Its text is lower-case hex.
///
/// ```
/// use wharf::claim::Digest;
///
/// let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// assert_eq!(Digest::of(b"abc").to_string(), text);
/// assert_eq!(Digest::parse(text), Some(Digest::of(b"abc")));
/// assert_eq!(Digest::parse("../../etc/passwd"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// How long its text is.
    pub(super) const TEXT_BYTES: usize = 64;

    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads exactly 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        if text.len() != Self::TEXT_BYTES {
            return None;
        }
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = hex(digits[0])? << 4 | hex(digits[1])?;
        }
        Some(Self(digest))
    }

    /// The key of the object that has this content: `<prefix>sha256/ab/cdef…`.
    pub fn key(&self, prefix: &str) -> String {
        let text = self.to_string();
        let (first, rest) = text.split_at(2);
        format!("{prefix}sha256/{first}/{rest}")
    }

    /// What [`Digest::key`] made of a digest, below the same prefix.
    pub(super) fn from_key(key: &str, prefix: &str) -> Option<Self> {
        let (first, rest) = key
            .strip_prefix(prefix)?
            .strip_prefix("sha256/")?
            .split_once('/')?;
        (first.len() == 2)
            .then(|| Self::parse(&format!("{first}{rest}")))
            .flatten()
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A digest in the making.
#[derive(Default)]
pub(super) struct Hashing {
    hasher: Sha256,
    pub(super) bytes: u64,
}

impl Hashing {
    /// Takes the next bytes in; lets others run in between when they are many.
    pub(super) async fn update(&mut self, bytes: &Bytes) {
        for piece in bytes.chunks(PIECE) {
            self.update_at_once(piece);
            if piece.len() == PIECE {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes the next bytes in.
    pub(super) fn update_at_once(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The digest of all of them.
    pub(super) fn digest(self) -> Digest {
        Digest(self.hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_below_its_own_prefix_only() {
        let digest = Digest::of(b"payload");
        let key = digest.key("tenants/acme/");
        assert_eq!(Digest::from_key(&key, "tenants/acme/"), Some(digest));
        assert_eq!(Digest::from_key(&key, ""), None);
        assert_eq!(Digest::from_key("sha256/ab/cd", ""), None);
        assert_eq!(Digest::from_key("uploads/x", ""), None);
        assert_eq!(Digest::parse(&digest.to_string().to_uppercase()), None);
    }
}
