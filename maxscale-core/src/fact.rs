//! What layers know about a request and hand on in its extensions.
//!
//! Each layer adds one typed fact. A layer that misses a fact answers with an
//! error that names the layer to add.

mod forwarded;
mod network;
mod trace;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::HeaderName;
use tokio::time::Instant;

pub use forwarded::ForwardedBy;
pub use network::{Network, NetworkError, Networks};
pub use trace::{SpanId, TraceContext, TraceId};

/// What carries facts from layer to layer: an HTTP or gRPC request, or a job.
///
/// A layer that reads and adds facts through this trait alone stands around
/// all three.
pub trait Facts {
    /// The fact of type `T`, if a layer has added it.
    fn fact<T: Clone + Send + Sync + 'static>(&self) -> Option<&T>;

    /// Adds `fact`, in place of an earlier one of its type.
    fn add_fact<T: Clone + Send + Sync + 'static>(&mut self, fact: T);

    /// The text of the header `name`, if it was sent exactly once and is
    /// visible ASCII. What has no headers has none.
    fn header(&self, _name: &HeaderName) -> Option<&str> {
        None
    }
}

/// A place in a keyspace: the unit that moves between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualShard(u32);

/// Names one request in logs and answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// When the caller stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// The address of the client, as far as it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);

/// Who asks, as text; auth's principal contains one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(Arc<str>);

/// What a caller has paid for or been granted, as text: `free`, `team`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tier(Arc<str>);

/// Names a region: a part of the world whose data stays there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(Arc<str>);

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

// === impl Facts ===

impl<B> Facts for Request<B> {
    fn fact<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions().get()
    }

    fn add_fact<T: Clone + Send + Sync + 'static>(&mut self, fact: T) {
        self.extensions_mut().insert(fact);
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        let mut values = self.headers().get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }
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

    /// The time that is left at `now`; `None` when it is over.
    pub fn left(self, now: Instant) -> Option<Duration> {
        let left = self.0.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
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

// === impl Tier ===

impl Tier {
    /// The tier named `text`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The tier's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl RegionId ===

impl RegionId {
    /// The longest name of a region.
    pub const MAX_LEN: usize = 32;

    /// Takes `text` as a name if it is short and of lower-case ASCII letters,
    /// digits and `-`: it stands in URLs, metrics and names of databases.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (fits && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// The region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_sent_twice_or_not_of_text_is_no_header() {
        static NAME: HeaderName = HeaderName::from_static("x-a");
        let mut request = Request::new(());
        assert_eq!(request.header(&NAME), None);
        request.headers_mut().append("x-a", "one".parse().unwrap());
        assert_eq!(request.header(&NAME), Some("one"));
        request.headers_mut().append("x-a", "two".parse().unwrap());
        assert_eq!(request.header(&NAME), None);
        let bytes = http::HeaderValue::from_bytes(b"\xff").unwrap();
        request.headers_mut().insert("x-a", bytes);
        assert_eq!(request.header(&NAME), None);
    }

    #[test]
    fn names_of_regions_fit_into_urls_and_labels() {
        assert_eq!(RegionId::new("eu-1").unwrap().as_str(), "eu-1");
        let long = "a".repeat(RegionId::MAX_LEN + 1);
        for text in ["", "EU", "eu/1", "eu 1", "eü", &long] {
            assert_eq!(RegionId::new(text), None, "{text}");
        }
    }
}
