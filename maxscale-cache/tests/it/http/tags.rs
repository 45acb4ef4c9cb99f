//! What a response names itself is what drops it.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use maxscale_cache::Invalidated;
use maxscale_cache::http::Tag;
use tokio::sync::Semaphore;

use super::rig::{Count, Rig, Still};
use crate::source::LIMIT;

fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

#[tokio::test]
async fn tag_drops_all_variants_that_name_it_and_nothing_else() {
    let (still, calls) = (Still::new(|it| it), Count::default());
    let page = |name: &'static str, tags: &'static str| {
        let calls = calls.clone();
        get(async move || {
            let control = [
                ("cache-control", "s-maxage=60"),
                ("vary", "accept-language"),
            ];
            (control, [(name, tags)], calls.next().to_string())
        })
    };
    let router = Router::new()
        .route("/a", page("cache-tag", "article:1, front"))
        .route("/b", page("surrogate-key", "front article:2"))
        .route("/c", page("x-tag", "front"));
    let rig = Rig::start(router.layer(still.layer())).await;
    let languages = [("accept-language", "de"), ("accept-language", "en")];
    let read = async || {
        let mut read = Vec::new();
        for path in ["/a", "/b", "/c"] {
            for language in languages {
                read.push(rig.text(path, &[language]).await);
            }
        }
        read
    };
    assert_eq!(read().await, ["1", "2", "3", "4", "5", "6"]);
    let dropped = still.cache.invalidate_tag(&tag("article:2")).await;
    assert_eq!(dropped, Invalidated::Everywhere);
    assert_eq!(read().await, ["1", "2", "7", "8", "5", "6"]);
    let dropped = still.cache.invalidate_tag(&tag("front")).await;
    assert_eq!(dropped, Invalidated::Everywhere);
    assert_eq!(read().await, ["9", "10", "11", "12", "5", "6"]);
    assert_eq!(read().await, ["9", "10", "11", "12", "5", "6"]);
}

#[tokio::test]
async fn answer_from_before_its_tag_was_dropped_is_not_stored_after_it() {
    let (still, calls) = (Still::new(|it| it), Count::default());
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let (calls, gate) = (calls.clone(), gate.clone());
        async move || {
            let number = calls.next();
            drop(gate.acquire().await.unwrap());
            let headers = [("cache-control", "s-maxage=60"), ("cache-tag", "page")];
            (headers, number.to_string())
        }
    };
    let router = Router::new().route("/", get(handler));
    let rig = Arc::new(Rig::start(router.layer(still.layer())).await);
    let slow = {
        let rig = rig.clone();
        tokio::spawn(async move { rig.text("/", &[]).await })
    };
    maxscale_tests::eventually(LIMIT, async || calls.get() == 1).await;
    let dropped = still.cache.invalidate_tag(&tag("page")).await;
    assert_eq!(dropped, Invalidated::Everywhere);
    // Who comes now does not wait for the answer from before either.
    let newer = {
        let rig = rig.clone();
        tokio::spawn(async move { rig.text("/", &[]).await })
    };
    maxscale_tests::eventually(LIMIT, async || calls.get() == 2).await;
    gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), "1");
    assert_eq!(newer.await.unwrap(), "2");
    assert_eq!(rig.text("/", &[]).await, "2");
}

#[tokio::test]
async fn answer_with_more_tags_than_a_value_can_have_is_passed_on() {
    let (still, calls) = (Still::new(|it| it), Count::default());
    let count = calls.clone();
    let handler = async move |asked: HeaderMap| {
        let tags: u32 = asked["tags"].to_str().unwrap().parse().unwrap();
        let tags: Vec<_> = (0..tags).map(|n| n.to_string()).collect();
        let control = [("cache-control", "s-maxage=60".to_owned())];
        (
            control,
            [("cache-tag", tags.join(","))],
            count.next().to_string(),
        )
    };
    let router = Router::new().route("/{tags}", get(handler));
    let rig = Rig::start(router.layer(still.layer())).await;
    for (tags, path, calls) in [("16", "/few", 1), ("17", "/many", 3)] {
        let first = rig.get(path, &[("tags", tags)]).await;
        let told = first.headers()["cache-status"].to_str().unwrap();
        assert_eq!(told.ends_with("stored"), calls == 1, "{told}");
        let second = rig.text(path, &[("tags", tags)]).await;
        assert_eq!(second, calls.to_string());
    }
}
