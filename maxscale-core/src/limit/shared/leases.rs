//! The tokens that this process holds, by policy and principal.

mod stripes;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limit::lease::{Chunk, Lease, Spent, Terms};
use crate::limit::redis::BACK_WITHIN;
use crate::limit::table::{Entry, Table};
use crate::limit::{LocalLimits, Policy, Status};
use stripes::Stripes;

const SHARDS: usize = 64;

/// How long before its end a lease is not given back any more.
pub(super) const MARGIN: Duration = BACK_WITHIN;

/// At most [`LocalLimits::DEFAULT_CAPACITY`] keys are held.
pub(super) struct Leases {
    // Secret to this process: nobody outside can make keys collide.
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// From when on moments are counted.
    begun: Instant,
    stripes: Stripes,
}

type Shard = Table<Held<Lease>>;

/// What is held of one key: a lease, or a thread's part of it.
struct Held<L> {
    principal: Arc<str>,
    policy: Policy,
    lease: L,
}

/// Tokens for the store to take back.
pub(super) struct Unspent {
    pub(super) principal: Arc<str>,
    pub(super) policy: Policy,
    pub(super) tokens: u32,
}

/// What became of a request, and what is to be done about it.
pub(super) struct Outcome {
    pub(super) spent: Spent,
    /// Made way for it.
    pub(super) unspent: Option<Unspent>,
}

// === impl Leases ===

impl Leases {
    pub(super) fn new() -> Self {
        let capacity = LocalLimits::DEFAULT_CAPACITY.div_ceil(SHARDS);
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Table::new(capacity)))
                .collect(),
            stripes: Stripes::new(),
            begun: Instant::now(),
        }
    }

    /// Spends `cost` tokens of a policy with these terms.
    pub(super) fn spend(
        &self,
        principal: &str,
        policy: &Policy,
        terms: &Terms,
        cost: u32,
    ) -> Outcome {
        let (key, now) = (self.key(principal, policy), Instant::now());
        let of = (principal, policy, terms);
        if let Some(status) = self.stripes.spend(key, of, cost, now) {
            return Outcome::spent(Spent {
                status: Some(status),
                ask: None,
            });
        }
        let mut shard = self.shard(key);
        if let Some(Entry { state: held, .. }) = shard.get_mut(of_hash(key)) {
            let mut unspent = None;
            if !held.is_of(principal, policy, terms) {
                unspent = held.unspent_by(|lease, _| lease.take_all(now, MARGIN));
                *held = Held::new(principal, policy, now);
            }
            let spent = held.lease.spend(terms, cost, now);
            let mut outcome = Outcome { spent, unspent };
            if held.lease.is_hot()
                && self.stripes.has_place(key, now)
                && let Some(chunk) = held.lease.chunk(now)
            {
                outcome.unspent = self.stripes.put(key, held.with(chunk));
            }
            return outcome;
        }
        let mut held = Held::new(principal, policy, now);
        let spent = held.lease.spend(terms, cost, now);
        let entry = Entry {
            key: of_hash(key),
            state: held,
            over_at: i64::MIN,
        };
        let gone = shard.add(entry, self.micros(now));
        let unspent =
            gone.and_then(|mut gone| gone.unspent_by(|lease, _| lease.take_all(now, MARGIN)));
        Outcome { spent, unspent }
    }

    /// The answer to what was asked for; false if nobody waits for it any more.
    pub(super) fn answered(
        &self,
        asked: &Unspent,
        terms: &Terms,
        sent: Instant,
        answer: Option<(u32, Status)>,
    ) -> bool {
        let key = self.key(&asked.principal, &asked.policy);
        let mut shard = self.shard(key);
        match shard.get_mut(of_hash(key)) {
            Some(Entry {
                state: held,
                over_at,
                ..
            }) if held.is_of(&asked.principal, &asked.policy, terms)
                && held.lease.waits_for(sent) =>
            {
                held.lease.answered(terms, sent, answer);
                *over_at = self.micros(sent + terms.ttl);
                true
            }
            // Its key made way for others, has another rule, or was set by an operator.
            _ => false,
        }
    }

    /// Puts back what a request had spent; false if there is no lease any more.
    pub(super) fn put_back(&self, principal: &str, policy: &Policy, tokens: u32) -> bool {
        let key = self.key(principal, policy);
        let mut shard = self.shard(key);
        let entry = shard.get_mut(of_hash(key));
        let Some((Entry { state: held, .. }, terms)) = entry.zip(policy.lease()) else {
            return false;
        };
        held.is_of(principal, policy, terms) && (held.lease).put_back(terms, tokens, Instant::now())
    }

    /// Throws away what is held of a key.
    pub(super) fn forget(&self, principal: &str, policy: &Policy) {
        let key = self.key(principal, policy);
        // Under the lock nobody gives a thread a part of it.
        let mut shard = self.shard(key);
        self.stripes.forget(key);
        if let Some(entry) = shard.get_mut(of_hash(key)) {
            entry.state = Held::new(principal, policy, Instant::now());
        }
    }

    /// What nobody has wanted for a while.
    pub(super) fn idle(&self) -> Vec<Unspent> {
        let idle = |chunk: &mut Chunk, terms: &Terms, now| chunk.idle(terms, now, MARGIN);
        let mut all = self.stripes.all(idle);
        all.extend(self.all(|lease, terms, now| lease.idle(terms, now, MARGIN)));
        all
    }

    /// All that could be given back.
    pub(super) fn take_all(&self) -> Vec<Unspent> {
        let mut all = self.stripes.all(|chunk, _, now| chunk.take(now, MARGIN));
        all.extend(self.all(|lease, _, now| lease.take_all(now, MARGIN)));
        all
    }

    fn all(&self, of: impl Fn(&mut Lease, &Terms, Instant) -> u32) -> Vec<Unspent> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            for entry in shard.entries_mut() {
                all.extend(entry.state.unspent_by(|lease, terms| of(lease, terms, now)));
            }
        }
        all
    }

    fn micros(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.begun).as_micros();
        i64::try_from(since).unwrap_or(i64::MAX)
    }

    fn key(&self, principal: &str, policy: &Policy) -> u64 {
        self.hasher.hash_one((principal, policy.name()))
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // A table sorts by the lowest and the highest bits.
        let shard = &self.shards[(key >> 32) as usize % SHARDS];
        // Nothing panics while holding it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a table takes it.
fn of_hash(hash: u64) -> u128 {
    u128::from(hash) << 64
}

// === impl Outcome ===

impl Outcome {
    const fn spent(spent: Spent) -> Self {
        Self {
            spent,
            unspent: None,
        }
    }
}

// === impl Held ===

impl Held<Lease> {
    fn new(principal: &str, policy: &Policy, now: Instant) -> Self {
        Self {
            principal: principal.into(),
            policy: policy.clone(),
            lease: Lease::new(now),
        }
    }
}

impl<L> Held<L> {
    /// Another lease of the same key.
    fn with<M>(&self, lease: M) -> Held<M> {
        Held {
            principal: self.principal.clone(),
            policy: self.policy.clone(),
            lease,
        }
    }

    /// Keys of one hash are told apart, and what was taken under another rule is not
    /// spent under this one.
    fn is_of(&self, principal: &str, policy: &Policy, terms: &Terms) -> bool {
        let same = self.policy.is(policy)
            || self.policy.name() == policy.name() && self.policy.lease() == Some(terms);
        same && *self.principal == *principal
    }

    fn unspent_by(&mut self, take: impl FnOnce(&mut L, &Terms) -> u32) -> Option<Unspent> {
        let tokens = take(&mut self.lease, self.policy.lease()?);
        (tokens > 0).then(|| Unspent {
            principal: self.principal.clone(),
            policy: self.policy.clone(),
            tokens,
        })
    }
}
