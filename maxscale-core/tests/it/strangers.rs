//! Callers who make up who they are: limits of addresses on axum and tonic.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::routing::get;
use http_body_util::BodyExt as _;
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::fact::{ClientIp, ForwardedBy, Networks};
use maxscale_core::limit::{ByClientIp, LimitLayer, Limits, LocalLimits, Policy, Rate};
use tonic::service::Routes;
use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _};

/// As many as one caller makes up.
const MANY: u32 = 100_000;

const BURST: usize = 10;

/// A clock that stands still: nothing comes back while a test asks.
fn store() -> LocalLimits {
    let (clock, _) = Clock::manual(Timestamp::from_micros(0));
    LocalLimits::new(clock)
}

fn limit(limits: Limits) -> LimitLayer<ByClientIp> {
    let rate = Rate::per_minute(100).unwrap();
    let policy = Policy::new("requests", rate).unwrap();
    LimitLayer::new(policy, ByClientIp::new(), limits)
}

/// An app behind proxies of 10.0.0.0/8, and no others.
fn app(limits: Limits) -> Router {
    let proxies: Networks = "10.0.0.0/8".parse().unwrap();
    let client = move |mut request: Request| {
        if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
            let by = ForwardedBy::XForwardedFor;
            let client = ClientIp::behind(peer.ip(), request.headers(), by, &proxies);
            request.extensions_mut().insert(client);
        }
        request
    };
    let routes = Router::new().route("/", get(async || "here"));
    let limited = ServiceBuilder::new()
        .map_request(client)
        .layer(limit(limits));
    routes.layer(limited)
}

fn asked(peer: &str, forwarded: Option<String>) -> Request {
    let mut request = Request::new(Body::empty());
    let peer: IpAddr = peer.parse().unwrap();
    let peer = ConnectInfo(SocketAddr::new(peer, 4_711));
    request.extensions_mut().insert(peer);
    if let Some(value) = forwarded {
        let value = value.parse().unwrap();
        request.headers_mut().insert("x-forwarded-for", value);
    }
    request
}

/// An address like no other of these, in no network of ours.
fn made_up(n: u32) -> String {
    IpAddr::from((0xcb00_0000 + n).to_be_bytes()).to_string()
}

/// One of the addresses of 2001:db8:1:2::/64.
fn rotated(n: u32) -> Ipv6Addr {
    let low = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) & u128::from(u64::MAX);
    Ipv6Addr::from_bits(0x2001_0db8_0001_0002 << 64 | low)
}

/// How many of these requests are let through.
async fn admitted(limits: Limits, requests: impl Iterator<Item = Request>) -> usize {
    let mut app = app(limits);
    let mut admitted = 0;
    for request in requests {
        let answer = app.call(request).await.unwrap();
        match answer.status() {
            StatusCode::OK => admitted += 1,
            status => assert_eq!(status, StatusCode::TOO_MANY_REQUESTS),
        }
    }
    admitted
}

#[tokio::test]
async fn whatever_an_untrusted_peer_says_of_who_it_is_it_is_one_client() {
    let store = store();
    let spoofed = (0..MANY).map(|n| asked("203.0.113.9", Some(made_up(n))));
    let admitted = admitted(Limits::local(store.clone()), spoofed).await;
    assert_eq!((admitted, store.keys()), (BURST, 1));
}

#[tokio::test]
async fn what_a_client_writes_before_its_proxy_does_makes_it_no_other_client() {
    let store = store();
    let spoofed = (0..1_000).map(|n| {
        let list = format!("{}, 203.0.113.9", made_up(n));
        asked("10.0.0.1", Some(list))
    });
    let admitted = admitted(Limits::local(store.clone()), spoofed).await;
    assert_eq!((admitted, store.keys()), (BURST, 1));
}

#[tokio::test]
async fn addresses_that_rotate_in_one_network_are_one_client() {
    let store = store();
    let rotating = (0..MANY).map(|n| asked(&rotated(n).to_string(), None));
    let admitted = admitted(Limits::local(store.clone()), rotating).await;
    assert_eq!((admitted, store.keys()), (BURST, 1));
}

#[tokio::test]
async fn request_without_a_peer_is_answered_and_told_which_layer_is_missing() {
    let answer = app(Limits::local(store()));
    let answer = answer.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let problem = answer.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    let told = "the limit `requests` needs ClientIp; add a layer that knows the peer's address";
    assert_eq!(problem["detail"], told);
}

#[tokio::test]
async fn call_without_a_peer_is_answered_and_told_which_layer_is_missing() {
    let (_, health) = tonic_health::server::health_reporter();
    let service = limit(Limits::local(store())).layer(Routes::new(health));
    let mut call = Request::new(Body::empty());
    let grpc = "application/grpc".parse().unwrap();
    call.headers_mut().insert("content-type", grpc);
    let answer = service.oneshot(call).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "13");
    let told = answer.headers()["grpc-message"].to_str().unwrap();
    assert!(told.contains("needs ClientIp"), "{told}");
}

#[cfg(all(feature = "redis", feature = "serve"))]
mod connected {
    use maxscale_core::keys::{KeyRing, Secret};
    use maxscale_core::limit::RedisLimits;
    use maxscale_core::redis::{Command, Redis};
    use maxscale_core::serve::{Server, Serving, Stop};
    use maxscale_tests::RedisServer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::redis::{SOON, patient};

    /// The keys of limits; beside them is who counts.
    async fn keys(redis: &Redis) -> usize {
        let keys = Command::new("KEYS").arg("test:limit:*{*");
        let keys = redis.command(keys).await.unwrap();
        keys.into_array().unwrap().len()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn client_on_a_connection_is_one_key_in_redis_whatever_it_says() {
        let server = RedisServer::start().await;
        let redis = patient(&server).await;
        let ring = KeyRing::new(1, Secret::new([7; 32])).unwrap();
        let shared = RedisLimits::new(redis.clone(), "test:", ring);
        let limits = Limits::shared(shared, LocalLimits::new(Clock::system()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder("main", listener, app(limits)).build();
        let serving = Serving::builder().server(server.unwrap()).build().unwrap();
        let stop = Stop::new();
        let asked = stop.clone();
        tokio::spawn(async move { serving.run(&asked).await });

        let mut connection = TcpStream::connect(address).await.unwrap();
        let mut answers = Vec::new();
        let mut admitted = 0;
        for n in 0..500 {
            let head = format!(
                "GET / HTTP/1.1\r\nhost: test\r\nx-forwarded-for: {}\r\n\r\n",
                made_up(n)
            );
            connection.write_all(head.as_bytes()).await.unwrap();
            answers.clear();
            // The end of either body.
            while !(answers.ends_with(b"here") || answers.ends_with(b"}")) {
                let read = connection.read_buf(&mut answers);
                let read = tokio::time::timeout(SOON, read).await.unwrap();
                assert!(read.unwrap() > 0, "the connection is closed");
            }
            admitted += usize::from(answers.starts_with(b"HTTP/1.1 200"));
        }
        // One more comes back every 0.6 s.
        assert!((BURST..BURST + 100).contains(&admitted), "{admitted}");
        assert_eq!(keys(&redis).await, 1);
    }
}
