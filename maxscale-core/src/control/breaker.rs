use std::time::Duration;

use tokio::time::Instant;

use super::Backoff;

/// Stops calls to something that keeps failing, and lets few probes through at a time.
///
/// [`on`](Self::on) is all of it: the caller passes the time and keeps what
/// comes out; the other methods do so in place, for whoever holds a lock.
/// Closed → open after [`BreakerConfig::failures`] failures in a row; open →
/// a round of probes per [`BreakerConfig::probe_every`]; successes close it.
///
/// Many calls may be under way at once, so each belongs to the [`era`](Self::era)
/// in which it was let through: what opens, closes or begins a round of probes
/// begins an era, and an [`Event::Ended`] of another era changes nothing. Who
/// makes one call at a time tells [`Event::Succeeded`] and [`Event::Failed`],
/// which count at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    config: BreakerConfig,
    probing: Probing,
    era: u32,
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

/// How a [`Breaker`] is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Probes at a time, and successes of theirs that close it.
    pub probes: u32,
    /// After so long, probes that have not ended count for nothing and others are made.
    pub probe_time: Duration,
    /// The time until the next probes doubles with each round that fails, up to this.
    pub longest_wait: Duration,
}

/// What a [`Breaker`] says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each answer")]
pub enum Permit {
    /// Closed: call.
    Go,
    /// Open, and this call is a probe.
    Probe,
    /// Open: do not call.
    Stop,
}

/// What a [`Breaker`] is told.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to tell it")]
pub enum Event {
    /// Somebody wants to make a call.
    Wanted,
    /// A call succeeded, whenever it began.
    Succeeded,
    /// A call failed, whenever it began.
    Failed,
    /// A call ended that was let through in this era.
    Ended {
        /// The era at the time of its permit.
        era: u32,
        /// What its end says.
        end: End,
        /// A draw between 0 and 1, for the time until the next probes.
        random: f64,
    },
    /// Too many calls of this era failed, as somebody knows who counts them.
    Tripped {
        /// The era of the calls.
        era: u32,
        /// A draw between 0 and 1, for the time until the next probes.
        random: f64,
    },
}

/// What the end of a call says of whatever was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between them")]
pub enum End {
    /// It works.
    Succeeded,
    /// It does not.
    Failed,
    /// Nothing: the call was given up, or sent back.
    Nothing,
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

/// What a [`Breaker`] does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each of them")]
pub enum Phase {
    /// All are made.
    Closed,
    /// None is made.
    Open,
    /// Probes are made.
    HalfOpen,
}

/// The end of a time in which a [`Breaker`] stops every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a time ends or it does not")]
pub enum Until {
    /// It ends then.
    Then(Instant),
    /// It ends beyond the clock's end.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open(Open),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    /// When a round of probes begins. `None` if that is beyond the clock's end.
    next_round: Option<Instant>,
    /// Whether one has begun and none of its probes has failed.
    probing: bool,
    /// Probes under way, and those that have succeeded.
    taken: u32,
    succeeded: u32,
    /// How many rounds have failed.
    failed_rounds: u32,
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
    /// A closed breaker that is probed by one call at a time.
    pub const fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            probing: Probing {
                probes: 1,
                probe_time: config.probe_every,
                longest_wait: config.probe_every,
            },
            era: 0,
            state: State::Closed { failures: 0 },
        }
    }

    /// Is probed like this.
    #[must_use]
    pub const fn probed(self, probing: Probing) -> Self {
        Self { probing, ..self }
    }

    /// Closed and without memory, in an era of its own.
    #[must_use]
    pub const fn afresh(self) -> Self {
        self.begins(State::Closed { failures: 0 })
    }

    /// What follows from `event` at `now`, and the breaker after it. A probe
    /// that never reports is followed by another after [`Probing::probe_time`].
    pub fn on(self, now: Instant, event: Event) -> (Verdict, Self) {
        match (event, self.state) {
            (Event::Wanted, State::Closed { .. }) => (Verdict::Permit(Permit::Go), self),
            (Event::Wanted, State::Open(open)) => self.probe(now, open),
            (Event::Succeeded, _) => self.on_success(),
            (Event::Failed, State::Closed { .. }) => self.one_more_failed(now, 1.0),
            (Event::Ended { era, .. } | Event::Tripped { era, .. }, _) if era != self.era => {
                (Verdict::Stays, self)
            }
            (Event::Ended { end, random, .. }, State::Closed { .. }) => match end {
                End::Succeeded => self.on_success(),
                End::Failed => self.one_more_failed(now, random),
                End::Nothing => (Verdict::Stays, self),
            },
            (Event::Ended { end, random, .. }, State::Open(open)) => match end {
                End::Succeeded => self.probe_succeeded(open),
                End::Failed => self.opens(now, open.failed_rounds.saturating_add(1), random),
                End::Nothing => {
                    let taken = open.taken.saturating_sub(1).max(open.succeeded);
                    self.stays(State::Open(Open { taken, ..open }))
                }
            },
            (Event::Tripped { random, .. }, State::Closed { .. }) => self.opens(now, 0, random),
            (Event::Failed | Event::Tripped { .. }, State::Open(_)) => (Verdict::Stays, self),
        }
    }

    /// A success is one at any time.
    const fn on_success(self) -> (Verdict, Self) {
        match self.state {
            State::Closed { .. } => {
                let state = State::Closed { failures: 0 };
                (Verdict::Stays, Self { state, ..self })
            }
            State::Open(_) => (Verdict::Closes, self.afresh()),
        }
    }

    fn one_more_failed(self, now: Instant, random: f64) -> (Verdict, Self) {
        let State::Closed { failures } = self.state else {
            return (Verdict::Stays, self);
        };
        match failures.saturating_add(1) {
            failures if failures < self.config.failures => self.stays(State::Closed { failures }),
            _ => self.opens(now, 0, random),
        }
    }

    fn probe(self, now: Instant, open: Open) -> (Verdict, Self) {
        let due = open.next_round.is_some_and(|round| now >= round);
        let taken = if due {
            // What has not ended by now is not waited for.
            open.succeeded
        } else if open.probing && open.taken < self.probing.probes {
            open.taken
        } else {
            return (Verdict::Permit(Permit::Stop), self);
        };
        let open = Open {
            probing: true,
            taken: taken.saturating_add(1),
            ..open
        };
        let next = if due {
            let next_round = now.checked_add(self.probing.probe_time);
            self.begins(State::Open(Open { next_round, ..open }))
        } else {
            let state = State::Open(open);
            Self { state, ..self }
        };
        (Verdict::Permit(Permit::Probe), next)
    }

    fn probe_succeeded(self, open: Open) -> (Verdict, Self) {
        match open.succeeded.saturating_add(1) {
            succeeded if succeeded < self.probing.probes => {
                self.stays(State::Open(Open { succeeded, ..open }))
            }
            _ => self.on_success(),
        }
    }

    fn opens(self, now: Instant, failed_rounds: u32, random: f64) -> (Verdict, Self) {
        let waits = Backoff::new(self.config.probe_every, self.probing.longest_wait);
        let wait = waits.wait(failed_rounds.saturating_add(1), random);
        let open = Open {
            next_round: now.checked_add(wait),
            probing: false,
            taken: 0,
            succeeded: 0,
            failed_rounds,
        };
        (Verdict::Opens, self.begins(State::Open(open)))
    }

    const fn stays(self, state: State) -> (Verdict, Self) {
        (Verdict::Stays, Self { state, ..self })
    }

    const fn begins(self, state: State) -> Self {
        Self {
            state,
            // Eras that are mistaken for each other lie four billion apart.
            era: self.era.wrapping_add(1),
            ..self
        }
    }

    /// Whether a call may be made at `now`.
    pub fn permit(&mut self, now: Instant) -> Permit {
        match self.hear(now, Event::Wanted) {
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
        self.hear(now, Event::Failed) == Verdict::Opens
    }

    /// As [`on`](Self::on), in place.
    pub fn hear(&mut self, now: Instant, event: Event) -> Verdict {
        let (verdict, next) = self.on(now, event);
        *self = next;
        verdict
    }

    /// Whether calls are being stopped.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether it has seen no failure since the last success.
    pub const fn is_clean(&self) -> bool {
        matches!(self.state, State::Closed { failures: 0 })
    }

    /// What it does with calls.
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open(Open { probing: false, .. }) => Phase::Open,
            State::Open(_) => Phase::HalfOpen,
        }
    }

    /// Names the time in which calls that are let through now report.
    pub const fn era(&self) -> u32 {
        self.era
    }

    /// Until when every call is stopped, whatever happens but the end of a
    /// probe. `None` if one may be let through at once.
    pub const fn stops_until(&self) -> Option<Until> {
        let State::Open(open) = self.state else {
            return None;
        };
        match open.next_round {
            _ if open.probing && open.taken < self.probing.probes => None,
            Some(round) => Some(Until::Then(round)),
            None => Some(Until::Never),
        }
    }
}

#[cfg(test)]
mod tests;
