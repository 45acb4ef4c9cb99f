//! At most one command under way for each principal: what comes meanwhile goes
//! together with the next one, in its order, each request decided by itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::Shared;
use crate::limit::{Call, Charge, Entry, Granted, Run, Standing, ask};

const SHARDS: usize = 64;

/// How many requests go with one command. A script works on them alone.
const MOST: usize = 512;

/// Who waits, by principal; who is there has a command under way.
pub(super) struct Flights {
    hasher: RandomState,
    shards: [Mutex<HashMap<Arc<str>, Vec<Waiter>>>; SHARDS],
}

struct Waiter {
    charges: Vec<Charge>,
    /// Where it asks: the command is a part of what the first passenger does.
    span: Span,
    answer: oneshot::Sender<Option<Vec<Standing>>>,
}

/// A command under way. Dropped, also before its end, it sends the next one.
struct Flight {
    shared: Arc<Shared>,
    principal: Arc<str>,
}

/// What goes with one command.
#[derive(Default)]
struct Load {
    entries: Vec<Entry>,
    runs: Vec<Run>,
    passengers: Vec<Passenger>,
}

struct Passenger {
    waiter: Waiter,
    /// The entries of its charges.
    places: Vec<usize>,
    /// Its runs.
    runs: Range<usize>,
    /// How many requests of the first of them come before it.
    before: u32,
}

// === impl Flights ===

impl Flights {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Decides a request; none if the store does not.
    ///
    /// The command is sent by a task: whoever asks may be dropped, or be polled no
    /// more, and keeps nobody waiting.
    pub(super) async fn ask(
        shared: &Arc<Shared>,
        principal: &str,
        charges: &[Charge],
    ) -> Option<Vec<Standing>> {
        let (answer, answered) = oneshot::channel();
        let waiter = Waiter {
            charges: charges.to_vec(),
            span: Span::current(),
            answer,
        };
        if let Some(waiter) = shared.flights.board(principal, waiter) {
            let flight = Flight {
                shared: shared.clone(),
                principal: principal.into(),
            };
            shared.runtime.spawn(flight.serve(vec![waiter]));
        }
        answered.await.ok().flatten()
    }

    /// Gives back whom no command is under way for: a command is, from now on.
    fn board(&self, principal: &str, waiter: Waiter) -> Option<Waiter> {
        let mut shard = self.shard(principal);
        match shard.get_mut(principal) {
            Some(waiting) => waiting.push(waiter),
            None => {
                shard.insert(principal.into(), Vec::new());
                return Some(waiter);
            }
        }
        None
    }

    /// Who goes next; with nobody there, no command is under way any more.
    fn next(&self, principal: &str) -> Vec<Waiter> {
        let mut shard = self.shard(principal);
        let Some(waiting) = shard.get_mut(principal) else {
            return Vec::new();
        };
        if waiting.is_empty() {
            shard.remove(principal);
            return Vec::new();
        }
        std::mem::take(waiting)
    }

    fn shard(&self, principal: &str) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Waiter>>> {
        let hash = self.hasher.hash_one(principal);
        #[expect(clippy::cast_possible_truncation, reason = "below 64")]
        let shard = &self.shards[(hash % SHARDS as u64) as usize];
        // Nothing panics while holding it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Flight ===

impl Flight {
    async fn serve(self, waiting: Vec<Waiter>) {
        let mut load = Load::default();
        for waiter in waiting {
            // Who has gone is not charged.
            if waiter.answer.is_closed() {
                continue;
            }
            if let Some(waiter) = load.add(waiter) {
                std::mem::take(&mut load).go(&self).await;
                // Alone there is room for everyone.
                let _ = load.add(waiter);
            }
        }
        load.go(&self).await;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let waiting = self.shared.flights.next(&self.principal);
        if waiting.is_empty() {
            return;
        }
        let next = Self {
            shared: self.shared.clone(),
            principal: self.principal.clone(),
        };
        // A runtime that has ended drops it, and with it who waits.
        self.shared.runtime.spawn(next.serve(waiting));
    }
}

// === impl Load ===

impl Load {
    /// Gives back whom there is no room for: the load is full, or has another rule
    /// of the same policy.
    fn add(&mut self, waiter: Waiter) -> Option<Waiter> {
        if self.passengers.len() >= MOST {
            return Some(waiter);
        }
        let mut places = Vec::with_capacity(waiter.charges.len());
        let known = self.entries.len();
        for charge in &waiter.charges {
            let entry = ask::entry(charge);
            let same = |it: &Entry| it.policy == entry.policy;
            match self.entries.iter().position(same) {
                Some(place) if self.entries[place].rule == entry.rule || place >= known => {
                    places.push(place);
                }
                Some(_) => {
                    self.entries.truncate(known);
                    return Some(waiter);
                }
                None => {
                    places.push(self.entries.len());
                    self.entries.push(entry);
                }
            }
        }
        let mut runs = ask::costs(&waiter.charges).into_iter().map(|costs| {
            let mut by_entry = vec![0; self.entries.len()];
            for (place, cost) in places.iter().zip(costs) {
                by_entry[*place] = cost.saturating_add(by_entry[*place]);
            }
            Run {
                count: 1,
                costs: by_entry,
                force: false,
            }
        });
        let (first, shadows) = (runs.next(), runs.collect::<Vec<_>>());
        let (alone, count) = (shadows.is_empty(), 1 + shadows.len());
        let (mut run, mut before) = (self.runs.len(), 0);
        match (self.runs.last_mut(), first) {
            (Some(last), Some(first)) if alone && last.count > 0 && same_costs(last, &first) => {
                (run, before) = (run - 1, last.count);
                last.count += 1;
            }
            (_, first) => self.runs.extend(first),
        }
        self.runs.extend(shadows);
        self.passengers.push(Passenger {
            waiter,
            places,
            runs: run..run + count,
            before,
        });
        None
    }

    async fn go(self, flight: &Flight) {
        let Some(first) = self.passengers.first() else {
            return;
        };
        let span = first.waiter.span.clone();
        let call = Call {
            principal: flight.principal.clone(),
            entries: self.entries,
            runs: self.runs,
        };
        let answers = flight.shared.run(&call).instrument(span).await;
        for passenger in self.passengers {
            let standings = answers
                .as_ref()
                .and_then(|answers| passenger.standings(&call, answers));
            // Who has gone was charged nevertheless.
            let _ = passenger.waiter.answer.send(standings);
        }
    }
}

/// Runs that come before the last policies were known are as if they cost nothing.
fn same_costs(last: &Run, next: &Run) -> bool {
    let cost = |run: &Run, at: usize| run.costs.get(at).copied().unwrap_or(0);
    let most = last.costs.len().max(next.costs.len());
    (0..most).all(|at| cost(last, at) == cost(next, at))
}

// === impl Passenger ===

impl Passenger {
    fn standings(&self, call: &Call, answers: &[Granted]) -> Option<Vec<Standing>> {
        let charges = &self.waiter.charges;
        let mut own = answers.get(self.runs.clone())?.to_vec();
        let first = own.first_mut()?;
        // Those that were admitted after it took from what it is told is left.
        let after = first.count.saturating_sub(self.before + 1);
        first.count = u32::from(first.count > self.before);
        let costs = &call.runs.get(self.runs.start)?.costs;
        for (status, cost) in first.statuses.iter_mut().zip(costs) {
            let taken = after.saturating_mul(*cost);
            status.remaining = status.remaining.saturating_add(taken);
        }
        ask::standings(charges, self.places.iter().copied(), &own)
    }
}
