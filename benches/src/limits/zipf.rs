//! Keys as they come in the world: few often, most seldom.

use std::sync::Arc;

/// `count` draws of one of `keys`, the n-th being as frequent as 1/n (Zipf's law with
/// exponent 1.0), in the same order each time.
pub(super) fn zipf(keys: u32, count: u32) -> Arc<[u32]> {
    let mut sums = Vec::with_capacity(keys as usize);
    let mut sum = 0.0;
    for n in 1..=keys {
        sum += 1.0 / f64::from(n);
        sums.push(sum);
    }
    // SplitMix64.
    let mut state = 42_u64;
    let mut draw = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count)
        .map(|_| {
            let at = draw() * sum;
            u32::try_from(sums.partition_point(|sum| *sum < at)).unwrap_or(keys - 1)
        })
        .collect()
}
