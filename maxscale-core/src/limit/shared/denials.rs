//! What Redis denied a moment ago, and must deny still.
//!
//! A denial holds until its wait is over, since others can only make the wait
//! longer. Only what is given back, reset or raised makes it shorter: this
//! process's own is seen to, that of others, or of a moment in which a denial is on
//! its way, is noticed within [`LONGEST`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limit::{Charge, Rule, Standing, Status};

const LONGEST: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

/// Of each shard. What finds no room is asked for.
const MOST: usize = 4_096;

pub(super) struct Denials {
    // Secret to this process: nobody outside can make keys collide.
    hashers: [RandomState; 2],
    shards: [Mutex<HashMap<u128, Denial>>; SHARDS],
}

struct Denial {
    rule: Rule,
    /// Less may still be admitted, and more waits longer.
    cost: u32,
    status: Status,
    at: Instant,
    until: Instant,
}

// === impl Denials ===

impl Denials {
    pub(super) fn new() -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            shards: Default::default(),
        }
    }

    /// How the policies stand, if one of them denies.
    pub(super) fn find<'a>(
        &self,
        principal: &str,
        charges: impl IntoIterator<Item = &'a Charge>,
        now: Instant,
    ) -> Option<Vec<Standing>> {
        let mut denied = Vec::new();
        for charge in charges {
            // A shadow wants to be counted.
            if charge.policy.is_shadow() {
                return None;
            }
            denied.extend(self.status(principal, charge, now).map(|status| Standing {
                policy: charge.policy.clone(),
                status,
                allowed: false,
            }));
        }
        (!denied.is_empty()).then_some(denied)
    }

    fn status(&self, principal: &str, charge: &Charge, now: Instant) -> Option<Status> {
        let key = self.key(principal, charge.policy.name());
        let shard = self.shard(key);
        let denial = shard.get(&key)?;
        let holds = now < denial.until
            && charge.cost == denial.cost
            && denial.rule == *charge.policy.rule();
        holds.then(|| {
            let since = now.saturating_duration_since(denial.at);
            denial.status.after(since)
        })
    }

    /// `sent` is before the command left: no wait told is longer than it is.
    pub(super) fn note(
        &self,
        principal: &str,
        charges: &[Charge],
        standings: &[Standing],
        sent: Instant,
    ) {
        for (charge, standing) in charges.iter().zip(standings) {
            if standing.allowed || charge.policy.is_shadow() {
                continue;
            }
            let wait = standing.status.retry_after.unwrap_or(LONGEST);
            let denial = Denial {
                rule: *charge.policy.rule(),
                cost: charge.cost,
                status: standing.status,
                at: sent,
                until: sent + wait.min(LONGEST),
            };
            let key = self.key(principal, charge.policy.name());
            let mut shard = self.shard(key);
            if shard.len() >= MOST && !shard.contains_key(&key) {
                shard.retain(|_, old| old.until > sent);
            }
            if shard.len() < MOST || shard.contains_key(&key) {
                shard.insert(key, denial);
            }
        }
    }

    pub(super) fn forget(&self, principal: &str, policy: &str) {
        let key = self.key(principal, policy);
        self.shard(key).remove(&key);
    }

    fn key(&self, principal: &str, policy: &str) -> u128 {
        let hash = |hasher: &RandomState| hasher.hash_one((principal, policy));
        let [high, low] = self.hashers.each_ref().map(hash);
        u128::from(high) << 64 | u128::from(low)
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, HashMap<u128, Denial>> {
        let shard = &self.shards[(key % SHARDS as u128) as usize];
        // Nothing panics while holding it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
