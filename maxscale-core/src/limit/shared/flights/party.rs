use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

use crate::limit::{Call, Charge, Entry, Granted, Run, Standing, ask};

/// How many requests of a principal go with one command. A script works on them
/// alone.
const MOST: usize = 512;

/// Requests of a principal that go together, in their order.
pub(super) struct Party {
    pub(super) principal: Arc<str>,
    since: Instant,
    load: Mutex<Load>,
    /// None if the store did not decide.
    landed: OnceLock<Option<Landed>>,
}

/// What is asked for, and who does. Nobody is left once they landed.
struct Load {
    entries: Vec<Entry>,
    runs: Vec<Run>,
    seats: Vec<Seat>,
    gone: bool,
    /// Where the first asks: the command is a part of what that one does.
    span: Span,
}

struct Seat {
    /// The first of its runs: the others are those of its shadows.
    run: usize,
    runs: usize,
    /// Who sits there does not want to know any more.
    left: bool,
    waker: Option<Waker>,
}

/// A party that goes.
pub(super) struct Departed {
    pub(super) party: Arc<Party>,
    pub(super) call: Call,
    pub(super) seats: Seated,
    pub(super) span: Span,
}

/// Who goes.
pub(super) struct Seated {
    /// By seat; none for who does not go.
    places: Vec<Option<Place>>,
    at: Instant,
}

/// Where the answer to a seat is.
struct Place {
    run: usize,
    /// How many requests of this run come before it.
    before: u32,
}

struct Landed {
    call: Call,
    answers: Vec<Granted>,
    seats: Seated,
}

/// Who asks.
pub(super) struct Guest<'a> {
    pub(super) charges: &'a [Charge],
    pub(super) waker: Waker,
}

/// A guest's seat, which is left when this is dropped.
pub(super) struct Ticket {
    party: Arc<Party>,
    seat: usize,
    /// Not polled yet: whom to wake is known from the guest.
    fresh: bool,
}

// === impl Party ===

impl Party {
    /// Of a first request.
    pub(super) fn of(principal: Arc<str>, guest: Guest<'_>) -> (Arc<Self>, Ticket) {
        let load = Load {
            entries: Vec::with_capacity(guest.charges.len()),
            runs: Vec::with_capacity(1),
            seats: Vec::new(),
            gone: false,
            span: Span::current(),
        };
        let party = Arc::new(Self {
            principal,
            since: Instant::now(),
            load: Mutex::new(load),
            landed: OnceLock::new(),
        });
        // Alone there is room for everyone.
        let seat = party.load().seat(guest).unwrap_or_default();
        let ticket = Ticket::new(party.clone(), seat);
        (party, ticket)
    }

    /// A seat for one more; gives back whom there is none for: they have gone, are
    /// many, or have another rule of the same policy.
    pub(super) fn seat<'a>(&self, guest: Guest<'a>) -> Result<usize, Guest<'a>> {
        self.load().seat(guest)
    }

    /// What the requests are that still want to know. With none of them nobody has to
    /// be asked, and the party is lost, as it is where the first has lost its patience.
    pub(super) fn departs(self: Arc<Self>, now: Instant, patience: Duration) -> Option<Departed> {
        let mut load = self.load();
        load.gone = true;
        let late = now.saturating_duration_since(self.since) > patience;
        let places = if late { Vec::new() } else { load.places() };
        if places.iter().all(Option::is_none) {
            drop(load);
            self.is_lost();
            return None;
        }
        let call = Call {
            principal: self.principal.clone(),
            entries: std::mem::take(&mut load.entries),
            runs: std::mem::take(&mut load.runs),
        };
        let span = std::mem::replace(&mut load.span, Span::none());
        drop(load);
        Some(Departed {
            party: self,
            call,
            seats: Seated { places, at: now },
            span,
        })
    }

    /// Tells all what became of them. Who has gone was charged nevertheless.
    pub(super) fn lands(&self, call: Call, answers: Vec<Granted>, seats: Seated) {
        self.ends(Some(Landed {
            call,
            answers,
            seats,
        }));
    }

    /// Tells all that there is no decision, unless there is one.
    pub(super) fn is_lost(&self) {
        self.ends(None);
    }

    fn ends(&self, landed: Option<Landed>) {
        if self.landed.set(landed).is_ok() {
            let seats = std::mem::take(&mut self.load().seats);
            for waker in seats.into_iter().filter_map(|seat| seat.waker) {
                waker.wake();
            }
        }
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        // Nothing panics while holding it.
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ticket ===

impl Ticket {
    pub(super) const fn new(party: Arc<Party>, seat: usize) -> Self {
        Self {
            party,
            seat,
            fresh: true,
        }
    }

    /// Waits for what becomes of it, whose charges these are, and says when it was sent.
    pub(super) async fn landing(mut self, charges: &[Charge]) -> Option<(Vec<Standing>, Instant)> {
        poll_fn(|cx| self.poll(cx)).await;
        let landed = self.party.landed.get()?.as_ref()?;
        Some((landed.standings(self.seat, charges)?, landed.seats.at))
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.party.landed.get().is_some() {
            return Poll::Ready(());
        }
        if std::mem::take(&mut self.fresh) {
            return Poll::Pending;
        }
        let waker = match self.party.load().seats.get_mut(self.seat) {
            Some(seat) => seat.waker.replace(cx.waker().clone()),
            // It landed meanwhile.
            None => return Poll::Ready(()),
        };
        // Whatever ends with it may have a seat of its own, so nothing is held.
        drop(waker);
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.party.landed.get().is_some() {
            return;
        }
        let waker = self.party.load().seats.get_mut(self.seat).map(|seat| {
            seat.left = true;
            seat.waker.take()
        });
        drop(waker);
    }
}

// === impl Load ===

impl Load {
    fn seat<'a>(&mut self, guest: Guest<'a>) -> Result<usize, Guest<'a>> {
        if self.gone || self.seats.len() >= MOST {
            return Err(guest);
        }
        let Some((run, runs)) = self.runs(guest.charges) else {
            return Err(guest);
        };
        self.seats.push(Seat {
            run,
            runs,
            left: false,
            waker: Some(guest.waker),
        });
        Ok(self.seats.len() - 1)
    }

    /// The first of the runs that these charges are, and how many they are; none
    /// if they have another rule of the same policy.
    fn runs(&mut self, charges: &[Charge]) -> Option<(usize, usize)> {
        if self.repeats(charges)
            && let Some(last) = self.runs.last_mut()
        {
            last.count += 1;
            return Some((self.runs.len() - 1, 1));
        }
        let known = self.entries.len();
        for charge in charges {
            match self.place(charge) {
                None => self.entries.push(ask::entry(charge)),
                Some(place)
                    if place >= known || self.entries[place].rule == *charge.policy.rule() => {}
                Some(_) => {
                    self.entries.truncate(known);
                    return None;
                }
            }
        }
        let (shadows, deny): (Vec<&Charge>, Vec<&Charge>) =
            charges.iter().partition(|it| it.policy.is_shadow());
        let first = self.run(&deny);
        match self.runs.last_mut() {
            Some(last) if shadows.is_empty() && last.count > 0 && same_costs(last, &first) => {
                last.count += 1;
                Some((self.runs.len() - 1, 1))
            }
            _ => {
                let at = self.runs.len();
                self.runs.push(first);
                for shadow in &shadows {
                    self.runs.push(self.run(&[*shadow]));
                }
                Some((at, 1 + shadows.len()))
            }
        }
    }

    /// Whether it is one more of the last run, as mostly where many ask for the same.
    fn repeats(&self, charges: &[Charge]) -> bool {
        let Some(last) = self.runs.last().filter(|last| last.count > 0) else {
            return false;
        };
        let each = self.entries.iter().zip(&last.costs).zip(charges);
        let all = self.entries.len() == charges.len() && last.costs.len() == charges.len();
        all && each.into_iter().all(|((entry, cost), charge)| {
            *cost == charge.cost
                && *entry.policy == *charge.policy.name()
                && entry.rule == *charge.policy.rule()
                && !charge.policy.is_shadow()
        })
    }

    fn run(&self, charges: &[&Charge]) -> Run {
        let mut costs = vec![0_u32; self.entries.len()];
        for charge in charges {
            if let Some(place) = self.place(charge) {
                costs[place] = costs[place].saturating_add(charge.cost);
            }
        }
        Run {
            count: 1,
            costs,
            force: false,
        }
    }

    fn place(&self, charge: &Charge) -> Option<usize> {
        place(&self.entries, charge)
    }

    /// Of each seat, where its answer will be; who does not go is not asked for.
    fn places(&mut self) -> Vec<Option<Place>> {
        let mut before = vec![0; self.runs.len()];
        let place = |seat: &Seat| {
            let runs = seat.run..seat.run + seat.runs;
            if seat.left {
                for run in &mut self.runs[runs] {
                    run.count -= 1;
                }
                return None;
            }
            let place = Place {
                run: seat.run,
                before: before[seat.run],
            };
            for before in &mut before[runs] {
                *before += 1;
            }
            Some(place)
        };
        self.seats.iter().map(place).collect()
    }
}

/// Where the charge's policy is among the entries.
fn place(entries: &[Entry], charge: &Charge) -> Option<usize> {
    let name = charge.policy.name();
    entries.iter().position(|entry| *entry.policy == *name)
}

/// Runs that come before the last policies were known are as if they cost nothing.
fn same_costs(last: &Run, next: &Run) -> bool {
    let cost = |run: &Run, at: usize| run.costs.get(at).copied().unwrap_or(0);
    let most = last.costs.len().max(next.costs.len());
    (0..most).all(|at| cost(last, at) == cost(next, at))
}

// === impl Landed ===

impl Landed {
    fn standings(&self, seat: usize, charges: &[Charge]) -> Option<Vec<Standing>> {
        let Place { run, before } = self.seats.places.get(seat)?.as_ref()?;
        let (first, shadows) = self.answers.get(*run..)?.split_first()?;
        let costs = &self.call.runs.get(*run)?.costs;
        let mut shadows = shadows.iter();
        let mut standings = Vec::with_capacity(charges.len());
        for charge in charges {
            let place = place(&self.call.entries, charge)?;
            standings.push(if charge.policy.is_shadow() {
                let own = shadows.next()?;
                ask::standing(charge, *own.statuses.get(place)?, own.count > 0)
            } else {
                // Those that were admitted after it took from what it is told is left.
                let after = first.count.saturating_sub(before + 1);
                let taken = after.saturating_mul(costs.get(place).copied().unwrap_or(0));
                let mut status = *first.statuses.get(place)?;
                status.remaining = status.remaining.saturating_add(taken);
                ask::standing(charge, status, first.count > *before)
            });
        }
        Some(standings)
    }
}
