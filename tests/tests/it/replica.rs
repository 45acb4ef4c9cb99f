use std::time::Duration;

use maxscale_tests::{PostgresServer, eventually};

use crate::postgres::{ask, run};

const LIMIT: Duration = Duration::from_secs(60);

/// A primary with one table of one row, and a replica that has it.
async fn pair() -> (PostgresServer, PostgresServer) {
    let primary = PostgresServer::start().await;
    run(&primary.url(), "CREATE TABLE t AS SELECT 1 AS id").await;
    let replica = primary.replica().await;
    caught_up(&primary, &replica).await;
    (primary, replica)
}

async fn caught_up(primary: &PostgresServer, replica: &PostgresServer) {
    let position = primary.wal_position().await;
    replica.wait_for_replay(position, LIMIT).await;
}

/// Waits until the replica has all its primary wrote, replayed or not.
async fn received(primary: &PostgresServer, replica: &PostgresServer) {
    let position = primary.wal_position().await;
    let received = "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::int8";
    eventually(LIMIT, async || {
        let received: i64 = ask(&replica.url(), received).await.unwrap();
        received.unsigned_abs() >= position
    })
    .await;
}

async fn rows(server: &PostgresServer) -> i64 {
    ask(&server.url(), "SELECT count(*) FROM t").await.unwrap()
}

#[tokio::test]
async fn replicas_follow_and_accept_no_writes() {
    let (primary, one) = pair().await;
    let two = primary.replica().await;
    let database = primary.database().await;

    run(&database.url(), "CREATE TABLE u AS SELECT 42 AS id").await;

    for replica in [&one, &two] {
        caught_up(&primary, replica).await;
        let there = replica.url_of(&database);
        assert_eq!(ask::<i32>(&there, "SELECT id FROM u").await.unwrap(), 42);
        let refused = ask::<i32>(&there, "INSERT INTO u VALUES (1) RETURNING id").await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("read-only"), "{said}");
        assert!(replica.is_replica().await);
    }
    assert!(!primary.is_replica().await);
}

#[tokio::test]
async fn a_replica_that_was_down_catches_up() {
    let (primary, replica) = pair().await;

    replica.kill().await;
    run(&primary.url(), "INSERT INTO t VALUES (2)").await;
    // The log goes on in another file, and the old one is not needed here.
    run(&primary.url(), "SELECT pg_switch_wal()").await;
    run(&primary.url(), "CHECKPOINT").await;
    replica.restart().await;

    caught_up(&primary, &replica).await;
    assert_eq!(rows(&replica).await, 2);
}

#[tokio::test]
async fn a_replica_finds_its_primary_again() {
    let (primary, replica) = pair().await;

    primary.kill().await;
    assert_eq!(rows(&replica).await, 1);
    primary.restart().await;
    run(&primary.url(), "INSERT INTO t VALUES (2)").await;

    caught_up(&primary, &replica).await;
    assert_eq!(rows(&replica).await, 2);
}

#[tokio::test]
async fn a_delayed_replica_lags_until_the_delay_is_taken_back() {
    let (primary, replica) = pair().await;
    replica.delay_replay(Duration::from_secs(3600)).await;

    run(&primary.url(), "INSERT INTO t VALUES (2)").await;
    received(&primary, &replica).await;
    assert_eq!(rows(&replica).await, 1);
    replica.delay_replay(Duration::ZERO).await;

    caught_up(&primary, &replica).await;
    assert_eq!(rows(&replica).await, 2);
}

#[tokio::test]
async fn a_replica_whose_replay_is_paused_stays_where_it_is() {
    let (primary, replica) = pair().await;
    replica.pause_replay().await;

    run(&primary.url(), "INSERT INTO t VALUES (2)").await;
    received(&primary, &replica).await;
    assert_eq!(rows(&replica).await, 1);
    replica.resume_replay().await;

    caught_up(&primary, &replica).await;
    assert_eq!(rows(&replica).await, 2);
}

#[tokio::test]
#[should_panic(expected = "bytes behind")]
async fn a_position_that_is_not_reached_fails_the_test() {
    let server = PostgresServer::shared().await;

    let limit = Duration::from_millis(200);
    server.wait_for_replay(u64::MAX, limit).await;
}

#[tokio::test]
async fn a_promoted_replica_has_all_it_replayed_and_accepts_writes() {
    let (primary, replica) = pair().await;
    primary.kill().await;

    replica.promote().await;

    assert!(!replica.is_replica().await);
    run(&replica.url(), "INSERT INTO t VALUES (2)").await;
    assert_eq!(rows(&replica).await, 2);
}

#[tokio::test]
#[should_panic(expected = "other tests use this server")]
async fn the_shared_server_gets_no_replica() {
    PostgresServer::shared().await.replica().await;
}
