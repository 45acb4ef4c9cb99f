//! A stored response: complete, without what belongs to a connection or a client.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::StatusCode;
use http::header::{
    AGE, CONNECTION, CONTENT_LENGTH, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use maxscale_core::clock::Timestamp;
use maxscale_core::stripes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::judge::{Lifetime, Rules, Seen, time, written};
use super::select::Selection;
use super::status::{CACHE_STATUS, PLACE};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(super) struct Stored {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// When it came.
    pub(super) at: Timestamp,
    pub(super) life: Lifetime,
    /// Whether its tag was made here.
    pub(super) own_tag: bool,
    pub(super) selection: Selection,
    /// Part of the ids of the other responses of its resource, so that they are
    /// lost with this one.
    pub(super) salt: u64,
    /// The headers of a hit, as they are within one second.
    pub(super) told: Told,
}

/// Headers that were written for an age, so that not each answer of a second writes
/// them anew. Read without a lock, and in a few copies: a page that many want is asked
/// for by all threads, which would fight for the reference counts of its headers.
#[derive(Debug, Default)]
pub(super) struct Told([ArcSwapOption<(u64, HeaderMap)>; COPIES]);

/// So many threads tell the same headers without being in each other's way.
const COPIES: usize = 4;

/// How good a stored response is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// For so many seconds more.
    Fresh(u64),
    /// To be served while a new one is fetched.
    WhileRevalidate,
    Stale,
}

/// [`Stored`] as it is encoded.
#[derive(Serialize, Deserialize)]
struct Written {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    at: i64,
    age: u64,
    fresh: u64,
    swr: u64,
    sie: u64,
    own_tag: bool,
    selection: Vec<(String, Option<String>)>,
    salt: u64,
}

/// Bytes as text: encodings of texts make long lists of numbers of them.
struct Body(Bytes);

/// The text of a stored response makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("no stored response")]
struct Unreadable;

// === impl Stored ===

impl Stored {
    /// The headers of `answer` that may be stored; none if one is no text.
    pub(super) fn keep(answer: &HeaderMap, at: Timestamp) -> Option<HeaderMap> {
        const HOP_BY_HOP: [HeaderName; 5] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
        let mut headers = answer.clone();
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        for line in answer.get_all(CONNECTION) {
            for name in line.to_str().ok()?.split(',') {
                headers.remove(name.trim());
            }
        }
        let proxies: Vec<_> = headers
            .keys()
            .filter(|name| is_hop_by_hop(name))
            .cloned()
            .collect();
        for name in proxies {
            headers.remove(name);
        }
        headers.remove(CONTENT_LENGTH);
        if !headers.contains_key(DATE) {
            headers.insert(DATE, written(time(at)));
        }
        make_room(&mut headers);
        let texts = headers.values().all(|value| value.to_str().is_ok());
        texts.then_some(headers)
    }

    /// Gives it a tag, if it has neither tag nor date to be asked for by.
    pub(super) fn tag(&mut self) {
        if self.status != StatusCode::OK || self.headers.contains_key(ETAG) {
            return;
        }
        let mut tag = String::from("\"");
        for byte in &Sha256::digest(&self.body)[..16] {
            let _ = fmt::Write::write_fmt(&mut tag, format_args!("{byte:02x}"));
        }
        tag.push('"');
        if let Ok(tag) = HeaderValue::try_from(tag) {
            self.headers.insert(ETAG, tag);
            self.own_tag = true;
        }
    }

    /// How old it is, in seconds.
    pub(super) fn age(&self, now: Timestamp) -> u64 {
        self.life.age.saturating_add(now.since(self.at).as_secs())
    }

    /// The headers of a hit now, of which `write` writes those that change.
    pub(super) fn told(&self, now: Timestamp, write: impl FnOnce(&mut HeaderMap)) -> HeaderMap {
        let age = self.age(now);
        let mine = &self.told.0[stripes::of_this_thread() % COPIES];
        if let Some((of, told)) = mine.load().as_deref()
            && *of == age
        {
            return told.clone();
        }
        let mut headers = self.headers.clone();
        headers.insert(AGE, HeaderValue::from(age));
        write(&mut headers);
        for value in headers.values_mut() {
            // A clone would share its count with the copies of the others.
            if let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) {
                own.set_sensitive(value.is_sensitive());
                *value = own;
            }
        }
        mine.store(Some(Arc::new((age, headers.clone()))));
        headers
    }

    pub(super) fn freshness(&self, now: Timestamp) -> Freshness {
        let age = self.age(now);
        let end = self.life.fresh.saturating_add(self.life.while_revalidate);
        match self.life.fresh.checked_sub(age) {
            Some(left @ 1..) => Freshness::Fresh(left),
            _ if age < end => Freshness::WhileRevalidate,
            _ => Freshness::Stale,
        }
    }

    /// Whether it is better than an error.
    pub(super) fn serves_for_an_error(&self, now: Timestamp) -> bool {
        self.age(now) < self.life.fresh.saturating_add(self.life.if_error)
    }

    /// Whether it answers a request that says itself how fresh an answer has to be.
    pub(super) fn satisfies(&self, rules: Rules, request: &Parts, now: Timestamp) -> bool {
        let mut headers = self.headers.clone();
        headers.insert(AGE, HeaderValue::from(self.life.age));
        let seen = Seen {
            status: self.status,
            headers: &headers,
            at: self.at,
        };
        rules.satisfies(request, seen, now)
    }

    /// This response with the headers of the answer that confirmed it.
    pub(super) fn confirmed(&self, answer: &HeaderMap, at: Timestamp) -> Option<HeaderMap> {
        let fresh = Self::keep(answer, at)?;
        let mut headers = self.headers.clone();
        for name in fresh.keys().filter(|name| !describes_body(name)) {
            headers.remove(name);
            for value in fresh.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Some(headers)
    }
}

/// Puts in what each answer replaces, so that a copy of the headers need not grow.
fn make_room(headers: &mut HeaderMap) {
    headers.insert(AGE, HeaderValue::from_static("0"));
    headers.entry(CACHE_STATUS).or_insert(PLACE);
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    name.as_str() == "keep-alive" || name.as_str().starts_with("proxy-")
}

/// What an answer without the body cannot say anew of it (RFC 9111, 3.2).
fn describes_body(name: &HeaderName) -> bool {
    [
        "content-encoding",
        "content-type",
        "content-range",
        "content-md5",
    ]
    .contains(&name.as_str())
}

// === impl Told ===

impl Clone for Told {
    fn clone(&self) -> Self {
        Self::default()
    }
}

// === impl Written ===

impl From<Stored> for Written {
    fn from(stored: Stored) -> Self {
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            if *name == AGE || value == PLACE {
                return None;
            }
            let value = value.to_str().ok()?.to_owned();
            Some((name.as_str().to_owned(), value))
        };
        Self {
            status: stored.status.as_u16(),
            // All are text, or it would not be stored.
            headers: stored.headers.iter().filter_map(text).collect(),
            body: Body(stored.body),
            at: stored.at.as_micros(),
            age: stored.life.age,
            fresh: stored.life.fresh,
            swr: stored.life.while_revalidate,
            sie: stored.life.if_error,
            own_tag: stored.own_tag,
            selection: stored.selection.to_pairs(),
            salt: stored.salt,
        }
    }
}

impl TryFrom<Written> for Stored {
    type Error = Unreadable;

    fn try_from(written: Written) -> Result<Self, Unreadable> {
        let mut headers = HeaderMap::with_capacity(written.headers.len() + 2);
        for (name, value) in written.headers {
            let name: HeaderName = name.parse().map_err(|_| Unreadable)?;
            headers.append(name, HeaderValue::try_from(value).map_err(|_| Unreadable)?);
        }
        make_room(&mut headers);
        Ok(Self {
            status: StatusCode::from_u16(written.status).map_err(|_| Unreadable)?,
            headers,
            body: written.body.0,
            at: Timestamp::from_micros(written.at),
            life: Lifetime {
                age: written.age,
                fresh: written.fresh,
                while_revalidate: written.swr,
                if_error: written.sie,
            },
            own_tag: written.own_tag,
            selection: Selection::from_pairs(written.selection).ok_or(Unreadable)?,
            salt: written.salt,
            told: Told::default(),
        })
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let body = STANDARD_NO_PAD.decode(text);
        Ok(Self(body.map_err(serde::de::Error::custom)?.into()))
    }
}
