//! Whether the service keeps what it promises, and how fast it uses up what may fail.
//!
//! An objective of 99.99 % leaves one request in ten thousand to fail: the budget.
//! A burn rate of 1 uses up just that; at 14.4 a month's budget is gone in two days
//! (Google's SRE workbook, chapter 5). [`Slo`] counts in this process, so a load
//! shedder or a page can ask without a Prometheus; its windows reach back three
//! days and begin anew with the process. [`rules`] and [`dashboard`] say the same of
//! all processes together to Prometheus and Grafana.

mod dashboard;
mod ring;
mod rules;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::meter::{self, Meter, Metric};

pub use dashboard::dashboard;
pub use rules::rules;

use ring::{Counts, Ring, THRESHOLDS};

/// What a service promises. The defaults are 99.99 % without failure, half of all
/// requests within 50 ms, 95 % within 200 ms and 99 % within 500 ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objectives {
    availability: f64,
    latency: [Latency; THRESHOLDS],
}

/// A promise of latency: this share of all requests within this time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The share, as 0.95.
    pub share: f64,
    /// The time.
    pub within: Duration,
}

/// Objectives that nobody can keep or break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectivesError {
    /// The availability is not between 0 and 1, both excluded.
    #[error("availability must lie between 0 and 1, as 0.9999 does")]
    Availability,
    /// A share is not between 0 and 1, both excluded, or smaller than the one before.
    #[error("latency {at}: its share must lie between 0 and 1, and above the one before")]
    Share {
        /// Which of them, from 0.
        at: usize,
    },
    /// A time is zero or not longer than the one before.
    #[error("latency {at}: its time must be longer than the one before")]
    Within {
        /// Which of them, from 0.
        at: usize,
    },
}

/// Counts requests against [`Objectives`]. Clones count together.
#[derive(Clone)]
pub struct Slo(Arc<Inner>);

struct Inner {
    objectives: Objectives,
    clock: Clock,
    /// Of the minute that is going on.
    live: Live,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Live {
    minute: AtomicU64,
    total: AtomicU64,
    failed: AtomicU64,
    slow: [AtomicU64; THRESHOLDS],
}

/// How fast budgets are used up in one window: 1 is as fast as the objective allows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Burn {
    /// How many requests there were; of few nothing can be said.
    pub requests: u64,
    /// That of failures.
    pub availability: f64,
    /// Those of slowness, as the objectives list them.
    pub latency: [f64; THRESHOLDS],
}

/// A stretch of the recent past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Window {
    /// Five minutes.
    Minutes5,
    /// Half an hour.
    Minutes30,
    /// An hour.
    Hour,
    /// Two hours.
    Hours2,
    /// Six hours.
    Hours6,
    /// A day.
    Day,
    /// Three days.
    Days3,
}

const BURN: Metric = Metric::new(
    "maxscale.slo.burn_rate",
    "",
    "How fast the budget of an objective is used up; 1 is as fast as it allows.",
);
const BUDGET: Metric = Metric::new(
    "maxscale.slo.budget_remaining",
    "",
    "The share of an objective's budget of the last three days that is left.",
);

// === impl Objectives ===

impl Objectives {
    /// These objectives: `availability` is the share of requests that do not fail,
    /// and `latency` rises in share and time.
    ///
    /// # Errors
    ///
    /// Returns [`ObjectivesError`] with the field that is wrong.
    pub fn new(availability: f64, latency: [Latency; THRESHOLDS]) -> Result<Self, ObjectivesError> {
        let share = |share: f64| share > 0.0 && share < 1.0;
        if !share(availability) {
            return Err(ObjectivesError::Availability);
        }
        let (mut above, mut after) = (0.0, Duration::ZERO);
        for (at, objective) in latency.iter().enumerate() {
            if !share(objective.share) || objective.share <= above {
                return Err(ObjectivesError::Share { at });
            }
            if objective.within <= after {
                return Err(ObjectivesError::Within { at });
            }
            (above, after) = (objective.share, objective.within);
        }
        Ok(Self {
            availability,
            latency,
        })
    }

    /// The share of requests that do not fail.
    pub const fn availability(&self) -> f64 {
        self.availability
    }

    /// The promises of latency.
    pub const fn latency(&self) -> &[Latency; THRESHOLDS] {
        &self.latency
    }
}

impl Default for Objectives {
    fn default() -> Self {
        let latency = |share, millis| Latency {
            share,
            within: Duration::from_millis(millis),
        };
        Self {
            availability: 0.9999,
            latency: [latency(0.5, 50), latency(0.95, 200), latency(0.99, 500)],
        }
    }
}

// === impl Slo ===

impl Slo {
    /// Nothing counted yet.
    pub fn new(objectives: Objectives, clock: Clock) -> Self {
        let minute = minute(&clock);
        let live = Live {
            minute: AtomicU64::new(minute),
            ..Live::default()
        };
        Self(Arc::new(Inner {
            objectives,
            clock,
            live,
            ring: Mutex::new(Ring::new(minute)),
        }))
    }

    /// Counts a request. One that was refused because of a limit has not failed;
    /// one whose caller went away is not to be counted.
    ///
    /// A few atomic additions, and once in a minute a lock.
    pub fn observe(&self, failed: bool, took: Duration) {
        let live = &self.0.live;
        let now = minute(&self.0.clock);
        if live.minute.load(Ordering::Relaxed) != now {
            drop(self.turn(now));
        }
        live.total.fetch_add(1, Ordering::Relaxed);
        if failed {
            live.failed.fetch_add(1, Ordering::Relaxed);
        }
        for (slow, objective) in live.slow.iter().zip(self.0.objectives.latency) {
            if took > objective.within {
                slow.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How fast the budgets are used up in `window`.
    pub fn burn(&self, window: Window) -> Burn {
        let now = minute(&self.0.clock);
        let counts = self.turn(now).sum(now, window.minutes());
        let objectives = &self.0.objectives;
        let rate = |bad: u64, allowed: f64| match counts.total {
            0 => 0.0,
            total => share(bad, total) / allowed,
        };
        let mut latency = [0.0; THRESHOLDS];
        for (at, objective) in objectives.latency.iter().enumerate() {
            latency[at] = rate(counts.slow[at], 1.0 - objective.share);
        }
        Burn {
            requests: counts.total,
            availability: rate(counts.failed, 1.0 - objectives.availability),
            latency,
        }
    }

    /// The share of the budget for failures of the last three days that is left:
    /// from 1, nothing failed, to 0 and below, more did than may.
    pub fn budget_remaining(&self) -> f64 {
        1.0 - self.burn(Window::Days3).availability
    }

    /// Shows the burn rates and what is left of the budgets.
    pub fn register(&self, meter: &Meter) {
        for at in 0..=THRESHOLDS {
            let name = self.name(at);
            for window in Window::ALL {
                let slo = self.clone();
                let labels = [("objective", &*name), ("window", window.name())];
                meter::gauge(meter, BURN, &labels, move || Some(slo.burn(window).of(at)));
            }
            let slo = self.clone();
            let left = move || Some(1.0 - slo.burn(Window::Days3).of(at));
            meter::gauge(meter, BUDGET, &[("objective", &*name)], left);
        }
    }

    /// What objective `at` is called: `availability`, `p95`.
    fn name(&self, at: usize) -> String {
        match at.checked_sub(1) {
            None => "availability".to_owned(),
            Some(at) => format!("p{}", percent(self.0.objectives.latency[at].share)),
        }
    }

    /// Moves what was counted into the ring, and gives that.
    fn turn(&self, now: u64) -> MutexGuard<'_, Ring> {
        let live = &self.0.live;
        // Nothing panics while it is held.
        let mut ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
        // What others count meanwhile goes to one minute or the next.
        let then = live.minute.swap(now, Ordering::Relaxed);
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let counts = Counts {
            total: take(&live.total),
            failed: take(&live.failed),
            slow: [0, 1, 2].map(|at| take(&live.slow[at])),
        };
        ring.add(then, &counts);
        ring
    }
}

impl fmt::Debug for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slo")
            .field("objectives", &self.0.objectives)
            .finish_non_exhaustive()
    }
}

fn minute(clock: &Clock) -> u64 {
    clock.now().as_millis() / 60_000
}

#[expect(clippy::cast_precision_loss, reason = "a share of counts")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// 95 of 0.95, and 99.9 of 0.999.
fn percent(share: f64) -> String {
    let rounded = (share * 100_000.0).round() / 1_000.0;
    rounded.to_string()
}

// === impl Burn ===

impl Burn {
    const fn of(&self, at: usize) -> f64 {
        match at {
            0 => self.availability,
            at => self.latency[at - 1],
        }
    }
}

// === impl Window ===

impl Window {
    /// All of them, the shortest first.
    pub const ALL: [Self; 7] = [
        Self::Minutes5,
        Self::Minutes30,
        Self::Hour,
        Self::Hours2,
        Self::Hours6,
        Self::Day,
        Self::Days3,
    ];

    /// As Prometheus writes it: `5m`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minutes5 => "5m",
            Self::Minutes30 => "30m",
            Self::Hour => "1h",
            Self::Hours2 => "2h",
            Self::Hours6 => "6h",
            Self::Day => "1d",
            Self::Days3 => "3d",
        }
    }

    const fn minutes(self) -> usize {
        match self {
            Self::Minutes5 => 5,
            Self::Minutes30 => 30,
            Self::Hour => 60,
            Self::Hours2 => 120,
            Self::Hours6 => 360,
            Self::Day => 1_440,
            Self::Days3 => 4_320,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn budget_is_burned_by_failures_and_slowness_of_its_window_alone() {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        let slo = Slo::new(Objectives::default(), clock);
        for n in 0..10_000 {
            slo.observe(n < 10, ms(if n % 2 == 0 { 60 } else { 10 }));
        }
        let burn = slo.burn(Window::Minutes5);
        assert_eq!(burn.requests, 10_000);
        // One in a thousand failed where one in ten thousand may.
        assert!((burn.availability - 10.0).abs() < 1e-6, "{burn:?}");
        assert!((burn.latency[0] - 1.0).abs() < 1e-6 && burn.latency[1] == 0.0);
        assert!((slo.budget_remaining() + 9.0).abs() < 1e-6);
        time.advance(Duration::from_secs(6 * 60));
        assert_eq!(slo.burn(Window::Minutes5).requests, 0);
        assert_eq!(slo.burn(Window::Minutes30).requests, 10_000);
        time.advance(Duration::from_secs(4 * 86_400));
        assert_eq!(slo.burn(Window::Days3).requests, 0);
        assert!((slo.budget_remaining() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn threads_that_count_over_a_minutes_end_lose_nothing() {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        let slo = Slo::new(Objectives::default(), clock);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50_000).for_each(|_| slo.observe(false, ms(1))));
            }
            for _ in 0..100 {
                time.advance(Duration::from_secs(60));
                std::thread::yield_now();
            }
        });
        assert_eq!(slo.burn(Window::Days3).requests, 200_000);
    }

    #[test]
    fn nonsense_is_refused_with_its_field() {
        let default = *Objectives::default().latency();
        for availability in [0.0, 1.0, -1.0, f64::NAN] {
            let built = Objectives::new(availability, default);
            assert_eq!(built, Err(ObjectivesError::Availability));
        }
        let mut latency = default;
        latency[1].share = 0.4;
        assert_eq!(
            Objectives::new(0.99, latency),
            Err(ObjectivesError::Share { at: 1 })
        );
        let mut latency = default;
        latency[2].within = ms(200);
        assert_eq!(
            Objectives::new(0.99, latency),
            Err(ObjectivesError::Within { at: 2 })
        );
        assert!(Objectives::new(0.999, default).is_ok());
        assert_eq!([0.5, 0.95, 0.999].map(percent), ["50", "95", "99.9"]);
    }
}
