//! A server, a client, and a clock that stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use maxscale_cache::Hub;
use maxscale_cache::http::{HttpCache, HttpCacheBuilder, HttpCacheLayer};
use maxscale_core::clock::{Clock, ManualTime, Timestamp};
use reqwest::{Client, Method, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::source::LIMIT;

/// Some day in May of 2026.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_780_000_000_000_000);

/// A router on a port, with a client that keeps its connections.
pub(crate) struct Rig {
    pub(crate) url: String,
    pub(crate) client: Client,
    server: JoinHandle<()>,
}

/// A cache whose time does not pass.
pub(crate) struct Still {
    pub(crate) cache: HttpCache,
    pub(crate) time: ManualTime,
}

/// How often something happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

// === impl Rig ===

impl Rig {
    pub(crate) async fn start(router: Router) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), router)
    }

    pub(crate) fn on(listener: TcpListener, router: Router) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        let client = Client::builder().no_proxy();
        let redirects = reqwest::redirect::Policy::none();
        Self {
            url,
            client: client.redirect(redirects).build().unwrap(),
            server,
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.timeout(LIMIT).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send("GET", path, headers).await
    }

    /// The body of a GET.
    pub(crate) async fn text(&self, path: &str, headers: &[(&str, &str)]) -> String {
        self.get(path, headers).await.text().await.unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.abort();
    }
}

// === impl Still ===

impl Still {
    pub(crate) fn new(set: impl FnOnce(HttpCacheBuilder) -> HttpCacheBuilder) -> Self {
        Self::of(&Hub::builder().build(), set)
    }

    pub(crate) fn of(hub: &Hub, set: impl FnOnce(HttpCacheBuilder) -> HttpCacheBuilder) -> Self {
        let (clock, time) = Clock::manual(START);
        // L1 keeps responses for so long that no test passes by waiting for their end.
        let long = Duration::from_secs(3_600);
        let builder = HttpCache::builder(hub, "page").clock(clock).l1_ttl(long);
        Self {
            cache: set(builder).build(),
            time,
        }
    }

    pub(crate) fn layer(&self) -> HttpCacheLayer {
        HttpCacheLayer::new(self.cache.clone())
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.time.advance(Duration::from_secs(seconds));
    }
}

// === impl Count ===

impl Count {
    /// Counts one more, and tells its number from 1.
    pub(crate) fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
