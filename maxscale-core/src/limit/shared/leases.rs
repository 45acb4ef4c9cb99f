//! The tokens that this process holds, by policy and principal.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::CoarseClock;
use crate::limit::hashes::Hashes;
use crate::limit::lease::{Chunk, Lease, Left, Moment, Terms};
use crate::limit::places::Places;
use crate::limit::redis::BACK_WITHIN;
use crate::limit::table::{Entry, Table};
use crate::limit::{LocalLimits, Policy, Status};

const SHARDS: usize = 64;

/// How long before its end a lease is not given back any more.
pub(super) const MARGIN: Duration = BACK_WITHIN;

/// At most [`LocalLimits::DEFAULT_CAPACITY`] keys are held.
pub(super) struct Leases {
    hashes: Hashes,
    shards: Box<[Mutex<Shard>]>,
    clock: CoarseClock,
    /// Of very hot keys, each thread's part.
    parts: Places<Held<Chunk>>,
}

type Shard = Table<Held<Lease>>;

/// What is held of one key: a lease, or a thread's part of it.
#[repr(C)]
struct Held<L> {
    policy: Policy,
    lease: L,
    principal: Arc<str>,
}

/// Tokens for the store to take back.
pub(super) struct Unspent {
    pub(super) principal: Arc<str>,
    pub(super) policy: Policy,
    pub(super) tokens: u32,
}

/// What is to be done for a request that was decided.
#[derive(Default)]
pub(super) struct Errands {
    /// How many tokens to ask for; none is no.
    pub(super) ask: Option<u32>,
    /// Made way for it.
    pub(super) unspent: Option<Unspent>,
}

// === impl Leases ===

impl Leases {
    pub(super) fn new() -> Self {
        let capacity = LocalLimits::DEFAULT_CAPACITY.div_ceil(SHARDS);
        Self {
            hashes: Hashes::new(),
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Table::new(capacity)))
                .collect(),
            parts: Places::new(),
            clock: CoarseClock::start(),
        }
    }

    /// Spends `cost` tokens of a policy with these terms.
    #[inline]
    pub(super) fn spend(
        &self,
        principal: &str,
        (policy, terms): (&Policy, &Terms),
        cost: u32,
        errands: &mut Errands,
    ) -> Option<(Policy, Left)> {
        let (key, nearly) = (self.key(principal, policy), self.clock.nearly());
        let at = |end| self.clock.before(end, nearly);
        let of_part = |part: &mut Held<Chunk>| {
            let now = at(part.lease.end());
            part.spend((policy, terms), cost, now)
        };
        if let Some(spent) = self.parts.with(key, of_part) {
            return Some(spent);
        }
        let mut shard = self.shard(key);
        let held = match shard.get_mut(key) {
            Some(Entry { state: held, .. }) if held.is_under(policy, terms) => held,
            _ => self.begin(&mut shard, key, (principal, policy), errands)?,
        };
        let now = at(held.lease.end());
        let spent = held.lease.spend(terms, cost, now);
        errands.ask = spent.ask;
        if held.lease.is_hot(terms) {
            self.divide(key, held, now, errands);
        }
        drop(shard);
        Some((policy.clone(), spent.left?))
    }

    /// Makes room for a key that has no lease by this rule.
    #[cold]
    fn begin<'a>(
        &self,
        shard: &'a mut Shard,
        key: u128,
        (principal, policy): (&str, &Policy),
        errands: &mut Errands,
    ) -> Option<&'a mut Held<Lease>> {
        let now = self.now();
        let held = Held::new(principal, policy, now);
        let gone = match shard.get_mut(key) {
            Some(entry) => Some(mem::replace(&mut entry.state, held)),
            None => {
                let entry = Entry {
                    key,
                    state: held,
                    over_at: i64::MIN,
                };
                shard.add(entry, now.as_micros())
            }
        };
        errands.unspent =
            gone.and_then(|mut gone| gone.unspent_by(|lease, _| lease.take_all(now, MARGIN)));
        shard.get_mut(key).map(|entry| &mut entry.state)
    }

    /// Gives this thread a part of a hot key's tokens.
    fn divide(&self, key: u128, held: &mut Held<Lease>, now: Moment, errands: &mut Errands) {
        if self.parts.has_room(key, |part| part.lease.is_over(now))
            && let Some(chunk) = held.lease.chunk(now)
        {
            let old = self.parts.put(key, held.apart(chunk));
            errands.unspent =
                old.and_then(|mut old| old.unspent_by(|chunk, _| chunk.take(now, MARGIN)));
        }
    }

    /// The answer to what was asked for; false if nobody waits for it any more.
    pub(super) fn answered(
        &self,
        asked: &Unspent,
        terms: &Terms,
        sent: Moment,
        answer: Option<(u32, Status)>,
    ) -> bool {
        let key = self.key(&asked.principal, &asked.policy);
        let mut shard = self.shard(key);
        match shard.get_mut(key) {
            Some(Entry {
                state: held,
                over_at,
                ..
            }) if held.is_under(&asked.policy, terms) && held.lease.waits_for(sent) => {
                held.lease.answered(terms, sent, answer);
                *over_at = (sent + terms.ttl).as_micros();
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
        let entry = shard.get_mut(key);
        let Some((Entry { state: held, .. }, terms)) = entry.zip(policy.lease()) else {
            return false;
        };
        held.is_under(policy, terms) && (held.lease).put_back(terms, tokens, self.now())
    }

    /// Throws away what is held of a key.
    pub(super) fn forget(&self, principal: &str, policy: &Policy) {
        let key = self.key(principal, policy);
        // Under the lock nobody gives a thread a part of it.
        let mut shard = self.shard(key);
        self.parts.forget(key);
        if let Some(entry) = shard.get_mut(key) {
            entry.state = Held::new(principal, policy, self.now());
        }
    }

    /// What nobody has wanted for a while.
    pub(super) fn idle(&self) -> Vec<Unspent> {
        let mut all = self.of_parts(|chunk, terms, now| chunk.idle(terms, now, MARGIN));
        all.extend(self.all(|lease, terms, now| lease.idle(terms, now, MARGIN)));
        all
    }

    /// All that could be given back.
    pub(super) fn take_all(&self) -> Vec<Unspent> {
        let mut all = self.of_parts(|chunk, _, now| chunk.take(now, MARGIN));
        all.extend(self.all(|lease, _, now| lease.take_all(now, MARGIN)));
        all
    }

    fn of_parts(&self, of: impl Fn(&mut Chunk, &Terms, Moment) -> u32) -> Vec<Unspent> {
        let mut all = Vec::new();
        self.parts.retain(|part| {
            let now = self.now();
            all.extend(part.unspent_by(|chunk, terms| of(chunk, terms, now)));
            !part.lease.is_over(now)
        });
        all
    }

    fn all(&self, of: impl Fn(&mut Lease, &Terms, Moment) -> u32) -> Vec<Unspent> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.now();
            for entry in shard.entries_mut() {
                all.extend(entry.state.unspent_by(|lease, terms| of(lease, terms, now)));
            }
        }
        all
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    fn key(&self, principal: &str, policy: &Policy) -> u128 {
        self.hashes.key(principal, policy.mix())
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[(key % SHARDS as u128) as usize];
        // Nothing panics while holding it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Held ===

impl Held<Lease> {
    fn new(principal: &str, policy: &Policy, now: Moment) -> Self {
        Self {
            principal: principal.into(),
            policy: policy.clone(),
            lease: Lease::new(now),
        }
    }

    /// A thread's part of it, which shares nothing that is written with others.
    fn apart(&self, chunk: Chunk) -> Held<Chunk> {
        Held {
            principal: self.principal.clone(),
            policy: self.policy.apart(),
            lease: chunk,
        }
    }
}

impl Held<Chunk> {
    // Out of line, its answer goes through memory in pieces, which takes as long as all
    // the rest.
    #[inline(always)]
    fn spend(
        &mut self,
        (policy, terms): (&Policy, &Terms),
        cost: u32,
        now: Moment,
    ) -> Option<(Policy, Left)> {
        if !self.is_under(policy, terms) {
            return None;
        }
        let left = self.lease.spend(terms, cost, now)?;
        Some((self.policy.clone(), left))
    }
}

impl<L> Held<L> {
    /// What was taken under another rule is not spent under this one.
    fn is_under(&self, policy: &Policy, terms: &Terms) -> bool {
        self.policy.is(policy) || self.policy.lease() == Some(terms)
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
