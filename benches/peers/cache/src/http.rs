//! A response from the cache of an axum router, against axum-response-cache: the same
//! route, asked by several tasks on as many threads as there are cores, as a server's
//! connections ask.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use axum_response_cache::CacheLayer;
use http_body_util::BodyExt as _;
use maxscale_cache::Hub;
use maxscale_cache::http::{HttpCache, HttpCacheLayer};
use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report};
use tokio::task::JoinSet;
use tower::Service;

/// Longer than any run, so that every request is a hit.
const TTL: Duration = Duration::from_secs(3_600);
const TASKS: u32 = 8;
const BODY: &[u8] = &[b'x'; 2_048];

pub(crate) async fn hit_vs_axum_response_cache(
    plan: &Plan,
    report: &mut Report,
) -> Result<(), BoxError> {
    let name = "cache.http_hit_vs_axum_response_cache";
    let page = get(async || {
        (
            [("cache-control", "s-maxage=3600")],
            Bytes::from_static(BODY),
        )
    });
    let bare = Router::new().route("/articles/{id}", page);
    let cache = HttpCache::builder(&Hub::builder().build(), "page").build();
    let with_ours = bare.clone().layer(HttpCacheLayer::new(cache));
    // It tells the age too, as ours does.
    let theirs = CacheLayer::with_lifespan(TTL).add_response_headers();
    let with_theirs = bare.clone().layer(theirs);
    ask(with_ours.clone(), None, 1).await?;
    ask(with_theirs.clone(), None, 1).await?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let ours = |count| run(with_ours.clone(), Some("age"), count);
        let theirs = |count| run(with_theirs.clone(), Some("x-cache-age"), count);
        rounds.round(ours, theirs).await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}, {TASKS} tasks"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target: 1.0,
    });
    Ok(())
}

/// `count` requests by all tasks together.
async fn run(app: Router, mark: Option<&'static str>, count: u32) -> Result<(), BoxError> {
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(ask(app.clone(), mark, count.div_ceil(TASKS)));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// `count` requests, one after another, each to the end of its answer, which a hit
/// gives the header `mark`.
async fn ask(mut app: Router, mark: Option<&'static str>, count: u32) -> Result<(), BoxError> {
    for _ in 0..count {
        let request = Request::get("/articles/7?page=2")
            .header("host", "www.example.com")
            .header("accept", "text/html,application/xhtml+xml")
            .body(Body::empty())?;
        let answer: Result<Response, Infallible> = app.call(request).await;
        let Ok(answer) = answer;
        if mark.is_some_and(|mark| !answer.headers().contains_key(mark)) {
            return Err("no answer from the cache".into());
        }
        let body = answer.into_body().collect().await?.to_bytes();
        if &*body != BODY {
            return Err("another answer".into());
        }
    }
    Ok(())
}
