//! What a user has written travels by itself: in cookies, a header, metadata.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::routing::{get, post};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderValue, Request, Response, StatusCode};
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::KeyspaceTag;
use maxscale_core::keys::{KeyRing, Keys, Secret};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::layer::{ByHeader, FreshnessCookie, FreshnessLayer, RouteLayer};
use maxscale_shard::{
    DatabaseOptions, FreshShard, Freshness, Keyspace, ReadPolicy, Router, Shard, Topology, Vindex,
    Watermark,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_test::{assert_pending, assert_ready_ok};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::LIMIT;

const HEADER: &str = "x-maxscale-freshness";
const MARK: Watermark = Watermark::new(1, 4_096);

fn keys() -> Keys {
    Keys::new(KeyRing::new(1, Secret::new([7; 32])).unwrap())
}

fn layer() -> FreshnessLayer {
    FreshnessLayer::new(keys(), Clock::system())
}

/// A router over a file that nobody opens.
fn router() -> Router {
    let entries = [NodeSpec::parse("sqlite:nowhere.db", 1).unwrap()];
    let map = Topology::even(vec![entries[0].id().clone()], 16).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), 16, Vindex::Md5).unwrap();
    Router::open(keyspace, map, &entries, DatabaseOptions::default()).unwrap()
}

fn shard() -> Shard {
    router().virtual_shard(VirtualShard::new(1)).unwrap()
}

/// The text that a user has after a write.
fn text() -> String {
    let freshness = Freshness::new(Clock::system());
    freshness.wrote(&shard(), Some(MARK));
    freshness.to_text(&keys().ring())
}

type Reply = Response<String>;

/// Tells from where its user reads, and writes where the path is `/write`.
async fn serve(request: Request<()>) -> Result<Reply, Infallible> {
    let freshness: &Freshness = request.extensions().get().expect("the layer adds it");
    if request.uri().path() == "/write" {
        freshness.wrote(&shard(), Some(MARK));
    }
    Ok(Response::new(format!("{:?}", freshness.policy(&shard()))))
}

/// Status and `Set-Cookie` headers, and whether the answer is of a user who wrote.
struct Told {
    status: StatusCode,
    cookies: Vec<String>,
    header: Option<String>,
    wrote: bool,
}

async fn ask(layer: &FreshnessLayer, path: &str, headers: &[(&'static str, &[u8])]) -> Told {
    let mut request = Request::get(path).body(()).unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().append(*name, value);
    }
    let called = Arc::new(AtomicU32::new(0));
    let count = called.clone();
    let inner = service_fn(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        serve(request)
    });
    let reply = layer.layer(inner).oneshot(request).await.unwrap();
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let status = reply.status();
    // A refusal has run nothing, and any other answer something once.
    assert_eq!(
        called.load(Ordering::Relaxed),
        u32::from(status.is_success())
    );
    let wrote = format!("{:?}", ReadPolicy::AtLeast(MARK));
    Told {
        status,
        cookies: (reply.headers().get_all(SET_COOKIE).iter())
            .map(text)
            .collect(),
        header: reply.headers().get(HEADER).map(text),
        wrote: format!("{:?}", reply.body()).contains(&wrote),
    }
}

fn cookie(name: &str, text: &str) -> Vec<u8> {
    format!("{name}={text}").into_bytes()
}

#[tokio::test]
async fn answer_to_a_write_brings_a_text_and_one_to_nothing_new_none() {
    let layer = layer();
    let told = ask(&layer, "/write", &[]).await;
    let text = told.header.unwrap();
    let expected =
        format!("__Host-maxscale-fresh={text}; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure");
    assert_eq!(told.cookies, [expected]);
    for headers in [
        [(HEADER, text.clone().into_bytes())],
        [("cookie", cookie("__Host-maxscale-fresh", &text))],
        [("cookie", cookie("__Host-maxscale-fresh-seen", &text))],
    ] {
        let headers = headers.each_ref().map(|(name, value)| (*name, &**value));
        let next = ask(&layer, "/", &headers).await;
        assert!(next.wrote, "read back from {headers:?}");
        assert_eq!((next.cookies.len(), next.header), (0, None));
    }
    assert!(!ask(&layer, "/", &[]).await.wrote);
}

#[tokio::test]
async fn names_and_protection_of_cookies_are_settings() {
    let plain = FreshnessCookie::new()
        .insecure()
        .named("app.fresh")
        .unwrap();
    let layer = layer()
        .lifetime(Duration::from_millis(2_500))
        .header("x-fresh".parse().unwrap())
        .cookie(plain);
    let told = ask(&layer, "/write", &[]).await;
    let [set] = &*told.cookies else {
        panic!("{:?}", told.cookies)
    };
    assert!(set.starts_with("app.fresh="), "{set}");
    assert!(set.ends_with("; Max-Age=3"), "{set}");
    let text = set["app.fresh=".len()..].split(';').next().unwrap();
    assert!(
        ask(&layer, "/", &[("x-fresh", text.as_bytes())])
            .await
            .wrote
    );
    assert!(!ask(&layer, "/", &[(HEADER, text.as_bytes())]).await.wrote);

    let layer = layer.without_cookie();
    let set = cookie("app.fresh", text);
    assert!(!ask(&layer, "/", &[("cookie", &set)]).await.wrote);
    assert!(ask(&layer, "/write", &[]).await.cookies.is_empty());
    for name in ["", "a b", "a;b", "a=b", "ü"] {
        assert!(FreshnessCookie::new().named(name).is_err(), "{name}");
    }
}

#[tokio::test]
async fn hostile_cookie_is_refused_and_removed() {
    let layer = layer();
    let ours = |text: &[u8]| [b"__Host-maxscale-fresh=", text].concat();
    let mut changed = text();
    changed.replace_range(70..71, if &changed[70..71] == "0" { "1" } else { "0" });
    let foreign = {
        let freshness = Freshness::new(Clock::system());
        freshness.to_text(&KeyRing::new(1, Secret::new([8; 32])).unwrap())
    };
    let many = (0..100).flat_map(|_| [ours(text().as_bytes()), b"; ".to_vec()].concat());
    for hostile in [
        ours(changed.as_bytes()),
        ours(foreign.as_bytes()),
        ours(b""),
        ours(&b"0".repeat(10_000)),
        ours(b"\xff\xfe"),
        ours(text().to_uppercase().as_bytes()),
        many.collect(),
    ] {
        let told = ask(&layer, "/write", &[("cookie", &hostile)]).await;
        assert_eq!(told.status, StatusCode::BAD_REQUEST);
        assert_eq!(told.header, None);
        for (set, name) in told.cookies.iter().zip(["", "-seen"]) {
            let name = format!("__Host-maxscale-fresh{name}=; ");
            assert!(set.starts_with(&name) && set.contains("Max-Age=0"), "{set}");
        }
        assert_eq!(told.cookies.len(), 2);
    }
}

#[tokio::test]
async fn cookies_of_others_are_passed_over_whatever_they_are() {
    let layer = layer();
    let own = cookie("__Host-maxscale-fresh", &text());
    let line = [b"a=\xff; b; =c; maxscale-fresh=x;; ".as_slice(), &own].concat();
    assert!(ask(&layer, "/", &[("cookie", &line)]).await.wrote);
    let long = [b"a=".as_slice(), &b"x".repeat(10_000)].concat();
    let told = ask(&layer, "/", &[("cookie", &long), ("cookie", &own)]).await;
    assert!(told.wrote);
}

#[tokio::test]
async fn header_wins_over_cookies_and_a_bad_one_leaves_them_alone() {
    let layer = layer();
    let bad = cookie("__Host-maxscale-fresh", "00");
    let told = ask(
        &layer,
        "/",
        &[("cookie", &bad), (HEADER, text().as_bytes())],
    )
    .await;
    assert!(told.wrote);
    let good = cookie("__Host-maxscale-fresh", &text());
    for hostile in [&b"00"[..], b"", b"\xff", &b"0".repeat(10_000)] {
        let told = ask(&layer, "/write", &[("cookie", &good), (HEADER, hostile)]).await;
        assert_eq!(told.status, StatusCode::BAD_REQUEST);
        assert!(told.cookies.is_empty());
    }
}

#[tokio::test]
async fn of_several_texts_the_latest_counts() {
    let layer = layer();
    let early = Freshness::new(Clock::system());
    early.wrote(&shard(), Some(Watermark::new(1, 8)));
    let early = early.to_text(&keys().ring());
    let (text, early) = (text(), early.as_bytes());
    for order in [[early, text.as_bytes()], [text.as_bytes(), early]] {
        let told = ask(&layer, "/", &[(HEADER, order[0]), (HEADER, order[1])]).await;
        assert!(told.wrote);
    }
    let many = [(HEADER, early); 9];
    assert_eq!(
        ask(&layer, "/", &many).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn text_is_worth_nothing_after_its_time_or_without_its_key() {
    let (clock, time) = Clock::manual(Timestamp::from_micros(0));
    let keys = keys();
    let layer = FreshnessLayer::new(keys.clone(), clock);
    let text = ask(&layer, "/write", &[]).await.header.unwrap();
    keys.exchange(|ring| ring.with_old(2, Secret::new([9; 32]))?.promoted(2))
        .unwrap();
    assert!(ask(&layer, "/", &[(HEADER, text.as_bytes())]).await.wrote);
    time.advance(Freshness::DEFAULT_LIFETIME);
    let told = ask(&layer, "/", &[(HEADER, text.as_bytes())]).await;
    assert_eq!((told.status, told.wrote), (StatusCode::OK, false));
    keys.exchange(|ring| ring.retired(1)).unwrap();
    let told = ask(&layer, "/", &[(HEADER, text.as_bytes())]).await;
    assert_eq!(told.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn same_layer_stands_in_axum_and_tells_a_browser() {
    let write = async |Extension(freshness): Extension<Freshness>| {
        freshness.wrote(&shard(), Some(MARK));
    };
    let policy = async |Extension(shard): Extension<FreshShard>| {
        format!("{:?}", shard.freshness().policy(shard.shard()))
    };
    let by_user = ByHeader::new(http::HeaderName::from_static("x-user"));
    let stack = ServiceBuilder::new()
        .layer(layer().cookie(FreshnessCookie::new().insecure()))
        .layer(RouteLayer::new(router(), by_user));
    let app = axum::Router::new()
        .route("/write", post(write))
        .route("/", get(policy))
        .layer(stack);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async { axum::serve(listener, app).await.unwrap() });

    let browser = reqwest::Client::builder().cookie_store(true).timeout(LIMIT);
    let browser = browser.build().unwrap();
    let written = browser.post(format!("{base}/write")).header("x-user", "42");
    assert_eq!(written.send().await.unwrap().status(), 200);
    let read = || browser.get(&base).header("x-user", "42").send();
    let told = read().await.unwrap().text().await.unwrap();
    assert_eq!(told, format!("{:?}", ReadPolicy::AtLeast(MARK)));

    let bad = browser
        .get(&base)
        .header(COOKIE, "maxscale-fresh=00")
        .send();
    let bad = bad.await.unwrap();
    assert_eq!(bad.status(), 400);
    assert_eq!(bad.headers()["content-type"], "application/problem+json");
    // The browser has forgotten what was refused, and begins anew.
    let told = read().await.unwrap().text().await.unwrap();
    assert!(told.starts_with("Replica"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn same_layer_stands_in_tonic_and_tells_in_metadata() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (_, health) = tonic_health::server::health_reporter();
    let health = InterceptedService::new(health, |request: tonic::Request<()>| {
        let freshness: &Freshness = request.extensions().get().unwrap();
        let known = freshness.policy(&shard()) == ReadPolicy::AtLeast(MARK);
        freshness.wrote(&shard(), Some(MARK));
        match known {
            true => Err(tonic::Status::already_exists("it was written before")),
            false => Ok(request),
        }
    });
    let server = tonic::transport::Server::builder()
        .layer(layer())
        .add_service(health);
    let mut servers = JoinSet::new();
    servers.spawn(async {
        let incoming = TcpListenerStream::new(listener);
        server.serve_with_incoming(incoming).await.unwrap();
    });
    let server = Endpoint::from_shared(address).unwrap().timeout(LIMIT);
    let mut client = HealthClient::new(server.connect().await.unwrap());
    let call = |text: Option<&str>| {
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        if let Some(text) = text {
            request.metadata_mut().insert(HEADER, text.parse().unwrap());
        }
        request
    };
    let answer = client.check(call(None)).await.unwrap();
    let text = answer.metadata().get(HEADER).unwrap().to_str().unwrap();
    assert!(answer.metadata().get("set-cookie").is_none());
    let status = client.check(call(Some(text))).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let status = client.check(call(Some("00"))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn layer_is_ready_when_the_inner_service_is_and_keeps_its_error() {
    let (mut service, mut inner) = mock::spawn_layer::<Request<()>, Reply, _>(layer());
    inner.allow(0);
    assert_pending!(service.poll_ready());
    inner.allow(1);
    assert_ready_ok!(service.poll_ready());
    let answer = async {
        let (_, send) = inner.next_request().await.unwrap();
        send.send_error("broken inside");
    };
    let both = async { tokio::join!(service.call(Request::new(())), answer) };
    let (failed, ()) = timeout(LIMIT, both).await.unwrap();
    assert_eq!(failed.unwrap_err().to_string(), "broken inside");
}
