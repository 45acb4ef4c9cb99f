//! What a store has under a key, and what its steps answer.

use std::time::Duration;

use bytes::Bytes;

use super::FENCE_TTL;
#[cfg(doc)]
use super::Remote;

/// The state of a key between two bumps. Never used twice for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    number: u64,
    lineage: u64,
}

/// What a store has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The value, unless there is only a fence.
    pub value: Option<Bytes>,
    /// The fence to fill under.
    pub fence: Fence,
}

/// What a [claim](Remote::claim) got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claimed {
    /// What is there now.
    pub found: Found,
    /// How long another claim has yet to go; zero if the claim is the caller's.
    pub wait: Duration,
    /// The store's clock, in microseconds.
    pub now: u64,
}

/// How a [bump](Remote::bump) changes a key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Bump {
    /// Whether the value stays, to be served while nobody has a newer one.
    pub keeps_value: bool,
    /// How long the fence is kept at least.
    pub ttl: Duration,
}

/// What a [bump](Remote::bump) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bumped {
    /// The fence from now on.
    pub fence: Fence,
    /// The version of the value that was there, 0 if there was none.
    pub before: u64,
}

// === impl Fence ===

impl Fence {
    /// The fence that a store numbers `number`.
    pub const fn new(number: u64) -> Self {
        Self::of(0, number)
    }

    /// The fence that a store numbers `number`, while its history of writes is
    /// `lineage`. A store that may have lost bumps has another history, and
    /// none of the fences from before.
    pub const fn of(lineage: u64, number: u64) -> Self {
        Self { number, lineage }
    }

    /// The store's number. It rises from bump to bump.
    pub const fn get(self) -> u64 {
        self.number
    }

    /// Which history of the store's writes it belongs to.
    pub const fn lineage(self) -> u64 {
        self.lineage
    }
}

// === impl Found ===

impl Found {
    /// `value` under `fence`.
    pub const fn new(value: Option<Bytes>, fence: Fence) -> Self {
        Self { value, fence }
    }
}

// === impl Claimed ===

impl Claimed {
    /// `found` at `now`; another claim has `wait` to go.
    pub const fn new(found: Found, wait: Duration, now: u64) -> Self {
        Self { found, wait, now }
    }
}

// === impl Bump ===

impl Bump {
    /// Drops the value.
    pub const fn new() -> Self {
        Self {
            keeps_value: false,
            ttl: FENCE_TTL,
        }
    }
}

impl Default for Bump {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Bumped ===

impl Bumped {
    /// The fence is `fence` now; the version was `before`.
    pub const fn new(fence: Fence, before: u64) -> Self {
        Self { fence, before }
    }
}
