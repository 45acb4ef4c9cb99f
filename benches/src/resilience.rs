//! What the layers of a service cost: those around a call against a peer's, and the
//! whole stack against none.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::routing::get;
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::control::Fill;
use maxscale_core::fact::ClientIp;
use maxscale_core::limit::{ByClientIp, LimitLayer, Limits, LocalLimits, Policy, Rate, Tiers};
use maxscale_core::meter::Meter;
use maxscale_core::resilience::{
    DeadlineLayer, LoadShedder, LoadShedderLayer, PoolGuard, PoolGuardLayer,
};
use maxscale_core::stack::Stack;
use maxscale_core::telemetry::slo::{Objectives, Slo};
use maxscale_core::telemetry::{Metrics, TraceLayer, matched_path};
use maxscale_measure::{Bar, Op, Plan, Report};
use tokio::time::Instant;
use tower::Service;
use tower::util::MapRequestLayer;

use crate::peer;
use crate::wire::{CLIENTS, Server, Talk};

/// Requests per minute of one address, all of which are this machine's.
const MANY: u32 = 60_000_000;

const BODY: &str = "here";

const TALK: Talk = Talk {
    request: "GET /here/7 HTTP/1.1\r\nhost: www.example.com\r\naccept: */*\r\n\
        user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\n\r\n",
    body: BODY.len(),
    mark: "content-length: 4",
};

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    per_layer(plan, report).await?;
    default_stack_vs_bare_axum(plan, report).await?;
    let bars = ["resilience.stack_vs_tower_resilience"];
    peer::rust(plan, report, "resilience", &bars).await
}

/// A request over TCP, through what stands around each route of the platform but
/// sessions.
async fn default_stack_vs_bare_axum(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "resilience.default_stack_vs_bare_axum";
    let bare = Server::start(routes()).await?;
    let layered = layered()?;
    let (_, whole) = layered.last().ok_or("no layer")?;
    let stacked = Server::start(whole.clone()).await?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let ours = |count| TALK.ask_all(stacked.address(), count);
        let theirs = |count| TALK.ask_all(bare.address(), count);
        rounds.round(ours, theirs).await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}, {CLIENTS} connections"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target: 0.7,
    });
    Ok(())
}

/// What each layer adds to a request that is called in place, in the order in which
/// they are passed.
async fn per_layer(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let layered = layered()?;
    let mut best = vec![f64::MAX; layered.len()];
    for _ in 0..plan.pick(25, 2) {
        for ((_, app), best) in layered.iter().zip(&mut best) {
            *best = best.min(nanoseconds(app.clone(), plan.pick(20_000, 200)).await?);
        }
    }
    let mut before = 0.0;
    for ((layer, _), best) in layered.iter().zip(best) {
        report.note(&format!(
            "resilience.per_layer: {layer:<9} {:>6.0} ns, {best:>6.0} in all",
            best - before
        ));
        before = best;
    }
    Ok(())
}

/// The same routes with nothing around them, and with one layer more each time.
fn layered() -> Result<Vec<(&'static str, Router)>, BoxError> {
    let metrics = Metrics::new();
    let meter = metrics.meter("bench");
    let mut layered = vec![("(nothing)", routes())];
    let mut add = |name, app| layered.push((name, app));
    let stack = Stack::new().trace(trace(&meter));
    add("trace", routes().layer(stack.clone()));
    let stack = stack.edge(MapRequestLayer::new(client));
    add("edge", routes().layer(stack.clone()));
    let stack = stack.deadline(DeadlineLayer::new(Duration::from_secs(10)));
    add("deadline", routes().layer(stack.clone()));
    let stack = stack.peer(peer_limit(&meter)?);
    add("peer", routes().layer(stack.clone()));
    let shedder = LoadShedder::builder("bench", 256).meter(&meter).build()?;
    let stack = stack.shed(LoadShedderLayer::new(shedder));
    add("shed", routes().layer(stack.clone()));
    let guard = PoolGuard::builder("bench").meter(&meter).build(half_full)?;
    let stack = stack.guard(PoolGuardLayer::new(guard));
    add("guard", routes().layer(stack));
    Ok(layered)
}

fn routes() -> Router {
    Router::new().route("/here/{id}", get(async || BODY))
}

fn trace(meter: &Meter) -> TraceLayer {
    let slo = Slo::new(Objectives::default(), Clock::system());
    TraceLayer::new(meter).route_by(matched_path).slo(slo)
}

fn peer_limit(meter: &Meter) -> Result<LimitLayer<ByClientIp>, BoxError> {
    let limits = Limits::local(LocalLimits::new(Clock::system()));
    let policy = Policy::new("addresses", Rate::per_minute(MANY)?)?;
    let tiers = Tiers::new(policy).measured(meter);
    Ok(LimitLayer::by_tier(tiers, ByClientIp::new(), limits))
}

fn client(mut request: Request) -> Request {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if let Some(ConnectInfo(peer)) = peer.copied() {
        request.extensions_mut().insert(ClientIp(peer.ip()));
    }
    request
}

fn half_full() -> Option<Fill> {
    Some(Fill {
        part: 0.5,
        waited_for: false,
    })
}

/// How long one of `count` requests takes, called in place.
async fn nanoseconds(mut app: Router, count: u32) -> Result<f64, BoxError> {
    let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1)));
    let start = Instant::now();
    for _ in 0..count {
        let mut request = Request::get("/here/7").body(Body::empty())?;
        request.extensions_mut().insert(peer);
        let answer: Result<Response, Infallible> = app.call(request).await;
        let Ok(answer) = answer;
        if !answer.status().is_success() {
            return Err(format!("another answer: {}", answer.status()).into());
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(count))
}
