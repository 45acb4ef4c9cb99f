use maxscale_core::fact::VirtualShard;
use md5::{Digest, Md5};
use sha2::Sha256;

/// Maps a key's text to a virtual shard. Pure; the same answer for ever.
///
/// Ids carry their shard and need none of these. Both formulas are answered
/// alike by SQL in PostgreSQL, so that data can be checked where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vindex {
    /// `ABS(('x' || md5(key))::bit(64)::bigint % count)`.
    Md5,
    /// The first 8 hex digits of sha256 as an unsigned integer, modulo the count.
    Sha256,
}

// === impl Vindex ===

impl Vindex {
    /// The virtual shard of `key` among `count`, which must not be 0.
    pub fn shard(self, key: &[u8], count: u32) -> VirtualShard {
        let slot = match self {
            Self::Md5 => {
                let digest: [u8; 16] = Md5::digest(key).into();
                fold(i64::from_be_bytes(first(&digest)), count)
            }
            Self::Sha256 => {
                let digest: [u8; 32] = Sha256::digest(key).into();
                u32::from_be_bytes(first(&digest)) % count
            }
        };
        VirtualShard::new(slot)
    }
}

fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&digest[..N]);
    bytes
}

// PostgreSQL's `%` takes the dividend's sign, as Rust's does; the remainder's
// absolute value always fits, also for i64::MIN.
fn fold(hash: i64, count: u32) -> u32 {
    let remainder = (hash % i64::from(count)).unsigned_abs();
    u32::try_from(remainder).expect("a remainder is smaller than its u32 divisor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_values_hold_for_ever() {
        assert_eq!(Vindex::Md5.shard(b"42", 1024).get(), 217);
        assert_eq!(Vindex::Sha256.shard(b"42", 1024).get(), 180);
    }

    #[test]
    fn fold_takes_the_extremes() {
        assert_eq!(
            [i64::MIN, -1, 0, i64::MAX].map(|h| fold(h, 1024)),
            [0, 1, 0, 1023]
        );
    }
}
