//! What L2 has, and how it gets into L1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use maxscale_core::Chain;
use smallvec::SmallVec;

use super::{ALL, Fetch};
use crate::codec;
use crate::envelope::{Envelope, Unread, Value};
use crate::far::FarRead;
use crate::key;
use crate::l1::{AnyValue, Entry, Kept};
use crate::remote::Fence;
use crate::tags::Held;
use crate::ticks::micros;

/// What L2 has.
pub(in crate::cache) enum Look {
    /// Also in L1 now.
    Fresh(Entry),
    /// To be served only as the cache serves what is not fresh.
    Stale(Entry),
    Nothing,
    /// L2 is not to be used.
    Off,
}

// === impl Fetch ===

impl<V> Fetch<V>
where
    V: Send + Sync + 'static,
{
    /// What L2 has; `known` is what L1 has of it.
    pub(in crate::cache) async fn look_far(&self, known: Option<&Entry>) -> Look {
        let asked = self.shared.ticks.now();
        let read = self.shared.far.read(&self.key, &self.schema).await;
        self.take_in(read, asked, known).await
    }

    /// Takes what L2 answered to a question asked at `asked` into L1.
    pub(in crate::cache) async fn take_in(
        &self,
        read: FarRead,
        asked: u64,
        known: Option<&Entry>,
    ) -> Look {
        let (mut envelope, fence) = match read {
            FarRead::Off => return Look::Off,
            FarRead::Miss => return Look::Nothing,
            FarRead::Hit(envelope, fence) => (envelope, fence),
        };
        // Before all else, so that nothing is judged by what was so before it.
        if let Value::Away(away) = &envelope.value
            && !known.is_some_and(|known| is_same(known, &envelope))
        {
            let Some(encoded) = self.shared.far.bring(away).await else {
                return Look::Nothing;
            };
            envelope.value = Value::Here(encoded);
        }
        let window = match envelope.value {
            Value::Absent => 0,
            Value::Here(_) | Value::Away(_) => micros(self.spec.stale_window()),
        };
        let age = self.shared.far.at(asked).saturating_sub(envelope.since);
        let left = envelope.fresh.saturating_add(window).saturating_sub(age);
        let is_met = self
            .at_least
            .is_none_or(|it| it.is_met_by(Some(envelope.fence)));
        if left == 0 || !is_met {
            return Look::Nothing;
        }
        // Nor what may be older than what was shown before.
        let now = self.shared.ticks.now();
        if envelope.since < self.shared.shown.least(self.near.hash, now) {
            return Look::Nothing;
        }
        // What this process has may have been loaded without L2, or a load that
        // had begun before was stored after it.
        let goes_back = |known: &Entry| !known.may_be_followed_by(envelope.fence, envelope.since);
        if known.is_some_and(goes_back) {
            return Look::Nothing;
        }
        let Some(tags) = self.check_tags(&envelope.tags).await else {
            return Look::Nothing;
        };
        let entry = if let Some(known) = known.filter(|known| is_same(known, &envelope)) {
            known.confirm(self.stamp.epoch, asked);
            known.clone()
        } else {
            let (value, size) = match self.decode(&envelope) {
                Ok(Some(decoded)) => decoded,
                // It was dropped with a tag meanwhile.
                Ok(None) => return Look::Nothing,
                Err(unread) => {
                    self.shared.counters.unread(unread);
                    return Look::Nothing;
                }
            };
            Arc::new(Kept {
                value,
                fence: Some(envelope.fence),
                since: envelope.since,
                begun: 0,
                loaded: self.shared.far.at_the_latest(now),
                tags,
                cost: envelope.cost,
                fresh_until: asked.saturating_add(envelope.fresh).saturating_sub(age),
                spoiled: AtomicBool::new(false),
                stale_until: asked.saturating_add(left),
                known: AtomicU64::new(asked),
                epoch: AtomicU64::new(self.stamp.epoch),
                weight: self.weight(size),
            })
        };
        self.shared.counters.l2_hits.add(1);
        // Somebody asked for a load after this one.
        let is_spoiled = envelope.fence != fence;
        if is_spoiled {
            entry.spoil();
        }
        self.put_near(entry.clone());
        if is_spoiled || age >= envelope.fresh {
            Look::Stale(entry)
        } else {
            Look::Fresh(entry)
        }
    }

    /// What is in an envelope and its length, encoded; `Ok(None)` if it is away.
    fn decode(&self, envelope: &Envelope) -> Result<Option<(Option<AnyValue>, usize)>, Unread> {
        let encoded = match &envelope.value {
            Value::Absent => return Ok(Some((None, 0))),
            Value::Away(_) => return Ok(None),
            Value::Here(encoded) => encoded,
        };
        if envelope.codec != codec::number(self.codec.name()) {
            return Err(Unread::Form);
        }
        match self.codec.decode(encoded) {
            Ok(value) => Ok(Some((Some(Arc::new(value)), encoded.len()))),
            Err(error) => {
                tracing::debug!(key = %self.key, error = %Chain(&error), "L2 has no such value");
                Err(Unread::Value)
            }
        }
    }

    /// Holds the tags of a stored value, if all are as they were at its load.
    async fn check_tags(&self, tags: &[(Arc<str>, Fence)]) -> Option<SmallVec<[Held; 1]>> {
        let mut held = SmallVec::with_capacity(tags.len());
        for (name, fence) in tags {
            let tag = self.hold(name);
            if self.shared.far.fence_of(&tag, self.stamp.epoch).await != Some(*fence) {
                return None;
            }
            held.push(tag);
        }
        Some(held)
    }

    pub(super) fn hold(&self, name: &str) -> Held {
        let (prefix, kind) = (&self.shared.far.prefix, &self.schema.kind);
        let key = if name == ALL {
            key::of_all(prefix, kind)
        } else {
            key::of_tag(prefix, kind, name)
        };
        let mine = self.tags.iter().find(|held| *held.tag.key == *key);
        mine.cloned()
            .unwrap_or_else(|| self.shared.tags.get(&key).hold())
    }
}

/// Whether L2 has what is near.
fn is_same(known: &Entry, envelope: &Envelope) -> bool {
    known.is(envelope.fence, envelope.since) && known.tags.iter().all(Held::is_current)
}
