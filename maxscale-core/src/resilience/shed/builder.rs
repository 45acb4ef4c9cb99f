use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::cohorts::{Cohorts, Secret};
use super::places::Places;
use super::windows::{Windows, micros};
use super::{LoadShedder, Shared, Told};
use crate::clock::Clock;
use crate::control::SheddingRules;
use crate::meter::{self, Meter};
use crate::resilience::{LONGEST, ResilienceError};

/// Builds a [`LoadShedder`]; see [`LoadShedder::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadShedderBuilder {
    name: Arc<str>,
    places: usize,
    reserve: f64,
    queue: Option<usize>,
    target: Duration,
    window: Duration,
    max_wait: Duration,
    turn: Duration,
    secret: Option<Secret>,
    clock: Clock,
    dry_run: bool,
    meter: Meter,
}

// === impl LoadShedder ===

impl LoadShedder {
    /// The part of the places that is kept for what is critical when nothing is set.
    pub const DEFAULT_RESERVE: f64 = 0.1;

    /// Which delay is too long when nothing is set: CoDel's.
    pub const DEFAULT_TARGET: Duration = Duration::from_millis(5);

    /// How long that lasts before it counts when nothing is set: CoDel's.
    pub const DEFAULT_WINDOW: Duration = Duration::from_millis(100);

    /// How long a request waits at most when nothing is set.
    pub const DEFAULT_MAX_WAIT: Duration = Duration::from_millis(500);

    /// The least length of a queue when nothing is set.
    pub const DEFAULT_QUEUE: usize = 8;

    /// In what time everybody has been the first and the last of his tier when
    /// nothing is set.
    pub const DEFAULT_TURN: Duration = Duration::from_secs(60 * 60);

    /// Starts a shedder with so many `places`, that is for as many requests as can be
    /// worked on at a time: connections to a database, or a few for each core. Logs
    /// and metrics call it `name`, which is of a closed set.
    pub fn builder(name: &str, places: usize) -> LoadShedderBuilder {
        LoadShedderBuilder {
            name: name.into(),
            places,
            reserve: Self::DEFAULT_RESERVE,
            queue: None,
            target: Self::DEFAULT_TARGET,
            window: Self::DEFAULT_WINDOW,
            max_wait: Self::DEFAULT_MAX_WAIT,
            turn: Self::DEFAULT_TURN,
            secret: None,
            clock: Clock::system(),
            dry_run: false,
            meter: meter::nowhere(),
        }
    }
}

// === impl LoadShedderBuilder ===

impl LoadShedderBuilder {
    /// Keeps this part of the places, to the nearest whole one, for requests of
    /// [`Priority::CRITICAL`](crate::resilience::Priority::CRITICAL), which may have the others
    /// too. What is kept is idle while there are none.
    ///
    /// Default: [`LoadShedder::DEFAULT_RESERVE`].
    pub const fn reserve(mut self, part: f64) -> Self {
        self.reserve = part;
        self
    }

    /// Sets how many requests wait at most; as many more that are critical may, and of
    /// each further tier an eighth fewer. With as many as there are places they wait no
    /// longer than requests take.
    ///
    /// Default: half as many as there are places, at least [`LoadShedder::DEFAULT_QUEUE`].
    pub const fn queue(mut self, queue: usize) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Sheds load where everybody waits longer than `target` for as long as `window`, in
    /// which several requests are to come.
    ///
    /// Default: [`LoadShedder::DEFAULT_TARGET`] and [`LoadShedder::DEFAULT_WINDOW`].
    pub const fn target(mut self, target: Duration, window: Duration) -> Self {
        self.target = target;
        self.window = window;
        self
    }

    /// Sets how long a request waits for a place, at most until its deadline.
    ///
    /// Default: [`LoadShedder::DEFAULT_MAX_WAIT`].
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets in what time everybody has been the first and the last of his tier: who is
    /// shed now is served again after some of it.
    ///
    /// Default: [`LoadShedder::DEFAULT_TURN`].
    pub const fn turn(mut self, turn: Duration) -> Self {
        self.turn = turn;
        self
    }

    /// Hashes callers with `secret`. Of a service with several processes all are to have
    /// the same, so that who is shed by one is shed by the others, and who is not is
    /// served by all.
    ///
    /// Default: it is drawn, and another in each process.
    pub fn secret(mut self, secret: [u8; 16]) -> Self {
        self.secret = Some(Secret::new(secret));
        self
    }

    /// Takes the time of day from `clock`, once: by it processes agree whose turn it is.
    /// Default: the system's.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Only counts what it would shed, and has nobody wait. Default: no.
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Measures requests, and how many tiers are let through. Default: nothing is
    /// measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Finishes the shedder.
    ///
    /// # Errors
    ///
    /// Returns [`ResilienceError::Bounds`] unless there is a place that is not
    /// reserved, 0 < target < window, the turn is a second or more, and no time is
    /// more than a day.
    pub fn build(self) -> Result<LoadShedder, ResilienceError> {
        let reserve = part_of(self.places, self.reserve);
        let queue = (self.queue).unwrap_or((self.places / 2).max(LoadShedder::DEFAULT_QUEUE));
        let places = 1..=Semaphore::MAX_PERMITS;
        ResilienceError::check([
            ("places", places.contains(&self.places)),
            ("reserve", reserve.is_some()),
            (
                "target",
                !self.target.is_zero() && self.target < self.window && self.window <= LONGEST,
            ),
            ("max_wait", self.max_wait <= LONGEST),
            (
                "turn",
                (Duration::from_secs(1)..=LONGEST).contains(&self.turn),
            ),
        ])?;
        let rules = SheddingRules {
            target: self.target,
            step: f64::from(u32::try_from(self.places / 20).unwrap_or(u32::MAX).max(1)),
        };
        let day = u64::try_from(self.clock.now().as_micros()).unwrap_or(0);
        let secret = self.secret.unwrap_or_else(Secret::drawn);
        let shedder = LoadShedder(Arc::new(Shared {
            places: Places::new(self.places, reserve.unwrap_or(0), queue),
            windows: Windows::new(rules, self.window),
            cohorts: Cohorts::new(secret, day, micros(self.turn)),
            max_wait: self.max_wait,
            begun: Instant::now(),
            dry_run: AtomicBool::new(self.dry_run),
            told: std::array::from_fn(|tier| Told::new(&self.meter, &self.name, tier)),
            name: self.name,
        }));
        shedder.measure(&self.meter);
        Ok(shedder)
    }
}

/// The nearest whole number that leaves one, if `part` is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a number of places"
)]
fn part_of(places: usize, part: f64) -> Option<usize> {
    let reserve = (places as f64 * part).round();
    let fits = (0.0..1.0).contains(&part) && reserve < places as f64;
    fits.then_some(reserve as usize)
}
