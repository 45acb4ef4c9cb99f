use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::time::Instant;

use super::windows::Windows;
use super::{ADAPTIVE_REQUESTS, AdaptiveLimit, Shared};
use crate::clock::Clock;
use crate::control::{Concurrency, ConcurrencyRules};
use crate::meter::{self, HotCounter, Meter};
use crate::resilience::ResilienceError;

/// Builds an [`AdaptiveLimit`]; see [`AdaptiveLimit::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AdaptiveLimitBuilder {
    name: Arc<str>,
    rules: ConcurrencyRules,
    clock: Clock,
    dry_run: bool,
    meter: Meter,
}

// === impl AdaptiveLimit ===

impl AdaptiveLimit {
    /// The limit to begin with when nothing is set.
    pub const DEFAULT_INITIAL: u32 = 20;

    /// The least limit when nothing is set.
    pub const DEFAULT_MIN: u32 = 2;

    /// The highest limit when nothing is set.
    pub const DEFAULT_MAX: u32 = 1_000;

    /// Starts a limit that logs and metrics call `name`, which is of a closed set.
    pub fn builder(name: &str) -> AdaptiveLimitBuilder {
        AdaptiveLimitBuilder {
            name: name.into(),
            rules: ConcurrencyRules {
                initial: Self::DEFAULT_INITIAL,
                min: Self::DEFAULT_MIN,
                max: Self::DEFAULT_MAX,
            },
            clock: Clock::system(),
            dry_run: false,
            meter: meter::nowhere(),
        }
    }
}

// === impl AdaptiveLimitBuilder ===

impl AdaptiveLimitBuilder {
    /// Sets the limit to begin with. Default: [`AdaptiveLimit::DEFAULT_INITIAL`].
    pub const fn initial(mut self, initial: u32) -> Self {
        self.rules.initial = initial;
        self
    }

    /// Sets the least limit, which is what gets through when nothing seems to. Default:
    /// [`AdaptiveLimit::DEFAULT_MIN`].
    pub const fn min(mut self, min: u32) -> Self {
        self.rules.min = min;
        self
    }

    /// Sets the highest limit: of something that is bounded itself, such as sockets.
    /// Default: [`AdaptiveLimit::DEFAULT_MAX`].
    pub const fn max(mut self, max: u32) -> Self {
        self.rules.max = max;
        self
    }

    /// Takes the time of day from `clock`, once: by it several processes in front of
    /// one upstream measure at the same moments. Default: the system's.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Only counts what it would refuse. Default: no.
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Measures requests, and the limit. Default: nothing is measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Finishes the limit.
    ///
    /// # Errors
    ///
    /// Returns [`ResilienceError::Bounds`] unless 2 <= min <= initial <= max.
    pub fn build(self) -> Result<AdaptiveLimit, ResilienceError> {
        let rules = self.rules;
        ResilienceError::check([
            ("min", rules.min >= 2),
            ("max", rules.max >= rules.min),
            ("initial", (rules.min..=rules.max).contains(&rules.initial)),
        ])?;
        let requests = |outcome| {
            let labels = [("upstream", &*self.name), ("outcome", outcome)];
            HotCounter::register(&self.meter, ADAPTIVE_REQUESTS, &labels)
        };
        let limit = AdaptiveLimit(Arc::new(Shared {
            windows: Windows::new(Concurrency::new(rules)),
            day: u64::try_from(self.clock.now().as_micros()).unwrap_or(0),
            begun: Instant::now(),
            dry_run: AtomicBool::new(self.dry_run),
            passed: requests("passed"),
            refused: requests("refused"),
            would_refuse: requests("would_refuse"),
            name: self.name,
        }));
        limit.measure(&self.meter);
        Ok(limit)
    }
}
