//! Bodies: which are stored, which pass, and how.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures_util::stream::{self, StreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use maxscale_cache::Hub;
use maxscale_cache::http::HttpCache;
use maxscale_tests::eventually;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::rig::{Count, Rig, Still};
use crate::source::LIMIT;

const PUBLIC: (&str, &str) = ("cache-control", "s-maxage=60");

/// A server whose body is made by `body`, and how often it was called.
async fn serving(
    set: impl FnOnce(maxscale_cache::http::HttpCacheBuilder) -> maxscale_cache::http::HttpCacheBuilder,
    body: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (Count, Rig) {
    let (still, calls) = (Still::new(set), Count::default());
    let count = calls.clone();
    let handler = async move || {
        count.next();
        body()
    };
    let router = Router::new().route("/", any(handler)).layer(still.layer());
    (calls, Rig::start(router).await)
}

/// Whether a GET does not come to its end.
async fn is_cut_off(rig: &Rig) -> bool {
    match rig.client.get(&rig.url).timeout(LIMIT).send().await {
        Ok(answer) => answer.bytes().await.is_err_and(|error| !error.is_timeout()),
        Err(error) => !error.is_timeout(),
    }
}

fn public(body: impl IntoResponse) -> Response {
    ([PUBLIC], body).into_response()
}

#[tokio::test]
async fn body_up_to_the_limit_is_stored_and_a_longer_one_passes() {
    for (length, stored) in [(1_000, true), (1_001, false), (4_000_000, false)] {
        let made = move || public("x".repeat(length));
        let (calls, rig) = serving(|builder| builder.body_limit(1_000), made).await;
        for _ in 0..3 {
            let answer = rig.get("/", &[]).await;
            assert_eq!(answer.content_length(), Some(length as u64));
            assert_eq!(answer.bytes().await.unwrap().len(), length);
        }
        assert_eq!(calls.get() == 1, stored, "{length}: {} calls", calls.get());
    }
}

#[tokio::test]
async fn body_of_the_largest_limit_fits_into_the_tiers() {
    let length = HttpCache::MAX_BODY_LIMIT;
    let made = move || public(vec![0xff; length]);
    let (calls, rig) = serving(|builder| builder.body_limit(usize::MAX), made).await;
    for _ in 0..2 {
        let body = rig.get("/", &[]).await.bytes().await.unwrap();
        assert!(body.len() == length && body.iter().all(|byte| *byte == 0xff));
    }
    assert_eq!(calls.get(), 1);
}

#[tokio::test]
async fn body_that_breaks_off_is_not_stored_and_is_not_made_whole() {
    let made = || {
        let pieces = [Ok("begun"), Err("the disk is gone")];
        public(Body::from_stream(stream::iter(pieces)))
    };
    let (calls, rig) = serving(|builder| builder, made).await;
    for call in 1..=3 {
        assert!(is_cut_off(&rig).await);
        assert_eq!(calls.get(), call);
    }
}

#[tokio::test]
async fn body_shorter_than_its_length_is_not_stored() {
    let made = || {
        let body = Body::from_stream(stream::iter([Ok::<_, Infallible>("short")]));
        ([PUBLIC, ("content-length", "9")], body).into_response()
    };
    let (calls, rig) = serving(|builder| builder, made).await;
    for call in 1..=2 {
        assert!(is_cut_off(&rig).await);
        assert_eq!(calls.get(), call);
    }
}

#[tokio::test]
async fn body_with_trailers_passes_with_them() {
    let made = || {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "5".parse().unwrap());
        let data = Bytes::from_static(b"12345");
        let frames = [Frame::data(data), Frame::trailers(trailers)];
        let frames = stream::iter(frames).map(Ok::<_, Infallible>);
        public(Body::new(StreamBody::new(frames)))
    };
    let (calls, rig) = serving(|builder| builder, made).await;
    for call in 1..=2 {
        assert_eq!(rig.text("/", &[]).await, "12345");
        assert_eq!(calls.get(), call);
    }
}

#[tokio::test]
async fn body_that_takes_its_time_arrives_as_it_comes_and_is_stored_once_whole() {
    let still = Still::new(|builder| builder);
    let (feed, fed) = mpsc::unbounded_channel::<&'static str>();
    let fed = std::sync::Mutex::new(Some(fed));
    let handler = async move || {
        let fed = fed.lock().unwrap().take().unwrap();
        let pieces = stream::unfold(fed, async |mut fed| {
            let piece = fed.recv().await?;
            Some((Ok::<_, Infallible>(piece), fed))
        });
        public(Body::from_stream(pieces))
    };
    let handler = std::sync::Arc::new(handler);
    let router = Router::new().route("/", get(async move || handler().await));
    let rig = Rig::start(router.layer(still.layer())).await;
    feed.send("one ").unwrap();
    let mut answer = timeout(LIMIT, rig.get("/", &[])).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "one ");
    feed.send("two ").unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "two ");
    feed.send("three").unwrap();
    drop(feed);
    assert_eq!(answer.text().await.unwrap(), "three");
    // The handler can be called once.
    assert_eq!(rig.text("/", &[]).await, "one two three");
}

#[tokio::test]
async fn head_is_answered_from_what_get_stored() {
    let (calls, rig) = serving(|builder| builder, || public("12345")).await;
    assert_eq!(rig.text("/", &[]).await, "12345");
    let head = rig.send("HEAD", "/", &[]).await;
    assert_eq!(head.headers()["content-length"], "5");
    assert_eq!(head.headers()["cache-status"], "maxscale; hit; ttl=60");
    assert_eq!(head.text().await.unwrap(), "");
    assert_eq!(calls.get(), 1);
}

#[tokio::test]
async fn head_alone_stores_nothing() {
    let (calls, rig) = serving(|builder| builder, || public("12345")).await;
    rig.send("HEAD", "/", &[]).await;
    rig.send("HEAD", "/", &[]).await;
    assert_eq!(rig.text("/", &[]).await, "12345");
    assert_eq!(calls.get(), 3);
}

#[tokio::test]
async fn ranges_are_left_to_the_handler() {
    let still = Still::new(|builder| builder);
    let handler = async |headers: HeaderMap| match headers.get("range") {
        Some(_) => {
            let range = [PUBLIC, ("content-range", "bytes 0-1/5")];
            (StatusCode::PARTIAL_CONTENT, range, "12").into_response()
        }
        None => public("12345"),
    };
    let rig = Rig::start(Router::new().route("/", get(handler)).layer(still.layer())).await;
    for _ in 0..2 {
        let part = rig.get("/", &[("range", "bytes=0-1")]).await;
        assert_eq!(part.status(), 206);
        assert_eq!(part.headers()["cache-status"], "maxscale; fwd=bypass");
        assert_eq!(part.text().await.unwrap(), "12");
        assert_eq!(rig.text("/", &[]).await, "12345");
    }
}

#[tokio::test]
async fn get_with_a_body_is_between_the_client_and_the_handler() {
    let still = Still::new(|builder| builder);
    let handler = async |body: String| public(format!("you said {body}"));
    let rig = Rig::start(Router::new().route("/", get(handler)).layer(still.layer())).await;
    let evil = rig.client.get(&rig.url).body("evil").send().await.unwrap();
    assert_eq!(evil.text().await.unwrap(), "you said evil");
    assert_eq!(rig.text("/", &[]).await, "you said ");
}

#[tokio::test]
async fn handler_that_takes_longer_than_loads_may_still_answers() {
    let hub = Hub::builder()
        .load_timeout(Duration::from_millis(20))
        .build();
    let still = Still::of(&hub, |builder| builder);
    let (go, gate) = (mpsc::unbounded_channel::<()>(), Count::default());
    let (go, wait) = go;
    let wait = std::sync::Arc::new(tokio::sync::Mutex::new(wait));
    let count = gate.clone();
    let handler = async move || {
        count.next();
        wait.lock().await.recv().await;
        public("late")
    };
    let rig = Rig::start(Router::new().route("/", get(handler)).layer(still.layer())).await;
    let rig = std::sync::Arc::new(rig);
    let asks: Vec<_> = (0..2)
        .map(|_| {
            let rig = rig.clone();
            tokio::spawn(async move { rig.text("/", &[]).await })
        })
        .collect();
    // Whoever waited for the first one does so no longer than the hub.
    eventually(LIMIT, async || gate.get() == 2).await;
    go.send(()).unwrap();
    go.send(()).unwrap();
    for asked in asks {
        assert_eq!(asked.await.unwrap(), "late");
    }
}

#[tokio::test]
async fn handler_that_panics_does_so_for_whoever_asked() {
    let still = Still::new(|builder| builder);
    let handler = async |method: Method| -> Response {
        match method {
            Method::GET => panic!("as the test wants"),
            _ => public(""),
        }
    };
    let rig = Rig::start(Router::new().route("/", any(handler)).layer(still.layer())).await;
    for _ in 0..2 {
        let call = rig.client.get(&rig.url).timeout(LIMIT).send().await;
        assert!(!call.unwrap_err().is_timeout());
    }
    assert_eq!(rig.send("POST", "/", &[]).await.status(), 200);
}
