//! What layers know about a request and hand on in its extensions.
//!
//! Each layer adds one typed fact. A layer that misses a fact answers with an
//! error that names the layer to add.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

/// A place in a keyspace: the unit that moves between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualShard(u32);

/// Names one request in logs and answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// Names the trace that a request belongs to: 32 lower-case hex digits (W3C).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(Arc<str>);

/// When the caller stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// The address of the client, as far as it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);

/// Who asks, as text; auth's principal contains one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(Arc<str>);

/// A cached value that is no longer true, named by type and id.
///
/// The cache applies it, a queue may carry it; neither knows the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Invalidation {
    /// The cached type's name.
    pub kind: Arc<str>,
    /// The value's id within its type.
    pub id: Arc<str>,
}

// === impl VirtualShard ===

impl VirtualShard {
    /// The virtual shard `number`; a keyspace has at most 131,072.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The shard's number, from 0.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as `shard_id` columns store it.
    pub const fn as_i64(self) -> i64 {
        self.0 as i64
    }
}

impl fmt::Display for VirtualShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl RequestId ===

impl RequestId {
    /// The longest id taken over from a caller.
    pub const MAX_LEN: usize = 128;

    /// Takes `text` as an id if it is short and of printable ASCII.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.into()))
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl TraceId ===

impl TraceId {
    /// Takes `text` if it is 32 lower-case hex digits and not all zero.
    pub fn new(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 32 && text.bytes().all(hex) && text.bytes().any(|b| b != b'0'))
            .then(|| Self(text.into()))
    }

    /// The trace whose id is `number`; `None` for zero, which W3C forbids.
    pub fn from_number(number: u128) -> Option<Self> {
        (number != 0).then(|| Self(format!("{number:032x}").into()))
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Deadline ===

impl Deadline {
    /// A deadline at `instant` of tokio's clock.
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The moment, on tokio's clock.
    pub const fn instant(self) -> Instant {
        self.0
    }
}

// === impl Subject ===

impl Subject {
    /// The subject named `text`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The subject's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
