//! Requests go together: those of all principals with the same command, where their
//! keys are in one place, and those of a principal with at most one at a time, in
//! their order, each decided by itself.
//!
//! ```text
//!  request ─ party of its principal ─ gate ─ flight ─ one command for all aboard
//!             (next one, while a party │
//!              of it is under way)     └ few at a time: what comes meanwhile waits,
//!                                        and goes together
//! ```

mod party;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Shared;
use crate::limit::{Charge, Standing};
use party::{Departed, Guest, Party, Ticket};

const SHARDS: usize = 64;

/// How many commands are under way at once. With more, requests wait less for the
/// next one; with less, more of them go together.
const AT_ONCE: usize = 4;

/// How many keys go with one command, unless a single principal has more. A script
/// works on them alone.
const MOST_KEYS: usize = 128;

/// Who waits, and what is under way.
pub(super) struct Flights {
    lines: [Mutex<HashMap<Arc<str>, Line>>; SHARDS],
    gate: Mutex<Gate>,
    bounds: Bounds,
    /// A party that waited for longer is not sent any more.
    patience: Duration,
}

/// Parties of a principal that wait, in their order. As long as it is kept, the
/// principal is at the gate, or under way.
#[derive(Default)]
struct Line {
    next: Option<Arc<Party>>,
    /// Whom the first has no room for.
    later: VecDeque<Arc<Party>>,
}

#[derive(Default)]
struct Gate {
    /// Principals of whom none is under way.
    ready: VecDeque<Arc<str>>,
    /// Flights that have not departed.
    boarding: usize,
    under_way: usize,
}

#[derive(Clone, Copy)]
struct Bounds {
    flights: usize,
    /// Of each flight.
    principals: usize,
}

/// A task that sends a command. Dropped, also before its end, it tells who is aboard
/// that there is no decision, and lets others go.
struct Flight {
    shared: Arc<Shared>,
    aboard: Vec<Arc<Party>>,
    departed: bool,
}

// === impl Flights ===

impl Flights {
    /// With keys in one place, requests of all principals go together.
    pub(super) fn new(one_place: bool, patience: Duration) -> Self {
        let bounds = match one_place {
            true => Bounds {
                flights: AT_ONCE,
                principals: MOST_KEYS,
            },
            false => Bounds {
                flights: usize::MAX,
                principals: 1,
            },
        };
        Self {
            lines: std::array::from_fn(|_| Mutex::default()),
            gate: Mutex::default(),
            bounds,
            patience,
        }
    }

    /// Decides a request, and says when it was sent; none if the store does not.
    ///
    /// The command is sent by a task: whoever asks may be dropped, or be polled no
    /// more, and keeps nobody waiting.
    pub(super) async fn ask(
        shared: &Arc<Shared>,
        principal: &str,
        charges: &[Charge],
    ) -> Option<(Vec<Standing>, Instant)> {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let guest = Guest { charges, waker };
        let ticket = shared.flights.join(shared, principal, guest)?;
        ticket.landing(charges).await
    }

    /// A seat in the last party of the principal, or in a new one; none if nothing
    /// would be sent.
    fn join(&self, shared: &Arc<Shared>, principal: &str, mut guest: Guest<'_>) -> Option<Ticket> {
        let mut refused: Option<Arc<Party>> = None;
        let mut shard = loop {
            let mut shard = self.shard(principal);
            let Some(line) = shard.get_mut(principal) else {
                break shard;
            };
            match line.last() {
                // With others it is met at the party, and held up here as little as may be.
                Some(last) if !refused.is_some_and(|it| Arc::ptr_eq(&it, last)) => {
                    let party = last.clone();
                    drop(shard);
                    match party.seat(guest) {
                        Ok(seat) => return Some(Ticket::new(party, seat)),
                        Err(left) => guest = left,
                    }
                    refused = Some(party);
                }
                _ => {
                    let (party, ticket) = Party::of(principal.into(), guest);
                    line.push(party);
                    return Some(ticket);
                }
            }
        };
        // Nobody waits for a task to hear what is known.
        if shared.redis.is_down() {
            return None;
        }
        let principal: Arc<str> = principal.into();
        let (party, ticket) = Party::of(principal.clone(), guest);
        let mut line = Line::default();
        line.push(party);
        shard.insert(principal.clone(), line);
        drop(shard);
        let opens = {
            let mut gate = self.gate();
            gate.ready.push_back(principal);
            gate.opens(self.bounds)
        };
        if opens {
            Flight::starts(shared);
        }
        Some(ticket)
    }

    /// The party of a principal that goes next.
    fn next(&self, principal: &str) -> Option<Arc<Party>> {
        let mut shard = self.shard(principal);
        let line = shard.get_mut(principal)?;
        std::mem::replace(&mut line.next, line.later.pop_front())
    }

    /// A party of the principal has landed; whether another waits. With nobody
    /// waiting the principal is forgotten.
    fn lands(&self, principal: &Arc<str>) -> bool {
        let mut shard = self.shard(principal);
        let waits = shard.get(principal).is_some_and(|line| line.next.is_some());
        if !waits {
            shard.remove(principal);
        }
        waits
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing panics while holding it.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, principal: &str) -> MutexGuard<'_, HashMap<Arc<str>, Line>> {
        // Names mostly differ at their end. Who makes his end alike shares a lock with
        // others: the map below has a secret.
        let end = principal.bytes().rev().take(4);
        let place = end.fold(0, |place, byte| place * 31 + usize::from(byte));
        let shard = &self.lines[place % SHARDS];
        // Nothing panics while holding it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Line ===

impl Line {
    fn last(&self) -> Option<&Arc<Party>> {
        self.later.back().or(self.next.as_ref())
    }

    fn push(&mut self, party: Arc<Party>) {
        match self.next {
            None => self.next = Some(party),
            Some(_) => self.later.push_back(party),
        }
    }
}

// === impl Gate ===

impl Gate {
    const fn departs(&mut self) {
        self.boarding -= 1;
        self.under_way += 1;
    }

    /// Whether one more flight is to be started, which then counts.
    fn opens(&mut self, bounds: Bounds) -> bool {
        let opens = self.boarding + self.under_way < bounds.flights
            && self.ready.len() > self.boarding.saturating_mul(bounds.principals);
        self.boarding += usize::from(opens);
        opens
    }
}

// === impl Flight ===

impl Flight {
    fn starts(shared: &Arc<Shared>) {
        let flight = Self {
            shared: shared.clone(),
            aboard: Vec::new(),
            departed: false,
        };
        // A runtime that has ended drops it, and with it who waits.
        shared.runtime.spawn(flight.serve());
    }

    async fn serve(mut self) {
        // Who is about to ask comes along. It costs a moment where others have
        // something to do, and hardly any where nobody has.
        yield_now().await;
        let departed = self.departs();
        let Some(first) = departed.first() else {
            return;
        };
        let span = first.span.clone();
        let split = departed
            .into_iter()
            .map(|it| (it.call, (it.party, it.seats)));
        let (calls, parties): (Vec<_>, Vec<_>) = split.unzip();
        let answers = self.shared.run_all(&calls).instrument(span).await;
        let landed = parties.into_iter().zip(calls);
        for (((party, seats), call), answers) in landed.zip(answers.into_iter().flatten()) {
            party.lands(call, answers, seats);
        }
    }

    /// Takes those aboard who are ready, and gives what is to be asked for them.
    fn departs(&mut self) -> Vec<Departed> {
        let flights = &self.shared.flights;
        let bounds = flights.bounds;
        let now = Instant::now();
        flights.gate().departs();
        self.departed = true;
        let (mut all, mut keys) = (Vec::new(), 0);
        while keys < MOST_KEYS && self.aboard.len() < bounds.principals {
            let ready = flights.gate().ready.pop_front();
            let Some(party) = ready.and_then(|principal| flights.next(&principal)) else {
                break;
            };
            self.aboard.push(party.clone());
            if let Some(departed) = party.departs(now, flights.patience) {
                keys += departed.call.entries.len();
                all.push(departed);
            }
        }
        if flights.gate().opens(bounds) {
            Self::starts(&self.shared);
        }
        all
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.departed {
            // The runtime has ended: nobody else would take them along.
            self.departs();
        }
        let flights = &self.shared.flights;
        for party in &self.aboard {
            party.is_lost();
            if flights.lands(&party.principal) {
                flights.gate().ready.push_back(party.principal.clone());
            }
        }
        flights.gate().under_way -= 1;
        while flights.gate().opens(flights.bounds) {
            Self::starts(&self.shared);
        }
    }
}
