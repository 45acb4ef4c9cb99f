//! One load per key at a time.
//!
//! The load runs in a task of its own, so a caller that gives up cancels
//! nothing. A flight carries the [`Stamp`] of its start, and nobody boards one
//! whose stamp is past: who arrives after an invalidation never gets the
//! answer of a load that began before it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::l1::Stamp;

type Name = (Arc<str>, TypeId);

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
    number: Arc<()>,
    answer: watch::Sender<Option<T>>,
}

struct Listed {
    stamp: Stamp,
    /// Tells this flight from one that replaced it.
    number: Arc<()>,
    /// A `watch::Receiver<Option<T>>`; the name's [`TypeId`] is `T`'s.
    answer: Box<dyn Any + Send>,
}

// === impl Flights ===

impl Flights {
    /// Boards the flight of `key`, if there is one as new as `stamp` says, or starts one.
    pub(crate) fn board<T>(
        self: &Arc<Self>,
        key: &Arc<str>,
        stamp: impl FnOnce() -> Stamp,
    ) -> Seat<T>
    where
        T: Send + Sync + 'static,
    {
        let name = (key.clone(), TypeId::of::<T>());
        let mut listed = self.listed();
        let stamp = stamp();
        if let Some(flight) = listed.get(&name).filter(|f| f.stamp == stamp)
            && let Some(answer) = flight.answer.downcast_ref::<watch::Receiver<Option<T>>>()
        {
            return Seat::Join(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        let number = Arc::new(());
        let flight = Listed {
            stamp,
            number: number.clone(),
            answer: Box::new(answer.clone()),
        };
        listed.insert(name.clone(), flight);
        let pilot = Pilot {
            flights: self.clone(),
            name,
            stamp,
            number,
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
    /// Gives everyone on board the answer.
    pub(crate) fn land(self, answer: T) {
        // Unlisted first: who boards after an answer was given would get an
        // answer from before its call.
        self.unlist();
        self.answer.send_replace(Some(answer));
    }

    fn unlist(&self) {
        let mut listed = self.flights.listed();
        let mine = |flight: &Listed| Arc::ptr_eq(&flight.number, &self.number);
        if listed.get(&self.name).is_some_and(mine) {
            listed.remove(&self.name);
        }
    }
}

impl<T> Drop for Pilot<T> {
    fn drop(&mut self) {
        self.unlist();
    }
}
