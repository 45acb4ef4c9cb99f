//! Servers that are away: how soon that is known, and what it costs.

use std::time::Duration;

use maxscale_shard::{Database, DatabaseOptions, Engine, KnownDown, ShardError, sql};
use maxscale_tests::{Lateness, PostgresServer, Proxy, eventually};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::support::{LIMIT, note, noted, options};

fn one() -> maxscale_shard::Statement {
    sql("SELECT 1 AS one")
}

fn known_down(error: &ShardError) -> Option<&KnownDown> {
    match error {
        ShardError::Connect { source, .. } => source.downcast_ref(),
        _ => None,
    }
}

/// Calls, each for `patience`, until one is refused because its server is known to be away.
async fn refused(database: &Database, patience: Duration) -> KnownDown {
    eventually(LIMIT, async || {
        let called = timeout(patience, database.fetch_all(one())).await;
        let error = called.map_err(|_| "no answer".to_owned())?.unwrap_err();
        known_down(&error).cloned().ok_or(error.to_string())
    })
    .await
}

#[tokio::test]
async fn killed_server_is_refused_at_once_and_used_again_when_it_is_back() {
    let server = PostgresServer::start().await;
    let database = Database::open("killed", &server.url(), &options()).unwrap();
    database.fetch_all(one()).await.unwrap();
    server.kill().await;

    let (start, late) = (Instant::now(), Lateness::watch());
    refused(&database, LIMIT).await;
    let took = start.elapsed();
    assert!(
        took < Duration::from_millis(300) + late.total(),
        "{took:?}, {late:?}"
    );
    let health = database.health();
    assert!(health.is_suspect());
    assert!(health.last_failure().is_some());

    server.restart().await;
    eventually(LIMIT, async || database.fetch_all(one()).await).await;
    assert!(!database.health().is_suspect());
}

/// Nobody waits for as long as the server's own limit.
#[tokio::test]
async fn hanging_server_is_found_by_checks_and_used_again_when_it_is_back() {
    let server = PostgresServer::start().await;
    let mut options = options();
    options.check_timeout = Duration::from_millis(200);
    let database = Database::open("hanging", &server.url(), &options).unwrap();
    database.fetch_all(one()).await.unwrap();
    server.pause();

    let down = refused(&database, Duration::from_millis(50)).await;
    let why = down.last_failure.unwrap().why;
    assert!(why.contains("no answer to a check"), "{why}");
    let (start, late) = (Instant::now(), Lateness::watch());
    assert!(database.writer().await.is_err());
    let took = start.elapsed();
    assert!(
        took < Duration::from_millis(100) + late.total(),
        "{took:?}, {late:?}"
    );

    server.resume();
    eventually(LIMIT, async || database.fetch_all(one()).await).await;
}

#[tokio::test]
async fn statements_that_fail_say_nothing_against_the_server() {
    let (_nodes, database) = noted(Engine::Postgres).await;
    database.execute(note(1, 1)).await.unwrap();
    let short = sql("SELECT $1::bigint + $2::bigint AS sum").bind(1_i64);
    for _ in 0..5 {
        for wrong in [
            sql("SELECT nothing"),
            sql("SELECT 1 / 0 AS n"),
            note(1, 1),
            short.clone(),
        ] {
            database.execute(wrong).await.unwrap_err();
        }
    }
    let health = database.health();
    assert!(health.last_failure().is_none(), "{health:?}");
}

#[tokio::test]
async fn full_pool_and_impatient_callers_say_nothing_against_the_server() {
    let (nodes, _) = noted(Engine::Postgres).await;
    let mut few = DatabaseOptions::default();
    (few.connections, few.acquire_timeout) = (1, Duration::from_millis(20));
    let database = Database::open("few", &nodes.urls[0], &few).unwrap();
    let sleeping = sql("SELECT pg_sleep(20)");
    for _ in 0..5 {
        let dropped = timeout(
            Duration::from_millis(10),
            database.fetch_all(sleeping.clone()),
        );
        assert!(!matches!(dropped.await, Ok(Ok(_))));
    }
    let held = eventually(LIMIT, async || database.writer().await).await;
    for _ in 0..5 {
        database.writer().await.unwrap_err();
    }
    drop(held);

    eventually(LIMIT, async || database.fetch_all(one()).await).await;
    let health = database.health();
    assert!(health.last_failure().is_none(), "{health:?}");
}

#[tokio::test]
async fn refused_calls_ask_nothing_of_the_server_and_no_task_outlives_the_database() {
    let server = PostgresServer::start().await;
    let proxy = Proxy::start(server.url()).await;
    server.kill().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let database = Database::open("gone", &proxy.url(), &options()).unwrap();
    refused(&database, LIMIT).await;

    let connections = proxy.connections();
    let start = Instant::now();
    for _ in 0..1_000 {
        let refused = database.fetch_all(one()).await.unwrap_err();
        assert!(known_down(&refused).is_some());
    }
    // At least 100 ms lie between two checks.
    let checks = u64::try_from(start.elapsed().as_millis()).unwrap() / 100 + 1;
    let more = proxy.connections() - connections;
    assert!(more <= checks, "{more} in {:?}", start.elapsed());

    assert!(tasks() > before);
    drop(database);
    eventually(LIMIT, async || tasks() == before).await;
}

#[tokio::test]
async fn file_is_never_suspect() {
    let (_nodes, database) = noted(Engine::Sqlite).await;
    for _ in 0..5 {
        database
            .execute(sql("SELECT nothing FROM nowhere"))
            .await
            .unwrap_err();
    }
    assert!(!database.health().is_suspect());
}
