//! Counts per minute of the last three days. Pure: the minute is passed in.

/// What happened in one minute, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All requests.
    pub(super) total: u64,
    /// Those that failed.
    pub(super) failed: u64,
    /// Those that took longer than each threshold.
    pub(super) slow: [u64; THRESHOLDS],
}

/// How many thresholds of latency there can be.
pub(super) const THRESHOLDS: usize = 3;

/// The longest window, in minutes.
pub(super) const MINUTES: usize = 3 * 24 * 60;

/// The newest is the last that was added to.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    minutes: Vec<Counts>,
    newest: u64,
}

// === impl Counts ===

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.failed += other.failed;
        for (sum, more) in self.slow.iter_mut().zip(other.slow) {
            *sum += more;
        }
    }
}

// === impl Ring ===

impl Ring {
    pub(super) fn new(minute: u64) -> Self {
        Self {
            minutes: vec![Counts::default(); MINUTES],
            newest: minute,
        }
    }

    /// Adds what happened in `minute`; what is older than the ring is dropped.
    pub(super) fn add(&mut self, minute: u64, counts: &Counts) {
        self.go_on(minute);
        if self.newest - minute.min(self.newest) < MINUTES as u64 {
            let at = place(minute);
            self.minutes[at].add(counts);
        }
    }

    /// The sum of the last `window` minutes, `now`'s included.
    pub(super) fn sum(&self, now: u64, window: usize) -> Counts {
        let mut sum = Counts::default();
        let first = (now + 1).saturating_sub(window as u64);
        // What the ring has not come to yet is nothing, and what it has left is gone.
        let oldest = (self.newest + 1).saturating_sub(MINUTES as u64);
        for minute in first.max(oldest)..=now.min(self.newest) {
            sum.add(&self.minutes[place(minute)]);
        }
        sum
    }

    fn go_on(&mut self, minute: u64) {
        let steps = minute.saturating_sub(self.newest).min(MINUTES as u64);
        for step in 0..steps {
            self.minutes[place(minute - step)] = Counts::default();
        }
        self.newest = self.newest.max(minute);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder by a small number"
)]
const fn place(minute: u64) -> usize {
    (minute % MINUTES as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(failed: u64) -> Counts {
        Counts {
            total: 1,
            failed,
            slow: [failed, 0, 0],
        }
    }

    #[test]
    fn window_has_its_minutes_and_no_others() {
        let mut ring = Ring::new(100);
        for minute in 100..110 {
            ring.add(minute, &one(minute % 2));
        }
        assert_eq!(ring.sum(109, 5).total, 5);
        assert_eq!(ring.sum(109, 4).failed, 2);
        assert_eq!(ring.sum(111, 5).total, 3);
        assert_eq!(ring.sum(109, MINUTES).total, 10);
        // A clock that jumps back adds to what is there; one that leaps forgets.
        ring.add(105, &one(1));
        assert_eq!(ring.sum(109, 5).total, 6);
        ring.add(100 + 10 * MINUTES as u64, &one(1));
        assert_eq!(ring.sum(100 + 10 * MINUTES as u64, MINUTES).total, 1);
        ring.add(109, &one(1));
        assert_eq!(ring.sum(100 + 10 * MINUTES as u64, MINUTES).total, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sums_are_those_of_a_list(
            steps in proptest::collection::vec(0..2_000_u64, 1..60),
            window in 1..MINUTES,
        ) {
            let (mut ring, mut list, mut now) = (Ring::new(7), Vec::new(), 7);
            for step in steps {
                now += step;
                ring.add(now, &one(step % 2));
                list.push((now, step % 2));
            }
            let inside = list.iter().filter(|(minute, _)| minute + window as u64 > now);
            prop_assert_eq!(ring.sum(now, window).total, inside.clone().count() as u64);
            let failed: u64 = inside.map(|(_, failed)| failed).sum();
            prop_assert_eq!(ring.sum(now, window).failed, failed);
        }
    }
}
