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

use super::clock::CoarseClock;
use crate::limit::hashes::Hashes;
use crate::limit::lease::Moment;
use crate::limit::places::Places;
use crate::limit::policy::mix;
use crate::limit::{Charge, Policy, Rule, Standing, Status};

const LONGEST: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

/// Of each shard. What finds no room is asked for.
const MOST: usize = 4_096;

pub(super) struct Denials {
    hashes: Hashes,
    shards: [RwLock<Shard>; SHARDS],
    /// Under an attack all threads ask for the same one.
    near: Places<Near>,
    clock: CoarseClock,
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

/// What one thread keeps of a denial.
struct Near {
    policy: Policy,
    cost: u32,
    status: Status,
    at: Moment,
    until: Moment,
}

// === impl Denials ===

impl Denials {
    pub(super) fn new() -> Self {
        Self {
            hashes: Hashes::new(),
            shards: Default::default(),
            near: Places::new(),
            clock: CoarseClock::start(),
        }
    }

    /// How the policies stand, if one of them denies.
    pub(super) fn find<'a>(
        &self,
        principal: &str,
        charges: impl IntoIterator<Item = &'a Charge>,
    ) -> Option<Vec<Standing>> {
        let mut denied = Vec::new();
        for charge in charges {
            // A shadow wants to be counted.
            if charge.policy.is_shadow() {
                return None;
            }
            denied.extend(self.find_one(principal, &charge.policy, charge.cost));
        }
        (!denied.is_empty()).then_some(denied)
    }

    /// How a policy that is no shadow stands, if it denies.
    pub(super) fn find_one(&self, principal: &str, policy: &Policy, cost: u32) -> Option<Standing> {
        let key = self.hashes.key(principal, policy.mix());
        let near = |near: &mut Near| near.standing(policy, cost, &self.clock);
        if let Some(standing) = self.near.with(key, near) {
            return Some(standing);
        }
        // Nothing panics while holding it.
        let shard = self.shard(key).read();
        let shard = shard.unwrap_or_else(PoisonError::into_inner);
        let denial = shard.get(&key)?;
        let now = Instant::now();
        if now >= denial.until || cost != denial.cost || denial.rule != *policy.rule() {
            return None;
        }
        let status = denial
            .status
            .after(now.saturating_duration_since(denial.at));
        let at = self.clock.now();
        if self.near.has_room(key, |near| near.until <= at) {
            let near = Near {
                policy: policy.apart(),
                cost,
                status,
                at,
                until: at + denial.until.saturating_duration_since(now),
            };
            // Under the lock: what is forgotten afterwards is forgotten here too.
            drop(self.near.put(key, near));
        }
        drop(shard);
        Some(denied(policy.clone(), status))
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
        let mut shard = self.changed(key);
        shard.remove(&key);
        self.near.forget(key);
    }

    fn changed(&self, key: u128) -> RwLockWriteGuard<'_, Shard> {
        let shard = self.shard(key).write();
        shard.unwrap_or_else(PoisonError::into_inner)
    }

    const fn shard(&self, key: u128) -> &RwLock<Shard> {
        &self.shards[(key % SHARDS as u128) as usize]
    }
}

// === impl Near ===

impl Near {
    fn standing(&self, policy: &Policy, cost: u32, clock: &CoarseClock) -> Option<Standing> {
        if cost != self.cost || !self.policy.is(policy) {
            return None;
        }
        let now = clock.before(self.until, clock.nearly());
        let status = self.status.after(now.since(self.at));
        (now < self.until).then(|| denied(self.policy.clone(), status))
    }
}

const fn denied(policy: Policy, status: Status) -> Standing {
    Standing {
        policy,
        status,
        allowed: false,
    }
}
