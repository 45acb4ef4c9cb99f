//! A cache of one type: read, load once, invalidate.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use crate::error::CacheError;
use crate::far::{FarRead, Filled};
use crate::flight::{Pilot, Seat};
use crate::hub::{Hub, Invalidated, Shared};
use crate::key;
use crate::l1::{Freshness, Stamp};
use crate::remote::Fence;

/// What a cache holds and for how long.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CacheSpec {
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    pub(crate) l1_ttl: Duration,
    pub(crate) l2_ttl: Duration,
}

/// Values of one type by id. Cheap to clone; see [`Hub::cache`].
pub struct Cache<V> {
    hub: Hub,
    /// The kind as keys write it.
    kind: Arc<str>,
    spec: CacheSpec,
    values: PhantomData<fn() -> V>,
}

type Answer<V, E> = Result<Option<Arc<V>>, CacheError<E>>;

/// Where a flight looks first.
#[derive(Clone, Copy)]
enum Source {
    Tiers,
    Load,
}

/// One value on its way into the tiers.
struct Fetch<V> {
    shared: Arc<Shared>,
    key: Arc<str>,
    spec: CacheSpec,
    /// Taken before the first look at L2 or the source.
    stamp: Stamp,
    values: PhantomData<fn() -> V>,
}

// === impl CacheSpec ===

impl CacheSpec {
    /// How long a process serves a value from its memory when nothing else is given.
    pub const DEFAULT_L1_TTL: Duration = Duration::from_secs(1);
    /// How long a value stays in L2 when nothing else is given.
    pub const DEFAULT_L2_TTL: Duration = Duration::from_secs(60);

    /// The values of type `kind` in the form numbered `version`.
    ///
    /// Raise the version whenever the encoded form changes: values of other
    /// versions are then never read.
    pub const fn new(kind: &'static str, version: u32) -> Self {
        Self {
            kind,
            version,
            l1_ttl: Self::DEFAULT_L1_TTL,
            l2_ttl: Self::DEFAULT_L2_TTL,
        }
    }

    /// Sets how long a process serves a value from its memory. This is how old
    /// a value can be served by another process whose message got lost.
    ///
    /// Default: [`CacheSpec::DEFAULT_L1_TTL`].
    pub const fn l1_ttl(mut self, ttl: Duration) -> Self {
        self.l1_ttl = ttl;
        self
    }

    /// Sets how long a value stays in L2.
    ///
    /// Default: [`CacheSpec::DEFAULT_L2_TTL`].
    pub const fn l2_ttl(mut self, ttl: Duration) -> Self {
        self.l2_ttl = ttl;
        self
    }
}

// === impl Cache ===

impl<V> Cache<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(crate) fn new(hub: Hub, kind: String, spec: CacheSpec) -> Self {
        Self {
            hub,
            kind: kind.into(),
            spec,
            values: PhantomData,
        }
    }

    /// The value of `id` if a tier has it. Loads nothing.
    pub async fn get(&self, id: &str) -> Option<Arc<V>> {
        let key = self.key(id);
        if let Some(value) = self.near(&key) {
            return Some(value);
        }
        let shared = self.hub.shared();
        let fetch = self.fetch(key.into(), |key| shared.l1.stamp(key));
        fetch.look_far().await.ok()
    }

    /// The value of `id`, loaded by `load` if no tier has it.
    ///
    /// At most one load per id runs in this process; callers that come
    /// meanwhile get its answer, and callers that give up do not cancel it: it
    /// runs in a task of its own. Only who comes after an invalidation of the
    /// id never gets the answer of a load from before; a new one starts.
    ///
    /// `None` means that there is no such value; it is not kept. Invalidate
    /// after creating a value too: a load under way may have missed it.
    ///
    /// A load that asks this cache for the same id waits for itself until the
    /// hub's limits end it with an error.
    ///
    /// # Errors
    ///
    /// See [`CacheError`]. An L2 that is down is none.
    pub async fn get_or_load<F, Fut, E>(
        &self,
        id: &str,
        load: F,
    ) -> Result<Option<Arc<V>>, CacheError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let key = self.key(id);
        if let Some(value) = self.near(&key) {
            return Ok(Some(value));
        }
        self.fly(key.into(), Source::Tiers, load).await
    }

    /// The value of `id`, loaded anew though a tier may have one, which is then
    /// replaced.
    ///
    /// Until the new value is there the old one is served, also if the load fails or
    /// finds none. Like [`get_or_load`](Self::get_or_load) it joins a load that is
    /// under way, runs in a task of its own, and never puts in what was loaded
    /// before an invalidation.
    ///
    /// # Errors
    ///
    /// See [`CacheError`]. An L2 that is down is none.
    pub async fn refresh<F, Fut, E>(
        &self,
        id: &str,
        load: F,
    ) -> Result<Option<Arc<V>>, CacheError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        self.fly(self.key(id).into(), Source::Load, load).await
    }

    /// Makes sure that nobody is served what `id` was until now.
    ///
    /// Call it after the change is committed. In this process the old value is
    /// gone at once, also one that is being loaded, whatever becomes of L2 and
    /// also if the caller gives up waiting. L2 drops it and tells the other
    /// processes; if it does not confirm that, it is asked again until it does.
    pub async fn invalidate(&self, id: &str) -> Invalidated {
        self.hub.shared().invalidate(&self.kind, id).await
    }

    async fn fly<F, Fut, E>(&self, key: Arc<str>, from: Source, load: F) -> Answer<V, E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let shared = self.hub.shared();
        let answer = match shared.flights.board(&key, || shared.l1.stamp(&key)) {
            Seat::Join(answer) => {
                shared.counters.coalesced.add(1);
                answer
            }
            Seat::Lead(pilot, answer) => {
                let fetch = self.fetch(key, |_| pilot.stamp);
                tokio::spawn(fetch.fly(pilot, from, load).in_current_span());
                answer
            }
        };
        wait_for(answer).await
    }

    fn key(&self, id: &str) -> String {
        let prefix = &self.hub.shared().prefix;
        let mut key = String::with_capacity(prefix.len() + self.kind.len() + id.len() + 8);
        key.push_str(prefix);
        key.push(':');
        key.push_str(&self.kind);
        key.push(':');
        key::push_part(&mut key, id);
        key.push(':');
        key.push_str(&self.spec.version.to_string());
        key
    }

    fn near(&self, key: &str) -> Option<Arc<V>> {
        let shared = self.hub.shared();
        let value = shared.l1.get(key)?.downcast().ok()?;
        shared.counters.l1_hits.add(1);
        Some(value)
    }

    fn fetch(&self, key: Arc<str>, stamp: impl FnOnce(&str) -> Stamp) -> Fetch<V> {
        Fetch {
            shared: self.hub.shared().clone(),
            stamp: stamp(&key),
            key,
            spec: self.spec,
            values: PhantomData,
        }
    }
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            kind: self.kind.clone(),
            spec: self.spec,
            values: PhantomData,
        }
    }
}

impl<V> std::fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

async fn wait_for<V, E>(mut answer: watch::Receiver<Option<Answer<V, E>>>) -> Answer<V, E> {
    let Ok(answer) = answer.wait_for(Option::is_some).await else {
        return Err(CacheError::Aborted);
    };
    answer.clone().unwrap_or(Err(CacheError::Aborted))
}

// === impl Fetch ===

impl<V> Fetch<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    async fn fly<F, Fut, E>(self, pilot: Pilot<Answer<V, E>>, from: Source, load: F)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, E>>,
    {
        let answer = self.run(from, load).await;
        pilot.land(answer);
    }

    async fn run<F, Fut, E>(&self, from: Source, load: F) -> Answer<V, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, E>>,
    {
        let fence = match from {
            Source::Tiers => match self.look().await {
                Ok(value) => return Ok(Some(value)),
                Err(fence) => fence,
            },
            Source::Load => match self.shared.far.read(&self.key).await {
                FarRead::Hit(_, fence) | FarRead::Miss(fence) => Some(fence),
                FarRead::Off => None,
            },
        };
        let begun = Instant::now();
        let Some(value) = self.load(load).await? else {
            return Ok(None);
        };
        let value = Arc::new(value);
        self.keep(&value, fence, begun).await;
        Ok(Some(value))
    }

    /// The value from a tier, or the fence to fill under if L2 may be used.
    async fn look(&self) -> Result<Arc<V>, Option<Fence>> {
        // The flight before this one may have landed since the caller looked.
        if let Some(value) = self.shared.l1.get(&self.key)
            && let Ok(value) = value.downcast()
        {
            return Ok(value);
        }
        self.look_far().await
    }

    /// The value from L2, or the fence to fill under if L2 may be used.
    async fn look_far(&self) -> Result<Arc<V>, Option<Fence>> {
        let asked = Instant::now();
        let (encoded, fence) = match self.shared.far.read(&self.key).await {
            FarRead::Hit(encoded, fence) => (encoded, fence),
            FarRead::Miss(fence) => return Err(Some(fence)),
            FarRead::Off => return Err(None),
        };
        let Ok(value) = serde_json::from_slice(&encoded) else {
            return Err(Some(fence));
        };
        let value = Arc::new(value);
        self.shared.counters.l2_hits.add(1);
        self.put_near(&value, encoded.len(), asked);
        Ok(value)
    }

    async fn load<F, Fut, E>(&self, load: F) -> Result<Option<V>, CacheError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, E>>,
    {
        let turn = timeout(self.shared.load_wait, self.shared.loads.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(CacheError::Overloaded);
        };
        self.shared.counters.loads.add(1);
        match timeout(self.shared.load_timeout, load()).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(CacheError::Load(Arc::new(error))),
            Err(_) => Err(CacheError::TimedOut),
        }
    }

    /// Puts a loaded value into the tiers, as far as it is still known to be true.
    async fn keep(&self, value: &Arc<V>, fence: Option<Fence>, begun: Instant) {
        let encoded = match serde_json::to_vec(&**value) {
            Ok(encoded) if encoded.len() <= Hub::MAX_VALUE => encoded,
            _ => return self.shared.counters.rejected_by_size.add(1),
        };
        let filling = Instant::now();
        let filled = match fence {
            Some(fence) => {
                let ttl = self.spec.l2_ttl;
                self.shared.far.fill(&self.key, fence, &encoded, ttl).await
            }
            None => Filled::Unknown,
        };
        match filled {
            // The store saw no drop up to the moment of the fill.
            Filled::Stored => self.put_near(value, encoded.len(), filling),
            // True when the load began, and perhaps no longer than that.
            Filled::Unknown => self.put_near(value, encoded.len(), begun),
            Filled::Refused => self.shared.counters.rejected_by_fence.add(1),
        }
    }

    fn put_near(&self, value: &Arc<V>, size: usize, since: Instant) {
        let fresh = Freshness {
            since,
            ttl: self.spec.l1_ttl,
        };
        let kept = self
            .shared
            .l1
            .insert(&self.key, self.stamp, value.clone(), size, fresh);
        if !kept {
            self.shared.counters.rejected_by_fence.add(1);
        }
    }
}
