//! What was loaded or put, and how it gets into both tiers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use maxscale_core::Chain;

use super::claim::Ground;
use super::{ALL, Fetch, draw};
use crate::cache::Cache;
use crate::codec;
use crate::envelope::{Envelope, Value};
use crate::far::Filled;
use crate::hub::Hub;
use crate::key;
use crate::l1::{AnyValue, ENTRY_OVERHEAD, Entry, Kept};
use crate::remote::Fence;
use crate::tags::Held;
use crate::ticks::micros;

/// When a load began, how long it took, and how long its value is good for.
pub(super) struct Timing {
    begun: u64,
    ended: u64,
    fresh: Duration,
    cost: u32,
    version: u64,
}

// === impl Fetch ===

impl<V> Fetch<V>
where
    V: Send + Sync + 'static,
{
    /// Puts a loaded value into the tiers, as far as it is still known to be true.
    pub(in crate::cache) async fn keep(
        &self,
        value: Option<Arc<V>>,
        ground: Option<Ground>,
        begun: u64,
    ) {
        let ended = self.shared.ticks.now();
        let is_stored = self.try_keep(value, ground, (begun, ended)).await;
        // Who is overtaken says so when it lands.
        if !is_stored && !self.is_overtaken() {
            let loaded = self.shared.far.at_the_latest(ended);
            self.shared.shown.note(self.near.hash, loaded, ended);
        }
    }

    /// As [`keep`](Self::keep); whether L2 has it now.
    async fn try_keep(
        &self,
        value: Option<Arc<V>>,
        ground: Option<Ground>,
        (begun, ended): (u64, u64),
    ) -> bool {
        let fresh = match &value {
            None => self.spec.absent_ttl,
            Some(_) if self.spec.l2_ttl.is_zero() => self.spec.l1_ttl,
            Some(_) => self.spec.l2_ttl,
        };
        if fresh.is_zero() || self.tags.len() > Cache::<V>::MAX_TAGS + 1 {
            if ground.is_some() {
                self.shared.far.release(&self.key).await;
            }
            return false;
        }
        let encoded = match value.as_deref().map(|value| self.encode(value)) {
            None => None,
            Some(Some(encoded)) => Some(encoded),
            Some(None) => {
                if ground.is_some() {
                    self.shared.far.release(&self.key).await;
                }
                return false;
            }
        };
        let share = f64::from(self.spec.jitter_percent) / 100.0 * draw();
        let fresh = fresh.mul_f64(1.0 - share);
        let size = encoded.as_ref().map_or(0, Vec::len);
        let cost = ended.saturating_sub(begun);
        let timing = Timing {
            begun,
            ended,
            fresh,
            cost: u32::try_from(cost).unwrap_or(u32::MAX),
            version: value.as_deref().map_or(0, |value| self.version_of(value)),
        };
        self.store_named(value, encoded, size, ground, timing).await
    }

    /// Puts a value that the caller knows under the fence of its change.
    pub(in crate::cache) async fn put(&self, value: Arc<V>, fence: Fence, version: Option<u64>) {
        let Some(encoded) = self.encode(&value) else {
            return;
        };
        let fresh = if self.spec.l2_ttl.is_zero() {
            self.spec.l1_ttl
        } else {
            self.spec.l2_ttl
        };
        let begun = self.shared.ticks.now();
        let ground = self.tag_fences().await.map(|tags| Ground {
            fence,
            since: self.shared.far.at(begun),
            tags,
        });
        let timing = Timing {
            begun,
            ended: begun,
            fresh,
            cost: 0,
            version: version.unwrap_or_else(|| self.version_of(&value)),
        };
        let size = encoded.len();
        self.store_named(Some(value), Some(encoded), size, ground, timing)
            .await;
    }

    pub(super) async fn store(
        &self,
        value: Option<Arc<V>>,
        encoded: Option<Vec<u8>>,
        size: usize,
        ground: Option<Ground>,
        timing: Timing,
    ) -> bool {
        // What nobody may serve must not take the place of what is newer, nor
        // what a later load in this process may have stored under the same fence.
        let is_dropped = !self.shared.l1.is_current(self.near.hash, self.stamp);
        if is_dropped || !self.tags.iter().all(Held::is_current) {
            self.shared.counters.rejected_by_fence.add(1);
            return false;
        }
        let window = match value {
            Some(_) => self.spec.stale_window(),
            None => Duration::ZERO,
        };
        let filling = self.shared.ticks.now();
        let filled = match &ground {
            Some(ground) => {
                let envelope = self.envelope(encoded, ground, &timing);
                let lives = match &value {
                    Some(_) if self.spec.l2_ttl.is_zero() => Duration::ZERO,
                    _ => timing.fresh.saturating_add(window),
                };
                let far = &self.shared.far;
                let packing = self.codec.packing();
                far.fill(&self.key, timing.version, &envelope, packing, lives)
                    .await
            }
            None => Filled::Unknown,
        };
        let known = match filled {
            // The store saw no drop up to the moment of the fill.
            Filled::Stored => filling,
            // True when the load began, and perhaps no longer than that.
            Filled::Unknown => timing.begun,
            Filled::Refused => {
                self.shared.counters.rejected_by_fence.add(1);
                // Somebody dropped it, which is not heard yet.
                self.shared.l1.drop_key(&self.near.probe());
                return false;
            }
        };
        let is_stored = filled == Filled::Stored;
        let fresh_until = timing.begun.saturating_add(micros(timing.fresh));
        let stale_until = fresh_until.saturating_add(micros(window));
        let left = stale_until.saturating_sub(self.shared.ticks.now());
        if left == 0 {
            return is_stored;
        }
        self.put_near(Arc::new(Kept {
            value: value.map(|value| value as AnyValue),
            fence: ground.as_ref().map(|ground| ground.fence),
            since: match &ground {
                Some(ground) => ground.since,
                None => self.shared.far.at(timing.begun),
            },
            begun: timing.begun,
            loaded: self.shared.far.at_the_latest(timing.ended),
            tags: self.tags.iter().cloned().collect(),
            cost: timing.cost,
            fresh_until,
            spoiled: AtomicBool::new(false),
            stale_until,
            known: AtomicU64::new(known),
            epoch: AtomicU64::new(self.stamp.epoch),
            weight: self.weight(size),
        }));
        is_stored
    }

    /// The encoded form, if there is one and it is short enough to be kept.
    fn encode(&self, value: &V) -> Option<Vec<u8>> {
        let encoded = match self.codec.encode(value) {
            Ok(encoded) if encoded.len() <= Hub::MAX_VALUE => return Some(encoded),
            encoded => encoded,
        };
        self.shared.counters.rejected_by_size.add(1);
        match encoded {
            Ok(encoded) => tracing::debug!(key = %self.key, bytes = encoded.len(), "not kept"),
            Err(error) => tracing::debug!(key = %self.key, error = %Chain(&error), "not kept"),
        }
        None
    }

    fn envelope(&self, encoded: Option<Vec<u8>>, ground: &Ground, timing: &Timing) -> Envelope {
        let tags = self.tags.iter().zip(&ground.tags).map(|(held, fence)| {
            let key = &*held.tag.key;
            // As `hold` finds it again.
            let name = key.rsplit_once(':').map_or(key, |(_, name)| name);
            let is_all = *key == *key::of_all(&self.shared.far.prefix, &self.schema.kind);
            (if is_all { ALL.into() } else { name.into() }, *fence)
        });
        Envelope {
            value: encoded.map_or(Value::Absent, |it| Value::Here(it.into())),
            codec: codec::number(self.codec.name()),
            era: self.shared.far.era(),
            since: ground.since,
            fresh: micros(timing.fresh),
            fence: ground.fence,
            cost: timing.cost,
            tags: tags.collect(),
        }
    }

    pub(super) fn put_near(&self, entry: Entry) {
        if self.spec.l1_ttl.is_zero() || self.shared.pins.get(&self.near).is_some() {
            return;
        }
        if !self.shared.l1.insert(&self.near, self.stamp, entry) {
            self.shared.counters.rejected_by_fence.add(1);
        }
        self.shared.tidy();
    }

    fn version_of(&self, value: &V) -> u64 {
        self.version_of.map_or(0, |version_of| version_of(value))
    }

    pub(super) fn weight(&self, size: usize) -> u32 {
        u32::try_from(ENTRY_OVERHEAD + self.near.part().len() + size).unwrap_or(u32::MAX)
    }
}
