//! What is stale: confirmed, replaced meanwhile, or better than an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use futures_util::future::join_all;
use maxscale_tests::eventually;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::rig::{Count, Rig, Still};
use crate::source::LIMIT;

/// An origin that counts, and answers with the status that it is told.
#[derive(Clone)]
struct Origin {
    calls: Count,
    status: Arc<AtomicU16>,
    gate: Arc<Semaphore>,
}

impl Origin {
    fn new() -> Self {
        Self {
            calls: Count::default(),
            status: Arc::new(AtomicU16::new(200)),
            gate: Arc::new(Semaphore::new(1)),
        }
    }

    fn router(&self, control: &'static str) -> Router {
        let origin = self.clone();
        let handler = async move || {
            let number = origin.calls.next();
            let _turn = origin.gate.acquire().await.unwrap();
            let status = origin.status.load(Ordering::SeqCst);
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("cache-control", control)], format!("{number}"))
        };
        Router::new().route("/", get(handler))
    }

    fn fails(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

async fn rig(origin: &Origin, control: &'static str) -> (Still, Rig) {
    let still = Still::new(|builder| builder);
    let rig = Rig::start(origin.router(control).layer(still.layer())).await;
    (still, rig)
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_answer_is_served_while_one_call_replaces_it() {
    let origin = Origin::new();
    let (still, rig) = rig(&origin, "s-maxage=10, stale-while-revalidate=30").await;
    assert_eq!(rig.text("/", &[]).await, "1");
    let turn = origin.gate.clone().acquire_owned().await.unwrap();
    still.pass(15);
    let asks = join_all((0..50).map(|_| rig.get("/", &[]))).await;
    for answer in asks {
        assert_eq!(answer.headers()["cache-status"], "maxscale; hit; ttl=-5");
        assert_eq!(answer.headers()["age"], "15");
        assert_eq!(answer.text().await.unwrap(), "1");
    }
    drop(turn);
    eventually(LIMIT, async || rig.text("/", &[]).await == "2").await;
    assert_eq!(origin.calls.get(), 2);
}

#[tokio::test]
async fn past_its_window_a_stale_answer_is_waited_for() {
    let origin = Origin::new();
    let (still, rig) = rig(&origin, "s-maxage=10, stale-while-revalidate=30").await;
    assert_eq!(rig.text("/", &[]).await, "1");
    still.pass(40);
    assert_eq!(rig.text("/", &[]).await, "2");
}

#[tokio::test]
async fn stale_answer_is_better_than_an_error_for_as_long_as_it_says() {
    let origin = Origin::new();
    let (still, rig) = rig(&origin, "s-maxage=10, stale-if-error=30").await;
    assert_eq!(rig.text("/", &[]).await, "1");
    for status in [500, 502, 503, 504] {
        origin.fails(status);
        still.pass(7);
        let answer = rig.get("/", &[]).await;
        assert_eq!(answer.status(), 200, "instead of {status}");
        assert_eq!(answer.text().await.unwrap(), "1");
    }
    still.pass(12);
    assert_eq!(rig.get("/", &[]).await.status(), 504);
    origin.fails(200);
    assert_eq!(rig.get("/", &[]).await.status(), 200);
}

#[tokio::test]
async fn error_that_is_the_clients_is_no_reason_for_what_is_stale() {
    let origin = Origin::new();
    let (still, rig) = rig(&origin, "s-maxage=10, stale-if-error=300").await;
    assert_eq!(rig.text("/", &[]).await, "1");
    still.pass(15);
    origin.fails(403);
    assert_eq!(rig.get("/", &[]).await.status(), 403);
    // It was not only passed: what is not for everybody any more is gone.
    origin.fails(503);
    assert_eq!(rig.get("/", &[]).await.status(), 503);
}

#[tokio::test]
async fn must_revalidate_forbids_what_is_stale() {
    let origin = Origin::new();
    let control = "s-maxage=10, stale-if-error=300, stale-while-revalidate=300, must-revalidate";
    let (still, rig) = rig(&origin, control).await;
    assert_eq!(rig.text("/", &[]).await, "1");
    still.pass(15);
    origin.fails(503);
    assert_eq!(rig.get("/", &[]).await.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_for_a_call_that_fails_get_what_is_stale() {
    let origin = Origin::new();
    let (still, rig) = rig(&origin, "s-maxage=10, stale-if-error=300").await;
    assert_eq!(rig.text("/", &[]).await, "1");
    let turn = origin.gate.clone().acquire_owned().await.unwrap();
    still.pass(15);
    origin.fails(503);
    let rig = Arc::new(rig);
    let asks = (0..50).map(|_| {
        let rig = rig.clone();
        tokio::spawn(async move { rig.get("/", &[]).await.status() })
    });
    let asks: Vec<_> = asks.collect();
    eventually(LIMIT, async || origin.calls.get() == 2).await;
    let since = Instant::now();
    drop(turn);
    for asked in join_all(asks).await {
        assert_eq!(asked.unwrap(), 200);
    }
    // Who came after the failure was told may have tried again, once a second.
    let (calls, seconds) = (origin.calls.get(), since.elapsed().as_secs());
    assert!(
        calls <= 4 + usize::try_from(seconds).unwrap(),
        "{calls} calls"
    );
}

#[tokio::test]
async fn handler_that_says_not_modified_keeps_what_is_stored() {
    let (still, calls) = (Still::new(|builder| builder), Count::default());
    let count = calls.clone();
    let handler = async move |headers: HeaderMap| {
        count.next();
        let known = headers
            .get("if-none-match")
            .is_some_and(|tag| tag == "\"v1\"");
        let status = match known {
            true => StatusCode::NOT_MODIFIED,
            false => StatusCode::OK,
        };
        let body = if known { "" } else { "whole" };
        (
            status,
            [("cache-control", "s-maxage=10"), ("etag", "\"v1\"")],
            body,
        )
    };
    let rig = Rig::start(Router::new().route("/", get(handler)).layer(still.layer())).await;
    for call in 1..=3 {
        assert_eq!(rig.text("/", &[]).await, "whole");
        assert_eq!(rig.text("/", &[]).await, "whole");
        assert_eq!(calls.get(), call);
        still.pass(10);
    }
}

#[tokio::test]
async fn client_that_has_it_is_told_so_by_a_tag_made_here() {
    let origin = Origin::new();
    let (still, rig) = rig(&origin, "s-maxage=10").await;
    let first = rig.get("/", &[]).await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let again = rig.get("/", &[("if-none-match", &tag)]).await;
    assert_eq!(
        (again.status(), origin.calls.get()),
        (StatusCode::NOT_MODIFIED, 1)
    );
    assert_eq!(again.headers()["etag"], tag.as_str());
    assert!(!again.headers().contains_key("content-type"));
    assert_eq!(again.text().await.unwrap(), "");
    // Another body has another tag.
    still.pass(10);
    let newer = rig.get("/", &[("if-none-match", &tag)]).await;
    assert_eq!(
        (newer.status(), newer.text().await.unwrap()),
        (StatusCode::OK, "2".into())
    );
}
