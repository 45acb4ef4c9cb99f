//! A compact list of passwords that are known from breaches.
//!
//! A Bloom filter (B. Bloom, 1970) over the SHA-1 of each password, because that is
//! what the dumps of Have I Been Pwned hold: its 160 bits are the hash functions too
//! (A. Kirsch and M. Mitzenmacher, 2006), so a password needs no other hash.
//! It never misses a password that is in the list, and takes one of 10,000 others for one
//! that is (by default). A million passwords take 2.4 MB. It is built with no more memory
//! than it has in the end, from a list of any length.
//!
//! ```text
//!  "mxs-pwf" 1 │ probes u32 │ passwords u64 │ bits u64 │ the bits, in bytes │ SHA-256 of it all
//! ```
//!
//! Numbers are little-endian.

mod build;
mod error;
mod file;
mod lines;
#[cfg(test)]
mod tests;

use std::fmt;

use sha1::{Digest, Sha1};

pub use build::FilterBuilder;
pub use error::FilterError;
pub use lines::Lines;

/// Passwords that are known from breaches; see [`filter`](self).
pub struct PasswordFilter {
    probes: u32,
    passwords: u64,
    bits: u64,
    bytes: Vec<u8>,
}

/// SHA-1 of a password's bytes.
type Sha1Sum = [u8; 20];

/// One for each halving of the rate of wrong answers, and no more than anybody needs.
const MOST_PROBES: u32 = 64;

// === impl PasswordFilter ===

impl PasswordFilter {
    /// Whether the list may contain `password`. Never false for one that it does contain.
    pub fn may_contain(&self, password: &str) -> bool {
        self.may_contain_sha1(&Sha1::digest(password).into())
    }

    /// As [`may_contain`](Self::may_contain), of a password's SHA-1.
    pub fn may_contain_sha1(&self, sum: &Sha1Sum) -> bool {
        let mut places = places(sum, self.probes, self.bits);
        places.all(|(byte, mask)| self.bytes[byte] & mask != 0)
    }

    /// How many passwords it was built of, those that came twice counted twice.
    pub const fn passwords(&self) -> u64 {
        self.passwords
    }

    /// How many bytes it takes.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for PasswordFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PasswordFilter");
        shown.field("passwords", &self.passwords);
        shown.field("size", &self.size()).finish_non_exhaustive()
    }
}

/// The byte and the bit of each probe.
fn places(sum: &Sha1Sum, probes: u32, bits: u64) -> impl Iterator<Item = (usize, u8)> {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&sum[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    // Odd, so that the probes differ.
    let (first, step) = (word(0), word(8) | 1);
    (0..u64::from(probes)).map(move |probe| {
        let at = first.wrapping_add(probe.wrapping_mul(step)) % bits;
        // `bits` was the length of a buffer, in bits.
        let byte = usize::try_from(at / 8).unwrap_or(usize::MAX);
        (byte, 1 << (at % 8))
    })
}
