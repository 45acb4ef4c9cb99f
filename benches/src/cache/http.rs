//! A response from the cache over TCP, against a handler that has it at hand.

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::get;
use maxscale_cache::Hub;
use maxscale_cache::http::{HttpCache, HttpCacheLayer};
use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report};

use crate::wire::{CLIENTS, Server, Talk};

/// A page of some size, and the tag that it gets.
const BODY: &[u8] = &[b'x'; 2_048];

/// What a browser sends, but for cookies.
const REQUEST: &str = "GET /articles/7?page=2 HTTP/1.1\r\nhost: www.example.com\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: text/html,application/xhtml+xml\r\naccept-language: en\r\n\
    accept-encoding: gzip, deflate, br\r\n\r\n";

pub(crate) async fn hit_vs_static(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "cache.http_hit_vs_static";
    let cache = HttpCache::builder(&Hub::builder().build(), "page").build();
    let page = || async { (told(), Bytes::from_static(BODY)) };
    let cached = Router::new().route("/articles/{id}", get(page));
    let cached = Server::start(cached.layer(HttpCacheLayer::new(cache))).await?;
    // The same headers and as many bytes as a hit has.
    let page = || async { (told_by_a_hit(), Bytes::from_static(BODY)) };
    let plain = Server::start(Router::new().route("/articles/{id}", get(page))).await?;
    let talk = |mark| Talk {
        request: REQUEST,
        body: BODY.len(),
        mark,
    };
    talk("fwd=miss; stored")
        .ask_all(cached.address(), 1)
        .await?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let ours = |count| talk("hit; ttl=").ask_all(cached.address(), count);
        let theirs = |count| talk("hit; ttl=").ask_all(plain.address(), count);
        rounds.round(ours, theirs).await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}, {CLIENTS} connections"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target: 0.85,
    });
    Ok(())
}

fn told() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut tell = |name: HeaderName, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    tell(CONTENT_TYPE, "text/html; charset=utf-8");
    tell(CACHE_CONTROL, "s-maxage=3600");
    headers
}

fn told_by_a_hit() -> HeaderMap {
    let mut headers = told();
    let mut tell = |name: HeaderName, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    tell(ETAG, "\"0123456789abcdef0123456789abcdef\"");
    tell(DATE, "Thu, 01 Jan 2026 00:00:00 GMT");
    tell(AGE, "10");
    tell(
        HeaderName::from_static("cache-status"),
        "maxscale; hit; ttl=3590",
    );
    headers
}
