//! A process that cannot reach the database, and what is told to those outside.

use http::{Request, StatusCode, header};
use maxscale_auth::jwt::{KeyStoreError, Refused, SigningKeys};
use maxscale_shard::Engine;
use maxscale_tests::{Cut, Proxy};

use super::{DAY, HOUR, SECOND, keep};
use crate::support::{Bench, nodes_of, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_is_cut_off_verifies_by_what_it_knows_and_signs_no_longer_than_others_do() {
    let bench = Bench::new(Engine::Postgres).await;
    let (mut proxies, mut urls) = (Vec::new(), Vec::new());
    for url in &bench.urls {
        let proxy = Proxy::start(url).await;
        urls.push(proxy.url());
        proxies.push(proxy);
    }
    let fleet = open(nodes_of(&urls)).await;
    let (here, apart) = (bench.keep().await, keep(fleet.router(), &bench.clock).await);
    for proxy in &proxies {
        proxy.refuse().await;
        proxy.cut(Cut::Reset).await;
    }

    // The next key is published; who is cut off signs by the first, which verifies.
    bench.time.advance(DAY - SECOND);
    here.look().await.unwrap();
    assert!(apart.is_stale());
    let stale = apart.signing().await;
    assert!(matches!(stale, Err(KeyStoreError::Shard(_))), "{stale:?}");
    let first = bench.sign(&here.signing().await.unwrap());
    assert_eq!(bench.verifies(&apart.keys(), &first), Ok(()));

    // It is not used before whoever still signs has had the time to see it.
    bench.time.advance(HOUR - SECOND);
    here.look().await.unwrap();
    let by_first = bench.sign(&here.signing().await.unwrap());
    assert_eq!(bench.verifies(&apart.keys(), &by_first), Ok(()));
    bench.time.advance(7 * SECOND);
    here.look().await.unwrap();
    let by_next = bench.sign(&here.signing().await.unwrap());
    assert_eq!(bench.verifies(&here.keys(), &by_first), Ok(()));
    assert_eq!(bench.verifies(&apart.keys(), &by_next), Err(Refused::Key));
    assert_eq!(bench.verifies(&apart.keys(), &by_first), Ok(()));

    for proxy in &proxies {
        proxy.heal().await;
    }
    let signing = apart.signing().await.unwrap();
    assert_eq!(bench.verifies(&signing, &by_next), Ok(()));
    let theirs = bench.sign(&signing);
    assert_eq!(bench.verifies(&here.keys(), &theirs), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_is_published_with_a_tag_and_until_when_it_holds() {
    let bench = Bench::new(Engine::Sqlite).await;
    let keys = bench.keep().await;
    let ask = |known: Option<&str>| {
        let mut request = Request::get(SigningKeys::PATH);
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        let response = keys.answer(&request.body(()).unwrap());
        let said = |name| response.headers()[name].to_str().unwrap().to_owned();
        let told = (said(header::ETAG), said(header::CACHE_CONTROL));
        (response.status(), response.into_body(), told)
    };
    let (status, body, (tag, cached)) = ask(None);
    assert_eq!((status, body), (StatusCode::OK, keys.keys().jwks()));
    assert_eq!(cached, "public, max-age=3600");
    // As old as what this process knows is what a cache keeps.
    bench.time.advance(HOUR - 90 * SECOND);
    let (status, body, (same, cached)) = ask(Some(&tag));
    assert_eq!((status, &*body), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!((same, &*cached), (tag.clone(), "public, max-age=90"));
    bench.time.advance(HOUR);
    assert_eq!(ask(None).2.1, "public, max-age=0");

    // Ten minutes before the next key comes, and after it.
    bench
        .time
        .advance(DAY - 3 * HOUR - 510 * SECOND + KEPT_LATER);
    keys.look().await.unwrap();
    assert_eq!(ask(None).2.1, "public, max-age=600");
    bench.time.advance(600 * SECOND);
    keys.look().await.unwrap();
    let (status, body, (other, cached)) = ask(Some(&tag));
    assert_eq!((status, body), (StatusCode::OK, keys.keys().jwks()));
    assert_ne!(other, tag);
    assert_eq!(cached, "public, max-age=3600");
}

/// A key counts from the latest moment at which it may have been stored.
const KEPT_LATER: std::time::Duration = std::time::Duration::from_secs(5);
