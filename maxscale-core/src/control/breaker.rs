use std::time::Duration;

use tokio::time::Instant;

/// Stops calls to something that keeps failing, and lets one probe through at a time.
///
/// A pure state machine: the caller passes the time and holds the lock.
/// Closed → open after [`BreakerConfig::failures`] failures in a row; open →
/// one probe per [`BreakerConfig::probe_every`]; a success closes it.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
}

/// When a [`Breaker`] opens and how often it is probed.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures: u32,
    /// The time between probes while open.
    pub probe_every: Duration,
}

/// What a [`Breaker`] says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each answer")]
pub enum Permit {
    /// Closed: call.
    Go,
    /// Open, and this call is the probe.
    Probe,
    /// Open: do not call.
    Stop,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { next_probe: Instant },
}

// === impl BreakerConfig ===

impl Default for BreakerConfig {
    /// Three failures in a row; a probe every 100 ms.
    fn default() -> Self {
        Self {
            failures: 3,
            probe_every: Duration::from_millis(100),
        }
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker.
    pub const fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed { failures: 0 },
        }
    }

    /// Whether a call may be made at `now`. A probe that never reports is
    /// followed by another after the same time.
    pub fn permit(&mut self, now: Instant) -> Permit {
        match &mut self.state {
            State::Closed { .. } => Permit::Go,
            State::Open { next_probe } if now >= *next_probe => {
                *next_probe = now + self.config.probe_every;
                Permit::Probe
            }
            State::Open { .. } => Permit::Stop,
        }
    }

    /// Notes a success. True if this closed an open breaker.
    pub fn succeeded(&mut self) -> bool {
        let was_open = self.is_open();
        self.state = State::Closed { failures: 0 };
        was_open
    }

    /// Notes a failure at `now`. True if this opened a closed breaker.
    pub fn failed(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures < self.config.failures {
                    return false;
                }
                self.state = State::Open {
                    next_probe: now + self.config.probe_every,
                };
                true
            }
            State::Open { .. } => false,
        }
    }

    /// Whether calls are being stopped.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_on_a_successful_probe() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerConfig::default());
        breaker.failed(start);
        breaker.failed(start);
        breaker.succeeded();
        breaker.failed(start);
        breaker.failed(start);
        assert_eq!(breaker.permit(start), Permit::Go);
        assert!(breaker.failed(start));

        assert_eq!(breaker.permit(start), Permit::Stop);
        let later = start + Duration::from_millis(100);
        assert_eq!(breaker.permit(later), Permit::Probe);
        assert_eq!(breaker.permit(later), Permit::Stop);
        assert!(breaker.succeeded());
        assert_eq!(breaker.permit(later), Permit::Go);
    }
}
