//! What is accepted and not written yet: the newest value of each key, and
//! when its turn is. It knows no clock, sink or file.
//!
//! ```text
//!            accept                    settle: nothing newer came
//!  (absent) ────────> waiting ─ take ─> flying ────────────────> (absent)
//!                        ^                │ settle, put back, refuse
//!                        └────────────────┘
//! ```

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Values by key. `T` is what a value is; of clones all but one are for a sink.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    slots: HashMap<Arc<str>, Slot<T>>,
    /// Keys in the order in which they are to be written.
    fresh: BTreeSet<Turn>,
    /// Keys that were refused, each of which is tried by itself.
    refused: BTreeSet<Turn>,
    /// Whether the last one that was taken had been refused.
    alone: bool,
    /// How many of the newest values lie at each place of the journal.
    places: BTreeMap<u64, usize>,
    turns: u64,
    /// How long a value waits for others, and for newer ones of its key.
    delay: Duration,
}

/// One value, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken<T> {
    pub(super) id: Arc<str>,
    pub(super) version: u64,
    pub(super) value: T,
}

/// What is left of a key that was in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing; it is forgotten.
    Nothing,
    /// A newer value, which waits for its turn.
    Newer,
}

/// What becomes of a value that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is tried again.
    Later,
    /// It was refused as often as it may be, and stays in flight until it is settled.
    Dead,
    /// A newer value has taken its place.
    Newer,
}

type Turn = (Instant, u64, Arc<str>);

#[derive(Debug)]
struct Slot<T> {
    version: u64,
    value: T,
    place: u64,
    /// Of this value.
    refusals: u32,
    /// When it is due, and which number it has among those due at once.
    due: (Instant, u64),
    /// The version that is being written.
    flying: Option<u64>,
}

// === impl Buffer ===

impl<T: Clone> Buffer<T> {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            slots: HashMap::new(),
            fresh: BTreeSet::new(),
            refused: BTreeSet::new(),
            alone: false,
            places: BTreeMap::new(),
            turns: 0,
            delay,
        }
    }

    /// Takes in a value of a version above all that its key had.
    pub(super) fn accept(
        &mut self,
        id: &Arc<str>,
        version: u64,
        value: T,
        place: u64,
        now: Instant,
    ) {
        self.turns += 1;
        let due = (now + self.delay, self.turns);
        *self.places.entry(place).or_default() += 1;
        let slot = match self.slots.entry(id.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Slot {
                    version,
                    value,
                    place,
                    refusals: 0,
                    due,
                    flying: None,
                });
                self.fresh.insert((due.0, due.1, id.clone()));
                return;
            }
            Entry::Occupied(slot) => slot.into_mut(),
        };
        debug_assert!(version > slot.version, "versions of a key rise");
        let was = std::mem::replace(&mut slot.place, place);
        // A newer value waits no longer than the first that it replaces, but
        // one that was refused says nothing of it.
        let is_first = slot.refusals > 0 || slot.flying == Some(slot.version);
        if is_first {
            let old = (slot.due.0, slot.due.1, id.clone());
            self.refused.remove(&old);
            slot.due = due;
        }
        slot.version = version;
        slot.value = value;
        slot.refusals = 0;
        if is_first && slot.flying.is_none() {
            self.fresh.insert((due.0, due.1, id.clone()));
        }
        self.leave(was);
    }

    /// What is to be written at `now`, in one call: up to `most` values once
    /// there are so many or one of them is due, or one that was refused
    /// before. With `all` nothing waits for others.
    pub(super) fn take(&mut self, now: Instant, most: usize, all: bool) -> Vec<Taken<T>> {
        let is_due = |turn: Option<&Turn>| turn.is_some_and(|(due, ..)| *due <= now);
        let is_ready = (all && !self.fresh.is_empty())
            || self.fresh.len() >= most
            || is_due(self.fresh.first());
        // Many that are refused shall not hold up the others.
        self.alone = is_due(self.refused.first()) && !(is_ready && self.alone);
        if self.alone {
            let turn = self.refused.pop_first();
            return turn.into_iter().filter_map(|it| self.fly(&it.2)).collect();
        }
        if !is_ready {
            return Vec::new();
        }
        let mut taken = Vec::with_capacity(most.min(self.fresh.len()));
        while taken.len() < most
            && let Some((.., id)) = self.fresh.pop_first()
        {
            taken.extend(self.fly(&id));
        }
        taken
    }

    /// When [`take`](Self::take) will give something if nothing is accepted meanwhile.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let first = |turns: &BTreeSet<Turn>| turns.first().map(|(due, ..)| *due);
        [first(&self.fresh), first(&self.refused)]
            .into_iter()
            .flatten()
            .min()
    }

    /// What was taken is written.
    pub(super) fn settle(&mut self, id: &Arc<str>, version: u64) -> Left {
        let Some(slot) = self.slots.get_mut(id) else {
            return Left::Nothing;
        };
        if slot.version != version {
            self.land(id);
            return Left::Newer;
        }
        let place = slot.place;
        self.slots.remove(id);
        self.leave(place);
        Left::Nothing
    }

    /// What was taken was not written, for no fault of its own.
    pub(super) fn put_back(&mut self, id: &Arc<str>, now: Instant) {
        if let Some(slot) = self.slots.get_mut(id)
            && slot.flying == Some(slot.version)
        {
            slot.due.0 = now;
        }
        self.land(id);
    }

    /// What was taken alone was refused: it is dead after `most` times, and
    /// else tried again in what `wait` says for so many refusals.
    pub(super) fn refuse(
        &mut self,
        id: &Arc<str>,
        version: u64,
        now: Instant,
        most: u32,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Refused {
        let Some(slot) = self.slots.get_mut(id) else {
            return Refused::Newer;
        };
        if slot.version != version {
            self.land(id);
            return Refused::Newer;
        }
        slot.refusals += 1;
        if slot.refusals >= most {
            return Refused::Dead;
        }
        slot.due.0 = now + wait(slot.refusals);
        self.land(id);
        Refused::Later
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The lowest place of the journal that is needed; `None` if none is.
    pub(super) fn oldest_place(&self) -> Option<u64> {
        self.places.first_key_value().map(|(place, _)| *place)
    }

    /// The newest values that lie at `place`, or anywhere.
    pub(super) fn at(&self, place: Option<u64>) -> Vec<Taken<T>> {
        let is_there = |slot: &Slot<T>| place.is_none_or(|place| slot.place == place);
        let there = self.slots.iter().filter(|(_, slot)| is_there(slot));
        there.map(|(id, slot)| slot.taken(id)).collect()
    }

    /// Notes that the value of this version lies at `place` too, if it is still the newest.
    pub(super) fn moved(&mut self, id: &Arc<str>, version: u64, place: u64) {
        if let Some(slot) = self.slots.get_mut(id)
            && slot.version == version
        {
            let was = std::mem::replace(&mut slot.place, place);
            *self.places.entry(place).or_default() += 1;
            self.leave(was);
        }
    }

    /// Forgets everything, and tells the keys. The places stay: what lies in
    /// the journal is needed by whoever opens it next.
    pub(super) fn abandon(&mut self) -> Vec<Arc<str>> {
        self.fresh.clear();
        self.refused.clear();
        self.slots.drain().map(|(id, _)| id).collect()
    }

    fn fly(&mut self, id: &Arc<str>) -> Option<Taken<T>> {
        let slot = self.slots.get_mut(id)?;
        slot.flying = Some(slot.version);
        Some(slot.taken(id))
    }

    /// Ends a key's flight; its newest value waits for its turn.
    fn land(&mut self, id: &Arc<str>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.flying = None;
            let turns = if slot.refusals > 0 {
                &mut self.refused
            } else {
                &mut self.fresh
            };
            turns.insert((slot.due.0, slot.due.1, id.clone()));
        }
    }

    fn leave(&mut self, place: u64) {
        if let Some(count) = self.places.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.places.remove(&place);
            }
        }
    }
}

// === impl Slot ===

impl<T: Clone> Slot<T> {
    fn taken(&self, id: &Arc<str>) -> Taken<T> {
        Taken {
            id: id.clone(),
            version: self.version,
            value: self.value.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
