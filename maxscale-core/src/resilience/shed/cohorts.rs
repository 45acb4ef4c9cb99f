//! Which part of a tier a caller is of, and how these parts take turns.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::control::Shedding;
use crate::resilience::Priority;

/// What callers are hashed with, so that nobody outside can choose his cohort.
#[derive(Clone, Copy)]
pub(super) struct Secret(pub(super) [u64; 2]);

pub(super) struct Cohorts {
    secret: Secret,
    /// The time of day at which the shedder was built, in microseconds.
    day: u64,
    /// After how many microseconds each cohort comes one rank later.
    step: u64,
    /// Requests of nobody, which are of one cohort after the other.
    others: AtomicU64,
}

// === impl Secret ===

impl Secret {
    pub(super) fn drawn() -> Self {
        Self([0, 1].map(|it: u8| RandomState::new().hash_one(it)))
    }

    pub(super) fn new(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
        Self([half(number), half(number >> 64)])
    }

    fn hash(self, who: &str) -> u64 {
        #[expect(
            deprecated,
            reason = "the one hash of std that has a key and is the same in every release"
        )]
        let mut hasher = std::hash::SipHasher::new_with_keys(self.0[0], self.0[1]);
        hasher.write(who.as_bytes());
        hasher.finish()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

// === impl Cohorts ===

impl Cohorts {
    pub(super) const fn new(secret: Secret, day: u64, turn: u64) -> Self {
        let step = turn / Shedding::COHORTS as u64;
        Self {
            secret,
            day,
            step: if step == 0 { 1 } else { step },
            others: AtomicU64::new(0),
        }
    }

    /// The rank of a request that is not critical, `now` microseconds after the
    /// shedder was built.
    pub(super) fn rank(&self, priority: Priority, who: Option<&str>, now: u64) -> usize {
        let cohort = match who {
            Some(who) => self.secret.hash(who),
            None => self.others.fetch_add(1, Ordering::Relaxed),
        };
        let turned = self.day.saturating_add(now) / self.step;
        let cohort = cohort.wrapping_add(turned) % Shedding::COHORTS as u64;
        let tier = usize::from(priority.tier().saturating_sub(1));
        tier * Shedding::COHORTS + usize::try_from(cohort).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;

    fn cohorts(secret: u8, day: u64) -> Cohorts {
        Cohorts::new(Secret::new([secret; 16]), day, HOUR)
    }

    fn rank(cohorts: &Cohorts, who: &str, now: u64) -> usize {
        cohorts.rank(Priority::HIGH, Some(who), now)
    }

    /// Fixed for ever: processes of two releases agree.
    #[test]
    fn hash_is_siphash_2_4() {
        let key: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let bytes: Vec<u8> = (0..15).collect();
        let text = std::str::from_utf8(&bytes).unwrap();
        // The example of the paper (Aumasson and Bernstein, SipHash, appendix A).
        assert_eq!(Secret::new(key).hash(text), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn processes_with_one_secret_agree_and_others_do_not() {
        let users: Vec<_> = (0..100).map(|it| format!("user-{it}")).collect();
        let ranks = |cohorts: Cohorts| users.iter().map(move |it| rank(&cohorts, it, 0));
        let here: Vec<_> = ranks(cohorts(1, 5 * HOUR)).collect();
        // Built at another time: what counts is the time of day.
        let later = cohorts(1, 4 * HOUR);
        let there: Vec<_> = users.iter().map(|it| rank(&later, it, HOUR)).collect();
        assert_eq!(here, there);
        let same = ranks(cohorts(2, 5 * HOUR)).zip(here);
        assert!(same.filter(|(one, other)| one == other).count() < 10);
    }

    #[test]
    fn everybody_is_of_each_rank_once_a_turn_and_moves_by_one() {
        let cohorts = cohorts(1, 0);
        let step = HOUR / 128;
        let ranks: Vec<_> = (0..=128).map(|at| rank(&cohorts, "a", at * step)).collect();
        assert_eq!(ranks[0], ranks[128]);
        for (one, next) in ranks.iter().zip(&ranks[1..]) {
            assert_eq!((one + 1) % 128, *next);
        }
    }

    #[test]
    fn tiers_follow_each_other_and_requests_of_nobody_are_spread() {
        let cohorts = cohorts(1, 0);
        let tiers = [1, 2, 5].map(|tier| cohorts.rank(Priority::of_tier(tier), None, 0));
        assert_eq!(tiers, [0, 128 + 1, 4 * 128 + 2]);
    }
}
