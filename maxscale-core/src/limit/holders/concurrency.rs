use std::time::Duration;

use crate::limit::Down;

/// How many may hold a place of one principal at once, and what becomes of the
/// place of one that is heard of no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    most: u32,
    lease: Duration,
    down: Down,
}

/// A concurrency that cannot be.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConcurrencyError {
    /// Nobody would ever hold a place.
    #[error("the concurrency is none; it is at least 1")]
    Zero,

    /// Each holder takes a place in the store, and each is renewed.
    #[error("the concurrency is over {}; use a rate", Concurrency::MOST)]
    TooMany,

    /// A short lease is lost by a slow network, a long one keeps the places of a dead
    /// process.
    #[error(
        "a lease of {} ms is not between {} s and {} s",
        lease.as_millis(),
        Concurrency::SHORTEST.as_secs(),
        Concurrency::LONGEST.as_secs()
    )]
    Lease {
        /// The lease given.
        lease: Duration,
    },
}

// === impl Concurrency ===

impl Concurrency {
    /// The most holders of one principal.
    pub const MOST: u32 = 10_000;

    /// How long a lease is, when nothing else is set.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

    /// The shortest lease.
    pub const SHORTEST: Duration = Duration::from_secs(1);

    /// The longest lease.
    pub const LONGEST: Duration = Duration::from_secs(3_600);

    /// At most `most` at once, each with a lease of [`Concurrency::DEFAULT_LEASE`].
    ///
    /// # Errors
    ///
    /// [`ConcurrencyError`] for none, and for more than [`Concurrency::MOST`].
    pub const fn new(most: u32) -> Result<Self, ConcurrencyError> {
        match most {
            0 => Err(ConcurrencyError::Zero),
            1..=Self::MOST => Ok(Self {
                most,
                lease: Self::DEFAULT_LEASE,
                down: Down::LocalShare,
            }),
            _ => Err(ConcurrencyError::TooMany),
        }
    }

    /// Sets after which time the place of a process that died is free. A holder that
    /// lives renews at a third of it.
    ///
    /// # Errors
    ///
    /// [`ConcurrencyError::Lease`] for one under [`Concurrency::SHORTEST`] or over
    /// [`Concurrency::LONGEST`].
    pub fn lease(mut self, lease: Duration) -> Result<Self, ConcurrencyError> {
        if !(Self::SHORTEST..=Self::LONGEST).contains(&lease) {
            return Err(ConcurrencyError::Lease { lease });
        }
        self.lease = lease;
        Ok(self)
    }

    /// Sets who gets a place while Redis is down. Default: [`Down::LocalShare`].
    #[must_use]
    pub const fn when_down(mut self, down: Down) -> Self {
        self.down = down;
        self
    }

    /// How many may hold a place.
    pub const fn most(&self) -> u32 {
        self.most
    }

    /// How long a place is kept for a holder that is not heard of.
    pub const fn lease_time(&self) -> Duration {
        self.lease
    }

    #[cfg(feature = "redis")]
    pub(super) const fn down(&self) -> Down {
        self.down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_that_cannot_be_is_refused() {
        assert_eq!(Concurrency::new(0), Err(ConcurrencyError::Zero));
        assert_eq!(Concurrency::new(u32::MAX), Err(ConcurrencyError::TooMany));
        for lease in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
            let built = Concurrency::new(1).and_then(|it| it.lease(lease));
            assert_eq!(built, Err(ConcurrencyError::Lease { lease }));
        }
        let hour = Concurrency::new(Concurrency::MOST).unwrap();
        assert!(hour.lease(Concurrency::LONGEST).is_ok());
    }
}
