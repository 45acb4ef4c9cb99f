//! How a value is wrapped in L2: a mark, a checksum, the encoded value.
//!
//! ```text
//!  "MXC"  format 1   xxh3-64 of key and value, little endian   value (JSON)
//!  3      1          8                                         rest
//! ```
//!
//! Whatever does not open is a miss and never an error: bytes of another
//! program or format, damaged bytes, and bytes that belong to another key.

use bytes::{BufMut as _, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

const MARK: [u8; 4] = *b"MXC\x01";
const HEADER: usize = MARK.len() + size_of::<u64>();

/// Wraps `value` for `key`.
pub(crate) fn seal(key: &str, value: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + value.len());
    out.put_slice(&MARK);
    out.put_u64_le(checksum(key, value));
    out.put_slice(value);
    out.freeze()
}

/// The value inside `bytes`, if they were sealed for `key` and are whole.
pub(crate) fn open<'a>(key: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (mark, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, value) = rest.split_first_chunk::<8>()?;
    let whole = *mark == MARK && u64::from_le_bytes(*sum) == checksum(key, value);
    whole.then_some(value)
}

fn checksum(key: &str, value: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(key.as_bytes());
    hash.update(value);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_a_miss() {
        let sealed = seal("k", b"{\"name\":\"ada\"}");
        assert_eq!(open("k", &sealed), Some(&b"{\"name\":\"ada\"}"[..]));

        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open("k", &bytes), None, "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(open("k", &sealed[..len]), None, "cut to {len}");
        }
    }

    #[test]
    fn value_of_another_key_is_a_miss() {
        assert_eq!(open("b", &seal("a", b"1")), None);
    }
}
