//! At most so many at once, and what is left of one that died.

mod concurrency;
mod error;
mod layer;
mod place;
#[cfg(feature = "redis")]
mod remote;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use concurrency::{Concurrency, ConcurrencyError};
pub use error::HoldError;
pub use layer::{Held, Hold, HoldFuture, HoldLayer};

use super::counts::{self, Counts};
use super::policy::{self, PolicyError};
use super::{Limits, Source};
use crate::meter::Meter;
use place::{Cover, Place};
#[cfg(feature = "redis")]
use remote::Remote;

/// Gives out places: at most so many of one principal are held at once, by all
/// processes together. Cheap to clone; clones share their places.
///
/// Through Redis each holder has a lease, which this process renews in the
/// background, all of one principal by one command. So at any moment at most
/// [`most`](Concurrency::most) holders have a lease that lasts, and what a process
/// that died had held is free after one lease. Whose lease ran out is told
/// ([`Holder::lost`]), and gets a place again once there is one.
///
/// What Redis forgets, as by FLUSHALL or by a failover to a replica that had not
/// heard of it, is held again by the next renewal, within a third of a lease; who
/// finds no room any more by then is told. A failover to a server whose clock is
/// ahead frees places as much earlier.
///
/// While Redis is down, holders go on, and [`Concurrency::when_down`] says who else
/// gets a place: in this process, up to its share of them, those that it holds
/// already included ([`Down::LocalShare`](super::Down::LocalShare)), so that all
/// processes together hold at most those of before and `most`, or one each. As soon
/// as Redis is back they are held there, as far as there is room.
#[derive(Clone, Debug)]
pub struct Holders {
    inner: Arc<Inner>,
    counts: Option<Counts>,
}

/// Holds a place until it is dropped, or [released](Holder::release).
///
/// Dropped, the place is freed in the background; if Redis is down then, at the end
/// of its lease.
#[must_use = "the place is free as soon as it is dropped"]
pub struct Holder {
    inner: Arc<Inner>,
    principal: Arc<str>,
    place: Arc<Place>,
    source: Source,
}

struct Inner {
    name: Arc<str>,
    concurrency: Concurrency,
    next: AtomicU64,
    /// By principal, those of this process.
    held: Mutex<ByPrincipal>,
    #[cfg(feature = "redis")]
    remote: Option<Remote>,
}

type ByPrincipal = HashMap<Arc<str>, BTreeMap<u64, Arc<Place>>>;

/// When to ask again where no lease tells it.
const AGAIN: Duration = Duration::from_secs(1);

// === impl Holders ===

impl Holders {
    /// Places that are counted as `limits` count: by this process, or through Redis.
    /// The name is one that a [`Policy`](super::Policy) may have; a process has one
    /// of each name, and clones of it.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Name`] for any other name.
    pub fn new(name: &str, concurrency: Concurrency, limits: &Limits) -> Result<Self, PolicyError> {
        let name = policy::name(name)?;
        let inner = Arc::new_cyclic(|own| {
            #[cfg(not(feature = "redis"))]
            let _ = (own, limits);
            Inner {
                name,
                concurrency,
                next: AtomicU64::new(0),
                held: Mutex::default(),
                #[cfg(feature = "redis")]
                remote: (limits.0.shared.as_ref())
                    .map(|shared| Remote::start(shared.clone(), own.clone(), concurrency)),
            }
        });
        Ok(Self {
            inner,
            counts: None,
        })
    }

    /// Counts what is decided, as [`Policy::measured`](super::Policy::measured) does, and
    /// measures how many places this process holds, as `maxscale.limit.held`. Once for
    /// each name; clones share the counts.
    #[must_use]
    pub fn measured(mut self, meter: &Meter) -> Self {
        let name = &self.inner.name;
        self.counts = Some(Counts::register(meter, name));
        // The meter outlives the places.
        let inner = Arc::downgrade(&self.inner);
        counts::held(meter, name, move || Some(inner.upgrade()?.held_in_all()));
        self
    }

    /// What is limited so.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How many places there are of each principal, and how they are kept.
    pub fn concurrency(&self) -> Concurrency {
        self.inner.concurrency
    }

    /// A place of `principal`, if one is free. It waits for nobody to release one.
    ///
    /// # Errors
    ///
    /// [`HoldError::TooMany`] where none is free, and [`HoldError::Unknown`] where
    /// nobody gets one while Redis is down.
    ///
    /// # Cancellation
    ///
    /// Dropped, what it would have got is freed in the background.
    pub async fn acquire(&self, principal: &str) -> Result<Holder, HoldError> {
        let (held, source) = self.ask(principal).await;
        self.counted(held, source)
    }

    /// The same where no other process is asked, so that nobody has to wait.
    fn acquire_here(&self, principal: &str) -> Option<Result<Holder, HoldError>> {
        #[cfg(feature = "redis")]
        if self.inner.remote.is_some() {
            return None;
        }
        let (held, source) = self.inner.alone(principal);
        Some(self.counted(held, source))
    }

    /// How many places of `principal` this process holds.
    pub fn held_here(&self, principal: &str) -> usize {
        self.inner.held().get(principal).map_or(0, BTreeMap::len)
    }

    /// How many this process holds of the principal of whom it holds most: near
    /// [`Concurrency::most`], somebody is refused, or soon will be. For
    /// [`Capacity::register`](crate::capacity::Capacity::register).
    pub fn most_held_here(&self) -> usize {
        let held = self.inner.held();
        held.values().map(BTreeMap::len).max().unwrap_or(0)
    }

    fn counted(
        &self,
        held: Result<Holder, HoldError>,
        source: Source,
    ) -> Result<Holder, HoldError> {
        if let Some(counts) = &self.counts {
            counts.count(held.is_ok(), source);
        }
        held
    }

    #[cfg(feature = "redis")]
    async fn ask(&self, principal: &str) -> (Result<Holder, HoldError>, Source) {
        match &self.inner.remote {
            Some(remote) => remote.ask(&self.inner, principal).await,
            None => self.inner.alone(principal),
        }
    }

    #[cfg(not(feature = "redis"))]
    #[expect(clippy::unused_async, reason = "nobody else is asked")]
    async fn ask(&self, principal: &str) -> (Result<Holder, HoldError>, Source) {
        self.inner.alone(principal)
    }
}

// === impl Inner ===

impl Inner {
    /// By this process, which is the only one.
    fn alone(self: &Arc<Self>, principal: &str) -> (Result<Holder, HoldError>, Source) {
        let most = self.concurrency.most();
        (self.share(principal, most, Source::Store), Source::Store)
    }

    /// By this process, of `most` places of its own.
    fn share(
        self: &Arc<Self>,
        principal: &str,
        most: u32,
        source: Source,
    ) -> Result<Holder, HoldError> {
        let place = Place::new(self.number(), Cover::Here);
        let held = self.enter(principal, place, most, source);
        held.ok_or_else(|| self.too_many(AGAIN))
    }

    /// Keeps the place with those of the principal, if they are fewer than `most`.
    fn enter(
        self: &Arc<Self>,
        principal: &str,
        place: Place,
        most: u32,
        source: Source,
    ) -> Option<Holder> {
        let place = Arc::new(place);
        let mut held = self.held();
        let principal = match held.get_key_value(principal) {
            Some((_, places)) if places.len() >= usize::try_from(most).unwrap_or(usize::MAX) => {
                return None;
            }
            Some((principal, _)) => principal.clone(),
            None => principal.into(),
        };
        let places = held.entry(principal.clone()).or_default();
        places.insert(place.number, place.clone());
        Some(Holder {
            inner: self.clone(),
            principal,
            place,
            source,
        })
    }

    /// Whether it was there.
    fn remove(&self, principal: &str, number: u64) -> bool {
        let mut held = self.held();
        let Some(places) = held.get_mut(principal) else {
            return false;
        };
        let was_there = places.remove(&number).is_some();
        if places.is_empty() {
            held.remove(principal);
        }
        was_there
    }

    fn held_in_all(&self) -> u32 {
        let all = self.held().values().map(BTreeMap::len).sum::<usize>();
        u32::try_from(all).unwrap_or(u32::MAX)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn too_many(&self, retry_after: Duration) -> HoldError {
        HoldError::TooMany {
            holders: (&*self.name).into(),
            most: self.concurrency.most(),
            retry_after,
        }
    }

    fn held(&self) -> MutexGuard<'_, ByPrincipal> {
        // Nothing panics while holding it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("name", &self.name)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

// === impl Holder ===

impl Holder {
    /// Who gave the place: [`Source::Fallback`] where this process did, because
    /// Redis was down.
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Whether the lease could not be renewed in time, or found no room when it was
    /// new to Redis: others may have the place, and what is done under it may run
    /// beside what they do. That does not change any more.
    ///
    /// A place that this process gave while Redis was down has no lease until it is
    /// back.
    pub fn is_lost(&self) -> bool {
        self.place.is_lost()
    }

    /// Waits until it [is lost](Self::is_lost), for ever if it never is. For work that
    /// must end when it is not covered any more.
    ///
    /// # Cancellation
    ///
    /// May be dropped and called again.
    pub async fn lost(&self) {
        self.place.lost().await;
    }

    /// Frees the place, and waits for it. False where Redis did not answer: then it is
    /// free by the end of its lease.
    ///
    /// # Cancellation
    ///
    /// Dropped, it is freed in the background.
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "nobody else is told")
    )]
    pub async fn release(self) -> bool {
        let was_there = self.inner.remove(&self.principal, self.place.number);
        debug_assert!(was_there, "nobody else removes it");
        #[cfg(feature = "redis")]
        if let Some(remote) = &self.inner.remote {
            let left = remote.leave_later(&self.inner, &self.principal, &[self.place.number]);
            return left.await.unwrap_or(false);
        }
        true
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let was_there = self.inner.remove(&self.principal, self.place.number);
        #[cfg(not(feature = "redis"))]
        let _ = was_there;
        #[cfg(feature = "redis")]
        if was_there && let Some(remote) = &self.inner.remote {
            drop(remote.leave_later(&self.inner, &self.principal, &[self.place.number]));
        }
    }
}

impl fmt::Debug for Holder {
    /// Without the principal, which may be somebody's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder")
            .field("holders", &self.inner.name)
            .field("source", &self.source)
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::limit::LocalLimits;

    fn two() -> Holders {
        let limits = Limits::local(LocalLimits::new(Clock::system()));
        Holders::new("test", Concurrency::new(2).unwrap(), &limits).unwrap()
    }

    #[tokio::test]
    async fn place_is_free_again_when_its_holder_is_dropped_or_releases_it() {
        let holders = two();
        let first = holders.acquire("a").await.unwrap();
        let second = holders.acquire("a").await.unwrap();
        let third = holders.acquire("a").await.unwrap_err();
        assert!(matches!(third, HoldError::TooMany { most: 2, .. }));
        assert!(holders.acquire("b").await.is_ok());
        drop(first);
        let third = holders.acquire("a").await.unwrap();
        assert!(third.release().await);
        assert!(holders.acquire("a").await.is_ok());
        drop(second);
        assert!(holders.inner.held().is_empty(), "nothing is left of them");
    }

    #[tokio::test]
    async fn place_in_one_process_is_never_lost() {
        let holder = two().acquire("a").await.unwrap();
        let lost = tokio::time::timeout(Duration::from_millis(1), holder.lost());
        assert!(lost.await.is_err());
        assert!(!holder.is_lost());
    }
}
