//! Servers that take no writes, as during a failover.

use maxscale_shard::{Database, DatabaseOptions, Engine, sql};
use maxscale_tests::{PostgresServer, eventually};

use crate::support::{LIMIT, Nodes, note, open, options};

#[tokio::test]
async fn write_to_a_standby_is_unreachable_until_it_is_promoted() {
    let primary = PostgresServer::start().await;
    let database = primary.database().await;
    let first = Database::open("primary", &database.url(), &options()).unwrap();
    let table = "CREATE TABLE note (n bigint, part bigint)";
    first.execute(sql(table)).await.unwrap();
    let standby = primary.replica().await;
    let url = standby.url_of(&database);
    let database = Database::open("standby", &url, &options()).unwrap();

    let refused = database.execute(note(1, 1)).await.unwrap_err();
    assert!(refused.is_unreachable(), "{refused:?}");
    let read = database.fetch_all(sql("SELECT n FROM note")).await;
    assert!(read.unwrap().is_empty());

    standby.promote().await;
    database.execute(note(1, 1)).await.unwrap();
}

/// The address leads to another server by now, and a new connection goes there.
#[tokio::test]
async fn connection_that_takes_no_writes_is_not_used_again() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let mut one = DatabaseOptions::default();
    one.connections = 1;
    let database = Database::open("standby", &nodes.urls[0], &one).unwrap();
    let process = async || {
        let asked = sql("SELECT pg_backend_pid()::bigint AS pid");
        let row = database.fetch_optional(asked).await.unwrap().unwrap();
        row.get::<i64>("pid").unwrap()
    };
    let before = process().await;
    let mut conn = database.writer().await.unwrap();
    let standby = sql("SET default_transaction_read_only = on");
    conn.execute(standby).await.unwrap();
    let write = sql("CREATE TABLE note (n bigint)");
    assert!(conn.execute(write).await.unwrap_err().is_unreachable());
    drop(conn);

    assert_ne!(process().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_is_a_standby_at_the_start_is_ready_once_it_takes_writes() {
    let nodes = Nodes::fresh(Engine::Postgres, 2).await;
    open(nodes.config()).await.close().await;
    let second = Database::open("second", &nodes.urls[1], &options()).unwrap();
    // What is set counts for connections made later, so not for this one.
    let mut conn = second.writer().await.unwrap();
    let [on, off] = [
        "DO $$ BEGIN EXECUTE format(
         'ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format(
         'ALTER DATABASE %I SET default_transaction_read_only = off', current_database()); END $$",
    ];
    conn.execute(sql(on)).await.unwrap();

    let fleet = open(nodes.config()).await;
    let node = &fleet.router().nodes()[1];
    assert!(!node.is_ready());

    conn.execute(sql(off)).await.unwrap();
    eventually(LIMIT, async || node.is_ready()).await;
}
