//! What caches and background tasks work on, and how drops are told and heard.
//!
//! An entry in L1 is believed while every drop of the others is heard. That is
//! so up to the moment when this process sent the last heartbeat of its own
//! that came back to it: all that was told before has come before it. A
//! process that was frozen, or whose connection died unnoticed, stops to
//! believe by its own clock, and asks L2.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::audit::Audit;
use super::builder::RETRY_EVERY;
use crate::error::CacheError;
use crate::far::Far;
use crate::flight::Flights;
use crate::key;
use crate::l1::{Entry, L1, NearKey, Probe, Stamp, State, Trust};
use crate::message::{Message, News, Told};
use crate::pending::{Mark, Order, Target};
use crate::pins::Pins;
use crate::remote::{Bumped, Heard};
use crate::roll::Roll;
use crate::schemas::Schema;
use crate::shown::Shown;
use crate::stats::Counters;
use crate::tags::Tags;
use crate::ticks::{Ticks, micros};

/// How often a process tells the others that it is there.
const BEAT_EVERY: Duration = Duration::from_millis(500);

/// How long after a heartbeat that came back every drop counts as heard.
const HEARD_FOR: Duration = Duration::from_millis(1_200);

/// How long a value is believed while drops are not heard.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Shared {
    pub(crate) l1: L1,
    pub(crate) far: Far,
    pub(crate) flights: Arc<Flights>,
    pub(crate) tags: Tags,
    pub(crate) pins: Pins,
    pub(crate) shown: Shown,
    pub(crate) loads: Semaphore,
    pub(crate) load_wait: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) counters: Arc<Counters>,
    pub(crate) ticks: Ticks,
    /// Until which tick every drop of the others is heard.
    pub(super) heard_until: AtomicU64,
    pub(super) roll: Mutex<Roll>,
    pub(super) audit: Option<Audit>,
    /// Redis may be back.
    pub(super) hurry: Notify,
}

// === impl Shared ===

impl Shared {
    /// What this process has, of a value kept for `l1_ttl`, and what it is good for. What
    /// is good for nothing is left out.
    #[inline]
    pub(crate) fn near(&self, probe: &Probe<'_>, l1_ttl: u64) -> Option<(Entry, State)> {
        // Nothing is ever kept for no time.
        let entry = (l1_ttl > 0).then(|| self.l1.get(probe))??;
        let state = self.state(&entry, l1_ttl);
        (state != State::Dead).then_some((entry, state))
    }

    /// What an entry is good for now, of a value kept for `l1_ttl`.
    #[inline]
    pub(crate) fn state(&self, entry: &Entry, l1_ttl: u64) -> State {
        self.state_before(self.ticks.soon(), entry, l1_ttl)
    }

    #[inline]
    fn state_before(&self, soon: u64, entry: &Entry, l1_ttl: u64) -> State {
        // What is fresh at a later moment is so now.
        match entry.state(&self.trust(l1_ttl, soon)) {
            State::Fresh => State::Fresh,
            _ => entry.state(&self.trust(l1_ttl, self.ticks.now())),
        }
    }

    /// What `look` says of a fresh value, kept for `l1_ttl`, that this thread has at hand.
    #[inline]
    pub(crate) fn at_hand<T>(
        &self,
        probe: &Probe<'_>,
        l1_ttl: u64,
        look: impl FnOnce(&Entry) -> Option<T>,
    ) -> Option<T> {
        let soon = || self.ticks.soon();
        self.l1.at_hand(probe, soon, |entry, soon| {
            let state = self.state_before(soon, entry, l1_ttl);
            (state == State::Fresh).then(|| look(entry))?
        })
    }

    /// Whether an entry that L2 knows nothing of may be served: while it is young, and
    /// not a moment longer than every drop is heard.
    #[inline]
    pub(crate) fn is_good_near(&self, entry: &Entry, ttl: u64) -> bool {
        let is_good = |now| {
            let heard = Trust {
                grace: 0,
                ..self.trust(ttl, now)
            };
            entry.state(&heard) == State::Fresh
        };
        is_good(self.ticks.soon()) || is_good(self.ticks.now())
    }

    /// How far L1 can be believed at a moment, for values kept for `l1_ttl`.
    #[inline]
    fn trust(&self, l1_ttl: u64, now: u64) -> Trust {
        Trust {
            epoch: self.l1.epoch(),
            now,
            until: self.heard_until.load(Ordering::SeqCst),
            grace: micros(GRACE),
            l1_ttl,
        }
    }

    /// Drops what is over in L1, in the background and now and then.
    pub(crate) fn tidy(self: &Arc<Self>) {
        if self.l1.takes_sweep() {
            let (shared, now) = (self.clone(), self.ticks.now());
            spawn_blocking(move || shared.l1.sweep(now));
        }
    }

    /// Since which tick a flight has to be under way to be boarded now, and now.
    /// A process that stood still may have asked L2 before, and heard nothing since.
    pub(crate) fn flights_since(&self) -> (u64, u64) {
        let now = self.ticks.now();
        let is_heard = now <= self.heard_until.load(Ordering::SeqCst);
        let since = if is_heard {
            0
        } else {
            now.saturating_sub(micros(GRACE))
        };
        (since, now)
    }

    /// Runs a load, one of so many at once, within its time.
    pub(crate) async fn load<F, Fut, T, E>(&self, load: F) -> Result<T, CacheError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let turn = timeout(self.load_wait, self.loads.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(CacheError::Overloaded);
        };
        self.counters.loads.add(1);
        match timeout(self.load_timeout, load()).await {
            Ok(Ok(loaded)) => Ok(loaded),
            Ok(Err(error)) => Err(CacheError::Load(Arc::new(error))),
            Err(_) => Err(CacheError::TimedOut),
        }
    }

    /// What is pinned under a key, if it is of this type.
    pub(crate) fn pinned<V: Send + Sync + 'static>(
        &self,
        near: &NearKey,
    ) -> Option<Option<Arc<V>>> {
        match self.pins.get(near)? {
            None => Some(None),
            Some(value) => Some(Some(value.downcast().ok()?)),
        }
    }

    pub(crate) fn stamp(&self, near: &NearKey) -> Stamp {
        self.l1.stamp(near.hash)
    }

    /// The order to drop a value of a kind written as in keys.
    pub(crate) fn order(&self, kind: &Arc<str>, id: &str, soft: bool) -> Order {
        self.order_of(kind, &key::part_of(id), soft)
    }

    /// As [`order`](Self::order); the id too is written as in keys.
    pub(crate) fn order_of(&self, kind: &Arc<str>, part: &str, soft: bool) -> Order {
        let target = Target::Value {
            kind: kind.clone(),
            part: part.into(),
            soft,
        };
        Order::new(&self.far.prefix, target)
    }

    /// Carries out an order everywhere. What has to hold at once in this
    /// process holds when the future is first polled. `Some` once L2 confirmed.
    pub(crate) async fn change(&self, order: Order) -> Option<Vec<(String, Bumped)>> {
        let mark = self.begin(order);
        let target = self.audit.as_ref().map(|_| mark.order.target.clone());
        let done = self.far.send(mark).await;
        if let (Some(audit), Some(done)) = (&self.audit, &done)
            && let Some(Target::Value {
                kind,
                part,
                soft: false,
            }) = &target
        {
            audit.sample(kind, part, done);
        }
        done
    }

    /// Carries out an order in this process, and notes that it is to be sent.
    pub(crate) fn begin(&self, order: Order) -> Mark<'_> {
        // Marked first: who still sees the old stamp is refused by L1, who
        // sees the new one sees the mark and stays away from L2.
        let mark = self.far.mark(order);
        match &mark.order.target {
            Target::Value { kind, part, soft } => self.change_value(kind, part, *soft),
            Target::Tag { kind, .. } => self.move_tag(kind, &mark.order.name),
            Target::All { .. } => self.tags.move_on(&mark.order.name),
        }
        mark
    }

    pub(super) async fn keep_listening(&self) {
        loop {
            let mut heard = self.far.remote.listen(&self.far.channel);
            while let Some(heard) = heard.next().await {
                self.hear(&heard);
            }
            self.miss();
            sleep(RETRY_EVERY).await;
        }
    }

    /// Shows this process to the others, and looks after who of them is there.
    pub(super) async fn keep_beating(&self) {
        let mut beats = interval(BEAT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beats.tick() => {}
                // The sooner the others know, the sooner it may be used.
                () = self.far.registered.notified() => {}
            }
            self.far.beat("heartbeat").await;
            if self.far.emptied.swap(false, Ordering::SeqCst) {
                // The store was emptied, and whoever did it wants no old values.
                self.miss();
            }
            if !self.roll().sweep(self.ticks.now()) {
                self.miss();
            }
        }
    }

    fn hear(&self, heard: &Heard) {
        let Heard::Message(bytes) = heard else {
            self.roll().forgive();
            return self.miss();
        };
        // What cannot be read may name any value.
        let Some(message) = Message::read(bytes) else {
            return self.miss();
        };
        if message.origin == self.far.origin {
            if let Told::Beat { sent } = message.told {
                let until = sent.saturating_add(micros(HEARD_FOR));
                self.heard_until.fetch_max(until, Ordering::SeqCst);
            }
            return;
        }
        let (now, seq) = (self.ticks.now(), message.seq);
        let complete = match message.told {
            Told::Beat { .. } => self.roll().beat(message.origin, seq, now),
            Told::News(news) => {
                let complete = self.roll().message(message.origin, seq, now);
                for news in news {
                    self.take_in(news);
                }
                complete
            }
        };
        if !complete {
            self.miss();
        }
    }

    fn take_in(&self, news: News<'_>) {
        match news {
            News::Drop(it) => {
                self.change_value(it.kind, it.part, false);
                if let Some(audit) = &self.audit {
                    audit.sample(it.kind, it.part, &[]);
                }
            }
            News::Stale(it) => self.change_value(it.kind, it.part, true),
            News::Tag(it) => {
                self.move_tag(it.kind, &key::of_tag(&self.far.prefix, it.kind, it.part));
            }
            News::All(kind) => self.tags.move_on(&key::of_all(&self.far.prefix, kind)),
        }
    }

    fn move_tag(&self, kind: &str, key: &str) {
        // In this order: who holds the tag as it is from now on sees that one moved.
        self.tags.move_on(&key::of_any_tag(&self.far.prefix, kind));
        self.tags.move_on(key);
    }

    /// Changes a value in this process, in each form that it has here.
    fn change_value(&self, kind: &str, part: &str, soft: bool) {
        for schema in self.far.schemas.own(kind) {
            let probe = self.probe(&schema, part);
            if soft {
                self.l1.mark_stale(&probe);
            } else {
                self.l1.drop_key(&probe);
            }
        }
    }

    #[inline]
    pub(crate) fn probe<'a>(&self, schema: &Schema, part: &'a str) -> Probe<'a> {
        self.l1.probe(schema.number, part)
    }

    /// A drop may have been missed.
    fn miss(&self) {
        self.counters.gaps.add(1);
        self.l1.new_epoch();
        self.hurry.notify_one();
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
