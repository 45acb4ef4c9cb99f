//! The keys of a stream that occur most often, in a bounded space.
//!
//! Space-Saving: Metwally, Agrawal, El Abbadi, "Efficient Computation of
//! Frequent and Top-k Elements in Data Streams", ICDT 2005. Of `n` occurrences
//! and `m` entries, each key that occurred more than `n / m` times has an entry,
//! and an entry counts at most `n / m` too many. It says how many too many at most.

/// Entries for the keys that occur most often.
#[derive(Clone, Debug)]
pub(super) struct TopK<K> {
    entries: Vec<Entry<K>>,
    most: usize,
    seen: u64,
    halve_at: u64,
}

/// A key and how often it occurred.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<K> {
    pub(super) key: K,
    /// How often it occurred, or more.
    pub(super) count: u64,
    /// By how much `count` may be too high.
    pub(super) over: u64,
}

// === impl TopK ===

impl<K: Copy + Eq> TopK<K> {
    /// Room for `most` keys, at least 1. Each time that `halve_at` occurrences
    /// were counted, all counts are halved, so that what was is outweighed by what is.
    pub(super) fn new(most: usize, halve_at: u64) -> Self {
        let most = most.max(1);
        Self {
            entries: Vec::with_capacity(most),
            most,
            seen: 0,
            halve_at: halve_at.max(2),
        }
    }

    /// Counts an occurrence of `key`. Allocates nothing.
    pub(super) fn count(&mut self, key: K) {
        self.seen += 1;
        // One look for both: the key, or else the entry that counts least.
        let mut least = 0;
        let mut known = None;
        for (at, entry) in self.entries.iter().enumerate() {
            if entry.key == key {
                known = Some(at);
                break;
            }
            if entry.count < self.entries[least].count {
                least = at;
            }
        }
        if let Some(at) = known {
            self.entries[at].count += 1;
        } else if self.entries.len() < self.most {
            let (count, over) = (1, 0);
            self.entries.push(Entry { key, count, over });
        } else {
            let over = self.entries[least].count;
            let count = over + 1;
            self.entries[least] = Entry { key, count, over };
        }
        if self.seen >= self.halve_at {
            self.halve();
        }
    }

    /// The entries, the most frequent first.
    pub(super) fn sorted(&self) -> Vec<Entry<K>> {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.count));
        entries
    }

    fn halve(&mut self) {
        self.seen /= 2;
        for entry in &mut self.entries {
            entry.count /= 2;
            entry.over /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn entries_are_as_near_to_the_exact_counts_as_promised(
            // Small numbers are more frequent, as a few keys are hotter than the rest.
            stream in prop::collection::vec((0_u32..40, 0_u32..40).prop_map(|(a, b)| a * b / 20), 1..2_000),
            most in 1_usize..24,
        ) {
            let mut top = TopK::new(most, u64::MAX);
            let mut exact = HashMap::<u32, u64>::new();
            for key in &stream {
                top.count(*key);
                *exact.entry(*key).or_default() += 1;
            }
            let seen = stream.len() as u64;
            let bound = seen / most as u64;
            let entries = top.sorted();
            prop_assert!(entries.len() <= most);
            prop_assert_eq!(entries.iter().map(|e| e.count).sum::<u64>(), seen);
            prop_assert!(entries.is_sorted_by(|a, b| a.count >= b.count));
            for entry in &entries {
                let exact = exact[&entry.key];
                prop_assert!(entry.count >= exact && entry.count - entry.over <= exact);
                prop_assert!(entry.over <= bound);
            }
            for (key, count) in exact {
                let kept = entries.iter().any(|entry| entry.key == key);
                prop_assert!(kept || count <= bound, "{} of {} is lost", count, seen);
            }
        }
    }

    #[test]
    fn what_is_hot_now_outweighs_what_was_hot_for_long() {
        let mut top = TopK::new(4, 1_000);
        for _ in 0..100_000 {
            top.count("then");
        }
        for _ in 0..2_000 {
            top.count("now");
        }
        assert_eq!(top.sorted()[0].key, "now");
    }
}
