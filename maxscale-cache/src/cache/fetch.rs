//! One value on its way into the tiers.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::{Answer, Cache, CacheSpec, Token, draw};
use crate::envelope::Envelope;
use crate::far::{FarRead, Filled, Turn};
use crate::flight::Pilot;
use crate::hub::{Hub, Shared};
use crate::key;
use crate::l1::{AnyValue, ENTRY_OVERHEAD, Entry, Kept, NearKey, Stamp, State};
use crate::remote::Fence;
use crate::schemas::Schema;
use crate::tags::Held;
use crate::ticks::micros;

/// How long a process that died keeps others from loading.
const LEASE: Duration = Duration::from_secs(2);

/// How often the lease of a load that takes long is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(700);

/// How long one waits between looks at what another process loads.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(50);

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

/// What L2 has.
pub(super) enum Look {
    /// Also in L1 now.
    Fresh(Entry),
    /// To be served only as the cache serves what is not fresh.
    Stale(Entry),
    Nothing,
    /// L2 is not to be used.
    Off,
}

/// What a load stores under.
pub(super) struct Ground {
    fence: Fence,
    /// The store's time before the load.
    since: u64,
    /// Of each tag, before the load.
    tags: Vec<Fence>,
}

/// The value of an entry; `None` if it is of another type.
pub(super) fn value_of<V: Send + Sync + 'static>(entry: &Entry) -> Option<Option<Arc<V>>> {
    match &entry.value {
        None => Some(None),
        Some(value) => Some(Some(value.clone().downcast().ok()?)),
    }
}

// === impl Fetch ===

impl<V> Fetch<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(super) async fn fly<F, Fut, E>(self, pilot: Pilot<Answer<V, E>>, load: F)
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<V>, E>> + Send,
        E: Send + Sync + 'static,
    {
        let answer = self.run(&pilot, load).await;
        pilot.land(answer);
    }

    async fn run<F, Fut, E>(&self, pilot: &Pilot<Answer<V, E>>, load: F) -> Answer<V, E>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<V>, E>> + Send,
        E: Send + Sync + 'static,
    {
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
                        .order_of(&self.schema.kind, &self.near.part, false);
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

    fn look_near(&self) -> Option<(Entry, State)> {
        let entry = self.shared.l1.get(&self.near.probe())?;
        let trust = self.shared.trust(micros(self.spec.l1_ttl));
        let state = entry.state(&trust);
        (state != State::Dead).then_some((entry, state))
    }

    /// What L2 has; `known` is what L1 has of it.
    pub(super) async fn look_far(&self, known: Option<&Entry>) -> Look {
        let asked = self.shared.ticks.now();
        let read = self.shared.far.read(&self.key, &self.schema).await;
        self.take_in(read, asked, known).await
    }

    /// Takes what L2 answered to a question asked at `asked` into L1.
    pub(super) async fn take_in(&self, read: FarRead, asked: u64, known: Option<&Entry>) -> Look {
        let (envelope, fence) = match read {
            FarRead::Off => return Look::Off,
            FarRead::Miss => return Look::Nothing,
            FarRead::Hit(envelope, fence) => (envelope, fence),
        };
        let window = match envelope.value {
            Some(_) => micros(self.spec.stale_window()),
            None => 0,
        };
        let age = self.shared.far.at(asked).saturating_sub(envelope.since);
        let left = envelope.fresh.saturating_add(window).saturating_sub(age);
        let is_met = self
            .at_least
            .is_none_or(|it| it.is_met_by(Some(envelope.fence)));
        if left == 0 || !is_met {
            return Look::Nothing;
        }
        // Loaded without L2, or filled after it by a load that had begun before:
        // who saw the newer one shall not see the older one next.
        if known.is_some_and(|known| known.since > envelope.since) {
            return Look::Nothing;
        }
        let Some(tags) = self.check_tags(&envelope.tags).await else {
            return Look::Nothing;
        };
        let same = |known: &&Entry| {
            known.fence == Some(envelope.fence)
                && known.since == envelope.since
                && known.tags.iter().all(Held::is_current)
        };
        let entry = if let Some(known) = known.filter(same) {
            known.confirm(self.stamp.epoch, asked);
            known.clone()
        } else {
            let value = match &envelope.value {
                None => None,
                Some(encoded) => match serde_json::from_slice::<V>(encoded) {
                    Ok(value) => Some(Arc::new(value) as AnyValue),
                    Err(_) => return Look::Nothing,
                },
            };
            let size = envelope.value.as_ref().map_or(0, |value| value.len());
            Arc::new(Kept {
                value,
                fence: Some(envelope.fence),
                since: envelope.since,
                tags,
                cost: envelope.cost,
                fresh_until: asked.saturating_add(envelope.fresh).saturating_sub(age),
                spoiled: AtomicBool::new(false),
                stale_until: asked.saturating_add(left),
                known: AtomicU64::new(asked),
                epoch: AtomicU64::new(self.stamp.epoch),
                lives: Duration::from_micros(left),
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

    /// Holds the tags of a stored value, if all are as they were at its load.
    async fn check_tags(&self, tags: &[(Arc<str>, Fence)]) -> Option<Box<[Held]>> {
        let mut held = Vec::with_capacity(tags.len());
        for (name, fence) in tags {
            let tag = self.hold(name);
            if self.shared.far.fence_of(&tag, self.stamp.epoch).await != Some(*fence) {
                return None;
            }
            held.push(tag);
        }
        Some(held.into())
    }

    fn hold(&self, name: &str) -> Held {
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

    /// Gets the right to load, or what another process loaded meanwhile
    /// (`Err`). `Ok(None)` if L2 has no part in it.
    async fn claim(
        &self,
        known: Option<&Entry>,
        old: &mut Option<Entry>,
    ) -> Result<Option<Ground>, Option<Arc<V>>> {
        let end = Instant::now() + self.shared.load_timeout;
        let mut pause = LOOK_FIRST;
        loop {
            let asked = self.shared.ticks.now();
            let claim = self.shared.far.claim(&self.key, &self.schema, LEASE);
            let Some(turn) = claim.await else {
                return Ok(None);
            };
            let Turn {
                read,
                fence,
                wait,
                now,
            } = turn;
            let mut looked = self.take_in(read, asked, known).await;
            if let Some(value) = self.settle(&mut looked, old) {
                if wait.is_zero() {
                    self.shared.far.release(&self.key).await;
                }
                return Err(value);
            }
            if wait.is_zero() || Instant::now() >= end {
                let tags = self.tag_fences().await;
                return Ok(tags.map(|tags| Ground {
                    fence,
                    since: now,
                    tags,
                }));
            }
            // Not all at the same moment.
            sleep(pause.mul_f64(0.5 + draw() / 2.0).min(wait)).await;
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    async fn tag_fences(&self) -> Option<Vec<Fence>> {
        let mut fences = Vec::with_capacity(self.tags.len());
        for held in &*self.tags {
            fences.push(self.shared.far.fence_of(held, self.stamp.epoch).await?);
        }
        Some(fences)
    }

    /// What a load of this key would store under, whoever else loads it.
    pub(super) async fn ground(&self, hold: Duration) -> Option<Ground> {
        let turn = self.shared.far.claim(&self.key, &self.schema, hold).await?;
        let tags = self.tag_fences().await?;
        Some(Ground {
            fence: turn.fence,
            since: turn.now,
            tags,
        })
    }

    /// Keeps other processes from loading while this one does.
    async fn renewing<T>(&self, is_claimed: bool, work: impl Future<Output = T>) -> T {
        if !is_claimed || self.shared.far.alone {
            return work.await;
        }
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(RENEW_EVERY, &mut work).await {
                return done;
            }
            let renewal = self.shared.far.claim(&self.key, &self.schema, LEASE);
            let mut renewal = pin!(renewal);
            tokio::select! {
                done = &mut work => return done,
                _ = &mut renewal => {}
            }
        }
    }

    /// Puts a loaded value into the tiers, as far as it is still known to be true.
    pub(super) async fn keep(&self, value: Option<Arc<V>>, ground: Option<Ground>, begun: u64) {
        let fresh = match &value {
            None => self.spec.absent_ttl,
            Some(_) if self.spec.l2_ttl.is_zero() => self.spec.l1_ttl,
            Some(_) => self.spec.l2_ttl,
        };
        if fresh.is_zero() || self.tags.len() > Cache::<V>::MAX_TAGS + 1 {
            if ground.is_some() {
                self.shared.far.release(&self.key).await;
            }
            return;
        }
        let encoded = match value.as_deref().map(serde_json::to_vec).transpose() {
            Ok(encoded) if encoded.as_ref().is_none_or(|it| it.len() <= Hub::MAX_VALUE) => encoded,
            _ => {
                self.shared.counters.rejected_by_size.add(1);
                if ground.is_some() {
                    self.shared.far.release(&self.key).await;
                }
                return;
            }
        };
        let share = f64::from(self.spec.jitter_percent) / 100.0 * draw();
        let fresh = fresh.mul_f64(1.0 - share);
        let size = encoded.as_ref().map_or(0, Vec::len);
        let cost = self.shared.ticks.now().saturating_sub(begun);
        let timing = Timing {
            begun,
            fresh,
            cost: u32::try_from(cost).unwrap_or(u32::MAX),
            version: value.as_deref().map_or(0, |value| self.version_of(value)),
        };
        self.store(value, encoded, size, ground, timing).await;
    }

    /// Puts a value that the caller knows under the fence of its change.
    pub(super) async fn put(&self, value: V, fence: Fence, version: Option<u64>) {
        let Ok(encoded) = serde_json::to_vec(&value) else {
            return self.shared.counters.rejected_by_size.add(1);
        };
        if encoded.len() > Hub::MAX_VALUE {
            return self.shared.counters.rejected_by_size.add(1);
        }
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
            fresh,
            cost: 0,
            version: version.unwrap_or_else(|| self.version_of(&value)),
        };
        let size = encoded.len();
        self.store(Some(Arc::new(value)), Some(encoded), size, ground, timing)
            .await;
    }

    async fn store(
        &self,
        value: Option<Arc<V>>,
        encoded: Option<Vec<u8>>,
        size: usize,
        ground: Option<Ground>,
        timing: Timing,
    ) {
        // What nobody may serve must not take the place of what is newer, nor
        // what a later load in this process may have stored under the same fence.
        let is_overtaken = !self.shared.l1.is_current(self.near.hash, self.stamp);
        if is_overtaken || !self.tags.iter().all(Held::is_current) {
            return self.shared.counters.rejected_by_fence.add(1);
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
                far.fill(&self.key, timing.version, &envelope, lives).await
            }
            None => Filled::Unknown,
        };
        let known = match filled {
            // The store saw no drop up to the moment of the fill.
            Filled::Stored => filling,
            // True when the load began, and perhaps no longer than that.
            Filled::Unknown => timing.begun,
            Filled::Refused => return self.shared.counters.rejected_by_fence.add(1),
        };
        let fresh_until = timing.begun.saturating_add(micros(timing.fresh));
        let stale_until = fresh_until.saturating_add(micros(window));
        let left = stale_until.saturating_sub(self.shared.ticks.now());
        if left == 0 {
            return;
        }
        self.put_near(Arc::new(Kept {
            value: value.map(|value| value as AnyValue),
            fence: ground.as_ref().map(|ground| ground.fence),
            since: match &ground {
                Some(ground) => ground.since,
                None => self.shared.far.at(timing.begun),
            },
            tags: self.tags.to_vec().into(),
            cost: timing.cost,
            fresh_until,
            spoiled: AtomicBool::new(false),
            stale_until,
            known: AtomicU64::new(known),
            epoch: AtomicU64::new(self.stamp.epoch),
            lives: Duration::from_micros(left),
            weight: self.weight(size),
        }));
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
            value: encoded.map(Into::into),
            era: self.shared.far.era(),
            since: ground.since,
            fresh: micros(timing.fresh),
            fence: ground.fence,
            cost: timing.cost,
            tags: tags.collect(),
        }
    }

    fn put_near(&self, entry: Entry) {
        if self.spec.l1_ttl.is_zero() {
            return;
        }
        if !self.shared.l1.insert(&self.near, self.stamp, entry) {
            self.shared.counters.rejected_by_fence.add(1);
        }
    }

    fn version_of(&self, value: &V) -> u64 {
        self.version_of.map_or(0, |version_of| version_of(value))
    }

    fn weight(&self, size: usize) -> u32 {
        u32::try_from(ENTRY_OVERHEAD + self.near.part.len() + size).unwrap_or(u32::MAX)
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

/// When a load began, how long it took, and how long its value is good for.
struct Timing {
    begun: u64,
    fresh: Duration,
    cost: u32,
    version: u64,
}
