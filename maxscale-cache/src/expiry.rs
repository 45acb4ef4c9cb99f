//! Entries that each say how long they live, for moka.

#![expect(
    clippy::disallowed_types,
    reason = "moka hands its own clock's times in; nothing here reads them"
)]

use std::time::{Duration, Instant};

use moka::Expiry;

/// Says how long this value is kept from the moment it is put in.
pub(crate) trait Expires {
    fn ttl(&self) -> Duration;
}

/// Keeps each value for the time that it [says](Expires::ttl).
pub(crate) struct OwnTtl;

impl<K, V: Expires> Expiry<K, V> for OwnTtl {
    fn expire_after_create(&self, _: &K, value: &V, _: Instant) -> Option<Duration> {
        Some(value.ttl())
    }

    // Without this an update would keep the time of the value before it.
    fn expire_after_update(
        &self,
        _: &K,
        value: &V,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(value.ttl())
    }
}
