//! Short names for long inputs: equal inputs have equal names, and other inputs
//! have others.

use std::fmt;

/// FNV-1a with 128 bits, over bytes or over words of eight of them.
///
/// It guards against old results and mixed-up files, not against somebody who
/// wants two inputs to have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(u128);

const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

impl Default for Fingerprint {
    fn default() -> Self {
        Self(BASIS)
    }
}

impl Fingerprint {
    /// What `told` goes on to, so that other texts one after another have other
    /// names: the length of each is part of it.
    #[must_use]
    pub fn text(self, told: &str) -> Self {
        let mut next = self;
        for byte in told.bytes() {
            next = next.word(u64::from(byte));
        }
        next.word(u64::try_from(told.len()).unwrap_or(u64::MAX))
    }

    /// The same of a number.
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        Self((self.0 ^ (word as u128)).wrapping_mul(PRIME))
    }

    /// The same of a whole file, eight bytes at a time.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut next = self;
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            next = next.word(u64::from_le_bytes(eight));
        }
        for byte in words.remainder() {
            next = next.word(u64::from(*byte));
        }
        next.word(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32;
        let number = digits.then(|| u128::from_str_radix(text, 16).ok())?;
        number.map(Self)
    }
}

impl fmt::Display for Fingerprint {
    /// 32 hexadecimal digits.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_the_published_vectors() {
        let of = |text: &str| {
            let bytes = text.bytes();
            bytes.fold(Fingerprint::default(), |name, byte| name.word(byte.into()))
        };
        // The test suite of the authors of FNV: of nothing, "a" and "foobar".
        for (text, expected) in [
            ("", "6c62272e07bb014262b821756295c58d"),
            ("a", "d228cb696f1a8caf78912b704e4a8964"),
            ("foobar", "343e1662793c64bf6f0d3597ba446f18"),
        ] {
            assert_eq!(of(text).to_string(), expected);
            assert_eq!(Fingerprint::parse(expected), Some(of(text)));
        }
        assert_eq!(Fingerprint::parse("0"), None);
    }

    #[test]
    fn where_one_text_ends_and_the_next_begins_matters() {
        let two = |one: &str, other: &str| Fingerprint::default().text(one).text(other);
        assert_ne!(two("ab", "c"), two("a", "bc"));
        let file = |bytes: &[u8]| Fingerprint::default().bytes(bytes);
        assert_ne!(file(b"12345678\0"), file(b"12345678"));
        assert_ne!(file(b"12345678"), file(b"12345679"));
    }
}
