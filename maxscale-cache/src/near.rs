//! Values that only this process keeps, and that any process can drop.
//!
//! A [`Near`] has L1 and the bus, and nothing in L2: a read of it, a miss and a value
//! that is kept cost no trip; an invalidation goes to the others by the messages that
//! all caches of a hub have. Who asks for a value, and where, is the caller's.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use smallvec::SmallVec;

use crate::hub::{Hub, Invalidated};
use crate::key;
use crate::l1::{AnyValue, ENTRY_OVERHEAD, Entry, Kept, NearKey, Probe, Stamp};
use crate::schemas::Schema;
use crate::ticks::micros;

/// Values of one type by id, in this process alone; see [`Hub::near`]. Cheap to clone.
///
/// A value is served for its time, counted from [`begin`](Self::begin), and only while
/// every drop of the other processes is heard: when the hub's feed is late, or was
/// interrupted, nothing is served, also by a process that was frozen meanwhile.
///
/// ```
/// # use std::time::Duration;
/// # use maxscale_cache::Hub;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let hub = Hub::builder().build();
/// let near = hub.near::<u32>("answer", Duration::from_secs(1));
/// // Before the source is asked: what is dropped from now on is not kept.
/// let begun = near.begin("life");
/// near.keep(&begun, |_| 42);
/// assert_eq!(near.get("life").as_deref(), Some(&42));
/// # }
/// ```
pub struct Near<V> {
    hub: Hub,
    schema: Arc<Schema>,
    ttl: u64,
    weight_of: fn(&V) -> usize,
}

/// The moment before a source was asked for a value.
pub struct Begun<V> {
    near: NearKey,
    stamp: Stamp,
    at: u64,
    of: PhantomData<fn() -> V>,
}

// === impl Near ===

impl<V> Near<V>
where
    V: Send + Sync + 'static,
{
    pub(crate) fn new(hub: Hub, kind: &str, ttl: Duration) -> Self {
        let schema = hub.shared().far.schemas.register_near(&key::part(kind));
        Self {
            hub,
            schema,
            ttl: micros(ttl),
            weight_of: |_| size_of::<V>(),
        }
    }

    /// The same values, whose bytes `weight_of` tells: they count so in the hub's
    /// [budget](crate::HubBuilder::l1_budget).
    ///
    /// Default: the size of `V`.
    #[must_use]
    pub fn weighed_by(mut self, weight_of: fn(&V) -> usize) -> Self {
        self.weight_of = weight_of;
        self
    }

    /// What is known of `id`.
    pub fn get(&self, id: &str) -> Option<Arc<V>> {
        let part = key::part_of(id);
        let entry = self.entry(&self.probe(&part))?;
        let value = value_of(&entry)?;
        self.hub.shared().counters.l1_hits.add(1);
        Some(value)
    }

    /// To be called before a source is asked for `id`.
    pub fn begin(&self, id: &str) -> Begun<V> {
        let shared = self.hub.shared();
        let part = key::part_of(id);
        let near = self.probe(&part).to_key();
        // The age counts from before whatever is told of it.
        let at = shared.ticks.now();
        Begun {
            stamp: shared.stamp(&near),
            near,
            at,
            of: PhantomData,
        }
    }

    /// Keeps a value that was asked for at `begun`, unless its id was dropped since, and
    /// says whether it did.
    ///
    /// `make` is given what is known already, to put both together: what it makes is as
    /// old as the older of the two. Of two that do so at once one may be forgotten.
    pub fn keep(&self, begun: &Begun<V>, make: impl FnOnce(Option<&V>) -> V) -> bool {
        let shared = self.hub.shared();
        let known = self.entry(&begun.near.probe());
        let at = known
            .as_ref()
            .map_or(begun.at, |known| known.begun.min(begun.at));
        let known = known.as_ref().and_then(value_of::<V>);
        let value = make(known.as_deref());
        let weight = ENTRY_OVERHEAD + begun.near.part().len() + (self.weight_of)(&value);
        let until = at.saturating_add(self.ttl);
        let entry = Arc::new(Kept {
            value: Some(Arc::new(value) as AnyValue),
            fresh_until: until,
            stale_until: until,
            known: AtomicU64::new(at),
            epoch: AtomicU64::new(begun.stamp.epoch),
            tags: SmallVec::new(),
            spoiled: AtomicBool::new(false),
            cost: 0,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            fence: None,
            since: at,
            begun: at,
            loaded: at,
        });
        let is_kept = shared.l1.insert(&begun.near, begun.stamp, entry);
        if !is_kept {
            shared.counters.rejected_by_fence.add(1);
        }
        shared.tidy();
        is_kept
    }

    /// Makes sure that nobody is served what was known of `id` until now.
    ///
    /// In this process it is gone when the future is first polled, and what is asked for
    /// meanwhile is not kept. The others are told; if that is not confirmed, it is tried
    /// again, and in the meantime the time of a value is the bound.
    pub async fn invalidate(&self, id: &str) -> Invalidated {
        let shared = self.hub.shared();
        let order = shared.order(&self.schema.kind, id, false);
        Invalidated::of(shared.change(order).await.as_deref())
    }

    fn probe<'a>(&self, part: &'a str) -> Probe<'a> {
        self.hub.shared().probe(&self.schema, part)
    }

    /// What may be served now.
    fn entry(&self, probe: &Probe<'_>) -> Option<Entry> {
        let shared = self.hub.shared();
        let entry = shared.l1.get(probe)?;
        shared.is_good_near(&entry, self.ttl).then_some(entry)
    }
}

fn value_of<V: Send + Sync + 'static>(entry: &Entry) -> Option<Arc<V>> {
    entry.value.clone()?.downcast().ok()
}

impl<V> Clone for Near<V> {
    fn clone(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            schema: self.schema.clone(),
            ttl: self.ttl,
            weight_of: self.weight_of,
        }
    }
}

impl<V> fmt::Debug for Near<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near")
            .field("kind", &self.schema.kind)
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Begun<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
