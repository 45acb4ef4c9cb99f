mod body;
mod durations;
mod exchange;
mod future;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;
use uuid::Uuid;

use crate::meter::span::Sampler;
use crate::meter::{self, HotLevel, Meter};
use crate::telemetry::slo::Slo;

pub use body::TraceBody;
pub use future::TraceFuture;

use durations::Durations;
use exchange::Exchange;

/// Names each request, and tells what became of it.
///
/// A request gets the facts [`RequestId`](crate::fact::RequestId) (from
/// `x-request-id` if that is valid, else new) and
/// [`TraceContext`](crate::fact::TraceContext), and a span that carries both. The
/// answer gets `x-request-id`. When the last frame of its body or its trailers are
/// out, or nobody waits for it any more, one line is logged under the target
/// `maxscale::access` (from status 500 on as a warning) and
/// `http.server.request.duration` is recorded, or `rpc.server.call.duration` of a
/// gRPC call. Queries of URLs are not logged.
///
/// The trace is that of the caller (`traceparent` and `tracestate` of W3C Trace
/// Context) where callers are [trusted](Self::trust); else it is a new one with a
/// link to the caller's.
///
/// A stream of events (`text/event-stream`) ends with its listener: its duration is
/// the time to its head.
///
/// A request that was given up before its answer counts with the status 499,
/// one whose handler panicked or whose service failed with 500.
///
/// In axum, add it with `Router::layer`: only there the matched path is known,
/// and requests that match no route still pass through. `a.merge(b)` keeps the
/// fallback of `b`, so merge the traced router into one that is not traced
/// (health, metrics), never the other way round.
#[derive(Clone, Debug)]
#[must_use]
pub struct TraceLayer {
    shared: Arc<Shared>,
}

/// The service that [`TraceLayer`] makes.
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    durations: Arc<Durations>,
    active: HotLevel,
    route: fn(&Extensions) -> Option<&str>,
    trust: Arc<dyn Fn(&Extensions) -> bool + Send + Sync>,
    sampler: Sampler,
    slo: Option<Slo>,
    random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

/// The path of axum's route that a request matched, for [`TraceLayer::route_by`].
#[cfg(feature = "axum")]
pub fn matched_path(extensions: &Extensions) -> Option<&str> {
    let path = extensions.get::<axum::extract::MatchedPath>()?;
    Some(path.as_str())
}

// === impl TraceLayer ===

impl TraceLayer {
    /// A layer that measures with `meter` and draws ids from the operating system.
    ///
    /// Make one and clone it: two would report the same instruments.
    pub fn new(meter: &Meter) -> Self {
        let shared = Shared {
            durations: Arc::new(Durations::new(meter)),
            active: HotLevel::register(meter, meter::HTTP_SERVER_ACTIVE_REQUESTS, &[]),
            route: |_| None,
            trust: Arc::new(|_| false),
            sampler: Sampler::NONE,
            slo: None,
            random: Arc::new(|| Uuid::new_v4().as_u128()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Sets where a request's route is read from: a template, never the path itself.
    ///
    /// Default: no route is known, and all requests share the label `_OTHER`.
    pub fn route_by(mut self, route: fn(&Extensions) -> Option<&str>) -> Self {
        Arc::make_mut(&mut self.shared).route = route;
        self
    }

    /// Sets whose trace a request goes on with, by what layers and the server know
    /// of the caller. Whoever is trusted decides which requests are recorded.
    ///
    /// Default: nobody's.
    pub fn trust(mut self, trust: impl Fn(&Extensions) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.shared).trust = Arc::new(trust);
        self
    }

    /// Sets which traces that begin here are recorded. Default: none.
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        Arc::make_mut(&mut self.shared).sampler = sampler;
        self
    }

    /// Counts each request against objectives, but those whose caller went away.
    ///
    /// Default: against none.
    pub fn slo(mut self, slo: Slo) -> Self {
        Arc::make_mut(&mut self.shared).slo = Some(slo);
        self
    }

    /// Sets where new ids come from. Default: the operating system.
    pub fn random(mut self, random: impl Fn() -> u128 + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.shared).random = Arc::new(random);
        self
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace {
            inner,
            shared: self.shared.clone(),
        }
    }
}

// === impl Trace ===

impl<S, B, R> Service<Request<B>> for Trace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<TraceBody<R>>;
    type Error = S::Error;
    type Future = TraceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let (mut exchange, id) = Exchange::begin(&self.shared, &mut req);
        let inner = exchange.run(|| self.inner.call(req));
        TraceFuture::new(inner, exchange, id)
    }
}

// === impl Shared ===

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("active", &self.active)
            .field("sampler", &self.sampler)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
