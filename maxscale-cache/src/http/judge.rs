//! Whether a response may be stored, and for how long it is good.
//!
//! The rules of RFC 9111 are `http-cache-semantics`'. It is shown headers that
//! were read strictly before ([`Directives`]), and asked for less than the RFC
//! allows: see [`Storing`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderValue, PRAGMA, SET_COOKIE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use httpdate::{fmt_http_date, parse_http_date};
use maxscale_core::clock::Timestamp;

use super::directives::{Directives, seconds};

/// Which responses are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storing {
    /// Those that say that they are for everybody: with `public` or `s-maxage` in
    /// `Cache-Control`, or with a time in `CDN-Cache-Control`. Of a cache
    /// [per principal](super::HttpCacheBuilder::per_principal): those with `max-age`
    /// or `Expires`.
    #[default]
    Explicit,
    /// Also those with `max-age` or `Expires` alone, as RFC 9111 allows: for routes
    /// of which every response is the same for everybody.
    Rfc9111,
}

/// What a cache asks of responses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) storing: Storing,
    /// Stored for one principal each, and so private ones too.
    pub(super) per_principal: bool,
}

/// How old a response was when it came, and how long it is good, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) age: u64,
    /// The age up to which it is fresh.
    pub(super) fresh: u64,
    /// How long after that it may be served while a new one is fetched.
    pub(super) while_revalidate: u64,
    /// How long after that it may be served if no new one can be had.
    pub(super) if_error: u64,
}

/// A response's status and headers, and when they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) at: Timestamp,
}

impl Rules {
    /// How long the response `seen` to `request` may be stored; none if not at all.
    pub(super) fn judge(self, request: &Parts, seen: Seen<'_>) -> Option<Lifetime> {
        let headers = seen.headers;
        if headers.contains_key(SET_COOKIE) || headers.contains_key("set-cookie2") {
            return None;
        }
        let said = self.said(headers);
        if !self.is_meant(&said, headers) {
            return None;
        }
        let policy = self.policy(request, seen);
        let now = time(seen.at);
        let left = policy.time_to_live(now).as_secs();
        if !policy.is_storable() || left == 0 {
            return None;
        }
        let must_ask = ["must-revalidate", "proxy-revalidate", "no-cache"];
        let stale = |name| match must_ask.iter().any(|must| said.has(must)) {
            true => 0,
            false => said.seconds(name).unwrap_or(0),
        };
        let age = policy.age(now).as_secs();
        Some(Lifetime {
            age,
            fresh: age.saturating_add(left),
            while_revalidate: stale("stale-while-revalidate"),
            if_error: stale("stale-if-error"),
        })
    }

    /// Whether a stored response answers `request`, whose own `Cache-Control` may
    /// ask for more or be content with less.
    pub(super) fn satisfies(self, request: &Parts, seen: Seen<'_>, now: Timestamp) -> bool {
        let mut plain = get(request);
        let asked = Directives::of(&request.headers).plain();
        if let Ok(asked) = HeaderValue::try_from(asked) {
            plain.headers_mut().insert(CACHE_CONTROL, asked);
        }
        let policy = self.policy(&get(request).into_parts().0, seen);
        let answer = policy.before_request(&plain, time(now));
        matches!(answer, BeforeRequest::Fresh(_))
    }

    /// The directives that count here.
    fn said(self, headers: &HeaderMap) -> Directives {
        let cdn = match self.per_principal {
            true => None,
            false => Directives::of_cdn(headers),
        };
        cdn.unwrap_or_else(|| Directives::of(headers))
    }

    fn is_meant(self, said: &Directives, headers: &HeaderMap) -> bool {
        let timed = said.has("max-age") || said.has("s-maxage");
        match self.storing {
            Storing::Rfc9111 => timed || headers.contains_key(EXPIRES),
            _ if self.per_principal => said.has("max-age") || headers.contains_key(EXPIRES),
            _ if Directives::of_cdn(headers).is_some() => timed,
            _ => said.has("public") || said.has("s-maxage"),
        }
    }

    fn policy(self, request: &Parts, seen: Seen<'_>) -> CachePolicy {
        let mut response = Response::new(());
        *response.status_mut() = seen.status;
        let headers = response.headers_mut();
        headers.clone_from(seen.headers);
        if !self.per_principal && Directives::of_cdn(seen.headers).is_some() {
            // It speaks instead of them, not beside them.
            headers.remove(EXPIRES);
            headers.remove(PRAGMA);
        }
        let said = HeaderValue::try_from(self.said(seen.headers).plain());
        match said {
            Ok(said) if !said.is_empty() => headers.insert(CACHE_CONTROL, said),
            _ => headers.remove(CACHE_CONTROL),
        };
        read_strictly(headers, time(seen.at));
        let options = CacheOptions {
            shared: !self.per_principal,
            // Nothing is good for a time that nobody said.
            cache_heuristic: 0.0,
            immutable_min_time_to_live: Duration::ZERO,
            ignore_cargo_cult: false,
        };
        let mut asked = get(request);
        asked.headers_mut().clone_from(&request.headers);
        let directives = Directives::of(&request.headers).plain();
        if let Ok(directives) = HeaderValue::try_from(directives) {
            asked.headers_mut().insert(CACHE_CONTROL, directives);
        }
        CachePolicy::new_options(&asked, &response, time(seen.at), options)
    }
}

/// The request's line, as a GET: HEAD is answered from what GET got.
fn get(request: &Parts) -> Request<()> {
    let mut plain = Request::new(());
    *plain.uri_mut() = request.uri.clone();
    plain
}

/// Times as the RFC writes them, and the age by whatever makes it greater.
fn read_strictly(headers: &mut HeaderMap, at: SystemTime) {
    let read = |headers: &HeaderMap, name| {
        let mut lines = headers.get_all(name).iter();
        let (line, more) = (lines.next()?, lines.next());
        let date = line.to_str().ok().filter(|_| more.is_none());
        Some(date.and_then(|date| parse_http_date(date).ok()))
    };
    let date = read(headers, DATE).flatten();
    let age = headers.get(AGE).and_then(|age| age.to_str().ok());
    // Of several the first.
    let age = age.and_then(|age| seconds(age.split([',', ';']).next()?.trim()));
    let apparent = date.and_then(|date| at.duration_since(date).ok());
    let apparent = apparent.map_or(0, |apparent| apparent.as_secs());
    headers.insert(AGE, HeaderValue::from(age.unwrap_or(0).max(apparent)));
    match date.map(written) {
        Some(date) => headers.insert(DATE, date),
        None => headers.remove(DATE),
    };
    if let Some(expires) = read(headers, EXPIRES) {
        let never = HeaderValue::from_static("0");
        headers.insert(EXPIRES, expires.map_or(never, written));
    }
}

pub(super) fn written(time: SystemTime) -> HeaderValue {
    // Its years have four digits, so it is always text for a header.
    HeaderValue::try_from(fmt_http_date(time)).unwrap_or(HeaderValue::from_static("0"))
}

pub(super) fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + at.since(Timestamp::from_micros(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPLICIT: Rules = Rules {
        storing: Storing::Explicit,
        per_principal: false,
    };
    const RFC: Rules = Rules {
        storing: Storing::Rfc9111,
        per_principal: false,
    };
    const PRINCIPAL: Rules = Rules {
        storing: Storing::Explicit,
        per_principal: true,
    };

    fn judge(
        rules: Rules,
        request: &[(&'static str, &str)],
        answer: &[(&'static str, &str)],
    ) -> Option<Lifetime> {
        let mut asked = Request::get("/").body(()).unwrap();
        for (name, value) in request {
            asked.headers_mut().append(*name, value.parse().unwrap());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in answer {
            headers.append(*name, value.parse().unwrap());
        }
        let seen = Seen {
            status: StatusCode::OK,
            headers: &headers,
            at: Timestamp::from_micros(1_700_000_000_000_000),
        };
        rules.judge(&asked.into_parts().0, seen)
    }

    #[test]
    fn nothing_is_stored_that_does_not_say_so() {
        for (answer, explicit, rfc) in [
            (&[][..], None, None),
            (&[("cache-control", "max-age=9")], None, Some(9)),
            (&[("cache-control", "public, max-age=9")], Some(9), Some(9)),
            (&[("cache-control", "PUBLIC, Max-Age=9")], Some(9), Some(9)),
            (
                &[("cache-control", "s-maxage=9, max-age=3")],
                Some(9),
                Some(9),
            ),
            (&[("cache-control", "public")], None, None),
            (&[("cache-control", "s-maxage=9, Private")], None, None),
            (&[("cache-control", "s-maxage=9, no-store")], None, None),
            (
                &[("cache-control", "s-maxage=9, no-cache=\"x\"")],
                None,
                None,
            ),
            (
                &[("cache-control", "s-maxage=9"), ("vary", "*")],
                None,
                None,
            ),
            (
                &[("cache-control", "s-maxage=9"), ("set-cookie", "a=b")],
                None,
                None,
            ),
            (
                &[
                    ("cache-control", "public, max-age=9"),
                    ("set-cookie", "a=b"),
                ],
                None,
                None,
            ),
            (&[("cache-control", "s-maxage=9"), ("age", "9")], None, None),
            (
                &[
                    ("cdn-cache-control", "max-age=9"),
                    ("cache-control", "no-store"),
                ],
                Some(9),
                Some(9),
            ),
            (
                &[
                    ("cdn-cache-control", "no-store"),
                    ("cache-control", "s-maxage=9"),
                ],
                None,
                None,
            ),
            (
                &[
                    ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT"),
                    ("cache-control", "public"),
                ],
                None,
                None,
            ),
        ] {
            let fresh = |rules| judge(rules, &[], answer).map(|life| life.fresh);
            assert_eq!((fresh(EXPLICIT), fresh(RFC)), (explicit, rfc), "{answer:?}");
        }
    }

    #[test]
    fn answer_to_credentials_is_stored_only_where_the_rfc_allows() {
        let asked = [("authorization", "Bearer x")];
        for (said, stored) in [
            ("max-age=9", false),
            ("max-age=9, public", true),
            ("max-age=9, must-revalidate", true),
            ("s-maxage=9", true),
        ] {
            let answer = [("cache-control", said)];
            assert_eq!(judge(RFC, &asked, &answer).is_some(), stored, "{said}");
        }
    }

    #[test]
    fn private_responses_are_for_caches_per_principal() {
        let asked = [("authorization", "Bearer x")];
        for (said, stored) in [
            ("private, max-age=9", true),
            ("private", false),
            ("no-store, max-age=9", false),
            ("s-maxage=9", false),
        ] {
            let answer = [("cache-control", said)];
            assert_eq!(
                judge(PRINCIPAL, &asked, &answer).is_some(),
                stored,
                "{said}"
            );
        }
    }

    #[test]
    fn stale_is_served_only_where_nothing_forbids_it() {
        let stale = |said: &str| {
            let life = judge(EXPLICIT, &[], &[("cache-control", said)]).unwrap();
            (life.while_revalidate, life.if_error)
        };
        let said = "s-maxage=1, stale-while-revalidate=5, stale-if-error=7";
        assert_eq!(stale(said), (5, 7));
        assert_eq!(stale(&format!("{said}, must-revalidate")), (0, 0));
        assert_eq!(stale("public, max-age=1"), (0, 0));
    }

    #[test]
    fn age_counts_from_where_the_response_was_made() {
        let answer = [("cache-control", "s-maxage=60"), ("age", "20, 0")];
        let life = judge(EXPLICIT, &[], &answer).unwrap();
        assert_eq!((life.age, life.fresh), (20, 60));
    }
}
