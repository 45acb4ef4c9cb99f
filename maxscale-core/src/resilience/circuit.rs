//! A circuit breaker: whatever keeps failing is left alone, and tried again.
//!
//! [`Circuit`] counts and decides; [`CircuitBreakerLayer`] asks it before it polls the
//! inner service. It makes no calls of its own and knows no upstream by more
//! than a name.
//!
//! ```text
//!          failures in a row, or a rate          wait, with jitter
//!  closed ─────────────────────────────► open ◄──────────────────┐
//!    ▲                                    │ the wait is over     │ a probe fails
//!    └──────── all probes succeed ──── half-open ────────────────┘
//! ```

mod builder;
mod gate;
mod layer;
mod pass;
mod telemetry;
mod window;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use builder::CircuitBuilder;
pub use layer::{CircuitBreaker, CircuitBreakerFuture, CircuitBreakerLayer};
pub use pass::CircuitPass;
pub use telemetry::{CIRCUIT_CALLS, CIRCUIT_PHASE, CIRCUIT_TRANSITIONS};

use self::gate::{Gate, Position};
use self::telemetry::{Cause, Told};
use self::window::Window;
use crate::control::{Breaker, End, Event, Permit, Phase, Rates, Until, Verdict};
use crate::draw::Draw;
use crate::refusal::{Class, Classify};
use crate::resilience::LONGEST;

/// Whether calls to one upstream are made. Clones share it.
///
/// Closed, a call that succeeds takes no lock: it reads one word, and where a rate
/// is bounded adds to a counter of its thread.
#[derive(Clone, Debug)]
pub struct Circuit(Arc<Shared>);

/// A call was not made, because too many before it had failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit `{name}` is open")]
#[non_exhaustive]
pub struct CircuitOpen {
    /// The circuit's name.
    pub name: Arc<str>,
    /// When a call may be let through again; none if somebody holds it open.
    pub retry_after: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    /// What the core says, in a word: a [`Gate`].
    gate: AtomicU64,
    /// Until when an open one stops every call, in microseconds since `begun`.
    stops_until: AtomicU64,
    begun: Instant,
    dry_run: AtomicBool,
    core: Mutex<Core>,
    /// None where no rate is bounded.
    window: Option<Window>,
    rates: Rates,
    /// None where calls may take as long as they like.
    slow: Option<Duration>,
    random: Draw,
    told: Told,
}

/// What is changed under the lock, and told by the gate.
#[derive(Debug)]
struct Core {
    breaker: Breaker,
    forced: Option<Forced>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forced {
    Open,
    Closed,
}

// === impl Circuit ===

impl Circuit {
    /// The circuit's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it does with calls now.
    pub fn phase(&self) -> Phase {
        self.0.gate().position.phase()
    }

    /// Lets a call through, or says when to come again.
    ///
    /// Tell the pass how the call ended ([`CircuitPass::end`]). One that is dropped
    /// counts for nothing, and frees its place if it was a probe.
    ///
    /// # Errors
    ///
    /// Returns [`CircuitOpen`] while calls are stopped.
    pub fn pass(&self) -> Result<CircuitPass, CircuitOpen> {
        self.enter().inspect_err(|_| self.0.told.refused.add(1))
    }

    /// Stops all calls until [`release`](Self::release).
    pub fn force_open(&self) {
        self.force(Some(Forced::Open));
    }

    /// Lets all calls through until [`release`](Self::release), whatever becomes of them.
    pub fn force_closed(&self) {
        self.force(Some(Forced::Closed));
    }

    /// Decides by what happens again, from a closed circuit on.
    pub fn release(&self) {
        self.force(None);
    }

    /// Whether it only counts what it would stop.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.0.dry_run.store(dry_run, Ordering::Relaxed);
    }

    /// As [`pass`](Self::pass), for whoever counts refusals itself.
    fn enter(&self) -> Result<CircuitPass, CircuitOpen> {
        let shared = &*self.0;
        match shared.admit() {
            Ok(era) => Ok(CircuitPass::new(self.clone(), Some(era))),
            Err(_) if shared.dry_run.load(Ordering::Relaxed) => {
                shared.told.would_refuse.add(1);
                Ok(CircuitPass::new(self.clone(), None))
            }
            Err(retry_after) => Err(self.open(retry_after)),
        }
    }

    /// What a call is told that comes while the circuit is open.
    fn open(&self, retry_after: Option<Duration>) -> CircuitOpen {
        // Upward, so that not all come again at the same moment, and none too early.
        let spread = |wait: Duration| wait.mul_f64(1.0 + self.0.random.draw() / 10.0);
        CircuitOpen {
            name: self.0.name.clone(),
            retry_after: retry_after.map(|wait| spread(wait.min(LONGEST))),
        }
    }

    /// Refuses a call for which nothing is ready, whatever the circuit says by now.
    fn turn_away(&self) -> CircuitOpen {
        let shared = &*self.0;
        shared.told.refused.add(1);
        let held = shared.gate().position == Position::HeldOpen;
        self.open((!held).then(|| shared.stopped(Instant::now())))
    }

    fn force(&self, forced: Option<Forced>) {
        let mut core = self.0.core();
        if core.forced == forced {
            return;
        }
        let before = core.phase();
        core.breaker = core.breaker.afresh();
        core.forced = forced;
        if let Some(window) = &self.0.window {
            window.clear();
        }
        self.0.publish(&core);
        let after = core.phase();
        drop(core);
        self.0.tell(before, after, Cause::Operator);
    }
}

// === impl Shared ===

impl Shared {
    fn gate(&self) -> Gate {
        Gate::from_word(self.gate.load(Ordering::Acquire))
    }

    /// The era in which a call is let through, or how long it is to wait.
    fn admit(&self) -> Result<u32, Option<Duration>> {
        let gate = self.gate();
        match gate.position {
            Position::Clean | Position::Soiled | Position::HeldClosed => Ok(gate.era),
            Position::HeldOpen => Err(None),
            Position::Open | Position::HalfOpen => self.probe(),
        }
    }

    fn probe(&self) -> Result<u32, Option<Duration>> {
        let now = Instant::now();
        let stopped = self.stopped(now);
        if !stopped.is_zero() {
            return Err(Some(stopped));
        }
        let mut core = self.core();
        if core.forced.is_some() {
            drop(core);
            // It was forced meanwhile, which asks for no lock.
            return self.admit();
        }
        let before = core.phase();
        let permit = core.breaker.permit(now);
        self.publish(&core);
        let (era, after) = (core.breaker.era(), core.phase());
        drop(core);
        self.tell(before, after, Cause::Wait);
        match permit {
            Permit::Go | Permit::Probe => Ok(era),
            Permit::Stop => Err(Some(self.stopped(now))),
        }
    }

    /// How long every call is stopped from `now` on.
    fn stopped(&self, now: Instant) -> Duration {
        let until = Duration::from_micros(self.stops_until.load(Ordering::Acquire));
        until.saturating_sub(self.since_begun(now))
    }

    /// What the end of a call says, that was let through in `era`.
    fn settle(&self, era: u32, began: Option<Instant>, end: End) {
        let gate = self.gate();
        if gate.era != era || gate.position.is_held() {
            return;
        }
        let now = (self.window.is_some() || self.slow.is_some()).then(Instant::now);
        let took = now.zip(began).map(|(now, began)| now - began);
        let slow = took.zip(self.slow).is_some_and(|(took, slow)| took >= slow);
        let failed = end == End::Failed;
        if let (Some(window), Some(now)) = (&self.window, now)
            && gate.position.is_closed()
            && (slow || end != End::Nothing)
        {
            window.add(self.since_begun(now), failed, slow);
        }
        let says_nothing = match gate.position {
            Position::Clean => !failed && !slow,
            Position::Soiled => end == End::Nothing && !slow,
            _ => false,
        };
        if !says_nothing {
            self.settle_in_core(era, end, slow);
        }
    }

    fn settle_in_core(&self, era: u32, end: End, slow: bool) {
        let now = Instant::now();
        let random = self.random.draw();
        let mut core = self.core();
        if core.forced.is_some() {
            return;
        }
        let before = core.phase();
        // A probe that takes too long has not shown that all is well again.
        let end = if slow && before == Phase::HalfOpen {
            End::Failed
        } else {
            end
        };
        let mut cause = Cause::Calls;
        let ended = Event::Ended { era, end, random };
        let verdict = core.breaker.hear(now, ended);
        if verdict == Verdict::Stays
            && core.breaker.phase() == Phase::Closed
            && let Some(window) = &self.window
            && let Some(exceeded) = self.rates.exceeded(window.counts(self.since_begun(now)))
        {
            core.breaker.hear(now, Event::Tripped { era, random });
            cause = Cause::Rate(exceeded);
        }
        let after = core.phase();
        if before != Phase::Closed
            && after == Phase::Closed
            && let Some(window) = &self.window
        {
            window.clear();
        }
        self.publish(&core);
        drop(core);
        self.tell(before, after, cause);
    }

    /// Tells those who take no lock.
    fn publish(&self, core: &Core) {
        let until = match core.breaker.stops_until() {
            None => 0,
            Some(Until::Then(then)) => micros(self.since_begun(then)),
            Some(Until::Never) => u64::MAX,
        };
        self.stops_until.store(until, Ordering::Release);
        self.gate.store(core.gate().to_word(), Ordering::Release);
    }

    fn since_begun(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // Its values are replaced whole; a panic tears nothing.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rounded up: a moment that is told is never too early.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
}

// === impl Core ===

impl Core {
    const fn gate(&self) -> Gate {
        let position = match (self.forced, self.breaker.phase()) {
            (Some(Forced::Open), _) => Position::HeldOpen,
            (Some(Forced::Closed), _) => Position::HeldClosed,
            (None, Phase::Open) => Position::Open,
            (None, Phase::HalfOpen) => Position::HalfOpen,
            (None, Phase::Closed) if self.breaker.is_clean() => Position::Clean,
            (None, Phase::Closed) => Position::Soiled,
        };
        Gate {
            era: self.breaker.era(),
            position,
        }
    }

    const fn phase(&self) -> Phase {
        self.gate().position.phase()
    }
}

// === impl CircuitOpen ===

impl Classify for CircuitOpen {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn code(&self) -> &'static str {
        "circuit_open"
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

#[cfg(test)]
mod tests;
