use std::time::Duration;

use maxscale_tests::{PostgresServer, eventually};
use sqlx::{Connection, PgConnection};

pub(crate) async fn ask<T>(url: &str, sql: &'static str) -> Result<T, sqlx::Error>
where
    T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
{
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query_scalar(sql).fetch_one(&mut connection).await
}

pub(crate) async fn run(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn the_shared_server_says_its_version() {
    let server = PostgresServer::shared().await;

    let version: String = ask(&server.url(), "SELECT version()").await.unwrap();

    assert!(version.starts_with("PostgreSQL "), "{version}");
}

#[tokio::test]
async fn two_databases_do_not_see_each_other() {
    let server = PostgresServer::shared().await;
    let (one, two) = (server.database().await, server.database().await);

    run(&one.url(), "CREATE TABLE t (id int4)").await;

    let seen = "SELECT count(*) FROM pg_tables WHERE tablename = 't'";
    assert_eq!(ask::<i64>(&one.url(), seen).await.unwrap(), 1);
    assert_eq!(ask::<i64>(&two.url(), seen).await.unwrap(), 0);
}

#[tokio::test]
async fn a_dropped_database_goes_even_with_a_client_in_it() {
    let server = PostgresServer::shared().await;
    let database = server.database().await;
    let url = database.url();
    let _client = PgConnection::connect(&url).await.unwrap();

    drop(database);

    eventually(Duration::from_secs(60), async || {
        PgConnection::connect(&url).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_restarts_on_its_port_with_what_it_acknowledged() {
    let server = PostgresServer::start().await;
    let database = server.database().await;
    run(&database.url(), "CREATE TABLE t AS SELECT 42 AS id").await;

    server.kill().await;
    assert!(PgConnection::connect(&database.url()).await.is_err());
    server.restart().await;

    let id: i32 = ask(&database.url(), "SELECT id FROM t").await.unwrap();
    assert_eq!(id, 42);
}

#[tokio::test]
async fn a_kill_ends_a_connections_process_that_is_busy() {
    let server = PostgresServer::start().await;
    let url = server.url();
    // One that waits for its client would notice the end by itself.
    tokio::spawn(async move {
        ask::<i64>(&url, "SELECT count(*) FROM generate_series(1, 1000000000)").await
    });
    let backend: i32 = eventually(Duration::from_secs(60), async || {
        ask(
            &server.url(),
            "SELECT pid FROM pg_stat_activity \
             WHERE state = 'active' AND query LIKE 'SELECT count%'",
        )
        .await
    })
    .await;

    server.kill().await;

    assert!(!super::left_behind::runs(&backend.to_string()));
    assert_eq!(server.pid(), None);
}

#[tokio::test]
async fn a_paused_server_answers_nothing_until_it_is_resumed() {
    let server = PostgresServer::start().await;
    let url = server.url();
    let mut client = PgConnection::connect(&url).await.unwrap();
    let limit = Duration::from_millis(300);

    server.pause();
    let asked = async { client.ping().await };
    assert!(tokio::time::timeout(limit, asked).await.is_err());
    let asked = ask::<i32>(&url, "SELECT 1");
    assert!(tokio::time::timeout(limit, asked).await.is_err());
    server.resume();

    assert_eq!(ask::<i32>(&url, "SELECT 1").await.unwrap(), 1);
}

#[tokio::test]
#[should_panic(expected = "other tests use this server")]
async fn the_shared_server_cannot_be_stopped() {
    PostgresServer::shared().await.stop().await;
}
