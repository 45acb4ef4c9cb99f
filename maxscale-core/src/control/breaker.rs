use std::time::Duration;

use tokio::time::Instant;

/// Stops calls to something that keeps failing, and lets one probe through at a time.
///
/// [`on`](Self::on) is all of it: the caller passes the time and keeps what
/// comes out; the other methods do so in place, for whoever holds a lock.
/// Closed → open after [`BreakerConfig::failures`] failures in a row; open →
/// one probe per [`BreakerConfig::probe_every`]; a success closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
}

/// When a [`Breaker`] opens and how often it is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What a [`Breaker`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to tell it")]
pub enum Event {
    /// Somebody wants to make a call.
    Wanted,
    /// A call succeeded.
    Succeeded,
    /// A call failed.
    Failed,
}

/// What follows from an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each answer")]
pub enum Verdict {
    /// The answer to whoever wanted to call.
    Permit(Permit),
    /// It opened: calls are stopped from now on.
    Opens,
    /// It closed: calls are made again.
    Closes,
    /// All is as before.
    Stays,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    /// `None` if that moment is beyond the clock's end.
    Open {
        next_probe: Option<Instant>,
    },
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

    /// What follows from `event` at `now`, and the breaker after it. A probe
    /// that never reports is followed by another after the same time.
    pub fn on(self, now: Instant, event: Event) -> (Verdict, Self) {
        let next_probe = now.checked_add(self.config.probe_every);
        let open = State::Open { next_probe };
        let (verdict, state) = match (event, self.state) {
            (Event::Wanted, State::Closed { .. }) => (Verdict::Permit(Permit::Go), self.state),
            (Event::Wanted, State::Open { next_probe }) => match next_probe {
                Some(probe) if now >= probe => (Verdict::Permit(Permit::Probe), open),
                _ => (Verdict::Permit(Permit::Stop), self.state),
            },
            (Event::Succeeded, _) => return self.on_success(),
            (Event::Failed, State::Closed { failures }) => match failures.saturating_add(1) {
                failures if failures < self.config.failures => {
                    (Verdict::Stays, State::Closed { failures })
                }
                _ => (Verdict::Opens, open),
            },
            (Event::Failed, State::Open { .. }) => (Verdict::Stays, self.state),
        };
        (verdict, Self { state, ..self })
    }

    /// A success is one at any time.
    const fn on_success(self) -> (Verdict, Self) {
        let verdict = match self.state {
            State::Closed { .. } => Verdict::Stays,
            State::Open { .. } => Verdict::Closes,
        };
        (verdict, Self::new(self.config))
    }

    /// Whether a call may be made at `now`.
    pub fn permit(&mut self, now: Instant) -> Permit {
        let (verdict, next) = self.on(now, Event::Wanted);
        *self = next;
        match verdict {
            Verdict::Permit(permit) => permit,
            _ => Permit::Stop,
        }
    }

    /// Notes a success. True if this closed an open breaker.
    pub fn succeeded(&mut self) -> bool {
        let (verdict, next) = self.on_success();
        *self = next;
        verdict == Verdict::Closes
    }

    /// Notes a failure at `now`. True if this opened a closed breaker.
    pub fn failed(&mut self, now: Instant) -> bool {
        let (verdict, next) = self.on(now, Event::Failed);
        *self = next;
        verdict == Verdict::Opens
    }

    /// Whether calls are being stopped.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    fn events() -> impl Strategy<Value = (Event, u64)> {
        let event = prop_oneof![
            3 => Just(Event::Wanted),
            1 => Just(Event::Succeeded),
            4 => Just(Event::Failed),
        ];
        // Often none, so that much happens at one moment.
        (event, prop_oneof![Just(0), 0..300_u64])
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a model that remembers all that has happened.
        #[test]
        fn it_stops_after_so_many_failures_in_a_row_and_lets_one_probe_through_at_a_time(
            failures in 0..5_u32,
            probe_ms in 1..200_u64,
            events in proptest::collection::vec(events(), 1..120),
        ) {
            let probe_every = Duration::from_millis(probe_ms);
            let config = BreakerConfig { failures, probe_every };
            let (mut breaker, mut now) = (Breaker::new(config), Instant::now());
            let (mut row, mut open_since, mut last_probe) = (0_u32, None, None);
            for (event, pause) in events {
                now += Duration::from_millis(pause);
                let (verdict, next) = breaker.on(now, event);
                let expected = match event {
                    Event::Wanted => Verdict::Permit(match last_probe.max(open_since) {
                        None => Permit::Go,
                        Some(last) if now >= last + probe_every => {
                            last_probe = Some(now);
                            Permit::Probe
                        }
                        Some(_) => Permit::Stop,
                    }),
                    Event::Succeeded => {
                        row = 0;
                        last_probe = None;
                        let was_open = open_since.take().is_some();
                        if was_open { Verdict::Closes } else { Verdict::Stays }
                    }
                    Event::Failed => {
                        row += 1;
                        if open_since.is_none() && row >= failures.max(1) {
                            open_since = Some(now);
                            Verdict::Opens
                        } else {
                            Verdict::Stays
                        }
                    }
                };
                prop_assert_eq!(verdict, expected);
                prop_assert_eq!(next.is_open(), open_since.is_some());
                // The same in place, for whoever holds a lock.
                let mut held = breaker;
                match event {
                    Event::Wanted => {
                        prop_assert_eq!(Verdict::Permit(held.permit(now)), verdict);
                    }
                    Event::Succeeded => {
                        prop_assert_eq!(held.succeeded(), verdict == Verdict::Closes);
                    }
                    Event::Failed => {
                        prop_assert_eq!(held.failed(now), verdict == Verdict::Opens);
                    }
                }
                prop_assert_eq!(held, next);
                breaker = next;
            }
        }
    }
}
