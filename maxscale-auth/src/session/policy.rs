//! How long sessions last, and how somebody proved who he is.

use std::num::NonZeroU32;
use std::time::Duration;

use super::record::{Level, Methods};

/// How long sessions last, and how many one user may have.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionPolicy {
    /// How long a session lasts without a request. Default: 30 days.
    pub idle: Duration,
    /// How long a session lasts at most. Default: 90 days.
    pub absolute: Duration,
    /// How long the old secret counts after an exchange. Default: 10 s.
    pub grace: Duration,
    /// The sessions that one user may have; a further one ends the one that was
    /// active longest ago. Default: 50, at most 100.
    pub per_user: NonZeroU32,
    /// How old the stored time of a session's last request has to be before it is
    /// written again. Default: 60 s.
    ///
    /// It is never more than a quarter of what a session lasts without a request.
    /// Requests do not wait for it: see [`Sessions`](super::Sessions).
    pub touch_every: Duration,
}

/// How somebody proved who he is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "all that a session keeps of it")]
pub struct Proof {
    /// How strong the proof is.
    pub level: Level,
    /// By what it was made.
    pub methods: Methods,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            idle: 30 * DAY,
            absolute: 90 * DAY,
            grace: Duration::from_secs(10),
            per_user: NonZeroU32::new(50).expect("not zero"),
            touch_every: Duration::from_secs(60),
        }
    }
}
