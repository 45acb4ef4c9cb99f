use std::hash::{BuildHasher as _, RandomState};

use foldhash::quality::FixedState;

/// Hashes of texts, for tables that keep no text: two, so that no keys meet by chance,
/// each under a secret of this process, so that nobody outside can make them meet. It
/// is no cryptography, but nothing of these hashes is ever seen outside.
#[derive(Clone, Debug)]
pub(super) struct Hashes {
    found_by: FixedState,
    told_by: FixedState,
}

// === impl Hashes ===

impl Hashes {
    pub(super) fn new() -> Self {
        let secret = |_| FixedState::with_seed(RandomState::new().hash_one(""));
        let [found_by, told_by] = [(), ()].map(secret);
        Self { found_by, told_by }
    }

    /// The key of a principal, of which those of other mixes are others. Their lower
    /// halves are the same.
    #[inline]
    pub(super) fn key(&self, principal: &str, mix: u64) -> u128 {
        let found_by = self.found_by.hash_one(principal) ^ mix;
        u128::from(found_by) << 64 | u128::from(self.told_by(principal))
    }

    /// The lower half of a principal's keys.
    #[inline]
    pub(super) fn told_by(&self, principal: &str) -> u64 {
        self.told_by.hash_one(principal)
    }
}
