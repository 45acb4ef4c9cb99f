//! The time that a layer adds to a request of an axum router.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt as _;
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::fact::ClientIp;
use maxscale_core::limit::{ByClientIp, LimitLayer, Limits, LocalLimits, Policy, Rate};
use maxscale_measure::{Op, Plan, Report};
use tower::Service;
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;

use crate::bar;

/// Addresses that take turns.
const CLIENTS: u32 = 10_000;

/// Per second, and at once: more than a run takes.
const MANY: u32 = 1_000_000;

pub(crate) async fn vs_tower_governor(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "limits.layer_vs_tower_governor";
    let bare = Router::new().route("/", get(async || "found"));
    let mut ours = plan.compare();
    let mut theirs = plan.compare();
    while !(ours.are_enough() && theirs.are_enough()) {
        let rate = Rate::per_second(MANY)?.burst(MANY)?;
        let limits = Limits::local(LocalLimits::new(Clock::system()));
        let layer = LimitLayer::new(Policy::new("bench", rate)?, ByClientIp::new(), limits);
        let limited = bare.clone().layer(layer);
        let plain = |count| run(bare.clone(), count);
        ours.round(|count| run(limited.clone(), count), plain)
            .await?;

        // It tells clients where they stand, as ours does.
        let config = GovernorConfigBuilder::default()
            .per_nanosecond(1_000)
            .burst_size(MANY)
            .use_headers()
            .finish()
            .ok_or("no configuration")?;
        let limited = bare.clone().layer(GovernorLayer::new(Arc::new(config)));
        let plain = |count| run(bare.clone(), count);
        theirs
            .round(|count| run(limited.clone(), count), plain)
            .await?;
    }
    let (ours, theirs) = (ours.cost(), theirs.cost());
    report.note(&format!(
        "{name}: a request with ours against one without: {ours}"
    ));
    report.note(&format!(
        "{name}: one with theirs against one without: {theirs}"
    ));
    let measured = (ours.value - 1.0) / (theirs.value - 1.0);
    bar(report, name, measured, Op::AtMost, 1.1);
    Ok(())
}

/// `count` requests, one after another, each to the end of its answer.
async fn run(mut app: Router, count: u32) -> Result<(), BoxError> {
    for n in 0..count {
        let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n % CLIENTS));
        let mut request = Request::get("/").body(Body::empty())?;
        // Each finds the address where it looks for it.
        let facts = request.extensions_mut();
        facts.insert(ClientIp(ip));
        facts.insert(ConnectInfo(SocketAddr::new(ip, 1)));
        let answer: Result<Response, Infallible> = app.call(request).await;
        let Ok(answer) = answer;
        let body = answer.into_body().collect().await?.to_bytes();
        if &*body != b"found" {
            return Err("another answer".into());
        }
    }
    Ok(())
}
