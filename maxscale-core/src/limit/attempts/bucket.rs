//! What is kept of attempts, as pure arithmetic: (state, now, bounds) → (answer,
//! state). `redis/attempt.lua` computes the same; a test holds both equal.
//!
//! Times are microseconds.

/// How many may be tried, and how long to wait after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limit) struct Bounds {
    pub(in crate::limit) limit: u32,
    pub(in crate::limit) window: i64,
    /// The wait after the first failure; it doubles with each further one.
    pub(in crate::limit) base: i64,
    pub(in crate::limit) longest: i64,
}

/// Attempts of one client at one account, or of all strangers at one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::limit) struct Bucket {
    /// When they were reserved, the oldest first. What is given back is known by its
    /// moment: those of the same are alike.
    pub(in crate::limit) moments: Vec<i64>,
    /// Those that failed, since the last that succeeded.
    pub(in crate::limit) failures: u32,
    /// When the wait after them is over.
    pub(in crate::limit) until: i64,
    /// Some of it was of a time to come.
    pulled: bool,
}

/// What an attempt is decided by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::limit) struct Book {
    /// Of this client at this account.
    pub(in crate::limit) pair: Bucket,
    /// Of all clients that never succeeded here.
    pub(in crate::limit) strangers: Bucket,
    /// Whether this client did.
    pub(in crate::limit) known: bool,
}

/// What each part of a [`Book`] is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limit) struct Terms {
    pub(in crate::limit) pair: Bounds,
    pub(in crate::limit) strangers: Bounds,
    /// For how long a client is known that succeeded.
    pub(in crate::limit) known: i64,
}

/// An attempt that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limit) struct Reserved {
    pub(in crate::limit) moment: i64,
    pub(in crate::limit) known: bool,
}

/// Doublings after which any wait is the longest.
const DOUBLINGS: u32 = 40;

// === impl Bounds ===

impl Bounds {
    /// The wait after so many failures.
    pub(in crate::limit) fn backoff(&self, failures: u32) -> i64 {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS);
        self.base.saturating_mul(1 << doublings).min(self.longest)
    }

    /// One of so many equal parts, of at least one attempt.
    #[cfg(feature = "redis")]
    const fn part(self, parts: u32) -> Self {
        let parts = if parts == 0 { 1 } else { parts };
        let limit = self.limit / parts;
        Self {
            limit: if limit == 0 { 1 } else { limit },
            ..self
        }
    }
}

// === impl Terms ===

impl Terms {
    #[cfg(feature = "redis")]
    pub(in crate::limit) const fn part(self, parts: u32) -> Self {
        Self {
            pair: self.pair.part(parts),
            strangers: self.strangers.part(parts),
            ..self
        }
    }
}

// === impl Bucket ===

impl Bucket {
    /// As it is now: what has run out is gone, what cannot be is pulled in.
    pub(in crate::limit) fn see(mut self, bounds: &Bounds, now: i64) -> Self {
        self.moments.retain(|at| *at > now - bounds.window);
        // Longer than a failure can make anybody wait, so that each who waits and
        // fails again waits the longer.
        if self.until + bounds.window <= now {
            (self.failures, self.until) = (0, 0);
        }
        let late = now + bounds.longest;
        self.pulled = self.moments.last().is_some_and(|last| *last > now) || self.until > late;
        self.until = self.until.min(late);
        for moment in &mut self.moments {
            *moment = (*moment).min(now);
        }
        self
    }

    /// The time until one more may be tried, if nothing else happens.
    pub(in crate::limit) fn wait(&self, bounds: &Bounds, now: i64) -> i64 {
        let limit = usize::try_from(bounds.limit).unwrap_or(usize::MAX);
        let over = self.moments.len().checked_sub(limit);
        let room = over.and_then(|over| self.moments.get(over));
        let room = room.map_or(0, |at| at + bounds.window - now);
        room.max(self.until - now).max(0)
    }

    fn fail(&mut self, bounds: &Bounds, now: i64) {
        self.failures = (self.failures + 1).min(DOUBLINGS + 1);
        self.until = self.until.max(now + bounds.backoff(self.failures));
    }

    fn give_back(&mut self, moment: i64) {
        if let Some(place) = self.moments.iter().position(|at| *at == moment) {
            self.moments.remove(place);
        }
    }

    /// From when on nothing of it counts.
    pub(in crate::limit) fn over_at(&self, bounds: &Bounds) -> i64 {
        let moments = self.moments.last().map_or(0, |at| at + bounds.window);
        let failures = match self.failures {
            0 => 0,
            _ => self.until + bounds.window,
        };
        moments.max(failures)
    }

    /// Whether it must be stored, so that a wait that was told comes true.
    pub(in crate::limit) const fn is_pulled(&self) -> bool {
        self.pulled
    }
}

// === impl Book ===

impl Book {
    /// Reserves an attempt, or gives the wait until there is one. A stranger, whom
    /// `elsewhere` makes wait, waits as long.
    pub(in crate::limit) fn begin(
        &mut self,
        terms: &Terms,
        elsewhere: i64,
        now: i64,
    ) -> Result<Reserved, i64> {
        let known = self.known;
        let mut wait = self.pair.wait(&terms.pair, now);
        if !known {
            let strangers = self.strangers.wait(&terms.strangers, now);
            wait = wait.max(strangers).max(elsewhere);
        }
        if wait > 0 {
            return Err(wait);
        }
        self.pair.moments.push(now);
        if !known {
            self.strangers.moments.push(now);
        }
        Ok(Reserved { moment: now, known })
    }

    /// Notes that an attempt failed; gives the wait until the next.
    pub(in crate::limit) fn fail(&mut self, terms: &Terms, now: i64) -> i64 {
        self.pair.fail(&terms.pair, now);
        self.pair.wait(&terms.pair, now)
    }

    /// Gives the attempt back, and knows its client from now on.
    pub(in crate::limit) fn succeed(&mut self, reserved: Reserved) {
        self.give_back(reserved);
        (self.pair.failures, self.pair.until) = (0, 0);
        self.known = true;
    }

    /// Gives back an attempt that was not made.
    pub(in crate::limit) fn give_back(&mut self, reserved: Reserved) {
        self.pair.give_back(reserved.moment);
        if !reserved.known {
            self.strangers.give_back(reserved.moment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn terms() -> Terms {
        let bounds = |limit, base| Bounds {
            limit,
            window: 900 * SECOND,
            base,
            longest: 900 * base,
        };
        Terms {
            pair: bounds(5, SECOND),
            strangers: bounds(50, 0),
            known: 1_000 * SECOND,
        }
    }

    fn fresh() -> Book {
        Book {
            pair: Bucket::default(),
            strangers: Bucket::default(),
            known: false,
        }
    }

    fn at(book: &Book, now: i64) -> Book {
        let terms = terms();
        Book {
            pair: book.pair.clone().see(&terms.pair, now),
            strangers: book.strangers.clone().see(&terms.strangers, now),
            known: book.known,
        }
    }

    #[test]
    fn waits_after_failures_double_up_to_the_longest() {
        let bounds = terms().pair;
        let waits = [1, 2, 3, 4, 10, 11, 40, u32::MAX].map(|n| bounds.backoff(n) / SECOND);
        assert_eq!(waits, [1, 2, 4, 8, 512, 900, 900, 900]);
    }

    #[test]
    fn who_waits_as_told_each_time_may_try_and_no_more_than_the_limit_in_any_window() {
        let (mut book, mut now, terms) = (fresh(), 1_000_000 * SECOND, terms());
        let mut made: Vec<i64> = Vec::new();
        for _ in 0..200 {
            book = at(&book, now);
            let tried = book.begin(&terms, 0, now);
            assert!(tried.is_ok(), "{book:?}");
            made.push(now);
            now += 1_000;
            let wait = book.fail(&terms, now);
            assert!(wait > 0);
            assert!(
                at(&book, now + wait - 1)
                    .begin(&terms, 0, now + wait - 1)
                    .is_err()
            );
            now += wait;
        }
        for six in made.windows(6) {
            assert!(six[5] - six[0] >= terms.pair.window, "{six:?}");
        }
        // In the end each waits as long as it can.
        assert!(now - made[199] >= 900 * SECOND);
    }

    #[test]
    fn success_gives_back_its_own_attempt_and_no_other() {
        let (mut book, now, terms) = (fresh(), SECOND, terms());
        let tried: Vec<_> = (0..5)
            .map(|n| book.begin(&terms, 0, now + n).unwrap())
            .collect();
        assert!(book.begin(&terms, 0, now + 5).is_err());
        book.succeed(tried[2]);
        assert_eq!(book.pair.moments, [now, now + 1, now + 3, now + 4]);
        assert_eq!(book.strangers.moments, book.pair.moments);
        // A second time there is nothing to give back.
        book.succeed(tried[2]);
        assert_eq!(book.pair.moments.len(), 4);
    }

    #[test]
    fn client_that_is_known_is_judged_by_its_own_attempts_alone() {
        let (mut book, now, terms) = (fresh(), 1_000 * SECOND, terms());
        book.strangers.moments = vec![now; 50];
        assert!(book.begin(&terms, 0, now).is_err());
        book.known = true;
        assert!(book.begin(&terms, SECOND, now).is_ok());
        assert_eq!(book.strangers.moments.len(), 50);
    }
}
