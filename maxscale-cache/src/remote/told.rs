//! What processes that share a store say to each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

#[cfg(doc)]
use super::Remote;

/// What is told to all who listen.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Notice<'a> {
    /// Whom it is for.
    pub channel: &'a str,
    /// What is told: ASCII text of at most some kilobytes.
    pub message: &'a str,
}

/// What a process says when it [beats](Remote::beat).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Advert<'a> {
    /// The board on which processes that share values meet.
    pub board: &'a str,
    /// Names this process among them.
    pub origin: &'a str,
    /// The time of the last [`Beat`] that it took in, 0 for none.
    pub seen: u64,
    /// The schemas that it uses, and how long values of each may live.
    pub schemas: &'a [(Arc<str>, Duration)],
    /// What is told to all who listen.
    pub notice: Notice<'a>,
}

/// What a process learns when it [beats](Remote::beat).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beat {
    /// The store's clock, in microseconds.
    pub now: u64,
    /// Since when, by that clock, the board was not lost. Values from before
    /// must not be used: nobody knows who missed which of them.
    pub era: u64,
    /// Every schema of which values may live, and how long its users have yet
    /// to stay away from the store, until all others know of it.
    pub schemas: Vec<(String, Duration)>,
    /// How long one may rely on it.
    pub valid_for: Duration,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// A message of some [`Notice`], one's own included.
    Message(Bytes),
    /// Messages may have been lost: anything may have been dropped.
    Missed,
}

// === impl Notice ===

impl<'a> Notice<'a> {
    /// `message` for all who listen on `channel`.
    pub const fn new(channel: &'a str, message: &'a str) -> Self {
        Self { channel, message }
    }
}

// === impl Advert ===

impl<'a> Advert<'a> {
    /// `origin` is on `board`, uses `schemas`, and tells `notice`.
    pub const fn new(
        board: &'a str,
        origin: &'a str,
        seen: u64,
        schemas: &'a [(Arc<str>, Duration)],
        notice: Notice<'a>,
    ) -> Self {
        Self {
            board,
            origin,
            seen,
            schemas,
            notice,
        }
    }
}

// === impl Beat ===

impl Beat {
    /// What the board says at `now`.
    pub const fn new(
        now: u64,
        era: u64,
        schemas: Vec<(String, Duration)>,
        valid_for: Duration,
    ) -> Self {
        Self {
            now,
            era,
            schemas,
            valid_for,
        }
    }
}
