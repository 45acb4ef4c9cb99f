//! One connection, from its first byte to its last.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use super::activity::{Activity, Limits, Verdict};
use super::body::{Answer, Open, RequestBody};
use super::draining::Draining;
use super::gate::{Gate, Place};
use super::stream::Stream;
use crate::BoxError;

/// Where a request's connection comes from: a fact of each request.
///
/// It may be a proxy; who is behind it is for a layer to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(
    /// The other end of the connection.
    pub SocketAddr,
);

/// How long a client of HTTP/2 may be silent before it is pinged.
const PING: Duration = Duration::from_secs(20);

/// What the connections of one server have in common.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) gate: Arc<Gate>,
    pub(super) limits: Limits,
    pub(super) draining: Draining,
    /// Ends connections wherever they are.
    pub(super) cut: Draining,
}

/// Says which requests of the connection run, and where they come from.
struct Counted<S> {
    service: TowerToHyperService<S>,
    activity: Arc<Activity>,
    shared: Shared,
    peer: SocketAddr,
}

/// Serves one connection until its client, a limit or the server ends it.
///
/// A connection that a request has taken over goes on after this.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    service: S,
    shared: Shared,
) where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let activity = Arc::new(Activity::new(Instant::now()));
    let stream = Stream::new(stream, activity.clone(), shared.cut.clone(), place);
    let service = Counted {
        service: TowerToHyperService::new(service),
        activity: activity.clone(),
        shared: shared.clone(),
        peer,
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper's own limit of a head would also end idle connections, so that
    // HTTP/1 gets no timer; a frame that is not finished leaves a ping unanswered.
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(shared.limits.head);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut look = pin!(sleep_until(Instant::now() + shared.limits.head));
    let (mut draining, mut cut) = (pin!(shared.draining.wait()), pin!(shared.cut.wait()));
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            () = &mut cut => return,
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::trace!(%peer, error, "a connection ended before its time");
                }
                return;
            }
            () = &mut draining, if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut look => {
                let now = Instant::now();
                match activity.verdict(shared.limits, now) {
                    Verdict::Slow => {
                        shared.gate.slow();
                        return;
                    }
                    Verdict::Idle => {
                        if !ending {
                            ending = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        look.as_mut().reset(now + shared.limits.head);
                    }
                    Verdict::Look(at) => look.as_mut().reset(at),
                }
            }
        }
    }
}

// === impl Counted ===

impl<S, B> hyper::service::Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
{
    type Response = Response<super::ResponseBody<B>>;
    type Error = S::Error;
    type Future =
        Answer<<TowerToHyperService<S> as hyper::service::Service<Request<RequestBody>>>::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let open = Open::new(self.activity.clone(), self.shared.gate.request());
        let mut request = request.map(|body| RequestBody::new(body, open.clone()));
        let facts = request.extensions_mut();
        facts.insert(Peer(self.peer));
        facts.insert(self.shared.draining.clone());
        #[cfg(feature = "axum")]
        facts.insert(axum::extract::ConnectInfo(self.peer));
        let answer = hyper::service::Service::call(&self.service, request);
        Answer::new(answer, open)
    }
}
