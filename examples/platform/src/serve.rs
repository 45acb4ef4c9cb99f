//! Listens, and stops so that nothing that was begun is lost.
//!
//! ```text
//!  SIGTERM ─ /readyz 503 ─ stop accepting ─ requests end ──┬─ close ─ exit
//!                        └ worker: claims no more, ends or hands back
//! ```
//!
//! A second signal ends the process at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn, map_request};
use maxscale_core::fact::{ClientIp, Subject};
use maxscale_core::limit::{ByClientIp, LimitKey as _, LimitLayer};
use maxscale_core::resilience::DeadlineLayer;
use maxscale_core::telemetry::Metrics;
use maxscale_core::{health, telemetry};
use maxscale_shard::layer::{BySubject, RouteLayer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceBuilder;

use crate::assembly::Platform;
use crate::http;
use crate::settings::Settings;
use crate::start::StartError;

/// Where the platform listens.
#[derive(Debug)]
pub struct Listeners {
    main: TcpListener,
    admin: Option<TcpListener>,
}

// === impl Listeners ===

impl Listeners {
    /// Binds the addresses in `settings`.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Listen`]; only the port that nobody chose gives
    /// way to a free one.
    pub async fn bind(settings: &Settings) -> Result<Self, StartError> {
        let listen = |key, address| {
            move |source| StartError::Listen {
                key,
                address,
                source,
            }
        };
        let mut main = TcpListener::bind(settings.listen).await;
        let taken = |e: &io::Error| e.kind() == io::ErrorKind::AddrInUse;
        if !settings.listen_chosen && main.as_ref().is_err_and(taken) {
            main = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        }
        let admin = match settings.admin_listen {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(listen("admin.listen", address))?)
            }
            None => None,
        };
        Ok(Self {
            main: main.map_err(listen("http.listen", settings.listen))?,
            admin,
        })
    }

    /// The address for requests.
    ///
    /// # Errors
    ///
    /// Returns the system's error.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.main.local_addr()
    }

    /// The address for `/health` and `/metrics`.
    ///
    /// # Errors
    ///
    /// Returns the system's error.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.as_ref().unwrap_or(&self.main).local_addr()
    }
}

/// Serves until `stop` changes, then ends within the settings' grace.
///
/// # Errors
///
/// Returns the listener's error.
pub async fn serve(
    mut platform: Platform,
    listeners: Listeners,
    metrics: &Metrics,
    settings: &Settings,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let own = listeners.admin.is_some();
    let admin = admin_routes(&platform, metrics);
    let mut router = routes(&platform, metrics, settings);
    if !own {
        // Last is the one whose answer to unknown paths stays.
        router = admin.clone().merge(router);
    }
    let main = axum::serve(
        listeners.main,
        router.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(stopped(stop.clone()));
    let mut main = tokio::spawn(main.into_future());
    // Whoever watches the end sees it until there is nothing more to see.
    let (end, ended) = watch::channel(false);
    let admin = listeners.admin.map(|listener| {
        let served = axum::serve(listener, admin).with_graceful_shutdown(stopped(ended));
        tokio::spawn(served.into_future())
    });

    tokio::select! {
        // First: a server without connections ends with the stop at once.
        biased;
        () = stopped(stop) => {}
        ended = &mut main => return ended.unwrap_or_else(|join| Err(io::Error::other(join))),
    }
    platform.health.set_draining();
    tracing::info!("stopping: no new connections, requests end, jobs are handed back");
    let worker = platform.take_worker();
    let drain = async {
        if let Some(worker) = worker
            && timeout(settings.grace + HAND_BACK, worker.shutdown(settings.grace))
                .await
                .is_err()
        {
            tracing::warn!("not every job could be handed back; their leases will run out");
        }
    };
    let (drained, ()) = tokio::join!(timeout(settings.grace, main), drain);
    if drained.is_err() {
        // They end with the runtime; until then some still find an answer.
        tracing::warn!("some requests did not end in time and are cut off");
    }
    end.send_replace(true);
    let close = async {
        if let Some(admin) = admin {
            let _ = admin.await;
        }
        platform.close(Duration::ZERO).await;
    };
    if timeout(CLOSE, close).await.is_err() {
        tracing::warn!("some connections did not close in time");
    }
    tracing::info!("stopped");
    Ok(())
}

/// How long jobs may take to be handed back, after the grace.
const HAND_BACK: Duration = Duration::from_millis(2_500);
/// How long connections may take to close, after that. A request that was not
/// finished may hold one for as long as it likes.
const CLOSE: Duration = Duration::from_secs(1);

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone stops as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn routes(platform: &Platform, metrics: &Metrics, settings: &Settings) -> Router {
    let meter = metrics.meter("platform");
    let limit = |policy: &maxscale_core::limit::Policy| {
        LimitLayer::new(policy.clone(), ByClientIp::new(), platform.limits.clone())
    };
    let logins = http::login_routes().layer(limit(&platform.logins));
    let sessions = ServiceBuilder::new()
        .layer(platform.sessions.clone())
        .layer(LimitLayer::new(
            platform.requests.clone(),
            user_or_address,
            platform.limits.clone(),
        ))
        // Who is not logged in has no shard; the handlers that need one say so.
        .layer(RouteLayer::new(platform.router.clone(), BySubject::new()).optional());
    // Who asks is looked up in a database too, which may hang: within the deadline.
    // What a request has written is told also where the deadline ends it.
    let freshness = &platform.freshness;
    let within = |deadline| {
        (
            freshness.clone(),
            DeadlineLayer::new(deadline),
            sessions.clone(),
        )
    };
    let quick = logins.merge(http::routes());
    let quick = quick.layer(within(settings.deadline));
    let uploads = http::upload_routes().layer(within(settings.upload_deadline()));

    // Read from the top: each layer's facts are there for those below it.
    let stack = ServiceBuilder::new()
        .layer(telemetry::TraceLayer::new(&meter).route_by(telemetry::matched_path))
        .layer(from_fn(http::render))
        .layer(map_request(http::linger))
        .layer(map_request(client_ip));
    let service = quick.merge(uploads).with_state(platform.app.clone());
    // Whoever asks whether the process lives is neither logged nor limited.
    let probes = health::probes(platform.health.clone()).layer(from_fn(http::render));
    probes.merge(service.layer(stack))
}

fn admin_routes(platform: &Platform, metrics: &Metrics) -> Router {
    let tree = health::tree(platform.health.clone());
    let metrics = telemetry::metrics_route(metrics.clone());
    tree.merge(metrics).layer(from_fn(http::render))
}

/// The peer's address: no proxy is trusted to name another one.
async fn client_ip(mut request: Request) -> Request {
    use axum::extract::ConnectInfo;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if let Some(ConnectInfo(peer)) = peer.copied() {
        request.extensions_mut().insert(ClientIp(peer.ip()));
    }
    request
}

fn user_or_address<B>(request: &axum::http::Request<B>) -> Option<String> {
    match request.extensions().get::<Subject>() {
        Some(subject) => Some(subject.as_str().to_owned()),
        None => ByClientIp::new().key(request),
    }
}
