use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::hashes::Hashes;
use super::policy::mix;
use super::rule::Seen;
use super::state::State;
use super::table::{Entry, Table};
use super::{Call, Edit, Granted, LimitStore, Policy, Rule, Status};
use crate::clock::Clock;

const SHARDS: usize = 16;

/// Counts in this process. Cheap to clone; clones share their counts.
///
/// Memory is bounded: at most [`capacity`](Self::with_capacity) keys are held,
/// each by a hash of fixed size. When there is no room, a key of which nothing
/// counts any more is forgotten, which loses nothing; if there is none among
/// those looked at, the one that is there soonest, which regains all early.
#[derive(Clone, Debug)]
pub struct LocalLimits {
    clock: Clock,
    hashes: Hashes,
    shards: Arc<[Mutex<Table<State>>]>,
}

// === impl LocalLimits ===

impl LocalLimits {
    /// How many keys are held, when nothing else is set.
    pub const DEFAULT_CAPACITY: usize = 200_000;

    /// Counts by `clock`, for at most [`LocalLimits::DEFAULT_CAPACITY`] keys.
    pub fn new(clock: Clock) -> Self {
        Self::with_capacity(clock, Self::DEFAULT_CAPACITY)
    }

    /// Counts by `clock`, for at most `keys` keys (rounded up to 16).
    pub fn with_capacity(clock: Clock, keys: usize) -> Self {
        let capacity = keys.div_ceil(SHARDS).max(1);
        Self {
            clock,
            hashes: Hashes::new(),
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Table::new(capacity)))
                .collect(),
        }
    }

    /// As [`LimitStore::run`], without waiting.
    pub fn run_now(&self, call: &Call) -> Vec<Granted> {
        let place = self.place(&call.principal);
        let names: Vec<u128> = (call.entries.iter())
            .map(|entry| self.key(&call.principal, mix(&entry.policy), &entry.rule))
            .collect();
        let mut shard = self.shard(place);
        // Read under the lock, so that no earlier time follows a later one.
        let now = self.clock.now().as_micros();
        let keys = call.entries.iter().zip(&names);
        let mut keys: Vec<Seen> = keys
            .map(|(entry, name)| entry.rule.see(shard.get(*name), now))
            .collect();
        let (granted, changed) = call.decide(&mut keys, now);
        for ((name, key), _) in (names.into_iter().zip(keys))
            .zip(changed)
            .filter(|(_, changed)| *changed)
        {
            shard.put(entry_of(name, key, now), now);
        }
        granted
    }

    /// Takes `cost` tokens of one policy; whether they were there, and how it stands.
    pub fn take_now(
        &self,
        principal: &str,
        policy: &str,
        rule: &Rule,
        cost: u32,
    ) -> (bool, Status) {
        self.take(principal, (mix(policy), rule), cost)
    }

    /// As [`take_now`](Self::take_now).
    pub(super) fn take_one(&self, principal: &str, policy: &Policy, cost: u32) -> (bool, Status) {
        self.take(principal, (policy.mix(), policy.rule()), cost)
    }

    fn take(&self, principal: &str, (mix, rule): (u64, &Rule), cost: u32) -> (bool, Status) {
        let place = self.place(principal);
        let name = self.key(principal, mix, rule);
        let mut shard = self.shard(place);
        let now = self.clock.now().as_micros();
        let known = shard.place(name);
        let mut key = rule.see(known.map(|place| shard.at(place)), now);
        let granted = cost == 0 || key.room(now) >= cost.into();
        if granted {
            key.add(now, cost.into());
        }
        let status = key.status(now, cost);
        if granted || key.pulled() {
            let entry = entry_of(name, key, now);
            match known {
                Some(place) => shard.put_at(place, entry),
                None => drop(shard.add(entry, now)),
            }
        }
        (granted, status)
    }

    /// As [`LimitStore::edit`], without waiting.
    pub fn edit_now(&self, principal: &str, policy: &str, rule: &Rule, edit: Edit) {
        let place = self.place(principal);
        let name = self.key(principal, mix(policy), rule);
        let mut shard = self.shard(place);
        let now = self.clock.now().as_micros();
        match edit {
            Edit::Reset => shard.remove(name),
            Edit::Block(time) => {
                let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
                let until = now.saturating_add(micros);
                shard.put(entry_of(name, Seen::Blocked { until }, now), now);
            }
        }
    }

    /// How many keys are held.
    pub fn keys(&self) -> usize {
        (0..SHARDS as u64).map(|n| self.shard(n).len()).sum()
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Stands for a principal in this process.
    pub(super) fn tag(&self, principal: &str) -> u128 {
        self.hashes.key(principal, 0)
    }

    fn key(&self, principal: &str, mix: u64, rule: &Rule) -> u128 {
        self.hashes.key(principal, mix ^ rule.ground().mix())
    }

    /// All keys of a principal are in one.
    fn place(&self, principal: &str) -> u64 {
        self.hashes.told_by(principal)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Table<State>> {
        #[expect(clippy::cast_possible_truncation, reason = "below 16")]
        let shard = &self.shards[(hash % SHARDS as u64) as usize];
        // Nothing panics while holding it, and its state is valid at each step.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimitStore for LocalLimits {
    type Error = Infallible;

    async fn run(&self, call: &Call) -> Result<Vec<Granted>, Infallible> {
        Ok(self.run_now(call))
    }

    async fn edit(
        &self,
        principal: &str,
        policy: &str,
        rule: &Rule,
        edit: Edit,
    ) -> Result<(), Infallible> {
        self.edit_now(principal, policy, rule, edit);
        Ok(())
    }
}

fn entry_of(key: u128, seen: Seen, now: i64) -> Entry<State> {
    let reset = i64::try_from(seen.status(now, 0).reset.as_micros()).unwrap_or(i64::MAX);
    Entry {
        key,
        state: seen.into_state(),
        over_at: now.saturating_add(reset),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::limit::Rate;

    fn take(limits: &LocalLimits, principal: &str) -> bool {
        let rule = Rate::per_minute(100).unwrap().into();
        limits.take_now(principal, "test", &rule, 1).0
    }

    #[test]
    fn flood_of_keys_holds_no_more_than_the_capacity() {
        let (clock, _) = Clock::manual(Timestamp::from_micros(0));
        let limits = LocalLimits::with_capacity(clock, 160);
        for n in 0..10_000 {
            assert!(take(&limits, &format!("key {n}")));
        }
        assert_eq!(limits.keys(), 160);
    }

    #[test]
    fn flood_of_keys_does_not_free_a_key_that_is_denied() {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        let limits = LocalLimits::with_capacity(clock, 16 * 16);
        for _ in 0..100 {
            take(&limits, "attacker");
        }
        for n in 0..10_000 {
            time.advance(Duration::from_micros(1));
            take(&limits, &format!("key {n}"));
        }
        assert!(!take(&limits, "attacker"));
    }
}
