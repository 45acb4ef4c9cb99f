//! Carries what a user has written and seen from one request to the next.

mod carry;
mod future;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, Request, Response};
use maxscale_core::clock::Clock;
use maxscale_core::keys::Keys;
use maxscale_core::refusal::{Asker, Refusal, Refuse, ReplyBody};
use tower_layer::Layer;
use tower_service::Service;

use crate::freshness::Freshness;
use carry::{Carry, Origin};

pub use carry::{CookieNameError, FreshnessCookie};
pub use future::FreshnessFuture;

/// Adds [`Freshened`] to a stack: each request has a [`Freshness`] among its facts,
/// and its answer carries what became of it.
///
/// It comes from the header [`FreshnessLayer::HEADER`], or the gRPC metadata of that
/// name, else from cookies. Where something was written, or seen of a later state,
/// the answer brings a new text in the header, and over HTTP in a cookie. A text
/// that was not given out here, or was changed, is refused as a
/// [`FreshnessError`](crate::FreshnessError): nothing runs, and the same answer
/// removes the cookies, so that the next request is well again.
///
/// Stood around a [`RouteLayer`](super::RouteLayer), that one adds a
/// [`FreshShard`](crate::FreshShard), with which a handler cannot forget to take note.
///
/// # What cannot be told
///
/// The text leaves with the answer's head. What a handler's stream writes later, or a
/// task that it left behind, is not in it; nor is anything where the inner service
/// gave an error instead of an answer. Stood around a layer that ends requests early,
/// such as one for deadlines, it tells what the ended one may have written.
///
/// A browser keeps the cookie that came last. Reads have one of their own, so they
/// never take the place of a write; of two writes at once, in answers that cross,
/// one is forgotten. A client of the header may send all texts that it has, up to
/// eight: for each node the latest counts.
///
/// # Examples: how does a page show what its user has just written?
///
/// ```no_run
/// use axum::{Extension, Router, routing::get};
/// use maxscale_core::clock::Clock;
/// use maxscale_core::keys::Keys;
/// use maxscale_shard::layer::{BySubject, FreshnessLayer, RouteLayer};
/// use maxscale_shard::{FreshShard, sql};
///
/// async fn titles(Extension(shard): Extension<FreshShard>) -> String {
///     let titles = sql("SELECT title FROM project WHERE shard_id = $1").bind(shard.id());
///     format!("{} projects", shard.fetch_all(titles).await.map_or(0, |rows| rows.len()))
/// }
///
/// # fn app(shards: maxscale_shard::Router, keys: Keys) -> Router {
/// Router::new()
///     .route("/projects", get(titles))
///     .layer(RouteLayer::new(shards, BySubject::new()))
///     .layer(FreshnessLayer::new(keys, Clock::system()))
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FreshnessLayer {
    carry: Carry,
}

/// Passes requests on with a [`Freshness`] in their extensions.
#[derive(Clone, Debug)]
pub struct Freshened<S> {
    inner: S,
    carry: Arc<Carry>,
}

// === impl FreshnessLayer ===

impl FreshnessLayer {
    /// The header, and the gRPC metadata, unless set otherwise.
    pub const HEADER: HeaderName = HeaderName::from_static("x-maxscale-freshness");

    /// Carries texts MACed with `keys`: in the header, and over HTTP in cookies, which
    /// are for TLS alone. A key may be retired once what it signed is over.
    pub fn new(keys: Keys, clock: Clock) -> Self {
        Self {
            carry: Carry {
                keys,
                clock,
                lifetime: Freshness::DEFAULT_LIFETIME,
                header: Self::HEADER,
                cookie: Some(FreshnessCookie::new()),
            },
        }
    }

    /// Sets how long a write is remembered; see [`Freshness::lifetime`].
    #[must_use]
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.carry.lifetime = lifetime;
        self
    }

    /// Sets the header's name. Default: [`FreshnessLayer::HEADER`].
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.carry.header = name;
        self
    }

    /// Sets the cookies. Default: [`FreshnessCookie::new`].
    #[must_use]
    pub fn cookie(mut self, cookie: FreshnessCookie) -> Self {
        self.carry.cookie = Some(cookie);
        self
    }

    /// Neither reads nor sets cookies: for services whose clients keep the header.
    #[must_use]
    pub fn without_cookie(mut self) -> Self {
        self.carry.cookie = None;
        self
    }
}

impl<S> Layer<S> for FreshnessLayer {
    type Service = Freshened<S>;

    fn layer(&self, inner: S) -> Freshened<S> {
        Freshened {
            inner,
            carry: Arc::new(self.carry.clone()),
        }
    }
}

// === impl Freshened ===

impl<S, B, R> Service<Request<B>> for Freshened<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ReplyBody<R>>;
    type Error = S::Error;
    type Future = FreshnessFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let asker = Asker::of(&request);
        match self.carry.read(request.headers()) {
            Ok(freshness) => {
                request.extensions_mut().insert(freshness.clone());
                let told = self.carry.clone();
                let response = self.inner.call(request);
                FreshnessFuture::forward(response, freshness, told, asker.is_grpc())
            }
            Err((error, origin)) => {
                let mut reply = Response::refuse(Refusal::new(&error), &asker);
                if origin == Origin::Cookie {
                    self.carry.clear::<R>(&mut reply);
                }
                FreshnessFuture::refused(reply)
            }
        }
    }
}
