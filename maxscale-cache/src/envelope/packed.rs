//! Encoded values, packed: their length (4), then a block of LZ4.
//!
//! Nothing is made room for before the length was found to be within the
//! limit and one that such a block can have, and no more is written than that.

use bytes::Bytes;

use super::Unread;
use crate::codec::Packing;

/// The flag of a packed value.
pub(super) const PACKED: u8 = 2;

/// What one byte of a block can stand for at most.
#[cfg(feature = "lz4")]
const MOST_OF_ONE: usize = 255;

/// The packed form, if the value is to be packed and becomes shorter by it.
#[cfg(feature = "lz4")]
pub(super) fn pack(encoded: &[u8], packing: Packing) -> Option<Bytes> {
    if !packing.packs(encoded.len()) {
        return None;
    }
    let length = u32::try_from(encoded.len()).ok()?;
    let most = lz4_flex::block::get_maximum_output_size(encoded.len());
    let mut packed = vec![0; 4 + most];
    packed[..4].copy_from_slice(&length.to_le_bytes());
    let block = lz4_flex::block::compress_into(encoded, &mut packed[4..]).ok()?;
    packed.truncate(4 + block);
    (packed.len() < encoded.len()).then(|| packed.into())
}

#[cfg(not(feature = "lz4"))]
pub(super) const fn pack(_: &[u8], _: Packing) -> Option<Bytes> {
    None
}

/// The encoded value of a packed form, if it is no longer than `most`.
#[cfg(feature = "lz4")]
pub(super) fn unpack(packed: &[u8], most: usize) -> Result<Bytes, Unread> {
    let (length, block) = packed.split_first_chunk().ok_or(Unread::Damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Unread::Size)?;
    if length > most {
        return Err(Unread::Size);
    }
    if length > block.len().saturating_mul(MOST_OF_ONE) {
        return Err(Unread::Damaged);
    }
    let mut encoded = vec![0; length];
    match lz4_flex::block::decompress_into(block, &mut encoded) {
        Ok(written) if written == length => Ok(encoded.into()),
        _ => Err(Unread::Damaged),
    }
}

#[cfg(not(feature = "lz4"))]
pub(super) const fn unpack(_: &[u8], _: usize) -> Result<Bytes, Unread> {
    Err(Unread::Form)
}

#[cfg(all(test, feature = "lz4"))]
mod tests;
