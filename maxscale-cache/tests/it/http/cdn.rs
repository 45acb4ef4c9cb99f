//! What a CDN is told, by a CDN: a server that keeps what it is told to and drops
//! what it is asked to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use maxscale_cache::http::{CdnCacheControl, Purge, PurgeError, Purged, Tags};
use maxscale_tests::eventually;
use reqwest::Client;

use super::rig::{Count, Rig, Still};
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

/// An origin with the cache before it, and a CDN before that.
async fn world() -> (Rig, Rig, Count) {
    let calls = Count::default();
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
    let cdn_port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cdn_url = format!("http://{}", cdn_port.local_addr().unwrap());
    let still = Still::new(|builder| {
        builder.purge(CdnClient {
            url: cdn_url.clone(),
            client: Client::builder().no_proxy().build().unwrap(),
        })
    });
    let router = Router::new().route("/article", get(article).post(post_article));
    let origin = Rig::start(router.layer(still.layer())).await;
    let cdn = Cdn {
        origin: origin.url.clone(),
        client: origin.client.clone(),
        kept: Kept::default(),
        refusals: Count::default(),
    };
    let router = Router::new()
        .route("/purge", post(purge))
        .route("/{path}", get(answer))
        .with_state(cdn);
    (origin, Rig::on(cdn_port, router), calls)
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
