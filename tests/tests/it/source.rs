//! Where servers come from, seen from outside.

use std::time::Duration;

use maxscale_tests::{PostgresServer, Process, RedisServer};
use sqlx::{Connection, PgConnection};

use crate::redis::ask;

const LIMIT: Duration = Duration::from_secs(60);

/// Output of a holder that cannot start its servers.
async fn refused(variables: &[(&str, &str)]) -> String {
    let mut holder = Process::builder(env!("CARGO_BIN_EXE_hold_servers"));
    for (name, value) in variables {
        holder = holder.env(name, value);
    }
    let holder = holder.start();
    let status = holder.wait(LIMIT).await;
    assert!(!status.success());
    holder.stderr().join("\n")
}

#[tokio::test]
async fn an_unknown_way_is_refused_with_the_known_ones() {
    let said = refused(&[("MAXSCALE_TEST_SERVERS", "dokcer")]).await;

    assert!(
        said.contains("MAXSCALE_TEST_SERVERS=dokcer: expected url, path, packages or docker"),
        "{said}"
    );
}

#[tokio::test]
async fn a_forced_url_that_is_not_set_is_refused() {
    let said = refused(&[("MAXSCALE_TEST_SERVERS", "url")]).await;

    assert!(said.contains("DATABASE_URL is not set"), "{said}");
}

#[tokio::test]
async fn a_missing_server_fails_with_what_was_tried_and_what_to_do() {
    let said = refused(&[
        ("MAXSCALE_TEST_SERVERS", "docker"),
        // A docker that does not answer, whatever this machine has.
        ("PATH", "/nonexistent"),
    ])
    .await;

    assert!(
        said.contains("no PostgreSQL (version 15 or newer)"),
        "{said}"
    );
    assert!(said.contains("  url: DATABASE_URL is not set"), "{said}");
    assert!(said.contains("  docker: docker: No such file"), "{said}");
    assert!(said.contains("To fix it: "), "{said}");
}

#[tokio::test]
async fn an_unreachable_url_fails_and_names_its_variable() {
    let said = refused(&[("DATABASE_URL", "postgres://127.0.0.1:1/x")]).await;

    assert!(said.contains("DATABASE_URL: "), "{said}");
}

async fn databases(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT datname::text FROM pg_database ORDER BY 1")
        .fetch_all(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn on_servers_known_by_url_a_run_removes_what_it_made_and_nothing_else() {
    let (postgres, redis) = (PostgresServer::start().await, RedisServer::start().await);
    let before = databases(&postgres.url()).await;
    ask(&redis.url(), "SET maxscale_test_somebodys 1")
        .await
        .unwrap();

    let run = Process::builder(env!("CARGO_BIN_EXE_hold_servers"))
        .arg("once")
        .env("DATABASE_URL", postgres.url())
        .env("REDIS_URL", redis.url())
        .start();
    assert!(run.wait(LIMIT).await.success(), "{:?}", run.lines());

    let made = run.stdout();
    assert_eq!(made.len(), 3, "a database and two keys: {made:?}");
    let name = made[0].strip_prefix("database ").unwrap().to_owned();
    assert!(!before.contains(&name));
    assert_eq!(databases(&postgres.url()).await, before);
    let keys = ask(&redis.url(), "KEYS *").await.unwrap();
    assert_eq!(keys, "*1\r\n$23\r\nmaxscale_test_somebodys");
    assert!(run.stderr().join(" ").contains("PostgreSQL from url"));
}
