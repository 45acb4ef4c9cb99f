//! Several endpoints that do the same: those that keep failing are left alone.
//!
//! [`Endpoints`] knows which are ejected, and picks the less busy of two that are
//! not; [`Balanced`] is the service over them. It connects to none and finds
//! none: who knows the endpoints makes a service of each.

mod balanced;
mod builder;
mod call;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

pub use balanced::{Balanced, BalancedFuture};
pub use builder::EndpointsBuilder;
pub use call::EndpointCall;

use super::{ByStatus, ResilienceError};
use crate::control::{Ejection, End, Outliers};
use crate::draw::Draw;
use crate::meter::{HotCounter, Meter, Metric};

/// How often an endpoint of a set was ejected, or would have been in a dry run:
/// `outcome` is `ejected` or `would_eject`.
pub const OUTLIER_EJECTIONS: Metric = Metric::new(
    "maxscale.outlier.ejections",
    "{ejection}",
    "How often an endpoint was left alone for a time.",
);

/// How many endpoints a set may have.
const MOST: usize = 64;

/// No endpoint is ejected: there is no time at which one is back.
const NEVER: u64 = u64::MAX;

/// Which endpoints of a set are called. Clones share it.
///
/// While all are well, picking one and ending a call take no lock and read no
/// clock.
#[derive(Clone, Debug)]
pub struct Endpoints(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    set: Arc<str>,
    names: Vec<Arc<str>>,
    outliers: Mutex<Outliers>,
    /// A bit for each endpoint that is to be called, as of the last change.
    usable: AtomicU64,
    /// A bit for each of which a success changes something.
    soiled: AtomicU64,
    /// When that is no longer so, in microseconds since `begun`.
    usable_until: AtomicU64,
    begun: Instant,
    turn: AtomicUsize,
    /// Calls under way.
    active: Vec<AtomicUsize>,
    dry_run: AtomicBool,
    random: Draw,
    ejections: Vec<[HotCounter; 2]>,
}

// === impl Endpoints ===

impl Endpoints {
    /// The services of these endpoints, in the order of their names, as one.
    ///
    /// # Errors
    ///
    /// Returns [`ResilienceError::Bounds`] unless there is one of each.
    pub fn balance<S>(&self, services: Vec<S>) -> Result<Balanced<S, ByStatus>, ResilienceError> {
        ResilienceError::check([("services", services.len() == self.0.names.len())])?;
        Ok(Balanced::new(self.clone(), services, ByStatus::new()))
    }

    /// The endpoints that are left alone now; all are used if there are too many.
    pub fn ejected(&self) -> Vec<Arc<str>> {
        let usable = self.0.usable();
        let names = self.0.names.iter().enumerate();
        let ejected = names.filter(|(at, _)| usable & bit(*at) == 0);
        ejected.map(|(_, name)| name.clone()).collect()
    }

    /// How many calls of the endpoint at `at` are under way.
    pub fn active(&self, at: usize) -> usize {
        let active = self.0.active.get(at);
        active.map_or(0, |it| it.load(Ordering::Relaxed))
    }

    /// Whether it only counts what it would eject.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.0.dry_run.store(dry_run, Ordering::Relaxed);
    }

    /// The less busy of two that are to be called, of those not in `tried`. With
    /// each turn these are others.
    fn pick(&self, turn: usize, tried: u64) -> Option<usize> {
        let candidates = self.0.to_be_called() & !tried;
        let count = usize::try_from(candidates.count_ones()).unwrap_or(0);
        let first = turn.checked_rem(count)?;
        // Another one, and with each round another one of the others.
        let step = 1 + (turn / count).checked_rem(count - 1).unwrap_or(0);
        let two = [first, (first + step) % count].map(|n| nth(candidates, n));
        two.into_iter().min_by_key(|at| self.active(*at))
    }

    /// One more each time; whoever tries several endpoints does so in one turn, or
    /// one that is passed over would always pass its turn to the same other.
    fn next_turn(&self) -> usize {
        self.0.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the endpoint at `at` is among those to be called.
    fn calls(&self, at: usize) -> bool {
        self.0.to_be_called() & bit(at) != 0
    }
}

const fn bit(at: usize) -> u64 {
    1 << at
}

/// The place of the `n`th bit that is set, from 0 on.
fn nth(mut bits: u64, n: usize) -> usize {
    for _ in 0..n {
        bits &= bits - 1;
    }
    usize::try_from(bits.trailing_zeros()).unwrap_or(0)
}

// === impl Shared ===

impl Shared {
    fn to_be_called(&self) -> u64 {
        if self.dry_run.load(Ordering::Relaxed) {
            return all(self.names.len());
        }
        self.usable()
    }

    /// A bit for each endpoint that is not left alone.
    fn usable(&self) -> u64 {
        let until = self.usable_until.load(Ordering::Acquire);
        if until != NEVER {
            let now = Instant::now();
            if self.micros(now) >= until {
                self.change(now, |_| ());
            }
        }
        self.usable.load(Ordering::Acquire)
    }

    fn ended(&self, at: usize, end: End) {
        let soiled = self.soiled.load(Ordering::Acquire) & bit(at) != 0;
        if end == End::Nothing || end == End::Succeeded && !soiled {
            return;
        }
        let now = Instant::now();
        let random = self.random.draw();
        let ejection = self.change(now, |outliers| outliers.hear(now, at, end, random));
        let Ejection::Until(until) = ejection else {
            return;
        };
        let dry_run = self.dry_run.load(Ordering::Relaxed);
        if let Some([ejected, would_eject]) = self.ejections.get(at) {
            let count = if dry_run { would_eject } else { ejected };
            count.add(1);
        }
        let (set, endpoint) = (&*self.set, self.names.get(at).map(|it| &**it));
        let seconds = (until - now).as_secs();
        tracing::warn!(set, endpoint, seconds, dry_run, "endpoint is ejected");
    }

    /// Changes what is known, and tells those who take no lock.
    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Outliers) -> T) -> T {
        // A change is one of values; a panic tears nothing.
        let mut outliers = self.outliers.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut outliers);
        let usable = bits(outliers.usable(now));
        let soiled = bits((0..self.names.len()).map(|at| !outliers.is_clean(at)));
        let until = outliers.next_back(now).map_or(NEVER, |it| self.micros(it));
        self.usable.store(usable, Ordering::Release);
        self.soiled.store(soiled, Ordering::Release);
        self.usable_until.store(until, Ordering::Release);
        changed
    }

    fn micros(&self, now: Instant) -> u64 {
        let span = now.saturating_duration_since(self.begun);
        u64::try_from(span.as_micros()).unwrap_or(NEVER - 1)
    }
}

fn bits(set: impl Iterator<Item = bool>) -> u64 {
    let set = set.enumerate().filter(|(_, is_set)| *is_set);
    set.fold(0, |bits, (at, _)| bits | bit(at))
}

fn all(count: usize) -> u64 {
    bits((0..count).map(|_| true))
}

fn ejections(meter: &Meter, set: &str, endpoint: &str) -> [HotCounter; 2] {
    ["ejected", "would_eject"].map(|outcome| {
        let labels = [("set", set), ("endpoint", endpoint), ("outcome", outcome)];
        HotCounter::register(meter, OUTLIER_EJECTIONS, &labels)
    })
}

#[cfg(test)]
mod tests;
