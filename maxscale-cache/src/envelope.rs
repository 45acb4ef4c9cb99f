//! How a value is wrapped in L2: a head, the tags, the encoded value.
//!
//! ```text
//!  "MXC"  format 2   checksum   flags   era   since   fresh   fence      cost
//!  3      1          8          1       8     8       8       8 and 8    4
//!
//!  tags: how many (1), each its length (1), name, fence (16)    length (4)   value
//! ```
//!
//! Numbers are little endian, times microseconds of the store's clock. The
//! checksum is the xxh3-64 of the key and of all that follows it. Whatever does
//! not open is a miss and never an error: bytes of another program or format,
//! damaged bytes, bytes that belong to another key, flags that this release
//! does not know, and a length that is over the limit or not that of the rest.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use crate::remote::Fence;

const MARK: [u8; 4] = *b"MXC\x02";
const ABSENT: u8 = 1;
/// Flags, three numbers, two of the fence, the cost, the count of tags.
const FIXED: usize = 1 + 3 * 8 + 16 + 4 + 1;

/// A value in L2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// The encoded value; `None` says that there is no such value.
    pub(crate) value: Option<Bytes>,
    /// Of the board, when the value was stored.
    pub(crate) era: u64,
    /// When it was last known to be true.
    pub(crate) since: u64,
    /// How long it is fresh from then.
    pub(crate) fresh: u64,
    /// What it was filled under.
    pub(crate) fence: Fence,
    /// How long its load took.
    pub(crate) cost: u32,
    pub(crate) tags: Vec<(Arc<str>, Fence)>,
}

// === impl Envelope ===

impl Envelope {
    /// Wraps it for `key`.
    pub(crate) fn seal(&self, key: &str) -> Bytes {
        let value = self.value.as_deref().unwrap_or_default();
        let mut out = BytesMut::with_capacity(128 + value.len());
        out.put_slice(&MARK);
        out.put_u64_le(0);
        out.put_u8(if self.value.is_none() { ABSENT } else { 0 });
        for number in [self.era, self.since, self.fresh] {
            out.put_u64_le(number);
        }
        put_fence(&mut out, self.fence);
        out.put_u32_le(self.cost);
        out.put_u8(u8::try_from(self.tags.len()).expect("few tags are let in"));
        for (name, fence) in &self.tags {
            out.put_u8(u8::try_from(name.len()).expect("parts of keys are short"));
            out.put_slice(name.as_bytes());
            put_fence(&mut out, *fence);
        }
        out.put_u32_le(u32::try_from(value.len()).expect("large values are not let in"));
        out.put_slice(value);
        let sum = checksum(key, &out[MARK.len() + 8..]).to_le_bytes();
        out[MARK.len()..MARK.len() + 8].copy_from_slice(&sum);
        out.freeze()
    }

    /// What is inside `bytes`, if they were sealed for `key`, are whole, and
    /// hold no more than `most`.
    pub(crate) fn open(key: &str, bytes: &Bytes, most: usize) -> Option<Self> {
        let (mark, rest) = bytes.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<8>()?;
        if *mark != MARK || rest.len() < FIXED || u64::from_le_bytes(*sum) != checksum(key, rest) {
            return None;
        }
        let mut rest = bytes.slice_ref(rest);
        let flags = rest.get_u8();
        let [era, since, fresh] = [(); 3].map(|()| rest.get_u64_le());
        let fence = get_fence(&mut rest);
        let cost = rest.get_u32_le();
        let count = rest.get_u8();
        let mut tags = Vec::with_capacity(count.into());
        for _ in 0..count {
            tags.push(get_tag(&mut rest)?);
        }
        let length = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
        if length != rest.len() || length > most || flags & !ABSENT != 0 {
            return None;
        }
        Some(Self {
            value: (flags & ABSENT == 0).then_some(rest),
            era,
            since,
            fresh,
            fence,
            cost,
            tags,
        })
    }
}

fn put_fence(out: &mut BytesMut, fence: Fence) {
    out.put_u64_le(fence.lineage());
    out.put_u64_le(fence.get());
}

fn get_fence(from: &mut Bytes) -> Fence {
    let lineage = from.get_u64_le();
    Fence::of(lineage, from.get_u64_le())
}

fn get_tag(from: &mut Bytes) -> Option<(Arc<str>, Fence)> {
    let length = usize::from(from.try_get_u8().ok()?);
    if from.len() < length + 16 {
        return None;
    }
    let name = from.split_to(length);
    let name = std::str::from_utf8(&name).ok()?.into();
    Some((name, get_fence(from)))
}

fn checksum(key: &str, rest: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(key.as_bytes());
    hash.update(rest);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(value: Option<&'static [u8]>) -> Envelope {
        Envelope {
            value: value.map(Bytes::from_static),
            era: 2,
            since: 3,
            fresh: 4,
            fence: Fence::of(5, 6),
            cost: 7,
            tags: vec![
                ("team".into(), Fence::of(8, 9)),
                ("".into(), Fence::new(10)),
            ],
        }
    }

    fn open(key: &str, bytes: &Bytes) -> Option<Envelope> {
        Envelope::open(key, bytes, 1_000)
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_a_miss() {
        for value in [Some(&b"{\"name\":\"ada\"}"[..]), None] {
            let envelope = example(value);
            let sealed = envelope.seal("k");
            assert_eq!(open("k", &sealed), Some(envelope));

            for bit in 0..sealed.len() * 8 {
                let mut bytes = sealed.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open("k", &bytes.into()), None, "bit {bit}");
            }
            for len in 0..sealed.len() {
                assert_eq!(open("k", &sealed.slice(..len)), None, "cut to {len}");
            }
        }
    }

    #[test]
    fn value_of_another_key_is_a_miss() {
        assert_eq!(open("b", &example(None).seal("a")), None);
    }

    #[test]
    fn value_over_the_limit_is_a_miss() {
        let sealed = example(Some(&[0; 1_001])).seal("k");
        assert_eq!(open("k", &sealed), None);
        assert!(Envelope::open("k", &sealed, 1_001).is_some());
    }

    #[test]
    fn bytes_that_are_whole_but_make_no_sense_are_a_miss() {
        // Whoever wrote them knows the checksum, so it lies right.
        let sealed = example(Some(b"1")).seal("k");
        for at in 12..sealed.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = sealed.to_vec();
                bytes[at] = byte;
                let sum = checksum("k", &bytes[12..]).to_le_bytes();
                bytes[4..12].copy_from_slice(&sum);
                // It must not panic; what opens is as long as it says.
                let _ = open("k", &bytes.into());
            }
        }
    }
}
