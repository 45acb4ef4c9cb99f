//! The routes, and the layers around them.
//!
//! Each group of routes has a whole [`Stack`] of its own, because deadlines and limits
//! differ; what they share is made once. Probes have none: whoever asks whether the
//! process lives is neither logged nor limited.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use maxscale_auth::session::Consistency;
use maxscale_core::clock::Clock;
use maxscale_core::fact::{ClientIp, ForwardedBy, Networks};
use maxscale_core::limit::{self, LimitLayer};
use maxscale_core::meter::Meter;
use maxscale_core::meter::span::Sampler;
use maxscale_core::resilience::DeadlineLayer;
use maxscale_core::stack::Stack;
use maxscale_core::telemetry::slo::{Objectives, Slo};
use maxscale_core::telemetry::{Metrics, TraceLayer};
use maxscale_core::{health, telemetry};
use maxscale_shard::layer::{BySubject, RouteLayer};
use tower::util::MapRequestLayer;

use crate::assembly::Platform;
use crate::http;
use crate::limiting::{watch_address, watch_user};
use crate::settings::Settings;

/// All that is served where requests are taken, but what is the operator's.
pub(crate) fn routes(platform: &Platform, metrics: &Metrics, settings: &Settings) -> Router {
    let meter = metrics.meter("platform");
    let limiting = &platform.limiting;
    let (proxies, addresses) = (settings.proxies.clone(), limiting.clone());
    let client = MapRequestLayer::new(move |request| client_ip(&proxies, request));
    let tier = MapRequestLayer::new(move |request| addresses.tier_of_address(request));
    let watch = from_fn_with_state(limiting.clone(), watch_address);
    let peer = (watch, tier, limiting.by_address());
    // What a request has written is told also where the deadline ends it.
    let (render, linger) = (from_fn(http::render), map_request(http::linger));
    let arrival = Stack::new()
        .trace(trace(&meter, platform.sampler, settings))
        .edge((render, linger, client, platform.freshness.clone()))
        .peer(peer.clone());

    // Who asks is looked up in a database too, which may hang: within the deadline.
    let service = |deadline, limit: LimitLayer<limit::BySubject>| {
        let users = limiting.clone();
        let tier = MapRequestLayer::new(move |request| users.tier_of_user(request));
        let watch = from_fn_with_state(limiting.clone(), watch_user);
        let strong = MapRequestLayer::new(strong_if_it_changes);
        // Who is not logged in has no shard; the handlers that need one say so.
        let route = RouteLayer::new(platform.router.clone(), BySubject::new()).optional();
        arrival
            .clone()
            .deadline(DeadlineLayer::new(deadline))
            .session((platform.csrf.clone(), strong, platform.sessions.clone()))
            .caller((watch, tier, limit, limiting.streams()))
            .route(route)
    };
    let quick = http::routes(&platform.app);
    let quick = quick.layer(service(settings.deadline, limiting.by_user()));
    let uploads = service(settings.upload_deadline(), limiting.uploads());
    let uploads = http::upload_routes().layer(uploads);

    // They bring their own sessions, and look at them strongly.
    let accounts = arrival.clone();
    let accounts = accounts.deadline(DeadlineLayer::new(settings.deadline));
    let accounts = accounts.peer((peer, limiting.logins()));
    let accounts = platform.accounts.clone().layer(accounts);

    let probes = health::probes(platform.health.clone()).layer(from_fn(http::render));
    let service = quick.merge(uploads).with_state(platform.app.clone());
    // Last is the one whose answer to unknown paths stays.
    let unknown = Router::new().layer(arrival);
    probes.merge(service).merge(accounts).merge(unknown)
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
