use std::time::Duration;

use tokio::time::Instant;

use crate::fact::Deadline;

/// How long a request may take, whatever its caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit(Duration);

/// Whether there is any time for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each answer")]
pub enum Admission {
    /// Some.
    Run,
    /// None: nobody waits for the answer any more.
    Late,
}

// === impl TimeLimit ===

impl TimeLimit {
    /// The longest limit; it keeps every moment representable.
    pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    /// At most `limit`, and at most [`LONGEST`](Self::LONGEST).
    pub const fn new(limit: Duration) -> Self {
        if limit.as_nanos() < Self::LONGEST.as_nanos() {
            Self(limit)
        } else {
            Self(Self::LONGEST)
        }
    }

    /// Until when a request may run that comes at `now`: the earliest of this
    /// limit, the deadline it has already, and the time that its caller asks for.
    pub fn grant(
        self,
        outer: Option<Deadline>,
        now: Instant,
        asked: Option<Duration>,
    ) -> (Admission, Deadline) {
        let own = asked.map_or(self.0, |asked| asked.min(self.0));
        let own = Deadline::at(now + own);
        let deadline = outer.map_or(own, |outer| outer.min(own));
        let admission = match deadline.left(now) {
            Some(_) => Admission::Run,
            None => Admission::Late,
        };
        (admission, deadline)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn earliest_of_all_that_was_said_holds(
            limit in 0..u64::MAX,
            outer in proptest::option::of(-1_000_000..200_000_000_000_i64),
            asked in proptest::option::of(0..u64::MAX),
        ) {
            // Far enough from the clock's beginning to lie before now.
            let now = Instant::now() + Duration::from_secs(10);
            let outer = outer.map(|micros| {
                let span = Duration::from_micros(micros.unsigned_abs());
                Deadline::at(if micros < 0 { now - span } else { now + span })
            });
            let asked = asked.map(Duration::from_micros);
            let limit = Duration::from_micros(limit);
            let (admission, deadline) = TimeLimit::new(limit).grant(outer, now, asked);

            let said = [Some(limit), Some(TimeLimit::LONGEST), asked];
            let spans = said.into_iter().flatten();
            let shortest = Deadline::at(now + spans.min().unwrap());
            prop_assert_eq!(deadline, outer.map_or(shortest, |outer| outer.min(shortest)));
            prop_assert_eq!(admission == Admission::Run, deadline.instant() > now);
        }
    }

    #[test]
    fn endless_limit_is_a_day() {
        let now = Instant::now();
        let endless = TimeLimit::new(Duration::MAX);
        let (_, deadline) = endless.grant(None, now, Some(Duration::MAX));
        assert_eq!(deadline.left(now), Some(TimeLimit::LONGEST));
    }
}
