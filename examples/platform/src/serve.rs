//! Listens, and stops so that nothing that was begun is lost.
//!
//! ```text
//!  SIGTERM ─ /readyz 503 ─ stop accepting ─ requests end ──┬─ close ─ exit
//!          └ worker: claims no more, ends or hands back ───┘
//! ```
//!
//! A second signal ends the process at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use maxscale_auth::session::Consistency;
use maxscale_core::Chain;
use maxscale_core::clock::Clock;
use maxscale_core::fact::{ClientIp, ForwardedBy, Networks};
use maxscale_core::limit::{self, LimitLayer};
use maxscale_core::meter::Meter;
use maxscale_core::meter::span::Sampler;
use maxscale_core::resilience::DeadlineLayer;
use maxscale_core::serve::{Ended, ServeError, Server, Serving, Stop};
use maxscale_core::telemetry::slo::{Objectives, Slo};
use maxscale_core::telemetry::{Metrics, TraceLayer};
use maxscale_core::{health, telemetry};
use maxscale_shard::layer::{BySubject, RouteLayer};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower::ServiceBuilder;

use crate::assembly::Platform;
use crate::capacity;
use crate::http;
use crate::limiting::{watch_address, watch_user};
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

/// Serves until `stop` is asked, then ends within the settings' grace and
/// [`Serving::DEFAULT_RESERVE`].
///
/// # Errors
///
/// Returns [`StartError`] for settings that cannot be.
pub async fn serve(
    mut platform: Platform,
    listeners: Listeners,
    metrics: &Metrics,
    settings: &Settings,
    stop: &Stop,
) -> Result<Ended, StartError> {
    let failed = |error: ServeError| StartError::Assemble(error.into());
    let meter = metrics.meter("platform");
    let admin = admin_routes(&platform, metrics);
    let mut router = routes(&platform, metrics, settings);
    if listeners.admin.is_none() {
        // Last is the one whose answer to unknown paths stays.
        router = admin.clone().merge(router);
    }
    let main = Server::builder("main", listeners.main, router)
        .connections(settings.connections)
        .meter(&meter)
        .build()
        .map_err(failed)?;
    // Watched as long as this function runs.
    let folder = platform.app.objects.folder();
    let _capacity = capacity::watch(folder, main.connections(), &meter)
        .map_err(|error| StartError::Assemble(error.into()))?;
    let mut serving = Serving::builder()
        .server(main)
        .budget(settings.grace + RESERVE)
        .reserve(RESERVE)
        .wait(settings.stop_wait);
    if let Some(listener) = listeners.admin {
        // Whoever watches the end sees it until there is nothing more to see.
        let admin = Server::builder("admin", listener, admin).meter(&meter);
        serving = serving.last(admin.build().map_err(failed)?);
    }
    if let Some(worker) = platform.take_worker() {
        serving = serving.on_stop("jobs", move |until| {
            worker.shutdown(until.saturating_duration_since(Instant::now()))
        });
    }
    let (health, limits) = (platform.health.clone(), platform.limits.clone());
    let sessions = platform.app.accounts.sessions().clone();
    let serving = serving
        .not_ready(move || health.set_draining())
        .on_hand_back("leases", async move { limits.hand_back().await })
        .on_hand_back("sessions", async move {
            if let Err(error) = sessions.shutdown().await {
                tracing::warn!(error = %Chain(&error), "cannot write when sessions were used last");
            }
        })
        .on_flush("connections", platform.close());
    Ok(serving.build().map_err(failed)?.run(stop).await)
}

/// What the end has beside the grace, to hand back and to close.
const RESERVE: Duration = Serving::DEFAULT_RESERVE;

fn routes(platform: &Platform, metrics: &Metrics, settings: &Settings) -> Router {
    let meter = metrics.meter("platform");
    let limiting = &platform.limiting;
    let sessions = |limit: LimitLayer<limit::BySubject>| {
        let users = limiting.clone();
        ServiceBuilder::new()
            .layer(platform.csrf.clone())
            .map_request(strong_if_it_changes)
            .layer(platform.sessions.clone())
            .layer(from_fn_with_state(limiting.clone(), watch_user))
            .map_request(move |request: Request| users.tier_of_user(request))
            .layer(limit)
            // Who is not logged in has no shard; the handlers that need one say so.
            .layer(RouteLayer::new(platform.router.clone(), BySubject::new()).optional())
    };
    // Who asks is looked up in a database too, which may hang: within the deadline.
    // What a request has written is told also where the deadline ends it.
    let freshness = &platform.freshness;
    let within = |deadline, limit| {
        (
            freshness.clone(),
            DeadlineLayer::new(deadline),
            sessions(limit),
        )
    };
    let quick = http::routes(&platform.app);
    let quick = quick.layer(within(settings.deadline, limiting.by_user()));
    let uploads = within(settings.upload_deadline(), limiting.uploads());
    let uploads = http::upload_routes().layer(uploads);

    // They bring their own sessions, and look at them strongly.
    let accounts = platform.accounts.clone().layer((
        freshness.clone(),
        DeadlineLayer::new(settings.deadline),
        limiting.logins(),
    ));

    let (proxies, addresses) = (settings.proxies.clone(), limiting.clone());
    // Read from the top: each layer's facts are there for those below it.
    let stack = ServiceBuilder::new()
        .layer(trace(&meter, platform.sampler, settings))
        .layer(from_fn(http::render))
        .layer(map_request(http::linger))
        .map_request(move |request: Request| client_ip(&proxies, request))
        .layer(from_fn_with_state(limiting.clone(), watch_address))
        .map_request(move |request: Request| addresses.tier_of_address(request))
        .layer(limiting.by_address());
    let service = quick.merge(uploads).with_state(platform.app.clone());
    let service = service.merge(accounts);
    // Whoever asks whether the process lives is neither logged nor limited.
    let probes = health::probes(platform.health.clone()).layer(from_fn(http::render));
    probes.merge(service.layer(stack))
}

/// Who was logged out a moment ago, here or in another process, changes nothing more.
fn strong_if_it_changes(mut request: Request) -> Request {
    if !request.method().is_safe() {
        request.extensions_mut().insert(Consistency::Strong);
    }
    request
}

/// Callers that are trusted go on with their own traces.
fn trace(meter: &Meter, sampler: Sampler, settings: &Settings) -> TraceLayer {
    let trusted = settings.otel_trusted.clone();
    let slo = Slo::new(Objectives::default(), Clock::system());
    slo.register(meter);
    TraceLayer::new(meter)
        .route_by(telemetry::matched_path)
        .sampler(sampler)
        .slo(slo)
        .trust(move |known| {
            let peer = known.get::<ConnectInfo<SocketAddr>>();
            peer.is_some_and(|ConnectInfo(peer)| trusted.contains(peer.ip()))
        })
}

fn admin_routes(platform: &Platform, metrics: &Metrics) -> Router {
    let tree = health::tree(platform.health.clone());
    let metrics = telemetry::metrics_route(metrics.clone());
    tree.merge(metrics).layer(from_fn(http::render))
}

/// The peer's address, or the one that a trusted proxy names.
fn client_ip(proxies: &Networks, mut request: Request) -> Request {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if let Some(ConnectInfo(peer)) = peer.copied() {
        let by = ForwardedBy::XForwardedFor;
        let client = ClientIp::behind(peer.ip(), request.headers(), by, proxies);
        request.extensions_mut().insert(client);
    }
    request
}
