//! One load per key at a time.
//!
//! The load runs in a task of its own, so a caller that gives up cancels
//! nothing. A flight carries the [`Stamp`] of its start, and nobody boards one
//! whose stamp, or one of whose tags, is past: who arrives after an invalidation
//! never gets the answer of a load that began before it. While the invalidations
//! of others are not heard, nobody boards one that began long ago.
//!
//! So several flights of a key may be under way, of which the last one is listed. A
//! pilot whose flight was overtaken can [wait](Pilot::successor) for that one.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::l1::{NearKey, Stamp};
use crate::tags::Held;

type Name = (NearKey, TypeId);

#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Name, Listed>>);

/// How a caller gets its answer.
pub(crate) enum Seat<T> {
    /// Someone else's load, under way.
    Join(watch::Receiver<Option<T>>),
    /// The caller has to start the load.
    Lead(Pilot<T>, watch::Receiver<Option<T>>),
}

/// The right and duty to answer all who boarded. Dropping it tells them that
/// no answer will come.
pub(crate) struct Pilot<T> {
    flights: Arc<Flights>,
    name: Name,
    pub(crate) stamp: Stamp,
    pub(crate) tags: Arc<[Held]>,
    /// The tick of its start.
    pub(crate) begun: u64,
    mark: Arc<Mark>,
    answer: watch::Sender<Option<T>>,
}

/// Tells a flight from one that replaced it.
#[derive(Default)]
struct Mark {
    /// Whether one that it replaced waits for it.
    is_awaited: AtomicBool,
}

struct Listed {
    stamp: Stamp,
    /// The tick of its start.
    begun: u64,
    /// The tags that the value will have, as they were at the start.
    tags: Arc<[Held]>,
    mark: Arc<Mark>,
    /// A `watch::Receiver<Option<T>>`; the name's [`TypeId`] is `T`'s.
    answer: Box<dyn Any + Send>,
}

// === impl Flights ===

impl Flights {
    /// Boards the flight of `key`, if there is one that nothing has overtaken and
    /// that began at `since` or later, or starts one at `now`. `start` is told
    /// whether there is one that began before.
    pub(crate) fn board<T>(
        self: &Arc<Self>,
        key: &NearKey,
        (since, now): (u64, u64),
        start: impl FnOnce(bool) -> (Stamp, Arc<[Held]>),
    ) -> Seat<T>
    where
        T: Send + Sync + 'static,
    {
        let name = (key.clone(), TypeId::of::<T>());
        let mut listed = self.listed();
        let is_from_before = listed.get(&name).is_some_and(|it| it.begun < since);
        let (stamp, tags) = start(is_from_before);
        let is_current = |it: &&Listed| {
            it.stamp == stamp && it.begun >= since && it.tags.iter().all(Held::is_current)
        };
        if let Some(flight) = listed.get(&name).filter(is_current)
            && let Some(answer) = flight.answer.downcast_ref::<watch::Receiver<Option<T>>>()
        {
            return Seat::Join(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        let mark = Arc::<Mark>::default();
        let flight = Listed {
            stamp,
            begun: now,
            tags: tags.clone(),
            mark: mark.clone(),
            answer: Box::new(answer.clone()),
        };
        listed.insert(name.clone(), flight);
        let pilot = Pilot {
            flights: self.clone(),
            name,
            stamp,
            tags,
            begun: now,
            mark,
            answer: sender,
        };
        Seat::Lead(pilot, answer)
    }

    fn listed(&self) -> MutexGuard<'_, HashMap<Name, Listed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flights")
            .field(&self.listed().len())
            .finish()
    }
}

// === impl Pilot ===

impl<T> Pilot<T> {
    pub(crate) const fn near(&self) -> &NearKey {
        &self.name.0
    }

    /// Gives everyone on board the answer.
    pub(crate) fn land(self, answer: T) {
        // Unlisted first: who boards after an answer was given would get an
        // answer from before its call.
        self.unlist();
        self.answer.send_replace(Some(answer));
    }

    /// Gives those on board, and who boards from now on, an answer while the
    /// flight goes on.
    pub(crate) fn answer_early(&self, answer: T) {
        self.answer.send_replace(Some(answer));
    }

    fn unlist(&self) {
        let mut listed = self.flights.listed();
        let mine = |flight: &Listed| Arc::ptr_eq(&flight.mark, &self.mark);
        if listed.get(&self.name).is_some_and(mine) {
            listed.remove(&self.name);
        }
    }
}

impl<T: Send + Sync + 'static> Pilot<T> {
    /// The answer of the flight that replaced this one, if it is under way and
    /// nobody waits for this one: so nobody waits for more than two.
    pub(crate) fn successor(&self) -> Option<watch::Receiver<Option<T>>> {
        let listed = self.flights.listed();
        let flight = listed.get(&self.name)?;
        if Arc::ptr_eq(&flight.mark, &self.mark) || self.mark.is_awaited.load(Ordering::SeqCst) {
            return None;
        }
        flight.mark.is_awaited.store(true, Ordering::SeqCst);
        flight.answer.downcast_ref().cloned()
    }
}

impl<T> Drop for Pilot<T> {
    fn drop(&mut self) {
        self.unlist();
    }
}
