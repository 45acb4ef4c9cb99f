//! What the cache did, told in `Cache-Status` (RFC 9211) and counted.

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use maxscale_core::meter::{HotCounter, Meter, Metric};

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What stands where [`Teller::tell`] will write.
pub(super) const PLACE: HeaderValue = HeaderValue::from_static("");

const ANSWERS: Metric = Metric::new(
    "maxscale.cache.http.answers",
    "{answer}",
    "Answers that passed the HTTP cache.",
);

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// From the cache, fresh for so many seconds more.
    Hit { left: u64 },
    /// From the cache, past its time by so many seconds.
    Stale { by: u64 },
    /// Stale, and the inner service confirmed it or gave another.
    Revalidated { status: u16 },
    /// Nothing was stored for the request.
    Miss { stored: bool },
    /// The request is none for a cache.
    Bypass,
    /// Its method is none for a cache.
    Method,
    /// Nothing is stored, and nothing else was wanted.
    OnlyIfCached,
}

/// How often each happened.
#[derive(Debug)]
pub(super) struct Counts {
    hits: HotCounter,
    stale: HotCounter,
    revalidated: HotCounter,
    misses: HotCounter,
    bypassed: HotCounter,
}

/// Tells and counts.
#[derive(Debug)]
pub(super) struct Teller {
    name: String,
    counts: Counts,
}

// === impl Teller ===

impl Teller {
    pub(super) fn new(name: &str, meter: &Meter) -> Self {
        let count = |result| HotCounter::register(meter, ANSWERS, &[("result", result)]);
        // A structured field's token; what is none is left out of it.
        let token = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
        Self {
            name: name.chars().filter(token).collect(),
            counts: Counts {
                hits: count("hit"),
                stale: count("stale"),
                revalidated: count("revalidated"),
                misses: count("miss"),
                bypassed: count("bypass"),
            },
        }
    }

    /// Adds to an answer what became of its request.
    pub(super) fn tell(&self, headers: &mut HeaderMap, outcome: Outcome) {
        self.count(outcome);
        self.write(headers, outcome);
    }

    pub(super) fn write(&self, headers: &mut HeaderMap, outcome: Outcome) {
        let mut text = String::with_capacity(self.name.len() + 48);
        text.push_str(&self.name);
        let _ = match outcome {
            Outcome::Hit { left } => write!(text, "; hit; ttl={left}"),
            Outcome::Stale { by } => write!(text, "; hit; ttl=-{by}"),
            Outcome::Revalidated { status } => write!(text, "; fwd=stale; fwd-status={status}"),
            Outcome::Miss { stored: true } => write!(text, "; fwd=miss; stored"),
            Outcome::Miss { stored: false } => write!(text, "; fwd=miss"),
            Outcome::Bypass => write!(text, "; fwd=bypass"),
            Outcome::Method => write!(text, "; fwd=method"),
            Outcome::OnlyIfCached => write!(text, "; detail=only-if-cached"),
        };
        // Names and numbers: always text for a header.
        let Ok(text) = HeaderValue::try_from(text) else {
            return;
        };
        match headers.get_mut(CACHE_STATUS) {
            Some(place) if *place == PLACE => *place = text,
            _ => {
                headers.append(CACHE_STATUS, text);
            }
        }
    }

    pub(super) fn count(&self, outcome: Outcome) {
        let counts = &self.counts;
        let count = match outcome {
            Outcome::Hit { .. } => &counts.hits,
            Outcome::Stale { .. } => &counts.stale,
            Outcome::Revalidated { .. } => &counts.revalidated,
            Outcome::Miss { .. } | Outcome::OnlyIfCached => &counts.misses,
            Outcome::Bypass | Outcome::Method => &counts.bypassed,
        };
        count.add(1);
    }
}
