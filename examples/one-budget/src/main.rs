//! One budget for every way in: an HTTP server, a gRPC server and the messages of
//! a WebSocket take their tokens from the same policy.
//!
//! ```text
//!  HTTP ─┐
//!  gRPC ─┴ address ─ LimitLayer ─┐
//!  WebSocket message ─ check ────┴─ Limits ── Redis, or this process
//! ```

mod quote;
mod routes;
mod settings;

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::fact::ClientIp;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::limit::{ByClientIp, LimitLayer, Limits, LocalLimits, Policy, RedisLimits};
use maxscale_core::redis::{Redis, RedisConfig, Role};
use maxscale_core::serve::{Peer, RequestBody, Server, Serving, Stop};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tower::ServiceBuilder;

use quote::Quotes;
use routes::Talk;
use settings::Settings;

/// How long the start waits for Redis.
const SOON: Duration = Duration::from_secs(2);

type Request = http::Request<RequestBody>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::load()?;
    let limits = limits(&settings).await?;
    let policy = Policy::new("requests", settings.rate)?;

    // The same layer, twice: whichever way a request comes, it is the same budget.
    let stack = ServiceBuilder::new()
        .map_request(address)
        .layer(LimitLayer::new(
            policy.clone(),
            ByClientIp::new(),
            limits.clone(),
        ));
    let leases = limits.clone();
    let routes = routes::routes(Talk { limits, policy });
    let http = TcpListener::bind(settings.http).await?;
    let grpc = TcpListener::bind(settings.grpc).await?;
    let told = format!(
        "http  http://{}/quote\ngrpc  http://{}",
        http.local_addr()?,
        grpc.local_addr()?
    );
    let http = Server::builder("http", http, stack.clone().service(routes));
    let grpc = Server::builder("grpc", grpc, stack.service(Routes::new(Quotes)));
    let serving = Serving::builder()
        .server(http.build()?)
        .server(grpc.build()?)
        .on_hand_back("leases", async move { leases.hand_back().await });

    let stop = Stop::new();
    stop.on_signals()?;
    writeln!(std::io::stdout(), "{told}")?;
    serving.build()?.run(&stop).await;
    Ok(())
}

/// Nobody is in front, so whoever connects is the client. Behind a proxy it is
/// `ClientIp::behind`.
fn address(mut request: Request) -> Request {
    if let Some(Peer(peer)) = request.extensions().get().copied() {
        request.extensions_mut().insert(ClientIp(peer.ip()));
    }
    request
}

/// Shared by all processes through Redis if one is configured.
async fn limits(settings: &Settings) -> Result<Limits, Box<dyn Error>> {
    let local = LocalLimits::new(Clock::system());
    let Some((url, secret)) = &settings.shared else {
        return Ok(Limits::local(local));
    };
    let redis = Redis::open(RedisConfig::new(url)?.serves(Role::Limits));
    // One that is down keeps nobody from starting: until it is there, each process
    // admits its share.
    redis.wait_ready(SOON).await;
    let ring = KeyRing::new(1, Secret::new(secret.expose().as_bytes()))?;
    let shared = RedisLimits::new(redis, "one-budget:", ring);
    Ok(Limits::shared(shared, local))
}
