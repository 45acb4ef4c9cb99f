//! What the tests serve: requests that take long, and streams without an end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::{Stream, StreamExt as _, stream};
use hyper_util::rt::TokioIo;
use maxscale_core::serve::{
    Connections, Draining, Ended, Peer, Server, ServerBuilder, Serving, ServingBuilder, Stop,
};
use maxscale_tests::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tower::util::MapRequestLayer;

use super::wire::LIMIT;

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
    pub(crate) stop: Stop,
    begun: Arc<AtomicUsize>,
    served: JoinHandle<Ended>,
}

pub(crate) fn app() -> Router {
    Router::new()
        .route("/", get(async || "here\n"))
        .route("/peer", get(peer))
        .route("/slow/{millis}", get(slow))
        .route("/stuck", get(std::future::pending::<()>))
        .route("/events", get(events))
        .route("/deaf", get(async || Sse::new(endless())))
        .route("/upgrade", get(upgrade))
        .route("/upgrade-deaf", get(upgrade_deaf))
        .route("/flood", get(flood))
}

async fn peer(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(same): Extension<Peer>,
) -> String {
    assert_eq!(peer, same.0);
    peer.to_string()
}

async fn slow(Path(millis): Path<u64>) -> &'static str {
    sleep(Duration::from_millis(millis)).await;
    "done\n"
}

fn endless() -> impl Stream<Item = Result<Event, Infallible>> {
    let first = stream::iter([Ok(Event::default().data("first"))]);
    first.chain(stream::pending())
}

/// Server-sent events, with a last one for the end.
async fn events(Extension(draining): Extension<Draining>) -> impl IntoResponse {
    let last = stream::iter([Ok(Event::default().data("last"))]);
    Sse::new(endless().take_until(draining.wait()).chain(last))
}

/// What a WebSocket is to a server: a connection taken over for an echo, whose
/// end is told.
async fn upgrade(Extension(draining): Extension<Draining>, mut request: Request) -> Response {
    let taken = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(taken) = taken.await else { return };
        let mut io = TokioIo::new(taken);
        let mut byte = [0];
        loop {
            tokio::select! {
                () = draining.wait() => {
                    let _ = io.write_all(b"bye").await;
                    return;
                }
                read = io.read_exact(&mut byte) => {
                    if read.is_err() || io.write_all(&byte).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    switching()
}

async fn upgrade_deaf(mut request: Request) -> Response {
    let taken = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(taken) = taken.await else { return };
        let _ = TokioIo::new(taken).read_u8().await;
    });
    switching()
}

fn switching() -> Response {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Body::empty())
        .unwrap()
}

/// More than any buffer holds.
async fn flood() -> Body {
    let piece = stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 65_536]));
    Body::from_stream(piece)
}

// === impl Running ===

impl Running {
    /// The app with the settings of a test.
    pub(crate) async fn start(
        server: impl FnOnce(ServerBuilder) -> ServerBuilder,
        serving: impl FnOnce(ServingBuilder) -> ServingBuilder,
    ) -> Self {
        Self::of(app(), server, serving).await
    }

    pub(crate) async fn of(
        app: Router,
        server: impl FnOnce(ServerBuilder) -> ServerBuilder,
        serving: impl FnOnce(ServingBuilder) -> ServingBuilder,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let count = begun.clone();
        let app = app.layer(MapRequestLayer::new(move |request: Request| {
            count.fetch_add(1, Ordering::SeqCst);
            request
        }));
        let server = server(Server::builder("main", listener, app));
        let server = server.build().unwrap();
        let connections = server.connections();
        let serving = serving(Serving::builder().server(server)).build().unwrap();
        let stop = Stop::new();
        let asked = stop.clone();
        Self {
            address,
            connections,
            stop,
            begun,
            served: tokio::spawn(async move { serving.run(&asked).await }),
        }
    }

    pub(crate) async fn plain() -> Self {
        Self::start(|server| server, |serving| serving).await
    }

    /// Waits until so many requests have begun.
    pub(crate) async fn begun(&self, count: usize) {
        eventually(LIMIT, async || self.begun.load(Ordering::SeqCst) >= count).await;
    }

    pub(crate) async fn ended(self) -> Ended {
        let ended = timeout(LIMIT, self.served).await;
        ended.expect("the end does not come").unwrap()
    }
}
