//! Whom this process denies most often, in bounded memory.
//!
//! The algorithm is *space-saving* (Metwally, Agrawal and El Abbadi, "Efficient
//! Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005): who
//! finds no counter takes over the smallest one, with its count. So a count is never
//! too small, too large at most by what it began with, and whoever has more than a
//! share of one in [`COUNTERS`] of what its shard counts is among them. That holds in
//! whatever order denials are counted, so threads count for themselves first.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use foldhash::fast::FixedState;

use super::hashes::Hashes;
use super::places::Places;
use super::{Decision, Limits, Policy};

const SHARDS: usize = 16;

/// Of each shard.
const COUNTERS: usize = 64;

/// How many a thread counts for itself before it tells.
const UNTOLD: u64 = 256;

/// How much is kept of a principal's text where it is kept at all.
const LONGEST_TEXT: usize = 128;

/// Whom a policy has denied, and how often; see [`Limits::top_denied`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denied {
    /// The policy's name.
    pub policy: Arc<str>,
    /// The principal's keyed hash in hex, as it stands in the names of Redis keys.
    /// Without Redis it means something in this process only.
    pub hash: String,
    /// The principal's text, where [`Limits::telling_principals`] asks for it; of a
    /// long one the beginning.
    pub principal: Option<Box<str>>,
    /// How many requests were denied since the process began, or up to `over` fewer.
    pub count: u64,
    /// By how much the count may be too large.
    pub over: u64,
}

pub(super) struct DeniedCounts {
    hashes: Hashes,
    shards: [RwLock<Shard>; SHARDS],
    /// Under an attack all threads count the same one.
    near: Places<Tally>,
}

/// What one thread has counted, and not told yet.
struct Tally {
    about: Arc<About>,
    count: u64,
}

#[derive(Default)]
struct Shard {
    /// By keys that are hashes already.
    places: HashMap<u128, usize, FixedState>,
    counters: Vec<Counter>,
}

struct Counter {
    about: Arc<About>,
    count: AtomicU64,
    over: u64,
}

/// Who is counted.
struct About {
    key: u128,
    policy: Arc<str>,
    tag: u128,
    principal: Option<Box<str>>,
}

// === impl Limits ===

impl Limits {
    /// The `n` principals that this process has denied most often, by policy: the
    /// most often first. At most 1,024 are counted; others have taken the counters
    /// of the least. Policies in their shadow deny nobody.
    ///
    /// Each process knows its own: add up what they tell, by hash.
    pub fn top_denied(&self, n: usize) -> Vec<Denied> {
        self.denied().top(n)
    }

    /// Lets [`top_denied`](Self::top_denied) tell the principals' texts too, of those
    /// that are denied through this handle and its clones. They may be addresses and
    /// names of people, so by default nothing but a hash of them is kept.
    #[must_use]
    pub fn telling_principals(mut self) -> Self {
        Arc::make_mut(&mut self.0).tells_principals = true;
        self
    }

    pub(super) fn count_denied(&self, principal: &str, decision: &Decision) {
        let standings = decision.standings().iter();
        for standing in standings.filter(|it| !it.allowed && !it.policy.is_shadow()) {
            let told = self.0.tells_principals.then_some(principal);
            let about = (&standing.policy, principal);
            self.denied().count(about, told, || self.tag(principal));
        }
    }
}

// === impl DeniedCounts ===

impl DeniedCounts {
    pub(super) fn new() -> Self {
        Self {
            hashes: Hashes::new(),
            shards: std::array::from_fn(|_| RwLock::default()),
            near: Places::new(),
        }
    }

    /// The tag is asked for only of whom has no counter yet.
    fn count(
        &self,
        (policy, principal): (&Policy, &str),
        told: Option<&str>,
        tag: impl FnOnce() -> u128,
    ) {
        let key = self.hashes.key(principal, policy.mix());
        if let Some(untold) = self.near.with(key, |tally| Some(tally.one_more())) {
            if let Some(about) = untold {
                self.add(&about, UNTOLD);
            }
            return;
        }
        let known = self.shard(key).count(key, 1).cloned();
        let about = known.unwrap_or_else(|| {
            let about = Arc::new(About {
                key,
                policy: policy.shared_name(),
                tag: tag(),
                principal: told.map(beginning),
            });
            self.add(&about, 1);
            about
        });
        if let Some(old) = self.near.put(key, Tally { about, count: 0 }) {
            self.tell(old);
        }
    }

    fn tell(&self, Tally { about, count }: Tally) {
        if count > 0 {
            self.add(&about, count);
        }
    }

    fn add(&self, about: &Arc<About>, count: u64) {
        if self.shard(about.key).count(about.key, count).is_some() {
            return;
        }
        let shard = self.shards[place(about.key)].write();
        let mut shard = shard.unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been there first.
        if shard.count(about.key, count).is_none() {
            shard.add(Counter {
                about: about.clone(),
                count: AtomicU64::new(count),
                over: 0,
            });
        }
    }

    fn top(&self, n: usize) -> Vec<Denied> {
        for tally in self.near.take_all() {
            self.tell(tally);
        }
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.counters.iter().map(Counter::told));
        }
        all.sort_unstable_by_key(|denied| Reverse(denied.count));
        all.truncate(n);
        all
    }

    fn shard(&self, key: u128) -> RwLockReadGuard<'_, Shard> {
        let shard = self.shards[place(key)].read();
        // Nothing panics while holding it, and its state is valid at each step.
        shard.unwrap_or_else(PoisonError::into_inner)
    }
}

const fn place(key: u128) -> usize {
    (key % SHARDS as u128) as usize
}

impl fmt::Debug for DeniedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeniedCounts").finish_non_exhaustive()
    }
}

// === impl Shard ===

impl Shard {
    /// Counts, and says whom, if it has a counter.
    fn count(&self, key: u128, count: u64) -> Option<&Arc<About>> {
        let counter = self.counters.get(*self.places.get(&key)?)?;
        counter.count.fetch_add(count, Ordering::Relaxed);
        Some(&counter.about)
    }

    fn add(&mut self, mut new: Counter) {
        let key = new.about.key;
        let least = self.counters.iter().enumerate();
        let least = least.min_by_key(|(_, counter)| counter.count());
        let place = match least {
            Some((place, least)) if self.counters.len() >= COUNTERS => {
                new.over = least.count();
                *new.count.get_mut() += new.over;
                self.places.remove(&least.about.key);
                self.counters[place] = new;
                place
            }
            _ => {
                self.counters.push(new);
                self.counters.len() - 1
            }
        };
        self.places.insert(key, place);
    }
}

// === impl Tally ===

impl Tally {
    /// Says of whom a thread has counted so many that it tells.
    fn one_more(&mut self) -> Option<Arc<About>> {
        self.count = (self.count + 1) % UNTOLD;
        (self.count == 0).then(|| self.about.clone())
    }
}

// === impl Counter ===

impl Counter {
    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn told(&self) -> Denied {
        Denied {
            policy: self.about.policy.clone(),
            hash: format!("{:032x}", self.about.tag),
            principal: self.about.principal.clone(),
            count: self.count(),
            over: self.over,
        }
    }
}

fn beginning(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(LONGEST_TEXT)].into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::limit::{LocalLimits, Log};

    fn limits() -> Limits {
        let (clock, _) = Clock::manual(Timestamp::from_micros(0));
        Limits::local(LocalLimits::new(clock))
    }

    fn once() -> Policy {
        let hour = Duration::from_secs(3_600);
        Policy::new("once", Log::new(1, hour).unwrap()).unwrap()
    }

    async fn ask(limits: &Limits, policy: &Policy, principal: &str, times: u64) {
        for _ in 0..times {
            limits.check(policy, principal).await;
        }
    }

    #[tokio::test]
    async fn who_is_denied_most_often_comes_first() {
        let limits = limits();
        ask(&limits, &once(), "ada", 4).await;
        ask(&limits, &once(), "bob", 9).await;
        ask(&limits, &once(), "cyd", 1).await;
        ask(&limits, &once().shadow(true), "dan", 9).await;
        let top = limits.top_denied(9);
        let counts: Vec<_> = top.iter().map(|it| (it.count, it.over)).collect();
        assert_eq!(counts, [(8, 0), (3, 0)]);
        assert_eq!(limits.top_denied(1), top[..1]);
        assert_ne!(top[0].hash, top[1].hash);
    }

    #[tokio::test]
    async fn who_was_denied_is_told_by_name_only_where_that_is_asked_for() {
        let limits = limits();
        ask(&limits, &once(), "ada", 2).await;
        assert_eq!(limits.top_denied(1)[0].principal, None);
        let telling = limits.clone().telling_principals();
        let long = "ä".repeat(200);
        ask(&telling, &once(), &long, 9).await;
        let top = limits.top_denied(1);
        assert_eq!(top[0].principal.as_deref(), Some(&*"ä".repeat(64)));
    }

    #[tokio::test]
    async fn flood_of_names_hides_nobody_who_is_denied_often_and_takes_no_room() {
        let limits = limits();
        let policy = once();
        for round in 0..20 {
            ask(&limits, &policy, "attacker", 1_000).await;
            for n in 0..500 {
                ask(&limits, &policy, &format!("{round} {n}"), 2).await;
            }
        }
        let top = limits.top_denied(usize::MAX);
        assert_eq!(top.len(), SHARDS * COUNTERS);
        assert_eq!((top[0].count, top[0].over), (19_999, 0));
        // Each denial is counted once: who takes a counter over takes its count too.
        let sum: u64 = top.iter().map(|it| it.count).sum();
        assert_eq!(sum, 19_999 + 20 * 500);
        for other in &top[1..] {
            assert!(other.count - other.over <= 1, "{other:?}");
        }
    }
}
