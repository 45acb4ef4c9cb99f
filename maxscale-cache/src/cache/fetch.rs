//! One value on its way into the tiers.

mod claim;
mod land;
mod look;
mod named;
mod store;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Answer, CacheSpec, Token, draw};
use crate::codec::Codec;
use crate::flight::Pilot;
use crate::hub::Shared;
use crate::l1::{Entry, NearKey, Stamp, State};
use crate::schemas::Schema;
use crate::tags::Held;
use crate::ticks::micros;

pub(super) use claim::Ground;
pub(super) use look::Look;

/// How the tag that all values of a kind have is named in envelopes; no tag
/// has this name.
const ALL: &str = "!";

pub(super) struct Fetch<V> {
    pub(super) shared: Arc<Shared>,
    pub(super) schema: Arc<Schema>,
    pub(super) spec: CacheSpec,
    pub(super) near: NearKey,
    /// The key in L2.
    pub(super) key: Arc<str>,
    /// Taken before the first look at L2 or the source, as are the tags.
    pub(super) stamp: Stamp,
    pub(super) tags: Arc<[Held]>,
    pub(super) at_least: Option<Token>,
    pub(super) aim: Aim,
    pub(super) version_of: Option<fn(&V) -> u64>,
    pub(super) codec: Arc<dyn Codec<V>>,
    /// What reads tags out of a value. The second of `tags` is then the one that
    /// moves with any of the kind.
    pub(super) names_of: Option<fn(&V) -> Vec<String>>,
}

/// What a fetch is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Whatever is good.
    Any,
    /// Another value than the one that was loaded at this time.
    NewerThan(u64),
    /// One that was loaded for it.
    Anew,
}

/// The value of an entry; `None` if it is of another type.
#[inline]
pub(super) fn value_of<V: Send + Sync + 'static>(entry: &Entry) -> Option<Option<Arc<V>>> {
    match &entry.value {
        None => Some(None),
        Some(value) => Some(Some(value.clone().downcast().ok()?)),
    }
}

// === impl Fetch ===

impl<V> Fetch<V>
where
    V: Send + Sync + 'static,
{
    pub(super) async fn fly<F, Fut, E>(self, pilot: Pilot<Answer<V, E>>, load: F)
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<V>, E>> + Send,
        E: Send + Sync + 'static,
    {
        let answer = self.run(&pilot, load).await;
        self.land(pilot, answer).await;
    }

    async fn run<F, Fut, E>(&self, pilot: &Pilot<Answer<V, E>>, load: F) -> Answer<V, E>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<V>, E>> + Send,
        E: Send + Sync + 'static,
    {
        if let Some(value) = self.pinned() {
            return Ok(value);
        }
        // The flight before this one may have landed since the caller looked.
        let (known, mut old) = match self.look_near() {
            Some((entry, State::Fresh)) if self.is_new(&entry) => match value_of(&entry) {
                Some(value) => return Ok(value),
                None => (None, None),
            },
            Some((entry, State::Suspect)) => (Some(entry), None),
            Some((entry, _)) => (Some(entry.clone()), Some(entry)),
            None => (None, None),
        };
        let mut looked = self.look_far(known.as_ref()).await;
        let is_off = matches!(looked, Look::Off);
        if let Some(value) = self.settle(&mut looked, &mut old) {
            return Ok(value);
        }
        if self.aim == Aim::Any
            && let Some(old) = &old
            && let Some(value) = self.serve_while_revalidating(old)
        {
            if known.is_none() {
                self.shared.counters.stale.add(1);
            }
            pilot.answer_early(Ok(value));
        }
        let ground = if is_off {
            None
        } else {
            match self.claim(known.as_ref(), &mut old).await {
                Ok(ground) => ground,
                Err(value) => return Ok(value),
            }
        };
        self.load_anew(pilot, load, ground, old).await
    }

    async fn load_anew<F, Fut, E>(
        &self,
        pilot: &Pilot<Answer<V, E>>,
        load: F,
        ground: Option<Ground>,
        old: Option<Entry>,
    ) -> Answer<V, E>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<V>, E>> + Send,
        E: Send + Sync + 'static,
    {
        let begun = self.shared.ticks.now();
        let mut loading = pin!(self.renewing(ground.is_some(), self.shared.load(load)));
        let spare = old.as_ref().and_then(|old| self.serve_if_error(old));
        let loaded = match (self.spec.patience, spare) {
            (Some(patience), Some(value)) => match timeout(patience, &mut loading).await {
                Ok(loaded) => loaded,
                Err(_) => {
                    self.shared.counters.stale.add(1);
                    pilot.answer_early(Ok(value));
                    loading.await
                }
            },
            _ => loading.await,
        };
        match loaded {
            Ok(value) => {
                let value = value.map(Arc::new);
                self.keep(value.clone(), ground, begun).await;
                if value.is_none() && old.is_some() && self.aim != Aim::Anew {
                    // Nobody dropped it, and it is gone all the same.
                    let order = self
                        .shared
                        .order_of(&self.schema.kind, self.near.part(), false);
                    self.shared.change(order).await;
                }
                Ok(value)
            }
            Err(error) => {
                if ground.is_some() {
                    self.shared.far.release(&self.key).await;
                }
                // Looked at anew: the load may have taken long.
                let spare = old.as_ref().and_then(|old| self.serve_if_error(old));
                let Some(value) = spare else {
                    return Err(error);
                };
                self.shared.counters.stale.add(1);
                Ok(value)
            }
        }
    }

    /// The value if what was seen answers the flight; else what may be served
    /// in its place is noted.
    pub(super) fn settle(
        &self,
        looked: &mut Look,
        old: &mut Option<Entry>,
    ) -> Option<Option<Arc<V>>> {
        match std::mem::replace(looked, Look::Nothing) {
            Look::Fresh(entry) if self.is_new(&entry) => value_of(&entry),
            Look::Fresh(entry) | Look::Stale(entry) => {
                *old = Some(entry);
                None
            }
            Look::Nothing | Look::Off => None,
        }
    }

    /// Whether an entry is as new as was asked for.
    fn is_new(&self, entry: &Entry) -> bool {
        let is_aim = match self.aim {
            Aim::Any => true,
            Aim::NewerThan(since) => entry.since != since,
            Aim::Anew => false,
        };
        is_aim && self.at_least.is_none_or(|it| it.is_met_by(entry.fence))
    }

    /// What is pinned, looked up after the stamp was taken.
    pub(super) fn pinned(&self) -> Option<Option<Arc<V>>> {
        self.shared.pinned(&self.near)
    }

    fn look_near(&self) -> Option<(Entry, State)> {
        (self.shared).near(&self.near.probe(), micros(self.spec.l1_ttl))
    }

    pub(super) fn serve_while_revalidating(&self, old: &Entry) -> Option<Option<Arc<V>>> {
        self.serve_for(old, self.spec.while_revalidating)
    }

    fn serve_if_error(&self, old: &Entry) -> Option<Option<Arc<V>>> {
        if self.aim == Aim::Anew {
            return None;
        }
        self.serve_for(old, self.spec.if_error)
    }

    fn serve_for(&self, old: &Entry, window: Duration) -> Option<Option<Arc<V>>> {
        let now = self.shared.ticks.now();
        // Dropped meanwhile, it must not be served any more.
        let is_dropped =
            self.shared.stamp(&self.near) != self.stamp || !old.tags.iter().all(Held::is_current);
        if is_dropped || !old.serves_for(micros(window), now) || !self.is_new_enough(old) {
            return None;
        }
        value_of(old)
    }

    fn is_new_enough(&self, old: &Entry) -> bool {
        self.at_least.is_none_or(|it| it.is_met_by(old.fence))
    }
}
