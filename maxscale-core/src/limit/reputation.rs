//! Who behaves badly, and for how long that is held against them.

#[cfg(feature = "redis")]
mod shared;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(feature = "redis")]
use super::RedisLimits;
use super::Tiers;
use super::table::{Entry, Table};
use crate::clock::{Clock, Timestamp};
use crate::fact::Tier;
#[cfg(feature = "redis")]
use shared::Verdicts;

const SHARDS: usize = 16;

/// Counts what speaks against a principal (denials, failed logins, scans) and calls
/// it suspicious where that is too much in too short a time. Cheap to clone; clones
/// share what they know.
///
/// Each signal has points, which lose half of their weight in each half-life. Where
/// they reach the threshold, the principal is suspicious for a time, and by itself no
/// longer when it was quiet for so long. [`tier`](Self::tier) is then that of
/// [`Tiers::SUSPICIOUS`], whatever it was: put it into the request as a fact, and
/// a layer further in that limits by [`Tiers`] admits as many as that tier may.
///
/// Each process counts for itself: where several share the requests, one of them has
/// to see a threshold of signals. Through Redis
/// ([`ReputationBuilder::shared`]) the others hear of it within a second or so;
/// without, it holds in this process. Neither costs a request a trip. Memory is
/// bounded: where there is no room, whoever is nearest to being forgotten anyway is.
#[derive(Clone)]
pub struct Reputation(Arc<Inner>);

/// Builds a [`Reputation`]; see [`Reputation::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ReputationBuilder {
    clock: Clock,
    half_life: Duration,
    threshold: u32,
    lasts: Duration,
    capacity: usize,
    #[cfg(feature = "redis")]
    redis: Option<RedisLimits>,
}

/// A reputation of values that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReputationError {
    /// Everybody would be suspicious.
    #[error("the threshold of a reputation is at least 1")]
    Threshold,

    /// Nothing would ever add up, or nobody would ever be suspicious.
    #[error("the half-life of a reputation and the time that it lasts are at least 1 ms")]
    Time,
}

struct Inner {
    clock: Clock,
    half_life: f64,
    threshold: f64,
    lasts: Duration,
    // Both secret to this process: nobody outside can make keys collide.
    hashers: [RandomState; 2],
    shards: [Mutex<Table<Standing>>; SHARDS],
    #[cfg(feature = "redis")]
    verdicts: Option<Arc<Verdicts>>,
}

/// What is known of a principal.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Standing {
    points: f64,
    /// When they were that many.
    at: Timestamp,
    suspicious_until: Timestamp,
}

// === impl Reputation ===

impl Reputation {
    /// The half-life of points when none is set.
    pub const DEFAULT_HALF_LIFE: Duration = Duration::from_secs(5 * 60);

    /// The points that make a principal suspicious when nothing else is set.
    pub const DEFAULT_THRESHOLD: u32 = 100;

    /// How long a principal is suspicious when nothing else is set.
    pub const DEFAULT_LASTS: Duration = Duration::from_secs(15 * 60);

    /// How many principals are held when nothing else is set.
    pub const DEFAULT_CAPACITY: usize = 100_000;

    /// Points of a request that was denied: who slows down when told so never has
    /// many.
    pub const DENIED: u32 = 1;

    /// Points of a login that failed.
    pub const FAILED_LOGIN: u32 = 5;

    /// Points of a request for what nobody offers, as scanners send them.
    pub const SCAN: u32 = 2;

    /// Starts a reputation by `clock`.
    pub const fn builder(clock: Clock) -> ReputationBuilder {
        ReputationBuilder {
            clock,
            half_life: Self::DEFAULT_HALF_LIFE,
            threshold: Self::DEFAULT_THRESHOLD,
            lasts: Self::DEFAULT_LASTS,
            capacity: Self::DEFAULT_CAPACITY,
            #[cfg(feature = "redis")]
            redis: None,
        }
    }

    /// Counts a signal; whether the principal is suspicious now.
    pub fn signal(&self, principal: &str, points: u32) -> bool {
        let inner = &*self.0;
        let key = inner.key(principal);
        let mut shard = inner.shard(key);
        let now = inner.clock.now();
        let known = shard.get(key).copied();
        let mut standing = known.unwrap_or(Standing::clean(now));
        #[cfg_attr(
            not(feature = "redis"),
            expect(unused_variables, reason = "there is nobody to tell")
        )]
        let is_verdict = standing.add(points, now, inner);
        #[cfg(feature = "redis")]
        if is_verdict && inner.verdicts.is_some() {
            // All of it is in the verdict, which everybody has.
            standing.points = 0.0;
        }
        shard.put(inner.entry(key, standing), now.as_micros());
        drop(shard);
        #[cfg(feature = "redis")]
        if is_verdict {
            self.tell(principal);
        }
        standing.suspicious_until > now || inner.is_told(principal)
    }

    /// Whether the principal is suspicious.
    pub fn is_suspicious(&self, principal: &str) -> bool {
        let key = self.0.key(principal);
        let known = self.0.shard(key).get(key).copied();
        known.is_some_and(|it| it.suspicious_until > self.0.clock.now())
            || self.0.is_told(principal)
    }

    /// The tier of a principal that has `own` as long as it behaves.
    pub fn tier(&self, principal: &str, own: Option<Tier>) -> Option<Tier> {
        match self.is_suspicious(principal) {
            true => Some(Tier::new(Tiers::SUSPICIOUS)),
            false => own,
        }
    }

    /// Nothing speaks against the principal any more. False where Redis did not answer,
    /// and only this process knows; then do it again.
    ///
    /// # Cancellation
    ///
    /// Dropped, this process knows, and others may.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "with Redis it waits")
    )]
    pub async fn forgive(&self, principal: &str) -> bool {
        self.0.clear(principal);
        #[cfg(feature = "redis")]
        if let Some(verdicts) = &self.0.verdicts {
            return verdicts.forgive(principal).await;
        }
        true
    }

    /// Tells the others in the background; once they know, it is theirs to forget too.
    #[cfg(feature = "redis")]
    fn tell(&self, principal: &str) {
        let Some(verdicts) = self.0.verdicts.clone() else {
            return;
        };
        let (own, principal) = (self.clone(), Box::<str>::from(principal));
        verdicts.runtime().clone().spawn(async move {
            if verdicts.tell(&principal, own.0.lasts).await {
                own.0.clear(&principal);
            }
        });
    }

    /// How many principals are held.
    pub fn principals(&self) -> usize {
        let shards = self.0.shards.iter();
        shards.map(|it| locked(it).len()).sum()
    }
}

impl fmt::Debug for Reputation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reputation").finish_non_exhaustive()
    }
}

// === impl ReputationBuilder ===

impl ReputationBuilder {
    /// Sets the time in which points lose half of their weight.
    ///
    /// Default: [`Reputation::DEFAULT_HALF_LIFE`].
    pub const fn half_life(mut self, time: Duration) -> Self {
        self.half_life = time;
        self
    }

    /// Sets how many points make a principal suspicious.
    ///
    /// Default: [`Reputation::DEFAULT_THRESHOLD`].
    pub const fn threshold(mut self, points: u32) -> Self {
        self.threshold = points;
        self
    }

    /// Sets how long a principal is suspicious after the last signal that made it
    /// so.
    ///
    /// Default: [`Reputation::DEFAULT_LASTS`].
    pub const fn lasts(mut self, time: Duration) -> Self {
        self.lasts = time;
        self
    }

    /// Sets how many principals are held (rounded up to 16).
    ///
    /// Default: [`Reputation::DEFAULT_CAPACITY`].
    pub const fn capacity(mut self, principals: usize) -> Self {
        self.capacity = principals;
        self
    }

    /// Tells all processes of the same Redis who is suspicious, a thousand at once at
    /// most; of more, each process knows its own. While Redis is down, so too.
    ///
    /// Default: nobody is told.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn shared(mut self, redis: RedisLimits) -> Self {
        self.redis = Some(redis);
        self
    }

    /// Finishes the reputation.
    ///
    /// # Errors
    ///
    /// [`ReputationError`].
    #[cfg_attr(
        feature = "redis",
        doc = "\n# Panics\n\nOutside a tokio runtime, if it is shared."
    )]
    pub fn build(self) -> Result<Reputation, ReputationError> {
        if self.threshold == 0 {
            return Err(ReputationError::Threshold);
        }
        if self.half_life.min(self.lasts) < Duration::from_millis(1) {
            return Err(ReputationError::Time);
        }
        let capacity = self.capacity.div_ceil(SHARDS).max(1);
        Ok(Reputation(Arc::new(Inner {
            #[cfg(feature = "redis")]
            verdicts: (self.redis).map(|redis| Verdicts::follow(redis, self.clock.clone())),
            clock: self.clock,
            half_life: self.half_life.as_secs_f64(),
            threshold: self.threshold.into(),
            lasts: self.lasts,
            hashers: [RandomState::new(), RandomState::new()],
            shards: std::array::from_fn(|_| Mutex::new(Table::new(capacity))),
        })))
    }
}

// === impl Inner ===

impl Inner {
    fn key(&self, principal: &str) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|it| it.hash_one(principal));
        u128::from(high) << 64 | u128::from(low)
    }

    fn clear(&self, principal: &str) {
        let key = self.key(principal);
        self.shard(key).remove(key);
    }

    fn entry(&self, key: u128, state: Standing) -> Entry<Standing> {
        let over_at = state.over_at(self.half_life).as_micros();
        Entry {
            key,
            state,
            over_at,
        }
    }

    /// Whether another process says so.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_self, reason = "there is none")
    )]
    fn is_told(&self, _principal: &str) -> bool {
        #[cfg(feature = "redis")]
        if let Some(verdicts) = &self.verdicts {
            return verdicts.is_suspicious(_principal);
        }
        false
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, Table<Standing>> {
        locked(&self.shards[(key % SHARDS as u128) as usize])
    }
}

fn locked(shard: &Mutex<Table<Standing>>) -> MutexGuard<'_, Table<Standing>> {
    // Nothing panics while holding it, and its state is valid at each step.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Standing ===

impl Standing {
    const fn clean(now: Timestamp) -> Self {
        Self {
            points: 0.0,
            at: now,
            suspicious_until: now,
        }
    }

    fn points_at(&self, now: Timestamp, half_life: f64) -> f64 {
        let lives = now.since(self.at).as_secs_f64() / half_life;
        self.points * (-lives).exp2()
    }

    /// Whether that makes it suspicious from now on.
    fn add(&mut self, points: u32, now: Timestamp, to: &Inner) -> bool {
        // No more than twice the threshold: however long it went on, a quiet
        // half-life is enough to be below it again.
        let most = 2.0 * to.threshold;
        let sum = self.points_at(now, to.half_life) + f64::from(points);
        self.points = sum.min(most);
        self.at = now;
        let is_verdict = self.points >= to.threshold;
        if is_verdict {
            self.suspicious_until = now.after(to.lasts);
        }
        is_verdict
    }

    /// From when on forgetting it loses nothing that matters: half a point.
    fn over_at(&self, half_life: f64) -> Timestamp {
        let lives = (self.points * 2.0).log2().max(0.0);
        let rest = Duration::try_from_secs_f64(lives * half_life).unwrap_or(Duration::MAX);
        self.at.after(rest).max(self.suspicious_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualTime;

    const MINUTE: Duration = Duration::from_secs(60);

    fn reputation(capacity: usize) -> (Reputation, ManualTime) {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        let builder = Reputation::builder(clock).half_life(MINUTE).threshold(10);
        let built = builder.lasts(5 * MINUTE).capacity(capacity).build();
        (built.unwrap(), time)
    }

    #[test]
    fn signals_at_once_make_a_principal_suspicious_and_no_other() {
        let (reputation, _) = reputation(100);
        for _ in 0..9 {
            assert!(!reputation.signal("ada", Reputation::DENIED));
        }
        assert!(!reputation.is_suspicious("ada"));
        assert!(reputation.signal("ada", Reputation::DENIED));
        let own = Some(Tier::new("premium"));
        assert_eq!(
            reputation.tier("ada", own.clone()).unwrap().as_str(),
            "suspicious"
        );
        assert_eq!(reputation.tier("bob", own.clone()), own);
    }

    #[test]
    fn signals_far_apart_never_add_up() {
        let (reputation, time) = reputation(100);
        for _ in 0..1_000 {
            // With a quarter of what was there before, at most 7 · 4/3.
            assert!(!reputation.signal("ada", 7));
            time.advance(2 * MINUTE);
        }
    }

    #[test]
    fn suspicion_ends_by_itself_however_bad_it_was() {
        let (reputation, time) = reputation(100);
        for _ in 0..10_000 {
            reputation.signal("ada", u32::MAX);
        }
        time.advance(5 * MINUTE - Duration::from_micros(1));
        assert!(reputation.is_suspicious("ada"));
        time.advance(Duration::from_micros(1));
        assert!(!reputation.is_suspicious("ada"));
        assert!(!reputation.signal("ada", 5), "most of it has decayed");
    }

    #[tokio::test]
    async fn who_goes_on_stays_suspicious_and_who_is_forgiven_does_not() {
        let (reputation, time) = reputation(100);
        for _ in 0..100 {
            reputation.signal("ada", 10);
            time.advance(4 * MINUTE);
            assert!(reputation.is_suspicious("ada"));
        }
        assert!(reputation.forgive("ada").await);
        assert!(!reputation.is_suspicious("ada"));
        assert!(!reputation.signal("ada", 9));
    }

    #[test]
    fn flood_of_principals_takes_no_room_and_clears_nobody() {
        let (reputation, time) = reputation(160);
        reputation.signal("attacker", 10);
        for n in 0..10_000 {
            time.advance(Duration::from_micros(1));
            reputation.signal(&format!("name {n}"), 1);
        }
        assert_eq!(reputation.principals(), 160);
        assert!(reputation.is_suspicious("attacker"));
    }

    #[test]
    fn reputation_of_values_that_cannot_be_is_refused() {
        let builder = || Reputation::builder(Clock::system());
        let error = |builder: ReputationBuilder| builder.build().unwrap_err();
        assert_eq!(error(builder().threshold(0)), ReputationError::Threshold);
        let none = Duration::ZERO;
        assert_eq!(error(builder().half_life(none)), ReputationError::Time);
        assert_eq!(error(builder().lasts(none)), ReputationError::Time);
        assert!(builder().lasts(Duration::MAX).capacity(0).build().is_ok());
    }
}
