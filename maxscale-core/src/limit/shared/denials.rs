//! What Redis denied a moment ago, and must deny still.
//!
//! A denial holds until its wait is over, since others can only make the wait
//! longer. Only what is given back, reset or raised makes it shorter: this
//! process's own is seen to, that of others, or of a moment in which a denial is on
//! its way, is noticed within [`LONGEST`].

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use foldhash::fast::FixedState;
use tokio::time::Instant;

use crate::limit::hashes::Hashes;
use crate::limit::policy::mix;
use crate::limit::{Charge, Policy, Rule, Standing, Status};

const LONGEST: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

/// Of each shard. What finds no room is asked for.
const MOST: usize = 4_096;

pub(super) struct Denials {
    hashes: Hashes,
    // Under an attack all threads read the same one.
    shards: [RwLock<Shard>; SHARDS],
}

/// By keys that are hashes already.
type Shard = HashMap<u128, Denial, FixedState>;

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
            hashes: Hashes::new(),
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
            denied.extend(self.find_one(principal, &charge.policy, charge.cost, now));
        }
        (!denied.is_empty()).then_some(denied)
    }

    /// How a policy that is no shadow stands, if it denies.
    pub(super) fn find_one(
        &self,
        principal: &str,
        policy: &Policy,
        cost: u32,
        now: Instant,
    ) -> Option<Standing> {
        let status = self.status(principal, policy, cost, now)?;
        Some(Standing {
            policy: policy.clone(),
            status,
            allowed: false,
        })
    }

    fn status(&self, principal: &str, policy: &Policy, cost: u32, now: Instant) -> Option<Status> {
        let key = self.hashes.key(principal, policy.mix());
        // Nothing panics while holding it.
        let shard = self.shard(key).read();
        let shard = shard.unwrap_or_else(PoisonError::into_inner);
        let denial = shard.get(&key)?;
        let holds = now < denial.until && cost == denial.cost && denial.rule == *policy.rule();
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
            let key = self.hashes.key(principal, charge.policy.mix());
            let mut shard = self.changed(key);
            if shard.len() >= MOST && !shard.contains_key(&key) {
                shard.retain(|_, old| old.until > sent);
            }
            if shard.len() < MOST || shard.contains_key(&key) {
                shard.insert(key, denial);
            }
        }
    }

    pub(super) fn forget(&self, principal: &str, policy: &str) {
        let key = self.hashes.key(principal, mix(policy));
        self.changed(key).remove(&key);
    }

    fn changed(&self, key: u128) -> RwLockWriteGuard<'_, Shard> {
        let shard = self.shard(key).write();
        shard.unwrap_or_else(PoisonError::into_inner)
    }

    const fn shard(&self, key: u128) -> &RwLock<Shard> {
        &self.shards[(key % SHARDS as u128) as usize]
    }
}
