//! When keys come and go. Pure: who stores them, and who wins where several processes
//! want to, is not known here.
//!
//! ```text
//!  next ──(published long enough, and the active one is old)──> active ──> retiring ──> gone
//! ```
//!
//! A key verifies from the moment it is [`Next`](KeyState::Next) until it is
//! [`Gone`](KeyState::Gone), and signs only between. So while no process's view is older
//! than [`Rotation::seen_within`], what any of them signs is verified by all.

use std::time::Duration;

use maxscale_core::clock::Timestamp;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// It is published, and signs nothing yet.
    Next,
    /// It signs.
    Active,
    /// It signs no more, and what it signed is still verified.
    Retiring,
    /// Nothing of it counts any more.
    Gone,
}

/// How often keys are exchanged, and how long each step is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    every: Duration,
    seen_within: Duration,
    life: Duration,
}

/// Times that leave a valid token without its key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// The time between two exchanges is shorter than what one takes.
    #[error("keys cannot be exchanged every {every:?}: an exchange takes {takes:?}")]
    TooOften {
        /// What was asked for.
        every: Duration,
        /// How long an exchange takes.
        takes: Duration,
    },
}

/// What is to be done with the keys now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Store a new key, as [`Next`](KeyState::Next); where no key is active, as
    /// [`Active`](KeyState::Active): no token was issued yet.
    Add(KeyState),
    /// Make the key of this place active, and the active one retiring, in one change.
    Promote(usize),
    /// Make the key of this place gone.
    Remove(usize),
}

// === impl Rotation ===

impl Rotation {
    /// How often by default.
    pub const DEFAULT_EVERY: Duration = Duration::from_secs(90 * 24 * 60 * 60);
    /// How old the view of any process or of any cache of the key set may be by default.
    pub const DEFAULT_SEEN_WITHIN: Duration = Duration::from_secs(60 * 60);

    /// An exchange every `every`, for tokens that live for `life`; each process, and who
    /// keeps the published key set, looks at the keys at least every `seen_within`.
    ///
    /// # Errors
    ///
    /// Returns [`RotationError`].
    pub fn new(
        every: Duration,
        seen_within: Duration,
        life: Duration,
    ) -> Result<Self, RotationError> {
        let rotation = Self {
            every,
            seen_within,
            life,
        };
        let takes = seen_within.saturating_add(rotation.retires_for());
        match every > takes {
            true => Ok(rotation),
            false => Err(RotationError::TooOften { every, takes }),
        }
    }

    /// The longest that a token may live that is signed by these keys.
    pub const fn life(&self) -> Duration {
        self.life
    }

    /// How old a process's view of the keys may be.
    pub const fn seen_within(&self) -> Duration {
        self.seen_within
    }

    /// A process may sign by it until it sees that it is retiring; then its last token
    /// lives on.
    fn retires_for(&self) -> Duration {
        (self.seen_within)
            .saturating_add(self.life)
            .saturating_add(2 * super::AccessTokens::LEEWAY)
    }

    /// What is to be done with keys in these states, each since that time; `None`: nothing
    /// now.
    ///
    /// One step at a time: ask again after each. Whoever does one must do it only if
    /// nobody has changed the keys meanwhile.
    pub fn step(&self, keys: &[(KeyState, Timestamp)], now: Timestamp) -> Option<Step> {
        let of = |state: KeyState| {
            let found = keys.iter().enumerate().find(move |(_, key)| key.0 == state);
            found.map(|(place, key)| (place, now.since(key.1)))
        };
        let next = of(KeyState::Next);
        let Some((_, signs_for)) = of(KeyState::Active) else {
            // Where a key waits, somebody may know it already.
            return Some(next.map_or(Step::Add(KeyState::Active), |(it, _)| Step::Promote(it)));
        };
        let gone = |key: &(KeyState, Timestamp)| {
            key.0 == KeyState::Retiring && now.since(key.1) >= self.retires_for()
        };
        if let Some(place) = keys.iter().position(gone) {
            return Some(Step::Remove(place));
        }
        match next {
            Some((place, published)) => {
                let due = published >= self.seen_within && signs_for >= self.every;
                due.then_some(Step::Promote(place))
            }
            None => {
                let due = signs_for.saturating_add(self.seen_within) >= self.every;
                due.then_some(Step::Add(KeyState::Next))
            }
        }
    }

    /// How long [`step`](Self::step) has nothing to do with these keys.
    pub fn due_in(&self, keys: &[(KeyState, Timestamp)], now: Timestamp) -> Duration {
        let left = |since: Timestamp, span: Duration| span.saturating_sub(now.since(since));
        let of = |state: KeyState| keys.iter().find(move |key| key.0 == state);
        let Some((_, signs)) = of(KeyState::Active) else {
            return Duration::ZERO;
        };
        let next = match of(KeyState::Next) {
            Some((_, published)) => {
                left(*published, self.seen_within).max(left(*signs, self.every))
            }
            None => left(*signs, self.every.saturating_sub(self.seen_within)),
        };
        let retiring = keys.iter().filter(|key| key.0 == KeyState::Retiring);
        let gone = retiring.map(|key| left(key.1, self.retires_for()));
        gone.fold(next, Duration::min)
    }
}

#[cfg(test)]
mod tests;
