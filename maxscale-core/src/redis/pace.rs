//! How often connections are looked after, and drawn apart by chance.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::control::Backoff;

/// How often an idle connection is asked for a sign of life.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

const RECONNECT: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// The wait before connecting again, drawn so that many processes do not come
/// at once.
pub(super) fn reconnect(attempt: u32) -> Duration {
    RECONNECT.wait(attempt, f64::from(draw()) / f64::from(u32::MAX))
}

/// Any number.
pub(super) fn draw() -> u32 {
    // Every `RandomState` differs from the one before and between processes.
    let draw = RandomState::new().hash_one(0_u8) >> 32;
    u32::try_from(draw).unwrap_or(0)
}
