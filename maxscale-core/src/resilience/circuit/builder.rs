use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::telemetry::Told;
use super::window::Window;
use super::{Circuit, Core, Shared};
use crate::control::{Breaker, BreakerConfig, Probing, Rates};
use crate::draw::Draw;
use crate::meter::{self, Meter};
use crate::resilience::{LONGEST, ResilienceError};

/// Builds a [`Circuit`]; see [`Circuit::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CircuitBuilder {
    name: Arc<str>,
    failures: Option<u32>,
    failure_rate: Option<f64>,
    slow_rate: Option<f64>,
    slow: Option<Duration>,
    window: Duration,
    min_calls: u32,
    open_for: Duration,
    longest_open: Duration,
    probes: u32,
    probe_time: Duration,
    dry_run: bool,
    meter: Meter,
    random: Draw,
}

// === impl Circuit ===

impl Circuit {
    /// Failures in a row that open it when nothing is set.
    pub const DEFAULT_FAILURES: u32 = 3;

    /// The time over which rates are counted when nothing is set.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

    /// How many calls a rate needs to count when nothing is set.
    pub const DEFAULT_MIN_CALLS: u32 = 20;

    /// How long it is open at first when nothing is set.
    pub const DEFAULT_OPEN_FOR: Duration = Duration::from_secs(1);

    /// How long it is open at most when nothing is set.
    pub const DEFAULT_LONGEST_OPEN: Duration = Duration::from_secs(30);

    /// How many probes are made at a time when nothing is set.
    pub const DEFAULT_PROBES: u32 = 1;

    /// After what time another probe is made when nothing is set.
    pub const DEFAULT_PROBE_TIME: Duration = Duration::from_secs(10);

    /// Starts a circuit that logs and metrics call `name`, which is of a closed set.
    pub fn builder(name: &str) -> CircuitBuilder {
        CircuitBuilder {
            name: name.into(),
            failures: Some(Self::DEFAULT_FAILURES),
            failure_rate: None,
            slow_rate: None,
            slow: None,
            window: Self::DEFAULT_WINDOW,
            min_calls: Self::DEFAULT_MIN_CALLS,
            open_for: Self::DEFAULT_OPEN_FOR,
            longest_open: Self::DEFAULT_LONGEST_OPEN,
            probes: Self::DEFAULT_PROBES,
            probe_time: Self::DEFAULT_PROBE_TIME,
            dry_run: false,
            meter: meter::nowhere(),
            random: Draw::default(),
        }
    }
}

// === impl CircuitBuilder ===

impl CircuitBuilder {
    /// Opens after so many failures in a row; `None`: however many there are.
    ///
    /// Default: [`Circuit::DEFAULT_FAILURES`].
    pub fn failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.failures = failures.into();
        self
    }

    /// Opens when this part of the window's calls has failed. Default: no part.
    pub const fn failure_rate(mut self, part: f64) -> Self {
        self.failure_rate = Some(part);
        self
    }

    /// Opens when this part of the window's calls took `longer_than` or more,
    /// those among them that their callers gave up. Default: no part.
    ///
    /// A probe that takes so long has failed.
    pub const fn slow_rate(mut self, part: f64, longer_than: Duration) -> Self {
        self.slow_rate = Some(part);
        self.slow = Some(longer_than);
        self
    }

    /// Sets the time over which rates are counted, forgotten a tenth at a time.
    ///
    /// Default: [`Circuit::DEFAULT_WINDOW`].
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Concludes nothing from a rate of fewer calls.
    ///
    /// Default: [`Circuit::DEFAULT_MIN_CALLS`].
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// Sets how long it is open at first, and at most: the time doubles with each
    /// round of probes that fails, and half of it is drawn.
    ///
    /// Default: [`Circuit::DEFAULT_OPEN_FOR`] and [`Circuit::DEFAULT_LONGEST_OPEN`].
    pub const fn open_for(mut self, at_first: Duration, at_most: Duration) -> Self {
        self.open_for = at_first;
        self.longest_open = at_most;
        self
    }

    /// Makes so many probes at a time; when as many have succeeded it closes.
    ///
    /// Default: [`Circuit::DEFAULT_PROBES`].
    pub const fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// Sets the time after which a probe that has not ended counts for nothing,
    /// and another is made.
    ///
    /// Default: [`Circuit::DEFAULT_PROBE_TIME`].
    pub const fn probe_time(mut self, time: Duration) -> Self {
        self.probe_time = time;
        self
    }

    /// Only counts what it would stop. Default: no.
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Measures calls, transitions and the phase. Default: nothing is measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Draws the jitter of waits, a number between 0 and 1.
    ///
    /// Default: drawn anew each time.
    pub fn random(mut self, random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.random = Draw::by(random);
        self
    }

    /// Finishes the circuit, which is closed.
    ///
    /// # Errors
    ///
    /// Returns [`ResilienceError::Bounds`] unless failures, calls and probes are at
    /// least 1, rates are above 0 and at most 1, times between 1 ms and a day (the
    /// window: an hour), and if nothing would ever open it.
    pub fn build(self) -> Result<Circuit, ResilienceError> {
        self.check()?;
        let now = Instant::now();
        let mut rates = Rates::new(self.min_calls.into());
        if let Some(part) = self.failure_rate {
            rates = rates.failed(part);
        }
        if let Some(part) = self.slow_rate {
            rates = rates.slow(part);
        }
        let breaker = Breaker::new(BreakerConfig {
            failures: self.failures.unwrap_or(u32::MAX),
            probe_every: self.open_for,
        });
        let breaker = breaker.probed(Probing {
            probes: self.probes,
            probe_time: self.probe_time,
            longest_wait: self.longest_open,
        });
        let core = Core {
            breaker,
            forced: None,
        };
        let rated = self.failure_rate.or(self.slow_rate).is_some();
        let circuit = Circuit(Arc::new(Shared {
            told: Told::new(&self.meter, &self.name),
            name: self.name,
            gate: AtomicU64::new(core.gate().to_word()),
            stops_until: AtomicU64::new(0),
            begun: now,
            dry_run: AtomicBool::new(self.dry_run),
            core: Mutex::new(core),
            window: rated.then(|| Window::new(self.window)),
            rates,
            slow: self.slow,
            random: self.random,
        }));
        circuit.measure(&self.meter);
        Ok(circuit)
    }

    fn check(&self) -> Result<(), ResilienceError> {
        let part = |part: Option<f64>| part.is_none_or(|part| part > 0.0 && part <= 1.0);
        let time = |time: Duration| (SHORTEST..=LONGEST).contains(&time);
        let opens = [self.failure_rate, self.slow_rate]
            .iter()
            .any(Option::is_some);
        ResilienceError::check([
            (
                "failures",
                self.failures.map_or(opens, |failures| failures > 0),
            ),
            ("failure_rate", part(self.failure_rate)),
            (
                "slow_rate",
                part(self.slow_rate) && self.slow.is_none_or(time),
            ),
            ("window", time(self.window) && self.window <= LONGEST_WINDOW),
            ("min_calls", self.min_calls > 0),
            (
                "open_for",
                time(self.open_for)
                    && time(self.longest_open)
                    && self.open_for <= self.longest_open,
            ),
            ("probes", self.probes > 0),
            ("probe_time", time(self.probe_time)),
        ])
    }
}

const SHORTEST: Duration = Duration::from_millis(1);

/// So many calls of a tenth of it are counted that no thread makes as many.
const LONGEST_WINDOW: Duration = Duration::from_secs(60 * 60);
