//! What a CDN is told, by a CDN: a server that keeps what it is told to and drops
//! what it is asked to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use maxscale_cache::http::{CdnCacheControl, Purge, PurgeError, Purged, Tag, Tags};
use maxscale_cache::{Hub, Invalidated};
use maxscale_tests::{RedisServer, eventually};
use reqwest::Client;
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::rig::{Count, Rig, Still};
use crate::program::{connect, patient, wait_until_in_use};
use crate::source::LIMIT;

/// What the CDN has, by path: the tags that it came with, and the body.
type Kept = Arc<Mutex<HashMap<String, (String, String)>>>;

/// A CDN before an origin.
#[derive(Clone)]
struct Cdn {
    origin: String,
    client: Client,
    kept: Kept,
    /// Purges to refuse before one is done.
    refusals: Count,
}

/// The purge calls of that CDN.
struct CdnClient {
    url: String,
    client: Client,
}

async fn answer(State(cdn): State<Cdn>, Path(path): Path<String>) -> String {
    if let Some((_, body)) = cdn.kept.lock().unwrap().get(&path) {
        return body.clone();
    }
    let url = format!("{}/{path}", cdn.origin);
    let call = cdn.client.get(url).header("host", "www.example");
    let answer = call.send().await.unwrap();
    let header = |name| {
        let value = answer.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let told = header("cdn-cache-control").is_some_and(|told| told.starts_with("max-age"));
    let tags = header("cache-tag").unwrap_or_default();
    let body = answer.text().await.unwrap();
    if told {
        cdn.kept.lock().unwrap().insert(path, (tags, body.clone()));
    }
    body
}

async fn purge(State(cdn): State<Cdn>, headers: HeaderMap) -> StatusCode {
    if cdn.refusals.next() == 1 {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap());
    let mut kept = cdn.kept.lock().unwrap();
    if let Some(url) = text("purge-url") {
        kept.retain(|path, _| url != format!("https://www.example/{path}"));
    }
    if let Some(tag) = text("purge-tag") {
        kept.retain(|_, (tags, _)| !tags.split(',').any(|known| known == tag));
    }
    StatusCode::NO_CONTENT
}

impl Purge for CdnClient {
    async fn purge(&self, what: Purged) -> Result<(), PurgeError> {
        let mut call = self.client.post(format!("{}/purge", self.url));
        match what {
            Purged::Url(url) => call = call.header("purge-url", url),
            Purged::Tags(tags) => {
                for tag in tags.iter() {
                    call = call.header("purge-tag", tag.as_str());
                }
            }
            _ => return Err(PurgeError::Unsupported),
        }
        let done = call
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        done.map(|_| ())
            .map_err(|error| PurgeError::Unconfirmed(error.into()))
    }
}

async fn post_article() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// One process of an origin: a cache that tells the CDN at `cdn`, before an article.
async fn origin(hub: &Hub, cdn: &str, calls: &Count) -> (Still, Rig) {
    let count = calls.clone();
    let article = async move || {
        let mut headers = HeaderMap::new();
        let tags = Tags::new()
            .with("article:1")
            .unwrap()
            .with("front")
            .unwrap();
        tags.write_cache_tag(&mut headers);
        CdnCacheControl::new().write(&mut headers);
        (headers, format!("version {}", count.next()))
    };
    let still = Still::of(hub, |builder| {
        builder.purge(CdnClient {
            url: cdn.to_owned(),
            client: Client::builder().no_proxy().build().unwrap(),
        })
    });
    let router = Router::new().route("/article", get(article).post(post_article));
    let rig = Rig::start(router.layer(still.layer())).await;
    (still, rig)
}

/// A port for a CDN, and its URL.
async fn port() -> (TcpListener, String) {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", port.local_addr().unwrap());
    (port, url)
}

/// A CDN on `port`, and how often it was asked to purge.
fn before(origin: &Rig, port: TcpListener) -> (Rig, Count) {
    let purges = Count::default();
    let cdn = Cdn {
        origin: origin.url.clone(),
        client: origin.client.clone(),
        kept: Kept::default(),
        refusals: purges.clone(),
    };
    let router = Router::new()
        .route("/purge", post(purge))
        .route("/{path}", get(answer))
        .with_state(cdn);
    (Rig::on(port, router), purges)
}

/// An origin with the cache before it, and a CDN before that.
async fn world() -> (Rig, Rig, Count) {
    let calls = Count::default();
    let (port, url) = port().await;
    let (_, origin) = origin(&Hub::builder().build(), &url, &calls).await;
    let (cdn, _) = before(&origin, port);
    (origin, cdn, calls)
}

#[tokio::test]
async fn change_is_told_to_the_cdn_until_it_confirms() {
    let (origin, cdn, calls) = world().await;
    assert_eq!(cdn.text("/article", &[]).await, "version 1");
    assert_eq!(cdn.text("/article", &[]).await, "version 1");
    assert_eq!(calls.get(), 1);
    let host = [("host", "www.example")];
    assert_eq!(origin.send("POST", "/article", &host).await.status(), 204);
    eventually(LIMIT, async || {
        cdn.text("/article", &[]).await == "version 2"
    })
    .await;
}

#[tokio::test]
async fn cdn_drops_by_tag_what_was_sent_with_it() {
    let (_origin, cdn, _) = world().await;
    let client = CdnClient {
        url: cdn.url.clone(),
        client: cdn.client.clone(),
    };
    assert_eq!(cdn.text("/article", &[]).await, "version 1");
    let tagged = |text| Purged::Tags(Tags::new().with(text).unwrap());
    let refused = client.purge(tagged("article:1")).await.unwrap_err();
    assert!(matches!(refused, PurgeError::Unconfirmed(_)), "{refused}");
    client.purge(tagged("article:2")).await.unwrap();
    let kept = |cdn: &Rig| {
        let url = format!("{}/article", cdn.url);
        cdn.client.get(url).send()
    };
    assert_eq!(kept(&cdn).await.unwrap().text().await.unwrap(), "version 1");
    client.purge(tagged("article:1")).await.unwrap();
    // The cache behind it has it still.
    assert_eq!(cdn.text("/article", &[]).await, "version 1");
    let everything = client.purge(Purged::Everything).await.unwrap_err();
    assert!(matches!(everything, PurgeError::Unsupported));
}

#[tokio::test(flavor = "multi_thread")]
async fn tag_drops_what_has_it_in_all_processes_and_the_cdn_is_told_by_one() {
    let redis = RedisServer::start().await;
    let (calls, (port, url)) = (Count::default(), port().await);
    let mut processes = Vec::new();
    for _ in 0..2 {
        let hub = patient(connect(&redis.url()).await).build();
        wait_until_in_use(&hub).await;
        processes.push(origin(&hub, &url, &calls).await);
    }
    let [(here, first), (_, second)] = &processes[..] else {
        unreachable!("two were started");
    };
    let (cdn, purges) = before(first, port);
    let host = [("host", "www.example")];
    for rig in [first, second] {
        assert_eq!(rig.text("/article", &host).await, "version 1");
    }
    assert_eq!(cdn.text("/article", &[]).await, "version 1");
    let drop = async |tag| here.cache.invalidate_tag(&Tag::new(tag).unwrap()).await;
    assert_eq!(drop("article:2").await, Invalidated::Everywhere);
    // The first purge is refused, and asked for again.
    eventually(LIMIT, async || purges.get() == 2).await;
    for rig in [first, second] {
        assert_eq!(rig.text("/article", &host).await, "version 1");
    }

    assert_eq!(drop("front").await, Invalidated::Everywhere);
    assert_eq!(first.text("/article", &host).await, "version 2");
    let is_new = async |rig: &Rig, path| rig.text(path, &host).await == "version 2";
    eventually(LIMIT, async || is_new(second, "/article").await).await;
    eventually(LIMIT, async || is_new(&cdn, "/article").await).await;
    assert_eq!((calls.get(), purges.get()), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn cdn_is_told_when_the_other_processes_can_be_asked_again() {
    let redis = RedisServer::start().await;
    let (calls, (port, url)) = (Count::default(), port().await);
    let hub = patient(connect(&redis.url()).await).build();
    wait_until_in_use(&hub).await;
    let (still, rig) = origin(&hub, &url, &calls).await;
    let (_cdn, purges) = before(&rig, port);
    assert_eq!(
        rig.text("/article", &[("host", "www.example")]).await,
        "version 1"
    );

    redis.pause();
    let tag = Tag::new("front").unwrap();
    let dropped = tokio::spawn(async move { still.cache.invalidate_tag(&tag).await });
    // Told at once, it would have been by now.
    sleep(Duration::from_millis(300)).await;
    assert!(!dropped.is_finished());
    assert_eq!(purges.get(), 0);
    redis.resume();
    assert_eq!(dropped.await.unwrap(), Invalidated::Everywhere);
    eventually(LIMIT, async || purges.get() == 2).await;
}
