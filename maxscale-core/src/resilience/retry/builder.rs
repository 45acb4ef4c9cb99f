use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{Counts, Retry, RetryBudget, Shared};
use crate::control::{Again, Backoff};
use crate::draw::Draw;
use crate::meter::{self, Meter};
use crate::resilience::{Circuit, LONGEST, ResilienceError};

/// Builds a [`Retry`]; see [`Retry::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryBuilder {
    name: Arc<str>,
    attempts: u32,
    base: Duration,
    cap: Duration,
    longest_wait: Duration,
    budget: RetryBudget,
    circuit: Option<Circuit>,
    dry_run: bool,
    meter: Meter,
    random: Draw,
}

// === impl Retry ===

impl Retry {
    /// How often a request is made at most when nothing is set.
    pub const DEFAULT_ATTEMPTS: u32 = 3;

    /// The wait before the second attempt, at most, when nothing is set.
    pub const DEFAULT_BASE: Duration = Duration::from_millis(50);

    /// The wait between two attempts, at most, when nothing is set.
    pub const DEFAULT_CAP: Duration = Duration::from_secs(2);

    /// The longest wait that an upstream may ask for when nothing is set.
    pub const DEFAULT_LONGEST_WAIT: Duration = Duration::from_secs(5);

    /// Starts retries that metrics call `name`, which is of a closed set.
    pub fn builder(name: &str) -> RetryBuilder {
        RetryBuilder {
            name: name.into(),
            attempts: Self::DEFAULT_ATTEMPTS,
            base: Self::DEFAULT_BASE,
            cap: Self::DEFAULT_CAP,
            longest_wait: Self::DEFAULT_LONGEST_WAIT,
            budget: RetryBudget::default(),
            circuit: None,
            dry_run: false,
            meter: meter::nowhere(),
            random: Draw::default(),
        }
    }
}

// === impl RetryBuilder ===

impl RetryBuilder {
    /// Makes a request so often at most, the first time counted.
    ///
    /// Default: [`Retry::DEFAULT_ATTEMPTS`].
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Waits up to `base` before the second attempt, up to twice as long before each
    /// further one, and never longer than `cap`. Any part of it is drawn.
    ///
    /// Default: [`Retry::DEFAULT_BASE`] and [`Retry::DEFAULT_CAP`].
    pub const fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.base = base;
        self.cap = cap;
        self
    }

    /// Does not retry where the upstream asks for a longer wait.
    ///
    /// Default: [`Retry::DEFAULT_LONGEST_WAIT`].
    pub const fn longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// Takes retries from `budget`, which all who call the same upstream share.
    ///
    /// Default: a budget of its own.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Does not retry while `circuit` is open. Default: none is asked.
    pub fn unless_open(mut self, circuit: &Circuit) -> Self {
        self.circuit = Some(circuit.clone());
        self
    }

    /// Only counts what it would make again. Default: no.
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Measures what follows on failures. Default: nothing is measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Draws waits, by a number between 0 and 1.
    ///
    /// Default: drawn anew each time.
    pub fn random(mut self, random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.random = Draw::by(random);
        self
    }

    /// Finishes.
    ///
    /// # Errors
    ///
    /// Returns [`ResilienceError::Bounds`] unless attempts are 1 to 100, and waits
    /// at most a day, `base` no longer than `cap`.
    pub fn build(self) -> Result<Retry, ResilienceError> {
        ResilienceError::check([
            ("attempts", (1..=100).contains(&self.attempts)),
            ("backoff", self.base <= self.cap && self.cap <= LONGEST),
            ("longest_wait", self.longest_wait <= LONGEST),
        ])?;
        Ok(Retry(Arc::new(Shared {
            again: Again {
                attempts: self.attempts,
                backoff: Backoff::new(self.base, self.cap),
                longest_wait: self.longest_wait,
            },
            counts: Counts::new(&self.meter, &self.name),
            budget: self.budget,
            circuit: self.circuit,
            dry_run: AtomicBool::new(self.dry_run),
            random: self.random,
        })))
    }
}
