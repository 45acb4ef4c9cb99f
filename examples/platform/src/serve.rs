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
use axum::middleware::from_fn;
use maxscale_core::Chain;
use maxscale_core::serve::{Ended, ServeError, Server, Serving, Stop};
use maxscale_core::telemetry::Metrics;
use maxscale_core::{health, telemetry};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::assembly::Platform;
use crate::capacity;
use crate::http;
use crate::layers::routes;
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
    let streams = platform.limiting.stream_places();
    let _capacity = capacity::watch(folder, main.connections(), streams, &meter)
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

fn admin_routes(platform: &Platform, metrics: &Metrics) -> Router {
    let tree = health::tree(platform.health.clone());
    let metrics = telemetry::metrics_route(metrics.clone());
    tree.merge(metrics).layer(from_fn(http::render))
}
