//! Which of a queue's slots a tenant's jobs wait in.
//!
//! A claim takes from all slots in turn, so that who fills one delays nobody in
//! another. The rows have the number: it never changes.

use maxscale_core::fact::VirtualShard;

/// How many slots a queue has on each node. The statements have the number too.
pub(crate) const SLOTS: u32 = 64;

/// The slot of a tenant: [FNV-1a] of its name, mixed as [MurmurHash3] ends.
///
/// [FNV-1a]: https://www.rfc-editor.org/rfc/rfc9923
/// [MurmurHash3]: https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp
pub(crate) fn of_tenant(tenant: &str) -> u32 {
    let hash = tenant
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    u32::try_from((hash ^ (hash >> 33)) % u64::from(SLOTS)).unwrap_or_default()
}

/// The slot of jobs without a tenant.
pub(crate) const fn of_shard(shard: VirtualShard) -> u32 {
    shard.get() % SLOTS
}

/// The slot that was served last, after a claim that went round from `served` on
/// and took jobs out of `taken`, each as often as it is there.
pub(crate) fn served_last(served: u32, taken: impl Iterator<Item = u32>) -> u32 {
    let mut counts = [0_u32; SLOTS as usize];
    for slot in taken {
        counts[(slot % SLOTS) as usize] += 1;
    }
    // The last round took from those that were taken from most often.
    let most = counts.iter().max().copied().unwrap_or_default();
    let round = (0..SLOTS).map(|turn| (served + 1 + turn) % SLOTS);
    let mut last = round.rev();
    let last = last.find(|slot| counts[*slot as usize] == most && most > 0);
    last.unwrap_or(served)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_fixed() {
        assert_eq!(
            [of_tenant(""), of_tenant("a"), of_tenant("acme")],
            [38, 27, 6]
        );
        assert_eq!(of_shard(VirtualShard::new(65)), 1);
    }

    #[test]
    fn next_claim_goes_on_where_the_last_one_ended() {
        let served_last = |served, taken: &[u32]| served_last(served, taken.iter().copied());
        assert_eq!(served_last(5, &[]), 5);
        assert_eq!(served_last(5, &[9, 6]), 9);
        assert_eq!(served_last(5, &[9, 3]), 3);
        // A second round came as far as 6.
        assert_eq!(served_last(5, &[9, 6, 6, 3]), 6);
    }

    #[test]
    fn tenants_are_spread() {
        let mut filled = [0; SLOTS as usize];
        for tenant in 0..6_400 {
            filled[of_tenant(&format!("tenant-{tenant}")) as usize] += 1;
        }
        assert!(
            filled.iter().all(|&count| (50..200).contains(&count)),
            "{filled:?}"
        );
    }
}
