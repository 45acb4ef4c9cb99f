//! How a value is wrapped in L2: a head, the tags, the encoded value.
//!
//! ```text
//!  "MXC"  format 2   checksum   flags   era   since   fresh   fence      cost
//!  3      1          8          1       8     8       8       8 and 8    4
//!
//!  tags: how many (1), each its length (1), name, fence (16)
//!  codec (8), if it is flagged   length (4)   value
//! ```
//!
//! Numbers are little endian, times microseconds of the store's clock. The
//! checksum is the xxh3-64 of the key and of all that follows it. Whatever does
//! not open is a miss and never an error: bytes of another program or format,
//! damaged bytes, bytes that belong to another key, flags that this build does
//! not know (of a newer release, or of a feature that it lacks), and a length
//! that is over the limit or not that of the rest.
//!
//! A value that is away is not in it, but its SHA-256.

mod packed;

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use crate::codec::{self, Packing};
use crate::remote::Fence;

use packed::{PACKED, pack, unpack};

const MARK: [u8; 4] = *b"MXC\x02";
const ABSENT: u8 = 1;
/// A codec that envelopes name.
const NAMED: u8 = 4;
/// A value that lies in memcached.
const AWAY: u8 = 8;
/// The flags that mean something to this build.
const KNOWN: u8 = ABSENT
    | NAMED
    | if cfg!(feature = "lz4") { PACKED } else { 0 }
    | if cfg!(feature = "memcached") { AWAY } else { 0 };
/// Flags, three numbers, two of the fence, the cost, the count of tags.
const FIXED: usize = 1 + 3 * 8 + 16 + 4 + 1;

/// A value in L2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) value: Value,
    /// By which codec.
    pub(crate) codec: u64,
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

/// What an envelope has of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// There is no such value.
    Absent,
    /// It, encoded.
    Here(Bytes),
    Away(Away),
}

/// By what a value is known that lies elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Away {
    /// Of its bytes as they lie there.
    pub(crate) digest: [u8; 32],
    is_packed: bool,
}

/// What an envelope says of its value, and how.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    flags: u8,
    bytes: Bytes,
}

/// Why bytes in L2 are no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Of another program, format, feature or codec.
    Form,
    /// Not what was written, or written under another key.
    Damaged,
    /// Longer than a value may be, as it is or once it is unpacked.
    Size,
    /// Whole, and no value of the type.
    Value,
}

// === impl Envelope ===

impl Envelope {
    /// The value as it is written down.
    pub(crate) fn body(&self, packing: Packing) -> Body {
        match &self.value {
            Value::Absent => Body::new(ABSENT, Bytes::new()),
            Value::Here(encoded) => match pack(encoded, packing) {
                Some(packed) => Body::new(PACKED, packed),
                None => Body::new(0, encoded.clone()),
            },
            Value::Away(away) => {
                let flags = if away.is_packed { PACKED } else { 0 };
                Body::new(flags, Bytes::new()).away(away.digest)
            }
        }
    }

    /// Wraps it for `key`.
    pub(crate) fn seal(&self, key: &str, body: &Body) -> Bytes {
        let value = &body.bytes;
        let named = if self.codec == codec::UNNAMED {
            0
        } else {
            NAMED
        };
        let flags = body.flags | named;
        let mut out = BytesMut::with_capacity(128 + value.len());
        out.put_slice(&MARK);
        out.put_u64_le(0);
        out.put_u8(flags);
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
        if flags & NAMED != 0 {
            out.put_u64_le(self.codec);
        }
        out.put_u32_le(u32::try_from(value.len()).expect("large values are not let in"));
        out.put_slice(value);
        let sum = checksum(key, &out[MARK.len() + 8..]).to_le_bytes();
        out[MARK.len()..MARK.len() + 8].copy_from_slice(&sum);
        out.freeze()
    }

    /// What is inside `bytes`, if they were sealed for `key`, are whole, and
    /// hold no more than `most`.
    pub(crate) fn open(key: &str, bytes: &Bytes, most: usize) -> Result<Self, Unread> {
        let (mark, rest) = bytes.split_first_chunk::<4>().ok_or(Unread::Form)?;
        if *mark != MARK {
            return Err(Unread::Form);
        }
        let (sum, rest) = rest.split_first_chunk::<8>().ok_or(Unread::Damaged)?;
        if rest.len() < FIXED || u64::from_le_bytes(*sum) != checksum(key, rest) {
            return Err(Unread::Damaged);
        }
        let mut rest = bytes.slice_ref(rest);
        let flags = rest.get_u8();
        if flags & !KNOWN != 0 {
            return Err(Unread::Form);
        }
        Self::open_rest(flags, rest, most)
    }

    fn open_rest(flags: u8, mut rest: Bytes, most: usize) -> Result<Self, Unread> {
        let [era, since, fresh] = [(); 3].map(|()| rest.get_u64_le());
        let fence = get_fence(&mut rest);
        let cost = rest.get_u32_le();
        let count = rest.get_u8();
        let mut tags = Vec::with_capacity(count.into());
        for _ in 0..count {
            tags.push(get_tag(&mut rest).ok_or(Unread::Damaged)?);
        }
        let codec = if flags & NAMED == 0 {
            codec::UNNAMED
        } else {
            rest.try_get_u64_le().map_err(|_| Unread::Damaged)?
        };
        let length = rest.try_get_u32_le().map_err(|_| Unread::Damaged)?;
        let length = usize::try_from(length).map_err(|_| Unread::Size)?;
        if length > most {
            return Err(Unread::Size);
        }
        if length != rest.len() {
            return Err(Unread::Damaged);
        }
        let is_packed = flags & PACKED != 0;
        let value = if flags & ABSENT != 0 {
            Value::Absent
        } else if flags & AWAY != 0 {
            let digest = rest[..].try_into().map_err(|_| Unread::Damaged)?;
            Value::Away(Away { digest, is_packed })
        } else if is_packed {
            Value::Here(unpack(&rest, most)?)
        } else {
            Value::Here(rest)
        };
        Ok(Self {
            value,
            codec,
            era,
            since,
            fresh,
            fence,
            cost,
            tags,
        })
    }
}

// === impl Away ===

impl Away {
    /// The encoded value, of the bytes that the digest is of.
    #[cfg(feature = "memcached")]
    pub(crate) fn open(&self, bytes: Bytes, most: usize) -> Result<Bytes, Unread> {
        if self.is_packed {
            return unpack(&bytes, most);
        }
        if bytes.len() > most {
            return Err(Unread::Size);
        }
        Ok(bytes)
    }
}

// === impl Body ===

impl Body {
    const fn new(flags: u8, bytes: Bytes) -> Self {
        Self { flags, bytes }
    }

    /// What there is to be put elsewhere.
    #[cfg(feature = "memcached")]
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same of a value that lies elsewhere.
    pub(crate) fn away(self, digest: [u8; 32]) -> Self {
        Self::new(self.flags | AWAY, Bytes::copy_from_slice(&digest))
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
mod tests;
