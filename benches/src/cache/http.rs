//! A response from the cache over TCP, against a handler that has it at hand.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::get;
use maxscale_cache::Hub;
use maxscale_cache::http::{HttpCache, HttpCacheLayer};
use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A page of some size, and the tag that it gets.
const BODY: &[u8] = &[b'x'; 2_048];

/// Connections that are kept, each with a request at a time.
const CLIENTS: u32 = 4;

/// What a browser sends, but for cookies.
const REQUEST: &str = "GET /articles/7?page=2 HTTP/1.1\r\nhost: www.example.com\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: text/html,application/xhtml+xml\r\naccept-language: en\r\n\
    accept-encoding: gzip, deflate, br\r\n\r\n";

/// A router on a port, until it is dropped.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

pub(crate) async fn hit_vs_static(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "cache.http_hit_vs_static";
    let cache = HttpCache::builder(&Hub::builder().build(), "page").build();
    let page = || async { (told(), Bytes::from_static(BODY)) };
    let cached = Router::new().route("/articles/{id}", get(page));
    let cached = Server::start(cached.layer(HttpCacheLayer::new(cache))).await?;
    // The same headers and as many bytes as a hit has.
    let page = || async { (told_by_a_hit(), Bytes::from_static(BODY)) };
    let plain = Server::start(Router::new().route("/articles/{id}", get(page))).await?;
    ask_all(cached.address, 1, "fwd=miss; stored").await?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let ours = |count| ask_all(cached.address, count, "hit; ttl=");
        let theirs = |count| ask_all(plain.address, count, "hit; ttl=");
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

// === impl Server ===

impl Server {
    async fn start(router: Router) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the server ended: {error}");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `count` requests over connections that are kept; each answer has to have `mark`.
async fn ask_all(address: SocketAddr, count: u32, mark: &'static str) -> Result<(), BoxError> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS.min(count) {
        clients.spawn(ask(address, count.div_ceil(CLIENTS), mark));
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

async fn ask(address: SocketAddr, count: u32, mark: &str) -> Result<(), BoxError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(2 * BODY.len());
    for _ in 0..count {
        stream.write_all(REQUEST.as_bytes()).await?;
        answer.clear();
        let head = loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err("the connection ended".into());
            }
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end.filter(|end| answer.len() >= end + 4 + BODY.len()) {
                break std::str::from_utf8(&answer[..end])?;
            }
        };
        if !head.starts_with("HTTP/1.1 200") || !head.contains(mark) {
            return Err(format!("another answer: {head}").into());
        }
    }
    Ok(())
}
